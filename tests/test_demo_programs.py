"""The page for programs: every endpoint says what it is, and what the documents show works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_demo import cards, pixels, pytestmark, serve  # noqa: F401

from demo.app import build, launch_options
from demo.programs import DESCRIPTIONS, has_mcp
from stylegan_hub import pictures
from stylegan_hub.names import own_cards
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

DOCUMENT = Path(__file__).parents[1] / "docs" / "programs.md"
STAND_INS = {"afro-hair": "afro", "surprised": "beard"}


@pytest.fixture(scope="module")
def studio(inverting_pipeline: StyleEditPipeline) -> Studio:
    return Studio(inverting_pipeline)


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)


@pytest.fixture(scope="module")
def client(url: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(url, verbose=False, download_files=tmp_path_factory.mktemp("files"))


def test_every_endpoint_says_what_it_is(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert "/render" in endpoints and not any(re.search(r"_\d+$", name) for name in endpoints)
    for name, endpoint in endpoints.items():
        assert endpoint["description"] == DESCRIPTIONS[name[1:]], name
        names = [parameter["parameter_name"] for parameter in endpoint["parameters"]]
        labels = [result["label"] for result in endpoint["returns"]]
        for word in (*names, *labels):
            assert word and not re.fullmatch(r"(value|param|parameter)_\d+", word), (name, word)
        for parameter in endpoint["parameters"]:
            assert "Literal[]" not in parameter["python_type"]["type"], (name, parameter)
            assert parameter["type"], (name, parameter)


def test_render(client: Client, studio: Studio, tmp_path: Path) -> None:
    picture, said = client.predict(
        seed=7, psi=0.5, edits=["afro:0.8", "beard:-0.5"], api_name="/render"
    )
    expected = Session(seed=7, truncation_psi=0.5)
    expected = expected.with_edit(studio.load("afro"), 0.8).with_edit(studio.load("beard"), -0.5)
    assert pixels(picture) == studio.draw(expected)[1].tobytes()
    assert "afro at strength 0.8, beard at strength -0.5" in said
    opened, problems = pictures.open_picture(studio.pipe, picture, studio.load)
    assert problems == [] and opened.edits[1].name == "beard"

    words, said = client.predict(seed=7, texts=["a face with a hat:0.5"], api_name="/render")
    assert "a face with a hat at strength 0.5" in said
    plain, _ = client.predict(seed=7, api_name="/render")
    assert pixels(words) != pixels(plain)
    marked, _ = client.predict(seed=7, mark=True, api_name="/render")
    assert pixels(marked) != pixels(plain)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"edits": ["afros"]}, "no edit 'afros'"),
        ({"edits": ["afro:99"]}, "strengths go from -10 to 10"),
        ({"edits": ["strangers"]}, "fingerprint"),
        ({"edits": ["afro"] * 9}, "Got 9 edits and texts"),
        ({"edits": "afro"}, "expected a list of texts"),
        ({"edits": ["../../etc"]}, "expected the name of a bundled edit"),
        ({"texts": [" "]}, "One of the texts is empty"),
        ({"psi": 2}, "greater than maximum|psi is"),
    ],
)
def test_what_cannot_be_rendered(client: Client, inputs: dict[str, object], message: str) -> None:
    with pytest.raises((AppError, ValueError), match=message) as caught:
        client.predict(**inputs, api_name="/render")
    assert "/tmp/" not in str(caught.value)


def test_render_a_photograph(client: Client, studio: Studio, tmp_path: Path) -> None:
    Image.linear_gradient("L").resize((64, 64)).save(tmp_path / "me.png")
    with pytest.raises(AppError, match=r"three points|Found no face|no face"):
        client.predict(photo=handle_file(tmp_path / "me.png"), api_name="/render")


def test_no_file_of_all_values_is_written(url: str, client: Client) -> None:
    client.predict(seed=7, api_name="/face")
    address = f"{url}gradio_api/deep_link?session_hash={client.session_hash}"
    assert httpx.get(address).status_code == 404


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("points", {"mouth_down": 1}, "No value provided for required argument: one_eye_across"),
        ("apply", {"edit": "afro"}, "Parameter `edit` is not"),
    ],
)
def test_arguments_that_are_missing_or_unknown(
    url: str, name: str, inputs: dict[str, object], said: str
) -> None:
    answer = httpx.post(f"{url}gradio_api/call/v2/{name}", json=inputs)
    assert answer.status_code == 400 and said in answer.json()["detail"]


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        ("apply", {"name": None}, "expected the name of a bundled edit"),
        ("my_edit", {"chosen": {"a": 1}}, "expected a text"),
        ("edit", {"words": None}, "Got no words"),
        ("edit", {"words": "a " * 6_000}, "got a text of 12000 letters; at most 10000"),
    ],
)
def test_values_of_another_type(client: Client, name: str, inputs: Any, said: str) -> None:
    with pytest.raises(AppError, match=said):
        client.predict(**inputs, api_name=f"/{name}")


@pytest.mark.slow
def test_what_the_document_shows(url: str, tmp_path: Path) -> None:
    document = DOCUMENT.read_text()
    for name, present in STAND_INS.items():  # edits of this test's generator for bundled ones
        assert (own_cards() / name / "config.json").is_file(), name
        document = document.replace(name, present)
    document = document.replace("http://127.0.0.1:7860", url.rstrip("/"))
    blocks = re.findall(r"```(sh|python)\n(.*?)```", document, re.DOTALL)
    assert [language for language, _ in blocks] == ["sh", "python", "python"]
    for language, text in blocks:
        if language == "sh":
            done = run(["bash", "-euc", text], tmp_path)
            *_, data = re.findall(r"^data: (.*)$", done, re.MULTILINE)
            picture, said = json.loads(data)
            assert picture["path"].endswith(".png") and "beard at strength -0.5" in said
        else:
            said = run([sys.executable, "-c", text], tmp_path)
            assert "print(" not in text or "afro at strength 0.8" in said


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not has_mcp(), reason="gradio[mcp] is not installed.")
def test_tools_of_agents(studio: Studio) -> None:
    page = build(studio)
    page.launch(prevent_thread_lock=True, quiet=True, **launch_options(page))
    try:
        tools, answer = asked_by_an_agent(page)
        # The other endpoints work on the face of a session, which an agent does not have.
        assert [tool.name for tool in tools] == ["picture"]
        assert DESCRIPTIONS["picture"] in (tools[0].description or "")
        properties = tools[0].inputSchema["properties"]
        assert {"seed", "psi", "edits", "texts", "mark"} <= set(properties)
        assert not answer.isError, answer
        assert any(part.type == "image" for part in answer.content)
    finally:
        page.close(verbose=False)


def asked_by_an_agent(page: Any) -> tuple[list[Any], Any]:
    """The tools that an agent sees through the protocol's own client, and a picture of seed 3."""
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def ask() -> tuple[list[Any], Any]:
        async with streamablehttp_client(f"{page.local_url}gradio_api/mcp/") as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                tools = list((await session.list_tools()).tools)
                return tools, await session.call_tool("picture", {"seed": 3, "edits": ["afro:0.8"]})

    return asyncio.run(ask())
