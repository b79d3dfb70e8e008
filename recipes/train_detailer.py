"""Train the detailer, which gives the render of an edited face the details of its photograph.

    accelerate launch recipes/train_detailer.py --output_dir runs/detailer
    python recipes/train_detailer.py --pipeline ffhq --images photographs --output_dir runs/detailer

The training needs no labeled pictures, so it works for any pipeline with an encoder. A sample
stands for a photograph: objects that the generator cannot render are laid over it, its light is
changed, and the encoder finds its latent. Then the same random change is made in two latents. In
the sample's own latent, it gives the picture to which the edit should lead (the wanted picture). In
the encoder's latent, it gives the render that lacks the details. Some of the pictures (renders of
portraits, or --images) have no latent that renders them exactly; these should not change.

The pictures are made at the start and kept in the output folder. 3,000 pictures of 256 px take ten
minutes on one CPU core and need 2.4 GB of disk and of memory. The training takes half an hour. An
interrupted run is continued with --resume_from_checkpoint latest. At the end, the folder
`detailer/` in the output folder holds the averaged network, how close its pictures are to the
wanted ones on unseen samples (metrics.json), and a card (README.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from command_line import run
from jaxtyping import Float, UInt8
from network import add_to_pipeline, check_addable, check_same_run, log_line, write_network
from PIL import Image
from safetensors.torch import load_file, save
from torch import Generator, Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import tensors_digest, write_bytes
from stylegan_hub.latents import Latents, Space
from stylegan_hub.models.detailer import Detailer
from stylegan_hub.names import public_name
from stylegan_hub.optimizers import Muon
from stylegan_hub.photos.align import cut, middle
from stylegan_hub.photos.photo import list_photos, read_photo
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED
from stylegan_hub.portraits.renderer import render
from stylegan_hub.training import NetworkTraining, TrainingConfig, training_device

_AT_ONCE = 10
_SHOWN = 6

Pictures = UInt8[Tensor, "n 4 3 h w"]
"""Four pictures in each row: photograph, render before, render after, and the wanted one."""


@dataclass(frozen=True, kw_only=True)
class Config(TrainingConfig):
    """Settings for building, training and measuring the detailer."""

    pipeline: str = "portraits"
    """Bundled name, folder or Hub id of the pipeline; it needs an encoder."""
    images: Path | None = None
    """Folder of aligned pictures of the domain. None: renders of portraits, see
    --rendered_share."""
    samples: int = 3000
    """Number of pictures to train on."""
    rendered_share: float = 0.25
    """Share of pictures that are rendered portraits or come from --images, without an edit; the
    rest are samples. Use 0 for other pipelines than portraits without --images."""
    patch: int | None = None
    """Side in pixels of the squares that are folded into channels. None: 1/64 of the height of the
    picture."""
    widths: tuple[int, ...] = (48, 64, 96)
    """Number of channels in each stage, multiples of 8."""
    blocks: int = 1
    """Number of residual blocks in each stage."""
    unseen: int = 200
    """Number of unseen pictures on which the detailer is measured at the end."""
    add: bool = False
    """Also write the detailer into the folder of the pipeline."""
    learning_rate: float = 2e-3
    train_batch_size: int = 8
    max_train_steps: int = 4000
    checkpointing_steps: int = 250
    sample_steps: int = 500


def main(config: Config) -> None:
    if not 0 <= config.rendered_share <= 1:
        raise SystemExit(f"Got --rendered_share {config.rendered_share}; expected 0 to 1.")
    if config.add:
        check_addable(config.pipeline)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline, device=training_device())
    if pipe.encoder is None:
        raise SystemExit(f"{config.pipeline} has no encoder. Run recipes/train_encoder.py first.")
    mine = {
        "generator": pipe.base_model.fingerprint,
        "encoder": tensors_digest(pipe.encoder.state_dict()),
        "images": str(config.images),
        "rendered_share": config.rendered_share,
    }
    check_same_run(config.output_dir / "pictures.json", mine)
    height = pipe.generator.img_size[0]
    torch.manual_seed(config.seed)
    detailer = Detailer(config.patch or max(1, height // 64), config.widths, config.blocks)
    training = NetworkTraining(config, "detailer", detailer, optimizer_of(detailer, config))
    device = training.accelerator.device
    seen = made(pipe, range(config.samples), config)
    unseen = made(pipe, range(UNSEEN_SEED, UNSEEN_SEED + config.unseen), config)

    def losses(step: int, micro: int) -> dict[str, Tensor]:
        chosen = training.indices(step, len(seen), micro)
        photographs, before, after, wanted = in_parts(seen[chosen], device)
        found = detailer(photographs, before, after)
        return {"colors": (found - wanted).abs().mean(), "edges": edge_loss(found, wanted)}

    def on_sample(step: int, folder: Path) -> None:
        log_line(folder / "psnr.jsonl", step, measure(training.average, unseen[:_AT_ONCE]))
        image_files.save(sheet(training.average, unseen[:_SHOWN]), folder / f"step-{step:06}.png")

    if training.learn(losses, on_sample):
        average = training.average
        metrics = measure(average, unseen)
        pictures = {"details.png": sheet(average, unseen[:_SHOWN])}
        text = card(metrics, average.num_parameters(), config)
        write_network(config.output_dir / "detailer", average, metrics, text, pictures)
        if config.add:
            add_to_pipeline(pipe, Path(config.pipeline), "detailer", average)


def optimizer_of(detailer: Detailer, config: Config) -> Muon:
    """Muon for the kernels between the first and the last layer; AdamW for the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in detailer.named_parameters():
        inner = parameter.ndim == 4 and not name.startswith(("first", "last"))
        (matrices if inner else others).append(parameter)
    half = torch.bfloat16 if config.mixed_precision == "bf16" else torch.float32
    return Muon(matrices, others, config.learning_rate, dtype=half)


