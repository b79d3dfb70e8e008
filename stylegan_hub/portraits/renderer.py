"""The renderer: makes pictures of portraits from their factors, in batches of torch tensors.

Shapes are signed distances with anti-aliased edges and soft shading. Coordinates: x points to the
right and y down, both in [-1, 1] over the picture. To turn the face, the head is a cylinder.
Features lie on its surface at (u, v) and are seen through u = width * sin(asin(x / width) - yaw),
so that a turned face is foreshortened correctly.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stylegan_hub.portraits.attributes import Portraits
from stylegan_hub.portraits.factors import FACTORS, crisp, factor_matrix

PARTS: tuple[str, ...] = (
    "background", "clothes", "neck", "skin", "ears", "hair", "beard", "brows", "eyes", "nose",
    "lips", "mouth", "glasses", "hat", "earrings", "mustache",
)  # fmt: skip

_ZOOM = 0.72  # the part of the plane that the picture shows, around its middle
_CENTER_Y = 0.03  # the middle of the head
_PIVOT_Y = 0.66  # a tilted head turns around the base of the neck
_CHUNK_PIXELS = 2**17  # pixels rendered at once, so that their planes fit in the processor's cache


def render(portraits: Portraits, resolution: int) -> Tensor:
    """Pictures of portraits, `[n, 3, resolution, resolution]` float32 in [-1, 1].

    Raises:
        ValueError: the resolution is not in 32 to 512.
    """
    return render_factors(factor_matrix(portraits), resolution)


def render_factors(values: Tensor, resolution: int) -> Tensor:
    """Pictures of factors, in the same format as those of `render`.

    The factors may also lie between those of portraits. A thing that is either present or absent (a
    hat, a beard) is then shown whole or not at all.

    Args:
        values: `[n, len(FACTORS)]`; `FACTORS` names the columns.

    Raises:
        ValueError: the resolution is not in 32 to 512.
    """
    return _render(values, resolution, with_masks=False)[0]


def render_with_masks(portraits: Portraits, resolution: int) -> tuple[Tensor, Tensor]:
    """The pictures of `render`, and masks int64 `[n, h, w]` with indices into `PARTS`.

    Raises:
        ValueError: the resolution is not in 32 to 512.
    """
    return _render(factor_matrix(portraits), resolution, with_masks=True)


def _render(values: Tensor, resolution: int, with_masks: bool) -> tuple[Tensor, Tensor]:
    if not 32 <= resolution <= 512:
        raise ValueError(f"Got resolution {resolution}; expected 32 to 512 pixels.")
    n, device = len(values), values.device
    images = torch.empty(n, 3, resolution, resolution, device=device)
    masks = torch.zeros(
        (n, resolution, resolution) if with_masks else (0,), dtype=torch.int64, device=device
    )
    chunk = n if device.type == "cuda" else max(1, _CHUNK_PIXELS // resolution**2)
    numbers = crisp(dict(zip(FACTORS, values.unbind(1), strict=True)))
    for start in range(0, n, max(chunk, 1)):
        part = slice(start, min(start + chunk, n))
        canvas = _Canvas.blank(part.stop - part.start, resolution, with_masks, device)
        _paint(canvas, {name: v[part, None, None] for name, v in numbers.items()})
        images[part] = canvas.image.mul_(2).sub_(1).clamp_(-1, 1)
        if canvas.mask is not None:
            masks[part] = canvas.mask
    return images, masks


class _Canvas:
    """Pictures in [0, 1] that are painted from back to front, and optionally the masks of parts.

    Attributes:
        x, y: coordinates of the pixels, broadcastable to `[n, h, w]`.
        pixel: side of a pixel in these coordinates.
        size: side of the whole picture in pixels.
        origin: column and row of the whole picture at which this window begins.
    """

    def __init__(
        self, image: Tensor, mask: Tensor | None, x: Tensor, y: Tensor, size: int,
        origin: tuple[int, int] = (0, 0),
    ) -> None:  # fmt: skip
        self.image, self.mask, self.x, self.y, self.size = image, mask, x, y, size
        self.origin, self.pixel = origin, 2 * _ZOOM / size

    @classmethod
    def blank(cls, n: int, resolution: int, with_mask: bool, device: torch.device) -> _Canvas:
        axis = ((torch.arange(resolution, device=device) + 0.5) * (2 / resolution) - 1) * _ZOOM
        mask = None
        if with_mask:
            mask = torch.zeros(n, resolution, resolution, dtype=torch.int64, device=device)
        image = torch.empty(n, 3, resolution, resolution, device=device)
        return cls(image, mask, axis[None, None, :], axis[None, :, None], resolution)

    def window(self, left: float, top: float, right: float, bottom: float) -> _Canvas:
        """A view of a rectangle, in which small features can be painted at little cost."""
        bounds = (left, top, right, bottom)
        columns, rows = self._pixels(left, right, 0), self._pixels(top, bottom, 1)
        return _Canvas(
            self.cut(self.image, *bounds),
            None if self.mask is None else self.cut(self.mask, *bounds),
            self.cut(self.x, *bounds),
            self.cut(self.y, *bounds),
            self.size,
            (self.origin[0] + columns.start, self.origin[1] + rows.start),
        )

    def cut(self, plane: Tensor, left: float, top: float, right: float, bottom: float) -> Tensor:
        """The part of a plane [..., h, w] inside a rectangle; a width or height of 1 is kept."""
        if plane.shape[-1] > 1:
            plane = plane[..., self._pixels(left, right, 0)]
        return plane[..., self._pixels(top, bottom, 1), :] if plane.shape[-2] > 1 else plane

    def _pixels(self, low: float, high: float, axis: int) -> slice:
        length = self.image.shape[-1 - axis]
        first, last = (
            min(max(round((v / _ZOOM + 1) / 2 * self.size) - self.origin[axis], 0), length)
            for v in (low, high)
        )
        return slice(first, last)

    def cover(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Coverage in [0, 1] of a shape, given its signed distance (negative inside)."""
        return (0.5 - distance / (softness * self.pixel)).clamp_(0, 1)

    def paint(self, color: Tensor, alpha: Tensor, part: str | None = None) -> None:
        """Paint `color` [n, 3, 1 or h, 1 or w] over the picture with opacity `alpha` [n, h, w].

        The mask of `part` gets the pixels whose opacity is above 0.5.
        """
        self.image.lerp_(color.expand_as(self.image), alpha[:, None].expand_as(self.image))
        if part is not None and self.mask is not None:
            self.mask[alpha > 0.5] = PARTS.index(part)


