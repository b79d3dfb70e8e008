"""Train the StyleGAN2 generator of a pipeline.

The published way, on a GPU (non-saturating loss, lazy R1, style mixing, path length, EMA):

    accelerate launch recipes/train_generator.py adversarial --cache runs/portraits \\
        --output_dir runs/gan --train_batch_size 32 --max_train_steps 100000

    # pictures of anything else in a folder, here of 256 x 192 (docs/other-domains.md)
    accelerate launch recipes/train_generator.py adversarial --images photos-of-houses \\
        --img_resolution 256 --img_crop 192 256 --output_dir runs/houses

The paired way, which two CPU cores can afford, because the renderer knows what it drew (see
stylegan_hub/portraits/paired.py). Four stages, each starts from the one before:

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
continued with --resume_from_checkpoint latest. The folder `generator/` in the output folder is the
averaged generator, ready for a pipeline.
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
    pairs,
    portraits_of_z,
    reconstruction_loss,
    z_of_portraits,
)
from stylegan_hub.portraits.renderer import render, render_factors
from stylegan_hub.training import Training, TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Paired(TrainingConfig):
    """Reconstruction from known factors: the route for a CPU."""

    stage: Literal["synthesis", "details", "mapping", "together"] = "synthesis"
    """synthesis: factors -> w -> picture; details: the same for pairs that differ in one attribute;
    mapping: z -> w; together: z -> picture."""
    cache: Path | None = None
    """Folder made by recipes/render_portraits.py; the stage details draws its own portraits."""
    init_from: Path | None = None
    """Output folder of an earlier run to start from."""
    schedule: tuple[str, ...] = ("32:20:1000", "64:10:1500", "128:8:8000", "256:4:15000")
    """resolution:batch:steps of the progressive stages; the last one goes on to the end."""
    change_lambda: float = 0.5
    """Weight of the share of a change that is missed, in the stage details."""
    img_resolution: int = 256
    """Resolution of the generator."""
    channels: tuple[int, ...] = (192, 192, 160, 96, 64, 40, 24)
    """Feature channels at 4, 8, 16, ... px."""
    z_dim: int = 128
    """Size of z; at least 65, to hold the numbers that make a portrait."""
    w_dim: int = 256
    """Size of w."""
    learning_rate: float = 2e-2
    """Peak learning rate of the synthesis network (of Muon; Adam's share gets a fifth)."""
    mapping_learning_rate: float = 12.0
    """Peak learning rate of the mapping network; it acts a hundred times weaker (lr_mul 0.01)."""
    mapping_batch_size: int = 1024
    """Draws of z per step of the mapping stage."""
    lr_scheduler: Literal["constant", "cosine"] = "constant"
    max_train_steps: int = 25_500
    checkpointing_steps: int = 1000
    sample_steps: int = 1000


@dataclass(frozen=True, kw_only=True)
class Adversarial(TrainingConfig):
    """Adversarial training as published (StyleGAN2 config F, lazy regularization): for a GPU."""

    cache: Path | None = None
    """Folder made by recipes/render_portraits.py."""
    images: Path | None = None
    """Or a folder of pictures of any domain, whose middle is taken."""
    img_crop: tuple[int, int] | None = None
    """Height and width of pictures that are not square, such as 96 128: the network learns them
    with black bars, and renders them without."""
    init_from: Path | None = None
    """Folder that holds `generator/`, such as that of a paired run, to start from."""
    img_resolution: int = 128
    """Resolution of the generator."""
    channel_base: int = 8192
    """Channels at resolution r: channel_base / r, at most channel_max."""
    channel_max: int = 256
    z_dim: int = 128
    w_dim: int = 256
    num_mapping_layers: int = 8
    r1_gamma: float = 1.0
    """Weight of the R1 penalty on real pictures; about 0.0002 * resolution^2 / batch * 32."""
    r1_interval: int = 16
    """Steps between two R1 penalties."""
    path_length_weight: float = 2.0
    """Weight of path length regularization; 0 = none."""
    path_length_interval: int = 4
    """Steps between two path length penalties."""
    style_mixing: float = 0.9
    """Probability of mixing the w of two z at a random layer."""
    reconstruction_lambda: float = 0.0
    """Weight of reproducing the portraits that z stands for, which keeps a paired start paired."""
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
        raise SystemExit(f"Stage {config.stage!r} starts from an earlier one: give --init_from.")
    torch.manual_seed(config.seed)
    generator = StyleGAN2Generator(
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        img_resolution=config.img_resolution,
        channels=list(config.channels),
    )
    return generator, FactorEncoder(config.w_dim)


def train_synthesis(config: Paired, generator: StyleGAN2Generator, encoder: FactorEncoder) -> None:
    """The stages that redraw known portraits, from their factors or from z."""
    if config.stage == "details":
        cache = None
    elif config.cache is None:
        raise SystemExit("This stage learns from drawn portraits: give --cache (see --help).")
    else:
        cache = RenderCache(config.cache)
    from_z = config.stage == "together"
    roles = LayerRoles(generator, encoder)
    roles.enforce()
    optimizer = synthesis_optimizer(generator.synthesis, config)
    models: dict[str, nn.Module] = {"generator": generator}
    if from_z:
        # Here Adam, whose rate means a smaller step than Muon's.
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

    def ws_of(cache: RenderCache, indices: Tensor, draw: torch.Generator) -> Tensor:
        w = encoder(cache.factors(indices).to(device))
        if from_z:  # nobody in z is a blend or a named character
            rows = torch.arange(len(indices))
            if cache.blends:
                rows = rows[indices % 2 == 0]
            portraits = cache.portraits(indices[rows])
            known = portraits.character < 0
            z = z_of_portraits(portraits[known], config.z_dim, draw)
            w = w.index_copy(0, rows[known].to(device), generator.mapping.w(z.to(device)))
        return w[:, None].expand(-1, generator.num_ws, -1)

    def step_fn(step: int) -> dict[str, Tensor]:
        resolution, batch = stage_at(step)
        training.total_batch_size = batch
        draw = training.generator(step, shared=True)
        weight = face_weight(resolution).to(device)
        if cache is None:
            seeds = torch.randint(UNSEEN_SEED, (batch // 2,), generator=draw)
            before, after = pairs(training.shard(seeds).tolist())
            factors = torch.cat([factor_matrix(before), factor_matrix(after)]).to(device)
            targets = render_factors(factors, resolution)
            ws = encoder(factors)[:, None].expand(-1, generator.num_ws, -1)
        else:
            indices = training.shard(torch.randint(len(cache), (batch,), generator=draw))
            targets = pictures(cache.images(indices).to(device), resolution)

        def loss_of(_: int) -> Tensor:
            styles = ws if cache is None else ws_of(cache, indices, draw)
            drawn = generator.synthesis(styles, noise_mode="none", resolution=resolution)
            loss = reconstruction_loss(drawn, targets, weight)
            if cache is None:
                missed = change_loss(*drawn.chunk(2), *targets.chunk(2))
                shares["missed"] = missed.detach()
                loss = loss + config.change_lambda * missed
            return loss

        if from_z:
            z = torch.randn(256, config.z_dim, generator=draw)
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
            draw = torch.Generator().manual_seed(0)
            ws = average.mapping(z_of_portraits(unseen, config.z_dim, draw).to(device))
        else:
            w = encoder(factor_matrix(unseen).to(device))
            ws = w[:, None].expand(-1, generator.num_ws, -1)
        drawn = average.synthesis(ws, noise_mode="none", resolution=resolution).cpu().clamp(-1, 1)
        target = nn.functional.avg_pool2d(truth, config.img_resolution // resolution)
        psnr = 10 * torch.log10(4 / (drawn - target).square().mean())
        with (training.config.output_dir / "psnr.jsonl").open("a") as log:
            log.write(
                json.dumps({"step": step, "resolution": resolution, "psnr": float(psnr)}) + "\n"
            )
        rows = torch.stack([target[:24], drawn[:24]], 1).view(3, 8, 2, *drawn.shape[1:])
        sheet = rows.transpose(1, 2).flatten(0, 2)  # a row of portraits, a row of renders, ...
        image_files.grid(sheet, columns=8).save(folder / f"{step:06d}.png")
        if from_z:
            people = samples(average, resolution)
            image_files.grid(people, columns=8).save(folder / f"{step:06d}-samples.png")

    training.complete(step_fn, on_sample)
    if training.accelerator.is_main_process:
        average = training.ema["generator"]
        if from_z:
            set_w_avg(average, config.z_dim)
        average.save_pretrained(config.output_dir / "generator")


def train_mapping(config: Paired, generator: StyleGAN2Generator, encoder: FactorEncoder) -> None:
    """Stage mapping: the published mapping network learns z -> w of the portrait z stands for."""
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
        draw = training.generator(step)
        z = torch.randn(config.mapping_batch_size, config.z_dim, generator=draw).to(device)
        with torch.no_grad():
            target = encoder(factor_matrix(portraits_of_z(z)))

        def loss_of(_: int) -> Tensor:
            return (mapping(z)[:, 0] - target).square().mean()

        return {"loss": training.update("mapping", loss_of)}

    @torch.no_grad()
    def on_sample(step: int, folder: Path) -> None:
        z = torch.randn(48, config.z_dim, generator=torch.Generator().manual_seed(0)).to(device)
        drawn = generator.synthesis(training.ema["mapping"](z), noise_mode="none")
        image_files.grid(drawn.cpu(), columns=8).save(folder / f"{step:06d}.png")

    training.complete(step_fn, on_sample)
    if training.accelerator.is_main_process:
        mapping.load_state_dict(training.ema["mapping"].state_dict())
        set_w_avg(generator, config.z_dim)
        generator.save_pretrained(config.output_dir / "generator")


def synthesis_optimizer(synthesis: nn.Module, config: Paired) -> Muon:
    """Muon for the convolutions and affine layers, Adam for the rest."""
    matrices, others = [], []
    for name, parameter in synthesis.named_parameters():
        # toRGB gives colors and the constant has no input: they do not map between features.
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
    """Non-saturating loss, lazy R1 and path length, style mixing, averaged weights."""
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
    generator.crop(*size)  # refuses an impossible size before the training
    generator.crop(side, side)
    discriminator = StyleGAN2Discriminator(
        img_resolution=side,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
    )

    def adam(module: nn.Module, interval: int) -> torch.optim.Adam:
        # Lazy regularization takes part in one step of `interval`: StyleGAN2 appendix B.
        ratio = interval / (interval + 1)
        return torch.optim.Adam(
            module.parameters(), lr=config.learning_rate * ratio, betas=(0.0, 0.99**ratio)
        )

    # The running mean of the path lengths is in a module, so that checkpoints hold it.
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

    def draw_ws(draw: torch.Generator) -> Tensor:
        z = torch.randn(2, config.train_batch_size, z_dim, generator=draw).to(device)
        ws = generator.mapping(z[0])
        if torch.rand((), generator=draw) < config.style_mixing:
            cutoff = int(torch.randint(1, generator.num_ws, (), generator=draw))
            ws = torch.cat([ws[:, :cutoff], generator.mapping(z[1])[:, cutoff:]], dim=1)
        return ws

    def step_fn(step: int) -> dict[str, Tensor]:
        draw = training.generator(step)
        reals, indices = reals_of(training, step)
        reals = reals.to(device)

        def discriminator_loss(_: int) -> Tensor:
            with torch.no_grad():
                fakes = generator.synthesis(draw_ws(draw), noise_mode="random")
            penalized = step % config.r1_interval == 0
            shown = reals.detach().requires_grad_(penalized)
            logits = discriminator(shown)
            loss = discriminator_logistic_loss(logits, discriminator(fakes))
            if penalized:
                loss = loss + config.r1_gamma * config.r1_interval * r1_penalty(logits, shown)
            return loss

        def generator_loss(_: int) -> Tensor:
            ws = draw_ws(draw)
            fakes = generator.synthesis(ws, noise_mode="random")
            loss = generator_logistic_loss(discriminator(fakes))
            if config.path_length_weight and step % config.path_length_interval == 0:
                lengths = path_lengths(fakes, ws, torch.randn_like(fakes))
                mean_length.lerp_(lengths.mean().detach(), 0.01)
                penalty = (lengths - mean_length).square().mean()
                loss = loss + config.path_length_weight * config.path_length_interval * penalty
            if config.reconstruction_lambda and indices is not None:
                portraits = sample([int(i) for i in indices])
                nobody = portraits.character < 0  # no face in z is a named character
                ws = generator.mapping(z_of_portraits(portraits[nobody], z_dim, draw).to(device))
                redrawn = generator.synthesis(ws, noise_mode="const")
                weight = face_weight(redrawn.shape[-1]).to(device)
                error = reconstruction_loss(redrawn, reals[nobody.to(device)], weight)
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
        people = samples(average, generator.config.img_resolution)
        image_files.grid(people, columns=8).save(folder / f"{step:06d}.png")

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
    """A function from (training, step) to real pictures, and the seeds of drawn portraits.

    Args:
        resolution: side of the square that pictures fill.
        size: height and width of what they show; around it the square is black.
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
    drawn = [
        generator.synthesis(part, noise_mode="const", resolution=resolution)
        for part in ws.split(16)
    ]
    return torch.cat(drawn).clamp(-1, 1).cpu()


@torch.no_grad()
def set_w_avg(generator: StyleGAN2Generator, z_dim: int, count: int = 20_000) -> None:
    """The mean of w over many z, which truncation pulls towards."""
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
