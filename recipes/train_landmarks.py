"""Train the landmarker, which finds drawn faces in larger pictures at any rotation.

    accelerate launch recipes/train_landmarks.py --output_dir runs/landmarks
    python recipes/train_landmarks.py --output_dir runs/landmarks --cache runs/portraits

The network learns from scenes: portraits that are rotated, scaled, moved and laid over synthetic
backgrounds, so that their places are known. The portraits are rendered at the start, or come from a
folder made by recipes/render_portraits.py. The training takes about 25 minutes on one CPU core. An
interrupted run is continued with --resume_from_checkpoint latest. At the end, the folder
`landmarker/` in the output folder holds the averaged network, its measurements on unseen scenes
(metrics.json) and a card (README.md).
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

_RENDERED_AT = 128
_REACH = 0.35  # distance from the middle of a face at which the score is high, in half sides


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings for training and measuring the landmarker."""

    cache: Path | None = None
    """Folder made by recipes/render_portraits.py. None: portraits are rendered at the start."""
    portraits: int = 4000
    """Number of portraits to train on."""
    input_size: int = 96
    """Side of the network's input in pixels, a multiple of 32."""
    widths: tuple[int, int, int] = (32, 64, 96)
    """Number of channels in each stage."""

    near_share: float = 0.5
    """Share of scenes in which the face is nearly aligned, as in the second pass of the search."""
    smallest: float = 0.16
    """Smallest side of a face in the other scenes, relative to the side of the scene."""
    any_turn_share: float = 0.4
    """Share of the other scenes in which a face is rotated by any angle, and not only by up to 45
    degrees."""
    second_share: float = 0.3
    """Share of the other scenes that show a second face."""
    empty_share: float = 0.1
    """Share of the other scenes that show no face."""

    unseen: int = 200
    """Number of unseen scenes on which the landmarker is measured at the end."""
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
        generator = training.generator(step, micro)
        images, squares = scenes(pictures[chosen], config.input_size, generator, config)
        images = images.to(device).contiguous(memory_format=torch.channels_last)
        return square_losses(landmarker(images), squares.to(device))

    def on_sample(step: int, folder: Path) -> None:
        log_line(
            folder / "found.jsonl", step, measure(training.average, min(24, config.unseen), config)
        )

    if training.learn(losses, on_sample):
        export(training.average, config)


def optimizer_of(landmarker: Landmarker, config: Config) -> Muon:
    """Muon for the kernels between the first and the last layer; AdamW for the rest."""
    ends = {id(landmarker.get_parameter(name)) for name in ("fine.1.weight", "head.3.weight")}
    matrices, others = [], []
    for parameter in landmarker.parameters():
        inner = parameter.ndim == 4 and id(parameter) not in ends
        (matrices if inner else others).append(parameter)
    half = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    return Muon(matrices, others, config.learning_rate, dtype=half)


def portraits_of(config: Config) -> Tensor:
    """The portraits to train on, as pictures uint8 `[n, 3, h, w]`."""
    if config.cache is not None:
        cache = cached_portraits(config.cache, config.portraits)
        return cache.images(torch.arange(config.portraits))
    starts = range(0, config.portraits, 50)
    parts = [
        render(sample(range(i, min(i + 50, config.portraits))), _RENDERED_AT)
        for i in tqdm(starts, desc="rendering portraits", disable=len(starts) < 4)
    ]
    return image_files.to_uint8(torch.cat(parts))


