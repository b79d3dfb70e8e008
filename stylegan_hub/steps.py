"""The steps of a search: what they report, how to stop them, their length and their randomness."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """What `on_step` is told after each step of a search.

    Attributes:
        index: steps done, from 1.
        total: steps of the whole search.
        images: the pictures so far, `[n, 3, h, w]` in [-1, 1] (not clamped), detached; None if the
            step renders none.
        loss: total loss before this step; NaN if nothing is minimized.
        note: what else to show, in a few words: "similarity 0.312".
    """

    index: int
    total: int
    images: Float[Tensor, "n 3 h w"] | None = None
    loss: float = math.nan
    note: str = ""


OnStep = Callable[[Step], None]


class Cancelled(Exception):
    """Raise it in `on_step` to stop a search; what was found so far is discarded."""


def ramp(step: int, total: int, warmup: int | None = None, fall: int | None = None) -> float:
    """Factor on the length of step 0, 1, ...: it rises linearly, then falls as a cosine to 0.

    Args:
        warmup: number of steps over which it rises; a twentieth of all when None.
        fall: number of last steps over which it falls; all after the warm-up when None.
    """
    warmup = warmup_steps(total) if warmup is None else warmup
    fall = total - warmup if fall is None else fall
    rise = min(1.0, (step + 1) / (warmup + 1))
    progress = min(1.0, max(0.0, (step - (total - fall)) / max(1, fall)))
    return rise * 0.5 * (1 + math.cos(math.pi * progress))


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed derived from these parts; the seed of the run comes first."""
    text = "/".join(str(part) for part in parts)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1  # manual_seed takes a signed integer


def step_random(
    seed: int, step: int, micro: int = 0, process: int | str = "shared"
) -> torch.Generator:
    """The random generator of a step; it needs no earlier step, so a run can resume at any step.

    Args:
        seed: of the run.
        micro: index of the accumulated pass within the step.
        process: "shared" draws the same numbers in every process.
    """
    return torch.Generator().manual_seed(seed_of(seed, step, micro, process))


def warmup_steps(total: int) -> int:
    """Number of steps over which the length of steps rises by default."""
    return round(0.05 * total)
