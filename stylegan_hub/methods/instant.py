"""The instant method: from any words or any picture to an edit, without a search.

A domain with an instant model (`models/instant.py`) stores the w of several thousand samples and
their CLIP embeddings. The requested change is a direction in CLIP space, of length 1:

    words      c = C(text) - C(neutral), both averaged over the sentences of the prompt bank
    a picture  c = C(picture) - the mean over the samples

For every sample, CLIP gives the level l at which it has what is asked for (`methods/level.py`), and
the displacement is the difference of the means of w,

    v = sum h_i w_i / sum h_i - mean w,   h_i = sigmoid((l_i - 0.5) / 0.08),

component by component in standard deviations of w. The part that may be chance is subtracted (twice
the standard error of the weighted mean). This is the idea of InterFaceGAN (Shen et al. 2020,
"Interpreting the Latent Space of GANs for Semantic Face Editing", section 2: latents labeled by a
classifier of their pictures), with CLIP instead of the classifier, so that words need no labels,
and means instead of a support vector machine, so that it takes a millisecond.

What should be kept is kept by the smallest correction of v. For every text that describes it, such
as "a face with glasses", a linear map reads h from w (a ridge regression over the samples). The
correction makes these readings of v zero and leaves the reading of the request as it is. Sizes are
measured in the metric of the samples' covariance, so the correction is a combination of the kept
attributes' own displacements. The identity is kept by a penalty on the change of the recognizer's
embedding, which is approximated by a linear map of w.

A face that has something else in place of what is asked for (black hair, when red hair is asked
for) is moved away from that as well: the displacement towards its own alternative is subtracted
from v. The alternatives are those of the word bank (`methods/word_bank.py`), and CLIP says which
one the face has. Without this, a smiling face hardly becomes a neutral one, because the mean of all
samples is almost neutral.

For one face the amount is measured: the edit is rendered, CLIP measures its level, and the amount
grows by what is missing; this is repeated a few times. For every face the amount is computed from
the latent (`edits/instant.py`), and a few samples determine the length of the displacement. A
removal ("no hat") is the same displacement backwards, by as much as the face has of it, down to
level -0.2. This level and the limits for alternatives were chosen on the drawn portraits of 256 px,
the other settings on those of 128 px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import LEAST, InstantEdit
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.essence import target_picture
from stylegan_hub.methods.fit import asked_change, most_of
from stylegan_hub.methods.level import Scale
from stylegan_hub.methods.method import Method, Picture, Request, Words, register
from stylegan_hub.methods.prompt_bank import TEMPLATES, text_change
from stylegan_hub.methods.word_bank import grouped_entries, sentence, trait
from stylegan_hub.models.identity import weights_state
from stylegan_hub.models.instant import InstantModel
from stylegan_hub.steps import OnStep, Step

_MIDDLE, _SOFTNESS = 0.5, 0.08  # of the levels at which a sample begins to count
_REMOVED = -0.2  # level down to which a removal brings a face
_CHANCE = 2.0  # standard errors that are subtracted
_MOST = 3.0  # largest multiple of the displacement, for one face
_SEEDS = range(12288, 12292)  # samples that determine the length of an edit for every face
_RIDGE = 0.01
IDENTITY = {"identity", "the identity", "person", "the person", "who it is"}
"""Words to keep that name the identity."""
_IDENTITY_WEIGHT = 8.0  # of the squared change of the embedding, against that of v
_SMALL = 1e-4
_ASKED = 0.5  # correlation from which a kept text is taken for what is asked for
_SAME = 0.7  # correlation from which an entry of the word bank is taken for what is asked for
_SHOWN = 0.3  # level from which a face is taken to have an alternative


@dataclass(frozen=True)
class Settings:
    """How far an edit goes and how that is measured."""

    level: float = 0.9
    """The level that pictures should reach: 0 is the median sample, 1 the mean of the top 3 %."""
    looks: int = 3
    """How often faces are rendered to measure what is missing; 0 = never."""
    templates: bool = True
    """Average the texts over the sentences of the prompt bank."""

    def __post_init__(self) -> None:
        if self.looks < 0 or not 0 < self.level <= 2:
            raise ValueError(
                f"Got looks {self.looks}, level {self.level}; expected 0 or more looks and a level "
                "above 0 and at most 2."
            )


@register
class Instant(Method[Settings]):
    """An edit for every face, or for one, from words or a picture, without a search."""

    name: ClassVar[str] = "instant"
    summary: ClassVar[str] = (
        "Compares the latents of samples that show what is asked for with those of the others; "
        "needs no search."
    )
    requests: ClassVar[tuple[type[Any], ...]] = (Words, Picture)
    presets: ClassVar[Mapping[str, Any]] = {
        "default": Settings(),
        "strong": Settings(level=1.2),
        "blind": Settings(looks=0),
    }
    needs: ClassVar[frozenset[str]] = frozenset({"instant"})
    at_once: ClassVar[bool] = True
    takes_keep: ClassVar[bool] = True

    @torch.no_grad()
    def search(
        self,
        domain: Domain,
        request: Words | Picture,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Edit:
        """Make an `InstantEdit`, or for a face a `Direction` by the amount that it needs."""
        memory = Memory(domain)
        without = False
        if isinstance(request, Words):
            neutral = domain.neutral if request.neutral is None else request.neutral
            templates = TEMPLATES if settings.templates else ()
            change, without = asked_change(domain, request, templates)
            origin = Origin(request.text, neutral, {"method": self.name, **asdict(settings)})
        else:
            change = memory.picture_change(request)
            origin = Origin(
                training={"method": self.name, "target": request.name, **asdict(settings)}
            )
        keep = request.keep if isinstance(request, Words) else ()
        if keep:
            origin = replace(origin, training={**origin.training, "keep": list(keep)})
        instead = images = None
        if face is not None and isinstance(request, Words) and settings.looks and not without:
            images = domain.sketch(face)
            instead = memory.alternative(change, domain.encode_image(images))
        edit = memory.edit(change, settings.level, origin, without, keep, instead)
        look = _Looking(memory, edit, change, settings, without)
        if face is None:
            return look.for_all(on_step)
        return look.for_one(face, on_step, images)

    def rank(self, domain: Domain, request: Request, face: Latents | None) -> float:
        """Highest for words; low for pictures, which `essence` follows more closely."""
        return 5.0 if isinstance(request, Words) else 0.5

    def caption(self, origin: Origin) -> str:
        """The words, or the name of the picture."""
        return origin.prompt or str(origin.training.get("target", self.name))


class Samples:
    """The stored samples of an instant model, and their statistics, which are computed once.

    Attributes:
        w: `[samples, w_dim]`.
        seen: CLIP's embeddings of their pictures, `[samples, d]`.
        mean, deviation: of w, `[w_dim]`.
    """

    def __init__(self, w: Float[Tensor, "samples w_dim"], seen: Float[Tensor, "samples d"]) -> None:
        self.w, self.seen = w.float(), seen.float()
        self.mean, self.deviation = self.w.mean(0), self.w.std(0).clamp_min(1e-6)

    @classmethod
    def of(cls, model: InstantModel) -> Samples:
        """Those of a model."""
        state = weights_state(model)
        if model not in _SAMPLES or _SAMPLES[model][0] != state:
            _SAMPLES[model] = state, cls(model.w, model.seen)
        return _SAMPLES[model][1]

    @cached_property
    def scaled(self) -> Float[Tensor, "samples w_dim"]:
        """W with mean 0 and deviation 1."""
        return (self.w - self.mean) / self.deviation

    @cached_property
    def moment(self) -> Float[Tensor, "w_dim w_dim"]:
        """The covariance of `scaled`, with a ridge."""
        size = self.w.shape[1]
        return self.scaled.T @ self.scaled / len(self.w) + _RIDGE * torch.eye(size).to(self.w)


@dataclass(frozen=True)
class _Entry:
    """An entry of the word bank: its group, and the scale of its change."""

    group: int
    scale: Scale


_SAMPLES: WeakKeyDictionary[InstantModel, tuple[object, Samples]] = WeakKeyDictionary()
_BANKS: WeakKeyDictionary[InstantModel, tuple[Samples, list[_Entry]]] = WeakKeyDictionary()


class Memory:
    """A domain's stored samples, and the displacements and edits computed from them.

    Raises:
        MismatchError: the instant model belongs to another generator or another CLIP.
    """

    def __init__(self, domain: Domain) -> None:
        model: InstantModel = domain.instant
        domain.check_fits(
            model.base_model,
            model.clip_model,
            "instant model",
            "Make one for this pipeline: recipes/train_instant.py.",
        )
        self.domain, self.samples = domain, Samples.of(model)

    def picture_change(self, target: Picture) -> Float[Tensor, " d"]:
        """The change from the mean sample to a picture, in CLIP space, of length 1."""
        pixels = target_picture(self.domain, target.image)
        seen = self.domain.encode_image(pixels).float()[0]
        return F.normalize(seen - self.samples.seen.mean(0), dim=0)

    def displacement(self, levels: Float[Tensor, " samples"]) -> Float[Tensor, " w_dim"]:
        """From the mean w to that of the samples with high levels, without what may be chance."""
        weights = _has(levels)
        count = weights.sum().clamp_min(1e-6)
        shift = (weights @ self.samples.scaled) / count
        # The effective sample size of a weighted mean (Kish 1965).
        worth = count.square() / weights.square().sum()
        sure = shift.sign() * (shift.abs() - _CHANCE * worth.rsqrt()).clamp_min(0)
        return sure * self.samples.deviation

    def alternative(
        self, change: Float[Tensor, " d"], face: Float[Tensor, "1 d"]
    ) -> Float[Tensor, " w_dim"] | None:
        """The displacement towards what a face has in place of what is asked for.

        Args:
            face: CLIP's embedding of its picture.

        Returns:
            None if what is asked for has fewer than two alternatives in the word bank, or the face
            has none of them.
        """
        if not (bank := self._bank()):
            return None
        seen, wanted = self.samples.seen, change.to(self.samples.seen)
        nearest = max(bank, key=lambda entry: float(entry.scale.change @ wanted))
        others = [e.scale for e in bank if e.group == nearest.group and e is not nearest]
        same = _correlation(self._levels(change), nearest.scale.level(seen)) > _SAME
        if not same or len(others) < 2:
            return None
        shown = max(others, key=lambda scale: float(scale.level(face.to(seen))[0]))
        if float(shown.level(face.to(seen))[0]) < _SHOWN:
            return None
        return self.displacement(shown.level(seen))

    def kept(
        self,
        vector: Float[Tensor, " w_dim"],
        change: Float[Tensor, " d"],
        keep: Sequence[str],
    ) -> Float[Tensor, " w_dim"]:
        """A displacement without what would change the kept attributes.

        Attributes that are what is asked for themselves are left out.

        Raises:
            MethodError: the identity should be kept, and the model has no map of it.
        """
        asked = self._levels(change)
        readings = [self._reading(_has(asked))]
        for name in keep:
            if name.lower() in IDENTITY:
                continue
            for texts in trait(self.domain, name):
                levels = [self._levels(self._change(text)) for text in texts]
                if max(_correlation(asked, one) for one in levels) < _ASKED:
                    readings += [self._reading(_has(one)) for one in levels]
        metric, start = self.samples.moment, vector / self.samples.deviation
        moved = start
        if any(name.lower() in IDENTITY for name in keep):
            likeness = self._identity()
            penalty = torch.linalg.inv(metric) + _IDENTITY_WEIGHT * likeness.T @ likeness
            moved = torch.linalg.solve(penalty, torch.linalg.solve(metric, start))
            metric = torch.linalg.inv(penalty)
        read = torch.stack(readings, dim=1)
        wanted = torch.zeros(len(readings)).to(start)
        wanted[0] = readings[0] @ start
        gain = read.T @ metric @ read
        # The texts of a trait exclude each other, so their readings hardly differ in one direction.
        gain = gain + _SMALL * torch.diag(gain.diagonal())
        moved = moved + metric @ read @ torch.linalg.solve(gain, wanted - read.T @ moved)
        return moved * self.samples.deviation

    def edit(
        self,
        change: Float[Tensor, " d"],
        level: float,
        origin: Origin,
        without: bool = False,
        keep: Sequence[str] = (),
        instead: Float[Tensor, " w_dim"] | None = None,
    ) -> InstantEdit:
        """The edit that brings every face to a level of a change.

        Args:
            without: bring faces from that level down to `_REMOVED` instead.
            keep: words for what must not change.
            instead: the displacement towards what is there in its place, see `alternative`.

        Raises:
            MethodError: see `kept`.
        """
        base = self.domain.base_model
        levels = self._levels(change)
        vector = self.displacement(levels)
        if instead is not None:
            vector = vector - instead
        if keep:
            vector = self.kept(vector, change, keep)
        vector = vector.expand(base.num_ws, -1)
        slope = self._reading(levels) / self.samples.deviation
        start = float(levels.mean()) - float(self.samples.mean @ slope)
        if without:
            goal = (start - _REMOVED) / level
            return InstantEdit(-vector, -slope / level, goal, base, Strength(), origin)
        return InstantEdit(vector, slope / level, (level - start) / level, base, Strength(), origin)

    def _levels(self, change: Float[Tensor, " d"]) -> Float[Tensor, " samples"]:
        return Scale.of(self.samples.seen, change).level(self.samples.seen)

    def _reading(self, values: Float[Tensor, " samples"]) -> Float[Tensor, " w_dim"]:
        """The linear map from scaled w to values of the samples, without its constant."""
        product = self.samples.scaled.T @ (values - values.mean()) / len(values)
        return torch.linalg.solve(self.samples.moment, product)

    def _bank(self) -> list[_Entry]:
        """The entries of the word bank, without "no ..."."""
        model: InstantModel = self.domain.instant
        known, entries = _BANKS.get(model, (None, []))
        if known is not self.samples:
            changes = [
                (group, self._change(sentence(self.domain, entry)))
                for group, entry in grouped_entries(self.domain)
            ]
            entries = [_Entry(group, Scale.of(self.samples.seen, one)) for group, one in changes]
            _BANKS[model] = self.samples, entries
        return entries

    def _change(self, text: str) -> Float[Tensor, " d"]:
        return text_change(self.domain, text, self.domain.neutral, ()).to(self.samples.seen)

    def _identity(self) -> Float[Tensor, "identity_dim w_dim"]:
        """The map to the recognizer's embedding, in units in which it varies by 1 over samples."""
        model: InstantModel = self.domain.instant
        if model.identity is None:
            raise MethodError(
                "Got the identity as something to keep, but this instant model does not know how "
                "the recognizer's embedding depends on the latent.",
                got="identity",
                expected=(),
                remedy="Name what should be kept ('eyes', 'face shape'), use optimization, or make "
                "the model again in a pipeline with a recognizer: recipes/train_instant.py.",
            )
        identity = model.identity.float() * self.samples.deviation
        varies = (identity @ self.samples.moment * identity).sum()
        return identity / varies.sqrt().clamp_min(1e-6)


