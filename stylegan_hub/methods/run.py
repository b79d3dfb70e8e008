"""Methods that train: what is learned, step by step, in Python, on the page or under accelerate.

A `TrainableMethod` starts a `Run`. `find` carries it out in this process; `recipes/train.py`
carries out the same run with checkpoints, several processes and mixed precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Method, Request
from stylegan_hub.steps import OnStep, Step, ramp

Share = tuple[int, int]
"""A process and how many there are: `(0, 1)` is all of the work."""


class RunSettings(Protocol):
    """What the settings of every trainable method have."""

    @property
    def steps(self) -> int:
        """How many steps."""

    @property
    def lr(self) -> float:
        """Peak learning rate."""

    @property
    def batch_size(self) -> int:
        """Faces per step."""

    @property
    def seed(self) -> int:
        """Everything random follows from it."""


_Settings = TypeVar("_Settings", bound=RunSettings)


class Run(nn.Module, ABC):
    """A search in progress; its parameters are what is learned.

    Attributes:
        max_grad_norm: longer gradients are shortened to this; None leaves them.
    """

    max_grad_norm: float | None = None

    @abstractmethod
    def optimizer(self) -> torch.optim.Optimizer:
        """For its parameters, at peak learning rates."""

    @abstractmethod
    def losses(
        self, step: int, random: torch.Generator, share: Share = (0, 1)
    ) -> dict[str, Float[Tensor, ""]]:
        """Losses of a step: "loss", which is minimized, and its parts without weights.

        Args:
            step: 0, 1, ...; it chooses the faces.
            random: for all else; the same in every process.
            share: the part of the work that is this process's; gradients are averaged.
        """

    @abstractmethod
    def shown(self, latents: Latents | None = None) -> Float[Tensor, "n 3 h w"]:
        """Pictures with the edit as it is now: of these faces, or one that the run has at hand."""

    @abstractmethod
    def edits(self) -> list[Edit]:
        """What was learned, the best first."""

    def note(self, losses: dict[str, Tensor]) -> str:
        """What to show of a step beside its loss."""
        return f"similarity {1 - float(losses['clip']):.3f}" if "clip" in losses else ""


class TrainableMethod(Method[_Settings]):
    """A method whose search is a `Run`; it implements `start` in place of `search`."""

    trainable: ClassVar[bool] = True

    @abstractmethod
    def start(self, domain: Domain, request: Any, face: Latents | None, settings: _Settings) -> Run:
        """A run at its first step; arguments as of `search`."""

    def search(
        self,
        domain: Domain,
        request: Any,
        face: Latents | None,
        settings: _Settings,
        on_step: OnStep | None,
    ) -> Edit:
        """The best edit of a run that is carried out here."""
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

    def _carried_out(
        self,
        domain: Domain,
        request: Any,
        face: Latents | None,
        settings: _Settings,
        on_step: OnStep | None,
    ) -> Run:
        run = self.start(domain, request, face, settings)
        optimizer = run.optimizer()
        rates = [group["lr"] for group in optimizer.param_groups]
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        random = torch.Generator().manual_seed(settings.seed)
        for index in range(settings.steps):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * ramp(index, settings.steps)
            with torch.enable_grad():  # also inside a caller's no_grad
                losses = run.losses(index, random)
                optimizer.zero_grad()
                losses["loss"].backward()
            if run.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, run.max_grad_norm)
            optimizer.step()
            if on_step is not None:
                parts = {name: loss.detach() for name, loss in losses.items()}
                with torch.no_grad():
                    images = run.shown()
                done = (index + 1, settings.steps, images, float(parts["loss"]))
                on_step(Step(*done, run.note(parts)))
        return run
