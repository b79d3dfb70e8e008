"""The latent mapper: a small network that finds for every latent the step that suits it.

StyleCLIP (Patashnik et al. 2021), section 5 and figure 3: `w + 0.1 * M(w)`, where M has three
parts, one for the coarse, the medium and the fine layers of the generator (4 and 8 px, 16 and
32 px, the rest), each a normalization and four fully connected layers with equalized learning rate.
Training minimizes over random latents

    clip_lambda * D_clip(G(w'), t) + latent_l2_lambda * |w' - w|^2 + id_lambda * D_id(G(w'), G(w))

`Published` repeats the settings of the official code. The defaults differ as those of
`latent_optimization` do, and for the same reason: the similarity of text and picture rises for
nearly any step. So the *change* of the picture is compared with the change of the words, on
randomly shifted and scaled copies, and the length of a step is counted in the units in which
latents vary.

In style space every convolution has a mapper of its own and toRGB layers stay as they are, as in
the official code. There a single mapper also exists for w_plus (appendix A of the paper).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Self

from stylegan_hub.artifacts import BaseModel
from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.views import random_views, seen_through
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss, identity_loss
from stylegan_hub.models.stylegan2 import FullyConnectedLayer, StyleGAN2Generator

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline

MapperType = Literal["levels", "single"]
Normalization = Literal["features", "layers"]
Level = Literal["coarse", "medium", "fine"]
LEVELS: tuple[Level, ...] = get_args(Level)
SCALE = 0.1
"""StyleCLIP's factor on what the network returns."""

_NUM_LAYERS = 4
_ID_LAMBDA = 0.1
_LR_MULTIPLIER = 0.01


