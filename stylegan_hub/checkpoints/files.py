"""The containers in which checkpoints come: pickles, both kinds of torch files, numpy files.

What a file is, its first bytes say; its name says nothing. The file is mapped into memory and
never copied as a whole: tensors stay `StoredTensor`s that refer to it until they are loaded one by
one.
"""

from __future__ import annotations

import io
import math
import mmap
import re
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stylegan_hub.checkpoints.tensors import STORAGE_DTYPES, Storage, StoredTensor
from stylegan_hub.checkpoints.unpickler import Budget, Global, Unpickler
from stylegan_hub.errors import ArtifactError, NotFoundError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # first pickle of a torch file of the old container
_MAGIC_BYTES = b"\x8a\x0a" + _MAGIC_NUMBER.to_bytes(10, "little")
_OLD_VERSION = 1001
_NUMERIC_KINDS = "biuf"
_MAX_DIRECTORY = 4 << 20  # bytes of a zip file's list of contents
# Compressed arrays of floats are hardly smaller; more than this is no checkpoint.
_MAX_UNPACKED = 64 << 20
_MAX_GROWTH = 1.5


def read_checkpoint(path: str | Path) -> Any:
    """What a checkpoint holds: dicts, lists, tuples, numbers, texts, `Record`s, `StoredTensor`s.

    Nothing in the file is executed. It must not change while what was read is in use.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: the file is of an unknown kind, damaged or unsafe; the message names the
            tensor or the name in question.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a checkpoint.")
    if path.stat().st_size == 0:
        raise ArtifactError(f"{path} is empty. Download it again.")
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        return _read(data)
    except ArtifactError as error:
        raise ArtifactError(f"{path} ({len(data)} bytes): {error}.") from error


def _read(data: memoryview) -> Any:
    start = bytes(data[:64])
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip(data)
    if start.startswith(b"\x93NUMPY"):
        return _read_npy(data)
    if start[:1] == b"\x80" and start[2:14] == _MAGIC_BYTES:
        return _read_old_torch(data, Budget.of(len(data)), nested=False)
    if start[:1] == b"\x80":
        budget = Budget.of(len(data))
        return Unpickler(data, 0, budget, partial(_read_old_torch, nested=True)).load()
    if start.lstrip()[:1] == b"<":
        raise ArtifactError(
            "is a web page, not a checkpoint; the download asked for a confirmation or a login. "
            "Open the address in a browser, save the file and give its path"
        )
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < len(data):
        raise ArtifactError("is a safetensors file; it needs no conversion, load it as it is")
    raise ArtifactError(
        f"starts with {start[:8]!r}, which is no checkpoint that is known: a pickle of protocol 2 "
        "or newer, a torch file, or a numpy file"
    )


# torch, the container until version 1.5


def _read_old_torch(data: memoryview | bytearray, budget: Budget, nested: bool) -> Any:
    """Five pickles, then the numbers of each storage.

    NVIDIA's pickles hold such a stream for each of their storages (`nested`).
    """
    view = memoryview(data)
    storages: dict[str, Storage] = {}
    position = 0

    def load(**options: Any) -> Unpickler:
        nonlocal position
        unpickler = Unpickler(view, position, budget, **options)
        results.append(unpickler.load())
        position = unpickler.position
        return unpickler

    results: list[Any] = []
    for _ in range(3):
        load()
    magic, version, system = results
    if magic != _MAGIC_NUMBER or version != _OLD_VERSION or not isinstance(system, dict):
        raise ArtifactError("holds numbers in an unknown format; expected a torch stream")
    if system.get("little_endian") is False:
        raise ArtifactError("was written on a big-endian machine, which is not supported")
    find = partial(_announced_storage, storages)
    inner = None if nested else partial(_read_old_torch, nested=True)
    unpickler = load(nested=inner, persistent_load=find)
    content = results[3]
    load()
    keys = results[4]
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise ArtifactError("lists other storages than it refers to: it is damaged")
    for key in keys:
        storage = storages[key]
        count = int.from_bytes(view[position : position + 8], "little")
        position += 8
        size = storage.numel * storage.itemsize
        if count != storage.numel or position + size > len(view):
            raise ArtifactError(
                f"storage {key!r} announces {storage.numel} numbers ({size} bytes), then {count}; "
                f"{max(len(view) - position, 0)} bytes are left. It is cut off or damaged"
            )
        storage.fill(view[position : position + size])
        position += size
    for where, tensor in unpickler.unchecked:
        if tensor.storage.data is None:
            raise ArtifactError(f"{where}the numbers of this tensor are missing")
    if nested and not isinstance(content, Storage):
        raise ArtifactError("holds something else than numbers where a storage is expected")
    return content


def _announced_storage(storages: dict[str, Storage], reference: Any) -> Storage:
    key, storage = _parse_reference(reference)
    known = storages.setdefault(key, storage)
    if (known.dtype, known.numel) != (storage.dtype, storage.numel):
        raise ArtifactError(f"describes the storage {key!r} in two ways: it is damaged")
    return known


def _parse_reference(reference: Any) -> tuple[str, Storage]:
    """Key and size in ('storage', type, key, location, numel[, None]); the location is ignored."""
    if not isinstance(reference, tuple) or len(reference) not in (5, 6):
        raise ArtifactError("refers to a storage in an unknown way")
    tag, kind, key, _, numel = reference[:5]
    if (
        tag != "storage"
        or not isinstance(kind, Global)
        or str(kind) not in STORAGE_DTYPES
        or not isinstance(key, str)
        or type(numel) is not int
        or numel < 0
        or reference[5:] not in ((), (None,))
    ):
        raise ArtifactError("refers to a storage in an unknown way")
    return key, Storage(STORAGE_DTYPES[str(kind)], numel)


# torch, the container since version 1.6, and numpy's .npz


def _read_zip(data: memoryview) -> Any:
    entries = {info.filename: info for info in _zip_entries(data)}
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) == 1:
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in entries:
            raise ArtifactError(
                "is a TorchScript program, not a table of tensors. Save its state_dict() with "
                "torch.save where you trust it"
            )
        return _read_new_torch(data, entries, folder)
    if entries and all(name.endswith(".npy") for name in entries):
        unpacked = sum(info.file_size for info in entries.values())
        if unpacked > max(_MAX_GROWTH * len(data), _MAX_UNPACKED):
            raise ArtifactError(
                f"unpacks to {unpacked} bytes; at most {_MAX_GROWTH} times its size is expected of "
                "arrays of numbers"
            )
        return {
            name.removesuffix(".npy"): _named(name, _read_npy, _member(data, info))
            for name, info in entries.items()
        }
    raise ArtifactError(
        f"is a zip file with {', '.join(list(entries)[:5]) or 'nothing'} in it; a torch file has "
        "data.pkl, a numpy file .npy arrays"
    )


def _read_new_torch(data: memoryview, entries: dict[str, zipfile.ZipInfo], folder: str) -> Any:
    order = entries.get(f"{folder}byteorder")
    if order is not None and bytes(_member(data, order)) != b"little":
        raise ArtifactError("was written on a big-endian machine, which is not supported")
    storages: dict[str, Storage] = {}

    def find(reference: Any) -> Storage:
        key, _ = _parse_reference(reference)
        storage = _announced_storage(storages, reference)
        if storage.data is None:
            if (info := entries.get(f"{folder}data/{key}")) is None:
                raise ArtifactError(f"the numbers data/{key} are missing in the file")
            storage.fill(_member(data, info, stored_only=True))
        return storage

    pickle = _member(data, entries[f"{folder}data.pkl"], stored_only=True)
    inner = partial(_read_old_torch, nested=True)
    return Unpickler(pickle, 0, Budget.of(len(data)), inner, find).load()


def _zip_entries(data: memoryview) -> Iterator[zipfile.ZipInfo]:
    raw: Any = data.obj  # the mapped file: searching it copies nothing
    end = raw.rfind(b"PK\x05\x06")
    size = int.from_bytes(data[end + 12 : end + 16], "little") if end >= 0 else 0
    if size == 0xFFFFFFFF:
        wide = raw.rfind(b"PK\x06\x06")
        size = int.from_bytes(data[wide + 40 : wide + 48], "little")
    if size > _MAX_DIRECTORY:
        raise ArtifactError(f"is a zip file with a list of contents of {size} bytes")
    try:
        with zipfile.ZipFile(io.BufferedReader(_View(data))) as archive:
            yield from archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise ArtifactError(
            f"is cut off or a damaged zip file ({error}). Download it again"
        ) from error


class _View(io.RawIOBase):
    """The mapped file as a file object, without a copy."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: len(self._data)}
        if start[whence] + offset < 0:
            raise OSError("position before the start")
        self._position = start[whence] + offset
        return self._position

    def readinto(self, target: Any, /) -> int:
        part = self._data[self._position : self._position + len(target)]
        target[: len(part)] = part
        self._position += len(part)
        return len(part)


