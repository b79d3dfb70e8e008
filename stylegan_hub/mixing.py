"""Two faces become one: style mixing (Karras et al. 2019, section 3.1) and interpolation.

The layers of w_plus decide different things: coarse ones (up to 8 px) pose and the shape of the
head, middle ones (up to 32 px) hair style and features, fine ones (above) colors.
"""

from __future__ import annotations

import torch

from stylegan_hub.domain import Domain
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.mapper import mapper_groups

LEVELS = {"coarse": "coarse", "middle": "medium", "fine": "fine"}
"""The levels that can be mixed, and what a mapper calls them."""


def levels(domain: Domain) -> dict[str, tuple[int, int]]:
    """The levels of a generator and their layers of w_plus, (start, stop); small ones have fewer.

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
    """The first face with the second one's coarse, middle or fine styles.

    Args:
        first, second: as many latents each, in any space up to w_plus.
        coarse, middle, fine: 0 is the first face, 1 the second, between them a mean. All three
            alike interpolate.

    Returns:
        Latents in w_plus.

    Raises:
        ValueError: numbers outside of 0 to 1, different numbers of faces, latents in s.
    """
    shares = {"coarse": coarse, "middle": middle, "fine": fine}
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise ValueError(f"Got {name}={share}; expected 0 (the first face) to 1 (the second).")
    if len(first) != len(second):
        raise ValueError(f"Got {len(first)} and {len(second)} faces; expected as many of each.")
    start, end = (_codes(domain, face) for face in (first, second))
    mixed = start.clone()
    for name, (begin, stop) in levels(domain).items():
        mixed[:, begin:stop].lerp_(end[:, begin:stop], shares[name])
    return Latents(Space.W_PLUS, mixed)


def interpolate(domain: Domain, first: Latents, second: Latents, count: int) -> Latents:
    """`count` faces on the way from one to another, both included, at equal distances in w_plus.

    Raises:
        ValueError: fewer than two, not one face each, latents in s.
    """
    if count < 2 or len(first) != 1 or len(second) != 1:
        raise ValueError(
            f"Got {count} faces to draw between {len(first)} and {len(second)}; expected at least "
            "two, between one and one."
        )
    start, end = (_codes(domain, face) for face in (first, second))
    shares = torch.linspace(0, 1, count).to(start)[:, None, None]
    return Latents(Space.W_PLUS, torch.lerp(start, end, shares))


def _codes(domain: Domain, face: Latents) -> torch.Tensor:
    if face.space > Space.W_PLUS:
        raise ValueError(
            f"Got a face in {face.space}, after a change of single channels; faces are mixed by "
            "layers, in w_plus. Take another face."
        )
    return domain.lower(face, Space.W_PLUS).codes
