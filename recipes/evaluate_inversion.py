"""Measure inversion: how close the render is to the picture, and whether edits still work on it.

    python recipes/evaluate_inversion.py --output_dir runs/inversion
    python recipes/evaluate_inversion.py --output_dir runs/inversion --samples 8 --tune_steps 0

Two kinds of unseen portraits are inverted in every way: *generated* ones, whose latent is known, so
that the same edits of the zoo can be judged before and after inversion; and *rendered* ones by the
procedural renderer, which the generator has never produced. The attribute reader judges: an edit
succeeds if the wanted attribute appears, and every other difference from the given picture (not
from its reconstruction) is collateral. For generated portraits the edited picture is also compared
with the same edit of the true latent (edited PSNR). Writes metrics.json, a table (table.md) and a
sheet of pictures.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from command_line import run
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.names import bundled, public_name, resolve
from stylegan_hub.photos.invert import Refinement, Tuning
from stylegan_hub.photos.likeness import likeness
from stylegan_hub.pipeline import StyleEditPipeline, Tuned
from stylegan_hub.portraits.attributes import applicable, sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.portraits.renderer import render

COLUMNS = {
    "psnr": "PSNR (dB)",
    "perceptual": "perceptual",
    "identity": "identity",
    "kept": "attributes kept",
    "edited_psnr": "edited PSNR (dB)",
    "success": "edit success",
    "collateral": "collateral",
    "seconds": "seconds",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output_dir: Path
    """Folder for numbers and pictures."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader."""
    samples: int = 16
    """Number of unseen portraits of each kind."""
    tuned_samples: int = 8
    """Number of those portraits to which the generator is tuned, one by one."""
    batch_size: int = 8
    """Portraits that are refined together."""
    truncation_psi: float = 0.7
    """Truncation psi of the generated portraits."""
    refine_steps: tuple[int, ...] = (30, 100)
    """Numbers of refinement steps to compare; the last one gives the pivot."""
    tune_steps: int = 100
    """Steps of pivotal tuning; 0 = none."""
    edits: tuple[str, ...] = ()
    """Edits to try, with a target in their metrics.json. Empty: all bundled ones."""
    refinement: Refinement = field(default_factory=Refinement)
    """Other settings of the refinement."""
    tuning: Tuning = field(default_factory=Tuning)
    """Other settings of the tuning."""


@dataclass(frozen=True)
class Inverted:
    """The inversion of one portrait: the generator that renders it, and its latent.

    With `picture`, renders get the details of this picture by the pipeline's detailer.
    """

    pipe: StyleEditPipeline
    latents: Latents
    picture: Tensor | None = None

    def render(self, edits: Sequence[tuple[Edit, float]] = ()) -> Float[Tensor, "1 3 h w"]:
        """The picture with some edits, in [-1, 1]."""
        after = self.pipe.synthesize(displaced(self.pipe, self.latents, edits)).clamp(-1, 1)
        if self.picture is None:
            return after
        before = self.pipe.synthesize(self.latents).clamp(-1, 1)
        assert self.pipe.detailer is not None
        detailed: Tensor = self.pipe.detailer(self.picture, before, after)
        return detailed.clamp(-1, 1)


Mode = Callable[[Tensor], list[Inverted]]


