"""How every recipe reads its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tyro

_Config = TypeVar("_Config")


def run(main: Callable[[_Config], Any], config: type[_Config], description: str | None) -> None:
    """Call a recipe with the options of the command line, as its config says and explains them."""
    main(
        tyro.cli(
            config,
            description=description,
            config=(tyro.conf.OmitArgPrefixes,),
            use_underscores=True,
        )
    )
