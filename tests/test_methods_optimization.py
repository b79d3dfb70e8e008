"""Latent optimization finds a displacement that brings the picture closer to the words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from stylegan_hub.domain import Domain
from stylegan_hub.edits.direction import Direction
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss
from stylegan_hub.methods.method import Words, get
from stylegan_hub.methods.optimization import PUBLISHED, Settings, displacements
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.steps import Cancelled, OnStep, Step

QUICK = Settings(steps=3, shared_steps=2, shared_faces=2)


def find(
    domain: Domain,
    words: str,
    face: Latents | None = None,
    settings: Settings = QUICK,
    on_step: OnStep | None = None,
    **changes: Any,
) -> Direction:
    """A search by the method, with single settings by name."""
    settings = replace(settings, **changes)
    found = get("optimization").find(domain, words, face, settings=settings, on_step=on_step)
    assert isinstance(found, Direction)
    return found


def similarity(pipe: StyleEditPipeline, latents: Latents, text: str) -> float:
    image = pipe.encode_image(pipe.synthesize(latents).clamp(-1, 1))
    return 1 - float(clip_loss(image, pipe.encode_text(text)).mean())


@pytest.mark.parametrize("space", ["w_plus", "s"])
def test_search_comes_closer_to_the_words(tiny_pipeline: StyleEditPipeline, space: str) -> None:
    start = tiny_pipeline.sample(7)
    # An untrained CLIP does not understand the change of words; their similarity is used.
    settings = Settings(
        steps=25, shared_steps=0, lr=0.1, views=0, directional_lambda=0.0, clip_lambda=1.0
    )
    found = find(tiny_pipeline, "Milo with a hat", start, settings, space=space)
    assert found.space is Space(space)
    assert found.origin.prompt == "Milo with a hat" and found.origin.neutral == "a face"
    assert found.origin.training["method"] == "optimization"
    edited = tiny_pipeline.apply(start, [(found, 1.0)])
    before = similarity(tiny_pipeline, start, "Milo with a hat")
    assert similarity(tiny_pipeline, edited, "Milo with a hat") > before + 0.03


def test_search_is_repeatable(tiny_pipeline: StyleEditPipeline) -> None:
    searches = [find(tiny_pipeline, "a hat", tiny_pipeline.sample(7)) for _ in range(2)]
    assert searches[0].length > 0
    assert torch.allclose(searches[0].vector, searches[1].vector, atol=1e-6)


@pytest.mark.parametrize("space", ["w_plus", "s"])
def test_search_in_half_precision(tiny_pipeline: StyleEditPipeline, space: str) -> None:
    def search() -> Direction:
        start = tiny_pipeline.sample(7)
        return find(tiny_pipeline, "a hat", start, space=space, steps=5, shared_steps=0, views=0)

    full = search()
    with torch.autocast("cpu", torch.bfloat16):
        half = search()
    assert half.vector.dtype == torch.float32
    likeness = torch.cosine_similarity(half.vector.flatten(), full.vector.flatten(), dim=0)
    assert likeness > 0.8


def test_coupled_layers_move_together(tiny_pipeline: StyleEditPipeline) -> None:
    def togetherness(coupling: float) -> float:
        start, settings = tiny_pipeline.sample(7), Settings(steps=5, shared_steps=3)
        found = find(tiny_pipeline, "a hat", start, settings, coupling=coupling)
        return float(found.vector.mean(0).norm() / found.vector.norm(dim=1).mean())

    assert togetherness(8.0) > max(0.9, togetherness(0.0) + 0.1)


def test_without_a_face_it_is_what_suits_random_ones(tiny_pipeline: StyleEditPipeline) -> None:
    steps: list[Step] = []
    everybody = find(tiny_pipeline, "a crown", on_step=steps.append)
    assert [step.total for step in steps] == [2, 2]
    again = find(tiny_pipeline, "a crown", on_step=steps.append)  # the result is kept
    assert len(steps) == 2 and torch.equal(again.vector, everybody.vector)


def test_free_generation_starts_from_the_average_face(tiny_pipeline: StyleEditPipeline) -> None:
    free = find(tiny_pipeline, "a hat", shared_steps=0)
    mean = find(tiny_pipeline, "a hat", tiny_pipeline.mean_latent(), shared_steps=0)
    assert torch.allclose(free.vector, mean.vector, atol=1e-6)


def test_search_in_s_leaves_the_colors_layers_alone(tiny_pipeline: StyleEditPipeline) -> None:
    found = find(tiny_pipeline, "a hat", space="s")
    for layer in tiny_pipeline.generator.style_layout:
        moved = found.vector[layer.start : layer.stop].abs().sum()
        assert (moved == 0) == layer.is_to_rgb, layer.name


def test_progress(tiny_pipeline: StyleEditPipeline) -> None:
    steps: list[Step] = []
    start = tiny_pipeline.sample(7)
    find(tiny_pipeline, "blonde hair", start, on_step=steps.append)
    assert [(step.index, step.total) for step in steps] == [(i, 5) for i in (1, 2, 3, 4, 5)]
    assert torch.allclose(steps[0].images, tiny_pipeline.synthesize(start), atol=1e-5)
    assert not steps[-1].images.requires_grad
    assert all(-1 <= float(step.note.removeprefix("similarity ")) <= 1 for step in steps)


def test_what_suits_everybody_is_searched_once(tiny_pipeline: StyleEditPipeline) -> None:
    def totals(seed: int, words: str, **changes: object) -> set[int]:
        steps: list[Step] = []
        start = tiny_pipeline.sample(seed)
        find(tiny_pipeline, words, start, on_step=steps.append, **changes)
        return {step.total for step in steps}

    assert totals(7, "a bob cut") == {5}
    assert totals(8, "a bob cut") == {3}
    assert totals(8, "a bob cut", steps=4) == {4}  # its own steps do not affect the others
    assert totals(8, "a mohawk") == {5}
    assert totals(8, "a bob cut", space="s") == {5}
    assert totals(8, "a bob cut", l2_lambda=0.1) == {5}


def test_the_same_with_and_without_the_kept_search(tiny_pipeline: StyleEditPipeline) -> None:
    def search() -> torch.Tensor:
        return find(tiny_pipeline, "red hair", tiny_pipeline.sample(7)).vector

    assert torch.equal(search(), search())


def test_everybody_moves_alike_before_the_own_steps(tiny_pipeline: StyleEditPipeline) -> None:
    settings = Settings(steps=2, shared_steps=12, shared_faces=4)
    people = tiny_pipeline.sample([1, 2, 3])
    moved = displacements(tiny_pipeline, Words("grey hair"), people, settings)
    pairs = torch.cosine_similarity(moved[0].flatten(), moved[1:].flatten(1), dim=1)
    assert pairs.min() > 0.7
    assert not torch.equal(moved[0], moved[1])


def test_cancelled(tiny_pipeline: StyleEditPipeline) -> None:
    def stop(step: Step) -> None:
        raise Cancelled

    # For one face: the displacement for every face may be known from an earlier search.
    with pytest.raises(Cancelled):
        find(
            tiny_pipeline,
            "a hat",
            tiny_pipeline.sample(7),
            settings=Settings(steps=1000),
            on_step=stop,
        )


def test_published_settings(tiny_pipeline: StyleEditPipeline) -> None:
    assert (PUBLISHED.steps, PUBLISHED.lr, PUBLISHED.l2_lambda) == (300, 0.1, 0.008)
    assert get("optimization").presets["published"] is PUBLISHED
    losses: list[float] = []

    def watch(step: Step) -> None:
        losses.append(step.loss)
        if step.index == 30:
            raise Cancelled

    with pytest.raises(Cancelled):
        find(tiny_pipeline, "a hat", tiny_pipeline.sample(7), settings=PUBLISHED, on_step=watch)
    assert losses[-1] < losses[0]


def test_the_recognizer_has_a_say_where_there_is_one(tiny_pipeline: StyleEditPipeline) -> None:
    recognizer = Recognizer(units=(1, 1), widths=(8, 8), input_size=16, crop=None, reduction=4)
    with_recognizer = StyleEditPipeline(**tiny_pipeline.components | {"recognizer": recognizer})
    start = tiny_pipeline.sample(7)
    own = find(with_recognizer, "a beard", start)
    without = find(with_recognizer, "a beard", start, id_lambda=0.0)
    assert own.origin.training["id_lambda"] == 0.15
    assert find(tiny_pipeline, "a beard", start).origin.training["id_lambda"] == 0
    assert not torch.equal(own.vector, without.vector)


def test_unusable_search(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match="Got 2 faces; an edit is found for one face"):
        find(tiny_pipeline, "a hat", tiny_pipeline.sample([1, 2]))
    with pytest.raises(ValueError, match=r"Got space z; .*w_plus or s"):
        find(tiny_pipeline, "a hat", space="z")
    with pytest.raises(ValueError, match=r"id_lambda 0.5, .*no recognizer"):
        find(tiny_pipeline, "a hat", id_lambda=0.5)
    with pytest.raises(ValueError, match="Got steps 0"):
        Settings(steps=0)
    with pytest.raises(ValueError, match="Got shared_steps 3, shared_faces 0; expected"):
        Settings(shared_steps=3, shared_faces=0)


def test_a_face_in_s_is_edited_in_s(tiny_pipeline: StyleEditPipeline) -> None:
    in_s = tiny_pipeline.lower(tiny_pipeline.sample(7), "s")
    assert find(tiny_pipeline, "a hat", in_s, space="w_plus").space is Space.S


def test_settings_are_recorded(tiny_pipeline: StyleEditPipeline) -> None:
    training = find(tiny_pipeline, "a hat", lr=0.1, l2_lambda=0.01).origin.training
    assert (training["steps"], training["l2_lambda"], training["lr"]) == (3, 0.01, 0.1)
