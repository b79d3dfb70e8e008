"""Writes files as other projects publish them.

They are written by the libraries that write the real ones (pickle, torch.save, numpy), under the
names of the classes that are in the real ones.
"""

from __future__ import annotations

import collections
import importlib.util
import io
import math
import pickle
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from stylegan_hub.models.stylegan2 import (
    MappingNetwork,
    StyleGAN2Generator,
    SynthesisNetwork,
)

RECIPES = Path(__file__).parent.parent / "recipes"


def small(**changes: Any) -> StyleGAN2Generator:
    """A generator in which every tensor matters."""
    torch.manual_seed(0)
    config = {"z_dim": 12, "w_dim": 10, "img_resolution": 16, "channels": [8, 6, 4]}
    generator = StyleGAN2Generator(**(config | {"num_mapping_layers": 2} | changes))
    for name, tensor in generator.state_dict().items():
        if name.endswith(("noise_strength", "w_avg", "bias")):
            tensor.add_(0.3 * torch.randn(tensor.shape))
    return generator.eval().requires_grad_(False)


def assert_same(
    loaded: StyleGAN2Generator, expected: StyleGAN2Generator, tolerance: float = 0.0
) -> None:
    """All tensors, and pictures for given z and labels."""
    state = loaded.state_dict()
    assert list(state) == list(expected.state_dict())
    for name, tensor in expected.state_dict().items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=tolerance)
        assert state[name].dtype == torch.float32 and state[name].is_contiguous()
    z = torch.randn(2, expected.z_dim)
    c = torch.eye(expected.c_dim)[:2] if expected.c_dim else None
    images = expected(z, c, truncation_psi=0.7)
    torch.testing.assert_close(loaded(z, c, truncation_psi=0.7), images, rtol=0, atol=1e-5)
    assert not loaded.training


_SOURCE = "raise SystemExit('this was executed')\n" * 4000


class _Module:
    """Stands for an object that pickles rebuild from its class name and its attributes."""

    def __init__(self, class_name: str, state: dict[str, Any]) -> None:
        self.class_name, self.state = class_name, state

    def __reduce__(self) -> Any:
        meta = {
            "type": "class",
            "version": 6,
            "module_src": _SOURCE,
            "class_name": self.class_name,
            "state": self.state,
        }
        return sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj, (meta,)


@pytest.fixture(autouse=True)
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules under whose names pickle writes classes and functions; none of them is ours."""

    def module(name: str, **members: Any) -> None:
        made = types.ModuleType(name)
        for key, member in members.items():
            member.__module__, member.__qualname__, member.__name__ = name, key, key
            setattr(made, key, member)
        monkeypatch.setitem(sys.modules, name, made)

    module("torch_utils")
    module("torch_utils.persistence", _reconstruct_persistent_obj=lambda meta: None)
    module("dnnlib")
    module("dnnlib.util", EasyDict=type("EasyDict", (dict,), {}))
    module("dnnlib.tflib")
    module("dnnlib.tflib.network", Network=type("Network", (), {}))
    module("numpy.core.multiarray", scalar=lambda *_: None, _reconstruct=lambda *_: None)


class _OldNumpy(pickle.Pickler):
    """Writes numpy's objects under the names that they had before numpy 2."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.generic | np.ndarray):
            function, *rest = value.__reduce__()
            old = sys.modules["numpy.core.multiarray"]
            return (getattr(old, function.__name__), *rest)
        return NotImplemented


