"""The sizes of this machine's caches."""

from __future__ import annotations

import re
from pathlib import Path

_SYSTEM = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
USUAL = {2: 2**19, 3: 2**23}
"""Bytes that most processors have at least, by cache level."""
_LEAST, _MOST = 2**16, 2**28


def cache_bytes(level: int, system: Path = _SYSTEM) -> int:
    """Bytes of the cache of a level, 2 or 3; `USUAL` if the system does not report it.

    If there is no third-level cache, the second-level one is used instead.

    Args:
        system: folder in which Linux describes the caches.
    """
    found: dict[int, int] = {}
    for folder in system.glob("index*"):
        try:
            kind = (folder / "type").read_text().strip()
            size = re.fullmatch(r"(\d+)([KMG])", (folder / "size").read_text().strip())
            if kind != "Instruction" and size is not None:
                found[int((folder / "level").read_text())] = int(size[1]) * _UNITS[size[2]]
        except (OSError, ValueError):
            continue
    size_found = found.get(level, found.get(2) if found else None)
    if size_found is None:
        return USUAL[level]
    return min(max(size_found, _LEAST), _MOST)
