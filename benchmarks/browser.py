"""Time renders in a headless Chromium: `python benchmarks/browser.py`, or `... PIPELINE`.

Without a pipeline, a random generator of 256 px is measured, with the size of the portraits. Times
by the clock mean nothing on a machine that does other work, so Chromium's processor time is printed
too.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import torch

from stylegan_hub.browser import tfjs
from stylegan_hub.browser.check import LIBRARY, chromium
from stylegan_hub.browser.export import synthesis_files
from stylegan_hub.browser.served import served
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

PICTURES = 10
_CHANNELS = (192, 192, 160, 96, 64, 40, 24)
_OPEN = """async () => {
  const { openEngine } = await import('./library/client.js');
  const { readSafetensors } = await import('./library/safetensors.js');
  const here = name => new URL(`./${name}/`, location.href).href;
  const begin = performance.now();
  window.engine = await openEngine({ pipeline: here('pipeline'), library: here('tfjs') });
  const test = await (await fetch('./pipeline/self_test.safetensors')).arrayBuffer();
  window.s = readSafetensors(test, 'self-test').get('s').data;
  return { opened: performance.now() - begin, ...engine.about };
}"""
_RENDER = """async ([resolution, count]) => {
  const times = [];
  for (let i = 0; i < count; i++) {
    s[0] += 0.01; // every layer anew
    times.push((await engine.pictureOf(s, resolution ?? undefined)).milliseconds);
  }
  return times.sort((a, b) => a - b)[count >> 1];
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


def main() -> None:
    """Print the time of opening and rendering."""
    from playwright.sync_api import sync_playwright

    tfjs.library()
    pipe = measured_pipeline(sys.argv[1] if len(sys.argv) > 1 else None)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        for name, data in synthesis_files(pipe).items():
            (Path(place) / name).write_bytes(data)
        places = {"pipeline/": Path(place), "library/": LIBRARY, "tfjs/": tfjs.folder()}
        with served({**places, "": Path(place)}) as url:
            browser = playwright.chromium.launch(
                executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page()
            page.set_default_timeout(0)
            page.goto(f"{url}layout.json")
            about = page.evaluate(_OPEN)
            print(f"opened with {about['backend']} in {about['opened']:.0f} ms")
            print(f"largest difference from Python: {about['difference']} of 255")
            for resolution in about["resolutions"][-2:]:
                page.evaluate(_RENDER, [resolution, 2])
                before = processor_seconds()
                clock = page.evaluate(_RENDER, [resolution, PICTURES])
                processor = (processor_seconds() - before) / PICTURES
                print(
                    f"{resolution} px: {1000 * processor:.0f} ms of processor time, "
                    f"{clock:.0f} ms by the clock"
                )
            browser.close()
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
