"""All measurements of one edit, and its pictures: `metrics.json` and `images/` in its folder.

Every number is a mean over the given seeds and follows from them, so it can be reproduced; only the
time depends on the machine. The attribute reader decides whether an edit succeeds (`edit_success`).
The similarity to the words in CLIP is recorded, but no judgment is based on it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_metrics
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.metrics.edit_success import edit_report, reports_by_group
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.metrics.judges import Judges
from stylegan_hub.metrics.method_report import method_report
from stylegan_hub.metrics.slider import slider_report
from stylegan_hub.metrics.step_cosine import step_cosine
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import (
    ATTRIBUTES,
    CHARACTERS,
    character_labels,
    label_index,
)

SHOWN = 8
"""Number of faces in the pictures of an edit."""
GROUPED = ("skin", "age")
"""Attributes by whose value before the edit success is counted too; see docs/responsible-use.md."""

_BATCH_SIZE = 16
_TIMED_EDITS = 8
_SLID = 8  # faces on which the whole slider is rendered


def parse_target(texts: Sequence[str]) -> dict[str, str]:
    """Parse a target of the command line: ("hat=yes", "glasses=yes") gives {"hat": "yes", ...}.

    "character=Zuri" stands for all attributes that are fixed for this named character.

    Raises:
        ValueError: another form, or an attribute, value or name that no portrait has.
    """
    target: dict[str, str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name == "character" and value in CHARACTERS:
            target.update(character_labels(value))
            continue
        if value not in ATTRIBUTES.get(name, ()):
            known = "; ".join(
                f"{name}={'|'.join(values)}"
                for name, values in {"character": CHARACTERS, **ATTRIBUTES}.items()
            )
            raise ValueError(f"Got the target {text!r}; expected one or several of: {known}.")
        target[name] = value
    return target


@torch.no_grad()
def measure_edit(
    pipe: StyleEditPipeline,
    judges: Judges,
    edit: Edit,
    target: Mapping[str, str],
    seeds: Sequence[int],
    strength: float | None = None,
    truncation_psi: float = 0.7,
) -> dict[str, Any]:
    """Edit the faces with these seeds and measure the result.

    Args:
        judges: without a reader for pictures other than drawn portraits.
        target: attributes and values that the edit asks for; empty without a reader.
        seeds: at least two; the edit must not have been trained on them.
        strength: the edit's default when None.

    Returns:
        The content of `metrics.json` in the edit's folder. Shares and cosines are rounded to 4
        places.

        - images, first_seed, truncation_psi, strength: how it was measured;
        - target, success, success_images (the number of faces that lacked the target; success is a
            share of them, and None if there are none), collateral, flips: see `EditReport`; with a
            reader;
        - by_skin, by_age: success, faces (those that lacked the target) and collateral of the faces
            that had this skin or age before; with a reader, unless the target is about it;
        - identity_similarity: mean cosine; with a recognizer in the pipeline;
        - judged_identity: the same by the judges' recognizer, which no loss uses;
        - clean: share of the edited pictures that the critic accepts, see `metrics.clean`;
        - smoothness, and with a reader monotone, and with a critic too useful_from and useful_to:
            the slider over 8 faces, see `metrics.slider`;
        - clip_similarity_before, clip_similarity_after: mean cosine between picture and prompt;
            for an edit that has a prompt;
        - step_cosine_mean, step_cosine_std: see `step_cosine`;
        - milliseconds_per_edit: median time to edit and render one face.

    Raises:
        ValueError: fewer than two seeds, an unknown attribute or value, a target without a reader
            or a reader without a target.
        MismatchError: an edit of another generator.
    """
    reader = judges.reader
    if bool(target) != (reader is not None):
        raise ValueError(
            f"Got the target {dict(target) or 'none'} and {'a' if reader else 'no'} reader; an "
            "attribute reader judges a target, so give both or none."
        )
    if len(seeds) < 2:
        raise ValueError(
            f"Got {len(seeds)} seeds; give at least two, since the steps of different faces are "
            "compared."
        )
    for name, value in target.items():
        label_index(name, value)
    strength = edit.strength.default if strength is None else float(strength)
    start = pipe.lower(pipe.sample(seeds, truncation_psi), edit.space)
    moved = displaced(pipe, start, [(edit, strength)])
    before, after = draw(pipe, start), draw(pipe, moved)
    metrics: dict[str, Any] = {
        "images": len(seeds),
        "first_seed": seeds[0],
        "truncation_psi": truncation_psi,
        "strength": strength,
    }
    if reader is not None:
        readings = reader.read(before), reader.read(after)
        report = edit_report(*readings, target)
        metrics |= {
            "target": dict(target),
            "success": _rounded(report.success) if report.count else None,
            "success_images": report.count,
            "collateral": _rounded(report.collateral),
            "flips": {name: _rounded(share) for name, share in report.flips.items()},
        }
        for attribute in GROUPED:
            if groups := reports_by_group(*readings, target, attribute):
                metrics[f"by_{attribute}"] = {
                    value: {
                        "success": _rounded(group.success),
                        "faces": group.count,
                        "collateral": _rounded(group.collateral),
                    }
                    for value, group in groups.items()
                }
    if (recognizer := getattr(pipe, "recognizer", None)) is not None:
        similarity = identity_similarity(recognizer, before, after, _BATCH_SIZE).mean()
        metrics["identity_similarity"] = _rounded(similarity)
    appearance = judges.appearance(pipe, before, after, truncation_psi)
    metrics |= {name: _rounded(value) for name, value in appearance.items()}
    unedited = None if judges.critic is None else judges.unedited(pipe, truncation_psi)
    slid = slider_report(pipe, edit, start[:_SLID], reader, target, judges.critic, unedited)
    metrics["smoothness"] = slid.smoothness
    if slid.monotone is not None:
        metrics["monotone"] = slid.monotone
    if slid.useful is not None:
        metrics["useful_from"], metrics["useful_to"] = slid.useful
    if edit.origin.prompt is not None:
        text = pipe.encode_text(edit.origin.prompt)[0]
        for when, images in (("before", before), ("after", after)):
            seen = [pipe.encode_image(batch) @ text for batch in images.split(_BATCH_SIZE)]
            metrics[f"clip_similarity_{when}"] = _rounded(torch.cat(seen).mean())
    mean, deviation = step_cosine(edit.apply(start, 1.0).codes - start.codes)
    return metrics | {
        "step_cosine_mean": _rounded(mean),
        "step_cosine_std": _rounded(deviation),
        "milliseconds_per_edit": round(_milliseconds(pipe, edit, start[0], strength), 1),
    }


@torch.no_grad()
def draw(pipe: StyleEditPipeline, latents: Latents) -> Tensor:
    """Pictures `[n, 3, h, w]` in [-1, 1] of any number of latents."""
    batches = range(0, len(latents), _BATCH_SIZE)
    pictures = [pipe.synthesize(latents[i : i + _BATCH_SIZE]) for i in batches]
    return torch.cat(pictures).clamp(-1, 1)


def before_after(
    pipe: StyleEditPipeline,
    edit: Edit,
    seeds: Sequence[int],
    strength: float | None = None,
    truncation_psi: float = 0.7,
) -> Image.Image:
    """Faces above, the same faces edited below; a column for each seed."""
    strength = edit.strength.default if strength is None else strength
    people = pipe.sample(seeds, truncation_psi)
    rows = [draw(pipe, people), draw(pipe, displaced(pipe, people, [(edit, strength)]))]
    return image_files.grid(torch.cat(rows), columns=len(seeds))


def strengths(
    pipe: StyleEditPipeline, edit: Edit, seeds: Sequence[int], truncation_psi: float = 0.7
) -> Image.Image:
    """The whole slider: a row for each seed, at 7 strengths from the lowest to the highest."""
    people = pipe.sample(seeds, truncation_psi)
    steps = torch.linspace(edit.strength.min, edit.strength.max, 7).tolist()
    return image_files.strip(
        *(draw(pipe, displaced(pipe, people, [(edit, step)])) for step in steps)
    )


def write_quality(
    folder: Path,
    pipe: StyleEditPipeline,
    judges: Judges,
    edit: Edit,
    target: Mapping[str, str],
    seeds: Sequence[int],
    strength: float | None = None,
    truncation_psi: float = 0.7,
) -> dict[str, Any]:
    """Measure an edit; write metrics.json, images/before-after.webp and images/strengths.webp.

    Besides `measure_edit`, this includes the measurements that belong to the edit's method, see
    `method_report`, which uses the reader even without a target. Without a reader, success is left
    out. The pictures show the first of the seeds, without selection.

    Returns:
        The content of metrics.json.
    """
    target = target if judges.reader is not None else {}
    present = judges if target else replace(judges, reader=None)
    metrics = measure_edit(pipe, present, edit, target, seeds, strength, truncation_psi)
    far = metrics["strength"]
    metrics |= method_report(folder, pipe, judges.reader, edit, seeds, far, truncation_psi)
    shown = list(seeds[:SHOWN])
    pictures = folder / "images"
    sheets = {
        "before-after.webp": before_after(pipe, edit, shown, strength, truncation_psi),
        "strengths.webp": strengths(pipe, edit, shown[: SHOWN // 2], truncation_psi),
    }
    for name, sheet in sheets.items():
        image_files.save(sheet, pictures / name, image_files.SHEET_QUALITY)
    return write_metrics(folder, metrics)


def _milliseconds(pipe: StyleEditPipeline, edit: Edit, person: Latents, strength: float) -> float:
    pipe.synthesize(edit.apply(person, strength))  # the first call is slower
    seconds = []
    for _ in range(_TIMED_EDITS):
        started = time.perf_counter()
        pipe.synthesize(edit.apply(person, strength)).cpu()  # .cpu() waits for a GPU
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds)


def _rounded(value: float | Tensor) -> float:
    return round(float(value), 4)
