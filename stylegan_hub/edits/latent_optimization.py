"""Latent optimization: move one latent until CLIP sees the words in its picture.

StyleCLIP (Patashnik et al. 2021), section 4:

    minimize  D_clip(G(w + d), t) + l2_lambda * |d|^2 + id_lambda * (1 - <R(G(w + d)), R(G(w))>)

by Adam, with a learning rate that rises over the first 5 % of the steps and falls over the last
25 %. The displacement d comes back as a `Direction`, so it has a slider and can be saved.

`Published` repeats the settings of the official code. The defaults differ where measurements on
drawn portraits say so (docs/results.md): the similarity of text and picture rises for nearly any
displacement, also one that leaves the world of pictures that the generator was trained to make.
What keeps it there: steps go along the gradient in the units in which latents vary (a prior on w),
where Adam would move every number alike; layers move together more easily than alone, for the
generator was trained with one w for all of them; CLIP looks at randomly shifted and scaled copies;
and the *change* of the picture is compared with the change of the text from a neutral one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.units import MOMENTUM, editable, units_of
from stylegan_hub.edits.views import random_views, seen_through
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss, identity_loss, latent_l2

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True)
class Settings:
    """How to search. Defaults are what won on drawn portraits."""

    steps: int = 70
    lr: float = 0.2
    """Peak length of a step in units in which latents vary; without `whiten`, Adam's rate."""
    l2_lambda: float = 0.0005
    """Weight of the squared displacement, summed over layers and features."""
    id_lambda: float = 0.0
    """Weight of the identity term; needs a pipeline with a recognizer."""
    directional_lambda: float = 1.0
    """Weight of the directional CLIP loss, 0 in the paper."""
    clip_lambda: float = 0.5
    """Weight of the plain CLIP loss, 1 in the paper."""
    views: int = 2
    """Augmented copies of the picture that CLIP looks at; 0 = the picture itself."""
    whiten: bool = True
    """Measure steps and lengths in the units in which latents vary."""
    coupling: float = 3.0
    """How much easier layers move together than alone, in w_plus; 0 leaves each to itself."""
    preprocessing: Literal["proper", "styleclip"] = "proper"
    """"styleclip" leaves out CLIP's mean and std, as the official code does."""
    seed: int = 0
    """Of the augmentation."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.lr <= 0 or self.views < 0 or self.coupling < 0:
            raise ValueError(
                f"Got steps {self.steps}, lr {self.lr}, views {self.views}, coupling "
                f"{self.coupling}; expected at least one step, a positive lr, 0 or more views and "
                "a coupling of 0 or more."
            )


Published = Settings(
    steps=300, lr=0.1, l2_lambda=0.008, id_lambda=0.0, directional_lambda=0.0, clip_lambda=1.0,
    views=0, whiten=False, coupling=0.0, preprocessing="styleclip",
)  # fmt: skip
"""The official code's settings (run_optimization.py), for reproducing published numbers."""


@dataclass(frozen=True)
class Step:
    """What `on_step` is told.

    Attributes:
        index: steps done, from 1.
        total: steps of the whole search.
        loss: total loss before this step.
        similarity: cosine of the picture (before this step) and the text.
        image: the picture before this step, `[1, 3, h, w]` in [-1, 1], detached.
    """

    index: int
    total: int
    loss: float
    similarity: float
    image: Float[Tensor, "1 3 h w"]


class Cancelled(Exception):
    """Raise it in `on_step` to stop a search; what was found so far is thrown away."""


def find(
    pipe: StyleEditPipeline,
    prompt: str,
    latents: Latents | None = None,
    space: Space | str = Space.W_PLUS,
    neutral: str = "a face",
    settings: Settings | None = None,
    on_step: Callable[[Step], None] | None = None,
    **changes: Any,
) -> Direction:
    """Search the displacement that makes one picture fit the words.

    Args:
        pipe: generator and CLIP; its recognizer if `id_lambda` is not 0.
        prompt: what the picture shall show afterwards, "a face with purple hair".
        latents: one latent; None starts from the average face, as free generation does.
        space: "w_plus" or "s" (the toRGB layers stay as they are, as in StyleCLIP).
        neutral: what the picture shows already, in words; the directional loss starts there.
        settings: how to search; `Published` for the official code's.
        on_step: called after each step, for progress; may raise `Cancelled`.
        changes: single settings by name: `find(pipe, "a hat", steps=60, id_lambda=0.1)`.

    Returns:
        A direction that fits these latents at strength 1, and others more or less.

    Raises:
        ValueError: an empty prompt, a space other than w_plus and s, more than one latent.
        MismatchError: latents of another generator.
        TypeError: an unknown setting.
        Cancelled: `on_step` raised it.
    """
    settings = _changed(settings or Settings(), changes)
    latents = pipe.mean_latent() if latents is None else latents
    if len(latents) != 1:
        raise ValueError(
            f"Got {len(latents)} latents; a direction is searched for one. "
            "Use `displacements` for a batch."
        )
    moved = displacements(pipe, prompt, latents, space, neutral, settings, on_step)
    training = {"method": "latent_optimization", **asdict(settings)}
    return Direction(
        moved[0], space, pipe.base_model, Strength(), Origin(prompt, neutral, training)
    )


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    known = [field.name for field in fields(Settings)]
    if unknown := sorted(set(changes) - set(known)):
        raise TypeError(f"Unknown settings {', '.join(unknown)}; known ones: {', '.join(known)}.")
    return replace(settings, **changes)


