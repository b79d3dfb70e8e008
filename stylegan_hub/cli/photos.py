"""`stylegan-hub invert` and `batch`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stylegan_hub.cli.console import (
    UsageError,
    main,
    noted,
    one_line,
    open_studio,
    reporting,
)
from stylegan_hub.cli.options import (
    AlignedOption,
    DetailOption,
    DeviceOption,
    KeepOwnOption,
    PipelineOption,
    RefineOption,
    RuntimeOption,
    TuneOption,
)
from stylegan_hub.cli.values import check_folder, check_picture, named_strength, points_of

if TYPE_CHECKING:
    from stylegan_hub.edits.base import Edit
    from stylegan_hub.photos.align import Alignment
    from stylegan_hub.photos.folder import FolderReport
    from stylegan_hub.photos.paste import Where
    from stylegan_hub.photos.people import Face
    from stylegan_hub.photos.person import Person
    from stylegan_hub.photos.photo import Photo
    from stylegan_hub.pipeline import StyleEditPipeline
    from stylegan_hub.steps import Step


# Of `invert`: where the face is, and what to write.
PersonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File to write. By default NAME.safetensors beside the photo."
    ),
]


WhichFaceOption = Annotated[
    int | None, typer.Option(min=1, help="Which face: 1, the default, is the largest.")
]


PointsOption = Annotated[
    str | None,
    typer.Option(
        help="Where the face is, in place of a search: both eyes and the mouth, 'x,y x,y x,y' in "
        "pixels."
    ),
]


PortraitOption = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(
        help="Make a drawn portrait with the person's traits instead of inverting the photo. With "
        "auto, this happens if the pipeline renders cartoons and the photo shows a person."
    ),
]


PreviewOption = Annotated[
    Path | None,
    typer.Option(
        help="Picture to write: the aligned photo, its render, and, marked in violet, what pasting "
        "would keep from the photo."
    ),
]


@main.command()
def invert(
    photo: Annotated[Path, typer.Argument(help="The photo: a picture file.")],
    output: PersonFileOption = None,
    refine: RefineOption = 0,
    tune: TuneOption = 0,
    face: WhichFaceOption = None,
    points: PointsOption = None,
    aligned: AlignedOption = False,
    preview: PreviewOption = None,
    portrait: PortraitOption = "auto",
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Find the face in a photo and the latent that renders it.

    Ask people before you edit pictures of them. The bundled pipeline renders cartoons. From a photo
    of a person it makes a drawn portrait with the same hair, glasses, expression and colors, and
    says so. For a pipeline of houses or cars, the middle of the photo is taken, in the shape of the
    pipeline's pictures.

    \b
    Examples:
      stylegan-hub invert me.png --refine 100 -o me.safetensors
      stylegan-hub invert holiday.jpg --preview portrait.png
      stylegan-hub invert us.jpg --face 2 --refine 100 --tune 100 --preview look.png
      stylegan-hub invert me.jpg --points "412,300 520,310 460,410" --refine 100
    """
    with reporting():
        if sum((face is not None, points is not None, aligned)) > 1:
            raise UsageError("Give only one of --face, --points and --aligned.")
        clicks = None if points is None else points_of(points)
        output = photo.with_suffix(".safetensors") if output is None else output
        if output.suffix != ".safetensors":
            raise UsageError(f"Got --output {output.name}; the name must end in .safetensors.")
        check_folder(output.parent)
        if preview is not None:
            check_picture(preview)

        from stylegan_hub.photos.finders import draws_faces
        from stylegan_hub.photos.likeness import same_person
        from stylegan_hub.photos.person import check_replaceable
        from stylegan_hub.photos.photo import read_photo

        check_replaceable(output)

        picture = read_photo(photo)
        for note in picture.notes:
            typer.echo(f"Note: {note}", err=True)
        pipe = open_studio(pipeline, device, runtime).pipe
        alignment = _alignment(pipe, picture, face, clicks, aligned)
        drawn = _undrawable(pipe, picture, alignment, portrait)
        if drawn is None:
            person = _inverted(pipe, picture, alignment, refine, tune)
        else:
            person = _portrait(pipe, picture, alignment, drawn)
        person.save(output)
        if preview is not None:
            _write_preview(pipe, picture, person, preview)
    corners = " ".join(f"({round(x)}, {round(y)})" for x, y in alignment.quad)
    what = "The face" if draws_faces(pipe) else "The part that was cut out"
    typer.echo(one_line(f"{what} in {picture.name} has the corners {corners}."))
    if drawn is None:
        typer.echo(f"Likeness of the render: {person.likeness}.")
        if person.likeness is not None and pipe.recognizer is not None:
            typer.echo(f"{same_person(pipe, person.likeness.identity)}.")
        for line in _read_likeness(pipe, picture, person):
            typer.echo(line)
    typer.echo(f"Wrote {output}" + (f" and {preview}" if preview else "") + ".")


