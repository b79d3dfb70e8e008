"""The image operations of StyleGAN2 in differentiable PyTorch, with faster optional kernels."""

from stylegan_hub.ops.bias_act import bias_act
from stylegan_hub.ops.block_input import block_input
from stylegan_hub.ops.modulated_conv2d import modulated_conv2d
from stylegan_hub.ops.styled_layer import styled_layer
from stylegan_hub.ops.upfirdn2d import (
    downsample2d,
    filter2d,
    setup_filter,
    upfirdn2d,
    upsample2d,
)

__all__ = [
    "bias_act",
    "block_input",
    "downsample2d",
    "filter2d",
    "modulated_conv2d",
    "setup_filter",
    "styled_layer",
    "upfirdn2d",
    "upsample2d",
]