@dataclass(frozen=True)
class _Looking:
    """Renders faces with an edit to measure the amount that brings them to the requested level."""

    memory: Memory
    edit: InstantEdit
    change: Float[Tensor, " d"]
    settings: Settings
    without: bool = False

    def for_one(
        self, face: Latents, on_step: OnStep | None, images: Tensor | None = None
    ) -> Direction:
        """The edit for one face, by the amount that it needs; its picture, if it is known."""
        edit = self.edit
        amount = self.amounts(face, on_step, images) if self.settings.looks else self.read(face)
        vector = _moved(self.memory.domain, face, amount.clamp_min(LEAST), edit.vector)
        step = vector.codes - face.codes
        return Direction(step[0], face.space, edit.base_model, edit.strength, edit.origin)

    def for_all(self, on_step: OnStep | None) -> InstantEdit:
        """The edit for every face, with the length that a few samples need on average.

        For a removal, these are samples that have what should be removed.
        """
        edit, domain = self.edit, self.memory.domain
        if not self.settings.looks:
            return edit
        faces = domain.sample(_SEEDS)
        if self.without:
            faces = most_of(domain, Scale.of(self.memory.samples.seen, self.change), len(_SEEDS))
        needed, read = self.amounts(faces, on_step).mean(), self.read(faces).mean()
        longer = float(needed / read)
        return InstantEdit(
            longer * edit.vector,
            edit.reading,
            edit.goal,
            edit.base_model,
            edit.strength,
            edit.origin,
        )

    def read(self, faces: Latents) -> Float[Tensor, " n"]:
        """Amounts as the edit computes them from the latents."""
        codes = faces.codes
        return (
            self.edit.amount(codes) if faces.space is Space.W_PLUS else codes.new_ones(len(codes))
        )

    def amounts(
        self, faces: Latents, on_step: OnStep | None, images: Tensor | None = None
    ) -> Float[Tensor, " n"]:
        """Amounts at which CLIP sees the requested level, found in a few looks.

        They are 0 for faces that are at this level already.
        """
        domain, goal = self.memory.domain, self.settings.level
        scale = Scale.of(self.memory.samples.seen, self.change)
        images = domain.sketch(faces) if images is None else images
        amounts = torch.zeros(len(faces), device=images.device)
        looks = self.settings.looks
        for look in range(looks + 1):
            levels = scale.level(domain.encode_image(images))
            if on_step is not None:
                note = f"level {float(levels.mean()):.2f}"
                on_step(Step(look + 1, looks + 1, images[:1], note=note))
            if look == looks:
                break
            missing = levels - _REMOVED if self.without else goal - levels
            missing = (missing / goal).clamp(-0.5, 1)
            amounts = (amounts + missing).clamp(0, _MOST)
            images = domain.sketch(_moved(domain, faces, amounts, self.edit.vector))
        return amounts


def _moved(
    domain: Domain,
    faces: Latents,
    amounts: Float[Tensor, " n"],
    vector: Float[Tensor, "num_ws w_dim"],
) -> Latents:
    """Faces in w_plus or s, displaced along a vector in w_plus by an amount for each."""
    step = vector[None]
    if faces.space is Space.S:  # affine layers make the displacement the same for every face
        styles = domain.generator.styles
        step = styles(step) - styles(torch.zeros_like(step))
    each = amounts.view(-1, *[1] * (step.ndim - 1))
    return Latents(faces.space, faces.codes + each * step)


def _has(levels: Float[Tensor, " samples"]) -> Float[Tensor, " samples"]:
    """How much each sample counts as one that has it, 0 to 1."""
    return torch.sigmoid((levels - _MIDDLE) / _SOFTNESS)


def _correlation(one: Float[Tensor, " samples"], other: Float[Tensor, " samples"]) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])
