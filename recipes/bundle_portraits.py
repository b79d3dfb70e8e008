"""Put the trained parts of the portraits domain into one pipeline folder, and measure them.

    python recipes/bundle_portraits.py --generator runs/generator/generator --clip runs/clip \\
        --recognizer runs/recognizer/recognizer --parser runs/parser/parser \\
        --encoder runs/encoder/encoder --landmarker runs/landmarks/landmarker \\
        --output_dir cards/portraits

Weights are stored in half precision; metrics.json states how far the pictures are from those in
full precision. All measurements use seeds that no training has seen.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from command_line import run
from PIL import Image
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import check_room, write_bytes
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.balanced_accuracy import balanced_accuracy
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.frechet import frechet_distance
from stylegan_hub.metrics.verification import roc_auc
from stylegan_hub.metrics.zero_shot import (
    value_embeddings,
    zero_shot_accuracy,
)
from stylegan_hub.models.clip import load_clip
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.landmarker import Landmarker
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import (
    GAUSSIANS,
    IDENTITY_GAUSSIANS,
    Portraits,
    applicable,
    from_gaussians,
    sample,
)
from stylegan_hub.portraits.captions import zero_shot_texts
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.paired import portraits_of_z
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.portraits.renderer import render


@dataclass(frozen=True, kw_only=True)
class Config:
    """The parts of the pipeline, and how they are measured."""

    generator: Path
    """Folder of the generator."""
    clip: Path
    """Output folder of recipes/train_clip.py."""
    recognizer: Path | None = None
    """Folder of the recognizer (recipes/train_recognizer.py). If None, the pipeline has none."""
    parser: Path | None = None
    """Folder of the parser (recipes/train_parser.py). If None, the pipeline has none."""
    encoder: Path | None = None
    """Folder of the encoder (recipes/train_encoder.py), trained for this generator. If None, the
    pipeline has none."""
    landmarker: Path | None = None
    """Folder of the landmarker (recipes/train_landmarks.py). If None, the pipeline has none."""
    reader: str = "attribute-reader"
    """Bundled name or folder of the attribute reader that judges."""
    output_dir: Path
    """Pipeline folder to write."""
    count: int = 2000
    """Number of samples, and of renders, that are measured."""
    route: str = ""
    """Text about the training of the generator, for the card, after the standard text."""
    overwrite: bool = False
    """Also write into a folder that holds something else."""


def main(config: Config) -> None:
    if not config.overwrite:
        check_room(config.output_dir, StyleEditPipeline.saved_as)
    generator = StyleGAN2Generator.from_pretrained(config.generator)
    recognizer = config.recognizer and Recognizer.from_pretrained(config.recognizer)
    parser = config.parser and Parser.from_pretrained(config.parser)
    encoder = config.encoder and Encoder.from_pretrained(config.encoder)
    landmarker = config.landmarker and Landmarker.from_pretrained(config.landmarker)
    pipe = StyleEditPipeline(
        generator=generator,
        clip=load_clip(config.clip / "clip"),
        tokenizer=CLIPTokenizer.from_pretrained(config.clip / "tokenizer"),
        image_processor=CLIPImageProcessorPil.from_pretrained(config.clip / "image_processor"),
        recognizer=recognizer,
        parser=parser,
        encoder=encoder,
        landmarker=landmarker,
    )
    latents = pipe.sample(range(64), truncation_psi=0.7)
    full = draw(pipe, latents)
    pipe.to(torch.float16).save_pretrained(
        config.output_dir, overwrite=config.overwrite, safe_serialization=True
    )
    pipe = StyleEditPipeline.from_pretrained(config.output_dir)
    half = draw(pipe, latents)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    metrics = {"half_precision_psnr": psnr(half, full), **measure(pipe, reader, config.count)}
    if config.recognizer is not None:
        on_unseen = json.loads((config.recognizer / "metrics.json").read_text())
        metrics["recognizer"] = {
            **on_unseen,
            "on_samples": recognition_of_samples(pipe, config.count),
        }
    for name in ("parser", "encoder", "landmarker"):
        if (part := getattr(config, name)) is not None:
            metrics[name] = json.loads((part / "metrics.json").read_text())
    write_bytes(config.output_dir / "metrics.json", json.dumps(metrics, indent=1).encode())
    shutil.rmtree(config.output_dir / "images", ignore_errors=True)
    sheets = {
        "samples.webp": image_files.grid(half, columns=8),
        "style-mixing.webp": mixing_sheet(pipe),
    }
    for name, sheet in sheets.items():
        path = config.output_dir / "images" / name
        image_files.save(sheet, path, image_files.SHEET_QUALITY)
    write_bytes(config.output_dir / "README.md", card(pipe, metrics, config).encode())
    print(json.dumps(metrics, indent=1))


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (first - second).square().mean().clamp_min(1e-12)))


@torch.no_grad()
def measure(pipe: StyleEditPipeline, reader: AttributeReader, count: int) -> dict[str, object]:
    """Measure the quality of the samples, and how well CLIP recognizes attributes in them."""
    z = torch.randn(
        count, pipe.generator.config.z_dim, generator=torch.Generator().manual_seed(UNSEEN_SEED)
    )
    truth = portraits_of_z(z)
    generated, rendered, reals = [], [], []
    size = pipe.generator.config.img_resolution
    for start in tqdm(range(0, count, 50), desc="measuring"):
        part = slice(start, start + 50)
        generated.append(draw(pipe, pipe.lower(Latents(Space.Z, z[part]), Space.W_PLUS)))
        rendered.append(render(truth[part], size))
        seeds = range(UNSEEN_SEED + start, UNSEEN_SEED + min(start + 50, count))
        reals.append(render(sample(seeds), size))
    samples, twins, others = torch.cat(generated), torch.cat(rendered), torch.cat(reals)
    features = [
        torch.cat([reader.features(part) for part in images.split(50)])
        for images in (samples, others)
    ]
    spread = [torch.pdist(part[:500]).mean() for part in features]
    reading = reader.read(samples)
    confidence = {name: float(p.amax(1).mean()) for name, p in reading.probabilities.items()}
    agreement = balanced_accuracy(reading.labels, truth.labels)
    values = value_embeddings(pipe.clip, pipe.tokenizer, zero_shot_texts())
    unseen = sample(range(UNSEEN_SEED, UNSEEN_SEED + count)).labels
    clip_renders = zero_shot_accuracy(embed(pipe, others), values, unseen, applicable(unseen))
    clip_samples = zero_shot_accuracy(
        embed(pipe, samples), values, reading.labels, applicable(reading.labels)
    )
    return {
        "count": count,
        "psnr_to_the_portrait_z_stands_for": psnr(samples, twins),
        "frechet_distance_to_renders": frechet_distance(*features),
        "frechet_features": "attribute reader, the layer before its heads",
        "diversity_relative_to_renders": float(spread[0] / spread[1]),
        "reader_confidence": _with_mean(confidence),
        "reader_agreement_with_z": _with_mean(agreement),
        "clip_zero_shot_on_renders": _with_mean(clip_renders),
        "clip_zero_shot_on_samples": _with_mean(clip_samples),
    }


@torch.no_grad()
def recognition_of_samples(pipe: StyleEditPipeline, count: int) -> dict[str, float]:
    """Measure whether the recognizer finds in a sample the identity that its z stands for.

    Each sample is compared with rendered portraits that differ from it in everything but the face
    geometry. One of them has the identity that z stands for; the others have other identities.
    """
    z = torch.randn(
        count, pipe.generator.config.z_dim, generator=torch.Generator().manual_seed(UNSEEN_SEED)
    )
    changed = _same_identities(portraits_of_z(z))
    size = pipe.generator.config.img_resolution
    samples, portraits = [], []
    for start in range(0, count, 50):
        part = slice(start, start + 50)
        pictures = draw(pipe, pipe.lower(Latents(Space.Z, z[part]), Space.W_PLUS))
        samples.append(pipe.recognizer(pictures))
        portraits.append(pipe.recognizer(render(changed[part], size)))
    cosines = torch.cat(samples) @ torch.cat(portraits).T
    same, other = cosines.diagonal(), cosines[~torch.eye(count, dtype=torch.bool)]
    return {
        "same_cosine": float(same.mean()),
        "other_cosine": float(other.mean()),
        "roc_auc": roc_auc(same, other),
    }


def _same_identities(portraits: Portraits) -> Portraits:
    """Portraits of the same identities with other hair, colors, expressions and poses."""
    count, geometry = len(portraits), len(IDENTITY_GAUSSIANS)
    gaussians = sample(range(UNSEEN_SEED, UNSEEN_SEED + count)).gaussians
    gaussians[:, :geometry] = portraits.gaussians[:, :geometry]
    gaussians[:, GAUSSIANS.index("character")] = 0  # makes none of them a named character
    return from_gaussians(gaussians)


def embed(pipe: StyleEditPipeline, pictures: Tensor) -> Tensor:
    """CLIP embeddings of many pictures, a few at a time."""
    return torch.cat([pipe.encode_image(part) for part in pictures.split(50)])


def _with_mean(values: dict[str, float]) -> dict[str, float]:
    return {**values, "mean": sum(values.values()) / len(values)}


@torch.no_grad()
def mixing_sheet(pipe: StyleEditPipeline) -> Image.Image:
    """A style-mixing grid: the first column gives the coarse layers, the first row the others."""
    rows, columns = pipe.sample(range(100, 105)), pipe.sample(range(200, 206))
    blank = torch.ones(1, 3, *[pipe.generator.config.img_resolution] * 2)
    lines = [torch.cat([blank, draw(pipe, columns)])]
    coarse = 5  # layers of 4 to 16 px
    for row in rows:
        codes = columns.codes.clone()
        codes[:, :coarse] = row.codes[:, :coarse]
        mixed = draw(pipe, Latents(Space.W_PLUS, codes))
        lines.append(torch.cat([draw(pipe, row), mixed]))
    return image_files.grid(torch.cat(lines), columns=7)


def card(pipe: StyleEditPipeline, metrics: dict[str, object], config: Config) -> str:
    """The text of the card: purpose, training, measurements and limits."""
    generator = pipe.generator
    size, millions = generator.config.img_resolution, _millions(generator)
    route = textwrap.fill(config.route, 100)

    def number(name: str, digits: int = 2) -> str:
        value = metrics[name]
        assert isinstance(value, float)
        return f"{value:.{digits}f}"

    columns = ("reader_agreement_with_z", "clip_zero_shot_on_renders", "clip_zero_shot_on_samples")
    tables = [metrics[name] for name in columns]
    rows = []
    for name in tables[0]:  # type: ignore[attr-defined]
        cells = " | ".join(f"{table[name]:.2f}" for table in tables)  # type: ignore[index]
        rows.append(f"| {name.replace('_', ' ')} | {cells} |")
    table = "\n".join(rows)
    return f"""---
