"""Ours against other runtimes, each in its own process, on a quiet machine and beside a busy
process.

Floors: the time that the same convolutions take with oneDNN alone, and the time that their
multiply-adds take at the speed of a loop that does nothing else (`peak.cpp`).
"""

from __future__ import annotations

import math
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import measure
import plain
import torch
from torch.nn import functional as F

from stylegan_hub.contest import Candidate, beside, seconds_of
from stylegan_hub.models.stylegan2 import StyleGAN2Generator, SynthesisLayer
from stylegan_hub.ops import kernels
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.runtime import Runtime

FORWARD, BACKWARD = "forward", "forward + backward"
CANDIDATES = {
    FORWARD: (
        "textbook", "compiled", "ours", "ours passive", "openvino", "onnx", "openvino bf16",
        "onednn", "onednn bf16",
    ),
    BACKWARD: ("textbook", "compiled", "ours", "ours passive"),
}  # fmt: skip
"""What is timed, by work; onednn is a floor, which renders no picture.

"ours passive" is ours as the page and the command run it: threads that wait do not spin.
"""

OTHERS = ("openvino", "onnx")

SIZES = {"256": (256, 16384), "1024": (1024, 32768)}
WIDTHS = {"256 slim": (192, 192, 160, 96, 64, 40, 24)}
SUITES = ("portraits", *WIDTHS, *SIZES)
TOLERANCE = {"openvino bf16": 0.3}


@dataclass(frozen=True)
class Row:
    """One kind of work, done by all candidates.

    Attributes:
        neighbor: quiet, or busy: another process computes on one core.
        medians: seconds by candidate, without those that could not run.
        problems: why a candidate could not run.
        peak: seconds that the multiply-adds take at the speed of `peak.cpp`; None without a
            compiler.
    """

    suite: str
    work: str
    batch_size: int
    neighbor: str
    medians: dict[str, float]
    problems: dict[str, str]
    peak: float | None

    @property
    def ratio(self) -> float:
        """The time of the fastest other runtime in full precision, divided by ours."""
        return self._fastest_other / self.medians.get("ours", math.nan)

    @property
    def ratio_passive(self) -> float:
        """The same for ours as the page and the command run it."""
        return self._fastest_other / self.medians.get("ours passive", math.nan)

    @property
    def _fastest_other(self) -> float:
        others = ("textbook", "compiled", *OTHERS)
        return min((self.medians[n] for n in others if n in self.medians), default=math.nan)


def compared(suites: Sequence[str], batch_sizes: Sequence[int], seconds: float) -> Iterator[Row]:
    """Rows of the table; each candidate runs for about `seconds`."""
    rate = peak_rates().get("float32")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as exported:
        for suite in suites:
            macs = plain.macs(generator_of(suite))
            for batch_size in batch_sizes:
                for work, names in CANDIDATES.items():
                    found = {
                        name: Candidate(
                            "peers:made",
                            {
                                "name": name,
                                "suite": suite,
                                "batch_size": batch_size,
                                "work": work,
                                "threads": threads,
                            },
                            environment_of(name, exported),
                        )
                        for name in names
                    }
                    for neighbor in ("quiet", "busy"):
                        with beside(int(neighbor == "busy")):
                            times = seconds_of(found, seconds)
                        medians = {
                            n: statistics.median(t) for n, t in times.items() if isinstance(t, list)
                        }
                        problems = {n: t for n, t in times.items() if isinstance(t, str)}
                        passes = 1 if work == FORWARD else 2
                        peak = rate and passes * macs * batch_size / rate / threads / 1e9
                        yield Row(suite, work, batch_size, neighbor, medians, problems, peak)


