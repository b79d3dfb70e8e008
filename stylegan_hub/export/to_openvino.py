"""OpenVINO files, which are the fastest on many processors; this needs the extra `openvino`."""

from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stylegan_hub.errors import NotFoundError
from stylegan_hub.export.parts import Part
from stylegan_hub.export.traced import Run

SUFFIX = ".xml"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
NEEDS = ("openvino",)


def write(part: Part, path: Path, dtype: torch.dtype) -> list[Path]:
    """Write a network; for float16 and bfloat16 the weights are stored as float16.

    Returns:
        The files that were written: the graph and the weights.
    """
    openvino = _openvino()
    network = copy.deepcopy(part.module).eval().requires_grad_(False).cpu().float()
    sizes = [[-1, *x.shape[1:]] if x.ndim else [] for x in part.inputs.values()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's tracer warns; OpenVINO's fastest path uses it
        model = openvino.convert_model(
            network,
            example_input=tuple(part.inputs.values()),
            input=[openvino.PartialShape(size) for size in sizes],
        )
    for place, name in zip(model.inputs, part.inputs, strict=True):
        place.set_names({name})
    model.output(0).set_names({part.output})
    openvino.save_model(model, path, compress_to_fp16=dtype is not torch.float32)
    return [path, path.with_suffix(".bin")]


def load(path: Path, dtype: torch.dtype, threads: int | None = None) -> Run:
    """A function that runs a file on the CPU.

    Args:
        dtype: float32 computes in full precision, bfloat16 in bfloat16 if the processor supports
            it; float16 leaves the choice to OpenVINO.
        threads: number of threads; None for OpenVINO's choice.

    Raises:
        NotFoundError: OpenVINO is not installed.
    """
    openvino = _openvino()
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if threads is not None:
        options["INFERENCE_NUM_THREADS"] = threads
    if dtype is not torch.float16:
        options["INFERENCE_PRECISION_HINT"] = "f32" if dtype is torch.float32 else "bf16"
    compiled = openvino.Core().compile_model(path, "CPU", options)

    def run(**inputs: NDArray[np.generic]) -> NDArray[np.generic]:
        # A separate request for each call, because calls may come from several threads.
        return np.array(compiled.create_infer_request().infer(inputs)[0])

    return run


def _openvino() -> Any:
    # Its converter would send usage statistics over the network; without this module it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenVINO warns about its own code
            import openvino
    except ImportError as error:
        raise NotFoundError(
            "OpenVINO is not installed.",
            got="no module openvino",
            expected="the extra openvino",
            remedy='pip install "stylegan-hub[openvino]"',
        ) from error
    return openvino
