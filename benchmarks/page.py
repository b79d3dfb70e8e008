"""How soon the page answers, seen from a browser on the same machine.

    python benchmarks/page.py
    python benchmarks/page.py --new_home --moves 1000 --searches 20

It starts the page in a process of its own, opens it in headless Chromium, and measures

- *first page*: from the start of the process to the first paint; *first face*: from there until the
  face is shown;
- *a slider's picture*: from moving the slider to the decoded picture, rendered by the server or by
  the browser, alone and while another visitor searches;
- *instant words*: from Enter to the decoded picture;
- *memory* of the server's process after some moves and one search, and after all of them.

Times are those of the clock: the median, and in brackets the 95th percentile. Nothing else should
run meanwhile.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import tyro

from stylegan_hub.browser.check import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Page

_ROOT = Path(__file__).resolve().parents[1]
_EDIT = "glasses"
_WORDS = ("an afro", "blue eyes", "red hair", "a smiling face", "a beard", "freckles")
_SECONDS = 120
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null"
# Moves the slider as a hand does, and waits until the picture has changed and is decoded.
_MOVES = """
async ([count, byServer]) => {
  if (byServer) window.inBrowser.draw = async () => null;
  const label = [...document.querySelectorAll('input[type=range]')]
    .find(one => one.getAttribute('aria-label') === 'range slider for NAME');
  const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set;
  const after = () => document.querySelectorAll('#pictures img')[1];
  const times = [];
  for (let move = 0; move < count; move++) {
    const before = after().src;
    const begin = performance.now();
    set.call(label, String((move * 37 % 150) / 100));
    label.dispatchEvent(new Event('input', { bubbles: true }));
    while (after().src === before) await new Promise(requestAnimationFrame);
    await after().decode().catch(() => {});
    times.push(performance.now() - begin);
  }
  return times;
}
""".replace("NAME", _EDIT)


@dataclass(frozen=True)
class Config:
    """What to measure."""

    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    new_home: bool = False
    """Start with an empty home folder, so that the kernel is built beside the page."""
    moves: int = 100
    """Moves of the slider for each row."""
    searches: int = 3
    """Searches of the other visitor at least."""


def main(config: Config) -> None:
    """Print the table."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page()
        page.set_default_timeout(1000 * _SECONDS)
        with server(config.pipeline, home if config.new_home else None) as (url, process):
            begin = process.began
            wait_until(lambda: answers(url))
            opened = time.perf_counter()
            page.goto(url)
            wait_until(lambda: page.evaluate(_PAINT) is not None)
            paint = opened - begin + page.evaluate(_PAINT) / 1000
            wait_until(lambda: has_picture(page))
            row("first page", f"{paint:.1f} s")
            row("first face, after it", f"{time.perf_counter() - begin - paint:.1f} s")
            wait_until(lambda: visit_is_kept(page))
            row(
                "until the page has answered its first event",
                f"{time.perf_counter() - begin - paint:.1f} s",
            )
            opened = time.perf_counter()
            page.goto(f"{url}?seed=7&edit={_EDIT}")
            wait_until(lambda: has_picture(page))
            row(
                "a link with an edit, from Enter to its face",
                f"{time.perf_counter() - opened:.1f} s",
            )
            page.get_by_role("slider", name=f"range slider for {_EDIT}", exact=True).wait_for()
            page.wait_for_timeout(3000)  # the browser decides whether it renders

            row("slider, as it is", shown(page.evaluate(_MOVES, [config.moves, False])))
            row("slider, by the server", shown(page.evaluate(_MOVES, [config.moves, True])))
            with somebody_searching(url, 1):
                pass
            first = process.megabytes()
            with somebody_searching(url, config.searches) as searched:
                times = page.evaluate(_MOVES, [config.moves, True])
            row("slider, by the server, while another visitor searches", shown(times))
            row("instant words", shown([words(page, text) for text in _WORDS]))
            row(
                f"memory after {2 * config.moves} moves and a search, and after "
                f"{3 * config.moves} and {len(searched) + 1}",
                f"{first:.0f} MB, {process.megabytes():.0f} MB",
            )
        browser.close()
    print(f"\nLoad of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


class Served:
    """The process of the page."""

    def __init__(self, arguments: list[str], env: dict[str, str]) -> None:
        self.began = time.perf_counter()
        self._process = subprocess.Popen(
            arguments, cwd=_ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def megabytes(self) -> float:
        """Memory that it holds."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(30)


@contextmanager
def server(pipeline: str, home: str | None) -> Iterator[tuple[str, Served]]:
    """The page's address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(_ROOT)} | ({"HOME": home} if home else {})
    arguments = [sys.executable, "-m", "stylegan_hub", "demo", "--pipeline", pipeline]
    process = Served([*arguments, "--port", str(port)], env)
    try:
        yield f"http://127.0.0.1:{port}/", process
    finally:
        process.end()


@contextmanager
def somebody_searching(url: str, least: int) -> Iterator[list[float]]:
    """Another visitor who starts one search after the other; yields the time of each so far."""
    from gradio_client import Client

    client, seconds, done = Client(url, verbose=False), [], threading.Event()

    def search() -> None:
        client.predict(seed=3, api_name="/face")
        client.predict("a face with long hair", api_name="/edit")
        while not done.is_set() or len(seconds) < least:
            begin = time.perf_counter()
            client.predict(words="a face with long hair", api_name="/refine")
            seconds.append(time.perf_counter() - begin)

    thread = threading.Thread(target=search)
    thread.start()
    time.sleep(3)  # the search should be under way
    yield seconds
    done.set()
    thread.join()


def words(page: Page, text: str) -> float:
    """Milliseconds from Enter to the picture."""
    box = page.get_by_label("The picture should show")
    box.fill(text)
    before = final_picture(page)
    begin = time.perf_counter()
    box.press("Enter")
    wait_until(lambda: final_picture(page) != before)
    return 1000 * (time.perf_counter() - begin)


def final_picture(page: Page) -> str:
    """The address of the picture that the server made last."""
    found = page.evaluate(
        "(() => { const one = document.querySelectorAll('#pictures img')[1];"
        " return one ? one.dataset.final && one.src.startsWith('blob:') ? one.dataset.final"
        " : one.src : ''; })()"
    )
    return str(found)


def has_picture(page: Page) -> bool:
    """Whether the face is shown."""
    return bool(
        page.evaluate(
            "[...document.querySelectorAll('#pictures img')].some(one => one.naturalWidth > 1"
            " && one.checkVisibility({ visibilityProperty: true }))"
        )
    )


def visit_is_kept(page: Page) -> bool:
    """Whether the page's first event was answered: then the browser keeps the visit's key."""
    return bool(page.evaluate("Object.keys(localStorage).some(name => name.endsWith('visit'))"))


def answers(url: str) -> bool:
    """Whether the server answers."""
    try:
        return httpx.get(url, timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait until something holds.

    Raises:
        SystemExit: it does not within two minutes.
    """
    end = time.perf_counter() + _SECONDS
    while not holds():
        if time.perf_counter() > end:
            raise SystemExit("The page did not answer within two minutes.")
        time.sleep(0.01)


def shown(times: list[float]) -> str:
    """Median and 95th percentile."""
    ordered = sorted(times)
    late = ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))]
    return f"{statistics.median(ordered):.0f} ms ({late:.0f} ms)"


def row(name: str, value: str) -> None:
    """Print a row of the table."""
    print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
