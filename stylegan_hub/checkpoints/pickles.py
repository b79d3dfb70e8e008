"""Reads pickles without running anything that is in them.

A pickle is a program for a small stack machine, and two of its instructions call whatever function
the file names. So a file is first walked through (`scan`) with Python's `pickletools`, which takes
pickles apart and executes none: a name that is not in `NAMES`, an instruction that no checkpoint
needs, and whatever would make a reader take memory or time on the file's word are refused, with
the place in the file. Only then Python's own unpickler, or PyTorch's, makes values of it. Each name
leads to code *of this file* that makes a plain value, an array or an inert `Record`; nothing is
ever imported, and the source text that NVIDIA's pickles carry is skipped.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO, Any, Literal, NamedTuple, Protocol, TypeVar, cast

import numpy as np
from torch import Tensor

from stylegan_hub.errors import ArtifactError

Array = np.ndarray[Any, Any] | Tensor
"""A tensor of a file: part of the mapped file, or in memory. Not to be written to."""

MAX_INSTRUCTIONS = 500_000
"""Of a file; a published generator takes about 50,000."""
_MAX_DEPTH = 1000
_MAX_INTEGER = 1 << 512
_MAX_NAME = 1 << 10  # longer texts are source code, or bytes as protocol 2 writes them
_MAX_DIMENSIONS = 8
# What is a key of a dict is hashed, and to hash a tuple means to walk through all that is in it.
_MAX_TUPLE_DEPTH = 50
_MAX_TUPLE_ITEMS = 100_000
_NUMERIC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_NEWEST_PROTOCOL = 5

# Names on the way to a tensor that say nothing.
STRUCTURE = {
    "state", "_modules", "_parameters", "_buffers", "storage", "components", "variables"
}  # fmt: skip
_NEVER = {
    "INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "DUP", "FROZENSET",
    "NEXT_BUFFER", "READONLY_BUFFER",
}  # fmt: skip
_CALLS = {"REDUCE", "NEWOBJ"}
_CHANGES = {"BUILD", "APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"}
_KEYED = {
    "SETITEM": slice(1, None, 2), "SETITEMS": slice(1, None, 2), "DICT": slice(0, None, 2),
    "ADDITEMS": slice(1, None),
}  # fmt: skip
_GETS = {"GET", "BINGET", "LONG_BINGET"}
_PUTS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE",
    "BINUNICODE8",
}  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Record:
    """An object of a class that is not imported: its name and what the file says is in it."""

    name: str = ""
    state: Any = None

    def __init__(self, name: str = "", state: Any = None) -> None:
        self.name = name or self.name
        self.state = state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Reference(NamedTuple):
    """What a torch file says about numbers that lie outside of the pickle."""

    dtype: str
    """As in `STORAGES`."""
    key: str
    numel: int

    @property
    def nbytes(self) -> int:
        """How many bytes there should be."""
        return self.numel * np.dtype(_BITS.get(self.dtype, self.dtype)).itemsize


@dataclass
class Budget:
    """How many instructions one file may still take, over all pickles that are in it."""

    instructions: int = field(default_factory=lambda: MAX_INSTRUCTIONS)

    def spend(self) -> None:
        """Count one, or raise `ArtifactError`."""
        self.instructions -= 1
        if self.instructions < 0:
            raise ArtifactError(
                f"takes more than {MAX_INSTRUCTIONS} instructions to read; no published checkpoint "
                "does. It is damaged, or made to use up the machine"
            )


class Stream(Protocol):
    """What pickles are read from: a file, a mapped file, bytes."""

    def read(self, count: int = ..., /) -> bytes:
        """Bytes from the position on."""

    def readline(self) -> bytes:
        """Bytes to the end of a line."""

    def seek(self, position: int, whence: Literal[0, 1, 2] = ..., /) -> Any:
        """Move the position."""

    def tell(self) -> int:
        """The position."""


PersistentLoad = Callable[[Any], Any]


def load(
    stream: Stream,
    names: Mapping[str, Any],
    budget: Budget,
    persistent_load: PersistentLoad | None = None,
) -> Any:
    """What the pickle at the stream's position describes; the stream is after it then.

    Args:
        names: what the file may name, `NAMES` or fewer, and what stands for it.
        persistent_load: makes a storage of what the file says about it; None where there are none.

    Raises:
        ArtifactError: a name that is not on the list, broken or absurd content; the message says
            where in the file.
    """
    start = stream.tell()
    scan(stream, names.keys(), budget)
    stream.seek(start)
    try:
        return _Unpickler(stream, names, budget, persistent_load).load()
    except Exception as error:  # of any function that is called on values of the wrong kind
        what = str(error)
        if not isinstance(error, ArtifactError):
            what = f"is damaged near byte {stream.tell()}: {what}. Download it again"
        raise ArtifactError(f"{_where(stream, start, names.keys())}{what}") from error


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        stream: Stream,
        names: Mapping[str, Any],
        budget: Budget,
        persistent_load: PersistentLoad | None,
    ) -> None:
        super().__init__(stream, encoding="latin1")  # for the texts of Python 2
        self._names, self._budget, self._find = names, budget, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        found = self._names[f"{module}.{name}"]
        return partial(found, budget=self._budget) if found is stored_numbers else found

    def persistent_load(self, reference: Any) -> Any:
        if self._find is None:
            raise ArtifactError("refers to numbers outside of the pickle, which it does not have")
        return self._find(reference)


# Walking through


class _Name(str):
    """A class or function that the file names."""


class _Tuple(NamedTuple):
    items: tuple[Any, ...]
    size: int  # items, those of tuples inside included
    depth: int

    @classmethod
    def of(cls, items: Sequence[Any]) -> _Tuple:
        inside = [item for item in items if isinstance(item, _Tuple)]
        size = len(items) + sum(item.size for item in inside)
        depth = 1 + max((item.depth for item in inside), default=0)
        if size > _MAX_TUPLE_ITEMS or depth > _MAX_TUPLE_DEPTH:
            raise ArtifactError(f"has tuples inside of tuples, {depth} deep and {size} items large")
        return cls(tuple(items), size, depth)


_ANYTHING = object()  # lists, dicts, objects, long texts


@dataclass
class _Walk:
    names: Collection[str]
    end: int
    """Length of the stream."""
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    references: dict[str, Reference] = field(default_factory=dict)

    def step(self, opcode: pickletools.OpcodeInfo, argument: Any, position: int) -> None:
        """Follow one instruction.

        Args:
            position: of the instruction in the stream.
        """
        name = opcode.name
        if name in _NEVER:
            raise ArtifactError(
                f"has the instruction {opcode.code.encode('latin1')!r} at byte {position}, "
                f"{name}, which checkpoints do not have"
            )
        if name == "FRAME" and position + 9 + argument > self.end:
            raise ArtifactError(
                f"is cut off: a part of {argument} bytes is announced, {self.end - position - 9} "
                "are left. Download it again"
            )
        if name == "PROTO" and argument > _NEWEST_PROTOCOL:
            raise ArtifactError(f"is a pickle of protocol {argument}; known ones: 0 to 5")
        if name == "MARK":
            if len(self.marks) >= _MAX_DEPTH:
                raise ArtifactError(f"is nested more than {_MAX_DEPTH} levels deep")
            self.marks.append(len(self.stack))
        elif name in _PUTS:
            self.put(len(self.memo) if name == "MEMOIZE" else argument)
        elif name in _GETS:
            if argument not in self.memo:
                raise ArtifactError(f"refers to the value {argument}, which is not there")
            self.stack.append(self.memo[argument])
        elif name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            taken = self.take(opcode)
            self.stack += [self.made(name, argument, taken)] * len(opcode.stack_after)

    def take(self, opcode: pickletools.OpcodeInfo) -> list[Any]:
        before = opcode.stack_before
        items: list[Any] = []
        count = len(before)
        if pickletools.markobject in before:
            if not self.marks:
                raise ArtifactError("ends a list that was not begun: it is damaged")
            start = self.marks.pop()
            items, self.stack[start:] = self.stack[start:], []
            count = before.index(pickletools.markobject)
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ArtifactError("takes more values than there are: it is damaged")
        start = len(self.stack) - count
        taken, self.stack[start:] = self.stack[start:], []
        return taken + items

    def put(self, index: int) -> None:
        # Memory for the memo is taken by the largest index.
        if not self.stack or index > MAX_INSTRUCTIONS:
            raise ArtifactError(f"keeps a value that is not there, or as number {index}")
        self.memo[index] = self.stack[-1]

    def made(self, name: str, argument: Any, taken: list[Any]) -> Any:
        if name in _VALUES:
            if isinstance(argument, int) and abs(argument) > _MAX_INTEGER:
                raise ArtifactError(f"has a whole number of {argument.bit_length() // 8} bytes")
            is_long = isinstance(argument, str) and len(argument) > _MAX_NAME
            return _ANYTHING if is_long else argument
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if "TUPLE" in name:
            return _Tuple.of(taken)
        if name == "GLOBAL":
            return self.named(*argument.split(" ", 1))
        if name == "STACK_GLOBAL":
            if not all(isinstance(part, str) for part in taken):
                raise ArtifactError("names something by what is no text: it is damaged")
            return self.named(*taken)
        if name == "BINPERSID":
            reference = parse_reference(taken[0].items if isinstance(taken[0], _Tuple) else None)
            if self.references.setdefault(reference.key, reference) != reference:
                raise ArtifactError(f"describes the storage {reference.key!r} in two ways")
        elif name in _CALLS:
            if not isinstance(taken[0], _Name) or not isinstance(taken[1], _Tuple):
                raise ArtifactError("calls what is no function: it is damaged")
        elif name in _CHANGES and isinstance(taken[0], _Name):
            raise ArtifactError(f"changes the function {taken[0]}")
        elif name in _KEYED and any(isinstance(k, _Tuple) for k in taken[_KEYED[name]]):
            raise ArtifactError("uses a tuple as a key")
        return _ANYTHING

    def named(self, module: str, name: str) -> _Name:
        whole = f"{module}.{name}"
        # A dotted name reaches through a harmless module ("torch", "serialization.os.system").
        if "." in name or whole not in self.names:
            hint = ""
            if "lelsd" in whole.lower():
                hint = (
                    ". LELSD saves its whole trainer, which cannot be read safely. Where it was "
                    "trained, load it and export the direction with torch.save({'direction': "
                    "direction.detach().cpu()}, 'direction.pt'); that file can be converted"
                )
            raise ArtifactError(
                f"asks for {whole[:200]!r}, which is not on the closed list of names that are "
                f"read; nothing was executed. Do not open this file with other tools unless you "
                f"trust its source{hint}",
                got=whole,
                expected="a name on the closed list",
            )
        return _Name(whole)

    def where(self) -> str:
        """The names that lead to what is being read, "G_ema.mapping.w_avg: ", or nothing."""
        names: list[str] = []
        start = 0
        for end in [*self.marks, len(self.stack)]:
            # A dict of one item is filled without a mark, so the outermost names may lie in a row;
            # after a mark, the last name is the key of what is being read.
            frame = self.stack[max(start, end - 12) : end]
            found = [item[:80] for item in frame if type(item) is str]
            names += found if start == 0 else found[-1:]
            start = end
        names = [name for name in names if name not in STRUCTURE][:20]
        return f"{'.'.join(names)}: " if names else ""


def scan(stream: Stream, names: Collection[str], budget: Budget) -> dict[str, Reference]:
    """Walk through the pickle at the stream's position; the stream is after it then.

    Returns:
        The storages that the pickle refers to, by their key.

    Raises:
        ArtifactError: as `load`.
    """
    walk = _Walk(names, _length(stream))
    try:
        for opcode, argument, position in pickletools.genops(cast(IO[bytes], stream)):
            budget.spend()
            if opcode.name == "STOP":
                walk.take(opcode)
                break
            walk.step(opcode, argument, position or 0)
    except ArtifactError as error:
        raise ArtifactError(
            f"{walk.where()}{error}", got=error.got, expected=error.expected
        ) from error
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        is_short = "remain" in str(error) or "exhausted" in str(error)
        raise ArtifactError(
            f"{walk.where()}is {'cut off' if is_short else 'damaged'}: {str(error)[:200]}, at byte "
            f"{stream.tell()}. Download it again"
        ) from error
    return walk.references


def _length(stream: Stream) -> int:
    start = stream.tell()
    stream.seek(0, 2)
    length = stream.tell()
    stream.seek(start)
    return length


def _where(stream: Stream, start: int, names: Collection[str]) -> str:
    """The names that lead to where the stream is, for a pickle that was found sound."""
    at, walk = stream.tell(), _Walk(names, _length(stream))
    stream.seek(start)
    for opcode, argument, position in pickletools.genops(cast(IO[bytes], stream)):
        if opcode.name == "FRAME":
            return ""  # a frame is read at once: the stream is behind
        if opcode.name == "STOP" or (position or 0) >= at:
            break
        walk.step(opcode, argument, position or 0)
    return walk.where()


def parse_reference(items: Any) -> Reference:
    """The storage in ('storage', type, key, location, numel[, None]); the location is ignored.

    Raises:
        ArtifactError: it is something else.
    """
    if not isinstance(items, tuple) or len(items) not in (5, 6) or items[5:] not in ((), (None,)):
        raise ArtifactError("refers to a storage in an unknown way")
    tag, kind, key, _, numel = items[:5]
    dtype = STORAGES.get(kind, kind if kind in STORAGES.values() else "")
    if tag != "storage" or not dtype or type(key) is not str:
        raise ArtifactError("refers to a storage in an unknown way")
    if type(numel) is not int or numel < 0:
        raise ArtifactError(f"refers to a storage of {numel!r:.30} numbers")
    return Reference(dtype, key, numel)


# What stands for the names


def numbers(dtype: str, data: bytes | memoryview) -> np.ndarray[Any, Any]:
    """A row of numbers as torch stores them, little-endian; bfloat16 as float32, which is exact."""
    row = np.frombuffer(data, _BITS.get(dtype, dtype))
    if dtype == "bfloat16":
        return (row.astype("<u4") << 16).view("<f4")
    return row


def stored_numbers(data: Any, budget: Budget) -> Any:
    """The storage in a torch stream inside of a pickle, as NVIDIA's networks keep their numbers."""
    return _STREAM_READERS[-1](_bytes(data), budget)


