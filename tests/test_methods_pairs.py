"""A slider from examples keeps the common change of pairs, and drops accidental differences."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import houses
import pytest
import torch
from houses import House
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import get
from stylegan_hub.methods.choose import method_for
from stylegan_hub.methods.method import Pairs, caption
from stylegan_hub.methods.pairs import DEFAULT, MEAN, ONE_PAIR, Settings, found_in
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.steps import Cancelled, Step


def rendered(pipe: StyleEditPipeline, seeds: range) -> Tensor:
    with torch.no_grad():
        return pipe.synthesize(pipe.sample(seeds)).clamp(-1, 1)


@pytest.fixture(scope="module")
def sides(inverting_pipeline: StyleEditPipeline) -> tuple[Tensor, Tensor]:
    """Three pictures before, and the same faces after a change."""
    pipe = inverting_pipeline
    faces = pipe.lower(pipe.sample(range(3)), Space.W_PLUS)
    change = torch.randn(faces.codes.shape[1:], generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        after = pipe.synthesize(Latents(Space.W_PLUS, faces.codes + change)).clamp(-1, 1)
    return rendered(pipe, range(3)), after


@pytest.mark.parametrize("paired", [True, False])
def test_what_examples_agree_on_is_kept(paired: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    truth = torch.zeros(400)
    truth[:20] = 3.0
    count = 4 if paired else 12
    before = torch.randn(count, 400, generator=draw)
    after = truth + torch.randn(count, 400, generator=draw)
    if paired:
        after = after + before  # the same faces
    found = found_in(before, after, paired)
    plain = found_in(before, after, paired, MEAN)
    assert torch.allclose(plain.offset, after.mean(0) - before.mean(0), atol=1e-5)
    assert plain.kept.eq(1).all()
    missed = [float((one.offset - truth).norm()) for one in (found, plain)]
    assert missed[0] < 0.75 * missed[1]
    assert found.kept[:20].mean() > 0.8 > 0.4 > found.kept[20:].mean()
    # Dropping accidental differences does not weaken the rest.
    kept, all_of_it = (float(one.offset[:20].mean()) for one in (found, plain))
    assert kept == pytest.approx(all_of_it, rel=0.1)
    # More doubt keeps less.
    doubting = found_in(before, after, paired, replace(DEFAULT, doubt=3.0))
    assert 0 < (doubting.kept > 0).sum() < (found.kept > 0).sum()


def test_one_of_each_says_nothing_of_accidents() -> None:
    before, after = torch.randn(2, 1, 30)
    for paired in (True, False):
        found = found_in(before, after, paired)
        assert torch.equal(found.offset, (after - before)[0]) and found.kept.eq(1).all()


def test_pictures_are_inverted(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor]
) -> None:
    pipe, (before, after) = inverting_pipeline, sides
    settings = replace(MEAN, space=Space.W_PLUS)
    edit = pipe.find(Pairs(before, after), settings=settings)
    assert pipe.encoder is not None
    with torch.no_grad():
        expected = (pipe.encoder.encode(after) - pipe.encoder.encode(before)).mean(0)
    units = pipe.units(Space.W_PLUS)
    expected = units.to_codes(units.from_codes(expected))  # without what w never does
    assert isinstance(edit, Direction) and edit.space is Space.W_PLUS
    assert torch.allclose(edit.vector, expected, atol=1e-4)
    # PIL pictures give the same, except for rounding to bytes.
    again = pipe.find(
        Pairs(image_files.to_pil(before), image_files.to_pil(after)), settings=settings
    )
    assert torch.cosine_similarity(again.tensors()["vector"].flatten(), expected.flatten(), 0) > 0.9


def test_colors_of_torgb_stay(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor]
) -> None:
    edit = inverting_pipeline.find(Pairs(*sides))
    assert isinstance(edit, Direction) and edit.space is Space.S and edit.length > 0
    assert edit.vector[inverting_pipeline.editable(Space.S) == 0].abs().max() == 0


def test_numbers_of_s_are_counted_each_for_itself(tiny_pipeline: StyleEditPipeline) -> None:
    units = tiny_pipeline.units(Space.S)
    codes = tiny_pipeline.lower(tiny_pipeline.sample(range(2048), 1.0), Space.S).codes
    offset = units.from_codes(codes - codes.mean(0))
    moving = codes.std(0) > 1e-3 * codes.std(0).max()
    assert torch.allclose(offset[:, moving].std(0), torch.ones(int(moving.sum())), atol=1e-3)
    assert torch.allclose(units.to_codes(offset), codes - codes.mean(0), atol=1e-3)


def test_seeds_need_no_encoder(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    heaps = Pairs([1, 2, 3], range(10, 15), paired=False, name="age")
    edit = pipe.find(heaps, settings=replace(MEAN, truncation_psi=1.0))
    before, after = (
        pipe.lower(pipe.sample(seeds, 1.0), Space.S).codes.mean(0)
        for seeds in ([1, 2, 3], range(10, 15))
    )
    expected = (after - before) * pipe.editable(Space.S)
    assert isinstance(edit, Direction)
    assert torch.allclose(edit.vector, expected, atol=1e-4)
    training = edit.origin.training
    assert training["examples"] == [3, 5] and "residuals" not in training
    assert -1 <= training["agreement_before"] <= 1
    assert caption(edit) == "age"
    assert "3 seeds without and 5 with it" in get("pairs").account(edit.origin)


def test_what_is_reported(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    steps: list[Step] = []
    request = Pairs(*sides, name="more of it")
    edit = inverting_pipeline.find(request, on_step=steps.append)
    assert [(step.index, step.total) for step in steps] == [(i, 7) for i in range(1, 8)]
    assert all(step.images is not None and step.images.shape == (1, 3, 32, 32) for step in steps)
    training = edit.origin.training
    assert len(training["residuals"]) == len(training["likeness"]) == 3
    assert training["agreement_after"] > training["agreement_before"]
    assert 0 < training["kept"] < 1 and "note" not in training
    again = inverting_pipeline.find(request)
    assert torch.equal(edit.tensors()["vector"], again.tensors()["vector"])
    edit.save_pretrained(tmp_path / "edit")
    loaded = load_edit(tmp_path / "edit")
    assert loaded.origin.training == json.loads(json.dumps(training))
    assert caption(loaded) == "more of it"


def test_one_pair_works_and_says_what_it_cannot_tell(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor]
) -> None:
    before, after = sides
    picture = image_files.to_pil(before[:1])[0]
    request = Pairs(picture, image_files.to_pil(after[:1])[0])  # type: ignore[arg-type]
    edit = inverting_pipeline.find(request)
    assert edit.origin.training["note"] == ONE_PAIR
    assert "agreement_before" not in edit.origin.training
    assert get("pairs").account(edit.origin).endswith(ONE_PAIR)


def test_the_example_is_not_what_it_is_judged_by(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor]
) -> None:
    before, after = sides
    # The third pair changes nothing, so the change of the first two decides, whatever it is ...
    still = torch.cat([after[:2], before[2:]])
    found = [
        inverting_pipeline.find(Pairs(before, side), settings="mean").origin.training["likeness"]
        for side in (after, still)
    ]
    # ... its similarity, for a slider from the others, to no change at all is 0.
    assert found[1][2] == pytest.approx(0, abs=1e-3) and found[0][2] != pytest.approx(0, abs=1e-3)


def test_refined_latents(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor]
) -> None:
    steps: list[Step] = []
    before, after = (side[:2] for side in sides)
    settings = Settings(refine=3, doubt=0)
    refined = inverting_pipeline.find(Pairs(before, after), settings=settings, on_step=steps.append)
    assert [step.index for step in steps] == list(range(1, 14)) and steps[0].total == 13
    plain = inverting_pipeline.find(Pairs(before, after), settings=replace(settings, refine=0))
    assert not torch.equal(refined.tensors()["vector"], plain.tensors()["vector"])

    def stop(step: Step) -> None:
        if step.index == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        inverting_pipeline.find(Pairs(before, after), on_step=stop)


def test_a_slider_for_a_face(
    inverting_pipeline: StyleEditPipeline, sides: tuple[Tensor, Tensor]
) -> None:
    pipe = inverting_pipeline
    face = pipe.lower(pipe.sample(40), Space.S)
    edit = pipe.find(Pairs(*sides), face)
    assert edit.apply(face, 0.5).codes.shape == face.codes.shape
    assert pipe(latents=face, edits=[(edit, 1.0)]).images[0].size == (32, 32)
    # A face in s cannot return to w_plus, whatever the settings are.
    again = pipe.find(Pairs(*sides), face, settings=replace(DEFAULT, space=Space.W_PLUS))
    assert torch.equal(again.tensors()["vector"], edit.tensors()["vector"])
    assert method_for(pipe, Pairs(*sides)).name == "pairs"


def test_houses(house_pipeline: StyleEditPipeline) -> None:
    before = [House.of(seed) for seed in range(3)]
    after = [replace(house, wall="blue") for house in before]
    pipe = house_pipeline
    edit = pipe.find(Pairs(houses.draw(before), houses.draw(after), name="blue walls"))
    assert edit.origin.training["examples"] == [3, 3] and len(edit.origin.training["likeness"]) == 3
    assert pipe(seed=1, edits=[(edit, 1.0)]).images[0].size == (64, 48)


BLACK = Image.new("RGB", (32, 32))


@pytest.mark.parametrize(
    ("request_", "got", "message"),
    [
        (Pairs([BLACK] * 3, [BLACK] * 2), (3, 2), "Got 3 before and 2 after"),
        (Pairs([], [BLACK]), 0, "no picture on one side"),
        (Pairs([BLACK, 3], [BLACK] * 2), ("Image", "int"), "pictures and values of other types"),
        (Pairs([BLACK], [3]), ("pictures", "seeds"), "pictures on one side and seeds"),
        (
            Pairs([BLACK], [BLACK.resize((64, 64))]),
            ((32, 32), (64, 64)),
            "pair 0 of 32 x 32 and 64 x 64 pixels",
        ),
        (Pairs([BLACK.resize((40, 32))], [BLACK.resize((40, 32))]), (40, 32), "of 40 x 32 pixels"),
        (Pairs(torch.zeros(1, 1, 32, 32), [BLACK]), (1, 1, 32, 32), r"shape \[1, 1, 32, 32\]"),
        (Pairs(torch.full((1, 3, 8, 8), 255.0), [BLACK]), (255.0, 255.0), "from 255 to 255"),
        (Pairs([BLACK] * 2, [BLACK] * 2), (2, 2), "agree on nothing"),
    ],
)
def test_bad_examples(
    inverting_pipeline: StyleEditPipeline, request_: Pairs, got: Any, message: str
) -> None:
    with pytest.raises(MethodError, match=message) as caught:
        inverting_pipeline.find(request_)
    assert caught.value.got == got and caught.value.expected and caught.value.remedy


def test_pictures_of_any_size_make_heaps(inverting_pipeline: StyleEditPipeline) -> None:
    gray = BLACK.resize((100, 100)).convert("L").point(lambda _: 200)
    request = Pairs([BLACK, BLACK.resize((64, 64))], [gray], paired=False)
    edit = inverting_pipeline.find(request)
    assert edit.origin.training["examples"] == [2, 1]


def test_pictures_need_an_encoder(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(MethodError, match="without an encoder") as caught:
        tiny_pipeline.find(Pairs([BLACK], [BLACK]))
    assert (caught.value.got, caught.value.expected) == ("pictures", "seeds")
    assert "train_encoder" in caught.value.remedy


@pytest.mark.parametrize("wrong", [{"doubt": -1}, {"prior": 0}, {"refine": -1}, {"space": "z"}])
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|sliders are in"):
        replace(DEFAULT, **wrong)
