"""Resolve a name to a folder: a bundled card, a local folder or a repository on the Hub.

Each module that can load a kind of folder registers the kind here, see `Kind`.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

from stylegan_hub.artifacts import CONFIG_NAME, check_no_checkpoint, read_config
from stylegan_hub.errors import ArtifactError, NotFoundError, StyleganHubError
from stylegan_hub.storage import settle

# [user/]repo[@revision]; the Hub allows 96 characters
_HUB_ID = re.compile(r"(?P<user>[\w-][\w.-]*/)?[\w-][\w.-]{0,95}(@[\w.][\w./-]*)?")
_HUB_ADDRESS = re.compile(
    r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repo>[^/?#\s]+/[^/?#\s]+)"
    r"(?:/(?:tree|blob|resolve|commit)/(?P<revision>[^/?#\s]+)[^?#\s]*)?/?(?:[?#]\S*)?"
)
_NAMESPACE = "stylegan-hub"
_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds before the Hub is asked again
_Answer = TypeVar("_Answer")
# Only files that are read as data or displayed; no code and no pickle reaches the disk.
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
class Kind:
    """A kind of folder.

    Attributes:
        name: "pipeline"; for an artifact, the kind in its config.json, "direction_table".
        marker: the file that identifies such a folder.
        load: reads a folder; None if such a folder is only a part of something else.
        family: name for kinds that are loaded in the same way, "edit" for all kinds of edits; by
            default the kind's own name.
        summary: what it is, in a sentence for its card.
        limit: how it can fail, in a sentence for its card.
        usage: makes lines of Python for its card, which load one and use it with `pipe`, from the
            name to load it by and its config.
        counted: a sentence about "images" in its metrics.json, if they are not the faces that it
            was measured on: "{} pictures went into it."
        task: the Hub's name for its task.
    """

    name: str
    marker: str = CONFIG_NAME
    load: Callable[[str | Path], Any] | None = None
    family: str = ""
    summary: str = ""
    limit: str = ""
    usage: Callable[[str, Mapping[str, Any]], Sequence[str]] | None = None
    counted: str = ""
    task: str = "image-to-image"

    def __post_init__(self) -> None:
        object.__setattr__(self, "family", self.family or self.name)


EDIT = "edit"
_KINDS = {"model": Kind("model", "diffusion_pytorch_model.safetensors")}
# Options of recipes/convert_checkpoint.py for a file of such a kind.
_CONVERTING = {
    "edit": "--pipeline PIPELINE (a bare array: --kind direction)",
    "direction_table": "--statistics S_mean_std --pipeline PIPELINE",
    "pipeline": "(a pipeline: recipes/assemble_pipeline.py --generator FILE --clip CLIP)",
}
# Modules of this library that register kinds. They are imported only for a folder of a kind that is
# not known otherwise, because importing them takes seconds.
_HOMES = (
    "stylegan_hub.edits",
    "stylegan_hub.methods",
    "stylegan_hub.models.faces",
    "stylegan_hub.pipeline",
)


def register_kind(kind: Kind) -> None:
    """Register a kind of folder for `resolve`, the zoo, cards and `publish`."""
    _KINDS[kind.name] = kind


def find_kind(name: str) -> Kind | None:
    """The kind of this name; None if it is unknown."""
    if name not in _KINDS:
        _import_homes()
    return _KINDS.get(name)


def is_edit(kind: str) -> bool:
    """Whether artifacts of this kind are edits, which have a strength; unknown kinds count too."""
    found = find_kind(kind)
    return found is None or found.family == EDIT


def kind_of(folder: str | Path) -> Kind | None:
    """The kind of a folder; None if it does not belong to this library.

    An artifact with a damaged config counts as an edit; reading it raises an error.
    """
    folder = Path(folder)
    try:
        stored = find_kind(read_config(folder)["kind"])
    except (ArtifactError, NotFoundError):
        stored = None
        _import_homes()
    for kind in _KINDS.values():
        if kind.marker != CONFIG_NAME and (folder / kind.marker).is_file():
            return kind
    return (stored or find_kind(EDIT)) if (folder / CONFIG_NAME).is_file() else None


def _import_homes() -> None:
    for home in _HOMES:
        import_module(home)


def cards_folder() -> Path:
    """The folder of the bundled cards.

    The environment variable STYLEGAN_HUB_CARDS can name another folder.
    """
    if chosen := os.environ.get("STYLEGAN_HUB_CARDS"):
        return Path(chosen)
    return own_cards()


def own_cards() -> Path:
    """The folder of this installation's own cards, whatever the environment variable says."""
    package = Path(__file__).parent
    installed = package / "_cards"
    return installed if installed.is_dir() else package.parent / "cards"


def bundled(kind: str | None = None) -> dict[str, Path]:
    """Name and folder of each card that comes with the library, all or only those of one kind.

    Args:
        kind: "edit", "direction_table", "text_to_face", "pipeline", "model".
    """
    folders = [path for path in sorted(cards_folder().glob("*")) if any(path.glob("*.json"))]
    if kind is None:
        return {folder.name: folder for folder in folders}
    found = {folder: kind_of(folder) for folder in folders}
    return {
        folder.name: folder
        for folder, holds in found.items()
        if holds is not None and holds.family == kind
    }