_STREAM_READERS: list[Callable[[Any, Budget], Any]] = []
_Reader = TypeVar("_Reader", bound=Callable[[Any, Budget], Any])


def reads_streams(read: _Reader) -> _Reader:
    """Make the reader of torch streams known here, whose file is above this one; a decorator."""
    _STREAM_READERS.append(read)
    return read


class _Dict(dict[Any, Any]):
    """An OrderedDict; a state_dict has attributes too, which say nothing."""

    def __setstate__(self, state: Any) -> None:
        pass


class _Namespace(Record):
    name = "argparse.Namespace"


class _Network(Record):
    name = "dnnlib.tflib.network.Network"


class _Dtype:
    """A numeric type of numpy."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = self.checked(code)

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise ArtifactError("describes a type of numpy that is not known")
        self.code = self.checked(f"{order}{self.code.lstrip('<>=|')}")

    @classmethod
    def checked(cls, code: Any) -> str:
        """A code that is allowed."""
        if not isinstance(code, str) or not _NUMERIC.fullmatch(code):
            raise ArtifactError(
                f"has an array of the type {str(code)[:20]!r}; only numbers are read"
            )
        return code

    @property
    def numeric(self) -> np.dtype[Any]:
        """The type itself."""
        if self.code == "|O":
            raise ArtifactError("has an array of the type 'O'; only numbers are read")
        return np.dtype(self.code)


class _ObjectDtype(_Dtype):
    """A type of numpy, that of Python's objects too."""

    @classmethod
    def checked(cls, code: Any) -> str:
        return "|O" if code in ("O8", "|O", "O", "|O8") else super().checked(code)


