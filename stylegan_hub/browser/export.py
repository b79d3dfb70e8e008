"""Export a pipeline for the browser: `stylegan-hub export PIPELINE --format web -o FOLDER`.

The folder holds `layout.json`, which lists the content, and safetensors files in half precision,
one for each part, so that a page loads a part when it first needs it. The library in
`stylegan_hub/browser/` reads them. `self_test.safetensors` holds inputs and Python's results, with
which a browser checks that it computes the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import check_room, write_bytes
from stylegan_hub.edits.base import Edit, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import InstantEdit
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.limited import Limited
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.fit import table
from stylegan_hub.methods.instant import Settings
from stylegan_hub.methods.level import TOP_SHARE
from stylegan_hub.methods.method import get
from stylegan_hub.methods.prompt_bank import TEMPLATES
from stylegan_hub.methods.word_bank import NAMELESS, grouped_entries, known_entries, sentence
from stylegan_hub.methods.wording import rules
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.storage import staged
from stylegan_hub.version import __version__

FORMAT = "stylegan-hub-web"
FORMAT_VERSION = 3
LAYOUT_NAME = "layout.json"
KINDS: tuple[type[Edit], ...] = (Direction, InstantEdit, LatentMapper, Limited)
"""Kinds of edits that the browser library supports."""

_SEED, _PSI = 7, 0.7  # for the self-test

Files = dict[str, bytes]
"""Contents of a folder's files, by name."""


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        folder: the folder with `layout.json`.
        sizes: bytes of each file.
        rounding: the largest difference, in levels of 255, between the picture of the self-test
            and the same picture with weights in half precision.
    """

    folder: Path
    sizes: Mapping[str, int]
    rounding: float


def export_web(
    pipe: StyleEditPipeline,
    folder: str | Path,
    *,
    edits: Mapping[str, Edit] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a pipeline and edits for it as files that a browser can run.

    Parts that the pipeline lacks are left out: without an instant model the page takes no words,
    without an encoder no portraits.

    Args:
        folder: the target; it is created, and files of an earlier export in it are replaced.
        edits: edits by the names that a page shows.
        overwrite: also write into a folder that holds something else.

    Raises:
        MismatchError: an edit belongs to another generator, or the browser library does not support
            the generator.
        ArtifactError: the folder holds something else, or the browser library does not support a
            kind of edit; nothing is written.
        StorageError: the disk refuses; nothing is written.
    """
    target = Path(folder)
    if not overwrite:
        check_room(target, LAYOUT_NAME)
    files, rounding = web_files(pipe, edits or {})
    with staged(target) as new:
        for name, data in files.items():
            write_bytes(new / name, data)
    return Exported(target, {name: len(data) for name, data in files.items()}, rounding)


@torch.no_grad()
def web_files(pipe: StyleEditPipeline, edits: Mapping[str, Edit]) -> tuple[Files, float]:
    """The files of `export_web` by name, and its `rounding`."""
    pipe = pipe.in_full_precision()
    _check(pipe.generator)
    files: Files = {}
    layout = _common(pipe) | {
        "generator": _generator(files, pipe.generator),
        "parts": _parts(files, pipe),
        "edits": [_edit(files, pipe, name, edit) for name, edit in edits.items()],
    }
    tensors, layout["self_test"], rounding = _self_test(pipe, edits)
    layout["self_test"] |= _put(files, "self_test", tensors, half=False)
    files[LAYOUT_NAME] = _json(layout)
    return files, rounding


@torch.no_grad()
def synthesis_files(pipe: StyleEditPipeline) -> Files:
    """Only the files that render pictures from style codes, without faces or edits.

    Raises:
        MismatchError: the browser library does not support the generator.
    """
    pipe = pipe.in_full_precision()
    _check(pipe.generator)
    files: Files = {}
    tensors, layout_of_test, _ = _picture_test(pipe)
    layout = _common(pipe) | {
        "generator": _generator(files, pipe.generator, synthesis_only=True),
        "parts": {},
        "edits": [],
        "self_test": layout_of_test | _put(files, "self_test", tensors, half=False),
    }
    files[LAYOUT_NAME] = _json(layout)
    return files


def _check(generator: StyleGAN2Generator) -> None:
    config = generator.config
    computed = {
        "architecture": "skip", "activation": "lrelu", "mapping_activation": "lrelu",
    }  # fmt: skip
    for name, wanted in computed.items():
        if config[name] != wanted:
            raise MismatchError(
                f"This generator has {name} {config[name]!r}.",
                got=config[name],
                expected=wanted,
                remedy="The browser library does not support it; use the full app.",
            )


