"""`stylegan-hub many`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stylegan_hub.cli.console import UsageError, hide_loading, main, reporting
from stylegan_hub.cli.options import (
    DeviceOption,
    EditsOption,
    MaxResolutionOption,
    PipelineOption,
    RefineOption,
    TruncationOption,
)
from stylegan_hub.cli.values import check_folder, interval_of, named_strength

if TYPE_CHECKING:
    pass

_TRUNCATION = 0.7


@main.command()
def many(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")],
    seeds: Annotated[
        str | None, typer.Option(help="First and last seed, such as 0-999999.")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="Folder of photos, with subfolders, in place of seeds.")
    ] = None,
    edits: EditsOption = None,
    refine: RefineOption = 0,
    truncation: TruncationOption = _TRUNCATION,
    max_resolution: MaxResolutionOption = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Seeds or photos per shard.")] = 256,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Precision.")] = "float32",
    engine: Annotated[
        Literal["accelerate", "ray"],
        typer.Option(
            help="What divides the work: the processes of `accelerate launch`, or a Ray cluster."
        ),
    ] = "accelerate",
    pipeline: PipelineOption = "portraits",
    device: DeviceOption = "auto",
) -> None:
    """Render, edit or invert many seeds or photos, on several processes and machines.

    Each one is processed exactly once. If the command is interrupted, run it again to continue.
    OUTPUT/manifest.jsonl has a line for each seed or photo: its files with their sha256, or why it
    failed.

    \b
    Examples:
      stylegan-hub many --seeds 0-999999 --edit afro-hair:1 -o faces
      accelerate launch --num_processes 2 -m stylegan_hub many --seeds 0-999999 -o faces
      stylegan-hub many --photos album --pipeline ffhq -o latents --engine ray
    """
    with reporting():
        if (seeds is None) == (photos is None):
            raise UsageError("Give either --seeds or --photos.")
        if seeds is not None and refine:
            raise UsageError("--refine needs --photos: seeds are not inverted.")
        if photos is not None and truncation != _TRUNCATION:
            raise UsageError("--truncation needs --seeds: photos are not sampled.")
        check_folder(output)
        from stylegan_hub import many as jobs
        from stylegan_hub.memory import keep_freed_memory

        named = tuple(named_strength(name) for name in edits or ())
        job = jobs.Job(
            pipeline=pipeline,
            seeds=None if seeds is None else interval_of(seeds),
            photos=None if photos is None else str(photos),
            edits=named,
            truncation_psi=truncation,
            refine=refine,
            max_resolution=max_resolution,
            shard_size=shard_size,
            dtype=dtype,
        )
        hide_loading()
        keep_freed_memory()
        if engine == "ray":
            jobs.run_on_ray(job, output, device=device)
        elif not _is_first_of_all(jobs, job, output, device):
            return
        progress = jobs.finish(job, output)
    typer.echo(f"{progress.done} of {progress.shards} shards are in {output}.")
    if progress.failed:
        typer.echo(f"{progress.failed} failed; see {output / jobs.MANIFEST}.", err=True)
    if progress.failed or progress.done < progress.shards:
        raise typer.Exit(1)


def _is_first_of_all(jobs: Any, job: Any, output: Path, device: str) -> bool:
    """Do this process's share, and wait for the others; return whether it is the main process."""
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
