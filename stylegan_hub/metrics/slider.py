"""How an edit behaves over its whole slider: monotone, smooth, and in which range useful.

A number at one strength says nothing about a slider. Kontinuous Kontext and FlowSlider, which make
sliders for other models, require that more strength gives more of what is asked for, in steps of
equal size. Here 21 strengths from 0 to the highest are rendered:

    monotone    share of steps at which the attribute does not decrease by more than `SLACK`,
                according to the reader, over faces that lacked it
    smoothness  mean over faces of (mean change of the picture from step to step) / (largest one):
                1 if all steps have one size, 1/20 if the whole change happens in one
    useful      the range of strengths in which at least half of the faces show the attribute and
                at least four of five pictures are clean
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.metrics.clean import Critic, clean_limit
from stylegan_hub.portraits.reader import AttributeReader

STRENGTHS = 21
SLACK = 0.02
_MOST_SHOW, _MOST_CLEAN = 0.5, 0.8


@dataclass(frozen=True)
class SliderReport:
    """The measurements of a slider; None for those whose reader or critic is missing.

    Attributes:
        monotone, smoothness: as defined in this module, 0 to 1; monotone is None also if no face
            lacked the attribute.
        useful: lowest and highest useful strength; None also if no strength is useful.
    """

    monotone: float | None
    smoothness: float
    useful: tuple[float, float] | None


@torch.no_grad()
def slider_report(
    domain: Domain,
    edit: Edit,
    faces: Latents,
    reader: AttributeReader | None = None,
    target: Mapping[str, str] | None = None,
    critic: Critic | None = None,
    unedited: Float[Tensor, " n"] | None = None,
) -> SliderReport:
    """Render the whole slider for some faces and measure it.

    Args:
        faces: in a space up to the edit's; a few are enough.
        reader, target: the reader that finds attributes, and the attributes to look for.
        critic, unedited: the critic that scores pictures, and its scores of unedited ones.
    """
    far = max(edit.strength.max, edit.strength.default)
    steps = torch.linspace(0, far, STRENGTHS).tolist()
    shown: list[Tensor] = []
    scores: dict[int, Tensor] = {}  # by step; a strength that does not show enough is not scored
    sizes: list[Tensor] = []
    last = None
    for strength in steps:
        images = domain.synthesize(displaced(domain, faces, [(edit, strength)])).clamp(-1, 1)
        if last is not None:
            sizes.append((images - last).abs().mean((1, 2, 3)).cpu())
        if reader is not None and target:
            reading = reader.read(images)
            parts = [reading.probability(name, value) for name, value in target.items()]
            shown.append(torch.stack(parts).mean(0).cpu())
            if critic is not None and _most_show(shown[-1]):
                scores[len(shown) - 1] = critic.score(images)
        last = images
    changes = torch.stack(sizes)
    largest = changes.amax(0).clamp_min(1e-9)
    return SliderReport(
        _monotone(torch.stack(shown)) if shown else None,
        round(float((changes.mean(0) / largest).mean()), 4),
        _useful(steps, scores, unedited),
    )


def _monotone(shown: Float[Tensor, "steps n"]) -> float | None:
    lacked = shown[0] < 0.5
    if not lacked.any():
        return None
    rises = shown[1:, lacked] >= shown[:-1, lacked] - SLACK
    return round(float(rises.float().mean()), 4)


def _most_show(probability: Float[Tensor, " n"]) -> bool:
    return float((probability >= 0.5).float().mean()) >= _MOST_SHOW


def _useful(
    steps: list[float],
    scores: dict[int, Tensor],
    unedited: Tensor | None,
) -> tuple[float, float] | None:
    """Both ends of the longest run of strengths that show the attribute and are clean."""
    if not scores or unedited is None:
        return None
    limit = clean_limit(unedited)
    good = [
        index in scores and float((scores[index] > limit).float().mean()) >= _MOST_CLEAN
        for index in range(len(steps))
    ]
    best: tuple[int, int] | None = None
    first = 0
    for index, fine in enumerate([*good, False]):
        if fine:
            continue
        if index > first and (best is None or index - first > best[1] - best[0] + 1):
            best = (first, index - 1)
        first = index + 1
    return None if best is None else (round(steps[best[0]], 3), round(steps[best[1]], 3))
