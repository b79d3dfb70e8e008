"""Candidates that are timed in their own processes, taking turns."""

from __future__ import annotations

from stylegan_hub.contest import Candidate, seconds_of


def test_each_runs_in_a_process_of_its_own() -> None:
    found = seconds_of(
        {
            "sleeps": Candidate("test_contest:sleeping", {"seconds": 0.01}),
            "prints": Candidate("test_contest:printing", {}, {"GREETING": "hello"}),
            "fails": Candidate("test_contest:failing", {}),
            "missing": Candidate("no_such_module:made", {}),
            "dies": Candidate("os:abort", {}),
        },
        seconds=0.03,
        rounds=2,
    )
    times = found["sleeps"]
    assert isinstance(times, list) and len(times) >= 2 and min(times) >= 0.01
    assert isinstance(found["prints"], list)
    assert found["fails"] == "ValueError: cannot be made"
    assert str(found["missing"]).startswith("ModuleNotFoundError")
    assert found["dies"] == "its process has died"


def sleeping(seconds: float):  # type: ignore[no-untyped-def]
    import time

    return lambda: time.sleep(seconds)


def printing():  # type: ignore[no-untyped-def]
    import os
    import time

    assert os.environ["GREETING"] == "hello"

    def run() -> None:
        print("What libraries print comes not between the answers.")
        time.sleep(0.01)

    return run


def failing():  # type: ignore[no-untyped-def]
    raise ValueError("cannot be made")
