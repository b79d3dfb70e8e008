"""The instant method: what it learns from samples, for every face and for one."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import check_says_nothing_of
from PIL import Image
from test_recipes import recipe

from stylegan_hub.edits.base import Origin, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import LEAST, MOST, InstantEdit
from stylegan_hub.errors import MethodError, MismatchError
from stylegan_hub.latents import Space
from stylegan_hub.methods.choose import method_for
from stylegan_hub.methods.essence import target_picture
from stylegan_hub.methods.fit import asked_change
from stylegan_hub.methods.instant import Memory, Samples, Settings
from stylegan_hub.methods.instant_training import (
    BLOCK,
    identity_map,
    make_instant_model,
    sample_block,
)
from stylegan_hub.methods.level import Scale
from stylegan_hub.methods.method import Picture, Words, get
from stylegan_hub.methods.word_bank import trait
from stylegan_hub.methods.wording import reading
from stylegan_hub.models.instant import InstantConfig, InstantModel
from stylegan_hub.pipeline import StyleEditPipeline


@pytest.fixture(scope="module")
def pipe(tiny_pipeline: StyleEditPipeline) -> Iterator[StyleEditPipeline]:
    """`tiny_pipeline` with an instant model of its own samples."""
    parts = {name: getattr(tiny_pipeline, name) for name in ("generator", "clip", "tokenizer")}
    yield StyleEditPipeline(
        **parts,
        image_processor=tiny_pipeline.image_processor,
        instant=make_instant_model(tiny_pipeline, samples=BLOCK),
    )


# The model


def test_samples_are_the_same_whenever_they_are_made(tiny_pipeline: StyleEditPipeline) -> None:
    first, again, other = (sample_block(tiny_pipeline, index) for index in (0, 0, 1))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.allclose(first[1].norm(dim=1), torch.ones(BLOCK), atol=1e-5)


def test_samples_are_rounded_up_to_blocks(tiny_pipeline: StyleEditPipeline) -> None:
    done: list[tuple[int, int]] = []
    model = make_instant_model(
        tiny_pipeline, BLOCK + 1, on_block=lambda *counts: done.append(counts)
    )
    assert len(model.w) == len(model.seen) == model.sizes.samples == 2 * BLOCK
    assert done == [(1, 2), (2, 2)]
    assert model.base_model.fingerprint == tiny_pipeline.base_model.fingerprint


def test_the_model_is_a_part_of_the_pipeline(pipe: StyleEditPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "pipe")
    loaded = StyleEditPipeline.from_pretrained(tmp_path / "pipe")
    edits = [one.find("a face with a hat", method="instant") for one in (pipe, loaded)]
    assert isinstance(edits[0], InstantEdit) and edits[0].digest == edits[1].digest


def test_the_recipe_adds_it_to_a_pipeline_and_goes_on_where_it_stopped(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_pipeline_folder, tmp_path / "pipe")
    weights = (folder / "generator" / "diffusion_pytorch_model.safetensors").read_bytes()
    train = recipe("train_instant")
    config = train.Config(
        pipeline=str(folder), output_dir=tmp_path / "run", samples=2 * BLOCK, add=True
    )
    train.main(config)
    blocks = sorted((tmp_path / "run" / "blocks").glob("*.safetensors"))
    times = [block.stat().st_mtime_ns for block in blocks]
    blocks[1].unlink()
    train.main(config)
    assert blocks[0].stat().st_mtime_ns == times[0] and blocks[1].is_file()
    loaded = StyleEditPipeline.from_pretrained(folder)
    assert loaded.instant.sizes.samples == 2 * BLOCK
    assert isinstance(loaded.find("a face with a hat"), InstantEdit)
    assert (folder / "generator" / "diffusion_pytorch_model.safetensors").read_bytes() == weights
    check_says_nothing_of(tmp_path, folder)
    check_says_nothing_of(tmp_path, tmp_path / "run")
    with pytest.raises(SystemExit, match="another run"):
        train.main(replace(config, seed=1))


@pytest.mark.parametrize("samples", [0, -1, 2.5, True, 2**40])
def test_impossible_sizes(samples: object) -> None:
    with pytest.raises(ValueError, match="samples"):
        InstantConfig(samples, 4, 4)  # type: ignore[arg-type]


def test_a_model_of_another_generator(pipe: StyleEditPipeline) -> None:
    other = {**pipe.instant.sizes.base_model, "fingerprint": "0" * 16}
    sizes = {**vars(pipe.instant.sizes), "base_model": other}
    parts = {name: part for name, part in pipe.components.items() if name != "instant"}
    wrong = StyleEditPipeline(**{**parts, "neutral": "a face"}, instant=InstantModel(**sizes))
    with pytest.raises(MismatchError, match="instant model"):
        wrong.find("a face with a hat", method="instant")


def test_a_pipeline_without_a_model_names_the_recipe(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(MethodError) as caught:
        tiny_pipeline.find("a face with a hat", method="instant")
    assert caught.value.expected == ("instant",)
    assert "recipes/train_instant.py" in str(caught.value.remedy)


# Levels


def test_levels_are_counted_by_samples() -> None:
    random = torch.Generator().manual_seed(0)
    seen = torch.randn(1000, 6, generator=random)
    change = torch.eye(6)[2]
    scale = Scale.of(seen, change)
    levels = scale.level(seen)
    assert levels.median().abs() < 1e-5
    assert levels.topk(30).values.mean() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(scale.level(seen + change), levels + 1 / scale.span, atol=1e-4)


def test_a_change_that_no_sample_shows_has_no_scale_of_zero() -> None:
    scale = Scale.of(torch.ones(10, 3), torch.eye(3)[0])
    assert scale.span > 0 and torch.isfinite(scale.level(torch.ones(2, 3))).all()


# What is found


def memory_of(pipe: StyleEditPipeline, w: torch.Tensor, seen: torch.Tensor) -> Memory:
    """A pipeline's samples and CLIP embeddings, chosen by the test."""
    memory = Memory(pipe)
    memory.samples = Samples(w, seen)
    return memory


