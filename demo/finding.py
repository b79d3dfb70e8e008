"""The one way in which every tab finds edits: ask a method, show it at work, show what it found.

Handlers of tabs say what is wanted (`Wanted`) and in which words the page tells what came of it.
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
    """What is looked for.

    Attributes:
        request: what is asked for.
        method: by name.
        every_face: for every face, not for the session's face as edited.
        settings: of the method: a preset by name, settings, or None for those that suit.
        label: of the edit that will be found, where it is known: an earlier one of this label is
            taken off for the search, and its place is taken.
        region: where the change should be; what the method does not search in it is shown in it.
    """

    request: Request
    method: str
    every_face: bool = False
    settings: Any = None
    label: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        edits: the best first.
        region: in which they are shown.
        seconds: "in 3 s", or nothing where it was there at once.
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
    """What the page shows of a search; returns what was found, None if it was stopped.

    Args:
        before: the picture to compare that of a step with; without it, pictures stay as they are.

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
    """The frames of a `search`, and at its end the face with the best edit on it.

    Args:
        say: of the edit and the time it took, what to tell.
    """
    found = yield from search(studio, session, wanted, before, owner)
    if found is None:
        return
    (best, *_), region = found.edits, found.region
    pictures = studio.draw(session.with_found(best, region))
    read = compare(*pictures).in_words() if draws_photographs(studio.pipe) else []
    yield Frame(message(" ".join([say(best, found.seconds), *read])), pictures, best, region)


def how_well(studio: Studio, edit: Edit) -> str:
    """In words, whether pictures show what was asked for; nothing where the page cannot tell."""
    verdict, others = studio.judged(edit)
    if verdict is None:
        return ""
    if verdict != "hardly":
        return f" The change is {verdict} to be seen."
    advice = f" It knows {', '.join(f'“{word}”' for word in others)}." if others else ""
    return f" This model has hardly ever seen that.{advice}"


def label_of_found(method: str, prompt: str | None, **training: Any) -> str:
    """What the edit that a method finds for a prompt will be called.

    Args:
        training: what its caption speaks of, as the method notes it.
    """
    return get(method).caption(Origin(prompt, training={"method": method, **training}))


def space_for(session: Session, wanted: str, every_face: bool) -> Space:
    """The space to search in; where the face is one in s, only an edit in s can be put on it.

    The face decides by itself in a search for it.
    """
    in_s = session.latents is not None and session.latents.space is Space.S
    return Space.S if every_face and in_s else Space(wanted)
