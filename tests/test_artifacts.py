"""Folders are written completely or not at all, and are not trusted when they are read."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from programs import run_program

from stylegan_hub import artifacts, names
from stylegan_hub.artifacts import read_config, read_folder, read_tensors, write_folder
from stylegan_hub.errors import ArtifactError, NotFoundError, StorageError, StyleganHubError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline

ROOT = Path(__file__).parents[1]
needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork and no kill.")

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
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(root))
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


def test_bytes_follow_from_the_content(tmp_path: Path) -> None:
    names = list("abcdefgh")
    for attempt in range(8):
        Random(attempt).shuffle(names)
        tensors = {name: torch.full((3,), float(ord(name))) for name in names}
        write_folder(tmp_path / str(attempt), CONFIG, tensors)
    for name in ("model.safetensors", "config.json"):
        assert len({(tmp_path / str(n) / name).read_bytes() for n in range(8)}) == 1


@pytest.mark.slow
def test_bytes_are_the_same_in_every_process(tmp_path: Path) -> None:
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from stylegan_hub.artifacts import write_folder\n"
        "tensors = {name: torch.arange(5.0) for name in 'abcdefgh'}\n"
        "write_folder(Path(sys.argv[1]), {'kind': 'direction', 'space': 's'}, tensors)\n"
    )
    for seed in range(8):
        command = [sys.executable, "-c", code, tmp_path / str(seed)]
        run_program(command, PYTHONHASHSEED=str(seed))
    for name in ("model.safetensors", "config.json"):
        assert len({(tmp_path / str(seed) / name).read_bytes() for seed in range(8)}) == 1


def in_a_child(work: Callable[[], None]) -> int:
    """Run work in a forked process and return its id. It ends with status 0 unless work raises."""
    if pid := os.fork():
        return pid
    try:
        work()
        os._exit(0)
    finally:
        os._exit(1)


def save(folder: Path, number: int) -> None:
    """An artifact whose words and tensors stand for one number."""
    write_folder(
        folder, {**CONFIG, "prompt": str(number)}, {"n": torch.full((999,), float(number))}
    )


def saved(folder: Path) -> int:
    config, tensors = read_folder(folder)
    assert (tensors["n"] == float(config["prompt"])).all()
    return int(config["prompt"])


# Everything that a save does to the disk calls one of these.
STEPS = ["mkdir", "open", "fsync", "rename", "replace", "rmdir", "unlink"]


@needs_fork
@pytest.mark.parametrize("digest_before", [True, False], ids=["now", "version 0.1"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new(tmp_path: Path, digest_before: bool) -> None:
    folder = tmp_path / "afro"
    before, after = 0, 0
    for kill_at in range(1, 40):
        shutil.rmtree(folder, ignore_errors=True)
        save(folder, 1)
        if not digest_before:
            config = json.loads((folder / "config.json").read_text())
            del config["tensors_sha256"]
            (folder / "config.json").write_text(json.dumps(config))

        def work(kill_at: int = kill_at) -> None:
            steps = itertools.count(1)

            def deadly(call: Callable[..., object]) -> Callable[..., object]:
                def step(*arguments: object, **options: object) -> object:
                    if next(steps) == kill_at:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*arguments, **options)

                return step

            for name in STEPS:
                setattr(os, name, deadly(getattr(os, name)))
            save(folder, 2)

        _, status = os.waitpid(in_a_child(work), 0)
        found = saved(folder)
        before, after = before + (found == 1), after + (found == 2)
        save(folder, 3)
        assert saved(folder) == 3
        assert os.listdir(tmp_path) == ["afro"]  # the files of the killed process are gone
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0 and found == 2
            break
    else:
        pytest.fail("It was killed every time: more steps than were tried.")
    assert before >= 3 and after >= 3  # it was killed before and after the decision


@needs_fork
def test_kills_at_random_times(tmp_path: Path) -> None:
    folder = tmp_path / "afro"
    save(folder, 0)
    random = Random(0)

    def work() -> None:
        for number in range(1, 100_000):
            save(folder, number)

    for _ in range(12):
        pid = in_a_child(work)
        time.sleep(random.uniform(0.0, 0.05))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        saved(folder)  # it raises an error for a mixture
    save(folder, 7)
    assert saved(folder) == 7 and os.listdir(tmp_path) == ["afro"]


@needs_fork
def test_two_writers_and_a_reader(tmp_path: Path) -> None:
    folder = tmp_path / "afro"
    save(folder, 0)

    def write(first: int) -> None:
        for number in range(first, first + 40):
            save(folder, number)

    writers = [in_a_child(partial(write, first)) for first in (1000, 2000)]
    found = {saved(folder) for _ in range(150)}
    assert [os.waitpid(writer, 0)[1] for writer in writers] == [0, 0]
    assert found <= {0, *range(1000, 1040), *range(2000, 2040)}
    assert saved(folder) in (1039, 2039) and os.listdir(tmp_path) == ["afro"]


@needs_fork
def test_two_writers_of_a_new_folder(tmp_path: Path) -> None:
    for attempt in range(10):
        folder = tmp_path / str(attempt)
        writers = [in_a_child(partial(save, folder, number)) for number in (1, 2)]
        assert [os.waitpid(writer, 0)[1] for writer in writers] == [0, 0]
        assert saved(folder) in (1, 2)
    assert sorted(os.listdir(tmp_path)) == sorted(map(str, range(10)))


def test_leftovers_of_the_dead_are_removed_and_those_of_the_living_stay(folder: Path) -> None:
    parent = folder.parent
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = [f".afro.{ended.pid}-0123abcd.partial", ".afro.224b9b7a.partial"]
    others = [f".afro.{os.getpid()}-0123abcd.partial", ".afro-two.224b9b7a.partial"]
    for name in (*dead, *others):
        (parent / name).mkdir()
        (parent / name / "config.json").write_text("{}")
    read_folder(folder)
    assert set(os.listdir(parent)) == {"afro", *dead, *others}
    write_folder(folder, CONFIG, TENSORS)
    assert set(os.listdir(parent)) == {"afro", *others}

    left = parent / ".note.txt.224b9b7a.partial"
    left.write_text("half")
    artifacts.write_bytes(parent / "note.txt", b"whole")
    assert not left.exists() and (parent / "note.txt").read_bytes() == b"whole"


def test_files_copied_from_another_artifact_are_found_out(folder: Path) -> None:
    write_folder(folder.parent / "b", CONFIG, {"direction": torch.zeros(2, 3)})
    shutil.copy(folder.parent / "b" / "model.safetensors", folder)
    with pytest.raises(ArtifactError, match="mixes two artifacts") as caught:
        read_folder(folder)
    assert "Use two files that were saved together" in str(caught.value)
    edit_config(folder, kind="direction")
    config = json.loads((folder / "config.json").read_text())
    del config["tensors_sha256"]  # version 0.1 wrote none, and must load
    (folder / "config.json").write_text(json.dumps(config))
    read_folder(folder)


def error_of(path: Path) -> StorageError:
    with pytest.raises(StorageError) as caught:
        write_folder(path, CONFIG, TENSORS)
    assert isinstance(caught.value, OSError) and ".partial" not in str(caught.value)
    assert str(path) in str(caught.value) and caught.value.remedy
    return caught.value


def test_errors_of_the_system_name_the_path_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    error = error_of(tmp_path / "file" / "afro")
    assert f"{tmp_path / 'file'} is a file" in str(error)
    assert error_of(tmp_path / "file").errno == errno.ENOTDIR
    assert (tmp_path / "file").read_text() == "mine"
    assert error_of(tmp_path / ("x" * 300)).errno == errno.ENAMETOOLONG
    for number, remedy in [
        (errno.ENOSPC, "Free some space"),
        (errno.EACCES, "may write to"),
        (errno.EROFS, "may write to"),
    ]:

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            error = error_of(tmp_path / "afro")
            assert error.errno == number and remedy in error.remedy
            with pytest.raises(StorageError, match=re.escape(str(tmp_path / "a.txt"))):
                artifacts.write_bytes(tmp_path / "a.txt", b"")
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_that_holds_something_else_is_asked_about(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "me.jpg").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"holds something else \(me\.jpg\)") as caught:
        write_folder(photos, CONFIG, TENSORS)
    assert "overwrite=True" in caught.value.remedy and "--overwrite" in caught.value.remedy
    assert os.listdir(photos) == ["me.jpg"] and os.listdir(tmp_path) == ["photos"]
    write_folder(photos, CONFIG, TENSORS, overwrite=True)
    assert sorted(os.listdir(photos)) == ["config.json", "me.jpg", "model.safetensors"]
    write_folder(photos, CONFIG, TENSORS)  # now it is an artifact

    pipeline = tmp_path / "pipeline"
    pipeline.mkdir()
    (pipeline / "model_index.json").write_text("{}")
    clip = tmp_path / "clip"  # transformers names its files as we do
    clip.mkdir()
    (clip / "config.json").write_text('{"model_type": "clip"}')
    (clip / "model.safetensors").write_bytes(b"")
    for folder in (pipeline, clip):
        with pytest.raises(ArtifactError, match="holds something else"):
            write_folder(folder, CONFIG, TENSORS)

    run = tmp_path / "run"  # files of a training do not hinder, nor does a damaged artifact
    (run / "checkpoint-100").mkdir(parents=True)
    for name in ("training.log", "training_config.json", "metrics.json"):
        (run / name).write_text("{}")
    write_folder(run, CONFIG, TENSORS)
    (run / "config.json").write_text("{")
    write_folder(run, CONFIG, TENSORS)
    read_folder(run)


def test_what_belongs_to_other_tensors_is_set_aside(folder: Path) -> None:
    digest = json.loads((folder / "config.json").read_text())["tensors_sha256"]
    (folder / "images").mkdir()
    (folder / "images" / "strip.png").write_bytes(b"one")
    (folder / "README.md").write_text("---\nlibrary_name: stylegan_hub\n---\n# Afro\n")
    artifacts.write_metrics(folder, {"success": 0.5})
    assert artifacts.recorded_digests(folder) == {"metrics.json": digest}
    assert artifacts.read_metrics(folder) == {"success": 0.5}

    write_folder(folder, {**CONFIG, "prompt": "an afro"}, TENSORS)  # other words, the same tensors
    assert artifacts.read_metrics(folder) == {"success": 0.5} and not (folder / "stale").exists()

    other = {"direction": torch.zeros(1)}
    write_folder(folder, CONFIG, other)
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors", "stale"]
    assert sorted(os.listdir(folder / "stale")) == ["README.md", "images", "metrics.json"]
    assert (folder / "stale" / "images" / "strip.png").read_bytes() == b"one"

    # In version 0.1, nothing says what it belongs to: it belongs to what was there.
    (folder / "metrics.json").write_text('{"success": 1}')
    config = json.loads((folder / "config.json").read_text())
    del config["tensors_sha256"]
    (folder / "config.json").write_text(json.dumps(config))
    write_folder(folder, CONFIG, other)
    assert artifacts.read_metrics(folder) == {"success": 1}
    write_folder(folder, CONFIG, TENSORS)
    assert artifacts.read_metrics(folder) == {} and os.listdir(folder / "stale") == ["metrics.json"]


@needs_fork
def test_a_model_and_a_pipeline_are_written_whole(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator, folder = tiny_pipeline.generator, tmp_path / "generator"
    generator.save_pretrained(folder)
    before = generator.fingerprint()

    def killed(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def interrupted(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def work() -> None:
        os.replace = killed  # type: ignore[assignment]
        generator.save_pretrained(folder)

    os.waitpid(in_a_child(work), 0)
    assert any(name.endswith(".decided") for name in os.listdir(tmp_path))
    assert StyleGAN2Generator.from_pretrained(resolve(folder)).fingerprint() == before
    assert os.listdir(tmp_path) == ["generator"]

    pipeline = tmp_path / "pipeline"
    tiny_pipeline.save_pretrained(pipeline)
    files = {p: p.read_bytes() for p in pipeline.rglob("*") if p.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(type(tiny_pipeline.clip), "save_pretrained", interrupted)
        with pytest.raises(StorageError, match=re.escape(f"Cannot write {pipeline}: No space")):
            tiny_pipeline.save_pretrained(pipeline)
    assert {p: p.read_bytes() for p in pipeline.rglob("*") if p.is_file()} == files
    assert sorted(os.listdir(tmp_path)) == ["generator", "pipeline"]
    with pytest.raises(ArtifactError, match="holds something else"):
        generator.save_pretrained(pipeline)
    with pytest.raises(ArtifactError, match="holds something else"):
        tiny_pipeline.save_pretrained(folder)
    tiny_pipeline.save_pretrained(pipeline)
    assert StyleEditPipeline.from_pretrained(pipeline).generator.fingerprint() == before


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
        ArtifactError, match=r"pytorch_model\.bin is not read: a pickle can execute code"
    ):
        read_folder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ArtifactError, match=r"has no config\.json"):
        read_folder(folder)


@pytest.mark.parametrize("keep", [0, 4, 40, -1])
def test_truncated_tensors(folder: Path, keep: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match=r"not a safetensors file.*download it again"):
        read_folder(folder)


def test_a_file_that_was_cut_off(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    path = folder / "truncated.safetensors"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(ArtifactError, match=r"truncated\.safetensors \(\d+ bytes\) is damaged"):
        read_tensors(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ("\N{BYTE ORDER MARK}{}", "lacks kind and format_version; got the keys none|is not JSON"),
        ("[1, 2]", "holds a list; expected an object"),
        ("[" * 100_000, "is not JSON"),
        ('{"kind": "direction", "a": 1}', "lacks format_version; got the keys a, kind"),
        ('{"_class_name": "X"}', "may be the config of another library"),
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
    # A damaged config is no reason to hide a card; readers are warned.
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
        match=r"'faces' to hold the files of: edit; got: pipeline",
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
def test_unknown_names_are_told_with_near_ones(name: str | Path, cards: Path) -> None:
    with pytest.raises(NotFoundError) as caught:
        resolve(name)
    near = ["afro-hair"] if name == "afro-hare" else []
    assert caught.value.got == str(name) and caught.value.expected == near
    assert ("'afro-hair'" in str(caught.value)) == bool(near)
    assert len(str(caught.value)) < 500


def test_only_near_names_are_listed() -> None:
    known = ["afro-hair", "Afro", "beard", *(f"edit-{i}" for i in range(30))]
    assert names.near("AFRO", known)[0] == "Afro"
    assert names.near("afro-hare", known)[0] == "afro-hair"
    assert len(names.near("edit-", known)) == 3
    assert names.near("portrait of a duck", known) == []


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
    with pytest.raises(ValueError, match=r"names the revision 'v1\.0', but revision='v2'"):
        resolve("me/afro@v1.0", revision="v2")


def test_hub_id_that_cannot_be_had(cards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo: str, **options: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(NotFoundError, match=r"me/afro.*no earlier download"):
        resolve("me/afro", local_files_only=True)


def test_hub_id_offline_for_real(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'me/afro' is not a folder.*no earlier download"):
        resolve("me/afro", cache_dir=tmp_path, local_files_only=True)
