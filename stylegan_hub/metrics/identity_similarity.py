"""Whether a face keeps its identity: cosine of its recognizer embeddings before and after an edit.

This is the identity similarity of the editing papers (StyleCLIP, section 4, uses 1 - this as a
loss). Values are comparable only between edits judged by the same recognizer.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.losses import identity_loss


@torch.no_grad()
def identity_similarity(
    recognizer: Callable[[Tensor], Tensor],
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    batch_size: int = 16,
) -> Float[Tensor, " n"]:
    """Similarity in [-1, 1] for each of n faces.

    Args:
        recognizer: pictures in [-1, 1] to embeddings `[n, d]` of length 1.

    Raises:
        ValueError: different numbers of pictures.
    """
    if len(before) != len(after):
        raise ValueError(
            f"Got {len(before)} pictures before and {len(after)} after the edit; give as many of "
            "both."
        )
    pairs = zip(before.split(batch_size), after.split(batch_size), strict=True)
    return torch.cat([1 - identity_loss(recognizer(b), recognizer(a)) for a, b in pairs])
