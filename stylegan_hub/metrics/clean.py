"""Whether edited pictures are as clean as unedited ones: a critic, and the share that it accepts.

Success and collateral do not measure ghosts, halos and neon hats. The critic is a small network
that distinguishes samples and drawn portraits from ones that were spoiled on purpose
(`portraits/spoil.py`). It is not used in any loss, early stopping or choice of settings, so no
search has adapted to it. **clean** is the share of edited pictures whose score is above that of the
worst 5 % of unedited ones.
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
"""The share of unedited pictures that do not count as clean."""


@dataclass(frozen=True)
class CriticConfig:
    """The configuration of a critic, its `config.json`.

    Raises:
        ValueError: sizes that do not fit the stages.
    """

    resolution: int = 128
    """Width and height of the input, a multiple of 16; other pictures are resized."""
    channels: Sequence[int] = (32, 64, 96)
    """Width of the three stages, multiples of 8."""
    blocks: Sequence[int] = (1, 2, 2)
    """Residual blocks of the three stages."""
    last_channels: int = 64
    """Number of features at each position."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), {"channels": MAX_WIDTH, "last_channels": MAX_WIDTH})
        check_sizes(vars(self), {"resolution": MAX_SIDE, "blocks": MAX_LAYERS})
        factor = shrink(self.channels)
        if self.resolution % factor or len(self.blocks) != len(self.channels):
            raise ValueError(
                f"Got resolution {self.resolution}, channels {list(self.channels)} and blocks "
                f"{list(self.blocks)}; expected a resolution that is a multiple of {factor}, and "
                "as many blocks as channels."
            )


class Critic(SavedWhole, ModelMixin, ConfigMixin):
    """Scores pictures: above 0 means rather clean, below 0 rather spoiled."""

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
        # One bad spot spoils a picture, so the maximum of each feature is used besides the mean.
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        scores: Tensor = self.head(pooled)[:, 0]
        return scores.float()

    @torch.no_grad()
    def score(self, images: Float[Tensor, "n 3 h w"], at_once: int = 64) -> Float[Tensor, " n"]:
        """Scores, returned on the CPU; `at_once` pictures are scored at a time."""
        parts = [self(part.to(self.device)).cpu() for part in images.split(at_once)]
        return torch.cat(parts)


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
