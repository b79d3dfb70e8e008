"""Where the page and the recipes are: at the root of a clone, or inside the installed package."""

from __future__ import annotations

from pathlib import Path


def root() -> Path:
    """The folder that holds app.py, demo/, recipes/, docs/targets/ and requirements.txt.

    A wheel carries them in `_clone`, laid out as in a clone (`setup.py`).
    """
    package = Path(__file__).parent
    installed = package / "_clone"
    return installed if installed.is_dir() else package.parent
