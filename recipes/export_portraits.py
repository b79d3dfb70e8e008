"""Write drawn portraits to files: pictures, captions, masks and labels.

    python recipes/export_portraits.py --output_dir data/portraits --count 1000 --resolution 256

The layout is that of Multi-Modal CelebA-HQ: images/0.png, text/0.txt (ten captions), masks/0.png
(indices into parts.json), attributes.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command_line import run

from stylegan_hub.portraits.dataset import export


@dataclass(frozen=True)
class Config:
    """What to write."""

    output_dir: Path
    """Folder of the files."""
    count: int = 1000
    """Number of portraits."""
    start_seed: int = 0
    """Seed of the first portrait; no training sees seeds from 10,000,000 on."""
    resolution: int = 256
    """Width and height in pixels, 32 to 512."""


def main(config: Config) -> None:
    seeds = range(config.start_seed, config.start_seed + config.count)
    export(config.output_dir, seeds, config.resolution)
    print(f"{config.count} portraits in {config.output_dir}")


if __name__ == "__main__":
    run(main, Config, __doc__)
