"""Where gradio keeps files of visitors: a folder that nobody else on the machine may read.

Its own choice is one folder for all users of a machine. Whoever comes second cannot write there,
and the page stays empty.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

VARIABLE = "GRADIO_TEMP_DIR"


def use_own_folder() -> str | None:
    """Let gradio use a folder of this user's own, unless the environment names one.

    It is the same at each start, so that what was left there is found and swept.

    Returns:
        What to tell, where the usual folder is not to be had.
    """
    if os.environ.get(VARIABLE):
        return None
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    usual = Path(tempfile.gettempdir()) / f"stylegan-hub-{user}"
    if _is_ours(usual):
        os.environ[VARIABLE] = str(usual)
        return None
    own = tempfile.mkdtemp(prefix=f"{usual.name}-")
    os.environ[VARIABLE] = own
    return f"{usual} is not this user's alone, so files of visitors are kept in {own}."


def _is_ours(folder: Path) -> bool:
    """Whether the folder can be made, or is there and lets nobody else in."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(found.st_mode)
    is_private = found.st_uid == os.getuid() and not found.st_mode & 0o077
    return stat.S_ISDIR(found.st_mode) and is_private
