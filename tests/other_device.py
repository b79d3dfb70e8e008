"""A second device for machines that have only one: it finds tensors on the wrong device.

Tensors on it hold their numbers in main memory, but PyTorch sees another device: operations that
mix both raise an error, as do those that Apple's GPU cannot do (double precision).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

DEVICE = torch.device("mps", 0)
_ANYWHERE = ("_to_copy", "copy_", "_copy_from")  # operations that take tensors of two devices
_INDICES = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")


class OtherTensor(Tensor):
    """A tensor on the other device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor, requires_grad: bool = False) -> OtherTensor:
        # Autograd sees it on meta, which needs no driver.
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
            requires_grad=requires_grad,
        )
        made.held = held.detach()
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE

    @property
    def is_mps(self) -> bool:
        return True

    @property
    def is_meta(self) -> bool:
        return False

    def __repr__(self, **_: object) -> str:
        return f"OtherTensor({tuple(self.shape)}, {self.dtype})"

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        return torch.tensor(data, **{"dtype": self.dtype, **options}).to(DEVICE)

    def tolist(self) -> Any:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(function, args, kwargs or {})


def computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The result of an operation, on its proper device."""
    name = function.overloadpacket.__name__
    flat, _ = tree_flatten((args, kwargs))
    tensors = [one for one in flat if isinstance(one, Tensor)]
    here = [one for one in tensors if isinstance(one, OtherTensor)]
    left_behind = [one for one in tensors if not isinstance(one, OtherTensor) and one.ndim]
    if here and left_behind and name not in _ANYWHERE and not _is_indexed(name, args):
        raise RuntimeError(
            f"{name}: a tensor of shape {tuple(left_behind[0].shape)} is on cpu, others on {DEVICE}"
        )
    asked = kwargs.get("device")
    if asked is not None:
        is_there = torch.device(asked).type in (DEVICE.type, "meta")
        kwargs = {**kwargs, "device": torch.device("cpu")}
    else:
        is_there = bool(here) and not (name == "copy_" and not isinstance(args[0], OtherTensor))
    held = {id(one.held): one for one in here}
    args, kwargs = tree_map_only(OtherTensor, lambda one: one.held, (args, kwargs))
    found = function(*args, **kwargs)

    def placed(one: Any) -> Any:
        if not isinstance(one, Tensor) or not is_there:
            return one
        if id(one) in held:
            return held[id(one)]
        if one.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{name}: {DEVICE} has no numbers in double precision")
        return OtherTensor(one)

    return tree_map(placed, found)


def _is_indexed(name: str, args: Any) -> bool:
    """Indices may be on another device than the tensor that they index."""
    return name in _INDICES and isinstance(args[0], OtherTensor)


class _Mode(TorchDispatchMode):
    """Creates new tensors on the requested device."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return computed(function, args, kwargs or {})


class _FromNumbers(TorchFunctionMode):
    """`torch.tensor(numbers, device=...)` asks the driver and not the dispatcher."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        asked = kwargs.get("device")
        if function not in (torch.tensor, torch.as_tensor) or asked is None:
            return function(*args, **kwargs)
        del kwargs["device"]
        return function(*args, **kwargs).to(asked)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """A context in which the second device exists."""
    with _Mode(), _FromNumbers():
        yield DEVICE
