"""Render portraits once, into a folder that all trainings read.

    python recipes/render_portraits.py --output_dir runs/portraits --resolution 128
    python recipes/render_portraits.py --output_dir runs/identities --resolution 128 \\
        --identities 2000
    python recipes/render_portraits.py --output_dir runs/blends --blends

One core renders about 80 portraits per second at 128 px and 20 at 256 px. 40,000 portraits need
2 GB of disk at 128 px and 8 GB at 256 px. With --identities, several portraits share an identity
(the face geometry) and differ in everything else: hair, clothes, expression, pose and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command_line import run

from stylegan_hub.portraits.dataset import RenderCache


@dataclass(frozen=True)
class Config:
    """Number and kind of the portraits."""

    output_dir: Path
    """Folder of the pictures; an interrupted run is continued."""
    count: int = 40_000
    """Number of portraits, rounded up to thousands; their seeds are 0 to count - 1."""
    identities: int | None = None
    """Number of identities that the portraits share. None: each portrait has its own."""
    blends: bool = False
    """Make every second picture a blend, which lies between portraits, for training a generator."""
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
    identities = "" if cache.identities is None else f" of {cache.identities} identities"
    print(f"{config.output_dir} holds {len(cache)} portraits{identities}, {cache.resolution} px.")


if __name__ == "__main__":
    run(main, Config, __doc__)
