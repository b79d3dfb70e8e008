"""The synthesis network in basic operations, which every runtime has and can fuse.

The activations are modulated instead of the weights, so that all samples share one set of constant
weights. A layer that doubles the size is a transposed convolution followed by a depthwise filter.
The parts of demodulation, noise, bias and activation gain that do not depend on the styles are
constants. Pictures equal those of `SynthesisNetwork.render` except for rounding.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.models.stylegan2 import (
    SKIP_GAIN,
    SkipLayer,
    StyleGAN2Generator,
    SynthesisBlock,
    SynthesisLayer,
    ToRGBLayer,
)
from stylegan_hub.ops.bias_act import ACTIVATIONS, bias_act
from stylegan_hub.ops.modulated_conv2d import (
    DEMODULATION_EPS,
    bounded_styles,
    bounded_weight,
    kernel_energy,
)


class PlainSynthesis(nn.Module):
    """Style codes `[n, num_styles]` to pictures `[n, c, h, w]`, with the stored noise.

    Args:
        resolution: stop at this block (skip architecture only); None for full-size pictures. Codes
            of the layers after it are ignored.
        bounded: scale weights and styles so that sums do not overflow in half precision;
            demodulation cancels the scaling.

    Raises:
        ValueError: there is no block of this resolution, or the architecture renders only full-size
            pictures.
    """

    const: Tensor

    def __init__(
        self, generator: StyleGAN2Generator, resolution: int | None = None, bounded: bool = False
    ) -> None:
        super().__init__()
        network = generator.synthesis
        last = network.layers_at(resolution)[-1]
        if network.architecture != "skip" and last + 1 < len(network.style_layout):
            raise ValueError(
                f"Got resolution={resolution}; a generator of the {network.architecture} "
                "architecture renders only full-size pictures. Leave out the resolution."
            )
        side = network.style_layout[last].resolution
        blocks = [b for b, r in zip(network.blocks, network.resolutions, strict=True) if r <= side]
        self.register_buffer("const", network.get_parameter("b4.const").detach().clone()[None])
        self.blocks = nn.ModuleList(_Block(block, bounded) for block in blocks)
        self.sizes = [x.stop - x.start for x in network.style_layout[: last + 1]]
        shape = network.cropped(torch.empty(1, 1, side, side)).shape
        self.height, self.width = shape[2:]

    def forward(self, s: Float[Tensor, "n num_styles"]) -> Float[Tensor, "n c h w"]:
        """Pictures, nominally in [-1, 1] but not clamped."""
        styles = list(s[:, : sum(self.sizes)].split(self.sizes, dim=1))
        x, image = self.const, None
        for block in self.blocks:
            x, image = block(x, image, styles)
        assert image is not None
        top, left = (image.shape[2] - self.height) // 2, (image.shape[3] - self.width) // 2
        return image[:, :, top : top + self.height, left : left + self.width]


class _Block(nn.Module):
    def __init__(self, block: SynthesisBlock, bounded: bool) -> None:
        super().__init__()
        gain = SKIP_GAIN if block.has_skip else 1.0
        self.conv0 = None if block.is_first else _Layer(block.conv0, 1.0, bounded)
        self.conv1 = _Layer(block.conv1, gain, bounded)
        self.torgb = _ToRGB(block.torgb) if block.has_to_rgb else None
        self.skip = _Skip(block.skip) if block.has_skip else None
        channels = len(block.torgb.bias) if block.has_to_rgb else 0
        self.enlarge = _Enlarge(block.resample_filter, channels) if channels else None

    def forward(
        self, x: Tensor, image: Tensor | None, styles: list[Tensor]
    ) -> tuple[Tensor, Tensor | None]:
        around = None if self.skip is None else self.skip(x)
        if self.conv0 is not None:
            x = self.conv0(x, styles.pop(0))
        x = self.conv1(x, styles.pop(0))
        x = x if around is None else x + around
        if self.torgb is not None:
            rgb = self.torgb(x, styles.pop(0))
            assert self.enlarge is not None
            image = rgb if image is None else self.enlarge(image) + rgb
        return x, image


class _Layer(nn.Module):
    weight: Tensor
    energy: Tensor
    bias: Tensor
    noise: Tensor

    def __init__(self, layer: SynthesisLayer, gain: float, bounded: bool) -> None:
        super().__init__()
        self.act, self.up = layer.activation, layer.up
        self.clamp = None if layer.conv_clamp is None else layer.conv_clamp * gain
        gain *= ACTIVATIONS[self.act].gain
        # lrelu(a * x) is a * lrelu(x), so its gain can be folded into the constants.
        self.before, self.after = (gain, 1.0) if self.act == "lrelu" else (1.0, gain)
        self.bounded = bounded
        weight = layer.weight.detach().float()
        weight = bounded_weight(weight) if bounded else weight
        self.register_buffer("energy", kernel_energy(weight).T.contiguous())
        self.register_buffer("weight", weight.transpose(0, 1) if self.up == 2 else weight)
        self.register_buffer("bias", layer.bias.detach()[:, None, None] * self.before)
        noise = torch.zeros(1)
        if layer.use_noise:
            noise = layer.noise_const * layer.noise_strength.detach() * self.before
        self.register_buffer("noise", noise)
        self.filter = _Filter(layer.resample_filter, len(layer.bias), 4.0) if self.up == 2 else None

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        style = bounded_styles(style) if self.bounded else style
        scale = (style.square() @ self.energy + DEMODULATION_EPS).rsqrt() * self.before
        x = x * style[:, :, None, None]
        if self.filter is None:
            x = F.conv2d(x, self.weight, padding=1)
        else:
            taps = self.filter.taps.shape[2:]
            x = F.conv_transpose2d(x, self.weight, stride=2)
            # Padding that keeps the picture centered, minus the pixel that the kernel added.
            x = self.filter(x, [(t + 1) // 2 - 1 for t in taps], [t // 2 - 1 for t in taps])
        x = x * scale[:, :, None, None] + (self.noise + self.bias)
        if self.act == "lrelu":
            x = F.leaky_relu(x, 0.2)
        else:
            x = bias_act(x, act=self.act, gain=self.after)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class _ToRGB(nn.Module):
    weight: Tensor
    bias: Tensor

    def __init__(self, layer: ToRGBLayer) -> None:
        super().__init__()
        self.clamp = layer.conv_clamp
        self.register_buffer("weight", layer.weight.detach() * layer.weight_gain)
        self.register_buffer("bias", layer.bias.detach())

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        x = F.conv2d(x * style[:, :, None, None], self.weight, self.bias)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class _Filter(nn.Module):
    """A depthwise filter; `gain` compensates for inserted zeros."""

    taps: Tensor

    def __init__(self, resample_filter: Tensor, channels: int, gain: float = 1.0) -> None:
        super().__init__()
        f = resample_filter
        f = torch.outer(f, f) if f.ndim == 1 else f
        self.register_buffer("taps", (f.flip(0, 1) * gain).expand(channels, 1, -1, -1).clone())

    def forward(self, x: Tensor, before: list[int], after: list[int]) -> Tensor:
        (top, left), (bottom, right) = before, after
        x = F.pad(x, (left, right, top, bottom))  # negative numbers crop
        return F.conv2d(x, self.taps, groups=len(self.taps))


class _Enlarge(nn.Module):
    """Doubles the size by inserting zeros and filtering, as one transposed convolution."""

    taps: Tensor

    def __init__(self, resample_filter: Tensor, channels: int) -> None:
        super().__init__()
        f = resample_filter
        f = torch.outer(f, f) if f.ndim == 1 else f
        self.register_buffer("taps", (f * 4.0).expand(channels, 1, -1, -1).clone())

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = self.taps.shape[2:]
        height, width = x.shape[2] * 2, x.shape[3] * 2
        x = F.conv_transpose2d(x, self.taps, stride=2, groups=len(self.taps))
        top, left = (rows - 1) - (rows + 1) // 2, (columns - 1) - (columns + 1) // 2
        x = F.pad(x, (-left, 0, -top, 0))
        missing = (height - x.shape[2], width - x.shape[3])
        return F.pad(x, (0, missing[1], 0, missing[0]))


class _Skip(nn.Module):
    weight: Tensor

    def __init__(self, layer: SkipLayer) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach() * layer.weight_gain)
        self.enlarge = _Enlarge(layer.resample_filter, len(layer.weight))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.enlarge(F.conv2d(x, self.weight))
        return y
