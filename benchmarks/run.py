"""Our path against the textbook's, on this machine, in one run.

    python benchmarks/run.py                                  # portraits and 256 px
    python benchmarks/run.py --suite all --output runs/bench # all suites, two hours
    python benchmarks/run.py --suite slider                   # a strength is moved
    python benchmarks/run.py --suite methods                  # steps of searches, tables
    python benchmarks/run.py --suite compiled gradients       # torch.compile; exactness
    python benchmarks/run.py --suite peers --output runs/peers  # OpenVINO, onnxruntime; floors
    python benchmarks/run.py --guard benchmarks/ratios.json   # did it become slower?
    python benchmarks/run.py --device cuda --suite all        # an NVIDIA card; see gpu.py

Candidates take turns, results are compared before anything is timed, and ratios are those of
medians. A ratio above 1 means that ours is faster. `floor` is the time that the multiply-adds of
direct convolution would take at the speed of a large matmul on this machine in the same run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import compiled
import exactness
import gpu
import measure
import methods
import peers
import plain
import torch
import tyro
from torch import Tensor

from stylegan_hub.models.redrawing import Redrawing
from stylegan_hub.models.stylegan2 import StyleGAN2Generator, StyleLayer
from stylegan_hub.pipeline import StyleEditPipeline

SIZES = {"256": (256, 16384), "1024": (1024, 32768)}
Suite = Literal["portraits", "256", "1024", "slider", "methods", "compiled", "gradients", "peers"]
PEOPLE = 16  # samples whose gradients are compared with exact ones
LEAST_SHARE = 0.75  # of an expected ratio


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Device to measure on."""
    suite: tuple[Suite | Literal["all"], ...] = ("portraits", "256")
    """Sizes of the generator: the bundled one, 256 px, 1024 px (config-f); or another kind of
    comparison."""
    batch_sizes: tuple[int, ...] | None = None
    """Batch sizes. None: 1 and 8, on a GPU also 32."""
    peers: tuple[str, ...] = peers.SUITES
    """Generators of the suite peers."""
    seconds: float = 10.0
    """About how many seconds to time each row."""
    output: Path | None = None
    """Folder for results.json and table.md."""
    guard: Path | None = None
    """File of expected ratios, such as benchmarks/ratios.json: fail if a ratio fell below three
    quarters of the expected one. Ratios differ less from machine to machine than times."""


@dataclass(frozen=True)
class Row:
    """One comparison: seconds by candidate, the ratio, and the difference of the results.

    Attributes:
        difference: of images the largest, as a share of the largest value; of gradients the norm,
            as a share of the norm. A feature that rounding puts on the other branch of lrelu
            changes its gradient by a factor of five: one in 30,000 at 8x8 is 5e-3 of the norm.
        floor: seconds that the multiply-adds of direct convolution take at the speed of a large
            matmul; other ways to convolve need fewer.
        plain_bytes, our_bytes: peak memory of a pass besides the network (CPU only).
    """

    suite: str
    work: str
    batch_size: int
    plain: measure.Timing
    ours: measure.Timing
    difference: float
    floor: float
    plain_bytes: int | None
    our_bytes: int | None

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.plain.median / self.ours.median


@dataclass(frozen=True)
class Move:
    """Seconds until the picture after a slider is moved whose edit begins at this layer."""

    suite: str
    first_layer: str
    whole: float
    redrawn: float

    @property
    def ratio(self) -> float:
        """How many times faster it is to render from that layer on."""
        return self.whole / self.redrawn


@dataclass(frozen=True)
class Section:
    """Rows of one kind, in the order in which they are measured.

    Attributes:
        header: of its table in Markdown.
        line: a row of it.
        key: what a row compares, in words; the name of its expected ratio.
    """

    header: list[str]
    line: Callable[[Any], str]
    key: Callable[[Any], str]
    rows: list[Any] = field(default_factory=list)

    def add(self, row: Any) -> None:
        """Add a row, and print it."""
        self.rows.append(row)
        print(self.line(row), flush=True)