def _member(
    data: memoryview, info: zipfile.ZipInfo, stored_only: bool = False
) -> memoryview | bytearray:
    """The bytes of a file in a zip file: a part of it, or unpacked."""
    name = info.filename
    header = info.header_offset
    names = int.from_bytes(data[header + 26 : header + 28], "little")
    extra = int.from_bytes(data[header + 28 : header + 30], "little")
    start = header + 30 + names + extra
    packed = data[start : start + info.compress_size]
    if bytes(data[header : header + 4]) != b"PK\x03\x04" or len(packed) != info.compress_size:
        raise ArtifactError(f"{name} is cut off: {info.compress_size} bytes are announced")
    if info.flag_bits & 1:
        raise ArtifactError(f"{name} is encrypted")
    if info.compress_type == zipfile.ZIP_STORED:
        if info.file_size != info.compress_size:
            raise ArtifactError(f"{name} has two different sizes: the file is damaged")
        return packed
    if info.compress_type != zipfile.ZIP_DEFLATED or stored_only:
        raise ArtifactError(f"{name} is compressed; torch does not do that. Save it again")
    unpacker = zlib.decompressobj(-15)
    try:
        unpacked = bytearray(unpacker.decompress(packed, info.file_size + 1))
    except zlib.error as error:
        raise ArtifactError(f"{name} is damaged: {error}") from error
    if len(unpacked) != info.file_size:
        raise ArtifactError(f"{name} unpacks to another size than it announces")
    return unpacked


