"""The face that all tabs change: choose it, see it before and after, slide the edits on it.

The handlers take and return sessions, pictures and text; only `Stage` knows widgets.
"""

from __future__ import annotations

import io
import random
import tempfile
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo.components import for_screen, friendly, heading, message, png, to_save
from stylegan_hub.edits.base import Edit
from stylegan_hub.session import Applied, Session, Studio

FACES = 8
SLOTS = 8
"""Edits that the page has sliders for."""
FIRST = Session(seed=0)
WELCOME = "Pick a face, then say what should change or take an edit from the zoo."
_MAX_RANDOM_SEED = 99_999

_CHANGING = threading.Lock()  # of all desks: a desk must be copyable

Pair = tuple[Image.Image, Image.Image]

# Model calls take turns in the studio; a search must not hold up the sliders of others.
DRAWING = {"concurrency_id": "draw", "concurrency_limit": 4, "show_progress": "hidden"}
PRIVATE = {"api_visibility": "private"}


def random_seeds(count: int = FACES) -> list[int]:
    """Different seeds for faces to choose from."""
    return random.sample(range(_MAX_RANDOM_SEED + 1), count)


def choose(session: Session, seed: float | None) -> Session:
    """Another face; the edits stay on it.

    Raises:
        ValueError: a seed that is no whole number.
    """
    if seed is None or seed != int(seed):
        raise ValueError(f"Got seed {seed}; a face has a whole number from 0, such as 7.")
    return session.with_seed(int(seed))


def check_room(session: Session) -> None:
    """Raise `ValueError` unless the page has a slider for one more edit."""
    if len(session.edits) >= SLOTS:
        raise ValueError(
            f"Got one more than {SLOTS} edits, for which there are no sliders. Remove one, or "
            "keep the face as it is now and go on from there."
        )


def newest_by_words(session: Session) -> Applied | None:
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


@dataclass(frozen=True)
class Slot:
    """A place for an edit in the stack."""

    row: gr.Row
    slider: gr.Slider
    remove: gr.Button

    def updates(self, applied: Applied | None) -> dict[gr.blocks.Block, object]:
        """What the widgets of the slot become for this edit, or for none."""
        if applied is None:
            return {self.row: gr.Row(visible=False)}
        strength = applied.edit.strength
        slider = gr.Slider(
            # A strength from another place may lie outside of the range that the edit asks for.
            min(strength.min, applied.strength),
            max(strength.max, applied.strength),
            applied.strength,
            label=applied.label,
            step=max((strength.max - strength.min) / 80, 1e-3),
            interactive=True,
        )
        return {
            self.row: gr.Row(visible=True),
            self.slider: slider,
            self.remove: gr.Button(f"Remove {applied.label}", interactive=True),
        }


