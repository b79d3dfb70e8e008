"""A slider from examples: a few pairs of pictures, or two sets of pictures or of seeds.

The idea is that of concept sliders from pictures (Gandikota et al. 2023, section 4.2, "Concept
Sliders"): what two to six pairs (before, after) have in common is the intended change, and what
differs between them is accidental. There a LoRA of a diffusion model is trained on the pairs. Here
every picture is inverted, and simple statistics of the latents give the slider without training.

Let d_i be the difference of pair i, in standard deviations of each number of style space. (In this
way, StyleSpace, Wu et al. 2021, section 4.2, finds the channels of an attribute from 10 to 30
examples, by |mean| / deviation.)

    m    = mean of d_i                       what the pairs have in common
    v    = variance of d_i / n               the error of m
    keep = max(0, 1 - doubt * v / m^2)       the positive-part shrinkage of James and Stein
    d    = s * keep * m                      the slider at strength 1

The factor s fits the length of d to m (least squares), so that dropping the accidental part does
not weaken the rest. Two pairs hardly determine a variance, so each variance is shrunk towards their
mean over all numbers, as if `prior` more pairs had shown this mean. The colors of toRGB stay fixed,
as in StyleCLIP. For two sets, m is the difference of their means, and v its variance.

One pair does not show which part of its difference is accidental: all of it becomes the slider, and
the slider's origin says so.

Some measures need no ground truth and are stored in `origin.training`:

- `kept`: the share of numbers of which any part is kept;
- `agreement_before`, `agreement_after`: the mean cosine between the differences of two pairs, over
  all numbers and over the kept part; for two sets, the cosine between the differences of their
  halves;
- `residuals`: for each pair, the length of the part of its difference that the slider misses,
  relative to the difference;
- `likeness`: for each of the first eight pairs, the cosine in CLIP between the change that it shows
  and the change by a slider from the other pairs, which has not seen it. For one pair the slider
  itself is used; for two sets, it is compared with the change between their means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, cast

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.domain import RECIPES, Domain, Seeds, checked_seeds
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.method import Method, Pairs, Pictures, Request, register
from stylegan_hub.photos.invert import Refinement, encode, refine
from stylegan_hub.steps import OnStep, Step

ONE_PAIR = "One pair cannot tell the change from the accident, so all of its difference is kept."

_SHOWN = 8  # number of examples that CLIP looks at
_SMALL = 1e-12
_BRIGHTEST = 2.0  # renders reach a little beyond [-1, 1]; bytes reach 255


@dataclass(frozen=True)
class Settings:
    """How examples become a slider. The defaults gave the best results on the drawn portraits."""

    space: Space = Space.S
    """The space of the slider: s, or w_plus, where pairs agree less."""
    doubt: float = 1.0
    """How many times the variance of the mean counts as accidental; 0 keeps the plain mean."""
    prior: float = 4.0
    """Weight of the mean variance over all numbers in the variance of each, counted in pairs."""
    refine: int = 0
    """Steps of the search near the encoder's latent, for each picture; seeds need none."""
    truncation_psi: float = 0.7
    """Truncation of faces that are given as seeds."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space(self.space))
        if self.space not in (Space.W_PLUS, Space.S):
            raise ValueError(f"Got space {self.space}; sliders are in w_plus or s. Use one.")
        if self.doubt < 0 or not self.prior > 0 or self.refine < 0:
            raise ValueError(
                f"Got doubt {self.doubt}, prior {self.prior}, refine {self.refine}; expected a "
                "doubt and a refine of 0 or more, and a positive prior."
            )


DEFAULT = Settings()
REFINED = replace(DEFAULT, refine=30)
"""For pictures that the encoder inverts badly; takes two or three seconds more for each."""
MEAN = replace(DEFAULT, doubt=0.0)
"""The plain mean of the differences, including the accidental part."""


@register
class FromPairs(Method[Settings]):
    """A slider from pairs of pictures before and after a change, or from two sets of them."""

    name: ClassVar[str] = "pairs"
    summary: ClassVar[str] = (
        "Finds what a few pairs of pictures, before and after, have in common; needs no words."
    )
    requests: ClassVar[tuple[type[Any], ...]] = (Pairs,)
    presets: ClassVar[Mapping[str, Any]] = {"default": DEFAULT, "refined": REFINED, "mean": MEAN}

    def checked_request(self, domain: Domain, request: Request | str | Image.Image) -> Pairs:
        """The request as pairs of seeds, or of tensors `[n, 3, h, w]` in the generator's size.

        Raises:
            MethodError: no picture or seed, pictures on one side and seeds on the other, pairs of
                different number or size, pictures of another shape than the generator's or of
                another range than [-1, 1], or pictures for a pipeline without an encoder.
        """
        asked: Pairs = super().checked_request(domain, request)
        before, after = _pictures(asked.before), _pictures(asked.after)
        if (before is None) != (after is None):
            raise MethodError(
                "Got pictures on one side and seeds on the other. Latents of pictures are less "
                "exact, and this difference would be part of the change.",
                got=tuple("seeds" if side is None else "pictures" for side in (before, after)),
                expected="the same on both sides",
                remedy="Give pictures on both sides: pipe(seed=...).images renders those of seeds.",
            )
        if before is None or after is None:
            seeds = [checked_seeds(cast(Seeds, side)) for side in (asked.before, asked.after)]
            _check_number(asked, len(seeds[0]), len(seeds[1]))
            return replace(asked, before=seeds[0], after=seeds[1])
        _check_number(asked, len(before), len(after))
        if domain.encoder is None:
            raise MethodError(
                "Got pictures for a pipeline without an encoder, which would find their latents.",
                got="pictures",
                expected="seeds",
                remedy="Give seeds of the generator's own pictures, or train an encoder: "
                f"{RECIPES['encoder']}.",
            )
        pairs = zip(before, after, strict=True) if asked.paired else ()
        for index, pair in enumerate(pairs):
            sizes = tuple((one.shape[3], one.shape[2]) for one in pair)
            if sizes[0] != sizes[1]:
                raise MethodError(
                    f"Got pair {index} of {_size(sizes[0])} and {_size(sizes[1])} pixels; their "
                    "difference in sharpness would be part of the change.",
                    got=sizes,
                    expected="one size within a pair",
                    remedy="Resize the larger one first.",
                )
        return replace(
            asked,
            before=torch.cat([_fitted(domain, one) for one in before]),
            after=torch.cat([_fitted(domain, one) for one in after]),
        )

    @torch.no_grad()
    def search(
        self,
        domain: Domain,
        request: Pairs,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Direction:
        """Find the direction that the examples agree on, for every face; see this module's text."""
        if face is not None and face.space is Space.S:
            settings = replace(settings, space=Space.S)  # there is no way back to w_plus
        steps = _Steps(on_step, request, settings)
        faces, after_faces = (
            domain.lower(_latents(domain, side, settings, steps), settings.space)
            for side in (request.before, request.after)
        )
        units, free = domain.units(settings.space), domain.editable(settings.space)
        before, after = (units.from_codes(side.codes) * free for side in (faces, after_faces))
        found = found_in(before, after, request.paired, settings)
        if not found.offset.any():
            raise MethodError(
                "The examples agree on nothing: they are the same before and after, or differ by "
                "chance.",
                got=(len(before), len(after)),
                expected="examples that all change in the same way",
                remedy="Give more of them, or keep all of their differences: settings='mean'.",
            )
        vector = units.to_codes(found.offset) * free

        # Each pair is compared with a slider made from the others, which have not seen it.
        first = faces[:_SHOWN]
        edited = first.codes + vector
        if request.paired and len(before) > 1:
            rest = [torch.arange(len(before)) != index for index in range(len(first))]
            offsets = [found_in(before[r], after[r], True, settings).offset for r in rest]
            edited = first.codes + units.to_codes(torch.stack(offsets)) * free
        shown = domain.sketch(Latents(settings.space, edited))
        seen = domain.encode_image(shown) - domain.encode_image(domain.sketch(first))
        wanted = _change(domain, request, faces, after_faces)
        likeness = F.cosine_similarity(seen, wanted, dim=1, eps=1e-6)
        steps.tell(shown[:1], f"likeness {float(likeness.mean()):.3f}")
        training = {
            "method": self.name,
            "name": request.name,
            "paired": request.paired,
            "examples": [len(before), len(after)],
            "given": "seeds" if isinstance(request.before, list) else "pictures",
            **asdict(settings),
            "space": settings.space.value,
            **_agreement(before, after, request.paired, found),
            "likeness": [round(value, 4) for value in likeness.tolist()],
        }
        if len(before) == len(after) == 1:
            training["note"] = ONE_PAIR
        origin = Origin(training=training)
        return Direction(vector, settings.space, domain.base_model, Strength(), origin)

    def caption(self, origin: Origin) -> str:
        """The label of a slider that has no name."""
        return str(origin.training.get("name", self.name))

    def account(self, origin: Origin) -> str:
        """How a slider was found, for its card."""
        training = origin.training
        before, after = training.get("examples") or ("some", "some")
        of = training.get("given", "examples")
        given = (
            f"{before} of {of}, before and after it"
            if training.get("paired", True)
            else f"{before} {of} without and {after} with it"
        )
        found = "what they agree on was kept, and what differs by chance was dropped"
        account = (
            f"A direction from examples of a change ({self.caption(origin)}): {given}; {found}."
        )
        return f"{account} {training['note']}" if "note" in training else account


