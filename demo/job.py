"""Work that continues when the page that started it is closed, and can be watched by another."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

Updates = Mapping[Any, Any]
"""The new state of each widget."""


class Job:
    """Updates of a page, made in a separate thread.

    Attributes:
        shown: all updates so far, the newest of each widget.
        error: the error that ended the work, if it failed.
        lasting: the widget whose newest update is kept by `forget`.
        was_seen: whether a page confirmed that it shows the end. The server may not know yet that a
            watching page was closed.
    """

    def __init__(
        self,
        updates: Iterator[Updates],
        after_each: Callable[[], None] = lambda: None,
        lasting: object = None,
    ) -> None:
        """Start at once.

        Args:
            updates: an iterator that does the work.
            after_each: called after each update.
        """
        self.shown: dict[Any, Any] = {}
        self.error: Exception | None = None
        self.lasting, self.was_seen = lasting, False
        self._count = 0
        self._is_over = False
        self._lock = threading.Lock()
        self._watchers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

        def work() -> None:
            try:
                for update in updates:
                    self._show(update)
                    after_each()
            except Exception as error:  # raised again in `watch`
                self.error = error
            finally:
                self._end()

        # Warnings find their page by the context of the event that started the work.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(work,), name="job", daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        """Whether the work has ended, for whatever reason."""
        return self._is_over

    def join(self, seconds: float) -> None:
        """Wait until the work has ended, at most this long."""
        self._thread.join(seconds)

    def held(self) -> object:
        """What it keeps in memory, for `Room`."""
        with self._lock:
            return {**self.shown}

    def forget(self) -> None:
        """Forget what was shown, since it may show a photograph, except the status at the end.

        Work that is not over keeps all of it, for the pages that watch it.
        """
        with self._lock:
            if self._is_over:
                self.shown = {k: v for k, v in self.shown.items() if k is self.lasting}
                if self.error is not None:  # its frames hold what the work was about
                    self.error = self.error.with_traceback(None)
                    self.error.__cause__ = self.error.__context__ = None

    async def watch(self) -> AsyncIterator[dict[Any, Any]]:
        """Yield all that is shown whenever it changes, until the work ends; raises its error.

        A late watcher starts with the current state, and a slow one misses some updates.
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
