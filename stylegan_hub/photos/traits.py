"""Traits of a person in a photograph: colors, hair, beard, glasses, age, expression.

Colors are medians over places that the 68 points define; hair, hat, beard and glasses are guessed
from the colors by simple rules in this file. They are meant for a playful portrait and do not
identify anyone.

Places are given in units of the distance between the eyes, x to the right and y down from the
middle between them, with the head upright.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.models.faces import FaceModels
from stylegan_hub.photos.people import Face, FaceReading, Square, read_face

Color = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""

_REACH = 4.0  # half the width of the window
_PIXELS = 32  # per unit
_MIDDLE = 0.8  # how far below the eyes the middle of the window is
_NEAR = 0.14  # colors closer than this count as the same
_DARKER = 0.22  # a crown this much darker than the temples is probably a hat
_FEW = 60  # pixels; a median of fewer is not meaningful


@dataclass(frozen=True)
class Traits:
    """What a photograph shows of a person.

    Attributes:
        skin: color between cheeks and nose.
        hair: color at temples and crown; None if no hair is seen.
        hair_cover: share of the hair region that is covered by hair, 0 to 1.
        hair_length: how far down it reaches: 0 the ears, 1 the chin, 2 the shoulders and below.
        hat: whether the crown has another color than the temples.
        beard: how much darker chin and lip are than the cheeks, 0 none to 1.
        glasses: how clearly a line crosses the bridge of the nose, 0 none to 1.
        lips: color.
        lipstick: how much redder than the skin the lips are, 0 natural to 1.
        turn: of the head: -1 to the viewer's left, 0 front, 1 right.
        face_width: width of the jaw over the distance from eyes to chin.
        background: color beside the head; None if that lies outside the photograph.
        clothes: color below the chin; None if that lies outside the photograph.
        reading: expression and age.
    """

    skin: Color
    hair: Color | None
    hair_cover: float
    hair_length: float
    hat: bool
    beard: float
    glasses: float
    lips: Color
    lipstick: float
    turn: float
    face_width: float
    background: Color | None
    clothes: Color | None
    reading: FaceReading


def measure(picture: Image.Image, face: Face, models: FaceModels | None = None) -> Traits:
    """The traits of a face in an upright RGB picture.

    Args:
        models: readers of expression and age; the bundled ones if None.
    """
    head = _Head.of(picture, face)
    points = head.points
    skin = head.median(head.near([(p[0], p[1] + 0.42) for p in (points[41], points[46])], 0.22))
    assert skin is not None  # a face lies inside its picture
    background = head.median(head.beside)
    shoulders = (head.x.abs() > 1.5) & (head.x.abs() < 2.6) & (head.y > 2.9) & (head.y < 4.3)
    clothes = head.median(shoulders)
    hair = _hair(head, skin, background)
    lower_lip = [(points[a] + points[b]) / 2 for a, b in ((58, 67), (57, 66), (56, 65))]
    lips = head.median(head.near(lower_lip, 0.09)) or skin
    jaw = points[13, 0] - points[3, 0]
    left, right = points[30, 0] - points[2, 0], points[14, 0] - points[30, 0]
    return Traits(
        skin=skin,
        hair=hair.color,
        hair_cover=hair.cover,
        hair_length=hair.length,
        hat=hair.hat,
        beard=_beard(head, skin),
        glasses=_glasses(head),
        lips=lips,
        lipstick=_share(_redness(lips) - _redness(skin), 0.12, 0.3),
        turn=float(np.clip(1.6 * (left - right) / max(left + right, 1e-6), -1, 1)),
        face_width=float(jaw / max(points[8, 1], 1e-6)),
        background=background,
        clothes=clothes,
        reading=read_face(picture, face, models),
    )


@dataclass(frozen=True)
class _Head:
    """A window around a head, upright.

    Attributes:
        pixels: 0 to 1.
        x, y: position of every pixel, in units.
        inside: where the photograph is.
        points: the 68 points, in units.
    """

    pixels: Float[Tensor, "h w 3"]
    x: Float[Tensor, "h w"]
    y: Float[Tensor, "h w"]
    inside: Bool[Tensor, "h w"]
    points: NDArray[np.float64]

    @staticmethod
    def of(picture: Image.Image, face: Face) -> _Head:
        corners = face.points + 0.5
        left, right = corners[36:42].mean(0), corners[42:48].mean(0)
        unit = float(np.hypot(*(right - left)))
        angle = float(np.arctan2(*(right - left)[::-1]))
        along = (right - left) / unit
        down = np.array([-along[1], along[0]])
        origin = (left + right) / 2
        middle = origin + _MIDDLE * unit * down
        shown = picture
        if unit > 2 * _PIXELS:  # reduce before rotating
            scale = unit / _PIXELS / 2
            width, height = (max(1, round(side / scale)) for side in picture.size)
            shown = picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        ratio = shown.width / picture.width
        x, y = (ratio * middle).tolist()
        window = Square(x, y, ratio * _REACH * unit, angle)
        image = image_files.from_pil(shown)
        # Beyond the photograph is black; a second channel tells this apart from black pixels.
        seen = window.seen(image, round(2 * _REACH * _PIXELS))[0]
        inside = window.seen(torch.ones_like(image), seen.shape[1])[0, 0] > 0.9
        axis = (torch.arange(seen.shape[1]) + 0.5) / _PIXELS - _REACH
        y, x = torch.meshgrid(axis + _MIDDLE, axis, indexing="ij")
        offsets = corners - origin
        points = np.stack([offsets @ along, offsets @ down], 1) / unit
        return _Head((seen.permute(1, 2, 0) + 1) / 2, x, y, inside, points)

    @property
    def beside(self) -> Bool[Tensor, "h w"]:
        """Left and right of head and hair, above the shoulders."""
        return (self.x.abs() > 2.3) & (self.y < 1.0)

    def near(self, places: object, radius: float) -> Bool[Tensor, "h w"]:
        """Discs around places."""
        found = torch.zeros_like(self.inside)
        for x, y in places:  # type: ignore[attr-defined]
            found |= (self.x - float(x)).square() + (self.y - float(y)).square() < radius**2
        return found

    def within(self, x: tuple[float, float], y: tuple[float, float]) -> Bool[Tensor, "h w"]:
        """A rectangle."""
        return (self.x > x[0]) & (self.x < x[1]) & (self.y > y[0]) & (self.y < y[1])

    def median(self, where: Tensor) -> Color | None:
        """The median color of the photograph there; None if it has too few pixels."""
        there = self.pixels[where & self.inside]
        return _color(there.median(0).values) if len(there) >= _FEW else None

    def like(self, color: Color | None, near: float = _NEAR) -> Bool[Tensor, "h w"]:
        """Where the color is nearly this one."""
        if color is None:
            return torch.zeros_like(self.inside)
        return (self.pixels - torch.tensor(color)).norm(dim=2) < near


@dataclass(frozen=True)
class _Hair:
    color: Color | None
    cover: float
    length: float
    hat: bool


def _hair(head: _Head, skin: Color, background: Color | None) -> _Hair:
    """Hair is everything around the upper face that is neither skin nor background."""
    wide, chin = float(head.points[16, 0] - head.points[0, 0]) / 2, float(head.points[8, 1])
    middle = float(head.points[16, 0] + head.points[0, 0]) / 2
    x, y = (head.x - middle).abs() / wide, head.y
    other = head.inside & ~head.like(skin) & ~head.like(background)
    temples = (x > 1.0) & (x < 1.2) & (y > -0.3) & (y < 0.9)
    crown = (x < 0.8) & (y > -1.9) & (y < -0.8)
    covers = [float(other[place].float().mean()) for place in (temples, crown)]
    at_temples = head.median(temples & other)
    at_crown = head.median(crown & other)
    hat = min(covers) > 0.3 and _is_a_hat(at_crown, at_temples)
    color = at_temples if hat else head.median((temples | crown) & other)
    cover = max(covers) if hat else covers[1]
    if color is None or cover < 0.2:
        return _Hair(None, cover, 0.0, hat)
    # Down the sides, as far as most of a strip still looks like hair.
    likely = other & (head.like(color, 0.28) | head.like(at_temples, 0.28))
    length = 0.0
    for reached, low, high, hair in (
        (0.5, 0.1, 0.55, other),  # beside the ears there is little but hair
        (1.0, 0.5 * chin, chin, likely),
        (2.0, 1.1 * chin, 1.5 * chin, likely),
    ):
        strip = (x > 1.0) & (x < 1.35) & (y > low) & (y < high) & head.inside
        if strip.sum() < _FEW or float(hair[strip].float().mean()) < 0.5:
            break
        length = reached
    return _Hair(color, cover, length, hat)


def _is_a_hat(crown: Color | None, temples: Color | None) -> bool:
    """Whether the crown is too dark, or its hue too different, to be the temples' hair."""
    if crown is None or temples is None:
        return False
    return _light(temples) - _light(crown) > _DARKER or _hue_apart(temples, crown) > 0.5


