"""The training loop: exact resuming, clean stops, complete checkpoints, several processes."""

from __future__ import annotations

import copy
import dataclasses
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from programs import run_program
from safetensors import SafetensorError
from torch import Tensor, nn

from stylegan_hub.errors import StorageError
from stylegan_hub.training import NetworkTraining, Training, TrainingConfig

INPUTS = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
TARGETS = INPUTS @ torch.tensor([[1.0], [-2.0], [0.5]])


class Toy:
    """A regression with dropout (global randomness), a buffer, Adam state and an average."""

    def __init__(self, output_dir: Path, **changes: Any) -> None:
        torch.manual_seed(5)
        model = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1)
        )
        defaults: dict[str, Any] = dict(
            train_batch_size=8, max_train_steps=20, lr_warmup_steps=3, checkpointing_steps=6
        )
        self.config = TrainingConfig(output_dir=output_dir, **{**defaults, **changes})
        self.training = Training(
            self.config,
            {"model": model},
            {"model": torch.optim.Adam(model.parameters(), lr=1e-2)},
            ema={"model": copy.deepcopy(model)},
            ema_half_life=40,
        )
        self.on_step: Callable[[int], None] = lambda step: None

    def step_fn(self, step: int) -> dict[str, Tensor]:
        self.on_step(step)
        training = self.training

        def loss_of(micro: int) -> Tensor:
            chosen = training.indices(step, len(INPUTS), micro)
            noise = torch.randn(len(chosen), 1, generator=training.generator(step, micro))
            predicted = training.models["model"](INPUTS[chosen])
            return (predicted - TARGETS[chosen] - 0.01 * noise).square().mean()

        return {"loss": training.update("model", loss_of)}

    def run(self) -> bool:
        return self.training.run(self.step_fn)

    def weights(self) -> dict[str, Tensor]:
        modules = (("model", self.training.models["model"]), ("ema", self.training.ema["model"]))
        return {
            f"{group}.{name}": value.clone()
            for group, module in modules
            for name, value in module.state_dict().items()
        }


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    toy = Toy(tmp_path_factory.mktemp("whole"))
    before = toy.weights()
    assert toy.run()
    after = toy.weights()
    assert not torch.equal(before["model.0.weight"], after["model.0.weight"])
    assert not torch.equal(after["ema.0.weight"], after["model.0.weight"])
    return after


def test_it_learns(tmp_path: Path) -> None:
    toy = Toy(tmp_path, max_train_steps=150)
    toy.run()
    lines = [json.loads(line) for line in (tmp_path / "training.log").read_text().splitlines()]
    assert lines[-1]["step"] == 150
    assert lines[-1]["loss"] < 0.5 * lines[0]["loss"]
    assert {"images_per_second", "seconds_left", "learning_rate_scale"} <= lines[-1].keys()


@pytest.mark.parametrize("killed_at", [9, 12])  # between two checkpoints, and right after one
def test_killed_and_resumed_is_bit_identical(
    tmp_path: Path, uninterrupted: dict[str, Tensor], killed_at: int
) -> None:
    class Killed(Exception):
        pass

    def kill(step: int) -> None:
        if step == killed_at:
            raise Killed

    toy = Toy(tmp_path)
    toy.on_step = kill
    with pytest.raises(Killed):
        toy.run()
    again = Toy(tmp_path, resume_from_checkpoint="latest")
    assert again.training.step == killed_at // 6 * 6
    assert again.run()
    assert_equal(again.weights(), uninterrupted)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_script_ends_with_the_status_of_the_signal(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    toy = Toy(tmp_path)
    toy.on_step = lambda step: os.kill(os.getpid(), number) if step == 7 else None
    with pytest.raises(SystemExit) as stopped:
        toy.training.complete(toy.step_fn)
    assert stopped.value.code == status
    assert (tmp_path / "checkpoint-8").is_dir()
    again = Toy(tmp_path, resume_from_checkpoint="latest")
    # A signal in the last step does not stop anything.
    again.on_step = lambda step: os.kill(os.getpid(), number) if step == 19 else None
    assert again.training.complete(again.step_fn)


@pytest.mark.parametrize("variable", ["ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID", None])
def test_a_training_ends_with_what_launched_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    for name in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "no")
    toy = Toy(tmp_path)
    toy.on_step = lambda step: monkeypatch.setattr(os, "getppid", lambda: 1) if step == 7 else None
    if variable is None:  # started by hand, so the shell may be closed
        assert toy.training.complete(toy.step_fn)
        return
    with pytest.raises(SystemExit) as stopped:
        toy.training.complete(toy.step_fn)
    assert stopped.value.code == 143 and (tmp_path / "checkpoint-8").is_dir()


