"""Invert and edit all photographs of a folder; failures are reported at the end.

    OUTPUT/latents/me-jpg.safetensors   one file per photograph (`Person`), used again next time
    OUTPUT/edited/me-jpg.png            the photograph with the edited face in it
    OUTPUT/sheet.png                    all photographs: aligned, rendered and edited side by side

`FolderReport` lists what was written and what failed.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.errors import MismatchError
from stylegan_hub.latents import Latents
from stylegan_hub.photos.align import Alignment, LandmarkProvider, align, cut, find_faces, whole
from stylegan_hub.photos.finders import draws_faces, finder, framing, locate, undrawable_person
from stylegan_hub.photos.invert import Refinement, Tuning
from stylegan_hub.photos.paste import Where, paste
from stylegan_hub.photos.person import Person, invert_photo
from stylegan_hub.photos.photo import Photo, list_photos, read_photo

SHEET_NAME = "sheet.png"
_LONGEST = 160  # bytes of a name; file systems take 255, with what is added to it
_SHOWN = 192  # pixels of a picture's longer side on the sheet


@dataclass(frozen=True)
class FolderReport:
    """The results for a folder of photographs.

    Attributes:
        people: the latents file of each photograph that could be inverted, by the photograph's
            name.
        reused: names of those whose file existed from an earlier run.
        edited: the picture of each photograph that was edited, by the photograph's name.
        failures: the reason for each photograph that failed, by its name.
        skipped: the reason why a file or a folder in it was left out, by its name.
        sheet: the contact sheet; None if everything failed.
    """

    people: dict[str, Path]
    reused: tuple[str, ...]
    edited: dict[str, Path]
    failures: dict[str, str]
    skipped: dict[str, str]
    sheet: Path | None


def edit_folder(
    domain: Domain,
    photos: str | Path,
    output: str | Path,
    edits: Sequence[tuple[Edit, float]] = (),
    refinement: Refinement | None = None,
    tuning: Tuning | None = None,
    provider: LandmarkProvider | None = None,
    where: Where = "changed",
    on_photo: Callable[[int, int, str], None] | None = None,
    subfolders: bool = False,
    everyone: bool = False,
    aligned: bool = False,
    keep_own: float = 1.0,
    detail: bool = True,
) -> FolderReport:
    """Invert, edit and paste back every photograph of a folder.

    A photograph that the same pipeline already inverted with the same settings into the same output
    is not inverted again.

    Args:
        edits: pairs of an edit and its strength; if empty, photographs are only inverted.
        provider: what looks for faces, see `finders.locate`; the largest face in each photograph is
            taken.
        on_photo: called before each photograph with its number from 0, how many there are, and its
            name, including its folder within `photos`.
        subfolders: include photographs in subfolders, except in `output`.
        everyone: edit all faces in each photograph, and paste all of them back.
        aligned: each photograph is an aligned picture already and is taken whole.
        keep_own: how much of what the generator cannot render stays the photograph's own, see
            `paste`.
        detail: give edited faces the details of their photographs, if the pipeline has a detailer.

    Raises:
        NotFoundError: there is no such folder, or no picture in it.
        MismatchError: an edit belongs to another generator.
    """
    output, listed = Path(output), list_photos(photos, subfolders, output)
    for edit, _ in edits:
        edit.check_fits(domain.base_model)  # once up front, not once per photograph
    how = How(
        domain, edits, refinement, tuning, provider, where, everyone, aligned, keep_own, detail
    )
    people: dict[str, Path] = {}
    edited: dict[str, Path] = {}
    reused: list[str] = []
    failures: dict[str, str] = {}
    rows: list[list[Image.Image]] = []
    for index, path in enumerate(listed.photos):
        name = path.relative_to(photos).as_posix()
        if on_photo is not None:
            on_photo(index, len(listed.photos), name)
        try:
            done = edit_photo(how, path, output, name)
        except (ValueError, OSError, ImportError) as error:
            failures[name] = str(error)
            continue
        people[name] = done.kept
        rows += done.rows
        reused += [name] if done.is_reused else []
        edited |= {} if done.edited is None else {name: done.edited}
    sheet = None
    if rows:
        sheet = output / SHEET_NAME
        beside = max(1, round(math.sqrt(len(rows) / len(rows[0]))))
        cells = [picture for row in rows for picture in row]
        image_files.save(image_files.grid(cells, columns=beside * len(rows[0])), sheet)
    return FolderReport(people, tuple(reused), edited, failures, listed.skipped, sheet)


@dataclass(frozen=True)
class How:
    """The settings that all photographs share, see `edit_folder`."""

    domain: Domain
    edits: Sequence[tuple[Edit, float]]
    refinement: Refinement | None
    tuning: Tuning | None
    provider: LandmarkProvider | None
    where: Where
    everyone: bool
    aligned: bool
    keep_own: float
    detail: bool


@dataclass(frozen=True)
class Done:
    """The result for one photograph."""

    kept: Path
    edited: Path | None
    rows: list[list[Image.Image]]
    is_reused: bool


def edit_photo(how: How, path: Path, output: Path, name: str) -> Done:
    """Invert and edit one photograph, all of its faces or the largest, and write the results."""
    slug = _slug(name)
    photo = read_photo(path)
    kept = output / "latents" / f"{slug}.safetensors"
    rows, result, is_reused = [], photo, True
    for number, alignment in enumerate(_alignments(how, photo, kept), 1):
        file = kept if number == 1 else kept.with_name(f"{slug}-{number}.safetensors")
        person = _known(file, photo, how.domain, how.refinement, how.tuning)
        if person is None or person.alignment != alignment:
            _check_drawable(how.domain, photo, alignment)
            person = invert_photo(how.domain, photo, alignment, how.refinement, how.tuning)
            person.save(file)
            is_reused = False
        drawing = person.pipeline(how.domain)
        before = _drawn(drawing, person.latents)
        row = [cut(photo, person.alignment, (before.height, before.width)), before]
        if how.edits:
            after = _drawn(drawing, displaced(drawing, person.latents, how.edits))
            detailer = how.domain.detailer if how.detail else None
            pasted = paste(
                result, person.alignment, after, before, how.where, how.keep_own, detailer
            )
            result = replace(result, image=pasted)
            row.append(after)
        rows.append([_on_sheet(picture) for picture in row])
    target = output / "edited" / f"{slug}.png" if how.edits else None
    if target is not None:
        image_files.save(result.image, target)
    return Done(kept, target, rows, is_reused)


def _slug(name: str) -> str:
    """The name of a photograph's results: "holiday/me.jpg" becomes "holiday--me-jpg".

    If another photograph could have the same one, as "a.b.jpg" and "a-b.jpg", or if it is long, a
    part of the name's hash follows.
    """
    slug = name.replace(".", "-").replace("/", "--")
    is_unique = name.count(".") == 1 and re.search("--|-/|/-", name) is None
    if is_unique and len(slug.encode()) <= _LONGEST:
        return slug
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    return f"{slug[: _LONGEST // 4]}-{digest}"


def _alignments(how: How, photo: Photo, kept: Path) -> list[Alignment]:
    """Where the faces to edit are; read from the file of an earlier run if it still fits."""
    if how.aligned:
        return [whole(photo.size, photo.name, how.domain.generator.img_size)]
    if how.everyone and draws_faces(how.domain):
        faces = find_faces(photo, how.provider or finder(how.domain))
        return [align(photo, face, framing(how.domain)) for face in faces]
    known = _known(kept, photo, how.domain, how.refinement, how.tuning)
    return [known.alignment if known else locate(how.domain, photo, provider=how.provider)]


def _check_drawable(domain: Domain, photo: Photo, alignment: Alignment) -> None:
    if undrawable_person(domain, photo, alignment) is not None:
        raise MismatchError(
            f"{photo.name} shows a human face, but this pipeline renders cartoons.",
            got="a human face",
            expected="a face that the pipeline can render",
            remedy="`stylegan-hub invert` makes a portrait with the same traits instead.",
        )


def _on_sheet(picture: Image.Image) -> Image.Image:
    scale = _SHOWN / max(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def _known(
    kept: Path,
    photo: Photo,
    domain: Domain,
    refinement: Refinement | None,
    tuning: Tuning | None,
) -> Person | None:
    """The result of an earlier inversion of the same photograph, settings and pipeline, if any."""
    if not kept.is_file():
        return None
    try:
        person = Person.load(kept)
    except (ValueError, OSError):
        return None  # it will be written again
    now = {
        "photo_sha256": photo.sha256,
        "refinement": None if refinement is None else asdict(refinement),
        "tuning": None if tuning is None else asdict(tuning),
    }
    before = {key: person.settings.get(key) for key in now}
    same = person.base_model.fingerprint == domain.base_model.fingerprint
    return person if same and now == before and person.alignment.size == photo.size else None


@torch.no_grad()
def _drawn(domain: Domain, latents: Latents) -> Image.Image:
    (picture,) = image_files.to_pil(domain.synthesize(latents).clamp(-1, 1).float())
    return picture
