"""Freed memory is kept: fewer pages are fetched from the system."""

import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from stylegan_hub.memory import keep_freed_memory

def faults():
    for _ in range(20):
        torch.ones(12_000_000)  # 48 MB, which nobody keeps
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

before = faults()
returned = faults() - before
assert keep_freed_memory()
before = faults()
print(returned, faults() - before)
"""


def test_pages_are_fetched_once() -> None:
    from stylegan_hub.memory import keep_freed_memory

    if sys.platform != "linux":
        assert not keep_freed_memory()
        pytest.skip("only glibc on Linux gives memory back so eagerly")
    command = [sys.executable, "-c", SCRIPT]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    returned, kept = map(int, told.split())
    assert kept < returned / 10