def made(pipe: StyleEditPipeline, seeds: range, config: Config) -> Pictures:
    """The pictures of these seeds; the output folder keeps them in blocks, for a resumed run."""
    folder = config.output_dir / "pictures"
    blocks = []
    for start in tqdm(range(seeds.start, seeds.stop, _AT_ONCE), desc="making pictures"):
        path = folder / f"{start}.safetensors"
        part = range(start, min(start + _AT_ONCE, seeds.stop))
        if path.is_file():
            blocks.append(load_file(path)["pictures"])
            continue
        rendered = round(len(part) * config.rendered_share)
        generator = torch.Generator().manual_seed(start)
        rows = [*edited(pipe, part[rendered:], generator), *unedited(pipe, part[:rendered], config)]
        blocks.append(torch.cat(rows))
        write_bytes(path, save({"pictures": blocks[-1]}))
    return torch.cat(blocks)


@torch.no_grad()
def edited(
    pipe: StyleEditPipeline, seeds: Sequence[int], generator: Generator
) -> Iterator[Pictures]:
    """Samples in the place of photographs, with a random change of each as the edit."""
    if not len(seeds):
        return
    codes, mean = pipe.sample(seeds, truncation_psi=1.0).codes, pipe.generator.mapping.w_avg
    n = len(codes)
    own = mean + (0.5 + 0.5 * torch.rand(n, 1, 1, generator=generator)).to(codes) * (codes - mean)
    change = random_changes(own, pipe.sample([seed + 1 for seed in seeds], 1.0).codes, generator)
    photographs, wanted = (pipe.synthesize(_w_plus(w)) for w in (own, own + change))
    objects, where = foreign_objects(photographs.roll(1, 0).flip(3), generator)
    light = lights(photographs, generator)
    photographs, wanted = (
        torch.lerp(picture * light, objects, where).clamp(-1, 1)
        for picture in (photographs, wanted)
    )
    found = pipe.invert(photographs).codes
    before, after = (pipe.synthesize(_w_plus(w)) for w in (found, found + change))
    yield _rows(photographs, before, after, wanted)


@torch.no_grad()
def unedited(pipe: StyleEditPipeline, seeds: Sequence[int], config: Config) -> Iterator[Pictures]:
    """Pictures that no latent renders exactly, and that should not change."""
    if not len(seeds):
        return
    size = pipe.generator.img_size
    if config.images is None:
        pictures = render(sample(seeds), size[0]).to(pipe.device)
    else:
        paths = list_photos(config.images).photos
        photos = [read_photo(paths[seed % len(paths)]) for seed in seeds]
        cuts = [cut(photo, middle(photo.size, photo.name, size), size) for photo in photos]
        pictures = torch.cat([image_files.from_pil(one) for one in cuts]).to(pipe.device)
    before = pipe.synthesize(pipe.invert(pictures))
    yield _rows(pictures, before, before, pictures)


def _w_plus(codes: Tensor) -> Latents:
    return Latents(Space.W_PLUS, codes)


def _rows(*pictures: Tensor) -> Pictures:
    return torch.stack([image_files.to_uint8(one).cpu() for one in pictures], 1)


def random_changes(
    own: Float[Tensor, "n layers d"], others: Float[Tensor, "n layers d"], generator: Generator
) -> Float[Tensor, "n layers d"]:
    """Displacements similar to edits: a part of the way to another sample, in some layers."""
    n, layers = own.shape[:2]
    first = torch.randint(layers, (n, 1), generator=generator)
    count = torch.randint(2, layers + 1, (n, 1), generator=generator)
    index = torch.arange(layers)
    chosen = ((index >= first) & (index < first + count)).to(own)
    share = torch.rand(n, 1, 1, generator=generator).to(own)
    return share * chosen[:, :, None] * (others - own)


