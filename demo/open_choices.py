"""Choices that are not known when the page is built; programs send them as plain texts.

gradio would tell programs the choices at build time, which are none, and refuse all others. The
handler checks what a program sends. These are not subclasses because gradio writes a file beside
the source of each subclass, and a checkout may be read-only.
"""

from __future__ import annotations

from typing import Any, TypeVar

import gradio as gr

_Component = TypeVar("_Component", bound=gr.components.Component)
_TEXT = {"type": "string"}


def open_choice(component: _Component) -> _Component:
    """A radio or dropdown that gets its choices later; programs send a text."""
    component.api_info = lambda: _TEXT
    component.preprocess = _text
    return component


def texts(label: str) -> gr.JSON:
    """A list of texts that only programs fill in."""
    component = gr.JSON([], label=label)
    component.api_info = lambda: {"type": "array", "items": _TEXT}
    component.preprocess = _checked
    return component


def _text(payload: Any) -> str | None:
    if payload is not None and not isinstance(payload, str):
        raise gr.Error(f"Got {str(payload)[:60]}; expected a text.", print_exception=False)
    return payload


def _checked(payload: Any) -> list[str]:
    if not isinstance(payload, list) or not all(isinstance(one, str) for one in payload):
        raise gr.Error(
            f'Got {str(payload)[:60]}; expected a list of texts, as in ["afro-hair:1.2"].',
            print_exception=False,
        )
    return payload
