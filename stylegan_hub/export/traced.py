"""A network as one graph of PyTorch's own operations, the source of the ONNX and torch formats."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import Dim, ExportedProgram
from torch.fx import GraphModule

from stylegan_hub.export.parts import Part

Run = Callable[..., NDArray[np.generic]]
"""A function that takes arrays by the names of the inputs and returns the output."""

MOST = 64
"""Maximum batch size of an exported file, in pictures or texts."""


def traced(part: Part, dtype: torch.dtype = torch.float32) -> ExportedProgram:
    """The graph, with a dynamic first axis of 1 to `MOST`.

    Attention is expressed as matrix products and softmax.

    Args:
        dtype: of the weights, and of floating-point inputs and outputs.
    """
    network = copy.deepcopy(part.module).eval().requires_grad_(False).to("cpu", dtype)
    inputs = tuple(x.to(dtype) if x.is_floating_point() else x for x in part.inputs.values())
    count = Dim("n", max=MOST)
    shapes = tuple({0: count} if x.ndim else None for x in inputs)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch and transformers warn about their own code
        program = torch.export.export(network, inputs, dynamic_shapes=shapes)
    # PyTorch notes for each operation the lines of code that it is from, with their paths on this
    # machine, and both formats would save them.
    for graph in program.graph_module.modules():
        for node in graph.graph.nodes if isinstance(graph, GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program
