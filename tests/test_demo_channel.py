"""The channel for pictures while a slider moves: past gradio's queue, for this desk only."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient
from test_demo import (
    browser,  # noqa: F401
    cards,  # noqa: F401
    open_page,
    pytestmark,  # noqa: F401
    serve,
    wait_for,
    wait_for_final_picture,
    wait_for_other_picture,
)
from test_session import make_edit

from demo.channel import routes
from demo.desk import Desk
from demo.visits import Visits
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture
def visits(tmp_path: Path) -> Visits:
    return Visits(parent=tmp_path)


@pytest.fixture
def desk(visits: Visits, studio: Studio) -> Desk:
    desk = visits.open(None).desk
    desk.change(lambda session: session.with_edit(make_edit(studio.pipe)))
    return desk


@pytest.fixture
def client(studio: Studio, visits: Visits) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=routes(studio, visits))) as client:
        yield client


def test_a_picture_at_other_strengths(
    client: TestClient, desk: Desk, studio: Studio, tmp_path: Path
) -> None:
    for strength in (-1.0, 0.25):
        strengths = f"{strength},7,7"  # of sliders that are hidden
        answer = client.get("/picture", params={"channel": desk.channel, "strengths": strengths})
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
        shown = np.asarray(Image.open(io.BytesIO(answer.content)), dtype=int)
        there = desk.session.with_stack(desk.session.stack.with_strength(0, strength))
        final = np.asarray(studio.draw(there)[1], dtype=int)
        assert shown.shape == final.shape and abs(shown - final).mean() < 4
    assert desk.session.edits[0].strength == 1  # the slider says so when it is let go of
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_smaller_one(client: TestClient, desk: Desk) -> None:
    answer = client.get("/picture", params={"channel": desk.channel, "largest": "16"})
    assert Image.open(io.BytesIO(answer.content)).size == (16, 16)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"channel": ""}, 404),
        ({"channel": "f" * 32}, 404),
        ({}, 404),
        ({"strengths": "x"}, 400),
        ({"strengths": "nan"}, 400),
        ({"strengths": "inf"}, 400),
        ({"largest": "wide"}, 400),
    ],
)
def test_what_cannot_be_drawn(
    client: TestClient, desk: Desk, query: dict[str, str], status: int
) -> None:
    known = {"channel": desk.channel} if status == 400 else {}
    answer = client.get("/picture", params=known | query)
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("text/plain")


def test_a_channel_is_of_one_desk_and_ends_with_it(visits: Visits) -> None:
    one, other = visits.open(None).desk, visits.open(None).desk
    assert visits.of_channel(one.channel) is one and visits.of_channel(other.channel) is other
    assert one.channel not in (one.key, one.owner)
    gone = one.channel
    visits.forget(one)
    del one
    assert visits.of_channel(gone) is None


@pytest.mark.browser
def test_a_slider_that_moves(browser: Browser, studio: Studio) -> None:  # noqa: F811
    for url in serve(studio):
        for page in open_page(browser, f"{url}?edit=afro"):
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.locator("#caption [data-after*=afro]").wait_for(state="attached")
            first = wait_for_final_picture(page, "")
            slider = hold(page, "afro", 0.3)
            assert any("/picture?" in address for address in asked)
            moving = wait_for_other_picture(page, first)
            page.locator("#redo").evaluate("button => button.click()")  # shows everything anew
            page.get_by_text("There is nothing to redo.").wait_for()
            wait_for_other_picture(page, moving)
            page.mouse.up()
            wait_for_final_picture(page, first)
            assert float(slider.input_value()) < 0  # the hand counts, not what came meanwhile
            undo_to(page, slider, first)

            hold(page, "afro", 0.3)
            page.mouse.up()
            page.get_by_role("button", name="Start over").click()
            slider.wait_for(state="hidden")
            page.locator("#undo").click()
            wait_for(page, lambda slider=slider: float(slider.input_value()) < 0)
            undo_to(page, slider, first)


@pytest.mark.browser
def test_a_late_picture_of_a_move_leaves_the_final_one(
    browser: Browser,  # noqa: F811
    studio: Studio,
) -> None:
    late: list[Route] = []

    def hold_back(route: Route) -> None:
        late.append(route)

    for url in serve(studio):
        for page in open_page(browser, f"{url}?edit=afro"):
            page.locator("#caption [data-after*=afro]").wait_for(state="attached")
            first = wait_for_final_picture(page, "")
            page.route("**/picture?*", hold_back)
            slider = page.get_by_role("slider", name="range slider for afro", exact=True)
            wait_for(page, slider.is_enabled)
            slider.press("ArrowRight")
            final = wait_for_final_picture(page, first)
            wait_for(page, lambda: bool(late))
            for route in late:
                route.continue_()
            page.wait_for_timeout(500)
            assert page.locator("#pictures img").nth(1).get_attribute("src") == final


def hold(page: Page, name: str, share: float) -> Locator:
    """Hold the slider at this share of its width until a picture shows the move."""
    slider = page.get_by_role("slider", name=f"range slider for {name}", exact=True)
    wait_for(page, slider.is_enabled)
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2, steps=5)
    after = page.locator("#pictures img").nth(1)
    wait_for(page, lambda: (after.get_attribute("src") or "")[:5] == "blob:")
    return slider


def undo_to(page: Page, slider: Locator, picture: str) -> None:
    page.locator("#undo").click()
    wait_for(page, lambda: slider.input_value() == "1")
    wait_for(page, lambda: page.locator("#pictures img").nth(1).get_attribute("src") == picture)
