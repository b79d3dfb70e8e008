"""Say what should change: for this face, by a search of its own, or for everybody.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import replace
from html import escape

import gradio as gr

from demo.components import MAX_LETTERS, friendly, message, warning
from demo.finding import Wanted, show_found
from demo.stage import DRAWING, PRIVATE, Desk, Frame, Stage
from stylegan_hub.domain import NEUTRAL
from stylegan_hub.edits.base import Edit
from stylegan_hub.latents import Space
from stylegan_hub.methods import gradient, optimization, table
from stylegan_hub.methods.method import Words, method_of
from stylegan_hub.methods.style_statistics import editable_channels
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

METHODS = ("optimization", "table", "gradient")
"""Those that this tab asks; others for words are in the tab "More"."""
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
SPACES = {"Whole layers (w+)": "w_plus", "Single channels (s)": "s"}
CHOICES = {"A number": "channels", "Above a threshold": "threshold"}
_MAX_CHANNELS = 200
_THRESHOLD = 0.1
_MAX_THRESHOLD = 0.5


def for_this_face(
    studio: Studio,
    session: Session,
    words: str,
    neutral: str | None = None,
    steps: int = optimization.Settings.steps,
    space: str = "w_plus",
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Search the edit for the words on the face as edited, with pictures on the way.

    Raises:
        ValueError: words or settings that cannot be searched for; too many edits.
    """
    request = Words(words, neutral)
    settings = optimization.Settings(steps=int(steps), space=Space(space))
    before, _ = studio.draw(session.without_edits())

    def say(found: Edit, seconds: str) -> str:
        note = found.origin.training.get("note")
        how = f", {note}" if note else ""
        return f"Found “{request.text}” for this {studio.noun}{seconds}{how}; slide it."

    wanted = Wanted(request, "optimization", settings=settings, label=request.text)
    yield from show_found(studio, session, wanted, say, lambda _: before, owner)


