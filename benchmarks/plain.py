"""StyleGAN2's synthesis network as the paper describes it: the baseline of all ratios.

Every sample gets its own weights, scaled and demodulated (StyleGAN2, section 2.2), which one
grouped convolution applies. Upsampling is a transposed convolution followed by the FIR filter.
Everything is in full precision, contiguous and not fused. It uses the weights of one of our
generators, so both must render the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.models.stylegan2 import StyleGAN2Generator, StyleLayer, SynthesisLayer, ToRGBLayer
from stylegan_hub.ops import bias_act, upfirdn2d, upsample2d

Synthesize = Callable[[Tensor], Tensor]
"""ws to images."""


def synthesize(generator: StyleGAN2Generator, ws: Tensor, fused: bool = False) -> Tensor:
    """Images of ws, [n, num_ws, w_dim], with the stored noise; skip architecture, lrelu.

    With `fused`, filters and bias with activation are `upfirdn2d` and `bias_act`, for which the
    published implementations have CUDA kernels, as we do.
    """

    def styles(entry: StyleLayer) -> Tensor:
        affine = generator.synthesis.affine(entry.name)
        weight = affine.weight / math.sqrt(affine.weight.shape[1])
        return F.linear(ws[:, entry.ws_index], weight, affine.bias)

    return _draw(generator, styles, fused)


@contextmanager
def drawing(generator: StyleGAN2Generator) -> Iterator[None]:
    """Within this context, the generator renders in the textbook's way."""
    network = generator.synthesis

    def render(s: Tensor, *_: object) -> Tensor:
        return _draw(generator, lambda entry: s[:, entry.start : entry.stop], fused=False)

    network.render = render  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        del network.render


def _draw(
    generator: StyleGAN2Generator, styles: Callable[[StyleLayer], Tensor], fused: bool
) -> Tensor:
    network = generator.synthesis
    x = network.get_parameter("b4.const")[None]
    image: Tensor | None = None
    for entry in network.style_layout:
        layer, style = network.get_submodule(entry.name), styles(entry)
        assert isinstance(layer, SynthesisLayer | ToRGBLayer)
        x = x.expand(len(style), -1, -1, -1)
        if isinstance(layer, SynthesisLayer):
            x = _convolution(layer, x, style, fused)
            continue
        rgb = modulated(x, layer.weight, style * layer.weight_gain, demodulate=False)
        rgb = rgb + layer.bias[:, None, None]
        block = network.get_submodule(f"b{entry.resolution}")
        enlarge = upsample2d if fused else _enlarge
        image = rgb if image is None else enlarge(image, block.get_buffer("resample_filter")) + rgb
    assert image is not None
    return image


def modulated(
    x: Tensor, weight: Tensor, styles: Tensor, demodulate: bool = True, up: bool = False
) -> Tensor:
    """Convolution with weights for each sample, in groups; doubles the size (plus one) if `up`."""
    n, c_in, height, width = x.shape
    w = weight[None] * styles[:, None, :, None, None]  # [n, c_out, c_in, k, k]
    if demodulate:
        w = w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    x = x.reshape(1, n * c_in, height, width)
    if up:
        w = w.transpose(1, 2).flatten(0, 1)
        x = F.conv_transpose2d(x, w, stride=2, groups=n)
    else:
        x = F.conv2d(x, w.flatten(0, 1), padding=weight.shape[2] // 2, groups=n)
    return x.unflatten(1, (n, -1))[0]


def _convolution(layer: SynthesisLayer, x: Tensor, styles: Tensor, fused: bool) -> Tensor:
    x = modulated(x, layer.weight, styles, up=layer.up == 2)
    if layer.up == 2 and fused:
        x = upfirdn2d(x, layer.resample_filter, padding=1, gain=4.0)
    elif layer.up == 2:
        x = _filtered(x, layer.resample_filter * 4, (1, 1, 1, 1))
    if layer.use_noise:
        x = x + layer.noise_const * layer.noise_strength
    if fused:
        return bias_act(x, layer.bias, act="lrelu")
    x = x + layer.bias[:, None, None]
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def _enlarge(image: Tensor, taps: Tensor) -> Tensor:
    n, c, height, width = image.shape
    zeros = image.new_zeros(n, c, height, 2, width, 2)
    zeros[:, :, :, 0, :, 0] = image
    return _filtered(zeros.reshape(n, c, 2 * height, 2 * width), taps * 4, (2, 1, 2, 1))


def _filtered(x: Tensor, taps: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    channels = x.shape[1]
    weight = taps.flip(0, 1).expand(channels, 1, -1, -1)
    return F.conv2d(F.pad(x, padding), weight, groups=channels)


def one_pass(synthesize: Synthesize, ws: Tensor, upstream: Tensor | None) -> Tensor:
    """Images; or with the gradient of images, `upstream`, the gradient of ws."""
    with torch.set_grad_enabled(upstream is not None):
        leaf = ws.clone().requires_grad_(upstream is not None)
        images = synthesize(leaf)
        if upstream is None:
            return images
        (images * upstream).sum().backward()
        assert leaf.grad is not None
        return leaf.grad


def works(
    generator: StyleGAN2Generator, batch_size: int
) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """What is timed: forward, and forward with the gradient of w_plus.

    Yields:
        Name, ws of random samples, and the `upstream` that `one_pass` takes: None, then random.
    """
    ws = people(generator, batch_size)
    size = (batch_size, generator.config.img_channels, *generator.img_size)
    weights = torch.randn(size, generator=torch.Generator().manual_seed(1)).to(ws.device)
    yield "forward", ws, None
    yield "forward + backward", ws, weights


def people(generator: StyleGAN2Generator, count: int, seed: int = 0) -> Tensor:
    """ws of random samples, on the generator's device."""
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed))
    return generator.mapping(z.to(generator.mapping.w_avg.device)).detach()


def macs(generator: StyleGAN2Generator) -> int:
    """Multiply-adds of the convolutions for one image, the floor of any formulation as direct sums.

    A transposed convolution with stride 2 multiplies every input pixel by every tap once.
    """
    total = 0
    for entry in generator.style_layout:
        layer = generator.synthesis.get_submodule(entry.name)
        weight = layer.get_parameter("weight")
        up = isinstance(layer, SynthesisLayer) and layer.up == 2
        pixels = (entry.resolution // 2 if up else entry.resolution) ** 2
        total += pixels * weight.numel()
    return total


def features(generator: StyleGAN2Generator) -> int:
    """How many features of one image go through a GPU's memory in `ops.styled_conv`.

    For each 3x3 layer: its input is read, written and read again (modulation, convolution), its
    output is written, read and written again (convolution, and what comes after it). Colors read
    the output once more.
    """
    total = 0
    for entry in generator.style_layout:
        layer = generator.synthesis.get_submodule(entry.name)
        c_out, c_in = layer.get_parameter("weight").shape[:2]
        pixels = entry.resolution**2
        if isinstance(layer, SynthesisLayer):
            total += 3 * pixels // layer.up**2 * c_in + 3 * pixels * c_out
        else:
            total += pixels * c_in
    return total


def random_generator(img_resolution: int, channel_base: int, seed: int = 0) -> StyleGAN2Generator:
    """A generator of a published size with random weights and noise."""
    torch.manual_seed(seed)
    generator = StyleGAN2Generator(img_resolution=img_resolution, channel_base=channel_base)
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.1)
    return generator.eval().requires_grad_(False)