def test_the_samples_of_a_model_that_was_cast_are_computed_anew(pipe: StyleEditPipeline) -> None:
    model = copy.deepcopy(pipe.instant)
    known = Samples.of(model)
    assert Samples.of(model) is known
    model.double()
    assert Samples.of(model) is not known
    assert Samples.of(model).w.equal(model.w.float())


def test_what_samples_with_it_have_in_common_is_found(pipe: StyleEditPipeline) -> None:
    random = torch.Generator().manual_seed(0)
    w = torch.randn(4000, 16, generator=random)
    has = w[:, 5] > 1  # CLIP sees it in 16 % of the samples; everything else is chance
    seen = torch.cat([has[:, None].float(), torch.randn(4000, 3, generator=random)], dim=1)
    memory = memory_of(pipe, w, seen)
    edit = memory.edit(torch.eye(4)[0], 0.9, Origin("it"))
    vector = edit.vector[0]
    expected = w[has].mean(0)[5] - w.mean(0)[5]
    assert vector[5] == pytest.approx(float(expected), abs=0.15)
    assert vector.abs().sum() - vector[5] < 0.15  # the effect of chance was removed
    assert torch.equal(edit.vector, vector.expand_as(edit.vector))


def test_who_has_it_already_is_moved_less(pipe: StyleEditPipeline) -> None:
    random = torch.Generator().manual_seed(0)
    w = torch.randn(4000, 16, generator=random)
    seen = torch.stack([w[:, 5], w[:, 6]], dim=1)
    edit = memory_of(pipe, w, seen).edit(torch.eye(2)[0], 0.9, Origin("it"))
    codes = torch.zeros(3, edit.base_model.num_ws, 16)
    codes[1, :, 5], codes[2, :, 5] = 2.5, -2.5
    usual, has, lacks = edit.amount(codes).tolist()
    assert has == pytest.approx(LEAST) and has < usual < lacks <= MOST


def test_words_make_an_edit_for_every_face(pipe: StyleEditPipeline, tmp_path: Path) -> None:
    edit = pipe.find("a face with a hat")
    assert isinstance(edit, InstantEdit) and edit.origin.prompt == "a face with a hat"
    assert edit.origin.training["method"] == "instant"
    loaded = load_edit(edit.save_pretrained(tmp_path / "hat"))
    faces = pipe.sample([1, 2])
    assert torch.equal(edit.apply(faces).codes, loaded.apply(faces).codes)


@pytest.mark.parametrize("space", [Space.W_PLUS, Space.S])
@pytest.mark.parametrize("looks", [0, 2])
def test_words_make_a_fixed_edit_for_a_face(
    pipe: StyleEditPipeline, space: Space, looks: int
) -> None:
    face = pipe.lower(pipe.sample(3), space)
    edit = pipe.find("a face with a hat", face, method="instant", settings=Settings(looks=looks))
    assert isinstance(edit, Direction) and edit.space is space
    assert edit.vector.isfinite().all()


