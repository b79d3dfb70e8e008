"""Global directions: from words to a direction in s by looking up a table.

This is section 6 of StyleCLIP (Patashnik et al. 2021). Once per generator and CLIP, the effect of
every channel of s on pictures is measured as a direction in CLIP space (`style_statistics.py`,
`recipes/build_direction_table.py`). A change of words is a direction in CLIP space too; the
channels that point along it make the edit:

    R = relevance @ text_change,   R = 0 where |R| < threshold,   delta_s = R / max |R| * deviation

The paper edits by s + alpha * delta_s. Here the vector contains alpha, so strength 1 corresponds to
the given alpha. The result is an ordinary `Direction`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from stylegan_hub.artifacts import BaseModel, ClipModel, read_folder, write_folder
from stylegan_hub.bounds import check_sizes, check_weights
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MethodError, MismatchError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.method import Method, Request, Words, register
from stylegan_hub.methods.prompt_bank import TEMPLATES, text_change
from stylegan_hub.names import Kind, bundled, register_kind, resolve
from stylegan_hub.steps import OnStep

KIND: Final = "direction_table"

DEFAULT_CHANNELS = 100
"""Channels that move when neither a threshold nor a number is given."""
DEFAULT_ALPHA = 4.0
"""How far the most relevant channel moves at strength 1, in standard deviations of its style."""


_FARTHER = (1.0, 1.5, 2.0, 2.5, 3.0)  # strengths that are tried for a removal
_USUAL = 32  # number of random faces that a removal is compared with


@dataclass(frozen=True)
class TableLayer:
    """A layer that a table covers: its name in the generator, its range in s, its resolution."""

    name: str
    resolution: int
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class DirectionTable:
    """The effect of every channel of s on the pictures of one generator, in the space of one CLIP.

    It is not an edit itself; `direction` makes edits from it.

    Attributes:
        relevance: `[channels, d]`, rows of length 1 (0 for a channel that changes nothing).
        index: `[channels]`, the position in s of each row's channel.
        s_mean, s_std: `[num_styles]`, mean and standard deviation of s.
        base_model: the generator.
        clip: the CLIP.
        layout: the layers that the rows belong to.
        training: how it was measured.

    Raises:
        ValueError: tensors whose sizes do not fit each other or the generator.
    """

    relevance: Float[Tensor, "channels d"]
    index: Int[Tensor, " channels"]
    s_mean: Float[Tensor, " num_styles"]
    s_std: Float[Tensor, " num_styles"]
    base_model: BaseModel
    clip: ClipModel
    layout: tuple[TableLayer, ...]
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = self.base_model.num_styles
        shapes = [list(t.shape) for t in (self.relevance, self.index, self.s_mean, self.s_std)]
        if (
            self.relevance.ndim != 2
            or len(self.relevance) == 0
            or shapes[1:] != [[len(self.relevance)], [size], [size]]
        ):
            raise ValueError(
                "relevance, index, s_mean and s_std of a direction table for this generator must "
                f"have the shapes [channels, d], [channels], [{size}], [{size}]; got "
                f"{', '.join(map(str, shapes))}."
            )
        covered = 0
        for layer in self.layout:
            places = {"start": layer.start, "stop": layer.stop}
            check_sizes(places, dict.fromkeys(places, size), least=0)
            covered += max(layer.stop - layer.start, 0)
        if covered == len(self.index):  # so that a huge layout never becomes a huge list
            rows = [c for layer in self.layout for c in range(layer.start, layer.stop)]
        if covered != len(self.index) or self.index.tolist() != rows:
            raise ValueError(
                f"The table's index does not list the channels of its layout, which covers "
                f"{covered} of {size}; it has {len(self.index)}."
            )

    def direction(
        self,
        domain: Domain,
        target: str,
        neutral: str | None = None,
        threshold: float | None = None,
        channels: int | None = None,
        alpha: float = DEFAULT_ALPHA,
        templates: Sequence[str] = TEMPLATES,
    ) -> Direction:
        """The direction in s that changes pictures as `neutral` changes to `target`.

        Args:
            domain: the generator and CLIP that the table was made for.
            target: what pictures should show, "a face with a beard".
            neutral: what they show now; the pipeline's own words when None. What both texts say
                does not change.
            threshold: the least relevance of a channel that moves (the paper's beta, 0.08 to 0.4
                on its page). A higher threshold moves fewer channels and changes less of the rest.
            channels: alternatively, the number of most relevant channels to move. If both are
                None, `DEFAULT_CHANNELS`; the paper uses 20 for faces, 100 for cars and cats.
            alpha: how far the most relevant channel moves at strength 1, in standard deviations.
            templates: sentences for the texts.

        Raises:
            ValueError: both threshold and channels, one that is out of range, a threshold that no
                channel reaches, an empty text, or texts that mean the same.
            MismatchError: another generator or another CLIP.
        """
        self.check_fits(domain)
        neutral = domain.neutral if neutral is None else neutral
        relevance = self.project(text_change(domain, target, neutral, templates))
        if threshold is None and channels is None:
            channels = min(DEFAULT_CHANNELS, len(relevance))
        chosen = select_channels(relevance, threshold, channels)
        return make_direction(
            relevance * chosen,
            self.index,
            self.s_std,
            domain.base_model,
            Origin(
                target,
                neutral,
                {
                    "method": Table.name,
                    "alpha": alpha,
                    "channels": int(chosen.sum()),
                    "threshold": float(relevance[chosen].abs().min()),
                    "templates": len(templates),
                    "clip": asdict(domain.clip_model),
                    "table": dict(self.training),
                },
            ),
            alpha,
        )

    def project(self, change: Float[Tensor, " d"]) -> Float[Tensor, " channels"]:
        """How much each channel points along a change in CLIP space (`text_change`), -1 to 1."""
        return self.relevance @ change.to(self.relevance)

    def check_fits(self, domain: Domain) -> None:
        """Raise `MismatchError` for another generator or another CLIP; the message names both."""
        domain.check_fits(
            self.base_model,
            self.clip,
            "direction table",
            "Load the pipeline it was made with, or build a table for this one: "
            "recipes/build_direction_table.py.",
        )

    def save_pretrained(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `config.json` and `model.safetensors`; arguments and errors are those of `Edit`."""
        config = {
            "kind": KIND,
            "space": Space.S.value,
            "base_model": asdict(self.base_model),
            "clip": asdict(self.clip),
            "layout": [asdict(layer) for layer in self.layout],
            "training": dict(self.training),
        }
        tensors = {name: getattr(self, name) for name in ("relevance", "index", "s_mean", "s_std")}
        write_folder(Path(folder), config, tensors, overwrite)
        return Path(folder)

    def __repr__(self) -> str:
        return f"DirectionTable(channels={len(self.index)}, base={self.base_model.id!r})"


