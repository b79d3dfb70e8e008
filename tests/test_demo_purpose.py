"""What each tab is for, done in a browser with the bundled portraits.

Who judges is the attribute reader, which no tab asks.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from test_demo import (
    browser,  # noqa: F401
    open_page,
    pytestmark,
    serve,
    wait_for,
    wait_for_other_picture,
)
from test_demo_methods import tab
from test_demo_never_lost import found, press

from stylegan_hub.images import from_pil
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader, Reading
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [*pytestmark, pytest.mark.browser]


@pytest.fixture(scope="module")
def url(portraits: StyleEditPipeline) -> Iterator[str]:
    yield from serve(Studio(portraits))


@pytest.fixture(scope="module")
def page(browser: Browser, url: str) -> Iterator[Page]:  # noqa: F811
    yield from open_page(browser, url)


@pytest.fixture(scope="module")
def first(page: Page) -> str:
    """The source of the first face's picture."""
    return wait_for_other_picture(page, "")


@pytest.fixture
def visit(page: Page, first: str) -> Page:
    """The page at its first face without edits: a visitor goes from tab to tab and starts over."""
    press(page, "Start over")
    wait_for(page, lambda: page.locator(".slot input[type=range]:visible").count() == 0)
    pictures = page.locator("#pictures img")
    wait_for(page, lambda: all(one.get_attribute("src") == first for one in pictures.all()))
    return page


@pytest.fixture
def seen(visit: Page, attribute_reader: AttributeReader) -> Seen:
    return Seen(visit, attribute_reader)


class Seen:
    """What the reader sees in the pictures of a page."""

    def __init__(self, page: Page, reader: AttributeReader) -> None:
        self._page, self._reader = page, reader

    def reading(self, place: int = 1) -> Reading:
        """Of the picture before (0) or after (1)."""
        address = self._page.locator("#pictures img").nth(place).evaluate("image => image.src")
        with Image.open(io.BytesIO(self._page.request.get(address).body())) as picture:
            return self._reader.read(from_pil([picture.convert("RGB")]))

    def words(self, place: int = 1) -> dict[str, str]:
        return self.reading(place).words(0)

    def rises(self, attribute: str, value: str) -> float:
        """How much more likely a value is after than before."""
        before, after = (self.reading(place).probability(attribute, value) for place in (0, 1))
        return float(after - before)


def test_words(visit: Page, seen: Seen) -> None:
    first = seen.words()
    assert (first["hat"], first["glasses"], first["expression"]) == ("no", "no", "smiling")
    page = visit
    page.get_by_label("Every face").first.check()
    page.get_by_label("The picture should show").fill("a person with glasses")
    press(page, "Edit")
    found(page, "a person with glasses")
    wait_for(page, lambda: seen.words()["glasses"] == "yes")
    assert seen.words(0)["glasses"] == "no"
    after = page.locator("#pictures img").nth(1)
    told = "changed: a person with glasses"
    wait_for(page, lambda: (after.get_attribute("alt") or "").endswith(told))


def test_zoo(visit: Page, seen: Seen) -> None:
    page = visit
    tab(page, "Zoo")
    cards = page.locator("#zoo .cards li:visible")
    wait_for(page, lambda: cards.count() > 15)
    page.get_by_label("Search").fill("hair")
    wait_for(page, lambda: 2 <= cards.count() < 8)
    page.get_by_label("Group").click()
    page.get_by_role("option", name="Worn").click()
    page.get_by_text("Nothing matches").wait_for()
    page.get_by_label("Search").fill("glasses")
    page.locator("#zoo .cards button:visible", has_text="glasses").first.press("Enter")
    page.locator("#card", has_text="works on").wait_for()
    found(page, "glasses")
    wait_for(page, lambda: seen.words()["glasses"] == "yes")


