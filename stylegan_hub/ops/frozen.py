"""What is computed once for weights that no longer change, and when they do.

Demodulation needs the squared lengths of a layer's kernels, half precision its weights scaled. For
frozen weights neither changes from picture to picture, and for one small picture computing them
takes as long as a layer. Results live as long as the weight and are no part of a module: nothing
of them is saved, copied or moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

_known = WeakTensorKeyDictionary()  # weight -> {function: (state of the weight, result)}


def is_trained(*tensors: Tensor | None) -> bool:
    """Whether a gradient of one of these is wanted."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def once(function: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """`function(weight)`, remembered while the weight is frozen and stays what it is.

    It is computed anew after a write to the weight, for other memory (`weight.data = ...`, `.to`)
    and whenever the weight is trained. A write through `weight.data` alone goes unnoticed, as it
    does in all of PyTorch. While torch.compile or torch.export looks on, it is a part of the graph.

    Args:
        function: without state; the result is shared, so that nobody may write to it.
    """
    if torch.compiler.is_compiling() or is_trained(weight) or weight.is_inference():
        return function(weight)
    # A reference to the memory: its address alone could be another weight's by now.
    memory = StorageWeakRef(weight.untyped_storage())
    state = (weight._version, memory, weight.storage_offset(), weight.shape, weight.dtype)
    results = _known.setdefault(weight, {})
    if function not in results or results[function][0] != state:
        with torch.inference_mode(False):  # a result that later gradients may go through
            found = function(weight.detach())
        if type(found) is not Tensor:  # a tracer's stand-in
            return found
        results[function] = (state, found)
    return results[function][1]


def remembered(weights: Iterable[Tensor]) -> list[Tensor]:
    """All results that are known for these weights, and for those results."""
    found = [result for w in weights for _, result in _known.get(w, {}).values()]
    return found + remembered(found) if found else []
