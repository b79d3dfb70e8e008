"""The convolutional trunk of the small networks that look at drawn pictures."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

PATCH = 4
"""Pixels of the picture, across and down, that the first layer folds into channels."""
GROUP = 8
"""Channels per normalization group; widths are multiples of it."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside an identity path, normalized before each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        groups = width // GROUP
        self.layers = nn.Sequential(
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, features: Float[Tensor, "n width h w"]) -> Float[Tensor, "n width h w"]:
        """Features of the same shape."""
        result: Tensor = features + self.layers(features)
        return result


def residual_trunk(widths: Sequence[int], blocks: Sequence[int], features: int) -> nn.Sequential:
    """From pictures `[n, 3, h, w]` to `features` channels of `shrink(widths)` times less each way.

    Args:
        widths: channels of the stages; each stage but the first halves the size.
        blocks: residual blocks of the stages.
        features: channels of the result.
    """
    layers: list[nn.Module] = [
        nn.PixelUnshuffle(PATCH),
        nn.Conv2d(3 * PATCH**2, widths[0], 3, padding=1),
    ]
    width = widths[0]
    for stage, (wider, count) in enumerate(zip(widths, blocks, strict=True)):
        if stage > 0:
            layers.append(nn.Conv2d(width, wider, 2, stride=2))
            width = wider
        layers += [ResidualBlock(width) for _ in range(count)]
    layers += [nn.GroupNorm(width // GROUP, width), nn.SiLU(), nn.Conv2d(width, features, 1)]
    return nn.Sequential(*layers)


def shrink(widths: Sequence[int]) -> int:
    """By how much a trunk of these stages divides the size of a picture."""
    return PATCH * 2 ** (len(widths) - 1)
