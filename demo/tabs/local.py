"""Change one part of the face, described in words or not, and see which part that is.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace

import gradio as gr
from PIL import Image

from demo.components import (
    explain,
    friendly,
    help_with,
    message,
    most_words,
    name_of,
    plain,
    recipe,
    say_limit,
    shown,
    toast,
    warning,
)
from demo.desk import Desk
from demo.finding import Wanted, label_of_found, show_found, space_for
from demo.frames import Frame
from demo.job import Updates
from demo.stage import DRAWING, PRIVATE, Stage
from stylegan_hub.methods.local import WITHOUT_WORDS, Settings
from stylegan_hub.methods.method import Nothing, Words
from stylegan_hub.session import Session
from stylegan_hub.steps import Step
from stylegan_hub.studio import Studio

METHODS = ("local",)
"""The methods that this tab calls."""
SPACES = {
    "Whole layers (w+)": "w_plus",
    "All layers alike (w)": "w",
    "Single channels (s)": "s",
}
_NO_PARSER = (
    "This pipeline has no parser, the network that locates the parts of a face, and local edits "
    "need one. Train one, put it into a pipeline and open that:"
)
_NO_OTHER_PARSER = (
    "This pipeline has no parser, the network that locates the parts of a picture, and local edits "
    "need one. There is a published parser for photographs of faces; other pictures need their "
    "own. Put it into a pipeline and open that:"
)
HELP = "Change one part of the face: click it in the picture, or tick its box."
CLICK = "Click the part that should change; click again to deselect it."
_PICTURE_SIZE = 256
# A click on the picture, in fractions of its width and height.
_ON_LOAD = """
element.addEventListener('click', event => {
  if (!event.target.matches('.part img')) return;
  const { left, top, width, height } = event.target.getBoundingClientRect();
  const across = (event.clientX - left) / width;
  trigger("apply", { across, down: (event.clientY - top) / height });
});
"""


def part_shown(
    studio: Studio,
    session: Session,
    words: str,
    names: Sequence[str] = (),
    background: bool = False,
    neutral: str | None = None,
) -> str:
    """HTML of the face with its region marked, of the plain face without any, or of an error."""
    if not words.strip() and not names:
        return _figure(studio.rendering.picture(session), "The face", CLICK)
    try:
        region = studio.region(words, names, neutral)
    except ValueError as error:
        return message(explain(error))
    what = f"{'all but ' * background}{region.name}"
    picture = studio.mark(session, region, background)
    return _figure(picture, f"The face; marked: {what}", f"{what}: {region.reason}")


def with_part(
    studio: Studio, session: Session, names: Sequence[str], across: float, down: float
) -> list[str]:
    """The chosen regions with the one at this position added, or removed if it was chosen.

    Args:
        across, down: position from the left and from the top, 0 to 1.

    Raises:
        ValueError: a position outside the picture.
    """
    clicked = studio.region_at(session, across, down)
    left = [name for name in names if name != clicked]
    return left if len(left) < len(names) else [*names, clicked]


def _figure(picture: Image.Image, alt: str, caption: str) -> str:
    factor = max(1, _PICTURE_SIZE / max(picture.size))
    size = round(picture.width * factor), round(picture.height * factor)
    picture = picture.resize(size, Image.Resampling.BICUBIC)
    return (
        f'<figure class="part">{shown(picture, alt)}'
        f'<figcaption role="status">{plain(caption)}</figcaption></figure>'
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
    """Search for an edit of one region, with pictures on the way.

    Args:
        words: what the part should look like; empty to change it in any way.
        names: of regions that are changed together; empty for the region that the words mention.
        whom: "face" for the session's face with its edits, "everybody" for every face.
        localization: weight of the localization score, if there are words.
        layers: the layers that may move; None for all.
        background: change everything except the region.

    Raises:
        ValueError: no region, invalid texts or settings, or too many edits.
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

    where = region.name if names else None  # without names, the method reads it from the words
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
        lambda _, seconds: f"Found “{label}”{seconds}; move its slider.",
        before,
        owner,
    )


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them, or say what to do if there is no parser."""
    if not studio.regions:
        name = name_of(studio)
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
    help_with(HELP)
    part = gr.HTML(label="The part that changes", min_height=0, js_on_load=_ON_LOAD, elem_id="part")
    # Initial values are given, since those of a tab that was never opened are None otherwise.
    with gr.Row(elem_classes="ask"):
        words = gr.Textbox(
            "",
            label="The part should look like",
            placeholder="a face with curly hair",
            scale=4,
            min_width=180,
        )
        start = gr.Button("Change this part", variant="primary", scale=0, min_width=120)
    names = gr.CheckboxGroup(
        studio.regions,
        value=[],
        label="Which part",
        info="If no box is ticked, it is the part that the words mention. Words are optional.",
        elem_id="parts",
        elem_classes="ticks",
    )
    whom = gr.Radio(
        [(f"Every {studio.noun}", "everybody"), (f"This {studio.noun}", "face")],
        value="everybody",
        label="The change should suit",
        elem_classes="ticks",
    )
    with gr.Accordion("Settings of the local search", open=False):
        steps = gr.Slider(10, 200, Settings.steps, step=10, label="Steps", buttons=[])
        localization = gr.Slider(
            0,
            0.5,
            Settings.localization_lambda,
            step=0.01,
            label="Stay in the part",
            info="How much that matters compared with the words.",
            buttons=[],
        )
        layers = gr.CheckboxGroup(
            [(str(index), index) for index in range(num_ws)],
            value=list(range(num_ws)),
            label="Layers that may move",
            info="The first layers change shapes, the last ones colors.",
            elem_id="layers",
        )
        space = gr.Radio(list(SPACES.items()), value="w_plus", label="What moves")
        background = gr.Checkbox(label="Change everything except the part")
        neutral = gr.Textbox(
            studio.pipe.neutral, label="Instead of", info="What pictures show without the change."
        )
    for box in (words, neutral):
        say_limit(box, most_words(studio))

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
    ) -> Iterator[Updates]:
        owner, session = desk.owner, desk.session
        with friendly():
            if text := warning(studio, words):
                gr.Warning(toast(text))
            yield {part: part_shown(studio, session, words, names, background, neutral)}
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
                yield stage.show_frame(desk, frame)

    def show_part(desk: Desk, words: str, names: list[str], background: bool, neutral: str) -> str:
        with friendly():
            return part_shown(studio, desk.session, words, names, background, neutral)

    def click(
        desk: Desk,
        words: str,
        names: list[str],
        background: bool,
        neutral: str,
        event: gr.EventData,
    ) -> tuple[list[str], str]:
        across, down = (getattr(event, name, -1) for name in ("across", "down"))
        with friendly():
            chosen = with_part(studio, desk.session, names, float(across), float(down))
            return chosen, part_shown(studio, desk.session, words, chosen, background, neutral)

    where = [stage.desk, words, names, background, neutral]
    part.apply(click, where, [names, part], trigger_mode="multiple", **DRAWING, **PRIVATE)
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
