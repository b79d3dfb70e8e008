"""The textbook's formulation and ours on a GPU, in full, TF32 and half precision, also as CUDA
graphs.

Everything is compared with the textbook's in full precision, with TF32 off. In full precision, the
render must be the same (to 1e-4 of the largest value); for TF32 and half precision, the difference
is a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import measure
import plain
import torch
from torch import Tensor

from stylegan_hub.models.graphed import Graphed
from stylegan_hub.models.stylegan2 import StyleGAN2Generator

BASELINE = "plain, fused operations"
HALF_RESOLUTIONS = 4  # as in the published StyleGAN2


@dataclass(frozen=True)
class Candidate:
    """A way to render.

    Attributes:
        precision: full (TF32 off), TF32 or half (TF32 for the rest).
        is_graph: a CUDA graph, which has memory of its own and no gradient.
    """

    name: str
    precision: str
    synthesize: plain.Synthesize
    is_graph: bool = False


@dataclass(frozen=True)
class Row:
    """One way to render one batch.

    Attributes:
        ratio: how many times faster than the textbook's formulation with fused operations, in full
            precision.
        largest, typical: difference from that formulation, largest and root of the mean square, as
            shares of the largest value, and of the root of the mean square.
        floor: seconds that the multiply-adds take at the speed of a large matmul of this
            precision, or the features at the speed of a large copy, whichever is more.
        peak_bytes: peak memory of a pass besides the network; None for a graph.
    """

    suite: str
    work: str
    batch_size: int
    name: str
    precision: str
    time: measure.Timing
    ratio: float
    largest: float
    typical: float
    floor: float
    peak_bytes: int | None


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """TF32 for convolutions and matrices, on or off."""
    before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def ceilings(device: str) -> dict[str, float]:
    """TFLOP/s of a large matmul in each precision, and GB/s of a large copy."""
    side = 8192 if device == "cuda" else 256
    full = [torch.randn(side, side, device=device) for _ in range(2)]
    half = [x.half() for x in full]
    source = torch.randn(2**28 if device == "cuda" else 2**16, device=device)
    target = torch.empty_like(source)

    def product(pair: list[Tensor], precision: str) -> Tensor:
        with tf32(precision == "TF32"):
            return pair[0] @ pair[1]

    found = measure.interleaved(
        {
            "full": partial(product, full, "full"),
            "TF32": partial(product, full, "TF32"),
            "half": partial(product, half, "half"),
            "copy": lambda: target.copy_(source),
        },
        device,
        2.0 if device == "cuda" else 0.01,
    )
    rates = {name: 2 * side**3 / found[name].median / 1e12 for name in ("full", "TF32", "half")}
    return rates | {"copy": 2 * source.nbytes / found["copy"].median / 1e9}


def candidates(generator: StyleGAN2Generator) -> list[Candidate]:
    """All ways to render except graphs. The first one, or the first that fits into memory, is the
    reference."""
    device = generator.mapping.w_avg.device.type
    half = deepcopy(generator)
    half.use_half_precision(HALF_RESOLUTIONS)
    textbook = partial(plain.synthesize, generator)
    return [
        Candidate("plain", "full", textbook),
        Candidate(BASELINE, "full", partial(textbook, fused=True)),
        Candidate("ours", "full", generator.synthesis),
        Candidate(BASELINE, "TF32", partial(textbook, fused=True)),
        Candidate("plain, autocast", "half", _autocast(textbook, device)),
        Candidate("ours", "TF32", generator.synthesis),
        Candidate("ours", "half", half.synthesis),
    ]


def graphs(generator: StyleGAN2Generator, batch_size: int) -> list[Candidate]:
    """Ours as CUDA graphs."""
    half = deepcopy(generator)
    half.use_half_precision(HALF_RESOLUTIONS)
    found = []
    for precision, network in (("full", generator), ("TF32", generator), ("half", half)):
        with tf32(precision != "full"):
            graph = Graphed(network, batch_size)
        found.append(Candidate("ours, graph", precision, graph, is_graph=True))
    return found


def _autocast(synthesize: plain.Synthesize, device: str) -> plain.Synthesize:
    def run(ws: Tensor) -> Tensor:
        dtype = torch.float16 if device == "cuda" else torch.bfloat16
        with torch.autocast(device, dtype):
            return synthesize(ws).float()

    return run


def synthesis(
    suite: str,
    generator: StyleGAN2Generator,
    batch_sizes: Sequence[int],
    device: str,
    seconds: float,
    rates: dict[str, float],
) -> Iterator[Row]:
    """Forward, and forward with the gradient of w_plus, with all candidates in turns.

    Args:
        rates: `ceilings`.

    Raises:
        SystemExit: one in full precision renders something else.
    """
    for batch_size in batch_sizes:
        yield from _batch(suite, generator, batch_size, device, seconds, rates)


def _batch(
    suite: str,
    generator: StyleGAN2Generator,
    batch_size: int,
    device: str,
    seconds: float,
    rates: dict[str, float],
) -> Iterator[Row]:
    for work, ws, upstream in plain.works(generator, batch_size):
        backward = upstream is not None
        runs: dict[tuple[str, str], Callable[[], Tensor]] = {}
        differences: dict[tuple[str, str], tuple[float, float]] = {}
        peaks: dict[tuple[str, str], int | None] = {}
        wanted: Tensor | None = None
        ways = candidates(generator)
        if device == "cuda" and not backward:
            ways += graphs(generator, batch_size)
        for way in ways:
            key = (way.name, way.precision)
            run = partial(_pass, way, ws, upstream)
            try:
                peaks[key] = None if way.is_graph else _peak(run, device)
                found = run()
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                print(f"{suite}, {work}, {batch_size}: {', '.join(key)}: out of memory", flush=True)
                continue
            wanted = found if wanted is None else wanted
            differences[key] = _differences(found, wanted)
            error = differences[key][1 if backward else 0]
            if way.precision == "full":
                measure.check(f"{suite}, {work}, {way.name}", work, error)
            runs[key] = run
        times = measure.interleaved(
            {", ".join(key): run for key, run in runs.items()}, device, seconds
        )
        baseline = times.get(f"{BASELINE}, full")
        for key, difference in differences.items():
            time = times[", ".join(key)]
            yield Row(
                suite,
                work,
                batch_size,
                *key,
                time,
                float("nan") if baseline is None else baseline.median / time.median,
                *difference,
                _floor(generator, key[1], batch_size, backward, rates),
                peaks[key],
            )


def _pass(
    way: Candidate,
    ws: Tensor,
    upstream: Tensor | None,
) -> Tensor:
    with tf32(way.precision != "full"):  # for the gradient too
        return plain.one_pass(way.synthesize, ws, upstream)


def _differences(found: Tensor, wanted: Tensor) -> tuple[float, float]:
    error = (found - wanted).double()
    exact = wanted.double()
    typical = error.square().mean().sqrt() / exact.square().mean().sqrt()
    return float(error.abs().max() / exact.abs().max()), float(typical)


def _peak(run: Callable[[], Any], device: str) -> int | None:
    run()  # so that memory kept for later passes is not counted
    if device != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    return torch.cuda.max_memory_allocated() - before


def _floor(
    generator: StyleGAN2Generator,
    precision: str,
    batch_size: int,
    backward: bool,
    rates: dict[str, float],
) -> float:
    passes = batch_size * (2 if backward else 1)  # the weights are frozen: one more pass, not two
    arithmetic = 2 * plain.macs(generator) / rates[precision] / 1e12
    memory = plain.features(generator) * (2 if precision == "half" else 4) / rates["copy"] / 1e9
    return passes * max(arithmetic, memory)


HEADER = [
    "| suite | work | batch | formulation | precision | ms | spread ms | ratio | floor ms "
    "| of the floor | largest difference | typical difference | MB |",
    "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
]


def line(row: Row) -> str:
    """A row of the table."""
    memory = "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}"
    return (
        f"| {row.suite} | {row.work} | {row.batch_size} | {row.name} | {row.precision} "
        f"| {1e3 * row.time.median:.2f} | {1e3 * row.time.spread:.2f} | {row.ratio:.2f} "
        f"| {1e3 * row.floor:.2f} | {row.floor / row.time.median:.2f} | {row.largest:.1e} "
        f"| {row.typical:.1e} | {memory} |"
    )
