"""Edits on disk: folders that are written as a whole or not at all, and never trusted when read.

An artifact is a folder with `config.json` (plain values: kind, format_version, space, base_model,
strength, ...) and `model.safetensors` (the tensors; kind and version again in the header). Such a
folder is also a Hub repository and the output of a run. Pickles are never read. An untrusted folder
gives either tensors and checked values, or an `ArtifactError`.

`storage` writes a folder in one step, so neither a full disk nor a kill nor a second writer can mix
two artifacts. If files are copied by hand, `tensors_sha256` in the config reveals a mix.

`metrics.json`, the card and the pictures belong to particular tensors. The first two record which,
see `recorded_digests`. All are moved to `stale/` when other tensors are saved in the folder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from stylegan_hub.bounds import BASE_MODEL, check_sizes, check_weights
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError, StyleganHubError
from stylegan_hub.storage import errors_of_the_system, locked, real, settle, staged
from stylegan_hub.storage import write_bytes as write_bytes
from stylegan_hub.version import __version__

FORMAT_VERSION = 1
"""The version of the folder that this library writes, and the newest that it reads."""

CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"
METRICS_NAME = "metrics.json"
CARD_NAME = "README.md"
STALE_NAME = "stale"
"""Subfolder for the card, numbers and pictures of tensors that have been overwritten."""
DIGEST_KEY = "tensors_sha256"

RUN_CONFIG_NAME = "training_config.json"
"""The file that a training writes first; it marks a folder as the training's own."""
# Files that a training leaves beside the artifact that it makes.
RUN_FILES = (
    "checkpoint-*", "samples", "logs", "tensorboard", "warm-start", RUN_CONFIG_NAME, "training.log",
)  # fmt: skip
_BESIDE = (METRICS_NAME, CARD_NAME, STALE_NAME, "LICENSE", "images", *RUN_FILES, ".*")

# Types of the config's keys. A kind of edit may add keys; these, if present, have these types.
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
_MAX_JSON_BYTES = 1 << 20  # a typical file has about a thousand bytes
_MAX_DIGITS = 19  # of an integer: more do not fit into 64 bits, and 400 do not fit into a float
_MAX_DEPTH = 32  # lists and objects in one another; ours have at most eight
_CARD_DIGEST = "This card belongs to the tensors with the digest `{}`."
_CARD_DIGEST_PATTERN = re.compile(re.escape(_CARD_DIGEST).replace(r"\{\}", "([0-9a-f]{64})"))


