"""The training loop that all recipes share, on top of accelerate.

A run depends only on its config: every random number follows from (seed, step, process), so a run
that was killed and resumed ends with the same weights, bit for bit on a CPU, as one that was never
interrupted; there is no data-loader state to save. Several processes give the same result as one
process with the same global batch.

Gradients are averaged over the processes here, after the backward pass, as in NVIDIA's StyleGAN2
training loop. Models are not wrapped in DistributedDataParallel, so a model keeps its own methods
(``mapping``, ``synthesis``), and one network of a GAN can be used while the other is trained.
Checkpoints consist of safetensors and json only; nothing in them can run code when it is read.

A recipe with one optimizer uses `NetworkTraining`::

    training = NetworkTraining(config, "reader", reader, optimizer)
    if training.learn(losses):  # losses(step, micro) gives the losses of a batch by name
        training.average.save_pretrained(...)

Other recipes call `Training.run` or `Training.complete` with a function of the step. For a GAN,
this function calls ``training.update`` twice, once for each optimizer.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib.util
import json
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Literal, TypeVar, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.utils import broadcast
from jaxtyping import Shaped
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from stylegan_hub.artifacts import RUN_CONFIG_NAME, check_room
from stylegan_hub.memory import keep_freed_memory
from stylegan_hub.steps import ramp, seed_of, step_random
from stylegan_hub.storage import errors_of_the_system, staged

CHECKPOINT_FORMAT = 1
# Set by `accelerate launch` and by torchrun for the processes that they start.
_LAUNCHED = {"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"}
# NVIDIA's stylegan2 configs: the average reaches back over at most 5 % of the images seen so far.
EMA_RAMPUP = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The options of every recipe; a recipe adds its own fields in a subclass."""

    output_dir: Path
    """Folder of the run: checkpoints, samples, log."""
    seed: int = 0
    """Seed of all random numbers in the run."""
    train_batch_size: int = 16
    """Images per process and forward pass."""
    max_train_steps: int = 1000
    """Optimizer steps of the whole run, including those before it was resumed."""
    learning_rate: float = 1e-3
    """Peak learning rate, after the warm-up."""
    lr_scheduler: Literal["constant", "cosine"] = "cosine"
    """Schedule of the learning rate after the warm-up; cosine reaches 0 at max_train_steps."""
    lr_warmup_steps: int = 100
    """Steps over which the learning rate rises linearly."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    """Precision of the forward pass; fp16 needs a GPU."""
    checkpointing_steps: int = 500
    """Steps between two checkpoints."""
    checkpoints_total_limit: int = 2
    """Number of checkpoints to keep; the oldest are deleted first."""
    resume_from_checkpoint: str | None = None
    """"latest" (which starts a new run if there is none) or the folder of a checkpoint."""
    sample_steps: int = 500
    """Steps between two sample sheets."""
    report_to: Literal["tensorboard"] | None = None
    """Tracker that losses are also sent to."""
    max_train_minutes: float | None = None
    """Save a checkpoint and stop after this many minutes; None = no limit."""
    logging_seconds: float = 10.0
    """Seconds between two lines of the log."""

    def __post_init__(self) -> None:
        at_least_one = (
            "train_batch_size",
            "max_train_steps",
            "gradient_accumulation_steps",
            "checkpointing_steps",
            "checkpoints_total_limit",
            "sample_steps",
        )
        for name in at_least_one:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more.")
        if self.lr_warmup_steps < 0 or self.learning_rate <= 0:
            raise ValueError(
                f"Got learning_rate {self.learning_rate} and lr_warmup_steps "
                f"{self.lr_warmup_steps}; expected a positive rate and 0 or more steps."
            )
        if self.lr_scheduler not in ("constant", "cosine"):
            raise ValueError(
                f"Unknown lr_scheduler {self.lr_scheduler!r}; use 'constant' or 'cosine'."
            )
        if self.report_to not in (None, "tensorboard"):
            raise ValueError(
                f"Unknown report_to {self.report_to!r}; use 'tensorboard' or leave it out."
            )

    def check_output_dir(self) -> None:
        """Check before the training that the output folder is free.

        This is for recipes whose output folder is the artifact. The folder of an earlier run is
        accepted, since all its files belong to that run.

        Raises:
            ArtifactError: the folder holds other files, which would be mixed with the artifact.
        """
        if not (self.output_dir / RUN_CONFIG_NAME).is_file():
            remedy = "Choose another --output_dir, or move these files away."
            check_room(self.output_dir, remedy=remedy)


def training_device() -> torch.device:
    """The device of this process, for tensors that are needed before its `Training` exists."""
    return PartialState(cpu=not torch.accelerator.is_available()).device


class Training:
    """One run: models, optimizers, averages, the current step, and resuming from a checkpoint.

    Attributes:
        accelerator: device, processes and precision.
        models: the trained modules, on the device, not wrapped.
        optimizers: by name; the learning rate that they are given with is their peak rate.
        ema: exponential moving averages of the models of the same name, in eval mode.
        step: optimizer steps done so far.
        total_batch_size: images per optimizer step, over all processes and accumulated passes. A
            recipe whose batch size changes must set it; the averages and the images/s in the log
            are computed from it.
    """

    def __init__(
        self,
        config: TrainingConfig,
        models: Mapping[str, nn.Module],
        optimizers: Mapping[str, Optimizer],
        *,
        ema: Mapping[str, nn.Module] | None = None,
        ema_half_life: float = 10_000,
        ema_decay: float | None = None,
    ) -> None:
        """Set the run up, and load the checkpoint that ``config.resume_from_checkpoint`` names.

        Args:
            ema: modules (usually ``copy.deepcopy`` of a model) that follow the model of that name.
            ema_half_life: in images; shorter at the beginning of the run.
            ema_decay: factor per step, used instead of the half-life when given.

        Raises:
            ImportError: ``report_to`` names a package that is not installed.
            ValueError: the checkpoint does not fit, or ``ema`` names an unknown model.
        """
        if config.report_to is not None and importlib.util.find_spec(config.report_to) is None:
            raise ImportError(
                f"report_to is {config.report_to!r}, which is not installed; "
                f"`pip install {config.report_to}` or leave report_to out."
            )
        unknown = set(ema or {}) - set(models)
        if unknown:
            raise ValueError(
                f"ema follows unknown models {sorted(unknown)}; the models are {sorted(models)}."
            )
        keep_freed_memory()
        self.config = config
        self.accelerator = Accelerator(
            cpu=not torch.accelerator.is_available(),
            mixed_precision=config.mixed_precision,
            log_with=config.report_to,
            project_dir=config.output_dir,
        )
        device = self.accelerator.device
        self.models = {name: model.to(device) for name, model in models.items()}
        self.ema = {
            name: model.to(device).eval().requires_grad_(False)
            for name, model in (ema or {}).items()
        }
        self.ema_half_life = ema_half_life
        self.ema_decay = ema_decay
        self.optimizers: dict[str, AcceleratedOptimizer] = {
            name: self.accelerator.prepare_optimizer(optimizer)
            for name, optimizer in optimizers.items()
        }
        self._peak_rates = {
            name: [group["lr"] for group in optimizer.param_groups]
            for name, optimizer in self.optimizers.items()
        }
        self.step = 0
        self.total_batch_size = self._global_batch_size * config.gradient_accumulation_steps
        self._stop_reason: str | None = None
        self._stop_signal: signal.Signals | None = None
        self._launcher = os.getppid() if _LAUNCHED & os.environ.keys() else None
        self._resume()
        self._broadcast_models()

    # ------------------------------------------------------------------ randomness and batches

    @property
    def _global_batch_size(self) -> int:
        """Images per forward pass, over all processes."""
        return self.config.train_batch_size * self.accelerator.num_processes

    def generator(self, step: int, micro: int = 0, *, shared: bool = False) -> torch.Generator:
        """A CPU generator that depends on the seed, the step, the pass within it and the process.

        Args:
            micro: index of the accumulated pass.
            shared: return the same generator in every process, to draw a global batch.
        """
        process: int | Literal["shared"] = "shared" if shared else self.accelerator.process_index
        return step_random(self.config.seed, step, micro, process)

    def shard(self, indices: Shaped[Tensor, "n ..."]) -> Shaped[Tensor, "m ..."]:
        """This process's slice of a global batch: ``m = n / processes`` rows.

        Raises:
            ValueError: n is not a multiple of the number of processes.
        """
        processes = self.accelerator.num_processes
        if len(indices) % processes:
            raise ValueError(
                f"A global batch of {len(indices)} cannot be split over {processes} processes; "
                f"use a multiple of {processes}."
            )
        size = len(indices) // processes
        return indices[self.accelerator.process_index * size :][:size]

    def indices(self, step: int, population: int, micro: int = 0) -> Shaped[Tensor, " m"]:
        """This process's share of a batch drawn from ``range(population)`` with replacement."""
        generator = self.generator(step, micro, shared=True)
        return self.shard(
            torch.randint(population, (self._global_batch_size,), generator=generator)
        )

    # ------------------------------------------------------------------ one update

    def minimize(
        self,
        name: str,
        losses_fn: Callable[[int], Mapping[str, Tensor]],
        *,
        max_grad_norm: float | None = None,
    ) -> dict[str, Tensor]:
        """`update` with named losses, which are returned in the form that `run` logs.

        Args:
            losses_fn: gives the scalar losses of accumulated pass 0, 1, ...; the one named "loss"
                is minimized, or their sum if none has that name.

        Returns:
            "loss", the mean over the passes, and the other losses of the last pass, detached.
        """
        parts: dict[str, Tensor] = {}

        def loss_fn(micro: int) -> Tensor:
            losses = losses_fn(micro)
            parts.update({name: loss.detach() for name, loss in losses.items()})
            return losses["loss"] if "loss" in losses else torch.stack([*losses.values()]).sum()

        loss = self.update(name, loss_fn, max_grad_norm=max_grad_norm)  # it fills the parts
        return {**parts, "loss": loss}

    def learning_rate_scale(self, step: int) -> float:
        """Factor in [0, 1] on the peak learning rates at a step."""
        config = self.config
        fall = 0 if config.lr_scheduler == "constant" else None
        return ramp(step, config.max_train_steps, config.lr_warmup_steps, fall)

    def update(
        self,
        name: str,
        loss_fn: Callable[[int], Tensor],
        *,
        max_grad_norm: float | None = None,
    ) -> Tensor:
        """Do one step of one optimizer; the parameters of the others are frozen during it.

        Args:
            name: of the optimizer.
            loss_fn: gives the scalar loss (a mean over this process's images) of accumulated pass
                0, 1, ...; called under autocast when the run has mixed precision.
            max_grad_norm: clip the global gradient norm to this value; no clipping when None.

        Returns:
            The mean loss over the passes, detached, of this process.
        """
        optimizer = self.optimizers[name]
        optimizer.zero_grad()
        passes = self.config.gradient_accumulation_steps
        total = torch.zeros((), device=self.accelerator.device)
        with self._only_trains(name):
            for micro in range(passes):
                with self.accelerator.autocast():
                    loss = loss_fn(micro) / passes
                self.accelerator.backward(loss)
                total += loss.detach()
        parameters = _parameters(optimizer)
        self._average_gradients(parameters)
        if max_grad_norm is not None:
            self.accelerator.unscale_gradients(optimizer)
            nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        optimizer.step()
        return total

    @contextmanager
    def _only_trains(self, name: str) -> Iterator[None]:
        own = {id(parameter) for parameter in _parameters(self.optimizers[name])}
        others = [
            parameter
            for optimizer in self.optimizers.values()
            for parameter in _parameters(optimizer)
            if parameter.requires_grad and id(parameter) not in own
        ]
        for parameter in others:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def _average_gradients(self, parameters: list[nn.Parameter]) -> None:
        if self.accelerator.num_processes == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        flat = self.accelerator.reduce(flat, reduction="mean")
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    @torch.no_grad()
    def _update_ema(self) -> None:
        if self.ema_decay is not None:
            decay = min(self.ema_decay, (1 + self.step) / (10 + self.step))
        else:
            images = self.step * self.total_batch_size
            half_life = max(min(self.ema_half_life, images * EMA_RAMPUP), 1e-8)
            decay = 0.5 ** (self.total_batch_size / half_life)
        for name, average in self.ema.items():
            model = self.models[name]
            for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(parameter, 1 - decay)
            for copied, buffer in zip(average.buffers(), model.buffers(), strict=True):
                copied.copy_(buffer)

    # ------------------------------------------------------------------ the loop

    def run(
        self,
        step_fn: Callable[[int], Mapping[str, float | Tensor]],
        on_sample: Callable[[int, Path], None] | None = None,
    ) -> bool:
        """Train until ``max_train_steps``, the time limit, SIGTERM or Ctrl-C, and save at the end.

        Args:
            step_fn: does step 0, 1, ... (usually through `update`) and returns named losses. The
                global random state is seeded before each call.
            on_sample: called in the main process alone, every ``sample_steps`` and at the end,
                with the number of steps done and an existing folder to write into.

        Returns:
            True if ``max_train_steps`` was reached, False if the run stopped earlier.

        Raises:
            ValueError: ``output_dir`` holds a later checkpoint than the step where this run begins.
            FloatingPointError: a loss is not finite; the last checkpoint is left unchanged.
        """
        config = self.config
        self._start_output()
        deadline = math.inf
        if config.max_train_minutes is not None:
            deadline = time.monotonic() + 60 * config.max_train_minutes
        self._stop_reason = self._stop_signal = None
        log = _Log(self, deadline)
        with _stop_on_signals(self._request_stop), log:
            while self.step < config.max_train_steps and not self._must_stop(deadline):
                process = self.accelerator.process_index
                torch.manual_seed(seed_of(config.seed, self.step, process, "global"))
                self._set_learning_rates()
                log.add(step_fn(self.step))
                self._update_ema()
                self.step += 1
                log.advance()
                ended = self.step == config.max_train_steps
                if self.step % config.checkpointing_steps == 0 and not ended:
                    log.check_finite()
                    self.save_checkpoint()
                if on_sample is not None and (self.step % config.sample_steps == 0 or ended):
                    self._sample(on_sample)
            log.write()
            if not self._checkpoint_folder(self.step).exists():
                self.save_checkpoint()
        finished = self.step >= config.max_train_steps
        if not finished:
            self._say(
                f"Stopped after {self.step} of {config.max_train_steps} steps "
                f"({self._stop_reason or 'another process was told to stop'}); "
                f"continue with --resume_from_checkpoint latest."
            )
        self.accelerator.end_training()
        return finished

    def complete(
        self,
        step_fn: Callable[[int], Mapping[str, float | Tensor]],
        on_sample: Callable[[int, Path], None] | None = None,
    ) -> bool:
        """`run` for a script; returns whether this process should now write what was learned.

        That is True in the main process if `max_train_steps` was reached.

        Raises:
            SystemExit: a signal ended the run, which is saved; the status is that of the signal,
                130 for Ctrl-C and 143 for SIGTERM. The end of the launcher counts as SIGTERM.
            ValueError, FloatingPointError: see `run`.
        """
        finished = self.run(step_fn, on_sample)
        if not finished and self._stop_signal is not None:
            raise SystemExit(128 + self._stop_signal)
        return finished and self.accelerator.is_main_process

    def _start_output(self) -> None:
        """Write the config and open the trackers; refuse a folder with a later checkpoint."""
        later = [step for step in self._checkpoint_steps() if step > self.step]
        if later:
            raise ValueError(
                f"{self.config.output_dir} holds checkpoint-{later[-1]}, which is later than step "
                f"{self.step}, where this run begins. Use --resume_from_checkpoint latest or "
                f"another --output_dir, or move the old checkpoints away."
            )
        if self.accelerator.is_main_process:
            self.config.output_dir.mkdir(parents=True, exist_ok=True)
            _write_json(self.config.output_dir / RUN_CONFIG_NAME, _plain(self.config))
        if self.config.report_to is not None:
            self.accelerator.init_trackers("tensorboard", config=_plain(self.config, flat=True))
        self.accelerator.wait_for_everyone()

    def _set_learning_rates(self) -> None:
        scale = self.learning_rate_scale(self.step)
        for name, optimizer in self.optimizers.items():
            for group, peak in zip(optimizer.param_groups, self._peak_rates[name], strict=True):
                group["lr"] = peak * scale

    def _sample(self, on_sample: Callable[[int, Path], None]) -> None:
        if self.accelerator.is_main_process:
            folder = self.config.output_dir / "samples"
            folder.mkdir(exist_ok=True)
            on_sample(self.step, folder)
        self.accelerator.wait_for_everyone()

    def _request_stop(self, number: signal.Signals) -> None:
        self._stop_reason, self._stop_signal = f"signal {number.name}", number

    def _must_stop(self, deadline: float) -> bool:
        """The same answer in every process, so that none waits for one that has stopped."""
        # A launcher does not pass a signal to end on; the training would continue unnoticed.
        if self._launcher not in (None, os.getppid()) and self._stop_reason is None:
            self._request_stop(signal.SIGTERM)
        if self._stop_reason is None and time.monotonic() > deadline:
            self._stop_reason = f"max_train_minutes = {self.config.max_train_minutes:g} is over"
        if self.accelerator.num_processes == 1:
            return self._stop_reason is not None
        votes = torch.tensor(float(self._stop_reason is not None), device=self.accelerator.device)
        return bool(self.accelerator.reduce(votes, reduction="sum") > 0)

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            tqdm.write(text, file=sys.stderr)
            sys.stderr.flush()

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self) -> Path:
        """Write ``output_dir/checkpoint-{step}``, whole or not at all, then delete the oldest.

        Raises:
            StorageError: the disk refuses; earlier checkpoints are unchanged.
        """
        folder = self._checkpoint_folder(self.step)
        self._broadcast_models()
        if self.accelerator.is_main_process:
            with staged(folder) as partial:
                self._write_checkpoint(partial)
            for step in self._checkpoint_steps()[: -self.config.checkpoints_total_limit]:
                shutil.rmtree(self._checkpoint_folder(step))
        self.accelerator.wait_for_everyone()
        return folder

    def _write_checkpoint(self, folder: Path) -> None:
        with errors_of_the_system():
            for group, modules in (("models", self.models), ("ema", self.ema)):
                (folder / group).mkdir()
                for name, module in modules.items():
                    save_model(module, str(folder / group / f"{name}.safetensors"))
            values: dict[str, dict[str, Any]] = {}
            (folder / "optimizers").mkdir()
            for name, optimizer in self.optimizers.items():
                tensors, values[name] = _flatten_state(optimizer)
                save_file(tensors, str(folder / "optimizers" / f"{name}.safetensors"))
        scaler = self.accelerator.scaler
        _write_json(
            folder / "training.json",
            {
                "format_version": CHECKPOINT_FORMAT,
                "step": self.step,
                "optimizers": values,
                "scaler": None if scaler is None else scaler.state_dict(),
                "config": _plain(self.config),
            },
        )
        for path in (*folder.rglob("*"), folder):
            _flush_to_disk(path)

    def _checkpoint_folder(self, step: int) -> Path:
        return self.config.output_dir / f"checkpoint-{step}"

    def _checkpoint_steps(self) -> list[int]:
        """Steps of the checkpoints in the output folder, in ascending order."""
        names = (path.name for path in self.config.output_dir.glob("checkpoint-*"))
        numbers = (name.removeprefix("checkpoint-") for name in names)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def _resume(self) -> None:
        wanted = self.config.resume_from_checkpoint
        if wanted is None:
            return
        if wanted == "latest":
            steps = self._checkpoint_steps()
            if not steps:
                self._say(f"No checkpoint in {self.config.output_dir} yet: starting a new run.")
                return
            folder = self._checkpoint_folder(steps[-1])
        else:
            folder = Path(wanted)
        self._load_checkpoint(folder)
        self._say(f"Resuming from {folder} at step {self.step}.")

    def _load_checkpoint(self, folder: Path) -> None:
        try:
            state = json.loads((folder / "training.json").read_text())
            step, before = int(state["step"]), dict(state["config"])
            if state["format_version"] > CHECKPOINT_FORMAT:
                raise ValueError(
                    f"it has format version {state['format_version']}, this library reads up to "
                    f"{CHECKPOINT_FORMAT}"
                )
            for group, modules in (("models", self.models), ("ema", self.ema)):
                for name, module in modules.items():
                    load_model(module, folder / group / f"{name}.safetensors")
            for name, optimizer in self.optimizers.items():
                tensors = load_file(folder / "optimizers" / f"{name}.safetensors")
                _restore_state(optimizer, tensors, state["optimizers"][name])
            if self.accelerator.scaler is not None and state["scaler"] is not None:
                self.accelerator.scaler.load_state_dict(state["scaler"])
        except (
            OSError, LookupError, RuntimeError, SafetensorError, TypeError, ValueError,
            AttributeError,
        ) as error:  # fmt: skip
            raise ValueError(
                f"Cannot resume from {folder}: {error}. Expected a checkpoint folder of this "
                f"recipe with the same model settings. Choose another, or start a new run in a "
                f"new output_dir."
            ) from error
        self.step = step
        free_to_change = {"output_dir", "resume_from_checkpoint"}
        for name, value in _plain(self.config).items():
            if name not in free_to_change and before.get(name) != value:
                self._say(
                    f"Changed since the checkpoint: {name} was {before.get(name)}, is now {value}."
                )

    def _broadcast_models(self) -> None:
        """Copy the weights and buffers of the main process to all others."""
        if self.accelerator.num_processes == 1:
            return
        for module in (*self.models.values(), *self.ema.values()):
            for tensor in (*module.parameters(), *module.buffers()):
                broadcast(tensor.data)


