"""The part of a photograph that a generator gets: the square around a face, or the middle.

A landmark provider finds the eyes and the mouth; a framing turns them into a square, framed like
the generator's training pictures; `cut` cuts it out. For FFHQ this is the square of Karras et al.
2019, "A Style-Based Generator Architecture", appendix A, as its authors' alignment computes it, at
full resolution: reflected and blurred beyond the photograph's edges.

Houses have no landmarks, so the `middle` of their photographs is taken, in the shape of the
generator's pictures.

Positions are (x, y) in pixels of the upright photograph, x to the right and y down. The middle of
the first pixel is (0, 0), which is the convention of landmark detectors. Left is what the viewer
sees on the left.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from stylegan_hub.artifacts import parse_json
from stylegan_hub.errors import ArtifactError, StyleganHubError
from stylegan_hub.photos.photo import Photo

Point = tuple[float, float]
Quad = tuple[Point, Point, Point, Point]
"""Corners of what is cut out, in Pillow's order: top left, bottom left, bottom right, top right, as
seen with the face upright. If the face is tilted, the quad is tilted too. It is usually a square.
"""
Shape = tuple[float, float]
"""Height and width of a generator's pictures (`generator.img_size`), or any such proportion."""

_OVERSAMPLING = 4  # 4096 px for pictures of 1024 px, as in the making of FFHQ
_WHOLE = 0.03  # if the cut differs from the whole picture by at most this share, take the whole
_SQUARE = (1, 1)
_FARTHEST = 1e9  # pixels from a photograph's corner


class NoFaceError(StyleganHubError, ValueError):
    """No face was found, or no face finder is available."""


