"""What every kind of edit promises, and how latent optimization finds one."""

import json
import os
from pathlib import Path

import pytest
import torch

from stylegan_hub import artifacts
from stylegan_hub.artifacts import BaseModel
from stylegan_hub.edits.base import Edit, Origin, Strength, kinds, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.steps import Cancelled, Step
from stylegan_hub.methods.optimization import Published, Settings, displacements, find
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.pipeline import StyleEditPipeline

BASE = BaseModel("toy", "0123456789abcdef", num_ws=3, w_dim=4, num_styles=10, resolution=8)

# One of every kind, for the contract tests. A new kind adds its line.
EXAMPLES: dict[str, Edit] = {
    "direction": Direction(
        torch.linspace(-1, 1, 12).reshape(3, 4),
        "w_plus",
        BASE,
        Strength(0.8, -1.0, 3.0),
        Origin("a hat", "a face", {"method": "by hand", "steps": 3}),
    ),
    "latent_mapper": LatentMapper(
        {"coarse": (0, 2), "fine": (2, 3)}, "w_plus", BASE, strength=Strength(1.2, -1.0, 2.0)
    ),
}


def codes(edit: Edit, count: int, dtype: torch.dtype = torch.float32) -> Latents:
    base = edit.base_model
    shape = (base.num_styles,) if edit.space is Space.S else (base.num_ws, base.w_dim)
    random = torch.Generator().manual_seed(0)
    return Latents(edit.space, torch.randn(count, *shape, generator=random).to(dtype))


# The contract of all kinds


def test_the_folder_is_the_registry() -> None:
    assert set(kinds()) == set(EXAMPLES)


@pytest.fixture(params=sorted(EXAMPLES))
def edit(request: pytest.FixtureRequest) -> Edit:
    return EXAMPLES[request.param]


def test_strength_zero_is_the_identity(edit: Edit) -> None:
    latents = codes(edit, 2)
    assert torch.equal(edit.apply(latents, 0).codes, latents.codes)


def test_default_strength(edit: Edit) -> None:
    latents = codes(edit, 2)
    assert torch.equal(edit.apply(latents).codes, edit.apply(latents, edit.strength.default).codes)
    assert not torch.equal(edit.apply(latents).codes, latents.codes)


def test_strength_is_linear_and_may_be_negative(edit: Edit) -> None:
    latents = codes(edit, 2)
    step = edit.apply(latents, 1.0).codes - latents.codes
    assert torch.allclose(edit.apply(latents, -1.5).codes, latents.codes - 1.5 * step, atol=1e-5)


def test_batch_is_each_one_alone(edit: Edit) -> None:
    latents = codes(edit, 3)
    alone = Latents.cat([edit.apply(one, 0.7) for one in latents])
    assert torch.allclose(edit.apply(latents, 0.7).codes, alone.codes, atol=1e-6)
    assert len(edit.apply(codes(edit, 0))) == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_dtype_follows_the_latents(edit: Edit, dtype: torch.dtype) -> None:
    assert edit.apply(codes(edit, 2, dtype)).codes.dtype == dtype


def test_latents_given_stay_as_they_are(edit: Edit) -> None:
    latents = codes(edit, 2)
    before = latents.codes.clone()
    edit.apply(latents, 1.0).codes.add_(1)
    edit.apply(latents, 1.0)
    assert torch.equal(latents.codes, before)


def test_saved_and_loaded(edit: Edit, tmp_path: Path) -> None:
    folder = edit.save_pretrained(tmp_path / "edit")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    loaded = load_edit(folder)
    assert type(loaded) is type(edit)
    for name in ("space", "base_model", "strength", "origin"):
        assert getattr(loaded, name) == getattr(edit, name)
    latents = codes(edit, 2)
    assert torch.equal(loaded.apply(latents, 0.3).codes, edit.apply(latents, 0.3).codes)
    assert json.loads((folder / "config.json").read_text())["kind"] == edit.kind


