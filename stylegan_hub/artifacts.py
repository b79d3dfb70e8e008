"""What an edit is on disk, and how its name becomes a folder.

An artifact is a folder with `config.json` (plain values: kind, format_version, space, base_model,
strength, ...) and `model.safetensors` (the tensors; kind and version again in the header). Such a
folder is also a Hub repository and the output of a run. Pickles are never read. Reading trusts
nothing: a stranger's folder gives tensors and checked values, or an `ArtifactError`.

Writing is all or nothing: everything goes to a temporary neighbor first and is renamed when
complete, so a full disk or an interruption leaves what was there before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from stylegan_hub import __version__
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError

FORMAT_VERSION = 1
"""The version of the folder that this library writes, and the newest that it reads."""

CONFIG_NAME = "config.json"
TENSORS_NAME = "model.safetensors"

Kind = Literal["edit", "direction_table", "text_to_face", "pipeline", "model"]
# The file that tells what a folder holds; the first that is there decides.
_MARKERS: dict[Kind, str] = {
    "pipeline": "model_index.json",
    "model": "diffusion_pytorch_model.safetensors",
    "edit": CONFIG_NAME,
    # Artifacts too, but no edits: told apart by their config.
    "direction_table": CONFIG_NAME,
    "text_to_face": CONFIG_NAME,
}
_LOADERS: dict[Kind, str] = {
    "edit": "load_edit",
    "direction_table": "load_directions",
    "text_to_face": "load_text_to_face",
}

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

# [user/]repo[@revision]; the Hub takes 96 characters
_HUB_ID = re.compile(r"(?P<user>[\w-][\w.-]*/)?[\w-][\w.-]{0,95}(@[\w.][\w./-]*)?")
_NAMESPACE = "stylegan-hub"
# Only what is read as data or shown; no code and no pickle reaches the disk.
_HUB_FILES = [
    "*.json",
    "*.safetensors",
    "*.md",
    "*.txt",
    "*.png",
    "*.jpg",
    "*.jpeg",
    "*.gif",
    "*.webp",
]


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

    Adds `format_version` and `library_version` to the config, which must name its `kind`. Other
    files of an existing folder (card, metrics, pictures) stay.

    Raises `ArtifactError` for a config that `read_folder` would refuse, `TypeError` or
    `ValueError` for a value that JSON does not have (NaN), `OSError` when the disk refuses.
    """
    full = {**config, "format_version": FORMAT_VERSION, "library_version": __version__}
    _check_config(full, folder / CONFIG_NAME)
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
    _check_config(config, path)
    return dict(config)


def bundled(kind: Kind | None = None) -> dict[str, Path]:
    """Name and folder of each card that comes with the library, all or those of one kind."""
    kinds = {path: _kind_of(path) for path in sorted(_cards_folder().glob("*")) if path.is_dir()}
    return {
        folder.name: folder
        for folder, found in kinds.items()
        if found is not None and kind in (None, found)
    }


