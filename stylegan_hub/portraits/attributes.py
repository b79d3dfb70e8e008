"""The attributes of a portrait, which have exact values, and the Gaussian numbers behind them.

A portrait is a vector of named standard Gaussian numbers. Some of them *choose* the labels (hair
style, expression, ...); the others vary the face within the chosen labels. Labels can be replaced
afterwards while the numbers stay the same, which gives counterfactual pairs: the same face with and
without glasses. These pairs are the ground truth against which edits are judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "hair_style": ("bald", "short", "spiky", "mohawk", "bob", "long", "curly", "afro"),
    "hair_color": ("black", "brown", "blonde", "red", "grey", "white", "purple", "pink", "green"),
    "skin": ("light", "medium", "dark"),
    "beard": ("no", "yes"),
    "mustache": ("no", "yes"),
    "glasses": ("no", "yes"),
    "hat": ("no", "yes"),
    "earrings": ("no", "yes"),
    "expression": ("neutral", "smiling", "sad", "angry", "surprised"),
    "eyes": ("open", "closed"),
    "eye_color": ("brown", "blue", "green", "grey"),
    "lipstick": ("no", "yes"),
    "freckles": ("no", "yes"),
    "age": ("young", "middle-aged", "old"),
    "face_width": ("narrow", "average", "wide"),
    "pose": ("left", "front", "right"),  # where the face is turned, as the viewer sees it
    "gaze": ("left", "ahead", "right"),  # where the eyes look, as the viewer sees it
    "background": ("blue", "green", "yellow", "pink", "purple", "grey"),
    "clothes": ("red", "blue", "green", "yellow", "purple", "black", "white"),
}

# How often each value occurs; the mix is friendly. Attributes that are not listed are uniform.
_FREQUENCIES: dict[str, tuple[float, ...]] = {
    "hair_style": (0.10, 0.18, 0.10, 0.07, 0.14, 0.15, 0.14, 0.12),
    "hair_color": (0.16, 0.20, 0.16, 0.14, 0.09, 0.07, 0.06, 0.06, 0.06),
    "beard": (0.80, 0.20),
    "mustache": (0.87, 0.13),
    "glasses": (0.72, 0.28),
    "hat": (0.78, 0.22),
    "earrings": (0.76, 0.24),
    "expression": (0.35, 0.35, 0.10, 0.10, 0.10),
    "eyes": (0.93, 0.07),
    "lipstick": (0.76, 0.24),
    "freckles": (0.78, 0.22),
    "age": (0.52, 0.28, 0.20),
    "pose": (0.3, 0.4, 0.3),
    "gaze": (0.2, 0.6, 0.2),
}

_MUSTACHE_WITH_BEARD, _LIPSTICK_WITH_BEARD = 0.65, 0.06

# The numbers that define an identity: the face geometry, which an edit should keep.
IDENTITY_GAUSSIANS: tuple[str, ...] = (
    "face_width", "face_length", "jaw", "chin", "eye_spacing", "eye_size", "eye_slant",
    "eye_height", "nose_width", "nose_length", "mouth_width", "mouth_height", "lip_fullness",
    "brow_thickness", "brow_height", "brow_slant", "ear_size",
)  # fmt: skip

# The numbers that vary a picture within its labels: shades, lengths, the tilt of the head.
_VARIATION_GAUSSIANS: tuple[str, ...] = (
    "hair_volume", "hair_length", "hair_part", "hair_tint", "hair_light", "skin_tint",
    "beard_length", "glasses_shape", "glasses_shade", "hat_hue", "hat_height",
    "expression_strength", "mouth_open", "eye_tint", "lip_tint", "pitch", "roll", "gaze_y",
    "background_tint", "background_light", "clothes_tint", "neckline",
)  # fmt: skip

_CHOOSER_GAUSSIANS: tuple[str, ...] = (
    *(name for name in ATTRIBUTES if name not in IDENTITY_GAUSSIANS),
    "character",
)

GAUSSIANS: tuple[str, ...] = (*IDENTITY_GAUSSIANS, *_VARIATION_GAUSSIANS, *_CHOOSER_GAUSSIANS)
NUM_GAUSSIANS = len(GAUSSIANS)

# Named characters stand in for the celebrities of the papers. Their labels and geometry are fixed.
_CHARACTER_LABELS: dict[str, dict[str, str]] = {
    "Captain Otto": dict(
        hair_style="short", hair_color="grey", skin="light", beard="yes", glasses="no",
        hat="yes", eye_color="blue", lipstick="no", freckles="no", age="old",
        face_width="wide", clothes="blue", mustache="yes",
        earrings="no", eyes="open",
    ),
    "Nana Pearl": dict(
        hair_style="bob", hair_color="grey", skin="dark", beard="no", glasses="yes",
        hat="no", eye_color="brown", lipstick="yes", freckles="no", age="old",
        face_width="average", clothes="purple", mustache="no",
        earrings="yes", eyes="open",
    ),
    "Milo": dict(
        hair_style="mohawk", hair_color="red", skin="light", beard="no", glasses="no",
        hat="no", eye_color="green", lipstick="no", freckles="yes", age="young",
        face_width="narrow", clothes="black", mustache="no",
        earrings="yes", eyes="open",
    ),
    "Zuri": dict(
        hair_style="afro", hair_color="black", skin="dark", beard="no", glasses="no",
        hat="no", eye_color="brown", lipstick="yes", freckles="no", age="young",
        face_width="average", clothes="yellow", mustache="no",
        earrings="yes", eyes="open",
    ),
    "Ivy": dict(
        hair_style="long", hair_color="purple", skin="light", beard="no", glasses="yes",
        hat="no", eye_color="green", lipstick="no", freckles="yes", age="young",
        face_width="narrow", clothes="green", mustache="no",
        earrings="no", eyes="open",
    ),
    "Professor Finch": dict(
        hair_style="bald", hair_color="brown", skin="medium", beard="yes", glasses="yes",
        hat="no", eye_color="grey", lipstick="no", freckles="no", age="middle-aged",
        face_width="narrow", clothes="white", mustache="yes",
        earrings="no", eyes="open",
    ),
}  # fmt: skip
CHARACTERS: tuple[str, ...] = tuple(_CHARACTER_LABELS)
_CHARACTER_SHARE = 0.06  # of all sampled portraits
_MAX_SEED = 2**62

# A hat hides these styles completely, so a sampled portrait never has both.
_HIDDEN_BY_HAT = ("spiky", "mohawk")


@dataclass(frozen=True)
class Portraits:
    """A batch of n portraits.

    Attributes:
        gaussians: `[n, NUM_GAUSSIANS]` float32, columns named by `GAUSSIANS`.
        labels: for every attribute an int64 `[n]` index into `ATTRIBUTES[name]`.
        character: int64 `[n]` index into `CHARACTERS`, or -1 if it is not a named character.
        identity: int64 `[n]`; equal numbers mean the same face geometry.
    """

    gaussians: Tensor
    labels: dict[str, Tensor]
    character: Tensor
    identity: Tensor

    def __len__(self) -> int:
        return self.gaussians.shape[0]

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Portraits:
        if not isinstance(index, slice | Tensor):
            index = torch.as_tensor(index)
        return Portraits(
            self.gaussians[index],
            {name: values[index] for name, values in self.labels.items()},
            self.character[index],
            self.identity[index],
        )

    def gaussian(self, name: str) -> Tensor:
        """One named Gaussian number, `[n]`."""
        return self.gaussians[:, GAUSSIANS.index(name)]

    def within_label(self, name: str) -> Tensor:
        """The position of each portrait within the range of its label, `[n]`, uniform in [0, 1]."""
        share = _to_uniform(self.gaussian(name))
        edges = _edges(name).to(share)
        bucket = torch.bucketize(share, edges[1:-1])
        return (share - edges[bucket]) / (edges[bucket + 1] - edges[bucket])

    def choosing_gaussians(self) -> Float[Tensor, "n gaussians"]:
        """The numbers, moved where needed so that they choose the portraits' labels.

        Labels that were replaced, and those of named characters, are then in the numbers too.
        """
        numbers = self.gaussians.clone()
        numbers[:, GAUSSIANS.index("character")] = 0  # none of the named ones
        for _ in range(2):  # some labels depend on others, such as lipstick on the beard
            chosen = from_gaussians(numbers).labels
            for name, labels in self.labels.items():
                edges = _edges(name).to(numbers)
                low, high = edges[labels], edges[labels + 1]
                place = low + self.within_label(name) * (high - low)
                moved = torch.special.ndtri(place.clamp(1e-3, 1 - 1e-3))
                column = GAUSSIANS.index(name)
                numbers[:, column] = torch.where(chosen[name] == labels, numbers[:, column], moved)
        return numbers

    def label_names(self, index: int) -> dict[str, str]:
        """The labels of portrait `index` as words, for instance `{"hair_style": "afro", ...}`."""
        return {name: ATTRIBUTES[name][int(v[index])] for name, v in self.labels.items()}

    def with_labels(self, **labels: str | Tensor) -> Portraits:
        """The same portraits with some labels replaced, as a perfect edit would change them.

        Args:
            labels: for each attribute name, one value as a word (for all portraits) or an int64
                `[n]` tensor of indices.

        Raises:
            ValueError: an attribute or a value is unknown.
        """
        changed = dict(self.labels)
        for name, value in labels.items():
            if isinstance(value, str):
                value = torch.full_like(self.character, label_index(name, value))
            elif name not in ATTRIBUTES:
                label_index(name, "")  # raises with the list of attributes
            changed[name] = value
        return replace(self, labels=changed, character=torch.full_like(self.character, -1))

    def to(self, device: torch.device | str) -> Portraits:
        """The same batch on another device."""
        return Portraits(
            self.gaussians.to(device),
            {name: values.to(device) for name, values in self.labels.items()},
            self.character.to(device),
            self.identity.to(device),
        )


def label_index(attribute: str, value: str) -> int:
    """Index of `value` among the values of `attribute`.

    Raises:
        ValueError: the attribute or the value is unknown; the message lists the known ones.
    """
    if attribute not in ATTRIBUTES:
        raise ValueError(
            f"Unknown attribute {attribute!r}; a portrait has: {', '.join(ATTRIBUTES)}."
        )
    if value not in ATTRIBUTES[attribute]:
        raise ValueError(
            f"Unknown value {value!r} of {attribute!r}; choose one of: "
            f"{', '.join(ATTRIBUTES[attribute])}."
        )
    return ATTRIBUTES[attribute].index(value)


def applicable(labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whether each label is visible in the picture, bool `[n]` per attribute.

    A bald head shows no hair color, a hat hides spikes and a mohawk, and closed eyes hide their
    color and their gaze.
    """
    seen = {name: torch.ones_like(values, dtype=torch.bool) for name, values in labels.items()}
    style = labels["hair_style"]
    seen["hair_color"] = style != label_index("hair_style", "bald")
    hidden = torch.zeros_like(seen["hair_style"])
    for value in _HIDDEN_BY_HAT:
        hidden |= style == label_index("hair_style", value)
    wears_hat = labels["hat"] == label_index("hat", "yes")
    seen["hair_style"] = ~(hidden & wears_hat)
    if "eyes" in labels:  # older attribute readers do not have this attribute
        are_open = labels["eyes"] == label_index("eyes", "open")
        seen["eye_color"], seen["gaze"] = are_open, are_open.clone()
    return seen


