"""Bounds for the sizes and numbers in a file, checked before memory is allocated.

A config file has a few hundred bytes, but one number in it can request all the memory of a machine
or an endless loop. The bounds here are well above every published StyleGAN2 and its networks. The
dataclass of each network checks its sizes against them, and so does the code that reads artifacts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_WIDTH = 8192
"""Largest width of z, w, an embedding or a layer, in numbers."""
MAX_LAYERS = 256
"""Largest number of layers in one network."""
MAX_SIDE = 4096
"""Largest side of a picture, in pixels."""
MAX_CLASSES = 100_000
"""Largest number of classes of a generator with labels."""
MAX_STYLES = 200_000
"""Largest number of values in s."""
MAX_STRENGTH = 1000.0
"""Largest absolute strength on an edit's slider; published edits go to 20."""
MAX_WEIGHT = 1e6
"""Largest absolute value in an edit's tensors."""

_TYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
)  # fmt: skip

BASE_MODEL = {
    "num_ws": MAX_LAYERS,
    "w_dim": MAX_WIDTH,
    "num_styles": MAX_STYLES,
    "resolution": MAX_SIDE,
}
"""Bounds of the fields of `artifacts.BaseModel`."""


def check_sizes(values: Mapping[str, Any], bounds: Mapping[str, int], least: int = 1) -> None:
    """Raise `ValueError` for a size that is not a whole number within its bound.

    Args:
        values: sizes by name, whole numbers or sequences of them; None is skipped.
        bounds: the largest allowed size for each name to check.
        least: the smallest allowed size.
    """
    for name, most in bounds.items():
        value = values.get(name)
        if value is None:
            continue
        several = isinstance(value, Sequence) and not isinstance(value, str)
        sizes: list[Any] = list(value) if several else [value]
        if len(sizes) > MAX_LAYERS:
            raise ValueError(f"{name} has {len(sizes)} entries; expected at most {MAX_LAYERS}.")
        for size in sizes:
            number = isinstance(size, int) and not isinstance(size, bool)
            if not number or not least <= size <= most:
                what = "whole numbers" if several else "a whole number"
                raise ValueError(f"{name} is {_short(value)}; expected {what}, {least} to {most}.")


def check_weights(tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise `ValueError` for numbers that are not finite, beyond `MAX_WEIGHT` or of odd types.

    Args:
        where: the source of the tensors, for messages.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _TYPES:  # PyTorch cannot compute with those of 4 and 8 bits
            listed = ", ".join(str(one).removeprefix("torch.") for one in _TYPES)
            raise ValueError(
                f"{where}: tensor {name!r} is of the type {tensor.dtype}; expected {listed}."
            )
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{where}: tensor {name!r} holds numbers that are not finite.")
        if (greatest := float(tensor.detach().abs().max())) > MAX_WEIGHT:
            raise ValueError(
                f"{where}: tensor {name!r} holds {greatest:g}; expected at most {MAX_WEIGHT:g}."
            )


def is_strength(value: object) -> bool:
    """Whether a value is a number that a slider may have."""
    return is_within(value, MAX_STRENGTH)


def is_within(value: object, most: float) -> bool:
    """Whether a value is a number from `-most` to `most`."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return -most <= value <= most  # False for NaN too


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:20]}... ({len(text)} characters)"
