"""Measure a generator of drawn portraits against the renderer, and draw sheets to look at.

    python recipes/evaluate_generator.py --generator runs/generator/generator \\
        --output_dir runs/generator/evaluation

`metrics.json` then holds

- psnr: of samples at truncation 1 to the portraits that their z stand for, in dB;
- detail: energy of the finest details (each pixel minus the mean of its 2 x 2 block) as a share
  of that of the same drawings;
- truncated_change: mean change of a picture when it is truncated to 0.7, as a share of the mean
  difference of two samples; a generator that is linear in w would have 0.21;
- truncated_difference: mean difference of two samples truncated to 0.3, as the same share;
- between_psnr: of pictures on the way from one w to another to the drawings of what lies between
  (whole hats, hair that morphs): ghosts lower it.

and the folder has `samples.png` (64 people at truncation 0.7, not selected), `truth.png` (a row of
drawings, a row of samples, ...), `truncation.png` (truncation 0, 0.3, 0.5, 0.7, 0.85, 1) and
`between.png` (eight steps between two people). With --of factors, w is taken from the factors
instead of z: for a synthesis network whose mapping is not trained yet.
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
    """Where metrics.json and the sheets go."""
    of: Literal["z", "factors"] = "z"
    """Where w comes from: the mapping network, or the factors of the portraits."""
    resolution: int | None = None
    """Stop at this resolution; None = whole pictures."""
    samples: int = 256
    """How many people are measured."""


def main(config: Config) -> None:
    generator = StyleGAN2Generator.from_pretrained(config.generator).eval()
    size = config.resolution or generator.config.img_resolution
    encoder = FactorEncoder(generator.config.w_dim)

    @torch.no_grad()
    def draw(w: Tensor) -> Tensor:
        """Pictures of w, a few at a time."""
        ws = w[:, None].expand(-1, generator.num_ws, -1)
        parts = [
            generator.synthesis(part, noise_mode="const", resolution=size) for part in ws.split(16)
        ]
        return torch.cat(parts).clamp(-1, 1)

    def drawings(factors: Tensor) -> Tensor:
        """The renderer's pictures of factors, averaged down from the size that is trained on."""
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
        return draw(center.lerp(w, psi))

    whole, truth, shrunk, small = truncated(1.0), drawings(factors), truncated(0.7), truncated(0.3)
    difference = mean_difference(whole, whole.roll(1, 0))
    shares = torch.linspace(0, 1, _STEPS)[:, None]
    ways = torch.cat([a.lerp(b, shares) for a, b in zip(w[:12:2], w[1:12:2], strict=True)])
    between, meant = draw(ways), drawings(encoder.decode(ways))
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
    ladder = torch.stack([draw(center.lerp(w[:8], psi)) for psi in _LADDER], 1).flatten(0, 1)
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
    """Mean energy of what is lost when pictures are halved."""
    coarse = avg_pool2d(images, 2).repeat_interleave(2, -1).repeat_interleave(2, -2)
    return float((images - coarse).square().mean())


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__, use_underscores=True))
