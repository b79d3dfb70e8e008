"""Publish, list and load, over real HTTP, with the real client, against a Hub on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import torch
from fastapi.responses import JSONResponse
from hub_server import HubServer, Repository
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save
from typer.testing import CliRunner

from stylegan_hub import hub, names
from stylegan_hub.artifacts import BaseModel, ClipModel, read_tensors, tensors_digest, write_tensors
from stylegan_hub.cli import main
from stylegan_hub.edits.base import Origin, Strength, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.hub import write_card
from stylegan_hub.methods.table import DirectionTable, TableLayer, load_directions
from stylegan_hub.pipeline import StyleEditPipeline

BASE = BaseModel("portraits", "0123456789abcdef", num_ws=12, w_dim=64, num_styles=10, resolution=64)
OTHER = BaseModel("cars", "fedcba9876543210", num_ws=12, w_dim=64, num_styles=10, resolution=64)
METRICS = {"images": 128, "first_seed": 10_000_000, "success": 0.75, "collateral": 0.02}
ME, YOU = "token-of-me", "token-of-you"


# The client itself sends files in a way that its HTTP library will drop.
list_module = sys.modules[hub.list_edits.__module__]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def running() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server
        huggingface_hub.close_session()


@pytest.fixture
def server(running: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubServer:
    """An empty Hub for every test, and a client with no other Hub, no login and no cache."""
    running.reset()
    # These follow from HF_HUB_DISABLE_XET=1, HF_ENDPOINT and HF_HOME, which are read at import.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", running.endpoint)
    template = running.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.delenv("STYLEGAN_HUB_NAMESPACE", raising=False)
    return running


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client retry at once instead of after seconds."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "afro-hair")


def make_folder(
    folder: Path, prompt: str = "afro hair", base: BaseModel = BASE, card: bool = True
) -> Path:
    vector = torch.arange(12.0 * 64).reshape(12, 64)
    origin = Origin(prompt, "a face", {"method": "by hand", "steps": 3})
    Direction(vector, "w_plus", base, Strength(1.0, -1.0, 3.0), origin).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(METRICS))
    (folder / "images").mkdir()
    Image.new("RGB", (16, 4), "red").save(folder / "images" / "before-after.webp")
    if card:
        write_card(folder)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_server_is_found_and_nothing_else(server: HubServer) -> None:
    assert huggingface_hub.HfApi(token=ME).whoami()["name"] == "me"
    assert "GET /api/whoami-v2" in server.requests


# Publish


def test_publish_and_load(server: HubServer, folder: Path) -> None:
    url = hub.publish(folder, "me/afro-hair", token=ME, endpoint=server.endpoint)
    repository = server.repositories["me/afro-hair"]
    assert url == f"{server.endpoint}/me/afro-hair/commit/{repository.head}"
    assert repository.private is False
    assert repository.summaries == ["initial commit", "Publish afro-hair with stylegan_hub"]
    assert set(repository.files) == {
        ".gitattributes", "README.md", "config.json", "images/before-after.webp", "metrics.json",
        "model.safetensors",
    }  # fmt: skip
    assert content(folder).items() <= repository.files.items()

    edit = load_edit("me/afro-hair")
    assert isinstance(edit, Direction)
    assert torch.equal(edit.vector, torch.arange(12.0 * 64).reshape(12, 64))


def test_publish_again_unchanged_makes_no_commit(server: HubServer, folder: Path) -> None:
    first = hub.publish(folder, "me/afro-hair", token=ME)
    assert hub.publish(folder, "me/afro-hair", token=ME) == first
    repository = server.repositories["me/afro-hair"]
    assert len(repository.summaries) == 2
    uploads = sum(line.startswith("PUT") for line in server.requests)

    Direction(torch.ones(12, 64), "w_plus", BASE).save_pretrained(folder)
    with pytest.raises(ArtifactError, match=r"has no README\.md"):  # the card of the other edit
        hub.publish(folder, "me/afro-hair", message="ones", token=ME)
    write_card(folder)
    second = hub.publish(folder, "me/afro-hair", message="ones", token=ME)
    assert second != first and repository.summaries[-1] == "ones"
    assert sum(line.startswith("PUT") for line in server.requests) == uploads + 1  # the tensors
    one = torch.tensor(1.0)
    assert torch.equal(load_edit("me/afro-hair").tensors()["vector"][0, 0], one)
    # The earlier commit still exists under its name.
    old = load_edit(f"me/afro-hair@{first.rpartition('/')[2]}")
    assert torch.equal(old.tensors()["vector"][0, 1], one)


def test_files_that_are_only_in_the_repository_stay(server: HubServer, folder: Path) -> None:
    repository = server.create("me/afro-hair", {"NOTES.md": b"mine"})
    hub.publish(folder, "me/afro-hair", token=ME)
    assert repository.files["NOTES.md"] == b"mine"


def test_what_a_training_leaves_is_not_sent(server: HubServer, folder: Path) -> None:
    (folder / "checkpoint-100").mkdir()
    (folder / "checkpoint-100" / "optimizer.safetensors").write_bytes(save({"a": torch.ones(1)}))
    (folder / "samples").mkdir()
    (folder / "training.log").write_text("{}")
    (folder / "training_config.json").write_text('{"output_dir": "/home/somebody"}')
    hub.publish(folder, "me/afro-hair", token=ME)
    assert len(server.repositories["me/afro-hair"].files) == 6


def test_a_stale_parent_changes_nothing(server: HubServer, folder: Path) -> None:
    repository = server.create("me/afro-hair", {"README.md": b"first"})
    server.before_commit = lambda: repository.add({"README.md": b"by a friend"}, "friend")
    message = r"me/afro-hair was not changed: another commit was published there.*publish again"
    with pytest.raises(hub.PublishError, match=message):
        hub.publish(folder, "me/afro-hair", token=ME)
    assert repository.files["README.md"] == b"by a friend"
    assert repository.summaries[-1] == "friend" and "config.json" not in repository.files

    with pytest.raises(hub.PublishError, match="another commit was published there"):
        hub.publish(folder, "me/afro-hair", token=ME, parent_commit=next(iter(repository.commits)))
    hub.publish(folder, "me/afro-hair", token=ME, parent_commit=repository.head)
    assert content(folder).items() <= repository.files.items()


def test_private(server: HubServer, folder: Path) -> None:
    hub.publish(folder, "me/secret", private=True, token=ME)
    assert server.repositories["me/secret"].private is True
    assert load_edit("me/secret", token=ME).origin.prompt == "afro hair"
    for token in (None, YOU):
        with pytest.raises(NotFoundError, match="no such repository, or it is private"):
            load_edit("me/secret", token=token, cache_dir=folder.parent / "other-cache")

    server.create("me/open", {})
    with pytest.raises(hub.PublishError, match="exists and is public, but private=True"):
        hub.publish(folder, "me/open", private=True, token=ME)
    assert "config.json" not in server.repositories["me/open"].files


def test_publish_without_the_right(server: HubServer, folder: Path) -> None:
    with pytest.raises(hub.PublishError, match=r"not logged in.*hf auth login"):
        hub.publish(folder, "me/afro-hair")
    with pytest.raises(hub.PublishError, match="this login has no write access"):
        hub.publish(folder, "me/afro-hair", token=YOU)
    assert server.repositories == {}
    repository = server.create("me/afro-hair", {})
    with pytest.raises(hub.PublishError, match="this login has no write access"):
        hub.publish(folder, "me/afro-hair", token=YOU)
    assert "config.json" not in repository.files
    with pytest.raises(ValueError, match="Got repo_id 'afro-hair'; expected 'user/repo'"):
        hub.publish(folder, "afro-hair", token=ME)


@pytest.mark.parametrize("cut", ["upload", "commit"])
@pytest.mark.usefixtures("impatient")
def test_interrupted_upload(server: HubServer, folder: Path, cut: str) -> None:
    repository = server.create("me/afro-hair", {"README.md": b"old"})
    before = repository.head
    server.cut = {cut}
    with pytest.raises(hub.PublishError, match=r"was not changed: .*connection and publish again"):
        hub.publish(folder, "me/afro-hair", token=ME)
    assert repository.head == before and repository.files["README.md"] == b"old"
    server.cut = set()
    hub.publish(folder, "me/afro-hair", token=ME)
    assert content(folder).items() <= repository.files.items()


def test_a_pipeline_can_be_published(
    server: HubServer, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tiny"
    shutil.copytree(tiny_pipeline_folder, folder)
    with pytest.raises(ArtifactError, match=r"has no README\.md"):
        hub.publish(folder, "me/tiny", token=ME)
    (folder / "README.md").write_text("---\nlibrary_name: stylegan_hub\n---\n\n# Tiny\n")
    hub.publish(folder, "me/tiny", token=ME)
    pipe = StyleEditPipeline.from_pretrained("me/tiny")
    assert pipe(seed=3).images[0].size == (32, 32)


def test_a_direction_table_can_be_published(server: HubServer, tmp_path: Path) -> None:
    table = DirectionTable(
        relevance=torch.eye(4),
        index=torch.arange(4),
        s_mean=torch.zeros(10),
        s_std=torch.ones(10),
        base_model=BASE,
        clip=ClipModel("portraits", "00ff"),
        layout=(TableLayer("b4.conv", 4, 0, 4),),
    )
    folder = table.save_pretrained(tmp_path / "words")
    write_card(folder)
    hub.publish(folder, "me/words", token=ME)
    assert torch.equal(load_directions("me/words").relevance, torch.eye(4))
    (info,) = hub.list_edits(kind="direction_table", author="me")
    assert (info.name, info.space, info.parameters) == ("me/words", "s", 16 + 4 + 10 + 10)
    table.relevance[0] = torch.nan
    with pytest.raises(ValueError, match="'relevance' holds numbers that are not finite"):
        table.save_pretrained(folder)
    tensors, metadata = read_tensors(folder / "model.safetensors")
    tensors["relevance"][0] = torch.nan
    write_tensors(folder / "model.safetensors", tensors, metadata)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tensors_sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match="mixes two artifacts"):
        hub.publish(folder, "me/words", token=ME)
    del config["tensors_sha256"]  # as version 0.1 wrote it
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtifactError, match="'relevance' holds numbers that are not finite"):
        hub.publish(folder, "me/words", token=ME)


def damage(folder: Path, what: str) -> None:
    match what:
        case "link":
            (folder / "images" / "more.png").symlink_to("/etc/passwd")
        case "linked folder":
            (folder / "more").symlink_to("/etc")
        case "hidden":
            (folder / ".env").write_text("A=1")
        case "pickle":
            (folder / "model.pkl").write_bytes(b"")
        case "script":
            (folder / "images" / "run.py").write_text("")
        case "disguise":
            (folder / "images" / "b.png").write_bytes(b"\x80\x04.")
        case "tensors":
            (folder / "more.safetensors").write_bytes(b"\x80\x04.")
        case "secret name":
            (folder / "my_token.txt").write_text("")
        case "secret text":
            (folder / "notes.md").write_text("use " + "hf_" + "a1B2" * 9)
        case "key":
            (folder / "notes.txt").write_text("-----BEGIN " + "RSA PRIVATE KEY-----")
        case "home":
            (folder / "notes.md").write_text(f"from {Path.home()}/faces")
        case "no card":
            (folder / "README.md").unlink()
        case "bare card":
            (folder / "README.md").write_text("# Afro hair\n")
        case "broken card":
            (folder / "README.md").write_text("---\nlicense: [\n---\n")
        case "truncated":
            path = folder / "model.safetensors"
            path.write_bytes(path.read_bytes()[:-100])
        case "other shape":
            (folder / "model.safetensors").write_bytes(save({"vector": torch.ones(3)}))
            config = json.loads((folder / "config.json").read_text())
            config["tensors_sha256"] = tensors_digest({"vector": torch.ones(3)})
            (folder / "config.json").write_text(json.dumps(config))
        case "metrics":
            (folder / "metrics.json").write_text("{")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("link", r"holds the link images/more\.png, which may lead out of the folder"),
        ("linked folder", r"holds the link more"),
        ("hidden", r"holds the hidden file \.env"),
        ("pickle", r"holds model\.pkl; only .*\.safetensors.* are published"),
        ("script", r"holds images/run\.py; only"),
        ("disguise", r"images/b\.png is not a valid \.png file"),
        ("tensors", r"more\.safetensors is damaged or not a safetensors file: a header of"),
        ("secret name", r"holds my_token\.txt, named like a secret"),
        ("secret text", r"notes\.md holds what looks like a secret \(hf_a\.\.\.\)"),
        ("key", r"notes\.txt holds what looks like a secret"),
        ("home", r"notes\.md holds the path of a file or folder of yours, .*Remove the path"),
        ("no card", r"has no README\.md, and a repository needs a card"),
        ("bare card", r"README\.md has no metadata for the Hub; begin it"),
        ("broken card", r"The metadata of .*README\.md cannot be read: while parsing"),
        ("truncated", r"model\.safetensors is damaged.* got 3108 bytes, expected 3208"),
        ("other shape", "is not a valid direction: A direction in w_plus"),
        ("metrics", r"metrics\.json is not a valid \.json file"),
    ],
)
def test_a_bad_folder_is_not_published(
    server: HubServer, folder: Path, what: str, message: str
) -> None:
    damage(folder, what)
    with pytest.raises(ArtifactError, match=message):
        hub.publish(folder, "me/afro-hair", token=ME)
    assert server.requests == []


def test_no_folder(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There is no folder .*nowhere; expected one that"):
        hub.publish(tmp_path / "nowhere", "me/afro-hair", token=ME)


# Load


def test_load_by_revision(server: HubServer, folder: Path) -> None:
    repository = server.create("me/afro-hair", content(folder))
    repository.refs["v1"] = repository.head
    Direction(torch.ones(12, 64), "w_plus", BASE).save_pretrained(folder)
    repository.add(content(folder))
    assert load_edit("me/afro-hair@v1").tensors()["vector"][0, 5] == 5
    assert load_edit("me/afro-hair", revision="v1").tensors()["vector"][0, 5] == 5
    assert load_edit("me/afro-hair").tensors()["vector"][0, 5] == 1
    with pytest.raises(NotFoundError, match=r"no such revision\. Leave it out for the newest"):
        load_edit("me/afro-hair@v2")


def test_a_short_name_leads_to_the_default_namespace(
    server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create("stylegan-hub/unheard-of", content(folder))
    server.create("me/unheard-of", content(make_folder(folder.parent / "mine", "mine")))
    assert load_edit("unheard-of").origin.prompt == "afro hair"
    monkeypatch.setenv("STYLEGAN_HUB_NAMESPACE", "me")
    assert load_edit("unheard-of").origin.prompt == "mine"
    assert load_edit("unheard-of@main").origin.prompt == "mine"
    with pytest.raises(NotFoundError, match=r"Found nothing under 'no-edit'.*me/no-e"):
        load_edit("no-edit")
    assert not any("portraits" in line for line in server.requests)
    names.resolve("portraits", "pipeline")  # bundled: no request is sent
    assert not any("portraits" in line for line in server.requests)


def test_gated(server: HubServer, folder: Path) -> None:
    server.create("me/afro-hair", content(folder), gated=True)
    with pytest.raises(NotFoundError, match=r"needs the owner's approval\. Request it"):
        load_edit("me/afro-hair", token=YOU)
    server.granted = {"you"}
    assert load_edit("me/afro-hair", token=YOU).origin.prompt == "afro hair"


def test_missing_repository_and_file(server: HubServer, folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no such repository, or it is private"):
        load_edit("me/nothing")
    files = content(folder)
    server.create("me/a", {name: data for name, data in files.items() if name != "config.json"})
    with pytest.raises(ArtifactError, match=r"to hold the files of: edit.*has no config\.json"):
        load_edit("me/a")
    server.create("me/b", {name: data for name, data in files.items() if "safet" not in name})
    with pytest.raises(ArtifactError, match=r"has no model\.safetensors"):
        load_edit("me/b")


def test_offline_with_and_without_cache(
    server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.create("me/afro-hair", content(folder))
    with pytest.raises(NotFoundError, match="the Hub cannot be reached"):
        load_edit("me/afro-hair", local_files_only=True)
    load_edit("me/afro-hair")
    asked = len(server.requests)
    assert load_edit("me/afro-hair", local_files_only=True).origin.prompt == "afro hair"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_edit("me/afro-hair").origin.prompt == "afro hair"
    with pytest.raises(NotFoundError, match="no earlier download"):
        load_edit("me/other")
    assert len(server.requests) == asked


@pytest.mark.usefixtures("impatient")
def test_interrupted_download(server: HubServer, folder: Path, tmp_path: Path) -> None:
    server.create("me/afro-hair", content(folder))
    server.cut = {"download"}
    with pytest.raises(NotFoundError, match=r"the Hub did not return me/afro-hair"):
        load_edit("me/afro-hair", cache_dir=tmp_path / "fresh")
    snapshots = list((tmp_path / "fresh").rglob("snapshots/*/model.safetensors"))
    assert snapshots == []  # nothing that looks complete
    with pytest.raises(NotFoundError, match="no earlier download"):
        load_edit("me/afro-hair", cache_dir=tmp_path / "fresh", local_files_only=True)
    server.cut = set()
    assert load_edit("me/afro-hair", cache_dir=tmp_path / "fresh").origin.prompt == "afro hair"


def changed(files: dict[str, bytes], **values: object) -> dict[str, bytes]:
    config = {**json.loads(files["config.json"]), **values}
    return {**files, "config.json": json.dumps(config).encode()}


def hostile(folder: Path, what: str) -> dict[str, bytes]:
    files = content(folder)
    match what:
        case "truncated":
            return {**files, "model.safetensors": files["model.safetensors"][:-100]}
        case "unknown kind":
            return changed(files, kind="wish")
        case "newer version":
            return changed(files, format_version=99)
        case "path":
            return {**files, "../../../../evil.json": b"{}", "a/../../evil.json": b"{}"}
    raise ValueError(what)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("truncated", ArtifactError, r"is damaged or not a safetensors file.*download it again"),
        (
            "unknown kind",
            ArtifactError,
            r"Unknown kind 'wish' .*known kinds: combined, direction.*upgrade",
        ),
        ("newer version", ArtifactError, r"format_version 99.*Upgrade stylegan_hub"),
        ("path", NotFoundError, r"the Hub did not return me/bad: .*\.\..*"),
    ],
)
def test_a_hostile_repository(
    server: HubServer, folder: Path, tmp_path: Path, what: str, error: type, message: str
) -> None:
    server.create("me/bad", hostile(folder, what))
    cache = tmp_path / "a" / "b" / "c" / "cache"
    with pytest.raises(error, match=message):
        load_edit("me/bad", cache_dir=cache)
    assert list(tmp_path.rglob("evil*")) == []


# List


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One bundled edit, a pipeline and a single model."""
    root = tmp_path / "cards"
    make_folder(root / "bundled-afro", "an afro")
    (root / "faces").mkdir()
    (root / "faces" / "model_index.json").write_text("{}")
    (root / "reader").mkdir()
    (root / "reader" / "diffusion_pytorch_model.safetensors").touch()
    (root / "reader" / "config.json").write_text("{}")
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(root))
    return root


