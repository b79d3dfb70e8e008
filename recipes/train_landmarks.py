"""Train the landmarker: it finds drawn faces in larger pictures, however they are turned.

    accelerate launch recipes/train_landmarks.py --output_dir runs/landmarks
    python recipes/train_landmarks.py --output_dir runs/landmarks --cache runs/portraits

It learns from portraits (rendered, or from the folder of recipes/render_portraits.py) that are
turned, scaled, moved and laid over synthetic backgrounds, so that their places are known. It takes
about 25 minutes on one CPU core. An interrupted run is continued with --resume_from_checkpoint
latest. At the end, the folder `landmarker/` in the output folder holds the averaged network, how
well it finds unseen faces (metrics.json) and a card (README.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from command_line import run
from jaxtyping import Float
from network import cached_portraits, log_line, write_network
from torch import Generator, Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.models.landmarker import Landmarker, cell_places
from stylegan_hub.optimizers import Muon
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.augment import blur, color_jitter, noise, sometimes
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.renderer import PARTS, render, render_with_masks
from stylegan_hub.training import NetworkTraining, TrainingConfig

_DRAWN_AT = 128
_REACH = 0.35  # of the half side: how far from the middle of a face the score is high


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """How to train and measure the landmarker."""

    cache: Path | None = None
    """Folder made by recipes/render_portraits.py. None: portraits are rendered at the start."""
    portraits: int = 4000
    """Number of portraits to learn from."""
    input_size: int = 96
    """Size of the network's input, a multiple of 32."""
    widths: tuple[int, int, int] = (32, 64, 96)
    """Channels of the features."""

    near_share: float = 0.5
    """Share of the scenes that are nearly aligned, as for a second look."""
    smallest: float = 0.16
    """Smallest side of a face in the other scenes, as a share of the scene's."""
    any_turn_share: float = 0.4
    """Share of those in which a face is turned by any angle, and not only by up to 45 degrees."""
    second_share: float = 0.3
    """Share of those that show a second face."""
    empty_share: float = 0.1
    """Share of those that show none."""

    unseen: int = 200
    """Number of scenes on which it is measured at the end."""
    learning_rate: float = 2e-3
    train_batch_size: int = 16
    max_train_steps: int = 5000
    checkpointing_steps: int = 250
    sample_steps: int = 250


def main(config: Config) -> None:
    pictures = portraits_of(config)
    torch.manual_seed(config.seed)
    landmarker = Landmarker(usual_landmarks(), config.input_size, config.widths).train()
    landmarker = landmarker.to(memory_format=torch.channels_last)  # a third faster on a CPU
    optimizer = optimizer_of(landmarker, config)
    training = NetworkTraining(config, "landmarker", landmarker, optimizer)
    device = training.accelerator.device

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        chosen = training.indices(step, len(pictures), micro)
        draw = training.generator(step, micro)
        images, squares = scenes(pictures[chosen], config.input_size, draw, config)
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        return square_losses(landmarker(images), squares.to(device))

    def on_sample(step: int, folder: Path) -> None:
        log_line(
            folder / "found.jsonl", step, measure(training.average, min(24, config.unseen), config)
        )

    if training.learn(losses, on_sample):
        export(training.average, config)


def optimizer_of(landmarker: Landmarker, config: Config) -> Muon:
    """Muon for the kernels between first and last, AdamW for the rest."""
    ends = {id(landmarker.get_parameter(name)) for name in ("fine.1.weight", "head.3.weight")}
    matrices, others = [], []
    for parameter in landmarker.parameters():
        inner = parameter.ndim == 4 and id(parameter) not in ends
        (matrices if inner else others).append(parameter)
    half = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    return Muon(matrices, others, config.learning_rate, dtype=half)


