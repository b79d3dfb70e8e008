"""The folder in which gradio keeps files of visitors; other users of the machine cannot read it.

Gradio's default is one folder for all users of a machine. The second user cannot write there, and
the page stays empty.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from stylegan_hub.cache import is_private, user

VARIABLE = "GRADIO_TEMP_DIR"


def use_own_folder() -> str | None:
    """Make gradio use a folder of this user, unless the environment names one.

    The folder is the same at each start, so that old files are found and swept.

    Returns:
        A message if the usual folder cannot be used; else None.
    """
    if os.environ.get(VARIABLE):
        return None
    usual = Path(tempfile.gettempdir()) / f"stylegan-hub-{user()}"
    if is_private(usual):
        os.environ[VARIABLE] = str(usual)
        return None
    own = tempfile.mkdtemp(prefix=f"{usual.name}-")
    os.environ[VARIABLE] = own
    return f"{usual} does not belong to this user alone, so files of visitors are kept in {own}."