library_name: stylegan-hub
pipeline_tag: unconditional-image-generation
license: apache-2.0
tags: [stylegan2, clip, portraits, image-editing]
---

# Portraits: a StyleGAN2 and a CLIP for drawn faces

The pictures have {size} px. The generator has {millions:.1f} million parameters, and CLIP has
{_millions(pipe.clip):.1f} million. No face in these pictures is real. The models learn from a
procedural renderer that knows every attribute of every face, so edits can be judged against the
truth.

![64 samples with seeds 0 to 63, truncation 0.7, not selected](images/samples.webp)

```python
import stylegan_hub as hub

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
pipe(seed=7).images[0].save("seven.png")
```

## How it was trained

The generator has the published StyleGAN2 architecture (mapping network, modulated and demodulated
convolutions, skip connections), but it was **not trained adversarially**. Instead it was trained by
the paired route, which is feasible on two CPU cores. In this route, w is a rotated copy of the
renderer's factors. The synthesis network first learned to reproduce the pictures of portraits and
of blends between them (L1, squared error, a Laplacian pyramid and a structural term, with more
weight on the face and on edges). Then the mapping network learned to compute the same w from z. By
projection of its weights, each affine layer was kept blind to some groups of factors (coarse,
medium, fine), and each toRGB layer to all colors. Therefore coarse, medium and fine layers divide
the work. Noise strengths are zero.

