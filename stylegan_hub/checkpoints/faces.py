"""Published encoders, recognizers and parsers: e4e, pSp, ArcFace IR-SE50, BiSeNet.

Our networks use the published names of tensors, so only the sizes have to be determined.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylegan_hub.checkpoints import state_dicts
from stylegan_hub.checkpoints.files import of_file
from stylegan_hub.checkpoints.generator import generator_from
from stylegan_hub.checkpoints.pickles import Array
from stylegan_hub.checkpoints.sources import Reading, to_tensor
from stylegan_hub.checkpoints.state_dicts import StateDict, options
from stylegan_hub.errors import ArtifactError
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.parser import FACE_PARTS, Parser
from stylegan_hub.models.recognizer import Recognizer

_AVERAGE = "latent_avg"
# Names that identify such a network; any of them may be missing.
_ENCODER = re.compile(r"input_layer\.0\.weight|styles\.\d+\.linear\.weight")
_RECOGNIZER = re.compile(r"output_layer\.\d\.\w+")
_PARSER = re.compile(r"cp\.resnet\..+")
_DELTAS = {"Encoder4Editing": True, "GradualStyleEncoder": False}  # e4e, pSp
_WIDTHS = [64, 128, 256, 512]
_DEPTHS = ((3, 4, 14, 3), (3, 13, 30, 3), (3, 8, 36, 3))  # IR-SE of 50, 100 and 152 layers
_CAR_SIZE = (192, 256)  # e4e's cars are wide; everything else is square


def find_encoder(content: Any) -> StateDict | None:
    """The tensors of e4e's or pSp's encoder in a file."""
    return state_dicts.find(content, _ENCODER, ("encoder.",))


def find_recognizer(content: Any) -> StateDict | None:
    """The tensors of a face recognizer with the names of IR-SE50 in a file."""
    found = state_dicts.find(content, _RECOGNIZER)
    if found is None or not any(name.startswith("body.") for name in found.tensors):
        return None
    return found


def find_parser(content: Any) -> StateDict | None:
    """The tensors of a face parser with the names of BiSeNet in a file."""
    return state_dicts.find(content, _PARSER)


def encoder_from(content: Any, path: Path) -> Encoder:
    """The encoder in a checkpoint of e4e or pSp that has been read (`read_checkpoint`).

    The average is `latent_avg` in the file, or else the average w of the decoder in the file.

    Raises:
        ArtifactError: it is another kind of encoder (such as pSp's into W), or tensors do not fit.
    """
    try:
        reading = encoder_reading(content)
        rows, w_dim = reading.config["num_ws"], reading.config["w_dim"]
        stored = content.get(_AVERAGE)
        if options(content).get("start_from_latent_avg", True) is False:
            average = torch.zeros(rows, w_dim)
        elif state_dicts.is_array(stored):
            average = to_tensor(stored).float()
            if average.numel() not in (w_dim, rows * w_dim):
                raise ArtifactError(
                    f"tensor 'latent_avg' has the shape {list(average.shape)}; expected "
                    f"{[rows, w_dim]} or {[w_dim]}"
                )
            average = average.reshape(-1, w_dim).expand(rows, w_dim).contiguous()
        else:
            average = generator_from(content, path).mapping.w_avg.repeat(rows, 1)
        encoder = reading.build(path.stat().st_size)
        encoder.latent_avg.copy_(average)
        return encoder
    except ArtifactError as error:
        raise of_file(path, error) from error


def encoder_reading(content: Any) -> Reading[Encoder]:
    """The encoder that a checkpoint of e4e or pSp describes."""
    found = find_encoder(content)
    assert found is not None
    tensors, opts = found.tensors, options(content)
    kind = opts.get("encoder_type")
    if kind is None or not isinstance(kind, str) or kind not in _DELTAS:
        raise ArtifactError(
            f"holds an encoder of the type {str(kind)[:50]!r}; supported are "
            f"{' (e4e) and '.join(map(repr, _DELTAS))} (pSp).",
            got=kind,
            expected=tuple(_DELTAS),
            remedy="The tensors of both have the same names, so the file's 'opts' must contain "
            "'encoder_type'.",
        )
    units, widths, reduction = _residual_units(tensors)
    depths = _depths(tensors)
    num_ws = len(depths)
    levels = [next((i for i, d in enumerate(depths) if d > depths[0] + k), num_ws) for k in (0, 1)]
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
    lacks_average = (_AVERAGE, ".num_batches_tracked")
    return _reading("an encoder (e4e, pSp)", Encoder, config, found, lacks_average)


def recognizer_from(content: Any, path: Path) -> Recognizer:
    """The recognizer in a file like model_ir_se50.pth that has been read.

    Raises:
        ArtifactError: tensors are missing, unexpected or do not fit; the message names one.
    """
    try:
        return recognizer_reading(content).build(path.stat().st_size)
    except ArtifactError as error:
        raise of_file(path, error) from error


def recognizer_reading(content: Any) -> Reading[Recognizer]:
    """The recognizer that a file like model_ir_se50.pth describes."""
    found = find_recognizer(content)
    assert found is not None
    tensors = found.tensors
    units, widths, reduction = _residual_units(tensors)
    embedding_dim, features = _shape(tensors, "output_layer.3.weight")
    config = {
        "units": units,
        "widths": widths,
        "input_size": round((features / widths[-1]) ** 0.5) * 2 ** len(units),
        "embedding_dim": embedding_dim,
        "reduction": reduction,
        "affine": any(f"output_layer.4.{name}" in tensors for name in ("weight", "bias")),
    }
    return _reading("a face recognizer (IR-SE)", Recognizer, config, found)


def parser_from(content: Any, path: Path) -> Parser:
    """The parser in a file like 79999_iter.pth that has been read.

    Raises:
        ArtifactError: tensors are missing, unexpected or do not fit, or the parts are not those of
            CelebAMask-HQ.
    """
    try:
        return parser_reading(content).build(path.stat().st_size)
    except ArtifactError as error:
        raise of_file(path, error) from error


def parser_reading(content: Any) -> Reading[Parser]:
    """The parser that a file like 79999_iter.pth describes."""
    found = find_parser(content)
    assert found is not None
    count = _shape(found.tensors, "conv_out.conv_out.weight")[0]
    if count != len(FACE_PARTS):
        raise ArtifactError(
            f"parses {count} parts whose names are not in the file; expected the "
            f"{len(FACE_PARTS)} of CelebAMask-HQ",
            got=count,
            expected=len(FACE_PARTS),
        )
    config = {"width": _shape(found.tensors, "cp.resnet.conv1.weight")[0]}
    return _reading("a face parser (BiSeNet)", Parser, config, found)


def _reading(
    what: str,
    model: Any,
    config: Mapping[str, Any],
    found: StateDict,
    lacking: tuple[str, ...] = (".num_batches_tracked",),  # a step count that older torch lacks
) -> Reading[Any]:
    def fill(name: str, expected: Tensor) -> Tensor:
        return torch.zeros(expected.shape, dtype=expected.dtype)

    return Reading(what, model, config, found.part(), lambda name: name.endswith(lacking), fill)


def _shape(tensors: Mapping[str, Array], name: str) -> tuple[int, ...]:
    if name not in tensors or len(tensors[name].shape) < 2:
        raise ArtifactError(f"lacks the tensor {name!r}, or it has fewer than two dimensions")
    return tensors[name].shape


def _residual_units(tensors: Mapping[str, Array]) -> tuple[list[int], list[int], int]:
    """Units and channels of each stage, and the reduction of squeeze-and-excitation."""
    count = 0
    while f"body.{count}.res_layer.1.weight" in tensors:
        count += 1
    every = [_shape(tensors, f"body.{i}.res_layer.1.weight")[0] for i in range(count)]
    if not every:
        raise ArtifactError("lacks the tensor 'body.0.res_layer.1.weight'")
    stages = [(width, len(list(units))) for width, units in groupby(every)]
    reduced = _shape(tensors, "body.0.res_layer.5.fc1.weight")[0]
    units, widths = [units for _, units in stages], [width for width, _ in stages]
    if widths == _WIDTHS and tuple(units) not in _DEPTHS:
        raise ArtifactError(
            f"has a body of {units} units.",
            got=tuple(units),
            expected=tuple(_DEPTHS),
            remedy="Units are missing: published networks of these widths have "
            f"{', '.join(map(str, _DEPTHS))}. Download it again.",
        )
    return units, widths, every[0] // max(reduced, 1)


def _depths(tensors: Mapping[str, Array]) -> list[int]:
    """The number of convolutions of each style head."""
    heads: dict[int, int] = {}
    for name in tensors:
        if match := re.fullmatch(r"styles\.(\d{1,2})\.convs\.\d+\.weight", name):
            heads[int(match[1])] = heads.get(int(match[1]), 0) + 1
    if sorted(heads) != list(range(len(heads))) or not heads or heads[0] > 8:
        raise ArtifactError(f"has the style heads {sorted(heads)}; expected all from 0 on")
    return [heads[i] for i in range(len(heads))]
