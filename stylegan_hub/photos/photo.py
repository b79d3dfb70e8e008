"""A user's picture, whatever it is: upright, RGB, 8 bits, or a message that says why not.

Files come from strangers, so only plain picture formats are decoded (Pillow would hand an EPS to
Ghostscript), sizes are checked before pixels are, and a damaged file is an error.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.images import to_rgb

SUFFIXES = (".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif",
            ".tiff", ".webp")  # fmt: skip
"""Names that `list_photos` takes for pictures."""

_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 1 << 27  # 134 million: cameras have 100
_MAX_BYTES = 1 << 29
_MIN_SIDE = 16


@dataclass(frozen=True)
class Photo:
    """A photograph.

    Attributes:
        image: upright, mode RGB.
        name: of its file, without folders.
        sha256: of the file's bytes; empty for a picture that was never a file.
        notes: what was done to it, for people to read.
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
        """A photo from a picture that is open: turned upright, made RGB.

        Raises:
            ValueError: too small, or of a kind without a known range (32-bit float).
        """
        return Photo(*_prepared(picture, name))


def read_photo(path: str | Path) -> Photo:
    """A picture file as a photo.

    The EXIF tag turns it upright; transparency is laid on white; gray, palette, CMYK and 16 bits
    become 8-bit RGB; an embedded color profile is converted to sRGB; of an animation the first
    picture is taken, with a note.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: no picture, a damaged or cut-off one, or one that is too large.
        ValueError: too small, or of a kind without a known range (32-bit float).
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
    Image.init()  # else Pillow knows the commonest formats only
    try:
        # A limit of our own stands in for Pillow's warning, which it gives from 89 million on.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = picture.size
            if width * height > _MAX_PIXELS:
                raise ArtifactError(_too_large(path, f"{width} x {height} pixels"))
            picture.load()
    except Image.DecompressionBombError as error:
        raise ArtifactError(_too_large(path, str(error))) from error
    except UnidentifiedImageError as error:
        heic = path.suffix.lower() in {".heic", ".heif"}
        advice = "Export it as JPEG first." if heic else "Is it a picture? Save it as PNG or JPEG."
        raise ArtifactError(
            f"{path} ({count} bytes) cannot be read as {', '.join(_FORMATS)}. {advice}"
        ) from error
    except ArtifactError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
        raise ArtifactError(
            f"{path} ({count} bytes) is damaged or cut off: {error}. Copy or download it again."
        ) from error
    image, name, _, notes = _prepared(picture, path.name)
    return Photo(image, name, hashlib.sha256(data).hexdigest(), notes)


def list_photos(folder: str | Path) -> list[Path]:
    """The picture files of a folder, by name, without those of folders in it.

    Raises:
        NotFoundError: there is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}; expected one with pictures.")
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]
    if not found:
        raise NotFoundError(
            f"{folder} holds no picture; expected names that end in {', '.join(SUFFIXES)}."
        )
    return found


def _prepared(picture: Image.Image, name: str) -> tuple[Image.Image, str, str, tuple[str, ...]]:
    notes = []
    frames = getattr(picture, "n_frames", 1)
    if frames > 1 and picture.format != "MPO":  # phones keep maps of depth as further pictures
        notes.append(f"It holds {frames} pictures; the first one was taken.")
    if min(picture.size) < _MIN_SIDE:
        raise ValueError(
            f"{name} has {picture.width} x {picture.height} pixels; expected at least {_MIN_SIDE} "
            "on each side. Take a larger picture."
        )
    profile = picture.info.get("icc_profile")
    try:
        upright = ImageOps.exif_transpose(picture)
    except Exception:  # whatever a broken tag makes the parser raise
        notes.append("Its EXIF data is damaged, so it was not turned.")
        upright = picture
    if upright.has_transparency_data:
        notes.append("Transparent parts were laid on white.")
    converted = None if profile is None else _in_srgb(upright, profile)
    return converted or to_rgb(upright), name, "", tuple(notes)


def _in_srgb(picture: Image.Image, profile: bytes) -> Image.Image | None:
    """With the colors of its profile; None where that cannot be done."""
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
        f"{path} would unpack to {size}; at most {_MAX_PIXELS >> 20} x 2**20 pixels are read. "
        "Save a smaller copy."
    )
