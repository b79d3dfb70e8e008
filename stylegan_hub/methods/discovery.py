"""The generator's own sliders, found without words: directions it already has, named by CLIP.

There are two sources of directions, which need no training and no labels:

- *pca*: principal axes of w over random faces (Härkönen et al. 2020, "GANSpace", section 3), along
  which w varies most;
- *sefa*: singular directions of the affine weights from w to styles, with each row scaled to
  length 1 (Shen and Zhou 2021, "Closed-Form Factorization of Latent Semantics in GANs", eq. 6), to
  which a layer reacts most.

Each direction moves all layers, or only the coarse, middle or fine ones (up to 8, up to 32 and
beyond 32 pixels, as in StyleCLIP). For both sources, strength 1 moves w by `deviations` standard
deviations along the direction; the papers do not fix this length.

In both papers, directions were named by looking at the pictures. Here CLIP names them. With C+ and
C- as its embeddings of a face at both ends (strengths 1 and -1),

    change       c_i = C+ - C- of face i
    amount       root of the mean of c_i * c_j over all pairs of different faces: large if faces
                 change much and in the same way
    name         the pair of words (a, b) in the bank whose C(b) - C(a) has the largest cosine with
                 the mean of c_i

If this cosine is below `confidence`, the slider is called "unnamed". Sliders are sorted by amount,
and one that duplicates a better one is left out: in the latents (cosine of w_plus), to CLIP (cosine
of the mean c) or in its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.domain import RECIPES, Domain, Label
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.method import Method, Nothing, Request, register
from stylegan_hub.methods.word_bank import Alternatives, alternatives, sentence
from stylegan_hub.regions.feature_maps import at_size
from stylegan_hub.regions.find import Region, named_region
from stylegan_hub.regions.mask import region_mask
from stylegan_hub.steps import OnStep, Step

Source = Literal["pca", "sefa", "both"]
RANGES = {"all": (0, 1 << 30), "coarse": (0, 8), "middle": (9, 32), "fine": (33, 1 << 30)}
"""The range of resolutions of the layers that move together."""

_SMALL = 1e-12


@dataclass(frozen=True)
class Settings:
    """What to look for. The defaults were chosen on the drawn portraits."""

    count: int = 12
    """Largest number of sliders."""
    source: Source = "both"
    """Axes of w ("pca"), of the affine weights ("sefa"), or both."""
    layers: tuple[str, ...] = ("all", "coarse", "middle", "fine")
    """The ranges of layers to move, one at a time."""
    components: int = 8
    """How many first directions of each source and range of layers are tried."""
    deviations: float = 2.0
    """Standard deviations of w between the middle of a slider and its strength 1."""
    faces: int = 4
    """Number of random faces that each direction is tried on."""
    confidence: float = 0.3
    """Smallest cosine between the change that CLIP sees and the words that name it."""
    duplicate: float = 0.8
    """Cosine above which two sliders are duplicates, in latents or to CLIP."""
    inside: float = 0.5
    """With a region: smallest share of the squared change of the pixels that must lie inside it."""
    words: Alternatives | None = None
    """The bank of names; when None, the one for faces or for things, whichever the domain shows."""
    truncation_psi: float = 0.7
    """Truncation of the faces."""
    seed: int = 0
    """Seed of the first face; the other faces have the seeds after it."""

    def __post_init__(self) -> None:
        if min(self.count, self.components, self.faces) < 1 or not self.deviations > 0:
            raise ValueError(
                f"Got count {self.count}, components {self.components}, faces {self.faces}, "
                f"deviations {self.deviations}; expected at least one slider, direction and face, "
                "and a positive number of deviations."
            )
        if self.source not in ("pca", "sefa", "both"):
            raise ValueError(f"Got source {self.source!r}; expected 'pca', 'sefa' or 'both'.")
        if not self.layers or (unknown := [r for r in self.layers if r not in RANGES]):
            got = ", ".join(unknown) if self.layers else "none"
            raise ValueError(f"Got layers {got}; expected some of {', '.join(RANGES)}.")


DEFAULT = Settings()
PCA = replace(DEFAULT, source="pca", components=16)
"""GANSpace alone."""
SEFA = replace(DEFAULT, source="sefa", components=16)
"""SeFa alone."""


@dataclass(frozen=True)
class Candidate:
    """A direction that may become a slider.

    Attributes:
        found: its origin: source, layers, component.
        vector: at strength 1, `[num_ws, w_dim]`.
    """

    found: Mapping[str, Any]
    vector: Float[Tensor, "num_ws w_dim"]


@dataclass(frozen=True)
class Slider:
    """A candidate that was rendered and measured.

    Attributes:
        change: the change that CLIP sees from one end to the other, mean over faces, `[d]`.
        amount: how much and how consistently pictures change; for a single face, the length of
            its change.
        consistency: mean cosine between the changes of two faces; 1 for a single one.
        inside: mean share of the change inside the region; None without a region.
    """

    candidate: Candidate
    change: Float[Tensor, " d"]
    amount: float
    consistency: float
    inside: float | None

    def is_like(self, other: Slider, cosine: float) -> bool:
        """Whether it is the same slider or its opposite, in the latents or to CLIP."""
        return any(
            abs(_cosine(one, two)) > cosine
            for one, two in (
                (self.candidate.vector, other.candidate.vector),
                (self.change, other.change),
            )
        )


@register
class Discovery(Method[Settings]):
    """The generator's own sliders: axes of its latents and of its weights, named by CLIP."""

    name: ClassVar[str] = "discovery"
    summary: ClassVar[str] = "Finds sliders that the generator already has, and names them."
    requests: ClassVar[tuple[type[Any], ...]] = (Nothing,)
    takes_region: ClassVar[bool] = True
    presets: ClassVar[Mapping[str, Any]] = {"default": DEFAULT, "ganspace": PCA, "sefa": SEFA}

    def checked_request(self, domain: Domain, request: Request | str | Image.Image) -> Nothing:
        """The request; a region must be one that the domain's parser knows.

        Raises:
            MethodError: a region without a parser.
            ValueError: an unknown region; the message lists all regions.
        """
        asked: Nothing = super().checked_request(domain, request)
        if asked.region is not None:
            if domain.parser is None:
                raise MethodError(
                    f"Got the region {asked.region!r}; this pipeline has no parser to find it.",
                    got=asked.region,
                    expected=None,
                    remedy=f"Leave the region out, or train a parser: {RECIPES['parser']}.",
                )
            named_region(domain, asked.region)
        return asked

    def search(
        self,
        domain: Domain,
        request: Nothing,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Edit:
        """Find the slider that changes pictures most."""
        return self._sliders(domain, request, face, settings, on_step)[0]

    def find_all(
        self,
        domain: Domain,
        request: Request | str | Image.Image,
        face: Latents | None = None,
        *,
        label: Label | None = None,
        settings: Settings | str | None = None,
        on_step: OnStep | None = None,
    ) -> list[Edit]:
        """All sliders, the one that changes pictures most first; see `Method.find`.

        With a face, they are judged by that face alone.
        """
        return self._sliders(*self.prepared(domain, request, face, label, settings), on_step)

    def steps(self, settings: Settings) -> int | None:
        """None: the number of steps depends on the generator's layers."""
        return None

    def caption(self, origin: Origin) -> str:
        """The names of its ends: "no glasses ↔ glasses"."""
        return str(origin.training.get("name", self.name))

    def account(self, origin: Origin) -> str:
        """How a slider was found, for its card."""
        training = origin.training
        of = {
            "pca": "A principal axis of w (GANSpace)",
            "sefa": "A direction that layers read (SeFa)",
        }
        account = (
            f"{of.get(str(training.get('source')), self.summary)}, moved in the layers "
            f"{training.get('layers')!r}; found without words."
        )
        if training.get("confidence") is None:
            return f"{account} CLIP found no words in the bank for what it does."
        return f"{account} CLIP named its ends: {self.caption(origin)}."

    @torch.no_grad()
    def _sliders(
        self,
        domain: Domain,
        request: Nothing,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> list[Edit]:
        region = None if request.region is None else named_region(domain, request.region)
        seeds = range(settings.seed, settings.seed + settings.faces)
        faces = domain.sample(seeds, settings.truncation_psi) if face is None else face
        faces = domain.lower(faces, max(faces.space, Space.W_PLUS))
        found = candidates(domain, settings)
        sliders = []
        for index, candidate in enumerate(found):
            slider, ends = _looked_at(domain, candidate, faces, region)
            if region is None or (slider.inside or 0) >= settings.inside:
                sliders.append(slider)
            if on_step is not None:
                where = f"{candidate.found['source']}, {candidate.found['layers']} layers"
                on_step(Step(index + 1, len(found), ends, note=where))
        if not sliders:
            raise MethodError(
                f"None of {len(found)} directions has {settings.inside:.0%} of its change in the "
                f"region {request.region!r}.",
                got=request.region,
                expected="a region that a direction changes alone",
                remedy="Lower inside=, try more components=, or use the method 'local'.",
            )
        return self._named(domain, sliders, faces.space, settings)

    def _named(
        self, domain: Domain, sliders: list[Slider], space: Space, settings: Settings
    ) -> list[Edit]:
        """The best sliders, without duplicates, as edits with names."""
        bank = Bank(domain, settings.words)
        kept: list[Slider] = []
        edits: dict[str, Edit] = {}
        for slider in sorted(sliders, key=lambda one: -one.amount):
            if any(slider.is_like(other, settings.duplicate) for other in kept):
                continue
            name, cosine, sign = bank.name(slider.change, settings.confidence)
            if name is None:
                name = f"unnamed {1 + sum(one.startswith('unnamed') for one in edits)}"
            elif name in edits:
                continue
            kept.append(slider)
            vector = _in_space(domain, sign * slider.candidate.vector, space)
            training = {
                "method": self.name,
                "name": name,
                "confidence": None if name.startswith("unnamed") else round(cosine, 4),
                "amount": round(slider.amount, 4),
                "consistency": round(slider.consistency, 4),
                **({} if slider.inside is None else {"inside": round(slider.inside, 4)}),
                **{key: value for key, value in asdict(settings).items() if key not in _OWN},
                **slider.candidate.found,
            }
            edits[name] = Direction(
                vector,
                space,
                domain.base_model,
                Strength(1.0, -2.0, 2.0),
                Origin(training=training),
            )
            if len(edits) == settings.count:
                break
        return list(edits.values())


_OWN = ("source", "layers", "confidence", "words", "inside")  # each slider records its own values


def candidates(domain: Domain, settings: Settings) -> list[Candidate]:
    """First directions of each source and range of layers, without near duplicates."""
    sources = ("pca", "sefa") if settings.source == "both" else (settings.source,)
    resolutions = _resolutions(domain)
    axes = domain.units(Space.W).to_codes(
        torch.eye(domain.generator.config.w_dim, device=domain.device)
    )
    axes = axes[axes.norm(dim=1).argsort(descending=True)]
    found: list[Candidate] = []
    for name in settings.layers:
        low, high = RANGES[name]
        moved = torch.tensor([low <= r <= high for r in resolutions], device=domain.device)
        if not moved.any() or (name != "all" and moved.all()):
            continue  # a small generator has no layers in this range, or none outside it
        for source in sources:
            if source == "pca":
                rows = axes[: settings.components]
            else:
                rows = _singular(domain, low, high)[: settings.components]
                rows = rows * (axes @ rows.T).norm(dim=0)[:, None]  # deviation of w along each
            for index, row in enumerate(rows):
                vector = settings.deviations * moved[:, None] * row
                where = {"source": source, "layers": name, "component": index}
                one = Candidate(where, vector)
                if not any(abs(_cosine(vector, o.vector)) > settings.duplicate for o in found):
                    found.append(one)
    return found


def _resolutions(domain: Domain) -> list[int]:
    """The resolution of the layer that each w drives; the last w drives only a toRGB."""
    found = [0] * domain.generator.num_ws
    for layer in domain.generator.style_layout:
        found[layer.ws_index] = max(found[layer.ws_index], layer.resolution)
    return found


def _singular(domain: Domain, low: int, high: int) -> Float[Tensor, "k w_dim"]:
    """Directions of length 1 that the convolutions of these resolutions read, strongest first."""
    generator = domain.generator
    weights = [
        generator.synthesis.affine(layer.name).weight
        for layer in generator.style_layout
        if not layer.is_to_rgb and low <= layer.resolution <= high
    ]
    if not weights:  # only the last toRGB
        return torch.zeros(0, generator.config.w_dim, device=domain.device)
    rows = F.normalize(torch.cat(weights).cpu().double(), dim=1, eps=_SMALL)
    return torch.linalg.svd(rows, full_matrices=False).Vh.to(weights[0])


def _looked_at(
    domain: Domain, candidate: Candidate, faces: Latents, region: Region | None
) -> tuple[Slider, Float[Tensor, "2 3 h w"]]:
    """The effect of a candidate on faces, and pictures of both its ends on the first face."""
    vector = _in_space(domain, candidate.vector, faces.space)
    ends = [domain.sketch(Latents(faces.space, faces.codes + sign * vector)) for sign in (-1, 1)]
    low, high = (domain.encode_image(images).float() for images in ends)
    each = high - low
    amount, consistency = float(each[0].norm()), 1.0
    if len(each) > 1:
        amount = max(0.0, _mean_product(each)) ** 0.5
        consistency = _mean_product(F.normalize(each, dim=1, eps=_SMALL))
    inside = None
    if region is not None:
        mask = torch.maximum(*(region_mask(domain, images, region) for images in ends))
        squared = (ends[1] - ends[0]).square().sum(1, keepdim=True)
        mask = at_size(mask, squared.shape[2:])
        inside = float(((mask * squared).sum((1, 2, 3)) / squared.sum((1, 2, 3))).mean())
    slider = Slider(candidate, each.mean(0), amount, consistency, inside)
    return slider, torch.cat([images[:1] for images in ends])


class Bank:
    """Words for the ends of sliders, limited to those that the domain's CLIP knows.

    Args:
        words: see `word_bank.Alternatives`; those for faces or for things when None.
    """

    def __init__(self, domain: Domain, words: Alternatives | None = None) -> None:
        groups = alternatives(domain, words)
        self.pairs = [pair for group in groups for pair in combinations(group, 2)]
        entries = sorted({entry for pair in self.pairs for entry in pair})
        if not entries:
            self._changes = torch.zeros(0, 1)
            return
        texts = domain.encode_text([sentence(domain, entry) for entry in entries]).float()
        embedded = dict(zip(entries, texts, strict=True))
        changes = torch.stack([embedded[two] - embedded[one] for one, two in self.pairs])
        self._changes = F.normalize(changes, dim=1, eps=_SMALL)

    def name(
        self, change: Float[Tensor, " d"], confidence: float = 0.0
    ) -> tuple[str | None, float, int]:
        """The name of a change, "no glasses ↔ glasses", and its cosine.

        Returns:
            The name, in the order of the bank, or None if no cosine reaches `confidence`; the
            cosine; -1 if the change goes from right to left, else 1.
        """
        if not self.pairs:
            return None, 0.0, 1
        cosines = self._changes @ F.normalize(change, dim=0, eps=_SMALL)
        best = int(cosines.abs().argmax())
        cosine = float(cosines[best].abs())
        if cosine < confidence:
            return None, cosine, 1
        first, second = self.pairs[best]
        return f"{_label(first)} ↔ {_label(second)}", cosine, 1 if cosines[best] > 0 else -1


def _label(entry: str) -> str:
    """An entry in plain words: "a young *" is "young"."""
    if "*" not in entry:
        return entry
    return re.sub(r"^an? +(of an? )?", "", entry.replace("*", "")).strip()


def _in_space(domain: Domain, vector: Tensor, space: Space) -> Tensor:
    """A displacement in w_plus, converted to the space of a face.

    Affine layers make of it the same displacement in s for every face.
    """
    if space is Space.W_PLUS:
        return vector
    styles = domain.generator.styles
    return (styles(vector[None]) - styles(torch.zeros_like(vector)[None]))[0]


def _mean_product(rows: Float[Tensor, "n d"]) -> float:
    """Mean inner product of all pairs of different rows."""
    # The squared length of the sum contains all pairs, and each row with itself.
    total = rows.sum(0).square().sum() - rows.square().sum()
    return float(total / (len(rows) ** 2 - len(rows)))


def _cosine(one: Tensor, two: Tensor) -> float:
    return float(F.cosine_similarity(one.flatten(), two.flatten(), dim=0, eps=_SMALL))
