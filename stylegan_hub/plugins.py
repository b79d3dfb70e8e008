"""What installed packages add to this library, by their entry points."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def entry_points(group: str) -> tuple[metadata.EntryPoint, ...]:
    """The entry points of a group, read once: the files of all packages are searched for them."""
    return tuple(metadata.entry_points(group=group))
