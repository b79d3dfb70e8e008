"""Draws portraits: signed distances, soft shading, anti-aliased edges, batched torch.

Coordinates: x to the right and y down, both in [-1, 1] over the picture. A head is a cylinder
for the turn of the face: features live on its surface at (u, v) and are seen through
u = width * sin(asin(x / width) - yaw), so a turned face foreshortens as it should.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from stylegan_hub.portraits.attributes import Portraits
from stylegan_hub.portraits.factors import factors

PARTS: tuple[str, ...] = (
    "background", "clothes", "neck", "skin", "ears", "hair", "beard", "brows", "eyes", "nose",
    "lips", "mouth", "glasses", "hat",
)  # fmt: skip

_ZOOM = 0.89  # the picture shows this much of the plane around its middle
_CENTER_Y = 0.08  # the middle of the head
_PIVOT_Y = 0.75  # a tilted head turns around the base of the neck
_CHUNK_PIXELS = 2**17  # a chunk of pictures whose planes stay in the processor's cache


def render(portraits: Portraits, resolution: int) -> Tensor:
    """Draw portraits as `[n, 3, resolution, resolution]` float32 in [-1, 1].

    Raises:
        ValueError: a resolution outside 32 to 512.
    """
    return _render(portraits, resolution, with_masks=False)[0]


def render_with_masks(portraits: Portraits, resolution: int) -> tuple[Tensor, Tensor]:
    """Pictures as `render` draws them, and masks int64 `[n, h, w]` with indices into `PARTS`."""
    images, masks = _render(portraits, resolution, with_masks=True)
    return images, masks


def _render(portraits: Portraits, resolution: int, with_masks: bool) -> tuple[Tensor, Tensor]:
    if not 32 <= resolution <= 512:
        raise ValueError(f"Got resolution {resolution}; portraits are drawn at 32 to 512 pixels.")
    n, device = len(portraits), portraits.gaussians.device
    images = torch.empty(n, 3, resolution, resolution, device=device)
    masks = torch.zeros(
        (n, resolution, resolution) if with_masks else (0,), dtype=torch.int64, device=device
    )
    chunk = n if device.type == "cuda" else max(1, _CHUNK_PIXELS // resolution**2)
    numbers = factors(portraits)
    for start in range(0, n, max(chunk, 1)):
        part = slice(start, min(start + chunk, n))
        canvas = _Canvas.blank(part.stop - part.start, resolution, with_masks, device)
        _draw(canvas, {name: v[part, None, None] for name, v in numbers.items()})
        images[part] = canvas.image.mul_(2).sub_(1).clamp_(-1, 1)
        if canvas.mask is not None:
            masks[part] = canvas.mask
    return images, masks


class _Canvas:
    """Pictures in [0, 1] that are painted from back to front, and optionally their part masks."""

    def __init__(self, image: Tensor, mask: Tensor | None, x: Tensor, y: Tensor, pixel: float):
        self.image, self.mask, self.x, self.y, self.pixel = image, mask, x, y, pixel

    @classmethod
    def blank(cls, n: int, resolution: int, with_mask: bool, device: torch.device) -> _Canvas:
        axis = ((torch.arange(resolution, device=device) + 0.5) * (2 / resolution) - 1) * _ZOOM
        mask = None
        if with_mask:
            mask = torch.zeros(n, resolution, resolution, dtype=torch.int64, device=device)
        image = torch.empty(n, 3, resolution, resolution, device=device)
        pixel = 2 * _ZOOM / resolution
        return cls(image, mask, axis[None, None, :], axis[None, :, None], pixel)

    def window(self, left: float, top: float, right: float, bottom: float) -> _Canvas:
        """A view of a rectangle, so that small features do not cost a whole picture."""
        return _Canvas(
            self.cut(self.image, left, top, right, bottom),
            None if self.mask is None else self.cut(self.mask, left, top, right, bottom),
            self.cut(self.x, left, top, right, bottom),
            self.cut(self.y, left, top, right, bottom),
            self.pixel,
        )

    def cut(self, plane: Tensor, left: float, top: float, right: float, bottom: float) -> Tensor:
        """The part of a plane [..., h, w] in a rectangle; planes of width or height 1 stay so."""
        size = self.image.shape[-1]
        x0, x1, y0, y1 = (round((v / _ZOOM + 1) / 2 * size) for v in (left, right, top, bottom))
        x0, x1, y0, y1 = (min(max(v, 0), size) for v in (x0, x1, y0, y1))
        if plane.shape[-1] > 1:
            plane = plane[..., x0:x1]
        return plane[..., y0:y1, :] if plane.shape[-2] > 1 else plane

    def cover(self, distance: Tensor, softness: float = 1.0) -> Tensor:
        """Coverage in [0, 1] of a shape given by its signed distance (negative inside)."""
        return (0.5 - distance / (softness * self.pixel)).clamp_(0, 1)

    def paint(self, color: Tensor, alpha: Tensor, part: str | None = None) -> None:
        """Lay `color` [n, 3, 1 or h, 1 or w] over the picture where `alpha` [n, h, w] says."""
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


def _bump(x: Tensor, width: Tensor | float) -> Tensor:
    """1 at zero, falling smoothly to almost nothing at 2 * width."""
    return torch.exp(-((x / width) ** 2))


def _draw(canvas: _Canvas, f: dict[str, Tensor]) -> None:
    _draw_background(canvas, f)

    # The head's own frame: rolled around the neck, nodding by pitch.
    roll, x, y = f["roll"], canvas.x, canvas.y - _PIVOT_Y
    head = _Canvas(
        canvas.image,
        canvas.mask,
        x * torch.cos(roll) + y * torch.sin(roll),
        y * torch.cos(roll) - x * torch.sin(roll) + (_PIVOT_Y - _CENTER_Y) - 0.5 * f["pitch"],
        canvas.pixel,
    )
    a, h = f["face_width"], f["face_length"]
    hx, hy = head.x, head.y
    # Jaw: below the eyes the outline narrows, above it is a rounded skull.
    narrow = 1 - f["jaw"] * _smoothstep(-0.1, 1.05, hy / h) ** 1.5
    face = _ellipse(hx / narrow, hy, a, h * (1 + 0.03 * f["chin"] * (hy > 0)))
    hair = _Hair(head, f)

    hair.draw_back()
    _draw_body(canvas, f)
    hair.draw_locks()
    _draw_head(head, f, face)
    _draw_features(head, f, face)
    hair.draw_front()
    _draw_glasses(head, f)
    _draw_hat(head, f)


def _draw_background(canvas: _Canvas, f: dict[str, Tensor]) -> None:
    x, y = canvas.x, canvas.y
    glow = 1.10 - 0.20 * torch.sqrt((x + 0.15) ** 2 + (y + 0.25) ** 2)  # brighter behind the head
    canvas.image.copy_(_rgb(f, "background") * glow[:, None])


def _draw_body(canvas: _Canvas, f: dict[str, Tensor]) -> None:
    low = canvas.window(-1, 0.2, 1, 1)
    x, y = low.x - 0.25 * f["roll"], low.y
    skin, clothes = _rgb(f, "skin"), _rgb(f, "clothes")
    neck_width = 0.44 * f["face_width"]
    neck = torch.maximum(x.abs() - neck_width - 0.10 * _smoothstep(0.6, 0.95, y), 0.3 - y)
    # The chin casts a soft shadow on the neck.
    shade = 0.90 - 0.28 * _smoothstep(0.86, 0.5, y) - 0.10 * (x / neck_width).clamp(-1, 1)
    low.paint(skin * shade[:, None], low.cover(neck), "neck")

    shoulders = _ellipse(x, y - 1.32, 0.74, 0.60)
    round_neck = _ellipse(x, y - 0.66, 1.28 * neck_width, 0.15)
    v_neck = (x.abs() * 1.05 + (y - 0.98)).clamp_min(-1) * 0.7
    opening = torch.lerp(round_neck, v_neck, ((f["neckline"] + 1) / 2))
    torso = torch.maximum(shoulders, -opening)
    fold = 1.04 - 0.30 * _smoothstep(0.0, 0.75, x.abs()) + 0.10 * _smoothstep(0.4, -0.4, x)
    low.paint(clothes * fold[:, None], low.cover(torso), "clothes")
    seam = low.cover((opening - 0.012).abs() - 0.014) * low.cover(shoulders)
    low.paint(clothes * 0.72, seam)


def _draw_head(head: _Canvas, f: dict[str, Tensor], face: Tensor) -> None:
    a, h, x, y = f["face_width"], f["face_length"], head.x, head.y
    skin = _rgb(f, "skin")
    # Ears slide around the head as it turns; the far one hides behind the face.
    turn = f["yaw"]
    for side in (-1.0, 1.0):
        ear_x = x - side * a * (0.97 - 0.10 * side * turn)
        ear = _ellipse(ear_x, y + 0.0, 0.062 * f["ear_size"], 0.098 * f["ear_size"])
        head.paint(skin * 0.92, head.cover(ear), "ears")
        inner = _ellipse(ear_x, y, 0.032 * f["ear_size"], 0.060 * f["ear_size"])
        head.paint(skin * 0.76, 0.8 * head.cover(inner, 2.0))

    # Light from the upper left on a rounded head, darker towards the rim.
    nx, ny = (x / a).clamp(-1, 1), (y / h).clamp(-1, 1)
    depth = (1 - nx**2 - ny**2).clamp_min(0).sqrt()
    light = 0.84 - 0.10 * nx - 0.07 * ny + 0.17 * depth
    warm = torch.tensor([1.0, 0.965, 0.94], device=x.device)[None, :, None, None]
    rim = (1 - depth)[:, None] ** 3
    head.paint(skin * light[:, None] * torch.lerp(torch.ones_like(warm), warm, rim),
               head.cover(face), "skin")  # fmt: skip


def _draw_features(head: _Canvas, f: dict[str, Tensor], face: Tensor) -> None:
    bounds = (-0.56, -0.42, 0.56, 0.80)
    c, face = head.window(*bounds), head.cut(face, *bounds)
    inside = c.cover(face)
    u, v = _face_coordinates(c, f)
    skin, hair, lip = _rgb(f, "skin"), _rgb(f, "hair"), _rgb(f, "lip")
    side = torch.sign(u)
    out = u.abs() - f["eye_spacing"]  # outward from the middle of each eye
    eye_v = v + 0.055 - f["eye_height"]

    # Cheeks
    cheek = _bump(torch.sqrt((u.abs() - 0.21) ** 2 + (v - 0.125) ** 2), 0.085)
    blush = torch.tensor([1.02, 0.80, 0.78], device=u.device)[None, :, None, None]
    c.paint(skin * blush, 0.55 * cheek * inside)

    _draw_freckles(c, f, u, v, inside)
    _draw_wrinkles(c, f, u, v, out, eye_v, inside)
    _draw_nose(c, f, u, v, inside)
    _draw_eyes(c, f, out, eye_v, side, inside)

    # Brows: an arched stroke that thins outward; anger pulls the inner end down.
    t = out / 0.105
    brow_y = eye_v + 0.122 + f["brow_height"] + f["brow_raise"]
    tilt = f["brow_angle"] * 0.5 + f["brow_slant"] - 0.06
    stroke = (brow_y + tilt * out - 0.018 * (1 - t**2)).abs() - f["brow_thickness"] * (
        1.05 - 0.35 * t
    ).clamp(0.3, 1.3)
    brow = torch.maximum(stroke, (t.abs() - 1) * 0.105)
    brows = torch.lerp(hair * 0.72, skin * 0.40, 0.25)
    brows = torch.lerp(brows, torch.full_like(brows, 0.72), 0.6 * f["wrinkles"][:, None])
    c.paint(brows, c.cover(brow) * inside, "brows")  # age turns brows grey before the hair

    mouth_v = v - 0.245 - f["mouth_height"]
    _draw_beard(c, f, u, v, mouth_v, face, hair)
    _draw_mouth(c, f, u, mouth_v, lip, inside)


def _face_coordinates(canvas: _Canvas, f: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Where on the turned face a pixel lies: u across, v down, both in picture units."""
    a = f["face_width"] * 1.12
    angle = torch.asin((canvas.x / a).clamp(-0.985, 0.985))
    u = a * torch.sin(angle - f["yaw"] * 0.65)
    # Wide faces keep their features in proportion to the width, half-way.
    u = u / (0.5 + 0.5 * f["face_width"] / 0.36)
    return u, canvas.y - f["pitch"]


