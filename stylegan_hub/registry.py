"""Register everything that your own package can add: kinds of edits and methods.

    import stylegan_hub as hub

    @hub.register
    class Wave(hub.Edit): ...

    @hub.register
    class Discover(hub.Method): ...

A package can also name its classes as entry points of the groups "stylegan_hub.edits" (by kind) and
"stylegan_hub.methods" (by name); then it does not need to be imported first.
"""

from __future__ import annotations

from typing import Any, TypeVar

from stylegan_hub.edits import base
from stylegan_hub.methods import method

_Class = TypeVar("_Class", bound=type[Any])


def register(cls: _Class) -> _Class:
    """Register a kind of edit or a method. Use it as a class decorator.

    Raises:
        TypeError: the class is a subclass of neither `Edit` nor `Method`.
        ValueError: its name is missing, invalid or taken by another class.
    """
    if isinstance(cls, type) and issubclass(cls, base.Edit):
        return base.register(cls)
    if isinstance(cls, type) and issubclass(cls, method.Method):
        return method.register(cls)
    raise TypeError(f"Got {cls!r}; expected a subclass of Edit or of Method.")
