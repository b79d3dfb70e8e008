"""The convolutional trunk of the small networks for drawn portraits and renders."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

PATCH = 4
"""Side of the square of pixels that the first layer folds into channels."""
GROUP = 8
"""Channels per normalization group; widths must be multiples of it."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after a normalization, with an identity shortcut."""

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
    """From pictures `[n, 3, h, w]` to `features` channels at 1 / `shrink(widths)` of their size.

    Args:
        widths: channels of the stages; each stage except the first halves the size.
        blocks: number of residual blocks in each stage.
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
    """Factor by which a trunk of these stages divides the size of a picture."""
    return PATCH * 2 ** (len(widths) - 1)
