"""The StyleGAN2 generator: mapping network, synthesis network and style space.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020 (StyleGAN2). Names of
modules and tensors are those of NVIDIA's PyTorch releases, so `mapping.fc0.weight` or
`synthesis.b4.conv1.weight` mean the same here and there; outputs were compared with
stylegan2-ada-pytorch. Style space is that of Wu et al., "StyleSpace Analysis", 2021, in
StyleCLIP's convention: the raw outputs of the affine layers, in network order, toRGB included and
without the factor 1 / sqrt(channels) that the network multiplies onto those.

    z -> mapping -> ws [n, num_ws, w_dim] -> affine layers -> s [n, num_styles] -> images

Published generators have the skip architecture; the others of the paper's figure 7 are here too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.ops import bias_act, modulated_conv2d, setup_filter, upsample2d
from stylegan_hub.ops.bias_act import ACTIVATIONS, ActivationName
from stylegan_hub.ops.modulated_conv2d import (
    bounded_styles,
    bounded_weight,
    demodulation,
    kernel_energy,
)
from stylegan_hub.ops.styled_conv import serves, styled_conv

NoiseMode = Literal["const", "random", "none"]
NOISE_MODES: tuple[str, ...] = ("const", "random", "none")
Architecture = Literal["skip", "resnet", "orig"]
ARCHITECTURES: tuple[str, ...] = ("skip", "resnet", "orig")

Channels = Mapping[int, int] | Mapping[str, int] | Sequence[int]
RESAMPLE_TAPS = (1, 3, 3, 1)
SKIP_GAIN = math.sqrt(0.5)  # keeps the variance of a sum of two


class StyleLayer(NamedTuple):
    """Where one affine layer's styles lie in s, and which of the ws drives it."""

    name: str
    """Name inside the synthesis network: b4.conv1, b4.torgb, b8.conv0, ..."""
    resolution: int
    """Resolution of the block that the layer is in."""
    start: int
    """First index in s."""
    stop: int
    """Index after the last one in s."""
    is_to_rgb: bool
    """Whether the layer makes colors; its styles are not demodulated."""
    ws_index: int
    """Index in ws; a toRGB layer shares it with the first convolution of the next block."""


class DrawingState(NamedTuple):
    """What is drawn between two layers."""

    x: Tensor | None = None
    """Features."""
    img: Tensor | None = None
    """The image so far, at the resolution of the last toRGB."""
    around: Tensor | None = None
    """What goes around the block (resnet architecture), inside of one."""


