"""The command `stylegan-hub`.

Libraries that take seconds to import are imported inside the commands, so `--help` is quick.

Exit status: 0 when all went well; 1 when something that was asked for cannot be had (no such edit,
the Hub refuses, the disk is full); 2 when the command line itself makes no sense. Both errors come
as one message that says what to do, without a traceback.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image
    from tqdm import tqdm

    from stylegan_hub.edits.base import Edit
    from stylegan_hub.hub import EditInfo
    from stylegan_hub.methods.method import Method, Request
    from stylegan_hub.photos.align import Alignment
    from stylegan_hub.photos.folder import FolderReport
    from stylegan_hub.photos.paste import Where
    from stylegan_hub.photos.people import Face
    from stylegan_hub.photos.person import Person
    from stylegan_hub.photos.photo import Photo
    from stylegan_hub.pipeline import StyleEditPipeline
    from stylegan_hub.session import Session
    from stylegan_hub.steps import Step
    from stylegan_hub.studio import Studio

# Before torch is imported: threads that spin while they wait take the cores from other programs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

_AUTO = "auto"
_BATCH = 16
_MAX_SEEDS = 10_000

main = typer.Typer(
    name="stylegan-hub",
    help="Change pictures of a StyleGAN2 by words, and share the edits.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take options in groups: a parameter that is a dataclass is its fields."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    options: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = groups.get(parameter.name)
        own = [parameter] if kind is None else inspect.signature(kind).parameters.values()
        known = hints if kind is None else get_type_hints(kind, include_extras=True)
        options += [
            option.replace(annotation=known[option.name], kind=inspect.Parameter.KEYWORD_ONLY)
            for option in own
        ]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        for name, kind in groups.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    with_options.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    with_options.__annotations__ = {option.name: option.annotation for option in options}
    return with_options


PipelineOption = Annotated[
    str, typer.Option("--pipeline", help="Bundled name, folder or Hub id (user/repo@revision).")
]
DeviceOption = Annotated[
    str, typer.Option(help="Where it computes: auto (a GPU if there is one), cpu, cuda, mps.")
]
RuntimeOption = Annotated[
    str | None,
    typer.Option(
        help="What renders: auto (the fastest here), pytorch, openvino, onnx, or the folder of an "
        "exported pipeline."
    ),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Picture to write: .png, .jpg, .webp or .gif.")
]
PasteOption = Annotated[
    Literal["changed", "face", "none"],
    typer.Option(
        help="What of the face goes back into the photo: what the edit changed, all of it, or "
        "nothing: then the aligned face alone is written."
    ),
]
KeepOwnOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="How much of what the generator cannot draw (a hand, a frame) stays the photo's own "
        "when a face is pasted back; 0 = nothing.",
    ),
]
RefineOption = Annotated[
    int,
    typer.Option(
        min=0, max=10_000, help="Steps of the search near the encoder's latent; 0 = encoder alone."
    ),
]
TuneOption = Annotated[
    int,
    typer.Option(
        min=0, max=10_000, help="Steps in which the generator itself learns the photo; 0 = none."
    ),
]
MaxResolutionOption = Annotated[
    int | None,
    typer.Option(min=4, help="Longer side of previews, drawn in a fraction of the time."),
]
TruncationOption = Annotated[
    float, typer.Option(min=-1, max=2, help="1 keeps the full variety, 0 is the average face.")
]
LabelOption = Annotated[
    str | None,
    typer.Option(
        help="For a generator with labels: the number of a class, from 0, or the numbers of a "
        "label, 0.5,0.5."
    ),
]

# Of `edit`: the face, what to find, what to do with it.
PersonArgument = Annotated[
    Path | None,
    typer.Argument(
        help="A face by a file of `stylegan-hub invert`, in place of a seed; or a PNG that was "
        "saved here, with the edits on it."
    ),
]
EditedOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Picture to write: .png, .jpg, .webp or .gif; NAME-edited.png beside the file of a "
        "person if not given.",
    ),
]
SeedOption = Annotated[int, typer.Option(help="Which face.")]
EditsOption = Annotated[
    list[str] | None,
    typer.Option("--edit", help="A saved edit and its strength: afro-hair:1.2. May be repeated."),
]
TextOption = Annotated[
    str | None, typer.Option(help="What the picture should show: 'a face with purple hair'.")
]
NeutralOption = Annotated[
    str | None, typer.Option(help="What it shows now, for --text; the pipeline's own words else.")
]
TargetOption = Annotated[
    Path | None, typer.Option(help="A picture whose character the face should get.")
]
BeforeOption = Annotated[
    list[str] | None,
    typer.Option(help="A picture, or a seed, before a change; with --after. May be repeated."),
]
AfterOption = Annotated[
    list[str] | None,
    typer.Option(help="A picture, or a seed, after the change. May be repeated."),
]
UnpairedOption = Annotated[
    bool,
    typer.Option(
        "--unpaired", help="--before and --after are two heaps of pictures of any size, not pairs."
    ),
]
MethodOption = Annotated[
    str,
    typer.Option(
        help="How the edit is found: a name that `stylegan-hub methods` lists; auto takes what "
        "suits best. A method that needs no words is asked by its name alone."
    ),
]
PresetOption = Annotated[
    str | None, typer.Option(help="Settings of the method by name: published.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="A single setting of the method: space=s. May be repeated."),
]
StepsOption = Annotated[
    int | None, typer.Option(min=1, max=100_000, help="Steps of the search: --set steps=N.")
]
RegionOption = Annotated[
    str | None,
    typer.Option(
        help="The part that changes: hair, or 'mouth, eyes'. Methods that can search in it; what "
        "others find is shown in it alone."
    ),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(help="What should not change, in words, for --text: glasses. May be repeated."),
]
EveryFaceOption = Annotated[
    bool, typer.Option("--every-face", help="Find an edit for every face, not for this one.")
]
ChooseOption = Annotated[
    int, typer.Option(min=1, help="Which one, where a method finds several; 1 is the best.")
]
StrengthOption = Annotated[
    float | None, typer.Option(help="Of the edit that is found; its default if not given.")
]
SaveEditOption = Annotated[
    Path | None, typer.Option(help="Folder to save the edit that is found in.")
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Let --save-edit write into a folder that holds something else."
    ),
]
BeforeAfterOption = Annotated[
    bool, typer.Option("--before-after", help="Write the picture before the edit beside it.")
]
MarkOption = Annotated[
    bool,
    typer.Option(
        "--mark", help="Write “edited” into a corner too; the metadata says so in any case."
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
class _Start:
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
class _Asked:
    """Options of `edit`: what should be searched for, and how."""

    text: TextOption = None
    neutral: NeutralOption = None
    target: TargetOption = None
    before: BeforeOption = None
    after: AfterOption = None
    unpaired: UnpairedOption = False
    method: MethodOption = _AUTO
    preset: PresetOption = None
    settings: SetOption = None
    steps: StepsOption = None
    region: RegionOption = None
    keep: KeepOption = None
    every_face: EveryFaceOption = False
    choose: ChooseOption = 1

    @property
    def pairs(self) -> bool:
        """Whether it is asked by pictures before and after."""
        return bool(self.before or self.after)

    @property
    def anything(self) -> bool:
        """Whether anything should be searched for."""
        by = (self.text is not None, self.target is not None, self.pairs, self.method != _AUTO)
        return any(by)

    @property
    def changes(self) -> dict[str, object]:
        """Settings by name; raises `_UsageError` for what is no 'name=value'."""
        return _changes(self.settings, self.steps)

    def request(self) -> Request:
        """What is asked for, without a region."""
        from stylegan_hub.methods.method import Nothing, Pairs, Picture, Words

        if self.text is not None:
            return Words(self.text, self.neutral, tuple(self.keep or ()))
        if self.target is not None:
            from stylegan_hub.photos.photo import read_photo

            return Picture(read_photo(self.target).image, self.target.stem)
        if self.before and self.after:
            return Pairs(_pictures(self.before), _pictures(self.after), not self.unpaired)
        return Nothing()


@dataclass(frozen=True)
class _Written:
    """Options of `edit`: what is written."""

    output: EditedOption = None
    strength: StrengthOption = None
    save_edit: SaveEditOption = None
    overwrite: OverwriteOption = False
    before_after: BeforeAfterOption = False
    mark: MarkOption = False
    paste: PasteOption = "changed"
    keep_own: KeepOwnOption = 1.0


@main.command()
@_spread
def edit(*, start: _Start, asked: _Asked, written: _Written) -> None:
    """Change one face by words, a picture, pairs of pictures, or saved edits.

    What is asked for is searched for on the face as it is with the --edit edits; then all of them
    are displacements that add, in any order. The face of a photo goes back into the photo.

    \b
    Examples:
      stylegan-hub edit --seed 7 --text "a face with purple hair" -o purple.png
      stylegan-hub edit --seed 7 --edit afro-hair:1.2 --edit surprised:-0.5 -o both.png
      stylegan-hub edit --seed 7 --text "a hat" --method table --keep glasses -o hat.png
      stylegan-hub edit --seed 7 --text "curly hair" --region hair --before-after -o curls.png
      stylegan-hub edit --seed 7 --target cat.png -o cat-like.png
      stylegan-hub edit me.safetensors --edit afro-hair:1 -o me-with-an-afro.png
    """
    with _reporting():
        _check_options(start, asked, written)
        output = _edited_name(written.output, start.person)
        session, source = _face(start, written.paste)
        studio = _open(
            start.pipeline,
            start.device,
            start.runtime,
            None if source is None else source.person,
        )
        studio.draw(session)  # refuses a seed or an edit that does not fit before the long search
        if asked.anything:
            session = _with_found(studio, session, asked, written)
        _write_edited(studio, session, source, written, output)
    also = f" and {written.save_edit}" if written.save_edit else ""
    typer.echo(f"Wrote {output}{also}.")


@main.command()
def methods(
    pipeline: PipelineOption = "portraits",
) -> None:
    """List the ways to find an edit, what each can be asked, and whether a pipeline has it.

    \b
    Examples:
      stylegan-hub methods
      stylegan-hub methods --pipeline cars
    """
    with _reporting():
        from stylegan_hub.methods import known

        pipe = _open(pipeline).pipe
        rows = [("name", "answers", "needs", "here", "presets", "what it does")]
        for one in known().values():
            answers = ", ".join(request.__name__.lower() for request in one.requests)
            rows.append(
                (
                    one.name,
                    answers + " (in a region)" * one.takes_region,
                    ", ".join(sorted(one.needs)) or "-",
                    "yes" if one.fits(pipe) else "no",
                    ", ".join(one.presets),
                    one.summary,
                )
            )
    _print_table(rows)


# Of `invert`: where the face is, and what to write.
PersonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="File to write, NAME.safetensors beside the photo if not given."
    ),
]
WhichFaceOption = Annotated[
    int | None, typer.Option(min=1, help="Which face; 1 is the largest, which is usual.")
]
PointsOption = Annotated[
    str | None,
    typer.Option(
        help="Where the face is: both eyes and the mouth, 'x,y x,y x,y' in pixels, in place of a "
        "search."
    ),
]
AlignedOption = Annotated[
    bool, typer.Option("--aligned", help="The whole picture is what the generator would draw.")
]
PortraitOption = Annotated[
    Literal["auto", "yes", "no"],
    typer.Option(
        help="Draw a portrait with the traits of the person, in place of an inversion: auto where "
        "the pipeline draws cartoons and the photo shows a person."
    ),
]
PreviewOption = Annotated[
    Path | None,
    typer.Option(
        help="Picture to write of the aligned photo, the drawing, and in violet what would stay "
        "the photo's own."
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
    """Find the face of a photo and the latent that draws it.

    Ask people before you edit pictures of them. The bundled pipeline draws cartoons: of a photo of
    a person it draws a portrait with the same hair, glasses, expression and colors, and says so.
    For a pipeline of houses or cars, the middle of the photo is taken, in the shape of its
    pictures.

    \b
    Examples:
      stylegan-hub invert me.png --refine 100 -o me.safetensors
      stylegan-hub invert holiday.jpg --preview portrait.png
      stylegan-hub invert us.jpg --face 2 --refine 100 --tune 100 --preview look.png
      stylegan-hub invert me.jpg --points "412,300 520,310 460,410" --refine 100
    """
    with _reporting():
        if sum((face is not None, points is not None, aligned)) > 1:
            raise _UsageError("Give one of --face, --points and --aligned.")
        clicks = None if points is None else _points(points)
        output = photo.with_suffix(".safetensors") if output is None else output
        if output.suffix != ".safetensors":
            raise _UsageError(f"Got --output {output.name}; the name ends in .safetensors.")
        _check_folder(output.parent)
        if preview is not None:
            _check_picture(preview)

        from stylegan_hub.photos.finders import draws_faces
        from stylegan_hub.photos.likeness import same_person
        from stylegan_hub.photos.photo import read_photo

        picture = read_photo(photo)
        for note in picture.notes:
            typer.echo(f"Note: {note}", err=True)
        pipe = _open(pipeline, device, runtime).pipe
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
    what = "The face" if draws_faces(pipe) else "What was cut out"
    typer.echo(f"{what} in {picture.name} has the corners {corners}.")
    if drawn is None:
        typer.echo(f"Likeness of the drawing: {person.likeness}.")
        if person.likeness is not None and pipe.recognizer is not None:
            typer.echo(f"{same_person(pipe, person.likeness.identity)}.")
    typer.echo(f"Wrote {output}" + (f" and {preview}" if preview else "") + ".")


@main.command()
def batch(
    photos: Annotated[Path, typer.Argument(help="Folder of photos.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", help="A saved edit and its strength, for all. May be repeated."),
    ] = None,
    refine: RefineOption = 0,
    tune: TuneOption = 0,
    paste: PasteOption = "changed",
    everyone: Annotated[
        bool, typer.Option("--everyone", help="Edit all faces of each photo, not the largest.")
    ] = False,
    subfolders: Annotated[
        bool, typer.Option("--subfolders", help="Also photos in folders of the folder.")
    ] = False,
    aligned: AlignedOption = False,
    keep_own: KeepOwnOption = 1.0,
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Invert every photo of a folder, edit all, and lay them on a contact sheet.

    Latents are kept in OUTPUT/latents and used again next time. Files that are no photos are
    counted and named; photos that fail are listed at the end, with exit status 1, and the others
    are done.

    \b
    Examples:
      stylegan-hub batch holidays -o edited --refine 100 --edit afro-hair:1
      stylegan-hub batch holidays -o edited --everyone --subfolders --edit afro-hair:1
    """
    with _reporting():
        if paste == "none":
            raise _UsageError("A batch pastes back into the photos: --paste changed or face.")
        _check_folder(output)
        wanted = [_named(name) for name in edits or ()]

        if everyone and aligned:
            raise _UsageError("Give one of --everyone and --aligned.")

        from stylegan_hub.edits.base import load_edit
        from stylegan_hub.photos.photo import list_photos

        count = len(list_photos(photos, subfolders).photos)
        loaded = [(load_edit(name), strength) for name, strength in wanted]
        chosen = [(e, e.strength.default if s is None else s) for e, s in loaded]
        pipe = _open(pipeline, device, runtime).pipe
        found: dict[str, Any] = {"keep_own": keep_own, "subfolders": subfolders}
        found |= {"everyone": everyone, "aligned": aligned}
        report = _edited_folder(pipe, photos, output, chosen, refine, tune, paste, found)
    done, again = len(report.people), len(report.reused)
    typer.echo(f"Inverted {done} of {count} photos, {again} of them before.")
    if report.sheet is not None:
        typer.echo(f"Wrote {report.sheet}.")
    if report.skipped:
        count = len(report.skipped)
        typer.echo(f"Left out {count} other file{'s' * (count != 1)}.")
    for name, why in report.skipped.items():
        typer.echo(f"Left out: {_line(name)}: {why}.", err=True)
    for name, why in report.failures.items():
        typer.echo(f"Failed: {_line(name)}: {why}", err=True)
    if report.failures:
        raise typer.Exit(1)


