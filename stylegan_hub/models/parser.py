"""The face parser BiSeNet, which finds the part of a face that every pixel shows.

Yu et al., "BiSeNet: Bilateral Segmentation Network", 2018 (arXiv 1808.00897), in the form of the
public face parsers: the features of the context path's ResNet-18 at an eighth of the picture
replace the paper's spatial path. Names of modules and tensors are those of the public checkpoints
(`cp.resnet.layer1.0.conv1.weight`, `ffm.convblk.conv.weight`, ...). The defaults are their
configuration: 19 parts, 512 px, 13 million numbers. With other widths and parts the same network
parses other pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_SIDE, MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by

FACE_PARTS: tuple[str, ...] = (
    "background", "skin", "left brow", "right brow", "left eye", "right eye", "eyeglasses",
    "left ear", "right ear", "earring", "nose", "mouth", "upper lip", "lower lip", "neck",
    "necklace", "clothes", "hair", "hat",
)  # fmt: skip
"""The parts of CelebAMask-HQ in the order of the public checkpoints, in words."""

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_SMALLEST = 16  # smallest side of a picture in pixels


@dataclass(frozen=True)
class ParserConfig:
    """The configuration of a parser, its `config.json`.

    Raises:
        ValueError: values that no network can have.
    """

    parts: Sequence[str] = FACE_PARTS
    """Names of the classes, in order."""
    width: int = 64
    """Channels of the trunk's first stage, a multiple of 4; all others are multiples of it."""
    input_size: int = 512
    """Pictures are resized to this square first."""
    stem_stride: Literal[1, 2, 4] = 4
    """Pixels of the input per feature of the first stage. The 4 of the public checkpoints is for
    512 px; with 2 or 1, thin parts of small pictures are not lost."""
    mean: Sequence[float] = _IMAGENET_MEAN
    """Per channel, subtracted from pictures in [0, 1]."""
    std: Sequence[float] = _IMAGENET_STD
    """Per channel; pictures are divided by it after that."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), {"width": MAX_WIDTH // 16, "input_size": MAX_SIDE})
        parts, mean, std = list(self.parts), list(self.mean), list(self.std)
        if len(parts) < 2 or len(set(parts)) < len(parts):
            raise ValueError(f"Got parts {parts}; expected two or more different names.")
        if self.width < 4 or self.width % 4:
            raise ValueError(f"Got width {self.width}; expected a positive multiple of 4.")
        if self.input_size < _SMALLEST:
            raise ValueError(f"Got input_size {self.input_size}; expected {_SMALLEST} or more.")
        if self.stem_stride not in (1, 2, 4):
            raise ValueError(f"Got stem_stride {self.stem_stride}; expected 1, 2 or 4.")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(
                f"Got mean {mean} and std {std}; expected three numbers each, and every std "
                "positive."
            )


class Parser(SavedWhole, ModelMixin, ConfigMixin):
    """Parts of a face as maps over the picture; `ParserConfig` documents its arguments."""

    @configured_by(ParserConfig)
    def __init__(self, config: ParserConfig) -> None:
        super().__init__()
        self.parts = tuple(config.parts)
        self.input_size = config.input_size
        width, count = config.width, len(self.parts)
        self.cp = _ContextPath(width, config.stem_stride)
        self.ffm = _FeatureFusion(4 * width, 4 * width)
        self.conv_out = _Output(4 * width, 4 * width, count)
        # Two more outputs, from coarser features, which are used only in training.
        self.conv_out16 = _Output(2 * width, width, count)
        self.conv_out32 = _Output(2 * width, width, count)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n parts h w"]:
        """Logits of every part at every pixel; differentiable.

        Args:
            images: in [-1, 1], any size from 16 px.

        Raises:
            ValueError: another shape.
        """
        (logits,) = self.outputs(self.preprocess(images), auxiliary=False)
        if logits.shape[2:] == images.shape[2:]:
            return logits
        # Antialiasing does not support bfloat16.
        return F.interpolate(logits.float(), images.shape[2:], mode="bilinear", antialias=True)

    def masks(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n parts h w"]:
        """Soft masks: the probability of every part at every pixel; they sum to 1 over the parts.

        Differentiable; arguments and errors as in `forward`.
        """
        masks: Tensor = self(images).float().softmax(1)
        return masks

    @torch.no_grad()
    def labels(self, images: Float[Tensor, "n 3 h w"]) -> Int[Tensor, "n h w"]:
        """The most probable part of every pixel as int64 indices into `parts`; see `forward`."""
        return self(images).argmax(1)

    def index(self, part: str) -> int:
        """The channel of a part.

        Raises:
            ValueError: no part has this name; the message lists all parts.
        """
        if part not in self.parts:
            raise ValueError(f"Unknown part {part!r}; this parser knows {', '.join(self.parts)}.")
        return self.parts.index(part)

    def preprocess(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 size size"]:
        """Pictures in [-1, 1] of any size as the network's normalized input."""
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < _SMALLEST:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1] with "
                f"sides of at least {_SMALLEST}."
            )
        pixels = image_files.resize(images, self.input_size).to(self.dtype)
        mean, std = (
            torch.tensor(values, dtype=pixels.dtype, device=pixels.device)[:, None, None]
            for values in (self.config["mean"], self.config["std"])
        )
        return ((pixels + 1) / 2 - mean) / std

    def outputs(
        self, pixels: Float[Tensor, "n 3 h w"], *, auxiliary: bool = True
    ) -> tuple[Float[Tensor, "n parts h w"], ...]:
        """Logits at the size of the normalized input, the result first.

        Args:
            auxiliary: also compute the two outputs that are used only in training.
        """
        features, context_8, context_16 = self.cp(pixels)
        maps = [self.conv_out(self.ffm(torch.cat([features, context_8], 1)))]
        if auxiliary:
            maps += [self.conv_out16(context_8), self.conv_out32(context_16)]
        size = pixels.shape[2:]
        return tuple(F.interpolate(one, size, mode="bilinear", align_corners=True) for one in maps)