class StyleGAN2Generator(SavedWhole, ModelMixin, ConfigMixin):
    """The StyleGAN2 generator.

    Args:
        z_dim: Size of z; 0 for a generator that takes labels only.
        c_dim: Number of classes; 0 for none.
        w_dim: Size of w.
        img_resolution: Width and height of the images, a power of two of at least 4.
        img_channels: Channels of the images.
        num_mapping_layers: Fully connected layers of the mapping network.
        channel_base: Feature channels are `min(channel_base // resolution, channel_max)`.
        channel_max: See channel_base.
        channels: Feature channels at 4, 8, 16, ... px, or a mapping from resolution to channels
            (keys may be strings, as in JSON). None: by channel_base and channel_max.
        conv_clamp: Limit of the absolute value of what each layer returns. None: no limit.
        num_fp16_res: So many of the highest resolutions are computed in half precision, on CUDA.
        use_noise: Whether convolutions add noise.
        architecture: How blocks become an image (StyleGAN2, figure 7). skip: the sum of what all
            blocks draw; resnet: the last block draws, and features go around every block; orig:
            the last block draws.
        activation: After the 3x3 convolutions.
        resample_filter: Taps of the filter that upsampling uses, a row.
        mapping_activation: After the layers of the mapping network.
        mapping_lr_multiplier: Its learning rate relative to the rest (StyleGAN, appendix C).
        layer_features: Size of the mapping network's inner layers. None: w_dim.
        embed_features: Size of embedded labels. None: w_dim.
        img_crop: Height and width of the images in the middle of the square that the network
            draws, one of them img_resolution: (384, 512) for the published cars of 512 px, whose
            training pictures had black bars. None: the square.

    Raises:
        ValueError: an impossible resolution or crop, channels that do not fit it, or an unknown
            name.
    """

    @register_to_config
    def __init__(
        self,
        z_dim: int = 512,
        c_dim: int = 0,
        w_dim: int = 512,
        img_resolution: int = 1024,
        img_channels: int = 3,
        num_mapping_layers: int = 8,
        channel_base: int = 32768,
        channel_max: int = 512,
        channels: Channels | None = None,
        conv_clamp: float | None = None,
        num_fp16_res: int = 0,
        use_noise: bool = True,
        architecture: Architecture = "skip",
        activation: ActivationName = "lrelu",
        resample_filter: Sequence[float] = RESAMPLE_TAPS,
        mapping_activation: ActivationName = "lrelu",
        mapping_lr_multiplier: float = 0.01,
        layer_features: int | None = None,
        embed_features: int | None = None,
        img_crop: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        widths = block_channels(img_resolution, channels, channel_base, channel_max)
        if architecture not in ARCHITECTURES:
            raise ValueError(
                f"Unknown architecture {architecture!r}; known ones: {', '.join(ARCHITECTURES)}."
            )
        if unknown := {activation, mapping_activation} - ACTIVATIONS.keys():
            raise ValueError(
                f"Unknown activation {unknown.pop()!r}; known ones: {', '.join(ACTIVATIONS)}."
            )
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.w_dim = w_dim
        self.img_resolution = img_resolution
        self.img_channels = img_channels
        self.synthesis = SynthesisNetwork(
            w_dim,
            widths,
            img_channels,
            conv_clamp,
            num_fp16_res,
            use_noise,
            architecture,
            activation,
            resample_filter,
        )
        self.mapping = MappingNetwork(
            z_dim,
            c_dim,
            w_dim,
            self.synthesis.num_ws,
            num_mapping_layers,
            activation=mapping_activation,
            lr_multiplier=mapping_lr_multiplier,
            layer_features=layer_features,
            embed_features=embed_features,
        )
        if img_crop is not None:
            self.crop(*img_crop)

    def crop(self, height: int, width: int) -> None:
        """From now on, and in a saved folder, images are the middle of what the network draws.

        Weights, latents and the fingerprint stay what they were.

        Raises:
            ValueError: a size that does not lie inside of the square, or touches no side of it.
        """
        sizes = (height, width)
        if min(sizes) < 1 or max(sizes) != self.img_resolution or sum(sizes) % 2:
            raise ValueError(
                f"Got img_crop={sizes}; expected an even height and width inside of the square of "
                f"{self.img_resolution} px that the network draws, one of them its side: "
                f"({self.img_resolution * 3 // 4}, {self.img_resolution})."
            )
        self.synthesis.img_size = sizes
        self.register_to_config(img_crop=None if height == width else list(sizes))

    def use_half_precision(self, num_fp16_res: int) -> None:
        """From now on, and in a saved folder, this is num_fp16_res; see the class.

        The published networks were trained with 4 and a conv_clamp of 256. Without a clamp,
        features beyond 65504 become infinite. Weights and fingerprint stay what they were.

        Raises:
            ValueError: a negative number.
        """
        if num_fp16_res < 0:
            raise ValueError(
                f"Got num_fp16_res={num_fp16_res}; give how many of the highest resolutions are "
                "computed in half precision, 0 for none."
            )
        self.synthesis.use_half_precision(num_fp16_res)
        self.register_to_config(num_fp16_res=num_fp16_res)

    @property
    def img_size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return self.synthesis.img_size

    @property
    def num_ws(self) -> int:
        """How many ws the synthesis network takes: `2 * log2(img_resolution) - 2`."""
        return self.synthesis.num_ws

    @property
    def num_styles(self) -> int:
        """Size of style space."""
        return self.synthesis.num_styles

    @property
    def style_layout(self) -> tuple[StyleLayer, ...]:
        """Where each layer lies in style space, in network order."""
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
        """The style-space codes of ws: raw outputs of all affine layers, side by side."""
        return self.synthesis.styles(ws)

    def synthesis_from_styles(
        self,
        s: Float[Tensor, "n num_styles"],
        noise_mode: NoiseMode = "const",
        resolution: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Images of style-space codes; else as `synthesis`."""
        return self.synthesis.render(s, noise_mode, resolution, generator)

    def synthesis_from_block(
        self,
        s: Float[Tensor, "n num_styles"],
        resolution: int,
        noise_mode: Literal["const", "none"] = "const",
    ) -> Callable[[Float[Tensor, "m num_styles"]], Float[Tensor, "m c h w"]]:
        """What draws images that differ from those of `s` from the block at `resolution` on.

        The blocks before it are computed here, once. The function that is returned takes style
        codes of the same n images, or of k times all of them, one batch after the other, `[k * n,
        num_styles]`; their codes for the blocks before are not looked at. So a late style can be
        changed in many ways for less than whole images, which come out the same.

        Raises:
            ValueError: wrong shape or resolution.
        """
        network = self.synthesis
        network._layout(resolution)  # raises for a resolution that it does not draw at
        if s.ndim != 2 or s.shape[1] != self.num_styles:
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={self.num_styles}]. Make them with generator.styles(ws)."
            )

        before = [layer for layer in network.style_layout if layer.resolution < resolution]
        rest = network.style_layout[len(before) :]
        known = DrawingState()
        for layer in before:
            known = network.step(layer, known, s, noise_mode)

        def draw(codes: Tensor) -> Tensor:
            copies, rest_of_batch = divmod(len(codes), len(s))
            if rest_of_batch or codes.shape[1:] != s.shape[1:]:
                raise ValueError(
                    f"Got style codes of shape {tuple(codes.shape)}; expected "
                    f"[k * {len(s)}, num_styles={self.num_styles}], whole batches of the images."
                )
            state = DrawingState(
                *(part if part is None else part.repeat(copies, 1, 1, 1) for part in known)
            )
            for layer in rest:
                state = network.step(layer, state, codes, noise_mode)
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
        """16 hexadecimal digits that tell this generator from any other one.

        The hash covers the shape of the network and all its tensors, as little-endian float32
        after rounding through float16: a copy stored or loaded as float16 has the same
        fingerprint, one stored as bfloat16 has not. Device and precision of computing
        do not matter.
        """
        shape = {
            "z_dim": self.z_dim,
            "c_dim": self.c_dim,
            "w_dim": self.w_dim,
            "img_channels": self.img_channels,
            "conv_clamp": self.synthesis.conv_clamp,
        }
        # What the tensors do not show; not there where it is as usual, as in older fingerprints.
        usual = {
            "activation": "lrelu",
            "mapping_activation": "lrelu",
            "mapping_lr_multiplier": 0.01,
        }
        shape |= {key: self.config[key] for key in usual if self.config[key] != usual[key]}
        digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            values = tensor.detach().cpu().half().float().contiguous().numpy().astype("<f4")
            digest.update(f"{name}{list(tensor.shape)}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()[:16]


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
        # Small, and w is sensitive: computed in the precision of the weights under autocast too.
        with torch.autocast(x.device.type, enabled=False):
            x = torch.addmm(bias, x.to(self.weight.dtype) * self.weight_gain, self.weight.T)
        return x if self.activation == "linear" else bias_act(x, act=self.activation)


class MappingLayers(nn.Module):
    """z and labels to w: normalization, then fully connected layers."""

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        num_layers: int,
        *,
        activation: ActivationName = "lrelu",
        lr_multiplier: float = 0.01,  # StyleGAN, appendix C
        layer_features: int | None = None,
        embed_features: int | None = None,
    ) -> None:
        super().__init__()
        if z_dim == 0 and c_dim == 0:
            raise ValueError("Got z_dim=0 and c_dim=0; a mapping network needs one of them.")
        if num_layers < 1:
            raise ValueError(f"Got {num_layers} mapping layers; at least 1 is needed.")
        self.z_dim = z_dim
        self.c_dim = c_dim
        self.num_layers = num_layers
        features = z_dim
        if c_dim > 0:
            self.embed = FullyConnectedLayer(c_dim, embed_features or w_dim)
            features += embed_features or w_dim
        for index in range(num_layers):
            out = w_dim if index == num_layers - 1 else layer_features or w_dim
            layer = FullyConnectedLayer(
                features, out, activation=activation, lr_multiplier=lr_multiplier
            )
            self.add_module(f"fc{index}", layer)
            features = out

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
        for index in range(self.num_layers):
            x = self.get_submodule(f"fc{index}")(x)
        return x


class MappingNetwork(MappingLayers):
    """z and labels to ws, with truncation towards the average w."""

    w_avg: Tensor

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, num_ws: int, num_layers: int, **layers: Any
    ) -> None:
        super().__init__(z_dim, c_dim, w_dim, num_layers, **layers)
        self.num_ws = num_ws
        self.register_buffer("w_avg", torch.zeros(w_dim))

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
            truncation_psi: 1 leaves w as it is, 0 gives the average w, negative numbers mirror.
            truncation_cutoff: Only so many of the first ws are truncated. None: all.

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
    """ws, or style-space codes, to images."""

    def __init__(
        self,
        w_dim: int,
        channels: Mapping[int, int],
        img_channels: int,
        conv_clamp: float | None,
        num_fp16_res: int,
        use_noise: bool,
        architecture: Architecture,
        activation: ActivationName,
        resample_filter: Sequence[float],
    ) -> None:
        super().__init__()
        self.w_dim = w_dim
        self.resolutions = tuple(channels)
        self.img_size = (self.resolutions[-1], self.resolutions[-1])
        self.conv_clamp = conv_clamp
        self.architecture = architecture
        layout: list[StyleLayer] = []
        in_channels = 0
        ws_index = 0
        start = 0
        for resolution, out_channels in channels.items():
            block = SynthesisBlock(
                in_channels,
                out_channels,
                w_dim,
                resolution,
                img_channels,
                conv_clamp,
                use_noise=use_noise,
                has_to_rgb=architecture == "skip" or resolution == self.resolutions[-1],
                has_skip=architecture == "resnet" and in_channels > 0,
                activation=activation,
                resample_filter=resample_filter,
            )
            self.add_module(f"b{resolution}", block)
            for name, layer in block.layers():
                stop = start + layer.affine.weight.shape[0]
                is_to_rgb = name == "torgb"
                layout.append(
                    StyleLayer(
                        f"b{resolution}.{name}", resolution, start, stop, is_to_rgb, ws_index
                    )
                )
                start = stop
                ws_index += not is_to_rgb  # toRGB shares its w with the next block
            in_channels = out_channels
        self.style_layout = tuple(layout)
        self.num_ws = ws_index + 1  # the last toRGB has a w of its own
        self.num_styles = start
        self.use_half_precision(num_fp16_res)

    def use_half_precision(self, num_fp16_res: int) -> None:
        """So many of the highest resolutions, but never the lowest, in half precision on CUDA."""
        highest = set(self.resolutions[1:][::-1][:num_fp16_res])
        for resolution in self.resolutions:
            block = self.get_submodule(f"b{resolution}")
            assert isinstance(block, SynthesisBlock)
            block.use_fp16 = resolution in highest

    def affine(self, name: str) -> FullyConnectedLayer:
        """The affine layer, w to styles, of the layer with this name in `style_layout`."""
        layer = self.get_submodule(name)
        assert isinstance(layer, SynthesisLayer | ToRGBLayer)
        return layer.affine

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
            resolution: Stop at this resolution: the sum of what the blocks up to there
                have drawn (skip architecture only). None: the whole image.
            generator: Source of random noise. None: torch's global one.

        Raises:
            ValueError: wrong shape, noise mode or resolution.
        """
        return self.render(self._styles(ws, resolution), noise_mode, resolution, generator)

    def styles(self, ws: Float[Tensor, "n num_ws w_dim"]) -> Float[Tensor, "n num_styles"]:
        """The style-space codes of ws.

        Raises:
            ValueError: ws has the wrong shape.
        """
        return self._styles(ws, None)

    def render(
        self,
        s: Float[Tensor, "n num_styles"],
        noise_mode: NoiseMode = "const",
        resolution: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "n c h w"]:
        """Images of style-space codes; else as `forward`.

        With `resolution`, codes that end with that resolution's last layer are enough.
        """
        layout = self._layout(resolution)
        if self.architecture != "skip" and layout != self.style_layout:
            raise ValueError(
                f"Got resolution={resolution}; a generator of the {self.architecture} "
                "architecture draws whole images only: pass None."
            )
        if s.ndim != 2 or s.shape[1] not in (layout[-1].stop, self.num_styles):
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={self.num_styles}]. Make them with generator.styles(ws)."
            )
        if noise_mode not in NOISE_MODES:
            raise ValueError(
                f"Unknown noise_mode {noise_mode!r}; known ones: {', '.join(NOISE_MODES)}."
            )
        state = DrawingState()
        for layer in layout:
            state = self.step(layer, state, s, noise_mode, generator)
        return self.finished(state)

    def step(
        self,
        layer: StyleLayer,
        state: DrawingState,
        s: Float[Tensor, "n num_styles"],
        noise_mode: NoiseMode = "const",
        generator: torch.Generator | None = None,
    ) -> DrawingState:
        """What is drawn before a layer of `style_layout` to what is drawn after it."""
        block = self.get_submodule(f"b{layer.resolution}")
        assert isinstance(block, SynthesisBlock)
        style = s[:, layer.start : layer.stop].to(self.get_parameter("b4.const").dtype)
        name = layer.name.rpartition(".")[2]
        return block.step(name, state, style, noise_mode, generator)

    def finished(self, state: DrawingState) -> Float[Tensor, "n c h w"]:
        """The image after the last layer."""
        assert state.img is not None
        return self.cropped(state.img).contiguous()

    def cropped(self, img: Float[Tensor, "n c size size"]) -> Float[Tensor, "n c h w"]:
        """The middle of a square of any of the resolutions that is kept, see `img_size`."""
        side = img.shape[-1]
        height, width = (max(1, round(s * side / self.resolutions[-1])) for s in self.img_size)
        top, left = (side - height) // 2, (side - width) // 2
        return img[:, :, top : top + height, left : left + width]

    def _styles(self, ws: Tensor, resolution: int | None) -> Tensor:
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ValueError(
                f"Got ws of shape {tuple(ws.shape)}; expected [n, num_ws={self.num_ws}, "
                f"w_dim={self.w_dim}]. generator.mapping(z) returns that; one w for all layers is "
                f"w[:, None].repeat(1, {self.num_ws}, 1)."
            )
        by_layer = ws.to(self.get_parameter("b4.const").dtype).unbind(dim=1)
        return torch.cat(
            [
                self.affine(layer.name)(by_layer[layer.ws_index])
                for layer in self._layout(resolution)
            ],
            dim=1,
        )

    def _layout(self, resolution: int | None) -> tuple[StyleLayer, ...]:
        if resolution is None:
            return self.style_layout
        if resolution not in self.resolutions:
            raise ValueError(
                f"Got resolution={resolution}; this network draws at "
                f"{', '.join(map(str, self.resolutions))}."
            )
        return tuple(layer for layer in self.style_layout if layer.resolution <= resolution)


