"""The README.md of an edit, generated from the contents of its folder.

    config.json, metrics.json, images/  ->  README.md

So a card cannot state other numbers than were measured. A card that was written by hand is never
replaced, and sections that its owner adds to a generated card are kept. Prompts and settings are
untrusted: the YAML writer quotes them in the metadata, and in the text everything that Markdown or
HTML could read as markup is escaped.
"""

from __future__ import annotations

import html
import math
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from stylegan_hub import artifacts, names
from stylegan_hub.artifacts import CARD_NAME, read_metrics
from stylegan_hub.bounds import is_strength, is_within
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.errors import ArtifactError, NotFoundError

if TYPE_CHECKING:
    from stylegan_hub.metrics.judges import Judges
    from stylegan_hub.pipeline import StyleEditPipeline

LIBRARY = "stylegan-hub"
"""This library's name and tag on the Hub."""
FORMER_LIBRARY = "stylegan_hub"
"""The library's name in cards of version 0.1."""
PICTURE_NAME = "images/before-after.webp"
"""The strip that shows an edit in a gallery: faces above, the same faces edited below."""
PICTURE_TYPES = {".png", ".jpg", ".jpeg", ".gif", ".webp"}

LICENSES = {
    "apache-2.0": "Apache 2.0: any use, if the source is named",
    "cc-by-4.0": "CC BY 4.0: any use, if the author is named",
    "cc-by-nc-4.0": "CC BY-NC 4.0: any noncommercial use, if the author is named",
    "cc0-1.0": "CC0: any use",
    "openrail": "OpenRAIL: any use except harmful ones",
}
"""Licenses to choose from, by their name on the Hub, with a short explanation."""
LIKENESSES = {
    "nobody": "It was made from words or from generated faces, and shows no real person.",
    "own": "It was made from pictures of its maker.",
    "consent": "It was made from pictures of persons who agreed to this use of their likeness.",
}
"""What the maker of an edit states about the people in the pictures that it was made from."""
_LICENSE = "apache-2.0"
_MOST_CELLS = 10_000  # of a table in a card
_MOST_SAMPLES = 100_000

# How a card words the metrics in metrics.json. Shares are written as percentages.
_SHARES = {
    "success": "Success: faces without the target that show it afterwards",
    "collateral": "Collateral: other attributes that changed too",
    "clean": "Clean: edited pictures without visible faults; 95 % of unedited ones are clean",
    "monotone": "Monotone: steps of the slider at which the target does not decrease",
    "attributes_taken": "Attributes of the target picture that faces lacked and now show",
    "attributes_kept": "Share of all attributes that stayed as they were",
    "change_inside_region": "Share of the pixels' change that lies inside the region",
    "statements": "Statements of the texts that are true of the faces",
    "described": "The same for texts that name no character",
    "whole_captions": "Faces for which everything in their text is true",
    "unspoken": "Attributes that the text leaves open in which two of its faces differ",
}
_NUMBERS = {
    "distance": "Perceptual distance between faces of the same text",
    "frechet_distance": "Frechet distance to the portraits that the texts were written for",
    "perceptual_distance": "Perceptual distance to the portrait of the text",
    "seconds": "Seconds per face",
    "target_similarity_before": "CLIP similarity to the target picture, before",
    "target_similarity_after": "CLIP similarity to the target picture, after",
    "change_consistency": "Cosine between the changes of different faces in CLIP",
    "distance_outside_region": "Perceptual distance outside the region (0 is no change)",
    "identity_similarity": "Identity similarity before and after (cosine, recognizer)",
    "judged_identity": "Identity similarity by a recognizer that no training uses (cosine)",
    "smoothness": "Smoothness of the slider (1 if all steps change the picture equally)",
    "useful_from": "Useful range of the slider: lowest strength",
    "useful_to": "Useful range of the slider: highest strength",
    "clip_similarity_before": "CLIP similarity to the text, before",
    "clip_similarity_after": "CLIP similarity to the text, after",
    "step_cosine_mean": "Cosine between the displacements of different faces, mean",
    "step_cosine_std": "Cosine between the displacements of different faces, standard deviation",
    "milliseconds_per_edit": "Milliseconds per edit",
}
_CONDITIONS = {"images", "first_seed", "truncation_psi", "strength", "target", "success_images"}

