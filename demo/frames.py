"""What the page shows of a search while it runs, and of its result. It knows no widget."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

from PIL import Image

from demo.components import for_screen, message, progress
from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit
from stylegan_hub.search import Found, Progress, Search, Waiting
from stylegan_hub.session import Session
from stylegan_hub.steps import Cancelled, Step

SLOTS = 8
"""How many edits the page has sliders for."""
STOPPED = "Stopped; nothing was changed."
_SECONDS_BETWEEN_PICTURES = 0.4

Pair = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class Frame:
    """What the page shows at one moment of a search.

    Attributes:
        status: HTML.
        pictures: before and after; None keeps the current ones.
        found: the new edit, in the last frame.
        region: the part of the picture that it shows in; None for the whole picture.
    """

    status: str
    pictures: Pair | None = None
    found: Edit | None = None
    region: str | None = None


def check_room(session: Session) -> None:
    """Raise `ValueError` unless the page has a slider for one more edit."""
    if len(session.edits) >= SLOTS:
        raise ValueError(
            f"Got one more than {SLOTS} edits, and this page has no more sliders. Remove an edit, "
            "or press “Go on from here”, which makes the edited face the new start."
        )


def watched(
    search: Search[Progress, Found],
    show: Callable[[Progress], Frame | None],
    stopped: Callable[[], Frame],
) -> Generator[Frame, None, Found | None]:
    """Yield what the page shows of a search while it waits and runs; returns the search's result.

        found = yield from watched(search, show, stopped)

    Args:
        search: ends when this generator ends, for whatever reason.
        show: the frame for a step of its progress; None if there is nothing new to show.
        stopped: the last frame of a search that was stopped, whose result is then None.
    """
    with search:
        for reported in search:
            if isinstance(reported, Waiting):
                yield Frame(message(_in_line(reported.ahead)))
            elif (shown := show(reported)) is not None:
                yield shown
        try:
            return search.result()
        except Cancelled:
            yield stopped()
            return None


def _in_line(ahead: int) -> str:
    if ahead == 0:
        return "Waiting for a turn: your search is next."
    return f"Waiting for a turn: {ahead} search{'es' * (ahead > 1)} before yours."


def pictured(before: Callable[[Step], Image.Image] | None) -> Callable[[Step], Frame | None]:
    """For `watched`: shows the first step of a search, and later ones now and then.

    Args:
        before: the picture that steps are compared with; None shows no pictures.
    """
    first = last = 0.0

    def show(step: Step) -> Frame | None:
        nonlocal first, last
        now = time.monotonic()
        first = first or now
        if step.index > 1 and now - last <= _SECONDS_BETWEEN_PICTURES:
            return None
        last = now
        status = progress(step.index, step.total, now - first)
        if before is None or step.images is None:
            return Frame(status)
        (now,) = image_files.to_pil(step.images[:1])
        return Frame(status, (before(step), now))

    return show


def on_screen(pair: Pair) -> Pair:
    """Both pictures at the size in which the page shows them."""
    return for_screen(pair[0]), for_screen(pair[1])
