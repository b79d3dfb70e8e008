"""The parser is the published BiSeNet at its default sizes; the recipe learns masks that fit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_recipes import recipe
from test_recognizer import golden_weights, numbers
from torch import Tensor

from stylegan_hub.models.parser import FACE_PARTS, Parser
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.renderer import PARTS, render_with_masks

PARTS_3 = ("background", "skin", "hair")


def small(**changes: Any) -> Parser:
    torch.manual_seed(0)
    settings: dict[str, Any] = dict(parts=PARTS_3, width=4, input_size=32, stem_stride=1)
    return Parser(**(settings | changes)).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def published(data: Path) -> tuple[Parser, dict[str, np.ndarray]]:
    expected = dict(np.load(data / "bisenet_check.npz"))
    parser = Parser().eval()
    state = golden_weights({n: tuple(v.shape) for n, v in parser.state_dict().items()})
    total = sum(value.double().sum() for value in state.values())
    assert total.item() == pytest.approx(expected["weights_sum"].item(), rel=1e-9)
    parser.load_state_dict(state)
    return parser, expected


def test_names_and_shapes_of_the_published_network(data: Path) -> None:
    expected = json.loads((data / "bisenet_keys.json").read_text())
    with torch.device("meta"):
        state = Parser().state_dict()
    own = [[n, list(v.shape), str(v.dtype).removeprefix("torch.")] for n, v in state.items()]
    assert own == expected


def test_numbers_of_the_published_network(published: tuple[Parser, dict[str, np.ndarray]]) -> None:
    parser, expected = published
    with torch.no_grad():
        x = numbers("input:bisenet").standard_normal((1, 3, 64, 96))
        outputs = parser.outputs(torch.from_numpy(x).float())
    fine, medium, coarse = (output[:, :, ::4, ::6] for output in outputs)  # as they are stored
    for own, name in (
        (fine, "out"),
        (medium[:, :4], "out16_ch0_3"),
        (coarse[:, :4], "out32_ch0_3"),
    ):
        assert np.abs(own.numpy() - expected[name]).max() < 2e-4
    differs = fine.argmax(1).numpy() != expected["out"].argmax(1)
    assert differs.mean() <= 1e-2


def test_published_parts_and_preprocessing() -> None:
    assert len(FACE_PARTS) == 19
    assert FACE_PARTS[6] == "eyeglasses" and FACE_PARTS[13] == "lower lip"
    with torch.device("meta"):
        config = Parser().config
    parser = small(mean=config["mean"], std=config["std"])
    white, black = (
        parser.preprocess(torch.full((1, 3, 32, 32), v))[0, :, 0, 0] for v in (1.0, -1.0)
    )
    assert torch.allclose(black, torch.tensor([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225]))
    assert torch.allclose(white - black, 1 / torch.tensor([0.229, 0.224, 0.225]))


@pytest.mark.parametrize("size", [(32, 32), (16, 16), (70, 50), (128, 128)])
def test_masks_have_the_pictures_size(size: tuple[int, int]) -> None:
    parser = small()
    images = torch.zeros(2, 3, *size)
    masks, labels = parser.masks(images), parser.labels(images)
    assert masks.shape == (2, 3, *size) and labels.shape == (2, *size)
    assert torch.allclose(masks.sum(1), torch.ones(2, *size), atol=1e-5)
    assert torch.equal(labels, masks.argmax(1)) and labels.dtype == torch.int64


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_stems_share_their_names(stem_stride: int, images: Tensor) -> None:
    parser = small(stem_stride=stem_stride)
    assert parser.state_dict().keys() == Parser(width=4).state_dict().keys()
    assert parser(images).shape == (2, 3, 32, 32)
    coarse = parser.cp(parser.preprocess(images))[0]
    assert coarse.shape[2:] == (16 // stem_stride, 16 // stem_stride)


def test_gradients_reach_the_picture(images: Tensor) -> None:
    pixels = images.clone().requires_grad_(True)
    small().masks(pixels)[:, 2].sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0


def test_saved_and_loaded(images: Tensor, tmp_path: Path) -> None:
    parser = small()
    parser.save_pretrained(tmp_path)
    loaded = Parser.from_pretrained(tmp_path)
    assert loaded.parts == PARTS_3 and not loaded.training
    assert torch.equal(parser(images), loaded(images))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_a_part_is_found_by_its_name() -> None:
    assert small().index("hair") == 2
    with pytest.raises(ValueError, match=r"Unknown part 'tail'; .*background, skin, hair"):
        small().index("tail")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(parts=("skin",)), "expected two or more different names"),
        (dict(parts=("skin", "skin")), "expected two or more different names"),
        (dict(width=6), "Got width 6; expected a positive multiple of 4"),
        (dict(input_size=8), "Got input_size 8; expected 16 or more"),
        (dict(stem_stride=3), "Got stem_stride 3; expected 1, 2 or 4"),
        (dict(std=(1.0, 0.0, 1.0)), "every std positive"),
    ],
)
def test_impossible_sizes(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(**changes)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 8, 32)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[n, 3, h, w\] in \[-1, 1\]"):
        small()(torch.zeros(shape))


def test_masks_move_with_their_pictures() -> None:
    train = recipe("train_parser")
    masks = render_with_masks(sample(range(6)), 64)[1]
    # Pictures that show the masks: what is white in them must be the part afterwards.
    is_face = ((masks > 2) & (masks < 13)).float()
    pictures = (2 * is_face - 1)[:, None].expand(-1, 3, -1, -1).contiguous()
    random = torch.Generator().manual_seed(3)
    changed, moved = train.augment_with_masks(pictures, masks, random)
    assert moved.dtype == torch.int64 and set(moved.unique().tolist()) <= set(range(len(PARTS)))
    assert (moved != masks).float().mean() > 0.02
    expected = (moved > 2) & (moved < 13)
    brightness = changed.mean(1)
    middle = (brightness.amax((1, 2)) + brightness.amin((1, 2)))[:, None, None] / 2
    agreement = ((brightness > middle) == expected).float().mean((1, 2))
    stayed = ((brightness > middle) == is_face.bool()).float().mean((1, 2))
    assert agreement.min() > 0.93 and agreement.mean() > stayed.mean() + 0.02


def test_intersection_over_union() -> None:
    train = recipe("train_parser")
    truth = torch.tensor([[[0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1]]])
    values = train.part_iou(predicted, truth, 3)
    assert values[:2].tolist() == pytest.approx([1 / 2, 2 / 3]) and math.isnan(values[2])
    assert train.mean_iou(values) == pytest.approx(7 / 12)
    nowhere = train.named(train.part_iou(truth, truth, len(PARTS)))
    assert nowhere["background"] == 1 and nowhere["hat"] is None


def test_only_hard_pixels_count() -> None:
    train = recipe("train_parser")
    masks = torch.zeros(1, 8, 8, dtype=torch.int64)
    logits = torch.zeros(1, 2, 8, 8)
    logits[:, 0] = 9.0  # sure and right
    logits[:, :, 0, :4] = torch.tensor([0.0, 9.0])[:, None]  # sure and wrong: a sixteenth
    assert train.hard_pixel_loss(logits, masks) == pytest.approx(9.0, abs=1e-3)
    # Of easy pixels the hardest sixteenth remains.
    logits[:, :, 0, :4] = torch.tensor([3.0, 0.0])[:, None]
    assert train.hard_pixel_loss(logits, masks) == pytest.approx(math.log1p(math.exp(-3)), rel=1e-4)


def test_the_recipe_learns_masks_and_goes_on(tmp_path: Path) -> None:
    train = recipe("train_parser")
    common: dict[str, Any] = dict(
        resolution=32, width=16, stem_stride=2, train_batch_size=4, lr_warmup_steps=2,
        unseen_portraits=16, pipeline=None, output_dir=tmp_path, checkpointing_steps=100,
        learning_rate=1e-2, lr_scheduler="constant", sample_steps=8,
    )  # fmt: skip
    train.main(train.Config(max_train_steps=8, **common))
    train.main(train.Config(max_train_steps=16, resume_from_checkpoint="latest", **common))
    lines = (tmp_path / "samples" / "iou.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [8, 16]
    log = (tmp_path / "training.log").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[-1] < 0.8 * losses[0]
    metrics = json.loads((tmp_path / "parser" / "metrics.json").read_text())
    assert set(metrics["renders"]["iou"]) == set(PARTS) and "samples" not in metrics
    assert metrics["renders"]["iou"]["background"] > 0.3
    parser = Parser.from_pretrained(tmp_path / "parser")
    assert parser.parts == PARTS and parser.num_parameters() <= 1_000_000
    text = (tmp_path / "parser" / "README.md").read_text()
    assert "| hair |" in text and (tmp_path / "parser" / "images" / "parts.png").is_file()


def test_samples_come_with_the_masks_of_their_z(portraits: StyleEditPipeline) -> None:
    train = recipe("train_parser")
    images, masks = train.generated(portraits, range(10_000_000, 10_000_004), 64)
    assert images.shape == (4, 3, 64, 64) and masks.shape == (4, 64, 64)
    # The generator draws the background where the masks say that it is.
    background = masks == PARTS.index("background")
    for picture, where in zip(images, background, strict=True):
        colors = picture[:, where]
        others = picture[:, ~where]
        assert colors.std(1).mean() < others.std(1).mean()
