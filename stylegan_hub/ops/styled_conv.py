"""A whole 3x3 layer of the synthesis network, for frozen weights.

    y = clamp(lrelu(conv(x * styles) * scale + noise + bias))

On a CPU it is one kernel. `styled_conv.cpp` does what `modulated_conv2d` and `bias_act` do one
after the other, with fewer multiply-adds (Winograd's minimal filtering: a quarter of them, 56 %
where the size doubles) and with features that are written once. Results differ in rounding only:
at most 4e-6 of the largest value, where the plain path has up to 2e-6.

On an NVIDIA card the convolution is cuDNN's, with one set of weights for all samples. What comes
after it is one kernel of `styled_conv.cu`, the filter of a layer that doubles its size included.
That saves memory traffic. At 1024 px (config-f) the layers that keep their size return 65.7 million
features for a picture, and those that double it as many; one pass over those of one kind moves
131 MB in half precision and 263 MB in float. Passes for a picture, reading and writing counted:

                                                PyTorch's operations   here
    convolutions and modulation                          6.5            6.5
    same size: scale, noise, bias, lrelu; clamp         8 + 2            2
    doubled: filter; scale, noise, bias, lrelu; clamp 2 + 8 + 2          2

These are 18 passes less: 2.4 GB in half precision, 4.7 GB in float, which take 0.6 and 1.1 ms where
a copy moves 4.3 TB/s (H200). Modulation, 3 of the 6.5, is left a pass of its own, because the
features before it are needed for the colors too; its gradients are one pass of three instead of
six. One picture alone has the weights modulated instead, where they are fewer than the features
and no gradient of styles is wanted.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_double, c_float, c_int, c_int64, c_void_p
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stylegan_hub.ops import cuda, kernels
from stylegan_hub.ops.modulated_conv2d import upsampling_conv
from stylegan_hub.ops.upfirdn2d import setup_filter, upfirdn2d

SOURCE = "styled_conv.cpp"
CUDA_SOURCE = "styled_conv.cu"
_FUSED = (4, 4)  # shape of the filters that the CUDA kernel has in it
_FILTER_GAIN = 4.0  # inserted zeros dilute the features
_LEAST_WORK = 3 * 10**6  # multiply-adds; a layer of fewer takes no time either way
_TAPS = (1, 3, 3, 1)  # of the only filter that the CPU's kernel knows
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
        x: features. On the CPU in float32; on a card in half, bfloat16, float or double.
        weight: frozen, 3x3; on the CPU in float32.
        others: noise and bias, frozen as well.
        up: 1, or 2; on the CPU with the filter [1, 3, 3, 1] only.
    """
    tensors = [weight, *(other for other in others if other is not None)]
    trained = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if weight.shape[2:] != (3, 3) or up not in (1, 2) or trained:
        return False
    on_card = cuda.library(CUDA_SOURCE, x) is not None
    if not (on_card or x.is_cpu) or torch.compiler.is_compiling():
        return False
    if torch.is_autocast_enabled(x.device.type):
        return False
    if on_card:
        return True
    work = weight.numel() * x.shape[0] * x.shape[2] * x.shape[3]
    plain = all(tensor.dtype == torch.float32 for tensor in (x, *tensors))
    if not plain or work < _LEAST_WORK:
        return False
    if up == 2 and not torch.equal(resample_filter, setup_filter(_TAPS)):
        return False
    return _library() is not None


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
    """`clamp(lrelu(conv(x * styles) * scale + noise + bias))`.

    Channels last on a CPU, as x on a card. Differentiable, once, in x, styles and scale.

    Args:
        x: features; a layer that `serves` says yes to.
        styles: scale of each input channel.
        scale: of each output channel (demodulation).
        noise: `[h2, w2]` or `[n, 1, h2, w2]`.
        up: 2 doubles the size: transposed convolution, then the filter.
        resample_filter: The one that `serves` was asked about. None: [1, 3, 3, 1].
        slope: of lrelu, for negative numbers; not 0.
        clamp: limit of the absolute value. None: no limit.

    Raises:
        MemoryError: there is not enough for the transformed weights.
        RuntimeError: the card refused the kernel.
    """
    limit = -1.0 if clamp is None else float(clamp)
    if (library := cuda.library(CUDA_SOURCE, x)) is not None:
        f = setup_filter(_TAPS).to(x.device) if resample_filter is None else resample_filter
        z = _convolved(library, x, weight, styles, up, f)
        own = f if up == 2 and f.shape == _FUSED else None
        y: Tensor = _Finished.apply(z, scale, noise, bias, own, library, slope, limit)
        return y
    y = _StyledConv.apply(x, styles, scale, weight, noise, bias, up, slope, limit)
    return y


# On a CPU


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
        step = _noise_step(noise)
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
        library = _library()
        assert library is not None
        rows = library.styled_conv_tile_rows(h, int(h > x.shape[2]))
        x_gradient = torch.empty_like(x)
        style_gradients = x.new_zeros(n, rows, x.shape[1])
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
        library.styled_conv_tile_rows.argtypes = [c_int64, c_int]
        library.styled_conv_tile_rows.restype = c_int64
        library.styled_conv_backward.argtypes = _INPUTS + [c_void_p] * 6
        library.styled_conv.argtypes = [*_INPUTS, c_void_p]
    return library


def _noise_step(noise: Tensor | None) -> int:
    """From a sample's noise to the next one's; 0 if all have the same."""
    return noise[0].numel() if noise is not None and noise.ndim == 4 and len(noise) > 1 else 0


