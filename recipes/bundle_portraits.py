"""Put the trained parts of the portraits domain into one pipeline folder, measured and described.

    python recipes/bundle_portraits.py --generator runs/generator/generator --clip runs/clip \\
        --reader cards/attribute-reader --output_dir cards/portraits

Weights are stored in half precision; how far the pictures are from those in full precision is in
metrics.json. Everything is measured on seeds that no training has seen.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.frechet import frechet_distance
from stylegan_hub.metrics.zero_shot import balanced_accuracy, zero_shot_accuracy
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import applicable, sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.paired import portraits_of_z
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.portraits.renderer import render


@dataclass(frozen=True, kw_only=True)
class Config:
    """What goes into the pipeline."""

    generator: Path
    """Folder of the generator."""
    clip: Path
    """Output folder of recipes/train_clip.py."""
    reader: Path
    """Folder of the attribute reader, which measures; it stays a folder of its own."""
    output_dir: Path
    """The pipeline folder."""
    count: int = 2000
    """How many samples and renders are compared."""
    route: str = ""
    """How the generator was trained, in a sentence for the card; beside the standard text."""


def main(config: Config) -> None:
    pipe = StyleEditPipeline(
        generator=StyleGAN2Generator.from_pretrained(config.generator),
        clip=CLIPModel.from_pretrained(config.clip / "clip"),
        tokenizer=CLIPTokenizer.from_pretrained(config.clip / "tokenizer"),
        image_processor=CLIPImageProcessorPil.from_pretrained(config.clip / "image_processor"),
    )
    people = pipe.sample(range(64), truncation_psi=0.7)
    full = draw(pipe, people)
    pipe.to(torch.float16).save_pretrained(config.output_dir, safe_serialization=True)
    pipe = StyleEditPipeline.from_pretrained(config.output_dir)
    half = draw(pipe, people)
    reader = AttributeReader.from_pretrained(config.reader).eval()
    metrics = {"half_precision_psnr": psnr(half, full), **measure(pipe, reader, config.count)}
    write_bytes(config.output_dir / "metrics.json", json.dumps(metrics, indent=1).encode())
    shutil.rmtree(config.output_dir / "images", ignore_errors=True)
    image_files.save(image_files.grid(half, columns=8), config.output_dir / "images/samples.png")
    image_files.save(mixing_sheet(pipe), config.output_dir / "images/style-mixing.png")
    write_bytes(config.output_dir / "README.md", card(pipe, metrics, config).encode())
    print(json.dumps(metrics, indent=1))


@torch.no_grad()
def draw(pipe: StyleEditPipeline, latents: Latents) -> Tensor:
    """Pictures in [-1, 1], a few at a time."""
    parts = [
        pipe.synthesize(Latents(latents.space, codes)) for codes in latents.codes.split(16)
    ]
    return torch.cat(parts).clamp(-1, 1)


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (first - second).square().mean().clamp_min(1e-12)))


@torch.no_grad()
def measure(pipe: StyleEditPipeline, reader: AttributeReader, count: int) -> dict[str, object]:
    """How good the samples are, and how well CLIP reads them."""
    z = torch.randn(
        count, pipe.generator.config.z_dim, generator=torch.Generator().manual_seed(UNSEEN_SEED)
    )
    truth = portraits_of_z(z)
    drawn, rendered, reals = [], [], []
    size = pipe.generator.config.img_resolution
    for start in tqdm(range(0, count, 50), desc="measuring"):
        part = slice(start, start + 50)
        drawn.append(draw(pipe, pipe.lower(Latents(Space.Z, z[part]), Space.W_PLUS)))
        rendered.append(render(truth[part], size))
        reals.append(render(sample(range(UNSEEN_SEED + start, UNSEEN_SEED + start + 50)), size))
    samples, twins, others = torch.cat(drawn), torch.cat(rendered), torch.cat(reals)
    features = [
        torch.cat([reader.features(part) for part in images.split(50)])
        for images in (samples, others)
    ]
    spread = [torch.pdist(part[:500]).mean() for part in features]
    reading = reader.read(samples)
    seen = applicable(truth.labels)
    confidence = {name: float(p.amax(1).mean()) for name, p in reading.probabilities.items()}
    agreement = {
        name: balanced_accuracy(reading.labels[name], truth.labels[name], seen[name])
        for name in truth.labels
    }
    unseen = sample(range(UNSEEN_SEED, UNSEEN_SEED + count))
    clip_renders = zero_shot_accuracy(
        pipe.clip, pipe.tokenizer, pipe.encode_image(others), unseen.labels
    )
    clip_samples = zero_shot_accuracy(
        pipe.clip, pipe.tokenizer, pipe.encode_image(samples), reading.labels
    )
    return {
        "count": count,
        "psnr_to_the_portrait_z_stands_for": psnr(samples, twins),
        "frechet_distance_to_renders": frechet_distance(*features),
        "frechet_features": "attribute reader, pooled last feature map",
        "diversity_relative_to_renders": float(spread[0] / spread[1]),
        "reader_confidence": _with_mean(confidence),
        "reader_agreement_with_z": _with_mean(agreement),
        "clip_zero_shot_on_renders": _with_mean(clip_renders),
        "clip_zero_shot_on_samples": _with_mean(clip_samples),
    }


def _with_mean(values: dict[str, float]) -> dict[str, float]:
    return {**values, "mean": sum(values.values()) / len(values)}


@torch.no_grad()
def mixing_sheet(pipe: StyleEditPipeline) -> object:
    """Rows take coarse layers (4 to 16 px) from the first picture, columns the others."""
    rows, columns = pipe.sample(range(100, 105)), pipe.sample(range(200, 206))
    blank = torch.ones(1, 3, *[pipe.generator.config.img_resolution] * 2)
    lines = [torch.cat([blank, draw(pipe, columns)])]
    coarse = 5
    for row in rows:
        codes = columns.codes.clone()
        codes[:, :coarse] = row.codes[:, :coarse]
        lines.append(torch.cat([draw(pipe, row), draw(pipe, Latents(Space.W_PLUS, codes))]))
    return image_files.grid(torch.cat(lines), columns=7)
