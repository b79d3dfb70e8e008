"""Faces and edits as files that visitors save and load again."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from demo.frames import SLOTS
from stylegan_hub import pictures
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import StackedEdit
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

STACK_NAME = "face.safetensors"
_MAX_LETTERS = 500


def newest_found(session: Session) -> StackedEdit | None:
    """The edit that can be saved: the last one that this session found."""
    return next((applied for applied in reversed(session.edits) if applied.name is None), None)


def archive(edit: Edit, name: str) -> bytes:
    """The edit's folder as the bytes of a zip file; unpack it for `load_edit`."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(buffer, "w") as bundle:
        folder = edit.save_pretrained(Path(scratch) / "edit")
        for file in sorted(folder.iterdir()):
            bundle.write(file, f"{name}/{file.name}")
    return buffer.getvalue()


def save_stack(studio: Studio, session: Session) -> bytes:
    """The face and the edits on it as the bytes of one file for `load_stack`."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / STACK_NAME
        studio.save_stack(session, path)
        return path.read_bytes()


def load_stack(studio: Studio, session: Session, path: str | Path) -> tuple[Session, list[str]]:
    """The face and the edits of an untrusted file, or of a picture saved on this page.

    Returns:
        The session, and sentences about what could not be loaded.

    Raises:
        ValueError: the file is of another kind, damaged, or cannot be used here; too many edits.
    """
    problems: list[str] = []
    try:
        if Path(path).suffix.lower() == ".png":
            recipe, _ = pictures.read_recipe(path)
            _check_count(len(recipe.edits))  # before any of them is fetched from the Hub
            loaded, problems = pictures.open_picture(studio.pipe, path, studio.load)
            studio.draw(loaded)  # raises if a region or a label is unknown here
        else:
            loaded = studio.load_stack(session, path)
    except ValueError as error:  # the file's path on this server means nothing to the sender
        raise ValueError(str(error).replace(str(path), Path(path).name)) from error
    _check_count(len(loaded.edits))
    if (letters := max((len(label_of(one)) for one in loaded.edits), default=0)) > _MAX_LETTERS:
        raise ValueError(
            f"Got an edit whose name or words have {letters} letters; at most {_MAX_LETTERS} fit "
            "beside a slider. Shorten them."
        )
    return loaded, problems


def _check_count(count: int) -> None:
    if count > SLOTS:
        raise ValueError(
            f"Got a stack of {count} edits; this page has sliders for {SLOTS}. Remove some from "
            "it: EditStack.removed."
        )