def _draw_freckles(c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, inside: Tensor) -> None:
    spots = torch.zeros_like(u)
    places = ((0.130, 0.085), (0.205, 0.075), (0.165, 0.140), (0.240, 0.140))
    for place_u, place_v in places:
        distance = torch.sqrt((u.abs() - place_u) ** 2 + (v - place_v) ** 2)
        spots = torch.maximum(spots, c.cover(distance - 0.0230, 1.4))
    color = _rgb(f, "skin") * torch.tensor([0.66, 0.46, 0.36], device=u.device)[None, :, None, None]
    c.paint(color, 0.85 * f["freckles"] * spots * inside)


def _draw_wrinkles(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, out: Tensor, eye_v: Tensor,
    inside: Tensor,
) -> None:  # fmt: skip
    # Hollow cheeks and heavy lower lids: soft, so that age shows in small pictures too.
    hollow = _bump(torch.sqrt((u.abs() - 0.235) ** 2 + ((v - 0.24) * 0.6) ** 2), 0.055)
    lid = _bump(eye_v - 0.075 + 0.3 * out**2 / 0.09, 0.022) * _bump(out, 0.085)
    soft = torch.maximum(0.75 * hollow, lid)
    tone = torch.tensor([0.72, 0.62, 0.60], device=u.device)[None, :, None, None]
    c.paint(_rgb(f, "skin") * tone, 0.75 * f["wrinkles"] * soft * inside)

    lines = torch.zeros_like(u)
    across = (1 - (u / 0.21) ** 2).clamp_min(0).sqrt()
    for height in (-0.225, -0.295):  # forehead
        wave = v - height - 0.012 * torch.cos(u * 9)
        lines = torch.maximum(lines, c.cover(wave.abs() - 0.0135, 1.6) * across)
    # From the nose to the corners of the mouth
    fold_v = (v - 0.19).clamp(-0.075, 0.085)
    fold = (u.abs() - 0.115 - 0.55 * (fold_v + 0.075) + 0.9 * (fold_v + 0.01) ** 2 * 2).abs()
    fold = torch.sqrt(fold**2 + (v - 0.19 - fold_v) ** 2)
    lines = torch.maximum(lines, c.cover(fold - 0.0165, 1.6))
    # Bags under the eyes, crow's feet
    bag = (eye_v - 0.085 + 0.25 * out**2 / 0.09).abs()
    lines = torch.maximum(lines, c.cover(bag - 0.0120, 1.6) * _bump(out, 0.075))
    for slope in (-0.30, 0.25):
        foot = (eye_v - slope * (out - 0.09)).abs() + 20 * (0.115 - out).clamp_min(0)
        foot = foot + 20 * (out - 0.175).clamp_min(0)
        lines = torch.maximum(lines, c.cover(foot - 0.0110, 1.4))
    shadow = torch.tensor([0.56, 0.46, 0.43], device=u.device)[None, :, None, None]
    c.paint(_rgb(f, "skin") * shadow, 0.95 * f["wrinkles"] * lines * inside)


