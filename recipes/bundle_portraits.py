"""Assemble the trained parts of the portraits domain into one pipeline folder, and measure them.

    python recipes/bundle_portraits.py --generator runs/generator/generator --clip runs/clip \\
        --recognizer runs/recognizer/recognizer --parser runs/parser/parser \\
        --encoder runs/encoder/encoder --landmarker runs/landmarks/landmarker \\
    --output_dir cards/portraits

Weights are stored in half precision; metrics.json says how far the pictures are from those in full
precision. Everything is measured on seeds that no training has seen.
"""

from __future__ import annotations

import json
import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

import torch
from command_line import run
from torch import Tensor
from tqdm import tqdm
from transformers import CLIPImageProcessorPil, CLIPTokenizer

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import check_room, write_bytes
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.balanced_accuracy import balanced_accuracy
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
    """What the pipeline consists of."""

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
    """Bundled name or folder of the attribute reader that measures."""
    output_dir: Path
    """Pipeline folder to write."""
    count: int = 2000
    """How many samples are compared with how many renders."""
    route: str = ""
    """A sentence for the card about how the generator was trained, after the standard text."""
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
    people = pipe.sample(range(64), truncation_psi=0.7)
    full = draw(pipe, people)
    pipe.to(torch.float16).save_pretrained(
        config.output_dir, overwrite=config.overwrite, safe_serialization=True
    )
    pipe = StyleEditPipeline.from_pretrained(config.output_dir)
    half = draw(pipe, people)
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
    image_files.save(image_files.grid(half, columns=8), config.output_dir / "images/samples.webp")
    image_files.save(mixing_sheet(pipe), config.output_dir / "images/style-mixing.webp")
    write_bytes(config.output_dir / "README.md", card(pipe, metrics, config).encode())
    print(json.dumps(metrics, indent=1))


@torch.no_grad()
def draw(pipe: StyleEditPipeline, latents: Latents) -> Tensor:
    """Pictures in [-1, 1], a few at a time."""
    parts = [pipe.synthesize(Latents(latents.space, codes)) for codes in latents.codes.split(16)]
    return torch.cat(parts).clamp(-1, 1)


