r"""Measure the table of global directions of a generator and its CLIP (StyleCLIP, section 6).

    accelerate launch recipes/build_direction_table.py --output_dir runs/directions

    # two processes, also on a CPU, share the channels:
    torchrun --standalone --nproc_per_node 2 recipes/build_direction_table.py \
        --output_dir runs/directions

For every channel of s in the convolutions, the table says how it moves CLIP's embedding of 100
faces. Most channels are measured by derivatives; those with a large effect are measured by
rendering them 5 standard deviations up and down. With --drawn_above 0 all are rendered, as in the
paper, which takes much longer. An interrupted run is continued with --resume_from_checkpoint
latest, also with another number of processes. At the end, `stylegan_hub.load_directions` loads the
folder `direction_table/` in the output folder; its metrics.json says how long it took.

The published variants: the released code is --drawn_above 0 --around mean, with --truncation_cutoff
None in its TensorFlow release and --truncation_cutoff 8 in its PyTorch release.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from command_line import run
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from stylegan_hub.artifacts import read_tensors, write_bytes, write_metrics, write_tensors
from stylegan_hub.latents import Space
from stylegan_hub.methods.style_statistics import (
    DRAWN_ABOVE,
    Around,
    channel_relevance,
    editable_channels,
    linear_relevance,
    style_statistics,
)
from stylegan_hub.methods.table import DirectionTable, table_layout
from stylegan_hub.pipeline import StyleEditPipeline

# Channels and faces between two checkpoints: about half a minute on one CPU core at 128 px.
_CHANNELS = 8
_PEOPLE = 5


@dataclass(frozen=True, kw_only=True)
class Config:
    """How the table is measured."""

    output_dir: Path
    """Folder of the run: checkpoints and the table."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    samples: int = 100
    """Number of faces on which a channel's effect is measured; the first seeds."""
    statistics_samples: int = 100_000
    """Number of faces from which the mean and deviation of s are taken; the first seeds."""
    truncation_psi: float = 0.7
    """Truncation psi of all these faces."""
    truncation_cutoff: int | None = None
    """Number of first layers that are truncated; None = all."""
    around: Around = "sample"
    """Whether a channel moves around its value in each face (the paper) or around its mean (the
    code). Derivatives are always taken at its value."""
    deviations: float = 5.0
    """How far a channel moves up and down, in standard deviations."""
    drawn_above: float = DRAWN_ABOVE
    """A channel is rendered if its derivative says that it moves the embedding, of length 1,
    farther than this; for the others the derivative is the result. 0 = all are rendered."""
    include_to_rgb: bool = False
    """Also measure the channels of the toRGB layers."""
    batch_size: int = 10
    """Number of faces that are rendered together, two pictures each."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of rendering and CLIP. Rows in bf16 differ from those in full precision by as much
    as rows of 40 faces from those of 100. fp16 needs a GPU."""
    resume_from_checkpoint: Literal["latest"] | None = None
    """"latest" continues the run in output_dir, or starts one if there is none."""

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.deviations > 0:
            raise ValueError(f"deviations is {self.deviations}; it must be above 0.")
        if not self.drawn_above >= 0:
            raise ValueError(f"drawn_above is {self.drawn_above}; it must be 0 or more.")


def main(config: Config) -> None:
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), mixed_precision=config.mixed_precision
    )
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=accelerator.device)
    channels = editable_channels(pipe, config.include_to_rgb)
    folder = config.output_dir / "checkpoint"
    settings = measured(config, pipe)
    if accelerator.is_main_process:
        start(folder, settings, config.resume_from_checkpoint == "latest")
    accelerator.wait_for_everyone()

    say(accelerator, f"Statistics of s over {config.statistics_samples:,} faces ...")
    truncation = (config.truncation_psi, config.truncation_cutoff)
    s_mean, s_std = style_statistics(pipe, config.statistics_samples, 0, *truncation)
    people = pipe.lower(pipe.sample(range(config.samples), *truncation), Space.S).codes

    linear, drawn = None, list(channels)
    if config.drawn_above > 0:

        def derive(group: Sequence[int]) -> dict[str, Tensor]:
            codes = people[group[0] : group[-1] + 1]
            directions, sizes = linear_relevance(pipe, codes, channels, s_std, config.deviations)
            return {"directions": directions, "sizes": sizes}

        groups = parted(range(config.samples), _PEOPLE)
        measure(accelerator, folder, "people", groups, derive)
        sums = [read_tensors(unit_path(folder, "people", group))[0] for group in groups]
        linear = F.normalize(sum_of(sums, "directions"), dim=1)
        sizes = sum_of(sums, "sizes") / config.samples
        drawn = [c for c, size in zip(channels, sizes, strict=True) if size > config.drawn_above]
        say(
            accelerator,
            f"{len(drawn)} of {len(channels)} channels have a large effect and are rendered.",
        )

    def draw(unit: Sequence[int]) -> dict[str, Tensor]:
        with accelerator.autocast():
            rows = channel_relevance(
                pipe,
                people,
                unit,
                s_mean,
                s_std,
                config.around,
                config.deviations,
                config.batch_size,
            )
        return {"relevance": rows}

    units = parted(drawn, _CHANNELS)
    measure(accelerator, folder, "channels", units, draw)
    if accelerator.is_main_process:
        rows = {
            channel: row
            for unit in units
            for channel, row in zip(
                unit, read_tensors(unit_path(folder, "channels", unit))[0]["relevance"], strict=True
            )
        }
        if linear is not None:
            rows = dict(zip(channels, linear, strict=True)) | rows
        table = DirectionTable(
            relevance=torch.stack([rows[channel] for channel in channels]),
            index=torch.tensor(channels),
            s_mean=s_mean,
            s_std=s_std,
            base_model=pipe.base_model,
            clip=pipe.clip_model,
            layout=table_layout(pipe, config.include_to_rgb),
            training=settings,
        )
        export(config, table, len(drawn), accelerator.num_processes)
    accelerator.end_training()


