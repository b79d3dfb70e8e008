"""Convert a published checkpoint to a folder of this library; nothing in it is executed.

    python recipes/convert_checkpoint.py --describe ffhq.pkl
    python recipes/convert_checkpoint.py ffhq.pkl --output ffhq-generator
    python recipes/convert_checkpoint.py model_ir_se50.pth --output recognizer
    python recipes/convert_checkpoint.py afro.pt --output afro-hair --pipeline ffhq
    python recipes/convert_checkpoint.py fs3.npy --statistics S_mean_std --output table \\
        --pipeline ffhq
    python recipes/convert_checkpoint.py joker.npy --kind direction --output joker --pipeline ffhq

The content of a file says what it is: generators of NVIDIA (PyTorch and TensorFlow) and rosinality,
e4e's encoder, ArcFace IR-SE50, BiSeNet, StyleCLIP's mappers and tables, GANSpace's components and
directions. A bare array can be a direction (TargetCLIP, InterFaceGAN) or latents: say which with
--kind. Edits belong to a generator, which --pipeline names. --describe prints what a file is and
which of its tensors are used, and writes nothing; docs/checkpoints.md lists all formats. LELSD
saves its whole trainer, which cannot be read safely: load it in the environment that trained it,
and export its direction with torch.save({"direction": direction.detach().cpu()}, "direction.pt").
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro
from command_line import run
from torch import Tensor

from stylegan_hub.artifacts import write_bytes
from stylegan_hub.checkpoints import edits as published
from stylegan_hub.checkpoints import faces, read_checkpoint, rosinality
from stylegan_hub.checkpoints.describe import report
from stylegan_hub.checkpoints.download import DOWNLOADS, fetch, print_progress
from stylegan_hub.checkpoints.edits import PublishedDirection, Sizes, Vectors
from stylegan_hub.checkpoints.files import of_file
from stylegan_hub.checkpoints.generator import check_same_generator, generator_from, has_generator
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.methods.table import DirectionTable, TableLayer

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline

_SAMPLES = 2048
_DEVIATIONS = 3  # a slider reaches this many deviations of random latents


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to convert, and into what."""

    file: Annotated[str, tyro.conf.Positional]
    """Path or https address of the checkpoint."""
    output: Path | None = None
    """Folder to write; for latents, a .safetensors file."""
    describe: bool = False
    """Print what the file is and which of its tensors are used, and write nothing."""
    pipeline: str | None = None
    """Bundled name, folder or Hub id of the pipeline that an edit belongs to."""
    kind: Literal["auto", "direction", "latents"] = "auto"
    """What a bare array holds."""
    space: Literal["z", "w", "w_plus", "s"] | None = None
    """Space of an array whose shape fits several."""
    component: int = 0
    """Which direction of a file that holds several."""
    layers: tuple[int, int] | None = None
    """First layer that a direction moves, and the one after the last. None: the layers that the
    file states, or all."""
    strength_range: tuple[float, float] | None = None
    """Lowest and highest strength of a direction's slider. None: what the file states; for a
    direction of length 1, how far random latents reach."""
    statistics: str | None = None
    """StyleCLIP's S_mean_std, which belongs to fs3.npy."""
    prompt: str | None = None
    """Words that the edit was made for; the card shows them."""
    overwrite: bool = False
    """Also write into a folder that holds something else."""
    downloads: Path = DOWNLOADS
    """Folder in which downloads are kept."""