@dataclass(frozen=True)
class Found:
    """What examples have in common, in standard deviations.

    Attributes:
        offset: the slider, `[*code]`.
        kept: the share of each number of the mean that is kept, in [0, 1], `[*code]`.
    """

    offset: Tensor
    kept: Tensor


def found_in(
    before: Float[Tensor, "n ..."],
    after: Float[Tensor, "m ..."],
    paired: bool,
    settings: Settings = DEFAULT,
) -> Found:
    """What examples agree on; with one example on each side, all of their difference.

    Args:
        before, after: latents in standard deviations, the same number of both if `paired`.
    """
    if paired:
        differences = after - before
        mean, freedom, share = differences.mean(0), len(before) - 1, 1 / len(before)
        squares = (differences - mean).square().sum(0)
    else:
        mean, freedom = after.mean(0) - before.mean(0), len(before) + len(after) - 2
        share = 1 / len(before) + 1 / len(after)
        squares = (before - before.mean(0)).square().sum(0)
        squares = squares + (after - after.mean(0)).square().sum(0)
    if freedom == 0 or settings.doubt == 0:
        return Found(mean, torch.ones_like(mean))
    moving = (squares > 0).float().mean().clamp_min(_SMALL)  # some numbers may never move
    pooled = squares.mean() / freedom / moving
    variance = share * (settings.prior * pooled + squares) / (settings.prior + freedom)
    kept = (1 - settings.doubt * variance / mean.square().clamp_min(_SMALL)).clamp(0, 1)
    part = kept * mean
    scale = (part * mean).sum() / part.square().sum().clamp_min(_SMALL)
    return Found(scale * part, kept)


