"""Searches look at smaller pictures where these show the same."""

from __future__ import annotations

import copy

import pytest
import torch
from conftest import build_tiny_pipeline
from test_regions import PARTS, small_parser, with_parts

from stylegan_hub import methods
from stylegan_hub.images import resize
from stylegan_hub.methods.method import Picture, Words
from stylegan_hub.methods.optimization import Optimization, Settings
from stylegan_hub.methods.run import TrainableMethod
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.steps import Step


@pytest.fixture
def large() -> StyleEditPipeline:
    """A pipeline of 128 px whose CLIP looks at 32 px, and whose last block adds nothing."""
    tiny = build_tiny_pipeline(seed=0)
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        z_dim=16, w_dim=16, img_resolution=128, channels=[8] * 6, num_mapping_layers=2
    )
    with torch.no_grad():
        for name, parameter in generator.synthesis.named_parameters():
            if "b128.torgb" in name and ("bias" in name or name.endswith("torgb.weight")):
                parameter.zero_()
    return StyleEditPipeline(generator, tiny.clip, tiny.tokenizer, tiny.image_processor)


def test_a_smaller_block_that_shows_the_same_is_enough(large: StyleEditPipeline) -> None:
    faces = large.sample(range(3))
    with torch.no_grad():
        sketch, full = large.sketch(faces), large.synthesize(faces)
    assert large.sketch_side == 64 and sketch.shape == (3, 3, 64, 64)
    assert (sketch - resize(full, 64)).abs().mean() < 0.05 * full.abs().mean()
    codes = faces.codes.clone().requires_grad_(True)
    large.sketch(type(faces)(faces.space, codes)).sum().backward()
    assert codes.grad is not None and codes.grad.abs().max() > 0


def test_a_block_that_shows_something_else_is_not_used(large: StyleEditPipeline) -> None:
    large.generator = copy.deepcopy(large.generator)
    with torch.no_grad():
        large.generator.synthesis.get_parameter("b128.torgb.bias").add_(1.0)
    assert large.sketch_side is None
    assert large.sketch(large.sample(0)).shape == (1, 3, 128, 128)


def test_nothing_is_smaller_than_the_networks_need(
    tiny_pipeline: StyleEditPipeline, inverting_pipeline: StyleEditPipeline
) -> None:
    assert tiny_pipeline.sketch_side is None and inverting_pipeline.sketch_side is None


def test_a_search_looks_at_sketches(large: StyleEditPipeline) -> None:
    seen: list[Step] = []
    edit = Optimization().find(
        large,
        Words("a face with a hat"),
        large.sample(0),
        settings=Settings(steps=2, shared_steps=0),
        on_step=seen.append,
    )
    assert all(step.images.shape[-1] == 64 for step in seen if step.images is not None) and seen
    assert large(seed=0, edits=[(edit, 1.0)]).images[0].size == (128, 128)


@pytest.mark.parametrize("name", ["essence", "local", "mapper"])
def test_what_a_training_shows_of_faces_is_full_pictures(
    large: StyleEditPipeline, name: str
) -> None:
    domain = with_parts(large, small_parser(PARTS))
    method = methods.get(name)
    assert isinstance(method, TrainableMethod)
    target = domain.synthesize(domain.sample(5)).detach()
    request = Picture(target) if name == "essence" else Words("a face with a hat")
    run = method.start(domain, request, None, method.default(domain, request))
    assert run.shown(domain.sample(range(2))).shape[-1] == 128