@pytest.fixture
def zoo(server: HubServer, cards: Path, tmp_path: Path) -> dict[str, Repository]:
    """Three edits on the Hub, and a pipeline."""
    hat = make_folder(tmp_path / "hat", "a hat")
    wheels = make_folder(tmp_path / "wheels", "big wheels", OTHER)
    secret = make_folder(tmp_path / "secret", "a secret")
    server.create("me/hat", content(hat))
    server.create("you/big-wheels", content(wheels))
    server.create("me/secret", content(secret), private=True)
    card = b"---\nlibrary_name: stylegan-hub\n---\n"
    server.create("me/faces", {"README.md": card, "model_index.json": b"{}"})
    return server.repositories


def named(found: hub.Listing) -> list[str]:
    return [info.name for info in found]


@pytest.mark.usefixtures("zoo")
def test_list_with_filters() -> None:
    everything = ["bundled-afro", "you/big-wheels", "me/hat"]  # bundled first, then the newest
    assert named(hub.list_edits()) == everything
    assert named(hub.list_edits(token=ME)) == [everything[0], "me/secret", *everything[1:]]
    assert named(hub.list_edits(include_hub=False)) == ["bundled-afro"]
    assert named(hub.list_edits(author="me")) == ["me/hat"]
    assert named(hub.list_edits(author="stylegan-hub")) == ["bundled-afro"]
    assert named(hub.list_edits(search="AN AF")) == ["bundled-afro"]
    assert named(hub.list_edits(search="wheel")) == ["you/big-wheels"]
    assert named(hub.list_edits(kind="direction")) == everything
    assert named(hub.list_edits(kind="latent_mapper")) == []
    assert named(hub.list_edits(limit=1)) == ["bundled-afro"]  # the one repository is a pipeline
    for base in ("portraits", "stylegan-hub/portraits", BASE.fingerprint):
        assert named(hub.list_edits(base_model=base)) == ["bundled-afro", "me/hat"]
    for base in ("cars", OTHER.fingerprint):
        assert named(hub.list_edits(base_model=base)) == ["you/big-wheels"]
    assert named(hub.list_edits(base_model="user/repo")) == []


