"""A second domain, without a face in it: drawn houses of 64 x 48 pixels, with captions.

    house = House.of(7)
    house.caption()  # "a red house with a round window and a flat roof"
    draw([house])  # float [1, 3, 48, 64] in [-1, 1]

Everything that the library does for any domain is tested with it. It is also the shortest example
of a domain of your own: you provide pictures in a folder and words for them, and the recipes do the
rest (docs/other-domains.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

HEIGHT, WIDTH = 48, 64
NEUTRAL = "a house"

WALLS = {
    "red": (0.75, 0.25, 0.2),
    "yellow": (0.95, 0.8, 0.35),
    "white": (0.92, 0.92, 0.88),
    "blue": (0.35, 0.5, 0.8),
}
WINDOWS = ("round", "square")
ROOFS = ("pointed", "flat")
_ROOF, _DOOR, _PANE = (0.35, 0.2, 0.15), (0.25, 0.3, 0.2), (0.75, 0.9, 1.0)
_SKY, _GRASS = (0.6, 0.8, 0.95), (0.35, 0.6, 0.3)
_GROUND = 40.0  # where the grass begins, in pixels from the top
_SOFT = 0.75  # pixels over which an edge changes from one color to the other


@dataclass(frozen=True)
class House:
    """What is drawn: words, and the place and size of the house in pixels."""

    wall: str
    window: str
    roof: str
    middle: float
    width: float
    height: float

    @staticmethod
    def of(seed: int) -> House:
        """The house of a seed."""
        draw = torch.Generator().manual_seed(seed)

        def choice(values: Sequence[str]) -> str:
            return values[int(torch.randint(len(values), (), generator=draw))]

        size = torch.rand(3, generator=draw).tolist()
        return House(
            choice(list(WALLS)), choice(WINDOWS), choice(ROOFS),
            26 + 12 * size[0], 24 + 12 * size[1], 14 + 6 * size[2],
        )  # fmt: skip

    def caption(self) -> str:
        """What the picture shows, in words."""
        return f"a {self.wall} house with a {self.window} window and a {self.roof} roof"


def draw(houses: Sequence[House]) -> Float[Tensor, "n 3 48 64"]:
    """Pictures of houses in [-1, 1]."""
    return torch.stack([_draw(house) for house in houses])


def _draw(house: House) -> Float[Tensor, "3 48 64"]:
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    top, half = _GROUND - house.height, house.width / 2
    side = (x - house.middle).abs()

    def box(left: float, right: float, upper: float, lower: float) -> Tensor:
        return torch.minimum(
            torch.minimum(x - left, right - x), torch.minimum(y - upper, lower - y)
        )

    if house.roof == "pointed":
        roof = torch.minimum(y - (top - 12) - side * 12 / (half + 3), top - y)
    else:
        roof = box(house.middle - half - 2, house.middle + half + 2, top - 4, top)
    pane_x, pane_y, reach = house.middle + half / 2, top + house.height * 0.4, 3.5
    if house.window == "round":
        pane = reach - torch.hypot(x - pane_x, y - pane_y)
    else:
        pane = reach - torch.maximum((x - pane_x).abs(), (y - pane_y).abs())
    door = box(house.middle - half * 0.6, house.middle - half * 0.2, _GROUND - 9, _GROUND)
    wall = box(house.middle - half, house.middle + half, top, _GROUND)
    picture = torch.tensor(_SKY)[:, None, None].expand(3, HEIGHT, WIDTH)
    # Each layer by its distance to its own edge, positive inside; later ones lie on top.
    for distance, color in (
        (y - _GROUND, _GRASS), (wall, WALLS[house.wall]), (roof, _ROOF), (door, _DOOR),
        (pane, _PANE),
    ):  # fmt: skip
        cover = (distance / _SOFT + 0.5).clamp(0, 1)
        picture = torch.lerp(picture, torch.tensor(color)[:, None, None].expand_as(picture), cover)
    return 2 * picture - 1