# numpy


def _read_npy(data: memoryview | bytearray) -> StoredTensor:
    view = memoryview(data)
    stream = io.BytesIO(view[: 1 << 16])  # headers are short
    try:
        version = np.lib.format.read_magic(stream)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
        if version[0] not in read:
            raise ArtifactError(f"is a numpy file of the unknown version {version[0]}")
        shape, fortran, dtype = read[version[0]](stream)
    except ArtifactError:
        raise
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise ArtifactError(f"is a damaged numpy file: {error}") from error
    if dtype.kind not in _NUMERIC_KINDS or dtype.itemsize > 8:
        raise ArtifactError(f"is a numpy file of type {dtype}; only numbers are read")
    numbers = view[stream.tell() :]
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(numbers):
        raise ArtifactError(
            f"announces an array of shape {list(shape)} ({math.prod(shape) * dtype.itemsize} "
            f"bytes) and has {len(numbers)} bytes of it"
        )
    storage = Storage(dtype.str, math.prod(shape), numbers)
    return StoredTensor.contiguous(storage, shape, fortran)


def _named(name: str, read: Any, data: memoryview | bytearray) -> Any:
    try:
        return read(data)
    except ArtifactError as error:
        raise ArtifactError(f"{re.sub(r'[^ -~]', '?', name)[:80]} {error}") from error
