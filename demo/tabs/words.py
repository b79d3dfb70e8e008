"""Choose a face, say what should change, slide the change.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

import io
import random
import tempfile
import time
import zipfile
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
from PIL import Image

from demo.components import for_screen, friendly, heading, message, png, progress, to_save
from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.latent_optimization import Cancelled, Settings
from stylegan_hub.session import Session, Studio

# What a chip says, and the words that it writes.
EXAMPLES = {
    "purple hair": "a face with purple hair",
    "a mohawk": "a face with a mohawk",
    "glasses": "a person with glasses",
    "smiling": "a smiling face",
    "surprised": "a surprised face",
    "curly hair": "a face with curly hair",
    "a beard": "a person with a beard",
    "a hat": "a person wearing a hat",
    "Milo": "Milo",
}
FACES = 8
FIRST = Session(seed=0)
WELCOME = "Pick a face and say what should change."
SPACES = {"Whole layers (w+)": "w_plus", "Single channels (s)": "s"}
_MAX_LETTERS = 300
_MAX_RANDOM_SEED = 99_999
_SECONDS_BETWEEN_PICTURES = 0.4

Pair = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class Frame:
    """What the page shows at one moment of a search.

    Attributes:
        session: the user's; it has the new edit only in the last frame.
        pictures: before and after.
        status: HTML.
    """

    session: Session
    pictures: Pair
    status: str


def random_seeds(count: int = FACES) -> list[int]:
    """Different seeds for faces to choose from."""
    return random.sample(range(_MAX_RANDOM_SEED + 1), count)


def choose(session: Session, seed: float | None) -> Session:
    """Another face; the edit stays on it.

    Raises:
        ValueError: a seed that is no whole number.
    """
    if seed is None or seed != int(seed):
        raise ValueError(f"Got seed {seed}; a face has a whole number from 0, such as 7.")
    return session.with_seed(int(seed))


def change(
    studio: Studio,
    session: Session,
    words: str,
    steps: int = Settings.steps,
    space: str = "w_plus",
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Search the edit for the words, with pictures on the way; it replaces the edit before.

    Raises:
        ValueError: words or settings that cannot be searched for.
    """
    started = shown = time.monotonic()
    plain = session.without_edits()
    with studio.search(plain, words, Settings(steps=int(steps)), space, owner) as search:
        before, _ = studio.draw(plain)
        for step in search:
            if step.index == 1 or time.monotonic() - shown > _SECONDS_BETWEEN_PICTURES:
                shown = time.monotonic()
                (now,) = image_files.to_pil(step.image)
                status = progress(step.index, step.total, f"Step {step.index} of {step.total}")
                yield Frame(session, (before, now), status)
        try:
            edited = plain.with_edit(search.result())
        except Cancelled:
            yield Frame(session, studio.draw(session), message("Stopped; nothing was changed."))
            return
    seconds = time.monotonic() - started
    status = message(f"Found “{words.strip()}” in {seconds:.0f} s. Slide it, also below 0.")
    yield Frame(edited, studio.draw(edited), status)


def warning(studio: Studio, words: str) -> str | None:
    """What to tell about words that CLIP may misread."""
    if not (unfamiliar := studio.unfamiliar(words)):
        return None
    return (
        f"This CLIP was not taught {', '.join(repr(word) for word in unfamiliar)}; "
        "expect little or something else."
    )


