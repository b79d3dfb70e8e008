"""The zoo: edits that are bundled or on the Hub, and the way to put one there.

`list_edits` shows what there is and reads no weights: a card's `config.json` and `metrics.json`,
and of `model.safetensors` the header alone, by range requests. `publish` sends a folder as one
commit. This is the only file that uploads. `load_edit` and `load_directions`, which load what was
found here, live in `edits/`.

A short name leads to a bundled card, or else to a repository in the default namespace on the Hub
(`names.namespace`: the environment variable STYLEGAN_HUB_NAMESPACE changes it).
"""

from __future__ import annotations

import json
import math
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stylegan_hub import artifacts, names
from stylegan_hub.artifacts import CONFIG_NAME, TENSORS_NAME
from stylegan_hub.edits.base import Strength
from stylegan_hub.errors import ArtifactError, NotFoundError, StyleganHubError
from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

CARD_NAME = "README.md"
METRICS_NAME = "metrics.json"
PICTURE_NAME = "images/before-after.webp"
"""The strip that shows an edit in a gallery: a row of faces before it, a row of them after it."""

_TAG = "stylegan_hub"
_TYPES = {".json", ".safetensors", ".md", ".txt", ".png", ".jpg", ".jpeg", ".gif", ".webp"}
PICTURE_TYPES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}
# What a training leaves beside the edit. It is no part of it, and its paths are nobody's business.
_RUN_FILES = ("checkpoint-*", "samples", "logs", "training_config.json", "training.log")
_SECRET_NAME = re.compile(
    r"(^|[._-])(secrets?|credentials?|passwords?|passwd|token|api[_-]?keys?|private[_-]?key|id_rsa)"
    r"([._-]|$)",
    re.IGNORECASE,
)
_SECRET_TEXT = re.compile(
    r"\bhf_[A-Za-z0-9]{30,}|\bgh[opsu]_[A-Za-z0-9]{30,}|\bAKIA[A-Z0-9]{16}\b|\bsk-[A-Za-z0-9_-]{32,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_MAX_SMALL_FILE = 1 << 20  # bytes of a config.json, a metrics.json or a safetensors header
_TIMEOUT = 10.0  # seconds to wait for an answer of the Hub when listing
_THREADS = 8
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


class PublishError(StyleganHubError, OSError):
    """The Hub did not take a folder; nothing was changed there."""


@dataclass(frozen=True)
class EditInfo:
    """What a gallery shows of an edit or a direction table, without its weights.

    Attributes:
        name: what `load_edit` (or `load_directions`) takes.
        kind: of the artifact: "direction", "latent_mapper", "direction_table", ...
        source: where it is.
        prompt: the text it was made for.
        base_model: name of the generator's pipeline, for people.
        fingerprint: of the generator; it decides whether the edit fits.
        space: "w_plus" or "s".
        strength: range of the slider.
        parameters: how many numbers its tensors hold.
        picture: path or URL of the before/after strip.
        metrics: the content of metrics.json; empty when nothing was measured.
        revision: commit on the Hub.
    """

    name: str
    kind: str
    source: Literal["bundled", "folder", "hub"]
    prompt: str | None
    base_model: str | None
    fingerprint: str | None
    space: str | None
    strength: Strength
    parameters: int
    picture: str | None
    metrics: Mapping[str, Any]
    revision: str | None = None


def list_edits(
    base_model: str | None = None,
    kind: str | None = None,
    search: str | None = None,
    author: str | None = None,
    include_hub: bool = True,
    limit: int = 100,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> list[EditInfo]:
    """Edits and direction tables: bundled ones first, then those on the Hub, newest first.

    Nothing is downloaded but a few kilobytes of description each. When the Hub cannot be asked,
    a warning says so and the bundled ones come alone; a repository that is damaged, or that a
    newer version wrote, is left out with a warning.

    Args:
        base_model: only for this generator: name of its pipeline ("portraits", "user/repo") or its
            fingerprint (`pipe.base_model.fingerprint`).
        kind: only of this kind.
        search: only with these letters in the name (or, for bundled ones, in the prompt).
        author: only of this user or organization; bundled ones belong to the default namespace.
        include_hub: False asks no server.
        limit: of repositories on the Hub.
        token: to see private ones too; the saved login when None.
        endpoint: address of the Hub when it is not the usual one.
    """
    found: list[EditInfo] = []
    problems: list[str] = []
    if author in (None, names.namespace()):
        for name, folder in names.bundled().items():
            if not (folder / TENSORS_NAME).is_file():
                continue  # a pipeline or a single model
            try:
                info = _folder_info(folder, name, "bundled")
            except StyleganHubError as error:
                problems.append(f"{name}: {error}")
                continue
            if search is None or search.lower() in f"{name} {info.prompt or ''}".lower():
                found.append(info)
    if include_hub:
        tags = [_TAG, *([kind] if kind else []), *([_base_tag(base_model)] if base_model else [])]
        try:
            repositories = _Hub(token, endpoint).list(tags, search, author, limit)
        except NotFoundError as error:
            repositories = []
            warnings.warn(
                f"The Hub could not be asked, so only bundled edits are listed: {error}",
                stacklevel=2,
            )
        for listed in repositories:
            if isinstance(listed, EditInfo):
                found.append(listed)
            else:
                problems.append(listed)
    if problems:
        warnings.warn(f"Left out what cannot be read. {' '.join(problems)}", stacklevel=2)
    return [
        info
        for info in found
        if kind in (None, info.kind) and (base_model is None or _is_for(info, base_model))
    ]


def edit_info(
    name_or_path: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> EditInfo:
    """What `list_edits` says of one edit, by bundled name, folder or Hub id.

    Raises:
        NotFoundError: the name leads nowhere; the bundled names are listed.
        ArtifactError: it is no edit, is damaged, or is from a newer version.
    """
    name = str(name_or_path)
    repo = names.hub_id(name) if isinstance(name_or_path, str) else None
    if repo is not None and name not in names.bundled() and not os.path.isdir(name):
        repo, _, own_revision = repo.partition("@")
        return _Hub(token, endpoint).describe(repo, own_revision or revision)
    folder = names.resolve(name_or_path)
    is_bundled = isinstance(name_or_path, str) and name in names.bundled()
    return _folder_info(folder, name, "bundled" if is_bundled else "folder")


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
        folder: as `save_pretrained` wrote it, with a card (`cards.write_card`).
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
        PublishError: the Hub refused or was lost; nothing was changed there.
    """
    folder = Path(folder)
    if repo_id.count("/") != 1 or names.hub_id(repo_id) is None or "@" in repo_id:
        raise ValueError(f"Got repo_id {repo_id!r}; expected 'user/repo', as in 'me/afro-hair'.")
    files = _checked_files(folder)
    _check_loads(folder)

    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api = HfApi(endpoint, token, library_name=_TAG, library_version=__version__)
    operations = [CommitOperationAdd(name, path) for name, path in files.items()]
    with _publishing(repo_id):
        try:
            repository = api.model_info(repo_id)
        except RepositoryNotFoundError:
            api.create_repo(repo_id, private=private, exist_ok=True)
            repository = api.model_info(repo_id)
        if private and not repository.private:
            raise PublishError(
                f"{repo_id} exists and is public, private=True was asked for: nothing was sent. "
                "Make it private on its page, or publish under another name."
            )
        commit = api.create_commit(
            repo_id,
            operations,
            commit_message=message or f"Publish {folder.resolve().name} with stylegan_hub",
            parent_commit=parent_commit or repository.sha,
        )
    return str(commit.commit_url)


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
        if any(fnmatch(top.name, pattern) for pattern in _RUN_FILES):
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
            "stylegan_hub.cards.write_card (`stylegan-hub publish` does), or by hand."
        )
    if not card_metadata(files[CARD_NAME]):
        raise ArtifactError(
            f"{files[CARD_NAME]} has no metadata, by which the Hub would find it; begin it with "
            "lines between --- and ---, or write it with stylegan_hub.cards.write_card."
        )
    return files


def card_metadata(path: Path) -> dict[str, Any]:
    """What a card says between its --- lines; empty when it says nothing.

    Raises:
        NotFoundError: there is no card.
        ArtifactError: the lines are no YAML, or not what the Hub takes.
    """
    from huggingface_hub import ModelCard
    from yaml import YAMLError  # type: ignore[import-untyped]

    if not path.is_file():
        raise NotFoundError(f"There is no card {path}.")
    try:
        return dict(ModelCard(path.read_text(encoding="utf-8")).data.to_dict())
    except (YAMLError, ValueError) as error:
        raise ArtifactError(f"The metadata of {path} cannot be read: {error}") from error


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
            _count_numbers(_reader(path), f"{folder}: {name}")
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
    """Raise `ArtifactError` unless the folder loads as what it says it is."""
    if (folder / "model_index.json").is_file():
        from stylegan_hub.pipeline import StyleEditPipeline

        StyleEditPipeline.from_pretrained(folder)
    elif artifacts.read_config(folder)["kind"] == "direction_table":
        from stylegan_hub.methods.table import load_directions

        load_directions(folder)
    elif artifacts.read_config(folder)["kind"] == "text_to_face":
        from stylegan_hub.text_to_face import load_text_to_face

        load_text_to_face(folder)
    else:
        from stylegan_hub.edits.base import load_edit

        load_edit(folder)


@contextmanager
def _publishing(repo_id: str) -> Iterator[None]:
    """Turn what goes wrong between here and the Hub into a `PublishError` that says what to do."""
    from httpx2 import HTTPError

    try:
        yield
    except PublishError:
        raise
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        # The client wraps what happened to one file of several in a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) and error.__cause__ else error
        raise PublishError(f"{repo_id} was not changed: {_refusal(cause)}") from error


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
    if status is not None and status < 500:
        return f"{error}"
    return f"{error or type(error).__name__}. Check the connection and publish again."


# What edits say of themselves


def _folder_info(folder: Path, name: str, source: Literal["bundled", "folder"]) -> EditInfo:
    picture = folder / PICTURE_NAME
    info = _described(folder, name, source, _reader(folder / TENSORS_NAME))
    return replace(info, picture=str(picture) if picture.is_file() else None)


def _described(
    folder: Path, name: str, source: Literal["bundled", "folder", "hub"], read: _Read
) -> EditInfo:
    """From config.json and metrics.json in the folder, and the header of the tensors."""
    config = artifacts.read_config(folder)
    base_model = config.get("base_model", {})
    try:
        strength = Strength(**config.get("strength", {}))
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{folder}: {error}") from error
    return EditInfo(
        name=name,
        kind=config["kind"],
        source=source,
        prompt=config.get("prompt"),
        base_model=base_model.get("id"),
        fingerprint=base_model.get("fingerprint"),
        space=config.get("space"),
        strength=strength,
        parameters=_count_numbers(read, f"{folder}/{TENSORS_NAME}"),
        picture=None,
        metrics=read_metrics(folder),
    )


def read_metrics(folder: Path) -> dict[str, Any]:
    """The content of metrics.json; empty when there is none.

    Raises:
        ArtifactError: it is no JSON object, or larger than any list of numbers should be.
    """
    path = folder / METRICS_NAME
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > _MAX_SMALL_FILE:
            raise ValueError(f"it has {path.stat().st_size} bytes; expected {_MAX_SMALL_FILE}")
        metrics = json.loads(path.read_bytes())
        if not isinstance(metrics, dict):
            raise ValueError(f"it holds a {type(metrics).__name__}; expected an object {{...}}")
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Measure the edit again.") from error
    return metrics


# Reads bytes [start, stop) of a file; also says how many bytes it has.
_Read = Callable[[int, int], tuple[bytes, int]]


def _reader(path: Path) -> _Read:
    def read(start: int, stop: int) -> tuple[bytes, int]:
        try:
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(stop - start), path.stat().st_size
        except FileNotFoundError as error:
            raise ArtifactError(f"There is no {path}; an artifact needs it.") from error

    return read


def _count_numbers(read: _Read, name: str) -> int:
    """How many numbers a safetensors file holds, told from its header alone.

    The header is 8 bytes of length and that much JSON, which says where in the file every tensor
    lies; so a file that was cut off is found out as well.

    Raises:
        ArtifactError: it is no whole safetensors file.
    """
    start, size = read(0, 8)
    length = int.from_bytes(start, "little")
    try:
        if len(start) < 8 or not 2 <= length <= min(_MAX_SMALL_FILE, size):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        header = json.loads(read(8, 8 + length)[0])
        tensors = [entry for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max((int(entry["data_offsets"][1]) for entry in tensors), default=0)
        if size != expected:
            raise ValueError(f"got {size} bytes, expected {expected}")
        return sum(math.prod(int(side) for side in entry["shape"]) for entry in tensors)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{name} is damaged or no safetensors file: {error}. Save or download it again."
        ) from error


def _base_tag(base_model: str) -> str:
    """The tag that cards for this generator have on the Hub."""
    if _FINGERPRINT.fullmatch(base_model):
        return generator_tag(base_model)
    return f"base_model:{names.hub_id(base_model) or base_model}"


def generator_tag(fingerprint: str) -> str:
    """The tag of all edits for one generator, whatever its pipeline is called."""
    return f"generator-{fingerprint}"


def _is_for(info: EditInfo, base_model: str) -> bool:
    own = info.base_model
    return base_model in (info.fingerprint, own) or (
        own is not None and names.hub_id(own) == names.hub_id(base_model) is not None
    )


class _Hub:
    """Reads descriptions from the Hub: small files and ranges of bytes, never whole weights."""

    def __init__(self, token: str | bool | None, endpoint: str | None) -> None:
        from huggingface_hub import constants
        from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

        self._endpoint = endpoint or constants.ENDPOINT
        self._headers = build_hf_headers(
            token=token, library_name=_TAG, library_version=__version__
        )
        # The length of a compressed answer would not be the file's.
        self._headers["Accept-Encoding"] = "identity"

    def list(
        self, tags: list[str], search: str | None, author: str | None, limit: int
    ) -> list[EditInfo | str]:
        """The repositories with all these tags; for one that cannot be read, the reason.

        Raises `NotFoundError` when the Hub does not answer.
        """
        from huggingface_hub.hf_api import ModelInfo

        parameters: dict[str, Any] = {"filter": tags, "sort": "lastModified", "full": True}
        parameters |= {"limit": limit, "search": search, "author": author}
        parameters = {name: value for name, value in parameters.items() if value is not None}
        answer, _ = self._get("/api/models", None, parameters)
        models = [ModelInfo(**item) for item in json.loads(answer)]

        def describe(model: ModelInfo) -> EditInfo | str | None:
            if "model_index.json" in _file_names(model):
                return None  # a pipeline has the library's tag too
            try:
                return self._describe(model)
            except StyleganHubError as error:
                return f"{model.id}: {error}"

        with ThreadPoolExecutor(_THREADS) as threads:
            return [found for found in threads.map(describe, models) if found is not None]

    def describe(self, repo: str, revision: str | None) -> EditInfo:
        """What one repository holds; raises `NotFoundError` and `ArtifactError`."""
        from urllib.parse import quote

        from huggingface_hub.hf_api import ModelInfo

        at = f"/revision/{quote(revision, safe='')}" if revision else ""
        answer, _ = self._get(f"/api/models/{repo}{at}")
        return self._describe(ModelInfo(**json.loads(answer)))

    def _describe(self, model: ModelInfo) -> EditInfo:
        from huggingface_hub import hf_hub_url

        names = _file_names(model)
        if missing := {CONFIG_NAME, TENSORS_NAME} - names:
            raise ArtifactError(
                f"{model.id} is no edit: it has no {' and no '.join(sorted(missing))}."
            )

        def address(name: str) -> str:
            return hf_hub_url(model.id, name, revision=model.sha, endpoint=self._endpoint)

        def read(start: int, stop: int) -> tuple[bytes, int]:
            return self._get(address(TENSORS_NAME), (start, stop))

        # What reads a folder reads this too, with the same checks.
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "hub" / model.id
            folder.mkdir(parents=True)
            for name in {CONFIG_NAME, METRICS_NAME} & names:
                content, _ = self._get(address(name), (0, _MAX_SMALL_FILE + 1))
                (folder / name).write_bytes(content)
            try:
                info = _described(folder, model.id, "hub", read)
            except ArtifactError as error:
                raise ArtifactError(str(error).replace(str(folder), model.id)) from error
        picture = address(PICTURE_NAME) if PICTURE_NAME in names else None
        return replace(info, picture=picture, revision=model.sha)

    def _get(
        self,
        address: str,
        span: tuple[int, int] | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> tuple[bytes, int]:
        """An answer, or the bytes [start, stop) of a file; and how many bytes there are in all.

        Raises `NotFoundError` when the Hub does not give it.
        """
        from httpx2 import HTTPError
        from huggingface_hub import get_session, hf_raise_for_status

        if address.startswith("/"):
            address = self._endpoint + address
        start, stop = span or (0, 0)
        headers = {**self._headers, **({"Range": f"bytes={start}-{stop - 1}"} if span else {})}
        try:
            with get_session().stream(
                "GET", address, headers=headers, params=parameters, timeout=_TIMEOUT
            ) as response:
                if response.is_error:
                    response.read()
                hf_raise_for_status(response)
                if span is None:
                    content = response.read()
                    return content, len(content)
                if response.status_code == 206:
                    total = int(response.headers["Content-Range"].rpartition("/")[2])
                    skip = 0
                else:  # a server that knows no ranges: stop reading when there is enough
                    total, skip = int(response.headers["Content-Length"]), start
                content = b""
                for part in response.iter_bytes():
                    content += part
                    if len(content) >= skip + stop - start:
                        break
                return content[skip:][: stop - start], total
        except (HTTPError, OSError, ValueError, KeyError) as error:
            why = names.hub_refusal(error)
            raise NotFoundError(f"The Hub did not give {address}: {why}") from error


def _file_names(model: ModelInfo) -> set[str]:
    return {sibling.rfilename for sibling in model.siblings or ()}
