"""Generators with labels: sampled, edited, and saved with a default label."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stylegan_hub.errors import ArtifactError
from stylegan_hub.methods.method import get
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio


@pytest.fixture(scope="module")
def labelled(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """A pipeline whose generator has three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(
            z_dim=16, w_dim=16, c_dim=3, img_resolution=32, channels=[8, 8, 8, 8],
            num_mapping_layers=2,
        )  # fmt: skip
    clip = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    return StyleEditPipeline(generator, *clip)


def test_a_label_is_an_index_or_a_vector(labelled: StyleEditPipeline) -> None:
    first, second = (labelled.sample(7, label=label).codes for label in (0, 1))
    assert not torch.allclose(first, second)
    assert torch.equal(labelled.sample(7).codes, first)  # class 0 if nothing else is said
    assert torch.equal(labelled.sample(7, label=[0.0, 1.0, 0.0]).codes, second)
    assert torch.equal(labelled.sample(7, label=torch.tensor([0.0, 1.0, 0.0])).codes, second)
    between = labelled.sample(7, label=[0.5, 0.5, 0.0]).codes
    assert not torch.allclose(between, first) and not torch.allclose(between, second)
    one, other = (labelled(seed=7, label=label).images[0].tobytes() for label in (0, 2))
    assert one != other


def test_the_default_label_is_saved(labelled: StyleEditPipeline, tmp_path: Path) -> None:
    parts = {name: getattr(labelled, name) for name in ("generator", "clip", "tokenizer")}
    for label in (2, [0.25, 0.0, 0.75]):
        pipe = StyleEditPipeline(**parts, image_processor=labelled.image_processor, label=label)
        pipe.save_pretrained(tmp_path / "own")
        again = StyleEditPipeline.from_pretrained(tmp_path / "own")
        assert again.config.label == label
        expected = labelled.sample(7, label=label).codes
        assert torch.allclose(again.sample(7).codes, expected, atol=1e-6)


@pytest.mark.parametrize("label", [3, -1, [1.0, 0.0], [np.nan, 0.0, 0.0], True])
def test_labels_that_do_not_exist(labelled: StyleEditPipeline, label: object) -> None:
    with pytest.raises(ValueError, match=r"Got (a )?label.*(0 to 2|3 finite numbers)"):
        labelled.sample(7, label=label)  # type: ignore[arg-type]


def test_a_label_for_a_generator_without(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match=r"was trained without labels\. Leave it out"):
        tiny_pipeline.sample(7, label=0)
    parts = {n: getattr(tiny_pipeline, n) for n in ("generator", "clip", "tokenizer")}
    with pytest.raises(ValueError, match="was trained without labels"):
        StyleEditPipeline(**parts, image_processor=tiny_pipeline.image_processor, label=1)


def test_an_index_that_is_no_label(labelled: StyleEditPipeline, tmp_path: Path) -> None:
    labelled.save_pretrained(tmp_path / "own")
    index = tmp_path / "own" / "model_index.json"
    index.write_text(index.read_text().replace('"label": null', '"label": ["os", "system"]'))
    assert "system" in index.read_text()
    with pytest.raises(ArtifactError, match="for 'label'; expected a class or numbers"):
        StyleEditPipeline.from_pretrained(tmp_path / "own")


@pytest.mark.parametrize("name", ["optimization", "gradient", "mapper"])
def test_methods_sample_the_class_that_is_asked_for(labelled: StyleEditPipeline, name: str) -> None:
    small = {
        "optimization": {"steps": 1, "shared_steps": 2, "shared_faces": 2},
        "gradient": {"steps": 2, "batch_size": 2},
        "mapper": {"steps": 2, "batch_size": 2, "population": 4, "lr": 30.0},
    }[name]
    method = get(name)
    settings = replace(method.presets["default"], **small)
    steps = labelled.sample(3).codes, labelled.sample(3, label=1).codes
    found = [
        method.find(labelled, f"a face with a hat of {label}", label=label, settings=settings)
        for label in (0, 1)
    ]
    assert labelled.config.label is None and not torch.equal(*steps)
    assert found[0].base_model == found[1].base_model == labelled.base_model
    face = labelled.lower(labelled.sample(3), found[0].space)
    assert not torch.allclose(found[0].apply(face).codes, face.codes)


def test_a_session_has_a_label(labelled: StyleEditPipeline) -> None:
    studio = Studio(labelled)
    pictures = [studio.draw(Session(7, label=label))[0].tobytes() for label in (0, 1)]
    assert pictures[0] != pictures[1]
    assert pictures[1] == labelled(seed=7, label=1).images[0].tobytes()
