"""What an edit is on disk: a folder that is written whole or not at all, and read with suspicion.

An artifact is a folder with `config.json` (plain values: kind, format_version, space, base_model,
strength, ...) and `model.safetensors` (the tensors; kind and version again in the header). Such a
folder is also a Hub repository and the output of a run. Pickles are never read. Reading trusts
nothing: an untrusted folder gives tensors and checked values, or an `ArtifactError`.

`storage` writes it in one step, so that neither a full disk nor a kill nor a second writer mixes
two artifacts; and if somebody copies files about, `tensors_sha256` in the config finds it out.

`metrics.json`, the card and the pictures belong to certain tensors. The first two say to which, see
`recorded_digests`; all are moved to `stale/` when other tensors are saved in the folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from stylegan_hub.bounds import BASE_MODEL, check_sizes, check_weights
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError, StyleganHubError
from stylegan_hub.storage import locked, real, settle, staged
from stylegan_hub.storage import write_bytes as write_bytes
from stylegan_hub.version import __version__

FORMAT_VERSION = 1
"""The version of the folder that this library writes, and the newest that it reads."""

CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"
METRICS_NAME = "metrics.json"
CARD_NAME = "README.md"
STALE_NAME = "stale"
"""Where a card, numbers and pictures go that belong to tensors which were saved over."""
DIGEST_KEY = "tensors_sha256"

RUN_CONFIG_NAME = "training_config.json"
"""What a training writes first: a folder with it is that training's own."""
# What a training leaves beside the artifact that it makes.
RUN_FILES = (
    "checkpoint-*", "samples", "logs", "tensorboard", "warm-start", RUN_CONFIG_NAME, "training.log",
)  # fmt: skip
_BESIDE = (METRICS_NAME, CARD_NAME, STALE_NAME, "LICENSE", "images", *RUN_FILES, ".*")

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
_MAX_JSON_BYTES = 1 << 20  # a real one has about a thousand bytes
_MAX_DIGITS = 19  # of an integer: more do not fit into 64 bits, and 400 into no float
_CARD_DIGEST = "This card belongs to the tensors with the digest `{}`."
_CARD_DIGEST_PATTERN = re.compile(re.escape(_CARD_DIGEST).replace(r"\{\}", "([0-9a-f]{64})"))


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


# Writing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file as a whole or not at all; raises as `write_bytes` does."""
    write_bytes(path, _tensor_bytes(tensors, metadata))


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Write metrics.json, and in it to which tensors the numbers belong; returns its content.

    Raises:
        ValueError: a number that JSON does not have.
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

    The config gets what `full_config` adds, and must name its `kind`. Of an existing artifact,
    card, numbers and pictures move to `stale/` if they belong to other tensors; other files stay.

    Args:
        overwrite: write also into a folder that holds something else.

    Raises:
        ArtifactError: a config that `read_folder` would refuse, or a folder that holds something
            else.
        TypeError, ValueError: a value that JSON does not have (NaN), or tensors that hold one.
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
    """Raise `ArtifactError` if a folder holds something else than what is about to be replaced.

    Card, metrics, pictures and what a training leaves may be there.

    Args:
        replaced: the file by which what is replaced is known, that of an artifact if not given.
        remedy: what to do about it.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # unlike Path.is_dir, False for a name that is too long
        return
    names = {path.name for path in folder.iterdir()}
    if replaced in names and (replaced != TENSORS_NAME or _is_ours(folder / CONFIG_NAME)):
        return
    known = (*_BESIDE, replaced)
    if others := sorted(n for n in names if not any(fnmatch(n, pattern) for pattern in known)):
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
        saved_as: the file by which such a folder is known.
    """

    saved_as: ClassVar[str] = "diffusion_pytorch_model.safetensors"

    def save_pretrained(
        self, save_directory: str | Path, *args: Any, overwrite: bool = False, **options: Any
    ) -> None:
        """Save as diffusers does, as a whole or not at all, see `staged`.

        Args:
            overwrite: write also into a folder that holds something else.

        Raises:
            ArtifactError: a folder that holds something else.
            StorageError: the disk refuses.
        """
        if not overwrite:
            check_room(save_directory, self.saved_as)
        # Where it was loaded from means nothing on another machine.
        self.register_to_config(_name_or_path=None)  # type: ignore[attr-defined]
        with staged(save_directory) as staging:
            try:
                super().save_pretrained(staging, *args, **options)  # type: ignore[misc]
            except SafetensorError as error:  # what its writer makes of an error of the system
                if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
                    raise
                raise OSError(int(number[1]), os.strerror(int(number[1]))) from error

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """As of diffusers, from a folder.

        Raises:
            ArtifactError, NotFoundError: a checkpoint's file instead, which must be converted, or
                a folder whose config or weights make no such model.
        """
        check_no_checkpoint(name_or_path)
        try:
            return super().from_pretrained(name_or_path, *args, **options)  # type: ignore[misc]
        except StyleganHubError:
            raise
        except (ValueError, TypeError, KeyError, RuntimeError) as error:
            raise ArtifactError(f"{name_or_path} is no sound {cls.__name__}: {error}") from error


