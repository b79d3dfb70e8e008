r"""Measure the table of global directions of a generator and its CLIP (StyleCLIP, section 6).

    accelerate launch recipes/build_direction_table.py --output_dir runs/directions

    # two processes, also on a CPU, share the channels:
    torchrun --standalone --nproc_per_node 2 recipes/build_direction_table.py \
        --output_dir runs/directions

For every convolution's channel of s, 100 people are drawn with it 5 standard deviations up and
down. An interrupted run goes on with --resume_from_checkpoint latest, also with another number of
processes. At the end the folder `direction_table/` in the output folder is what
`stylegan_hub.load_directions` takes; its metrics.json says how long it took.

The published variants: --around mean is what the released code does; with it, its TensorFlow
release is --truncation_cutoff None, its PyTorch release --truncation_cutoff 8.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from stylegan_hub.artifacts import read_tensors, write_bytes, write_tensors
from stylegan_hub.edits.direction_statistics import (
    Around,
    channel_relevance,
    editable_channels,
    style_statistics,
)
from stylegan_hub.edits.global_direction import DirectionTable, clip_model, table_layout
from stylegan_hub.latents import Space
from stylegan_hub.pipeline import StyleEditPipeline

# Channels between two checkpoints: about half a minute on one CPU core at 128 px.
_UNIT = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """How the table is measured."""

    output_dir: Path
    """Folder of the run: checkpoints and the table."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    samples: int = 100
    """People whose pictures tell what a channel does; the first seeds."""
    statistics_samples: int = 100_000
    """People over whom mean and deviation of s are taken; the first seeds."""
    truncation_psi: float = 0.7
    """Of all these people."""
    truncation_cutoff: int | None = None
    """So many first layers are truncated; None = all."""
    around: Around = "sample"
    """A channel moves around its value in each person (the paper) or around its mean (the code)."""
    deviations: float = 5.0
    """How far it moves up and down, in standard deviations."""
    include_to_rgb: bool = False
    """Also measure the channels of the layers that make colors."""
    batch_size: int = 10
    """People who are drawn together, two pictures each."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Arithmetic of pictures and CLIP; bf16 halves the time on a recent CPU, fp16 needs a GPU."""
    resume_from_checkpoint: Literal["latest"] | None = None
    """"latest" goes on with the run in output_dir, and starts one where there is none."""

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if not self.deviations > 0:
            raise ValueError(f"deviations is {self.deviations}; it must be above 0.")


def main(config: Config) -> None:
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(), mixed_precision=config.mixed_precision
    )
    pipe = StyleEditPipeline.from_pretrained(config.pipeline).to(accelerator.device)
    channels = editable_channels(pipe, config.include_to_rgb)
    folder = config.output_dir / "checkpoint"
    settings = measured(config, pipe)
    if accelerator.is_main_process:
        start(folder, settings, config.resume_from_checkpoint == "latest")
    accelerator.wait_for_everyone()

    say(accelerator, f"Statistics of s over {config.statistics_samples:,} people ...")
    truncation = (config.truncation_psi, config.truncation_cutoff)
    s_mean, s_std = style_statistics(pipe, config.statistics_samples, 0, *truncation)
    people = pipe.lower(pipe.sample(range(config.samples), *truncation), Space.S).codes

    units = [channels[i : i + _UNIT] for i in range(0, len(channels), _UNIT)]
    own = units[accelerator.process_index :: accelerator.num_processes]
    left = [unit for unit in own if not unit_path(folder, unit).exists()]
    done = len(own) - len(left)
    terminal = sys.stderr.isatty()
    with tqdm(
        total=len(own) * _UNIT,
        initial=done * _UNIT,
        desc=f"channels of process 1 of {accelerator.num_processes}",
        disable=not accelerator.is_main_process,
        mininterval=0.1 if terminal else 20,
    ) as progress:
        for unit in left:
            began = time.perf_counter()
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
            seconds = {"seconds": repr(time.perf_counter() - began)}
            write_tensors(unit_path(folder, unit), {"relevance": rows}, seconds)
            progress.update(_UNIT)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        export(config, pipe, units, s_mean, s_std, settings, accelerator.num_processes)
    accelerator.end_training()


def measured(config: Config, pipe: StyleEditPipeline) -> dict[str, Any]:
    """What decides the numbers of the table; a resumed run must have the same."""
    free = ("output_dir", "pipeline", "resume_from_checkpoint")
    values = {name: value for name, value in asdict(config).items() if name not in free}
    return {
        **values,
        "generator": pipe.base_model.fingerprint,
        "clip": clip_model(pipe).fingerprint,
    }


def start(folder: Path, settings: dict[str, Any], resume: bool) -> None:
    """Write the settings of a new run, or compare them with those of the one to go on with."""
    path = folder / "settings.json"
    if not path.exists():
        write_bytes(path, (json.dumps(settings, indent=2) + "\n").encode())
        return
    if not resume:
        raise SystemExit(
            f"{folder.parent} holds a run already. Go on with --resume_from_checkpoint latest, or "
            "use another --output_dir."
        )
    before = json.loads(path.read_text())
    if different := [name for name in settings if before.get(name) != settings[name]]:
        changes = [f"{name} {before.get(name)!r}, now {settings[name]!r}" for name in different]
        raise SystemExit(
            f"The run in {folder.parent} was started with other settings: {', '.join(changes)}. "
            "Give the same, or use another --output_dir."
        )


def unit_path(folder: Path, unit: Sequence[int]) -> Path:
    """The checkpoint of some channels; whole when it is there."""
    return folder / f"channels-{unit[0]:06}-{unit[-1]:06}.safetensors"


def export(
    config: Config,
    pipe: StyleEditPipeline,
    units: Sequence[Sequence[int]],
    s_mean: Tensor,
    s_std: Tensor,
    settings: dict[str, Any],
    processes: int,
) -> None:
    """Write the folder `direction_table/`: the table and its metrics.json."""
    folder = config.output_dir / "checkpoint"
    parts = [read_tensors(unit_path(folder, unit)) for unit in units]
    channels = [channel for unit in units for channel in unit]
    table = DirectionTable(
        relevance=torch.cat([tensors["relevance"] for tensors, _ in parts]),
        index=torch.tensor(channels),
        s_mean=s_mean,
        s_std=s_std,
        base_model=pipe.base_model,
        clip=clip_model(pipe),
        layout=table_layout(pipe, config.include_to_rgb),
        training=settings,
    )
    target = table.save_pretrained(config.output_dir / "direction_table")
    seconds = sum(float(metadata["seconds"]) for _, metadata in parts)
    images = 2 * config.samples * len(channels)
    metrics = {
        "channels": len(channels),
        "images": images,
        "processes": processes,
        "process_seconds": round(seconds, 1),  # of resumed runs together
        "wall_seconds": round(seconds / processes, 1),
        "milliseconds_per_image": round(1000 * seconds / images, 2),
    }
    write_bytes(target / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    print(f"The table is in {target}: {len(channels)} channels, {images:,} pictures.")


def say(accelerator: Accelerator, text: str) -> None:
    if accelerator.is_main_process:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, description=__doc__, config=(tyro.conf.OmitArgPrefixes,), use_underscores=True
        )
    )
