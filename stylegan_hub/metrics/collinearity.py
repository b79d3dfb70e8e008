"""Whether words and pictures move in the same direction in CLIP space.

Methods that edit with words assume that they do: the difference of two texts stands for the
difference of two pictures (StyleCLIP, Patashnik et al. 2021, section 6, "collinear" changes). This
can be measured if there are pictures of the same faces with and without a change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Collinearity:
    """Cosines between text changes (rows) and mean image changes (columns), in order of `names`."""

    names: tuple[str, ...]
    cosines: Float[Tensor, "k k"]

    def own(self) -> dict[str, float]:
        """Cosine of each text change with its own image change; 1 is perfect."""
        diagonal = self.cosines.diagonal().tolist()
        return dict(zip(self.names, diagonal, strict=True))

    def others(self) -> dict[str, float]:
        """Mean cosine of each text change with the image changes of the others; 0 is good."""
        count = max(1, len(self.names) - 1)
        rest = (self.cosines.sum(1) - self.cosines.diagonal()) / count
        return dict(zip(self.names, rest.tolist(), strict=True))

    def ranks(self) -> dict[str, int]:
        """Rank by cosine of each text change's own image change among all; 1 is best."""
        diagonal = self.cosines.diagonal()[:, None]
        places = 1 + (self.cosines > diagonal).sum(1)
        return dict(zip(self.names, places.tolist(), strict=True))


def collinearity(
    names: Sequence[str],
    text_changes: Float[Tensor, "k dim"],
    image_changes: Sequence[Float[Tensor, "n dim"]],
) -> Collinearity:
    """Compare k changes in words with the same k changes in pictures.

    Args:
        names: of the changes.
        text_changes: embedding of the text after minus that of the text before, `[k, dim]`.
        image_changes: for each change, embeddings of n pictures after it minus those of the same
            pictures before; n may differ from change to change.

    Raises:
        ValueError: the three lengths differ.
    """
    if not len(names) == len(text_changes) == len(image_changes):
        raise ValueError(
            f"Got {len(names)} names, {len(text_changes)} text changes and {len(image_changes)} "
            f"image changes; give one of each for every change."
        )
    means = torch.stack([change.mean(0) for change in image_changes])
    cosines = F.normalize(text_changes, dim=1) @ F.normalize(means, dim=1).T
    return Collinearity(tuple(names), cosines.detach().cpu())
