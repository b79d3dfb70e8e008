"""Every recipe for a generator runs from start to end at the smallest useful sizes."""

import importlib.util
import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from stylegan_hub.artifacts import check_room
from stylegan_hub.checkpoints.download import DOWNLOADS, fetch
from stylegan_hub.errors import NotFoundError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.portraits.dataset import RenderCache

RECIPES = Path(__file__).parent.parent / "recipes"


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


def test_every_recipe_that_is_named_exists() -> None:
    project = RECIPES.parent
    texts = [*project.glob("*.md")]
    for folder in ("stylegan_hub", "demo", "recipes", "benchmarks", "docs", "cards", "tests"):
        texts += [path for path in (project / folder).rglob("*.*") if path.suffix in (".md", ".py")]
    named = {
        (path.relative_to(project), name)
        for path in texts
        for name in re.findall(r"recipes/\w+\.(?:py|sh)", path.read_text())
    }
    assert ("stylegan_hub/domain.py", "recipes/train_landmarks.py") in {
        (path.as_posix(), name) for path, name in named
    }
    assert [one for one in sorted(named) if not (project / one[1]).is_file()] == []


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stylegan_hub.portraits.dataset._SHARD", 100)
        from stylegan_hub.portraits import dataset

        (folder / "cache.json").write_text(json.dumps({"resolution": 32}))
        dataset._render_shard((str(folder), 0, 32))
        RenderCache(folder)
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stylegan_hub.portraits.dataset._SHARD", 100)


@pytest.mark.usefixtures("small_shards")
def test_the_paired_route_learns_and_its_stages_follow_each_other(
    cache: Path, tmp_path: Path
) -> None:
    train = recipe("train_generator")
    common = dict(
        img_resolution=32, channels=(16, 16, 16, 16), z_dim=96, w_dim=96, cache=cache,
        sample_steps=100, checkpointing_steps=100, lr_warmup_steps=2,
    )  # fmt: skip
    folders = {stage: tmp_path / stage for stage in ("synthesis", "details", "mapping", "together")}
    first = train.Paired(
        stage="synthesis", output_dir=folders["synthesis"], schedule=("32:8:1000",),
        max_train_steps=40, **common,
    )  # fmt: skip
    train.main(first)
    log = (folders["synthesis"] / "training.log").read_text().splitlines()
    losses = [json.loads(line)["loss"] for line in log]
    assert losses[-1] < 0.7 * losses[0]

    # What the layers may not see is not in the weights.
    generator = StyleGAN2Generator.from_pretrained(folders["synthesis"] / "generator")
    encoder = train.FactorEncoder(96)
    for layer in generator.style_layout:
        weight = generator.synthesis.affine(layer.name).weight
        projection = encoder.visible(layer.resolution, layer.is_to_rgb)
        assert torch.allclose(weight, weight @ projection, atol=1e-4)

    for before, stage in (
        ("synthesis", "details"), ("details", "mapping"), ("mapping", "together"),
    ):  # fmt: skip
        config = train.Paired(
            stage=stage, output_dir=folders[stage], init_from=folders[before],
            schedule=("32:4:1000",), max_train_steps=4, mapping_batch_size=32, **common,
        )  # fmt: skip
        train.main(config)
    final = StyleGAN2Generator.from_pretrained(folders["together"] / "generator")
    assert final.mapping.w_avg.abs().sum() > 0


@pytest.mark.usefixtures("small_shards")
def test_adversarial_training_runs_and_resumes(cache: Path, tmp_path: Path) -> None:
    train = recipe("train_generator")
    common = dict(
        cache=cache, output_dir=tmp_path, img_resolution=32, channel_base=256, channel_max=16,
        z_dim=96, w_dim=32, num_mapping_layers=2, train_batch_size=4, sample_steps=100,
        checkpointing_steps=100, path_length_interval=2, reconstruction_lambda=1.0,
    )  # fmt: skip
    train.main(train.Adversarial(max_train_steps=2, **common))
    train.main(train.Adversarial(max_train_steps=3, resume_from_checkpoint="latest", **common))
    assert (tmp_path / "checkpoint-3").is_dir() and (tmp_path / "samples").is_dir()
    StyleGAN2Generator.from_pretrained(tmp_path / "generator")


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_a_clip_is_trained_and_the_training_resumes(cache: Path, tmp_path: Path) -> None:
    train = recipe("train_clip")
    common = dict(
        cache=cache, image_size=16, vision_width=32, vision_layers=1, text_width=32, text_layers=1,
        embedding_dim=16, vocab_size=600, train_batch_size=8, sample_steps=2, lr_warmup_steps=1,
        checkpointing_steps=1,
    )  # fmt: skip
    train.main(train.Config(output_dir=tmp_path / "whole", max_train_steps=2, **common))
    stopped = train.Config(
        output_dir=tmp_path / "parted", max_train_steps=2, max_train_minutes=0.0, **common
    )
    train.main(stopped)
    assert not (tmp_path / "parted" / "metrics.json").exists()
    train.main(replace(stopped, max_train_minutes=None, resume_from_checkpoint="latest"))
    for name in ("clip/model.safetensors", "zero_shot.jsonl", "metrics.json"):
        whole, parted = ((tmp_path / run / name).read_bytes() for run in ("whole", "parted"))
        assert whole == parted, name
    for part in ("tokenizer", "image_processor"):
        assert (tmp_path / "whole" / part).is_dir()


def test_a_recipe_without_data_says_what_it_needs(tmp_path: Path) -> None:
    train = recipe("train_generator")
    config = train.Adversarial(
        output_dir=tmp_path, img_resolution=32, channel_base=256, channel_max=16, z_dim=96, w_dim=32
    )
    with pytest.raises(SystemExit, match="--cache or --images"):
        train.main(config)


def test_portraits_are_exported(tmp_path: Path) -> None:
    export = recipe("export_portraits")
    export.main(export.Config(output_dir=tmp_path, count=2, resolution=32))
    assert len(list((tmp_path / "images").iterdir())) == 2


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.py")))
def test_recipes_explain_themselves_without_a_home(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The environment of a user without a name and without HOME, as in containers."""

    def homeless(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    if "__main__" in (RECIPES / name).read_text():
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(RECIPES / name), run_name="__main__")
        assert ended.value.code in (0, None)
        assert "usage" in capsys.readouterr().out.lower() or name == "train.py"


def test_what_our_code_says_of_bad_options_needs_no_traceback(tmp_path: Path) -> None:
    line = recipe("command_line")

    def ours() -> None:
        (tmp_path / "note.txt").write_text("mine")
        check_room(tmp_path, remedy="Choose another folder.")

    with pytest.raises(SystemExit, match=r"^Error: .*note.txt.* Choose another folder") as told:
        with line.plain_errors():
            ours()
    assert told.value.code != 0
    with pytest.raises(RuntimeError), line.plain_errors():
        torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(ValueError, match="invalid literal"), line.plain_errors():
        int("of another library")


def test_a_download_wants_a_home_or_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(NotFoundError, match="this user has no home folder"):
        fetch("https://example.org/model.pt", DOWNLOADS)
