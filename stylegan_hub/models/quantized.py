"""Weights as bytes: a quarter of the size, in the steps in which they were published.

A tensor `NAME` is stored as `NAME.bytes`, uint8, and `NAME.steps`, its scale and its minimum,
float64 `[2]`; its value is `bytes * scale + minimum`. Tensors that are stored unchanged keep their
name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stylegan_hub.errors import ArtifactError

_BYTES, _STEPS = ".bytes", ".steps"


@dataclass(frozen=True)
class Quantized:
    """A tensor in 256 equal steps.

    Attributes:
        levels: uint8 of any shape.
        scale, minimum: size of a step, and the value of level 0.
    """

    levels: UInt8[Tensor, ...]
    scale: float
    minimum: float

    def values(self) -> Float[Tensor, ...]:
        """The values as float32."""
        return (self.levels.double() * self.scale + self.minimum).float()


def packed(tensors: Mapping[str, Tensor | Quantized]) -> dict[str, Tensor]:
    """The tensors in the form in which they are stored."""
    stored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, Tensor):
            stored[name] = tensor
        else:
            stored[name + _BYTES] = tensor.levels
            steps = [tensor.scale, tensor.minimum]
            stored[name + _STEPS] = torch.tensor(steps, dtype=torch.float64)
    return stored


def unpacked(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values of tensors that `packed` made.

    Raises:
        ArtifactError: bytes without steps, or of another type.
    """
    values: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if name.endswith(_STEPS):
            continue
        if not name.endswith(_BYTES):
            values[name] = tensor
            continue
        plain = name.removesuffix(_BYTES)
        steps = stored.get(plain + _STEPS)
        if tensor.dtype != torch.uint8 or steps is None or steps.shape != (2,):
            raise ArtifactError(
                f"The stored tensor {plain!r} is damaged.",
                got=f"{tensor.dtype}, steps {None if steps is None else list(steps.shape)}",
                expected="uint8 levels with a scale and a minimum",
                remedy="Copy or download the folder again.",
            )
        values[plain] = Quantized(tensor, *steps.tolist()).values()
    return values