{route}

CLIP was trained from scratch on rendered portraits and generated captions. Its loss knows which
captions are true of which pictures. The pictures were strongly augmented, and unnatural pictures
were included, of which no caption of a portrait is true.

To rebuild everything from scratch, run:

```bash
sh recipes/rebuild_portraits.sh
```

## What was measured

These numbers are for {metrics["count"]} samples (truncation 1) and as many renders that no training
has seen. The attribute reader (`cards/attribute-reader`) shares nothing with CLIP.

- Similarity to the portrait that z stands for: PSNR
  {number("psnr_to_the_portrait_z_stands_for", 1)} dB.
- Fréchet distance to renders: {number("frechet_distance_to_renders")}, in the features of the
  layer before the reader's heads. It cannot be compared with an FID in Inception features.
- Diversity (mean distance of two pictures in the same features) relative to renders:
  {number("diversity_relative_to_renders")}.
- Effect of half precision, in which the weights are stored: PSNR
  {number("half_precision_psnr", 1)} dB to full precision.

The table shows the balanced accuracy per attribute. The first column compares what the reader sees
in a sample with what its z stands for. The others are for CLIP's zero-shot answers on unseen
renders (the truth comes from the renderer) and on samples (the truth comes from the reader).

| attribute | reader and z | CLIP, renders | CLIP, samples |
|---|---|---|---|
{table}

