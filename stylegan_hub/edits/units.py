"""The units in which latents vary, and steps of equal length in them: how displacements are found.

Adam in raw codes moves every number alike, also those that do not matter, and all of them together
are another person. A displacement that is counted in standard deviations of the latents has a
prior, and steps of equal length along its gradient leave alone what the loss does not ask for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from stylegan_hub.latents import Space

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline

MOMENTUM = 0.8
_WARMUP = 0.05  # share of the steps over which they grow
_SMALL = 1e-3  # deviations below this share of the largest one are none


class Units:
    """The units in which latents vary: principal axes of w, the deviation of each number of s."""

    def __init__(self, pipe: StyleEditPipeline, space: Space, samples: int = 2048) -> None:
        codes = pipe.sample(range(samples), truncation_psi=1.0)
        if space is Space.S:
            self._basis = torch.diag(pipe.lower(codes, space).codes.std(0))
            return
        w = codes.codes[:, 0].double()
        variances, axes = torch.linalg.eigh(torch.cov(w.T))
        self._basis = (axes * variances.clamp_min(0).sqrt()).T.to(codes.codes)

    def to_codes(self, offset: Tensor) -> Tensor:
        """From units of standard deviations to codes, in full precision.

        Autocast would round the small steps away, and it keeps its rounded copy of a leaf while
        the optimizer changes the leaf.
        """
        with torch.autocast(offset.device.type, enabled=False):
            return offset @ self._basis.to(offset)

    def from_codes(self, codes: Tensor) -> Tensor:
        """From codes to standard deviations; what latents never do is left out."""
        with torch.autocast(codes.device.type, enabled=False):
            inverse = torch.linalg.pinv(self._basis.double(), rtol=_SMALL)
            return codes @ inverse.to(codes)


# Generators are frozen, so their units are worth keeping: a third of a second each.
_UNITS: WeakKeyDictionary[nn.Module, dict[Space, Units]] = WeakKeyDictionary()


def units_of(pipe: StyleEditPipeline, space: Space) -> Units:
    """The units of this generator in w, w_plus (both: of one w) or s, measured once."""
    known = _UNITS.setdefault(pipe.generator, {})
    if space not in known:
        known[space] = Units(pipe, space)
    return known[space]


def editable(pipe: StyleEditPipeline, space: Space) -> Tensor:
    """1 where a code may move. In s the toRGB layers stay, as in StyleCLIP."""
    if space is not Space.S:
        return torch.ones((), device=pipe.device)
    free = torch.ones(pipe.generator.num_styles, device=pipe.device)
    for layer in pipe.generator.style_layout:
        if layer.is_to_rgb:
            free[layer.start : layer.stop] = 0
    return free


class EqualSteps(torch.optim.SGD):
    """Gradient descent with momentum, in which every row of a parameter has a gradient of length 1.

    Rows (dimension 0) are displacements that are searched side by side.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; gradients are replaced by those of length 1."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    rows = nn.functional.normalize(parameter.grad.flatten(1))
                    parameter.grad.copy_(rows.view_as(parameter))
        return super().step(closure)


def step_scale(step: int, total: int) -> float:
    """Factor on the length of step 0, 1, ...: up over the first twentieth, then a cosine to 0.

    The schedule of `training.Training` with as many warm-up steps.
    """
    warmup = warmup_steps(total)
    rise = min(1.0, (step + 1) / (warmup + 1))
    progress = min(1.0, max(0.0, (step - warmup) / max(1, total - warmup)))
    return rise * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_steps(total: int) -> int:
    """Steps over which they grow."""
    return round(_WARMUP * total)
