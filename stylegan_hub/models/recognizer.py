"""A face recognizer, whose embeddings of one person are close, whatever else changes.

The network is that of ArcFace (Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep
Face Recognition", section 3.1: the improved residual unit BN-conv-PReLU-conv-BN and the head
BN-dropout-linear-BN), with squeeze-and-excitation (Hu et al. 2018, section 3) in every unit. The
names of the weights are those of the published IR-SE50 (`model_ir_se50.pth`), by which StyleCLIP
and its successors judge identity; it is the default configuration. `recipes/train_recognizer.py`
trains a small recognizer on the drawn portraits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_LAYERS, MAX_SIDE, MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by

# The published recognizer reads a part of an aligned picture of this size.
_ALIGNED_SIZE = 256
_MIN_SIZE = 32
CALIBRATED = {"same_above", "other_accepted", "other_below", "same_rejected"}
"""Keys of a calibration."""
_BOUNDS = {
    **dict.fromkeys(("units", "input_stride"), MAX_LAYERS),
    **dict.fromkeys(("widths", "embedding_dim", "reduction"), MAX_WIDTH),
    "input_size": MAX_SIDE,
}


@dataclass(frozen=True)
class RecognizerConfig:
    """The configuration of a recognizer, its `config.json`.

    Raises:
        ValueError: sizes that do not fit together.
    """

    units: Sequence[int] = (3, 4, 14, 3)
    """Residual units of each stage; (3, 4, 14, 3) is IR-SE50."""
    widths: Sequence[int] = (64, 128, 256, 512)
    """Channels of each stage; the first unit of a stage halves the size."""
    input_size: int = 112
    """Width and height of the input, a multiple of `input_stride` * 2 ** stages."""
    embedding_dim: int = 512
    """Number of values in an embedding."""
    input_stride: int = 1
    """Stride of the first convolution; 2 makes the network four times as fast."""
    crop: Sequence[int] | None = (35, 223, 32, 220)
    """The part of a picture of 256 x 256 that is read, (top, bottom, left, right); None reads the
    whole picture."""
    reduction: int = 16
    """Factor by which squeeze-and-excitation reduces the channels inside."""
    dropout: float = 0.6
    """Share of the last features that are dropped in training."""
    affine: bool = True
    """Whether the last normalization has a learned scale and shift."""
    calibration: Mapping[str, float] | None = None
    """The meaning of a cosine, measured on known pairs of pictures: at least `same_above` is
    reached by only the share `other_accepted` of pairs of two people, and below `other_below` is
    only the share `same_rejected` of pairs of one person. None if this was not measured."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), _BOUNDS)
        units, widths, shrink = tuple(self.units), tuple(self.widths), self.shrink
        if len(units) != len(widths) or not units or min(units) < 1:
            raise ValueError(
                f"Got units {units} and widths {widths}; expected as many of both, and at least "
                "one unit in each stage."
            )
        if min(widths) < self.reduction:
            raise ValueError(
                f"Got widths {widths} and reduction {self.reduction}; expected a reduction of at "
                "most the smallest width."
            )
        if self.input_size < shrink or self.input_size % shrink:
            raise ValueError(
                f"input_size is {self.input_size}; expected a multiple of {shrink}, the factor by "
                "which the stages shrink a picture."
            )
        if self.calibration is not None and not _is_calibration(self.calibration):
            raise ValueError(
                f"Got the calibration {self.calibration}; expected numbers from -1 to 1 for "
                f"{', '.join(sorted(CALIBRATED))}."
            )
        if self.crop is not None and not _is_window(self.crop):
            raise ValueError(
                f"crop is {tuple(self.crop)}; expected (top, bottom, left, right) inside of "
                f"{_ALIGNED_SIZE} x {_ALIGNED_SIZE}, or None."
            )

    @property
    def shrink(self) -> int:
        """Factor by which the stages divide the size of a picture."""
        return self.input_stride * int(2 ** len(self.units))