def main(config: Config) -> None:
    facts = measure.machine(config.device) | measure.ceilings(config.device)
    rates = gpu.ceilings(config.device) if config.device == "cuda" else {}
    facts |= {f"ceiling_{name}": rate for name, rate in rates.items()}
    print(json.dumps(facts, indent=1))
    sections = {
        "synthesis": Section(HEADER, line, lambda r: f"{r.suite}, {r.work}, {r.batch_size}"),
        "gpu": Section(
            gpu.HEADER,
            gpu.line,
            lambda r: f"GPU: {r.suite}, {r.work}, {r.batch_size}, {r.name}, {r.precision}",
        ),
        "slider": Section(
            SLIDER_HEADER, slider_line, lambda r: f"slider: {r.suite}, {r.first_layer}"
        ),
        "methods": Section(methods.HEADER, methods.line, lambda r: f"{r.suite}, {r.work}"),
        "compiled": Section(
            compiled.HEADER,
            compiled.line,
            lambda r: f"compiled: {r.suite}, {r.work}, {r.batch_size}",
        ),
        "peers": Section(
            peers.HEADER,
            peers.line,
            lambda r: f"peers: {r.suite}, {r.work}, {r.batch_size}, {r.neighbor}",
        ),
        "gradients": Section(
            exactness.HEADER, exactness.line, lambda r: f"exact gradients: {r.suite}"
        ),
    }
    for suite in get_args(Suite) if "all" in config.suite else config.suite:
        for name, row in measured(suite, config, facts, rates):
            sections[name].add(row)
        if config.output is not None:  # written now, in case the next suite fails
            write(config.output, facts, sections)
    if config.guard is not None:
        check(config.guard, sections.values())


def check(path: Path, sections: Iterable[Section]) -> None:
    """Raise `SystemExit` if a ratio fell below three quarters of the expected one."""
    expected: dict[str, float] = json.loads(path.read_text())
    found = {section.key(row): row.ratio for section in sections for row in section.rows}
    if not found.keys() & expected.keys():
        raise SystemExit(f"{path} has no expected ratio for what was measured: {', '.join(found)}.")
    fallen = [
        f"{name}: {ratio:.2f}, expected {expected[name]:.2f}"
        for name, ratio in found.items()
        if name in expected and ratio < LEAST_SHARE * expected[name]
    ]
    if fallen:
        raise SystemExit("Slower than before, compared with plain:\n" + "\n".join(fallen))
    print(f"No ratio fell below three quarters of that in {path}.")


def measured(
    suite: Suite, config: Config, facts: dict[str, Any], rates: dict[str, float]
) -> Iterator[tuple[str, Any]]:
    """The rows of a suite, each with the section that it belongs to."""
    device, seconds = config.device, config.seconds
    if suite == "slider":
        for name in ("portraits", *SIZES):
            yield from (("slider", row) for row in slider(name, config))
    elif suite == "methods":
        for name in ("portraits", *SIZES):
            pipe = pipeline_of(name).to(device)
            yield from (("methods", row) for row in methods.compared(name, pipe, device, seconds))
    elif suite == "compiled":
        for name in ("portraits", "256"):  # other sizes would take long and show the same
            generator, sizes = generator_of(name).to(device), batch_sizes(config)
            rows = compiled.synthesis(name, generator, sizes, device, seconds)
            yield from (("compiled", row) for row in rows)
    elif suite == "peers":
        sizes = config.batch_sizes or (1, 8)
        yield from (("peers", row) for row in peers.compared(config.peers, sizes, seconds))
    elif suite == "gradients":
        for name in ("portraits", "256"):
            generator = generator_of(name).to(device)
            yield "gradients", exactness.gradients(name, generator, PEOPLE, device)
    elif device == "cuda":
        generator, sizes = generator_of(suite).to(device), batch_sizes(config)
        found = gpu.synthesis(suite, generator, sizes, device, seconds, rates)
        yield from (("gpu", row) for row in found)
    else:
        rows = synthesis(suite, generator_of(suite), config, facts["matmul_gflops"])
        yield from (("synthesis", row) for row in rows)


def batch_sizes(config: Config) -> tuple[int, ...]:
    """Batch sizes."""
    return config.batch_sizes or ((1, 8, 32) if config.device == "cuda" else (1, 8))


def generator_of(suite: str) -> StyleGAN2Generator:
    """The generator of a suite, frozen."""
    if suite in SIZES:
        return plain.random_generator(*SIZES[suite])
    return StyleEditPipeline.from_pretrained(suite, runtime="pytorch").generator.float()


def pipeline_of(suite: str) -> StyleEditPipeline:
    """The bundled pipeline; or the generator of a suite with the bundled CLIP, and nothing else."""
    bundled = StyleEditPipeline.from_pretrained("portraits", runtime="pytorch")
    if suite == "portraits":
        return bundled
    names = ("clip", "tokenizer", "image_processor")
    return StyleEditPipeline(generator_of(suite), **{n: getattr(bundled, n) for n in names})


