"""Train a latent mapper: one change in words, for every face (StyleCLIP, section 5).

Training minimizes over random latents

    clip_lambda * D_clip(G(w'), t) + latent_l2_lambda * |w' - w|^2 + id_lambda * D_id(G(w'), G(w))

with `w' = w + 0.1 * M(w)` (`edits/latent_mapper.py`). The preset "published" repeats the settings
of the official code. The defaults differ in the same way as those of `optimization`, for the same
reason: nearly any step raises the similarity between text and picture. So the *change* of the
picture is compared with the change of the words, on randomly shifted and scaled copies, and the
length of a step is measured in the units in which latents vary.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.domain import Domain, Preprocessing
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.latent_mapper import LatentMapper, Normalization
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss, identity_loss
from stylegan_hub.methods.identity import NO_RECOGNIZER, id_lambda_of
from stylegan_hub.methods.method import Words, register
from stylegan_hub.methods.run import Run, Share, TrainableMethod
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.views import random_views

MapperType = Literal["levels", "single"]
Level = Literal["coarse", "medium", "fine"]
LEVELS: tuple[Level, ...] = get_args(Level)

_ID_LAMBDA = 0.1
_FLOOR = 0.03  # share of the mean variance added to all, since latents hardly vary along some axes


def mapper_groups(
    generator: StyleGAN2Generator,
    space: Space | str = Space.W_PLUS,
    mapper_type: MapperType = "levels",
    levels: Collection[Level] = LEVELS,
) -> dict[str, tuple[int, int]]:
    """The layers or channels that get a network each, for any generator.

    A layer of w_plus belongs to the level of the lowest resolution that it is used at: coarse up
    to 8 px, medium up to 32 px, fine above. At 1024 px these are layers 0-3, 4-7 and 8-17, as in
    StyleCLIP; a small generator has fewer levels.

    Args:
        mapper_type: "single" is one network for all layers of w_plus.
        levels: the levels that change; the layers of other levels are left as they are.

    Returns:
        In w_plus, level -> layers (start, stop). In s, convolution -> channels (start, stop), named
        as in the generator with _ for the dot.

    Raises:
        ValueError: the levels contain no layer; a single network in s or for only some levels.
    """
    space = Space(space)
    if mapper_type == "single":
        if space is not Space.W_PLUS or set(levels) != set(LEVELS):
            raise ValueError(
                f"Got mapper_type 'single' in {space} with the levels "
                f"{', '.join(levels) or 'none'}; a single network needs w_plus and all levels. "
                "Use 'levels'."
            )
        return {"all": (0, generator.num_ws)}
    groups: dict[str, tuple[int, int]] = {}
    if space is Space.S:
        for layer in generator.style_layout:
            if not layer.is_to_rgb and _level(layer.resolution) in levels:
                groups[layer.name.replace(".", "_")] = (layer.start, layer.stop)
    else:
        resolutions: dict[int, int] = {}
        for layer in generator.style_layout:
            resolutions.setdefault(layer.ws_index, layer.resolution)
        for index, resolution in resolutions.items():
            level = _level(resolution)
            if level in levels:
                groups[level] = (groups.get(level, (index, index))[0], index + 1)
    if not groups:
        raise ValueError(
            f"Got the levels {', '.join(levels) or 'none'}; this generator of "
            f"{generator.img_resolution} px has no layer in them. Choose more levels."
        )
    return groups


@dataclass(frozen=True)
class Settings:
    """How a mapper is built and trained.

    The defaults gave the best results on the drawn portraits (docs/results.md).
    """

    space: Space = Space.W_PLUS
    """w_plus or s; in s every convolution has its own mapper."""
    mapper_type: MapperType = "levels"
    """"single" is one network for all layers (w_plus only)."""
    levels: tuple[Level, ...] = LEVELS
    """The levels that change: coarse (4 and 8 px: pose, shape of the head), medium (16 and 32 px:
    hair style, features of the face), fine (above: colors)."""
    normalization: Normalization | None = None
    """Axis over which inputs are normalized: "features" or "layers". None is "layers" if the mapper
    is in w_plus and starts with random steps, as in the official code, else "features"."""
    start_at_identity: bool = True
    """Start with steps of length 0; the official code starts with random ones."""
    steps: int = 200
    batch_size: int = 8
    """Faces per step."""
    lr: float = 3.0
    """Peak learning rate; the layers have a learning rate multiplier of 0.01."""
    max_grad_norm: float | None = 1e-3
    """Longer gradients are shortened to this length. The first ones, when steps have almost no
    length, are thousands of times as long as later ones, and would dominate the optimizer's
    averages for too long."""
    population: int = 2048
    """Number of random faces to train on."""
    seed: int = 0
    """Seed of all random numbers."""
    clip_lambda: float = 0.5
    """Weight of the CLIP loss, 1 in the paper."""
    directional_lambda: float = 1.0
    """Weight of the directional CLIP loss, 0 in the paper."""
    id_lambda: float | None = None
    """Weight of the identity loss; None is 0.1 if the pipeline has a recognizer, else 0."""
    latent_l2_lambda: float = 0.1
    """Weight of the mean squared step over layers and features; in s summed over the layers."""
    views: int = 1
    """Augmented copies of the picture that CLIP looks at; 0 = the picture itself."""
    whiten: bool = True
    """Measure the length of steps in the units in which latents vary."""
    preprocessing: Preprocessing = "proper"
    """"styleclip" leaves out CLIP's mean and std, as the official code does."""
    resolution: int | None = None
    """Render only up to this resolution in training, as in StyleMC. None: the domain's `sketch`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space(self.space))
        if min(self.steps, self.batch_size) < 1 or not self.lr > 0 or self.population < 2:
            raise ValueError(
                f"Got steps {self.steps}, batch_size {self.batch_size}, lr {self.lr}, population "
                f"{self.population}; expected at least one step and face, a positive lr and a "
                "population of at least 2."
            )
        weights = ("clip_lambda", "directional_lambda", "id_lambda", "latent_l2_lambda", "views")
        for name in weights:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"Got {name} {value}; expected 0 or more.")


PUBLISHED = Settings(
    clip_lambda=1.0, directional_lambda=0.0, id_lambda=0.1, latent_l2_lambda=0.8, views=0,
    whiten=False, preprocessing="styleclip", start_at_identity=False, batch_size=2, steps=50_000,
    lr=0.5, max_grad_norm=None,
)  # fmt: skip
"""The official code's settings (mapper/options/train_options.py), with Adam instead of Ranger."""