@main.command()
def sample(
    output: OutputOption,
    seeds: Annotated[str, typer.Option(help="Who: 7, or 0-15, or 1,4,8-10.")] = "0-15",
    columns: Annotated[
        int | None, typer.Option(min=1, help="Pictures in a row; a square sheet by default.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="New faces that fit this text, one for each seed.")
    ] = None,
    label: LabelOption = None,
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Draw the faces of some seeds on one sheet, or new faces that fit a text.

    \b
    Examples:
      stylegan-hub sample -o faces.png
      stylegan-hub sample --seeds 1,4,8-10 --columns 5 --truncation 1 -o five.png
      stylegan-hub sample --text "a young woman with long red hair" --seeds 0-3 -o women.png
    """
    with _reporting():
        chosen, shown = _seeds(seeds), _label(label)
        if text is not None and label is not None:
            raise _UsageError("--text is for generators without labels; leave --label out.")
        _check_picture(output)

        from stylegan_hub import images

        pipe = _open(pipeline, device, runtime).pipe
        if text is None:
            faces = _sampled(pipe, chosen, truncation, shown)
        else:
            faces = _described(pipe, text, chosen, truncation)
        square = max(1, round(len(faces) ** 0.5))
        images.save(images.grid(faces, columns=min(columns or square, len(faces))), output)
    typer.echo(f"Wrote {output} with {len(faces)} faces.")


def _sampled(
    pipe: StyleEditPipeline, seeds: list[int], truncation: float, label: int | list[float] | None
) -> list[Image]:
    from tqdm import tqdm

    starts = range(0, len(seeds), _BATCH)
    return [
        face
        for start in tqdm(starts, desc="Drawing", disable=len(starts) < 4)
        for face in pipe(
            seeds[start : start + _BATCH], truncation_psi=truncation, label=label
        ).images
    ]


def _described(
    pipe: StyleEditPipeline, text: str, seeds: list[int], truncation: float
) -> list[Image]:
    from tqdm import tqdm

    with tqdm(desc="Drawing", unit="face") as progress:
        return pipe.from_text(
            text, seeds, truncation, on_step=lambda step: _show_step(progress, step)
        ).images


# Of `film`, `mix` and `grid`.
FilmOption = Annotated[
    Path, typer.Option("--output", "-o", help="Film to write: .gif, .webp or .mp4.")
]
FramesOption = Annotated[
    int,
    typer.Option(min=2, max=1000, help="Frames: of a sweep in all, of --walk for each edit."),
]
FpsOption = Annotated[int, typer.Option(min=1, max=60, help="Frames per second.")]
ShareOption = Annotated[float, typer.Option(min=0, max=1, help="0 is the first, 1 the second.")]


@main.command()
@_spread
def film(
    *,
    start: _Start,
    output: FilmOption,
    walk: Annotated[
        bool, typer.Option("--walk", help="All edits, one after the other, in place of the last.")
    ] = False,
    to: Annotated[
        int | None, typer.Option(min=0, help="The way to the face of this seed, and back.")
    ] = None,
    low: Annotated[
        float | None, typer.Option(help="Least strength of the last edit; its slider's end if not.")
    ] = None,
    high: Annotated[
        float | None, typer.Option(help="Greatest strength; its slider's end if not given.")
    ] = None,
    frames: FramesOption = 32,
    fps: FpsOption = 16,
    mark: MarkOption = False,
) -> None:
    """Make a film: of the last edit's strength, of all edits in turn, or of two faces.

    MP4 needs PyAV: pip install stylegan-hub[film].

    \b
    Examples:
      stylegan-hub film --seed 7 --edit afro-hair -o afro.gif
      stylegan-hub film --seed 7 --edit afro-hair:1.2 --edit surprised --walk -o walk.mp4
      stylegan-hub film --seed 7 --to 12 -o two-faces.mp4
    """
    with _reporting():
        if walk and (to is not None or low is not None or high is not None):
            raise _UsageError("--walk goes without --to, --low and --high.")
        _check_film(output)

        from stylegan_hub.pictures import marked, recipe_of, save_film

        session, source = _face(start, "none")
        studio = _open(
            start.pipeline,
            start.device,
            start.runtime,
            None if source is None else source.person,
        )
        shots = _shots(studio, session, walk, to, low, high, frames)
        pictures = [studio.rendering.picture(shot, moving=True) for shot in shots]
        if mark:
            pictures = [marked(picture) for picture in pictures]
        save_film(pictures, output, recipe_of(studio.pipe, session), fps)
    typer.echo(f"Wrote {output} with {len(pictures)} frames.")


@main.command()
def mix(
    first: Annotated[int, typer.Argument(min=0, help="Seed of the first face.")],
    second: Annotated[int, typer.Argument(min=0, help="Seed of the second face.")],
    output: OutputOption,
    coarse: ShareOption = 0.0,
    middle: ShareOption = 0.0,
    fine: ShareOption = 1.0,
    label: LabelOption = None,
    truncation: TruncationOption = 0.7,
    mark: MarkOption = False,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Mix two faces: pose and shape (coarse), hair and features (middle), colors (fine).

    \b
    Examples:
      stylegan-hub mix 7 12 -o colors-of-12.png
      stylegan-hub mix 7 12 --coarse 1 --fine 0 -o shape-of-12.png
      stylegan-hub mix 7 12 --coarse 0.5 --middle 0.5 --fine 0.5 -o between.png
    """
    with _reporting():
        _check_picture(output)

        from stylegan_hub import mixing
        from stylegan_hub.pictures import save_picture
        from stylegan_hub.session import Session

        studio = _open(pipeline)
        faces = studio.pipe.sample((first, second), truncation, label=_label(label))
        mixed = mixing.mix(studio.pipe, faces[0], faces[1], coarse, middle, fine)
        session = Session(latents=mixed)
        save_picture(studio.pipe, session, output, studio.draw(session)[1], mark)
    typer.echo(f"Wrote {output}.")


@main.command()
def grid(
    text: Annotated[str, typer.Option(help="What the picture should show.")],
    output: OutputOption,
    seed: SeedOption = 0,
    neutral: NeutralOption = None,
    alphas: Annotated[
        str, typer.Option(help="How far the most relevant channel moves, a row each.")
    ] = "-4,-2,0,2,4",
    betas: Annotated[
        str, typer.Option(help="How relevant a channel must be to move, a column each.")
    ] = "0.05,0.1,0.15,0.2",
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Draw the grid of alpha and beta of a global direction (StyleCLIP, Figure 6).

    \b
    Example:
      stylegan-hub grid --seed 7 --text "a face with a beard" -o grid.png
    """
    with _reporting():
        _check_picture(output)
        rows, columns = _numbers(alphas, "--alphas"), _numbers(betas, "--betas")

        from stylegan_hub import images
        from stylegan_hub.pictures import alpha_beta

        pipe = _open(pipeline).pipe
        face = pipe.sample(seed, truncation)
        images.save(alpha_beta(pipe, face, text, neutral, rows, columns), output)
    typer.echo(f"Wrote {output}.")


@main.command()
def many(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    seeds: Annotated[str | None, typer.Option(help="From and to: 0-999999.")] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos, with its subfolders, in place of seeds.")
    ] = None,
    edits: EditsOption = None,
    refine: RefineOption = 0,
    truncation: TruncationOption = 0.7,
    max_resolution: MaxResolutionOption = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Seeds or photos in a shard.")] = 256,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Precision.")] = "float32",
    engine: Annotated[
        Literal["accelerate", "ray"],
        typer.Option(
            help="What shares the work: the processes of `accelerate launch`, or a Ray cluster."
        ),
    ] = "accelerate",
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
) -> None:
    """Render, edit or invert very many: over processes and machines, resumable, each exactly once.

    Ended in whatever way, the same command goes on where it was. OUTPUT/manifest.jsonl has a line
    for each seed or photo: its files with their sha256, or why it failed.

    \b
    Examples:
      stylegan-hub many --seeds 0-999999 --edit afro-hair:1 -o faces
      accelerate launch --num_processes 2 -m stylegan_hub many --seeds 0-999999 -o faces
      stylegan-hub many --photos album --edit afro-hair:1 -o edited --engine ray
    """
    with _reporting():
        if (seeds is None) == (photos is None):
            raise _UsageError("Give either --seeds or --photos.")
        _check_folder(output)
        from stylegan_hub import many as jobs
        from stylegan_hub.memory import keep_freed_memory

        named = tuple(_named(name) for name in edits or ())
        job = jobs.Job(
            pipeline=pipeline,
            seeds=None if seeds is None else _interval(seeds),
            photos=None if photos is None else str(photos),
            edits=named,
            truncation_psi=truncation,
            refine=refine,
            max_resolution=max_resolution,
            shard_size=shard_size,
            dtype=dtype,
        )
        _hide_loading()
        keep_freed_memory()
        if engine == "ray":
            jobs.run_on_ray(job, output, device=device)
        elif not _is_first_of_all(jobs, job, output, device):
            return
        progress = jobs.finish(job, output)
    typer.echo(f"{progress.done} of {progress.shards} shards are in {output}.")
    if progress.failed:
        typer.echo(f"Failed: {progress.failed}; see {output / jobs.MANIFEST}.", err=True)
    if progress.failed or progress.done < progress.shards:
        raise typer.Exit(1)


def _is_first_of_all(jobs: Any, job: Any, output: Path, device: str) -> bool:
    """Do this process's share, and wait for the others; whether it is the one that reports."""
    from accelerate import PartialState
    from tqdm import tqdm

    state = PartialState(cpu=device == "cpu" or _has_no_gpu())
    if state.is_main_process:
        jobs.begin(job, output)
    state.wait_for_everyone()
    with tqdm(desc="Shards", unit="shard", disable=None if state.is_main_process else True) as bar:

        def show(done: int, total: int) -> None:
            bar.n, bar.total = done, total
            bar.refresh()

        jobs.run(
            job,
            output,
            device=device,
            process=state.process_index,
            processes=state.num_processes,
            on_shard=show,
        )
    state.wait_for_everyone()
    return bool(state.is_main_process)


def _has_no_gpu() -> bool:
    from stylegan_hub.devices import accelerated

    return accelerated() is None


def _interval(text: str) -> tuple[int, int]:
    """The first of some seeds and the one after the last, of 'first-last'."""
    first, dash, last = text.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise _UsageError(f"Got seeds {text!r}; expected one, or from and to, as in 0-999999.")
    return int(first), int(last if dash else first) + 1


@main.command("export")
def export_networks(
    pipeline: Annotated[str, typer.Argument(help="Bundled name, folder or Hub id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    format: Annotated[
        str,
        typer.Option(
            help="onnx, openvino, torch (a package of torch.export), or web (docs/browser.md)."
        ),
    ] = "onnx",
    size: Annotated[
        int | None, typer.Option(min=4, help="Largest side of the pictures; whole if not given.")
    ] = None,
    dtype: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="Precision.")
    ] = "float32",
    latent: Annotated[
        Literal["z", "w_plus", "s"],
        typer.Option(help="What the generator takes; z is with the mapping network."),
    ] = "w_plus",
    parts: Annotated[
        list[str] | None,
        typer.Option("--part", help="Only this: generator, clip_image, clip_text, encoder."),
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option("--edit", help="For web: an edit that comes along. May be repeated."),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="For web: compute the self-test in Chromium, if there is one.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write also into a folder that holds something.")
    ] = False,
) -> None:
    """Write generator, CLIP and encoder as files for other runtimes, and check each of them.

    Each file is run on inputs of its own and compared with the pipeline; nothing is written if one
    differs by more than rounding.

    \b
    Examples:
      stylegan-hub export portraits --format onnx -o portraits-onnx
      stylegan-hub export portraits --format openvino --latent s --dtype bfloat16 -o fast
      stylegan-hub sample --runtime fast -o faces.png
      stylegan-hub export portraits --format torch --part generator -o package
      stylegan-hub export portraits --format web --edit afro-hair -o web
    """
    with _reporting():
        _check_folder(output)
        if format == "web":
            if size or parts or dtype != "float32" or latent != "w_plus":
                raise _UsageError("--size, --dtype, --latent and --part are not for web; leave "
                                  "them out.")  # fmt: skip
            _export_web(pipeline, output, edits or [], check)
            return
        if edits:
            raise _UsageError("--edit is for web: other formats hold networks alone.")
        from stylegan_hub.export.folder import check_format, export
        from stylegan_hub.export.pipeline import pipeline_parts

        check_format(format, dtype)
        _hide_loading()
        pipe = _open(pipeline, "cpu", "pytorch").pipe
        found = export(
            pipeline_parts(pipe, latent, size, dtype, parts),
            output,
            format,
            generator=pipe.base_model.fingerprint,
            latent=latent,
            resolution=pipe.block(size) or pipe.generator.config.img_resolution,
            dtype=dtype,
            overwrite=overwrite,
            on_part=lambda name: typer.echo(f"Exporting {name} ...", err=True),
        )
    rows = [("file", "takes", "gives", "error", "PSNR")]
    for one in found.parts:
        takes = ", ".join(f"{n} {['n', *size]}".replace("'", "") for n, size in one.inputs.items())
        psnr = "-" if one.psnr is None else f"{one.psnr:.1f} dB"
        rows.append((one.files[0], takes, one.output, f"{one.error:.1e}", psnr))
    _print_table(rows)


@main.command()
def demo(
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; only this machine by default.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.")] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A name by which a proxy or a network shows the page; '*' for any."),
    ] = None,
) -> None:
    """Open the page in a browser's reach: the same as `python app.py` in a clone.

    \b
    Example:
      stylegan-hub demo --port 8000
    """
    app = Path(__file__).parents[1] / "app.py"
    with _reporting():
        if not app.is_file():
            raise ValueError(
                "The page is a part of the repository, not of the installed package. Clone it, "
                "install it with `pip install -r requirements.txt`, and run `python app.py`."
            )
    command = [sys.executable, str(app), "--pipeline", pipeline]
    command += ["--host", host] if host is not None else []
    command += ["--port", str(port)] if port is not None else []
    command += ["--device", device]
    command += ["--runtime", runtime] if runtime is not None else []
    for name in allow_host or ():
        command += ["--allow-host", name]
    raise typer.Exit(subprocess.run(command).returncode)


