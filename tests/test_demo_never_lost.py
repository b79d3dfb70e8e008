"""In a browser: a refused job locks nothing, a search can be waited for, nothing is lost."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from outside import blend_registered
from PIL import Image
from test_demo import (
    DESKTOP,
    PHONE,
    SECONDS,
    browser,  # noqa: F401
    fits,
    open_page,
    pytestmark,  # noqa: F401
    serve,
    set_steps,
    wait_for,
    wait_for_final_picture,
    wait_for_other_picture,
)
from test_demo_methods import TARGETS_FOLDER, tab
from test_demo_photo import LARGE, SIZE, send
from test_session import make_full_studio, write_cards

from demo import upload as uploads
from demo.app import build, launch_options
from stylegan_hub.methods import optimization
from stylegan_hub.photos.align import Landmarks
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.search import Line, Search, Turns
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

HAT = "a face with a hat"


@pytest.fixture(scope="module", autouse=True)
def cards(
    tiny_pipeline: StyleEditPipeline,
    other_pipeline: StyleEditPipeline,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Bundled are only some cards for the tiny pipeline; a method from outside is known."""
    folder = tmp_path_factory.mktemp("cards")
    write_cards(folder, tiny_pipeline, other_pipeline)

    def look(picture: Image.Image) -> Sequence[Landmarks]:
        return [LARGE]

    with pytest.MonkeyPatch.context() as patch, blend_registered():
        patch.setenv("STYLEGAN_HUB_CARDS", str(folder))
        patch.setattr(uploads, "finder", lambda pipe: look)
        yield


@pytest.fixture(scope="module")
def studio(inverting_pipeline: StyleEditPipeline) -> Studio:
    """With all that a pipeline can have, so that every tab has something to do."""
    return make_full_studio(inverting_pipeline)


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Page]:  # noqa: F811
    for page in open_page(browser, url):
        wait_for_other_picture(page, "")
        yield page


@pytest.mark.browser
def test_the_first_face_comes_with_the_page(browser: Browser, url: str) -> None:  # noqa: F811
    """Who opens a link or returns does not see that face, even for a moment."""
    for query, is_shown in (("", True), ("?seed=3", False)):
        page = browser.new_page()
        page.route("**/queue/join*", lambda route: None)  # the server never answers an event
        page.goto(url + query)
        picture = page.locator("#pictures img").nth(1)
        picture.wait_for(state="attached")
        wait_for(page, lambda shown=picture: shown.evaluate("one => one.naturalWidth") > 1)
        assert picture.is_visible() is is_shown
        assert "seed 0" in (picture.get_attribute("alt") or "")
        page.close()


@contextlib.contextmanager
def line_of(studio: Studio, line: Line) -> Iterator[None]:
    """Searches wait in this line."""
    usual, studio._line = studio._line, line
    try:
        yield
    finally:
        studio._line = usual


def refused(page: Page, text: str) -> None:
    """The page says so, and is as it was: nothing stays locked."""
    told = page.locator(".toast-body", has_text=text)
    told.first.wait_for()
    words = told.first.inner_text()
    assert not re.search(r"&#|&quot;|/tmp/|gradio", words), words
    # Another message may lie over it, and it goes by itself after a while.
    told.first.evaluate("told => told.querySelector('.toast-close')?.click()")
    wait_for(page, lambda: not page.get_by_role("button", name="Stop").is_visible())
    for slider in page.locator(".slot input[type=range]").all():
        wait_for(page, lambda slider=slider: not slider.is_visible() or slider.is_enabled())


def wait_status(page: Page, text: str) -> None:
    page.locator("#progress").get_by_text(text).wait_for()


def press(page: Page, name: str) -> None:
    """A button, once it can be pressed."""
    button = page.get_by_role("button", name=name, exact=True)
    wait_for(page, button.is_enabled)
    button.press("Enter")


def slider_of(page: Page, name: str) -> Locator:
    """The slider of the edit with exactly this name; gradio puts words before it."""
    return page.get_by_role("slider", name=f"range slider for {name}", exact=True)


def found(page: Page, name: str) -> Locator:
    """The slider of an edit, once it can be moved."""
    slider = slider_of(page, name)
    slider.wait_for()
    wait_for(page, slider.is_enabled)
    return slider


def stands_at(page: Page, name: str, strength: str) -> None:
    """Wait until the slider of an edit shows this strength."""
    slider = found(page, name)
    wait_for(page, lambda: slider.input_value() == strength)


