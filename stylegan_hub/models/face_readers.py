"""Read a face in a photograph: its 68 points, its expression, its age.

These are small networks with the weights of face-api: `face_landmark_68` and `face_expression`
(both like Huang et al. 2017, "Densely Connected Convolutional Networks", with sums instead of
concatenation), and the age of `age_gender` (like Chollet 2017, "Xception").
`recipes/convert_face_models.py` converts them. The package's estimate of a person's gender is left
out on purpose.

All take squares `[n, 3, s, s]` in [-1, 1] around a face, of any size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.models.face_layers import (
    SameConv,
    SeparableConv,
    normalized,
    resized,
    same_padded,
)

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""The expressions that `ExpressionReader` distinguishes, in the order of its probabilities."""

_SIZE = 112
_WIDTHS = (32, 64, 128, 256)


class FacePoints(nn.Module):
    """The 68 points of iBUG's scheme: jaw, brows, nose, eyes, mouth."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _DenseTrunk()
        self.fc = nn.Linear(_WIDTHS[-1], 136)

    def forward(self, faces: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 68 2"]:
        """(x, y) of each point as shares of the side of the square."""
        return self.fc(self.trunk(faces)).view(-1, 68, 2)


class ExpressionReader(nn.Module):
    """Reads which of the seven `EXPRESSIONS` a face shows."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _DenseTrunk()
        self.fc = nn.Linear(_WIDTHS[-1], len(EXPRESSIONS))

    def forward(self, faces: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n expressions"]:
        """Probabilities, which sum to 1."""
        return self.fc(self.trunk(faces)).softmax(1)


class AgeReader(nn.Module):
    """Estimates how old a face looks."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = SameConv(3, 32, 3, 2)
        self.reductions = nn.ModuleList(
            [_Reduction(32, 64), _Reduction(64, 128), _Reduction(128, 256)]
        )
        self.mains = nn.ModuleList(_Main(128) for _ in range(2))
        self.last = SeparableConv(256, 512)
        self.fc = nn.Linear(512, 1)

    def forward(self, faces: Float[Tensor, "n 3 s s"]) -> Float[Tensor, " n"]:
        """Ages in years."""
        first, second, third = self.reductions
        features = first(self.entry(normalized(resized(faces, _SIZE))).relu())
        features = second(features.relu())
        for main in self.mains:
            features = features + main(features)
        features = self.last(third(features.relu())).relu()
        return self.fc(features.mean((2, 3)))[:, 0]


class _DenseTrunk(nn.Module):
    """Four blocks, each of which halves the size, and the mean over all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            _DenseBlock(before, width, is_first=index == 0)
            for index, (before, width) in enumerate(zip((3, *_WIDTHS), _WIDTHS, strict=False))
        )

    def forward(self, faces: Tensor) -> Float[Tensor, "n 256"]:
        features = normalized(resized(faces, _SIZE))
        for block in self.blocks:
            features = block(features)
        return features.mean((2, 3))


class _DenseBlock(nn.Module):
    """Convolutions, each of which reads the sum of all outputs before it."""

    def __init__(self, channels: int, width: int, *, is_first: bool) -> None:
        super().__init__()
        kind = (lambda a, b, s: SameConv(a, b, 3, s)) if is_first else SeparableConv
        self.first: nn.Module = kind(channels, width, 2)
        self.others = nn.ModuleList(SeparableConv(width, width) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        total = self.first(features).relu()
        # The first output has already passed a relu; the sums pass one before each convolution.
        for conv in self.others:
            total = total + conv(total.relu())
        return total.relu()


class _Reduction(nn.Module):
    """Halves the size, with a 1 x 1 convolution as the shortcut."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([SeparableConv(channels, width), SeparableConv(width, width)])
        self.expansion = nn.Conv2d(channels, width, 1, 2)

    def forward(self, features: Tensor) -> Tensor:
        first, second = self.convs
        pooled = same_padded(second(first(features).relu()), 2, -torch.inf)
        return F.max_pool2d(pooled, 3, 2) + self.expansion(features)


class _Main(nn.Module):
    """Three convolutions, each after a relu; the caller adds the result."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(SeparableConv(width, width) for _ in range(3))

    def forward(self, features: Tensor) -> Tensor:
        for conv in self.convs:
            features = conv(features.relu())
        return features
