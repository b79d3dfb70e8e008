"""The channel for pictures: final or moving, alone or together, and never delayed by a search."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from test_session import make_edit
from torch import Tensor

from stylegan_hub.errors import MismatchError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.rendering import Rendering
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

SECONDS = 60


@pytest.fixture
def rendering(tiny_pipeline: StyleEditPipeline) -> Rendering:
    return Rendering(tiny_pipeline)


def differ(one: Image.Image, other: Image.Image) -> int:
    """The largest difference in levels of 255."""
    a, b = (np.asarray(picture, dtype=int) for picture in (one, other))
    return int(abs(a - b).max())


def test_a_moving_picture_shows_what_the_final_one_does(
    rendering: Rendering, tiny_pipeline: StyleEditPipeline
) -> None:
    session = Session(seed=7).with_edit(make_edit(tiny_pipeline), 0.5)
    final = rendering.picture(session)
    assert differ(final, rendering.picture(session, moving=True)) <= 1
    assert differ(final, rendering.picture(session.without_edits(), moving=True)) > 1


def test_no_larger_than_what_is_of_use(rendering: Rendering) -> None:
    for largest, size in ((9, 16), (16, 16), (17, 32), (4000, 32), (None, 32)):
        picture = rendering.picture(Session(), largest, moving=True)
        assert picture.size == (size, size)
    assert rendering.picture(Session(), 16).size == (32, 32)  # a final picture has full size


def test_those_who_wait_are_drawn_together(
    rendering: Rendering, tiny_pipeline: StyleEditPipeline, other_pipeline: StyleEditPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    batches: list[int] = []
    draw = StyleGAN2Generator.synthesis_from_styles

    def counted(self: StyleGAN2Generator, s: Tensor, *options: object) -> Tensor:
        batches.append(len(s))
        return draw(self, s, *options)

    monkeypatch.setattr(StyleGAN2Generator, "synthesis_from_styles", counted)
    sessions = [Session(seed=seed) for seed in range(5)]
    foreign = Session(seed=9).with_edit(make_edit(other_pipeline))
    with ThreadPoolExecutor(6) as people:
        with rendering._turns:  # so that all of them must wait
            pictures = [people.submit(rendering.picture, s, None, True) for s in sessions]
            refused = people.submit(rendering.picture, foreign, None, True)
            wait_until(lambda: len(rendering._waiting) == 6)
        for session, picture in zip(sessions, pictures, strict=True):
            assert differ(picture.result(SECONDS), rendering.picture(session)) <= 1
        with pytest.raises(MismatchError):  # only theirs fails
            refused.result(SECONDS)
    assert batches == [5] and rendering._waiting == []


def test_a_picture_never_waits_for_a_step_of_a_search(tiny_pipeline: StyleEditPipeline) -> None:
    studio, go_on = Studio(tiny_pipeline), threading.Event()
    at_work = threading.Event()

    def work(report: Callable[[int], None]) -> str:
        at_work.set()
        go_on.wait(SECONDS)
        return "found"

    with studio.search_by("somebody", work) as search:
        assert at_work.wait(SECONDS)
        studio.draw(Session(seed=3))
        studio.faces([1, 2])
        studio.rendering.picture(Session(seed=4), moving=True)
        assert not search._found.done()
        go_on.set()
        assert search.result() == "found"


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.01)
