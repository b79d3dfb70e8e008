"""Small parts that every tab uses: friendly errors, pictures for the screen, files to save."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache
from PIL import Image

_SCREEN_SIZE = 512


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


def heading(text: str) -> None:
    """The heading of a part of the page."""
    gr.HTML(f"<h2>{escape(text)}</h2>")


def plain(text: str) -> str:
    """Anybody's text as text: neither HTML nor something that gradio's templates fill in."""
    shown = "".join(letter for letter in text if letter.isprintable())
    return escape(shown).replace("{", "&#123;").replace("$", "&#36;")


def progress(done: int, total: int, text: str) -> str:
    """HTML of a progress bar with a line of text."""
    return (
        f'<div class="status"><progress value="{done}" max="{total}" aria-label="Progress">'
        f"</progress><span>{plain(text)}</span></div>"
    )


def message(text: str) -> str:
    """HTML of a line of text that screen readers read out when it changes."""
    return f'<div class="status" role="status"><span>{plain(text)}</span></div>'
