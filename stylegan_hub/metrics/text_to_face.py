"""Whether faces rendered from captions show what the captions say and vary in everything else.

Attributes are read by the attribute reader, which shares nothing with CLIP and the captioner. Its
features are also used for the two distances: the Fréchet distance (`frechet`) between the rendered
faces and the portraits that the captions were written for, and one like LPIPS (`locality`). Neither
is comparable with numbers from the features of Inception or AlexNet.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.artifacts import write_metrics
from stylegan_hub.latents import Latents
from stylegan_hub.metrics.frechet import frechet_distance
from stylegan_hub.metrics.locality import perceptual_distance
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES, character_labels, sample
from stylegan_hub.portraits.captions import Caption, captions_with_facts
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader, Reading
from stylegan_hub.portraits.renderer import render
from stylegan_hub.text_to_face import CANDIDATES, TextToFace, draw_from_text

FEATURES = "the layer before its heads for the Frechet distance, its stages for the perceptual one"

Draw = Callable[[str, Sequence[int]], Float[Tensor, "seeds 3 h w"]]
"""Renders faces for a text, one for each seed, as pictures in [-1, 1]."""


def stated_values(caption: Caption) -> dict[str, frozenset[str]]:
    """For every attribute that a caption states, the values that make it true.

    A named character states all of its fixed attributes.
    """
    stated = {name: values for name, values in caption.facts.items() if name in ATTRIBUTES}
    for character in caption.facts.get("character", frozenset()):
        for name, value in character_labels(character).items():
            stated.setdefault(name, frozenset({value}))
    return stated


def agreement(captions: Sequence[Caption], reading: Reading) -> dict[str, Any]:
    """How much of what the captions state is visible in their pictures.

    Statements about attributes that the reader does not know are left out.

    Args:
        captions: one for each picture that was read.

    Returns:
        - statements: share of all statements that are true;
        - described: the same for captions that name no character; None if there are none;
        - whole_captions: share of the pictures for which all statements are true;
        - attributes: for each attribute, the share of true statements and the count of statements.

    Raises:
        ValueError: not one caption for each picture, or captions that state nothing.
    """
    if len(captions) != len(reading):
        raise ValueError(
            f"Got {len(captions)} captions for {len(reading)} pictures; give one for each."
        )
    hits: dict[str, list[bool]] = {name: [] for name in ATTRIBUTES}
    described: list[bool] = []
    whole: list[bool] = []
    for index, caption in enumerate(captions):
        seen = reading.words(index)
        fits = {
            name: seen[name] in values
            for name, values in stated_values(caption).items()
            if name in seen
        }
        for name, fit in fits.items():
            hits[name].append(fit)
        if "character" not in caption.facts:
            described += fits.values()
        if fits:
            whole.append(all(fits.values()))
    if not whole:
        raise ValueError(
            "Got no caption that states an attribute; expected at least one. Choose other captions."
        )
    everything = list(itertools.chain.from_iterable(hits.values()))
    return {
        "statements": sum(everything) / len(everything),
        "described": sum(described) / len(described) if described else None,
        "whole_captions": sum(whole) / len(whole),
        "attributes": {
            name: {"share": sum(fits) / len(fits), "count": len(fits)}
            for name, fits in hits.items()
            if fits
        },
    }


@torch.no_grad()
def variety(
    reader: AttributeReader,
    captions: Sequence[Caption],
    images: Float[Tensor, "n seeds 3 h w"],
    reading: Reading,
) -> dict[str, float]:
    """How different the faces of the same caption are, over all pairs of seeds.

    Returns:
        - distance: mean perceptual distance;
        - unspoken: share of the attributes that differ between two faces, of those that the caption
          does not state.

    Raises:
        ValueError: fewer than two seeds.
    """
    seeds = images.shape[1]
    if seeds < 2:
        raise ValueError(f"Got {seeds} seed; give at least two, whose faces are compared.")
    pairs = list(itertools.combinations(range(seeds), 2))
    distances = [perceptual_distance(reader, images[:, a], images[:, b]) for a, b in pairs]
    differ = []
    for index, caption in enumerate(captions):
        stated = stated_values(caption)
        for name in reading.attributes:
            if name not in stated:
                labels = reading.labels[name][index * seeds : (index + 1) * seeds]
                differ += [bool(labels[a] != labels[b]) for a, b in pairs]
    return {
        "distance": float(torch.stack(distances).mean()),
        "unspoken": sum(differ) / max(len(differ), 1),
    }


@torch.no_grad()
def measure_text_to_face(
    draw: Draw,
    reader: AttributeReader,
    captions: Sequence[Caption],
    portraits: Float[Tensor, "n 3 h w"],
    seeds: int,
) -> dict[str, Any]:
    """Render faces for captions and measure them.

    Args:
        draw: the method to measure, called as `draw(text, seeds)`.
        captions: at least two.
        portraits: the pictures that the captions were written for.
        seeds: number of faces for each caption; no two faces have the same seed, so that they are
            as different as possible.

    Returns:
        Plain numbers: those of `agreement`; those of `variety` (with two or more seeds);
        frechet_distance between all rendered faces and the portraits; perceptual_distance, the mean
        between a rendered face and the portrait of its caption; seconds, the median for one face.
    """
    drawn, seconds = [], []
    for index, caption in enumerate(captions):
        started = time.perf_counter()
        drawn.append(draw(caption.text, range(index * seeds, (index + 1) * seeds)).float().cpu())
        seconds.append((time.perf_counter() - started) / seeds)
    images = torch.stack(drawn)
    flat = images.flatten(0, 1)
    reading = reader.read(flat)
    repeated = [caption for caption in captions for _ in range(seeds)]
    found = agreement(repeated, reading)
    features = [_features(reader, pictures) for pictures in (flat, portraits)]
    originals = portraits.repeat_interleave(seeds, 0)
    return {
        **found,
        **(variety(reader, captions, images, reading) if seeds > 1 else {}),
        "frechet_distance": frechet_distance(*features),
        "perceptual_distance": float(perceptual_distance(reader, flat, originals).mean()),
        "seconds": statistics.median(seconds),
    }


@dataclass(frozen=True)
class UnseenCaptions:
    """Captions of portraits that were never used in training, and these portraits.

    Attributes:
        captions: each states at least one attribute.
        portraits: `[n, 3, h, w]`, the pictures that they were written for.
        first_seed: of the portraits; those whose caption states nothing are skipped.
    """

    captions: list[Caption]
    portraits: Float[Tensor, "n 3 h w"]
    first_seed: int

    @classmethod
    def draw(cls, count: int, resolution: int, first_seed: int = UNSEEN_SEED) -> UnseenCaptions:
        """The given number of captions, with pictures of a size; always the same ones."""
        captions: list[Caption] = []
        pictures: list[Tensor] = []
        seeds = itertools.count(first_seed)
        while len(captions) < count:
            part = [next(seeds) for _ in range(min(32, count - len(captions)))]
            portraits = sample(part)
            said = [group[0] for group in captions_with_facts(portraits, part)]
            chosen = [index for index, caption in enumerate(said) if caption.facts]
            captions += [said[index] for index in chosen]
            if chosen:
                pictures.append(render(portraits[chosen], resolution))
        return cls(captions, torch.cat(pictures), first_seed)


def write_text_to_face_quality(
    folder: Path,
    pipe: StyleEditPipeline,
    network: TextToFace,
    reader: AttributeReader,
    unseen: UnseenCaptions,
    seeds: int = 4,
    truncation_psi: float = 0.7,
    candidates: int = CANDIDATES,
) -> dict[str, Any]:
    """Measure a network and, for comparison, random faces; write metrics.json into its folder.

    Returns:
        The content of metrics.json: how it was measured, the result of `measure_text_to_face`, and
        under "random_faces" the same for faces that do not depend on the caption.
    """
    size = reader.config["resolution"]
    draws: dict[str, Draw] = {
        "own": lambda text, numbers: pictures_of(
            pipe, draw_from_text(pipe, network, text, numbers, truncation_psi, candidates)
        ),
        "random": lambda text, numbers: pictures_of(pipe, pipe.sample(numbers, truncation_psi)),
    }
    own, random = (
        measure_text_to_face(draw, reader, unseen.captions, unseen.portraits, seeds)
        for draw in draws.values()
    )
    metrics = {
        "images": len(unseen.captions) * seeds,
        "captions": len(unseen.captions),
        "first_seed": unseen.first_seed,
        "truncation_psi": truncation_psi,
        "candidates": candidates,
        **own,
        "features": f"attribute reader, {size} px: {FEATURES}",
        "random_faces": random,
    }
    rounded = _rounded(metrics)
    return write_metrics(folder, rounded)


@torch.no_grad()
def pictures_of(pipe: StyleEditPipeline, latents: Latents) -> Float[Tensor, "n 3 h w"]:
    """Pictures in [-1, 1] of latents."""
    return pipe.synthesize(latents).clamp(-1, 1).float()


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Measurements of several methods as a Markdown table, with a column for each method."""
    titles = {
        "captions": "captions",
        "statements": "statements that are true",
        "described": "statements that are true, if no character is named",
        "whole_captions": "whole captions that are true",
        "distance": "perceptual distance between seeds",
        "unspoken": "unspoken attributes that differ between seeds",
        "frechet_distance": "Frechet distance to the portraits",
        "perceptual_distance": "perceptual distance to the caption's portrait",
        "seconds": "seconds a face",
    }
    lines = [f"| | {' | '.join(rows)} |", f"| --- |{' --- |' * len(rows)}"]
    for key, title in titles.items():
        lines.append(f"| {title} | {' | '.join(_cell(row.get(key)) for row in rows.values())} |")
    for name in ATTRIBUTES:
        found = [row["attributes"].get(name) for row in rows.values()]
        if any(found):
            cells = [
                "" if values is None else f"{values['share']:.2f} of {values['count']}"
                for values in found
            ]
            lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _features(reader: AttributeReader, images: Tensor) -> Tensor:
    return torch.cat([reader.features(part) for part in images.split(32)])


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _rounded(value: Any) -> Any:
    """Rounded to four places, which is more than the number of faces justifies."""
    if isinstance(value, Mapping):
        return {name: _rounded(part) for name, part in value.items()}
    return round(value, 4) if isinstance(value, float) else value
