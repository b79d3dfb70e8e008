"""Essence transfer: one displacement that gives every face the character of a target picture.

This is the optimizer of TargetCLIP (Chefer et al. 2022, "Image-Based CLIP-Guided Essence
Transfer"). It finds b in W+ on N fixed source faces by minimizing

    transfer     mean over i of 1 - cos(C(G(w_i + c_i b)), C(target))
    consistency  mean over all pairs i != j of 1 - cos(D_i, D_j), D_i the change of C by the edit
    decay        weight decay on b

with an optional coefficient c_i for each source. The target needs no inversion, so it may be any
picture: a portrait, a photograph, a drawing. For a target that the generator could render, a search
that starts from its inversion takes a fifth of the time (`IN_DOMAIN`). Target and rendered pictures
get the same crop, size and CLIP preprocessing; the official code treats them differently.

`PAPER_IN_DOMAIN` and `PAPER_OUT_OF_DOMAIN` repeat the paper's settings. The defaults differ in the
same way as those of `optimization`, for the same reason: steps have equal lengths along the
gradient in the units in which latents vary, CLIP looks at randomly shifted and scaled copies, and
the change of each source is also compared with the change from that source to the target.

The displacement is kept within what samples show (`limited`): it adds to what a face already has,
so a face that is like the target would go beyond it, and half of a hat would remain where the
displacement is too short for a whole one.

For a target outside the domain, such as a drawing, CLIP's embedding mostly says that it is unlike
the samples, and a face that follows it falls apart. `OUT_OF_DOMAIN` therefore keeps only what the
embedding has in common with those of samples. Several restarts are searched side by side, and the
one with the smallest total loss is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain, Preprocessing
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.limited import Limited, Limits
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.method import Picture, Request, register
from stylegan_hub.methods.run import Run, Share, TrainableMethod
from stylegan_hub.optimizers import MOMENTUM, EqualSteps
from stylegan_hub.views import random_views

Start = Literal["zero", "random", "inversion"]
_COEFFICIENT_RATE = 0.2  # share of the learning rate of b
_WITNESSES = 192  # random samples that the principal components are computed from


@dataclass(frozen=True)
class Settings:
    """How to search. The defaults gave the best results on the drawn portraits."""

    steps: int = 50
    lr: float = 0.4
    """Peak length of a step in the units in which latents vary; without `whiten`, Adam's rate."""
    transfer_lambda: float = 1.0
    """Weight of the cosine distance to the target."""
    consistency_lambda: float = 0.5
    """Weight of the differences between the changes of different sources."""
    directional_lambda: float = 1.0
    """Weight of the distance of each change to the change from source to target, 0 in the paper."""
    weight_decay: float = 0.0005
    """Weight of the squared length of b in the units of latents; without `whiten`, Adam's decay."""
    sources: int = 16
    """Number of source faces that b is found on."""
    batch_size: int = 6
    """Number of sources in each step; all pairs of them are compared."""
    restarts: int = 2
    """Number of searches side by side, of which the best is kept."""
    start: Start = "zero"
    """Where the first restart starts: "inversion" is the target's latent, as found by the
    pipeline's encoder, minus the average. The other restarts start at random."""
    components: int | None = None
    """Keep only the part of the target's embedding that lies in this many principal components of
    the embeddings of random samples: what the target has in common with them, without what makes
    it unlike all of them. None keeps the whole embedding."""
    coefficients: bool = False
    """Learn how far each source moves."""
    views: int = 1
    """Augmented copies of each picture that CLIP looks at; 0 = the picture itself."""
    limited: bool = True
    """Keep edited faces within what samples show (`edits/limited.py`); not in the paper."""
    whiten: bool = True
    """Measure steps and lengths in the units in which latents vary."""
    preprocessing: Preprocessing = "proper"
    """"styleclip" leaves out CLIP's mean and std, for rendered pictures and the target alike."""
    truncation_psi: float = 0.7
    """Truncation of the sources."""
    first_seed: int = 0
    """Seed of the first source; the other sources have the seeds after it."""
    seed: int = 0
    """Seed of starts, batches and augmentation."""

    def __post_init__(self) -> None:
        if min(self.steps, self.restarts) < 1 or not self.lr > 0 or self.views < 0:
            raise ValueError(
                f"Got steps {self.steps}, restarts {self.restarts}, lr {self.lr}, views "
                f"{self.views}; expected at least one step and one restart, a positive lr and 0 or "
                "more views."
            )
        if not 2 <= self.batch_size <= self.sources:
            raise ValueError(
                f"Got batch_size {self.batch_size} with {self.sources} sources; expected at least "
                "2, since pairs of sources are compared, and at most as many as there are sources."
            )
        if self.components is not None and not 1 <= self.components < _WITNESSES:
            raise ValueError(
                f"Got components {self.components}; expected 1 to {_WITNESSES - 1}, or None."
            )


