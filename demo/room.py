"""A limit on the memory for the work of all visitors together.

Each desk is limited too (`desk.py`), but there may be thousands. If all of them together hold too
much, the work that was unused the longest is deleted: first that of closed pages, then that of open
ones. Its owner is told so (`Desk.evicted`). A desk whose search or training runs is left alone.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from stylegan_hub.edits.base import Edit

if TYPE_CHECKING:
    from demo.desk import Desk

LARGEST = 2 * 2**30
"""Limit in bytes for latents, edits, pictures and texts in memory, of all visitors together."""


class Room:
    """The memory for all desks; thread-safe.

    Args:
        largest: limit in bytes for all desks together.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self.largest = largest
        self._lock = threading.RLock()
        self._desks: weakref.WeakValueDictionary[int, Desk] = weakref.WeakValueDictionary()
        self._parts: dict[int, set[int]] = {}  # of each desk
        self._bytes: dict[int, int] = {}  # of each part
        self._holders: Counter[int] = Counter()  # of each part: desks may share an edit
        self._gone: deque[int] = deque()

    @property
    def total(self) -> int:
        """Bytes that all desks together held when each was last weighed."""
        with self._lock:
            self._remove_gone()
            return sum(self._bytes.values())

    def hold(self, desk: Desk) -> None:
        """Weigh a desk, and evict others while all together are too heavy.

        It must not be called with the lock of a desk held.
        """
        with self._lock:
            self._remove_gone()
            number = id(desk)
            if self._desks.get(number) is not desk:
                self._desks[number] = desk
                weakref.finalize(desk, self._gone.append, number).atexit = False
            self._weigh(number, parts(desk.held()))
            while self.total > self.largest and (other := self._longest_unused(desk)) is not None:
                other.evict()
                self._weigh(id(other), parts(other.held()))

    def _longest_unused(self, desk: Desk) -> Desk | None:
        heavy = [
            one
            for number, one in [*self._desks.items()]
            if one is not desk and not one.is_empty and not one.is_busy and self._parts.get(number)
        ]
        return min(heavy, key=lambda one: (bool(one.pages), one.last_used), default=None)

    def _weigh(self, number: int, found: dict[int, int]) -> None:
        before = self._parts.pop(number, set())
        self._holders.subtract(before)
        self._holders.update(found.keys())
        self._bytes |= found
        for part in before - found.keys():
            if not self._holders[part]:
                del self._holders[part], self._bytes[part]
        if found:
            self._parts[number] = {*found}

    def _remove_gone(self) -> None:
        while self._gone:
            number = self._gone.popleft()
            if number not in self._desks:  # else another desk has the number now
                self._weigh(number, {})


def parts(held: object) -> dict[int, int]:
    """The bytes of all tensors, pictures and texts in what a desk holds, by their addresses.

    Containers, dataclasses and edits are entered, and objects that say what they hold with a method
    `held`. Studios and networks are not: all visitors share them.
    """
    found: dict[int, int] = {}
    entered: set[int] = set()
    waiting: list[Any] = [held]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in entered:
            continue
        entered.add(id(one))
        if isinstance(one, Tensor):
            storage = one.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
        elif isinstance(one, Image.Image):
            found[id(one)] = one.width * one.height * len(one.getbands())
        elif isinstance(one, str | bytes | bytearray):
            found[id(one)] = len(one)
        elif isinstance(one, Edit):
            waiting.extend(one.tensors().values())
        elif isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, Sequence | set | frozenset):
            waiting.extend(one)
        elif callable(say := getattr(one, "held", None)):
            waiting.append(say())
        elif is_dataclass(one):
            waiting.extend(getattr(one, field.name) for field in fields(one))
    return found
