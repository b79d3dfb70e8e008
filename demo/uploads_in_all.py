"""What all visitors upload together may fill a part of the disk, and no more.

gradio bounds each file (`max_file_size`), but not how many there are. What is uploaded is swept
after a while (`Visits.sweep`), so a full folder has room again soon.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from demo.temporary import VARIABLE
from demo.visits import PHOTOGRAPH_MINUTES

LARGEST = 2 * 2**30
"""Bytes of all uploads together; a hundred and more of the largest ones."""
LEFT_FREE = 2**29
"""Bytes that uploads leave free on the disk."""


class UploadsInAll:
    """Middleware that refuses uploads while the folder of uploads, or its disk, is full.

    Args:
        app: what answers everything else.
        largest: bytes that the folder may hold.
        left_free: bytes that must be free on its disk.
    """

    def __init__(self, app: ASGIApp, largest: int = LARGEST, left_free: int = LEFT_FREE) -> None:
        self.app, self.largest, self.left_free = app, largest, left_free

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_upload = scope["type"] == "http" and scope["method"] == "POST"
        if is_upload and scope["path"].rstrip("/").endswith("/upload"):
            if not await run_in_threadpool(self._has_room):
                await refusal()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _has_room(self) -> bool:
        folder = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())
        if not folder.is_dir():
            return True  # gradio makes it with the first upload
        return (
            shutil.disk_usage(folder).free >= self.left_free and sum(sizes(folder)) < self.largest
        )


def sizes(folder: Path) -> Iterator[int]:
    """Bytes of each file below a folder, of those that are not deleted meanwhile."""
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                yield os.lstat(os.path.join(place, name)).st_size


def refusal() -> PlainTextResponse:
    """What is answered to an upload that there is no room for."""
    return PlainTextResponse(
        "This server has no room for another upload now. Uploads are deleted after "
        f"{PHOTOGRAPH_MINUTES} minutes, so try again later.",
        507,
        headers={"Retry-After": str(PHOTOGRAPH_MINUTES * 60)},
    )
