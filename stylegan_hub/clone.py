"""Where the page and the recipes are: at the root of a clone, or inside the installed package."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


def root() -> Path:
    """The folder that holds app.py, demo/, recipes/, docs/targets/ and requirements.txt.

    A wheel carries them in `_clone`, laid out as in a clone (`setup.py`).
    """
    package = Path(__file__).parent
    installed = package / "_clone"
    return installed if installed.is_dir() else package.parent


def run(script: str, arguments: Sequence[str]) -> NoReturn:
    """Run a script of the clone in place of this process, with its exit status.

    A process of its own would survive a signal that ends this one, as `kill` sends it. Windows
    cannot replace a process.

    Args:
        script: path from the root, "recipes/train.py".
    """
    command = [sys.executable, str(root() / script), *arguments]
    sys.stdout.flush()
    if os.name == "posix":
        os.execv(sys.executable, command)
    raise SystemExit(subprocess.run(command).returncode)
