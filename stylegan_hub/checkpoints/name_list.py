"""Reads a pickled list of names without running anything that is in the file.

Datasets for text-to-image networks keep the names of their training and test pictures as such a
list. Python's `pickletools` takes a pickle of any protocol apart into instructions and executes
none; here only those are followed that make texts, whole numbers and one flat list of them.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

from stylegan_hub.errors import ArtifactError, NotFoundError

_MAX_BYTES = 1 << 24  # a list of 24,000 names has less than half a million
_MARK = object()
_IGNORED = {"PROTO", "FRAME"}
_VALUES = {
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4",
}  # fmt: skip


def read_names(path: Path) -> list[str]:
    """The names in a pickled list of texts or whole numbers, as texts.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: it holds something else, is damaged or absurdly large.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a pickled list of names.")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes; a list of names has at most {_MAX_BYTES}. "
            "Is it another file?"
        )
    try:
        names = _follow(path.read_bytes())
    except ArtifactError as error:
        raise ArtifactError(f"{path} {error}") from error
    except (ValueError, LookupError, AttributeError) as error:
        raise ArtifactError(
            f"{path} is damaged or no pickle: {error}. Copy or download it again."
        ) from error
    if not isinstance(names, list) or not all(type(name) in (int, str) for name in names):
        raise ArtifactError(f"{path} holds no flat list of names. Is it another file?")
    return [str(name) for name in names]


def _follow(data: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[Any, Any] = {}

    def pop_to_mark() -> list[Any]:
        start = len(stack) - 1 - stack[::-1].index(_MARK)
        values = stack[start + 1 :]
        del stack[start:]
        return values

    for opcode, argument, position in pickletools.genops(data):
        name = opcode.name
        if name in _IGNORED:
            continue
        if name in _VALUES:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "LIST":
            stack.append(pop_to_mark())
        elif name == "APPEND":
            value = stack.pop()
            stack[-1].append(value)
        elif name == "APPENDS":
            values = pop_to_mark()
            stack[-1].extend(values)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "STOP":
            return stack.pop()
        else:
            raise ArtifactError(
                f"holds more than a list of names: the instruction {name} at byte {position}. "
                "Nothing was executed. Do not open this file with other tools unless you trust "
                "its source."
            )
    raise ArtifactError("ends too early. Copy or download it again.")
