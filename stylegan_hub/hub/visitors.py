"""Edits from the Hub for visitors of a page: they are checked, then read, and not stored.

The person who runs a page lends visitors a connection and memory, so both are bounded. For an edit
that a visitor names, its description and the header of its tensors are read, a few kilobytes; only
an edit for this generator and of a bounded size is read completely. Requests never use the login of
the person who runs the page. Files are deleted as soon as they are read, and an edit leaves memory
with the last session that uses it.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from stylegan_hub import names
from stylegan_hub.artifacts import CONFIG_NAME, TENSORS_NAME, BaseModel
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.errors import (
    ArtifactError,
    BusyError,
    MismatchError,
    NotFoundError,
    StyleganHubError,
)
from stylegan_hub.hub.list import EditInfo, Repository

_MIB = 1024**2


@dataclass(eq=False)
class VisitorEdits:
    """Reads edits from the Hub for visitors; may be used from any thread.

    Attributes:
        most_bytes: limit for the tensors of one edit.
        most_in_all: limit in bytes for all edits that sessions hold at a time.
        endpoint: address of the Hub; None for the usual one.
    """

    most_bytes: int = 32 * _MIB
    most_in_all: int = 512 * _MIB
    endpoint: str | None = None
    _held: WeakValueDictionary[tuple[str, str], Edit] = field(default_factory=WeakValueDictionary)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, name: str) -> EditInfo:
        """Describe an edit on the Hub; a few kilobytes are read.

        Raises:
            NotFoundError, ArtifactError: see `load`.
        """
        return self._repository(name)[1]

    def load(self, name: str, base_model: BaseModel) -> Edit:
        """The edit of a Hub id, "user/repo" or "user/repo@revision", or the address of its page.

        Raises:
            NotFoundError: it does not exist, or is private.
            ArtifactError: it is not an edit, is damaged, from a newer version or too large.
            MismatchError: it is for another generator.
            BusyError: visitors hold as many edits from the Hub as there is room for.
        """
        repository, info = self._repository(name)
        self._check(info, repository.sizes[TENSORS_NAME], base_model)
        key = (repository.id, str(repository.revision))
        with self._lock, _said(repository.id):  # an edit that is requested twice is read once
            edit = self._held.get(key) or self._read(repository)
            edit.check_fits(base_model)
            self._held[key] = edit
        return edit

    def _repository(self, name: str) -> tuple[Repository, EditInfo]:
        repo, _, revision = (names.hub_id(name) or name).partition("@")
        with _said(repo):
            repository = Repository(repo, revision or None, token=False, endpoint=self.endpoint)
            return repository, repository.info()

    def _check(self, info: EditInfo, size: int, base_model: BaseModel) -> None:
        if not names.is_edit(info.kind):
            raise ArtifactError(
                f"{info.name} holds a {info.kind}, which is not an edit.",
                got=info.kind,
                expected="edit",
            )
        if info.fingerprint != base_model.fingerprint:
            raise MismatchError(
                f"{info.name} was made for the generator {info.base_model} (fingerprint "
                f"{info.fingerprint}); this page renders with {base_model.id} (fingerprint "
                f"{base_model.fingerprint}).",
                got=info.fingerprint,
                expected=base_model.fingerprint,
                remedy="Choose an edit for this one.",
            )
        if size > self.most_bytes:
            raise ArtifactError(
                f"{info.name} has {size / _MIB:.0f} MiB; a page reads at most "
                f"{self.most_bytes / _MIB:.0f} MiB.",
                got=size,
                expected=self.most_bytes,
                remedy="Load it with Python: hub.load_edit.",
            )

    def _read(self, repository: Repository) -> Edit:
        size = repository.sizes[TENSORS_NAME]
        if self._bytes_held() + size > self.most_in_all:
            raise BusyError(
                "Visitors of this page hold as many edits from the Hub as there is room for.",
                got=self._bytes_held() + size,
                expected=self.most_in_all,
                remedy="Try again later, or use a bundled one.",
            )
        with tempfile.TemporaryDirectory(prefix="stylegan-hub-edit-") as scratch:
            folder = Path(scratch)
            (folder / CONFIG_NAME).write_bytes(repository.json(CONFIG_NAME))
            (folder / TENSORS_NAME).write_bytes(repository.read(TENSORS_NAME))
            try:
                return load_edit(folder)
            except ArtifactError as error:  # without the temporary path on this server
                raise ArtifactError(str(error).replace(str(folder), repository.id)) from error

    def _bytes_held(self) -> int:
        tensors = (tensor for edit in self._held.values() for tensor in edit.tensors().values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@contextmanager
def _said(repo: str) -> Iterator[None]:
    """Turn every error of the Hub's client into a sentence."""
    try:
        yield
    except StyleganHubError:
        raise
    except Exception as error:  # a lost connection raises an error of the HTTP library
        raise NotFoundError(
            f"The Hub did not give {repo}: {names.hub_refusal(error)}", got=repo
        ) from error
