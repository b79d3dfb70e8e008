"""Measure latent optimization: success, collateral change and time over many prompts.

    python recipes/evaluate_optimization.py --output_dir runs/optimization

Faces that no training has seen are judged by what no search uses: the attribute reader, the critic
and a second recognizer. Writes metrics.json, a table (table.md) and a sheet of pictures
(pictures.webp); docs/results.md shows them.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import torch
from command_line import run
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import PUBLISHED, Settings, displacements
from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.judges import judges_for
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

COLUMNS = {
    "success": ("success", ".2f"),
    "collateral": ("collateral", ".3f"),
    "clean": ("clean", ".2f"),
    "judged_identity": ("identity", ".2f"),
    "clip_gain": ("CLIP gain", "+.2f"),
    "seconds": ("seconds", ".1f"),
}
"""Titles and formats of the table's columns."""
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
    judges = judges_for(pipe, None, None)
    settings = PUBLISHED if config.published else config.settings
    rows: dict[str, dict[str, object]] = {}
    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    batches = [people[i : i + config.batch_size] for i in range(0, len(people), config.batch_size)]
    with torch.no_grad():
        before = pipe.synthesize(people)
    read_before = reader.read(before)
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
        report = edit_report(read_before, reader.read(after), PROMPTS[prompt])
        rows[prompt] = {
            **asdict(report),
            "clip_gain": float(gain.mean()),
            **judges.appearance(pipe, before, after),
            "seconds": seconds,
        }
        pictures[prompt] = after[:SHOWN]
        sheet = image_files.labelled(pictures, size=80)
        image_files.save(sheet, config.output_dir / "pictures.webp", image_files.SHEET_QUALITY)
        tqdm.write(f"{prompt:32} success {report.success:.2f} of {report.count:2d}, "
                   f"collateral {report.collateral:.3f}, {seconds:.1f} s")  # fmt: skip
        write(config.output_dir, rows, settings, config)


def write(
    folder: Path, rows: dict[str, dict[str, object]], settings: Settings, config: Config
) -> None:
    """Write metrics.json and table.md."""
    rated = [key for key in COLUMNS if all(key in row for row in rows.values())]
    mean = {key: sum(float(str(row[key])) for row in rows.values()) / len(rows) for key in rated}
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
        f"| prompt | n | {' | '.join(COLUMNS[key][0] for key in rated)} |",
        f"|---|---|{'---|' * len(rated)}",
    ]
    for prompt, row in [*rows.items(), ("**mean**", {**mean, "count": ""})]:
        cells = [format(row[key], COLUMNS[key][1]) for key in rated]
        lines.append(f"| {prompt} | {row['count']} | {' | '.join(cells)} |")
    (folder / "table.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    run(main, Config, __doc__)
