"""What sizes and numbers a file may ask for: checked before memory is taken.

A config file is a few hundred bytes, and one number in it can ask for all memory of a machine or
for a loop without end. The bounds here lie well above every published StyleGAN2 and its networks.
Each network's dataclass checks its sizes by them, and so does whoever reads an artifact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

MAX_WIDTH = 8192
"""Of z, w, an embedding or a layer, in numbers."""
MAX_LAYERS = 256
"""Of one network."""
MAX_SIDE = 4096
"""Of a picture, in pixels."""
MAX_CLASSES = 100_000
"""Of a generator with labels."""
MAX_STYLES = 200_000
"""Numbers in s."""
MAX_STRENGTH = 1000.0
"""Of an edit's slider, either way; published edits go to 20."""
MAX_WEIGHT = 1e6
"""Of a number in an edit's tensors, either way."""

BASE_MODEL = {
    "num_ws": MAX_LAYERS,
    "w_dim": MAX_WIDTH,
    "num_styles": MAX_STYLES,
    "resolution": MAX_SIDE,
}
"""Bounds of the fields of `artifacts.BaseModel`."""


def check_sizes(values: Mapping[str, Any], bounds: Mapping[str, int], least: int = 1) -> None:
    """Raise `ValueError` for a size that is no whole number within its bound.

    Args:
        values: sizes by name, whole numbers or sequences of them; None is no size.
        bounds: the greatest allowed size of each name that is checked.
        least: the smallest allowed one.
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
    """Raise `ValueError` for numbers that are not finite, or beyond `MAX_WEIGHT`.

    Args:
        where: the tensors come from, for messages.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{where}: tensor {name!r} holds numbers that are not finite.")
        if (greatest := float(tensor.detach().abs().max())) > MAX_WEIGHT:
            raise ValueError(
                f"{where}: tensor {name!r} holds {greatest:g}; expected at most {MAX_WEIGHT:g}."
            )


def is_strength(value: object) -> bool:
    """Whether it is a number that a slider may have."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and abs(value) <= MAX_STRENGTH  # type: ignore[arg-type]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:20]}... ({len(text)} characters)"
