"""An essence gives unseen faces what its target has, and changes them alike; its recipe works."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_recipes import recipe
from torch.nn import functional as F

from stylegan_hub import images as image_files
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.limited import Limited, Limits
from stylegan_hub.errors import ArtifactError, MethodError
from stylegan_hub.latents import Space
from stylegan_hub.methods.essence import (
    FROM_ZERO,
    IN_DOMAIN,
    PAPER_IN_DOMAIN,
    PAPER_OUT_OF_DOMAIN,
    Essence,
    EssenceRun,
    Settings,
    consistency_loss,
    target_picture,
)
from stylegan_hub.methods.instant_training import BLOCK, make_instant_model
from stylegan_hub.methods.method import Picture, method_of
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.essence_transfer import essence_report
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.names import bundled
from stylegan_hub.optimizers import EqualSteps
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import characters
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.portraits.renderer import render
from stylegan_hub.steps import Cancelled, OnStep, Step, ramp, warmup_steps

PRESETS = Essence.presets
QUICK = Settings(steps=12, lr=0.3, restarts=2, sources=6, batch_size=3, views=0, limited=False)


def essence_of(
    pipe: StyleEditPipeline,
    target: Image.Image,
    settings: Settings | None = None,
    on_step: OnStep | None = None,
    name: str = "a picture",
) -> Direction:
    request = Picture(target, name)
    found = pipe.find(request, method="essence", settings=settings, on_step=on_step)
    if isinstance(found, Limited):
        assert isinstance(found.edit, Direction)
        return found.edit
    assert isinstance(found, Direction)
    return found


def run_of(
    pipe: StyleEditPipeline, target: Image.Image, settings: Settings | None = None
) -> EssenceRun:
    return EssenceRun(pipe, Picture(target), settings)


@pytest.fixture(scope="module")
def target(tiny_pipeline: StyleEditPipeline) -> Image.Image:
    picture = tiny_pipeline.synthesize(tiny_pipeline.sample(99, 1.0))
    return image_files.to_pil(picture.clamp(-1, 1))[0]


def test_people_come_closer_to_the_target(
    tiny_pipeline: StyleEditPipeline, target: Image.Image
) -> None:
    pipe = tiny_pipeline
    found = essence_of(pipe, target, QUICK, name="somebody.png")
    assert found.space is Space.W_PLUS and found.origin.prompt is None
    assert found.strength.default == 1.0
    training = found.origin.training
    assert training["method"] == Essence.name and training["target"] == "somebody.png"
    totals = training["total_loss_of_restarts"]
    assert len(totals) == 2 and training["final_losses"]["loss"] == min(totals)
    people = pipe.sample(range(500, 508))
    before, after = draw(pipe, people), draw(pipe, found.apply(people))
    report = essence_report(pipe, None, before, after, target_picture(pipe, target))
    assert report["target_similarity_after"] > report["target_similarity_before"] + 0.05


def test_search_is_repeatable_and_reports(
    tiny_pipeline: StyleEditPipeline, target: Image.Image
) -> None:
    steps: list[Step] = []
    settings = replace(QUICK, steps=3)
    with torch.no_grad():  # a page calls it without gradients
        first = essence_of(tiny_pipeline, target, settings, steps.append)
    again = essence_of(tiny_pipeline, target, settings)
    assert first.length > 0 and torch.allclose(first.vector, again.vector, atol=1e-5)
    assert [(step.index, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    images = steps[0].images
    assert images is not None and images.shape == (1, 3, 32, 32) and not images.requires_grad
    assert all(-1 <= float(step.note.removeprefix("similarity ")) <= 1 for step in steps)

    def stop(step: Step) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        essence_of(tiny_pipeline, target, replace(QUICK, steps=1000), stop)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_presets_lower_their_loss(
    tiny_pipeline: StyleEditPipeline, target: Image.Image, name: str
) -> None:
    start = "random" if PRESETS[name].start == "inversion" else PRESETS[name].start
    settings = replace(
        PRESETS[name], steps=8, restarts=1, sources=6, batch_size=4, start=start, lr=0.2
    )
    losses: list[float] = []
    if settings.components is not None:
        settings = replace(settings, components=6)
    essence_of(tiny_pipeline, target, settings, lambda step: losses.append(step.loss))
    assert min(losses[4:]) < losses[0]


def test_the_papers_settings() -> None:
    paper = PAPER_IN_DOMAIN
    assert (paper.steps, paper.lr, paper.sources, paper.directional_lambda) == (1000, 0.2, 6, 0)
    assert (paper.consistency_lambda, paper.weight_decay) == (0.7, 7e-3)
    other = PAPER_OUT_OF_DOMAIN
    assert (other.consistency_lambda, other.weight_decay) == (0.6, 1e-3)


def test_consistency_is_the_mean_over_pairs() -> None:
    change = F.normalize(torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0)), dim=-1)
    cosine = change @ change.transpose(1, 2)
    off = ~torch.eye(5, dtype=torch.bool)
    expected = (1 - cosine)[:, off].mean(1)
    assert torch.allclose(consistency_loss(change), expected, atol=1e-6)
    assert consistency_loss(change[:, :1].expand(2, 5, 7)).abs().max() < 1e-6


def test_target_and_people_are_looked_at_alike(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    picture = pipe.synthesize(pipe.sample(1)).clamp(-1, 1)
    assert torch.equal(target_picture(pipe, picture), picture)
    # The middle square of a wide picture, in the generator's size.
    wide = torch.full((1, 3, 64, 100), -1.0)
    wide[..., 18:82] = 1.0
    assert torch.equal(target_picture(pipe, wide), torch.ones(1, 3, 32, 32))
    gray = Image.new("L", (50, 40), 255)
    assert target_picture(pipe, gray).shape == (1, 3, 32, 32)
    for shape in ((2, 3, 8, 8), (1, 1, 8, 8), (1, 3, 0, 8)):
        with pytest.raises(ValueError, match=r"expected \[1, 3, h, w\]"):
            target_picture(pipe, torch.zeros(shape))


def test_coefficients_are_learned(tiny_pipeline: StyleEditPipeline, target: Image.Image) -> None:
    search = run_of(tiny_pipeline, target, replace(QUICK, coefficients=True))
    optimizer = search.optimizer()
    for step in range(4):
        optimizer.zero_grad()
        search.losses(step, torch.Generator().manual_seed(step))["loss"].backward()
        optimizer.step()
    edit = search.best()
    learned = search.coefficients.detach()
    assert learned.std() > 0
    assert (learned.mean(1) - edit.strength.default).abs().min() < 1e-3
    fixed = run_of(tiny_pipeline, target, QUICK)
    assert not fixed.coefficients.requires_grad


def test_processes_may_share_the_restarts(
    tiny_pipeline: StyleEditPipeline, target: Image.Image
) -> None:
    search = run_of(tiny_pipeline, target, replace(QUICK, restarts=3, start="random"))
    together = search.of_restarts(torch.Generator().manual_seed(0))["loss"]
    for restart in range(3):
        random = torch.Generator().manual_seed(0)
        alone = search.of_restarts(random, torch.tensor([restart]))["loss"]
        assert torch.allclose(alone, together[restart : restart + 1], atol=1e-5)
    # The mean over processes, as gradients are averaged, is the sum over the restarts.
    for count in (2, 4):
        shares = [
            search.losses(0, torch.Generator().manual_seed(0), (index, count))["loss"]
            for index in range(count)
        ]
        assert torch.allclose(torch.stack(shares).mean(), together.sum(), atol=1e-5)


@pytest.mark.parametrize("limited", [True, False])
def test_essences_stay_within_what_samples_show(
    tiny_pipeline: StyleEditPipeline, target: Image.Image, limited: bool
) -> None:
    pipe, limits = tiny_pipeline, Limits.of(tiny_pipeline)
    settings = replace(QUICK, steps=4, lr=20, weight_decay=0, limited=limited)
    found = pipe.find(Picture(target), method="essence", settings=settings)
    assert isinstance(found, Limited) == limited
    people = pipe.sample(range(300, 340), truncation_psi=0.5)
    along = (found.apply(people, 1.0).codes - limits.mean) @ limits.axes.float().T
    inside = (along > limits.lowest - 0.01) & (along < limits.highest + 0.01)
    was = (people.codes - limits.mean) @ limits.axes.float().T
    allowed = inside | (along - was).abs().lt(1e-3)
    assert bool(allowed.all()) == limited


def test_starts(tiny_pipeline: StyleEditPipeline, target: Image.Image) -> None:
    pipe = tiny_pipeline
    starts = {
        start: run_of(pipe, target, replace(QUICK, start=start)).vectors().detach()
        for start in ("zero", "random")
    }
    assert starts["zero"][0].abs().max() == 0 < starts["zero"][1].abs().max()
    norms = starts["random"].flatten(1).norm(dim=1)
    assert (norms > 0).all() and not torch.allclose(starts["random"][0], starts["random"][1])
    with pytest.raises(ValueError, match=r"start 'inversion'.*no encoder.*'zero' or 'random'"):
        run_of(pipe, target, replace(QUICK, start="inversion"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder(
            pipe.generator.num_ws, 16, input_size=32, units=(1, 1, 1, 1), widths=(4, 8, 8, 8),
            levels=(2, 4), reduction=4,
        )  # fmt: skip
    inverting = StyleEditPipeline(
        pipe.generator, pipe.clip, pipe.tokenizer, pipe.image_processor, encoder=encoder
    )
    settings = replace(QUICK, start="inversion", whiten=False)
    first, second = run_of(inverting, target, settings).vectors()
    expected = inverting.encoder.encode(target_picture(pipe, target)) - pipe.mean_latent().codes
    assert torch.allclose(first, expected[0], atol=1e-5)
    assert torch.allclose(second, starts["random"][1], atol=1e-3) and not second.equal(first)

    method, request = Essence(), Picture(target)
    assert method.settings(inverting, request) is IN_DOMAIN and IN_DOMAIN.start == "inversion"
    assert method.settings(pipe, request) is FROM_ZERO
    assert method.settings(pipe, request, "published").lr == 0.2
    assert run_of(inverting, target).settings is IN_DOMAIN
    with pytest.raises(MethodError, match="Got the preset 'best'") as raised:
        method.settings(pipe, request, "best")
    assert raised.value.expected == tuple(PRESETS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(steps=0), "Got steps 0"),
        (dict(restarts=0), "restarts 0"),
        (dict(lr=0.0), "a positive lr"),
        (dict(batch_size=1), "Got batch_size 1 with 6 sources"),
        (dict(batch_size=7), "Got batch_size 7 with 6 sources"),
        (dict(components=0), "Got components 0"),
    ],
)
def test_impossible_settings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(QUICK, **changes)


# Units and steps


def test_units_go_there_and_back(tiny_pipeline: StyleEditPipeline) -> None:
    units = tiny_pipeline.units(Space.W_PLUS)
    assert units is tiny_pipeline.units(Space.W_PLUS)
    people = tiny_pipeline.sample(range(2000, 2300), 1.0).codes - tiny_pipeline.mean_latent().codes
    offsets = units.from_codes(people)
    assert torch.allclose(units.to_codes(offsets), people, atol=1e-2)
    deviations = offsets[:, 0].std(0)
    assert deviations[deviations > 0.1].mean() == pytest.approx(1, abs=0.15)


def test_steps_have_equal_lengths_in_each_row() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, 3))
    optimizer = EqualSteps([parameter], lr=0.5)
    parameter.grad = torch.tensor([[3.0, 0.0, 4.0], [0.0, 1e-3, 0.0]])
    optimizer.step()
    assert torch.allclose(parameter, torch.tensor([[-0.3, 0.0, -0.4], [0.0, -0.5, 0.0]]))


def test_the_schedule_is_that_of_training(tmp_path: Path) -> None:
    from stylegan_hub.training import Training, TrainingConfig

    config = TrainingConfig(
        output_dir=tmp_path, max_train_steps=60, lr_warmup_steps=warmup_steps(60)
    )
    model = torch.nn.Linear(1, 1)
    training = Training(config, {"m": model}, {"m": torch.optim.SGD(model.parameters(), lr=1.0)})
    for step in range(60):
        assert ramp(step, 60) == pytest.approx(training.learning_rate_scale(step))


# Metrics


def test_report_of_what_was_taken(tiny_pipeline: StyleEditPipeline) -> None:
    from test_edit_quality import BrightnessReader

    reader = BrightnessReader(resolution=16, channels=(8, 8, 8), last_channels=8, hidden_size=8)
    dark = torch.full((3, 3, 32, 32), -0.5)
    bright = -dark  # the reader sees a hat and a beard
    mixed = torch.cat([bright[:1], dark[1:]])
    report = essence_report(tiny_pipeline, reader, dark, mixed, bright[:1])
    assert report["attributes_taken"] == pytest.approx(1 / 3)
    # Hair under the hat cannot be compared: the reader sees baldness in any case.
    assert 0.8 < report["attributes_kept"] < 1.0
    nothing = essence_report(tiny_pipeline, reader, dark, dark, bright[:1])
    assert (nothing["attributes_taken"], nothing["attributes_kept"]) == (0.0, 1.0)
    same = essence_report(tiny_pipeline, None, dark, bright, bright[:1])
    assert same["target_similarity_after"] == pytest.approx(1, abs=1e-4)
    assert same["change_consistency"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(ValueError, match="Got 3 pictures before and 2 after"):
        essence_report(tiny_pipeline, None, dark, bright[:2], bright[:1])


# The recipe


def test_recipe_from_picture_to_card(
    tiny_pipeline: StyleEditPipeline,
    tiny_pipeline_folder: Path,
    target: Image.Image,
    tmp_path: Path,
) -> None:
    train = recipe("train_essence")
    picture = tmp_path / "somebody.png"
    image_files.save(target, picture)
    options = [
        "--target", str(picture), "--pipeline", str(tiny_pipeline_folder), "--reader", "None",
        "--train_batch_size", "3", "--sources", "4", "--views", "0", "--samples", "4",
        "--sample_steps", "4", "--checkpointing_steps", "2", "--lr_warmup_steps", "1",
        "--learning_rate", "0.3", "--lr_scheduler", "constant",
    ]  # fmt: skip
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    train.main([*options, "--output_dir", str(whole), "--max_train_steps", "4"])
    train.main([*options, "--output_dir", str(parted), "--max_train_steps", "2"])
    again = ["--max_train_steps", "4", "--resume_from_checkpoint", "latest"]
    train.main([*options, "--output_dir", str(parted), *again])
    edit, resumed = load_edit(whole), load_edit(parted)
    assert isinstance(edit, Limited) and edit.digest == resumed.digest
    edit.check_fits(tiny_pipeline.base_model)
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["target_similarity_after"] > metrics["target_similarity_before"]
    assert str(tmp_path) not in (whole / "config.json").read_text()
    card = (whole / "README.md").read_text()
    assert "CLIP similarity to the target picture, after" in card
    assert (whole / "images" / "target.png").is_file()
    with Image.open(whole / "samples" / "step-000004.png") as sheet:
        assert sheet.size == (8 * 32, 2 * 32)  # faces above the same faces with the edit

    evaluate = recipe("evaluate_essence")
    out, folder = tmp_path / "evaluated", tmp_path / "pipe"
    loaded = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    loaded.register_modules(instant=make_instant_model(loaded, samples=BLOCK))
    loaded.save_pretrained(folder)
    config = evaluate.Config(
        essences=(str(whole),), output_dir=out, pipeline=str(folder), reader=None,
        samples=4, blended_samples=2, blended_steps=8, columns=3,
    )  # fmt: skip
    evaluate.main(config)
    rows = json.loads((out / "metrics.json").read_text())["essences"]["whole"]
    # Without an encoder there is no inversion.
    assert set(rows) == {"essence", "instant", "CLIP blending"}
    assert {len(row) for row in rows.values()} == {len(rows["essence"])}
    stated = metrics["target_similarity_after"]
    assert rows["essence"]["target_similarity_after"] == pytest.approx(stated, abs=1e-3)
    for row in rows.values():
        assert row["target_similarity_after"] > row["target_similarity_before"]
    assert "| whole | CLIP blending | 2 |" in (out / "table.md").read_text()
    for name, size in (("essences", (4, 2)), ("essence-baselines", (4, 3))):
        with Image.open(out / "images" / f"{name}.png") as sheet:
            assert sheet.size == (32 * size[0], 32 * size[1])


def test_recipe_says_what_is_wrong(tmp_path: Path) -> None:
    train = recipe("train_essence")
    output = ["--output_dir", str(tmp_path / "essence"), "--target"]
    with pytest.raises(SystemExit, match=r"--target .*no.png cannot be read as a picture"):
        train.main([*output, str(tmp_path / "no.png")])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(SystemExit, match="cannot be read as a picture"):
        train.main([*output, str(tmp_path / "text.png"), "--preset", "paper_in_domain"])
    with pytest.raises(SystemExit, match="needs --hub_model_id"):
        train.main([*output, str(tmp_path), "--push_to_hub"])
    with pytest.raises(ArtifactError) as refused:
        train.main(["--output_dir", str(tmp_path), "--target", str(tmp_path / "text.png")])
    assert "text.png" in str(refused.value) and os.listdir(tmp_path) == ["text.png"]


def test_targets_are_drawn(tmp_path: Path) -> None:
    targets = recipe("draw_targets")
    targets.main(targets.Config(output_dir=tmp_path, resolution=64))
    names = {path.stem for path in tmp_path.iterdir()}
    assert names == {*targets.IN_DOMAIN, *targets.DRAWINGS} and len(names) == 6


# What the bundled models are expected to do


@pytest.mark.slow
def test_a_character_is_transferred(
    portraits: StyleEditPipeline, attribute_reader: AttributeReader
) -> None:
    pipe, reader = portraits, attribute_reader
    zuri = render(characters("Zuri", [5]), 128)
    found = essence_of(pipe, zuri)
    people = pipe.sample(range(10_000_000, 10_000_016))
    before, after = draw(pipe, people), draw(pipe, found.apply(people))
    report = essence_report(pipe, reader, before, after, zuri)
    assert report["target_similarity_after"] > report["target_similarity_before"] + 0.25
    assert report["attributes_taken"] > 0.35 and report["attributes_kept"] > 0.35


ESSENCES = [
    name for name in bundled("edit") if isinstance(method_of(load_edit(name).origin), Essence)
]


@pytest.mark.parametrize("name", ESSENCES)
def test_bundled_essences_keep_their_promise(name: str, portraits: StyleEditPipeline) -> None:
    pipe = portraits
    edit, folder = load_edit(name), bundled("edit")[name]
    with Image.open(folder / "images" / "target.png") as picture:
        goal = target_picture(pipe, picture)
    people = pipe.sample(range(11_000_000, 11_000_012))
    before, after = draw(pipe, people), draw(pipe, edit.apply(people))
    report = essence_report(pipe, None, before, after, goal)
    stated = json.loads((folder / "metrics.json").read_text())
    for key in ("target_similarity_before", "target_similarity_after", "change_consistency"):
        assert report[key] == pytest.approx(stated[key], abs=0.15)
    assert report["target_similarity_after"] > report["target_similarity_before"] + 0.1
