"""Measure latent optimization: success, collateral change and time over many prompts.

    python recipes/evaluate_optimization.py --output_dir runs/optimization

The attribute reader judges faces that no training has seen. Writes metrics.json, a table (table.md)
and a sheet of pictures (pictures.webp); docs/results.md shows them.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import PUBLISHED, Settings, displacements
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.names import public_name, resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import character_labels
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader

PROMPTS: dict[str, dict[str, str]] = {
    "a face with purple hair": {"hair_color": "purple"},
    "a face with blonde hair": {"hair_color": "blonde"},
    "a face with red hair": {"hair_color": "red"},
    "a face with grey hair": {"hair_color": "grey"},
    "a face with a mohawk": {"hair_style": "mohawk"},
    "a face with an afro": {"hair_style": "afro"},
    "a face with long hair": {"hair_style": "long"},
    "a face with curly hair": {"hair_style": "curly"},
    "a face with a bob cut": {"hair_style": "bob"},
    "a face with spiky hair": {"hair_style": "spiky"},
    "a bald person": {"hair_style": "bald"},
    "a person with a beard": {"beard": "yes"},
    "a person with glasses": {"glasses": "yes"},
    "a person wearing a hat": {"hat": "yes"},
    "a smiling face": {"expression": "smiling"},
    "a sad face": {"expression": "sad"},
    "an angry face": {"expression": "angry"},
    "a surprised face": {"expression": "surprised"},
    "a face with blue eyes": {"eye_color": "blue"},
    "a face with green eyes": {"eye_color": "green"},
    "a face with red lipstick": {"lipstick": "yes"},
    "a face with freckles": {"freckles": "yes"},
    "an old person with wrinkles": {"age": "old"},
    "a person with dark skin": {"skin": "dark"},
    "Milo": character_labels("Milo"),
    "Zuri": character_labels("Zuri"),
    "Captain Otto": character_labels("Captain Otto"),
    "Nana Pearl": character_labels("Nana Pearl"),
}

SHOWN = 8  # faces on the sheet of pictures


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output_dir: Path
    """Folder for numbers and pictures."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader."""
    samples: int = 32
    """Number of unseen faces per prompt."""
    batch_size: int = 8
    """Number of faces that are edited together, each with its own displacement."""
    prompts: tuple[str, ...] = ()
    """Measure only these prompts of the list. Empty: all."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """bf16 searches in half precision, about twice as fast on processors that support it."""
    published: bool = False
    """Use the official code's settings instead of the defaults."""
    settings: Settings = field(default_factory=Settings)
    """Settings of the search."""


def main(config: Config) -> None:
    config.output_dir.mkdir(parents=True, exist_ok=True)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    settings = PUBLISHED if config.published else config.settings
    rows: dict[str, dict[str, object]] = {}
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    batches = [people[i : i + config.batch_size] for i in range(0, len(people), config.batch_size)]
    with torch.no_grad():
        before = pipe.synthesize(people)
    pictures = {"before": before[:SHOWN]}
    for prompt in tqdm(config.prompts or PROMPTS):
        started = time.perf_counter()
        half = config.mixed_precision == "bf16"
        with torch.autocast(pipe.device.type, torch.bfloat16, enabled=half):
            parts = [displacements(pipe, Words(prompt), batch, settings) for batch in batches]
        moved = torch.cat(parts)
        seconds = (time.perf_counter() - started) / config.samples
        start = pipe.lower(people, settings.space).codes
        with torch.no_grad():
            after = pipe.synthesize(Latents(settings.space, start + moved))
            text = pipe.encode_text(prompt)
            gain = (pipe.encode_image(after) - pipe.encode_image(before)) @ text.T
        report = edit_report(reader.read(before), reader.read(after), PROMPTS[prompt])
        rows[prompt] = {
            **asdict(report),
            "clip_gain": float(gain.mean()),
            "identity": identity(pipe, before, after),
            "seconds": seconds,
        }
        pictures[prompt] = after[:SHOWN]
        sheet = image_files.labelled(pictures, size=80)
        image_files.save(sheet, config.output_dir / "pictures.webp", image_files.SHEET_QUALITY)
        tqdm.write(f"{prompt:32} success {report.success:.2f} of {report.count:2d}, "
                   f"collateral {report.collateral:.3f}, {seconds:.1f} s")  # fmt: skip
        write(config.output_dir, rows, settings, config)


def identity(pipe: StyleEditPipeline, before: Tensor, after: Tensor) -> float:
    """Mean similarity of the faces before and after; NaN without a recognizer."""
    if pipe.recognizer is None:
        return float("nan")
    return float(identity_similarity(pipe.recognizer, before, after).mean())


def write(
    folder: Path, rows: dict[str, dict[str, object]], settings: Settings, config: Config
) -> None:
    """Write metrics.json and table.md."""
    keys = ("success", "collateral", "clip_gain", "identity", "seconds")
    mean = {key: sum(float(str(row[key])) for row in rows.values()) / len(rows) for key in keys}
    result = {
        "pipeline": public_name(config.pipeline),
        "samples": config.samples,
        "first_seed": UNSEEN_SEED,
        "settings": asdict(settings),
        "mean": mean,
        "prompts": rows,
    }
    (folder / "metrics.json").write_text(json.dumps(result, indent=1))
    lines = [
        "| prompt | success | n | collateral | identity | CLIP gain | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for prompt, row in rows.items():
        lines.append(
            f"| {prompt} | {row['success']:.2f} | {row['count']} | {row['collateral']:.3f} "
            f"| {row['identity']:.2f} | {row['clip_gain']:+.2f} | {row['seconds']:.1f} |"
        )
    lines.append(
        f"| **mean** | **{mean['success']:.2f}** | | **{mean['collateral']:.3f}** "
        f"| **{mean['identity']:.2f}** | **{mean['clip_gain']:+.2f}** | **{mean['seconds']:.1f}** |"
    )
    (folder / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    run(main, Config, __doc__)
