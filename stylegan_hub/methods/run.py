"""Methods that train step by step, in Python, on the page or under accelerate.

A `TrainableMethod` starts a `Run`. `find` carries it out in this process. `recipes/train.py`
carries out the same run with checkpoints, several processes and mixed precision; with its default
options it gives the same edit bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Method, Request
from stylegan_hub.steps import OnStep, Step, ramp, step_random

Share = tuple[int, int]
"""The index of a process and the number of processes; `(0, 1)` is all of the work."""


class RunSettings(Protocol):
    """The settings that every trainable method has."""

    @property
    def steps(self) -> int:
        """Number of steps."""

    @property
    def lr(self) -> float:
        """Peak learning rate."""

    @property
    def batch_size(self) -> int:
        """Faces per step."""

    @property
    def seed(self) -> int:
        """Seed of all random numbers."""


_Settings = TypeVar("_Settings", bound=RunSettings)


class Run(nn.Module, ABC):
    """A search in progress; its parameters are learned, and with its buffers they are its state.

    Attributes:
        max_grad_norm: longer gradients are shortened to this length; None leaves them.
        count: number of edits that it gives.
        remarks: sentences to show before it begins.
    """

    max_grad_norm: float | None = None
    count: int = 1
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer for its parameters, at peak learning rates."""

    @abstractmethod
    def losses(
        self, step: int, random: torch.Generator, share: Share = (0, 1)
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses of a step: "loss", which is minimized, and its parts without weights.

        Args:
            step: 0, 1, ...; it determines the faces. If a step accumulates several passes, this is
                the number of the pass.
            random: for everything else that is random; the same in every process.
            share: this process's part of the work; gradients are averaged.
        """

    @abstractmethod
    def shown(self, latents: Latents | None = None) -> Float[Tensor, "n 3 h w"]:
        """Pictures with the current edit, of these faces or of one that the run chooses."""

    @abstractmethod
    def edits(self) -> list[Edit]:
        """The edits that were learned, the best first."""

    def note(self, losses: dict[str, Tensor]) -> str:
        """What to show of a step besides its loss."""
        return f"similarity {1 - float(losses['clip']):.3f}" if "clip" in losses else ""


class Course:
    """A run that is carried out step by step; it can pause after any step and continue later.

        course = method.begin(pipe, Words("a face with an afro"))
        while not course.is_over:
            losses = course.advance()
        edit = course.edits()[0]

    Attributes:
        run: the run that is carried out.
        index, total: steps done so far, and steps of the whole run.
    """

    def __init__(
        self, run: Run, settings: RunSettings, finish: Callable[[Edit], Edit] = lambda edit: edit
    ) -> None:
        """Set the run to its first step.

        Args:
            finish: applied to each edit that `edits` returns.
        """
        self.run, self.index, self.total = run, 0, settings.steps
        self._seed, self._finish = settings.seed, finish
        self._optimizer = run.optimizer()
        self._rates = [group["lr"] for group in self._optimizer.param_groups]

    @property
    def is_over(self) -> bool:
        """Whether all steps are done."""
        return self.index >= self.total

    def advance(self) -> dict[str, Tensor]:
        """Do the next step and return its losses, detached.

        Raises:
            ValueError: all steps are done.
        """
        if self.is_over:
            raise ValueError(f"All {self.total} steps are done; call edits() for the result.")
        run, groups = self.run, self._optimizer.param_groups
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * ramp(self.index, self.total)
        with torch.enable_grad():  # also inside a caller's no_grad
            losses = run.losses(self.index, step_random(self._seed, self.index))
            self._optimizer.zero_grad()
            losses["loss"].backward()
        if run.max_grad_norm is not None:
            parameters = [p for group in groups for p in group["params"]]
            nn.utils.clip_grad_norm_(parameters, run.max_grad_norm)
        self._optimizer.step()
        self.index += 1
        return {name: loss.detach() for name, loss in losses.items()}

    def edits(self) -> list[Edit]:
        """The edits learned so far, the best first."""
        return [self._finish(edit) for edit in self.run.edits()]

    def state_dict(self) -> dict[str, Any]:
        """Its progress. A new course of the same request and settings continues from it."""
        return {
            "index": self.index,
            "run": self.run.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the progress of an equal course, see `state_dict`.

        Raises:
            RuntimeError, ValueError: it is the progress of another kind of run.
        """
        self.run.load_state_dict(state["run"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.index = state["index"]


class TrainableMethod(Method[_Settings]):
    """A method whose search is a `Run`; it implements `start` instead of `search`.

    Attributes:
        takes_faces: whether `start` also takes `faces=`: latents to train on instead of random
            ones, in any space up to that of the search.
    """

    trainable: ClassVar[bool] = True
    takes_faces: ClassVar[bool] = False

    @abstractmethod
    def start(self, domain: Domain, request: Any, face: Latents | None, settings: _Settings) -> Run:
        """A run at its first step; arguments are those of `search`."""

    def search(
        self,
        domain: Domain,
        request: Any,
        face: Latents | None,
        settings: _Settings,
        on_step: OnStep | None,
    ) -> Edit:
        """Carry out a run and return its best edit."""
        return self._carried_out(domain, request, face, settings, on_step).edits()[0]

    def find_all(
        self,
        domain: Domain,
        request: Request | str | Any,
        face: Latents | None = None,
        *,
        label: Any = None,
        settings: _Settings | str | None = None,
        on_step: OnStep | None = None,
    ) -> list[Edit]:
        """All edits of a run, the best first."""
        domain, asked, face, chosen = self.prepared(domain, request, face, label, settings)
        run = self._carried_out(domain, asked, face, chosen, on_step)
        return [self.finished(edit, domain, asked, face) for edit in run.edits()]

    def begin(
        self,
        domain: Domain,
        request: Request | str | Any,
        face: Latents | None = None,
        *,
        label: Any = None,
        settings: _Settings | str | None = None,
    ) -> Course:
        """A run for the caller to carry out; it gives the same edits as `find_all`.

        Arguments and errors are those of `find_all`.
        """
        domain, asked, face, chosen = self.prepared(domain, request, face, label, settings)
        run = self.start(domain, asked, face, chosen)
        return Course(run, chosen, lambda edit: self.finished(edit, domain, asked, face))

    def _carried_out(
        self,
        domain: Domain,
        request: Any,
        face: Latents | None,
        settings: _Settings,
        on_step: OnStep | None,
    ) -> Run:
        course = Course(self.start(domain, request, face, settings), settings)
        while not course.is_over:
            losses = course.advance()
            if on_step is not None:
                with torch.no_grad():
                    images = course.run.shown()
                done = (course.index, course.total, images, float(losses["loss"]))
                on_step(Step(*done, course.run.note(losses)))
        return course.run
