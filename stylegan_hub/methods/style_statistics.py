"""The measurements behind a table of global directions: statistics of s, relevance of channels.

StyleCLIP (Patashnik et al. 2021), section 6.2: for every channel c of s, many samples are rendered
twice, with s_c moved up and down by 5 standard deviations. The change of CLIP's embedding, averaged
over samples, is the effect of the channel in CLIP space. Rendering takes nearly all of the time:
two pictures for each channel and sample.

Most channels change a picture so little that the embedding changes linearly. Then derivatives give
the same result (`linear_relevance`), and one backward pass for each dimension of CLIP space gives
those of all channels: 128 passes for a sample instead of 2560 pictures for the drawn portraits, 512
instead of 12,096 for a face generator of 1024 px and OpenAI's CLIP. How far a channel moves the
embedding shows whether this holds for it (docs/performance.md).

The paper moves s_c around its value in each sample; the released code moves it around the *mean* of
the channel (`around`). Its two releases also take mean and deviation from different s: the one for
TensorFlow truncates all layers, the one for PyTorch only the first 8 (`truncation_cutoff`), so the
deviations of its late layers are larger by a factor of about 1 / psi.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.domain import Domain
from stylegan_hub.latents import Space

Around = Literal["sample", "mean"]

DRAWN_ABOVE = 0.05
"""How far a channel may move the embedding, of length 1, for derivatives to give its effect.

Channels that move it farther are rendered instead.
"""

_CHUNK = 1000  # samples whose s is in memory at a time


def editable_channels(domain: Domain, include_to_rgb: bool = False) -> list[int]:
    """Indices in s of the convolutions' channels, in network order; those of toRGB on request."""
    return [
        channel
        for layer in domain.generator.style_layout
        if include_to_rgb or not layer.is_to_rgb
        for channel in range(layer.start, layer.stop)
    ]


@torch.no_grad()
def style_statistics(
    domain: Domain,
    samples: int = 100_000,
    first_seed: int = 0,
    truncation_psi: float = 0.7,
    truncation_cutoff: int | None = None,
) -> tuple[Float[Tensor, " num_styles"], Float[Tensor, " num_styles"]]:
    """Mean and standard deviation of every number of s over many samples.

    Args:
        samples: number of seeds from `first_seed` on; 100,000 in StyleCLIP.
        truncation_psi: of the samples; 0.7 in StyleCLIP.
        truncation_cutoff: how many layers are truncated: None for all, as in StyleCLIP's TensorFlow
            release; 8 as in its PyTorch release.

    Raises:
        ValueError: fewer than two samples.
    """
    if samples < 2:
        raise ValueError(f"Got {samples} samples; a deviation needs at least 2.")
    total = squares = torch.zeros((), dtype=torch.float64)
    for start in range(first_seed, first_seed + samples, _CHUNK):
        seeds = range(start, min(start + _CHUNK, first_seed + samples))
        people = domain.sample(seeds, truncation_psi, truncation_cutoff)
        s = domain.lower(people, Space.S).codes.cpu().double()
        total = total + s.sum(0)
        squares = squares + s.square().sum(0)
    mean = total / samples
    variance = (squares - samples * mean.square()) / (samples - 1)
    return mean.float(), variance.clamp_min(0).sqrt().float()


@torch.no_grad()
def channel_relevance(
    domain: Domain,
    s: Float[Tensor, "n num_styles"],
    channels: Sequence[int],
    s_mean: Float[Tensor, " num_styles"],
    s_std: Float[Tensor, " num_styles"],
    around: Around = "sample",
    deviations: float = 5.0,
    batch_size: int = 10,
) -> Float[Tensor, "channels d"]:
    """The effect of each channel on pictures, as directions of length 1 in CLIP space.

    For each of the n samples, the embedding with the channel moved down by `deviations` is
    subtracted from that with the channel moved up as far, and the difference is normalized. The
    result is the normalized mean of these differences. A channel that changes nothing gives zeros.

    Args:
        s: the samples, 100 in StyleCLIP.
        channels: indices in s.
        around: "sample" moves the channel around its value in each sample (the paper), "mean"
            around its mean over all samples (the released code).
        deviations: of each channel.
        batch_size: samples that are rendered together, two pictures each.
    """
    s, s_mean, s_std = (part.to(domain.device, torch.float32) for part in (s, s_mean, s_std))
    layout = domain.generator.style_layout
    block = {c: layer.resolution for layer in layout for c in range(layer.start, layer.stop)}
    sums = torch.zeros(len(channels), domain.clip.config.projection_dim, device=domain.device)
    rows = sorted(range(len(channels)), key=lambda row: channels[row])
    for resolution, group in groupby(rows, key=lambda row: block[channels[row]]):
        of_block = list(group)
        for people in s.split(batch_size):
            draw = domain.generator.synthesis_from_block(people, resolution)
            for row in of_block:
                channel = channels[row]
                step = deviations * s_std[channel]
                center = people[:, channel] if around == "sample" else s_mean[channel]
                pairs = people.repeat(2, 1)
                pairs[: len(people), channel] = center + step
                pairs[len(people) :, channel] = center - step
                seen = domain.encode_image(draw(pairs).clamp(-1, 1).float()).float()
                up, down = seen.chunk(2)
                sums[row] += F.normalize(up - down, dim=1).sum(0)
    return F.normalize(sums, dim=1).cpu()


def linear_relevance(
    domain: Domain,
    s: Float[Tensor, "n num_styles"],
    channels: Sequence[int],
    s_std: Float[Tensor, " num_styles"],
    deviations: float = 5.0,
    batch_size: int = 5,
) -> tuple[Float[Tensor, "channels d"], Float[Tensor, " channels"]]:
    """The effect of each channel on pictures, from derivatives at the samples' own values.

    Args:
        s: the samples.
        channels: indices in s.
        deviations: size of the moves whose effect is returned.
        batch_size: samples whose features are kept in memory together.

    Returns:
        Sums over the samples, which can be added to those of other samples: of directions of
        length 1 in CLIP space (a channel that changes nothing gives zeros), and of how far a move
        of `deviations` moves the embedding, which has length 1.
    """
    rows = list(channels)
    steps = deviations * s_std.to(domain.device, torch.float32)[rows, None]
    directions = torch.zeros(len(rows), domain.clip.config.projection_dim, device=domain.device)
    sizes = torch.zeros(len(rows), device=domain.device)
    for people in s.to(domain.device, torch.float32).split(batch_size):
        for derivatives in _embedding_derivatives(domain, people):
            changes = derivatives.T[rows] * steps
            directions += F.normalize(changes, dim=1)
            sizes += changes.norm(dim=1)
    return directions.cpu(), sizes.cpu()


def _embedding_derivatives(
    domain: Domain, s: Float[Tensor, "n num_styles"]
) -> Float[Tensor, "n d num_styles"]:
    """Derivatives of the embedding of each sample's picture."""
    with torch.enable_grad():
        leaf = s.detach().clone().requires_grad_()
        pictures = domain.generator.synthesis_from_styles(leaf).clamp(-1, 1).float()
        # The pictures are rendered once, with a backward pass for each dimension. Samples are
        # independent, so the gradient of the sum over them contains that of each.
        rows = [
            torch.autograd.grad(number, leaf, retain_graph=True)[0]
            for number in domain.encode_image(pictures).float().sum(0)
        ]
    return torch.stack(rows, 1)
