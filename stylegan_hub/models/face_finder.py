"""Find the faces of people in a photograph, as boxes with a score each.

The network is a tiny YOLO of separable convolutions (Redmon and Farhadi 2016, "YOLO9000": five
anchors, no classes), with the weights of face-api's `tiny_face_detector`.
`recipes/convert_face_models.py` converts them.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.models.face_layers import SeparableConv, normalized

STRIDE = 32
"""Width and height in input pixels of a cell of the grid."""
INPUT_SIZE = 416
"""Default side of the square that pictures are resized to."""

_WIDTHS = (16, 32, 64, 128, 256, 512)
_MEAN = (117.001, 114.697, 97.404)
# Widths and heights of boxes, in cells.
_ANCHORS = (
    (1.603231, 2.094468),
    (6.041143, 7.080126),
    (2.882459, 3.518061),
    (4.266906, 5.178857),
    (9.041765, 10.66308),
)


class FaceFinder(nn.Module):
    """Boxes around faces that take up about a twelfth of the picture or more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, _WIDTHS[0], 3, padding=1)
        pairs = itertools.pairwise(_WIDTHS)
        self.convs = nn.ModuleList(SeparableConv(width, wider) for width, wider in pairs)
        self.head = nn.Conv2d(_WIDTHS[-1], 5 * len(_ANCHORS), 1)

    def forward(self, squares: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n boxes 5"]:
        """All boxes of square pictures in [-1, 1], whose side is a multiple of `STRIDE`.

        Returns:
            Left, upper, right and lower edge as shares of the side, and the score, 0 to 1.

        Raises:
            ValueError: another shape.
        """
        side = squares.shape[-1]
        if squares.ndim != 4 or squares.shape[1:3] != (3, side) or side % STRIDE or not side:
            raise ValueError(
                f"Got pictures of shape {tuple(squares.shape)}; expected [n, 3, s, s] in [-1, 1] "
                f"with a side that is a multiple of {STRIDE}."
            )
        features = F.max_pool2d(F.leaky_relu(self.conv0(normalized(squares, _MEAN)), 0.1), 2)
        *convs, last = self.convs
        for conv in convs:
            features = F.max_pool2d(F.leaky_relu(conv(features), 0.1), 2)
        features = F.pad(F.leaky_relu(last(features), 0.1), (0, 1, 0, 1), value=-torch.inf)
        return _decoded(self.head(F.max_pool2d(features, 2, 1)))

    @torch.no_grad()
    def find(
        self, image: Float[Tensor, "1 3 h w"], least: float = 0.5, size: int = INPUT_SIZE
    ) -> Float[Tensor, "faces 5"]:
        """Boxes in one picture of any size, in pixels from its upper left corner.

        The box with the highest score is first.

        Args:
            image: in [-1, 1].
            least: the lowest score to return, 0 to 1.
            size: side of the square that the picture is resized to, a multiple of `STRIDE`; small
                faces need a larger one.
        """
        height, width = image.shape[2:]
        side = max(height, width)
        square = F.pad(image, (0, side - width, 0, side - height), value=-1)
        square = F.interpolate(square, (size, size), mode="bilinear", antialias=True)
        boxes = self(square)[0]
        boxes = boxes[boxes[:, 4] >= least]
        return distinct(torch.cat([boxes[:, :4] * side, boxes[:, 4:]], 1))


def distinct(boxes: Float[Tensor, "n 5"], overlap: float = 0.4) -> Float[Tensor, "faces 5"]:
    """The boxes without those that overlap one of a higher score; the highest score is first.

    Args:
        overlap: largest allowed intersection of two boxes, as a share of their union.
    """
    left = boxes[boxes[:, 4].argsort(descending=True)]
    kept = []
    while len(left):
        kept.append(left[0])
        low = torch.maximum(left[:, :2], left[0, :2])
        high = torch.minimum(left[:, 2:4], left[0, 2:4])
        common = (high - low).clamp_min(0).prod(1)
        areas = (left[:, 2:4] - left[:, :2]).prod(1)
        apart = common <= overlap * (areas + areas[0] - common)
        apart[0] = False  # even if this box has no area
        left = left[apart]
    return torch.stack(kept) if kept else boxes[:0]


def _decoded(said: Float[Tensor, "n out g g"]) -> Float[Tensor, "n boxes 5"]:
    n, _, grid, _ = said.shape
    said = said.view(n, len(_ANCHORS), 5, grid, grid)
    cells = torch.arange(grid).to(said)
    x = (said[:, :, 0].sigmoid() + cells) / grid
    y = (said[:, :, 1].sigmoid() + cells[:, None]) / grid
    anchors = torch.tensor(_ANCHORS).to(said)[:, :, None, None] / (2 * grid)
    half_width, half_height = (said[:, :, 2 + i].exp() * anchors[:, i] for i in (0, 1))
    edges = [x - half_width, y - half_height, x + half_width, y + half_height]
    return torch.stack([*edges, said[:, :, 4].sigmoid()], -1).flatten(1, 3)
