"""Everything that is tracked stays small, part by part, so that cloning takes seconds."""

from __future__ import annotations

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
    ("cards/critic/", ("",)): ("the critic", 1.5),
    ("cards/identity-judge/", ("",)): ("the judge of identity", 2.5),
    ("cards/face-finder/", ("",)): ("the finder of faces", 1.5),
    ("cards/", ("",)): ("the edits", 14.0),
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
