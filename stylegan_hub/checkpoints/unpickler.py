"""Reads pickles without running anything that is in them.

A pickle is a program for a small stack machine, and two of its instructions call whatever function
the file names. This machine knows the instructions of protocols 2 to 5 and a closed list of names
that occur in published checkpoints. Each of these stands for code *of this file* that makes a plain
value or an inert `Record`; nothing is ever imported, and the source text that NVIDIA's pickles
carry is skipped. Any other name is an error that says which, and where in the file.

It is written out, instead of restricting Python's own unpickler, because that one takes memory on
the file's word (lengths, memo indices) and can be made to recurse without end.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from stylegan_hub.checkpoints.tensors import STORAGE_DTYPES, Storage, StoredTensor, give_back
from stylegan_hub.errors import ArtifactError

_NEWEST_PROTOCOL = 5
_MAX_OPERATIONS = 500_000  # a published generator takes about 50,000
_MAX_DEPTH = 1000
_MAX_INTEGER_BYTES = 64
_MAX_TEXT = 1 << 16  # longer texts are source code, or bytes as protocol 2 writes them
_NUMERIC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
# Names on the way to a tensor that say nothing.
_STRUCTURE = {"state", "_modules", "_parameters", "_buffers", "storage"}


class Global(NamedTuple):
    """A class or function that the file names; only a name."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False)
class Record:
    """An object of a class that is not imported: its name and what the file says is in it."""

    name: str
    state: Any = None


@dataclass(eq=False)
class _Text:
    """A text too long to be a name, not decoded."""

    data: memoryview


@dataclass(eq=False)
class _Dtype:
    """A numeric type of numpy, filled by BUILD."""

    code: str


@dataclass
class Budget:
    """What one file may still cost, over all streams that are nested in it.

    Attributes:
        operations: instructions and copied items.
        copied: bytes.
    """

    operations: int
    copied: int

    @classmethod
    def of(cls, size: int) -> Budget:
        """For a file of so many bytes."""
        return cls(_MAX_OPERATIONS, size)

    def spend(self, operations: int = 0, copied: int = 0) -> None:
        """Count, or raise `ArtifactError`."""
        self.operations -= operations
        self.copied -= copied
        if self.operations < 0:
            raise ArtifactError(
                f"takes more than {_MAX_OPERATIONS} instructions to read; no published checkpoint "
                "does. It is damaged, or made to use up the machine"
            )
        if self.copied < 0:
            raise ArtifactError(
                "unpacks to more bytes than it has. It is damaged, or made to use up memory"
            )


Handler = Callable[..., Any]
PersistentLoad = Callable[[Any], Any]
NestedLoad = Callable[[memoryview | bytearray, Budget], Storage]


