"""The command `stylegan-hub`: one file for the commands of a kind.

Libraries that take seconds to import are imported inside the commands, so `--help` is quick.

Exit status: 0 when all went well; 1 when something that was asked for cannot be had (no such edit,
the Hub refuses, the disk is full); 2 when the command line itself makes no sense. Both errors come
as one message that says what to do, without a traceback.
"""

from __future__ import annotations

import os

# Before torch is imported: threads that spin while they wait take the cores from other programs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# In the order in which --help lists the commands.
# isort: off
from stylegan_hub.cli import edit, photos, pictures  # noqa: F401
from stylegan_hub.cli import many, export, page, train, zoo, doctor  # noqa: F401

# isort: on
from stylegan_hub.cli.console import main

__all__ = ["main"]
