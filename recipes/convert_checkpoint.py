"""Convert a published checkpoint to a folder of this library; nothing in it is executed.

    python recipes/convert_checkpoint.py ffhq.pkl --output ffhq-generator
    python recipes/convert_checkpoint.py model_ir_se50.pth --output recognizer
    python recipes/convert_checkpoint.py afro.pt --output afro-hair --pipeline ffhq
    python recipes/convert_checkpoint.py fs3.npy --statistics S_mean_std --output table \\
        --pipeline ffhq
    python recipes/convert_checkpoint.py joker.npy --kind direction --output joker --pipeline ffhq

What a file is, its content says: generators of NVIDIA (PyTorch and TensorFlow) and rosinality,
e4e's encoder, ArcFace IR-SE50, BiSeNet, StyleCLIP's mappers and tables, GANSpace's components. A
bare array can be a direction (TargetCLIP, InterFaceGAN) or latents: say which with --kind. Edits
belong to a generator, which --pipeline names. LELSD saves its whole trainer, which cannot be read
safely: where it was trained, load it and export its direction with
torch.save({"direction": direction.detach().cpu()}, "direction.pt").
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro
from command_line import run
from torch import Tensor

from stylegan_hub.checkpoints import edits as published
from stylegan_hub.checkpoints import faces, read_checkpoint, rosinality
from stylegan_hub.checkpoints.download import DOWNLOADS, fetch, print_progress
from stylegan_hub.checkpoints.generator import check_same_generator, generator_from
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.methods.table import DirectionTable, TableLayer

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is converted to what."""

    file: Annotated[str, tyro.conf.Positional]
    """Path or https address of the checkpoint."""
    output: Path
    """Folder to write; for latents a .safetensors file in it."""
    pipeline: str | None = None
    """Bundled name, folder or Hub id of the pipeline that an edit belongs to."""
    kind: Literal["auto", "direction", "latents"] = "auto"
    """What a bare array is."""
    component: int = 0
    """Which direction of a file with several."""
    statistics: str | None = None
    """S_mean_std, beside StyleCLIP's fs3.npy."""
    prompt: str | None = None
    """Words that the edit was made for, for its card."""
    overwrite: bool = False
    """Write also into a folder that holds something else."""
    downloads: Path = DOWNLOADS
    """Where downloads are kept."""


def main(config: Config) -> None:
    try:
        what = convert(config)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"{what} is in {config.output}.")


def convert(config: Config) -> str:
    """Write the output; returns what it is, in words."""
    path = fetch(config.file, config.downloads, print_progress)
    content = read_checkpoint(path)
    try:
        if config.statistics is not None:
            table(config, content).save_pretrained(config.output, overwrite=config.overwrite)
            return "A direction table"
        if published.is_mapper(content):
            mapper(config, content, path).save_pretrained(config.output, overwrite=config.overwrite)
            return "A latent mapper"
        if faces.is_encoder(content):
            faces.encoder_from(content, path).save_pretrained(
                config.output, overwrite=config.overwrite
            )
            return "An encoder"
        if faces.is_recognizer(content):
            faces.recognizer_from(content, path).save_pretrained(
                config.output, overwrite=config.overwrite
            )
            return "A recognizer"
        if faces.is_parser(content):
            faces.parser_from(content, path).save_pretrained(
                config.output, overwrite=config.overwrite
            )
            return "A parser"
        if published.is_components(content):
            vector = published.component_from(content, config.component)
            origin = Origin(
                config.prompt, None, {"method": "GANSpace", "component": config.component}
            )
            direction(config, vector, origin).save_pretrained(
                config.output, overwrite=config.overwrite
            )
            return "A direction"
        if (vectors := published.vectors_from(content)) is not None:
            return array(config, *vectors)
    except ArtifactError as error:
        text = str(error)
        raise error if text.startswith(str(path)) else ArtifactError(f"{path}: {text}.") from error
    generator_from(content, path).save_pretrained(config.output, overwrite=config.overwrite)
    return "A generator"


def array(config: Config, name: str, vectors: Tensor) -> str:
    """Write a direction or latents."""
    kind = config.kind
    if kind == "auto" and name:
        kind = "direction" if name == "direction" else "latents"
    elif kind == "auto" and vectors.ndim == 3 and len(vectors) > 1:
        kind = "latents"
    if kind == "auto":
        raise ArtifactError(
            f"is a bare array of shape {list(vectors.shape)}, which can be a direction or latents. "
            "Say which: --kind direction or --kind latents"
        )
    if kind == "direction":
        rows = vectors if vectors.ndim == 3 else vectors.reshape(-1, 1, vectors.shape[-1])
        if not 0 <= config.component < len(rows):
            raise ArtifactError(f"holds {len(rows)} directions; got component {config.component}")
        direction(config, rows[config.component], Origin(config.prompt)).save_pretrained(
            config.output, overwrite=config.overwrite
        )
        return "A direction"
    if vectors.ndim == 4 and vectors.shape[1] == 1:
        vectors = vectors[:, 0]
    if vectors.ndim not in (1, 2, 3):
        raise ArtifactError(f"holds an array of shape {list(vectors.shape)}, which is no latents")
    latents = Latents(
        Space.W_PLUS if vectors.ndim == 3 else Space.W,
        vectors[None] if vectors.ndim == 1 else vectors,
    )
    if config.pipeline is not None:
        load_pipeline(config).lower(latents, Space.W_PLUS)  # raises for another generator's
    latents.save(config.output / "latents.safetensors")
    return f"{len(latents)} latents in {latents.space}"


