"""Rendered portraits with captions: like `celeba_hq.CelebAHQ`, but without files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from stylegan_hub.celeba_hq import CAPTIONS
from stylegan_hub.portraits.captions import captions
from stylegan_hub.portraits.dataset import RenderCache


class CaptionedPortraits:
    """A render cache with ten captions for each portrait, always the same ones.

    Args:
        cache: folder made by recipes/render_portraits.py.
        limit: number of portraits to use. None: all that are ready.

    Raises:
        FileNotFoundError: there is no cache in the folder.
        ValueError: it holds fewer portraits than `limit`.
    """

    def __init__(self, cache: Path | str, limit: int | None = None) -> None:
        self._cache = RenderCache(cache)
        ready = len(self._cache)
        if limit is not None and limit > ready:
            raise ValueError(
                f"{cache} holds {ready} portraits, asked for {limit}; render more with "
                "recipes/render_portraits.py, or ask for fewer."
            )
        self._length = ready if limit is None else limit

    def __len__(self) -> int:
        return self._length

    def images(self, indices: Sequence[int] | Tensor) -> UInt8[Tensor, "n 3 h w"]:
        """Pictures as bytes."""
        return self._cache.images(indices)

    def texts(self, indices: Sequence[int] | Tensor) -> list[list[str]]:
        """Ten captions for each of these portraits."""
        seeds = [int(index) for index in indices]
        return captions(self._cache.portraits(seeds), seeds, CAPTIONS)
