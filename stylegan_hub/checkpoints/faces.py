"""Published encoders, recognizers and parsers: e4e, pSp, ArcFace IR-SE50, BiSeNet.

Our networks have the published names of tensors, so that only sizes have to be found out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints.generator import describe, generator_from
from stylegan_hub.checkpoints.sources import Source, build_model
from stylegan_hub.checkpoints.tensors import StoredTensor
from stylegan_hub.checkpoints.unpickler import Record
from stylegan_hub.errors import ArtifactError

if TYPE_CHECKING:
    from stylegan_hub.models.encoder import Encoder
    from stylegan_hub.models.parser import Parser
    from stylegan_hub.models.recognizer import Recognizer

_DELTAS = {"Encoder4Editing": True, "GradualStyleEncoder": False}  # e4e, pSp
_CAR_SIZE = (192, 256)  # e4e's cars are wide; everything else is square


def is_encoder(content: Any) -> bool:
    """Whether a file is a checkpoint of e4e or pSp."""
    return "input_layer.0.weight" in tensors_of(content, "encoder.")


def is_recognizer(content: Any) -> bool:
    """Whether a file is a face recognizer with the names of IR-SE50."""
    names = tensors_of(content)
    return "input_layer.0.weight" in names and "output_layer.3.weight" in names


def is_parser(content: Any) -> bool:
    """Whether a file is a face parser with the names of BiSeNet."""
    return "cp.resnet.conv1.weight" in tensors_of(content)


def encoder_from(content: Any, path: Path) -> Encoder:
    """The encoder in a checkpoint of e4e or pSp that has been read (`read_checkpoint`).

    `latent_avg` is in the file, or else the average w of the decoder inside.

    Raises:
        ArtifactError: another kind of encoder (such as pSp's into W), or tensors that do not fit.
    """
    from stylegan_hub.models.encoder import Encoder

    tensors = tensors_of(content, "encoder.")
    opts = _options(content.get("opts"))
    kind = opts.get("encoder_type", "Encoder4Editing")
    if not isinstance(kind, str) or kind not in _DELTAS:
        raise ArtifactError(
            f"{path} holds an encoder of the type {str(kind)[:50]!r}; supported are "
            f"{' (e4e) and '.join(map(repr, _DELTAS))} (pSp)."
        )
    try:
        units, widths, reduction = _residual_units(tensors)
        depths = _depths(tensors)
        num_ws = len(depths)
        levels = [
            next((i for i, d in enumerate(depths) if d > depths[0] + k), num_ws) for k in (0, 1)
        ]
        side = 16 * 2 ** depths[0]
        w_dim, head_width = (
            _shape(tensors, f"styles.0.{n}")[0] for n in ("linear.weight", "convs.0.weight")
        )
        config = {
            "num_ws": num_ws,
            "w_dim": w_dim,
            "input_size": _CAR_SIZE if opts.get("dataset_type") == "cars_encode" else side,
            "units": units,
            "widths": widths,
            "head_width": head_width,
            "levels": levels,
            "reduction": reduction,
            "deltas": _DELTAS[kind],
        }
        average: Tensor | None = None
        if opts.get("start_from_latent_avg", True) is False:
            average = torch.zeros(num_ws, w_dim)
        elif isinstance(stored := content.get("latent_avg"), StoredTensor):
            average = Source("latent_avg", stored).load()
            if average.numel() not in (w_dim, num_ws * w_dim):
                raise ArtifactError(
                    f"tensor 'latent_avg' has the shape {list(average.shape)}; expected "
                    f"{[num_ws, w_dim]} or {[w_dim]}"
                )
            average = average.reshape(-1, w_dim).expand(num_ws, w_dim).contiguous()
        else:
            average = generator_from(content, path).mapping.w_avg.repeat(num_ws, 1)
        return _build(Encoder, config, tensors, path, {"latent_avg": average})
    except ArtifactError as error:
        raise _of(path, error) from error


def recognizer_from(content: Any, path: Path) -> Recognizer:
    """The recognizer in a file like model_ir_se50.pth that has been read.

    Raises:
        ArtifactError: tensors are missing or do not fit; one is named.
    """
    from stylegan_hub.models.recognizer import Recognizer

    tensors = tensors_of(content)
    try:
        units, widths, reduction = _residual_units(tensors)
        embedding_dim, features = _shape(tensors, "output_layer.3.weight")
        config = {
            "units": units,
            "widths": widths,
            "input_size": round((features / widths[-1]) ** 0.5) * 2 ** len(units),
            "embedding_dim": embedding_dim,
            "reduction": reduction,
            "affine": "output_layer.4.weight" in tensors,
        }
        return _build(Recognizer, config, tensors, path)
    except ArtifactError as error:
        raise _of(path, error) from error


def parser_from(content: Any, path: Path) -> Parser:
    """The parser in a file like 79999_iter.pth that has been read.

    Raises:
        ArtifactError: tensors are missing or do not fit, or other parts than CelebAMask-HQ's.
    """
    from stylegan_hub.models.parser import FACE_PARTS, Parser

    tensors = tensors_of(content)
    try:
        count = _shape(tensors, "conv_out.conv_out.weight")[0]
        if count != len(FACE_PARTS):
            raise ArtifactError(
                f"parses {count} parts whose names are not in the file; expected the "
                f"{len(FACE_PARTS)} of CelebAMask-HQ"
            )
        config = {"width": _shape(tensors, "cp.resnet.conv1.weight")[0]}
        return _build(Parser, config, tensors, path)
    except ArtifactError as error:
        raise _of(path, error) from error


def tensors_of(content: Any, prefix: str = "") -> dict[str, Source]:
    """The tensors of a state_dict, plain or inside of a dict, whose names have a prefix."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        return {}
    return {
        name.removeprefix("module.").removeprefix(prefix): Source(name, stored)
        for name, stored in content.items()
        if isinstance(name, str)
        and isinstance(stored, StoredTensor)
        and name.removeprefix("module.").startswith(prefix)
    }


def _build(
    model: Any,
    config: Mapping[str, Any],
    tensors: Mapping[str, Source],
    path: Path,
    known: Mapping[str, Tensor] | None = None,
) -> Any:
    def missing(name: str, expected: Tensor) -> Tensor | None:
        if name.endswith(".num_batches_tracked"):  # counts training steps; older torch has none
            return torch.zeros((), dtype=torch.int64)
        return (known or {}).get(name)

    return build_model(model, config, tensors, path.stat().st_size, missing)


def _of(path: Path, error: ArtifactError) -> ArtifactError:
    text = str(error)
    return error if text.startswith(str(path)) else ArtifactError(f"{path}: {text}.")


def _options(options: Any) -> dict[str, Any]:
    if isinstance(options, Record):  # argparse.Namespace
        options = options.state
    return options if isinstance(options, dict) else {}


def _shape(tensors: Mapping[str, Source], name: str) -> tuple[int, ...]:
    if name not in tensors or len(tensors[name].stored.shape) < 2:
        raise ArtifactError(f"lacks the tensor {name!r}, or it has less than two dimensions")
    return tensors[name].stored.shape


def _residual_units(tensors: Mapping[str, Source]) -> tuple[list[int], list[int], int]:
    """Units of each stage, channels of each stage, and the reduction of squeeze-and-excitation."""
    count = 0
    while f"body.{count}.res_layer.1.weight" in tensors:
        count += 1
    every = [_shape(tensors, f"body.{i}.res_layer.1.weight")[0] for i in range(count)]
    if not every:
        raise ArtifactError(
            f"lacks the tensor 'body.0.res_layer.1.weight'; it holds {describe(dict(tensors))}"
        )
    stages = [(width, len(list(units))) for width, units in groupby(every)]
    reduced = _shape(tensors, "body.0.res_layer.5.fc1.weight")[0]
    return (
        [units for _, units in stages],
        [width for width, _ in stages],
        every[0] // max(reduced, 1),
    )


def _depths(tensors: Mapping[str, Source]) -> list[int]:
    """Convolutions of each style head."""
    heads: dict[int, int] = {}
    for name in tensors:
        if match := re.fullmatch(r"styles\.(\d{1,2})\.convs\.\d+\.weight", name):
            heads[int(match[1])] = heads.get(int(match[1]), 0) + 1
    if sorted(heads) != list(range(len(heads))) or not heads or heads[0] > 8:
        raise ArtifactError(f"has the style heads {sorted(heads)}; expected all from 0 on")
    return [heads[i] for i in range(len(heads))]