class _NumpyArray(np.ndarray[Any, Any]):
    """An array of numpy, filled after it was made; one of objects keeps them in `items`."""

    items: list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise ArtifactError("describes an array of numpy in an unknown way")
        _, shape, dtype, fortran, data = state
        if dtype.code == "|O":
            if not isinstance(data, list) or len(data) != math.prod(_shape(shape)):
                raise ArtifactError(f"has an array of objects of shape {shape!r:.50} without them")
            self.items = data
            return
        data = bytes(_bytes(data))
        _check_size(shape, dtype.numeric, data)
        whole: Any = (1, shape, dtype.numeric, bool(fortran), data)
        super().__setstate__(whole)


def _new_array(*_: Any) -> _NumpyArray:
    return np.ndarray.__new__(_NumpyArray, (0,), "<f4")


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Any:
    """As protocol 5 writes arrays."""
    data = _bytes(data)
    _check_size(shape, dtype.numeric, data)
    return np.frombuffer(data, dtype.numeric).reshape(shape, order="F" if order == "F" else "C")


def _check_size(shape: Any, dtype: np.dtype[Any], data: bytes | memoryview) -> None:
    if math.prod(_shape(shape)) * dtype.itemsize != len(data):
        raise ArtifactError(f"has an array of shape {list(shape)} with {len(data)} bytes")


