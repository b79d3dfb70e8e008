"""Code that the Python sides of the CUDA kernels share: what they support and how to launch them.

The kernels have a C interface: pointers, sizes and a stream. They are queued on the current stream
of their tensor's device; calls do not wait for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL, c_char_p, c_int, c_void_p
from typing import Any, Final

import torch
from torch import Tensor

from stylegan_hub.ops import kernels

SOURCES: Final = ("bias_act.cu", "upfirdn2d.cu", "styled_conv.cu")
TYPES: Final = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2, torch.float64: 3}
"""The number of each type in the kernels' interface (`with_type` in kernels.cuh)."""

_LAST = torch.channels_last


def library(source: str, x: Tensor) -> CDLL | None:
    """The kernels of a source, built if necessary; None if they cannot take x.

    They cannot if x is not on an NVIDIA GPU, if its type is not half, bfloat16, float or double, or
    under torch.compile, which cannot trace them.
    """
    if not x.is_cuda or torch.version.cuda is None or torch.compiler.is_compiling():
        return None
    return kernels.load(source) if x.dtype in TYPES else None


def compute_type(x: Tensor) -> torch.dtype:
    """The type in which the kernels compute: double for double, else float."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels last if x has this layout; else contiguous, to which x may have to be converted."""
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=_LAST):
        return _LAST
    return torch.contiguous_format


def empty(x: Tensor, *shape: int) -> Tensor:
    """An empty tensor of another shape, with the type, device and memory layout of x."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def launch(library: CDLL, name: str, types: Sequence[Any], x: Tensor, *arguments: Any) -> None:
    """Call a function of a library with the number of x's type, the arguments and a stream.

    Args:
        types: ctypes of the arguments between the first and the last.
        x: its device's current stream is used.

    Raises:
        RuntimeError: the launch failed.
    """
    function = getattr(library, name)
    function.argtypes = [c_int, *types, c_void_p]
    with _stream(x) as stream:
        code = function(TYPES[x.dtype], *arguments, stream)
    if code:
        library.error_text.argtypes, library.error_text.restype = [c_int], c_char_p
        raise RuntimeError(
            f"The CUDA kernel {name} failed for {str(x.dtype).removeprefix('torch.')} of shape "
            f"{tuple(x.shape)} on {x.device}: {library.error_text(code).decode()} (error {code}). "
            "An earlier kernel may have caused the error. To use PyTorch's operations instead, "
            f"set {kernels.SWITCH}=off."
        )


@contextmanager
def _stream(x: Tensor) -> Iterator[int]:
    """The current stream of x's device, which is the current device inside the context."""
    with torch.cuda.device(x.device):
        yield torch.cuda.current_stream(x.device).cuda_stream
