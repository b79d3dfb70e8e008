"""Keep everything outside a region unchanged: join two renders along a soft border."""

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
    """Pictures of `after` inside the region and of `before` outside, for any kind of edit.

    Args:
        before, after: the latents before and after the edit, each in any space.
        blend: "images" joins the two finished pictures. "features" joins the feature maps of every
            layer, so that the generator renders the border as one picture; thin and fine details
            lose a little (measured in docs/results.md, local edits).
        border: width of the soft border, as a share of the picture's width.

    Returns:
        Pictures in [-1, 1].

    Raises:
        ValueError: `before` and `after` have different lengths, the blend is unknown, or the
            pipeline has no parser.
    """
    if len(before) != len(after):
        raise ValueError(
            f"Got {len(before)} latents before and {len(after)} after the edit; give equally many."
        )
    picture = Picture.of(domain, before, blend)
    return picture.changed(domain, after, region, border).image.clamp(-1, 1)


@dataclass(frozen=True)
class Picture:
    """A picture that can be changed region by region.

    Attributes:
        image: not clamped.
        features: the feature map of each layer if layers are joined; else empty.
    """

    image: Float[Tensor, "n 3 h w"]
    features: dict[str, Tensor]

    @staticmethod
    def of(domain: Domain, latents: Latents, blend: Blend = "images") -> Picture:
        """The picture of these latents. Raises `ValueError` for an unknown blend."""
        if blend not in ("features", "images"):
            raise ValueError(f"Got blend {blend!r}; use 'features' or 'images'.")
        layers = [layer.name for layer in domain.generator.style_layout if blend == "features"]
        return Picture(*draw_with_features(domain, latents, layers))

    def changed(
        self, domain: Domain, latents: Latents, region: Region, border: float = BORDER
    ) -> Picture:
        """This picture, with the picture of the latents inside the region."""
        after = domain.synthesize(latents)
        mask = soft_mask(domain, self.image, after, region, border).to(after)
        joined: dict[str, Tensor] = {}
        if self.features:  # coarse features reach beyond the mask, so join the pictures as well
            after, joined = draw_over(domain, latents, self.features, mask)
        return Picture(self.image + mask * (after - self.image), joined)