@register
class Mapper(TrainableMethod[Settings]):
    """Latent mappers: one change in words, for every face, with a step that suits each."""

    name: ClassVar[str] = "mapper"
    summary: ClassVar[str] = (
        "Trains a small network that finds the right step for every face; takes minutes."
    )
    requests: ClassVar[tuple[type[Any], ...]] = (Words,)
    presets: ClassVar[Mapping[str, Any]] = {"default": Settings(), "published": PUBLISHED}
    former_names: ClassVar[tuple[str, ...]] = ("latent_mapper",)
    takes_faces: ClassVar[bool] = True

    def start(
        self,
        domain: Domain,
        request: Words,
        face: Latents | None,
        settings: Settings,
        faces: Latents | None = None,
    ) -> MapperRun:
        """An untrained mapper and the latents to train it on."""
        return MapperRun(domain, request, settings, faces)

    def account(self, origin: Origin) -> str:
        """How an edit was found, for its card."""
        return LatentMapper.summary


class MapperRun(Run):
    """A mapper in training, on the latents of random faces.

    Args:
        faces: to train on, in any space up to the mapper's; random ones when None.
    """

    def __init__(
        self,
        domain: Domain,
        request: Words,
        settings: Settings | None = None,
        faces: Latents | None = None,
    ) -> None:
        super().__init__()
        asked = settings or Settings()
        settings = replace(asked, id_lambda=id_lambda_of(domain, asked.id_lambda, _ID_LAMBDA))
        self.settings, self._domain = settings, domain
        self.max_grad_norm = settings.max_grad_norm
        self.objective = Objective(domain, request, settings)
        by_layers = not settings.start_at_identity and settings.space is Space.W_PLUS
        training: dict[str, Any] = {
            "method": Mapper.name,
            "latents": (
                f"{settings.population} random faces"
                if faces is None
                else f"{len(faces)} given faces"
            ),
            **asdict(settings),
            "space": settings.space.value,
        }
        if asked.id_lambda is None and not settings.id_lambda:
            training["note"] = NO_RECOGNIZER
            self.remarks = (
                "The pipeline has no recognizer: training without the identity loss (id_lambda 0).",
            )
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            self.mapper = LatentMapper(
                mapper_groups(
                    domain.generator, settings.space, settings.mapper_type, settings.levels
                ),
                settings.space,
                domain.base_model,
                settings.normalization or ("layers" if by_layers else "features"),
                strength=Strength(1.0, -1.0, 2.0),
                origin=Origin(request.text, self.objective.neutral, training),
            )
        if settings.start_at_identity:
            start_at_identity(self.mapper)
        self.network = self.mapper.network.requires_grad_(True).to(domain.device)
        if faces is None:
            faces = training_latents(domain, settings.population, settings.space)
        with torch.no_grad():
            self._latents = domain.lower(faces, settings.space)

    def optimizer(self) -> torch.optim.Optimizer:
        """Adam, at the learning rate of the settings."""
        return torch.optim.Adam(self.network.parameters(), lr=self.settings.lr, betas=(0.9, 0.99))

    def losses(
        self, step: int, random: torch.Generator, share: Share = (0, 1)
    ) -> dict[str, Float[Tensor, ""]]:
        """Mean losses over the faces of a step, which are divided among the processes."""
        index, count = share
        size = self.settings.batch_size
        # The faces of a step are the same for any number of processes.
        draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
        chosen = torch.randint(len(self._latents), (size * count,), generator=draw)
        own = chosen[index * size : (index + 1) * size].to(self._latents.codes.device)
        batch = Latents(self._latents.space, self._latents.codes[own])
        return self.objective(self.mapper, batch, random)

    @torch.no_grad()
    def shown(self, latents: Latents | None = None) -> Float[Tensor, "n 3 h w"]:
        """Pictures of faces with the edit; the first training face when None."""
        faces = self._latents[0] if latents is None else latents
        start = self._domain.lower(faces, self.settings.space)
        return self._domain.synthesize(self.mapper.apply(start, 1.0))

    def edits(self) -> list[Edit]:
        """The mapper, with weights rounded to half precision."""
        self.network.requires_grad_(False).half().float()
        return [self.mapper]


