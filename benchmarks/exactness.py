"""How far the textbook's and our gradients of w_plus are from those in double precision.

A feature that rounding puts on the other branch of lrelu changes its gradient by a factor of five,
in any formulation. One sample shows little of that, so many are measured.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from statistics import median

import plain
import torch

from stylegan_hub.models.stylegan2 import StyleGAN2Generator

WANTED = 1e-4


@dataclass(frozen=True)
class Row:
    """Errors of each sample's gradient, as shares of its norm."""

    suite: str
    plain: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        """Ratio of the medians; above 1, ours are nearer to the exact ones."""
        return median(self.plain) / median(self.ours)


def gradients(
    suite: str,
    generator: StyleGAN2Generator,
    people: int,
    device: str,
) -> Row:
    """Gradients of random pixel weights, one sample at a time."""
    exactly = partial(plain.synthesize, deepcopy(generator).double())
    ways: dict[str, plain.Synthesize] = {
        "plain": partial(plain.synthesize, generator),
        "ours": generator.synthesis,
    }
    errors: dict[str, list[float]] = {name: [] for name in ways}
    size = (1, generator.config.img_channels, *generator.img_size)
    for seed in range(people):
        weights = torch.randn(size, generator=torch.Generator().manual_seed(seed)).to(device)
        ws = plain.people(generator, 1, seed)
        truth = plain.one_pass(exactly, ws.double(), weights.double())
        for name, synthesize in ways.items():
            error = (plain.one_pass(synthesize, ws, weights) - truth).norm() / truth.norm()
            errors[name].append(float(error))
    return Row(suite, **errors)


HEADER = [
    f"| suite | people | plain: median | largest | within {WANTED:.0e} | ours: median | largest "
    f"| within {WANTED:.0e} |",
    "|---|---|---|---|---|---|---|---|",
]


def line(row: Row) -> str:
    """A row of the table."""
    cells = (
        f"{median(errors):.1e} | {max(errors):.1e} | {sum(e <= WANTED for e in errors)}"
        for errors in (row.plain, row.ours)
    )
    return f"| {row.suite} | {len(row.plain)} | {' | '.join(cells)} |"
