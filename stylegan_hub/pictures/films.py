"""Films of a session: one strength from end to end, or all edits added one after the other.

`sweep` and `walk` return the sessions of the frames, which a `Studio` or a `Rendering` renders;
`save_film` writes frames as GIF, WebP or MP4. MP4 needs PyAV (`pip install stylegan-hub[film]`).
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from stylegan_hub.artifacts import write_bytes
from stylegan_hub.pictures.recipe import Recipe
from stylegan_hub.session import Session

FILMS = {".gif": "GIF", ".webp": "WEBP", ".mp4": "MP4"}
"""The formats that `save_film` writes, by suffix."""
_FRAMES_PER_SECOND = 16
_HOLD = 8  # extra frames for the last picture of a walk


def sweep(
    session: Session,
    place: int = -1,
    low: float | None = None,
    high: float | None = None,
    frames: int = 32,
) -> list[Session]:
    """One edit from one strength to another and back, slower at the ends, for playing in a loop.

    Args:
        place: the edit's place in the stack, counted from 0, or from the end: -1 is the last.
        low, high: the strengths; None is the end of the edit's slider.
        frames: number of frames, at least two.

    Raises:
        ValueError: there is no such edit, there are fewer than two frames, or a strength is not a
            number.
    """
    count = len(session.edits)
    if not -count <= place < count:
        raise ValueError(f"Got place {place} in a stack of {count} edits; add an edit first.")
    _check_frames(frames)
    place %= count
    usual = session.edits[place].edit.strength
    low, high = usual.min if low is None else low, usual.max if high is None else high
    turns = [0.5 - 0.5 * math.cos(2 * math.pi * index / frames) for index in range(frames)]
    return [
        session.with_stack(session.stack.with_strength(place, low + (high - low) * turn))
        for turn in turns
    ]


def walk(session: Session, frames: int = 12) -> list[Session]:
    """The face without edits, then each edit added to those before, growing to its strength.

    Args:
        frames: number of frames for each edit, at least two.

    Raises:
        ValueError: there are no edits, or fewer than two frames.
    """
    if not session.edits:
        raise ValueError("Got a face without edits; add some first.")
    _check_frames(frames)
    stack = session.stack
    for place in range(len(stack)):
        stack = stack.with_strength(place, 0.0)
    film = [session.with_stack(stack)] * 2
    for place, applied in enumerate(session.edits):
        for index in range(1, frames + 1):
            stack = stack.with_strength(place, applied.strength * _eased(index / frames))
            film.append(session.with_stack(stack))
    return [*film, *film[-1:] * _HOLD]


def save_film(
    frames: Sequence[Image.Image],
    path: str | Path,
    recipe: Recipe | None = None,
    fps: int = _FRAMES_PER_SECOND,
) -> None:
    """Write frames as GIF, WebP or MP4, by the suffix, as a whole or not at all.

    Args:
        frames: all of the same size.
        recipe: describes them in the file's metadata.
        fps: frames per second, 1 to 60.

    Raises:
        ValueError: the suffix is unknown, there are no frames, the frames differ in size, or PyAV
            is missing for MP4.
        StorageError: the disk refuses.
    """
    path = Path(path)
    if (format := FILMS.get(path.suffix.lower())) is None:
        raise ValueError(f"Cannot write {path.name!r}: end the name in {', '.join(FILMS)}.")
    write_bytes(path, encode_film(frames, format, recipe, fps))


def encode_film(
    frames: Sequence[Image.Image],
    format: str,
    recipe: Recipe | None = None,
    fps: int = _FRAMES_PER_SECOND,
) -> bytes:
    """The bytes of the file that `save_film` writes.

    Args:
        format: "GIF", "WEBP" or "MP4".
    """
    if not frames or len({frame.size for frame in frames}) > 1:
        sizes = sorted({frame.size for frame in frames})
        raise ValueError(
            f"Got {len(frames)} frames of the sizes {sizes}; expected frames of one size."
        )
    if not 1 <= fps <= 60:
        raise ValueError(f"Got {fps} frames per second; expected 1 to 60.")
    said = "" if recipe is None else recipe.sentence
    if format == "MP4":
        return _mp4(frames, said, fps)
    first, *others = (frame.convert("RGB") for frame in frames)
    how = {"save_all": True, "append_images": others, "duration": round(1000 / fps), "loop": 0}
    buffer = io.BytesIO()
    if format == "GIF":
        first.save(buffer, "GIF", comment=said.encode()[:255], **how)
    elif format == "WEBP":
        exif = Image.Exif()
        exif[0x010E] = said  # ImageDescription
        first.save(buffer, "WEBP", quality=90, exif=exif, **how)
    else:
        raise ValueError(f"Got the format {format!r}; expected one of {', '.join(FILMS.values())}.")
    return buffer.getvalue()


def _mp4(frames: Sequence[Image.Image], said: str, fps: int) -> bytes:
    try:
        import av
    except ImportError as error:
        raise ValueError(
            "MP4 needs PyAV, which is not installed. Install it with `pip install "
            "stylegan-hub[film]`, or write a GIF."
        ) from error
    # yuv420p, which browsers and phones can play, needs even sizes.
    width, height = (side - side % 2 for side in frames[0].size)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "film.mp4"  # a real file, because its header is written last
        _write_mp4(av, path, frames, (width, height), said, fps)
        return path.read_bytes()


def _write_mp4(
    av: Any,
    path: Path,
    frames: Sequence[Image.Image],
    size: tuple[int, int],
    said: str,
    fps: int,
) -> None:
    width, height = size
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        container.metadata["comment"] = said
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = frame.convert("RGB").crop((0, 0, width, height))
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())


def _eased(share: float) -> float:
    """From 0 to 1, slower at both ends."""
    return 0.5 - 0.5 * math.cos(math.pi * share)


def _check_frames(frames: int) -> None:
    if not 2 <= frames <= 1000:
        raise ValueError(f"Got {frames} frames; expected 2 to 1000.")
