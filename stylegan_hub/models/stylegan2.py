"""The StyleGAN2 generator: mapping network, synthesis network and style space.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020 (StyleGAN2). Names of
modules and tensors are those of NVIDIA's PyTorch releases, so `mapping.fc0.weight` or
`synthesis.b4.conv1.weight` mean the same here and there; outputs were compared with
stylegan2-ada-pytorch. Style space is that of Wu et al., "StyleSpace Analysis", 2021, in
StyleCLIP's convention: the raw outputs of the affine layers, in network order, including toRGB,
whose outputs are taken before the network multiplies them by 1 / sqrt(channels).

    z -> mapping -> ws [n, num_ws, w_dim] -> affine layers -> s [n, num_styles] -> images

Published generators have the skip architecture; the other ones of the paper's figure 7 are
implemented too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, NamedTuple, Self

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import (
    MAX_CLASSES,
    MAX_LAYERS,
    MAX_SIDE,
    MAX_WIDTH,
    check_sizes,
)
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.identity import Identity
from stylegan_hub.ops import (
    bias_act,
    block_input,
    modulated_conv2d,
    setup_filter,
    styled_layer,
    upsample2d,
)
from stylegan_hub.ops.bias_act import ACTIVATIONS, ActivationName

NoiseMode = Literal["const", "random", "none"]
NOISE_MODES: tuple[str, ...] = ("const", "random", "none")
Architecture = Literal["skip", "resnet", "orig"]
ARCHITECTURES: tuple[str, ...] = ("skip", "resnet", "orig")

Channels = Mapping[int, int] | Mapping[str, int] | Sequence[int]
Taps = Sequence[float] | Sequence[Sequence[float]]
RESAMPLE_TAPS = (1, 3, 3, 1)
SKIP_GAIN = math.sqrt(0.5)  # keeps the variance of a sum of two


@dataclass(frozen=True)
class MappingConfig:
    """The configuration of a mapping network.

    Raises:
        ValueError: z_dim and c_dim are both 0, or there are no layers.
    """

    z_dim: int
    c_dim: int
    w_dim: int
    num_layers: int
    activation: ActivationName = "lrelu"
    lr_multiplier: float = 0.01  # StyleGAN, appendix C
    layer_features: int | None = None
    embed_features: int | None = None

    def __post_init__(self) -> None:
        check_sizes(vars(self), {"z_dim": MAX_WIDTH, "c_dim": MAX_CLASSES}, least=0)
        check_sizes(
            vars(self), dict.fromkeys(("w_dim", "layer_features", "embed_features"), MAX_WIDTH)
        )
        check_sizes({"mapping layers": self.num_layers}, {"mapping layers": MAX_LAYERS})
        if self.z_dim == 0 and self.c_dim == 0:
            raise ValueError("Got z_dim=0 and c_dim=0; a mapping network needs one of them.")


@dataclass(frozen=True)
class GeneratorConfig:
    """The configuration of a generator, its `config.json`.

    Raises:
        ValueError: an invalid resolution or crop, channels that do not fit it, a negative number of
            resolutions, or an unknown name.
    """

    z_dim: int = 512
    """Size of z; 0 for a generator that takes only labels."""
    c_dim: int = 0
    """Number of classes; 0 for none."""
    w_dim: int = 512
    """Size of w."""
    img_resolution: int = 1024
    """Width and height of the images, a power of two of at least 4."""
    img_channels: int = 3
    """Channels of the images."""
    num_mapping_layers: int = 8
    """Fully connected layers of the mapping network."""
    channel_base: int = 32768
    """Feature channels are `min(channel_base // resolution, channel_max)`."""
    channel_max: int = 512
    """See channel_base."""
    channels: Channels | None = None
    """Feature channels at 4, 8, 16, ... px, or a mapping from resolution to channels (keys may be
    strings, as in JSON). None: computed from channel_base and channel_max."""
    conv_clamp: float | None = None
    """Limit of the absolute values in the output of each layer. None: no limit."""
    num_fp16_res: int = 0
    """How many of the highest resolutions are computed in half precision, on CUDA."""
    use_noise: bool = True
    """Whether convolutions add noise."""
    architecture: Architecture = "skip"
    """How blocks make an image (StyleGAN2, figure 7). skip: the sum of the images of all blocks;
    resnet: the image of the last block, and every block has a shortcut for features; orig: the
    image of the last block."""
    activation: ActivationName = "lrelu"
    """Activation after the 3x3 convolutions."""
    resample_filter: Taps = RESAMPLE_TAPS
    """Taps of the filter after upsampling convolutions: a row, or rows."""
    rgb_resample_filter: Taps | None = None
    """Taps of the filter that enlarges the image between toRGB layers. None: resample_filter."""
    mapping_activation: ActivationName = "lrelu"
    """Activation after the layers of the mapping network."""
    mapping_lr_multiplier: float = 0.01
    """Learning rate of the mapping network relative to the rest (StyleGAN, appendix C)."""
    layer_features: int | None = None
    """Size of the mapping network's inner layers. None: w_dim."""
    embed_features: int | None = None
    """Size of embedded labels. None: w_dim."""
    img_crop: Sequence[int] | None = None
    """Height and width of the images, which are the middle of the square that the network renders;
    one of them is img_resolution. (384, 512) for the published cars of 512 px, whose training
    pictures had black bars. None: the full square."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), {"img_resolution": MAX_SIDE, "img_channels": MAX_WIDTH})
        widths = list(self.widths.values())
        check_sizes({"channels": widths}, {"channels": MAX_WIDTH})
        _ = self.mapping  # raises for invalid values
        if self.architecture not in ARCHITECTURES:
            raise ValueError(
                f"Unknown architecture {self.architecture!r}; known ones: "
                f"{', '.join(ARCHITECTURES)}."
            )
        if unknown := {self.activation, self.mapping_activation} - ACTIVATIONS.keys():
            raise ValueError(
                f"Unknown activation {unknown.pop()!r}; known ones: {', '.join(ACTIVATIONS)}."
            )
        if self.num_fp16_res < 0:
            raise ValueError(
                f"Got num_fp16_res={self.num_fp16_res}; give how many of the highest resolutions "
                "are computed in half precision, 0 for none."
            )
        size, side = self.img_size, self.img_resolution
        if min(size) < 1 or max(size) != side or sum(size) % 2:
            raise ValueError(
                f"Got img_crop={size}; expected an even height and width inside of the square of "
                f"{side} px that the network renders, one of them equal to its side, such as "
                f"({side * 3 // 4}, {side})."
            )

    @property
    def widths(self) -> dict[int, int]:
        """Feature channels at each resolution."""
        return block_channels(
            self.img_resolution, self.channels, self.channel_base, self.channel_max
        )

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        height, width = self.img_crop or (self.img_resolution, self.img_resolution)
        return height, width

    @property
    def mapping(self) -> MappingConfig:
        """The configuration of the mapping network."""
        return MappingConfig(
            self.z_dim,
            self.c_dim,
            self.w_dim,
            self.num_mapping_layers,
            self.mapping_activation,
            self.mapping_lr_multiplier,
            self.layer_features,
            self.embed_features,
        )


class StyleLayer(NamedTuple):
    """The range of one affine layer's styles in s, and the index of the w that drives it."""

    name: str
    """Name inside the synthesis network: b4.conv1, b4.torgb, b8.conv0, ..."""
    resolution: int
    """Resolution of the block that the layer is in."""
    start: int
    """First index in s."""
    stop: int
    """Index after the last one in s."""
    is_to_rgb: bool
    """Whether the layer is a toRGB layer, whose styles are not demodulated."""
    ws_index: int
    """Index in ws; a toRGB layer shares it with the first convolution of the next block."""


