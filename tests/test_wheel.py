"""The built wheel works without a clone: the page, a Space and a training run from it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
import zipfile
from pathlib import Path

import pytest

from stylegan_hub.version import __version__

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    "app.py", "cards", "demo", "docs/targets", "LICENSE", "pyproject.toml", "README.md",
    "recipes", "requirements.txt", "setup.py", "stylegan_hub",
)  # fmt: skip
LARGEST = 100 * 10**6  # the usual limit of package indexes, in bytes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no other files of this checkout get into it."""
    copy, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source, target = ROOT / name, copy / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, target)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", built, copy], check=True)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs in an environment with the wheel and this one's other packages."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install"]
    words = ["--quiet", "--no-deps", "--no-index", wheel]
    subprocess.run([*pip, *words], cwd=folder, env=variables(), check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # As a plain path, so that an editable installation of this checkout is not seen.
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin"


def variables() -> dict[str, str]:
    """The environment variables, without those that lead to this checkout."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "ACCELERATE_USE_CPU": "true", "STYLEGAN_HUB_RUNTIME": "pytorch"}


def command(environment: Path, folder: Path, *words: str) -> str:
    """What `stylegan-hub` printed when it ran in a folder."""
    done = subprocess.run(
        [environment / "stylegan-hub", *words],
        cwd=folder, env=variables(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_what_is_in_it(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel.stat().st_size < LARGEST
    clone = {name for name in names if name.startswith("stylegan_hub/_clone/")}
    tops = {name.split("/")[2] for name in clone}
    assert tops == {"app.py", "demo", "docs", "LICENSE", "recipes", "requirements.txt"}
    for folder in ("demo", "recipes"):
        expected = {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*")
            if path.is_file()
            and "__pycache__" not in path.parts
            and path.suffix != ".sh"  # they rebuild what a clone holds
        }
        assert expected <= {name.removeprefix("stylegan_hub/_clone/") for name in clone}
    assert {name.split("/")[0] for name in names} == {
        "stylegan_hub", f"stylegan_hub-{__version__}.dist-info"
    }  # fmt: skip


def test_it_is_what_runs(environment: Path, tmp_path: Path) -> None:
    code = "from stylegan_hub.clone import root; print(root())"
    done = subprocess.run(
        [environment / "python", "-c", code],
        cwd=tmp_path, env=variables(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()).is_relative_to(environment.parent)


def test_training(environment: Path, tmp_path: Path) -> None:
    command(
        environment, tmp_path, "train", "mapper", "--text", "a face with green eyes",
        "--max_train_steps", "2", "--train_batch_size", "2", "--samples", "2",
        "--output_dir", "green-eyes",
    )  # fmt: skip
    written = {path.name for path in (tmp_path / "green-eyes").iterdir()}
    assert {"config.json", "model.safetensors", "metrics.json", "README.md"} <= written
    assert "latent_mapper" in command(environment, tmp_path, "info", "green-eyes")


def test_a_space(environment: Path, tmp_path: Path) -> None:
    command(environment, tmp_path, "space", "page", "--edit", "afro-hair")
    page = tmp_path / "page"
    for name in ("app.py", "demo/tabs/words.py", "docs/targets/zuri.png", "requirements.txt"):
        assert (page / name).is_file(), name
    assert (page / "cards" / "afro-hair" / "model.safetensors").is_file()
    assert not list((page / "stylegan_hub").glob("_*/"))  # nothing is there twice


def test_the_page(environment: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    page = subprocess.Popen(
        [environment / "stylegan-hub", "demo", "--port", str(port), "--host", "127.0.0.1"],
        cwd=tmp_path, env=variables(), start_new_session=True,
    )  # fmt: skip
    try:
        assert "with words" in wait_for(f"http://127.0.0.1:{port}/", page)
    finally:
        os.killpg(page.pid, signal.SIGTERM)  # the command and the page that it started
        page.wait(30)


def wait_for(url: str, server: subprocess.Popen[bytes], seconds: float = 180) -> str:
    """The page at an address, once its server answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read(), "utf-8")
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"Nothing answered at {url}; the server's exit status: {server.poll()}")
