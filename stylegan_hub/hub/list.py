"""The edits that exist: bundled ones, and those on the Hub.

For each, `config.json`, `metrics.json` and the header of `model.safetensors` are read, but no
weights. Nothing that an owner puts into a repository, and no answer of the Hub, breaks a list: what
cannot be read is left out, and `Listing.problems` says why.

A short name stands for a bundled card, or else for a repository in the default namespace on the Hub
(`names.namespace`: the environment variable STYLEGAN_HUB_NAMESPACE changes it).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, overload

from stylegan_hub import names
from stylegan_hub.artifacts import (
    CONFIG_NAME,
    DIGEST_KEY,
    METRICS_NAME,
    TENSORS_NAME,
    check_size,
    config_from,
    metrics_from,
    read_config,
    read_metrics,
    stale_files,
)
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.errors import ArtifactError, NotFoundError, StyleganHubError
from stylegan_hub.hub.cards import FORMER_LIBRARY, LIBRARY, PICTURE_NAME, generator_tag
from stylegan_hub.version import __version__

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_MAX_HEADER = 1 << 20  # bytes of a safetensors header
_TIMEOUT = 10.0  # seconds, for one answer of the Hub
_PATIENCE = 60.0  # seconds, for all answers of the Hub; a third of it for the first
_THREADS = 8
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class EditInfo:
    """What a gallery shows of an edit or a direction table, read without its weights.

    Attributes:
        name: for `load_edit` (or `load_directions`).
        kind: of the artifact: "direction", "latent_mapper", "direction_table", ...
        source: where it is stored.
        prompt: the text it was made for.
        base_model: readable name of the generator's pipeline.
        fingerprint: of the generator; it decides whether the edit fits.
        space: "w_plus" or "s".
        strength: range of the slider.
        parameters: number of values in its tensors.
        picture: path or URL of the before/after strip.
        metrics: the content of metrics.json; empty if nothing was measured.
        revision: commit on the Hub.
        stale: which of metrics.json and README.md belong to other tensors than these.
        fit: how well edited pictures show what the words ask, 0 to 1; None if not measured.
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
    stale: tuple[str, ...] = ()
    fit: float | None = None


@dataclass(frozen=True)
class Listing(Sequence[EditInfo]):
    """What `list_edits` found, as a sequence, and the problems on the way.

    Attributes:
        edits: the edits found, bundled ones first.
        problems: a sentence about each thing that was left out, and why.
    """

    edits: tuple[EditInfo, ...]
    problems: tuple[str, ...] = ()

    @overload
    def __getitem__(self, index: int) -> EditInfo: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[EditInfo, ...]: ...

    def __getitem__(self, index: int | slice) -> EditInfo | tuple[EditInfo, ...]:
        return self.edits[index]

    def __len__(self) -> int:
        return len(self.edits)


