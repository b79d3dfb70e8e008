"""Searches on a Space with ZeroGPU: in a process of its own, to which all goes as bytes."""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

import stylegan_hub as hub
from demo import zerogpu
from demo.app import opened
from stylegan_hub.ops import kernels
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.steps import Cancelled, Step
from stylegan_hub.studio import Studio

pytestmark = pytest.mark.usefixtures("short_searches")


@pytest.fixture
def durations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What was asked of a stand-in for `spaces`, whose calls pass bytes as those of ZeroGPU do."""
    asked: list[int] = []

    def lent(duration: int) -> Callable[[Any], Any]:
        asked.append(duration)

        def decorated(function: Any) -> Any:
            @functools.wraps(function)
            def call(*arguments: Any) -> Iterator[Any]:
                for found in function(*pickle.loads(pickle.dumps(arguments))):
                    yield pickle.loads(pickle.dumps(found))

            return call

        return decorated

    spaces = ModuleType("spaces")
    spaces.GPU = lent  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    monkeypatch.setenv(kernels.SWITCH, "off")
    return asked


def test_a_search_on_the_card_finds_what_one_here_does(
    tiny_pipeline: StyleEditPipeline, durations: list[int]
) -> None:
    studio = Studio(tiny_pipeline, find=zerogpu.finder(tiny_pipeline, "cpu"))
    assert durations == [zerogpu.SECONDS]  # before the page is launched
    # Words of no other test: what these learn for all faces is kept by the pipeline they share.
    request, steps = hub.Words("a face with a hat and a card"), []
    found = []
    for where in (studio, Studio(tiny_pipeline)):
        how: dict[str, Any] = {"method": "optimization"}
        with where.search(Session(seed=3), request, **how) as search:
            steps.append([one for one in search if isinstance(one, Step)])
            found += search.result()
    assert len(steps[0]) == len(steps[1]) > 1
    assert steps[0][-1].images is not None
    torch.testing.assert_close(found[0].vector, found[1].vector)
    assert studio.draw(Session(seed=3).with_edit(found[0], 1.0))[1].size == (32, 32)


def test_a_search_on_the_card_can_be_stopped(
    tiny_pipeline: StyleEditPipeline, durations: list[int]
) -> None:
    studio = Studio(tiny_pipeline, find=zerogpu.finder(tiny_pipeline, "cpu"))
    request = hub.Words("a face with a hat")
    with studio.search(Session(seed=3), request, "optimization") as search:
        for one in search:
            if isinstance(one, Step):
                search.stop()
        with pytest.raises(Cancelled):
            search.result()


def test_the_page_knows_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        Studio, "open", lambda name, *options: asked.append(options) or Studio.__new__(Studio)
    )
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    opened("portraits", "cuda", None)
    assert asked == [("cuda", None)]
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    assert zerogpu.is_here()