def main(config: Config) -> None:
    try:
        if config.describe:
            describe(config)
            return
        what = convert(config)
    except (ValueError, OSError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(f"Wrote {config.output}: {what[0].lower()}{what[1:]}.")


def describe(config: Config) -> None:
    """Print what a file holds."""
    path = fetch(config.file, config.downloads, print_progress)
    print(f"{path} ({path.stat().st_size} bytes)")
    for line in report(read_checkpoint(path)):
        print(line)


def convert(config: Config) -> str:
    """Write the output; return what it is, in words."""
    if config.output is None:
        raise ArtifactError(
            "Got no folder to write.", expected="--output FOLDER", remedy="Give --output, or "
            "--describe to only look at the file.",
        )  # fmt: skip
    path = fetch(config.file, config.downloads, print_progress)
    try:
        content = read_checkpoint(path)
        if config.statistics is not None:
            return written(config, table(config, content), "A direction table")
        if published.is_mapper(content):
            return written(config, mapper(config, content, path), "A latent mapper")
        if faces.find_encoder(content):
            return written(config, faces.encoder_from(content, path), "An encoder")
        if faces.find_recognizer(content):
            return written(config, faces.recognizer_from(content, path), "A recognizer")
        if faces.find_parser(content):
            return written(config, faces.parser_from(content, path), "A parser")
        if published.is_saved_direction(content):
            found = published.saved_direction_from(content)
            return written(config, direction(config, found), "A direction")
        if published.is_components(content):
            found = published.component_from(content, config.component)
            return written(config, direction(config, found), "A direction")
        if not has_generator(content) and (vectors := published.vectors_from(content)) is not None:
            return array(config, vectors)
    except ArtifactError as error:
        raise of_file(path, error) from error
    return written(config, generator_from(content, path), "A generator")


def written(config: Config, made: Any, what: str) -> str:
    """Write anything that can save itself; return what it is.

    Raises:
        ArtifactError: something else was asked for.
    """
    if config.kind == "latents" or (config.kind == "direction" and not isinstance(made, Direction)):
        raise ArtifactError(
            f"holds {what[0].lower()}{what[1:]}, which is not --kind {config.kind}.",
            got=what,
            expected=config.kind,
            remedy="Leave out --kind; it is for bare arrays only.",
        )
    made.save_pretrained(config.output, overwrite=config.overwrite)
    return what


def array(config: Config, vectors: Vectors) -> str:
    """Write a direction or latents."""
    kind = config.kind
    if kind == "auto" and vectors.key:
        kind = "direction" if vectors.key == "direction" else "latents"
    elif kind == "auto" and (
        vectors.names or (vectors.tensor.ndim > 2 and len(vectors.tensor) > 1)
    ):
        kind = "latents"
    shape = list(vectors.tensor.shape)
    if kind == "auto":
        raise ArtifactError(
            f"is a bare array of shape {shape}, which can be a direction or latents. "
            "Say which: --kind direction or --kind latents"
        )
    if kind == "latents":
        return latents(config, vectors)
    pipe = load_pipeline(config)
    asked = None if config.space is None else Space(config.space)
    if asked is Space.Z:
        raise ArtifactError(
            "holds a direction in z, before the mapping network.",
            got="z",
            expected="w, w_plus or s",
            remedy="Edits displace w_plus or s: use a direction in w.",
        )
    space, rows = published.latents_of(vectors, sizes_of(pipe), asked, directions=True)
    if not 0 <= config.component < len(rows):
        raise ArtifactError(
            f"holds {len(rows)} directions; got component {config.component}",
            got=config.component,
            expected=f"0 to {len(rows) - 1}",
        )
    found = rows[config.component]
    if space is Space.W and config.space is None and len(rows) == 1 and published.is_unit(found):
        print(
            "Warning: a direction of length 1 in w looks like one in z (InterFaceGAN's boundaries "
            "without _w_ in their names) and like those of StyleGAN1 and PGGAN, which mean nothing "
            "here. It is taken as one in w of this generator; --space w says that it is."
        )
    if space is Space.S:
        return written(config, style_direction(config, found), "A direction in s")
    one = PublishedDirection(found.reshape(-1, found.shape[-1]))
    return written(config, direction(config, one), "A direction")


def latents(config: Config, vectors: Vectors) -> str:
    """Write latents, and the names of their pictures if the file has them."""
    sizes = None if config.pipeline is None else sizes_of(load_pipeline(config))
    asked = None if config.space is None else Space(config.space)
    space, codes = published.latents_of(vectors, sizes, asked)
    assert config.output is not None
    Latents(space, codes).save(config.output / "latents.safetensors")
    if vectors.names:
        text = json.dumps(vectors.names, indent=1, ensure_ascii=False)
        write_bytes(config.output / "names.json", text.encode())
    return f"{len(codes)} {'latent' if len(codes) == 1 else 'latents'} in {space}"


def direction(config: Config, found: PublishedDirection) -> Direction:
    """A vector [1 or num_ws, w_dim] as a direction in w_plus, for the layers that it moves."""
    pipe = load_pipeline(config)
    base = pipe.base_model
    vector = found.vector
    if tuple(vector.shape) not in ((1, base.w_dim), (base.num_ws, base.w_dim)):
        raise MismatchError(
            f"The direction has the shape {list(vector.shape)}; the generator of {config.pipeline} "
            f"takes [1, {base.w_dim}] or [{base.num_ws}, {base.w_dim}].",
            got=tuple(vector.shape),
            expected=((1, base.w_dim), (base.num_ws, base.w_dim)),
            remedy="Use the generator that it was made for.",
        )
    start, stop = config.layers or found.layers or (0, base.num_ws)
    if not 0 <= start < stop <= base.num_ws:
        raise MismatchError(
            f"The direction moves the layers {start} to {stop - 1}; this generator has "
            f"{base.num_ws}.",
            got=(start, stop),
            expected=(0, base.num_ws),
            remedy="Use the generator that it was made for.",
        )
    whole = torch.zeros(base.num_ws, base.w_dim)
    whole[start:stop] = vector.expand(base.num_ws, base.w_dim)[start:stop]
    check_moves(whole)
    strength = slider(config, pipe, whole, Space.W_PLUS, published.is_unit(vector), found.strength)
    origin = Origin(config.prompt, None, {**found.training, "layers": [start, stop]})
    return Direction(whole, Space.W_PLUS, base, strength, origin)


def style_direction(config: Config, vector: Tensor) -> Direction:
    """A vector [num_styles] as a direction in s."""
    pipe = load_pipeline(config)
    check_moves(vector)
    strength = slider(config, pipe, vector, Space.S, published.is_unit(vector), None)
    return Direction(vector, Space.S, pipe.base_model, strength, Origin(config.prompt))


def check_moves(vector: Tensor) -> None:
    """Raise `ArtifactError` for a direction that is 0 everywhere."""
    if not vector.any():
        raise ArtifactError(
            "holds a direction that is 0 everywhere, which moves nothing.",
            got="only zeros",
            expected="a direction",
            remedy="Check how the file was made, and --component and --layers.",
        )


def slider(
    config: Config,
    pipe: StyleEditPipeline,
    vector: Tensor,
    space: Space,
    is_unit: bool,
    reach: float | None,
) -> Strength:
    """The range of a direction's slider: given, stated by the file, measured, or the default.

    A direction of length 1 does not say how far to go. Its slider reaches three standard deviations
    of random latents along it, and starts at one.
    """
    if config.strength_range is not None:
        low, high = config.strength_range
        if not low < high:
            raise ArtifactError(
                f"Got --strength-range {low} {high}.",
                got=config.strength_range,
                expected="the lower number first",
            )
        return Strength(min(max(1.0, low), high), low, high)
    if reach is not None:
        return Strength(min(1.0, reach), -reach, reach)
    if not is_unit:
        return Strength()
    codes = pipe.lower(pipe.sample(range(_SAMPLES), truncation_psi=1.0), space).codes
    flat = vector.flatten().to(codes)
    deviation = float((codes.flatten(1) @ flat / flat.square().sum()).std())
    deviation = float(f"{deviation:.2g}")
    if deviation == 0:
        raise MismatchError(
            "Random latents do not vary along this direction.",
            got=deviation,
            expected="a direction of this generator",
            remedy="Use the generator that it was made for, or give --strength-range.",
        )
    return Strength(deviation, -_DEVIATIONS * deviation, _DEVIATIONS * deviation)


def mapper(config: Config, content: Any, path: Path) -> LatentMapper:
    """StyleCLIP's mapper; its decoder must be the pipeline's generator."""
    pipe = load_pipeline(config)
    if rosinality.find(content) is not None:
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
                f"The mapper has a part for {missing[0]} layers that this generator lacks."
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
        f"{renamed[group]}.{name}": source.load()
        for group, tensors in found.networks.items()
        for name, source in tensors.items()
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
            f"fs3 has {len(relevance)} rows, which does not match the channels of the first "
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
        raise ArtifactError(
            "holds an edit, which belongs to a generator. Give --pipeline",
            expected="--pipeline NAME",
        )
    return StyleEditPipeline.from_pretrained(config.pipeline, device="cpu")


def sizes_of(pipe: StyleEditPipeline) -> Sizes:
    """Those of the pipeline's generator."""
    generator = pipe.generator
    return Sizes(
        generator.num_ws, generator.config.w_dim, generator.config.z_dim, generator.num_styles
    )


if __name__ == "__main__":
    run(main, Config, __doc__)