def list_edits(
    base_model: str | None = None,
    kind: str | None = None,
    search: str | None = None,
    author: str | None = None,
    include_hub: bool = True,
    limit: int = 100,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> Listing:
    """Edits and direction tables: bundled ones first, then those on the Hub, newest first.

    Only a few kilobytes of description are downloaded for each. If the Hub cannot be reached, only
    the bundled ones are listed; a repository that is damaged, or was written by a newer version, is
    left out. `Listing.problems` says so.

    Args:
        base_model: only for this generator: the name of its pipeline ("portraits", "user/repo") or
            its fingerprint (`pipe.base_model.fingerprint`).
        kind: only of this kind.
        search: only with this text in the name (or, for bundled ones, in the prompt).
        author: only of this user or organization; bundled ones belong to the default namespace.
        include_hub: False sends no request.
        limit: maximum number of repositories from the Hub.
        token: to see private ones too; None for the saved login.
        endpoint: address of the Hub; None for the usual one.
    """
    found: list[EditInfo | str] = []
    if author in (None, names.namespace()):
        found += _bundled(search)
    if include_hub:
        tags = [*([kind] if kind else []), *([_base_tag(base_model)] if base_model else [])]
        found += _in_time(lambda: _on_the_hub(tags, search, author, limit, token, endpoint))
    return Listing(
        edits=tuple(
            info
            for info in found
            if isinstance(info, EditInfo)
            and kind in (None, info.kind)
            and (base_model is None or _is_for(info, base_model))
        ),
        problems=tuple(problem for problem in found if isinstance(problem, str)),
    )


def edit_info(
    name_or_path: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    endpoint: str | None = None,
) -> EditInfo:
    """Describe one edit as `list_edits` does, by bundled name, folder or Hub id.

    Raises:
        NotFoundError: there is no edit with this name; similar names are listed.
        ArtifactError: it is not an edit, is damaged, or is from a newer version.
    """
    name = str(name_or_path)
    repo = names.hub_id(name) if isinstance(name_or_path, str) else None
    if repo is not None and name not in names.bundled() and not os.path.isdir(name):
        repo, _, own_revision = repo.partition("@")
        return _describe(repo, own_revision or revision, token, endpoint)
    folder = names.resolve(name_or_path)
    is_bundled = isinstance(name_or_path, str) and name in names.bundled()
    return _folder_info(folder, name, "bundled" if is_bundled else "folder")


def _base_tag(base_model: str) -> str:
    """The tag that cards for this generator have on the Hub."""
    if _FINGERPRINT.fullmatch(base_model):
        return generator_tag(base_model)
    return f"base_model:{names.hub_id(base_model) or base_model}"


def _is_for(info: EditInfo, base_model: str) -> bool:
    own = info.base_model
    return base_model in (info.fingerprint, own) or (
        own is not None and names.hub_id(own) == names.hub_id(base_model) is not None
    )


# In folders


def _bundled(search: str | None) -> Iterator[EditInfo | str]:
    for name, folder in names.bundled().items():
        if not (folder / TENSORS_NAME).is_file():
            continue  # a pipeline or a single model
        try:
            info = _folder_info(folder, name, "bundled")
        except StyleganHubError as error:
            yield f"{name} was left out, since it cannot be read: {error}"
            continue
        if search is None or search.lower() in f"{name} {info.prompt or ''}".lower():
            yield info


def _folder_info(folder: Path, name: str, source: Literal["bundled", "folder"]) -> EditInfo:
    config, tensors, picture = read_config(folder), folder / TENSORS_NAME, folder / PICTURE_NAME
    if not tensors.is_file():
        raise ArtifactError(f"There is no {tensors}; an artifact needs it.")
    return EditInfo(
        name=name,
        source=source,
        parameters=count_numbers(tensors),
        picture=str(picture) if picture.is_file() else None,
        metrics=read_metrics(folder),
        stale=stale_files(folder, config.get(DIGEST_KEY)),
        **_described(config, folder),
    )


def _described(config: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """The part of the description that comes from a checked config."""
    base_model = config.get("base_model", {})
    try:
        strength = Strength(**config.get("strength", {}))
        fit = Origin(fit=config.get("fit")).fit
    except (TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: {error}") from error
    return {
        "kind": config["kind"],
        "prompt": config.get("prompt"),
        "base_model": base_model.get("id"),
        "fingerprint": base_model.get("fingerprint"),
        "space": config.get("space"),
        "strength": strength,
        "fit": fit,
    }


def count_numbers(header: Path, size: int | None = None, path: str | Path | None = None) -> int:
    """Number of values in a safetensors file, from its header alone.

    The header states the position of every tensor in the file, which reveals a truncated file.

    Args:
        header: the file, or one that begins like it.
        size: bytes of the whole file; None for the size of `header`.
        path: the file's name in messages.

    Raises:
        ArtifactError: it is not a complete safetensors file.
    """
    from huggingface_hub import parse_local_safetensors_file_metadata

    size = header.stat().st_size if size is None else size
    try:
        with open(header, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MAX_HEADER, size):
            raise ValueError(f"a header of {length} bytes in a file of {size}")
        tensors = parse_local_safetensors_file_metadata(header).tensors.values()
        expected = 8 + length + max((tensor.data_offsets[1] for tensor in tensors), default=0)
        if size != expected:
            raise ValueError(f"got {size} bytes, expected {expected}")
        count = sum(tensor.parameter_count for tensor in tensors)
        if not 0 <= count <= 8 * size:  # a value has at least one bit
            raise ValueError("its shapes have more values than the file")
    except Exception as error:  # the reader of headers trusts their types
        raise ArtifactError(
            f"{path or header} is damaged or not a safetensors file: {error}. "
            "Save or download it again."
        ) from error
    return count


# On the Hub


def _in_time(ask: Callable[[], Iterator[EditInfo | str]]) -> Iterator[EditInfo | str]:
    """Yield the answers that arrive within the time limit for the Hub.

    `list_models` has no timeout and retries for half a minute, so it runs in a thread that can be
    left behind.
    """
    answers: SimpleQueue[EditInfo | str | None] = SimpleQueue()

    def work() -> None:
        try:
            for answer in ask():
                answers.put(answer)
        except Exception as error:  # odd JSON, HTML, a lost connection: whatever it raises
            why = names.hub_refusal(error)
            answers.put(f"The Hub could not be reached, so only bundled edits are listed: {why}")
        answers.put(None)

    Thread(target=work, daemon=True).start()
    end = monotonic() + _PATIENCE
    wait = _PATIENCE / 3
    while True:
        try:
            answer = answers.get(timeout=max(0.0, wait))
        except Empty:
            yield "The Hub did not answer in time, so some edits are not listed. Try again."
            return
        if answer is None:
            return
        yield answer
        wait = end - monotonic()


def _on_the_hub(
    tags: Sequence[str],
    search: str | None,
    author: str | None,
    limit: int,
    token: str | bool | None,
    endpoint: str | None,
) -> Iterator[EditInfo | str]:
    """The repositories with all these tags, newest first; for an unreadable one, the reason.

    Raises the errors of huggingface_hub if the Hub does not answer as it should.
    """
    from huggingface_hub import HfApi, get_hf_file_metadata
    from huggingface_hub.errors import HfHubHTTPError

    api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
    with suppress(HfHubHTTPError):  # any answer is fine; without a connection this fails at once
        address = f"{api.endpoint}/api/models?limit=1"
        names.asked_again(lambda: get_hf_file_metadata(address, token, timeout=_TIMEOUT))
    listed: dict[str, ModelInfo] = {}
    for library in (LIBRARY, FORMER_LIBRARY):
        models = api.list_models(
            filter=[library, *tags],
            search=search,
            author=author,
            sort="last_modified",
            limit=limit,
            expand=["lastModified", "sha", "siblings"],
        )
        try:
            for model in models:
                listed[model.id] = model
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            yield f"The Hub's answer is not a list of repositories ({error!r}). Try again later."
            break
    newest = sorted(
        listed.values(),
        key=lambda model: model.last_modified.timestamp() if model.last_modified else 0.0,
        reverse=True,
    )

    def describe(model: ModelInfo) -> EditInfo | str | None:
        try:
            if "model_index.json" in {file.rfilename for file in model.siblings or ()}:
                return None  # a pipeline has the library's tag too
            return _describe(model.id, model.sha, token, endpoint)
        except StyleganHubError as error:
            return f"{model.id} was left out, since it cannot be read: {error}"

    with ThreadPoolExecutor(_THREADS) as threads:
        for found in threads.map(describe, newest[:limit]):
            if found is not None:
                yield found


def _describe(
    repo: str, revision: str | None, token: str | bool | None, endpoint: str | None
) -> EditInfo:
    """Describe one repository; raises `NotFoundError` and `ArtifactError`."""
    try:
        return names.asked_again(lambda: _fetched(repo, revision, token, endpoint))
    except StyleganHubError:
        raise
    except Exception as error:  # a lost connection raises what its HTTP library has
        at = f" at revision {revision}" if revision else ""
        why = names.hub_refusal(error)
        raise NotFoundError(f"The Hub did not give {repo}{at}: {why}") from error


def _fetched(
    repo: str, revision: str | None, token: str | bool | None, endpoint: str | None
) -> EditInfo:
    return Repository(repo, revision, token, endpoint).info()


class Repository:
    """One repository on the Hub, at one commit; parts of its files are read, and nothing is stored.

    Every method raises the errors of huggingface_hub and its HTTP library, see `names.hub_refusal`.

    Attributes:
        id: "user/repo".
        revision: the commit.
        sizes: bytes of each file, by name.

    Raises:
        ArtifactError: it holds no artifact.
    """

    def __init__(
        self,
        repo: str,
        revision: str | None = None,
        token: str | bool | None = None,
        endpoint: str | None = None,
    ) -> None:
        from huggingface_hub import HfApi, HfFileSystem

        api = HfApi(endpoint, token, library_name=LIBRARY, library_version=__version__)
        model = api.model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)
        self.id, self.revision, self._endpoint = repo, model.sha, endpoint
        siblings = model.siblings or ()
        self.sizes = {file.rfilename: file.size or 0 for file in siblings}
        self._sha256 = {file.rfilename: file.lfs.sha256 for file in siblings if file.lfs}
        if missing := {CONFIG_NAME, TENSORS_NAME} - self.sizes.keys():
            raise ArtifactError(
                f"{repo} is not an edit: it has no {' and no '.join(sorted(missing))}."
            )
        # `hf_hub_download` would keep the files of every listed repository, and
        # `get_safetensors_metadata` downloads 100 kB for a header of one. This reads byte ranges.
        self._files = HfFileSystem(endpoint=endpoint, token=token, skip_instance_cache=True)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """The bytes of a file from `start` to before `stop` (None: its end), never more.

        Raises:
            ArtifactError: the whole file was read, and its sha256 differs from the Hub's.
        """
        size = self.sizes[name]
        stop = size if stop is None else min(stop, size)
        if stop <= start:
            return b""
        with self._files.open(
            f"{self.id}/{name}", revision=self.revision, size=size, cache_type="none"
        ) as file:
            file.seek(start)
            data = bytes(file.read(stop - start))[: stop - start]
        if len(data) == size and self._sha256.get(name) not in (None, sha256(data).hexdigest()):
            raise ArtifactError(
                f"{self.id}/{name} arrived damaged: its sha256 is not the one on the Hub.",
                remedy="Try again.",
            )
        return data

    def json(self, name: str) -> bytes:
        """The bytes of a small file.

        Raises:
            ArtifactError: it is larger than such a file should be.
        """
        check_size(f"{self.id}/{name}", self.sizes[name])
        return self.read(name)

    def info(self) -> EditInfo:
        """Describe it from its small files and the header of its tensors.

        Raises:
            ArtifactError: they cannot be read, or are from a newer version.
        """
        from huggingface_hub import hf_hub_url

        config = config_from(self.json(CONFIG_NAME), f"{self.id}/{CONFIG_NAME}")
        raw = self.json(METRICS_NAME) if METRICS_NAME in self.sizes else b"{}"
        metrics, measured = metrics_from(raw, f"{self.id}/{METRICS_NAME}")
        own = config.get(DIGEST_KEY)
        picture = hf_hub_url(self.id, PICTURE_NAME, revision=self.revision, endpoint=self._endpoint)
        return EditInfo(
            name=self.id,
            source="hub",
            parameters=self._count_numbers(),
            picture=picture if PICTURE_NAME in self.sizes else None,
            metrics=metrics,
            revision=self.revision,
            stale=(METRICS_NAME,) if own and measured not in (None, own) else (),
            **_described(config, f"{self.id}/{CONFIG_NAME}"),
        )

    def _count_numbers(self) -> int:
        size = self.sizes[TENSORS_NAME]
        start = self.read(TENSORS_NAME, 0, 8)
        stop = 8 + min(int.from_bytes(start, "little"), _MAX_HEADER)
        with tempfile.NamedTemporaryFile(suffix=".safetensors") as header:
            header.write(start + self.read(TENSORS_NAME, 8, stop))
            header.flush()
            return count_numbers(Path(header.name), size, f"{self.id}/{TENSORS_NAME}")
