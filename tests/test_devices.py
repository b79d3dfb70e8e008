"""Everything that a pipeline does, on another device than the CPU; and the choice of the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import build_tiny_pipeline
from other_device import DEVICE, OtherTensor, other_device
from PIL import Image
from test_regions import PARTS, small_parser, with_parts
from torch import nn

import stylegan_hub as hub
from stylegan_hub import devices
from stylegan_hub.domain import COMPONENTS
from stylegan_hub.latents import Latents
from stylegan_hub.methods import known
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.photos.invert import Tuning
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

# Norms on meta take a path in PyTorch that warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*frobenius_norm is deprecated")

PICTURE = Image.new("RGB", (32, 32), (200, 10, 10))
REQUESTS = {
    hub.Words: hub.Words("a face with a hat", keep=("glasses",)),
    hub.Picture: hub.Picture(PICTURE),
    hub.Pairs: hub.Pairs([1, 2], [3, 4]),
    hub.Nothing: hub.Nothing(),
}


@pytest.fixture(scope="module")
def on_the_other_device() -> StyleEditPipeline:
    """A pipeline with every part that the methods need, on the other device."""
    tiny = build_tiny_pipeline(seed=0)
    encoder = Encoder(
        num_ws=tiny.generator.num_ws, w_dim=16, input_size=32, units=(1, 1, 1, 1),
        widths=(8, 8, 8, 8), head_width=4, reduction=4,
    )  # fmt: skip
    recognizer = Recognizer(
        units=(1, 1), widths=(8, 8), input_size=16, embedding_dim=8, crop=None, reduction=4
    )
    clip = (tiny.clip, tiny.tokenizer, tiny.image_processor)
    whole = StyleEditPipeline(tiny.generator, *clip, recognizer=recognizer, encoder=encoder)
    with other_device() as device:
        return with_parts(whole, small_parser(PARTS)).to(device)


@pytest.fixture
def moved(on_the_other_device: StyleEditPipeline) -> Iterator[StyleEditPipeline]:
    """The pipeline, while the other device exists."""
    with other_device():
        yield on_the_other_device


def short(settings: Any) -> Any:
    """Settings of a very short search."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if type(value) is int and value > 3 and "seed" not in field.name:
            try:
                settings = dataclasses.replace(settings, **{field.name: 3})
            except ValueError:  # a number that has a larger minimum
                continue
    return settings


def test_the_other_device_finds_what_stays_behind() -> None:
    with other_device() as device:
        there, here = torch.ones(3, device=device), torch.ones(3)
        assert there.device == DEVICE and (there + 1).device == DEVICE
        assert (there + here.to(device)).cpu().tolist() == [2, 2, 2]
        with pytest.raises(RuntimeError, match=r"of shape \(3,\) is on cpu"):
            _ = there + here
        with pytest.raises(TypeError, match="no numbers in double precision"):
            there.double()


def test_every_tensor_moves(moved: StyleEditPipeline) -> None:
    networks = [part for name in COMPONENTS if isinstance(part := getattr(moved, name), nn.Module)]
    assert len(networks) == 5
    for network in networks:
        for tensor in (*network.parameters(), *network.buffers()):
            assert isinstance(tensor, OtherTensor)
    assert moved.device == DEVICE


def test_pictures_are_the_same(moved: StyleEditPipeline) -> None:
    here = build_tiny_pipeline(seed=0)
    edit = hub.Direction(torch.ones(8, 16), "w_plus", here.base_model)
    for options in ({}, {"edits": [(edit, 0.5)]}, {"edits": [(edit, 0.5)], "region": "hair"}):
        there = moved(seed=[3, 4], **options).images
        if "region" not in options:
            for one, other in zip(there, here(seed=[3, 4], **options).images, strict=True):
                assert abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    assert moved.base_model.fingerprint == here.base_model.fingerprint
    assert moved.clip_model.fingerprint == here.clip_model.fingerprint


SLOW = ("discovery", "local")
NAMES = sorted(set(known()) - {"table", "instant"})  # these need trained parts


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in NAMES]
)
def test_methods(moved: StyleEditPipeline, name: str) -> None:
    method = known()[name]
    for kind in method.requests:
        request = REQUESTS[kind]
        if name == "local":
            request = dataclasses.replace(request, region="hair")
        settings = short(method.settings(moved, request, None))
        edit = method.find(moved, request, moved.sample(3), settings=settings)
        assert len(moved(latents=moved.sample(3), edits=[(edit, 1.0)]).images) == 1


def test_photographs(moved: StyleEditPipeline, tmp_path: Path) -> None:
    latents = moved.invert(PICTURE, 2)
    assert latents.codes.device == DEVICE
    tuned = moved.tune(PICTURE, latents, Tuning(steps=2))
    assert len(tuned.pipe(latents=tuned.latents).images) == 1


def test_what_a_page_does(moved: StyleEditPipeline, tmp_path: Path) -> None:
    studio = Studio(moved)
    edit = hub.Direction(torch.ones(8, 16), "w_plus", moved.base_model)
    session = Session(seed=3).with_edit(edit, 0.5)
    studio.draw(session)
    studio.rendering.picture(session, 16, moving=True)
    studio.mark(session, studio.region("", ["hair"]))
    assert studio.keep(session).latents is not None
    studio.save_stack(session, tmp_path / "stack.safetensors")
    again = studio.load_stack(Session(), tmp_path / "stack.safetensors")
    assert len(again.edits) == 1 and isinstance(again.latents, Latents)


def test_auto_takes_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.chosen_device() == torch.device("cpu")
    with pytest.raises(ValueError, match=r"PyTorch .* cannot use here"):
        devices.chosen_device("cuda")
    with pytest.raises(ValueError, match="expected auto, cpu, cuda"):
        devices.chosen_device("fast")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices.chosen_device() == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert devices.chosen_device() == torch.device("cuda:1")
    with pytest.raises(ValueError, match="this machine has 2 such devices"):
        devices.chosen_device("cuda:2")


def test_apple_falls_back_or_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setenv(devices.FALLBACK, "1")
    assert devices.chosen_device() == torch.device("mps")
    monkeypatch.delenv(devices.FALLBACK)
    with pytest.warns(UserWarning, match=f"Set {devices.FALLBACK}=1 before Python starts"):
        devices.chosen_device("mps")


def test_a_pipeline_is_loaded_onto_the_device(
    tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[torch.device] = []
    move = StyleEditPipeline.to

    def recorded(self: StyleEditPipeline, *args: Any, **options: Any) -> StyleEditPipeline:
        asked.extend(one for one in args if isinstance(one, torch.device))
        return self if asked else move(self, *args, **options)

    monkeypatch.setattr(StyleEditPipeline, "to", recorded)
    monkeypatch.setattr(devices, "_check_there", lambda device: None)
    StyleEditPipeline.from_pretrained(tiny_pipeline_folder, device="cuda:1")
    assert asked == [torch.device("cuda:1")]
