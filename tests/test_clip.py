"""The small CLIP: tokenizer, preprocessing, embeddings, and the metrics made from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from stylegan_hub.metrics.balanced_accuracy import mean_recall
from stylegan_hub.metrics.collinearity import collinearity
from stylegan_hub.metrics.zero_shot import value_embeddings, zero_shot_accuracy
from stylegan_hub.models.clip import (
    build_clip,
    build_image_processor,
    encode_image,
    encode_text,
    preprocess,
    tokenize,
    train_tokenizer,
)

HALF = (0.5, 0.5, 0.5)
OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
TEXTS = ["a face with purple hair", "a smiling face", "curly hair", "a person wearing glasses"]


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return train_tokenizer(TEXTS * 20, vocab_size=600, context_length=16)


@pytest.fixture(scope="module")
def model(tokenizer: CLIPTokenizer) -> CLIPModel:
    torch.manual_seed(0)
    return build_clip(
        tokenizer, image_size=32, vision_width=32, vision_layers=1, text_width=32, text_layers=1,
        embedding_dim=16,
    ).eval()  # fmt: skip


@pytest.mark.parametrize(
    "text", ["a face with purple hair", "zebra: 100 %!", "größe 顔 🙂", "don't"]
)
def test_any_text_comes_back(tokenizer: CLIPTokenizer, text: str) -> None:
    ids = tokenizer(text)["input_ids"]
    assert max(ids) < len(tokenizer)
    back = tokenizer.decode(ids, skip_special_tokens=True)
    assert back.replace(" ", "") == text.replace(" ", "")
    # Every byte is in the vocabulary, so the end token stands only at the end.
    assert ids.count(tokenizer.eos_token_id) == 1


def test_frequent_words_are_one_token(tokenizer: CLIPTokenizer) -> None:
    assert len(tokenizer("purple hair")["input_ids"]) == 4


def test_vocabulary_must_hold_the_bytes() -> None:
    with pytest.raises(ValueError, match=r"Got vocab_size 300.*need at least 514"):
        train_tokenizer(TEXTS, vocab_size=300)


def test_padding_changes_no_embedding(model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    alone = encode_text(model, tokenizer, "curly hair")
    together = encode_text(model, tokenizer, ["curly hair", "a face with very purple hair"])
    torch.testing.assert_close(alone[0], together[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))


def test_tokens_are_those_of_the_tokenizer(tokenizer: CLIPTokenizer) -> None:
    assert tokenize(tokenizer, TEXTS[0])[0].tolist() == tokenizer(TEXTS[0])["input_ids"]


@pytest.mark.parametrize("texts", ["", "  \n", ["a face", ""]])
def test_empty_text(model: CLIPModel, tokenizer: CLIPTokenizer, texts: str | list[str]) -> None:
    with pytest.raises(ValueError, match=r"Text \d is empty.*write some words"):
        encode_text(model, tokenizer, texts)


def test_no_text(model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(ValueError, match="Got no text"):
        encode_text(model, tokenizer, [])


def test_long_text_is_cut_with_a_warning(model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    with pytest.warns(UserWarning, match=r"has 10000 tokens and this CLIP reads 14"):
        cut = encode_text(model, tokenizer, "hair " * 10_000)
    torch.testing.assert_close(cut, encode_text(model, tokenizer, "hair " * 14))


def test_proper_preprocessing_normalizes() -> None:
    image = torch.rand(2, 3, 24, 24) * 2 - 1
    pixels = preprocess(image, 24, OPENAI_MEAN, OPENAI_STD)
    mean, std = (torch.tensor(v)[:, None, None] for v in (OPENAI_MEAN, OPENAI_STD))
    torch.testing.assert_close(pixels, ((image + 1) / 2 - mean) / std)
    torch.testing.assert_close(preprocess(image, 24, HALF, HALF), image)
    assert preprocess(image, 16, HALF, HALF).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("resolution", [64, 256])
def test_styleclip_preprocessing_is_its_formula(resolution: int) -> None:
    image = torch.randn(1, 3, resolution, resolution, dtype=torch.float64)
    enlarged = F.interpolate(image, scale_factor=7, mode="nearest")
    expected = F.avg_pool2d(enlarged, resolution // 32)
    torch.testing.assert_close(
        preprocess(image, 224, OPENAI_MEAN, OPENAI_STD, "styleclip"), expected
    )


def test_preprocessing_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match=r"48 x 48 px.*mode='proper'"):
        preprocess(torch.zeros(1, 3, 48, 48), 224, HALF, HALF, "styleclip")
    with pytest.raises(ValueError, match="Unknown preprocessing 'fast'"):
        preprocess(torch.zeros(1, 3, 64, 64), 224, HALF, HALF, "fast")  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["proper", "styleclip"])
def test_gradients_reach_every_pixel(model: CLIPModel, tokenizer: CLIPTokenizer, mode: str) -> None:
    image = (torch.rand(1, 3, 64, 64) * 2 - 1).requires_grad_()
    pixels = preprocess(image, 32, HALF, HALF, mode)  # type: ignore[arg-type]
    similarity = encode_image(model, pixels) @ encode_text(model, tokenizer, "curly hair").T
    similarity.sum().backward()
    assert image.grad is not None and (image.grad != 0).float().mean() > 0.99


def test_build_refuses_sizes_that_do_not_divide(tokenizer: CLIPTokenizer) -> None:
    with pytest.raises(ValueError, match="image_size 60 with patch_size 8"):
        build_clip(tokenizer, image_size=60)


def test_save_and_load(model: CLIPModel, tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    build_image_processor(32).save_pretrained(tmp_path / "image_processor")
    loaded = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    words = CLIPTokenizer.from_pretrained(tmp_path / "tokenizer")
    processor = CLIPImageProcessorPil.from_pretrained(tmp_path / "image_processor")
    assert words.model_max_length == 16
    text = "größe: a smiling 顔"
    assert words(text)["input_ids"] == tokenizer(text)["input_ids"]
    torch.testing.assert_close(
        encode_text(loaded, words, text), encode_text(model, tokenizer, text)
    )
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(encode_image(loaded, pixels), encode_image(model, pixels))
    assert list(processor.image_mean) == [0.5] * 3
    assert dict(processor.crop_size) == {"height": 32, "width": 32}


def test_mean_recall_weighs_rare_labels_equally() -> None:
    label = torch.tensor([0] * 9 + [1])
    assert mean_recall(torch.zeros(10, dtype=torch.int64), label) == 0.5


def test_zero_shot(model: CLIPModel, tokenizer: CLIPTokenizer) -> None:
    texts = {"hair": {"curly": ["curly hair"], "purple": ["purple hair", "a purple-haired face"]}}
    values = value_embeddings(model, tokenizer, texts)
    assert values["hair"].shape == (2, 16)
    images, labels = values["hair"][[0, 1, 1]], {"hair": torch.tensor([0, 1, 0])}
    assert zero_shot_accuracy(images, values, labels) == {"hair": 0.75}
    visible = {"hair": torch.tensor([True, True, False])}
    assert zero_shot_accuracy(images, values, labels, visible) == {"hair": 1.0}


def test_collinearity_of_parallel_and_crossed_changes() -> None:
    axes = torch.eye(3)
    changes = [3 * axes[[0, 0]], 2 * axes[[1, 1]], -axes[[2]]]
    result = collinearity(["a", "b", "c"], axes, changes)
    assert result.own() == {"a": 1.0, "b": 1.0, "c": -1.0}
    assert result.ranks() == {"a": 1, "b": 1, "c": 3}
    assert result.others() == {"a": 0.0, "b": 0.0, "c": 0.0}
    with pytest.raises(ValueError, match="2 names, 3 text changes"):
        collinearity(["a", "b"], axes, changes)
