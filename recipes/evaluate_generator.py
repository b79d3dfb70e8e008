"""Measure a generator of drawn portraits against the renderer, and save sheets of its pictures.

    python recipes/evaluate_generator.py --generator runs/generator/generator \\
        --output_dir runs/generator/evaluation

The output folder then holds `metrics.json` with these values:

- psnr: PSNR in dB of samples at truncation 1 to renders of the portraits that their z stands for;
- detail: energy of the finest details (each pixel minus the mean of its 2 x 2 block), relative to
  that of the same renders;
- truncated_change: mean change of a sample when it is truncated to 0.7, relative to the mean
  difference of two samples; 0.21 for a generator that is linear in w;
- truncated_difference: mean difference of two samples truncated to 0.3, relative to the same mean;
- between_psnr: PSNR in dB of pictures on the way from one w to another to renders of the same
  blends (whole hats, hair that morphs); ghosts lower it.

It also holds four sheets: `samples.png` (64 samples at truncation 0.7, not selected), `truth.png`
(rows of renders and of samples in turn), `truncation.png` (truncation 0, 0.3, 0.5, 0.7, 0.85 and 1)
and `between.png` (eight steps between two samples). With --of factors, w comes from the factors
instead of z, for a synthesis network whose mapping network is not trained yet.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import Tensor
from torch.nn.functional import avg_pool2d

from stylegan_hub import images as image_files
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.factors import factor_matrix
from stylegan_hub.portraits.paired import FactorEncoder, portraits_of_z
from stylegan_hub.portraits.renderer import render_factors

_LADDER = (0.0, 0.3, 0.5, 0.7, 0.85, 1.0)
_STEPS = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    generator: Path
    """Folder of the generator."""
    output_dir: Path
    """Folder of metrics.json and the sheets."""
    of: Literal["z", "factors"] = "z"
    """Source of w: z and the mapping network, or the factors of the portraits."""
    resolution: int | None = None
    """Resolution at which the synthesis stops. None: the generator's."""
    samples: int = 256
    """Number of samples that are measured, at least 64."""


def main(config: Config) -> None:
    generator = StyleGAN2Generator.from_pretrained(config.generator).eval()
    size = config.resolution or generator.config.img_resolution
    encoder = FactorEncoder(generator.config.w_dim)

    @torch.no_grad()
    def synthesize(w: Tensor) -> Tensor:
        """The generator's pictures of w, rendered a few at a time."""
        ws = w[:, None].expand(-1, generator.num_ws, -1)
        parts = [
            generator.synthesis(part, noise_mode="const", resolution=size) for part in ws.split(16)
        ]
        return torch.cat(parts).clamp(-1, 1)

    def renders(factors: Tensor) -> Tensor:
        """The renderer's pictures of factors, averaged down from the size used in training."""
        full = generator.config.img_resolution
        parts = [render_factors(part, full) for part in factors.split(16)]
        return avg_pool2d(torch.cat(parts), full // size)

    seed = torch.Generator().manual_seed(UNSEEN_SEED)
    z = torch.randn(max(config.samples, 64), generator.config.z_dim, generator=seed)
    factors = factor_matrix(portraits_of_z(z))
    with torch.no_grad():
        w = encoder(factors) if config.of == "factors" else generator.mapping.w(z)
    center = torch.zeros_like(w[:1]) if config.of == "factors" else generator.mapping.w_avg[None]

    def truncated(psi: float) -> Tensor:
        return synthesize(center.lerp(w, psi))

    whole, truth, shrunk, small = truncated(1.0), renders(factors), truncated(0.7), truncated(0.3)
    difference = mean_difference(whole, whole.roll(1, 0))
    shares = torch.linspace(0, 1, _STEPS)[:, None]
    ways = torch.cat([a.lerp(b, shares) for a, b in zip(w[:12:2], w[1:12:2], strict=True)])
    between, meant = synthesize(ways), renders(encoder.decode(ways))
    metrics = {
        "samples": len(z),
        "resolution": size,
        "w_of": config.of,
        "psnr": psnr(whole, truth),
        "detail": detail(whole) / detail(truth),
        "truncated_change": mean_difference(whole, shrunk) / difference,
        "truncated_difference": mean_difference(small, small.roll(1, 0)) / difference,
        "between_psnr": psnr(between, meant),
    }
    print(json.dumps(metrics, indent=1))
    config.output_dir.mkdir(parents=True, exist_ok=True)
    (config.output_dir / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    ladder = torch.stack([synthesize(center.lerp(w[:8], psi)) for psi in _LADDER], 1).flatten(0, 1)
    pairs = torch.stack(
        [truth[:24].view(3, 8, 3, size, size), whole[:24].view(3, 8, 3, size, size)], 1
    )
    for name, pictures, columns in (
        ("samples", shrunk[:64], 8),
        ("truth", pairs.flatten(0, 2), 8),
        ("truncation", ladder, len(_LADDER)),
        ("between", between, _STEPS),
    ):
        image_files.grid(pictures, columns).save(config.output_dir / f"{name}.png")


def mean_difference(first: Tensor, second: Tensor) -> float:
    """Mean absolute difference of pictures."""
    return float((first - second).abs().mean())


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (first - second).square().mean().clamp_min(1e-12)))


def detail(images: Tensor) -> float:
    """Mean energy of the details that are lost when pictures are halved in size."""
    coarse = avg_pool2d(images, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    return float((images - coarse).square().mean())


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__, use_underscores=True))
