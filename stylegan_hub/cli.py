"""The command `stylegan-hub`.

Libraries that take seconds to import are imported inside the commands, so `--help` is quick.

Exit status: 0 when all went well; 1 when something that was asked for cannot be had (no such edit,
the Hub refuses, the disk is full); 2 when the command line itself makes no sense. Both errors come
as one message that says what to do, without a traceback.
"""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from tqdm import tqdm

    from stylegan_hub.edits.base import Edit
    from stylegan_hub.hub import EditInfo
    from stylegan_hub.methods.method import Method, Request
    from stylegan_hub.photos.align import Alignment
    from stylegan_hub.photos.person import Person
    from stylegan_hub.photos.photo import Photo
    from stylegan_hub.pipeline import StyleEditPipeline
    from stylegan_hub.session import Session
    from stylegan_hub.steps import Step
    from stylegan_hub.studio import Studio

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

PipelineOption = Annotated[
    str, typer.Option("--pipeline", help="Bundled name, folder or Hub id (user/repo@revision).")
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
    typer.Argument(help="A face by a file of `stylegan-hub invert`, in place of a seed."),
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
BeforeAfterOption = Annotated[
    bool, typer.Option("--before-after", help="Write the picture before the edit beside it.")
]
PhotoOption = Annotated[
    Path | None,
    typer.Option(
        help="The photo that the person is from; looked for beside the person's file, and in the "
        "current folder, if not given."
    ),
]


@main.command()
def edit(
    person: PersonArgument = None,
    output: EditedOption = None,
    seed: SeedOption = 0,
    label: LabelOption = None,
    edits: EditsOption = None,
    text: TextOption = None,
    neutral: NeutralOption = None,
    target: TargetOption = None,
    before: BeforeOption = None,
    after: AfterOption = None,
    unpaired: UnpairedOption = False,
    method: MethodOption = _AUTO,
    preset: PresetOption = None,
    changes: SetOption = None,
    steps: StepsOption = None,
    region: RegionOption = None,
    keep: KeepOption = None,
    every_face: EveryFaceOption = False,
    choose: ChooseOption = 1,
    strength: StrengthOption = None,
    save_edit: SaveEditOption = None,
    before_after: BeforeAfterOption = False,
    photo: PhotoOption = None,
    paste: PasteOption = "changed",
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
) -> None:
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
        asked = _Asked(
            text, neutral, target, before or [], after or [], unpaired, method, preset,
            _changes(changes, steps), region, keep or [], every_face, choose,
        )  # fmt: skip
        asked.check(edits, save_edit)
        output = _edited_name(output, person)
        wanted = [_named(name) for name in edits or ()]
        session, source = _face(seed, truncation, _label(label), person, photo, paste)
        session = _with_edits(session, wanted)
        studio = _open(pipeline, None if source is None else source.person)
        studio.draw(session)  # refuses a seed or an edit that does not fit before the long search
        if asked.anything:
            session = _with_found(studio, session, asked, strength, save_edit)
        _write_edited(studio, session, source, paste, before_after, output)
    typer.echo(f"Wrote {output}" + (f" and {save_edit}" if save_edit else "") + ".")


@main.command()
def methods(pipeline: PipelineOption = "portraits") -> None:
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
PreviewOption = Annotated[
    Path | None, typer.Option(help="Picture to write of the aligned photo and the drawing.")
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
    pipeline: PipelineOption = "portraits",
) -> None:
    """Find the face of a photo and the latent that draws it.

    Ask people before you edit pictures of them. For a pipeline of houses or cars, the middle of the
    photo is taken, in the shape of its pictures.

    \b
    Examples:
      stylegan-hub invert me.png --refine 100 -o me.safetensors
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
        from stylegan_hub.photos.photo import read_photo

        picture = read_photo(photo)
        for note in picture.notes:
            typer.echo(f"Note: {note}", err=True)
        pipe = _open(pipeline).pipe
        alignment = _alignment(pipe, picture, face, clicks, aligned)
        person = _inverted(pipe, picture, alignment, refine, tune)
        person.save(output)
        if preview is not None:
            _write_preview(pipe, picture, person, preview)
    corners = " ".join(f"({round(x)}, {round(y)})" for x, y in alignment.quad)
    what = "The face" if draws_faces(pipe) else "What was cut out"
    typer.echo(f"{what} in {picture.name} has the corners {corners}.")
    typer.echo(f"Likeness of the drawing: {person.likeness}.")
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
    pipeline: PipelineOption = "portraits",
) -> None:
    """Invert every photo of a folder, edit all, and lay them on a contact sheet.

    Latents are kept in OUTPUT/latents and used again next time. Photos that fail are listed at the
    end, with exit status 1; the others are done.

    \b
    Example:
      stylegan-hub batch holidays -o edited --refine 100 --edit afro-hair:1
    """
    with _reporting():
        if paste == "none":
            raise _UsageError("A batch pastes back into the photos: --paste changed or face.")
        _check_folder(output)
        wanted = [_named(name) for name in edits or ()]

        from tqdm import tqdm

        from stylegan_hub.edits.base import load_edit
        from stylegan_hub.photos.folder import edit_folder
        from stylegan_hub.photos.invert import Refinement, Tuning
        from stylegan_hub.photos.photo import list_photos

        count = len(list_photos(photos))
        loaded = [(load_edit(name), strength) for name, strength in wanted]
        pipe = _open(pipeline).pipe
        with tqdm(desc="Photos", total=count, unit="photo", disable=None) as progress:

            def show(index: int, total: int, name: str) -> None:
                progress.n = index
                progress.set_postfix_str(name)

            report = edit_folder(
                pipe,
                photos,
                output,
                [(e, e.strength.default if s is None else s) for e, s in loaded],
                Refinement(steps=refine) if refine else None,
                Tuning(steps=tune) if tune else None,
                where=paste,
                on_photo=show,
            )
    done, again = len(report.people), len(report.reused)
    typer.echo(f"Inverted {done} of {count} photos, {again} of them before.")
    if report.sheet is not None:
        typer.echo(f"Wrote {report.sheet}.")
    for name, why in report.failures.items():
        typer.echo(f"Failed: {name}: {why}", err=True)
    if report.failures:
        raise typer.Exit(1)


@main.command()
def sample(
    output: OutputOption,
    seeds: Annotated[str, typer.Option(help="Who: 7, or 0-15, or 1,4,8-10.")] = "0-15",
    columns: Annotated[
        int | None, typer.Option(min=1, help="Pictures in a row; a square sheet by default.")
    ] = None,
    label: LabelOption = None,
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Draw the faces of some seeds on one sheet.

    \b
    Examples:
      stylegan-hub sample -o faces.png
      stylegan-hub sample --seeds 1,4,8-10 --columns 5 --truncation 1 -o five.png
    """
    with _reporting():
        people, shown = _seeds(seeds), _label(label)
        _check_picture(output)

        from tqdm import tqdm

        from stylegan_hub import images

        studio = _open(pipeline)
        starts = range(0, len(people), _BATCH)
        faces = [
            face
            for start in tqdm(starts, desc="Drawing", disable=len(starts) < 4)
            for face in studio.faces(people[start : start + _BATCH], truncation, label=shown)
        ]
        square = max(1, round(len(faces) ** 0.5))
        images.save(images.grid(faces, columns=min(columns or square, len(faces))), output)
    typer.echo(f"Wrote {output} with {len(faces)} faces.")


@main.command()
def demo(
    pipeline: PipelineOption = "portraits",
    host: Annotated[
        str | None, typer.Option(help="Address to listen at; only this machine by default.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port.")] = None,
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
        if is_edit and not (folder / zoo.CARD_NAME).exists():
            typer.echo(f"Wrote {zoo.write_card(folder)}.")
        url = zoo.publish(folder, repo_id, private, message, parent_commit=parent_commit)
    typer.echo(f"Published: {url}")


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
        pipe = StyleEditPipeline.from_pretrained(pipeline)
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


def _open(pipeline: str, person: Person | None = None) -> Studio:
    """A studio; for a person with a tuned generator, with that one."""
    from stylegan_hub.memory import keep_freed_memory
    from stylegan_hub.studio import Studio

    _hide_loading()
    keep_freed_memory()
    studio = Studio.open(pipeline)
    return studio if person is None else Studio(person.pipeline(studio.pipe))


@dataclass(frozen=True)
class _Source:
    """Where a face is from: a person, and the photo that the face goes back into, if it should."""

    person: Person
    photo: Photo | None


def _face(
    seed: int,
    truncation: float,
    label: int | list[float] | None,
    path: Path | None,
    photo: Path | None,
    paste: str,
) -> tuple[Session, _Source | None]:
    """A session for a seed, or for a person in a file."""
    from stylegan_hub.photos.person import Person
    from stylegan_hub.session import Session

    session = Session(seed, truncation_psi=truncation, label=label)
    if path is None:
        return session, None
    person = Person.load(path)
    original = None if paste == "none" else _photo_of(person, photo, path.parent)
    return replace(session, latents=person.latents), _Source(person, original)


def _photo_of(person: Person, given: Path | None, folder: Path) -> Photo:
    """The photo that a person is from: the given one, or the one of its name where it may be."""
    from stylegan_hub.photos.align import check_same
    from stylegan_hub.photos.photo import read_photo

    name = person.alignment.name
    places = [given] if given is not None else [folder / name, Path(name)]
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
            progress.set_postfix_str(step.note or f"loss {step.loss:.3f}", refresh=False)
            progress.update()

        return invert_photo(pipe, photo, alignment, refinement, tuning, show)


def _write_preview(pipe: StyleEditPipeline, photo: Photo, person: Person, output: Path) -> None:
    """What was cut out of the photo, and the drawing of it."""
    from stylegan_hub import images
    from stylegan_hub.photos.align import cut

    (drawn,) = person.pipeline(pipe)(latents=person.latents).images
    shown = cut(photo, person.alignment, (drawn.height, drawn.width))
    images.save(images.grid([shown, drawn], columns=2), output)


def _with_edits(session: Session, wanted: list[tuple[str, float | None]]) -> Session:
    from stylegan_hub.edits.base import load_edit

    for name, strength in wanted:
        session = session.with_edit(load_edit(name), strength)
    return session


def _write_edited(
    studio: Studio,
    session: Session,
    source: _Source | None,
    paste: Literal["changed", "face", "none"],
    before_after: bool,
    output: Path,
) -> None:
    """The edited face, or the photo with it, beside what was there before if wanted."""
    from stylegan_hub import images

    before, after = studio.draw(session)
    if source is not None and source.photo is not None and paste != "none":
        from stylegan_hub.photos.paste import paste as paste_back

        after = paste_back(source.photo, source.person.alignment, after, before, paste)
        before = source.photo.image
    images.save(images.grid([before, after], columns=2) if before_after else after, output)


@dataclass(frozen=True)
class _Asked:
    """What `edit` should search for, and how; as its options say it."""

    text: str | None
    neutral: str | None
    target: Path | None
    before: list[str]
    after: list[str]
    unpaired: bool
    method: str
    preset: str | None
    changes: Mapping[str, object]
    region: str | None
    keep: list[str]
    every_face: bool
    choose: int

    @property
    def pairs(self) -> bool:
        """Whether it is asked by pictures before and after."""
        return bool(self.before or self.after)

    @property
    def anything(self) -> bool:
        """Whether anything should be searched for."""
        by = (self.text is not None, self.target is not None, self.pairs, self.method != _AUTO)
        return any(by)

    def check(self, edits: list[str] | None, save_edit: Path | None) -> None:
        """Raise `_UsageError` for options that do not go together."""
        by_words, by_picture = self.text is not None, self.target is not None
        if by_words + by_picture + self.pairs > 1:
            raise _UsageError("Give one of --text, --target, and --before with --after.")
        if self.pairs and not (self.before and self.after):
            raise _UsageError("--before and --after go together; give at least one of each.")
        if not self.anything and not edits:
            raise _UsageError(
                "Got nothing to do; give --text, or --edit, or both; `stylegan-hub edit --help` "
                "names more."
            )
        for option, given, needed, what in (
            ("--save-edit saves an edit that is found", save_edit, self.anything, "--text"),
            ("--region says where an edit is found", self.region, self.anything, "--text"),
            ("--preset is of the method", self.preset, self.anything, "--text"),
            ("--every-face is of a search", self.every_face, self.anything, "--text"),
            ("--neutral goes with --text", self.neutral, by_words, "--text"),
            ("--keep goes with --text", self.keep, by_words, "--text"),
            ("--unpaired goes with --before", self.unpaired, self.pairs, "--before and --after"),
        ):
            if given and not needed:
                raise _UsageError(f"{option}; give {what} too.")
        if save_edit is not None:
            _check_folder(save_edit)

    def request(self) -> Request:
        """What is asked for, without a region."""
        from stylegan_hub.methods.method import Nothing, Pairs, Picture, Words

        if self.text is not None:
            return Words(self.text, self.neutral, tuple(self.keep))
        if self.target is not None:
            from stylegan_hub.photos.photo import read_photo

            return Picture(read_photo(self.target).image, self.target.stem)
        if self.pairs:
            before, after = _pictures(self.before), _pictures(self.after)
            return Pairs(before, after, not self.unpaired)
        return Nothing()


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


def _with_found(
    studio: Studio,
    session: Session,
    asked: _Asked,
    strength: float | None,
    save_edit: Path | None,
) -> Session:
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
    session = session.with_stack(session.stack.added(found, strength, shown_in))
    if save_edit is not None:
        found.save_pretrained(save_edit)
    return session


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
            _show_step(progress, step)
        return search.result()


def _show_step(progress: tqdm[Any], step: Step) -> None:
    """A search knows best how long it is: it may have steps that its settings do not name."""
    progress.total = step.total
    progress.set_postfix_str(step.note or f"loss {step.loss:.3f}", refresh=False)
    progress.update(step.index - progress.n)


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
    if person is not None and person.suffix != ".safetensors":
        raise _UsageError(
            f"Got {person.name}; expected a .safetensors file of a person. Make one: "
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
