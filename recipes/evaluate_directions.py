r"""Measure global directions from a table and from gradients, over many texts.

    python recipes/evaluate_directions.py --output_dir runs/directions-evaluated \
        --table runs/directions/direction_table

    # also measure how success and collateral depend on the number of channels and on alpha:
    python recipes/evaluate_directions.py --output_dir runs/directions-evaluated \
        --sweep_channels 10 20 50 100 200 --sweep_alphas 2 4 6 8

The attribute reader judges faces that no training has seen. Writes metrics.json, table.md with the
tables for docs/results.md, and pictures in images/: for each method a row of eight faces for each
text, and the grid of alpha and threshold of the paper's Figure 6.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.methods.gradient import Settings
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.prompt_bank import text_change
from stylegan_hub.methods.table import DirectionTable, load_directions
from stylegan_hub.metrics.edit_quality import SHOWN, draw
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.judges import Judges, judges_for
from stylegan_hub.names import public_name, resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader, Reading

TEXTS: dict[str, dict[str, str]] = {
    "a face with purple hair": {"hair_color": "purple"},
    "a face with blonde hair": {"hair_color": "blonde"},
    "a face with grey hair": {"hair_color": "grey"},
    "a face with an afro": {"hair_style": "afro"},
    "a face with a mohawk": {"hair_style": "mohawk"},
    "a face with long hair": {"hair_style": "long"},
    "a face with curly hair": {"hair_style": "curly"},
    "a bald face": {"hair_style": "bald"},
    "a face with a beard": {"beard": "yes"},
    "a face with glasses": {"glasses": "yes"},
    "a face with a hat": {"hat": "yes"},
    "a smiling face": {"expression": "smiling"},
    "a sad face": {"expression": "sad"},
    "an angry face": {"expression": "angry"},
    "a surprised face": {"expression": "surprised"},
    "a face with blue eyes": {"eye_color": "blue"},
    "a face with green eyes": {"eye_color": "green"},
    "a face with red lipstick": {"lipstick": "yes"},
    "a face with freckles": {"freckles": "yes"},
    "an old face": {"age": "old"},
    "a face with dark skin": {"skin": "dark"},
    "a wide face": {"face_width": "wide"},
}
METHODS = ("table", "gradient")
COLUMNS = {
    "success": "success",
    "collateral": "collateral",
    "clean": "clean",
    "judged_identity": "identity",
    "seconds_to_find": "seconds",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output_dir: Path
    """Folder for numbers and pictures."""
    table: str = "portraits-directions"
    """Bundled name, folder or Hub id of the direction table."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader."""
    samples: int = 128
    """Number of unseen faces per text."""
    texts: tuple[str, ...] = ()
    """Measure only these texts of the list. Empty: all."""
    neutral: str = "a face"
    """What the pictures show before the edit."""
    gradient: Settings = field(default_factory=Settings)
    """How directions are found without a table."""
    grid_text: str = "a face with purple hair"
    """Text whose alphas and thresholds are shown as a grid."""
    grid_alphas: tuple[float, ...] = (-8.0, -4.0, 0.0, 4.0, 8.0)
    """Alphas of the rows of the grid."""
    grid_channels: tuple[int, ...] = (200, 100, 50, 20, 5)
    """Numbers of channels that the columns' thresholds keep."""
    sweep_channels: tuple[int, ...] = ()
    """Numbers of channels to compare, each with each of sweep_alphas."""
    sweep_alphas: tuple[float, ...] = ()
    """Values of alpha to compare."""
    sweep_samples: int = 32
    """Number of unseen faces per text of the comparison."""

    def __post_init__(self) -> None:
        if unknown := sorted({*self.texts, self.grid_text} - set(TEXTS)):
            raise ValueError(f"Got the texts {unknown}; expected some of: {', '.join(TEXTS)}.")


@dataclass(frozen=True)
class Faces:
    """The faces on which every text is measured, and what the reader sees in them before."""

    latents: Latents
    pictures: Tensor
    reading: Reading


