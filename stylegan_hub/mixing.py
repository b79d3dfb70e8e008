"""Mix two faces: style mixing (Karras et al. 2019, section 3.1) and interpolation.

The layers of w_plus control different things: coarse layers (up to 8 px) pose and head shape,
middle layers (up to 32 px) hair style and facial features, fine layers (above) colors.
"""

from __future__ import annotations

import torch

from stylegan_hub.domain import Domain
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.mapper import mapper_groups

LEVELS = {"coarse": "coarse", "middle": "medium", "fine": "fine"}
"""The levels that can be mixed, and a mapper's names for them."""


def levels(domain: Domain) -> dict[str, tuple[int, int]]:
    """The levels of a generator with their layers of w_plus, (start, stop).

    Small generators have fewer levels.

    At 1024 px: coarse 0-3, middle 4-7, fine 8-17.
    """
    groups = mapper_groups(domain.generator)
    return {name: groups[own] for name, own in LEVELS.items() if own in groups}


def mix(
    domain: Domain,
    first: Latents,
    second: Latents,
    coarse: float = 0.0,
    middle: float = 0.0,
    fine: float = 0.0,
) -> Latents:
    """The first face with coarse, middle or fine styles of the second.

    Args:
        first, second: the same number of latents each, in any space up to w_plus.
        coarse, middle, fine: 0 is the first face, 1 the second, values between are a weighted mean.
            Equal values for all three interpolate.

    Returns:
        Latents in w_plus.

    Raises:
        ValueError: numbers are outside 0 to 1, the numbers of faces differ, or latents are in s.
    """
    shares = {"coarse": coarse, "middle": middle, "fine": fine}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"Got {name}={share}; expected 0 (the first face) to 1 (the second).")
    if len(first) != len(second):
        raise ValueError(f"Got {len(first)} and {len(second)} faces; expected equal numbers.")
    start, end = (_codes(domain, face) for face in (first, second))
    mixed = start.clone()
    for name, (begin, stop) in levels(domain).items():
        mixed[:, begin:stop].lerp_(end[:, begin:stop], shares[name])
    return Latents(Space.W_PLUS, mixed)


def interpolate(domain: Domain, first: Latents, second: Latents, count: int) -> Latents:
    """`count` faces between two faces, both included, at equal distances in w_plus.

    Raises:
        ValueError: `count` is below two, there is not one face each, or latents are in s.
    """
    if count < 2 or len(first) != 1 or len(second) != 1:
        raise ValueError(
            f"Got count {count} between {len(first)} and {len(second)} faces; expected a count of "
            "at least two, between one face and one face."
        )
    start, end = (_codes(domain, face) for face in (first, second))
    shares = torch.linspace(0, 1, count).to(start)[:, None, None]
    return Latents(Space.W_PLUS, torch.lerp(start, end, shares))


def _codes(domain: Domain, face: Latents) -> torch.Tensor:
    if face.space > Space.W_PLUS:
        raise ValueError(
            f"Got a face in {face.space}, whose single channels were edited; faces are mixed by "
            "layers, in w_plus. Use another face."
        )
    return domain.lower(face, Space.W_PLUS).codes
