"""Faults on purpose, in short; `python -m tests.faults` runs them at length."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from stylegan_hub.checkpoints.files import read_checkpoint
from stylegan_hub.errors import ArtifactError
from tests.faults import disks, fuzz, hub, kills, load

HAS_ATHERIS = importlib.util.find_spec("atheris") is not None


@pytest.mark.slow
@pytest.mark.skipif(not HAS_ATHERIS, reason="atheris is not installed")
@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_readers_give_a_result_or_an_error_of_ours(target: str) -> None:
    found = fuzz.run(target, executions=400)
    assert found["executions"] >= 400 and "said" not in found, json.dumps(found, indent=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", kills.KINDS)
def test_a_kill_leaves_the_old_or_the_new(kind: str) -> None:
    found = kills.run(kind, count=3)
    assert not found["faults"] and found["old"] + found["new"] == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", disks.KINDS)
def test_a_full_disk_leaves_the_old(kind: str) -> None:
    found = disks.run(kind, count=4)
    assert not found["faults"] and found["refused"] >= 2


# The client itself sends files in a way that its HTTP library will drop.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("operation", hub.OPERATIONS)
def test_a_request_that_fails_once_is_asked_again(operation: str) -> None:
    found = hub.run(operation, ["lost"])
    assert not found["faults"] and int(str(found["tried"])) >= 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
@pytest.mark.parametrize("operation", hub.OPERATIONS)
def test_no_fault_of_the_hub_hurts(operation: str) -> None:
    found = hub.run(operation, [way for way in hub.WAYS if way != "lost"])
    assert not found["faults"]


@pytest.mark.parametrize("data", [b"", b"\x80", b"P", b"\x93NUMPY", b"\x80\x02", b"(", b"\0" * 8])
def test_files_of_a_few_bytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "tiny.pkl"
    path.write_bytes(data)
    with pytest.raises(ArtifactError):
        read_checkpoint(path)


@pytest.mark.slow
def test_everybody_under_load_gets_the_right_picture(tmp_path: Path) -> None:
    report = tmp_path / "load.json"
    assert load.main(["--loads", "3:0:4", "2:0.1-0.5:4", "--output", str(report)]) == 0
    for numbers in json.loads(report.read_text()):
        assert numbers["pictures"] >= numbers["kinds_of_pictures_compared"] > 0
        assert 0 < numbers["p50"] <= numbers["p95"] <= numbers["p99"]


@pytest.mark.parametrize("text", ["16", "0:0:1", "3:2-1:5", "3:0:0", "a:0:1"])
def test_impossible_loads(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load.main(["--loads", text])
    assert ended.value.code == 2 and "--help" not in capsys.readouterr().out
