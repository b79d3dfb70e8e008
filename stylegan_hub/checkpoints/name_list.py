"""Read a pickled list of names without executing anything in the file.

Datasets for text-to-image networks store the names of their training and test pictures in this way.
"""

from __future__ import annotations

import io
from pathlib import Path

from stylegan_hub.checkpoints import pickles
from stylegan_hub.errors import ArtifactError, NotFoundError

_MAX_BYTES = 1 << 24  # a list of 24,000 names has less than half a million


def read_names(path: Path) -> list[str]:
    """The names in a pickled list of texts or integers, as texts.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: it holds something else, is damaged or far too large.
    """
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a pickled list of names.")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise ArtifactError(
            f"{path} has {size} bytes; a list of names has at most {_MAX_BYTES}. "
            "Check that it is the right file."
        )
    try:
        names = pickles.load(io.BytesIO(path.read_bytes()), {}, pickles.Budget())
    except ArtifactError as error:
        if error.got is None:
            raise ArtifactError(
                f"{path} is damaged or not a pickle: {error}. Copy or download it again."
            ) from error
        raise ArtifactError(
            f"{path} holds more than a list of names: it asks for {error.got!r}. Nothing was "
            "executed. Do not open this file with other tools unless you trust its source.",
            got=error.got,
        ) from error
    if not isinstance(names, list | str | int):
        raise ArtifactError(
            f"{path} holds more than a list of names. Check that it is the right file."
        )
    if not isinstance(names, list) or not all(type(name) in (int, str) for name in names):
        raise ArtifactError(
            f"{path} does not hold a flat list of names. Check that it is the right file."
        )
    return [str(name) for name in names]
