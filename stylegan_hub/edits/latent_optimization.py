"""Latent optimization: move one latent until CLIP sees the words in its picture.

StyleCLIP (Patashnik et al. 2021), section 4:

    minimize  D_clip(G(w + d), t) + l2_lambda * |d|^2 + id_lambda * (1 - <R(G(w + d)), R(G(w))>)

by Adam, with a learning rate that rises over the first 5 % of the steps and falls over the last
25 %. The displacement d comes back as a `Direction`, so it has a slider and can be saved.

`Published` repeats the settings of the official code. The defaults differ where measurements on
drawn portraits say so (docs/results.md): the similarity of text and picture rises for nearly any
displacement, also one that leaves the world of pictures that the generator was trained to make.
What keeps it there:

- The search starts from a displacement that suits many random people, for what fools CLIP in one
  picture seldom fools it in all. It is kept: the same words on another face take a tenth of the
  time.
- Steps go along the gradient in the units in which latents vary (a prior on w), where Adam would
  move every number alike.
- Layers move together more easily than alone: the generator was trained with one w for all of them.
- CLIP looks at randomly shifted and scaled copies, and texts are averaged over many sentences that
  say the same.
- The *change* of the picture is compared with the change of the text from a neutral one.
- A recognizer has a say where the pipeline has one.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.edits.base import NO_RECOGNIZER, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.prompt_bank import encode_prompt
from stylegan_hub.edits.units import MOMENTUM, EqualSteps, editable, units_of
from stylegan_hub.edits.views import random_views, seen_through
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss, identity_loss, latent_l2

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline

_FIRST_SEED = 4096  # of the people behind shared displacements
_PEOPLE = 32
_SHARED_KEPT = 64
_ID_LAMBDA = 0.15
_Key = tuple[Space, "Settings", bytes]
# What was found for everybody, by words: the same words on another face are quicker.
_SHARED: WeakKeyDictionary[nn.Module, OrderedDict[_Key, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Settings:
    """How to search. Defaults are what won on drawn portraits."""

    steps: int = 20
    """Steps on the picture itself."""
    shared_steps: int = 40
    """Steps before them, on random people, for a displacement that suits everybody; 0 = none."""
    shared_people: int = 10
    """How many people each of these looks at; every step draws others."""
    lr: float = 0.3
    """Peak length of a step in units in which latents vary; without `whiten`, Adam's rate."""
    l2_lambda: float = 0.003
    """Weight of the squared displacement, summed over layers and features."""
    id_lambda: float | None = None
    """Weight of the identity term; None is 0.15 where the pipeline has a recognizer, and else 0."""
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
    templates: bool = True
    """Average the texts over the sentences of the prompt bank."""
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
        if self.shared_steps < 0 or self.shared_people < 1:
            raise ValueError(
                f"Got shared_steps {self.shared_steps}, shared_people {self.shared_people}; "
                "expected 0 or more steps with at least one person."
            )


Published = Settings(
    steps=300, shared_steps=0, lr=0.1, l2_lambda=0.008, id_lambda=0.0, directional_lambda=0.0,
    clip_lambda=1.0, views=0, whiten=False, coupling=0.0, templates=False,
    preprocessing="styleclip",
)  # fmt: skip
"""The official code's settings (run_optimization.py), for reproducing published numbers."""