def _agreement(before: Tensor, after: Tensor, paired: bool, found: Found) -> dict[str, Any]:
    """How similar the examples' differences are, and what the slider misses of them."""
    result: dict[str, Any] = {"kept": _rounded((found.kept > 0).float().mean())}
    if paired:
        differences = after - before
        missed = (differences - found.offset).flatten(1).norm(dim=1)
        lengths = differences.flatten(1).norm(dim=1).clamp_min(_SMALL)
        result["residuals"] = [_rounded(value) for value in missed / lengths]
    elif min(len(before), len(after)) > 1:
        halves = [after[half::2].mean(0) - before[half::2].mean(0) for half in (0, 1)]
        differences = torch.stack(halves)
    else:
        return result
    if len(differences) > 1:
        result["agreement_before"] = _rounded(_mean_cosine(differences))
        result["agreement_after"] = _rounded(_mean_cosine(differences * found.kept))
    return result


def _mean_cosine(rows: Float[Tensor, "n ..."]) -> float:
    """Mean cosine over all pairs of different rows."""
    unit = F.normalize(rows.flatten(1), dim=1, eps=_SMALL)
    count = len(unit)
    # The squared length of the sum contains all pairs, and each row with itself.
    own = unit.square().sum()
    return float((unit.sum(0).square().sum() - own) / (count**2 - count))


