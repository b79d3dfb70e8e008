"""A folder of photographs: invert all, edit all, show all; what fails is told at the end.

OUTPUT/latents/me-jpg.safetensors   one file a photograph (`Person`), used again next time
OUTPUT/edited/me-jpg.png            the photograph with the edited face in it
OUTPUT/sheet.png                    aligned, drawn and edited side by side, all photographs
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.latents import Latents
from stylegan_hub.photos.align import LandmarkProvider, cut
from stylegan_hub.photos.finders import locate
from stylegan_hub.photos.invert import Refinement, Tuning
from stylegan_hub.photos.paste import Where, paste
from stylegan_hub.photos.person import Person, invert_photo
from stylegan_hub.photos.photo import Photo, list_photos, read_photo

SHEET_NAME = "sheet.png"
_SHOWN = 192  # pixels of a picture's longer side on the sheet


@dataclass(frozen=True)
class FolderReport:
    """What became of a folder of photographs.

    Attributes:
        people: the latents file of each photograph that could be inverted, by its name.
        reused: names of those whose file was there from an earlier run.
        edited: the picture of each photograph that was edited, by its name.
        failures: why not, for each of the others, by its name.
        sheet: the contact sheet; None when everything failed.
    """

    people: dict[str, Path]
    reused: tuple[str, ...]
    edited: dict[str, Path]
    failures: dict[str, str]
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
) -> FolderReport:
    """Invert, edit and paste back every photograph of a folder.

    A photograph that was inverted before into the same output with the same settings, by the same
    pipeline, is not inverted again.

    Args:
        edits: pairs of an edit and its strength; none only inverts.
        provider: who looks for faces, see `finders.locate`; the largest face of each is taken.
        on_photo: called before each photograph with its number from 0, how many there are, and its
            name.

    Raises:
        NotFoundError: no such folder, or no picture in it.
        MismatchError: an edit of another generator.
    """
    output, paths = Path(output), list_photos(photos)
    for edit, _ in edits:
        edit.check_fits(domain.base_model)  # once and for all, not once for each photograph
    people: dict[str, Path] = {}
    edited: dict[str, Path] = {}
    reused: list[str] = []
    failures: dict[str, str] = {}
    rows: list[list[Image.Image]] = []
    for index, path in enumerate(paths):
        if on_photo is not None:
            on_photo(index, len(paths), path.name)
        slug = path.name.replace(".", "-")
        kept = output / "latents" / f"{slug}.safetensors"
        try:
            photo = read_photo(path)
            person = _known(kept, photo, domain, refinement, tuning)
            if person is not None:
                reused.append(path.name)
            else:
                alignment = locate(domain, photo, provider=provider)
                person = invert_photo(domain, photo, alignment, refinement, tuning)
                person.save(kept)
            people[path.name] = kept
            drawing = person.pipeline(domain)
            before = _drawn(drawing, person.latents)
            row = [cut(photo, person.alignment, (before.height, before.width)), before]
            if edits:
                after = _drawn(drawing, displaced(drawing, person.latents, edits))
                result = paste(photo, person.alignment, after, before, where)
                target = output / "edited" / f"{slug}.png"
                image_files.save(result, target)
                edited[path.name] = target
                row.append(after)
            rows.append([_on_sheet(picture) for picture in row])
        except (ValueError, OSError, ImportError) as error:
            failures[path.name] = str(error)
    sheet = None
    if rows:
        sheet = output / SHEET_NAME
        beside = max(1, round(math.sqrt(len(rows) / len(rows[0]))))
        cells = [picture for row in rows for picture in row]
        image_files.save(image_files.grid(cells, columns=beside * len(rows[0])), sheet)
    return FolderReport(people, tuple(reused), edited, failures, sheet)


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
    """Who was inverted from this very photograph, in this very way, by this pipeline before."""
    if not kept.is_file():
        return None
    try:
        person = Person.load(kept)
    except (ValueError, OSError):
        return None  # it is written anew
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
