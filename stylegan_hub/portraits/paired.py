"""The paired route: a StyleGAN2 is trained by reconstruction, because the renderer knows the truth.

Adversarial training needs a GPU and is not feasible on two CPU cores. However, every rendered
portrait comes with the factors that it was rendered from, so each w can be paired with a picture.
The stages are:

1. *Synthesis.* W is a rotated copy of the space of factors, and the synthesis network learns to
   render from it. The map from factors to w is linear. Therefore a point between two points of W,
   or one that is truncated towards the average, has a true picture too. Half of the training
   pictures are such blends, so that hats stay whole on the way to no hat, hair styles morph without
   ghosts, and an unusual portrait lies far from the average. Each group of factors (coarse, medium,
   fine) has its own subspace, and every affine layer reads only the subspaces that its resolution
   may see. In this way the layers divide the work as in a StyleGAN trained on photographs, and
   colors reach the convolutions and not only toRGB, which StyleSpace methods never edit.
2. *Details.* A freckle covers too few pixels to matter in the loss of a whole picture. In this
   stage, portraits come in pairs that differ in one attribute. The loss is the share of their
   difference that the network misses, so that a small difference weighs as much as a large one.
3. *Mapping.* The Gaussian numbers of a portrait become a direction of z, and the published mapping
   network learns to turn z into w. The factors are not needed afterwards.
4. *Together.* Mapping and synthesis are trained end to end: portraits from z, blends and named
   characters from their factors.

StyleGAN2 was not trained in this way in the paper; the networks are the published ones.
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
# Lowest and highest resolution of the layers that see each group; toRGB never sees colors.
_VISIBLE = ((4, 64), (8, 256), (32, 1024))

# The numbers that z holds: all but the one that chooses named characters.
_Z_GAUSSIANS = [i for i, name in enumerate(GAUSSIANS) if name != "character"]


class FactorEncoder(nn.Module):
    """Turns factors into w and back: they are standardized and rotated. Nothing is learned.

    Args:
        w_dim: size of w, at least `len(FACTORS)`.

    Raises:
        ValueError: w_dim is too small.
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
        for group in _GROUPS:  # each group is rotated again within its subspace
            turn, _ = torch.linalg.qr(torch.randn(len(group), len(group), generator=generator))
            columns.append(rotation[:, start : start + len(group)] @ turn)
            start += len(group)
        statistics = factor_statistics()
        self.register_buffer("mean", statistics.mean)
        self.register_buffer("std", statistics.std)
        self.register_buffer("basis", torch.cat(columns, dim=1))  # [w_dim, factors], orthonormal
        self.scale = (w_dim / len(FACTORS)) ** 0.5  # gives the coordinates of w a variance of 1

    def forward(self, factors: Float[Tensor, "n factors"]) -> Float[Tensor, "n w_dim"]:
        """The w of factors, which are in the units of `factor_matrix`."""
        return ((factors.to(self.mean) - self.mean) / self.std) @ self.basis.T * self.scale

    def decode(self, w: Float[Tensor, "n w_dim"]) -> Float[Tensor, "n factors"]:
        """The factors whose w is nearest."""
        return w @ self.basis / self.scale * self.std + self.mean

    def visible(self, resolution: int, is_to_rgb: bool) -> Float[Tensor, "w_dim w_dim"]:
        """The projection of W onto the subspaces that a layer may see."""
        shown = torch.zeros(len(FACTORS))
        start = 0
        for group, (low, high) in zip(_GROUPS, _VISIBLE, strict=True):
            if low <= resolution <= high and not (is_to_rgb and group is FINE):
                shown[start : start + len(group)] = 1
            start += len(group)
        return (self.basis * shown.to(self.basis)) @ self.basis.T


