"""Files of visitors are in a folder that other users of the machine cannot read or block."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from demo.temporary import VARIABLE, use_own_folder


@pytest.fixture(autouse=True)
def usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is tried first; not there yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")
    return tmp_path / f"stylegan-hub-{os.getuid()}"


def test_a_folder_of_ones_own(usual: Path) -> None:
    for _ in range(2):  # the next start finds it again
        os.environ[VARIABLE] = ""
        assert use_own_folder() is None
        assert os.environ[VARIABLE] == str(usual)
        assert stat.S_IMODE(usual.stat().st_mode) == 0o700


@pytest.mark.parametrize("obstacle", ["readable", "link", "file", "foreign"])
def test_another_users_folder_is_no_obstacle(
    usual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    if obstacle == "link":
        (tmp_path / "trap").mkdir(mode=0o700)
        usual.symlink_to(tmp_path / "trap")
    elif obstacle == "file":
        usual.write_text("mine")
    else:
        usual.mkdir(mode=0o700)
        if obstacle == "readable":
            usual.chmod(0o755)
        else:
            uid = os.getuid()
            usual.rename(usual.with_name(f"stylegan-hub-{uid + 1}"))
            usual = usual.with_name(f"stylegan-hub-{uid + 1}")
            monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    said = use_own_folder()
    own = Path(os.environ[VARIABLE])
    assert said is not None and str(usual) in said and str(own) in said
    assert own.parent == tmp_path and own != usual
    assert stat.S_IMODE(own.stat().st_mode) == 0o700


def test_what_the_environment_names_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/somewhere")
    assert use_own_folder() is None and os.environ[VARIABLE] == "/somewhere"