def parted(items: Sequence[int], size: int) -> list[Sequence[int]]:
    """Items in groups of at most `size`: one group is one checkpoint."""
    return [items[i : i + size] for i in range(0, len(items), size)]


def measure(
    accelerator: Accelerator,
    folder: Path,
    what: str,
    units: Sequence[Sequence[int]],
    work: Callable[[Sequence[int]], dict[str, Tensor]],
) -> None:
    """Do the work of all units that have no checkpoint yet; processes share the units."""
    own = units[accelerator.process_index :: accelerator.num_processes]
    left = [unit for unit in own if not unit_path(folder, what, unit).exists()]
    terminal = sys.stderr.isatty()
    with tqdm(
        total=sum(map(len, own)),
        initial=sum(map(len, own)) - sum(map(len, left)),
        desc=f"{what} of process 1 of {accelerator.num_processes}",
        disable=not accelerator.is_main_process,
        mininterval=0.1 if terminal else 20,
    ) as progress:
        for unit in left:
            began = time.perf_counter()
            tensors = work(unit)
            seconds = {"seconds": repr(time.perf_counter() - began)}
            write_tensors(unit_path(folder, what, unit), tensors, seconds)
            progress.update(len(unit))
    accelerator.wait_for_everyone()


def sum_of(parts: Sequence[dict[str, Tensor]], name: str) -> Tensor:
    """The sum of the tensors of this name, always in the same order."""
    return torch.stack([part[name] for part in parts]).sum(0)


def measured(config: Config, pipe: StyleEditPipeline) -> dict[str, Any]:
    """The settings that decide the numbers of the table; a resumed run must have the same."""
    free = ("output_dir", "pipeline", "resume_from_checkpoint")
    values = {name: value for name, value in asdict(config).items() if name not in free}
    return {
        **values,
        "generator": pipe.base_model.fingerprint,
        "clip": pipe.clip_model.fingerprint,
    }


def start(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    """Write the settings of a new run, or compare them with those of the run to continue."""
    path = folder / "settings.json"
    if not path.exists():
        write_bytes(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    if not resume:
        raise SystemExit(
            f"{folder.parent} holds a run already. Continue it with --resume_from_checkpoint "
            "latest, or use another --output_dir."
        )
    before = json.loads(path.read_text())
    if different := [name for name in settings if before.get(name) != settings[name]]:
        changes = [f"{name} {before.get(name)!r}, now {settings[name]!r}" for name in different]
        raise SystemExit(
            f"The run in {folder.parent} was started with other settings: {', '.join(changes)}. "
            "Give the same settings, or another --output_dir."
        )


def unit_path(folder: Path, what: str, unit: Sequence[int]) -> Path:
    """The checkpoint of some channels or faces; complete if it exists."""
    return folder / f"{what}-{unit[0]:06}-{unit[-1]:06}.safetensors"


def export(config: Config, table: DirectionTable, drawn: int, processes: int) -> None:
    """Write the folder `direction_table/`: the table and its metrics.json."""
    target = table.save_pretrained(config.output_dir / "direction_table", overwrite=True)
    seconds = sum(
        float(read_tensors(path)[1]["seconds"])
        for path in (config.output_dir / "checkpoint").glob("*.safetensors")
    )
    metrics = {
        "channels": len(table.index),
        "drawn_channels": drawn,
        "images": 2 * config.samples * drawn,
        "processes": processes,
        "process_seconds": round(seconds, 1),  # of all runs that it took
        "wall_seconds": round(seconds / processes, 1),
        "milliseconds_per_channel": round(1000 * seconds / len(table.index), 1),
    }
    write_metrics(target, metrics)
    print(f"The table of {len(table.index)} channels is in {target}.")


def say(accelerator: Accelerator, text: str) -> None:
    if accelerator.is_main_process:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main, Config, __doc__)
