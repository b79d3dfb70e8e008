"""Say who shall be drawn, and take one of the faces that fit.

The handlers take and return faces, sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from html import escape

import gradio as gr

from demo.components import (
    MAX_LETTERS,
    after,
    friendly,
    message,
    progress,
    recipe,
    thumbnails,
    warning,
)
from demo.stage import FACES, PRIVATE, Desk, Stage, watched
from stylegan_hub.studio import Face, Studio
from stylegan_hub.text_to_face import CANDIDATES

EXAMPLES = (
    "a young woman with long red hair and glasses",
    "an old man with a beard and a hat",
    "a smiling person with purple hair",
    "a surprised face with an afro",
)
_NO_NETWORK = (
    "No text-to-face network comes along for this generator. Train one into the folder of what "
    "comes along, and open the page again:"
)
_NO_OTHER_NETWORK = (
    "No text-to-face network comes along for this generator. Networks learn from captions of its "
    "kind of pictures; for photographs of faces there is Multi-Modal CelebA-HQ:"
)
_MAX_CANDIDATES = 16


@dataclass(frozen=True)
class Drawn:
    """What the tab shows at one moment.

    Attributes:
        status: HTML.
        faces: so far.
    """

    status: str
    faces: tuple[Face, ...]


def draw_faces(
    studio: Studio,
    text: str,
    first_seed: int = 0,
    truncation_psi: float = 0.7,
    candidates: int = CANDIDATES,
    owner: Hashable = None,
) -> Iterator[Drawn]:
    """Faces that fit the text, one after the other.

    Raises:
        ValueError: texts or numbers for which there are none.
    """
    started = time.monotonic()
    seeds = range(first_seed, first_seed + FACES)
    faces: list[Face] = []

    def show(face: Face) -> Drawn:
        faces.append(face)
        return Drawn(progress(len(faces), len(seeds), started), (*faces,))

    found = yield from watched(
        studio.search_faces(text, seeds, truncation_psi, int(candidates), owner),
        show,
        lambda: Drawn(message(f"Stopped after {len(faces)} faces."), (*faces,)),
    )
    if found is None:
        return
    text = f"{len(faces)} faces for “{text.strip()}”{after(started)}; click one to go on with it."
    yield Drawn(message(text), (*faces,))


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring, or what to do where there is no network."""
    name = studio.pipe.name or "portraits"
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
    words = gr.Textbox(
        label="Who shall be drawn", placeholder=EXAMPLES[0], max_length=MAX_LETTERS, lines=2
    )
    examples = gr.Dataset(
        components=[words],
        samples=[[example] for example in EXAMPLES],
        label="Examples",
        show_label=False,
        elem_classes="chips",
    )
    with gr.Row():
        truncation = gr.Slider(
            0,
            1,
            0.7,
            step=0.05,
            label="Truncation",
            info="1: all variety; 0: the average face.",
            buttons=[],
        )
        candidates = gr.Slider(
            1,
            _MAX_CANDIDATES,
            CANDIDATES,
            step=1,
            label="Candidates for each",
            info="CLIP keeps the best of them.",
            buttons=[],
        )
    start = gr.Button("Draw faces", variant="primary")
    gallery = thumbnails("Faces that fit", "fitting", 4, visible=False)
    faces = gr.State(())
    next_seed = gr.State(0)

    def run(
        desk: Desk,
        words: str,
        truncation: float,
        candidates: int,
        next_seed: int,
        request: gr.Request,
    ) -> Iterator[tuple[object, ...]]:
        with friendly():
            if text := warning(studio, words):
                gr.Warning(escape(text))
            for drawn in draw_faces(
                studio, words, next_seed, truncation, candidates, request.session_hash
            ):
                pictures = [picture for picture, _ in drawn.faces]
                yield (
                    gr.skip(),
                    drawn.status,
                    gr.Gallery(pictures, visible=True, selected_index=None),
                    drawn.faces,
                    next_seed + FACES,
                    gr.Button("Draw others"),
                )

    def take(desk: Desk, faces: tuple[Face, ...], event: gr.SelectData, request: gr.Request) -> str:
        studio.stop(request.session_hash)
        _, latents = faces[event.index]
        desk.change(lambda session: session.with_latents(latents))
        return message("Here is the face; edits stay on it.")

    gr.on(
        [words.change, truncation.input, candidates.input],
        lambda: (0, gr.Button("Draw faces")),
        None,
        [next_seed, start],
        queue=False,
        **PRIVATE,
    )
    examples.click(lambda sample: sample[0], examples, words, **PRIVATE)
    stage.add_search(
        start,
        [start.click, words.submit],
        run,
        [words, truncation, candidates, next_seed],
        api_name="text_to_face",
        outputs=[gallery, faces, next_seed, start],
    )
    stage.then_show(gallery.select(take, [stage.desk, faces], stage.status, **PRIVATE))
