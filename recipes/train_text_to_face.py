"""Train text-to-face, a network that turns captions into faces of a frozen generator.

    python recipes/render_portraits.py --output_dir runs/portraits
    accelerate launch recipes/train_captioner.py --cache runs/portraits \\
        --output_dir runs/captioner
    accelerate launch recipes/train_text_to_face.py --cache runs/portraits \\
        --captioner runs/captioner/captioner --output_dir runs/text-to-face --mixed_precision bf16

To train on the captions of a folder in the layout of Multi-Modal CelebA-HQ:

    accelerate launch recipes/train_text_to_face.py --data data/MM-CelebA-HQ --pipeline user/ffhq \\
        --captioner runs/captioner/captioner --output_dir runs/text-to-face

The network learns only from captions; the pictures come from the generator. --reconstruction_lambda
0 omits the text reconstruction (the paper's ablation). --published uses the paper's loss, and
starts from the generator's mapping network without the warm start.

The output folder holds config, weights, metrics.json, pictures and a card.
load_text_to_face("runs/text-to-face") loads the network, and pipe.from_text renders with it.
--push_to_hub and --hub_model_id user/name publish it. An interrupted run is continued with
--resume_from_checkpoint latest; on a CPU, the resulting weights are exactly the same.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import read_tensors, write_tensors
from stylegan_hub.celeba_hq import CelebAHQ
from stylegan_hub.hub import Publishing, write_card
from stylegan_hub.metrics.text_to_face import (
    UnseenCaptions,
    table,
    write_text_to_face_quality,
)
from stylegan_hub.models.captioner import Captioner
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import CHARACTERS, characters
from stylegan_hub.portraits.captioned import CaptionedPortraits
from stylegan_hub.portraits.paired import z_of_portraits
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.text_to_face import (
    PRESETS,
    Objective,
    Pool,
    Settings,
    TextToFace,
    draw_from_text,
    draw_matches,
    draw_pool,
    matching_loss,
    principal_axes,
)
from stylegan_hub.training import NetworkTraining, Training, TrainingConfig, training_device

SHOWN_TEXTS = (
    "a young woman with long red hair and glasses",
    "an old man with a beard and a hat",
    "a smiling person with purple hair",
    "a bald, angry man with green eyes",
    "a surprised face with an afro and freckles",
    "Zuri in front of a yellow wall",
)
SHOWN_SEEDS = 6
_AXES_CAPTIONS = 10_000


@dataclass(frozen=True, kw_only=True)
class Config(Publishing, TrainingConfig):
    """Settings of the data, the network, its loss and its measurement."""

    cache: Path | None = None
    """Folder made by recipes/render_portraits.py, whose captions are used. Alternative: --data."""
    data: Path | None = None
    """Folder in the layout of Multi-Modal CelebA-HQ, whose training split is used."""
    captioner: str | None = "captioner"
    """Bundled name or folder of the captioner; not needed with --reconstruction_lambda 0."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id of the pipeline."""

    hidden: int = 512
    """Width of the two layers after CLIP. 0: a single layer, as in the paper."""
    frame: bool = True
    """Make the Gaussian diagonal in a learned basis; in the paper it is diagonal in z."""
    mapping: Literal["generator", "scratch"] = "generator"
    """Start of the mapping network: the generator's mapping network, or random weights."""
    freeze_mapping: bool = True
    """Do not train the mapping network if it starts as the generator's."""

    published: bool = False
    """Use the paper's loss and network, without a warm start. The paper also has
    --train_batch_size 12 --learning_rate 1e-4 --optimizer sgd --lr_scheduler constant and 500
    epochs."""
    kl_lambda: float | None = None
    """Weight of the KL divergence. None: 1."""
    reconstruction_lambda: float | None = None
    """Weight of the text reconstruction; 0 omits it. None: 5."""
    attention_lambda: float | None = None
    """Weight of the attention term in the text reconstruction. None: 0.1, or 1 with
    --published."""
    clip_lambda: float | None = None
    """Weight of the CLIP loss. None: 4, or 0 with --published."""
    views: int | None = None
    """Number of augmented copies that CLIP sees. None: 1, or 0 with --published."""

    warm_start_samples: int = 16_000
    """Number of samples of the generator that the warm start matches with captions. 0: no warm
    start."""
    warm_start_characters: int = 0
    """Number of samples beside these that show the named characters of the drawn portraits, which
    random samples never show. Only for a generator trained by the paired route."""
    warm_start_captions: int = 40_000
    """Number of captions that the warm start matches with these samples."""
    warm_start_matches: int = 32
    """Number of samples that are matched with a caption in a step."""
    warm_start_steps: int = 2000
    """Number of steps of the warm start; they need no rendering."""
    warm_start_batch_size: int = 128
    """Number of captions in a step of the warm start."""
    warm_start_learning_rate: float = 3e-3
    """Peak learning rate of the warm start."""

    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam, or SGD with momentum 0.9 as in the paper."""
    captions: int = 200
    """Number of unseen captions on which the network is measured at the end. 0: no measurement."""
    seeds: int = 4
    """Number of faces for each of those captions."""
    reader: str = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader that judges."""

    train_batch_size: int = 16
    max_train_steps: int = 1600
    learning_rate: float = 3e-4
    max_grad_norm: float = 4.0
    """Length to which longer gradients are clipped."""
    lr_warmup_steps: int = 20
    checkpointing_steps: int = 50
    sample_steps: int = 100