class DrawingState(NamedTuple):
    """The features and the image between two layers."""

    x: Tensor | None = None
    """Features."""
    img: Tensor | None = None
    """The image so far, at the resolution of the last toRGB."""
    around: Tensor | None = None
    """The output of the block's shortcut (resnet architecture), only inside of a block."""


Step = Callable[[DrawingState, Tensor, NoiseMode, torch.Generator | None], DrawingState]
"""A layer as a function: from the state before it and its styles to the state after it."""


class StyleGAN2Generator(SavedWhole, ModelMixin, ConfigMixin):
    """The StyleGAN2 generator; `GeneratorConfig` documents its arguments."""

    @configured_by(GeneratorConfig)
    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.z_dim = config.z_dim
        self.c_dim = config.c_dim
        self.w_dim = config.w_dim
        self.img_resolution = config.img_resolution
        self.img_channels = config.img_channels
        self.synthesis = SynthesisNetwork(config)
        self.mapping = MappingNetwork(config.mapping, self.synthesis.num_ws)

    def crop(self, height: int, width: int) -> None:
        """From now on, and in a saved folder, images are the middle of the network's square.

        Weights, latents and the fingerprint stay the same.

        Raises:
            ValueError: a size that is not inside of the square, or touches no side of it.
        """
        is_square = height == width == self.img_resolution
        config = self._reconfigure(img_crop=None if is_square else [height, width])
        self.synthesis.img_size = config.img_size

    def use_half_precision(self, num_fp16_res: int) -> None:
        """Compute so many of the highest resolutions in half precision on CUDA, also when reloaded.

        The published networks were trained with 4 and a conv_clamp of 256. Without a clamp,
        features beyond 65504 become infinite. Weights and fingerprint stay the same.

        Raises:
            ValueError: a negative number.
        """
        self._reconfigure(num_fp16_res=num_fp16_res)
        self.synthesis.use_half_precision(num_fp16_res)

    def _reconfigure(self, **changes: Any) -> GeneratorConfig:
        """Check changed fields together with the others, and keep them in the saved config."""
        present = {field.name: self.config[field.name] for field in fields(GeneratorConfig)}
        config = GeneratorConfig(**(present | changes))
        self.register_to_config(**asdict(config))
        return config

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.synthesis.img_size

    @property
    def num_ws(self) -> int:
        """Number of ws that the synthesis network takes: `2 * log2(img_resolution) - 2`."""
        return self.synthesis.num_ws

    @property
    def num_styles(self) -> int:
        """Size of style space."""
        return self.synthesis.num_styles

    @property
    def style_layout(self) -> tuple[StyleLayer, ...]:
        """The range of each layer in style space, in network order."""
        return self.synthesis.style_layout

    def forward(
        self,
        z: Float[Tensor, "n z_dim"] | None,
        c: Float[Tensor, "n c_dim"] | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode = "const",
    ) -> Float[Tensor, "n c h w"]:
        """Images of z: mapping, then synthesis."""
        ws = self.mapping(z, c, truncation_psi, truncation_cutoff)
        return self.synthesis(ws, noise_mode)

    def styles(self, ws: Float[Tensor, "n num_ws w_dim"]) -> Float[Tensor, "n num_styles"]:
        """The style-space codes of ws: the concatenated raw outputs of all affine layers."""
        return self.synthesis.styles(ws)

    def synthesis_from_styles(
        self,
        s: Float[Tensor, "n num_styles"],
        noise_mode: NoiseMode = "const",
        resolution: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Images of style-space codes; otherwise like `synthesis`."""
        return self.synthesis.render(s, noise_mode, resolution, generator)

    def synthesis_from_block(
        self,
        s: Float[Tensor, "n num_styles"],
        resolution: int,
        noise_mode: Literal["const", "none"] = "const",
    ) -> Callable[[Float[Tensor, "m num_styles"]], Float[Tensor, "m c h w"]]:
        """A function that renders images that differ from those of `s` only from a block on.

        The blocks before that at `resolution` are computed once, in this call. The returned
        function takes style codes of the same n images, or k copies of this batch one after the
        other, `[k * n, num_styles]`; their codes for the earlier blocks are ignored. In this way,
        late styles can be changed in many ways at a lower cost, and images are the same as with all
        blocks.

        Raises:
            ValueError: wrong shape or resolution.
        """
        network = self.synthesis
        first = network.layers_at(resolution)[0]
        if s.ndim != 2 or s.shape[1] != self.num_styles:
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={self.num_styles}]. Make them with generator.styles(ws)."
            )
        before, after = network.steps[:first], network.steps[first:]
        known = DrawingState()
        for step, style in zip(before, network.split(s)[:first], strict=True):
            known = step(known, style, noise_mode, None)

        def draw(codes: Tensor) -> Tensor:
            copies, rest_of_batch = divmod(len(codes), len(s))
            if rest_of_batch or codes.shape[1:] != s.shape[1:]:
                raise ValueError(
                    f"Got style codes of shape {tuple(codes.shape)}; expected "
                    f"[k * {len(s)}, num_styles={self.num_styles}]. Give whole batches of the same "
                    "images."
                )
            state = DrawingState(
                *(part if part is None else part.repeat(copies, 1, 1, 1) for part in known)
            )
            for step, style in zip(after, network.split(codes)[first:], strict=True):
                state = step(state, style, noise_mode, None)
            return network.finished(state)

        return draw

    @torch.no_grad()
    def update_w_avg(
        self,
        z: Float[Tensor, "n z_dim"] | None,
        c: Float[Tensor, "n c_dim"] | None = None,
        beta: float = 0.998,
    ) -> None:
        """Move `mapping.w_avg`, in place, towards the mean w of this batch.

        Args:
            z: A batch.
            c: Its labels, if the generator has labels.
            beta: Share of the old average that stays; 0 replaces it.
        """
        mean = self.mapping.w(z, c).mean(0)
        self.mapping.w_avg.copy_(mean.lerp(self.mapping.w_avg, beta))

    def fingerprint(self) -> str:
        """16 hexadecimal digits that distinguish this generator from any other one.

        The hash covers the shape of the network and all of its tensors as they were loaded, as
        little-endian float32 after rounding through float16. A copy stored or loaded as float16 has
        the same fingerprint; one stored as bfloat16 does not. Device, precision and casts do not
        change it; writing to the weights does.
        """
        return _IDENTITY.of(self)

    @classmethod
    def from_pretrained(cls, *args: Any, dtype: torch.dtype | None = None, **options: Any) -> Self:
        """Load as in diffusers; weights are cast after loading, so that the fingerprint stays."""
        generator = super().from_pretrained(*args, **options)
        return generator if dtype is None else generator.to(dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # PyTorch makes all casts and moves through this method; moves do not change the weights.
        weight = next(self.parameters())
        if weight.is_meta or fn(weight.new_empty(0)).dtype is weight.dtype:
            return super()._apply(fn, recurse)
        with _IDENTITY.kept(self):
            return super()._apply(fn, recurse)


def _computed_fingerprint(generator: nn.Module) -> str:
    assert isinstance(generator, StyleGAN2Generator)
    shape = {
        "z_dim": generator.z_dim,
        "c_dim": generator.c_dim,
        "w_dim": generator.w_dim,
        "img_channels": generator.img_channels,
        "conv_clamp": generator.synthesis.conv_clamp,
    }
    # Options that the tensors do not show. Default values are left out, as in older fingerprints.
    usual = {
        "activation": "lrelu",
        "mapping_activation": "lrelu",
        "mapping_lr_multiplier": 0.01,
    }
    shape |= {key: generator.config[key] for key in usual if generator.config[key] != usual[key]}
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for name, tensor in sorted(generator.state_dict().items()):
        values = tensor.detach().cpu().half().float().contiguous().numpy().astype("<f4")
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


_IDENTITY = Identity(_computed_fingerprint)


class FullyConnectedLayer(nn.Module):
    """A linear layer with equalized learning rate (ProGAN, section 4.1) and an activation."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activation: ActivationName = "linear",
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.activation: ActivationName = activation
        self.lr_multiplier = lr_multiplier
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))

    def forward(self, x: Float[Tensor, "n in_features"]) -> Float[Tensor, "n out_features"]:
        """`activation(x @ weight.T * weight_gain + bias * lr_multiplier)`."""
        bias = self.bias if self.lr_multiplier == 1 else self.bias * self.lr_multiplier
        # These layers are small and w is sensitive, so autocast does not lower their precision.
        with torch.autocast(x.device.type, enabled=False):
            x = torch.addmm(bias, x.to(self.weight.dtype) * self.weight_gain, self.weight.T)
        return x if self.activation == "linear" else bias_act(x, act=self.activation)


