"""A limited edit moves faces only as far as samples go, and is read like any untrusted edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_session import in_s, make_edit, make_mapper

from stylegan_hub.artifacts import read_folder
from stylegan_hub.edits.base import Edit, edit_from_parts, load_edit
from stylegan_hub.edits.combined import Combined
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.limited import Limited, Limits
from stylegan_hub.errors import ArtifactError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.pipeline import StyleEditPipeline


def long_edit(pipe: StyleEditPipeline, factor: float = 40) -> Direction:
    edit = make_edit(pipe)
    return Direction(factor * edit.vector, edit.space, edit.base_model)


def along(limits: Limits, latents: Latents) -> torch.Tensor:
    return (latents.codes - limits.mean) @ limits.axes.float().T


@pytest.fixture(scope="module")
def limits(tiny_pipeline: StyleEditPipeline) -> Limits:
    return Limits.of(tiny_pipeline)


def test_limits_are_the_ranges_of_samples(tiny_pipeline: StyleEditPipeline, limits: Limits) -> None:
    unit = limits.axes.float() @ limits.axes.float().T
    assert torch.allclose(unit, torch.eye(len(unit)), atol=5e-3)
    places = along(limits, tiny_pipeline.sample(range(500), truncation_psi=1.0))
    inside = (places >= limits.lowest) & (places <= limits.highest)
    assert 0.93 < float(inside.float().mean()) < 0.99
    again = Limits.of(tiny_pipeline)
    assert torch.equal(again.axes, limits.axes) and torch.equal(again.lowest, limits.lowest)


def test_far_steps_end_where_samples_end(tiny_pipeline: StyleEditPipeline, limits: Limits) -> None:
    pipe, edit = tiny_pipeline, long_edit(tiny_pipeline)
    faces = pipe.sample(range(20), truncation_psi=0.5)
    limited = Limited(edit, limits)
    far, near = along(limits, edit.apply(faces, 1.0)), along(limits, limited.apply(faces, 1.0))
    slack = 0.01 * (limits.highest - limits.lowest)
    assert (far > limits.highest + slack).any() and (far < limits.lowest - slack).any()
    start = along(limits, faces)
    assert (near <= start.maximum(limits.highest) + slack).all()
    assert (near >= start.minimum(limits.lowest) - slack).all()
    assert torch.equal(limited.apply(faces, 0).codes, faces.codes)
    half = limited.apply(faces, 0.5).codes - faces.codes
    assert torch.allclose(2 * half, limited.apply(faces, 1.0).codes - faces.codes, atol=1e-4)


def test_short_steps_are_as_before(tiny_pipeline: StyleEditPipeline, limits: Limits) -> None:
    pipe = tiny_pipeline
    middle = ((limits.lowest + limits.highest) / 2) @ limits.axes.float() + limits.mean
    face = Latents(Space.W_PLUS, middle.expand(1, pipe.generator.num_ws, -1).clone())
    span = 0.2 * (limits.highest - limits.lowest) @ limits.axes.float()
    edit = Direction(span.expand(pipe.generator.num_ws, -1), Space.W_PLUS, pipe.base_model)
    both = [made.apply(face, 1.0).codes for made in (edit, Limited(edit, limits))]
    assert torch.allclose(*both, atol=0.01 * float(span.abs().max()))


def test_a_face_beyond_the_limits_is_moved_only_inwards(
    tiny_pipeline: StyleEditPipeline, limits: Limits
) -> None:
    outside = (1.5 * limits.highest) @ limits.axes.float() + limits.mean
    face = Latents(Space.W_PLUS, outside.expand(1, tiny_pipeline.generator.num_ws, -1).clone())
    moved = Limited(long_edit(tiny_pipeline), limits).apply(face, 1.0)
    slack = 0.01 * (limits.highest - limits.lowest)
    assert (along(limits, moved) <= along(limits, face) + slack).all()


@pytest.mark.parametrize("make", [long_edit, make_mapper])
def test_saved_and_loaded(
    tiny_pipeline: StyleEditPipeline, limits: Limits, tmp_path: Path, make: type[Edit]
) -> None:
    inner = make(tiny_pipeline)
    limited = Limited(inner, limits)
    assert limited.strength == inner.strength and limited.origin == inner.origin
    loaded = load_edit(limited.save_pretrained(tmp_path / "limited"))
    assert isinstance(loaded, Limited) and type(loaded.edit) is type(inner)
    assert loaded.digest == limited.digest
    faces = tiny_pipeline.sample(range(3))
    assert torch.equal(loaded.apply(faces, 0.8).codes, limited.apply(faces, 0.8).codes)


def test_what_cannot_be_limited(tiny_pipeline: StyleEditPipeline, limits: Limits) -> None:
    edit = make_edit(tiny_pipeline)
    for other in (in_s(tiny_pipeline), Limited(edit, limits), Combined([(edit, 1.0)])):
        with pytest.raises(ValueError, match="expected an edit in w_plus without limits"):
            Limited(other, limits)
    for wrong in (
        replace(limits, lowest=limits.highest + 1),
        replace(limits, lowest=limits.lowest[:-1]),
        replace(limits, axes=limits.axes[:, :-1]),
        replace(limits, mean=limits.mean[:-1]),
    ):
        with pytest.raises(ValueError, match=r"limits|shapes"):
            Limited(edit, wrong)


@pytest.mark.parametrize("damage", ["nested", "combined", "missing", "digest", "s", "text"])
def test_damaged_files(
    tiny_pipeline: StyleEditPipeline, limits: Limits, tmp_path: Path, damage: str
) -> None:
    limited = Limited(make_edit(tiny_pipeline), limits)
    config, tensors = read_folder(limited.save_pretrained(tmp_path / "one"))
    if damage == "nested":
        config["edit"]["kind"] = "limited"
    elif damage == "combined":
        combined = Combined([(make_edit(tiny_pipeline), 1.0)])
        config["edit"]["kind"], config["edit"]["parts"] = "combined", combined.extra_config()
    elif damage == "missing":
        del tensors["highest"]
    elif damage == "digest":
        tensors["edit.vector"] = tensors["edit.vector"] + 1
    elif damage == "s":
        config["space"] = config["edit"]["space"] = "s"
    else:
        config["edit"] = "an edit"
    with pytest.raises(ArtifactError):
        edit_from_parts(config, tensors, "here")
