"""A search for an edit that runs in the background and can be watched and stopped."""

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
    """The report of a search that waits in line.

    Attributes:
        ahead: number of searches before it in the line.
    """

    ahead: int


class Search(Generic[Progress, Found]):
    """A search in its own thread.

    Iterate over it to watch its progress, then ask for the `result`. As a context manager, the
    search is stopped and has ended when the block is left in any way.

    Args:
        turns: the lock that it holds while it works; it lets others in whenever it reports.
        work: does the search, and reports its progress to the function that it is given.
        line: the line in which it waits before it works; None to begin immediately.

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

        # A daemon thread, so that shutting down the page does not wait for it.
        threading.Thread(target=run, name="search", daemon=True).start()

    def _wait(self, ahead: int) -> None:
        self._reports.put((Waiting(ahead),))

    def __iter__(self) -> Iterator[Progress | Waiting]:
        """Iterate over its reports until the search ends, successful or not."""
        while (report := self._reports.get()) is not None:
            yield report[0]

    def result(self) -> Found:
        """Wait for the result. Raises the search's error, or `Cancelled` after a stop."""
        return self._found.result()

    def stop(self) -> None:
        """End the search after its present step, or immediately if it waits in line."""
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
    """Lets a few searches work at a time; others wait in order of arrival and learn their place.

    Args:
        places: number of searches at a time.
        longest: maximum number of waiting searches.
    """

    def __init__(self, places: int = 2, longest: int = 16) -> None:
        self._changed = threading.Condition()
        self._free = places
        self._longest = longest
        self._waiting: list[threading.Event] = []

    def join(
        self, told: Callable[[int], None], stopped: threading.Event
    ) -> AbstractContextManager[None]:
        """Join the line now; entering the returned context waits for a place and keeps it.

        Args:
            told: called with the number of searches ahead, whenever it changes.
            stopped: once it is set, entering raises `Cancelled`; see `look`.

        Raises:
            BusyError: too many searches are waiting.
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
        """Let waiting searches check whether they were stopped."""
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

    With `threading.Lock`, a search that releases the lock between two steps would almost always get
    it back before a waiting thread wakes up.
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
        """Let waiting threads go first."""
        self.__exit__()
        self.__enter__()
