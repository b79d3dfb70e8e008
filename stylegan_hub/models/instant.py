"""The stored samples of a domain, from which the instant method finds edits.

Nothing is learned by gradients. Several thousand samples are rendered once, and their w and CLIP
embeddings are stored (`recipes/train_instant.py`). From them follow the scale of a change in CLIP
space (how far samples vary along it) and its displacement (how the w of samples that show it differ
from those of the others), see `methods/instant.py`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from torch import Tensor, nn

from stylegan_hub.artifacts import BaseModel, ClipModel, SavedWhole
from stylegan_hub.bounds import MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by

_MAX_SAMPLES = 2**20
# Those of the drawn portraits, calibrated by recipes/calibrate_fit.py.
_WEIGHTS, _BIAS, _LIMIT = (2.1, 1.0, 3.4), -1.5, 0.35


@dataclass(frozen=True)
class FitTable:
    """The units and weights of a domain from which `methods/fit.py` computes a fit.

    Attributes:
        bimodal: bimodality coefficient of the samples along the change that the median word asks
            for, 0 to 1.
        close, varied: mean and standard deviation, over the words of the bank, of the inner product
            between a text and the samples nearest to it.
        weights, bias: of a logistic regression on bimodality, closeness and the level reached.
        limit: lowest fit that does not count as poor.
        calibrated: whether weights and limit were fitted to known attributes of this domain; if
            not, they are those of the drawn portraits.
        words: all words of the texts that CLIP was trained on, in lower case; none if that is not
            known.

    Raises:
        ValueError: a value that is not a finite number, a limit outside of 0 to 1, or words that
            are no texts.
    """

    bimodal: float
    close: float
    varied: float
    weights: tuple[float, float, float] = _WEIGHTS
    bias: float = _BIAS
    limit: float = _LIMIT
    calibrated: bool = False
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.bimodal, self.close, self.varied, *self.weights, self.bias, self.limit)
        finite = all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
        if not finite or len(self.weights) != 3 or not 0 <= self.limit <= 1:
            raise ValueError(f"Got {self}; expected finite numbers, and a limit from 0 to 1.")
        if self.varied <= 0 or type(self.calibrated) is not bool:
            raise ValueError(f"Got {self}; expected varied above 0.")
        if not all(isinstance(word, str) for word in self.words):
            raise ValueError("Got words of a fit table that are no texts; expected words.")

    def fit(self, values: tuple[float, float, float]) -> float:
        """The fit, 0 to 1, for values of bimodality, closeness and the level reached."""
        logit = self.bias + sum(w * v for w, v in zip(self.weights, values, strict=True))
        return 1 / (1 + math.exp(-min(max(logit, -30.0), 30.0)))


@dataclass(frozen=True)
class InstantConfig:
    """The configuration of an instant model: its sizes, its generator and its CLIP.

    Attributes:
        samples: number of samples.
        w_dim: size of w.
        embedding_dim: size of CLIP's embeddings.
        base_model, clip: fields of `artifacts.BaseModel` and `artifacts.ClipModel`.
        fit: fields of `FitTable`; None if it was not made.
        identity_dim: size of the recognizer's embeddings; 0 if there was no recognizer.

    Raises:
        ValueError: a size that is not an integer of 1 or more, or an invalid `FitTable` in fit.
    """

    samples: int
    w_dim: int
    embedding_dim: int
    base_model: dict[str, Any] = field(default_factory=dict)
    clip: dict[str, Any] = field(default_factory=dict)
    fit: dict[str, Any] | None = None
    identity_dim: int = 0

    def __post_init__(self) -> None:
        check_sizes(
            vars(self), {"samples": _MAX_SAMPLES, "w_dim": MAX_WIDTH, "embedding_dim": MAX_WIDTH}
        )
        check_sizes(vars(self), {"identity_dim": MAX_WIDTH}, least=0)
        _ = self.fit_table

    @property
    def fit_table(self) -> FitTable | None:
        """The table in `fit`; None if there is none, or one that an earlier version made."""
        # Earlier tables have a spread instead, so their weights belong to another number.
        if self.fit is None or "spread" in self.fit:
            return None
        try:
            weights, words = self.fit.get("weights", _WEIGHTS), self.fit.get("words", ())
            return FitTable(**{**self.fit, "weights": tuple(weights), "words": tuple(words)})
        except TypeError as error:
            raise ValueError(f"Got fit {self.fit!r}: {error}.") from error


class InstantModel(SavedWhole, ModelMixin, ConfigMixin):
    """Samples of a domain, as latents and CLIP embeddings.

    Args:
        config: see `InstantConfig`; `InstantModel(samples=..., ...)` builds it.

    Attributes:
        w: `[samples, w_dim]`, with little or no truncation.
        seen: `[samples, embedding_dim]`, embeddings of length 1.
        identity: `[identity_dim, w_dim]`, the linear map from w to the recognizer's embedding,
            without its constant; None if there was no recognizer.
    """

    w: Tensor
    seen: Tensor
    identity: Tensor | None

    @configured_by(InstantConfig)
    def __init__(self, config: InstantConfig) -> None:
        super().__init__()
        self.sizes = config
        self.w = nn.Parameter(torch.zeros(config.samples, config.w_dim), requires_grad=False)
        self.seen = nn.Parameter(
            torch.zeros(config.samples, config.embedding_dim), requires_grad=False
        )
        if config.identity_dim:
            self.identity = nn.Parameter(
                torch.zeros(config.identity_dim, config.w_dim), requires_grad=False
            )
        else:
            self.register_parameter("identity", None)

    @property
    def base_model(self) -> BaseModel:
        """The generator that was sampled."""
        return BaseModel(**self.sizes.base_model)

    @property
    def clip_model(self) -> ClipModel:
        """The CLIP that made the embeddings."""
        return ClipModel(**self.sizes.clip)