@main.command()
def batch(
    photos: Annotated[Path, typer.Argument(help="Folder of photos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit", help="A saved edit and its strength, for all photos. May be repeated."
        ),
    ] = None,
    refine: RefineOption = 0,
    tune: TuneOption = 0,
    paste: Annotated[
        Literal["changed", "face"],
        typer.Option(
            help="What to paste back into the photos: only what the edits changed, or whole faces."
        ),
    ] = "changed",
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Edit all faces in each photo, not only the largest.")
    ] = False,
    subfolders: Annotated[
        bool, typer.Option("--subfolders", help="Include photos in subfolders.")
    ] = False,
    aligned: AlignedOption = False,
    keep_own: KeepOwnOption = 1.0,
    detail: DetailOption = True,
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Invert and edit every photo in a folder, and make a contact sheet.

    Latents are kept in OUTPUT/latents and reused by the next run. Files that are not photos are
    counted and listed. A photo that fails does not stop the others; failures are listed at the end,
    with exit status 1.

    \b
    Examples:
      stylegan-hub batch holidays --pipeline ffhq -o edited --refine 100 --edit ./afro:1
      stylegan-hub batch holidays --pipeline ffhq -o edited --everyone --edit ./afro:1
    """
    with reporting():
        check_folder(output)
        wanted = [named_strength(name) for name in edits or ()]

        if everyone and aligned:
            raise UsageError("Give only one of --everyone and --aligned.")

        from stylegan_hub.edits.base import load_edit
        from stylegan_hub.photos.photo import list_photos

        list_photos(photos, subfolders, output)  # refuses an unsuitable folder before the work
        loaded = [(load_edit(name), strength) for name, strength in wanted]
        chosen = [(e, e.strength.default if s is None else s) for e, s in loaded]
        pipe = open_studio(pipeline, device, runtime).pipe
        found: dict[str, Any] = {"keep_own": keep_own, "detail": detail, "subfolders": subfolders}
        found |= {"everyone": everyone, "aligned": aligned}
        report = _edited_folder(pipe, photos, output, chosen, refine, tune, paste, found)
    done, again = len(report.people), len(report.reused)
    count = done + len(report.failures)
    typer.echo(
        f"Inverted {done} of {count} photo{'s' * (count != 1)}, {again} of them in an earlier run."
    )
    if report.sheet is not None:
        typer.echo(f"Wrote {report.sheet}.")
    if report.skipped:
        count = len(report.skipped)
        typer.echo(f"Left out {count} other {'entry' if count == 1 else 'entries'}.")
    for name, why in report.skipped.items():
        typer.echo(one_line(f"Left out: {name}: {why}."), err=True)
    for name, why in report.failures.items():
        typer.echo(one_line(f"Failed: {name}: {why}"), err=True)
    if report.failures:
        raise typer.Exit(1)


def _alignment(
    pipe: StyleEditPipeline,
    photo: Photo,
    face: int | None,
    clicks: list[tuple[float, float]] | None,
    aligned: bool,
) -> Alignment:
    """Where the face is: at the clicked points, the whole picture, or where it is found."""
    from stylegan_hub.photos import align, finders

    if clicks is not None:
        return align.align(photo, align.Landmarks.from_clicks(*clicks), finders.framing(pipe))
    if aligned:
        return align.whole(photo.size, photo.name, pipe.generator.img_size)
    return finders.locate(pipe, photo, face)


def _undrawable(
    pipe: StyleEditPipeline, photo: Photo, alignment: Alignment, portrait: str
) -> Face | None:
    """The face for a drawn portrait; None if an inversion is requested, or can work."""
    from stylegan_hub.photos.finders import person_at, undrawable_person

    if portrait == "no":
        return None
    if portrait == "yes":
        return person_at(photo, alignment)
    return undrawable_person(pipe, photo, alignment)


def _portrait(pipe: StyleEditPipeline, photo: Photo, alignment: Alignment, face: Face) -> Person:
    """A drawn portrait; prints what it is and which traits were read."""
    from stylegan_hub.photos.person import PORTRAIT
    from stylegan_hub.portraits.from_photo import NOTICE, portrait_of

    typer.echo(NOTICE)
    person = portrait_of(pipe, photo, alignment, face)
    traits = person.settings[PORTRAIT].items()
    read = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in traits)
    typer.echo(f"Read from the photo, and drawn: {read}.")
    return person


def _inverted(
    pipe: StyleEditPipeline, photo: Photo, alignment: Alignment, refine: int, tune: int
) -> Person:
    """The person in a photo; shows a progress bar meanwhile."""
    from tqdm import tqdm

    from stylegan_hub.photos.invert import Refinement, Tuning
    from stylegan_hub.photos.person import invert_photo

    refinement = Refinement(steps=refine) if refine else None
    tuning = Tuning(steps=tune) if tune else None
    with tqdm(desc="Inverting", total=refine + tune, unit="step", disable=None) as progress:

        def show(step: Step) -> None:  # refinement and tuning each count from 1
            progress.set_postfix_str(noted(step), refresh=False)
            progress.update()

        return invert_photo(pipe, photo, alignment, refinement, tuning, show)


def _read_likeness(pipe: StyleEditPipeline, photo: Photo, person: Person) -> list[str]:
    """What readers independent of the search say about the render, for photographs of people."""
    from stylegan_hub.photos.finders import draws_photographs

    if not draws_photographs(pipe):
        return []
    from stylegan_hub.photos.align import cut
    from stylegan_hub.photos.comparison import compare

    (drawn,) = person.pipeline(pipe)(latents=person.latents).images
    shown = cut(photo, person.alignment, (drawn.height, drawn.width))
    return compare(shown, drawn).in_words("in the photo", "in the render")


def _edited_folder(
    pipe: StyleEditPipeline,
    photos: Path,
    output: Path,
    edits: list[tuple[Edit, float]],
    refine: int,
    tune: int,
    paste: Where,
    found: dict[str, Any],
) -> FolderReport:
    """Run `edit_folder` with a progress bar.

    Args:
        found: its options for files and faces, by name.
    """
    from tqdm import tqdm

    from stylegan_hub.photos.folder import edit_folder
    from stylegan_hub.photos.invert import Refinement, Tuning

    refinement = Refinement(steps=refine) if refine else None
    tuning = Tuning(steps=tune) if tune else None
    with tqdm(desc="Photos", unit="photo", disable=None) as progress:

        def show(index: int, total: int, name: str) -> None:
            progress.n, progress.total = index, total
            progress.set_postfix_str(name)

        return edit_folder(
            pipe, photos, output, edits, refinement, tuning, where=paste, on_photo=show, **found
        )


def _write_preview(pipe: StyleEditPipeline, photo: Photo, person: Person, output: Path) -> None:
    """Write the part that was cut out, its render, and what would stay the photo's own.

    The third picture is left out for a portrait, which is not pasted back.
    """
    from stylegan_hub import images
    from stylegan_hub.photos.align import cut
    from stylegan_hub.photos.paste import overlay, undrawn

    (drawn,) = person.pipeline(pipe)(latents=person.latents).images
    shown = cut(photo, person.alignment, (drawn.height, drawn.width))
    pictures = [shown, drawn]
    if not person.is_portrait:
        pictures.append(overlay(shown, undrawn(photo, person.alignment, drawn)))
    images.save(images.grid(pictures, columns=len(pictures)), output)