def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    judges = judges_for(pipe, None, None)
    table = load_directions(config.table)
    texts = config.texts or tuple(TEXTS)
    result: dict[str, Any] = {
        "table": public_name(config.table),
        "samples": config.samples,
        "first_seed": UNSEEN_SEED,
        "neutral": config.neutral,
    }
    if config.sweep_channels and config.sweep_alphas:
        result["sweep"] = sweep(config, pipe, reader, table, texts)
    result["grid"] = grid(config, pipe, table)
    result["texts"] = {}
    latents = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    pictures = draw(pipe, latents)
    faces = Faces(latents, pictures, reader.read(pictures))
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + SHOWN))
    sheets = {method: {"before": draw(pipe, people)} for method in METHODS}
    for text in tqdm(texts):
        row, found = compare(config, pipe, judges, reader, table, text, faces)
        result["texts"][text] = row
        for method, edit in found.items():
            sheets[method][text] = draw(pipe, displaced(pipe, people, [(edit, 1.0)]))
            sheet = image_files.labelled(sheets[method], size=80)
            image_files.save(
                sheet, config.output_dir / "images" / f"{method}.webp", image_files.SHEET_QUALITY
            )
        tqdm.write(
            f"{text:28} "
            + ", ".join(
                f"{method} {shown(row[method]['success'])} at {row[method]['collateral']:.3f}"
                for method in METHODS
            )
            + f", cosine {row['cosine']:.2f}"
        )
        write(config.output_dir, result)


def compare(
    config: Config,
    pipe: StyleEditPipeline,
    judges: Judges,
    reader: AttributeReader,
    table: DirectionTable,
    text: str,
    faces: Faces,
) -> tuple[dict[str, Any], dict[str, Direction]]:
    """Both directions for a text, the quality of each, and how close they are."""
    row: dict[str, Any] = {}
    found: dict[str, Direction] = {}
    for method in METHODS:
        began = time.perf_counter()
        if method == "table":
            edit = table.direction(pipe, text, config.neutral)
        else:
            request = Words(text, config.neutral)
            edit = pipe.find(request, method="gradient", settings=config.gradient)
        seconds = round(time.perf_counter() - began, 2)
        after = draw(pipe, displaced(pipe, faces.latents, [(edit, 1.0)]))
        report = edit_report(faces.reading, reader.read(after), TEXTS[text])
        row[method] = {
            **asdict(report),
            "success": report.success if report.count else None,
            **judges.appearance(pipe, faces.pictures, after),
            "seconds_to_find": seconds,
        }
        found[method] = edit
    # Compared in standard deviations of each channel, over the channels that both may move.
    unit = table.s_std[table.index].clamp_min(1e-8)
    moved = {method: edit.vector[table.index] / unit for method, edit in found.items()}
    relevance = table.project(text_change(pipe, text, config.neutral))
    cosine = torch.cosine_similarity(moved["table"], moved["gradient"], dim=0)
    row["cosine"] = round(float(cosine), 4)
    row["rank_correlation"] = round(rank_correlation(relevance, moved["gradient"]), 4)
    return row, found


def sweep(
    config: Config,
    pipe: StyleEditPipeline,
    reader: AttributeReader,
    table: DirectionTable,
    texts: Sequence[str],
) -> list[dict[str, float]]:
    """Mean success and collateral of the table's directions by channels and alpha."""
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.sweep_samples))
    before = reader.read(draw(pipe, people))
    rows = []
    for channels in config.sweep_channels:
        for alpha in config.sweep_alphas:
            reports = []
            for text in texts:
                edit = table.direction(pipe, text, config.neutral, channels=channels, alpha=alpha)
                after = reader.read(draw(pipe, displaced(pipe, people, [(edit, 1.0)])))
                reports.append(edit_report(before, after, TEXTS[text]))
            counted = [report for report in reports if report.count]
            row = {
                "channels": channels,
                "alpha": alpha,
                "success": round(sum(r.success for r in counted) / len(counted), 4),
                "collateral": round(sum(r.collateral for r in counted) / len(counted), 4),
            }
            tqdm.write(", ".join(f"{name} {value}" for name, value in row.items()))
            rows.append(row)
    return rows


