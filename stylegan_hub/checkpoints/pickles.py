"""Read pickles without executing anything in them.

A pickle is a program for a small stack machine, and two of its instructions call any function that
the file names. So a file is first walked through (`scan`) with Python's `pickletools`, which parses
pickles and executes nothing. Names that are not in `NAMES`, instructions that no checkpoint needs,
and anything that would make a reader spend memory or time because of an unchecked number in the
file are refused, with the place in the file. Only then does Python's own unpickler, or PyTorch's,
build values from it. Each name leads to code *in this file* that makes a plain value, an array or
an inert `Record`. Nothing is ever imported, and the source text in NVIDIA's pickles is skipped.
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
"""A tensor of a file: part of the mapped file, or in memory. It must not be written to."""

MAX_INSTRUCTIONS = 500_000
"""Limit for a file; a published generator takes about 50,000."""
_MAX_DEPTH = 1000
_MAX_INTEGER = 1 << 512
_MAX_NAME = 1 << 10  # longer texts are source code, or bytes in the form of protocol 2
_MAX_DIMENSIONS = 8
# Keys of dicts are hashed, and hashing a tuple walks through everything in it.
_MAX_TUPLE_DEPTH = 50
_MAX_TUPLE_ITEMS = 100_000
_NUMERIC = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])")
_NEWEST_PROTOCOL = 5

# Names on the path to a tensor that carry no information.
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
    """An object of a class that is not imported: its class name and the state from the file."""

    name: str = ""
    state: Any = None

    def __init__(self, name: str = "", state: Any = None) -> None:
        self.name = name or self.name
        self.state = state

    def __setstate__(self, state: Any) -> None:
        self.state = state


class Reference(NamedTuple):
    """A torch file's description of numbers that are stored outside the pickle."""

    dtype: str
    """A value of `STORAGES`."""
    key: str
    numel: int

    @property
    def nbytes(self) -> int:
        """How many bytes there should be."""
        return self.numel * np.dtype(_BITS.get(self.dtype, self.dtype)).itemsize


@dataclass
class Budget:
    """How many instructions a file may still take, over all pickles in it."""

    instructions: int = field(default_factory=lambda: MAX_INSTRUCTIONS)

    def spend(self) -> None:
        """Count one instruction, or raise `ArtifactError` if none is left."""
        self.instructions -= 1
        if self.instructions < 0:
            raise ArtifactError(
                f"takes more than {MAX_INSTRUCTIONS} instructions to read; no published checkpoint "
                "does. It is damaged, or made to exhaust the machine"
            )


class Stream(Protocol):
    """The source of a pickle: a file, a mapped file, bytes."""

    def read(self, count: int = ..., /) -> bytes:
        """Read bytes from the position on."""

    def readline(self) -> bytes:
        """Read bytes to the end of a line."""

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
    """Load the value of the pickle at the stream's position; the stream is left after it.

    Args:
        names: the names that the file may contain, `NAMES` or fewer, with their replacements.
        persistent_load: makes a storage from the file's description of it; None if there are none.

    Raises:
        ArtifactError: a name is not on the list, or the content is broken or absurd; the message
            says where in the file.
    """
    start = stream.tell()
    scan(stream, names.keys(), budget)
    stream.seek(start)
    try:
        return _Unpickler(stream, names, budget, persistent_load).load()
    except Exception as error:  # a function called on values of the wrong kind can raise anything
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
        super().__init__(stream, encoding="latin1")  # for texts written by Python 2
        self._names, self._budget, self._find = names, budget, persistent_load

    def find_class(self, module: str, name: str) -> Any:
        found = self._names[f"{module}.{name}"]
        return partial(found, budget=self._budget) if found is stored_numbers else found

    def persistent_load(self, reference: Any) -> Any:
        if self._find is None:
            raise ArtifactError("refers to numbers outside the pickle, but has none")
        return self._find(reference)


# Walking through


class _Name(str):
    """A class or function that the file names."""