def resolve(
    name_or_path: str | Path,
    kind: Kind | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder behind a bundled name, a folder or a Hub id.

    A plain name is a bundled card first ("portraits"), a folder of that name second ("./portraits"
    is always the folder), a repository in the default `namespace` on the Hub third. "user/repo" or
    "user/repo@revision" is downloaded from the Hub unless a folder of that name exists; only data
    and pictures are fetched, no code.

    Args:
        kind: what the folder must hold: "edit" (config.json), "direction_table" or
            "text_to_face" (config.json of that kind), "pipeline" (model_index.json) or "model"
            (diffusion_pytorch_model.safetensors).
        revision: branch, tag or commit on the Hub, if not given in the id.
        token: for a private or gated repository; the saved login when None.
        cache_dir: where downloads are kept, the Hub's own cache when None.
        local_files_only: use what was downloaded before and ask no server.

    Raises `NotFoundError`, with the bundled names, when it leads nowhere; `ArtifactError` when the
    folder is of the other kind; `ValueError` for two different revisions.
    """
    name = str(name_or_path)
    repo = hub_id(name_or_path) if isinstance(name_or_path, str) else None
    if isinstance(name_or_path, str) and name in bundled():
        folder = bundled()[name]
    elif os.path.isdir(name_or_path):  # unlike Path.is_dir, False for a name that is too long
        folder = Path(name_or_path)
    elif repo is not None and repo == name:
        folder = _download(repo, revision, token, cache_dir, local_files_only)
    else:
        names = ", ".join(bundled(kind)) or "none"
        nothing = (
            f"Found nothing under {name[:100]!r}. Expected a bundled name ({names}), a folder, "
            "or a Hub id such as 'user/repo' or 'user/repo@revision'."
        )
        if repo is None:
            raise NotFoundError(nothing)
        try:
            folder = _download(repo, revision, token, cache_dir, local_files_only)
        except NotFoundError as error:
            raise NotFoundError(f"{nothing} {error}") from error
    if kind is not None and (found := _kind_of(folder)) != kind:
        if found in _LOADERS and kind in _LOADERS:
            why = f"Use {_LOADERS[found]}."
        else:
            why = f"{folder} has no {_MARKERS[kind]}."
        raise ArtifactError(
            f"Expected {name!r} to hold the files of: {kind}; got: {found or 'none'}. "
            f"{why} Bundled: {', '.join(bundled(kind)) or 'none'}."
        )
    return folder


def _kind_of(folder: Path) -> Kind | None:
    found = next((kind for kind, marker in _MARKERS.items() if (folder / marker).is_file()), None)
    if found == "edit":
        try:
            stored = read_config(folder)["kind"]
            if stored == "direction_table" or stored == "text_to_face":
                return stored
        except ArtifactError:
            pass  # a damaged config is reported by whoever reads the folder
    return found


def _partial(path: Path) -> Path:
    """A hidden neighbor of `path` (same file system, so that renaming is one step)."""
    path = path.absolute()
    return path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")


def _tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    # Copies, because safetensors refuses views and tensors that share memory.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    return tensors_to_bytes(copies, metadata=dict(metadata))


def _check_config(config: object, path: Path) -> None:
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


def _check_types(
    values: Mapping[str, Any], types: Mapping[str, tuple[type, ...]], path: Path, prefix: str
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


def _cards_folder() -> Path:
    package = Path(__file__).parent
    installed = package / "_cards"
    return installed if installed.is_dir() else package.parent / "cards"


def namespace() -> str:
    """User or organization on the Hub in which a short name is looked for.

    "stylegan-hub", unless the environment variable STYLEGAN_HUB_NAMESPACE names another.
    """
    return os.environ.get("STYLEGAN_HUB_NAMESPACE") or _NAMESPACE


def hub_id(name: str) -> str | None:
    """Where a name leads on the Hub, "user/repo" or "user/repo@revision"; None if it cannot."""
    match = _HUB_ID.fullmatch(name)
    if match is None or ".." in name:
        return None
    return name if match["user"] else f"{namespace()}/{name}"


def _download(
    name: str,
    revision: str | None,
    token: str | bool | None,
    cache_dir: str | Path | None,
    local_files_only: bool,
) -> Path:
    from httpx2 import HTTPError  # huggingface_hub's own; a lost connection raises it bare
    from huggingface_hub import snapshot_download

    repo, _, own_revision = name.partition("@")
    if own_revision and revision and own_revision != revision:
        raise ValueError(
            f"{name!r} names the revision {own_revision!r}, and revision={revision!r} was given "
            "too; give one."
        )
    revision = own_revision or revision
    where = repo if revision is None else f"{repo} at revision {revision}"
    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                local_files_only=local_files_only,
                allow_patterns=_HUB_FILES,
            )
        )
    except (HTTPError, OSError, ValueError) as error:
        raise NotFoundError(
            f"{name!r} is no folder here, and the Hub did not give {where}: {hub_refusal(error)} "
            f"(Bundled names: {', '.join(bundled()) or 'none'}.)"
        ) from error


def hub_refusal(error: Exception) -> str:
    """Why the Hub did not give something, and what to do, in a sentence or two."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return "its owner grants access one by one. Ask for it on its page, then pass token=..."
        case RepositoryNotFoundError():
            return (
                "there is no such repository, or it is private. Check the spelling, or pass "
                "token=..."
            )
        case RevisionNotFoundError():
            return "the repository has no such revision. Leave it out for the newest."
        case LocalEntryNotFoundError():
            return (
                "it was not downloaded before and the Hub cannot be asked now. Connect and try "
                "again."
            )
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set, so the Hub is not asked. Unset it to go online."
    return f"{error}" or type(error).__name__