@dataclass(frozen=True)
class Landmarks:
    """Eyes and mouth of one face: the middle of each.

    Attributes:
        left_eye, right_eye, mouth: in pixels of the upright photograph.
        score: how sure a finder is of the face, 0 to 1; None if a user marked the face, or if the
            finder gives no score.

    Raises:
        ValueError: points that are not a face: not finite, in one spot, or with swapped eyes.
    """

    left_eye: Point
    right_eye: Point
    mouth: Point
    score: float | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        points = (self.left_eye, self.right_eye, self.mouth)
        if any(len(point) != 2 or not all(map(math.isfinite, point)) for point in points):
            raise ValueError(f"Got the landmarks {points}; expected three points (x, y).")
        (ax, ay), (bx, by), (mx, my) = points
        across = (bx - ax, by - ay)
        down = (mx - (ax + bx) / 2, my - (ay + by) / 2)
        area = across[0] * down[1] - across[1] * down[0]
        if abs(area) <= 0.02 * (math.hypot(*across) + math.hypot(*down)) ** 2:
            raise ValueError(
                f"Got the eyes {_shown(self.left_eye)} and {_shown(self.right_eye)} and the mouth "
                f"{_shown(self.mouth)}; the three lie on a line. Give the middles of both eyes and "
                "of the mouth."
            )
        if area < 0:
            raise ValueError(
                f"Got the left eye {_shown(self.left_eye)}, the right eye "
                f"{_shown(self.right_eye)} and the mouth {_shown(self.mouth)}: the eyes are "
                "swapped. Left is what you see on the left when the face is upright; "
                "Landmarks.from_clicks takes the eyes in any order."
            )

    @staticmethod
    def from_clicks(one_eye: Point, other_eye: Point, mouth: Point) -> Landmarks:
        """From three clicks, with the eyes in any order: the mouth tells which is which.

        Raises:
            ValueError: the three lie on a line.
        """
        (ax, ay), (bx, by), (mx, my) = one_eye, other_eye, mouth
        if (bx - ax) * (my - ay) - (by - ay) * (mx - ax) < 0:
            one_eye, other_eye = other_eye, one_eye
        return Landmarks(one_eye, other_eye, mouth)

    @staticmethod
    def from_68(points: Any) -> Landmarks:
        """From the 68 points of iBUG's scheme, as dlib and face-alignment give them, `[68, 2]`.

        Raises:
            ValueError: another shape.
        """
        array = np.asarray(points, dtype=np.float64)
        if array.shape != (68, 2):
            raise ValueError(f"Got landmarks of shape {list(array.shape)}; expected [68, 2].")
        return Landmarks(_mean(array[36:42]), _mean(array[42:48]), _mean(array[[48, 54]]))

    @property
    def size(self) -> float:
        """How large the face is: the half side of its square in FFHQ, in pixels."""
        eyes, mouth = self._vectors()
        return max(2.0 * math.hypot(*eyes), 1.8 * math.hypot(*mouth))

    def _vectors(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """From the left eye to the right one, and from the middle between them to the mouth."""
        left, right, mouth = (np.array(p) for p in (self.left_eye, self.right_eye, self.mouth))
        return right - left, mouth - (left + right) / 2


class LandmarkProvider(Protocol):
    """Finds faces. `finders.py` has the bundled ones; any function of this form will do."""

    def __call__(self, picture: Image.Image) -> Sequence[Landmarks]:
        """All faces in an upright RGB picture, in any order; an empty result is not an error."""
        ...


Framing = Callable[[Landmarks], Quad]
"""From landmarks to what is cut out around them."""


def ffhq_quad(landmarks: Landmarks) -> Quad:
    """The square that FFHQ cuts around these eyes and this mouth."""
    eyes, mouth = landmarks._vectors()
    # Across the face: half from the eyes, half from the mouth vector, turned by 90 degrees.
    x = eyes + np.array([mouth[1], -mouth[0]])
    x *= landmarks.size / math.hypot(*x)
    y = np.array([-x[1], x[0]])
    middle = np.array(landmarks.left_eye) + eyes / 2 + 0.1 * mouth
    return _quad(middle, x, y)


def fitted_framing(usual: Landmarks) -> Framing:
    """The framing of a domain whose pictures have the eyes and the mouth in a usual place.

    The square is the one that brings the landmarks nearest to that place by translation, rotation
    and scaling (least squares).

    Args:
        usual: the usual place, in a picture that reaches from -1 to 1 on both axes.
    """
    there = np.array([complex(*p) for p in (usual.left_eye, usual.right_eye, usual.mouth)])

    def framing(landmarks: Landmarks) -> Quad:
        points = (landmarks.left_eye, landmarks.right_eye, landmarks.mouth)
        here = np.array([complex(*p) for p in points])
        from_mean = there - there.mean()
        turn = np.vdot(from_mean, here - here.mean()) / np.vdot(from_mean, from_mean)
        middle = here.mean() - turn * there.mean()
        x = np.array([turn.real, turn.imag])
        return _quad(np.array([middle.real, middle.imag]), x, np.array([-x[1], x[0]]))

    return framing


def cropped(framing: Framing, shape: Shape) -> Framing:
    """A framing for pictures of the given shape: the middle of the original framing's square.

    The pictures of a generator whose shape is not square are the middle of the square that it
    renders.
    """
    height, width = (side / max(shape) for side in shape)

    def middle_of_square(landmarks: Landmarks) -> Quad:
        a, b, c, d = (np.array(corner) for corner in framing(landmarks))
        return _quad((a + c) / 2, width * (d - a) / 2, height * (b - a) / 2)

    return framing if height == width else middle_of_square


@dataclass(frozen=True)
class Alignment:
    """Which part of which photograph a picture was cut from.

    Attributes:
        quad: the corners of that part.
        size: width and height of the upright photograph.
        name: name of the photograph's file, without folders.
    """

    quad: Quad
    size: tuple[int, int]
    name: str = "picture"

    @property
    def extent(self) -> tuple[float, float]:
        """Width and height of the quad, in pixels of the photograph."""
        (ax, ay), (bx, by), _, (dx, dy) = self.quad
        return math.hypot(dx - ax, dy - ay), math.hypot(bx - ax, by - ay)

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """Left, upper, right and lower edge if the quad came from `middle`; else None."""
        (left, top), _, (right, bottom), _ = self.quad
        edges = (round(left + 0.5), round(top + 0.5), round(right + 0.5), round(bottom + 0.5))
        shape = (edges[3] - edges[1], edges[2] - edges[0])
        return edges if min(shape) > 0 and self == middle(self.size, self.name, shape) else None

    @property
    def is_whole(self) -> bool:
        """Whether the quad is the whole photograph."""
        return self.box == (0, 0, *self.size)

    def to_json(self) -> str:
        """For the header of a file; `from_json` reads it."""
        state = {"quad": self.quad, "size": self.size, "name": self.name}
        return json.dumps(state, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Alignment:
        """Read the text that `to_json` gave; the text may be untrusted. Raises `ArtifactError`."""
        try:
            state = parse_json(text)
            corners = [(float(x), float(y)) for x, y in state["quad"]]
            width, height = (int(side) for side in state["size"])
            name = state["name"]
            is_near = (np.abs(corners) < _FARTHEST).all()  # also false for NaN
            if len(corners) != 4 or not is_near or min(width, height) < 1:
                raise ValueError(f"four corners in a picture were expected, got {state}")
            (ax, ay), (bx, by), _, (dx, dy) = corners
            if (dx - ax) * (by - ay) - (dy - ay) * (bx - ax) <= 0:
                raise ValueError(f"four corners around an area were expected, got {corners}")
            if not isinstance(name, str) or name != name.replace("\\", "/").rpartition("/")[2]:
                raise ValueError(f"a file name without folders was expected, got {name!r}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"The alignment of a photograph is damaged: {error}.") from error
        a, b, c, d = corners
        return Alignment((a, b, c, d), (width, height), name)


def find_faces(photo: Photo, provider: LandmarkProvider) -> list[Landmarks]:
    """All faces in a photo, the largest first.

    Raises:
        NoFaceError: there is none; the message says how to mark the face by hand.
    """
    faces = sorted(provider(photo.image), key=lambda face: -face.size)
    if not faces:
        raise NoFaceError(
            f"No face was found in {photo.name} ({photo.size[0]} x {photo.size[1]}). Mark it: "
            "give the middles of both eyes and of the mouth as three points (--points on the "
            "command line, three clicks on the page). If the whole picture is an aligned face "
            "already, use --aligned."
        )
    return faces


def choose(faces: Sequence[Landmarks], face: int = 1) -> Landmarks:
    """One of the faces, by its number, counted from 1; 1 is the largest face.

    Raises:
        ValueError: there are fewer faces; the message lists where they are.
    """
    if not 1 <= face <= len(faces):
        listed = ", ".join(f"{i} near {_shown(f.mouth)}" for i, f in enumerate(faces, 1))
        raise ValueError(f"Got face {face} of {len(faces)}: {listed}. Choose one of these.")
    return faces[face - 1]


def align(photo: Photo, landmarks: Landmarks, framing: Framing = ffhq_quad) -> Alignment:
    """The square around a face, or whatever quad the framing gives.

    Raises:
        ValueError: its middle lies outside the photo.
    """
    quad = framing(landmarks)
    x, y = _mean(np.array(quad))
    width, height = photo.size
    if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
        raise ValueError(
            f"Got a face around {_shown((x, y))}, outside of {photo.name} ({width} x {height}). "
            "Give the landmarks in pixels of the upright picture, with (0, 0) at the top left."
        )
    found = Alignment(quad, photo.size, photo.name)
    shape = (math.dist(quad[0], quad[1]), math.dist(quad[0], quad[3]))
    entire = middle(photo.size, photo.name, shape)
    farthest = np.abs(np.array(quad) - np.array(entire.quad)).max()
    # If the two nearly agree, the picture was aligned before.
    return entire if entire.is_whole and farthest <= _WHOLE * max(photo.size) else found


def middle(size: tuple[int, int], name: str = "picture", shape: Shape = _SQUARE) -> Alignment:
    """The middle of a picture: the largest part of the given shape, in whole pixels.

    Args:
        size: width and height of the picture.
        shape: height and width, or any such proportion; a square by default.
    """
    height, width = shape
    scale = min(size[0] / width, size[1] / height)
    kept = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = ((have - take) // 2 for have, take in zip(size, kept, strict=True))
    x0, y0, x1, y1 = left - 0.5, top - 0.5, left + kept[0] - 0.5, top + kept[1] - 0.5
    return Alignment(((x0, y0), (x0, y1), (x1, y1), (x1, y0)), size, name)


def whole(size: tuple[int, int], name: str = "picture", shape: Shape = _SQUARE) -> Alignment:
    """The whole picture, if it is aligned already.

    Args:
        size: width and height of the picture.
        shape: height and width, or any such proportion; a square by default.

    Raises:
        ValueError: it has another shape.
    """
    entire = middle(size, name, shape)
    if not entire.is_whole:
        height, width = shape
        expected = "is a square" if height == width else f"has the shape of {width:g} x {height:g}"
        raise ValueError(
            f"{name} has {size[0]} x {size[1]} pixels; an aligned picture {expected}. Leave out "
            "--aligned to have it cut out, or give the middles of the eyes and the mouth."
        )
    return entire


def cut(photo: Photo, alignment: Alignment, size: int | tuple[int, int]) -> Image.Image:
    """The aligned picture.

    If a quad around a face reaches beyond the photo, the photo is continued by its reflection,
    which fades into a blur and then into its median color.

    Args:
        size: height and width of the result, or one number for a square.

    Raises:
        ValueError: the alignment belongs to a photo of another size.
    """
    check_same(photo, alignment)
    height, width = (size, size) if isinstance(size, int) else size
    image, quad = photo.image, np.array(alignment.quad)
    if (box := alignment.box) is not None:
        return image.crop(box).resize((width, height), Image.Resampling.LANCZOS)
    side = max(alignment.extent)

    # First reduce by a whole number, so that nothing below is much larger than the result.
    shrink = math.floor(side / max(width, height) * 0.5)
    if shrink > 1:
        reduced = [max(1, round(edge / shrink)) for edge in image.size]
        # Positions are counted from the corner of the first pixel here. FFHQ's own code does not
        # do this, and is off by up to half a pixel of the reduced picture.
        quad = (quad + 0.5) * reduced / image.size - 0.5
        image = image.resize((reduced[0], reduced[1]), Image.Resampling.LANCZOS)
        side = side / shrink

    border = max(round(0.1 * side), 3)
    low = np.floor(quad.min(0)).astype(int) - border
    high = np.ceil(quad.max(0)).astype(int) + border
    inner = (
        max(int(low[0]), 0), max(int(low[1]), 0),
        min(int(high[0]), image.width), min(int(high[1]), image.height),
    )  # fmt: skip
    if inner != (0, 0, *image.size):
        image = image.crop(inner)
        quad = quad - inner[:2]

    low = np.floor(quad.min(0)).astype(int)
    high = np.ceil(quad.max(0)).astype(int)
    missing = [
        max(int(-low[0]) + border, 0), max(int(-low[1]) + border, 0),
        max(int(high[0]) - image.width + border, 0), max(int(high[1]) - image.height + border, 0),
    ]  # fmt: skip
    if max(missing) > border - 4:
        least = round(0.3 * side)
        margins = [max(pad, least) for pad in missing]
        image = _continued(image, margins, blur=0.02 * side)
        quad = quad + margins[:2]

    large = (_OVERSAMPLING * width, _OVERSAMPLING * height)
    corners = (quad + 0.5).flatten().tolist()  # Pillow counts from the corner of the first pixel
    picture = image.transform(large, Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def check_same(photo: Photo, alignment: Alignment) -> None:
    """Raise `ValueError` if the alignment belongs to a photo of another size."""
    if photo.size != alignment.size:
        raise ValueError(
            f"{photo.name} has {photo.size[0]} x {photo.size[1]} pixels; the alignment is from "
            f"{alignment.name} with {alignment.size[0]} x {alignment.size[1]}. Give the same "
            "photo again."
        )


def _continued(image: Image.Image, margins: Sequence[int], blur: float) -> Image.Image:
    """The picture with reflected margins (left, top, right, bottom) that fade away outward."""
    left, top, right, bottom = margins
    pixels = np.pad(np.asarray(image), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width = pixels.shape[:2]
    x, y = np.arange(width)[None, :], np.arange(height)[:, None]
    # 1 at the outer edge, 0 where the photo begins, and negative inside.
    depth_x = 1 - np.minimum(x / left, (width - 1 - x) / right)
    depth_y = 1 - np.minimum(y / top, (height - 1 - y) / bottom)
    depth: Float[np.ndarray, "h w 1"] = np.maximum(depth_x, depth_y).astype(np.float32)[..., None]
    blurred = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(blur))
    faded = pixels.astype(np.float32)
    faded += (np.asarray(blurred) - faded) * np.clip(3 * depth + 1, 0, 1)
    faded += (np.median(faded, axis=(0, 1)) - faded) * np.clip(depth, 0, 1)
    return Image.fromarray(np.clip(np.rint(faded), 0, 255).astype(np.uint8))


def _quad(middle: NDArray[np.float64], x: NDArray[np.float64], y: NDArray[np.float64]) -> Quad:
    """The rectangle with this middle; x and y point from there to its right and lower edge."""
    a, b, c, d = (middle - x - y, middle - x + y, middle + x + y, middle + x - y)
    return _point(a), _point(b), _point(c), _point(d)


def _mean(points: NDArray[np.float64]) -> Point:
    return _point(points.mean(0))


def _point(point: NDArray[np.float64]) -> Point:
    return float(point[0]), float(point[1])


def _shown(point: Point) -> str:
    return f"({point[0]:.0f}, {point[1]:.0f})"
