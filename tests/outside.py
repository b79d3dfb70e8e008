"""A method of another package, which is found by its name wherever methods are used.

`Blend` answers requests by pictures before and after, or by nothing; it finds two edits at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from stylegan_hub import Method, Nothing, Pairs, register
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit, Origin
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods import method as registry
from stylegan_hub.steps import OnStep, Step


@dataclass(frozen=True)
class Settings:
    """How far to go, and in how many steps."""

    steps: int = 2
    length: float = 1.0


class Blend(Method[Settings]):
    """From the mean of some faces to the mean of others, and back; seeds only."""

    name: ClassVar[str] = "blend"
    summary: ClassVar[str] = "Goes from the mean of some faces to that of others."
    requests: ClassVar[tuple[type[Any], ...]] = (Pairs, Nothing)
    presets: ClassVar[Mapping[str, Any]] = {"default": Settings(), "far": Settings(length=2.0)}

    def search(
        self,
        domain: Domain,
        request: Pairs | Nothing,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Edit:
        before, after = (0, 1), (2, 3)
        if isinstance(request, Pairs):
            before, after = request.before, request.after
            if not all(isinstance(one, int) for one in (*before, *after)):
                raise MethodError("Got pictures; expected seeds.", remedy="Give seeds.")
        for index in range(settings.steps):
            if on_step is not None:
                on_step(Step(index + 1, settings.steps, note="half way there"))
        means = [domain.sample(seeds).codes.mean(0) for seeds in (before, after)]
        vector = settings.length * (means[1] - means[0])
        origin = Origin(training={"method": self.name, "to": str(request)})
        return Direction(vector, Space.W_PLUS, domain.base_model, origin=origin)

    def find_all(self, domain: Domain, *arguments: Any, **options: Any) -> list[Edit]:
        there = self.find(domain, *arguments, **options)
        assert isinstance(there, Direction)
        origin = Origin(training={**there.origin.training, "to": "back"})
        return [there, Direction(-there.vector, there.space, there.base_model, origin=origin)]

    def caption(self, origin: Origin) -> str:
        return f"blend to {origin.training['to']}"


@contextmanager
def blend_registered() -> Iterator[None]:
    """Register the method inside the block."""
    register(Blend)
    try:
        yield
    finally:
        del registry._METHODS["blend"]


def expected_vector(domain: Domain, before: list[int], after: list[int]) -> torch.Tensor:
    """What `Blend` finds for seeds."""
    return domain.sample(after).codes.mean(0) - domain.sample(before).codes.mean(0)