def direction(config: Config, vector: Tensor, origin: Origin) -> Direction:
    """A vector [1 or num_ws, w_dim] as a direction in w_plus."""
    base = load_pipeline(config).base_model
    vector = vector.reshape(-1, vector.shape[-1])
    if vector.shape not in ((1, base.w_dim), (base.num_ws, base.w_dim)):
        raise MismatchError(
            f"The direction has the shape {list(vector.shape)}; the generator of "
            f"{config.pipeline} takes [1, {base.w_dim}] or [{base.num_ws}, {base.w_dim}]."
        )
    whole = vector.expand(base.num_ws, base.w_dim).contiguous()
    return Direction(whole, Space.W_PLUS, base, Strength(), origin)


def mapper(config: Config, content: Any, path: Path) -> LatentMapper:
    """StyleCLIP's mapper; its decoder must be the pipeline's generator."""
    pipe = load_pipeline(config)
    if rosinality.state_dict(content) is not None:
        check_same_generator(generator_from(content, path), pipe.generator, "The mapper's decoder")
    found = published.mapper_from(content)
    space = Space.S if found.style_space else Space.W_PLUS
    if found.style_space:
        layout = pipe.generator.style_layout
        if unknown := [name for name in found.networks if int(name) >= len(layout)]:
            raise MismatchError(
                f"The mapper has a part for layer {unknown[0]}; this generator has {len(layout)}."
            )
        layers = {name: layout[int(name)] for name in sorted(found.networks, key=int)}
        renamed = {name: layer.name.replace(".", "_") for name, layer in layers.items()}
        groups = {renamed[name]: (layer.start, layer.stop) for name, layer in layers.items()}
    else:
        renamed = {name: name for name in found.networks}
        single = "single" if "all" in found.networks else "levels"
        known = mapper_groups(pipe.generator, space, single)
        if missing := sorted(found.networks.keys() - known.keys()):
            raise MismatchError(
                f"The mapper has a part for {missing[0]} layers, which this generator has not."
            )
        groups = {name: span for name, span in known.items() if name in found.networks}
    normalization: Any = "features" if found.style_space else "layers"
    made = LatentMapper(
        groups,
        space,
        pipe.base_model,
        normalization,
        origin=Origin(config.prompt, None, {"method": "StyleCLIP"}),
    )
    weights = {
        f"{renamed[group]}.{name}": tensor
        for group, tensors in found.networks.items()
        for name, tensor in tensors.items()
    }
    for name, own in made.network.state_dict().items():
        if weights[name].shape != own.shape:
            raise MismatchError(
                f"The mapper's tensor {name} has the shape {list(weights[name].shape)}; this "
                f"generator takes {list(own.shape)}."
            )
    made.network.load_state_dict(weights)
    return made


def table(config: Config, content: Any) -> DirectionTable:
    """StyleCLIP's fs3.npy and S_mean_std; the rows are convolutions from the first one on."""
    pipe = load_pipeline(config)
    assert config.statistics is not None
    relevance = published.relevance_from(content)
    statistics = read_checkpoint(fetch(config.statistics, config.downloads, print_progress))
    means, deviations = published.statistics_from(statistics)
    layout = pipe.generator.style_layout
    convolutions = [layer for layer in layout if not layer.is_to_rgb]
    covered = [layer for layer in layout if len(means) == len(layout)] or convolutions
    widths = [layer.stop - layer.start for layer in covered]
    if [len(row) for row in means] != widths:
        raise MismatchError(
            f"S_mean_std has layers of {', '.join(str(len(row)) for row in means)} channels; this "
            f"generator has {', '.join(map(str, widths))}."
        )
    s_mean, s_std = torch.zeros(2, pipe.generator.num_styles)
    for layer, mean, deviation in zip(covered, means, deviations, strict=True):
        s_mean[layer.start : layer.stop], s_std[layer.start : layer.stop] = mean, deviation
    count, rows = 0, []
    while len(rows) < len(relevance) and count < len(convolutions):
        rows += range(convolutions[count].start, convolutions[count].stop)
        count += 1
    if len(rows) != len(relevance):
        raise MismatchError(
            f"fs3 has {len(relevance)} rows, which is no number of channels of the first "
            "convolutions of this generator."
        )
    if relevance.shape[1] != pipe.clip.config.projection_dim:
        raise MismatchError(
            f"fs3 has {relevance.shape[1]} columns; the CLIP of {config.pipeline} has "
            f"embeddings of {pipe.clip.config.projection_dim}."
        )
    layers = tuple(TableLayer(x.name, x.resolution, x.start, x.stop) for x in convolutions[:count])
    return DirectionTable(
        relevance, torch.tensor(rows), s_mean, s_std, pipe.base_model, pipe.clip_model, layers,
        {"method": "StyleCLIP", "source": Path(config.file).name},
    )  # fmt: skip


def load_pipeline(config: Config) -> StyleEditPipeline:
    from stylegan_hub.pipeline import StyleEditPipeline

    if config.pipeline is None:
        raise ArtifactError("holds an edit, which belongs to a generator: give --pipeline")
    return StyleEditPipeline.from_pretrained(config.pipeline)


if __name__ == "__main__":
    run(main, Config, __doc__)