def test_what_a_listed_edit_says(
    zoo: dict[str, Repository], server: HubServer, cards: Path
) -> None:
    (hat,) = hub.list_edits(author="me")
    head = zoo["me/hat"].head
    assert hat == hub.EditInfo(
        name="me/hat",
        kind="direction",
        source="hub",
        prompt="a hat",
        base_model="portraits",
        fingerprint=BASE.fingerprint,
        space="w_plus",
        strength=Strength(1.0, -1.0, 3.0),
        parameters=12 * 64,
        picture=f"{server.endpoint}/me/hat/resolve/{head}/images/before-after.webp",
        metrics=METRICS,
        revision=head,
    )
    assert hub.edit_info("me/hat") == hub.edit_info("me/hat@main") == hat
    (bundled,) = hub.list_edits(include_hub=False)
    assert bundled.source == "bundled" and bundled.parameters == 12 * 64
    assert bundled.picture == str(cards / "bundled-afro/images/before-after.webp")
    assert hub.edit_info("bundled-afro") == bundled


@pytest.mark.usefixtures("zoo")
def test_listing_downloads_no_weights(server: HubServer) -> None:
    whole = len(server.repositories["me/hat"].files["model.safetensors"])
    hub.list_edits()
    sent = server.sent["me/hat/model.safetensors"]
    assert 0 < sent == whole - 12 * 64 * 4  # the header and nothing else
    assert server.sent["me/hat/images/before-after.webp"] == 0
    assert server.sent["me/hat/config.json"] > 0
    assert not any("cache" in path for path in os.listdir(Path(constants.HF_HUB_CACHE).parent))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (
            "truncated",
            r"me/bad/model\.safetensors is damaged.*got 3108 bytes, expected 3208",
        ),
        ("newer version", r"me/bad/config\.json has format_version 99"),
    ],
)
def test_a_bad_repository_does_not_spoil_the_list(
    zoo: dict[str, Repository], server: HubServer, folder: Path, what: str, message: str
) -> None:
    server.create("me/bad", hostile(folder, what))
    server.create("me/empty", {"README.md": content(folder)["README.md"]})
    server.create("me/gated", content(folder), gated=True)
    listing = hub.list_edits(author="me")
    assert named(listing) == ["me/hat"] and len(listing.problems) == 3
    text = " ".join(listing.problems)
    assert "me/empty was left out, since it cannot be read" in text
    assert "me/empty is not an edit: it has no config.json and no model" in text
    assert "The Hub did not give me/gated" in text and "needs the owner's approval" in text
    assert re.search(message, text)
    with pytest.raises(ArtifactError, match=message.removeprefix("me/bad: ")):
        hub.edit_info("me/bad")