def _draw_nose(c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, inside: Tensor) -> None:
    skin, width = _rgb(f, "skin"), f["nose_width"]
    tip_v = v + 0.055 - f["nose_length"]
    # The turned face shows the nose from its side: the tip moves further than the eyes.
    tip_u = u - 0.055 * f["yaw"] * _smoothstep(-0.16, 0.02, tip_v)
    bridge = _bump(tip_u - 0.45 * width, 0.028) * _bump((tip_v + 0.09).clamp_min(0), 0.05)
    bridge = bridge * _smoothstep(-0.26, -0.10, tip_v)
    c.paint(skin * 0.80, 0.42 * bridge * inside)
    glow = _bump(tip_u + 0.15 * width, 0.6 * width) * _bump(tip_v + 0.02, 0.05)
    c.paint((skin * 1.14).clamp(0, 1), 0.55 * glow * inside)
    tip = _ellipse(tip_u, tip_v, width, 0.042)
    lower = c.cover(tip.abs() - 0.009, 1.5) * _smoothstep(-0.012, 0.018, tip_v)
    c.paint(skin * 0.56, 0.85 * lower * inside)
    if c.mask is not None:
        outline = torch.maximum(
            tip_u.abs() - width * (0.55 + 0.45 * _smoothstep(-0.12, 0, tip_v)), -tip_v - 0.15
        )
        c.mask[(torch.maximum(outline, tip_v - 0.045) < 0) & (inside > 0.5)] = PARTS.index("nose")


