"""Train the recognizer on drawn people; it says whether an edit has kept the identity.

    python recipes/render_portraits.py --identities 4000 --output_dir runs/identities
    accelerate launch recipes/train_recognizer.py --cache runs/identities \\
        --output_dir runs/recognizer --mixed_precision bf16

A person is a face geometry: sizes and places of eyes, nose, mouth, brows and jaw. Everything else
(hair, colors, mood, pose, glasses, ...) changes from picture to picture of the same person. The
2,000 steps (128,000 pictures) take about 20 minutes on one CPU core. An interrupted run is
continued with --resume_from_checkpoint latest. At the end, the folder `recognizer/` in the output
folder holds the averaged network, its measurements on people that it never saw (metrics.json) and a
card (README.md); `bundle_portraits.py --recognizer` puts it into the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from command_line import run
from network import cached_portraits, log_line, pictures_of, write_network
from torch import Tensor, nn

from stylegan_hub import images as image_files
from stylegan_hub.losses import arcface_loss
from stylegan_hub.metrics.verification import verification
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.optimizers import Muon
from stylegan_hub.portraits.attributes import (
    CHARACTERS,
    GAUSSIANS,
    IDENTITY_GAUSSIANS,
    Portraits,
    sample,
)
from stylegan_hub.portraits.augment import augment, sometimes
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.training import NetworkTraining, TrainingConfig

_PICTURES = 4  # pictures of each person that is measured
_GEOMETRY = [GAUSSIANS.index(name) for name in IDENTITY_GAUSSIANS]


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """How to build, train and measure the recognizer."""

    cache: Path
    """Folder made by recipes/render_portraits.py with --identities."""
    portraits: int = 40_000
    """Number of portraits of that folder to learn from."""
    units: tuple[int, ...] = (1, 1, 2)
    """Residual units of each stage; 3 4 14 3 is IR-SE50."""
    widths: tuple[int, ...] = (32, 64, 96)
    """Channels of each stage."""
    input_stride: int = 2
    """Stride of the first convolution; 1 sees finer details in four times the time."""
    embedding_dim: int = 128
    """Length of an embedding."""
    margin: float = 0.2
    """ArcFace's angular margin in radians."""
    scale: float = 20.0
    """Scale of ArcFace's cosines."""
    geometry_lambda: float = 20.0
    """Weight of the auxiliary loss: the numbers of the face geometry, read from the embedding."""
    unseen_identities: int = 500
    """Number of other people on which it is measured at the end, with four pictures each."""
    learning_rate: float = 4e-3
    train_batch_size: int = 64
    max_train_steps: int = 2000
    checkpointing_steps: int = 200
    sample_steps: int = 200


class Head(nn.Module):
    """What only the training needs: a center for each person, and the geometry."""

    def __init__(self, people: int, embedding_dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(people, embedding_dim))
        self.geometry = nn.Linear(embedding_dim, len(IDENTITY_GAUSSIANS))


def main(config: Config) -> None:
    if RenderCache(config.cache).identities is None:
        raise SystemExit(
            f"{config.cache} holds one portrait of each person, but a recognizer learns from "
            "several. Render some with recipes/render_portraits.py --identities 4000."
        )
    cache = cached_portraits(config.cache, config.portraits)
    portraits = cache.portraits(range(config.portraits))
    # The named characters come last; their identities count down from -2.
    nobody = portraits.character < 0
    person = torch.where(nobody, portraits.identity, cache.identities + portraits.character)
    geometry = portraits.gaussians[:, _GEOMETRY].clamp(-2.2, 2.2)  # as the renderer does
    torch.manual_seed(config.seed)
    recognizer = Recognizer(
        units=config.units, widths=config.widths, input_size=cache.resolution,
        embedding_dim=config.embedding_dim, input_stride=config.input_stride, crop=None,
        reduction=8, dropout=0.0,
    ).to(memory_format=torch.channels_last)  # fmt: skip
    head = Head(cache.identities + len(CHARACTERS), config.embedding_dim)
    optimizer = Muon(*_split(recognizer, head), lr=config.learning_rate)
    training = NetworkTraining(config, "recognizer", recognizer, optimizer, beside={"head": head})
    device = training.accelerator.device

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        chosen = training.indices(step, config.portraits, micro)
        images = image_files.from_uint8(cache.images(chosen))
        # Blur and noise hide small differences between people, so half of the pictures stay
        # unchanged.
        images = sometimes(augment, images, training.generator(step, micro), 0.5).to(device)
        embedding = recognizer(images.contiguous(memory_format=torch.channels_last))
        who = person[chosen].to(device)
        arcface = arcface_loss(embedding, head.centers, who, config.margin, config.scale).mean()
        # Unit length makes numbers small; the characters' own geometry is not in their numbers.
        read = head.geometry(config.embedding_dim**0.5 * embedding)
        squared = F.mse_loss(read, geometry[chosen].to(device), reduction="none").mean(1)
        error = (squared * nobody[chosen].to(device)).mean()
        loss = arcface + config.geometry_lambda * error
        return {"loss": loss, "arcface": arcface, "geometry": error}

    watched = Unseen.draw(100, cache.resolution)

    def on_sample(step: int, folder: Path) -> None:
        log_line(folder / "verification.jsonl", step, measure(training.average, watched))

    if training.learn(losses, on_sample):
        export(training.average, cache, config)


