"""The README's Python runs as it stands, on the bundled pipeline, without a network."""

import re
import runpy
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL):
        (tmp_path / "readme.py").write_text(code)
        runpy.run_path("readme.py")
    assert (tmp_path / "purple.png").is_file() and (tmp_path / "afro.png").is_file()
    assert (tmp_path / "runs" / "purple-hair" / "model.safetensors").is_file()


def test_every_file_of_the_tree_exists() -> None:
    root = README.parent
    (tree,) = re.findall(r"## What is where\n\n```\n(.*?)```", README.read_text(), re.DOTALL)
    folder = root
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = root / name if name.endswith("/") else root
            assert (root / name).exists(), name
        else:
            assert (folder / name).exists(), f"{folder.name}/{name}"
