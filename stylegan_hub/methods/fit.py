"""How well an edit does what the words ask for: a number from 0 to 1.

A search always finds some edit: for "a dog" it finds some change of a portrait that raises CLIP's
similarity. Three numbers distinguish such an edit from one that does what was asked for:

    bimodal    how clearly samples of the domain either show it or do not: Sarle's bimodality
               coefficient of their places along the change, relative to that of the median word of
               a bank; a thing that no sample shows gives one cluster instead of two
    closeness  how close the nearest samples come to the text, in standard deviations from the mean
               of the bank; for a change between two texts, that of the less close text
    reached    the level of edited pictures (`methods/level.py`), 0 to 1

The result is fit = sigmoid(bias + weights . (bimodal, closeness, reached)). Weights and limit
are a small table stored with the instant model (`models/instant.py`). `recipes/calibrate_fit.py`
calibrates them on known attributes: fit is then the probability that an attribute reader, which no
search uses, finds what was asked for. Without such a table, the weights of the drawn portraits are
used, and fit is called uncalibrated.

The table may also list the words that CLIP was trained on. CLIP puts together a word that it has
never read from the pieces of others ("king" from "looking"), so the three numbers may be those of
any edit. The fit of a text that names nothing but such words is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.domain import Domain, words_of
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.level import TOP_SHARE, Scale
from stylegan_hub.methods.prompt_bank import TEMPLATES, encode_prompt, text_change
from stylegan_hub.methods.requests import Words
from stylegan_hub.methods.word_bank import NAMELESS, known_entries, sentence
from stylegan_hub.models.instant import FitTable, InstantModel

_SEEDS = range(12296, 12300)  # faces on which an edit for every face is measured
_CLEAR = 0.75
_TABLES: WeakKeyDictionary[InstantModel, FitTable] = WeakKeyDictionary()

Verdict = Literal["clearly", "partly", "hardly"]


class PoorFitWarning(UserWarning):
    """The edit does not do what the words ask for, judged by the pictures of this domain."""


def table(domain: Domain) -> FitTable:
    """The domain's table: the stored one, or else an uncalibrated one.

    Args:
        domain: with an instant model.
    """
    model: InstantModel = domain.instant
    if model.sizes.fit_table is not None:
        return model.sizes.fit_table
    if model not in _TABLES:
        _TABLES[model] = uncalibrated(domain, model.seen)
    return _TABLES[model]


def uncalibrated(domain: Domain, seen: Float[Tensor, "samples d"]) -> FitTable:
    """The units of a domain, measured on the words of the bank, with the default weights.

    Args:
        seen: embeddings of its samples.
    """
    seen = seen.float()
    neutral = encode_prompt(domain, domain.neutral)
    texts = [encode_prompt(domain, sentence(domain, entry)) for entry in known_entries(domain)]
    modes = torch.stack([_bimodality(seen @ (text - neutral).to(seen)) for text in texts])
    close = torch.stack([_closeness(seen, text) for text in texts])
    varied = float(close.std()) if len(close) > 1 else 1.0
    return FitTable(float(modes.median()), float(close.mean()), max(varied, 1e-3))


def features(
    domain: Domain, words: Words, reached: float, units: FitTable
) -> tuple[float, float, float]:
    """Bimodality, closeness and the reached level of a request, as defined above.

    Args:
        reached: the level that edited pictures reach.
        units: see `table`.
    """
    seen = domain.instant.seen.float()
    neutral = domain.neutral if words.neutral is None else words.neutral
    texts = [encode_prompt(domain, text).to(seen) for text in (words.text, neutral)]
    bimodal = float(_bimodality(seen @ (texts[0] - texts[1])))
    spoken = [
        t for t, said in zip(texts, (words.text, neutral), strict=True) if said != domain.neutral
    ]
    close = min(float(_closeness(seen, text)) for text in spoken or texts)
    return (
        bimodal - units.bimodal,
        (close - units.close) / units.varied,
        min(max(reached, 0.0), 1.0),
    )


def fit_of(domain: Domain, words: Words, edit: Edit, face: Latents | None) -> float | None:
    """The fit of an edit, on its face or on a few samples; None without an instant model."""
    if domain.instant is None:
        return None
    units = table(domain)
    if names_only_unknown(words.text if words.said is None else words.said, units.words):
        return 0.0
    values = features(domain, words, reached(domain, words, edit, face), units)
    return round(units.fit(values), 3)


def names_only_unknown(text: str, known: Sequence[str]) -> bool:
    """Whether none of the words with which a text names something is known.

    Args:
        known: words in lower case; when empty, nothing is known about them, and the answer is no.
    """
    naming = [word for word in words_of(text.lower()) if word not in NAMELESS]
    return bool(known and naming) and not set(naming) & set(known)


@torch.no_grad()
def reached(domain: Domain, words: Words, edit: Edit, face: Latents | None) -> float:
    """The mean level of pictures after an edit, 0 to 1; for a removal, 1 minus that level."""
    change, without = asked_change(domain, words)
    scale = Scale.of(domain.instant.seen, change)
    faces = face
    if faces is None:
        faces = most_of(domain, scale, len(_SEEDS)) if without else domain.sample(_SEEDS)
    images = domain.sketch(EditStack().added(edit).apply(domain, faces))
    levels = scale.level(domain.encode_image(images)).clamp(0, 1)
    return float(1 - levels.mean() if without else levels.mean())


def most_of(domain: Domain, scale: Scale, count: int) -> Latents:
    """The stored samples at the highest levels of a change, in w_plus."""
    model = domain.instant
    chosen = scale.level(model.seen.float()).topk(min(count, len(model.w))).indices
    return domain.lower(Latents(Space.W, model.w[chosen].float()), Space.W_PLUS)


def asked_change(
    domain: Domain, words: Words, templates: Sequence[str] = TEMPLATES
) -> tuple[Float[Tensor, " d"], bool]:
    """The change in CLIP space that the words describe, and whether it should be removed.

    For a removal, the change leads to what should be removed. Most samples lack it, so its scale
    has a level to come down from; a scale of its absence would have none to rise to.
    """
    neutral = domain.neutral if words.neutral is None else words.neutral
    if words.removal:
        return text_change(domain, neutral, words.text, templates), True
    return text_change(domain, words.text, neutral, templates), False


def verdict(domain: Domain, fit: float) -> Verdict:
    """Whether pictures with this fit show clearly, partly or hardly what was asked for."""
    if fit < table(domain).limit:
        return "hardly"
    return "clearly" if fit >= _CLEAR else "partly"


def poor_fit(domain: Domain, words: Words, fit: float) -> str:
    """The warning for a fit below the limit: how poor it is, and which words would work."""
    said = words.said or words.text
    near = ", ".join(repr(entry) for entry in near_words(domain, words))
    advice = f" Similar words that it knows: {near}." if near else ""
    measured = "" if table(domain).calibrated else ", not calibrated"
    return (
        f"{said!r} is hardly visible in the edited picture (fit {fit:.2f} of 1{measured}): this "
        f"model has no such pictures, or its CLIP does not know the words.{advice}"
    )


def near_words(domain: Domain, words: Words, count: int = 3) -> list[str]:
    """Entries of the word bank whose change is most similar to the one asked for."""
    neutral = domain.neutral if words.neutral is None else words.neutral
    texts = (neutral, words.text) if words.removal else (words.text, neutral)
    asked = _plain_changes(domain, [texts[0]], texts[1])
    entries = known_entries(domain)
    if not entries:
        return []
    offered = _plain_changes(domain, [sentence(domain, entry) for entry in entries], domain.neutral)
    likeness = (offered @ asked.T)[:, 0]
    nearest = [entries[int(i)] for i in likeness.argsort(descending=True)[:count]]
    return [sentence(domain, entry) if "*" in entry else entry for entry in nearest]


def _bimodality(places: Float[Tensor, " samples"]) -> Tensor:
    """Sarle's coefficient: 1 for two points, 0.56 for even ones, 0.33 for a Gaussian."""
    deviations = (places - places.mean()) / places.std(correction=0).clamp_min(1e-9)
    skewness, kurtosis = (deviations**power for power in (3, 4))
    return (skewness.mean().square() + 1) / kurtosis.mean().clamp_min(1e-9)


def _closeness(seen: Float[Tensor, "samples d"], text: Float[Tensor, " d"]) -> Tensor:
    nearest = max(1, round(TOP_SHARE * len(seen)))
    return (seen @ text.to(seen)).topk(nearest).values.mean()


def _plain_changes(domain: Domain, texts: Sequence[str], neutral: str) -> Float[Tensor, "n d"]:
    embedded = domain.encode_text([*texts, neutral]).float()
    return F.normalize(embedded[:-1] - embedded[-1:], dim=1)
