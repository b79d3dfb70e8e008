"""Train an encoder (e4e), which turns a picture into the latent that renders it.

    accelerate launch recipes/train_encoder.py --output_dir runs/encoder --mixed_precision bf16

The latents stay near W, so that edits work on them. The encoder learns from samples of the
pipeline's generator, whose w is known. For the drawn portraits, it also learns from renders, whose
w is known only with --cache (use --rendered_share 0 for other pipelines). The first --latent_steps
steps only learn to predict the known w, which needs no rendering and is five times as fast. After
that, the losses of e4e are added: pixels, perceptual distance, identity (if the pipeline has a
recognizer) and the regularization of the deltas, which are switched on one by one. The training
takes 90 minutes on one CPU core with bf16. An interrupted run is continued with
--resume_from_checkpoint latest. At the end, the folder `encoder/` in the output folder holds the
averaged network, its measurements on unseen pictures (metrics.json) and a card (README.md).

Source: Tov et al. 2021, "Designing an Encoder for StyleGAN Image Manipulation", section 5. There
are three differences. The perceptual distance uses the patches of the pipeline's CLIP instead of
LPIPS. Known ws are learned directly. The latent discriminator (--adv_lambda 0.1 as published, off
by default) sees the ws of the current step and not a pool of older ones, which a resumed run could
not restore. The reader, which judges, takes no part in the training.

Several processes share a batch, but each normalizes its own share of it (batch normalization), so
the result is not exactly that of one process.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from command_line import run
from jaxtyping import Float, Int
from network import pictures_of, unseen_portraits, write_network
from torch import Tensor, nn

from stylegan_hub import images as image_files
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import (
    discriminator_logistic_loss,
    generator_logistic_loss,
    identity_loss,
    r1_penalty,
)
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.metrics.judges import reader_for
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.stylegan2 import FullyConnectedLayer
from stylegan_hub.optimizers import Muon
from stylegan_hub.photos.likeness import PerceptualDistance
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import applicable, sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.portraits.paired import FactorEncoder
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.portraits.renderer import render
from stylegan_hub.training import Training, TrainingConfig, training_device

_CHUNK = 50  # number of pictures rendered at once


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings for building, training and measuring the encoder."""

    pipeline: str = "portraits"
    """Bundled name, folder or Hub id of the pipeline whose generator the encoder is for."""
    reader: str | None = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader that judges. None: no reader, for
    pictures other than drawn portraits. The bundled reader is not used for other pipelines without
    renders."""

    units: tuple[int, int, int, int] = (1, 2, 2, 1)
    """Number of residual units in each stage; 3 4 14 3 in e4e."""
    widths: tuple[int, int, int, int] = (32, 48, 64, 96)
    """Number of channels in each stage; 64 128 256 512 in e4e."""
    head_width: int = 128
    """Number of channels inside the style heads; 512 in e4e."""
    input_size: int = 128
    """Side in pixels to which pictures are resized; 256 in e4e."""
    input_stride: int = 2
    """Stride of the first convolution; 1 in e4e."""

    num_generated: int = 20_000
    """Number of samples that are rendered at the start, to train on."""
    truncation_psi: tuple[float, ...] = (1.0, 0.7)
    """Truncations of those samples, which take turns."""
    rendered_share: float = 0.25
    """Share of rendered portraits in a batch; 0 for other pipelines than portraits."""
    cache: Path | None = None
    """Folder made by recipes/render_portraits.py, from which the rendered portraits are taken. Use
    it for generators of the paired route: there the w of a rendered portrait is known and learned
    from the first step. None: portraits are rendered in each step, and their w is unknown."""
    resolution: int | None = None
    """Side of the pictures in training. If it is below the generator's resolution, only the smaller
    blocks of the generator render them, in a fraction of the time. None: the generator's
    resolution."""

    latent_steps: int = 5000
    """Number of steps at the start that only learn known ws."""
    progressive_start: int = 5000
    """Step at which the first delta is switched on; until then, all layers share one w."""
    progressive_steps: int = 20
    """Number of steps between two deltas."""
    latent_lambda: float = 1.0
    """Weight of the squared distance to the known w, in units of its variance."""
    l2_lambda: float = 1.0
    """Weight of the mean squared difference of the pictures."""
    perceptual_lambda: float = 0.8
    """Weight of the perceptual distance, between patches of CLIP."""
    id_lambda: float = 0.1
    """Weight of the identity loss, if the pipeline has a recognizer."""
    delta_lambda: float = 2e-4
    """Weight of the lengths of the deltas."""
    adv_lambda: float = 0.0
    """Weight of the loss of the latent discriminator, which favors ws that the mapping network
    could produce."""
    discriminator_learning_rate: float = 2e-5
    """Learning rate of the latent discriminator."""
    r1_gamma: float = 10.0
    """Weight of the discriminator's gradient penalty."""
    r1_interval: int = 16
    """Number of steps between two gradient penalties."""

    unseen: int = 250
    """Number of unseen samples, and of unseen renders, on which the encoder is measured at the
    end."""
    train_batch_size: int = 32
    max_train_steps: int = 7000
    learning_rate: float = 2e-3
    checkpointing_steps: int = 250
    sample_steps: int = 250


