"""The command `stylegan-hub`.

Libraries that take seconds to import are imported inside the commands, so `--help` is quick.

Exit status: 0 when all went well; 1 when something that was asked for cannot be had (no such edit,
the Hub refuses, the disk is full); 2 when the command line itself makes no sense. Both errors come
as one message that says what to do, without a traceback.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from stylegan_hub.edits.direction import Direction
    from stylegan_hub.hub import EditInfo
    from stylegan_hub.methods.optimization import Settings
    from stylegan_hub.photos.invert import Step
    from stylegan_hub.photos.person import Person
    from stylegan_hub.photos.photo import Photo
    from stylegan_hub.session import Session
    from stylegan_hub.studio import Studio

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


@main.command()
def edit(
    person: Annotated[
        Path | None,
        typer.Argument(help="Who: a file made by `stylegan-hub invert`, in place of a seed."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Picture to write: .png, .jpg, .webp or .gif; NAME-edited.png beside the file of "
            "a person if not given.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Who.")] = 0,
    text: Annotated[
        str | None, typer.Option(help="What the picture shall show: 'a face with purple hair'.")
    ] = None,
    edits: Annotated[
        list[str] | None,
        typer.Option(
            "--edit", help="A saved edit and its strength: afro-hair:1.2. May be repeated."
        ),
    ] = None,
    strength: Annotated[float, typer.Option(help="Of the edit found for --text.")] = 1.0,
    save_edit: Annotated[
        Path | None, typer.Option(help="Folder to save the edit found for --text in.")
    ] = None,
    before_after: Annotated[
        bool, typer.Option("--before-after", help="Write the picture before the edit beside it.")
    ] = False,
    photo: Annotated[
        Path | None,
        typer.Option(
            help="The photo that the person is from; looked for beside the person's file, and in "
            "the current folder, if not given."
        ),
    ] = None,
    paste: PasteOption = "changed",
    steps: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Steps of the search for --text.")
    ] = None,
    space: Annotated[
        Literal["w_plus", "s"], typer.Option(help="Latent space of the search for --text.")
    ] = "w_plus",
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Change one face by words, by saved edits, or both.

    The words are searched for on the unedited face; then all edits are added. The face of a photo
    goes back into the photo.

    \b
    Examples:
      stylegan-hub edit --seed 7 --text "a face with purple hair" -o purple.png
      stylegan-hub edit --seed 7 --edit afro-hair:1.2 --edit surprised:-0.5 -o both.png
      stylegan-hub edit --seed 7 --edit user/repo@v1:0.8 --text "a hat" --before-after -o hat.png
      stylegan-hub edit me.safetensors --edit afro-hair:1 -o me-with-an-afro.png
    """
    with _reporting():
        if text is None and not edits:
            raise _UsageError("Got nothing to do; give --text, or --edit, or both.")
        if text is None and save_edit is not None:
            raise _UsageError("--save-edit saves the edit found for --text; give --text too.")
        if output is None and person is None:
            raise _UsageError("Missing option '--output' / '-o': the picture to write.")
        if person is not None and person.suffix != ".safetensors":
            raise _UsageError(
                f"Got {person.name}; expected a .safetensors file of somebody. Make one: "
                f"stylegan-hub invert {person.name} -o {person.stem}.safetensors"
            )
        if output is None:
            assert person is not None
            output = person.with_name(f"{person.stem}-edited.png")
        _check_picture(output)
        if save_edit is not None:
            _check_folder(save_edit)
        wanted = [_named(name) for name in edits or ()]

        from stylegan_hub import images
        from stylegan_hub.edits.base import load_edit
        from stylegan_hub.methods.optimization import Settings
        from stylegan_hub.session import Session

        session = Session(seed, truncation_psi=truncation)
        somebody = None
        if person is not None:
            somebody = _person(person)
            session = replace(session, latents=somebody.latents)
            original = None if paste == "none" else _photo_of(somebody, photo, person.parent)
        for name, wanted_strength in wanted:
            session = session.with_edit(load_edit(name), wanted_strength)
        studio = _open(pipeline, somebody)
        studio.draw(session)  # refuses a seed or an edit that does not fit before the long search
        if text is not None:
            settings = Settings() if steps is None else Settings(steps=steps)
            found = _search(studio, session, text, settings, space)
            session = session.with_edit(found, strength)
            if save_edit is not None:
                found.save_pretrained(save_edit)
        before, after = studio.draw(session)
        if somebody is not None and original is not None and paste != "none":
            from stylegan_hub.photos.paste import paste as paste_back

            after = paste_back(original, somebody.alignment, after, before, paste)
            before = original.image
        images.save(images.grid([before, after], columns=2) if before_after else after, output)
    typer.echo(f"Wrote {output}" + (f" and {save_edit}" if save_edit else "") + ".")


