"""Paste the edited face back into the photograph, at the photograph's own resolution.

The aligned picture is rotated and scaled back to where it was cut out, and laid over the photograph
through a soft mask. If the picture before the edit is given, the mask is limited to what the edit
changed, and everything else keeps the photograph's own pixels. The face also gets the photograph's
tone, which an inversion matches only roughly.

Things that the generator cannot render (a hand, a microphone, an unknown frame) are where its
render before the edit is far from the photograph. These parts keep the photograph's own pixels too.
Out-of-domain inversion (arXiv 2212.09262) learns such a mask; here it is computed from the
difference.

A whole face has an edge where it was cut out. If the picture before the edit is given, the face is
shifted to the photograph's colors at that edge, and the shift is spread over the inside as a
membrane (Perez et al. 2003, "Poisson Image Editing", for a layer whose gradients are kept), so that
no edge is visible.

With a detailer, the edited face gets the photograph's details first (`models/detailer.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.models.detailer import Detailer
from stylegan_hub.photos.align import Alignment, check_same, cut
from stylegan_hub.photos.photo import Photo

Where = Literal["changed", "face"]

# Shares of the picture's shorter side.
_BORDER = 0.12  # the mask rises from 0 to 1 over this width
_TONE = 0.08  # the tone of a place is what remains after a blur of this standard deviation
_SOFT = 0.02  # the blur of the mask of what changed
_FAINT, _CLEAR = 0.04, 0.14  # invisible and clearly visible changes of a color in [-1, 1]
_FINE = 0.008  # the blur of the difference from the photograph
_THIN = 0.012  # differences this thin are edges that are slightly off, not objects
_LEAST_UNKNOWN, _SURELY_UNKNOWN = 0.25, 0.5  # differences of a color in [-1, 1]
_TYPICAL = 3.0  # a difference is unusual from this multiple of the median
_MOST_USUAL = 0.5  # but a larger difference never counts as usual, if all of a render is wrong
_RING = 0.03  # width of the seam along which a whole face meets the photograph's colors
_SAME_SHAPE = 0.1  # allowed difference of proportions: a tiny photo is cut in whole pixels


def paste(
    photo: Photo,
    alignment: Alignment,
    after: Image.Image,
    before: Image.Image | None = None,
    where: Where = "changed",
    keep_own: float = 1.0,
    detailer: Detailer | None = None,
) -> Image.Image:
    """The photograph with the edited face in it.

    Args:
        photo: the one that was aligned.
        after: the aligned picture after the edit, in any resolution of the aligned shape.
        before: the generator's render of the photo before the edit, of the same resolution.
        where: "changed" pastes only what differs from `before`; "face" pastes the whole picture.
            Both fade out at the borders beyond which the photo continues. With `before`, a face
            also meets the photo's colors there.
        keep_own: how much of what the generator cannot render stays the photograph's own, see
            `undrawn`: from 0 (nothing) to 1 (all). It needs `before`.
        detailer: gives the face details of the photo that its render lacks. It needs `before`.

    Returns:
        An RGB picture as large as the photo. Outside the mask it is identical to the photo, bit by
        bit.

    Raises:
        ValueError: the photo has another size than the aligned one; the pictures have different
            sizes or another shape than was cut out; or "changed" or a detailer is used without
            `before`.
    """
    check_same(photo, alignment)
    width, height = alignment.extent
    has_shape = abs(after.width / after.height * height / width - 1) < _SAME_SHAPE
    if not has_shape or (before is not None and before.size != after.size):
        sizes = [picture.size for picture in (after, before) if picture is not None]
        raise ValueError(
            f"Got pictures of {sizes}; expected one size, in the shape of the {width:.0f} x "
            f"{height:.0f} pixels that were cut out."
        )
    if where not in ("changed", "face"):
        raise ValueError(f"Got where={where!r}; use 'changed' or 'face'.")
    if where == "changed" and before is None:
        raise ValueError(
            "Got where='changed' without the picture before the edit. Give it, or use where='face'."
        )
    if detailer is not None and before is None:
        raise ValueError("Got a detailer without the picture before the edit. Give both.")
    if not 0 <= keep_own <= 1:
        raise ValueError(f"Got keep_own {keep_own}; expected 0 to 1.")
    face = image_files.from_pil(after)
    original = image_files.from_pil(cut(photo, alignment, (after.height, after.width)))
    edges = _inner_edges(alignment)
    mask = _inside(face.shape[2:], edges)
    if before is not None:
        drawn = image_files.from_pil(before)
        known = 1 - keep_own * _undrawn(original, drawn)
        if detailer is None:
            toned = face + _blurred_where(original - drawn, known, _TONE)
        else:
            toned = _detailed(detailer, original, drawn, face)
        mask = mask * known
        if where == "changed":
            mask = mask * _changed(face, drawn)
            face = toned
        else:
            face = toned + _membrane(original - toned, known, edges)
    face = face.clamp(-1, 1)
    layer = image_files.to_pil(face)[0]
    alpha = Image.fromarray((mask[0, 0] * 255).round().to(torch.uint8).numpy())
    return _laid_over(photo.image, layer, alpha, alignment)


def detailed(
    detailer: Detailer, photograph: Image.Image, before: Image.Image, after: Image.Image
) -> Image.Image:
    """The edited render with the details of its aligned photograph.

    Args:
        photograph, before, after: aligned pictures of one size: what was cut out of the photo, its
            render before the edit, and its render after it.

    Raises:
        ValueError: the sizes differ, or are smaller than the detailer allows.
    """
    pictures = (image_files.from_pil(picture) for picture in (photograph, before, after))
    return image_files.to_pil(_detailed(detailer, *pictures))[0]


@torch.no_grad()
def _detailed(detailer: Detailer, original: Tensor, drawn: Tensor, face: Tensor) -> Tensor:
    found = detailer(*(picture.to(detailer.device) for picture in (original, drawn, face)))
    return found.cpu().clamp(-1, 1)


def undrawn(photo: Photo, alignment: Alignment, before: Image.Image) -> Image.Image:
    """The parts of a photo that the generator cannot render: a gray picture as large as `before`.

    White parts stay the photograph's own when a face is pasted back with `keep_own` 1.

    Args:
        before: the generator's render of the photo before any edit.

    Raises:
        ValueError: the photo has another size than the aligned one.
    """
    original = image_files.from_pil(cut(photo, alignment, (before.height, before.width)))
    mask = _undrawn(original, image_files.from_pil(before))
    return Image.fromarray((mask[0, 0] * 255).round().to(torch.uint8).numpy())


def overlay(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """A picture, tinted violet where a gray mask of the same size is white."""
    tinted = Image.blend(picture, Image.new("RGB", picture.size, "#8b5cf6"), 0.65)
    return Image.composite(tinted, picture, mask)


def _undrawn(original: Tensor, drawn: Tensor) -> Tensor:
    """1 where a render is far from the photograph, fading to 0 elsewhere, `[1, 1, h, w]`."""
    apart = original - drawn
    apart = apart - _blurred(apart, 4 * _TONE)  # different lighting is not a different object
    far = _blurred(apart, _FINE).abs().amax(1, keepdim=True)
    least = max(_LEAST_UNKNOWN, min(_MOST_USUAL, _TYPICAL * float(far.median())))
    unknown = ((far - least) / (_SURELY_UNKNOWN - _LEAST_UNKNOWN)).clamp(0, 1)
    thin = max(1, round(_THIN * min(original.shape[2:]) / 2))
    kernel = 2 * thin + 1
    thick = -F.max_pool2d(-unknown, kernel, 1, thin)
    grown = F.max_pool2d(thick, 2 * kernel + 1, 1, kernel)
    return _blurred(grown, _FINE).clamp(0, 1)


def _membrane(difference: Tensor, known: Tensor, edges: Sequence[bool]) -> Tensor:
    """The difference along the inner edges, spread smoothly over the inside.

    Where `known` is 0 the photograph shows through, so nothing has to match it there.

    Means are pulled up to coarser and coarser pictures and pushed down to where nothing is known.
    """
    size = difference.shape[2:]
    ring = max(1, round(_RING * min(size)))
    seam = torch.zeros(1, 1, *size)
    left, top, right, bottom = edges
    seam[..., :ring] += left
    seam[..., -ring:] += right
    seam[..., :ring, :] += top
    seam[..., -ring:, :] += bottom
    seam = seam.clamp(max=1) * known
    spread = _filled(difference, seam)
    # Pulled means look like blocks; away from the seam a blur removes their edges.
    soft = _blurred(spread, _TONE)
    return torch.lerp(soft, spread, _blurred(seam, _RING))


def _filled(values: Tensor, known: Tensor) -> Tensor:
    """Values where they are known, and elsewhere the means of the known values around."""
    if min(values.shape[2:]) <= 1 or bool(known.all()):
        total = known.sum().clamp_min(1e-6)
        mean = (values * known).sum((2, 3), keepdim=True) / total
        return torch.where(known > 0, values, mean)
    share = F.avg_pool2d(known, 2, ceil_mode=True, count_include_pad=False)
    means = F.avg_pool2d(values * known, 2, ceil_mode=True, count_include_pad=False)
    coarse = _filled(means / share.clamp_min(1e-6), (share > 0).float())
    fine = F.interpolate(coarse, values.shape[2:], mode="bilinear")
    return torch.lerp(fine, values, known)


def _blurred_where(images: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of what is known; the rest is ignored."""
    return _blurred(images * known, sigma) / _blurred(known, sigma).clamp_min(1e-3)


