"""Fit the table that says how well an edit of drawn portraits does what its words ask.

    python recipes/calibrate_fit.py --pipeline my/portraits --reader attribute-reader \\
        --output_dir runs/fit --add

For many texts, the instant method edits a few faces that lack what the text asks for, and the
attribute reader says whether each has it afterwards. Texts about things that no portrait shows
count as failed. A logistic regression on half of the texts gives the weights
(`stylegan_hub/methods/fit.py`). The other half, and the texts of recipes/heldout_foreign.json, show
how far to trust it (`metrics.json`). With --add the table is written into the pipeline's instant
model.
"""

from __future__ import annotations

import json
import random
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from command_line import run
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from stylegan_hub.artifacts import write_bytes
from stylegan_hub.domain import words_of
from stylegan_hub.latents import Latents
from stylegan_hub.methods.fit import PoorFitWarning, features, reached, uncalibrated
from stylegan_hub.methods.method import Words, get
from stylegan_hub.methods.wording import reading
from stylegan_hub.models.instant import FitTable, InstantModel
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES
from stylegan_hub.portraits.captions import Caption, describe, vocabulary_texts
from stylegan_hub.portraits.foreign import foreign_texts
from stylegan_hub.portraits.reader import AttributeReader

HELD_OUT = Path(__file__).parent / "heldout_foreign.json"
FIRST_SEED = 14_000_000
FALSE_ALARMS = 0.05


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which pipeline to calibrate, and from how many texts."""

    output_dir: Path
    """Folder for metrics.json and the measured rows."""
    pipeline: str = "portraits"
    """Name or folder of the pipeline; it needs an instant model."""
    reader: str = "attribute-reader"
    """Name, folder or Hub id of the attribute reader."""
    texts_per_value: int = 4
    """Texts for each value of each attribute."""
    foreign: int = 120
    """Texts about things that no portrait shows."""
    faces: int = 3
    """Faces that are edited with each text."""
    seed: int = 0
    """Seed of everything random."""
    add: bool = False
    """Write the table into the pipeline's folder."""


@dataclass(frozen=True)
class Row:
    """One edit: what was asked for, what was measured, and whether the reader finds it."""

    text: str
    foreign: bool
    values: tuple[float, float, float]
    success: bool


