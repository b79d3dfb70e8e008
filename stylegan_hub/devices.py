"""Choose the device of a pipeline: a graphics card if PyTorch can use one, else the CPU."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch

FALLBACK = "PYTORCH_ENABLE_MPS_FALLBACK"
"""Environment variable that lets PyTorch compute on the CPU what Apple's GPU cannot. PyTorch reads
it when it is imported, so `stylegan_hub` sets it if it is imported before PyTorch."""


def chosen_device(device: str | torch.device = "auto") -> torch.device:
    """The device of a name.

    Args:
        device: "auto" is CUDA, else MPS (the GPU of an Apple computer), else the CPU. Processes
            started by torchrun or accelerate take one card each. Any other name is a device of
            PyTorch: "cpu", "cuda:1", "mps".

    Raises:
        ValueError: PyTorch does not know the device, or this machine does not have it.
    """
    if isinstance(device, str) and device == "auto":
        device = _best()
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"Got the device {device!r}; expected auto, cpu, cuda, cuda:1, mps or another device "
            "of PyTorch."
        ) from error
    _check_there(found)
    if found.type == "mps" and os.environ.get(FALLBACK) != "1":
        warnings.warn(
            f"PyTorch was imported without {FALLBACK}=1, so an operation that Apple's GPU lacks "
            f"raises an error instead of running on the CPU. Set {FALLBACK}=1 before Python "
            "starts, or import stylegan_hub before torch.",
            stacklevel=2,
        )
    return found


def accelerated() -> str | None:
    """The kind of GPU that "auto" uses on this machine, "cuda" or "mps"; None if there is none."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def _best() -> str:
    kind = accelerated()
    if kind != "cuda":
        return kind or "cpu"
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    return f"cuda:{rank % max(1, torch.cuda.device_count())}"


def _check_there(device: torch.device) -> None:
    is_there: dict[str, Callable[[], bool]]
    is_there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device.type in is_there and not is_there[device.type]():
        raise ValueError(
            f"Got the device {device}, which PyTorch {torch.__version__} cannot use here. "
            "Leave it out, or use cpu; `stylegan-hub doctor` lists what is missing."
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"Got the device {device}; this machine has {torch.cuda.device_count()} such devices, "
            "counted from cuda:0. Choose one of these."
        )
