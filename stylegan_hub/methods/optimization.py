"""Latent optimization: move one latent until its picture matches the words, as CLIP sees it.

StyleCLIP (Patashnik et al. 2021), section 4:

    minimize  D_clip(G(w + d), t) + l2_lambda * |d|^2 + id_lambda * (1 - <R(G(w + d)), R(G(w))>)

with Adam, whose learning rate rises over the first 5 % of the steps and falls over the last 25 %.
The displacement d is returned as a `Direction`, so it has a slider and can be saved.

The preset "published" repeats the settings of the official code. The defaults follow from
measurements on drawn portraits (docs/results.md): nearly any displacement raises the similarity
between text and picture, even one that leaves the range of pictures that the generator was trained
to make. The defaults keep the search within this range:

- The search starts from a displacement that suits many random faces, since what deceives CLIP in
  one picture seldom does in all of them. This displacement is cached: the same words on another
  face take a tenth of the time. If no face is given, it is the result.
- Steps go along the gradient in the units in which latents vary (a prior on w); Adam would move
  every number equally.
- Layers move together more easily than alone, since the generator was trained with one w for all.
- CLIP looks at randomly shifted and scaled copies, and texts are averaged over many sentences with
  the same meaning.
- The *change* of the picture is compared with the change of the text from a neutral one.
- If the pipeline has a recognizer, an identity term keeps the face the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.domain import Domain, Preprocessing
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss, identity_loss, latent_l2
from stylegan_hub.methods.identity import NO_RECOGNIZER, id_lambda_of
from stylegan_hub.methods.method import Method, Request, Words, register
from stylegan_hub.methods.prompt_bank import encode_prompt
from stylegan_hub.optimizers import MOMENTUM, EqualSteps
from stylegan_hub.steps import OnStep, Step, ramp, warmup_steps
from stylegan_hub.views import random_views

_FIRST_SEED = 4096  # of the faces that shared displacements are found on
_FACES = 32
_SHARED_KEPT = 64
_ID_LAMBDA = 0.15
_Key = tuple[Space, "Settings", bytes]
# Shared displacements found before, so that the same words on another face take less time.
_SHARED: WeakKeyDictionary[nn.Module, OrderedDict[_Key, Tensor]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Settings:
    """How to search. The defaults gave the best results on drawn portraits (docs/results.md)."""

    space: Space = Space.W_PLUS
    """w_plus, or s, where the toRGB layers stay fixed, as in StyleCLIP; a face in s is edited in
    s."""
    steps: int = 20
    """Steps on the face itself."""
    shared_steps: int = 40
    """Steps before them, on random faces, for a displacement that suits them all; 0 = none."""
    shared_faces: int = 10
    """Faces in each of these shared steps; every step has different ones."""
    lr: float = 0.3
    """Peak length of a step in the units in which latents vary; without `whiten`, Adam's rate."""
    l2_lambda: float = 0.003
    """Weight of the squared displacement, summed over layers and features."""
    id_lambda: float | None = None
    """Weight of the identity term; None is 0.15 if the pipeline has a recognizer, else 0."""
    directional_lambda: float = 1.0
    """Weight of the directional CLIP loss, 0 in the paper."""
    clip_lambda: float = 0.5
    """Weight of the plain CLIP loss, 1 in the paper."""
    views: int = 2
    """Augmented copies of the picture that CLIP looks at; 0 = the picture itself."""
    whiten: bool = True
    """Measure steps and lengths in the units in which latents vary."""
    coupling: float = 3.0
    """How much easier layers move together than alone, in w_plus; 0 = not at all."""
    templates: bool = True
    """Average the texts over the sentences of the prompt bank."""
    preprocessing: Preprocessing = "proper"
    """"styleclip" leaves out CLIP's mean and std, as the official code does."""
    seed: int = 0
    """Seed of the augmentation."""

    def __post_init__(self) -> None:
        if Space(self.space) not in (Space.W_PLUS, Space.S):
            raise ValueError(
                f"Got space {self.space}; latent optimization works in w_plus or s. Use one."
            )
        object.__setattr__(self, "space", Space(self.space))
        if self.steps < 1 or self.lr <= 0 or self.views < 0 or self.coupling < 0:
            raise ValueError(
                f"Got steps {self.steps}, lr {self.lr}, views {self.views}, coupling "
                f"{self.coupling}; expected at least one step, a positive lr, 0 or more views and "
                "a coupling of 0 or more."
            )
        if self.shared_steps < 0 or self.shared_faces < 1:
            raise ValueError(
                f"Got shared_steps {self.shared_steps}, shared_faces {self.shared_faces}; "
                "expected 0 or more steps with at least one face."
            )


PUBLISHED = Settings(
    steps=300, shared_steps=0, lr=0.1, l2_lambda=0.008, id_lambda=0.0, directional_lambda=0.0,
    clip_lambda=1.0, views=0, whiten=False, coupling=0.0, templates=False,
    preprocessing="styleclip",
)  # fmt: skip
"""The official code's settings (run_optimization.py), for reproducing published numbers."""


