"""Measure how photographs are dealt with: faces found, identities told apart, objects kept.

    python recipes/evaluate_photographs.py --output_dir runs/photographs --count 100
    python recipes/evaluate_photographs.py --output_dir runs/photographs \\
        --photos astronaut.png grace_hopper.jpg
    python recipes/evaluate_photographs.py --output_dir runs/photographs \\
        --calibrate cards/portraits

Tables on renders, whose truth is known. *faces*: scenes with drawn portraits turned by any angle,
small, several or partly outside, and scenes without any: recall and false finds of the bundled
finder alone (which learned photographs) and of what the pipeline uses. *objects*: a microphone, a
hand and a scarf before rendered portraits; what of them is left after an edit, with `keep_own` 0
and 1. *borders*: whole heads pasted back; the steps of color that this adds near the border.
*traits*: how often a portrait likeness of a render has the render's own attributes. *neutral*: how
often a face shows no expression after that was asked for. *likeness*: pairs of renders of one
person and of two; --calibrate writes what their cosines say into the recognizer's config.

Of photographs, faces and times are listed, the distances between the people if the judge of
identity was fetched, and the recall in scenes that their faces are pasted into.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from command_line import run
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

import stylegan_hub as hub
from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.metrics.judges import READER, reader_for
from stylegan_hub.metrics.verification import calibration, verification
from stylegan_hub.photos.align import Alignment, LandmarkProvider, align, cut
from stylegan_hub.photos.comparison import compare
from stylegan_hub.photos.finders import finder
from stylegan_hub.photos.paste import paste
from stylegan_hub.photos.people import PeopleFinder, read_face
from stylegan_hub.photos.photo import Photo, read_photo
from stylegan_hub.photos.traits import measure
from stylegan_hub.portraits.attributes import Portraits, sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.from_photo import portrait_like
from stylegan_hub.portraits.renderer import render

_SCENE = (640, 480)
_KINDS = {"upright": 0.0, "turned by 20": 20.0, "turned by 60": 60.0, "turned by 120": 120.0}
_EDITS = ("afro-hair", "surprised", "glasses")
_OBJECTS = ("microphone", "hand", "scarf")
_CALM = "a face with a neutral expression"
_NEUTRAL = "neutral"
_TRAITS = ("expression", "age", "hair_style", "hair_color", "skin", "beard", "glasses", "hat",
           "lipstick", "pose", "background", "clothes")  # fmt: skip
_BORDER = 0.12  # of the side: how far inside the border `paste` fades
_HEAD = 256  # pixels

Head = Callable[[int], Image.Image]
"""The aligned square of a face, by a seed."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is measured, and on how many portraits."""

    output_dir: Path
    """Folder to write photographs.json to."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    tables: tuple[str, ...] = ("faces", "objects", "borders", "traits", "neutral", "likeness")
    """Tables on renders to measure."""
    count: int = 40
    """Scenes of each kind, and portraits for every other table."""
    identities: int = 200
    """Number of people for the likeness, with four pictures each."""
    photos: tuple[Path, ...] = ()
    """Photographs whose faces are listed."""
    calibrate: Path | None = None
    """Folder of the pipeline to write the calibration into."""


def main(config: Config) -> None:
    """Measure, print, and write photographs.json."""
    pipe = hub.StyleEditPipeline.from_pretrained(config.pipeline)
    measured: dict[str, Any] = {}
    if config.calibrate is not None:
        measured["likeness"] = likeness(pipe, config.identities)
        calibrated = measured["likeness"]["calibration"]
        write_calibration(config.calibrate / "recognizer" / "config.json", calibrated)
    elif config.photos:
        measured["photographs"] = {path.name: listed(path) for path in config.photos}
        measured["distances"] = distances(config.photos)
        finders: dict[str, LandmarkProvider] = {"people": PeopleFinder()}
        measured["faces"] = faces(finders, config.count, photographed(config.photos))
    else:
        finders = {"people": PeopleFinder(), "both": finder(pipe)}
        tables: dict[str, Callable[[], dict[str, Any]]] = {
            "faces": lambda: faces(finders, config.count, drawn),
            "objects": lambda: objects(pipe, config.count),
            "borders": lambda: borders(pipe, config.count),
            "traits": lambda: traits(config.count),
            "neutral": lambda: neutral(pipe, config.count),
            "likeness": lambda: likeness(pipe, config.identities),
        }
        if unknown := set(config.tables) - tables.keys():
            raise ValueError(
                f"Got the tables {', '.join(sorted(unknown))}; choose from {', '.join(tables)}."
            )
        for name in config.tables:
            measured[name] = tables[name]()
            print(name, measured[name], flush=True)
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


def distances(paths: tuple[Path, ...]) -> dict[str, float | None]:
    """Between the people of every two photographs, and of one and its mirror image."""
    pictures = {path.name: read_photo(path).image for path in paths}
    mirrored = {
        f"{name}, mirrored": picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for name, picture in pictures.items()
    }
    pairs = [*itertools.combinations(pictures, 2), *zip(pictures, mirrored, strict=True)]
    both = pictures | mirrored
    return {f"{a} - {b}": compare(both[a], both[b]).distance for a, b in pairs}


def drawn(seed: int) -> Image.Image:
    """A drawn portrait."""
    return image_files.to_pil(render(sample([seed]), _HEAD))[0]


def photographed(paths: tuple[Path, ...]) -> Head:
    """The largest faces of the photographs, one after the other."""
    heads = []
    for path in paths:
        photo = read_photo(path)
        face = PeopleFinder().faces(photo.image)[0]
        heads.append(cut(photo, align(photo, face.landmarks), _HEAD))
    return lambda seed: heads[seed % len(heads)]


def faces(
    looks: dict[str, LandmarkProvider], count: int, head: Head
) -> dict[str, dict[str, float]]:
    """Recall and false finds of finders in scenes of each kind."""
    table: dict[str, dict[str, float]] = {}
    kinds = [*_KINDS, "small", "several", "partly outside", "nobody"]
    for kind in kinds:
        wanted = 0
        hits = dict.fromkeys(looks, 0)
        false = dict.fromkeys(looks, 0)
        for index in range(count):
            scene, places = _scene(kind, UNSEEN_SEED + index, head)
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


def _scene(kind: str, seed: int, head: Head) -> tuple[Image.Image, list[tuple[complex, float]]]:
    """A scene, and of every face in it a place near the mouth and how near is near enough."""
    width, height = _SCENE
    scene = Image.new("RGB", _SCENE, tuple(np.random.default_rng(seed).integers(60, 200, 3)))
    if kind == "nobody":
        pen = ImageDraw.Draw(scene)
        for x, y in np.random.default_rng(seed).integers(0, 400, (12, 2)).tolist():
            pen.ellipse((x, y, x + 90, y + 110), outline="black", fill=(x % 255, y % 255, 120))
        return scene, []
    sides = {"small": 120, "several": 220, "partly outside": 300}
    side = sides.get(kind, 280)
    middles = {"several": [(150, 240), (320, 150), (490, 300)], "partly outside": [(80, 300)]}
    places = []
    for number, (x, y) in enumerate(middles.get(kind, [(width / 2, height / 2)])):
        turn = _KINDS.get(kind, 0.0)
        size = round(side / (math.cos(math.radians(turn % 90)) + math.sin(math.radians(turn % 90))))
        square = head(seed + 100_001 * number).resize((size, size))
        square = square.rotate(-turn, expand=True, resample=Image.Resampling.BICUBIC)
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


def borders(pipe: hub.StyleEditPipeline, count: int) -> dict[str, float]:
    """How visible the border of a whole head is that was pasted back without an edit.

    The photograph is a rendered portrait, continued beyond its edges, so every step of color that
    pasting adds near the border is a flaw. Measured is the mean step between neighboring pixels of
    what was changed, in the band where a paste fades, as a share of the photograph's own steps
    there; for the render as it is, and 30 of 255 darker, as a poor inversion is.
    """
    size = pipe.generator.config.img_resolution
    margin = size // 3
    rows: dict[str, list[float]] = {}
    for index in range(count):
        (face,) = image_files.to_pil(render(sample([UNSEEN_SEED + index]), size))
        sides = ((margin, margin), (margin, margin), (0, 0))
        photo = Photo(Image.fromarray(np.pad(np.asarray(face), sides, "edge")))
        low, high = margin - 0.5, margin + size - 0.5
        alignment = Alignment(((low, low), (low, high), (high, high), (high, low)), photo.size)
        (inverted,) = pipe(latents=pipe.invert(face)).images
        darker = Image.fromarray(np.clip(np.asarray(inverted, int) - 30, 0, 255).astype(np.uint8))
        own = _mean_step(np.asarray(photo.image, float), margin, size)
        for what, head in (("as inverted", inverted), ("darker", darker)):
            hard = photo.image.copy()
            hard.paste(head, (margin, margin))
            for how, result in (
                ("laid over", hard),
                ("faded", paste(photo, alignment, head, where="face")),
                ("faded, meeting the colors", paste(photo, alignment, head, head, "face", 0.0)),
            ):
                change = np.asarray(result, float) - np.asarray(photo.image, float)
                step = _mean_step(change, margin, size)
                rows.setdefault(f"{what}, {how}", []).append(step / own)
    return {name: float(np.mean(shares)) for name, shares in rows.items()}


def _mean_step(picture: NDArray[np.float64], margin: int, size: int) -> float:
    """The mean step between neighboring pixels, largest channel, in the band of a paste."""
    right = np.abs(np.diff(picture, axis=1)).max(2)[:-1]
    down = np.abs(np.diff(picture, axis=0)).max(2)[:, :-1]
    band = np.zeros(right.shape, bool)
    band[margin - 1 : margin + size, margin - 1 : margin + size] = True
    depth = round(_BORDER * size)
    inner = slice(margin + depth, margin + size - depth)
    band[inner, inner] = False
    return float(np.maximum(right, down)[band].mean())


def traits(count: int) -> dict[str, Any]:
    """Share of renders whose likeness has the same value of each attribute, where one was found."""
    look, right = PeopleFinder(), dict.fromkeys(_TRAITS, 0)
    found = 0
    for index in range(count):
        portraits = sample([UNSEEN_SEED + index])
        (picture,) = image_files.to_pil(render(portraits, _HEAD))
        if not (seen := look.upright_faces(picture)):
            continue
        found += 1
        alike = portrait_like(measure(picture, seen[0])).label_names(0)
        truth = portraits.label_names(0)
        for name in right:
            right[name] += alike[name] == truth[name]
    return {"found": found / count} | {name: right[name] / max(found, 1) for name in right}


def neutral(pipe: hub.StyleEditPipeline, count: int) -> dict[str, float]:
    """Share of inverted faces that show no expression, before and after it was asked for."""
    reader = reader_for(pipe, READER, None)
    assert reader is not None
    expressive: list[Portraits] = []
    for seed in itertools.count(UNSEEN_SEED):
        portraits = sample([seed])
        if portraits.label_names(0)["expression"] != _NEUTRAL:
            expressive.append(portraits)
        if len(expressive) == count:
            break
    shown = {"before": 0, "after": 0}
    for portraits in expressive:
        (picture,) = image_files.to_pil(render(portraits, pipe.generator.config.img_resolution))
        latents = pipe.invert(picture)
        edit = pipe.find(_CALM, latents)
        for name, strength in (("before", 0.0), ("after", edit.strength.default)):
            (image,) = pipe(latents=latents, edits=[(edit, strength)]).images
            images = image_files.from_pil(image)
            shown[name] += reader.read(images).words(0)["expression"] == _NEUTRAL
    return {name: value / count for name, value in shown.items()}


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