class MappingLayers(nn.Module):
    """From z and labels to w: normalization, then fully connected layers."""

    def __init__(self, config: MappingConfig) -> None:
        super().__init__()
        self.z_dim = config.z_dim
        self.c_dim = config.c_dim
        self.num_layers = config.num_layers
        features = config.z_dim
        if config.c_dim > 0:
            self.embed = FullyConnectedLayer(config.c_dim, config.embed_features or config.w_dim)
            features += config.embed_features or config.w_dim
        inner = [config.layer_features or config.w_dim] * (config.num_layers - 1)
        for index, out in enumerate([*inner, config.w_dim]):
            layer = FullyConnectedLayer(
                features, out, activation=config.activation, lr_multiplier=config.lr_multiplier
            )
            self.add_module(f"fc{index}", layer)
            features = out

    @property
    def layers(self) -> list[nn.Module]:
        """The fully connected layers, in order."""
        return [layer for name, layer in self.named_children() if name != "embed"]

    def w(
        self, z: Float[Tensor, "n z_dim"] | None, c: Float[Tensor, "n c_dim"] | None = None
    ) -> Float[Tensor, "n w_dim"]:
        """One w for each z and label, without truncation.

        Raises:
            ValueError: z or c has the wrong shape, or is missing.
        """
        dtype = self.get_parameter("fc0.weight").dtype
        inputs = []
        if self.z_dim > 0:
            z = _checked("z", z, self.z_dim)
            inputs.append(_normalize(z.to(dtype)))
        if self.c_dim > 0:
            c = _checked("c", c, self.c_dim)
            inputs.append(_normalize(self.embed(c.to(dtype))))
        elif c is not None and c.shape[-1] > 0:
            raise ValueError(
                f"Got labels c of shape {tuple(c.shape)}; this network takes no labels: pass None."
            )
        x = torch.cat(inputs, dim=1)
        for layer in self.layers:
            x = layer(x)
        return x


