"""Small parts that every tab uses: friendly errors, pictures for the screen, files to save."""

from __future__ import annotations

import base64
import io
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image, ImageOps

from stylegan_hub.studio import Studio

MAX_LETTERS = 300
"""Of a text that a person writes."""
_SCREEN_SIZE = 512
_MAX_PIXELS = 64 * 1024 * 1024


@contextmanager
def friendly() -> Iterator[None]:
    """Bad input becomes a message on the page that says what to do."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        raise gr.Error(escape(str(error)), print_exception=False) from error


def for_screen(picture: Image.Image) -> Image.Image:
    """The picture in a size at which browsers need not enlarge it; saved files keep their own."""
    if min(picture.size) >= _SCREEN_SIZE:
        return picture
    factor = _SCREEN_SIZE / min(picture.size)
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, Image.Resampling.BICUBIC)


def png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def to_save(button: gr.DownloadButton, data: bytes, name: str) -> str:
    """Path of a file for a download button, in the cache that the page cleans up by itself."""
    return save_bytes_to_cache(data, name, cache_dir=button.GRADIO_CACHE)


def thumbnails(
    label: str,
    elem_id: str,
    columns: int,
    pictures: Sequence[tuple[Path, str]] | None = None,
    visible: bool = True,
) -> gr.Gallery:
    """Small pictures to click on."""
    return gr.Gallery(
        pictures,
        label=label,
        show_label=False,
        elem_id=elem_id,
        elem_classes="thumbnails",
        columns=columns,
        height="auto",
        object_fit="cover",
        allow_preview=False,
        buttons=[],
        interactive=False,
        visible=visible,
    )


def heading(text: str) -> None:
    """The heading of a part of the page."""
    gr.HTML(f"<h2>{escape(text)}</h2>")


def plain(text: str) -> str:
    """Anybody's text as text: neither HTML nor something that gradio's templates fill in."""
    shown = "".join(letter for letter in text if letter.isprintable())
    return escape(shown).replace("{", "&#123;").replace("$", "&#36;")


def progress(done: int, total: int, started: float) -> str:
    """HTML of a progress bar and the time left, since `time.monotonic()` was `started`."""
    left = (time.monotonic() - started) / done * (total - done)
    text = f"Step {done} of {total}" + (f", about {left:.0f} s left" if left >= 1 else "")
    return (
        f'<div class="status"><progress value="{done}" max="{total}" aria-label="Progress">'
        f"</progress><span>{text}</span></div>"
    )


def after(started: float) -> str:
    """How long it took since `time.monotonic()` was `started`, where that is worth saying."""
    seconds = time.monotonic() - started
    return f" in {seconds:.0f} s" if seconds >= 1 else ""


def message(text: str) -> str:
    """HTML of a line of text that screen readers read out when it changes."""
    return f'<div class="status" role="status"><span>{plain(text)}</span></div>'


def data_url(picture: Image.Image) -> str:
    """The picture as an address that holds it."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def shown(picture: Image.Image, alt: str) -> str:
    """HTML of a picture, with words for who cannot see it."""
    return f'<img src="{data_url(picture)}" alt="{plain(alt)}">'


def recipe(why: str, *commands: str) -> str:
    """HTML of what is missing, and the commands that make it."""
    lines = "\n".join(plain(command) for command in commands)
    return f"<p>{plain(why)}</p><pre><code>{lines}</code></pre>"


def open_picture(path: str | Path) -> Image.Image:
    """Anybody's picture file.

    Raises:
        ValueError: it is none, damaged or huge.
    """
    name = Path(path).name
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > _MAX_PIXELS:
                raise ValueError(
                    f"{name} has {picture.width} x {picture.height} pixels; at most "
                    f"{_MAX_PIXELS // 1024**2} million are read. Make it smaller."
                )
            return ImageOps.exif_transpose(picture)
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} is no picture that can be read. Take a PNG, JPEG or WebP file."
        ) from error


def warning(studio: Studio, words: str) -> str | None:
    """What to tell about words that CLIP may misread."""
    if not (unfamiliar := studio.unfamiliar(words)):
        return None
    return (
        f"This CLIP was not taught {', '.join(repr(word) for word in unfamiliar)}; "
        "expect little or something else."
    )
