"""Options that several commands share, and a way to pass options in groups."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

if TYPE_CHECKING:
    pass


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take options in groups: each field of a dataclass parameter is an option."""
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
    str, typer.Option(help="Device to compute on: auto (a GPU if there is one), cpu, cuda, mps.")
]


RuntimeOption = Annotated[
    str | None,
    typer.Option(
        help="Runtime to render with: auto (the fastest one), pytorch, openvino, onnx, or the "
        "folder of an exported pipeline."
    ),
]


OutputOption = Annotated[
    Path, typer.Option("--output", "-o", help="Picture to write: .png, .jpg, .webp or .gif.")
]


PasteOption = Annotated[
    Literal["changed", "face", "none"],
    typer.Option(
        help="What to paste back into the photo: only what the edit changed, or the whole face. "
        "With none, only the aligned face is written."
    ),
]


KeepOwnOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="How much of what the generator cannot render, such as a hand, is kept from the photo "
        "when a face is pasted back; 0 = nothing.",
    ),
]


DetailOption = Annotated[
    bool,
    typer.Option(
        "--detail/--no-detail",
        help="Give an edited face the details of the photo that its render lacks, in one pass, if "
        "the pipeline has a detailer.",
    ),
]


RefineOption = Annotated[
    int,
    typer.Option(
        min=0, max=10_000, help="Steps of the search near the encoder's latent; 0 = encoder only."
    ),
]


TuneOption = Annotated[
    int,
    typer.Option(
        min=0, max=10_000, help="Steps to tune the generator itself to the photo; 0 = none."
    ),
]


MaxResolutionOption = Annotated[
    int | None,
    typer.Option(
        min=4, help="Longer side of the pictures. Small previews take a fraction of the time."
    ),
]


TruncationOption = Annotated[
    float,
    typer.Option(min=-1, max=2, help="Truncation psi: 1 is the full variety, 0 the average face."),
]


LabelOption = Annotated[
    str | None,
    typer.Option(
        help="For a generator with labels: a class, counted from 0, or the numbers of a label, "
        "such as 0.5,0.5."
    ),
]


SeedOption = Annotated[int, typer.Option(help="Seed of the face.")]


EditsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--edit", help="A saved edit and its strength, such as afro-hair:1.2. May be repeated."
    ),
]


NeutralOption = Annotated[
    str | None,
    typer.Option(help="With --text: what the picture shows now. By default the pipeline's text."),
]


MarkOption = Annotated[
    bool,
    typer.Option("--mark", help="Also write “edited” into a corner; the metadata always says so."),
]


AlignedOption = Annotated[
    bool, typer.Option("--aligned", help="The picture is aligned already; use it as a whole.")
]
