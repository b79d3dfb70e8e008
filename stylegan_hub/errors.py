"""The library's errors, apart from a plain `ValueError` or `TypeError` for a wrong argument.

    StyleganHubError
    ├── NotFoundError (FileNotFoundError)   a name, folder or Hub id leads nowhere
    ├── ArtifactError (ValueError)          a file or folder is broken, unsafe or too new
    ├── MismatchError (ValueError)          two valid parts do not belong together
    ├── MethodError (ValueError)            a method cannot fulfill a request, or does not exist
    ├── BusyError (RuntimeError)            too many tasks are running or waiting already
    ├── StorageError (OSError)              the disk did not accept a file or folder
    └── hub.PublishError (OSError)          the Hub did not accept a folder

Every message says what was got, what was expected and what to do.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


class StyleganHubError(Exception):
    """Base class of this library's own errors.

    Attributes:
        got, expected: what was given and what would have been accepted, as plain values; None if
            only the message says it.
        remedy: what to do; the message ends with it.
    """

    def __init__(
        self, message: str, *, got: object = None, expected: object = None, remedy: str = ""
    ) -> None:
        super().__init__(f"{message} {remedy}".strip())
        self.got, self.expected, self.remedy = got, expected, remedy


class NotFoundError(StyleganHubError, FileNotFoundError):
    """A name, folder or Hub id leads nowhere."""


class ArtifactError(StyleganHubError, ValueError):
    """A file or folder exists, but is incomplete, broken, unsafe or too new to read."""


class MismatchError(StyleganHubError, ValueError):
    """Two valid parts do not belong together: an edit and another generator, two latent spaces."""


class MethodError(StyleganHubError, ValueError):
    """A method cannot fulfill a request, or there is no such method."""


class BusyError(StyleganHubError, RuntimeError):
    """Too many tasks are running or waiting already; nothing was started."""


class StorageError(StyleganHubError, OSError):
    """The disk did not accept a file or folder; what was there before is unchanged.

    Attributes:
        errno: number of the system's error, such as ENOSPC.
    """

    def __str__(self) -> str:
        return str(self.args[0])  # with errno set, OSError would print only the system's text

    @classmethod
    def of(cls, path: Path, error: OSError) -> StorageError:
        """The system's error, for the path that the user gave."""
        there = next((p for p in (path, *path.parents) if os.path.exists(p)), path)
        is_in_the_way = there != path and os.path.isfile(there)
        remedies = {
            errno.ENOSPC: "Free some space, or choose another disk.",
            errno.EDQUOT: "Free some of your quota, or choose another disk.",
            errno.EFBIG: "Choose another disk, or raise the limit on the size of a file.",
            errno.EACCES: "Choose a folder that you may write to.",
            errno.EPERM: "Choose a folder that you may write to.",
            errno.EROFS: "Choose a folder that you may write to.",
            errno.EEXIST: "A file is where a folder is needed; choose another name.",
            errno.ENOTDIR: "A file is where a folder is needed; choose another name.",
            errno.EISDIR: "A folder is where a file is needed; choose another name.",
            errno.ENAMETOOLONG: "Choose a shorter name.",
        }
        why = f"{there} is a file" if is_in_the_way else error.strerror
        found = cls(
            f"Cannot write {path}: {why}.",
            got=error.strerror,
            remedy=remedies.get(error.errno or 0, "Check the disk, and try again."),
        )
        found.errno, found.strerror = error.errno, error.strerror
        return found
