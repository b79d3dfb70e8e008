"""Folders are written whole or not at all, and read with suspicion."""

import errno
import json
import os
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from stylegan_hub import artifacts, names
from stylegan_hub.artifacts import read_config, read_folder, read_tensors, write_folder
from stylegan_hub.errors import ArtifactError, NotFoundError, StyleganHubError
from stylegan_hub.names import resolve

CONFIG = {
    "kind": "direction",
    "space": "w_plus",
    "base_model": {"id": "portraits", "revision": None, "fingerprint": "ab12", "num_ws": 12},
    "prompt": "afro hair \N{EM DASH} caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    "strength": {"default": 1.0, "min": -2, "max": 2},
}
TENSORS = {"direction": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.float16)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path / "afro", CONFIG, TENSORS)
    return tmp_path / "afro"


@pytest.fixture
def cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two bundled cards, an edit and a pipeline, and a folder that is neither."""
    root = tmp_path / "cards"
    write_folder(root / "afro-hair", CONFIG, TENSORS)
    (root / "faces").mkdir()
    (root / "faces" / "model_index.json").write_text("{}")
    (root / "drafts").mkdir()
    monkeypatch.setattr(names, "_cards_folder", lambda: root)
    return root


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# Writing


def test_round_trip(folder: Path) -> None:
    config, tensors = read_folder(folder)
    assert {key: config[key] for key in CONFIG} == CONFIG
    assert config["format_version"] == artifacts.FORMAT_VERSION
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert torch.equal(tensors[name], tensor) and tensors[name].dtype == tensor.dtype
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    assert os.listdir(folder.parent) == ["afro"]
    assert read_tensors(folder / "model.safetensors")[1]["kind"] == "direction"


def test_views_and_shared_tensors_can_be_saved(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    views = {
        "transposed": base.T,
        "row": base[1],
        "same": base,
        "leaf": base.clone().requires_grad_(),
    }
    write_folder(tmp_path / "views", CONFIG, views)
    _, tensors = read_folder(tmp_path / "views")
    assert all(torch.equal(tensors[name], view) for name, view in views.items())


def test_writing_again_keeps_the_card(folder: Path) -> None:
    (folder / "README.md").write_text("the card")
    write_folder(folder, {**CONFIG, "prompt": "short hair"}, {"direction": torch.zeros(1)})
    config, tensors = read_folder(folder)
    assert config["prompt"] == "short hair" and tensors.keys() == {"direction"}
    assert (folder / "README.md").read_text() == "the card"


def test_a_config_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    for config, error in [
        ({"space": "w"}, ArtifactError),  # no kind
        ({**CONFIG, "prompt": 3}, ArtifactError),
        ({**CONFIG, "training": {"loss": float("nan")}}, ValueError),
        ({**CONFIG, "training": {"device": torch.device("cpu")}}, TypeError),
    ]:
        with pytest.raises(error):
            write_folder(tmp_path / "bad", config, TENSORS)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("full_at", [1, 2], ids=["tensors", "config"])
def test_full_disk_leaves_what_was_there(
    folder: Path, full_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        write_folder(folder, {**CONFIG, "prompt": "short hair"}, {"direction": torch.zeros(1)})
    calls = 0
    with pytest.raises(OSError, match="No space left"):
        write_folder(folder.parent / "new", CONFIG, TENSORS)

    assert os.listdir(folder.parent) == ["afro"]
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]
    config, tensors = read_folder(folder)
    assert config["prompt"] == CONFIG["prompt"] and torch.equal(
        tensors["direction"], TENSORS["direction"]
    )


# Reading


def test_every_error_is_ours() -> None:
    assert issubclass(ArtifactError, StyleganHubError) and issubclass(ArtifactError, ValueError)
    assert issubclass(NotFoundError, FileNotFoundError)


def test_no_folder_or_no_file(folder: Path) -> None:
    with pytest.raises(NotFoundError, match="no folder"):
        read_folder(folder / "nowhere")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"has no model\.safetensors.*save_pretrained"):
        read_folder(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(
        ArtifactError, match=r"pytorch_model\.bin is not read: a pickle can run code"
    ):
        read_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        read_folder(folder)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_tensors(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"damaged or no safetensors file.*download it again"):
        read_folder(folder)


def test_golden_truncated_file(golden: Path) -> None:
    with pytest.raises(ArtifactError, match=r"truncated\.safetensors \(4524 bytes\) is damaged"):
        read_tensors(golden / "truncated.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("\N{BYTE ORDER MARK}{}", "lacks kind and format_version; got the keys none|is not JSON"),
        ("[1, 2]", "holds a list; expected an object"),
        ("[" * 100_000, "is not JSON"),
        ('{"kind": "direction", "a": 1}', "lacks format_version; got the keys a, kind"),
        ('{"_class_name": "X"}', "Is it the config of another library"),
        (" " * (1 << 20) + "{}", r"has 1048578 bytes; at most 1048576"),
    ],
)
def test_broken_config(folder: Path, text: str, message: str) -> None:
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=message):
        read_config(folder)


def test_config_that_is_no_text(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\x80\x04\xff\xfe\xfa")
    with pytest.raises(ArtifactError, match="is not JSON"):
        read_config(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format_version": 7},
            "format_version 7, written by stylegan_hub .*reads 1 to 1. Upgrade",
        ),
        ({"format_version": 0}, "format_version 0"),
        ({"format_version": "1"}, "format_version is '1'; expected int"),
        ({"format_version": True}, "format_version is True; expected int"),
        ({"kind": ["direction"]}, r"kind is \['direction'\]; expected str"),
        ({"prompt": 3}, "prompt is 3; expected str or null"),
        ({"base_model": "portraits"}, "base_model is 'portraits'; expected dict"),
        ({"base_model": {"num_ws": 1.5}}, r"base_model\.num_ws is 1\.5; expected int"),
        ({"strength": {"max": "big"}}, r"strength\.max is 'big'; expected int or float"),
    ],
)
def test_wrong_values_in_config(folder: Path, changes: dict[str, object], message: str) -> None:
    edit_config(folder, **changes)
    with pytest.raises(ArtifactError, match=message):
        read_config(folder)


def test_files_of_two_artifacts(folder: Path) -> None:
    edit_config(folder, kind="latent_mapper")
    with pytest.raises(
        ArtifactError, match=r"'latent_mapper', model\.safetensors says 'direction'"
    ):
        read_folder(folder)


# Names


def test_bundled_cards_by_kind(cards: Path) -> None:
    assert list(names.bundled()) == ["afro-hair", "faces"]
    assert list(names.bundled("edit")) == ["afro-hair"]
    assert resolve("faces", kind="pipeline") == cards / "faces"


def test_a_direction_table_is_told_from_an_edit(cards: Path) -> None:
    write_folder(cards / "words", {**CONFIG, "kind": "direction_table"}, TENSORS)
    assert list(names.bundled()) == ["afro-hair", "faces", "words"]
    assert list(names.bundled("edit")) == ["afro-hair"]
    assert list(names.bundled("direction_table")) == ["words"]
    assert resolve("words", kind="direction_table") == resolve("words") == cards / "words"
    with pytest.raises(ArtifactError, match=r"got: direction_table\. Use load_directions"):
        resolve("words", kind="edit")
    with pytest.raises(ArtifactError, match=r"got: edit\. Use load_edit"):
        resolve("afro-hair", kind="direction_table")
    write_folder(cards / "faces-of-words", {**CONFIG, "kind": "text_to_face"}, TENSORS)
    assert list(names.bundled("text_to_face")) == ["faces-of-words"]
    with pytest.raises(ArtifactError, match="Use load_text_to_face"):
        resolve("faces-of-words", kind="edit")
    # A damaged config is no reason to hide a card; whoever reads it is told.
    (cards / "words" / "config.json").write_text("{")
    assert list(names.bundled("edit")) == ["afro-hair", "words"]


def test_bundled_name_or_folder(
    cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "afro-hair", CONFIG, TENSORS)
    assert resolve("afro-hair") == cards / "afro-hair"
    assert resolve("./afro-hair").resolve() == tmp_path / "afro-hair"
    assert resolve(Path("afro-hair")).resolve() == tmp_path / "afro-hair"
    assert resolve(tmp_path / "afro-hair", kind="edit") == tmp_path / "afro-hair"


def test_folder_of_the_other_kind(cards: Path) -> None:
    with pytest.raises(
        ArtifactError,
        match=r"'faces' to hold the files of: edit; got: pipeline.*Bundled: afro-hair",
    ):
        resolve("faces", kind="edit")
    with pytest.raises(
        ArtifactError, match=r"'afro-hair' .* of: pipeline; got: edit.*no model_index\.json"
    ):
        resolve("afro-hair", kind="pipeline")


@pytest.mark.parametrize(
    "name",
    [
        "afro-hare",
        "",
        "../cards-of-others/afro",
        "user/../../secret",
        "user/repo@../main",
        "../repo",
        "user/repo/file",
        "https://example.org/user/repo",
        "user/repo\0",
        "x" * 10_000,
        Path("nowhere/at-all"),
    ],
)
def test_unknown_names_list_the_bundled_ones(name: str | Path, cards: Path) -> None:
    with pytest.raises(NotFoundError, match=r"bundled name \(afro-hair, faces\).*Hub id") as caught:
        resolve(name)
    assert len(str(caught.value)) < 500


def test_hub_id_fetches_data_only(
    cards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def snapshot_download(repo: str, **options: object) -> str:
        calls.append((repo, options))
        return str(cards / "afro-hair")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert resolve("me/afro@v1.0", kind="edit", token="secret") == cards / "afro-hair"
    ((repo, options),) = calls
    assert (repo, options["revision"], options["token"]) == ("me/afro", "v1.0", "secret")
    patterns = options["allow_patterns"]
    assert isinstance(patterns, list)
    assert not {"*", "*.py", "*.bin", "*.pt", "*.pkl"} & set(patterns)
    with pytest.raises(ValueError, match=r"names the revision 'v1\.0', and revision='v2'"):
        resolve("me/afro@v1.0", revision="v2")


def test_hub_id_that_cannot_be_had(cards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo: str, **options: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(NotFoundError, match=r"me/afro.*was not downloaded before.*afro-hair"):
        resolve("me/afro", local_files_only=True)


def test_hub_id_offline_for_real(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'me/afro' is no folder here.*not downloaded before"):
        resolve("me/afro", cache_dir=tmp_path, local_files_only=True)