def _split(recognizer: Recognizer, head: Head) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What Muon updates, the weights between features, and all other parameters."""
    inner = [*recognizer.body.parameters(), *recognizer.output_layer.parameters()]
    matrices = [parameter for parameter in inner if parameter.ndim > 1]
    others = [*recognizer.input_layer.parameters(), *head.parameters()]
    return matrices, others + [parameter for parameter in inner if parameter.ndim == 1]


@dataclass(frozen=True)
class Unseen:
    """People that no training sees.

    Attributes:
        portraits: four portraits of each person, one after the other.
        images: their pictures, `[n, 3, size, size]`.
        lookalikes: of each person's first portrait, the picture of another person who is drawn
            with the same hair, colors, mood, pose, ...: all but the face geometry.
    """

    portraits: Portraits
    images: Tensor
    lookalikes: Tensor

    @classmethod
    def draw(cls, count: int, resolution: int) -> Unseen:
        """`count` people; named characters, which the training has seen, are replaced."""
        free = (seed for seed in range(UNSEEN_SEED, 2 * UNSEEN_SEED) if _is_nobody(seed))
        seeds = [next(free) for _ in range(_PICTURES * count)]
        people = [UNSEEN_SEED + index // _PICTURES for index in range(len(seeds))]
        others = [UNSEEN_SEED + count + index for index in range(count)]
        portraits = sample(seeds, people)
        return cls(
            portraits,
            pictures_of(portraits, resolution),
            pictures_of(sample(seeds[::_PICTURES], others), resolution),
        )


def _is_nobody(seed: int) -> bool:
    return int(sample([seed]).character) < 0


@torch.no_grad()
def measure(recognizer: Recognizer, unseen: Unseen, *, augmented: bool = True) -> dict[str, float]:
    """Verification over all pairs, and `lookalikes_told_apart`.

    The latter is the share of people who are closer to their own portrait that differs in
    everything else than to a lookalike. Pictures are unchanged, or changed by `augment`.
    """
    generator = torch.Generator().manual_seed(0)

    def embed(images: Tensor) -> Tensor:
        parts = images.split(100)
        if augmented:
            parts = tuple(augment(part, generator) for part in parts)
        return torch.cat([recognizer(part.to(recognizer.device)).cpu() for part in parts])

    embeddings, lookalikes = embed(unseen.images), embed(unseen.lookalikes)
    first, second = embeddings[::_PICTURES], embeddings[1::_PICTURES]
    told_apart = (first * second).sum(1) > (first * lookalikes).sum(1)
    return {
        **verification(embeddings, unseen.portraits.identity),
        "lookalikes_told_apart": float(told_apart.float().mean()),
    }


@torch.no_grad()
def geometry_read(recognizer: Recognizer, unseen: Unseen) -> dict[str, float]:
    """How much of each number of the geometry an embedding holds: R^2 of a linear fit.

    Fitted on one half of the people by ridge regression, measured on the other half.
    """
    parts = [recognizer(part.to(recognizer.device)).cpu() for part in unseen.images.split(100)]
    embeddings = torch.cat(parts).double()
    truth = unseen.portraits.gaussians[:, _GEOMETRY].clamp(-2.2, 2.2).double()
    half = len(truth) // (2 * _PICTURES) * _PICTURES
    mean, middle = embeddings[:half].mean(0), truth[:half].mean(0)
    x, y = embeddings[:half] - mean, truth[:half] - middle
    ridge = 1e-3 * len(x) / x.shape[1] * torch.eye(x.shape[1], dtype=x.dtype)
    fit = torch.linalg.solve(x.T @ x + ridge, x.T @ y)
    error = (embeddings[half:] - mean) @ fit + middle - truth[half:]
    shares = 1 - error.square().mean(0) / truth[half:].var(0, unbiased=False)
    return dict(zip(IDENTITY_GAUSSIANS, shares.tolist(), strict=True))


def export(recognizer: Recognizer, cache: RenderCache, config: Config) -> None:
    """Write the folder `recognizer/`: network, metrics.json and card."""
    unseen = Unseen.draw(config.unseen_identities, cache.resolution)
    metrics = {
        "identities": config.unseen_identities,
        "images": len(unseen.images),
        "first_seed": UNSEEN_SEED,
        "clean": measure(recognizer, unseen, augmented=False),
        "augmented": measure(recognizer, unseen),
        "geometry_r2": geometry_read(recognizer, unseen),
    }
    text = card(metrics, recognizer.num_parameters(), cache, config)
    write_network(config.output_dir / "recognizer", recognizer, metrics, text)


_ROWS = {
    "accuracy": "Verification accuracy (threshold from other people)",
    "equal_error_rate": "Equal error rate",
    "roc_auc": "Area under the ROC curve",
    "same_cosine": "Mean cosine, same person",
    "other_cosine": "Mean cosine, others",
    "lookalikes_told_apart": "Lookalikes told apart",
}


def card(metrics: dict[str, object], parameters: int, cache: RenderCache, config: Config) -> str:
    """The card: purpose, training, accuracy and limits."""
    clean, augmented, geometry = (metrics[n] for n in ("clean", "augmented", "geometry_r2"))
    assert isinstance(clean, dict) and isinstance(augmented, dict) and isinstance(geometry, dict)
    rows = [f"| {row} | {clean[n]:.3f} | {augmented[n]:.3f} |" for n, row in _ROWS.items()]
    by_share = sorted(geometry.items(), key=lambda item: -item[1])
    known = ", ".join(f"{name.replace('_', ' ')} {share:.2f}" for name, share in by_share)
    pictures = config.max_train_steps * config.train_batch_size
    return f"""---
