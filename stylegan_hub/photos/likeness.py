"""How much a drawn picture is like the photograph it shall show: pixels, perception, identity."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.domain import Domain
from stylegan_hub.losses import identity_loss
from stylegan_hub.models.clip import preprocess


@dataclass(frozen=True)
class Likeness:
    """How much two pictures are alike.

    Attributes:
        psnr: of the pixels, in dB; 20 is rough, 30 is close, infinity is the same.
        perceptual: distance of the pipeline's CLIP features, 0 the same to 4 the opposite; it
            compares with no other pipeline's and with no LPIPS.
        identity: cosine of the recognizer's embeddings, 1 is the same person; None without one.
    """

    psnr: float
    perceptual: float
    identity: float | None

    def __str__(self) -> str:
        who = "not measured (no recognizer)" if self.identity is None else f"{self.identity:.2f}"
        return f"PSNR {self.psnr:.1f} dB, perceptual {self.perceptual:.3f}, identity {who}"

    def to_dict(self) -> dict[str, float | None]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def likeness(
    domain: Domain, drawn: Float[Tensor, "n 3 h w"], photos: Float[Tensor, "n 3 h w"]
) -> list[Likeness]:
    """How much each drawn picture is like its photo, both in [-1, 1] and of one size.

    Raises:
        ValueError: different shapes.
    """
    if drawn.shape != photos.shape:
        raise ValueError(f"Got pictures of shape {list(drawn.shape)} and {list(photos.shape)}.")
    drawn, photos = drawn.to(domain.device).clamp(-1, 1), photos.to(domain.device)
    squared = (drawn - photos).square().flatten(1).mean(1).tolist()
    psnr = [10 * math.log10(4 / error) if error > 0 else math.inf for error in squared]
    perceptual = PerceptualDistance(domain, photos)(drawn).tolist()
    identity: list[float] | list[None] = [None] * len(drawn)
    if domain.recognizer is not None:
        identity = (1 - identity_loss(domain.recognizer(drawn), domain.recognizer(photos))).tolist()
    return [Likeness(*values) for values in zip(psnr, perceptual, identity, strict=True)]


def same_person(domain: Domain, identity: float | None) -> str:
    """What an identity says, in words, with the rate at which it is wrong on renders."""
    if identity is None:
        return "Nobody says whether it is the same person"
    known = None if domain.recognizer is None else domain.recognizer.config.get("calibration")
    if not known:
        return "Nobody measured what this number says of a person"
    if identity >= known["same_above"]:
        rate = known["other_accepted"]
        return f"Probably the same person: of other people's renders, {rate:.1%} come as near"
    if identity < known["other_below"]:
        rate = known["same_rejected"]
        return f"Not the same person: of one person's renders, {rate:.1%} are as far apart"
    return "Perhaps the same person: renders of one and of two people come as near"


class PerceptualDistance:
    """Distance to some pictures in the patches of a CLIP, in the manner of LPIPS (Zhang 2018).

    After each layer of the image encoder the features of every patch are scaled to length 1; the
    squared distances are averaged over patches and layers. It lies in [0, 4]. LPIPS needs the
    weights of a network that a pipeline does not hold.

    Args:
        targets: pictures in [-1, 1].
    """

    def __init__(self, domain: Domain, targets: Float[Tensor, "n 3 h w"]) -> None:
        self._vision = domain.clip.vision_model
        self._size = domain.clip.config.vision_config.image_size
        self._normalization = (domain.image_processor.image_mean, domain.image_processor.image_std)
        with torch.no_grad():
            self._targets = self._features(targets)

    def __call__(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        """Of each picture to its target; differentiable."""
        pairs = zip(self._features(images), self._targets, strict=True)
        return torch.stack([(a - b).square().sum(-1).mean(1) for a, b in pairs]).mean(0)

    def _features(self, images: Tensor) -> list[Float[Tensor, "n patches d"]]:
        pixels = preprocess(images, self._size, *self._normalization)
        states = self._vision(pixel_values=pixels.to(self._vision.dtype), output_hidden_states=True)
        return [F.normalize(one[:, 1:].float(), dim=-1) for one in states.hidden_states[1:]]
