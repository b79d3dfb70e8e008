"""Human faces in a photograph: where they are, their 68 points, and what can be read from them.

    finder = PeopleFinder()                    # the bundled networks
    faces = finder.faces(photo.image)          # Face: points, score, landmarks
    reading = read_face(photo.image, faces[0]) # expression and age

The 68 points are predicted for the finder's boxes in three sizes, each also mirrored. For a face
the predictions agree; for a helmet they do not, so a box whose points vary is rejected. If a
picture shows no face, it is rotated, so that a head lying on its side is found as well.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.models.face_readers import EXPRESSIONS
from stylegan_hub.models.faces import FaceModels, load_judge
from stylegan_hub.photos.align import Landmarks

_LONGEST = 1280  # faces that become too small at this size are not portraits
_SIZES = (416, 800)  # the second one for faces that are too small for the first
_FINE = 1280  # tried if no face is found at the other sizes
_TURNS = (-45, 45, 90, -90, 180)  # rotations in degrees, tried if no upright face is found
_LEAST_SCORE = 0.3
_MOST_DOUBT = 0.06
_WIDER = (1.0, 1.15, 1.3)  # boxes in which the points must agree
_MARGIN = 1.35  # enlarges the square around the points to what the readers see
_MIRRORED = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1),
             45, 44, 43, 42, 47, 46, 39, 38, 37, 36, 41, 40, *range(54, 47, -1),
             *range(59, 54, -1), *range(64, 59, -1), *range(67, 64, -1)]  # fmt: skip
"""The point that each of the 68 becomes in a mirror image."""


@dataclass(frozen=True)
class Square:
    """A square in a picture, possibly rotated.

    Attributes:
        x, y: its middle, in pixels from the corner of the picture's first pixel.
        half: half of its side, in pixels.
        angle: its clockwise rotation, in radians.
    """

    x: float
    y: float
    half: float
    angle: float = 0.0

    def seen(self, image: Float[Tensor, "1 3 h w"], size: int) -> Float[Tensor, "1 3 s s"]:
        """The picture inside the square; black beyond the picture's edges."""
        height, width = image.shape[2:]
        cos, sin = self.half * math.cos(self.angle), self.half * math.sin(self.angle)
        rows = [
            [2 * cos / width, -2 * sin / width, 2 * self.x / width - 1],
            [2 * sin / height, 2 * cos / height, 2 * self.y / height - 1],
        ]
        # Sample finely, then reduce, so that no pixel is skipped.
        fine = size * min(8, max(1, math.ceil(2 * self.half / size)))
        grid = F.affine_grid(torch.tensor([rows]), [1, 3, fine, fine], align_corners=False)
        found = F.grid_sample(image + 1, grid.to(image), align_corners=False) - 1
        return F.interpolate(found, (size, size), mode="area") if fine > size else found

    def places(self, shares: Float[Tensor, "*n 2"]) -> Float[Tensor, "*n 2"]:
        """The places in the picture of points that are given as shares of the square's side."""
        x, y = ((2 * shares - 1) * self.half).unbind(-1)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        return torch.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], -1)


@dataclass(frozen=True, eq=False)
class Face:
    """A face in a photograph.

    Attributes:
        points: the 68 points of iBUG's scheme, (x, y) in pixels of the upright photograph, where
            (0, 0) is the middle of the first pixel.
        score: how sure the finder is, 0 to 1.
        doubt: how much the points differ between predictions, as a share of the distance between
            the eyes.
    """

    points: NDArray[np.float64]
    score: float
    doubt: float

    @property
    def landmarks(self) -> Landmarks:
        """Eyes and mouth, by which the face is cut out.

        Raises:
            ValueError: the face is so far in profile that they lie on a line.
        """
        found = Landmarks.from_68(self.points)
        return Landmarks(found.left_eye, found.right_eye, found.mouth, score=self.score)

    @property
    def square(self) -> Square:
        """The square around all points, aligned with the head, with the margin that readers see."""
        points = self.points + 0.5
        eyes = points[42:48].mean(0) - points[36:42].mean(0)
        angle = math.atan2(eyes[1], eyes[0])
        cos, sin = math.cos(angle), math.sin(angle)
        turned = points @ np.array([[cos, -sin], [sin, cos]])  # as if the head were upright
        low, high = turned.min(0), turned.max(0)
        x, y = (low + high) / 2
        half = _MARGIN * float((high - low).max()) / 2
        return Square(float(cos * x - sin * y), float(sin * x + cos * y), half, angle)


