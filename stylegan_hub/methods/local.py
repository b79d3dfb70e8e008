"""Local edits: directions that change one part of the face, steered by text if wanted.

LELSD (Pajouheshgar et al. 2022, "Optimizing Latent Space Directions For GAN-based Local Image
Editing") looks for directions u whose change lies inside the masks m of a part. Its localization
score of layer l, with feature maps r before and after the edit, is

    LS_l = sum m |r_after - r_before|^2 / sum |r_after - r_before|^2

over all pixels, with m the average of the masks before and after. eCLIPsed adds what the picture
should show:

    clip * (1 - cos(C(t), C(G(w + a u)))) - localization * LS + correlation * |Corr(u) - 1|

with random strengths a. Without words this is LELSD. Several directions for one part are found
together; the last term keeps them different.

`PAPER` and `PAPER_WITHOUT_WORDS` repeat the papers' settings except for the schedule of the
learning rate, which is halved three times there and falls as a cosine here. The defaults differ in
the same way as those of `optimization`, for the same reason: steps have equal lengths along the
gradient in the units in which latents vary, CLIP looks at randomly shifted and scaled copies, and
the *change* of the picture is compared with the change of the words. The search starts from the
edit of the instant method, if the domain has an instant model. At a negative strength, the picture
should change in the opposite way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.domain import Domain, Preprocessing, Units
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss
from stylegan_hub.methods.fit import asked_change
from stylegan_hub.methods.instant import Memory
from stylegan_hub.methods.method import Nothing, Request, Words, register
from stylegan_hub.methods.run import Run, Share, TrainableMethod
from stylegan_hub.optimizers import MOMENTUM, EqualSteps
from stylegan_hub.regions.feature_maps import at_size, convolutions, draw_with_features
from stylegan_hub.regions.find import find_region, named_region
from stylegan_hub.regions.mask import region_mask
from stylegan_hub.views import random_views

Masks = Literal["average", "union", "intersection"]
Distance = Literal["l2", "l1", "cos"]
_LEVEL = 0.9  # that the instant edit aims at, as by default
_SMALL = 1e-6  # keeps the score of equal pictures finite


@dataclass(frozen=True)
class Settings:
    """How to search. The defaults gave the best results on the drawn portraits."""

    space: Space = Space.W_PLUS
    """w (the same for all layers), w_plus, or s, where the toRGB layers stay fixed; a face in s is
    edited in s."""
    steps: int = 60
    batch_size: int = 4
    """Faces per step; every step has different ones, unless the search is for one face."""
    lr: float = 0.2
    """Peak length of a step in the units in which latents vary; without `whiten`, Adam's rate."""
    localization_lambda: float = 0.05
    """Weight of the localization score."""
    clip_lambda: float = 0.5
    """Weight of the plain CLIP loss, 1 in the paper."""
    directional_lambda: float = 1.0
    """Weight of the directional CLIP loss, 0 in the paper."""
    correlation_lambda: float = 0.0
    """Weight of the correlation between directions that are found together."""
    l2_lambda: float = 0.0005
    """Weight of the squared length in the units of latents."""
    directions: int = 1
    """How many directions are found together."""
    layers: tuple[int, ...] | None = None
    """Layers that may move, as indices into ws; all when None."""
    layer_weights: tuple[float, ...] | None = None
    """Weight of each convolution in the localization score, in order; equal when None."""
    masks: Masks = "average"
    """How the masks before and after are combined."""
    distance: Distance = "l2"
    """How feature maps are compared at each pixel."""
    background: bool = False
    """Change everything except the region."""
    strengths: tuple[float, float] = (0.6, 1.0)
    """Range that strengths are drawn from during the search; a negative strength asks for the
    opposite change."""
    min_strength: float = 0.1
    """Strengths closer to 0 than this are drawn again."""
    length: float | None = None
    """Fix the length of directions, in the units in which latents vary; free when None."""
    views: int = 1
    """Augmented copies of each picture that CLIP looks at; 0 = the picture itself."""
    whiten: bool = True
    """Measure steps and lengths in the units in which latents vary."""
    warm: bool = True
    """Start from the instant method's edit, if there are words, an instant model and `whiten`. From
    no change, the steps hardly reach a hat or a bald head."""
    preprocessing: Preprocessing = "proper"
    """"styleclip" leaves out CLIP's mean and std, as the official code of StyleCLIP does."""
    truncation_psi: float = 0.7
    """Truncation of random faces."""
    first_seed: int = 0
    """Seed of the first random face; the other faces have the seeds after it."""
    seed: int = 0
    """Seed of everything else that is random."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space(self.space))
        if self.space is Space.Z:
            raise ValueError("Got space z; local edits are searched in w, w_plus or s. Use one.")
        if min(self.steps, self.batch_size, self.directions) < 1 or not self.lr > 0:
            raise ValueError(
                f"Got steps {self.steps}, batch_size {self.batch_size}, directions "
                f"{self.directions}, lr {self.lr}; expected at least one of each, and a positive "
                "lr."
            )
        low, high = self.strengths
        if not low <= high or max(abs(low), abs(high)) <= self.min_strength:
            raise ValueError(
                f"Got strengths from {low} to {high} and min_strength {self.min_strength}; "
                "expected a rising range that reaches beyond min_strength."
            )
        if self.masks not in ("average", "union", "intersection"):
            raise ValueError(f"Got masks {self.masks!r}; use average, union or intersection.")
        if self.distance not in ("l2", "l1", "cos"):
            raise ValueError(f"Got distance {self.distance!r}; use l2, l1 or cos.")


WITHOUT_WORDS = Settings(
    steps=60, localization_lambda=1.0, clip_lambda=0.0, directional_lambda=0.0, l2_lambda=0.0,
    correlation_lambda=1.0, strengths=(-1.0, 1.0), min_strength=0.3, length=6.0,
)  # fmt: skip
"""For a search without a prompt: only the place of the change counts."""

PAPER = Settings(
    steps=200, batch_size=2, lr=1e-3, clip_lambda=1.0, directional_lambda=0.0, l2_lambda=0.0,
    strengths=(0.0, 1.0), views=0, whiten=False, warm=False,
)  # fmt: skip
"""The settings of eCLIPsed."""
PAPER_WITHOUT_WORDS = replace(
    PAPER, batch_size=4, localization_lambda=1.0, clip_lambda=0.0, correlation_lambda=5.0,
    strengths=(-1.0, 1.0), min_strength=0.0,
)  # fmt: skip
"""The settings of LELSD's notebook, which takes 200 steps per direction."""


