"""Fixtures shared by the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of numbers made by the reference implementations; it is no part of the project."""
    if not GOLDEN.is_dir():
        pytest.skip("The reference numbers (../shared/golden) are not on this machine.")
    return GOLDEN