@dataclass(frozen=True)
class FaceReading:
    """What networks that are independent of CLIP read from a face.

    Attributes:
        expressions: probability of each of `EXPRESSIONS`; they sum to 1.
        age: how old the face looks, in years; according to its package, off by seven on average.
    """

    expressions: dict[str, float]
    age: float

    @property
    def expression(self) -> str:
        """The most probable expression."""
        return max(self.expressions, key=lambda name: self.expressions[name])

    def __str__(self) -> str:
        share = self.expressions[self.expression]
        return f"{self.expression} ({share:.2f}), looks {self.age:.0f} years old"


class PeopleFinder:
    """Finds human faces; a `LandmarkProvider`.

    Args:
        models: the networks; the bundled ones if None.
    """

    def __init__(self, models: FaceModels | None = None) -> None:
        self._models = models or bundled_models()

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """Eyes and mouths of all faces in an upright RGB picture, the largest first."""
        return [face.landmarks for face in self.faces(picture)]

    @torch.no_grad()
    def faces(self, picture: Image.Image) -> list[Face]:
        """All faces in an upright RGB picture, the largest first."""
        if upright := self.upright_faces(picture):
            return upright
        shown, scale = reduced(picture)
        image = image_files.from_pil(shown)
        turned = [self._seen(image, _SIZES[0], math.radians(degrees)) for degrees in _TURNS]
        return _largest_first(itertools.chain(*turned), scale)

    @torch.no_grad()
    def upright_faces(self, picture: Image.Image) -> list[Face]:
        """The faces in an RGB picture whose heads are roughly upright, the largest first."""
        shown, scale = reduced(picture)
        image = image_files.from_pil(shown)
        found = [face for size in _SIZES for face in self._seen(image, size)]
        if not found and max(shown.size) > _SIZES[-1]:
            found = self._seen(image, _FINE)
        return _largest_first(found, scale)

    def _seen(self, image: Tensor, size: int, angle: float = 0.0) -> list[Face]:
        """The plausible faces in a picture after it is reduced to this size and rotated."""
        height, width = image.shape[2:]
        window = Square(width / 2, height / 2, max(width, height) / 2, angle)
        square = image_files.resize(image_files.on_square(image), size)
        if angle:  # at 45 degrees the corners are lost, which seldom matters
            square = Square(size / 2, size / 2, size / 2, angle).seen(square, size)
        boxes = self._models.finder.find(square, _LEAST_SCORE, size)
        faces = [self._looked_at(image, window, box[:4] / size, float(box[4])) for box in boxes]
        return [face for face in faces if face is not None]

    def _looked_at(self, image: Tensor, window: Square, box: Tensor, score: float) -> Face | None:
        """The face in a box that is given as shares of the window; None if there is none."""
        left, top, right, bottom = box.tolist()
        middle = window.places(torch.tensor([(left + right) / 2, (top + bottom) / 2]))
        x, y = middle.tolist()
        half = max(right - left, bottom - top) * window.half
        rough = self._points(image, Square(x, y, half, window.angle))
        face = Face(rough.cpu().double().numpy(), score, 0.0)
        square = face.square
        looks = []
        for wider in _WIDER:
            one = Square(square.x, square.y, square.half * wider / _MARGIN * 1.1, square.angle)
            looks += [self._points(image, one), self._points(image, one, mirrored=True)]
        points = torch.stack(looks)
        eyes = points.mean(0)[36:48].view(2, 6, 2).mean(1)
        apart = float((eyes[0] - eyes[1]).norm())
        doubt = float(points.std(0).norm(dim=1).mean()) / max(apart, 1e-6)
        found = Face((points.mean(0) - 0.5).cpu().double().numpy(), score, doubt)
        return found if doubt <= _MOST_DOUBT and _is_plausible(found) else None

    def _points(self, image: Tensor, square: Square, mirrored: bool = False) -> Tensor:
        """The 68 points in a square, in pixels from the corner of the picture."""
        seen = square.seen(image, 112)
        if not mirrored:
            return square.places(self._models.points(seen)[0])
        shares = self._models.points(seen.flip(3))[0, _MIRRORED]
        return square.places(torch.stack([1 - shares[:, 0], shares[:, 1]], 1))