class LatentMapper(Edit):
    """A step that depends on the latent: `delta(codes) = scale * M(codes)`.

    M has one network for each group of neighbors along dimension 1 of the codes: layers in w_plus,
    style channels in s. Where no group is, the step is 0.

    Args:
        groups: name -> (start, stop), see `mapper_groups`; names are made of letters, digits and _.
        space: w_plus or s.
        base_model: the generator it belongs to.
        normalization: the axis over which a network's input gets mean square 1. "features" is what
            the paper means; published mappers for w_plus were trained with "layers" of the group.
        scale: factor on what the networks return.

    Raises:
        ValueError: groups that overlap, are empty or leave the codes, or an impossible setting.
    """

    kind: ClassVar[str] = "latent_mapper"

    def __init__(
        self,
        groups: Mapping[str, tuple[int, int]],
        space: Space | str,
        base_model: BaseModel,
        normalization: Normalization = "features",
        scale: float = SCALE,
        strength: Strength | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(space, base_model, strength, origin)
        _check_groups(groups, self._code_shape()[0])
        if normalization not in get_args(Normalization):
            raise ValueError(f"Got normalization {normalization!r}; use 'features' or 'layers'.")
        if self.space is Space.S and normalization == "layers":
            raise ValueError(
                "Got normalization 'layers' in s, where the networks see one layer each; use "
                "'features'."
            )
        if not math.isfinite(scale):
            raise ValueError(f"Got scale {scale}; expected a finite number such as {SCALE}.")
        self.groups = {name: (start, stop) for name, (start, stop) in groups.items()}
        self.normalization: Normalization = normalization
        self.scale = float(scale)
        self.network = nn.ModuleDict(
            {name: _layers(self._width(name)) for name in self.groups}
        ).requires_grad_(False)

    def delta(self, codes: Tensor) -> Tensor:
        """`scale * M(codes)`; the networks follow the codes to their device, in float32."""
        self.network.to(codes.device)
        codes = codes.float()
        step = torch.zeros_like(codes)
        axis = 1 if self.normalization == "layers" else -1
        for name, (start, stop) in self.groups.items():
            part = pixel_norm(codes[:, start:stop], axis)
            step[:, start:stop] = self.network[name](part.flatten(0, -2)).view_as(part)
        return self.scale * step

    def tensors(self) -> dict[str, Tensor]:
        """Weights and biases by `group.layer`, in half precision if that changes no number."""
        full = self.network.state_dict()
        half = {name: tensor.half() for name, tensor in full.items()}
        lossless = all(torch.equal(half[name].float(), tensor) for name, tensor in full.items())
        return half if lossless else full

    def extra_config(self) -> dict[str, Any]:
        """Groups, normalization and scale: with the tensors, all of the mapper."""
        return {
            "groups": {name: list(span) for name, span in self.groups.items()},
            "normalization": self.normalization,
            "scale": self.scale,
        }

    @classmethod
    def from_parts(
        cls,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        space: Space,
        base_model: BaseModel,
        strength: Strength,
        origin: Origin,
    ) -> Self:
        """From what `tensors` and `extra_config` gave.

        Raises:
            ValueError: the tensors are not those that the config speaks of.
        """
        groups = _parsed_groups(config["groups"])
        scale = config["scale"]
        if isinstance(scale, bool) or not isinstance(scale, int | float):
            raise ValueError(f"scale is {scale!r}; expected a number.")
        # Before anything is allocated: the sizes of a stranger's config may be of any size.
        _check_tensors(tensors, groups, base_model.w_dim if space is Space.W_PLUS else None)
        mapper = cls(groups, space, base_model, config["normalization"], scale, strength, origin)
        mapper.network.load_state_dict(dict(tensors))
        return mapper

    def _width(self, name: str) -> int:
        start, stop = self.groups[name]
        return self.base_model.w_dim if self.space is Space.W_PLUS else stop - start


def mapper_groups(
    generator: StyleGAN2Generator,
    space: Space | str = Space.W_PLUS,
    mapper_type: MapperType = "levels",
    levels: Collection[Level] = LEVELS,
) -> dict[str, tuple[int, int]]:
    """Which layers or channels get a network, for any generator.

    A layer of w_plus belongs to the level of the smallest picture that it has a part in: coarse up
    to 8 px, medium up to 32 px, fine above. At 1024 px these are layers 0-3, 4-7 and 8-17, as in
    StyleCLIP; a small generator has fewer levels.

    Args:
        mapper_type: "single" is one network for all layers of w_plus.
        levels: the levels that are on; the layers of others are left as they are.

    Returns:
        In w_plus, level -> layers (start, stop). In s, convolution -> channels (start, stop), named
        as in the generator with _ for the dot.

    Raises:
        ValueError: no layer is left; a single network in s or for some levels only.
    """
    space = Space(space)
    if mapper_type == "single":
        if space is not Space.W_PLUS or set(levels) != set(LEVELS):
            raise ValueError(
                f"Got mapper_type 'single' in {space} with the levels "
                f"{', '.join(levels) or 'none'}; one network for all layers exists in w_plus "
                "with all levels. Use 'levels'."
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
            f"{generator.img_resolution} px has no layer in them. Leave more levels on."
        )
    return groups


def pixel_norm(codes: Tensor, dim: int = -1) -> Tensor:
    """Codes with mean square 1 along one dimension (ProGAN, Karras et al. 2018, section 4.2)."""
    return codes * (codes.square().mean(dim, keepdim=True) + 1e-8).rsqrt()


# Training


@dataclass(frozen=True)
class Settings:
    """What training minimizes. Defaults are what won on drawn portraits."""

    clip_lambda: float = 0.5
    """Weight of the CLIP loss, 1 in the paper."""
    directional_lambda: float = 1.0
    """Weight of the directional CLIP loss, 0 in the paper."""
    id_lambda: float | None = None
    """Weight of the identity loss; None is 0.1 where the pipeline has a recognizer, and else 0."""
    latent_l2_lambda: float = 0.1
    """Weight of the mean squared step over layers and features; in s summed over the layers."""
    views: int = 1
    """Augmented copies of the picture that CLIP looks at; 0 = the picture itself."""
    whiten: bool = True
    """Count the length of steps in the units in which latents vary."""
    preprocessing: Literal["proper", "styleclip"] = "proper"
    """"styleclip" leaves out CLIP's mean and std, as the official code does."""
    resolution: int | None = None
    """Draw only up to this resolution while training, as StyleMC does; None = whole pictures."""

    def __post_init__(self) -> None:
        weights = ("clip_lambda", "directional_lambda", "id_lambda", "latent_l2_lambda", "views")
        for name in weights:
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"Got {name} {value}; expected 0 or more.")

    def resolved(self, pipe: StyleEditPipeline) -> Settings:
        """With a weight of the identity loss.

        Raises:
            ValueError: one above 0 was given, and the pipeline has no recognizer.
        """
        has_recognizer = getattr(pipe, "recognizer", None) is not None
        if self.id_lambda is None:
            return replace(self, id_lambda=_ID_LAMBDA if has_recognizer else 0.0)
        if self.id_lambda and not has_recognizer:
            raise ValueError(
                f"Got id_lambda {self.id_lambda}, but this pipeline has no recognizer to tell "
                "people apart. Use id_lambda=0 or a pipeline with a recognizer."
            )
        return self


