"""ONNX files, for onnxruntime and other runtimes; this needs the extra `onnx`."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stylegan_hub.errors import NotFoundError
from stylegan_hub.export.parts import Part
from stylegan_hub.export.traced import Run, traced

SUFFIX = ".onnx"
DTYPES = (torch.float32, torch.float16)
NEEDS = ("onnx", "onnxscript", "onnxruntime")
OPSET = 20


def write(part: Part, path: Path, dtype: torch.dtype) -> list[Path]:
    """Write a network.

    Returns:
        The files that were written: one, and a second one if the weights have more than 2 GB.
    """
    program = traced(part, dtype)
    # It warns about torchvision operations, which none of these networks uses.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # onnxscript warns about PyTorch
        model: Any = torch.onnx.export(
            program,
            dynamo=True,
            input_names=list(part.inputs),
            output_names=[part.output],
            opset_version=OPSET,
            verbose=False,
        )
    data = path.with_name(path.name + ".data")
    model.save(path)
    return [path, data] if data.exists() else [path]


def load(path: Path, dtype: torch.dtype, threads: int | None = None) -> Run:
    """A function that runs a file on the CPU with onnxruntime.

    Args:
        dtype: the dtype with which the file was written.
        threads: number of threads; None for onnxruntime's choice.

    Raises:
        NotFoundError: onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise NotFoundError(
            "onnxruntime is not installed.",
            got="no module onnxruntime",
            expected="the extra onnx",
            remedy='pip install "stylegan-hub[onnx]"',
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    # Between two pictures its threads should not keep the processor busy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def cast(x: NDArray[np.generic]) -> NDArray[np.generic]:
        is_half = dtype is torch.float16 and np.issubdtype(x.dtype, np.floating)
        return x.astype(np.float16) if is_half else x

    def run(**inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        (output,) = session.run(None, {name: cast(x) for name, x in inputs.items()})
        return np.asarray(output, dtype=np.float32)

    return run
