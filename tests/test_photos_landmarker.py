"""Faces of a domain are found anywhere and at any angle, to a fraction of a pixel."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from test_recipes import recipe
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.models.landmarker import Landmarker, _on_its_edges, cell_places
from stylegan_hub.photos.align import cut
from stylegan_hub.photos.finders import LearnedLandmarks, framing, locate, usual_of
from stylegan_hub.photos.photo import Photo
from stylegan_hub.pipeline import StyleEditPipeline

SMALL: dict[str, Any] = dict(input_size=32, widths=(8, 8, 8))


class Oracle(Landmarker):
    """Does not know faces, but reads marked squares, whose colors encode the place in them.

    This leaves only geometry to test: looks, windows, cells.
    """

    def forward(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        cells = cell_places(height, width)
        said = torch.zeros(n, 6, *cells.shape[1:])
        said[:, 0] = -9
        axis = (torch.arange(width) + 0.5) * 2 / width - 1
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        for one, picture in zip(said, images, strict=True):
            # Not the outermost ones, which are repeated beyond the edge of a picture.
            inside = (picture[2] > 0.9) & (picture[:2].abs().amax(0) < 0.97)
            if inside.sum() < 12:
                continue
            # Least squares from the place in the square to the place in the picture.
            marks = torch.stack(
                [picture[0, inside], picture[1, inside], torch.ones(inside.sum())], 1
            )
            there = torch.stack([x[inside], y[inside]], 1)
            right, _, middle = torch.linalg.lstsq(marks, there).solution
            nearest = (cells - middle[:, None, None]).norm(dim=0).flatten().argmin()
            one.flatten(1)[:, nearest] = torch.cat(
                [
                    torch.tensor([9.0]),
                    middle - cells.flatten(1)[:, nearest],
                    2.5 * right,
                    right.norm().log()[None],
                ]
            )
        return said


def pipe_with(landmarker: Landmarker) -> Any:
    """The parts of a pipeline that framing of faces needs."""
    return SimpleNamespace(landmarker=landmarker, generator=SimpleNamespace(img_size=(128, 128)))


def marked(
    size: tuple[int, int], middle: complex, half: float, degrees: float
) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """A picture with one marked square, and the corners of the square."""
    width, height = size
    right = half * complex(math.cos(math.radians(degrees)), math.sin(math.radians(degrees)))
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    place = (x + 1j * y - middle) / right
    inside = np.maximum(abs(place.real), abs(place.imag)) <= 1
    image = np.stack([np.where(inside, place.real, 0), np.where(inside, place.imag, 0),
                      np.where(inside, 1, -1)])  # fmt: skip
    corners = [middle + right * complex(*c) for c in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    return torch.from_numpy(image)[None].float(), np.array([(z.real, z.imag) for z in corners])


@pytest.mark.parametrize(
    ("size", "middle", "half", "degrees"),
    [
        ((300, 200), 180 + 90j, 60, 0),
        ((300, 200), 90 + 110j, 50, 35),
        ((200, 320), 100 + 210j, 65, -130),
        ((640, 480), 500 + 100j, 45, 80),
        ((128, 128), 63.5 + 63.5j, 64, 0),
        ((1000, 800), 850 + 650j, 40, 12),
    ],
)
def test_a_square_is_found_exactly(
    size: tuple[int, int], middle: complex, half: float, degrees: float
) -> None:
    image, corners = marked(size, middle, half, degrees)
    oracle = Oracle()
    faces = oracle.find(image)
    assert faces.shape == (1, 3, 2)
    quad = framing(pipe_with(oracle))(LearnedLandmarks(oracle)(image_files.to_pil(image)[0])[0])
    assert np.abs(np.array(quad) - corners).max() < 0.02 * 2 * half


def test_a_square_moves_onto_its_edges() -> None:
    """A flat picture laid into a colored one, with small errors; and noise without any edges."""
    image, _ = marked((300, 240), 150 + 120j, 70, 20)
    inside = image[:, 2:] > 0
    image = torch.where(inside, torch.tensor([0.5, 0.2, 0.3])[:, None, None], -0.3)
    turn = torch.tensor([math.cos(math.radians(20)), math.sin(math.radians(20))])
    wrong = torch.tensor([150.5 + 3, 120.5 - 4, *(70 * 1.06 * turn), 0.9])
    right = _on_its_edges(image, wrong)
    assert (right[:2] - torch.tensor([150.5, 120.5])).abs().max() < 0.5
    assert (right[2:4] - 70.5 * turn).abs().max() < 0.7 and right[4] == wrong[4]
    noise = torch.randn(1, 3, 240, 300, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert torch.equal(_on_its_edges(noise, wrong), wrong)


def test_a_small_face_in_a_large_photo() -> None:
    """Seen only in parts of the photo, and only a smaller copy is searched."""
    image, corners = marked((2600, 2000), 2300 + 1700j, 60, 25)
    picture = Photo(image_files.to_pil(image)[0], "large.png")
    alignment = locate(pipe_with(Oracle()), picture)
    assert np.abs(np.array(alignment.quad) - corners).max() < 4
    face = np.asarray(cut(picture, alignment, 64)).astype(int)
    assert face[32, 60, 0] > 220 and face[32, 3, 0] < 35 and face[60, 32, 1] > 220


def test_nothing_there() -> None:
    image = -torch.ones(1, 3, 90, 120)
    assert Oracle().find(image).shape == (0, 3, 2)
    with pytest.raises(ValueError, match=r"No face was found in empty.png"):
        locate(pipe_with(Oracle()), Photo(image_files.to_pil(image)[0], "empty.png"))


def test_the_network_is_kept_in_a_pipeline(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    usual = [[-0.2, 0.0], [0.2, 0.0], [0.0, 0.4]]
    landmarker = Landmarker(usual, **SMALL)
    parts = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    pipe = StyleEditPipeline(tiny_pipeline.generator, *parts, landmarker=landmarker)
    pipe.save_pretrained(tmp_path)
    loaded = StyleEditPipeline.from_pretrained(tmp_path)
    assert usual_of(loaded.landmarker) == usual_of(landmarker)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    assert torch.equal(loaded.landmarker(image), landmarker(image))
    assert landmarker(torch.zeros(2, 3, 64, 96)).shape == (2, 6, 8, 12)


def test_wrong_sizes_are_named() -> None:
    for options, words in (
        (dict(usual=[[0, 0]]), "expected three points"),
        (dict(input_size=40), "expected a multiple of 32"),
        (dict(widths=(8, 8)), "three multiples of 8"),
    ):
        with pytest.raises(ValueError, match=words):
            Landmarker(**(SMALL | options))
    with pytest.raises(ValueError, match="sides that are multiples of 32"):
        Landmarker(**SMALL)(torch.zeros(1, 3, 33, 32))
    with pytest.raises(ValueError, match=r"expected \[1, 3, h, w\]"):
        Landmarker(**SMALL).find(torch.zeros(2, 3, 64, 64))


# ---------------------------------------------------------------- the recipe


def config_of(train: Any, output: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = dict(
        output_dir=output, portraits=4, unseen=1, input_size=32, widths=(8, 8, 8),
        train_batch_size=4, max_train_steps=30, lr_warmup_steps=2, checkpointing_steps=100,
        sample_steps=100, logging_seconds=0.0, lr_scheduler="constant",
    )  # fmt: skip
    return train.Config(**(settings | changes))


def test_scenes_show_portraits_where_they_say(tmp_path: Path) -> None:
    train = recipe("train_landmarks")
    config = config_of(train, tmp_path, near_share=0.5, empty_share=0.0, second_share=1.0)
    marks, _ = marked((128, 128), 63.5 + 63.5j, 64, 0)
    pictures = image_files.to_uint8(marks).repeat(12, 1, 1, 1)
    draw = torch.Generator().manual_seed(3)
    images, squares = train.scenes(pictures, 96, draw, config)
    assert images.shape == (12, 3, 96, 96) and squares.shape == (12, 2, 5)
    assert images.min() >= -1 and images.max() <= 1
    assert squares[:, 0, 4].all() and 0 < squares[:, 1, 4].sum() < 12
    shown = 0
    for image, (x, y, *_) in zip(images, squares[:, 0].tolist(), strict=True):
        column, row = (round((v + 1) * 48 - 0.5) for v in (x, y))
        if 2 < column < 93 and 2 < row < 93:
            red, green, blue = image[:, row, column].tolist()
            shown += abs(red) < 0.4 and abs(green) < 0.4 and blue > 0.3
    assert shown >= 8  # colors are jittered


def test_usual_landmarks_are_a_face() -> None:
    left, right, mouth = recipe("train_landmarks").usual_landmarks(20)
    assert left[0] < -0.1 < 0.1 < right[0] and mouth[1] > max(left[1], right[1]) + 0.2


@pytest.mark.slow
def test_the_recipe_learns_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = recipe("train_landmarks")
    usual = train.usual_landmarks(20)
    monkeypatch.setattr(train, "usual_landmarks", lambda: usual)  # from fewer portraits, and once
    once, twice = tmp_path / "once", tmp_path / "twice"
    train.main(config_of(train, once))
    lines = [json.loads(line) for line in (once / "training.log").read_text().splitlines()]
    assert sum(line["loss"] for line in lines[-5:]) < 0.9 * sum(line["loss"] for line in lines[:5])
    metrics = json.loads((once / "landmarker" / "metrics.json").read_text())
    assert metrics["scenes"] == 1 and 0 <= metrics["found"] <= 1
    assert "| share of faces found" in (once / "landmarker" / "README.md").read_text()
    train.main(config_of(train, twice, max_train_steps=2))
    train.main(config_of(train, twice, resume_from_checkpoint="latest"))
    a, b = (Landmarker.from_pretrained(f / "landmarker").state_dict() for f in (once, twice))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_corner_errors() -> None:
    train = recipe("train_landmarks")
    usual = torch.tensor([[-0.2, 0.0], [0.2, 0.0], [0.0, 0.4]])
    faces = torch.stack([10 * usual, 10 * usual + torch.tensor([3.0, 4.0])])
    assert torch.allclose(train.corner_errors(faces, 10 * usual, usual), torch.tensor([0.0, 5.0]))


def test_a_portrait_picture_without_margins_is_taken_whole() -> None:
    image, _ = marked((128, 128), 63.5 + 63.5j, 64, 0)
    pipe = pipe_with(Oracle())
    assert locate(pipe, Photo(image_files.to_pil(image)[0])).is_whole
    larger = Image.new("RGB", (128, 128))
    larger.paste(image_files.to_pil(image)[0].resize((90, 90)), (20, 20))
    assert not locate(pipe, Photo(larger)).is_whole