FROM_ZERO = Settings()
"""For a target that the generator could render, in a pipeline without an encoder."""
IN_DOMAIN = replace(FROM_ZERO, steps=20, lr=0.8, restarts=1, start="inversion")
"""For a target that the generator could render: starts from its inversion."""
OUT_OF_DOMAIN = replace(FROM_ZERO, steps=100, lr=0.2, components=32, views=2, weight_decay=0.008)
"""For drawings and other targets outside the domain, which would otherwise make faces fall apart;
longer steps still do."""

PAPER_IN_DOMAIN = Settings(
    steps=1000, lr=0.2, consistency_lambda=0.7, directional_lambda=0.0, weight_decay=7e-3,
    sources=6, restarts=1, start="random", coefficients=True, views=0, limited=False, whiten=False,
)  # fmt: skip
"""The paper's settings for a target that the generator could render, with a random start."""
PAPER_OUT_OF_DOMAIN = replace(
    PAPER_IN_DOMAIN, consistency_lambda=0.6, weight_decay=1e-3, restarts=8
)
"""The paper's settings for other targets; its authors train several and keep the best by eye."""


@register
class Essence(TrainableMethod[Settings]):
    """The essence of a picture: a displacement that gives every face its character."""

    name: ClassVar[str] = "essence"
    summary: ClassVar[str] = "Gives faces the character of a picture instead of words."
    requests: ClassVar[tuple[type[Any], ...]] = (Picture,)
    presets: ClassVar[Mapping[str, Any]] = {
        "default": IN_DOMAIN,
        "from_zero": FROM_ZERO,
        "out_of_domain": OUT_OF_DOMAIN,
        "published": PAPER_IN_DOMAIN,
        "published_out_of_domain": PAPER_OUT_OF_DOMAIN,
    }
    former_names: ClassVar[tuple[str, ...]] = ("essence_transfer",)

    def default(self, domain: Domain, request: Request) -> Settings:
        """`IN_DOMAIN`, or `FROM_ZERO` if the pipeline has no encoder."""
        return IN_DOMAIN if domain.encoder is not None else FROM_ZERO

    def start(
        self, domain: Domain, request: Picture, face: Latents | None, settings: Settings
    ) -> EssenceRun:
        """A search for the displacement that gives any face the essence of the picture."""
        return EssenceRun(domain, request, settings)

    def caption(self, origin: Origin) -> str:
        """The label of an essence that has no name."""
        # Files of earlier versions name the target's picture file.
        target = str(origin.training.get("target"))
        is_file = Path(target).suffix.lower() in Image.registered_extensions()
        return f"essence of {Path(target).stem if is_file else target}"

    def account(self, origin: Origin) -> str:
        """How an edit was found, for its card."""
        return (
            "The essence of a picture: a direction that gives any face the character of that "
            "picture (TargetCLIP)."
        )


