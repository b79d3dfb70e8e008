"""How similar a render is to the photograph it should show: pixels, perception, identity."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.artifacts import parse_json
from stylegan_hub.domain import Domain
from stylegan_hub.losses import identity_loss
from stylegan_hub.models.clip import preprocess


@dataclass(frozen=True)
class Likeness:
    """How similar two pictures are.

    Attributes:
        psnr: of the pixels, in dB; 20 is rough, 30 is close, infinity is identical.
        perceptual: distance of the pipeline's CLIP features, from 0 (the same) to 4 (the opposite).
            It cannot be compared between pipelines or with LPIPS.
        identity: cosine of the recognizer's embeddings; 1 is the same person. None if the pipeline
            has no recognizer.
    """

    psnr: float
    perceptual: float
    identity: float | None

    def __str__(self) -> str:
        who = "not measured (no recognizer)" if self.identity is None else f"{self.identity:.2f}"
        return f"PSNR {self.psnr:.1f} dB, perceptual {self.perceptual:.3f}, identity {who}"

    @staticmethod
    def from_json(text: str) -> Likeness:
        """Read what `to_dict` gave, as JSON; the text may be untrusted. Raises `ValueError`."""
        said = parse_json(text, allow_nan=True)  # identical pictures have an infinite PSNR
        if isinstance(said, dict):
            values: list[Any] = [said.get(field.name) for field in fields(Likeness)]
            numbers = values[:-1] if values[-1] is None else values  # without an identity
            if all(type(number) in (int, float) for number in numbers):
                return Likeness(*values)
        raise ValueError(f"a likeness in numbers was expected, got {text[:80]!r}")

    def to_dict(self) -> dict[str, float | None]:
        """The attributes as plain values."""
        return asdict(self)


@torch.no_grad()
def likeness(
    domain: Domain, drawn: Float[Tensor, "n 3 h w"], photos: Float[Tensor, "n 3 h w"]
) -> list[Likeness]:
    """How similar each render is to its photo; both are in [-1, 1] and of the same size.

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
    """The meaning of an identity in words, with the rate at which it is wrong on renders."""
    if identity is None:
        return "Unknown whether it is the same person: this pipeline has no recognizer"
    known = None if domain.recognizer is None else domain.recognizer.config.get("calibration")
    if not known:
        return "Unknown whether it is the same person: the recognizer is not calibrated"
    if identity >= known["same_above"]:
        rate = known["other_accepted"]
        return f"Probably the same person: {rate:.1%} of renders of other people come this close"
    if identity < known["other_below"]:
        rate = known["same_rejected"]
        return f"Not the same person: {rate:.1%} of renders of one person are this far apart"
    return "Possibly the same person: renders of one person and of two people come this close"


class PerceptualDistance:
    """Distance to target pictures in the patch features of CLIP, similar to LPIPS (Zhang 2018).

    After each layer of the image encoder the features of every patch are scaled to length 1; the
    squared distances are averaged over patches and layers. The result lies in [0, 4]. LPIPS itself
    needs the weights of a network that a pipeline does not contain.

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
        """The distance of each picture to its target; differentiable."""
        pairs = zip(self._features(images), self._targets, strict=True)
        return torch.stack([(a - b).square().sum(-1).mean(1) for a, b in pairs]).mean(0)

    def _features(self, images: Tensor) -> list[Float[Tensor, "n patches d"]]:
        pixels = preprocess(images, self._size, *self._normalization)
        states = self._vision(pixel_values=pixels.to(self._vision.dtype), output_hidden_states=True)
        return [F.normalize(one[:, 1:].float(), dim=-1) for one in states.hidden_states[1:]]
