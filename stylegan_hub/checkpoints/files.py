"""Recognize and read files: pickles, torch files, numpy files, safetensors.

The first bytes of a file decide what it is; its name does not matter. The file is mapped into
memory and, where possible, not copied as a whole. Tensors stay parts of it until they are loaded
one by one.
"""

from __future__ import annotations

import io
import math
import mmap
import os
import re
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open

from stylegan_hub.checkpoints import pickles, torch_files
from stylegan_hub.checkpoints.pickles import NAMES, Array, Budget, Record
from stylegan_hub.errors import ArtifactError, NotFoundError

_MAGIC_BYTES = b"\x8a\x0a" + torch_files.MAGIC.to_bytes(10, "little")
_NUMERIC_KINDS = "biuf"
# Compression hardly shrinks arrays of floats; a file that grows more than this is not a checkpoint.
_MAX_UNPACKED = 64 << 20
_MAX_GROWTH = 1.5
_MAX_DEPTH = 100
_OLD_PICKLE = b"(]}c"  # possible first bytes of pickles of protocol 0 and 1


@dataclass(frozen=True)
class _Kind:
    start: bytes
    what: str
    remedy: str


_UNPACK = "Unpack it, and give the file that was in it."
_NO_CHECKPOINTS = (
    _Kind(
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "Fetch the file itself with `git lfs pull`, or download it in a browser.",
    ),
    _Kind(b"\x1f\x8b", "compressed with gzip", _UNPACK),
    _Kind(b"BZh", "compressed with bzip2", _UNPACK),
    _Kind(b"\xfd7zXZ\0", "compressed with xz", _UNPACK),
    _Kind(b"(\xb5/\xfd", "compressed with Zstandard", _UNPACK),
    _Kind(b"7z\xbc\xaf'\x1c", "a 7-Zip archive", _UNPACK),
    _Kind(b"Rar!", "a RAR archive", _UNPACK),
    _Kind(b"\x89HDF\r\n", "an HDF5 file, as Keras writes", "Give a checkpoint of PyTorch."),
    _Kind(b"\x89PNG", "a picture (PNG)", "Give the checkpoint."),
    _Kind(b"\xff\xd8\xff", "a picture (JPEG)", "Give the checkpoint."),
    _Kind(b"GIF8", "a picture (GIF)", "Give the checkpoint."),
)
_BROWSER = "Open the address in a browser, save the file and give its path."


def read_checkpoint(path: str | Path) -> Any:
    """The content of a checkpoint: dicts, lists, tuples, numbers, texts, `Record`s and arrays.

    Nothing in the file is executed. The file must not change while its content is in use.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: the file is of another kind, damaged or unsafe; the message says which, and
            gives the tensor or the name that is affected.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a checkpoint.")
    if path.stat().st_size == 0:
        raise ArtifactError(f"{path} is empty.", got="an empty file", remedy="Download it again.")
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        content = _read(path, mapped, memoryview(mapped))
        _check_sizes(content)
        return content
    except ArtifactError as error:
        raise of_file(path, error) from error


def of_file(path: Path, error: ArtifactError) -> ArtifactError:
    """An error that begins with the file's path."""
    text = str(error)
    if text.startswith(str(path)):
        return error
    found = ArtifactError(f"{path}: {text}" + ("" if text.endswith(".") else "."),
                          got=error.got, expected=error.expected)  # fmt: skip
    found.remedy = error.remedy  # the text already ends with it
    return found