def test_list_without_a_hub(
    server: HubServer, cards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = hub.list_edits(endpoint="http://127.0.0.1:9")
    assert named(listing) == ["bundled-afro"]
    assert "The Hub could not be reached, so only bundled edits are" in listing.problems[0]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    listing = hub.list_edits()
    assert named(listing) == ["bundled-afro"]
    assert "HF_HUB_OFFLINE is set" in listing.problems[0]
    assert server.requests == []


@pytest.mark.usefixtures("zoo")
def test_cards_of_the_first_version_are_found(server: HubServer, folder: Path) -> None:
    files = content(folder)
    former = files["README.md"].replace(
        b"library_name: stylegan-hub", b"library_name: stylegan_hub"
    )
    assert former != files["README.md"]
    server.create("me/former", {**files, "README.md": former})
    assert named(hub.list_edits(author="me")) == ["me/former", "me/hat"]  # still the newest first


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (
            b'{"success": 1' + 400 * b"0" + b"}",
            "metrics.json cannot be read: a number has 401 digits",
        ),
        (b"<!DOCTYPE html><html></html>", "metrics.json cannot be read: Expecting value"),
        (b"[1, 2]", "metrics.json cannot be read: it holds a list"),
        (b'"' + b"x" * (1 << 20) + b'"', "metrics.json has 1048578 bytes; at most"),
        (b"[" * 100_000, "metrics.json cannot be read: it is nested"),
    ],
    ids=["digits", "html", "list", "long", "deep"],
)
@pytest.mark.usefixtures("zoo")
def test_broken_metrics_break_only_themselves(
    server: HubServer, folder: Path, metrics: bytes, message: str
) -> None:
    server.create("me/odd", {**content(folder), "metrics.json": metrics})
    listing = hub.list_edits(author="me")
    assert named(listing) == ["me/hat"]
    (problem,) = listing.problems
    assert message in problem and server.sent["me/odd/metrics.json"] <= 1 << 20


