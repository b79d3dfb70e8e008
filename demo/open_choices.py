"""Choices that are not known when the page is built: for programs they are plain texts.

gradio would name the choices of that moment, none, to programs, and refuse all others. What a
program sends is checked by the handler that takes it. Not subclasses: gradio writes a file beside
the source of each, and a checkout may be read-only.
"""

from __future__ import annotations

from typing import Any, TypeVar

import gradio as gr

_Component = TypeVar("_Component", bound=gr.components.Component)
_TEXT = {"type": "string"}


def open_choice(component: _Component) -> _Component:
    """A radio or dropdown whose choices come later; programs send a text."""
    component.api_info = lambda: _TEXT
    component.preprocess = lambda payload: payload
    return component


def texts(label: str) -> gr.JSON:
    """A list of texts, which only programs fill in."""
    component = gr.JSON([], label=label)
    component.api_info = lambda: {"type": "array", "items": _TEXT}
    component.preprocess = _checked
    return component


def _checked(payload: Any) -> list[str]:
    if not isinstance(payload, list) or not all(isinstance(one, str) for one in payload):
        raise gr.Error(
            f'Got {str(payload)[:60]}; expected a list of texts, as in ["afro-hair:1.2"].',
            print_exception=False,
        )
    return payload
