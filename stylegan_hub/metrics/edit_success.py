"""Whether an edit does what it says, and only that. The attribute reader judges this, never CLIP.

Success: the share of pictures that show the target afterwards, of those that lacked it.
Collateral: the share of other attributes that flipped, of those visible before and after.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from stylegan_hub.portraits.attributes import ATTRIBUTES, applicable, label_index
from stylegan_hub.portraits.reader import Reading


@dataclass(frozen=True)
class EditReport:
    """What the reader saw in n pictures.

    Attributes:
        success: share in [0, 1] that show the target afterwards, of the pictures that lacked it;
            NaN if none lacked it.
        collateral: share in [0, 1] of other attributes that flipped.
        count: number of pictures that lacked the target; success is measured on them.
        flips: share of flips by attribute, which shows what else an edit changes.
    """

    success: float
    collateral: float
    count: int
    flips: dict[str, float]


Target = Mapping[str, str | Sequence[str]]
"""Attributes and the values that an edit asks for; with several values, any of them counts."""

# A named character is recognized if at least this share of its fixed attributes is present.
_CHARACTER_SHARE = 0.75


def edit_report(before: Reading, after: Reading, target: Target) -> EditReport:
    """Compare two readings of the same n faces.

    Args:
        target: what the edit asks for; of several attributes, such as those of a named character,
            three quarters must be present.

    Raises:
        ValueError: an unknown attribute or value, or readings of different length.
    """
    if len(before) != len(after):
        raise ValueError(
            f"Got {len(before)} pictures before and {len(after)} after the edit; give as many of "
            "both."
        )
    lacked = lacks(before, target)
    could, seen_after = applicable(before.labels), applicable(after.labels)
    success = (
        shows(after, target)[lacked].float().mean() if lacked.any() else torch.tensor(float("nan"))
    )
    flips: dict[str, float] = {}
    flipped_total, visible_total = 0, 0
    for name in ATTRIBUTES:
        visible = lacked & could[name] & seen_after[name]
        if name in target or not visible.any():
            continue
        flipped = (before.labels[name] != after.labels[name]) & visible
        flips[name] = float(flipped.sum() / visible.sum())
        flipped_total += int(flipped.sum())
        visible_total += int(visible.sum())
    return EditReport(
        success=float(success),
        collateral=flipped_total / max(visible_total, 1),
        count=int(lacked.sum()),
        flips=flips,
    )


def shows(reading: Reading, target: Target) -> Bool[Tensor, " n"]:
    """Which of the faces show what an edit asks for.

    Raises:
        ValueError: an unknown attribute or value.
    """
    hits = []
    for name, values in target.items():
        wanted = [values] if isinstance(values, str) else values
        of_each = [reading.labels[name] == label_index(name, value) for value in wanted]
        hits.append(torch.stack(of_each).any(0))
    needed = 1.0 if len(target) == 1 else _CHARACTER_SHARE
    return torch.stack(hits).float().mean(0) >= needed


def lacks(reading: Reading, target: Target) -> Bool[Tensor, " n"]:
    """Which of the faces lack what an edit asks for, and could have it.

    A bald head lacks purple hair, but no hair color can be seen on it, so it does not count.

    Raises:
        ValueError: an unknown attribute or value.
    """
    lacked = ~shows(reading, target)
    if len(target) == 1:
        lacked &= applicable(reading.labels)[next(iter(target))]
    return lacked


def reports_by_group(
    before: Reading, after: Reading, target: Target, attribute: str
) -> dict[str, EditReport]:
    """A report for each value that an attribute had before the edit, such as skin or age.

    Groups in which no face lacked the target are left out. If the target contains the attribute,
    the result is empty.

    Raises:
        ValueError: see `edit_report`.
    """
    if attribute in target:
        return {}
    found = {}
    for index, value in enumerate(ATTRIBUTES[attribute]):
        members = before.labels[attribute] == index
        if members.any():
            report = edit_report(before.of(members), after.of(members), target)
            if report.count:
                found[value] = report
    return found