CHECKPOINTS = (".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".npy", ".npz", ".safetensors")
"""How the names of published checkpoints end."""


def check_no_checkpoint(name_or_path: str | Path, how: str = "") -> None:
    """Raise an error that points to the converter where a file is given instead of a folder.

    Args:
        how: further options of the converter: "--kind direction --pipeline PIPELINE".

    Raises:
        ArtifactError: there is such a file.
        NotFoundError: there is none, and the name ends as those of checkpoints do.
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
            f"{path.stem or 'converted'}{options}; then give the folder that was written."
        )
    error = ArtifactError if is_file else NotFoundError
    raise error(
        f"Got {str(name_or_path)!r}, a single file{'' if is_file else ', which is not there'}.",
        got="a file",
        expected="a bundled name, a folder or a Hub id",
        remedy=remedy,
    )


# Reading


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


def full_config(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """A config with `format_version`, `library_version` and the digest of its tensors.

    Raises:
        ValueError: a tensor with numbers that are not finite, or that no file may hold.
    """
    try:
        check_weights(tensors, "What should be saved")
    except ValueError as error:
        raise ValueError(
            f"{error} Nothing is saved. Search again with a lower learning rate, or in full "
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

    Raises `NotFoundError` when there is no such folder, `ArtifactError` when a file is missing,
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
            f"{TENSORS_NAME} says {metadata['kind']!r}. Take both files from one save."
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
    advice = f" {', '.join(pickles)} is not read: a pickle can run code." if pickles else ""
    raise ArtifactError(
        f"{folder} has no {TENSORS_NAME}; an artifact needs it beside {CONFIG_NAME}.{advice} "
        "Save the edit again with save_pretrained, or download the whole folder."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The checked `config.json` of an artifact folder, without reading its tensors.

    Raises as `read_folder` does.
    """
    path = folder / CONFIG_NAME
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}; expected one with a {CONFIG_NAME}.")
    if not path.is_file():
        raise ArtifactError(f"{folder} has no {CONFIG_NAME}; it is no artifact of this library.")
    check_size(path, path.stat().st_size)
    return config_from(path.read_bytes(), path)


def config_from(data: bytes, path: str | Path) -> dict[str, Any]:
    """The checked config that a `config.json` holds.

    Args:
        path: where it comes from, for messages.

    Raises:
        ArtifactError: it is no config of an artifact, or of a newer format.
    """
    try:
        config = parse_json(data)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} is not JSON: {error}. Save the artifact again.") from error
    check_config(config, path)
    return dict(config)


def check_size(path: str | Path, size: int) -> None:
    """Raise `ArtifactError` for a `config.json` or `metrics.json` of too many bytes to be one."""
    if size > _MAX_JSON_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes; at most {_MAX_JSON_BYTES} are expected. "
            f"Tensors belong in {TENSORS_NAME}."
        )


def read_metrics(folder: Path) -> dict[str, Any]:
    """The numbers in metrics.json; none when there is no such file.

    Raises:
        ArtifactError: it is no JSON object, or larger than any list of numbers should be.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        return {}
    check_size(path, path.stat().st_size)
    return metrics_from(path.read_bytes(), path)[0]


def metrics_from(data: bytes, path: str | Path) -> tuple[dict[str, Any], str | None]:
    """The numbers that a `metrics.json` holds, and the digest of the tensors that they belong to.

    Args:
        path: where it comes from, for messages.

    Raises:
        ArtifactError: it is no JSON object.
    """
    try:
        metrics = parse_json(data)
        if not isinstance(metrics, dict):
            raise ValueError(f"it holds a {type(metrics).__name__}; expected an object {{...}}")
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Measure the edit again.") from error
    digest = metrics.pop(DIGEST_KEY, None)
    return metrics, digest if isinstance(digest, str) else None


def recorded_digests(folder: Path) -> dict[str, str]:
    """For metrics.json and the card, as far as they say it: the digest of what they belong to."""
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
    """Which of metrics.json and the card belong to other tensors than those of this digest."""
    recorded = recorded_digests(folder)
    return tuple(name for name, owner in recorded.items() if digest and owner != digest)


def check_fresh(folder: Path) -> None:
    """Raise `ArtifactError` if numbers or card of an artifact belong to other tensors."""
    if stale := stale_files(folder, folder_digest(folder)):
        raise ArtifactError(
            f"{' and '.join(stale)} of {folder} belong to other tensors than {TENSORS_NAME}.",
            got=stale,
            expected=(),
            remedy="Measure the edit again (stylegan-hub evaluate), or remove them.",
        )


def folder_digest(folder: Path) -> str | None:
    """The digest of a folder's tensors: what its config says, or else computed.

    None when there are no sound tensors.
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
    """The sentence by which a card says to which tensors it belongs."""
    return _CARD_DIGEST.format(digest)


def parse_json(data: bytes | str) -> Any:
    """Parse untrusted JSON; integers have at most 19 digits, so that each fits into a float.

    Raises:
        ValueError: it is no JSON, or has an integer with more digits.
        RecursionError: it is nested too deeply.
    """

    def integer(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            raise ValueError(f"a number has {len(digits)} digits; expected at most {_MAX_DIGITS}")
        return int(digits)

    return json.loads(data, parse_int=integer)


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
    try:
        check_sizes(config.get("base_model", {}), BASE_MODEL)
    except ValueError as error:
        raise ArtifactError(f"{path}: base_model: {error}") from error
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


def _set_aside(folder: Path, digest: str) -> None:
    """Move card, numbers and pictures to `stale/` unless they belong to the tensors of a digest."""
    before, recorded = folder_digest(folder), recorded_digests(folder)
    numbers = recorded.get(METRICS_NAME, before)
    owners = {METRICS_NAME: numbers, "images": numbers}
    if CARD_NAME in recorded or _is_written_card(folder / CARD_NAME):
        owners[CARD_NAME] = recorded.get(CARD_NAME, before)
    # Without tensors before, nobody knows; then they may have been put there for these.
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
    """Whether a card was written by this library, and not by hand."""
    try:
        card = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return re.match(r"---\n.*?^library_name: stylegan[_-]hub$", card, re.DOTALL | re.M) is not None


def _is_ours(path: Path) -> bool:
    """Whether a config is one of this library's, or so damaged that nothing is lost with it."""
    try:
        return "kind" in parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError, TypeError):
        return True


def _write(path: Path, data: bytes) -> None:
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