_Network = TypeVar("_Network", bound=nn.Module)


class NetworkTraining(Training, Generic[_Network]):
    """The training of one network; its average over the last steps is the result.

        training = NetworkTraining(config, "reader", reader, optimizer)
        if training.learn(losses):
            training.average.save_pretrained(...)

    Args:
        name: of the network in checkpoints.
        optimizer: for the network and the modules that are trained with it.
        beside: modules, by name, that are trained with the network and then discarded.
        half_life: of the average, in images; 50 batches when None.

    Raises:
        ImportError, ValueError: see `Training`.
    """

    def __init__(
        self,
        config: TrainingConfig,
        name: str,
        network: _Network,
        optimizer: Optimizer,
        *,
        beside: Mapping[str, nn.Module] | None = None,
        half_life: float | None = None,
    ) -> None:
        super().__init__(
            config,
            {name: network, **(beside or {})},
            {name: optimizer},
            ema={name: copy.deepcopy(network)},
            ema_half_life=50 * config.train_batch_size if half_life is None else half_life,
        )
        self._name = name

    @property
    def average(self) -> _Network:
        """The averaged network, in eval mode."""
        return cast(_Network, self.ema[self._name])

    def learn(
        self,
        losses_fn: Callable[[int, int], Mapping[str, Tensor]],
        on_sample: Callable[[int, Path], None] | None = None,
        *,
        max_grad_norm: float | None = 5.0,
    ) -> bool:
        """`complete` with one update in each step.

        Args:
            losses_fn: gives the losses for a step and an accumulated pass in it, see `minimize`.
            on_sample, max_grad_norm: see `run` and `update`.
        """

        def step_fn(step: int) -> Mapping[str, Tensor]:
            return self.minimize(
                self._name, lambda micro: losses_fn(step, micro), max_grad_norm=max_grad_norm
            )

        return self.complete(step_fn, on_sample)


