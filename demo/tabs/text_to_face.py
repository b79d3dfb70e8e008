"""Describe a face in words, and take one of the faces that fit.

The handlers take and return faces, sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import gradio as gr

from demo.components import (
    after,
    friendly,
    help_with,
    message,
    most_words,
    name_of,
    progress,
    recipe,
    say_limit,
    thumbnails,
    toast,
    warning,
)
from demo.desk import Desk
from demo.frames import Frame, watched
from demo.job import Updates
from demo.stage import FACES, PRIVATE, Stage
from stylegan_hub.latents import Latents
from stylegan_hub.session import Session
from stylegan_hub.studio import Face, Studio
from stylegan_hub.text_to_face import CANDIDATES

HELP = "Describe a face, then click one of the results to continue with it."
EXAMPLES = (
    "a young woman with long red hair and glasses",
    "an old man with a beard and a hat",
    "a smiling person with purple hair",
    "a surprised face with an afro",
)
_NO_NETWORK = (
    "There is no bundled text-to-face network for this generator. These commands train one, write "
    "it into the folder of bundled networks, and open the page again:"
)
_NO_OTHER_NETWORK = (
    "There is no bundled text-to-face network for this generator. Such a network is trained with "
    "captions of the same kind of pictures; for photographs of faces, use Multi-Modal CelebA-HQ:"
)
_MAX_CANDIDATES = 16


@dataclass(frozen=True, kw_only=True)
class Drawn(Frame):
    """A `Frame` with the faces so far."""

    faces: tuple[Face, ...]


def draw_faces(
    studio: Studio,
    text: str,
    first_seed: int = 0,
    truncation_psi: float = 0.7,
    candidates: int = CANDIDATES,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Yield faces that fit the text, one after the other.

    Raises:
        ValueError: invalid texts or numbers.
    """
    started = time.monotonic()
    seeds = range(first_seed, first_seed + FACES)
    faces: list[Face] = []
    first = 0.0

    def show(face: Face) -> Frame:
        nonlocal first
        faces.append(face)
        first = first or time.monotonic()
        status = progress(len(faces), len(seeds), time.monotonic() - first)
        return Drawn(status, faces=(*faces,))

    found = yield from watched(
        studio.search_faces(text, seeds, truncation_psi, int(candidates), owner),
        show,
        lambda: Drawn(message(f"Stopped after {len(faces)} faces."), faces=(*faces,)),
    )
    if found is None:
        return
    text = f"{len(faces)} faces for “{text.strip()}”{after(started)}; click one to take it."
    yield Drawn(message(text), faces=(*faces,))


def taken(session: Session, latents: Latents, text: str) -> Session:
    """The session with a face that was found for a text; the edits of the earlier face are gone."""
    return replace(session.without_edits(), latents=latents, text=text)


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them, or say what to do if there is no network."""
    name = name_of(studio)
    if not studio.has_text_to_face and name != "portraits":
        gr.HTML(
            recipe(
                _NO_OTHER_NETWORK,
                "accelerate launch recipes/train_text_to_face.py --data data/MM-CelebA-HQ \\",
                f"    --pipeline {name} --reconstruction_lambda 0 --output_dir cards/text-to-face",
                f"python app.py --pipeline {name}",
            )
        )
        return
    if not studio.has_text_to_face:
        gr.HTML(
            recipe(
                _NO_NETWORK,
                "python recipes/render_portraits.py --output_dir runs/portraits",
                "accelerate launch recipes/train_captioner.py --cache runs/portraits \\",
                "    --output_dir runs/captioner",
                "accelerate launch recipes/train_text_to_face.py --cache runs/portraits \\",
                "    --captioner runs/captioner/captioner --output_dir cards/text-to-face",
                "python app.py",
            )
        )
        return
    help_with(HELP)
    with gr.Row(elem_classes="ask"):
        words = gr.Textbox(
            "", label="The face should be", placeholder=EXAMPLES[0], scale=4, min_width=180
        )
        start = gr.Button("Make faces", variant="primary", scale=0, min_width=120)
    say_limit(words, most_words(studio))
    examples = gr.Dataset(
        components=[words],
        samples=[[example] for example in EXAMPLES],
        label="Examples",
        show_label=False,
        elem_classes="chips",
    )
    gallery = thumbnails("Faces that fit", "fitting", 4, visible=False)
    with gr.Accordion("Settings of these faces", open=False):
        truncation = gr.Slider(
            0,
            1,
            0.7,
            step=0.05,
            label="Variety",
            info="1: the full variety; 0: the average face.",
            buttons=[],
        )
        candidates = gr.Slider(
            1,
            _MAX_CANDIDATES,
            CANDIDATES,
            step=1,
            label="Candidates for each",
            info="The one that fits best is kept.",
            buttons=[],
        )

    def show(desk: Desk) -> Updates:
        """Show the faces so far, and on the button what it will do next."""
        faces: tuple[Face, ...] = desk.things.get("fitting", ())
        pictures = [desk.picture(picture) for picture, _ in faces]
        return {
            gallery: gr.Gallery(pictures, visible=bool(faces), selected_index=None),
            start: gr.Button("Make other faces" if faces else "Make faces"),
        }

    def run(
        desk: Desk, words: str, truncation: float, candidates: int, request: gr.Request
    ) -> Iterator[Updates]:
        asked = (words.strip(), truncation, candidates)
        # Asked the same again, it makes other faces.
        seeds = desk.things.get("next_seed", 0) if desk.things.get("fits") == asked else 0
        with friendly():
            if text := warning(studio, words):
                gr.Warning(toast(text))
            for frame in draw_faces(studio, words, seeds, truncation, candidates, desk.owner):
                if isinstance(frame, Drawn):
                    desk.things |= {
                        "fits": asked, "fitting": frame.faces, "next_seed": seeds + FACES
                    }  # fmt: skip
                yield stage.show_frame(desk, frame) | show(desk)

    def take(desk: Desk, event: gr.SelectData) -> str:
        studio.stop(desk.owner)
        with friendly():
            if event.index >= len(faces := desk.things.get("fitting", ())):
                raise ValueError("Got a face that is no longer here; make faces again.")
        (_, latents), (text, _, _) = faces[event.index], desk.things["fits"]
        desk.change(lambda session: taken(session, latents, text))
        return message(f"This is the face for “{text}”. Undo returns to the previous one.")

    gr.on(
        [words.change, truncation.input, candidates.input],
        lambda: gr.Button("Make faces"),
        None,
        start,
        queue=False,
        **PRIVATE,
    )
    examples.click(lambda sample: sample[0], examples, words, **PRIVATE)
    stage.add_search(
        start,
        [start.click, words.submit],
        run,
        {"words": words, "truncation": truncation, "candidates": candidates},
        api_name="text_to_face",
        outputs=[gallery, start],
    )
    stage.restore(show, [gallery, start])
    stage.then_show(gallery.select(take, stage.desk, stage.status, **PRIVATE))
