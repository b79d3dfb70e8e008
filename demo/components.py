"""Small parts that every tab uses: error messages, pictures for the screen, files to save."""

from __future__ import annotations

import base64
import io
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image, ImageOps

from stylegan_hub.errors import StyleganHubError
from stylegan_hub.photos.photo import FORMATS
from stylegan_hub.studio import Studio

REFUSALS = (ValueError, FileNotFoundError, StyleganHubError)
"""Errors about input that cannot be used; anything else is a fault of this program."""
_SCREEN_SIZE = 512
_MAX_LETTERS = 1500  # of an error's message
_MAX_PIXELS = 64 * 1024 * 1024
# The folders of an absolute path, up to the name at its end; not an address on the Web.
_FOLDERS = re.compile(r"(?<![\w:/.~<-])(?:[A-Za-z]:)?(?:[/\\][^\s/\\'\"`]+)+[/\\](?=[^\s/\\'\"`])")


@contextmanager
def friendly() -> Iterator[None]:
    """Turn errors about bad input into a message on the page that says what to do."""
    try:
        yield
    except REFUSALS as error:
        raise gr.Error(toast(explain(error)), print_exception=False) from error


def explain(error: Exception) -> str:
    """The message of an error, without the folders of this machine; long ones are cut."""
    text = without_folders(str(error))  # it may repeat what a stranger's file holds
    return text if len(text) <= _MAX_LETTERS else f"{text[:_MAX_LETTERS]}…"


def without_folders(text: str) -> str:
    """The text with absolute paths replaced by the names of the files."""
    return _FOLDERS.sub("", text)


def toast(text: str) -> str:
    """Untrusted text for `gr.Error`, `gr.Warning` and `gr.Info`, whose boxes interpret HTML.

    It is not escaped, since programs read errors as they are. An invisible character behind "<" and
    "&" keeps browsers from reading what follows as a tag or an entity.
    """
    return re.sub("[<&]", "\\g<0>\u2060", text)


def for_screen(picture: Image.Image) -> Image.Image:
    """The picture at a size that browsers need not enlarge; saved files keep their own size."""
    if min(picture.size) >= _SCREEN_SIZE:
        return picture
    factor = _SCREEN_SIZE / min(picture.size)
    size = round(picture.width * factor), round(picture.height * factor)
    return picture.resize(size, Image.Resampling.BICUBIC)


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


def help_with(text: str) -> None:
    """One sentence at the top of a tab that says what the tab is for."""
    gr.HTML(f'<p class="note">{plain(text)}</p>')


def plain(text: str) -> str:
    """Untrusted text as plain text: neither HTML nor a placeholder that gradio's templates fill."""
    shown = "".join(letter for letter in text if letter.isprintable())
    return escape(shown, quote=False).replace("{", "&#123;").replace("$", "&#36;")


def attribute(text: str) -> str:
    """Untrusted text for use between the double quotes of an HTML attribute."""
    return plain(text).replace('"', "&quot;")


def progress(done: int, total: int, seconds: float) -> str:
    """HTML of a progress bar and the remaining time.

    Args:
        seconds: elapsed since the first step was done.
    """
    left = seconds / max(1, done - 1) * (total - done)
    text = f"Step {done} of {total}" + (f", about {left:.0f} s left" if left >= 1 else "")
    return (
        f'<div class="status"><progress value="{done}" max="{total}" aria-label="Progress">'
        f"</progress><span>{text}</span></div>"
    )


def after(started: float) -> str:
    """ " in 3 s": the time since `time.monotonic()` was `started`; empty if under a second."""
    seconds = time.monotonic() - started
    return f" in {seconds:.0f} s" if seconds >= 1 else ""


def message(text: str) -> str:
    """HTML of a line of text that screen readers announce when it changes."""
    return f'<div class="status" role="status"><span>{plain(text)}</span></div>'


def webp(picture: Image.Image) -> bytes:
    """The picture as the bytes of a small file."""
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=85)
    return buffer.getvalue()


def data_url(picture: Image.Image) -> str:
    """The picture as a data URL."""
    return f"data:image/webp;base64,{base64.b64encode(webp(picture)).decode()}"


def shown(picture: Image.Image, alt: str) -> str:
    """HTML of a picture with its alternative text."""
    return f'<img src="{data_url(picture)}" alt="{attribute(alt)}">'


def say_limit(box: gr.Textbox, most: int, unit: str = "words") -> None:
    """Show a note below a text box while its text is too long; nothing is cut off.

    Args:
        most: how many of the unit, "words" or "letters", are read.
    """
    note = gr.HTML(min_height=0, elem_classes="limit")
    count = r"text.trim().split(/\s+/).length" if unit == "words" else "[...text].length"
    box.change(
        None,
        box,
        note,
        js=f"""text => {{
          const count = {count};
          return count > {most}
            ? `<p class="note" role="status">${{count}} {unit}; at most {most} are read.</p>` : "";
        }}""",
        api_visibility="private",
    )


def most_words(studio: Studio) -> int:
    """How many words of a text this pipeline's CLIP reads; fewer if the words are long."""
    return studio.pipe.tokenizer.model_max_length - 2


def name_of(studio: Studio) -> str:
    """The pipeline's name for visitors, see `names.public_name`."""
    return studio.pipe.name or "portraits"


def recipe(why: str, *commands: str) -> str:
    """HTML that says what is missing, and the commands that make it."""
    lines = "\n".join(plain(command) for command in commands)
    return f"<p>{plain(why)}</p><pre><code>{lines}</code></pre>"


def open_picture(path: str | Path) -> Image.Image:
    """Open an untrusted picture file.

    Raises:
        ValueError: it is not a picture, or is damaged or too large.
    """
    name = Path(path).name
    try:
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height <= _MAX_PIXELS:
                return ImageOps.exif_transpose(picture)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise ValueError(
            f"{name} is not a picture that can be read. Use a PNG, JPEG or WebP file."
        ) from error
    raise ValueError(
        f"{name} has {width} x {height} pixels; at most {_MAX_PIXELS // 1024**2} million are read. "
        "Make it smaller."
    )


def warning(studio: Studio, words: str) -> str | None:
    """A warning about words that CLIP may misread; None if there are none."""
    if not (unfamiliar := studio.unfamiliar(words)):
        return None
    return (
        f"This CLIP was not taught {', '.join(repr(word) for word in unfamiliar)}; "
        "expect little change, or a different one."
    )
