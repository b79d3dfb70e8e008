"""Where an edit changes a picture: the share inside a mask, and a perceptual distance outside.

Masks are `[n, 1, h, w]` in [0, 1], of any size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.regions.feature_maps import at_size

_SMALL = 1e-8


def change_inside(
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    mask: Float[Tensor, "n 1 h2 w2"],
) -> Float[Tensor, " n"]:
    """Share of the squared change of the pixels that lies inside the mask; 0 without a change."""
    change = (after - before).square().sum(1, keepdim=True)
    inside = (at_size(mask, change.shape[2:]) * change).sum((1, 2, 3))
    return inside / change.sum((1, 2, 3)).clamp_min(_SMALL)


@torch.no_grad()
def perceptual_distance(
    reader: AttributeReader,
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    mask: Float[Tensor, "n 1 h2 w2"] | None = None,
    batch_size: int = 16,
) -> Float[Tensor, " n"]:
    """A distance like LPIPS (Zhang et al. 2018, eq. 1), where the mask is 1, or everywhere.

    The features of each residual stage of the attribute reader are scaled to length 1 at every
    position. Their squared differences are averaged over the mask and over the stages. Channels
    have no learned weights, and values are not comparable with LPIPS of another network. 0 means
    equal features, 4 opposite ones.
    """
    mask = torch.ones_like(before[:, :1]) if mask is None else mask
    batches = zip(*(x.split(batch_size) for x in (before, after, mask)), strict=True)
    return torch.cat([_distance(reader, b, a, m) for b, a, m in batches])


def _distance(reader: AttributeReader, before: Tensor, after: Tensor, mask: Tensor) -> Tensor:
    stages = zip(_stages(reader, before), _stages(reader, after), strict=True)
    distances = []
    for old, new in stages:
        change = (F.normalize(new, dim=1) - F.normalize(old, dim=1)).square().sum(1, keepdim=True)
        where = at_size(mask.to(change), change.shape[2:])
        distances.append((where * change).sum((1, 2, 3)) / where.sum((1, 2, 3)).clamp_min(_SMALL))
    return torch.stack(distances).mean(0)


def _stages(reader: AttributeReader, images: Tensor) -> Sequence[Tensor]:
    """The features of the reader's trunk before each halving of the size, and at the end."""
    size = reader.config["resolution"]
    x = F.interpolate(images.to(reader.device), (size, size), mode="bicubic", antialias=True)
    x = x.to(reader.dtype)
    stages = []
    for layer in reader.trunk:
        smaller = layer(x)
        if isinstance(layer, nn.Conv2d) and layer.stride != (1, 1):
            stages.append(x.float())
        x = smaller
    return [*stages, x.float()]
