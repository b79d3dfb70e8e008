"""What a visitor types stays in the browser, so that a reload does not lose it."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr

STORED = "stylegan-hub/"
"""The prefix of all names under which the page stores something in a browser."""
_SCRIPT = Path(__file__).with_name("drafts.js")


def script() -> str:
    """The script that a page with drafts needs in its head."""
    return f"const STORED = {json.dumps(STORED)};\n{_SCRIPT.read_text(encoding='utf-8')}"


class Drafts:
    """The text boxes of a page whose texts the browser keeps."""

    def __init__(self) -> None:
        self._boxes: dict[str, gr.Textbox] = {}

    def keep(self, name: str, box: gr.Textbox) -> None:
        """Keep the text of this box in the browser under this name, unless it is already kept."""
        if box not in self._boxes.values():
            self._boxes[name] = box
            box.elem_classes = [*box.elem_classes, _class(name)]

    def wire(self, page: gr.Blocks) -> None:
        """Connect the boxes to the script; call it after all boxes exist."""
        boxes = [*self._boxes.values()]
        for name, box in self._boxes.items():  # for texts that the page itself fills in
            keep = f"text => window.keepDraft({json.dumps(_class(name))}, text)"
            box.change(None, box, None, js=keep, api_visibility="private")
        names = json.dumps([_class(name) for name in self._boxes])
        texts = f"(...texts) => window.keptDrafts({names}, texts)"
        page.load(None, boxes, boxes, js=texts, api_visibility="private")


def _class(name: str) -> str:
    return f"draft/{name}"
