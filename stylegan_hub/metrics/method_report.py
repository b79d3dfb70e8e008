"""Measurements of an edit, besides success and collateral, that depend on its method.

An essence is compared with its target picture, stored beside it as `images/target.png`; a local
edit with the region that it should stay in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.essence import Essence, target_picture
from stylegan_hub.methods.local import Local
from stylegan_hub.methods.method import method_of
from stylegan_hub.metrics.essence_transfer import essence_report
from stylegan_hub.metrics.locality import change_inside, perceptual_distance
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.regions.find import Region
from stylegan_hub.regions.mask import region_mask

TARGET_NAME = "images/target.png"
"""The target picture in the folder of an essence."""

_BATCH_SIZE = 16


@torch.no_grad()
def method_report(
    folder: Path,
    pipe: StyleEditPipeline,
    reader: AttributeReader | None,
    edit: Edit,
    seeds: Sequence[int],
    strength: float,
    truncation_psi: float = 0.7,
) -> dict[str, float]:
    """Means over the faces with these seeds, rounded to 4 places; empty for other methods.

    Args:
        folder: of the edit.
        reader: measurements that need one are left out if it is None.

    Returns:
        For an essence, `essence_report`. For a local edit, if the pipeline has a parser, the
        numbers below. The region is where the parser finds it before or after the edit; for an edit
        of the background, it is the rest of the picture.

        - change_inside_region: share of the squared change of the pixels;
        - distance_outside_region: `perceptual_distance` there; with a reader.
    """
    training = edit.origin.training
    target = folder / TARGET_NAME
    found_by = method_of(edit.origin)
    name = None if found_by is None else found_by.name
    is_essence = name == Essence.name and target.is_file()
    is_local = name == Local.name and getattr(pipe, "parser", None) is not None
    if not (is_essence or is_local):
        return {}
    people = pipe.sample(seeds, truncation_psi)
    before = _draw(pipe, people.codes, edit, 0.0)
    after = _draw(pipe, people.codes, edit, strength)
    if is_essence:
        with Image.open(target) as picture:
            goal = target_picture(pipe, picture)
        report = essence_report(pipe, reader, before, after, goal)
    else:
        region = Region(str(training["region"]), tuple(training["parts"]), "as stored")
        inside = either_mask(pipe, before, after, region)
        inside = 1 - inside if training.get("background") else inside
        report = local_report(reader, before, after, inside)
    return {name: round(value, 4) for name, value in report.items()}


def local_report(
    reader: AttributeReader | None, before: Tensor, after: Tensor, inside: Tensor
) -> dict[str, float]:
    """Mean share of the change inside the mask, and with a reader the distance outside it."""
    report = {"change_inside_region": float(change_inside(before, after, inside).mean())}
    if reader is not None:
        distance = perceptual_distance(reader, before, after, 1 - inside, _BATCH_SIZE)
        report["distance_outside_region"] = float(distance.mean())
    return report


def either_mask(pipe: StyleEditPipeline, before: Tensor, after: Tensor, region: Region) -> Tensor:
    """The union of the region before and after the edit, `[n, 1, h, w]`."""
    masks = [
        torch.cat([region_mask(pipe, batch, region) for batch in images.split(_BATCH_SIZE)])
        for images in (before, after)
    ]
    return torch.maximum(*masks)


def _draw(pipe: StyleEditPipeline, codes: Tensor, edit: Edit, strength: float) -> Tensor:
    parts = []
    for batch in codes.split(_BATCH_SIZE):
        moved = displaced(pipe, Latents(Space.W_PLUS, batch), [(edit, strength)])
        parts.append(pipe.synthesize(moved).clamp(-1, 1))
    return torch.cat(parts)
