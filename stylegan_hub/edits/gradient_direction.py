"""A direction for any text without a table: follow the gradient of CLIP's opinion of many people.

The idea of StyleMC (Kocasari et al. 2022): one displacement of s, the same for everybody, is found
on a few batches of random people in seconds, so a new generator is editable at once. Only the
convolutions' channels move.

What differs from StyleMC follows from latent optimization (`latent_optimization.py`): the *change*
of the pictures is compared with the change of the words, beside the plain similarity; steps have
equal lengths along the gradient, in standard deviations of s, so that no weights need tuning for
another generator and channels that do not matter stay where they are. StyleMC drops channels whose
gradient changes its sign too often; the momentum over batches of other people does that here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.direction_statistics import editable_channels, style_statistics
from stylegan_hub.edits.global_direction import select_channels
from stylegan_hub.edits.prompt_bank import TEMPLATES, encode_prompt, text_change
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True)
class GradientSettings:
    """How to search."""

    steps: int = 16
    batch_size: int = 4
    """People per step; every step has others."""
    step_length: float = 0.6
    """Peak length of a step, in standard deviations of s."""
    momentum: float = 0.8
    clip_lambda: float = 0.5
    """Weight of the cosine distance of pictures and target."""
    directional_lambda: float = 1.0
    """Weight of the cosine distance of the pictures' and the words' change."""
    truncation_psi: float = 0.7
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not self.step_length > 0:
            raise ValueError(
                f"Got steps {self.steps}, batch_size {self.batch_size}, step_length "
                f"{self.step_length}; expected at least one step and one person, and a positive "
                "length."
            )


@torch.enable_grad()  # also inside a caller's no_grad
def gradient_direction(
    pipe: StyleEditPipeline,
    target: str,
    neutral: str | None = None,
    channels: int | None = None,
    settings: GradientSettings | None = None,
    templates: Sequence[str] = TEMPLATES,
    on_step: Callable[[int, int], None] | None = None,
) -> Direction:
    """The direction in s along which pictures change as `neutral` changes to `target`.

    Args:
        target: what pictures shall show, "a face with a beard".
        neutral: what they show now; the pipeline's own words when None.
        channels: only so many channels move, those that were moved most; all when None.
        settings: how to search.
        templates: sentences for the texts.
        on_step: told the steps done and all steps, after each; an exception in it ends the search.

    Returns:
        A direction that is meant for everybody at strength 1.

    Raises:
        ValueError: an empty text, texts that mean the same, an impossible number of channels.
    """
    settings = settings or GradientSettings()
    neutral = pipe.neutral if neutral is None else neutral
    change = text_change(pipe, target, neutral, templates)
    text = encode_prompt(pipe, target, templates)
    index = torch.tensor(editable_channels(pipe), device=pipe.device)
    if channels is not None and not 1 <= channels <= len(index):
        raise ValueError(f"Got channels {channels}; expected 1 to {len(index)}, or None for all.")
    count = settings.steps * settings.batch_size
    _, deviations = style_statistics(pipe, 2000, 0, settings.truncation_psi)
    unit = deviations.to(pipe.device)[index]
    seeds = range(settings.first_seed, settings.first_seed + count)
    people = pipe.lower(pipe.sample(seeds, settings.truncation_psi), Space.S).codes

    def move(s: Tensor, offset: Tensor) -> Tensor:
        return s.index_add(1, index, (offset * unit).expand(len(s), -1).to(s))

    offset = torch.zeros(len(index), device=pipe.device)
    velocity = torch.zeros_like(offset)
    for step, s in enumerate(people.split(settings.batch_size)):
        moved = offset.clone().requires_grad_()
        seen = pipe.encode_image(pipe.synthesize(Latents(Space.S, move(s, moved))))
        with torch.no_grad():
            before = pipe.encode_image(pipe.synthesize(Latents(Space.S, s)))
        loss = settings.clip_lambda * clip_loss(seen, text)
        loss = loss + settings.directional_lambda * directional_clip_loss(seen, before, change)
        (gradient,) = torch.autograd.grad(loss.mean(), moved)
        velocity = settings.momentum * velocity - F.normalize(gradient, dim=0)
        # Shorter steps over the last half, to come to rest.
        fade = min(1.0, 2 * (1 - step / settings.steps))
        offset = offset + settings.step_length * fade * velocity
        if on_step is not None:
            on_step(step + 1, settings.steps)
    if channels is not None:
        offset = offset * select_channels(offset, channels=channels)
    vector = move(torch.zeros_like(people[:1]), offset)[0]
    training = {
        "method": "gradient_direction",
        "channels": channels or len(index),
        "templates": len(templates),
        **asdict(settings),
    }
    return Direction(
        vector, Space.S, pipe.base_model, Strength(), Origin(target, neutral, training)
    )