class MappingNetwork(MappingLayers):
    """From z and labels to ws, with truncation towards the average w."""

    w_avg: Tensor

    def __init__(self, config: MappingConfig, num_ws: int) -> None:
        super().__init__(config)
        self.num_ws = num_ws
        self.register_buffer("w_avg", torch.zeros(config.w_dim))

    def forward(
        self,
        z: Float[Tensor, "n z_dim"] | None,
        c: Float[Tensor, "n c_dim"] | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "n num_ws w_dim"]:
        """ws of z.

        Args:
            z: Standard normal numbers; only their direction matters.
            c: One-hot labels, if the generator has labels.
            truncation_psi: 1 leaves w unchanged, 0 gives the average w, negative numbers mirror w.
            truncation_cutoff: How many of the first ws are truncated. None: all.

        Raises:
            ValueError: z or c has the wrong shape, or is missing.
        """
        w = self.w(z, c)
        ws = w[:, None].repeat(1, self.num_ws, 1)
        if truncation_psi == 1:
            return ws
        cutoff = self.num_ws if truncation_cutoff is None else truncation_cutoff
        truncated = self.w_avg.lerp(ws[:, :cutoff], truncation_psi)
        return torch.cat([truncated, ws[:, cutoff:]], dim=1)


class SynthesisNetwork(nn.Module):
    """From ws, or style-space codes, to images."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.w_dim = config.w_dim
        self.resolutions = tuple(config.widths)
        self.img_size = config.img_size
        self.conv_clamp = config.conv_clamp
        self.architecture = config.architecture
        layout: list[StyleLayer] = []
        ws_index = start = 0
        for resolution in self.resolutions:
            block = SynthesisBlock(config, resolution)
            self.add_module(f"b{resolution}", block)
            for name, layer in block.layers.items():
                stop = start + len(layer.affine.weight)
                is_to_rgb = isinstance(layer, ToRGBLayer)
                name = f"b{resolution}.{name}"
                layout.append(StyleLayer(name, resolution, start, stop, is_to_rgb, ws_index))
                start = stop
                ws_index += not is_to_rgb  # toRGB shares its w with the next block
        self.style_layout = tuple(layout)
        self.num_ws = ws_index + 1  # the last toRGB has its own w
        self.num_styles = start
        self.use_half_precision(config.num_fp16_res)

    @property
    def blocks(self) -> list[SynthesisBlock]:
        """One for each resolution."""
        return [block for block in self.children() if isinstance(block, SynthesisBlock)]

    @property
    def layers(self) -> list[SynthesisLayer | ToRGBLayer]:
        """The layers in `style_layout`."""
        return [layer for block in self.blocks for layer in block.layers.values()]

    @property
    def steps(self) -> list[Step]:
        """The layers in `style_layout` as functions, to be called one after the other."""
        return [step for block in self.blocks for step in block.steps]

    def use_half_precision(self, num_fp16_res: int) -> None:
        """Compute this number of the highest resolutions, except the lowest one, in half precision.

        This affects only CUDA.
        """
        for rank, block in enumerate(reversed(self.blocks)):
            block.use_fp16 = rank < num_fp16_res and not block.is_first

    def affine(self, name: str) -> FullyConnectedLayer:
        """The affine layer, from w to styles, of the layer with this name in `style_layout`."""
        names = [entry.name for entry in self.style_layout]
        return self.layers[names.index(name)].affine

    def layers_at(self, resolution: int | None) -> range:
        """Indices in `style_layout` of the layers at a resolution. None: the highest.

        Raises:
            ValueError: no block has this resolution.
        """
        resolution = self.resolutions[-1] if resolution is None else resolution
        if resolution not in self.resolutions:
            raise ValueError(
                f"Got resolution={resolution}; expected one of "
                f"{', '.join(map(str, self.resolutions))}."
            )
        places = [i for i, entry in enumerate(self.style_layout) if entry.resolution == resolution]
        return range(places[0], places[-1] + 1)

    def forward(
        self,
        ws: Float[Tensor, "n num_ws w_dim"],
        noise_mode: NoiseMode = "const",
        resolution: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Images of ws, nominally in [-1, 1] but not clamped.

        Args:
            ws: One w for each layer.
            noise_mode: const: the noise stored with the network; random: new noise for each
                image; none: no noise.
            resolution: Stop at this resolution and return the sum of the images of the blocks up to
                it (skip architecture only). None: the full image.
            generator: Source of random noise. None: torch's global generator.

        Raises:
            ValueError: wrong shape, noise mode or resolution.
        """
        return self.render(self.styles(ws, resolution), noise_mode, resolution, generator)

    def styles(
        self, ws: Float[Tensor, "n num_ws w_dim"], resolution: int | None = None
    ) -> Float[Tensor, "n num_styles"]:
        """The style-space codes of ws, up to the last layer at `resolution`.

        Raises:
            ValueError: ws has the wrong shape, or the network does not have this resolution.
        """
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"Got ws of shape {tuple(ws.shape)}; expected [n, num_ws={self.num_ws}, "
                f"w_dim={self.w_dim}]. generator.mapping(z) returns that; one w for all layers is "
                f"w[:, None].repeat(1, {self.num_ws}, 1)."
            )
        stop = self.layers_at(resolution).stop
        by_index = ws.to(self.get_parameter("b4.const").dtype).unbind(dim=1)
        of_layers = zip(self.layers[:stop], self.style_layout[:stop], strict=True)
        return torch.cat([layer.affine(by_index[entry.ws_index]) for layer, entry in of_layers], 1)

    def split(self, s: Float[Tensor, "n num_styles"]) -> list[Tensor]:
        """The styles of each layer in `style_layout`, in the type of the weights."""
        dtype = self.get_parameter("b4.const").dtype
        return [s[:, entry.start : entry.stop].to(dtype) for entry in self.style_layout]

    def render(
        self,
        s: Float[Tensor, "n num_styles"],
        noise_mode: NoiseMode = "const",
        resolution: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Images of style-space codes; otherwise like `forward`.

        With `resolution`, codes up to the last layer of that resolution are enough.
        """
        stop = self.layers_at(resolution).stop
        if self.architecture != "skip" and stop < len(self.style_layout):
            raise ValueError(
                f"Got resolution={resolution}; a generator of the {self.architecture} "
                "architecture renders only full images. Pass None."
            )
        if s.ndim != 2 or s.shape[1] not in (self.style_layout[stop - 1].stop, self.num_styles):
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={self.num_styles}]. Make them with generator.styles(ws)."
            )
        if noise_mode not in NOISE_MODES:
            raise ValueError(
                f"Unknown noise_mode {noise_mode!r}; known ones: {', '.join(NOISE_MODES)}."
            )
        state = DrawingState()
        for step, style in zip(self.steps[:stop], self.split(s)[:stop], strict=True):
            state = step(state, style, noise_mode, generator)
        return self.finished(state)

    def finished(self, state: DrawingState) -> Float[Tensor, "n c h w"]:
        """The image of the state after the last layer, cropped."""
        assert state.img is not None
        return self.cropped(state.img).contiguous()

    def cropped(self, img: Float[Tensor, "n c size size"]) -> Float[Tensor, "n c h w"]:
        """The middle of a square of any of the resolutions that remains, see `img_size`."""
        side = img.shape[-1]
        height, width = (max(1, round(s * side / self.resolutions[-1])) for s in self.img_size)
        top, left = (side - height) // 2, (side - width) // 2
        return img[:, :, top : top + height, left : left + width]


class SynthesisBlock(nn.Module):
    """All layers at one resolution: conv0 doubles the size, conv1 keeps it, torgb makes colors."""

    resample_filter: Tensor

    def __init__(self, config: GeneratorConfig, resolution: int) -> None:
        super().__init__()
        self.use_fp16 = False
        self.is_first = resolution == min(config.widths)
        self.has_to_rgb = config.architecture == "skip" or resolution == config.img_resolution
        self.has_skip = config.architecture == "resnet" and not self.is_first
        out_channels = config.widths[resolution]
        taps = config.rgb_resample_filter
        taps = config.resample_filter if taps is None else taps
        self.register_buffer("resample_filter", setup_filter(taps))
        if self.is_first:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            in_channels = config.widths[resolution // 2]
            self.conv0 = SynthesisLayer(config, in_channels, out_channels, resolution, up=2)
        self.conv1 = SynthesisLayer(config, out_channels, out_channels, resolution)
        if self.has_to_rgb:
            self.torgb = ToRGBLayer(config, out_channels)
        if self.has_skip:
            self.skip = SkipLayer(config, in_channels, out_channels)

    @property
    def layers(self) -> dict[str, SynthesisLayer | ToRGBLayer]:
        """The layers that have styles, by name, in order."""
        children = self.named_children()
        return {n: x for n, x in children if isinstance(x, SynthesisLayer | ToRGBLayer)}

    @property
    def steps(self) -> list[Step]:
        """These layers as functions."""
        first = [] if self.is_first else [self._conv0]
        return [*first, self._conv1, *([self._torgb] if self.has_to_rgb else [])]

    def _conv0(self, state: DrawingState, style: Tensor, *noise: Any) -> DrawingState:
        assert state.x is not None
        x = block_input(state.x, self.conv1.weight.dtype, self.use_fp16)
        around = self.skip(x) if self.has_skip else None
        return DrawingState(self.conv0(x, style, *noise), state.img, around)

    def _conv1(self, state: DrawingState, style: Tensor, *noise: Any) -> DrawingState:
        x, img, around = state
        if self.is_first:
            x = self.const.expand(style.shape[0], -1, -1, -1)
            x = block_input(x, self.conv1.weight.dtype, self.use_fp16)
        if around is None:
            return DrawingState(self.conv1(x, style, *noise), img)
        return DrawingState(around + self.conv1(x, style, *noise, gain=SKIP_GAIN), img)

    def _torgb(self, state: DrawingState, style: Tensor, *_: object) -> DrawingState:
        rgb = self.torgb(state.x, style)
        rgb = rgb.to(torch.promote_types(rgb.dtype, torch.float32))
        if state.img is not None:
            rgb = upsample2d(state.img, self.resample_filter) + rgb
        return DrawingState(state.x, rgb)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and activation."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        config: GeneratorConfig,
        in_channels: int,
        out_channels: int,
        resolution: int,
        up: int = 1,
    ) -> None:
        super().__init__()
        self.activation = config.activation
        self.up = up
        self.resolution = resolution
        self.conv_clamp = config.conv_clamp
        self.use_noise = config.use_noise
        self.affine = FullyConnectedLayer(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        # NVIDIA's layers have a filter even if they do not resample; it is always the same.
        taps = config.resample_filter if up > 1 else RESAMPLE_TAPS
        self.register_buffer("resample_filter", setup_filter(taps))
        if self.use_noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(
        self,
        x: Float[Tensor, "n c_in h w"],
        styles: Float[Tensor, "n c_in"],
        noise_mode: NoiseMode,
        generator: torch.Generator | None = None,
        gain: float = 1.0,
    ) -> Float[Tensor, "n c_out h2 w2"]:
        """Features for the next layer, times gain."""
        has_noise = self.use_noise and noise_mode != "none"
        return styled_layer(
            x,
            self.weight,
            styles,
            self.bias,
            noise=self._noise(x.shape[0], noise_mode, generator) if has_noise else None,
            noise_strength=self.noise_strength if has_noise else 0.0,
            up=self.up,
            resample_filter=self.resample_filter,
            act=self.activation,
            gain=gain,
            clamp=None if self.conv_clamp is None else self.conv_clamp * gain,
        )

    def _noise(self, n: int, noise_mode: NoiseMode, generator: torch.Generator | None) -> Tensor:
        if noise_mode == "const":
            return self.noise_const
        return torch.randn(
            [n, 1, self.resolution, self.resolution],
            generator=generator,
            device=self.weight.device if generator is None else generator.device,
        ).to(self.weight)


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution to colors, without demodulation."""

    def __init__(self, config: GeneratorConfig, in_channels: int) -> None:
        super().__init__()
        self.conv_clamp = config.conv_clamp
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.affine = FullyConnectedLayer(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))

    def forward(
        self, x: Float[Tensor, "n c_in h w"], styles: Float[Tensor, "n c_in"]
    ) -> Float[Tensor, "n c h w"]:
        """The image that this block adds to the sum."""
        x = modulated_conv2d(x, self.weight, styles, demodulate=False, gain=self.weight_gain)
        return bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