@dataclass(frozen=True)
class BaseModel:
    """Which generator an edit belongs to.

    Attributes:
        id: where it came from, see `names.public_name`, for display.
        fingerprint: short hash of its weights; this decides whether an edit fits.
        num_ws, w_dim, num_styles, resolution: its sizes.
        revision: commit on the Hub, if it came from there.
    """

    id: str | None
    fingerprint: str
    num_ws: int
    w_dim: int
    num_styles: int
    resolution: int
    revision: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _without_place(self.id))

    def check_same(self, loaded: BaseModel, what: str) -> None:
        """Raise `MismatchError`, with both fingerprints, unless `loaded` is this generator.

        Args:
            what: what belongs to this generator, for the message: "edit".
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
    """Which CLIP an artifact was made with.

    Attributes:
        id: where it came from, see `names.public_name`, for display.
        fingerprint: short hash of its weights; this decides whether the artifact fits.
    """

    id: str | None
    fingerprint: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", _without_place(self.id))


def _without_place(id: str | None) -> str | None:
    """An id as `names.public_name` makes it; earlier versions recorded where a folder was."""
    return f"./{Path(id).name}" if id is not None and os.path.isabs(id) else id


# Writing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file as a whole or not at all; raises like `write_bytes`."""
    write_bytes(path, _tensor_bytes(tensors, metadata))


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write metrics.json with the digest of the tensors it belongs to, and return its content.

    Raises:
        ValueError: a number cannot be stored in JSON.
        StorageError: the disk refuses.
    """
    digest = folder_digest(folder)
    content = {**metrics, **({DIGEST_KEY: digest} if digest else {})}
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(folder / METRICS_NAME, text.encode())
    return content


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    overwrite: bool = False,
) -> None:
    """Write `config.json` and `model.safetensors`, as a whole or not at all.

    The config must name its `kind` and is extended by `full_config`. The card, numbers and pictures
    of an existing artifact move to `stale/` if they belong to other tensors; other files stay.

    Args:
        overwrite: also write into a folder that holds something else.

    Raises:
        ArtifactError: `read_folder` would refuse the config, or the folder holds something else.
        TypeError, ValueError: a value cannot be stored in JSON (NaN), or tensors hold one.
        StorageError: the disk refuses.
    """
    full = full_config(config, tensors)
    check_config(full, folder / CONFIG_NAME)
    if not overwrite:
        check_room(folder)
    text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    metadata = {"kind": full["kind"], "format_version": str(FORMAT_VERSION)}
    with staged(folder) as staging:
        _write(staging / TENSORS_NAME, _tensor_bytes(tensors, metadata))
        _write(staging / CONFIG_NAME, text.encode())
        _set_aside(real(folder), full[DIGEST_KEY])


def check_room(
    folder: str | Path,
    replaced: str = TENSORS_NAME,
    remedy: str = "Choose another folder, or write into this one with overwrite=True "
    "(--overwrite).",
) -> None:
    """Raise `ArtifactError` if a folder holds something other than what is about to be replaced.

    Card, metrics, pictures and files of a training are allowed.

    Args:
        replaced: the file that identifies what is replaced; by default that of an artifact.
        remedy: what the user should do.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # unlike Path.is_dir, False for a name that is too long
        return
    names = {path.name for path in folder.iterdir()}
    if replaced in names and (replaced != TENSORS_NAME or _is_ours(folder)):
        return
    if others := sorted(n for n in names if not any(fnmatch(n, pattern) for pattern in _BESIDE)):
        listed = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise ArtifactError(
            f"{folder} holds something else ({listed}); nothing was saved.",
            got=tuple(others),
            expected=replaced,
            remedy=remedy,
        )


class SavedWhole:
    """For models and pipelines of diffusers, whose own `save_pretrained` writes in place.

    Attributes:
        saved_as: the file that identifies such a folder.
    """

    saved_as: ClassVar[str] = "diffusion_pytorch_model.safetensors"

    def save_pretrained(
        self, save_directory: str | Path, *args: Any, overwrite: bool = False, **options: Any
    ) -> None:
        """Save like diffusers, but as a whole or not at all, see `staged`.

        Args:
            overwrite: also write into a folder that holds something else.

        Raises:
            ArtifactError: the folder holds something else.
            StorageError: the disk refuses.
        """
        if not overwrite:
            check_room(save_directory, self.saved_as)
        # The path that it was loaded from means nothing on another machine.
        self.register_to_config(_name_or_path=None)  # type: ignore[attr-defined]
        with staged(save_directory) as staging, errors_of_the_system():
            super().save_pretrained(staging, *args, **options)  # type: ignore[misc]

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """Load like diffusers, from a folder.

        Raises:
            ArtifactError, NotFoundError: it is a checkpoint file, which must be converted first, or
                a folder whose config or weights do not make such a model.
        """
        check_no_checkpoint(name_or_path)
        try:
            if issubclass(cls, nn.Module):
                _check_complete(cls, Path(name_or_path, options.get("subfolder") or ""))
            return super().from_pretrained(name_or_path, *args, **options)  # type: ignore[misc]
        except StyleganHubError:
            raise
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ArtifactError(f"{name_or_path} is not a valid {cls.__name__}: {error}") from error


