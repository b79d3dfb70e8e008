"""Published edits and latents as plain tensors: StyleCLIP, TargetCLIP, InterFaceGAN, GANSpace.

What becomes of them (a mapper, a direction, a table, latents) is decided above this layer, where a
pipeline is at hand: `recipes/convert_checkpoint.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints.faces import tensors_of
from stylegan_hub.checkpoints.sources import Source
from stylegan_hub.checkpoints.tensors import StoredTensor
from stylegan_hub.errors import ArtifactError

# "course" is how the published files spell it.
_LEVELS = {"course_mapping": "coarse", "medium_mapping": "medium", "fine_mapping": "fine"}
_MAPPER = re.compile(
    r"(?:mapper\.)?(course_mapping|medium_mapping|fine_mapping|mapper_(\d{1,2})|mapping)"
    r"\.mapping\.([1-4])\.(weight|bias)"
)


@dataclass(frozen=True)
class PublishedMapper:
    """A mapper of StyleCLIP.

    Attributes:
        networks: group -> tensors "0.weight", "0.bias", ... of its four layers. Groups are coarse,
            medium and fine (0-4, 4-8 and all further layers of w_plus; one that is not there leaves
            its layers alone), or all; in style space the number of the layer, counted with toRGB.
        style_space: whether it edits style space.
    """

    networks: dict[str, dict[str, Tensor]]
    style_space: bool


def is_mapper(content: Any) -> bool:
    """Whether a file holds a mapper of StyleCLIP, with a decoder or without."""
    return any(_MAPPER.fullmatch(name) for name in tensors_of(content))


def mapper_from(content: Any) -> PublishedMapper:
    """The mapper of a checkpoint that has been read.

    Raises:
        ArtifactError: layers are missing or damaged; one is named.
    """
    networks: dict[str, dict[str, Tensor]] = {}
    style_space = False
    for name, source in tensors_of(content).items():
        if (match := _MAPPER.fullmatch(name)) is None:
            continue
        style_space |= match[2] is not None
        group = match[2] or _LEVELS.get(match[1], "all")
        networks.setdefault(group, {})[f"{int(match[3]) - 1}.{match[4]}"] = source.load()
    for group, tensors in networks.items():
        for index in range(4):
            for part in ("weight", "bias"):
                if f"{index}.{part}" not in tensors:
                    raise ArtifactError(
                        f"lacks the {part} of layer {index + 1} of the mapper's part {group!r}; "
                        "expected four layers"
                    )
    return PublishedMapper(networks, style_space)


def is_components(content: Any) -> bool:
    """Whether a file holds components of GANSpace (.npz)."""
    return isinstance(content, dict) and isinstance(content.get("lat_comp"), StoredTensor)


def component_from(content: Mapping[str, Any], index: int) -> Tensor:
    """A principal component of GANSpace in w or w_plus, as long as one standard deviation.

    Raises:
        ArtifactError: there is no such component, or its array is damaged.
    """
    components = Source("lat_comp", content["lat_comp"]).load()  # [count, 1 or num_ws, w_dim]
    if not 0 <= index < len(components):
        raise ArtifactError(f"has {len(components)} components; got component {index}")
    deviations = content.get("lat_stdev")
    if isinstance(deviations, StoredTensor):
        scale = Source("lat_stdev", deviations).load().reshape(-1)
        if len(scale) != len(components):
            raise ArtifactError(
                f"has {len(components)} components and {len(scale)} standard deviations"
            )
        return components[index] * scale[index]
    return components[index]


def vectors_from(content: Any) -> tuple[str, Tensor] | None:
    """Latents or directions in a file, `[n, ..., w_dim]`, under the name that they have there.

    From a single tensor (.pt, .npy), or a dict or .npz with one that is called direction, w,
    latents, latent or codes. None where there is no such thing.

    Raises:
        ArtifactError: the tensor is damaged.
    """
    if isinstance(content, StoredTensor):
        return "", Source("the array", content).load()
    if isinstance(content, dict):
        for name in ("direction", "w", "latents", "latent", "codes"):
            if isinstance(stored := content.get(name), StoredTensor):
                return name, Source(name, stored).load()
    return None


def statistics_from(content: Any) -> tuple[list[Tensor], list[Tensor]]:
    """Means and standard deviations of style space, per layer, of StyleCLIP's S_mean_std.

    Raises:
        ArtifactError: it is something else; what was expected is said.
    """
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise ArtifactError("is not S_mean_std, a pickle of two lists of arrays")
    means, deviations = content
    both: list[list[Tensor]] = []
    for what, rows in (("mean", means), ("standard deviation", deviations)):
        if not isinstance(rows, list | tuple) or not all(isinstance(r, StoredTensor) for r in rows):
            raise ArtifactError(f"has no list of arrays as its {what}s; expected S_mean_std")
        both.append(
            [Source(f"{what} of layer {i}", row).load().reshape(-1) for i, row in enumerate(rows)]
        )
    if [len(row) for row in both[0]] != [len(row) for row in both[1]]:
        raise ArtifactError("has means and standard deviations of different layers")
    return both[0], both[1]


def relevance_from(content: Any) -> Tensor:
    """StyleCLIP's table fs3.npy, [channels, d], rows of length 1 (or 0).

    Raises:
        ArtifactError: it is something else, or damaged.
    """
    if not isinstance(content, StoredTensor) or len(content.shape) != 2:
        raise ArtifactError("is not fs3.npy, an array of [channels, 512]")
    return torch.nn.functional.normalize(Source("fs3", content).load(), dim=1)