def psnr(first: Tensor, second: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return float(10 * torch.log10(4 / (first - second).square().mean().clamp_min(1e-12)))


@torch.no_grad()
def measure(pipe: StyleEditPipeline, reader: AttributeReader, count: int) -> dict[str, object]:
    """Measure how good the samples are, and how well CLIP recognizes attributes in them."""
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
        seeds = range(UNSEEN_SEED + start, UNSEEN_SEED + min(start + 50, count))
        reals.append(render(sample(seeds), size))
    samples, twins, others = torch.cat(drawn), torch.cat(rendered), torch.cat(reals)
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
    """Measure whether the recognizer finds in a sample the person that its z stands for.

    Each sample is compared with drawn portraits that differ from it in everything but the face
    geometry: one of the person that z stands for, and those of all others.
    """
    z = torch.randn(
        count, pipe.generator.config.z_dim, generator=torch.Generator().manual_seed(UNSEEN_SEED)
    )
    redrawn = _drawn_anew(portraits_of_z(z))
    size = pipe.generator.config.img_resolution
    samples, portraits = [], []
    for start in range(0, count, 50):
        part = slice(start, start + 50)
        drawn = draw(pipe, pipe.lower(Latents(Space.Z, z[part]), Space.W_PLUS))
        samples.append(pipe.recognizer(drawn))
        portraits.append(pipe.recognizer(render(redrawn[part], size)))
    cosines = torch.cat(samples) @ torch.cat(portraits).T
    same, other = cosines.diagonal(), cosines[~torch.eye(count, dtype=torch.bool)]
    return {
        "same_cosine": float(same.mean()),
        "other_cosine": float(other.mean()),
        "roc_auc": roc_auc(same, other),
    }


def _drawn_anew(portraits: Portraits) -> Portraits:
    """The same people with other hair, colors, mood and pose."""
    count, geometry = len(portraits), len(IDENTITY_GAUSSIANS)
    gaussians = sample(range(UNSEEN_SEED, UNSEEN_SEED + count)).gaussians
    gaussians[:, :geometry] = portraits.gaussians[:, :geometry]
    gaussians[:, GAUSSIANS.index("character")] = 0  # no face becomes a named character
    return from_gaussians(gaussians)


def embed(pipe: StyleEditPipeline, pictures: Tensor) -> Tensor:
    """CLIP embeddings, a few pictures at a time."""
    return torch.cat([pipe.encode_image(part) for part in pictures.split(50)])


def _with_mean(values: dict[str, float]) -> dict[str, float]:
    return {**values, "mean": sum(values.values()) / len(values)}


@torch.no_grad()
def mixing_sheet(pipe: StyleEditPipeline) -> object:
    """Rows take coarse layers (4 to 16 px) from the first picture, columns the other layers."""
    rows, columns = pipe.sample(range(100, 105)), pipe.sample(range(200, 206))
    blank = torch.ones(1, 3, *[pipe.generator.config.img_resolution] * 2)
    lines = [torch.cat([blank, draw(pipe, columns)])]
    coarse = 5
    for row in rows:
        codes = columns.codes.clone()
        codes[:, :coarse] = row.codes[:, :coarse]
        lines.append(torch.cat([draw(pipe, row), draw(pipe, Latents(Space.W_PLUS, codes))]))
    return image_files.grid(torch.cat(lines), columns=7)


def card(pipe: StyleEditPipeline, metrics: dict[str, object], config: Config) -> str:
    """The model card: purpose, training, measurements and limits."""
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

{size} px, {millions:.1f} million parameters in the generator and {_millions(pipe.clip):.1f} million
in CLIP. No face in these pictures is real: they are learned from a procedural renderer, which knows
every attribute of every face, so that edits can be judged against the truth.

![64 samples with seeds 0 to 63, truncation 0.7, not selected](images/samples.webp)

```python
import stylegan_hub as hub

pipe = hub.StyleEditPipeline.from_pretrained("portraits")
pipe(seed=7).images[0].save("seven.png")
```

## How it was trained

The generator is a published StyleGAN2 (mapping, modulated and demodulated convolutions, skip
connections), but it was **not trained adversarially**. It took the paired route, which two CPU
cores can afford: the renderer's factors were encoded into w, the synthesis network learned to
reproduce the picture (L1, squared error, Laplacian pyramid, more weight on the face), and then the
mapping network learned to reach the same w from z. Each affine layer was kept blind to some groups
of factors (coarse, medium, fine), and toRGB layers to all colors, by projecting its weights; that
is why coarse, medium and fine layers divide the work. Noise strengths are zero.

{route}

CLIP was trained from scratch on drawn portraits and generated captions, with a loss that knows
which captions are true of which pictures, under strong augmentation and against unnatural pictures.

Rebuild it:

```bash
python recipes/render_portraits.py --output_dir runs/portraits-128
accelerate launch recipes/train_generator.py paired --stage synthesis --cache runs/portraits-128 \\
    --output_dir runs/synthesis
accelerate launch recipes/train_generator.py paired --stage mapping --init_from runs/synthesis \\
    --max_train_steps 4000 --lr_scheduler cosine --output_dir runs/mapping
accelerate launch recipes/train_generator.py paired --stage together --cache runs/portraits-128 \\
    --init_from runs/mapping --output_dir runs/generator
accelerate launch recipes/train_clip.py --cache runs/portraits-128 --output_dir runs/clip
accelerate launch recipes/train_reader.py --cache runs/portraits-128 --output_dir runs/reader
python recipes/render_portraits.py --identities 4000 --output_dir runs/identities-128
accelerate launch recipes/train_recognizer.py --cache runs/identities-128 \\
    --output_dir runs/recognizer
accelerate launch recipes/train_parser.py --output_dir runs/parser
accelerate launch recipes/train_encoder.py --output_dir runs/encoder
accelerate launch recipes/train_landmarks.py --output_dir runs/landmarks
python recipes/bundle_portraits.py --generator runs/generator/generator --clip runs/clip \\
    --recognizer runs/recognizer/recognizer --parser runs/parser/parser \\
    --encoder runs/encoder/encoder --landmarker runs/landmarks/landmarker \\
    --reader runs/reader/reader --output_dir cards/portraits
```

## What was measured

On {metrics["count"]} samples (truncation 1) and renders that no training has seen; the attribute
reader (`cards/attribute-reader`) shares nothing with CLIP.

- Distance to the portrait that z stands for: PSNR
  {number("psnr_to_the_portrait_z_stands_for", 1)} dB.
- Fréchet distance to renders: {number("frechet_distance_to_renders")}, features: the layer
  before the reader's heads. It does not compare with an FID on Inception features.
- Diversity (mean distance of two pictures in the same features) relative to renders:
  {number("diversity_relative_to_renders")}.
- Weights are stored in half precision: PSNR {number("half_precision_psnr", 1)} dB to full
  precision.

Balanced accuracy per attribute: what the reader sees in a sample against what its z stands for; and
CLIP's zero-shot answer on unseen renders (truth: the renderer) and on samples (truth: the reader).

| attribute | reader and z | CLIP, renders | CLIP, samples |
|---|---|---|---|
{table}

![Rows give layers 4 to 16 px, columns the finer ones](images/style-mixing.webp)
{_recognizer_section(metrics)}{_parser_section(metrics)}{_encoder_section(metrics)}{_landmarker_section(metrics)}
## Intended use and limits

For learning, for tests and for research on editing where the truth must be known. Drawn faces are
much simpler than photographs; a result here promises nothing for real ones. The drawings show
no real people: names such as "Milo" are made up. When you use the same tools on pictures of people,
ask them first, and do not pass off an edited face as the real one.
"""


def _recognizer_section(metrics: dict[str, object]) -> str:
    """The card's section on the recognizer; empty if there is none."""
    measured = metrics.get("recognizer")
    if not isinstance(measured, dict):
        return ""
    clean, changed, samples = (measured[name] for name in ("clean", "augmented", "on_samples"))
    return f"""
## The recognizer

The pipeline holds a small face recognizer, trained by `recipes/train_recognizer.py` on drawn people
with ArcFace's loss. A person is a face geometry; hair, colors, mood and pose do not matter. On
{measured["images"]:,} portraits of {measured["identities"]:,} people that it has not seen, as drawn
(and under blur, noise and shifts): verification accuracy {clean["accuracy"]:.3f}
({changed["accuracy"]:.3f}), equal error rate {clean["equal_error_rate"]:.3f}
({changed["equal_error_rate"]:.3f}), mean cosine of the same person {clean["same_cosine"]:.2f}
({changed["same_cosine"]:.2f}) and of others {clean["other_cosine"]:.2f}
({changed["other_cosine"]:.2f}).

On the generator's samples: the cosine of a sample and a drawing of the person that its z stands for
is {samples["same_cosine"]:.2f} on average, of others {samples["other_cosine"]:.2f} (area under the
ROC curve {samples["roc_auc"]:.3f}); the drawings differ in all but the face geometry.
"""


def _parser_section(metrics: dict[str, object]) -> str:
    """The card's section on the parser; empty if there is none."""
    measured = metrics.get("parser")
    if not isinstance(measured, dict):
        return ""
    renders, samples = measured["renders"], measured.get("samples")
    on_samples = f"; on samples of the generator {samples['mean_iou']:.2f}" if samples else ""
    parts = textwrap.fill(", ".join(renders["iou"]) + ".", 100)
    return f"""
## The parser

It labels the parts of a face (`recipes/train_parser.py`):
{parts}

Mean intersection over union on {measured["images"]:,} portraits that it has not seen
{renders["mean_iou"]:.2f}{on_samples}. Edits can be kept inside a part:
`pipe(seed=7, edits=[...], region="hair")`.
"""


def _encoder_section(metrics: dict[str, object]) -> str:
    """The card's section on the encoder; empty if there is none."""
    measured = metrics.get("encoder")
    if not isinstance(measured, dict):
        return ""
    own, renders = measured["generated"], measured.get("renders")
    on_renders = ""
    if renders:
        on_renders = textwrap.fill(
            f"On as many renders: PSNR {renders['psnr']:.1f} dB, identity similarity "
            f"{renders['identity_similarity']:.2f}, attributes kept "
            f"{renders['attributes_kept']:.2f}.",
            100,
        )
    return f"""
## The encoder

It estimates a picture's latent (`recipes/train_encoder.py`). On {measured["images"]:,} pictures
of the generator that it has not seen: PSNR of the pictures rendered from it {own["psnr"]:.1f} dB,
identity similarity {own["identity_similarity"]:.2f}, attributes kept {own["attributes_kept"]:.2f},
error in w {own["w_error"]:.2f} of the variance of w.
{on_renders}
One pass gives a likeness; `pipe.invert(picture, refine=100)` comes closer.
"""


def _landmarker_section(metrics: dict[str, object]) -> str:
    """The card's section on the landmarker; empty if there is none."""
    measured = metrics.get("landmarker")
    if not isinstance(measured, dict):
        return ""
    return f"""
## The landmarker

It finds drawn faces in larger pictures (`recipes/train_landmarks.py`), at any rotation. Of
{measured["faces"]:,} faces in {measured["scenes"]:,} scenes that it has not seen it finds
{measured["found"]:.0%}, with corners {measured["corner_error"]:.1%} of the side off on average, and
{measured["wrong_per_scene"]:.2f} squares per scene without a face. It does not find people in
photographs.
"""


def _millions(module: torch.nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


if __name__ == "__main__":
    run(main, Config, __doc__)
