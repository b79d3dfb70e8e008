"""Train a latent mapper (StyleCLIP, section 5): one edit, said in words, for every face.

    accelerate launch recipes/train_mapper.py --description "a face with an afro" \\
        --target hair_style=afro --output_dir runs/afro-hair

The output folder is the edit: load_edit("runs/afro-hair") takes it. Beside config and weights it
holds metrics.json and pictures of unseen people, and a card; with --push_to_hub and
--hub_model_id user/afro-hair it is published. An interrupted run goes on with
--resume_from_checkpoint latest, on a CPU to the same weights, bit for bit.

Several processes: torchrun --nproc_per_node 2 recipes/train_mapper.py ... (on a CPU with
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
from stylegan_hub.edits.base import NO_RECOGNIZER, Origin, Strength
from stylegan_hub.methods.mapper import (
    LEVELS,
    MapperType,
    Objective,
    Published,
    Settings,
    mapper_groups,
    start_at_identity,
    training_latents,
)
from stylegan_hub.edits.latent_mapper import LatentMapper, Normalization
from stylegan_hub.hub import Publishing, write_card
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.edit_quality import SHOWN, draw, parse_target, reader_for, write_quality
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.training import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(Publishing, TrainingConfig):
    """What the mapper is for, how it is built, trained and measured."""

    description: str
    """What the pictures shall show: "a face with an afro"."""
    neutral: str | None = None
    """What they show already; the pipeline's own words when not given."""
    target: tuple[str, ...] = ()
    """Attributes that the reader shall look for, as hair_style=afro or character=Zuri; without one
    only what needs no reader is measured."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str | None = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader, which is asked about a target; None
    where pictures are no drawn portraits."""

    space: Space = Space.W_PLUS
    """w_plus or s; in s every convolution has a mapper of its own."""
    mapper_type: MapperType = "levels"
    """"single" is one network for all layers (w_plus only)."""
    no_coarse_mapper: bool = False
    """Leave the layers of 4 and 8 px as they are (pose, shape of the head)."""
    no_medium_mapper: bool = False
    """Leave the layers of 16 and 32 px as they are (hair style, features of the face)."""
    no_fine_mapper: bool = False
    """Leave the layers above 32 px as they are (colors)."""
    normalization: Normalization | None = None
    """Axis that inputs are normalized over; features, or layers with --published in w_plus."""

    published: bool = False
    """Weights, start and normalization as in the official code, whose training also has
    --train_batch_size 2 --max_train_steps 50000 --learning_rate 0.5 --lr_scheduler constant."""
    clip_lambda: float | None = None
    """Weight of the CLIP loss; 0.5, published 1."""
    directional_lambda: float | None = None
    """Weight of the directional CLIP loss; 1, published 0."""
    id_lambda: float | None = None
    """Weight of the identity loss; 0.1, and by itself 0 when the pipeline has no recognizer."""
    latent_l2_lambda: float | None = None
    """Weight of the mean squared step; 0.1 in the units of the latents, published 0.8 in w."""
    views: int | None = None
    """Augmented copies of each picture that CLIP looks at; 1, published 0 (the picture itself)."""

    resolution: int | None = None
    """Draw only up to this resolution while training, which saves time; None = whole pictures."""

    latents: Path | None = None
    """Train on these latents (written by Latents.save) instead of random people."""
    population: int = 2048
    """How many random people are trained on."""
    strength: tuple[float, float, float] = (1.0, -1.0, 2.0)
    """Default, least and greatest strength of the slider."""
    samples: int = 128
    """Unseen people who are edited and measured at the end."""

    train_batch_size: int = 8
    max_train_steps: int = 200
    learning_rate: float = 3.0
    """Peak learning rate; the layers have a learning rate multiplier of 0.01."""
    max_grad_norm: float = 1e-3
    """Longer gradients are shortened to this: the first ones, at a step of almost no length, are
    thousands of times as long as others, and the optimizer would remember them for too long."""
    lr_warmup_steps: int = 20
    checkpointing_steps: int = 100
    sample_steps: int = 100


