"""Draw the target pictures of the bundled essences.

    python recipes/draw_targets.py --output_dir docs/targets

Four are portraits of named characters, drawn by the renderer, which the generator can render. Two
are drawings of another kind, a cat and a robot, which it cannot render.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from command_line import run
from PIL import Image, ImageDraw

from stylegan_hub import images as image_files
from stylegan_hub.portraits.attributes import characters
from stylegan_hub.portraits.renderer import render

IN_DOMAIN = {"zuri": "Zuri", "milo": "Milo", "ivy": "Ivy", "captain-otto": "Captain Otto"}
_FIRST_SEED = 5  # of pose, mood and background
_ENLARGED = 4  # drawn larger by this factor and then reduced, for smooth edges


@dataclass(frozen=True, kw_only=True)
class Config:
    """Where to write the pictures, and their size."""

    output_dir: Path = Path("docs/targets")
    """Folder of the pictures."""
    resolution: int = 256
    """Width and height in pixels."""


def main(config: Config) -> None:
    for seed, (name, character) in enumerate(IN_DOMAIN.items(), _FIRST_SEED):
        picture = render(characters(character, [seed]), config.resolution)
        image_files.save(picture, config.output_dir / f"{name}.png")
    for name, draw in DRAWINGS.items():
        picture = drawing(draw, config.resolution)
        image_files.save(picture, config.output_dir / f"{name}.png")
    print(f"{len(IN_DOMAIN) + len(DRAWINGS)} pictures are in {config.output_dir}.")


def drawing(draw: Callable[[_Pen], None], resolution: int) -> Image.Image:
    """A drawing on a square of 100 by 100."""
    side = resolution * _ENLARGED
    canvas = Image.new("RGB", (side, side))
    draw(_Pen(ImageDraw.Draw(canvas), side / 100))
    return canvas.resize((resolution, resolution), Image.Resampling.LANCZOS)


class _Pen:
    """A canvas whose unit is a hundredth of the picture's width."""

    def __init__(self, draw: ImageDraw.ImageDraw, scale: float) -> None:
        self._draw, self._scale = draw, scale

    def oval(self, x: float, y: float, rx: float, ry: float, color: str) -> None:
        self._draw.ellipse(self._scaled(x - rx, y - ry, x + rx, y + ry), fill=color)

    def box(self, x0: float, y0: float, x1: float, y1: float, color: str, round: float = 0) -> None:
        box = self._scaled(x0, y0, x1, y1)
        self._draw.rounded_rectangle(box, radius=round * self._scale, fill=color)

    def shape(self, *points: float, color: str) -> None:
        self._draw.polygon(self._scaled(*points), fill=color)

    def line(self, *points: float, color: str, width: float = 1.5) -> None:
        pixels = max(1, int(width * self._scale))
        self._draw.line(self._scaled(*points), fill=color, width=pixels, joint="curve")

    def _scaled(self, *numbers: float) -> list[float]:
        return [number * self._scale for number in numbers]


def cat(pen: _Pen) -> None:
    """An orange cat before a blue wall."""
    fur, dark = "#e8923a", "#8a4a12"
    pen.box(0, 0, 100, 100, "#8fb8de")
    pen.oval(50, 108, 34, 26, fur)
    for side in (-1, 1):
        pen.shape(50 + side * 34, 52, 50 + side * 31, 10, 50 + side * 8, 32, color=fur)
        pen.shape(50 + side * 30, 40, 50 + side * 28, 19, 50 + side * 14, 32, color="#f7c4b4")
    pen.oval(50, 56, 35, 30, fur)
    for x, y in ((41, 28), (50, 26), (59, 28)):
        pen.line(x, y, x, y + 12, color=dark, width=2.5)
    for side in (-1, 1):
        pen.oval(50 + side * 15, 52, 8, 7, "#f3f7a1")
        pen.oval(50 + side * 15, 52, 2.4, 6.5, "#161616")
        for rise in (-4, 0, 4):
            pen.line(50 + side * 14, 68 + rise / 2, 50 + side * 42, 66 + 1.5 * rise, color="white")
    pen.oval(50, 68, 13, 10, "#fbe9d4")
    pen.shape(46, 63, 54, 63, 50, 68, color="#d65a6a")
    pen.line(50, 68, 50, 72, 44, 75, color=dark)
    pen.line(50, 72, 56, 75, color=dark)


def robot(pen: _Pen) -> None:
    """A grey robot with green eyes before an orange wall."""
    steel, dark = "#9aa7b3", "#46525e"
    pen.box(0, 0, 100, 100, "#f0b04e")
    pen.line(50, 22, 50, 9, color=dark, width=2.5)
    pen.oval(50, 8, 4, 4, "#d8322a")
    pen.box(22, 86, 78, 110, dark, round=4)
    pen.box(42, 78, 58, 90, "#6b7885")
    for side in (-1, 1):
        pen.box(50 + side * 34 - 5, 42, 50 + side * 34 + 5, 62, dark, round=2)
    pen.box(20, 20, 80, 80, steel, round=7)
    pen.box(25, 25, 75, 75, "#b9c4ce", round=5)
    for side in (-1, 1):
        pen.box(50 + side * 13 - 9, 36, 50 + side * 13 + 9, 50, "#1d262e", round=2)
        pen.oval(50 + side * 13, 43, 4.5, 4.5, "#38f06a")
    pen.box(33, 60, 67, 70, "#1d262e", round=1)
    for x in range(37, 66, 6):
        pen.line(x, 60, x, 70, color="#b9c4ce")


DRAWINGS: dict[str, Callable[[_Pen], None]] = {"cat": cat, "robot": robot}


if __name__ == "__main__":
    run(main, Config, __doc__)
