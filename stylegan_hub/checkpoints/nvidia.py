"""Generators of NVIDIA's PyTorch releases: stylegan2-ada-pytorch, and StyleGAN2 in stylegan3.

The file is a pickle of a dict with `G_ema`, the averaged generator. Each module in it carries the
source text of its class, which NVIDIA's loader executes; here only its attributes are read.
Settings that the shapes do not show (clamp, activation, half precision) come from the modules'
attributes, since releases store constructor arguments in different ways. The attributes also give
the number of layers, so that a file with a missing layer is not mistaken for a smaller network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from stylegan_hub.checkpoints.files import arrays_in
from stylegan_hub.checkpoints.pickles import Record
from stylegan_hub.checkpoints.sources import (
    Part,
    Reading,
    generator_reading,
    sizes,
    taps_of,
    to_tensor,
)
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.stylegan2 import RESAMPLE_TAPS, StyleGAN2Generator

_MAX_MODULES = 10_000
_MAX_DEPTH = 20
_NATIVE_STYLEGAN3 = re.compile(r"synthesis\.(input\.|L\d+_)")
_NETWORKS = ("G_ema", "G")
# Attributes of a module -> our arguments that must agree with them.
_SAYS = {
    "": {"z_dim": "z_dim", "c_dim": "c_dim", "w_dim": "w_dim", "img_channels": "img_channels",
         "img_resolution": "img_resolution"},
    "mapping.": {"num_layers": "num_mapping_layers", "z_dim": "z_dim", "c_dim": "c_dim"},
    "synthesis.": {"img_resolution": "img_resolution", "img_channels": "img_channels",
                   "w_dim": "w_dim"},
}  # fmt: skip


def is_nvidia(content: Any) -> bool:
    """Whether a file holds networks of NVIDIA's PyTorch code."""
    if isinstance(content, Record):
        return isinstance(content.state, dict) and "_modules" in content.state
    return isinstance(content, dict) and any(
        isinstance(content.get(name), Record) and is_nvidia(content[name]) for name in _NETWORKS
    )


def reading(content: Any) -> Reading[StyleGAN2Generator]:
    """The averaged generator that an NVIDIA pickle describes.

    Raises:
        ArtifactError: there is none, or it is not a StyleGAN2.
    """
    prefix = "" if isinstance(content, Record) else "G_ema."
    network = content if isinstance(content, Record) else content.get("G_ema")
    if not isinstance(network, Record):
        raise ArtifactError(
            f"has no averaged generator 'G_ema'; it holds {', '.join(map(str, content))}"
        )
    modules = _modules(network)
    tensors = {
        name: array for name, array in arrays_in(network) if "._init_" not in f".{name}"
    }  # without the constructor arguments, which are not needed
    if any(_NATIVE_STYLEGAN3.match(name) for name in tensors):
        raise ArtifactError(
            "is a StyleGAN3 generator (alias-free layers 'synthesis.input', 'synthesis.L0_...'); "
            "only StyleGAN2 is supported.",
            got="StyleGAN3",
            expected="StyleGAN2",
            remedy="NVIDIA's stylegan3 code also trains StyleGAN2 (--cfg=stylegan2), and those "
            "files can be read.",
        )
    idle = {
        name: "nothing is resampled there"
        for name, array in tensors.items()
        if name.endswith("conv1.resample_filter") and not _is_usual(array)
    }
    part = Part(tensors, lambda ours: None if ours in idle else (ours, _same), prefix, idle)
    architecture = _attribute(modules, r"synthesis\.b\d+\.", "architecture", None)
    layers = _int(modules, "mapping.", "num_layers")
    config = sizes(part, {
        "num_mapping_layers": layers,
        "img_resolution": _int(modules, "synthesis.", "img_resolution"),
        "architecture": architecture,
    })  # fmt: skip
    convolutions, all_layers = r"synthesis\.b\d+\.conv[01]\.", r"synthesis\.b\d+\.\w+\."
    config["conv_clamp"] = _attribute(modules, rf"(?!.*skip){all_layers}", "conv_clamp", None)
    config["activation"] = _attribute(modules, convolutions, "activation", "lrelu")
    config["mapping_activation"] = _attribute(modules, r"mapping\.fc\d+\.", "activation", "lrelu")
    config["mapping_lr_multiplier"] = _attribute(modules, r"mapping\.fc\d+\.", "bias_gain", 0.01)
    config["num_fp16_res"] = sum(
        modules.get(f"synthesis.b{resolution}.", {}).get("use_fp16") is True
        for resolution in config["channels"]
    )
    config |= _filters(part, config)
    _check_attributes(modules, config)
    return generator_reading(
        "a generator of NVIDIA's PyTorch code", part, config, _lacking(modules)
    )