Published = Settings(
    clip_lambda=1.0, directional_lambda=0.0, id_lambda=0.1, latent_l2_lambda=0.8, views=0,
    whiten=False, preprocessing="styleclip",
)  # fmt: skip
"""The weights of the official code (mapper/options/train_options.py), for its numbers."""


class Objective:
    """The losses of a mapper on a batch of latents, for one prompt.

    Args:
        pipe: generator and CLIP, and a recognizer for the identity loss.
        prompt: what the pictures shall show afterwards, "afro hair".
        space: the mapper's.
        neutral: what they show already, in words; the directional loss starts there. The pipeline's
            own words when None.
        settings: weights of the losses; `Published` for the official code's.

    Raises:
        ValueError: an empty text, an `id_lambda` without a recognizer, or words that mean the same.
    """

    def __init__(
        self,
        pipe: StyleEditPipeline,
        prompt: str,
        space: Space | str = Space.W_PLUS,
        neutral: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = (settings or Settings()).resolved(pipe)
        self._pipe = pipe
        self._space = Space(space)
        neutral = pipe.neutral if neutral is None else neutral
        self._text, origin = pipe.encode_text([prompt, neutral]).chunk(2)
        change = self._text - origin
        self._text_change = nn.functional.normalize(change, dim=-1, eps=1e-6)
        # Even the same words may differ by a rounding error, depending on the number of threads.
        if self.settings.directional_lambda and float(change.norm()) < 1e-4:
            raise ValueError(
                f"Got {prompt!r} and the neutral text {neutral!r}, which CLIP takes for the same; "
                "say what shall change."
            )
        self._measure = _Lengths(pipe, self._space, self.settings.whiten)

    def __call__(
        self, mapper: LatentMapper, latents: Latents, random: torch.Generator
    ) -> dict[str, Tensor]:
        """Mean losses over the batch: "loss", which is minimized, and its parts without weights.

        Args:
            latents: in the mapper's space.
            random: for the augmentation.
        """
        settings, pipe, start = self.settings, self._pipe, latents.codes
        views = random_views(settings.views, random)

        def look(images: Tensor) -> Float[Tensor, "views n d"]:
            seen = pipe.encode_image(seen_through(views, images), settings.preprocessing)
            return seen.float().unflatten(0, (-1, len(start)))

        step = mapper.delta(start)
        edited = self._draw(start + step)
        after = look(edited)
        parts = {"clip": clip_loss(after, self._text).mean()}
        with torch.no_grad():
            original = self._draw(start)
            before = look(original)
        parts["directional"] = directional_clip_loss(after, before, self._text_change).mean()
        parts["latent_l2"] = self._measure(step).mean()
        if settings.id_lambda:
            with torch.no_grad():
                reference = pipe.recognizer(original).float()
            parts["id"] = identity_loss(pipe.recognizer(edited).float(), reference).mean()
        weighted = [getattr(settings, f"{name}_lambda") * part for name, part in parts.items()]
        return {"loss": torch.stack(weighted).sum(), **parts}

    def _draw(self, codes: Tensor) -> Tensor:
        generator, resolution = self._pipe.generator, self.settings.resolution
        if self._space is Space.S:
            return generator.synthesis_from_styles(codes, "const", resolution)
        return generator.synthesis(codes, "const", resolution)


def training_latents(
    pipe: StyleEditPipeline, count: int, space: Space | str = Space.W_PLUS
) -> Latents:
    """People to train on: the seeds 0 to count - 1, every second one truncated to 0.7."""
    whole = pipe.sample(range(0, count, 2), truncation_psi=1.0)
    truncated = pipe.sample(range(1, count, 2), truncation_psi=0.7)
    with torch.no_grad():
        return pipe.lower(Latents.cat([whole, truncated]), space)


def start_at_identity(mapper: LatentMapper) -> None:
    """Make the step of a new mapper 0: its last layers return 0, and learn nonetheless.

    The official code starts with random steps instead. What they do to a picture must be unlearned
    first, and in a short training some of it stays.
    """
    for network in mapper.network.children():
        assert isinstance(network, nn.Sequential)
        nn.init.zeros_(network.get_parameter(f"{_NUM_LAYERS - 1}.weight"))


class _Lengths:
    """Mean square of steps: over all layers and features in w_plus, summed over layers in s."""

    # Share of the mean variance added to all: there are directions in which latents hardly vary.
    _FLOOR = 0.03
    _SAMPLES = 2048

    def __init__(self, pipe: StyleEditPipeline, space: Space, whiten: bool) -> None:
        self._layers = [
            (layer.start, layer.stop)
            for layer in pipe.generator.style_layout
            if space is Space.S and not layer.is_to_rgb
        ]
        self._whitening: Tensor | None = None
        if not whiten:
            return
        latents = pipe.sample(range(self._SAMPLES), truncation_psi=1.0)
        if space is Space.S:
            variances = pipe.lower(latents, space).codes.var(0)
            self._whitening = (variances + self._FLOOR * variances.mean()).rsqrt()
        else:
            covariance = torch.cov(latents.codes[:, 0].double().T)
            variances, axes = torch.linalg.eigh(covariance)
            lengths = (variances.clamp_min(0) + self._FLOOR * variances.mean()).rsqrt()
            self._whitening = (axes * lengths).to(latents.codes)

    def __call__(self, steps: Tensor) -> Tensor:
        if self._whitening is not None:
            wide = self._whitening.ndim == 2
            steps = steps @ self._whitening if wide else steps * self._whitening
        if self._layers:
            means = [steps[:, start:stop].square().mean(1) for start, stop in self._layers]
            return torch.stack(means).sum(0)
        return steps.square().flatten(1).mean(1)


def _level(resolution: int) -> Level:
    return "coarse" if resolution <= 8 else "medium" if resolution <= 32 else "fine"


def _layers(width: int) -> nn.Sequential:
    return nn.Sequential(
        *(
            FullyConnectedLayer(width, width, activation="lrelu", lr_multiplier=_LR_MULTIPLIER)
            for _ in range(_NUM_LAYERS)
        )
    )


def _check_groups(groups: Mapping[str, tuple[int, int]], size: int) -> None:
    spans = sorted(groups.values())
    sound = all(0 <= start < stop <= size for start, stop in spans)
    apart = all(first[1] <= second[0] for first, second in pairwise(spans))
    named = all(name.isidentifier() for name in groups)
    if not (spans and sound and apart and named):
        raise ValueError(
            f"Got the groups {dict(groups)}; expected names and spans (start, stop) that do not "
            f"overlap inside 0 to {size}. Make them with mapper_groups(generator, space)."
        )


def _parsed_groups(value: object) -> dict[str, tuple[int, int]]:
    """Groups as JSON has them, `{"coarse": [0, 4]}`."""
    if not isinstance(value, dict) or not all(
        isinstance(span, list) and len(span) == 2 and all(type(index) is int for index in span)
        for span in value.values()
    ):
        raise ValueError(f"groups is {value!r}; expected {{name: [start, stop]}} in whole numbers.")
    return {name: (span[0], span[1]) for name, span in value.items()}


def _check_tensors(
    tensors: Mapping[str, Tensor], groups: Mapping[str, tuple[int, int]], w_dim: int | None
) -> None:
    expected: dict[str, tuple[int, ...]] = {}
    for name, (start, stop) in groups.items():
        width = stop - start if w_dim is None else w_dim
        for index in range(_NUM_LAYERS):
            expected[f"{name}.{index}.weight"] = (width, width)
            expected[f"{name}.{index}.bias"] = (width,)
    for name in sorted(expected.keys() | tensors.keys()):
        wanted = list(expected[name]) if name in expected else "nothing"
        tensor = tensors.get(name)
        got = "nothing" if tensor is None else list(tensor.shape)
        if wanted != got or (tensor is not None and not tensor.is_floating_point()):
            kind = "" if tensor is None else f" of {tensor.dtype}"
            raise ValueError(
                f"the config asks for {wanted} as tensor {name!r}, model.safetensors holds {got}"
                f"{kind}. Take both files from one save."
            )