def _common(pipe: StyleEditPipeline) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        "neutral": pipe.neutral,
        "label": pipe.config.label if isinstance(pipe.config.label, int) else None,
        "base_model": asdict(pipe.base_model),
    }


def _generator(
    files: Files, generator: StyleGAN2Generator, synthesis_only: bool = False
) -> dict[str, Any]:
    tensors = {
        name: tensor
        for name, tensor in generator.state_dict().items()
        if not (synthesis_only and (name.startswith("mapping.") or ".affine." in name))
    }
    config = {name: value for name, value in generator.config.items() if name[0] != "_"}
    config |= {
        "num_ws": generator.num_ws,
        "num_styles": generator.num_styles,
        "img_size": list(generator.img_size),
        "style_layout": [layer._asdict() for layer in generator.style_layout],
    }
    return {"config": config, **_put(files, "generator", tensors)}


def _parts(files: Files, pipe: StyleEditPipeline) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if pipe.instant is not None:
        parts["text"] = _text(files, pipe)
        parts["vision"] = _vision(files, pipe)
        parts["instant"] = _instant(files, pipe)
    if pipe.encoder is not None:
        parts["encoder"] = _encoder(files, pipe)
    return parts


def _text(files: Files, pipe: StyleEditPipeline) -> dict[str, Any]:
    own = _tower(pipe, "text_model.", "text_projection.weight")
    model = json.loads(pipe.tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(pipe.tokenizer.get_vocab().items(), key=lambda item: item[1])
    tokenizer = {
        "tokens": [token for token, _ in tokens],
        "merges": model["merges"],
        "max_length": pipe.tokenizer.model_max_length,
        "start": pipe.tokenizer.bos_token_id,
        "end": pipe.tokenizer.eos_token_id,
    }
    config = pipe.clip.config.text_config.to_dict()
    return {"config": config, "tokenizer": tokenizer, **_put(files, "text", own)}


def _vision(files: Files, pipe: StyleEditPipeline) -> dict[str, Any]:
    own = _tower(pipe, "vision_model.", "visual_projection.weight")
    config = pipe.clip.config.vision_config.to_dict()
    size, side = config["image_size"], pipe.generator.config.img_resolution
    own["resize"] = _resizing(side, size, "bicubic")
    height, width = pipe.generator.img_size
    sketch = pipe.sketch_side if height == width else None  # searches look at a smaller picture
    if sketch is not None:
        own["resize_sketch"] = _resizing(sketch, size, "bicubic")
    processor = pipe.image_processor
    config |= {"mean": list(processor.image_mean), "std": list(processor.image_std)}
    config["sketch"] = sketch
    return {"config": config, **_put(files, "vision", own)}


def _tower(pipe: StyleEditPipeline, *prefixes: str) -> dict[str, Tensor]:
    state = pipe.clip.state_dict()
    named = {name: tensor for name, tensor in state.items() if name.startswith(prefixes)}
    return {name: tensor for name, tensor in named.items() if tensor.is_floating_point()}


def _instant(files: Files, pipe: StyleEditPipeline) -> dict[str, Any]:
    settings: Settings = get("instant").presets["default"]
    config = {
        "settings": asdict(settings),
        "templates": TEMPLATES if settings.templates else ["{}"],
        "top_share": TOP_SHARE,
        "strength": asdict(Strength()),
        "fit": asdict(table(pipe)),
        "nameless": sorted(NAMELESS),
        "words": [
            {"shown": said if "*" in entry else entry, "sentence": said, "group": group}
            for group, entry in grouped_entries(pipe)
            for said in (sentence(pipe, entry),)
        ],
    }
    model = pipe.instant
    tensors = {"w": model.w, "seen": model.seen}
    return {"config": config, "wording": rules(), **_put(files, "instant", tensors)}


def _encoder(files: Files, pipe: StyleEditPipeline) -> dict[str, Any]:
    encoder = pipe.encoder
    height, width = pipe.generator.img_size
    tensors = {
        name: tensor for name, tensor in encoder.state_dict().items() if tensor.is_floating_point()
    }
    tensors["resize_rows"] = _resizing(height, encoder.input_size[0], "bilinear")
    tensors["resize_columns"] = _resizing(width, encoder.input_size[1], "bilinear")
    config = {name: value for name, value in encoder.config.items() if name[0] != "_"}
    return {"config": config, **_put(files, "encoder", tensors)}


def _resizing(source: int, target: int, mode: str) -> Tensor:
    """The matrix `[target, source]` that resizes a row of pixels without aliasing."""
    if source == target:
        return torch.eye(source)
    rows = torch.eye(source)[None, None]  # [1, 1, source, source]: each column is one pixel
    return F.interpolate(rows, (target, source), mode=mode, antialias=True)[0, 0]


def _edit(files: Files, pipe: StyleEditPipeline, name: str, edit: Edit) -> dict[str, Any]:
    if not isinstance(edit, KINDS):
        known = ", ".join(kind.kind for kind in KINDS)
        raise ArtifactError(
            f"The edit {name!r} is of the kind {edit.kind!r}, which the browser library does not "
            "support.",
            got=edit.kind,
            expected=known,
            remedy="Leave it out; it works in the full app.",
        )
    edit.check_fits(pipe.base_model)
    file = f"edits/{''.join(c if c.isalnum() or c in '-_' else '-' for c in name)}"
    config = {**edit.config(), "fit": edit.origin.fit}
    return {"name": name, "config": config, **_put(files, file, edit.tensors())}


def _picture_test(pipe: StyleEditPipeline) -> tuple[dict[str, Tensor], dict[str, Any], Latents]:
    face = pipe.sample(_SEED, _PSI)
    s = pipe.lower(face, Space.S).codes
    picture = image_files.to_uint8(pipe.synthesize(Latents(Space.S, s)).clamp(-1, 1))
    tensors = {"s": s[0], "picture": picture[0].permute(1, 2, 0)}
    return tensors, {"seed": _SEED, "psi": _PSI}, face


def _self_test(
    pipe: StyleEditPipeline, edits: Mapping[str, Edit]
) -> tuple[dict[str, Tensor], dict[str, Any], float]:
    tensors, layout, face = _picture_test(pipe)
    tensors["w"] = face.codes[0, 0]
    if pipe.generator.z_dim:
        random = torch.Generator().manual_seed(_SEED)
        tensors["z"] = torch.randn(pipe.generator.z_dim, generator=random)
    start = tensors["s"]
    for name, edit in edits.items():
        moved = pipe.lower(edit.apply(pipe.lower(face, edit.space), 1.0), Space.S)
        tensors[f"edit.{name}"] = moved.codes[0] - start
    words = f"{pipe.neutral} with {known_entries(pipe)[0]}" if known_entries(pipe) else pipe.neutral
    layout["words"] = words
    tensors["text"] = pipe.encode_text(words)[0]
    rendered = pipe.synthesize(face)
    tensors["vision"] = pipe.encode_image(rendered)[0]
    if pipe.instant is not None:
        found = get("instant").find(pipe, words, face)
        shown = pipe.synthesize(pipe.apply(face, [(found, 1.0)])).clamp(-1, 1)
        tensors["found"] = image_files.to_uint8(shown)[0].permute(1, 2, 0)
    if pipe.encoder is not None:
        pixels = image_files.from_uint8(tensors["picture"].permute(2, 0, 1)[None])
        tensors["inverted"] = pipe.encoder.encode(pixels)[0].flatten()
    return tensors, layout, _rounding(pipe, face)


def _rounding(pipe: StyleEditPipeline, face: Latents) -> float:
    generator = pipe.generator
    rounded = StyleGAN2Generator.from_config(generator.config).eval().requires_grad_(False)
    rounded.load_state_dict({k: v.half().float() for k, v in generator.state_dict().items()})
    pictures = [one.synthesis(face.codes).clamp(-1, 1) for one in (generator, rounded)]
    return float((pictures[0] - pictures[1]).abs().max() * 127.5)


def _put(
    files: Files, name: str, tensors: Mapping[str, Tensor], half: bool = True
) -> dict[str, Any]:
    """Add a safetensors file and return its entry for the layout."""

    def stored(tensor: Tensor) -> Tensor:
        values = tensor.detach().cpu().contiguous()
        if not values.is_floating_point():
            return values
        if half and bool(values.abs().max() < torch.finfo(torch.float16).max):
            return values.half()
        return values.float()

    data = tensors_to_bytes({key: stored(tensor) for key, tensor in tensors.items()})
    files[f"{name}.safetensors"] = data
    return {"file": f"{name}.safetensors", "bytes": len(data)}


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def sizes_text(exported: Exported) -> str:
    """The files of an export as text, a line for each, the largest first."""
    rows = sorted(exported.sizes.items(), key=lambda item: -item[1])
    lines = [f"{size / 1e6:8.2f} MB  {name}" for name, size in rows]
    return "\n".join([*lines, f"{sum(exported.sizes.values()) / 1e6:8.2f} MB  in all"])
