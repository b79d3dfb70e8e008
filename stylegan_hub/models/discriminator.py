"""The StyleGAN2 discriminator, residual architecture, as published.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, with the minibatch
standard deviation of ProGAN (section 3) and the label projection of stylegan2-ada. Names of
modules and tensors are those of NVIDIA's PyTorch releases.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.stylegan2 import (
    RESAMPLE_TAPS,
    SKIP_GAIN,
    Channels,
    FullyConnectedLayer,
    MappingConfig,
    MappingLayers,
    block_channels,
)
from stylegan_hub.ops import block_input, setup_filter, upfirdn2d


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The configuration of a discriminator, its `config.json`.

    Raises:
        ValueError: an invalid resolution, or channels that do not fit it.
    """

    c_dim: int = 0
    """Number of classes; 0 for none."""
    img_resolution: int = 1024
    """Width and height of the images, a power of two of at least 8."""
    img_channels: int = 3
    """Channels of the images."""
    channel_base: int = 32768
    """Feature channels are `min(channel_base // resolution, channel_max)`."""
    channel_max: int = 512
    """See channel_base."""
    channels: Channels | None = None
    """Feature channels at 4, 8, 16, ... px, or a mapping from resolution to channels. None:
    computed from channel_base and channel_max."""
    num_mapping_layers: int = 8
    """Fully connected layers between labels and their projection."""
    conv_clamp: float | None = None
    """Limit of the absolute values in the output of each layer. None: no limit."""
    num_fp16_res: int = 0
    """How many of the highest resolutions are computed in half precision, on CUDA."""
    mbstd_group_size: int = 4
    """Number of images that are compared with each other; a batch must be a multiple of it, or
    smaller."""
    mbstd_num_channels: int = 1
    """Number of channels that this comparison adds."""

    def __post_init__(self) -> None:
        _ = self.widths  # raises for invalid values
        if self.img_resolution < 8:
            raise ValueError(f"Got img_resolution={self.img_resolution}; expected at least 8.")

    @property
    def widths(self) -> dict[int, int]:
        """Feature channels at each resolution."""
        return block_channels(
            self.img_resolution, self.channels, self.channel_base, self.channel_max
        )