@pytest.mark.browser
def test_a_refused_job_locks_no_tab(
    visit: Page, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit
    broken, photo = tmp_path / "broken.png", tmp_path / "photo.png"
    broken.write_bytes(b"nonsense")
    Image.new("RGB", SIZE, (40, 90, 60)).save(photo)

    words = page.get_by_label("The picture should show")
    press(page, "Edit")
    refused(page, "Got no words")
    words.fill(HAT)
    with line_of(studio, Line(places=0, longest=0)):
        press(page, "Edit")
        refused(page, "0 searches are waiting already")
    with monkeypatch.context() as patch:
        patch.setattr(optimization.Optimization, "search", fail)
        words.fill("a zebra")
        press(page, "Edit")
        # Such a message goes by itself, on a busy machine before anything else is looked at.
        page.locator(".toast-body", has_text="not taught 'zebra'").wait_for()
        refused(page, "It cannot be found")
    words.fill(HAT)
    set_steps(page, 10)
    press(page, "Edit")
    found(page, HAT)

    tab(page, "Zoo")
    press(page, "Search the Hub too")
    page.get_by_text("The Hub could not be reached").wait_for()
    assert page.locator(".cards button").count() == 2
    name = page.get_by_label("Or by name")
    for wrong, why in {"strangers": "fingerprint", "afros": "Did you mean 'afro'?"}.items():
        name.fill(wrong)
        name.press("Enter")
        refused(page, why)
    wait_status(page, "Nothing was changed")
    assert page.get_by_role("slider", name="strangers").count() == 0
    page.locator(".cards button", has_text="afro").first.press("Enter")
    found(page, "afro")

    tab(page, "Essence")
    page.locator("#targets button").first.press("Enter")
    page.get_by_alt_text("The target: captain-otto").or_(
        page.get_by_alt_text("The target: captain otto")
    ).wait_for()
    upload(page, "Upload a picture", broken)
    refused(page, "broken.png is not a picture")
    page.get_by_alt_text("The target").wait_for(state="hidden")
    press(page, "Find its essence")
    refused(page, "Got no target picture")
    upload(page, "Upload a picture", TARGETS_FOLDER / "zuri.png")
    page.get_by_alt_text("The target: zuri").wait_for()
    page.get_by_role("button", name="Settings of this search").click()
    page.get_by_role("spinbutton", name="Steps").fill("10")
    page.get_by_role("spinbutton", name="Searches side by side").fill("1")
    press(page, "Find its essence")
    found(page, "essence of zuri")

    tab(page, "Local")
    press(page, "Change this part")
    refused(page, "Got neither words nor a region")
    page.get_by_label("left side").check()
    page.get_by_role("button", name="Settings of the local search").click()
    page.get_by_role("spinbutton", name="Steps").fill("10")
    press(page, "Change this part")
    found(page, "a change (left side)")

    tab(page, "Text to face")
    press(page, "Make faces")
    refused(page, "Got no words")
    page.get_by_label("The face should be").fill(HAT)
    press(page, "Make faces")
    page.get_by_text("8 faces for").wait_for()
    before = wait_for_other_picture(page, "")
    page.locator("#fitting button").nth(2).press("Enter")
    wait_for_other_picture(page, before)
    slider_of(page, HAT).wait_for(state="hidden")  # such a face starts without edits

    tab(page, "Photo")
    send(page, photo)
    page.locator("#photo img").wait_for()
    send(page, broken)
    refused(page, "broken.png (8 bytes) cannot be read")
    page.locator("#photo").wait_for(state="hidden")  # the one before cannot be inverted
    send(page, photo)
    page.locator("#photo img").wait_for()
    page.get_by_label("At once").check()
    press(page, "Use this face")
    page.get_by_alt_text("As the generator renders it").wait_for()

    tab(page, "More")
    page.get_by_label("blend", exact=True).check()
    page.get_by_text("Goes from the mean of some faces").wait_for()
    page.get_by_label("Or seeds before").fill("cat")
    press(page, "Find")
    refused(page, "Got the seeds 'cat' before the change")
    page.get_by_label("Or seeds before").fill("1, 2")
    page.get_by_label("Or seeds after").fill("3 4")
    press(page, "Find")
    page.get_by_text("Found 2 edits").wait_for()
    page.locator("#found button").nth(1).press("Enter")
    wait_status(page, "“blend to back” is applied now")
    found(page, "blend to back")
    page.set_viewport_size(PHONE)
    wait_for(page, lambda: fits(page))
    page.set_viewport_size(DESKTOP)

    tab(page, "Words")
    words.fill("")
    press(page, "Edit")
    refused(page, "Got no words")
    found(page, "blend to back")
    assert fits(page)


def fail(*_: Any) -> None:
    raise ValueError("It cannot be found & <b>that</b> is 'it'.")


def upload(page: Page, name: str, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name=name).click()
    chooser.value.set_files(file)


@pytest.mark.browser
def test_a_search_waits_and_is_stopped_and_goes_on_without_its_page(
    visit: Page, studio: Studio
) -> None:
    page, line = visit, Line(places=1)
    go_on = threading.Event()

    def work(report: Callable[[str], None]) -> None:
        go_on.wait(SECONDS)

    words = page.get_by_label("The picture should show")
    with line_of(studio, line):
        at_work, before = (Search(Turns(), work, line) for _ in range(2))
        set_steps(page, 10)
        words.fill(HAT)
        press(page, "Edit")
        wait_status(page, "Waiting for a turn: 1 search before yours")
        press(page, "Stop")
        wait_status(page, "Stopped")
        press(page, "Edit")
        wait_status(page, "Waiting for a turn: 1 search before yours")
        words.fill("half a thought")
        page.reload()
        wait_status(page, "Waiting for a turn: 1 search before yours")
        edit = page.get_by_role("button", name="Edit", exact=True)
        wait_for(page, lambda: not edit.is_enabled())
        page.goto("about:blank")  # no page shows the search now
        go_on.set()
        at_work.result(), before.result()
        page.go_back()
        found(page, HAT)
        wait_status(page, "Found “")
        assert words.input_value() == "half a thought"
        press(page, "Edit")  # so it is free for the next one
        page.get_by_role("button", name="Stop").wait_for()
        press(page, "Stop")


@pytest.mark.browser
def test_undo_and_the_keys_for_it(visit: Page) -> None:
    page = visit
    first = wait_for_other_picture(page, "")
    page.locator("#undo.spent").wait_for()
    page.locator("#faces button").nth(3).click()
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "3")
    page.locator("#undo:not(.spent)").wait_for()
    third = wait_for_other_picture(page, first)
    tab(page, "Zoo")
    page.locator(".cards button", has_text="afro").first.click()
    slider = found(page, "afro")
    worn = wait_for_other_picture(page, third)
    slider.press("ArrowRight")
    moved = slider.input_value()
    assert float(moved) > 1
    wait_for_final_picture(page, worn)  # now the server knows where the slider rests
    press(page, "Start over")
    slider.wait_for(state="hidden")
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "0")

    undo = page.locator("#undo")
    undo.click()
    stands_at(page, "afro", moved)
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "3")
    page.locator("header").click()
    for _ in range(3):  # each key is a step of its own where the page had time for it
        if found(page, "afro").input_value() == "1":
            break
        before = slider.input_value()
        page.keyboard.press("Control+z")
        wait_for(page, lambda before=before: found(page, "afro").input_value() != before)
    assert slider.input_value() == "1"
    page.keyboard.press("Control+z")
    slider.wait_for(state="hidden")
    wait_for_other_picture(page, moved)
    page.keyboard.press("Control+Shift+Z")
    found(page, "afro")
    name = page.get_by_label("Or by name")
    name.fill("abc")
    name.press("Control+z")  # is the text box's own
    page.wait_for_timeout(300)
    assert found(page, "afro").is_visible()
    undo.evaluate("undo => { undo.click(); undo.click(); }")  # however fast, each press counts
    page.locator("#undo.spent").wait_for()
    undo.click()
    wait_status(page, "There is nothing to undo")
    page.locator("#redo:not(.spent)").wait_for()
    assert wait_for_other_picture(page, third) == first


