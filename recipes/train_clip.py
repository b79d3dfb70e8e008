"""Train the small CLIP for the drawn portraits: an image encoder, a text encoder and a tokenizer.

    python recipes/render_portraits.py --output_dir runs/portraits
    accelerate launch recipes/train_clip.py --cache runs/portraits --output_dir runs/clip

To make it understand samples of the generator too, continue with a generator:

    accelerate launch recipes/train_clip.py --cache runs/portraits --output_dir runs/clip-2 \\
        --init_from runs/clip --generator runs/generator --max_train_steps 1500

An interrupted run is continued with --resume_from_checkpoint latest. The folders `clip/`,
`tokenizer/` and `image_processor/` in the output folder are ready for a pipeline. They are updated
every --sample_steps steps. At the end, `metrics.json` holds the zero-shot accuracy and the
collinearity per attribute.

A caption is usually true of several pictures in its batch ("a smiling face"). The attributes tell
of which ones. Therefore the loss covers all pairs of a caption and a picture, with the exact truth
as target (the sigmoid loss of SigLIP, Zhai et al. 2023, arXiv 2303.15343, has paired targets). Half
of the captions are wrong about one attribute of their picture. Because methods will optimize
against this model, some of the pictures are unnatural, and no caption of a portrait is true of
them.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from command_line import run
from network import log_line, pictures_of, unseen_portraits
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTokenizer

from stylegan_hub.metrics.collinearity import Collinearity, collinearity
from stylegan_hub.metrics.zero_shot import value_embeddings, zero_shot_accuracy
from stylegan_hub.models.clip import (
    build_clip,
    build_image_processor,
    encode_image,
    preprocess,
    tokenize,
    train_tokenizer,
)
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.optimizers import Muon
from stylegan_hub.portraits.attributes import ATTRIBUTES, CHARACTERS, Portraits, applicable, sample
from stylegan_hub.portraits.augment import augment, cutout, sometimes
from stylegan_hub.portraits.captions import (
    STRANGE_TEXTS,
    Caption,
    captions,
    contradiction,
    describe,
    label_words,
    truth,
    vocabulary_texts,
    zero_shot_texts,
)
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.portraits.distort import distort
from stylegan_hub.portraits.factors import FACTORS, factor_matrix
from stylegan_hub.portraits.paired import portraits_of_z
from stylegan_hub.portraits.renderer import render
from stylegan_hub.training import NetworkTraining, TrainingConfig

# Normalization of our own CLIP: its input is the picture in [-1, 1].
MEAN = STD = (0.5, 0.5, 0.5)


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings of the data, the model and its loss."""

    cache: Path
    """Folder made by recipes/render_portraits.py."""
    init_from: Path | None = None
    """Output folder of an earlier run to start from."""
    generator: Path | None = None
    """Output folder of recipes/train_generator.py, whose samples are also used for training."""
    num_portraits: int = 40_000
    """Maximum number of pictures in the cache to train on."""
    num_generated: int = 6000
    """Number of samples that are rendered at the start."""
    generated_share: float = 0.3
    """Share of samples in a batch, if a generator is given."""
    distorted_share: float = 0.12
    """Share of unnatural pictures in a batch."""
    head_weight: float = 0.5
    """Weight of the auxiliary heads that predict the labels; they are discarded afterwards."""
    image_size: int = 64
    """Side of the image encoder's input in pixels."""
    patch_size: int = 8
    """Side of a patch in pixels."""
    vision_width: int = 160
    """Channels of the image encoder."""
    vision_layers: int = 4
    """Layers of the image encoder."""
    text_width: int = 128
    """Channels of the text encoder."""
    text_layers: int = 2
    """Layers of the text encoder."""
    embedding_dim: int = 128
    """Size of the embeddings."""
    vocab_size: int = 1600
    """Maximum number of tokens in the vocabulary."""
    context_length: int = 64
    """Maximum length of a text in tokens."""
    train_batch_size: int = 48
    learning_rate: float = 2e-3
    lr_warmup_steps: int = 50
    max_train_steps: int = 4000
    checkpointing_steps: int = 250
    sample_steps: int = 500


@dataclass(frozen=True)
class Pool:
    """Pictures at the model's input size, uint8 `[n, 3, size, size]`, and their portraits."""

    pictures: Tensor
    portraits: Portraits

    def take(self, indices: Tensor) -> tuple[Tensor, Portraits]:
        """Chosen pictures as floats in [-1, 1], and their portraits."""
        return self.pictures[indices].float() / 127.5 - 1, self.portraits[indices]


