"""A search for an edit, which runs beside the page and can be watched and stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from queue import SimpleQueue
from types import TracebackType
from typing import Generic, Self, TypeVar

from stylegan_hub.steps import Cancelled

Progress = TypeVar("Progress")
Found = TypeVar("Found")


class Search(Generic[Progress, Found]):
    """A search in a thread of its own.

    Iterate to watch its progress, then ask for the `result`; as a context manager it is stopped
    and over when the block is left, however that happens.

    Args:
        turns: it has the turn while it works, and lets others in whenever it reports.
        work: searches, and reports its progress to the function it is given.
    """

    def __init__(
        self,
        turns: Turns,
        work: Callable[[Callable[[Progress], None]], Found],
    ) -> None:
        self._reports: SimpleQueue[tuple[Progress] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._found: Future[Found] = Future()

        def report(progress: Progress) -> None:
            self._reports.put((progress,))
            if self._stopped.is_set():
                raise Cancelled
            turns.pass_on()

        def run() -> None:
            try:
                with turns:
                    found = work(report)
                self._found.set_result(found)
            except BaseException as error:  # it is raised again where the result is asked for
                self._found.set_exception(error)
            finally:
                self._reports.put(None)

        # A daemon, so that a page that is shut down does not wait for it.
        threading.Thread(target=run, name="search", daemon=True).start()

    def __iter__(self) -> Iterator[Progress]:
        """What it reports; ends with the search, whether it found something or not."""
        while (report := self._reports.get()) is not None:
            yield report[0]

    def result(self) -> Found:
        """What was found; waits for it. Raises what the search raised, `Cancelled` after a stop."""
        return self._found.result()

    def stop(self) -> None:
        """End the search after the step it is at."""
        self._stopped.set()

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
