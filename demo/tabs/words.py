"""Change what a text says: at once if the pipeline can, or by a search for this face or for all.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

import gradio as gr

from demo.components import (
    explain,
    friendly,
    help_with,
    message,
    most_words,
    say_limit,
    toast,
    warning,
)
from demo.desk import Desk
from demo.finding import Wanted, how_well, show_found
from demo.frames import Frame
from demo.job import Updates
from demo.stage import DRAWING, PRIVATE, Stage
from stylegan_hub.domain import NEUTRAL
from stylegan_hub.edits.base import Edit
from stylegan_hub.latents import Space
from stylegan_hub.methods import gradient, optimization, table
from stylegan_hub.methods.method import Words, get, method_of
from stylegan_hub.methods.style_statistics import editable_channels
from stylegan_hub.methods.wording import parts
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

METHODS = ("instant", "optimization", "table", "gradient")
"""The methods that this tab calls; the tab "More" has others for words."""
# The label of a chip, and the words that it fills in.
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
# What can be ticked to keep, and the words for it that CLIP knows.
KEPT = {
    "hair": "hair",
    "glasses": "glasses",
    "beard": "a beard",
    "smile": "a smiling face",
    "age": "an old face",
    "skin": "dark skin",
    "background": "background",
}
SPACES = {"Whole layers (w+)": "w_plus", "Single channels (s)": "s"}
CHOICES = {"A number": "channels", "Above a threshold": "threshold"}
HELP = "Say what should change. Each change that you name gets its own slider."
_MAX_OFFERS = 3
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
    keep: Sequence[str] = (),
) -> Iterator[Frame]:
    """Search for the edit of the words on the face with its edits, with pictures on the way.

    Args:
        keep: words for what should not change.

    Raises:
        ValueError: invalid words or settings, or too many edits.
    """
    request = Words(words, _own(studio, neutral), tuple(keep))
    usual = optimization.Optimization.presets["default"]
    settings = replace(usual, steps=int(steps), space=Space(space))
    before, _ = studio.draw(session.without_edits())

    def say(found: Edit, seconds: str) -> str:
        note = found.origin.training.get("note")
        how = f", {note}" if note else ""
        said = f"Found “{request.text}” for this {studio.noun}{seconds}{how}; move its slider."
        return said + how_well(studio, found)

    wanted = Wanted(request, "optimization", settings=settings, label=request.text)
    yield from show_found(studio, session, wanted, say, lambda _: before, owner)


def at_once(
    studio: Studio,
    session: Session,
    words: str,
    neutral: str | None = None,
    every_face: bool = False,
    owner: Hashable = None,
    keep: Sequence[str] = (),
) -> Iterator[Frame]:
    """Find an edit for each change in the words, without a search.

    Args:
        keep: words for what should not change.

    Raises:
        ValueError: no words, words that CLIP cannot read, or too many edits.
    """
    for one in parts(words) or [words]:
        request = Words(one, _own(studio, neutral), tuple(keep))

        def say(found: Edit, seconds: str, asked: Words = request) -> str:
            return f"“{asked.text}” is applied{seconds}; move its slider.{how_well(studio, found)}"

        wanted = Wanted(request, "instant", every_face, label=request.text)
        for frame in show_found(studio, session, wanted, say, owner=owner):
            yield frame
        if frame.found is None:  # the search was stopped
            return
        session = session.with_found(frame.found, frame.region)


def _own(studio: Studio, neutral: str | None) -> str | None:
    """What the visitor says that pictures show now; None if it is the pipeline's own `neutral`.

    Only with None are words such as "without a hat" understood as a removal.
    """
    return None if neutral is None or neutral.strip() == studio.pipe.neutral else neutral


def for_everybody(
    studio: Studio,
    session: Session,
    words: str,
    neutral: str | None = None,
    threshold: float | None = None,
    channels: int | None = None,
    owner: Hashable = None,
    keep: Sequence[str] = (),
) -> Iterator[Frame]:
    """Find an edit for the words that suits every face: at once from a table, or by a search.

    Args:
        keep: words for what should not change.

    Raises:
        ValueError: invalid texts or numbers, or too many edits.
    """
    request = Words(words, _own(studio, neutral), tuple(keep))
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
    """The last edit for every face with more or fewer channels; its strength stays.

    Raises:
        ValueError: no channel passes the threshold, or an invalid number.
    """
    method, settings = _for_everybody(studio, threshold, channels)
    for applied in reversed(session.edits):
        origin = applied.edit.origin
        found_by = method_of(origin)
        if applied.name is None and found_by is not None and found_by.name == method:
            request = Words(origin.prompt or "", origin.neutral)
            with studio.search(
                session, request, method, every_face=True, settings=settings, at_once=True
            ) as search:  # immediate: from the table or a remembered search
                (found,) = search.result()
            text = f"“{label_of(applied)}”: {_how(found)}."
            return Frame(message(text), found=found)
    return Frame(message("Press Edit first; then this adjusts the change for every face."))


def _for_everybody(
    studio: Studio, threshold: float | None, channels: int | None
) -> tuple[str, table.Settings | gradient.Settings]:
    """The method for every face, with its settings."""
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
    """Build the widgets and connect them."""
    directions = table.bundled_table(studio.pipe)
    has_table = directions is not None
    is_instant = get("instant").fits(studio.pipe)
    known = len(directions.index) if directions else len(editable_channels(studio.pipe))
    of_faces = studio.pipe.neutral == NEUTRAL
    help_with(HELP)
    with gr.Row(elem_classes="ask"):
        words = gr.Textbox(
            label="The picture should show",
            placeholder="a smiling face with glasses"
            if of_faces
            else f"{studio.pipe.neutral} in red",
            scale=4,
            min_width=180,
        )
        start = gr.Button("Edit", variant="primary", elem_id="edit", scale=0, min_width=90)
    with gr.Row(visible=False, elem_id="offers") as offering:
        gr.HTML('<p class="note">Try instead</p>')
        offers = [gr.Button("", size="sm", scale=0, min_width=60) for _ in range(_MAX_OFFERS)]
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
    keep = gr.CheckboxGroup(
        [(name, words) for name, words in KEPT.items()],
        value=[],
        label="But keep",
        visible=of_faces,
        elem_classes="ticks",
    )
    with gr.Row(elem_classes="ask"):
        whom = gr.Radio(
            [(f"This {studio.noun}", "face"), (f"Every {studio.noun}", "everybody")],
            value="face",
            label="The change should suit",
            elem_classes="ticks",
        )
        closer = gr.Button(
            f"Refine for this {studio.noun}",
            size="md",
            visible=is_instant,
            scale=0,
            min_width=140,
            elem_id="closer",
        )
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
            info="Fewer channels change less of the rest.",
            buttons=[],
        )
        threshold = gr.Slider(
            0,
            _MAX_THRESHOLD,
            _THRESHOLD,
            step=0.005,
            label="Threshold",
            info="A higher threshold moves fewer channels.",
            buttons=[],
            visible=False,
        )
    with gr.Accordion("Settings of the search", open=False):
        neutral = gr.Textbox(
            studio.pipe.neutral, label="Instead of", info="What pictures show without the change."
        )
        with gr.Column(visible=True) as settings:
            shared = optimization.Optimization.presets["default"].shared_steps
            steps = gr.Slider(
                10,
                300,
                optimization.Settings.steps,
                step=10,
                label="Steps",
                info=f"On this face, after {shared} on other faces. More come closer to the words.",
                buttons=[],
            )
            space = gr.Radio(list(SPACES.items()), value="w_plus", label="What may move")
    for box in (words, neutral):
        say_limit(box, most_words(studio))

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
        keep: list[str],
        request: gr.Request,
    ) -> Iterator[Updates]:
        owner, session = desk.owner, desk.session
        desk.things["offers"] = []
        with friendly():
            if text := warning(studio, words):
                gr.Warning(toast(text))
            if is_instant:
                everybody = whom != "face"
                frames = at_once(studio, session, words, neutral, everybody, owner, keep)
            elif whom == "face":
                how = (neutral, steps, space, owner, keep)
                frames = for_this_face(studio, session, words, *how)
            else:
                chosen = limits(by, threshold, channels)
                frames = for_everybody(studio, session, words, neutral, *chosen, owner, keep)
            for frame in frames:
                if frame.found is not None:
                    desk.things["offers"].append(studio.judged(frame.found)[1])
                yield stage.show_frame(desk, frame)

    def search_closer(
        desk: Desk,
        words: str,
        neutral: str,
        steps: int,
        space: str,
        keep: list[str],
        request: gr.Request,
    ) -> Iterator[Updates]:
        how = (neutral, steps, space, desk.owner, keep)
        with friendly():
            for frame in for_this_face(studio, desk.session, words, *how):
                yield stage.show_frame(desk, frame)

    def choose_channels(desk: Desk, by: str, channels: int, threshold: float) -> tuple[object, ...]:
        try:
            frame = refine(studio, desk.session, *limits(by, threshold, channels))
        except ValueError as error:
            # No error box: dragging a slider would fill the screen with them.
            return gr.skip(), gr.skip(), message(explain(error))
        if (found := frame.found) is None:
            return gr.skip(), gr.skip(), frame.status
        changed = desk.change(lambda session: session.with_found(found), "channels")
        return *stage.draw(desk, changed), frame.status

    def show_offers(desk: Desk) -> Updates:
        """Offer words that would work better, if the last ones did not work well."""
        each = zip_longest(*desk.things.get("offers", []))  # the nearest of each change come first
        near = [*dict.fromkeys(word for words in each for word in words if word)][:_MAX_OFFERS]
        padded = [*near, *[""] * (_MAX_OFFERS - len(near))]
        return {
            offering: gr.Row(visible=bool(near)),
            **{
                offer: gr.Button(word, visible=bool(word))
                for offer, word in zip(offers, padded, strict=True)
            },
        }

    stage.follow(show_offers, [desk], [offering, *offers])
    chosen = examples.click(lambda sample: sample[0], examples, words, **PRIVATE)
    taken = [offer.click(lambda word: word, offer, words, **PRIVATE) for offer in offers]
    # If the words need a search, a visitor may want to add to them first.
    for event in [chosen, *taken] if is_instant else taken:
        event.success(None, js="() => document.querySelector('#edit').click()", **PRIVATE)
    whom.change(
        lambda whom: (
            gr.Group(visible=whom != "face" and not is_instant),
            gr.Column(visible=whom == "face" or is_instant),
            gr.CheckboxGroup(visible=of_faces and (whom == "face" or not is_instant)),
        ),
        whom,
        [choice, settings, keep],
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
            "keep": keep,
        },
        api_name="edit",
    )
    if is_instant:
        stage.add_search(
            closer,
            [closer.click],
            search_closer,
            {"words": words, "neutral": neutral, "steps": steps, "space": space, "keep": keep},
            api_name="refine",
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
