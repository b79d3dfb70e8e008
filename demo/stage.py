"""The face that all tabs change: choose it, see it before and after, and move its sliders.

The handlers take and return sessions, pictures and text; only `Stage` knows widgets.
"""

from __future__ import annotations

import functools
import inspect
import json
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo import link
from demo.components import (
    REFUSALS,
    attribute,
    explain,
    for_screen,
    friendly,
    heading,
    message,
    plain,
    thumbnails,
    without_folders,
)
from demo.desk import Desk, change
from demo.drafts import STORED, Drafts
from demo.files import STACK_NAME, archive, load_stack, newest_found, save_stack
from demo.first_faces import COUNT
from demo.frames import SLOTS, Frame, on_screen
from demo.job import Job, Updates
from demo.slots import Slot
from demo.visits import Visits
from stylegan_hub import pictures
from stylegan_hub.domain import checked_seeds
from stylegan_hub.session import Session, label_of, slug_of
from stylegan_hub.studio import Studio

FACES = COUNT
NO_EDIT = "No edits yet. Each edit gets a slider here, which also goes below zero."
WELCOME = "Pick {}, then say what should change or take an edit from the zoo."
EVICTED = (
    "This server had no room left for the work of all visitors. Yours was unused the longest, so "
    "it was deleted."
)
_RELOAD = "Reload the page to get back what a link can hold."
FAILED = "Nothing was changed."
_WAITING = "Waiting for a turn …"
FAILED_IN_PART = "Only a part of this is on the face. Undo takes it off again."
_MAX_RANDOM_SEED = 99_999
_MAX_NAME = 100  # letters of a file's name in a message
_DIVIDER = 14  # percent from the left, beside the face

