"""Convert the face models of the MIT package face-api; nothing of the package is executed.

    npm pack @vladmandic/face-api@1.7.15
    python recipes/convert_face_models.py --package vladmandic-face-api-1.7.15.tgz \\
        --output_dir cards/face-finder
    python recipes/convert_face_models.py --package vladmandic-face-api-1.7.15.tgz \\
        --judge ~/.cache/stylegan_hub/face-judge

The first folder is bundled: finder, 68 points, expression and age. The second is the judge of
identity, 6.4 MB, which is used if it is installed (`stylegan_hub/models/faces.py`). The weights
keep the 256 levels in which they were published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from command_line import run

from stylegan_hub.checkpoints.face_api import MODELS, read_model
from stylegan_hub.models.faces import save_quantized

_SOURCE = {
    "package": "@vladmandic/face-api",
    "version": "1.7.15",
    "license": "MIT",
    "copyright": "Copyright (c) Vladimir Mandic; Copyright (c) 2018 Vincent Mühler",
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to convert, and where to write it."""

    package: Path
    """The .tgz file that `npm pack` makes, or a folder with its contents."""
    output_dir: Path | None = None
    """Folder for finder, points, expression and age."""
    judge: Path | None = None
    """Folder for the judge of identity."""
    overwrite: bool = False
    """Also write into a folder that holds something else."""


def main(config: Config) -> None:
    """Convert the requested networks."""
    wanted = {
        config.output_dir: [name for name in MODELS if name != "judge"],
        config.judge: ["judge"],
    }
    wanted.pop(None, None)
    if not wanted:
        raise SystemExit("Got nothing to write. Give --output_dir, or --judge, or both.")
    for folder, networks in wanted.items():
        assert folder is not None
        tensors = {name: read_model(config.package, name) for name in networks}
        training = {**_SOURCE, "models": [MODELS[name] for name in networks]}
        folder = folder.expanduser()
        save_quantized(folder, tensors, {"training": training}, config.overwrite)
        print(f"Wrote {folder} with the networks: {', '.join(networks)}.")


if __name__ == "__main__":
    run(main, Config, __doc__)
