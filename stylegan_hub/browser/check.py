"""The self-test of an exported pipeline in headless Chromium, if it is installed."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylegan_hub.browser import tfjs
from stylegan_hub.browser.served import served
from stylegan_hub.errors import ArtifactError, NotFoundError

LIBRARY = Path(__file__).with_name("library")
_PAGE = Path(__file__).with_name("self_test")
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_FLAGS = (
    "--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
_SECONDS = 600


@dataclass(frozen=True)
class Compared:
    """One result of the browser, compared with Python's.

    Attributes:
        name: what was computed: "picture", "text", "edit afro-hair".
        difference: the largest difference from Python's result; for pictures in levels of 255.
        limit: the largest difference that counts as rounding.
    """

    name: str
    difference: float
    limit: float

    @property
    def passes(self) -> bool:
        """Whether the difference is only rounding."""
        return self.difference <= self.limit


@dataclass(frozen=True)
class Checked:
    """The result of checking an export in a browser.

    Attributes:
        backend: the backend in use: "wasm", "webgl" or "webgpu".
        milliseconds: time for a full-size picture.
        compared: all results of the self-test.
    """

    backend: str
    milliseconds: float
    compared: tuple[Compared, ...]

    @property
    def passes(self) -> bool:
        """Whether all results pass."""
        return all(one.passes for one in self.compared)


def chromium() -> str | None:
    """The path of Chromium on this machine; None if it is not installed."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def check(folder: str | Path, seconds: float = _SECONDS) -> Checked:
    """Run the self-test of an export in a browser.

    Args:
        folder: a folder that `export_web` wrote.
        seconds: time limit for the browser.

    Raises:
        NotFoundError: Chromium is not installed, or tf.js is missing and there is no npm to fetch
            it.
        ArtifactError: the browser cannot read the export, or does not answer in time.
    """
    program = chromium()
    if program is None:
        raise NotFoundError(
            "The export is complete, but it cannot be checked: Chromium is not installed. Install "
            "it to check the export (Debian: apt-get install chromium)."
        )
    tfjs.library()
    said: list[dict[str, Any]] = []
    done = threading.Event()

    def hear(body: bytes) -> None:
        said.append(json.loads(body))
        done.set()

    places = {"": _PAGE, "library/": LIBRARY, "tfjs/": tfjs.folder(), "pipeline/": Path(folder)}
    # Processes of the browser may live and write for a moment after it ends.
    profiles = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with served(places, hear) as address, profiles as profile:
        flags = [*_FLAGS, f"--user-data-dir={profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # otherwise Chromium refuses root; the page is our own
        browser = subprocess.Popen(
            [program, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            heard = done.wait(seconds)
        finally:
            browser.terminate()
            browser.wait()
    if not heard:
        raise ArtifactError(
            f"Chromium did not finish the self-test of {folder} within {seconds:g} seconds. Try "
            "again when the machine is less busy."
        )
    result = said[0]
    if "error" in result:
        raise ArtifactError(f"The browser cannot use {folder}. {result['error']}")
    compared = tuple(
        Compared(one["name"], math.inf if one["difference"] is None else one["difference"],
                 one["limit"])
        for one in result["compared"]
    )  # fmt: skip
    return Checked(result["backend"], result["milliseconds"], compared)
