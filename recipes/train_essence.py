"""Train an essence vector (TargetCLIP): what a picture has, given to every face.

    accelerate launch recipes/train_essence.py --target docs/targets/zuri.png \\
        --output_dir runs/essence-zuri

    # a drawing or any other picture that the generator could not draw:
    accelerate launch recipes/train_essence.py --target docs/targets/cat.png \\
        --preset out_of_domain --output_dir runs/essence-cat

The target may be any picture; its middle square is looked at. The output folder is the edit:
load_edit("runs/essence-zuri") takes it. Beside config and weights it holds the target,
metrics.json, pictures of unseen people and a card; with --push_to_hub and --hub_model_id
user/essence-zuri it is published. An interrupted run goes on with --resume_from_checkpoint latest.

Several processes (torchrun --nproc_per_node 2, on a CPU with ACCELERATE_USE_CPU=true) share the
restarts, and the result is that of one process.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.methods.essence import EssenceSearch, EssenceSettings, Start, preset
from stylegan_hub.hub import Publishing, write_card
from stylegan_hub.latents import Latents
from stylegan_hub.metrics.edit_quality import SHOWN, draw, parse_target, reader_for, write_quality
from stylegan_hub.metrics.method_report import TARGET_NAME
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.training import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(Publishing, TrainingConfig):
    """Whose essence, and how it is searched and measured."""

    target: Path
    """The target picture."""
    preset: Literal[
        "in_domain",
        "in_domain_from_zero",
        "out_of_domain",
        "paper_in_domain",
        "paper_out_of_domain",
    ] = "in_domain"
    """Settings for a target that the generator could draw, or for any other. The first is the
    second where the pipeline has no encoder. Those of the paper go with --max_train_steps 1000."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str | None = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader; None where pictures are no drawn
    portraits, which is noticed by itself for most pipelines."""
    attributes: tuple[str, ...] = ()
    """What the essence is said to be, as hair_style=afro or character=Zuri: then success is
    measured as for other edits."""

    transfer_lambda: float | None = None
    """Weight of the distance to the target; 1."""
    consistency_lambda: float | None = None
    """Weight of the differences between the changes of different sources; 0.5, paper 0.7 and, out
    of domain, 0.6."""
    directional_lambda: float | None = None
    """Weight of the distance between change and way to the target; 1, paper 0."""
    weight_decay: float | None = None
    """Weight of the squared length; from the inversion 0.004, from zero 0.0005 and, out of domain,
    0.008 in the units of latents; paper 0.007 and 0.001."""
    sources: int | None = None
    """People that it is found on; 16, paper 6. Each step sees train_batch_size of them."""
    restarts: int | None = None
    """Searches side by side, of which the best is kept."""
    start: Start | None = None
    """Where the first starts: zero, random, or inversion (needs an encoder in the pipeline)."""
    components: int | None = None
    """Principal components of people's embeddings to which the target's is reduced; 32 out of
    domain."""
    shared: bool | None = None
    """One w for all layers; so out of domain."""
    coefficients: bool | None = None
    """Learn how far each source goes."""
    views: int | None = None
    """Augmented copies of each picture that CLIP looks at; 1, out of domain 2, paper 0."""
    first_seed: int = 0
    """Of the sources."""

    samples: int = 64
    """Unseen people who are edited and measured at the end."""

    train_batch_size: int = 6
    """Sources per step, all pairs of which are compared; for each restart."""
    max_train_steps: int = 100
    learning_rate: float = 0.2
    """Peak length of a step in standard deviations of w; with a preset of the paper, Adam's."""
    lr_warmup_steps: int = 5
    checkpointing_steps: int = 50
    sample_steps: int = 50


def main(config: Config) -> None:
    attributes = parse_target(config.attributes)
    config.check_publishing()
    target = opened(config.target)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    settings = settings_of(config, pipe)
    search = EssenceSearch(pipe, target, settings)
    training = Training(config, {"search": search}, {"search": search.optimizer()})
    training.total_batch_size = (
        settings.restarts * config.train_batch_size * config.gradient_accumulation_steps
    )
    own = training.shard(torch.arange(settings.restarts))

    def step_fn(step: int) -> dict[str, Tensor]:
        parts: dict[str, Tensor] = {}

        def loss_of(micro: int) -> Tensor:
            losses = search.losses(training.generator(step, micro, shared=True), own)
            parts.update({name: loss.detach().min() for name, loss in losses.items()})
            # Gradients are averaged over processes, of which one has all of a restart's.
            return losses["loss"].sum() * training.accelerator.num_processes

        training.update("search", loss_of)
        return parts

    people = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + SHOWN))
    before = draw(pipe, people)

    def on_sample(step: int, folder: Path) -> None:
        rows = [search.target, before]
        for vector in search.vectors():
            moved = Latents(people.space, people.codes + vector)
            rows += [search.target, draw(pipe, moved)]
        sheet = image_files.grid(torch.cat(rows), columns=SHOWN + 1)
        image_files.save(sheet, folder / f"step-{step:06}.png")

    if not training.run(step_fn, on_sample) or not training.accelerator.is_main_process:
        return
    edit = search.direction(config.target.name)
    edit.save_pretrained(config.output_dir)
    image_files.save(search.target, config.output_dir / TARGET_NAME)
    reader = reader_for(pipe, config.reader, attributes)
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.samples)
    metrics = write_quality(config.output_dir, pipe, reader, edit, attributes, seeds)
    write_card(config.output_dir)
    for name, value in metrics.items():
        print(f"{name}: {value}")
    print(f"The edit is in {config.output_dir}.")
    config.publish_if_asked(config.output_dir)


def opened(path: Path) -> Image.Image:
    """The target, read as a whole."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, UnidentifiedImageError) as error:
        raise SystemExit(f"--target {path} cannot be read as a picture: {error}") from error


def settings_of(config: Config, pipe: StyleEditPipeline) -> EssenceSettings:
    """The preset, with what was given by flags."""
    chosen = preset(config.preset, pipe)
    names = {field.name for field in dataclasses.fields(EssenceSettings)}
    own = {field.name for field in dataclasses.fields(Config)} & names
    given: dict[str, Any] = {name: getattr(config, name) for name in own}
    given |= {
        "steps": config.max_train_steps,
        "lr": config.learning_rate,
        "batch_size": config.train_batch_size,
    }
    changes = {name: value for name, value in given.items() if value is not None}
    if "sources" not in changes:  # of the preset, or as many as a step sees
        changes["sources"] = max(chosen.sources, config.train_batch_size)
    return dataclasses.replace(chosen, **changes)


if __name__ == "__main__":
    main(
        tyro.cli(
            Config, description=__doc__, config=(tyro.conf.OmitArgPrefixes,), use_underscores=True
        )
    )
