"""The tab Photo in a browser with the bundled pipeline: a photograph, two faces, none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from test_demo import (
    browser,  # noqa: F401
    fits,
    open_page,
    pytestmark,  # noqa: F401
    serve,
    wait_for_other_picture,
)
from test_demo_methods import tab
from test_demo_photo import send
from test_people import astronaut, hopper  # noqa: F401

from stylegan_hub import images as image_files
from stylegan_hub.names import own_cards
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.renderer import render
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module", autouse=True)
def without_cards(nothing_bundled: None) -> None:
    """Nothing is bundled for any test of this file."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    yield from serve(Studio(StyleEditPipeline.from_pretrained(own_cards() / "portraits")))


@pytest.fixture
def album(astronaut: Image.Image, hopper: Image.Image, tmp_path: Path) -> Path:  # noqa: F811
    """A photograph of a person, of two, of none, and two drawn portraits in one picture."""
    astronaut.save(tmp_path / "one.png")
    two = Image.new("RGB", (1024, 600))
    two.paste(astronaut, (0, 0))
    two.paste(hopper, (512, 0))
    two.save(tmp_path / "two.png")
    noise = np.random.default_rng(0).integers(90, 120, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "none.png")
    drawn = Image.new("RGB", (640, 400), (150, 160, 170))
    for number, (x, y, side) in enumerate(((40, 60, 280), (400, 120, 200))):
        portrait = image_files.to_pil(render(sample([10_000_000 + number]), 256))[0]
        drawn.paste(portrait.resize((side, side)), (x, y))
    drawn.save(tmp_path / "drawn.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.browser
def test_photographs_on_the_page(browser: Browser, url: str, album: Path) -> None:  # noqa: F811
    for page in open_page(browser, url):
        page.set_default_timeout(120_000)
        page.set_viewport_size({"width": 390, "height": 844})
        first = wait_for_other_picture(page, "")
        tab(page, "Photo")

        send(page, album / "none.png")
        page.get_by_text("Found no face in none.png; show where it is").wait_for()
        page.get_by_text("Click the middle of one eye").wait_for()

        send(page, album / "two.png")
        page.get_by_text("Found 2 faces in two.png").wait_for()
        assert page.locator("#faces img, .thumbnail-item img").count() >= 2
        page.get_by_label("Face 2").check()
        assert fits(page)

        send(page, album / "one.png")
        page.get_by_text("Found a face in one.png").wait_for()
        page.get_by_text("This model renders cartoons").first.wait_for()
        page.get_by_role("button", name="Use this face", exact=True).press("Enter")
        page.get_by_text("A portrait after one.png is here").wait_for()
        page.get_by_text("Read from the photo").wait_for()
        portrait = wait_for_other_picture(page, first)
        page.get_by_role("button", name="Paste back").wait_for(state="hidden")
        assert fits(page)

        send(page, album / "drawn.png")
        page.get_by_text("Found 2 faces in drawn.png").wait_for()
        page.get_by_label("All of them").check()
        page.get_by_text("All 2 faces get the same edit").wait_for()
        page.get_by_label("At once").check()
        page.get_by_role("button", name="Use this face", exact=True).press("Enter")
        page.get_by_text("The face of drawn.png is here").wait_for()
        wait_for_other_picture(page, portrait)
        page.get_by_label("All of what was cut out").check()
        page.get_by_role("button", name="Paste back").press("Enter")
        page.get_by_alt_text("The edited photo").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the photo").press("Enter")
        with Image.open(download.value.path()) as pasted, Image.open(album / "drawn.png") as before:
            apart = np.abs(np.asarray(pasted, int) - np.asarray(before, int)).max(2)
        assert pasted.size == before.size and not apart[:, :20].any()
        assert apart[60:340, 40:320].any() and apart[120:320, 400:600].any()  # both of them
        assert fits(page)
