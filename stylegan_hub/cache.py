"""The folder where this user keeps what is built or downloaded once."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

CACHE: Final = "STYLEGAN_HUB_CACHE"
"""Environment variable that names the folder."""


def cache_folder() -> Path:
    """Where compiled kernels, measured speeds, tf.js and fetched models lie; it may not exist yet.

    It is the folder that `STYLEGAN_HUB_CACHE` names, else `stylegan_hub` in XDG_CACHE_HOME or
    ~/.cache. A user without a home folder gets one below the system's temporary files, which nobody
    else can read or write.

    Raises:
        PermissionError: the user has no home folder, and another one has taken that place.
    """
    if given := os.environ.get(CACHE):
        return Path(given)
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given).expanduser() / "stylegan_hub"
    try:
        return Path.home() / ".cache" / "stylegan_hub"
    except RuntimeError:  # neither HOME nor an entry for this user
        own = Path(tempfile.gettempdir()) / f"stylegan-hub-cache-{user()}"
        if is_private(own):
            return own
        raise PermissionError(
            f"This user has no home folder, and {own} is not this user's alone. Name a folder in "
            f"{CACHE}."
        ) from None


def user() -> str:
    """What tells this user from others in the name of a file."""
    return str(os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user"))


def is_private(folder: Path) -> bool:
    """Whether the folder can be made, or exists and is closed to all others."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(found.st_mode)
    is_own = found.st_uid == os.getuid() and not found.st_mode & 0o077
    return stat.S_ISDIR(found.st_mode) and is_own
