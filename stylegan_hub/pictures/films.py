"""Films of a session: one strength from end to end, or all edits coming one after the other.

`sweep` and `walk` give the sessions of the frames, which a `Studio` or a `Rendering` draws;
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
"""What `save_film` writes, by the suffix of the name."""
_FRAMES_PER_SECOND = 16
_HOLD = 8  # frames that the last picture of a walk stays


def sweep(
    session: Session,
    place: int = -1,
    low: float | None = None,
    high: float | None = None,
    frames: int = 32,
) -> list[Session]:
    """One edit from a strength to another and back, slower at the ends; it can run in a loop.

    Args:
        place: of the edit in the stack, counted from 0, or from the end: -1 is the last.
        low, high: the strengths; the ends of the edit's slider when None.
        frames: of the film, at least two.

    Raises:
        ValueError: no such edit, fewer than two frames, a strength that is no number.
    """
    count = len(session.edits)
    if not -count <= place < count:
        raise ValueError(f"Got place {place} in a stack of {count} edits; put an edit on first.")
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
    """The face without edits, then each edit coming on top of those before, to its strength.

    Args:
        frames: for each edit, at least two.

    Raises:
        ValueError: no edits, fewer than two frames.
    """
    if not session.edits:
        raise ValueError("Got a face without edits; put some on first.")
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
        frames: of one size.
        recipe: what is said of them in the file's metadata.
        fps: frames per second, 1 to 60.

    Raises:
        ValueError: another suffix, no frames, frames of several sizes, MP4 without PyAV.
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
    """The bytes of what `save_film` writes.

    Args:
        format: "GIF", "WEBP" or "MP4".
    """
    if not frames or len({frame.size for frame in frames}) > 1:
        sizes = sorted({frame.size for frame in frames})
        raise ValueError(f"A film has frames of one size; got {sizes or 'none'}.")
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
            "MP4 needs PyAV, which is not installed: `pip install stylegan-hub[film]`; or write a "
            "GIF."
        ) from error
    # yuv420p, which browsers and phones play, has no odd sizes.
    width, height = (side - side % 2 for side in frames[0].size)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "film.mp4"  # whose beginning is written at last
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
