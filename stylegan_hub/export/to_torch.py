"""torch.export packages, for PyTorch without this library and for ahead-of-time compilation.

program = torch.export.load("generator.pt2")
images = program.module()(w_plus)
torch._inductor.aoti_compile_and_package(program, package_path="generator-compiled.pt2")
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from stylegan_hub.export.parts import Part
from stylegan_hub.export.traced import Run, traced

SUFFIX = ".pt2"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NEEDS: tuple[str, ...] = ()


def write(part: Part, path: Path, dtype: torch.dtype) -> list[Path]:
    """Write a network.

    Returns:
        The file that was written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns about its own code
        torch.export.save(traced(part, dtype), path)
    return [path]


def load(path: Path, dtype: torch.dtype, threads: int | None = None) -> Run:
    """A function that runs a file that was just written; PyTorch chooses the threads.

    Use it only for files that you wrote yourself: PyTorch may read a pickle in it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = torch.export.load(path).module()

    def run(**inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        tensors = [torch.from_numpy(np.asarray(x)) for x in inputs.values()]
        cast = [x.to(dtype) if x.is_floating_point() else x for x in tensors]
        with torch.no_grad():
            return network(*cast).float().numpy()

    return run