class _Log:
    """Progress bar, log file and trackers of one run; it averages losses between two lines."""

    def __init__(self, training: Training, deadline: float) -> None:
        self._training = training
        self._deadline = deadline
        self._main = training.accelerator.is_main_process
        self._sums: dict[str, float | Tensor] = {}
        self._counts: dict[str, int] = {}
        self._written_at = time.monotonic()
        self._written_step = training.step
        self._is_terminal = sys.stderr.isatty()

    def __enter__(self) -> _Log:
        config = self._training.config
        self._bar = tqdm(
            total=config.max_train_steps,
            initial=self._training.step,
            unit="step",
            dynamic_ncols=True,
            disable=not (self._main and self._is_terminal),
        )
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, losses: Mapping[str, float | Tensor]) -> None:
        for name, loss in losses.items():
            value = loss.detach() if isinstance(loss, Tensor) else loss
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def advance(self) -> None:
        self._bar.update()
        first = self._written_step == self._training.step - 1 and self._training.step == 1
        due = time.monotonic() - self._written_at >= self._training.config.logging_seconds
        if first or due:
            self.write()

    def check_finite(self) -> dict[str, float]:
        """Mean losses since the last line; raises `FloatingPointError` if one is not finite."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise FloatingPointError(
                    f"Loss {name!r} became {mean} between steps {self._written_step} and "
                    f"{self._training.step}; resume from the last checkpoint with a lower "
                    f"learning_rate or without fp16."
                )
        return means

    def write(self) -> None:
        """Write one line: mean losses since the last one, speed, time left."""
        training = self._training
        steps = training.step - self._written_step
        if steps == 0:
            return
        means = self.check_finite()
        now = time.monotonic()
        seconds_per_step = (now - self._written_at) / steps
        steps_left = training.config.max_train_steps - training.step
        seconds_left = min(steps_left * seconds_per_step, max(0.0, self._deadline - now))
        speed = training.total_batch_size / max(seconds_per_step, 1e-9)
        self._written_at, self._written_step = now, training.step
        self._sums, self._counts = {}, {}
        if not self._main:
            return
        line = {
            "step": training.step,
            **means,
            "learning_rate_scale": training.learning_rate_scale(training.step - 1),
            "images_per_second": speed,
            "seconds_left": seconds_left,
        }
        with (training.config.output_dir / "training.log").open("a") as file:
            file.write(json.dumps(line) + "\n")
        losses = " ".join(f"{name} {mean:.4g}" for name, mean in means.items())
        speed_and_time = f"{speed:.3g} images/s, {_clock(seconds_left)} left"
        if self._is_terminal:
            self._bar.set_postfix_str(f"{losses}, {speed_and_time}")
        else:
            training._say(
                f"step {training.step}/{training.config.max_train_steps} {losses}, {speed_and_time}"
            )
        if training.config.report_to is not None:
            values = {name: value for name, value in line.items() if name != "step"}
            training.accelerator.log(values, step=training.step)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _flatten_state(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Optimizer state as tensors and plain values, both by ``{parameter index}.{key}``.

    Learning rates and other settings are left out: they come from the config of the resumed run.
    """
    tensors: dict[str, Tensor] = {}
    values: dict[str, Any] = {}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value.contiguous()
            else:
                values[f"{index}.{key}"] = value
    return tensors, values


