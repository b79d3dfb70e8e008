"""The measurements of an edit, on edits whose effect is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from test_recipes import recipe
from torch import Tensor

from stylegan_hub.edits.base import Edit, Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.metrics.edit_quality import (
    before_after,
    measure_edit,
    parse_target,
    strengths,
    write_quality,
)
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.metrics.judges import Judges
from stylegan_hub.metrics.step_cosine import step_cosine
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES, character_labels, label_index
from stylegan_hub.portraits.reader import AttributeReader, Reading

SEEDS = range(100, 106)


class BrightnessReader(AttributeReader):
    """Sees a hat in bright pictures and a beard in pictures that are bright on the left."""

    def read(self, images: Tensor, batch_size: int = 64) -> Reading:
        labels = {name: torch.zeros(len(images), dtype=torch.long) for name in ATTRIBUTES}
        labels["hat"] = (images.mean((1, 2, 3)) > 0).long()
        labels["beard"] = (images[..., : images.shape[3] // 2].mean((1, 2, 3)) > 0).long()
        probabilities = {
            name: torch.nn.functional.one_hot(values, len(ATTRIBUTES[name])).float()
            for name, values in labels.items()
        }
        return Reading(ATTRIBUTES, probabilities, labels)


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    return BrightnessReader(resolution=16, channels=(8, 8, 8), last_channels=8, hidden_size=8)


@pytest.fixture(scope="module")
def brightening(tiny_pipeline: StyleEditPipeline) -> Direction:
    """A direction in s that raises the mean of the pictures, and one picture more than others."""
    start = tiny_pipeline.lower(tiny_pipeline.sample(SEEDS), "s").codes.requires_grad_()
    from stylegan_hub.latents import Latents

    tiny_pipeline.synthesize(Latents("s", start)).mean().backward()
    assert start.grad is not None
    vector = start.grad.mean(0)
    return Direction(
        vector / vector.norm(), "s", tiny_pipeline.base_model, Strength(20.0, -5.0, 30.0),
        Origin("Milo with a hat"),
    )  # fmt: skip


def test_metrics_of_an_edit(
    tiny_pipeline: StyleEditPipeline, reader: AttributeReader, brightening: Direction
) -> None:
    metrics = measure_edit(tiny_pipeline, Judges(reader), brightening, {"hat": "yes"}, SEEDS)
    assert list(metrics) == [
        "images", "first_seed", "truncation_psi", "strength", "target", "success",
        "success_images", "collateral", "flips", "by_skin", "by_age", "smoothness", "monotone",
        "clip_similarity_before",
        "clip_similarity_after", "step_cosine_mean", "step_cosine_std", "milliseconds_per_edit",
    ]  # fmt: skip
    assert metrics["images"] == 6 and metrics["first_seed"] == 100
    assert metrics["strength"] == 20.0 and metrics["truncation_psi"] == 0.7
    assert metrics["step_cosine_mean"] == 1.0 and metrics["step_cosine_std"] == 0.0
    assert metrics["milliseconds_per_edit"] > 0
    # Counted by hand.
    people = tiny_pipeline.sample(SEEDS)
    moved = tiny_pipeline.apply(people, [(brightening, 20.0)])
    before, after = (tiny_pipeline.synthesize(x).clamp(-1, 1).detach() for x in (people, moved))
    dark = before.mean((1, 2, 3)) <= 0
    left = [x[..., :16].mean((1, 2, 3)) > 0 for x in (before, after)]
    assert metrics["success_images"] == int(dark.sum()) > 0
    share = (after.mean((1, 2, 3)) > 0)[dark].float().mean()
    assert metrics["success"] == pytest.approx(float(share), abs=1e-4) and share > 0
    for groups in (metrics["by_skin"], metrics["by_age"]):
        assert sum(group["faces"] for group in groups.values()) == int(dark.sum())
        shares = [group["success"] * group["faces"] for group in groups.values()]
        assert sum(shares) == pytest.approx(float(share) * int(dark.sum()), abs=1e-2)
    flipped = (left[0] != left[1])[dark].float().mean()
    assert metrics["flips"]["beard"] == pytest.approx(float(flipped), abs=1e-4)
    text = tiny_pipeline.encode_text("Milo with a hat")[0]
    for name, images in (("before", before), ("after", after)):
        similarity = (tiny_pipeline.encode_image(images) @ text).mean()
        assert metrics[f"clip_similarity_{name}"] == pytest.approx(float(similarity), abs=1e-4)


def test_an_edit_that_does_nothing(
    tiny_pipeline: StyleEditPipeline, reader: AttributeReader, brightening: Direction
) -> None:
    metrics = measure_edit(
        tiny_pipeline, Judges(reader), brightening, {"hat": "yes"}, SEEDS, strength=0
    )
    assert metrics["success"] == 0 and metrics["collateral"] == 0
    assert metrics["clip_similarity_before"] == metrics["clip_similarity_after"]


def test_the_numbers_come_out_again(
    tiny_pipeline: StyleEditPipeline, reader: AttributeReader, brightening: Direction
) -> None:
    first, second = (
        measure_edit(tiny_pipeline, Judges(reader), brightening, {"hat": "yes"}, SEEDS)
        for _ in range(2)
    )
    assert {**first, "milliseconds_per_edit": 0} == {**second, "milliseconds_per_edit": 0}


def test_nobody_lacks_the_target(
    tiny_pipeline: StyleEditPipeline, reader: AttributeReader, brightening: Direction
) -> None:
    target = {"hair_style": ATTRIBUTES["hair_style"][0]}  # this reader sees it everywhere
    metrics = measure_edit(tiny_pipeline, Judges(reader), brightening, target, SEEDS)
    assert metrics["success"] is None and metrics["success_images"] == 0
    json.dumps(metrics, allow_nan=False)


def test_without_a_reader_and_with_a_recognizer(
    tiny_pipeline: StyleEditPipeline, brightening: Direction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def recognizer(images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

    monkeypatch.setattr(tiny_pipeline, "recognizer", recognizer, raising=False)
    metrics = measure_edit(tiny_pipeline, Judges(), brightening, {}, SEEDS)
    assert "success" not in metrics and "target" not in metrics
    assert -1 <= metrics["identity_similarity"] < 1
    still = measure_edit(tiny_pipeline, Judges(), brightening, {}, SEEDS, strength=0)
    assert still["identity_similarity"] == 1


class DarknessCritic:
    """Finds pictures the cleaner the darker they are."""

    fingerprint = "darkness"

    def score(self, images: Tensor) -> Tensor:
        return -images.mean((1, 2, 3))


def test_the_critic_and_the_recognizer_that_judge(
    tiny_pipeline: StyleEditPipeline, reader: AttributeReader, brightening: Direction
) -> None:
    critic = DarknessCritic()

    def recognizer(images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

    judges = Judges(reader, critic, recognizer)  # type: ignore[arg-type]
    metrics = measure_edit(tiny_pipeline, judges, brightening, {"hat": "yes"}, SEEDS)
    unedited = judges.unedited(tiny_pipeline, 0.7)
    assert len(unedited) == 256 and judges.unedited(tiny_pipeline, 0.7) is unedited
    people = tiny_pipeline.sample(SEEDS)
    after = tiny_pipeline.synthesize(tiny_pipeline.apply(people, [(brightening, 20.0)]))
    clean = critic.score(after.clamp(-1, 1)) > unedited.quantile(0.05)
    assert metrics["clean"] == pytest.approx(float(clean.float().mean()), abs=1e-4)
    assert -1 <= metrics["judged_identity"] < 1 and "identity_similarity" not in metrics
    still = measure_edit(tiny_pipeline, judges, brightening, {"hat": "yes"}, SEEDS, strength=0)
    assert still["clean"] > metrics["clean"] and still["judged_identity"] == 1


def test_measuring_what_cannot_be_measured(
    tiny_pipeline: StyleEditPipeline,
    other_pipeline: StyleEditPipeline,
    reader: AttributeReader,
    brightening: Direction,
) -> None:
    with pytest.raises(ValueError, match=r"Got the target none and a reader"):
        measure_edit(tiny_pipeline, Judges(reader), brightening, {}, SEEDS)
    with pytest.raises(ValueError, match=r"Got the target \{'hat': 'yes'\} and no reader"):
        measure_edit(tiny_pipeline, Judges(), brightening, {"hat": "yes"}, SEEDS)
    with pytest.raises(ValueError, match="Got 1 seeds; give at least two"):
        measure_edit(tiny_pipeline, Judges(reader), brightening, {"hat": "yes"}, [1])
    with pytest.raises(ValueError, match="Unknown"):
        measure_edit(tiny_pipeline, Judges(reader), brightening, {"hat": "maybe"}, SEEDS)
    with pytest.raises(MismatchError, match=tiny_pipeline.base_model.fingerprint):
        measure_edit(other_pipeline, Judges(reader), brightening, {"hat": "yes"}, SEEDS)


# Table 2


def test_cosines_of_known_steps() -> None:
    assert step_cosine(torch.tensor([[1.0, 0.0], [0.0, 3.0]])) == (0.0, 0.0)
    mean, deviation = step_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]]))
    # pairs: 1, -1, -1
    assert mean == pytest.approx(-1 / 3) and deviation == pytest.approx((8 / 9) ** 0.5)
    assert step_cosine(torch.ones(4, 3, 2)) == pytest.approx((1.0, 0.0))
    assert step_cosine(torch.zeros(2, 3)) == (0.0, 0.0)
    with pytest.raises(ValueError, match="Got 1 steps"):
        step_cosine(torch.ones(1, 3))


def test_the_steps_of_a_mapper_differ(tiny_pipeline: StyleEditPipeline) -> None:
    torch.manual_seed(0)
    groups = mapper_groups(tiny_pipeline.generator)
    mapper = LatentMapper(groups, "w_plus", tiny_pipeline.base_model)
    metrics = measure_edit(tiny_pipeline, Judges(), mapper, {}, SEEDS)
    assert metrics["step_cosine_mean"] < 1 and metrics["step_cosine_std"] > 0
    assert "clip_similarity_before" not in metrics  # it has no prompt


def test_identity_of_known_people() -> None:
    def recognizer(images: Tensor) -> Tensor:
        return torch.nn.functional.normalize(images.mean((2, 3)), dim=1)

    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 4, 4)
    blue = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 4, 4)
    before, after = torch.stack([red, red, blue]), torch.stack([red, blue, blue])
    found = identity_similarity(recognizer, before, after, batch_size=2)
    assert found.tolist() == pytest.approx([1.0, 0.0, 1.0])
    with pytest.raises(ValueError, match="Got 3 pictures before and 2 after"):
        identity_similarity(recognizer, before, after[:2])


# Targets


def test_targets() -> None:
    assert parse_target(["hat=yes", "hair_style=afro"]) == {"hat": "yes", "hair_style": "afro"}
    assert parse_target(["character=Captain Otto"]) == character_labels("Captain Otto")
    assert parse_target([]) == {}
    for bad in ("hat", "hat=maybe", "shoes=red", "character=Nobody", ""):
        with pytest.raises(ValueError, match=r"Got the target .*character=.*Zuri.*; hair_style="):
            parse_target([bad])
    for name, value in parse_target(["character=Zuri"]).items():
        label_index(name, value)


# Pictures and folders


def test_pictures(tiny_pipeline: StyleEditPipeline, brightening: Direction) -> None:
    assert before_after(tiny_pipeline, brightening, SEEDS).size == (6 * 32, 2 * 32)
    assert strengths(tiny_pipeline, brightening, [1, 2]).size == (7 * 32, 2 * 32)
    unchanged = before_after(tiny_pipeline, brightening, SEEDS, strength=0)
    upper, lower = unchanged.crop((0, 0, 192, 32)), unchanged.crop((0, 32, 192, 64))
    assert upper.tobytes() == lower.tobytes()


def test_a_folder_gets_all_of_it(
    tiny_pipeline: StyleEditPipeline,
    reader: AttributeReader,
    brightening: Direction,
    tmp_path: Path,
) -> None:
    folder = brightening.save_pretrained(tmp_path / "bright")
    metrics = write_quality(
        folder, tiny_pipeline, Judges(reader), brightening, {"hat": "yes"}, SEEDS
    )
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    with Image.open(folder / "images" / "before-after.webp") as picture:
        assert picture.size == (6 * 32, 2 * 32)
    with Image.open(folder / "images" / "strengths.webp") as picture:
        assert picture.size == (7 * 32, 4 * 32)


# The recipe


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, reader: AttributeReader) -> Any:
    module = recipe("evaluate")
    monkeypatch.setattr(AttributeReader, "from_pretrained", lambda *_: reader)
    return module


def test_the_recipe_repeats_what_was_measured(
    evaluate: Any,
    tiny_pipeline_folder: Path,
    brightening: Direction,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = brightening.save_pretrained(tmp_path / "bright")
    options = dict(folders=(str(folder),), pipeline=str(tiny_pipeline_folder))
    first = evaluate.Config(target=("hat=yes",), samples=5, strength=3.0, **options)
    evaluate.main(first)
    stated = json.loads((folder / "metrics.json").read_text())
    assert (stated["images"], stated["strength"]) == (5, 3.0)
    (folder / "README.md").unlink()
    evaluate.main(evaluate.Config(**options))
    again = json.loads((folder / "metrics.json").read_text())
    assert {**again, "milliseconds_per_edit": 0} == {**stated, "milliseconds_per_edit": 0}
    assert "Success" in (folder / "README.md").read_text()
    out = capsys.readouterr().out
    assert "step cosine mean" in out and "| bright |" in out


def test_nothing_is_changed_when_an_edit_does_not_fit(
    evaluate: Any,
    tiny_pipeline_folder: Path,
    brightening: Edit,
    other_pipeline: StyleEditPipeline,
    tmp_path: Path,
) -> None:
    good = brightening.save_pretrained(tmp_path / "good")
    vector = torch.ones(other_pipeline.generator.num_styles)
    other = Direction(vector, "s", other_pipeline.base_model).save_pretrained(tmp_path / "other")
    names = (str(good), str(other))
    with pytest.raises(MismatchError, match=other_pipeline.base_model.fingerprint):
        evaluate.main(evaluate.Config(folders=names, pipeline=str(tiny_pipeline_folder)))
    assert not (good / "metrics.json").exists()
    with pytest.raises(SystemExit, match="nothing to measure"):
        evaluate.main(evaluate.Config())
    with pytest.raises(ArtifactError):
        evaluate.main(evaluate.Config(folders=(str(tiny_pipeline_folder),)))
