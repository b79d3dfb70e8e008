"""Faces and edits as files that visitors save and bring back."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path

from demo.frames import SLOTS
from stylegan_hub import pictures
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import StackedEdit
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

STACK_NAME = "face.safetensors"


def newest_found(session: Session) -> StackedEdit | None:
    """The edit that can be saved: the last one that was found here."""
    return next((applied for applied in reversed(session.edits) if applied.name is None), None)


def archive(edit: Edit, name: str) -> bytes:
    """The edit's folder as the bytes of a zip file, for `load_edit` after unpacking."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as scratch, zipfile.ZipFile(buffer, "w") as bundle:
        folder = edit.save_pretrained(Path(scratch) / "edit")
        for file in sorted(folder.iterdir()):
            bundle.write(file, f"{name}/{file.name}")
    return buffer.getvalue()


def save_stack(studio: Studio, session: Session) -> bytes:
    """The face and the edits on it as the bytes of one file, for `load_stack`."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / STACK_NAME
        studio.save_stack(session, path)
        return path.read_bytes()


def load_stack(studio: Studio, session: Session, path: str | Path) -> tuple[Session, list[str]]:
    """The face and the edits of a file that anybody may have made, or of a picture saved here.

    Returns:
        The session, and what of it could not be opened, in sentences.

    Raises:
        ValueError: it is no such file, is damaged, or cannot be used here; too many edits.
    """
    problems: list[str] = []
    try:
        if Path(path).suffix.lower() == ".png":
            loaded, problems = pictures.open_picture(studio.pipe, path, studio.load)
            studio.draw(loaded)  # a region or a label may be unknown here
        else:
            loaded = studio.load_stack(session, path)
    except ValueError as error:  # where it lies here says nothing to who sent it
        raise ValueError(str(error).replace(str(path), Path(path).name)) from error
    if len(loaded.edits) > SLOTS:
        raise ValueError(
            f"Got a stack of {len(loaded.edits)} edits; this page has sliders for {SLOTS}. Take "
            "some out of it: EditStack.removed."
        )
    return loaded, problems
