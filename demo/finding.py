"""How every tab finds edits: call a method, show its progress, show what it found.

A tab's handler says what is wanted (`Wanted`) and how the page words the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Hashable, Iterator
from dataclasses import dataclass
from typing import Any

from PIL import Image

from demo.components import after, message
from demo.frames import STOPPED, Frame, check_room, pictured, watched
from stylegan_hub.edits.base import Edit, Origin
from stylegan_hub.latents import Space
from stylegan_hub.methods.choose import within
from stylegan_hub.methods.method import Request, get
from stylegan_hub.photos.comparison import compare
from stylegan_hub.photos.finders import draws_photographs
from stylegan_hub.session import Session
from stylegan_hub.steps import Step
from stylegan_hub.studio import Studio


@dataclass(frozen=True)
class Wanted:
    """What a search should find.

    Attributes:
        request: what the visitor asks for.
        method: the method's name.
        every_face: for every face, not only for the session's face with its edits.
        settings: of the method: a preset's name, settings, or None for the method's own choice.
        label: of the edit that will be found, if known: an earlier edit with this label is removed
            during the search, and replaced.
        region: where the change should be; a method that does not search in it shows it there.
    """

    request: Request
    method: str
    every_face: bool = False
    settings: Any = None
    label: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        edits: the best one first.
        region: where they are shown.
        seconds: " in 3 s", or empty if it took less than a second.
    """

    edits: list[Edit]
    region: str | None
    seconds: str


def search(
    studio: Studio,
    session: Session,
    wanted: Wanted,
    before: Callable[[Step], Image.Image] | None = None,
    owner: Hashable = None,
) -> Generator[Frame, None, Found | None]:
    """Yield the frames of a search; returns what it found, or None if it was stopped.

    Args:
        before: the picture that steps are compared with; None leaves the pictures as they are.

    Raises:
        ValueError: see `Studio.search`; too many edits on the face.
    """
    started = time.monotonic()
    others = session if wanted.label is None else session.without_found(wanted.label)
    check_room(others)
    request, region = within(get(wanted.method), wanted.request, wanted.region)
    how = {"every_face": wanted.every_face, "settings": wanted.settings, "owner": owner}
    edits = yield from watched(
        studio.search(others, request, wanted.method, **how),
        pictured(before),
        lambda: Frame(message(STOPPED), studio.draw(session)),
    )
    return None if edits is None else Found(edits, region, after(started))


def show_found(
    studio: Studio,
    session: Session,
    wanted: Wanted,
    say: Callable[[Edit, str], str],
    before: Callable[[Step], Image.Image] | None = None,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Yield the frames of a `search`, and at the end the face with the best edit on it.

    Args:
        say: makes the final message from the edit and the time that the search took.
    """
    found = yield from search(studio, session, wanted, before, owner)
    if found is None:
        return
    (best, *_), region = found.edits, found.region
    pictures = studio.draw(session.with_found(best, region))
    read = compare(*pictures).in_words() if draws_photographs(studio.pipe) else []
    yield Frame(message(" ".join([say(best, found.seconds), *read])), pictures, best, region)


def how_well(studio: Studio, edit: Edit) -> str:
    """How clearly pictures show what was asked for; empty if the page cannot tell."""
    verdict, others = studio.judged(edit)
    if verdict is None:
        return ""
    if verdict != "hardly":
        return f" What you asked for is {verdict} visible."
    near = ", ".join(f"“{word}”" for word in others)
    advice = f" Similar words that it knows: {near}." if near else ""
    return f" What you asked for is hardly visible: this model may have no such pictures.{advice}"


def label_of_found(method: str, prompt: str | None, **training: Any) -> str:
    """The label that an edit which a method finds for a prompt will get.

    Args:
        training: entries of the method's training record that the label depends on.
    """
    return get(method).caption(Origin(prompt, training={"method": method, **training}))


def space_for(session: Session, wanted: str, every_face: bool) -> Space:
    """The space to search in: a face in s can only take an edit in s.

    For a search for one face, the face's own latents decide.
    """
    in_s = session.latents is not None and session.latents.space is Space.S
    return Space.S if every_face and in_s else Space(wanted)
