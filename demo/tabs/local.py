"""Change one part of the face, by words if wanted, and see which part that is.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from html import escape

import gradio as gr
from PIL import Image

from demo.components import MAX_LETTERS, friendly, message, plain, recipe, shown, warning
from demo.finding import Wanted, label_of_found, show_found, space_for
from demo.stage import DRAWING, Desk, Frame, Stage
from stylegan_hub.methods.local import WITHOUT_WORDS, Settings
from stylegan_hub.methods.method import Nothing, Words
from stylegan_hub.session import Session
from stylegan_hub.steps import Step
from stylegan_hub.studio import Studio

METHODS = ("local",)
"""Those that this tab asks."""
SPACES = {
    "Whole layers (w+)": "w_plus",
    "All layers alike (w)": "w",
    "Single channels (s)": "s",
}
_NO_PARSER = (
    "This pipeline has no parser, the network that knows which part of a face is where, and local "
    "edits need one. Train one, put it into a pipeline and open that:"
)
_NO_OTHER_PARSER = (
    "This pipeline has no parser, the network that knows which part of a picture is where, and "
    "local edits need one. Photographs of faces have a published one; other pictures need one "
    "of their own. Put it into a pipeline and open that:"
)
_PICTURE_SIZE = 256


def part_shown(
    studio: Studio,
    session: Session,
    words: str,
    names: Sequence[str] = (),
    background: bool = False,
    neutral: str | None = None,
) -> str:
    """HTML of the face with the region marked, or of why there is none; nothing without input."""
    if not words.strip() and not names:
        return ""
    try:
        region = studio.region(words, names, neutral)
    except ValueError as error:
        return message(str(error))
    picture = studio.mark(session, region, background)
    factor = max(1, _PICTURE_SIZE / max(picture.size))
    size = round(picture.width * factor), round(picture.height * factor)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    what = f"{'all but ' * background}{region.name}"
    return (
        f'<figure class="part">{shown(picture, f"The face; marked: {what}")}'
        f'<figcaption role="status">{plain(what)}: {plain(region.reason)}</figcaption></figure>'
    )


def change_part(
    studio: Studio,
    session: Session,
    words: str,
    names: Sequence[str] = (),
    whom: str = "everybody",
    steps: int = Settings.steps,
    localization: float = Settings.localization_lambda,
    layers: Sequence[int] | None = None,
    space: str = "w_plus",
    background: bool = False,
    neutral: str | None = None,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Search an edit of one region, with pictures on the way.

    Args:
        words: empty to change the region anyhow.
        names: of regions that are changed together; the one that the words speak of when empty.
        whom: "face" for the session's face as edited, "everybody" for random people.
        localization: weight of the localization score, where there are words.
        layers: that may move; all when None.
        background: change all but the region.

    Raises:
        ValueError: no region, or texts or settings that cannot be searched for; too many edits.
    """
    words, this_face = words.strip(), whom == "face"
    region = studio.region(words, names, neutral)
    label = label_of_found("local", words or None, region=region.name, background=background)
    settings = replace(
        Settings(localization_lambda=localization) if words else WITHOUT_WORDS,
        steps=int(steps),
        space=space_for(session, space, not this_face),
        layers=None if layers is None else tuple(layers),
        background=background,
    )
    face, _ = studio.draw(session.without_edits())

    def before(step: Step) -> Image.Image:
        if this_face:
            return face
        seed = settings.first_seed + (step.index - 1) * settings.batch_size
        return studio.faces([seed], settings.truncation_psi, label=session.label)[0]

    where = region.name if names else None  # else the method reads it from the words, and says so
    yield from show_found(
        studio,
        session,
        Wanted(
            Words(words, neutral) if words else Nothing(),
            "local",
            not this_face,
            settings,
            label,
            where,
        ),
        lambda _, seconds: f"Found “{label}”{seconds}; slide it.",
        before,
        owner,
    )


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring, or what to do where there is no parser."""
    if not studio.regions:
        name = studio.pipe.name or "portraits"
        folder, why, training = name, _NO_OTHER_PARSER, []
        parser = f'79999_iter.pth --neutral "{studio.pipe.neutral}"'
        if name == "portraits":
            folder, why, parser = "cards/portraits", _NO_PARSER, "runs/parser/parser"
            training = ["accelerate launch recipes/train_parser.py --output_dir runs/parser"]
        gr.HTML(
            recipe(
                why,
                *training,
                f"python recipes/assemble_pipeline.py --generator {folder}/generator \\",
                f"    --clip {folder} --parser {parser} --output runs/with-parser",
                "python app.py --pipeline runs/with-parser",
            )
        )
        return
    num_ws = studio.pipe.generator.num_ws
    # Values are given, since those of a tab that nobody looked at are else None.
    words = gr.Textbox(
        "",
        label="The part should look like",
        placeholder="a face with curly hair",
        info="Without words, the part is changed anyhow.",
        max_length=MAX_LETTERS,
    )
    names = gr.CheckboxGroup(
        studio.regions,
        value=[],
        label="Which part",
        info="None ticked: the one that the words speak of.",
        elem_id="parts",
    )
    part = gr.HTML(min_height=0)
    whom = gr.Radio(
        [(f"Every {studio.noun}", "everybody"), (f"This {studio.noun}", "face")],
        value="everybody",
        label="It should suit",
    )
    start = gr.Button("Change this part", variant="primary")
    with gr.Accordion("Settings of a local search", open=False):
        steps = gr.Slider(10, 200, Settings.steps, step=10, label="Steps", buttons=[])
        localization = gr.Slider(
            0,
            0.5,
            Settings.localization_lambda,
            step=0.01,
            label="Localization",
            info="How much it counts that the change lies in the part, beside the words.",
            buttons=[],
        )
        layers = gr.CheckboxGroup(
            [(str(index), index) for index in range(num_ws)],
            value=list(range(num_ws)),
            label="Layers that may move",
            info="Shapes come first, colors last.",
            elem_id="layers",
        )
        space = gr.Radio(list(SPACES.items()), value="w_plus", label="What moves")
        background = gr.Checkbox(label="Change all but the part")
        neutral = gr.Textbox(studio.pipe.neutral, label="It shows now", max_length=MAX_LETTERS)

    def run(
        desk: Desk,
        words: str,
        names: list[str],
        whom: str,
        steps: int,
        localization: float,
        layers: list[int],
        space: str,
        background: bool,
        neutral: str,
        request: gr.Request,
    ) -> Iterator[tuple[object, ...]]:
        owner, session = request.session_hash, desk.session
        with friendly():
            if text := warning(studio, words):
                gr.Warning(escape(text))
            marked = part_shown(studio, session, words, names, background, neutral)
            yield gr.skip(), gr.skip(), marked
            for frame in change_part(
                studio,
                session,
                words,
                names,
                whom,
                steps,
                localization,
                layers,
                space,
                background,
                neutral,
                owner,
            ):
                yield *stage.show_frame(desk, frame), marked

    def show_part(desk: Desk, words: str, names: list[str], background: bool, neutral: str) -> str:
        with friendly():
            return part_shown(studio, desk.session, words, names, background, neutral)

    where = [stage.desk, words, names, background, neutral]
    gr.on(
        [words.blur, names.input, background.input],
        show_part,
        where,
        part,
        trigger_mode="always_last",
        api_name="part",
        **DRAWING,
    )
    stage.follow(show_part, where, [part])
    stage.add_search(
        start,
        [start.click, words.submit],
        run,
        {
            "words": words,
            "names": names,
            "whom": whom,
            "steps": steps,
            "localization": localization,
            "layers": layers,
            "space": space,
            "background": background,
            "neutral": neutral,
        },
        api_name="local",
        outputs=[part],
    )
