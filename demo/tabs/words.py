"""Say what should change: for this face, by a search of its own, or for everybody.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator
from html import escape

import gradio as gr

from demo.components import MAX_LETTERS, after, friendly, message, progress, warning
from demo.stage import (
    DRAWING,
    PRIVATE,
    STOPPED,
    Desk,
    Frame,
    Stage,
    check_room,
    pictured,
    watched,
)
from stylegan_hub.edits.direction import Direction
from stylegan_hub.methods.table import DEFAULT_CHANNELS
from stylegan_hub.methods.optimization import Settings
from stylegan_hub.pipeline import NEUTRAL
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

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
_FOR_EVERYBODY = ("global_direction", "gradient_direction")


def for_this_face(
    studio: Studio,
    session: Session,
    words: str,
    neutral: str | None = None,
    steps: int = Settings.steps,
    space: str = "w_plus",
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Search the edit for the words on the face as edited, with pictures on the way.

    Raises:
        ValueError: words or settings that cannot be searched for; too many edits.
    """
    started = time.monotonic()
    others = session.without_found(words)
    check_room(others)
    settings = Settings(steps=int(steps))
    before, _ = studio.draw(session.without_edits())
    found = yield from watched(
        studio.search(others, words, settings, space, owner, neutral),
        pictured(started, lambda _: before),
        lambda: Frame(message(STOPPED), studio.draw(session)),
    )
    if found is None:
        return
    note = found.origin.training.get("note")
    how = f", {note}" if note else ""
    text = f"Found “{words.strip()}” for this {studio.noun}{after(started)}{how}; slide it."
    yield Frame(message(text), studio.draw(session.with_found(found)), found)


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
    started = time.monotonic()
    others = session.without_found(words)
    check_room(others)
    if not studio.is_known(words, neutral):
        search = studio.search_for_everybody(words, neutral, owner)
        searched = yield from watched(
            search,
            lambda done: Frame(progress(done, search.total, started)),
            lambda: Frame(message(STOPPED)),
        )
        if searched is None:
            return
    found = studio.direction(words, neutral, threshold, channels)
    text = f"Found “{words.strip()}” for every {studio.noun}{after(started)}; {_how(found)}."
    yield Frame(message(text), studio.draw(session.with_found(found)), found)


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
    for applied in reversed(session.edits):
        origin = applied.edit.origin
        texts = origin.prompt or "", origin.neutral or ""
        is_for_everybody = origin.training.get("method") in _FOR_EVERYBODY
        if applied.name is None and is_for_everybody and studio.is_known(*texts):
            found = studio.direction(*texts, threshold, channels)
            text = f"“{applied.label}”: {_how(found)}."
            return Frame(message(text), found=found)
    return Frame(message("Press Edit first; then this moves the change for all."))


def _how(edit: Direction) -> str:
    training = edit.origin.training
    count, threshold = training["channels"], training.get("threshold")
    moving = "1 channel moves" if count == 1 else f"{count} channels move"
    return moving if threshold is None else f"{moving}, down to a relevance of {threshold:.3f}"


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring."""
    has_table = studio.directions is not None
    of_faces = studio.pipe.neutral == NEUTRAL
    with gr.Row():
        words = gr.Textbox(
            label="The picture shall show",
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
        most = min(studio.channels, _MAX_CHANNELS) if has_table else studio.channels
        channels = gr.Slider(
            1,
            most,
            min(DEFAULT_CHANNELS, most) if has_table else most,
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
        steps = gr.Slider(10, 300, Settings.steps, step=10, label="Steps", buttons=[])
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
        [words, whom, neutral, by, channels, threshold, steps, space],
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