class Objective(nn.Module):
    """Parameters of the loss besides the model: an offset, and heads that predict attributes.

    The heads predict the labels and the factors of the renderer. One head reads the embedding, one
    the class token, and one all patches at their places. The last one trains the patches long
    before the class token has learned which of them matter.
    """

    def __init__(self, vision_width: int, embedding_dim: int, patches: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.tensor(-3.0))
        self.sizes = [len(values) for values in ATTRIBUTES.values()]
        count = sum(self.sizes) + len(FACTORS)
        self.from_embedding = nn.Linear(embedding_dim, count)
        self.from_class_token = nn.Linear(vision_width, count)
        self.from_patches = nn.Sequential(
            nn.LayerNorm(vision_width),
            nn.Linear(vision_width, 16),
            nn.Flatten(),
            nn.Linear(16 * patches, 192),
            nn.LayerNorm(192),
            nn.SiLU(),
            nn.Linear(192, count),
        )
        table = factor_matrix(sample(range(4000)))
        self.register_buffer("factor_mean", table.mean(0))
        self.register_buffer("factor_std", table.std(0).clamp_min(1e-3))

    def head_loss(
        self,
        embedding: Tensor,
        tokens: Tensor,
        pooled: Tensor,
        portraits: Portraits,
        natural: Tensor,
    ) -> Tensor:
        """Mean cross-entropy of the visible labels, plus the error of the factors."""
        shown = applicable(portraits.labels)
        mean, std = self.get_buffer("factor_mean"), self.get_buffer("factor_std")
        measures = (factor_matrix(portraits).to(mean) - mean) / std
        total = embedding.new_zeros(())
        for scores in (
            self.from_embedding(embedding),
            self.from_class_token(pooled),
            self.from_patches(tokens[:, 1:]),
        ):
            named, measured = scores.split([sum(self.sizes), len(FACTORS)], 1)
            for name, logits in zip(ATTRIBUTES, named.split(self.sizes, 1), strict=True):
                target = portraits.labels[name].to(logits.device)
                rows = shown[name].to(logits.device) & natural
                losses = F.cross_entropy(logits, target, reduction="none")
                total = total + (losses * rows).sum() / rows.sum().clamp_min(1) / len(self.sizes)
            errors = F.smooth_l1_loss(measured, measures, reduction="none").mean(1)
            total = total + 2 * (errors * natural).sum() / natural.sum().clamp_min(1)
        return total / 3


