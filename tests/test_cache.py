"""The cache lies where the user says, at home, or where no other user can reach it."""

from __future__ import annotations

import stat
import tempfile
from pathlib import Path

import pytest

from stylegan_hub.cache import CACHE, cache_folder, is_private, user


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a user without a home folder would have its cache; nothing is set."""
    for name in (CACHE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"stylegan-hub-cache-{user()}"


def has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home(_: object) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", classmethod(home))


def test_what_is_named_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "stylegan_hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "stylegan_hub"
    monkeypatch.setenv(CACHE, str(tmp_path / "named"))
    assert cache_folder() == tmp_path / "named"


def test_a_user_without_a_home(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_no_home(monkeypatch)
    assert cache_folder() == bare == cache_folder()
    assert stat.S_IMODE(bare.stat().st_mode) == 0o700


def test_a_place_that_others_have_is_not_taken(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_no_home(monkeypatch)
    bare.mkdir(mode=0o777)
    bare.chmod(0o777)  # libraries from there are loaded
    with pytest.raises(PermissionError, match=CACHE):
        cache_folder()
    assert not is_private(bare)
