"""Publishing on the Hub: a folder is checked, then sent as one commit.

`collection` uses it for several folders; only `space`, which sends a page with its code, uploads
without it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

from stylegan_hub import names
from stylegan_hub.artifacts import CARD_NAME, CONFIG_NAME, RUN_FILES, STALE_NAME, check_fresh
from stylegan_hub.errors import ArtifactError, NotFoundError, StyleganHubError
from stylegan_hub.hub.cards import FORMER_LIBRARY, LIBRARY, PICTURE_TYPES, card_metadata
from stylegan_hub.hub.list import count_numbers
from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_TYPES = {".json", ".safetensors", ".md", ".txt", *PICTURE_TYPES}
# Training and saving again leave other files beside an edit, which are not published.
_NOT_SENT = (*RUN_FILES, STALE_NAME)
_SECRET_NAME = re.compile(
    r"(^|[._-])(secrets?|credentials?|passwords?|passwd|token|api[_-]?keys?|private[_-]?key|id_rsa)"
    r"([._-]|$)",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bgh[opsu]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\bsk-[A-Za-z0-9_-]{32,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


class PublishError(StyleganHubError, OSError):
    """The Hub did not do what was asked. Nothing was changed there, unless the message says so."""


def publish(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    parent_commit: str | None = None,
) -> str:
    """Publish an edit, a direction table or a pipeline on the Hub, as one commit.

    The folder is checked first: it must load and have a card, and must not contain links, hidden
    files, secrets, paths in your home folder or types of files that an artifact does not need.
    Files that training leaves beside the edit (checkpoints, samples, log) are not sent. Files that
    are only in the repository stay there. If nothing has changed, no commit is made.

    Args:
        folder: as `save_pretrained` wrote it, with a card (`hub.write_card`).
        repo_id: "user/repo"; created if it does not exist.
        private: make a new repository private; refused for an existing public one.
        message: of the commit.
        token: with write access; None for the saved login.
        endpoint: address of the Hub; None for the usual one.
        parent_commit: the commit that your work started from; if the repository has changed since,
            nothing is sent. None for the newest commit when this function starts.

    Returns:
        Address of the commit.

    Raises:
        NotFoundError: there is no such folder.
        ArtifactError: the folder fails a check.
        ValueError: repo_id is not "user/repo".
        PublishError: the Hub refused or could not be reached; nothing was changed there, or the
            message says that this is unknown. A repository that was created for it is removed.
    """
    folder = Path(folder)
    check_repo_id(repo_id)
    files = _checked_files(folder)
    _check_loads(folder)

    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    title = message or f"Publish {folder.resolve().name} with stylegan_hub"
    with publishing(repo_id):
        try:
            repository = names.asked_again(lambda: api.model_info(repo_id))
        except RepositoryNotFoundError:
            if _created(api, repo_id, private):
                with _removed_after_failure(api, repo_id):
                    parent = names.asked_again(lambda: api.model_info(repo_id)).sha
                    return _committed(api, repo_id, operations, title, parent_commit or parent)
            repository = names.asked_again(lambda: api.model_info(repo_id))
        if private and not repository.private:
            raise PublishError(
                f"{repo_id} exists and is public, but private=True was given, so nothing was sent. "
                "Make it private on its page, or publish under another name."
            )
        return _committed(api, repo_id, operations, title, parent_commit or repository.sha)


def _created(api: HfApi, repo_id: str, private: bool) -> bool:
    """Create a repository; False if it exists already."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        names.asked_again(lambda: api.create_repo(repo_id, private=private))
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
        return False
    return True


@contextmanager
def _removed_after_failure(api: HfApi, repo_id: str) -> Iterator[None]:
    """Remove a new repository if publishing fails, unless its state is unknown."""
    try:
        yield
    except PublishError:
        raise
    except Exception:
        with suppress(Exception):
            api.delete_repo(repo_id)
        raise