def arrays_in(content: Any) -> Iterator[tuple[str, Array]]:
    """All arrays that were read from a file, each with its path of names: "g_ema.conv1"."""
    waiting: list[tuple[str, Any, int]] = [("", content, 0)]
    seen: set[int] = set()
    while waiting:
        name, value, depth = waiting.pop()
        if isinstance(value, np.ndarray | torch.Tensor):
            if isinstance(items := getattr(value, "items", None), list):
                value = items  # an array of objects
            else:
                yield name, value
                continue
        if id(value) in seen:
            continue
        if depth > _MAX_DEPTH:
            raise ArtifactError(f"has modules nested more than {_MAX_DEPTH} levels deep")
        seen.add(id(value))
        if isinstance(value, Record):
            waiting.append((name, value.state, depth))
        for key, item in reversed(list(_members(value))):
            shown = "" if key in pickles.STRUCTURE else str(key)[:200]
            waiting.append(
                (f"{name}.{shown}" if name and shown else name or shown, item, depth + 1)
            )


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, list | tuple):
        named = all(
            isinstance(x, tuple | list) and len(x) == 2 and isinstance(x[0], str) for x in value
        )
        yield from value if named else enumerate(value)


def _read(path: Path, mapped: mmap.mmap, data: memoryview) -> Any:
    start = bytes(data[:64])
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip(path, data)
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(data)
    if start[:1] == b"\x80" and _MAGIC_BYTES in start[:32]:
        return torch_files.read_old(path, mapped, data)
    is_old = start[:1] in _OLD_PICKLE and bytes(data[-1:]) == b"."
    if (start[:1] == b"\x80" and b"" < start[1:2] < b"\x0a") or is_old:
        with open(path, "rb") as file:
            return pickles.load(_Reader(file), NAMES, Budget())
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < len(data):
        return _read_safetensors(path)
    raise _no_checkpoint(data)