class EssenceRun(Run):
    """The search for an essence: b and the coefficients of every restart, and their losses.

    Attributes:
        offset: b of each restart, `[restarts, num_ws, w_dim]`; in standard deviations of w
            with `whiten`.
        coefficients: how far each source moves, `[restarts, sources]`.
    """

    def __init__(self, domain: Domain, request: Picture, settings: Settings | None = None) -> None:
        super().__init__()
        self.settings = settings = settings or Essence().default(domain, request)
        self._domain, self._name = domain, request.name
        self.target = target_picture(domain, request.image)
        self._units = domain.units(Space.W_PLUS) if settings.whiten else None
        self._limits = Limits.of(domain) if settings.limited else None
        seeds = range(settings.first_seed, settings.first_seed + settings.sources)
        self._sources = domain.sample(seeds, settings.truncation_psi).codes
        with torch.no_grad():
            drawn = [domain.sketch(Latents(Space.W_PLUS, w)) for w in self._sources.split(8)]
        self._originals = torch.cat(drawn)
        self._span = self._principal_components()
        self.offset = nn.Parameter(self._starts())
        ones = torch.ones(settings.restarts, settings.sources, device=domain.device)
        self.coefficients = nn.Parameter(ones, requires_grad=settings.coefficients)
        self._best = 0

    def optimizer(self) -> torch.optim.Optimizer:
        """The optimizer of the offset, and of the coefficients if they are learned."""
        settings = self.settings
        groups: list[dict[str, Any]] = [{"params": [self.offset], "lr": settings.lr}]
        if settings.coefficients:
            rate = settings.lr * (_COEFFICIENT_RATE if settings.whiten else 1.0)
            groups.append({"params": [self.coefficients], "lr": rate})
        if settings.whiten:
            return EqualSteps(groups, lr=settings.lr, momentum=MOMENTUM)
        groups[0]["weight_decay"] = settings.weight_decay
        return torch.optim.Adam(groups, lr=settings.lr)

    def losses(
        self, step: int, random: torch.Generator, share: Share = (0, 1)
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses of the best restart on a batch of sources; "loss" is the sum over all restarts.

        The work is divided among processes by restarts, not by sources, since all pairs of sources
        are compared.
        """
        index, count = share
        own = torch.arange(index, self.settings.restarts, count)
        if len(own) == 0:
            return {"loss": 0.0 * self.offset.sum()}
        each = self.of_restarts(random, own)
        best = int(each["loss"].argmin())
        self._best = int(own[best])
        parts = {name: loss[best] for name, loss in each.items()}
        # Gradients are averaged over processes, but only one process has those of a restart.
        return {**parts, "loss": each["loss"].sum() * count, "best": parts["loss"]}

    def of_restarts(
        self, random: torch.Generator, restarts: Tensor | None = None
    ) -> dict[str, Float[Tensor, " r"]]:
        """Losses of each restart on a batch of sources: "loss" and its parts.

        Args:
            random: for the batch and the augmentation, which all restarts share.
            restarts: indices of the restarts; all when None.
        """
        settings = self.settings
        chosen = torch.randperm(settings.sources, generator=random)[: settings.batch_size]
        views = random_views(settings.views, random)
        return self._losses(chosen, views, self._all(restarts))

    def note(self, losses: dict[str, Tensor]) -> str:
        """How close the sources are to the target."""
        return f"similarity {1 - float(losses['transfer']):.3f}"

    def edits(self) -> list[Edit]:
        """The best restart as an edit."""
        return [self.best()]

    def best(self) -> Edit:
        """The restart with the smallest total loss over all sources, as an edit.

        It is a `Direction`, or a `Limited` one with `limited`.
        """
        settings = self.settings
        with torch.no_grad():
            everybody = torch.arange(settings.sources)
            no_views = torch.zeros(0, 2, 3)
            # One by one, since all restarts at once may not fit into memory.
            each = [
                self._losses(everybody, no_views, torch.tensor([r]))
                for r in range(settings.restarts)
            ]
            totals = [float(losses["loss"]) for losses in each]
            best = min(range(len(totals)), key=totals.__getitem__)
            vector = self.vectors()[best]
            strength = float(self.coefficients[best].mean()) if settings.coefficients else 1.0
        found = {key: round(float(loss), 4) for key, loss in each[best].items()}
        training = {
            "method": Essence.name,
            "target": self._name,
            **asdict(settings),
            "final_losses": found,
            "total_loss_of_restarts": [round(total, 4) for total in totals],
        }
        strength = round(strength, 3)
        slider = Strength(strength, min(-1.0, strength), max(2.0, strength))
        edit = Direction(
            vector, Space.W_PLUS, self._domain.base_model, slider, Origin(training=training)
        )
        return edit if self._limits is None else Limited(edit, self._limits)

    @torch.no_grad()
    def shown(self, latents: Latents | None = None) -> Float[Tensor, "n 3 h w"]:
        """Pictures of faces with the edit of the best restart; the first source when None."""
        vector = self.vectors()[self._best]
        if latents is None:
            codes = self._moved(self._sources[:1], self.coefficients[self._best, 0] * vector)
            return self._domain.sketch(Latents(Space.W_PLUS, codes))
        codes = self._moved(self._domain.lower(latents, Space.W_PLUS).codes, vector)
        return self._domain.synthesize(Latents(Space.W_PLUS, codes))

    def _moved(self, codes: Tensor, steps: Tensor) -> Tensor:
        return codes + (steps if self._limits is None else self._limits.within(codes, steps))

    def _losses(self, chosen: Tensor, views: Tensor, restarts: Tensor) -> dict[str, Tensor]:
        settings, domain = self.settings, self._domain
        chosen, restarts = chosen.to(self.offset.device), restarts.to(self.offset.device)
        steps = self.vectors()[restarts]
        far = self.coefficients[restarts][:, chosen]
        codes = self._moved(self._sources[chosen], far[..., None, None] * steps[:, None])
        edited = domain.sketch(Latents(Space.W_PLUS, codes.flatten(0, 1)))

        def look(images: Tensor) -> Float[Tensor, "views n d"]:
            return domain.look(images, views, settings.preprocessing)

        with torch.no_grad():
            target = self._in_common(look(self.target))[:, None]  # [views, 1, 1, d]
            before = look(self._originals[chosen])[:, None]  # [views, 1, sources, d]
        after = look(edited).unflatten(1, (len(restarts), -1))  # [views, restarts, sources, d]
        change = F.normalize(after - before, dim=-1, eps=1e-6)
        wanted = F.normalize(target - before, dim=-1, eps=1e-6)
        parts = {
            "transfer": (1 - (after * target).sum(-1)).mean((0, 2)),
            "consistency": consistency_loss(change).mean(0),
            "directional": (1 - (change * wanted).sum(-1)).mean((0, 2)),
        }
        loss = torch.stack([getattr(settings, f"{k}_lambda") * v for k, v in parts.items()]).sum(0)
        if settings.whiten:  # without it, Adam applies the weight decay
            length = self.offset[restarts].square().flatten(1).sum(1)
            loss = loss + settings.weight_decay * length
        return {"loss": loss, **parts}

    @torch.no_grad()
    def _principal_components(self) -> tuple[Tensor, Tensor] | None:
        """Mean `[d]` and axes `[components, d]` of the embeddings of random samples."""
        settings, domain = self.settings, self._domain
        if settings.components is None:
            return None
        people = domain.sample(range(_WITNESSES), truncation_psi=1.0)
        batches = (domain.sketch(people[i : i + 16]) for i in range(0, _WITNESSES, 16))
        seen = [domain.encode_image(images, settings.preprocessing) for images in batches]
        embeddings = torch.cat(seen).float()
        mean = embeddings.mean(0)
        axes = torch.linalg.svd(embeddings - mean, full_matrices=False).Vh
        return mean, axes[: settings.components]

    def _in_common(self, target: Float[Tensor, "*b d"]) -> Float[Tensor, "*b d"]:
        """The part of an embedding that lies in the samples' components, of length 1."""
        if self._span is None:
            return target
        mean, axes = self._span
        return F.normalize(mean + (target - mean) @ axes.T @ axes, dim=-1)

    def vectors(self) -> Float[Tensor, "restarts num_ws w_dim"]:
        """b of each restart, in the units of codes."""
        return self._units.to_codes(self.offset) if self._units else self.offset

    def _all(self, restarts: Tensor | None) -> Tensor:
        return torch.arange(self.settings.restarts) if restarts is None else restarts

    def _starts(self) -> Tensor:
        settings, domain = self.settings, self._domain
        count = settings.restarts
        # Random samples minus the average face: as far away as the paper's random starts.
        draw = torch.Generator().manual_seed(settings.seed)
        seeds = torch.randint(2**40, (count,), generator=draw).tolist()
        people = domain.sample(seeds, settings.truncation_psi).codes - domain.mean_latent().codes
        starts = self._units.from_codes(people) if self._units else people
        if settings.start != "random":
            starts[0] = 0 if settings.start == "zero" else self._inversion()[0]
        return starts

    @torch.no_grad()
    def _inversion(self) -> Tensor:
        domain = self._domain
        if getattr(domain, "encoder", None) is None:
            raise MethodError(
                "Got start 'inversion', but this pipeline has no encoder to invert the target.",
                got="inversion",
                expected=("zero", "random"),
                remedy="Use start 'zero' or 'random', or a pipeline with an encoder.",
            )
        codes = domain.encoder.encode(self.target) - domain.mean_latent().codes
        if self._limits is not None:
            # Where samples hardly vary, an inversion is hundreds of standard deviations away.
            codes = self._limits.within(domain.mean_latent().codes.expand_as(codes), codes)
        return self._units.from_codes(codes) if self._units else codes


def consistency_loss(change: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b"]:
    """Mean of 1 - cosine over all pairs of n different changes of length 1 (TargetCLIP eq. 5)."""
    count = change.shape[-2]
    # The sum over all pairs, including each change with itself, is the squared length of the sum.
    return (count**2 - change.sum(-2).square().sum(-1)) / (count**2 - count)


def target_picture(
    domain: Domain, target: Image.Image | Float[Tensor, "1 3 h w"]
) -> Float[Tensor, "1 3 h w"]:
    """The middle of any picture, in the shape and size of the generator's pictures.

    Raises:
        ValueError: several pictures, or none.
    """
    if isinstance(target, Image.Image):
        target = image_files.from_pil(target)
    if target.ndim != 4 or len(target) != 1 or target.shape[1] != 3 or 0 in target.shape:
        raise ValueError(f"Got a target of shape {list(target.shape)}; expected [1, 3, h, w].")
    picture = target.to(domain.device, torch.float32)
    return image_files.middle(picture, domain.generator.img_size).clamp(-1, 1)
