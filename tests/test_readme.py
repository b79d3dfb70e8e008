"""The README's Python runs as printed, on the bundled pipeline, without a network."""

import re
import runpy
from pathlib import Path

import pytest

import stylegan_hub as hub
from stylegan_hub.methods import method
from stylegan_hub.pipeline import StyleEditPipeline

README = Path(__file__).parent.parent / "README.md"


@pytest.mark.usefixtures("short_searches")
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


def test_the_example_of_a_method_works(
    tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(method, "_METHODS", dict(method._METHODS))
    design = (README.parent / "docs" / "design.md").read_text()
    (code,) = re.findall(r"one file\n\n```python\n(.*?)```", design, re.DOTALL)
    (tmp_path / "wander.py").write_text(code)
    runpy.run_path(str(tmp_path / "wander.py"), run_name="wander")
    near, far = (
        tiny_pipeline.find(hub.Nothing(), method="wander", settings=preset)
        for preset in ("default", "far")
    )
    assert far.length > 3 * near.length > 0
    assert far.origin.training["method"] == "wander"