def _draw_eyes(
    c: _Canvas, f: dict[str, Tensor], out: Tensor, eye_v: Tensor, side: Tensor, inside: Tensor
) -> None:
    size = f["eye_size"]
    width = 0.092 * size
    y = eye_v + f["eye_slant"] * out
    t = (out / width).clamp(-1, 1)
    lid = (1 - t**2).clamp_min(0)
    upper, lower = 0.060 * size * f["eye_open"] * lid, 0.044 * size * lid
    opening = torch.maximum(-y - upper, y - lower)
    opening = torch.maximum(opening, (out.abs() - width))
    white = torch.tensor([0.97, 0.97, 0.98], device=y.device)[None, :, None, None]
    shade = 1 - 0.28 * _smoothstep(0.2, 1.0, -y / (0.055 * size))
    eye = c.cover(opening) * inside
    c.paint(white * shade[:, None], eye, "eyes")

    # Both eyes look the same way: `out` is mirrored, the gaze is not.
    px, py = out - side * f["gaze_x"], y - f["gaze_y"] + 0.006
    radius = torch.sqrt(px**2 + py**2)
    iris = _rgb(f, "eye")
    c.paint(iris * 0.55, eye * c.cover(radius - 0.0505))
    ring = (0.75 + 0.55 * _smoothstep(-0.03, 0.035, py))[:, None]
    c.paint((iris * ring * 1.12).clamp(0, 1), eye * c.cover(radius - 0.0425))
    c.paint(torch.full_like(iris, 0.05), eye * c.cover(radius - 0.0205))
    glint = torch.sqrt((px * side + 0.016) ** 2 + (py + 0.018) ** 2)
    c.paint(torch.ones_like(iris), 0.95 * c.cover(glint - 0.0115))

    lash = torch.maximum((y + upper).abs() - 0.011, out.abs() - width - 0.006)
    c.paint(torch.full_like(iris, 0.10), c.cover(lash) * inside, "eyes")
    under = torch.maximum((y - lower).abs() - 0.004, out.abs() - 0.8 * width)
    c.paint(_rgb(f, "skin") * 0.55, 0.6 * c.cover(under) * inside)


