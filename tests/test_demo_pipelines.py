"""The menu of pipelines, and a page behind a proxy."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI
from test_demo import (
    browser,  # noqa: F401
    cards,  # noqa: F401
    open_page,
    pytestmark,  # noqa: F401
    wait_for_other_picture,
)

from demo.app import build, launch_options
from demo.pipelines import Pipelines, shown
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = "/faces"


@pytest.fixture(scope="module")
def offered(tiny_pipeline: StyleEditPipeline, house_pipeline: StyleEditPipeline) -> Pipelines:
    pipes = {"tiny": tiny_pipeline, "/somewhere/My houses": house_pipeline}

    def open_studio(name: str) -> Studio:
        if name not in pipes:
            raise ValueError(f"Got /tmp/{name}.bin, which is damaged.")
        return Studio(pipes[name])

    offered = Pipelines(
        [*pipes, "broken"],
        open_studio,
        lambda studio, place: build(studio, offered, place),
        launch_options,
    )
    return offered


@pytest.fixture(scope="module")
def url(offered: Pipelines) -> Iterator[str]:
    page = build(offered.open_studio("tiny"), offered)
    offered.app, address, _ = page.launch(
        prevent_thread_lock=True, quiet=True, _frontend=False, **launch_options(page)
    )
    yield address
    page.close(verbose=False)


def test_places(offered: Pipelines) -> None:
    assert offered.place_of("tiny") == ""
    assert offered.place_of("/somewhere/My houses") == "my-houses-1"
    assert shown("/somewhere/My houses") == "My houses" and shown("me/it") == "me/it"
    with pytest.raises(ValueError, match="this page offers tiny, My houses, broken"):
        offered.place_of("/etc")


def test_a_pipeline_that_failed_is_tried_again() -> None:
    tried: list[str] = []

    def fail(name: str) -> Studio:
        tried.append(name)
        raise ValueError(f"Try {len(tried)} failed.")

    offered = Pipelines(["here", "broken"], fail, lambda *_: None, lambda _: {})
    offered.app = FastAPI()

    async def open_twice() -> None:
        first = offered.open("broken")
        await anext(first)
        await first.aclose()  # this visitor left before it failed
        while not tried:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        with pytest.raises(ValueError, match="Try 2 failed"):
            async for _ in offered.open("broken"):
                pass

    asyncio.run(open_twice())


@pytest.mark.browser
def test_another_pipeline_and_back(browser: Browser, url: str) -> None:  # noqa: F811
    for page in open_page(browser, url):
        first = wait_for_other_picture(page, "")
        menu = page.get_by_label("Pipeline")
        menu.click()
        page.get_by_role("option", name="broken").click()
        page.locator(".toast-body", has_text="Got broken.bin, which is damaged").wait_for()
        page.locator("#progress", has_text="Nothing was changed").wait_for()
        menu.click()
        page.get_by_role("option", name="My houses").click()
        page.wait_for_url("**/pipelines/my-houses-1/")
        page.get_by_role("heading", name="Change a house with words").wait_for()
        wait_for_other_picture(page, first)
        menu.click()
        page.get_by_role("option", name="tiny").click()
        page.get_by_role("heading", name="Change a face with words").wait_for()
        wait_for_other_picture(page, "")


def test_behind_a_proxy(tiny_pipeline: StyleEditPipeline) -> None:
    page = build(Studio(tiny_pipeline))
    options = {"prevent_thread_lock": True, "quiet": True, "root_path": ROOT}
    _, address, _ = page.launch(**options, **launch_options(page, names={"example.org"}))
    answer = httpx.get(address, headers={"Host": "example.org"}).text
    page.close(verbose=False)
    assert re.findall(r'"root": ?"([^"]*)"', answer)[0].endswith(f"example.org{ROOT}")
