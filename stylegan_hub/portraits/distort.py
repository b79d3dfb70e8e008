"""Unnatural pictures, for networks that learn to tell portraits from other pictures.

An optimizer that is guided by a network finds pictures with impossible skin colors, burnt-out
colors and textures, unless the network has learned to reject them. This module makes such pictures
from portraits. Pictures are in [-1, 1].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

Images = Float[Tensor, "n 3 h w"]

# Brightness and the two color axes of YIQ; a rotation of the latter is a rotation of the hue.
_YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


# Colors are mixed in full precision, even if the training uses half precision.
@torch.autocast("cpu", enabled=False)
def distort(images: Images, generator: Generator) -> Images:
    """Each picture made clearly unnatural in a random way.

    Args:
        generator: on the CPU; the source of all randomness.
    """
    n = len(images)
    random = _Random(n, generator)
    size = images.shape[-1]
    grey = images.mean(1, keepdim=True)
    turned = _recolor(
        images, hue=random.uniform(1.0, 2 * math.pi - 1.0), saturation=random.uniform(1.0, 1.6)
    )
    # Skin in an impossible color: a soft spot over the face that keeps light and shade.
    alien = _recolor(
        images, hue=random.uniform(1.2, 2 * math.pi - 1.2), saturation=random.uniform(1.0, 2.2)
    )
    tinted = torch.lerp(images, alien, _spot(images, random))
    burnt = _recolor(images, saturation=random.uniform(2.0, 5.0), contrast=random.uniform(1.3, 3.0))
    neon = torch.lerp(burnt, images, _spot(images, random))
    other = images.roll(1, 0)
    ghost = torch.lerp(images, other, random.uniform(0.35, 0.65))
    tiles = 2 ** random.integer(1, 3)
    order = torch.randperm(tiles * tiles, generator=generator)
    step = size // tiles
    torn = images[..., : step * tiles, : step * tiles]
    torn = torn.unflatten(2, (tiles, step)).unflatten(4, (tiles, step))
    torn = torn.permute(0, 1, 2, 4, 3, 5).flatten(2, 3)[:, :, order].unflatten(2, (tiles, tiles))
    torn = torn.permute(0, 1, 2, 4, 3, 5).flatten(4, 5).flatten(2, 3)
    torn = F.pad(torn, (0, size - torn.shape[-1], 0, size - torn.shape[-2]), "replicate")
    speckled = images + torch.randn(images.shape, generator=generator) * random.uniform(0.3, 0.8)
    textured = grey * random.uniform(0, 0.4)
    textured = textured + _clouds(images, 4, generator) * random.uniform(0.3, 0.8)
    textured = textured + _clouds(images, 16, generator) * random.uniform(0.1, 0.5)
    warped = _warp(images, random, generator)
    kinds = torch.stack(
        [turned, tinted, tinted.neg().lerp(images.neg(), 0.5), burnt, neon, ghost, torn,
         speckled, textured, warped, _soften(images, random.number(6.0, 12.0)), tinted]
    )  # fmt: skip
    kind = torch.randint(len(kinds), (n,), generator=generator)
    return kinds[kind, torch.arange(n)].clamp(-1, 1)


class _Random:
    """Random numbers, one per picture, in a shape that multiplies pictures."""

    def __init__(self, count: int, generator: Generator) -> None:
        self.count = count
        self.generator = generator

    def uniform(self, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(self.count, 1, 1, 1, generator=self.generator)

    def chance(self, share: float) -> Tensor:
        """1 for this share of pictures, 0 for the others."""
        return (self.uniform(0, 1) < share).float()

    def number(self, low: float, high: float) -> float:
        """One number for all pictures."""
        return low + (high - low) * float(torch.rand(1, generator=self.generator))

    def integer(self, low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (1,), generator=self.generator))


def _recolor(
    images: Images,
    *,
    hue: Tensor | float = 0.0,
    saturation: Tensor | float = 1.0,
    contrast: Tensor | float = 1.0,
    brightness: Tensor | float = 0.0,
) -> Images:
    """Rotate the hue (in radians), scale saturation and contrast, and add brightness."""
    yiq = _YIQ.to(images)
    y, i, q = torch.einsum("kc,nchw->nkhw", yiq, images).split(1, 1)
    angle = torch.as_tensor(hue, dtype=images.dtype)
    cos, sin = torch.cos(angle) * saturation, torch.sin(angle) * saturation
    turned = torch.cat([y, cos * i - sin * q, sin * i + cos * q], 1)
    images = torch.einsum("ck,nkhw->nchw", torch.linalg.inv(yiq), turned)
    return images * contrast + brightness


def _warp(images: Images, random: _Random, generator: Generator) -> Images:
    """Displace pixels by a smooth random field."""
    field = torch.randn(len(images), 2, 7, 7, generator=generator) * random.uniform(0.08, 0.25)
    field = F.interpolate(field, images.shape[-2:], mode="bicubic", align_corners=False)
    still = torch.eye(2, 3).expand(len(images), 2, 3)
    grid = F.affine_grid(still, list(images.shape), align_corners=False)
    return F.grid_sample(
        images, grid + field.permute(0, 2, 3, 1), padding_mode="reflection", align_corners=False
    )


def _soften(images: Images, factor: float) -> Images:
    """Shrink pictures by `factor` and enlarge them again, which removes details."""
    height, width = (max(2, round(side / factor)) for side in images.shape[-2:])
    smaller = F.adaptive_avg_pool2d(images, (height, width))
    return F.interpolate(smaller, images.shape[-2:], mode="bilinear", align_corners=False)


def _clouds(images: Images, cells: int, generator: Generator) -> Images:
    """Smooth colored noise with about `cells` spots across and a standard deviation of about 1."""
    coarse = 1.5 * torch.randn(*images.shape[:2], cells, cells, generator=generator)
    return F.interpolate(coarse, images.shape[-2:], mode="bilinear", align_corners=False)


def _spot(images: Images, random: _Random) -> Tensor:
    """A soft ellipse near the middle, 1 inside and 0 outside, `[n, 1, h, w]`."""
    size = images.shape[-1]
    axis = (torch.arange(size) + 0.5) / size
    x = (axis[None, None, None, :] - random.uniform(0.4, 0.6)) / random.uniform(0.12, 0.35)
    y = (axis[None, None, :, None] - random.uniform(0.42, 0.68)) / random.uniform(0.12, 0.35)
    return torch.sigmoid(8 * (1 - (x.square() + y.square()).sqrt()))
