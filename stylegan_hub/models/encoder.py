"""The encoders e4e and pSp: from a picture to the latent in W+ that renders it.

Tov et al., "Designing an Encoder for StyleGAN Image Manipulation", 2021 (arXiv 2102.02766), uses
the feature pyramid and style heads of pSp (Richardson et al. 2021, section 3). In e4e the first
head gives one w for all layers, and each other head gives what its layer adds to it (section 5.1:
w_i = w_0 + delta_i, with the deltas switched on one by one in training). This keeps latents close
to W, where edits work. In pSp (`deltas=False`) each head gives the w of its layer.

Names of modules and tensors are those of the published checkpoints without the prefix `encoder.`.
The defaults are their configuration for faces of 1024 px: IR-SE50, 18 ws of 512, 267 million
numbers. `latent_avg`, which those files keep beside the weights, is a buffer here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float
from torch import Tensor, nn, stack, zeros, zeros_like

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_LAYERS, MAX_SIDE, MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.recognizer import ir_se_body, ir_se_input
from stylegan_hub.models.stylegan2 import FullyConnectedLayer

_STAGES = 4
_BOUNDS = {
    **dict.fromkeys(("num_ws", "units", "levels", "input_stride"), MAX_LAYERS),
    **dict.fromkeys(("w_dim", "widths", "head_width", "reduction"), MAX_WIDTH),
    "input_size": MAX_SIDE,
}


@dataclass(frozen=True)
class EncoderConfig:
    """The configuration of an encoder, its `config.json`.

    Raises:
        ValueError: sizes that do not fit together.
    """

    num_ws: int = 18
    """Number of ws that the generator takes."""
    w_dim: int = 512
    """Size of w."""
    input_size: int | Sequence[int] = 256
    """Pictures are resized to this square, or to (height, width)."""
    units: Sequence[int] = (3, 4, 14, 3)
    """Residual units of the four stages; (3, 4, 14, 3) is IR-SE50."""
    widths: Sequence[int] = (64, 128, 256, 512)
    """Channels of the stages; the first unit of each halves the size."""
    input_stride: int = 1
    """Stride of the first convolution; 2 makes the network four times as fast."""
    head_width: int | None = None
    """Channels inside the style heads; w_dim when None, as published."""
    levels: Sequence[int] = (3, 7)
    """The first head that reads the medium features, and the first that reads the fine ones; the
    heads before them read the coarse ones."""
    reduction: int = 16
    """Factor by which squeeze-and-excitation reduces the channels inside."""
    deltas: bool = True
    """Whether the heads after the first give a change of its w (e4e) or a w (pSp)."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), _BOUNDS)
        units, widths, levels = tuple(self.units), tuple(self.widths), tuple(self.levels)
        if len(units) != _STAGES or len(widths) != _STAGES or min(units) < 1:
            raise ValueError(
                f"Got units {units} and widths {widths}; expected {_STAGES} of both, and at least "
                "one unit in each stage."
            )
        if min(widths) < self.reduction:
            raise ValueError(
                f"Got widths {widths} and reduction {self.reduction}; expected a reduction of at "
                "most the smallest width."
            )
        if self.num_ws < 1 or len(levels) != 2 or not 1 <= levels[0] <= levels[1]:
            raise ValueError(
                f"Got num_ws {self.num_ws} and levels {levels}; expected at least one w, and two "
                "levels of 1 or more in ascending order."
            )
        least = 2 * self.shrink
        if len(self.size) != 2 or any(side < least or side % self.shrink for side in self.size):
            raise ValueError(
                f"Got input_size {self.input_size}; expected multiples of {self.shrink}, the "
                f"factor by which the stages shrink a picture, and at least {least}."
            )

    @property
    def size(self) -> tuple[int, ...]:
        """Height and width of the input."""
        size = self.input_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def shrink(self) -> int:
        """Factor by which the stages divide the size of a picture."""
        return self.input_stride * int(2**_STAGES)


