"""How well an edit fits the words, and the warning about a poor fit."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from test_recipes import recipe

from stylegan_hub.edits.base import Origin, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError
from stylegan_hub.methods import fit
from stylegan_hub.methods.fit import PoorFitWarning
from stylegan_hub.methods.instant_training import BLOCK, make_instant_model
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.wording import reading
from stylegan_hub.models.instant import FitTable, InstantConfig
from stylegan_hub.pipeline import StyleEditPipeline

TABLE = FitTable(bimodal=0.5, close=0.0, varied=0.1, calibrated=True)


def with_table(tiny: StyleEditPipeline, table: FitTable | None) -> StyleEditPipeline:
    model = make_instant_model(tiny, samples=BLOCK)
    sizes = {**vars(model.sizes), "fit": None if table is None else asdict(table)}
    known = type(model)(**sizes)
    known.load_state_dict(model.state_dict())
    parts = {name: getattr(tiny, name) for name in ("generator", "clip", "tokenizer")}
    return StyleEditPipeline(**parts, image_processor=tiny.image_processor, instant=known.eval())


@pytest.fixture(scope="module")
def pipe(tiny_pipeline: StyleEditPipeline) -> Iterator[StyleEditPipeline]:
    yield with_table(tiny_pipeline, TABLE)


def limited(pipe: StyleEditPipeline, limit: float) -> StyleEditPipeline:
    """The same pipeline, with another limit for poor fits."""
    return with_table(pipe, FitTable(**{**asdict(TABLE), "limit": limit}))


def fit_found(pipe: StyleEditPipeline, said: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoorFitWarning)
        found = pipe.find(said, pipe.sample(3), method="instant").origin.fit
    assert found is not None
    return found


def test_an_edit_by_words_carries_its_fit(pipe: StyleEditPipeline, tmp_path: Path) -> None:
    kind = limited(pipe, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PoorFitWarning)
        edits = [
            kind.find("a face with a hat", method="instant"),
            kind.find("a face with a hat", face=kind.sample(7), method="instant"),
            kind.find("a face with a hat", method="gradient"),
        ]
    for edit in edits:
        assert edit.origin.fit is not None and 0 <= edit.origin.fit <= 1
    loaded = load_edit(edits[0].save_pretrained(tmp_path / "hat"))
    assert loaded.origin.fit == edits[0].origin.fit and loaded.digest == edits[0].digest
    plain = kind.find("a face with a hat", method="instant")
    assert plain.origin.fit == edits[0].origin.fit


def test_without_an_instant_model_it_is_not_measured(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    edit = tiny_pipeline.find("a face with a hat", method="gradient")
    assert edit.origin.fit is None
    edit.save_pretrained(tmp_path / "hat")
    assert "fit" not in json.loads((tmp_path / "hat" / "config.json").read_text())


def test_a_poor_fit_is_said_with_words_that_would_work(pipe: StyleEditPipeline) -> None:
    strict = limited(pipe, 1.0)
    with pytest.warns(PoorFitWarning, match=r"'a face with a hat' .* \(fit 0\.\d\d of 1\)"):
        edit = strict.find("a face with a hat", method="instant")
    assert edit.origin.fit is not None and fit.verdict(strict, edit.origin.fit) == "hardly"
    near = fit.near_words(strict, Words("a face with a hat"))
    assert len(near) == 3 == len(set(near)) and near[0] == "a hat"
    said = fit.poor_fit(strict, reading(Words("no hat"), "a face"), 0.1)
    assert "'no hat'" in said and "calibrated" not in said
    uncalibrated = with_table(pipe, None)
    assert "not calibrated" in fit.poor_fit(uncalibrated, Words("a hat"), 0.1)


def test_what_is_measured(pipe: StyleEditPipeline) -> None:
    words = Words("a face with a hat")
    low, high = (fit.features(pipe, words, level, TABLE) for level in (-1.0, 7.0))
    assert low[2] == 0 and high[2] == 1 and low[:2] == high[:2]
    # What all pictures show says nothing about the request: only the hat counts here.
    away = fit.features(pipe, reading(Words("no hat"), pipe.neutral), 0.5, TABLE)
    assert away[0] == pytest.approx(low[0]) and away[1] == pytest.approx(low[1])
    units = fit.uncalibrated(pipe, pipe.instant.seen)
    assert not units.calibrated and 0 < units.bimodal < 1 and units.varied > 0
    again = with_table(pipe, None)
    assert fit.table(again) is fit.table(again) and fit.table(pipe) == TABLE


def test_a_domain_of_its_own_is_called_uncalibrated(house_pipeline: StyleEditPipeline) -> None:
    model = make_instant_model(house_pipeline, samples=BLOCK)
    parts = {name: part for name, part in house_pipeline.components.items() if name != "instant"}
    houses = StyleEditPipeline(**parts, neutral=house_pipeline.neutral, instant=model)
    table = fit.table(houses)
    assert table == model.sizes.fit_table and not table.calibrated
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        edit = houses.find("a house with a red roof", method="instant")
    assert edit.origin.fit is not None
    poor = [str(one.message) for one in told if issubclass(one.category, PoorFitWarning)]
    assert (edit.origin.fit < table.limit) == bool(poor)
    assert all("not calibrated" in one for one in poor)


def test_more_of_it_fits_better(pipe: StyleEditPipeline) -> None:
    words, none = Words("a face with a hat"), torch.zeros(pipe.base_model.num_ws, 1)
    vector = none.expand(-1, pipe.base_model.w_dim)
    still = Direction(vector.clone(), "w_plus", pipe.base_model)
    moved = pipe.find(words, method="instant")
    before, after = (fit.reached(pipe, words, edit, None) for edit in (still, moved))
    assert after > before
    assert fit.fit_of(pipe, words, moved, None) > fit.fit_of(pipe, words, still, None)


def test_a_removal_comes_down_from_what_it_takes_away(pipe: StyleEditPipeline) -> None:
    adds, removes = Words("a face with a hat"), reading(Words("no hat"), pipe.neutral)
    edit = pipe.find(adds, method="instant")
    face = pipe.sample(3)
    there = fit.reached(pipe, adds, edit, face)
    assert fit.reached(pipe, removes, edit, face) == pytest.approx(1 - there, abs=1e-5)
    assert fit.near_words(pipe, removes)[0] == "a hat"


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, True, "0.5", [0.5]])
def test_impossible_fits(pipe: StyleEditPipeline, tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="fit"):
        Origin(fit=value)  # type: ignore[arg-type]
    edit = pipe.find("a face with a hat", method="gradient")
    path = edit.save_pretrained(tmp_path / "hat") / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "fit": value}))
    with pytest.raises(ArtifactError):
        load_edit(tmp_path / "hat")


def test_words_that_clip_was_not_trained_on(tiny_pipeline: StyleEditPipeline) -> None:
    known = with_table(tiny_pipeline, replace(TABLE, words=("hat", "blue")))
    with pytest.warns(PoorFitWarning, match=r"'make him a king' .* \(fit 0\.00 of 1\)"):
        assert known.find("make him a king", method="instant").origin.fit == 0
    for said in ("a hat, your majesty", "make him wear a blue crown", "someone"):
        assert fit_found(known, said) > 0
    # A table without words says nothing about them.
    assert fit_found(with_table(tiny_pipeline, TABLE), "a king") > 0


@pytest.mark.parametrize("said", ["a king", "turn her into a king", "make him look like Elvis"])
def test_the_portraits_say_which_words_cannot_work(portraits: StyleEditPipeline, said: str) -> None:
    with pytest.warns(PoorFitWarning, match="its CLIP does not know the words"):
        assert portraits.find(said, portraits.sample(3)).origin.fit == 0
    for word in ("make him wear a hat", "give her an afro", "glasses, please"):
        assert fit_found(portraits, word) > 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"bimodal": math.nan},
        {"bimodal": math.inf},
        {"varied": -1.0},
        {"weights": [1, 2]},
        {"weights": ["a", 1, 2]},
        {"limit": 2.0},
        {"calibrated": "yes"},
        {"words": [1]},
        {"other": 1},
    ],
)
def test_impossible_tables(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"fit|expected"):
        InstantConfig(1, 4, 4, fit={**asdict(TABLE), **wrong})


def test_the_calibration_learns_what_works() -> None:
    calibrate = recipe("calibrate_fit")
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(400, 3, generator=generator)
    success = (2 * values[:, 1] + values[:, 2]) > 0.5
    rows = [
        calibrate.Row(f"text {i}", False, tuple(values[i].tolist()), bool(success[i]))
        for i in range(400)
    ]
    table = calibrate.fitted(rows[:200], TABLE)
    table = replace(table, limit=calibrate.limit_of(table, rows))
    assert table.calibrated and table.bimodal == TABLE.bimodal
    assert table.weights[1] > table.weights[2] > abs(table.weights[0])
    report = calibrate.report(table, rows[200:], rows[:3])
    assert report["brier"] < 0.1 and report["warned_of_what_worked"] < 0.12
    assert {line["count"] > 0 for line in report["by_fit"]} == {True}