def main(config: Config) -> None:
    check(config)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
    encoder = new_encoder(config, pipe)
    models: dict[str, nn.Module] = {"encoder": encoder}
    optimizers: dict[str, torch.optim.Optimizer] = {"encoder": optimizer_of(encoder, config)}
    if config.adv_lambda > 0:
        models["discriminator"] = latent_discriminator(pipe.generator.config.w_dim)
        optimizers["discriminator"] = torch.optim.Adam(
            models["discriminator"].parameters(), lr=config.discriminator_learning_rate
        )
    training = Training(
        config,
        models,
        optimizers,
        ema={"encoder": copy.deepcopy(encoder)},
        ema_half_life=50 * config.train_batch_size,
    )
    device = training.accelerator.device
    pipe.to(device)
    resolution = pipe.block(config.resolution) or pipe.generator.config.img_resolution
    renders = None if config.cache is None else known_renders(config.cache, pipe, resolution)
    pool = generated(pipe, range(config.num_generated), config.truncation_psi, resolution)
    rendered = round(config.rendered_share * config.train_batch_size)
    objective = Objective(config, pipe, models.get("discriminator"), resolution)

    def step_fn(step: int) -> dict[str, Tensor]:
        encoded: list[Tensor] = []
        with_pictures = step >= config.latent_steps

        def losses_of(micro: int) -> dict[str, Tensor]:
            seeds = training.indices(step, UNSEEN_SEED, micro)
            own = len(seeds) - rendered if with_pictures or renders is not None else len(seeds)
            targets, known_w = pool.take(seeds[:own])
            if own < len(seeds):
                if renders is None:
                    pictures = render(sample(seeds[own:].tolist()), resolution)
                else:
                    pictures, ws = renders.take(seeds[own:])
                    known_w = torch.cat([known_w, ws])
                targets = torch.cat([targets, pictures])
            codes = encoder.encode(targets.to(device), stage_of(step, config, pipe))
            encoded.append(codes.detach())
            return objective(
                codes, targets.to(device), known_w.to(device), with_pictures=with_pictures
            )

        parts = training.minimize("encoder", losses_of, max_grad_norm=5.0)
        if "discriminator" in models and with_pictures:
            parts["discriminator"] = training.update(
                "discriminator",
                lambda micro: discriminator_loss(
                    config, pipe, models["discriminator"], encoded[micro],
                    training.indices(step, UNSEEN_SEED, micro), step,
                ),
            )  # fmt: skip
        return parts

    average = training.ema["encoder"]
    assert isinstance(average, Encoder)
    watched = generated(pipe, range(UNSEEN_SEED, UNSEEN_SEED + 8), (1.0,), resolution).images()
    if rendered:
        watched = torch.cat([watched, pictures_of(unseen_portraits(8), resolution)])

    def on_sample(step: int, folder: Path) -> None:
        image_files.save(sheet(pipe, average, watched), folder / f"step-{step:06}.png")

    if training.complete(step_fn, on_sample):
        export(average, pipe, config)