def sample(seeds: Sequence[int], identities: Sequence[int] | None = None) -> Portraits:
    """One portrait per seed; the same seed always gives the same portrait.

    Args:
        seeds: integers in [0, 2**62).
        identities: one integer per seed; equal ones share the face geometry. By default, every
            seed has an identity of its own.

    Raises:
        ValueError: a seed is out of range, or the numbers of seeds and identities differ.
    """
    identities = list(seeds) if identities is None else list(identities)
    if len(identities) != len(seeds):
        raise ValueError(
            f"Got {len(seeds)} seeds and {len(identities)} identities; give one identity per seed."
        )
    split = len(IDENTITY_GAUSSIANS)
    rows = []
    for seed, identity in zip(seeds, identities, strict=True):
        for number in (seed, identity):
            if not 0 <= number < _MAX_SEED:
                raise ValueError(f"Got seed {number}; seeds are integers from 0 to 2**62 - 1.")
        # Odd and even streams keep the geometry independent of the rest when the numbers are equal.
        geometry = torch.randn(split, generator=torch.Generator().manual_seed(2 * identity + 1))
        rest = torch.randn(NUM_GAUSSIANS - split, generator=torch.Generator().manual_seed(2 * seed))
        rows.append(torch.cat([geometry, rest]))
    gaussians = torch.stack(rows) if rows else torch.zeros(0, NUM_GAUSSIANS)
    return from_gaussians(gaussians, torch.tensor(identities, dtype=torch.int64))