def usual_landmarks(count: int = 100) -> list[list[float]]:
    """The average places of left eye, right eye and mouth in portraits, from -1 to 1."""
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
    pictures: Tensor, size: int, generator: Generator, config: Config
) -> tuple[Float[Tensor, "n 3 size size"], Float[Tensor, "n 2 5"]]:
    """Scenes, which are larger pictures with portraits in them, and the places of the portraits.

    Args:
        pictures: portraits, uint8 `[n, 3, h, w]`. Scene i shows portrait i, and portrait i - 1 if
            it has a second face.
        generator: the source of all randomness.

    Returns:
        Scenes in [-1, 1]. For two faces in each: the middle of the portrait, the offset from there
        to the middle of its right edge, and 1 if the face exists. Places and offsets are in units
        of half the side of the scene.
    """
    n = len(pictures)
    portraits = image_files.from_uint8(pictures)
    near = _uniform(n, generator) < config.near_share
    first = _squares(n, near, generator, config)
    second = _squares(n, torch.zeros(n, dtype=torch.bool), generator, config)
    apart = (first[:, :2] - second[:, :2]).abs().amax(1)
    half = first[:, 2:4].norm(dim=1) + second[:, 2:4].norm(dim=1)
    second[:, 4] = (~near & (_uniform(n, generator) < config.second_share) & (apart > half)).float()
    first[:, 4] = (near | (_uniform(n, generator) >= config.empty_share)).float()
    second[:, 4] *= first[:, 4]

    images = _backgrounds(n, size, generator)
    # The scenes have twice their size until the portraits are laid over them, against aliasing.
    images = F.interpolate(images, scale_factor=2, mode="bilinear")
    images = _laid(images, portraits.roll(1, 0), second, generator)
    images = F.avg_pool2d(_laid(images, portraits, first, generator), 2)
    images = sometimes(blur, images, generator, 0.3)
    images = sometimes(color_jitter, images, generator, 0.5)
    images = sometimes(noise, images, generator, 0.3)
    return _edge_repeated(images, first, generator), torch.stack([first, second], 1)


def square_losses(
    said: Float[Tensor, "n 6 gh gw"], squares: Float[Tensor, "n 2 5"]
) -> dict[str, Tensor]:
    """The losses of score, middle, rotation and scale, given the network's output `said`."""
    size = (said.shape[2] * 8, said.shape[3] * 8)
    places = cell_places(*size).to(said)
    half = squares[:, :, 2:4].norm(dim=2).clamp_min(1e-3)  # [n, 2]
    way = squares[:, :, :2, None, None] - places  # [n, 2, 2, gh, gw]
    distance = way.norm(dim=2)
    # Small faces need a cell with a high score too.
    reach = (_REACH * half).clamp_min(2 / said.shape[3])[:, :, None, None]
    heat = torch.exp(-((distance / reach) ** 2)) * squares[:, :, 4, None, None]
    heat, nearest = heat.max(1)  # [n, gh, gw]

    def of_nearest(values: Tensor) -> Tensor:
        """For each cell, the values [n, 2, ...] of the nearest of the two faces."""
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


def _squares(n: int, near: Tensor, generator: Generator, config: Config) -> Float[Tensor, "n 5"]:
    """Random squares: nearly aligned ones with about two thirds of the scene's side, or any."""
    angle = _uniform(n, generator, -math.pi / 4, math.pi / 4)
    full = _uniform(n, generator) < config.any_turn_share
    angle = torch.where(full, _uniform(n, generator, -math.pi, math.pi), angle)
    angle = torch.where(
        near, 0.45 * torch.randn(n, generator=generator).clamp(-2, 2) ** 3 / 4, angle
    )
    low, high = math.log(config.smallest), math.log(1.05)
    half = torch.exp(_uniform(n, generator, low, high))
    half = torch.where(near, (2 / 3) * torch.exp(0.15 * torch.randn(n, generator=generator)), half)
    room = (1.15 - half).clamp_min(0.1)  # a face may extend a little beyond the scene
    place = torch.stack([_uniform(n, generator, -1, 1) * room for _ in range(2)], 1)
    place = torch.where(near[:, None], 0.12 * torch.randn(n, 2, generator=generator), place)
    right = torch.stack([angle.cos(), angle.sin()], 1) * half[:, None]
    return torch.cat([place, right, torch.ones(n, 1)], 1)