class LayerRoles:
    """Keeps every affine layer of a generator blind to the factors that it may not see.

    The restriction lies in the weights, which are projected after each update. Therefore the stored
    generator is an ordinary StyleGAN2.
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
    """The z whose directions stand for these portraits; `portraits_of_z` is the inverse.

    A named character becomes a portrait with its labels and geometry.

    The published mapping network normalizes z to length sqrt(z_dim). The Gaussian numbers are some
    of the coordinates of the normalized z in a rotated frame. The other coordinates are random and
    scaled so that z has this length.

    Raises:
        ValueError: z_dim is too small to hold the Gaussian numbers.
    """
    numbers = portraits.choosing_gaussians()[:, _Z_GAUSSIANS]
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


@torch.no_grad()
def move_bias_down(generator: StyleGAN2Generator) -> None:
    """Move the bias of the last toRGB layer to the one before, whose picture then has its tone.

    Training only sees the full picture, so the last bias hides what the smaller picture lacks. The
    full picture stays the same except for its outermost pixels. Searches and encoders can then use
    the smaller one (`Domain.sketch`).
    """
    before, last = (
        generator.synthesis.get_parameter(f"b{resolution}.torgb.bias")
        for resolution in generator.synthesis.resolutions[-2:]
    )
    before.add_(last)
    last.zero_()


def face_weight(resolution: int) -> Float[Tensor, "1 1 h w"]:
    """Weights of the pixels in the reconstruction loss, mean 1; eyes and mouth count most."""
    axis = (torch.arange(resolution) + 0.5) * (2 / resolution) - 1
    x, y = axis[None, :], axis[:, None]

    def region(right: float, middle: float, half: float) -> Tensor:
        return torch.exp(-((x / right) ** 4) - ((y - middle) / half) ** 4)

    weight = 1 + 2 * region(0.55, 0.10, 0.55) + 4 * region(0.45, 0.02, 0.22)
    weight = weight + 3 * region(0.28, 0.38, 0.17)
    return (weight / weight.mean())[None, None]


# Attributes that change few pixels: pairs differ in them three times as often as in others.
_SMALL = ("freckles", "expression", "eye_color", "earrings", "mustache", "lipstick", "age")


def pairs(seeds: Sequence[int]) -> tuple[Portraits, Portraits]:
    """The portraits of these seeds, and the same portraits with one attribute of each changed.

    The seed alone determines which attribute changes, and to which value.
    """
    before = sample(seeds)
    names = [*ATTRIBUTES, *_SMALL, *_SMALL]
    labels = {name: values.clone() for name, values in before.labels.items()}
    for row, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        name = names[int(torch.randint(len(names), (), generator=generator))]
        count = len(ATTRIBUTES[name])
        step = int(torch.randint(1, count, (), generator=generator))
        labels[name][row] = (labels[name][row] + step) % count
    return before, before.with_labels(**labels)


def change_loss(
    images: Float[Tensor, "n 3 h w"],
    images_after: Float[Tensor, "n 3 h w"],
    targets: Float[Tensor, "n 3 h w"],
    targets_after: Float[Tensor, "n 3 h w"],
) -> Tensor:
    """The share of the targets' difference that the images miss; 1 if the images do not differ.

    Pairs whose targets are alike (because a hat hides the attribute, for example) are left out.
    """
    change = targets_after - targets
    size = change.abs().mean((1, 2, 3))
    missed = (images_after - images - change).abs().mean((1, 2, 3))
    differs = size > _SMALLEST_CHANGE
    return ((missed / size.clamp_min(_SMALLEST_CHANGE)) * differs).sum() / differs.sum().clamp_min(
        1
    )


_SMALLEST_CHANGE = 2e-4  # a few pixels; mean difference of pictures in [-1, 1]
_DETAIL_WEIGHT = 0.3


def detail_loss(
    images: Float[Tensor, "n 3 h w"], targets: Float[Tensor, "n 3 h w"], weight: Tensor
) -> Tensor:
    """Difference in structure of 5 x 5 windows: 1 - SSIM without the brightness term.

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
    """L1 and squared differences, L1 over a Laplacian pyramid (for edges), and `detail_loss`.

    Args:
        weight: weights of the pixels, `[1, 1, h, w]`; up to twice as much for those on edges of
            the targets.
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
