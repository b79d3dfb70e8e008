"""Losses against values that can be worked out by hand."""

import itertools
import math

import pytest
import torch
from torch.nn import functional as F

from stylegan_hub.losses import (
    arcface_loss,
    clip_loss,
    directional_clip_loss,
    discriminator_logistic_loss,
    generator_logistic_loss,
    identity_loss,
    latent_l2,
    path_lengths,
    r1_penalty,
)


def test_clip_loss_is_the_cosine_distance_per_picture() -> None:
    text = F.normalize(torch.tensor([[1.0, 0.0]]), dim=1)
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert torch.allclose(clip_loss(images, text), torch.tensor([0.0, 1.0, 2.0]))


def test_directional_loss_looks_at_the_change_alone() -> None:
    original = torch.tensor([[0.6, 0.8]])
    change = torch.tensor([[0.0, 1.0]])
    towards, away = original + 0.1 * change, original - 0.3 * change
    assert torch.allclose(directional_clip_loss(towards, original, change), torch.zeros(1))
    assert torch.allclose(directional_clip_loss(away, original, change), torch.full((1,), 2.0))


def test_directional_loss_of_no_change_has_a_finite_gradient() -> None:
    edited = torch.tensor([[0.6, 0.8]], requires_grad=True)
    directional_clip_loss(edited, edited.detach(), torch.tensor([[0.0, 1.0]])).sum().backward()
    assert edited.grad is not None and edited.grad.isfinite().all()


def test_identity_and_latent_terms() -> None:
    same = F.normalize(torch.randn(3, 8), dim=1)
    assert torch.allclose(identity_loss(same, same), torch.zeros(3), atol=1e-6)
    # A sum over all layers and features, not a mean: StyleCLIP's lambda 0.008 assumes that.
    assert torch.equal(latent_l2(torch.full((2, 3, 5), 2.0)), torch.tensor([60.0, 60.0]))


def test_adversarial_losses_at_the_start() -> None:
    undecided = torch.zeros(4, 1)
    assert math.isclose(float(generator_logistic_loss(undecided)), math.log(2), rel_tol=1e-6)
    both = discriminator_logistic_loss(undecided, undecided)
    assert math.isclose(float(both), 2 * math.log(2), rel_tol=1e-6)


def test_r1_is_half_the_squared_gradient() -> None:
    reals = torch.randn(2, 3, 4, 4, requires_grad=True)
    logits = (reals * 0.5).sum((1, 2, 3))[:, None]
    assert torch.allclose(r1_penalty(logits, reals), torch.tensor(0.5 * 48 * 0.25))


def at_angles(*degrees: float) -> torch.Tensor:
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


def test_arcface_loss_is_a_softmax_with_a_wider_right_angle() -> None:
    margin, scale = math.radians(20), 8.0
    centers = 3 * at_angles(0, 90, 180)  # their length does not matter
    loss = arcface_loss(at_angles(30, 60), centers, torch.tensor([0, 1]), margin, scale)
    # 30 degrees from the first center count as 50, those to the others are 60 and 150.
    powers = [math.exp(scale * math.cos(math.radians(angle))) for angle in (50, 60, 150)]
    # 30 degrees from the second center count as 50, those to the others are 60 and 120.
    others = [math.exp(scale * math.cos(math.radians(angle))) for angle in (50, 60, 120)]
    expected = [-math.log(powers[0] / sum(powers)), -math.log(others[0] / sum(others))]
    assert loss.tolist() == pytest.approx(expected, rel=1e-6)


def test_arcface_loss_rises_with_the_angle_up_to_the_opposite() -> None:
    losses = [
        # The other center is at a right angle, so only the right one changes the loss.
        arcface_loss(at_angles(angle), at_angles(0, angle + 90), torch.tensor([0]), 0.5, 4.0)
        for angle in range(0, 181, 5)
    ]
    assert all(later > sooner for sooner, later in itertools.pairwise(losses))


def test_arcface_loss_has_finite_gradients_at_a_center() -> None:
    embedding = at_angles(0).requires_grad_()
    arcface_loss(embedding, at_angles(0, 90), torch.tensor([0])).sum().backward()
    assert embedding.grad is not None and torch.isfinite(embedding.grad).all()


def test_path_lengths_of_a_linear_synthesis() -> None:
    ws = torch.randn(2, 3, 5, requires_grad=True)
    pixels = torch.randn(5, 1 * 4 * 4)
    images = (ws.sum(1) @ pixels).view(2, 1, 4, 4)
    noise = torch.randn(2, 1, 4, 4)
    # Every layer's gradient is pixels @ noise / sqrt(h w), so the mean over layers is that of one.
    expected = (noise.flatten(1) @ pixels.T / 4).norm(dim=1)
    assert torch.allclose(path_lengths(images, ws, noise), expected, rtol=1e-5)
