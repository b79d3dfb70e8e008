"""Cache what is computed from frozen weights, until the weights change.

Demodulation needs the squared lengths of a layer's kernels; half precision needs scaled weights.
For frozen weights neither changes from picture to picture, and for one small picture computing them
takes as long as a layer. Results live as long as the weight. They are not part of a module, so they
are never saved, copied or moved with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakTensorKeyDictionary

_known = WeakTensorKeyDictionary()  # weight -> {function: (state of the weight, result)}


def is_trained(*tensors: Tensor | None) -> bool:
    """Whether a gradient of one of these tensors is needed."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def once(function: Callable[[Tensor], Tensor], weight: Tensor) -> Tensor:
    """`function(weight)`, cached while the weight is frozen and unchanged.

    It is computed again after a write to the weight, for other memory (`weight.data = ...`, `.to`)
    and whenever the weight is trained. A write through `weight.data` goes unnoticed, as everywhere
    in PyTorch. Under torch.compile or torch.export, the computation becomes part of the graph.

    Args:
        function: without state; its result is shared and must not be written to.
    """
    if torch.compiler.is_compiling() or is_trained(weight) or weight.is_inference():
        return function(weight)
    # A reference to the memory, since another weight may have its address by now.
    memory = StorageWeakRef(weight.untyped_storage())
    state = (weight._version, memory, weight.storage_offset(), weight.shape, weight.dtype)
    results = _known.setdefault(weight, {})
    if function not in results or results[function][0] != state:
        with torch.inference_mode(False):  # so that autograd can use the result later
            found = function(weight.detach())
        if type(found) is not Tensor:  # a tracer's stand-in
            return found
        results[function] = (state, found)
    return results[function][1]


def remembered(weights: Iterable[Tensor]) -> list[Tensor]:
    """All cached results for these weights, and those for the results themselves."""
    found = [result for w in weights for _, result in _known.get(w, {}).values()]
    return found + remembered(found) if found else []
