"""What the recipes that train a network share: its data, its log and its folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import Portraits, sample
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.portraits.renderer import render

_AT_ONCE = 100  # portraits that are rendered together


def cached_portraits(folder: Path, count: int) -> RenderCache:
    """The portraits that recipes/render_portraits.py wrote.

    Raises:
        SystemExit: it holds fewer than `count` portraits.
    """
    cache = RenderCache(folder)
    if len(cache) < count:
        raise SystemExit(
            f"{folder} holds {len(cache)} portraits, --portraits asks for {count}; render more "
            "with recipes/render_portraits.py, or ask for fewer."
        )
    return cache


def unseen_portraits(count: int) -> Portraits:
    """Portraits that no training sees."""
    return sample(range(UNSEEN_SEED, UNSEEN_SEED + count))


def pictures_of(portraits: Portraits, resolution: int) -> Tensor:
    """Their pictures `[n, 3, resolution, resolution]` in [-1, 1], a few at a time."""
    starts = range(0, len(portraits), _AT_ONCE)
    return torch.cat([render(portraits[i : i + _AT_ONCE], resolution) for i in starts])


def log_line(path: Path, step: int, values: Mapping[str, Any]) -> None:
    """Append a line to a file of measurements."""
    with path.open("a") as file:
        file.write(json.dumps({"step": step, **values}) + "\n")


def check_same_run(path: Path, mine: Mapping[str, Any]) -> None:
    """Refuse to continue with what a run of another pipeline or another seed left behind.

    Args:
        path: a JSON file beside the kept data, which is written if it is missing.
        mine: what the data depends on.

    Raises:
        SystemExit: the file says something else.
    """
    if path.is_file() and (there := json.loads(path.read_text())) != mine:
        raise SystemExit(
            f"{path.parent} holds data of another run ({there}; this one is {mine}). Choose "
            "another --output_dir."
        )
    write_bytes(path, (json.dumps(mine, indent=2) + "\n").encode())


def write_network(
    folder: Path,
    network: Any,
    metrics: Mapping[str, Any],
    card: str,
    pictures: Mapping[str, Image.Image] | None = None,
) -> None:
    """Write a network's folder, replacing what is there: weights, metrics.json, card and images/.

    Args:
        network: anything with `save_pretrained`.
        pictures: by the names of their files in images/.
    """
    network.to(memory_format=torch.contiguous_format).save_pretrained(folder, overwrite=True)
    for name, picture in (pictures or {}).items():
        image_files.save(picture, folder / "images" / name, image_files.SHEET_QUALITY)
    write_bytes(folder / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    write_bytes(folder / "README.md", card.encode())
    print(f"The {folder.name} is in {folder}.")


def check_addable(pipeline: str) -> None:
    """Refuse --add for a pipeline that is not a folder of the user.

    Raises:
        SystemExit: `pipeline` is a name.
    """
    if not Path(pipeline).is_dir():
        raise SystemExit(
            f"Got --add with {pipeline!r}, which is not a folder. Copy the pipeline into a folder "
            "of your own, or leave out --add."
        )


def add_to_pipeline(pipe: StyleEditPipeline, folder: Path, part: str, network: Any) -> None:
    """Write a network, in half precision, into a pipeline's folder, whose other parts stay."""
    network.half().save_pretrained(folder / part, overwrite=True)
    pipe.register_modules(**{part: network.float()})
    pipe.register_to_config(_name_or_path=None)
    write_bytes(folder / pipe.config_name, pipe.to_json_string().encode())