def portraits_of(config: Config) -> Tensor:
    """Pictures to learn from, uint8 `[n, 3, h, w]`."""
    if config.cache is not None:
        cache = cached_portraits(config.cache, config.portraits)
        return cache.images(torch.arange(config.portraits))
    starts = range(0, config.portraits, 50)
    parts = [
        render(sample(range(i, min(i + 50, config.portraits))), _DRAWN_AT)
        for i in tqdm(starts, desc="rendering portraits", disable=len(starts) < 4)
    ]
    return image_files.to_uint8(torch.cat(parts))


def usual_landmarks(count: int = 100) -> list[list[float]]:
    """Where portraits have eyes and mouth on average, from -1 to 1: left eye, right eye, mouth."""
    masks = render_with_masks(sample(range(count)), 64)[1]
    axis = (torch.arange(64) + 0.5) / 32 - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    eyes = (masks == PARTS.index("eyes")).sum(0).float()
    lips = (masks == PARTS.index("lips")).sum(0).float()
    places = []
    for share in (eyes * (x < 0), eyes * (x > 0), lips):
        places.append([float((share * axis).sum() / share.sum()) for axis in (x, y)])
    return places


def scenes(
    pictures: Tensor, size: int, draw: Generator, config: Config
) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n 2 5"]]:
    """Portraits in larger pictures, and their places.

    Args:
        pictures: uint8 `[n, 3, h, w]`; the next one in the batch is a scene's second face.

    Returns:
        Scenes in [-1, 1], and for up to two faces in each: the middle of the portrait, the offset
        from there to the middle of its right edge, both in units of the scene's half side, and
        whether the face exists.
    """
    n = len(pictures)
    portraits = image_files.from_uint8(pictures)
    near = _uniform(n, draw) < config.near_share
    first = _squares(n, near, draw, config)
    second = _squares(n, torch.zeros(n, dtype=torch.bool), draw, config)
    apart = (first[:, :2] - second[:, :2]).abs().amax(1)
    half = first[:, 2:4].norm(dim=1) + second[:, 2:4].norm(dim=1)
    second[:, 4] = (~near & (_uniform(n, draw) < config.second_share) & (apart > half)).float()
    first[:, 4] = (near | (_uniform(n, draw) >= config.empty_share)).float()
    second[:, 4] *= first[:, 4]

    images = _backgrounds(n, size, draw)
    # Twice the size until the portraits are laid over them, against aliasing.
    images = F.interpolate(images, scale_factor=2, mode="bilinear")
    images = _laid(images, portraits.roll(1, 0), second, draw)
    images = F.avg_pool2d(_laid(images, portraits, first, draw), 2)
    images = sometimes(blur, images, draw, 0.3)
    images = sometimes(color_jitter, images, draw, 0.5)
    images = sometimes(noise, images, draw, 0.3)
    return _edge_repeated(images, first, draw), torch.stack([first, second], 1)


def square_losses(
    said: Float[Tensor, "n 6 gh gw"], squares: Float[Tensor, "n 2 5"]
) -> dict[str, Tensor]:
    """The loss: for each part, what the network says compared with where the faces are."""
    size = (said.shape[2] * 8, said.shape[3] * 8)
    places = cell_places(*size).to(said)
    half = squares[:, :, 2:4].norm(dim=2).clamp_min(1e-3)  # [n, 2]
    way = squares[:, :, :2, None, None] - places  # [n, 2, 2, gh, gw]
    distance = way.norm(dim=2)
    # Small faces also need a cell with a high score.
    reach = (_REACH * half).clamp_min(2 / said.shape[3])[:, :, None, None]
    heat = torch.exp(-((distance / reach) ** 2)) * squares[:, :, 4, None, None]
    heat, nearest = heat.max(1)  # [n, gh, gw]

    def of_nearest(values: Tensor) -> Tensor:
        """Of two faces' values [n, 2, ...], those of the face that is nearest to each cell."""
        return torch.where(nearest == 0, values[:, 0], values[:, 1])

    wide = half[:, :, None, None].expand(-1, -1, *heat.shape[1:])
    half_here = of_nearest(wide)
    turn = squares[:, :, 2:4] / half[:, :, None]
    weight = torch.where(heat > 0.35, heat, 0)
    total = weight.sum().clamp_min(1)
    score = F.binary_cross_entropy_with_logits(said[:, 0], heat, reduction="none")
    middle = sum(
        F.smooth_l1_loss(said[:, 1 + i], of_nearest(way[:, :, i]), reduction="none", beta=0.02)
        for i in range(2)
    )
    turned = sum(
        F.smooth_l1_loss(
            said[:, 3 + i],
            of_nearest(turn[:, :, i, None, None].expand_as(wide)),
            reduction="none",
            beta=0.05,
        )
        for i in range(2)
    )
    scaled = F.smooth_l1_loss(said[:, 5], half_here.log(), reduction="none", beta=0.05)
    return {
        "score": 4 * ((1 + 4 * heat) * score).mean(),
        "middle": 2 * (weight * middle / half_here).sum() / total,
        "turn": 2 * (weight * turned).sum() / total,
        "scale": (weight * scaled).sum() / total,
    }


