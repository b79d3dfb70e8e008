"""The folder in which gradio keeps files of visitors; other users of the machine cannot read it.

Gradio's default is one folder for all users of a machine. The second user cannot write there, and
the page stays empty.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

VARIABLE = "GRADIO_TEMP_DIR"


def use_own_folder() -> str | None:
    """Make gradio use a folder of this user, unless the environment names one.

    The folder is the same at each start, so that old files are found and swept.

    Returns:
        A message if the usual folder cannot be used; else None.
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
    return f"{usual} does not belong to this user alone, so files of visitors are kept in {own}."


def _is_ours(folder: Path) -> bool:
    """Whether the folder exists or can be made, and is closed to other users."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if not hasattr(os, "getuid"):
        return stat.S_ISDIR(found.st_mode)
    is_private = found.st_uid == os.getuid() and not found.st_mode & 0o077
    return stat.S_ISDIR(found.st_mode) and is_private