@pytest.mark.parametrize(
    "values",
    [
        {"strength": {"max": 10**400}},
        {"strength": {"min": 3}},
        {"base_model": {}},
        {"kind": "wish"},
        {"prompt": None},
    ],
)
@pytest.mark.usefixtures("zoo")
def test_odd_configs_break_only_themselves(
    server: HubServer, folder: Path, values: dict[str, object]
) -> None:
    server.create("me/odd", changed(content(folder), **values))
    listing = hub.list_edits(author="me")
    assert {"me/hat"} <= set(named(listing)) <= {"me/hat", "me/odd"}
    assert ("me/odd" in named(listing)) == (not listing.problems)


@pytest.mark.parametrize(
    "answer",
    [b"<!DOCTYPE html>", b'{"error": "odd"}', b'["a", 3]', b"[{}]", b"", b"[null]"],
)
@pytest.mark.usefixtures("zoo")
def test_an_odd_answer_leaves_what_is_bundled(server: HubServer, answer: bytes) -> None:
    server.listing = answer
    listing = hub.list_edits()
    assert named(listing) == ["bundled-afro"]
    assert "not a list of repositories" in listing.problems[0]


@pytest.mark.usefixtures("zoo")
def test_repositories_before_an_odd_one_are_listed(server: HubServer) -> None:
    first = server.repositories["me/hat"]
    server.listing = json.dumps([first.info(first.head), {"likes": 3}]).encode()
    listing = hub.list_edits(author="me")
    assert named(listing) == ["me/hat"] and "KeyError('id')" in listing.problems[0]


def test_a_silent_hub_is_not_waited_for(cards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_module, "_PATIENCE", 0.3)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        listing = hub.list_edits(endpoint=endpoint)
    assert named(listing) == ["bundled-afro"] and time.monotonic() - started < 5
    assert "did not answer in time" in listing.problems[0]


def test_addresses_are_names(server: HubServer, folder: Path) -> None:
    repository = server.create("me/afro-hair", content(folder))
    repository.refs["v1"] = repository.head
    for address in (
        "https://huggingface.co/me/afro-hair",
        "https://huggingface.co/me/afro-hair/",
        "https://huggingface.co/me/afro-hair/tree/v1",
        "https://huggingface.co/me/afro-hair/blob/main/README.md?download=true",
    ):
        assert load_edit(address).origin.prompt == "afro hair"
        assert hub.edit_info(address).name == "me/afro-hair"
    assert names.hub_id("https://hf.co/me/afro/tree/refs%2Fpr%2F1") == "me/afro@refs/pr/1"
    with pytest.raises(NotFoundError, match="no such revision"):
        load_edit("https://huggingface.co/me/afro-hair/tree/v2")
    for address in (
        "https://huggingface.co/me",
        "https://example.org/me/afro-hair",
        "https://huggingface.co.evil.example/me/afro-hair",
        "https://huggingface.co/me/../etc",
        "https://huggingface.co/me/afro/tree/..%2F..%2Fetc",
    ):
        assert names.hub_id(address) is None, address


