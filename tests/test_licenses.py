"""The packages that users install have licenses that let them use this one in any way."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
_COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public|Affero|non-?commercial", re.IGNORECASE)


def required() -> set[str]:
    """The names of all packages that requirements.txt installs, as far as they are here."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    waiting = [Requirement(line) for line in lines if line and not line.startswith("#")]
    found: set[str] = set()
    while waiting:
        wanted = waiting.pop()
        name = wanted.name.lower().replace("_", "-")
        if name in found or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            needs = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        found.add(name)
        waiting += map(Requirement, needs)
    return found


def licenses(name: str) -> list[str]:
    """All that a package's metadata says about its license; long texts are left out."""
    about = distribution(name).metadata
    classified = [one for one in about.get_all("Classifier", []) if one.startswith("License ::")]
    said = [about.get("License-Expression"), about.get("License"), *classified]
    return [one for one in said if one and len(one) < 200]


def test_no_package_demands_that_its_users_publish_their_code() -> None:
    names = required()
    assert {"torch", "gradio", "certifi", "regex"} <= names
    assert {name: licenses(name) for name in names if _COPYLEFT.search(str(licenses(name)))} == {}


@pytest.mark.parametrize(
    ("said", "is_refused"),
    [("AGPL-3.0-only", True), ("GNU General Public License v3", True), ("GPL-2.0", True),
     ("GNU Lesser General Public License v3", False), ("MIT", False), ("LGPL-3.0", False)],
)  # fmt: skip
def test_which_licenses_are_refused(said: str, is_refused: bool) -> None:
    assert bool(_COPYLEFT.search(said)) is is_refused
