"""The views that CLIP gets while an edit is searched: randomly shifted and scaled copies.

A change that is visible only in one pixel-exact view does not change the picture's content.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def random_views(count: int, generator: torch.Generator) -> Float[Tensor, "views 2 3"]:
    """Random shifts and scales, as matrices of `affine_grid`."""
    drawn = torch.rand(count, 3, generator=generator)
    scale = 1 - 0.15 * drawn[:, 0]
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = scale
    theta[:, :, 2] = (1 - scale)[:, None] * (2 * drawn[:, 1:] - 1)
    return theta


def seen_through(views: Float[Tensor, "views 2 3"], images: Tensor) -> Tensor:
    """`[n, 3, h, w]` to `[views * n, 3, h, w]`, view by view; without views, the images."""
    if len(views) == 0:
        return images
    looked = []
    for theta in views.to(images):
        grid = nn.functional.affine_grid(
            theta.expand(len(images), 2, 3), list(images.shape), align_corners=False
        )
        looked.append(
            nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        )
    return torch.cat(looked)
