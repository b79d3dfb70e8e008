"""How fast searches reach their goal, in seconds, with our settings and the published ones.

    python benchmarks/curves.py --output runs/curves
    python benchmarks/curves.py --methods optimization --people 4 --output runs/curves

Every point is a separate search with that number of steps (all settings decay the learning rate
towards the end, so half of a long search is not a short one). The attribute reader says whether the
wanted attribute appeared and what else changed; CLIP's similarity is what the search itself
optimizes. Seconds are those of all cores together. Writes curves.json, table.md and curves.webp.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeVar

import torch
import tyro
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import methods
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import essence, optimization
from stylegan_hub.methods.method import Picture, Words
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.essence_transfer import essence_report
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader, Reading

Method = Literal["optimization", "mapper", "essence"]
_Found = TypeVar("_Found")

TARGETS = {
    "a face with an afro": {"hair_style": "afro"},
    "a face with purple hair": {"hair_color": "purple"},
    "a face with glasses": {"glasses": "yes"},
}
# The published code starts there; the paper starts from random latents.
INVERTED = "published, from the inversion"
COLORS = {"ours": "tab:green", "published": "tab:gray", INVERTED: "tab:olive"}
TARGET_PICTURE = Path(__file__).parents[1] / "docs" / "targets" / "ivy.png"


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output: Path
    """Folder for the results."""
    methods: tuple[Method, ...] = ("optimization", "mapper", "essence")
    """Methods to measure."""
    people: int = 8
    """Number of unseen faces, each with an optimization of its own."""
    unseen: int = 32
    """Number of unseen faces on which mappers and essences are judged."""
    optimization_steps: tuple[int, ...] = (4, 10, 20, 40)
    """Steps of our optimization, after twice as many that the faces of a text share."""
    published_steps: tuple[int, ...] = (20, 50, 100, 300)
    """Steps of the published optimization."""
    mapper_steps: tuple[int, ...] = (25, 50, 100, 200)
    """Steps of both mappers; the published one has batches of 2, ours of 8."""
    essence_steps: tuple[int, ...] = (5, 10, 20, 40)
    """Steps of our essence, each longer if they are fewer; the published one has four times as
    many."""


@dataclass(frozen=True)
class Point:
    """What a search with this number of steps reached.

    Attributes:
        seconds: of one search: for the first face of a text, for a mapper, for an essence.
        similarity: CLIP's, of the edited pictures with the text or target.
        success: share of faces that gained the wanted attribute; for an essence, the share of
            attributes that were taken over.
        collateral: share of the other attributes that changed.
    """

    method: str
    settings: str
    goal: str
    steps: int
    seconds: float
    similarity: float
    success: float
    collateral: float


def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained("portraits")
    reader = AttributeReader.from_pretrained(resolve("attribute-reader", "model")).eval()
    measured = {"optimization": optimizations, "mapper": mappers, "essence": essences}
    points: list[Point] = []
    with tqdm(unit="search", disable=not sys.stderr.isatty()) as progress:
        for method in config.methods:
            for point in measured[method](pipe, reader, config):
                points.append(point)
                print(line(point), flush=True)
                write(config.output, points)
                progress.update()


def optimizations(
    pipe: StyleEditPipeline, reader: AttributeReader, config: Config
) -> Iterator[Point]:
    """One displacement for each face."""
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.people))
    before = reader.read(draw(pipe, people))
    start = pipe.lower(people, Space.W_PLUS).codes
    ours = optimization.Settings()
    tried = [
        ("ours", replace(ours, steps=steps, shared_steps=2 * steps))
        for steps in config.optimization_steps
    ]
    tried += [
        ("published", replace(optimization.PUBLISHED, steps=steps))
        for steps in config.published_steps
    ]
    for goal in TARGETS:
        for name, settings in tried:
            search = partial(optimization.displacements, pipe, Words(goal), settings=settings)
            _, seconds = timed(partial(search, people[:1]))
            after = draw(pipe, Latents(Space.W_PLUS, start + search(people)))
            steps = settings.steps + settings.shared_steps
            known = ("optimization", name, goal, steps, seconds)
            yield judged(pipe, reader, before, after, known)


def mappers(pipe: StyleEditPipeline, reader: AttributeReader, config: Config) -> Iterator[Point]:
    """One network for every face."""
    goal = next(iter(TARGETS))
    method = methods.get("mapper")
    unseen = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.unseen))
    before = reader.read(draw(pipe, unseen))
    start = pipe.lower(unseen, Space.W_PLUS)
    for name, preset in (("ours", "default"), ("published", "published")):
        for steps in config.mapper_steps:
            settings = replace(method.presets[preset], steps=steps)
            edit, seconds = timed(partial(method.find, pipe, goal, settings=settings))
            with torch.no_grad():
                after = draw(pipe, edit.apply(start, 1.0))
            yield judged(pipe, reader, before, after, ("mapper", name, goal, steps, seconds))


def essences(pipe: StyleEditPipeline, reader: AttributeReader, config: Config) -> Iterator[Point]:
    """One displacement for every face, towards a picture."""
    with Image.open(TARGET_PICTURE) as picture:
        target = essence.target_picture(pipe, picture)
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.unseen))
    before = draw(pipe, people)
    ours, paper = essence.IN_DOMAIN, essence.PAPER_IN_DOMAIN
    tried = [
        ("ours", replace(ours, steps=n, lr=ours.lr * ours.steps / n)) for n in config.essence_steps
    ]
    tried += [
        (name, replace(paper, steps=4 * n, start=start))
        for name, start in (("published", "random"), (INVERTED, "inversion"))
        for n in config.essence_steps
    ]
    for name, settings in tried:
        search = partial(pipe.find, Picture(target), method="essence", settings=settings)
        edit, seconds = timed(search)
        after = draw(pipe, edit.apply(people))
        found = essence_report(pipe, reader, before, after, target)
        yield Point(
            "essence", name, TARGET_PICTURE.stem, settings.steps, seconds,
            found["target_similarity_after"], found["attributes_taken"],
            1 - found["attributes_kept"],
        )  # fmt: skip


def judged(
    pipe: StyleEditPipeline,
    reader: AttributeReader,
    before: Reading,
    after: Tensor,
    known: tuple[str, str, str, int, float],
) -> Point:
    """A point from the edited pictures; the third element of `known` is the goal."""
    goal = known[2]
    with torch.no_grad():
        report = edit_report(before, reader.read(after), TARGETS[goal])
        similarity = float((pipe.encode_image(after) @ pipe.encode_text(goal).T).mean())
    return Point(*known, similarity, report.success, report.collateral)


def timed(search: Callable[[], _Found]) -> tuple[_Found, float]:
    """The result, and the seconds of all cores together."""
    began = time.process_time()
    found = search()
    return found, time.process_time() - began


HEADER = [
    "| method | settings | goal | steps | seconds | CLIP | success or taken | collateral |",
    "|---|---|---|---|---|---|---|---|",
]


def line(point: Point) -> str:
    """A row of the table."""
    return (
        f"| {point.method} | {point.settings} | {point.goal} | {point.steps} "
        f"| {point.seconds:.1f} | {point.similarity:.2f} | {point.success:.2f} "
        f"| {point.collateral:.3f} |"
    )


def write(folder: Path, points: list[Point]) -> None:
    """Write curves.json, table.md and curves.webp."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curves.json").write_text(json.dumps([asdict(point) for point in points], indent=1))
    (folder / "table.md").write_text("\n".join([*HEADER, *map(line, points)]) + "\n")
    methods = list(dict.fromkeys(point.method for point in points))
    figure = Figure(figsize=(4.5 * len(methods), 4.0), layout="constrained")
    panels = figure.subplots(1, len(methods), squeeze=False)
    lines = {}
    for panel, method in zip(panels[0], methods, strict=True):
        for settings, color in COLORS.items():
            found = [p for p in points if (p.method, p.settings) == (method, settings)]
            if not found:
                continue
            some = means(found)
            (lines[settings],) = panel.plot(some["seconds"], some["success"], "o-", color=color)
            panel.plot(some["seconds"], some["collateral"], "x:", color=color)
        panel.set(title=method, xlabel="seconds", xscale="log", ylim=(-0.05, 1.05))
        panel.grid(alpha=0.3)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_formatter(NullFormatter())
    panels[0][0].set_ylabel("success (solid), collateral (dotted)")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=len(lines))
    figure.savefig(folder / "curves.webp", dpi=110)


def means(points: list[Point]) -> dict[str, list[float]]:
    """Means over the goals, for each number of steps."""
    by_steps = [[p for p in points if p.steps == n] for n in dict.fromkeys(p.steps for p in points)]
    return {
        name: [fmean(getattr(point, name) for point in some) for some in by_steps]
        for name in ("seconds", "success", "collateral")
    }


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__, use_underscores=True))