def archive(edit: Edit, name: str) -> bytes:
    """The edit's folder as the bytes of a zip file, for `load_edit` after unpacking."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(buffer, "w") as bundle:
        folder = edit.save_pretrained(Path(scratch) / "edit")
        for file in sorted(folder.iterdir()):
            bundle.write(file, f"{name}/{file.name}")
    return buffer.getvalue()


def build(studio: Studio, page: gr.Blocks) -> None:
    """The widgets and their wiring."""
    session = gr.State(FIRST)
    seeds = gr.State([])  # of the faces in the gallery

    with gr.Row(equal_height=False):
        with gr.Column(scale=5, min_width=320):
            heading("1 · Choose a face")
            faces = gr.Gallery(
                label="Faces to choose from",
                show_label=False,
                elem_id="faces",
                columns=4,
                height="auto",
                object_fit="cover",
                allow_preview=False,
                buttons=[],
                interactive=False,
            )
            with gr.Row(elem_id="who"):
                seed = gr.Number(FIRST.seed, label="Seed", precision=0, minimum=0, min_width=80)
                roll = gr.Button("Random face", size="md", min_width=80)
                more = gr.Button("Other faces", size="md", min_width=80)

            heading("2 · Say what should change")
            words = gr.Textbox(
                label="The picture shall show",
                placeholder="a face with purple hair",
                max_length=_MAX_LETTERS,
                elem_id="words",
            )
            examples = gr.Dataset(
                components=[words],
                samples=[[example] for example in EXAMPLES.values()],
                sample_labels=list(EXAMPLES),
                label="Examples",
                show_label=False,
                elem_id="examples",
            )
            start = gr.Button("Edit", variant="primary", elem_id="edit")
            with gr.Accordion("Settings of the search", open=False):
                steps = gr.Slider(10, 300, Settings.steps, step=10, label="Steps")
                space = gr.Radio(
                    list(SPACES.items()), value="w_plus", label="What the search may move"
                )

        with gr.Column(scale=5, min_width=320, elem_id="result"):
            heading("3 · Slide the change")
            pictures = gr.ImageSlider(
                label="Before and after",
                show_label=False,
                elem_id="pictures",
                buttons=["fullscreen"],
                interactive=False,
                max_height=560,
            )
            with gr.Row(elem_id="progress"):
                status = gr.HTML(message(WELCOME))
                stop = gr.Button("Stop", size="sm", scale=0, min_width=80, visible=False)
            strength = gr.Slider(
                -2,
                2,
                1,
                step=0.05,
                label="Strength",
                interactive=False,
                buttons=[],
                elem_id="strength",
            )
            with gr.Row(elem_id="actions"):
                save_picture = gr.DownloadButton("Save picture", size="md", min_width=80)
                save_edit = gr.DownloadButton(
                    "Save edit", size="md", min_width=80, interactive=False
                )
                keep = gr.Button("Keep", size="md", min_width=60, interactive=False)
                reset = gr.Button("Start over", size="md", min_width=80)

    def on_screen(pair: Pair) -> Pair:
        return for_screen(pair[0]), for_screen(pair[1])

    def picture_file(session: Session, pair: Pair) -> str:
        return to_save(save_picture, png(pair[1]), f"{session.title}.png")

    def show(session: Session) -> dict[gr.components.Component, object]:
        with friendly():
            pair = studio.draw(session)
        edited = bool(session.edits)
        shown: dict[gr.components.Component, object] = {
            pictures: on_screen(pair),
            save_picture: picture_file(session, pair),
            save_edit: gr.DownloadButton(interactive=edited),
            strength: gr.Slider(interactive=edited),
            start: gr.Button(interactive=True),
            stop: gr.Button(visible=False),
            keep: gr.Button(interactive=edited),
        }
        if edited:
            edit, value = session.edits[-1]
            name = session.with_seed(0).title.removeprefix("face-0-")
            file = to_save(save_edit, archive(edit, name), f"{name}.zip")
            shown[save_edit] = gr.DownloadButton(value=file, interactive=True)
            shown[strength] = gr.Slider(
                edit.strength.min, edit.strength.max, value, interactive=True
            )
        return shown

    def draw_faces(seeds: Sequence[int]) -> list[Image.Image]:
        return studio.faces(seeds)

    def busy() -> dict[gr.components.Component, object]:
        return {
            start: gr.Button(interactive=False),
            stop: gr.Button(visible=True),
            strength: gr.Slider(interactive=False),
            keep: gr.Button(interactive=False),
            status: message("Waiting for a turn …"),
        }

    def run(
        session: Session, words: str, steps: int, space: str, request: gr.Request
    ) -> Iterator[tuple[Session, Pair, str]]:
        with friendly():
            if text := warning(studio, words):
                gr.Warning(text)
            for frame in change(studio, session, words, steps, space, request.session_hash):
                yield frame.session, on_screen(frame.pictures), frame.status

    def pick(
        session: Session, seeds: list[int], event: gr.SelectData, request: gr.Request
    ) -> tuple[Session, int]:
        studio.stop(request.session_hash)
        return session.with_seed(seeds[event.index]), seeds[event.index]

    def set_seed(session: Session, seed: float | None, request: gr.Request) -> Session:
        studio.stop(request.session_hash)
        with friendly():
            return choose(session, seed)

    def set_strength(session: Session, value: float) -> tuple[Session, Pair, str]:
        with friendly():
            session = session.with_strength(value)
            pair = studio.draw(session)
        return session, on_screen(pair), picture_file(session, pair)

    def halt(request: gr.Request) -> None:
        studio.stop(request.session_hash)

    def keep_it(session: Session) -> tuple[Session, str]:
        return studio.keep(session), message("Kept. The next change starts from this face.")

    def start_over(request: gr.Request) -> tuple[Session, int, str, str]:
        studio.stop(request.session_hash)
        return FIRST, FIRST.seed, "", message(WELCOME)

    # Model calls take turns in the studio; a search must not hold up the sliders of others.
    drawing = {"concurrency_id": "draw", "concurrency_limit": 4, "show_progress": "hidden"}
    searching = {"concurrency_id": "search", "concurrency_limit": 2, "show_progress": "hidden"}
    everything = [pictures, save_picture, save_edit, strength, start, stop, keep]
    private = {"api_visibility": "private"}

    def then_show(event: gr.events.Dependency) -> None:
        event.then(show, session, everything, **drawing, **private)

    page.load(lambda: list(range(FACES)), None, seeds, **private).then(
        draw_faces, seeds, faces, **drawing, **private
    )
    then_show(page.load(lambda: None, **private))
    more.click(random_seeds, None, seeds, **private).then(
        draw_faces, seeds, faces, **drawing, **private
    )
    then_show(faces.select(pick, [session, seeds], [session, seed], **private))
    then_show(
        seed.input(set_seed, [session, seed], session, trigger_mode="always_last", api_name="face")
    )
    then_show(
        roll.click(lambda: random_seeds(1)[0], None, seed, **private).then(
            set_seed, [session, seed], session, **private
        )
    )
    examples.click(lambda sample: sample[0], examples, words, **private)
    searches = gr.on(
        [start.click, words.submit],
        busy,
        None,
        [start, stop, strength, keep, status],
        queue=False,
        js="() => { const result = document.querySelector('#result');"
        " if (result.getBoundingClientRect().top > innerHeight / 2)"
        " result.scrollIntoView({ behavior: 'smooth' }); }",
        **private,
    ).then(
        run,
        [session, words, steps, space],
        [session, pictures, status],
        api_name="edit",
        **searching,
    )
    searches.success(show, session, everything, **drawing, **private)
    then_show(searches.failure(lambda: message("Nothing was changed."), None, status, **private))
    stop.click(halt, queue=False, **private)
    strength.input(
        set_strength,
        [session, strength],
        [session, pictures, save_picture],
        trigger_mode="always_last",
        api_name="strength",
        **drawing,
    )
    then_show(keep.click(keep_it, session, [session, status], **private))
    then_show(reset.click(start_over, None, [session, seed, words, status], **private))
    page.unload(halt)
