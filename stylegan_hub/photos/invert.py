"""Inversion: find the latent that renders an aligned picture.

There are three ways, each building on the one before:

- *encoding*: the pipeline's encoder (e4e) predicts the latent in one pass. The latent is near W, so
  edits work.
- *refining*: a search in w_plus near that latent for one that renders the picture better. Offsets
  are searched in the units in which w varies. Layers move together more easily than alone. Both the
  distance to the start and the differences between layers are penalized, because a latent that
  leaves W can render anything but can no longer be edited (Tov et al. 2021, section 3, "Designing
  an Encoder for StyleGAN Image Manipulation").
- *tuning*: the generator itself learns the picture at a fixed latent, the pivot (Roich et al. 2021,
  "Pivotal Tuning for Latent-based Editing of Real Images", equations 2 to 4). The loss is the
  perceptual and squared distance to the picture, and, at latents around the pivot, to what the
  generator rendered before. Differences from the paper: affine layers are not tuned, so that style
  space, and with it every edit, means the same before and after; the perceptual distance is that of
  the pipeline's CLIP.

Pictures here are float `[n, 3, h, w]` in [-1, 1], of the generator's resolution.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.domain import RECIPES, Domain, tunable_parameters
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import identity_loss
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.photos.likeness import PerceptualDistance
from stylegan_hub.steps import OnStep, Step, ramp


@dataclass(frozen=True)
class Refinement:
    """Settings for refining a latent."""

    steps: int = 100
    lr: float = 0.02
    """Peak learning rate of Adam, in standard deviations of w."""
    l2_lambda: float = 1.0
    """Weight of the mean squared difference of the pixels."""
    perceptual_lambda: float = 0.8
    """Weight of the distance of CLIP's patch features."""
    id_lambda: float = 0.1
    """Weight of the identity loss, if the pipeline has a recognizer."""
    anchor_lambda: float = 0.5
    """Weight of the mean squared offset from the encoder's latent; unused without an encoder."""
    spread_lambda: float = 1.0
    """Weight of the mean squared differences between the layers."""
    coupling: float = 3.0
    """How much more easily layers move together than alone."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lr > 0 or self.coupling < 0:
            raise ValueError(
                f"Got steps {self.steps}, lr {self.lr}, coupling {self.coupling}; expected at "
                "least one step, a positive lr and a coupling of 0 or more."
            )


@dataclass(frozen=True)
class Tuning:
    """Settings for tuning a generator. The defaults are the paper's, except steps (there 350)."""

    steps: int = 100
    lr: float = 3e-4
    """Learning rate of Adam."""
    l2_lambda: float = 1.0
    """Weight of the mean squared difference of the pixels."""
    perceptual_lambda: float = 1.0
    """Weight of the distance of CLIP's patch features."""
    locality_lambda: float = 0.1
    """Weight of the change at other latents around the pivot; 0 = none, which is twice as fast."""
    locality_distance: float = 30.0
    """Distance of those latents from the pivot, in w."""
    seed: int = 0
    """Random seed for those latents."""

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.lr > 0:
            raise ValueError(
                f"Got steps {self.steps}, lr {self.lr}; expected at least one step and a "
                "positive lr."
            )


def invert(
    domain: Domain,
    image: Image.Image | Sequence[Image.Image] | Float[Tensor, "n 3 h w"],
    refine_by: int | Refinement = 0,
    on_step: OnStep | None = None,
) -> Latents:
    """The latents in w_plus that render aligned pictures, see `StyleEditPipeline.invert`."""
    images = aligned(domain, image)
    if refine_by == 0:
        return encode(domain, images)
    if isinstance(refine_by, int):
        refine_by = Refinement(steps=refine_by)
    return refine(domain, images, settings=refine_by, on_step=on_step)


def aligned(
    domain: Domain, image: Image.Image | Sequence[Image.Image] | Tensor
) -> Float[Tensor, "n 3 height width"]:
    """Pictures in the size that the generator renders, on its device.

    Raises:
        ValueError: pictures of another shape.
    """
    images = image if isinstance(image, Tensor) else image_files.from_pil(image)
    height, width = domain.generator.img_size
    if images.ndim == 4 and images.shape[2] * width != images.shape[3] * height:
        square = height == width
        wanted = "an aligned square" if square else f"the shape of {width} x {height}"
        raise ValueError(
            f"Got a picture of {images.shape[3]} x {images.shape[2]} pixels; expected "
            f"{wanted}. Cut it out first with photos.align or `stylegan-hub invert`."
        )
    return image_files.resize(images.to(domain.device, domain.dtype), (height, width))


