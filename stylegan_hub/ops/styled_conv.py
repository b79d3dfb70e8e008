"""A whole 3x3 layer of the synthesis network in one kernel, for frozen weights on a CPU.

`styled_conv.cpp` does what `modulated_conv2d` and `bias_act` do one after the other, with a quarter
of the multiply-adds (Winograd's minimal filtering) and with features that are written once. Results
differ in rounding only: about 2e-6 of the largest value, where the plain path has 5e-7.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, c_float, c_int, c_int64, c_void_p
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from stylegan_hub.ops import kernels
from stylegan_hub.ops.upfirdn2d import setup_filter

SOURCE = "styled_conv.cpp"
_LEAST_WORK = 10**8  # multiply-adds; for less, transforming the weights costs more than it saves
_TAPS = (1, 3, 3, 1)  # of the only filter that the kernel knows
_LAST = torch.channels_last

_INPUTS = [c_void_p] * 5 + [c_int64, c_void_p, c_float, c_float] + [c_int64] * 5 + [c_int]


def serves(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in k k"],
    others: Sequence[Tensor | None],
    *,
    up: int,
    resample_filter: Float[Tensor, "*_"],
) -> bool:
    """Whether `styled_conv` can compute a layer, and is worth it; builds the kernel if so.

    Args:
        x: features, in float32 on the CPU.
        weight: frozen, 3x3, in float32.
        others: noise and bias, frozen as well.
        up: 1, or 2 with the filter [1, 3, 3, 1].
    """
    tensors = [weight, *(other for other in others if other is not None)]
    plain = (
        x.is_cpu
        and all(tensor.dtype == torch.float32 for tensor in (x, *tensors))
        and weight.shape[2:] == (3, 3)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
    )
    work = weight.numel() * x.shape[0] * x.shape[2] * x.shape[3]
    if not plain or work < _LEAST_WORK:
        return False
    if up == 2 and not torch.equal(resample_filter, setup_filter(_TAPS)):
        return False
    return up in (1, 2) and _library() is not None


def styled_conv(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in 3 3"],
    styles: Float[Tensor, "n c_in"],
    scale: Float[Tensor, "n c_out"],
    noise: Float[Tensor, "*_"] | None,
    bias: Float[Tensor, " c_out"],
    *,
    up: int = 1,
    slope: float = 0.2,
    clamp: float | None = None,
) -> Float[Tensor, "n c_out h2 w2"]:
    """`clamp(lrelu(conv(x * styles) * scale + noise + bias))`, channels last.

    Differentiable, once, in x, styles and scale.

    Args:
        x: features; a layer that `serves` says yes to.
        styles: scale of each input channel.
        scale: of each output channel (demodulation).
        noise: `[h2, w2]` or `[n, 1, h2, w2]`.
        up: 2 doubles the size: transposed convolution, then the filter [1, 3, 3, 1].
        slope: of lrelu, for negative numbers.
        clamp: limit of the absolute value. None: no limit.

    Raises:
        MemoryError: there is not enough for the transformed weights.
    """
    limit = -1.0 if clamp is None else float(clamp)
    y: Tensor = _StyledConv.apply(x, styles, scale, weight, noise, bias, up, slope, limit)
    return y


class _StyledConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        styles: Tensor,
        scale: Tensor,
        weight: Tensor,
        noise: Tensor | None,
        bias: Tensor,
        up: int,
        slope: float,
        limit: float,
    ) -> Tensor:
        x = x.contiguous(memory_format=_LAST)
        styles, scale, weight, bias = (t.contiguous() for t in (styles, scale, weight, bias))
        noise = None if noise is None else noise.contiguous()
        n, c_in, h, w = x.shape
        c_out = len(weight)
        y = torch.empty(n, c_out, h * up, w * up, memory_format=_LAST)
        step = noise[0].numel() if noise is not None and noise.ndim == 4 and len(noise) > 1 else 0
        sizes = (n, h * up, w * up, c_in, c_out, int(up == 2))
        ctx.numbers = (step, slope, limit, sizes)
        ctx.save_for_backward(x, styles, scale, weight, noise, bias, y)
        _call("styled_conv", _arguments(x, weight, styles, scale, noise, bias, ctx.numbers), [y])
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, y_gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, styles, scale, weight, noise, bias, y = ctx.saved_tensors
        y_gradient = y_gradient.contiguous(memory_format=_LAST)
        n, c_out, h, _ = y.shape
        x_gradient = torch.zeros_like(x)
        style_gradients = x.new_zeros(n, (h + 3) // 4, x.shape[1])
        scale_gradients = x.new_empty(n, h, c_out)
        given = _arguments(x, weight, styles, scale, noise, bias, ctx.numbers)
        room = torch.empty_like(y)
        _call(
            "styled_conv_backward",
            given,
            [y, y_gradient, room, x_gradient, style_gradients, scale_gradients],
        )
        none = (None,) * 6
        return x_gradient, style_gradients.sum(1), scale_gradients.sum(1) / scale, *none


def _arguments(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    scale: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    numbers: tuple[int, float, float, tuple[int, ...]],
) -> list[Any]:
    step, slope, limit, sizes = numbers
    pointers = [tensor.data_ptr() for tensor in (x, weight, styles, scale)]
    own_noise = None if noise is None else noise.data_ptr()
    return [*pointers, own_noise, step, bias.data_ptr(), slope, limit, *sizes]


def _call(name: str, given: list[Any], tensors: Sequence[Tensor]) -> None:
    library = _library()
    assert library is not None
    if getattr(library, name)(*given, *(tensor.data_ptr() for tensor in tensors)):
        raise MemoryError("Not enough memory for the transformed weights of a layer.")


def _library() -> CDLL | None:
    library = kernels.load(SOURCE)
    if library is not None and library.styled_conv.argtypes is None:
        library.styled_conv_backward.argtypes = _INPUTS + [c_void_p] * 6
        library.styled_conv.argtypes = [*_INPUTS, c_void_p]
    return library
