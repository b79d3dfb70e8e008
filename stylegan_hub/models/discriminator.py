"""The StyleGAN2 discriminator, residual architecture, as published.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, with the minibatch
standard deviation of ProGAN (section 3) and the label projection of stylegan2-ada. Names of
modules and tensors are those of NVIDIA's PyTorch releases.
"""

from __future__ import annotations

import math

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.models.stylegan2 import (
    RESAMPLE_TAPS,
    Channels,
    FullyConnectedLayer,
    MappingLayers,
    block_channels,
    block_input,
)
from stylegan_hub.ops import setup_filter, upfirdn2d


class StyleGAN2Discriminator(SavedWhole, ModelMixin, ConfigMixin):
    """Tells real images from generated ones.

    Args:
        c_dim: Number of classes; 0 for none.
        img_resolution: Width and height of the images, a power of two of at least 8.
        img_channels: Channels of the images.
        channel_base: Feature channels are `min(channel_base // resolution, channel_max)`.
        channel_max: See channel_base.
        channels: Feature channels at 4, 8, 16, ... px, or a mapping from resolution to channels.
            None: by channel_base and channel_max.
        num_mapping_layers: Fully connected layers between labels and their projection.
        conv_clamp: Limit of the absolute value of what each layer returns. None: no limit.
        num_fp16_res: So many of the highest resolutions are computed in half precision, on CUDA.
        mbstd_group_size: Images that are compared with each other; batches are a multiple of it,
            or smaller.
        mbstd_num_channels: Channels that this comparison adds.

    Raises:
        ValueError: an impossible resolution, or channels that do not fit it.
    """

    @register_to_config
    def __init__(
        self,
        c_dim: int = 0,
        img_resolution: int = 1024,
        img_channels: int = 3,
        channel_base: int = 32768,
        channel_max: int = 512,
        channels: Channels | None = None,
        num_mapping_layers: int = 8,
        conv_clamp: float | None = None,
        num_fp16_res: int = 0,
        mbstd_group_size: int = 4,
        mbstd_num_channels: int = 1,
    ) -> None:
        super().__init__()
        widths = block_channels(img_resolution, channels, channel_base, channel_max)
        if img_resolution < 8:
            raise ValueError(f"Got img_resolution={img_resolution}; expected at least 8.")
        self.c_dim = c_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        resolutions = sorted(widths, reverse=True)
        fp16_resolutions = resolutions[:num_fp16_res]
        self._blocks = [f"b{resolution}" for resolution in resolutions[:-1]]
        for resolution in resolutions[:-1]:
            block = DiscriminatorBlock(
                img_channels if resolution == img_resolution else 0,
                widths[resolution],
                widths[resolution // 2],
                conv_clamp,
                use_fp16=resolution in fp16_resolutions,
            )
            self.add_module(f"b{resolution}", block)
        self.cmap_dim = widths[4] if c_dim > 0 else 0
        if c_dim > 0:
            self.mapping = MappingLayers(0, c_dim, self.cmap_dim, num_mapping_layers)
        self.b4 = DiscriminatorEpilogue(
            widths[4], max(self.cmap_dim, 1), conv_clamp, mbstd_group_size, mbstd_num_channels
        )

    def forward(
        self, img: Float[Tensor, "n c h w"], c: Float[Tensor, "n c_dim"] | None = None
    ) -> Float[Tensor, "n 1"]:
        """Logits: the higher, the more real.

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
        for name in self._blocks:
            x = self.get_submodule(name)(x)
        x = self.b4(x)
        if self.c_dim == 0:
            return x
        projection = self.mapping.w(None, c)
        return (x * projection).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a shortcut, to half the resolution."""

    resample_filter: Tensor

    def __init__(
        self,
        img_channels: int,
        in_channels: int,
        out_channels: int,
        conv_clamp: float | None,
        *,
        use_fp16: bool,
    ) -> None:
        super().__init__()
        self.use_fp16 = use_fp16
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))
        if img_channels > 0:  # the first block reads images
            self.fromrgb = Conv2dLayer(img_channels, in_channels, 1, conv_clamp=conv_clamp)
        self.conv0 = Conv2dLayer(in_channels, in_channels, 3, conv_clamp=conv_clamp)
        # Both branches are scaled so that their sum keeps the variance.
        half = math.sqrt(0.5)
        self.conv1 = Conv2dLayer(
            in_channels, out_channels, 3, down=2, gain=half, conv_clamp=conv_clamp
        )
        self.skip = Conv2dLayer(in_channels, out_channels, 1, down=2, gain=half, is_shortcut=True)

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Images or features to features of half the size."""
        x = block_input(x, self.conv0.weight.dtype, self.use_fp16)
        if hasattr(self, "fromrgb"):
            x = self.fromrgb(x)
        return self.skip(x).add_(self.conv1(self.conv0(x)))


class DiscriminatorEpilogue(nn.Module):
    """The last layers, at 4 x 4."""

    def __init__(
        self,
        channels: int,
        out_features: int,
        conv_clamp: float | None,
        mbstd_group_size: int,
        mbstd_num_channels: int,
    ) -> None:
        super().__init__()
        self.mbstd_group_size = mbstd_group_size
        self.mbstd_num_channels = mbstd_num_channels
        self.conv = Conv2dLayer(channels + mbstd_num_channels, channels, 3, conv_clamp=conv_clamp)
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
    """Convolution with equalized learning rate and leaky ReLU, or a bare shortcut."""

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
        # lrelu(a * x) is a * lrelu(x) for a > 0, so gains go ahead of it, onto weights and bias.
        self.gain = gain if is_shortcut else gain * math.sqrt(2)
        self.clamp = None if conv_clamp is None else conv_clamp * gain
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_size**2)
        self.register_buffer("resample_filter", setup_filter(RESAMPLE_TAPS))
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        if not is_shortcut:
            self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Features of the next layer."""
        weight = (self.weight * (self.weight_gain * self.gain)).to(x.dtype)
        kernel = weight.shape[2]
        padding, stride = kernel // 2, 1
        if self.down > 1:
            # What centers a filter of 4 taps, and the convolution's padding. A 1x1 kernel skips
            # pixels already in the filter, a larger one needs them.
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
        x: Features; image i is in a group with i + n / group_size and so on.
        group_size: Images in a group; smaller batches are one group.
        num_channels: The features are split into so many parts, each of which gives one map.

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
