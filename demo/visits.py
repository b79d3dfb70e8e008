"""Who a desk belongs to, and how long it is kept.

A browser keeps a random key, and under it this server keeps a `Desk`: for a day after the last
contact, photographs for half an hour. An open page is in contact. All of it is in memory and in a
folder that nobody else on the machine may read; a restart loses it.
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
from pathlib import Path

from demo.desk import SEEDS, Desk

HOUR = 3600.0
KEPT_HOURS = 24
PHOTOGRAPH_MINUTES = 30
_MOST = 5000  # browsers; of more, those that were away for the longest are forgotten
_SWEEP_SECONDS = 60.0
_PREFIX = "stylegan-hub-visits-"


@dataclass(frozen=True)
class Visit:
    """What a browser finds when it opens the page.

    Attributes:
        desk: with the key that the browser should keep from now on.
        is_back: whether it is the desk that the browser left.
    """

    desk: Desk
    is_back: bool


@dataclass(eq=False)
class Visits:
    """The desks of all browsers.

    Attributes:
        clock: seconds; what "now" is.
        parent: in which it makes its folder; the system's own for such when None.
        uploads: files that a browser sent and no desk took; they go when photographs do.
        seeds: of the faces to choose from at first.
        place: of the page among those of other pipelines, see `Pipelines.place_of`.
        id: names this start of the server.
        root: the folder with the files of all desks.
    """

    clock: Callable[[], float] = time.time
    parent: Path | None = None
    uploads: MutableSet[str] = field(default_factory=set)
    seeds: Sequence[int] = SEEDS
    place: str = ""
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
        """An empty desk, of nobody who could come back unless there is a key."""
        return Desk(clock=self.clock, key=key, root=self.root, born=self._watch, seeds=self.seeds)

    def open(self, key: object, page: str | None = None) -> Visit:
        """The desk under this key, or a new one under a new key.

        A key that is unknown is never taken: whoever guesses one gets an empty desk and cannot
        leave a key in wait for others.

        Args:
            key: what the browser keeps, whatever that is.
            page: that will show it, until it is said to `leave`.
        """
        with self._lock:
            desk = self._by_key.get(key) if isinstance(key, str) else None
            if is_back := desk is not None:
                self._by_key.move_to_end(desk.key or "")
            else:
                desk = self.new(secrets.token_hex(16))
                self._by_key[desk.key or ""] = desk
                while len(self._by_key) > _MOST:
                    _, oldest = self._by_key.popitem(last=False)
                    oldest.clear()
            self.enter(desk, page)
            return Visit(desk, is_back)

    def enter(self, desk: Desk, page: str | None) -> None:
        """This page shows the desk, until it is said to `leave`."""
        with self._lock:
            desk.last_contact = self.clock()
            if page is not None:
                desk.pages.add(page)
                self._by_page[page] = desk

    def of_channel(self, channel: str) -> Desk | None:
        """The desk with this channel, see `Desk.channel`."""
        with self._lock:
            return self._by_channel.get(channel)

    def leave(self, page: str | None) -> Desk | None:
        """This page is closed; the desk that it showed."""
        with self._lock:
            desk = self._by_page.pop(page or "", None)
            if desk is not None:
                desk.pages.discard(page or "")
                desk.last_contact = self.clock()
            return desk

    def forget(self, desk: Desk) -> None:
        """Delete all of a desk, and its key, at once."""
        with self._lock:
            self._by_key.pop(desk.key or "", None)
            desk.key = None
        desk.clear()

    def sweep(self) -> None:
        """Delete whatever has been kept for long enough."""
        now = self.clock()
        with self._lock:
            desks = [*self._all]
        for desk in desks:
            if desk.pages:
                desk.last_contact = now
            away = now - desk.last_contact
            if away > PHOTOGRAPH_MINUTES * 60:
                desk.forget_photographs()
            if away > KEPT_HOURS * HOUR:
                self.forget(desk)
        self._sweep_folders(now - PHOTOGRAPH_MINUTES * 60)

    def sweep_now_and_then(self) -> None:
        """Sweep from now on, for as long as anybody holds this."""
        _sweep_on(weakref.ref(self))

    def _sweep_folders(self, before: float) -> None:
        """Uploads that nobody took, and folders of servers that did not end well."""
        if self.root.exists():
            self.root.touch()  # it is in use
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