class _Tuple(NamedTuple):
    items: tuple[Any, ...]
    size: int  # number of items, including those of inner tuples
    depth: int

    @classmethod
    def of(cls, items: Sequence[Any]) -> _Tuple:
        inside = [item for item in items if isinstance(item, _Tuple)]
        size = len(items) + sum(item.size for item in inside)
        depth = 1 + max((item.depth for item in inside), default=0)
        if size > _MAX_TUPLE_ITEMS or depth > _MAX_TUPLE_DEPTH:
            raise ArtifactError(f"has nested tuples, {depth} levels deep with {size} items")
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
                f"is cut off: it announces a part of {argument} bytes, but only "
                f"{self.end - position - 9} are left. Download it again"
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
                raise ArtifactError(f"refers to the value {argument}, which does not exist")
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
        # The memo takes memory in proportion to its largest index.
        if not self.stack or index > MAX_INSTRUCTIONS:
            raise ArtifactError(f"stores a missing value, or uses the invalid index {index}")
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
                raise ArtifactError("has a name that is not a text: it is damaged")
            return self.named(*taken)
        if name == "BINPERSID":
            reference = parse_reference(taken[0].items if isinstance(taken[0], _Tuple) else None)
            if self.references.setdefault(reference.key, reference) != reference:
                raise ArtifactError(f"describes the storage {reference.key!r} in two ways")
        elif name in _CALLS:
            if not isinstance(taken[0], _Name) or not isinstance(taken[1], _Tuple):
                raise ArtifactError("calls something that is not a function: it is damaged")
        elif name in _CHANGES and isinstance(taken[0], _Name):
            raise ArtifactError(f"changes the function {taken[0]}")
        elif name in _KEYED and any(isinstance(k, _Tuple) for k in taken[_KEYED[name]]):
            raise ArtifactError("uses a tuple as a key")
        return _ANYTHING

    def named(self, module: str, name: str) -> _Name:
        whole = f"{module}.{name}"
        # A dotted name could reach through a harmless module ("torch", "serialization.os.system").
        if "." in name or whole not in self.names:
            hint = ""
            if "lelsd" in whole.lower():
                hint = (
                    ". LELSD saves its whole trainer, which cannot be read safely. Load it where "
                    "it was trained, and export the direction with torch.save({'direction': "
                    "direction.detach().cpu()}, 'direction.pt'); that file can be converted"
                )
            raise ArtifactError(
                f"asks for {whole[:200]!r}, which is not on the closed list of allowed names; "
                f"nothing was executed. Do not open this file with other tools unless you "
                f"trust its source{hint}",
                got=whole,
                expected="a name on the closed list",
            )
        return _Name(whole)

    def where(self) -> str:
        """The path of names to the current value, "G_ema.mapping.w_avg: ", or an empty text."""
        names: list[str] = []
        start = 0
        for end in [*self.marks, len(self.stack)]:
            # A dict of one item is filled without a mark, so the outermost names may follow each
            # other; after a mark, the last name is the key of the current value.
            frame = self.stack[max(start, end - 12) : end]
            found = [item[:80] for item in frame if type(item) is str]
            names += found if start == 0 else found[-1:]
            start = end
        names = [name for name in names if name not in STRUCTURE][:20]
        return f"{'.'.join(names)}: " if names else ""


def scan(stream: Stream, names: Collection[str], budget: Budget) -> dict[str, Reference]:
    """Walk through the pickle at the stream's position; the stream is left after it.

    Returns:
        The storages that the pickle refers to, by their key.

    Raises:
        ArtifactError: as for `load`.
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
    """The path of names to the stream's position, for a pickle that passed `scan`."""
    at, walk = stream.tell(), _Walk(names, _length(stream))
    stream.seek(start)
    for opcode, argument, position in pickletools.genops(cast(IO[bytes], stream)):
        if opcode.name == "FRAME":
            return ""  # a whole frame is read at once, so the position says nothing
        if opcode.name == "STOP" or (position or 0) >= at:
            break
        walk.step(opcode, argument, position or 0)
    return walk.where()


