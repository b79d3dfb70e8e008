"""Train the captioner, which describes pictures. Text-to-face uses it as its reconstruction module.

    python recipes/render_portraits.py --output_dir runs/portraits
    accelerate launch recipes/train_captioner.py --cache runs/portraits \\
        --output_dir runs/captioner --mixed_precision bf16

To train it on files at the sizes of the text-to-face paper, give a folder of pictures with captions
in the layout of Multi-Modal CelebA-HQ (which recipes/export_portraits.py also writes):

    accelerate launch recipes/train_captioner.py --data data/MM-CelebA-HQ --paper \\
        --output_dir runs/captioner

An interrupted run is continued with --resume_from_checkpoint latest. At the end, the folder
`captioner/` in the output folder holds the averaged network, its measurements on unseen pictures
(metrics.json) and a card (README.md).
"""

from __future__ import annotations

import copy
import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from command_line import run
from network import pictures_of, unseen_portraits, write_network
from torch import Tensor, nn
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.celeba_hq import CelebAHQ
from stylegan_hub.metrics.balanced_accuracy import balanced_accuracy
from stylegan_hub.models.captioner import PAPER, Captioner, build_vocabulary
from stylegan_hub.names import resolve
from stylegan_hub.optimizers import Muon
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES, sample
from stylegan_hub.portraits.augment import augment
from stylegan_hub.portraits.captioned import CaptionedPortraits
from stylegan_hub.portraits.captions import captions, describe, label_words, vocabulary_texts
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.training import NetworkTraining, TrainingConfig, training_device

PAPER_RESOLUTION = 224
_SHOWN = 8  # number of pictures with captions on a sample sheet and in the card


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings of the data, the network, its loss and its measurement."""

    cache: Path | None = None
    """Folder made by recipes/render_portraits.py. Alternative: --data."""
    data: Path | None = None
    """Folder in the layout of Multi-Modal CelebA-HQ, whose training split is used."""
    pictures: int | None = None
    """Number of pictures in the cache to train on. None: all."""
    captions_per_image: int = 6
    """Number of captions for each picture in a batch."""
    augmented: bool = True
    """Change the pictures at random, so that the captioner also understands blurred or tinted
    ones."""
    attention_lambda: float = 0.02
    """Weight of the doubly stochastic attention term. In the text-to-face paper it is 1, with 196
    places and texts of 50 words; a text of 10 words cannot attend to every place."""
    distillation_lambda: float = 20.0
    """Weight of the auxiliary heads that predict the embeddings of the pipeline's CLIP. They
    replace the encoder trained on ImageNet. 0: no heads."""
    paper: bool = False
    """Use the sizes of the text-to-face paper instead of small ones. The paper also has
    --train_batch_size 12."""
    vocabulary_size: int = 30_000
    """Maximum number of words."""
    unseen: int = 400
    """Number of unseen pictures on which the captioner is measured."""
    pipeline: str | None = "portraits"
    """Bundled name, folder or Hub id of the pipeline whose CLIP the captioner learns from. With
    rendered portraits, the captioner is also measured on samples of this pipeline. None: neither
    is done."""
    reader: str = "attribute-reader"
    """Bundled name or folder of the attribute reader, whose answers on samples serve as the
    truth."""

    train_batch_size: int = 16
    learning_rate: float = 2e-3
    max_train_steps: int = 1500
    lr_warmup_steps: int = 50
    checkpointing_steps: int = 100
    sample_steps: int = 250


class Distillation(nn.Module):
    """Heads that predict CLIP's embedding from the encoder's features; discarded afterwards.

    A caption mentions only a small part of what a picture shows, and the paper's encoder was
    pretrained on ImageNet. Here the encoder learns from a CLIP that knows the pictures. One head
    reads each place separately, so that a place has a meaning by itself. The other head reads all
    places together, for the relations between them.
    """

    def __init__(self, captioner: Captioner, clip_dim: int) -> None:
        super().__init__()
        width = captioner.config["feature_dim"]
        self.of_place = nn.Linear(width, clip_dim)
        self.of_picture = nn.Sequential(
            nn.Linear(width, 16), nn.Flatten(), nn.Linear(16 * captioner.places, 192),
            nn.LayerNorm(192), nn.SiLU(), nn.Linear(192, clip_dim),
        )  # fmt: skip

    def forward(self, features: Tensor, seen: Tensor) -> Tensor:
        """Mean cosine distance to CLIP's embeddings `[n, d]`."""
        features = features.float()
        told = (self.of_place(features).mean(1), self.of_picture(features))
        return torch.stack([1 - F.cosine_similarity(row, seen).mean() for row in told]).mean()


