"""Train the parser of the drawn portraits, which labels every pixel with a part of the face.

    accelerate launch recipes/train_parser.py --output_dir runs/parser --mixed_precision bf16

Portraits and their masks are drawn during the training, which takes a fifth of its time. The 2,500
steps (40,000 pictures) take 15 to 20 minutes on one CPU core with bf16. An interrupted run is
continued with --resume_from_checkpoint latest. At the end, the folder `parser/` in the output
folder holds the averaged network, its intersection over union per part (metrics.json) on unseen
renders and on samples of a pipeline's generator, and a card (README.md).

Several processes share a batch, but each normalizes its own share of it (batch normalization), so
their result is not exactly that of one process.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from command_line import run
from jaxtyping import Float, Int
from network import log_line, unseen_portraits, write_network
from torch import Generator, Tensor

from stylegan_hub import images as image_files
from stylegan_hub.models.parser import Parser
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.augment import (
    blur,
    color_jitter,
    low_resolution,
    noise,
    random_affine,
    sometimes,
)
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.paired import portraits_of_z
from stylegan_hub.portraits.renderer import PARTS, render_with_masks
from stylegan_hub.training import NetworkTraining, TrainingConfig, training_device

# OHEM of the public training: a pixel is hard while its part has a probability below this.
_EASY = 0.7
# At least this share of every picture's pixels counts, however easy they are.
_LEAST_SHARE = 1 / 16


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """How to build, train and measure the parser."""

    resolution: int = 128
    """Size of the pictures and of the network's input."""
    width: int = 16
    """Channels of the first stage; 64 in the public face parser."""
    stem_stride: int = 2
    """Pixels per feature of the first stage; 4 in the public face parser, for 512 px."""
    pipeline: str | None = "portraits"
    """Bundled name, folder or Hub id of the pipeline on whose samples it is also measured. None:
    only on renders."""
    unseen_portraits: int = 500
    """Number of portraits, and of samples, on which it is measured at the end."""
    train_batch_size: int = 16
    max_train_steps: int = 2500
    learning_rate: float = 4e-3
    checkpointing_steps: int = 250
    sample_steps: int = 250


