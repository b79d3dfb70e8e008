"""Edits from the Hub for visitors: checked first, bounded, without a login, and stored nowhere."""

from __future__ import annotations

import gc
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hub_server import HubServer
from test_hub import BASE, content, make_folder, running, server  # noqa: F401

from stylegan_hub.artifacts import TENSORS_NAME, BaseModel
from stylegan_hub.errors import ArtifactError, BusyError, MismatchError, NotFoundError
from stylegan_hub.hub import VisitorEdits

TENSORS = f"me/afro/{TENSORS_NAME}"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    return content(make_folder(tmp_path / "afro"))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    (folder := tmp_path / "scratch").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("name", ["me/afro", "me/afro@main", "https://huggingface.co/me/afro"])
def test_an_edit_is_read_and_kept_nowhere(
    server: HubServer,  # noqa: F811
    files: dict[str, bytes],
    scratch: Path,
    tmp_path: Path,
    name: str,
) -> None:
    server.create("me/afro", files)
    visitors = VisitorEdits()
    assert visitors.look(name).prompt == "afro hair"
    assert server.sent[TENSORS] < 1000  # only its header
    edit = visitors.load(name, BASE)
    assert edit.origin.prompt == "afro hair"
    sent = server.sent[TENSORS]
    assert visitors.load("me/afro", BASE) is edit  # while a visitor has it, it is not read again
    assert server.sent[TENSORS] - sent < 1000
    assert [*scratch.rglob("*")] == [] and not (tmp_path / "cache").exists()
    del edit
    gc.collect()
    sent = server.sent[TENSORS]
    visitors.load(name, BASE)
    assert server.sent[TENSORS] - sent >= len(files[TENSORS_NAME])


def test_what_cannot_be_used_is_not_downloaded(
    server: HubServer,  # noqa: F811
    files: dict[str, bytes],
    tmp_path: Path,
) -> None:
    other = replace(BASE, fingerprint="0" * 16)
    table = files["config.json"].replace(b'"direction"', b'"direction_table"')
    server.create("me/afro", files)
    server.create("me/other", content(make_folder(tmp_path / "other", base=other, card=False)))
    server.create("me/table", {**files, "config.json": table})
    server.create("me/pickle", {"model.pt": b"\x80"})
    small = VisitorEdits(most_bytes=1000)
    for visitors, name, error, expected in (
        (VisitorEdits(), "me/other", MismatchError, "made for the generator .*fingerprint 000"),
        (VisitorEdits(), "me/table", ArtifactError, "direction_table, which is not an edit"),
        (VisitorEdits(), "me/pickle", ArtifactError, "it has no config.json"),
        (small, "me/afro", ArtifactError, "a page reads at most 0 MiB"),
        (VisitorEdits(most_in_all=1000), "me/afro", BusyError, "as there is room for"),
        (VisitorEdits(), "me/nothing", NotFoundError, "The Hub did not give me/nothing"),
    ):
        with pytest.raises(error, match=expected):
            visitors.load(name, BASE)
    assert all(count < 1000 for name, count in server.sent.items() if name.endswith(TENSORS_NAME))


def test_never_with_the_login_of_whoever_runs_the_page(
    server: HubServer,  # noqa: F811
    files: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.create("me/afro", files, private=True)
    monkeypatch.setenv("HF_TOKEN", "token-of-me")
    for ask in (VisitorEdits().look, lambda name: VisitorEdits().load(name, BASE)):
        with pytest.raises(NotFoundError, match="no such repository, or it is private"):
            ask("me/afro")
    assert not server.sent


def test_a_damaged_edit_says_nothing_of_this_machine(
    server: HubServer,  # noqa: F811
    files: dict[str, bytes],
    scratch: Path,
) -> None:
    damaged = files[TENSORS_NAME][:-4] + b"\xff\xff\xff\x7f"  # not a number
    server.create("me/afro", {**files, TENSORS_NAME: damaged})
    with pytest.raises(ArtifactError) as caught:
        VisitorEdits().load("me/afro", BASE)
    assert str(scratch) not in str(caught.value)
    assert isinstance(BASE, BaseModel) and [*scratch.rglob("*")] == []