class Unpickler:
    """One pickle inside of a file.

    Args:
        data: the file, or the stream that the pickle is in.
        position: where the pickle starts.
        budget: of the file.
        nested: reads the torch streams that NVIDIA's pickles keep their numbers in; None inside
            such a stream, where only storages may be named.
        persistent_load: makes a storage of what the file says about it.

    Attributes:
        position: after `load`, where the pickle ended.
    """

    def __init__(
        self,
        data: memoryview | bytearray,
        position: int,
        budget: Budget,
        nested: NestedLoad | None = None,
        persistent_load: PersistentLoad | None = None,
    ) -> None:
        self.position = position
        self.unchecked: list[tuple[str, StoredTensor]] = []
        """Tensors whose storages came without data, with the place in the file they are at."""
        self._data = memoryview(data)
        self._budget = budget
        self._persistent_load = persistent_load
        self._handlers: Mapping[str, Handler | None] = _STORAGES
        if nested is not None:
            self._handlers = _STORAGES | _NAMES | _CALLS | {
                "_codecs.encode": self._encode,
                "builtins.set": self._set,
                "__builtin__.set": self._set,
                "torch.storage._load_from_bytes": lambda data: nested(data, budget),
                "torch._utils._rebuild_tensor_v2": self._tensor,
                "torch._utils._rebuild_tensor": self._tensor,
            }  # fmt: skip
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def load(self) -> Any:
        """What the pickle describes, of plain values, records and stored tensors.

        Raises:
            ArtifactError: a name that is not on the list, broken or absurd content; the message
                says where in the file.
        """
        try:
            while True:
                self._budget.spend(operations=1)
                code = self._take(1)[0]
                if code == _STOP:
                    return self._pop()
                operation = _OPERATIONS.get(code)
                if operation is None:
                    raise ArtifactError(
                        f"has the instruction {bytes([code])!r} at byte {self.position - 1}, which "
                        "pickles of protocol 2 to 5 of checkpoints do not have"
                    )
                operation(self)
        except ArtifactError as error:
            raise ArtifactError(f"{self.where()}{error}") from error
        except (TypeError, ValueError, LookupError, OverflowError, struct.error) as error:
            raise ArtifactError(
                f"{self.where()}is damaged at byte {self.position}: {error}"
            ) from error

    def where(self) -> str:
        """The names that lead to what is being read, "G_ema.mapping.w_avg: ", or nothing."""
        names = []
        start = 0
        for end in [*self._marks, len(self._stack)]:
            # A dict of one item is filled without a mark, so the outermost names may lie in a row;
            # after a mark, the last name is the key of what is being read.
            frame = self._stack[max(start, end - 12) : end]
            found = [item[:80] for item in frame if isinstance(item, str)]
            names += found if start == 0 else found[-1:]
            start = end
        names = [name for name in names if name not in _STRUCTURE][:20]
        return f"{'.'.join(names)}: " if names else ""

    # The machine

    def _take(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self._data):
            raise ArtifactError(
                f"is cut off: {count} bytes are announced at byte {self.position}, "
                f"{len(self._data) - self.position} are left. Download it again"
            )
        part = self._data[self.position : end]
        self.position = end
        return part

    def _unsigned(self, count: int) -> int:
        return int.from_bytes(self._take(count), "little")

    def _line(self) -> str:
        end = self.position
        while bytes(self._data[end : end + 1]) not in (b"\n", b"") and end - self.position < 256:
            end += 1
        text = bytes(self._take(end - self.position)).decode()
        self._take(1)
        return text

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ArtifactError("takes more values than there are: it is damaged")
        return self._stack.pop()

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise ArtifactError("ends a list that was not begun: it is damaged")
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _mark(self) -> None:
        if len(self._marks) >= _MAX_DEPTH:
            raise ArtifactError(f"is nested more than {_MAX_DEPTH} levels deep")
        self._marks.append(len(self._stack))

    def _number(self, count: int) -> None:
        self._push(int.from_bytes(self._take(count), "little", signed=count == 4))

    def _long(self) -> None:
        count = self._unsigned(1)
        if count > _MAX_INTEGER_BYTES:
            raise ArtifactError(f"has a whole number of {count} bytes")
        self._push(int.from_bytes(self._take(count), "little", signed=True))

    def _float(self) -> None:
        self._push(struct.unpack(">d", self._take(8))[0])

    def _text(self, count: int, encoding: str) -> None:
        data = self._take(self._unsigned(count))
        self._push(str(data, encoding) if len(data) <= _MAX_TEXT else _Text(data))

    def _bytes(self, count: int) -> None:
        self._push(self._take(self._unsigned(count)))

    def _tuple(self, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._push(tuple(reversed(values)))

    def _top(self, kind: type) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ArtifactError("takes more values than there are: it is damaged")
        if type(self._stack[-1]) is not kind:
            got = type(self._stack[-1]).__name__
            raise ArtifactError(f"adds items to a {got} as if it were a {kind.__name__}")
        return self._stack[-1]

    def _append(self, values: Sequence[Any]) -> None:
        self._top(list).extend(values)

    def _set_items(self, values: Sequence[Any]) -> None:
        if len(values) % 2:
            raise ArtifactError("has a key without a value")
        target = self._top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_key(key)] = value

    def _set_item(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _add_items(self) -> None:
        values = self._pop_to_mark()
        self._top(set).update(_key(value) for value in values)

    def _dict(self) -> None:
        values = self._pop_to_mark()
        self._push({})
        self._set_items(values)

    def _put(self, index: int) -> None:
        if not self._stack:
            raise ArtifactError("keeps a value that is not there: it is damaged")
        self._memo[index] = self._stack[-1]

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ArtifactError(f"refers to the value {index}, which is not there: it is damaged")
        self._push(self._memo[index])

    def _frame(self) -> None:
        size = self._unsigned(8)
        if size > len(self._data) - self.position:
            raise ArtifactError(
                f"is cut off: a part of {size} bytes is announced, "
                f"{len(self._data) - self.position} are left. Download it again"
            )

    def _protocol(self) -> None:
        if (protocol := self._unsigned(1)) > _NEWEST_PROTOCOL:
            raise ArtifactError(f"is a pickle of protocol {protocol}; known ones: 2 to 5")

    # Names and calls

    def _global(self) -> None:
        module = self._line()
        self._name(Global(module, self._line()))

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise ArtifactError("names something by what is no text: it is damaged")
        self._name(Global(module, name))

    def _name(self, name: Global) -> None:
        # A dotted name reaches through a harmless module ("torch", "serialization.os.system").
        if "." in name.name or str(name) not in self._handlers:
            hint = ""
            if "lelsd" in str(name).lower():
                hint = (
                    ". LELSD saves its whole trainer, which cannot be read safely. Where it was "
                    "trained, load it and export the direction with torch.save({'direction': "
                    "direction.detach().cpu()}, 'direction.pt'); that file can be converted"
                )
            raise ArtifactError(
                f"asks for {str(name)[:200]!r}, which is not on the closed list of names that are "
                f"read; nothing was executed. Do not open this file with other tools unless you "
                f"trust its source{hint}"
            )
        self._push(name)

    def _reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise ArtifactError("calls what is no function: it is damaged")
        handler = self._handlers[str(function)]
        if handler is None:
            raise ArtifactError(f"calls {function}, which is only a name here")
        self._push(handler(*arguments))

    def _build(self) -> None:
        state = self._pop()
        target = self._pop()
        if isinstance(target, _Dtype):
            order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
            if order not in ("<", ">", "|", "="):
                raise ArtifactError("describes a type of numpy that is not known")
            target.code = _numeric(f"{order}{target.code[-2:]}")
        elif isinstance(target, StoredTensor):
            _fill_array(target, state, self._budget)
        elif isinstance(target, Record):
            target.state = state
        elif not isinstance(target, dict):  # a dict with attributes, such as a state_dict
            raise ArtifactError(f"describes the inside of a {type(target).__name__}")
        self._push(target)

    def _persistent(self) -> None:
        if self._persistent_load is None:
            raise ArtifactError("refers to numbers outside of the pickle, which it does not have")
        self._push(self._persistent_load(self._pop()))

    # Objects that need the file's budget

    def _encode(self, text: Any, encoding: str) -> bytearray:
        # Protocol 2 has no bytes and writes them as a text.
        if encoding not in ("latin1", "latin-1"):
            raise ArtifactError(f"has bytes in the encoding {str(encoding)[:20]!r}")
        if isinstance(text, _Text):
            self._budget.spend(copied=len(text.data))
            decoded = bytearray(str(text.data, "utf-8"), "latin1")
            give_back(text.data)
            return decoded
        return bytearray(text, "latin1")

    def _set(self, items: Sequence[Any] = ()) -> set[Any]:
        self._budget.spend(operations=len(items))
        return {_key(item) for item in items}

    def _tensor(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
        if not isinstance(storage, Storage) or not isinstance(size, tuple | list):
            raise ArtifactError("describes a tensor without a storage or a size")
        tensor = StoredTensor(storage, offset, tuple(size), tuple(stride))
        tensor.check()
        if storage.data is None:
            self.unchecked.append((self.where(), tensor))
        return tensor


def _key(value: Any) -> Any:
    """A value by which one may look up: hashing a nested tuple can take forever."""
    if not isinstance(value, str | int | float | None):
        raise ArtifactError(f"uses a {type(value).__name__} as a key")
    return value


def _numeric(code: Any) -> str:
    if not isinstance(code, str) or not _NUMERIC.fullmatch(code):
        raise ArtifactError(f"has an array of the type {str(code)[:20]!r}; only numbers are read")
    return code


def _persistent_object(meta: Any) -> Record:
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise ArtifactError("has an object without a class name")
    return Record(meta["class_name"], meta.get("state"))  # module_src, a program, stays unread


def _scalar(dtype: Any, data: Any) -> Any:
    if not isinstance(dtype, _Dtype):
        raise ArtifactError("has a number of numpy without its type")
    return np.frombuffer(_buffer(data), _numeric(dtype.code), count=1)[0].item()


def _empty_array(*_: Any) -> StoredTensor:
    return StoredTensor.contiguous(Storage("<f4", 0, bytearray()), (0,))


def _fill_array(target: StoredTensor, state: Any, budget: Budget) -> None:
    if not isinstance(state, tuple) or len(state) != 5:
        raise ArtifactError("describes an array of numpy in an unknown way")
    _, shape, dtype, fortran, data = state
    if isinstance(data, str | _Text):  # as Python 2 wrote it
        budget.spend(copied=len(data if isinstance(data, str) else data.data))
    array = _array(data, dtype, shape, bool(fortran))
    target.storage, target.shape, target.stride = array.storage, array.shape, array.stride


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> StoredTensor:
    return _array(data, dtype, shape, order == "F")  # as protocol 5 writes arrays


def _array(data: Any, dtype: Any, shape: Any, fortran: bool) -> StoredTensor:
    if not isinstance(dtype, _Dtype):
        raise ArtifactError("has an array of numpy without its type")
    buffer = _buffer(data)
    storage = Storage(_numeric(dtype.code), 0)
    storage.numel = len(buffer) // storage.itemsize
    storage.fill(buffer)
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise ArtifactError("has an array whose shape is no row of whole numbers")
    tensor = StoredTensor.contiguous(storage, shape, fortran)
    tensor.check()
    if tensor.nbytes != len(buffer):
        raise ArtifactError(
            f"has an array of shape {list(shape)} ({tensor.nbytes} bytes) with {len(buffer)} bytes"
        )
    return tensor


def _buffer(data: Any) -> memoryview | bytearray:
    if isinstance(data, str):
        return bytearray(data, "latin1")
    if isinstance(data, _Text):
        return bytearray(data.data)
    if not isinstance(data, memoryview | bytearray):
        raise ArtifactError(f"has a {type(data).__name__} where bytes are expected")
    return data


def _new_dict() -> dict[Any, Any]:
    return {}  # takes no arguments, unlike dict


_STORAGES: dict[str, Handler | None] = {
    "collections.OrderedDict": _new_dict,
    **dict.fromkeys(STORAGE_DTYPES),
}
_NAMES: dict[str, Handler | None] = dict.fromkeys(
    ["numpy.ndarray", "torch.Size", "torch.device"]
    + [
        f"torch.{name}"
        for name in ("float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool")
    ]
)
_NUMPY = ("numpy.core", "numpy._core")  # numpy 1 and 2
_CALLS: dict[str, Handler | None] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "dnnlib.util.EasyDict": _new_dict,
    "dnnlib.tflib.network.Network": lambda: Record("dnnlib.tflib.network.Network"),
    "argparse.Namespace": lambda: Record("argparse.Namespace"),
    "builtins.bytes": lambda: bytearray(),
    "__builtin__.bytes": lambda: bytearray(),
    "numpy.dtype": lambda code, *_: _Dtype(_numeric(code)),
    **{f"{core}.multiarray.scalar": _scalar for core in _NUMPY},
    **{f"{core}.multiarray._reconstruct": _empty_array for core in _NUMPY},
    **{f"{core}.numeric._frombuffer": _array_from_buffer for core in _NUMPY},
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
    "torch.Size": lambda sizes: tuple(sizes),
    "torch.device": lambda *names: Record("torch.device"),
}

_STOP = ord(".")
_OPERATIONS: dict[int, Callable[[Unpickler], None]] = {
    0x80: Unpickler._protocol,
    0x95: Unpickler._frame,
    ord("("): Unpickler._mark,
    ord("0"): lambda machine: _discard(machine._pop()),
    ord("1"): lambda machine: _discard(machine._pop_to_mark()),
    ord("N"): lambda machine: machine._push(None),
    0x88: lambda machine: machine._push(True),
    0x89: lambda machine: machine._push(False),
    ord("K"): lambda machine: machine._number(1),
    ord("M"): lambda machine: machine._number(2),
    ord("J"): lambda machine: machine._number(4),
    0x8A: Unpickler._long,
    ord("G"): Unpickler._float,
    0x8C: lambda machine: machine._text(1, "utf-8"),
    ord("X"): lambda machine: machine._text(4, "utf-8"),
    0x8D: lambda machine: machine._text(8, "utf-8"),
    ord("U"): lambda machine: machine._text(1, "latin1"),
    ord("T"): lambda machine: machine._text(4, "latin1"),
    ord("C"): lambda machine: machine._bytes(1),
    ord("B"): lambda machine: machine._bytes(4),
    0x8E: lambda machine: machine._bytes(8),
    0x96: lambda machine: machine._bytes(8),
    ord(")"): lambda machine: machine._push(()),
    0x85: lambda machine: machine._tuple(1),
    0x86: lambda machine: machine._tuple(2),
    0x87: lambda machine: machine._tuple(3),
    ord("t"): lambda machine: machine._push(tuple(machine._pop_to_mark())),
    ord("]"): lambda machine: machine._push([]),
    ord("l"): lambda machine: machine._push(machine._pop_to_mark()),
    ord("a"): lambda machine: machine._append([machine._pop()]),
    ord("e"): lambda machine: machine._append(machine._pop_to_mark()),
    ord("}"): lambda machine: machine._push({}),
    ord("d"): Unpickler._dict,
    ord("s"): Unpickler._set_item,
    ord("u"): lambda machine: machine._set_items(machine._pop_to_mark()),
    0x8F: lambda machine: machine._push(set()),
    0x90: Unpickler._add_items,
    ord("q"): lambda machine: machine._put(machine._unsigned(1)),
    ord("r"): lambda machine: machine._put(machine._unsigned(4)),
    0x94: lambda machine: machine._put(len(machine._memo)),
    ord("h"): lambda machine: machine._get(machine._unsigned(1)),
    ord("j"): lambda machine: machine._get(machine._unsigned(4)),
    ord("c"): Unpickler._global,
    0x93: Unpickler._stack_global,
    ord("R"): Unpickler._reduce,
    0x81: Unpickler._reduce,  # NEWOBJ: makes an object of a class without calling __init__
    ord("b"): Unpickler._build,
    ord("Q"): Unpickler._persistent,
}


def _discard(_: Any) -> None:
    pass