@main.command("list")
def list_edits(
    base_model: Annotated[
        str | None,
        typer.Option(help="Only for this generator: name of its pipeline, or its fingerprint."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only of this kind: direction, latent_mapper, ...")
    ] = None,
    search: Annotated[str | None, typer.Option(help="Only with these letters in the name.")] = None,
    author: Annotated[str | None, typer.Option(help="Only of this user on the Hub.")] = None,
    hub: Annotated[
        bool, typer.Option(help="Ask the Hub too, or list only what is bundled.")
    ] = True,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Repositories on the Hub.")] = 100,
) -> None:
    """List edits and direction tables: bundled ones, and those on the Hub.

    \b
    Examples:
      stylegan-hub list --no-hub
      stylegan-hub list --kind latent_mapper --search hair
      stylegan-hub list --base-model portraits --author me
    """
    with _reporting():
        from stylegan_hub import hub as zoo

        found = zoo.list_edits(base_model, kind, search, author, include_hub=hub, limit=limit)
        for problem in found.problems:
            typer.echo(f"Warning: {_line(problem)}", err=True)
    header = ("name", "kind", "generator", "success", "collateral", "made for")
    rows = [header, *(_row(info) for info in found)]
    _print_table(rows)


@main.command()
def info(
    name: Annotated[str, typer.Argument(help="Bundled name, folder or Hub id.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
) -> None:
    """Show what an edit or a direction table is, without downloading its weights.

    \b
    Examples:
      stylegan-hub info afro-hair
      stylegan-hub info user/repo@v1
    """
    with _reporting():
        from stylegan_hub import hub as zoo
        from stylegan_hub.names import is_edit

        found = zoo.edit_info(name, revision)
    strength = found.strength
    lines: dict[str, object] = {
        "name": found.name,
        "kind": found.kind,
        "from": found.source + (f", commit {found.revision}" if found.revision else ""),
        "made for": found.prompt,
        "fits these words": None if found.fit is None else f"{found.fit:.2f} of 1",
        "generator": f"{found.base_model or 'unknown'} (fingerprint {found.fingerprint})",
        "space": found.space,
        "strength": f"{strength.default:g} (slider from {strength.min:g} to {strength.max:g})"
        if is_edit(found.kind)
        else None,
        "numbers": f"{found.parameters:,}",
        "picture": found.picture,
        "stale": f"{', '.join(found.stale)} (of other tensors; measure the edit again)"
        if found.stale
        else None,
        **found.metrics,
    }
    for key, value in lines.items():
        if value is not None:
            typer.echo(f"{key.replace('_', ' ') + ':':24} {_shown(value)}")


@main.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="Folder of an edit, a table or a pipeline.")],
    repo_id: Annotated[str, typer.Argument(help="Where to: user/repo. Made if it is not there.")],
    private: Annotated[bool, typer.Option("--private", help="Only you can see it.")] = False,
    message: Annotated[str | None, typer.Option("--message", "-m", help="Of the commit.")] = None,
    parent_commit: Annotated[
        str | None, typer.Option(help="Refuse if the repository is no longer at this commit.")
    ] = None,
    license: Annotated[
        str | None, typer.Option(help="Written into the card: apache-2.0, cc-by-4.0, ...")
    ] = None,
    likeness: Annotated[
        Literal["nobody", "own", "consent"] | None,
        typer.Option(
            help="Written into the card: the edit shows nobody real, yourself, or persons who "
            "agreed."
        ),
    ] = None,
) -> None:
    """Send a folder to the Hub as one commit. A missing card is written first.

    Log in before with `hf auth login`, or set HF_TOKEN.

    \b
    Examples:
      stylegan-hub publish runs/afro-hair me/afro-hair
      stylegan-hub publish runs/afro-hair me/afro-hair --private -m "trained twice as long"
    """
    with _reporting():
        from stylegan_hub import hub as zoo

        is_edit = (folder / "config.json").is_file()
        said = license is not None or likeness is not None
        if is_edit and (said or not (folder / zoo.CARD_NAME).exists()):
            typer.echo(f"Wrote {zoo.write_card(folder, license, likeness)}.")
        url = zoo.publish(folder, repo_id, private, message, parent_commit=parent_commit)
    typer.echo(f"Published: {url}")


