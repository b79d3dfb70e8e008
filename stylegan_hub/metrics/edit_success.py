"""Does an edit do what it says, and only that? Judged by the attribute reader, never by CLIP.

Success: of the pictures that lacked the target, the share that shows it afterwards.
Collateral: of all other attributes that could be seen before and after, the share that flipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stylegan_hub.portraits.attributes import ATTRIBUTES, applicable, label_index
from stylegan_hub.portraits.reader import Reading


@dataclass(frozen=True)
class EditReport:
    """What the reader saw over n pictures.

    Attributes:
        success: share in [0, 1] of the pictures that lacked the target and show it afterwards.
        collateral: share in [0, 1] of other attributes that flipped.
        count: how many pictures lacked the target, so that success is measured on them.
        flips: share of flips by attribute, to see what an edit drags along.
    """

    success: float
    collateral: float
    count: int
    flips: dict[str, float]


# A named character is recognized when at least this share of the fixed attributes is there.
_CHARACTER_SHARE = 0.75


def edit_report(before: Reading, after: Reading, target: Mapping[str, str]) -> EditReport:
    """Compare two readings of the same n people.

    Args:
        target: attribute names and the values that the edit asks for; with several, as for a
            named character, three quarters of them must be there.

    Raises:
        ValueError: an unknown attribute or value, or readings of different length.
    """
    if len(before) != len(after):
        raise ValueError(f"Got {len(before)} pictures before and {len(after)} after the edit.")
    # A bald head lacks purple hair, but nobody can see a color of hair on it: not counted.
    could = applicable(before.labels)
    seen_after = applicable(after.labels)

    def shown(reading: Reading) -> Tensor:
        hits = [reading.labels[name] == label_index(name, value) for name, value in target.items()]
        needed = 1.0 if len(target) == 1 else _CHARACTER_SHARE
        return torch.stack(hits).float().mean(0) >= needed

    lacked = ~shown(before)
    if len(target) == 1:
        lacked &= could[next(iter(target))]
    success = shown(after)[lacked].float().mean() if lacked.any() else torch.tensor(float("nan"))
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
