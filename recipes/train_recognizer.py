"""Train the recognizer, which tells whether an edit has kept the identity, on rendered portraits.

    python recipes/render_portraits.py --identities 4000 --output_dir runs/identities
    accelerate launch recipes/train_recognizer.py --cache runs/identities \\
        --output_dir runs/recognizer --mixed_precision bf16

An identity is a face geometry: the sizes and places of eyes, nose, mouth, brows and jaw. Everything
else (hair, colors, expression, pose, glasses, ...) differs between the portraits of an identity.
The 2,000 steps (128,000 pictures) take about 20 minutes on one CPU core. An interrupted run is
continued with --resume_from_checkpoint latest. At the end, the folder `recognizer/` in the output
folder holds the averaged network, its measurements on unseen identities (metrics.json) and a card
(README.md). `bundle_portraits.py --recognizer` puts the network into the pipeline.
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

_PICTURES = 4  # number of pictures of each unseen identity
_GEOMETRY = [GAUSSIANS.index(name) for name in IDENTITY_GAUSSIANS]


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings for building, training and measuring the recognizer."""

    cache: Path
    """Folder made by recipes/render_portraits.py with --identities."""
    portraits: int = 40_000
    """Number of portraits in that folder to train on."""
    units: tuple[int, ...] = (1, 1, 2)
    """Number of residual units in each stage; 3 4 14 3 is IR-SE50."""
    widths: tuple[int, ...] = (32, 64, 96)
    """Number of channels in each stage."""
    input_stride: int = 2
    """Stride of the first convolution. With 1, the network sees finer details but takes four times
    as long."""
    embedding_dim: int = 128
    """Length of an embedding."""
    margin: float = 0.2
    """Angular margin of ArcFace in radians."""
    scale: float = 20.0
    """Scale of the cosines in ArcFace."""
    geometry_lambda: float = 20.0
    """Weight of the auxiliary loss, which predicts the numbers of the face geometry from the
    embedding."""
    unseen_identities: int = 500
    """Number of unseen identities on which the recognizer is measured at the end, with four
    pictures each."""
    learning_rate: float = 4e-3
    train_batch_size: int = 64
    max_train_steps: int = 2000
    checkpointing_steps: int = 200
    sample_steps: int = 200


class Head(nn.Module):
    """Parameters that only the training needs: a center per identity, and a geometry layer."""

    def __init__(self, identities: int, embedding_dim: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(identities, embedding_dim))
        self.geometry = nn.Linear(embedding_dim, len(IDENTITY_GAUSSIANS))


def main(config: Config) -> None:
    if RenderCache(config.cache).identities is None:
        raise SystemExit(
            f"{config.cache} holds one portrait of each identity, but a recognizer learns from "
            "several. Render some with recipes/render_portraits.py --identities 4000."
        )
    cache = cached_portraits(config.cache, config.portraits)
    portraits = cache.portraits(range(config.portraits))
    # The named characters follow after the other identities.
    unnamed = portraits.character < 0
    identity = torch.where(unnamed, portraits.identity, cache.identities + portraits.character)
    geometry = portraits.gaussians[:, _GEOMETRY].clamp(-2.2, 2.2)  # as in the factors
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
        # Blur and noise hide small differences between identities, so half of the pictures are not
        # changed.
        images = sometimes(augment, images, training.generator(step, micro), 0.5).to(device)
        embedding = recognizer(images.contiguous(memory_format=torch.channels_last))
        own = identity[chosen].to(device)
        arcface = arcface_loss(embedding, head.centers, own, config.margin, config.scale).mean()
        # An embedding has length 1, so its numbers are small. Named characters share one fixed
        # geometry each, so they are left out.
        read = head.geometry(config.embedding_dim**0.5 * embedding)
        squared = F.mse_loss(read, geometry[chosen].to(device), reduction="none").mean(1)
        error = (squared * unnamed[chosen].to(device)).mean()
        loss = arcface + config.geometry_lambda * error
        return {"loss": loss, "arcface": arcface, "geometry": error}

    watched = Unseen.draw(100, cache.resolution)

    def on_sample(step: int, folder: Path) -> None:
        log_line(folder / "verification.jsonl", step, measure(training.average, watched))

    if training.learn(losses, on_sample):
        export(training.average, cache, config)


