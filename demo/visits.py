"""Who a desk belongs to, and how long it is kept.

A browser keeps a random key, and under it this server keeps a `Desk`: for a day after the last
contact, photographs for half an hour. An open page stays in contact. Everything is in memory and in
a folder that other users of the machine cannot read; a restart deletes it. A desk without a key
belongs to a program and is kept for an hour, since the program cannot return to it. If all desks
together need too much memory, those unused the longest are emptied (`room.py`).
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, MutableSet, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from demo.desk import SEEDS, Desk
from demo.room import Room

if TYPE_CHECKING:
    from gradio.state_holder import StateHolder

HOUR = 3600.0
KEPT_HOURS = 24
PHOTOGRAPH_MINUTES = 30
_KEPT_HOURS_OF_PROGRAMS = 1
_MOST = 5000  # browsers; beyond that, those longest away are forgotten
_SWEEP_SECONDS = 60.0
_PREFIX = "stylegan-hub-visits-"
_ROOM = Room()


@dataclass(frozen=True)
class Visit:
    """What a browser gets when it opens the page.

    Attributes:
        desk: the desk, with the key that the browser should keep from now on.
        is_back: whether it is the desk that the browser left.
    """

    desk: Desk
    is_back: bool


@dataclass(eq=False)
class Visits:
    """The desks of all browsers.

    Attributes:
        clock: returns the current time in seconds.
        parent: the folder in which its own is made; None for the system's temporary folder.
        uploads: files that a browser sent and no desk took; deleted when photographs are.
        seeds: of the faces to choose from at first.
        place: the address of this page among those of other pipelines, see `Pipelines.place_of`.
        room: the memory for the desks; by default that of all pages of this server together.
        sessions: returns gradio's record of the values of all widgets in each open page, once the
            page is served; gradio itself would keep 10,000 of them, after the pages were closed.
        id: identifies this start of the server.
        root: the folder with the files of all desks.
    """

    clock: Callable[[], float] = time.time
    parent: Path | None = None
    uploads: MutableSet[str] = field(default_factory=set)
    seeds: Sequence[int] = SEEDS
    place: str = ""
    room: Room = _ROOM
    sessions: Callable[[], StateHolder | None] = lambda: None
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._by_key: OrderedDict[str, Desk] = OrderedDict()
        self._all: weakref.WeakSet[Desk] = weakref.WeakSet()
        self._by_page: dict[str, Desk] = {}
        self._by_channel: weakref.WeakValueDictionary[str, Desk] = weakref.WeakValueDictionary()
        self.root = Path(self.parent or tempfile.gettempdir()) / f"{_PREFIX}{self.id}"
        weakref.finalize(self, shutil.rmtree, self.root, ignore_errors=True)

    def new(self, key: str | None = None) -> Desk:
        """An empty desk; without a key, its owner cannot return to it."""
        return Desk(
            clock=self.clock,
            key=key,
            root=self.root,
            born=self._watch,
            grew=self.room.hold,
            seeds=self.seeds,
        )

    def open(self, key: object, page: str | None = None) -> Visit:
        """The desk with this key, or a new one with a new key.

        An unknown key is never accepted, so guessing one gives an empty desk, and a key cannot be
        planted for another visitor.

        Args:
            key: what the browser stored; untrusted.
            page: the page that will show it, until `leave` is called for it.
        """
        with self._lock:
            desk = self._by_key.get(key) if isinstance(key, str) else None
            if is_back := desk is not None:
                self._by_key.move_to_end(desk.key or "")
            else:
                desk = self.new(secrets.token_hex(16))
                self._by_key[desk.key or ""] = desk
                if len(self._by_key) > _MOST:
                    others = (one for one in self._by_key.values() if one is not desk)
                    self.forget(min(others, key=lambda one: (bool(one.pages), one.last_contact)))
            self.enter(desk, page)
            return Visit(desk, is_back)

    def enter(self, desk: Desk, page: str | None) -> bool:
        """Note that this page shows the desk, until `leave` is called for it.

        Returns:
            Whether that is news.
        """
        with self._lock:
            desk.touch()
            if page is None or self._by_page.get(page) is desk:
                return False
            desk.pages.add(page)
            self._by_page[page] = desk
            return True

    def of_channel(self, channel: str) -> Desk | None:
        """The desk with this channel, see `Desk.channel`."""
        with self._lock:
            return self._by_channel.get(channel)

    def leave(self, page: str | None) -> Desk | None:
        """Note that this page is closed; returns the desk that it showed."""
        with self._lock:
            desk = self._by_page.pop(page or "", None)
            if desk is not None:
                desk.pages.discard(page or "")
                desk.last_contact = self.clock()
            return desk

    def forget(self, desk: Desk) -> None:
        """Delete a desk with everything on it, and its key, at once."""
        with self._lock:
            self._by_key.pop(desk.key or "", None)
            desk.key = None
        desk.clear()

    def sweep(self) -> None:
        """Delete what has been kept long enough."""
        now = self.clock()
        with self._lock:
            desks = [*self._all]
        for desk in desks:
            if desk.pages:
                desk.last_contact = now
            away = now - desk.last_contact
            if away > PHOTOGRAPH_MINUTES * 60:
                desk.forget_photographs()
            hours = KEPT_HOURS if desk.key is not None else _KEPT_HOURS_OF_PROGRAMS
            if away > hours * HOUR:
                self.forget(desk)
            self.room.hold(desk)  # searches and trainings may have put something on it
        self._sweep_folders(now - PHOTOGRAPH_MINUTES * 60)
        self._sweep_sessions()

    def sweep_now_and_then(self) -> None:
        """Sweep regularly while this object is in use."""
        _sweep_on(weakref.ref(self))

    def _sweep_folders(self, before: float) -> None:
        """Delete uploads that no desk took, and folders of servers that crashed."""
        if self.root.exists():
            self.root.touch()  # marks it as in use
        for file in [*self.uploads]:
            with contextlib.suppress(FileNotFoundError):
                if Path(file).stat().st_mtime > before:
                    continue
                Path(file).unlink()
            self.uploads.discard(file)
        for folder in self.root.parent.glob(f"{_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                if folder.stat().st_mtime < before:
                    shutil.rmtree(folder, ignore_errors=True)

    def _sweep_sessions(self) -> None:
        """Forget what gradio keeps of pages that were closed, and of programs that may be gone.

        It shows photographs too. For a while, a closed page may only have lost its connection.
        """
        if (sessions := self.sessions()) is None:
            return
        with sessions.lock:
            for page, used in [*sessions.time_last_used.items()]:
                session = sessions.session_data.get(page)
                is_closed = session is None or session.is_closed
                minutes = PHOTOGRAPH_MINUTES if is_closed else 60 * _KEPT_HOURS_OF_PROGRAMS
                is_old = datetime.now() - used > timedelta(minutes=minutes)
                if is_old and page not in self._by_page:
                    sessions.session_data.pop(page, None)
                    del sessions.time_last_used[page]

    def _watch(self, desk: Desk) -> None:
        with self._lock:
            self._all.add(desk)
            self._by_channel[desk.channel] = desk


def _sweep_on(visits: weakref.ref[Visits]) -> None:
    if (found := visits()) is None:
        return
    timer = threading.Timer(_SWEEP_SECONDS, _sweep_on, [visits])
    timer.daemon = True
    timer.start()
    found.sweep()
