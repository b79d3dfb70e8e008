"""Give the render of an edited face the details of its photograph, in one pass.

An encoder's latent renders a likeness. What it misses (fine texture, light, things the generator
never learned) is the difference between the photograph and the render before the edit. Where an
edit changes nothing, this difference simply belongs to the edited render too; where an edit moves
or replaces something, it does not. The network sees all three pictures and says for every pixel
how much of the difference still holds (a gate), and what else must change (a residual).

The idea is that of StyleFeatureEditor (Bobkov et al. 2024, arXiv 2406.10601), whose networks
correct a feature map of the generator; here the pictures themselves are corrected, so that any
generator, runtime and latent space works unchanged. `recipes/train_detailer.py` trains it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.residual_trunk import GROUP, ResidualBlock

_MAX_PATCH = 16


@dataclass(frozen=True)
class DetailerConfig:
    """The configuration of a detailer, its `config.json`.

    Raises:
        ValueError: sizes that do not fit together.
    """

    patch: int = 4
    """Side in pixels of the squares that are folded into channels: 4 for 256 px, 16 for 1024 px."""
    widths: Sequence[int] = (48, 64, 96)
    """Channels of the stages, each at half the size of the one before; multiples of 8."""
    blocks: int = 1
    """Residual blocks per stage, on the way down and again on the way up."""

    def __post_init__(self) -> None:
        limits = {"patch": _MAX_PATCH, "widths": MAX_WIDTH, "blocks": 16}
        check_sizes(vars(self), limits)
        widths = tuple(self.widths)
        if not widths or any(width < GROUP or width % GROUP for width in widths):
            raise ValueError(f"Got widths {widths}; expected multiples of {GROUP}.")


class Detailer(SavedWhole, ModelMixin, ConfigMixin):
    """Details of a photograph for an edited render; `DetailerConfig` documents its arguments."""

    @configured_by(DetailerConfig)
    def __init__(self, config: DetailerConfig) -> None:
        super().__init__()
        widths, pixels = tuple(config.widths), config.patch**2
        self.first = nn.Conv2d(9 * pixels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_blocks(width, config.blocks) for width in widths)
        self.smaller = nn.ModuleList(
            nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairwise(widths)
        )
        self.larger = nn.ModuleList(nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths))
        self.up = nn.ModuleList(_blocks(width, config.blocks) for width in widths[:-1])
        self.last = nn.Conv2d(widths[0], 4 * pixels, 3, padding=1)
        nn.init.normal_(self.last.weight, std=0.01)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(
        self,
        photographs: Float[Tensor, "n 3 h w"],
        before: Float[Tensor, "n 3 h w"],
        after: Float[Tensor, "n 3 h w"],
    ) -> Float[Tensor, "n 3 h w"]:
        """The edited renders with the photographs' details, in about [-1, 1]; differentiable.

        Args:
            photographs: aligned, in [-1, 1], of any size of which the generator's is an example.
            before: their renders before the edit, at the latents of an inversion.
            after: the renders after it. Without an edit (`after` equal to `before`) the result is
                close to the photographs.

        Raises:
            ValueError: the pictures have different shapes, or are smaller than the network allows.
        """
        shape = photographs.shape
        unit = self.config["patch"] << len(self.smaller)
        if len({shape, before.shape, after.shape}) > 1 or len(shape) != 4 or shape[1] != 3:
            raise ValueError(
                f"Got pictures of shapes {tuple(shape)}, {tuple(before.shape)} and "
                f"{tuple(after.shape)}; expected one shape [n, 3, h, w]."
            )
        if min(shape[2:]) < unit:
            raise ValueError(
                f"Got pictures of {shape[3]} x {shape[2]} pixels; expected {unit} x {unit} or more."
            )
        missing = photographs - before
        seen = torch.cat([missing, before, after - before], dim=1).to(self.dtype)
        # Sides that do not divide are continued at the right and at the bottom.
        right, bottom = -shape[3] % unit, -shape[2] % unit
        said = self._network(F.pad(seen, (0, right, 0, bottom), mode="replicate"))
        said = said[..., : shape[2], : shape[3]].to(photographs.dtype)
        gate, residual = (said[:, :1] + _OPEN).sigmoid(), said[:, 1:]
        result: Tensor = after + gate * missing + residual
        return result

    def _network(self, pictures: Float[Tensor, "n 9 h w"]) -> Float[Tensor, "n 4 h w"]:
        patch = self.config["patch"]
        features = self.first(F.pixel_unshuffle(pictures, patch))
        kept = []
        for blocks, smaller in zip(self.down, [*self.smaller, None], strict=True):
            features = blocks(features)
            if smaller is not None:
                kept.append(features)
                features = smaller(features)
        for blocks, larger in zip(reversed(self.up), reversed(self.larger), strict=True):
            enlarged = F.interpolate(larger(features), scale_factor=2.0, mode="nearest")
            features = blocks(kept.pop() + enlarged)
        return F.pixel_shuffle(self.last(F.silu(features)), patch)


_OPEN = 2.0  # the gate's logit at the start: most of the difference holds


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
