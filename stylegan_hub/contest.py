"""Find the fastest of several candidates, each in its own process, taking turns.

Libraries that compute in the same process wait for each other's threads, which distorts the second
timing. So each candidate gets its own process and runs only when it is told to. Because they take
turns, a slow minute of the machine affects all of them alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Self

_DEAD = "its process has died"
_BUSY = "import torch; torch.set_num_threads(1); a = torch.randn(512, 512)\nwhile True: a @ a"


@dataclass(frozen=True)
class Candidate:
    """A candidate to time.

    Attributes:
        make: "module:function"; it returns the function to time, which takes no arguments.
        arguments: arguments of `make`; they must be JSON values.
        environment: additional environment variables for its process.
    """

    make: str
    arguments: Mapping[str, Any]
    environment: Mapping[str, str] = field(default_factory=dict)


class _Contestant:
    """The process of a candidate."""

    def __init__(self, candidate: Candidate) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stylegan_hub.contest"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
                **candidate.environment,
            },
        )
        self.told(make=candidate.make, arguments=dict(candidate.arguments))

    def told(self, **message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """The answer of the process; raises `RuntimeError` if it failed or died."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        said = json.loads(line) if line else {"problem": _DEAD}
        if "problem" in said:
            raise RuntimeError(said["problem"])
        return said["answer"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def seconds_of(
    candidates: Mapping[str, Candidate], seconds: float, rounds: int = 3
) -> dict[str, list[float] | str]:
    """The times of single runs of each candidate, or the reason why it cannot run.

    Args:
        seconds: total time for which each is run, in addition to one run to warm up.
        rounds: number of turns of each.
    """
    found: dict[str, list[float] | str] = {}
    with ExitStack() as stack:
        running = {n: stack.enter_context(_Contestant(c)) for n, c in candidates.items()}
        for name, one in running.items():  # made one after the other, to avoid disturbance
            found[name] = _tried(one)
        for _ in range(rounds):
            for name, one in running.items():
                times = found[name]
                if isinstance(times, list):
                    one.told(seconds=seconds / rounds)
                    times += one.answer()
    return found


@contextmanager
def beside(count: int) -> Iterator[None]:
    """While this many other processes compute, each with one thread."""
    neighbors: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            neighbors.append(subprocess.Popen([sys.executable, "-c", _BUSY]))
        yield
    finally:
        for neighbor in neighbors:
            neighbor.kill()
            neighbor.wait()


def _tried(one: _Contestant) -> list[float] | str:
    try:
        one.answer()  # waits until it is made
        one.told(seconds=0.0)
        one.answer()  # warms up
    except RuntimeError as error:
        return str(error)
    except OSError:  # the other end of the pipe is closed
        return _DEAD
    return []


def _contest(lines: Iterator[str]) -> None:
    """The code of a candidate's process: make the function, and run it whenever told to."""
    # Output that libraries print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    asked = json.loads(next(lines))
    try:
        module, _, function = asked["make"].partition(":")
        run = getattr(import_module(module), function)(**asked["arguments"])
        say(answer="made")
        for line in lines:
            say(answer=_times(run, json.loads(line)["seconds"]))
    except Exception as error:  # after any error it is not a candidate on this machine
        say(problem=f"{type(error).__name__}: {error}")


def _times(run: Any, seconds: float) -> list[float]:
    times: list[float] = []
    began = time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return times


if __name__ == "__main__":
    _contest(iter(sys.stdin.readline, ""))