@torch.no_grad()
def encode(domain: Domain, images: Float[Tensor, "n 3 h w"]) -> Latents:
    """Latents in w_plus by the pipeline's encoder.

    Raises:
        ValueError: the pipeline has no encoder.
    """
    if domain.encoder is None:
        raise ValueError(
            "This pipeline has no encoder, so a latent cannot be predicted directly. Search for "
            "one from the average face: refine=300, or --refine 300 on the command line. "
            f"{RECIPES['encoder']} trains an encoder."
        )
    return Latents(Space.W_PLUS, domain.encoder.encode(images.to(domain.device)).to(domain.dtype))


@torch.enable_grad()  # also inside a caller's no_grad
def refine(
    domain: Domain,
    images: Float[Tensor, "n 3 h w"],
    start: Latents | None = None,
    settings: Refinement | None = None,
    on_step: OnStep | None = None,
) -> Latents:
    """Search for latents in w_plus near the start that render the pictures better.

    Args:
        start: one latent for each picture, in w_plus; the encoder's if None. A pipeline without an
            encoder starts from the average face, with a warning.
        on_step: called after each step; an exception that it raises ends the search.

    Raises:
        ValueError: not one latent in w_plus for each picture.
        MismatchError: the latents belong to another generator.
    """
    settings = settings or Refinement()
    domain = domain.in_full_precision()  # half precision has too few digits for small steps
    images = images.to(domain.device, domain.dtype)
    anchor_lambda = settings.anchor_lambda
    if start is None and domain.encoder is not None:
        start = encode(domain, images)
    elif start is None:
        warnings.warn(
            "This pipeline has no encoder, so the search starts from the average face. It takes "
            f"more steps and may end at a different face. {RECIPES['encoder']} trains an encoder.",
            stacklevel=2,
        )
        start, anchor_lambda = domain.mean_latent().repeat(len(images)), 0.0
    _check_start(domain, start, images)
    first = start.codes.detach().to(domain.device, domain.dtype)
    units = domain.units(Space.W_PLUS)
    drawing = _Closeness(
        domain, images, settings.l2_lambda, settings.perceptual_lambda, settings.id_lambda
    )
    offset = torch.zeros_like(first, dtype=torch.float32, requires_grad=True)
    # How far apart the layers are to begin with, in standard deviations.
    spread = units.from_codes((first - first.mean(1, keepdim=True)).float())
    optimizer = torch.optim.Adam([offset], lr=settings.lr, betas=(0.9, 0.99))
    for index in range(settings.steps):
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * ramp(index, settings.steps)
        moved = offset + settings.coupling * offset.mean(1, keepdim=True)
        codes = first + units.to_codes(moved).to(first)
        drawn = domain.synthesize(Latents(Space.W_PLUS, codes))
        losses = drawing(drawn)
        losses = losses + anchor_lambda * moved.square().mean((1, 2))
        apart = spread + moved - moved.mean(1, keepdim=True)
        losses = losses + settings.spread_lambda * apart.square().mean((1, 2))
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        _tell(on_step, index, settings.steps, losses, drawn)
    with torch.no_grad():
        moved = offset + settings.coupling * offset.mean(1, keepdim=True)
        return Latents(Space.W_PLUS, first + units.to_codes(moved).to(first))


