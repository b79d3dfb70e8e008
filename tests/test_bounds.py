"""What a file may request: sizes and numbers are bounded before memory is allocated."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stylegan_hub import bounds
from stylegan_hub.edits.base import Strength, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import StackedEdit
from stylegan_hub.errors import ArtifactError
from stylegan_hub.methods.table import load_directions
from stylegan_hub.models.captioner import CaptionerConfig
from stylegan_hub.models.encoder import EncoderConfig
from stylegan_hub.models.instant import InstantConfig
from stylegan_hub.models.landmarker import LandmarkerConfig
from stylegan_hub.models.parser import ParserConfig
from stylegan_hub.models.recognizer import RecognizerConfig
from stylegan_hub.models.stylegan2 import GeneratorConfig, MappingConfig
from stylegan_hub.names import bundled
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.text_to_face import Sizes, load_text_to_face

HUGE = (10**6, 2**40, 10**18)


@pytest.fixture
def direction(tiny_pipeline: StyleEditPipeline, tmp_path: Path) -> Path:
    base = tiny_pipeline.base_model
    vector = torch.randn(base.num_ws, base.w_dim)
    return Direction(vector, "w_plus", base).save_pretrained(tmp_path / "edit")


def changed(folder: Path, keys: tuple[str | int, ...], value: object) -> Path:
    """The config of a folder with one value replaced."""
    path = folder / "config.json"
    config = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(config))
    return folder


CONFIGS: tuple[tuple[Callable[..., Any], dict[str, Any]], ...] = (
    (GeneratorConfig, {}),
    (MappingConfig, {"z_dim": 4, "c_dim": 0, "w_dim": 4, "num_layers": 2}),
    (EncoderConfig, {}),
    (RecognizerConfig, {}),
    (ParserConfig, {}),
    (LandmarkerConfig, {}),
    (CaptionerConfig, {"vocabulary": ("a",)}),
    (InstantConfig, {"samples": 1, "w_dim": 4, "embedding_dim": 4}),
    (Sizes, {}),
)


@pytest.mark.parametrize(
    ("config", "usual"), CONFIGS, ids=lambda value: getattr(value, "__name__", "")
)
@pytest.mark.parametrize("size", HUGE)
def test_no_size_of_a_network_is_beyond_reason(
    config: Callable[..., Any], usual: dict[str, Any], size: int
) -> None:
    """Every field that is a number: none of them causes an endless loop or takes memory."""
    for entry in fields(config):  # type: ignore[arg-type]
        if entry.type in ("int", "int | None") and entry.name not in ALSO_LARGE:
            with pytest.raises(ValueError):
                config(**{**usual, entry.name: size})
        if entry.type == "Sequence[int]" and entry.name != "vocabulary":
            count = len(getattr(config(**usual), entry.name))
            with pytest.raises(ValueError):
                config(**{**usual, entry.name: [size] * count})


ALSO_LARGE = {
    "channel_base",  # the smaller of this and channel_max bounds the channels
    "channel_max",
    "num_fp16_res",  # counts resolutions, of which there are no more
    "samples",  # a million w make an instant model of a gigabyte
}


def test_one_bound_of_the_channels_is_enough() -> None:
    with pytest.raises(ValueError, match="channels"):
        GeneratorConfig(channel_base=10**9, channel_max=10**9)
    assert max(GeneratorConfig(channel_base=10**9).widths.values()) == 512


@pytest.mark.parametrize("key", bounds.BASE_MODEL)
@pytest.mark.parametrize("value", [*HUGE, -1, 0])
def test_the_generator_that_an_edit_names(direction: Path, key: str, value: int) -> None:
    with pytest.raises(ArtifactError, match=key):
        load_edit(changed(direction, ("base_model", key), value))


@pytest.mark.parametrize("value", [1e308, math.inf, -math.inf, math.nan, 10**400, 1001])
@pytest.mark.parametrize("key", ["default", "min", "max"])
def test_strengths_are_numbers_for_a_slider(direction: Path, key: str, value: float) -> None:
    with pytest.raises(ArtifactError):
        load_edit(changed(direction, ("strength", key), value))


def test_strengths_in_python(tiny_pipeline: StyleEditPipeline, direction: Path) -> None:
    assert Strength(1.0, -1000, 1000).max == 1000
    for wrong in (1001, math.inf, True, "1"):
        with pytest.raises(ValueError, match="strength"):
            StackedEdit(load_edit(direction), wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [3e38, -2e6, math.inf, math.nan])
def test_weights_that_would_poison_every_picture(direction: Path, value: float) -> None:
    path = direction / "model.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).flatten()[0] = value
    save_file(tensors, path)
    config = json.loads((direction / "config.json").read_text())
    del config["tensors_sha256"]  # as in files of other programs
    (direction / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="tensor"):
        load_edit(direction)


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("layout", 0, "stop"), 10**9),
        (("layout", 0, "stop"), -1),
        (("layout", 0, "start"), 2**62),
        (("layout", 0, "start"), "0"),
        (("layout", 0, "stop"), 1),
    ],
)
def test_the_layout_of_a_table(tmp_path: Path, keys: tuple[str | int, ...], value: object) -> None:
    name, folder = next(iter(bundled("direction_table").items()))
    copy = shutil.copytree(folder, tmp_path / name)
    with pytest.raises(ArtifactError):
        load_directions(changed(copy, keys, value))


@pytest.mark.parametrize("size", ["mapping_layers", "z_dim", "text_dim", "hidden"])
def test_the_sizes_of_a_text_to_face(tmp_path: Path, size: str) -> None:
    name, folder = next(iter(bundled("text_to_face").items()))
    copy = shutil.copytree(folder, tmp_path / name)
    with pytest.raises(ArtifactError, match=size):
        load_text_to_face(changed(copy, ("sizes", size), 10**7))


def test_long_values_are_not_repeated_in_messages() -> None:
    with pytest.raises(ValueError, match=r"^w_dim is .{,60}; expected") as caught:
        bounds.check_sizes({"w_dim": "a" * 10_000}, {"w_dim": 4})
    assert len(str(caught.value)) < 200
    with pytest.raises(ValueError, match="entries"):
        bounds.check_sizes({"units": [1] * 10**5}, {"units": 4})
