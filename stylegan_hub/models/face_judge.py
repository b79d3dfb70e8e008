"""Judge whether two photographs show one person: a recognizer that no search uses.

The network is a residual network of 29 layers like dlib's (King 2017, after He et al. 2016), with
the weights of face-api's `face_recognition`. A domain's own recognizer steers inversion and edits,
so it cannot judge their results; this one is independent of them. It is not bundled:
`recipes/convert_face_models.py --judge FOLDER` converts it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.models.face_layers import normalized, resized

USUAL_THRESHOLD = 0.6
"""Distances below this are usually taken for the same person. This is face-api's value for
photographs; it was not calibrated here."""

_SIZE = 150
_STAGES = ((32, 3, False), (64, 4, True), (128, 3, True), (256, 3, True), (256, 1, True))


class FaceJudge(nn.Module):
    """Describes a face by 128 numbers, whose distance shows how different two people are."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = _ScaledConv(3, 32, 7, 2, 0)
        blocks: list[nn.Module] = []
        channels = 32
        for width, count, is_smaller in _STAGES:
            for index in range(count):
                blocks.append(_Block(channels, width, is_smaller and index == 0))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, 128, bias=False)

    def forward(self, faces: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 128"]:
        """The numbers of faces in squares in [-1, 1]."""
        features = F.max_pool2d(self.entry(normalized(resized(faces, _SIZE))).relu(), 3, 2)
        return self.fc(self.blocks(features).mean((2, 3)))


def distance(one: Float[Tensor, "n 128"], other: Float[Tensor, "n 128"]) -> Float[Tensor, " n"]:
    """Euclidean distance between the numbers of each face and those of another; 0 if equal."""
    return (one - other).norm(dim=1)


class _ScaledConv(nn.Module):
    """A convolution, followed by a scale and a bias for each channel."""

    def __init__(self, channels: int, width: int, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, size, stride, padding)
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        return self.conv(features) * self.scale[:, None, None] + self.shift[:, None, None]


class _Block(nn.Module):
    """Two convolutions and a shortcut; the first block of a stage may halve the size."""

    def __init__(self, channels: int, width: int, is_smaller: bool) -> None:
        super().__init__()
        stride, padding = (2, 0) if is_smaller else (1, 1)
        self.first = _ScaledConv(channels, width, 3, stride, padding)
        self.second = _ScaledConv(width, width, 3, 1, 1)
        self.is_smaller = is_smaller

    def forward(self, features: Tensor) -> Tensor:
        out = self.second(self.first(features).relu())
        if self.is_smaller:
            features = F.avg_pool2d(features, 2)
            # Without padding, the convolution gives smaller features, and it adds channels.
            down, right = (features.shape[axis] - out.shape[axis] for axis in (2, 3))
            out = F.pad(out, (0, right, 0, down))
            features = F.pad(features, (0, 0, 0, 0, 0, out.shape[1] - features.shape[1]))
        return (out + features).relu()