def _committed(
    api: HfApi,
    repo_id: str,
    operations: list[CommitOperationAdd],
    title: str,
    parent: str | None,
    again: bool = True,
) -> str:
    """Commit, and retry once after a fault of the Hub; returns the address of the commit.

    The Hub's answer may be lost after the commit is done, so the repository is checked before an
    error is raised.

    Raises:
        PublishError: it is unknown whether the commit was done.
        Exception: errors of huggingface_hub and its HTTP library; nothing was changed.
    """
    try:
        commit = api.create_commit(repo_id, operations, commit_message=title, parent_commit=parent)
        return str(commit.commit_url)
    except Exception as error:
        if (pause := names.pause_after(_cause(error))) is None:
            raise
        try:
            found = names.asked_again(lambda: _found(api, repo_id, operations, parent))
        except Exception as lost:
            raise PublishError(
                f"It is unknown whether {repo_id} was changed: {_refusal(_cause(error))} Look at "
                "its page before you publish again."
            ) from lost
        if found is not None:
            return f"{api.endpoint}/{repo_id}/commit/{found}"
        if not again:
            raise
    time.sleep(pause)
    return _committed(api, repo_id, operations, title, parent, again=False)


def _found(
    api: HfApi, repo_id: str, operations: list[CommitOperationAdd], parent: str | None
) -> str | None:
    """The newest commit, if it differs from `parent` and has all of these files."""
    from huggingface_hub.hf_api import RepoFile

    head = api.model_info(repo_id).sha
    if head == parent:
        return None
    there = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in api.list_repo_tree(repo_id, recursive=True, revision=head)
        if isinstance(entry, RepoFile)
    }
    for operation in operations:
        data = Path(str(operation.path_or_fileobj)).read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        if there.get(operation.path_in_repo) not in (git, hashlib.sha256(data).hexdigest()):
            return None
    return head


def unpublish(repo_id: str, token: str | None = None, endpoint: str | None = None) -> None:
    """Delete a repository of this library from the Hub, with all of its commits.

    Args:
        repo_id: "user/repo".
        token: with write access; None for the saved login.
        endpoint: address of the Hub; None for the usual one.

    Raises:
        ValueError: repo_id is not "user/repo".
        PublishError: there is no such repository, it is not of this library, or the Hub refused;
            nothing was changed there.
    """
    check_repo_id(repo_id)

    from huggingface_hub import HfApi

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    with publishing(repo_id):
        tags = names.asked_again(lambda: api.model_info(repo_id, token=token)).tags or []
        if not {LIBRARY, FORMER_LIBRARY} & set(tags):
            raise PublishError(
                f"{repo_id} does not belong to {LIBRARY}, so it is not deleted here. To delete it, "
                "use its page."
            )
        api.delete_repo(repo_id)


