"""A name becomes a folder: a bundled card, a local folder or a repository on the Hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

from stylegan_hub.artifacts import CONFIG_NAME, read_config
from stylegan_hub.errors import ArtifactError, NotFoundError

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
