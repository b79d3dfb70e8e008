"""A complete 3x3 layer of the synthesis network on a CPU, for frozen weights, as one kernel.

    y = clamp(lrelu(conv(x * styles) * scale + noise + bias))

`styled_conv.cpp` computes the same as `modulated_conv2d` followed by `bias_act`, with fewer
multiply-adds (Winograd's minimal filtering: a quarter of them, or 56 % if the size doubles), and
writes features only once. Results differ only in rounding: the error is at most 4e-6 of the largest
value; that of PyTorch's operations is up to 2e-6.

For PyTorch it is an operation, `torch.ops.stylegan_hub.styled_conv`, with a gradient and with
shapes that are known without computing. So torch.compile and torch.export can put it into their
graphs. A machine that runs a program exported with it needs this module imported, and the kernel.
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
from stylegan_hub.ops.caches import cache_bytes
from stylegan_hub.ops.frozen import is_trained
from stylegan_hub.ops.upfirdn2d import setup_filter

SOURCE = "styled_conv.cpp"
_LEAST_WORK = 3 * 10**6  # multiply-adds; a smaller layer takes hardly any time either way
_FILTER = setup_filter(torch.tensor((1.0, 3.0, 3.0, 1.0), device="cpu"))  # the only supported one
_LAST = torch.channels_last

_LAYER = [c_void_p] * 5 + [c_int64, c_void_p, c_float, c_float] + [c_int64] * 5 + [c_int]


def serves(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in k k"],
    others: Sequence[Tensor | None],
    *,
    up: int,
    resample_filter: Float[Tensor, "*_"] | None,
) -> bool:
    """Whether `styled_conv` can compute a layer and saves time; builds the kernel if so.

    Under torch.compile or torch.export, values are not known: then the batch counts as one picture,
    and any filter of 4x4 taps as [1, 3, 3, 1]. The operation raises an error for another filter.

    Args:
        x: features in float32.
        weight: frozen, 3x3, in float32.
        others: noise and bias, frozen as well.
        up: 1, or 2 with the filter [1, 3, 3, 1].
    """
    if not x.is_cpu or weight.shape[2:] != (3, 3) or up not in (1, 2):
        return False
    if is_trained(weight, *others) or torch.is_autocast_enabled("cpu"):
        return False
    if any(t is not None and t.dtype != torch.float32 for t in (x, weight, *others)):
        return False
    traced = torch.compiler.is_compiling()
    if weight.numel() * (1 if traced else x.shape[0]) * x.shape[2] * x.shape[3] < _LEAST_WORK:
        return False
    if up == 2:
        f = resample_filter
        if f is None or f.shape != _FILTER.shape or not (traced or torch.equal(f, _FILTER)):
            return False
    return _is_built()


def styled_conv(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in 3 3"],
    styles: Float[Tensor, "n c_in"],
    scale: Float[Tensor, "n c_out"],
    noise: Float[Tensor, "*_"] | None,
    bias: Float[Tensor, " c_out"],
    *,
    up: int = 1,
    resample_filter: Float[Tensor, "*_"] | None = None,
    slope: float = 0.2,
    clamp: float | None = None,
) -> Float[Tensor, "n c_out h2 w2"]:
    """`clamp(lrelu(conv(x * styles) * scale + noise + bias))`, channels last.

    It is differentiable once, in x, styles and scale.

    Args:
        x: features, of a layer for which `serves` is true.
        styles: scale of each input channel.
        scale: of each output channel (demodulation).
        noise: `[h2, w2]` or `[n, 1, h2, w2]`.
        up: 2 doubles the size: transposed convolution, then the filter.
        resample_filter: used if up is 2. None: [1, 3, 3, 1].
        slope: of lrelu, for negative numbers; not 0.
        clamp: limit of the absolute value. None: no limit.

    Raises:
        ValueError: another filter than [1, 3, 3, 1].
        MemoryError: there is not enough memory for the transformed weights.
        RuntimeError: the kernel is not available.
    """
    f = resample_filter if up == 2 else None
    limit = -1.0 if clamp is None else float(clamp)
    call = _operation if torch.compiler.is_compiling() else _StyledConv.apply
    y: Tensor = call(x, styles, scale, weight, noise, bias, f, up, slope, limit)
    return y


def _compute(
    x: Tensor,
    styles: Tensor,
    scale: Tensor,
    weight: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    resample_filter: Tensor | None,
    up: int,
    slope: float,
    limit: float,  # below 0: none
) -> Tensor:
    if resample_filter is not None and not torch.equal(resample_filter, _FILTER):
        raise ValueError(
            f"Got the filter {resample_filter.tolist()}; the kernel {SOURCE} supports only "
            f"[1, 3, 3, 1]. Compile or export with {kernels.SWITCH}=off."
        )
    n, _, h, w = x.shape
    y = torch.empty(n, len(weight), h * up, w * up, device=x.device, memory_format=_LAST)
    _call("styled_conv", x, styles, scale, weight, noise, bias, up, slope, limit, y)
    return y


def _gradients(
    x: Tensor,
    styles: Tensor,
    scale: Tensor,
    weight: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    y: Tensor,
    y_gradient: Tensor,
    up: int,
    slope: float,
    limit: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, styles and scale."""
    n, c_out, h, _ = y.shape
    rows = _library().styled_conv_tile_rows(h, int(up == 2))
    x_gradient = torch.empty_like(x, memory_format=_LAST)
    style_gradients = x.new_zeros(n, rows, x.shape[1])
    scale_gradients = x.new_empty(n, h, c_out)
    _call(
        "styled_conv_backward",
        *(x, styles, scale, weight, noise, bias, up, slope, limit),
        *(t.contiguous(memory_format=_LAST) for t in (y, y_gradient)),
        *(torch.empty_like(y), x_gradient, style_gradients, scale_gradients),
    )
    return x_gradient, style_gradients.sum(1), scale_gradients.sum(1) / scale


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6], output)
    ctx.numbers = inputs[7:]


