"""The face that a command starts from: a seed, a person from a photo, or a saved picture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylegan_hub.cli.console import UsageError, one_line, open_studio
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


PersonArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A face in place of a seed: a file from `stylegan-hub invert`, or a PNG saved by "
        "stylegan-hub, which keeps its edits."
    ),
]


PhotoOption = Annotated[
    Path | None,
    typer.Option(
        help="The photo of the person. By default it is looked for beside the person's file and in "
        "the current folder."
    ),
]


@dataclass(frozen=True)
class Start:
    """Options of `edit` and `film`: the face, with the edits that it already has."""

    person: PersonArgument = None
    seed: SeedOption = 0
    label: LabelOption = None
    edits: EditsOption = None
    truncation: TruncationOption = 0.7
    pipeline: PipelineOption = "portraits"
    device: DeviceOption = "auto"
    runtime: RuntimeOption = None


@dataclass(frozen=True)
class Source:
    """The source of a face: a person, and the photo to paste the face into, if any."""

    person: Person
    photo: Photo | None


def face_of(
    start: Start, paste: str = "none", photo: Path | None = None
) -> tuple[Session, Source | None]:
    """A session for a seed or for a person in a file, with its edits.

    Args:
        paste: what is pasted into the photo; "none" if the photo is not needed.
        photo: where the photo is, if not beside the person's file.
    """
    from stylegan_hub.photos.person import Person
    from stylegan_hub.session import Session

    own = (start.seed, start.label, start.truncation)
    if start.person is not None and own != (Start.seed, Start.label, Start.truncation):
        raise UsageError(
            f"{start.person.name} holds a face. Leave out --seed, --label and --truncation, which "
            "choose another one."
        )
    session = Session(start.seed, truncation_psi=start.truncation, label=label_of(start.label))
    if start.person is None:
        return _with_edits(session, start.edits), None
    if start.person.suffix.lower() == ".png":
        return _with_edits(_opened(start.person, start.pipeline), start.edits), None
    person = Person.load(start.person)
    if person.is_portrait:
        typer.echo("Note: A drawn portrait is not pasted into the photo.", err=True)
    is_pasted = paste != "none" and not person.is_portrait
    found = _photo_of(person, photo, start.person.parent) if is_pasted else None
    session = replace(session, latents=person.latents)
    return _with_edits(session, start.edits), Source(person, found)


def _opened(picture: Path, pipeline: str) -> Session:
    """The face and edits of a PNG that stylegan-hub saved."""
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.pictures import open_picture

    session, problems = open_picture(open_studio(pipeline).pipe, picture, load_edit)
    for problem in problems:
        typer.echo(f"Warning: {one_line(problem)}", err=True)
    return session


def _photo_of(person: Person, given: Path | None, folder: Path) -> Photo:
    """The photo that a person is from: the given one, or the one with its name if it is found."""
    from stylegan_hub.photos.align import check_same
    from stylegan_hub.photos.photo import read_photo

    name = person.alignment.name
    places = [given] if given is not None else [folder / name, Path(name)]
    if len({place.absolute() for place in places}) == 1:
        del places[1:]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(
            f"The photo is not at {' or '.join(map(str, places))}. Give its path with --photo, or "
            "write only the face with --paste none."
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