class SkipLayer(nn.Module):
    """The shortcut of a block of the resnet architecture: 1x1 convolution, then upsampling."""

    resample_filter: Tensor

    def __init__(self, config: GeneratorConfig, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight_gain = SKIP_GAIN / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.register_buffer("resample_filter", setup_filter(config.resample_filter))

    def forward(self, x: Float[Tensor, "n c_in h w"]) -> Float[Tensor, "n c_out h2 w2"]:
        """Features of the next block's size, times sqrt(0.5)."""
        x = F.conv2d(x, (self.weight * self.weight_gain).to(x.dtype))
        return upsample2d(x, self.resample_filter)


def block_channels(
    img_resolution: int,
    channels: Channels | None = None,
    channel_base: int = 32768,
    channel_max: int = 512,
) -> dict[int, int]:
    """Feature channels at each resolution, 4 to img_resolution.

    Raises:
        ValueError: the resolution is not a power of two of at least 4, or channels do not fit it.
    """
    if img_resolution < 4 or img_resolution & (img_resolution - 1):
        raise ValueError(
            f"Got img_resolution={img_resolution}; expected a power of two of at least 4."
        )
    resolutions = [2**i for i in range(2, int(math.log2(img_resolution)) + 1)]
    if channels is None:
        return {size: min(channel_base // size, channel_max) for size in resolutions}
    if isinstance(channels, Mapping):
        given = sorted((int(size), width) for size, width in channels.items())
    else:
        given = [(4 * 2**i, width) for i, width in enumerate(channels)]
    widths = dict(given)
    if list(widths) != resolutions or min(widths.values()) < 1:
        raise ValueError(
            f"Got channels={channels!r}; expected a positive number for each of the resolutions "
            f"{', '.join(map(str, resolutions))}."
        )
    return widths


def _normalize(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def _checked(name: str, x: Tensor | None, size: int) -> Tensor:
    if x is None or x.ndim != 2 or x.shape[1] != size:
        got = "None" if x is None else f"shape {tuple(x.shape)}"
        what = "Draw it with torch.randn" if name == "z" else "Give one-hot labels"
        raise ValueError(f"Got {name} = {got}; expected [n, {name}_dim={size}]. {what}.")
    return x