class _StyledConv(torch.autograd.Function):
    """The operation without PyTorch's dispatcher, which takes 0.14 ms for each layer."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        y = _compute(*inputs)
        _save(ctx, inputs, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        inputs: Any = (*ctx.saved_tensors, gradient, *ctx.numbers)
        return *_gradients(*inputs), *(None,) * 7


_operation = torch.library.custom_op(
    "stylegan_hub::styled_conv", _compute, mutates_args=(), device_types="cpu"
)
_gradients_operation = torch.library.custom_op(
    "stylegan_hub::styled_conv_backward", _gradients, mutates_args=(), device_types="cpu"
)


def _differentiate(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return *_gradients_operation(*ctx.saved_tensors, gradient, *ctx.numbers), *(None,) * 7


_operation.register_autograd(_differentiate, setup_context=_save)


@_operation.register_fake
def _(x: Tensor, styles: Tensor, scale: Tensor, weight: Tensor, *others: Any) -> Tensor:
    up = others[3]
    n, _, h, w = x.shape
    shape = (n, weight.shape[0], h * up, w * up)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=_LAST)


@_gradients_operation.register_fake
def _(x: Tensor, styles: Tensor, scale: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    plain = torch.contiguous_format
    return (
        torch.empty_like(x, memory_format=_LAST),
        torch.empty_like(styles, memory_format=plain),
        torch.empty_like(scale, memory_format=plain),
    )


def _call(
    name: str,
    x: Tensor,
    styles: Tensor,
    scale: Tensor,
    weight: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    up: int,
    slope: float,
    limit: float,
    *written: Tensor,
) -> None:
    """Call a function of the library; `written` are y and the other tensors that it writes to."""
    x = x.contiguous(memory_format=_LAST)
    styles, scale, weight, bias = (t.contiguous() for t in (styles, scale, weight, bias))
    noise = None if noise is None else noise.contiguous()
    pointers = [t.data_ptr() for t in (x, weight, styles, scale)]
    own_noise = None if noise is None else noise.data_ptr()
    n, c_out, h, w = written[0].shape
    given = [*pointers, own_noise, noise_step(noise), bias.data_ptr(), slope, limit]
    sizes = [n, h, w, x.shape[1], c_out, int(up == 2)]
    if getattr(_library(), name)(*given, *sizes, *(t.data_ptr() for t in written)):
        raise MemoryError(
            "There is not enough memory for the transformed weights of a layer. Close other "
            f"programs, or set {kernels.SWITCH}=off."
        )


def noise_step(noise: Tensor | None) -> int:
    """The step from one sample's noise to the next in numbers; 0 if all samples share one noise."""
    return noise[0].numel() if noise is not None and noise.ndim == 4 and len(noise) > 1 else 0


@torch.compiler.assume_constant_result
def _is_built() -> bool:
    return kernels.load(SOURCE) is not None


def _library() -> CDLL:
    library = kernels.load(SOURCE)
    if library is None:
        raise RuntimeError(
            f"A program that was compiled or exported with the kernel {SOURCE} needs it: "
            f"{kernels.status(SOURCE).problem}. Compile or export with {kernels.SWITCH}=off."
        )
    if library.styled_conv.argtypes is None:
        library.styled_conv_tile_rows.argtypes = [c_int64, c_int]
        library.styled_conv_tile_rows.restype = c_int64
        library.styled_conv_backward.argtypes = _LAYER + [c_void_p] * 6
        library.styled_conv_caches.argtypes = [c_int64, c_int64]
        library.styled_conv_caches(cache_bytes(2), cache_bytes(3))
        library.styled_conv.argtypes = [*_LAYER, c_void_p]
    return library
