"""The command `stylegan-hub`, with one module for each group of commands.

Libraries that take seconds to import are imported inside the commands, so that `--help` is fast.

Exit status: 0 if the command succeeded; 1 if the request cannot be fulfilled (there is no such
edit, the Hub refuses, the disk is full); 2 if the command line itself is wrong. Both kinds of error
print one message that says what to do, without a traceback.
"""

from __future__ import annotations

import os

# Set before torch is imported: threads that spin while they wait take cores from other programs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# In the order in which --help lists the commands.
# isort: off
from stylegan_hub.cli import edit, photos, pictures  # noqa: F401
from stylegan_hub.cli import many, export, page, train, zoo, doctor  # noqa: F401

# isort: on
from stylegan_hub.cli.console import main

__all__ = ["main"]
