"""Compare what the critic calls clean with what the eye called clean.

    python recipes/evaluate_clean.py --output_dir runs/clean

recipes/looked_at.json has 200 edited portraits and whether each looked clean, that is, free of
ghosts, halos, neon colors and broken features. The verdicts were written down before any critic was
asked. There are five kinds of edits: words with the instant method, the same at 1.5 to 2 times the
strength, words with the direction table, two texts at once, and bundled edits.

Writes metrics.json, table.md for docs/results.md and sheet.webp, on which the pictures about which
eye and critic disagree come first.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.methods.fit import PoorFitWarning
from stylegan_hub.metrics.clean import clean_limit
from stylegan_hub.metrics.judges import judges_for
from stylegan_hub.pipeline import StyleEditPipeline

LOOKED_AT = Path(__file__).parent / "looked_at.json"
SHOWN = 60
_PSI = 0.7


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to compare."""

    output_dir: Path
    """Folder for numbers and the sheet."""
    looked_at: Path = LOOKED_AT
    """A list of {"seed": ..., "edits": [...], "clean": true or false}."""


@torch.no_grad()
def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained("portraits")
    judges = judges_for(pipe, None, None)
    rows = json.loads(config.looked_at.read_text())
    warnings.simplefilter("ignore", PoorFitWarning)
    pictures = torch.cat([picture(pipe, row) for row in tqdm(rows, unit="picture", disable=None)])
    assert judges.critic is not None
    limit = clean_limit(judges.unedited(pipe, _PSI))
    called = judges.critic.score(pictures) > limit
    looked = torch.tensor([row["clean"] for row in rows])
    kinds = [kind_of(row) for row in rows]
    found = {
        kind: compared(looked[chosen], called[chosen])
        for kind in [*dict.fromkeys(kinds), "all"]
        if (chosen := torch.tensor([kind in (each, "all") for each in kinds])).any()
    }
    order = (looked == called).int().argsort(stable=True)[:SHOWN]
    write(config.output_dir, found, pictures[order])


def picture(pipe: StyleEditPipeline, row: dict[str, Any]) -> Tensor:
    """The edited portrait `[1, 3, h, w]`."""
    face = pipe.sample(row["seed"], _PSI)
    moves = [(edit_of(pipe, asked, face), asked["strength"]) for asked in row["edits"]]
    return pipe.synthesize(displaced(pipe, face, moves)).clamp(-1, 1)


def edit_of(pipe: StyleEditPipeline, asked: dict[str, Any], face: Latents) -> Edit:
    """A bundled edit, or the one that a method finds for words."""
    if "edit" in asked:
        return load_edit(asked["edit"])
    return pipe.find(asked["text"], face, method=asked["method"])


def kind_of(row: dict[str, Any]) -> str:
    """The kind of a row's edits, as table.md words it."""
    first, *more = row["edits"]
    if more:
        return "two texts at once, instant"
    if "edit" in first:
        return "bundled edits"
    strong = ", at strength 1.5 to 2" if first["strength"] > 1 else ""
    return f"words, {first['method']}{strong}"


def compared(looked: Tensor, called: Tensor) -> dict[str, float]:
    """Shares of clean pictures by eye and critic, and how often both agree."""
    return {
        "pictures": len(looked),
        "eye": round(float(looked.float().mean()), 3),
        "critic": round(float(called.float().mean()), 3),
        "agreement": round(float((looked == called).float().mean()), 3),
        "accepted": round(float(called[looked].float().mean()), 3),
        "refused": round(float((~called[~looked]).float().mean()), 3),
    }


def write(folder: Path, found: dict[str, dict[str, float]], pictures: Tensor) -> None:
    """Write metrics.json, table.md and sheet.webp."""
    columns = {
        "pictures": "n", "eye": "clean, eye", "critic": "clean, critic", "agreement": "agreement",
        "accepted": "clean ones accepted", "refused": "others refused",
    }  # fmt: skip
    lines = [f"| edits | {' | '.join(columns.values())} |", f"|---|{'---|' * len(columns)}"]
    for kind, numbers in found.items():
        cells = [
            f"{numbers[key]:g}" if key == "pictures" else f"{numbers[key]:.2f}" for key in columns
        ]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    write_bytes(folder / "metrics.json", (json.dumps(found, indent=1) + "\n").encode())
    write_bytes(folder / "table.md", ("\n".join(lines) + "\n").encode())
    sheet = image_files.grid(image_files.resize(pictures, 128), columns=10)
    image_files.save(sheet, folder / "sheet.webp", image_files.SHEET_QUALITY)
    print("\n".join(lines))


if __name__ == "__main__":
    run(main, Config, __doc__)
