"""What the page shows of a search while it runs, and of what it found. It knows no widget."""

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
"""Edits that the page has sliders for."""
STOPPED = "Stopped; nothing was changed."
_SECONDS_BETWEEN_PICTURES = 0.4

Pair = tuple[Image.Image, Image.Image]


@dataclass(frozen=True)
class Frame:
    """What the page shows at one moment of a search.

    Attributes:
        status: HTML.
        pictures: before and after; None leaves those that are there.
        found: the new edit, in the last frame.
        region: the part of the picture that it is shown in; None for all of it.
    """

    status: str
    pictures: Pair | None = None
    found: Edit | None = None
    region: str | None = None


def check_room(session: Session) -> None:
    """Raise `ValueError` unless the page has a slider for one more edit."""
    if len(session.edits) >= SLOTS:
        raise ValueError(
            f"Got one more than {SLOTS} edits, for which there are no sliders. Remove one, or "
            "keep what is there now and go on from that."
        )


def watched(
    search: Search[Progress, Found],
    show: Callable[[Progress], Frame | None],
    stopped: Callable[[], Frame],
) -> Generator[Frame, None, Found | None]:
    """What the page shows of a search while it waits and runs; returns what was found.

        found = yield from watched(search, show, stopped)

    Args:
        search: is over when this is, however it ends.
        show: what of its progress is shown; None for nothing new.
        stopped: the last that is shown of a search that was stopped, which then found None.
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
        return "Waiting for a turn: your search is the next."
    return f"Waiting for a turn: {ahead} search{'es' * (ahead > 1)} before yours."


def pictured(before: Callable[[Step], Image.Image] | None) -> Callable[[Step], Frame | None]:
    """For `watched`: shows the first step of a search, and others now and then.

    Args:
        before: the picture to compare that of a step with; without it, pictures are not shown.
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
    """Both pictures in the size in which the page shows them."""
    return for_screen(pair[0]), for_screen(pair[1])