def _change(domain: Domain, request: Pairs, before: Latents, after: Latents) -> Tensor:
    """The change of CLIP's embedding from before to after, for each pair or the sets' means."""
    seen = []
    for given, faces in ((request.before, before), (request.after, after)):
        shown = given if isinstance(given, Tensor) else domain.sketch(faces[:_SHOWN])
        seen.append(domain.encode_image(shown[:_SHOWN]))
    if request.paired:
        return seen[1] - seen[0]
    return (seen[1].mean(0) - seen[0].mean(0)).expand_as(seen[0])


class _Steps:
    """Reports the steps of inverting each picture, and one step at the end."""

    def __init__(self, on_step: OnStep | None, request: Pairs, settings: Settings) -> None:
        self._on_step, self._done = on_step, 0
        of_each = 0 if isinstance(request.before, list) else max(1, settings.refine)
        self._total = of_each * (len(request.before) + len(request.after)) + 1

    def tell(self, images: Tensor | None, note: str, loss: float = math.nan) -> None:
        self._done += 1
        if self._on_step is not None:
            self._on_step(Step(self._done, self._total, images, loss, note))


def _latents(domain: Domain, given: Any, settings: Settings, steps: _Steps) -> Latents:
    """Latents in w_plus: sampled from seeds, or found by the encoder and a search nearby."""
    if isinstance(given, list):
        return domain.lower(domain.sample(given, settings.truncation_psi), Space.W_PLUS)
    found = []
    for image in given.split(1):
        if settings.refine:
            found.append(
                refine(
                    domain, image, settings=Refinement(steps=settings.refine),
                    on_step=lambda step: steps.tell(step.images, "looking at a picture", step.loss),
                )
            )  # fmt: skip
        else:
            found.append(encode(domain, image))
            steps.tell(domain.synthesize(found[-1]), "looking at a picture")
    return Latents.cat(found)


def _check_number(request: Pairs, before: int, after: int) -> None:
    if request.paired and before != after:
        raise MethodError(
            f"Got {before} before and {after} after the change.",
            got=(before, after),
            expected="as many before as after",
            remedy="Leave out what has no partner, or give two sets: paired=False.",
        )


def _pictures(given: Pictures | Image.Image) -> list[Tensor] | None:
    """The pictures of one side, `[1, 3, h, w]` each; None if it holds seeds."""
    if isinstance(given, Image.Image):
        given = [given]
    if isinstance(given, Tensor) and given.is_floating_point():
        if given.ndim != 4 or given.shape[1] != 3 or 0 in given.shape:
            raise MethodError(
                f"Got pictures of shape {list(given.shape)}.",
                got=tuple(given.shape),
                expected=("n", 3, "h", "w"),
                remedy="Give a batch of RGB pictures in [-1, 1].",
            )
        low, high = float(given.min()), float(given.max())
        if not max(-low, high) <= _BRIGHTEST:  # false for NaN
            raise MethodError(
                f"Got pictures with values from {low:g} to {high:g}.",
                got=(low, high),
                expected=(-1.0, 1.0),
                remedy="Bring them to [-1, 1]: images.from_uint8, or give PIL pictures.",
            )
        return list(given.detach().float().clamp(-1, 1).split(1))
    if len(given) == 0:
        raise MethodError(
            "Got no picture on one side.",
            got=0,
            expected="one or more",
            remedy="Give pictures before and after the change.",
        )
    pictures = [one for one in given if isinstance(one, Image.Image)]
    if not pictures:
        return None
    if len(pictures) < len(given):
        raise MethodError(
            "Got pictures and values of other types on one side.",
            got=tuple(type(one).__name__ for one in given),
            expected="pictures, or seeds",
            remedy="Give only pictures or only seeds on both sides.",
        )
    return [image_files.from_pil(one) for one in pictures]


def _fitted(domain: Domain, image: Tensor) -> Tensor:
    """A picture in the generator's size."""
    height, width = domain.generator.img_size
    size = (image.shape[3], image.shape[2])
    if image.shape[2] * width != image.shape[3] * height:
        raise MethodError(
            f"Got a picture of {_size(size)} pixels; this generator renders "
            f"{_size((width, height))}.",
            got=size,
            expected=(width, height),
            remedy="Crop it to this shape first: photos.align, or `stylegan-hub invert`.",
        )
    return image_files.resize(image.to(domain.device), (height, width))


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _rounded(value: float | Tensor) -> float:
    return round(float(value), 4)
