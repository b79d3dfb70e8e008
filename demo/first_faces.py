"""The faces that a visitor sees first: good-looking ones, chosen by the attribute reader.

They are chosen once for each generator, when a page starts, and remembered in a cache. So a new
pipeline gets its own first faces without anyone choosing them. Choosing takes seconds, so those of
the bundled generator are in first_faces.json:

    python -m demo.first_faces   # writes it, after another generator was trained
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from stylegan_hub import images as image_files
from stylegan_hub import names
from stylegan_hub.ops.kernels import cache_folder
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader, Reading

COUNT = 8
_READER = "attribute-reader"
_BUNDLED = Path(__file__).with_name("first_faces.json")  # by the generator's fingerprint
_SEEDS = range(64)
_BATCH = 16
# Pleasant to see, and with room for changes: a hat or glasses can then be added.
_WANTED = {
    ("hat", "no"): 3.0,
    ("expression", "smiling"): 3.0,
    ("glasses", "no"): 2.0,
    ("beard", "no"): 1.0,
    ("pose", "front"): 0.5,
    ("gaze", "ahead"): 0.5,
    ("age", "old"): -1.0,
    ("eyes", "closed"): -3.0,
    ("hair_color", "purple"): -1.5,
    ("hair_color", "pink"): -1.5,
    ("hair_color", "green"): -1.5,
    ("hair_style", "bald"): -2.0,
    ("hair_style", "mohawk"): -1.0,
    ("freckles", "yes"): -0.3,
}


def first_seeds(pipe: StyleEditPipeline) -> tuple[int, ...]:
    """Seeds of the faces to choose from at first, the best ones first.

    Only drawn portraits have a reader; for other pipelines these are the lowest seeds.
    """
    folders = names.bundled("model")
    if pipe.landmarker is None or _READER not in folders:
        return tuple(range(COUNT))
    bundled = json.loads(_BUNDLED.read_text(encoding="utf-8"))
    if (chosen := bundled.get(pipe.base_model.fingerprint)) is not None:
        return tuple(chosen)
    remembered = cache_folder() / "first-faces" / f"{pipe.base_model.fingerprint}.json"
    with contextlib.suppress(OSError, ValueError):
        if _is_sound(seeds := json.loads(remembered.read_text())):
            return tuple(seeds)
    seeds = _look(pipe, AttributeReader.from_pretrained(folders[_READER]).eval())
    with contextlib.suppress(OSError):  # if nothing can be written, every start chooses again
        _remember(remembered, seeds)
    return tuple(seeds)


@torch.no_grad()
def _look(pipe: StyleEditPipeline, reader: AttributeReader) -> list[int]:
    scores = []
    for start in range(0, len(_SEEDS), _BATCH):
        pictures = pipe(seed=[*_SEEDS[start : start + _BATCH]]).images
        scores.append(_pleasant(reader.read(image_files.from_pil(pictures))))
    best = torch.cat(scores).argsort(descending=True, stable=True)[:COUNT]
    return [_SEEDS[index] for index in best.tolist()]


def _pleasant(reading: Reading) -> torch.Tensor:
    """How desirable each of the pictures is, as far as this reader can tell."""
    score = torch.zeros(len(reading))
    for (attribute, value), weight in _WANTED.items():
        if value in reading.attributes.get(attribute, ()):
            score += weight * reading.probability(attribute, value).cpu()
    return score


def _is_sound(seeds: object) -> bool:
    return (
        isinstance(seeds, list)
        and len(seeds) == COUNT
        and all(type(seed) is int and seed in _SEEDS for seed in seeds)
    )


def _remember(path: Path, seeds: Sequence[int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps([*seeds]))
    partial.replace(path)


if __name__ == "__main__":
    portraits = StyleEditPipeline.from_pretrained("portraits")
    judge = AttributeReader.from_pretrained(names.bundled("model")[_READER]).eval()
    found = {portraits.base_model.fingerprint: _look(portraits, judge)}
    _BUNDLED.write_text(json.dumps(found) + "\n", encoding="utf-8")