def _draw_beard(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, v: Tensor, mouth_v: Tensor, face: Tensor,
    hair: Tensor,
) -> None:  # fmt: skip
    # A full beard: the lower face, up the sides to the ears, a mustache, and some length below.
    length = 0.050 + 0.032 * f["beard_length"]
    a, h = f["face_width"], f["face_length"]
    hull = _ellipse(c.x, c.y - 0.45 * h, 0.80 * a, 0.55 * h + length)
    hull = torch.minimum(hull, torch.maximum(face, 0.25 * h - c.y))
    top = mouth_v + 0.055 + 0.25 * (u.abs() - 0.10).clamp_min(0)
    top = top + 0.42 * (u.abs() - 0.24).clamp_min(0) + 0.020 * torch.cos(u * 24) * _bump(u, 0.1)
    beard = torch.maximum(hull, -top)
    hole = _ellipse(u, mouth_v - 0.012 - 0.3 * f["open"], 0.82 * f["mouth_width"],
                    0.036 + 0.62 * f["open"])  # fmt: skip
    beard = torch.maximum(beard, -hole)
    strands = 1 + 0.07 * torch.sin(u * 36 + 2 * torch.sin(v * 9)) * _smoothstep(0.1, 0.4, v)
    light = 0.92 - 0.35 * _smoothstep(0.05, 0.5, u) + 0.10 * _bump(v - 0.42, 0.1)
    c.paint(hair * (strands * light)[:, None], f["beard"] * c.cover(beard, 1.3), "beard")


