"""Generators in the layout of rosinality/stylegan2-pytorch, which e4e, pSp and StyleCLIP use too.

The file is a torch file of a dict with the averaged generator's weights as `g_ema` and, if it was
converted from NVIDIA's, the average w as `latent_avg`. The numbers are the same as NVIDIA's, under
other names and with dimensions of size 1. There are two filters, which may differ: one for the
upsampling convolutions and one for toRGB. Both include their gain of 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints import state_dicts
from stylegan_hub.checkpoints.pickles import Array
from stylegan_hub.checkpoints.sources import (
    Reading,
    generator_reading,
    sizes,
    taps_of,
    to_tensor,
)
from stylegan_hub.checkpoints.state_dicts import StateDict
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.stylegan2 import RESAMPLE_TAPS, StyleGAN2Generator

_MAP = re.compile(r"mapping\.fc(\d+)\.(weight|bias)")
_LAYER = re.compile(r"synthesis\.b(\d+)\.(conv0|conv1|torgb)\.(.+)")
_PARTS = {
    "weight": "conv.weight",
    "affine.weight": "conv.modulation.weight",
    "affine.bias": "conv.modulation.bias",
    "noise_strength": "noise.weight",
    "bias": "activate.bias",
    "resample_filter": "conv.blur.kernel",
}
_USUAL_LAYERS = (8, 2)  # of mapping networks with 512 features; 2 is from stylegan2-ada
_GAIN = 4  # of a filter that doubles the size
_AVERAGE = "latent_avg"
_INSIDE = ("", "decoder.", "generator.", "G.", "g_ema.")  # possible prefixes of names
_INPUT = "input.input"
_MARK = re.compile(
    r"input\.input|(conv1|convs\.\d+|to_rgb1|to_rgbs\.\d+)\.conv\.modulation\.weight"
)


def find(content: Any) -> StateDict | None:
    """The generator's tensors in a file, with the average w; None if there is no generator.

    They may be inside nested dicts, and their names may have prefixes ("decoder." in e4e, pSp and
    StyleCLIP's mappers; "module.", "_orig_mod."). An averaged generator takes precedence over one
    that is not averaged.

    Raises:
        ArtifactError: there are several generators, and their places do not tell which to use.
    """
    found = state_dicts.find(content, _MARK, _INSIDE)
    if found is not None and state_dicts.is_array(average := content.get(_AVERAGE)):
        found.tensors[_AVERAGE], found.whole[_AVERAGE] = average, _AVERAGE
    return found


def reading(found: StateDict, options: Mapping[str, Any]) -> Reading[StyleGAN2Generator]:
    """The generator that a rosinality file describes.

    Args:
        options: the options stored in the file, which may give the number of layers.

    Raises:
        ArtifactError: tensors are missing.
    """
    tensors, idle = found.tensors, {}
    least = _promised(tensors, options)
    if (average := tensors.get(_AVERAGE)) is not None:
        rows = to_tensor(average).reshape(-1, average.shape[-1] if len(average.shape) else 1)
        if not len(rows) or not len(average.shape):
            raise ArtifactError(f"tensor 'latent_avg' has the shape {list(average.shape)}")
        if not torch.equal(rows, rows[:1].expand_as(rows)):
            idle[_AVERAGE] = "one w for each layer; the generator's average w is measured instead"
    part = found.part(place=partial(_place, idle=idle), idle=idle)
    config = sizes(part, least | {"architecture": "skip"})
    layers = config["num_mapping_layers"]
    if config["w_dim"] == 512 and layers not in (*_USUAL_LAYERS, options.get("n_mlp")):
        raise ArtifactError(
            f"has {layers} mapping layers.",
            got=layers,
            expected=_USUAL_LAYERS,
            remedy="Published networks have 8, some 2, so layers are probably missing. If not, "
            "save it with 'args': argparse.Namespace(n_mlp=...) beside 'g_ema'.",
        )
    highest = config["img_resolution"]
    for name, place in {
        "resample_filter": f"b{highest}.conv0", "rgb_resample_filter": f"b{highest}"
    }.items():  # fmt: skip
        if (source := part.source(f"synthesis.{place}.resample_filter")) is not None:
            config[name] = taps_of(to_tensor(source.array))
    if config.get("rgb_resample_filter") == config.get("resample_filter", RESAMPLE_TAPS):
        config.pop("rgb_resample_filter", None)
    # Old files have no noise and no filters; a file that has some of them must have all.
    marks = {"noise": "noises.", "filter": ".conv.blur.kernel", "image filter": ".upsample.kernel"}
    lacking = [kind for kind, mark in marks.items() if not any(mark in name for name in tensors)]
    return generator_reading(
        "a generator in rosinality's layout", part, config, ("average", *lacking)
    )


def _promised(tensors: Mapping[str, Array], options: Mapping[str, Any]) -> dict[str, int]:
    """The expected number of layers, from the file's options and the rows of its average."""
    resolutions = [
        value
        for name in ("size", "stylegan_size", "output_size")
        if type(value := options.get(name)) is int and value & (value - 1) == 0
    ]
    average = tensors.get(_AVERAGE)
    if average is not None and len(average.shape) == 2 and average.shape[0] > 1:
        resolutions.append(2 ** (average.shape[0] // 2 + 1))
    layers = options.get("n_mlp")
    return {
        "img_resolution": max(resolutions, default=0),
        "num_mapping_layers": layers if type(layers) is int and layers < 100 else 0,
    }


def _place(ours: str, idle: Mapping[str, str]) -> tuple[str, Any] | None:
    """The file's name for one of our tensors, and its conversion to ours."""
    if match := _MAP.fullmatch(ours):
        return f"style.{int(match[1]) + 1}.{match[2]}", _same  # style.0 normalizes
    if ours == "mapping.w_avg":
        return None if _AVERAGE in idle else (_AVERAGE, _first_row)
    if ours == "synthesis.b4.const":
        return _INPUT, partial(_reduced, dimensions=3)
    if match := re.fullmatch(r"synthesis\.b(\d+)\.resample_filter", ours):
        index = int(match[1]).bit_length() - 4  # 0 at 8 px
        return (f"to_rgbs.{index}.upsample.kernel", _without_gain) if index >= 0 else None
    if (match := _LAYER.fullmatch(ours)) is None:
        return None
    level, layer, part = int(match[1]).bit_length() - 3, match[2], match[3]  # 0 at 4 px
    if part == "noise_const":
        index = 2 * level - (layer == "conv0")
        return f"noises.noise_{index}", partial(_reduced, dimensions=2)
    if layer == "torgb":
        name = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        if part == "bias":
            return f"{name}.bias", partial(_reduced, dimensions=1)
    else:
        name = f"convs.{2 * level - 2 + (layer == 'conv1')}" if level else "conv1"
    if part not in _PARTS or (part == "resample_filter" and layer != "conv0"):
        return None
    dimensions = {"weight": 4, "noise_strength": 0}.get(part)
    convert = _same if dimensions is None else partial(_reduced, dimensions=dimensions)
    return f"{name}.{_PARTS[part]}", _without_gain if part == "resample_filter" else convert


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _without_gain(kernel: Tensor) -> Tensor:
    return kernel / _GAIN


def _first_row(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])[0]


def _reduced(tensor: Tensor, dimensions: int) -> Tensor:
    """Without leading (and, for toRGB's bias, trailing) dimensions of size 1."""
    while tensor.ndim > dimensions and tensor.shape[0] == 1:
        tensor = tensor[0]
    while tensor.ndim > dimensions and tensor.shape[-1] == 1:
        tensor = tensor[..., 0]
    return tensor
