"""The networks of a pipeline that are exported, with their inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from stylegan_hub.export.synthesis import PlainSynthesis
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.stylegan2 import MappingNetwork, StyleGAN2Generator, StyleLayer

LatentSpace = Literal["z", "w_plus", "s"]
LATENTS: tuple[LatentSpace, ...] = ("z", "w_plus", "s")


@dataclass(frozen=True)
class Part:
    """A network to be exported.

    Attributes:
        name: name of its file, without suffix.
        module: takes the inputs in this order and returns one tensor.
        inputs: examples by name, with two samples each; the first axis is dynamic, except for
            scalars.
        output: name of the output.
        meaning: meaning of the inputs and the output, in a sentence.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    output: str
    meaning: str


def parts_of(
    generator: StyleGAN2Generator,
    clip: CLIPModel,
    encoder: Encoder | None,
    *,
    context_length: int,
    image_mean: Sequence[float],
    image_std: Sequence[float],
    latent: LatentSpace = "w_plus",
    resolution: int | None = None,
    bounded: bool = False,
) -> list[Part]:
    """The networks of a pipeline: generator, CLIP's two towers, encoder.

    Args:
        context_length: number of tokens that CLIP's text tower takes.
        image_mean, image_std: normalization of CLIP's pictures, from its image processor.
        latent: the generator's input. z: with the mapping network and truncation_psi; w_plus: from
            the affine layers on; s: style codes.
        resolution: side of the pictures, one of the generator's blocks; None for full size.
        bounded: for half precision, see `PlainSynthesis`.

    Raises:
        ValueError: there is no such block, or latent is z and the generator has labels.
    """
    drawn = generator_part(generator, latent, resolution, bounded)
    side = clip.config.vision_config.image_size
    vocabulary = clip.config.text_config.vocab_size
    parts = [
        drawn,
        Part(
            "clip_image",
            _ImageTower(clip, image_mean, image_std),
            {"images": torch.rand(2, 3, side, side) * 2 - 1},
            "embeddings",
            f"RGB pictures in [-1, 1], {side} px, to embeddings of length 1",
        ),
        Part(
            "clip_text",
            _TextTower(clip),
            {"tokens": torch.randint(vocabulary, (2, context_length))},
            "embeddings",
            f"token ids, padded with the end token to {context_length}, to embeddings of length 1",
        ),
    ]
    if encoder is not None:
        size = encoder.config.input_size
        height, width = (size, size) if isinstance(size, int) else size
        parts.append(
            Part(
                "encoder",
                _Encoding(encoder),
                {"images": torch.rand(2, 3, height, width) * 2 - 1},
                "w_plus",
                f"RGB pictures in [-1, 1], {height} x {width} px, to latents in w_plus",
            )
        )
    return parts


def generator_part(
    generator: StyleGAN2Generator,
    latent: LatentSpace = "w_plus",
    resolution: int | None = None,
    bounded: bool = False,
) -> Part:
    """The generator alone; arguments and errors as in `parts_of`."""
    synthesis = PlainSynthesis(generator, resolution, bounded)
    pictures = f"RGB pictures, nominally in [-1, 1], {synthesis.height} x {synthesis.width} px"
    if latent == "s":
        s = torch.randn(2, generator.num_styles)
        return Part("generator", synthesis, {"s": s}, "images", f"style codes s to {pictures}")
    styles = _Styles(generator)
    if latent == "w_plus":
        ws = torch.randn(2, generator.num_ws, generator.w_dim)
        return Part(
            "generator",
            nn.Sequential(styles, synthesis),
            {"w_plus": ws},
            "images",
            f"w_plus, one w for each layer, to {pictures}",
        )
    if generator.c_dim:
        raise ValueError(
            "Got latent='z' for a generator with labels; its mapping network cannot be exported. "
            "Use latent='w_plus', and map z and labels with generator.mapping."
        )
    inputs = {"z": torch.randn(2, generator.z_dim), "truncation_psi": torch.tensor(0.7)}
    return Part(
        "generator",
        _FromZ(generator.mapping, styles, synthesis),
        inputs,
        "images",
        f"z (standard normal numbers) and truncation_psi to {pictures}",
    )


class _Styles(nn.Module):
    """All affine layers: one w for each layer to style codes."""

    def __init__(self, generator: StyleGAN2Generator) -> None:
        super().__init__()
        self.entries: tuple[StyleLayer, ...] = generator.style_layout
        self.affine = nn.ModuleList(layer.affine for layer in generator.synthesis.layers)
        self.gains = [layer.affine.weight_gain for layer in generator.synthesis.layers]

    def forward(self, ws: Float[Tensor, "n num_ws w_dim"]) -> Float[Tensor, "n num_styles"]:
        codes = []
        for layer, gain, entry in zip(self.affine, self.gains, self.entries, strict=True):
            weight, bias = layer.get_parameter("weight"), layer.get_parameter("bias")
            codes.append(F.linear(ws[:, entry.ws_index], weight * gain, bias))
        return torch.cat(codes, dim=1)


class _FromZ(nn.Module):
    def __init__(self, mapping: MappingNetwork, styles: _Styles, synthesis: PlainSynthesis) -> None:
        super().__init__()
        self.mapping, self.styles, self.synthesis = mapping, styles, synthesis

    def forward(
        self, z: Float[Tensor, "n z_dim"], truncation_psi: Float[Tensor, ""]
    ) -> Float[Tensor, "n c h w"]:
        mapping = self.mapping
        w = mapping.w_avg + (mapping.w(z) - mapping.w_avg) * truncation_psi
        ws = w[:, None].expand(-1, mapping.num_ws, -1)
        images: Tensor = self.synthesis(self.styles(ws))
        return images


class _ImageTower(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, clip: CLIPModel, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        pixels = ((images + 1) / 2 - self.mean) / self.std
        return F.normalize(self.clip.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


class _TextTower(nn.Module):
    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Int[Tensor, "n length"]) -> Float[Tensor, "n d"]:
        return F.normalize(self.clip.get_text_features(input_ids=tokens).pooler_output, dim=-1)


class _Encoding(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n num_ws w_dim"]:
        return self.encoder.encode(images)
