"""Read any user's picture as upright 8-bit RGB, or say why that is not possible.

Files are untrusted, so only plain picture formats are decoded (Pillow would pass an EPS to
Ghostscript), the size is checked before pixels are decoded, and a damaged file is an error.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.images import to_rgb
from stylegan_hub.storage import real

HEIC = (".heic", ".heif")
"""Suffixes of pictures that phones take; reading them needs the package pillow-heif."""
SUFFIXES = (".avif", ".bmp", ".gif", *HEIC, ".jfif", ".jp2", ".jpeg", ".jpg", ".mpo", ".png",
            ".ppm", ".tif", ".tiff", ".webp")  # fmt: skip
"""Suffixes of the files that `list_photos` treats as pictures."""

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats of Pillow that are decoded; it would pass an EPS to Ghostscript."""
_MAX_PIXELS = 1 << 27  # 134 million: cameras have 100
_MAX_REDUCED = 1 << 30  # limit for JPEG, which can be decoded at a half, a quarter or an eighth
_COMFORTABLE = 1 << 26  # 67 million: a larger JPEG is decoded at a half or less
_MAX_BYTES = 1 << 29
_MIN_SIDE = 16
_FILMS = (".3gp", ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
_LIMIT = threading.RLock()


@dataclass(frozen=True)
class Photo:
    """A photograph.

    Attributes:
        image: upright, mode RGB.
        name: name of its file, without folders.
        sha256: of the file's bytes; empty for a picture that did not come from a file.
        notes: what was done to the picture, as sentences for the user.
    """

    image: Image.Image
    name: str = "picture"
    sha256: str = ""
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.image.size

    @staticmethod
    def of(picture: Image.Image, name: str = "picture") -> Photo:
        """A photo from an open picture: turned upright and converted to RGB.

        Raises:
            ValueError: the picture is too small, or has 32-bit numbers of an unknown range.
        """
        return Photo(*_prepared(picture, name))


def read_photo(path: str | Path) -> Photo:
    """A picture file as a photo.

    The picture is turned upright by its EXIF tag; transparency is laid on white; gray, palette,
    CMYK and 16 bits become 8-bit RGB; an embedded color profile is converted to sRGB; an animation
    becomes its first picture, with a note. HEIC needs the package pillow-heif. A JPEG of more than
    67 million pixels is decoded at a half or less, with a note.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: the file is not a picture, is damaged or cut off, or is too large.
        ValueError: the picture is too small, or has 32-bit numbers of an unknown range.
    """
    path = Path(path)
    if path.is_dir():
        raise ArtifactError(f"{path} is a folder; expected a picture file.")
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}; expected a picture.")
    if (count := path.stat().st_size) > _MAX_BYTES:
        raise ArtifactError(
            f"{path} has {count >> 20} MiB; pictures of up to {_MAX_BYTES >> 20} MiB are read. "
            "Save a smaller copy."
        )
    data = path.read_bytes()
    picture, notes = _decoded(path, data)
    stored = os.fsencode(path.name).decode(errors="replace")  # files with it are in UTF-8
    image, name, _, more = _prepared(picture, stored)
    return Photo(image, name, hashlib.sha256(data).hexdigest(), (*notes, *more))


@dataclass(frozen=True)
class PhotoList:
    """The files of a folder.

    Attributes:
        photos: the picture files, sorted by name.
        skipped: why each other file, or a whole folder, was left out, by its name within the
            folder; the name of a folder ends in "/".
    """

    photos: list[Path]
    skipped: dict[str, str]


