"""Every generator recipe runs, end to end, at the smallest sizes that make sense."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from stylegan_hub.checkpoints.download import DOWNLOADS, fetch
from stylegan_hub.errors import NotFoundError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.portraits.dataset import RenderCache

RECIPES = Path(__file__).parent.parent / "recipes"


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, RECIPES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


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
        img_resolution=32, channels=(16, 16, 16, 16), z_dim=96, w_dim=32, cache=cache,
        sample_steps=100, checkpointing_steps=100, lr_warmup_steps=2,
    )  # fmt: skip
    folders = {stage: tmp_path / stage for stage in ("synthesis", "mapping", "together")}
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
    encoder = train.FactorEncoder.from_pretrained(folders["synthesis"] / "factor_encoder")
    for layer in generator.style_layout:
        weight = generator.synthesis.affine(layer.name).weight
        projection = encoder.visible(layer.resolution, layer.is_to_rgb)
        assert torch.allclose(weight, weight @ projection, atol=1e-4)

    for before, stage in (("synthesis", "mapping"), ("mapping", "together")):
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


def test_a_recipe_without_data_says_what_it_needs(tmp_path: Path) -> None:
    train = recipe("train_generator")
    config = train.Adversarial(
        output_dir=tmp_path, img_resolution=32, channel_base=256, channel_max=16, z_dim=96, w_dim=32
    )
    with pytest.raises(SystemExit, match="Give --cache or --images"):
        train.main(config)


def test_portraits_are_exported(tmp_path: Path) -> None:
    export = recipe("export_portraits")
    export.main(export.Config(output_dir=tmp_path, count=2, resolution=32))
    assert len(list((tmp_path / "images").iterdir())) == 2


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.py")))
def test_recipes_explain_themselves_without_a_home(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for a user without a name and without HOME, which containers have."""

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


def test_a_download_wants_a_home_or_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(*_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(NotFoundError, match="this user has no home folder"):
        fetch("https://example.org/model.pt", DOWNLOADS)