def _split(recognizer: Recognizer, head: Head) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The parameters that Muon updates (weights between features), and all other parameters."""
    inner = [*recognizer.body.parameters(), *recognizer.output_layer.parameters()]
    matrices = [parameter for parameter in inner if parameter.ndim > 1]
    others = [*recognizer.input_layer.parameters(), *head.parameters()]
    return matrices, others + [parameter for parameter in inner if parameter.ndim == 1]


@dataclass(frozen=True)
class Unseen:
    """Portraits of identities that no training has seen.

    Attributes:
        portraits: four portraits of each identity, one identity after the other.
        images: their pictures, `[n, 3, size, size]`.
        lookalikes: for the first portrait of each identity, a picture of another identity that
            agrees in everything but the face geometry (hair, colors, expression, pose, ...).
    """

    portraits: Portraits
    images: Tensor
    lookalikes: Tensor

    @classmethod
    def draw(cls, count: int, resolution: int) -> Unseen:
        """`count` identities; named characters are left out, because the training has seen them."""
        free = (seed for seed in range(UNSEEN_SEED, 2 * UNSEEN_SEED) if _is_unnamed(seed))
        seeds = [next(free) for _ in range(_PICTURES * count)]
        identities = [UNSEEN_SEED + index // _PICTURES for index in range(len(seeds))]
        others = [UNSEEN_SEED + count + index for index in range(count)]
        portraits = sample(seeds, identities)
        return cls(
            portraits,
            pictures_of(portraits, resolution),
            pictures_of(sample(seeds[::_PICTURES], others), resolution),
        )


def _is_unnamed(seed: int) -> bool:
    return int(sample([seed]).character) < 0


@torch.no_grad()
def measure(recognizer: Recognizer, unseen: Unseen, *, augmented: bool = True) -> dict[str, float]:
    """Measure verification over all pairs, and `lookalikes_told_apart`.

    The latter is the share of portraits whose embedding is closer to another portrait of the same
    identity, which differs in everything else, than to a lookalike. Pictures are unchanged, or
    changed by `augment`.
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
    """Measure how much an embedding tells about each number of the geometry: R^2 of a linear fit.

    The fit is a ridge regression on one half of the identities; R^2 is measured on the other half.
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
    """Write the folder `recognizer/` with network, metrics.json and card."""
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
    "accuracy": "Verification accuracy (threshold from other identities)",
    "equal_error_rate": "Equal error rate",
    "roc_auc": "Area under the ROC curve",
    "same_cosine": "Mean cosine, same identity",
    "other_cosine": "Mean cosine, different identities",
    "lookalikes_told_apart": "Lookalikes told apart",
}


def card(metrics: dict[str, object], parameters: int, cache: RenderCache, config: Config) -> str:
    """The text of the card: purpose, training, accuracy and limits."""
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

# Recognizer for the drawn portraits

A small IR-SE network ({parameters / 1e6:.2f} M parameters; pictures are resized to
{cache.resolution} px) that turns a drawn portrait into a vector of {config.embedding_dim} numbers
with length 1. The cosine of two vectors tells whether both portraits show the same identity,
independently of hair, colors, expression and pose. It provides the identity loss of edits, and
measures whether edits have kept the identity.

```python
from stylegan_hub.models.recognizer import Recognizer

recognizer = Recognizer.from_pretrained("path/to/this/folder").eval()
embeddings = recognizer(images)  # [n, 3, h, w] in [-1, 1] to [n, {config.embedding_dim}]
similarity = embeddings @ embeddings.T
```

## Training

`recipes/train_recognizer.py` trained it from scratch on {pictures:,} pictures of
{cache.identities:,} identities ({config.portraits:,} different renders). About half of the pictures
were changed at random by `portraits/augment.py`. An identity is a face geometry of
{len(IDENTITY_GAUSSIANS)} numbers; all other numbers of a portrait are random for each render. The
loss is that of ArcFace (margin {config.margin:g}, scale {config.scale:g}) plus
{config.geometry_lambda:g} times the mean squared error of the {len(IDENTITY_GAUSSIANS)} numbers,
which a linear layer predicts from the embedding; this layer is discarded. The training used Muon, a
cosine schedule, an exponential average of the weights, and seed {config.seed}.

## How well it tells identities apart

The table is for {metrics["images"]:,} unseen portraits of {metrics["identities"]:,} unseen
identities (seeds from {metrics["first_seed"]:,}): {clean["same_pairs"]:,} pairs of the same
identity and {clean["other_pairs"]:,} pairs of different ones. The pictures are unchanged, or
changed as in training.

| | unchanged | changed |
|---|---|---|
{chr(10).join(rows)}

A lookalike has another face geometry but the same hair, colors, expression, pose and background.
The last row is the share of portraits that are closer to an entirely different portrait of the same
identity than to their lookalike. The share of the variance of each geometry number that an
embedding explains (linear fit, unseen identities) is: {known}.

## Limits

The recognizer knows only drawn portraits in the renderer's framing; on photographs its answers mean
nothing. Drawn faces differ less than real ones, so thresholds and similarities cannot be compared
with those of recognizers for photographs. It cannot see what hair, hats and glasses hide (ears,
brows). An edit that changes the geometry on purpose, such as a wider face, counts as another
identity.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
