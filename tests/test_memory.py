"""Freed memory is kept: fewer pages are fetched from the system."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from stylegan_hub.memory import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()

def work():
    for _ in range(20):
        torch.ones(12_000_000)  # 48 MB, which nobody keeps

work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_pages_are_fetched_once() -> None:
    from stylegan_hub.memory import keep_freed_memory

    if sys.platform != "linux":
        assert not keep_freed_memory()
        pytest.skip("only glibc on Linux gives memory back so eagerly")

    def faults(mode: str) -> int:
        command = [sys.executable, "-c", SCRIPT, mode]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    kept, returned = faults("kept"), faults("returned")
    assert kept < returned / 10