def foreign_objects(
    others: Float[Tensor, "n 3 h w"], generator: Generator
) -> tuple[Float[Tensor, "n 3 h w"], Float[Tensor, "n 1 h w"]]:
    """Objects that the generator cannot render there: their pictures, and their masks, 0 to 1.

    Half of the pictures have none.
    """
    n, _, height, width = others.shape
    coarse = torch.randn(n, 1, 5, 5, generator=generator)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    soft = 2 + 10 * torch.rand(n, 1, 1, 1, generator=generator)
    here = (torch.rand(n, 1, 1, 1, generator=generator) < 0.5).float()
    where = here * ((smooth - 0.9) * soft).clamp(0, 1)
    color = 2 * torch.rand(n, 3, 1, 1, generator=generator) - 1
    mixed = torch.rand(n, 1, 1, 1, generator=generator)
    return torch.lerp(others, color.to(others), mixed.to(others)), where.to(others)


def lights(pictures: Float[Tensor, "n 3 h w"], generator: Generator) -> Float[Tensor, "n 3 h w"]:
    """Factors that change the light smoothly; they are 1 for half of the pictures."""
    n, _, height, width = pictures.shape
    coarse = 0.15 * torch.randn(n, 3, 3, 3, generator=generator)
    here = (torch.rand(n, 1, 1, 1, generator=generator) < 0.5).float()
    smooth = F.interpolate(here * coarse, (height, width), mode="bicubic", align_corners=False)
    return (1 + smooth).to(pictures)


def in_parts(pictures: Pictures, device: torch.device) -> tuple[Tensor, ...]:
    """Photographs, renders before and after the edit, and wanted pictures, each in [-1, 1]."""
    flat = image_files.from_uint8(pictures.flatten(0, 1)).to(device)
    return flat.unflatten(0, pictures.shape[:2]).unbind(1)


def edge_loss(found: Float[Tensor, "n 3 h w"], wanted: Float[Tensor, "n 3 h w"]) -> Tensor:
    """L1 loss on the differences between neighboring pixels, which keeps pictures sharp."""
    apart = found - wanted
    across, down = apart.diff(dim=3), apart.diff(dim=2)
    return across.abs().mean() + down.abs().mean()


@torch.no_grad()
def measure(detailer: Detailer, pictures: Pictures) -> dict[str, float]:
    """PSNR in dB to the wanted pictures, without and with the detailer, edited and unedited."""
    device = next(detailer.parameters()).device
    values: dict[str, list[float]] = {}
    for part in pictures.split(_AT_ONCE):
        photographs, before, after, wanted = in_parts(part, device)
        is_edited = (photographs != wanted).flatten(1).any(1)
        ways = {"render": after, "detailed": detailer(photographs, before, after).clamp(-1, 1)}
        for name, found in ways.items():
            error = (found - wanted).square().mean((1, 2, 3))
            psnr = 10 * torch.log10(4 / error.clamp_min(4e-6))
            for kind, number in zip(is_edited.tolist(), psnr.tolist(), strict=True):
                values.setdefault(f"{name}_{'edited' if kind else 'unedited'}", []).append(number)
    return {name: round(sum(many) / len(many), 2) for name, many in sorted(values.items())}


@torch.no_grad()
def sheet(detailer: Detailer, pictures: Pictures) -> Image.Image:
    """One row per picture: photograph, render before, render after, with details, wanted."""
    device = next(detailer.parameters()).device
    photographs, before, after, wanted = in_parts(pictures, device)
    found = detailer(photographs, before, after).clamp(-1, 1)
    rows = torch.stack([photographs, before, after, found, wanted], 1).flatten(0, 1)
    return image_files.grid(rows, columns=5)


def card(metrics: Mapping[str, float], parameters: int, config: Config) -> str:
    """The text of the card: purpose, training and reliability."""
    names = {"edited": "edited samples", "unedited": "pictures that no latent renders exactly"}
    rows = "\n".join(
        f"| {words} | {metrics[f'render_{kind}']:.1f} | {metrics[f'detailed_{kind}']:.1f} |"
        for kind, words in names.items()
        if f"render_{kind}" in metrics
    )
    return f"""---
library_name: stylegan-hub
license: apache-2.0
tags: [portraits, inversion]
---

# Detailer for the pipeline `{public_name(config.pipeline)}`

The detailer gives the render of an edited face the details of its photograph that the encoder's
latent lacks, in one pass (see `stylegan_hub/models/detailer.py`). It has {parameters:,} parameters.

`recipes/train_detailer.py` trained it on {config.samples:,} pictures without labels.

The table shows the PSNR in dB to the wanted picture, on {config.unseen} unseen pictures:

| | render | with details |
|---|---|---|
{rows}

![Photograph, render, edited render, edited render with details, wanted](images/details.png)

## Limits

The detailer restores what the photograph shows. The generator still invents what an edit uncovers.
"""


if __name__ == "__main__":
    run(main, Config, __doc__)
