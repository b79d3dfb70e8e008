"""A question before something that cannot be undone, in the page and not over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from demo.components import message
from demo.stage import PRIVATE

Ask = Callable[..., tuple[str, object]]
"""Makes the question, and what a yes is about, from the values of inputs; an empty question does
not ask."""


class Question:
    """A hidden question with two answers. Until one is chosen, all else works.

    Attributes:
        asked: what the yes will be about: what was chosen when the question was asked.
        yes: the button that does it.
    """

    def __init__(self, yes: str, no: str, elem_id: str) -> None:
        """Build the widgets.

        Args:
            yes, no: what the buttons say.
        """
        self.asked = gr.State(None)
        with gr.Column(visible=False, elem_id=elem_id) as self._asking:
            self._text = gr.HTML(label="Question", min_height=0)
            with gr.Row():
                self.yes = gr.Button(yes, size="md", variant="stop", min_width=80)
                self._no = gr.Button(no, size="md", min_width=80)

    def ask_on(self, button: gr.Button, ask: Ask, inputs: list[Any]) -> None:
        """Ask when this button is pressed."""

        def show(*values: Any) -> dict[Any, Any]:
            text, about = ask(*values)
            return {
                self._asking: gr.Column(visible=bool(text)),
                self._text: message(text),
                self.asked: about,
            }

        shown = [self._asking, self._text, self.asked]
        button.click(show, inputs, shown, queue=False, show_progress="hidden", **PRIVATE)

    def hide_on(self, *events: Any) -> None:
        """Hide the question after an answer, and on these events, which change what it is about."""
        gr.on(
            [self.yes.click, self._no.click, *events],
            lambda: gr.Column(visible=False),
            None,
            self._asking,
            queue=False,
            show_progress="hidden",
            **PRIVATE,
        )