def from_gaussians(gaussians: Tensor, identity: Tensor | None = None) -> Portraits:
    """Portraits from their Gaussian numbers `[n, NUM_GAUSSIANS]`; `identity` is int64 `[n]`.

    Each label is the bucket into which its choosing number falls. The upper tail of the number
    `character` turns a portrait into one of the named characters.

    Raises:
        ValueError: the numbers have another shape.
    """
    if gaussians.ndim != 2 or gaussians.shape[1] != NUM_GAUSSIANS:
        raise ValueError(
            f"Got Gaussian numbers of shape {tuple(gaussians.shape)}; expected "
            f"[n, {NUM_GAUSSIANS}], one column for each of `GAUSSIANS`."
        )
    gaussians = gaussians.float().clone()
    n = gaussians.shape[0]
    if identity is None:
        identity = torch.full((n,), -1, dtype=torch.int64, device=gaussians.device)
    labels = {}
    for name in ATTRIBUTES:
        share = _to_uniform(gaussians[:, GAUSSIANS.index(name)])
        labels[name] = torch.bucketize(share, _edges(name)[1:-1].to(share))
    # Most beards come with a mustache, and lipstick seldom comes with either.
    bearded = labels["beard"] == label_index("beard", "yes")
    labels["mustache"] = torch.where(
        bearded, _above(gaussians, "mustache", _MUSTACHE_WITH_BEARD), labels["mustache"]
    )
    hairy = bearded | (labels["mustache"] == label_index("mustache", "yes"))
    labels["lipstick"] = torch.where(
        hairy, _above(gaussians, "lipstick", _LIPSTICK_WITH_BEARD), labels["lipstick"]
    )
    hidden = torch.zeros(n, dtype=torch.bool, device=gaussians.device)
    for value in _HIDDEN_BY_HAT:
        hidden |= labels["hair_style"] == label_index("hair_style", value)
    labels["hat"] = torch.where(hidden, 0, labels["hat"])

    tail = (_to_uniform(gaussians[:, GAUSSIANS.index("character")]) - 1) / _CHARACTER_SHARE + 1
    character = torch.where(
        tail >= 0, (tail * len(CHARACTERS)).long().clamp(0, len(CHARACTERS) - 1), -1
    )
    split = len(IDENTITY_GAUSSIANS)
    for index, name in enumerate(CHARACTERS):
        chosen = character == index
        if not chosen.any():
            continue
        for attribute, value in _CHARACTER_LABELS[name].items():
            labels[attribute][chosen] = label_index(attribute, value)
        # Each character has a fixed geometry, from a seed outside the range of identities.
        geometry = torch.randn(split, generator=torch.Generator().manual_seed(2**63 + index))
        gaussians[chosen, :split] = geometry.to(gaussians)
        identity = torch.where(chosen, -2 - index, identity)
    return Portraits(gaussians, labels, character, identity)