def _export_web(pipeline: str, output: Path, names: Sequence[str], check: bool) -> None:
    """The format "web" of `export`: write, say the sizes, compare in a browser."""
    from stylegan_hub.browser.check import check as checked
    from stylegan_hub.browser.check import chromium
    from stylegan_hub.browser.export import export_web, sizes_text
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.errors import ArtifactError

    exported = export_web(
        _open(pipeline).pipe, output, edits={name: load_edit(name) for name in names}
    )
    typer.echo(sizes_text(exported))
    typer.echo(f"Half precision changes its pictures by at most {exported.rounding:.2g} of 255.")
    if not check:
        return
    if chromium() is None:
        typer.echo("Not compared with a browser: there is no Chromium (apt-get install chromium).")
        return
    result = checked(output)
    rows = [("Compared", "Difference", "At most")]
    rows += [(one.name, f"{one.difference:.2g}", f"{one.limit:g}") for one in result.compared]
    _print_table(rows)
    if not result.passes:
        wrong = ", ".join(one.name for one in result.compared if not one.passes)
        raise ArtifactError(
            f"{result.backend} computes something else: {wrong}. Report it, please."
        )
    typer.echo(f"Chromium renders it with {result.backend} in {result.milliseconds:.0f} ms.")


@main.command()
def unpublish(
    repo_id: Annotated[str, typer.Argument(help="What to delete from the Hub: user/repo.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete an edit, a table or a pipeline from the Hub, with all of its versions.

    \b
    Example:
      stylegan-hub unpublish me/afro-hair
    """
    with _reporting():
        from stylegan_hub import hub as zoo

        if not yes and not typer.confirm(f"Delete {repo_id} and all of its versions?"):
            typer.echo("Nothing was deleted.")
            raise typer.Exit(1)
        zoo.unpublish(repo_id)
    typer.echo(f"Deleted {repo_id}.")


@main.command()
def collection(
    title: Annotated[str, typer.Argument(help="Of the collection.")],
    folders: Annotated[
        list[str] | None,
        typer.Argument(help="Bundled names or folders; the pipeline with all its edits if none."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="User or organization on the Hub; who is logged in if none.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Only you can see it.")] = False,
    description: Annotated[str | None, typer.Option(help="Of the collection.")] = None,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Publish a pipeline and its edits, and gather them in one collection on the Hub.

    \b
    Examples:
      stylegan-hub collection "Drawn portraits"
      stylegan-hub collection "My looks" runs/afro-hair runs/beard --user me --private
    """
    with _reporting():
        from stylegan_hub import hub as zoo

        def told(repo_id: str, url: str) -> None:
            typer.echo(f"Published {repo_id}: {url}")

        made = zoo.publish_collection(
            title, folders or zoo.zoo_of(pipeline), user or zoo.who(), private, description,
            on_published=told,
        )  # fmt: skip
    typer.echo(f"The collection: {made.url}")


@main.command()
def space(
    name: Annotated[str, typer.Argument(help="Of the Space; with --push: user/name.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; a folder of this name if not given."),
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit", help="An edit that comes along. May be repeated; all bundled ones if none."
        ),
    ] = None,
    push: Annotated[bool, typer.Option("--push", help="Send it to the Hub.")] = False,
    private: Annotated[
        bool, typer.Option("--private", help="With --push: only you can see it.")
    ] = False,
    hardware: Annotated[
        Literal["zero-a10g", "cpu-basic"], typer.Option(help="What the Space asks for.")
    ] = "zero-a10g",
    pipeline: PipelineOption = "portraits",
) -> None:
    """Write a ready Space: the page with a pipeline and its edits, and nothing to fetch.

    \b
    Examples:
      stylegan-hub space portraits-page --edit afro-hair --edit glasses
      stylegan-hub space me/portraits-page --push --private
    """
    with _reporting():
        from stylegan_hub import hub as zoo

        title = name.rpartition("/")[2]
        if push and name.count("/") != 1:
            raise _UsageError(f"Got {name!r}; with --push, expected user/name.")
        folder = Path(title) if output is None else output
        _check_folder(folder.absolute().parent)
        made = zoo.write_space(folder, pipeline, edits, title, hardware)
        typer.echo(f"Wrote {made.folder} with {made.pipeline} and {len(made.edits)} edits.")
        if push:
            typer.echo(f"The Space: {zoo.push_space(folder, name, private)}")


@main.command()
def evaluate(
    folders: Annotated[list[Path], typer.Argument(help="Folders of edits.")],
    target: Annotated[
        list[str] | None,
        typer.Option(help="What they are for: hair_style=afro. As before when not given."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=2, max=100_000, help="Unseen people; as before, or 128."),
    ] = None,
    reader: Annotated[
        str, typer.Option(help="Bundled name, folder or Hub id of the attribute reader.")
    ] = "attribute-reader",
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Measure edits anew, and rewrite their metrics.json, pictures and cards.

    \b
    Examples:
      stylegan-hub evaluate runs/afro-hair --target hair_style=afro
      stylegan-hub evaluate cards/afro-hair cards/surprised --samples 512
    """
    with _reporting():
        from tqdm import tqdm

        from stylegan_hub.artifacts import read_config
        from stylegan_hub.hub import evaluate_folder, read_metrics
        from stylegan_hub.metrics.edit_quality import parse_target, reader_for
        from stylegan_hub.pipeline import StyleEditPipeline

        try:
            wanted = parse_target(target or ())
        except ValueError as error:
            raise _UsageError(str(error)) from error
        for folder in folders:  # before the seconds that loading takes
            read_config(folder)
        _hide_loading()
        pipe = StyleEditPipeline.from_pretrained(pipeline, device=device, runtime=runtime)
        known = any(read_metrics(folder).get("target") for folder in folders)
        judge = reader_for(pipe, reader, wanted or known)
        for folder in tqdm(folders, desc="Measuring", unit="edit"):
            metrics = evaluate_folder(folder, pipe, judge, wanted, samples)
            success, collateral = metrics.get("success"), metrics.get("collateral")
            typer.echo(f"{folder}: success {_shown(success)}, collateral {_shown(collateral)}")


@main.command()
def doctor() -> None:
    """Show what this machine has of what makes things fast, and what to do about the rest.

    \b
    Example:
      stylegan-hub doctor
    """
    with _reporting():
        from stylegan_hub.doctor import examine

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the same is said here, once
            for finding in examine():
                typer.echo(f"{finding.name + ':':<24} {finding.answer}")
                if finding.remedy is not None:
                    typer.echo(
                        "".join(f"    {line}\n" for line in finding.remedy.splitlines()), nl=False
                    )


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@main.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of all commands."""


class _UsageError(ValueError):
    """The command line itself makes no sense."""


@contextmanager
def _reporting() -> Iterator[None]:
    """Errors and warnings as one line each, without a traceback."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                yield
            finally:
                for warning in caught:
                    if issubclass(warning.category, UserWarning):
                        typer.echo(f"Warning: {warning.message}", err=True)
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, _UsageError) else 1) from error


def _hide_loading() -> None:
    """No progress bars for the seconds that loading takes."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def _open(
    pipeline: str,
    device: str = _AUTO,
    runtime: str | None = None,
    person: Person | None = None,
) -> Studio:
    """A studio; for a person with a tuned generator, with that one."""
    from stylegan_hub.memory import keep_freed_memory
    from stylegan_hub.studio import Studio

    _hide_loading()
    keep_freed_memory()
    studio = Studio.open(pipeline, device, runtime)
    return studio if person is None else Studio(person.pipeline(studio.pipe))


@dataclass(frozen=True)
class _Source:
    """Where a face is from: a person, and the photo that the face goes back into, if it should."""

    person: Person
    photo: Photo | None


def _face(start: _Start, paste: str) -> tuple[Session, _Source | None]:
    """A session for a seed, or for a person in a file; with the edits on it."""
    from stylegan_hub.photos.person import Person
    from stylegan_hub.session import Session

    session = Session(start.seed, truncation_psi=start.truncation, label=_label(start.label))
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
    return _with_edits(session, start.edits), _Source(person, photo)


def _opened(picture: Path, pipeline: str) -> Session:
    """The face and edits of a PNG that was saved here."""
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.pictures import open_picture

    session, problems = open_picture(_open(pipeline).pipe, picture, load_edit)
    for problem in problems:
        typer.echo(f"Warning: {_line(problem)}", err=True)
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


def _alignment(
    pipe: StyleEditPipeline,
    photo: Photo,
    face: int | None,
    clicks: list[tuple[float, float]] | None,
    aligned: bool,
) -> Alignment:
    """Where the face is: as it was clicked, all of the picture, or as it is found."""
    from stylegan_hub.photos import align, finders

    if clicks is not None:
        return align.align(photo, align.Landmarks.from_clicks(*clicks), finders.framing(pipe))
    if aligned:
        return align.whole(photo.size, photo.name, pipe.generator.img_size)
    return finders.locate(pipe, photo, face)


def _undrawable(
    pipe: StyleEditPipeline, photo: Photo, alignment: Alignment, portrait: str
) -> Face | None:
    """The person of whom a portrait is drawn; None where an inversion is asked for, or can work."""
    from stylegan_hub.photos.finders import person_at, undrawable_person

    if portrait == "no":
        return None
    if portrait == "yes":
        return person_at(photo, alignment)
    return undrawable_person(pipe, photo, alignment)


def _portrait(pipe: StyleEditPipeline, photo: Photo, alignment: Alignment, face: Face) -> Person:
    """A drawn portrait, with words on what it is and what was read."""
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
    """The person of a photo, with a progress bar meanwhile."""
    from tqdm import tqdm

    from stylegan_hub.photos.invert import Refinement, Tuning
    from stylegan_hub.photos.person import invert_photo

    refinement = Refinement(steps=refine) if refine else None
    tuning = Tuning(steps=tune) if tune else None
    with tqdm(desc="Inverting", total=refine + tune, unit="step", disable=None) as progress:

        def show(step: Step) -> None:  # refinement and tuning count for themselves
            progress.set_postfix_str(_noted(step), refresh=False)
            progress.update()

        return invert_photo(pipe, photo, alignment, refinement, tuning, show)


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
    """What `edit_folder` does, with a progress bar meanwhile.

    Args:
        found: which files and faces, and what is kept of them, by its options.
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
    """What was cut out of the photo, the drawing of it, and what would stay the photo's own.

    The third is left out for a portrait, which is not pasted back.
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


def _shots(
    studio: Studio,
    session: Session,
    walk: bool,
    to: int | None,
    low: float | None,
    high: float | None,
    frames: int,
) -> list[Session]:
    """The sessions that a film shows."""
    from stylegan_hub import mixing, pictures

    if walk:
        return pictures.walk(session, frames)
    if to is None:
        return pictures.sweep(session, low=low, high=high, frames=frames)
    pipe = studio.pipe
    other = pipe.sample(to, session.truncation_psi, label=session.label)
    way = mixing.interpolate(pipe, studio.face(session), other, max(2, frames // 2 + 1))
    there = [replace(session, latents=one) for one in way]
    return [*there, *there[-2:0:-1]]


def _check_film(path: Path) -> None:
    """Raise before the work starts what writing the film would raise after it."""
    from stylegan_hub.pictures import FILMS

    if path.suffix.lower() not in FILMS:
        raise _UsageError(f"Cannot write {path.name!r}: end the name in {', '.join(FILMS)}.")
    _check_folder(path.parent)


def _numbers(text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise _UsageError(f"Got {option} {text!r}; expected numbers such as 0.1,0.2.") from error
    if not all(map(math.isfinite, numbers)):
        raise _UsageError(f"Got {option} {text!r}; expected finite numbers.")
    return numbers


def _with_edits(session: Session, edits: list[str] | None) -> Session:
    from stylegan_hub import names
    from stylegan_hub.edits.base import load_edit

    for name, strength in map(_named, edits or ()):
        leads = names.hub_id(name) is not None and not Path(name).is_dir()
        session = session.with_edit(load_edit(name), strength, name if leads else None)
    return session


def _write_edited(
    studio: Studio,
    session: Session,
    source: _Source | None,
    written: _Written,
    output: Path,
) -> None:
    """The edited face, or the photo with it, beside what was there before if wanted."""
    from stylegan_hub import images
    from stylegan_hub.pictures import save_picture

    before, after = studio.draw(session)
    if source is not None and source.photo is not None and written.paste != "none":
        from stylegan_hub.photos.paste import paste

        after = paste(
            source.photo,
            source.person.alignment,
            after,
            before,
            written.paste,
            written.keep_own,
        )
        before = source.photo.image
    shown = images.grid([before, after], columns=2) if written.before_after else after
    save_picture(studio.pipe, session, output, shown, written.mark)


def _check_options(start: _Start, asked: _Asked, written: _Written) -> None:
    """Raise `_UsageError` for options of `edit` that do not go together.

    Raises:
        ValueError: the edit that is found could not be applied or saved afterwards.
    """
    by_words, by_picture = asked.text is not None, asked.target is not None
    if by_words + by_picture + asked.pairs > 1:
        raise _UsageError("Give one of --text, --target, and --before with --after.")
    if asked.pairs and not (asked.before and asked.after):
        raise _UsageError("--before and --after go together; give at least one of each.")
    is_opened = start.person is not None and start.person.suffix.lower() == ".png"
    if not asked.anything and not start.edits and not is_opened:
        raise _UsageError(
            "Got nothing to do; give --text, or --edit, or both; `stylegan-hub edit --help` "
            "names more."
        )
    for option, given, needed, what in (
        ("--save-edit saves an edit that is found", written.save_edit, asked.anything, "--text"),
        ("--region says where an edit is found", asked.region, asked.anything, "--text"),
        ("--preset is of the method", asked.preset, asked.anything, "--text"),
        ("--every-face is of a search", asked.every_face, asked.anything, "--text"),
        ("--neutral goes with --text", asked.neutral, by_words, "--text"),
        ("--keep goes with --text", asked.keep, by_words, "--text"),
        ("--unpaired goes with --before", asked.unpaired, asked.pairs, "--before and --after"),
        ("--overwrite goes with --save-edit", written.overwrite, written.save_edit, "--save-edit"),
    ):
        if given and not needed:
            raise _UsageError(f"{option}; give {what} too.")
    _ = asked.changes
    if written.strength is not None:
        from stylegan_hub.bounds import MAX_STRENGTH, is_strength

        if not is_strength(written.strength):
            raise ValueError(
                f"Got strength {written.strength}; expected a number of at most {MAX_STRENGTH:g} "
                "either way."
            )
    if written.save_edit is not None:
        _check_folder(written.save_edit)
        if not written.overwrite:
            from stylegan_hub.artifacts import check_room

            check_room(written.save_edit)  # rather before the search than after it


def _pictures(given: list[str]) -> list[Any]:
    """Pictures by their files, or seeds."""
    from stylegan_hub.photos.photo import read_photo

    if all(one.isdecimal() and not Path(one).exists() for one in given):
        return [int(one) for one in given]
    return [read_photo(one).image for one in given]


def _changes(given: list[str] | None, steps: int | None) -> dict[str, object]:
    """Settings by name of 'name=value'; values as in JSON, else as text."""
    changes: dict[str, object] = {} if steps is None else {"steps": steps}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise _UsageError(f"Got --set {text!r}; expected NAME=VALUE, as in space=s.")
        try:
            parsed = json.loads(value)
        except ValueError:
            parsed = value
        changes[name.strip()] = tuple(parsed) if isinstance(parsed, list) else parsed
    return changes


def _with_found(studio: Studio, session: Session, asked: _Asked, written: _Written) -> Session:
    """Search for what is asked on the face as it is, and put it on."""
    from stylegan_hub.methods.choose import within

    request = asked.request()
    for word in studio.unfamiliar(asked.text or ""):
        typer.echo(f"Warning: this CLIP has no token for {word!r} and may misread it.", err=True)
    if asked.region is not None:
        studio.region("", [asked.region])  # refuses an unknown one before the search
    method = _method(studio, session, request, asked)
    request, shown_in = within(method, request, asked.region)
    found = _chosen(_search(studio, session, request, method, asked), asked.choose)
    if written.save_edit is not None:
        found.save_pretrained(written.save_edit, written.overwrite)
    return session.with_stack(session.stack.added(found, written.strength, shown_in))


def _method(studio: Studio, session: Session, request: Request, asked: _Asked) -> Method[Any]:
    """The method by name, or the one that suits the request and its region best."""
    from stylegan_hub.methods import get
    from stylegan_hub.methods.choose import with_region

    if asked.method != _AUTO:
        return get(asked.method)
    request = with_region(request, asked.region)
    return studio.method_for(session, request, every_face=asked.every_face)


def _search(
    studio: Studio, session: Session, request: Request, method: Method[Any], asked: _Asked
) -> list[Edit]:
    """What a method finds, with a progress bar meanwhile."""
    from tqdm import tqdm

    from stylegan_hub.methods.method import changed
    from stylegan_hub.steps import Step

    settings: Any = asked.preset
    if asked.changes:
        try:
            chosen = method.settings(studio.pipe, request, asked.preset)
            settings = changed(chosen, asked.changes)
        except TypeError as error:
            raise _UsageError(f"A value of --set is of another type: {error}.") from error
    how = {"every_face": asked.every_face, "settings": settings}
    with (
        studio.search(session, request, method.name, **how) as search,
        tqdm(desc="Searching", unit="step") as progress,
    ):
        for step in search:
            if isinstance(step, Step):
                _show_step(progress, step)
        return search.result()


def _show_step(progress: tqdm[Any], step: Step) -> None:
    """A search knows best how long it is: it may have steps that its settings do not name."""
    progress.total = step.total
    progress.set_postfix_str(_noted(step), refresh=False)
    progress.update(step.index - progress.n)


def _noted(step: Step) -> str:
    loss = "" if math.isnan(step.loss) else f"loss {step.loss:.3f}"
    return step.note or loss


def _chosen(found: list[Edit], number: int) -> Edit:
    """One of the edits found; several are listed."""
    from stylegan_hub.methods.method import caption

    if len(found) > 1:
        for place, one in enumerate(found, 1):
            typer.echo(f"{'*' if place == number else ' '}{place:3} {_line(caption(one))}")
    if number > len(found):
        raise ValueError(
            f"Got --choose {number}; the method found {len(found)} edit{'s' * (len(found) != 1)}."
        )
    return found[number - 1]


def _edited_name(output: Path | None, person: Path | None) -> Path:
    """Where the picture is written, checked."""
    if output is None and person is None:
        raise _UsageError("Missing option '--output' / '-o': the picture to write.")
    if person is not None and person.suffix.lower() not in (".safetensors", ".png"):
        raise _UsageError(
            f"Got {person.name}; expected a .safetensors file of a person, or a PNG that was saved "
            "here. Make one: "
            f"stylegan-hub invert {person.name} -o {person.stem}.safetensors"
        )
    if output is None:
        assert person is not None
        output = person.with_name(f"{person.stem}-edited.png")
    _check_picture(output)
    return output


def _label(text: str | None) -> int | list[float] | None:
    """A class by its number, or the numbers of a label."""
    if text is None:
        return None
    try:
        return int(text) if "," not in text else [float(number) for number in text.split(",")]
    except ValueError as error:
        raise _UsageError(
            f"Got the label {text!r}; expected the number of a class, or numbers such as 0.5,0.5."
        ) from error


def _named(text: str) -> tuple[str, float | None]:
    """Name and strength of `name:strength`; the strength may be left out."""
    name, colon, number = text.rpartition(":")
    if colon:
        try:
            return name, float(number)
        except ValueError:
            pass  # the colon belongs to the name, as in C:\edits\afro
    return text, None


def _points(text: str) -> list[tuple[float, float]]:
    """Three points of 'x,y x,y x,y'."""
    try:
        points = [(float(x), float(y)) for x, y in (part.split(",") for part in text.split())]
    except ValueError:
        points = []
    if len(points) != 3:
        raise _UsageError(
            f"Got the points {text!r}; expected both eyes and the mouth, as in "
            "'412,300 520,310 460,410'."
        )
    return points


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows, the header first, with columns below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip())


def _row(info: EditInfo) -> tuple[str, ...]:
    success, collateral = info.metrics.get("success"), info.metrics.get("collateral")
    return (
        _line(info.name),
        _line(info.kind),
        _line(info.base_model or info.fingerprint or "-"),
        f"{success:.2f}" if isinstance(success, int | float) else "-",
        f"{collateral:.3f}" if isinstance(collateral, int | float) else "-",
        _line(info.prompt or ""),
    )


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_line(str(key))} {_shown(part)}" for key, part in value.items())
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else _line(str(value))


def _line(text: str) -> str:
    """A stranger's text without line breaks and without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise _UsageError(f"Got seeds {text!r}; expected numbers and ranges, as in 1,4,8-10.")
        chosen = range(int(first), int(last if dash else first) + 1)
        if not chosen or len(seeds) + len(chosen) > _MAX_SEEDS:
            raise _UsageError(
                f"Got seeds {text!r}; expected 1 to {_MAX_SEEDS} of them, ranges upwards."
            )
        seeds.extend(chosen)
    return seeds


def _check_picture(path: Path) -> None:
    """Raise before the work starts what writing the picture would raise after it."""
    from stylegan_hub.images import FORMATS

    if path.suffix.lower() not in FORMATS:
        raise _UsageError(f"Cannot write {path.name!r}: end the name in {', '.join(FORMATS)}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a picture in it.")
    _check_folder(path.parent)


def _check_folder(path: Path) -> None:
    """Raise unless files can be written in this folder, or in the one it would be made in."""
    import tempfile

    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ValueError(f"Cannot write in {path}: {existing} is a file, not a folder.")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ValueError(f"Cannot write in {existing}: {error.strerror}.") from error
