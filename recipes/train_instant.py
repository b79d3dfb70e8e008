"""Make the instant model of a pipeline, which turns any words into an edit without a search.

    python recipes/train_instant.py --pipeline portraits --output_dir runs/instant
    python recipes/train_instant.py --pipeline my/ffhq --output_dir runs/instant --add

It renders samples and embeds them with the pipeline's CLIP: 8,192 take a few minutes on a CPU core
at 128 px. No labels are used, so it works for any generator. Rendered blocks are kept in the output
folder, so an interrupted run continues where it stopped, and several processes started with
`accelerate launch` share the work. At the end, `instant/` in the output folder holds the model and
its card; with --add it is also written into the pipeline's folder, whose `pipe.find` then uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from accelerate import PartialState
from command_line import run
from network import add_to_pipeline, check_addable, check_same_run
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from stylegan_hub.artifacts import write_bytes
from stylegan_hub.methods.instant_training import BLOCK, Block, instant_model, sample_block
from stylegan_hub.models.instant import InstantModel
from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which pipeline to use, and how many samples."""

    output_dir: Path
    """Folder of the run."""
    pipeline: str = "portraits"
    """Name, folder or Hub id of the pipeline."""
    samples: int = 8192
    """Number of samples, rounded up to whole blocks of 256."""
    seed: int = 0
    """Seed of everything random."""
    label: int | None = None
    """For a generator with labels, the class that is sampled."""
    add: bool = False
    """Also write the model into the pipeline's folder."""

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}; expected 1 or more.")


def main(config: Config) -> None:
    state = PartialState()
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=state.device)
    if config.add:
        check_addable(config.pipeline)
    blocks = config.output_dir / "blocks"
    blocks.mkdir(parents=True, exist_ok=True)
    mine = {
        "generator": pipe.base_model.fingerprint,
        "clip": pipe.clip_model.fingerprint,
        "seed": config.seed,
        "label": config.label,
    }
    check_same_run(blocks / "run.json", mine)
    count = -(-config.samples // BLOCK)
    paths = [blocks / f"{index:05d}.safetensors" for index in range(count)]
    missing = [index for index, path in enumerate(paths) if not path.is_file()]
    share = missing[state.process_index :: state.num_processes]
    for index in tqdm(share, unit="block", disable=None if state.is_local_main_process else True):
        w, seen = sample_block(pipe, index, config.seed, config.label)
        partial = paths[index].with_suffix(".partial")
        save_file({"w": w, "seen": seen}, partial)
        partial.replace(paths[index])
    state.wait_for_everyone()
    if state.is_main_process:
        model = instant_model(pipe, (read_block(path) for path in paths))
        write(model, config.output_dir / "instant", config)
        if config.add:
            add_to_pipeline(pipe, Path(config.pipeline), "instant", model)


def read_block(path: Path) -> Block:
    """A block that was rendered before."""
    tensors = load_file(path)
    return tensors["w"], tensors["seen"]


def write(model: InstantModel, folder: Path, config: Config) -> None:
    """The model's folder, with a card."""
    model.half().save_pretrained(folder, overwrite=True)
    model.float()
    write_bytes(folder / "README.md", card(model, config).encode())
    print(f"The instant model is in {folder}.")


def card(model: InstantModel, config: Config) -> str:
    """The card: what it is and how it was made."""
    sizes = model.sizes
    return f"""---
library_name: stylegan-hub
license: apache-2.0
tags: [instant-edits]
---

# Instant model for the pipeline `{sizes.base_model["id"]}`

The w of {sizes.samples:,} samples of the generator {sizes.base_model["fingerprint"]}, and what the
CLIP {sizes.clip["fingerprint"]} sees in them. From it `pipe.find("a face with a hat")` makes an
edit without a search: see `stylegan_hub/methods/instant.py`.

```python
from stylegan_hub.models.instant import InstantModel

pipe.register_modules(instant=InstantModel.from_pretrained("path/to/this/folder"))
pipe.find("a face with a hat")
```

Made by `recipes/train_instant.py` with seed {config.seed}, truncation 0.7 to 1. No labels were
used.

## Limits

It finds what samples show and CLIP knows. It cannot add what no sample shows.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
