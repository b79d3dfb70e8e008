"""The command `stylegan-hub`.

Libraries that take seconds to import are imported inside the commands, so `--help` is quick. Bad
input ends with status 2 and one line that says what to do, a disk that refuses with 1.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stylegan_hub import __version__

if TYPE_CHECKING:
    from stylegan_hub.edits.direction import Direction
    from stylegan_hub.edits.latent_optimization import Settings
    from stylegan_hub.session import Session, Studio

_BATCH = 16
_MAX_SEEDS = 10_000

main = typer.Typer(
    name="stylegan-hub",
    help="Change pictures of a StyleGAN2 by words, and share the edits.",
    no_args_is_help=True,
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
TruncationOption = Annotated[
    float, typer.Option(min=-1, max=2, help="1 keeps the full variety, 0 is the average face.")
]


@main.command()
def edit(
    output: OutputOption,
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

    The words are searched for on the unedited face; then all edits are added.
    """
    with _reporting():
        if text is None and not edits:
            raise ValueError("Got nothing to do; give --text, or --edit, or both.")
        if text is None and save_edit is not None:
            raise ValueError("--save-edit saves the edit found for --text; give --text too.")
        _check_picture(output)
        if save_edit is not None:
            _check_folder(save_edit)
        wanted = [_named(name) for name in edits or ()]

        from stylegan_hub import images
        from stylegan_hub.edits.base import load_edit
        from stylegan_hub.edits.latent_optimization import Settings
        from stylegan_hub.session import Session

        session = Session(seed, truncation_psi=truncation)
        for name, wanted_strength in wanted:
            session = session.with_edit(load_edit(name), wanted_strength)
        studio = _open(pipeline)
        studio.draw(session)  # refuses a seed or an edit that does not fit before the long search
        if text is not None:
            settings = Settings() if steps is None else Settings(steps=steps)
            found = _search(studio, session, text, settings, space)
            session = session.with_edit(found, strength)
            if save_edit is not None:
                found.save_pretrained(save_edit)
        before, after = studio.draw(session)
        images.save(images.grid([before, after], columns=2) if before_after else after, output)
    typer.echo(f"Wrote {output}" + (f" and {save_edit}" if save_edit else "") + ".")


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
    """Draw the faces of some seeds on one sheet."""
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
    """Open the page in a browser's reach: the same as `python app.py` in a clone."""
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


@contextmanager
def _reporting() -> Iterator[None]:
    """Errors as one line, without a traceback."""
    try:
        yield
    except (ValueError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        # A name that leads nowhere is bad input as well; it is no answer of the disk.
        bad_input = isinstance(error, ValueError | FileNotFoundError)
        raise typer.Exit(2 if bad_input else 1) from error


def _open(pipeline: str) -> Studio:
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    from stylegan_hub.session import Studio

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    return Studio.open(pipeline)


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


def _seeds(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"Got seeds {text!r}; expected numbers and ranges, as in 1,4,8-10.")
        chosen = range(int(first), int(last if dash else first) + 1)
        if not chosen or len(seeds) + len(chosen) > _MAX_SEEDS:
            raise ValueError(
                f"Got seeds {text!r}; expected 1 to {_MAX_SEEDS} of them, ranges upwards."
            )
        seeds.extend(chosen)
    return seeds


def _check_picture(path: Path) -> None:
    """Raise before the work starts what writing the picture would raise after it."""
    from stylegan_hub.images import FORMATS

    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"Cannot write {path.name!r}: end the name in {', '.join(FORMATS)}.")
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
