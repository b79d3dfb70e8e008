"""CUDA graphs render what the generator renders; without a GPU they say what to do."""

from __future__ import annotations

import pytest
import torch

from stylegan_hub.models.graphed import Graphed
from stylegan_hub.models.stylegan2 import StyleGAN2Generator


def tiny_generator(**options: object) -> StyleGAN2Generator:
    torch.manual_seed(0)
    sizes = {"z_dim": 8, "w_dim": 8, "img_resolution": 32, "channels": [8, 8, 8, 8]}
    return StyleGAN2Generator(**sizes, **options).eval().requires_grad_(False)  # type: ignore[arg-type]


def test_a_processor_is_refused() -> None:
    with pytest.raises(ValueError, match=r"generator on cpu"):
        Graphed(tiny_generator(), 2)


@pytest.mark.parametrize("num_fp16_res", [0, 1, 3, 9])
def test_half_precision_is_for_the_highest_resolutions(num_fp16_res: int) -> None:
    generator = tiny_generator()
    before = generator.fingerprint()
    generator.use_half_precision(num_fp16_res)
    blocks = [block.use_fp16 for _, block in generator.synthesis.named_children()]
    highest = min(num_fp16_res, 3)  # of 4, 8, 16 and 32 px, but not 4
    assert blocks == [False] * (4 - highest) + [True] * highest
    assert generator.config.num_fp16_res == num_fp16_res
    assert generator.fingerprint() == before
    same = [
        block.use_fp16
        for _, block in tiny_generator(num_fp16_res=num_fp16_res).synthesis.named_children()
    ]
    assert same == blocks
    ws = torch.randn(1, generator.num_ws, 8)
    assert generator.synthesis(ws).dtype == torch.float32  # on a CPU nothing changes
    with pytest.raises(ValueError, match="num_fp16_res=-1; give how many"):
        generator.use_half_precision(-1)


@pytest.fixture
def on_card() -> StyleGAN2Generator:
    if not torch.cuda.is_available():
        pytest.skip("There is no card here that PyTorch can use.")
    return tiny_generator(conv_clamp=256.0).to("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("num_fp16_res", [0, 2])
@pytest.mark.parametrize("noise_mode", ["const", "none"])
def test_the_same_pictures(noise_mode: str, num_fp16_res: int, on_card: StyleGAN2Generator) -> None:
    on_card.use_half_precision(num_fp16_res)
    draw = Graphed(on_card, 3, noise_mode)  # type: ignore[arg-type]
    before: torch.Tensor | None = None
    for seed in range(3):
        torch.manual_seed(seed)
        ws = torch.randn(3, on_card.num_ws, 8, device="cuda")
        images = draw(ws)
        wanted = on_card.synthesis(ws, noise_mode)  # type: ignore[arg-type]
        torch.testing.assert_close(images, wanted, rtol=0, atol=1e-4)
        assert before is None or not torch.equal(before, images)
        before = images  # it is not overwritten
    with pytest.raises(ValueError, match=r"\(2, 8, 8\); .*\(3, 8, 8\)"):
        draw(ws[:2])


@pytest.mark.gpu
def test_wrong_arguments(on_card: StyleGAN2Generator) -> None:
    with pytest.raises(ValueError, match="noise_mode='random'; use const or none"):
        Graphed(on_card, 1, "random")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="batch_size=0; give at least 1"):
        Graphed(on_card, 0)