def check(config: Config) -> None:
    """Check the settings before anything is loaded.

    Raises:
        SystemExit: a setting is out of range.
    """
    if not 0 <= config.rendered_share < 1:
        raise SystemExit(f"--rendered_share is {config.rendered_share}; expected 0 to below 1.")
    if config.num_generated < 1 or not config.truncation_psi:
        raise SystemExit(
            f"Got --num_generated {config.num_generated} and {len(config.truncation_psi)} values "
            "of --truncation_psi; expected at least one of both."
        )


def new_encoder(config: Config, pipe: StyleEditPipeline) -> Encoder:
    """An untrained encoder for the pipeline's generator; the same seed gives the same weights."""
    generator = pipe.generator
    torch.manual_seed(config.seed)
    encoder = Encoder(
        num_ws=generator.num_ws,
        w_dim=generator.config.w_dim,
        input_size=config.input_size,
        units=config.units,
        widths=config.widths,
        input_stride=config.input_stride,
        head_width=config.head_width,
        reduction=min(16, *config.widths),
    )
    encoder.latent_avg.copy_(generator.mapping.w_avg.expand_as(encoder.latent_avg))
    return encoder


def optimizer_of(encoder: Encoder, config: Config) -> Muon:
    """Muon for the weights between features; AdamW for the rest.

    In 400 steps, the error of w falls to a third; with AdamW alone, it falls to two fifths. The
    linear layers of the heads keep weights of size 1, which are divided by sqrt(inputs) when they
    are used (equalized learning rate). At the rate of the other layers, they would learn more
    slowly by this factor.
    """
    linear = [head.get_submodule("linear").get_parameter("weight") for head in encoder.styles]
    own = {id(weight) for weight in linear}
    matrices, others = [], []
    for name, parameter in encoder.named_parameters():
        if id(parameter) not in own:
            inner = parameter.ndim == 4 and not name.startswith("input_layer")
            (matrices if inner else others).append(parameter)
    half = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    optimizer = Muon(matrices, others, config.learning_rate, dtype=half)
    larger = math.sqrt(linear[0].shape[1])
    optimizer.add_param_group(
        {
            "params": linear,
            "orthogonal": False,
            "lr": larger * config.learning_rate,
            "weight_decay": 0.01 / larger,
        }
    )
    return optimizer


def stage_of(step: int, config: Config, pipe: StyleEditPipeline) -> int:
    """Number of deltas that are switched on (section 5.1)."""
    if step < config.progressive_start:
        return 0
    stage = 1 + (step - config.progressive_start) // max(1, config.progressive_steps)
    return min(stage, pipe.generator.num_ws - 1)


