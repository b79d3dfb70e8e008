"""The command writes what was asked for, or says in one line why not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from stylegan_hub.cli import main
from stylegan_hub.edits.base import load_edit


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "new" / "out.png"


def test_help_is_quick() -> None:
    command = [sys.executable, "-c", "from stylegan_hub.cli import main; main()", "--help"]
    subprocess.run(command, check=True, capture_output=True)  # warm the file cache
    before = os.times().children_user
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert os.times().children_user - before < 1  # processor time: other work does not count
    assert all(name in result.stdout for name in ("edit", "sample", "demo"))


def test_import_is_light() -> None:
    code = "import sys, stylegan_hub.cli; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"torch", "diffusers", "transformers", "gradio", "PIL", "numpy"} & set(loaded)


def test_version() -> None:
    from stylegan_hub import __version__

    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, __version__ + "\n")


def test_edit_by_words(tiny_pipeline_folder: Path, output: Path) -> None:
    saved = output.parent / "edit"
    result = run(
        "edit", "--seed", 7, "--text", "a face with a hat", "--steps", 3, "--space", "s",
        "--pipeline", tiny_pipeline_folder, "--save-edit", saved, "--before-after", "-o", output,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Wrote {output} and {saved}.\n"
    with Image.open(output) as picture:
        assert picture.size == (64, 32)
        before, after = picture.crop((0, 0, 32, 32)), picture.crop((32, 0, 64, 32))
    assert before.tobytes() != after.tobytes()
    edit = load_edit(saved)
    assert edit.space == "s" and edit.origin.prompt == "a face with a hat"

    again = output.with_name("again.png")
    common = ("--seed", 7, "--pipeline", tiny_pipeline_folder, "-o", again)
    assert run("edit", "--edit", saved, *common).exit_code == 0
    assert pixels(again) == after.tobytes()
    assert run("edit", "--edit", f"{saved}:0", *common).exit_code == 0
    assert pixels(again) == before.tobytes()
    assert run("edit", "--edit", f"{saved}:0.5", "--edit", f"{saved}:0.5", *common).exit_code == 0
    assert pixels(again) == after.tobytes()


def test_unfamiliar_word(tiny_pipeline_folder: Path, output: Path) -> None:
    result = run(
        "edit", "--text", "a zebra", "--steps", 1, "--pipeline", tiny_pipeline_folder, "-o", output
    )
    assert result.exit_code == 0
    assert "Warning: this CLIP has no token for 'zebra'" in result.stderr


def test_sample(tiny_pipeline_folder: Path, output: Path) -> None:
    common = ("--pipeline", tiny_pipeline_folder, "-o", output)
    result = run("sample", "--seeds", "0-3,7", "--columns", 3, *common)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Wrote {output} with 5 faces.\n"
    with Image.open(output) as sheet:
        assert sheet.size == (96, 64)
    assert run("sample", "--seeds", "7", *common).exit_code == 0
    with Image.open(output) as sheet:
        assert sheet.size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Got nothing to do; give --text, or --edit, or both"),
        (("--text", ""), "Got no words"),
        (("--text", "hat " * 10_000), "Got 10000 words"),
        (("--text", "hat", "--seed", "-1"), "Got seed -1"),
        (("--text", "hat", "--seed", str(2**63)), "Got seed 9223372036854775808"),
        (("--text", "hat", "--truncation", "nan"), "truncation"),
        (("--text", "hat", "--strength", "inf"), "Got strength inf"),
        (("--edit", "no such edit:1.0"), "Found nothing under 'no such edit'"),
        (("--edit", "hat", "--save-edit", "folder"), "give --text too"),
        (("--text", "hat", "--pipeline", "potraits"), "Found nothing under 'potraits'"),
    ],
)
def test_bad_input(
    tiny_pipeline_folder: Path, output: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("edit", "--pipeline", tiny_pipeline_folder, "--steps", 1, *arguments, "-o", output)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not output.parent.exists()


@pytest.mark.parametrize("seeds", ["", "x", "3-", "5-2", "1,,2", "-1", "0-99999"])
def test_bad_seeds(output: Path, seeds: str) -> None:
    result = run("sample", "--seeds", seeds, "-o", output)
    assert result.exit_code == 2
    assert f"Got seeds {seeds!r}" in result.stderr


def test_output_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, message in [
        (tmp_path / "out.bmp", "end the name in .gif, .jpeg"),
        (tmp_path / "file" / "out.png", "is a file, not a folder"),
        (Path("/proc/out.png"), "Cannot write in /proc"),
    ]:
        # The pipeline does not exist: the output is refused before anybody looks for it.
        result = run("edit", "--text", "hat", "--pipeline", "potraits", "-o", output)
        assert result.exit_code == 2
        assert message in result.stderr
    result = run("edit", "--text", "hat", "--save-edit", tmp_path / "file", "-o", "out.png")
    assert result.exit_code == 2
    assert os.listdir(tmp_path) == ["file"]


def test_disk_that_refuses(
    tiny_pipeline_folder: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    result = run("sample", "--seeds", "1", "--pipeline", tiny_pipeline_folder, "-o", output)
    assert result.exit_code == 1
    assert "Error: [Errno 28] No space left on device" in result.stderr
    assert list(output.parent.iterdir()) == []


def test_demo_runs_the_script_of_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def note(command: list[str]) -> subprocess.CompletedProcess[str]:
        commands.append(command[1:])
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(subprocess, "run", note)
    assert run("demo", "--pipeline", "cars", "--port", 8000).exit_code == 3
    script = Path(__file__).parents[1] / "app.py"
    assert commands == [[str(script), "--pipeline", "cars", "--port", "8000"]]
    assert script.is_file()


def test_help_of_the_script() -> None:
    script = Path(__file__).parents[1] / "app.py"
    result = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
    )
    assert all(option in result.stdout for option in ("--pipeline", "--host", "--port"))


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()
