"""Build one of our networks from the tensors of a file under the file's names.

A reader gives the part of the file that holds a network, the file's name for each of our tensors
and its conversion to ours (`Part`), and the sizes of the network. A tensor that the network needs
and the part lacks, or that the part has and the network has no place for, is an error that names
it. Otherwise a network with a missing layer would render wrong pictures without any sign.
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
    """An independent contiguous copy of the same type."""
    if isinstance(array, Tensor):
        return array.detach().clone(memory_format=torch.contiguous_format)
    return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))


def _borrowed(array: Array) -> Tensor:
    """A tensor of the same type, which may share the file's memory."""
    if isinstance(array, Tensor):
        return array.detach()
    # PyTorch warns about read-only arrays, and has no read-only tensors.
    if array.flags.writeable and array.dtype.isnative and array.size:
        return torch.from_numpy(array)
    return to_tensor(array)


@dataclass(frozen=True)
class Source:
    """A tensor of the file: its name there, its numbers, and its conversion to our tensor."""

    name: str
    array: Array
    convert: Convert = lambda tensor: tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of our tensor."""
        return tuple(self.convert(torch.empty(tuple(self.array.shape), device="meta")).shape)

    def load(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """Our tensor, contiguous.

        Raises:
            ArtifactError: it is damaged or holds numbers that are not finite; the message names it.
        """
        if "complex" in str(self.array.dtype):
            raise ArtifactError(f"tensor {self.name!r} holds complex numbers")
        try:
            # Allocated before temporary copies are freed, so that memory is not fragmented.
            tensor = torch.empty(self.shape, dtype=dtype)
            tensor.copy_(self.convert(_borrowed(self.array)))
        except RuntimeError as error:
            raise ArtifactError(f"tensor {self.name!r}: {error}") from error
        # The minimum and maximum need no extra memory, unlike a mask.
        if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
            raise ArtifactError(f"tensor {self.name!r} holds numbers that are not finite")
        return tensor


Place = Callable[[str], tuple[str, Convert] | None]


@dataclass
class Part:
    """The part of a file that holds one network.

    Attributes:
        tensors: the stored arrays by the file's names, without the prefix.
        place: the file's name for one of our tensors, and its conversion to ours; None if such
            files do not have it.
        prefix: the common prefix of the names in the file.
        idle: names in the file that its own code does not use either, and why.
        full: full names in the file, for those that are not prefix plus name.
    """

    tensors: Mapping[str, Array]
    place: Place = lambda ours: (ours, lambda tensor: tensor)
    prefix: str = ""
    idle: Mapping[str, str] = field(default_factory=dict)
    full: Mapping[str, str] = field(default_factory=dict)

    def whole(self, name: str) -> str:
        """The full name in the file, with the prefix."""
        return self.full.get(name, self.prefix + name)

    def source(self, ours: str) -> Source | None:
        """The source of one of our tensors; None if the file does not have it."""
        place = self.place(ours)
        if place is None or place[0] not in self.tensors:
            return None
        name, convert = place
        return Source(self.whole(name), self.tensors[name], convert)

    def lacks(self, ours: str) -> ArtifactError:
        """The error that a tensor is missing, with our name and the file's name."""
        place = self.place(ours)
        name = ours if place is None else self.whole(place[0])
        return ArtifactError(
            f"lacks the tensor for {ours!r}: there is no {name!r} in it.",
            got=f"no {name}",
            expected=name,
            remedy="The file is incomplete: download it again, or save it again.",
        )

    def shape(self, ours: str, dimensions: int) -> tuple[int, ...]:
        """The shape of one of our tensors.

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
        """The length of a row of layers, "mapping.fc{}", up to the last one with any tensor."""
        there = (
            i + 1
            for i in range(MAX_LAYERS)
            for part in parts
            if self.source(f"{name.format(i)}.{part}") is not None
        )
        return max(least, max(there, default=0))


@dataclass
class Reading(Generic[Model]):
    """A network as a file describes it.

    Attributes:
        what: what it is, in words: "a generator of NVIDIA's PyTorch code".
        model: our class.
        config: its arguments.
        part: where its tensors are.
        may_lack: whether a file may lack one of our tensors.
        fill: the replacement for a tensor that a file lacks.
    """

    what: str
    model: type[Model]
    config: Mapping[str, Any]
    part: Part
    may_lack: Callable[[str], bool] = lambda name: False
    fill: Callable[[str, Tensor], Tensor] = lambda name, expected: torch.zeros(expected.shape)

    def network(self) -> Model:
        """A network of this size, without numbers."""
        try:
            with torch.device("meta"):  # only shapes; the numbers come from the file
                return self.model(**self.config)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ArtifactError(
                f"describes an impossible {self.model.__name__}: {error}"
            ) from error

    def used(self, network: nn.Module) -> dict[str, str]:
        """Names in the file, and our names for them."""
        sources = {name: self.part.source(name) for name in network.state_dict()}
        return {source.name: name for name, source in sources.items() if source is not None}

    def problems(self, network: nn.Module) -> Iterator[ArtifactError]:
        """Everything that is missing, unexpected or of the wrong shape, one by one."""
        for name, expected in network.state_dict().items():
            source = self.part.source(name)
            if source is None and not self.may_lack(name):
                yield self.part.lacks(name)
            elif source is not None and source.shape != tuple(expected.shape):
                yield ArtifactError(
                    f"tensor {source.name!r} has the shape {list(source.array.shape)}; expected "
                    f"{list(expected.shape)} to match the other tensors of the file",
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
                remedy="It is another kind of network, or layers are missing. Check the file, or "
                "download it again.",
            )

    def build(self, size: int) -> Model:
        """The network, frozen, in float32 and in eval mode.

        Args:
            size: bytes of the file; its tensors cannot need more.

        Raises:
            ArtifactError: a tensor is missing, unexpected, of the wrong shape or damaged; the
                message names it.
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
    """A generator as a file describes it.

    Constant noise that the file lacks is drawn at random from a fixed seed.

    Args:
        config: from `sizes`, plus the settings that the shapes do not show.
        lacking: what the file may lack, of "filter", "image filter", "noise" and "average".
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
    """Like `Reading.build`; an average w that the file lacks is measured."""
    generator = reading.build(size)
    if reading.part.source("mapping.w_avg") is None:
        random = torch.Generator().manual_seed(_SEED)
        z = torch.randn(_W_AVG_SAMPLES, generator.z_dim, generator=random)
        classes = torch.arange(_W_AVG_SAMPLES) % max(generator.c_dim, 1)
        labels = torch.nn.functional.one_hot(classes, max(generator.c_dim, 1))
        generator.update_w_avg(z, labels if generator.c_dim else None, beta=0)
    return generator


def _rarity(name: str) -> str:
    """The kind of a tensor that some files lack; empty for all other tensors."""
    if name.endswith(".conv1.resample_filter") or name == "synthesis.b4.resample_filter":
        return "unused"  # kept for compatibility with NVIDIA's; nothing is resampled there
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
    """The taps, with sum 1, from which `setup_filter` makes this resampling filter.

    Raises:
        ArtifactError: it is not a filter.
    """
    f = filter.double()
    total = f.sum()
    if f.ndim not in (1, 2) or not f.numel() or not torch.isfinite(total) or total == 0:
        raise ArtifactError(f"has an invalid resampling filter of shape {list(f.shape)}")
    f = f / total
    if f.ndim == 2:
        row = f.sum(0)
        if f.shape[0] != f.shape[1] or not torch.allclose(torch.outer(row, row), f, atol=1e-6):
            return tuple(map(tuple, f.tolist()))
        if len(row) >= SEPARABLE_TAPS:  # `setup_filter` would not expand a row this long
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
    """The arguments of `StyleGAN2Generator` that follow from the shapes of tensors.

    A row of layers extends to the last layer with any tensor. Missing tensors before it are
    reported as missing, instead of making a smaller network.

    Args:
        least: "num_mapping_layers", "img_resolution" and "architecture", if the file gives them
            beside its tensors. Layers that it announces but lacks are reported as missing too.

    Raises:
        ArtifactError: tensors needed for this are missing; the message names the first one.
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
    """The highest resolution that has any tensor."""
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