def test_a_face_moves_as_far_as_it_lacks(pipe: StyleEditPipeline) -> None:
    face = pipe.sample(3)
    low, high = (
        pipe.find("a face with a hat", face, method="instant", settings=Settings(level=level))
        for level in (0.2, 1.5)
    )
    assert isinstance(low, Direction) and isinstance(high, Direction)
    assert low.length <= high.length


def test_a_removal_is_the_same_backwards_as_far_as_there_is_something(
    pipe: StyleEditPipeline,
) -> None:
    there = pipe.find("a face with a hat", method="instant", settings="blind")
    away = pipe.find("no hat", method="instant", settings="blind")
    assert isinstance(there, InstantEdit) and isinstance(away, InstantEdit)
    torch.testing.assert_close(away.vector, -there.vector)
    memory = Memory(pipe)
    change, without = asked_change(pipe, reading(Words("no hat"), pipe.neutral))
    assert without
    levels = Scale.of(memory.samples.seen, change).level(memory.samples.seen)
    most, least = (levels.topk(16, largest=side).indices for side in (True, False))
    codes = memory.samples.w[:, None].expand(-1, pipe.base_model.num_ws, -1)
    assert away.amount(codes[most]).mean() > away.amount(codes[least]).mean()
    assert away.origin.prompt == "no hat"


# What is kept


