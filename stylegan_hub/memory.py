"""Freed memory stays with the process: for programs that draw picture after picture on a CPU."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt, see its manual page
_MOST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library not to give freed memory back to the system at once.

    glibc fetches every large tensor anew and gives it back when it is freed, and the system clears
    each page again: a tenth of the time of drawing eight pictures of 128 px, a third where the
    system has no large pages. Kept, the next tensor takes its place; the most memory that a process
    takes stays about the same.

    For whole programs (recipes, the page, the command line), not for a library that is imported:
    it holds for everything in the process.

    Returns:
        Whether it could be done: with glibc on Linux, and not elsewhere, where nothing happens.
    """
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library
        return False
    return all([mallopt(_TRIM_THRESHOLD, _MOST), mallopt(_MMAP_MAX, 0)])
