"""A complete modulated convolution layer, computed by whatever is fastest."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.ops import styled_conv, styled_conv_cuda
from stylegan_hub.ops.bias_act import ACTIVATIONS, ActivationName, bias_act
from stylegan_hub.ops.frozen import once
from stylegan_hub.ops.modulated_conv2d import (
    bounded_styles,
    bounded_weight,
    demodulation,
    kernel_energy,
    modulated_conv2d,
)


def styled_layer(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in k k"],
    styles: Float[Tensor, "n c_in"],
    bias: Float[Tensor, " c_out"],
    *,
    noise: Float[Tensor, "*_"] | None = None,
    noise_strength: Float[Tensor, ""] | float = 1.0,
    up: int = 1,
    resample_filter: Float[Tensor, "*_"] | None = None,
    act: ActivationName = "lrelu",
    gain: float = 1.0,
    clamp: float | None = None,
) -> Float[Tensor, "n c_out h2 w2"]:
    """`clamp(act(conv(x * styles) * demodulation + noise * noise_strength + bias) * gain)`.

    This is a layer of StyleGAN2's synthesis network (sections 2.2 and 3, figure 2d). A frozen layer
    is computed by one of this library's kernels if there is one for the hardware (`styled_conv`),
    any other layer by PyTorch's operations. Results differ only in rounding.

    Args:
        x: Features; their type is the precision of the computation.
        weight: See `modulated_conv2d`.
        styles: Scale of each input channel.
        bias: One number for each output channel.
        noise: `[h2, w2]`, the same for all samples, or `[n, 1, h2, w2]`.
        noise_strength: Factor on the noise.
        up: 2 doubles the size, with a transposed convolution and then the resample filter.
        resample_filter: From `setup_filter`, used if up is 2.
        act: Name of the activation.
        gain: Factor after the activation, besides the activation's own gain.
        clamp: Limit of the absolute value of the result. None: no limit.

    Raises:
        ValueError: sizes that do not fit, or an unknown activation.
    """
    gain = ACTIVATIONS[act].gain * gain
    # lrelu(a * x) = a * lrelu(x) for a > 0, so its gain is applied to the small tensors
    # (demodulation, noise, bias) instead of the features.
    before, after = (gain, 1.0) if act == "lrelu" else (1.0, gain)
    noise = None if noise is None else noise * (noise_strength * before)
    bias = bias * before
    for kernel in (styled_conv, styled_conv_cuda) if act == "lrelu" else ():
        if kernel.serves(x, weight, (noise, bias), up=up, resample_filter=resample_filter):
            if x.dtype == torch.float16:  # sums would overflow
                weight, styles = once(bounded_weight, weight), bounded_styles(styles)
            scale = demodulation(styles, once(kernel_energy, weight)) * before
            return kernel.styled_conv(
                *(x, weight, styles, scale, noise, bias),
                up=up,
                resample_filter=resample_filter,
                clamp=clamp,
            )
    x = modulated_conv2d(
        x,
        weight,
        styles,
        noise=None if noise is None else noise.to(x.dtype),
        up=up,
        padding=weight.shape[2] // 2,
        resample_filter=resample_filter,
        gain=before,
    )
    bias = bias.to(x.dtype)
    if act != "lrelu" or x.is_cuda:  # on a GPU, bias_act is one kernel
        return bias_act(x, bias, act=act, gain=after, clamp=clamp)
    x = F.leaky_relu_(x.add_(bias[:, None, None]), 0.2)  # in place, since x was created above
    return x if clamp is None else x.clamp(-clamp, clamp)
