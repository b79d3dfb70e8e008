"""From the tensors of a file, under the file's names, to a network of ours.

A reader says which part of the file a network is in, what the file calls each of our tensors and
what makes it ours (`Part`), and how large the network is. Whatever the network has and the part
lacks, and whatever the part has and the network has no place for, is an error that names it: a
network with a layer less would draw something, and nobody would know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from stylegan_hub.checkpoints.pickles import Array
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.stylegan2 import RESAMPLE_TAPS, StyleGAN2Generator
from stylegan_hub.ops import setup_filter
from stylegan_hub.ops.upfirdn2d import SEPARABLE_TAPS

MAX_RESOLUTION = 2048
MAX_LAYERS = 100
_W_AVG_SAMPLES = 10_000
_SEED = 0
_SHOWN = 5  # names in a message


Model = TypeVar("Model", bound=nn.Module)
Convert = Callable[[Tensor], Tensor]


def to_tensor(array: Array) -> Tensor:
    """A copy of its own, of the same type, contiguous."""
    if isinstance(array, Tensor):
        return array.detach().clone(memory_format=torch.contiguous_format)
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def _borrowed(array: Array) -> Tensor:
    """As a tensor of the same type, which may be the file's own."""
    if isinstance(array, Tensor):
        return array.detach()
    # PyTorch warns of arrays that must not be written to, and has no others.
    if array.flags.writeable and array.dtype.isnative and array.size:
        return torch.from_numpy(array)
    return to_tensor(array)


