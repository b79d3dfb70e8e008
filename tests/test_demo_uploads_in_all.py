"""Uploads of all visitors together are bounded, and other requests are answered all the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from demo.temporary import VARIABLE
from demo.uploads_in_all import UploadsInAll


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def client(largest: int = 100, left_free: int = 0) -> TestClient:
    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    paths = ("/upload", "/faces/gradio_api/upload", "/queue/join")
    app = Starlette(routes=[Route(path, answer, methods=["GET", "POST"]) for path in paths])
    return TestClient(UploadsInAll(app, largest, left_free))


@pytest.mark.parametrize("path", ["/upload", "/faces/gradio_api/upload"])
def test_a_full_folder_takes_no_more(folder: Path, path: str) -> None:
    page = client(largest=100)
    assert page.post(path, content=b"x" * 10).text == "10 bytes"  # before there is a folder
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "photo.png").write_bytes(b"x" * 99)
    assert page.post(path, content=b"x").status_code == 200
    (folder / "photo.png").write_bytes(b"x")
    refused = page.post(path, content=b"x")
    assert refused.status_code == 507 and "try again later" in refused.text
    assert page.get(path).status_code == 200
    assert page.post("/queue/join", content=b"x").status_code == 200
    (folder / "photo.png").unlink()  # swept
    assert page.post(path, content=b"x").status_code == 200


def test_a_full_disk_takes_no_more(folder: Path) -> None:
    folder.mkdir()
    assert client(left_free=2**60).post("/upload", content=b"x").status_code == 507