def grid(config: Config, pipe: StyleEditPipeline, table: DirectionTable) -> dict[str, Any]:
    """Write images/alpha-beta.webp: one face, a row for each alpha, a column for each threshold."""
    relevance = table.project(text_change(pipe, config.grid_text, config.neutral)).abs()
    counts = [min(count, len(relevance)) for count in config.grid_channels]
    thresholds = [float(relevance.topk(count).values[-1]) for count in counts]
    edits = [
        table.direction(pipe, config.grid_text, config.neutral, threshold, alpha=1.0)
        for threshold in thresholds
    ]
    person = pipe.sample(UNSEEN_SEED)
    cells = [
        draw(pipe, displaced(pipe, person, [(edit, alpha)]))
        for alpha in config.grid_alphas
        for edit in edits
    ]
    picture = image_files.grid(torch.cat(cells), columns=len(edits))
    image_files.save(
        picture, config.output_dir / "images" / "alpha-beta.webp", image_files.SHEET_QUALITY
    )
    return {
        "text": config.grid_text,
        "seed": UNSEEN_SEED,
        "alphas": config.grid_alphas,
        "thresholds": [round(threshold, 4) for threshold in thresholds],
        "channels": counts,
    }


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """Spearman's rank correlation of two vectors without ties."""
    ranks = torch.stack([values.argsort().argsort().double() for values in (first, second)])
    return float(torch.corrcoef(ranks)[0, 1])


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write metrics.json and table.md; the means are over the texts."""
    rows = result["texts"]
    any_row = next(iter(rows.values()))["table"]
    rated = [key for key in COLUMNS if key in any_row]
    keys = [(method, key) for method in METHODS for key in rated]
    mean: dict[str, Any] = {method: {} for method in METHODS}
    for method, key in keys:
        values = [row[method][key] for row in rows.values() if row[method][key] is not None]
        mean[method][key] = round(sum(values) / len(values), 4) if values else None
    for key in ("cosine", "rank_correlation"):
        mean[key] = round(sum(row[key] for row in rows.values()) / len(rows), 4)
    result["mean"] = mean
    titles = [f"{method}: {' | '.join(COLUMNS[key] for key in rated)}" for method in METHODS]
    lines = [
        f"| text | n | {' | '.join(titles)} | cosine | rank correlation |",
        f"|---|---|{'---|' * len(keys)}---|---|",
    ]
    for text, row in [*rows.items(), ("**mean**", mean)]:
        numbers = [shown(row[method][key]) for method, key in keys]
        count = row["table"].get("count", "")
        lines.append(
            f"| {text} | {count} | {' | '.join(numbers)} | {row['cosine']:.2f} "
            f"| {row['rank_correlation']:.2f} |"
        )
    shape = result["grid"]
    lines += [
        "",
        f'![Alpha and threshold](images/alpha-beta.webp) "{shape["text"]}", seed {shape["seed"]}: '
        f"rows alpha {', '.join(f'{alpha:g}' for alpha in shape['alphas'])}; columns threshold "
        f"{', '.join(f'{threshold:.3f}' for threshold in shape['thresholds'])} "
        f"({', '.join(map(str, shape['channels']))} channels).",
    ]
    if "sweep" in result:
        lines += ["", "| channels | alpha | success | collateral |", "|---|---|---|---|"]
        lines += [
            f"| {row['channels']} | {row['alpha']:g} | {row['success']:.2f} "
            f"| {row['collateral']:.3f} |"
            for row in result["sweep"]
        ]
    write_bytes(folder / "metrics.json", (json.dumps(result, indent=2) + "\n").encode())
    write_bytes(folder / "table.md", ("\n".join(lines) + "\n").encode())


def shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    run(main, Config, __doc__)
