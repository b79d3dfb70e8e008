"""Measure how photographs are dealt with: faces found, identities told apart, objects kept.

    python recipes/evaluate_photographs.py --output_dir runs/photographs --count 100
    python recipes/evaluate_photographs.py --output_dir runs/photographs \\
        --photos astronaut.png grace_hopper.jpg
    python recipes/evaluate_photographs.py --output_dir runs/photographs \\
        --calibrate cards/portraits

Three tables on renders, whose truth is known. *Faces*: scenes with drawn portraits turned by any
angle, small, several or partly outside, and the same scenes without any: recall and false finds of
the bundled finder alone (which learned photographs) and of what the pipeline uses. *Objects*: a
microphone, a hand and a scarf before rendered portraits; what of them is left after an edit, with
`keep_own` 0 and 1. *Likeness*: pairs of renders of one person and of two; --calibrate writes what
their cosines say into the recognizer's config. Of photographs, faces and times are listed.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import run
from PIL import Image, ImageDraw
from torch import Tensor

import stylegan_hub as hub
from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.metrics.verification import calibration, verification
from stylegan_hub.photos.align import Alignment
from stylegan_hub.photos.finders import finder
from stylegan_hub.photos.paste import paste
from stylegan_hub.photos.people import PeopleFinder, read_face
from stylegan_hub.photos.photo import Photo, read_photo
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.renderer import render

_SCENE = (640, 480)
_KINDS = {"upright": 0.0, "turned by 20": 20.0, "turned by 60": 60.0, "turned by 120": 120.0}
_EDITS = ("afro-hair", "surprised", "glasses")
_OBJECTS = ("microphone", "hand", "scarf")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured, and on how many portraits."""

    output_dir: Path
    """Folder to write photographs.json to."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    count: int = 40
    """Scenes of each kind, and portraits behind objects."""
    identities: int = 200
    """Number of people for the likeness, with four pictures each."""
    photos: tuple[Path, ...] = ()
    """Photographs whose faces are listed."""
    calibrate: Path | None = None
    """Folder of the pipeline to write the calibration into."""


def main(config: Config) -> None:
    """Measure, print, and write photographs.json."""
    pipe = hub.StyleEditPipeline.from_pretrained(config.pipeline)
    measured: dict[str, Any] = {"photographs": {path.name: listed(path) for path in config.photos}}
    if config.calibrate is not None:
        measured["likeness"] = likeness(pipe, config.identities)
        calibrated = measured["likeness"]["calibration"]
        write_calibration(config.calibrate / "recognizer" / "config.json", calibrated)
    elif not config.photos:
        measured["faces"] = faces(pipe, config.count)
        measured["objects"] = objects(pipe, config.count)
        measured["likeness"] = likeness(pipe, config.identities)
    text = json.dumps(measured, indent=2)
    print(text)
    write_bytes(config.output_dir / "photographs.json", text.encode())


def listed(path: Path) -> dict[str, Any]:
    """Faces in a photograph, and the seconds it took to find them on the processor."""
    photo = read_photo(path)
    look = PeopleFinder()
    look.faces(photo.image)  # the first call loads the networks
    started = time.process_time()
    found = look.faces(photo.image)
    seconds = time.process_time() - started
    pixels = photo.size[0] * photo.size[1] / 1e6
    return {
        "megapixels": pixels,
        "seconds": seconds,
        "faces": [
            {"score": f.score, "doubt": f.doubt, "reading": str(read_face(photo.image, f))}
            for f in found
        ],
    }


def faces(pipe: hub.StyleEditPipeline, count: int) -> dict[str, dict[str, float]]:
    """Recall and false finds in scenes of each kind, for the finder alone and for both."""
    looks = {"people": PeopleFinder(), "both": finder(pipe)}
    table: dict[str, dict[str, float]] = {}
    kinds = [*_KINDS, "small", "several", "partly outside", "nobody"]
    for kind in kinds:
        wanted = 0
        hits = dict.fromkeys(looks, 0)
        false = dict.fromkeys(looks, 0)
        for index in range(count):
            scene, places = _scene(kind, UNSEEN_SEED + index)
            wanted += len(places)
            for name, look in looks.items():
                near = [
                    next((p for p in places if abs(complex(*f.mouth) - p[0]) < p[1]), None)
                    for f in look(scene)
                ]
                hits[name] += len({p for p in near if p is not None})
                false[name] += sum(p is None for p in near)
        table[kind] = {f"recall_{n}": hits[n] / wanted for n in looks if wanted}
        table[kind] |= {f"false_{n}": false[n] / count for n in looks}
        print(kind, table[kind], flush=True)
    return table


def _scene(kind: str, seed: int) -> tuple[Image.Image, list[tuple[complex, float]]]:
    """A scene, and of every face in it a place near the mouth and how near is near enough."""
    width, height = _SCENE
    scene = Image.new("RGB", _SCENE, tuple(np.random.default_rng(seed).integers(60, 200, 3)))
    if kind == "nobody":
        pen = ImageDraw.Draw(scene)
        for _, box in enumerate(np.random.default_rng(seed).integers(0, 400, (12, 2))):
            x, y = (int(at) for at in box)
            pen.ellipse((x, y, x + 90, y + 110), outline="black", fill=(x % 255, y % 255, 120))
        return scene, []
    sides = {"small": 120, "several": 220, "partly outside": 300}
    side = sides.get(kind, 280)
    middles = {"several": [(150, 240), (320, 150), (490, 300)], "partly outside": [(80, 300)]}
    places = []
    for number, (x, y) in enumerate(middles.get(kind, [(width / 2, height / 2)])):
        drawn = image_files.to_pil(render(sample([seed + 100_000 * number]), 256))[0]
        turn = _KINDS.get(kind, 0.0)
        size = round(side / (math.cos(math.radians(turn % 90)) + math.sin(math.radians(turn % 90))))
        square = drawn.resize((size, size)).rotate(-turn, expand=True, resample=3)
        mask = Image.new("L", (size, size), 255).rotate(-turn, expand=True)
        scene.paste(square, (round(x - square.width / 2), round(y - square.height / 2)), mask)
        down = complex(0, 0.13 * size) * complex(
            math.cos(math.radians(turn)), math.sin(math.radians(turn))
        )
        places.append((complex(x, y) + down, 0.25 * size))
    return scene, places


def objects(pipe: hub.StyleEditPipeline, count: int) -> dict[str, dict[str, float]]:
    """How much of objects in front of faces is left after an edit; see the docstring above."""
    edits = [hub.load_edit(name) for name in _EDITS]
    size = pipe.generator.config.img_resolution
    rows: dict[str, list[tuple[float, float]]] = {}
    for index in range(count):
        what = _OBJECTS[index % 3]
        (face,) = image_files.to_pil(render(sample([UNSEEN_SEED + index]), size))
        covered = _with_object(face, what)
        cover = np.asarray(covered, int) != np.asarray(face, int)
        photo = Photo(covered)
        alignment = Alignment(_corners(size), (size, size))
        latents = pipe.invert(covered)
        (before,) = pipe(latents=latents).images
        (after,) = pipe(latents=latents, edits=[(edits[index % 3], 1.0)]).images
        for keep in (0.0, 1.0):
            result = np.asarray(paste(photo, alignment, after, before, "changed", keep), float)
            apart = (result - np.asarray(covered, float))[cover.any(2)]
            psnr = 10 * math.log10(255**2 / max(float((apart**2).mean()), 0.01))
            same = float((apart == 0).all(1).mean())
            rows.setdefault(f"{what}, keep_own {keep:g}", []).append((psnr, same))
    return {
        name: {
            "psnr": float(np.mean([psnr for psnr, _ in values])),
            "untouched": float(np.mean([same for _, same in values])),
        }
        for name, values in sorted(rows.items())
    }


def _corners(size: int) -> Any:
    low, high = -0.5, size - 0.5
    return (low, low), (low, high), (high, high), (high, low)


def _with_object(face: Image.Image, what: str) -> Image.Image:
    """A face behind an object that the domain does not know."""
    covered = face.copy()
    pen, unit = ImageDraw.Draw(covered), face.width / 128
    shapes: dict[str, list[tuple[str, tuple[int, int, int, int], tuple[int, int, int]]]] = {
        "microphone": [("ellipse", (52, 84, 76, 108), (40, 40, 45)),
                       ("rectangle", (60, 104, 68, 127), (70, 70, 75))],
        "hand": [("ellipse", (20, 70, 52, 100), (225, 160, 130)),
                 ("rectangle", (14, 92, 44, 127), (60, 140, 60))],
        "scarf": [("rectangle", (25, 98, 102, 120), (30, 150, 150)),
                  ("rectangle", (78, 100, 96, 127), (20, 120, 120))],
    }  # fmt: skip
    for shape, box, color in shapes[what]:
        getattr(pen, shape)([unit * at for at in box], fill=color)
    return covered


@torch.no_grad()
def likeness(pipe: hub.StyleEditPipeline, identities: int) -> dict[str, Any]:
    """What the recognizer's cosines say about pairs of portraits, with the error on other people.

    Thresholds come from the first half of the people, error rates from the second.
    """
    assert pipe.recognizer is not None
    who = [index // 4 for index in range(4 * identities)]
    embeddings: list[Tensor] = []
    for start in range(0, len(who), 40):
        seeds = range(UNSEEN_SEED + start, UNSEEN_SEED + min(start + 40, len(who)))
        numbers = [UNSEEN_SEED + one for one in who[start : start + 40]]
        embeddings.append(pipe.recognizer(render(sample(seeds, numbers), 128)))
    found, person = torch.cat(embeddings).float(), torch.tensor(who)
    first = person < identities // 2
    known = calibration(found[first], person[first], error=0.05)
    second, others = found[~first], person[~first]
    rows, columns = torch.triu_indices(len(second), len(second), 1)
    cosines = (second @ second.T)[rows, columns]
    same = others[rows] == others[columns]
    known["other_accepted"] = float((cosines[~same] >= known["same_above"]).double().mean())
    known["same_rejected"] = float((cosines[same] < known["other_below"]).double().mean())
    return {"calibration": known, **verification(found, person)}


def write_calibration(path: Path, calibrated: dict[str, float]) -> None:
    """Write the calibration into the config of a recognizer, whose other fields stay."""
    config = json.loads(path.read_text())
    rounded = {name: round(value, 4) for name, value in calibrated.items()}
    write_bytes(path, (json.dumps({**config, "calibration": rounded}, indent=2) + "\n").encode())


if __name__ == "__main__":
    run(main, Config, __doc__)
