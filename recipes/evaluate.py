"""Measure edits again, and rewrite metrics.json, pictures and card in their folders.

    python recipes/evaluate.py cards/afro-hair runs/my-edit
    python recipes/evaluate.py --edits all
    python recipes/evaluate.py runs/my-edit --target hair_style=afro --samples 256

Faces, strength and target are those of the present metrics.json unless options say otherwise, so
the numbers on a card are reproduced: exactly on the same kind of machine, to three digits
elsewhere. Only milliseconds_per_edit varies from run to run. At the end a table of all edits is
printed; its columns "step cosine" are table 2 of StyleCLIP.

Other artifacts have recipes of their own that rewrite their cards: evaluate_text_to_face.py, and
bundle_portraits.py for the models of the portraits. evaluate_directions.py measures a table's
directions for many texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro
from command_line import run
from tqdm import tqdm

from stylegan_hub.edits.base import load_edit
from stylegan_hub.hub import evaluate_folder, read_metrics
from stylegan_hub.metrics.edit_quality import parse_target
from stylegan_hub.metrics.judges import judges_for
from stylegan_hub.names import bundled, resolve
from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure, and how, if not as in the last evaluation."""

    folders: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Folders or bundled names of edits."""
    edits: Literal["all"] | None = None
    """Measure all bundled edits."""
    target: tuple[str, ...] = ()
    """What the edits should change, such as hair_style=afro or character=Zuri. By default as
    before."""
    samples: int | None = None
    """Number of unseen faces. By default as before, or 128."""
    strength: float | None = None
    """Strength of the edits. By default as before, or the default of the edit."""
    truncation_psi: float | None = None
    """Truncation psi of the faces. By default as before, or 0.7."""
    pipeline: str = "portraits"
    """Bundled name, folder or Hub id."""
    reader: str | None = "attribute-reader"
    """Bundled name, folder or Hub id of the attribute reader. None: measure only what needs no
    reader, as for pictures other than drawn portraits; for most pipelines this is detected."""


def main(config: Config) -> None:
    folders = [resolve(name, "edit") for name in config.folders]
    if config.edits == "all":
        folders += bundled("edit").values()
    if not folders:
        raise SystemExit("Got nothing to measure. Give folders of edits, or --edits all.")
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    for folder in folders:  # all are checked before the first folder is changed
        load_edit(folder).check_fits(pipe.base_model)
    target = parse_target(config.target)
    targets = target or any(read_metrics(folder).get("target") for folder in folders)
    judges = judges_for(pipe, config.reader, targets)
    rows = {
        folder.name: evaluate_folder(
            folder, pipe, judges, target, config.samples, config.strength, config.truncation_psi
        )
        for folder in tqdm(folders, unit="edit")
    }
    print(table(rows))


def table(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The numbers in Markdown, a line for each edit; without columns that were not measured."""
    columns: Sequence[tuple[str, str]] = (
        ("success", "success"),
        ("n", "success_images"),
        ("collateral", "collateral"),
        ("clean", "clean"),
        ("monotone", "monotone"),
        ("smoothness", "smoothness"),
        ("identity", "identity_similarity"),
        ("judged identity", "judged_identity"),
        ("CLIP before", "clip_similarity_before"),
        ("CLIP after", "clip_similarity_after"),
        ("step cosine mean", "step_cosine_mean"),
        ("step cosine std", "step_cosine_std"),
        ("ms", "milliseconds_per_edit"),
    )
    shown = [column for column in columns if any(column[1] in row for row in rows.values())]
    lines = [
        f"| edit | {' | '.join(title for title, _ in shown)} |",
        f"|---|{'---|' * len(shown)}",
    ]
    for name, metrics in rows.items():
        values = (metrics.get(key) for _, key in shown)
        cells = ("" if value is None else f"{value:.4g}" for value in values)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main, Config, __doc__)
