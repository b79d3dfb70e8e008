"""Generators of the TensorFlow era: StyleGAN2 and StyleGAN2-ADA, and what StyleCLIP edits.

The file is a pickle of three networks (G, D, Gs), Gs being the averaged generator. Convolutions
are stored as [height, width, in, out], upsampling ones rotated by 180 degrees, and biases of the
modulation without their 1.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from torch import Tensor

from stylegan_hub.checkpoints.sources import GeneratorSources, Source, sizes
from stylegan_hub.checkpoints.tensors import StoredTensor
from stylegan_hub.checkpoints.unpickler import Record
from stylegan_hub.errors import ArtifactError

_NETWORK = "dnnlib.tflib.network.Network"
_OLDEST_VERSION = 4
_LAYER = re.compile(r"(\d+)x\d+/(Conv|Conv0_up|Conv1|ToRGB|Skip)/(\w+)")
_OLD_TO_RGB = re.compile(r"ToRGB_lod(\d+)/(\w+)")
_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}
_PARTS = {
    "weight": "weight",
    "bias": "bias",
    "noise_strength": "noise_strength",
    "mod_weight": "affine.weight",
    "mod_bias": "affine.bias",
}


def is_tensorflow(content: Any) -> bool:
    """Whether a file holds networks of NVIDIA's TensorFlow code."""
    networks = content if isinstance(content, tuple | list) else [content]
    return bool(networks) and all(
        isinstance(network, Record) and network.name == _NETWORK for network in networks
    )


def generator_sources(content: Any) -> GeneratorSources:
    """What a TensorFlow-era pickle says about its averaged generator.

    Raises:
        ArtifactError: there is none, it is too old, or no StyleGAN2.
    """
    networks = content if isinstance(content, tuple | list) else [content]
    network = networks[-1]  # G, D, Gs
    if len(networks) not in (1, 3):
        raise ArtifactError(f"holds {len(networks)} networks; expected G, D and Gs")
    variables = _variables(network, "", 0)
    version = network.state.get("version")
    if type(version) is not int or version < _OLDEST_VERSION:
        raise ArtifactError(
            f"was written by version {str(version)[:20]} of NVIDIA's TensorFlow code; "
            f"{_OLDEST_VERSION} (StyleGAN2) and newer are read"
        )
    settings = network.state.get("static_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    if settings.get("normalize_latents", True) is not True:
        raise ArtifactError("does not normalize z, which is not supported")
    tensors: dict[str, Source] = {}
    for name, stored in variables.items():
        if (place := _place(name, variables)) is not None:
            tensors[place[0]] = Source(f"Gs.{name}", stored, place[1])
    config = sizes(tensors)
    for key, names in {
        "conv_clamp": ("conv_clamp",),
        "num_fp16_res": ("num_fp16_res",),
        "activation": ("nonlinearity", "act"),
        "mapping_activation": ("mapping_nonlinearity",),
        "mapping_lr_multiplier": ("mapping_lrmul",),
    }.items():
        values = [settings[name] for name in names if settings.get(name) is not None]
        if values and not isinstance(values[0], str | int | float):
            raise ArtifactError(f"has a {type(values[0]).__name__} as {names[0]}")
        if values:
            config[key] = values[0]
    taps = settings.get("resample_kernel")
    if isinstance(taps, list | tuple) and all(isinstance(tap, int | float) for tap in taps):
        config["resample_filter"] = tuple(taps)
    return GeneratorSources(config, tensors)


def _variables(network: Any, prefix: str, depth: int) -> dict[str, StoredTensor]:
    state = network.state if isinstance(network, Record) else None
    if not isinstance(state, dict) or depth > 5:
        raise ArtifactError(f"Gs.{prefix} is no network")
    found = {}
    for item in state.get("variables") or []:
        if not isinstance(item, tuple | list) or len(item) != 2 or not isinstance(item[0], str):
            raise ArtifactError(f"Gs.{prefix} lists a variable without a name and a value")
        if isinstance(item[1], StoredTensor):
            found[f"{prefix}{item[0]}"] = item[1]
    components = state.get("components")
    for name, component in (components if isinstance(components, dict) else {}).items():
        found |= _variables(component, f"{prefix}{name}/", depth + 1)
    return found


def _place(name: str, variables: dict[str, StoredTensor]) -> tuple[str, Any] | None:
    """Our name of a variable, and what converts it; None for one that is not needed."""
    if name == "dlatent_avg":
        return "mapping.w_avg", _same
    if match := re.fullmatch(r"mapping/(?:Dense(\d+)|LabelEmbed)/(weight|bias)", name):
        layer = "embed" if match[1] is None else f"fc{match[1]}"
        return f"mapping.{layer}.{match[2]}", _transposed if match[2] == "weight" else _same
    if name == "synthesis/4x4/Const/const":
        return "synthesis.b4.const", partial(_squeezed, count=1)
    if match := re.fullmatch(r"synthesis/noise(\d+)", name):
        index = int(match[1])  # 0 at 4 px, then two at each resolution
        resolution = 4 * 2 ** min((index + 1) // 2, 20)
        conv = "conv0" if index % 2 else "conv1"
        return f"synthesis.b{resolution}.{conv}.noise_const", partial(_squeezed, count=2)
    layer = name.removeprefix("synthesis/")
    if match := _OLD_TO_RGB.fullmatch(layer):
        # Networks of the orig architecture: one toRGB for each lod, of which the last one draws.
        highest = max(
            (int(found[1]) for other in variables if (found := re.search(r"/(\d+)x\d+/", other))),
            default=4,
        )
        layer = f"{highest}x{highest}/ToRGB/{match[2]}" if match[1] == "0" else ""
    if (match := _LAYER.fullmatch(layer)) is None or match[3] not in _PARTS:
        return None
    ours = f"synthesis.b{match[1]}.{_LAYERS[match[2]]}.{_PARTS[match[3]]}"
    convert = {"weight": _kernel, "mod_weight": _transposed, "mod_bias": _plus_one}
    if match[2] == "Conv0_up" and match[3] == "weight":
        return ours, _rotated_kernel
    return ours, convert.get(match[3], _same)


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