_TRAINING, _MEASURED, _LIMITS, _CONSENT_HEADING = (
    "Training", "What was measured", "Limits", "Intended use and consent",
)  # fmt: skip
_HEADINGS = {_TRAINING, _MEASURED, _LIMITS, _CONSENT_HEADING}


def write_card(folder: str | Path, license: str | None = None, likeness: str | None = None) -> Path:
    """Write README.md from config.json, metrics.json and images/ of an edit or direction table.

    An existing card is replaced. Its license, its likeness and the sections whose headings ("## ")
    are not the generator's own are kept.

    Args:
        license: its name on the Hub, one of `LICENSES` or another; None for that of the existing
            card, or apache-2.0 without one.
        likeness: a key of `LIKENESSES`; None for that of the existing card.

    Raises:
        ValueError: a license that is not a valid name, or an unknown likeness.
        NotFoundError: there is no such folder.
        ArtifactError: config.json or metrics.json is missing, damaged or from a newer version;
            metrics.json belongs to other tensors; or the present card was written by hand.
    """
    folder = Path(folder)
    if license is not None and re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,40}", license) is None:
        known = ", ".join(LICENSES)
        raise ValueError(f"Got the license {license!r}; expected a name such as {known}.")
    if likeness is not None and likeness not in LIKENESSES:
        raise ValueError(f"Got likeness {likeness!r}; expected one of {', '.join(LIKENESSES)}.")
    config = artifacts.read_config(folder)
    path = folder / CARD_NAME
    check_generated(path)
    digest = artifacts.folder_digest(folder)
    if artifacts.METRICS_NAME in artifacts.stale_files(folder, digest):
        artifacts.check_fresh(folder)
    metrics = read_metrics(folder)
    pictures = [
        path.relative_to(folder).as_posix()
        for path in sorted((folder / "images").glob("*"))
        if path.suffix.lower() in PICTURE_TYPES
    ]
    pictures.sort(key=lambda name: name != PICTURE_NAME)  # the strip first, the others by name
    said = likeness or _likeness(path)
    card = _Card(folder.resolve().name, config, metrics, pictures, digest, said)
    written = "\n".join([card.text(), *_added_sections(path)])
    text = f"---\n{card.metadata(license or _license(path))}\n---\n\n{written}"
    artifacts.write_bytes(path, text.encode())
    return path


def evaluate_folder(
    folder: str | Path,
    pipe: StyleEditPipeline,
    judges: Judges,
    target: Mapping[str, str] | None = None,
    samples: int | None = None,
    strength: float | None = None,
    truncation_psi: float | None = None,
) -> dict[str, Any]:
    """Measure an edit again, and rewrite its metrics.json, pictures and card.

    Arguments that are None are taken from the present metrics.json, which reproduces its numbers.

    Args:
        judges: their reader is not used if there is no target.
        target: attributes and values that the edit is for, {"hair_style": "afro"}.
        samples: number of faces that no training has seen; 128 if never measured.
        strength: the edit's default if never measured.
        truncation_psi: of the faces; 0.7 if never measured.

    Returns:
        The content of metrics.json, see `metrics.edit_quality.measure_edit`.

    Raises:
        NotFoundError, ArtifactError: the folder has no valid edit, its metrics.json is damaged, or
            its card was written by hand.
        MismatchError: the edit is for another generator.
        ValueError: an unknown attribute or value, fewer than two samples.
    """
    from stylegan_hub.edits.base import load_edit
    from stylegan_hub.metrics.edit_quality import write_quality
    from stylegan_hub.portraits.dataset import UNSEEN_SEED

    folder = Path(folder)
    edit = load_edit(folder)
    edit.check_fits(pipe.base_model)
    check_generated(folder / CARD_NAME)  # before the measurement, which takes minutes
    before = read_metrics(folder)
    usual = {"target": {}, "first_seed": UNSEEN_SEED, "images": 128, "strength": None,
             "truncation_psi": 0.7}  # fmt: skip
    before = {**usual, **before}
    _check_conditions(before, folder)
    target = target or before["target"]
    first = before["first_seed"]
    count = before["images"] if samples is None else samples
    metrics = write_quality(
        folder,
        pipe,
        judges,
        edit,
        target,
        range(first, first + count),
        before["strength"] if strength is None else strength,
        before["truncation_psi"] if truncation_psi is None else truncation_psi,
    )
    write_card(folder)
    return metrics