class Encoder(SavedWhole, ModelMixin, ConfigMixin):
    """From pictures to latents of one generator; `EncoderConfig` documents its arguments."""

    latent_avg: Tensor

    @configured_by(EncoderConfig)
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_ws = config.num_ws
        self.w_dim = config.w_dim
        self.deltas = config.deltas
        height, width = config.size
        self.input_size = (height, width)
        units, widths = config.units, config.widths
        self.input_layer = ir_se_input(widths[0], config.input_stride)
        self.body = ir_se_body(units, widths, config.reduction)
        # The fine, medium and coarse features are the outputs of the last three stages.
        self._taps = [sum(units[: stage + 1]) - 1 for stage in range(1, _STAGES)]
        coarse = max(config.size) // config.shrink
        self._levels = [
            sum(index >= first for first in config.levels) for index in range(self.num_ws)
        ]
        self.styles = nn.ModuleList(
            _StyleHead(widths[3], config.head_width or self.w_dim, self.w_dim, coarse * 2**level)
            for level in self._levels
        )
        self.latlayer1 = nn.Conv2d(widths[2], widths[3], 1)
        self.latlayer2 = nn.Conv2d(widths[1], widths[3], 1)
        self.register_buffer("latent_avg", zeros(self.num_ws, self.w_dim))

    def encode(
        self, images: Float[Tensor, "n 3 h w"], stage: int | None = None
    ) -> Float[Tensor, "n num_ws w_dim"]:
        """Latents in w_plus: the output of the network plus the average latent.

        Args:
            images: in [-1, 1], any size; differentiable.
            stage: see `forward`.

        Raises:
            ValueError: another shape, or no such stage.
        """
        return self.latent_avg + self(images, stage)

    def forward(
        self, images: Float[Tensor, "n 3 h w"], stage: int | None = None
    ) -> Float[Tensor, "n num_ws w_dim"]:
        """The network's own output, without the average latent.

        Args:
            images: in [-1, 1], any size.
            stage: how many of the deltas are switched on, 0 to num_ws - 1; with 0 all layers have
                the same w. None switches all of them on; pSp takes only None.

        Raises:
            ValueError: another shape, or no such stage.
        """
        if stage is not None and not self.deltas:
            raise ValueError(f"Got stage {stage}; an encoder without deltas has none. Pass None.")
        stage = self.num_ws - 1 if stage is None else stage
        if not 0 <= stage < self.num_ws:
            raise ValueError(f"Got stage {stage}; expected 0 to {self.num_ws - 1}, or None.")
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1]."
            )
        features = self._pyramid(image_files.resize(images, self.input_size).to(self.dtype))
        heads = [
            head(features[self._levels[index]])
            for index, head in enumerate(list(self.styles)[: stage + 1])
        ]
        if not self.deltas:
            return stack(heads, 1)
        w = heads[0]
        deltas = heads[1:] + [zeros_like(w)] * (self.num_ws - 1 - stage)
        return w[:, None] + stack([zeros_like(w), *deltas], 1)

    def _pyramid(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features from coarse to fine; coarser ones are added to each."""
        tapped = []
        x = self.input_layer(pixels)
        for index, unit in enumerate(self.body):
            x = unit(x)
            if index in self._taps:
                tapped.append(x)
        fine, medium, coarse = tapped
        medium = _enlarge_and_add(coarse, self.latlayer1(medium))
        return coarse, medium, _enlarge_and_add(medium, self.latlayer2(fine))


class _StyleHead(nn.Module):
    """From features [n, c, h, w] to one vector: halved until one pixel is left, then linear."""

    def __init__(self, in_channels: int, width: int, w_dim: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(math.ceil(math.log2(size))):
            layers += [nn.Conv2d(in_channels, width, 3, 2, 1), nn.LeakyReLU(0.01)]
            in_channels = width
        self.convs = nn.Sequential(*layers)
        self.linear = FullyConnectedLayer(width, w_dim)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.convs(features).flatten(1))


def _enlarge_and_add(coarse: Tensor, fine: Tensor) -> Tensor:
    enlarged = F.interpolate(coarse, fine.shape[2:], mode="bilinear", align_corners=True)
    return enlarged + fine