class SynthesisBlock(nn.Module):
    """All layers at one resolution."""

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        img_channels: int,
        conv_clamp: float | None,
        *,
        use_noise: bool,
        has_to_rgb: bool,
        has_skip: bool,
        activation: ActivationName,
        resample_filter: Sequence[float],
    ) -> None:
        super().__init__()
        self.use_fp16 = False
        self.is_first = in_channels == 0
        self.has_to_rgb = has_to_rgb
        self.has_skip = has_skip
        self.register_buffer("resample_filter", setup_filter(resample_filter))

        def convolution(inputs: int, up: int) -> SynthesisLayer:
            return SynthesisLayer(
                inputs,
                out_channels,
                w_dim,
                resolution,
                conv_clamp,
                up=up,
                use_noise=use_noise,
                activation=activation,
                resample_filter=resample_filter,
            )

        if self.is_first:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = convolution(in_channels, 2)
        self.conv1 = convolution(out_channels, 1)
        if has_to_rgb:
            self.torgb = ToRGBLayer(out_channels, img_channels, w_dim, conv_clamp)
        if has_skip:
            self.skip = SkipLayer(in_channels, out_channels, resample_filter)

    def layers(self) -> Iterator[tuple[str, SynthesisLayer | ToRGBLayer]]:
        """The layers that have styles, with their names, in order."""
        if not self.is_first:
            yield "conv0", self.conv0
        yield "conv1", self.conv1
        if self.has_to_rgb:
            yield "torgb", self.torgb

    def step(
        self,
        name: str,
        state: DrawingState,
        style: Tensor,
        noise_mode: NoiseMode,
        generator: torch.Generator | None,
    ) -> DrawingState:
        """What is drawn before one of this block's layers to what is drawn after it."""
        x, img, around = state
        if name == "torgb":
            assert x is not None
            rgb = self.torgb(x, style)
            rgb = rgb.to(torch.promote_types(rgb.dtype, torch.float32))
            img = rgb if img is None else upsample2d(img, self.resample_filter) + rgb
            return DrawingState(x, img, None)
        if name == "conv0" or self.is_first:  # the first layer of a block
            x = self.const.expand(len(style), -1, -1, -1) if self.is_first else x
            assert x is not None
            x = block_input(x, self.conv1.weight.dtype, self.use_fp16)
            around = self.skip(x) if self.has_skip else None
        assert x is not None
        if name == "conv0":
            return DrawingState(self.conv0(x, style, noise_mode, generator), img, around)
        x = self.conv1(x, style, noise_mode, generator, gain=1 if around is None else SKIP_GAIN)
        return DrawingState(x if around is None else around + x, img, None)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias and activation."""

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        w_dim: int,
        resolution: int,
        conv_clamp: float | None,
        *,
        up: int,
        use_noise: bool,
        activation: ActivationName,
        resample_filter: Sequence[float],
    ) -> None:
        super().__init__()
        self.activation: ActivationName = activation
        self.up = up
        self.resolution = resolution
        self.conv_clamp = conv_clamp
        self.use_noise = use_noise
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.register_buffer("resample_filter", setup_filter(resample_filter))
        if use_noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self._known: tuple[nn.Parameter, tuple[object, ...], Tensor, Tensor] | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SynthesisLayer:
        self._known = None  # weights change without a new version
        return super()._apply(fn, recurse)

    def _energy(self) -> Float[Tensor, "c_out c_in"]:
        """Squared length of the kernels, computed once for frozen weights."""
        if self.weight.requires_grad and torch.is_grad_enabled():
            return kernel_energy(self.weight)
        return self._frozen(self.weight.dtype)[1]

    def _frozen(
        self, dtype: torch.dtype
    ) -> tuple[Float[Tensor, "c_out c_in 3 3"], Float[Tensor, "c_out c_in"]]:
        """Frozen weights for features of a type, and the squared length of their kernels."""
        state = (self.weight._version, self.weight.data_ptr(), dtype)
        known = self._known
        if known is None or known[0] is not self.weight or known[1] != state:
            weight = self.weight.detach()
            if dtype == torch.float16:
                weight = bounded_weight(weight)
                own = weight.to(dtype, memory_format=torch.channels_last)
            else:
                own = weight.to(dtype)
            known = (self.weight, state, own, kernel_energy(weight))
            self._known = known
        return known[2:]

    def forward(
        self,
        x: Float[Tensor, "n c_in h w"],
        styles: Float[Tensor, "n c_in"],
        noise_mode: NoiseMode,
        generator: torch.Generator | None = None,
        gain: float = 1.0,
    ) -> Float[Tensor, "n c_out h2 w2"]:
        """Features of the next layer, times gain."""
        clamp = None if self.conv_clamp is None else self.conv_clamp * gain
        gain_after = ACTIVATIONS[self.activation].gain * gain
        # lrelu(a * x) is a * lrelu(x) for a > 0, so its gain is applied to the small tensors
        # (demodulation, noise, bias) instead of the features.
        is_lrelu = self.activation == "lrelu"
        gain = gain_after if is_lrelu else 1.0
        noise = None
        if self.use_noise and noise_mode != "none":
            noise = self._noise(len(x), noise_mode, generator) * (self.noise_strength * gain)
        if is_lrelu and serves(
            x,
            self.weight,
            (noise, self.bias),
            up=self.up,
            resample_filter=self.resample_filter,
        ):
            weight, energy = self._frozen(x.dtype)
            if x.dtype == torch.float16:
                styles = bounded_styles(styles)
            return styled_conv(
                x,
                weight,
                styles,
                demodulation(styles, energy) * gain,
                noise,
                self.bias * gain,
                up=self.up,
                resample_filter=self.resample_filter,
                clamp=clamp,
            )
        x = modulated_conv2d(
            x,
            self.weight,
            styles,
            noise=None if noise is None else noise.to(x.dtype),
            up=self.up,
            padding=1,
            resample_filter=self.resample_filter,
            gain=gain,
            energy=None if x.dtype == torch.float16 else self._energy(),
        )
        bias = (self.bias * gain).to(x.dtype)
        if not is_lrelu or x.is_cuda:  # where it is one kernel
            after = 1.0 if is_lrelu else gain_after
            return bias_act(x, bias, act=self.activation, gain=after, clamp=clamp)
        x = F.leaky_relu_(x.add_(bias[:, None, None]), 0.2)  # in place: made by the lines above
        return x if clamp is None else x.clamp(-clamp, clamp)

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

    def __init__(
        self, in_channels: int, img_channels: int, w_dim: int, conv_clamp: float | None
    ) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.weight_gain = 1 / math.sqrt(in_channels)
        self.affine = FullyConnectedLayer(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))

    def forward(
        self, x: Float[Tensor, "n c_in h w"], styles: Float[Tensor, "n c_in"]
    ) -> Float[Tensor, "n c h w"]:
        """What this block adds to the image."""
        x = modulated_conv2d(x, self.weight, styles, demodulate=False, gain=self.weight_gain)
        return bias_act(x, self.bias.to(x.dtype), clamp=self.conv_clamp)


class SkipLayer(nn.Module):
    """What goes around a block of the resnet architecture: 1x1 convolution, then upsampling."""

    resample_filter: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, resample_filter: Sequence[float]
    ) -> None:
        super().__init__()
        self.weight_gain = SKIP_GAIN / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 1, 1))
        self.register_buffer("resample_filter", setup_filter(resample_filter))

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
        ValueError: the resolution is no power of two of at least 4, or channels do not fit it.
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


def block_input(x: Tensor, dtype: torch.dtype, use_fp16: bool) -> Tensor:
    """x in the precision and memory layout that a block computes in fastest.

    Channels last saves a fifth of a training step on a CPU, and is what tensor cores read in
    half precision. Half precision is float16 on CUDA; on a CPU it is what autocast asks for.
    """
    if x.is_cpu and torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
    if x.is_cuda and not use_fp16:
        return x.to(dtype, memory_format=torch.contiguous_format)
    return x.to(torch.float16 if x.is_cuda else dtype, memory_format=torch.channels_last)


def _normalize(x: Tensor) -> Tensor:
    return x * (x.square().mean(dim=1, keepdim=True) + 1e-8).rsqrt()


def _checked(name: str, x: Tensor | None, size: int) -> Tensor:
    if x is None or x.ndim != 2 or x.shape[1] != size:
        got = "None" if x is None else f"shape {tuple(x.shape)}"
        what = "Draw it with torch.randn" if name == "z" else "Give one-hot labels"
        raise ValueError(f"Got {name} = {got}; expected [n, {name}_dim={size}]. {what}.")
    return x
