"""Upsample, filter (FIR) and downsample images: the anti-aliased resampling of StyleGAN2.

Sizes and paddings follow NVIDIA's conventions: filters are convolved (not correlated) unless
`flip_filter` is set, and paddings count samples of the zero-inserted image.

On an NVIDIA GPU every pass is one kernel, `upfirdn2d.cu`, whose derivative is the same kernel with
up and down swapped. On other devices, or if the kernel cannot be built, it is PyTorch's
convolution. The kernel does not round the filter to the type of half-precision images.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import CDLL, POINTER, Structure, byref, c_int64, c_void_p
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.ops import cuda

SOURCE = "upfirdn2d.cu"
SEPARABLE_TAPS = 8  # at this length or more, two 1-D passes are faster than one 2-D pass


def setup_filter(
    taps: Sequence[float] | Sequence[Sequence[float]] | Tensor | float | None,
    *,
    normalize: bool = True,
    flip_filter: bool = False,
    gain: float = 1.0,
    separable: bool | None = None,
) -> Float[Tensor, "*_"]:
    """A float32 filter for `upfirdn2d`, 1-D (applied along x, then y) or 2-D.

    Args:
        taps: A number, a row of taps or a 2-D filter; None is the identity.
        normalize: Divide by the sum, so that a constant image keeps its value.
        flip_filter: Reverse the filter in each dimension.
        gain: Factor on the filtered image.
        separable: Keep a row of taps 1-D. None: if it has 8 or more taps.

    Raises:
        ValueError: taps that are empty or not 0-, 1- or 2-dimensional, or a 2-D filter with
            separable=True.
    """
    f = torch.as_tensor(1.0 if taps is None else taps, dtype=torch.float32)
    if f.ndim > 2 or f.numel() == 0:
        raise ValueError(
            f"Got filter taps of shape {tuple(f.shape)}; give a number, or a row of taps or a 2-D "
            "filter that is not empty."
        )
    f = f.reshape(1) if f.ndim == 0 else f
    if separable is None:
        separable = f.ndim == 1 and len(f) >= SEPARABLE_TAPS
    if separable and f.ndim == 2:
        raise ValueError("Got a 2-D filter with separable=True; give its row of taps.")
    if f.ndim == 1 and not separable:
        f = torch.outer(f, f)
    if normalize:
        f = f / f.sum()
    if flip_filter:
        f = f.flip(list(range(f.ndim)))
    return f * gain ** (f.ndim / 2)


def upfirdn2d(
    x: Float[Tensor, "n c h w"],
    f: Float[Tensor, "*_"] | None,
    *,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Float[Tensor, "n c h2 w2"]:
    """Insert zeros, pad or crop, filter, then keep every `down`-th sample.

    The result has `(size * up + padding_before + padding_after - taps + down) // down` samples.

    Args:
        x: Images of any float type.
        f: Filter from `setup_filter`; 1-D is applied along both axes, None is the identity.
        up: Zeros are inserted so that the image grows by this factor; a number or (x, y).
        down: One of this number of samples is kept; a number or (x, y).
        padding: A number, (x, y) or (left, right, top, bottom); negative numbers crop.
        flip_filter: Correlate instead of convolve.
        gain: Factor on the result.

    Raises:
        ValueError: up, down or padding of another form, a filter that is not 1-D or 2-D, or one
            that is longer than the padded image.
    """
    up_x, up_y = _pair(up, "up")
    down_x, down_y = _pair(down, "down")
    left, right, top, bottom = _four(padding)
    f = x.new_ones(1, 1) if f is None else f
    if f.ndim not in (1, 2):
        raise ValueError(f"Got a filter of shape {tuple(f.shape)}; expected 1 or 2 dimensions.")
    taps_y, taps_x = (f.shape[0], f.shape[-1])
    width = x.shape[3] * up_x + left + right
    height = x.shape[2] * up_y + top + bottom
    if width < taps_x or height < taps_y:
        raise ValueError(
            f"Got a padded image of {height} x {width} samples for a filter of {taps_y} x "
            f"{taps_x} taps; the filter must fit into the image. Give more padding."
        )
    frozen = not (f.requires_grad and torch.is_grad_enabled()) and f.device == x.device
    f = f if gain == 1 else f * gain ** (f.ndim / 2)
    if frozen and (library := cuda.library(SOURCE, x)) is not None:
        sizes = _Sizes((up_x, up_y), (down_x, down_y), (left, right, top, bottom))
        if f.ndim == 2:
            return _resampled(x, f, library, sizes, flip_filter)
        x = _resampled(x, f[None, :], library, sizes.along(0), flip_filter)
        return _resampled(x, f[:, None], library, sizes.along(1), flip_filter)
    f = f.to(x.dtype)  # rounded after the gain, as in NVIDIA's code
    if not flip_filter:
        f = f.flip(list(range(f.ndim)))  # conv2d correlates
    if f.ndim == 1:
        x = _resample(x, f[None, :], (1, up_x), (1, down_x), (left, right, 0, 0))
        return _resample(x, f[:, None], (up_y, 1), (down_y, 1), (0, 0, top, bottom))
    return _resample(x, f, (up_y, up_x), (down_y, down_x), (left, right, top, bottom))


def filter2d(
    x: Float[Tensor, "n c h w"],
    f: Float[Tensor, "*_"] | None,
    *,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Float[Tensor, "n c h2 w2"]:
    """Filter an image and keep its size; `padding` is added to the padding that this needs."""
    size_y, size_x = _taps(f)
    left, right, top, bottom = _four(padding)
    padding = (
        left + size_x // 2,
        right + (size_x - 1) // 2,
        top + size_y // 2,
        bottom + (size_y - 1) // 2,
    )
    return upfirdn2d(x, f, padding=padding, flip_filter=flip_filter, gain=gain)


def upsample2d(
    x: Float[Tensor, "n c h w"],
    f: Float[Tensor, "*_"] | None,
    *,
    up: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Float[Tensor, "n c h2 w2"]:
    """Enlarge an image `up` times at the same brightness.

    `padding` is added to the padding that this needs.
    """
    up_x, up_y = _pair(up, "up")
    size_y, size_x = _taps(f)
    left, right, top, bottom = _four(padding)
    padding = (
        left + (size_x + up_x - 1) // 2,
        right + (size_x - up_x) // 2,
        top + (size_y + up_y - 1) // 2,
        bottom + (size_y - up_y) // 2,
    )
    gain = gain * up_x * up_y  # inserted zeros dilute the image
    return upfirdn2d(x, f, up=(up_x, up_y), padding=padding, flip_filter=flip_filter, gain=gain)


def downsample2d(
    x: Float[Tensor, "n c h w"],
    f: Float[Tensor, "*_"] | None,
    *,
    down: int | Sequence[int] = 2,
    padding: int | Sequence[int] = 0,
    flip_filter: bool = False,
    gain: float = 1.0,
) -> Float[Tensor, "n c h2 w2"]:
    """Shrink an image `down` times; `padding` is added to the padding that this needs."""
    down_x, down_y = _pair(down, "down")
    size_y, size_x = _taps(f)
    left, right, top, bottom = _four(padding)
    padding = (
        left + (size_x - down_x + 1) // 2,
        right + (size_x - down_x) // 2,
        top + (size_y - down_y + 1) // 2,
        bottom + (size_y - down_y) // 2,
    )
    return upfirdn2d(
        x, f, down=(down_x, down_y), padding=padding, flip_filter=flip_filter, gain=gain
    )


def _resample(
    x: Tensor,
    f: Tensor,  # [kh, kw], to be correlated
    up: tuple[int, int],  # y, x
    down: tuple[int, int],  # y, x
    padding: tuple[int, int, int, int],  # left, right, top, bottom
) -> Tensor:
    channels = x.shape[1]
    left, right, top, bottom = padding
    if up == (1, 1):
        # Symmetric padding is free inside the convolution; any other padding costs a copy.
        inside = (top, left) if left == right >= 0 and top == bottom >= 0 else (0, 0)
        if inside == (0, 0) and any(padding):
            x = F.pad(x, padding)
        weight = f.repeat(channels, 1, 1, 1)  # [c, 1, kh, kw]
        return F.conv2d(x, weight, stride=down, padding=inside, groups=channels)
    # A transposed convolution never multiplies the inserted zeros. Without padding it returns
    # every sample that the filter touches, so the result only needs to be cropped or padded.
    kh, kw = f.shape
    left, top = left - (kw - 1), top - (kh - 1)
    right, bottom = right + up[1] - kw, bottom + up[0] - kh
    inside = (-top, -left) if left == right <= 0 and top == bottom <= 0 else (0, 0)
    weight = f.flip(0, 1).repeat(channels, 1, 1, 1)
    x = F.conv_transpose2d(x, weight, stride=up, padding=inside, groups=channels)
    if inside == (0, 0) and (left or right or top or bottom):
        x = F.pad(x, [left, right, top, bottom])
    return x if down == (1, 1) else x[:, :, :: down[0], :: down[1]]


class _Sizes(NamedTuple):
    """The size arguments of a pass of the kernel."""

    up: tuple[int, int]  # x, y
    down: tuple[int, int]  # x, y
    padding: tuple[int, int, int, int]  # left, right, top, bottom

    def along(self, axis: int) -> _Sizes:
        """The arguments of a pass along only x (0) or y (1)."""
        up, down, padding = [1, 1], [1, 1], [0, 0, 0, 0]
        up[axis], down[axis] = self.up[axis], self.down[axis]
        padding[2 * axis : 2 * axis + 2] = self.padding[2 * axis : 2 * axis + 2]
        return _Sizes((up[0], up[1]), (down[0], down[1]), _four(padding))

    def size(self, axis: int, size: int, taps: int) -> int:
        """The size of the result along x (0) or y (1)."""
        before, after = self.padding[2 * axis : 2 * axis + 2]
        return (size * self.up[axis] + before + after - taps) // self.down[axis] + 1

    def adjoint(self, shape: Sequence[int], result: Sequence[int], f: Tensor) -> _Sizes:
        """The arguments of the derivative, from the shapes of x and the result, [..., y, x]."""
        padding = []
        for axis in (0, 1):
            before, taps = self.padding[2 * axis], f.shape[1 - axis]
            reach = shape[-1 - axis] * self.up[axis] - result[-1 - axis] * self.down[axis]
            padding += [taps - before - 1, reach + before - self.up[axis] + 1]
        return _Sizes(self.down, self.up, _four(padding))


class _Resampling(Structure):
    """The same fields as in upfirdn2d.cu."""

    _fields_ = [
        (name, c_int64)
        for name in (
            "outer", "inner", "height", "width", "out_height", "out_width", "up_x", "up_y",
            "down_x", "down_y", "left", "top", "taps_x", "taps_y", "flip",
        )
    ]  # fmt: skip


_ARGUMENTS = [*[c_void_p] * 3, POINTER(_Resampling)]


def _resampled(x: Tensor, f: Tensor, library: CDLL, sizes: _Sizes, flip: bool) -> Tensor:
    """One pass of the kernel, with a filter of [taps_y, taps_x]."""
    x = x.contiguous(memory_format=cuda.memory_format(x))
    f = f.detach().to(cuda.compute_type(x)).contiguous()
    y: Tensor = _Resampled.apply(x, f, library, sizes, flip)
    return y


class _Resampled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Tensor, library: CDLL, sizes: _Sizes, flip: bool) -> Tensor:
        n, c, height, width = x.shape
        taps_y, taps_x = f.shape
        out_height, out_width = sizes.size(1, height, taps_y), sizes.size(0, width, taps_x)
        is_last = cuda.memory_format(x) == torch.channels_last
        y = cuda.empty(x, n, c, out_height, out_width)
        outer, inner = (n, c) if is_last else (n * c, 1)
        numbers = _Resampling(
            outer, inner, height, width, out_height, out_width, *sizes.up, *sizes.down,
            sizes.padding[0], sizes.padding[2], taps_x, taps_y, flip,
        )  # fmt: skip
        pointers = (tensor.data_ptr() for tensor in (x, f, y))
        cuda.launch(library, "upfirdn2d", _ARGUMENTS, x, *pointers, byref(numbers))
        ctx.save_for_backward(f)
        ctx.given = (library, sizes.adjoint(x.shape, y.shape, f), not flip)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        (f,) = ctx.saved_tensors
        return _resampled(dy, f, *ctx.given), None, None, None, None


def _taps(f: Tensor | None) -> tuple[int, int]:
    return (1, 1) if f is None else (f.shape[0], f.shape[-1])


def _pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or min(pair) < 1:
        raise ValueError(f"Got {name}={value!r}; give a number of at least 1, or two: (x, y).")
    return pair[0], pair[1]


def _four(padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    values = (padding, padding) if isinstance(padding, int) else tuple(padding)
    if len(values) == 2:
        values = (values[0], values[0], values[1], values[1])
    if len(values) != 4:
        raise ValueError(
            f"Got padding={padding!r}; give a number, (x, y) or (left, right, top, bottom)."
        )
    return values[0], values[1], values[2], values[3]
