"""The precision and memory layout in which a block of layers computes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def block_input(
    x: Float[Tensor, "n c h w"], dtype: torch.dtype, use_fp16: bool
) -> Float[Tensor, "n c h w"]:
    """x in the precision and memory layout in which a block computes fastest.

    Channels last saves a fifth of a training step on a CPU, and tensor cores read it in half
    precision. Half precision is float16 on CUDA, and the type that autocast sets on a CPU.

    Args:
        x: Input of the block.
        dtype: Type of the block's weights.
        use_fp16: Whether the block computes in half precision on CUDA.
    """
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    if x.is_cuda and not use_fp16:
        return x.to(dtype, memory_format=torch.contiguous_format)
    return x.to(torch.float16 if x.is_cuda else dtype, memory_format=torch.channels_last)
