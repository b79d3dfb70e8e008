"""Every example runs and writes its files; every notebook runs from top to bottom."""

from __future__ import annotations

import json
import os
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from test_recipes import recipe

from stylegan_hub.methods import method

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(method, "_METHODS", dict(method._METHODS))
    promised = re.findall(
        r'(?:save|save_pretrained|save_film)\(.*?"([\w.-]+)"\)', example.read_text()
    )
    runpy.run_path(str(example), run_name="__main__")
    assert promised
    assert [name for name in promised if not (tmp_path / name).exists()] == []


def test_every_example_is_listed() -> None:
    listed = re.findall(r"\]\((\w+\.py)\)", (ROOT / "examples" / "README.md").read_text())
    assert sorted(listed) == [path.name for path in EXAMPLES] and 5 <= len(listed) <= 10


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code and all(not cell["outputs"] and cell["execution_count"] is None for cell in code)
    assert notebook.stat().st_size < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    # The notebooks call the command, which is not installed when the tests run in a clone.
    programs = tmp_path / "programs"
    programs.mkdir()
    command = programs / "stylegan-hub"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stylegan_hub "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    book = nbformat.read(notebook, as_version=4)
    folder = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, timeout=900, kernel_name="python3", resources=folder).execute()
    printed = "".join(
        output.get("text", "") for cell in book.cells for output in cell.get("outputs", ())
    )
    assert "Error" not in printed, printed
    shown = [
        output
        for cell in book.cells
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    assert shown


@pytest.mark.slow
def test_the_moving_picture_of_the_readme_is_made(tmp_path: Path) -> None:
    made = recipe("picture_readme")
    small = made.Config(output=tmp_path / "slider.gif", frames=4, resolution=32)
    made.main(small)
    with Image.open(small.output) as film:
        assert film.size == (6 * 32, 32) and film.n_frames > 1
    with pytest.raises(ValueError, match="Got 1 seeds for 6 edits"):
        made.main(replace(small, seeds=(1,)))
