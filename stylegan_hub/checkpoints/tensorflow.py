"""Generators of the TensorFlow era: StyleGAN2 and StyleGAN2-ADA, which StyleCLIP edits.

The file is a pickle of three networks (G, D, Gs); Gs is the averaged generator. Convolutions are
stored as [height, width, in, out], upsampling convolutions are rotated by 180 degrees, and the
biases of the modulation are stored without their offset of 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints.files import arrays_in
from stylegan_hub.checkpoints.pickles import Array, Record
from stylegan_hub.checkpoints.sources import (
    Part,
    Reading,
    generator_reading,
    sizes,
    taps_of,
)
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator

_NETWORK = "dnnlib.tflib.network.Network"
_OLDEST_VERSION = 4
_NETWORKS = ("G", "D", "Gs")
_LAYER = re.compile(r"synthesis\.b(\d+)\.(conv0|conv1|torgb|skip)\.(.+)")
_MAP = re.compile(r"mapping\.(?:fc(\d+)|embed)\.(weight|bias)")
_LAYERS = {"conv0": "Conv0_up", "conv1": "Conv1", "torgb": "ToRGB", "skip": "Skip"}
_PARTS = {
    "weight": "weight",
    "bias": "bias",
    "noise_strength": "noise_strength",
    "affine.weight": "mod_weight",
    "affine.bias": "mod_bias",
}
# The state of progressive growing, and its layers that render at lower resolutions.
_IDLE = re.compile(r"(synthesis\.)?lod|synthesis\.ToRGB_lod[1-9]\d*/\w+")
_SETTINGS = {
    "conv_clamp": ("conv_clamp",),
    "num_fp16_res": ("num_fp16_res",),
    "activation": ("nonlinearity", "act"),
    "mapping_activation": ("mapping_nonlinearity",),
    "mapping_lr_multiplier": ("mapping_lrmul",),
}


def is_tensorflow(content: Any) -> bool:
    """Whether a file holds networks of NVIDIA's TensorFlow code."""
    networks = content if isinstance(content, tuple | list) else [content]
    return bool(networks) and all(
        isinstance(network, Record) and network.name == _NETWORK for network in networks
    )


def by_name(content: Any) -> Any:
    """The networks of a file under their names, G, D and Gs."""
    networks = content if isinstance(content, tuple | list) else [content]
    if len(networks) not in (1, 3):
        raise ArtifactError(f"holds {len(networks)} networks; expected G, D and Gs")
    return dict(zip(_NETWORKS[-len(networks) :], networks, strict=True))


def reading(content: Any) -> Reading[StyleGAN2Generator]:
    """The averaged generator that a TensorFlow-era pickle describes.

    Raises:
        ArtifactError: there is none, it is too old, or not a StyleGAN2.
    """
    network = by_name(content)["Gs"]
    _check_variables(network, "Gs")
    version = network.state.get("version")
    if type(version) is not int or version < _OLDEST_VERSION:
        raise ArtifactError(
            f"was written by version {str(version)[:20]} of NVIDIA's TensorFlow code; "
            f"supported are {_OLDEST_VERSION} (StyleGAN2) and newer"
        )
    settings = network.state.get("static_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    if settings.get("normalize_latents", True) is not True:
        raise ArtifactError("does not normalize z, which is not supported")
    tensors = {name: array for name, array in arrays_in(network) if "static_kwargs" not in name}
    idle = {name: "only training needs it" for name in tensors if _IDLE.fullmatch(name)}
    part = Part(tensors, partial(_place, tensors=tensors), "Gs.", idle)
    least = _promised(settings)
    average = tensors.get("dlatent_avg")
    if "mapping_layers" not in settings and average is not None and average.shape == (512,):
        least["num_mapping_layers"] = 8  # the default in NVIDIA's code; files leave it out
    config = sizes(part, least)
    for key, names in _SETTINGS.items():
        values = [settings[name] for name in names if settings.get(name) is not None]
        if values and not isinstance(values[0], str | int | float):
            raise ArtifactError(f"has a {type(values[0]).__name__} as {names[0]}")
        if values:
            config[key] = values[0]
    if "resample_kernel" in settings:
        config["resample_filter"] = _taps(settings["resample_kernel"])
    return generator_reading(
        "a generator of NVIDIA's TensorFlow code",
        part,
        config,
        ("filter", "image filter", "average"),
    )


def _taps(kernel: Any) -> Any:
    try:
        return taps_of(torch.tensor([1.0] if kernel is None else kernel, dtype=torch.float64))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"has {str(kernel)[:50]} as resample_kernel: {error}") from error


