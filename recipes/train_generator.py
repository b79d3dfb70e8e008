"""Train the StyleGAN2 generator of a pipeline.

The adversarial route trains as published (non-saturating loss, lazy R1, style mixing, path length
regularization, EMA) and needs a GPU:

    accelerate launch recipes/train_generator.py adversarial --cache runs/portraits \\
        --output_dir runs/gan --train_batch_size 32 --max_train_steps 100000

It also trains on a folder of pictures of any other domain, here of 256 x 192 px (see
docs/other-domains.md):

    accelerate launch recipes/train_generator.py adversarial --images photos-of-houses \\
        --img_resolution 256 --img_crop 192 256 --output_dir runs/houses

The paired route is feasible on two CPU cores, because the renderer knows the factors of each
picture (see stylegan_hub/portraits/paired.py). It has four stages; each starts from the one before:

    python recipes/render_portraits.py --blends --output_dir runs/blends
    accelerate launch recipes/train_generator.py paired --stage synthesis \\
        --cache runs/blends --output_dir runs/synthesis
    accelerate launch recipes/train_generator.py paired --stage details --schedule 256:4:1500 \\
        --max_train_steps 1500 --init_from runs/synthesis --output_dir runs/details
    accelerate launch recipes/train_generator.py paired --stage mapping \\
        --init_from runs/details --output_dir runs/mapping
    accelerate launch recipes/train_generator.py paired --stage together \\
        --cache runs/blends --init_from runs/mapping --output_dir runs/generator

`--mixed_precision bf16` doubles the speed on processors that support it. An interrupted run is
continued with --resume_from_checkpoint latest. At the end, the folder `generator/` in the output
folder holds the averaged generator, ready for a pipeline.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from command_line import run
from PIL import Image
from torch import Tensor, nn

from stylegan_hub import images as image_files
from stylegan_hub.losses import (
    discriminator_logistic_loss,
    generator_logistic_loss,
    path_lengths,
    r1_penalty,
)
from stylegan_hub.models.discriminator import StyleGAN2Discriminator
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.optimizers import Muon
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.portraits.factors import factor_matrix
from stylegan_hub.portraits.paired import (
    FactorEncoder,
    LayerRoles,
    change_loss,
    face_weight,
    move_bias_down,
    pairs,
    portraits_of_z,
    reconstruction_loss,
    z_of_portraits,
)
from stylegan_hub.portraits.renderer import render, render_factors
from stylegan_hub.training import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Paired(TrainingConfig):
    """The paired route: reconstruction from known factors, feasible on a CPU."""

    stage: Literal["synthesis", "details", "mapping", "together"] = "synthesis"
    """synthesis: factors -> w -> picture; details: the same, for pairs that differ in one
    attribute; mapping: z -> w; together: z -> picture."""
    cache: Path | None = None
    """Folder made by recipes/render_portraits.py, for the stages synthesis and together; the stage
    details renders its own portraits."""
    init_from: Path | None = None
    """Output folder of an earlier run to start from."""
    schedule: tuple[str, ...] = ("32:20:1000", "64:10:1500", "128:8:8000", "256:4:15000")
    """Resolution, batch size and number of steps of each phase, with colons between them; the last
    phase continues until the end."""
    change_lambda: float = 0.5
    """Weight of the share of a change that the network misses, in the stage details."""
    img_resolution: int = 256
    """Resolution of the generator."""
    channels: tuple[int, ...] = (192, 192, 160, 96, 64, 40, 24)
    """Number of feature channels at 4, 8, 16, ... px."""
    z_dim: int = 128
    """Size of z, at least 65, so that it can hold the Gaussian numbers of a portrait."""
    w_dim: int = 256
    """Size of w."""
    learning_rate: float = 2e-2
    """Peak learning rate of the synthesis network with Muon; the parameters that Adam updates get a
    fifth of it."""
    mapping_learning_rate: float = 12.0
    """Peak learning rate of the mapping network. Its effect is a hundred times smaller, because
    lr_mul is 0.01."""
    mapping_batch_size: int = 1024
    """Number of random z per step of the stage mapping."""
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    max_train_steps: int = 25_500
    checkpointing_steps: int = 1000
    sample_steps: int = 1000


@dataclass(frozen=True, kw_only=True)
class Adversarial(TrainingConfig):
    """The adversarial route, as published (StyleGAN2 config F, lazy regularization), for a GPU."""

    cache: Path | None = None
    """Folder made by recipes/render_portraits.py."""
    images: Path | None = None
    """Folder of pictures of any domain, of which the middle is used. Alternative: --cache."""
    img_crop: tuple[int, int] | None = None
    """Height and width of pictures that are not square, such as 96 128. The network learns them
    with black bars, and renders them without."""
    init_from: Path | None = None
    """Folder that holds `generator/` to start from, such as the output folder of a paired run."""
    img_resolution: int = 128
    """Resolution of the generator."""
    channel_base: int = 8192
    """The number of channels at resolution r is channel_base / r, but at most channel_max."""
    channel_max: int = 256
    z_dim: int = 128
    w_dim: int = 256
    num_mapping_layers: int = 8
    r1_gamma: float = 1.0
    """Weight of the R1 penalty on real pictures. A good value is about
    0.0002 * resolution^2 * 32 / batch size."""
    r1_interval: int = 16
    """Number of steps between two R1 penalties."""
    path_length_weight: float = 2.0
    """Weight of the path length regularization. 0: none."""
    path_length_interval: int = 4
    """Number of steps between two path length penalties."""
    style_mixing: float = 0.9
    """Probability of mixing the ws of two z at a random layer."""
    reconstruction_lambda: float = 0.0
    """Weight of the reconstruction of the portraits that z stands for. It keeps a generator paired
    that was trained by the paired route before."""
    learning_rate: float = 2e-3
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    train_batch_size: int = 32
    max_train_steps: int = 100_000
    checkpointing_steps: int = 1000
    sample_steps: int = 1000


def main(config: Paired | Adversarial) -> None:
    if isinstance(config, Adversarial):
        train_adversarial(config)
    else:
        train_paired(config)


def train_paired(config: Paired) -> None:
    """One stage of the paired route."""
    generator, encoder = build(config)
    if config.stage == "mapping":
        train_mapping(config, generator, encoder)
    else:
        train_synthesis(config, generator, encoder)


def build(config: Paired) -> tuple[StyleGAN2Generator, FactorEncoder]:
    """New networks, or those of an earlier run."""
    if config.init_from is not None:
        generator = StyleGAN2Generator.from_pretrained(config.init_from / "generator")
        return generator, FactorEncoder(generator.config.w_dim)
    if config.stage != "synthesis":
        raise SystemExit(
            f"The stage {config.stage!r} starts from an earlier stage. Give its output folder as "
            "--init_from."
        )
    torch.manual_seed(config.seed)
    generator = StyleGAN2Generator(
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        img_resolution=config.img_resolution,
        channels=list(config.channels),
    )
    return generator, FactorEncoder(config.w_dim)


def train_synthesis(config: Paired, generator: StyleGAN2Generator, encoder: FactorEncoder) -> None:
    """The stages that learn to reproduce known portraits, from their factors or from z."""
    if config.stage == "details":
        cache = None
    elif config.cache is None:
        raise SystemExit(
            f"The stage {config.stage!r} learns from rendered portraits. Give --cache (see --help)."
        )
    else:
        cache = RenderCache(config.cache)
    from_z = config.stage == "together"
    roles = LayerRoles(generator, encoder)
    roles.enforce()
    optimizer = synthesis_optimizer(generator.synthesis, config)
    models: dict[str, nn.Module] = {"generator": generator}
    if from_z:
        # Adam updates the mapping network here; its learning rate means smaller steps than Muon's.
        optimizer.add_param_group(
            {
                "params": list(generator.mapping.parameters()),
                "lr": config.mapping_learning_rate / 600,
                "orthogonal": False,
                "weight_decay": 0.0,
            }
        )
    else:
        generator.mapping.requires_grad_(False)
    training = Training(
        config,
        models,
        {"generator": optimizer},
        ema={name: copy.deepcopy(model) for name, model in models.items()},
        ema_half_life=3000,
    )
    device = training.accelerator.device
    encoder.to(device)
    stages = [tuple(int(v) for v in stage.split(":")) for stage in config.schedule]

    def stage_at(step: int) -> tuple[int, int]:
        for resolution, batch, steps in stages:
            if step < steps:
                return resolution, batch
            step -= steps
        return stages[-1][0], stages[-1][1]

    def ws_of(cache: RenderCache, indices: Tensor, random: torch.Generator) -> Tensor:
        w = encoder(cache.factors(indices).to(device))
        if from_z:  # blends and named characters have no z
            rows = torch.arange(len(indices))
            if cache.blends:
                rows = rows[indices % 2 == 0]
            portraits = cache.portraits(indices[rows])
            known = portraits.character < 0
            z = z_of_portraits(portraits[known], config.z_dim, random)
            w = w.index_copy(0, rows[known].to(device), generator.mapping.w(z.to(device)))
        return w[:, None].expand(-1, generator.num_ws, -1)

    def step_fn(step: int) -> dict[str, Tensor]:
        resolution, batch = stage_at(step)
        training.total_batch_size = batch
        random = training.generator(step, shared=True)
        weight = face_weight(resolution).to(device)
        if cache is None:
            seeds = torch.randint(UNSEEN_SEED, (batch // 2,), generator=random)
            before, after = pairs(training.shard(seeds).tolist())
            factors = torch.cat([factor_matrix(before), factor_matrix(after)]).to(device)
            targets = render_factors(factors, resolution)
            ws = encoder(factors)[:, None].expand(-1, generator.num_ws, -1)
        else:
            indices = training.shard(torch.randint(len(cache), (batch,), generator=random))
            targets = pictures(cache.images(indices).to(device), resolution)

        def loss_of(_: int) -> Tensor:
            styles = ws if cache is None else ws_of(cache, indices, random)
            images = generator.synthesis(styles, noise_mode="none", resolution=resolution)
            loss = reconstruction_loss(images, targets, weight)
            if cache is None:
                missed = change_loss(*images.chunk(2), *targets.chunk(2))
                shares["missed"] = missed.detach()
                loss = loss + config.change_lambda * missed
            return loss

        if from_z:
            z = torch.randn(256, config.z_dim, generator=random)
            generator.update_w_avg(z.to(device))
        shares: dict[str, Tensor] = {}
        loss = training.update("generator", loss_of)
        roles.enforce()
        return {"loss": loss, **shares}

    unseen = sample(range(UNSEEN_SEED, UNSEEN_SEED + 64))
    unseen = unseen[torch.nonzero(unseen.character < 0)[:48, 0]]
    truth = render(unseen, config.img_resolution)

    @torch.no_grad()
    def on_sample(step: int, folder: Path) -> None:
        resolution, _ = stage_at(max(step - 1, 0))
        average = training.ema["generator"]
        if from_z:
            random = torch.Generator().manual_seed(0)
            ws = average.mapping(z_of_portraits(unseen, config.z_dim, random).to(device))
        else:
            w = encoder(factor_matrix(unseen).to(device))
            ws = w[:, None].expand(-1, generator.num_ws, -1)
        images = average.synthesis(ws, noise_mode="none", resolution=resolution).cpu().clamp(-1, 1)
        target = nn.functional.avg_pool2d(truth, config.img_resolution // resolution)
        psnr = 10 * torch.log10(4 / (images - target).square().mean())
        with (training.config.output_dir / "psnr.jsonl").open("a") as log:
            log.write(
                json.dumps({"step": step, "resolution": resolution, "psnr": float(psnr)}) + "\n"
            )
        rows = torch.stack([target[:24], images[:24]], 1).view(3, 8, 2, *images.shape[1:])
        sheet = rows.transpose(1, 2).flatten(0, 2)  # a row of targets, a row of results, ...
        image_files.grid(sheet, columns=8).save(folder / f"{step:06d}.png")
        if from_z:
            sampled = samples(average, resolution)
            image_files.grid(sampled, columns=8).save(folder / f"{step:06d}-samples.png")

    training.complete(step_fn, on_sample)
    if training.accelerator.is_main_process:
        average = training.ema["generator"]
        if from_z:
            set_w_avg(average, config.z_dim)
        move_bias_down(average)
        average.save_pretrained(config.output_dir / "generator")


def train_mapping(config: Paired, generator: StyleGAN2Generator, encoder: FactorEncoder) -> None:
    """The stage mapping: the mapping network learns the w of the portrait that z stands for."""
    mapping = generator.mapping
    training = Training(
        config,
        {"mapping": mapping},
        {"mapping": mapping_optimizer(mapping, config.mapping_learning_rate)},
        ema={"mapping": copy.deepcopy(mapping)},
        ema_half_life=500 * config.mapping_batch_size,
    )
    device = training.accelerator.device
    encoder.to(device)
    generator.to(device)
    training.total_batch_size = config.mapping_batch_size * training.accelerator.num_processes

    def step_fn(step: int) -> dict[str, Tensor]:
        random = training.generator(step)
        z = torch.randn(config.mapping_batch_size, config.z_dim, generator=random).to(device)
        with torch.no_grad():
            target = encoder(factor_matrix(portraits_of_z(z)))

        def loss_of(_: int) -> Tensor:
            return (mapping(z)[:, 0] - target).square().mean()

        return {"loss": training.update("mapping", loss_of)}

    @torch.no_grad()
    def on_sample(step: int, folder: Path) -> None:
        z = torch.randn(48, config.z_dim, generator=torch.Generator().manual_seed(0)).to(device)
        images = generator.synthesis(training.ema["mapping"](z), noise_mode="none")
        image_files.grid(images.cpu(), columns=8).save(folder / f"{step:06d}.png")

    training.complete(step_fn, on_sample)
    if training.accelerator.is_main_process:
        mapping.load_state_dict(training.ema["mapping"].state_dict())
        set_w_avg(generator, config.z_dim)
        generator.save_pretrained(config.output_dir / "generator")


def synthesis_optimizer(synthesis: nn.Module, config: Paired) -> Muon:
    """Muon for the convolutions and affine layers; Adam for the rest."""
    matrices, others = [], []
    for name, parameter in synthesis.named_parameters():
        # toRGB and the constant do not map features to features.
        plain = parameter.ndim < 2 or "torgb" in name or name.endswith("const")
        (others if plain else matrices).append(parameter)
    optimizer = Muon(
        matrices,
        others,
        config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=0.0,
        dtype=torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32,
    )
    for group in optimizer.param_groups:
        if not group["orthogonal"]:
            group["lr"] = config.learning_rate / 5
    return optimizer


def mapping_optimizer(mapping: nn.Module, learning_rate: float) -> Muon:
    """Muon, which fits this deep and narrow network many times faster than Adam."""
    matrices = [parameter for parameter in mapping.parameters() if parameter.ndim == 2]
    biases = [parameter for parameter in mapping.parameters() if parameter.ndim < 2]
    optimizer = Muon(matrices, biases, learning_rate, weight_decay=0.0)
    for group in optimizer.param_groups:
        if not group["orthogonal"]:
            group["lr"] = learning_rate / 60
    return optimizer


def train_adversarial(config: Adversarial) -> None:
    """The adversarial route: non-saturating loss, lazy R1 and path length, style mixing, EMA."""
    torch.manual_seed(config.seed)
    if config.init_from is not None:
        generator = StyleGAN2Generator.from_pretrained(config.init_from / "generator")
    else:
        generator = StyleGAN2Generator(
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            img_resolution=config.img_resolution,
            num_mapping_layers=config.num_mapping_layers,
            channel_base=config.channel_base,
            channel_max=config.channel_max,
        )
    side = generator.config.img_resolution
    size = config.img_crop or generator.img_size
    # This rejects an impossible size before the training.
    generator.crop(*size)
    generator.crop(side, side)
    discriminator = StyleGAN2Discriminator(
        img_resolution=side,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
    )

    def adam(module: nn.Module, interval: int) -> torch.optim.Adam:
        # The regularization is applied in one of `interval` steps (StyleGAN2, appendix B).
        ratio = interval / (interval + 1)
        return torch.optim.Adam(
            module.parameters(), lr=config.learning_rate * ratio, betas=(0.0, 0.99**ratio)
        )

    # A module holds the running mean of the path lengths, so that checkpoints include it.
    path = nn.Module()
    path.register_buffer("mean_length", torch.zeros(()))
    training = Training(
        config,
        {"generator": generator, "discriminator": discriminator, "path": path},
        {
            "generator": adam(generator, config.path_length_interval),
            "discriminator": adam(discriminator, config.r1_interval),
        },
        ema={"generator": copy.deepcopy(generator)},
    )
    device = training.accelerator.device
    z_dim = generator.config.z_dim
    reals_of = picture_source(config, side, size)
    mean_length = path.get_buffer("mean_length")

    def random_ws(random: torch.Generator) -> Tensor:
        z = torch.randn(2, config.train_batch_size, z_dim, generator=random).to(device)
        ws = generator.mapping(z[0])
        if torch.rand((), generator=random) < config.style_mixing:
            cutoff = int(torch.randint(1, generator.num_ws, (), generator=random))
            ws = torch.cat([ws[:, :cutoff], generator.mapping(z[1])[:, cutoff:]], dim=1)
        return ws

    def step_fn(step: int) -> dict[str, Tensor]:
        random = training.generator(step)
        reals, indices = reals_of(training, step)
        reals = reals.to(device)

        def discriminator_loss(_: int) -> Tensor:
            with torch.no_grad():
                fakes = generator.synthesis(random_ws(random), noise_mode="random")
            penalized = step % config.r1_interval == 0
            shown = reals.detach().requires_grad_(penalized)
            logits = discriminator(shown)
            loss = discriminator_logistic_loss(logits, discriminator(fakes))
            if penalized:
                loss = loss + config.r1_gamma * config.r1_interval * r1_penalty(logits, shown)
            return loss

        def generator_loss(_: int) -> Tensor:
            ws = random_ws(random)
            fakes = generator.synthesis(ws, noise_mode="random")
            loss = generator_logistic_loss(discriminator(fakes))
            if config.path_length_weight and step % config.path_length_interval == 0:
                lengths = path_lengths(fakes, ws, torch.randn_like(fakes))
                mean_length.lerp_(lengths.mean().detach(), 0.01)
                penalty = (lengths - mean_length).square().mean()
                loss = loss + config.path_length_weight * config.path_length_interval * penalty
            if config.reconstruction_lambda and indices is not None:
                portraits = sample([int(i) for i in indices])
                known = portraits.character < 0  # named characters have no z
                ws = generator.mapping(z_of_portraits(portraits[known], z_dim, random).to(device))
                images = generator.synthesis(ws, noise_mode="const")
                weight = face_weight(images.shape[-1]).to(device)
                error = reconstruction_loss(images, reals[known.to(device)], weight)
                loss = loss + config.reconstruction_lambda * error
            return loss

        return {
            "discriminator": training.update("discriminator", discriminator_loss),
            "generator": training.update("generator", generator_loss),
        }

    @torch.no_grad()
    def on_sample(step: int, folder: Path) -> None:
        average = training.ema["generator"]
        set_w_avg(average, z_dim, count=4000)
        sampled = samples(average, generator.config.img_resolution)
        image_files.grid(sampled, columns=8).save(folder / f"{step:06d}.png")

    training.complete(step_fn, on_sample)
    if training.accelerator.is_main_process:
        average = training.ema["generator"]
        set_w_avg(average, z_dim)
        average.crop(*size)
        average.save_pretrained(config.output_dir / "generator")
        discriminator.save_pretrained(config.output_dir / "discriminator")


def picture_source(
    config: Adversarial, resolution: int, size: tuple[int, int]
) -> Callable[[Training, int], tuple[Tensor, Tensor | None]]:
    """A function from (training, step) to real pictures, and their seeds if they are portraits.

    Args:
        resolution: side of the square pictures.
        size: height and width of the content; the rest of the square is black.

    Raises:
        SystemExit: there are no pictures.
    """
    if config.cache is not None:
        cache = RenderCache(config.cache)

        def from_cache(training: Training, step: int) -> tuple[Tensor, Tensor | None]:
            indices = training.indices(step, len(cache))
            return pictures(cache.images(indices), resolution), indices

        return from_cache
    if config.images is not None:
        files = sorted(
            path
            for path in config.images.rglob("*")
            if path.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}
        )
        if not files:
            raise SystemExit(f"No pictures (png, jpg, webp) in {config.images}.")

        def from_files(training: Training, step: int) -> tuple[Tensor, Tensor | None]:
            indices = training.indices(step, len(files))
            loaded = [
                image_files.middle(image_files.from_pil(Image.open(files[int(i)])), size)
                for i in indices
            ]
            return image_files.on_square(torch.cat(loaded)), None

        return from_files
    raise SystemExit("Got no training pictures; give --cache or --images.")


@torch.no_grad()
def samples(generator: StyleGAN2Generator, resolution: int) -> Tensor:
    """64 samples at truncation 0.7, always from the same z."""
    z = torch.randn(64, generator.config.z_dim, generator=torch.Generator().manual_seed(0))
    ws = generator.mapping(z.to(generator.device), truncation_psi=0.7)
    images = [
        generator.synthesis(part, noise_mode="const", resolution=resolution)
        for part in ws.split(16)
    ]
    return torch.cat(images).clamp(-1, 1).cpu()


@torch.no_grad()
def set_w_avg(generator: StyleGAN2Generator, z_dim: int, count: int = 20_000) -> None:
    """Set the mean of w over many z, towards which truncation moves w."""
    z = torch.randn(count, z_dim, generator=torch.Generator().manual_seed(123))
    generator.update_w_avg(z.to(generator.device), beta=0.0)


def pictures(stored: Tensor, resolution: int) -> Tensor:
    """uint8 pictures as floats in [-1, 1], averaged down to a resolution."""
    values = stored.float() / 127.5 - 1
    return nn.functional.avg_pool2d(values, stored.shape[-1] // resolution)


Command = (
    Annotated[Paired, tyro.conf.subcommand("paired", prefix_name=False)]
    | Annotated[Adversarial, tyro.conf.subcommand("adversarial", prefix_name=False)]
)

if __name__ == "__main__":
    run(main, Command, __doc__)
