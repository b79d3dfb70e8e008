"""A limit on the uploads of all visitors together.

gradio limits the size of each file (`max_file_size`), but not their number. Uploads are swept after
a while (`Visits.sweep`), so a full folder soon has room again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from demo.visits import PHOTOGRAPH_MINUTES

LARGEST = 2 * 2**30
"""Limit in bytes for all uploads together; more than a hundred of the largest ones."""
LEFT_FREE = 2**26
"""Bytes that must stay free on the disk."""


class UploadsInAll:
    """Middleware that refuses uploads while the folder of uploads, or its disk, is full.

    Args:
        app: the application that answers all requests.
        largest: limit in bytes for the folder.
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
        folder = Path(get_upload_folder())
        if not folder.is_dir():
            return True  # gradio creates it with the first upload
        return (
            shutil.disk_usage(folder).free >= self.left_free and sum(sizes(folder)) < self.largest
        )


def sizes(folder: Path) -> Iterator[int]:
    """Sizes in bytes of all files below a folder; files deleted meanwhile are left out."""
    for place, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                yield os.lstat(os.path.join(place, name)).st_size


def refusal() -> PlainTextResponse:
    """The answer to an upload for which there is no room."""
    return PlainTextResponse(
        "This server has no room for another upload now. Uploads are deleted after "
        f"{PHOTOGRAPH_MINUTES} minutes, so try again later.",
        507,
        headers={"Retry-After": str(PHOTOGRAPH_MINUTES * 60)},
    )
