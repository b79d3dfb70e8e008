"""Directions from words: the bank of sentences, the table and its measurement, gradients."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import check_says_nothing_of
from foreign import with_tensor
from programs import run_program
from test_recipes import recipe
from torch.nn import functional as F

from stylegan_hub import names
from stylegan_hub.artifacts import read_tensors
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import displaced
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.gradient import Gradient, Settings
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.prompt_bank import TEMPLATES, encode_prompt, text_change
from stylegan_hub.methods.style_statistics import (
    channel_relevance,
    editable_channels,
    linear_relevance,
    style_statistics,
)
from stylegan_hub.methods.table import (
    DEFAULT_CHANNELS,
    DirectionTable,
    load_directions,
    table_layout,
)
from stylegan_hub.pipeline import StyleEditPipeline

ROOT = Path(__file__).parents[1]
SHORT = ("{}", "{}.")
HAT = "a face with a hat"


@pytest.fixture(scope="module")
def table(tiny_pipeline: StyleEditPipeline) -> DirectionTable:
    return measure(tiny_pipeline)


def measure(pipe: StyleEditPipeline, include_to_rgb: bool = False) -> DirectionTable:
    channels = editable_channels(pipe, include_to_rgb)
    s_mean, s_std = style_statistics(pipe, 100)
    people = pipe.lower(pipe.sample(range(2)), "s").codes
    return DirectionTable(
        channel_relevance(pipe, people, channels, s_mean, s_std),
        torch.tensor(channels),
        s_mean,
        s_std,
        pipe.base_model,
        pipe.clip_model,
        table_layout(pipe, include_to_rgb),
        {"samples": 2},
    )


# Sentences


def test_the_bank_has_many_different_sentences_with_one_gap() -> None:
    assert len(TEMPLATES) == len(set(TEMPLATES)) >= 60
    assert all(template.count("{}") == 1 for template in TEMPLATES)


def test_a_text_is_the_mean_of_its_sentences(tiny_pipeline: StyleEditPipeline) -> None:
    one, two = tiny_pipeline.encode_text(["a hat", "this is a hat"])
    found = encode_prompt(tiny_pipeline, " a hat ", ("{}", "this is {}"))
    assert torch.allclose(found, F.normalize(one + two, dim=0), atol=1e-6)


def test_sentences_beyond_the_context_are_left_out(tiny_pipeline: StyleEditPipeline) -> None:
    # 24 tokens: the second sentence would be cut with a warning, and warnings are errors here.
    templates = ("{}", "an extraordinarily long sentence about {}")
    found = encode_prompt(tiny_pipeline, "a hat", templates)
    assert torch.allclose(found, tiny_pipeline.encode_text("a hat")[0], atol=1e-6)
    with pytest.warns(UserWarning, match="Say it in fewer words"):
        encode_prompt(tiny_pipeline, "extraordinarily " * 9)


def test_a_change_of_words(tiny_pipeline: StyleEditPipeline) -> None:
    change = text_change(tiny_pipeline, HAT, "a face", SHORT)
    ends = [encode_prompt(tiny_pipeline, text, SHORT) for text in (HAT, "a face")]
    assert torch.allclose(change, F.normalize(ends[0] - ends[1], dim=0), atol=1e-5)
    assert torch.allclose(text_change(tiny_pipeline, "a face", HAT, SHORT), -change, atol=1e-5)


@pytest.mark.parametrize(
    ("target", "neutral", "templates", "message"),
    [
        (
            "",
            "a face",
            SHORT,
            r"Got an empty text \(''\); write some words, such as 'a smiling face'",
        ),
        ("a hat", " \n", SHORT, "Got an empty text"),
        ("a face", "a face", SHORT, "target 'a face' and the neutral text 'a face', which are"),
        ("A Face ", "a face", SHORT, "the same to this CLIP; say in the target what should change"),
        ("a hat", "a face", ("{}", "a picture"), r"template 'a picture'; expected one '\{\}' in"),
    ],
)
def test_texts_without_a_change(
    tiny_pipeline: StyleEditPipeline,
    table: DirectionTable,
    target: str,
    neutral: str,
    templates: tuple[str, ...],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        table.direction(tiny_pipeline, target, neutral, templates=templates)
    if templates is SHORT:  # the gradient uses those of the bank, or none
        with pytest.raises(ValueError, match="Got "):
            Gradient().find(tiny_pipeline, Words(target, neutral))


# Measuring


def test_statistics_are_those_of_all_seeds(tiny_pipeline: StyleEditPipeline) -> None:
    s = tiny_pipeline.lower(tiny_pipeline.sample(range(5, 1305)), "s").codes
    mean, std = style_statistics(tiny_pipeline, 1300, first_seed=5)  # more than one chunk
    assert torch.allclose(mean, s.mean(0), atol=1e-5) and torch.allclose(std, s.std(0), atol=1e-5)


def test_truncation_of_the_two_published_variants(tiny_pipeline: StyleEditPipeline) -> None:
    _, all_layers = style_statistics(tiny_pipeline, 200, truncation_psi=0.7)
    _, first_layers = style_statistics(tiny_pipeline, 200, truncation_psi=0.7, truncation_cutoff=2)
    for layer in tiny_pipeline.generator.style_layout:
        ratio = first_layers[layer.start : layer.stop] / all_layers[layer.start : layer.stop]
        expected = 1.0 if layer.ws_index < 2 else 1 / 0.7
        assert torch.allclose(ratio, torch.full_like(ratio, expected), rtol=1e-3), layer.name


def test_statistics_of_nobody(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match="Got 1 samples; a deviation needs at least 2"):
        style_statistics(tiny_pipeline, 1)


def test_editable_channels(tiny_pipeline: StyleEditPipeline) -> None:
    layout = tiny_pipeline.generator.style_layout
    conv = editable_channels(tiny_pipeline)
    assert len(conv) == sum(la.stop - la.start for la in layout if not la.is_to_rgb)
    assert editable_channels(tiny_pipeline, True) == list(range(layout[-1].stop))


@pytest.mark.parametrize("resolution", [4, 8, 16, 32])
def test_drawing_from_a_block_on_is_drawing(
    tiny_pipeline: StyleEditPipeline, resolution: int
) -> None:
    generator = tiny_pipeline.generator
    s = tiny_pipeline.lower(tiny_pipeline.sample(range(3)), "s").codes
    changed = s.repeat(2, 1)
    for layer in generator.style_layout:
        if layer.resolution >= resolution:
            changed[:, layer.start : layer.stop] += 0.3
    changed[3:, generator.style_layout[-1].start :] -= 1.0
    draw = generator.synthesis_from_block(s, resolution)
    for codes in (s, changed):
        assert torch.allclose(draw(codes), generator.synthesis_from_styles(codes), atol=1e-5)
    assert not torch.allclose(draw(s), draw(changed)[:3], atol=1e-2)


def test_drawing_from_an_impossible_block(tiny_pipeline: StyleEditPipeline) -> None:
    s = tiny_pipeline.lower(tiny_pipeline.sample(1), "s").codes
    with pytest.raises(ValueError, match=r"Got resolution=64; expected one of 4, 8, 16, 32"):
        tiny_pipeline.generator.synthesis_from_block(s, 64)
    with pytest.raises(ValueError, match=r"style codes of shape \(1, 5\)"):
        tiny_pipeline.generator.synthesis_from_block(s[:, :5], 8)
    draw = tiny_pipeline.generator.synthesis_from_block(s.repeat(2, 1), 8)
    with pytest.raises(ValueError, match=r"shape \(3, .*\[k \* 2, num_styles=.*whole batches"):
        draw(s.repeat(3, 1))


@pytest.mark.parametrize("around", ["sample", "mean"])
def test_relevance_is_that_of_plain_pictures(tiny_pipeline: StyleEditPipeline, around: Any) -> None:
    """The definition, one channel at a time, with whole pictures."""
    s_mean, s_std = style_statistics(tiny_pipeline, 100)
    s = tiny_pipeline.lower(tiny_pipeline.sample(range(3)), "s").codes
    layout = tiny_pipeline.generator.style_layout
    channels = [layout[-2].start + 1, layout[0].start, layout[1].start + 2, layout[5].stop - 1]
    found = channel_relevance(
        tiny_pipeline, s, channels, s_mean, s_std, around, deviations=4.0, batch_size=2
    )
    for row, channel in zip(found, channels, strict=True):
        ends = []
        for sign in (1, -1):
            moved = s.clone()
            center = s[:, channel] if around == "sample" else s_mean[channel]
            moved[:, channel] = center + sign * 4.0 * s_std[channel]
            images = tiny_pipeline.generator.synthesis_from_styles(moved)
            ends.append(tiny_pipeline.encode_image(images.clamp(-1, 1)))
        changes = F.normalize(ends[0] - ends[1], dim=1)
        # An untrained CLIP sees tiny changes, so rounding matters.
        assert float(row @ F.normalize(changes.mean(0), dim=0)) > 0.999
    assert torch.allclose(found.norm(dim=1), torch.ones(4), atol=1e-5)


def test_a_channel_that_never_varies_has_no_relevance(tiny_pipeline: StyleEditPipeline) -> None:
    s_mean, s_std = style_statistics(tiny_pipeline, 100)
    s = tiny_pipeline.lower(tiny_pipeline.sample(1), "s").codes
    found = channel_relevance(tiny_pipeline, s, [0], s_mean, torch.zeros_like(s_std))
    assert torch.equal(found, torch.zeros_like(found))


def test_derivatives_say_the_same_of_small_moves(tiny_pipeline: StyleEditPipeline) -> None:
    s_mean, s_std = style_statistics(tiny_pipeline, 100)
    s = tiny_pipeline.lower(tiny_pipeline.sample(range(3)), "s").codes
    channels = [40, 0, 7]
    s_std[7] = 0  # never varies
    deviations = 0.05
    drawn = channel_relevance(
        tiny_pipeline, s, channels, s_mean, s_std, deviations=deviations, batch_size=3
    )
    directions, sizes = linear_relevance(tiny_pipeline, s, channels, s_std, deviations)
    cosines = (F.normalize(directions, dim=1) * drawn).sum(1)
    assert cosines[:2].min() > 0.99
    assert not directions[2].any() and sizes[2] == 0
    # Sums over faces: the sums of two parts add up to that of the whole.
    parts = [linear_relevance(tiny_pipeline, part, channels, s_std) for part in s.split([1, 2])]
    assert torch.allclose(parts[0][0] + parts[1][0], directions, atol=1e-5)
    # A hundred times the move, a hundred times the size.
    assert torch.allclose((parts[0][1] + parts[1][1])[:2], 100 * sizes[:2], rtol=1e-3)
    # The size is how far the embedding goes.
    moved = s.clone()
    moved[:, 40] += deviations * s_std[40]
    seen = [
        tiny_pipeline.encode_image(
            tiny_pipeline.generator.synthesis_from_styles(codes).clamp(-1, 1)
        )
        for codes in (s, moved)
    ]
    assert float((seen[1] - seen[0]).norm(dim=1).sum()) == pytest.approx(float(sizes[0]), rel=0.05)


# Words to a direction


def test_direction_is_the_papers_formula(
    tiny_pipeline: StyleEditPipeline, table: DirectionTable
) -> None:
    relevance = table.relevance @ text_change(tiny_pipeline, HAT, "a face", SHORT)
    threshold = float(relevance.abs().sort().values[-6]) - 1e-6
    found = table.direction(tiny_pipeline, HAT, threshold=threshold, alpha=2.5, templates=SHORT)
    expected = torch.zeros(tiny_pipeline.generator.num_styles)
    for row, channel in enumerate(table.index.tolist()):
        if relevance[row].abs() >= threshold:
            share = relevance[row] / relevance.abs().max()
            expected[channel] = 2.5 * share * table.s_std[channel]
    assert found.space is Space.S and torch.allclose(found.vector, expected, atol=1e-6)
    assert int((found.vector != 0).sum()) == 6
    by_number = table.direction(tiny_pipeline, HAT, channels=6, alpha=2.5, templates=SHORT)
    assert torch.allclose(by_number.vector, found.vector, atol=1e-6)
    opposite = table.direction(tiny_pipeline, "a face", HAT, channels=6, alpha=2.5, templates=SHORT)
    assert torch.allclose(opposite.vector, -found.vector, atol=1e-5)


def test_direction_says_how_it_was_made(
    tiny_pipeline: StyleEditPipeline, table: DirectionTable, tmp_path: Path
) -> None:
    found = table.direction(tiny_pipeline, HAT)
    training = found.origin.training
    assert (found.origin.prompt, found.origin.neutral) == (HAT, "a face")
    most = min(DEFAULT_CHANNELS, len(table.index))
    assert training["method"] == "table" and training["channels"] == most
    assert int((found.vector != 0).sum()) == most
    again = table.direction(tiny_pipeline, HAT, threshold=training["threshold"])
    assert torch.equal(again.vector, found.vector)
    moved = found.vector[table.index] / table.s_std[table.index]
    assert float(moved.abs().max()) == pytest.approx(training["alpha"], rel=1e-4)
    loaded = load_edit(found.save_pretrained(tmp_path / "hat"))
    pictures = tiny_pipeline(seed=1, edits=[(loaded, 1.0)]).images
    assert pictures[0].tobytes() != tiny_pipeline(seed=1).images[0].tobytes()


def test_threshold_that_nothing_passes(
    tiny_pipeline: StyleEditPipeline, table: DirectionTable
) -> None:
    with pytest.raises(ValueError, match=r"threshold 0\.99, which no channel passes") as caught:
        table.direction(tiny_pipeline, HAT, threshold=0.99)
    usable = float(str(caught.value).split("The largest usable one is ")[1].split("; a")[0])
    assert table.direction(tiny_pipeline, HAT, threshold=usable).length > 0
    with pytest.raises(ValueError, match="no channel passes"):
        table.direction(tiny_pipeline, HAT, threshold=usable + 2e-4)
    everything = table.direction(tiny_pipeline, HAT, threshold=0)
    assert everything.origin.training["channels"] == len(table.index)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.1, "channels": 3}, r"threshold 0\.1 and channels 3; give one of them"),
        ({"channels": 0}, "Got channels 0; expected 1 to 56, as many as there are"),
        ({"channels": 57}, "Got channels 57; expected 1 to 56"),
        ({"threshold": -0.1}, r"Got threshold -0\.1; expected a number from 0 to 0\."),
        ({"threshold": float("nan")}, "Got threshold nan; expected a number from 0 to"),
        ({"alpha": 0.0}, r"Got alpha 0\.0; expected a number above 0, such as"),
    ],
)
def test_impossible_directions(
    tiny_pipeline: StyleEditPipeline,
    table: DirectionTable,
    arguments: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=message):
        table.direction(tiny_pipeline, HAT, **arguments)


def test_a_table_without_any_relevance(
    tiny_pipeline: StyleEditPipeline, table: DirectionTable
) -> None:
    empty = rebuilt(table, relevance=torch.zeros_like(table.relevance))
    with pytest.raises(ValueError, match="No channel has any relevance for this change"):
        empty.direction(tiny_pipeline, HAT)


def test_table_of_another_generator(
    tiny_pipeline: StyleEditPipeline, other_pipeline: StyleEditPipeline, table: DirectionTable
) -> None:
    with pytest.raises(MismatchError, match="This direction table was made for") as caught:
        table.direction(other_pipeline, HAT)
    for pipe in (tiny_pipeline, other_pipeline):
        assert pipe.base_model.fingerprint in str(caught.value)


def test_table_of_another_clip(
    tiny_pipeline: StyleEditPipeline, other_pipeline: StyleEditPipeline, table: DirectionTable
) -> None:
    mixed = StyleEditPipeline(
        tiny_pipeline.generator,
        other_pipeline.clip,
        other_pipeline.tokenizer,
        other_pipeline.image_processor,
    )
    with pytest.raises(
        MismatchError, match=r"was made with the CLIP of .* or build a table"
    ) as got:
        table.direction(mixed, HAT)
    for pipe in (tiny_pipeline, other_pipeline):
        assert pipe.clip_model.fingerprint in str(got.value)


def test_colors_layers_on_request(tiny_pipeline: StyleEditPipeline) -> None:
    table = measure(tiny_pipeline, include_to_rgb=True)
    assert len(table.index) == tiny_pipeline.generator.num_styles
    assert {layer.name for layer in table.layout} >= {"b4.torgb", "b32.torgb"}
    vector = table.direction(tiny_pipeline, HAT, threshold=0).vector
    layer = tiny_pipeline.generator.style_layout[-1]
    assert vector[layer.start : layer.stop].abs().sum() > 0


# On disk


def rebuilt(table: DirectionTable, **changes: Any) -> DirectionTable:
    return DirectionTable(**{**vars(table), **changes})


def test_saved_and_loaded(
    tiny_pipeline: StyleEditPipeline, table: DirectionTable, tmp_path: Path
) -> None:
    folder = table.save_pretrained(tmp_path / "table")
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    loaded = load_directions(folder)
    for name in ("relevance", "index", "s_mean", "s_std"):
        assert torch.equal(getattr(loaded, name), getattr(table, name))
    for name in ("base_model", "clip", "layout", "training"):
        assert getattr(loaded, name) == getattr(table, name)
    directions = [each.direction(tiny_pipeline, HAT) for each in (loaded, table)]
    assert torch.equal(directions[0].vector, directions[1].vector)
    config = json.loads((folder / "config.json").read_text())
    assert config["kind"] == "direction_table" and config["clip"]["fingerprint"]


def test_a_table_is_no_edit_and_an_edit_no_table(
    tiny_pipeline: StyleEditPipeline,
    table: DirectionTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards = tmp_path / "cards"
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(cards))
    table.save_pretrained(cards / "words")
    table.direction(tiny_pipeline, HAT).save_pretrained(cards / "hat")
    with pytest.raises(ArtifactError, match=r"got: direction_table\. Use load_directions"):
        load_edit("words")
    with pytest.raises(ArtifactError, match=r"got: edit\. Use load_edit\."):
        load_directions("hat")
    assert list(names.bundled("edit")) == ["hat"]
    assert list(names.bundled("direction_table")) == ["words"]
    assert list(names.bundled()) == ["hat", "words"]
    assert len(load_directions("words").index) == 56


def test_unknown_table(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="Found nothing under 'no such table'"):
        load_directions("no such table")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("clip", None, "is not a valid direction table"),
        ("clip", {"id": "x"}, "is not a valid direction table.*fingerprint"),
        ("layout", [], r"index does not list the channels of its layout.*covers 0 of"),
        ("layout", [{"name": "b4.conv1"}], "is not a valid direction table"),
        ("layout", "all", "is not a valid direction table"),
        ("base_model", {"fingerprint": "ab"}, "is not a valid direction table"),
    ],
)
def test_unsound_config(
    table: DirectionTable, tmp_path: Path, key: str, value: object, message: str
) -> None:
    folder = table.save_pretrained(tmp_path / "table")
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ArtifactError, match=message):
        load_directions(folder)


def test_unsound_tensors(table: DirectionTable, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"have the shapes \[channels, d\], .* got \[56, 16\], "):
        rebuilt(table, s_std=table.s_std[1:])
    with pytest.raises(ValueError, match="index does not list the channels of its layout"):
        rebuilt(table, index=table.index.flip(0))
    broken = with_tensor(
        table.save_pretrained(tmp_path / "broken"), "s_mean", torch.nan * table.s_mean
    )
    with pytest.raises(ArtifactError, match="'s_mean' holds numbers that are not finite"):
        load_directions(broken)


# The recipe


def build(build_recipe: ModuleType, pipeline: Path, output: Path, **changes: Any) -> DirectionTable:
    settings = {"samples": 2, "statistics_samples": 50, "batch_size": 2, **changes}
    build_recipe.main(build_recipe.Config(output_dir=output, pipeline=str(pipeline), **settings))
    return load_directions(output / "direction_table")


def read_sizes(recipe_module: ModuleType, pipeline: Path, output: Path) -> torch.Tensor:
    """How far each channel moves the embedding, by its derivatives."""
    build(recipe_module, pipeline, output, drawn_above=1e9)
    parts = (output / "checkpoint").glob("people-*.safetensors")
    return torch.stack([read_tensors(path)[0]["sizes"] for path in parts]).sum(0) / 2


def test_recipe_resumes_and_refuses_to_mix(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    recipe_module = recipe("build_direction_table")
    drawn = build(recipe_module, tiny_pipeline_folder, tmp_path / "drawn", drawn_above=0)
    assert drawn.relevance.shape == (56, 16) and drawn.training["samples"] == 2
    metrics = json.loads((tmp_path / "drawn" / "direction_table" / "metrics.json").read_text())
    assert metrics["images"] == 56 * 2 * 2 and metrics["process_seconds"] > 0

    # For some channels derivatives are enough; the others equal those of a fully rendered table.
    sizes = read_sizes(recipe_module, tiny_pipeline_folder, tmp_path / "sizes")
    some = float(sizes.median())
    table = build(recipe_module, tiny_pipeline_folder, tmp_path / "whole", drawn_above=some)
    metrics = json.loads((tmp_path / "whole" / "direction_table" / "metrics.json").read_text())
    assert metrics["drawn_channels"] == 28 and metrics["images"] == 28 * 2 * 2
    same = (table.relevance == drawn.relevance).all(1)
    assert torch.equal(same, sizes > some)

    # Interrupted: some channels are measured, but the table is not written.
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    shutil.rmtree(tmp_path / "part" / "direction_table")
    units = sorted((tmp_path / "part" / "checkpoint").glob("*.safetensors"))
    for path in units[::2]:
        path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in units[1::2]}
    with pytest.raises(SystemExit, match=r"holds a run already.*--resume_from_checkpoint latest"):
        build(recipe_module, tiny_pipeline_folder, tmp_path / "part")
    with pytest.raises(SystemExit, match=r"other settings: samples 2, now 3\."):
        build(
            recipe_module,
            tiny_pipeline_folder,
            tmp_path / "part",
            samples=3,
            drawn_above=some,
            resume_from_checkpoint="latest",
        )
    resumed = build(
        recipe_module,
        tiny_pipeline_folder,
        tmp_path / "part",
        drawn_above=some,
        resume_from_checkpoint="latest",
    )
    assert torch.equal(resumed.relevance, table.relevance)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}


def test_recipe_settings_are_checked(tmp_path: Path) -> None:
    config = recipe("build_direction_table").Config
    with pytest.raises(ValueError, match=r"drawn_above is -1\.0"):
        config(output_dir=tmp_path, drawn_above=-1.0)
    with pytest.raises(ValueError, match="samples is 0; it must be 1 or more"):
        config(output_dir=tmp_path, samples=0)
    with pytest.raises(ValueError, match=r"deviations is 0\.0; it must be above 0"):
        config(output_dir=tmp_path, deviations=0.0)


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    script = str(ROOT / "recipes" / "build_direction_table.py")
    common = ["--pipeline", str(tiny_pipeline_folder), "--samples", "2"]
    common += ["--statistics_samples", "50", "--batch_size", "2", "--output_dir"]
    one = ["accelerate.commands.launch", "--cpu", "--num_processes", "1", script]
    two = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", script]
    tables = []
    for launcher in (one, two):
        output = tmp_path / launcher[0]
        command = [sys.executable, "-m", *launcher, *common, output]
        run_program(command, OMP_NUM_THREADS="1")
        tables.append(read_tensors(output / "direction_table" / "model.safetensors")[0])
    metrics = json.loads((output / "direction_table" / "metrics.json").read_text())
    assert metrics["processes"] == 2
    assert tables[0].keys() == tables[1].keys()
    for name, tensor in tables[0].items():
        assert torch.allclose(tensor, tables[1][name], atol=1e-5), name


def test_evaluation_runs_end_to_end(
    tiny_pipeline_folder: Path, table: DirectionTable, tmp_path: Path
) -> None:
    evaluate = recipe("evaluate_directions")
    config = evaluate.Config(
        output_dir=tmp_path / "out",
        table=str(table.save_pretrained(tmp_path / "table")),
        pipeline=str(tiny_pipeline_folder),
        samples=4,
        texts=("a face with a hat",),
        grid_channels=(50, 5),
        grid_alphas=(0.0, 4.0),
        gradient=Settings(steps=2),
        sweep_channels=(5,),
        sweep_alphas=(2.0, 4.0),
        sweep_samples=4,
    )
    evaluate.main(config)
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    row = result["texts"]["a face with a hat"]
    assert set(row) == {"table", "gradient", "cosine", "rank_correlation"}
    assert -1 <= row["cosine"] <= 1 and len(result["sweep"]) == 2
    assert "| a face with a hat | " in (tmp_path / "out" / "table.md").read_text()
    check_says_nothing_of(tmp_path, tmp_path / "out")
    pictures = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert pictures == ["alpha-beta.webp", "gradient.webp", "table.webp"]
    with pytest.raises(ValueError, match=r"Got the texts \['a cat'\]; expected .*a face with"):
        evaluate.Config(output_dir=tmp_path, texts=("a cat",))


def test_evaluation_covers_the_attributes() -> None:
    evaluate = recipe("evaluate_directions")
    assert len(evaluate.TEXTS) >= 14
    assert len({name for target in evaluate.TEXTS.values() for name in target}) >= 10


def test_rank_correlation() -> None:
    rank_correlation = recipe("evaluate_directions").rank_correlation
    values = torch.tensor([3.0, -1.0, 2.0, 10.0])
    assert rank_correlation(values, values.exp()) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)
    assert rank_correlation(values, torch.tensor([2.0, 1.0, 3.0, 4.0])) == pytest.approx(0.8)


# Without a table


def test_gradient_direction_brings_strangers_closer_to_the_words(
    tiny_pipeline: StyleEditPipeline,
) -> None:
    steps: list[tuple[int, int]] = []
    settings = Settings(steps=10, batch_size=3, templates=False)
    with torch.no_grad():  # like the handlers of a page
        found = Gradient().find(
            tiny_pipeline, HAT, settings=settings,
            on_step=lambda step: steps.append((step.index, step.total)),
        )  # fmt: skip
    assert steps == [(i, 10) for i in range(1, 11)]
    assert found.space is Space.S and found.origin.prompt == HAT
    assert found.origin.training["method"] == "gradient"
    strangers = tiny_pipeline.sample(range(1000, 1016))
    text = tiny_pipeline.encode_text(HAT)[0]

    def similarity(strength: float) -> float:
        edited = displaced(tiny_pipeline, strangers, [(found, strength)])
        return float((tiny_pipeline.encode_image(tiny_pipeline.synthesize(edited)) @ text).mean())

    assert similarity(1.0) > similarity(0.0) + 0.01 > similarity(-1.0)


def gradient(pipe: StyleEditPipeline, settings: Settings) -> Direction:
    found = Gradient().find(pipe, HAT, settings=settings)
    assert isinstance(found, Direction)
    return found


def test_gradient_direction_moves_only_convolutions(tiny_pipeline: StyleEditPipeline) -> None:
    settings = Settings(steps=2, batch_size=2, templates=False)
    found = gradient(tiny_pipeline, settings)
    again = gradient(tiny_pipeline, settings)
    assert torch.allclose(found.vector, again.vector, atol=1e-6)
    for layer in tiny_pipeline.generator.style_layout:
        assert (found.vector[layer.start : layer.stop].abs().sum() == 0) == layer.is_to_rgb
    few = gradient(tiny_pipeline, replace(settings, channels=5))
    assert int((few.vector != 0).sum()) == 5 and few.origin.training["channels"] == 5
    kept = few.vector != 0
    assert torch.allclose(few.vector[kept], found.vector[kept], atol=1e-6)
    start = tiny_pipeline.lower(tiny_pipeline.sample(3), "s")
    assert torch.equal(few.apply(start, 0).codes, start.codes)
    assert isinstance(few.apply(start), Latents)


def test_impossible_gradient_searches(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match="Got channels 57; expected 1 to 56"):
        gradient(tiny_pipeline, Settings(steps=1, batch_size=1, channels=57, templates=False))
    with pytest.raises(ValueError, match="Got channels 0; expected 1 or more"):
        Settings(channels=0)
    with pytest.raises(ValueError, match="Got steps 0, batch_size 4, step_length"):
        Settings(steps=0)
