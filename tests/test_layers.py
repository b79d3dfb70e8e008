"""Imports only go downward, and imported libraries are declared."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_contracts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    status = lint_imports(config_filename="pyproject.toml", no_cache=True)
    assert status == 0, capsys.readouterr().out


def modules() -> dict[str, Path]:
    """Every module of the library by its dotted name."""
    found = {}
    for path in (ROOT / "stylegan_hub").rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    known = modules()
    imports: dict[str, set[str]] = {}
    for name, path in known.items():
        wanted: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):  # including imports for types only
            if isinstance(node, ast.ImportFrom) and node.module:
                wanted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        # A package's __init__ collects its contents; the module that defines a name counts.
        imports[name] = {one for one in wanted if one in known} - {name, "stylegan_hub"}
    inits = {name for name, path in known.items() if path.name == "__init__.py"}
    order = TopologicalSorter(
        {name: wanted - inits for name, wanted in imports.items() if name not in inits}
    )
    assert len(tuple(order.static_order())) > 80  # raises CycleError, which names the files


def test_every_folder_is_a_package() -> None:
    # A folder without __init__.py works in a clone but is missing from the wheel.
    folders = {path.parent for path in (ROOT / "stylegan_hub").rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def imported(*places: str) -> set[str]:
    """Libraries that the files in some folders import, anywhere in them."""
    names: set[str] = set()
    for path in (path for place in places for path in ROOT.glob(place)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").split(".")[0])
    own = {"stylegan_hub", "demo", *(path.stem for path in (ROOT / "recipes").glob("*.py"))}
    return {name.lower() for name in names - own - sys.stdlib_module_names}


def declared(text: str) -> set[str]:
    """Libraries named by requirements, under their import names."""
    names = re.findall(
        r"^\s*\"?([\w-]+)(?:\[\w+\])?(?:>=|==)", text.replace(", ", "\n"), re.MULTILINE
    )
    return {{"pillow": "pil"}.get(name, name.replace("-", "_")) for name in names}


def test_what_is_imported_gets_installed() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    library = declared(project.split("\ndependencies = [")[1].split("\n]")[0])
    extras = {
        name: declared(given)
        for name, given in re.findall(r"^(\w+) = \[(.*)\]$", project, re.MULTILINE)
    }
    assert {"torch", "pil"} <= library and extras["train"] == {"tensorboard"}
    optional = set().union(*(extras[name] for name in extras))
    assert imported("stylegan_hub/**/*.py") <= library | optional
    assert imported("recipes/*.py") <= library | extras["train"]
    # Page and recipes run after the README's first command.
    clone = declared((ROOT / "requirements.txt").read_text())
    clone.add("spaces")  # only a Space with ZeroGPU has it
    assert imported("app.py", "demo/**/*.py", "recipes/*.py") <= clone
