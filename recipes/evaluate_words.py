"""Measure how well methods do what words ask, for prompts that no training has seen.

    python recipes/evaluate_words.py --pipeline portraits --output_dir runs/words
    python recipes/evaluate_words.py --pipeline portraits --output_dir runs/words \\
        --methods instant optimization --faces 8
    python recipes/evaluate_words.py --output_dir runs/words --methods instant \\
        --prompts recipes/plain_prompts.json --keep glasses "hair color" age identity

Every method finds an edit for each prompt of recipes/heldout_prompts.json, on a few faces that lack
what it asks for, and applies it with its default strength. For each edited face, the attribute
reader says whether it has what was asked for (success) and what else changed (collateral), the
critic whether the picture is clean, and a recognizer that no method uses whether it is the same
person. Texts about things that no portrait can show (recipes/heldout_foreign.json) are tried as
well: for these, a warning is the right answer. recipes/plain_prompts.json has texts that name one
attribute each. With --keep, every prompt is measured without and with these words to keep, and the
share of the kept attributes that flipped is measured too.

Writes metrics.json (every prompt), table.md for docs/results.md and, for each method, a sheet
`METHOD.webp` in which every prompt has a face before and after.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median

import torch
from command_line import run
from torch import Tensor
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import write_bytes
from stylegan_hub.edits.stack import displaced
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents
from stylegan_hub.methods.fit import PoorFitWarning
from stylegan_hub.methods.method import Words
from stylegan_hub.metrics.edit_quality import draw
from stylegan_hub.metrics.edit_success import Target, edit_report, lacks
from stylegan_hub.metrics.judges import READER, Judges, judges_for
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader, Reading

HERE = Path(__file__).parent
FIRST_SEED = 15_000_000  # of the faces; seen by no training and no choice of settings
POOL = 400  # faces among which those that lack something are looked for


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to measure."""

    output_dir: Path
    """Folder for numbers and sheets."""
    pipeline: str = "portraits"
    """Name, folder or Hub id of the pipeline."""
    methods: tuple[str, ...] = ("instant", "optimization", "table", "gradient")
    """Names of methods, see `stylegan-hub methods`."""
    prompts: Path = HERE / "heldout_prompts.json"
    """A list of {"text": ..., "facts": {attribute: [values]}}."""
    foreign: Path = HERE / "heldout_foreign.json"
    """A list of texts about things that no picture of this domain can show."""
    faces: int = 4
    """Number of faces for each prompt."""
    keep: tuple[str, ...] = ()
    """What should not change, such as glasses, "hair color" or identity."""
    reader: str = READER
    """Name, folder or Hub id of the attribute reader."""

    def __post_init__(self) -> None:
        if not 1 <= self.faces <= POOL:
            raise ValueError(f"faces is {self.faces}; expected 1 to {POOL}.")


@dataclass(frozen=True)
class Row:
    """One prompt by one method; shares over its faces.

    Attributes:
        kept: share of the attributes to keep that flipped; None if there are none.
        fit: the mean of the edits' own estimates; None if a method gives none.
        warned: share of edits that came with a `PoorFitWarning`.
        seconds: median time of one edit; loading is not counted.
    """

    method: str
    text: str
    success: float | None
    collateral: float | None
    clean: float | None
    identity: float | None
    kept: float | None
    fit: float | None
    warned: float
    seconds: float
    faces: int


@torch.no_grad()
def main(config: Config) -> None:
    pipe = StyleEditPipeline.from_pretrained(config.pipeline)
    pool = pipe.sample(range(FIRST_SEED, FIRST_SEED + POOL))
    pictures = draw(pipe, pool)
    reader = AttributeReader.from_pretrained(resolve(config.reader, "model")).eval().to(pipe.device)
    judges = judges_for(pipe, None, None)
    reading = reader.read(pictures)
    prompts = json.loads(config.prompts.read_text())
    rows, sheets = [], {}
    for method, keep in requests(config):
        name = f"{method}, keeping" if keep else method
        shown = []
        for prompt in tqdm(prompts, desc=name, disable=None):
            chosen = lacks(reading, prompt["facts"]).nonzero()[: config.faces, 0]
            if not len(chosen):
                print(f"No face lacks what {prompt['text']!r} asks for.")
                continue
            kept = tuple(word for word in keep if attribute_of(word) not in prompt["facts"])
            row, flips, after = one(
                pipe, judges, reader, method, kept, prompt["text"], prompt["facts"],
                Latents(pool.space, pool.codes[chosen]), pictures[chosen], reading.of(chosen),
            )  # fmt: skip
            rows.append(replace(row, method=name, kept=kept_flips(flips, prompt["facts"], config)))
            shown += [pictures[chosen[:1]], after[:1]]
        sheets[name] = torch.cat(shown)
        some, seen = pool[: config.faces], pictures[: config.faces]
        for text in () if keep else json.loads(config.foreign.read_text()):
            rows.append(one(pipe, judges, reader, method, (), text, None, some, seen, None)[0])
        write(config, rows, sheets)
    print((config.output_dir / "table.md").read_text())


