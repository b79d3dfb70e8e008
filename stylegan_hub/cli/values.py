"""Parse the texts of options, and check whether a path can be written."""

from __future__ import annotations

import json
import math
from pathlib import Path

from stylegan_hub.cli.console import UsageError

_MAX_SEEDS = 10_000
_MAX_DIGITS = 19  # the largest seed is 2**63 - 1


def interval_of(text: str) -> tuple[int, int]:
    """The first seed and the one after the last, from 'first-last'."""
    first, dash, last = text.strip().partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        raise UsageError(f"Got seeds {text!r}; expected one seed, or a range such as 0-999999.")
    return _seed(first), _seed(last if dash else first) + 1


def check_film(path: Path) -> None:
    """Check that a film can be written, before the work starts."""
    from stylegan_hub.pictures import FILMS

    if path.suffix.lower() not in FILMS:
        raise UsageError(f"Cannot write {path.name!r}: end the name in {', '.join(FILMS)}.")
    check_folder(path.parent)


def numbers_of(text: str, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"Got {option} {text!r}; expected numbers such as 0.1,0.2.") from error
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"Got {option} {text!r}; expected finite numbers.")
    return numbers


def changes_of(given: list[str] | None, steps: int | None) -> dict[str, object]:
    """Settings by name, from 'name=value'; values are parsed as JSON if possible, else text."""
    changes: dict[str, object] = {} if steps is None else {"steps": steps}
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"Got --set {text!r}; expected NAME=VALUE, such as space=s.")
        try:
            parsed = json.loads(value)
        except (ValueError, RecursionError):
            parsed = value
        changes[name.strip()] = tuple(parsed) if isinstance(parsed, list) else parsed
    return changes


def label_of(text: str | None) -> int | list[float] | None:
    """The number of a class, or the numbers of a label."""
    if text is None:
        return None
    try:
        return int(text) if "," not in text else [float(number) for number in text.split(",")]
    except ValueError as error:
        raise UsageError(
            f"Got the label {text!r}; expected the number of a class, or numbers such as 0.5,0.5."
        ) from error


def named_strength(text: str) -> tuple[str, float | None]:
    """Name and strength from `name:strength`; the strength may be left out."""
    name, colon, number = text.rpartition(":")
    if colon:
        try:
            return name, float(number)
        except ValueError:
            pass  # the colon belongs to the name, as in C:\edits\afro
    return text, None


def points_of(text: str) -> list[tuple[float, float]]:
    """Three points from 'x,y x,y x,y'."""
    try:
        points = [(float(x), float(y)) for x, y in (part.split(",") for part in text.split())]
    except ValueError:
        points = []
    if len(points) != 3:
        raise UsageError(
            f"Got the points {text!r}; expected both eyes and the mouth, such as "
            "'412,300 520,310 460,410'."
        )
    return points


def seeds_of(text: str) -> list[int]:
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise UsageError(f"Got seeds {text!r}; expected numbers and ranges, such as 1,4,8-10.")
        start, stop = _seed(first), _seed(last if dash else first) + 1
        if not start < stop <= start + _MAX_SEEDS - len(seeds):
            raise UsageError(
                f"Got seeds {text!r}; expected 1 to {_MAX_SEEDS} seeds in ascending ranges."
            )
        seeds.extend(range(start, stop))
    return seeds


def _seed(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise UsageError(f"Got a seed of {len(digits)} digits; expected at most {_MAX_DIGITS}.")
    return int(digits)


def check_picture(path: Path) -> None:
    """Check that a picture can be written, before the work starts."""
    from stylegan_hub.images import FORMATS

    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"Cannot write {path.name!r}: end the name in {', '.join(FORMATS)}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the name of a picture in it.")
    check_folder(path.parent)


def check_folder(path: Path) -> None:
    """Raise unless files can be written in this folder, or in the parent where it will be made."""
    import tempfile

    existing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise ValueError(f"Cannot write in {path}: {existing} is a file, not a folder.")
    try:
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise ValueError(f"Cannot write in {existing}: {error.strerror}.") from error