class _Reader:
    """A file that never allocates more memory than it has bytes, however many are requested.

    Nothing is read ahead, so its position shows how far a reader has come.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.readline, self.seek, self.tell = file.readline, file.seek, file.tell
        self._length = os.fstat(file.fileno()).st_size

    def read(self, count: int = -1, /) -> bytes:
        """Like the `read` of any file."""
        if count > io.DEFAULT_BUFFER_SIZE:
            count = min(count, self._length - self.tell())
        return self._file.read(count)


def _no_checkpoint(data: memoryview) -> ArtifactError:
    start = bytes(data[:2048])
    kinds = "a pickle, a torch file, a numpy file or a safetensors file"
    for kind in _NO_CHECKPOINTS:
        if start.startswith(kind.start):
            return _other(kind.what, kinds, kind.remedy)
    if bytes(data[257:262]) == b"ustar":
        return _other("a tar archive", kinds, _UNPACK)
    try:
        text = start.decode("utf-8-sig", "strict" if len(data) <= len(start) else "ignore").strip()
    except UnicodeDecodeError:
        text = ""
    shown = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", text)).strip()[:200]
    if text.startswith("<"):
        what = f"a web page, not a checkpoint ({shown!r})"
        return _other(what, kinds, f"The download asked for a confirmation or a login. {_BROWSER}")
    if text.startswith(("{", "[")):
        return _other(
            f"JSON, not a checkpoint: {shown!r}", kinds,
            f"If that is a server's error: {_BROWSER[0].lower()}{_BROWSER[1:]}",
        )  # fmt: skip
    if text and all(letter.isprintable() or letter.isspace() for letter in text):
        return _other(f"a text, not a checkpoint: {shown!r}", kinds, _BROWSER)
    what = f"of an unknown kind: it starts with {start[:8]!r}"
    return _other(what, kinds, "Check that it is the right file, and download it again.")


def _other(what: str, expected: str, remedy: str) -> ArtifactError:
    return ArtifactError(f"is {what}; expected {expected}.", got=what, expected=expected,
                         remedy=remedy)  # fmt: skip


def _check_sizes(content: Any) -> None:
    """Raise `ArtifactError` if a tensor is larger than the storage that it is a view of.

    Strides of 0 can turn one byte into a terabyte.
    """
    for name, array in arrays_in(content):
        if not isinstance(array, torch.Tensor):
            continue  # checked when they were made
        if array.layout != torch.strided or array.is_quantized or array.is_meta:
            raise ArtifactError(f"tensor {name!r} is sparse, quantized or without numbers")
        if array.nbytes > (there := array.untyped_storage().nbytes()):
            raise ArtifactError(
                f"tensor {name!r} of shape {list(array.shape)} needs {array.nbytes} bytes, but "
                f"only {there} are in the file: its rows share the same numbers"
            )


# safetensors


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if "kind" in metadata:
                raise ArtifactError(
                    f"belongs to a folder of this library ({metadata['kind']}).",
                    got=metadata["kind"],
                    remedy=f"It needs no conversion: load the folder {path.parent}.",
                )
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        if isinstance(error, ArtifactError):
            raise
        raise ArtifactError(
            f"is a damaged safetensors file: {error}.", remedy="Download it again."
        ) from error


# zip files: torch's, and numpy's .npz


def _read_zip(path: Path, data: memoryview) -> Any:
    torch_files.check_directory(data)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
            if len(found := [n for n in names if n.rpartition("/")[2] == "data.pkl"]) == 1:
                folder = found[0].removesuffix("data.pkl")
                return torch_files.read_zip(path, archive, folder, data)
            if names and all(name.endswith(".npy") for name in names):
                return _read_npz(archive, len(data))
    except ArtifactError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, OSError,
        EOFError, LookupError, ValueError,
    ) as error:  # fmt: skip
        raise ArtifactError(
            f"is cut off or a damaged zip file: {error}.", remedy="Download it again."
        ) from error
    raise ArtifactError(
        f"is a zip file with {', '.join(names[:5]) or 'nothing'} in it.",
        got=tuple(names[:5]),
        expected="data.pkl as torch writes it, or .npy arrays",
        remedy=_UNPACK,
    )


def _read_npz(archive: zipfile.ZipFile, size: int) -> dict[str, Any]:
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > max(_MAX_GROWTH * size, _MAX_UNPACKED):
        raise ArtifactError(
            f"unpacks to {unpacked} bytes; arrays of numbers are expected to unpack to at most "
            f"{_MAX_GROWTH} times the file's size"
        )
    arrays = {}
    for info in archive.infolist():
        with archive.open(info) as file:
            data = file.read(info.file_size + 1)  # the announced size may be wrong
        name = info.filename.removesuffix(".npy")
        try:
            arrays[name] = _read_npy(memoryview(data))
        except ArtifactError as error:
            raise ArtifactError(f"{re.sub(r'[^ -~]', '?', name)[:80]}: {error}") from error
    return arrays


def _read_npy(data: memoryview) -> Any:
    stream = io.BytesIO(data[: 1 << 16])  # headers are short
    try:
        version = np.lib.format.read_magic(stream)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        if version[0] not in read:
            raise ArtifactError(f"is a numpy file of the unknown version {version[0]}")
        shape, fortran, dtype = read[version[0]](stream)
    except ArtifactError:
        raise
    except (
        ValueError, TypeError, SyntaxError, RecursionError, MemoryError, OverflowError,
        tokenize.TokenError,
    ) as error:  # fmt: skip
        raise ArtifactError(f"is a damaged numpy file: {error}") from error
    values = data[stream.tell() :]
    if dtype.kind == "O":  # Python objects, such as a dict of latents by the names of pictures
        content = pickles.load(io.BytesIO(values), pickles.OF_OBJECTS, Budget())
        items = getattr(content, "items", None)
        if not isinstance(items, list) or next(arrays_in(items), None) is None:
            raise ArtifactError("is a numpy file of type object; only numbers are read")
        return items[0] if shape == () else items
    if dtype.kind not in _NUMERIC_KINDS or dtype.itemsize > 8:
        raise ArtifactError(f"is a numpy file of type {dtype}; only numbers are read")
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(values):
        raise ArtifactError(
            f"announces an array of shape {list(shape)} ({math.prod(shape) * dtype.itemsize} "
            f"bytes), but has {len(values)} bytes of it"
        )
    return np.frombuffer(values, dtype).reshape(shape, order="F" if fortran else "C")
