"""A stack combined into one edit gives the stack's picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_session import in_s, make_edit, make_mapper

from stylegan_hub.artifacts import read_folder
from stylegan_hub.edits.base import edit_from_parts, load_edit
from stylegan_hub.edits.combined import Combined, combine
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.pipeline import StyleEditPipeline


def pictures(pipe: StyleEditPipeline, stack: EditStack) -> torch.Tensor:
    return stack.draw(pipe, pipe.sample([1, 2, 3]))


@pytest.mark.parametrize("others", ["directions", "mapper", "s"])
def test_one_edit_in_place_of_a_stack(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path, others: str
) -> None:
    pipe = tiny_pipeline
    stack = EditStack().added(make_edit(pipe, 1, "an afro"), 0.8)
    stack = stack.added(make_edit(pipe, 2), -0.5, name="beard")
    stack = {
        "directions": stack,
        "mapper": stack.added(make_mapper(pipe), 0.7),
        "s": stack.added(in_s(pipe), 0.5),
    }[others]
    one = combine(pipe, stack, "my look")
    assert isinstance(one, Combined if others == "mapper" else Direction)
    assert one.origin.prompt == "my look" and one.origin.training["parts"][:2] == [
        "an afro", "beard"
    ]  # fmt: skip
    loaded = load_edit(one.save_pretrained(tmp_path / "look"))
    for edit in (one, loaded):
        alone = EditStack().added(edit, 1.0)
        assert torch.allclose(pictures(pipe, alone), pictures(pipe, stack), atol=1e-4)
    again = combine(pipe, EditStack().added(loaded, 0.5).added(make_edit(pipe, 4), 1.0))
    both = EditStack().added(one, 0.5).added(make_edit(pipe, 4), 1.0)
    assert torch.allclose(
        pictures(pipe, EditStack().added(again, 1.0)), pictures(pipe, both), atol=1e-4
    )


def test_what_cannot_be_one(
    tiny_pipeline: StyleEditPipeline, other_pipeline: StyleEditPipeline
) -> None:
    pipe = tiny_pipeline
    hair = EditStack().added(make_edit(pipe), 1.0, "hair", "curls")
    mixed = EditStack().added(make_mapper(pipe)).added(in_s(pipe))
    for stack, message in (
        (EditStack(), "without edits"),
        (hair, "“curls” is limited to hair"),
        (mixed, "cannot become one edit"),
    ):
        with pytest.raises(ValueError, match=message):
            combine(pipe, stack)
    with pytest.raises(MismatchError):
        combine(pipe, EditStack().added(make_edit(other_pipeline)))
    with pytest.raises(ValueError, match="Got 2 edits in s and w_plus"):
        Combined([(make_edit(pipe), 1), (in_s(pipe), 1)])


@pytest.mark.parametrize("damage", ["list", "nested", "space", "digest"])
def test_strangers_combined_edits(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path, damage: str
) -> None:
    one = Combined([(make_mapper(tiny_pipeline), 1.0), (make_edit(tiny_pipeline), 0.5)])
    config, tensors = read_folder(one.save_pretrained(tmp_path / "one"))
    if damage == "list":
        config["parts"] = {"0": 1}
    elif damage == "nested":
        config["parts"][0]["config"]["kind"] = "combined"
    elif damage == "space":
        config["space"] = "s"
    else:
        tensors["1.vector"] = tensors["1.vector"] + 1
    with pytest.raises(ArtifactError):
        edit_from_parts(config, tensors, "here")
