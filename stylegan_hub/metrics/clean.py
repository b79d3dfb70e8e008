"""Whether edited pictures are as clean as unedited ones, judged by redrawing them.

Success and collateral do not measure ghosts, halos and neon hats. The renderer of the drawn
portraits cannot draw such faults: a hat or a beard is whole or absent, edges are sharp, and colors
have a range. So each picture is redrawn as closely as the renderer can: the pipeline's encoder
estimates the factors of the portrait, and gradient steps improve them. The score is minus the
difference that is left where it is largest. **clean** is the share of edited pictures whose score
is above that of the worst 5 % of unedited ones.

Nothing of this is used in any loss, early stopping or choice of settings, so no search has adapted
to it. docs/results.md compares its verdicts with those of the eye.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.factors import FACTORS, PRESENCE, factor_statistics
from stylegan_hub.portraits.paired import FactorEncoder
from stylegan_hub.portraits.renderer import render_factors

WORST = 0.05
"""The share of unedited pictures that do not count as clean."""

_COARSE, _FINE = 64, 128  # pixels at which factors are found, and at which pictures are compared
_STEPS, _RATE = 30, 0.08  # the rate is in standard deviations of the factors
_PRESENT = 0.54  # a thing with more than this is drawn, see `portraits.factors.crisp`
_BLUR = 2.0  # pixels; shifts of less than this are not visible as faults
_FAULTY = 0.01  # share of the picture that a fault fills at least


@dataclass(frozen=True)
class Critic:
    """Scores pictures of drawn portraits: the higher, the better the renderer can redraw them.

    Attributes:
        pipe: whose encoder and w have the factors of the drawn portraits.
    """

    pipe: StyleEditPipeline

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that distinguish it from a critic with another encoder."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.pipe.encoder.state_dict().items()):
            found.update(name.encode() + tensor.half().cpu().contiguous().numpy().tobytes())
        return found.hexdigest()[:16]

    def score(self, images: Float[Tensor, "n 3 h w"], at_once: int = 32) -> Float[Tensor, " n"]:
        """Scores in [-2, 0], on the CPU; `at_once` pictures in [-1, 1] are redrawn at a time.

        Raises:
            ValueError: images are not `[n, 3, h, w]`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1]."
            )
        return torch.cat([self._score(part).cpu() for part in images.split(at_once)])

    def redraw(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n factors"]:
        """The factors of the most similar portraits that the renderer can draw."""
        known = factor_statistics()
        low, high, unit = (
            values.to(images.device) for values in (known.lowest, known.highest, known.std)
        )
        things = [FACTORS.index(name) for name in PRESENCE]
        goal = F.interpolate(images, (_COARSE, _COARSE), mode="area")
        with torch.no_grad():
            w = self.pipe.encoder.encode(images).mean(1)
            first = FactorEncoder(w.shape[1]).to(w.device).decode(w).clamp(low, high)
            first[:, things] = (first[:, things] > _PRESENT).float()
        movable = torch.ones_like(unit)
        movable[things] = 0
        offset = torch.zeros_like(first, requires_grad=True)
        optimizer = torch.optim.Adam([offset], lr=_RATE)

        def portraits() -> Tensor:
            return (first + offset * unit * movable).clamp(low, high)

        with torch.enable_grad():
            for _ in range(_STEPS):
                difference = render_factors(portraits(), _COARSE) - goal
                near = image_files.blur(difference, 1.0).abs().mean((1, 2, 3))
                far = F.avg_pool2d(difference, _COARSE // 8).abs().mean((1, 2, 3))
                optimizer.zero_grad()
                (near + far).sum().backward()
                assert offset.grad is not None
                # At 0, roots in the renderer have an infinite slope.
                offset.grad.nan_to_num_(0, 0, 0)
                optimizer.step()
        return portraits().detach()

    def _score(self, images: Tensor) -> Tensor:
        factors = self.redraw(images)
        with torch.no_grad():
            drawn = render_factors(factors, _FINE)
            shown = F.interpolate(images, (_FINE, _FINE), mode="area")
            left = image_files.blur((shown - drawn).abs().mean(1, keepdim=True), _BLUR).flatten(1)
            return -left.topk(round(_FAULTY * left.shape[1]), dim=1).values.mean(1)


def clean_limit(scores: Float[Tensor, " n"]) -> float:
    """The score that the worst 5 % of unedited pictures lie below."""
    return float(scores.quantile(WORST))


def clean_share(before: Float[Tensor, " n"], after: Float[Tensor, " m"]) -> float:
    """The share of edited pictures that are clean.

    Args:
        before: scores of unedited pictures, several hundred for a stable limit.
        after: scores of edited pictures.
    """
    return float((after > clean_limit(before)).float().mean())
