"""Generators in the layout of rosinality/stylegan2-pytorch, which e4e, pSp and StyleCLIP use too.

A torch file of a dict with the averaged generator's weights as `g_ema` and, in files converted from
NVIDIA's, the average w as `latent_avg`. The numbers are NVIDIA's, under other names and with
dimensions of size 1; filters contain their gain of 4, so only their shape is used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints.sources import GeneratorSources, Source, resample_taps, sizes
from stylegan_hub.checkpoints.tensors import StoredTensor
from stylegan_hub.errors import ArtifactError

_LAYER = re.compile(r"(conv1|to_rgb1|convs\.(\d+)|to_rgbs\.(\d+))\.(.+)")
_PARTS = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",
}
_MAX_INDEX = 30


def state_dict(content: Any) -> tuple[dict[str, StoredTensor], StoredTensor | None] | None:
    """The generator's tensors in a file, and its average w; None where there is no generator.

    It is read from `g_ema`, from the decoder inside a `state_dict` (e4e, pSp, StyleCLIP's mappers),
    or from a file that holds the tensors alone.
    """
    if not isinstance(content, dict):
        return None
    average = content.get("latent_avg")
    inside = content.get("state_dict")
    for candidate, prefix in ((content.get("g_ema"), ""), (inside, "decoder."), (content, "")):
        if not isinstance(candidate, dict):
            continue
        tensors = {
            name.removeprefix("module.").removeprefix(prefix): stored
            for name, stored in candidate.items()
            if isinstance(name, str)
            and name.removeprefix("module.").startswith(prefix)
            and isinstance(stored, StoredTensor)
        }
        if "input.input" in tensors:
            return tensors, average if isinstance(average, StoredTensor) else None
    return None


def generator_sources(
    tensors: Mapping[str, StoredTensor], latent_avg: StoredTensor | None
) -> GeneratorSources:
    """What a rosinality file says about its generator.

    Raises:
        ArtifactError: tensors are missing.
    """
    sources: dict[str, Source] = {}
    for name, stored in tensors.items():
        if (place := _place(name)) is not None:
            shape = _shape(place, stored)
            sources[place] = Source(name, stored, partial(_reshaped, shape=shape))
    if latent_avg is not None and (average := _average(latent_avg)) is not None:
        sources["mapping.w_avg"] = average
    config = sizes(sources)
    kernels = ("convs.0.conv.blur.kernel", "to_rgbs.0.upsample.kernel")
    if kernel := next((tensors[name] for name in kernels if name in tensors), None):
        config["resample_filter"] = resample_taps(kernel)
    return GeneratorSources(config, sources, ("resample_filter", "w_avg", "noise_const"))


def _place(name: str) -> str | None:
    """NVIDIA's name of a tensor; None for one that is not needed."""
    if match := re.fullmatch(r"style\.([1-9]\d?)\.(weight|bias)", name):
        return f"mapping.fc{int(match[1]) - 1}.{match[2]}"
    if name == "input.input":
        return "synthesis.b4.const"
    if match := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
        index = int(match[1])
        return f"synthesis.{_convolution(index)}.noise_const" if index <= _MAX_INDEX else None
    if (match := _LAYER.fullmatch(name)) is None or match[4] not in _PARTS:
        return None
    index = int(match[2] or match[3] or 0)
    if index > _MAX_INDEX:
        return None
    if match[2]:
        layer = _convolution(index + 1)
    elif match[3]:
        layer = f"b{8 * 2**index}.torgb"
    else:
        layer = "b4.conv1" if match[1] == "conv1" else "b4.torgb"
    return f"synthesis.{layer}.{_PARTS[match[4]]}"


def _convolution(index: int) -> str:
    """The 3x3 convolution with this number: one at 4 px, then two at each resolution."""
    return f"b{4 * 2 ** ((index + 1) // 2)}.{'conv0' if index % 2 else 'conv1'}"


def _shape(place: str, stored: StoredTensor) -> tuple[int, ...]:
    """The shape without the leading (and, for toRGB's bias, trailing) dimensions of size 1."""
    wanted = {"const": 3, "noise_const": 2, "noise_strength": 0, "bias": 1}
    part = place.rsplit(".", 1)[1]
    dimensions = 4 if part == "weight" and "affine" not in place and "fc" not in place else 2
    dimensions = wanted.get(part, dimensions)
    shape = stored.shape
    while len(shape) > dimensions and shape[0] == 1:
        shape = shape[1:]
    while len(shape) > dimensions and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _average(stored: StoredTensor) -> Source | None:
    """latent_avg [w_dim], or [num_ws, w_dim] in e4e's files if it is the same for all layers."""
    rows = stored.load() if len(stored.shape) <= 3 else torch.empty(0)
    rows = rows.reshape(-1, stored.shape[-1] if stored.shape else 1)
    if len(rows) == 0:
        raise ArtifactError(f"tensor 'latent_avg' has the shape {list(stored.shape)}")
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        return None
    return Source("latent_avg", stored, partial(_first_row, size=rows.shape[1]))


def _first_row(tensor: Tensor, size: int) -> Tensor:
    return tensor.reshape(-1, size)[0]


def _reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tensor.reshape(shape)
