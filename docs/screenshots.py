"""Pictures of each tab of the page for docs/page.md: light, dark and on a phone.

    python docs/screenshots.py

It opens the page, uses every tab for what it is for, and writes docs/screenshots/TAB-LOOK.webp.
It needs Debian's chromium and takes about ten minutes on one core. The photograph in the tab Photo
is drawn by the renderer of the portraits, so that no person is in any picture.
"""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright

from stylegan_hub import images
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.renderer import render

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "screenshots"
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
LOOKS: dict[str, tuple[Literal["light", "dark"], ViewportSize, int]] = {
    "light": ("light", DESKTOP, 720),
    "dark": ("dark", DESKTOP, 720),
    "phone": ("light", PHONE, 330),
}
"""Color scheme, window and the width of the saved picture; all together stay below 450 kB."""
QUALITY = 36
MINUTES = 10  # that a search or a training may take
PORTRAIT = 10_000_010  # no face that the generator was trained with


def words(page: Page) -> None:
    page.get_by_label("The picture should show").fill("a face with purple hair")
    press(page, "Edit")
    wait_for_edit(page, "a face with purple hair")


def zoo(page: Page) -> None:
    page.locator("#zoo .cards button", has_text="glasses").first.click()
    page.locator("#card", has_text="works on").wait_for()
    wait_for_edit(page, "glasses")


def essence(page: Page) -> None:
    page.locator("#targets button").nth(3).click()
    page.get_by_alt_text("The target: zuri").wait_for()
    press(page, "Find its essence")
    wait_for_edit(page, "essence of zuri")
    page.get_by_role("slider", name="Strength on others").wait_for()


def local(page: Page) -> None:
    part = page.locator("#part img")
    part.wait_for()
    width = part.evaluate("image => image.clientWidth")
    part.click(position={"x": 0.5 * width, "y": 0.28 * width})
    page.get_by_alt_text("The face; marked: hair").wait_for()
    page.get_by_label("The part should look like").fill("a face with blonde hair")
    press(page, "Change this part")
    wait_for_edit(page, "a face with blonde hair (hair)")


def text_to_face(page: Page) -> None:
    page.get_by_label("The face should be").fill("an old man with a beard and a hat")
    press(page, "Make faces")
    page.get_by_text("8 faces for").wait_for()
    page.locator("#fitting button").first.click()
    page.locator("#caption", has_text="an old man").wait_for()


def photo(page: Page) -> None:
    picture = Image.new("RGB", (640, 400), (150, 160, 170))
    portrait = images.to_pil(render(sample([PORTRAIT]), 256))[0]
    picture.paste(portrait.resize((300, 300)), (170, 60))
    with tempfile.TemporaryDirectory() as folder:
        picture.save(file := Path(folder) / "drawn.png")
        with page.expect_file_chooser() as chooser:
            press(page, "Upload a photo")
        chooser.value.set_files(file)
        page.get_by_text("Found a face in drawn.png").wait_for()
        press(page, "Use this face")
        page.get_by_alt_text("As the generator renders it").wait_for()
    wait_for_end(page)


def mix(page: Page) -> None:
    page.get_by_role("spinbutton", name="Coarse styles").fill("0.5")
    page.get_by_role("spinbutton", name="Fine styles").fill("1")
    press(page, "Show the way between the faces")
    page.locator("#way img").nth(4).wait_for()


def save_as(page: Page) -> None:
    put_on(page, "mohawk")
    page.get_by_label("Before and after (PNG)").check()
    page.get_by_label("into a corner too").check()
    press(page, "Make the file")
    page.locator("#taken img").wait_for()


def make_your_own(page: Page) -> None:
    page.get_by_label("Name of the edit").fill("my red lipstick")
    page.get_by_label("What every face should show").fill("a face with red lipstick")
    page.get_by_label("A quick look").check()
    press(page, "Make it")
    page.get_by_text("“my red lipstick” is ready").wait_for()
    press(page, "Apply")
    page.locator(".slot input[type=range]").first.wait_for()


def share(page: Page) -> None:
    page.locator("#share input").click()
    page.get_by_role("option", name="My edit: my red lipstick").click()
    page.get_by_label("Name", exact=True).fill("my-red-lipstick")
    page.get_by_label("No real person").check()
    press(page, "Show the card")
    page.locator("#share-card img").wait_for()