@torch.enable_grad()
def tune(
    domain: Domain,
    image: Float[Tensor, "1 3 h w"],
    pivot: Latents,
    settings: Tuning | None = None,
    on_step: OnStep | None = None,
) -> StyleGAN2Generator:
    """A copy of the generator that renders the picture at the pivot, and other faces as before.

    Args:
        pivot: one latent in w_plus, as `encode` or `refine` returns it.
        on_step: called after each step; an exception that it raises ends the tuning.

    Raises:
        ValueError: not exactly one picture and one latent in w_plus.
        MismatchError: the latent belongs to another generator.
    """
    settings = settings or Tuning()
    if len(image) != 1:
        raise ValueError(f"Got {len(image)} pictures; expected one. Tune a generator to each.")
    domain = domain.in_full_precision()
    image = image.to(domain.device, domain.dtype)
    _check_start(domain, pivot, image)
    generator: StyleGAN2Generator = copy.deepcopy(domain.generator)
    learned = [parameter.requires_grad_(True) for _, parameter in tunable_parameters(generator)]
    closeness = _Closeness(domain, image, settings.l2_lambda, settings.perceptual_lambda, 0.0)
    codes = pivot.codes.detach().to(domain.device, domain.dtype)
    draw = torch.Generator().manual_seed(settings.seed)
    optimizer = torch.optim.Adam(learned, lr=settings.lr)
    for index in range(settings.steps):
        drawn = generator.synthesis(codes, noise_mode="const")
        losses = closeness(drawn)
        if settings.locality_lambda > 0:
            others = _around(domain, codes, settings.locality_distance, draw)
            with torch.no_grad():
                before = domain.generator.synthesis(others, noise_mode="const")
            same = _Closeness(domain, before, settings.l2_lambda, settings.perceptual_lambda, 0.0)
            changed = same(generator.synthesis(others, noise_mode="const"))
            losses = losses + settings.locality_lambda * changed
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        _tell(on_step, index, settings.steps, losses, drawn)
    return generator.eval().requires_grad_(False)


class _Closeness:
    """The distance of pictures from their targets, as a loss."""

    def __init__(
        self,
        domain: Domain,
        targets: Tensor,
        l2_lambda: float,
        perceptual_lambda: float,
        id_lambda: float,
    ) -> None:
        self._targets = targets
        self._weights = (l2_lambda, perceptual_lambda, id_lambda)
        self._perceptual = PerceptualDistance(domain, targets) if perceptual_lambda else None
        self._recognizer = domain.recognizer if id_lambda else None
        if self._recognizer is not None:
            with torch.no_grad():
                self._identity = self._recognizer(targets)

    def __call__(self, drawn: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
        l2_lambda, perceptual_lambda, id_lambda = self._weights
        losses = l2_lambda * (drawn - self._targets).square().flatten(1).mean(1).float()
        if self._perceptual is not None:
            losses = losses + perceptual_lambda * self._perceptual(drawn)
        if self._recognizer is not None:
            likeness = identity_loss(self._recognizer(drawn), self._identity)
            losses = losses + id_lambda * likeness
        return losses


@torch.no_grad()
def _around(
    domain: Domain, pivot: Tensor, distance: float, draw: torch.Generator
) -> Float[Tensor, "1 num_ws w_dim"]:
    """A latent on the way from the pivot to a random sample (equation 4)."""
    z = torch.randn(1, domain.generator.config.z_dim, generator=draw).to(pivot)
    step = domain.generator.mapping(z) - pivot
    length = step.flatten(1).norm(dim=1).clamp_min(1e-6)
    share = (distance / length).clamp(max=1)  # not beyond that sample
    return pivot + share[:, None, None] * step


def _check_start(domain: Domain, start: Latents, images: Tensor) -> None:
    if start.space is not Space.W_PLUS or len(start) != len(images):
        raise ValueError(
            f"Got {start!r} for {len(images)} pictures; expected one latent in w_plus for each."
        )
    domain.lower(start, Space.W_PLUS)  # raises for another generator's
    height, width = domain.generator.img_size
    if tuple(images.shape[1:]) != (3, height, width):
        raise ValueError(
            f"Got pictures of shape {list(images.shape)}; expected [n, 3, {height}, {width}], as "
            "the generator renders them. Resize them with images.resize."
        )


def _tell(on_step: OnStep | None, index: int, total: int, losses: Tensor, drawn: Tensor) -> None:
    if on_step is not None:
        loss = float(losses.detach().mean())
        if not math.isfinite(loss):
            raise ValueError(f"The loss became {loss} in step {index + 1}. Use a lower lr.")
        on_step(Step(index + 1, total, drawn[:1].detach(), loss))
