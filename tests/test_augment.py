"""Augmentation: right shapes and ranges, varied between pictures, set by the seed, and gentle."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from stylegan_hub.portraits import augment as augmentations
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.augment import (
    augment,
    blur,
    color_jitter,
    cutout,
    low_resolution,
    noise,
    random_affine,
    sometimes,
)
from stylegan_hub.portraits.distort import distort
from stylegan_hub.portraits.renderer import render

Change = Callable[[Tensor, Generator], Tensor]
ALL: tuple[Change, ...] = (
    augment,
    blur,
    color_jitter,
    cutout,
    low_resolution,
    noise,
    random_affine,
)


def seeded(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """Eight equal pictures with a smooth background and a hard edge."""
    ramp = torch.linspace(-0.8, 0.8, 96)
    picture = torch.stack([ramp.expand(96, 96), ramp[:, None].expand(96, 96), -ramp.expand(96, 96)])
    picture[:, 30:60, 30:60] = torch.tensor([0.9, -0.5, 0.1])[:, None, None]
    return picture.expand(8, 3, 96, 96).clone()


@pytest.mark.parametrize("change", ALL)
def test_shape_range_and_seed(change: Change, images: Tensor) -> None:
    before = images.clone()
    changed = change(images, seeded())
    assert changed.shape == images.shape and changed.dtype == images.dtype
    assert changed.isfinite().all() and changed.min() >= -1 and changed.max() <= 1
    assert torch.equal(images, before), "the input must not be changed"
    assert torch.equal(changed, change(images, seeded()))
    assert not torch.equal(changed, change(images, seeded(1)))


@pytest.mark.parametrize("change", ALL)
def test_every_picture_is_changed_differently(change: Change, images: Tensor) -> None:
    changed = change(images, seeded(2))
    differences = [(changed[i] - changed[0]).abs().max() for i in range(1, 8)]
    assert max(differences) > 1e-3


@pytest.mark.parametrize("change", ALL)
def test_one_rectangular_picture(change: Change) -> None:
    picture = torch.zeros(1, 3, 24, 40)
    assert change(picture, seeded()).shape == picture.shape


@pytest.mark.parametrize("change", [blur, low_resolution, random_affine])
def test_an_even_picture_stays_as_it_is(change: Change) -> None:
    picture = torch.full((4, 3, 32, 32), 0.25)
    assert torch.allclose(change(picture, seeded()), picture, atol=1e-5)


@pytest.mark.parametrize("change", [blur, low_resolution])
def test_details_are_lost(change: Change) -> None:
    checkered = ((torch.arange(128)[:, None] + torch.arange(128)) % 2 * 2.0 - 1).expand(
        9, 3, 128, 128
    )
    assert change(checkered, seeded()).std() < 0.8 * checkered.std()


def test_blur_is_a_gaussian() -> None:
    point = torch.zeros(1, 3, 65, 65)
    point[:, :, 32, 32] = 1
    spread = blur(point, seeded(), max_sigma=0.05)
    assert spread.sum() == pytest.approx(3, abs=1e-4)
    assert torch.allclose(spread, spread.transpose(2, 3), atol=1e-6)
    assert torch.allclose(spread, spread.flip(3), atol=1e-6)
    offsets = torch.arange(65) - 32.0
    variance = (spread[0, 0].sum(0) * offsets.square()).sum()
    assert 0 < variance < (0.05 * 65) ** 2


def test_color_shifts_are_small(images: Tensor) -> None:
    mean_shift = (color_jitter(images, seeded()) - images).mean((2, 3)).abs()
    assert 0.005 < mean_shift.max() < 0.3


def test_affine_moves_little(images: Tensor) -> None:
    still = random_affine(images, seeded(), degrees=0, scale=0, shift=0)
    assert torch.allclose(still, images, atol=1e-5)
    assert (random_affine(images, seeded()) - images).abs().mean() < 0.15


def test_cutout_covers_one_rectangle() -> None:
    covered = cutout(torch.full((64, 3, 32, 32), 2.0), seeded()) != 2.0
    share = covered[:, 0].float().mean((1, 2))
    assert 0 < share.max() <= 0.36**2 + 0.05
    assert torch.equal(covered[:, 0], covered[:, 1])


def test_sometimes(images: Tensor) -> None:
    assert sometimes(noise, images, seeded(), 0.0) is images
    assert torch.equal(sometimes(noise, images, seeded(), 0.0), images)
    many = images[:1].expand(200, -1, -1, -1)
    changed = (sometimes(noise, many, seeded(), 0.3) != many).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4


def test_size_out_of_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"min_size is 0.9; expected at most 0.75"):
        low_resolution(torch.zeros(1, 3, 8, 8), seeded(), min_size=0.9)


def test_gradients_pass_through(images: Tensor) -> None:
    images.requires_grad_()
    augmentations.augment(images, seeded()).square().sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_distorted_portraits_are_far_from_portraits() -> None:
    portraits = render(sample(range(24)), 64)
    strange = distort(portraits, seeded())
    assert strange.shape == portraits.shape
    assert strange.min() >= -1 and strange.max() <= 1
    mild = augmentations.augment(portraits, seeded())
    changed, kept = ((images - portraits).abs().mean((1, 2, 3)) for images in (strange, mild))
    assert changed.min() > 0.03 and changed.mean() > 1.5 * kept.mean()