@functools.cache
def bundled_models() -> FaceModels:
    """The bundled networks, read once."""
    return FaceModels.from_pretrained()


@torch.no_grad()
def read_face(picture: Image.Image, face: Face, models: FaceModels | None = None) -> FaceReading:
    """Expression and age of a face in an upright RGB picture."""
    models = models or bundled_models()
    seen = _cut_square(picture, face)
    both = torch.cat([seen, seen.flip(3)])
    expressions = models.expression(both).mean(0).tolist()
    return FaceReading(
        dict(zip(EXPRESSIONS, expressions, strict=True)), float(models.age(both).mean())
    )


@torch.no_grad()
def judged_distance(
    one: Image.Image, other: Image.Image, faces: tuple[Face, Face] | None = None
) -> float | None:
    """How different the people in two pictures look, by a judge that no search optimizes.

    Args:
        faces: the face in each picture; if None, the largest face in each is found.

    Returns:
        0 for the same picture; below `face_judge.USUAL_THRESHOLD`, usually the same person. None
        if a face is not found.

    Raises:
        NotFoundError: the judge has not been fetched.
    """
    judge = load_judge()
    chosen: Sequence[Face | None] = faces or [
        next(iter(PeopleFinder().faces(picture)), None) for picture in (one, other)
    ]
    first, second = chosen
    if first is None or second is None:
        return None
    seen = torch.cat([_cut_square(one, first), _cut_square(other, second)])
    numbers = judge(seen)
    return float((numbers[0] - numbers[1]).norm())


def reduced(picture: Image.Image) -> tuple[Image.Image, float]:
    """A copy of at most 1280 pixels on its longer side, and how many times larger it was."""
    scale = max(1.0, max(picture.size) / _LONGEST)
    if scale == 1.0:
        return picture, 1.0
    width, height = (max(1, round(side / scale)) for side in picture.size)
    copy = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return copy, picture.width / width


def _cut_square(picture: Image.Image, face: Face) -> Float[Tensor, "1 3 s s"]:
    """A face as the readers see it."""
    square = face.square
    reach = math.ceil(1.5 * square.half)
    left, top = (max(0, math.floor(at) - reach) for at in (square.x, square.y))
    right = min(picture.width, math.ceil(square.x) + reach)
    bottom = min(picture.height, math.ceil(square.y) + reach)
    near = image_files.from_pil(picture.crop((left, top, right, bottom)))
    return Square(square.x - left, square.y - top, square.half, square.angle).seen(near, 150)


def _scaled(face: Face, scale: float) -> Face:
    return Face((face.points + 0.5) * scale - 0.5, face.score, face.doubt)


def _largest_first(faces: Iterable[Face], scale: float) -> list[Face]:
    """Distinct faces, in pixels of a picture that is this many times larger."""
    distinct = [_scaled(face, scale) for face in _distinct(faces)]
    return sorted(distinct, key=lambda face: -face.landmarks.size)


def _distinct(faces: Iterable[Face]) -> list[Face]:
    """The most certain face of those in the same place."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda one: one.doubt - one.score):
        x, y, half = face.square.x, face.square.y, face.square.half
        near = (math.hypot(x - k.square.x, y - k.square.y) < max(half, k.square.half) for k in kept)
        if not any(near):
            kept.append(face)
    return kept


def _is_plausible(face: Face) -> bool:
    """Whether eyes, nose and mouth lie as they do in faces, including faces turned to a side."""
    try:
        landmarks = face.landmarks
    except ValueError:  # on a line, or swapped eyes
        return False
    points = face.points
    middle = (np.array(landmarks.left_eye) + landmarks.right_eye) / 2
    down = np.array(landmarks.mouth) - middle
    length = float(np.hypot(*down))
    across = math.dist(landmarks.left_eye, landmarks.right_eye)
    if not 0.4 < across / length < 2.0:
        return False
    # The tip of the nose lies between eyes and mouth, and the chin below the mouth.
    nose, chin = ((points[i] - middle) @ down / length**2 for i in (30, 8))
    return bool(0.25 < nose < 0.95 and 1.1 < chin < 2.6)