def _check_conditions(metrics: Mapping[str, Any], folder: Path) -> None:
    """Raise `ArtifactError` for conditions of an untrusted metrics.json that cannot be repeated."""
    target, strength = metrics["target"], metrics["strength"]
    fitting = {
        "target": isinstance(target, dict) and all(isinstance(v, str) for v in target.values()),
        "first_seed": type(metrics["first_seed"]) is int and 0 <= metrics["first_seed"] < 2**62,
        "images": type(metrics["images"]) is int and 2 <= metrics["images"] <= _MOST_SAMPLES,
        "strength": strength is None or is_strength(strength),
        "truncation_psi": is_within(metrics["truncation_psi"], 10),
    }
    if wrong := [name for name, fits in fitting.items() if not fits]:
        raise ArtifactError(
            f"In {folder / artifacts.METRICS_NAME}, {wrong[0]} is {str(metrics[wrong[0]])[:80]!r}.",
            got=metrics[wrong[0]],
            expected="the conditions of a measurement",
            remedy="Remove the file, and measure the edit with --target and --samples.",
        )


def escape(text: object) -> str:
    """Untrusted text as one line of Markdown that shows it and does nothing else.

    Control, format and surrogate characters are removed (they could hide or reverse text).
    """
    shown = "".join(
        " " if letter.isspace() else letter
        for letter in str(text)
        if letter.isspace() or not unicodedata.category(letter).startswith("C")
    )
    shown = html.escape(" ".join(shown.split()), quote=False)
    # After html.escape, & and ; belong to its entities. The dot and the colon would turn addresses
    # into links, the at sign would turn names into mentions.
    marks = set(string.punctuation) - set("&;,'-\"?")
    return "".join(f"\\{letter}" if letter in marks else letter for letter in shown)


def _escaped(value: Any) -> Any:
    """A setting with all texts in it escaped."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {escape(name): _escaped(part) for name, part in value.items()}
    return [_escaped(part) for part in value] if isinstance(value, list) else value


def card_metadata(path: Path) -> dict[str, Any]:
    """The metadata between the --- lines of a card; empty if there are none.

    Raises:
        NotFoundError: there is no card.
        ArtifactError: the lines are not YAML, or not what the Hub accepts.
    """
    from huggingface_hub import ModelCard

    if not path.is_file():
        raise NotFoundError(f"There is no card {path}.")
    try:
        return dict(ModelCard(path.read_text(encoding="utf-8")).data.to_dict())
    except Exception as error:  # what the YAML reader behind it raises
        raise ArtifactError(f"The metadata of {path} cannot be read: {error}") from error


def generator_tag(fingerprint: str) -> str:
    """The tag of all edits for one generator, which does not depend on its pipeline's name."""
    return f"generator-{fingerprint}"


