"""The encoder equals the published e4e at its default sizes; its recipe learns known latents."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import check_says_nothing_of
from test_recipes import recipe
from test_recognizer import golden_weights
from torch import Tensor

from stylegan_hub.models.encoder import Encoder
from stylegan_hub.pipeline import StyleEditPipeline


def small(**changes: Any) -> Encoder:
    torch.manual_seed(0)
    settings: dict[str, Any] = dict(
        num_ws=8, w_dim=16, input_size=32, units=(1, 1, 2, 1), widths=(8, 8, 12, 16), head_width=6,
        reduction=4,
    )  # fmt: skip
    encoder = Encoder(**(settings | changes)).eval()
    encoder.latent_avg.copy_(torch.arange(float(encoder.num_ws))[:, None])
    return encoder


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_names_and_shapes_of_the_published_network(data: Path) -> None:
    expected = json.loads((data / "e4e_keys.json").read_text())
    with torch.device("meta"):
        state = Encoder().state_dict()
    assert list(state.pop("latent_avg").shape) == [18, 512]  # the published files do not list it
    own = [[n, list(v.shape), str(v.dtype).removeprefix("torch.")] for n, v in state.items()]
    assert own == expected


@pytest.mark.slow
def test_numbers_of_the_published_network(data: Path) -> None:
    expected = dict(np.load(data / "e4e_check.npz"))
    with torch.device("meta"):
        encoder = Encoder().eval()
    encoder.to_empty(device="cpu")  # avoids filling a gigabyte twice
    state = encoder.state_dict()
    state.pop("latent_avg").zero_()
    total = 0.0
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    for name, target in state.items():  # one by one, because all at once need another gigabyte
        sibling = name.removesuffix("weight") + "running_var"
        value = golden_weights({n: shapes[n] for n in (name, sibling) if n in shapes})[name]
        if name.startswith("styles.") and name.endswith("linear.weight"):
            value = value * np.sqrt(shapes[name][1])  # these weights are an exception to the rule
        target.copy_(value)
        total += float(target.double().sum())
    assert total == pytest.approx(expected["weights_sum"].item(), rel=1e-6)
    random = np.random.RandomState(zlib.crc32(b"input:e4e") & 0xFFFFFFFF)
    pixels = torch.from_numpy((random.rand(1, 3, 256, 256) * 2 - 1).astype(np.float32))
    assert np.array_equal(pixels[:, :, :4, :4].numpy(), expected["x_corner"])
    with torch.no_grad():
        codes = encoder(pixels)
    assert np.abs(codes.numpy() - expected["codes"]).max() < 2e-5


def test_only_encode_adds_the_average(images: Tensor) -> None:
    encoder = small()
    codes, offsets = encoder.encode(images), encoder(images)
    assert codes.shape == (2, 8, 16)
    assert torch.allclose(codes - offsets, encoder.latent_avg.expand(2, -1, -1), atol=1e-5)


def test_stages_switch_on_deltas(images: Tensor) -> None:
    encoder = small()
    whole = encoder(images)
    first = encoder(images, stage=0)
    assert torch.equal(first, first[:, :1].expand_as(first))
    for stage in (1, 4, 7):
        codes = encoder(images, stage)
        assert torch.equal(codes[:, : stage + 1], whole[:, : stage + 1])
        assert torch.equal(codes[:, stage + 1 :], first[:, stage + 1 :])
    assert not torch.equal(whole[:, 1], whole[:, 0])
    with pytest.raises(ValueError, match="Got stage 8; expected 0 to 7, or None"):
        encoder(images, stage=8)


def test_without_deltas_every_head_gives_a_w(images: Tensor) -> None:
    encoder, psp = small(), small(deltas=False)
    psp.load_state_dict(encoder.state_dict())
    deltas = encoder(images)
    deltas[:, 1:] -= deltas[:, :1]
    assert torch.allclose(psp(images), deltas, atol=1e-5)
    with pytest.raises(ValueError, match="Got stage 3; an encoder without deltas has none"):
        psp(images, stage=3)


def test_heads_read_features_of_their_level() -> None:
    convolutions = [len(head.convs) // 2 for head in small(input_size=64).styles]
    assert convolutions == [2, 2, 2, 3, 3, 3, 3, 4]  # the features have 4, 8 and 16 px
    assert [len(h.convs) // 2 for h in small(num_ws=3, levels=(1, 2)).styles] == [1, 2, 3]


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (45, 80), (128, 128)])
def test_pictures_of_any_size_are_encoded(size: tuple[int, int]) -> None:
    assert small().encode(torch.zeros(1, 3, *size)).shape == (1, 8, 16)


def test_the_input_need_not_be_square() -> None:
    encoder = small(input_size=(32, 64))
    assert encoder.encode(torch.zeros(1, 3, 100, 90)).shape == (1, 8, 16)


def test_saving_and_loading_keeps_the_average(images: Tensor, tmp_path: Path) -> None:
    encoder = small()
    encoder.save_pretrained(tmp_path)
    loaded = Encoder.from_pretrained(tmp_path)
    assert torch.equal(loaded.latent_avg, encoder.latent_avg) and not loaded.training
    assert torch.equal(loaded.encode(images), encoder.encode(images))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(units=(1, 1, 1)), "expected 4 of both"),
        (dict(reduction=16), "reduction of at most the smallest width"),
        (dict(num_ws=0), "num_ws is 0"),
        (dict(levels=(5, 3)), "two levels of 1 or more in ascending order"),
        (dict(input_size=40), "Got input_size 40; expected multiples of 16"),
    ],
)
def test_impossible_sizes_are_errors(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        small(**changes)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (0, 3, 32, 32)])
def test_wrong_shapes_are_errors(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[n, 3, h, w\] in \[-1, 1\]"):
        small().encode(torch.zeros(shape))


def recipe_config(train: Any, pipeline: Path, output: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = dict(
        pipeline=str(pipeline), output_dir=output, reader=None, input_size=32, input_stride=1,
        units=(1, 1, 1, 1), widths=(8, 8, 16, 16), head_width=16, num_generated=40,
        rendered_share=0.0, latent_steps=40, progressive_start=40, progressive_steps=2,
        train_batch_size=8, max_train_steps=44, unseen=8, lr_warmup_steps=2, learning_rate=5e-3,
        checkpointing_steps=100, sample_steps=100, lr_scheduler="constant",
    )  # fmt: skip
    return train.Config(**(settings | changes))


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "training.log").read_text().splitlines()]


def test_the_recipe_learns_the_known_latents(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    train = recipe("train_encoder")
    train.main(recipe_config(train, tiny_pipeline_folder, tmp_path, logging_seconds=0.0))
    lines = log_of(tmp_path)
    assert lines[39]["latent"] < 0.8 * lines[0]["latent"]
    assert "l2" not in lines[39] and lines[43]["l2"] > 0 and lines[43]["perceptual"] > 0
    assert lines[39]["delta"] == 0 and lines[43]["delta"] > 0
    metrics = json.loads((tmp_path / "encoder" / "metrics.json").read_text())
    assert metrics["images"] == 8 and "renders" not in metrics
    encoder = Encoder.from_pretrained(tmp_path / "encoder")
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    own = train.generated(pipe, range(10_000_000, 10_000_008), (1.0,))
    codes, found = train.reconstruct(pipe, encoder, own.images())
    error = float((found - own.images()).square().mean())
    assert metrics["generated"]["mean_squared_error"] == pytest.approx(error, rel=1e-3)
    assert codes.shape == (8, 8, 16)
    assert "| PSNR" in (tmp_path / "encoder" / "README.md").read_text()
    check_says_nothing_of(tiny_pipeline_folder.parent, tmp_path / "encoder")


def test_a_resumed_run_with_all_losses_is_exact(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    train = recipe("train_encoder")
    changes: dict[str, Any] = dict(
        adv_lambda=0.1, rendered_share=0.5, latent_steps=1, progressive_start=1, r1_interval=2,
        train_batch_size=4, num_generated=8, logging_seconds=0.0,
    )  # fmt: skip
    once, twice = tmp_path / "once", tmp_path / "twice"
    train.main(recipe_config(train, tiny_pipeline_folder, once, max_train_steps=4, **changes))
    lines = log_of(once)
    assert "discriminator" not in lines[0] and lines[-1]["adversarial"] > 0
    assert json.loads((once / "encoder" / "metrics.json").read_text())["renders"]["psnr"] > 0
    train.main(recipe_config(train, tiny_pipeline_folder, twice, max_train_steps=2, **changes))
    resumed = changes | {"resume_from_checkpoint": "latest"}
    train.main(recipe_config(train, tiny_pipeline_folder, twice, max_train_steps=4, **resumed))
    a, b = (Encoder.from_pretrained(folder / "encoder").state_dict() for folder in (once, twice))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_training_at_a_lower_resolution(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    train = recipe("train_encoder")
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    full, half = (train.generated(pipe, range(3), (1.0,), size) for size in (None, 16))
    assert half.pictures.shape[-1] == 16 and torch.equal(half.w, full.w)
    pictures, w = half.take(torch.tensor([4, 2]))
    assert torch.equal(w, half.w[[1, 2]]) and torch.equal(pictures, half.images()[[1, 2]])
    config = recipe_config(train, tiny_pipeline_folder, tmp_path, resolution=16, max_train_steps=42)
    train.main(config)
    metrics = json.loads((tmp_path / "encoder" / "metrics.json").read_text())
    assert metrics["generated"]["psnr"] > 0  # measured at the generator's own resolution


def test_portraits_of_another_size_are_an_error(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    train = recipe("train_encoder")
    (tmp_path / "cache.json").write_text('{"resolution": 64, "identities": null, "blends": false}')
    config = recipe_config(train, tiny_pipeline_folder, tmp_path, cache=tmp_path, resolution=16)
    with pytest.raises(SystemExit, match="64 px, but this training needs 16 px"):
        train.main(config)


def test_settings_out_of_range_are_an_error(tmp_path: Path) -> None:
    train = recipe("train_encoder")
    with pytest.raises(SystemExit, match=r"rendered_share is 1\.0; expected 0 to below 1"):
        train.main(recipe_config(train, tmp_path, tmp_path, rendered_share=1.0))
