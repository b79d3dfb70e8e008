"""What the CUDA kernels' Python sides have in common: what they serve, and how they are launched.

The kernels have a C interface: pointers, sizes and a stream. They run on the current stream of
their tensor's device and are not waited for.
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
"""Numbers of the types in the kernels' interface (`with_type` in kernels.cuh)."""

_LAST = torch.channels_last


def library(source: str, x: Tensor) -> CDLL | None:
    """The kernels of a source, built if need be, if they can take x; else None.

    They cannot where x is not on an NVIDIA card, is of another type than half, bfloat16, float or
    double, or where torch.compile looks on, which cannot see into them.
    """
    if not x.is_cuda or torch.version.cuda is None or torch.compiler.is_compiling():
        return None
    return kernels.load(source) if x.dtype in TYPES else None


def compute_type(x: Tensor) -> torch.dtype:
    """What the kernels compute in: float for half and bfloat16."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels last if x lies so in memory; else contiguous, which x may have to be made."""
    if x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=_LAST):
        return _LAST
    return torch.contiguous_format


def empty(x: Tensor, *shape: int) -> Tensor:
    """Memory of another shape for pictures that lie as x does."""
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=memory_format(x))


def launch(library: CDLL, name: str, types: Sequence[Any], x: Tensor, *arguments: Any) -> None:
    """Call a function of a library with the number of x's type, the arguments and a stream.

    Args:
        types: ctypes of the arguments between the first and the last.
        x: whose device's current stream it is.

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
            f"An error of an earlier kernel can come up here too. {kernels.SWITCH}=off uses "
            "PyTorch's operations."
        )


@contextmanager
def _stream(x: Tensor) -> Iterator[int]:
    """The current stream of x's device, which is the current device meanwhile."""
    with torch.cuda.device(x.device):
        yield torch.cuda.current_stream(x.device).cuda_stream
