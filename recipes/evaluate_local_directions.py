"""Measure local edits, and repeat the comparison of eCLIPsed's Table 1 with known attributes.

    python recipes/evaluate_local_directions.py --output_dir runs/local-evaluated
    python recipes/evaluate_local_directions.py runs/curly-hair --output_dir runs/local-evaluated

    # also compare W with W+, localization weights, and one face with random faces:
    python recipes/evaluate_local_directions.py --table_1 --output_dir runs/local-evaluated

Measured on faces that no training has seen: share of the squared change inside the region,
perceptual distance outside, success and collateral according to the attribute reader, CLIP score;
for each edit without a limit, and limited to its region by joining pictures or features. Writes
metrics.json, table.md with the tables for docs/results.md, and pictures in images/.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.hub import read_metrics
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.local import Local, Settings
from stylegan_hub.methods.method import Words, method_of
from stylegan_hub.metrics.edit_quality import draw, parse_target
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.judges import Judges, judges_for
from stylegan_hub.metrics.method_report import either_mask, local_report
from stylegan_hub.models.parser import Parser
from stylegan_hub.names import bundled, resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.regions.find import Region, find_region
from stylegan_hub.regions.join import Blend, draw_within

COLUMNS = (
    ("success", "success"),
    ("success_images", "n"),
    ("collateral", "collateral"),
    ("clean", "clean"),
    ("judged_identity", "identity"),
    ("change_inside_region", "change inside"),
    ("distance_outside_region", "distance outside"),
    ("clip_similarity", "CLIP"),
)
PROMPTS: dict[str, str] = {
    "a face with curly hair": "hair_style=curly",
    "a face with blonde hair": "hair_color=blonde",
    "a surprised face with an open mouth": "expression=surprised",
    "a face with glasses": "glasses=yes",
}
DRAWN: dict[str, Blend | None] = {
    "as it is": None, "in its region": "images", "in its region, features": "features",
}  # fmt: skip
_BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    edits: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Folders or bundled names. Empty: all bundled local edits."""
    output_dir: Path
    """Folder for numbers and pictures."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id; the pipeline needs a parser."""
    parser: Path | None = None
    """Folder of a parser, in place of the pipeline's own."""
    reader: str = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader."""
    samples: int = 64
    """Number of unseen faces."""
    table_1: bool = False
    """Search all 7 variants of the comparison; each takes a minute for each prompt."""
    prompts: tuple[str, ...] = tuple(PROMPTS)
    """Texts of the comparison, from the list in this file."""
    steps: int = 60
    """Steps of each search of the comparison."""

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.prompts) - set(PROMPTS)):
            raise ValueError(f"Got the prompts {unknown}; expected some of: {', '.join(PROMPTS)}.")


def main(config: Config) -> None:
    folders = [resolve(name, "edit") for name in config.edits] or bundled_local_edits()
    if not folders and not config.table_1:
        raise SystemExit("Got nothing to measure. Give folders of local edits, or --table_1.")
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    if config.parser is not None:
        own = Parser.from_pretrained(config.parser).eval().requires_grad_(False).to(pipe.device)
        pipe.register_modules(parser=own)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    judges = judges_for(pipe, None, None)
    result: dict[str, Any] = {
        "samples": config.samples, "first_seed": UNSEEN_SEED, "threads": torch.get_num_threads(),
        "edits": {},
    }  # fmt: skip
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    for folder in tqdm(folders, unit="edit"):
        edit, target = load_edit(folder), read_metrics(folder).get("target", {})
        rows: dict[str, Any] = {}
        drawn = [draw(pipe, people[:8])]
        for how, blend in DRAWN.items():
            pictures = edited(pipe, edit, people, edit.strength.default, blend)
            rows[how] = measured(pipe, judges, reader, edit, people, pictures, target)
            drawn.append(pictures[:8])
        result["edits"][folder.name] = rows
        picture = image_files.grid(torch.cat(drawn), columns=8)
        image_files.save(picture, config.output_dir / "images" / f"{folder.name}.png")
        write(config.output_dir, result)
    if config.table_1:
        result["table_1"] = {}
        for prompt in tqdm(config.prompts, unit="prompt"):
            result["table_1"][prompt] = compared(config, pipe, judges, reader, prompt)
            write(config.output_dir, result)
    print((config.output_dir / "table.md").read_text())


def bundled_local_edits() -> list[Path]:
    """Folders of the bundled edits that are local."""
    return [
        folder
        for folder in bundled("edit").values()
        if isinstance(method_of(load_edit(folder).origin), Local)
    ]


@torch.no_grad()
def edited(
    pipe: StyleEditPipeline, edit: Edit, people: Latents, strength: float, blend: Blend | None
) -> Tensor:
    """Pictures after the edit: everywhere, or within its region by joining pictures or features."""
    moved = displaced(pipe, people, [(edit, strength)])
    if blend is None:
        return draw(pipe, moved)
    region = region_of(edit)
    batches = range(0, len(people), _BATCH_SIZE)
    parts = [
        draw_within(pipe, people[i : i + _BATCH_SIZE], moved[i : i + _BATCH_SIZE], region, blend)
        for i in batches
    ]
    return torch.cat(parts)


def region_of(edit: Edit) -> Region:
    """The region that an edit was searched in."""
    training = edit.origin.training
    return Region(training["region"], tuple(training["parts"]), "as stored")


@torch.no_grad()
def measured(
    pipe: StyleEditPipeline,
    judges: Judges,
    reader: AttributeReader,
    edit: Edit,
    people: Latents,
    after: Tensor,
    target: Mapping[str, str],
) -> dict[str, Any]:
    """Success, collateral, where the change is, and the CLIP score."""
    before = draw(pipe, people)
    inside = either_mask(pipe, before, after, region_of(edit))
    inside = 1 - inside if edit.origin.training["background"] else inside
    row: dict[str, Any] = local_report(reader, before, after, inside)
    row |= judges.appearance(pipe, before, after)
    if target:
        report = edit_report(reader.read(before), reader.read(after), target)
        row |= {
            "success": report.success if report.count else None,
            "success_images": report.count,
            "collateral": report.collateral,
        }
    if edit.origin.prompt is not None:
        text = pipe.encode_text(edit.origin.prompt)[0]
        seen = [pipe.encode_image(batch) @ text for batch in after.split(16)]
        row["clip_similarity"] = float(torch.cat(seen).mean())
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def compared(
    config: Config,
    pipe: StyleEditPipeline,
    judges: Judges,
    reader: AttributeReader,
    prompt: str,
) -> dict[str, Any]:
    """The variants of eCLIPsed's Table 1 for one text, on unseen faces.

    An edit that was found on one face is also measured on that face alone.
    """
    base = Settings(steps=config.steps)
    person = pipe.sample(UNSEEN_SEED - 1)
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    request = Words(prompt, region=find_region(pipe, prompt).name)
    variants: dict[str, tuple[Settings, Latents | None]] = {
        "W+, localization 0.05": (base, None),
        "W, localization 0.05": (replace(base, space=Space.W), None),
        "s, localization 0.05": (replace(base, space=Space.S), None),
        "W+, localization 0": (replace(base, localization_lambda=0.0), None),
        "W+, localization 0.2": (replace(base, localization_lambda=0.2), None),
        "W+, localization 1": (replace(base, localization_lambda=1.0), None),
        "one person": (base, person),
    }
    target = parse_target([PROMPTS[prompt]])
    rows: dict[str, Any] = {}
    drawn = [draw(pipe, people[:8])]
    for name, (settings, given) in variants.items():
        began = time.perf_counter()
        edit = pipe.find(request, given, method="local", settings=settings)
        seconds = round(time.perf_counter() - began, 1)
        pictures = edited(pipe, edit, people, 1.0, None)
        rows[name] = measured(pipe, judges, reader, edit, people, pictures, target)
        rows[name]["seconds_to_find"] = seconds
        drawn.append(pictures[:8])
        if given is None:
            continue
        own = edited(pipe, edit, given, 1.0, None)
        rows[f"{name}, on that person"] = measured(pipe, judges, reader, edit, given, own, target)
    picture = image_files.grid(torch.cat(drawn), columns=8)
    name = f"table-1-{prompt.replace(' ', '-')}.png"
    image_files.save(picture, config.output_dir / "images" / name)
    return rows


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write metrics.json and table.md."""
    lines: list[str] = []
    if result["edits"]:
        rows = [
            (f"{name} | {how}", values)
            for name, found in result["edits"].items()
            for how, values in found.items()
        ]
        for how in DRAWN:
            rows.append((f"mean | {how}", mean([found[how] for found in result["edits"].values()])))
        lines += table("edit | drawn", rows, COLUMNS)
    if result.get("table_1"):
        found = list(result["table_1"].values())
        means = {variant: mean([rows[variant] for rows in found]) for variant in found[0]}
        result["table_1_mean"] = means
        columns = (*COLUMNS, ("seconds_to_find", "seconds"))
        lines += ["", f"Means over {len(found)} prompts.", ""] if lines else []
        lines += table("variant", list(means.items()), columns)
    write_bytes(folder / "metrics.json", (json.dumps(result, indent=2) + "\n").encode())
    write_bytes(folder / "table.md", ("\n".join(lines) + "\n").encode())


def mean(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Means over the texts that have a number."""
    keys = dict.fromkeys(key for row in rows for key in row)
    values = {key: [row[key] for row in rows if row.get(key) is not None] for key in keys}
    return {key: round(sum(v) / len(v), 4) for key, v in values.items() if v}


def table(
    first: str, rows: Sequence[tuple[str, Mapping[str, Any]]], columns: Sequence[tuple[str, str]]
) -> list[str]:
    """Rows of a table in Markdown."""
    cells = first.count("|") + 1 + len(columns)
    lines = [f"| {first} | {' | '.join(title for _, title in columns)} |", f"|{'---|' * cells}"]
    for name, values in rows:
        shown = (values.get(key) for key, _ in columns)
        texts = ("-" if v is None else f"{v:.3g}" for v in shown)
        lines.append(f"| {name} | {' | '.join(texts)} |")
    return lines


if __name__ == "__main__":
    run(main, Config, __doc__)
