"""Is an edited picture as clean as an unedited one? A critic, and the share that it passes.

Success and collateral say nothing of ghosts, halos and neon hats. The critic is a small network
that tells samples and renders from such that were spoiled on purpose (`portraits/spoil.py`); it is
in no loss, in no early stopping and in no choice of settings, so no search has learned to please
it. **clean** is the share of edited pictures whose score is above that of the worst 5 % of
unedited ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_LAYERS, MAX_SIDE, MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.residual_trunk import residual_trunk, shrink

WORST = 0.05
"""The share of unedited pictures that are not called clean."""


@dataclass(frozen=True)
class CriticConfig:
    """What a critic is like: its `config.json`.

    Raises:
        ValueError: sizes that do not fit the stages.
    """

    resolution: int = 128
    """Width and height inside, a multiple of 16; other pictures are resized."""
    channels: Sequence[int] = (32, 64, 96)
    """Width of the three stages, multiples of 8."""
    blocks: Sequence[int] = (1, 2, 2)
    """Residual blocks of the three stages."""
    last_channels: int = 64
    """Features of each place of the picture."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), {"channels": MAX_WIDTH, "last_channels": MAX_WIDTH})
        check_sizes(vars(self), {"resolution": MAX_SIDE, "blocks": MAX_LAYERS})
        factor = shrink(self.channels)
        if self.resolution % factor or len(self.blocks) != len(self.channels):
            raise ValueError(
                f"Got resolution {self.resolution}, channels {list(self.channels)} and blocks "
                f"{list(self.blocks)}; expected a multiple of {factor}, and as many of both."
            )


class Critic(SavedWhole, ModelMixin, ConfigMixin):
    """Scores pictures: above 0 rather clean, below rather spoiled."""

    @configured_by(CriticConfig)
    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.resolution = config.resolution
        self.trunk = residual_trunk(config.channels, config.blocks, config.last_channels)
        self.head = nn.Sequential(
            nn.Linear(2 * config.last_channels, config.last_channels),
            nn.SiLU(),
            nn.Linear(config.last_channels, 1),
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Scores of pictures in [-1, 1] of any size.

        Raises:
            ValueError: images are not `[n, 3, h, w]`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1]."
            )
        if images.shape[2:] != (self.resolution, self.resolution):
            size = (self.resolution, self.resolution)
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
        features = self.trunk(images.to(self.dtype))
        # One bad place spoils a picture: the mean of all, and the worst of each feature.
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        scores: Tensor = self.head(pooled)[:, 0]
        return scores.float()

    @torch.no_grad()
    def score(self, images: Float[Tensor, "n 3 h w"], at_once: int = 64) -> Float[Tensor, " n"]:
        """Scores on the CPU, some pictures at a time."""
        parts = [self(part.to(self.device)).cpu() for part in images.split(at_once)]
        return torch.cat(parts)


def clean_limit(scores: Float[Tensor, " n"]) -> float:
    """The score that the worst unedited pictures lie below."""
    return float(scores.quantile(WORST))


def clean_share(before: Float[Tensor, " n"], after: Float[Tensor, " m"]) -> float:
    """The share of edited pictures that are clean.

    Args:
        before: scores of unedited pictures, some hundred for a steady limit.
        after: scores of edited ones.
    """
    return float((after > clean_limit(before)).float().mean())
