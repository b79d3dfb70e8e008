"""`stylegan-hub sample`, `film`, `mix` and `grid`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stylegan_hub.cli.console import UsageError, main, open_studio, reporting, show_step
from stylegan_hub.cli.options import (
    DeviceOption,
    LabelOption,
    MarkOption,
    NeutralOption,
    OutputOption,
    PipelineOption,
    RuntimeOption,
    SeedOption,
    TruncationOption,
    spread,
)
from stylegan_hub.cli.start import Start, face_of
from stylegan_hub.cli.values import check_film, check_picture, label_of, numbers_of, seeds_of

if TYPE_CHECKING:
    from PIL.Image import Image

    from stylegan_hub.pipeline import StyleEditPipeline
    from stylegan_hub.session import Session
    from stylegan_hub.studio import Studio


_BATCH = 16


@main.command()
def sample(
    output: OutputOption,
    seeds: Annotated[
        str, typer.Option("--seeds", "--seed", help="Seeds of the faces: 7, 0-15, or 1,4,8-10.")
    ] = "0-15",
    columns: Annotated[
        int | None, typer.Option(min=1, help="Pictures per row. By default the sheet is square.")
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="Find new faces that fit this text, one for each seed.")
    ] = None,
    label: LabelOption = None,
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = None,
) -> None:
    """Render the faces of some seeds on one sheet, or new faces that fit a text.

    \b
    Examples:
      stylegan-hub sample -o faces.png
      stylegan-hub sample --seeds 1,4,8-10 --columns 5 --truncation 1 -o five.png
      stylegan-hub sample --text "a young woman with long red hair" --seeds 0-3 -o women.png
    """
    with reporting():
        chosen, shown = seeds_of(seeds), label_of(label)
        if text is not None and label is not None:
            raise UsageError("--text cannot be used with --label. Leave out one of them.")
        check_picture(output)

        from stylegan_hub import images

        pipe = open_studio(pipeline, device, runtime).pipe
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
        for start in tqdm(starts, desc="Rendering", disable=len(starts) < 4)
        for face in pipe(
            seeds[start : start + _BATCH], truncation_psi=truncation, label=label
        ).images
    ]


def _described(
    pipe: StyleEditPipeline, text: str, seeds: list[int], truncation: float
) -> list[Image]:
    from tqdm import tqdm

    with tqdm(desc="Searching", unit="face") as progress:
        return pipe.from_text(
            text, seeds, truncation, on_step=lambda step: show_step(progress, step)
        ).images


# Of `film`, `mix` and `grid`.
FilmOption = Annotated[
    Path, typer.Option("--output", "-o", help="Film to write: .gif, .webp or .mp4.")
]


FramesOption = Annotated[
    int,
    typer.Option(min=2, max=1000, help="Number of frames; with --walk, for each edit."),
]


FpsOption = Annotated[int, typer.Option(min=1, max=60, help="Frames per second.")]


ShareOption = Annotated[
    float, typer.Option(min=0, max=1, help="0 is only the first face, 1 only the second.")
]


@main.command()
@spread
def film(
    *,
    start: Start,
    output: FilmOption,
    walk: Annotated[
        bool, typer.Option("--walk", help="Add the edits one after the other.")
    ] = False,
    to: Annotated[
        int | None, typer.Option(min=0, help="Go to the face of this seed, and back.")
    ] = None,
    low: Annotated[
        float | None,
        typer.Option(help="Lowest strength of the last edit. By default its slider's lower end."),
    ] = None,
    high: Annotated[
        float | None,
        typer.Option(help="Highest strength of the last edit. By default its slider's upper end."),
    ] = None,
    frames: FramesOption = 32,
    fps: FpsOption = 16,
    mark: MarkOption = False,
) -> None:
    """Make a film of the last edit's strength, of all edits in turn, or between two faces.

    MP4 needs PyAV: pip install stylegan-hub[film].

    \b
    Examples:
      stylegan-hub film --seed 7 --edit afro-hair -o afro.gif
      stylegan-hub film --seed 7 --edit afro-hair:1.2 --edit surprised --walk -o walk.mp4
      stylegan-hub film --seed 7 --to 12 -o two-faces.mp4
    """
    with reporting():
        if walk and (to is not None or low is not None or high is not None):
            raise UsageError("--walk cannot be used with --to, --low and --high.")
        check_film(output)

        from stylegan_hub.pictures import marked, recipe_of, save_film

        session, source = face_of(start)
        studio = open_studio(
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
    with reporting():
        check_picture(output)

        from stylegan_hub import mixing
        from stylegan_hub.pictures import save_picture
        from stylegan_hub.session import Session

        studio = open_studio(pipeline)
        faces = studio.pipe.sample((first, second), truncation, label=label_of(label))
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
        str, typer.Option(help="How far the most relevant channel moves; a row for each value.")
    ] = "-4,-2,0,2,4",
    betas: Annotated[
        str, typer.Option(help="How relevant a channel must be to move; a column for each value.")
    ] = "0.05,0.1,0.15,0.2",
    truncation: TruncationOption = 0.7,
    pipeline: PipelineOption = "portraits",
) -> None:
    """Render the grid of alpha and beta of a global direction (StyleCLIP, Figure 6).

    \b
    Example:
      stylegan-hub grid --seed 7 --text "a face with a beard" -o grid.png
    """
    with reporting():
        check_picture(output)
        rows, columns = numbers_of(alphas, "--alphas"), numbers_of(betas, "--betas")

        from stylegan_hub import images
        from stylegan_hub.pictures import alpha_beta

        pipe = open_studio(pipeline).pipe
        face = pipe.sample(seed, truncation)
        images.save(alpha_beta(pipe, face, text, neutral, rows, columns), output)
    typer.echo(f"Wrote {output}.")


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
