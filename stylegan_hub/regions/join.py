"""Change nothing outside of a region: two renders are joined along a soft border."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.domain import Domain
from stylegan_hub.latents import Latents
from stylegan_hub.regions.feature_maps import draw_over, draw_with_features
from stylegan_hub.regions.find import Region
from stylegan_hub.regions.mask import BORDER, soft_mask

Blend = Literal["features", "images"]


@torch.no_grad()
def draw_within(
    domain: Domain,
    before: Latents,
    after: Latents,
    region: Region,
    blend: Blend = "images",
    border: float = BORDER,
) -> Float[Tensor, "n 3 h w"]:
    """Pictures of `after` inside the region and of `before` outside, for any edit whatever.

    Args:
        before, after: the same latents before and after, each in any space.
        blend: "images" joins the two finished pictures; "features" joins what every layer of the
            generator draws, so that the border is drawn as one picture, and costs a little of
            what is thin or fine (docs/results.md, local edits).
        border: width of the soft border, as a share of the picture's.

    Returns:
        Pictures in [-1, 1].

    Raises:
        ValueError: numbers of people that differ, another blend, or a pipeline without a parser.
    """
    if len(before) != len(after):
        raise ValueError(f"Got {len(before)} latents before and {len(after)} after the edit.")
    picture = Picture.of(domain, before, blend)
    return picture.changed(domain, after, region, border).image.clamp(-1, 1)


@dataclass(frozen=True)
class Picture:
    """A picture that can be drawn over, part by part.

    Attributes:
        image: not clamped.
        features: what each layer drew, when layers shall be joined; else nothing.
    """

    image: Float[Tensor, "n 3 h w"]
    features: dict[str, Tensor]

    @staticmethod
    def of(domain: Domain, latents: Latents, blend: Blend = "images") -> Picture:
        """The picture of these latents. Raises `ValueError` for another blend."""
        if blend not in ("features", "images"):
            raise ValueError(f"Got blend {blend!r}; use 'features' or 'images'.")
        layers = [layer.name for layer in domain.generator.style_layout if blend == "features"]
        return Picture(*draw_with_features(domain, latents, layers))

    def changed(
        self, domain: Domain, latents: Latents, region: Region, border: float = BORDER
    ) -> Picture:
        """This picture, and in the region that of the latents."""
        after = domain.synthesize(latents)
        mask = soft_mask(domain, self.image, after, region, border).to(after)
        joined: dict[str, Tensor] = {}
        if self.features:  # coarse ones reach beyond the mask, so pictures are joined as well
            after, joined = draw_over(domain, latents, self.features, mask)
        return Picture(self.image + mask * (after - self.image), joined)
