"""Files and folders that are written as a whole or not at all, whatever happens meanwhile.

Everything is written to a hidden neighbor first. For a folder (`staged`), the complete neighbor is
renamed, and from then on it is decided: its files are moved into the folder by the writer or, if
the writer was killed, by the next process that reads or writes there (`settle`). Writers and
readers of a folder wait for each other (`locked`). So neither a full disk nor a kill nor a second
writer can mix two versions. The next writer removes incomplete neighbors whose writer is gone.

New files are as readable as the user's umask says. A file that is replaced passes on its mode, and
its hidden neighbor is at no moment more readable.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from uuid import uuid4

from safetensors import SafetensorError

from stylegan_hub.errors import NotFoundError, StorageError

if sys.platform != "win32":
    import fcntl


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file as a whole or not at all; missing parent folders are created.

    A file that exists keeps its mode.

    Raises:
        StorageError: the disk refuses.
    """
    path = real(path)
    with _named(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        partial = _partial(path)
        mode = 0o600 if path.exists() else 0o666  # less the umask
        try:
            with (
                open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file,
                locked(file.fileno()),
            ):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # some file systems report a full disk only here
            _replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def staged(folder: str | Path) -> Iterator[Path]:
    """A new folder to write to; at the end its files are moved into `folder` in one step.

    Other files in `folder` stay. If the body raises, nothing has changed.

    Raises:
        StorageError: the disk refuses; the message names `folder`.
    """
    folder = real(folder)
    with _named(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        settle(folder)
        _remove_leftovers(folder)
        staging = _partial(folder)
        staging.mkdir()
        usual = staging.stat().st_mode & 0o777
        staging.chmod(0o700)
        try:
            with locked(staging):  # the lock shows that the writer is alive
                yield staging
                _open_as_usual(staging, usual)
                _commit(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)


def _open_as_usual(staging: Path, usual: int) -> None:
    """Let those read the files whom the user's umask lets; safetensors writes some for one user.

    Args:
        usual: the mode of a new folder.
    """
    for path in staging.rglob("*"):
        if path.is_file():
            path.chmod(path.stat().st_mode | usual & 0o666)
    staging.chmod(usual)


def _replace(path: Path, target: Path) -> None:
    """Rename a file; the one that it replaces passes on its mode."""
    with suppress(FileNotFoundError):
        path.chmod(target.stat().st_mode & 0o777)
    os.replace(path, target)


def settle(folder: str | Path) -> None:
    """Finish what a killed writer had decided for a folder, if writing is allowed."""
    folder = real(folder)
    if decided := _decided(folder):
        with suppress(OSError), locked(folder):
            for left in decided:
                _finish(left, folder)


def _commit(staging: Path, folder: Path) -> None:
    """Move what was written to its place."""
    if not os.path.exists(folder):
        try:
            os.rename(staging, folder)
            return
        except OSError:
            if not folder.is_dir():  # another writer may have created it meanwhile
                raise
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with locked(folder):
        for left in _decided(folder):  # from a writer that was killed
            _finish(left, folder)
        # A private folder's files stay private; they must be movable to be finished or removed.
        staging.chmod(folder.stat().st_mode & 0o777 | 0o700)
        decided = staging.with_suffix(".decided")
        os.rename(staging, decided)
        _finish(decided, folder)


def _finish(decided: Path, folder: Path) -> None:
    if folder.is_dir():
        # Sorted by name, a config comes before its tensors. If a reader without write access finds
        # only one of them, it is the new config, which has a digest even if the old one had none.
        for path in sorted(decided.rglob("*")):
            if path.is_file():
                target = folder / path.relative_to(decided)
                target.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, target)
    shutil.rmtree(decided, ignore_errors=True)


def real(path: str | Path) -> Path:
    """The path with links resolved: a link may lead to another file system, a rename cannot."""
    return Path(os.path.realpath(path))


def _partial(path: Path) -> Path:
    """A hidden neighbor of `path`, on the same file system, so that renaming is one step."""
    return path.with_name(f".{path.name}.{os.getpid()}-{uuid4().hex[:8]}.partial")


def _neighbors(path: Path, state: str) -> list[Path]:
    # The whole name is compared: "smile.v2" has neighbors that begin like those of "smile".
    named = re.compile(rf"\.{re.escape(path.name)}\.(\d+-)?[0-9a-f]{{8}}\.{state}")
    found = path.parent.glob(f".{escape(path.name)}.*.{state}")
    return sorted(neighbor for neighbor in found if named.fullmatch(neighbor.name))


def _decided(folder: Path) -> list[Path]:
    """What killed writers had decided for a folder, except what other users put beside it."""
    found = _neighbors(folder, "decided")
    if not found or not folder.is_dir():
        return found
    owner = folder.stat().st_uid
    return [left for left in found if _owner(left) == owner]


def _owner(path: Path) -> int | None:
    """The user who owns a path; None if it is gone, since its writer has finished meanwhile."""
    try:
        return path.lstat().st_uid
    except FileNotFoundError:
        return None


def _remove_leftovers(path: Path) -> None:
    """Remove the files that killed writers of a file or folder left beside it."""
    for left in _neighbors(path, "partial"):
        pid = re.search(r"\.(\d+)-\w+\.partial$", left.name)
        # A lock proves that it is being written; the process id covers the moment before locking.
        if (pid and _is_running(int(pid[1]))) or _is_locked(left):
            continue
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            with suppress(OSError):
                left.unlink()


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":
        return True  # os.kill would end it
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _is_locked(path: Path) -> bool:
    if sys.platform == "win32":
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


@contextmanager
def locked(path: Path | int, shared: bool = False) -> Iterator[None]:
    """Lock a file or folder, waiting for others; the system releases locks of ended processes.

    Where locks are not supported (Windows, some network file systems), nothing is locked.
    """
    descriptor = -1
    if sys.platform != "win32":
        with suppress(OSError):
            descriptor = os.dup(path) if isinstance(path, int) else os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


@contextmanager
def errors_of_the_system() -> Iterator[None]:
    """Raise errors of the system as such, not as what the writer of safetensors makes of them."""
    try:
        yield
    except SafetensorError as error:
        if (number := re.search(r"\(os error (\d+)\)", str(error))) is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Raise errors of the system with the path that was given, and what to do."""
    try:
        yield
    except OSError as error:
        if isinstance(error, NotFoundError) or error.errno is None:
            raise
        raise StorageError.of(path, error) from error