def _draw_mouth(
    c: _Canvas, f: dict[str, Tensor], u: Tensor, mouth_v: Tensor, lip: Tensor, inside: Tensor
) -> None:
    # An open round mouth is narrower than a smile.
    width = f["mouth_width"] * (1 - 1.6 * f["open"] * (1 - f["teeth"])) * (1 + 1.2 * f["curve"])
    t = (u / width).clamp(-1, 1)
    arch = (1 - t**2).clamp_min(0)
    line = mouth_v - f["curve"] * (0.55 - t**2)
    gap = f["open"] * arch.sqrt()
    line = line - 0.5 * f["open"] * (1 - f["teeth"])  # the jaw drops
    beyond = u.abs() - width

    full = f["lip_fullness"]
    cupid = 1 - 0.28 * _bump(u, 0.028)
    upper = 0.031 * full * (arch**0.8) * cupid + 0.5 * gap
    lower = 0.038 * full * (arch**0.7) + 0.5 * gap
    lips = torch.maximum(torch.maximum(-line - upper, line - lower), beyond)
    shine = 0.94 + 0.22 * _bump(line - 0.5 * gap - 0.020, 0.014) * _bump(u, 0.07)
    c.paint((lip * shine[:, None]).clamp(0, 1), c.cover(lips) * inside, "lips")

    dark = torch.tensor([0.26, 0.05, 0.07], device=u.device)[None, :, None, None]
    hole = torch.maximum(line.abs() - 0.5 * gap + 0.002, beyond + 0.008)
    open_alpha = c.cover(hole) * inside
    c.paint(dark, open_alpha, "mouth")
    tongue = _ellipse(u, line - 0.55 * f["open"], 0.55 * width, 0.42 * f["open"] + 1e-3)
    red = torch.tensor([0.80, 0.33, 0.35], device=u.device)[None, :, None, None]
    c.paint(red, open_alpha * c.cover(tongue) * (1 - f["teeth"]))
    teeth = torch.maximum(hole, line - 0.12 * gap)
    white = torch.tensor([0.96, 0.95, 0.93], device=u.device)[None, :, None, None]
    c.paint(white, c.cover(teeth) * inside * f["teeth"].clamp_min(0.0))
    # The line between closed lips
    closed = torch.maximum((line.abs() - 0.0065), beyond)
    seam = c.cover(closed) * inside * (1 - _smoothstep(0.004, 0.02, f["open"]))
    c.paint(lip * 0.42, 0.9 * seam)


