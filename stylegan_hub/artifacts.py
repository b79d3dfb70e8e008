"""What an edit is on disk, and how its name becomes a folder.

An artifact is a folder with `config.json` (plain values: kind, format_version, space, base_model,
strength, ...) and `model.safetensors` (the tensors; kind and version again in the header). Such a
folder is also a Hub repository and the output of a run. Pickles are never read. Reading trusts
nothing: a stranger's folder gives tensors and checked values, or an `ArtifactError`.

Writing is all or nothing: everything goes to a temporary neighbor first and is renamed when
complete, so a full disk or an interruption leaves what was there before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.version import __version__

FORMAT_VERSION = 1
"""The version of the folder that this library writes, and the newest that it reads."""

CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"
DIGEST_KEY = "tensors_sha256"

# Types of the config's keys. A kind of edit may add keys; these, when present, are as said here.
_CONFIG_TYPES: dict[str, tuple[type, ...]] = {
    "kind": (str,),
    "format_version": (int,),
    "library_version": (str,),
    "space": (str,),
    "base_model": (dict,),
    "prompt": (str, type(None)),
    "neutral": (str, type(None)),
    "strength": (dict,),
    "training": (dict,),
    "package": (str,),
    DIGEST_KEY: (str,),
}
_BASE_MODEL_TYPES: dict[str, tuple[type, ...]] = {
    "id": (str, type(None)),
    "revision": (str, type(None)),
    "fingerprint": (str,),
    "num_ws": (int,),
    "w_dim": (int,),
    "num_styles": (int,),
    "resolution": (int,),
}
_STRENGTH_TYPES: dict[str, tuple[type, ...]] = {
    "default": (int, float),
    "min": (int, float),
    "max": (int, float),
}
_MAX_CONFIG_BYTES = 1 << 20  # a real one has about a thousand bytes


@dataclass(frozen=True)
class BaseModel:
    """Which generator an edit belongs to.

    Attributes:
        id: bundled name, Hub id or folder it came from, for people to read.
        fingerprint: short hash of its weights; this decides whether an edit fits.
        num_ws, w_dim, num_styles, resolution: its sizes.
        revision: commit on the Hub, when it came from there.
    """

    id: str | None
    fingerprint: str
    num_ws: int
    w_dim: int
    num_styles: int
    resolution: int
    revision: str | None = None

    def check_same(self, loaded: BaseModel, what: str) -> None:
        """Raise `MismatchError`, naming both fingerprints, unless `loaded` is this generator.

        Args:
            what: that belongs to this generator, for the message: "edit".
        """
        if self.fingerprint == loaded.fingerprint:
            return
        advice = f' Load it with StyleEditPipeline.from_pretrained("{self.id}").' if self.id else ""
        raise MismatchError(
            f"This {what} was made for {self}; the loaded generator is {loaded}.{advice}"
        )

    def __str__(self) -> str:
        return (
            f"{self.id!r} (fingerprint {self.fingerprint}, num_ws={self.num_ws}, "
            f"w_dim={self.w_dim})"
        )


@dataclass(frozen=True)
class ClipModel:
    """Which CLIP an artifact speaks the language of.

    Attributes:
        id: where it came from, for people to read.
        fingerprint: short hash of its weights; this decides whether the artifact fits.
    """

    id: str | None
    fingerprint: str


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # some file systems report a full disk only here
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file as a whole or not at all."""
    write_bytes(path, _tensor_bytes(tensors, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors (on the CPU) and header metadata of a safetensors file.

    Raises `NotFoundError` when there is no such file, `ArtifactError` when it is damaged.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a safetensors file.")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{path} ({path.stat().st_size} bytes) is damaged or no safetensors file: {error}. "
            "Copy or download it again."
        ) from error


def write_folder(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write `config.json` and `model.safetensors`, as a whole or not at all.

    The config gets what `full_config` adds, and must name its `kind`. Other files of an existing
    folder (card, metrics, pictures) stay.

    Raises `ArtifactError` for a config that `read_folder` would refuse, `TypeError` or
    `ValueError` for a value that JSON does not have (NaN) and for tensors that hold one, `OSError`
    when the disk refuses.
    """
    full = full_config(config, tensors)
    check_config(full, folder / CONFIG_NAME)
    text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    metadata = {"kind": full["kind"], "format_version": str(FORMAT_VERSION)}

    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = _partial(folder)
    staging.mkdir()
    try:
        write_bytes(staging / TENSORS_NAME, _tensor_bytes(tensors, metadata))
        write_bytes(staging / CONFIG_NAME, text.encode())
        if folder.is_dir():  # all that can run out of space is done; only renames are left
            for name in (TENSORS_NAME, CONFIG_NAME):
                os.replace(staging / name, folder / name)
        else:
            os.rename(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def full_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A config with `format_version`, `library_version` and the digest of its tensors.

    Raises:
        ValueError: a tensor with numbers that are not finite.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(
                f"Got numbers that are not finite in the tensor {name!r}; nothing is saved. Search "
                "again with a lower learning rate, or in full precision."
            )
    return {
        **config,
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        DIGEST_KEY: tensors_digest(tensors),
    }


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The checked config and the tensors (on the CPU) of an artifact folder.

    Raises `NotFoundError` when there is no such folder, `ArtifactError` when a file is missing,
    damaged, of the wrong types or from a newer format.
    """
    config = read_config(folder)
    if not (folder / TENSORS_NAME).is_file():
        pickles = sorted(
            path.name
            for path in folder.iterdir()
            if path.suffix in {".bin", ".ckpt", ".npy", ".pkl", ".pt", ".pth"}
        )
        advice = f" {', '.join(pickles)} is not read: a pickle can run code." if pickles else ""
        raise ArtifactError(
            f"{folder} has no {TENSORS_NAME}; an artifact needs it beside {CONFIG_NAME}.{advice} "
            "Save the edit again with save_pretrained, or download the whole folder."
        )
    tensors, metadata = read_tensors(folder / TENSORS_NAME)
    if metadata.get("kind", config["kind"]) != config["kind"]:
        raise ArtifactError(
            f"{folder} mixes two artifacts: {CONFIG_NAME} says kind {config['kind']!r}, "
            f"{TENSORS_NAME} says {metadata['kind']!r}. Take both files from one save."
        )
    _check_digest(config, tensors, folder)
    return config, tensors


def read_config(folder: Path) -> dict[str, Any]:
    """The checked `config.json` of an artifact folder, without reading its tensors.

    Raises as `read_folder` does.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}; expected one with a {CONFIG_NAME}.")
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {CONFIG_NAME}; it is no artifact of this library.")
    if (size := path.stat().st_size) > _MAX_CONFIG_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes; at most {_MAX_CONFIG_BYTES} are expected. "
            f"Tensors belong in {TENSORS_NAME}."
        )
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}. Save the artifact again.") from error
    check_config(config, path)
    return dict(config)


def _partial(path: Path) -> Path:
    """A hidden neighbor of `path` (same file system, so that renaming is one step)."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")


def tensors_digest(tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> str:
    """sha256 of tensors, by name, type, shape and numbers, and of plain values beside them.

    The same content gives the same digest, whatever the order and the device.
    """
    digest = hashlib.sha256(json.dumps(values or {}, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {list(plain.shape)} ".encode())
        digest.update(plain.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    # Copies, because safetensors refuses views and tensors that share memory.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    data = tensors_to_bytes(copies, metadata=dict(metadata))
    # safetensors writes its header in any order; the same content should be the same bytes.
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    padded = header.encode()
    padded += b" " * (-len(padded) % 8)
    return len(padded).to_bytes(8, "little") + padded + data[8 + length :]


def check_config(
    config: object, path: str | Path, tensors: Mapping[str, Tensor] | None = None
) -> None:
    """Raise `ArtifactError` unless a config has the keys and types of an artifact's.

    Args:
        path: where it comes from, for messages.
        tensors: that it speaks of, to be compared with the digest that it names, if it names one.
    """
    if not isinstance(config, dict):
        raise ArtifactError(f"{path} holds a {type(config).__name__}; expected an object {{...}}.")
    if missing := [key for key in ("kind", "format_version") if key not in config]:
        raise ArtifactError(
            f"{path} lacks {' and '.join(missing)}; got the keys "
            f"{', '.join(sorted(config)) or 'none'}. Is it the config of another library?"
        )
    _check_types(config, _CONFIG_TYPES, path, "")
    if not 1 <= config["format_version"] <= FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format_version {config['format_version']}, written by stylegan_hub "
            f"{config.get('library_version', '(unknown)')}; this is {__version__}, which reads "
            f"1 to {FORMAT_VERSION}. Upgrade stylegan_hub to read it."
        )
    _check_types(config.get("base_model", {}), _BASE_MODEL_TYPES, path, "base_model.")
    _check_types(config.get("strength", {}), _STRENGTH_TYPES, path, "strength.")
    if tensors is not None:
        _check_digest(config, tensors, path)


def _check_digest(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | Path
) -> None:
    # Artifacts of version 0.1 have none.
    if DIGEST_KEY in config and config[DIGEST_KEY] != (found := tensors_digest(tensors)):
        raise ArtifactError(
            f"{path} mixes two artifacts: {CONFIG_NAME} belongs to tensors with the digest "
            f"{config[DIGEST_KEY][:16]}, and the tensors have {found[:16]}. Take both files from "
            "one save."
        )


def _check_types(
    values: Mapping[str, Any],
    types: Mapping[str, tuple[type, ...]],
    path: str | Path,
    prefix: str,
) -> None:
    for key, allowed in types.items():
        # To Python, True is an int.
        if key in values and (
            not isinstance(values[key], allowed) or isinstance(values[key], bool)
        ):
            expected = " or ".join(
                "null" if kind is type(None) else kind.__name__ for kind in allowed
            )
            raise ArtifactError(
                f"{path}: {prefix}{key} is {values[key]!r}; expected {expected}. Correct it by "
                "hand or save the artifact again."
            )