@register
class Local(TrainableMethod[Settings]):
    """Local edits: change one part of the picture, with or without words."""

    name: ClassVar[str] = "local"
    summary: ClassVar[str] = "Changes one part of the picture and leaves the rest alone."
    requests: ClassVar[tuple[type[Any], ...]] = (Words, Nothing)
    takes_region: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Any]] = {
        "default": Settings(),
        "without_words": WITHOUT_WORDS,
        "published": PAPER,
        "published_without_words": PAPER_WITHOUT_WORDS,
    }
    needs: ClassVar[frozenset[str]] = frozenset({"parser"})
    former_names: ClassVar[tuple[str, ...]] = ("local_direction",)
    takes_faces: ClassVar[bool] = True

    def default(self, domain: Domain, request: Request) -> Settings:
        """The preset "default", or `WITHOUT_WORDS` for a request without words."""
        return WITHOUT_WORDS if isinstance(request, Nothing) else self.presets["default"]

    def start(
        self,
        domain: Domain,
        request: Words | Nothing,
        face: Latents | None,
        settings: Settings,
        faces: Latents | None = None,
    ) -> LocalRun:
        """Start a search for one or several directions that change the region.

        Raises:
            ValueError: no region is given and the words name no part of the face, the parser does
                not know the region, or there are words without a weight or a weight without words.
        """
        return LocalRun(domain, request, face if faces is None else faces, settings)

    def caption(self, origin: Origin) -> str:
        """The label of a local edit that has no name."""
        background = bool(origin.training.get("background"))
        where = f"{'all but ' * background}{origin.training.get('region')}"
        return f"{origin.prompt or 'a change'} ({where})"

    def account(self, origin: Origin) -> str:
        """How an edit was found, for its card."""
        return (
            f"A direction that changes one part of the picture ({origin.training.get('region')}) "
            "and leaves the rest alone (LELSD, eCLIPsed)."
        )


@dataclass(frozen=True)
class Before:
    """Faces before the edit.

    Attributes:
        codes: in the space of the search.
        images: not clamped.
        features: of the convolutions with a weight.
        mask: of the region, `[n, 1, h, w]`.
    """

    codes: Tensor
    images: Float[Tensor, "n 3 h w"]
    features: dict[str, Tensor]
    mask: Float[Tensor, "n 1 h w"]


