"""Pictures: float tensors inside the library, PIL pictures outside, converted only here.

Inside the library, images are float `[n, 3, h, w]`, RGB, with -1 for black and 1 for white.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from stylegan_hub.artifacts import write_bytes

SHEET_QUALITY = 80
"""Quality at which sheets of many pictures take a third of the bytes of the usual 95."""
FORMATS = {".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
"""The formats that `save` writes, by the suffix of the file name."""


def to_uint8(images: Tensor) -> UInt8[Tensor, "n 3 h w"]:
    """Images as bytes 0 to 255, uint8 `[n, 3, h, w]`; values beyond [-1, 1] are clipped.

    Raises `ValueError` for another shape, another dtype or values that are not finite.
    """
    _check(images)
    if not images.isfinite().all():
        raise ValueError(
            "The images hold NaN or infinite values; check the latents they came from."
        )
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(pixels: Tensor) -> Float[Tensor, "n 3 h w"]:
    """Bytes 0 to 255, uint8 `[n, 3, h, w]`, as float images. The exact inverse of `to_uint8`."""
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(
            f"Expected uint8 pixels [n, 3, h, w]; got {pixels.dtype} {list(pixels.shape)}."
        )
    return pixels.float() / 127.5 - 1


def to_pil(images: Tensor) -> list[Image.Image]:
    """One RGB picture for each of the images; raises as `to_uint8` does."""
    pixels = to_uint8(images.detach()).permute(0, 2, 3, 1).cpu().numpy()  # [n, h, w, 3]
    return [Image.fromarray(picture) for picture in pixels]


def mask_to_pil(mask: Tensor) -> Image.Image:
    """A mask of part numbers 0 to 255, int `[h, w]`, as a gray picture with these values.

    Raises `ValueError` for another shape or dtype, or numbers that a byte cannot hold.
    """
    if mask.ndim != 2 or mask.is_floating_point():
        raise ValueError(f"Expected an int mask [h, w]; got {mask.dtype} {list(mask.shape)}.")
    if mask.numel() and not 0 <= mask.min() <= mask.max() <= 255:
        raise ValueError(
            "A mask picture holds the numbers 0 to 255; "
            f"got {int(mask.min())} to {int(mask.max())}."
        )
    return Image.fromarray(mask.to(torch.uint8).cpu().numpy())


def from_pil(pictures: Image.Image | Sequence[Image.Image]) -> Float[Tensor, "n 3 h w"]:
    """Pictures of any mode as float images `[n, 3, h, w]`, turned as their EXIF tag says.

    Transparent pictures are put on white; gray becomes RGB; 16-bit gray is reduced to 8 bits.

    Raises `ValueError` for no picture, for pictures of several sizes and for 32-bit float pictures,
    whose range is unknown.
    """
    pictures = [pictures] if isinstance(pictures, Image.Image) else list(pictures)
    if not pictures:
        raise ValueError("Expected at least one picture; got none.")
    upright = [to_rgb(ImageOps.exif_transpose(picture)) for picture in pictures]
    if len(sizes := {picture.size for picture in upright}) > 1:
        raise ValueError(
            f"Pictures in a batch must have one size; got {sorted(sizes)}. Resize them first."
        )
    pixels = np.stack([np.array(picture) for picture in upright])  # [n, h, w, 3]
    return from_uint8(torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous())


def resize(images: Tensor, size: int | tuple[int, int]) -> Float[Tensor, "n 3 height width"]:
    """Images `[n, 3, size, size]`, or `[n, 3, height, width]` for a pair, without aliasing.

    Interpolation is bilinear, so that values stay in range, and differentiable.
    """
    _check(images)
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)


def middle(images: Tensor, size: int | tuple[int, int]) -> Float[Tensor, "n 3 height width"]:
    """The largest middle part of images that has the aspect ratio of `size`, resized to `size`."""
    _check(images)
    wanted = (size, size) if isinstance(size, int) else size
    given = images.shape[2:]
    scale = min(have / want for have, want in zip(given, wanted, strict=True))
    height, width = (max(1, round(side * scale)) for side in wanted)
    top, left = (given[0] - height) // 2, (given[1] - width) // 2
    return resize(images[:, :, top : top + height, left : left + width], wanted)


def on_square(images: Float[Tensor, "n c h w"], value: float = -1) -> Float[Tensor, "n c s s"]:
    """Images or masks in the middle of a square of their longer side, padded with `value`."""
    height, width = images.shape[2:]
    if height == width:
        return images
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    return F.pad(images, (left, side - width - left, top, side - height - top), value=value)


def blur(
    images: Float[Tensor, "n c h w"], sigma: float | Float[Tensor, " n"], radius: int | None = None
) -> Float[Tensor, "n c h w"]:
    """Gaussian blur; pixels beyond the edges repeat the border.

    Args:
        sigma: standard deviation in pixels, above 0; one for all pictures or one for each.
        radius: how many pixels the blur reaches; three times the largest sigma when None.
    """
    n, channels = images.shape[:2]
    sigmas = torch.as_tensor(sigma, dtype=torch.float32, device=images.device).expand(n)
    radius = math.ceil(3 * float(sigmas.max())) if radius is None else radius
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigmas[:, None]).square())
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images)  # [n, k]
    weight = kernel.repeat_interleave(channels, 0)[:, None, None]  # [n * c, 1, 1, k]
    flat = images.reshape(1, n * channels, *images.shape[2:])
    for weights, margin in ((weight, (radius, radius, 0, 0)), (weight.mT, (0, 0, radius, radius))):
        flat = F.conv2d(F.pad(flat, margin, mode="replicate"), weights, groups=n * channels)
    return flat.view_as(images)


def grid(images: Tensor | Sequence[Image.Image], columns: int) -> Image.Image:
    """One picture with all images, row by row, `columns` in a row; free cells are white.

    Raises `ValueError` for no image, fewer than one column or pictures of several sizes.
    """
    pictures = to_pil(images) if isinstance(images, Tensor) else list(images)
    if not pictures or columns < 1:
        raise ValueError(
            f"A grid needs at least one image and one column; got {len(pictures)} images and "
            f"{columns} columns."
        )
    width, height = pictures[0].size
    if any(picture.size != (width, height) for picture in pictures):
        raise ValueError(
            "Pictures in a grid must have one size; got "
            f"{sorted({p.size for p in pictures})}. Resize them first."
        )
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height), "white")
    for index, picture in enumerate(pictures):
        sheet.paste(picture, (index % columns * width, index // columns * height))
    return sheet


def strip(*batches: Tensor) -> Image.Image:
    """A row for each image and a column for each batch: `strip(before, after)`.

    Raises `ValueError` when the batches differ in shape.
    """
    if len(shapes := {tuple(batch.shape) for batch in batches}) != 1:
        raise ValueError(
            f"A strip needs batches of one shape; got {sorted(shapes) or 'none'}. Give as many "
            "images of one size in each."
        )
    return grid(
        torch.stack(batches, dim=1).flatten(0, 1), columns=len(batches)
    )  # [n * batches, ...]


def labelled(rows: Mapping[str, Tensor], size: int | None = None) -> Image.Image:
    """One sheet with a row for each text: the text on the left, then its images `[n, 3, h, w]`.

    Args:
        rows: images by text, the same number and size for each.
        size: height of a row, to which images are resized; None leaves them as they are.

    Raises:
        ValueError: no row, or rows of several shapes.
    """
    if len(shapes := {tuple(images.shape) for images in rows.values()}) != 1:
        raise ValueError(
            f"A labeled sheet needs rows of one shape; got {sorted(shapes) or 'none'}. Give every "
            "text the same number of images, of one size."
        )
    if size is not None:
        rows = {text: resize(images, size) for text, images in rows.items()}
    pictures = grid(torch.cat(list(rows.values())), columns=next(iter(shapes))[0])
    height = pictures.height // len(rows)
    font = ImageFont.load_default(max(10, height // 5))
    margin = height // 8
    left = round(max(font.getlength(text) for text in rows)) + 2 * margin
    sheet = Image.new("RGB", (left + pictures.width, pictures.height), "white")
    sheet.paste(pictures, (left, 0))
    draw = ImageDraw.Draw(sheet)
    for index, text in enumerate(rows):
        middle = index * height + height // 2
        draw.text((left - margin, middle), text, "black", font, anchor="rm")
    return sheet


def save(image: Tensor | Image.Image, path: str | Path, quality: int = 95) -> None:
    """Write one image as PNG, JPEG, WebP or GIF, by the suffix; a failure leaves no partial file.

    `quality` is that of JPEG and WebP, 1 to 100; `SHEET_QUALITY` suits sheets of many pictures.
    Raises `ValueError` for another suffix or a batch of several images.
    """
    path = Path(path)
    if (format := FORMATS.get(path.suffix.lower())) is None:
        raise ValueError(f"Cannot write {path.name!r}: end the name in {', '.join(FORMATS)}.")
    if isinstance(image, Tensor):
        if len(image) != 1:
            raise ValueError(
                f"Expected one image [1, 3, h, w]; got {list(image.shape)}. Use grid()."
            )
        (image,) = to_pil(image)
    buffer = io.BytesIO()
    image.save(
        buffer, format=format, **({"quality": quality} if format in {"JPEG", "WEBP"} else {})
    )
    write_bytes(path, buffer.getvalue())


def save_gif(
    images: Tensor | Sequence[Image.Image], path: str | Path, milliseconds: int = 80
) -> None:
    """Write the images as an animation that repeats forever, `milliseconds` for each image.

    Raises `ValueError` for no image.
    """
    pictures = to_pil(images) if isinstance(images, Tensor) else list(images)
    if not pictures:
        raise ValueError("An animation needs at least one image; got none.")
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=milliseconds,
        loop=0,
    )
    write_bytes(Path(path), buffer.getvalue())


def _check(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise ValueError(
            "Expected float images [n, 3, h, w] in [-1, 1]; "
            f"got {images.dtype} {list(images.shape)}."
        )


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any picture as 8-bit RGB; 16-bit values are scaled, transparent pixels become white.

    Raises `ValueError` for 32-bit floats, whose range is unknown.
    """
    if picture.mode == "F":
        raise ValueError(
            "Got a 32-bit float picture (mode F), whose range is unknown; "
            "convert it to 8 bits first."
        )
    if picture.mode == "I" or picture.mode.startswith("I;16"):
        # Pillow's own conversion clips at 255 instead of scaling.
        gray = np.asarray(picture).astype(np.int64).clip(0, 65535) / 257
        return Image.fromarray(gray.round().astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(
            "RGB"
        )
    return picture.convert("RGB")