@torch.enable_grad()  # also inside a caller's no_grad
def displacements(
    pipe: StyleEditPipeline,
    prompt: str,
    latents: Latents,
    space: Space | str = Space.W_PLUS,
    neutral: str = "a face",
    settings: Settings | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Float[Tensor, "n ..."]:
    """As `find`, for a batch of latents, each with a displacement of its own."""
    settings, space = settings or Settings(), Space(space)
    if space not in (Space.W_PLUS, Space.S):
        raise ValueError(f"Got space {space}; latent optimization works in w_plus or s.")
    if settings.id_lambda and getattr(pipe, "recognizer", None) is None:
        raise ValueError(
            f"Got id_lambda {settings.id_lambda}, but this pipeline has no recognizer to tell "
            "people apart. Use id_lambda=0 or a pipeline with a recognizer."
        )
    start = pipe.lower(latents, space).codes.detach()
    text, origin = pipe.encode_text([prompt, neutral]).chunk(2)
    text_change = nn.functional.normalize(text - origin, dim=-1, eps=1e-6)
    units = units_of(pipe, space) if settings.whiten else None
    free = editable(pipe, space)
    draw = torch.Generator().manual_seed(settings.seed)

    def look(images: Tensor, views: Tensor) -> Float[Tensor, "views n d"]:
        seen = pipe.encode_image(seen_through(views, images), settings.preprocessing)
        return seen.unflatten(0, (-1, len(start)))

    def codes_of(offset: Tensor) -> Tensor:
        if space is Space.W_PLUS:
            offset = offset + settings.coupling * offset.mean(1, keepdim=True)
        return (units.to_codes(offset) if units else offset) * free

    with torch.no_grad():
        original = pipe.synthesize(Latents(space, start))
        identity = pipe.recognizer(original) if settings.id_lambda else None
    offset = torch.zeros_like(start, requires_grad=True)
    optimizer: torch.optim.Optimizer
    if units is None:
        optimizer = torch.optim.Adam([offset], lr=settings.lr)
    else:
        optimizer = torch.optim.SGD([offset], lr=settings.lr, momentum=MOMENTUM)

    for index in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * _ramp(index / settings.steps)
        images = pipe.synthesize(Latents(space, start + codes_of(offset)))
        views = random_views(settings.views, draw)
        seen = look(images, views)
        loss = settings.l2_lambda * latent_l2(offset)
        loss = loss + settings.clip_lambda * clip_loss(seen, text).mean(0)
        if settings.directional_lambda:
            with torch.no_grad():
                seen_before = look(original, views)
            directional = directional_clip_loss(seen, seen_before, text_change)
            loss = loss + settings.directional_lambda * directional.mean(0)
        if identity is not None:
            loss = loss + settings.id_lambda * identity_loss(pipe.recognizer(images), identity)
        optimizer.zero_grad()
        loss.sum().backward()
        if units is not None and offset.grad is not None:
            # Adam moves every number by the same amount, also those that do not matter, and all
            # of them together are another person. Steps of equal length along the gradient do not.
            offset.grad.copy_(nn.functional.normalize(offset.grad.flatten(1)).view_as(offset))
        optimizer.step()
        if on_step is not None:
            similarity = float((seen.detach() * text).sum(-1).mean())
            mean_loss = float(loss.detach().mean())
            image = images[:1].detach()
            on_step(Step(index + 1, settings.steps, mean_loss, similarity, image))
    with torch.no_grad():
        return codes_of(offset)


def _ramp(progress: float) -> float:
    """Factor on the learning rate: cosine down over the last 25 %, linear up over the first 5 %."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - progress) / 0.25))
    return down * min(1.0, progress / 0.05)
