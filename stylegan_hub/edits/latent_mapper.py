"""The latent mapper: a small network that finds the right step for every latent.

StyleCLIP (Patashnik et al. 2021), section 5 and figure 3: `w + 0.1 * M(w)`, where M has three
parts, one for the coarse, the medium and the fine layers of the generator (4 and 8 px, 16 and
32 px, the rest). Each part is a normalization and four fully connected layers with equalized
learning rate. In style space every convolution has its own mapper and toRGB layers stay unchanged,
as in the official code. `methods/mapper.py` trains mappers.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self, get_args

import torch
from torch import Tensor, nn

from stylegan_hub.artifacts import BaseModel
from stylegan_hub.bounds import MAX_STRENGTH, is_strength
from stylegan_hub.edits.base import Edit, Origin, Strength, register
from stylegan_hub.latents import Space
from stylegan_hub.models.stylegan2 import FullyConnectedLayer

Normalization = Literal["features", "layers"]
SCALE = 0.1
"""StyleCLIP's factor for the network's output."""

_NUM_LAYERS = 4
_LR_MULTIPLIER = 0.01


@register
class LatentMapper(Edit):
    """A step that depends on the latent: `delta(codes) = scale * M(codes)`.

    M has one network for each group of adjacent entries along dimension 1 of the codes: layers in
    w_plus, style channels in s. Outside the groups the step is 0.

    Args:
        groups: name -> (start, stop), see `methods.mapper.mapper_groups`; names are made of
            letters, digits and _.
        space: w_plus or s.
        base_model: the generator it belongs to.
        normalization: the axis over which a network's input gets mean square 1. The paper means
            "features"; published mappers for w_plus were trained with "layers" of the group.
        scale: factor for the networks' output.

    Raises:
        ValueError: groups overlap, are empty or exceed the codes, or a setting is impossible.
    """

    kind: ClassVar[str] = "latent_mapper"
    summary: ClassVar[str] = (
        "A latent mapper (StyleCLIP, section 5): a small network that finds the right displacement "
        "for every face."
    )

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
        if not is_strength(scale):
            raise ValueError(
                f"Got scale {scale!r}; expected a number from -{MAX_STRENGTH:g} to "
                f"{MAX_STRENGTH:g}, such as {SCALE}."
            )
        self.groups = {name: (start, stop) for name, (start, stop) in groups.items()}
        self.normalization: Normalization = normalization
        self.scale = float(scale)
        self.network = nn.ModuleDict(
            {name: _layers(self._width(name)) for name in self.groups}
        ).requires_grad_(False)

    def delta(self, codes: Tensor) -> Tensor:
        """`scale * M(codes)`, in float32; the networks are moved to the codes' device."""
        self.network.to(codes.device)
        codes = codes.float()
        step = torch.zeros_like(codes)
        axis = 1 if self.normalization == "layers" else -1
        for name, (start, stop) in self.groups.items():
            part = pixel_norm(codes[:, start:stop], axis)
            step[:, start:stop] = self.network[name](part.flatten(0, -2)).view_as(part)
        return self.scale * step

    def tensors(self) -> dict[str, Tensor]:
        """Weights and biases by `group.layer`; in half precision if that changes no value."""
        full = self.network.state_dict()
        half = {name: tensor.half() for name, tensor in full.items()}
        lossless = all(torch.equal(half[name].float(), tensor) for name, tensor in full.items())
        return half if lossless else full

    def extra_config(self) -> dict[str, Any]:
        """Groups, normalization and scale; with the tensors, they define the mapper."""
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
        """From what `tensors` and `extra_config` returned.

        Raises:
            ValueError: the tensors do not match the config.
        """
        groups, scale = _parsed_groups(config["groups"]), config["scale"]
        # Checked before anything is allocated: an untrusted config may give huge sizes.
        _check_tensors(tensors, groups, base_model.w_dim if space is Space.W_PLUS else None)
        mapper = cls(groups, space, base_model, config["normalization"], scale, strength, origin)
        mapper.network.load_state_dict(dict(tensors))
        return mapper

    def _width(self, name: str) -> int:
        start, stop = self.groups[name]
        return self.base_model.w_dim if self.space is Space.W_PLUS else stop - start


def pixel_norm(codes: Tensor, dim: int = -1) -> Tensor:
    """Codes with mean square 1 along one dimension (ProGAN, Karras et al. 2018, section 4.2)."""
    return codes * (codes.square().mean(dim, keepdim=True) + 1e-8).rsqrt()


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
            f"Got the groups {dict(groups)}; expected names with spans (start, stop) from 0 to "
            f"{size} that do not overlap. Make them with mapper_groups(generator, space)."
        )


def _parsed_groups(value: object) -> dict[str, tuple[int, int]]:
    """Groups from their JSON form, `{"coarse": [0, 4]}`."""
    if not isinstance(value, dict) or not all(
        isinstance(span, list) and len(span) == 2 and all(type(index) is int for index in span)
        for span in value.values()
    ):
        raise ValueError(f"groups is {value!r}; expected {{name: [start, stop]}} with integers.")
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
                f"the config expects {wanted} as tensor {name!r}, but model.safetensors holds {got}"
                f"{kind}. Use two files that were saved together."
            )