def synthesis(
    suite: str, generator: StyleGAN2Generator, config: Config, gflops: float
) -> Iterator[Row]:
    """Forward, and forward with the gradient of w_plus."""
    for batch_size in batch_sizes(config):
        candidates = {name: synthesizer(name, generator) for name in ("plain", "ours")}
        for work, ws, upstream in plain.works(generator, batch_size):
            back = upstream is not None
            ours, baseline = (
                plain.one_pass(candidates[name], ws, upstream) for name in ("ours", "plain")
            )
            difference = measure.difference(ours, baseline, work)
            measure.check(f"{suite}, {work}", work, difference)
            found = measure.interleaved(
                {
                    name: partial(plain.one_pass, synthesize, ws, upstream)
                    for name, synthesize in candidates.items()
                },
                config.device,
                config.seconds,
                is_warm=True,
            )
            passes = 2 if back else 1  # the weights are frozen: one more pass, not two
            floor = passes * 2 * plain.macs(generator) * batch_size / gflops / 1e9
            memory = [
                measure.peak_bytes(_pass, suite, batch_size, name, back)
                if config.device == "cpu"
                else None
                for name in ("plain", "ours")
            ]
            yield Row(
                suite, work, batch_size, found["plain"], found["ours"], difference, floor, *memory
            )


def synthesizer(name: str, generator: StyleGAN2Generator) -> Callable[[Tensor], Tensor]:
    """The renderer of a candidate: "ours", or "plain"."""
    return generator.synthesis if name == "ours" else partial(plain.synthesize, generator)


def _pass(suite: str, batch_size: int, name: str, back: bool) -> Callable[[], object]:
    """One pass of a candidate, for a process of its own."""
    generator = generator_of(suite)
    ws = plain.people(generator, batch_size)
    size = (batch_size, generator.config.img_channels, *generator.img_size)
    return partial(
        plain.one_pass, synthesizer(name, generator), ws, torch.ones(size) if back else None
    )


def slider(suite: str, config: Config) -> Iterator[Move]:
    """Move the strength of an edit that begins at each resolution: render all layers, or from there
    on."""
    generator = generator_of(suite).to(config.device)
    s = generator.styles(plain.people(generator, 1))
    drawing = Redrawing(generator)

    def moved(layer: StyleLayer) -> Tensor:
        s[:, layer.start] += 0.1
        return s

    for layer in generator.style_layout:
        if not layer.name.endswith("conv1"):
            continue
        if not torch.equal(drawing(moved(layer)), generator.synthesis_from_styles(s)):
            raise SystemExit(f"{suite}, {layer.name}: another picture. Nothing was timed.")
        with torch.no_grad():
            found = measure.interleaved(
                {
                    "whole": lambda layer=layer: generator.synthesis_from_styles(moved(layer)),
                    "redrawn": lambda layer=layer: drawing(moved(layer)),
                },
                config.device,
                config.seconds / 5,
            )
        times = {name: timing.median for name, timing in found.items()}
        yield Move(suite, layer.name, **times)


SLIDER_HEADER = [
    "| generator | first layer that the edit moves | whole ms | redrawn ms | ratio |",
    "|---|---|---|---|---|",
]


def slider_line(move: Move) -> str:
    """A row of the slider's table."""
    return (
        f"| {move.suite} | {move.first_layer} | {1e3 * move.whole:.1f} | {1e3 * move.redrawn:.1f} "
        f"| {move.ratio:.1f} |"
    )


HEADER = [
    "| suite | work | batch | plain ms | ours ms | spread ms | ratio | floor ms | of the floor "
    "| plain MB | ours MB |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def line(row: Row) -> str:
    """A row of the table."""
    return (
        f"| {row.suite} | {row.work} | {row.batch_size} | {1e3 * row.plain.median:.1f} "
        f"| {1e3 * row.ours.median:.1f} | {1e3 * row.ours.spread:.1f} | {row.ratio:.2f} "
        f"| {1e3 * row.floor:.1f} | {row.floor / row.ours.median:.2f} "
        f"| {_megabytes(row.plain_bytes)} | {_megabytes(row.our_bytes)} |"
    )


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f}"


def write(folder: Path, facts: dict[str, Any], sections: dict[str, Section]) -> None:
    """Write results.json and table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": facts}
    tables = []
    for name, section in sections.items():
        result[name] = [asdict(row) | {"ratio": row.ratio} for row in section.rows]
        if section.rows:
            tables.append("\n".join([*section.header, *map(section.line, section.rows)]))
    (folder / "results.json").write_text(json.dumps(result, indent=1))
    (folder / "table.md").write_text("\n\n".join(tables) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__, use_underscores=True))
