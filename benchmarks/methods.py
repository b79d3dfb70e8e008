"""The methods of editing, with every picture rendered by our path or by the textbook's.

The code of a method is the same for both; only the generator's rendering differs. The exception is
the table, whose plain form has its own code: whole pictures for every channel and face, as the
paper defines a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import measure
import plain
import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.latents import Space
from stylegan_hub.methods import gradient, mapper, optimization
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.style_statistics import (
    DRAWN_ABOVE,
    channel_relevance,
    editable_channels,
    linear_relevance,
    style_statistics,
)
from stylegan_hub.photos.invert import Refinement, refine
from stylegan_hub.pipeline import StyleEditPipeline

PROMPT = "a face with purple hair"
LEAST_COSINE = 0.99
_SMALL = 128  # px; larger pictures get few steps on a CPU
_MOST_PIXELS = 2**21  # at once on a CPU, where more pixels take half an hour


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        seconds: by candidate, "plain" and "ours", of one `unit`.
        cosine: of the two results; for a table, the mean over its rows.
    """

    suite: str
    work: str
    unit: str
    seconds: dict[str, float]
    cosine: float

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.seconds["plain"] / self.seconds["ours"]


@dataclass(frozen=True)
class _Work:
    """What is timed: a run does `count` units of work and returns their result.

    Attributes:
        at_once: pictures that it renders together.
    """

    name: str
    unit: str
    count: int
    at_once: int
    run: Callable[[], Tensor]


def compared(suite: str, pipe: StyleEditPipeline, device: str, seconds: float) -> Iterator[Row]:
    """Every method of this pipeline; on a CPU, not those that render too much at once."""
    resolution = pipe.generator.config.img_resolution
    is_small = resolution <= _SMALL or device == "cuda"
    for work in works(pipe, steps=4 if is_small else 2):
        if device == "cpu" and work.at_once * resolution**2 > _MOST_PIXELS:
            continue
        candidates = {"plain": _drawn_plainly(pipe, work.run), "ours": work.run}
        results = [run().flatten() for run in candidates.values()]
        cosine = float(F.cosine_similarity(results[0], results[1], dim=0))
        _check(suite, work.name, cosine)
        found = measure.interleaved(candidates, device, seconds, is_warm=True)
        times = {name: timing.median / work.count for name, timing in found.items()}
        yield Row(suite, work.name, work.unit, times, cosine)
    if resolution <= _SMALL:  # larger networks are random, and rows of noise cannot be compared
        yield table(suite, pipe, device, seconds)


def works(pipe: StyleEditPipeline, steps: int) -> list[_Work]:
    """The searches that users wait for, with few enough steps to be timed."""
    search = optimization.Settings(steps=steps, shared_steps=0, templates=False)
    few = gradient.Settings(steps=steps, templates=False)
    picture = pipe.synthesize(pipe.sample(2)).detach().clamp(-1, 1)
    start = pipe.lower(pipe.sample(2).lerp(pipe.mean_latent(), 0.2), Space.W_PLUS)

    def optimize(count: int) -> Callable[[], Tensor]:
        people = pipe.sample(range(count))
        return lambda: optimization.displacements(pipe, Words(PROMPT), people, search)

    def follow_gradient() -> Tensor:
        # Not `find`, which returns edits that it found before.
        return gradient.Gradient()._searched(pipe, PROMPT, pipe.neutral, few, None).vector

    def invert() -> Tensor:
        return refine(pipe, picture, start, Refinement(steps=steps)).codes - start.codes

    return [
        _Work("latent optimization, one face", "step", steps, 1, optimize(1)),
        _Work("latent optimization, 8 faces", "step", steps, 8, optimize(8)),
        _Work("latent mapper, 8 faces", "step", 1, 8, _mapper_step(pipe)),
        _Work("direction from gradients, 4 faces", "step", steps, 4, follow_gradient),
        _Work("inversion", "step", steps, 1, invert),
    ]


def _mapper_step(pipe: StyleEditPipeline) -> Callable[[], Tensor]:
    run = mapper.MapperRun(pipe, Words(PROMPT))

    def step() -> Tensor:
        run.zero_grad()
        run.losses(0, torch.Generator().manual_seed(0))["loss"].backward()
        gradients = (parameter.grad for parameter in run.parameters())
        return torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])

    return step


