"""Measure the browser's pictures in headless Chromium.

    python benchmarks/browser.py portraits

Without a pipeline, a random generator of 256 px is measured, with the size of the portraits. The
table has one column for a page as any server sends it, which computes with one thread, and one for
a cross-origin isolated page, which computes with several. Times by the clock mean little on a
machine that does other work, so Chromium's processor time is printed too; threads that wait for
others are part of it.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import tyro

from stylegan_hub.browser.check import chromium
from stylegan_hub.browser.served import ISOLATED, served
from stylegan_hub.browser.static_page import write_static_page
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

if TYPE_CHECKING:
    from playwright.sync_api import Browser

PICTURES = 20
MOVES = 1000
_CHANNELS = (192, 192, 160, 96, 64, 40, 24)
_OPEN = """async () => {
  const { openEngine } = await import('./library/client.js');
  const { readSafetensors } = await import('./library/safetensors.js');
  const here = name => new URL(`./${name}/`, location.href).href;
  window.engine = await openEngine({ pipeline: here('pipeline'), library: here('tfjs') });
  const test = await (await fetch('./pipeline/self_test.safetensors')).arrayBuffer();
  window.s = readSafetensors(test, 'self-test').get('s').data;
  window.render = async (resolution, count) => {
    const times = [];
    for (let i = 0; i < count; i++) {
      s[0] += 0.001; // every layer anew
      times.push((await engine.pictureOf(s, resolution)).milliseconds);
    }
    return times.sort((a, b) => a - b)[count >> 1];
  };
  return engine.about;
}"""


def processor_seconds() -> float:
    """Processor time of all programs that this one started, and of those that they started."""
    parents: dict[int, int] = {}
    times: dict[int, float] = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            fields = (place / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        parents[int(place.name)] = int(fields[1])
        times[int(place.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return sum(times[process] for process in parents if process != os.getpid() and is_ours(process))


def measured_pipeline(name: str | None) -> StyleEditPipeline:
    """The pipeline of this name, or the portraits' CLIP with a random generator of 256 px."""
    pipe = StyleEditPipeline.from_pretrained(name or "portraits")
    if name is not None:
        return pipe
    torch.manual_seed(0)
    generator = StyleGAN2Generator(z_dim=128, w_dim=256, img_resolution=256, channels=_CHANNELS)
    return StyleEditPipeline(generator, pipe.clip, pipe.tokenizer, pipe.image_processor)


def first_picture(browser: Browser, url: str) -> dict[str, str]:
    """Time and bytes until the page shows its first picture."""
    context = browser.new_context(service_workers="block")  # it would load the rest as well
    page = context.new_page()
    page.set_default_timeout(0)
    got: list[int] = []
    page.on(
        "requestfinished", lambda request: got.append(request.sizes()["responseBodySize"])
    )  # workers' requests as well
    used, begin = processor_seconds(), time.perf_counter()
    page.goto(url)
    page.locator("body[data-ready]").wait_for()
    seconds, used = time.perf_counter() - begin, processor_seconds() - used
    size = sum(got)
    context.close()
    return {
        "first picture, loaded": f"{size / 1e6:.2f} MB",
        "first picture, processor": f"{used:.2f} s",
        "first picture, clock": f"{seconds:.2f} s",
    }


def pictures(browser: Browser, url: str) -> dict[str, str]:
    """Times of pictures, and what tf.js holds before and after many of them."""
    page = browser.new_page()
    page.set_default_timeout(0)
    page.goto(f"{url}README.md")
    about = page.evaluate(_OPEN)
    rows = {
        "backend": f"{about['backend']}, threads: {about['threads']}",
        "largest difference from Python": f"{about['difference']} of 255",
    }
    for resolution in about["resolutions"][-2:]:
        page.evaluate("resolution => render(resolution, 3)", resolution)
        before = processor_seconds()
        clock = page.evaluate(f"resolution => render(resolution, {PICTURES})", resolution)
        processor = (processor_seconds() - before) / PICTURES
        rows[f"{resolution} px, processor"] = f"{1000 * processor:.0f} ms"
        rows[f"{resolution} px, clock"] = f"{clock:.0f} ms"
    small = about["resolutions"][1]
    held = [
        page.evaluate(f"async () => {{ await render({small}, {count}); return engine.memory(); }}")
        for count in (1, MOVES)
    ]
    rows[f"tensors before and after {MOVES} moves"] = f"{held[0]['tensors']}, {held[1]['tensors']}"
    rows["their bytes"] = ", ".join(f"{one['bytes'] / 1e6:.1f} MB" for one in held)
    page.close()
    return rows


def measured(folder: Path, headers: Mapping[str, str]) -> dict[str, str]:
    """All rows of one column."""
    from playwright.sync_api import sync_playwright

    with served({"": folder}, headers=headers) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        rows = first_picture(browser, url) | pictures(browser, url)
        browser.close()
    return rows


def main(pipeline: Annotated[str | None, tyro.conf.Positional] = None) -> None:
    """Print the table.

    Args:
        pipeline: bundled name, folder or Hub id.
    """
    pipe = measured_pipeline(pipeline)
    with tempfile.TemporaryDirectory() as place:
        folder = write_static_page(pipe, Path(place) / "page").folder
        plain, isolated = measured(folder, {}), measured(folder, ISOLATED)
    print("| | any page | isolated page |\n|---|---|---|")
    for name in plain:
        print(f"| {name} | {plain[name]} | {isolated[name]} |")
    print(f"\nLoad of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores.")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