class _Hair:
    """One hair shape for all styles: a hull around the skull with a face opening."""

    def __init__(self, head: _Canvas, f: dict[str, Tensor]):
        self.head, self.f = head, f
        a, h, x, y = f["face_width"], f["face_length"], head.x, head.y
        strip, curl, frizz, spike = (
            f["hair_strip"],
            f["hair_curl"],
            f["hair_frizz"],
            f["hair_spike"],
        )
        # A hat flattens what lies under it.
        volume = torch.lerp(f["hair_volume"], f["hair_volume"].clamp(max=0.05), f["hat"])
        shift = 0.10 * f["yaw"]  # the mass of hair turns against the face
        self.x = x + 0.35 * a * shift
        width = torch.lerp(a + f["hair_side"], 0.150 + 0 * a, strip)
        # The crown of the hull is a superellipse around the temples, its lower end is cut.
        crown_y = y + 0.10
        self.angle = torch.atan2(self.x, -crown_y)  # 0 points up
        # Few and bold: what is finer than a few pixels at 64 px, small networks only blur.
        lobes = torch.cos(self.angle * (10 + 6 * frizz))
        wave = 0.036 * curl * (1 - 0.35 * frizz) * lobes
        teeth = (self.angle * 8 / math.pi + 0.35).frac().sub(0.5).abs().mul(4).sub(1)
        upper = _smoothstep(1.75, 1.15, self.angle.abs())
        jag = 0.075 * spike * teeth * upper * (1 - strip)
        height = h - 0.10 + volume
        below = (crown_y - crown_y.clamp(max=0.0)).clamp_min(0)  # how far under the temples
        flare = 1 + 0.10 * f["hair_wrap"] * _smoothstep(0.0, 0.6, below)
        above = crown_y.clamp(max=0.0)
        hull = _ellipse(self.x / flare, above, width, height) - wave - jag
        # A mohawk is a fin: it narrows upwards and its edge is toothed.
        fin_teeth = 0.014 * strip * torch.sin(self.angle * 18)
        hull = hull + strip * 0.05 * _smoothstep(-0.35, -0.85, crown_y) - fin_teeth
        end = y - f["hair_length"] - 0.024 * curl * torch.cos(self.x * 18)
        rounded = 0.10 * f["hair_wrap"] * (self.x / width) ** 2
        self.hull = torch.maximum(hull, end + rounded)
        # For frizzy round hair the hull closes below as an ellipse instead of a cut.
        ball = _ellipse(self.x, crown_y - 0.05, width, height) - wave
        self.hull = torch.lerp(self.hull, torch.maximum(ball, end), frizz)

        strands = torch.sin(self.angle * 18 + 1.2 * torch.sin(5 * y + 1))
        cell = 16 + 6 * frizz
        curls = torch.sin(cell * self.x) * torch.sin(cell * y + 1)
        texture = torch.lerp(0.06 * strands, 0.13 * curls, curl.clamp(0, 1))
        radius = torch.sqrt((self.x / width) ** 2 + (crown_y / height) ** 2)
        gloss = _bump(radius - 0.80, 0.13) * _bump(self.angle + 0.45, 0.75) * (1 - 0.6 * curl)
        light = 0.86 - 0.16 * (self.x / width).clamp(-1, 1) - 0.10 * (crown_y / height).clamp(-1, 1)
        self.color = _rgb(f, "hair") * (light + texture)[:, None] + 0.16 * gloss[:, None]
        self.alpha = f["hair_cover"]

    def draw_back(self) -> None:
        """The mass of hair behind head and neck."""
        back = self.head.cover(self.hull) * self.alpha
        self.head.paint((self.color * 0.72).clamp(0, 1), back, "hair")

    def draw_locks(self) -> None:
        """Long hair falls over the shoulders on both sides of the neck."""
        f = self.f
        inner = 0.60 * f["face_width"] - self.x.abs()
        front = torch.maximum(self.hull, torch.maximum(inner, 0.15 - self.head.y))
        alpha = self.head.cover(front, 1.5) * self.alpha * f["hair_wrap"]
        self.head.paint(self.color.clamp(0, 1), alpha, "hair")

    def draw_front(self) -> None:
        """Hair on top of the head and beside the face, down to the hairline."""
        f, x, y = self.f, self.head.x, self.head.y
        a, h = f["face_width"], f["face_length"]
        u = x - 0.42 * a * f["yaw"]
        wrap = f["hair_wrap"]
        half = a * (1.02 - 0.16 * wrap)  # how much of the width of the face stays open
        hairline = -0.66 * h + f["hair_fringe"]
        parted = 0.055 * f["hair_part"].tanh() * (u / a) * (1 - f["hair_curl"])
        jagged = 0.018 * torch.sin(u * 24 + 1) * (0.4 + f["hair_spike"] + 0.7 * f["hair_curl"])
        arc = 0.20 * (1 - 0.2 * wrap) * (u / half).abs().clamp(max=1.2) ** 3
        top = y - hairline - arc - parted - jagged
        opening = torch.maximum(-top, u.abs() - half)  # negative where the face shows
        # Short styles leave the ears and cheeks free below the temples.
        free = torch.maximum(0.02 - y, -1 + 0 * y)
        opening = torch.where(wrap < 0.3, torch.minimum(opening, free), opening)
        # The fin of a mohawk runs from the hairline over the crown.
        front = torch.maximum(self.hull, -opening)
        self.head.paint(self.color.clamp(0, 1), self.head.cover(front) * self.alpha, "hair")
        shadow = _bump(top.clamp_min(0), 0.045) * self.head.cover(opening)
        under = self.head.cover(torch.maximum(self.hull, opening)) * shadow * self.alpha
        skin_only = self.head.cover(_ellipse(x, y, a, h)) * under
        self.head.paint(self.head.image * 0.72, 0.6 * skin_only * (1 - f["hair_strip"]))


