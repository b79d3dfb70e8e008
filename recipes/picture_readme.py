"""Make the README's moving picture: sliders of several edits move from end to end and back.

    python recipes/picture_readme.py --output docs/pictures/slider.webp

Run it again when the bundled portraits change. A name that ends in .gif gives a GIF.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command_line import run
from PIL import Image

from stylegan_hub.edits.base import load_edit
from stylegan_hub.images import grid
from stylegan_hub.pictures.films import save_film, sweep
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to show, and where to write it."""

    output: Path = Path("docs/pictures/slider.webp")
    """File to write: .webp or .gif."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    seeds: tuple[int, ...] = (37, 49, 31, 35, 11, 18)
    """Seed of the face for each edit."""
    edits: tuple[str, ...] = (
        "afro-hair", "purple-hair", "glasses", "surprised", "old", "mohawk",
    )  # fmt: skip
    """Edits to show, each from strength 0 to its default and back."""
    frames: int = 14
    """Number of frames, at least 2."""
    resolution: int = 128
    """Longer side of each face in pixels."""


def main(config: Config) -> None:
    if len(config.seeds) != len(config.edits):
        raise ValueError(
            f"Got {len(config.seeds)} seeds for {len(config.edits)} edits; give one for each."
        )
    studio = Studio(StyleEditPipeline.from_pretrained(config.pipeline))
    films = [faces(studio, config, *pair) for pair in zip(config.seeds, config.edits, strict=True)]
    columns = len(films)
    save_film([grid(row, columns) for row in zip(*films, strict=True)], config.output)
    print(f"Wrote {config.output}, {config.output.stat().st_size / 1000:.0f} kB.")


def faces(studio: Studio, config: Config, seed: int, name: str) -> list[Image.Image]:
    """The frames of one face and one edit."""
    edit = load_edit(name)
    start = Session(seed)
    session = start.with_stack(start.stack.added(edit, name=name))
    steps = sweep(session, low=0.0, high=edit.strength.default, frames=config.frames)
    size = (config.resolution, config.resolution)
    return [studio.draw(step)[1].resize(size, Image.Resampling.LANCZOS) for step in steps]


if __name__ == "__main__":
    run(main, Config, __doc__)
