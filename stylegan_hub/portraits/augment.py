"""Random changes to batches of pictures, a different one for every picture in the batch.

They prepare the attribute reader and CLIP for what a generator may show them: soft edges, noise,
low resolution, shifted colors, heads slightly out of place. Nothing here mirrors a picture, because
pose and gaze have a left and a right. The default amounts are small enough that a color keeps its
name and a wide face stays wide.

All functions take images float `[n, 3, h, w]` in [-1, 1] and a CPU generator, and return new
images of the same shape, in [-1, 1] unless said otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

from stylegan_hub import images as image_files

# Weights of red, green and blue in brightness (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)
# Sizes, as shares of the width, to which low_resolution reduces pictures.
_REDUCED_SIZES = (0.25, 0.375, 0.5, 0.625, 0.75)


def augment(images: Float[Tensor, "n 3 h w"], generator: Generator) -> Float[Tensor, "n 3 h w"]:
    """Apply every change that keeps all labels readable, each to a share of the pictures."""
    images = random_affine(images, generator)
    images = sometimes(blur, images, generator, 0.4)
    images = sometimes(low_resolution, images, generator, 0.3)
    images = sometimes(color_jitter, images, generator, 0.8)
    return sometimes(noise, images, generator, 0.5)


def sometimes(
    change: Callable[[Tensor, Generator], Tensor],
    images: Float[Tensor, "n 3 h w"],
    generator: Generator,
    probability: float,
) -> Float[Tensor, "n 3 h w"]:
    """Apply a change to each picture with a probability; the others stay as they are."""
    chosen = (torch.rand(len(images), generator=generator) < probability).nonzero()[:, 0]
    if len(chosen) == 0:
        return images
    chosen = chosen.to(images.device)
    return images.index_copy(0, chosen, change(images[chosen], generator))


def blur(
    images: Float[Tensor, "n 3 h w"], generator: Generator, max_sigma: float = 0.010
) -> Float[Tensor, "n 3 h w"]:
    """Gaussian blur; sigma is uniform up to `max_sigma` of the width."""
    width = images.shape[3]
    sigma = max_sigma * width * _uniform(images, generator, 0.05, 1.0).flatten()
    return image_files.blur(images, sigma, max(1, math.ceil(2.5 * max_sigma * width)))


def noise(
    images: Float[Tensor, "n 3 h w"], generator: Generator, max_std: float = 0.12
) -> Float[Tensor, "n 3 h w"]:
    """Gaussian noise in every pixel; its standard deviation is uniform up to `max_std`."""
    std = _uniform(images, generator, 0.0, max_std)
    values = torch.randn(images.shape, generator=generator).to(images)
    return (images + std * values).clamp(-1, 1)


def color_jitter(
    images: Float[Tensor, "n 3 h w"],
    generator: Generator,
    brightness: float = 0.10,
    contrast: float = 0.15,
    saturation: float = 0.20,
    tint: float = 0.06,
) -> Float[Tensor, "n 3 h w"]:
    """Shift brightness, contrast, saturation and white balance by up to the given amounts.

    `brightness` and `tint` (per channel) are added on the scale [-1, 1]; `contrast` and
    `saturation` are relative.
    """
    luma = torch.tensor(_LUMA).to(images)[:, None, None]
    gray = (images * luma).sum(1, keepdim=True)  # [n, 1, h, w]
    images = gray + (images - gray) * _uniform(images, generator, 1 - saturation, 1 + saturation)
    mean = gray.mean((2, 3), keepdim=True)
    images = mean + (images - mean) * _uniform(images, generator, 1 - contrast, 1 + contrast)
    images = images + _uniform(images, generator, -brightness, brightness)
    return (images + _uniform(images, generator, -tint, tint, channels=3)).clamp(-1, 1)


def low_resolution(
    images: Float[Tensor, "n 3 h w"], generator: Generator, min_size: float = 0.375
) -> Float[Tensor, "n 3 h w"]:
    """Reduce each picture to a random share of its size, at least `min_size`, and enlarge it."""
    height, width = images.shape[2:]
    sizes = [size for size in _REDUCED_SIZES if size >= min_size]
    if not sizes:
        raise ValueError(f"min_size is {min_size}; expected at most {_REDUCED_SIZES[-1]}.")
    choice = torch.randint(len(sizes), (len(images),), generator=generator)
    result = images.clone()
    for number, size in enumerate(sizes):
        chosen = (choice == number).nonzero()[:, 0].to(images.device)
        if len(chosen) == 0:
            continue
        reduced = [max(1, round(size * height)), max(1, round(size * width))]
        small = F.interpolate(images[chosen], reduced, mode="bilinear", antialias=True)
        result[chosen] = F.interpolate(small, [height, width], mode="bilinear")
    return result


def random_affine(
    images: Float[Tensor, "n 3 h w"],
    generator: Generator,
    degrees: float = 5.0,
    scale: float = 0.02,
    shift: float = 0.03,
) -> Float[Tensor, "n 3 h w"]:
    """Rotate, zoom and move each picture by up to the given amounts; borders are repeated.

    `scale` is relative, `shift` a share of the width. Pictures must be square for the rotation
    to keep shapes.
    """
    angle = math.radians(degrees) * _uniform(images, generator, -1, 1)[:, 0, 0, 0]  # [n]
    zoom = torch.exp(math.log1p(scale) * _uniform(images, generator, -1, 1)[:, 0, 0, 0])
    moved = 2 * shift * _uniform(images, generator, -1, 1, channels=2)[:, :, 0, 0]  # [n, 2]
    cosine, sine = zoom * angle.cos(), zoom * angle.sin()
    rows = [cosine, -sine, moved[:, 0], sine, cosine, moved[:, 1]]
    matrix = torch.stack(rows, dim=1).reshape(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def cutout(
    images: Float[Tensor, "n 3 h w"], generator: Generator, max_size: float = 0.35
) -> Float[Tensor, "n 3 h w"]:
    """Cover a random rectangle, sides up to `max_size` of the picture's, with a random color.

    It may hide an attribute, so labels may not be readable afterwards.
    """
    height, width = images.shape[2:]
    x = (torch.arange(width, device=images.device) + 0.5) / width  # [w]
    y = ((torch.arange(height, device=images.device) + 0.5) / height)[:, None]  # [h, 1]
    center = _uniform(images, generator, 0, 1, channels=2)  # [n, 2, 1, 1]
    half = 0.5 * max_size * _uniform(images, generator, 0.3, 1, channels=2)
    inside_x = (x - center[:, :1]).abs() < half[:, :1]  # [n, 1, 1, w]
    inside_y = (y - center[:, 1:]).abs() < half[:, 1:]  # [n, 1, h, 1]
    return torch.where(inside_x & inside_y, _uniform(images, generator, -1, 1, channels=3), images)


def _uniform(
    images: Tensor, generator: Generator, low: float, high: float, channels: int = 1
) -> Tensor:
    """One number per picture (and channel), `[n, channels, 1, 1]`."""
    values = torch.rand(len(images), channels, 1, 1, generator=generator)
    return (low + (high - low) * values).to(images)