def _draw_glasses(head: _Canvas, f: dict[str, Tensor]) -> None:
    c = head.window(-0.62, -0.40, 0.62, 0.42)
    u, v = _face_coordinates(c, f)
    out = u.abs() - f["eye_spacing"]
    y = v + 0.050 - f["eye_height"]
    square = (f["glasses_shape"] + 1) / 2
    width, height = 0.140, 0.128 - 0.022 * square
    round_rim = _ellipse(out, y, width, height)
    corner = 0.04
    qx, qy = out.abs() - width + corner, y.abs() - height + corner
    box_rim = torch.sqrt(qx.clamp_min(0) ** 2 + qy.clamp_min(0) ** 2) - corner
    box_rim = box_rim + torch.maximum(qx, qy).clamp(max=0)
    rim = torch.lerp(round_rim, box_rim, square)
    frame, shown = _rgb(f, "frame"), f["glasses"]
    lens = c.cover(rim) * shown
    c.paint(torch.full_like(frame, 0.92), 0.13 * lens)
    streak = c.cover((out - 0.6 * y + 0.055).abs() - 0.020, 2) * lens
    c.paint(torch.ones_like(frame), 0.28 * streak)
    stroke = c.cover(rim.abs() - 0.0185)
    bridge = c.cover(
        torch.maximum((y + 0.030 - 0.5 * u**2).abs() - 0.012, u.abs() - f["eye_spacing"] + width)
    )
    # Temples run along the head to the ears.
    reach = torch.maximum(width - out, c.x.abs() - f["face_width"] * 1.0)
    temple = c.cover(torch.maximum((y + 0.035).abs() - 0.013, reach))
    alpha = torch.maximum(torch.maximum(stroke, bridge), temple) * shown
    c.paint(frame, alpha, "glasses")


def _draw_hat(head: _Canvas, f: dict[str, Tensor]) -> None:
    a, h, shown = f["face_width"], f["face_length"], f["hat"]
    x, y = head.x + 0.02 * f["yaw"], head.y
    brim_y = -0.52 * h + 0.02 * (x / a) ** 2 * 2
    width = a * 1.10 + 0.30 * f["hair_side"]
    height = 0.78 * h * (1 + 0.10 * f["hat_height"])
    color = _rgb(f, "hat")
    dome = torch.maximum(_ellipse(x, y + 0.40 * h, width, height), y - brim_y)
    light = 0.98 - 0.22 * (x / width).clamp(-1, 1) - 0.10 * _smoothstep(-0.6, -0.2, y)
    ribs = 1 + 0.07 * torch.cos(x / width * 13)
    pom = torch.sqrt(x**2 + (y + 0.40 * h + height + 0.015) ** 2) - 0.098
    fluff = pom - 0.010 * torch.cos(torch.atan2(x, y + 0.40 * h + height) * 8)
    head.paint((color * 1.25).clamp(0, 1) * (light - 2.2 * (pom + 0.04))[:, None].clamp(0.6, 1.2),
               head.cover(fluff) * shown, "hat")  # fmt: skip
    head.paint((color * (light * ribs)[:, None]).clamp(0, 1), head.cover(dome) * shown, "hat")
    band_x = x.abs() - width * 1.035
    band = torch.maximum((y - brim_y + 0.035).abs() - 0.062, band_x)
    fold = 1 + 0.10 * torch.cos(x / width * 20)
    head.paint(
        (color * 0.74 * (light * fold)[:, None]).clamp(0, 1), head.cover(band) * shown, "hat"
    )