class _Card:
    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        metrics: Mapping[str, Any],
        pictures: Sequence[str],
        digest: str | None,
        likeness: str | None,
    ) -> None:
        self.name, self.config, self.metrics, self.pictures = name, config, metrics, pictures
        self.digest, self.likeness = digest, likeness
        self.kind = str(config["kind"])
        kind = names.find_kind(self.kind) or names.find_kind(names.EDIT)
        assert kind is not None
        self.said = kind  # texts for its kind; an unknown kind is an edit
        self.base = config.get("base_model", {})
        self.prompt: str | None = config.get("prompt")
        from stylegan_hub.methods.method import method_of  # takes seconds

        try:
            origin = Origin(
                self.prompt, config.get("neutral"), config.get("training", {}), config.get("fit")
            )
            self.method, self.named = method_of(origin), origin
            # Methods write plain sentences; what is in them of a prompt or a setting is untrusted.
            self.origin = Origin(*(_escaped(part) for part in (vars(origin).values())))
            self.strength = Strength(**config.get("strength", {}))
        except (TypeError, ValueError) as error:
            raise ArtifactError(f"{artifacts.CONFIG_NAME} of {name}: {error}") from error

    @property
    def base_id(self) -> str | None:
        """The id of the generator's pipeline on the Hub; None for a local folder."""
        base = self.base.get("id")
        return names.hub_id(base) if base is not None else None

    @property
    def is_edit(self) -> bool:
        """Whether it has a strength; an unknown kind counts as an edit."""
        return self.said.family == names.EDIT

    # Metadata

    def metadata(self, license: str) -> str:
        from huggingface_hub import ModelCardData

        fingerprint = self.base.get("fingerprint")
        data = ModelCardData(
            base_model=self.base_id,
            base_model_relation="adapter" if self.base_id else None,
            library_name=LIBRARY,
            pipeline_tag=self.said.task,
            license=license,
            tags=[
                "stylegan2",
                "image-editing",
                "clip",
                self.kind,
                *([generator_tag(fingerprint)] if fingerprint else []),
            ],
            widget=[
                {"text": _plain(self.prompt or self.name), "output": {"url": quote(picture)}}
                for picture in self.pictures
            ]
            or None,
            model_name=self.name,
            eval_results=self._eval_results() or None,
        )
        return str(data.to_yaml())

    def _eval_results(self) -> list[Any]:
        from huggingface_hub import EvalResult

        images, seed = self.metrics.get("images"), self.metrics.get("first_seed")
        names = {"success": "Success (attribute reader)", "collateral": "Collateral change"}
        return [
            EvalResult(
                task_type="image-to-image",
                dataset_type="stylegan2-samples",
                dataset_name=f"{images} samples of {_plain(self.base.get('id') or 'the generator')}"
                f", seeds from {seed}",
                metric_type=key,
                metric_name=name,
                metric_value=float(self.metrics[key]),
            )
            for key, name in names.items()
            if _is_number(self.metrics.get(key)) and isinstance(images, int)
        ]

    # Text

    def text(self) -> str:
        title = self.prompt or self.name.replace("-", " ")
        if self.method is not None:
            title = self.method.caption(self.named)
        title = escape(title)
        sections = [f"# {title}", self._intro(), *self._shown(), self._usage()]
        for heading, body in (
            (_TRAINING, self._training()),
            (_MEASURED, self._measured()),
            (_LIMITS, self._limits()),
            (_CONSENT_HEADING, self._consent()),
        ):
            if body:
                sections += [f"## {heading}", body]
        return "\n\n".join(sections) + "\n"

    def _intro(self) -> str:
        space = escape(self.config.get("space", "of its generator"))
        what = self.said.summary or f"An edit of the kind {escape(self.kind)}."
        if self.method is not None:
            what = self.method.account(self.origin)
        lines = [f"{what} It works in the latent space {space}."]
        if self.prompt:
            neutral = self.config.get("neutral")
            start = f'the change from "{escape(neutral)}" to' if neutral else "the words"
            lines.append(f'It was found for {start} "{escape(self.prompt)}".')
        if self.origin.fit is not None:
            lines.append(f"How well the edited pictures fit the words: {self.origin.fit:.2f} of 1.")
        base = self.base
        if base:
            of = escape(base.get("id") or "the generator").rpartition("/")[2]
            lines.append(
                f"It belongs to the generator of {of} (fingerprint "
                f"`{_code(base.get('fingerprint', 'unknown'))}`, "
                f"{escape(base.get('resolution', '?'))} px) and to no other."
            )
        if self.is_edit:
            low, high = self.strength.min, self.strength.max
            lines.append(
                f"Strength {self.strength.default:g} is the default; the slider goes from "
                f"{low:g} to {high:g}, and 0 changes nothing."
            )
        if self.digest is not None:
            lines.append(artifacts.card_digest(self.digest))
        return "\n".join(lines)

    def _shown(self) -> list[str]:
        captions = {
            PICTURE_NAME: "Upper row: before. Lower row: the same faces after the edit.",
            "images/strengths.webp": (
                f"A row for each face, strength from {self.strength.min:g} to "
                f"{self.strength.max:g}."
            ),
            "images/target.png": "The picture that the edit was found for.",
        }
        shown = []
        for picture in self.pictures:
            words = captions.get(picture, escape(Path(picture).stem.replace("-", " ")))
            shown.append(f"![{words}]({quote(picture)})")
            if picture in captions:
                shown.append(f"*{words}*")
        return shown

    def _usage(self) -> str:
        base = self.base.get("id") or ""
        if re.fullmatch(r"[\w-][\w./@-]*", base) is not None and self.base_id is not None:
            pipeline = base
        else:  # anything may be in an untrusted id, even code
            pipeline = self.base_id or "path/to/its/pipeline"
        if re.fullmatch(r"[\w-][\w.-]*", self.name) is None:  # anything may be a folder's name
            name = "path/to/this/folder"
        else:
            name = self.name
        lines = [
            "import stylegan_hub as hub",
            "",
            f'pipe = hub.StyleEditPipeline.from_pretrained("{pipeline}")',
            *(self.said.usage(name, self.config) if self.said.usage else ()),
        ]
        return "\n".join(["```python", *lines, "```"])

    def _training(self) -> str:
        training = self.config.get("training", {})
        rows = [
            f"| {escape(name)} | {_value(value)} |"
            for name, value in training.items()
            if value is not None and value != {} and value != []
        ]
        return "\n".join(["| setting | value |", "| --- | --- |", *rows]) if rows else ""

    def _measured(self) -> str:
        metrics = self.metrics
        if not metrics:
            return ""
        blocks = [self._conditions()] if "images" in metrics else []
        rows = [
            f"| {words} | {_percent(metrics[key])}{self._of(key)} |"
            for key, words in _SHARES.items()
            if key in metrics
        ]
        rows += [
            f"| {words} | {_number(metrics[key])} |"
            for key, words in _NUMBERS.items()
            if key in metrics
        ]
        told = _CONDITIONS | set(_SHARES) | set(_NUMBERS) | {"flips"}
        others = {key: value for key, value in metrics.items() if key not in told}
        rows += [
            f"| {escape(_words(key))} | {_value(value)} |"
            for key, value in others.items()
            if not isinstance(value, Mapping | list)
        ]
        if rows:
            blocks.append("\n".join(["| | |", "| --- | --- |", *rows]))
        flips = metrics.get("flips")
        if isinstance(flips, Mapping) and flips:
            blocks.append(_flips(flips))
        for key, value in others.items():
            if table := _table(value):
                blocks.append(f"{escape(_words(key)).capitalize()}:\n\n{table}")
        return "\n\n".join(blocks)

    def _conditions(self) -> str:
        metrics = self.metrics
        images, seed = metrics["images"], metrics.get("first_seed")
        if self.said.counted and "texts" not in metrics:
            return self.said.counted.format(_number(images))
        parts = [f"Measured on {_number(images)} faces that no training has seen"]
        if _is_number(seed):
            parts.append(f" (seeds from {_number(seed)}")
            psi, strength = metrics.get("truncation_psi"), metrics.get("strength")
            parts.append(f", truncation {psi:g}" if _is_number(psi) else "")
            parts.append(f", strength {strength:g}" if _is_number(strength) else "")
            parts.append(")")
        target = metrics.get("target")
        if isinstance(target, Mapping) and target:
            wanted = ", ".join(f"{escape(_words(k))} {escape(v)}" for k, v in target.items())
            parts.append(f". Target: {wanted}")
            if len(target) > 1:
                parts.append(". A face shows it if at least three quarters of these are present")
            parts.append(
                ". An attribute reader that shares nothing with CLIP reads every face before and "
                "after"
            )
        return f"{''.join(parts)}."

    def _of(self, key: str) -> str:
        count = self.metrics.get("success_images")
        return f" of {_number(count)}" if key == "success" and _is_number(count) else ""

    def _consent(self) -> str:
        said = f"**Likeness.** {LIKENESSES[self.likeness]}\n\n" if self.likeness else ""
        return said + _CONSENT

    def _limits(self) -> str:
        lines = ["- It fits only the generator that it was made for; any other is refused."]
        if self.said.limit:
            lines.append(f"- {self.said.limit}")
        if self.is_edit:
            lines.append(f"- {_SAMPLES_ONLY if self.metrics else _UNMEASURED}")
        success = self.metrics.get("success")
        if success is not None and _is_number(success) and success < 0.5:
            lines.insert(0, f"- It fails more often than not: success is {_percent(success)}.")
        return "\n".join(lines)