# Stale cards


def test_a_card_of_other_weights_is_refused(server: HubServer, folder: Path) -> None:
    metrics = {**METRICS, "tensors_sha256": tensors_digest({"vector": torch.zeros(1)})}
    card = (folder / "README.md").read_text()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    info = hub.edit_info(folder)
    assert info.stale == ("metrics.json",) and info.metrics == METRICS
    with pytest.raises(ArtifactError, match=r"do not belong together.*evaluate"):
        hub.publish(folder, "me/afro-hair", token=ME)
    with pytest.raises(ArtifactError, match=r"metrics\.json and .* do not belong together"):
        write_card(folder)
    told = CliRunner().invoke(main, ["info", str(folder)])
    assert "stale:" in told.stdout and "metrics.json" in told.stdout

    server.create("me/stale", content(folder))
    assert hub.edit_info("me/stale").stale == ("metrics.json",)

    (folder / "metrics.json").unlink()
    other = card.replace(tensors_digest(load_edit(folder).tensors()), "0" * 64)
    assert other != card
    (folder / "README.md").write_text(other)
    assert hub.edit_info(folder).stale == ("README.md",)
    with pytest.raises(ArtifactError, match=r"README\.md and .* do not belong together"):
        hub.publish(folder, "me/afro-hair", token=ME)
    write_card(folder)
    assert hub.edit_info(folder).stale == ()
    hub.publish(folder, "me/afro-hair", token=ME)


def test_what_was_saved_over_is_not_sent(server: HubServer, folder: Path) -> None:
    Direction(torch.ones(12, 64), "w_plus", BASE).save_pretrained(folder)
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "stale"]
    assert sorted(os.listdir(folder / "stale")) == ["README.md", "images", "metrics.json"]
    write_card(folder)
    hub.publish(folder, "me/afro-hair", token=ME)
    assert not any("stale" in name for name in server.repositories["me/afro-hair"].files)


def test_info_of_what_is_no_edit(server: HubServer, cards: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"faces has no config\.json"):
        hub.edit_info("faces")
    with pytest.raises(NotFoundError, match="no such repository, or it is private"):
        hub.edit_info("me/nothing")
    with pytest.raises(NotFoundError, match="Found nothing under 'two words'"):
        hub.edit_info("two words")
    folder = make_folder(tmp_path / "no-tensors")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"There is no .*model\.safetensors"):
        hub.edit_info(folder)


# The command


def test_the_command_lists_and_describes(zoo: dict[str, Repository]) -> None:
    listed = CliRunner().invoke(main, ["list"])
    assert listed.exit_code == 0
    lines = [line.split() for line in listed.stdout.splitlines()]
    assert lines[0][:2] == ["name", "kind"]
    assert lines[3] == ["me/hat", "direction", "portraits", "0.75", "0.020", "a", "hat"]
    told = CliRunner().invoke(main, ["info", "me/hat"])
    assert told.exit_code == 0
    assert "made for:                a hat\n" in told.stdout
    assert "success:                 0.75\n" in told.stdout
    for arguments, message in (
        (["info", "me/nothing"], "Error: The Hub did not give"),
        (["info", "me/hat@v9"], "no such revision"),
    ):
        failed = CliRunner().invoke(main, arguments)
        assert failed.exit_code == 1 and failed.stdout == ""
        assert message in failed.stderr and "Traceback" not in failed.output


