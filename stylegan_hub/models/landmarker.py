"""Find faces of one image domain in a larger picture, at any rotation.

The network is small and fully convolutional, like CenterNet (Zhou et al. 2019, "Objects as
Points"): every cell of a coarse grid predicts whether the middle of a face is near, and the square
that the domain's generator would render: its middle, its size, its rotation. The differences from
CenterNet: the square may be rotated by any angle; each face is cropped upright and examined again;
and if a picture was pasted into another one, so that its edges are visible, the square is moved
onto these edges. `recipes/train_landmarks.py` trains it.

The square is described by the positions of the domain's average eyes and mouth in it. These are not
the eyes and mouth of the face itself, which differ from face to face, but they define the square
exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_SIDE, MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.residual_trunk import GROUP, PATCH, ResidualBlock

STRIDE = 8
"""Width and height in input pixels of a cell of the grid."""

_WINDOW = 1.5  # side of the window of a further look, in sides of the square
_SURE = 0.5  # lowest score of a face
_FINAL = 0.3  # lowest score at the last look
_LOOKS = 2  # after the first
_MAX_FACES = 32
_EDGE = 0.08  # smallest change of color, in [-1, 1], at an edge
_CLEARLY = 2.0  # how many times the usual change of color is added to that
_EDGE_WINDOW = 1.4
# Rounds of the search for edges: number of values to try for x, y, logarithm of the scale, and
# angle; their range, in units of the half side; and how far inward and outward of a side colors are
# compared.
_EDGE_SEARCH = (
    ((13, 13, 13, 5), (0.15, 0.15, 0.15, 0.12), 0.04),
    ((7, 7, 7, 7), (0.03, 0.03, 0.03, 0.045), 0.025),
    ((5, 5, 5, 5), (0.008, 0.008, 0.008, 0.01), 0.015),
)


@dataclass(frozen=True)
class LandmarkerConfig:
    """The configuration of a landmarker, its `config.json`.

    Raises:
        ValueError: sizes that do not fit together.
    """

    usual: Sequence[Sequence[float]] = ((-0.2, -0.05), (0.2, -0.05), (0.0, 0.3))
    """Average positions of left eye, right eye and mouth in pictures of the domain, each (x, y)
    from -1 to 1."""
    input_size: int = 96
    """Width and height of the input, a multiple of 32; pictures are resized."""
    widths: Sequence[int] = (32, 64, 96)
    """Channels of the features, fine, medium and coarse; multiples of 8."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), {"input_size": MAX_SIDE, "widths": MAX_WIDTH})
        usual, widths = self.usual, tuple(self.widths)
        if len(usual) != 3 or any(len(point) != 2 for point in usual):
            raise ValueError(f"Got usual landmarks {usual}; expected three points (x, y).")
        if self.input_size < 32 or self.input_size % 32:
            raise ValueError(f"input_size is {self.input_size}; expected a multiple of 32.")
        if len(widths) != 3 or any(width < GROUP or width % GROUP for width in widths):
            raise ValueError(f"Got widths {widths}; expected three multiples of {GROUP}.")