def parse_reference(items: Any) -> Reference:
    """Parse ('storage', type, key, location, numel[, None]); the location is ignored.

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


# Replacements for the names


def numbers(dtype: str, data: bytes | memoryview) -> np.ndarray[Any, Any]:
    """A row of numbers from torch's little-endian form; bfloat16 becomes float32, exactly."""
    row = np.frombuffer(data, _BITS.get(dtype, dtype))
    if dtype == "bfloat16":
        return (row.astype("<u4") << 16).view("<f4")
    return row


def stored_numbers(data: Any, budget: Budget) -> Any:
    """The storage in a torch stream inside a pickle, where NVIDIA's networks keep their numbers."""
    return _STREAM_READERS[-1](_bytes(data), budget)


_STREAM_READERS: list[Callable[[Any, Budget], Any]] = []
_Reader = TypeVar("_Reader", bound=Callable[[Any, Budget], Any])


def reads_streams(read: _Reader) -> _Reader:
    """Register the reader of torch streams, whose module imports this one; a decorator."""
    _STREAM_READERS.append(read)
    return read


class _Dict(dict[Any, Any]):
    """An OrderedDict; the attributes of a state_dict are not needed."""

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
            raise ArtifactError("describes an unknown numpy type")
        self.code = self.checked(f"{order}{self.code.lstrip('<>=|')}")

    @classmethod
    def checked(cls, code: Any) -> str:
        """The code, if it is allowed."""
        if not isinstance(code, str) or not _NUMERIC.fullmatch(code):
            raise ArtifactError(
                f"has an array of the type {str(code)[:20]!r}; only numbers are read"
            )
        return code

    @property
    def numeric(self) -> np.dtype[Any]:
        """The numpy type itself."""
        if self.code == "|O":
            raise ArtifactError("has an array of the type 'O'; only numbers are read")
        return np.dtype(self.code)


class _ObjectDtype(_Dtype):
    """A numpy type, which may also be that of Python objects."""

    @classmethod
    def checked(cls, code: Any) -> str:
        return "|O" if code in ("O8", "|O", "O", "|O8") else super().checked(code)


class _NumpyArray(np.ndarray[Any, Any]):
    """A numpy array, filled after it was made; an array of objects keeps them in `items`."""

    items: list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _Dtype):
            raise ArtifactError("describes a numpy array in an unknown way")
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
    """An array in the form of protocol 5."""
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
            f"has {str(shape)[:60]} as sizes or strides; expected at most {_MAX_DIMENSIONS} "
            "integers that are not negative"
        )
    return tuple(shape)


def _scalar(dtype: Any, data: Any) -> Any:
    return np.frombuffer(_bytes(data), dtype.numeric, count=1)[0].item()


def _bytes(data: Any) -> bytes | bytearray | memoryview:
    if isinstance(data, str):  # written by Python 2
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ArtifactError(f"has a {type(data).__name__} where bytes are expected")
    return data


def _encode(text: Any, encoding: str) -> bytes:
    # Protocol 2 has no bytes and writes them as text.
    if encoding not in ("latin1", "latin-1") or not isinstance(text, str):
        raise ArtifactError(f"has bytes in the encoding {str(encoding)[:20]!r}")
    return text.encode("latin1")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Any:
    """A view of a storage, checked to lie inside it and to be no larger."""
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
            f"{where} at offset {offset} ends at number {last}, outside its storage of "
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
    return Record(meta["class_name"], meta.get("state"))  # module_src, source code, is ignored


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
"""Storage classes of torch, and the numpy type of their numbers in a file."""

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
"""Names that PyTorch's own reader of weights knows, with their replacements in ours."""

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
"""The list for a numpy file of Python objects, such as latents by the names of pictures."""

MADE_HERE: tuple[type, ...] = (_Namespace, _Network, _Dtype, _NumpyArray, Record)
"""Classes of the objects that stand in for others."""
