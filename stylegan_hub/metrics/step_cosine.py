"""How similar the steps of an edit are for different faces (StyleCLIP, table 2).

1 means the same direction for every face; published mappers have 0.73 to 0.84.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


def step_cosine(steps: Float[Tensor, "n ..."]) -> tuple[float, float]:
    """Mean and standard deviation of the cosine over all pairs of steps, in [-1, 1].

    A step of length 0 has cosine 0 with every other.

    Raises:
        ValueError: fewer than two steps.
    """
    if len(steps) < 2:
        raise ValueError(f"Got {len(steps)} steps; a cosine between steps needs at least two.")
    unit = nn.functional.normalize(steps.flatten(1).cpu().double(), dim=1)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1, device=unit.device)
    cosines = (unit @ unit.T)[first, second]
    return float(cosines.mean()), float(cosines.std(correction=0))
