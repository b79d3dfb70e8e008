"""The losses: pure functions of tensors, each with its source.

Image and text embeddings are L2-normalized `[n, d]` unless a function says otherwise.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def clip_loss(image: Float[Tensor, "n d"], text: Float[Tensor, "#n d"]) -> Float[Tensor, " n"]:
    """Cosine distance between pictures and text, in [0, 2] (StyleCLIP section 4)."""
    return 1 - (image * text).sum(-1)


def directional_clip_loss(
    image: Float[Tensor, "n d"],
    original: Float[Tensor, "n d"],
    text_change: Float[Tensor, "#n d"],
) -> Float[Tensor, " n"]:
    """Cosine distance between the change of a picture and that of the text (StyleGAN-NADA eq. 2).

    Args:
        text_change: target minus neutral, normalized.
    """
    change = nn.functional.normalize(image - original, dim=-1, eps=1e-6)
    return 1 - (change * text_change).sum(-1)


def identity_loss(
    edited: Float[Tensor, "n d"], original: Float[Tensor, "n d"]
) -> Float[Tensor, " n"]:
    """1 - cosine between a face recognizer's embeddings (StyleCLIP eq. 2)."""
    return 1 - (edited * original).sum(-1)


def arcface_loss(
    embedding: Float[Tensor, "n d"],
    centers: Float[Tensor, "people d"],
    person: Int[Tensor, " n"],
    margin: float = 0.5,
    scale: float = 64.0,
) -> Float[Tensor, " n"]:
    """Additive angular margin loss of a face recognizer (Deng et al. 2019, ArcFace, eq. 3).

    It is a softmax over the cosines between an embedding and one center per person, in which the
    angle to the correct center is increased by the margin. Beyond pi - margin, where a larger angle
    would have a larger cosine again, the cosine is lowered by margin * sin(margin) instead.

    Args:
        centers: of any length; they are normalized here.
        person: index of the correct center.
        margin: in radians, 0 to pi.
        scale: factor on the cosines; the paper's s.
    """
    cosine = embedding @ nn.functional.normalize(centers, dim=1).T
    right = cosine.gather(1, person[:, None])
    # The clamp keeps the root's gradient finite if an embedding equals its center.
    sine = (1 - right.square()).clamp_min(1e-6).sqrt()
    widened = right * math.cos(margin) - sine * math.sin(margin)
    widened = torch.where(right > -math.cos(margin), widened, right - margin * math.sin(margin))
    logits = cosine.scatter(1, person[:, None], widened)
    return nn.functional.cross_entropy(scale * logits, person, reduction="none")


def latent_l2(delta: Float[Tensor, "n ..."]) -> Float[Tensor, " n"]:
    """Sum of squares over all layers and features, as in StyleCLIP's optimizer (eq. 1).

    StyleCLIP's mapper uses the mean instead; divide by the number of elements for that.
    """
    return delta.flatten(1).square().sum(1)


def generator_logistic_loss(fake_logits: Float[Tensor, "n 1"]) -> Tensor:
    """Non-saturating loss of the generator (Goodfellow et al. 2014; StyleGAN2)."""
    return nn.functional.softplus(-fake_logits).mean()


def discriminator_logistic_loss(
    real_logits: Float[Tensor, "n 1"], fake_logits: Float[Tensor, "n 1"]
) -> Tensor:
    """Logistic loss of the discriminator."""
    return (nn.functional.softplus(-real_logits) + nn.functional.softplus(fake_logits)).mean()


def r1_penalty(real_logits: Float[Tensor, "n 1"], reals: Float[Tensor, "n c h w"]) -> Tensor:
    """Half the mean squared gradient of the logits at real pictures (Mescheder et al. 2018).

    Args:
        reals: the pictures, which require gradients.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), reals, create_graph=True)
    return 0.5 * gradient.square().sum((1, 2, 3)).mean()


def path_lengths(
    images: Float[Tensor, "n c h w"], ws: Float[Tensor, "n num_ws w_dim"], noise: Tensor
) -> Float[Tensor, " n"]:
    """Length of the Jacobian-vector product J^T y of the synthesis (StyleGAN2 section 3.2).

    Args:
        noise: standard normal, of the shape of `images`.
    """
    projected = (images * noise).sum() / (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad(projected, ws, create_graph=True)
    return gradient.square().sum(2).mean(1).sqrt()
