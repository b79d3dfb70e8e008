"""The face that all tabs change: choose it, see it before and after, slide the edits on it.

The handlers take and return sessions, pictures and text; only `Stage` knows widgets.
"""

from __future__ import annotations

import inspect
import io
import random
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from PIL import Image

from demo.components import (
    for_screen,
    friendly,
    heading,
    message,
    png,
    progress,
    thumbnails,
    to_save,
)
from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import EditStack, StackedEdit
from stylegan_hub.search import Found, Progress, Search
from stylegan_hub.session import Session, label_of, slug_of
from stylegan_hub.steps import Cancelled, Step
from stylegan_hub.studio import Studio

FACES = 8
SLOTS = 8
"""Edits that the page has sliders for."""
FIRST = Session(seed=0)
WELCOME = "Pick {}, then say what should change or take an edit from the zoo."
STOPPED = "Stopped; nothing was changed."
STACK_NAME = "face.safetensors"
_MAX_RANDOM_SEED = 99_999
_SECONDS_BETWEEN_PICTURES = 0.4

_CHANGING = threading.Lock()  # of all desks: a desk must be copyable

Pair = tuple[Image.Image, Image.Image]
Shown = TypeVar("Shown")

# Model calls take turns in the studio; a search must not hold up the sliders of others.
DRAWING = {"concurrency_id": "draw", "concurrency_limit": 4, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private"}
_SEARCHING = {"concurrency_id": "search", "concurrency_limit": 2, "show_progress": "hidden"}
_LAST = {"trigger_mode": "always_last"}  # of many values of a slider, the newest counts


@dataclass(frozen=True)
class Frame:
    """What the page shows at one moment of a search.

    Attributes:
        status: HTML.
        pictures: before and after; None leaves those that are there.
        found: the new edit, in the last frame.
        region: the part of the picture that it is shown in; None for all of it.
    """

    status: str
    pictures: Pair | None = None
    found: Edit | None = None
    region: str | None = None


def random_seeds(count: int = FACES) -> list[int]:
    """Different seeds for faces to choose from."""
    return random.sample(range(_MAX_RANDOM_SEED + 1), count)


def choose(session: Session, seed: float | None) -> Session:
    """Another face; the edits stay on it.

    Raises:
        ValueError: a seed that is no whole number.
    """
    if seed is None or seed != int(seed):
        raise ValueError(f"Got seed {seed}; expected a whole number from 0, such as 7.")
    return session.with_seed(int(seed))


def check_room(session: Session) -> None:
    """Raise `ValueError` unless the page has a slider for one more edit."""
    if len(session.edits) >= SLOTS:
        raise ValueError(
            f"Got one more than {SLOTS} edits, for which there are no sliders. Remove one, or "
            "keep what is there now and go on from that."
        )


def newest_found(session: Session) -> StackedEdit | None:
    """The edit that can be saved: the last one that was found here."""
    return next((applied for applied in reversed(session.edits) if applied.name is None), None)


def archive(edit: Edit, name: str) -> bytes:
    """The edit's folder as the bytes of a zip file, for `load_edit` after unpacking."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(buffer, "w") as bundle:
        folder = edit.save_pretrained(Path(scratch) / "edit")
        for file in sorted(folder.iterdir()):
            bundle.write(file, f"{name}/{file.name}")
    return buffer.getvalue()


def watched(
    search: Search[Progress, Found],
    show: Callable[[Progress], Shown | None],
    stopped: Callable[[], Shown],
) -> Generator[Shown, None, Found | None]:
    """What the page shows of a search while it runs; returns what was found.

        found = yield from watched(search, show, stopped)

    Args:
        search: is over when this is, however it ends.
        show: what of its progress is shown; None for nothing new.
        stopped: the last that is shown of a search that was stopped, which then found None.
    """
    with search:
        for reported in search:
            if (shown := show(reported)) is not None:
                yield shown
        try:
            return search.result()
        except Cancelled:
            yield stopped()
            return None


def pictured(
    started: float, before: Callable[[Step], Image.Image] | None
) -> Callable[[Step], Frame | None]:
    """For `watched`: shows the first step of a search, and others now and then.

    Args:
        started: `time.monotonic()` when it began.
        before: the picture to compare that of a step with; without it, pictures are not shown.
    """
    last = started

    def show(step: Step) -> Frame | None:
        nonlocal last
        if step.index > 1 and time.monotonic() - last <= _SECONDS_BETWEEN_PICTURES:
            return None
        last = time.monotonic()
        status = progress(step.index, step.total, started)
        if before is None or step.images is None:
            return Frame(status)
        (now,) = image_files.to_pil(step.images[:1])
        return Frame(status, (before(step), now))

    return show


def _places(regions: Sequence[str]) -> list[tuple[str, str]]:
    return [("Everywhere", ""), *((name, name) for name in regions)]


def limit(studio: Studio, desk: Desk, index: int, region: str) -> None:
    """Let an edit of the stack change this region only, or everything for an empty name.

    Raises:
        ValueError: no such edit or region; no parser.
    """
    if region:
        studio.region("", [region])
    change(desk, lambda stack: stack.with_region(index, region or None))


def save_stack(studio: Studio, session: Session) -> bytes:
    """The face and the edits on it as the bytes of one file, for `load_stack`."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / STACK_NAME
        studio.save_stack(session, path)
        return path.read_bytes()


def load_stack(studio: Studio, session: Session, path: str | Path) -> Session:
    """The face and the edits of a file that anybody may have made.

    Raises:
        ValueError: it is no such file, is damaged, or cannot be used here; too many edits.
    """
    try:
        loaded = studio.load_stack(session, path)
    except ValueError as error:  # where it lies here says nothing to who sent it
        raise ValueError(str(error).replace(str(path), Path(path).name)) from error
    if len(loaded.edits) > SLOTS:
        raise ValueError(
            f"Got a stack of {len(loaded.edits)} edits; this page has sliders for {SLOTS}. Take "
            "some out of it: EditStack.removed."
        )
    return loaded


def on_screen(pair: Pair) -> Pair:
    """Both pictures in the size in which the page shows them."""
    return for_screen(pair[0]), for_screen(pair[1])


@dataclass
class Desk:
    """Where one user's session lies.

    Several events of a user may be at work at once, and each would write back the session that it
    began with. So they share this place and say how the session changes.
    """

    session: Session = FIRST

    def change(self, how: Callable[[Session], Session]) -> Session:
        """The session changed, from what it is at this moment; `how` must be quick."""
        with _CHANGING:
            self.session = how(self.session)
            return self.session


def change(desk: Desk, how: Callable[[EditStack], EditStack]) -> Session:
    """The session with its stack changed, from what it is at this moment.

    Raises:
        ValueError: a place that the stack does not have, a strength that is no number.
    """
    return desk.change(lambda session: session.with_stack(how(session.stack)))


def in_any_case(event: gr.events.Dependency, *listener: Any, **options: Any) -> None:
    """Let something follow an event, whether it failed or not.

    In a browser, what is added by `then` does not follow an event that failed.
    """
    for after in (event.success, event.failure):
        after(*listener, **options)


@dataclass(frozen=True)
class Slot:
    """A place for an edit in the stack."""

    row: gr.Row
    slider: gr.Slider
    remove: gr.Button
    region: gr.Dropdown
    up: gr.Button
    down: gr.Button

    @property
    def widgets(self) -> list[gr.blocks.Block]:
        """All that `updates` changes."""
        return [self.row, self.slider, self.remove, self.region, self.up, self.down]

    def updates(
        self, session: Session, index: int, regions: Sequence[str]
    ) -> dict[gr.blocks.Block, object]:
        """What the widgets become for the edit in this place of the stack, or for none."""
        if index >= len(session.edits):
            return {self.row: gr.Row(visible=False)}
        applied = session.edits[index]
        label, strength = label_of(applied), applied.edit.strength
        slider = gr.Slider(
            # A strength from another place may lie outside of the range that the edit asks for.
            min(strength.min, applied.strength),
            max(strength.max, applied.strength),
            applied.strength,
            label=label,
            step=max((strength.max - strength.min) / 80, 1e-3),
            interactive=True,
        )
        region = applied.region or ""
        several = len(session.edits) > 1
        return {
            self.row: gr.Row(visible=True),
            self.slider: slider,
            self.region: gr.Dropdown(
                # A stack from a file may name several at once.
                _places([*regions, region] if region and region not in regions else regions),
                value=region,
                label=f"Where {label} shows",
                visible=bool(regions),
                interactive=True,
            ),
            self.up: gr.Button(f"Move {label} up", interactive=index > 0, visible=several),
            self.down: gr.Button(
                f"Move {label} down",
                interactive=index + 1 < len(session.edits),
                visible=several,
            ),
            self.remove: gr.Button(f"Remove {label}", interactive=True),
        }


@dataclass(frozen=True)
class _Search:
    """A search that a tab offers, see `Stage.add_search`."""

    start: gr.Button
    triggers: list[Callable[..., gr.events.Dependency]]
    run: Callable[..., Iterator[tuple[Any, ...]]]
    inputs: list[gr.components.Component]
    outputs: list[gr.components.Component]
    api_name: str


class Stage:
    """The current face and its edits: the session, and the widgets that show it.

    Attributes:
        desk: the user's `Desk`.
        seeds: those of the faces to choose from.
        pictures: before and after.
        status: a line of text about what happened last.
        stop: ends a search; shown while there is one.
        reset: everything as it was at first.
    """

    def __init__(self, studio: Studio) -> None:
        """The picture, and below it the stack of edits."""
        self._studio = studio
        self._welcome = WELCOME.format(studio.pipe.neutral)
        self._searches: list[_Search] = []
        self._changes: list[gr.events.Dependency] = []
        self._followers: list[tuple[Callable[..., Any], list[Any], list[Any]]] = []
        self.desk = gr.State(Desk())
        self.seeds = gr.State([])
        with gr.Column(elem_id="view"):
            self.pictures = gr.ImageSlider(
                label="Before and after",
                show_label=False,
                elem_id="pictures",
                buttons=["fullscreen"],
                interactive=False,
            )
            with gr.Row(elem_id="progress"):
                self.status = gr.HTML(message(self._welcome))
                self.stop = gr.Button("Stop", size="sm", scale=0, min_width=80, visible=False)
        with gr.Column(elem_id="stack"):
            self._slots = [self._slot() for _ in range(SLOTS)]
            with gr.Row(elem_id="actions"):
                self._save_picture = gr.DownloadButton("Save picture", size="md", min_width=80)
                self._save_edit = gr.DownloadButton(
                    "Save edit", size="md", min_width=80, interactive=False
                )
                self._keep = gr.Button("Keep", size="md", min_width=60, interactive=False)
                self.reset = gr.Button("Start over", size="md", min_width=80)
            with gr.Row(elem_id="files"):
                self._save_stack = gr.Button(
                    f"Save {studio.noun} and edits", size="md", min_width=120
                )
                self._load_stack = gr.UploadButton(
                    f"Load {studio.noun} and edits",
                    size="md",
                    min_width=120,
                    file_types=[".safetensors"],
                )
                # A browser saves what a button holds before the click; this one is clicked then.
                self._stack_file = gr.DownloadButton(
                    f"The file of {studio.noun} and edits", elem_id="stack-file", visible="hidden"
                )

    def build_chooser(self) -> None:
        """Faces to choose from."""
        studio = self._studio
        heading(f"Choose {studio.pipe.neutral}")
        self._faces = thumbnails("To choose from", "faces", 4)
        with gr.Row(elem_id="who"):
            self._seed = gr.Number(FIRST.seed, label="Seed", precision=0, minimum=0, min_width=80)
            self._label = self._classes()
            self._roll = gr.Button(f"Random {studio.noun}", size="md", min_width=80)
            self._more = gr.Button("Others", size="md", min_width=80)

    def _classes(self) -> gr.Dropdown | gr.State:
        """A choice of classes; for a generator without labels there is none, and no widget."""
        if not (count := self._studio.pipe.generator.config.c_dim):
            return gr.State(None)
        usual = self._studio.pipe.config.label
        chosen = usual if isinstance(usual, int) else 0
        return gr.Dropdown(list(range(count)), value=chosen, label="Class", min_width=80)

    def wire(self, page: gr.Blocks) -> None:
        """What happens on clicks and slides; after all widgets are there."""
        studio, desk, seed, seeds = self._studio, self.desk, self._seed, self.seeds
        label = self._label

        def pick(desk: Desk, seeds: list[int], event: gr.SelectData, request: gr.Request) -> int:
            set_seed(desk, seeds[event.index], request)
            return seeds[event.index]

        def set_seed(desk: Desk, seed: float | None, request: gr.Request) -> None:
            studio.stop(request.session_hash)
            with friendly():
                desk.change(lambda session: choose(session, seed))

        def set_label(desk: Desk, label: int, request: gr.Request) -> None:
            studio.stop(request.session_hash)
            desk.change(lambda session: replace(session, label=int(label), latents=None))

        def faces(seeds: list[int], label: int | None) -> list[Image.Image]:
            return studio.faces(seeds, label=label)

        def set_strength(desk: Desk, index: int, strength: float) -> tuple[Pair, str]:
            with friendly():
                return self.draw(change(desk, lambda stack: stack.with_strength(index, strength)))

        def remove(desk: Desk, index: int, request: gr.Request) -> None:
            studio.stop(request.session_hash)
            with friendly():
                change(desk, lambda stack: stack.removed(index))

        def set_region(desk: Desk, index: int, region: str) -> tuple[Pair, str]:
            with friendly():
                limit(studio, desk, index, region)
                return self.draw(desk.session)

        def move(desk: Desk, index: int, by: int) -> None:
            with friendly():
                change(desk, lambda stack: stack.moved(index, index + by))

        def save(desk: Desk) -> str:
            with friendly():
                data = save_stack(studio, desk.session)
            return to_save(self._stack_file, data, STACK_NAME)

        def load(desk: Desk, file: str | None, request: gr.Request) -> str:
            studio.stop(request.session_hash)
            with friendly():
                if file is None:
                    raise ValueError(f"Got no file; choose one such as {STACK_NAME}.")
                loaded = load_stack(studio, desk.session, file)
            count = len(desk.change(lambda _: loaded).edits)
            return message(f"Loaded {studio.pipe.neutral} with {count} edit{'s' * (count != 1)}.")

        def keep(desk: Desk, request: gr.Request) -> str:
            studio.stop(request.session_hash)
            with friendly():
                kept = studio.keep(desk.session)
            desk.change(lambda _: kept)
            return message("Kept. What you change next starts from here.")

        def start_over(desk: Desk, request: gr.Request) -> tuple[int, str]:
            studio.stop(request.session_hash)
            first = desk.change(lambda session: replace(FIRST, label=session.label))
            return first.seed, message(self._welcome)

        def halt(request: gr.Request) -> None:
            studio.stop(request.session_hash)

        page.load(lambda: list(range(FACES)), None, seeds, **PRIVATE).then(
            faces, [seeds, label], self._faces, **DRAWING, **PRIVATE
        )
        self.then_show(page.load(lambda: None, **PRIVATE))
        self._more.click(random_seeds, None, seeds, **PRIVATE).then(
            faces, [seeds, label], self._faces, **DRAWING, **PRIVATE
        )
        self.then_show(self._faces.select(pick, [desk, seeds], seed, **PRIVATE))
        self.then_show(seed.input(set_seed, [desk, seed], None, api_name="face", **_LAST))
        if isinstance(label, gr.Dropdown):
            chosen = label.input(set_label, [desk, label], None, api_name="label")
            self.then_show(chosen)
            chosen.success(faces, [seeds, label], self._faces, **DRAWING, **PRIVATE)
        self.then_show(
            self._roll.click(lambda: random_seeds(1)[0], None, seed, **PRIVATE).then(
                set_seed, [desk, seed], None, **PRIVATE
            )
        )
        for place, slot in enumerate(self._slots):
            index = gr.State(place)
            slot.slider.input(
                set_strength,
                [desk, index, slot.slider],
                self.drawn,
                api_name=f"strength_{place + 1}",
                **_LAST,
                **DRAWING,
            )
            if studio.regions:
                slot.region.input(
                    set_region,
                    [desk, index, slot.region],
                    self.drawn,
                    api_name=f"region_{place + 1}",
                    **DRAWING,
                )
            for button, by in ((slot.up, -1), (slot.down, 1)):
                self.then_show(button.click(move, [desk, index, gr.State(by)], None, **PRIVATE))
            self.then_show(slot.remove.click(remove, [desk, index], None, **PRIVATE))
        self.then_show(self._keep.click(keep, desk, self.status, **PRIVATE))
        self.then_show(self.reset.click(start_over, desk, [seed, self.status], **PRIVATE))
        saved = self._save_stack.click(
            save, desk, self._stack_file, api_name="save_stack", **DRAWING
        )
        saved.success(None, js="() => document.querySelector('#stack-file').click()", **PRIVATE)
        loaded = self._load_stack.upload(
            load, [desk, self._load_stack], self.status, api_name="load_stack", **DRAWING
        )
        loaded.failure(lambda: message("Nothing was changed."), None, self.status, **PRIVATE)
        self.then_show(loaded)
        self.stop.click(halt, queue=False, **PRIVATE)
        page.unload(halt)
        for search in self._searches:
            self._wire_search(search)
        for event in self._changes:
            for after in (event.success, event.failure):  # see `in_any_case`
                # Events may come faster than pictures; the last one must be followed by one.
                drawn = after(self._show, desk, self._shown, **_LAST, **DRAWING, **PRIVATE)
                for follow, inputs, outputs in self._followers:
                    drawn.success(follow, inputs, outputs, **_LAST, **DRAWING, **PRIVATE)

    def then_show(self, event: gr.events.Dependency) -> None:
        """After this event, whatever came of it, show the session."""
        self._changes.append(event)

    def follow(
        self,
        how: Callable[..., Any],
        inputs: list[gr.components.Component],
        outputs: list[gr.components.Component],
    ) -> None:
        """Call this whenever the session is shown anew, since what it draws is of the face."""
        self._followers.append((how, inputs, outputs))

    def add_search(
        self,
        start: gr.Button,
        triggers: list[Callable[..., gr.events.Dependency]],
        run: Callable[..., Iterator[tuple[Any, ...]]],
        inputs: Mapping[str, gr.components.Component],
        api_name: str,
        outputs: Sequence[gr.components.Component] = (),
    ) -> None:
        """Let events start a search; meanwhile no other can be started, and it can be stopped.

        Args:
            start: the button that starts it.
            triggers: the events.
            run: takes the desk, the inputs and the request; yields pictures, status and what the
                outputs become.
            inputs: a widget for each parameter of `run` between the desk and the request.

        Raises:
            ValueError: a parameter without a widget, or a widget without a parameter.
        """
        _, *names, _ = inspect.signature(run).parameters
        if set(names) != set(inputs):
            raise ValueError(f"Got widgets for {sorted(inputs)}; expected them for {names}.")
        widgets = [inputs[name] for name in names]
        self._searches.append(_Search(start, triggers, run, widgets, [*outputs], api_name))

    def show_frame(self, desk: Desk, frame: Frame) -> tuple[object, str]:
        """Take over what a frame of a search says; pictures and status for the page."""
        if (found := frame.found) is not None:
            desk.change(lambda session: session.with_found(found, frame.region))
        return on_screen(frame.pictures) if frame.pictures else gr.skip(), frame.status

    def _wire_search(self, search: _Search) -> None:
        starts = [other.start for other in self._searches]

        def busy() -> dict[gr.components.Component, object]:
            return {
                **{start: gr.Button(interactive=False) for start in starts},
                self.stop: gr.Button(visible=True),
                self.status: message("Waiting for a turn …"),
                **self._lock(),
            }

        def free() -> dict[gr.components.Component, object]:
            return {
                **{start: gr.Button(interactive=True) for start in starts},
                self.stop: gr.Button(visible=False),
            }

        event = gr.on(
            search.triggers,
            busy,
            None,
            [*starts, self.stop, self.status, *self._locks],
            queue=False,
            **PRIVATE,
        ).then(
            search.run,
            [self.desk, *search.inputs],
            [self.pictures, self.status, *search.outputs],
            api_name=search.api_name,
            **_SEARCHING,
        )
        event.failure(lambda: message("Nothing was changed."), None, self.status, **PRIVATE)
        in_any_case(event, free, None, [*starts, self.stop], queue=False, **PRIVATE)
        self.then_show(event)

    def draw(self, session: Session) -> tuple[Pair, str]:
        """Both pictures for the screen, and the file of the second one."""
        pair = self._studio.draw(session)
        file = to_save(self._save_picture, png(pair[1]), f"{session.title}.png")
        return on_screen(pair), file

    @property
    def drawn(self) -> list[gr.components.Component]:
        """Where `draw` belongs."""
        return [self.pictures, self._save_picture]

    @property
    def _locks(self) -> list[gr.components.Component]:
        """What must not be touched while a search is going to change the stack."""
        buttons = (button for s in self._slots for button in (s.up, s.down))
        return [*(slot.slider for slot in self._slots), *buttons, self._keep]

    def _lock(self) -> dict[gr.components.Component, object]:
        """Updates that lock `_locks`; showing the session opens them."""
        return {
            widget: gr.Slider(interactive=False)
            if isinstance(widget, gr.Slider)
            else gr.Button(interactive=False)
            for widget in self._locks
        }

    @property
    def _shown(self) -> list[Any]:
        widgets = [widget for slot in self._slots for widget in slot.widgets]
        return [*widgets, *self.drawn, self._save_edit, self._keep]

    def _show(self, desk: Desk) -> dict[gr.blocks.Block, object]:
        session = desk.session
        with friendly():
            pair, file = self.draw(session)
        shown: dict[gr.blocks.Block, object] = {
            self.pictures: pair,
            self._save_picture: file,
            self._save_edit: gr.DownloadButton(interactive=False),
            self._keep: gr.Button(interactive=bool(session.edits)),
        }
        for index, slot in enumerate(self._slots):
            shown |= slot.updates(session, index, self._studio.regions)
        if (found := newest_found(session)) is not None:
            name = slug_of(found)
            file = to_save(self._save_edit, archive(found.edit, name), f"{name}.zip")
            shown[self._save_edit] = gr.DownloadButton(value=file, interactive=True)
        return shown

    def _slot(self) -> Slot:
        icon = {"size": "sm", "scale": 0, "min_width": 40}
        with gr.Row(visible=False, elem_classes="slot") as row:
            slider = gr.Slider(-2, 2, 1, step=0.05, label="Strength", buttons=[])
            remove = gr.Button("Remove", **icon, elem_classes=["icon", "remove"])
            region = gr.Dropdown(
                _places(self._studio.regions),
                value="",
                label="Where",
                show_label=False,
                container=False,
                min_width=110,
                visible=bool(self._studio.regions),
                elem_classes="where",
            )
            up = gr.Button("Up", **icon, elem_classes=["icon", "up"])
            down = gr.Button("Down", **icon, elem_classes=["icon", "down"])
        return Slot(row, slider, remove, region, up, down)