def _same(tensor: Tensor) -> Tensor:
    return tensor


def _is_usual(array: Any) -> bool:
    return len(array.shape) == 2 and array.shape[0] == array.shape[1] == len(RESAMPLE_TAPS)


def _filters(part: Part, config: Mapping[str, Any]) -> dict[str, Any]:
    """Taps of the filter after upsampling convolutions, and of the filter between images."""
    found = {}
    highest = config["img_resolution"]
    for name, ours in {
        "resample_filter": f"b{highest}.conv0", "rgb_resample_filter": f"b{highest}"
    }.items():  # fmt: skip
        if (source := part.source(f"synthesis.{ours}.resample_filter")) is not None:
            found[name] = taps_of(to_tensor(source.array))
    if found.get("rgb_resample_filter") == found.get("resample_filter", RESAMPLE_TAPS):
        del found["rgb_resample_filter"]
    return found


def _lacking(modules: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Tensors that a file may lack: the average w, if its training did not track one."""
    keeps = modules.get("mapping.", {}).get("w_avg_beta", None)
    return () if keeps is not None else ("average",)


def _modules(network: Record) -> dict[str, dict[str, Any]]:
    """Attributes of all modules, by the dotted name that their tensors begin with."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [("", network, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        if not isinstance(module, Record) or not isinstance(module.state, dict):
            raise ArtifactError(f"G_ema.{prefix.rstrip('.')} is not a module")
        found[prefix] = module.state
        children = module.state.get("_modules")
        children = children if isinstance(children, dict) else {}
        if depth > _MAX_DEPTH or len(found) + len(waiting) + len(children) > _MAX_MODULES:
            raise ArtifactError("has too many modules or modules nested too deep")
        waiting += [(f"{prefix}{name}.", child, depth + 1) for name, child in children.items()]
    return found


def _attribute(
    modules: Mapping[str, Mapping[str, Any]], pattern: str, attribute: str, default: Any
) -> Any:
    """The value that all these modules share; `default` if the release did not store it."""
    values = {
        name: values.get(attribute, default)
        for name, values in modules.items()
        if re.fullmatch(pattern, name)
    }
    first = next(iter(values), "")
    value = values.get(first, default)
    if not isinstance(value, str | int | float | None):
        raise ArtifactError(f"has a {type(value).__name__} as {attribute} of {first.rstrip('.')}")
    for name, other in values.items():
        if other != value:
            raise ArtifactError(
                f"has {attribute} {value} in {first.rstrip('.')} and {str(other)[:50]} in "
                f"{name.rstrip('.')}; one value for all layers is supported"
            )
    return value


def _int(modules: Mapping[str, Mapping[str, Any]], module: str, attribute: str) -> int:
    value = modules.get(module, {}).get(attribute)
    return value if type(value) is int else 0


def _check_attributes(modules: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]) -> None:
    for module, names in _SAYS.items():
        for attribute, ours in names.items():
            says = modules.get(module, {}).get(attribute)
            if type(says) is int and says != config[ours]:
                raise ArtifactError(
                    f"gives {attribute} {says} for {module or 'the generator.'}"[:-1]
                    + f", but its tensors imply {config[ours]}.",
                    got=config[ours],
                    expected=says,
                    remedy="Tensors are missing or unexpected; download it again.",
                )
