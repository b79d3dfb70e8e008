"""Measure the sliders that `discovery` finds for the drawn portraits, and their names.

    python recipes/evaluate_discovery.py --output_dir runs/discovery

Unseen faces are moved to both ends of every slider. The attribute reader, which is independent of
CLIP, says which attributes differ between the ends. A name is confirmed if, for each of its words
that the reader knows, the share of faces that show it is at least `needed` higher at its own end
than at the other.

Writes metrics.json, table.md with the table for docs/results.md, and the picture discovery.webp.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from command_line import run
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.methods import get
from stylegan_hub.methods.method import Nothing, caption
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.judges import READER
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader

_OWN_WORDS = {
    "a bald head": ("hair_style", "bald"),
    "a bob cut": ("hair_style", "bob"),
    "a mohawk": ("hair_style", "mohawk"),
    "an afro": ("hair_style", "afro"),
    "tanned skin": ("skin", "medium"),
    "a beard": ("beard", "yes"),
    "a hat": ("hat", "yes"),
    "calm": ("expression", "neutral"),
    "turned to the left": ("pose", "left"),
    "turned to the right": ("pose", "right"),
    "looking to the left": ("gaze", "left"),
    "looking to the right": ("gaze", "right"),
}
_PHRASES = {
    "hair_style": "{} hair", "hair_color": "{} hair", "skin": "{} skin", "eye_color": "{} eyes",
    "background": "a {} background", "clothes": "{} clothes", "expression": "{}", "age": "{}",
    "face_width": "{}",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output_dir: Path
    """Folder for numbers and pictures."""
    region: str | None = None
    """Measure only sliders that change this part of the picture."""
    preset: str = "default"
    """Settings of the method."""
    samples: int = 64
    """Number of unseen faces."""
    needed: float = 0.2
    """Difference of the two ends' shares of faces that confirms a word."""
    shown: int = 12
    """Number of sliders in the picture."""


@torch.no_grad()
def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained("portraits")
    reader = AttributeReader.from_pretrained(resolve(READER, "model")).eval().to(pipe.device)
    pipe.units("w")  # measured once for a pipeline
    began = time.process_time()
    request = Nothing(config.region)
    edits = get("discovery").find_all(pipe, request, settings=config.preset)
    seconds = time.process_time() - began
    print(f"{len(edits)} sliders in {seconds:.1f} s of one core", flush=True)
    faces = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + config.samples))
    rows: list[dict[str, Any]] = []
    shown: dict[str, Tensor] = {}
    for edit in edits:
        ends = [draw(pipe, moved(pipe, edit, faces, strength)) for strength in (-1.0, 1.0)]
        rows.append(row(edit, *(shares(reader, images) for images in ends), config.needed))
        print(rows[-1], flush=True)
        few = faces[:2]
        steps = [draw(pipe, moved(pipe, edit, few, s)) for s in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        shown[caption(edit)] = torch.stack(steps, 1).flatten(0, 1)
        write(config, seconds, rows)
        sheet = dict(list(shown.items())[: config.shown])
        picture = image_files.labelled(sheet, 72)
        image_files.save(picture, config.output_dir / "discovery.webp", image_files.SHEET_QUALITY)
    print((config.output_dir / "table.md").read_text())


def moved(pipe: StyleEditPipeline, edit: Edit, faces: Latents, strength: float) -> Latents:
    """Faces with a slider at a given strength."""
    return displaced(pipe, faces, [(edit, strength)])


def shares(reader: AttributeReader, images: Tensor) -> dict[tuple[str, str], float]:
    """The share of pictures that show each value of each attribute."""
    labels = reader.read(images).labels
    return {
        (name, value): float((labels[name] == index).float().mean())
        for name, values in ATTRIBUTES.items()
        for index, value in enumerate(values)
    }


def row(
    edit: Edit,
    low: dict[tuple[str, str], float],
    high: dict[tuple[str, str], float],
    needed: float,
) -> dict[str, Any]:
    """What was found, and what the reader says about both ends."""
    gains = {key: high[key] - low[key] for key in high}
    left, _, right = caption(edit).partition(" ↔ ")
    said = {word: attribute_of(word) for word in (left, right) if attribute_of(word) is not None}
    seen = {word: gains[key] * (1 if word == right else -1) for word, key in said.items() if key}
    training = edit.origin.training
    return {
        "name": caption(edit),
        **{k: training[k] for k in ("source", "layers", "component", "confidence")},
        **{k: training[k] for k in ("amount", "consistency")},
        "seen": {word: round(gain, 3) for word, gain in seen.items()},
        "confirmed": all(gain >= needed for gain in seen.values()) if seen else None,
        "left_gains_most": most(gains, -1),
        "right_gains_most": most(gains, 1),
    }


def most(gains: dict[tuple[str, str], float], sign: int) -> str:
    """The value whose share rises most towards one end, and by how much."""
    attribute, value = max(gains, key=lambda key: sign * gains[key])
    return f"{attribute}={value} {sign * gains[attribute, value]:.2f}"


def attribute_of(word: str) -> tuple[str, str] | None:
    """The attribute and value that a word of the bank names."""
    if word.startswith("no "):
        opposite = attribute_of(word.removeprefix("no ")) or attribute_of(f"a {word[3:]}")
        return None if opposite is None else (opposite[0], "no")
    if word in _OWN_WORDS:
        return _OWN_WORDS[word]
    if (name := word) in ATTRIBUTES and ATTRIBUTES[name] == ("no", "yes"):
        return name, "yes"
    for attribute, phrase in _PHRASES.items():
        for value in ATTRIBUTES[attribute]:
            if phrase.format(value) == word:
                return attribute, value
    return None


def write(config: Config, seconds: float, rows: list[dict[str, Any]]) -> None:
    """Write metrics.json and table.md."""
    judged = [one for one in rows if one["confirmed"] is not None]
    named = [one for one in rows if one["confidence"] is not None]
    result = {
        "settings": asdict(config) | {"output_dir": config.output_dir.name},
        "seconds": round(seconds, 1),
        "sliders": len(rows),
        "named": len(named),
        "judged": len(judged),
        "confirmed": sum(one["confirmed"] for one in judged),
        "rows": rows,
    }
    write_bytes(config.output_dir / "metrics.json", (json.dumps(result, indent=2) + "\n").encode())
    lines = [
        "| slider | from | CLIP cosine | amount | consistency | words seen | confirmed "
        "| left end gains | right end gains |",
        f"|{'---|' * 9}",
    ]
    for one in rows:
        confidence = "-" if one["confidence"] is None else f"{one['confidence']:.2f}"
        seen = ", ".join(f"{gain:+.2f}" for gain in one["seen"].values()) or "-"
        verdict = {True: "yes", False: "no", None: "-"}[one["confirmed"]]
        lines.append(
            f"| {one['name']} | {one['source']} {one['component']}, {one['layers']} | {confidence} "
            f"| {one['amount']:.2f} | {one['consistency']:.2f} | {seen} | {verdict} "
            f"| {one['left_gains_most']} | {one['right_gains_most']} |"
        )
    write_bytes(config.output_dir / "table.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    run(main, Config, __doc__)