@register
class Optimization(Method[Settings]):
    """Latent optimization: any words, on one face or on all."""

    name: ClassVar[str] = "optimization"
    summary: ClassVar[str] = (
        "Moves the latent of a face step by step until CLIP sees the words in its picture."
    )
    requests: ClassVar[tuple[type[Any], ...]] = (Words,)
    presets: ClassVar[Mapping[str, Any]] = {"default": Settings(), "published": PUBLISHED}
    former_names: ClassVar[tuple[str, ...]] = ("latent_optimization",)

    def search(
        self,
        domain: Domain,
        request: Words,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Direction:
        """Find a displacement that makes the face, or random ones, match the words at strength 1.

        Without a face it is the shared displacement. If the settings have no shared steps, it is
        that of the average face, as in free generation.
        """
        asked, settings = settings, resolved(domain, settings)
        space = settings.space if face is None else max(face.space, settings.space)
        settings = replace(settings, space=space)
        objective = Objective(domain, request, settings)
        if face is None and settings.shared_steps:
            report = _Report(on_step, settings.shared_steps)
            offset = objective.shared(None, report)
            with torch.no_grad():
                moved = objective.codes_of(offset)
        else:
            start = domain.mean_latent() if face is None else face
            moved = displacements(domain, request, start, settings, on_step)
        training = {"method": self.name, **asdict(settings), "space": space.value}
        if asked.id_lambda is None and domain.recognizer is None:
            training["note"] = NO_RECOGNIZER
        origin = Origin(request.text, objective.neutral, training)
        return Direction(moved[0], space, domain.base_model, Strength(), origin)

    def rank(self, domain: Domain, request: Request, face: Latents | None) -> float:
        """High for one face; for every face a table is preferred, since it needs no search."""
        return 3.0 if face is not None else 1.5

    def account(self, origin: Origin) -> str:
        """How an edit was found, for its card."""
        return (
            "A displacement of the latent, found by gradient steps for one face or for random ones "
            "(StyleCLIP, section 4)."
        )


def resolved(domain: Domain, settings: Settings) -> Settings:
    """Settings with a number for the weight of the identity term."""
    return replace(settings, id_lambda=id_lambda_of(domain, settings.id_lambda, _ID_LAMBDA))


def displacements(
    domain: Domain,
    request: Words,
    faces: Latents,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "n ..."]:
    """The search for one face, carried out for a batch; each face gets its own displacement."""
    settings = resolved(domain, settings or Settings())
    objective = Objective(domain, request, settings)
    before = objective.faces(domain.lower(faces, settings.space).codes.detach())
    is_known = objective.is_shared
    first = 0 if is_known else settings.shared_steps
    report = _Report(on_step, first + settings.steps)
    offset = torch.zeros_like(before.codes)
    if settings.shared_steps:
        offset = objective.shared(before, report).expand_as(offset).clone()
    offset.requires_grad_(True)
    draw = torch.Generator().manual_seed(settings.seed)
    for _ in descent(offset, settings, settings.steps):
        views = random_views(settings.views, draw)
        with torch.enable_grad():  # also inside a caller's no_grad
            cost = objective(before, offset, views)
            cost.losses.sum().backward()
        report(cost, cost.images[:1])
    with torch.no_grad():
        return objective.codes_of(offset)


@dataclass(frozen=True)
class Faces:
    """The faces to edit: codes `[n, ...]`, pictures, and identity embeddings if they are used."""

    codes: Tensor
    images: Tensor
    identity: Tensor | None

    def __getitem__(self, chosen: Tensor) -> Faces:
        identity = None if self.identity is None else self.identity[chosen]
        return Faces(self.codes[chosen], self.images[chosen], identity)


@dataclass(frozen=True)
class Cost:
    """The result of one step: losses and pictures of the faces, and mean cosine with the text."""

    losses: Tensor
    images: Tensor
    similarity: float


class Objective:
    """The losses of displaced faces.

    Args:
        settings: with a number for the weight of the identity term, see `resolved`.
    """

    def __init__(self, domain: Domain, request: Words, settings: Settings) -> None:
        self.domain, self.space, self.settings = domain, settings.space, settings
        self.neutral = domain.neutral if request.neutral is None else request.neutral
        if settings.templates:
            self.text = encode_prompt(domain, request.text)[None]
            origin = encode_prompt(domain, self.neutral)[None]
        else:
            self.text, origin = domain.encode_text([request.text, self.neutral]).chunk(2)
        self.text_change = nn.functional.normalize(self.text - origin, dim=-1, eps=1e-6)
        self._units = domain.units(self.space) if settings.whiten else None
        self._free = domain.editable(self.space)
        words = torch.cat([self.text, origin]).float().cpu().numpy().tobytes()
        # The shared displacement does not depend on the number of steps on one face.
        self._key = (self.space, replace(settings, steps=1), words)

    @property
    def is_shared(self) -> bool:
        """Whether the displacement that suits random faces was found before."""
        return self._key in _SHARED.get(self.domain.generator, ())

    def shared(self, watched: Faces | None, report: _Report) -> Tensor:
        """The displacement that suits random faces, `[1, ...]`, found at the first call.

        Args:
            watched: the face whose picture is reported as progress; the first of the random faces
                when None.
        """
        known = _SHARED.setdefault(self.domain.generator, OrderedDict())
        if self._key not in known:
            known[self._key] = self._search_shared(watched, report)
            if len(known) > _SHARED_KEPT:
                known.popitem(last=False)
        return known[self._key]

    def _search_shared(self, watched: Faces | None, report: _Report) -> Tensor:
        settings, domain = self.settings, self.domain
        seeds = range(_FIRST_SEED, _FIRST_SEED + max(_FACES, settings.shared_faces))
        everybody = self.faces(domain.lower(domain.sample(seeds), self.space).codes)
        shown = everybody.codes[:1] if watched is None else watched.codes[:1]
        offset = torch.zeros_like(everybody.codes[:1], requires_grad=True)
        draw = torch.Generator().manual_seed(settings.seed)
        for _ in descent(offset, settings, settings.shared_steps):
            chosen = torch.randperm(len(seeds), generator=draw)[: settings.shared_faces]
            # Different faces already vary the pictures, so one view of each is enough.
            views = random_views(min(1, settings.views), draw)
            with torch.enable_grad():
                cost = self(everybody[chosen.to(offset.device)], offset, views)
                cost.losses.mean().backward()
            if report.is_wanted:
                report(cost, self.draw(shown, offset.detach()))
        return offset.detach()

    @torch.no_grad()
    def faces(self, codes: Tensor) -> Faces:
        """The faces with these codes, before the edit."""
        images = self.domain.sketch(Latents(self.space, codes))
        identity = self.domain.recognizer(images) if self.settings.id_lambda else None
        return Faces(codes, images, identity)

    def codes_of(self, offset: Tensor) -> Tensor:
        """The displacement of the codes that belongs to an offset."""
        if self.space is Space.W_PLUS:
            offset = offset + self.settings.coupling * offset.mean(1, keepdim=True)
        return (self._units.to_codes(offset) if self._units else offset) * self._free

    @torch.no_grad()
    def draw(self, codes: Tensor, offset: Tensor) -> Tensor:
        """Pictures with this offset."""
        return self.domain.sketch(Latents(self.space, codes + self.codes_of(offset)))

    def __call__(self, faces: Faces, offset: Tensor, views: Tensor) -> Cost:
        settings = self.settings
        images = self.domain.sketch(Latents(self.space, faces.codes + self.codes_of(offset)))
        seen = self.domain.look(images, views, settings.preprocessing)
        losses = settings.l2_lambda * latent_l2(offset)
        losses = losses + settings.clip_lambda * clip_loss(seen, self.text).mean(0)
        if settings.directional_lambda:
            with torch.no_grad():
                before = self.domain.look(faces.images, views, settings.preprocessing)
            directional = directional_clip_loss(seen, before, self.text_change)
            losses = losses + settings.directional_lambda * directional.mean(0)
        if faces.identity is not None:
            likeness = identity_loss(self.domain.recognizer(images), faces.identity)
            losses = losses + (settings.id_lambda or 0.0) * likeness
        similarity = float((seen.detach() * self.text).sum(-1).mean())
        return Cost(losses, images.detach(), similarity)


def descent(offset: Tensor, settings: Settings, steps: int) -> Iterator[int]:
    """Iterate over steps; after each, move the offset along the gradient that the loop body left.

    Steps have equal lengths in the units in which latents vary, or are Adam's without `whiten`.
    They follow the paper's schedule.
    """
    optimizer: torch.optim.Optimizer
    if settings.whiten:
        optimizer = EqualSteps([offset], lr=settings.lr, momentum=MOMENTUM)
    else:
        optimizer = torch.optim.Adam([offset], lr=settings.lr)
    for index in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * ramp(index, steps, warmup_steps(steps), round(0.25 * steps))
        optimizer.zero_grad()
        yield index
        optimizer.step()


class _Report:
    """Reports each step to `on_step`, if there is one."""

    def __init__(self, on_step: OnStep | None, total: int) -> None:
        self._on_step, self._total, self._index = on_step, total, 0
        self.is_wanted = on_step is not None

    def __call__(self, cost: Cost, image: Tensor) -> None:
        self._index += 1
        if self._on_step is not None:
            loss = float(cost.losses.detach().mean())
            note = f"similarity {cost.similarity:.3f}"
            self._on_step(Step(self._index, self._total, image, loss, note))