def made(name: str, suite: str, batch_size: int, work: str, threads: int) -> Callable[[], object]:
    """A candidate, in its own process; see `contest`.

    Raises:
        RuntimeError: it renders something else than the textbook.
    """
    torch.set_num_threads(threads)
    generator = generator_of(suite)
    if name.startswith("onednn"):
        dtype = torch.bfloat16 if name.endswith("bf16") else torch.float32
        return convolutions(generator, batch_size, dtype)
    ((_, ws, upstream),) = [w for w in plain.works(generator, batch_size) if w[0] == work]
    textbook = partial(plain.synthesize, generator)
    if name.startswith(("openvino", "onnx")):
        s = generator.styles(ws)
        if name.endswith("bf16"):
            generator, s = generator.to(torch.bfloat16), s.bfloat16()
        run = partial(Runtime(generator, name.split()[0]).render, s)
    else:
        synthesize = {
            "textbook": textbook,
            "compiled": torch.compile(textbook, dynamic=False),
            "ours": generator.synthesis,
        }[name.split()[0]]
        run = partial(plain.one_pass, synthesize, ws, upstream)
    wanted = plain.one_pass(textbook, ws, upstream) if name != "openvino bf16" else run()
    error = measure.difference(run().float(), wanted.float(), work)
    if not error <= TOLERANCE.get(name, measure.TOLERANCE[work]):
        raise RuntimeError(f"differs from the textbook by {error:.1e}")
    return run


def environment_of(name: str, exported: str) -> dict[str, str]:
    """The environment variables of a candidate that differ from those of this process.

    Args:
        exported: a folder for exported networks; those of random ones are useless elsewhere.
    """
    if name.startswith(OTHERS):
        return {kernels.CACHE: exported}
    return {"OMP_WAIT_POLICY": "passive"} if name.endswith("passive") else {}


def generator_of(suite: str) -> StyleGAN2Generator:
    """The generator of a suite, frozen; random, except for the bundled one."""
    if suite in WIDTHS:
        torch.manual_seed(0)
        channels = WIDTHS[suite]
        side = 2 ** (len(channels) + 1)
        made = StyleGAN2Generator(128, 0, 256, side, channels=channels)
        return made.eval().requires_grad_(False)
    if suite in SIZES:
        return plain.random_generator(*SIZES[suite])
    pipe = StyleEditPipeline.from_pretrained(suite, device="cpu", runtime="pytorch")
    return pipe.generator.float()


def convolutions(
    generator: StyleGAN2Generator, batch_size: int, dtype: torch.dtype
) -> Callable[[], object]:
    """All convolutions of the network with oneDNN, in its own memory layout, and nothing else."""
    calls = []
    for entry in generator.style_layout:
        layer = generator.synthesis.get_submodule(entry.name)
        weight = layer.get_parameter("weight").to(dtype, memory_format=torch.channels_last)
        up = isinstance(layer, SynthesisLayer) and layer.up == 2
        side = entry.resolution // 2 if up else entry.resolution
        x = torch.randn(batch_size, weight.shape[1], side, side).to(
            dtype, memory_format=torch.channels_last
        )
        if up:
            calls.append(partial(F.conv_transpose2d, x, weight.transpose(0, 1), stride=2))
        else:
            calls.append(partial(F.conv2d, x, weight, padding=weight.shape[2] // 2))

    def run() -> None:
        with torch.no_grad():
            for call in calls:
                call()

    return run


def peak_rates() -> dict[str, float]:
    """Billions of multiply-adds per second on one core, by precision; empty without a compiler."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "peak")
        source = str(Path(__file__).with_name("peak.cpp"))
        command = [compiler, "-O3", "-march=native", "-ffp-contract=fast", source, "-o", program]
        subprocess.run(command, check=True)
        said = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return {name: float(rate) for name, rate in (line.split() for line in said.splitlines())}


_COLUMNS = CANDIDATES[FORWARD]
HEADER = [
    "| suite | work | batch | neighbor | "
    + " | ".join(f"{name} ms" for name in _COLUMNS)
    + " | peak ms | best other / ours | best other / ours passive |",
    "|" + "---|" * (len(_COLUMNS) + 7),
]


def line(row: Row) -> str:
    """A row of the table; a candidate that could not run is explained below it."""
    cells = [_milliseconds(row.medians.get(name)) for name in _COLUMNS]
    told = "".join(f"\n<!-- {name}: {why} -->" for name, why in row.problems.items())
    return (
        f"| {row.suite} | {row.work} | {row.batch_size} | {row.neighbor} | {' | '.join(cells)} "
        f"| {_milliseconds(row.peak)} | {row.ratio:.2f} | {row.ratio_passive:.2f} |{told}"
    )


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.1f}"