@dataclass(frozen=True)
class Step:
    """What `on_step` is told.

    Attributes:
        index: steps done, from 1.
        total: steps of the whole search, the shared ones included where they have to be done.
        loss: total loss before this step.
        similarity: mean cosine of the pictures that this step looked at and the text.
        image: the (first) picture on its way, `[1, 3, h, w]` in [-1, 1], detached.
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
    neutral: str | None = None,
    settings: Settings | None = None,
    on_step: Callable[[Step], None] | None = None,
    **changes: Any,
) -> Direction:
    """Search the displacement that makes one picture fit the words.

    Args:
        pipe: generator, CLIP and, where it has one, recognizer.
        prompt: what the picture shall show afterwards, "a face with purple hair".
        latents: one latent; None starts from the average face, as free generation does.
        space: "w_plus" or "s" (the toRGB layers stay as they are, as in StyleCLIP).
        neutral: what the picture shows already, in words; the directional loss starts there. The
            pipeline's own words when None.
        settings: how to search; `Published` for the official code's.
        on_step: called after each step, for progress; may raise `Cancelled`.
        changes: single settings by name: `find(pipe, "a hat", steps=60, id_lambda=0.1)`.

    Returns:
        A direction that fits these latents at strength 1, and others more or less. Its origin
        notes when the identity term was left out for want of a recognizer.

    Raises:
        ValueError: an empty prompt, a space other than w_plus and s, more than one latent.
        MismatchError: latents of another generator.
        TypeError: an unknown setting.
        Cancelled: `on_step` raised it.
    """
    asked = _changed(settings or Settings(), changes)
    settings = _resolved(pipe, asked)
    neutral = pipe.neutral if neutral is None else neutral
    latents = pipe.mean_latent() if latents is None else latents
    if len(latents) != 1:
        raise ValueError(
            f"Got {len(latents)} latents; a direction is searched for one. "
            "Use `displacements` for a batch."
        )
    moved = displacements(pipe, prompt, latents, space, neutral, settings, on_step)
    training = {"method": "latent_optimization", **asdict(settings)}
    if asked.id_lambda is None and pipe.recognizer is None:
        training["note"] = NO_RECOGNIZER
    return Direction(
        moved[0], space, pipe.base_model, Strength(), Origin(prompt, neutral, training)
    )


def _changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    known = [field.name for field in fields(Settings)]
    if unknown := sorted(set(changes) - set(known)):
        raise TypeError(f"Unknown settings {', '.join(unknown)}; known ones: {', '.join(known)}.")
    return replace(settings, **changes)


def _resolved(pipe: StyleEditPipeline, settings: Settings) -> Settings:
    """With a weight of the identity term."""
    has_recognizer = pipe.recognizer is not None
    if settings.id_lambda is None:
        return replace(settings, id_lambda=_ID_LAMBDA if has_recognizer else 0.0)
    if settings.id_lambda and not has_recognizer:
        raise ValueError(
            f"Got id_lambda {settings.id_lambda}, but this pipeline has no recognizer to tell "
            "people apart. Use id_lambda=0 or a pipeline with a recognizer."
        )
    return settings


@torch.enable_grad()  # also inside a caller's no_grad
def displacements(
    pipe: StyleEditPipeline,
    prompt: str,
    latents: Latents,
    space: Space | str = Space.W_PLUS,
    neutral: str | None = None,
    settings: Settings | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Float[Tensor, "n ..."]:
    """As `find`, for a batch of latents, each with a displacement of its own."""
    settings, space = _resolved(pipe, settings or Settings()), Space(space)
    if space not in (Space.W_PLUS, Space.S):
        raise ValueError(f"Got space {space}; latent optimization works in w_plus or s.")
    neutral = pipe.neutral if neutral is None else neutral
    objective = _Objective(pipe, prompt, neutral, space, settings)
    people = objective.people(pipe.lower(latents, space).codes.detach())
    known = _SHARED.setdefault(pipe.generator, OrderedDict())
    shared = known.get(objective.key)
    first = 0 if shared is not None else settings.shared_steps
    report = _Report(on_step, first + settings.steps)
    if shared is None and settings.shared_steps:
        shared = _shared_offset(objective, people, report)
        known[objective.key] = shared
        if len(known) > _SHARED_KEPT:
            known.popitem(last=False)

    offset = torch.zeros_like(people.codes) if shared is None else shared.expand_as(people.codes)
    offset = offset.clone().requires_grad_(True)
    draw = torch.Generator().manual_seed(settings.seed)
    descent = _Descent(offset, settings, settings.steps)
    for _ in range(settings.steps):
        views = random_views(settings.views, draw)
        cost = objective(people, offset, views)
        descent.step(cost.losses.sum())
        report(cost, cost.images[:1])
    with torch.no_grad():
        return objective.codes_of(offset)


def _shared_offset(objective: _Objective, watched: _People, report: _Report) -> Tensor:
    """One displacement that suits random people, new ones in each step, `[1, ...]`."""
    settings, pipe = objective.settings, objective.pipe
    seeds = range(_FIRST_SEED, _FIRST_SEED + max(_PEOPLE, settings.shared_people))
    everybody = objective.people(pipe.lower(pipe.sample(seeds), objective.space).codes)
    offset = torch.zeros_like(everybody.codes[:1], requires_grad=True)
    draw = torch.Generator().manual_seed(settings.seed)
    descent = _Descent(offset, settings, settings.shared_steps)
    for _ in range(settings.shared_steps):
        chosen = torch.randperm(len(seeds), generator=draw)[: settings.shared_people]
        # Other people are other views already: one of each is enough.
        views = random_views(min(1, settings.views), draw)
        cost = objective(everybody[chosen.to(offset.device)], offset, views)
        descent.step(cost.losses.mean())
        if report.is_wanted:
            report(cost, objective.draw(watched.codes[:1], offset.detach()))
    return offset.detach()


@dataclass(frozen=True)
class _People:
    """Who is edited: codes `[n, ...]`, pictures, and what the recognizer says where it counts."""

    codes: Tensor
    images: Tensor
    identity: Tensor | None

    def __getitem__(self, chosen: Tensor) -> _People:
        identity = None if self.identity is None else self.identity[chosen]
        return _People(self.codes[chosen], self.images[chosen], identity)


@dataclass(frozen=True)
class _Cost:
    """Of one step: the loss of each person, their pictures, the mean cosine with the text."""

    losses: Tensor
    images: Tensor
    similarity: float


class _Objective:
    """What displaced people cost."""

    def __init__(
        self,
        pipe: StyleEditPipeline,
        prompt: str,
        neutral: str,
        space: Space,
        settings: Settings,
    ) -> None:
        self.pipe, self.space, self.settings = pipe, space, settings
        if settings.templates:
            self.text = encode_prompt(pipe, prompt)[None]
            origin = encode_prompt(pipe, neutral)[None]
        else:
            self.text, origin = pipe.encode_text([prompt, neutral]).chunk(2)
        self.text_change = nn.functional.normalize(self.text - origin, dim=-1, eps=1e-6)
        self._units = units_of(pipe, space) if settings.whiten else None
        self._free = editable(pipe, space)
        words = torch.cat([self.text, origin]).float().cpu().numpy().tobytes()
        # Personal steps do not change what is shared.
        self.key = (space, replace(settings, steps=1), words)

    @torch.no_grad()
    def people(self, codes: Tensor) -> _People:
        """Those with these codes, before the edit."""
        images = self.pipe.synthesize(Latents(self.space, codes))
        identity = self.pipe.recognizer(images) if self.settings.id_lambda else None
        return _People(codes, images, identity)

    def codes_of(self, offset: Tensor) -> Tensor:
        """The displacement of the codes that is searched as `offset`."""
        if self.space is Space.W_PLUS:
            offset = offset + self.settings.coupling * offset.mean(1, keepdim=True)
        return (self._units.to_codes(offset) if self._units else offset) * self._free

    @torch.no_grad()
    def draw(self, codes: Tensor, offset: Tensor) -> Tensor:
        """Pictures with this offset."""
        return self.pipe.synthesize(Latents(self.space, codes + self.codes_of(offset)))

    def __call__(self, people: _People, offset: Tensor, views: Tensor) -> _Cost:
        settings = self.settings
        images = self.pipe.synthesize(Latents(self.space, people.codes + self.codes_of(offset)))
        seen = self._look(images, views)
        losses = settings.l2_lambda * latent_l2(offset)
        losses = losses + settings.clip_lambda * clip_loss(seen, self.text).mean(0)
        if settings.directional_lambda:
            with torch.no_grad():
                before = self._look(people.images, views)
            directional = directional_clip_loss(seen, before, self.text_change)
            losses = losses + settings.directional_lambda * directional.mean(0)
        if people.identity is not None:
            likeness = identity_loss(self.pipe.recognizer(images), people.identity)
            losses = losses + (settings.id_lambda or 0.0) * likeness
        similarity = float((seen.detach() * self.text).sum(-1).mean())
        return _Cost(losses, images.detach(), similarity)

    def _look(self, images: Tensor, views: Tensor) -> Float[Tensor, "views n d"]:
        looked = seen_through(views, images)
        seen = self.pipe.encode_image(looked, self.settings.preprocessing)
        return seen.unflatten(0, (-1, len(images)))


class _Descent:
    """The paper's schedule, with steps of equal length or Adam's."""

    def __init__(self, offset: Tensor, settings: Settings, steps: int) -> None:
        self._optimizer: torch.optim.Optimizer
        if settings.whiten:
            # Adam moves every number by the same amount, also those that do not matter, and all
            # of them together are another person. Steps of equal length along the gradient do not.
            self._optimizer = EqualSteps([offset], lr=settings.lr, momentum=MOMENTUM)
        else:
            self._optimizer = torch.optim.Adam([offset], lr=settings.lr)
        self._lr, self._index, self._steps = settings.lr, 0, steps

    def step(self, loss: Tensor) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = self._lr * _ramp(self._index / self._steps)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._index += 1


class _Report:
    """Tells `on_step`, if there is one."""

    def __init__(self, on_step: Callable[[Step], None] | None, total: int) -> None:
        self._on_step, self._total, self._index = on_step, total, 0
        self.is_wanted = on_step is not None

    def __call__(self, cost: _Cost, image: Tensor) -> None:
        self._index += 1
        if self._on_step is not None:
            loss = float(cost.losses.detach().mean())
            self._on_step(Step(self._index, self._total, loss, cost.similarity, image))


def _ramp(progress: float) -> float:
    """Factor on the learning rate: cosine down over the last 25 %, linear up over the first 5 %."""
    down = 0.5 - 0.5 * math.cos(math.pi * min(1.0, (1 - progress) / 0.25))
    return down * min(1.0, progress / 0.05)