def _changed(after: Tensor, before: Tensor) -> Tensor:
    """1 where an edit changed the picture visibly, fading to 0 elsewhere, `[1, 1, h, w]`."""
    change = _blurred((after - before).abs().amax(1, keepdim=True), _SOFT / 2)
    clear = ((change - _FAINT) / (_CLEAR - _FAINT)).clamp(0, 1)
    reach = max(1, round(_SOFT * min(clear.shape[2:])))
    grown = F.max_pool2d(clear, 2 * reach + 1, 1, reach)
    return _blurred(grown, _SOFT)


def _inner_edges(alignment: Alignment) -> list[bool]:
    """Whether the photo continues beyond the left, upper, right and lower edge."""
    if (box := alignment.box) is None:
        return [True] * 4
    return [edge != end for edge, end in zip(box, (0, 0, *alignment.size), strict=True)]


def _inside(size: Sequence[int], inner: Sequence[bool]) -> Tensor:
    """0 at the inner edges, 1 away from them, `[1, 1, height, width]`."""
    border = _BORDER * min(size)
    y, x = (torch.arange(length) + 0.5 for length in size)
    mask = torch.ones(tuple(size))
    for is_inner, distance in zip(
        inner, (x[None], y[:, None], size[1] - x[None], size[0] - y[:, None]), strict=True
    ):
        if is_inner:
            edge = (distance / border).clamp(0, 1)
            mask = mask * edge * edge * (3 - 2 * edge)
    return mask[None, None]


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur; sigma is a share of the shorter side."""
    pixels = max(0.3, sigma * min(images.shape[2:]))
    # A wide blur of a reduced picture gives the same result faster.
    factor = max(1, int(pixels / 4))
    small = F.avg_pool2d(images, factor) if factor > 1 else images
    small = image_files.blur(small, pixels / factor)
    if factor > 1:
        small = F.interpolate(small, images.shape[2:], mode="bilinear")
    return small


def _laid_over(
    photo: Image.Image, layer: Image.Image, alpha: Image.Image, alignment: Alignment
) -> Image.Image:
    """The photo with the layer transformed back to where it was cut out, through alpha."""
    result = photo.copy()
    if (there := alignment.box) is not None:
        size = (there[2] - there[0], there[3] - there[1])
        layer = layer.resize(size, Image.Resampling.LANCZOS)
        result.paste(layer, there, alpha.resize(size, Image.Resampling.BICUBIC))
        return result
    width, height = (math.ceil(length) for length in alignment.extent)
    if width < layer.width:  # smaller in the photo: reduce before rotating, to avoid aliasing
        layer = layer.resize((width, height), Image.Resampling.LANCZOS)
        alpha = alpha.resize((width, height), Image.Resampling.BOX)
    corners: NDArray[np.float64] = np.array(alignment.quad) + 0.5  # from the first pixel's corner
    low = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    high = np.minimum(np.ceil(corners.max(0)).astype(int), photo.size)
    x0, y0, x1, y1 = int(low[0]), int(low[1]), int(high[0]), int(high[1])
    # Where a pixel of this box lies in the layer: right is d - a of the quad, down is b - a.
    top_left, bottom_left, _, top_right = corners - low
    axes = np.column_stack([top_right - top_left, bottom_left - top_left]) / layer.size
    inverse = np.linalg.inv(axes)
    shift = -inverse @ top_left
    matrix = (*inverse[0].tolist(), float(shift[0]), *inverse[1].tolist(), float(shift[1]))
    box = (x1 - x0, y1 - y0)
    affine, bicubic = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    turned = layer.transform(box, affine, matrix, bicubic)
    covered = alpha.transform(box, affine, matrix, Image.Resampling.BILINEAR)
    result.paste(turned, (x0, y0), covered)
    return result
