"""Train the critic, which judges whether an edited picture is clean.

    python recipes/train_critic.py --pipeline cards/portraits --output_dir runs/critic

Clean pictures are samples of the pipeline and rendered portraits. Spoiled pictures have faults that
edits can cause (stylegan_hub/portraits/spoil.py). The 1,500 steps take about half an hour on one
CPU core. An interrupted run is continued with --resume_from_checkpoint latest. At the end, the
folder `critic/` in the output folder holds the averaged network, its accuracy on unseen samples
(metrics.json), a sheet of spoiled pictures and a card (README.md).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from command_line import run
from network import check_same_run, log_line, pictures_of, write_network
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.clean import Critic, clean_limit, clean_share
from stylegan_hub.names import public_name
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.augment import noise, random_affine, sometimes
from stylegan_hub.portraits.spoil import is_visible, spoil, spoiled_latents, unfinished
from stylegan_hub.training import NetworkTraining, TrainingConfig, training_device

UNSEEN_SEED = 16_000_000
_AT_ONCE = 16


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings for training and measuring the critic."""

    pipeline: str = "portraits"
    """Name or folder of the pipeline whose edits the critic judges; it needs a parser."""
    samples: int = 6000
    """Number of samples that are rendered at the start; each of them is also spoiled."""
    renders: int = 2000
    """Number of rendered portraits among the clean pictures."""
    unseen: int = 512
    """Number of unseen samples on which the critic is measured."""
    learning_rate: float = 1e-3
    train_batch_size: int = 32
    max_train_steps: int = 1500
    checkpointing_steps: int = 100
    sample_steps: int = 250


def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
    if pipe.parser is None:
        raise SystemExit(f"{config.pipeline} has no parser. Run recipes/train_parser.py first.")
    generator = {"generator": pipe.base_model.fingerprint}
    check_same_run(config.output_dir / "pictures.json", generator)
    torch.manual_seed(config.seed)
    critic = Critic().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(critic.parameters(), lr=config.learning_rate, weight_decay=0.02)
    training = NetworkTraining(config, "critic", critic, optimizer)
    device = training.accelerator.device
    clean, bad = pictures_for(pipe, range(config.samples), critic.resolution, config.output_dir)
    renders = pictures_of(sample(range(config.renders)), critic.resolution)
    clean = torch.cat([clean, image_files.to_uint8(renders)])

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        generator = training.generator(step, micro)
        half = config.train_batch_size // 2
        chosen = [torch.randint(len(many), (half,), generator=generator) for many in (clean, bad)]
        pictures = torch.cat([clean[chosen[0]], bad[chosen[1]]]).float() / 127.5 - 1
        truth = torch.cat([torch.ones(half), torch.zeros(half)]).to(device)
        # No blur and no other colors: softness and color are what many faults consist of.
        moved = sometimes(noise, random_affine(pictures, generator), generator, 0.3)
        scores = critic(moved.to(device))
        return {"loss": F.binary_cross_entropy_with_logits(scores, truth)}

    unseen = range(UNSEEN_SEED, UNSEEN_SEED + config.unseen)
    watched = pictures_for(pipe, unseen, critic.resolution, config.output_dir)

    def on_sample(step: int, folder: Path) -> None:
        log_line(folder / "seen.jsonl", step, measure(training.average, *watched))

    if training.learn(losses, on_sample):
        metrics = measure(training.average, *watched)
        sheet = image_files.grid(watched[1][:32].float() / 127.5 - 1, columns=8)
        text = card(metrics, training.average.num_parameters(), config)
        pictures = {"spoiled.png": sheet}
        write_network(config.output_dir / "critic", training.average, metrics, text, pictures)


@torch.no_grad()
def pictures_for(
    pipe: StyleEditPipeline, seeds: range, size: int, folder: Path
) -> tuple[Tensor, Tensor]:
    """Samples of these seeds, and spoiled ones, uint8 `[n, 3, size, size]`; kept in the folder.

    A third of the faults are unfinished edits, a third come from latents outside of what the
    generator has learned, and a third are made in the pictures. Pictures whose fault is not visible
    are left out.
    """
    path = folder / f"pictures-{seeds.start}-{len(seeds)}.safetensors"
    if path.is_file():
        kept = load_file(path)
        return kept["clean"], kept["bad"]
    clean, bad = [], []
    for start in range(seeds.start, seeds.stop, _AT_ONCE):
        part = range(start, min(start + _AT_ONCE, seeds.stop))
        generator = torch.Generator().manual_seed(start)
        psi = 0.5 + 0.5 * torch.rand(len(part), 1, 1, generator=generator)
        codes, mean = pipe.sample(part, truncation_psi=1.0).codes, pipe.generator.mapping.w_avg
        faces = Latents(Space.W_PLUS, mean + psi * (codes - mean))
        before = pipe.synthesize(faces)
        kind = (start // _AT_ONCE) % 3
        if kind == 0:
            after = pipe.synthesize(unfinished(pipe, faces, generator))
        elif kind == 1:
            after = pipe.synthesize(spoiled_latents(pipe, faces, generator))
        else:
            masks = one_part(pipe, before, generator)
            after = spoil(before, masks, before.roll(1, 0), generator)
        seen = is_visible(before, after)
        clean.append(small(before, size))
        bad.append(small(after[seen], size))
    found = {"clean": torch.cat(clean), "bad": torch.cat(bad)}
    write_bytes(path, save(found))
    return found["clean"], found["bad"]


def one_part(pipe: StyleEditPipeline, images: Tensor, generator: torch.Generator) -> Tensor:
    """For each picture, the mask of a random part that is not too small, `[n, 1, h, w]`."""
    masks = pipe.parser.masks(images).float()
    large = masks.mean((2, 3)) > 0.01
    chosen = torch.multinomial(large.float() + 1e-6, 1, generator=generator)
    return masks[torch.arange(len(images)), chosen[:, 0]][:, None]


def small(images: Tensor, size: int) -> Tensor:
    """Pictures at the size of the critic's input, uint8."""
    resized = image_files.resize(images, size) if images.shape[-1] != size else images
    return image_files.to_uint8(resized).cpu()


def measure(critic: Critic, clean: Tensor, bad: Tensor) -> dict[str, float]:
    """Measure how well the scores separate clean from spoiled pictures."""
    before, after = (critic.score(many.float() / 127.5 - 1) for many in (clean, bad))
    above = (before[:, None] > after[None]).float().mean()
    return {
        "auc": round(float(above), 4),
        "spoiled_called_clean": round(clean_share(before, after), 4),
        "limit": round(clean_limit(before), 4),
    }


def card(metrics: dict[str, float], parameters: int, config: Config) -> str:
    """The text of the card: purpose, training and reliability."""
    return f"""---
library_name: stylegan-hub
license: apache-2.0
tags: [portraits, critic]
---

# Critic of cleanness for the pipeline `{public_name(config.pipeline)}`

The critic judges whether an edited picture is as clean as unedited ones, that is, free of ghosts,
halos, neon colors and broken features. It has {parameters:,} parameters. No loss and no choice of
settings uses it. In tables and cards, `clean` is the share of edited pictures that score higher
than the worst 5 % of unedited ones.

`recipes/train_critic.py` trained it to tell {config.samples:,} samples and {config.renders:,}
renders from samples that were spoiled on purpose.

| on {config.unseen} unseen samples | |
|---|---|
| probability that a clean picture scores higher than a spoiled one | {metrics["auc"]:.3f} |
| share of spoiled pictures that are called clean | {metrics["spoiled_called_clean"]:.3f} |

```json
{json.dumps(metrics)}
```
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