def for_everybody(
    studio: Studio,
    session: Session,
    words: str,
    neutral: str | None = None,
    threshold: float | None = None,
    channels: int | None = None,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Find the edit for the words that suits any face: at once from a table, or by a search.

    Raises:
        ValueError: texts or numbers for which there is none; too many edits.
    """
    request = Words(words, neutral)
    method, settings = _for_everybody(studio, threshold, channels)

    def say(found: Edit, seconds: str) -> str:
        return f"Found “{request.text}” for every {studio.noun}{seconds}; {_how(found)}."

    wanted = Wanted(request, method, True, settings, request.text)
    yield from show_found(studio, session, wanted, say, owner=owner)


def refine(
    studio: Studio,
    session: Session,
    threshold: float | None = None,
    channels: int | None = None,
) -> Frame:
    """The last edit for everybody with more or fewer channels; its strength stays.

    Raises:
        ValueError: no channel passes the threshold, an impossible number.
    """
    method, settings = _for_everybody(studio, threshold, channels)
    for applied in reversed(session.edits):
        origin = applied.edit.origin
        found_by = method_of(origin)
        if applied.name is None and found_by is not None and found_by.name == method:
            request = Words(origin.prompt or "", origin.neutral)
            with studio.search(
                session, request, method, every_face=True, settings=settings
            ) as search:  # at once there: from the table, or since the search is remembered
                (found,) = search.result()
            text = f"“{label_of(applied)}”: {_how(found)}."
            return Frame(message(text), found=found)
    return Frame(message("Press Edit first; then this moves the change for all."))


def _for_everybody(
    studio: Studio, threshold: float | None, channels: int | None
) -> tuple[str, table.Settings | gradient.Settings]:
    """The method for every face, and its settings."""
    if table.bundled_table(studio.pipe) is not None:
        return "table", table.Settings(channels=channels, threshold=threshold)
    if threshold is not None:
        raise ValueError(
            f"Got threshold {threshold}, which needs a direction table, and this pipeline has "
            "none; give a number of channels."
        )
    return "gradient", replace(gradient.Settings(), channels=channels)


def _how(edit: Edit) -> str:
    training = edit.origin.training
    count, threshold = training["channels"], training.get("threshold")
    moving = "1 channel moves" if count == 1 else f"{count} channels move"
    return moving if threshold is None else f"{moving}, down to a relevance of {threshold:.3f}"


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring."""
    directions = table.bundled_table(studio.pipe)
    has_table = directions is not None
    known = len(directions.index) if directions else len(editable_channels(studio.pipe))
    of_faces = studio.pipe.neutral == NEUTRAL
    with gr.Row():
        words = gr.Textbox(
            label="The picture should show",
            placeholder=EXAMPLES["purple hair"] if of_faces else f"{studio.pipe.neutral} in red",
            max_length=MAX_LETTERS,
            scale=3,
            min_width=200,
        )
        neutral = gr.Textbox(
            studio.pipe.neutral, label="Instead of", max_length=MAX_LETTERS, scale=2, min_width=120
        )
    examples = gr.Dataset(
        components=[words],
        samples=[[example] for example in EXAMPLES.values()],
        sample_labels=list(EXAMPLES),
        label="Examples",
        show_label=False,
        visible=of_faces,
        elem_id="examples",
        elem_classes="chips",
    )
    whom = gr.Radio(
        [(f"This {studio.noun}", "face"), (f"Every {studio.noun}", "everybody")],
        value="face",
        label="Find the change for",
        info="A search for this one alone, or one change that suits all.",
    )
    start = gr.Button("Edit", variant="primary", elem_id="edit")
    with gr.Group(visible=False) as choice:
        by = gr.Radio(
            list(CHOICES.items()), value="channels", label="Channels that move", visible=has_table
        )
        most = min(known, _MAX_CHANNELS) if has_table else known
        channels = gr.Slider(
            1,
            most,
            min(table.DEFAULT_CHANNELS, most) if has_table else most,
            step=1,
            label="Number of channels",
            info="Fewer change less else.",
            buttons=[],
        )
        threshold = gr.Slider(
            0,
            _MAX_THRESHOLD,
            _THRESHOLD,
            step=0.005,
            label="Threshold",
            info="A higher one moves fewer channels.",
            buttons=[],
            visible=False,
        )
    with gr.Accordion("Settings of the search", open=False) as settings:
        steps = gr.Slider(10, 300, optimization.Settings.steps, step=10, label="Steps", buttons=[])
        space = gr.Radio(list(SPACES.items()), value="w_plus", label="What may move")

    desk, status = stage.desk, stage.status

    def limits(by: str, threshold: float, channels: int) -> tuple[float | None, int | None]:
        return (threshold, None) if by == "threshold" else (None, int(channels))

    def run(
        desk: Desk,
        words: str,
        whom: str,
        neutral: str,
        by: str,
        channels: int,
        threshold: float,
        steps: int,
        space: str,
        request: gr.Request,
    ) -> Iterator[tuple[object, str]]:
        owner, session = request.session_hash, desk.session
        with friendly():
            if text := warning(studio, words):
                gr.Warning(escape(text))
            if whom == "face":
                frames = for_this_face(studio, session, words, neutral, steps, space, owner)
            else:
                chosen = limits(by, threshold, channels)
                frames = for_everybody(studio, session, words, neutral, *chosen, owner)
            for frame in frames:
                yield stage.show_frame(desk, frame)

    def choose_channels(desk: Desk, by: str, channels: int, threshold: float) -> tuple[object, ...]:
        try:
            frame = refine(studio, desk.session, *limits(by, threshold, channels))
        except ValueError as error:
            # No error box: a slider that is dragged would fill the screen with them.
            return gr.skip(), gr.skip(), message(str(error))
        if (found := frame.found) is None:
            return gr.skip(), gr.skip(), frame.status
        return *stage.draw(desk.change(lambda s: s.with_found(found))), frame.status

    examples.click(lambda sample: sample[0], examples, words, **PRIVATE)
    whom.change(
        lambda whom: (gr.Group(visible=whom != "face"), gr.Accordion(visible=whom == "face")),
        whom,
        [choice, settings],
        queue=False,
        **PRIVATE,
    )
    by.change(
        lambda by: (gr.Slider(visible=by == "channels"), gr.Slider(visible=by == "threshold")),
        by,
        [channels, threshold],
        queue=False,
        **PRIVATE,
    )
    stage.add_search(
        start,
        [start.click, words.submit],
        run,
        {
            "words": words,
            "whom": whom,
            "neutral": neutral,
            "by": by,
            "channels": channels,
            "threshold": threshold,
            "steps": steps,
            "space": space,
        },
        api_name="edit",
    )
    gr.on(
        [by.input, channels.input, threshold.input],
        choose_channels,
        [desk, by, channels, threshold],
        [*stage.drawn, status],
        trigger_mode="always_last",
        api_name="channels",
        **DRAWING,
    )
    stage.reset.click(lambda: "", None, words, **PRIVATE)
