"""A complete 3x3 layer of the synthesis network on an NVIDIA GPU, for frozen weights.

    y = clamp(lrelu(conv(x * styles) * scale + noise + bias))

**This has never run on a GPU**: the tests run its kernels on a CPU, thread by thread. So it is off
by default; `STYLEGAN_HUB_KERNELS=all` switches it on.

The convolution is cuDNN's, with one set of weights for all samples. Everything after it is one
kernel of `styled_conv.cu`, including the filter of a layer that doubles its size, which saves
memory traffic. Modulation remains a separate pass, because the colors need the features before it.
For a single picture, the weights are modulated instead if they are fewer than the features and no
gradient of styles is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_double, c_int64, c_void_p
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from stylegan_hub.ops import cuda, kernels
from stylegan_hub.ops.frozen import is_trained
from stylegan_hub.ops.modulated_conv2d import upsampling_conv
from stylegan_hub.ops.styled_conv import noise_step
from stylegan_hub.ops.upfirdn2d import upfirdn2d

SOURCE = "styled_conv.cu"
_FUSED = (4, 4)  # shape of the filters that the kernel can apply
_FILTER_GAIN = 4.0  # inserted zeros dilute the features


def serves(
    x: Float[Tensor, "n c_in h w"],
    weight: Float[Tensor, "c_out c_in k k"],
    others: Sequence[Tensor | None],
    *,
    up: int,
    resample_filter: Float[Tensor, "*_"] | None,
) -> bool:
    """Whether `styled_conv` is switched on and can compute a layer; builds the kernel if so.

    Args:
        x: features, in half, bfloat16, float or double.
        weight: frozen, 3x3.
        others: noise and bias, frozen as well.
        up: 1, or 2 with any filter.
    """
    if up == 2 and resample_filter is None:
        return False
    if not kernels.are_unproven_wanted() or weight.shape[2:] != (3, 3) or up not in (1, 2):
        return False
    if is_trained(weight, *others) or torch.is_autocast_enabled(x.device.type):
        return False
    return cuda.library(SOURCE, x) is not None


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
    """`clamp(lrelu(conv(x * styles) * scale + noise + bias))`, in the memory layout of x.

    It is differentiable once, in x, styles and scale.

    Args:
        x: features, of a layer for which `serves` is true.
        styles: scale of each input channel.
        scale: of each output channel (demodulation).
        noise: `[h2, w2]` or `[n, 1, h2, w2]`.
        up: 2 doubles the size: transposed convolution, then the filter.
        resample_filter: from `setup_filter`, needed if up is 2.
        slope: of lrelu, for negative numbers; not 0.
        clamp: limit of the absolute value. None: no limit.

    Raises:
        RuntimeError: the launch failed.
    """
    library = cuda.library(SOURCE, x)
    assert library is not None  # `serves` has checked this
    z = _convolved(library, x, weight, styles, up, resample_filter)
    own = resample_filter if _is_fused(up, resample_filter) else None
    limit = -1.0 if clamp is None else float(clamp)
    y: Tensor = _Finished.apply(z, scale, noise, bias, own, library, slope, limit)
    return y


class _Layer(Structure):
    """The same fields as in styled_conv.cu."""

    _fields_ = [
        (name, c_int64) for name in ("samples", "channels", "height", "width", "last", "noise_step")
    ]


_AFTER = [c_void_p] * 3 + [c_double] * 2 + [POINTER(_Layer)]
_FINISH = [c_void_p, *_AFTER, c_void_p]
_FILTER = [c_void_p, c_void_p, c_double, *_AFTER, c_void_p]
_BACKWARD = [c_void_p, c_void_p, *_AFTER, c_void_p, c_void_p]


class _After(NamedTuple):
    """The kernels' arguments besides features: in float, or in double for features in double."""

    library: CDLL
    scale: Tensor  # [n, channels]
    noise: Tensor | None
    bias: Tensor | None  # [channels]
    slope: float
    limit: float  # below 0: none

    def write(self, z: Tensor, y: Tensor, f: Tensor | None) -> None:
        """Write `clamp(lrelu(f(z) * scale + ...))` into y, which may be z without a filter."""
        given = (*self._pointers(y), y.data_ptr())
        if f is None:
            cuda.launch(self.library, "styled_conv_finish", _FINISH, z, z.data_ptr(), *given)
        else:
            taps = f.to(cuda.compute_type(z)).contiguous()
            filtering = (z.data_ptr(), taps.data_ptr(), _FILTER_GAIN)
            cuda.launch(self.library, "styled_conv_filter", _FILTER, z, *filtering, *given)

    def gradients(self, y: Tensor, dy: Tensor) -> tuple[Tensor, Tensor]:
        """From y and its gradient: the gradient of f(z), and scale times that of scale."""
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
        layer = _Layer(*y.shape, is_last, noise_step(self.noise))
        return [*pointers, self.slope, self.limit, byref(layer)]


def _is_fused(up: int, f: Tensor | None) -> bool:
    """Whether the kernel also applies the filter."""
    return up == 2 and f is not None and f.shape == _FUSED


def _convolved(
    library: CDLL, x: Tensor, weight: Tensor, styles: Tensor, up: int, f: Tensor | None
) -> Tensor:
    """The input of `_Finished`, unfiltered if `_Finished` applies the filter itself."""
    differentiated = torch.is_grad_enabled() and styles.requires_grad
    weight = weight.to(x.dtype)
    if len(x) == 1 and weight.numel() < x.numel() and not differentiated:
        weight = weight * styles[0].to(x.dtype)[:, None, None]
    else:
        x = x.contiguous(memory_format=cuda.memory_format(x))
        x = _Modulated.apply(x, styles, library)
    if up == 1:
        z = F.conv2d(x, weight, padding=1)
    elif _is_fused(up, f):
        z = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    else:
        z = upsampling_conv(x, weight, up, 1, f)
    return z.contiguous(memory_format=cuda.memory_format(z))


class _Modulated(torch.autograd.Function):
    """`x * styles`, computed by the kernel for the end of a layer, with only its scale."""

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
        # x is passed instead of the result, so that the sums are those of dy * x, without styles.
        return *_After(ctx.library, styles, None, None, 1.0, -1.0).gradients(x, dy), None


class _Finished(torch.autograd.Function):
    """`clamp(lrelu(f(z) * scale + noise + bias))`; without a filter, in place.

    The gradients are computed from y, which the next layer keeps anyway, instead of z.
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