def more(page: Page) -> None:
    page.get_by_label("discovery", exact=True).check()
    press(page, "Find")
    page.locator("#found img").first.wait_for()
    wait_for_end(page)
    page.locator("#found button").first.click()
    page.locator(".slot input[type=range]").first.wait_for()


# Down to what the tab shows, but no farther than to the names of the tabs. On a phone, the face and
# its newest slider stay in sight above them.
_TO_THE_TAB = """() => {
  scrollTo({top: 0, behavior: 'instant'});
  const height = query => document.querySelector(query)?.offsetHeight ?? 0;
  const above = innerWidth > 720 ? 0 : height('#view') + height('.slot:not(.hide)');
  const tabs = document.querySelector('#tabs').getBoundingClientRect();
  const top = Math.min(tabs.top - above, tabs.bottom - innerHeight);
  scrollTo({top: top - 8, behavior: 'instant'});
}"""

TABS: dict[str, Callable[[Page], None]] = {
    "Words": words,
    "Zoo": zoo,
    "Essence": essence,
    "Local": local,
    "Text to face": text_to_face,
    "Photo": photo,
    "Mix": mix,
    "Save as": save_as,
    "Make your own": make_your_own,
    "Share": share,
    "More": more,
}
"""The tabs, from the first to the last, and what a visitor does there."""


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).filter(visible=True).click()


def put_on(page: Page, edit: str) -> None:
    """By its name in the zoo; then back to the tab that was open."""
    tabs = page.locator("#tabs [role=tab][aria-selected=true]")
    before = tabs.inner_text()
    page.get_by_role("tab", name="Zoo", exact=True).click()
    page.get_by_label("Or by name").fill(edit)
    press(page, "Apply")
    wait_for_edit(page, edit)
    page.get_by_role("tab", name=before, exact=True).click()


def wait_for_edit(page: Page, name: str) -> None:
    """Until its slider can be moved."""
    slider = page.locator(".slot", has_text=name).locator("input[type=range]:enabled")
    slider.first.wait_for()
    wait_for_end(page)


def wait_for_end(page: Page) -> None:
    """Until no search runs, and the last picture is there."""
    page.get_by_role("button", name="Stop").wait_for(state="hidden")
    page.wait_for_timeout(500)
    page.wait_for_function("[...document.querySelectorAll('#pictures img')].every(i => i.complete)")


def start_over(page: Page) -> None:
    press(page, "Start over")
    page.locator(".slot").first.wait_for(state="hidden")
    page.locator("#faces button").nth(2).click()
    wait_for_end(page)


def save(page: Page, look: str, path: Path) -> None:
    """A picture of the window with the tab in it."""
    scheme, size, width = LOOKS[look]
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size(size)
    page.mouse.move(0, 0)  # nothing is highlighted
    page.evaluate("document.activeElement.blur()")
    page.evaluate(_TO_THE_TAB)
    page.wait_for_timeout(500)  # the sizes and colors settle
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.thumbnail((width, picture.height), Image.Resampling.LANCZOS)
        picture.convert("RGB").save(path, quality=QUALITY, method=6)


@contextmanager
def served() -> Iterator[str]:
    """The address of the page, which ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "app.py", "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if line.startswith("The page is at"):
                    break
            else:
                raise SystemExit("The page ended before it opened; see what `python app.py` says.")
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.terminate()
            server.communicate()


def main() -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("Found no chromium. Install it: apt-get install chromium")
    FOLDER.mkdir(exist_ok=True)
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(MINUTES * 60_000)
        page.goto(address)
        page.locator("#pictures img").nth(1).wait_for()
        # The face comes before the page's first event, after which the browser keeps its visit.
        page.wait_for_function("Object.keys(localStorage).some(name => name.endsWith('visit'))")
        for tab, use in TABS.items():
            page.set_viewport_size(DESKTOP)
            start_over(page)
            page.get_by_role("tab", name=tab, exact=True).click()
            use(page)
            for look in LOOKS:
                name = f"{tab.lower().replace(' ', '-')}-{look}.webp"
                save(page, look, FOLDER / name)
            print(tab, flush=True)
        browser.close()


if __name__ == "__main__":
    main()
