"""Do words and pictures move in the same direction of CLIP space?

Methods that edit by words assume it: the difference of two texts is used as the difference of two
pictures (StyleCLIP, Patashnik et al. 2021, section 6, "collinear" changes). Where the truth of a
change is known, as pictures of the same people with and without it, it can be measured.
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
    """Cosines of text changes (rows) with mean image changes (columns), both named by `names`."""

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
        """Place of the own image change among all, by cosine; 1 is best."""
        diagonal = self.cosines.diagonal()[:, None]
        places = 1 + (self.cosines > diagonal).sum(1)
        return dict(zip(self.names, places.tolist(), strict=True))


def collinearity(
    names: Sequence[str],
    text_changes: Float[Tensor, "k dim"],
    image_changes: Sequence[Float[Tensor, "n dim"]],
) -> Collinearity:
    """Compare k changes said in words with the same k changes seen in pictures.

    Args:
        names: what the changes are called.
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
