"""The command works without a home folder or a user name, with `umask 077`, in another locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