def test_the_command_publishes(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_folder(tmp_path / "hat", "a hat", card=False)
    refused = CliRunner().invoke(main, ["publish", str(folder), "me/hat"])
    assert refused.exit_code == 1 and "hf auth login" in refused.stderr
    monkeypatch.setenv("HF_TOKEN", ME)
    (folder / "README.md").unlink()
    done = CliRunner().invoke(main, ["publish", str(folder), "me/hat", "--private", "-m", "new"])
    assert done.exit_code == 0, done.output
    repository = server.repositories["me/hat"]
    assert done.stdout.splitlines() == [
        f"Wrote {folder / 'README.md'}.",
        f"Published: {server.endpoint}/me/hat/commit/{repository.head}",
    ]
    assert repository.private and repository.summaries[-1] == "new"
    nowhere = CliRunner().invoke(main, ["publish", str(tmp_path / "nowhere"), "me/hat"])
    assert nowhere.exit_code == 1 and "There is no folder" in nowhere.stderr


def test_the_recipe_publishes(
    server: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from test_recipes import recipe

    script = recipe("publish")
    with pytest.raises(SystemExit, match=r"Error: me/hat was not changed: you are not logged in"):
        script.main(script.Config(folder=folder, repo_id="me/hat"))
    monkeypatch.setenv("HF_TOKEN", ME)
    script.main(script.Config(folder=folder, repo_id="me/hat"))
    assert capsys.readouterr().out.startswith(f"Published: {server.endpoint}/me/hat/commit/")


@pytest.mark.slow
def test_a_short_name_after_installing(folder: Path, tmp_path: Path) -> None:
    """The cards are in the installed package; no checkout, no network."""
    root = Path(hub.__file__).parents[2]
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name in (
        "pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.txt", "app.py",
    ):  # fmt: skip
        shutil.copy(root / name, source)
    for name in ("stylegan_hub", "demo", "recipes", "docs/targets"):
        shutil.copytree(root / name, source / name)
    shutil.copytree(folder, source / "cards" / "a-hat")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--no-build-isolation", "--target", site, source], check=True)
    code = (
        "import stylegan_hub as hub\n"
        "(info,) = hub.list_edits(include_hub=False)\n"
        "print(hub.load_edit('a-hat').origin.prompt, info.picture)"
    )
    environment = {**os.environ, "PYTHONPATH": str(site), "HF_HUB_OFFLINE": "1"}
    told = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True, text=True
    )
    picture = site / "stylegan_hub" / "_cards" / "a-hat" / "images" / "before-after.webp"
    assert told.stdout == f"afro hair {picture}\n", told.stderr


# Collections and Spaces


def test_a_zoo_as_a_collection(server: HubServer, tmp_path: Path) -> None:
    folders = [
        make_folder(tmp_path / "afro", "afro hair"), make_folder(tmp_path / "beard", "a beard")
    ]  # fmt: skip
    told: list[str] = []
    options = {"private": True, "description": "Two.", "token": ME}
    made = hub.publish_collection(
        "My looks", folders, "me", on_published=lambda repo_id, url: told.append(repo_id), **options
    )
    assert told == ["me/afro", "me/beard"] == list(made.repositories)
    assert made.url == f"{server.endpoint}/collections/me/my-looks-0123"
    found = server.collections["me/my-looks-0123"]
    assert [(item["id"], item["note"]["text"]) for item in found["items"]] == [
        ("me/afro", "afro hair"), ("me/beard", "a beard")
    ]  # fmt: skip
    assert found["private"] and server.repositories["me/afro"].private
    assert found["description"] == "Two."

    commits = len(server.repositories["me/afro"].summaries)
    assert hub.publish_collection("My looks", folders, "me", **options) == made  # it continues
    assert len(server.repositories["me/afro"].summaries) == commits and len(found["items"]) == 2


def test_what_is_no_collection(server: HubServer, folder: Path, tmp_path: Path) -> None:
    twin = make_folder(tmp_path / "other" / "afro-hair")
    for folders, title, message in (
        ([], "x", "Got 0 folders"),
        ([folder], " ", "a title of 0 letters"),
        ([folder], "x" * 61, "a title of 61 letters"),
        ([folder, twin], "x", "two folders for me/afro-hair"),
    ):
        with pytest.raises(ValueError, match=message):
            hub.publish_collection(title, folders, "me", token=ME)
    with pytest.raises(hub.PublishError, match="has no write access"):
        hub.publish_collection("x", [folder], "you", token=ME)
    assert server.collections == {}


def test_a_bundled_zoo() -> None:
    zoo = hub.zoo_of("portraits")
    assert zoo[0] == "portraits" and {"afro-hair", "portraits-directions"} <= set(zoo)
    assert "attribute-reader" not in zoo


@pytest.fixture(scope="module")
def written(
    tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, hub.Space]]:  # fmt: skip
    """A Space with a pipeline and two edits."""
    cards = tmp_path_factory.mktemp("cards")
    shutil.copytree(tiny_pipeline_folder, cards / "tiny")
    for name in ("afro", "beard"):
        vector = torch.ones(8, 16)
        Direction(vector, "w_plus", tiny_pipeline.base_model).save_pretrained(cards / name)
        write_card(cards / name)
        (cards / name / "training_config.json").write_text("{}")  # stays at home
    make_folder(cards / "cars")  # for another generator
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEGAN_HUB_CARDS", str(cards))
        folder = tmp_path_factory.mktemp("spaces") / "my-page"
        yield folder, hub.write_space(folder, "tiny", title="My page")


def test_a_space_is_ready(written: tuple[Path, hub.Space]) -> None:
    folder, made = written
    assert made == hub.Space(folder, "tiny", ("afro", "beard"))
    header = hub.card_metadata(folder / "README.md")
    assert header["sdk"] == "gradio" and header["suggested_hardware"] == "zero-a10g"
    assert header["hf_oauth"] is True and header["python_version"] == "3.12.12"
    pinned = (folder / "requirements.txt").read_text()
    # With what the login and the MCP server need, which the header promises.
    assert f"\ngradio[mcp,oauth]=={header['sdk_version']}\n" in pinned
    assert {path.name for path in (folder / "cards").iterdir()} == {"tiny", "afro", "beard"}
    assert not list(folder.rglob("training_config.json"))
    assert 'launch("tiny")' in (folder / "app.py").read_text()
    assert not [path for path in folder.rglob("*") if path.suffix in (".pyc", ".pkl", ".pt")]
    hub.write_space(folder, "tiny", ["afro"])  # written again
    assert [path.name for path in (folder / "cards").iterdir()] in (
        ["afro", "tiny"], ["tiny", "afro"]
    )  # fmt: skip
    hub.write_space(folder, "tiny", title="My page")


def test_what_is_no_space(written: tuple[Path, hub.Space], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="The edit 'cars' was made for"):
        hub.write_space(tmp_path / "space", "tiny", ["cars"])
    assert list(tmp_path.iterdir()) == []
    before = sorted(written[0].rglob("*"))
    with pytest.raises(ValueError, match="The edit 'cars' was made for"):
        hub.write_space(written[0], "tiny", ["cars"])  # the earlier one stays
    assert sorted(written[0].rglob("*")) == before
    assert [path.name for path in written[0].parent.iterdir()] == [written[0].name]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ArtifactError, match="holds something else; nothing was written"):
        hub.write_space(tmp_path / "full", "tiny")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    with pytest.raises(ArtifactError, match="is not a Space"):
        hub.push_space(tmp_path / "full", "me/page", token=ME)


def test_a_space_is_pushed(server: HubServer, written: tuple[Path, hub.Space]) -> None:
    folder, _ = written
    url = hub.push_space(folder, "me/page", private=True, token=ME)
    space = server.repositories["spaces/me/page"]
    assert url == f"{server.endpoint}/spaces/me/page" and space.private
    assert {"app.py", "README.md", "demo/app.py", "cards/afro/config.json"} <= set(space.files)
    with pytest.raises(hub.PublishError, match="has no write access"):
        hub.push_space(folder, "you/page", token=ME)