@dataclass(frozen=True)
class Pool:
    """Pictures uint8 `[n, 3, h, w]` and the ws `[n, w_dim]` that render them."""

    pictures: Tensor
    w: Tensor

    def images(self) -> Float[Tensor, "n 3 h w"]:
        """The pictures as floats in [-1, 1]."""
        return image_files.from_uint8(self.pictures)

    def take(self, seeds: Int[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Pictures `[n, 3, h, w]` in [-1, 1] and their ws `[n, w_dim]`, one for each seed."""
        chosen = seeds % len(self.w)
        return image_files.from_uint8(self.pictures[chosen]), self.w[chosen]


def known_renders(folder: Path, pipe: StyleEditPipeline, resolution: int) -> Pool:
    """Rendered portraits, and the ws that the paired route assigns to their factors.

    Raises:
        SystemExit: the pictures do not have the size of those in the training.
    """
    cache = RenderCache(folder)
    if cache.resolution != resolution:
        raise SystemExit(
            f"{folder} holds portraits of {cache.resolution} px, but this training needs "
            f"{resolution} px. Render portraits of this size, or set --resolution."
        )
    indices = torch.arange(len(cache))
    pictures = torch.cat([cache.images(part) for part in indices.split(1000)])
    w = FactorEncoder(pipe.generator.config.w_dim)(cache.factors(indices))
    return Pool(pictures, w)


@torch.no_grad()
def generated(
    pipe: StyleEditPipeline,
    seeds: Sequence[int],
    truncation_psi: Sequence[float],
    resolution: int | None = None,
) -> Pool:
    """Samples of a pipeline; the truncations take turns, one for each chunk."""
    pictures, ws = [], []
    for number, start in enumerate(range(0, len(seeds), _CHUNK)):
        psi = truncation_psi[number % len(truncation_psi)]
        latents = pipe.sample(seeds[start : start + _CHUNK], psi)
        pictures.append(image_files.to_uint8(pipe.synthesize(latents, resolution)).cpu())
        ws.append(latents.codes[:, 0].cpu())
    return Pool(torch.cat(pictures), torch.cat(ws))


class Objective:
    """The losses of e4e (equation 10), each a mean over the batch, multiplied by its weight."""

    def __init__(
        self,
        config: Config,
        pipe: StyleEditPipeline,
        discriminator: nn.Module | None,
        resolution: int,
    ) -> None:
        self._config = config
        self._resolution = resolution
        self._pipe = pipe
        self._discriminator = discriminator
        self._recognizer = getattr(pipe, "recognizer", None)
        if self._recognizer is None and config.id_lambda > 0:
            print("The pipeline has no recognizer, so the identity loss is not used.")
        z_dim = pipe.generator.config.z_dim
        z = torch.randn(2000, z_dim, generator=torch.Generator().manual_seed(0)).to(pipe.device)
        with torch.no_grad():
            self._variance = pipe.generator.mapping(z)[:, 0].var(0).mean()

    def __call__(
        self,
        codes: Float[Tensor, "n num_ws w_dim"],
        targets: Float[Tensor, "n 3 h w"],
        known_w: Float[Tensor, "m w_dim"],
        *,
        with_pictures: bool,
    ) -> dict[str, Tensor]:
        """Losses by name.

        Args:
            known_w: the ws of the first m pictures.
            with_pictures: whether the losses that need the generator's pictures are computed.
        """
        config, n = self._config, len(codes)
        codes = codes.float()
        errors = (codes[: len(known_w)] - known_w[:, None]).square().mean((1, 2))
        losses = {"latent": config.latent_lambda * errors.sum() / (n * self._variance)}
        # The lengths are summed over the layers, as published.
        deltas = (codes[:, 1:] - codes[:, :1]).norm(dim=2).sum(1)
        losses["delta"] = config.delta_lambda * deltas.mean()
        if not with_pictures:
            return losses
        latents = Latents(Space.W_PLUS, codes)
        images = self._pipe.synthesize(latents, self._resolution).float()
        losses["l2"] = config.l2_lambda * (images - targets).square().mean()
        perceptual = PerceptualDistance(self._pipe, targets)(images)
        losses["perceptual"] = config.perceptual_lambda * perceptual.mean()
        if self._recognizer is not None and config.id_lambda > 0:
            with torch.no_grad():
                wanted = self._recognizer(targets)
            likeness = identity_loss(self._recognizer(images), wanted)
            losses["identity"] = config.id_lambda * likeness.mean()
        if self._discriminator is not None:
            logits = self._discriminator(codes.flatten(0, 1))
            losses["adversarial"] = config.adv_lambda * generator_logistic_loss(logits)
        return losses


def latent_discriminator(w_dim: int) -> nn.Sequential:
    """The network that tells ws of the mapping network from the encoder's (section 5.1)."""
    layers = [FullyConnectedLayer(w_dim, w_dim, activation="lrelu") for _ in range(4)]
    return nn.Sequential(*layers, FullyConnectedLayer(w_dim, 1))


def discriminator_loss(
    config: Config,
    pipe: StyleEditPipeline,
    discriminator: nn.Module,
    codes: Float[Tensor, "n num_ws w_dim"],
    seeds: Tensor,
    step: int,
) -> Tensor:
    """The latent discriminator's own loss, every `r1_interval` steps with the gradient penalty."""
    real = pipe.sample(seeds.tolist(), truncation_psi=1.0).codes[:, :1, None]  # [n, 1, 1, w_dim]
    real = real.detach().requires_grad_(True)
    logits = discriminator(real.flatten(1))
    fakes = discriminator(codes.float().flatten(0, 1))  # [n * num_ws, 1]
    loss = discriminator_logistic_loss(logits.repeat_interleave(codes.shape[1], dim=0), fakes)
    if step % config.r1_interval == 0:
        loss = loss + config.r1_gamma * config.r1_interval * r1_penalty(logits, real)
    return loss


@torch.no_grad()
def reconstruct(
    pipe: StyleEditPipeline, encoder: Encoder, images: Float[Tensor, "n 3 h w"]
) -> tuple[Float[Tensor, "n num_ws w_dim"], Float[Tensor, "n 3 h w"]]:
    """The codes of pictures, and the pictures that the generator renders from them."""
    codes = [encoder.encode(batch.to(encoder.device)) for batch in images.split(_CHUNK)]
    side = max(images.shape[-2:])
    found = [pipe.synthesize(Latents(Space.W_PLUS, one), side).clamp(-1, 1).cpu() for one in codes]
    return torch.cat(codes).cpu(), torch.cat(found)


def sheet(pipe: StyleEditPipeline, encoder: Encoder, images: Float[Tensor, "n 3 h w"]) -> Any:
    """Pictures above their reconstructions, eight in a row."""
    found = reconstruct(pipe, encoder, images)[1]
    rows = zip(images.split(8), found.split(8), strict=True)
    return image_files.grid(torch.cat([one for row in rows for one in row]), columns=8)


def export(encoder: Encoder, pipe: StyleEditPipeline, config: Config) -> None:
    """Write the folder `encoder/` with network, metrics.json, pictures and card."""
    has_renders = config.rendered_share > 0
    reader = reader_for(pipe, config.reader, has_renders)
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.unseen)
    own = generated(pipe, seeds, (1.0,))
    sets = {"generated": own.images()}
    if has_renders:
        resolution = pipe.generator.config.img_resolution
        sets["renders"] = pictures_of(unseen_portraits(config.unseen), resolution)
    metrics: dict[str, Any] = {
        "images": config.unseen,
        "first_seed": UNSEEN_SEED,
        "parameters": encoder.num_parameters(),
        "pipeline": {"name": pipe.name, "fingerprint": pipe.base_model.fingerprint},
    }
    metrics |= {name: measure(pipe, encoder, images, reader) for name, images in sets.items()}
    codes = reconstruct(pipe, encoder, sets["generated"])[0]
    residue = (codes - own.w[:, None]).square().sum() / codes.shape[1]
    metrics["generated"]["w_error"] = float(residue / (own.w - own.w.mean(0)).square().sum())
    shown = torch.cat([images[:8] for images in sets.values()])
    pictures = {"reconstructions.png": sheet(pipe, encoder, shown)}
    write_network(config.output_dir / "encoder", encoder, metrics, card(metrics, config), pictures)


@torch.no_grad()
def measure(
    pipe: StyleEditPipeline,
    encoder: Encoder,
    images: Float[Tensor, "n 3 h w"],
    reader: AttributeReader | None,
) -> dict[str, Any]:
    """Measure how close reconstructions are to their pictures, and how far codes are from W."""
    codes, found = reconstruct(pipe, encoder, images)
    device = encoder.device
    pairs = list(zip(images.split(_CHUNK), found.split(_CHUNK), strict=True))
    distances = torch.cat([PerceptualDistance(pipe, a.to(device))(b.to(device)) for a, b in pairs])
    squared = (found - images).square().mean((1, 2, 3))
    values: dict[str, Any] = {
        "mean_squared_error": float(squared.mean()),
        "psnr": float((10 * (4 / squared).log10()).mean()),
        "perceptual_distance": float(distances.mean()),
        "delta_length": float((codes - codes.mean(1, keepdim=True)).norm(dim=2).mean()),
    }
    recognizer = getattr(pipe, "recognizer", None)
    if recognizer is not None:
        likeness = identity_similarity(recognizer, images.to(device), found.to(device))
        values["identity_similarity"] = float(likeness.mean())
    if reader is not None:
        before, after = reader.read(images).labels, reader.read(found).labels
        visible = applicable(before)
        kept = {
            name: float((before[name] == after[name])[visible[name]].float().mean())
            for name in before
        }
        values["attributes_kept"] = sum(kept.values()) / len(kept)
        values["kept"] = kept
    return values


_WORDS = {
    "psnr": "PSNR in dB (mean over the pictures)",
    "mean_squared_error": "mean squared error of pictures in [-1, 1]",
    "perceptual_distance": "perceptual distance (patches of the pipeline's CLIP)",
    "identity_similarity": "identity similarity (the pipeline's recognizer)",
    "attributes_kept": "share of attributes kept (attribute reader)",
    "delta_length": "mean distance of a layer's w from the mean over the layers",
    "w_error": "squared error of w, relative to its variance",
}


def card(metrics: Mapping[str, Any], config: Config) -> str:
    """The text of the card: purpose, training, reconstruction and limits."""
    columns = {name: metrics[name] for name in ("generated", "renders") if name in metrics}
    rows = [
        f"| {words} | {' | '.join(_number(column.get(name)) for column in columns.values())} |"
        for name, words in _WORDS.items()
        if any(name in column for column in columns.values())
    ]
    names = {"generated": "generated", "renders": "rendered"}
    heads = " | ".join(names[name] for name in columns)
    further = max(config.max_train_steps - config.latent_steps, 0)
    return f"""---
library_name: stylegan-hub
pipeline_tag: image-to-image
license: apache-2.0
tags: [gan-inversion, e4e]
---

# Encoder for the generator of `{metrics["pipeline"]["name"]}`

An e4e encoder (Tov et al. 2021), which turns a picture into the latent in w_plus that renders it.
It has {metrics["parameters"] / 1e6:.2f} M parameters and belongs to the generator with the
fingerprint {metrics["pipeline"]["fingerprint"]}. Pictures of any size are resized to
{config.input_size} px.

```python
from stylegan_hub.models.encoder import Encoder

encoder = Encoder.from_pretrained("path/to/this/folder")
codes = encoder.encode(images)  # [n, 3, h, w] in [-1, 1] -> [n, num_ws, w_dim]
```

## Training

`recipes/train_encoder.py` trained it from scratch. The first {config.latent_steps:,} steps, with
{config.train_batch_size} pictures each, only learned known ws. They used
{config.num_generated:,} samples of the generator (truncation
{", ".join(f"{psi:g}" for psi in config.truncation_psi)}). The following {further:,} steps added
the losses of e4e. The weights are: known w {config.latent_lambda:g}, pixels {config.l2_lambda:g},
perceptual {config.perceptual_lambda:g}, identity {config.id_lambda:g} if there is a recognizer,
deltas {config.delta_lambda:g}, latent discriminator {config.adv_lambda:g}. Renders were
{config.rendered_share:.0%} of the pictures. The training used Muon and AdamW, a cosine schedule, an
exponential average of the weights, seed {config.seed} and precision "{config.mixed_precision}".

## How well it reconstructs

The table is for {metrics["images"]:,} unseen pictures of each kind (seeds from
{metrics["first_seed"]:,}; generated ones without truncation).

| | {heads} |
| --- |{" --- |" * len(columns)}
{chr(10).join(rows)}

![Pictures above their reconstructions](images/reconstructions.png)

## Limits

The encoder knows only the pictures of one generator. Anything that the generator cannot render is
lost. A single pass gives an approximate reconstruction; where that is not enough, refine the
latent. Ask people before you edit pictures of them.
"""


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


if __name__ == "__main__":
    run(main, Config, __doc__)
