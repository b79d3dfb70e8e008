"""Train the attribute reader, which judges every edit, on rendered portraits.

    python recipes/render_portraits.py --output_dir runs/portraits
    accelerate launch recipes/train_reader.py --cache runs/portraits --output_dir runs/reader

The 2,000 steps (64,000 pictures) take about 20 minutes on one CPU core. An interrupted run is
continued with --resume_from_checkpoint latest. At the end, the folder `reader/` in the output
folder holds the averaged network, its accuracy on unseen portraits (metrics.json) and a card
(README.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from command_line import run
from network import cached_portraits, log_line, pictures_of, unseen_portraits, write_network
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.metrics.balanced_accuracy import balanced_accuracy
from stylegan_hub.portraits.attributes import ATTRIBUTES, Portraits
from stylegan_hub.portraits.augment import augment
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import (
    AttributeReader,
    class_weights,
    reading_loss,
)
from stylegan_hub.training import NetworkTraining, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings for training and measuring the reader."""

    cache: Path
    """Folder made by recipes/render_portraits.py."""
    init_from: Path | None = None
    """Folder of an earlier reader to start from, if the renderer has changed only a little."""
    portraits: int = 40_000
    """Number of portraits in that folder to train on."""
    unseen_portraits: int = 2000
    """Number of unseen portraits on which the reader is measured at the end."""
    learning_rate: float = 2e-3
    train_batch_size: int = 32
    max_train_steps: int = 2000
    checkpointing_steps: int = 200
    sample_steps: int = 200


def main(config: Config) -> None:
    cache = cached_portraits(config.cache, config.portraits)
    labels = cache.portraits(range(config.portraits)).labels
    weights = class_weights(labels)
    torch.manual_seed(config.seed)
    if config.init_from is None:
        reader = AttributeReader()
    else:
        reader = AttributeReader.from_pretrained(config.init_from).train()
    reader = reader.to(memory_format=torch.channels_last)  # a fifth faster on a CPU
    optimizer = torch.optim.AdamW(reader.parameters(), lr=config.learning_rate, weight_decay=0.02)
    training = NetworkTraining(config, "reader", reader, optimizer)
    device = training.accelerator.device

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        chosen = training.indices(step, config.portraits, micro)
        images = image_files.from_uint8(cache.images(chosen))
        images = augment(images, training.generator(step, micro)).to(device)
        truth = {name: values[chosen].to(device) for name, values in labels.items()}
        return reading_loss(reader(images), truth, weights)

    watched = unseen(256)

    def on_sample(step: int, folder: Path) -> None:
        log_line(folder / "accuracy.jsonl", step, measure(training.average, *watched))

    if training.learn(losses, on_sample):
        export(training.average, config)


def unseen(count: int) -> tuple[Portraits, Tensor]:
    """Portraits that no training has seen, and their pictures at 128 px."""
    portraits = unseen_portraits(count)
    return portraits, pictures_of(portraits, 128)


def measure(
    reader: AttributeReader, portraits: Portraits, images: Tensor, *, augmented: bool = True
) -> dict[str, float]:
    """Balanced accuracy per attribute, on pictures that are unchanged or changed by `augment`."""
    if augmented:
        generator = torch.Generator().manual_seed(0)
        images = torch.cat([augment(batch, generator) for batch in images.split(100)])
    read = {name: values.cpu() for name, values in reader.read(images).labels.items()}
    return balanced_accuracy(read, portraits.labels)


def export(reader: AttributeReader, config: Config) -> None:
    """Write the folder `reader/`: network, metrics.json and card."""
    portraits, images = unseen(config.unseen_portraits)
    metrics = {
        "metric": "balanced accuracy",
        "images": config.unseen_portraits,
        "first_seed": UNSEEN_SEED,
        "clean": measure(reader, portraits, images, augmented=False),
        "augmented": measure(reader, portraits, images),
    }
    text = card(metrics, reader.num_parameters(), config)
    write_network(config.output_dir / "reader", reader, metrics, text)


def card(metrics: dict[str, object], parameters: int, config: Config) -> str:
    """The text of the card: purpose, training, accuracy and limits."""
    clean, augmented = metrics["clean"], metrics["augmented"]
    assert isinstance(clean, dict) and isinstance(augmented, dict)
    rows = [
        f"| {name} | {', '.join(values)} | {1 / len(values):.2f} "
        f"| {clean[name]:.3f} | {augmented[name]:.3f} |"
        for name, values in ATTRIBUTES.items()
    ]
    means = [sum(part.values()) / len(part) for part in (clean, augmented)]
    pictures = config.max_train_steps * config.train_batch_size
    start = "from scratch" if config.init_from is None else "from a reader for an earlier renderer"
    return f"""---
library_name: stylegan-hub
pipeline_tag: image-classification
license: apache-2.0
tags: [portraits, attribute-reader]
---

# Attribute reader for the drawn portraits

A small convolutional network ({parameters / 1e6:.2f} M parameters; pictures are resized to 128 px)
that predicts the values of the {len(ATTRIBUTES)} attributes of a drawn portrait. It shares nothing
with CLIP and judges edits: whether the wanted attribute appeared, and which others changed.

```python
from stylegan_hub.portraits.reader import AttributeReader

reader = AttributeReader.from_pretrained("path/to/this/folder")
reading = reader.read(images)  # [n, 3, h, w] in [-1, 1]
reading.words(0), reading.probability("hat", "yes")
```

## Training

The reader was trained {start} by `recipes/train_reader.py`, on {pictures:,} pictures of rendered
portraits (seeds 0 to {config.portraits - 1:,}). Each picture was changed at random by
`portraits/augment.py` (small rotation, zoom and shift; blur; low resolution; brightness, contrast,
saturation and tint; noise). The labels come from the renderer. The loss is the sum over the
attributes of cross entropies in which each value has the same weight; attributes that are not
visible, such as the hair color of bald heads, are left out. The training used AdamW, a cosine
schedule, an exponential average of the weights, and seed {config.seed}.

## Accuracy

The table shows the balanced accuracy (mean recall of the values) on {metrics["images"]:,} unseen
portraits (seeds from {metrics["first_seed"]:,}), unchanged and with the same changes as in
training.

| attribute | values | chance | unchanged | changed |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}
| **mean** | | | **{means[0]:.3f}** | **{means[1]:.3f}** |

## Limits

The reader knows only drawn portraits; on photographs its answers mean nothing. It always chooses
one of the listed values, even if none fits (half a hat, blue skin), so look at the probabilities
and at the pictures too. It expects pictures in the renderer's framing. The column "changed"
includes pictures in which blur has erased the attribute.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
