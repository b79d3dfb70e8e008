"""Train a local edit (LELSD, eCLIPsed): one part of the face changes as the words say.

    accelerate launch recipes/train_local_direction.py --prompt "a face with curly hair" \\
        --target hair_style=curly --output_dir runs/curly-hair

    # another region than the words speak of; only some layers; for one face alone:
    accelerate launch recipes/train_local_direction.py --prompt "a face with an afro" \\
        --region "hair, hat" --layers 0 1 2 3 4 5 --seeds 7 --output_dir runs/afro

    # no words: three different ways to change the mouth (LELSD)
    accelerate launch recipes/train_local_direction.py --region mouth --directions 3 \\
        --output_dir runs/mouth

The region that is found is printed and stored. The output folder is the edit, with metrics.json,
pictures of unseen people and a card; of several directions, each has a folder in it, named by a
number. With --push_to_hub and --hub_model_id user/curly-hair it is published. An interrupted run
goes on with --resume_from_checkpoint latest.

Several processes: torchrun --nproc_per_node 2 recipes/train_local_direction.py ... (on a CPU with
ACCELERATE_USE_CPU=true) with half the --train_batch_size gives the same result.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.edits.direction import Direction
from stylegan_hub.methods.local import (
    PAPER,
    PAPER_WITHOUT_WORDS,
    WITHOUT_WORDS,
    Distance,
    LocalSearch,
    LocalSettings,
    Masks,
)
from stylegan_hub.regions.find import named_region
from stylegan_hub.hub import Publishing, write_card
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.edit_quality import SHOWN, draw, parse_target, reader_for, write_quality
from stylegan_hub.models.parser import Parser
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.training import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(Publishing, TrainingConfig):
    """What shall change, where, and how that is searched and measured."""

    prompt: str | None = None
    """What the pictures shall show: "a face with curly hair"; without, only the region counts."""
    region: str | None = None
    """Where: a part of the face, or several joined by commas; found from the prompt when None."""
    neutral: str | None = None
    """What the pictures show already; the pipeline's own words when not given."""
    target: tuple[str, ...] = ()
    """Attributes that the reader shall look for, as hair_style=curly."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    parser: Path | None = None
    """Folder of a parser, in place of the pipeline's own."""
    reader: str | None = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader; None where pictures are no drawn
    portraits, which is noticed by itself for most pipelines."""

    space: Space = Space.W_PLUS
    """w (the same for all layers), w_plus, or s."""
    layers: tuple[int, ...] | None = None
    """Layers that may move, as indices into ws; all when None."""
    seeds: tuple[int, ...] = ()
    """Train on these people alone; on random ones when empty."""
    directions: int = 1
    """How many different directions are found at once."""
    background: bool = False
    """Change everything but the region."""
    paper: bool = False
    """Weights, strengths and optimizer of the papers, which go with --max_train_steps 200
    --train_batch_size 2 --learning_rate 0.001."""
    localization_lambda: float | None = None
    """Weight of the localization score; 0.05, and 1 without words."""
    clip_lambda: float | None = None
    """Weight of the CLIP loss; 0.5, paper 1."""
    directional_lambda: float | None = None
    """Weight of the directional CLIP loss; 1, paper 0."""
    correlation_lambda: float | None = None
    """Weight of the correlation between directions."""
    l2_lambda: float | None = None
    """Weight of the squared length in the units of latents; 0.0005, paper 0."""
    layer_weights: tuple[float, ...] | None = None
    """Weight of each convolution in the localization score, in order."""
    masks: Masks = "average"
    """How the masks before and after the edit are combined."""
    distance: Distance = "l2"
    """How feature maps are compared."""
    strengths: tuple[float, float] | None = None
    """Range that strengths are drawn from; negative ones are the opposite."""
    length: float | None = None
    """Keep the length of directions at this many units of the latents; 6 without words."""
    views: int | None = None
    """Augmented copies of each picture that CLIP looks at."""
    truncation_psi: float = 0.7
    """Of the people that are trained on."""

    strength: float = 1.0
    """Strength at which the edit is measured and which its slider starts with."""
    samples: int = 64
    """Unseen people who are edited and measured at the end."""

    train_batch_size: int = 4
    max_train_steps: int = 60
    learning_rate: float = 0.2
    """Peak length of a step in standard deviations of the latents; with --paper, Adam's rate."""
    lr_warmup_steps: int = 3
    checkpointing_steps: int = 30
    sample_steps: int = 30