def characters(name: str, seeds: Sequence[int]) -> Portraits:
    """Portraits of one named character, one per seed; pose, expression and background vary.

    Raises:
        ValueError: the name is not in `CHARACTERS`.
    """
    if name not in CHARACTERS:
        raise ValueError(f"Got character {name!r}; expected one of: {', '.join(CHARACTERS)}.")
    gaussians = sample(seeds).gaussians
    share = 1 - _CHARACTER_SHARE * (1 - (CHARACTERS.index(name) + 0.5) / len(CHARACTERS))
    gaussians[:, GAUSSIANS.index("character")] = torch.special.ndtri(torch.tensor(share))
    return from_gaussians(gaussians)


def character_labels(name: str) -> dict[str, str]:
    """The labels that are fixed for a named character."""
    return dict(_CHARACTER_LABELS[name])


def _to_uniform(gaussian: Tensor) -> Tensor:
    return torch.special.ndtr(gaussian).clamp(1e-6, 1 - 1e-6)


def _above(gaussians: Tensor, name: str, share: float) -> Tensor:
    """Label 1 for this share of portraits, those with the largest numbers; int64 `[n]`."""
    return (_to_uniform(gaussians[:, GAUSSIANS.index(name)]) > 1 - share).long()


def _edges(name: str) -> Tensor:
    """Bucket borders in [0, 1] of the number that chooses the value of attribute `name`."""
    count = len(ATTRIBUTES[name])
    frequencies = torch.tensor(_FREQUENCIES.get(name, (1 / count,) * count), dtype=torch.float64)
    return torch.cat([torch.zeros(1), frequencies.cumsum(0).float()])
