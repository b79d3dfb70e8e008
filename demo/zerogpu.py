"""Searches on a Space with ZeroGPU, which lends a GPU to one function call at a time.

Pictures are rendered on the CPU, which is fast enough for a slider; each call for a GPU would wait
in a queue and use up the visitor's quota. A search takes seconds to minutes on a CPU, so it runs on
the GPU, in a process that ZeroGPU forks for the call and that sends steps and edits back. There is
no nvcc and no torch.compile there, so PyTorch's own operations are used.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from stylegan_hub.domain import Label
from stylegan_hub.edits.base import Edit
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Request, get
from stylegan_hub.ops import kernels
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.search import Search, Turns
from stylegan_hub.steps import Step
from stylegan_hub.studio import Find

SECONDS = 60
"""Time limit of a search; ZeroGPU queues calls by the time they request."""


def is_here() -> bool:
    """Whether this process runs on a Space with ZeroGPU."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")


def finder(pipe: StyleEditPipeline, device: str = "cuda") -> Find:
    """A function that searches on the GPU with a copy of a pipeline that stays on the CPU itself.

    Call it before the page is launched: ZeroGPU must know its functions, and what they need on the
    GPU, when a Space starts. `spaces` must have been imported before torch.
    """
    import spaces

    os.environ[kernels.SWITCH] = "off"  # no kernel can be built there
    on_card = copy.deepcopy(pipe).to(device)

    @spaces.GPU(duration=SECONDS)  # type: ignore[untyped-decorator, unused-ignore]
    def steps(
        method: str, request: Request, face: Latents | None, label: Label | None, settings: Any
    ) -> Iterator[Step | list[Edit]]:
        yield from searched(on_card, method, request, face, label, settings)

    def find(
        method: str,
        request: Request,
        face: Latents | None,
        label: Label | None,
        settings: Any,
        report: Callable[[Step], None],
    ) -> list[Edit]:
        for found in steps(method, request, face, label, settings):
            if not isinstance(found, Step):
                return list(found)
            report(found)  # raises if the search was stopped; then the call ends too
        raise RuntimeError("The search on the GPU ended without a result.")

    return find


def searched(
    pipe: StyleEditPipeline,
    method: str,
    request: Request,
    face: Latents | None,
    label: Label | None,
    settings: Any,
) -> Iterator[Step | list[Edit]]:
    """Yield the steps of a search as they come, their pictures on the CPU; returns the edits."""

    def work(report: Callable[[Step], None]) -> list[Edit]:
        return get(method).find_all(
            pipe, request, face, label=label, settings=settings, on_step=report
        )

    with Search[Step, list[Edit]](Turns(), work) as search:
        for step in search:
            if isinstance(step, Step):
                images = None if step.images is None else step.images.cpu()
                yield replace(step, images=images)
        yield search.result()