class _NewNumpy(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        return NotImplemented


def dumps(value: Any, protocol: int, pickler: type[pickle.Pickler] = _NewNumpy) -> bytes:
    stream = io.BytesIO()
    pickler(stream, protocol).dump(value)
    return stream.getvalue()


def nvidia_module(module: nn.Module, change: Callable[[str, Tensor], Tensor]) -> _Module:
    """A module as NVIDIA's code pickles it, with the attributes that its classes have."""
    state: dict[str, Any] = {
        "training": False,
        "_parameters": collections.OrderedDict(
            (name, nn.Parameter(change(name, value.data), requires_grad=False))
            for name, value in module.named_parameters(recurse=False)
        ),
        "_buffers": collections.OrderedDict(
            (name, change(name, value)) for name, value in module.named_buffers(recurse=False)
        ),
        "_non_persistent_buffers_set": set(),
        "_backward_hooks": collections.OrderedDict(),
        "_modules": collections.OrderedDict(
            (name, nvidia_module(child, change)) for name, child in module.named_children()
        ),
        "_init_kwargs": sys.modules["dnnlib.util"].EasyDict(w_dim=10, nested={"a": (1, 2.5, None)}),
    }
    if (weight := getattr(module, "weight_gain", None)) is not None:
        state["weight_gain"] = np.float64(weight)
    if (multiplier := getattr(module, "lr_multiplier", None)) is not None:
        state["bias_gain"] = multiplier
    for name in ("activation", "conv_clamp", "use_noise", "use_fp16"):
        if name in vars(module):
            state[name] = getattr(module, name)
    state |= promises(module)
    return _Module(type(module).__name__, state)


def promises(module: nn.Module) -> dict[str, Any]:
    """Attributes that say how many layers there are."""
    if isinstance(module, MappingNetwork):
        return {"num_layers": module.num_layers, "z_dim": module.z_dim, "w_avg_beta": 0.995}
    if isinstance(module, SynthesisNetwork):
        return {"img_resolution": max(module.resolutions), "w_dim": module.w_dim}
    if isinstance(module, StyleGAN2Generator):
        return {name: module.config[name] for name in ("z_dim", "c_dim", "w_dim", "img_channels")}
    return {}


def nvidia(
    generator: StyleGAN2Generator, change: Callable[[str, Tensor], Tensor] = lambda name, x: x
) -> dict[str, Any]:
    """A snapshot of a training."""
    other = small(z_dim=14)
    averaged = nvidia_module(generator, change)
    for block in blocks(averaged).values():
        block.state["architecture"] = generator.config.architecture
    return {
        "training_set_kwargs": None,
        "G": nvidia_module(other, lambda name, x: x),
        "D": None,
        "G_ema": averaged,
        "augment_pipe": _Module("AugmentPipe", {"p": torch.zeros([]), "noise": np.float64(1.5)}),
    }


def blocks(network: _Module) -> dict[str, _Module]:
    """The blocks of a synthesis network, by name."""
    found: dict[str, _Module] = network.state["_modules"]["synthesis"].state["_modules"]
    return found


def saved(path: Path, value: Any, protocol: int = 4, **options: Any) -> Path:
    path.write_bytes(dumps(value, protocol, **options))
    return path


def to_rosinality(generator: StyleGAN2Generator) -> dict[str, Tensor]:
    """The state_dict in the other layout."""
    state: dict[str, Tensor] = {}
    for name, tensor in generator.state_dict().items():
        parts = name.split(".")
        if parts[0] == "mapping":
            if parts[1] != "w_avg":
                state[f"style.{int(parts[1][2:]) + 1}.{parts[2]}"] = tensor
            continue
        if parts[2] == "const":
            state["input.input"] = tensor[None]
        if len(parts) < 4:
            continue
        level, layer, part = int(math.log2(int(parts[1][1:]))) - 2, parts[2], ".".join(parts[3:])
        if layer == "torgb":
            prefix = f"to_rgbs.{level - 1}" if level else "to_rgb1"
        else:
            prefix = f"convs.{2 * level - 2 + (layer == 'conv1')}" if level else "conv1"
        if part == "weight":
            state[f"{prefix}.conv.weight"] = tensor[None]
        elif part.startswith("affine"):
            state[f"{prefix}.conv.modulation.{parts[4]}"] = tensor
        elif part == "noise_strength":
            state[f"{prefix}.noise.weight"] = tensor[None]
        elif part == "noise_const":
            state[f"noises.noise_{2 * level - (layer == 'conv0')}"] = tensor[None, None]
        elif part == "bias" and layer == "torgb":
            state[f"{prefix}.bias"] = tensor[None, :, None, None]
        elif part == "bias":
            state[f"{prefix}.activate.bias"] = tensor
        elif layer == "conv0":
            state[f"{prefix}.conv.blur.kernel"] = 4 * tensor
            image_filter = generator.get_buffer(f"synthesis.{parts[1]}.resample_filter")
            state[f"to_rgbs.{level - 1}.upsample.kernel"] = 4 * image_filter
    return state


def to_tensorflow(generator: StyleGAN2Generator, **static_kwargs: Any) -> tuple[Any, Any, Any]:
    """G, D, Gs."""
    names = {"conv1": "Conv1", "conv0": "Conv0_up", "torgb": "ToRGB", "skip": "Skip"}
    mapping: list[tuple[str, Any]] = []
    synthesis: list[tuple[str, Any]] = []
    top: list[tuple[str, Any]] = [("lod", np.float32(0))]
    for name, tensor in generator.state_dict().items():
        parts, x = name.split("."), tensor.numpy()
        if name == "mapping.w_avg":
            top.append(("dlatent_avg", x))
        elif parts[0] == "mapping":
            layer = "LabelEmbed" if parts[1] == "embed" else f"Dense{parts[1][2:]}"
            mapping.append((f"{layer}/{parts[2]}", x.T))
        elif parts[2] == "const":
            synthesis.append(("4x4/Const/const", x[None]))
        elif parts[-1] == "noise_const":
            resolution = int(parts[1][1:])
            index = 2 * int(math.log2(resolution)) - (5 if parts[2] == "conv0" else 4)
            synthesis.append((f"noise{index}", x[None, None]))
        elif parts[-1] != "resample_filter":
            size = parts[1][1:]
            layer = "Conv" if name.startswith("synthesis.b4.conv1") else names[parts[2]]
            part = ".".join(parts[3:])
            if part == "weight":
                x = x[:, :, ::-1, ::-1] if layer == "Conv0_up" else x
                x = np.ascontiguousarray(x.transpose(2, 3, 1, 0))
            elif part == "affine.weight":
                part, x = "mod_weight", x.T
            elif part == "affine.bias":
                part, x = "mod_bias", x - 1
            synthesis.append((f"{size}x{size}/{layer}/{part}", x))

    def network(variables: list[tuple[str, Any]], **components: Any) -> Any:
        made = sys.modules["dnnlib.tflib.network"].Network()
        made.__dict__ = {
            "version": 4,
            "name": "G",
            "static_kwargs": static_kwargs,
            "components": components,
            "build_module_src": "raise SystemExit('this was executed')",
            "build_func_name": "G_main",
            "variables": variables,
        }
        return made

    parts = {"synthesis": network(synthesis), "mapping": network(mapping)}
    return network([]), network([]), network(top, **parts)


def recipe(name: str) -> types.ModuleType:
    """A recipe as a module."""
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def convert(file: Path, output: Path, **options: Any) -> str:
    """What convert_checkpoint.py writes, and what it prints."""
    module = recipe("convert_checkpoint")
    return module.convert(module.Config(file=str(file), output=output, **options))
