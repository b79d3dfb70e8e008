"""Interleaved timings, peak memory and the machine's own ceilings."""

from __future__ import annotations

import math
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.ops import cuda, kernels

TOLERANCE = {"forward": 1e-4, "forward + backward": 1e-2}
"""How far results may differ before anything is timed: the largest difference of pictures, the norm
of gradients."""
_ROUNDS = 3  # at least


def difference(found: Tensor, wanted: Tensor, work: str) -> float:
    """The difference as a share of `wanted`: of images the largest value, of gradients the norm."""
    order = math.inf if work == "forward" else 2
    error = torch.linalg.vector_norm(found - wanted, order)
    return float(error / torch.linalg.vector_norm(wanted, order))


def check(what: str, work: str, error: float) -> None:
    """Raise `SystemExit` if results differ by more than `TOLERANCE`."""
    if not error <= TOLERANCE[work]:
        raise SystemExit(
            f"{what}: results differ by {error:.1e}; expected at most {TOLERANCE[work]:.0e}. "
            "Nothing was timed."
        )


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate: the median, and the distance of the quartiles."""

    median: float
    spread: float


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    device: str,
    seconds: float,
    *,
    is_warm: bool = False,
) -> dict[str, Timing]:
    """Time candidates in turns, so that a slow minute of the machine slows all of them.

    Args:
        candidates: what is timed, by name.
        device: "cpu", or "cuda", which is synchronized.
        seconds: about how long to measure.
        is_warm: the candidates have already run; otherwise each runs once first, for caches.
    """
    for run in () if is_warm else candidates.values():
        run()
    rounds: dict[str, list[float]] = {name: [] for name in candidates}
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(next(iter(rounds.values()))) < _ROUNDS:
        for name, run in candidates.items():
            rounds[name].append(seconds_of(run, device))
    return {name: _timing(values) for name, values in rounds.items()}


def seconds_of(run: Callable[[], object], device: str) -> float:
    """How long one run takes."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def ceilings(device: str) -> dict[str, float]:
    """What this machine reaches now: GFLOP/s of a large matmul, GB/s of a large copy."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    source = torch.randn(2**26, device=device)
    target = torch.empty_like(source)
    found = interleaved(
        {"matmul": lambda: torch.mm(a, b), "copy": lambda: target.copy_(source)}, device, 2.0
    )
    return {
        "matmul_gflops": 2 * side**3 / found["matmul"].median / 1e9,
        "copy_gb_per_second": 2 * source.nbytes / found["copy"].median / 1e9,
    }


def peak_bytes(make: Callable[..., Callable[[], object]], *arguments: object) -> int:
    """Peak memory of `make(*arguments)()` beyond that of `make`, in a new process.

    Memory that a pass keeps for later ones is counted.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_peak, args=(sender, make, arguments))
    process.start()
    sender.close()
    try:
        found: int = receiver.recv()
    except EOFError:
        raise RuntimeError(
            "The process that measures memory has died. Check that there is enough memory."
        ) from None
    process.join()
    return found


def _measure_peak(
    sender: Connection, make: Callable[..., Callable[[], object]], arguments: tuple[object, ...]
) -> None:
    run = make(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak
    before = _status("VmRSS")
    run()
    sender.send(_status("VmHWM") - before)


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"This system does not report {name}. Measure memory on Linux.")


def machine(device: str) -> dict[str, Any]:
    """The machine and the versions that the numbers were measured with."""
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "load_before": os.getloadavg()[0],
    }
    if device == "cuda":
        facts["gpu"] = torch.cuda.get_device_name()
        facts["cuda"] = torch.version.cuda
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["tf32"] = "off in rows of full precision, on in the rest"
        facts["kernels"] = {
            source: kernels.status(source).problem or "in use" for source in cuda.SOURCES
        }
    return facts


def _timing(values: list[float]) -> Timing:
    if len(values) < 2:
        return Timing(values[0], 0.0)
    low, _, high = statistics.quantiles(values, n=4)
    return Timing(statistics.median(values), high - low)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
