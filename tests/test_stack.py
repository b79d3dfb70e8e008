"""A stack of edits can be changed, rendered part by part, saved and loaded; damage is reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_edits import EXAMPLES
from test_regions import parsing_pipeline  # noqa: F401

from stylegan_hub.artifacts import read_tensors
from stylegan_hub.edits.base import Origin
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.regions.find import named_region
from stylegan_hub.regions.mask import region_mask


def direction(pipe: StyleEditPipeline, space: str, seed: int, size: float = 1.0) -> Direction:
    base = pipe.base_model
    shape = (base.num_styles,) if space == "s" else (base.num_ws, base.w_dim)
    vector = size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return Direction(vector, space, base, origin=Origin(f"edit {seed}", training={"seed": seed}))


def mapper(pipe: StyleEditPipeline) -> LatentMapper:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        groups = mapper_groups(pipe.generator, Space.W_PLUS)
        return LatentMapper(groups, Space.W_PLUS, pipe.base_model, scale=1.0)


def labels(stack: EditStack) -> list[str | None]:
    return [applied.name for applied in stack.edits]


@pytest.fixture(scope="module")
def three(tiny_pipeline: StyleEditPipeline) -> EditStack:
    pipe = tiny_pipeline
    stack = EditStack(start=pipe.sample(7))
    stack = stack.added(direction(pipe, "w_plus", 0), 0.5, name="first")
    stack = stack.added(direction(pipe, "s", 1), -0.3, name="second")
    return stack.added(mapper(pipe), name="third")


def test_edits_are_reordered_and_removed(three: EditStack) -> None:
    assert labels(three.moved(0, 2)) == ["second", "third", "first"]
    assert labels(three.moved(2, 0)) == ["third", "first", "second"]
    assert labels(three.removed(1)) == ["first", "third"]
    assert three.with_strength(1, 2).edits[1].strength == 2.0
    assert three.with_region(1, "hair").edits[1].region == "hair"
    assert three.edits[2].strength == three.edits[2].edit.strength.default
    assert labels(three) == ["first", "second", "third"]  # unchanged


@pytest.mark.parametrize("index", [-1, 3])
def test_places_that_are_not_there(three: EditStack, index: int) -> None:
    for change in (
        lambda: three.removed(index),
        lambda: three.moved(0, index),
        lambda: three.with_strength(index, 1.0),
    ):
        with pytest.raises(ValueError, match=f"Got place {index} in a stack of 3 edits"):
            change()


def test_strength_that_is_no_number(three: EditStack) -> None:
    with pytest.raises(ValueError, match="Got strength nan; expected a number"):
        three.with_strength(0, float("nan"))


def test_directions_add_up_in_any_order(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    edits = [(direction(pipe, space, i), 0.4) for i, space in enumerate(("s", "w_plus", "s"))]
    stack = EditStack(start=pipe.sample([1, 2]))
    for edit, strength in edits:
        stack = stack.added(edit, strength)
    expected = pipe.apply(pipe.sample([1, 2]), edits)
    for order in (stack, stack.moved(0, 2), stack.moved(1, 0)):
        found = order.apply(pipe)
        assert found.space is Space.S
        assert torch.allclose(found.codes, expected.codes, atol=1e-4)
    assert torch.equal(stack.draw(pipe), pipe.synthesize(stack.apply(pipe)).clamp(-1, 1))


def test_a_mapper_sees_the_face_without_edits(tiny_pipeline: StyleEditPipeline) -> None:
    pipe, face = tiny_pipeline, tiny_pipeline.sample(3)
    moving, mapping = direction(pipe, "w_plus", 0), mapper(pipe)
    stack = EditStack(start=face).added(moving, 1.0).added(mapping, 1.0)
    added = face.codes + moving.vector + mapping.delta(face.codes)
    assert torch.allclose(stack.apply(pipe).codes, added, atol=1e-5)
    other_way = stack.moved(0, 1).apply(pipe)
    assert torch.equal(other_way.codes, stack.apply(pipe).codes)
    assert torch.equal(stack.removed(0).apply(pipe).codes, mapping.apply(face, 1.0).codes)


def test_the_order_changes_no_bit(tiny_pipeline: StyleEditPipeline) -> None:
    pipe, face = tiny_pipeline, tiny_pipeline.sample([3, 4])
    edits = [(direction(pipe, space, i, 10.0**i), 0.3 + 0.1 * i) for i, space in
             enumerate(("w_plus", "s", "w_plus", "s", "w_plus"))]  # fmt: skip
    edits.append((mapper(pipe), 1.3))
    pictures = [
        pipe(latents=face, edits=[edits[i] for i in order]).images
        for order in ((0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (2, 5, 0, 4, 1, 3))
    ]
    for others in pictures[1:]:
        assert [one.tobytes() for one in others] == [one.tobytes() for one in pictures[0]]


def test_nobody_to_edit(
    tiny_pipeline: StyleEditPipeline, other_pipeline: StyleEditPipeline
) -> None:
    stack = EditStack().added(direction(tiny_pipeline, "w_plus", 0))
    with pytest.raises(ValueError, match="without a start and no latents"):
        stack.apply(tiny_pipeline)
    assert len(stack.apply(tiny_pipeline, tiny_pipeline.sample([1, 2]))) == 2
    with pytest.raises(MismatchError, match="was made for"):
        stack.apply(other_pipeline, other_pipeline.sample(1))


def test_an_edit_stays_in_its_region(parsing_pipeline: StyleEditPipeline) -> None:  # noqa: F811
    pipe = parsing_pipeline
    people = pipe.sample([1, 2])
    stack = EditStack(start=people).added(direction(pipe, "w_plus", 0, 2.0), 1.0, "left side")
    before, after = pipe.synthesize(people).clamp(-1, 1), stack.draw(pipe)
    change = (after - before).abs().amax(1)
    assert change[..., :12].amax() > 0.1 and change[..., -8:].amax() < 1e-3
    # Latents do not know regions.
    whole = stack.with_region(0, None)
    assert torch.allclose(stack.apply(pipe).codes, whole.apply(pipe).codes)
    # Another region is rendered over it without changing the first, in any order.
    both = stack.added(direction(pipe, "s", 1, 2.0), 1.0, "right side")
    drawn = both.draw(pipe)
    assert (drawn - after).abs()[..., :8].amax() < 1e-3
    assert (drawn - after).abs()[..., -8:].amax() > 0.05
    flipped = both.moved(0, 1).draw(pipe, blend="images")
    assert (flipped - both.draw(pipe, blend="images")).abs()[..., :8].amax() < 1e-3


def test_edits_of_the_same_region_come_together(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
) -> None:
    pipe = parsing_pipeline
    first, second = direction(pipe, "w_plus", 0), direction(pipe, "w_plus", 1)
    stack = EditStack(start=pipe.sample(1)).added(first, 1.0, "left side")
    both = stack.added(second, 1.0, "left side").draw(pipe)
    whole = pipe.synthesize(pipe.apply(pipe.sample(1), [(first, 1.0), (second, 1.0)]))
    mask = region_mask(pipe, whole, named_region(pipe, "left side"))
    assert mask[..., :8].amin() > 0.9
    assert (both - whole.clamp(-1, 1)).abs()[..., :2].mean() < 0.05


# Files


def test_saved_and_loaded(
    three: EditStack, tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    stack = three.with_region(0, "hair")
    stack.save(tmp_path / "stack.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["stack.safetensors"]
    loaded = EditStack.load(tmp_path / "stack.safetensors")
    assert loaded.start is not None and three.start is not None
    assert torch.equal(loaded.start.codes, three.start.codes)
    for own, other in zip(stack.edits, loaded.edits, strict=True):
        assert (own.strength, own.region, own.name) == (other.strength, other.region, other.name)
        assert own.edit.origin == other.edit.origin
    expected = three.apply(tiny_pipeline).codes
    assert torch.allclose(loaded.apply(tiny_pipeline).codes, expected, atol=1e-6)
    assert EditStack.load(_saved(EditStack(), tmp_path)) == EditStack()


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_every_kind_of_edit_can_be_stacked(kind: str, tmp_path: Path) -> None:
    stack = EditStack().added(EXAMPLES[kind], 0.5)
    (applied,) = EditStack.load(_saved(stack, tmp_path)).edits
    assert applied.edit.kind == kind and applied.strength == 0.5
    for name, tensor in EXAMPLES[kind].tensors().items():
        assert torch.equal(applied.edit.tensors()[name], tensor)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"kind": "latents"}, r"is not a stack of edits \(kind 'latents'\)"),
        ({"format_version": "2"}, "has format_version 2.*Upgrade"),
        ({"format_version": "new"}, "is not a stack of edits"),
        ({"stack": "{"}, "is not a valid stack"),
        ({"stack": '{"edits": [{}]}'}, "is not a valid stack"),
        ({"stack": '{"edits": 3}'}, "is not a valid stack"),
        ({"stack": json.dumps({"edits": [0] * 1001})}, "holds 1001 edits; at most 1000"),
    ],
)
def test_unsound_header(
    three: EditStack, tmp_path: Path, header: dict[str, str], words: str
) -> None:
    path = _saved(three, tmp_path)
    _, before = read_tensors(path)
    save_file(load_file(path), path, {**before, **header})
    with pytest.raises(ArtifactError, match=words):
        EditStack.load(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(strength=float("inf")), "expected finite numbers"),
        (dict(strength=1e9), "Got strength 1000000000"),
        (dict(strength="strong"), "could not convert"),
        (dict(region=3), "got 3; expected a text"),
        (dict(config={"kind": "direction"}), "lacks format_version"),
        (dict(config={"kind": "spell", "format_version": 1}), "Unknown kind 'spell'"),
        (dict(config=None), "holds a NoneType"),
    ],
)
def test_unsound_entry(
    three: EditStack, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    path = _saved(three, tmp_path)
    _, header = read_tensors(path)
    state = json.loads(header["stack"])
    state["edits"][0] |= change
    save_file(load_file(path), path, {**header, "stack": json.dumps(state)})
    with pytest.raises(ArtifactError, match=words):
        EditStack.load(path)


def test_missing_and_damaged_files(three: EditStack, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no file"):
        EditStack.load(tmp_path / "nothing.safetensors")
    path = _saved(three, tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="is damaged"):
        EditStack.load(path)
    path = _saved(three, tmp_path)
    tensors = load_file(path)
    tensors["start"] = torch.full_like(tensors["start"], torch.nan)
    save_file(tensors, path, read_tensors(path)[1])
    with pytest.raises(ArtifactError, match="not finite"):
        EditStack.load(path)
    tensors["start"] = torch.zeros(3)
    save_file(tensors, path, read_tensors(path)[1])
    with pytest.raises(ArtifactError, match="is not a valid stack"):
        EditStack.load(path)


def test_nothing_is_left_of_a_stack_that_cannot_be_written(tmp_path: Path) -> None:
    edit = EXAMPLES["direction"]
    unwritable = Direction(
        torch.zeros(edit.base_model.num_styles), "s", edit.base_model,
        origin=Origin(training={"loss": float("nan")}),
    )  # fmt: skip
    with pytest.raises(ValueError, match="JSON"):
        EditStack().added(unwritable).save(tmp_path / "stack.safetensors")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(EditStack(start=Latents("w", torch.zeros(1, 4))).start, Latents)


def _saved(stack: EditStack, folder: Path) -> Path:
    path = folder / "stack.safetensors"
    stack.save(path)
    return path
