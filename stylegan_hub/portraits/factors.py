"""The factors of a portrait: the numbers from which the renderer makes its pixels.

Each factor is one number per portrait, `[n]`. There are three groups: coarse (pose, face and hair
shape, hat, glasses), medium (features and expression) and fine (colors). The layers of the bundled
generator are meant to divide the work in the same way.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from stylegan_hub.portraits.attributes import ATTRIBUTES, Portraits, sample

# Each hair style is a point in one continuous shape space, so that styles morph into each other.
#   volume: height above the skull; side: width beyond the skull; length: lowest point (y down);
#   strip: 0 normal .. 1 mohawk; curl: waviness of outline and texture; frizz: fineness of curls;
#   fringe: how far hair falls over the forehead; spike: jaggedness; cover: 0 bald .. 1 hair;
#   wrap: how far hair hangs in front of the cheeks and ears.
_HAIR_SHAPE = ("volume", "side", "length", "strip", "curl", "frizz", "fringe", "spike", "cover",
               "wrap")  # fmt: skip
_HAIR: dict[str, tuple[float, ...]] = {
    #          volume side  length strip curl frizz fringe spike cover wrap
    "bald":   (0.00, 0.00, -0.10, 0.0, 0.0, 0.0, 0.00, 0.0, 0.0, 0.0),
    "short":  (0.100, 0.025, 0.03, 0.0, 0.0, 0.0, 0.03, 0.3, 1.0, 0.0),
    "spiky":  (0.12, 0.05, 0.00, 0.0, 0.0, 0.0, 0.03, 1.0, 1.0, 0.0),
    "mohawk": (0.25, 0.00, -0.22, 1.0, 0.0, 0.0, 0.00, 0.6, 1.0, 0.0),
    "bob":    (0.10, 0.085, 0.34, 0.0, 0.0, 0.0, 0.09, 0.0, 1.0, 1.0),
    "long":   (0.09, 0.075, 0.95, 0.0, 0.0, 0.0, -0.01, 0.0, 1.0, 1.0),
    "curly":  (0.15, 0.15, 0.36, 0.0, 1.0, 0.0, 0.06, 0.0, 1.0, 1.0),
    "afro":   (0.25, 0.25, 0.16, 0.0, 0.6, 1.0, 0.02, 0.0, 1.0, 1.0),
}  # fmt: skip

_HAIR_RGB = {
    "black": (0.13, 0.12, 0.15), "brown": (0.42, 0.25, 0.16), "blonde": (0.93, 0.75, 0.42),
    "red": (0.74, 0.30, 0.15), "grey": (0.58, 0.60, 0.64), "white": (0.88, 0.88, 0.88),
    "purple": (0.50, 0.28, 0.72), "pink": (0.95, 0.52, 0.68), "green": (0.30, 0.64, 0.42),
}  # fmt: skip
_SKIN_RGB = {"light": (0.99, 0.83, 0.73), "medium": (0.83, 0.60, 0.44), "dark": (0.52, 0.33, 0.24)}
_EYE_RGB = {
    "brown": (0.42, 0.23, 0.11), "blue": (0.20, 0.50, 0.86), "green": (0.25, 0.60, 0.30),
    "grey": (0.44, 0.50, 0.56),
}  # fmt: skip
_BACKGROUND_RGB = {
    "blue": (0.58, 0.75, 0.92), "green": (0.62, 0.82, 0.66), "yellow": (0.97, 0.87, 0.58),
    "pink": (0.97, 0.74, 0.76), "purple": (0.73, 0.66, 0.90), "grey": (0.77, 0.78, 0.79),
}  # fmt: skip
_CLOTHES_RGB = {
    "red": (0.82, 0.26, 0.25), "blue": (0.22, 0.40, 0.72), "green": (0.22, 0.56, 0.42),
    "yellow": (0.94, 0.74, 0.26), "purple": (0.52, 0.32, 0.66), "black": (0.17, 0.17, 0.20),
    "white": (0.94, 0.93, 0.91),
}  # fmt: skip

#               curve   open  teeth  brow_angle brow_raise eye_open
_EXPRESSION = {
    "neutral":   (0.014, 0.00, 0.0, 0.00, 0.000, 1.00),
    "smiling":   (0.075, 0.065, 1.0, -0.04, 0.012, 0.90),
    "sad":       (-0.042, 0.00, 0.0, -0.36, 0.012, 0.84),
    "angry":     (-0.030, 0.012, 0.0, 0.44, -0.026, 0.84),
    "surprised": (-0.010, 0.105, 0.0, -0.10, 0.045, 1.22),
}  # fmt: skip

COARSE: tuple[str, ...] = (
    "yaw", "pitch", "roll", "face_width", "face_length", "jaw", "chin", "ear_size",
    *(f"hair_{name}" for name in _HAIR_SHAPE), "hair_part",
    "hat", "hat_height", "glasses", "glasses_shape", "earrings", "neckline",
)  # fmt: skip
MEDIUM: tuple[str, ...] = (
    "gaze_x", "gaze_y", "eye_spacing", "eye_size", "eye_slant", "eye_height", "nose_width",
    "nose_length", "mouth_width", "mouth_height", "lip_fullness", "brow_thickness",
    "brow_height", "brow_slant", "curve", "open", "teeth", "brow_angle", "brow_raise", "eye_open",
    "beard", "beard_length", "mustache", "wrinkles", "freckles",
)  # fmt: skip
COLORS: tuple[str, ...] = ("background", "clothes", "skin", "hair", "eye", "lip", "hat", "frame")
FINE: tuple[str, ...] = tuple(f"{name}_{c}" for name in COLORS for c in "rgb")
FACTORS: tuple[str, ...] = (*COARSE, *MEDIUM, *FINE)

_BLENDED = (COARSE, MEDIUM, FINE)  # groups of factors that `blends` may move independently

# Factors of things that are either present or absent. Between two portraits, such a thing appears
# whole, past the middle of the way, so that rare things have disappeared before the average of all
# portraits is reached.
PRESENCE: tuple[str, ...] = (
    "hair_cover", "hair_wrap", "hat", "glasses", "earrings", "beard", "mustache", "teeth",
)  # fmt: skip
_APPEARS = (0.50, 0.58)


def factors(portraits: Portraits) -> dict[str, Tensor]:
    """All numbers that the renderer needs, each `[n]`, named by `FACTORS`."""
    p, labels = portraits, portraits.labels
    like = p.gaussians

    def pick(attribute: str, table: Mapping[str, tuple[float, ...]]) -> Tensor:
        rows = torch.tensor([table[v] for v in ATTRIBUTES[attribute]]).to(like)
        return rows[labels[attribute]]

    def step(attribute: str, low: float, high: float, fill: float = 0.7) -> Tensor:
        """An ordered label as a number, in equal steps with gaps that keep the labels distinct."""
        count = len(ATTRIBUTES[attribute])
        place = (labels[attribute] + 0.5 + fill * (p.within_label(attribute) - 0.5)) / count
        return low + (high - low) * place

    def normal(name: str) -> Tensor:
        return p.gaussian(name).clamp(-2.2, 2.2)

    def flag(attribute: str) -> Tensor:
        return labels[attribute].to(like)

    f: dict[str, Tensor] = {}
    f["yaw"] = step("pose", -0.42, 0.42)
    f["pitch"] = 0.015 * normal("pitch")
    f["roll"] = 0.035 * normal("roll")
    f["face_width"] = step("face_width", 0.305, 0.405)
    f["face_length"] = 0.425 + 0.014 * normal("face_length")
    f["jaw"] = 0.13 + 0.05 * normal("jaw")
    f["chin"] = 0.5 * normal("chin")
    f["ear_size"] = 1.0 + 0.12 * normal("ear_size")

    hair = pick("hair_style", _HAIR)
    for column, name in enumerate(_HAIR_SHAPE):
        f[f"hair_{name}"] = hair[:, column]
    cover = f["hair_cover"]
    f["hair_volume"] = f["hair_volume"] * (1 + 0.13 * normal("hair_volume"))
    f["hair_side"] = f["hair_side"] * (1 + 0.13 * normal("hair_volume"))
    f["hair_length"] = f["hair_length"] + 0.035 * normal("hair_length") * f["hair_wrap"]
    f["hair_part"] = normal("hair_part") * cover

    f["hat"] = flag("hat")
    f["hat_height"] = 0.5 * normal("hat_height") * f["hat"]
    f["glasses"] = flag("glasses")
    f["earrings"] = flag("earrings")
    f["glasses_shape"] = torch.tanh(2.0 * normal("glasses_shape")) * f["glasses"]
    f["neckline"] = torch.tanh(2.0 * normal("neckline"))

    f["gaze_x"] = step("gaze", -0.040, 0.040, fill=0.4)
    f["gaze_y"] = 0.006 * normal("gaze_y")
    f["eye_spacing"] = 0.164 + 0.008 * normal("eye_spacing")
    f["eye_size"] = 1.0 + 0.06 * normal("eye_size")
    f["eye_slant"] = 0.10 * normal("eye_slant")
    f["eye_height"] = 0.012 * normal("eye_height")
    f["nose_width"] = 0.055 + 0.007 * normal("nose_width")
    f["nose_length"] = 0.145 + 0.013 * normal("nose_length")
    f["mouth_width"] = 0.125 + 0.011 * normal("mouth_width")
    f["mouth_height"] = 0.012 * normal("mouth_height")
    f["lip_fullness"] = 0.95 + 0.16 * normal("lip_fullness")
    f["brow_thickness"] = 0.017 + 0.0028 * normal("brow_thickness")
    f["brow_height"] = 0.010 * normal("brow_height")
    f["brow_slant"] = 0.07 * normal("brow_slant")
    expression = pick("expression", _EXPRESSION)
    strength = 1 + 0.15 * normal("expression_strength")
    for column, name in enumerate(("curve", "open", "teeth", "brow_angle", "brow_raise")):
        f[name] = expression[:, column] * strength
    f["teeth"] = expression[:, 2]  # shown or not
    # Half of the smiles show teeth, the others keep the mouth closed.
    smiling = labels["expression"] == ATTRIBUTES["expression"].index("smiling")
    laughs = torch.sigmoid(6 * normal("mouth_open"))
    f["open"] = torch.where(smiling, f["open"] * laughs, f["open"] * (0.92 + 0.16 * laughs))
    # Closed lids meet, whatever the expression.
    f["eye_open"] = (1 + (expression[:, 5] - 1) * strength) * (1 - flag("eyes"))
    f["beard"] = flag("beard")
    f["mustache"] = flag("mustache")
    f["beard_length"] = torch.tanh(normal("beard_length")) * f["beard"]
    f["wrinkles"] = step("age", -0.35, 1.15, fill=0.4).clamp(0, 1)
    f["freckles"] = flag("freckles") * (0.9 + 0.1 * torch.tanh(normal("eye_tint")))

    def color(name: str, rgb: Tensor, tint: str, amount: float) -> Tensor:
        """A label's color, made a little lighter or darker, and warmer or cooler."""
        t = torch.tanh(normal(tint))[:, None]
        warm = torch.tensor([1.0, 0.0, -1.0]).to(like)
        rgb = rgb * (1 + amount * t) + 0.35 * amount * t * warm
        f.update({f"{name}_{c}": rgb[:, i].clamp(0.02, 1) for i, c in enumerate("rgb")})
        return rgb

    light = (0.06 * normal("background_light"))[:, None]
    color("background", pick("background", _BACKGROUND_RGB) + light, "background_tint", 0.07)
    color("clothes", pick("clothes", _CLOTHES_RGB), "clothes_tint", 0.10)
    skin_shade = 1 - 0.16 * (p.within_label("skin")[:, None] - 0.5)
    skin = color("skin", pick("skin", _SKIN_RGB) * skin_shade, "skin_tint", 0.04)
    hair_light = (0.03 * normal("hair_light"))[:, None]
    color("hair", pick("hair_color", _HAIR_RGB) + hair_light, "hair_tint", 0.08)
    color("eye", pick("eye_color", _EYE_RGB), "eye_tint", 0.10)

    natural = skin * torch.tensor([0.86, 0.62, 0.60]).to(like)
    hue = torch.tanh(normal("lip_tint"))[:, None]
    painted = torch.tensor([0.84, 0.09, 0.20]).to(like) + hue * torch.tensor([0.05, 0.02, 0.09]).to(
        like
    )
    lip = torch.lerp(natural, painted, flag("lipstick")[:, None])
    f.update({f"lip_{c}": lip[:, i] for i, c in enumerate("rgb")})

    angle = 2 * torch.pi * torch.special.ndtr(normal("hat_hue"))
    for i, c in enumerate("rgb"):
        f[f"hat_{c}"] = 0.48 + 0.27 * torch.cos(angle - 2 * torch.pi * i / 3)
    shade = torch.tanh(1.5 * normal("glasses_shade"))
    dark, warm_frame = torch.tensor([0.10, 0.10, 0.12]), torch.tensor([0.42, 0.16, 0.10])
    frame = torch.lerp(
        dark.to(like).expand(len(p), 3),
        warm_frame.to(like).expand(len(p), 3),
        ((shade + 1) / 2)[:, None],
    )
    f.update({f"frame_{c}": frame[:, i] for i, c in enumerate("rgb")})
    return f