def who(token: str | None = None, endpoint: str | None = None) -> str:
    """The user's name on the Hub.

    Args:
        token: None for the saved login.

    Raises:
        PublishError: there is no login, or the Hub could not be reached.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    with publishing("The Hub"):
        return str(names.asked_again(api.whoami)["name"])


def check_repo_id(repo_id: str) -> None:
    """Raise `ValueError` unless it has the form "user/repo"."""
    if repo_id.count("/") != 1 or names.hub_id(repo_id) is None or "@" in repo_id:
        raise ValueError(f"Got repo_id {repo_id!r}; expected 'user/repo', as in 'me/afro-hair'.")


# Checks before publishing


@dataclass(frozen=True, kw_only=True)
class Publishing:
    """Options of recipes for publishing their folder; their configs inherit from it."""

    push_to_hub: bool = False
    """Publish the folder when it is complete."""
    hub_model_id: str | None = None
    """The repository, "user/afro-hair"."""
    hub_private: bool = False
    """Create the repository as private."""

    def check_publishing(self) -> None:
        """Raise `SystemExit` before training if --push_to_hub has no --hub_model_id."""
        if self.push_to_hub and self.hub_model_id is None:
            raise SystemExit("--push_to_hub needs --hub_model_id user/name, the repository.")

    def publish_if_asked(self, folder: Path) -> None:
        """Publish the folder if requested, and print the address of the commit."""
        if self.push_to_hub:
            assert self.hub_model_id is not None
            print(publish(folder, self.hub_model_id, private=self.hub_private))


def _checked_files(folder: Path) -> dict[str, Path]:
    """Name in the repository and path of every file to send."""
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}; expected one that save_pretrained made.")
    files: dict[str, Path] = {}
    for top in sorted(folder.iterdir()):
        if any(fnmatch(top.name, pattern) for pattern in _NOT_SENT):
            continue
        for path in [top, *(sorted(top.rglob("*")) if top.is_dir() else [])]:
            name = path.relative_to(folder).as_posix()
            if path.is_symlink():
                raise ArtifactError(
                    f"{folder} holds the link {name}, which may lead out of the folder; "
                    "put a copy of the file in its place."
                )
            if path.name.startswith("."):
                raise ArtifactError(f"{folder} holds the hidden file {name}; move it away.")
            if path.is_file():
                _check_file(path, name, folder)
                files[name] = path
    if CARD_NAME not in files:
        raise ArtifactError(
            f"{folder} has no {CARD_NAME}, and a repository needs a card. Write it with "
            "stylegan_hub.hub.write_card (`stylegan-hub publish` does), or by hand."
        )
    if not card_metadata(files[CARD_NAME]):
        raise ArtifactError(
            f"{files[CARD_NAME]} has no metadata for the Hub; begin it with lines between --- and "
            "---, or move it away and write a card with stylegan_hub.hub.write_card."
        )
    return files


def _check_file(path: Path, name: str, folder: Path) -> None:
    """Raise `ArtifactError` unless a file has an allowed type, is whole, and is not private."""
    suffix = path.suffix.lower()
    if _SECRET_NAME.search(path.name):
        raise ArtifactError(f"{folder} holds {name}, named like a secret; move it away.")
    if suffix not in _TYPES and path.name != "LICENSE":
        raise ArtifactError(
            f"{folder} holds {name}; only {', '.join(sorted(_TYPES))} and LICENSE are published. "
            "Move it away."
        )
    try:
        if suffix == ".safetensors":
            count_numbers(path)
        elif suffix in PICTURE_TYPES:
            from PIL import Image

            with Image.open(path) as picture:
                picture.verify()
        else:
            text = path.read_text(encoding="utf-8")
            if found := _SECRET_TEXT.search(text):
                raise ArtifactError(
                    f"{folder}: {name} holds what looks like a secret "
                    f"({found.group()[:4]}...); remove it, and revoke it."
                )
            home = os.path.expanduser("~")
            if home not in ("~", "/") and f"{home}/" in text:
                raise ArtifactError(
                    f"{folder}: {name} holds the path of a file or folder of yours, {home}/...",
                    remedy="Remove the path. Saving an edit again leaves out where its pipeline "
                    "is; then write its card again.",
                )
            if suffix == ".json":
                json.loads(text)
    except Exception as error:  # what a damaged picture or deeply nested JSON raises
        if isinstance(error, ArtifactError) and name in str(error):
            raise
        raise ArtifactError(
            f"{folder}: {name} is not a valid {suffix or 'text'} file: {error}"
        ) from error


def _check_loads(folder: Path) -> None:
    """Raise `ArtifactError` unless the folder loads as its config says, and is up to date."""
    kind = names.kind_of(folder)
    if kind is None or kind.load is None:
        raise ArtifactError(
            f"{folder} has no edit, table or pipeline: it has no {CONFIG_NAME}.",
            remedy="Save it with save_pretrained.",
        )
    kind.load(folder)
    if kind.marker == CONFIG_NAME:
        check_fresh(folder)


@contextmanager
def publishing(repo_id: str) -> Iterator[None]:
    """Turn every error of publishing into a `PublishError` that says what to do."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # a lost connection raises an error of the HTTP library
        raise PublishError(f"{repo_id} was not changed: {_refusal(_cause(error))}") from error


def _cause(error: BaseException) -> BaseException:
    """The original error: the client wraps one file's error in a RuntimeError."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _refusal(error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return "it is gated, and its owner has not given you access. Ask for access on its page."
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return (
            "you are not logged in. Run `hf auth login` with a token with write access, or pass "
            "token=..."
        )
    if status == 403:
        return "this login has no write access. Use a token that has, or your own name."
    if status == 412:
        return (
            "another commit was published there since you started. Look at what is new on its "
            "page, then publish again."
        )
    if status in (404, 409, 429) or (status or 0) >= 500:
        return names.hub_refusal(error)
    if status is not None:
        return f"{error}"
    return f"{error or type(error).__name__}. Check the connection and publish again."