class _ConvBNReLU(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class _ResidualBlock(nn.Module):
    """The basic block of ResNet-18."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        if in_channels != out_channels or stride > 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )
        else:
            self.downsample = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.downsample(x))


class _Trunk(nn.Module):
    """ResNet-18 without its classifier."""

    def __init__(self, width: int, stem_stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, min(stem_stride, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.pools = stem_stride == 4
        self.layer1 = _stage(width, width, 1)
        self.layer2 = _stage(width, 2 * width, 2)
        self.layer3 = _stage(2 * width, 4 * width, 2)
        self.layer4 = _stage(4 * width, 8 * width, 2)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = F.relu(self.bn1(self.conv1(pixels)))
        if self.pools:
            x = F.max_pool2d(x, 3, 2, padding=1)
        features_8 = self.layer2(self.layer1(x))
        features_16 = self.layer3(features_8)
        return features_8, features_16, self.layer4(features_16)


def _stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _ResidualBlock(in_channels, out_channels, stride),
        _ResidualBlock(out_channels, out_channels, 1),
    )


class _AttentionRefinement(nn.Module):
    """Weights channels by the mean features of the whole picture (section 3.2, figure 2b)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _ConvBNReLU(in_channels, out_channels)
        self.conv_atten = nn.Conv2d(out_channels, out_channels, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        attention = self.bn_atten(self.conv_atten(x.mean((2, 3), keepdim=True)))
        return x * attention.sigmoid()


class _ContextPath(nn.Module):
    """Trunk, global average and two refinements, from coarse to fine (section 3.2).

    The numbers in the names are strides for the public stem; a smaller one divides them.
    """

    def __init__(self, width: int, stem_stride: int) -> None:
        super().__init__()
        self.resnet = _Trunk(width, stem_stride)
        self.arm16 = _AttentionRefinement(4 * width, 2 * width)
        self.arm32 = _AttentionRefinement(8 * width, 2 * width)
        self.conv_head32 = _ConvBNReLU(2 * width, 2 * width)
        self.conv_head16 = _ConvBNReLU(2 * width, 2 * width)
        self.conv_avg = _ConvBNReLU(8 * width, 2 * width, kernel_size=1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features_8, features_16, features_32 = self.resnet(pixels)
        average = self.conv_avg(features_32.mean((2, 3), keepdim=True))
        coarse = self.arm32(features_32) + average
        context_16 = self.conv_head32(F.interpolate(coarse, features_16.shape[2:]))
        finer = self.arm16(features_16) + context_16
        context_8 = self.conv_head16(F.interpolate(finer, features_8.shape[2:]))
        return features_8, context_8, context_16


class _FeatureFusion(nn.Module):
    """Joins fine features and context; attention weights channels (section 3.3, figure 2c)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convblk = _ConvBNReLU(in_channels, out_channels, kernel_size=1)
        self.conv1 = nn.Conv2d(out_channels, out_channels // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(out_channels // 4, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convblk(x)
        attention = self.conv2(F.relu(self.conv1(x.mean((2, 3), keepdim=True))))
        return x + x * attention.sigmoid()


class _Output(nn.Module):
    def __init__(self, in_channels: int, hidden: int, parts: int) -> None:
        super().__init__()
        self.conv = _ConvBNReLU(in_channels, hidden)
        self.conv_out = nn.Conv2d(hidden, parts, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_out(self.conv(x))