class Objective:
    """The losses of a mapper on a batch of latents, for one change in words.

    Args:
        domain: generator and CLIP, and a recognizer for the identity loss.
        request: what pictures should show afterwards.
        settings: weights of the losses, including that of the identity loss.

    Raises:
        ValueError: words that mean the same as the neutral ones.
    """

    def __init__(self, domain: Domain, request: Words, settings: Settings) -> None:
        self.settings, self._domain, self._space = settings, domain, settings.space
        self.neutral = domain.neutral if request.neutral is None else request.neutral
        self._text, origin = domain.encode_text([request.text, self.neutral]).chunk(2)
        change = self._text - origin
        self._text_change = nn.functional.normalize(change, dim=-1, eps=1e-6)
        # Even equal words may differ by a rounding error, depending on the number of threads.
        if settings.directional_lambda and float(change.norm()) < 1e-4:
            raise ValueError(
                f"Got {request.text!r} and the neutral text {self.neutral!r}, which are the same "
                "to this CLIP; say what should change."
            )

    def __call__(
        self, mapper: LatentMapper, latents: Latents, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean losses over the batch: "loss", which is minimized, and its parts without weights.

        Args:
            latents: in the mapper's space.
            random: for the augmentation.
        """
        settings, domain, start = self.settings, self._domain, latents.codes
        views = random_views(settings.views, random)

        def look(images: Tensor) -> Float[Tensor, "views n d"]:
            return domain.look(images, views, settings.preprocessing)

        step = mapper.delta(start)
        edited = self._draw(start + step)
        after = look(edited)
        parts = {"clip": clip_loss(after, self._text).mean()}
        with torch.no_grad():
            original = self._draw(start)
            before = look(original)
        parts["directional"] = directional_clip_loss(after, before, self._text_change).mean()
        parts["latent_l2"] = self._length(step).mean()
        if settings.id_lambda:
            with torch.no_grad():
                reference = domain.recognizer(original).float()
            parts["id"] = identity_loss(domain.recognizer(edited).float(), reference).mean()
        weighted = [getattr(settings, f"{name}_lambda") * part for name, part in parts.items()]
        return {"loss": torch.stack(weighted).sum(), **parts}

    def _draw(self, codes: Tensor) -> Tensor:
        latents, resolution = Latents(self._space, codes), self.settings.resolution
        if resolution is None:
            return self._domain.sketch(latents)
        return self._domain.synthesize(latents, resolution)

    def _length(self, steps: Tensor) -> Float[Tensor, " n"]:
        """Mean square over all layers and features in w_plus; in s summed over layers."""
        if self.settings.whiten:
            steps = self._domain.units(self._space).measured(steps, _FLOOR)
        if self._space is not Space.S:
            return steps.square().flatten(1).mean(1)
        layers = [one for one in self._domain.generator.style_layout if not one.is_to_rgb]
        means = [steps[:, one.start : one.stop].square().mean(1) for one in layers]
        return torch.stack(means).sum(0)


def training_latents(domain: Domain, count: int, space: Space | str = Space.W_PLUS) -> Latents:
    """Latents to train on: the seeds 0 to count - 1, with every second one truncated to 0.7."""
    whole = domain.sample(range(0, count, 2), truncation_psi=1.0)
    truncated = domain.sample(range(1, count, 2), truncation_psi=0.7)
    with torch.no_grad():
        return domain.lower(Latents.cat([whole, truncated]), space)


def start_at_identity(mapper: LatentMapper) -> None:
    """Make the step of a new mapper 0: its last layers return 0, but can still learn.

    The official code starts with random steps instead. Their effect on pictures must be unlearned
    first, and after a short training some of it remains.
    """
    for network in mapper.network.children():
        assert isinstance(network, nn.Sequential)
        nn.init.zeros_(network[-1].get_parameter("weight"))


def _level(resolution: int) -> Level:
    return "coarse" if resolution <= 8 else "medium" if resolution <= 32 else "fine"
