"""From the tensors of a foreign generator, under our names, to a generator."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from stylegan_hub.checkpoints.tensors import StoredTensor
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.stylegan2 import RESAMPLE_TAPS, StyleGAN2Generator
from stylegan_hub.ops import setup_filter

MAX_RESOLUTION = 2048
_W_AVG_SAMPLES = 10_000
_SEED = 0


Model = TypeVar("Model", bound=nn.Module)


@dataclass(frozen=True)
class Source:
    """A tensor of the file: its name there, its place, and what makes it ours."""

    name: str
    stored: StoredTensor
    convert: Callable[[Tensor], Tensor] = lambda tensor: tensor

    def load(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The tensor, contiguous.

        Raises:
            ArtifactError: it is damaged or holds numbers that are not finite; it is named.
        """
        try:
            tensor = self.convert(self.stored.load()).to(dtype).contiguous()
        except (ArtifactError, RuntimeError) as error:
            raise ArtifactError(f"tensor {self.name!r}: {error}") from error
        if not tensor.sum(dtype=torch.float64).isfinite():  # takes no memory, unlike a mask
            raise ArtifactError(f"tensor {self.name!r} holds numbers that are not finite")
        return tensor


@dataclass
class GeneratorSources:
    """What a foreign file says about a generator.

    Attributes:
        config: arguments of `StyleGAN2Generator`.
        tensors: our names -> where the tensors are.
        may_lack: last parts of our names that such files may be without.
    """

    config: dict[str, Any]
    tensors: dict[str, Source]
    may_lack: Collection[str] = field(default=("resample_filter", "w_avg"))


def build_generator(sources: GeneratorSources, size: int) -> StyleGAN2Generator:
    """The generator, frozen, in float32.

    A missing average w is measured, missing constant noise is drawn anew (always the same).

    Args:
        size: bytes of the file; its tensors cannot need more.

    Raises:
        ArtifactError: a tensor is missing, has the wrong shape or is damaged; it is named.
    """
    random = torch.Generator().manual_seed(_SEED)

    def missing(name: str, expected: Tensor) -> Tensor | None:
        part = name.rsplit(".", 1)[1]
        if part not in sources.may_lack:
            return None
        if part == "resample_filter":
            return setup_filter(sources.config.get("resample_filter", RESAMPLE_TAPS))
        if part == "noise_const":
            return torch.randn(expected.shape, generator=random)
        return torch.zeros(expected.shape)

    generator = build_model(StyleGAN2Generator, sources.config, sources.tensors, size, missing)
    if "mapping.w_avg" not in sources.tensors:
        _measure_w_avg(generator, random)
    return generator


def build_model(
    model: type[Model],
    config: Mapping[str, Any],
    tensors: Mapping[str, Source],
    size: int,
    missing: Callable[[str, Tensor], Tensor | None] = lambda name, expected: None,
) -> Model:
    """A network of ours with the weights of a file, frozen, in float32 and in eval mode.

    Args:
        size: bytes of the file; its tensors cannot need more.
        missing: what to take for a tensor that the file lacks; None where it must have it.

    Raises:
        ArtifactError: a tensor is missing, has the wrong shape or is damaged; it is named.
    """
    claimed = sum(source.stored.nbytes for source in tensors.values())
    if claimed > size:
        raise ArtifactError(
            f"its tensors need {claimed} bytes, which is more than the file has: they share numbers"
        )
    try:
        with torch.device("meta"):  # shapes only: the numbers come from the file
            network = model(**config)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ArtifactError(f"describes an impossible {model.__name__}: {error}") from error
    state: dict[str, Tensor] = {}
    for name, expected in network.state_dict().items():
        source = tensors.get(name)
        found = missing(name, expected) if source is None else source.load(expected.dtype)
        if found is None:
            raise ArtifactError(f"lacks the tensor for {name!r}; a {model.__name__} has it")
        if found.shape != expected.shape:
            raise ArtifactError(
                f"tensor {(source.name if source else name)!r} has the shape {list(found.shape)}; "
                f"expected {list(expected.shape)} beside the other tensors of the file"
            )
        state[name] = found
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)


