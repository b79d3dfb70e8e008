"""Programs that tests start."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run_program(command: Sequence[str | Path], timeout: float = 600, **environment: str) -> str:
    """What a program printed; if it fails, the test fails with all of its output.

    It imports this checkout, and accelerate uses the CPU.

    Args:
        timeout: seconds.
    """
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout
