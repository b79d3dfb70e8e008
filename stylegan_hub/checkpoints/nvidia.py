"""Generators of NVIDIA's PyTorch releases: stylegan2-ada-pytorch, and StyleGAN2 in stylegan3.

The file is a pickle of a dict with `G_ema`, the averaged generator. Each module in it carries the
source text of its class, which NVIDIA's loader runs; here only its attributes are read. What the
shapes do not show (clamp, activation, half precision) is taken from the modules' attributes, since
releases store constructor arguments in different ways.
"""

from __future__ import annotations

import re
from typing import Any

from stylegan_hub.checkpoints.sources import GeneratorSources, Source, resample_taps, sizes
from stylegan_hub.checkpoints.tensors import StoredTensor
from stylegan_hub.checkpoints.unpickler import Record
from stylegan_hub.errors import ArtifactError

_MAX_MODULES = 10_000
_MAX_DEPTH = 20
_NATIVE_STYLEGAN3 = re.compile(r"synthesis\.(input\.|L\d+_)")


def is_nvidia(content: Any) -> bool:
    """Whether a file holds networks of NVIDIA's PyTorch code."""
    if isinstance(content, Record):
        return isinstance(content.state, dict) and "_modules" in content.state
    return isinstance(content, dict) and isinstance(content.get("G_ema", content.get("G")), Record)


def generator_sources(content: Any) -> GeneratorSources:
    """What an NVIDIA pickle says about its averaged generator.

    Raises:
        ArtifactError: there is none, or it is no StyleGAN2.
    """
    network = content if isinstance(content, Record) else content.get("G_ema")
    if not isinstance(network, Record):
        raise ArtifactError(
            f"has no averaged generator 'G_ema'; it holds {', '.join(map(str, content))}"
        )
    modules = _modules(network)
    tensors = {
        f"{prefix}{name}": Source(f"G_ema.{prefix}{name}", stored)
        for prefix, attributes in modules.items()
        for group in ("_parameters", "_buffers")
        for name, stored in _items(attributes, group)
        if isinstance(stored, StoredTensor)
    }
    if any(_NATIVE_STYLEGAN3.match(name) for name in tensors):
        raise ArtifactError(
            "is a StyleGAN3 generator (alias-free layers 'synthesis.input', 'synthesis.L0_...'); "
            "only StyleGAN2 is supported. NVIDIA's stylegan3 code also trains StyleGAN2 "
            "(--cfg=stylegan2), and those files can be read"
        )
    config = sizes(tensors)
    layers = {
        prefix: attributes
        for prefix, attributes in modules.items()
        if re.fullmatch(r"synthesis\.b\d+\.(conv0|conv1|torgb)\.", prefix)
    }
    config["conv_clamp"] = _same(layers, "conv_clamp", None)
    config["activation"] = _same(
        {name: values for name, values in layers.items() if ".conv" in name}, "activation", "lrelu"
    )
    mapping = {name: values for name, values in modules.items() if name.startswith("mapping.fc")}
    config["mapping_activation"] = _same(mapping, "activation", "lrelu")
    config["mapping_lr_multiplier"] = _same(mapping, "bias_gain", 0.01)
    config["num_fp16_res"] = sum(
        modules.get(f"synthesis.b{resolution}.", {}).get("use_fp16") is True
        for resolution in config["channels"]
    )
    if stored := tensors.get("synthesis.b4.resample_filter"):
        config["resample_filter"] = resample_taps(stored.stored)
    return GeneratorSources(config, tensors)


def _modules(network: Record) -> dict[str, dict[str, Any]]:
    """Attributes of all modules, by the dotted name that their tensors begin with."""
    found: dict[str, dict[str, Any]] = {}
    waiting = [("", network, 0)]
    while waiting:
        prefix, module, depth = waiting.pop()
        if not isinstance(module, Record) or not isinstance(module.state, dict):
            raise ArtifactError(f"G_ema.{prefix.rstrip('.')} is no module")
        found[prefix] = module.state
        children = _items(module.state, "_modules")
        if depth > _MAX_DEPTH or len(found) + len(waiting) + len(children) > _MAX_MODULES:
            raise ArtifactError("has modules inside of modules without end")
        waiting += [(f"{prefix}{name}.", child, depth + 1) for name, child in children]
    return found


def _items(attributes: dict[str, Any], group: str) -> list[tuple[Any, Any]]:
    members = attributes.get(group)
    return list(members.items()) if isinstance(members, dict) else []


def _same(modules: dict[str, dict[str, Any]], attribute: str, default: Any) -> Any:
    """The value that all modules have; `default` where releases did not store it."""
    first, *others = modules or {"": {}}
    value = modules.get(first, {}).get(attribute, default)
    if not isinstance(value, str | int | float | None):
        raise ArtifactError(f"has a {type(value).__name__} as {attribute} of {first.rstrip('.')}")
    for name in others:
        if (other := modules[name].get(attribute, default)) != value:
            raise ArtifactError(
                f"has {attribute} {value} in {first.rstrip('.')} and {str(other)[:50]} in "
                f"{name.rstrip('.')}; one value for all layers is supported"
            )
    return value