def _measure_w_avg(generator: StyleGAN2Generator, random: torch.Generator) -> None:
    z = torch.randn(_W_AVG_SAMPLES, generator.z_dim, generator=random)
    labels = None
    if generator.c_dim:
        classes = torch.arange(_W_AVG_SAMPLES) % generator.c_dim
        labels = torch.nn.functional.one_hot(classes, generator.c_dim)
    generator.update_w_avg(z, labels, beta=0)


def resample_taps(stored: StoredTensor) -> tuple[float, ...]:
    """The row of taps of a resampling filter, of sum 1 unless it is the usual one."""
    f = stored.load().double()
    taps = f.sum(0) if f.ndim == 2 else f
    total = taps.sum()
    if f.ndim not in (1, 2) or not torch.isfinite(total) or total == 0:
        raise ArtifactError(f"has a resampling filter of shape {list(f.shape)} that is none")
    taps = taps / total
    usual = torch.tensor(RESAMPLE_TAPS, dtype=torch.float64) / sum(RESAMPLE_TAPS)
    if taps.shape == usual.shape and torch.allclose(taps, usual, rtol=0, atol=1e-6):
        return RESAMPLE_TAPS
    return tuple(taps.tolist())


def sizes(tensors: Mapping[str, Source]) -> dict[str, Any]:
    """Those arguments of `StyleGAN2Generator` that the shapes of NVIDIA's tensors show.

    Raises:
        ArtifactError: tensors that are needed for that are missing; the first one is named.
    """

    def shape(name: str, dimensions: int) -> tuple[int, ...]:
        if name not in tensors:
            raise ArtifactError(f"lacks the tensor for {name!r}, which every StyleGAN2 has")
        source = tensors[name]
        found = tuple(source.convert(torch.empty(source.stored.shape, device="meta")).shape)
        if len(found) != dimensions:
            raise ArtifactError(
                f"tensor {source.name!r} has the shape {list(found)}; expected {dimensions} "
                "dimensions"
            )
        return found

    channels = {4: shape("synthesis.b4.const", 3)[0]}
    while any(name.startswith(f"synthesis.b{2 * max(channels)}.") for name in tensors):
        resolution = 2 * max(channels)
        if resolution > MAX_RESOLUTION:
            raise ArtifactError(
                f"draws at {resolution} px; up to {MAX_RESOLUTION} px are supported"
            )
        channels[resolution] = shape(f"synthesis.b{resolution}.conv1.weight", 4)[0]
    layers = 0
    while f"mapping.fc{layers}.weight" in tensors:
        layers += 1
    inner, inputs = shape("mapping.fc0.weight", 2)
    w_dim = shape(f"mapping.fc{layers - 1}.weight", 2)[0]
    embed, c_dim = 0, 0
    if "mapping.embed.weight" in tensors:
        embed, c_dim = shape("mapping.embed.weight", 2)
    highest = max(channels)
    config: dict[str, Any] = {
        "z_dim": inputs - embed,
        "c_dim": c_dim,
        "w_dim": w_dim,
        "img_resolution": highest,
        "img_channels": shape(f"synthesis.b{highest}.torgb.weight", 4)[0],
        "num_mapping_layers": layers,
        "channels": {str(resolution): width for resolution, width in channels.items()},
        "use_noise": any(name.endswith(".noise_strength") for name in tensors),
        "architecture": "orig",
    }
    if embed not in (0, w_dim):
        config["embed_features"] = embed
    if layers > 1 and inner != w_dim:
        config["layer_features"] = inner
    if highest > 4 and "synthesis.b4.torgb.weight" in tensors:
        config["architecture"] = "skip"
    elif "synthesis.b8.skip.weight" in tensors:
        config["architecture"] = "resnet"
    elif highest == 4:
        config["architecture"] = "skip"
    return config
