"""The detailer: details of a photograph for its edited render, from training to pasting back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import check_says_nothing_of
from PIL import Image, ImageDraw
from test_photos import inside, scene
from test_recipes import recipe

from stylegan_hub import images as image_files
from stylegan_hub.models.detailer import Detailer
from stylegan_hub.photos.align import cut
from stylegan_hub.photos.paste import detailed, paste
from stylegan_hub.pipeline import StyleEditPipeline


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A photograph, its render, and the edited render."""
    draw = torch.Generator().manual_seed(0)
    before = torch.rand(2, 3, 64, 64, generator=draw) - 0.5
    photographs = before + 0.2 * torch.rand(2, 3, 64, 64, generator=draw)
    after = before.clone()
    after[:, :, 20:40, 20:40] = 0.9
    return photographs, before, after


def test_before_training_most_of_the_difference_is_kept(pictures: Any) -> None:
    photographs, before, after = pictures
    detailer = Detailer(patch=2, widths=(16, 24))
    with torch.no_grad():
        found = detailer(photographs, before, after)
    assert found.shape == after.shape
    wanted = after + photographs - before
    assert (found - wanted).abs().mean() < 0.5 * (after - wanted).abs().mean()


@pytest.mark.parametrize("size", [(64, 64), (50, 33), (4, 4)])
def test_any_size(size: tuple[int, int]) -> None:
    detailer = Detailer(patch=2, widths=(8, 8))
    some = torch.rand(1, 3, *size)
    with torch.no_grad():
        assert detailer(some, some, some).shape == some.shape
        assert detailer.half()(some, some, some).dtype == some.dtype


def test_pictures_that_do_not_fit_are_named() -> None:
    detailer = Detailer(patch=4, widths=(8, 8))
    some, other = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 8)
    for wrong in ((some, some, other), (some[0], some[0], some[0]), (other[:, :, :4],) * 3):
        with pytest.raises(ValueError, match="Got pictures of"):
            detailer(*wrong)
    for sizes in (dict(widths=()), dict(widths=(12,)), dict(patch=0), dict(blocks=0)):
        with pytest.raises(ValueError, match="expected"):
            Detailer(**sizes)  # type: ignore[arg-type]


def test_it_is_kept_in_a_pipeline(tiny_pipeline: StyleEditPipeline, tmp_path: Path) -> None:
    parts = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    detailer = Detailer(patch=2, widths=(8, 8))
    StyleEditPipeline(tiny_pipeline.generator, *parts, detailer=detailer).save_pretrained(tmp_path)
    loaded = StyleEditPipeline.from_pretrained(tmp_path, runtime="pytorch").detailer
    some = torch.rand(1, 3, 32, 32)
    assert torch.equal(loaded(some, some, some), detailer(some, some, some))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_what_is_pasted_has_the_details_of_the_photo() -> None:
    """A render lacks a fine pattern, and an edit changes its colors: the pattern stays."""
    picture, alignment, face = scene()
    crop = cut(picture, alignment, face.size)
    smooth = crop.resize((16, 16)).resize(crop.size, Image.Resampling.BICUBIC)
    edited = smooth.copy()
    patch = (96, 96, 160, 160)
    edited.paste(Image.blend(edited.crop(patch), Image.new("RGB", (64, 64), "red"), 0.5), patch)
    detailer = Detailer(patch=4, widths=(8, 8)).eval()
    plain = paste(picture, alignment, edited, smooth, keep_own=0.0)
    fine = paste(picture, alignment, edited, smooth, keep_own=0.0, detailer=detailer)
    assert plain.tobytes() != fine.tobytes()
    outside = ~inside(alignment)
    assert (np.asarray(fine)[outside] == np.asarray(picture.image)[outside]).all()
    with pytest.raises(ValueError, match="detailer without the picture before"):
        paste(picture, alignment, edited, where="face", detailer=detailer)


def test_details_of_aligned_pictures() -> None:
    photograph = Image.new("RGB", (64, 64), "gray")
    ImageDraw.Draw(photograph).line((0, 0, 63, 63), fill="white", width=2)
    flat = Image.new("RGB", (64, 64), "gray")
    found = np.asarray(detailed(Detailer(widths=(8, 8)), photograph, flat, flat)).astype(int)
    assert found[32, 32].mean() > found[10, 50].mean() + 50  # the line is there again


def config_of(train: Any, pipeline: Path, output: Path, **changes: Any) -> Any:
    options = dict(
        pipeline=str(pipeline), output_dir=output, samples=20, unseen=10, rendered_share=0.5,
        patch=2, widths=(8, 8), train_batch_size=4, max_train_steps=20, lr_warmup_steps=2,
        checkpointing_steps=10, sample_steps=10,
    )  # fmt: skip
    return train.Config(**{**options, **changes})


def test_the_recipe_learns_resumes_and_adds(
    inverting_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    train = recipe("train_detailer")
    pipeline, once, twice = tmp_path / "pipeline", tmp_path / "once", tmp_path / "twice"
    inverting_pipeline.save_pretrained(pipeline)
    train.main(config_of(train, pipeline, once, max_train_steps=60, add=True))
    metrics = json.loads((once / "detailer" / "metrics.json").read_text())
    for kind in ("edited", "unedited"):
        assert metrics[f"detailed_{kind}"] > metrics[f"render_{kind}"] + 3
    assert "| edited samples |" in (once / "detailer" / "README.md").read_text()
    check_says_nothing_of(tmp_path, once / "detailer")
    assert StyleEditPipeline.from_pretrained(pipeline, runtime="pytorch").detailer is not None
    train.main(config_of(train, pipeline, twice, max_train_steps=2))
    train.main(
        config_of(train, pipeline, twice, max_train_steps=60, resume_from_checkpoint="latest")
    )
    a, b = (Detailer.from_pretrained(f / "detailer").state_dict() for f in (once, twice))
    assert all(torch.equal(a[name], b[name]) for name in a)
    with pytest.raises(SystemExit, match="another run"):
        train.main(config_of(train, pipeline, twice, rendered_share=0.25))


def test_pictures_of_a_folder(inverting_pipeline: StyleEditPipeline, tmp_path: Path) -> None:
    train = recipe("train_detailer")
    for number in range(3):
        noise = torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(number))
        image_files.save(image_files.to_pil(2 * noise - 1)[0], tmp_path / "in" / f"{number}.png")
    config = config_of(train, tmp_path, tmp_path / "out", images=tmp_path / "in", rendered_share=1)
    made = train.made(inverting_pipeline, range(10), config)
    assert made.shape == (10, 4, 3, 32, 32)
    assert torch.equal(made[:, 0], made[:, 3]) and torch.equal(made[:, 1], made[:, 2])
    assert torch.equal(made[0], made[3]) and not torch.equal(made[0], made[1])
    assert torch.equal(train.made(inverting_pipeline, range(10), config), made)  # kept


def test_what_the_recipe_refuses(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    train = recipe("train_detailer")
    with pytest.raises(SystemExit, match="has no encoder"):
        train.main(config_of(train, tiny_pipeline_folder, tmp_path))
    with pytest.raises(SystemExit, match="expected 0 to 1"):
        train.main(config_of(train, tiny_pipeline_folder, tmp_path, rendered_share=2))
    with pytest.raises(SystemExit, match="not a folder"):
        train.main(config_of(train, Path("portraits"), tmp_path, add=True))