def load_directions(
    name_or_path: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> DirectionTable:
    """Load a direction table by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

    Args:
        revision, token, cache_dir, local_files_only: for the Hub; see `names.resolve`.

    Raises:
        NotFoundError: nothing has this name; similar names are listed.
        ArtifactError: it is not a direction table, or files are missing, damaged or from a newer
            version.
    """
    folder = resolve(name_or_path, KIND, revision, token, cache_dir, local_files_only)
    config, tensors = read_folder(folder)
    try:
        check_weights(tensors, str(folder))
        return DirectionTable(
            **{name: tensors[name] for name in ("relevance", "index", "s_mean", "s_std")},
            base_model=BaseModel(**config["base_model"]),
            clip=ClipModel(**config["clip"]),
            layout=tuple(TableLayer(**layer) for layer in config["layout"]),
            training=config.get("training", {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder} is not a valid direction table: {error}") from error


def _usage(name: str, config: Mapping[str, Any]) -> list[str]:
    is_bundled = (config.get("base_model", {}).get("id") or "").rpartition("/")[2] == "portraits"
    # Only a pipeline itself says what its pictures show, so others use its neutral words.
    words = '"a smiling face"' if is_bundled else 'f"{pipe.neutral} in red"'
    return [
        f'table = hub.load_directions("{name}")  # or a folder, or "user/repo"',
        f"edit = table.direction(pipe, target={words})  # instead of pipe.neutral",
        'pipe(seed=7, edits=[(edit, 1.0)]).images[0].save("edited.png")',
    ]


register_kind(
    Kind(
        KIND,
        load=load_directions,
        usage=_usage,
        limit="It adds up the effects of single channels. Changes that need many channels "
        "together, such as another hair style, may fail; a trained edit does better there.",
        counted="{} pictures went into it.",
        summary="A table of how each style channel changes what CLIP sees (StyleCLIP, section 6). "
        "With it, any text becomes a direction at once, with no training.",
    )
)


def select_channels(
    relevance: Float[Tensor, " channels"],
    threshold: float | None = None,
    channels: int | None = None,
) -> Bool[Tensor, " channels"]:
    """Which channels move: those of at least `threshold`, or the `channels` most relevant ones.

    Raises:
        ValueError: both or none of the two, one that is out of range, or a threshold that no
            channel reaches; the message names the largest usable one.
    """
    size = relevance.abs()
    largest = float(size.max())
    if largest == 0:
        raise ValueError(
            "No channel has any relevance for this change, so no threshold is usable. Use other "
            "words, or a generator that can render it."
        )
    if (threshold is None) == (channels is None):
        raise ValueError(
            f"Got threshold {threshold} and channels {channels}; give one of them. The threshold "
            "says how relevant a channel must be, and channels says how many move."
        )
    if channels is not None:
        if not 1 <= channels <= len(size):
            raise ValueError(
                f"Got channels {channels}; expected 1 to {len(size)}, as many as there are."
            )
        return torch.zeros_like(size).index_fill_(0, size.topk(channels).indices, 1) > 0
    assert threshold is not None
    if not 0 <= threshold < math.inf:
        raise ValueError(f"Got threshold {threshold}; expected a number from 0 to {largest:.4g}.")
    chosen = size >= threshold
    if not chosen.any():
        usable = math.floor(largest * 1e4) / 1e4
        raise ValueError(
            f"Got threshold {threshold}, which no channel passes for this change. The largest "
            f"usable one is {usable:.4f}; a smaller one moves more channels."
        )
    return chosen


def make_direction(
    relevance: Float[Tensor, " channels"],
    index: Int[Tensor, " channels"],
    s_std: Float[Tensor, " num_styles"],
    base_model: BaseModel,
    origin: Origin,
    alpha: float,
) -> Direction:
    """The direction in s whose channels move in proportion to `relevance`.

    The most relevant one moves by `alpha` standard deviations at strength 1.

    Raises:
        ValueError: an alpha that is not above 0 and finite.
    """
    if not 0 < alpha < math.inf:
        raise ValueError(f"Got alpha {alpha}; expected a number above 0, such as {DEFAULT_ALPHA}.")
    vector = torch.zeros_like(s_std)
    vector[index] = alpha * relevance / relevance.abs().max() * s_std[index]
    return Direction(vector, Space.S, base_model, Strength(), origin)


def table_layout(domain: Domain, include_to_rgb: bool) -> tuple[TableLayer, ...]:
    """The layers of a pipeline's generator that a table covers, in network order."""
    return tuple(
        TableLayer(layer.name, layer.resolution, layer.start, layer.stop)
        for layer in domain.generator.style_layout
        if include_to_rgb or not layer.is_to_rgb
    )


@dataclass(frozen=True)
class Settings:
    """Which channels of a table move, and how far."""

    channels: int | None = None
    """Number of most relevant channels to move; if it and the threshold are None,
    `DEFAULT_CHANNELS`."""
    threshold: float | None = None
    """Alternatively, the least relevance of a channel that moves, the paper's beta."""
    alpha: float = DEFAULT_ALPHA
    """How far the most relevant channel moves at strength 1, in standard deviations."""
    templates: bool = True
    """Average the texts over the sentences of the prompt bank."""


@register
class Table(Method[Settings]):
    """Global directions: any words, for every face, without a search, from the domain's table."""

    name: ClassVar[str] = "table"
    at_once: ClassVar[bool] = True
    summary: ClassVar[str] = (
        "Looks up which channels of the generator do what the words say; needs a direction table, "
        "but no search."
    )
    requests: ClassVar[tuple[type[Any], ...]] = (Words,)
    presets: ClassVar[Mapping[str, Any]] = {
        "default": Settings(),
        "published": Settings(channels=20),
    }
    former_names: ClassVar[tuple[str, ...]] = ("global_direction",)

    def fits(self, domain: Domain) -> bool:
        """Whether a table for this generator and this CLIP is bundled."""
        return bundled_table(domain) is not None

    def check_domain(self, domain: Domain) -> None:
        """Raise `MethodError` unless a table for this domain is bundled."""
        if bundled_table(domain) is None:
            raise MethodError(
                "No direction table for this generator and this CLIP is bundled.",
                got=domain.base_model.fingerprint,
                expected="a direction table",
                remedy="Build one with recipes/build_direction_table.py and use its `direction`, "
                "or use the method 'gradient', which needs none.",
            )

    def search(
        self,
        domain: Domain,
        request: Words,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Direction:
        """Look up the direction in s of the words, see `DirectionTable.direction`."""
        table = bundled_table(domain)
        assert table is not None
        found = table.direction(
            domain,
            request.text,
            request.neutral,
            settings.threshold,
            settings.channels,
            settings.alpha,
            TEMPLATES if settings.templates else ("{}",),
        )
        if face is None or request.said is None:
            return found
        return _far_enough(domain, found, face, request)

    def rank(self, domain: Domain, request: Request, face: Latents | None) -> float:
        """High, since it needs no search; highest for removals and other readings of the words."""
        is_removal = isinstance(request, Words) and request.said is not None
        return 4.0 if is_removal else 2.0

    def account(self, origin: Origin) -> str:
        """How an edit was found, for its card."""
        return "A direction in style space, looked up in a table (StyleCLIP, section 6)."


@torch.no_grad()
def _far_enough(domain: Domain, found: Direction, face: Latents, request: Words) -> Direction:
    """A removal that goes as far as this face needs.

    Strength 1 removes glasses, but only half of a hat. CLIP compares the picture with the two
    texts, and the result is the first strength at which CLIP sees no more of what should be removed
    than in random faces.
    """
    change = text_change(domain, request.text, str(request.neutral))
    usual = domain.encode_image(domain.sketch(domain.sample(range(_USUAL)))) @ change
    start = domain.lower(face, Space.S)
    factor = 1.0
    for factor in _FARTHER:
        moved = Latents(Space.S, start.codes + factor * found.vector.to(start.codes))
        if float(domain.encode_image(domain.sketch(moved)) @ change) >= float(usual.mean()):
            break
    origin = replace(found.origin, training={**found.origin.training, "factor": factor})
    return Direction(factor * found.vector, Space.S, found.base_model, found.strength, origin)


def bundled_table(domain: Domain) -> DirectionTable | None:
    """The bundled table for a domain; None if there is none.

    Raises:
        ArtifactError: a bundled table is damaged.
    """
    for folder in bundled(KIND).values():
        table = _loaded(str(folder))
        try:
            table.check_fits(domain)
        except MismatchError:
            continue  # the table belongs to another domain
        return table
    return None


@lru_cache(maxsize=4)
def _loaded(folder: str) -> DirectionTable:
    return load_directions(folder)
