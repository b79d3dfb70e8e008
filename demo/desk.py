"""One visitor's work: the face and its history, what the tabs found, and the files of both.

This module knows no widget and no page; `visits` decides who owns a desk and how long it is kept.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from PIL import Image

from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents
from stylegan_hub.session import Session

if TYPE_CHECKING:
    from demo.job import Job

Shown = TypeVar("Shown")

SEEDS = tuple(range(8))
"""How many faces there are to choose from at first, unless a page sets others."""
_MAX_STEPS = 100  # that can be undone
_GESTURE_SECONDS = 2.0
_QUALITY = 92
# Of pictures, and of files for the same button; no page shows older ones any more.
_MAX_PICTURES, _MAX_FILES = 64, 4
_MAX_PHOTOGRAPHS = 8  # uploads of a visitor; the photographs of older ones can no longer be edited
_MAX_BYTES = 64 << 20  # of edits and latents that can be undone; a file may hold a quarter of it


class Desk:
    """One visitor's work.

    Several events of a visitor may run at the same time, and each would write back the session
    that it started with. So they share this object, and pass a function that changes the session.

    Attributes:
        first: the face that a visitor sees first.
        session: the current face and the edits on it.
        key: the name under which the desk is found again; None if its owner cannot return to it.
        things: what the tabs found, by name.
        photographs: whatever shows real persons, by name; it is kept for a shorter time.
        job: the search that was started last.
        searched: the session when the last search was requested.
        halted: whether the visitor pressed Stop since then.
        pages: the pages that show this desk now.
        last_contact: the time when it was last known to be wanted, by `clock`.
        last_used: the time when it was last opened or changed.
        evicted: "untold" after the server deleted its work to make room, "told" once a page said
            so; empty otherwise, and after the next change.
        owner: identifies the desk in `Studio.search`.
        channel: a random word under which its rendered pictures are served.
    """

    def __init__(
        self,
        session: Session | None = None,
        clock: Callable[[], float] = time.time,
        key: str | None = None,
        root: Path | None = None,
        born: Callable[[Desk], None] = lambda desk: None,
        grew: Callable[[Desk], None] = lambda desk: None,
        seeds: Sequence[int] = SEEDS,
    ) -> None:
        """An empty desk, except for a session.

        Args:
            session: None for the face of the first seed, without edits.
            clock: returns the current time in seconds.
            root: the folder for its files; None for the system's temporary folder.
            born: called with this desk, and with each copy of it.
            grew: called with this desk after it may have become larger.
            seeds: of the faces to choose from at first.
        """
        self.first = Session(seed=seeds[0])
        self.session = self.searched = self.first if session is None else session
        self.key, self.clock = key, clock
        self.owner = secrets.token_hex(8)
        self.channel = secrets.token_hex(16)
        self.job: Job | None = None
        self.halted = False
        self.pages: set[str] = set()
        self.last_contact = self.last_used = clock()
        self.evicted: Literal["", "untold", "told"] = ""
        self._root, self._born, self._grew, self._seeds = root, born, grew, seeds
        self._lock = threading.RLock()
        self._home: Path | None = None
        self._empty()
        born(self)

    def _empty(self) -> None:
        self.things: dict[str, Any] = {}
        self.photographs: dict[str, Any] = {}
        self._past: list[Session] = []
        self._future: list[Session] = []
        self._gesture: Hashable = None
        self._moved_at = 0.0
        self._files: defaultdict[str, OrderedDict[Path, None]] = defaultdict(OrderedDict)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the faces to choose from."""
        return [*self.things.get("seeds", self._seeds)]

    # The session

    def change(self, how: Callable[[Session], Session], gesture: Hashable = None) -> Session:
        """Change the session; `how` gets the current one and must be quick.

        Args:
            gesture: changes of one gesture, such as dragging a slider, are undone together if they
                follow each other within seconds.
        """
        with self._lock:
            changed = how(self.session)
            now = self.touch()
            self.evicted = "" if self.evicted == "told" else self.evicted
            goes_on = (
                gesture is not None
                and gesture == self._gesture
                and now - self._moved_at < _GESTURE_SECONDS
            )
            if not goes_on and changed != self.session:
                self._past = _newest([*self._past, self.session])
                self._future = []
            self._gesture, self._moved_at = gesture, now
            self.session = changed
        self._grew(self)  # without the lock, since other desks may have to make room
        return changed

    def touch(self) -> float:
        """Note that it is used; returns the time."""
        self.last_contact = self.last_used = now = self.clock()
        return now

    def of_newest(self, how: Callable[[Session], Shown]) -> Shown:
        """What `how` makes of the session, made again if the session has changed meanwhile.

        Several events of a visitor may be rendering: an older picture must not arrive last.
        """
        while True:
            session = self.session
            shown = how(session)
            if self.session is session:
                return shown

    @property
    def can_undo(self) -> bool:
        """Whether there is a change to undo."""
        return bool(self._past)

    @property
    def can_redo(self) -> bool:
        """Whether there is a change that was undone and can be made again."""
        return bool(self._future)

    def undo(self) -> bool:
        """Return to the session before the last change; False if there is none."""
        with self._lock:
            return self._go(self._past, self._future)

    def redo(self) -> bool:
        """Return to the session that `undo` left; False if there is none."""
        with self._lock:
            return self._go(self._future, self._past)

    def _go(self, source: list[Session], target: list[Session]) -> bool:
        self._gesture = None
        self.touch()
        if not source:
            return False
        target.append(self.session)
        self.session = source.pop()
        return True

    # Files

    def picture(self, picture: Image.Image) -> str:
        """The path of a file of the picture, for a page to show; equal pictures share a file."""
        name = hashlib.blake2b(picture.tobytes() + repr(picture.size).encode(), digest_size=16)
        path = self._folder("pictures") / f"{name.hexdigest()}.jpg"
        with self._lock:
            if not path.exists():
                # WebP would be half as large, but take longer to write than the face to render.
                picture.convert("RGB").save(path, "JPEG", quality=_QUALITY, subsampling=0)
            self._remember("", path, _MAX_PICTURES)
        return str(path)

    def file(self, purpose: str, name: str, data: bytes) -> str:
        """The path of a new file of this name, for a visitor to save.

        Args:
            purpose: what it is for; older files for the same purpose are deleted in time.
        """
        path = Path(tempfile.mkdtemp(dir=self._folder("files"))) / name
        path.write_bytes(data)
        with self._lock:
            self._remember(purpose, path, _MAX_FILES)
        return str(path)

    def photo_file(self, purpose: str, name: str, data: bytes) -> str:
        """Like `file`, but it is kept only as long as `photographs` are."""
        path = Path(tempfile.mkdtemp(dir=self._folder("photographs"))) / name
        path.write_bytes(data)
        with self._lock:
            self._remember(f"photographs/{purpose}", path, _MAX_FILES)
        return str(path)

    def take_in(self, path: str | Path) -> Path:
        """Move an upload from the shared upload folder to the photographs; returns its new path.

        The oldest of too many are deleted.

        Raises:
            FileNotFoundError: the upload is gone.
        """
        new = self._moved_in(path)
        with self._lock:
            self._remember("photographs", new, _MAX_PHOTOGRAPHS)
        return new

    def take_in_all(
        self, name: str, files: Sequence[str | list[str] | None]
    ) -> list[str | list[str] | None]:
        """Files uploaded to several inputs, kept under a name until photographs are deleted.

        Files that were kept under this name before, and are not among them, are deleted.

        Returns:
            The kept files in the same order; after a reload they are shown again.

        Raises:
            FileNotFoundError: an upload is gone.
        """
        kept: list[str | list[str] | None] = [
            [str(self._moved_in(file)) for file in given]
            if isinstance(given, list)
            else given and str(self._moved_in(given))
            for given in files
        ]
        for old in _flat(self.photographs.get(name, [])) - _flat(kept):
            shutil.rmtree(Path(old).parent, ignore_errors=True)  # a folder of its own
        self.photographs[name] = kept
        return kept

    def _moved_in(self, path: str | Path) -> Path:
        if self._folder("photographs") in Path(path).parents:
            return Path(path)
        new = Path(tempfile.mkdtemp(dir=self._folder("photographs"))) / Path(path).name
        shutil.move(path, new)
        self.touch()
        return new

    def _folder(self, name: str) -> Path:
        """A folder of this desk, deleted with it; other users of the machine cannot read it."""
        with self._lock:
            if self._home is None:
                if self._root is not None:
                    self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._home = Path(tempfile.mkdtemp(dir=self._root))
                weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
            folder = self._home / name
            folder.mkdir(exist_ok=True)
            return folder

    def _remember(self, purpose: str, path: Path, most: int) -> None:
        files = self._files[purpose]
        files[path] = None
        files.move_to_end(path)
        while len(files) > most:
            old, _ = files.popitem(last=False)
            old.unlink(missing_ok=True)
            if purpose:  # it has a folder of its own
                shutil.rmtree(old.parent, ignore_errors=True)

    # Memory

    def held(self) -> list[Any]:
        """What it keeps in memory, for `Room`."""
        with self._lock:
            sessions = [self.session, self.searched, *self._past, *self._future]
            return [*sessions, {**self.things}, {**self.photographs}, self.job]

    @property
    def is_busy(self) -> bool:
        """Whether a search or a training works for it, which would fill it again."""
        is_searching = self.job is not None and not self.job.is_over
        return is_searching or any(one.is_on for one in [*self.things.get("made", {}).values()])

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing on it that `clear` would delete."""
        with self._lock:
            kept = self._past, self._future, self.things, self.photographs, self.job
            return self.session == self.first and not any(kept)

    def evict(self) -> None:
        """Delete everything to make room for others; its owner should be told."""
        self.clear()
        self.evicted = "untold"

    # The end

    def forget_photographs(self) -> None:
        """Delete whatever shows real persons; latents and edits stay.

        Pictures are deleted too, since some may show them; a returning visitor gets new ones.
        """
        with self._lock:
            self.photographs = {}
            if self.job is not None:
                self.job.forget()
            for making in [*self.things.get("made", {}).values()]:
                making.forget_pictures()
            if self._home is not None:
                for name in ("photographs", "pictures"):
                    shutil.rmtree(self._home / name, ignore_errors=True)

    def clear(self) -> None:
        """Delete everything; the desk is as new."""
        with self._lock:
            self.session = self.searched = self.first
            self.job = None
            self._empty()
            if self._home is not None:
                shutil.rmtree(self._home, ignore_errors=True)
                self._home = None

    def __deepcopy__(self, memo: object) -> Desk:
        """A new desk: gradio copies the first one for every user."""
        return Desk(self.session, self.clock, None, self._root, self._born, self._grew, self._seeds)


def _newest(sessions: list[Session]) -> list[Session]:
    """As many of the newest sessions as a desk keeps; at least one."""
    counted: set[int] = set()
    total = 0
    for count, session in enumerate(reversed(sessions[-_MAX_STEPS:])):
        for part in (session.latents, *(applied.edit for applied in session.edits)):
            if part is None or id(part) in counted:
                continue
            counted.add(id(part))
            tensors = [part.codes] if isinstance(part, Latents) else part.tensors().values()
            total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        if total > _MAX_BYTES:
            return sessions[-max(count, 1) :]
    return sessions[-_MAX_STEPS:]


def _flat(files: Sequence[str | list[str] | None]) -> set[str]:
    """All paths among the files of several inputs."""
    return {one for file in files for one in (file if isinstance(file, list) else [file]) if one}


def change(desk: Desk, how: Callable[[EditStack], EditStack], gesture: Hashable = None) -> Session:
    """Change the stack of the current session; see `Desk.change`.

    Raises:
        ValueError: an index that the stack does not have, a strength that is not a number.
    """
    return desk.change(lambda session: session.with_stack(how(session.stack)), gesture)