def test_a_time_limit_is_no_failure(tmp_path: Path) -> None:
    toy = Toy(tmp_path, max_train_minutes=0.0)
    assert toy.training.complete(toy.step_fn) is False
    assert (tmp_path / "checkpoint-0").is_dir()


def test_one_network_and_its_average(tmp_path: Path) -> None:
    """The same as by hand: the sum of its losses is minimized, and all of them are logged."""

    def started(folder: str) -> tuple[NetworkTraining[nn.Linear], Callable[..., Any]]:
        torch.manual_seed(0)
        model = nn.Linear(3, 1)
        config = TrainingConfig(output_dir=tmp_path / folder, max_train_steps=9, lr_warmup_steps=1)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        training = NetworkTraining(config, "model", model, optimizer)

        def losses(step: int, micro: int) -> dict[str, Tensor]:
            chosen = training.indices(step, len(INPUTS), micro)
            error = model(INPUTS[chosen]) - TARGETS[chosen]
            return {"squared": error.square().mean(), "absolute": error.abs().mean()}

        return training, losses

    training, losses = started("learned")
    assert training.learn(losses) and not training.average.training
    by_hand, other = started("by hand")

    def step_fn(step: int) -> dict[str, Tensor]:
        def loss_of(micro: int) -> Tensor:
            return torch.stack([*other(step, micro).values()]).sum()

        return {"loss": by_hand.update("model", loss_of, max_grad_norm=5.0)}

    by_hand.run(step_fn)
    assert torch.equal(training.average.weight, by_hand.average.weight)
    logged = json.loads((tmp_path / "learned" / "training.log").read_text().splitlines()[-1])
    assert logged["loss"] == pytest.approx(logged["squared"] + logged["absolute"])