def _shape(shape: Any) -> tuple[int, ...]:
    if (
        not isinstance(shape, tuple | list)
        or len(shape) > _MAX_DIMENSIONS
        or not all(type(size) is int and size >= 0 for size in shape)
    ):
        raise ArtifactError(
            f"has {str(shape)[:60]} as sizes or strides; expected at most {_MAX_DIMENSIONS} whole "
            "numbers, no negative numbers"
        )
    return tuple(shape)


def _scalar(dtype: Any, data: Any) -> Any:
    return np.frombuffer(_bytes(data), dtype.numeric, count=1)[0].item()


def _bytes(data: Any) -> bytes | bytearray | memoryview:
    if isinstance(data, str):  # as Python 2 wrote them
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ArtifactError(f"has a {type(data).__name__} where bytes are expected")
    return data


def _encode(text: Any, encoding: str) -> bytes:
    # Protocol 2 has no bytes and writes them as a text.
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise ArtifactError(f"has bytes in the encoding {str(encoding)[:20]!r}")
    return text.encode("latin1")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """A view of a storage that lies inside of it and is no larger."""
    if not isinstance(storage, np.ndarray) or storage.ndim != 1:
        raise ArtifactError("describes a tensor without a storage")
    shape, strides, (offset,) = _shape(size), _shape(stride), _shape((offset,))
    where = f"a tensor of shape {list(shape)} with strides {list(strides)}"
    if len(shape) != len(strides):
        raise ArtifactError(f"{where} has {len(shape)} sizes and {len(strides)} strides")
    count = math.prod(shape)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if count and last >= len(storage):
        raise ArtifactError(
            f"{where} at offset {offset} ends at number {last}, outside of its storage of "
            f"{len(storage)}"
        )
    if count > len(storage):
        raise ArtifactError(f"{where} has {count} numbers, its storage only {len(storage)}")
    steps = [step * storage.itemsize for step in strides]
    part = storage[offset if count else 0 :]
    return np.lib.stride_tricks.as_strided(part, shape, steps, writeable=False)


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


