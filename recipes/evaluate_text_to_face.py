"""Measure text-to-face on captions that no training has seen, with baselines and ablations.

    python recipes/evaluate_text_to_face.py text-to-face
    python recipes/evaluate_text_to_face.py text-to-face --other without=runs/no-reconstruction \\
        --optimization --output_dir runs/text-to-face-comparison

The captions are those of unseen portraits (seeds from 10,000,000), and the attribute reader judges.
metrics.json and card in the network's folder are rewritten; the numbers of captions and seeds are
those of its present metrics.json unless options say otherwise. With --output_dir, all methods are
compared there: metrics.json, a table in Markdown (table.md) and a sheet of pictures (captions.webp:
a row for each caption, with a face of each method and the portrait that the caption was written
for).

Random faces show what is true without reading the caption. --optimization runs latent optimization
in w_plus from the mean latent for each caption, which gives one face, the same for every seed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.hub import read_metrics, write_card
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import displacements
from stylegan_hub.metrics.text_to_face import (
    Draw,
    UnseenCaptions,
    measure_text_to_face,
    pictures_of,
    table,
    write_text_to_face_quality,
)
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.text_to_face import CANDIDATES, TextToFace, draw_from_text, load_text_to_face

SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure, and how, if not as in the last evaluation."""

    folder: Annotated[str, tyro.conf.Positional] = "text-to-face"
    """Bundled name or folder of the network."""
    other: tuple[str, ...] = ()
    """Networks to compare with, as name=folder; needs --output_dir."""
    candidates: int | None = None
    """Number of faces rendered for each that is kept; CLIP chooses. By default as before, or 8.
    With --output_dir, a single render is compared too."""
    optimization: bool = False
    """Compare with latent optimization; needs --output_dir."""
    optimization_captions: int = 64
    """Number of captions for latent optimization, because each takes seconds."""
    output_dir: Path | None = None
    """Folder for the comparison."""
    captions: int | None = None
    """Number of unseen captions. By default as before, or 200."""
    seeds: int | None = None
    """Number of faces for each caption. By default as before, or 4."""
    truncation_psi: float | None = None
    """Truncation psi of the faces. By default as before, or 0.7."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader."""


def main(config: Config) -> None:
    if config.output_dir is None and (config.other or config.optimization):
        raise SystemExit("A comparison needs --output_dir. Give it too.")
    folder = resolve(config.folder)
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    networks = {"text-to-face": load_text_to_face(folder)}
    for other in config.other:
        name, separator, path = other.partition("=")
        if not separator:
            raise SystemExit(f"Got --other {other}; expected name=folder.")
        networks[name] = load_text_to_face(path)
    for network in networks.values():  # all are checked before anything is written
        network.check_fits(pipe)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    before = read_metrics(folder)
    count = config.captions or before.get("captions", 200)
    seeds = config.seeds or before.get("images", 4 * count) // before.get("captions", count)
    psi = config.truncation_psi
    if psi is None:
        psi = before.get("truncation_psi", 0.7)
    candidates = config.candidates or before.get("candidates", CANDIDATES)
    unseen = UnseenCaptions.draw(count, pipe.generator.config.img_resolution)
    own = write_text_to_face_quality(
        folder, pipe, networks["text-to-face"], reader, unseen, seeds, psi, candidates
    )
    write_card(folder)
    rows: dict[str, dict[str, Any]] = {
        "random faces": {**own["random_faces"], "captions": count},
        "text-to-face": own,
    }
    if config.output_dir is not None:
        methods = compared(config, pipe, networks, psi, candidates)
        for name, draw in tqdm(methods.items(), unit="method"):
            is_search = name == "latent optimization"
            part = config.optimization_captions if is_search else count
            rows[name] = measure_text_to_face(
                draw,
                reader,
                unseen.captions[:part],
                unseen.portraits[:part],
                1 if is_search else seeds,
            ) | {"captions": min(part, count)}
        own_draw = from_network(pipe, networks["text-to-face"], psi, candidates)
        write(config.output_dir, rows, unseen, {"text-to-face": own_draw, **methods}, psi)
    print(table(rows))


def compared(
    config: Config,
    pipe: StyleEditPipeline,
    networks: dict[str, TextToFace],
    psi: float,
    candidates: int,
) -> dict[str, Draw]:
    """The methods to compare with the network; other networks also with a single render."""
    own, *others = networks
    methods = {}
    if candidates > 1:
        methods["a single sample"] = from_network(pipe, networks[own], psi, 1)
    methods |= {name: from_network(pipe, networks[name], psi, 1) for name in others}
    if config.optimization:
        methods["latent optimization"] = lambda text, seeds: optimized(pipe, text, seeds)
    return methods


def from_network(pipe: StyleEditPipeline, network: TextToFace, psi: float, candidates: int) -> Draw:
    """Faces that a network renders."""
    return lambda text, seeds: pictures_of(
        pipe, draw_from_text(pipe, network, text, seeds, psi, candidates)
    )


def optimized(pipe: StyleEditPipeline, text: str, seeds: Sequence[int]) -> Tensor:
    """The face that latent optimization finds from the mean latent, the same for every seed."""
    mean = pipe.mean_latent()
    # Not `find`, which refuses captions of which CLIP reads only the beginning.
    step = displacements(pipe, Words(text), mean)
    moved = Latents(mean.space, mean.codes + step)
    return pictures_of(pipe, moved).expand(len(seeds), -1, -1, -1)


def write(
    folder: Path,
    rows: dict[str, dict[str, Any]],
    unseen: UnseenCaptions,
    methods: dict[str, Draw],
    psi: float,
) -> None:
    """Write the comparison: metrics.json, table.md and captions.webp."""
    text = json.dumps({"truncation_psi": psi, "methods": rows}, indent=2) + "\n"
    write_bytes(folder / "metrics.json", text.encode())
    shown = unseen.captions[:SHOWN]
    lines = [
        table(rows),
        "",
        f"Columns of captions.webp: {', '.join(methods)}, portrait. Rows:",
        "",
    ]
    lines += [f"{index}. {caption.text}" for index, caption in enumerate(shown, 1)]
    write_bytes(folder / "table.md", ("\n".join(lines) + "\n").encode())
    cells = []
    for caption, portrait in zip(shown, unseen.portraits, strict=False):
        cells += [*(draw(caption.text, [0])[0] for draw in methods.values()), portrait]
    sheet = image_files.grid(torch.stack(cells), columns=len(methods) + 1)
    image_files.save(sheet, folder / "captions.webp", image_files.SHEET_QUALITY)


if __name__ == "__main__":
    run(main, Config, __doc__)
