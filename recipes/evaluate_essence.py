"""Compare essences with the baselines of TargetCLIP, and make the figures.

    python recipes/evaluate_essence.py --output_dir runs/essences-evaluated
    python recipes/evaluate_essence.py runs/essence-zuri --output_dir runs/essences-evaluated

Measured on faces that no training has seen: CLIP similarity to the target before and after, how
alike the changes are, identity, and, with the attribute reader, what was taken from the target and
what stayed. Each essence is compared with

- *instant*: the edit that the instant method finds for the same target, without a search (only if
  the pipeline has an instant model);
- *average*: the mean of a face's latent and the target's inversion (only if the pipeline has an
  encoder);
- *CLIP blending*: each face's latent optimized until CLIP sees the mean of face and target.

Writes metrics.json, table.md with the table for docs/results.md, and in images/ the grid of faces
and targets and the baselines.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from command_line import run
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.essence import Essence, target_picture
from stylegan_hub.methods.method import Picture, method_of
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.essence_transfer import essence_report
from stylegan_hub.metrics.judges import judges_for
from stylegan_hub.metrics.method_report import TARGET_NAME
from stylegan_hub.names import bundled, resolve
from stylegan_hub.optimizers import MOMENTUM, EqualSteps
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.steps import ramp
from stylegan_hub.views import random_views, seen_through

COLUMNS = (
    ("target_similarity_before", "CLIP before"),
    ("target_similarity_after", "CLIP after"),
    ("change_consistency", "consistency"),
    ("clean", "clean"),
    ("judged_identity", "identity"),
    ("attributes_taken", "taken"),
    ("attributes_kept", "kept"),
    ("seconds_per_image", "s/image"),
)
METHODS = ("essence", "instant", "average", "CLIP blending")
BLENDING = METHODS[-1]


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    essences: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Folders or bundled names. Empty: all bundled essences."""
    output_dir: Path
    """Folder for numbers and pictures."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str | None = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader."""
    samples: int = 64
    """Number of unseen faces."""
    blended_samples: int = 16
    """Number of those faces for CLIP blending, which runs a search for each."""
    blended_steps: int = 40
    """Steps of each of those searches."""
    columns: int = 7
    """Number of faces in the figures."""


def main(config: Config) -> None:
    folders = [resolve(name, "edit") for name in config.essences] or bundled_essences()
    if not folders:
        raise SystemExit("Got nothing to measure. Give folders of essences, or train one first.")
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    judges = judges_for(pipe, config.reader, None)
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    before = draw(pipe, people)
    result: dict[str, Any] = {
        "samples": config.samples, "blended_samples": config.blended_samples,
        "first_seed": UNSEEN_SEED, "essences": {},
    }  # fmt: skip
    few = slice(config.columns)
    grid, baselines = [torch.ones_like(before[:1]), before[few]], []
    for folder in tqdm(folders, unit="essence"):
        edit = load_edit(folder)
        with Image.open(folder / TARGET_NAME) as picture:
            target = target_picture(pipe, picture)
        rows: dict[str, Any] = {}
        drawn: dict[str, Tensor] = {}
        for method, moved in methods(config, pipe, edit, target).items():
            count = config.blended_samples if method == BLENDING else config.samples
            began = time.perf_counter()
            pictures = draw(pipe, moved(people[:count]))
            seconds = (time.perf_counter() - began) / count
            report = {
                **essence_report(pipe, judges.reader, before[:count], pictures, target),
                **judges.appearance(pipe, before[:count], pictures),
            }
            rows[method] = {k: round(v, 4) for k, v in report.items()}
            rows[method] |= {"images": count, "seconds_per_image": round(seconds, 3)}
            drawn[method] = pictures[few]
        result["essences"][folder.name] = rows
        grid += [target, drawn["essence"]]
        baselines += [padded(torch.cat([target, pictures]), config) for pictures in drawn.values()]
        write(config.output_dir, result)
    sheet = image_files.grid(torch.cat(grid), columns=config.columns + 1)
    image_files.save(sheet, config.output_dir / "images" / "essences.png")
    sheet = image_files.grid(torch.cat(baselines), columns=config.columns + 1)
    image_files.save(sheet, config.output_dir / "images" / "essence-baselines.png")
    print((config.output_dir / "table.md").read_text())


