"""Measure sliders from pairs and sets of drawn portraits, whose attributes are known.

    python recipes/evaluate_pairs.py --output_dir runs/pairs

Pairs show the same drawn portrait without and with an attribute; the generator has never produced
them. Sets (--heaps) are drawn portraits, or samples of the generator, without and with the
attribute, which have nothing else in common. Each slider is applied with strength 1 to unseen
faces, and the attribute reader says how many gained the attribute and how much else changed.

Writes metrics.json, table.md with the tables for docs/results.md, and the picture pairs.webp.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from command_line import run
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Space
from stylegan_hub.methods.method import Pairs
from stylegan_hub.methods.pairs import DEFAULT, MEAN, REFINED, Settings
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.judges import READER, judges_for
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import Portraits, applicable, label_index, sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.portraits.renderer import render

TARGETS = {
    "glasses": "yes",
    "hat": "yes",
    "beard": "yes",
    "expression": "smiling",
    "hair_color": "purple",
    "hair_style": "afro",
}
_EXAMPLES = 9_000_000  # first seed of drawn examples
_POOL = 20_000  # first seed of the samples that sets are chosen from


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output_dir: Path
    """Folder for numbers and pictures."""
    samples: int = 64
    """Number of unseen faces."""
    pairs: tuple[int, ...] = (1, 2, 4, 6)
    """Numbers of pairs to compare."""
    heaps: tuple[int, ...] = (6, 24)
    """Sizes of sets to compare."""
    compared: int = 4
    """Number of pairs on which other settings are compared."""
    pool: int = 400
    """Number of samples from which sets are chosen."""
    shown: int = 6
    """Number of faces in the picture."""


@dataclass(frozen=True)
class Row:
    """One slider and its measurements."""

    target: str
    given: str
    count: int
    settings: str
    success: float
    collateral: float
    clean: float | None
    judged_identity: float | None
    faces: int
    agreement_before: float | None
    agreement_after: float | None
    residual: float | None
    likeness: float
    seconds: float


@torch.no_grad()
def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained("portraits")
    reader = AttributeReader.from_pretrained(resolve(READER, "model")).eval().to(pipe.device)
    judges = judges_for(pipe, None, None)
    faces = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    start = draw(pipe, faces)
    before = reader.read(start)
    pool = range(_POOL, _POOL + config.pool)
    labels = reader.read(draw(pipe, pipe.sample(pool))).labels
    rows: list[Row] = []
    shown: dict[str, Tensor] = {"before": start[: config.shown]}
    for given, count, name, settings in plan(config):
        for attribute, value in TARGETS.items():
            target = {attribute: value}
            if given == "heaps of seeds":
                request = heaps_of_seeds(target, count, pool, labels)
            else:
                request = pictures(pipe, target, count, paired=given == "pairs")
            began = time.process_time()
            edit = pipe.find(request, settings=settings)
            seconds = time.process_time() - began
            edited = draw(pipe, displaced(pipe, faces, [(edit, 1.0)]))
            report = edit_report(before, reader.read(edited), target)
            seen = judges.appearance(pipe, start, edited)
            rows.append(
                Row(
                    f"{attribute}={value}", given, count, name,
                    report.success, report.collateral, seen.get("clean"),
                    seen.get("judged_identity"), report.count, *proxies(edit), seconds,
                )
            )  # fmt: skip
            print(rows[-1], flush=True)
            if (given, count, name) == ("pairs", config.compared, "default"):
                shown[f"{attribute} {value}"] = edited[: config.shown]
            write(config.output_dir, rows)
        picture = image_files.labelled(shown, 96)
        image_files.save(picture, config.output_dir / "pairs.webp", image_files.SHEET_QUALITY)
    print((config.output_dir / "table.md").read_text())


def plan(config: Config) -> list[tuple[str, int, str, Settings]]:
    """The kinds of examples, their numbers, and the settings with their name."""
    pairs = [("pairs", count, "default", DEFAULT) for count in config.pairs]
    heaps = [
        (f"heaps of {kind}", count, "default", DEFAULT)
        for kind in ("seeds", "pictures")
        for count in config.heaps
    ]
    others = {"mean": MEAN, "w_plus": replace(DEFAULT, space=Space.W_PLUS), "refined": REFINED}
    compared = [("pairs", config.compared, name, other) for name, other in others.items()]
    mean_of_heaps = [("heaps of seeds", config.heaps[-1], "mean", MEAN)] if config.heaps else []
    return pairs + heaps + mean_of_heaps + compared


def pictures(pipe: StyleEditPipeline, target: dict[str, str], count: int, paired: bool) -> Pairs:
    """Drawn portraits: the same ones without and with the target, or different ones."""
    without, having = rendered_people(*next(iter(target.items())))
    after = without.with_labels(**target) if paired else having
    size = pipe.generator.img_size[0]
    return Pairs(render(without[:count], size), render(after[:count], size), paired)


def heaps_of_seeds(
    target: dict[str, str], count: int, pool: range, labels: dict[str, Tensor]
) -> Pairs:
    """The first samples that lack the target, and the first that have it."""
    ((attribute, value),) = target.items()
    has = labels[attribute] == label_index(attribute, value)
    visible = applicable(labels)[attribute]
    sides = (
        [pool[int(index)] for index in (visible & chosen).nonzero()[:count, 0]]
        for chosen in (~has, has)
    )
    return Pairs(*sides, paired=False)


def rendered_people(attribute: str, value: str) -> tuple[Portraits, Portraits]:
    """Portraits that lack the attribute and portraits that have it, if it can be seen."""
    people = sample(range(_EXAMPLES, _EXAMPLES + 2000))
    usable = applicable(people.labels)[attribute] & (people.character < 0)
    if attribute.startswith("hair"):  # a hat hides most of it
        usable &= people.labels["hat"] == label_index("hat", "no")
    has = people.labels[attribute] == label_index(attribute, value)
    return people[usable & ~has], people[usable & has]


def proxies(edit: Edit) -> tuple[float | None, float | None, float | None, float]:
    """The slider's measurements."""
    training = edit.origin.training
    residuals = training.get("residuals")
    return (
        training.get("agreement_before"),
        training.get("agreement_after"),
        fmean(residuals) if residuals and len(residuals) > 1 else None,
        fmean(training["likeness"]),
    )


