"""Train the attribute reader on drawn portraits; it judges every edit.

    python recipes/render_portraits.py --output_dir runs/portraits
    accelerate launch recipes/train_reader.py --cache runs/portraits --output_dir runs/reader

The 2,000 steps (64,000 pictures) take about 20 minutes on one CPU core. An interrupted run goes on
with --resume_from_checkpoint latest. At the end, the folder `reader/` in the output folder holds
the averaged network, its accuracy on unseen portraits (metrics.json) and a card (README.md).
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.metrics.balanced_accuracy import balanced_accuracy
from stylegan_hub.portraits.attributes import ATTRIBUTES, Portraits, sample
from stylegan_hub.portraits.augment import augment
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.portraits.reader import (
    AttributeReader,
    class_weights,
    reading_loss,
)
from stylegan_hub.portraits.renderer import render
from stylegan_hub.training import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """How the reader is trained and measured."""

    cache: Path
    """Folder made by recipes/render_portraits.py."""
    init_from: Path | None = None
    """Folder of an earlier reader to start from, when the portraits have changed a little."""
    portraits: int = 40_000
    """How many portraits of that folder are learned from."""
    unseen_portraits: int = 2000
    """How many others it is measured on at the end."""
    learning_rate: float = 2e-3
    train_batch_size: int = 32
    max_train_steps: int = 2000
    checkpointing_steps: int = 200
    sample_steps: int = 200


def main(config: Config) -> None:
    cache = RenderCache(config.cache)
    if len(cache) < config.portraits:
        raise SystemExit(
            f"{config.cache} holds {len(cache)} portraits, --portraits asks for {config.portraits};"
            f" draw more with recipes/render_portraits.py, or ask for fewer."
        )
    labels = cache.portraits(range(config.portraits)).labels
    weights = class_weights(labels)
    torch.manual_seed(config.seed)
    if config.init_from is None:
        reader = AttributeReader()
    else:
        reader = AttributeReader.from_pretrained(config.init_from).train()
    reader = reader.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    optimizer = torch.optim.AdamW(reader.parameters(), lr=config.learning_rate, weight_decay=0.02)
    training = Training(
        config,
        {"reader": reader},
        {"reader": optimizer},
        ema={"reader": copy.deepcopy(reader)},
        ema_half_life=50 * config.train_batch_size,
    )
    device = training.accelerator.device

    def step_fn(step: int) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}

        def loss_of(micro: int) -> Tensor:
            chosen = training.indices(step, config.portraits, micro)
            images = image_files.from_uint8(cache.images(chosen))
            images = augment(images, training.generator(step, micro)).to(device)
            truth = {name: values[chosen].to(device) for name, values in labels.items()}
            losses = reading_loss(reader(images), truth, weights)
            parts.update({name: loss.detach() for name, loss in losses.items()})
            return torch.stack(list(losses.values())).sum()

        return {"loss": training.update("reader", loss_of, max_grad_norm=5.0), **parts}

    average = training.ema["reader"]
    assert isinstance(average, AttributeReader)
    watched = unseen(256)

    def on_sample(step: int, folder: Path) -> None:
        accuracy = measure(average, *watched)
        with (folder / "accuracy.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, **accuracy}) + "\n")

    if training.run(step_fn, on_sample) and training.accelerator.is_main_process:
        export(average, config)


def unseen(count: int) -> tuple[Portraits, Tensor]:
    """Portraits that no training sees, and their pictures at 128 px."""
    portraits = sample(range(UNSEEN_SEED, UNSEEN_SEED + count))
    parts = [render(portraits[i : i + 100], 128) for i in range(0, count, 100)]
    return portraits, torch.cat(parts)


def measure(
    reader: AttributeReader, portraits: Portraits, images: Tensor, *, augmented: bool = True
) -> dict[str, float]:
    """Balanced accuracy per attribute, on pictures as they are or changed by `augment`."""
    if augmented:
        generator = torch.Generator().manual_seed(0)
        images = torch.cat([augment(batch, generator) for batch in images.split(100)])
    read = {name: values.cpu() for name, values in reader.read(images).labels.items()}
    return balanced_accuracy(read, portraits.labels)


def export(reader: AttributeReader, config: Config) -> None:
    """Write the folder `reader/`: network, metrics.json and card."""
    folder = config.output_dir / "reader"
    portraits, images = unseen(config.unseen_portraits)
    metrics = {
        "metric": "balanced accuracy",
        "images": config.unseen_portraits,
        "first_seed": UNSEEN_SEED,
        "clean": measure(reader, portraits, images, augmented=False),
        "augmented": measure(reader, portraits, images),
    }
    reader.register_to_config(_name_or_path=None)  # where it lay means nothing elsewhere
    reader.to(memory_format=torch.contiguous_format).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    (folder / "README.md").write_text(card(metrics, reader.num_parameters(), config))
    print(f"The reader is in {folder}.")


def card(metrics: dict[str, object], parameters: int, config: Config) -> str:
    """The reader's card: what it is, how it was trained, how well it reads, where it fails."""
    clean, augmented = metrics["clean"], metrics["augmented"]
    assert isinstance(clean, dict) and isinstance(augmented, dict)
    rows = [
        f"| {name} | {', '.join(values)} | {1 / len(values):.2f} "
        f"| {clean[name]:.3f} | {augmented[name]:.3f} |"
        for name, values in ATTRIBUTES.items()
    ]
    means = [sum(part.values()) / len(part) for part in (clean, augmented)]
    pictures = config.max_train_steps * config.train_batch_size
    start = "From nothing" if config.init_from is None else "From a reader of an earlier renderer"
    return f"""---
library_name: stylegan_hub
pipeline_tag: image-classification
license: apache-2.0
tags: [portraits, attribute-reader]
---

# Attribute reader of the drawn portraits

A small convolutional network ({parameters / 1e6:.2f} M parameters, input 128 px, any other size is
resized) that tells which value of {len(ATTRIBUTES)} attributes a drawn portrait shows. It shares
nothing with CLIP and judges edits: whether the wanted attribute appeared, and which others changed.

```python
from stylegan_hub.portraits.reader import AttributeReader

reader = AttributeReader.from_pretrained("path/to/this/folder")
reading = reader.read(images)  # [n, 3, h, w] in [-1, 1]
reading.words(0), reading.probability("hat", "yes")
```

## Training

{start}, by `recipes/train_reader.py`: {pictures:,} pictures drawn by the renderer (portraits
with seeds 0 to {config.portraits - 1:,}), every one changed at random by `portraits/augment.py`
(small rotation, zoom and shift; blur; low resolution; brightness, contrast, saturation and tint;
noise). The labels are the renderer's own. The loss is the sum over the attributes of cross
entropies that give each value the same weight; the hair color of bald people is left out. AdamW,
cosine schedule, exponential average of the weights, seed {config.seed}.

## Accuracy

Balanced accuracy (mean recall of the values) on {metrics["images"]:,} portraits that were not
trained on (seeds from {metrics["first_seed"]:,}), as drawn and with the same changes as in
training.

| attribute | values | chance | as drawn | changed |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}
| **mean** | | | **{means[0]:.3f}** | **{means[1]:.3f}** |

## Limits

It knows drawn portraits only; on photographs its answers mean nothing. It always chooses one of the
listed values, also where none fits (half a hat, blue skin), so look at the probabilities and at
the pictures. Pictures are expected in the renderer's framing. The column "changed" includes
pictures in which blur has erased what was asked for.
"""


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, description=__doc__, config=(tyro.conf.OmitArgPrefixes,), use_underscores=True
        )
    )
