"""The page: its handlers, the same over HTTP, and a person's clicks in headless Chromium."""

from __future__ import annotations

import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from demo.app import build, launch_options
from demo.tabs.words import EXAMPLES, archive, change, choose, random_seeds, warning
from stylegan_hub.edits.base import load_edit
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session, Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 60  # that a click may take on a busy machine
pytestmark = [
    # gradio asks its pandas for what that is about to drop.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Sockets and event loops that gradio and its client leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    page = build(studio)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, **launch_options())
    yield address
    page.close(verbose=False)


# Handlers


def test_choose() -> None:
    assert choose(Session(), 7.0) == Session(seed=7)
    for seed in (None, 1.5):
        with pytest.raises(ValueError, match=f"Got seed {seed}"):
            choose(Session(), seed)


def test_random_seeds_differ() -> None:
    assert len(set(random_seeds())) == 8


def test_change(studio: Studio) -> None:
    *frames, last = change(studio, Session(seed=7), "a face with a hat", steps=3)
    assert frames and all(frame.session == Session(seed=7) for frame in frames)
    assert 'value="1" max="3"' in frames[0].status
    assert "Found “a face with a hat”" in last.status
    ((edit, strength),) = last.session.edits
    assert (edit.origin.prompt, strength) == ("a face with a hat", 1.0)
    assert last.pictures == studio.draw(last.session)

    *_, again = change(studio, last.session, "a beard", steps=1)
    assert [edit.origin.prompt for edit, _ in again.session.edits] == ["a beard"]


def test_change_stopped(studio: Studio) -> None:
    frames = change(studio, Session(seed=7), "a hat", steps=100_000, owner="me")
    next(frames)
    studio.stop("me")
    *_, last = frames
    assert "Stopped" in last.status
    assert last.session == Session(seed=7)


def test_status_shows_words_as_text(studio: Studio) -> None:
    *_, last = change(studio, Session(), "<b>hat</b>", steps=1)
    assert "&lt;b&gt;hat&lt;/b&gt;" in last.status


def test_warning(studio: Studio) -> None:
    assert warning(studio, "a hat") is None
    assert "'zebra'" in (warning(studio, "a zebra with a hat") or "")


def test_archive(studio: Studio, tmp_path: Path) -> None:
    *_, last = change(studio, Session(), "a hat", steps=2)
    ((edit, _),) = last.session.edits
    unpack(archive(edit, "a-hat"), tmp_path)
    loaded = load_edit(tmp_path / "a-hat")
    assert studio.draw(Session().with_edit(loaded)) == last.pictures


# Over HTTP


@pytest.fixture
def client(url: str, tmp_path: Path) -> Client:
    return Client(url, verbose=False, download_files=tmp_path)


def test_edit_over_http(client: Client, studio: Studio) -> None:
    client.predict(7, api_name="/face")
    job = client.submit("a face with a hat", 10, "w_plus", api_name="/edit")
    (before, after), status = job.result()
    assert "Found" in status["value"] if isinstance(status, dict) else "Found" in status
    assert len(job.outputs()) >= 2  # pictures came on the way
    assert pixels(before) != pixels(after)

    pictures, file = client.predict(0, api_name="/strength")
    assert pixels(pictures[0]) == pixels(pictures[1])
    with Image.open(file) as saved:
        assert saved.tobytes() == studio.faces([7])[0].tobytes()
    _, file = client.predict(2, api_name="/strength")
    assert Path(file).name == "face-7-a-face-with-a-hat.png"
    with Image.open(file) as saved:
        assert saved.tobytes() != studio.faces([7])[0].tobytes()


def test_users_do_not_meet(url: str, client: Client, tmp_path: Path) -> None:
    client.predict("a hat", 10, "w_plus", api_name="/edit")
    stranger = Client(url, verbose=False, download_files=tmp_path)
    with pytest.raises(AppError, match="no edit whose strength could change"):
        stranger.predict(1, api_name="/strength")
    client.predict(1, api_name="/strength")


@pytest.mark.parametrize(
    ("endpoint", "inputs", "message"),
    [
        ("/edit", ("", 10, "w_plus"), "Got no words"),
        ("/edit", ("hat " * 10_000, 10, "w_plus"), "Got 10000 words"),
        ("/edit", ("a hat", 10, "z"), "not in the list of choices"),
        ("/edit", ("a hat", 0, "s"), "less than minimum"),
        ("/face", (-1,), "less than minimum"),
        ("/face", (None,), "Got seed None"),
    ],
)
def test_bad_input_over_http(
    client: Client, endpoint: str, inputs: tuple[Any, ...], message: str
) -> None:
    with pytest.raises((AppError, ValueError), match=message):
        client.predict(*inputs, api_name=endpoint)


def test_public_endpoints(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) == {"/edit", "/face", "/strength"}


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("There is no chromium on this machine (Debian: apt-get install chromium).")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; at its end nothing went wrong and nothing was fetched from outside."""
    page = browser.new_page()
    page.set_default_timeout(SECONDS * 1000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    page.goto(url)
    yield page
    page.close()
    assert [entry for entry in problems if not entry.startswith((url, "data:", "blob:"))] == []


@pytest.mark.browser
@pytest.mark.parametrize("size", [(1280, 900), (390, 844)], ids=["desktop", "phone"])
def test_a_visit(visit: Page, tmp_path: Path, size: tuple[int, int]) -> None:
    page = visit
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.locator("#faces button").nth(3).click()
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "3")
    before = wait_for_other_picture(page, "")
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]

    set_steps(page, 10)
    page.get_by_role("button", name="a hat", exact=True).click()
    words = page.get_by_label("The picture shall show")
    wait_for(page, lambda: words.input_value() == EXAMPLES["a hat"])
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_text("Found").wait_for()
    after = wait_for_other_picture(page, before)

    slider = page.get_by_role("slider", name="Strength")
    wait_for(page, slider.is_enabled)
    slider.press("ArrowLeft")
    wait_for_other_picture(page, after)

    with page.expect_download() as download:
        page.get_by_text("Save picture").click()
    assert download.value.suggested_filename == "face-3-a-person-wearing-a-hat.png"
    with Image.open(download.value.path()) as picture:
        assert picture.format == "PNG" and picture.size == (32, 32)
    with page.expect_download() as download:
        page.get_by_text("Save edit").click()
    unpack(Path(download.value.path()).read_bytes(), tmp_path)
    assert load_edit(tmp_path / "a-person-wearing-a-hat").origin.prompt == EXAMPLES["a hat"]

    page.get_by_role("button", name="Keep").click()
    page.get_by_text("The next change starts from this face").wait_for()
    page.get_by_role("button", name="Start over").click()
    wait_for(page, lambda: words.input_value() == "")


@pytest.mark.browser
def test_keyboard_and_stop(visit: Page) -> None:
    page = visit
    before = wait_for_other_picture(page, "")
    words = page.get_by_label("The picture shall show")
    words.fill(" ")
    words.press("Enter")
    page.get_by_text("Got no words").wait_for()
    page.get_by_text("Nothing was changed").wait_for()

    set_steps(page, 300)
    words.fill("a face with a beard")
    words.press("Enter")
    wait_for_other_picture(page, before)
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped").wait_for()
    wait_for(page, page.get_by_role("button", name="Edit", exact=True).is_enabled)
    assert not page.get_by_role("slider", name="Strength").is_enabled()


@pytest.mark.browser
def test_leaving_the_page_stops_its_search(visit: Page) -> None:
    page = visit
    before = wait_for_other_picture(page, "")
    set_steps(page, 300)
    page.get_by_label("The picture shall show").fill("a face with a beard")
    page.get_by_role("button", name="Edit", exact=True).click()
    wait_for_other_picture(page, before)
    assert searching()
    page.close()
    end = time.monotonic() + SECONDS
    while searching():
        assert time.monotonic() < end, "The search goes on for nobody."
        time.sleep(0.1)


def searching() -> bool:
    return any(thread.name == "search" for thread in threading.enumerate())


def set_steps(page: Page, steps: int) -> None:
    page.get_by_role("button", name="Settings of the search").click()
    page.get_by_role("spinbutton", name="Steps").fill(str(steps))


def wait_for(page: Page, condition: Any, seconds: float = SECONDS) -> None:
    """Until the condition holds; the page goes on meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not happen in time."
        page.wait_for_timeout(50)


def wait_for_other_picture(page: Page, source: str) -> str:
    """The source of the picture after the edit, once it is another one."""
    picture = page.locator("#pictures img").nth(1)
    picture.wait_for()
    wait_for(page, lambda: picture.get_attribute("src") not in (source, None))
    return picture.get_attribute("src") or ""


def unpack(data: bytes, folder: Path) -> None:
    with zipfile.ZipFile(BytesIO(data)) as bundle:
        bundle.extractall(folder)


def pixels(path: str) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()
