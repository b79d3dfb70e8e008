"""Weights of the JavaScript package face-api (`@vladmandic/face-api`), under our networks' names.

A model is two files: NAME-weights_manifest.json, a list of names, shapes and types, and NAME.bin,
the numbers one after the other; quantized tensors are stored as bytes. Nothing in them can be
executed, and nothing else in the package is read.
"""

from __future__ import annotations

import json
import math
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.models.quantized import Quantized

MODELS = {
    "finder": "tiny_face_detector_model",
    "points": "face_landmark_68_model",
    "expression": "face_expression_model",
    "age": "age_gender_model",
    "judge": "face_recognition_model",
}
"""The name of the package's model for each of our networks."""

_MAX_BYTES = 1 << 24  # of a file; the largest of these files has 6.4 MB
_TYPES: Mapping[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "float32": np.dtype("<f4"),
}
_LAYERS = (
    (r"depthwise_filter$", "depthwise.weight"),
    (r"pointwise_filter$", "pointwise.weight"),
    (r"filters$|weights$", "weight"),
)
_DENSE = (
    (r"^dense(\d)/conv0/", r"trunk.blocks.\1.first."),
    (r"^dense(\d)/conv1/", r"trunk.blocks.\1.others.0."),
    (r"^dense(\d)/conv2/", r"trunk.blocks.\1.others.1."),
    (r"^dense(\d)/conv3/", r"trunk.blocks.\1.others.2."),
)
_BLOCKS = ("32_1", "32_2", "32_3", "64_down", "64_1", "64_2", "64_3", "128_down", "128_1", "128_2",
           "256_down", "256_1", "256_2", "256_down_out")  # fmt: skip
# For each network, the replacements from the package's names to ours, applied in this order.
_RENAMED: Mapping[str, Sequence[tuple[str, str]]] = {
    "finder": (
        *((rf"^conv{i}/", f"convs.{i - 1}.") for i in range(1, 6)),
        (r"^conv0/", "conv0."),
        (r"^conv8/", "head."),
    ),
    "points": _DENSE,
    "expression": _DENSE,
    "age": (
        (r"^entry_flow/conv_in/", "entry."),
        (r"^entry_flow/reduction_block_(\d)/", r"reductions.\1."),
        (r"^exit_flow/reduction_block/", "reductions.2."),
        (r"^exit_flow/separable_conv/", "last."),
        (r"^middle_flow/main_block_(\d)/", r"mains.\1."),
        (r"separable_conv(\d)/", r"convs.\1."),
        (r"expansion_conv/", "expansion."),
        (r"^fc/age/", "fc."),
    ),
    "judge": (
        (r"^conv32_down/", "entry."),
        *((rf"^conv{name}/", f"blocks.{i}.") for i, name in enumerate(_BLOCKS)),
        (r"conv1/", "first."),
        (r"conv2/", "second."),
        (r"scale/weights$", "scale"),
        (r"scale/biases$", "shift"),
        (r"^fc$", "fc.weight"),
    ),
}
_LEFT_OUT = re.compile(r"fc/gender/")


def read_model(package: str | Path, network: str) -> dict[str, Tensor | Quantized]:
    """The tensors of one of our networks, a key of `MODELS`, from the package.

    Args:
        package: its folder, or the .tgz file that `npm pack` makes.

    Raises:
        NotFoundError: there is no such file or folder, or the model is not in it.
        ArtifactError: a file is damaged or has unexpected content.
    """
    name = MODELS[network]
    manifest = _read(Path(package), f"{name}-weights_manifest.json")
    data = _read(Path(package), f"{name}.bin")
    tensors: dict[str, Tensor | Quantized] = {}
    for theirs, tensor in _tensors(manifest, data, name).items():
        if not _LEFT_OUT.match(theirs):
            ours = _our_name(theirs, network)
            tensors[ours] = _our_layout(tensor, ours)
    return tensors


