"""One recipe trains with every method that trains, including one from outside this package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import check_says_nothing_of
from test_recipes import recipe
from torch import Tensor, nn

from stylegan_hub import methods
from stylegan_hub.artifacts import RUN_FILES
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit, Origin, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import method as protocol
from stylegan_hub.methods.method import Nothing, Words
from stylegan_hub.methods.run import Run, Share, TrainableMethod
from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True)
class Settings:
    """Settings of the search."""

    steps: int = 6
    lr: float = 0.1
    batch_size: int = 2
    seed: int = 0
    wanted: float = 0.5
    """How bright pictures
    should be."""
    shared: bool = False
    """One w for all layers."""


class BrightnessRun(Run):
    """Learns a step in w_plus after which pictures have the wanted brightness."""

    remarks = ("No CLIP is asked.",)

    def __init__(self, domain: Domain, request: Words | Nothing, settings: Settings) -> None:
        super().__init__()
        self._domain, self._request, self._settings = domain, request, settings
        layers = 1 if settings.shared else domain.generator.num_ws
        self.step = nn.Parameter(torch.zeros(layers, domain.generator.config.w_dim))

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([self.step], lr=self._settings.lr)

    def losses(
        self, step: int, random: torch.Generator, share: Share = (0, 1)
    ) -> dict[str, Tensor]:
        size, (index, count) = self._settings.batch_size, share
        seeds = torch.randint(2**40, (size * count,), generator=random)
        pictures = self._pictures(self._domain.sample(seeds[index * size :][:size]))
        return {"loss": (pictures.mean() - self._settings.wanted).square()}

    def shown(self, latents: Latents | None = None) -> Tensor:
        return self._pictures(self._domain.sample(0) if latents is None else latents)

    def edits(self) -> list[Edit]:
        training = {"method": Brightness.name, "wanted": self._settings.wanted}
        origin = Origin(getattr(self._request, "text", None), training=training)
        vector = self.step.detach().expand(self._domain.generator.num_ws, -1)
        return [Direction(vector, "w_plus", self._domain.base_model, origin=origin)]

    def _pictures(self, faces: Latents) -> Tensor:
        codes = self._domain.lower(faces, "w_plus").codes
        return self._domain.synthesize(Latents(Space.W_PLUS, codes + self.step))


class Brightness(TrainableMethod[Settings]):
    """A method of another package."""

    name: ClassVar[str] = "brightness"
    summary: ClassVar[str] = "Makes pictures as bright as you like."
    requests: ClassVar[tuple[type[Any], ...]] = (Words, Nothing)
    presets: ClassVar[Mapping[str, Any]] = {"default": Settings(), "dark": Settings(wanted=-0.5)}

    def start(
        self, domain: Domain, request: Any, face: Latents | None, settings: Settings
    ) -> BrightnessRun:
        return BrightnessRun(domain, request, settings)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol, "_METHODS", dict(protocol._METHODS))
        methods.register(Brightness)
        yield


def train(folder: Path, pipeline: Path, *flags: str, method: str = "brightness") -> Edit:
    usual = ["--output_dir", str(folder), "--pipeline", str(pipeline), "--reader", "None"]
    recipe("train").main(method, [*usual, "--samples", "2", *flags])
    return load_edit(folder)


def vector(edit: Edit) -> Tensor:
    return edit.tensors()["vector"]


def test_a_method_from_outside_is_trained_as_find_finds_it(
    tiny_pipeline: StyleEditPipeline,
    tiny_pipeline_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "bright"
    trained = train(folder, tiny_pipeline_folder, "--text", "a bright face", "--strength", "3")
    assert "No CLIP is asked." in capsys.readouterr().out
    found = tiny_pipeline.find("a bright face", method="brightness")
    assert torch.equal(vector(trained), vector(found)) and vector(found).any()
    assert trained.origin.prompt == "a bright face"
    assert (trained.strength.default, trained.strength.max) == (3.0, 3.0)
    assert json.loads((folder / "metrics.json").read_text())["strength"] == 3.0
    for name in ("README.md", "images/before-after.webp", "samples/step-000006.png"):
        assert (folder / name).is_file(), name
    shared = shutil.copytree(folder, tmp_path / "sent", ignore=shutil.ignore_patterns(*RUN_FILES))
    check_says_nothing_of(tiny_pipeline_folder.parent, shared)


def test_settings_are_options(
    tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    flags = ("--preset", "dark", "--shared", "--max_train_steps", "3", "--seed", "5")
    trained = train(tmp_path / "dark", tiny_pipeline_folder, *flags)
    settings = replace(Settings(wanted=-0.5), shared=True, steps=3, seed=5)
    found = methods.get("brightness").find(tiny_pipeline, Nothing(), settings=settings)
    assert torch.equal(vector(trained), vector(found))
    assert trained.origin.training["wanted"] == -0.5 and trained.origin.prompt is None
    # A given value stays, even if it is the default of another preset.
    given = train(tmp_path / "given", tiny_pipeline_folder, "--preset", "dark", "--wanted", "0.5")
    assert given.origin.training["wanted"] == 0.5


def test_stopped_and_resumed(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", tiny_pipeline_folder)
    with pytest.raises(ArtifactError):  # no step was made, so no edit is written
        train(tmp_path / "parted", tiny_pipeline_folder, "--max_train_minutes", "0")
    assert (tmp_path / "parted" / "checkpoint-0").is_dir()
    again = ("--resume_from_checkpoint", "latest")
    parted = train(tmp_path / "parted", tiny_pipeline_folder, *again)
    assert torch.equal(vector(whole), vector(parted))


def test_an_output_folder_that_holds_something_else(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(ArtifactError) as error:
        train(tmp_path, tiny_pipeline_folder)
    assert error.value.got == ("thesis.tex",) and "--output_dir" in error.value.remedy
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    # The folder of a run belongs to the run, whatever was added meanwhile.
    folder = tmp_path / "run"
    with pytest.raises(ArtifactError):  # no step was made, so no edit is written
        train(folder, tiny_pipeline_folder, "--max_train_minutes", "0")
    (folder / "thoughts.txt").write_text("brighter?")
    assert vector(train(folder, tiny_pipeline_folder, "--resume_from_checkpoint", "latest")).any()
    assert (folder / "thoughts.txt").read_text() == "brighter?"


def test_options_are_explained(
    tiny_pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        train(tmp_path, tiny_pipeline_folder, "--help")
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "How bright pictures should be. (default: 0.5)" in said
    assert "--shared, --no_shared" in said and "--max_train_steps INT" in said
    assert "(default: 6)" in said and "--target PATH" not in said and "--region" not in said
    assert "--seeds" not in said and "--latents" not in said  # this method takes no faces


def test_what_cannot_be_trained(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'optimization', which does not train; .*brightness"):
        train(tmp_path, tiny_pipeline_folder, method="optimization")
    with pytest.raises(MethodError, match="Got the method 'sharpness'"):
        train(tmp_path, tiny_pipeline_folder, method="sharpness")
    with pytest.raises(MethodError, match="Got the preset 'light'"):
        train(tmp_path, tiny_pipeline_folder, "--preset", "light")

    @dataclass(frozen=True)
    class Taken(Settings):
        pipeline: str = "a name that another option has"

    class Clashing(Brightness):
        name: ClassVar[str] = "clashing"
        presets: ClassVar[Mapping[str, Any]] = {"default": Taken()}

    methods.register(Clashing)
    with pytest.raises(TypeError, match="names that other options have: pipeline"):
        train(tmp_path, tiny_pipeline_folder, method="clashing")