def main(config: Config) -> None:
    config.check_publishing()
    config.check_output_dir()
    data = read_data(config)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
    settings = settings_of(config)
    captioner = load_captioner(config) if settings.reconstruction_lambda else None
    network = new_network(config, pipe, settings)
    if config.warm_start_samples and not config.published:
        warm_start(network, pipe, data, config)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    training = NetworkTraining(
        config,
        "text_to_face",
        network,
        optimizer_of(config, trained),
        half_life=20 * config.train_batch_size,
    )
    device = training.accelerator.device
    pipe.to(device)
    objective = Objective(pipe, captioner and captioner.to(device), settings)

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        texts = texts_of_step(training, data, step, micro)
        return objective(network, texts, training.generator(step, micro))

    def on_sample(step: int, folder: Path) -> None:
        image_files.save(sheet(pipe, training.average), folder / f"step-{step:06}.png")

    if training.learn(losses, on_sample, max_grad_norm=config.max_grad_norm):
        export(training.average, pipe, config)
        config.publish_if_asked(config.output_dir)


def read_data(config: Config) -> CelebAHQ | CaptionedPortraits:
    """The source of the captions."""
    if (config.cache is None) == (config.data is None):
        raise SystemExit("Give --cache (rendered portraits) or --data (a folder of files).")
    if config.data is not None:
        return CelebAHQ(config.data, "train")
    assert config.cache is not None
    return CaptionedPortraits(config.cache)


def settings_of(config: Config) -> Settings:
    """The weights of the losses: a preset, with the values that options set."""
    names = [field.name for field in dataclasses.fields(Settings)]
    given = {name: getattr(config, name) for name in names}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(PRESETS["published" if config.published else "default"], **changes)


def load_captioner(config: Config) -> Captioner:
    """The captioner, frozen.

    Raises:
        SystemExit: none is given.
    """
    if config.captioner is None:
        raise SystemExit(
            "The text reconstruction needs a captioner. Give --captioner, or omit the "
            "reconstruction with --reconstruction_lambda 0."
        )
    folder = resolve(config.captioner, "model")
    captioner = Captioner.from_pretrained(folder, torch_dtype=torch.float32)
    return captioner.eval().requires_grad_(False)


def new_network(config: Config, pipe: StyleEditPipeline, settings: Settings) -> TextToFace:
    """An untrained network; the same seed gives the same weights."""
    names = (
        "seed", "mapping", "freeze_mapping", "warm_start_samples", "warm_start_characters",
        "warm_start_steps",
        "train_batch_size", "gradient_accumulation_steps", "max_train_steps", "learning_rate",
        "lr_scheduler", "optimizer", "mixed_precision",
    )  # fmt: skip
    source = config.data.name if config.data is not None else "captions of drawn portraits"
    torch.manual_seed(config.seed)
    network = TextToFace.for_pipeline(
        pipe,
        0 if config.published else config.hidden,
        config.frame and not config.published,
        config.mapping,
        training={
            "method": "text_to_face",
            "captions": source,
            **{name: getattr(config, name) for name in names},
            **dataclasses.asdict(settings),
        },
    )
    # The paper trains the mapping network. Here the generator's own one stays frozen, because it
    # keeps every w natural.
    frozen = config.freeze_mapping and config.mapping == "generator" and not config.published
    network.mapping.requires_grad_(not frozen)
    return network


def optimizer_of(config: Config, trained: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=config.learning_rate, momentum=0.9)
    return torch.optim.Adam(trained, lr=config.learning_rate, betas=(0.9, 0.99))


def texts_of_step(
    training: Training, data: CelebAHQ | CaptionedPortraits, step: int, micro: int
) -> list[str]:
    """The captions of a step for this process, one for each chosen picture."""
    chosen = training.indices(step, len(data), micro)
    generator = training.generator(step, micro + training.config.gradient_accumulation_steps)
    rng = random.Random(int(torch.randint(2**62, (1,), generator=generator)))
    return [rng.choice(group) for group in data.texts(chosen)]


