"""How every recipe parses its options and reports errors."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import tyro

import stylegan_hub

_Config = TypeVar("_Config")

_OURS = (Path(__file__).parent, Path(stylegan_hub.__file__).parent)


def run(
    main: Callable[[_Config], Any],
    config: Any,
    description: str | None,
    *,
    markers: Sequence[Any] = (tyro.conf.OmitArgPrefixes,),
) -> None:
    """Call a recipe with the options of the command line, which its config declares and explains.

    Args:
        config: the dataclass of the options, or a union of one for each subcommand.
        markers: tyro's markers for the names of options; without any, options of a nested dataclass
            start with its name.
    """
    with plain_errors():
        main(
            tyro.cli(
                config,
                description=description,
                config=markers,
                use_underscores=True,
            )
        )


@contextmanager
def plain_errors() -> Iterator[None]:
    """Report errors that our own code raises about its input as one sentence, with exit status 1.

    Those of other libraries keep their traceback, since their sentence alone rarely says enough.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if not any(raised_in.is_relative_to(folder) for folder in _OURS):
            raise
        raise SystemExit(f"Error: {error}") from error
