"""The image operations of StyleGAN2, in differentiable PyTorch that runs on any device."""

from stylegan_hub.ops.bias_act import bias_act
from stylegan_hub.ops.modulated_conv2d import modulated_conv2d
from stylegan_hub.ops.upfirdn2d import (
    downsample2d,
    filter2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)

__all__ = [
    "bias_act",
    "downsample2d",
    "filter2d",
    "modulated_conv2d",
    "setup_filter",
    "upfirdn2d",
    "upsample2d",
]
