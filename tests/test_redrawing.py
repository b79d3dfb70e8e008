"""Rendering from the first layer that changed gives the same picture with less work."""

from __future__ import annotations

import pytest
import torch

from stylegan_hub.models.redrawing import Redrawing
from stylegan_hub.models.stylegan2 import StyleGAN2Generator


def small(architecture: str = "skip") -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        8, 0, 8, 32, channels=[8, 8, 8, 8], num_mapping_layers=1, architecture=architecture
    )
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    return generator.eval().requires_grad_(False)


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_same_pictures_from_the_first_change_on(architecture: str, noise_mode: str) -> None:
    generator = small(architecture)
    drawing = Redrawing(generator, noise_mode)  # type: ignore[arg-type]
    s = torch.randn(2, generator.num_styles)
    layout = generator.style_layout
    assert torch.equal(drawing(s), generator.synthesis_from_styles(s, noise_mode))
    assert drawing.layers_drawn == len(layout)
    for index, layer in reversed(list(enumerate(layout))):
        s = s.clone()
        s[1, layer.start] += 1  # of one picture only
        assert torch.equal(drawing(s), generator.synthesis_from_styles(s, noise_mode))
        assert drawing.layers_drawn == len(layout) - index
    assert torch.equal(drawing(s), generator.synthesis_from_styles(s, noise_mode))
    assert drawing.layers_drawn == 0


def test_callers_may_write_into_their_codes() -> None:
    generator = small()
    drawing = Redrawing(generator)
    s = torch.randn(1, generator.num_styles)
    drawing(s)
    s[0, 0] += 1
    assert torch.equal(drawing(s), generator.synthesis_from_styles(s))


def test_another_count_or_precision_begins_anew() -> None:
    generator = small()
    drawing = Redrawing(generator)
    s = torch.randn(2, generator.num_styles)
    drawing(s)
    assert torch.equal(drawing(s[:1]), generator.synthesis_from_styles(s[:1]))
    assert drawing.layers_drawn == len(generator.style_layout)
    drawing(s[:1].double())
    assert drawing.layers_drawn == len(generator.style_layout)


def test_a_failed_drawing_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = small()
    drawing = Redrawing(generator)
    s = torch.randn(1, generator.num_styles)
    drawing(s)
    with monkeypatch.context() as patch:
        patch.setattr(
            generator.synthesis.b8.torgb, "forward", lambda *_: (_ for _ in ()).throw(MemoryError())
        )
        with pytest.raises(MemoryError):
            drawing(-s)
    assert torch.equal(drawing(s), generator.synthesis_from_styles(s))
    assert drawing.layers_drawn == len(generator.style_layout)


def test_wrong_size() -> None:
    generator = small()
    with pytest.raises(ValueError, match=r"Got style codes of shape \(1, 3\); expected \[n, num_"):
        Redrawing(generator)(torch.zeros(1, 3))