class Landmarker(SavedWhole, ModelMixin, ConfigMixin):
    """Finds the faces of one image domain; `LandmarkerConfig` documents its arguments."""

    @configured_by(LandmarkerConfig)
    def __init__(self, config: LandmarkerConfig) -> None:
        super().__init__()
        fine, medium, coarse = config.widths
        self.fine = nn.Sequential(
            nn.PixelUnshuffle(PATCH),
            nn.Conv2d(3 * PATCH**2, fine, 3, padding=1),
            ResidualBlock(fine),
        )
        self.medium = _smaller(fine, medium)
        self.coarse = _smaller(medium, coarse)
        self.whole = _smaller(coarse, coarse)
        self.to_medium = nn.Conv2d(coarse, medium, 1)
        self.head = nn.Sequential(
            ResidualBlock(medium), nn.GroupNorm(medium // GROUP, medium), nn.SiLU(),
            nn.Conv2d(medium, 6, 1),
        )  # fmt: skip
        last = self.head[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 6 gh gw"]:
        """The prediction of every cell, for pictures in [-1, 1] whose sides are multiples of 32.

        The channels are: the score (a logit); x and y from the cell to the middle of the square, in
        units of the picture's half width; the cosine and sine of its rotation (not of length 1);
        the logarithm of its half side in units of the picture's half width.

        Raises:
            ValueError: another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1] with "
                "sides that are multiples of 32."
            )
        medium = self.medium(self.fine(images.to(self.dtype)))
        coarse = self.coarse(medium)
        coarse = coarse + F.interpolate(self.whole(coarse), coarse.shape[2:], mode="bilinear")
        enlarged = F.interpolate(self.to_medium(coarse), medium.shape[2:], mode="bilinear")
        said: Tensor = self.head(medium + enlarged)
        return said

    @torch.no_grad()
    def find(self, image: Float[Tensor, "1 3 h w"]) -> Float[Tensor, "faces 3 2"]:
        """Landmarks of every face in one picture in [-1, 1], of any size, highest score first.

        If no face is found in the whole picture, parts of it are searched, so that small faces are
        found.

        Returns:
            Left eye, right eye and mouth of each face, (x, y) in pixels; (0, 0) is the middle of
            the first pixel.

        Raises:
            ValueError: another shape.
        """
        if image.ndim != 4 or image.shape[:2] != (1, 3) or min(image.shape[2:]) < 2:
            raise ValueError(
                f"Got an image of shape {tuple(image.shape)}; expected [1, 3, h, w] in [-1, 1]."
            )
        image = image.to(self.device).float()
        height, width = image.shape[2:]
        middle = torch.tensor([width / 2, height / 2])
        half = max(width, height) / 2
        found = self._looked(image, torch.tensor([[*middle, half, 0.0]]), several=True)
        if not len(found):
            reach = (-0.5, 0.0, 0.5)
            parts = [
                [float(middle[0]) + half * dx, float(middle[1]) + half * dy, half / 2, 0.0]
                for dx in reach
                for dy in reach
            ]
            found = self._looked(image, torch.tensor(parts), several=True)
        for look in range(_LOOKS):
            if not len(found):
                break
            windows = torch.cat([found[:, :2], _WINDOW * found[:, 2:4]], 1)
            least = _FINAL if look + 1 == _LOOKS else 0.1
            found = self._looked(image, windows, several=False, least=least)
        found = torch.stack([_on_its_edges(image, one) for one in found]) if len(found) else found
        usual = torch.tensor(self.config["usual"], dtype=torch.float32)
        x, y, cos, sin = (column[:, None] for column in found[:, :4].unbind(1))
        points = [x + cos * usual[:, 0] - sin * usual[:, 1],
                  y + sin * usual[:, 0] + cos * usual[:, 1]]  # fmt: skip
        return torch.stack(points, 2) - 0.5

    def _looked(
        self,
        image: Tensor,
        windows: Float[Tensor, "k 4"],
        *,
        several: bool,
        least: float = _SURE,
    ) -> Float[Tensor, "faces 5"]:
        """Squares found in square windows: x, y, the vector from there to the right edge, score.

        Positions are relative to the corner of the first pixel. Windows have the same format.
        """
        size = self.config["input_size"]
        views = torch.cat([_view(image, window, size) for window in windows])
        said = self(views).float().cpu()
        rows = [_decoded(one, several, least) for one in said]
        squares = []
        for window, row in zip(windows, rows, strict=True):
            x, y, cos, sin = window.tolist()
            turn = torch.tensor([[cos, -sin], [sin, cos]])
            place = row[:, :2] @ turn.T + torch.tensor([x, y])
            squares.append(torch.cat([place, row[:, 2:4] @ turn.T, row[:, 4:]], 1))
        return _distinct(torch.cat(squares))


def _smaller(width: int, wider: int) -> nn.Sequential:
    """Layers that halve the size of features."""
    return nn.Sequential(
        nn.Conv2d(width, wider, 2, stride=2), ResidualBlock(wider), ResidualBlock(wider)
    )


def cell_places(height: int, width: int) -> Float[Tensor, "2 gh gw"]:
    """Middles of the cells for an input of this size, (x, y) in units of its half width."""
    y = (torch.arange(height // STRIDE) + 0.5) * STRIDE * 2 / width - height / width
    x = (torch.arange(width // STRIDE) + 0.5) * STRIDE * 2 / width - 1
    return torch.stack([x[None].expand(len(y), -1), y[:, None].expand(-1, len(x))])


def _decoded(said: Float[Tensor, "6 gh gw"], several: bool, least: float) -> Tensor:
    """Squares (x, y, right edge x, y, score) in units of the half width, highest score first."""
    score = said[0].sigmoid()
    peak = F.max_pool2d(score[None], 3, 1, 1)[0]
    places = cell_places(said.shape[1] * STRIDE, said.shape[2] * STRIDE)
    half = said[5].clamp(-5, 2).exp()
    turn = F.normalize(said[3:5], dim=0) * half
    squares = torch.cat([places + said[1:3], turn, score[None]]).flatten(1).T  # [cells, 5]
    chosen = squares[((score == peak) & (score >= least)).flatten()]
    chosen = chosen[chosen[:, 4].argsort(descending=True)]
    return chosen[: _MAX_FACES if several else 1]


def _distinct(squares: Float[Tensor, "n 5"]) -> Float[Tensor, "m 5"]:
    """The squares without those whose middle is close to that of one with a higher score."""
    kept: list[Tensor] = []
    for square in squares[squares[:, 4].argsort(descending=True)]:
        half = math.hypot(*square[2:4].tolist())
        far = (math.dist(square[:2], other[:2]) > 0.7 * max(half, math.hypot(*other[2:4].tolist()))
               for other in kept)  # fmt: skip
        if all(far):
            kept.append(square)
    return torch.stack(kept) if kept else squares[:0]


def _on_its_edges(image: Tensor, square: Float[Tensor, " 5"]) -> Float[Tensor, " 5"]:
    """The square moved, rotated and scaled a little, to where colors change along its sides.

    It stays unchanged if no square near it has an edge along at least three of its sides.
    """
    size = 192
    window = torch.cat([square[:2], _EDGE_WINDOW * square[2:4]])
    view = _view(image, window, size)
    best = torch.zeros(4)  # x, y in units of the half side, logarithm of the scale, angle
    anywhere: Tensor | None = None
    for steps, spread, gap in _EDGE_SEARCH:
        axes = [torch.linspace(-reach, reach, n) for n, reach in zip(steps, spread, strict=True)]
        tried = best + torch.cartesian_prod(*axes)
        contrasts = _contrast(view, tried, gap)  # [k, 4]
        chosen = int(contrasts.sum(1).argmax())
        best = tried[chosen]
        if anywhere is None:
            anywhere = contrasts.median(0).values  # the change that noise and texture cause
    assert anywhere is not None
    if (contrasts[chosen] >= _EDGE + _CLEARLY * anywhere).sum() < 3:
        return square
    x, y, scale, angle = best.tolist()
    cos, sin = square[2:4].tolist()
    turn = torch.tensor([[cos, -sin], [sin, cos]])
    right = math.exp(scale) * torch.tensor([math.cos(angle), math.sin(angle)])
    return torch.cat([square[:2] + turn @ torch.tensor([x, y]), turn @ right, square[4:]])


def _contrast(view: Tensor, tried: Float[Tensor, "k 4"], gap: float) -> Float[Tensor, "k 4"]:
    """Median change of color across each of the four sides of squares."""
    along = torch.linspace(-0.92, 0.92, 24)
    sides = []
    for out in (1 + gap, 1 - gap):
        edge = torch.full_like(along, out)
        four = [(along, -edge), (edge, along), (along, edge), (-edge, along)]
        sides.append(torch.stack([torch.stack(side, 1) for side in four]))  # [4, 24, 2]
    points = torch.stack(sides).flatten(0, 2)  # [2 * 4 * 24, 2]
    x, y, scale, angle = tried[:, :, None].unbind(1)  # [k, 1]
    cos, sin = scale.exp() * angle.cos(), scale.exp() * angle.sin()
    places = torch.stack(
        [x + cos * points[:, 0] - sin * points[:, 1], y + sin * points[:, 0] + cos * points[:, 1]],
        2,
    )
    grid = (places / _EDGE_WINDOW)[None].to(view)
    colors = F.grid_sample(view, grid, padding_mode="border", align_corners=False)[0]
    outer, inner = colors.unflatten(2, (2, 4, 24)).unbind(2)  # [3, k, 4, 24]
    return (outer - inner).norm(dim=0).median(2).values.cpu()


def _view(image: Tensor, window: Tensor, size: int) -> Float[Tensor, "1 3 size size"]:
    """The content of a square window, without aliasing; beyond the picture its edge is repeated.

    Windows that show a large part of the picture are sampled from a smaller copy of it.
    """
    x, y, cos, sin = window.tolist()
    half = math.hypot(cos, sin)
    scale = min(1.0, 2 * size / (2 * half))  # a copy in which the window has twice the size
    height, width = (max(2, round(side * scale)) for side in image.shape[2:])
    copy = F.interpolate(image, (height, width), mode="bilinear", antialias=True)
    to_x, to_y = 2 / image.shape[3], 2 / image.shape[2]
    matrix = torch.tensor([[[cos * to_x, -sin * to_x, x * to_x - 1],
                            [sin * to_y, cos * to_y, y * to_y - 1]]])  # fmt: skip
    grid = F.affine_grid(matrix.to(copy), [1, 3, 2 * size, 2 * size], align_corners=False)
    view = F.grid_sample(copy, grid, padding_mode="border", align_corners=False)
    return F.avg_pool2d(view, 2)