def _promised(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The expected number of layers, from the arguments stored in the file."""
    names = {"resolution": "img_resolution", "mapping_layers": "num_mapping_layers"}
    least: dict[str, Any] = {
        ours: value for name, ours in names.items() if type(value := settings.get(name)) is int
    }
    if isinstance(architecture := settings.get("architecture"), str):
        least["architecture"] = architecture
    return least


def _check_variables(network: Any, name: str, depth: int = 0) -> None:
    state = network.state if isinstance(network, Record) else None
    if not isinstance(state, dict) or depth > 5:
        raise ArtifactError(f"{name} is not a network")
    for item in state.get("variables") or []:
        if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[0], str):
            raise ArtifactError(f"{name} lists a variable without a name and a value")
    components = state.get("components")
    for inner, component in (components if isinstance(components, dict) else {}).items():
        _check_variables(component, f"{name}.{inner}", depth + 1)


def _place(ours: str, tensors: Mapping[str, Array]) -> tuple[str, Any] | None:
    """The file's name for one of our tensors, and its conversion to ours."""
    if ours == "mapping.w_avg":
        return "dlatent_avg", _same
    if match := _MAP.fullmatch(ours):
        layer = "LabelEmbed" if match[1] is None else f"Dense{match[1]}"
        name = f"mapping.{layer}/{match[2]}"
        return name, _transposed if match[2] == "weight" else _same
    if ours == "synthesis.b4.const":
        return "synthesis.4x4/Const/const", partial(_squeezed, count=1)
    if (match := _LAYER.fullmatch(ours)) is None:
        return None
    size, layer, part = int(match[1]), match[2], match[3]
    if part == "noise_const":  # 0 at 4 px, then two at each resolution
        index = 2 * (size.bit_length() - 3) - (layer == "conv0")
        return f"synthesis.noise{index}", partial(_squeezed, count=2)
    if part not in _PARTS:
        return None
    name = "Conv" if size == 4 and layer == "conv1" else _LAYERS[layer]
    whole = f"synthesis.{size}x{size}/{name}/{_PARTS[part]}"
    if layer == "torgb" and whole not in tensors:
        # Older networks of the orig architecture have one toRGB per lod; the last one is used.
        old = f"synthesis.ToRGB_lod0/{_PARTS[part]}"
        here, larger = (f"synthesis.{n}x{n}/" for n in (size, 2 * size))
        layers = [name for name in tensors if name.startswith((here, larger))]
        if old in tensors and layers and not any(name.startswith(larger) for name in layers):
            whole = old
    convert = {
        "weight": _rotated_kernel if layer == "conv0" else _kernel,
        "affine.weight": _transposed,
        "affine.bias": _plus_one,
    }
    return whole, convert.get(part, _same)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _transposed(tensor: Tensor) -> Tensor:
    return tensor.T


def _plus_one(tensor: Tensor) -> Tensor:
    return tensor + 1


def _kernel(tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1)


def _rotated_kernel(tensor: Tensor) -> Tensor:
    return tensor.permute(3, 2, 0, 1).flip(2, 3)


def _squeezed(tensor: Tensor, count: int) -> Tensor:
    return tensor.reshape(tensor.shape[count:])