def _beard(head: _Head, skin: Color) -> float:
    """How much darker chin and upper lip are than the cheeks."""
    points = head.points
    chin = points[8] + 0.3 * (points[57] - points[8])
    jaws = [points[side] + 0.25 * (points[57] - points[side]) for side in (6, 10)]
    found = head.median(head.near([chin, *jaws], 0.14))
    return 0.0 if found is None else _share(_light(skin) - _light(found), 0.16, 0.4)


def _glasses(head: _Head) -> float:
    """How strong edges are across the bridge of the nose and below the eyes."""
    light = head.pixels.mean(2)
    down = (light[2:] - light[:-2]).abs()
    edges = torch.nn.functional.pad(down, (0, 0, 1, 1))
    points = head.points
    inner = (points[39] + points[42]) / 2
    bridge = head.within((inner[0] - 0.16, inner[0] + 0.16), (inner[1] - 0.3, inner[1] + 0.3))
    below = head.near([(p[0], p[1] + 0.28) for p in (points[40], points[47])], 0.18)
    crossing, rims = (
        float(edges[place & head.inside].topk(max(1, int(place.sum()) // 10)).values.mean())
        for place in (bridge, below)
    )
    return _share(min(crossing, rims), 0.1, 0.2)


def _share(value: float, low: float, high: float) -> float:
    """0 at `low` and below, 1 at `high` and above."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _light(color: Color) -> float:
    return float(np.dot(color, (0.299, 0.587, 0.114)))


def _hue_apart(one: Color, other: Color) -> float:
    """How different two colors are, ignoring lightness; 0 for grays."""
    pale = [np.subtract(color, np.mean(color)) for color in (one, other)]
    return float(np.linalg.norm(pale[0] - pale[1]))


def _redness(color: Color) -> float:
    return (color[0] - (color[1] + color[2]) / 2) / max(sum(color) / 3, 0.1)


def _color(values: Tensor) -> Color:
    red, green, blue = values.tolist()
    return red, green, blue
