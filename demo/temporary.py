"""Where gradio keeps files of visitors: a folder that nobody else on the machine may read.

Its own choice is one folder for all users of a machine. Whoever comes second cannot write there,
and the page stays empty.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from stylegan_hub.cache import is_private, user

VARIABLE = "GRADIO_TEMP_DIR"


def use_own_folder() -> str | None:
    """Let gradio use a folder of this user's own, unless the environment names one.

    It is the same at each start, so that what was left there is found and swept.

    Returns:
        What to tell, where the usual folder is not to be had.
    """
    if os.environ.get(VARIABLE):
        return None
    usual = Path(tempfile.gettempdir()) / f"stylegan-hub-{user()}"
    if is_private(usual):
        os.environ[VARIABLE] = str(usual)
        return None
    own = tempfile.mkdtemp(prefix=f"{usual.name}-")
    os.environ[VARIABLE] = own
    return f"{usual} is not this user's alone, so files of visitors are kept in {own}."