def test_stopped_by_a_signal_and_resumed_is_bit_identical(
    tmp_path: Path, uninterrupted: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    toy = Toy(tmp_path)
    toy.on_step = lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 7 else None
    assert not toy.run()
    assert (tmp_path / "checkpoint-8").is_dir()
    assert "SIGTERM" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is handler
    again = Toy(tmp_path, resume_from_checkpoint="latest")
    assert again.run()
    assert_equal(again.weights(), uninterrupted)


def test_time_limit_stops_with_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy = Toy(tmp_path, max_train_minutes=0.0)
    assert not toy.run()
    assert (tmp_path / "checkpoint-0" / "training.json").is_file()
    assert "max_train_minutes" in capsys.readouterr().err


def test_seed_decides(tmp_path: Path, uninterrupted: dict[str, Tensor]) -> None:
    toy = Toy(tmp_path, seed=1)
    toy.run()
    assert not torch.equal(toy.weights()["model.0.weight"], uninterrupted["model.0.weight"])


def test_accumulated_gradients_are_the_mean(tmp_path: Path) -> None:
    toy = Toy(tmp_path, gradient_accumulation_steps=2)
    model = nn.Linear(3, 1)
    training = Training(toy.config, {"m": model}, {"m": torch.optim.SGD(model.parameters(), 1.0)})
    before = model.weight.detach().clone()
    batches = INPUTS[:16].view(2, 8, 3)
    training.update("m", lambda micro: model(batches[micro]).mean())
    assert torch.allclose(before - model.weight, INPUTS[:16].mean(0, keepdim=True), atol=1e-6)
    assert training.total_batch_size == 16


def test_update_freezes_the_other_network(tmp_path: Path) -> None:
    generator, discriminator = nn.Linear(3, 3), nn.Linear(3, 1)
    training = Training(
        TrainingConfig(output_dir=tmp_path),
        {"g": generator, "d": discriminator},
        {
            "g": torch.optim.SGD(generator.parameters(), 0.1),
            "d": torch.optim.SGD(discriminator.parameters(), 0.1),
        },
    )
    old_g, old_d = generator.weight.detach().clone(), discriminator.weight.detach().clone()
    training.update("g", lambda micro: discriminator(generator(INPUTS)).mean())
    assert not torch.equal(generator.weight, old_g)
    assert torch.equal(discriminator.weight, old_d) and discriminator.weight.grad is None
    assert discriminator.weight.requires_grad
    training.update("d", lambda micro: discriminator(generator(INPUTS).detach()).mean())
    assert not torch.equal(discriminator.weight, old_d)


def test_learning_rate_warms_up_and_falls(tmp_path: Path) -> None:
    training = Toy(tmp_path, lr_warmup_steps=4, max_train_steps=24).training
    scales = [training.learning_rate_scale(step) for step in range(25)]
    assert scales[:4] == sorted(scales[:4]) and scales[4] == max(scales) == 1.0
    assert scales[14] == pytest.approx(0.5) and scales[24] == pytest.approx(0.0)
    constant = Toy(tmp_path, lr_warmup_steps=0, lr_scheduler="constant").training
    assert {constant.learning_rate_scale(step) for step in range(20)} == {1.0}


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    Toy(tmp_path, checkpointing_steps=5, checkpoints_total_limit=2).run()
    assert {path.name for path in tmp_path.glob("*checkpoint*")} == {
        "checkpoint-15",
        "checkpoint-20",
    }
    files = {path.suffix for path in (tmp_path / "checkpoint-20").rglob("*") if path.is_file()}
    assert files == {".safetensors", ".json"}


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy(tmp_path, checkpointing_steps=5)

    def full_disk(*args: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("stylegan_hub.training.save_file", full_disk)
    with pytest.raises(StorageError, match=r"checkpoint-5: No space") as caught:
        toy.run()
    assert caught.value.errno == errno.ENOSPC
    assert not [path for path in tmp_path.iterdir() if "checkpoint" in path.name]
    again = Toy(tmp_path, resume_from_checkpoint="latest")
    assert again.training.step == 0


def test_samples_go_to_a_folder(tmp_path: Path) -> None:
    toy = Toy(tmp_path, sample_steps=8)
    seen = []

    def on_sample(step: int, folder: Path) -> None:
        assert folder.is_dir()
        seen.append(step)

    toy.training.run(toy.step_fn, on_sample)
    assert seen == [8, 16, 20]


def test_latest_without_a_checkpoint_starts_afresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Toy(tmp_path, resume_from_checkpoint="latest").training.step == 0
    assert "starting a new run" in capsys.readouterr().err


def test_finished_run_has_nothing_left_to_do(
    tmp_path: Path, uninterrupted: dict[str, Tensor]
) -> None:
    Toy(tmp_path).run()
    again = Toy(tmp_path, resume_from_checkpoint="latest")
    assert again.run()
    assert_equal(again.weights(), uninterrupted)


def test_a_new_run_does_not_overwrite_an_old_one(tmp_path: Path) -> None:
    Toy(tmp_path, max_train_steps=6).run()
    with pytest.raises(ValueError, match="resume_from_checkpoint latest"):
        Toy(tmp_path).run()


def test_changed_settings_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Toy(tmp_path, max_train_steps=6).run()
    Toy(tmp_path, max_train_steps=8, resume_from_checkpoint="latest")
    assert "max_train_steps was 6, is now 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "training.json").unlink(),
        lambda folder: (folder / "training.json").write_text("{"),
        lambda folder: (folder / "models" / "model.safetensors").write_bytes(b"short"),
        lambda folder: (folder / "ema" / "model.safetensors").unlink(),
        lambda folder: (folder / "training.json").write_text('{"format_version": 99}'),
        lambda folder: (folder / "training.json").write_text("[]"),
        lambda folder: (folder / "training.json").write_text("[" * 90_000),
        lambda folder: (folder / "training.json").write_text('{"step": null, "config": {}}'),
    ],
)
def test_damaged_checkpoints_are_refused(tmp_path: Path, damage: Callable[[Path], Any]) -> None:
    Toy(tmp_path, max_train_steps=2).run()
    damage(tmp_path / "checkpoint-2")
    with pytest.raises(ValueError, match=r"Cannot resume from .*checkpoint-2.*Expected"):
        Toy(tmp_path, resume_from_checkpoint="latest")


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    Toy(tmp_path, max_train_steps=2).run()
    other = nn.Linear(5, 1)
    config = TrainingConfig(output_dir=tmp_path, resume_from_checkpoint="latest")
    with pytest.raises(ValueError, match="same model settings"):
        Training(config, {"model": other}, {"model": torch.optim.Adam(other.parameters())})


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    with pytest.raises(FloatingPointError, match="'loss' became nan"):
        toy.training.run(lambda step: {"loss": float("nan")})
    assert not list(tmp_path.glob("checkpoint-*"))