library_name: stylegan-hub
pipeline_tag: image-feature-extraction
license: apache-2.0
tags: [portraits, recognizer, arcface]
---

# Recognizer of the drawn portraits

A small IR-SE network ({parameters / 1e6:.2f} M parameters, input {cache.resolution} px, any other
size is resized) that turns a drawn portrait into a vector of length 1 with {config.embedding_dim}
numbers. The cosine of two vectors says whether both show the same person, whatever the hair, the
colors, the mood and the pose. It gives edits their identity loss, and measures whether they have
kept the person.

```python
from stylegan_hub.models.recognizer import Recognizer

recognizer = Recognizer.from_pretrained("path/to/this/folder").eval()
embeddings = recognizer(images)  # [n, 3, h, w] in [-1, 1] to [n, {config.embedding_dim}]
similarity = embeddings @ embeddings.T
```

## Training

From scratch, by `recipes/train_recognizer.py`: {pictures:,} pictures of {cache.identities:,} people
drawn by the renderer ({config.portraits:,} different portraits), one half of them changed at
random by `portraits/augment.py`. A person is a face geometry of {len(IDENTITY_GAUSSIANS)} numbers;
all other numbers of a portrait are drawn anew for each picture. The loss is ArcFace's (margin
{config.margin:g}, scale {config.scale:g}) plus {config.geometry_lambda:g} times the mean squared
error of the {len(IDENTITY_GAUSSIANS)} numbers, which the renderer knows, read from the embedding by
a linear layer that is thrown away. Muon, cosine schedule, exponential average of the weights, seed
{config.seed}.

## How well it tells people apart

On {metrics["images"]:,} portraits of {metrics["identities"]:,} people that it was not trained on
(seeds from {metrics["first_seed"]:,}): {clean["same_pairs"]:,} pairs of the same person and
{clean["other_pairs"]:,} of others, as drawn and changed as in training.

| | as drawn | changed |
|---|---|---|
{chr(10).join(rows)}

A lookalike is another face geometry under the same hair, colors, mood, pose and background; the
last row is the share of people who are closer to themselves in an entirely different portrait than
to their lookalike. Share of the variance of each geometry number that an embedding tells (linear
fit, other people): {known}.

## Limits

It knows drawn portraits in the renderer's framing only; on photographs its answers mean nothing.
Drawn people differ less than real ones, so thresholds and similarities do not compare with those of
recognizers of photographs. What hair, hats and glasses hide (ears, brows) it cannot know. An edit
that changes the geometry on purpose, such as a wider face, is another person to it.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