def test_local(visit: Page, seen: Seen) -> None:
    page = visit
    tab(page, "Local")
    picture = page.locator("#part img")
    picture.wait_for()
    width = picture.evaluate("image => image.clientWidth")
    picture.click(position={"x": 0.5 * width, "y": 0.28 * width})
    hair = page.locator("#parts").get_by_label("hair", exact=True)
    wait_for(page, hair.is_checked)
    page.get_by_alt_text("The face; marked: hair").wait_for()
    page.get_by_label("The part should look like").fill("a face with purple hair")
    page.get_by_role("button", name="Settings of the local search").click()
    page.get_by_role("spinbutton", name="Steps").fill("10")
    page.locator("#part").scroll_into_view_if_needed()
    page.get_by_label("This face").last.check()
    press(page, "Change this part")
    found(page, "a face with purple hair (hair)")
    wait_for(page, lambda: seen.rises("hair_color", "purple") > 0.3)
    assert seen.words()["clothes"] == seen.words(0)["clothes"]


def test_text_to_face(visit: Page, seen: Seen) -> None:
    page = visit
    tab(page, "Zoo")
    name = page.get_by_label("Or by name")
    name.fill("purple-hair")
    name.press("Enter")
    found(page, "purple-hair")
    tab(page, "Text to face")
    page.get_by_label("The face should be").fill("an old man with a beard and a hat")
    page.get_by_role("button", name="Settings of these faces").click()
    page.get_by_role("spinbutton", name="Candidates").fill("4")
    press(page, "Make faces")
    page.get_by_text("8 faces for").wait_for()
    page.locator("#fitting button").first.press("Enter")
    page.locator("#caption", has_text="an old man with a beard and a hat").wait_for()
    # The network draws .9 of what a text says; one face may lack one of the two.
    wait_for(page, lambda: "yes" in (seen.words()["hat"], seen.words()["beard"]))
    page.locator(".slot").first.wait_for(state="hidden")  # it starts without the old edits


def test_essence_and_photo(visit: Page, seen: Seen, tmp_path: Path) -> None:
    page = visit
    portrait = tmp_path / "portrait.png"
    page.locator("#faces button").nth(3).click()
    wait_for(page, lambda: page.locator("#pictures img").count() == 2)
    tab(page, "Essence")
    press(page, "Take this face")
    page.get_by_alt_text("The target: this face").wait_for()
    page.locator("#targets button").nth(3).press("Enter")
    page.get_by_alt_text("The target: zuri").wait_for()
    page.get_by_role("button", name="Settings of this search").click()
    page.get_by_role("spinbutton", name="Steps").fill("30")
    press(page, "Find its essence")
    found(page, "essence of zuri")
    wait_for(page, lambda: seen.rises("skin", "dark") > 0 or seen.words()["hair_style"] == "afro")

    address = page.locator("#pictures img").nth(0).evaluate("image => image.src")
    with Image.open(io.BytesIO(page.request.get(address).body())) as picture:
        picture.save(portrait)
    drawn = seen.words(0)
    tab(page, "Photo")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files(portrait)
    page.locator("#photo img").wait_for()
    page.get_by_label("At once").check()
    press(page, "Use this face")
    page.get_by_alt_text("As the generator renders it").wait_for()
    again = seen.words(0)
    same = [name for name in ("hair_color", "skin", "clothes", "hat") if again[name] == drawn[name]]
    assert len(same) >= 3, (again, drawn)


def test_more(
    visit: Page, seen: Seen, portraits: StyleEditPipeline, attribute_reader: AttributeReader
) -> None:
    page = visit
    reading = attribute_reader.read(from_pil(portraits(seed=[*range(24)]).images))
    hats = reading.probability("hat", "yes")
    with_hat, without = (
        [i for i in range(24) if (hats[i] > 0.5) == is_on] for is_on in (True, False)
    )
    tab(page, "More")
    page.get_by_label("pairs", exact=True).check()
    page.get_by_label("They are pairs").uncheck()
    page.get_by_label("Or seeds before").fill(", ".join(map(str, without[:6])))
    page.get_by_label("Or seeds after").fill(", ".join(map(str, with_hat[:6])))
    press(page, "Find")
    page.locator(".slot input[type=range]").first.wait_for()
    wait_for(page, lambda: seen.rises("hat", "yes") > 0.2)
