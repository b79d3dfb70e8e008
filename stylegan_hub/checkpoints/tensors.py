"""What a file says a tensor is, and the tensor itself once that has been checked.

A pickle describes a tensor by a storage (numbers in a row), an offset, a shape and strides. None of
these can be trusted: unchecked strides read outside of the storage, and a stride of 0 makes a
terabyte of a byte. Here nothing is allocated before everything is known to lie inside the file.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stylegan_hub.errors import ArtifactError

# Storage classes of torch -> how the numbers lie in a file, which is always little-endian.
# numpy has no bfloat16: those are read as integers of the same size.
STORAGE_DTYPES: dict[str, str] = {
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
_MAX_DIMENSIONS = 8
_LARGE = 1 << 16  # bytes from which on it is worth to give back the mapped pages of the file


@dataclass(eq=False)
class Storage:
    """Numbers in a row.

    Attributes:
        dtype: numpy's code of the type, or "bfloat16".
        numel: how many numbers the file says there are.
        data: their bytes; None until the file has been read so far.
    """

    dtype: str
    numel: int
    data: memoryview | bytearray | None = None

    @property
    def itemsize(self) -> int:
        """Bytes of a number."""
        return self.numpy_dtype.itemsize

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The type as numpy reads it."""
        return np.dtype("<u2" if self.dtype == "bfloat16" else self.dtype)

    def fill(self, data: memoryview | bytearray) -> None:
        """Give it its bytes.

        Raises:
            ArtifactError: another number of bytes than the file says.
        """
        if self.numel * self.itemsize != len(data):
            raise ArtifactError(
                f"a storage of {self.numel} numbers ({self.dtype}) needs "
                f"{self.numel * self.itemsize} bytes, the file has {len(data)} for it"
            )
        self.data = data


@dataclass(eq=False)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
        storage: the numbers.
        offset: index of the first one.
        shape: sizes.
        stride: steps between neighbors along each dimension, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @classmethod
    def contiguous(
        cls, storage: Storage, shape: Sequence[int], fortran: bool = False
    ) -> StoredTensor:
        """The whole storage, the last index running fastest (the first one if `fortran`)."""
        sizes = list(shape) if fortran else list(reversed(shape))
        steps = [math.prod(sizes[:i]) for i in range(len(sizes))]
        return cls(storage, 0, tuple(shape), tuple(steps if fortran else reversed(steps)))

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor's numbers."""
        return math.prod(self.shape) * self.storage.itemsize

    def check(self) -> None:
        """Raise `ArtifactError` unless the tensor lies inside its storage and is no larger."""
        numbers = (self.offset, *self.shape, *self.stride)
        if (
            not all(type(number) is int and number >= 0 for number in numbers)
            or len(self.shape) != len(self.stride)
            or len(self.shape) > _MAX_DIMENSIONS
        ):
            raise ArtifactError(
                f"a tensor has {len(self.shape)} sizes and {len(self.stride)} strides; expected as "
                f"many of both, at most {_MAX_DIMENSIONS}, and no negative numbers or offset"
            )
        where = f"a tensor of shape {list(self.shape)} with strides {list(self.stride)}"
        count = math.prod(self.shape)
        last = self.offset + sum(
            (size - 1) * step for size, step in zip(self.shape, self.stride, strict=True)
        )
        if count and last >= self.storage.numel:
            raise ArtifactError(
                f"{where} at offset {self.offset} ends at number {last}, outside of its storage of "
                f"{self.storage.numel}"
            )
        if count > self.storage.numel:
            raise ArtifactError(
                f"{where} has {count} numbers, its storage only {self.storage.numel}"
            )

    def load(self) -> Tensor:
        """The tensor in memory of its own, contiguous.

        Raises:
            ArtifactError: it does not lie inside its storage.
        """
        self.check()
        storage = self.storage
        if storage.data is None:
            raise ArtifactError("the numbers of a tensor are missing")
        if not math.prod(self.shape):
            empty = np.zeros(self.shape, storage.numpy_dtype.newbyteorder("="))
            return torch.from_numpy(empty)
        array: np.ndarray[tuple[int, ...], np.dtype[np.generic]] = np.ndarray(
            self.shape,
            storage.numpy_dtype,
            storage.data,
            self.offset * storage.itemsize,
            tuple(step * storage.itemsize for step in self.stride),
        )
        native = storage.numpy_dtype.newbyteorder("=")
        tensor = torch.from_numpy(np.array(array, native, order="C"))
        give_back(storage.data)
        return tensor.view(torch.bfloat16) if storage.dtype == "bfloat16" else tensor


def give_back(data: memoryview | bytearray) -> None:
    """Let the pages of a mapped file go, of which `data` is a part that has been used."""
    mapped = getattr(data, "obj", None)
    if len(data) > _LARGE and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)  # what is needed again is read again