def main(config: Config) -> None:
    target = parse_target(config.target)
    config.check_publishing()
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    settings = settings_of(config, pipe)
    mapper = new_mapper(config, pipe, settings)
    training = Training(
        config,
        {"mapper": mapper.network},
        {
            "mapper": torch.optim.Adam(
                mapper.network.parameters(), lr=config.learning_rate, betas=(0.9, 0.99)
            )
        },
    )
    pipe.to(training.accelerator.device)
    objective = Objective(pipe, config.description, config.space, config.neutral, settings)
    people = people_of(config, pipe)

    def step_fn(step: int) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}

        def loss_of(micro: int) -> Tensor:
            chosen = training.indices(step, len(people), micro)
            random = training.generator(step, micro, shared=True)
            batch = Latents(people.space, people.codes[chosen.to(people.codes.device)])
            losses = objective(mapper, batch, random)
            parts.update({name: loss.detach() for name, loss in losses.items()})
            return losses["loss"]

        loss = training.update("mapper", loss_of, max_grad_norm=config.max_grad_norm)
        return {**parts, "loss": loss}

    shown = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + SHOWN))
    before = draw(pipe, shown)

    def on_sample(step: int, folder: Path) -> None:
        with torch.no_grad():
            start = pipe.lower(shown, config.space)
            after = draw(pipe, mapper.apply(start, 1.0))
        sheet = image_files.grid(torch.cat([before, after]), columns=SHOWN)
        image_files.save(sheet, folder / f"step-{step:06}.png")

    if not training.run(step_fn, on_sample) or not training.accelerator.is_main_process:
        return
    mapper.network.requires_grad_(False).half().float()  # so that it can be stored in half the size
    mapper.save_pretrained(config.output_dir)
    reader = reader_for(pipe, config.reader, target) if target else None
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.samples)
    metrics = write_quality(config.output_dir, pipe, reader, mapper, target, seeds)
    write_card(config.output_dir)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    print(f"The edit is in {config.output_dir}.")
    config.publish_if_asked(config.output_dir)


def settings_of(config: Config, pipe: StyleEditPipeline) -> Settings:
    """The weights of the losses: the chosen set, with what was given by flags."""
    settings = Published if config.published else Settings()
    names = [field.name for field in dataclasses.fields(Settings)]
    given = {name: getattr(config, name, None) for name in names}
    if config.id_lambda is None and getattr(pipe, "recognizer", None) is None:
        print("The pipeline has no recognizer: training without the identity loss (id_lambda 0).")
        given["id_lambda"] = 0.0
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(settings, **changes).resolved(pipe)


def new_mapper(config: Config, pipe: StyleEditPipeline, settings: Settings) -> LatentMapper:
    """An untrained mapper, the same for the same seed."""
    off = (config.no_coarse_mapper, config.no_medium_mapper, config.no_fine_mapper)
    levels = [level for level, is_off in zip(LEVELS, off, strict=True) if not is_off]
    by_layers = config.published and config.space is Space.W_PLUS
    neutral = pipe.neutral if config.neutral is None else config.neutral
    torch.manual_seed(config.seed)
    mapper = LatentMapper(
        mapper_groups(pipe.generator, config.space, config.mapper_type, levels),
        config.space,
        pipe.base_model,
        config.normalization or ("layers" if by_layers else "features"),
        strength=Strength(*config.strength),
        origin=Origin(config.description, neutral, training_of(config, settings)),
    )
    if not config.published:
        start_at_identity(mapper)
    mapper.network.requires_grad_(True)
    return mapper


def training_of(config: Config, settings: Settings) -> dict[str, Any]:
    """What config.json and the card say about the training."""
    names = (
        "seed", "mapper_type", "train_batch_size", "gradient_accumulation_steps",
        "max_train_steps", "learning_rate", "lr_scheduler", "lr_warmup_steps", "mixed_precision",
    )  # fmt: skip
    training = {
        "method": "latent_mapper",
        "latents": config.latents.name if config.latents else f"{config.population} random people",
        **{name: getattr(config, name) for name in names},
        **dataclasses.asdict(settings),
    }
    if config.id_lambda is None and not settings.id_lambda:
        training["note"] = NO_RECOGNIZER
    return training


def people_of(config: Config, pipe: StyleEditPipeline) -> Latents:
    """The latents that are trained on, in the mapper's space."""
    if config.latents is None:
        return training_latents(pipe, config.population, config.space)
    with torch.no_grad():
        return pipe.lower(Latents.load(config.latents), config.space)


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, description=__doc__, config=(tyro.conf.OmitArgPrefixes,), use_underscores=True
        )
    )