def _squares(n: int, near: Tensor, draw: Generator, config: Config) -> Float[Tensor, "n 5"]:
    """Random squares: nearly aligned ones at two thirds of the scene, others of any kind."""
    angle = _uniform(n, draw, -math.pi / 4, math.pi / 4)
    full = _uniform(n, draw) < config.any_turn_share
    angle = torch.where(full, _uniform(n, draw, -math.pi, math.pi), angle)
    angle = torch.where(near, 0.45 * torch.randn(n, generator=draw).clamp(-2, 2) ** 3 / 4, angle)
    low, high = math.log(config.smallest), math.log(1.05)
    half = torch.exp(_uniform(n, draw, low, high))
    half = torch.where(near, (2 / 3) * torch.exp(0.15 * torch.randn(n, generator=draw)), half)
    room = (1.15 - half).clamp_min(0.1)  # a face may extend a little beyond the scene
    place = torch.stack([_uniform(n, draw, -1, 1) * room for _ in range(2)], 1)
    place = torch.where(near[:, None], 0.12 * torch.randn(n, 2, generator=draw), place)
    right = torch.stack([angle.cos(), angle.sin()], 1) * half[:, None]
    return torch.cat([place, right, torch.ones(n, 1)], 1)


def _laid(images: Tensor, portraits: Tensor, squares: Tensor, draw: Generator) -> Tensor:
    """Scenes with a portrait in each square that exists: whole, round, or with soft edges."""
    n, size = len(images), images.shape[-1]
    x, y, cos, sin, there = squares.unbind(1)
    scale = cos**2 + sin**2
    rows = [cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y]
    matrix = (torch.stack(rows, 1) / scale[:, None]).view(n, 2, 3)
    grid = F.affine_grid(matrix, [n, 3, size, size], align_corners=False)  # [n, size, size, 2]
    small = scale.sqrt() * size < 0.6 * portraits.shape[-1]
    drawn = torch.empty_like(images)
    for chosen, copies in ((small, F.avg_pool2d(portraits, 2)), (~small, portraits)):
        if chosen.any():
            drawn[chosen] = F.grid_sample(
                copies[chosen], grid[chosen], padding_mode="border", align_corners=False
            )
    square, circle = grid.abs().amax(3), grid.norm(dim=3)
    is_round = (_uniform(n, draw) < 0.2)[:, None, None]
    soft = torch.where(_uniform(n, draw) < 0.3, _uniform(n, draw, 0.1, 0.5), 0.02)[:, None, None]
    alpha = ((1 - torch.where(is_round, circle, square)) / soft).clamp(0, 1)
    return torch.lerp(images, drawn, (alpha * there[:, None, None])[:, None])


