"""The menu of pipelines: each has a page at its own address, which is opened on request.

The first is at the address of the server. The others are loaded at the first visit, in a thread
beside the page, and stay loaded: the person who starts the server lists them, so there are few.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.routes import App

from demo.components import REFUSALS, explain, message, toast
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from demo.app import Page

PATH = "pipelines"
_SECONDS_BETWEEN_NEWS = 0.5
# Goes to the page of another pipeline, wherever this one is served.
_GO = f"""place => {{
  const own = window.gradio_config?.root ?? location.origin;
  const root = own.replace(/\\/{PATH}\\/[^/]*\\/?$/, '');
  const address = root + (place ? `/{PATH}/${{place}}/` : '/');
  if (window.goingTo === address) return;  // gradio can run this twice
  window.goingTo = address;
  addEventListener('pagehide', () => (window.goingTo = null), {{ once: true }});  // Back may return
  location.href = address;
}}"""


@dataclass(eq=False)
class Pipelines:
    """The pipelines that a server offers.

    Attributes:
        names: bundled names, folders or Hub ids; the first is at the server's own address.
        open_studio: loads a pipeline by its name.
        build: makes the page of a pipeline, at a place of `place_of`.
        options: of `mount_gradio_app`, for one page.
        app: the server, once it runs.
    """

    names: Sequence[str]
    open_studio: Callable[[str], Studio]
    build: Callable[[Studio, str], Page]
    options: Callable[[Page], dict[str, Any]]
    app: App | None = None
    _opening: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def place_of(self, name: str) -> str:
        """The last part of the address of a pipeline's page; empty for the first.

        Raises:
            ValueError: the pipeline is not offered.
        """
        if name not in self.names:
            offered = ", ".join(map(shown, self.names))
            raise ValueError(f"Got the pipeline {name[:100]!r}; this page offers {offered}.")
        index = [*self.names].index(name)
        slug = re.sub(r"[^a-z0-9]+", "-", shown(name).lower()).strip("-")[:40]
        return f"{slug}-{index}".strip("-") if index else ""

    async def open(self, name: str) -> AsyncIterator[str]:
        """Load a pipeline and serve its page; yields the elapsed time every half second.

        Raises:
            ValueError: the pipeline is not offered, or cannot be used; see `Studio.open`.
        """
        place = self.place_of(name)
        if not place:
            return
        task = self._opening.get(name)
        if task is None or (task.done() and task.exception() is not None):
            # A fresh context: in that of this event gradio builds no widgets, and the workers of
            # the new page's queue would inherit it.
            task = asyncio.create_task(self._serve(name, place), context=Context())
            self._opening[name] = task
        started = time.monotonic()
        while not task.done():
            seconds = time.monotonic() - started
            yield f"Loading {shown(name)} … {seconds:.0f} s"
            await asyncio.wait([task], timeout=_SECONDS_BETWEEN_NEWS)
        task.result()

    async def _serve(self, name: str, place: str) -> None:
        assert self.app is not None  # the request came from this server
        loop = asyncio.get_running_loop()
        page = await loop.run_in_executor(None, lambda: self.build(self.open_studio(name), place))
        gr.mount_gradio_app(self.app, page, f"/{PATH}/{place}", **self.options(page))
        self.app.router.routes.insert(0, self.app.router.routes.pop())  # before gradio's own routes
        page.run_startup_events()
        await page.run_extra_startup_events()

    def menu(self, place: str, status: gr.HTML) -> None:
        """Build the widgets on the page at this place; hidden if there is nothing to choose."""
        if len(self.names) < 2:
            return
        here = next(name for name in self.names if self.place_of(name) == place)
        choices = [(shown(name), name) for name in self.names]
        chosen = gr.Dropdown(
            choices,
            value=here,
            label="Pipeline",
            show_label=False,
            container=False,
            elem_id="pipeline",
        )
        target = gr.Textbox(visible="hidden", label="Its page")

        async def go(name: str) -> AsyncIterator[tuple[object, str | None]]:
            try:
                async for news in self.open(name):
                    yield message(news), None
                yield message(f"Opening {shown(name)} …"), self.place_of(name)
            except REFUSALS as error:
                raise gr.Error(toast(explain(error)), print_exception=False) from error

        quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        gone = chosen.input(go, chosen, [status, target], concurrency_limit=None, **quiet)
        gone.success(None, target, None, js=_GO, api_visibility="private")
        back = {"api_visibility": "private", "queue": False}
        gone.failure(
            lambda: (here, message("Nothing was changed.")), None, [chosen, status], **back
        )


def shown(name: str) -> str:
    """A pipeline's name for visitors; for a folder, its name without its path."""
    return Path(name).name if Path(name).is_absolute() or name.startswith(".") else name