def main(config: Config) -> None:
    torch.manual_seed(config.seed)
    model, tokenizer = build(config)
    patches = (config.image_size // config.patch_size) ** 2
    objective = Objective(config.vision_width, config.embedding_dim, patches)
    models: dict[str, nn.Module] = {"clip": model, "objective": objective}
    optimizer = optimizer_of(models, config.learning_rate)
    training = NetworkTraining(
        config, "clip", model, optimizer, beside={"objective": objective}, half_life=10_000
    )
    device = training.accelerator.device
    rendered = read_renders(config)
    generated = render_samples(config, device) if config.generator is not None else None

    def batch(step: int, micro: int) -> tuple[Tensor, Portraits]:
        """Augmented pictures `[n, 3, size, size]` and their portraits."""
        generator = training.generator(step, 2 * micro)
        indices = training.indices(step, len(rendered.portraits), 2 * micro)
        pictures, portraits = rendered.take(indices)
        if generated is not None:
            count = round(config.generated_share * len(indices))
            chosen = torch.randint(config.num_generated, (count,), generator=generator)
            samples, sampled = generated.take(chosen)
            pictures = torch.cat([samples, pictures[count:]])
            portraits = concatenate(sampled, portraits[count:])
        return sometimes(cutout, augment(pictures, generator), generator, 0.1), portraits

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        generator = training.generator(step, 2 * micro + 1)
        pictures, portraits = batch(step, micro)
        n = len(portraits)
        strange = torch.rand(n, generator=generator) < config.distorted_share
        if strange.any():
            pictures[strange] = distort(pictures[strange], generator)
        pictures = pictures.to(device)
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        said, contradicted = write_captions(portraits, rng)
        texts = [*said, *contradicted]
        names = rng.sample(STRANGE_TEXTS, 4)
        true = truth(texts, portraits) & ~strange
        true = torch.cat([true, strange.expand(len(names), n)]).to(device).float()
        # The two groups are tokenized separately, so that short captions are padded less.
        tokens = [
            tokenize(tokenizer, [caption.text for caption in said]).to(device),
            tokenize(tokenizer, [*(caption.text for caption in contradicted), *names]).to(device),
        ]
        seen = model.vision_model(pixel_values=pictures)
        projected = model.visual_projection(seen.pooler_output)
        words = torch.cat([model.get_text_features(row).pooler_output for row in tokens])
        cosines = F.normalize(words.float(), dim=1) @ F.normalize(projected.float(), dim=1).T
        logits = model.logit_scale.exp() * cosines + objective.bias
        pairs = F.binary_cross_entropy_with_logits(logits, true)
        heads = objective.head_loss(
            projected.float(),
            seen.last_hidden_state.float(),
            seen.pooler_output.float(),
            portraits,
            ~strange.to(device),
        )
        return {"loss": 4 * pairs + config.head_weight * heads, "pairs": pairs, "heads": heads}

    unseen = unseen_portraits(400)
    renders = pictures_of(unseen, RenderCache(config.cache).resolution)

    @torch.no_grad()
    def on_sample(step: int, folder: Path) -> None:
        export(config.output_dir, training.average, tokenizer, config.image_size)
        accuracy = accuracy_on(training.average, tokenizer, renders, unseen)
        line = {"mean": sum(accuracy.values()) / len(accuracy), **accuracy}
        rounded = {name: round(value, 3) for name, value in line.items()}
        log_line(config.output_dir / "zero_shot.jsonl", step, rounded)

    if training.learn(losses, on_sample, max_grad_norm=1.0):
        export(config.output_dir, training.average, tokenizer, config.image_size)
        report = measure(training.average, tokenizer, renders, unseen)
        if generated is not None:
            report["zero_shot_generated"] = accuracy_on(
                training.average, tokenizer, *generated.take(torch.arange(400))
            )
        (config.output_dir / "metrics.json").write_text(json.dumps(report, indent=2) + "\n")


def build(config: Config) -> tuple[CLIPModel, CLIPTokenizer]:
    """A new model and tokenizer, or those of an earlier run."""
    if config.init_from is not None:
        return (
            # Bundled weights are stored in half precision; training needs full precision.
            CLIPModel.from_pretrained(config.init_from / "clip", dtype=torch.float32).train(),
            CLIPTokenizer.from_pretrained(config.init_from / "tokenizer"),
        )
    texts = [text for group in captions(sample(range(2000)), range(2000), 4) for text in group]
    # Rare words are repeated, so that each becomes one token.
    texts += vocabulary_texts() * 20
    tokenizer = train_tokenizer(
        texts, vocab_size=config.vocab_size, context_length=config.context_length
    )
    model = build_clip(
        tokenizer,
        image_size=config.image_size,
        patch_size=config.patch_size,
        vision_width=config.vision_width,
        vision_layers=config.vision_layers,
        text_width=config.text_width,
        text_layers=config.text_layers,
        embedding_dim=config.embedding_dim,
    )
    return model, tokenizer


def optimizer_of(models: dict[str, nn.Module], learning_rate: float) -> Muon:
    """Muon for the matrices inside the two encoders; AdamW for embeddings, heads and the rest."""
    matrices, others = [], []
    for module in models.values():
        for name, parameter in module.named_parameters():
            hidden = parameter.ndim == 2 and ("encoder." in name or "_projection." in name)
            (matrices if hidden else others).append(parameter)
    return Muon(matrices, others, learning_rate)


def write_captions(portraits: Portraits, rng: random.Random) -> tuple[list[Caption], list[Caption]]:
    """For each portrait, a caption that is true of it and one that is wrong about one attribute."""
    words = label_words(portraits)
    names = [CHARACTERS[i] if i >= 0 else None for i in portraits.character.tolist()]
    said = [
        describe(labels, rng, character=name, with_requests=True)
        for labels, name in zip(words, names, strict=True)
    ]
    return said, [contradiction(labels, rng, with_requests=True) for labels in words]


def read_renders(config: Config) -> Pool:
    """The cache at the size of the model's input.

    Resizing all pictures once saves a sixth of the time of every step.
    """
    cache = RenderCache(config.cache)
    indices = torch.arange(min(config.num_portraits, len(cache)))
    pictures = [shrink(cache.images(part), config.image_size) for part in indices.split(500)]
    return Pool(torch.cat(pictures), cache.portraits(indices))


@torch.no_grad()
def render_samples(config: Config, device: torch.device) -> Pool:
    """Samples of the generator, and the portraits that their z stands for."""
    assert config.generator is not None
    network = StyleGAN2Generator.from_pretrained(config.generator / "generator").to(device)
    generator = torch.Generator().manual_seed(config.seed)
    z = torch.randn(config.num_generated, network.config.z_dim, generator=generator)
    pictures = []
    for index, rows in enumerate(z.split(32)):
        # Half of the samples are truncated, because users and methods see truncated ones.
        ws = network.mapping(rows.to(device), truncation_psi=1.0 if index % 2 else 0.7)
        samples = network.synthesis(ws, noise_mode="const").clamp(-1, 1)
        pictures.append(shrink(((samples + 1) * 127.5).round().cpu(), config.image_size))
    return Pool(torch.cat(pictures), portraits_of_z(z))


def shrink(stored: Tensor, size: int) -> Tensor:
    """Pictures with values 0 to 255, at the size of the model's input, uint8."""
    resized = preprocess(stored.float() / 127.5 - 1, size, MEAN, STD)
    return ((resized + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def concatenate(first: Portraits, second: Portraits) -> Portraits:
    """The portraits of both batches."""
    return Portraits(
        torch.cat([first.gaussians, second.gaussians]),
        {name: torch.cat([first.labels[name], second.labels[name]]) for name in ATTRIBUTES},
        torch.cat([first.character, second.character]),
        torch.cat([first.identity, second.identity]),
    )


def export(folder: Path, model: CLIPModel, tokenizer: CLIPTokenizer, image_size: int) -> None:
    """Write the three parts that a pipeline folder needs."""
    model.save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "tokenizer")
    build_image_processor(image_size).save_pretrained(folder / "image_processor")


@torch.no_grad()
def embed(model: CLIPModel, images: Tensor) -> Tensor:
    """Embeddings of pictures in [-1, 1]; the result is on the CPU."""
    size = model.config.vision_config.image_size
    rows = [
        encode_image(model, preprocess(part.to(model.device), size, MEAN, STD)).cpu()
        for part in images.split(64)
    ]
    return torch.cat(rows)


def accuracy_on(
    model: CLIPModel, tokenizer: CLIPTokenizer, images: Tensor, portraits: Portraits
) -> dict[str, float]:
    """Balanced zero-shot accuracy per attribute, on pictures of known portraits."""
    values = {k: v.cpu() for k, v in value_embeddings(model, tokenizer, zero_shot_texts()).items()}
    return zero_shot_accuracy(
        embed(model, images), values, portraits.labels, applicable(portraits.labels)
    )


@torch.no_grad()
def measure_collinearity(
    model: CLIPModel, tokenizer: CLIPTokenizer, portraits: Portraits, resolution: int
) -> Collinearity:
    """Collinearity of text changes and image changes, for the same portraits with other values."""
    values_of = value_embeddings(model, tokenizer, zero_shot_texts())
    names, said, seen = [], [], []
    for attribute, (before, *others) in ATTRIBUTES.items():
        start = embed(model, render(portraits.with_labels(**{attribute: before}), resolution))
        for index, after in enumerate(others, start=1):
            changed = portraits.with_labels(**{attribute: after})
            names.append(f"{attribute}: {before} to {after}")
            seen.append(embed(model, render(changed, resolution)) - start)
            said.append(values_of[attribute][index] - values_of[attribute][0])
    return collinearity(names, torch.stack(said).cpu(), seen)


def measure(
    model: CLIPModel, tokenizer: CLIPTokenizer, renders: Tensor, portraits: Portraits
) -> dict[str, object]:
    """The contents of metrics.json, measured on unseen renders."""
    zero_shot = accuracy_on(model, tokenizer, renders, portraits)
    some = portraits[torch.nonzero(portraits.labels["hair_style"] > 0)[:24, 0]]
    lines = measure_collinearity(model, tokenizer, some, renders.shape[-1])
    own, others, ranks = lines.own(), lines.others(), lines.ranks()
    return {
        "num_images": len(portraits),
        "first_seed": UNSEEN_SEED,
        "zero_shot_mean": sum(zero_shot.values()) / len(zero_shot),
        "zero_shot": zero_shot,
        "collinearity_own_mean": sum(own.values()) / len(own),
        "collinearity_others_mean": sum(others.values()) / len(others),
        "collinearity_first": sum(rank == 1 for rank in ranks.values()) / len(ranks),
        "collinearity": {
            name: {"own": own[name], "others": others[name], "rank": ranks[name]} for name in own
        },
    }


if __name__ == "__main__":
    run(main, Config, __doc__)