def test_absent_tensorboard_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        Toy(tmp_path / "run", report_to="tensorboard")
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_the_losses(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    Toy(tmp_path, report_to="tensorboard", max_train_steps=2).run()
    assert list(tmp_path.rglob("events.out.tfevents*"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train_batch_size", 0),
        ("max_train_steps", -1),
        ("learning_rate", 0.0),
        ("lr_scheduler", "linear"),
        ("report_to", "wandb"),
    ],
)
def test_bad_settings_are_named(tmp_path: Path, field: str, value: object) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match=field):
        TrainingConfig(output_dir=tmp_path, **changes)


def test_average_of_an_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\['other'\].*\['model'\]"):
        Training(
            TrainingConfig(output_dir=tmp_path),
            {"model": nn.Linear(1, 1)},
            {},
            ema={"other": nn.Linear(1, 1)},
        )


def test_random_draws_depend_on_seed_step_and_pass(tmp_path: Path) -> None:
    training = Toy(tmp_path).training
    draws = {
        torch.rand((), generator=training.generator(step, micro, shared=shared)).item()
        for step in range(3)
        for micro in range(2)
        for shared in (False, True)
    }
    assert len(draws) == 12
    other = Training(dataclasses.replace(training.config, seed=1), {}, {})
    assert not torch.equal(training.indices(0, 1000), other.indices(0, 1000))
    assert torch.equal(training.indices(4, 1000), training.indices(4, 1000))


PROGRAM = """
import sys
from pathlib import Path
import torch
from torch import nn
from safetensors.torch import save_file
from stylegan_hub.training import Training, TrainingConfig

torch.manual_seed(int(sys.argv[3]))  # processes may begin differently: the main one's weights win
model = nn.Linear(3, 1)
config = TrainingConfig(
    output_dir=Path(sys.argv[1]), train_batch_size=int(sys.argv[2]), max_train_steps=12,
    lr_warmup_steps=2, checkpointing_steps=5, gradient_accumulation_steps=2,
)
training = Training(config, {"m": model}, {"m": torch.optim.Adam(model.parameters(), 0.1)})
inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))

def step_fn(step):
    def loss_of(micro):
        chosen = inputs[training.indices(step, 64, micro)]
        return (model(chosen) - chosen.sum(1, keepdim=True)).square().mean()
    return {"loss": training.update("m", loss_of, max_grad_norm=1.0)}

assert training.run(step_fn)
if training.accelerator.is_main_process:
    save_file(model.state_dict(), config.output_dir / "result.safetensors")
"""


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    runs = {"one": ([sys.executable], "8"), "two": ([*torchrun, "--nproc_per_node", "2"], "4")}
    for name, (launcher, batch) in runs.items():
        command = [*launcher, str(program), str(tmp_path / name), batch, "3"]
        run_program(command)
    one, two = (load_file(tmp_path / name / "result.safetensors") for name in runs)
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=1e-5), name