@pytest.mark.browser
def test_another_tab_shows_a_change_when_it_is_used(browser: Browser, url: str) -> None:  # noqa: F811
    context = browser.new_context()  # two tabs of one browser
    context.set_default_timeout(SECONDS * 1000)
    page, other = context.new_page(), context.new_page()
    page.goto(url)
    wait_for_other_picture(page, "")
    other.goto(page.url)
    wait_for_other_picture(other, "")
    other.locator("#faces button").nth(3).click()
    wait_for(other, lambda: other.evaluate("!!localStorage['stylegan-hub/changed']"))
    page.wait_for_timeout(500)  # browsers tell other tabs of it a little later
    page.evaluate("dispatchEvent(new Event('focus'))")
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "3")
    context.close()


@pytest.mark.browser
def test_a_browser_that_forbids_storage(browser: Browser, url: str) -> None:  # noqa: F811
    page = browser.new_page()
    page.set_default_timeout(SECONDS * 1000)
    page.add_init_script(
        """for (const name of ['localStorage', 'sessionStorage'])
          Object.defineProperty(window, name, {
            configurable: true, get() { throw new DOMException('Denied.', 'SecurityError'); },
          });"""
    )
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    first = wait_for_other_picture(page, "")
    page.locator("#faces button").nth(3).click()
    wait_for_other_picture(page, first)
    page.close()
    assert problems == []


