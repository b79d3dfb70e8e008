"""The textbook's formulation with torch.compile, compared with itself and with ours.

The cost of compiling is counted: seconds of the first call, and the number of passes that repay
them.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import measure
import plain
import torch

from stylegan_hub.models.stylegan2 import StyleGAN2Generator

_CACHE = "TORCHINDUCTOR_CACHE_DIR"


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        first: seconds of the first call, in which PyTorch compiles.
        difference: of the compiled result from the textbook's: images the largest, as a share of
            the largest value; gradients the norm, as a share of the norm.
    """

    suite: str
    work: str
    batch_size: int
    first: float
    plain: measure.Timing
    compiled: measure.Timing
    ours: measure.Timing
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is than the compiled textbook."""
        return self.compiled.median / self.ours.median

    @property
    def repaid_after(self) -> float:
        """Passes until compiling has saved the time that it took; infinite if it saves none."""
        saved = self.plain.median - self.compiled.median
        return self.first / saved if saved > 0 else math.inf


def synthesis(
    suite: str,
    generator: StyleGAN2Generator,
    batch_sizes: Sequence[int],
    device: str,
    seconds: float,
) -> Iterator[Row]:
    """Forward, and forward with the gradient of w_plus.

    Raises:
        SystemExit: one of them renders something else.
    """
    textbook = partial(plain.synthesize, generator)
    for batch_size in batch_sizes:
        for work, ws, upstream in plain.works(generator, batch_size):
            compiled = torch.compile(textbook, dynamic=False)
            runs = {
                "plain": partial(plain.one_pass, textbook, ws, upstream),
                "compiled": partial(plain.one_pass, compiled, ws, upstream),
                "ours": partial(plain.one_pass, generator.synthesis, ws, upstream),
            }
            with _empty_cache():
                first = measure.seconds_of(runs["compiled"], device)
            truth = runs["plain"]()
            errors = {
                name: measure.difference(runs[name](), truth, work) for name in ("ours", "compiled")
            }
            for name, error in errors.items():
                measure.check(f"{suite}, {work}, {name}", work, error)
            times = measure.interleaved(runs, device, seconds, is_warm=True)
            yield Row(suite, work, batch_size, first, **times, difference=errors["compiled"])


@contextmanager
def _empty_cache() -> Iterator[None]:
    """Forget everything that was compiled before."""
    torch.compiler.reset()
    before = os.environ.get(_CACHE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[_CACHE] = folder
        try:
            yield
        finally:
            del os.environ[_CACHE]
            if before is not None:
                os.environ[_CACHE] = before


HEADER = [
    "| suite | work | batch | first call s | plain ms | compiled ms | ours ms | ratio "
    "| repaid after | difference |",
    "|---|---|---|---|---|---|---|---|---|---|",
]


def line(row: Row) -> str:
    """A row of the table."""
    passes = "never" if math.isinf(row.repaid_after) else f"{row.repaid_after:.0f} passes"
    return (
        f"| {row.suite} | {row.work} | {row.batch_size} | {row.first:.1f} "
        f"| {1e3 * row.plain.median:.1f} | {1e3 * row.compiled.median:.1f} "
        f"| {1e3 * row.ours.median:.1f} | {row.ratio:.2f} | {passes} | {row.difference:.1e} |"
    )
