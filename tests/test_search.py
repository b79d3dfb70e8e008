"""Searches that wait for each other: the queue, the place in it, and stopping there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from stylegan_hub.errors import BusyError
from stylegan_hub.search import Line, Search, Turns, Waiting
from stylegan_hub.steps import Cancelled


class Work:
    """A search that runs until it is released."""

    def __init__(self, line: Line) -> None:
        self.go_on, self.began = threading.Event(), threading.Event()

        def work(report: Callable[[str], None]) -> str:
            self.began.set()
            self.go_on.wait(60)
            report("step")
            return "found"

        self.search: Search[str, str] = Search(Turns(), work, line)
        self._reports = iter(self.search)

    def next_report(self) -> str | Waiting:
        """What it reports next; waits for the report."""
        return next(self._reports)


@pytest.fixture
def works() -> Iterator[list[Work]]:
    """Two searches that run, and three in the queue behind them."""
    line = Line(places=2, longest=3)
    made = []
    for place in range(5):
        made.append(Work(line))
        if place < 2:
            assert made[place].began.wait(60)
        else:
            assert made[place].next_report() == Waiting(place - 2)
    yield made
    for work in made:
        work.search.stop()
        work.go_on.set()


def test_those_who_wait_know_their_place(works: list[Work]) -> None:
    first, second, third, fourth, fifth = works
    assert not third.began.is_set()
    first.go_on.set()
    assert first.search.result() == "found" and third.began.wait(60)
    assert (fourth.next_report(), fifth.next_report()) == (Waiting(0), Waiting(1))
    for work in (second, third, fourth, fifth):
        work.go_on.set()
    assert fifth.search.result() == "found"


def test_one_that_waits_can_be_stopped(works: list[Work]) -> None:
    _, _, third, fourth, fifth = works
    fourth.search.stop()
    with pytest.raises(Cancelled):
        fourth.search.result()  # at once: those before it are still running
    assert not fourth.began.is_set()
    assert fifth.next_report() == Waiting(1)
    third.search.stop()
    assert fifth.next_report() == Waiting(0)


def test_a_full_line_refuses(works: list[Work]) -> None:
    line = works[0].search._line
    assert line is not None
    with pytest.raises(BusyError) as caught:
        Search(Turns(), lambda report: "found", line)
    assert (caught.value.got, caught.value.expected) == (4, 3) and caught.value.remedy
    works[4].search.stop()
    with pytest.raises(Cancelled):
        works[4].search.result()
    late: Search[str, str] = Search(Turns(), lambda report: "found", line)  # there is room again
    late.stop()


def test_a_line_without_waiting_takes_what_has_a_place() -> None:
    line = Line(places=1, longest=0)
    for _ in range(3):
        assert Search(Turns(), lambda report: "found", line).result() == "found"
        line.look()


def test_what_fails_gives_its_place_back() -> None:
    line = Line(places=1)

    def fail(report: Callable[[str], None]) -> str:
        raise ValueError("Got nothing.")

    for _ in range(2):
        with pytest.raises(ValueError, match="Got nothing"):
            Search(Turns(), fail, line).result()