def main(config: Config) -> None:
    config.output_dir.mkdir(parents=True, exist_ok=True)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    edits = zoo(config.edits, pipe)
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.samples)
    known = pipe.sample(seeds, config.truncation_psi)
    with torch.no_grad():
        drawn = torch.cat([pipe.synthesize(one).clamp(-1, 1) for one in known])
    kinds = {"generated": drawn, "rendered": render(sample(seeds), drawn.shape[-1])}
    results: dict[str, dict[str, dict[str, float]]] = {}
    rows = []
    for kind, pictures in kinds.items():
        ways = modes(pipe, config)
        if kind == "generated":
            ways = {"true latent": lambda p: [Inverted(pipe, w) for w in known[: len(p)]], **ways}
        results[kind] = {}
        for name, invert in tqdm(ways.items(), desc=kind):
            count = config.tuned_samples if "tuned" in name else config.samples
            some = pictures[:count]
            started = time.perf_counter()
            people = invert(some)
            seconds = (time.perf_counter() - started) / len(some)
            truth = [Inverted(pipe, one) for one in known[:count]] if kind == "generated" else []
            values, sheet = measure(pipe, reader, people, some, edits, truth)
            results[kind][name] = values | {"seconds": seconds, "images": float(len(some))}
            rows.append(sheet[:8])
            tqdm.write(f"{kind} {name}: " + ", ".join(
                f"{key} {value:.3f}" for key, value in results[kind][name].items()
            ))  # fmt: skip
            write(config, results, list(edits))
        rows.insert(len(rows) - len(ways), pictures[:8])
    width = min(8, config.samples, config.tuned_samples if config.tune_steps else 8)
    sheet = torch.cat([row[:width].cpu() for row in rows])
    image_files.save(image_files.grid(sheet, columns=width), config.output_dir / "sheet.png")


def zoo(names: Sequence[str], pipe: StyleEditPipeline) -> dict[str, tuple[Edit, dict[str, str]]]:
    """Edits with their targets, from their metrics.json."""
    found: dict[str, tuple[Edit, dict[str, str]]] = {}
    for name in names or bundled("edit"):
        folder = resolve(name, "edit")
        path = folder / "metrics.json"
        target = json.loads(path.read_text()).get("target") if path.is_file() else None
        edit = load_edit(folder)
        fits = edit.base_model.fingerprint == pipe.base_model.fingerprint
        if target and fits:
            found[folder.name] = (edit, target)
        elif names:
            why = "has no target in its metrics.json" if fits else "is for another generator"
            raise SystemExit(f"{name} cannot be judged: it {why}.")
    if not found:
        raise SystemExit(
            "Got no edit to try: no bundled edit is for this pipeline and has a target. "
            "Give --edits, folders with a metrics.json (stylegan-hub evaluate writes it)."
        )
    return found


def modes(pipe: StyleEditPipeline, config: Config) -> dict[str, Mode]:
    """Ways to invert a batch of pictures, by name."""

    def refined(steps: int) -> Mode:
        settings = Refinement(**{**asdict(config.refinement), "steps": steps})

        def invert(pictures: Tensor) -> list[Inverted]:
            parts = [pipe.invert(batch, settings) for batch in pictures.split(config.batch_size)]
            return [Inverted(pipe, one) for part in parts for one in part]

        return invert

    def tuned(pictures: Tensor) -> list[Inverted]:
        pivots = refined(config.refine_steps[-1])(pictures)
        settings = Tuning(**{**asdict(config.tuning), "steps": config.tune_steps})
        found: list[Tuned] = [
            pipe.tune(picture, pivot.latents, settings)
            for picture, pivot in zip(pictures.split(1), pivots, strict=True)
        ]
        return [Inverted(one.pipe, one.latents) for one in found]

    start = "average face" if pipe.encoder is None else "encoder"
    ways: dict[str, Mode] = {}
    if pipe.encoder is not None:
        ways["encoder"] = lambda pictures: [Inverted(pipe, one) for one in pipe.invert(pictures)]
        if pipe.detailer is not None:
            ways["encoder, details"] = lambda pictures: with_details(ways["encoder"], pictures)
    else:
        print("The pipeline has no encoder: refinement starts from the average face.")
        warnings.filterwarnings("ignore", message="This pipeline has no encoder")
    for steps in config.refine_steps:
        ways[f"{start}, refined {steps}"] = refined(steps)
    if pipe.detailer is not None and config.refine_steps:
        last = f"{start}, refined {config.refine_steps[-1]}"
        ways[f"{last}, details"] = lambda pictures: with_details(ways[last], pictures)
    if config.tune_steps:
        ways[f"{start}, refined {config.refine_steps[-1]}, tuned {config.tune_steps}"] = tuned
    return ways