def test_a_space_without_a_server_is_pushed(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nsdk: static\n---\n")
    source = Path(hub.__file__).parents[1] / "browser" / "page" / "index.html"
    shutil.copy(source, tmp_path)
    hub.push_space(tmp_path, "me/static-page", token=ME)
    space = server.repositories["spaces/me/static-page"]
    assert space.sdk == "static" and set(space.files) >= {"README.md", "index.html"}


@pytest.mark.slow
def test_a_space_opens_offline_and_writes_nothing_into_its_checkout(
    written: tuple[Path, hub.Space],
) -> None:
    folder, _ = written
    before = content(folder)
    say = (
        "import runpy, demo.app as page, gradio_client; page.Page.launch = lambda self, **options: "
        "print('opened', len(self.fns)); runpy.run_path('app.py', run_name='__main__')"
    )
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "."
    }  # fmt: skip
    environment.pop("STYLEGAN_HUB_CARDS", None)
    done = subprocess.run(
        [sys.executable, "-c", say], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert "opened" in done.stdout, done.stderr
    assert content(folder) == before


def test_collections_and_spaces_from_the_shell(
    server: HubServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", ME)
    run = CliRunner().invoke
    done = run(main, ["collection", "My looks", str(folder), "--private"])
    assert done.exit_code == 0 and "Published me/afro-hair" in done.output, done.output
    assert "collections/me/my-looks-0123" in done.output
    done = run(main, ["unpublish", "me/afro-hair"], input="n\n")
    assert done.exit_code == 1 and "me/afro-hair" in server.repositories
    done = run(main, ["unpublish", "me/afro-hair", "--yes"])
    assert done.exit_code == 0 and server.repositories == {}
    done = run(
        main, ["publish", str(folder), "me/x", "--license", "cc0-1.0", "--likeness", "nobody"]
    )
    assert done.exit_code == 0, done.output
    card = server.repositories["me/x"].files["README.md"].decode()
    assert "license: cc0-1.0" in card and "shows no real person" in card
    done = run(main, ["space", "page", "--push", "-o", str(tmp_path / "page")])
    assert done.exit_code == 2 and "expected user/name" in done.output


# Faults of the Hub; `python -m tests.faults hub` lets every request fail


def answer(status: int, **headers: str) -> JSONResponse:
    return JSONResponse({"error": "a fault"}, status, headers)


@pytest.mark.usefixtures("impatient")
def test_a_commit_whose_answer_was_lost_is_found(server: HubServer, folder: Path) -> None:
    repository = server.create("me/afro-hair", {"README.md": b"old"})
    server.cut = {"answer"}
    url = hub.publish(folder, "me/afro-hair", token=ME)
    assert url == f"{server.endpoint}/me/afro-hair/commit/{repository.head}"
    assert content(folder).items() <= repository.files.items()
    assert len(repository.summaries) == 3  # the first, made by hand, and one of ours


@pytest.mark.usefixtures("impatient")
def test_a_new_repository_does_not_stay_empty(server: HubServer, folder: Path) -> None:
    server.cut = {"commit"}
    with pytest.raises(hub.PublishError, match="me/afro-hair was not changed"):
        hub.publish(folder, "me/afro-hair", token=ME)
    assert server.repositories == {}


@pytest.mark.usefixtures("impatient")
def test_what_was_there_is_never_removed(server: HubServer, folder: Path) -> None:
    """This also holds if the Hub has said that it is not."""
    repository = server.create("me/afro-hair", {"README.md": b"old"})
    server.cut, server.faults = {"commit"}, [answer(404, **{"X-Error-Code": "RepoNotFound"})]
    with pytest.raises(hub.PublishError, match="me/afro-hair was not changed"):
        hub.publish(folder, "me/afro-hair", token=ME)
    assert server.repositories == {"me/afro-hair": repository}
    assert repository.files["README.md"] == b"old"


@pytest.mark.usefixtures("impatient")
def test_it_is_said_where_it_is_not_known(server: HubServer, folder: Path) -> None:
    server.create("me/afro-hair", {"README.md": b"old"})
    server.cut = {"answer"}

    def silent() -> None:
        server.faults = [answer(503) for _ in range(60)]

    server.before_commit = silent
    with pytest.raises(hub.PublishError, match=r"unknown whether me/afro-hair was changed.*page"):
        hub.publish(folder, "me/afro-hair", token=ME)


def test_other_bytes_than_the_hub_states(server: HubServer, folder: Path, tmp_path: Path) -> None:
    server.create("me/afro-hair", content(folder))
    server.cut = {"content"}
    cache = tmp_path / "other"
    with pytest.raises(ArtifactError, match=r"model\.safetensors of me/afro-hair arrived damaged"):
        load_edit("me/afro-hair", cache_dir=cache)
    assert not [path for path in cache.rglob("*") if path.is_file() and path.stat().st_size > 3000]
    with pytest.raises(ArtifactError, match="is not the one on the Hub"):
        repository = list_module.Repository("me/afro-hair")
        repository.read("model.safetensors")
    server.cut = set()
    assert load_edit("me/afro-hair", cache_dir=cache).origin.prompt == "afro hair"


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (403, "this login has no access to it. Ask its owner"),
        (404, "there is nothing at this address"),
        (409, "it is being changed right now"),
        (429, r"it received too many requests\. Wait 7 seconds"),
        (500, r"it has an internal error \(500\)"),
    ],
)
@pytest.mark.usefixtures("impatient")
def test_reasons(server: HubServer, folder: Path, status: int, why: str) -> None:
    server.create("me/afro-hair", content(folder))
    server.faults = [answer(status, **{"Retry-After": "7"}) for _ in range(40)]
    with pytest.raises(NotFoundError, match=why):
        load_edit("me/afro-hair")
    server.faults = [answer(status, **{"Retry-After": "7"}) for _ in range(40)]
    with pytest.raises(NotFoundError, match=why):
        hub.edit_info("me/afro-hair")
