"""Layers of the small networks for photographs of people.

Their weights come from TensorFlow, whose "same" padding puts an odd row or column below and to the
right, while PyTorch's puts it above and to the left.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MEAN = (122.782, 117.001, 104.298)
"""RGB mean, 0 to 255, that all networks except the finder subtract from pictures."""


def normalized(
    images: Float[Tensor, "n 3 h w"], mean: Sequence[float] = MEAN
) -> Float[Tensor, "n 3 h w"]:
    """Images in [-1, 1], converted to the range of these networks: [0, 1] minus the mean."""
    shift = torch.tensor(mean).to(images)[:, None, None]
    return ((images + 1) * 127.5 - shift) / 255


def resized(images: Float[Tensor, "n 3 h w"], size: int) -> Float[Tensor, "n 3 s s"]:
    """Squares, resized to the size that a network takes."""
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def same_padded(
    features: Float[Tensor, "n c h w"], stride: int, value: float = 0.0
) -> Float[Tensor, "n c h2 w2"]:
    """Features, padded so that a 3 x 3 kernel gives a size of `ceil(size / stride)`."""
    margins = []
    for size in (features.shape[3], features.shape[2]):
        total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
        margins += [total // 2, total - total // 2]
    return F.pad(features, margins, value=value)


class SameConv(nn.Conv2d):
    """A 3 x 3 convolution with a stride and TensorFlow's padding."""

    def forward(self, input: Tensor) -> Tensor:
        """`[n, c, h, w]` to `[n, out, ceil(h / stride), ceil(w / stride)]`."""
        return super().forward(same_padded(input, self.stride[0]))


class SeparableConv(nn.Module):
    """A 3 x 3 convolution within each channel, then a 1 x 1 convolution over all channels."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = SameConv(channels, channels, 3, stride, groups=channels, bias=False)
        self.pointwise = nn.Conv2d(channels, out, 1)

    def forward(self, features: Float[Tensor, "n c h w"]) -> Float[Tensor, "n out h2 w2"]:
        """The result of both convolutions, without activation."""
        return self.pointwise(self.depthwise(features))