def _backgrounds(n: int, size: int, draw: Generator) -> Tensor:
    """Synthetic pictures without faces: smooth colors, texture, boxes, ellipses and stripes."""
    loud = _uniform(n, draw, 0.1, 0.6)[:, None, None, None]
    clouds = loud * torch.randn(n, 3, 4, 4, generator=draw)
    images = F.interpolate(clouds, (size, size), mode="bicubic")
    images = images + _uniform(3 * n, draw, -0.9, 0.9).view(n, 3, 1, 1)
    fine = torch.randn(n, 3, size // 8, size // 8, generator=draw)
    fine = F.interpolate(fine, (size, size), mode="bilinear")
    images = images + _uniform(n, draw, 0, 0.25)[:, None, None, None] * fine
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    for _ in range(4):
        angle = _uniform(n, draw, 0, math.pi)[:, None, None]
        x = axis[None, None, :] - _uniform(n, draw, -1, 1)[:, None, None]
        y = axis[None, :, None] - _uniform(n, draw, -1, 1)[:, None, None]
        u = (x * angle.cos() + y * angle.sin()) / _uniform(n, draw, 0.1, 0.7)[:, None, None]
        v = (y * angle.cos() - x * angle.sin()) / _uniform(n, draw, 0.1, 0.7)[:, None, None]
        kind = (_uniform(n, draw) * 3).long()[:, None, None]
        distance = torch.where(kind == 0, torch.maximum(u.abs(), v.abs()), (u * u + v * v).sqrt())
        distance = torch.where(kind == 2, u.abs(), distance)
        shown = (_uniform(n, draw) < 0.6).float()[:, None, None]
        alpha = ((1 - distance) * 20).clamp(0, 1) * shown
        color = _uniform(3 * n, draw, -1, 1).view(n, 3, 1, 1)
        images = torch.lerp(images, color.expand_as(images), alpha[:, None])
    return images.clamp(-1, 1)


def _edge_repeated(images: Tensor, squares: Tensor, draw: Generator) -> Tensor:
    """Scenes whose border rows and columns are repeated, as beyond the edge of a picture."""
    n, size = len(images), images.shape[-1]
    middle = (squares[:, :2] + 1) / 2 * size
    margin = 0.7 * squares[:, 2:4].norm(dim=1) / 2 * size  # most of the face stays visible
    index = torch.arange(size).expand(n, -1)
    looks = _uniform(n, draw) < 0.3
    for dimension in (2, 3):
        place = middle[:, 3 - dimension]
        before, after = (place - margin).clamp_min(0), (size - 1 - place - margin).clamp_min(0)
        low = torch.where(looks, _uniform(n, draw) * before, 0).long()
        high = size - 1 - torch.where(looks, _uniform(n, draw) * after, 0).long()
        chosen = torch.minimum(torch.maximum(index, low[:, None]), high[:, None])
        shape = (n, 1, size, 1) if dimension == 2 else (n, 1, 1, size)
        images = images.gather(dimension, chosen.view(shape).expand_as(images))
    return images


def _uniform(n: int, draw: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=draw)


@torch.no_grad()
def measure(landmarker: Landmarker, count: int, config: Config) -> dict[str, float]:
    """How well unseen faces are found in scenes three times the size of the network's input.

    A face is found if its four corners are, on average, nearer to the true ones than a tenth of the
    side. The error is the mean distance of these faces' corners, as a share of the side.
    """
    draw = torch.Generator().manual_seed(0)
    size = 3 * config.input_size
    wanted = found = strangers = 0
    errors: list[float] = []
    usual = torch.tensor(landmarker.config["usual"])
    for start in range(0, count, 20):
        seeds = range(UNSEEN_SEED + start, UNSEEN_SEED + min(start + 20, count))
        pictures = image_files.to_uint8(render(sample(seeds), _DRAWN_AT))
        images, squares = scenes(pictures, size, draw, config)
        for image, pair in zip(images, squares, strict=True):
            faces = landmarker.find(image[None])  # [faces, 3, 2]
            hits = 0
            for x, y, cos, sin, there in pair.tolist():
                if not there:
                    continue
                wanted += 1
                turn = torch.tensor([[cos, -sin], [sin, cos]])
                true = ((usual @ turn.T + torch.tensor([x, y])) + 1) * size / 2 - 0.5
                side = math.hypot(cos, sin) * size
                if len(faces):
                    error = float(corner_errors(faces, true, usual).min()) / side
                    if error < 0.1:
                        hits += 1
                        errors.append(error)
            found += hits
            strangers += len(faces) - hits
    return {
        "scenes": count,
        "faces": wanted,
        "found": found / max(wanted, 1),
        "wrong_per_scene": strangers / count,
        "corner_error": sum(errors) / max(len(errors), 1),
        "corner_error_median": float(torch.tensor(errors or [math.nan]).median()),
        "corner_error_95": float(torch.tensor(errors or [math.nan]).quantile(0.95)),
    }


def corner_errors(
    faces: Float[Tensor, "faces 3 2"], true: Float[Tensor, "3 2"], usual: Float[Tensor, "3 2"]
) -> Float[Tensor, " faces"]:
    """Mean distance in pixels of the corners that landmarks imply from the true ones."""
    source = torch.cat([usual, torch.ones(3, 1)], 1)
    corners = torch.tensor([[-1, -1, 1], [-1, 1, 1], [1, 1, 1], [1, -1, 1]], dtype=torch.float32)
    at = corners @ torch.linalg.inv(source)  # from the landmarks to the corners
    return ((at @ faces) - at @ true).norm(dim=2).mean(1)


def export(landmarker: Landmarker, config: Config) -> None:
    """Write the folder `landmarker/`: network, metrics.json and card."""
    metrics: dict[str, Any] = {
        "first_seed": UNSEEN_SEED,
        "parameters": landmarker.num_parameters(),
        **measure(landmarker, config.unseen, config),
    }
    folder = config.output_dir / "landmarker"
    write_network(folder, landmarker, metrics, card(metrics, config))


def card(metrics: Mapping[str, Any], config: Config) -> str:
    """The card: purpose, training, accuracy and limits."""
    pictures = config.max_train_steps * config.train_batch_size
    return f"""---
library_name: stylegan-hub
pipeline_tag: object-detection
license: apache-2.0
tags: [portraits, face-landmarks]
---

# Landmarker of the drawn portraits

A small convolutional network ({metrics["parameters"] / 1e6:.2f} M parameters) that finds drawn
faces in larger pictures, turned by any angle, and says which square a portrait of them is.

```python
from stylegan_hub.models.landmarker import Landmarker

landmarker = Landmarker.from_pretrained("path/to/this/folder")
landmarker.find(image)  # [1, 3, h, w] in [-1, 1] -> [faces, 3, 2]: eyes and mouth in pixels
```

## Training

From scratch, by `recipes/train_landmarks.py`: {pictures:,} scenes of {config.input_size} px, made
of {config.portraits:,} portraits that were turned, scaled, moved and laid over made-up backgrounds.
Muon and AdamW, cosine schedule, exponential average of the weights, seed {config.seed}.

## How well it finds

In {metrics["scenes"]:,} scenes of {3 * config.input_size} px with {metrics["faces"]:,} faces that
were not trained on (seeds from {metrics["first_seed"]:,}; sides from {config.smallest:.0%} of the
scene's):

| | |
| --- | --- |
| found, corners nearer than a tenth of the side | {metrics["found"]:.1%} |
| squares without a face, for each scene | {metrics["wrong_per_scene"]:.3f} |
| mean distance of a corner, share of the side | {metrics["corner_error"]:.2%} |
| the median of it | {metrics["corner_error_median"]:.2%} |
| the same, 95 of 100 faces below | {metrics["corner_error_95"]:.2%} |

## Limits

It knows drawn portraits only and finds no people in photographs. Faces smaller than
{config.smallest / 2:.0%} of a picture's longer side are missed.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
