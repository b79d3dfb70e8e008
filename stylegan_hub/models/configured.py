"""Networks that are built from one dataclass, and saved and loaded by diffusers."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from diffusers.configuration_utils import register_to_config

Fields = ParamSpec("Fields")
Config = TypeVar("Config")
Model = TypeVar("Model")


def configured_by(
    config_class: Callable[Fields, Config],
) -> Callable[[Callable[[Model, Config], None]], Callable[Concatenate[Model, Fields], None]]:
    """Let `__init__(self, config)` of a diffusers model be called with the fields of its config.

    The dataclass defines all options in one place, with defaults and checks. `Model(w_dim=8)`
    builds the dataclass and passes it on, while diffusers sees its fields in `model.config.w_dim`,
    `config.json` and `from_pretrained`.

    Args:
        config_class: a frozen dataclass of values that JSON can hold.
    """

    def decorate(
        build: Callable[[Model, Config], None],
    ) -> Callable[Concatenate[Model, Fields], None]:
        @functools.wraps(build)
        def __init__(self: Model, *args: Fields.args, **fields: Fields.kwargs) -> None:
            build(self, config_class(*args, **fields))

        # diffusers reads the names of the fields here.
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(config_class).parameters.values()
        __init__.__signature__ = inspect.Signature([own, *parameters])  # type: ignore[attr-defined]
        registered: Any = register_to_config(__init__)
        return registered

    return decorate