def write(folder: Path, rows: list[Row]) -> None:
    """Write metrics.json and table.md: means over the targets, then each target."""
    write_bytes(
        folder / "metrics.json",
        (json.dumps([asdict(row) for row in rows], indent=2) + "\n").encode(),
    )
    columns = ("success", "collateral", "clean", "judged_identity", "agreement_before",
               "agreement_after", "residual", "likeness", "seconds")  # fmt: skip
    titles = [column.replace("_", " ") for column in columns]
    lines = [
        f"| given | of each | settings | {' | '.join(titles)} |",
        f"|---|---|---|{'---|' * len(columns)}",
    ]
    for key in dict.fromkeys((row.given, row.count, row.settings) for row in rows):
        of_key = [row for row in rows if (row.given, row.count, row.settings) == key]
        lines.append(f"| {' | '.join(map(str, key))} | {cells(of_key, columns)} |")
    lines += ["", f"| target | given | of each | settings | {' | '.join(titles)} |"]
    lines += [f"|---|---|---|---|{'---|' * len(columns)}"]
    for row in rows:
        names = (row.target, row.given, row.count, row.settings)
        lines.append(f"| {' | '.join(map(str, names))} | {cells([row], columns)} |")
    write_bytes(folder / "table.md", ("\n".join(lines) + "\n").encode())


def cells(rows: list[Row], columns: tuple[str, ...]) -> str:
    """Means of columns; "-" if nothing was measured."""
    shown = []
    for column in columns:
        values = [v for row in rows if (v := getattr(row, column)) is not None and v == v]
        digits = 3 if column == "collateral" else 1 if column == "seconds" else 2
        shown.append(f"{fmean(values):.{digits}f}" if values else "-")
    return " | ".join(shown)


if __name__ == "__main__":
    run(main, Config, __doc__)