def list_photos(
    folder: str | Path, subfolders: bool = False, results: str | Path | None = None
) -> PhotoList:
    """The picture files of a folder, and why the other files are left out.

    Hidden files are left out, as are the files that macOS writes beside pictures on other disks
    (`._a.png`) and the films of live photos.

    Args:
        subfolders: include the folders in it, except hidden ones.
        results: a folder whose pictures are the results of earlier runs; left out if it lies in
            this folder.

    Raises:
        NotFoundError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}. Give a folder with pictures.")
    made = None if results is None else real(results)
    photos, skipped = [], {}
    for path in sorted(folder.rglob("*") if subfolders else folder.iterdir()):
        name = path.relative_to(folder)
        if any(part.startswith(".") for part in name.parts[:-1]):
            continue  # its folder is hidden, which is noted once
        if made is not None and made in real(path).parents and made != real(folder):
            continue
        if path.is_dir() and subfolders and not path.name.startswith("."):
            continue
        if (why := _left_out(path)) is None:
            photos.append(path)
        else:
            skipped[name.as_posix() + "/" * path.is_dir()] = why
    if not photos:
        deep = " Use --subfolders to include its subfolders."
        inside = deep if not subfolders and any(name.endswith("/") for name in skipped) else ""
        raise NotFoundError(
            f"{folder} has no pictures; expected files ending in {', '.join(SUFFIXES)}.{inside}",
            got=skipped,
        )
    return PhotoList(photos, skipped)


def _left_out(path: Path) -> str | None:
    """Why a file of a folder does not count as a photograph; None if it does."""
    if path.name.startswith("._"):
        return "it holds metadata that macOS keeps beside a file, not a picture"
    if path.name.startswith("."):
        return "it is hidden"
    if path.is_dir():
        return "it is a folder; use --subfolders to include it"
    if path.suffix.lower() in _FILMS:
        return "it is a film; the picture of a live photo is in the file beside it"
    if path.suffix.lower() not in SUFFIXES:
        return f"its name ends in {path.suffix or 'nothing'}, which is not a picture format"
    return None


def _decoded(path: Path, data: bytes) -> tuple[Image.Image, list[str]]:
    """The pixels of a file, and what was done to read them."""
    Image.init()  # otherwise Pillow knows only the most common formats
    formats = [*FORMATS, *(["HEIF"] if _reads_heic() else [])]
    notes = []
    try:
        with _any_size():
            picture = Image.open(io.BytesIO(data), formats=formats)
        if note := _reduced(picture):
            notes.append(note)
        width, height = picture.size
        if width * height > _MAX_PIXELS:
            raise ArtifactError(_too_large(path, f"{width} x {height} pixels"))
        picture.load()
    except UnidentifiedImageError as error:
        raise ArtifactError(_unknown(path, len(data))) from error
    except ArtifactError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise ArtifactError(
            f"{path} ({len(data)} bytes) is damaged or cut off: {error}. Copy or download it again."
        ) from error
    return picture, notes


def _reduced(picture: Image.Image) -> str:
    """Decode a large JPEG at a lower resolution, which is cheap; return a note, or ""."""
    width, height = picture.size
    if picture.format not in ("JPEG", "MPO") or not _COMFORTABLE < width * height <= _MAX_REDUCED:
        return ""
    share = 2
    while width * height > _COMFORTABLE * share**2:
        share *= 2
    picture.draft("RGB", (width // share, height // share))
    if picture.size == (width, height):
        return ""
    return (
        f"It has {width} x {height} pixels and was read at {picture.width} x {picture.height}; "
        "the result has that size."
    )


@contextmanager
def _any_size() -> Iterator[None]:
    """Disable Pillow's own size limit; ours replaces it, because a JPEG can be read smaller."""
    with _LIMIT, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _reads_heic() -> bool:
    """Whether HEIC files can be read; if so, registers the format with Pillow."""
    try:
        heif = importlib.import_module("pillow_heif")
    except ImportError:
        return False
    heif.register_heif_opener(thumbnails=False)
    return True


def _unknown(path: Path, size: int) -> str:
    if path.suffix.lower() in HEIC and not _reads_heic():
        advice = (
            "It is a phone picture: install the reader with `pip install "
            "'stylegan-hub[heic]'`, or export the picture as JPEG first."
        )
    else:
        advice = "If it is a picture, save it as PNG or JPEG."
    return f"{path} ({size} bytes) cannot be read as {', '.join(FORMATS)}. {advice}"


def _prepared(picture: Image.Image, name: str) -> tuple[Image.Image, str, str, tuple[str, ...]]:
    notes = []
    try:
        frames = getattr(picture, "n_frames", 1)
    except Exception:  # the pictures after the first one are damaged
        frames = 1
    if frames > 1 and picture.format != "MPO":  # phones store depth maps as further pictures
        notes.append(f"It holds {frames} pictures; the first one was taken.")
    if min(picture.size) < _MIN_SIDE:
        raise ValueError(
            f"{name} has {picture.width} x {picture.height} pixels; expected at least {_MIN_SIDE} "
            "on each side. Choose a larger picture."
        )
    profile = picture.info.get("icc_profile")
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception:  # a broken tag can make the parser raise anything
        notes.append("Its EXIF data is damaged, so it was not turned.")
        upright = picture
    if upright.has_transparency_data:
        notes.append("Transparent parts were laid on white.")
    upright, note = _in_8_bits(upright, name)
    notes += [note] if note else []
    converted = None if profile is None else _in_srgb(upright, profile)
    return converted or to_rgb(upright), name, "", tuple(notes)


def _in_8_bits(picture: Image.Image, name: str) -> tuple[Image.Image, str]:
    """A 32-bit picture in 8 bits, by the range of its numbers, and a note about it."""
    if picture.mode not in ("F", "I"):
        return picture, ""
    numbers = np.asarray(picture).astype(np.float64)
    low, high = float(numbers.min()), float(numbers.max())
    tops = (1.0, 255.0, 65535.0, 2.0**32) if picture.mode == "F" else (65535.0, 2.0**32)
    white = next((top for top in tops if high <= top), None)
    if white is None or not low >= 0:  # also for NaN
        raise ValueError(
            f"{name} holds 32-bit numbers from {low:g} to {high:g}; expected 0 to 1, to 255 or to "
            "65535. Save it with 8 or 16 bits."
        )
    gray = Image.fromarray((numbers * (255 / white)).round().astype(np.uint8))
    return gray, f"Its 32-bit numbers were read as 0 for black and {white:g} for white."


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """The picture converted from its color profile to sRGB; None if that is not possible."""
    if picture.mode not in ("RGB", "CMYK", "L"):
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(
            picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def _too_large(path: Path, size: str) -> str:
    return (
        f"{path} would decode to {size}; at most {_MAX_PIXELS >> 20} x 2**20 pixels are read. "
        "Save a smaller copy."
    )
