"""What a visitor types stays in the browser, so that a reload does not lose it."""

from __future__ import annotations

import gradio as gr

STORED = "stylegan-hub/"
"""How the names begin under which the page keeps something in a browser."""
# The same at every start, or a restart of the server would lose what the browser keeps. It hides
# nothing: whoever can read a browser's storage can read the page.
SECRET = "stylegan-hub-key"


class Drafts:
    """The text boxes of a page whose texts are kept."""

    def __init__(self) -> None:
        self._boxes: dict[str, gr.Textbox] = {}

    def keep(self, name: str, box: gr.Textbox) -> None:
        """Keep the text of this box in the browser, under this name unless it has one."""
        if box not in self._boxes.values():
            self._boxes[name] = box

    def wire(self, page: gr.Blocks) -> None:
        """After all boxes are there."""
        kept = []
        for name, box in self._boxes.items():
            draft = gr.BrowserState(box.value, storage_key=f"{STORED}draft/{name}", secret=SECRET)
            box.change(None, box, draft, js="text => text", api_visibility="private")
            kept.append(draft)
        texts = "(...texts) => texts"
        page.load(None, kept, [*self._boxes.values()], js=texts, api_visibility="private")