_SAMPLES_ONLY = (
    "The numbers hold for samples of that generator, not for photographs, and an attribute that "
    "is not listed here may change unnoticed. Look at the pictures."
)
_UNMEASURED = "It has not been measured how often it succeeds and what else it changes."
_CONSENT = """\
For learning, research and play with generated faces. Hair, age, skin and expression are part of a
person's likeness: ask real people before you edit a picture of them, and say that it is edited
when you show it. Do not use it to deceive, to mock, to undress, to identify or to sort people. A
generator knows the faces it was trained on; what it makes of "old", "beautiful" or a name reflects
its data."""


def _flips(flips: Mapping[str, Any]) -> str:
    shares = {name: float(share) for name, share in flips.items() if _is_number(share)}
    worst = sorted(shares, key=lambda name: -shares[name])[:5]
    dragged = [f"{escape(_words(name))} {_percent(shares[name])}" for name in worst if shares[name]]
    if not dragged:
        return "No other attribute changed."
    return f"What else changes most: {', '.join(dragged)}."


def _table(value: object) -> str:
    """A Markdown table of named rows, `{"a smile": {"success": 0.9, ...}, ...}`, or of numbers.

    Deeper levels are left to metrics.json, and so are named rows among numbers and a table that no
    card has room for.
    """
    if not isinstance(value, Mapping) or not value:
        return ""
    numbers = {name: row for name, row in value.items() if not isinstance(row, Mapping)}
    rows = {name: {"value": row} for name, row in numbers.items()} or {
        name: {column: cell for column, cell in row.items() if not isinstance(cell, Mapping)}
        for name, row in value.items()
    }
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    if len(rows) * len(columns) > _MOST_CELLS:
        return ""
    lines = [f"| | {' | '.join(escape(_words(column)) for column in columns)} |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for name, row in rows.items():
        cells = (_value(row[column]) if column in row else "" for column in columns)
        lines.append(f"| {escape(_words(name))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _value(value: object) -> str:
    """A setting or a number in a cell of a table."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if _is_number(value):
        return _number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(_words(name))} {_value(part)}" for name, part in value.items())
    if isinstance(value, list):
        shown = ", ".join(_value(part) for part in value[:12])
        return f"{shown}, ... ({len(value)} in all)" if len(value) > 12 else shown
    return escape("not measurable" if value is None else value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: Any) -> str:
    if not _is_number(value):
        return "not measurable"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _percent(value: Any) -> str:
    return f"{100 * value:.1f} %" if _is_number(value) else "not measurable"


def _words(name: object) -> str:
    return str(name).replace("_", " ")


def _plain(text: str) -> str:
    """One line without control characters, for metadata."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _code(text: object) -> str:
    """Text for a code span: only letters and digits."""
    return re.sub(r"\W", "", str(text))


def check_generated(path: Path) -> None:
    """Raise `ArtifactError` if the card at this path was written by hand.

    A generated card states the digest of its tensors; those of folders without readable tensors
    have at least the sentences on consent.
    """
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if CARD_NAME in artifacts.recorded_digests(path.parent) or _CONSENT in text:
        return
    raise ArtifactError(
        f"The card {path} was written by hand, so it is not replaced.",
        got="a card written by hand",
        expected="no card, or one that was generated",
        remedy="Edit it yourself (its license is in the lines between --- and ---), or move it "
        "away to have one generated.",
    )


def _added_sections(path: Path) -> list[str]:
    """The sections that its owner added to a generated card, each with its heading."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    _, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    own = [one for one in sections if one.partition("\n")[0].removeprefix("## ") not in _HEADINGS]
    return [f"{section.rstrip()}\n" for section in own]


def _likeness(path: Path) -> str | None:
    """The likeness that the present card states, which its owner decides."""
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    return next((key for key, said in LIKENESSES.items() if f"**Likeness.** {said}" in text), None)


def _license(path: Path) -> str:
    """The license that the present card names, which its owner decides."""
    try:
        license = card_metadata(path).get("license")
    except (NotFoundError, ArtifactError):
        return _LICENSE
    return license if isinstance(license, str) else _LICENSE
