"""A search for an edit, which runs beside the page and can be watched and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

from stylegan_hub.errors import BusyError
from stylegan_hub.steps import Cancelled

Progress = TypeVar("Progress")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Waiting:
    """What a search reports while it waits in line.

    Attributes:
        ahead: how many searches in the line come before it.
    """

    ahead: int


class Search(Generic[Progress, Found]):
    """A search in a thread of its own.

    Iterate to watch its progress, then ask for the `result`; as a context manager it is stopped
    and over when the block is left, however that happens.

    Args:
        turns: it has the turn while it works, and lets others in whenever it reports.
        work: searches, and reports its progress to the function it is given.
        line: where it waits before it works; None to begin at once.

    Raises:
        BusyError: the line is full.
    """

    def __init__(
        self,
        turns: Turns,
        work: Callable[[Callable[[Progress], None]], Found],
        line: Line | None = None,
    ) -> None:
        self._reports: SimpleQueue[tuple[Progress | Waiting] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._found: Future[Found] = Future()
        self._line = line
        place = nullcontext() if line is None else line.join(self._wait, self._stopped)

        def report(progress: Progress) -> None:
            self._reports.put((progress,))
            if self._stopped.is_set():
                raise Cancelled
            turns.pass_on()

        def run() -> None:
            try:
                with place, turns:
                    if self._stopped.is_set():
                        raise Cancelled
                    found = work(report)
                self._found.set_result(found)
            except BaseException as error:  # it is raised again where the result is asked for
                self._found.set_exception(error)
            finally:
                self._reports.put(None)

        # A daemon, so that a page that is shut down does not wait for it.
        threading.Thread(target=run, name="search", daemon=True).start()

    def _wait(self, ahead: int) -> None:
        self._reports.put((Waiting(ahead),))

    def __iter__(self) -> Iterator[Progress | Waiting]:
        """What it reports; ends with the search, whether it found something or not."""
        while (report := self._reports.get()) is not None:
            yield report[0]

    def result(self) -> Found:
        """What was found; waits for it. Raises what the search raised, `Cancelled` after a stop."""
        return self._found.result()

    def stop(self) -> None:
        """End the search after the step it is at; at once while it waits in line."""
        self._stopped.set()
        if self._line is not None:
            self._line.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        wait([self._found])


class Line:
    """Lets a few searches work at a time; others wait in order of arrival and know their place.

    Args:
        places: searches at a time.
        longest: searches that may wait.
    """

    def __init__(self, places: int = 2, longest: int = 16) -> None:
        self._changed = threading.Condition()
        self._free = places
        self._longest = longest
        self._waiting: list[threading.Event] = []

    def join(
        self, told: Callable[[int], None], stopped: threading.Event
    ) -> AbstractContextManager[None]:
        """Stand in line at once; what is returned waits for a place when entered, and keeps it.

        Args:
            told: is told how many come before, whenever that changes.
            stopped: once it is set, entering raises `Cancelled`; see `look`.

        Raises:
            BusyError: too many wait.
        """
        with self._changed:
            if len(self._waiting) >= self._free + self._longest:
                raise BusyError(
                    f"{self._longest} searches are waiting already.",
                    got=len(self._waiting) + 1 - self._free,
                    expected=self._longest,
                    remedy="Nothing was changed; try again in a few minutes.",
                )
            self._waiting.append(stopped)
        return self._place(told, stopped)

    def look(self) -> None:
        """Let those who wait look whether they were stopped."""
        with self._changed:
            self._changed.notify_all()

    @contextmanager
    def _place(self, told: Callable[[int], None], stopped: threading.Event) -> Iterator[None]:
        self._take_place(told, stopped)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _take_place(self, told: Callable[[int], None], stopped: threading.Event) -> None:
        said = None
        with self._changed:
            while (ahead := self._waiting.index(stopped)) or not self._free:
                if stopped.is_set():
                    break
                if ahead != said:
                    told(ahead)
                    said = ahead
                self._changed.wait()
            self._waiting.remove(stopped)
            self._changed.notify_all()
            if stopped.is_set():
                raise Cancelled
            self._free -= 1


class Turns:
    """A lock that serves in order of arrival.

    With `threading.Lock`, a search that lets go between two steps would nearly always win the lock
    back before anybody who waits for it wakes up.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next_ticket = 0
        self._serving = 0

    def __enter__(self) -> None:
        with self._changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._changed.wait_for(lambda: self._serving == ticket)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._serving += 1
            self._changed.notify_all()

    def pass_on(self) -> None:
        """Let those who wait go first."""
        self.__exit__()
        self.__enter__()
