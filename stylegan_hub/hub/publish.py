"""The way to the Hub: a folder is checked, then sent as one commit.

`collection` publishes many folders by it; only `space`, which sends a page with its code, uploads
beside it.
"""

from __future__ import annotations

import hashlib
import json
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
# A training leaves its files beside the edit, a later save what it replaced; none is a part of it.
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
    """The Hub did not do what was asked; nothing was changed there, if not said otherwise."""


def publish(
    folder: str | Path,
    repo_id: str,
    private: bool = False,
    message: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
    parent_commit: str | None = None,
) -> str:
    """Send an edit, a direction table or a pipeline to the Hub, as one commit.

    The folder is checked first: it loads, it has a card, and holds no links, no hidden files, no
    secrets and no file of a type that an artifact does not need. What a training leaves beside the
    edit (checkpoints, samples, log) stays here. Files that are only in the repository stay there.
    When nothing has changed, no commit is made.

    Args:
        folder: as `save_pretrained` wrote it, with a card (`hub.write_card`).
        repo_id: "user/repo"; made if it does not exist.
        private: make a new repository private; refused for an existing public one.
        message: of the commit.
        token: with the right to write; the saved login when None.
        endpoint: address of the Hub when it is not the usual one.
        parent_commit: the commit that your work started from; if the repository has moved on
            since, nothing is changed. When None, what is there when this function begins.

    Returns:
        Address of the commit.

    Raises:
        NotFoundError: there is no such folder.
        ArtifactError: the folder fails a check.
        ValueError: repo_id is not "user/repo".
        PublishError: the Hub refused or was lost; nothing was changed there, or the message says
            that this is not known. A repository that was made for it is removed.
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
                f"{repo_id} exists and is public, private=True was asked for: nothing was sent. "
                "Make it private on its page, or publish under another name."
            )
        return _committed(api, repo_id, operations, title, parent_commit or repository.sha)


def _created(api: HfApi, repo_id: str, private: bool) -> bool:
    """Make a repository; False where it is there already, so that it is somebody's."""
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
    """A new repository does not stay empty, unless it is not known what is there."""
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
    """Commit, once more if that failed by a fault of the Hub; the commit's address.

    The answer may be lost when the commit is done, so what is there is looked at before anything is
    said.

    Raises:
        PublishError: it is not known whether the commit was done.
        Exception: what huggingface_hub and its HTTP library raise; nothing was changed.
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
                f"It is not known whether {repo_id} was changed: {_refusal(_cause(error))} Look at "
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
    """The newest commit, if it is another than `parent` and has all of these files."""
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
        token: with the right to write; the saved login when None.
        endpoint: address of the Hub when it is not the usual one.

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
                f"{repo_id} is nothing of {LIBRARY}, so it is not deleted here. Delete it on its "
                "page, if you mean it."
            )
        api.delete_repo(repo_id)


def who(token: str | None = None, endpoint: str | None = None) -> str:
    """The user's name on the Hub.

    Args:
        token: the saved login when None.

    Raises:
        PublishError: nobody is logged in, or the Hub was lost.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    with publishing("The Hub"):
        return str(names.asked_again(api.whoami)["name"])


def check_repo_id(repo_id: str) -> None:
    """Raise `ValueError` for what is not "user/repo"."""
    if repo_id.count("/") != 1 or names.hub_id(repo_id) is None or "@" in repo_id:
        raise ValueError(f"Got repo_id {repo_id!r}; expected 'user/repo', as in 'me/afro-hair'.")


# Checks before publishing


@dataclass(frozen=True, kw_only=True)
class Publishing:
    """What a recipe can be told of publishing its folder; its config inherits these options."""

    push_to_hub: bool = False
    """Publish the folder when it is complete."""
    hub_model_id: str | None = None
    """Where to: "user/afro-hair"."""
    hub_private: bool = False
    """Make the repository a private one."""

    def check_publishing(self) -> None:
        """Raise `SystemExit` where it is not said where to, rather before a training than after."""
        if self.push_to_hub and self.hub_model_id is None:
            raise SystemExit("--push_to_hub needs --hub_model_id user/name: where to?")

    def publish_if_asked(self, folder: Path) -> None:
        """Publish the folder if that was asked for, and print the address of the commit."""
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
                raise ArtifactError(f"{folder} holds the hidden {name}; move it away.")
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
            f"{files[CARD_NAME]} has no metadata, by which the Hub would find it; begin it with "
            "lines between --- and ---, or write it with stylegan_hub.hub.write_card."
        )
    return files


def _check_file(path: Path, name: str, folder: Path) -> None:
    """Raise `ArtifactError` unless the file is of an allowed type, whole, and holds no secret."""
    suffix = path.suffix.lower()
    if _SECRET_NAME.search(path.name):
        raise ArtifactError(f"{folder} holds {name}, which sounds like a secret; move it away.")
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
                    f"({found.group()[:4]}...); remove it, and withdraw it where it is valid."
                )
            if suffix == ".json":
                json.loads(text)
    except (SyntaxError, ValueError, OSError) as error:
        if isinstance(error, ArtifactError) and name in str(error):
            raise
        raise ArtifactError(
            f"{folder}: {name} is no sound {suffix or 'text'} file: {error}"
        ) from error


def _check_loads(folder: Path) -> None:
    """Raise `ArtifactError` unless the folder loads as what it says it is, and is up to date."""
    kind = names.kind_of(folder)
    if kind is None or kind.load is None:
        raise ArtifactError(
            f"{folder} holds no edit, no table and no pipeline: it has no {CONFIG_NAME}.",
            remedy="Save it with save_pretrained.",
        )
    kind.load(folder)
    if kind.marker == CONFIG_NAME:
        check_fresh(folder)


@contextmanager
def publishing(repo_id: str) -> Iterator[None]:
    """Turn what goes wrong between here and the Hub into a `PublishError` that says what to do."""
    try:
        yield
    except PublishError:
        raise
    except Exception as error:  # a lost connection raises what its HTTP library has
        raise PublishError(f"{repo_id} was not changed: {_refusal(_cause(error))}") from error


def _cause(error: BaseException) -> BaseException:
    """The client wraps what happened to one file of several in a RuntimeError."""
    return error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error


def _refusal(error: BaseException) -> str:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, GatedRepoError):
        return "it is gated, and its owner has not let you in. Ask for access on its page."
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return (
            "you are not logged in. Run `hf auth login` with a token that may write, or pass "
            "token=..."
        )
    if status == 403:
        return "this login may not write there. Use a token that may, or your own name."
    if status == 412:
        return (
            "somebody else published there since you started. Look at what is new on its page, "
            "then publish again."
        )
    if status in (404, 409, 429) or (status or 0) >= 500:
        return names.hub_refusal(error)
    if status is not None:
        return f"{error}"
    return f"{error or type(error).__name__}. Check the connection and publish again."
