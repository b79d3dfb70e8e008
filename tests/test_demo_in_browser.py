"""Pictures while a slider of the page moves, rendered by the visitor's browser."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from browser_site import need_tfjs
from PIL import Image
from safetensors.torch import load
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
from test_session import in_s, make_edit, make_mapper

from demo import in_browser
from demo.desk import Desk
from demo.visits import Visits
from stylegan_hub.browser import tfjs
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.latents import Latents
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.rendering import Rendering
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser


class OwnWay(Direction):
    """An edit that is more than a sum."""

    def apply(self, latents: Latents, strength: float | None = None) -> Latents:
        return super().apply(latents, abs(1.0 if strength is None else strength))


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture
def visits(tmp_path: Path) -> Visits:
    return Visits(parent=tmp_path)


@pytest.fixture
def desk(visits: Visits) -> Desk:
    return visits.open(None).desk


@pytest.fixture
def client(studio: Studio, visits: Visits) -> Iterator[TestClient]:
    with TestClient(Starlette(routes=in_browser.routes(studio, visits))) as client:
        yield client


def test_the_codes_of_a_stack(client: TestClient, desk: Desk, studio: Studio) -> None:
    pipe = studio.pipe
    edits = (make_edit(pipe), make_mapper(pipe), in_s(pipe))
    for edit in edits:
        desk.change(lambda session, edit=edit: session.with_edit(edit))
    answer = client.get("/in_browser/codes", params={"channel": desk.channel})
    assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
    rows = load(answer.content)["rows"]
    strengths = torch.tensor([0.5, -1.0, 1.5])
    drawn = pipe.generator.synthesis_from_styles((rows[0] + strengths @ rows[1:])[None])
    applied = [(edit, float(k)) for edit, k in zip(edits, strengths, strict=True)]
    wanted = pipe.synthesize(pipe.apply(pipe.sample(desk.session.seed), applied))
    assert torch.allclose(drawn, wanted, atol=1e-4)


def test_what_stays_on_the_server(client: TestClient, desk: Desk, studio: Studio) -> None:
    pipe = studio.pipe
    assert client.get("/in_browser/codes", params={"channel": "f" * 32}).status_code == 404
    own = OwnWay(torch.zeros(8, 16), "w_plus", pipe.base_model)
    desk.change(lambda session: session.with_edit(own))
    assert client.get("/in_browser/codes", params={"channel": desk.channel}).status_code == 204
    stack = Session().stack.added(make_edit(pipe), region="hair")
    desk.change(lambda session: session.with_stack(stack))
    assert client.get("/in_browser/codes", params={"channel": desk.channel}).status_code == 204


def test_what_is_offered(studio: Studio, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need_tfjs()
    files, refusal = in_browser.offered(studio)
    assert refusal is None and {"library/client.js", "pipeline/layout.json"} <= {*files}
    monkeypatch.setattr(in_browser, "MAX_BYTES", 1000)
    files, refusal = in_browser.offered(studio)
    assert not files and "for a page" in str(refusal)
    monkeypatch.setattr(tfjs, "folder", lambda: tmp_path)
    files, refusal = in_browser.offered(studio)
    assert not files and "python -m stylegan_hub.browser.tfjs" in str(refusal)


def test_files(client: TestClient) -> None:
    need_tfjs()
    offer = client.get("/in_browser/offer").json()
    assert offer["refusal"] is None
    files = f"/in_browser/{offer['version']}"
    for name, kind in (
        ("library/worker.js", ("text/javascript", "application/javascript")),
        ("pipeline/layout.json", "application/json"),
        ("tfjs/tfjs-backend-wasm-simd.wasm", "application/wasm"),
    ):
        answer = client.get(f"{files}/{name}")
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
    assert client.get(f"{files}/pipeline/../../secret").status_code == 404
    assert client.get("/in_browser/earlier/pipeline/layout.json").status_code == 404


def test_other_files_have_other_addresses() -> None:
    first = in_browser.version_of({"a": b"1", "b": b"2"})
    assert first == in_browser.version_of({"b": b"2", "a": b"1"})
    assert first != in_browser.version_of({"a": b"1", "b": b"3"})


@pytest.mark.browser
def test_damaged_weights_leave_the_server_at_work(
    browser: Browser,  # noqa: F811
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_tfjs()
    files = in_browser.synthesis_files(studio.pipe)
    files["generator.safetensors"] = files["generator.safetensors"][:-100]
    monkeypatch.setattr(in_browser, "synthesis_files", lambda _: files)
    for url in serve(studio):
        for page in open_page(browser, f"{url}?edit=afro"):
            slider = page.get_by_role("slider", name="range slider for afro", exact=True)
            slider.wait_for()
            before = wait_for_other_picture(page, "")
            line = page.locator("#renderer")
            wait_for(page, lambda line=line: "by the server" in line.inner_text())
            assert "this browser cannot" in line.inner_text()
            slider.press("ArrowLeft")
            wait_for_other_picture(page, before)


@pytest.mark.browser
def test_fifty_moves_ask_nobody(
    browser: Browser,  # noqa: F811
    studio: Studio,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_tfjs()
    picture = Rendering.picture

    def slow(self: Rendering, session: Session, *options: Any) -> Image.Image:
        if len(options) == 2:  # a moving one
            time.sleep(1)  # far more than this browser takes
        return picture(self, session, *options)

    monkeypatch.setattr(Rendering, "picture", slow)
    for url in serve(studio):
        for page in open_page(browser, f"{url}?edit=afro"):
            slider = page.get_by_role("slider", name="range slider for afro", exact=True)
            slider.wait_for()
            wait_for_other_picture(page, "")
            line = page.locator("#renderer")
            wait_for(page, lambda line=line: "by this browser (wasm" in line.inner_text())
            page.wait_for_timeout(1000)  # the codes follow
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            box = slider.bounding_box()
            assert box is not None
            height = box["y"] + box["height"] / 2
            page.mouse.move(box["x"] + box["width"] * 0.8, height)
            page.mouse.down()
            page.mouse.move(box["x"] + box["width"] * 0.3, height, steps=50)
            after = page.locator("#pictures img").nth(1)
            wait_for(page, lambda after=after: (after.get_attribute("src") or "")[:5] == "blob:")
            page.wait_for_timeout(500)
            # gradio keeps a stream of events open and asks now and then whether it lives.
            own = [one for one in asked if "blob:" not in one and "heartbeat" not in one]
            assert own == []
            strength = float(slider.input_value())
            shown = page.evaluate(
                """async () => {
                  const picture = document.querySelectorAll('#pictures img')[1];
                  return [...new Uint8Array(await (await fetch(picture.src)).arrayBuffer())];
                }"""
            )
            got = np.asarray(Image.open(io.BytesIO(bytes(shown))).convert("RGB"), dtype=int)
            edited = studio.pipe(seed=0, edits=[(load_edit("afro"), strength)]).images[0]
            assert abs(got - np.asarray(edited, dtype=int)).max() <= 2
            page.mouse.up()
            wait_for_final_picture(page, "")