def main(config: Config) -> None:
    data, unseen = read_data(config)
    captioner = new_captioner(config, data)
    pipe = (
        None
        if config.pipeline is None
        else StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
    )
    heads = None
    if pipe is not None and config.distillation_lambda:
        heads = Distillation(captioner, pipe.clip.config.projection_dim)
    training = NetworkTraining(
        config,
        "captioner",
        captioner,
        optimizer_of(captioner, heads, config.learning_rate),
        beside={} if heads is None else {"heads": heads},
        half_life=100 * config.train_batch_size,
    )
    device = training.accelerator.device
    if pipe is not None:
        pipe.to(device)

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        chosen = training.indices(step, len(data), micro)
        generator = training.generator(step, micro)
        images = image_files.from_uint8(data.images(chosen))
        changed = augment(images, generator) if config.augmented else images
        rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
        texts = [
            rng.sample(group, min(config.captions_per_image, len(group)))
            for group in data.texts(chosen)
        ]
        tokens = captioner.tokenize([text for group in texts for text in group])
        repeats = torch.tensor([len(group) for group in texts], device=device)
        features = captioner.encode(changed.to(device, memory_format=torch.channels_last))
        found = captioner(features.repeat_interleave(repeats, 0), tokens)
        parts = {"words": found.words.mean(), "attention": found.attention.mean()}
        loss = parts["words"] + config.attention_lambda * parts["attention"]
        if pipe is not None and heads is not None:
            with torch.no_grad():
                seen = pipe.encode_image(images.to(device)).float()
            parts["distillation"] = heads(features, seen)
            loss = loss + config.distillation_lambda * parts["distillation"]
        return {"loss": loss, **parts}

    def on_sample(step: int, folder: Path) -> None:
        images, texts = unseen[0][:_SHOWN], unseen[1][:_SHOWN]
        image_files.save(image_files.grid(images, columns=_SHOWN), folder / "pictures.png")
        told = training.average.caption(images.to(device))
        lines = [f"{said[0]}\n    told: {text}" for said, text in zip(texts, told, strict=True)]
        (folder / f"step-{step:06}.txt").write_text("\n".join(lines) + "\n")

    if training.learn(losses, on_sample, max_grad_norm=10.0):
        export(training.average, config, unseen, pipe)


Unseen = tuple[Tensor, list[list[str]]]


def read_data(config: Config) -> tuple[CelebAHQ | CaptionedPortraits, Unseen]:
    """The training data, and unseen pictures `[n, 3, h, w]` with their captions."""
    if (config.cache is None) == (config.data is None):
        raise SystemExit("Give --cache (rendered portraits) or --data (a folder of files).")
    if config.data is not None:
        resolution = PAPER_RESOLUTION if config.paper else 128
        test = CelebAHQ(config.data, "test", resolution)
        shown = range(min(config.unseen, len(test)))
        pictures = image_files.from_uint8(test.images(shown))
        return CelebAHQ(config.data, "train", resolution), (pictures, test.texts(shown))
    assert config.cache is not None
    portraits = unseen_portraits(config.unseen)
    seeds = range(UNSEEN_SEED, UNSEEN_SEED + config.unseen)
    return CaptionedPortraits(config.cache, config.pictures), (
        pictures_of(portraits, 128),
        captions(portraits, seeds, 2),
    )


