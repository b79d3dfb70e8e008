"""Local edits change their region as the words say, and little else."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipes import recipe
from test_regions import LEFT, SidesParser, parsing_pipeline  # noqa: F401
from torch.nn import functional as F

from stylegan_hub.edits.base import Origin, load_edit
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.fit import asked_change
from stylegan_hub.methods.instant import Memory
from stylegan_hub.methods.instant_training import BLOCK, make_instant_model
from stylegan_hub.methods.local import (
    PAPER,
    PAPER_WITHOUT_WORDS,
    WITHOUT_WORDS,
    Local,
    LocalRun,
    Settings,
    combined,
    correlation,
    localization_score,
)
from stylegan_hub.methods.method import Nothing, Words, method_of
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.locality import change_inside, perceptual_distance
from stylegan_hub.metrics.method_report import either_mask
from stylegan_hub.models.parser import Parser
from stylegan_hub.names import bundled
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.regions.feature_maps import convolutions, draw_with_features
from stylegan_hub.regions.find import Region
from stylegan_hub.regions.join import draw_within
from stylegan_hub.steps import Cancelled, OnStep, Step

QUICK = Settings(steps=10, batch_size=2, lr=0.3, views=0)
WORDS = "Milo with a hat"


def asked(text: str | None, region: Region | None = LEFT) -> Words | Nothing:
    name = region and region.name
    return Nothing(region=name) if text is None else Words(text, region=name)


def local_edit(
    pipe: StyleEditPipeline,
    text: str | None,
    region: Region | None = LEFT,
    face: Latents | None = None,
    *,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
) -> Any:
    """A direction that a search finds."""
    request = asked(text, region)
    return pipe.find(request, face, method="local", settings=settings, on_step=on_step)


def score(pipe: StyleEditPipeline, edit: Any, region: Region = LEFT) -> float:
    """The localization score of unseen faces, over all convolutions."""
    people = pipe.lower(pipe.sample(range(500, 508)), edit.space)
    images, before = draw_with_features(pipe, people, convolutions(pipe))
    edited, after = draw_with_features(pipe, edit.apply(people, 1.0), convolutions(pipe))
    mask = either_mask(pipe, images, edited, region)
    scores = [localization_score(before[name], after[name], mask) for name in before]
    return float(torch.stack(scores).mean())


@pytest.fixture(scope="module")
def instant_pipeline(parsing_pipeline: StyleEditPipeline) -> StyleEditPipeline:  # noqa: F811
    model = make_instant_model(parsing_pipeline, samples=BLOCK)
    return StyleEditPipeline(**{**parsing_pipeline.components, "instant": model})


@pytest.mark.parametrize("space", ["w", "w_plus", "s"])
def test_a_search_with_words_starts_from_the_instant_edit(
    instant_pipeline: StyleEditPipeline, space: str
) -> None:
    pipe, words = instant_pipeline, Words(WORDS, region="left side")
    warm, cold = (
        LocalRun(pipe, words, settings=replace(QUICK, space=space, warm=warm)).vectors()[0].detach()
        for warm in (True, False)
    )
    assert not cold.any()
    edit = Memory(pipe).edit(asked_change(pipe, words)[0], 0.9, Origin())
    expected = edit.vector
    if space == "s":
        styles = pipe.generator.styles
        expected = (styles(edit.vector[None]) - styles(torch.zeros_like(edit.vector[None])))[0]
        expected = expected * pipe.editable("s")
    assert float(F.cosine_similarity(warm.flatten(), expected.flatten(), dim=0)) > 0.99
    assert float(warm.norm() / expected.norm()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("space", ["w", "w_plus", "s"])
def test_the_change_lies_in_the_region(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
    space: str,
) -> None:
    pipe = parsing_pipeline
    settings = replace(WITHOUT_WORDS, steps=20, batch_size=2, lr=0.8, space=space)
    found = local_edit(pipe, None, settings=settings)
    assert found.space is (Space.S if space == "s" else Space.W_PLUS)
    if space == "w":
        assert torch.equal(found.vector, found.vector[:1].expand_as(found.vector))
    if space == "s":
        for layer in pipe.generator.style_layout:
            moved = found.vector[layer.start : layer.stop].abs().sum()
            assert (moved == 0) == layer.is_to_rgb, layer.name
    start = LocalRun(pipe, asked(None), settings=settings).edits()[0]
    assert score(pipe, found) > score(pipe, start) + 0.05
    training = found.origin.training
    assert training["method"] == Local.name and found.origin.prompt is None
    assert (training["region"], training["parts"]) == ("left side", ["left side"])


def test_the_background_is_what_is_left(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
) -> None:
    pipe = parsing_pipeline
    settings = replace(WITHOUT_WORDS, steps=20, batch_size=2, lr=0.8)
    left, rest = (
        local_edit(pipe, None, settings=replace(settings, background=background))
        for background in (False, True)
    )
    assert score(pipe, left) > score(pipe, rest) + 0.1


def test_words_and_region_together(parsing_pipeline: StyleEditPipeline) -> None:  # noqa: F811
    pipe, people = parsing_pipeline, parsing_pipeline.sample(range(500, 508))

    def similarity(edit: Any) -> float:
        pictures = draw(pipe, edit.apply(people, 1.0))
        return float((pipe.encode_image(pictures) @ pipe.encode_text(WORDS)[0]).mean())

    # An untrained CLIP does not understand the change of words; their similarity is used.
    settings = replace(QUICK, directional_lambda=0.0, clip_lambda=1.0, l2_lambda=0.0)
    found = {
        weight: local_edit(
            pipe, WORDS, LEFT, settings=replace(settings, localization_lambda=weight)
        )
        for weight in (0.0, 5.0)
    }
    assert found[0.0].origin.prompt == WORDS and found[0.0].origin.neutral == "a face"
    before = float((pipe.encode_image(draw(pipe, people)) @ pipe.encode_text(WORDS)[0]).mean())
    assert similarity(found[0.0]) > before + 0.02
    assert score(pipe, found[5.0]) > score(pipe, found[0.0])


def test_only_chosen_layers_move(parsing_pipeline: StyleEditPipeline) -> None:  # noqa: F811
    pipe = parsing_pipeline
    settings = replace(QUICK, steps=2, layers=(1, 2))
    found = local_edit(pipe, WORDS, settings=settings)
    moved = found.vector.abs().sum(1) > 0
    assert moved.tolist() == [index in (1, 2) for index in range(8)]
    in_s = local_edit(pipe, WORDS, settings=replace(settings, space=Space.S))
    for layer in pipe.generator.style_layout:
        part = in_s.vector[layer.start : layer.stop]
        assert (part.abs().sum() > 0) == (layer.ws_index in (1, 2) and not layer.is_to_rgb)
    for layers in ((), (8,), (-1,)):
        with pytest.raises(ValueError, match="has the layers 0 to 7"):
            local_edit(pipe, WORDS, settings=replace(QUICK, layers=layers))


def test_given_people_and_progress(parsing_pipeline: StyleEditPipeline) -> None:  # noqa: F811
    pipe, person = parsing_pipeline, parsing_pipeline.sample(3)
    steps: list[Step] = []
    settings = replace(QUICK, steps=3)
    with torch.no_grad():  # a page calls it without gradients
        found = local_edit(pipe, WORDS, LEFT, person, settings=settings, on_step=steps.append)
    again = local_edit(pipe, WORDS, LEFT, person, settings=settings)
    assert torch.allclose(found.vector, again.vector, atol=1e-5) and found.length > 0
    assert found.origin.training["faces"] == "1 given"
    assert [(step.index, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert steps[0].images is not None
    assert torch.allclose(steps[0].images, pipe.synthesize(person), atol=1e-4)
    other = local_edit(pipe, WORDS, settings=settings)
    assert other.origin.training["faces"] == "6 random"
    in_s = pipe.lower(person, "s")
    assert local_edit(pipe, WORDS, LEFT, in_s, settings=settings).space is Space.S

    def stop(step: Step) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        local_edit(pipe, WORDS, settings=replace(QUICK, steps=99), on_step=stop)


def test_several_directions_differ(parsing_pipeline: StyleEditPipeline) -> None:  # noqa: F811
    pipe = parsing_pipeline
    settings = replace(WITHOUT_WORDS, steps=12, batch_size=2, directions=3, correlation_lambda=5.0)
    found = Local().find_all(pipe, asked(None), settings=settings)
    vectors = torch.stack([edit.vector.flatten() for edit in found])
    cosines = torch.corrcoef(vectors) - torch.eye(3)
    assert len(found) == 3 and cosines.abs().max() < 0.6
    lengths = [edit.length for edit in found]
    assert min(lengths) > 0


def test_negative_strengths_go_the_other_way(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
) -> None:
    pipe = parsing_pipeline

    def losses(sign: float, directional_lambda: float) -> dict[str, float]:
        settings = replace(
            QUICK, strengths=(sign, sign), directional_lambda=directional_lambda, clip_lambda=0.5
        )
        search = LocalRun(pipe, asked(WORDS), settings=settings)
        with torch.no_grad():  # the same pictures for both signs
            search.offset.normal_(generator=torch.Generator().manual_seed(0)).mul_(sign)
            found = search.on(search.before(pipe.sample([1, 2])), torch.Generator())
        return {name: float(part) for name, part in found.items() if part.ndim == 0}

    forth, back = losses(1.0, 1.0), losses(-1.0, 1.0)
    assert back["directional"] == pytest.approx(2 - forth["directional"], abs=1e-4)
    assert "clip" in forth and "clip" not in back
    # Without a direction of words, the reverse should make the pictures unlike the words.
    forth, back = losses(1.0, 0.0), losses(-1.0, 0.0)
    assert back["clip"] == pytest.approx(-forth["clip"], abs=1e-4)


def test_search_that_makes_no_sense(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
    tiny_pipeline: StyleEditPipeline,
) -> None:
    pipe = parsing_pipeline
    with pytest.raises(ValueError, match="neither words nor a region"):
        local_edit(pipe, None, None)
    with pytest.raises(ValueError, match=r"Got the prompt None with clip_lambda 0.5"):
        local_edit(pipe, None, settings=QUICK)
    with pytest.raises(ValueError, match=r"clip_lambda 0.0 .*words need a weight"):
        local_edit(pipe, WORDS, settings=WITHOUT_WORDS)
    with pytest.raises(ValueError, match="Got space z"):
        replace(QUICK, space="z")
    with pytest.raises(MethodError, match="needs a pipeline with a parser") as raised:
        local_edit(tiny_pipeline, WORDS)
    assert raised.value.expected == ("parser",)
    with pytest.raises(ValueError, match=r"layer_weights \[1.0\]; expected 7 numbers"):
        local_edit(pipe, WORDS, settings=replace(QUICK, layer_weights=(1.0,)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(steps=0), "Got steps 0"),
        (dict(directions=0), "directions 0"),
        (dict(lr=-1.0), "lr -1.0"),
        (dict(strengths=(1.0, 0.0)), "Got strengths from 1.0 to 0.0"),
        (dict(strengths=(-0.1, 0.1)), "reaches beyond min_strength"),
        (dict(masks="sum"), "Got masks 'sum'"),
        (dict(distance="l3"), "Got distance 'l3'"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(QUICK, **changes)


@pytest.mark.parametrize("settings", [PAPER, PAPER_WITHOUT_WORDS])
def test_the_papers_settings(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
    settings: Settings,
) -> None:
    assert (settings.steps, settings.lr, settings.whiten) == (200, 1e-3, False)
    prompt = WORDS if settings.clip_lambda else None
    losses: list[float] = []
    few = replace(settings, steps=30, lr=0.03)
    person = parsing_pipeline.sample(3)
    local_edit(
        parsing_pipeline, prompt, LEFT, person, settings=few,
        on_step=lambda step: losses.append(step.loss),
    )  # fmt: skip
    assert sum(losses[-10:]) < sum(losses[:10])


# The score


@pytest.mark.parametrize("distance", ["l2", "l1", "cos"])
def test_localization_score(distance: Any) -> None:
    before = torch.ones(2, 4, 8, 8)
    after = before.clone()
    after[0, 0, :, :4] += 1.0  # all of the change on the left
    after[1, 0, :, 2:6] += 1.0  # half of it
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :4] = 1
    score = localization_score(before, after, mask, distance)
    assert torch.allclose(score, torch.tensor([1.0, 0.5]), atol=1e-3)
    assert localization_score(before, before, mask, distance).abs().max() < 1e-3


def test_masks_are_combined() -> None:
    a, b = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0.0, 0.0, 1.0])
    assert combined(a, b, "average").tolist() == [0, 0.5, 1]
    assert combined(a, b, "union").tolist() == [0, 1, 1]
    assert combined(a, b, "intersection").tolist() == [0, 0, 1]


def test_correlation_of_directions() -> None:
    random = torch.Generator().manual_seed(0)
    one = torch.randn(1, 3, 2000, generator=random)
    other = torch.randn(1, 3, 2000, generator=random)
    assert correlation(torch.cat([one, other])) < 0.05
    assert correlation(torch.cat([one, -2 * one])) == pytest.approx(0.5, abs=1e-4)
    flat = torch.cat([one, one]).flatten(1)
    assert correlation(flat) == pytest.approx(0.5, abs=1e-4)


# Where the change is


def test_change_inside_a_mask() -> None:
    before = torch.zeros(2, 3, 8, 8)
    after = before.clone()
    after[0, :, :, :4] = 0.5
    mask = torch.zeros(2, 1, 8, 8)
    mask[..., :2] = 1
    assert torch.allclose(change_inside(before, after, mask), torch.tensor([0.5, 0.0]))


@pytest.fixture(scope="module")
def small_reader() -> AttributeReader:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AttributeReader(
            resolution=32, channels=(8, 8, 8), blocks=(1, 1, 1), last_channels=8, hidden_size=8
        ).eval()


def test_perceptual_distance_looks_where_it_is_told(small_reader: AttributeReader) -> None:
    reader = small_reader
    before = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    after = before.clone()
    after[..., :8] *= -1
    left = torch.zeros(2, 1, 32, 32)
    left[..., :8] = 1
    there, elsewhere = (
        perceptual_distance(reader, before, after, mask) for mask in (left, 1 - left)
    )
    assert (there > 2 * elsewhere).all()
    assert perceptual_distance(reader, before, before).abs().max() < 1e-6


# The recipe


@pytest.mark.slow
def test_recipe_from_words_to_card(
    tiny_pipeline_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    small_reader: AttributeReader,
) -> None:
    train = recipe("train_local_direction")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Parser(
            parts=("background", "hair", "eyes"), width=4, input_size=32, stem_stride=1
        ).eval().save_pretrained(tmp_path / "parser")
    options = [
        "--prompt", "a face with curly hair", "--pipeline", str(tiny_pipeline_folder),
        "--reader", "None", "--parser", str(tmp_path / "parser"), "--train_batch_size", "2",
        "--samples", "4", "--sample_steps", "4", "--views", "0", "--checkpointing_steps", "2",
        "--lr_warmup_steps", "1", "--lr_scheduler", "constant",
    ]  # fmt: skip
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    steps = ["--max_train_steps", "4"]
    train.main([*options, "--output_dir", str(whole), *steps, "--strength", "1.5"])
    assert "Region: hair (hair; the word 'hair')" in capsys.readouterr().out
    train.main([*options, "--output_dir", str(parted), "--max_train_steps", "2"])
    again = ["--resume_from_checkpoint", "latest"]
    train.main([*options, "--output_dir", str(parted), *steps, *again])
    edit, resumed = load_edit(whole), load_edit(parted)
    assert torch.equal(edit.tensors()["vector"], resumed.tensors()["vector"])
    assert edit.origin.training["region"] == "hair" and edit.strength.default == 1.5
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["images"] == 4 and (whole / "images" / "before-after.webp").is_file()
    assert "curly hair" in (whole / "README.md").read_text()

    evaluate = recipe("evaluate_local_directions")
    monkeypatch.setattr(evaluate.AttributeReader, "from_pretrained", lambda *_: small_reader)
    out = tmp_path / "evaluated"
    config = evaluate.Config(
        edits=(str(whole),), output_dir=out, pipeline=str(tiny_pipeline_folder),
        parser=tmp_path / "parser", samples=4, table_1=True, steps=1,
        prompts=("a face with curly hair",),
    )  # fmt: skip
    evaluate.main(config)
    measured = json.loads((out / "metrics.json").read_text())
    row = measured["edits"]["whole"]["as it is"]
    assert 0 <= row["change_inside_region"] <= 1 and row["distance_outside_region"] > 0
    within = measured["edits"]["whole"]["in its region"]
    assert within["distance_outside_region"] < row["distance_outside_region"]
    variants = measured["table_1"]["a face with curly hair"]
    assert {"one person", "one person, on that person", "W, localization 0.05"} < set(variants)
    assert all("seconds_to_find" in row for n, row in variants.items() if "on that" not in n)
    table = (out / "table.md").read_text()
    assert "| whole | in its region |" in table and "| W+, localization 0 |" in table
    with pytest.raises(ValueError, match=r"Got the prompts \['a cat'\]"):
        evaluate.Config(output_dir=out, prompts=("a cat",))


def test_recipe_finds_several_directions_for_one_face(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    train = recipe("train_local_direction")
    Parser(
        parts=("background", "hair", "eyes"), width=4, input_size=32, stem_stride=1
    ).save_pretrained(tmp_path / "parser")
    args = [
        "--region", "eyes", "--directions", "2", "--seeds", "7", "--pipeline",
        str(tiny_pipeline_folder), "--reader", "None", "--parser", str(tmp_path / "parser"),
        "--samples", "2", "--max_train_steps", "2", "--output_dir", str(tmp_path / "eyes"),
    ]  # fmt: skip
    train.main(args)
    first, second = (load_edit(tmp_path / "eyes" / number) for number in "01")
    assert not torch.equal(first.tensors()["vector"], second.tensors()["vector"])
    assert first.origin.training["faces"] == "1 given"
    with pytest.raises(SystemExit, match="publishes one edit"):
        train.main([*args, "--push_to_hub", "--hub_model_id", "me/eyes"])
    for faces in (["--face", "3"], ["--latents", "none.safetensors"]):
        with pytest.raises(SystemExit, match="give only one of them"):
            train.main([*args, *faces])


def test_faces_to_search_on(
    parsing_pipeline: StyleEditPipeline,  # noqa: F811
) -> None:
    pipe = parsing_pipeline
    settings = replace(QUICK, batch_size=2, steps=3)
    given = pipe.sample([3, 4, 5])
    run = Local().start(pipe, asked(WORDS), None, settings, faces=given)
    turns = [run.faces(step).codes for step in range(3)]
    for codes, order in zip(turns, ([0, 1], [2, 0], [1, 2]), strict=True):
        assert torch.equal(codes, given.codes[order])
    two, of_two = [run.faces(0, (index, 2)).codes for index in range(2)]  # two processes
    assert torch.equal(two, turns[0]) and torch.equal(of_two, turns[1])
    assert run.losses(0, torch.Generator())["loss"].item() != 0
    assert run.edits()[0].origin.training["faces"] == "3 given"
    # As many as a step takes: the same ones in each step, and for one face the same as with face=.
    one = pipe.sample(7)
    losses = [
        Local().start(pipe, asked(WORDS), face, settings, faces).losses(0, torch.Generator())
        for face, faces in ((one, None), (None, one))
    ]
    assert losses[0]["loss"] == losses[1]["loss"]


# What the bundled models are expected to do


LOCAL_EDITS = [
    name for name in bundled("edit") if isinstance(method_of(load_edit(name).origin), Local)
]


@pytest.fixture(scope="module")
def unedited(portraits: StyleEditPipeline) -> tuple[Latents, torch.Tensor]:
    """Faces that no training has seen, and their pictures."""
    faces = portraits.sample(range(11_000_000, 11_000_016))
    return faces, draw(portraits, faces)


@pytest.mark.parametrize("name", LOCAL_EDITS)
def test_bundled_local_edits_keep_their_promise(
    name: str,
    portraits: StyleEditPipeline,
    attribute_reader: AttributeReader,
    unedited: tuple[Latents, torch.Tensor],
) -> None:
    pipe, reader, (faces, before) = portraits, attribute_reader, unedited
    edit, folder = load_edit(name), bundled("edit")[name]
    stated = json.loads((folder / "metrics.json").read_text())
    people = pipe.lower(faces, edit.space)
    after = draw(pipe, edit.apply(people))
    training = edit.origin.training
    region = Region(training["region"], tuple(training["parts"]), "as stored")
    share = change_inside(before, after, either_mask(pipe, before, after, region)).mean()
    assert float(share) == pytest.approx(stated["change_inside_region"], abs=0.12)
    if target := stated.get("target"):
        from stylegan_hub.metrics.edit_success import edit_report

        report = edit_report(reader.read(before), reader.read(after), target)
        assert report.success > 0.3 and report.collateral < 0.2
        assert report.success == pytest.approx(stated["success"], abs=0.35)
        # Limited to the region it is as effective, even if the region is thin.
        inside = draw_within(pipe, people, edit.apply(people), region)
        limited = edit_report(reader.read(before), reader.read(inside), target)
        assert limited.success > report.success - 0.15
        assert limited.collateral < report.collateral + 0.02


def test_the_sides_parser_is_a_parser() -> None:
    labels = SidesParser().labels(torch.zeros(1, 3, 32, 32))
    assert labels[0, 0, 0] == 4 and labels[0, 0, -1] == 5