@pytest.fixture
def mixed(pipe: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Samples in which those with axis 5 mostly have axis 6 too; CLIP sees both and axis 7."""
    random = torch.Generator().manual_seed(0)
    w = torch.randn(4000, 16, generator=random)
    w[:, 6] += w[:, 5]
    seen = torch.stack([w[:, 5] > 1, w[:, 6] > 1.5, w[:, 7] > 1], dim=1).float()
    memory = memory_of(pipe, w, seen)
    texts = {"glasses": torch.eye(3)[1], "it": torch.eye(3)[0]}
    found = {f"a face with {name}": change for name, change in texts.items()}
    monkeypatch.setattr(memory, "_change", lambda text: found[text])
    return memory


def read(memory: Memory, edit: InstantEdit, axis: int) -> float:
    """How far an edit moves along an axis of w, in standard deviations."""
    return float(edit.vector[0][axis] / memory.samples.deviation[axis])


@pytest.mark.parametrize("without", [False, True])
def test_what_is_kept_does_not_move(mixed: Memory, without: bool) -> None:
    change = torch.eye(3)[0]
    free, kept = (
        mixed.edit(change, 0.9, Origin("it"), without, keep) for keep in ((), ("glasses",))
    )
    sign = -1 if without else 1
    assert sign * read(mixed, free, 6) > 0.5  # without a correction the other one comes along
    assert abs(read(mixed, kept, 6)) < 0.05
    assert sign * read(mixed, kept, 5) > 0.8 * sign * read(mixed, free, 5)
    assert abs(read(mixed, kept, 7)) < 0.1
    assert torch.equal(kept.reading, free.reading) and kept.goal == free.goal


def test_what_is_asked_for_is_not_kept(mixed: Memory) -> None:
    change = torch.eye(3)[0]
    free, kept = (mixed.edit(change, 0.9, Origin("it"), False, keep) for keep in ((), ("it",)))
    torch.testing.assert_close(kept.vector, free.vector, rtol=1e-3, atol=1e-3)


def test_the_identity_is_kept_by_the_map_of_the_model(
    mixed: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = torch.eye(3)[0]
    model = mixed.domain.instant
    with pytest.raises(MethodError, match="identity") as caught:
        mixed.edit(change, 0.9, Origin("it"), keep=["identity"])
    assert "recipes/train_instant.py" in caught.value.remedy
    identity = torch.zeros(2, 16)
    identity[0, 6], identity[1, 7] = 1, 1  # the recognizer looks at the axes 6 and 7
    monkeypatch.setattr(model, "identity", torch.nn.Parameter(identity))
    free, kept = (mixed.edit(change, 0.9, Origin("it"), keep=keep) for keep in ((), ("identity",)))
    assert read(mixed, kept, 6) < 0.6 * read(mixed, free, 6)
    assert read(mixed, kept, 5) > 0.8 * read(mixed, free, 5)


@pytest.mark.parametrize("face", [None, 3])
def test_edits_say_what_they_keep(pipe: StyleEditPipeline, face: int | None) -> None:
    start = None if face is None else pipe.sample(face)
    free, kept = (
        pipe.find("a face with a hat", start, method="instant", settings="blind", keep=keep)
        for keep in ([], ["a beard", "age"])
    )
    assert isinstance(kept, InstantEdit if face is None else Direction)
    assert kept.origin.training["keep"] == ["a beard", "age"] and "keep" not in free.origin.training
    assert not torch.allclose(kept.vector, free.vector, atol=1e-3)


def test_names_of_traits_stand_for_their_alternatives() -> None:
    domain: Any = SimpleNamespace(neutral="a face", words_without_token=lambda text: [])
    colors, styles = trait(domain, "hair")
    assert "a face with red hair" in colors and "a face with an afro" in styles
    assert trait(domain, "hair colour") == trait(domain, "the red hair") == [colors]
    assert trait(domain, "a hat") == trait(domain, "hat") == [["a face with a hat"]]
    assert trait(domain, "age") == trait(domain, "an old face")
    assert ["a young face", "an old face"] in trait(domain, "age")
    assert trait(domain, "a monocle") == [["a face with a monocle"]]
    assert trait(domain, "a crooked face") == [["a crooked face"]]


def test_the_map_to_the_recognizer_is_learned_from_samples(
    inverting_pipeline: StyleEditPipeline,
) -> None:
    w = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    truth = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    domain = SimpleNamespace(
        sketch=lambda latents: latents.codes, recognizer=lambda codes: codes @ truth.T
    )
    torch.testing.assert_close(identity_map(domain, w), truth, rtol=0.2, atol=0.2)  # type: ignore[arg-type]
    model = make_instant_model(inverting_pipeline, samples=BLOCK)
    assert model.identity is not None and model.identity.shape == (8, 16)
    assert model.identity.abs().sum() > 0


def test_a_model_is_stored_with_what_belongs_to_it(
    inverting_pipeline: StyleEditPipeline, pipe: StyleEditPipeline, tmp_path: Path
) -> None:
    known = make_instant_model(inverting_pipeline, samples=BLOCK)
    for model, name in ((known, "known"), (pipe.instant, "unknown")):
        model.save_pretrained(tmp_path / name)
        loaded = InstantModel.from_pretrained(tmp_path / name)
        if name == "known":
            torch.testing.assert_close(loaded.identity, model.identity)
        else:
            assert loaded.identity is None
        assert loaded.sizes.fit_table == model.sizes.fit_table is not None
        assert not loaded.sizes.fit_table.calibrated


def test_a_picture_is_a_request_too(pipe: StyleEditPipeline) -> None:
    target = Picture(Image.new("RGB", (40, 48), "navy"), name="navy blue")
    edit = pipe.find(target, method="instant")
    assert edit.origin.training["target"] == "navy blue" and isinstance(edit, InstantEdit)
    face = pipe.sample(3)
    own = pipe.find(target, face, method="instant")
    goal = pipe.encode_image(target_picture(pipe, target.image))
    seen = [pipe.encode_image(pipe.synthesize(one)) for one in (face, own.apply(face, 1.0))]
    assert float((seen[1] - seen[0]) @ goal.T) > 0
    assert get("instant").caption(edit.origin) == "navy blue"


def test_progress_and_the_end_of_it(pipe: StyleEditPipeline) -> None:
    steps: list[tuple[int, int]] = []
    pipe.find(
        "a face with a hat",
        pipe.sample(3),
        method="instant",
        settings=Settings(looks=2),
        on_step=lambda step: steps.append((step.index, step.total)),
    )
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_it_is_the_first_choice_for_words(
    pipe: StyleEditPipeline, tiny_pipeline: StyleEditPipeline
) -> None:
    assert method_for(pipe, Words("a hat")).name == "instant"
    assert method_for(pipe, Words("a hat"), pipe.sample(1)).name == "instant"
    assert method_for(tiny_pipeline, Words("a hat"), tiny_pipeline.sample(1)).name != "instant"


@pytest.mark.parametrize("wrong", [{"looks": -1}, {"level": 0.0}, {"level": 3.0}])
def test_impossible_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Settings(**wrong)  # type: ignore[arg-type]