def _check_complete(cls: Any, folder: Path) -> None:
    """Raise `ArtifactError` unless the weights in a folder are all that its config describes.

    diffusers would fill what is missing with random numbers, and only print a warning.

    Args:
        cls: a model of diffusers.
    """
    from accelerate import init_empty_weights

    files = sorted(folder.glob("diffusion_pytorch_model*.safetensors"))
    if not files or not (folder / CONFIG_NAME).is_file():
        return  # diffusers says which file is missing
    got: dict[str, list[int]] = {}
    for path in files:
        with _readable(path), safe_open(path, framework="pt") as file:
            got |= {name: file.get_slice(name).get_shape() for name in file.keys()}
    with init_empty_weights():
        model = cls.from_config(cls.load_config(folder))
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in expected if name not in got]
    unlike = [
        (name, got[name], shape)
        for name, shape in expected.items()
        if got.get(name, shape) != shape
    ]
    check_tensors(folder, missing, unlike)


def check_tensors(
    folder: Path,
    missing: Sequence[str],
    unlike: Sequence[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """Raise `ArtifactError` if a model's folder lacks tensors, or has some of other shapes.

    Args:
        missing: names of tensors that the model has and the folder lacks.
        unlike: names of tensors of other shapes, the shape in the folder, and that in the model.
    """
    said = []
    if missing:
        listed = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        said.append(f"lacks {len(missing)} of the tensors that its config describes ({listed})")
    if unlike:
        shown = [f"{name} is {list(got)}, not {list(wanted)}" for name, got, wanted in unlike[:3]]
        listed = ", ".join(shown) + ", ..." * (len(unlike) > 3)
        said.append(f"has tensors of other shapes ({listed})")
    if said:
        raise ArtifactError(
            f"{folder} {' and '.join(said)}.",
            got=tuple(missing) + tuple(name for name, _, _ in unlike),
            expected="all tensors of the model",
            remedy="Copy or download it again.",
        )


CHECKPOINTS = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".safetensors")
"""Suffixes of published checkpoints."""


def check_no_checkpoint(name_or_path: str | Path, how: str = "") -> None:
    """Raise an error that points to the converter if a file is given instead of a folder.

    Args:
        how: further options of the converter: "--kind direction --pipeline PIPELINE".

    Raises:
        ArtifactError: there is such a file.
        NotFoundError: there is no such file, and the name has the suffix of a checkpoint.
    """
    path = Path(name_or_path)
    is_file = os.path.isfile(name_or_path)  # unlike Path.is_file, False for a name that is too long
    named = path.suffix.lower() in CHECKPOINTS and "://" not in str(name_or_path)
    if os.path.isdir(name_or_path) or not (is_file or named):
        return
    folder = path.parent
    if is_file and path.suffix == ".safetensors" and (folder / CONFIG_NAME).is_file():
        remedy = f"Give the folder that it is in: {str(folder)!r}."
    else:
        options = f" {how}" if how else ""
        remedy = (
            f"Convert the file first: python recipes/convert_checkpoint.py {path.name} --output "
            f"{path.stem or 'converted'}{options}. Then give the folder that it wrote."
        )
    error = ArtifactError if is_file else NotFoundError
    raise error(
        f"Got {str(name_or_path)!r}, a single file{'' if is_file else ' that does not exist'}.",
        got="a file",
        expected="a bundled name, a folder or a Hub id",
        remedy=remedy,
    )


# Reading


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors (on the CPU) and the header metadata of a safetensors file.

    Raises `NotFoundError` if there is no such file, `ArtifactError` if it is damaged.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a safetensors file.")
    with _readable(path), safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise `ArtifactError` if a safetensors file turns out to be damaged."""
    try:
        yield
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(
            f"{path} ({path.stat().st_size} bytes) is damaged or not a safetensors file: {error}. "
            "Copy or download it again."
        ) from error


def full_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A config with `format_version`, `library_version` and the digest of its tensors.

    Raises:
        ValueError: a tensor has numbers that are not finite or exceed the bounds.
    """
    try:
        check_weights(tensors, "The artifact to save")
    except ValueError as error:
        raise ValueError(
            f"{error} Nothing was saved. Search again with a lower learning rate, or in full "
            "precision."
        ) from error
    return {
        **config,
        "format_version": FORMAT_VERSION,
        "library_version": __version__,
        DIGEST_KEY: tensors_digest(tensors),
    }


def read_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The checked config and the tensors (on the CPU) of an artifact folder.

    Raises `NotFoundError` if there is no such folder, `ArtifactError` if a file is missing,
    damaged, of the wrong types or from a newer format.
    """
    settle(folder)
    with locked(folder, shared=True):
        config = read_config(folder)
        _check_tensors_file(folder)
        tensors, metadata = read_tensors(folder / TENSORS_NAME)
    if metadata.get("kind", config["kind"]) != config["kind"]:
        raise ArtifactError(
            f"{folder} mixes two artifacts: {CONFIG_NAME} says kind {config['kind']!r}, "
            f"{TENSORS_NAME} says {metadata['kind']!r}. Use two files that were saved together."
        )
    _check_digest(config, tensors, folder)
    return config, tensors


def _check_tensors_file(folder: Path) -> None:
    if (folder / TENSORS_NAME).is_file():
        return
    pickles = sorted(
        path.name
        for path in folder.iterdir()
        if path.suffix in {".bin", ".ckpt", ".npy", ".pkl", ".pt", ".pth"}
    )
    advice = f" {', '.join(pickles)} is not read: a pickle can execute code." if pickles else ""
    raise ArtifactError(
        f"{folder} has no {TENSORS_NAME}; an artifact needs it beside {CONFIG_NAME}.{advice} "
        "Save the edit again with save_pretrained, or download the whole folder."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The checked `config.json` of an artifact folder, without reading its tensors.

    Raises the same errors as `read_folder`.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}; expected one with a {CONFIG_NAME}.")
    if not path.is_file():
        raise ArtifactError(
            f"{folder} has no {CONFIG_NAME}, so it is not an artifact of this library."
        )
    check_size(path, path.stat().st_size)
    return config_from(path.read_bytes(), path)


def config_from(data: bytes, path: str | Path) -> dict[str, Any]:
    """The checked config from the bytes of a `config.json`.

    Args:
        path: where it comes from, for messages.

    Raises:
        ArtifactError: it is not the config of an artifact, or from a newer format.
    """
    try:
        config = parse_json(data)
    except ValueError as error:
        raise ArtifactError(f"{path} is not JSON: {error}. Save the artifact again.") from error
    check_config(config, path)
    return dict(config)


def check_size(path: str | Path, size: int) -> None:
    """Raise `ArtifactError` if a `config.json` or `metrics.json` has too many bytes."""
    if size > _MAX_JSON_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes; at most {_MAX_JSON_BYTES} are expected. "
            f"Tensors belong in {TENSORS_NAME}."
        )


def read_metrics(folder: Path) -> dict[str, Any]:
    """The numbers in metrics.json; empty if there is no such file.

    Raises:
        ArtifactError: it is not a JSON object, or far too large.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        return {}
    check_size(path, path.stat().st_size)
    return metrics_from(path.read_bytes(), path)[0]


def metrics_from(data: bytes, path: str | Path) -> tuple[dict[str, Any], str | None]:
    """The numbers in a `metrics.json`, and the digest of the tensors that they belong to.

    Args:
        path: where it comes from, for messages.

    Raises:
        ArtifactError: it is not a JSON object.
    """
    try:
        metrics = parse_json(data, allow_nan=True)  # some numbers cannot be measured
        if not isinstance(metrics, dict):
            raise ValueError(f"it holds a {type(metrics).__name__}; expected an object {{...}}")
    except ValueError as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Measure the edit again.") from error
    digest = metrics.pop(DIGEST_KEY, None)
    return metrics, digest if isinstance(digest, str) else None


def recorded_digests(folder: Path) -> dict[str, str]:
    """The digest of the tensors that metrics.json and the card belong to, if they record it."""
    found: dict[str, str] = {}
    path = folder / METRICS_NAME
    with suppress(OSError, ArtifactError):
        check_size(path, path.stat().st_size)
        if digest := metrics_from(path.read_bytes(), path)[1]:
            found[METRICS_NAME] = digest
    with suppress(OSError):
        card = (folder / CARD_NAME).read_text(encoding="utf-8", errors="replace")
        if match := _CARD_DIGEST_PATTERN.search(card):
            found[CARD_NAME] = match[1]
    return found


def stale_files(folder: Path, digest: str | None) -> tuple[str, ...]:
    """Those of metrics.json and the card that belong to other tensors than this digest's."""
    recorded = recorded_digests(folder)
    return tuple(name for name, owner in recorded.items() if digest and owner != digest)


def check_fresh(folder: Path) -> None:
    """Raise `ArtifactError` if the numbers or the card of an artifact belong to other tensors."""
    if stale := stale_files(folder, folder_digest(folder)):
        raise ArtifactError(
            f"In {folder}, {' and '.join(stale)} and {TENSORS_NAME} do not belong together.",
            got=stale,
            expected=(),
            remedy="Measure the edit again (stylegan-hub evaluate), or remove them.",
        )


def folder_digest(folder: Path) -> str | None:
    """The digest of a folder's tensors, from its config or else computed.

    None if there are no readable tensors.
    """
    try:
        config = read_config(folder)
    except (ArtifactError, NotFoundError):
        config = {}
    if DIGEST_KEY in config:
        return str(config[DIGEST_KEY])
    try:
        return tensors_digest(read_tensors(folder / TENSORS_NAME)[0])
    except (ArtifactError, NotFoundError):
        return None


def card_digest(digest: str) -> str:
    """The sentence in a card that says which tensors it belongs to."""
    return _CARD_DIGEST.format(digest)


def parse_json(data: bytes | str, allow_nan: bool = False) -> Any:
    """Parse untrusted JSON into values that can be computed with, shown and written again.

    Integers have at most 19 digits, so that each fits into a float.

    Args:
        allow_nan: accept numbers that are not finite.

    Raises:
        ValueError: it is not JSON, is nested deeply, or has such a number, an integer with more
            digits, or half of a surrogate pair, which no encoding can store.
    """

    def integer(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise ValueError(f"a number has {len(digits)} digits; expected at most {_MAX_DIGITS}")
        return int(digits)

    try:
        value = json.loads(data, parse_int=integer)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    waiting = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise ValueError(_TOO_DEEP)
        if isinstance(part, str):
            part.encode()
        elif isinstance(part, float) and not allow_nan and not math.isfinite(part):
            raise ValueError(f"a number is {part}; expected finite numbers")
        elif isinstance(part, list):
            waiting += ((inner, depth + 1) for inner in part)
        elif isinstance(part, dict):
            waiting += ((inner, depth + 1) for pair in part.items() for inner in pair)
    return value


_TOO_DEEP = f"it is nested more than {_MAX_DEPTH} levels deep"


def tensors_digest(tensors: Mapping[str, Tensor], values: Mapping[str, Any] | None = None) -> str:
    """sha256 of tensors (by name, type, shape and numbers) and of plain values.

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
    # safetensors writes its header in any order, but the same content should give the same bytes.
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":"))
    padded = header.encode()
    padded += b" " * (-len(padded) % 8)
    return len(padded).to_bytes(8, "little") + padded + data[8 + length :]


def check_config(
    config: object, path: str | Path, tensors: Mapping[str, Tensor] | None = None
) -> None:
    """Raise `ArtifactError` unless a config has the keys and types of an artifact's config.

    Args:
        path: where it comes from, for messages.
        tensors: its tensors, to be compared with the digest in the config, if it has one.
    """
    if not isinstance(config, dict):
        raise ArtifactError(f"{path} holds a {type(config).__name__}; expected an object {{...}}.")
    if missing := [key for key in ("kind", "format_version") if key not in config]:
        raise ArtifactError(
            f"{path} lacks {' and '.join(missing)}; got the keys "
            f"{', '.join(sorted(config)) or 'none'}. It may be the config of another library."
        )
    _check_types(config, _CONFIG_TYPES, path, "")
    if not 1 <= config["format_version"] <= FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format_version {config['format_version']}, written by stylegan_hub "
            f"{config.get('library_version', '(unknown)')}; this is {__version__}, which reads "
            f"1 to {FORMAT_VERSION}. Upgrade stylegan_hub to read it."
        )
    _check_base_model(config.get("base_model", {}), path)
    _check_types(config.get("strength", {}), _STRENGTH_TYPES, path, "strength.")
    if tensors is not None:
        _check_digest(config, tensors, path)


def base_model_from(value: Mapping[str, Any], path: str | Path) -> BaseModel:
    """The generator that the `base_model` of a file names.

    Args:
        path: where it comes from, for messages.

    Raises:
        ArtifactError: a value has the wrong type or exceeds its bound.
        TypeError: it is not an object with these names.
    """
    if not isinstance(value, dict):
        raise TypeError(f"base_model is a {type(value).__name__}; expected an object")
    _check_base_model(value, path)
    return BaseModel(**value)


def _check_base_model(value: Mapping[str, Any], path: str | Path) -> None:
    _check_types(value, _BASE_MODEL_TYPES, path, "base_model.")
    try:
        check_sizes(value, BASE_MODEL)
    except ValueError as error:
        raise ArtifactError(f"{path}: base_model: {error}") from error


def _check_digest(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | Path
) -> None:
    # Artifacts of version 0.1 have no digest.
    if DIGEST_KEY in config and config[DIGEST_KEY] != (found := tensors_digest(tensors)):
        raise ArtifactError(
            f"{path} mixes two artifacts: {CONFIG_NAME} belongs to tensors with the digest "
            f"{config[DIGEST_KEY][:16]}, but the tensors have {found[:16]}. Use two files that "
            "were saved together."
        )


def _check_types(
    values: Mapping[str, Any],
    types: Mapping[str, tuple[type, ...]],
    path: str | Path,
    prefix: str,
) -> None:
    for key, allowed in types.items():
        # In Python, True is an int.
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


def _set_aside(folder: Path, digest: str) -> None:
    """Move card, numbers and pictures to `stale/` unless they belong to this digest's tensors."""
    before, recorded = folder_digest(folder), recorded_digests(folder)
    numbers = recorded.get(METRICS_NAME, before)
    owners = {METRICS_NAME: numbers, "images": numbers}
    if CARD_NAME in recorded or _is_written_card(folder / CARD_NAME):
        owners[CARD_NAME] = recorded.get(CARD_NAME, before)
    # Without earlier tensors the owner is unknown; the files may have been put there for these.
    stale = [
        name
        for name, owner in owners.items()
        if owner not in (None, digest) and (folder / name).exists()
    ]
    if stale:
        shutil.rmtree(folder / STALE_NAME, ignore_errors=True)
        (folder / STALE_NAME).mkdir()
        for name in stale:
            os.rename(folder / name, folder / STALE_NAME / name)


def _is_written_card(path: Path) -> bool:
    """Whether this library wrote a card, as opposed to a card written by hand."""
    try:
        card = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.match(r"---\n.*?^library_name: stylegan[_-]hub$", card, re.DOTALL | re.M) is not None


def _is_ours(folder: Path) -> bool:
    """Whether an artifact is this library's, or is so damaged that nothing would be lost."""
    path = folder / CONFIG_NAME
    if not path.exists():  # the header of our tensors says the kind too
        try:
            with safe_open(folder / TENSORS_NAME, framework="pt") as file:
                return "kind" in (file.metadata() or {})
        except (SafetensorError, OSError, ValueError):
            return False
    try:
        return "kind" in parse_json(path.read_bytes())
    except (OSError, ValueError, TypeError):
        return True


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
