"""A latent and the space it lives in.

The spaces of StyleGAN2 are ordered `z -> w -> w_plus -> s`; a generator lowers a latent in this
order. `s` is StyleSpace (Wu et al. 2021, "StyleSpace Analysis"), flat, with the toRGB layers
included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import torch
from torch import Tensor

from stylegan_hub.artifacts import read_tensors, write_tensors
from stylegan_hub.bounds import check_weights
from stylegan_hub.errors import ArtifactError, MismatchError


class Space(StrEnum):
    """A latent space; `Space.Z < Space.W < Space.W_PLUS < Space.S`, the order of lowering."""

    Z = "z"
    W = "w"
    W_PLUS = "w_plus"
    S = "s"

    @property
    def shape(self) -> tuple[str, ...]:
        """Names of the dimensions of its codes, the batch first."""
        return _SHAPES[self]

    @classmethod
    def _missing_(cls, value: object) -> Space:
        spaces = ", ".join(space.value for space in cls)
        raise ValueError(f"Unknown latent space {value!r}; the spaces are {spaces}.")

    # Without these, `str` would compare the spaces alphabetically.
    def __lt__(self, other: str) -> bool:
        return self._depth < Space(other)._depth

    def __le__(self, other: str) -> bool:
        return self._depth <= Space(other)._depth

    def __gt__(self, other: str) -> bool:
        return self._depth > Space(other)._depth

    def __ge__(self, other: str) -> bool:
        return self._depth >= Space(other)._depth

    @property
    def _depth(self) -> int:
        return list(Space).index(self)


_SHAPES: dict[Space, tuple[str, ...]] = {
    Space.Z: ("n", "z_dim"),
    Space.W: ("n", "w_dim"),
    Space.W_PLUS: ("n", "num_ws", "w_dim"),
    Space.S: ("n", "num_styles"),
}


@dataclass(frozen=True, init=False, eq=False)
class Latents:
    """A batch of n latents of one space. It is immutable; every method returns a new one.

    `codes` is floating point: z `[n, z_dim]`, w `[n, w_dim]`, w_plus `[n, num_ws, w_dim]`,
    s `[n, num_styles]`. `space` may be given by name, as in `Latents("w_plus", codes)`.

    Raises `ValueError` for an unknown space or a shape that the space cannot have, and `TypeError`
    for codes that are not a floating-point tensor.
    """

    space: Space
    codes: Tensor

    def __init__(self, space: Space | str, codes: Tensor) -> None:
        space = Space(space)
        if not isinstance(codes, Tensor) or not codes.is_floating_point():
            got = f"a {codes.dtype} tensor" if isinstance(codes, Tensor) else type(codes).__name__
            raise TypeError(f"Latent codes must be a floating-point tensor; got {got}.")
        if codes.ndim != len(space.shape):
            raise ValueError(
                f"Latents in {space} have the shape [{', '.join(space.shape)}]; "
                f"got {list(codes.shape)}. {_shape_advice(space, codes)}"
            )
        object.__setattr__(self, "space", space)
        object.__setattr__(self, "codes", codes)

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: int | slice) -> Latents:
        """The chosen latents; the batch dimension stays, so `latents[0]` is a batch of one."""
        if isinstance(index, slice):
            return Latents(self.space, self.codes[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"Got index {index} for a batch of {len(self)} latents.")
        index %= len(self)
        return Latents(self.space, self.codes[index : index + 1])

    def __iter__(self) -> Iterator[Latents]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"Latents({self.space}, {list(self.codes.shape)}, {self.codes.dtype})"

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> Latents:
        """The same latents on a device, in a dtype."""
        return Latents(self.space, self.codes.to(device=device, dtype=dtype))

    def repeat(self, count: int) -> Latents:
        """The whole batch `count` times in a row: n * count latents, a, b, a, b for count 2."""
        return Latents(self.space, self.codes.repeat(count, *[1] * (self.codes.ndim - 1)))

    def lerp(self, other: Latents, weight: float) -> Latents:
        """A point on the straight line to `other`: weight 0 gives self, 1 gives other.

        Other weights outside [0, 1] extrapolate.

        Raises `MismatchError` when the spaces or the sizes of a latent differ.
        """
        _check_alike([self, other])
        return Latents(self.space, torch.lerp(self.codes, other.codes.to(self.codes), weight))

    @staticmethod
    def cat(batches: Sequence[Latents]) -> Latents:
        """All latents of several batches, in order.

        Raises `ValueError` for no batch, `MismatchError` when the spaces or the sizes of a latent
        differ.
        """
        _check_alike(batches)
        return Latents(batches[0].space, torch.cat([batch.codes for batch in batches]))

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: the tensor `codes`, and the space in the header."""
        metadata = {"kind": "latents", "space": self.space.value}
        write_tensors(Path(path), {"codes": self.codes}, metadata)

    @staticmethod
    def load(path: str | Path) -> Latents:
        """Read what `save` wrote, onto the CPU. Raises `NotFoundError` or `ArtifactError`."""
        tensors, metadata = read_tensors(Path(path))
        if "codes" not in tensors or "space" not in metadata:
            raise ArtifactError(
                f"{path} holds no latents: expected a tensor 'codes' and a 'space' in the header, "
                f"got {sorted(tensors)} and {sorted(metadata)}. Write the file with Latents.save."
            )
        try:
            check_weights({"codes": tensors["codes"]}, str(path))
            return Latents(metadata["space"], tensors["codes"])
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{path} holds invalid latents. {error}") from error


def _shape_advice(space: Space, codes: Tensor) -> str:
    if codes.ndim == len(space.shape) - 1:
        return "Add the batch dimension: codes[None]."
    fitting = [other.value for other in Space if len(other.shape) == codes.ndim]
    return f"This shape fits {' or '.join(fitting)}." if fitting else "Reshape them first."


def _check_alike(batches: Sequence[Latents]) -> None:
    if not batches:
        raise ValueError("Latents.cat needs at least one batch of latents; got none.")
    first = batches[0]
    for other in batches[1:]:
        if other.space != first.space or other.codes.shape[1:] != first.codes.shape[1:]:
            raise MismatchError(
                f"Latents must have the same space and size; got {first!r} and {other!r}. "
                "Lower both to the same space of the same generator first."
            )