def _rgb(f: dict[str, Tensor], name: str) -> Tensor:
    return torch.stack([f[f"{name}_{c}"] for c in "rgb"], dim=1)  # [n, 3, 1, 1]


def _ellipse(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Approximate signed distance to an ellipse around the origin."""
    scaled = torch.sqrt((x / width) ** 2 + (y / height) ** 2 + 1e-9)
    slope = torch.sqrt((x / width**2) ** 2 + (y / height**2) ** 2 + 1e-9) / scaled
    return (scaled - 1) / slope.clamp_min(1e-3)


def _smoothstep(low: float, high: float, value: Tensor) -> Tensor:
    t = ((value - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _smooth_maximum(a: Tensor, b: Tensor, radius: float) -> Tensor:
    """Intersection of two shapes, given their distances, with rounded corners."""
    near = (radius - (a - b).abs()).clamp_min(0)
    return torch.maximum(a, b) + near * near * (0.25 / radius)


def _bump(x: Tensor, width: Tensor | float) -> Tensor:
    """1 at zero, falling smoothly to almost 0 at 2 * width."""
    return torch.exp(-((x / width) ** 2))


def _paint(canvas: _Canvas, f: dict[str, Tensor]) -> None:
    _paint_background(canvas, f)

    # The frame of the head is rolled around the neck and shifted by the pitch.
    roll, x, y = f["roll"], canvas.x, canvas.y - _PIVOT_Y
    cosine, sine = torch.cos(roll), torch.sin(roll)
    head = _Canvas(
        canvas.image,
        canvas.mask,
        x * cosine + y * sine,
        y * cosine - x * sine + (_PIVOT_Y - _CENTER_Y) - 0.5 * f["pitch"],
        canvas.size,
    )
    a, h = f["face_width"], f["face_length"]
    hx, hy = head.x, head.y
    # Below the eyes the outline narrows to the jaw; above them it is a rounded skull.
    narrow = 1 - f["jaw"] * _smoothstep(-0.15, 0.90, hy / h)
    face = _ellipse(hx / narrow, hy, a, h * (1 + 0.03 * f["chin"] * (hy > 0)))
    hair = _Hair(head, f)

    hair.paint_back()
    _paint_body(canvas, head, f)
    hair.paint_locks()
    _paint_head(head, f, face)
    _paint_features(head, f, face)
    hair.paint_front()
    if f["earrings"].any():
        _paint_earrings(head, f)
    if f["glasses"].any():
        _paint_glasses(head, f)
    if f["hat"].any():
        _paint_hat(head, f)


def _tone(color: Tensor, red: float, green: float, blue: float) -> Tensor:
    """A color with scaled channels, because skin gets redder where it gets darker."""
    return color * torch.tensor([red, green, blue], device=color.device)[None, :, None, None]


def _paint_background(canvas: _Canvas, f: dict[str, Tensor]) -> None:
    x, y = canvas.x, canvas.y
    color = _rgb(f, "background")
    canvas.image.copy_(color * (1.0 - 0.05 * (y + 0.2) - 0.03 * x)[:, None])
    disc = canvas.cover(torch.sqrt(x**2 + (y - 0.02) ** 2) - 0.60, 1.5)
    canvas.paint((0.70 * color + 0.34).clamp(0, 1), 0.5 * disc.expand(len(color), -1, -1))


def _paint_body(canvas: _Canvas, head: _Canvas, f: dict[str, Tensor]) -> None:
    bounds = (-1, 0.15, 1, 1)
    low, own = canvas.window(*bounds), head.window(*bounds)
    x, y = low.x - 0.2 * f["roll"], low.y
    skin, clothes = _rgb(f, "skin"), _rgb(f, "clothes")
    neck_width = 0.39 * f["face_width"]
    flare = 0.16 * _smoothstep(0.42, 0.72, y)
    neck = torch.maximum(x.abs() - neck_width - flare, 0.2 - y)
    low.paint(_tone(skin, 0.95, 0.91, 0.90), low.cover(neck), "neck")
    # The chin casts a soft shadow on the neck, a little to the right.
    chin = _ellipse(own.x - 0.02, own.y - 0.055, 0.80 * f["face_width"], f["face_length"])
    shadow = _smoothstep(0.05, -0.03, chin) * low.cover(neck)
    low.paint(_tone(skin, 0.76, 0.66, 0.64), 0.85 * shadow)

    t = (x / 0.70).abs().clamp(max=1)
    shoulders = 1.12 - 0.58 * (1 - t * t * (0.25 + 0.75 * t * t)).clamp_min(1e-4).sqrt() - y
    shoulders = torch.maximum(shoulders * 0.9, x.abs() - 0.70)
    round_neck = _ellipse(x, y - 0.49, neck_width + 0.075, 0.125)
    v_neck = (x.abs() * 1.15 + (y - 0.70)).clamp_min(-1) * 0.7
    opening = torch.lerp(round_neck, v_neck, ((f["neckline"] + 1) / 2))
    torso = torch.maximum(shoulders, -opening)
    cover = low.cover(torso)
    low.paint(clothes, cover, "clothes")
    side = _smoothstep(0.12, 0.60, x + 0.15 * (y - 0.6)) + 0.5 * _smoothstep(-0.35, -0.68, x)
    low.paint(_tone(clothes, 0.72, 0.70, 0.76), 0.75 * cover * side)
    seam = low.cover((opening - 0.014).abs() - 0.014) * low.cover(shoulders)
    low.paint(_tone(clothes, 0.80, 0.79, 0.83) + 0.03, seam)
    under = _bump((opening - 0.03).clamp_min(0), 0.02) * cover * low.cover(0.028 - opening)
    low.paint(_tone(clothes, 0.70, 0.69, 0.74), 0.45 * under)


def _paint_head(head: _Canvas, f: dict[str, Tensor], face: Tensor) -> None:
    a, h, x, y = f["face_width"], f["face_length"], head.x, head.y
    skin = _rgb(f, "skin")
    ears = (-0.62, -0.20, 0.62, 0.32)
    c = head.window(*ears)
    # Ears slide around the head as it turns; the far one hides behind the face.
    for side in (-1.0, 1.0):
        ear_x = c.x - side * a * (0.985 - 0.12 * side * f["yaw"])
        ear_y = c.y - 0.025
        size = f["ear_size"]
        ear = _ellipse(ear_x - 0.10 * side * -ear_y, ear_y, 0.052 * size, 0.085 * size)
        c.paint(_tone(skin, 0.97, 0.92, 0.90), c.cover(ear), "ears")
        inner = _ellipse(ear_x + 0.008 * side, ear_y + 0.008, 0.026 * size, 0.052 * size)
        c.paint(_tone(skin, 0.84, 0.70, 0.66), 0.75 * c.cover(inner, 3.0))

    cover = head.cover(face)
    head.paint(skin, cover, "skin")
    # The light comes from the upper left and gives a soft shadow on the other side and a glow.
    turn = x / a + 0.30 * f["yaw"]
    shade = _smoothstep(0.30, 1.15, 0.92 * turn + 0.38 * y / h)
    head.paint(_tone(skin, 0.84, 0.73, 0.70), 0.72 * shade * cover)
    glow = _smoothstep(0.75, 0.0, torch.sqrt((turn + 0.30) ** 2 + (y / h + 0.28) ** 2))
    head.paint((skin * 1.05 + 0.025).clamp(0, 1), 0.55 * glow * cover)


def _paint_features(head: _Canvas, f: dict[str, Tensor], face: Tensor) -> None:
    bounds = (-0.50, -0.36, 0.50, 0.62)
    c, face = head.window(*bounds), head.cut(face, *bounds)
    inside = c.cover(face)
    u, v = _face_coordinates(c, f)
    skin = _rgb(f, "skin")
    out = u.abs() - f["eye_spacing"]  # distance outward from the middle of each eye
    eye_v = v - 0.015 - f["eye_height"]
    smile = (f["curve"] / 0.075).clamp(0, 1)

    # Cheeks are round and rosy, and more so in a smile.
    cheek = _smoothstep(
        0.100, 0.02, torch.sqrt((u.abs() - 0.205) ** 2 + (1.25 * (v - 0.150 + 0.015 * smile)) ** 2)
    )
    c.paint(_tone(skin, 1.0, 0.72, 0.70), (0.42 + 0.22 * smile) * cheek * inside)

    if f["freckles"].any():
        _paint_freckles(c, f, u, v, inside)
    if f["wrinkles"].any():
        _paint_wrinkles(c, f, u, v, out, eye_v, inside)
    _paint_nose(c, f, u, v, inside)
    mouth_v = v - 0.258 - f["mouth_height"]
    if f["beard"].any():
        _paint_beard(c, f, u, v, mouth_v, face)
    if f["mustache"].any():
        _paint_mustache(c, f, u, mouth_v)
    _paint_mouth(c, f, u, mouth_v, inside)
    _paint_eyes(c, f, u, out, eye_v, smile, inside)
    _paint_brows(c, f, out, eye_v, inside)


def _face_coordinates(canvas: _Canvas, f: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Position of each pixel on the turned face: u across and v down, both in picture units."""
    a = f["face_width"] * 1.12
    angle = torch.asin((canvas.x / a).clamp(-0.985, 0.985))
    u = a * torch.sin(angle - f["yaw"] * 0.62)
    # Features scale half as much as the width of the face.
    u = u / (0.5 + 0.5 * f["face_width"] / 0.355)
    return u, canvas.y - f["pitch"]


# Places (u, v) and sizes of freckles, on the cheeks and the bridge of the nose, not symmetric.
_FRECKLES: tuple[tuple[float, float, float], ...] = (
    (-0.250, 0.100, 1.0), (-0.226, 0.158, 1.0), (-0.190, 0.108, 1.1), (-0.172, 0.164, 0.9),
    (-0.134, 0.122, 1.0), (-0.038, 0.066, 0.9), (0.034, 0.078, 0.9), (0.136, 0.116, 1.0),
    (0.166, 0.166, 1.0), (0.196, 0.104, 1.1), (0.230, 0.154, 1.0), (0.254, 0.096, 0.9),
)  # fmt: skip


def _paint_freckles(c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, inside: Tensor) -> None:
    spots = torch.full_like(u, 1.0)
    for place_u, place_v, size in _FRECKLES:
        spots = torch.minimum(spots, ((u - place_u) ** 2 + (v - place_v) ** 2).div_(size))
    dots = c.cover(spots.sqrt_() - 0.0175, 1.4)
    c.paint(_tone(_rgb(f, "skin"), 0.60, 0.42, 0.30), 0.85 * f["freckles"] * dots * inside)


def _paint_wrinkles(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, out: Tensor, eye_v: Tensor,
    inside: Tensor,
) -> None:  # fmt: skip
    # Two waves on the forehead
    lines = torch.zeros_like(u)
    across = _smoothstep(0.20, 0.10, u.abs())
    for height, width in ((-0.188, 0.0115), (-0.252, 0.0100)):
        wave = v - height - 0.010 * torch.cos(u * 11)
        lines = torch.maximum(lines, c.cover(wave.abs() - width, 1.6) * across)
    # Folds from the nose to the corners of the mouth
    t = ((v - 0.200) / 0.058).clamp(-1, 1)
    fold = (u.abs() - 0.122 - 0.036 * t + 0.016 * t * t).abs()
    fold = fold + 4 * ((v - 0.200).abs() - 0.058).clamp_min(0)
    lines = torch.maximum(lines, c.cover(fold - 0.0145 + 0.008 * t * t, 1.6))
    # Bags under the eyes and crow's feet
    bag = (eye_v - 0.078 + 0.25 * out**2 / 0.09).abs()
    lines = torch.maximum(lines, c.cover(bag - 0.0110, 1.6) * _bump(out + 0.01, 0.060))
    for slope in (-0.30, 0.30):
        foot = (eye_v - slope * (out - 0.07)).abs() + 8 * (0.112 - out).clamp_min(0)
        foot = foot + 8 * (out - 0.148).clamp_min(0)
        lines = torch.maximum(lines, c.cover(foot - 0.0100, 1.6))
    hollow = _bump(torch.sqrt((u.abs() - 0.20) ** 2 + ((v - 0.235) * 0.7) ** 2), 0.05)
    skin = _rgb(f, "skin")
    c.paint(_tone(skin, 0.88, 0.80, 0.78), 0.60 * f["wrinkles"] * hollow * inside)
    c.paint(_tone(skin, 0.62, 0.47, 0.43), 0.80 * f["wrinkles"] * lines * inside)


def _paint_nose(c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, inside: Tensor) -> None:
    skin, width = _rgb(f, "skin"), f["nose_width"]
    tip_v = v - 0.015 - f["nose_length"]
    # A turned face shows the nose from the side: its tip moves further than the eyes.
    tip_u = u - 0.060 * f["yaw"] * _smoothstep(-0.14, 0.02, tip_v)
    # A shadow along the right side of the bridge, a highlight on the tip and a soft underside
    bridge = _bump(tip_u - 0.55 * width, 0.020) * _smoothstep(-0.145, -0.03, tip_v)
    bridge = bridge * _smoothstep(0.02, -0.02, tip_v)
    c.paint(_tone(skin, 0.84, 0.73, 0.69), 0.55 * bridge * inside)
    glow = _bump(tip_u + 0.12 * width, 0.40 * width) * _bump(tip_v + 0.012, 0.034)
    c.paint((skin * 1.06 + 0.06).clamp(0, 1), 0.70 * glow * inside)
    ball = _ellipse(tip_u, tip_v, width, 0.034)
    under = c.cover(ball.abs() - 0.0058, 2.0) * _smoothstep(0.000, 0.020, tip_v)
    c.paint(_tone(skin, 0.66, 0.50, 0.46), 0.80 * under * inside)
    nostril = _ellipse(tip_u.abs() - 0.48 * width, tip_v - 0.021, 0.013, 0.0068)
    c.paint(_tone(skin, 0.52, 0.36, 0.33), 0.75 * c.cover(nostril, 2.0) * inside)
    if c.mask is not None:
        outline = torch.maximum(
            tip_u.abs() - width * (0.55 + 0.45 * _smoothstep(-0.10, 0, tip_v)), -tip_v - 0.12
        )
        c.mask[(torch.maximum(outline, tip_v - 0.036) < 0) & (inside > 0.5)] = PARTS.index("nose")


def _paint_eyes(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, out: Tensor, eye_v: Tensor, smile: Tensor,
    inside: Tensor,
) -> None:  # fmt: skip
    bounds = (-0.50, -0.22, 0.50, 0.22)
    whole, c = c, c.window(*bounds)
    u, out, eye_v, inside = (whole.cut(plane, *bounds) for plane in (u, out, eye_v, inside))
    skin, size = _rgb(f, "skin"), f["eye_size"]
    width = 0.085 * size
    y = eye_v + f["eye_slant"] * out
    t = (out / width).clamp(-1, 1)
    lid = 1 - t * t
    lower = (0.044 - 0.012 * smile) * size * lid
    full = 0.063 * size * lid * (1 + 0.12 * t)
    upper = (full + lower) * f["eye_open"] - lower
    beyond = out.abs() - width
    seen = inside * _smoothstep(0.0, 0.1, f["eye_open"])
    eye = c.cover(torch.maximum(torch.maximum(-y - upper, y - lower), beyond)) * seen

    # The lid lies between its crease and the lashes; a closed eye shows only the lid.
    crease = 0.018 + 1.16 * full * (0.6 + 0.4 * f["eye_open"].clamp(max=1))
    cover = torch.maximum(torch.maximum(-y - crease, y + upper), beyond + 0.004)
    c.paint(_tone(skin, 0.90, 0.78, 0.75), 0.75 * c.cover(cover, 2.0) * inside, "eyes")
    fold = torch.maximum((y + crease).abs() - 0.0036, beyond + 0.010)
    c.paint(_tone(skin, 0.62, 0.48, 0.45), 0.65 * c.cover(fold, 1.6) * inside)

    white = torch.tensor([0.985, 0.975, 0.965], device=y.device)[None, :, None, None]
    shade = 1 - 0.20 * _smoothstep(0.030, 0.0, y + upper)
    c.paint(white * shade[:, None], eye, "eyes")

    # Both eyes look in the same direction: `out` is mirrored, but the gaze is not.
    side = torch.sign(u)
    px, py = out - side * f["gaze_x"], y - f["gaze_y"] + 0.006
    radius = torch.sqrt(px**2 + py**2)
    iris = _rgb(f, "eye")
    c.paint(iris * 0.42, eye * c.cover(radius - 0.0500))
    ring = 0.72 + 0.62 * _smoothstep(-0.035, 0.040, py) + 0.25 * _bump(radius - 0.027, 0.008)
    c.paint((iris * ring[:, None] * 1.08).clamp(0, 1), eye * c.cover(radius - 0.0440, 1.4))
    c.paint(torch.full_like(iris, 0.06), eye * c.cover(radius - 0.0225, 1.2))
    across = px * side  # to the right in both eyes
    glint = torch.sqrt((across + 0.016) ** 2 + (py + 0.019) ** 2)
    c.paint(torch.ones_like(iris), 0.97 * eye * c.cover(glint - 0.0120))
    small = torch.sqrt((across - 0.018) ** 2 + (py - 0.020) ** 2)
    c.paint(torch.ones_like(iris), 0.55 * eye * c.cover(small - 0.0065, 1.4))

    # The lashes are a line that thickens outward and ends in a small wing.
    thickness = 0.0080 + 0.0028 * t
    lash = torch.maximum((y + upper).abs() - thickness, beyond)
    tip = out - width
    wing = (y + 0.004 + 0.55 * tip).abs() - (0.0085 - 0.42 * tip.clamp_min(0))
    wing = torch.maximum(wing, -0.014 - tip)
    dark = torch.tensor([0.14, 0.10, 0.11], device=y.device)[None, :, None, None]
    c.paint(dark.expand_as(iris), c.cover(torch.minimum(lash, wing)) * inside, "eyes")
    under = torch.maximum((y - lower).abs() - 0.0030, beyond + 0.006)
    c.paint(_tone(skin, 0.50, 0.36, 0.34), 0.55 * c.cover(under, 1.4) * inside)


def _paint_brows(
    c: _Canvas, f: dict[str, Tensor], out: Tensor, eye_v: Tensor, inside: Tensor
) -> None:
    # A brow is an arched stroke that thins outward; anger pulls its inner end down.
    t = out / 0.105
    brow_y = eye_v + 0.110 + f["brow_height"] + f["brow_raise"]
    tilt = f["brow_angle"] * 0.5 + f["brow_slant"] + 0.04
    thickness = f["brow_thickness"] * (1.02 - 0.28 * t - 0.30 * t * t * t * t).clamp(0.05, 1.3)
    stroke = (brow_y + tilt * out + 0.024 * (1 - t * t)).abs() - thickness
    brow = torch.maximum(stroke, (t.abs() - 1) * 0.105)
    hair, skin = _rgb(f, "hair"), _rgb(f, "skin")
    brows = torch.lerp(hair * 0.74, _tone(skin, 0.45, 0.36, 0.34), 0.30)
    brows = torch.lerp(brows, torch.full_like(brows, 0.74), 0.4 * f["wrinkles"][:, None])
    c.paint(brows, c.cover(brow, 1.4) * inside, "brows")  # age turns brows grey before the hair


def _paint_beard(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, mouth_v: Tensor, face: Tensor
) -> None:
    # The beard covers the lower face, reaches up to the ears and extends below the chin.
    hair = _rgb(f, "hair")
    length = 0.030 + 0.026 * f["beard_length"]
    a, h = f["face_width"], f["face_length"]
    hull = _ellipse(c.x, c.y - 0.42 * h, 0.80 * a, 0.58 * h + length)
    hull = torch.minimum(hull, torch.maximum(face - 0.004, 0.25 * h - c.y))
    hull = hull - 0.008 * torch.cos(u * 26) * _smoothstep(0.15, 0.40, v)
    side = (u.abs() - 0.09).clamp_min(0)
    top = mouth_v - 0.030 + 0.55 * side + 2.6 * side * side  # distance below the upper edge
    beard = _smooth_maximum(hull, -top, 0.05)
    hole = _ellipse(u, mouth_v - 0.010 - 0.3 * f["open"], 0.84 * f["mouth_width"],
                    0.050 + 0.62 * f["open"])  # fmt: skip
    beard = torch.maximum(beard, -hole)
    cover = f["beard"] * c.cover(beard, 2.0)
    c.paint(hair * 0.90, cover, "beard")
    strands = 0.5 + 0.5 * torch.sin(u * 22 + 2 * torch.sin(v * 8))
    c.paint(hair * 0.70, 0.55 * cover * strands)
    c.paint(hair * 0.66, 0.6 * cover * _smoothstep(0.02, 0.30, u + 0.25 * (v - 0.3)))


def _paint_mustache(c: _Canvas, f: dict[str, Tensor], u: Tensor, mouth_v: Tensor) -> None:
    hair = _rgb(f, "hair")
    reach = 1.06 * f["mouth_width"] * (1 + 2.0 * f["curve"].clamp_min(0))
    t = (u / reach).abs().clamp(max=1)
    lift = f["curve"].clamp_min(0) * (0.35 - 0.9 * t * t)
    middle = mouth_v - lift + 0.042 - 0.040 * t * t + 0.012 * _bump(t, 0.2)
    half = 0.025 * (1 - t * t * t).clamp_min(0) ** 0.5 * (1 - 0.35 * _bump(t, 0.09))
    shape = torch.maximum(middle.abs() - half, u.abs() - reach)
    cover = f["mustache"] * c.cover(shape, 1.5)
    c.paint(hair * 0.84, cover, "mustache")
    c.paint(hair * 0.62, 0.55 * cover * _smoothstep(-0.002, -0.02, -middle))


def _paint_mouth(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, mouth_v: Tensor, inside: Tensor
) -> None:
    # An open round mouth is narrower than a smile.
    lip, skin = _rgb(f, "lip"), _rgb(f, "skin")
    width = f["mouth_width"] * (1 - 2.2 * f["open"] * (1 - f["teeth"])) * (1 + 2.0 * f["curve"])
    t = (u / width).clamp(-1, 1)
    arch = 1 - t * t
    line = mouth_v - f["curve"] * (0.50 - t * t)
    gap = f["open"] * arch.clamp_min(1e-6).sqrt()
    line = line - 0.5 * f["open"] * (1 - f["teeth"])  # the jaw drops
    beyond = u.abs() - width

    full = f["lip_fullness"]
    cupid = 1 - 0.30 * _bump(u, 0.020)
    upper = 0.025 * full * arch * cupid + 0.5 * gap
    lower = 0.031 * full * arch + 0.5 * gap
    lips = torch.maximum(torch.maximum(-line - upper, line - lower), beyond)
    cover = c.cover(lips) * inside
    c.paint(lip, cover, "lips")
    c.paint(lip * 0.84, 0.8 * cover * c.cover(line, 2.0))  # the upper lip lies in shade
    shine = _bump(line - 0.5 * gap - 0.013 * full, 0.006) * _bump(u + 0.012, 0.035)
    c.paint((lip + 0.22).clamp(0, 1), 0.55 * cover * shine)
    below = _bump(line - lower - 0.020, 0.010) * _bump(u, 0.045)
    c.paint(_tone(skin, 0.80, 0.68, 0.65), 0.55 * below * inside * (1 - f["beard"]))

    dark = torch.tensor([0.36, 0.08, 0.10], device=u.device)[None, :, None, None].expand_as(lip)
    hole = torch.maximum(line.abs() - 0.5 * gap + 0.002, beyond + 0.006)
    open_alpha = c.cover(hole) * inside
    c.paint(dark, open_alpha, "mouth")
    tongue = _ellipse(u, line - 0.50 * f["open"], 0.60 * width, 0.45 * f["open"] + 1e-3)
    red = torch.tensor([0.86, 0.42, 0.44], device=u.device)[None, :, None, None].expand_as(lip)
    c.paint(red, open_alpha * c.cover(tongue))
    teeth = torch.maximum(hole, line - 0.06 * gap)
    white = torch.tensor([0.985, 0.975, 0.955], device=u.device)[None, :, None, None]
    c.paint(white.expand_as(lip), c.cover(teeth) * inside * f["teeth"].clamp_min(0.0))
    # The line between closed lips, and small shadows at the corners
    seam = torch.maximum(line.abs() - 0.0045, beyond - 0.004)
    shut = 1 - _smoothstep(0.004, 0.02, f["open"])
    c.paint(_tone(lip, 0.52, 0.42, 0.42), 0.90 * c.cover(seam, 1.4) * inside * shut)
    corner = torch.sqrt((u.abs() - width - 0.004) ** 2 + (mouth_v + 0.5 * f["curve"]) ** 2)
    c.paint(_tone(skin, 0.66, 0.50, 0.47), 0.60 * _bump(corner, 0.011) * inside * (1 - f["beard"]))


class _Hair:
    """The hair: one shape for all styles, a hull around the skull with an opening for the face."""

    def __init__(self, head: _Canvas, f: dict[str, Tensor]):
        self.head, self.f = head, f
        a, h, x, y = f["face_width"], f["face_length"], head.x, head.y
        strip, curl, frizz, spike = (
            f["hair_strip"],
            f["hair_curl"],
            f["hair_frizz"],
            f["hair_spike"],
        )
        spike = spike * (1 - f["hat"])  # a hat flattens the hair under it
        volume = torch.lerp(f["hair_volume"], f["hair_volume"].clamp(max=0.03), f["hat"])
        side = torch.lerp(f["hair_side"], f["hair_side"].clamp(max=0.10), f["hat"])
        self.x = x + 0.035 * a * f["yaw"]  # the mass of hair turns against the face
        width = torch.lerp(a + side, 0.150 + 0 * a, strip)
        # The crown of the hull is an ellipse around the temples; its lower end is cut off.
        crown_y = y + 0.09
        self.angle = torch.atan2(self.x, -crown_y)  # 0 points up
        # Curls bulge like a cloud: rounded outward, with cusps inward.
        lobes = torch.cos(self.angle * (4 + 2 * frizz)).abs() * 1.6 - 1
        wave = (0.044 - 0.012 * frizz) * curl * lobes
        teeth = (self.angle * 8 / math.pi + 0.35).frac().sub(0.5).abs().mul(4).sub(1)
        top = _smoothstep(1.75, 1.15, self.angle.abs())
        jag = 0.055 * spike * teeth * top * (1 - strip)
        # Straight hair is a little higher on the side to which it is combed.
        comb = 0.026 * f["hair_part"].tanh() * torch.sin(2 * self.angle) * (1 - curl) * (1 - strip)
        height = h - 0.09 + volume
        below = crown_y.clamp_min(0)  # distance below the temples
        flare = 1 + 0.10 * f["hair_wrap"] * _smoothstep(0.0, 0.5, below)
        sway = 0.012 * f["hair_wrap"] * torch.sin(9 * y) * _smoothstep(0.1, 0.4, below)
        hull = _ellipse((self.x.abs() - sway) / flare, crown_y.clamp(max=0.0), width, height)
        hull = hull - wave - jag + comb
        # A mohawk is a fin that narrows upwards and has a toothed edge.
        fin_teeth = 0.012 * strip * torch.sin(self.angle * 18)
        hull = hull + strip * 0.05 * _smoothstep(-0.30, -0.70, crown_y) - fin_teeth
        end = y - f["hair_length"] - 0.022 * curl * torch.cos(self.x * 20)
        rounded = 0.16 * f["hair_wrap"] * (self.x / width) ** 2
        self.hull = _smooth_maximum(hull, end + rounded, 0.07)
        # Frizzy round hair closes below as an ellipse instead of being cut off.
        ball = _ellipse(self.x, crown_y - 0.04, width, height) - wave
        self.hull = torch.lerp(self.hull, _smooth_maximum(ball, end, 0.22), frizz)

        strands = torch.sin(self.angle * 8 + 1.2 * torch.sin(4 * y + 1))
        cell = 11 + 3 * frizz
        curls = torch.sin(cell * self.x + 1.6 * torch.sin(0.6 * cell * y))
        curls = curls * torch.sin(cell * y + 1 + 1.6 * torch.sin(0.6 * cell * self.x))
        texture = torch.lerp(0.070 * strands, 0.26 * curls, curl.clamp(0, 1))
        radius = torch.sqrt((self.x / width) ** 2 + (crown_y / height) ** 2)
        rough = 0.02 * torch.sin(self.angle * 26)
        gloss = _bump(radius - 0.80 + rough, 0.085) * _bump(self.angle + 0.45, 0.62)
        gloss = gloss * (1 - 0.75 * curl) * (1 - 0.5 * strip)
        light = 1.0 - 0.17 * (self.x / width).clamp(-1, 1) - 0.12 * (crown_y / height).clamp(-1, 1)
        self.color = _rgb(f, "hair") * (light + texture - 0.06)[:, None] + 0.15 * gloss[:, None]
        self.alpha = f["hair_cover"]

    def paint_back(self) -> None:
        """Paint the hair behind the head and the neck."""
        back = self.head.cover(self.hull) * self.alpha
        self.head.paint((self.color * 0.70).clamp(0, 1), back, "hair")

    def paint_locks(self) -> None:
        """Paint the long hair that falls over the shoulders on both sides of the neck."""
        f = self.f
        inner = 0.66 * f["face_width"] + 0.03 * torch.sin(8 * self.head.y) - self.x.abs()
        front = torch.maximum(self.hull, torch.maximum(inner, -0.2 - self.head.y))
        alpha = self.head.cover(front, 1.5) * _smoothstep(0.45, 0.75, f["hair_wrap"])
        self.head.paint(self.color.clamp(0, 1), alpha, "hair")

    def paint_front(self) -> None:
        """Paint the hair on top of the head and beside the face, down to the hairline."""
        f, x, y = self.f, self.head.x, self.head.y
        a, h = f["face_width"], f["face_length"]
        u = x - 0.42 * a * f["yaw"]
        wrap, curl = f["hair_wrap"], f["hair_curl"]
        half = a * (1.02 - 0.14 * wrap)  # half the width of the opening
        hairline = -0.64 * h + f["hair_fringe"]
        # The hair falls to both sides of the parting.
        part = 0.35 * f["hair_part"].tanh() * (1 - curl)
        away = ((u / half - part) / (1 + part.abs())).abs().clamp(max=1.2)
        arc = (0.06 + 0.15 * (1 - 0.2 * wrap)) * away * away * away + 0.05 * away
        jagged = 0.018 * torch.sin(u * 20 + 1) * (0.45 + 0.9 * f["hair_spike"] + 0.6 * curl)
        top = y - hairline - arc - jagged + 0.02
        side = u.abs() - half * (1 + 0.05 * wrap - 0.9 * wrap * (y - 0.10).square())
        opening = _smooth_maximum(-top, side, 0.16)  # negative where the face is visible
        # Below the temples, short styles leave the ears and cheeks uncovered.
        opening = torch.where(wrap < 0.3, torch.minimum(opening, 0.02 - y), opening)
        front = torch.maximum(self.hull, -opening)
        self.head.paint(self.color.clamp(0, 1), self.head.cover(front) * self.alpha, "hair")
        shadow = _bump(top.clamp_min(0), 0.040) * self.head.cover(opening)
        under = self.head.cover(torch.maximum(self.hull, opening)) * shadow * self.alpha
        skin_only = self.head.cover(_ellipse(x, y, a, h)) * under
        dark = _tone(self.head.image, 0.80, 0.70, 0.69)
        self.head.paint(dark, 0.75 * skin_only * (1 - f["hair_strip"]))


def _paint_earrings(head: _Canvas, f: dict[str, Tensor]) -> None:
    c = head.window(-0.62, 0.02, 0.62, 0.40)
    gold = torch.tensor([0.93, 0.72, 0.27], device=c.x.device)[None, :, None, None]
    gold = gold.expand(len(c.image), -1, 1, 1)
    for side in (-1.0, 1.0):
        x = c.x - side * f["face_width"] * (0.995 - 0.12 * side * f["yaw"])
        y = c.y - 0.105 * f["ear_size"]
        shown = f["earrings"]
        ring = (torch.sqrt(x**2 + (y - 0.056) ** 2) - 0.045).abs() - 0.0125
        light = 0.80 + 0.30 * _smoothstep(0.02, -0.03, x + y - 0.056)
        c.paint((gold * light[:, None]).clamp(0, 1), c.cover(ring, 1.2) * shown, "earrings")
        stud = torch.sqrt(x**2 + (y - 0.004) ** 2) - 0.0160
        c.paint((gold * 1.12).clamp(0, 1), c.cover(stud, 1.2) * shown, "earrings")


def _paint_glasses(head: _Canvas, f: dict[str, Tensor]) -> None:
    c = head.window(-0.56, -0.24, 0.56, 0.30)
    u, v = _face_coordinates(c, f)
    out = u.abs() - f["eye_spacing"]
    y = v - 0.025 - f["eye_height"]
    square = (f["glasses_shape"] + 1) / 2
    width, height = 0.132, 0.122 - 0.020 * square
    round_rim = _ellipse(out, y, width, height)
    corner = 0.045
    qx, qy = out.abs() - width + corner, y.abs() - height + corner
    box_rim = torch.sqrt(qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2) - corner
    box_rim = box_rim + torch.maximum(qx, qy).clamp(max=0)
    rim = torch.lerp(round_rim, box_rim, square)
    frame, shown = _rgb(f, "frame"), f["glasses"]
    lens = c.cover(rim) * shown
    c.paint(torch.ones_like(frame), 0.10 * lens)
    streak = c.cover((out - 0.6 * y + 0.055).abs() - 0.016, 2) * lens
    c.paint(torch.ones_like(frame), 0.22 * streak)
    stroke = c.cover(rim.abs() - 0.0125)
    bridge = c.cover(
        torch.maximum((y + 0.034 - 0.8 * u**2).abs() - 0.010, u.abs() - f["eye_spacing"] + width)
    )
    # Temples run along the head to the ears.
    reach = torch.maximum(width - out, c.x.abs() - f["face_width"] * 0.90)
    temple = c.cover(torch.maximum((y + 0.035).abs() - 0.010, reach))
    alpha = torch.maximum(torch.maximum(stroke, bridge), temple) * shown
    c.paint(frame, alpha, "glasses")


def _paint_hat(head: _Canvas, f: dict[str, Tensor]) -> None:
    a, h, shown = f["face_width"], f["face_length"], f["hat"]
    x, y = head.x + 0.02 * f["yaw"], head.y
    brim_y = -0.44 * h + 0.06 * (1 - (x / a) ** 2) * -0.6
    width = a * 1.06 + 0.75 * f["hair_side"].clamp(max=0.10)
    height = 0.62 * h * (1 + 0.09 * f["hat_height"]) + 0.05
    base = -0.44 * h
    color = _rgb(f, "hat")
    nx = (x / width).clamp(-1, 1)
    light = 1.0 - 0.20 * nx - 0.10 * _smoothstep(-0.6, -0.2, y)

    top = base - height
    pom = torch.sqrt(x**2 + (y - top + 0.010) ** 2)
    fluff = pom - 0.088 - 0.008 * torch.cos(torch.atan2(x, y - top) * 7)
    soft = (1.12 - 0.25 * _smoothstep(-0.05, 0.07, x + y - top))[:, None]
    head.paint((color * soft + 0.10).clamp(0, 1), head.cover(fluff) * shown, "hat")

    dome = torch.maximum(_ellipse(x, (y - base).clamp(max=0), width, height), y - brim_y)
    ribs = 1 + 0.17 * torch.cos(torch.asin(nx * 0.98) * 7)
    head.paint((color * (light * ribs)[:, None]).clamp(0, 1), head.cover(dome) * shown, "hat")
    band_x = x.abs() - width * 1.03
    across = (y - brim_y + 0.020).abs() - 0.066
    corner = 0.03
    qx, qy = band_x + corner, across + corner
    band = torch.sqrt(qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2) - corner
    band = band + torch.maximum(qx, qy).clamp(max=0)
    fold = 1 + 0.18 * torch.cos(torch.asin(nx * 0.98) * 11)
    head.paint(
        (color * 0.82 * (light * fold)[:, None]).clamp(0, 1), head.cover(band) * shown, "hat"
    )
    under = _bump((band - 0.004).clamp_min(0), 0.016) * _smoothstep(0.0, 0.03, y - brim_y - 0.04)
    under = under * head.cover(x.abs() - a * 0.93) * shown
    head.paint(_tone(head.image, 0.78, 0.70, 0.70), 0.7 * under * head.cover(-band))