def factor_matrix(portraits: Portraits) -> Tensor:
    """The factors `[n, len(FACTORS)]` in their natural units; `FACTORS` names the columns."""
    values = factors(portraits)
    return torch.stack([values[name] for name in FACTORS], dim=1)


def crisp(numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Interpolated factors, with everything in `PRESENCE` moved to 0 or 1.

    The factors of actual portraits are unchanged.
    """
    low, high = _APPEARS
    shown = dict(numbers)
    for name in PRESENCE:
        t = ((shown[name] - low) / (high - low)).clamp(0, 1)
        shown[name] = t * t * (3 - 2 * t)
    return shown


class FactorStatistics(NamedTuple):
    """Statistics of the factors of many portraits, each `[len(FACTORS)]`."""

    mean: Tensor
    std: Tensor
    lowest: Tensor
    highest: Tensor


@functools.cache
def factor_statistics() -> FactorStatistics:
    """The statistics of 4,000 portraits."""
    table = factor_matrix(sample(range(4000)))
    return FactorStatistics(
        table.mean(0), table.std(0).clamp_min(1e-3), table.amin(0), table.amax(0)
    )


def blends(seeds: Sequence[int]) -> Tensor:
    """Factors of portraits and of blends, which lie between or beyond them, `[n, len(FACTORS)]`.

    An even seed gives the portrait of that seed. An odd seed gives a blend: its portrait moves
    towards the average of all portraits (or a little away from it), or towards another portrait,
    either as a whole or with a different share for each group of factors. A generator that has been
    trained on renders of blends knows what truncation, interpolation and edits should look like.
    """
    mean, _, lowest, highest = factor_statistics()
    values = factor_matrix(sample(seeds))
    for row, seed in enumerate(seeds):
        if seed % 2 == 0:
            continue
        generator = torch.Generator().manual_seed(seed)
        kind, place = torch.rand(2, generator=generator).tolist()
        if kind < 0.45:
            end, shares = mean, torch.full_like(mean, -0.25 + 1.40 * place)  # 0: unchanged
        else:
            other = int(torch.randint(2**40, (1,), generator=generator))
            end, shares = factor_matrix(sample([other]))[0], torch.full_like(mean, place)
        if kind > 0.75:
            groups = torch.rand(len(_BLENDED), generator=generator)
            shares = torch.cat([s.expand(len(g)) for s, g in zip(groups, _BLENDED, strict=True)])
        values[row] += shares * (end - values[row])
    return values.clamp(lowest, highest)