def resolve(
    name_or_path: str | Path,
    kind: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder behind a bundled name, a folder or a Hub id.

    A plain name is looked up first as a bundled card ("portraits"), then as a folder ("./portraits"
    is always the folder), then as a repository in the default `namespace` on the Hub. "user/repo"
    or "user/repo@revision" is downloaded from the Hub unless a folder of that name exists, and so
    is "https://huggingface.co/user/repo". Only data and pictures are fetched, no code.

    Args:
        kind: what the folder must hold, a family of `Kind`: "edit", "direction_table",
            "text_to_face", "pipeline" or "model".
        revision: branch, tag or commit on the Hub, if not given in the id.
        token: for a private or gated repository; the saved login if None.
        cache_dir: where downloads are kept; the Hub's own cache if None.
        local_files_only: use earlier downloads and contact no server.

    Raises `NotFoundError`, with similar names, if the name leads nowhere; `ArtifactError` if the
    folder is of another kind; `ValueError` for two different revisions.
    """
    name = str(name_or_path)
    check_no_checkpoint(name_or_path, _CONVERTING.get(kind or "", ""))
    repo = hub_id(name_or_path) if isinstance(name_or_path, str) else None
    if isinstance(name_or_path, str) and name in bundled():
        folder = bundled()[name]
    elif os.path.isdir(name_or_path):  # unlike Path.is_dir, False for a name that is too long
        folder = Path(name_or_path)
    elif repo is not None and (repo == name or "://" in name):
        folder = _download(repo, revision, token, cache_dir, local_files_only)
    else:
        similar = near(name, bundled(kind))
        nothing = f"Found nothing under {name[:100]!r}.{_did_you_mean(similar)}"
        remedy = "Expected a bundled name, a folder, or a Hub id such as 'user/repo'."
        if repo is None:
            raise NotFoundError(nothing, got=name, expected=similar, remedy=remedy)
        try:
            folder = _download(repo, revision, token, cache_dir, local_files_only)
        except NotFoundError as error:
            whole = f"{nothing} {error}"
            raise NotFoundError(whole, got=name, expected=similar, remedy=remedy) from error
    settle(folder)
    if kind is not None:
        _check_holds(folder, name, kind)
    return folder


def public_name(name_or_path: str | Path) -> str:
    """What files that are saved or shared call something that `resolve` finds.

    The folders in which a folder lies are private, and mean nothing on another machine. So a folder
    has its own name only, "./cars"; with the "./" it is not taken for a name on the Hub.

    Returns:
        A bundled name (also for the folder of a bundled card), a Hub id, or "./" and the name of a
        folder.
    """
    name = str(name_or_path)
    if isinstance(name_or_path, str) and name in bundled():
        return name
    if not os.path.isdir(name_or_path) and (repo := hub_id(name)) is not None:
        return repo
    own = Path(os.path.abspath(name)).name
    card = bundled().get(own)
    return own if card is not None and card.resolve() == Path(name).resolve() else f"./{own}"


def _check_holds(folder: Path, name: str, kind: str) -> None:
    found, expected = kind_of(folder), find_kind(kind)
    if found is not None and found.family == kind:
        return
    marker = CONFIG_NAME if expected is None else expected.marker
    if found is not None and found.load is not None and found.marker == marker:
        remedy = f"Use {found.load.__name__}."
    else:
        remedy = f"{folder} has no {marker}."
    got = "none" if found is None else found.family
    raise ArtifactError(
        f"Expected {name!r} to hold the files of: {kind}; got: {got}.",
        got=got,
        expected=kind,
        remedy=f"{remedy}{_did_you_mean(near(name, bundled(kind)))}",
    )


def slug(text: str) -> str:
    """A text in characters that every file system and the Hub accept; empty if it has none."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60]


def near(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that a misspelled name may mean, the most similar first."""
    by_folded = {other.casefold(): other for other in known}
    found = get_close_matches(name[:100].casefold(), by_folded, n=3, cutoff=0.5)
    return [by_folded[folded] for folded in found]


def _did_you_mean(similar: Sequence[str]) -> str:
    return f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""


def namespace() -> str:
    """The user or organization on the Hub in which short names are looked up.

    It is "stylegan-hub", unless the environment variable STYLEGAN_HUB_NAMESPACE names another.
    """
    return os.environ.get("STYLEGAN_HUB_NAMESPACE") or _NAMESPACE


def hub_id(name: str) -> str | None:
    """The Hub id of a name, "user/repo" or "user/repo@revision"; None if it cannot be one.

    The address of a repository's page is accepted too.
    """
    if address := _HUB_ADDRESS.fullmatch(name):
        revision = unquote(address["revision"] or "")
        name = address["repo"] + (f"@{revision}" if revision else "")
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
    from huggingface_hub import snapshot_download

    repo, _, own_revision = name.partition("@")
    if own_revision and revision and own_revision != revision:
        raise ValueError(
            f"{name!r} names the revision {own_revision!r}, but revision={revision!r} was given "
            "too. Give only one."
        )
    revision = own_revision or revision
    where = repo if revision is None else f"{repo} at revision {revision}"
    try:
        folder = Path(
            asked_again(
                lambda: snapshot_download(
                    repo,
                    revision=revision,
                    token=token,
                    cache_dir=cache_dir,
                    local_files_only=local_files_only,
                    allow_patterns=_HUB_FILES,
                )
            )
        )
    except Exception as error:  # a lost connection raises errors of the HTTP library
        raise NotFoundError(
            f"{name!r} is not a folder, and the Hub did not return {where}: {hub_refusal(error)}"
        ) from error
    _check_content(folder, where)
    return folder


def _check_content(folder: Path, where: str) -> None:
    """Raise `ArtifactError` for a large file with other bytes than the Hub has, and remove it.

    The Hub's client looks at lengths only. It keeps such a file under the sha256 that the Hub
    states, and links to it, where the file system has links.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        stored = path.resolve()
        if re.fullmatch(r"[0-9a-f]{64}", stored.name) is None:
            continue
        with open(stored, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != stored.name:
            path.unlink()
            stored.unlink()
            raise ArtifactError(
                f"{path.name} of {where} arrived damaged: its sha256 is {found[:16]}, and the Hub "
                f"states {stored.name[:16]}. It was removed.",
                got=found,
                expected=stored.name,
                remedy="Download it again.",
            )


def asked_again(ask: Callable[[], _Answer]) -> _Answer:
    """The answer of the Hub, which is asked a second time after a fault of its own or of the line.

    Before the second time, this function waits for as long as the Hub says, at most half a minute.

    Args:
        ask: sends the request; it may be called twice.

    Raises:
        Exception: what `ask` raises the second time; or at once if asking again cannot help, since
            there is no such thing or the login lacks the permission.
    """
    try:
        return ask()
    except Exception as error:
        if (seconds := pause_after(error)) is None:
            raise
        time.sleep(seconds)
    return ask()


def pause_after(error: BaseException) -> float | None:
    """Seconds to wait before the Hub is asked again; None if asking again cannot help."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        return pause_after(error.__cause__)
    if isinstance(error, StyleganHubError | OfflineModeIsEnabled | LocalEntryNotFoundError):
        return None
    if not isinstance(error, HfHubHTTPError):
        return 0.0  # a connection that was kept open may have been closed by the other side
    if error.response.status_code != 429 and error.response.status_code < 500:
        return None
    return min(_LONGEST_PAUSE, _retry_after(error.response.headers) or _PAUSE)


def _retry_after(headers: Mapping[str, str]) -> int | None:
    """Seconds to wait, if the Hub states them."""
    said = headers.get("Retry-After", "")
    return int(said) if re.fullmatch(r"[0-9]{1,6}", said) else None


def hub_refusal(error: BaseException) -> str:
    """The reason why the Hub refused, and what to do, in a sentence or two."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    match error:
        case GatedRepoError():
            return "access needs the owner's approval. Request it on the page, then pass token=..."
        case RepositoryNotFoundError():
            return (
                "there is no such repository, or it is private. Check the spelling, or pass "
                "token=..."
            )
        case RevisionNotFoundError():
            return "the repository has no such revision. Leave it out for the newest."
        case RemoteEntryNotFoundError():
            return "the repository has no such file. Its page lists its files."
        case OfflineModeIsEnabled():
            return "HF_HUB_OFFLINE is set, so the Hub is not contacted. Unset it to go online."
        case HfHubHTTPError() if error.response.status_code == 429 and (
            seconds := _retry_after(error.response.headers)
        ):
            return (
                f"it received too many requests. Wait {seconds} seconds, or log in with "
                "`hf auth login`."
            )
        case HfHubHTTPError() if error.response.status_code in _REFUSALS:
            return _REFUSALS[error.response.status_code]
        case HfHubHTTPError() if error.response.status_code >= 500:
            return f"it has an internal error ({error.response.status_code}). Try again later."
        case LocalEntryNotFoundError() if isinstance(error.__cause__, HfHubHTTPError):
            return f"there is no earlier download, and {hub_refusal(error.__cause__)}"
        case LocalEntryNotFoundError():
            return (
                "there is no earlier download, and the Hub cannot be reached. Connect and try "
                "again."
            )
    return f"{error}" or type(error).__name__


_REFUSALS = {
    401: "it does not accept this token. Log in with `hf auth login`.",
    403: "this login has no access to it. Ask its owner for access, or pass token=...",
    404: "there is nothing at this address. Check the spelling.",
    409: "it is being changed right now. Try again.",
    429: "there were too many requests. Wait some minutes, or log in with `hf auth login`.",
}
"""The meaning of the Hub's HTTP status codes, for users."""
