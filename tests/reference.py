"""Networks whose numbers are in tests/data: their weights and inputs are made only from names.

tests/data/README.md states the rule.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylegan_hub.models.stylegan2 import StyleGAN2Generator


def random_of(name: str) -> np.random.RandomState:
    """The random state of a tensor."""
    return np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)


def input_of(tag: str, *shape: int) -> Tensor:
    """Normal numbers, an input of a network."""
    return torch.from_numpy(random_of(f"input:{tag}").standard_normal(shape)).float()


def by_rule(name: str, shape: tuple[int, ...], rate: float = 0.01) -> Tensor:
    """A weight of a generator under NVIDIA's name."""
    n = random_of(name).standard_normal(shape)
    if re.fullmatch(r"mapping\.fc\d+\.weight", name):
        n = n / rate
    elif re.fullmatch(r"mapping\.fc\d+\.bias", name):
        n = 0.3 * n / rate
    elif name.endswith("affine.bias"):
        n = 1 + 0.3 * n
    elif name.endswith(".bias"):
        n = 0.25 * n
    elif name.endswith("noise_strength"):
        n = 0.5 * n
    elif name.endswith("w_avg"):
        n = 0.4 * n
    return torch.from_numpy(np.asarray(n)).float()


def rosinality_by_rule(shapes: Mapping[str, Any]) -> dict[str, Tensor]:
    """Weights of a generator under rosinality's names, all but the filters."""
    state = {}
    for name, shape in shapes.items():
        n = random_of(name).standard_normal(tuple(shape))
        if re.fullmatch(r"style\.\d+\.weight", name):
            n = 100 * n
        elif re.fullmatch(r"style\.\d+\.bias", name):
            n = 30 * n
        elif name.endswith("modulation.bias"):
            n = 1 + 0.3 * n
        elif name.endswith("bias"):
            n = 0.25 * n
        elif name.endswith("noise.weight"):
            n = 0.5 * n
        state[name] = torch.from_numpy(np.asarray(n)).float()
    return state


def filled(generator: StyleGAN2Generator) -> StyleGAN2Generator:
    """The generator with weights by the rule."""
    rate = generator.config.mapping_lr_multiplier
    for name, tensor in generator.state_dict().items():
        if not name.endswith("resample_filter"):
            tensor.copy_(by_rule(name, tuple(tensor.shape), rate))
    return generator.eval().requires_grad_(False)


def reference_generator() -> StyleGAN2Generator:
    """The generator of nvidia_network.npz."""
    return filled(StyleGAN2Generator(32, 0, 32, 32, channel_base=512, channel_max=16))


def odd_generator(
    res: int = 16, z: int = 12, c: int = 0, w: int = 10, ch: int = 3, **options: Any
) -> StyleGAN2Generator:
    """One generator of nvidia_odd_networks.npz, from the arguments that are stored there."""
    mapping = {"num_layers": 2, **options.pop("mk", {})}
    names = {"num_layers": "num_mapping_layers", "lr_multiplier": "mapping_lr_multiplier",
             "activation": "mapping_activation"}  # fmt: skip
    options |= {names.get(name, name): value for name, value in mapping.items()}
    if "resample_filter" in options and options["resample_filter"] is None:
        options["resample_filter"] = [1.0]
    sizes = {"z_dim": z, "c_dim": c, "w_dim": w, "img_resolution": res, "img_channels": ch}
    return filled(StyleGAN2Generator(channel_base=128, channel_max=8, **sizes, **options))
