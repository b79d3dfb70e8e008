"""The command itself: opening a pipeline, reporting errors and printing."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from tqdm import tqdm

    from stylegan_hub.photos.person import Person
    from stylegan_hub.steps import Step
    from stylegan_hub.studio import Studio


AUTO = "auto"


main = typer.Typer(
    name="stylegan-hub",
    help="Change pictures of a StyleGAN2 with words, and share the edits.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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
    """Options for all commands."""
    # The libraries make a million objects that stay; the usual 700 would search them all the time.
    gc.set_threshold(100_000)


class UsageError(ValueError):
    """The command line itself is wrong."""


@contextmanager
def reporting() -> Iterator[None]:
    """Print errors and warnings as one line each, without a traceback."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            try:
                yield
            finally:
                for warning in caught:
                    if issubclass(warning.category, UserWarning):
                        typer.echo(f"Warning: {one_line(str(warning.message))}", err=True)
    except (ValueError, OSError) as error:
        # What was got from a file may control the terminal.
        typer.echo(f"Error: {one_line(str(error))}", err=True)
        raise typer.Exit(2 if isinstance(error, UsageError) else 1) from error


def hide_loading() -> None:
    """Hide the progress bars of loading, which takes seconds."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def open_studio(
    pipeline: str,
    device: str = AUTO,
    runtime: str | None = None,
    person: Person | None = None,
) -> Studio:
    """Open a studio; for a person with a tuned generator, the studio uses that generator."""
    from stylegan_hub.memory import keep_freed_memory
    from stylegan_hub.studio import Studio

    hide_loading()
    keep_freed_memory()
    studio = Studio.open(pipeline, device, runtime)
    return studio if person is None else Studio(person.pipeline(studio.pipe))


def show_step(progress: tqdm[Any], step: Step) -> None:
    """Show a step; the total comes from the search, which may have steps beyond its settings."""
    progress.total = step.total
    progress.set_postfix_str(noted(step), refresh=False)
    progress.update(step.index - progress.n)


def noted(step: Step) -> str:
    loss = "" if math.isnan(step.loss) else f"loss {step.loss:.3f}"
    return step.note or loss


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of plain text, the header first, with aligned columns."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  ".join(cell.ljust(n) for cell, n in zip(row, widths, strict=True)).rstrip())


def value_text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{one_line(str(key))} {value_text(part)}" for key, part in value.items())
    if value is None:
        return "not measured"
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def one_line(text: str) -> str:
    """An untrusted text without line breaks and without terminal control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
