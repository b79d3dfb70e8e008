"""Work that goes on when the page that started it is closed, and is watched by whoever comes."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

Updates = Mapping[Any, Any]
"""What widgets become, by widget."""


class Job:
    """Updates of a page, made in a thread of their own.

    Attributes:
        shown: all updates so far, the newest of each widget.
        error: what ended the work, if it failed.
        was_seen: whether a page said that it shows the end. A page that watches may be closed
            without the server's knowing it yet.
    """

    def __init__(
        self, updates: Iterator[Updates], after_each: Callable[[], None] = lambda: None
    ) -> None:
        """Begin at once.

        Args:
            updates: does the work while it is iterated.
            after_each: is called after each update.
        """
        self.shown: dict[Any, Any] = {}
        self.error: Exception | None = None
        self.was_seen = False
        self._count = 0
        self._is_over = False
        self._lock = threading.Lock()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

        def work() -> None:
            try:
                for update in updates:
                    self._show(update)
                    after_each()
            except Exception as error:  # it is raised again for whoever watches
                self.error = error
            finally:
                self._end()

        # Warnings find the page by the context of the event that started the work.
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(work,), name="job", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether the work has ended, in whatever way."""
        return self._is_over

    async def watch(self) -> AsyncIterator[dict[Any, Any]]:
        """All that is shown, whenever there is more, to the end of the work; raises its error.

        Who comes late begins with what is shown by now, and who is slow leaves some out.
        """
        watcher = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._watchers.add(watcher)
        seen = 0
        try:
            while True:
                watcher[1].clear()
                with self._lock:
                    count, is_over, shown = self._count, self._is_over, {**self.shown}
                if count > seen:
                    seen = count
                    yield shown
                elif is_over:
                    break
                else:
                    await watcher[1].wait()
        finally:
            with self._lock:
                self._watchers.discard(watcher)
        if self.error is not None:
            raise self.error

    def _show(self, update: Updates) -> None:
        with self._lock:
            self.shown |= update
            self._count += 1
            self._wake()

    def _end(self) -> None:
        with self._lock:
            self._is_over = True
            self._wake()

    def _wake(self) -> None:
        for loop, event in self._watchers:
            with contextlib.suppress(RuntimeError):  # the page's server is closed
                loop.call_soon_threadsafe(event.set)
