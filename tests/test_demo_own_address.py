"""A page answers under its own names, and changes something for its own pages and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from gradio_client import Client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket
from test_demo import pytestmark

from demo.app import build, launch_options
from demo.own_address import OwnAddress, name_in
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.studio import Studio

PROXY = "faces.example.org"
SHARED = "0123abcd.gradio.live"
JOIN = "gradio_api/queue/join"

pytestmark = [*pytestmark, pytest.mark.usefixtures("nothing_bundled")]


@pytest.fixture(scope="module")
def url(tiny_pipeline: StyleEditPipeline) -> Iterator[str]:
    """A page that a proxy shows too; the share link is known when it runs already."""
    page = build(Studio(tiny_pipeline))
    names = {PROXY}
    options = launch_options(page, names)
    _, address, _ = page.launch(prevent_thread_lock=True, quiet=True, **options)
    names.add(SHARED)
    yield address
    page.close(verbose=False)


def join(url: str, **headers: str) -> httpx.Response:
    """Ask for something to be done, of a kind that there is not; a page that listens says so."""
    data = {"data": [], "fn_index": 10**6, "session_hash": "x"}
    return httpx.post(f"{url}{JOIN}", json=data, headers=headers)


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil", ""])
def test_a_strange_name_gets_nothing(url: str, host: str) -> None:
    for path in ("", "config", "picture?channel=x", "in_browser/offer"):
        answer = httpx.get(f"{url}{path}", headers={"Host": host})
        assert answer.status_code == 421 and "gradio" not in answer.text
        assert answer.headers["content-type"].startswith("text/plain")
        assert f"Got the address {host!r}" in answer.text and "--allow-host" in answer.text
    assert join(url, Host=host, Origin=f"http://{host}").status_code == 421


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost:80", "LOCALHOST", "[::1]:7860", "10.0.0.8:7860", PROXY, SHARED]
)
def test_names_of_its_own(url: str, host: str) -> None:
    assert httpx.get(f"{url}config", headers={"Host": host}).status_code == 200
    assert httpx.get(url, headers={"Host": host}).text.lstrip().startswith("<!doctype html>")
    own = join(url, Host=host, Origin=f"https://{host}")
    assert own.status_code not in (403, 421), own.text


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "http://127.0.0.1",
        "file://",
        "%",
        "",
    ],
)
def test_other_pages_change_nothing(url: str, origin: str) -> None:
    data = {"data": [], "fn_index": 0, "session_hash": "x"}
    for path in (JOIN, "gradio_api/call/render", "gradio_api/upload", "gradio_api/reset"):
        answer = httpx.post(f"{url}{path}", json=data, headers={"Origin": origin})
        assert answer.status_code == 403 and "only pages of this address" in answer.text
    assert httpx.get(f"{url}config", headers={"Origin": origin}).status_code == 200


def test_a_proxy_that_keeps_the_host_to_itself(url: str) -> None:
    assert join(url, Origin=f"https://{PROXY}").status_code not in (403, 421)
    forged = {"Origin": "https://evil.example", "X-Forwarded-Host": "evil.example"}
    assert join(url, **forged).status_code == 403


def test_programs_say_no_origin(url: str) -> None:
    client = Client(url, verbose=False)
    _, said = client.predict(3, 0.7, [], [], False, None, api_name="/render")
    assert "seed 3" in said


# What is behind it does not matter for the rest.


def answering(names: set[str] = set()) -> TestClient:  # noqa: B006
    async def ok(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    routes = [Route("/", ok, methods=["GET", "POST"]), WebSocketRoute("/socket", socket)]
    app = Starlette(routes=routes, middleware=[Middleware(OwnAddress, names=names)])
    return TestClient(app, base_url="http://127.0.0.1:7860")


def test_a_space_is_there_for_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "me/faces")
    monkeypatch.setenv("SPACE_HOST", "me-faces.hf.space, faces.example.org")
    client = answering()
    for host in ("me-faces.hf.space", "10.1.2.3:7860", "something-of-the-hub"):
        assert client.get("/", headers={"Host": host}).text == "ok"
        for name in ("me-faces.hf.space", "faces.example.org", host):
            headers = {"Host": host, "Origin": f"https://{name}"}
            assert client.post("/", headers=headers).text == "ok"
        for name in ("evil.hf.space", "evil.example"):
            headers = {"Host": host, "Origin": f"https://{name}"}
            assert client.post("/", headers=headers).status_code == 403


def test_any_name_is_no_leave_for_other_pages() -> None:
    client = answering({"*"})
    assert client.get("/", headers={"Host": "anything"}).text == "ok"
    same = {"Host": "anything", "Origin": "http://anything"}
    assert client.post("/", headers=same).text == "ok"
    other = {"Host": "anything", "Origin": "http://else"}
    assert client.post("/", headers=other).status_code == 403


def test_websockets_are_of_own_pages_too() -> None:
    client = answering()
    own = {"Host": "127.0.0.1:7860", "Origin": "http://127.0.0.1:7860"}
    with client.websocket_connect("/socket", headers=own):
        pass
    for strange in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(WebSocketDenialResponse) as refused:
            with client.websocket_connect("/socket", headers=own | strange):
                pass
        assert refused.value.status_code in (403, 421)


def test_what_a_stranger_sends_is_not_repeated_at_length() -> None:
    answer = answering().get("/", headers={"Host": "a" * 5000})
    assert answer.status_code == 421 and len(answer.text) < 300


@pytest.mark.parametrize(
    ("address", "name"),
    [("//a.b:80", "a.b"), ("https://A.B/x", "a.b"), ("//[::1]:5", "::1"), ("//[", ""), ("/x", "")],
)
def test_names_in_addresses(address: str, name: str) -> None:
    assert name_in(address) == name
    assert urlsplit("/x").hostname is None
