"""The self-test of an exported pipeline in a headless Chromium, where one is installed."""

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
    """One thing that the browser computed.

    Attributes:
        name: what it is: "picture", "text", "edit afro-hair".
        difference: the largest one from what Python computed; of pictures in levels of 255.
        limit: up to which it is rounding.
    """

    name: str
    difference: float
    limit: float

    @property
    def passes(self) -> bool:
        """Whether it is the same."""
        return self.difference <= self.limit


@dataclass(frozen=True)
class Checked:
    """What a browser made of an export.

    Attributes:
        backend: that computed: "wasm", "webgl" or "webgpu".
        milliseconds: of a whole picture.
        compared: everything of the self-test.
    """

    backend: str
    milliseconds: float
    compared: tuple[Compared, ...]

    @property
    def passes(self) -> bool:
        """Whether all of it is the same."""
        return all(one.passes for one in self.compared)


def chromium() -> str | None:
    """The Chromium of this machine, None where there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


def check(folder: str | Path, seconds: float = _SECONDS) -> Checked:
    """Compute the self-test of an export in a browser.

    Args:
        folder: that `export_web` wrote.
        seconds: after which the browser is given up.

    Raises:
        NotFoundError: no Chromium, or no tf.js and no npm to fetch it.
        ArtifactError: the browser cannot read the export, or says nothing.
    """
    program = chromium()
    if program is None:
        raise NotFoundError(
            "There is no Chromium on this machine to check the export with (Debian: apt-get "
            "install chromium). The export itself is complete."
        )
    tfjs.library()
    said: list[dict[str, Any]] = []
    done = threading.Event()

    def hear(body: bytes) -> None:
        said.append(json.loads(body))
        done.set()

    places = {"": _PAGE, "library/": LIBRARY, "tfjs/": tfjs.folder(), "pipeline/": Path(folder)}
    # Processes of the browser may outlive it by a moment, and write.
    profiles = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with served(places, hear) as address, profiles as profile:
        flags = [*_FLAGS, f"--user-data-dir={profile}"]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            flags.append("--no-sandbox")  # Chromium refuses root otherwise; the page is our own
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
        raise ArtifactError(f"The browser cannot use {folder}: {result['error']}")
    compared = tuple(
        Compared(one["name"], math.inf if one["difference"] is None else one["difference"],
                 one["limit"])
        for one in result["compared"]
    )  # fmt: skip
    return Checked(result["backend"], result["milliseconds"], compared)
