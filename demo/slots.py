"""The slots for edits below the picture: a slider each, and its buttons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gradio as gr

from stylegan_hub.session import Session, label_of


@dataclass(frozen=True)
class Slot:
    """A slot for one edit of the stack."""

    row: gr.Row
    slider: gr.Slider
    remove: gr.Button
    region: gr.Dropdown
    up: gr.Button
    down: gr.Button

    @classmethod
    def build(cls, regions: Sequence[str]) -> Slot:
        """Build the widgets, hidden until there is an edit."""
        symbol = {"size": "sm", "scale": 0, "min_width": 40}
        with gr.Row(visible=False, elem_classes="slot") as row:
            slider = gr.Slider(-2, 2, 1, step=0.05, label="Strength", buttons=[], interactive=True)
            remove = gr.Button("Remove", **symbol, elem_classes=["symbol", "remove"])
            region = gr.Dropdown(
                _places(regions),
                value="",
                label="Where",
                show_label=False,
                container=False,
                min_width=110,
                visible=bool(regions),
                elem_classes="where",
            )
            up = gr.Button("Up", **symbol, elem_classes=["symbol", "up"])
            down = gr.Button("Down", **symbol, elem_classes=["symbol", "down"])
        return cls(row, slider, remove, region, up, down)

    @property
    def widgets(self) -> list[gr.blocks.Block]:
        """All widgets that `updates` changes."""
        return [self.row, self.slider, self.remove, self.region, self.up, self.down]

    def updates(
        self, session: Session, index: int, regions: Sequence[str]
    ) -> dict[gr.blocks.Block, object]:
        """The new state of the widgets for the edit in this slot, or for none."""
        if index >= len(session.edits):
            return {self.row: gr.Row(visible=False)}
        applied = session.edits[index]
        label, strength = label_of(applied), applied.edit.strength
        # A strength set elsewhere may lie outside the range that the edit suggests.
        low, high, step = marks(
            min(strength.min, applied.strength), max(strength.max, applied.strength)
        )
        slider = gr.Slider(low, high, applied.strength, label=label, step=step)
        region = applied.region or ""
        # The order matters only for edits in a region, which are pasted one over the other.
        drawn_over = [i for i, other in enumerate(session.edits) if other.region is not None]
        ordered = index in drawn_over and len(drawn_over) > 1
        return {
            self.row: gr.Row(visible=True),
            self.slider: slider,
            self.region: gr.Dropdown(
                # A stack from a file may name several regions at once.
                _places([*regions, region] if region and region not in regions else regions),
                value=region,
                label=f"Where {label} shows",
                visible=bool(regions),
                interactive=True,
            ),
            self.up: gr.Button(f"Move {label} up", interactive=index > 0, visible=ordered),
            self.down: gr.Button(
                f"Move {label} down",
                interactive=index + 1 < len(session.edits),
                visible=ordered,
            ),
            self.remove: gr.Button(f"Remove {label}", interactive=True),
        }


def marks(low: float, high: float) -> tuple[float, float, float]:
    """The ends and the step of a slider for this range, so that round numbers are steps.

    A browser counts steps from the lower end, and moves a value between two steps.
    """
    finest = (high - low) / 80
    power = 10.0 ** math.floor(math.log10(finest)) if finest > 0 else 0.01
    step = next(power * by for by in (1, 2, 5, 10) if power * by >= finest)
    ends = math.floor(low / step + 1e-6), math.ceil(high / step - 1e-6)
    return round(ends[0] * step, 9), round(ends[1] * step, 9), round(step, 9)


def _places(regions: Sequence[str]) -> list[tuple[str, str]]:
    return [("Everywhere", ""), *((name, name) for name in regions)]