def main(config: Config) -> None:
    target = parse_target(config.target)
    config.check_publishing()
    if config.push_to_hub and config.directions > 1:
        raise SystemExit("--push_to_hub takes one direction: leave out --directions.")
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    if config.parser is not None:
        own = Parser.from_pretrained(config.parser).eval().requires_grad_(False)
        pipe.register_modules(parser=own)
    region = None if config.region is None else named_region(pipe, config.region)
    settings = settings_of(config)
    search = LocalSearch(pipe, config.prompt, region, config.space, config.neutral, settings)
    print(f"Region: {search.region}")
    training = Training(config, {"search": search}, {"search": search.optimizer()})
    given = people_of(config, pipe)
    fixed = None if given is None else search.before(given)

    def step_fn(step: int) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}

        def loss_of(micro: int) -> Tensor:
            random = training.generator(step, micro, shared=True)
            before = fixed
            if before is None:
                count = config.train_batch_size * training.accelerator.num_processes
                number = step * config.gradient_accumulation_steps + micro
                first = settings.first_seed + number * count
                mine = training.shard(torch.arange(first, first + count)).tolist()
                before = search.before(pipe.sample(mine, settings.truncation_psi))
            losses = search.losses(before, random)
            parts.update({n: part.detach() for n, part in losses.items() if part.ndim == 0})
            return losses["loss"]

        loss = training.update("search", loss_of)
        return {**parts, "loss": loss}

    shown = pipe.lower(
        given or pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + SHOWN)), code_space(config)
    )
    before_edit = draw(pipe, shown)

    def on_sample(step: int, folder: Path) -> None:
        rows = [before_edit]
        for vector in search.vectors().detach():
            rows.append(draw(pipe, Latents(shown.space, shown.codes + vector)))
        sheet = image_files.grid(torch.cat(rows), columns=len(shown))
        image_files.save(sheet, folder / f"step-{step:06}.png")

    if not training.run(step_fn, on_sample) or not training.accelerator.is_main_process:
        return
    reader = reader_for(pipe, config.reader, target)
    found = search.directions(given)
    for index, edit in enumerate(found):
        folder = config.output_dir if len(found) == 1 else config.output_dir / str(index)
        write(edit, folder, config, pipe, reader, target)
    config.publish_if_asked(config.output_dir)


def write(
    edit: Direction,
    folder: Path,
    config: Config,
    pipe: StyleEditPipeline,
    reader: AttributeReader | None,
    target: dict[str, str],
) -> None:
    """The edit's folder: weights, numbers, pictures and card."""
    far = config.strength
    edit.strength = dataclasses.replace(
        edit.strength, default=far, min=min(edit.strength.min, far), max=max(edit.strength.max, far)
    )
    edit.save_pretrained(folder)
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.samples)
    metrics = write_quality(folder, pipe, reader, edit, target, seeds)
    write_card(folder)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    print(f"The edit is in {folder}.")


def settings_of(config: Config) -> LocalSettings:
    """The settings for a search with or without words, with what was given by flags."""
    if config.prompt is None:
        base = PAPER_WITHOUT_WORDS if config.paper else WITHOUT_WORDS
    else:
        base = PAPER if config.paper else LocalSettings()
    names = {field.name for field in dataclasses.fields(LocalSettings)}
    own = {field.name for field in dataclasses.fields(Config)} & names
    given: dict[str, Any] = {name: getattr(config, name) for name in own}
    given |= {
        "steps": config.max_train_steps,
        "lr": config.learning_rate,
        "batch_size": config.train_batch_size,
    }
    return dataclasses.replace(base, **{n: v for n, v in given.items() if v is not None})


def people_of(config: Config, pipe: StyleEditPipeline) -> Latents | None:
    """The people with the given seeds, None for random ones."""
    if not config.seeds:
        return None
    return pipe.sample(config.seeds, config.truncation_psi)


def code_space(config: Config) -> Space:
    """The space of the edit that is found."""
    return max(config.space, Space.W_PLUS)


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, description=__doc__, config=(tyro.conf.OmitArgPrefixes,), use_underscores=True
        )
    )