![First column: layers of 4 to 16 px; first row: the finer layers](images/style-mixing.webp)
{_recognizer_section(metrics)}{_parser_section(metrics)}{_encoder_section(metrics)}{_landmarker_section(metrics)}
## Intended use and limits

The models are for learning, tests, and research on editing that needs a known truth. Drawn faces
are much simpler than photographs, so results do not carry over to real faces. The pictures show no
real people, and names such as "Milo" are invented. Before you use the same tools on pictures of
people, ask them, and do not pass off an edited face as a real one.
"""


def _recognizer_section(metrics: dict[str, object]) -> str:
    """The section of the card on the recognizer; empty if there is none."""
    measured = metrics.get("recognizer")
    if not isinstance(measured, dict):
        return ""
    clean, changed, samples = (measured[name] for name in ("clean", "augmented", "on_samples"))
    return f"""
## The recognizer

The pipeline holds a small face recognizer, which `recipes/train_recognizer.py` trained with the
loss of ArcFace on rendered portraits. An identity is a face geometry; hair, colors, expression and
pose do not matter. The measurements used {measured["images"]:,} unseen portraits of
{measured["identities"]:,} unseen identities (in parentheses: with blur, noise and shifts). The
verification accuracy is {clean["accuracy"]:.3f} ({changed["accuracy"]:.3f}), and the equal error
rate is {clean["equal_error_rate"]:.3f} ({changed["equal_error_rate"]:.3f}). The mean cosine is
{clean["same_cosine"]:.2f} ({changed["same_cosine"]:.2f}) within an identity and
{clean["other_cosine"]:.2f} ({changed["other_cosine"]:.2f}) between identities.

For samples of the generator, the mean cosine is {samples["same_cosine"]:.2f} to renders of the
identity that z stands for, and {samples["other_cosine"]:.2f} to renders of other identities (area
under the ROC curve {samples["roc_auc"]:.3f}). These renders differ from the sample in everything
but the face geometry.
"""


def _parser_section(metrics: dict[str, object]) -> str:
    """The section of the card on the parser; empty if there is none."""
    measured = metrics.get("parser")
    if not isinstance(measured, dict):
        return ""
    renders, samples = measured["renders"], measured.get("samples")
    on_samples = f", and {samples['mean_iou']:.2f} on samples of the generator" if samples else ""
    parts = textwrap.fill(", ".join(renders["iou"]) + ".", 100)
    return f"""
## The parser

The parser labels the parts of a face (`recipes/train_parser.py`):
{parts}

The mean intersection over union is {renders["mean_iou"]:.2f} on {measured["images"]:,} unseen
portraits{on_samples}. Edits can be limited to a part:
`pipe(seed=7, edits=[...], region="hair")`.
"""


def _encoder_section(metrics: dict[str, object]) -> str:
    """The section of the card on the encoder; empty if there is none."""
    measured = metrics.get("encoder")
    if not isinstance(measured, dict):
        return ""
    own, renders = measured["generated"], measured.get("renders")
    on_renders = ""
    if renders:
        on_renders = textwrap.fill(
            f"On as many renders, the PSNR is {renders['psnr']:.1f} dB, the identity similarity is "
            f"{renders['identity_similarity']:.2f}, and {renders['attributes_kept']:.0%} of the "
            "attributes are kept.",
            100,
        )
    return f"""
## The encoder

The encoder estimates the latent of a picture (`recipes/train_encoder.py`). On
{measured["images"]:,} unseen samples of the generator, the reconstructions have a PSNR of
{own["psnr"]:.1f} dB and an identity similarity of {own["identity_similarity"]:.2f}, and
{own["attributes_kept"]:.0%} of the attributes are kept. The squared error of w, relative to its
variance, is {own["w_error"]:.2f}.
{on_renders}
One pass gives an approximate reconstruction; `pipe.invert(picture, refine=100)` gives a closer one.
"""


def _landmarker_section(metrics: dict[str, object]) -> str:
    """The section of the card on the landmarker; empty if there is none."""
    measured = metrics.get("landmarker")
    if not isinstance(measured, dict):
        return ""
    return f"""
## The landmarker

The landmarker finds drawn faces in larger pictures (`recipes/train_landmarks.py`), at any rotation.
It finds {measured["found"]:.0%} of {measured["faces"]:,} faces in {measured["scenes"]:,} unseen
scenes. The corners of the squares that it finds are off by {measured["corner_error"]:.1%} of the
side on average. Per scene, {measured["wrong_per_scene"]:.2f} squares hold no face. It does not find
faces in photographs.
"""


def _millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


if __name__ == "__main__":
    run(main, Config, __doc__)
