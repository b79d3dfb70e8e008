"""The command works without a home folder or a user name, with `umask 077`, in another locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stylegan_hub.storage import staged, write_bytes

ROOT = Path(__file__).parent.parent


def homeless(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an environment without a user's data, with a folder for temporary files."""
    code = (
        "import os, pwd, sys\n"
        "def nameless(*_): raise KeyError('no such user')\n"
        "pwd.getpwuid = nameless\n"
        "os.umask(0o077)\n"
        "from stylegan_hub.cli import main\n"
        "sys.argv[0] = 'stylegan-hub'\n"
        "main()"
    )
    environment = {
        "PATH": os.environ["PATH"], "TMPDIR": str(tmp_path), "LC_ALL": "C", "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1", "STYLEGAN_HUB_RUNTIME": "pytorch", "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1", "STYLEGAN_HUB_KERNELS": "off",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="other users and modes")
def test_a_picture_without_a_home(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    output = tmp_path / "out.png"
    done = homeless(
        tmp_path, "sample", "--pipeline", str(tiny_pipeline_folder), "--seeds", "1", "-o", "out.png"
    )
    assert done.returncode == 0, done.stderr
    assert output.read_bytes().startswith(b"\x89PNG") and output.stat().st_mode & 0o077 == 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="other users and modes")
def test_the_doctor_without_a_home(tmp_path: Path) -> None:
    done = homeless(tmp_path, "doctor")
    assert done.returncode == 0, done.stderr
    assert "bundled:" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="other users and modes")
def test_a_model_is_as_readable_as_the_umask_says(tmp_path: Path) -> None:
    from tests.faults.kills import KINDS

    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(umask)
        try:
            KINDS["generator"].save(tmp_path / f"{umask}", 0)
        finally:
            os.umask(before)
        modes = {path.stat().st_mode & 0o777 for path in (tmp_path / f"{umask}").iterdir()}
        assert modes == {mode}


@pytest.mark.skipif(sys.platform == "win32", reason="other users and modes")
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path) -> None:
    """Also if it is in a folder that is written as a whole; new files follow the umask."""
    before = os.umask(0o022)
    try:
        for mode in (0o600, 0o640, 0o666):
            note = tmp_path / f"{mode:o}.txt"
            note.write_bytes(b"old")
            note.chmod(mode)
            write_bytes(note, b"new")
            assert note.read_bytes() == b"new" and note.stat().st_mode & 0o777 == mode
        write_bytes(tmp_path / "fresh.txt", b"new")
        assert (tmp_path / "fresh.txt").stat().st_mode & 0o777 == 0o644

        folder = tmp_path / "folder"
        with staged(folder) as staging:
            (staging / "a").write_bytes(b"old")
        assert [path.stat().st_mode & 0o777 for path in (folder, folder / "a")] == [0o755, 0o644]
        folder.chmod(0o700)
        (folder / "a").chmod(0o600)
        with staged(folder) as staging:
            assert staging.stat().st_mode & 0o777 == 0o700
            (staging / "a").write_bytes(b"new")
            (staging / "b").write_bytes(b"new")
        modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "a", folder / "b")]
        assert modes == [0o700, 0o600, 0o644] and (folder / "a").read_bytes() == b"new"
    finally:
        os.umask(before)


@pytest.mark.skipif(sys.platform == "win32", reason="other users and modes")
def test_the_data_is_at_no_moment_more_readable_than_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, seen = tmp_path / "note.txt", []
    note.write_bytes(b"old")
    note.chmod(0o600)
    flush = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: (seen.append(os.fstat(file).st_mode & 0o777), flush(file))
    )
    write_bytes(note, b"new")
    assert seen == [0o600]
