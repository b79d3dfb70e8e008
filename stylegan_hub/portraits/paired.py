"""The paired route: training a StyleGAN2 by reconstruction, because the renderer knows the truth.

Adversarial training needs a GPU; on two CPU cores it is hopeless. But a drawn portrait comes with
the numbers behind it, so generator and picture can be paired:

1. *Synthesis.* W is a rotated copy of the space of factors, and the synthesis network learns to
   draw from it. Since the way is linear, what lies between two points of W, or is truncated towards
   its average, has a true drawing as well, and half of the pictures are such blends: so hats stay
   whole on the way to no hat, hair styles morph without ghosts, and an unusual portrait lies far
   from the average. Each group of factors (coarse, medium, fine) has its own subspace, and every
   affine layer reads only the subspaces that its resolution may see. So layers divide the work as
   in a StyleGAN trained on photographs, and colors reach the convolutions, not only toRGB
   (StyleSpace methods never edit toRGB).
2. *Mapping.* The portrait's Gaussian numbers become a direction of z, and the published mapping
   network learns to turn z into w. After that the factors are not needed.
3. *Details.* A freckle is too few pixels for a picture's loss to care about. Here portraits come in
   pairs that differ in one attribute, and what counts is the share of their difference that the
   network misses, so that a small difference weighs as much as a large one.
4. *Together.* Mapping and synthesis are trained end to end: half of the portraits from z, the
   other half and the blends from their factors.

This is not how StyleGAN2 was trained in the paper; the networks are the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.portraits.attributes import (
    ATTRIBUTES,
    GAUSSIANS,
    Portraits,
    from_gaussians,
    sample,
)
from stylegan_hub.portraits.factors import (
    COARSE,
    FACTORS,
    FINE,
    MEDIUM,
    factor_statistics,
)

_GROUPS = (COARSE, MEDIUM, FINE)
# Resolutions of the layers that see each group; toRGB never sees colors (see the module's text).
_VISIBLE = ((4, 64), (8, 256), (32, 1024))

# The numbers that make z: all but the one that calls up named characters.
_Z_GAUSSIANS = [i for i, name in enumerate(GAUSSIANS) if name != "character"]


class FactorEncoder(nn.Module):
    """Factors to w and back: standardized, and rotated group by group. Nothing in it is learned.

    Args:
        w_dim: size of w, at least `len(FACTORS)`.

    Raises:
        ValueError: W is too small.
    """

    mean: Tensor
    std: Tensor
    basis: Tensor

    def __init__(self, w_dim: int = 256) -> None:
        super().__init__()
        if w_dim < len(FACTORS):
            raise ValueError(f"Got w_dim {w_dim}; the factors need at least {len(FACTORS)}.")
        generator = torch.Generator().manual_seed(0)
        rotation, _ = torch.linalg.qr(torch.randn(w_dim, w_dim, generator=generator))
        columns, start = [], 0
        for group in _GROUPS:  # within its subspace a group is rotated again
            turn, _ = torch.linalg.qr(torch.randn(len(group), len(group), generator=generator))
            columns.append(rotation[:, start : start + len(group)] @ turn)
            start += len(group)
        statistics = factor_statistics()
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("std", statistics.std)
        self.register_buffer("basis", torch.cat(columns, dim=1))  # [w_dim, factors], orthonormal
        self.scale = (w_dim / len(FACTORS)) ** 0.5  # so that coordinates of w have variance 1

    def forward(self, factors: Float[Tensor, "n factors"]) -> Float[Tensor, "n w_dim"]:
        """w of factors as `factor_matrix` returns them."""
        return ((factors.to(self.mean) - self.mean) / self.std) @ self.basis.T * self.scale

    def decode(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n factors"]:
        """The factors whose w is nearest."""
        return w @ self.basis / self.scale * self.std + self.mean

    def visible(self, resolution: int, is_to_rgb: bool) -> Float[Tensor, "w_dim w_dim"]:
        """The projection of W to what a layer may see."""
        shown = torch.zeros(len(FACTORS))
        start = 0
        for group, (low, high) in zip(_GROUPS, _VISIBLE, strict=True):
            if low <= resolution <= high and not (is_to_rgb and group is FINE):
                shown[start : start + len(group)] = 1
            start += len(group)
        return (self.basis * shown.to(self.basis)) @ self.basis.T


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

    def region(right: float, middle: float, half: float) -> Tensor:
        return torch.exp(-((x / right) ** 4) - ((y - middle) / half) ** 4)

    weight = 1 + 2 * region(0.55, 0.10, 0.55) + 4 * region(0.45, 0.02, 0.22)
    weight = weight + 3 * region(0.28, 0.38, 0.17)
    return (weight / weight.mean())[None, None]


# Attributes whose difference covers few pixels: pairs differ in them three times as often.
_SMALL = ("freckles", "expression", "eye_color", "earrings", "mustache", "lipstick", "age")


def pairs(seeds: Sequence[int]) -> tuple[Portraits, Portraits]:
    """Portraits of these seeds, and the same with one attribute changed in each.

    Which attribute changes, and to which value, depends on the seed alone.
    """
    before = sample(seeds)
    names = [*ATTRIBUTES, *_SMALL, *_SMALL]
    labels = {name: values.clone() for name, values in before.labels.items()}
    for row, seed in enumerate(seeds):
        draw = torch.Generator().manual_seed(seed)
        name = names[int(torch.randint(len(names), (), generator=draw))]
        count = len(ATTRIBUTES[name])
        step = int(torch.randint(1, count, (), generator=draw))
        labels[name][row] = (labels[name][row] + step) % count
    return before, before.with_labels(**labels)


def change_loss(
    drawn: Float[Tensor, "n 3 h w"],
    drawn_after: Float[Tensor, "n 3 h w"],
    targets: Float[Tensor, "n 3 h w"],
    targets_after: Float[Tensor, "n 3 h w"],
) -> Tensor:
    """The share of the difference of pairs that the drawings miss; 1 where they do not differ.

    Pairs whose targets are alike (an attribute that a hat hides) count for nothing.
    """
    change = targets_after - targets
    size = change.abs().mean((1, 2, 3))
    missed = (drawn_after - drawn - change).abs().mean((1, 2, 3))
    differs = size > _SMALLEST_CHANGE
    return ((missed / size.clamp_min(_SMALLEST_CHANGE)) * differs).sum() / differs.sum().clamp_min(
        1
    )


_SMALLEST_CHANGE = 2e-4  # mean over a picture of values in [-1, 1]: a few pixels
_DETAIL_WEIGHT = 0.3


def detail_loss(
    images: Float[Tensor, "n 3 h w"], targets: Float[Tensor, "n 3 h w"], weight: Tensor
) -> Tensor:
    """What the structure of 5 x 5 windows differs in: 1 - SSIM without its term of brightness.

    Wang et al. 2004, equation 13. Faint texture counts as much as strong edges do.
    """

    def mean(values: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(values, 5, 1, 2, count_include_pad=False)

    m, n = mean(images), mean(targets)
    variances = mean(images.square()) - m.square() + mean(targets.square()) - n.square()
    covariance = mean(images * targets) - m * n
    small = (0.03 * 2) ** 2
    return (weight * (1 - (2 * covariance + small) / (variances + small))).mean()


def reconstruction_loss(
    images: Float[Tensor, "n 3 h w"], targets: Float[Tensor, "n 3 h w"], weight: Tensor
) -> Tensor:
    """L1 and squared differences, L1 over a Laplacian pyramid, which cares for edges; structure.

    Args:
        weight: of pixels, `[1, 1, h, w]`; those on edges of the targets count up to twice as much.
    """
    edges = (targets - nn.functional.avg_pool2d(targets, 3, 1, 1)).abs().mean(1, keepdim=True)
    weight = weight * (1 + (8 * edges).clamp(max=1))
    error = images - targets
    loss = (weight * error.abs()).mean() + 2.0 * (weight * error.square()).mean()
    band_weight = weight
    while error.shape[-1] > 8:
        smaller = nn.functional.avg_pool2d(error, 2)
        band = error - smaller.repeat_interleave(2, -1).repeat_interleave(2, -2)
        loss = loss + (band_weight * band.abs()).mean()
        error, band_weight = smaller, nn.functional.avg_pool2d(band_weight, 2)
    return loss + _DETAIL_WEIGHT * detail_loss(images, targets, weight)