@dataclass(frozen=True)
class Source:
    """A tensor of the file: its name there, its numbers, and what makes it ours."""

    name: str
    array: Array
    convert: Convert = lambda tensor: tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """That of our tensor."""
        return tuple(self.convert(torch.empty(tuple(self.array.shape), device="meta")).shape)

    def load(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Our tensor, contiguous.

        Raises:
            ArtifactError: it is damaged or holds numbers that are not finite; it is named.
        """
        if "complex" in str(self.array.dtype):
            raise ArtifactError(f"tensor {self.name!r} holds complex numbers")
        try:
            tensor = torch.empty(self.shape, dtype=dtype)  # before what is let go: no hole is left
            tensor.copy_(self.convert(_borrowed(self.array)))
        except RuntimeError as error:
            raise ArtifactError(f"tensor {self.name!r}: {error}") from error
        # Lowest and highest take no memory, unlike a mask.
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ArtifactError(f"tensor {self.name!r} holds numbers that are not finite")
        return tensor


Place = Callable[[str], tuple[str, Convert] | None]


@dataclass
class Part:
    """The part of a file that one network is in.

    Attributes:
        tensors: the file's names, without what they begin with, and what is stored under them.
        place: what the file calls one of our tensors, and what makes it ours; None where such
            files do not have it.
        prefix: what the names in the file begin with.
        idle: names in the file that its own code does not use either, and why.
        full: whole names in the file, where prefix and name do not make them.
    """

    tensors: Mapping[str, Array]
    place: Place = lambda ours: (ours, lambda tensor: tensor)
    prefix: str = ""
    idle: Mapping[str, str] = field(default_factory=dict)
    full: Mapping[str, str] = field(default_factory=dict)

    def whole(self, name: str) -> str:
        """A name in the file with what it begins with."""
        return self.full.get(name, self.prefix + name)

    def source(self, ours: str) -> Source | None:
        """Where one of our tensors is, None if it is not there."""
        place = self.place(ours)
        if place is None or place[0] not in self.tensors:
            return None
        name, convert = place
        return Source(self.whole(name), self.tensors[name], convert)

    def lacks(self, ours: str) -> ArtifactError:
        """That a tensor is missing, by our name and the file's."""
        place = self.place(ours)
        name = ours if place is None else self.whole(place[0])
        return ArtifactError(
            f"lacks the tensor for {ours!r}: there is no {name!r} in it.",
            got=f"no {name}",
            expected=name,
            remedy="The file is incomplete: download it again, or save it again.",
        )

    def shape(self, ours: str, dimensions: int) -> tuple[int, ...]:
        """That of one of our tensors.

        Raises:
            ArtifactError: it is missing, or has another number of dimensions.
        """
        if (source := self.source(ours)) is None:
            raise self.lacks(ours)
        if len(source.shape) != dimensions:
            raise ArtifactError(
                f"tensor {source.name!r} has the shape {list(source.array.shape)}; expected "
                f"{dimensions} dimensions"
            )
        return source.shape

    def length(self, name: str, parts: tuple[str, ...], least: int = 0) -> int:
        """How long a row of layers is, "mapping.fc{}": up to the last one that has any tensor."""
        there = (
            i + 1
            for i in range(MAX_LAYERS)
            for part in parts
            if self.source(f"{name.format(i)}.{part}") is not None
        )
        return max(least, max(there, default=0))


@dataclass
class Reading(Generic[Model]):
    """What a file says about one network.

    Attributes:
        what: it is, in words: "a generator of NVIDIA's PyTorch code".
        model: our class.
        config: its arguments.
        part: where its tensors are.
        may_lack: whether a file may be without one of our tensors.
        fill: what is taken for such a one.
    """

    what: str
    model: type[Model]
    config: Mapping[str, Any]
    part: Part
    may_lack: Callable[[str], bool] = lambda name: False
    fill: Callable[[str, Tensor], Tensor] = lambda name, expected: torch.zeros(expected.shape)

    def network(self) -> Model:
        """One of this size without numbers."""
        try:
            with torch.device("meta"):  # shapes only: the numbers come from the file
                return self.model(**self.config)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ArtifactError(
                f"describes an impossible {self.model.__name__}: {error}"
            ) from error

    def used(self, network: nn.Module) -> dict[str, str]:
        """Names in the file, and what they become."""
        sources = {name: self.part.source(name) for name in network.state_dict()}
        return {source.name: name for name, source in sources.items() if source is not None}

    def problems(self, network: nn.Module) -> Iterator[ArtifactError]:
        """What is missing, too much or of the wrong shape, one after the other."""
        for name, expected in network.state_dict().items():
            source = self.part.source(name)
            if source is None and not self.may_lack(name):
                yield self.part.lacks(name)
            elif source is not None and source.shape != tuple(expected.shape):
                yield ArtifactError(
                    f"tensor {source.name!r} has the shape {list(source.array.shape)}; expected "
                    f"{list(expected.shape)} beside the other tensors of the file",
                    got=tuple(source.shape),
                    expected=tuple(expected.shape),
                )
        used = self.used(network)
        rest = [name for name in self.part.tensors if name not in self.part.idle]
        left = [whole for name in rest if (whole := self.part.whole(name)) not in used]
        if left:
            more = f" and {len(left) - _SHOWN} more" if len(left) > _SHOWN else ""
            yield ArtifactError(
                f"holds tensors for which {self.what} of this size has no place: "
                f"{', '.join(left[:_SHOWN])}{more}.",
                got=tuple(left),
                expected=f"the {len(used)} tensors of {self.what}",
                remedy="It is another kind of network, or its layers are incomplete; nothing was "
                "made of it.",
            )

    def build(self, size: int) -> Model:
        """The network, frozen, in float32 and in eval mode.

        Args:
            size: bytes of the file; its tensors cannot need more.

        Raises:
            ArtifactError: a tensor is missing, too much, of the wrong shape or damaged; it is
                named.
        """
        network = self.network()
        if (problem := next(self.problems(network), None)) is not None:
            raise problem
        expected = network.state_dict()
        sources = {name: self.part.source(name) for name in expected}
        claimed = sum(source.array.nbytes for source in sources.values() if source is not None)
        if claimed > size:
            raise ArtifactError(
                f"its tensors need {claimed} bytes, which is more than the file has: they share "
                "numbers"
            )
        state = {
            name: self.fill(name, tensor) if source is None else source.load(tensor.dtype)
            for (name, tensor), source in zip(expected.items(), sources.values(), strict=True)
        }
        network.load_state_dict(state, assign=True)
        return network.eval().requires_grad_(False)


# Generators


def generator_reading(
    what: str, part: Part, config: Mapping[str, Any], lacking: Collection[str]
) -> Reading[StyleGAN2Generator]:
    """What a file says about a generator.

    Constant noise that such files may lack is drawn, always the same.

    Args:
        config: from `sizes`, with what the shapes do not show.
        lacking: what the file may be without, of "filter", "image filter", "noise" and "average".
    """
    random = torch.Generator().manual_seed(_SEED)

    def may_lack(name: str) -> bool:
        return _rarity(name) in (*lacking, "unused")

    def fill(name: str, expected: Tensor) -> Tensor:
        if name.endswith(".resample_filter"):
            taps = (
                None if name.endswith(".conv1.resample_filter") else config.get("resample_filter")
            )
            if re.fullmatch(r"synthesis\.b\d+\.resample_filter", name):
                taps = config.get("rgb_resample_filter", taps)
            return setup_filter(RESAMPLE_TAPS if taps is None else taps)
        if _rarity(name) == "noise":
            return torch.randn(expected.shape, generator=random)
        return torch.zeros(expected.shape)

    return Reading(what, StyleGAN2Generator, config, part, may_lack, fill)


def build_generator(reading: Reading[StyleGAN2Generator], size: int) -> StyleGAN2Generator:
    """As `Reading.build`; an average w that the file lacks is measured."""
    generator = reading.build(size)
    if reading.part.source("mapping.w_avg") is None:
        random = torch.Generator().manual_seed(_SEED)
        z = torch.randn(_W_AVG_SAMPLES, generator.z_dim, generator=random)
        classes = torch.arange(_W_AVG_SAMPLES) % max(generator.c_dim, 1)
        labels = torch.nn.functional.one_hot(classes, max(generator.c_dim, 1))
        generator.update_w_avg(z, labels if generator.c_dim else None, beta=0)
    return generator


def _rarity(name: str) -> str:
    """Which kind of tensor, of those that not all files have; empty for all others."""
    if name.endswith(".conv1.resample_filter") or name == "synthesis.b4.resample_filter":
        return "unused"  # a generator has it only because NVIDIA's have: nothing resamples there
    for ending, kind in _RARE.items():
        if name.endswith(ending):
            return kind
    return ""


_RARE = {
    ".conv0.resample_filter": "filter",
    ".skip.resample_filter": "filter",
    ".resample_filter": "image filter",
    ".noise_const": "noise",
    ".w_avg": "average",
}


def taps_of(filter: Tensor) -> Any:
    """What makes a resampling filter of this shape with `setup_filter`: taps, of sum 1.

    Raises:
        ArtifactError: it is none.
    """
    f = filter.double()
    total = f.sum()
    if f.ndim not in (1, 2) or not f.numel() or not torch.isfinite(total) or total == 0:
        raise ArtifactError(f"has a resampling filter of shape {list(f.shape)} that is none")
    f = f / total
    if f.ndim == 2:
        row = f.sum(0)
        if f.shape[0] != f.shape[1] or not torch.allclose(torch.outer(row, row), f, atol=1e-6):
            return tuple(map(tuple, f.tolist()))
        if len(row) >= SEPARABLE_TAPS:  # a row of so many taps stays a row
            return tuple(map(tuple, f.tolist()))
        f = row
    usual = torch.tensor(RESAMPLE_TAPS, dtype=torch.float64) / sum(RESAMPLE_TAPS)
    if f.shape == usual.shape and torch.allclose(f, usual, rtol=0, atol=1e-6):
        return RESAMPLE_TAPS
    return tuple(f.tolist())


_LAYER = ("weight", "bias")
_BLOCK = tuple(
    f"{layer}.{part}"
    for layer in ("conv0", "conv1", "torgb", "skip")
    for part in (*_LAYER, "affine.weight", "affine.bias", "noise_strength", "noise_const")
)


def sizes(part: Part, least: Mapping[str, Any]) -> dict[str, Any]:
    """Those arguments of `StyleGAN2Generator` that the shapes of tensors show.

    A row of layers is as long as the last one of which anything is there: what is missing before
    it is found to be missing, instead of making a smaller network.

    Args:
        least: what the file says beside its tensors: "num_mapping_layers", "img_resolution" and
            "architecture", where it does. Layers that it promises and lacks are missing too.

    Raises:
        ArtifactError: tensors that are needed for that are missing; the first one is named.
    """
    highest = _highest(part, least.get("img_resolution", 0))
    channels = {4: part.shape("synthesis.b4.const", 3)[0]}
    while (resolution := 2 * max(channels)) <= highest:
        channels[resolution] = part.shape(f"synthesis.b{resolution}.conv1.weight", 4)[0]
    layers = max(part.length("mapping.fc{}", _LAYER, least.get("num_mapping_layers", 0)), 1)
    inner, inputs = part.shape("mapping.fc0.weight", 2)
    w_dim = part.shape(f"mapping.fc{layers - 1}.weight", 2)[0]
    embed, c_dim = 0, 0
    if any(part.source(f"mapping.embed.{name}") for name in _LAYER):
        embed, c_dim = part.shape("mapping.embed.weight", 2)
    names = [f"synthesis.b{resolution}" for resolution in channels]
    config: dict[str, Any] = {
        "z_dim": inputs - embed,
        "c_dim": c_dim,
        "w_dim": w_dim,
        "img_resolution": highest,
        "img_channels": part.shape(f"{names[-1]}.torgb.weight", 4)[0],
        "num_mapping_layers": layers,
        "channels": {str(resolution): width for resolution, width in channels.items()},
        "use_noise": any(
            part.source(f"{name}.{conv}.noise_strength") for name in names
            for conv in ("conv0", "conv1")
        ),
        "architecture": least.get("architecture") or _architecture(part, names),
    }  # fmt: skip
    if embed not in (0, w_dim):
        config["embed_features"] = embed
    if layers > 1 and inner != w_dim:
        config["layer_features"] = inner
    return config


def _highest(part: Part, least: int) -> int:
    """The highest resolution of which there is any tensor."""
    highest = max(4, least)
    resolution = 4
    while resolution <= 1 << 20:
        if any(part.source(f"synthesis.b{resolution}.{name}") for name in _BLOCK):
            highest = max(highest, resolution)
        resolution *= 2
    if highest > MAX_RESOLUTION:
        raise ArtifactError(
            f"renders at {highest} px.",
            got=highest,
            expected=f"up to {MAX_RESOLUTION} px",
            remedy="Larger generators are not supported.",
        )
    return highest


def _architecture(part: Part, names: list[str]) -> str:
    if any(part.source(f"{name}.torgb.{p}") for name in names[:-1] for p in _LAYER):
        return "skip"
    if any(part.source(f"{name}.skip.weight") for name in names):
        return "resnet"
    return "orig" if len(names) > 1 else "skip"