class LocalRun(Run):
    """The search for directions, and its losses.

    Args:
        faces: to search on, one or several; random ones when None.

    Attributes:
        offset: `[directions, ...]`, of w, all ws or s; in standard deviations of the latents with
            `whiten`.
        region: where the change should be.
    """

    def __init__(
        self,
        domain: Domain,
        request: Words | Nothing,
        faces: Latents | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings = settings or Local().default(domain, request)
        words = request if isinstance(request, Words) else None
        self._words, self._prompt = words, None if words is None else words.text
        self._neutral = (words and words.neutral) or domain.neutral
        self._domain, self._space = domain, settings.space
        if faces is not None and faces.space is Space.S:
            self._space = Space.S
        if self._prompt is None and request.region is None:
            raise ValueError("Got neither words nor a region; say what should change, or where.")
        has_words = settings.clip_lambda != 0 or settings.directional_lambda != 0
        if (words is not None) != has_words:
            raise ValueError(
                f"Got the prompt {self._prompt!r} with clip_lambda {settings.clip_lambda} and "
                f"directional_lambda {settings.directional_lambda}; words need a weight, and "
                "weights need words."
            )
        if request.region is not None:
            self.region = named_region(domain, request.region)
        else:
            self.region = find_region(domain, self._prompt or "", self._neutral)
        if self._prompt is not None:
            self._text, origin = domain.encode_text([self._prompt, self._neutral]).chunk(2)
            self._text_change = F.normalize(self._text - origin, dim=-1, eps=1e-6)
        self._units = domain.units(self._space) if settings.whiten else None
        self._free = _movable(domain, self._space, settings.layers)
        self._weights = _layer_weights(domain, settings.layer_weights)
        self.offset = nn.Parameter(self._start())
        self._given = faces
        is_small = faces is not None and len(faces) <= settings.batch_size
        self._fixed = self.before(faces) if faces is not None and is_small else None
        self._image: Tensor | None = None
        self.count, self.remarks = settings.directions, (f"Region: {self.region}",)

    def optimizer(self) -> torch.optim.Optimizer:
        """Steps of equal length in the units of latents, or Adam without `whiten`."""
        if self.settings.whiten:
            return EqualSteps([self.offset], lr=self.settings.lr, momentum=MOMENTUM)
        return torch.optim.Adam([self.offset], lr=self.settings.lr)

    def faces(self, step: int, share: Share = (0, 1)) -> Latents:
        """The faces of a step: the next ones of the given faces in turn, or random ones."""
        settings, (index, count) = self.settings, share
        first = (step * count + index) * settings.batch_size
        numbers = range(first, first + settings.batch_size)
        if self._given is not None:
            return Latents.cat([self._given[number % len(self._given)] for number in numbers])
        seeds = [settings.first_seed + number for number in numbers]
        return self._domain.sample(seeds, settings.truncation_psi)

    @torch.no_grad()
    def before(self, faces: Latents) -> Before:
        """Faces before the edit: their codes, pictures, features and masks."""
        domain, space = self._domain, max(self._space, Space.W_PLUS)
        codes = domain.lower(faces, space).codes
        images, features = draw_with_features(domain, Latents(space, codes), tuple(self._weights))
        return Before(codes, images, features, region_mask(domain, images, self.region))

    def losses(
        self, step: int, random: torch.Generator, share: Share = (0, 1)
    ) -> dict[str, Float[Tensor, ""]]:
        """Mean losses over the faces of a step; processes share the faces."""
        before = self._fixed or self.before(self.faces(step, share))
        return self.on(before, random)

    def on(self, before: Before, random: torch.Generator) -> dict[str, Float[Tensor, ""]]:
        """Mean losses over these faces: "loss" and its parts without weights.

        Args:
            random: for strength, direction and augmentation, which all faces share.
        """
        settings, domain = self.settings, self._domain
        strength = _strength(settings, random)
        chosen = int(torch.randint(settings.directions, (1,), generator=random))
        views = random_views(settings.views, random)
        vector = self.vectors()[chosen]
        codes = before.codes + strength * vector
        edited = Latents(max(self._space, Space.W_PLUS), codes)
        images, features = draw_with_features(domain, edited, tuple(self._weights))
        mask = self._mask(before.mask, region_mask(domain, images, self.region))
        scores = [
            weight
            * localization_score(before.features[name], features[name], mask, settings.distance)
            for name, weight in self._weights.items()
        ]
        parts = {"localization": 1 - torch.stack(scores).sum(0).mean()}
        if self._prompt is not None:
            parts |= self._opinion(before.images, images, views, strength)
        if settings.l2_lambda:
            parts["l2"] = self.offset[chosen].square().sum()
        if settings.correlation_lambda and settings.directions > 1:
            parts["correlation"] = correlation(self.offset)
        weighted = [getattr(settings, f"{name}_lambda") * part for name, part in parts.items()]
        self._image = images[:1].detach()
        return {"loss": torch.stack(weighted).sum(), **parts}

    def shown(self, latents: Latents | None = None) -> Float[Tensor, "n 3 h w"]:
        """Pictures of faces with each direction, one direction after the other.

        Without faces, the first picture of the last step, at the strength drawn in that step.
        """
        if latents is None:
            assert self._image is not None  # a step was made
            return self._image
        space = max(self._space, Space.W_PLUS)
        with torch.no_grad():
            codes = self._domain.lower(latents, space).codes
            moved = [Latents(space, codes + vector) for vector in self.vectors()]
            return torch.cat([self._domain.synthesize(one) for one in moved])

    def edits(self) -> list[Edit]:
        """The directions that were found, as edits."""
        settings, domain = self.settings, self._domain
        space = max(self._space, Space.W_PLUS)
        count = settings.steps * settings.batch_size
        training = {
            "method": Local.name,
            "region": self.region.name,
            "parts": list(self.region.parts),
            "region_found": self.region.reason,
            "searched_in": self._space.value,
            "faces": f"{count} random" if self._given is None else f"{len(self._given)} given",
            **asdict(settings),
            "space": space.value,
        }
        origin = Origin(self._prompt, self._neutral if self._prompt else None, training)
        shape = (settings.directions, *_shape(domain, space))
        with torch.no_grad():
            vectors = self.vectors().expand(shape)
        return [
            Direction(vector, space, domain.base_model, Strength(), replace(origin))
            for vector in vectors
        ]

    def _opinion(
        self, before: Tensor, after: Tensor, views: Tensor, strength: float
    ) -> dict[str, Tensor]:
        """The CLIP losses.

        At a negative strength, the change of the words is reversed, but no text describes the
        result.
        """
        settings, domain = self.settings, self._domain

        def look(images: Tensor) -> Tensor:
            return domain.look(images, views, settings.preprocessing)

        seen = look(after)
        parts: dict[str, Tensor] = {}
        if strength > 0:
            parts["clip"] = clip_loss(seen, self._text).mean()
        if settings.directional_lambda:
            with torch.no_grad():
                seen_before = look(before)
            wanted = self._text_change if strength > 0 else -self._text_change
            parts["directional"] = directional_clip_loss(seen, seen_before, wanted).mean()
        elif strength < 0:
            parts["clip"] = -clip_loss(seen, self._text).mean()
        return parts

    @torch.no_grad()
    def _instant(self, words: Words, units: Units) -> Tensor:
        """The displacement that the instant method finds, in the units of the search."""
        change, without = asked_change(self._domain, words)
        edit = Memory(self._domain).edit(change, _LEVEL, Origin(), without)
        vector = edit.vector.to(self._domain.device)
        if self._space is Space.W:
            vector = vector[0]
        elif self._space is Space.S:
            styles = self._domain.generator.styles
            vector = (styles(vector[None]) - styles(torch.zeros_like(vector[None])))[0]
        return units.from_codes(vector)

    def _mask(self, before: Tensor, after: Tensor) -> Float[Tensor, "n 1 h w"]:
        mask = combined(before, after, self.settings.masks)
        return 1 - mask if self.settings.background else mask

    def vectors(self) -> Tensor:
        """The directions, `[directions, ...]`, in the units of codes."""
        offset, length = self.offset, self.settings.length
        if length is not None:
            norms = offset.flatten(1).norm(dim=1).clamp_min(_SMALL)
            offset = offset * (length / norms).view(-1, *[1] * (offset.ndim - 1))
        codes = self._units.to_codes(offset) if self._units else offset
        if self._space is Space.W:
            codes = codes[:, None]
        return codes * self._free

    def _start(self) -> Tensor:
        """No change or the instant edit, or small random ones if directions should differ or there
        are no words."""
        settings = self.settings
        shape = (settings.directions, *_shape(self._domain, self._space))
        if self._units and settings.directions == 1 and self._words is not None:
            if settings.warm and self._domain.instant is not None:
                return self._instant(self._words, self._units).view(shape)
            return torch.zeros(shape, device=self._domain.device)
        random = torch.randn(shape, generator=torch.Generator().manual_seed(settings.seed))
        size = settings.length or (settings.lr if settings.whiten else 1.0)
        return size * F.normalize(random.flatten(1), dim=1).view(shape).to(self._domain.device)


def localization_score(
    before: Float[Tensor, "n c h w"],
    after: Float[Tensor, "n c h w"],
    mask: Float[Tensor, "n 1 h2 w2"],
    distance: Distance = "l2",
) -> Float[Tensor, " n"]:
    """Share of the feature maps' change that lies inside the mask, in [0, 1] (LELSD eq. 1)."""
    before, after = before.float(), after.float()
    if distance == "cos":
        change = 1 - F.cosine_similarity(before, after, dim=1, eps=_SMALL)[:, None]
    else:
        difference = after - before
        size = difference.square() if distance == "l2" else difference.abs()
        change = size.mean(1, keepdim=True)
    inside = (at_size(mask.float(), change.shape[2:]) * change).sum((1, 2, 3))
    return inside / (change.sum((1, 2, 3)) + _SMALL)


def combined(before: Tensor, after: Tensor, how: Masks) -> Tensor:
    """The masks of two pictures combined: their average, union or intersection (LELSD)."""
    if how == "average":
        return (before + after) / 2
    return before + after - before * after if how == "union" else before * after


def correlation(directions: Float[Tensor, "k ..."]) -> Tensor:
    """Mean |Corr(u_1 .. u_k) - 1| over all pairs and layers (LELSD); 0 if none are correlated."""
    rows = directions if directions.ndim == 3 else directions[:, None]  # [k, layers, features]
    centered = F.normalize(rows - rows.mean(-1, keepdim=True), dim=-1, eps=_SMALL)
    table = torch.einsum("ild,jld->lij", centered, centered)
    return (table - torch.eye(len(directions)).to(table)).abs().mean()


def _strength(settings: Settings, random: torch.Generator) -> float:
    low, high = settings.strengths
    while True:
        strength = low + (high - low) * float(torch.rand((), generator=random))
        if abs(strength) >= settings.min_strength:
            return strength


def _shape(domain: Domain, space: Space) -> tuple[int, ...]:
    generator = domain.generator
    if space is Space.S:
        return (generator.num_styles,)
    w_dim: int = generator.config.w_dim
    return (w_dim,) if space is Space.W else (generator.num_ws, w_dim)


def _movable(domain: Domain, space: Space, layers: Sequence[int] | None) -> Tensor:
    """1 where codes may move, else 0: `[num_ws, 1]`, or `[num_styles]` in s."""
    num_ws = domain.generator.num_ws
    chosen = set(range(num_ws)) if layers is None else set(layers)
    if not chosen or not chosen <= set(range(num_ws)):
        raise ValueError(
            f"Got layers {sorted(chosen)}; this generator has the layers 0 to {num_ws - 1}, and at "
            "least one must move."
        )
    if space is not Space.S:
        free = torch.zeros(num_ws, 1, device=domain.device)
        free[sorted(chosen)] = 1
        return free
    free = domain.editable(space)
    for layer in domain.generator.style_layout:
        if layer.ws_index not in chosen:
            free[layer.start : layer.stop] = 0
    return free


def _layer_weights(domain: Domain, weights: Sequence[float] | None) -> dict[str, float]:
    """Weights of convolutions, scaled to sum to 1, without those of weight 0."""
    names = convolutions(domain)
    weights = [1.0] * len(names) if weights is None else list(weights)
    if len(weights) != len(names) or min(weights) < 0 or not sum(weights) > 0:
        raise ValueError(
            f"Got layer_weights {weights}; expected {len(names)} numbers of at least 0, one for "
            f"each of {', '.join(names)}, and not all of them 0."
        )
    return {name: w / sum(weights) for name, w in zip(names, weights, strict=True) if w}