class Recognizer(SavedWhole, ModelMixin, ConfigMixin):
    """Turns pictures of faces into unit vectors; their cosine shows whether two are one person.

    `RecognizerConfig` documents its arguments.
    """

    @configured_by(RecognizerConfig)
    def __init__(self, config: RecognizerConfig) -> None:
        super().__init__()
        widths, places = config.widths, (config.input_size // config.shrink) ** 2
        self.input_layer = ir_se_input(widths[0], config.input_stride)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(widths[-1]),
            nn.Dropout(config.dropout),
            nn.Flatten(),
            nn.Linear(widths[-1] * places, config.embedding_dim),
            nn.BatchNorm1d(config.embedding_dim, affine=config.affine),
        )
        self.body = ir_se_body(config.units, widths, config.reduction)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Embeddings of length 1, float32, of pictures in [-1, 1]; differentiable.

        Raises:
            ValueError: images are not `[n, 3, h, w]` of at least 32 px.
        """
        if images.ndim != 4 or images.shape[1] != 3 or min(images.shape[2:]) < _MIN_SIZE:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1], "
                f"at least {_MIN_SIZE} px high and wide."
            )
        return self.embed(self._frame(images))

    def embed(self, faces: Float[Tensor, "n 3 size size"]) -> Float[Tensor, "n d"]:
        """Like `forward`, for faces that are already cropped and of `input_size`."""
        features = self.output_layer(self.body(self.input_layer(faces.to(self.dtype))))
        return F.normalize(features.float(), dim=1)

    def _frame(self, images: Tensor) -> Tensor:
        """The part of pictures that the network reads, in `input_size`."""
        size = self.config["input_size"]
        if self.config["crop"] is None:
            if images.shape[2:] == (size, size):
                return images
            return F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        if images.shape[2:] != (_ALIGNED_SIZE, _ALIGNED_SIZE):
            images = F.adaptive_avg_pool2d(images, _ALIGNED_SIZE)
        top, bottom, left, right = self.config["crop"]
        return F.adaptive_avg_pool2d(images[:, :, top:bottom, left:right], size)


def ir_se_input(width: int, stride: int) -> nn.Sequential:
    """The first layer of an IR-SE network, from RGB to `width` channels."""
    return nn.Sequential(
        nn.Conv2d(3, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
    )


def ir_se_body(units: Sequence[int], widths: Sequence[int], reduction: int) -> nn.Sequential:
    """The residual units of an IR-SE network, one after the other; each stage halves the size.

    Args:
        units: number of units in each stage.
        widths: channels of each stage; the input has as many as the first stage.
        reduction: factor by which squeeze-and-excitation reduces the channels inside.
    """
    layers: list[nn.Module] = []
    width = widths[0]
    for count, wider in zip(units, widths, strict=True):
        layers.append(_Unit(width, wider, 2, reduction))
        layers += [_Unit(wider, wider, 1, reduction) for _ in range(count - 1)]
        width = wider
    return nn.Sequential(*layers)


class _Unit(nn.Module):
    """The improved residual unit of ArcFace; its shortcut adapts size and channels if needed."""

    def __init__(self, width: int, wider: int, stride: int, reduction: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module
        if width == wider:
            self.shortcut_layer = nn.MaxPool2d(1, stride)  # takes every stride-th pixel
        else:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(width, wider, 1, stride, bias=False), nn.BatchNorm2d(wider)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(width),
            nn.Conv2d(width, wider, 3, 1, 1, bias=False),
            nn.PReLU(wider),
            nn.Conv2d(wider, wider, 3, stride, 1, bias=False),
            nn.BatchNorm2d(wider),
            _SqueezeExcitation(wider, reduction),
        )

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = self.shortcut_layer(features) + self.res_layer(features)
        return result


class _SqueezeExcitation(nn.Module):
    """Weights channels by the mean features of the whole picture (Hu et al. 2018, eq. 3 and 4)."""

    def __init__(self, width: int, reduction: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width // reduction, 1, bias=False)
        self.fc2 = nn.Conv2d(width // reduction, width, 1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = features.mean((2, 3), keepdim=True)
        return features * self.fc2(self.fc1(squeezed).relu()).sigmoid()


def _is_calibration(values: object) -> bool:
    return (
        isinstance(values, Mapping)
        and set(values) == CALIBRATED
        and all(isinstance(number, float | int) and -1 <= number <= 1 for number in values.values())
    )


def _is_window(crop: Sequence[int]) -> bool:
    if len(crop) != 4:
        return False
    top, bottom, left, right = crop
    return 0 <= top < bottom <= _ALIGNED_SIZE and 0 <= left < right <= _ALIGNED_SIZE