def new_captioner(config: Config, data: CelebAHQ | CaptionedPortraits) -> Captioner:
    """An untrained captioner for the words of the data; the same seed gives the same weights."""
    some = range(0, len(data), max(1, len(data) // 3000))
    texts = [text for group in data.texts(some) for text in group]
    if isinstance(data, CaptionedPortraits):
        texts += vocabulary_texts()
    torch.manual_seed(config.seed)
    captioner = Captioner(
        build_vocabulary(texts, config.vocabulary_size), **(PAPER if config.paper else {})
    )
    return captioner.to(memory_format=torch.channels_last)  # faster on a CPU


def optimizer_of(captioner: Captioner, heads: Distillation | None, learning_rate: float) -> Muon:
    """Muon for the weights between features; AdamW for the first and last layers and the rest."""
    ends = {
        id(parameter)
        for module in (captioner.embedding, captioner.word, captioner.encoder[1])
        for parameter in module.parameters()
    }
    ends |= {id(captioner.position), id(captioner.attend_score.weight)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = [] if heads is None else list(heads.parameters())
    for parameter in captioner.parameters():
        hidden = parameter.ndim >= 2 and id(parameter) not in ends
        (matrices if hidden else others).append(parameter)
    return Muon(matrices, others, learning_rate)


def export(
    captioner: Captioner, config: Config, unseen: Unseen, pipe: StyleEditPipeline | None
) -> None:
    """Write the folder `captioner/` with network (half precision), metrics.json, pictures, card."""
    captioner.to(memory_format=torch.contiguous_format).half().float()
    metrics = measure(captioner, config, unseen, pipe)
    shown = [
        {"said": said[0], "told": told}
        for said, told in zip(
            unseen[1][:_SHOWN],
            captioner.caption(unseen[0][:_SHOWN].to(captioner.device)),
            strict=True,
        )
    ]
    sheet = image_files.grid(unseen[0][:_SHOWN], columns=_SHOWN)
    # Pictures from files may not be free to publish.
    pictures = {"unseen.png": sheet} if config.data is None else {}
    print(json.dumps(metrics, indent=2))
    text = card(captioner, metrics, shown, config)
    half = copy.deepcopy(captioner).half()
    write_network(config.output_dir / "captioner", half, metrics, text, pictures)


@torch.no_grad()
def measure(
    captioner: Captioner, config: Config, unseen: Unseen, pipe: StyleEditPipeline | None
) -> dict[str, Any]:
    """Measure how well it describes unseen pictures, and their attributes if they are known."""
    images, texts = unseen
    features = encode(captioner, images)
    tokens = captioner.tokenize([group[0] for group in texts])
    count = (tokens > 0).sum(1) - 1
    right = captioner(features, tokens).words
    wrong = captioner(features.roll(1, 0), tokens).words
    metrics: dict[str, Any] = {
        "images": len(images),
        "nats_per_word": float(right.sum() / count.sum()),
        "nats_per_text": float(right.mean()),
        "nats_per_text_of_another_picture": float(wrong.mean()),
    }
    if config.data is not None:
        return metrics
    metrics["first_seed"] = UNSEEN_SEED
    portraits = unseen_portraits(len(images))
    metrics["accuracy_on_renders"] = balanced_accuracy(
        read_attributes(captioner, features), portraits.labels
    )
    if pipe is not None:
        latents = pipe.sample(range(UNSEEN_SEED, UNSEEN_SEED + len(images)), truncation_psi=1.0)
        starts = range(0, len(latents), 16)
        samples = torch.cat([pipe.synthesize(latents[i : i + 16]) for i in starts])
        reader = (
            AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
        )
        told = read_attributes(captioner, encode(captioner, samples.clamp(-1, 1)))
        metrics["accuracy_on_samples"] = balanced_accuracy(told, reader.read(samples).labels)
    return metrics


def encode(captioner: Captioner, images: Tensor) -> Tensor:
    """Features of many pictures, computed a few at a time."""
    return torch.cat([captioner.encode(part.to(captioner.device)) for part in images.split(32)])


@torch.no_grad()
def read_attributes(captioner: Captioner, features: Tensor) -> dict[str, Tensor]:
    """The attributes of pictures, according to the texts that are most probable for them.

    For every value, two texts that state only this value are scored. Texts of frequent words are
    more probable for every picture, so the mean score over the pictures is subtracted.
    """
    rng = random.Random(0)
    (base,) = label_words(sample([UNSEEN_SEED]))
    base["hair_style"] = "short"
    labels = {}
    for attribute, values in tqdm(ATTRIBUTES.items(), desc="reading attributes", leave=False):
        columns = []
        for value in values:
            texts: list[str] = []
            while len(texts) < 2:
                said = describe({**base, attribute: value}, rng, mention=[attribute])
                if said.facts == {attribute: frozenset({value})}:
                    texts.append(said.text)
                elif attribute == "hair_color" and said.facts[attribute] == frozenset({value}):
                    texts.append(said.text)
            scores = [
                -captioner(features, tokens.expand(len(features), -1)).words
                for tokens in captioner.tokenize(texts)[:, None]
            ]
            columns.append(torch.stack(scores).mean(0))
        gains = torch.stack(columns, 1)
        labels[attribute] = (gains - gains.mean(0)).argmax(1).cpu()
    return labels


def card(
    captioner: Captioner, metrics: dict[str, Any], shown: list[dict[str, str]], config: Config
) -> str:
    """The text of the card: purpose, training, quality and limits."""
    source = "drawn portraits" if config.data is None else config.data.name
    pictures = config.max_train_steps * config.train_batch_size
    examples = "\n".join(f"| {row['said']} | {row['told']} |" for row in shown)
    distilled = ""
    if config.pipeline is not None and config.distillation_lambda:
        distilled = (
            f", plus {config.distillation_lambda:g} times the cosine distance between CLIP's "
            "embedding of the picture and the embeddings that auxiliary heads predict from the "
            "features"
        )
    strip = "" if config.data is not None else "![The pictures](images/unseen.png)\n\n"
    table = ""
    if "accuracy_on_renders" in metrics:
        sets = ["accuracy_on_renders", "accuracy_on_samples"]
        sets = [name for name in sets if name in metrics]
        means = {name: sum(metrics[name].values()) / len(metrics[name]) for name in sets}
        rows = [
            f"| {attribute.replace('_', ' ')} | {1 / len(values):.2f} | "
            + " | ".join(
                f"{metrics[name][attribute]:.2f}" if attribute in metrics[name] else ""
                for name in sets
            )
            + " |"
            for attribute, values in ATTRIBUTES.items()
        ]
        titles = " | ".join(name.removeprefix("accuracy_on_") for name in sets)
        table = f"""
The captioner can also recognize attributes. For each value, two texts that state it are scored. The
answer is the value whose texts gain most over the average picture. The table shows the balanced
accuracy; on samples of the generator, the answers of the attribute reader serve as the truth.

| attribute | chance | {titles} |
| --- | --- | {"--- | " * len(sets)}
{chr(10).join(rows)}
| **mean** | | {" | ".join(f"**{means[name]:.2f}**" for name in sets)} |
"""
    return f"""---
library_name: stylegan-hub
pipeline_tag: image-to-text
license: apache-2.0
tags: [stylegan_hub, captioner, {"portraits" if config.data is None else "faces"}]
---

# Captioner: {source}

The captioner writes a text about a picture, word by word, and computes how probable a text is for a
picture. It is the text reconstruction module in the training of text-to-face. It consists of a
convolutional encoder and an LSTM with soft attention (Xu et al. 2015, "Show, Attend and Tell"). It
has {captioner.num_parameters() / 1e6:.1f} million parameters and knows
{len(captioner.config["vocabulary"])} words.

```python
from stylegan_hub.models.captioner import Captioner

captioner = Captioner.from_pretrained("path/to/this/folder")
captioner.caption(images)  # images [n, 3, h, w] in [-1, 1]
```

## Training

`recipes/train_captioner.py` trained it from scratch in {config.max_train_steps:,} steps, on
{pictures:,} pictures ({source}) with up to {config.captions_per_image} captions each. The loss is
the negative log-likelihood of the words plus {config.attention_lambda:g} times the doubly
stochastic attention term{distilled}. The optimizer was Muon and AdamW with learning rate
{config.learning_rate:g}, schedule {config.lr_scheduler}, precision {config.mixed_precision} and
seed {config.seed}. In the text-to-face paper, the attention term has weight 1 and the encoder was
pretrained on ImageNet.

## What was measured

On {metrics["images"]} unseen pictures, the negative log-likelihood is
{metrics["nats_per_word"]:.3f} nats per word and {metrics["nats_per_text"]:.2f} per text. It is
{metrics["nats_per_text_of_another_picture"]:.2f} per text if the picture is replaced by another.
{table}
{strip}| caption | text of the captioner |
| --- | --- |
{examples}

## Limits

The captioner knows only the pictures and the words on which it was trained. Its text is one of many
true texts, and usually a short one. It is for learning and research; do not use it to describe
people.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
