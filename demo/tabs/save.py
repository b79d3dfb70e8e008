"""Files to save: the picture with its recipe, a strip, a film, a grid.

The handlers take and return sessions, pictures and bytes; only `build` knows widgets.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

import gradio as gr
from PIL import Image

from demo.components import attribute, for_screen, friendly, message
from demo.desk import Desk
from demo.job import Updates
from demo.stage import FILMING, PRIVATE, Stage
from stylegan_hub import pictures
from stylegan_hub.methods.table import bundled_table
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

THINGS = {
    "The picture, with its recipe (PNG)": "picture",
    "Before and after (PNG)": "strip",
    "A film of the newest edit's strength": "sweep",
    "A film of all edits, one after the other": "walk",
}
GRID = {"A grid of strengths and numbers of channels (PNG)": "grid"}
FORMATS = ("MP4", "GIF")
_TYPES = {"PNG": "image/png", "GIF": "image/gif", "MP4": "video/mp4"}
_FRAMES, _FRAMES_OF_EACH = 32, 12


@dataclass(frozen=True)
class File:
    """A file to save.

    Attributes:
        name: of the file.
        format: "PNG", "GIF" or "MP4".
        data: its bytes.
        alt: a description of what it shows.
    """

    name: str
    format: str
    data: bytes
    alt: str


def made(
    studio: Studio,
    session: Session,
    what: str,
    format: str = "MP4",
    mark: bool = False,
    text: str = "",
) -> File:
    """Make a file from a session.

    Args:
        what: a value of `THINGS` or `GRID`.
        format: the format of a film, see `FORMATS`.
        mark: write into each picture that it is edited; the metadata says so in any case.
        text: the words of the grid.

    Raises:
        ValueError: no edits for a film, no words for a grid, or MP4 cannot be written here.
    """
    recipe = pictures.recipe_of(studio.pipe, session)
    stem, said = session.title, recipe.sentence

    def signed(picture: Image.Image) -> Image.Image:
        return pictures.marked(picture) if mark else picture

    if what in ("sweep", "walk"):
        shots = (
            pictures.sweep(session, frames=_FRAMES)
            if what == "sweep"
            else pictures.walk(session, _FRAMES_OF_EACH)
        )
        frames = [signed(for_screen(studio.rendering.picture(shot, moving=True))) for shot in shots]
        data = pictures.encode_film(frames, format, recipe)
        return File(f"{stem}-{what}.{format.lower()}", format, data, f"A film. {said}")
    if what == "grid":
        sheet = pictures.alpha_beta(studio.pipe, studio.face(session), text)
        return File(
            f"{stem}-grid.png", "PNG", pictures.encode(signed(sheet), recipe), f"A grid. {said}"
        )
    before, after = studio.draw(session)
    if what == "strip":
        strip = pictures.before_after(for_screen(before), for_screen(after))
        data = pictures.encode(signed(strip), recipe)
        return File(f"{stem}-before-after.png", "PNG", data, f"Before and after. {said}")
    data = pictures.encode(signed(after), recipe, "PNG", pictures.stack_bytes(session))
    return File(f"{stem}.png", "PNG", data, said)


def preview(file: File) -> str:
    """HTML that shows the file."""
    source = f"data:{_TYPES[file.format]};base64,{base64.b64encode(file.data).decode()}"
    alt = attribute(file.alt)
    if file.format == "MP4":
        how = "autoplay loop muted playsinline controls"
        return f'<video src="{source}" aria-label="{alt}" {how}></video>'
    return f'<img src="{source}" alt="{alt}">'


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them."""
    has_table = bundled_table(studio.pipe) is not None
    choices = THINGS | (GRID if has_table else {})
    gr.HTML(
        '<p class="note">The metadata of every file says that the picture is edited, and how. To '
        "continue with a PNG later, drop it on this page.</p>"
    )
    what = gr.Radio(list(choices.items()), value="picture", label="What to save", elem_id="take")
    format = gr.Radio(list(FORMATS), value="MP4", label="Format of the film", visible=False)
    text = gr.Textbox(
        "", label="Words for the grid", placeholder="a face with a beard", visible=False
    )
    mark = gr.Checkbox(label="Write “edited” into a corner too")
    start = gr.Button("Make the file", variant="primary", elem_id="make-file")
    said = gr.HTML(label="Description", min_height=0)
    shown = gr.HTML(label="Preview", min_height=0, elem_id="taken")
    file = gr.DownloadButton("Save the file", size="md", visible=False)

    def take(desk: Desk, what: str, format: str, mark: bool, text: str) -> Updates:
        with friendly():
            taken = made(studio, desk.session, what, format, mark, text)
        size = f"{max(1, len(taken.data) // 1024)} kB"
        return {
            said: message(f"{taken.name}, {size}. {taken.alt}"),
            shown: preview(taken),
            file: desk.file("taken", taken.name, taken.data),
        }

    def pick(what: str) -> Updates:
        return {
            format: gr.Radio(visible=what in ("sweep", "walk")),
            text: gr.Textbox(visible=what == "grid"),
        }

    what.change(pick, what, [format, text], queue=False, **PRIVATE)
    made_file = start.click(
        take,
        [stage.desk, what, format, mark, text],
        [said, shown, file],
        api_name="take_away",
        **(FILMING | {"show_progress": "full", "show_progress_on": shown}),
    )
    made_file.success(lambda: gr.DownloadButton(visible=True), None, file, queue=False, **PRIVATE)
