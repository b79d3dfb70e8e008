"""The paired route: training a StyleGAN2 by reconstruction, because the renderer knows the truth.

Adversarial training needs a GPU; on two CPU cores it is hopeless. But a drawn portrait comes with
the numbers behind it, so generator and picture can be paired:

1. *Synthesis.* A factor encoder turns the portrait's factors into w, and the synthesis network
   learns to redraw the picture from it. The encoder writes each group of factors (coarse, medium,
   fine) into its own subspace of a rotated W, and every affine layer reads only the subspaces that
   its resolution may see. So layers divide the work as in a StyleGAN trained on photographs, and
   colors reach the convolutions, not only toRGB (StyleSpace methods never edit toRGB).
2. *Mapping.* The portrait's Gaussian numbers become a direction of z, and the published mapping
   network learns to turn z into the encoder's w. After that the encoder is not needed.
3. *Together.* Mapping and synthesis are trained end to end from z, so that what lies between two
   labels becomes one of them instead of a blend. Half of the time w is truncated, and a truncated
   face should be an ordinary portrait with the same labels: there is no 70 % of a hat.

This is not how StyleGAN2 was trained in the paper; the networks are the published ones.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.portraits.attributes import (
    ATTRIBUTES,
    GAUSSIANS,
    Portraits,
    from_gaussians,
    sample,
)
from stylegan_hub.portraits.factors import COARSE, FACTORS, FINE, MEDIUM, factor_matrix

_GROUPS = (COARSE, MEDIUM, FINE)
_SHARES = (0.40, 0.32, 0.28)  # of the dimensions of W
# Resolutions of the layers that see each group; toRGB never sees colors (see the module's text).
_VISIBLE = ((4, 32), (8, 128), (32, 1024))

# What truncation shrinks: all numbers that choose no label.
_CONTINUOUS = [i for i, n in enumerate(GAUSSIANS) if n not in ATTRIBUTES and n != "character"]
_LARGEST = 3.5  # standard deviations; beyond, portraits differ no more

# The numbers that make z: all but the one that calls up named characters.
_Z_GAUSSIANS = [i for i, name in enumerate(GAUSSIANS) if name != "character"]


class FactorEncoder(SavedWhole, ModelMixin, ConfigMixin):
    """From a portrait's factors to the w that draws it: the ground truth in W.

    Args:
        w_dim: size of w.
        hidden: width of each group's perceptron.
    """

    @register_to_config
    def __init__(self, w_dim: int = 256, hidden: int = 192) -> None:
        super().__init__()
        sizes = [round(share * w_dim) for share in _SHARES[:-1]]
        self.sizes = [*sizes, w_dim - sum(sizes)]
        self.linear = nn.ModuleList(
            nn.Linear(len(group), size) for group, size in zip(_GROUPS, self.sizes, strict=True)
        )
        self.perceptron = nn.ModuleList(
            nn.Sequential(
                nn.Linear(len(group), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(),
                nn.Linear(hidden, size),
            )
            for group, size in zip(_GROUPS, self.sizes, strict=True)
        )  # fmt: skip
        for layer, group in zip(self.linear, _GROUPS, strict=True):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=1 / math.sqrt(len(group)))
        generator = torch.Generator().manual_seed(0)
        rotation, _ = torch.linalg.qr(torch.randn(w_dim, w_dim, generator=generator))
        self.register_buffer("rotation", rotation)
        table = factor_matrix(sample(range(4000)))
        self.register_buffer("mean", table.mean(0))
        self.register_buffer("std", table.std(0).clamp_min(1e-3))

    def forward(self, portraits: Portraits) -> Float[Tensor, "n w_dim"]:
        """w `[n, w_dim]` of the portraits."""
        mean, std, rotation = (self.get_buffer(name) for name in ("mean", "std", "rotation"))
        values = (factor_matrix(portraits).to(mean) - mean) / std
        parts, start = [], 0
        for group, linear, perceptron in zip(_GROUPS, self.linear, self.perceptron, strict=True):
            columns = values[:, start : start + len(group)]
            parts.append(linear(columns) + perceptron(columns))
            start += len(group)
        assert start == len(FACTORS)
        return torch.cat(parts, dim=1) @ rotation.T

    def visible(self, resolution: int, is_to_rgb: bool) -> Float[Tensor, "w_dim w_dim"]:
        """The projection of W to what a layer may see."""
        shown = torch.zeros(sum(self.sizes))
        start = 0
        for group, size, (low, high) in zip(_GROUPS, self.sizes, _VISIBLE, strict=True):
            if low <= resolution <= high and not (is_to_rgb and group is FINE):
                shown[start : start + size] = 1
            start += size
        rotation = self.get_buffer("rotation")
        return (rotation * shown.to(rotation)) @ rotation.T


class LayerRoles:
    """Keeps every affine layer of a generator blind to what its resolution may not see.

    The restriction is in the weights themselves (they are projected after each update), so the
    stored generator is an ordinary StyleGAN2.
    """

    def __init__(self, generator: StyleGAN2Generator, encoder: FactorEncoder) -> None:
        self._layers: list[tuple[nn.Parameter, Tensor]] = []
        for layer in generator.style_layout:
            weight = generator.synthesis.affine(layer.name).weight
            projection = encoder.visible(layer.resolution, layer.is_to_rgb).to(weight.device)
            self._layers.append((weight, projection))

    @torch.no_grad()
    def enforce(self) -> None:
        """Project the weights."""
        for weight, projection in self._layers:
            weight.copy_(weight @ projection)


def z_of_portraits(
    portraits: Portraits, z_dim: int, generator: torch.Generator
) -> Float[Tensor, "n z_dim"]:
    """A z whose direction stands for these portraits; `portraits_of_z` takes it back.

    The published mapping network normalizes z to length sqrt(z_dim), so the Gaussian numbers are
    some of its coordinates after that, in a rotated frame; the other coordinates are random
    and fill up the length.

    Raises:
        ValueError: z_dim is too small to hold the Gaussian numbers.
    """
    numbers = portraits.gaussians[:, _Z_GAUSSIANS]
    rotation = _z_rotation(z_dim).to(numbers)
    rest = torch.randn(len(portraits), z_dim - numbers.shape[1], generator=generator).to(numbers)
    room = (z_dim - numbers.square().sum(1, keepdim=True)).clamp_min(1e-2)
    rest = rest * (room / rest.square().sum(1, keepdim=True)).sqrt()
    return torch.cat([numbers, rest], dim=1) @ rotation.T


def truncated_ws(
    generator: StyleGAN2Generator,
    portraits: Portraits,
    psi: Float[Tensor, "n 1"],
    draw: torch.Generator,
) -> Float[Tensor, "n num_ws w_dim"]:
    """ws, truncated by psi, that should give exactly these portraits.

    Truncation shrinks what varies continuously and keeps the labels. So the portraits are the
    truncated ones of people whose continuous numbers are 1 / psi times larger.
    """
    gaussians = portraits.gaussians.clone()
    larger = gaussians[:, _CONTINUOUS] / psi.to(gaussians)
    gaussians[:, _CONTINUOUS] = larger.clamp(-_LARGEST, _LARGEST)
    z = z_of_portraits(replace(portraits, gaussians=gaussians), generator.config.z_dim, draw)
    mapping = generator.mapping
    w = mapping.w(z.to(mapping.w_avg), None)
    w = torch.lerp(mapping.w_avg, w, psi.to(w))
    return w[:, None].expand(-1, generator.num_ws, -1)


def portraits_of_z(z: Float[Tensor, "n z_dim"]) -> Portraits:
    """The portraits that z `[n, z_dim]` stands for; none of them is a named character."""
    rotation = _z_rotation(z.shape[1]).to(z)
    unit = z * z.square().mean(1, keepdim=True).add(1e-8).rsqrt()
    gaussians = torch.zeros(len(z), len(GAUSSIANS)).to(z)
    gaussians[:, _Z_GAUSSIANS] = (unit @ rotation)[:, : len(_Z_GAUSSIANS)]
    return from_gaussians(gaussians)


def _z_rotation(z_dim: int) -> Tensor:
    if z_dim < len(_Z_GAUSSIANS) + 8:
        raise ValueError(
            f"Got z_dim {z_dim}; the paired route needs at least {len(_Z_GAUSSIANS) + 8}."
        )
    generator = torch.Generator().manual_seed(1)
    return torch.linalg.qr(torch.randn(z_dim, z_dim, generator=generator))[0]


def face_weight(resolution: int) -> Float[Tensor, "1 1 h w"]:
    """Weights of pixels in the reconstruction loss, mean 1: eyes and mouth count most."""
    axis = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    x, y = axis[None, :], axis[:, None]
    face = torch.exp(-((x / 0.42) ** 4) - ((y - 0.14) / 0.42) ** 4)
    weight = 1 + 4 * face
    return (weight / weight.mean())[None, None]


def reconstruction_loss(
    images: Float[Tensor, "n 3 h w"], targets: Float[Tensor, "n 3 h w"], weight: Tensor
) -> Tensor:
    """L1 and squared differences, and L1 over a Laplacian pyramid, which cares for edges."""
    error = images - targets
    loss = (weight * error.abs()).mean() + 2.0 * (weight * error.square()).mean()
    while error.shape[-1] > 8:
        smaller = nn.functional.avg_pool2d(error, 2)
        band = error - smaller.repeat_interleave(2, -1).repeat_interleave(2, -2)
        loss = loss + (weight * band.abs()).mean()
        error, weight = smaller, nn.functional.avg_pool2d(weight, 2)
    return loss
