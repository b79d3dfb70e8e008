"""The discriminator: its published sizes, and its properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from stylegan_hub.models.discriminator import StyleGAN2Discriminator, minibatch_deviation


def small(**changes: Any) -> StyleGAN2Discriminator:
    torch.manual_seed(0)
    return StyleGAN2Discriminator(**({"img_resolution": 16, "channels": [8, 6, 4]} | changes))


@pytest.mark.parametrize(
    ("resolution", "channel_base", "count"),
    [(256, 16384, 24_001_089), (1024, 32768, 29_012_513)],  # the published sizes, from memory
)
def test_parameter_counts(resolution: int, channel_base: int, count: int) -> None:
    with torch.device("meta"):
        model = StyleGAN2Discriminator(img_resolution=resolution, channel_base=channel_base)
    assert sum(p.numel() for p in model.parameters()) == count


def test_names() -> None:
    names = list(small(c_dim=2).state_dict())
    assert names[:4] == [
        "b16.resample_filter",
        "b16.fromrgb.weight",
        "b16.fromrgb.bias",
        "b16.fromrgb.resample_filter",
    ]
    assert {"b8.skip.weight", "b4.conv.bias", "b4.fc.weight", "mapping.embed.weight"} < set(names)
    assert "b8.fromrgb.weight" not in names and "b8.skip.bias" not in names


def test_untrained_logits_have_a_sane_scale() -> None:
    torch.manual_seed(0)
    model = StyleGAN2Discriminator(img_resolution=64, channel_max=64)
    logits = model(torch.randn(8, 3, 64, 64))
    assert logits.shape == (8, 1) and 0.001 < logits.std() < 30


def test_gradient_penalty_has_a_gradient() -> None:
    model = small().double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64, requires_grad=True)

    def penalty(scale: torch.Tensor) -> torch.Tensor:
        (gradient,) = torch.autograd.grad(model(images * scale).sum(), images, create_graph=True)
        return gradient.square().sum()

    assert torch.autograd.gradcheck(penalty, torch.tensor(1.3).double().requires_grad_())
    penalty(torch.tensor(1.0)).backward()
    weight = model.b16.conv0.weight
    assert weight.grad is not None and weight.grad.abs().sum() > 0


def test_images_of_a_group_are_compared() -> None:
    x = torch.randn(1, 8, 4, 4)
    same, different = x.repeat(4, 1, 1, 1), torch.randn(4, 8, 4, 4)
    assert minibatch_deviation(same, 4).max() < 1e-3
    expected = (different.var(dim=0, correction=0) + 1e-8).sqrt().mean()
    deviation = minibatch_deviation(different, 4)
    assert deviation.shape == (4, 1, 4, 4)
    torch.testing.assert_close(deviation, expected.expand(4, 1, 4, 4))


def test_labels_choose_what_is_real() -> None:
    model = small(c_dim=3)
    images = torch.randn(1, 3, 16, 16).repeat(3, 1, 1, 1)
    logits = model(images, torch.eye(3))
    assert logits.shape == (3, 1) and not torch.allclose(logits[0], logits[1])


def test_conv_clamp_scales_with_the_gain() -> None:
    images = 100 * torch.randn(4, 3, 16, 16)
    assert not torch.allclose(small(conv_clamp=0.5)(images), small()(images))
    torch.testing.assert_close(small(conv_clamp=1e6)(images), small()(images))


def test_saving_keeps_everything(tmp_path: Path) -> None:
    model = small(channels={"4": 8, "8": 6, "16": 4})
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(StyleGAN2Discriminator.from_pretrained(tmp_path)(images), model(images))


def test_errors_say_what_to_do() -> None:
    model = small()
    with pytest.raises(ValueError, match=r"\(1, 3, 8, 8\); expected \[n, 3, 16, 16\]. Resize"):
        model(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"batch of 6 images .*group size 4"):
        model(torch.zeros(6, 3, 16, 16))
    with pytest.raises(ValueError, match="takes no labels: pass None"):
        model(torch.zeros(4, 3, 16, 16), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"c = None; expected \[n, c_dim=2\]"):
        small(c_dim=2)(torch.zeros(4, 3, 16, 16))
    with pytest.raises(ValueError, match="img_resolution=4; expected at least 8"):
        small(img_resolution=4, channels=[8])