class StyleGAN2Discriminator(SavedWhole, ModelMixin, ConfigMixin):
    """Tells real images from generated ones; `DiscriminatorConfig` documents its arguments."""

    @configured_by(DiscriminatorConfig)
    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.c_dim = config.c_dim
        self.img_resolution = config.img_resolution
        self.img_channels = config.img_channels
        *resolutions, lowest = reversed(config.widths)
        for rank, resolution in enumerate(resolutions):
            block = DiscriminatorBlock(config, resolution, use_fp16=rank < config.num_fp16_res)
            self.add_module(f"b{resolution}", block)
        self.cmap_dim = config.widths[lowest] if config.c_dim > 0 else 0
        if config.c_dim > 0:
            mapping = MappingConfig(0, config.c_dim, self.cmap_dim, config.num_mapping_layers)
            self.mapping = MappingLayers(mapping)
        self.b4 = DiscriminatorEpilogue(config, max(self.cmap_dim, 1))

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks that halve the size, in order."""
        return [block for block in self.children() if isinstance(block, DiscriminatorBlock)]

    def forward(
        self, img: Float[Tensor, "n c h w"], c: Float[Tensor, "n c_dim"] | None = None
    ) -> Float[Tensor, "n 1"]:
        """Logits; higher means more real.

        Args:
            img: Images in [-1, 1].
            c: One-hot labels, if the discriminator has labels.

        Raises:
            ValueError: wrong shape of images, labels or batch.
        """
        expected = (self.img_channels, self.img_resolution, self.img_resolution)
        if img.ndim != 4 or img.shape[1:] != expected:
            raise ValueError(
                f"Got images of shape {tuple(img.shape)}; expected [n, {expected[0]}, "
                f"{expected[1]}, {expected[2]}]. Resize them first."
            )
        if c is not None and self.c_dim == 0 and c.shape[-1] > 0:
            raise ValueError(
                f"Got labels c of shape {tuple(c.shape)}; this network takes no labels: pass None."
            )
        x = img
        for block in self.blocks:
            x = block(x)
        x = self.b4(x)
        if self.c_dim == 0:
            return x
        projection = self.mapping.w(None, c)
        return (x * projection).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a shortcut, which halve the resolution."""

    resample_filter: Tensor

    def __init__(self, config: DiscriminatorConfig, resolution: int, *, use_fp16: bool) -> None:
        super().__init__()
        in_channels, out_channels = config.widths[resolution], config.widths[resolution // 2]
        clamp = config.conv_clamp
        self.use_fp16 = use_fp16
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))
        if resolution == config.img_resolution:  # the first block reads images
            self.fromrgb = Conv2dLayer(config.img_channels, in_channels, 1, conv_clamp=clamp)
        self.conv0 = Conv2dLayer(in_channels, in_channels, 3, conv_clamp=clamp)
        # Both branches are scaled so that their sum keeps the variance.
        self.conv1 = Conv2dLayer(
            in_channels, out_channels, 3, down=2, gain=SKIP_GAIN, conv_clamp=clamp
        )
        self.skip = Conv2dLayer(
            in_channels, out_channels, 1, down=2, gain=SKIP_GAIN, is_shortcut=True
        )

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Images or features to features of half the size."""
        x = block_input(x, self.conv0.weight.dtype, self.use_fp16)
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        return self.skip(x).add_(self.conv1(self.conv0(x)))


class DiscriminatorEpilogue(nn.Module):
    """The last layers, at 4 x 4."""

    def __init__(self, config: DiscriminatorConfig, out_features: int) -> None:
        super().__init__()
        channels = config.widths[4]
        self.mbstd_group_size = config.mbstd_group_size
        self.mbstd_num_channels = config.mbstd_num_channels
        self.conv = Conv2dLayer(
            channels + config.mbstd_num_channels, channels, 3, conv_clamp=config.conv_clamp
        )
        self.fc = FullyConnectedLayer(channels * 4 * 4, channels, activation="lrelu")
        self.out = FullyConnectedLayer(channels, out_features)

    def forward(self, x: Float[Tensor, "n c 4 4"]) -> Float[Tensor, "n out_features"]:
        """Features to numbers."""
        x = x.to(self.conv.weight.dtype)
        if self.mbstd_num_channels > 0:
            deviation = minibatch_deviation(x, self.mbstd_group_size, self.mbstd_num_channels)
            x = torch.cat([x, deviation], dim=1)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Conv2dLayer(nn.Module):
    """Convolution with equalized learning rate and leaky ReLU, or a plain shortcut."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        down: int = 1,
        gain: float = 1.0,
        conv_clamp: float | None = None,
        is_shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.down = down
        self.is_shortcut = is_shortcut
        # lrelu(a * x) = a * lrelu(x) for a > 0, so gains are multiplied into weights and bias.
        self.gain = gain if is_shortcut else gain * math.sqrt(2)
        self.clamp = None if conv_clamp is None else conv_clamp * gain
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        if not is_shortcut:
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Features for the next layer."""
        weight = (self.weight * (self.weight_gain * self.gain)).to(x.dtype)
        kernel = weight.shape[2]
        padding, stride = kernel // 2, 1
        if self.down > 1:
            # The padding centers a filter of 4 taps and includes that of the convolution. With a
            # 1x1 kernel the filter already skips pixels; a larger kernel needs all of them.
            stride = self.down if kernel > 1 else 1
            x = upfirdn2d(x, self.resample_filter, down=self.down // stride, padding=padding + 1)
            padding = 0
        if self.is_shortcut:
            return F.conv2d(x, weight, stride=stride, padding=padding)
        bias = (self.bias * self.gain).to(x.dtype)
        y = F.leaky_relu_(F.conv2d(x, weight, bias, stride=stride, padding=padding), 0.2)
        return y if self.clamp is None else y.clamp(-self.clamp, self.clamp)


def minibatch_deviation(
    x: Float[Tensor, "n c h w"], group_size: int, num_channels: int = 1
) -> Float[Tensor, "n f h w"]:
    """How much images of a group differ, as constant feature maps (ProGAN, section 3).

    Args:
        x: Features; image i is in a group with image i + n / group_size and so on.
        group_size: Number of images in a group; a smaller batch is one group.
        num_channels: Number of parts that the features are split into; each gives one map.

    Raises:
        ValueError: the batch cannot be split into groups, or c into parts.
    """
    n, c, h, w = x.shape
    group = min(group_size, n)
    if n % group or c % num_channels:
        raise ValueError(
            f"Got a batch of {n} images with {c} channels; expected a multiple of the group size "
            f"{group_size}, or less than it, and channels that are a multiple of {num_channels}."
        )
    y = x.reshape(group, n // group, num_channels, c // num_channels, h, w)
    variance = (y - y.mean(dim=0)).square().mean(dim=0)
    deviation = (variance + 1e-8).sqrt().mean(dim=(2, 3, 4))  # [n // group, num_channels]
    return deviation[:, :, None, None].repeat(group, 1, h, w)
