"""The documentation is true: its Python runs, and its commands and trees exist."""

from __future__ import annotations

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from stylegan_hub.cli import main
from stylegan_hub.methods import method

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
SLOW = ("how-to/everyday.md", "tutorials/first-edit.md", "tutorials/photograph.md")
NOT_RUN = re.compile(r"<!-- not run: .+ -->\n\s*$")


def blocks(page: Path, language: str) -> Iterator[tuple[str, bool]]:
    """The blocks of a page in a language, and whether they should be run."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield found[1], NOT_RUN.search(text[: found.start()]) is None


def name_of(page: Path) -> str:
    return page.relative_to(ROOT / "docs").as_posix()


def with_code() -> Iterator[object]:
    for page in PAGES:
        if any(is_run for _, is_run in blocks(page, "python")):
            marks = [pytest.mark.slow] if name_of(page) in SLOW else []
            yield pytest.param(page, id=name_of(page), marks=marks)


@pytest.mark.parametrize("page", [*with_code()])
@pytest.mark.usefixtures("short_searches")
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(method, "_METHODS", dict(method._METHODS))
    code = "\n".join(code for code, is_run in blocks(page, "python") if is_run)
    (tmp_path / "page.py").write_text(code)
    runpy.run_path("page.py", run_name="page")


def commands(text: str) -> Iterator[list[str]]:
    """The words of each call of `stylegan-hub` in blocks of shell commands."""
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            if re.match(r"(.*\s)?(stylegan-hub|-m stylegan_hub)\s", line) is None:
                continue
            words = shlex.split(line, comments=True)
            (place,) = [i for i, word in enumerate(words) if re.fullmatch("stylegan[-_]hub", word)]
            yield words[place + 1 :]


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page: Path) -> None:
    known = typer.main.get_command(main)
    for name, *words in commands(page.read_text(encoding="utf-8")):
        assert name in known.commands, name
        if name == "train":  # its options are the recipe's, which the test of the wheel runs
            continue
        command = known.commands[name]
        options = {option for parameter in command.params for option in parameter.opts}
        options |= {option for one in command.params for option in one.secondary_opts}
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given - options == set(), f"stylegan-hub {name}"


def test_commands_are_read() -> None:
    assert list(commands("```sh\nstylegan-hub edit \\\n  --seed 7 # x\n```\n")) == [
        ["edit", "--seed", "7"]
    ]


def test_the_tree_of_the_library_is_complete() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"## What is where\n\n```\n(.*?)```", readme, re.DOTALL)
    (library,) = re.findall(r"^stylegan_hub/.*?\n((?:  .*\n)+)", tree, re.MULTILINE)
    named = [line.split()[0].rstrip("/") for line in library.splitlines()]
    assert sorted(named) == sorted(modules())


def test_the_design_names_every_module() -> None:
    design = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    (layers,) = re.findall(r"## Who may import whom\n.*?```\n(.*?)```", design, re.DOTALL)
    # On each line, what stands before the explanation, which two spaces separate.
    first = [re.split(r"\s{2,}", line.strip())[0] for line in layers.splitlines()]
    named = {name.strip().rstrip("/") for line in first for name in line.split(",")}
    assert named - {"app.py", "demo", "recipes"} == modules()


def modules() -> set[str]:
    """The contents of the library's folder, except private files."""
    found = {path.name for path in (ROOT / "stylegan_hub").iterdir()}
    return {name for name in found if not name.startswith(("_", ".")) and name != "py.typed"}
