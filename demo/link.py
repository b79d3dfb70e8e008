"""A face and its edits as a link: `?seed=7&psi=.7&edit=afro-hair:1.2&text=a face with a hat`.

Edits and texts may be given several times, each as a name alone, as `name:strength` or as
`name:strength:region`. A link contains nothing of a photograph and no key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

from demo.components import REFUSALS, explain, message
from demo.desk import Desk
from demo.finding import Wanted, search
from demo.frames import Frame, check_room
from stylegan_hub import names
from stylegan_hub.edits.stack import StackedEdit
from stylegan_hub.methods.method import Words
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

PARAMETERS = ("seed", "psi", "label", "edit", "text")
_MAX_STRENGTH = 10.0
_MAX_PARAMETERS = 50
_MAX_SEED = 2**63 - 1
# Parameters that Spaces, gradio and social networks add to links.
_OF_OTHERS = ("_", "utm_", "fbclid", "gclid", "view", "deep_link", "logs", "ref")


@dataclass(frozen=True)
class Change:
    """An edit that a link asks for.

    Attributes:
        what: the edit's name, or a text to find it for.
        is_text: whether it is a text.
        strength: None for the edit's default.
        region: the part of the picture that it shows in; None for the whole picture.
    """

    what: str
    is_text: bool
    strength: float | None = None
    region: str | None = None


@dataclass(frozen=True)
class Link:
    """What a link asks for.

    Attributes:
        face: the session without edits; None if the link names no face.
        changes: in the order of the link.
        problems: sentences about what cannot be read.
    """

    face: Session | None
    changes: tuple[Change, ...]
    problems: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether it asks for nothing and has no problems."""
        return self.face is None and not self.changes and not self.problems


def read(query: str) -> Link:
    """Parse the query of a link, "?seed=7"; never raises."""
    face: Session | None = None
    changes: list[Change] = []
    problems: list[str] = []
    try:
        pairs = parse_qsl(
            query.removeprefix("?"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS
        )
    except ValueError:
        return Link(None, (), (f"It has more than {_MAX_PARAMETERS} parts.",))
    for name, value in pairs:
        try:
            if name in _FACE:
                face = _FACE[name](face or Session(), value)
            elif name in ("edit", "text"):
                changes.append(_change(value, is_text=name == "text"))
            elif not name.startswith(_OF_OTHERS):
                close = names.near(name, PARAMETERS)
                meant = f"; did you mean “{close[0]}”?" if close else "."
                problems.append(f"“{_short(name)}” is not a parameter of a link{meant}")
        except ValueError as error:
            problems.append(str(error))
    return Link(face, tuple(changes), tuple(problems))


def write(session: Session) -> tuple[str, list[str]]:
    """The query that opens a session, and descriptions of what it cannot contain."""
    pairs: list[tuple[str, str]] = []
    missing: list[str] = []
    if session.latents is None:
        pairs += [("seed", str(session.seed)), ("psi", f"{session.truncation_psi:g}")]
        if isinstance(session.label, int):
            pairs.append(("label", str(session.label)))
    else:
        missing.append("this face, which has no seed")
    for applied in session.edits:
        if (what := _what(applied)) is None:
            missing.append(f"“{label_of(applied)}”")
            continue
        kind, name = what
        fields = [name, f"{applied.strength:g}", *([applied.region] if applied.region else [])]
        pairs.append((kind, ":".join(fields)))
    return query(pairs), missing


def query(pairs: Sequence[tuple[str, str]]) -> str:
    """Names and values in the form that `read` parses."""
    return urlencode(pairs, safe=":/@")


def open_link(
    studio: Studio, desk: Desk, link: Link, said: str = "", owner: Hashable = None
) -> Iterator[Frame]:
    """Put the face and the edits of a link on the desk, and report what could not be opened.

    Args:
        said: the beginning of the page's message.
    """
    session, problems = link.face or desk.first, [*link.problems]
    try:
        studio.draw(session)
    except REFUSALS as error:
        session = replace(session, label=None)
        problems.append(explain(error))
    for change in link.changes:
        try:
            opened = yield from _with_change(studio, session, change, owner)
        except REFUSALS as error:
            problems.append(f"“{_short(change.what)}” was left out: {explain(error)}")
            continue
        if opened is None:
            problems.append("Stopped before the whole link was open.")
            break
        session = opened
    if link.face is not None or session.edits:
        desk.change(lambda _: session)
        said = f"{said} Opened the link.".strip()
    yield Frame(message(" ".join([said, *problems])))


def _with_change(
    studio: Studio, session: Session, change: Change, owner: Hashable
) -> Generator[Frame, None, Session | None]:
    """The session with one more edit; None if its search was stopped."""
    check_room(session)
    if change.region is not None and change.region not in studio.regions:
        raise ValueError(f"This pipeline has no region “{_short(change.region)}”.")
    name: str | None = None
    if not change.is_text:
        yield Frame(message(f"Loading “{_short(change.what)}” …"))
        edit, name = studio.load(change.what), change.what
    else:
        request = Words(change.what)
        method = studio.method_for(session, request, every_face=True)
        wanted = Wanted(request, method.name, every_face=True)
        found = yield from search(studio, session, wanted, owner=owner)
        if found is None:
            return None
        edit = found.edits[0]
    strength = edit.strength.default if change.strength is None else change.strength
    return session.with_stack(session.stack.added(edit, strength, change.region, name))


def _change(value: str, is_text: bool) -> Change:
    """Parse "name", "name:strength" or "name:strength:region"; a name may contain colons."""
    what, strength, region = value, None, None
    head, colon, last = value.rpartition(":")
    if colon and (number := _number(last)) is not None:
        what, strength = head, number
    elif colon and (parts := head.rpartition(":"))[1]:
        if (number := _number(parts[2])) is not None:
            what, strength, region = parts[0], number, last or None
    what = what.strip()
    if not what:
        raise ValueError("One of the texts is empty." if is_text else "An edit has no name.")
    if strength is not None and not abs(strength) <= _MAX_STRENGTH:
        raise ValueError(
            f"“{_short(what)}” has the strength {strength:g}; strengths go from "
            f"{-_MAX_STRENGTH:g} to {_MAX_STRENGTH:g}."
        )
    return Change(what, is_text, strength, region)


def _with_seed(face: Session, value: str) -> Session:
    if not (value.isascii() and value.isdecimal() and len(value) < 20 and int(value) <= _MAX_SEED):
        raise ValueError(f"The seed “{_short(value)}” is not a whole number from 0.")
    return face.with_seed(int(value))


def _with_psi(face: Session, value: str) -> Session:
    if (psi := _number(value)) is None or not 0 <= psi <= 1:
        raise ValueError(f"psi is “{_short(value)}”; it is a number from 0 to 1.")
    return replace(face, truncation_psi=psi)


def _with_label(face: Session, value: str) -> Session:
    if not (value.isascii() and value.isdecimal() and len(value) < 10):
        raise ValueError(f"The label “{_short(value)}” is not the number of a class.")
    return replace(face, label=int(value))


_FACE: dict[str, Callable[[Session, str], Session]] = {
    "seed": _with_seed,
    "psi": _with_psi,
    "label": _with_label,
}


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if not math.isnan(number) else None


def _what(applied: StackedEdit) -> tuple[str, str] | None:
    """The parameter of a link that stands for an edit; None if there is none."""
    if applied.name is not None:
        return ("edit", applied.name) if names.hub_id(applied.name) is not None else None
    prompt = applied.edit.origin.prompt
    return ("text", prompt) if prompt else None


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