# On an NVIDIA card


class _Layer(Structure):
    """As in styled_conv.cu."""

    _fields_ = [
        (name, c_int64) for name in ("samples", "channels", "height", "width", "last", "noise_step")
    ]


_AFTER = [c_void_p] * 3 + [c_double] * 2 + [POINTER(_Layer)]
_FINISH = [c_void_p, *_AFTER, c_void_p]
_FILTER = [c_void_p, c_void_p, c_double, *_AFTER, c_void_p]
_BACKWARD = [c_void_p, c_void_p, *_AFTER, c_void_p, c_void_p]


class _After(NamedTuple):
    """What the kernels take besides features: float, or double for features in double."""

    library: CDLL
    scale: Tensor  # [n, channels]
    noise: Tensor | None
    bias: Tensor | None  # [channels]
    slope: float
    limit: float  # below 0: none

    def write(self, z: Tensor, y: Tensor, f: Tensor | None) -> None:
        """Into y, which may be z if there is no filter: `clamp(lrelu(f(z) * scale + ...))`."""
        given = (*self._pointers(y), y.data_ptr())
        if f is None:
            cuda.launch(self.library, "styled_conv_finish", _FINISH, z, z.data_ptr(), *given)
        else:
            taps = f.to(cuda.compute_type(z)).contiguous()
            filtering = (z.data_ptr(), taps.data_ptr(), _FILTER_GAIN)
            cuda.launch(self.library, "styled_conv_filter", _FILTER, z, *filtering, *given)

    def gradients(self, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        """From the result y and its gradient: that of f(z), and that of scale, times scale."""
        dy = dy.contiguous(memory_format=cuda.memory_format(y))
        dz = torch.empty_like(y)
        *before, layer = self._pointers(y)
        self.library.styled_conv_groups.restype = c_int64
        groups = self.library.styled_conv_groups(layer)
        n, c = y.shape[:2]
        is_last = cuda.memory_format(y) == torch.channels_last
        sums = self.scale.new_empty((n, groups, c) if is_last else (n, c, groups))
        given = (y.data_ptr(), dy.data_ptr(), *before, layer, dz.data_ptr(), sums.data_ptr())
        cuda.launch(self.library, "styled_conv_backward", _BACKWARD, y, *given)
        return dz, sums.sum(1 if is_last else 2)

    def _pointers(self, y: Tensor) -> list[Any]:
        pointers = [None if t is None else t.data_ptr() for t in self[1:4]]
        is_last = cuda.memory_format(y) == torch.channels_last
        layer = _Layer(*y.shape, is_last, _noise_step(self.noise))
        return [*pointers, self.slope, self.limit, byref(layer)]


def _convolved(
    library: CDLL, x: Tensor, weight: Tensor, styles: Tensor, up: int, f: Tensor
) -> Tensor:
    """What `_Finished` takes: with a filter that it has in it, the filter is left to it."""
    differentiated = torch.is_grad_enabled() and styles.requires_grad
    weight = weight.to(x.dtype)
    if len(x) == 1 and weight.numel() < x.numel() and not differentiated:
        weight = weight * styles[0].to(x.dtype)[:, None, None]
    else:
        x = x.contiguous(memory_format=cuda.memory_format(x))
        x = _Modulated.apply(x, styles, library)
    if up == 1:
        z = F.conv2d(x, weight, padding=1)
    elif f.shape == _FUSED:
        z = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    else:
        z = upsampling_conv(x, weight, up, 1, f)
    return z.contiguous(memory_format=cuda.memory_format(z))


class _Modulated(torch.autograd.Function):
    """`x * styles`: what comes after a convolution, with nothing but the scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, styles: Tensor, library: CDLL) -> Tensor:
        styles = styles.to(cuda.compute_type(x)).contiguous()
        ctx.save_for_backward(x, styles)
        ctx.library = library
        y = torch.empty_like(x)
        _After(library, styles, None, None, 1.0, -1.0).write(x, y, None)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, styles = ctx.saved_tensors
        # x where the result is expected: the sums are those of dy * x, not times styles.
        return *_After(ctx.library, styles, None, None, 1.0, -1.0).gradients(x, dy), None


class _Finished(torch.autograd.Function):
    """`clamp(lrelu(f(z) * scale + noise + bias))`; without a filter, in place.

    The gradients are computed from y, which the next layer keeps anyway, and not from z.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: Tensor,
        scale: Tensor,
        noise: Tensor | None,
        bias: Tensor,
        f: Tensor | None,
        library: CDLL,
        slope: float,
        limit: float,
    ) -> Tensor:
        compute = cuda.compute_type(z)
        scale, bias = scale.to(compute).contiguous(), bias.to(compute).contiguous()
        noise = None if noise is None else noise.to(compute).contiguous()
        n, c, h, w = z.shape
        if f is None:
            y = z
            ctx.mark_dirty(z)
        else:
            y = cuda.empty(z, n, c, h - 1, w - 1)
        ctx.save_for_backward(y, scale, noise, bias, f)
        ctx.given = (library, slope, limit)
        _After(library, scale, noise, bias, slope, limit).write(z, y, f)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        y, scale, noise, bias, f = ctx.saved_tensors
        library, slope, limit = ctx.given
        dz, sums = _After(library, scale, noise, bias, slope, limit).gradients(y, dy)
        if f is not None:  # the adjoint of the filter
            dz = upfirdn2d(dz, f, padding=2, flip_filter=True, gain=_FILTER_GAIN)
        return dz, sums / scale, *(None,) * 6