class Stage:
    """The current face and its edits: the session, and the widgets that show it.

    Attributes:
        desk: the user's `Desk`.
        pictures: before and after.
        status: a line of text about what happened last.
        stop: ends a search; shown while there is one.
        reset: everything as it was at first.
    """

    def __init__(self, studio: Studio) -> None:
        """The picture, and below it the stack of edits."""
        self._studio = studio
        self.desk = gr.State(Desk())
        with gr.Column(elem_id="view"):
            self.pictures = gr.ImageSlider(
                label="Before and after",
                show_label=False,
                elem_id="pictures",
                buttons=["fullscreen"],
                interactive=False,
            )
            with gr.Row(elem_id="progress"):
                self.status = gr.HTML(message(WELCOME))
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

    def build_chooser(self) -> None:
        """Faces to choose from."""
        heading("Choose a face")
        self._seeds = gr.State([])  # of the faces in the gallery
        self._faces = gr.Gallery(
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
            self._seed = gr.Number(FIRST.seed, label="Seed", precision=0, minimum=0, min_width=80)
            self._roll = gr.Button("Random face", size="md", min_width=80)
            self._more = gr.Button("Other faces", size="md", min_width=80)

    def wire(self, page: gr.Blocks) -> None:
        """What happens on clicks and slides; after all widgets are there."""
        studio, desk, seed, seeds = self._studio, self.desk, self._seed, self._seeds

        def pick(desk: Desk, seeds: list[int], event: gr.SelectData, request: gr.Request) -> int:
            set_seed(desk, seeds[event.index], request)
            return seeds[event.index]

        def set_seed(desk: Desk, seed: float | None, request: gr.Request) -> None:
            studio.stop(request.session_hash)
            with friendly():
                desk.change(lambda session: choose(session, seed))

        def set_strength(desk: Desk, index: int, strength: float) -> tuple[Pair, str]:
            with friendly():
                return self.draw(
                    desk.change(lambda session: session.with_strength(strength, index))
                )

        def remove(desk: Desk, index: int, request: gr.Request) -> None:
            studio.stop(request.session_hash)
            desk.change(lambda session: session.without_edit(index))

        def keep(desk: Desk, request: gr.Request) -> str:
            studio.stop(request.session_hash)
            with friendly():
                kept = studio.keep(desk.session)
            desk.change(lambda _: kept)
            return message("Kept. What you change next starts from this face.")

        def start_over(desk: Desk, request: gr.Request) -> tuple[int, str]:
            studio.stop(request.session_hash)
            return desk.change(lambda _: FIRST).seed, message(WELCOME)

        def halt(request: gr.Request) -> None:
            studio.stop(request.session_hash)

        last = {"trigger_mode": "always_last"}  # of many values of a slider, the newest counts
        page.load(lambda: list(range(FACES)), None, seeds, **PRIVATE).then(
            studio.faces, seeds, self._faces, **DRAWING, **PRIVATE
        )
        self.then_show(page.load(lambda: None, **PRIVATE))
        self._more.click(random_seeds, None, seeds, **PRIVATE).then(
            studio.faces, seeds, self._faces, **DRAWING, **PRIVATE
        )
        self.then_show(self._faces.select(pick, [desk, seeds], seed, **PRIVATE))
        self.then_show(seed.input(set_seed, [desk, seed], None, api_name="face", **last))
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
                **last,
                **DRAWING,
            )
            self.then_show(slot.remove.click(remove, [desk, index], None, **PRIVATE))
        self.then_show(self._keep.click(keep, desk, self.status, **PRIVATE))
        self.then_show(self.reset.click(start_over, desk, [seed, self.status], **PRIVATE))
        self.stop.click(halt, queue=False, **PRIVATE)
        page.unload(halt)

    def then_show(self, event: gr.events.Dependency) -> None:
        """After this event, whatever came of it, show the session."""
        # Events may come faster than pictures; the last one must be followed by one.
        last = {"trigger_mode": "always_last"}
        event.then(self._show, self.desk, self._shown, **last, **DRAWING, **PRIVATE)

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
    def locks(self) -> list[gr.components.Component]:
        """What must not be touched while a search is going to change the stack."""
        return [*(slot.slider for slot in self._slots), self._keep]

    def lock(self) -> dict[gr.components.Component, object]:
        """Updates that lock `locks`; showing the session opens them."""
        return {
            widget: gr.Slider(interactive=False)
            if isinstance(widget, gr.Slider)
            else gr.Button(interactive=False)
            for widget in self.locks
        }

    @property
    def _shown(self) -> list[Any]:
        widgets = [widget for s in self._slots for widget in (s.row, s.slider, s.remove)]
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
            shown |= slot.updates(session.edits[index] if index < len(session.edits) else None)
        if (found := newest_by_words(session)) is not None:
            name = found.slug
            file = to_save(self._save_edit, archive(found.edit, name), f"{name}.zip")
            shown[self._save_edit] = gr.DownloadButton(value=file, interactive=True)
        return shown

    @staticmethod
    def _slot() -> Slot:
        with gr.Row(visible=False, elem_classes="slot") as row:
            slider = gr.Slider(-2, 2, 1, step=0.05, label="Strength", buttons=[])
            remove = gr.Button("Remove", size="sm", scale=0, min_width=40, elem_classes="remove")
        return Slot(row, slider, remove)
