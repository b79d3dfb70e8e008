"""Store the networks that judge edits as cards, in half precision.

    python recipes/bundle_judges.py --reader runs/reader/reader \\
        --recognizer runs/judge/recognizer --output_dir cards

They become `attribute-reader` and `identity-judge`, each with its metrics, pictures and
card. Neither takes part in any training, search or choice of settings.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from command_line import run

from stylegan_hub.artifacts import CARD_NAME, METRICS_NAME, check_room
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.portraits.reader import AttributeReader

CARDS = {
    "reader": ("attribute-reader", AttributeReader),
    "recognizer": ("identity-judge", Recognizer),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which networks to store, and where."""

    reader: Path | None = None
    """Folder of the attribute reader (recipes/train_reader.py)."""
    recognizer: Path | None = None
    """Folder of a recognizer (recipes/train_recognizer.py) that no training uses."""
    output_dir: Path
    """Folder of the cards."""
    overwrite: bool = False
    """Also write into folders that hold something else."""


def main(config: Config) -> None:
    for option, (name, cls) in CARDS.items():
        source: Path | None = getattr(config, option)
        if source is None:
            continue
        folder = config.output_dir / name
        if not config.overwrite:
            check_room(folder)
        network = cls.from_pretrained(source)
        network.half().save_pretrained(folder, overwrite=True)
        for part in (CARD_NAME, METRICS_NAME):
            shutil.copyfile(source / part, folder / part)
        shutil.rmtree(folder / "images", ignore_errors=True)
        if (source / "images").is_dir():
            shutil.copytree(source / "images", folder / "images")
        print(f"The {name} is in {folder}.")


if __name__ == "__main__":
    run(main, Config, __doc__)