def _restore_state(
    optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    parameters = _parameters(optimizer)
    state: dict[int, dict[str, Any]] = {}
    for name, value in (*tensors.items(), *values.items()):
        index, key = name.split(".", 1)
        if int(index) >= len(parameters):
            raise ValueError(
                f"the optimizer state names parameter {index}, but there are {len(parameters)}"
            )
        shape = parameters[int(index)].shape
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape != shape:
            raise ValueError(
                f"optimizer state {name} has shape {tuple(value.shape)}, but its parameter has "
                f"{tuple(shape)}"
            )
        state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict(
        {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
    )


@contextmanager
def _stop_on_signals(request_stop: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Turn the first SIGTERM or Ctrl-C into a request to stop; a second one acts as usual."""
    before: dict[int, Any] = {}

    def on_signal(number: int, frame: FrameType | None) -> None:
        request_stop(signal.Signals(number))
        signal.signal(number, before[number])

    try:
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, on_signal)
    except ValueError:  # only the main thread may handle signals; other threads change nothing
        pass
    try:
        yield
    finally:
        for handled, handler in before.items():
            signal.signal(handled, handler)


def _plain(config: TrainingConfig, *, flat: bool = False) -> dict[str, Any]:
    """Config as json values; ``flat`` turns all but numbers, strings and booleans into strings."""
    kept = (bool, int, float, str) if flat else (bool, int, float, str, type(None))
    values = dataclasses.asdict(config)
    return {
        name: value if isinstance(value, kept) else _plain_value(value, flat)
        for name, value in values.items()
    }


def _plain_value(value: Any, flat: bool) -> Any:
    if not flat and isinstance(value, list | tuple):
        return [_plain_value(item, flat) for item in value]
    return value if isinstance(value, bool | int | float) else str(value)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
