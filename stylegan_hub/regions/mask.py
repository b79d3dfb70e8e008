"""Where in a picture a region lies, as soft masks."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.regions.find import Region, parser_of

BORDER = 0.02
"""Standard deviation of a soft border, as a share of the picture's width."""


@torch.no_grad()
def region_mask(
    domain: Domain, images: Float[Tensor, "n 3 h w"], region: Region
) -> Float[Tensor, "n 1 h w"]:
    """How much each pixel belongs to the region, in [0, 1], in full precision."""
    parser = parser_of(domain)
    with torch.autocast(images.device.type, enabled=False):  # resizing does not support bfloat16
        masks = parser.masks(images.clamp(-1, 1).to(parser.dtype))
    indices = [parser.index(part) for part in region.parts]
    parts = torch.stack([masks[:, index] for index in indices], 1)
    return parts.sum(1, keepdim=True).float().clamp(0, 1)


def soft_mask(
    domain: Domain,
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    region: Region,
    border: float = BORDER,
) -> Float[Tensor, "n 1 h w"]:
    """Where an edit of the region may show: in the region before or after, with a soft border.

    Args:
        border: width of the border outside the region, as a share of the picture's width.
    """
    either = torch.maximum(region_mask(domain, before, region), region_mask(domain, after, region))
    sigma = border * either.shape[-1]
    radius = round(2 * sigma)
    if radius < 1:
        return either
    # Grow by the border's width first, so that the whole region keeps full weight.
    grown = F.max_pool2d(either, 2 * radius + 1, stride=1, padding=radius)
    return image_files.blur(grown, sigma, radius).clamp(0, 1)