def main(config: Config) -> None:
    torch.manual_seed(config.seed)
    parser = Parser(
        parts=PARTS,
        width=config.width,
        input_size=config.resolution,
        stem_stride=config.stem_stride,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(parser.parameters(), lr=config.learning_rate, weight_decay=0.02)
    training = NetworkTraining(config, "parser", parser, optimizer)
    device = training.accelerator.device

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        seeds = training.indices(step, UNSEEN_SEED, micro)
        images, masks = render_with_masks(sample(seeds.tolist()), config.resolution)
        images, masks = augment_with_masks(images, masks, training.generator(step, micro))
        images, masks = images.to(device), masks.to(device)
        outputs = parser.outputs(parser.preprocess(images))
        names = ("fine", "medium", "coarse")
        return {
            name: hard_pixel_loss(logits.float(), masks)
            for name, logits in zip(names, outputs, strict=True)
        }

    watched = render_with_masks(unseen_portraits(64), config.resolution)

    def on_sample(step: int, folder: Path) -> None:
        images, masks = watched
        predicted = predict(training.average, images)
        values = part_iou(predicted, masks, len(PARTS))
        log_line(folder / "iou.jsonl", step, {"mean_iou": mean_iou(values), **named(values)})
        sheet = torch.cat([images[:8], paint(predicted[:8]), paint(masks[:8])])
        image_files.save(image_files.grid(sheet, columns=8), folder / f"step-{step:06}.png")

    if training.learn(losses, on_sample):
        export(training.average, config)


def augment_with_masks(
    images: Float[Tensor, "n 3 h w"], masks: Int[Tensor, "n h w"], generator: Generator
) -> tuple[Float[Tensor, "n 3 h w"], Int[Tensor, "n h w"]]:
    """Change pictures at random, like the reader's but with larger moves, and masks with them.

    A mask takes its part from the pixel nearest to the place where `random_affine` takes the color:
    the coordinates are moved as a second batch of pictures, with the same random numbers.
    """
    moves: dict[str, float] = dict(degrees=10.0, scale=0.06, shift=0.06)
    same_draws = generator.clone_state()
    height, width = images.shape[2:]
    x = (torch.arange(width) + 0.5) * (2 / width) - 1  # the coordinates of grid_sample
    y = (torch.arange(height) + 0.5) * (2 / height) - 1
    places = torch.stack([x.expand(height, width), y[:, None].expand(height, width)])
    places = torch.cat([places, torch.zeros(1, height, width)]).expand(len(images), -1, -1, -1)
    images = random_affine(images, generator, **moves)
    moved = random_affine(places, same_draws, **moves)[:, :2].permute(0, 2, 3, 1)  # [n, h, w, 2]
    numbers = masks[:, None].to(images.dtype)
    nearest = F.grid_sample(numbers, moved, mode="nearest", align_corners=False)
    images = sometimes(blur, images, generator, 0.4)
    images = sometimes(low_resolution, images, generator, 0.3)
    images = sometimes(color_jitter, images, generator, 0.8)
    images = sometimes(noise, images, generator, 0.5)
    return images, nearest[:, 0].round().to(masks.dtype)


def hard_pixel_loss(logits: Float[Tensor, "n parts h w"], masks: Int[Tensor, "n h w"]) -> Tensor:
    """Cross entropy over the hard pixels of every picture (OHEM), a mean over the pictures.

    Pixels are hard if their part has a probability below 0.7; the hardest sixteenth always counts.
    Most of a picture is background and hair, which are learned soon, while eyes and lips are a few
    pixels.
    """
    losses = F.cross_entropy(logits, masks, reduction="none").flatten(1)  # [n, h * w]
    least = max(1, round(_LEAST_SHARE * losses.shape[1]))
    kept_anyway = losses.detach().topk(least, dim=1).values[:, -1:]
    is_hard = losses.detach() >= kept_anyway.clamp_max(-math.log(_EASY))
    return ((losses * is_hard).sum(1) / is_hard.sum(1)).mean()


def predict(parser: Parser, images: Float[Tensor, "n 3 h w"]) -> Int[Tensor, "n h w"]:
    """The parser's labels, in batches."""
    return torch.cat([parser.labels(batch.to(parser.device)).cpu() for batch in images.split(50)])


def part_iou(
    predicted: Int[Tensor, "n h w"], truth: Int[Tensor, "n h w"], count: int
) -> Float[Tensor, " count"]:
    """Intersection over union per part, over the pixels of all pictures; NaN if it never occurs."""
    pairs = (truth * count + predicted).flatten().bincount(minlength=count**2)
    table = pairs.reshape(count, count).double()  # rows: truth
    both = table.diagonal()
    return both / (table.sum(0) + table.sum(1) - both)


def mean_iou(values: Float[Tensor, " parts"]) -> float:
    """Mean over the parts that occur."""
    return float(values.nanmean())


def named(values: Float[Tensor, " parts"]) -> dict[str, float | None]:
    """As JSON; parts that occur nowhere are null."""
    pairs = zip(PARTS, values.tolist(), strict=True)
    return {part: None if math.isnan(value) else value for part, value in pairs}


def paint(masks: Int[Tensor, "n h w"]) -> Float[Tensor, "n 3 h w"]:
    """Masks as pictures, a color for every part."""
    colors = [colorsys.hsv_to_rgb(0.618 * i, 0.75, 1.0 - 0.1 * (i % 4)) for i in range(len(PARTS))]
    colors[0] = (1.0, 1.0, 1.0)
    return (2 * torch.tensor(colors) - 1)[masks].permute(0, 3, 1, 2)


def export(parser: Parser, config: Config) -> None:
    """Write the folder `parser/`: network, metrics.json, pictures and card."""
    parser.to(memory_format=torch.contiguous_format)
    count, size = config.unseen_portraits, config.resolution
    images, masks = render_with_masks(unseen_portraits(count), size)
    metrics: dict[str, Any] = {
        "metric": "intersection over union, pixels of all pictures together",
        "images": count,
        "first_seed": UNSEEN_SEED,
        "resolution": size,
        "renders": measured(predict(parser, images), masks),
    }
    sheet = [images[:8], paint(predict(parser, images[:8])), paint(masks[:8])]
    generator = torch.Generator().manual_seed(UNSEEN_SEED)
    changed, changed_masks = augment_with_masks(images, masks, generator)
    metrics["changed_renders"] = measured(predict(parser, changed), changed_masks)
    if config.pipeline is not None:
        pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
        samples, sample_masks = generated(pipe, range(UNSEEN_SEED, UNSEEN_SEED + count), size)
        metrics["samples"] = measured(predict(parser, samples), sample_masks)
        metrics["pipeline"] = {"name": pipe.name, "fingerprint": pipe.base_model.fingerprint}
        sheet += [samples[:8], paint(predict(parser, samples[:8])), paint(sample_masks[:8])]
    text = card(metrics, parser.num_parameters(), config)
    pictures = {"parts.png": image_files.grid(torch.cat(sheet), columns=8)}
    write_network(config.output_dir / "parser", parser, metrics, text, pictures)


def measured(predicted: Int[Tensor, "n h w"], truth: Int[Tensor, "n h w"]) -> dict[str, Any]:
    values = part_iou(predicted, truth, len(PARTS))
    accuracy = float((predicted == truth).double().mean())
    return {"mean_iou": mean_iou(values), "pixel_accuracy": accuracy, "iou": named(values)}


@torch.no_grad()
def generated(
    pipe: StyleEditPipeline, seeds: Sequence[int], resolution: int
) -> tuple[Float[Tensor, "n 3 h w"], Int[Tensor, "n h w"]]:
    """Samples without truncation, and the masks of the portraits that their z stand for."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    z = torch.stack([torch.randn(pipe.generator.config.z_dim, generator=draw) for draw in draws])
    images = torch.cat([pipe.generator(part.to(pipe.device)).cpu() for part in z.split(50)])
    images = image_files.resize(images.clamp(-1, 1), resolution)
    return images, render_with_masks(portraits_of_z(z), resolution)[1]


def card(metrics: Mapping[str, Any], parameters: int, config: Config) -> str:
    """The card: purpose, training, quality and limits."""
    columns = {
        "unseen renders": metrics["renders"],
        "changed renders": metrics["changed_renders"],
    }
    if "samples" in metrics:
        columns["samples of the generator"] = metrics["samples"]
    rows = [
        f"| {part} | {' | '.join(_number(column['iou'][part]) for column in columns.values())} |"
        for part in PARTS
    ]
    means = " | ".join(f"**{column['mean_iou']:.3f}**" for column in columns.values())
    pixels = " | ".join(f"{column['pixel_accuracy']:.3f}" for column in columns.values())
    samples = ""
    if "samples" in metrics:
        samples = (
            f" Samples are {metrics['images']:,} pictures of `{metrics['pipeline']['name']}` "
            f"(generator {metrics['pipeline']['fingerprint']}) without truncation; their truth is "
            "the masks of the portraits that their z stand for, so what the generator renders in "
            "another place counts as an error of the parser."
        )
    pictures = config.max_train_steps * config.train_batch_size
    return f"""---
library_name: stylegan-hub
pipeline_tag: image-segmentation
license: apache-2.0
tags: [portraits, face-parsing]
---

# Parser of the drawn portraits

It says for every pixel which part of a face it shows. BiSeNet (Yu et al. 2018) with
{parameters / 1e6:.2f} M parameters; pictures of any size are resized to {config.resolution} px.

```python
from stylegan_hub.models.parser import Parser

parser = Parser.from_pretrained("path/to/this/folder")
masks = parser.masks(images)  # [n, 3, h, w] in [-1, 1] -> [n, {len(PARTS)}, h, w], soft
masks[:, parser.index("hair")], parser.parts
```

## Training

From scratch, by `recipes/train_parser.py`: {pictures:,} pictures drawn by the renderer with its own
masks, every one changed at random, the masks along with it (rotation, zoom and shift; blur; low
resolution; brightness, contrast, saturation and tint; noise). Cross entropy over the hard pixels
(OHEM) at three depths, AdamW, cosine schedule, exponential average of the weights, seed
{config.seed}, precision "{config.mixed_precision}".

## How well it parses

Intersection over union on {metrics["images"]:,} portraits that were not trained on (seeds from
{metrics["first_seed"]:,}), as drawn and with the same changes as in training.{samples}

| part | {" | ".join(columns)} |
| --- |{" --- |" * len(columns)}
{chr(10).join(rows)}
| **mean** | {means} |
| pixels that are right | {pixels} |

![Pictures, what the parser sees, the truth](images/parts.png)

## Limits

It knows drawn portraits only; on photographs its answers mean nothing. Parts of a few pixels
(brows, glasses, lips) have soft borders.
"""


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    run(main, Config, __doc__)