def warm_start(
    network: TextToFace,
    pipe: StyleEditPipeline,
    data: CelebAHQ | CaptionedPortraits,
    config: Config,
) -> None:
    """Fit the Gaussians to the matches that CLIP finds in a pool of samples (see `text_to_face`).

    The warm start is a run of its own in the folder `warm-start/`, so that it can be continued.
    """
    folder = config.output_dir / "warm-start"
    warm_config = TrainingConfig(
        output_dir=folder,
        seed=config.seed,
        train_batch_size=config.warm_start_batch_size,
        max_train_steps=config.warm_start_steps,
        learning_rate=config.warm_start_learning_rate,
        lr_warmup_steps=20,
        mixed_precision=config.mixed_precision,  # a process has only one precision
        checkpointing_steps=500,
        checkpoints_total_limit=1,
        resume_from_checkpoint=config.resume_from_checkpoint and "latest",
    )
    # The axes are already good and everything depends on them, so their learning rate is lower.
    groups = [
        {"params": list(network.condition.parameters()), "lr": warm_config.learning_rate},
        {"params": [network.skew], "lr": 0.3 * warm_config.learning_rate},
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    training = Training(warm_config, {"text_to_face": network}, {"warm_start": optimizer})
    if training.step == warm_config.max_train_steps:
        return
    pipe.to(training.accelerator.device)
    pool = read_pool(pipe, config)
    embeddings = embed_captions(pipe, data, config)
    if training.step == 0 and config.frame:
        network.axes.copy_(principal_axes(embeddings[:_AXES_CAPTIONS], pool))

    def step_fn(step: int) -> dict[str, Tensor]:
        def loss_of(micro: int) -> Tensor:
            text = embeddings[training.indices(step, len(embeddings), micro)]
            generator = training.generator(step, micro)
            matches = draw_matches(text, pool, config.warm_start_matches, generator)
            return matching_loss(network, text, matches).mean()

        return {"matching": training.update("warm_start", loss_of, max_grad_norm=5.0)}

    print("Warm start:")
    training.complete(step_fn)


def embed_captions(
    pipe: StyleEditPipeline, data: CelebAHQ | CaptionedPortraits, config: Config
) -> Tensor:
    """CLIP embeddings of captions of random pictures, one caption per picture."""
    generator = torch.Generator().manual_seed(config.seed)
    chosen = torch.randint(len(data), (config.warm_start_captions,), generator=generator)
    rng = random.Random(config.seed)
    texts = [rng.choice(group) for part in chosen.split(256) for group in data.texts(part)]
    parts = [pipe.encode_text(texts[i : i + 256]) for i in range(0, len(texts), 256)]
    return torch.cat(parts).float()


def read_pool(pipe: StyleEditPipeline, config: Config) -> Pool:
    """The pool of samples; it is rendered once and kept in the output folder."""
    path = config.output_dir / "warm-start" / "pool.safetensors"
    fingerprint = pipe.base_model.fingerprint
    if path.is_file():
        tensors, metadata = read_tensors(path)
        same = metadata.get("fingerprint") == fingerprint
        if same and len(tensors["z"]) == config.warm_start_samples + config.warm_start_characters:
            return Pool(tensors["z"], tensors["images"], float(tensors["scale"]))
    beside = z_of_characters(config.warm_start_characters, pipe.generator.config.z_dim)
    count = config.warm_start_samples + len(beside)
    starts = tqdm(range(0, count, 32), unit="batch", desc="rendering samples")
    half = config.mixed_precision == "bf16"
    with torch.autocast(pipe.device.type, torch.bfloat16, enabled=half):
        pool = draw_pool(
            pipe, config.warm_start_samples, config.seed, batches=starts, beside=beside
        )
    tensors = {"z": pool.z, "images": pool.images, "scale": torch.tensor(pool.scale)}
    write_tensors(path, tensors, {"kind": "pool", "fingerprint": fingerprint})
    return pool


def z_of_characters(count: int, z_dim: int) -> Tensor:
    """z that stand for the named characters, as many of each, `[count, z_dim]`."""
    shares = [len(range(first, count, len(CHARACTERS))) for first in range(len(CHARACTERS))]
    random = torch.Generator().manual_seed(0)
    rows = [
        z_of_portraits(characters(name, range(share)), z_dim, random)
        for name, share in zip(CHARACTERS, shares, strict=True)
        if share
    ]
    return torch.cat(rows) if rows else torch.zeros(0, z_dim)


@torch.no_grad()
def sheet(pipe: StyleEditPipeline, network: TextToFace) -> Any:
    """Faces at truncation 0.7, with a row for each shown text and a column for each seed."""
    rows = []
    for text in SHOWN_TEXTS:
        latents = draw_from_text(pipe, network.to(pipe.device), text, range(SHOWN_SEEDS))
        rows.append(pipe.synthesize(latents).clamp(-1, 1).float())
    return image_files.grid(torch.cat(rows), columns=SHOWN_SEEDS)


def export(network: TextToFace, pipe: StyleEditPipeline, config: Config) -> None:
    """Write the artifact, its pictures, metrics and card."""
    # The network is measured as it is stored, in half precision.
    network.half().float().requires_grad_(False)
    folder = network.save_pretrained(config.output_dir, overwrite=True)  # the run's own folder
    image_files.save(
        sheet(pipe, network), folder / "images" / "captions.webp", image_files.SHEET_QUALITY
    )
    if config.captions:
        reader = (
            AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
        )
        unseen = UnseenCaptions.draw(config.captions, pipe.generator.config.img_resolution)
        metrics = write_text_to_face_quality(folder, pipe, network, reader, unseen, config.seeds)
        print(table({"text-to-face": metrics, "random faces": metrics["random_faces"]}))
    write_card(folder)
    print(f"The text-to-face network is in {folder}.")


if __name__ == "__main__":
    run(main, Config, __doc__)