def one(
    pipe: StyleEditPipeline,
    judges: Judges,
    reader: AttributeReader,
    method: str,
    keep: tuple[str, ...],
    text: str,
    target: Target | None,
    faces: Latents,
    before: Tensor,
    read_before: Reading | None,
) -> tuple[Row, dict[str, float], Tensor]:
    """One prompt: its row, the flips of each attribute, and its edited faces."""
    found, seconds, warned = [], [], 0
    for index in range(len(faces)):
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                edit = pipe.find(Words(text, keep=keep), faces[index], method=method)
            except MethodError:
                return refused(method, text, target, before), {}, before
        seconds.append(time.perf_counter() - began)
        warned += any(issubclass(one.category, PoorFitWarning) for one in told)
        found.append(edit)
    edited = [
        displaced(pipe, faces[index], [(edit, edit.strength.default)])
        for index, edit in enumerate(found)
    ]
    after = torch.cat([pipe.synthesize(each) for each in edited]).clamp(-1, 1)
    report = None
    if target is not None and read_before is not None:
        report = edit_report(read_before, reader.read(after), target)
    seen = judges.appearance(pipe, before, after)
    fits = [edit.origin.fit for edit in found if edit.origin.fit is not None]
    row = Row(
        method,
        text,
        None if report is None else report.success,
        None if report is None else report.collateral,
        seen.get("clean"),
        seen.get("judged_identity"),
        None,
        fmean(fits) if fits else None,
        warned / len(found),
        median(seconds),
        len(found),
    )
    return row, {} if report is None else report.flips, after


def requests(config: Config) -> list[tuple[str, tuple[str, ...]]]:
    """Every method, without and, if there is something to keep, with it."""
    kinds = ((), config.keep) if config.keep else ((),)
    return [(method, keep) for method in config.methods for keep in kinds]


def kept_flips(flips: dict[str, float], target: Target, config: Config) -> float | None:
    """The mean share of flips of the attributes to keep that the target does not ask for."""
    names = {attribute_of(word) for word in config.keep} - set(target)
    shares = [share for name, share in flips.items() if name in names]
    return fmean(shares) if shares else None


def attribute_of(word: str) -> str:
    """The attribute that a word to keep names: "hair color" is hair_color."""
    return word.replace(" ", "_")


def refused(method: str, text: str, target: Target | None, before: Tensor) -> Row:
    """What a text counts that the method refuses: it fails, and says so."""
    success = None if target is None else 0.0
    collateral = None if target is None else 0.0
    return Row(method, text, success, collateral, None, None, None, None, 1.0, 0.0, len(before))


def write(config: Config, rows: Sequence[Row], sheets: dict[str, Tensor]) -> None:
    """Write everything that is known so far."""
    text = json.dumps([asdict(row) for row in rows], indent=1)
    write_bytes(config.output_dir / "metrics.json", (text + "\n").encode())
    write_bytes(config.output_dir / "table.md", table(rows).encode())
    for method, pictures in sheets.items():
        small = torch.nn.functional.interpolate(pictures, (128, 128), mode="area")
        sheet = image_files.grid(image_files.to_pil(small), columns=10)
        image_files.save(sheet, config.output_dir / f"{method}.webp", quality=85)


def table(rows: Sequence[Row]) -> str:
    """A row for each method, and one for each prompt with less than half success."""
    lines = [
        "| method | prompts | success | collateral | clean | identity | flips of what was kept "
        "| warned, of those that succeed / fail / cannot be | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        mine = [row for row in rows if row.method == method]
        known = [row for row in mine if row.success is not None]
        foreign = [row for row in mine if row.success is None]
        good = [row.warned for row in known if (row.success or 0) >= 0.5]
        bad = [row.warned for row in known if (row.success or 0) < 0.5]
        cells = [
            method, str(len(known)), mean([row.success for row in known]),
            mean([row.collateral for row in known]), mean([row.clean for row in known]),
            mean([row.identity for row in known]), mean([row.kept for row in known]),
            f"{mean(good)} / {mean(bad)} / {mean([row.warned for row in foreign])}",
            f"{median([row.seconds for row in mine]):.2f}",
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    failed = [row for row in rows if row.success is not None and row.success < 0.5]
    lines += ["", "| fails | prompt | success | fit |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {row.method} | {row.text} | {row.success:.2f} | {mean([row.fit])} |" for row in failed
    ]
    return "\n".join(lines) + "\n"


def mean(values: Sequence[float | None]) -> str:
    """The mean of the numbers that exist; a dash if there is none."""
    there = [value for value in values if value is not None]
    return f"{fmean(there):.3f}" if there else "-"


if __name__ == "__main__":
    run(main, Config, __doc__)