def _read(package: Path, name: str) -> bytes:
    """A file of the package's folder `model`, from the folder or the archive."""
    try:
        if package.is_dir():
            inside = (package / "model" / name, package / name)
            path = next((one for one in inside if one.is_file()), inside[0])
            if path.stat().st_size > _MAX_BYTES:
                raise _damaged(name, path.stat().st_size, f"at most {_MAX_BYTES} bytes")
            return path.read_bytes()
        with tarfile.open(package) as archive:
            member = archive.getmember(f"package/model/{name}")
            file = archive.extractfile(member)
            if file is None or member.size > _MAX_BYTES:
                raise _damaged(name, member.size, f"a file of at most {_MAX_BYTES} bytes")
            return file.read()
    except (FileNotFoundError, KeyError) as error:
        raise NotFoundError(
            f"There is no model/{name} in {package}.",
            got=str(package),
            expected="the folder or the .tgz file of the package",
            remedy="Fetch it with `npm pack @vladmandic/face-api@1.7.15`.",
        ) from error
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _damaged(package.name, str(error), "a .tgz file") from error


def _tensors(manifest: bytes, data: bytes, name: str) -> dict[str, Tensor | Quantized]:
    """All tensors, in the layout of the file."""
    try:
        groups = json.loads(manifest)
        entries = [entry for group in groups for entry in group["weights"]]
        found: dict[str, Tensor | Quantized] = {}
        start = 0
        for entry in entries:
            tensor, start = _tensor(entry, data, start)
            found[str(entry["name"])] = tensor
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
        raise _damaged(name, repr(error), "names, shapes and types of tensors") from error
    if start != len(data):
        raise _damaged(name, f"{len(data)} bytes", f"the {start} bytes that its manifest names")
    return found


def _tensor(entry: Mapping[str, Any], data: bytes, start: int) -> tuple[Tensor | Quantized, int]:
    """The tensor that begins at this byte, and the byte where the next one begins."""
    quantization = entry.get("quantization")
    dtype = _TYPES[entry["dtype"] if quantization is None else quantization["dtype"]]
    shape = [int(side) for side in entry["shape"]]
    count = math.prod(shape)
    stop = start + count * dtype.itemsize
    if min(shape, default=1) < 1 or stop > len(data):
        raise ValueError(f"{entry['name']} of shape {shape} ends at {stop} of {len(data)} bytes")
    numbers = np.frombuffer(data, dtype, count, start).reshape(shape)
    tensor = torch.from_numpy(numbers.copy())
    if quantization is None:
        return tensor, stop
    scale, minimum = float(quantization["scale"]), float(quantization["min"])
    if not math.isfinite(scale) or not math.isfinite(minimum):
        raise ValueError(f"{entry['name']} has the scale {scale} and the minimum {minimum}")
    return Quantized(tensor, scale, minimum), stop


def _our_name(theirs: str, network: str) -> str:
    name = theirs
    for pattern, ours in _RENAMED[network]:
        name = re.sub(pattern, ours, name)
    for pattern, ours in _LAYERS:
        name = re.sub(pattern, ours, name)
    name = name.replace("/", ".")
    # The bias after both convolutions belongs to the second one.
    is_separable = re.search(r"(?:convs|others|last|first)(?:\.\d+)?\.bias$", name)
    if is_separable and not name.startswith("trunk.blocks.0.first") and network != "judge":
        name = name.removesuffix("bias") + "pointwise.bias"
    return name


def _our_layout(tensor: Tensor | Quantized, name: str) -> Tensor | Quantized:
    """From [h, w, in, out] to [out, in, h, w]; matrices from [in, out] to [out, in]."""
    if isinstance(tensor, Quantized):
        levels = _our_layout(tensor.levels, name)
        assert isinstance(levels, Tensor)
        return Quantized(levels, tensor.scale, tensor.minimum)
    if tensor.ndim == 2:
        return tensor.T.contiguous()
    if tensor.ndim != 4:
        return tensor
    order = (2, 3, 0, 1) if name.endswith("depthwise.weight") else (3, 2, 0, 1)
    return tensor.permute(order).contiguous()


def _damaged(name: str, got: object, expected: str) -> ArtifactError:
    return ArtifactError(
        f"The file {name} is damaged: got {got}; expected {expected}.",
        got=got,
        expected=expected,
        remedy="Fetch it again with `npm pack @vladmandic/face-api@1.7.15`.",
    )
