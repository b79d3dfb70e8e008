"""What is tracked stays small, part by part, and names no machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOTAL = 62.0
# In megabytes. The first part whose beginning and ending fit counts a file.
BUDGET = {
    ("", (".webp", ".png", ".jpg", ".svg")): ("pictures", 8.0),
    ("cards/portraits/instant/", ("",)): ("the instant model", 6.5),
    ("cards/portraits/", ("",)): ("the other parts of the pipeline", 24.5),
    ("cards/attribute-reader/", ("",)): ("the reader", 2.5),
    ("cards/identity-judge/", ("",)): ("the judge of identity", 2.5),
    ("cards/face-finder/", ("",)): ("the finder of faces", 1.5),
    ("cards/", ("",)): ("the edits", 14.5),
    ("", ("",)): ("code, tests and documentation", 7.0),
}


def test_tracked_files_keep_to_the_budget() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("This is no clone.")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    used: Counter[str] = Counter()
    for name in listed.stdout.decode().split("\0"):
        if (ROOT / name).is_file():
            used[part_of(name)] += (ROOT / name).stat().st_size
    too_large = {
        part: f"{used[part] / 1e6:.1f} MB; expected at most {limit}"
        for part, limit in BUDGET.values()
        if used[part] > limit * 1e6
    }
    assert not too_large
    assert used.total() < TOTAL * 1e6


def part_of(name: str) -> str:
    """The part of the budget that a file counts towards."""
    return next(
        part
        for (beginning, endings), (part, _) in BUDGET.items()
        if name.startswith(beginning) and name.endswith(endings)
    )


def test_what_is_bundled_names_no_folder_of_a_machine() -> None:
    texts = [path for path in (ROOT / "cards").rglob("*") if path.suffix in {".json", ".md"}]
    assert len(texts) > 50
    named = re.compile(r"[\"'` (](/(?:var|tmp|home|root|work|mnt|Users)/[^\"'`) ]*)")
    assert not {
        f"{path.relative_to(ROOT)}: {found[1]}"
        for path in texts
        if (found := named.search(path.read_text(encoding="utf-8")))
    }
