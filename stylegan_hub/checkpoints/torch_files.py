"""Both containers of torch files, and the torch streams inside NVIDIA's pickles.

`torch.load(weights_only=True)` reads them after their pickles were walked through (`pickles.scan`)
and every announced size was compared with the bytes that exist, because PyTorch's reader allocates
memory without such a check. It knows the pickles that `torch.save` writes, of protocol 2; other
protocols are read by the code that reads NVIDIA's pickles.
"""

from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stylegan_hub.checkpoints import pickles
from stylegan_hub.checkpoints.pickles import NAMES, OTHERS, STORAGES, Budget, Reference, Stream
from stylegan_hub.errors import ArtifactError

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of a torch file of the container until version 1.5."""
_VERSION = 1001
_MAX_DIRECTORY = 4 << 20  # bytes of a zip file's list of contents
_MAX_PICKLE = 64 << 20  # of a zip file; a published one has less than a megabyte
# The settings of torch's reader are global to the process, so threads must not change them at once.
_LOCK = threading.Lock()


def read_zip(path: Path, archive: zipfile.ZipFile, folder: str, data: memoryview) -> Any:
    """Read a torch file in the container used since version 1.6.

    Args:
        folder: the prefix of names in the archive, before "data.pkl".
        data: the whole file.

    Raises:
        ArtifactError: it is damaged, unsafe, or was written on a big-endian machine.
    """
    entries = {info.filename: info for info in archive.infolist()}
    if f"{folder}constants.pkl" in entries:
        raise ArtifactError(
            "is a TorchScript program, not a table of tensors. If you trust it, load it and save "
            "its state_dict() with torch.save"
        )
    places = {name: member(data, info) for name, info in entries.items()}
    order = places.get(f"{folder}byteorder")
    if order is not None and bytes(order) != b"little":
        raise ArtifactError("was written on a big-endian machine, which is not supported")
    pickle = places[f"{folder}data.pkl"]
    if len(pickle) > _MAX_PICKLE:
        raise ArtifactError(f"has a pickle of {len(pickle)} bytes beside its numbers")
    stream = io.BytesIO(pickle)
    references = pickles.scan(stream, NAMES, Budget())
    for key, reference in references.items():
        if (found := places.get(f"{folder}data/{key}")) is None:
            raise ArtifactError(f"the numbers data/{key} are missing from the file")
        _check_length(reference, len(found))
    if bytes(pickle[:2]) == b"\x80\x02":
        return _load(path, mmap=True)
    stream.seek(0)
    return pickles.load(
        stream, NAMES, Budget(), _storages(references, lambda key: places[f"{folder}data/{key}"])
    )


def read_old(path: Path, stream: Stream, data: memoryview) -> Any:
    """Read a torch file in the container used until version 1.5: five pickles, then the numbers.

    Raises:
        ArtifactError: it is damaged or unsafe.
    """
    budget = Budget()
    start = _after_head(stream, NAMES, budget)
    references = pickles.scan(stream, NAMES, budget)
    places = dict(_numbers(stream, data, references, budget))
    stream.seek(start)
    if stream.read(2) == b"\x80\x02":
        return _load(path, mmap=False)
    stream.seek(start)
    return pickles.load(stream, NAMES, budget, _storages(references, places.__getitem__))


@pickles.reads_streams
def read_stream(data: bytes | bytearray | memoryview, budget: Budget) -> np.ndarray[Any, Any]:
    """Read the single storage in a torch stream that is inside a pickle.

    Raises:
        ArtifactError: it is something else, damaged or unsafe.
    """
    view = memoryview(data)
    stream = io.BytesIO(view)
    _after_head(stream, {}, budget)
    references = pickles.scan(stream, STORAGES, budget)
    places = dict(_numbers(stream, view, references, budget))
    if len(places) != 1:
        raise ArtifactError("does not hold exactly one storage of numbers where one is expected")
    ((key, place),) = places.items()
    return pickles.numbers(references[key].dtype, place)


def member(data: memoryview, info: zipfile.ZipInfo) -> memoryview:
    """The bytes of an entry of a zip file, as a view of the file.

    Raises:
        ArtifactError: it is compressed, encrypted or cut off.
    """
    header = bytes(data[info.header_offset : info.header_offset + 30])
    names, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    start = info.header_offset + 30 + names + extra
    part = data[start : start + info.compress_size]
    if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED:
        raise ArtifactError(
            f"{info.filename} is compressed or encrypted, which torch never does. Save it again"
        )
    if header[:4] != b"PK\x03\x04" or not len(part) == info.compress_size == info.file_size:
        raise ArtifactError(
            f"{info.filename} is cut off or damaged: {info.file_size} bytes are announced"
        )
    return part


def check_directory(data: memoryview) -> None:
    """Raise `ArtifactError` unless every zip reader would find the same list of contents.

    The list must end with the file, and nothing may come before the file's first entry.
    """

    def number(at: int, count: int) -> int:
        return int.from_bytes(data[at : at + count], "little")

    tail = len(data) - 22
    if tail < 0 or bytes(data[tail : tail + 4]) != b"PK\x05\x06" or number(tail + 20, 2):
        raise ArtifactError("is cut off or a damaged zip file. Download it again")
    size, offset = number(tail + 12, 4), number(tail + 16, 4)
    if tail > 76 and bytes(data[tail - 20 : tail - 16]) == b"PK\x06\x07":  # zip64
        points_to, tail = number(tail - 12, 8), tail - 76
        size, offset = number(tail + 40, 8), number(tail + 48, 8)
        offset = offset if points_to == tail else -1
    if size > _MAX_DIRECTORY:
        raise ArtifactError(f"is a zip file with a list of contents of {size} bytes")
    if size + offset != tail:
        raise ArtifactError("is a damaged zip file: its list of contents is not where it should be")


def _after_head(stream: Stream, names: Mapping[str, Any], budget: Budget) -> int:
    """Read the three pickles before the main one, and return the position of the main one."""
    magic, version, system = (pickles.load(stream, {}, budget) for _ in range(3))
    if magic != MAGIC or version != _VERSION or not isinstance(system, dict):
        raise ArtifactError("holds numbers in an unknown format; expected a torch stream")
    if system.get("little_endian") is False:
        raise ArtifactError("was written on a big-endian machine, which is not supported")
    return stream.tell()


def _numbers(
    stream: Stream, data: memoryview, references: Mapping[str, Reference], budget: Budget
) -> Iterator[tuple[str, memoryview]]:
    keys = pickles.load(stream, {}, budget)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(references):
        raise ArtifactError("lists different storages from those it refers to: it is damaged")
    position = stream.tell()
    for key in keys:
        reference = references[key]
        count = int.from_bytes(data[position : position + 8], "little")
        position += 8
        part = data[position : position + reference.nbytes]
        _check_length(reference, len(part), count)
        position += len(part)
        yield key, part


def _check_length(reference: Reference, length: int, count: int | None = None) -> None:
    if reference.nbytes != length or count not in (None, reference.numel):
        raise ArtifactError(
            f"storage {reference.key!r} announces {reference.numel} numbers ({reference.nbytes} "
            f"bytes), but {length} bytes are left for it. It is cut off or damaged"
        )


def _storages(
    references: Mapping[str, Reference], place: Callable[[str], memoryview]
) -> pickles.PersistentLoad:
    rows: dict[str, np.ndarray[Any, Any]] = {}

    def find(reference: Any) -> np.ndarray[Any, Any]:
        _, key, _ = pickles.parse_reference(reference)
        if key not in rows:
            rows[key] = pickles.numbers(references[key].dtype, place(key))
        return rows[key]

    return find


def _load(path: Path, mmap: bool) -> Any:
    made = {f"{cls.__module__}.{cls.__qualname__}": cls for cls in pickles.MADE_HERE}
    allowed: list[Any] = [(stands_for, name) for name, stands_for in (OTHERS | made).items()]
    try:
        with _LOCK, torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load can raise any class of error
        text = str(error).split("WeightsUnpickler error: ")[-1].strip().partition("\n")[0]
        raise ArtifactError(f"is damaged; torch.load reports: {text[:300]}") from error
