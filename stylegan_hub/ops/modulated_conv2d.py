"""Modulated convolution (StyleGAN2, section 2.2 and appendix B), as one shared convolution.

The paper scales the weights for each sample. Scaling the input channels before one ordinary
convolution and the output channels after it computes the same function without a grouped
convolution or a copy of the weights for each sample. Results differ from those of NVIDIA's grouped
("fused") form only in rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.ops.frozen import once
from stylegan_hub.ops.upfirdn2d import upfirdn2d

DEMODULATION_EPS = 1e-8  # StyleGAN2, equation 3


def modulated_conv2d(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in k k"],
    styles: Float[Tensor, "n c_in"],
    *,
    noise: Float[Tensor, "*_"] | None = None,
    up: int = 1,
    padding: int = 0,
    resample_filter: Float[Tensor, "*_"] | None = None,
    demodulate: bool = True,
    gain: float = 1.0,
) -> Float[Tensor, "n c_out h2 w2"]:
    """Convolve with weights whose input channels are scaled by each sample's styles.

    Args:
        x: Feature maps.
        weight: One kernel for all samples. With up=1 it is correlated, as in conv2d; with up=2 it
            is the kernel of a transposed convolution. StyleGAN2 files store it in this way.
        styles: Scale of each input channel.
        noise: Added to the demodulated result, not scaled by gain; any shape that broadcasts.
        up: 2 doubles the size, with a transposed convolution and then the resample filter.
        padding: Zero padding, as for conv2d.
        resample_filter: Filter from `setup_filter`, used if up is not 1.
        demodulate: Scale each output channel so that the modulated kernel has length 1.
        gain: Factor on the result, before the noise.

    Raises:
        ValueError: x, weight and styles have different numbers of channels.
    """
    if x.shape[1] != weight.shape[1] or styles.shape != x.shape[:2]:
        raise ValueError(
            f"Got x {tuple(x.shape)}, weight {tuple(weight.shape)} and styles "
            f"{tuple(styles.shape)}; expected [n, c_in, h, w], [c_out, c_in, k, k], [n, c_in]."
        )
    scale = None
    if demodulate:
        if x.dtype == torch.float16:
            weight, styles = once(bounded_weight, weight), bounded_styles(styles)
        scale = demodulation(styles, once(kernel_energy, weight)) * gain
    else:
        styles = styles * gain
    styles, weight = styles.to(x.dtype), weight.to(x.dtype)

    if up == 1 and padding == 0 and weight.shape[2:] == (1, 1):
        # A matrix for each sample costs less than scaling the feature maps.
        matrices = weight[:, :, 0, 0] * styles[:, None]  # [n, c_out, c_in]
        if scale is not None:
            matrices = matrices * scale[:, :, None].to(x.dtype)
        pixels = _Pointwise.apply(x.permute(0, 2, 3, 1), matrices)
        y = pixels.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    else:
        y = x * styles[:, :, None, None]
        if up == 1:
            y = F.conv2d(y, weight, padding=padding)
        else:
            y = upsampling_conv(y, weight, up, padding, resample_filter)
        if scale is not None:
            y = y * scale[:, :, None, None].to(x.dtype)
    return y if noise is None else y.add_(noise)


class _Pointwise(torch.autograd.Function):
    """A matrix times each pixel, `[n, h, w, c_in]` and `[n, c_out, c_in]` to `[n, h * w, c_out]`.

    PyTorch computes the gradient of the matrix as one product that sums over all pixels. For three
    colors of 1024 px this takes 0.36 s on two cores; a product for each row of pixels takes 0.04 s.
    The function is differentiable any number of times.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrices: Tensor) -> Tensor:
        ctx.save_for_backward(x, matrices)
        return x.flatten(1, 2) @ matrices.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, matrices = ctx.saved_tensors
        dy = dy.unflatten(1, x.shape[1:3])  # under autocast, its type may differ from that of x
        dx = gradient = None
        if ctx.needs_input_grad[0]:
            dx = (dy @ matrices[:, None].to(dy.dtype)).to(x.dtype)
        if ctx.needs_input_grad[1]:
            rows = dy.transpose(2, 3) @ x.to(dy.dtype)  # [n, h, c_out, c_in]
            gradient = rows.sum(1).to(matrices.dtype)
        return dx, gradient


def kernel_energy(weight: Float[Tensor, "c_out c_in k k"]) -> Float[Tensor, "c_out c_in"]:
    """Squared length of each kernel, which is all that demodulation needs of the weights."""
    return weight.square().sum((2, 3))


def demodulation(
    styles: Float[Tensor, "n c_in"], energy: Float[Tensor, "c_out c_in"]
) -> Float[Tensor, "n c_out"]:
    """Scale of each output channel that gives its modulated kernels length 1 (equation 3)."""
    return (styles.square() @ energy.T + DEMODULATION_EPS).rsqrt()


# In half precision, sums would overflow. Demodulation cancels these scales of weights and styles.


def bounded_weight(weight: Float[Tensor, "c_out c_in k k"]) -> Float[Tensor, "c_out c_in k k"]:
    """The kernels of each output channel, scaled so that sums over bounded inputs stay small."""
    return weight / (weight.abs().amax((1, 2, 3), keepdim=True) * weight[0].numel() ** 0.5)


def bounded_styles(styles: Float[Tensor, "n c_in"]) -> Float[Tensor, "n c_in"]:
    """Styles, scaled for each sample to at most 1."""
    return styles / styles.abs().amax(1, keepdim=True)


def upsampling_conv(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in k k"],
    up: int,
    padding: int,
    resample_filter: Float[Tensor, "*_"] | None,
) -> Float[Tensor, "n c_out h2 w2"]:
    """Transposed convolution, then the resample filter; `up` times the size."""
    kernel = weight.shape[2]
    x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=up)
    # The padding with which the filter keeps the image centered, minus what the kernel has added.
    margins = []
    for axis in (-1, 0):  # x, y
        taps = 1 if resample_filter is None else resample_filter.shape[axis]
        margins.append(padding + (taps + up - 1) // 2 - (kernel - 1))
        margins.append(padding + (taps - up) // 2 - (kernel - up))
    return upfirdn2d(x, resample_filter, padding=margins, gain=float(up * up))