def _laid(images: Tensor, portraits: Tensor, squares: Tensor, generator: Generator) -> Tensor:
    """Scenes with portraits laid over them as whole squares, as circles, or with soft edges."""
    n, size = len(images), images.shape[-1]
    x, y, cos, sin, there = squares.unbind(1)
    scale = cos**2 + sin**2
    rows = [cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y]
    matrix = (torch.stack(rows, 1) / scale[:, None]).view(n, 2, 3)
    grid = F.affine_grid(matrix, [n, 3, size, size], align_corners=False)  # [n, size, size, 2]
    small = scale.sqrt() * size < 0.6 * portraits.shape[-1]
    laid = torch.empty_like(images)
    for chosen, copies in ((small, F.avg_pool2d(portraits, 2)), (~small, portraits)):
        if chosen.any():
            laid[chosen] = F.grid_sample(
                copies[chosen], grid[chosen], padding_mode="border", align_corners=False
            )
    square, circle = grid.abs().amax(3), grid.norm(dim=3)
    is_round = (_uniform(n, generator) < 0.2)[:, None, None]
    soft = torch.where(_uniform(n, generator) < 0.3, _uniform(n, generator, 0.1, 0.5), 0.02)[
        :, None, None
    ]
    alpha = ((1 - torch.where(is_round, circle, square)) / soft).clamp(0, 1)
    return torch.lerp(images, laid, (alpha * there[:, None, None])[:, None])