def test_saving_is_all_or_nothing(
    edit: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(artifacts.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        edit.save_pretrained(tmp_path / "edit")
    assert os.listdir(tmp_path) == []


def test_wrong_space_and_size(edit: Edit) -> None:
    other = Latents("z", torch.zeros(1, 4))
    with pytest.raises(MismatchError, match=f"works in {edit.space}, got latents in z. Lower"):
        edit.apply(other)
    shape = list(codes(edit, 1).codes.shape)
    shape[-1] += 1
    with pytest.raises(MismatchError, match=r"made for 'toy' .*Use latents of that generator"):
        edit.apply(Latents(edit.space, torch.zeros(shape)))


def test_of_another_generator(edit: Edit) -> None:
    edit.check_fits(BASE)
    other = BaseModel("car", "fedcba9876543210", num_ws=3, w_dim=4, num_styles=10, resolution=8)
    with pytest.raises(MismatchError, match=r"0123456789abcdef.*fedcba9876543210.*Load it with"):
        edit.check_fits(other)


# Folders that are no edit


def test_unknown_kind(tmp_path: Path) -> None:
    folder = EXAMPLES["direction"].save_pretrained(tmp_path / "edit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "essense"}))
    with pytest.raises(ArtifactError, match=r"Unknown kind 'essense' .*known kinds: direction"):
        load_edit(folder)


def test_unknown_name() -> None:
    with pytest.raises(NotFoundError, match="Found nothing under 'no such edit'"):
        load_edit("no such edit")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("base_model", {"fingerprint": "ab"}),
        ("space", "x"),
        ("space", "z"),
        ("strength", {"default": 9.0, "min": 0.0, "max": 1.0}),
    ],
)
def test_unsound_config(tmp_path: Path, key: str, value: object) -> None:
    folder = EXAMPLES["direction"].save_pretrained(tmp_path / "edit")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(ArtifactError, match="is no sound direction: "):
        load_edit(folder)


@pytest.mark.parametrize("shape", [(4,), (3, 5), (1, 3, 4)])
def test_direction_of_a_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"in w_plus of this generator has the shape \[3, 4\]"):
        Direction(torch.zeros(shape), "w_plus", BASE)
    with pytest.raises(ValueError, match=r"in s of this generator has the shape \[10\]"):
        Direction(torch.zeros(shape), "s", BASE)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    folder = Direction(torch.full((10,), torch.nan), "s", BASE).save_pretrained(tmp_path / "edit")
    with pytest.raises(ArtifactError, match="'vector' holds numbers that are not finite"):
        load_edit(folder)


# Latent optimization


QUICK = Settings(steps=3, shared_steps=2, shared_people=2)


def similarity(pipe: StyleEditPipeline, latents: Latents, text: str) -> float:
    image = pipe.encode_image(pipe.synthesize(latents).clamp(-1, 1))
    return 1 - float(clip_loss(image, pipe.encode_text(text)).mean())


@pytest.mark.parametrize("space", ["w_plus", "s"])
def test_search_comes_closer_to_the_words(tiny_pipeline: StyleEditPipeline, space: str) -> None:
    start = tiny_pipeline.sample(7)
    # The change of words means nothing to an untrained CLIP; their similarity does.
    settings = Settings(
        steps=25, shared_steps=0, lr=0.1, views=0, directional_lambda=0.0, clip_lambda=1.0
    )
    found = find(tiny_pipeline, "Milo with a hat", start, space, settings=settings)
    assert found.space is Space(space)
    assert found.origin.prompt == "Milo with a hat" and found.origin.neutral == "a face"
    assert found.origin.training["method"] == "latent_optimization"
    edited = tiny_pipeline.apply(start, [(found, 1.0)])
    before = similarity(tiny_pipeline, start, "Milo with a hat")
    assert similarity(tiny_pipeline, edited, "Milo with a hat") > before + 0.03


def test_search_is_repeatable(tiny_pipeline: StyleEditPipeline) -> None:
    searches = [
        find(tiny_pipeline, "a hat", tiny_pipeline.sample(7), settings=QUICK) for _ in range(2)
    ]
    assert searches[0].length > 0
    assert torch.allclose(searches[0].vector, searches[1].vector, atol=1e-6)


@pytest.mark.parametrize("space", ["w_plus", "s"])
def test_search_in_half_precision(tiny_pipeline: StyleEditPipeline, space: str) -> None:
    def search() -> Direction:
        start = tiny_pipeline.sample(7)
        return find(tiny_pipeline, "a hat", start, space, steps=5, shared_steps=0, views=0)

    full = search()
    with torch.autocast("cpu", torch.bfloat16):
        half = search()
    assert half.vector.dtype == torch.float32
    likeness = torch.cosine_similarity(half.vector.flatten(), full.vector.flatten(), dim=0)
    assert likeness > 0.8


def test_coupled_layers_move_together(tiny_pipeline: StyleEditPipeline) -> None:
    def togetherness(coupling: float) -> float:
        start, settings = tiny_pipeline.sample(7), Settings(steps=5, shared_steps=3)
        found = find(tiny_pipeline, "a hat", start, settings=settings, coupling=coupling)
        return float(found.vector.mean(0).norm() / found.vector.norm(dim=1).mean())

    assert togetherness(8.0) > max(0.9, togetherness(0.0) + 0.1)


def test_search_starts_from_the_average_face(tiny_pipeline: StyleEditPipeline) -> None:
    settings = QUICK
    free = find(tiny_pipeline, "a hat", settings=settings)
    mean = find(tiny_pipeline, "a hat", tiny_pipeline.mean_latent(), settings=settings)
    assert torch.allclose(free.vector, mean.vector, atol=1e-6)


def test_search_in_s_leaves_the_colors_layers_alone(tiny_pipeline: StyleEditPipeline) -> None:
    found = find(tiny_pipeline, "a hat", space="s", settings=QUICK)
    for layer in tiny_pipeline.generator.style_layout:
        moved = found.vector[layer.start : layer.stop].abs().sum()
        assert (moved == 0) == layer.is_to_rgb, layer.name