# Model calls take turns in the studio; a search must not block the sliders of other visitors.
DRAWING = {"concurrency_id": "draw", "concurrency_limit": 4, "show_progress": "hidden"}
# What renders many pictures, or may search, must not take the places of single pictures.
FILMING = {"concurrency_id": "film", "concurrency_limit": 2, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private"}
# Searches wait in the studio's own line; here they are only watched, which takes no thread.
_WATCHING = {"concurrency_limit": None, "show_progress": "hidden"}
_LAST = {"trigger_mode": "always_last"}  # of many values of a slider, only the newest counts
_EACH = {"trigger_mode": "multiple"}  # gradio would ignore a press while one is on its way

_COPY = """async query => {
  const link = location.origin + location.pathname + (query ? '?' + query : '');
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    prompt('Copy this link:', link);  // pages without https may not write to the clipboard
  }
}"""

# The same at every start; otherwise a restart of the server would lose what the browser keeps. It
# hides nothing: a program that can read a browser's storage can read the page.
_SECRET = "stylegan-hub-key"

# See `channel.js`: gradio delivers the picture when a slider is released, but not while it moves.
_MOVE = "(channel, ...strengths) => window.movePicture(channel, strengths)"
_SETTLE = "channel => window.settlePicture(channel)"
_DROPPED = "() => window.droppedFile"
_CHANGED = "() => String(Math.random())"  # a new text each time

Drawn = tuple[tuple[str, str], str]
"""Files of the pictures before and after for the screen, and the file that "Save picture" saves."""


def random_seeds(count: int = FACES) -> list[int]:
    """Distinct seeds of faces to choose from."""
    return random.sample(range(_MAX_RANDOM_SEED + 1), count)


def choose(session: Session, seed: float | None) -> Session:
    """The session with the face of another seed; its edits stay.

    Raises:
        ValueError: a seed that is not a whole number, or out of range.
    """
    if seed is None or seed % 1 != 0:
        raise ValueError(f"Got seed {seed}; expected a whole number from 0, such as 7.")
    return session.with_seed(*checked_seeds([int(seed)]))


def limit(studio: Studio, desk: Desk, index: int, region: str) -> None:
    """Let an edit of the stack change only this region, or the whole picture for an empty name.

    Raises:
        ValueError: no such edit or region; no parser.
    """
    if region:
        studio.region("", [region])
    change(desk, lambda stack: stack.with_region(index, region or None))


def in_any_case(event: gr.events.Dependency, *listener: Any, **options: Any) -> None:
    """Run a listener after an event, whether the event failed or not.

    In a browser, a listener added by `then` does not run after an event that failed.
    """
    for after in (event.success, event.failure):
        after(*listener, **options)


@dataclass(frozen=True)
class _Search:
    """A search that a tab offers; see `Stage.add_search`."""

    start: gr.Button
    triggers: list[Callable[..., gr.events.Dependency]]
    run: Callable[..., Iterator[Updates]]
    inputs: list[gr.components.Component]
    outputs: list[gr.blocks.Block]
    api_name: str


class Stage:
    """The current face and its edits: the session, and the widgets that show it.

    Attributes:
        visits: finds the desk of each visitor.
        desk: the visitor's `Desk`.
        channel: the channel of the desk; see `channel.py`.
        browser: what the browser keeps: the key of the desk, and a link to its face.
        drafts: the text boxes whose texts the browser keeps.
        pictures: before and after.
        status: a line of text about the last thing that happened.
        stop: the button that ends a search; visible while one runs.
        seed: the seed of the face.
        reset: the button that returns to the first face without edits.
    """

    def __init__(self, studio: Studio, visits: Visits) -> None:
        """Build the picture, and below it the stack of edits."""
        self._studio, self.visits = studio, visits
        self._searches: list[_Search] = []
        self._changes: list[tuple[gr.events.Dependency, bool]] = []
        self._followers: list[tuple[Callable[..., Any], list[Any], list[Any]]] = []
        self._restorers: list[tuple[Callable[[Desk], Updates], list[Any]]] = []
        desk = visits.new()
        self.desk = gr.State(desk)
        place = f"{visits.place}/" if visits.place else ""
        self.browser = gr.BrowserState(None, storage_key=f"{STORED}{place}visit", secret=_SECRET)
        self.drafts = Drafts()
        self.channel = gr.Textbox(label="The channel for pictures", visible="hidden")
        self._changed = gr.Textbox(label="When the session changed", visible="hidden")
        with gr.Column(elem_id="view"):
            # A new visitor sees this face before the page's first event; see `channel.js`.
            self.pictures = gr.ImageSlider(
                on_screen(studio.draw(desk.session)),
                label="Before and after",
                show_label=False,
                elem_id="pictures",
                buttons=["fullscreen"],
                interactive=False,
                slider_position=_DIVIDER,
            )
            self._caption = gr.HTML(
                caption(desk.session, studio.noun), min_height=0, elem_id="caption"
            )
            with gr.Row(elem_id="progress"):
                self.status = gr.HTML(message(self.welcome), label="Status")
                self.stop = gr.Button("Stop", size="sm", scale=0, min_width=80, visible=False)
        with gr.Column(elem_id="stack"):
            self._empty = gr.HTML(f'<p class="note">{NO_EDIT}</p>')
            self._slots = [Slot.build(studio.regions) for _ in range(SLOTS)]
            with gr.Row(elem_id="history"):
                self._undo = gr.Button(
                    "Undo", size="md", min_width=60, elem_id="undo", elem_classes=["spent"]
                )
                self._redo = gr.Button(
                    "Redo", size="md", min_width=60, elem_id="redo", elem_classes=["spent"]
                )
                self._keep = gr.Button(
                    "Go on from here", size="md", min_width=110, interactive=False
                )
                self.reset = gr.Button("Start over", size="md", min_width=80)
            with gr.Row(elem_id="actions"):
                self._save_picture = gr.DownloadButton("Save picture", size="md", min_width=80)
                self._save_edit = gr.DownloadButton(
                    "Save edit", size="md", min_width=80, interactive=False
                )
                self._copy_link = gr.Button("Copy link", size="md", min_width=80)
            self._build_files()

    @property
    def welcome(self) -> str:
        """The message of a page that was just opened."""
        return WELCOME.format(self._studio.pipe.neutral)

    def _build_files(self) -> None:
        noun = self._studio.noun
        with gr.Row(elem_id="files"):
            self._save_stack = gr.Button(f"Save {noun} and edits", size="md", min_width=120)
            self._load_stack = gr.UploadButton(
                f"Load {noun} and edits",
                size="md",
                min_width=120,
                file_types=[".safetensors", ".png"],
                elem_id="load",
            )
            # A browser saves what a button holds before the click, so a script clicks this one
            # after the file is written.
            self._stack_file = gr.DownloadButton(
                f"The file of {noun} and edits", elem_id="stack-file", visible="hidden"
            )
            self._query = gr.Textbox(label="The link", visible="hidden")
            self._dropped = gr.Textbox(label="The name of a dropped file", visible="hidden")
            # The page's script clicks it, see `drop.js`.
            self._refused = gr.Button("A file was dropped", elem_id="dropped", visible="hidden")

    def build_chooser(self) -> None:
        """Build the row of faces to choose from."""
        studio = self._studio
        heading(f"Choose {studio.pipe.neutral}")
        self._faces = thumbnails("Pictures to choose from", "faces", FACES)
        with gr.Row(elem_id="who"):
            self.seed = gr.Number(
                self.visits.seeds[0], label="Seed", precision=0, minimum=0, min_width=130
            )
            self._label = self._classes()
            self._roll = gr.Button(f"Random {studio.noun}", size="md", min_width=110)
            self._more = gr.Button("Show others", size="md", min_width=110)

    def _classes(self) -> gr.Dropdown | None:
        """A menu of classes, if the generator has labels."""
        if not (count := self._studio.pipe.generator.config.c_dim):
            return None
        return gr.Dropdown(list(range(count)), value=self._usual_label, label="Class", min_width=80)

    @property
    def _usual_label(self) -> int:
        usual = self._studio.pipe.config.label
        return usual if isinstance(usual, int) else 0

    # Which face

    def _pick(self, desk: Desk, event: gr.SelectData) -> None:
        self._studio.stop(desk.owner)
        desk.change(lambda session: choose(session, desk.seeds[event.index]))

    def _set_seed(self, desk: Desk, seed: float | None) -> None:
        self._studio.stop(desk.owner)
        with friendly():
            desk.change(lambda session: choose(session, seed), "seed")

    def _roll_one(self, desk: Desk) -> None:
        (seed,) = random_seeds(1)
        self._studio.stop(desk.owner)
        desk.change(lambda session: choose(session, seed))

    def _set_label(self, desk: Desk, label: int) -> None:
        self._studio.stop(desk.owner)
        desk.change(lambda session: replace(session, label=int(label), latents=None, text=None))

    def _start_over(self, desk: Desk) -> str:
        self._studio.stop(desk.owner)
        desk.change(lambda session: replace(desk.first, label=session.label))
        return message(f"{self.welcome} Undo brings back what was here.")

    def _undo_one(self, desk: Desk) -> str:
        self._studio.stop(desk.owner)
        return message("Undone." if desk.undo() else "There is nothing to undo.")

    def _redo_one(self, desk: Desk) -> str:
        self._studio.stop(desk.owner)
        return message("Redone." if desk.redo() else "There is nothing to redo.")

    def _other_faces(self, desk: Desk) -> list[str]:
        desk.things["seeds"] = random_seeds()
        return self._draw_faces(desk)

    def _draw_faces(self, desk: Desk) -> list[str]:
        faces = self._studio.faces(desk.seeds, label=desk.session.label)
        return [desk.picture(face) for face in faces]

    def _face(self, desk: Desk) -> dict[gr.blocks.Block, object]:
        shown: dict[gr.blocks.Block, object] = {self.seed: desk.session.seed}
        if self._label is not None:
            label = desk.session.label
            shown[self._label] = label if isinstance(label, int) else self._usual_label
        return shown

    @property
    def _face_widgets(self) -> list[gr.components.Component]:
        return [self.seed] if self._label is None else [self.seed, self._label]

    # The edits on it

    def set_strength(self, desk: Desk, index: int, strength: float) -> Drawn:
        """Set the strength of the edit in this slot, counted from 0; returns values for `drawn`."""
        self._set_strength(desk, index, strength)
        return self._draw_newest(desk)

    def _set_strength(self, desk: Desk, index: int, strength: float) -> None:
        with friendly():
            change(desk, lambda stack: stack.with_strength(index, strength), ("strength", index))

    def _remove(self, desk: Desk, index: int) -> None:
        self._studio.stop(desk.owner)
        with friendly():
            change(desk, lambda stack: stack.removed(index))

    def set_region(self, desk: Desk, index: int, region: str) -> Drawn:
        """Set the region of an edit, "" for everywhere; see `set_strength`."""
        with friendly():
            limit(self._studio, desk, index, region)
        return self._draw_newest(desk)

    def _move(self, desk: Desk, index: int, by: int) -> None:
        with friendly():
            change(desk, lambda stack: stack.moved(index, index + by))

    def _keep_face(self, desk: Desk) -> str:
        self._studio.stop(desk.owner)
        with friendly():
            kept = self._studio.keep(desk.session)
        desk.change(lambda _: kept)
        return message("What you change next starts from here. Undo brings the sliders back.")

    # Files and links

    def _save(self, desk: Desk) -> str:
        with friendly():
            data = save_stack(self._studio, desk.session)
        return desk.file("stack", STACK_NAME, data)

    def _load(self, desk: Desk, file: str | None) -> str:
        self._studio.stop(desk.owner)
        with friendly():
            if file is None:
                raise ValueError(f"Got no file; choose one such as {STACK_NAME}.")
            try:
                loaded, problems = load_stack(self._studio, desk.session, file)
            finally:
                Path(file).unlink(missing_ok=True)  # other visitors could get at this copy
        count = len(desk.change(lambda _: loaded).edits)
        what = f"{self._studio.pipe.neutral} with {count} edit{'s' * (count != 1)}"
        return message(" ".join([f"Loaded {what}.", *map(without_folders, problems)]))

    def _refuse(self, name: str) -> str:
        """What to say of a dropped file that the page cannot open."""
        said = f"“{name[:_MAX_NAME]}” cannot be opened here. " if name else ""
        return message(
            f"{said}Drop a PNG that was saved on this page, or a .safetensors file of "
            f"{self._studio.pipe.neutral} and edits. The tab Photo takes photographs."
        )

    def _link(self, desk: Desk) -> tuple[str, str]:
        query, missing = link.write(desk.session)
        said = "Copied a link to this face."
        if any(applied.name is None for applied in desk.session.edits):
            said += " Opening it searches for the words again, so their edits may look different."
        if missing:
            said += f" The link cannot hold {', '.join(missing)}; a file can."
        return query, message(said)

    def kept(self, desk: Desk) -> object:
        """What the browser keeps of a desk: its key, and a link that survives a server restart."""
        if desk.key is None:
            return gr.skip()
        query, missing = link.write(desk.session)
        return {
            "key": desk.key,
            "server": self.visits.id,
            "link": "" if desk.session == desk.first else query,
            "missing": missing,
        }

    # Wiring

    def wire(self, page: gr.Blocks) -> None:
        """Connect the widgets to their handlers; call it after all widgets exist."""
        self._wire_faces()
        for place, slot in enumerate(self._slots):
            self._wire_slot(slot, place)
        self._wire_files()
        for button, how, options in (
            (self._undo, self._undo_one, _EACH),
            (self._redo, self._redo_one, _EACH),
            (self.reset, self._start_over, {}),
        ):
            changed = button.click(how, self.desk, self.status, **options, **PRIVATE)
            self.then_show(changed, face=True)
            self._show_faces_of_class(changed)
        self.then_show(self._keep.click(self._keep_face, self.desk, self.status, **PRIVATE))
        self.stop.click(self._halt, self.desk, queue=False, **PRIVATE)
        page.unload(self._leave)
        for search in self._searches:
            self._wire_search(search)
        self.drafts.wire(page)
        for event, face in self._changes:
            self._wire_change(event, face)
        self._wire_shown()

    def _wire_faces(self) -> None:
        desk = self.desk
        self._more.click(self._other_faces, desk, self._faces, **DRAWING, **PRIVATE)
        picked = self._faces.select(self._pick, desk, None, **PRIVATE)
        rolled = self._roll.click(self._roll_one, desk, None, **PRIVATE)
        for event in (picked, rolled):
            self.then_show(event, face=True)
        typed = self.seed.input(self._set_seed, [desk, self.seed], None, api_name="face", **_LAST)
        self.then_show(typed)
        if self._label is not None:
            chosen = self._label.input(self._set_label, [desk, self._label], None, api_name="label")
            self.then_show(chosen)
            self.show_faces(chosen)

    def show_faces(self, event: gr.events.Dependency) -> None:
        """After this event, render the faces to choose from."""
        in_any_case(event, self._draw_faces, self.desk, self._faces, **DRAWING, **PRIVATE)

    def _show_faces_of_class(self, event: gr.events.Dependency) -> None:
        """After this event, which may have changed the class, render the faces to choose from."""
        if self._label is not None:
            self.show_faces(event)

    def _wire_slot(self, slot: Slot, place: int) -> None:
        desk, index = self.desk, gr.State(place)
        sliders = [slot.slider for slot in self._slots]
        slot.slider.input(None, [self.channel, *sliders], None, js=_MOVE, **PRIVATE)
        # Not in the queue; otherwise the next button pressed could overtake it.
        moved = slot.slider.release(
            self._set_strength,
            [desk, index, slot.slider],
            None,
            queue=False,
            **_LAST,
            **PRIVATE,
        )
        drawn = moved.success(self._draw_newest, desk, self.drawn, **_LAST, **DRAWING, **PRIVATE)
        drawn.success(None, self.channel, None, js=_SETTLE, **PRIVATE)
        drawn.success(self.kept, desk, self.browser, **PRIVATE)
        changes = [moved]
        if self._studio.regions:
            region = slot.region.input(
                self.set_region,
                [desk, index, slot.region],
                self.drawn,
                **DRAWING,
                **PRIVATE,
            )
            changes.append(region)
        for changed in changes:  # a refused one leaves the page with a value that the desk lacks
            changed.failure(None, None, self._changed, js=_CHANGED, **PRIVATE)
        for button, by in ((slot.up, -1), (slot.down, 1)):
            moved = button.click(self._move, [desk, index, gr.State(by)], None, **PRIVATE)
            self.then_show(moved)
        self.then_show(slot.remove.click(self._remove, [desk, index], None, **PRIVATE))

    def _wire_files(self) -> None:
        desk = self.desk
        saved = self._save_stack.click(
            self._save, desk, self._stack_file, api_name="save_stack", **DRAWING
        )
        saved.success(None, js="() => document.querySelector('#stack-file').click()", **PRIVATE)
        loaded = self._load_stack.upload(
            self._load, [desk, self._load_stack], self.status, api_name="load_stack", **DRAWING
        )
        loaded.failure(lambda: message(FAILED), None, self.status, **PRIVATE)
        self.then_show(loaded, face=True)
        self._show_faces_of_class(loaded)
        self._refused.click(
            self._refuse, self._dropped, self.status, js=_DROPPED, queue=False, **PRIVATE
        )
        copied = self._copy_link.click(self._link, desk, [self._query, self.status], **PRIVATE)
        copied.success(None, self._query, None, js=_COPY, **PRIVATE)

    def _wire_change(self, event: gr.events.Dependency, face: bool) -> None:
        if face:
            in_any_case(event, self._face, self.desk, self._face_widgets, **_LAST, **PRIVATE)
        in_any_case(event, None, None, self._changed, js=_CHANGED, **PRIVATE)

    def _wire_shown(self) -> None:
        """Show the session after each change.

        One listener serves all changes, since a browser that opens the page goes through all
        listeners for each widget.
        """
        # Events may come faster than pictures; the last event must get a picture.
        drawn = self._changed.change(
            self._show, self.desk, self._shown, **_LAST, **DRAWING, **PRIVATE
        )
        drawn.success(None, self.channel, None, js=_SETTLE, **PRIVATE)
        for follow, inputs, outputs in self._followers:
            drawn.success(follow, inputs, outputs, **_LAST, **DRAWING, **PRIVATE)

    def then_show(self, event: gr.events.Dependency, face: bool = False) -> None:
        """After this event, whether it failed or not, show the session.

        Args:
            face: whether to set the seed too; False while a visitor types one.
        """
        self._changes.append((event, face))

    def follow(
        self,
        how: Callable[..., Any],
        inputs: list[gr.components.Component],
        outputs: list[gr.components.Component],
    ) -> None:
        """Call `how` whenever the session is shown again, since its outputs depend on the face."""
        self._followers.append((how, inputs, outputs))

    # Coming back

    def restore(self, how: Callable[[Desk], Updates], outputs: Sequence[gr.blocks.Block]) -> None:
        """Call `how` when a page is opened, to show what the visitor's desk still holds."""
        self._restorers.append((how, [*outputs]))

    def restored(self, desk: Desk) -> Updates:
        """What the tabs show of a desk; values for `restorable`."""
        shown: dict[Any, Any] = {widget: gr.skip() for widget in self.restorable}
        for how, _ in self._restorers:
            shown |= how(desk)
        return shown

    @property
    def restorable(self) -> list[Any]:
        """The outputs of `restored`."""
        return [output for _, outputs in self._restorers for output in outputs]

    def _leave(self, request: gr.Request) -> None:
        desk = self.visits.leave(request.session_hash)
        if desk is not None and desk.key is None:  # its owner cannot return for the result
            self._studio.stop(desk.owner)

    # Searches

    def add_search(
        self,
        start: gr.Button,
        triggers: list[Callable[..., gr.events.Dependency]],
        run: Callable[..., Iterator[Updates]],
        inputs: Mapping[str, gr.components.Component],
        api_name: str,
        outputs: Sequence[gr.blocks.Block] = (),
    ) -> None:
        """Let events start a search; while it runs, it can be stopped and no other can start.

        It continues when the page is closed, and the visitor sees it again on return.

        Args:
            start: the button that starts it.
            triggers: the events.
            run: takes the desk, the inputs and the request; yields the new pictures, status and
                outputs, see `show_frame`.
            inputs: a widget for each parameter of `run` between the desk and the request. The
                browser keeps texts that are typed into them, see `drafts`.
            outputs: further widgets that `run` updates.

        Raises:
            ValueError: a parameter without a widget, or a widget without a parameter.
        """
        _, *names, _ = inspect.signature(run).parameters
        if set(names) != set(inputs):
            raise ValueError(f"Got widgets for {sorted(inputs)}; expected them for {names}.")
        for name, widget in inputs.items():
            if isinstance(widget, gr.Textbox):
                self.drafts.keep(f"{api_name}/{name}", widget)
        widgets = [inputs[name] for name in names]
        self._searches.append(_Search(start, triggers, run, widgets, [*outputs], api_name))

    def show_frame(self, desk: Desk, frame: Frame) -> dict[gr.blocks.Block, object]:
        """Put the edit of a frame, if any, on the face; returns the new pictures and status."""
        if (found := frame.found) is not None:
            desk.change(lambda session: session.with_found(found, frame.region))
        shown: dict[gr.blocks.Block, object] = {self.status: frame.status}
        if frame.pictures is not None:
            shown[self.pictures] = self._on_screen(desk, frame.pictures)
        return shown

    def job(self, desk: Desk, updates: Iterator[Updates]) -> Job:
        """Run a search for this desk, whether or not a page shows it; Stop ends it."""
        desk.job = Job(updates, lambda: self._halt_if_asked(desk), self.status)
        return desk.job

    def _wire_search(self, search: _Search) -> None:
        event = gr.on(
            search.triggers, None, None, self.busy_widgets, js=self._busy_at_once, **PRIVATE
        ).then(
            self._begin(search),
            [self.desk, *search.inputs],
            [self.pictures, self.status, *search.outputs],
            api_name=search.api_name,
            **_WATCHING,
        )
        self.then_free(event)

    def _begin(self, search: _Search) -> Callable[..., AsyncIterator[Updates]]:
        @functools.wraps(search.run)
        async def begin(desk: Desk, *values: Any) -> AsyncIterator[Updates]:
            page = values[-1].session_hash
            desk.halted, desk.searched = False, desk.session
            is_new = self.visits.enter(desk, page)
            try:
                async for shown in self.job(desk, search.run(desk, *values)).watch():
                    yield shown
            finally:
                if is_new:  # a program, of which gradio may never say that it left
                    self.visits.leave(page)

        return begin

    def _failed(self, desk: Desk) -> str:
        """What to say of a search that failed; of several changes, some may be on the face."""
        return message(FAILED if desk.session is desk.searched else FAILED_IN_PART)

    def then_free(self, event: gr.events.Dependency, face: bool = False) -> None:
        """After this event, which watched a search, unlock the widgets and show the session."""
        event.failure(self._failed, self.desk, self.status, **PRIVATE)
        in_any_case(event, self._free, self.desk, [*self._frees, self.stop], queue=False, **PRIVATE)
        self.then_show(event, face)

    def busy(self) -> dict[gr.blocks.Block, object]:
        """The state of the widgets while a search runs, until `then_free`."""
        return {
            **{widget: _locked(widget) for widget in self._locks},
            self.stop: gr.Button(visible=True),
            self.status: message(_WAITING),
        }

    @property
    def _busy_at_once(self) -> str:
        """A script that returns what `busy` does, without asking the server."""
        locked = {"__type__": "update", "interactive": False}
        shown = {"__type__": "update", "visible": True}
        return f"() => {json.dumps([*[locked] * len(self._locks), shown, message(_WAITING)])}"

    @property
    def busy_widgets(self) -> list[Any]:
        """The outputs of `busy`."""
        return [*self._locks, self.stop, self.status]

    @property
    def search_widgets(self) -> list[Any]:
        """All widgets that searches update."""
        shown = [output for search in self._searches for output in search.outputs]
        return [*dict.fromkeys([self.pictures, *self.busy_widgets, *shown])]

    def _free(self, desk: Desk) -> dict[gr.blocks.Block, object]:
        if desk.job is not None and desk.job.is_over:
            desk.job.was_seen = True  # only an open page sends this event
        return {
            **{widget: type(widget)(interactive=True) for widget in self._frees},
            self.stop: gr.Button(visible=False),
        }

    @property
    def _frees(self) -> list[gr.Button | gr.Slider]:
        """The widgets that a search locks and its end unlocks."""
        starts = (search.start for search in self._searches)
        return [*starts, self._undo, self._redo, *(slot.slider for slot in self._slots)]

    @property
    def _locks(self) -> list[gr.Button | gr.Slider]:
        """All widgets that a search locks, since it is going to change the stack.

        Those not in `_frees` are unlocked by `_show`, which knows which of them can be used.
        """
        moves = (button for slot in self._slots for button in (slot.up, slot.down))
        return [*self._frees, *moves, self._keep]

    def _halt(self, desk: Desk) -> None:
        desk.halted = True
        self._studio.stop(desk.owner)

    def _halt_if_asked(self, desk: Desk) -> None:
        if desk.halted:  # Stop was pressed before the search existed
            self._studio.stop(desk.owner)

    # Showing

    def draw(self, desk: Desk, session: Session) -> Drawn:
        """Render both pictures for the screen, and the file of the second one."""
        pair = self._studio.draw(session)
        recipe = pictures.recipe_of(self._studio.pipe, session)
        data = pictures.encode(pair[1], recipe, "PNG", pictures.stack_bytes(session))
        file = desk.file("picture", f"{session.title}.png", data)
        return self._on_screen(desk, pair), file

    def _draw_newest(self, desk: Desk) -> Drawn:
        with friendly():
            return desk.of_newest(lambda session: self.draw(desk, session))

    @property
    def drawn(self) -> list[gr.components.Component]:
        """The outputs of `draw`."""
        return [self.pictures, self._save_picture]

    def _on_screen(self, desk: Desk, pair: tuple[Image.Image, Image.Image]) -> tuple[str, str]:
        before, after = (desk.picture(for_screen(picture)) for picture in pair)
        return before, after

    @property
    def _shown(self) -> list[Any]:
        widgets = [widget for slot in self._slots for widget in slot.widgets]
        history = [self._undo, self._redo, self._keep]
        shown = [self._caption, self._empty, self._save_edit, *history, self.status, self.browser]
        return [*widgets, *self.drawn, *shown]

    def _show(self, desk: Desk) -> dict[gr.blocks.Block, object]:
        """Update all widgets that show the session."""
        return desk.of_newest(lambda session: self._shown_of(desk, session))

    def _shown_of(self, desk: Desk, session: Session) -> dict[gr.blocks.Block, object]:
        shown: dict[gr.blocks.Block, object] = {
            self._save_edit: gr.DownloadButton(interactive=False),
            self._keep: gr.Button(interactive=bool(session.edits)),
            self._empty: gr.HTML(visible=not session.edits),
            self._undo: _history_button(desk.can_undo),
            self._redo: _history_button(desk.can_redo),
            self._caption: caption(session, self._studio.noun),
            self.browser: self.kept(desk),
        }
        for index, slot in enumerate(self._slots):
            shown |= slot.updates(session, index, self._studio.regions)
        if desk.evicted:
            # The browser keeps its link to the face, for a reload.
            shown |= {self.status: message(f"{EVICTED} {_RELOAD}"), self.browser: gr.skip()}
            desk.evicted = "told"
        try:
            shown[self.pictures], shown[self._save_picture] = self.draw(desk, session)
            if (found := newest_found(session)) is not None:
                name = slug_of(found)
                file = desk.file("edit", f"{name}.zip", archive(found.edit, name))
                shown[self._save_edit] = gr.DownloadButton(value=file, interactive=True)
        except Exception as error:  # a visitor needs the widgets above to get out of it
            why = explain(error) if isinstance(error, REFUSALS) else "this is a bug in the page."
            logging.getLogger(__name__).warning("A session could not be rendered", exc_info=error)
            text = f"This cannot be rendered: {why} Undo, or remove the newest edit."
            shown[self.status] = message(text)
        return shown


def caption(session: Session, noun: str) -> str:
    """HTML that says what both pictures show: always for screen readers, visibly only for a text.

    The page's script takes the alternative texts of the pictures from its attributes.
    """
    before = f"The {noun} of seed {session.seed}"
    if session.text is not None:
        before = f"The {noun} for “{session.text}”"
    elif session.latents is not None:
        before = f"The {noun} that you started from"
    labels = [label_of(applied) for applied in session.edits]
    after = f"{before}, changed: {', '.join(labels)}" if labels else f"{before}, unchanged"
    text = f"<p>{plain(before)}</p>" if session.text is not None else ""
    return f'<div data-before="{attribute(before)}" data-after="{attribute(after)}">{text}</div>'


def _history_button(can_go: bool) -> gr.Button:
    """A button that looks unused while there is nowhere to go.

    It stays clickable: a change may be on its way, and otherwise it says that there is nothing.
    """
    return gr.Button(elem_classes=[] if can_go else ["spent"])


def _locked(widget: gr.Button | gr.Slider) -> gr.Button | gr.Slider:
    return type(widget)(interactive=False)