@main.command()
def invert(
    photo: Annotated[Path, typer.Argument(help="The photo: a picture file.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="File to write, NAME.safetensors beside the photo if not given."
        ),
    ] = None,
    refine: RefineOption = 0,
    tune: TuneOption = 0,
    face: Annotated[
        int | None, typer.Option(min=1, help="Which face; 1 is the largest, which is usual.")
    ] = None,
    points: Annotated[
        str | None,
        typer.Option(
            help="Where the face is: both eyes and the mouth, 'x,y x,y x,y' in pixels, in place "
            "of a search."
        ),
    ] = None,
    aligned: Annotated[
        bool,
        typer.Option("--aligned", help="The whole picture is what the generator would draw."),
    ] = False,
    preview: Annotated[
        Path | None, typer.Option(help="Picture to write of the aligned photo and the drawing.")
    ] = None,
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

        from tqdm import tqdm

        from stylegan_hub import images
        from stylegan_hub.photos import align, finders
        from stylegan_hub.photos.invert import Refinement, Tuning
        from stylegan_hub.photos.person import invert_photo
        from stylegan_hub.photos.photo import read_photo

        picture = read_photo(photo)
        for note in picture.notes:
            typer.echo(f"Note: {note}", err=True)
        pipe = _open(pipeline).pipe
        if clicks is not None:
            landmarks = align.Landmarks.from_clicks(*clicks)
            alignment = align.align(picture, landmarks, finders.framing(pipe))
        elif aligned:
            alignment = align.whole(picture.size, picture.name, pipe.generator.img_size)
        else:
            alignment = finders.locate(pipe, picture, face)
        with tqdm(desc="Inverting", total=refine + tune, unit="step", disable=None) as progress:

            def show(step: Step) -> None:
                progress.update()
                progress.set_postfix(loss=f"{step.loss:.3f}", refresh=False)

            person = invert_photo(
                pipe,
                picture,
                alignment,
                Refinement(steps=refine) if refine else None,
                Tuning(steps=tune) if tune else None,
                show,
            )
        person.save(output)
        if preview is not None:
            (drawn,) = person.pipeline(pipe)(latents=person.latents).images
            shown = align.cut(picture, alignment, (drawn.height, drawn.width))
            images.save(images.grid([shown, drawn], columns=2), preview)
    corners = " ".join(f"({round(x)}, {round(y)})" for x, y in alignment.quad)
    what = "The face" if finders.draws_faces(pipe) else "What was cut out"
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
        people = _seeds(seeds)
        _check_picture(output)

        from tqdm import tqdm

        from stylegan_hub import images

        studio = _open(pipeline)
        starts = range(0, len(people), _BATCH)
        faces = [
            face
            for start in tqdm(starts, desc="Drawing", disable=len(starts) < 4)
            for face in studio.faces(people[start : start + _BATCH], truncation)
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
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip())


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


def _person(path: Path) -> Person:
    from stylegan_hub.photos.person import Person

    return Person.load(path)


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


def _search(
    studio: Studio, session: Session, text: str, settings: Settings, space: str
) -> Direction:
    from tqdm import tqdm

    for word in studio.unfamiliar(text):
        typer.echo(f"Warning: this CLIP has no token for {word!r} and may misread it.", err=True)
    with (
        studio.search(session, text, settings, space) as search,
        tqdm(search, desc="Searching", total=search.total, unit="step") as progress,
    ):
        for step in progress:
            progress.set_postfix(similarity=f"{step.similarity:.3f}", refresh=False)
        return search.result()


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
