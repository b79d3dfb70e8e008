"""Draw portraits once, into a folder that all trainings read.

    python recipes/render_portraits.py --output_dir runs/portraits --resolution 128
    python recipes/render_portraits.py --output_dir runs/identities --resolution 128 \\
        --identities 2000
    python recipes/render_portraits.py --output_dir runs/blends --blends

A core draws about 80 portraits a second at 128 px and 20 at 256 px; 40,000 take 2 GB of disk at
128 px and 8 GB at 256 px. With --identities,
the same people are drawn again and again, each time with other hair, clothes, mood and pose.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command_line import run

from stylegan_hub.portraits.dataset import RenderCache


@dataclass(frozen=True)
class Config:
    """What to draw."""

    output_dir: Path
    """Folder of the pictures; an interrupted run is continued."""
    count: int = 40_000
    """Number of portraits, rounded up to thousands; their seeds are 0 to count - 1."""
    identities: int | None = None
    """How many people share the portraits; None = each is drawn once."""
    blends: bool = False
    """Every second picture is no portrait, but lies between some: for training a generator."""
    resolution: int = 256
    """Width and height in pixels, 32 to 512."""
    workers: int = 0
    """Number of processes, with one thread each; 0 = one per core."""


def main(config: Config) -> None:
    cache = RenderCache.build(
        config.output_dir,
        config.count,
        config.resolution,
        config.workers,
        config.identities,
        config.blends,
    )
    people = "" if cache.identities is None else f" of {cache.identities} people"
    print(f"{len(cache)} portraits{people} of {cache.resolution} px in {config.output_dir}")


if __name__ == "__main__":
    run(main, Config, __doc__)