def with_details(invert: Mode, pictures: Tensor) -> list[Inverted]:
    """The inversions of another way, whose renders get the details of the pictures."""
    found = zip(invert(pictures), pictures.split(1), strict=True)
    return [replace(one, picture=picture) for one, picture in found]


@torch.no_grad()
def measure(
    pipe: StyleEditPipeline,
    reader: AttributeReader,
    people: Sequence[Inverted],
    pictures: Float[Tensor, "n 3 h w"],
    edits: Mapping[str, tuple[Edit, dict[str, str]]],
    truth: Sequence[Inverted] = (),
) -> tuple[dict[str, float], Float[Tensor, "n 3 h w"]]:
    """How close the renders are to the pictures, what edits do to them, and the renders.

    Args:
        truth: the same portraits with their true latents, if they are known.
    """
    drawn = torch.cat([one.render() for one in people])
    reached = likeness(pipe, drawn, pictures)
    before, after = reader.read(pictures), reader.read(drawn)
    visible = applicable(before.labels)
    kept = [
        float((before.labels[name] == after.labels[name])[visible[name]].float().mean())
        for name in before.labels
        if visible[name].any()
    ]
    success, collateral, count = 0.0, 0.0, 0
    errors = []
    for edit, target in edits.values():
        some = [(edit, edit.strength.default)]
        edited = torch.cat([one.render(some) for one in people])
        if truth:
            wanted = torch.cat([one.render(some) for one in truth])
            errors.append((edited - wanted).square().mean((1, 2, 3)))
        changed = reader.read(edited)
        report = edit_report(before, changed, target)
        if report.count:
            success += report.success * report.count
            collateral += report.collateral * report.count
            count += report.count
    known = [one.identity for one in reached if one.identity is not None]
    # A picture that is reproduced exactly has no finite PSNR.
    finite = [one.psnr for one in reached if math.isfinite(one.psnr)]
    return {
        "psnr": sum(finite) / len(finite) if finite else math.inf,
        "perceptual": sum(one.perceptual for one in reached) / len(reached),
        "identity": sum(known) / len(known) if known else math.nan,
        "kept": sum(kept) / len(kept),
        "edited_psnr": psnr(torch.cat(errors)) if errors else math.nan,
        "success": success / count if count else math.nan,
        "collateral": collateral / count if count else math.nan,
        "edited": float(count),
    }, drawn


def psnr(errors: Float[Tensor, " n"]) -> float:
    """The mean PSNR in dB of pictures in [-1, 1]; infinite if all are exact."""
    inexact = errors[errors > 0]
    return float((10 * torch.log10(4 / inexact)).mean()) if len(inexact) else math.inf


def write(
    config: Config, results: dict[str, dict[str, dict[str, float]]], edits: Sequence[str]
) -> None:
    """Write metrics.json and table.md."""
    content: dict[str, Any] = {
        "pipeline": public_name(config.pipeline),
        "first_seed": UNSEEN_SEED,
        "truncation_psi": config.truncation_psi,
        "edits": list(edits),
        "refinement": asdict(config.refinement),
        "tuning": asdict(config.tuning),
        "results": {
            kind: {
                name: {k: v if math.isfinite(v) else None for k, v in values.items()}
                for name, values in ways.items()
            }
            for kind, ways in results.items()
        },
    }
    (config.output_dir / "metrics.json").write_text(json.dumps(content, indent=1) + "\n")
    lines = [
        f"| portraits | inversion | n | {' | '.join(COLUMNS.values())} |",
        f"|---|---|---|{'---|' * len(COLUMNS)}",
    ]
    for kind, ways in results.items():
        for name, values in ways.items():
            cells = [_cell(values[key], digits) for key, digits in zip(
                COLUMNS, (1, 3, 2, 2, 1, 2, 3, 1), strict=True
            )]  # fmt: skip
            lines.append(f"| {kind} | {name} | {values['images']:.0f} | {' | '.join(cells)} |")
    (config.output_dir / "table.md").write_text("\n".join(lines) + "\n")


def _cell(value: float, digits: int) -> str:
    if math.isinf(value):
        return "exact"
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


if __name__ == "__main__":
    run(main, Config, __doc__, markers=())