def _backgrounds(n: int, size: int, generator: Generator) -> Tensor:
    """Synthetic pictures without faces: smooth colors, textures, boxes, ellipses and stripes."""
    loud = _uniform(n, generator, 0.1, 0.6)[:, None, None, None]
    clouds = loud * torch.randn(n, 3, 4, 4, generator=generator)
    images = F.interpolate(clouds, (size, size), mode="bicubic")
    images = images + _uniform(3 * n, generator, -0.9, 0.9).view(n, 3, 1, 1)
    fine = torch.randn(n, 3, size // 8, size // 8, generator=generator)
    fine = F.interpolate(fine, (size, size), mode="bilinear")
    images = images + _uniform(n, generator, 0, 0.25)[:, None, None, None] * fine
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    for _ in range(4):
        angle = _uniform(n, generator, 0, math.pi)[:, None, None]
        x = axis[None, None, :] - _uniform(n, generator, -1, 1)[:, None, None]
        y = axis[None, :, None] - _uniform(n, generator, -1, 1)[:, None, None]
        u = (x * angle.cos() + y * angle.sin()) / _uniform(n, generator, 0.1, 0.7)[:, None, None]
        v = (y * angle.cos() - x * angle.sin()) / _uniform(n, generator, 0.1, 0.7)[:, None, None]
        kind = (_uniform(n, generator) * 3).long()[:, None, None]
        distance = torch.where(kind == 0, torch.maximum(u.abs(), v.abs()), (u * u + v * v).sqrt())
        distance = torch.where(kind == 2, u.abs(), distance)
        shown = (_uniform(n, generator) < 0.6).float()[:, None, None]
        alpha = ((1 - distance) * 20).clamp(0, 1) * shown
        color = _uniform(3 * n, generator, -1, 1).view(n, 3, 1, 1)
        images = torch.lerp(images, color.expand_as(images), alpha[:, None])
    return images.clamp(-1, 1)


def _edge_repeated(images: Tensor, squares: Tensor, generator: Generator) -> Tensor:
    """Scenes, some with repeated border rows and columns, as beyond the edge of a picture."""
    n, size = len(images), images.shape[-1]
    middle = (squares[:, :2] + 1) / 2 * size
    margin = 0.7 * squares[:, 2:4].norm(dim=1) / 2 * size  # most of the face stays visible
    index = torch.arange(size).expand(n, -1)
    looks = _uniform(n, generator) < 0.3
    for dimension in (2, 3):
        place = middle[:, 3 - dimension]
        before, after = (place - margin).clamp_min(0), (size - 1 - place - margin).clamp_min(0)
        low = torch.where(looks, _uniform(n, generator) * before, 0).long()
        high = size - 1 - torch.where(looks, _uniform(n, generator) * after, 0).long()
        chosen = torch.minimum(torch.maximum(index, low[:, None]), high[:, None])
        shape = (n, 1, size, 1) if dimension == 2 else (n, 1, 1, size)
        images = images.gather(dimension, chosen.view(shape).expand_as(images))
    return images


def _uniform(n: int, generator: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return low + (high - low) * torch.rand(n, generator=generator)


@torch.no_grad()
def measure(landmarker: Landmarker, count: int, config: Config) -> dict[str, float]:
    """Measure how well unseen faces are found in scenes of three times the network's input size.

    A face counts as found if the mean distance of its four corners to the true ones is below a
    tenth of its side. The corner errors are these distances for the faces that are found, relative
    to the side.
    """
    generator = torch.Generator().manual_seed(0)
    size = 3 * config.input_size
    wanted = found = wrong = 0
    errors: list[float] = []
    usual = torch.tensor(landmarker.config["usual"])
    for start in range(0, count, 20):
        seeds = range(UNSEEN_SEED + start, UNSEEN_SEED + min(start + 20, count))
        pictures = image_files.to_uint8(render(sample(seeds), _RENDERED_AT))
        images, squares = scenes(pictures, size, generator, config)
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
            wrong += len(faces) - hits
    return {
        "scenes": count,
        "faces": wanted,
        "found": found / max(wanted, 1),
        "wrong_per_scene": wrong / count,
        "corner_error": sum(errors) / max(len(errors), 1),
        "corner_error_median": float(torch.tensor(errors or [math.nan]).median()),
        "corner_error_95": float(torch.tensor(errors or [math.nan]).quantile(0.95)),
    }


def corner_errors(
    faces: Float[Tensor, "faces 3 2"], true: Float[Tensor, "3 2"], usual: Float[Tensor, "3 2"]
) -> Float[Tensor, " faces"]:
    """Mean distance in pixels between the corners implied by landmarks and the true ones."""
    source = torch.cat([usual, torch.ones(3, 1)], 1)
    corners = torch.tensor([[-1, -1, 1], [-1, 1, 1], [1, 1, 1], [1, -1, 1]], dtype=torch.float32)
    at = corners @ torch.linalg.inv(source)  # from the landmarks to the corners
    return ((at @ faces) - at @ true).norm(dim=2).mean(1)


def export(landmarker: Landmarker, config: Config) -> None:
    """Write the folder `landmarker/` with network, metrics.json and card."""
    metrics: dict[str, Any] = {
        "first_seed": UNSEEN_SEED,
        "parameters": landmarker.num_parameters(),
        **measure(landmarker, config.unseen, config),
    }
    folder = config.output_dir / "landmarker"
    write_network(folder, landmarker, metrics, card(metrics, config))


def card(metrics: Mapping[str, Any], config: Config) -> str:
    """The text of the card: purpose, training, accuracy and limits."""
    pictures = config.max_train_steps * config.train_batch_size
    return f"""---
library_name: stylegan-hub
pipeline_tag: object-detection
license: apache-2.0
tags: [portraits, face-landmarks]
---

# Landmarker for the drawn portraits

A small convolutional network ({metrics["parameters"] / 1e6:.2f} M parameters) that finds drawn
faces in larger pictures at any rotation. The eyes and the mouth of a face determine the square that
is cut out as an aligned portrait.

```python
from stylegan_hub.models.landmarker import Landmarker

landmarker = Landmarker.from_pretrained("path/to/this/folder")
landmarker.find(image)  # [1, 3, h, w] in [-1, 1] -> [faces, 3, 2]: eyes and mouth in pixels
```

## Training

`recipes/train_landmarks.py` trained it from scratch on {pictures:,} scenes of {config.input_size}
px. In these, {config.portraits:,} portraits were rotated, scaled, moved and laid over synthetic
backgrounds. The training used Muon and AdamW, a cosine schedule, an exponential average of the
weights, and seed {config.seed}.

## How well it finds faces

The table is for {metrics["scenes"]:,} unseen scenes of {3 * config.input_size} px with
{metrics["faces"]:,} faces (seeds from {metrics["first_seed"]:,}). The sides of the faces are at
least {config.smallest:.0%} of the side of the scene. Errors are mean distances of the corners of a
face, relative to its side.

| | |
| --- | --- |
| share of faces found, with an error below a tenth | {metrics["found"]:.1%} |
| wrong squares per scene | {metrics["wrong_per_scene"]:.3f} |
| mean error | {metrics["corner_error"]:.2%} |
| median error | {metrics["corner_error_median"]:.2%} |
| 95th percentile of the errors | {metrics["corner_error_95"]:.2%} |

## Limits

The landmarker knows only drawn portraits and does not find faces in photographs. It misses faces
that are smaller than {config.smallest / 2:.0%} of a picture's longer side.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
