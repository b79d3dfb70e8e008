"""Spoiled pictures from which the critic learns, with the faults that edits can cause.

An edit can go wrong in several ways. It may stop halfway (a beard that is only a shade on the chin,
transparent glasses). Its latent may lie outside of what the generator has learned (far along a
direction, with layers that do not belong together, or with styles out of scale). Two shapes may
overlap (the ghost of long hair behind a mohawk). A color may leave its place (a halo, a neon hat,
stained skin). A part may have an edge where there should be none. This module causes each fault on
purpose, strongly enough to be visible. Pictures are float `[n, 3, h, w]` in [-1, 1].
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.latents import Latents, Space
from stylegan_hub.portraits.factors import COLORS, FACTORS, factor_statistics
from stylegan_hub.portraits.paired import FactorEncoder

_THINGS = ("hair_cover", "hat", "glasses", "earrings", "beard", "mustache")

Images = Float[Tensor, "n 3 h w"]

# In standard deviations of the latents; a w of 256 numbers lies 16 from the mean.
_FAR = (14.0, 28.0)  # distance along one direction
_SCATTERED = (0.8, 1.6)  # distance along a different direction in each layer
_STYLES = (4.0, 9.0)  # change of single styles
_OVERDONE = (1.9, 2.8)  # factor on the distance from the mean, not in standard deviations
_HALFWAY = (0.42, 0.62)  # between absent and present; further off, the generator decides
_GARISH = (1.8, 3.0)  # factor on the distance of a color from its mean
_LEAST_CHANGE = 0.08  # of a visible fault: mean over the tenth of the pixels that changed most


@torch.no_grad()
def spoiled_latents(domain: Domain, faces: Latents, generator: Generator) -> Latents:
    """Latents in s that lie outside of what the generator has learned, each in one of four ways.

    Args:
        faces: latents in w_plus.
        generator: on the CPU; the source of all randomness.
    """
    n, units = len(faces), domain.units(Space.W_PLUS)
    plain = faces.codes
    unit = F.normalize(torch.randn(n, 1, plain.shape[2], generator=generator), dim=2)
    far = plain + units.to_codes(_each(plain, _FAR, generator) * unit.expand_as(plain))
    loose = torch.randn(plain.shape, generator=generator)
    scattered = plain + units.to_codes(_each(plain, _SCATTERED, generator) * loose)
    mean = domain.generator.mapping.w_avg.cpu()
    overdone = mean + _each(plain, _OVERDONE, generator) * (plain - mean)
    kinds = torch.stack([far, scattered, overdone, plain])
    kind = torch.randint(4, (n,), generator=generator)
    chosen = kinds[kind, torch.arange(n)]
    styles = domain.lower(Latents(Space.W_PLUS, chosen), Space.S).codes
    # In those that are still unchanged, a few random styles get out of scale.
    scale = domain.units(Space.S)
    rare = (torch.rand(styles.shape, generator=generator) < 0.03).float()
    sign = torch.randint(2, styles.shape, generator=generator) * 2 - 1
    push = scale.to_codes(rare * sign * _each(styles, _STYLES, generator))
    return Latents(Space.S, styles + push * (kind == 3)[:, None])


@torch.no_grad()
def unfinished(domain: Domain, faces: Latents, generator: Generator) -> Latents:
    """Latents in w_plus of faces with something halfway, or with a color that is too strong.

    The generator of the drawn portraits encodes their factors in w (`portraits/paired.py`). Here a
    thing is neither absent nor present, or a color is out of range.

    Args:
        faces: latents in w_plus of the drawn portraits' generator.
        generator: on the CPU; the source of all randomness.
    """
    n, codes = len(faces), faces.codes
    encoder = FactorEncoder(codes.shape[2])
    values = encoder.decode(codes.mean(1))
    mean = factor_statistics().mean
    moved = values.clone()
    halfway = torch.randint(2, (n,), generator=generator).bool().tolist()
    things = torch.randint(len(_THINGS), (n,), generator=generator).tolist()
    colors = torch.randint(len(COLORS), (n,), generator=generator).tolist()
    shares, factors = (_each(values, bounds, generator)[:, 0] for bounds in (_HALFWAY, _GARISH))
    for row in range(n):
        if halfway[row]:
            moved[row, FACTORS.index(_THINGS[things[row]])] = shares[row]
        else:
            color = [FACTORS.index(f"{COLORS[colors[row]]}_{c}") for c in "rgb"]
            moved[row, color] = mean[color] + factors[row] * (values[row, color] - mean[color])
    return Latents(Space.W_PLUS, codes + (encoder(moved) - encoder(values))[:, None])


def spoil(
    images: Images, masks: Float[Tensor, "n 1 h w"], others: Images, generator: Generator
) -> Images:
    """Each picture spoiled in one of six ways.

    Args:
        masks: mask of one part of each picture (hair, hat, skin, ...), 0 to 1.
        others: other pictures, parts of which show through.
        generator: on the CPU; the source of all randomness.
    """
    n, size = len(images), images.shape[-1]
    soft = image_files.blur(masks, 0.02 * size)
    wide = image_files.blur(masks, 0.07 * size)
    color = torch.rand(n, 3, 1, 1, generator=generator) * 2 - 1
    strength = _each(images, (0.35, 0.75), generator)
    ghost = images + strength.clamp(max=0.6) * soft * (others - images)
    halo = images + 1.6 * strength * (wide - soft).clamp(min=0) * (color - images)
    glow = images + 1.6 * strength * (wide - soft).clamp(min=0) * (1 - images)
    grey = images.mean(1, keepdim=True)
    neon = images + soft * ((grey + (2.5 + 3 * strength) * (images - grey) + 0.2) - images)
    stain = images + strength * _spots(images, generator) * wide * (color - images)
    cut = torch.where(masks > 0.5, torch.roll(others, _shift(size, generator), (2, 3)), images)
    kinds = torch.stack([ghost, halo, glow, neon, stain, cut])
    kind = torch.randint(len(kinds), (n,), generator=generator)
    return kinds[kind, torch.arange(n)].clamp(-1, 1)


def is_visible(before: Images, after: Images) -> Tensor:
    """Whether each picture changed enough for the change to be visible, bool `[n]`."""
    # Only the tenth of the pixels that changed most counts, because a small spot is visible too.
    change = (after - before).abs().mean(1).flatten(1)
    strongest = change.topk(change.shape[1] // 10, dim=1).values
    return strongest.mean(1) > _LEAST_CHANGE


def _each(like: Tensor, bounds: tuple[float, float], generator: Generator) -> Tensor:
    """A random number for each entry, in a shape that multiplies it."""
    low, high = bounds
    random = torch.rand(len(like), *[1] * (like.ndim - 1), generator=generator)
    return low + (high - low) * random


def _shift(size: int, generator: Generator) -> tuple[int, int]:
    low, high = max(1, size // 24), max(2, size // 8)
    down, right = torch.randint(low, high, (2,), generator=generator).tolist()
    return down, -right


def _spots(images: Images, generator: Generator) -> Float[Tensor, "n 1 h w"]:
    """Masks of soft blotches, 0 to 1."""
    coarse = torch.rand(len(images), 1, 9, 9, generator=generator)
    fine = F.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=False)
    return ((fine - 0.6) * 4).clamp(0, 1)