def table(
    suite: str,
    pipe: StyleEditPipeline,
    device: str,
    seconds: float,
    people: int = 10,
    channels: int = 32,
) -> Row:
    """Seconds per channel of a direction table of 100 faces, measured on a part of both.

    Ours: derivatives of all channels for every face, and pictures rendered from the changed layer
    on for the channels with a large derivative, as recipes/build_direction_table.py does.

    Args:
        people, channels: the number of faces and channels that are measured.
    """
    every = editable_channels(pipe)
    s_mean, s_std = style_statistics(pipe, 1000)
    codes = pipe.lower(pipe.sample(range(people)), Space.S).codes
    some = every[:: max(1, len(every) // channels)]
    few, five = some[:: max(1, len(some) // 4)], codes[:5]
    directions, sizes = linear_relevance(pipe, codes, every, s_std)
    is_drawn = dict(zip(every, (sizes / people > DRAWN_ABOVE).tolist(), strict=True))
    share = sum(is_drawn.values()) / len(every)

    def whole(chosen: list[int]) -> Tensor:
        return _relevance_of_whole_pictures(pipe, codes, chosen, s_std)

    with plain.drawing(pipe.generator):
        expected = whole(some)
    linear = dict(zip(every, F.normalize(directions, dim=1), strict=True))
    drawn = channel_relevance(pipe, codes, some, s_mean, s_std)
    ours = [row if is_drawn[c] else linear[c] for c, row in zip(some, drawn, strict=True)]
    cosine = float((torch.stack(ours) * expected).sum(1).mean())
    _check(suite, "table", cosine)

    found = measure.interleaved(
        {
            "plain": _drawn_plainly(pipe, lambda: whole(few)),
            "derivatives": lambda: linear_relevance(pipe, five, every, s_std),
            "drawn": lambda: channel_relevance(pipe, codes, few, s_mean, s_std),
        },
        device,
        seconds,
        is_warm=True,
    )
    times = {name: timing.median for name, timing in found.items()}
    each = 100 / (len(few) * people)  # extrapolated to a channel with 100 faces
    by_derivatives = 100 / len(five) * times["derivatives"] / len(every)
    spent = {"plain": each * times["plain"], "ours": by_derivatives + share * each * times["drawn"]}
    return Row(suite, "direction table", f"channel, {share:.0%} drawn", spent, cosine)


@torch.no_grad()
def _relevance_of_whole_pictures(
    pipe: StyleEditPipeline, s: Tensor, channels: list[int], s_std: Tensor
) -> Tensor:
    rows = []
    for channel in channels:
        pairs = s.repeat(2, 1)
        step = 5 * s_std[channel].to(s)
        pairs[: len(s), channel] += step
        pairs[len(s) :, channel] -= step
        pictures = pipe.generator.synthesis_from_styles(pairs).clamp(-1, 1)
        up, down = pipe.encode_image(pictures).chunk(2)
        rows.append(F.normalize(F.normalize(up - down, dim=1).mean(0), dim=0))
    return torch.stack(rows).cpu()


def _drawn_plainly(pipe: StyleEditPipeline, run: Callable[[], Any]) -> Callable[[], Any]:
    def plainly() -> Any:
        with plain.drawing(pipe.generator):
            return run()

    return plainly


def _check(suite: str, work: str, cosine: float) -> None:
    if not cosine >= LEAST_COSINE:
        raise SystemExit(
            f"{suite}, {work}: the results' cosine is {cosine:.4f}; expected at least "
            f"{LEAST_COSINE}. Nothing was timed."
        )


HEADER = [
    "| suite | work | unit | plain ms | ours ms | ratio | cosine |",
    "|---|---|---|---|---|---|---|",
]


def line(row: Row) -> str:
    """A row of the table."""
    plain_ms, our_ms = (1e3 * row.seconds[name] for name in ("plain", "ours"))
    return (
        f"| {row.suite} | {row.work} | {row.unit} | {plain_ms:.1f} | {our_ms:.1f} "
        f"| {row.ratio:.2f} | {row.cosine:.4f} |"
    )