def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    if pipe.instant is None:
        raise SystemExit(
            f"{config.pipeline} has no instant model. Run recipes/train_instant.py first."
        )
    if config.add and not Path(config.pipeline).is_dir():
        raise SystemExit(f"Got --add with {config.pipeline!r}, which is not a folder.")
    units = replace(uncalibrated(pipe, pipe.instant.seen), words=trained_words())
    rng = random.Random(config.seed)
    told = known_texts(config.texts_per_value, rng)
    told += [Caption(text, {}) for text in foreign_texts(rng, config.foreign)]
    rows = measured(pipe, reader, told, units, config)
    texts = sorted({row.text for row in rows})
    rng.shuffle(texts)
    learned = set(texts[::2])
    table = fitted([row for row in rows if row.text in learned], units)
    # Few texts are near the limit, so it is taken from all of them.
    table = replace(table, limit=limit_of(table, rows))
    unseen = [row for row in rows if row.text not in learned]
    held_out = [Caption(text, {}) for text in json.loads(HELD_OUT.read_text())]
    foreign = measured(pipe, reader, held_out, units, config)
    metrics = {"table": asdict(table), **report(table, unseen, foreign)}
    write_bytes(config.output_dir / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
    lines = [json.dumps(asdict(row)) for row in (*rows, *foreign)]
    write_bytes(config.output_dir / "rows.jsonl", ("\n".join(lines) + "\n").encode())
    print(json.dumps(metrics, indent=2))
    if config.add:
        add(pipe, table, Path(config.pipeline))


def trained_words() -> tuple[str, ...]:
    """All words of the texts that the portraits' CLIP is trained on."""
    texts = [*vocabulary_texts(), *foreign_texts(random.Random(0), 10_000)]
    return tuple(sorted({word for text in texts for word in words_of(text.lower())}))


def known_texts(count: int, rng: random.Random) -> list[Caption]:
    """Captions about one attribute each."""
    found = []
    for attribute, values in ATTRIBUTES.items():
        for value in values:
            labels = {name: others[0] for name, others in ATTRIBUTES.items()}
            # The hair color of a bald head cannot be judged.
            labels |= {"hair_style": "short"} if attribute == "hair_color" else {}
            labels[attribute] = value
            found += [describe(labels, rng, mention=[attribute]) for _ in range(count)]
    return [caption for caption in found if "character" not in caption.facts]


def measured(
    pipe: StyleEditPipeline,
    reader: AttributeReader,
    told: list[Caption],
    units: FitTable,
    config: Config,
) -> list[Row]:
    """Edit a few faces that lack what a text asks for, with every text."""
    faces = pipe.sample(range(FIRST_SEED, FIRST_SEED + 64))
    before = shown(pipe, reader, faces)
    method, rows = get("instant"), []
    for index, caption in enumerate(tqdm(told, unit="text", disable=None)):
        lacking = [i for i in range(len(faces)) if not true_of(caption, before, i)]
        order = torch.randperm(len(lacking), generator=torch.Generator().manual_seed(index))
        words = reading(Words(caption.text), pipe.neutral)
        for i in order[: config.faces].tolist():
            face = faces[lacking[i]]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", PoorFitWarning)
                edit = method.find(pipe, caption.text, face)
            level = reached(pipe, words, edit, face)
            after = shown(pipe, reader, edit.apply(face))
            success = bool(caption.facts) and true_of(caption, after, 0)
            values = features(pipe, words, level, units)
            rows.append(Row(caption.text, not caption.facts, values, success))
    return rows


@torch.no_grad()
def shown(pipe: StyleEditPipeline, reader: AttributeReader, faces: Latents) -> list[dict[str, str]]:
    """What the reader sees in each face."""
    starts = range(0, len(faces), 16)
    parts = [reader.read(pipe.synthesize(faces[i : i + 16])).labels for i in starts]
    return [
        {name: ATTRIBUTES[name][int(column[i])] for name, column in part.items()}
        for part in parts
        for i in range(len(next(iter(part.values()))))
    ]


def true_of(caption: Caption, labels: list[dict[str, str]], index: int) -> bool:
    """Whether a caption with these statements is true of a face."""
    facts = caption.facts
    return bool(facts) and all(labels[index][name] in values for name, values in facts.items())


def fitted(rows: list[Row], units: FitTable) -> FitTable:
    """The logistic regression; the limit stays as it is."""
    values = torch.tensor([row.values for row in rows])
    success = torch.tensor([float(row.success) for row in rows])
    weights = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = values @ weights[:3] + weights[3]
        total = F.binary_cross_entropy_with_logits(logits, success) + 1e-3 * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    *slopes, bias = (round(w, 4) for w in weights.tolist())
    return replace(units, weights=(slopes[0], slopes[1], slopes[2]), bias=bias, calibrated=True)


def limit_of(table: FitTable, rows: list[Row]) -> float:
    """The fit below which a share of `FALSE_ALARMS` of the successful edits lies."""
    success = torch.tensor([row.success for row in rows])
    if not success.any():
        raise SystemExit("The reader found no edit that worked, so there is nothing to learn from.")
    return round(float(fits(table, rows)[success].quantile(FALSE_ALARMS)), 3)


def fits(table: FitTable, rows: list[Row]) -> Tensor:
    """Fits of measured edits."""
    return torch.tensor([table.fit(row.values) for row in rows])


def report(table: FitTable, unseen: list[Row], foreign: list[Row]) -> dict[str, object]:
    """How far the fit can be trusted, on texts that the regression has not seen."""
    fit, success = fits(table, unseen), torch.tensor([row.success for row in unseen])
    known = torch.tensor([not row.foreign for row in unseen])
    bins = [
        {"fit": f"{low / 5:.1f}-{(low + 1) / 5:.1f}", "count": int(rows.sum()),
         "mean_fit": round(float(fit[rows].mean()), 3),
         "success": round(float(success[rows].float().mean()), 3)}
        for low in range(5)
        if (rows := (fit * 5).floor().clamp(max=4) == low).any()
    ]  # fmt: skip
    poor = fit < table.limit
    away = fits(table, foreign) < table.limit
    return {
        "texts": len({row.text for row in unseen}),
        "brier": round(float((fit - success.float()).square().mean()), 4),
        "by_fit": bins,
        "warned_of_what_worked": round(float(poor[success].float().mean()), 3),
        "warned_of_known_that_failed": round(float(poor[known & ~success].float().mean()), 3),
        "warned_of_foreign": round(float(poor[~known].float().mean()), 3),
        "warned_of_held_out_foreign": round(float(away.float().mean()), 3),
        "not_warned_of": sorted({r.text for r, p in zip(foreign, away, strict=True) if not p}),
    }


def add(pipe: StyleEditPipeline, table: FitTable, folder: Path) -> None:
    """Write the table into the pipeline's instant model, whose samples stay as they are."""
    old: InstantModel = pipe.instant
    model = InstantModel(**{**vars(old.sizes), "fit": asdict(table)})
    model.load_state_dict(old.state_dict())
    model.half().save_pretrained(folder / "instant", overwrite=True)


if __name__ == "__main__":
    run(main, Config, __doc__)