def test_progress(tiny_pipeline: StyleEditPipeline) -> None:
    steps: list[Step] = []
    start = tiny_pipeline.sample(7)
    find(tiny_pipeline, "blonde hair", start, settings=QUICK, on_step=steps.append)
    assert [(step.index, step.total) for step in steps] == [(i, 5) for i in (1, 2, 3, 4, 5)]
    assert torch.allclose(steps[0].image, tiny_pipeline.synthesize(start), atol=1e-5)
    assert not steps[-1].image.requires_grad
    assert all(-1 <= step.similarity <= 1 for step in steps)


def test_what_suits_everybody_is_searched_once(tiny_pipeline: StyleEditPipeline) -> None:
    def totals(seed: int, words: str, **changes: object) -> set[int]:
        steps: list[Step] = []
        start = tiny_pipeline.sample(seed)
        find(tiny_pipeline, words, start, settings=QUICK, on_step=steps.append, **changes)
        return {step.total for step in steps}

    assert totals(7, "a bob cut") == {5}
    assert totals(8, "a bob cut") == {3}
    assert totals(8, "a bob cut", steps=4) == {4}  # the own steps change nothing for the others
    assert totals(8, "a mohawk") == {5}
    assert totals(8, "a bob cut", space="s") == {5}
    assert totals(8, "a bob cut", l2_lambda=0.1) == {5}


def test_the_same_with_and_without_the_kept_search(tiny_pipeline: StyleEditPipeline) -> None:
    def search() -> torch.Tensor:
        return find(tiny_pipeline, "red hair", tiny_pipeline.sample(7), settings=QUICK).vector

    assert torch.equal(search(), search())


def test_everybody_moves_alike_before_the_own_steps(tiny_pipeline: StyleEditPipeline) -> None:
    settings = Settings(steps=2, shared_steps=12, shared_people=4)
    people = tiny_pipeline.sample([1, 2, 3])
    moved = displacements(tiny_pipeline, "grey hair", people, settings=settings)
    pairs = torch.cosine_similarity(moved[0].flatten(), moved[1:].flatten(1), dim=1)
    assert pairs.min() > 0.7
    assert not torch.equal(moved[0], moved[1])


def test_cancelled(tiny_pipeline: StyleEditPipeline) -> None:
    def stop(step: Step) -> None:
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        find(tiny_pipeline, "a hat", settings=Settings(steps=1000), on_step=stop)


def test_published_settings(tiny_pipeline: StyleEditPipeline) -> None:
    assert (Published.steps, Published.lr, Published.l2_lambda) == (300, 0.1, 0.008)
    losses: list[float] = []

    def watch(step: Step) -> None:
        losses.append(step.loss)
        if step.index == 30:
            raise Cancelled

    with pytest.raises(Cancelled):
        find(tiny_pipeline, "a hat", tiny_pipeline.sample(7), settings=Published, on_step=watch)
    assert losses[-1] < losses[0]


def test_the_recognizer_has_a_say_where_there_is_one(tiny_pipeline: StyleEditPipeline) -> None:
    recognizer = Recognizer(units=(1, 1), widths=(8, 8), input_size=16, crop=None, reduction=4)
    with_recognizer = StyleEditPipeline(**tiny_pipeline.components | {"recognizer": recognizer})
    start = tiny_pipeline.sample(7)
    own = find(with_recognizer, "a beard", start, settings=QUICK)
    without = find(with_recognizer, "a beard", start, settings=QUICK, id_lambda=0.0)
    assert own.origin.training["id_lambda"] == 0.15
    assert find(tiny_pipeline, "a beard", start, settings=QUICK).origin.training["id_lambda"] == 0
    assert not torch.equal(own.vector, without.vector)


def test_unusable_search(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match="Got 2 latents; a direction is searched for one"):
        find(tiny_pipeline, "a hat", tiny_pipeline.sample([1, 2]))
    with pytest.raises(ValueError, match=r"Got space z; latent optimization works in w_plus or s"):
        find(tiny_pipeline, "a hat", space="z")
    with pytest.raises(ValueError, match=r"id_lambda 0.5, but this pipeline has no recognizer"):
        find(tiny_pipeline, "a hat", settings=Settings(id_lambda=0.5))
    with pytest.raises(ValueError, match="Got steps 0"):
        Settings(steps=0)
    with pytest.raises(ValueError, match="Got shared_steps 3, shared_people 0; expected"):
        Settings(shared_steps=3, shared_people=0)
    in_s = tiny_pipeline.lower(tiny_pipeline.sample(7), "s")
    with pytest.raises(ValueError, match="never back"):
        find(tiny_pipeline, "a hat", in_s, space="w_plus")


def test_single_settings_by_name(tiny_pipeline: StyleEditPipeline) -> None:
    found = find(tiny_pipeline, "a hat", settings=QUICK, lr=0.1, l2_lambda=0.01)
    training = found.origin.training
    assert (training["steps"], training["l2_lambda"], training["lr"]) == (3, 0.01, 0.1)
    with pytest.raises(TypeError, match=r"Unknown settings step; known ones: steps, shared_steps"):
        find(tiny_pipeline, "a hat", step=3)