@pytest.mark.browser
def test_links(browser: Browser, url: str) -> None:  # noqa: F811
    link = f"{url}?seed=7&psi=9&edit=afros&edit=afro:0.5&text=a+face+with+a+hat:-1&__theme=light"
    for page in open_page(browser, link):
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        wait_status(page, "Opened the link. psi is “9”")
        wait_status(page, "“afros” was left out")
        stands_at(page, "afro", "0.5")
        stands_at(page, HAT, "-1")
        wait_for(page, lambda page=page: page.get_by_label("Seed").input_value() == "7")
        # A reload opens what is there, not the link.
        wait_for(page, lambda page=page: page.url.endswith("?__theme=light"))
        page.get_by_label("Remove afro").or_(
            page.get_by_role("button", name="Remove afro")
        ).first.click()
        slider_of(page, "afro").wait_for(state="hidden")
        page.reload()
        found(page, HAT)
        assert not slider_of(page, "afro").is_visible()
        press(page, "Copy link")
        wait_status(page, "Copied a link to this face")
        copied = page.evaluate("navigator.clipboard.readText()")
        assert copied == f"{url}?seed=7&psi=0.7&text=a+face+with+a+hat:-1"


@pytest.mark.browser
def test_two_browsers_a_restart_and_the_end(
    browser: Browser,  # noqa: F811
    studio: Studio,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    page_of_server = build(studio)
    _, address, _ = page_of_server.launch(
        prevent_thread_lock=True, quiet=True, _frontend=False, **launch_options(page_of_server)
    )
    (page,) = pages = [browser.new_page()]
    page.set_default_timeout(SECONDS * 1000)
    page.goto(f"{address}?seed=7&edit=afro:0.5")
    found(page, "afro")
    (key,) = [name for name in stored(page) if name.endswith("/visit")]
    assert key and not re.search("[0-9a-f]{32}", page.url)

    other = browser.new_page()
    pages.append(other)
    other.set_default_timeout(SECONDS * 1000)
    other.goto(address)
    wait_for_other_picture(other, "")
    assert other.get_by_label("Seed").input_value() == "0"
    assert not slider_of(other, "afro").is_visible()
    other.close()

    page_of_server.close(verbose=False)
    again = build(studio)
    again.launch(
        prevent_thread_lock=True,
        quiet=True,
        server_port=int(re.findall(r":(\d+)", address)[0]),
        _frontend=False,
        **launch_options(again),
    )
    page.goto(address)
    wait_status(page, "The server was restarted since you were here")
    stands_at(page, "afro", "0.5")  # a link can hold this much

    assert [path for path in tmp_path.rglob("*.jpg") if "visits" in str(path)]
    page.get_by_role("button", name="Your data").click()
    press(page, "Delete my data")
    page.get_by_text("Delete your face, its edits").wait_for()
    press(page, "Keep it")
    page.locator("#delete-data").wait_for(state="hidden")
    assert slider_of(page, "afro").is_visible()
    press(page, "Delete my data")
    press(page, "Delete all of it")
    slider_of(page, "afro").wait_for(state="hidden")
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "0")
    wait_for_other_picture(page, "")
    assert "restarted" not in page.locator("#progress").inner_text()
    page.close()
    again.close(verbose=False)


def stored(page: Page) -> list[str]:
    """Names under which the browser keeps something."""
    names: list[str] = page.evaluate("Object.keys(localStorage)")
    return names
