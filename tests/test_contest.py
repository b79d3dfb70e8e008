"""Candidates that are timed in their own processes, taking turns."""

from __future__ import annotations

import pytest

from stylegan_hub import contest
from stylegan_hub.contest import Candidate, beside, seconds_of


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


def test_neighbors_end_with_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = contest.subprocess.Popen
    monkeypatch.setattr(
        contest.subprocess, "Popen", lambda *given: started.append(popen(*given)) or started[-1]
    )
    with pytest.raises(KeyError), beside(2):
        assert [one.poll() for one in started] == [None, None]
        raise KeyError
    assert all(one.poll() is not None for one in started)


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