def bundled_essences() -> list[Path]:
    """Folders of the bundled edits that are essences."""
    return [
        folder
        for folder in bundled("edit").values()
        if isinstance(method_of(load_edit(folder).origin), Essence)
    ]


def methods(
    config: Config, pipe: StyleEditPipeline, edit: Edit, target: Tensor
) -> dict[str, Callable[[Latents], Latents]]:
    """The essence and its baselines, each a function from faces to edited faces."""
    found: dict[str, Callable[[Latents], Latents]] = {"essence": edit.apply}
    if pipe.instant is not None:
        found["instant"] = pipe.find(Picture(target), method="instant").apply
    if getattr(pipe, "encoder", None) is not None:
        with torch.no_grad():
            inversion = Latents(Space.W_PLUS, pipe.encoder.encode(target))
        found["average"] = lambda people: people.lerp(inversion.repeat(len(people)), 0.5)
    found[BLENDING] = lambda people: blended(pipe, people, target, config.blended_steps)
    return found


def blended(pipe: StyleEditPipeline, people: Latents, target: Tensor, steps: int) -> Latents:
    """Each face moved until CLIP sees the mean of the face and the target."""
    return Latents.cat(
        [
            Latents(people.space, _blended(pipe, people.codes[i : i + 8], target, steps))
            for i in range(0, len(people), 8)
        ]
    )


def _blended(pipe: StyleEditPipeline, codes: Tensor, target: Tensor, steps: int) -> Tensor:
    units = pipe.units(Space.W_PLUS)
    offset = torch.zeros_like(codes, requires_grad=True)
    optimizer = EqualSteps([offset], lr=0.2, momentum=MOMENTUM)
    draw_views = torch.Generator().manual_seed(0)
    with torch.no_grad():
        before = pipe.encode_image(pipe.synthesize(Latents(Space.W_PLUS, codes)))
        goal = F.normalize(before + pipe.encode_image(target), dim=1)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.2 * ramp(step, steps)
        moved = Latents(Space.W_PLUS, codes + units.to_codes(offset))
        pictures = seen_through(random_views(1, draw_views), pipe.synthesize(moved))
        optimizer.zero_grad()
        (1 - (pipe.encode_image(pictures) * goal).sum(1)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        return codes + units.to_codes(offset)


def padded(row: Tensor, config: Config) -> Tensor:
    """A row of the figure, filled up with white."""
    missing = config.columns + 1 - len(row)
    return torch.cat([row, torch.ones_like(row[:1]).expand(missing, -1, -1, -1)])


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write metrics.json and table.md; the means are over the essences."""
    rows = [
        (name, method, values)
        for name, found in result["essences"].items()
        for method, values in found.items()
    ]
    for method in METHODS:
        of_method = [values for _, found, values in rows if found == method]
        if of_method:
            keys = [key for key, _ in COLUMNS if key in of_method[0]]
            mean = {k: sum(values[k] for values in of_method) / len(of_method) for k in keys}
            result.setdefault("mean", {})[method] = {k: round(v, 4) for k, v in mean.items()}
    rows += [("**mean**", method, values) for method, values in result["mean"].items()]
    lines = [
        f"| target | method | n | {' | '.join(title for _, title in COLUMNS)} |",
        f"|---|---|---|{'---|' * len(COLUMNS)}",
    ]
    for name, method, values in rows:
        cells = (shown(values.get(key)) for key, _ in COLUMNS)
        lines.append(f"| {name} | {method} | {values.get('images', '')} | {' | '.join(cells)} |")
    write_bytes(folder / "metrics.json", (json.dumps(result, indent=2) + "\n").encode())
    write_bytes(folder / "table.md", ("\n".join(lines) + "\n").encode())


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    run(main, Config, __doc__)
