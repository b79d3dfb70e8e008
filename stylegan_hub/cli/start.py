"""The face that a command starts from: a seed, a person of a photo, or a picture saved here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylegan_hub.cli.console import one_line, open_studio
from stylegan_hub.cli.options import (
    DeviceOption,
    EditsOption,
    LabelOption,
    PipelineOption,
    RuntimeOption,
    SeedOption,
    TruncationOption,
)
from stylegan_hub.cli.values import label_of, named_strength

if TYPE_CHECKING:
    from stylegan_hub.photos.person import Person
    from stylegan_hub.photos.photo import Photo
    from stylegan_hub.session import Session


# Of `edit`: the face, what to find, what to do with it.
PersonArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A face by a file of `stylegan-hub invert`, in place of a seed; or a PNG that was "
        "saved here, with the edits on it."
    ),
]


PhotoOption = Annotated[
    Path | None,
    typer.Option(
        help="The photo that the person is from; looked for beside the person's file, and in the "
        "current folder, if not given."
    ),
]


@dataclass(frozen=True)
class Start:
    """Options of `edit`: the face, with what is on it already."""

    person: PersonArgument = None
    seed: SeedOption = 0
    label: LabelOption = None
    edits: EditsOption = None
    photo: PhotoOption = None
    truncation: TruncationOption = 0.7
    pipeline: PipelineOption = "portraits"
    device: DeviceOption = "auto"
    runtime: RuntimeOption = None


@dataclass(frozen=True)
class Source:
    """Where a face is from: a person, and the photo that the face goes back into, if it should."""

    person: Person
    photo: Photo | None


def face_of(start: Start, paste: str) -> tuple[Session, Source | None]:
    """A session for a seed, or for a person in a file; with the edits on it."""
    from stylegan_hub.photos.person import Person
    from stylegan_hub.session import Session

    session = Session(start.seed, truncation_psi=start.truncation, label=label_of(start.label))
    if start.person is None:
        return _with_edits(session, start.edits), None
    if start.person.suffix.lower() == ".png":
        return _with_edits(_opened(start.person, start.pipeline), start.edits), None
    person = Person.load(start.person)
    if person.is_portrait:
        typer.echo("Note: a drawn portrait is not pasted into the photo.", err=True)
    is_pasted = paste != "none" and not person.is_portrait
    photo = _photo_of(person, start.photo, start.person.parent) if is_pasted else None
    session = replace(session, latents=person.latents)
    return _with_edits(session, start.edits), Source(person, photo)


def _opened(picture: Path, pipeline: str) -> Session:
    """The face and edits of a PNG that was saved here."""
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.pictures import open_picture

    session, problems = open_picture(open_studio(pipeline).pipe, picture, load_edit)
    for problem in problems:
        typer.echo(f"Warning: {one_line(problem)}", err=True)
    return session


def _photo_of(person: Person, given: Path | None, folder: Path) -> Photo:
    """The photo that a person is from: the given one, or the one of its name where it may be."""
    from stylegan_hub.photos.align import check_same
    from stylegan_hub.photos.photo import read_photo

    name = person.alignment.name
    places = [given] if given is not None else [folder / name, Path(name)]
    if len({place.absolute() for place in places}) == 1:
        del places[1:]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(
            f"The photo is not at {' or '.join(map(str, places))}; say with --photo where it is, "
            "or write the face alone with --paste none."
        )
    photo = read_photo(found)
    check_same(photo, person.alignment)
    return photo


def _with_edits(session: Session, edits: list[str] | None) -> Session:
    from stylegan_hub import names
    from stylegan_hub.edits.base import load_edit

    for name, strength in map(named_strength, edits or ()):
        leads = names.hub_id(name) is not None and not Path(name).is_dir()
        session = session.with_edit(load_edit(name), strength, name if leads else None)
    return session