def _persistent_object(meta: Any) -> Record:
    if not isinstance(meta, dict) or not isinstance(meta.get("class_name"), str):
        raise ArtifactError("has an object without a class name")
    return Record(meta["class_name"], meta.get("state"))  # module_src, a program, stays unread


def _set(items: Sequence[Any] = ()) -> list[Any]:
    return list(items)


STORAGES: dict[Any, str] = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "<i1",
    "torch.ByteStorage": "<u1",
    "torch.BoolStorage": "|b1",
}
"""Storage classes of torch, and how their numbers lie in a file."""

_BITS = {"bfloat16": "<u2"}  # numpy has no such type

_NUMPY = ("numpy.core", "numpy._core")  # numpy 1 and 2
_DTYPES = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "uint8", "bool")
_PATHS = {"PosixPath": PurePosixPath, "WindowsPath": PureWindowsPath}

OF_TORCH: dict[str, Any] = {
    **STORAGES,
    **{f"torch.{name}": name for name in _DTYPES},
    "collections.OrderedDict": _Dict,
    "torch.Size": tuple,
    "torch.device": lambda *names: str(names),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "_codecs.encode": _encode,
    "builtins.set": _set,
    "__builtin__.set": _set,
}
"""Names that PyTorch's own reader of weights knows, and what stands for them in ours."""

OTHERS: dict[str, Any] = {
    "torch_utils.persistence._reconstruct_persistent_obj": _persistent_object,
    "torch.storage._load_from_bytes": stored_numbers,
    "dnnlib.util.EasyDict": dict,
    "dnnlib.tflib.network.Network": _Network,
    "argparse.Namespace": _Namespace,
    "types.SimpleNamespace": _Namespace,
    "builtins.bytes": lambda: b"",
    "__builtin__.bytes": lambda: b"",
    "numpy.ndarray": "numpy.ndarray",
    "numpy.dtype": _Dtype,
    **{f"{core}.multiarray.scalar": _scalar for core in _NUMPY},
    **{f"{core}.multiarray._reconstruct": _new_array for core in _NUMPY},
    **{f"{core}.numeric._frombuffer": _array_from_buffer for core in _NUMPY},
    **{f"{module}.{name}": path for name, path in _PATHS.items() for module in
       ("pathlib", "pathlib._local")},
    **{f"pathlib.Pure{name}": path for name, path in _PATHS.items()},
}  # fmt: skip
"""All other names that occur in checkpoints."""

NAMES: dict[str, Any] = OF_TORCH | OTHERS
"""The closed list of names that a file may contain."""

OF_OBJECTS: dict[str, Any] = NAMES | {"numpy.dtype": _ObjectDtype}
"""That of a numpy file of Python's objects, such as latents by the names of pictures."""

MADE_HERE: tuple[type, ...] = (_Namespace, _Network, _Dtype, _NumpyArray, Record)
"""Classes of the objects that stand in for others."""
