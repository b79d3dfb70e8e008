"""Find the part of the face that a prompt is about.

eCLIPsed finds the part by the similarity of prompt and part names. Here words that name a part
decide first ("eyes" means eyes and not eyeglasses). For all other words CLIP's text encoder
decides: the change from the neutral text to the prompt is compared with the changes to phrases
about each part. A prompt that is just as near to phrases about none of the parts is refused. The
`Region` holds what was found and why; the calling search reports and stores it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from torch.nn import functional as F

from stylegan_hub.domain import RECIPES, Domain
from stylegan_hub.models.parser import Parser

NEAR = 0.65
"""Minimum cosine between two changes of text that are about the same part."""


class _Known(NamedTuple):
    parts: tuple[str, ...]  # names in parsers; those that a parser does not have are ignored
    words: tuple[str, ...]  # whole words that mean this region and no other
    phrases: tuple[str, ...]  # for CLIP


# Part names are from both vocabularies: the drawn portraits' and CelebAMask-HQ's.
_REGIONS: dict[str, _Known] = {
    "hair": _Known(
        ("hair",),
        ("hair", "hairs", "haired", "hairstyle", "haircut", "hairdo", "fringe", "bangs", "curls",
         "ponytail", "braids", "afro", "mohawk", "bald"),
        ("curly hair", "blonde hair", "long hair", "an afro", "a mohawk", "a bob cut",
         "spiky hair", "a bald head"),
    ),
    "hat": _Known(("hat",), ("hat", "hats", "cap", "beanie", "headwear"), ("a hat", "a cap")),
    "beard": _Known(
        ("beard", "mustache"),
        ("beard", "beards", "bearded", "moustache", "mustache", "stubble", "goatee", "facial hair"),
        ("a beard", "a moustache"),
    ),
    "glasses": _Known(
        ("glasses", "eyeglasses"),
        ("glasses", "eyeglasses", "eyeglass", "spectacles", "sunglasses", "goggles"),
        ("glasses", "eyeglasses"),
    ),
    "eyes": _Known(
        ("eyes", "left eye", "right eye"),
        ("eye", "eyes", "eyed", "gaze", "pupils", "iris", "eyelids", "eyelashes"),
        ("blue eyes", "brown eyes", "big eyes"),
    ),
    "brows": _Known(
        ("brows", "left brow", "right brow"),
        ("brow", "brows", "eyebrow", "eyebrows"),
        ("eyebrows", "thick eyebrows"),
    ),
    "nose": _Known(("nose",), ("nose", "nostrils"), ("a nose", "a big nose")),
    "mouth": _Known(
        ("mouth", "lips", "upper lip", "lower lip"),
        ("mouth", "lip", "lips", "lipstick", "teeth", "tongue", "smile", "smiling", "grin"),
        ("an open mouth", "red lipstick", "a smile"),
    ),
    "ears": _Known(
        ("ears", "left ear", "right ear", "earring", "earrings"),
        ("ear", "ears", "earring", "earrings"),
        ("ears", "big ears"),
    ),
    "skin": _Known(
        ("skin", "nose", "ears", "left ear", "right ear", "neck"),
        ("skin", "skinned", "complexion", "freckles", "freckled", "wrinkles", "wrinkled"),
        ("dark skin", "light skin", "freckles", "wrinkles"),
    ),
    "expression": _Known(
        ("brows", "left brow", "right brow", "eyes", "left eye", "right eye", "mouth", "lips",
         "upper lip", "lower lip"),
        ("expression",),
        ("an angry face", "a sad face", "a surprised face"),
    ),
    "face": _Known(
        ("skin", "brows", "left brow", "right brow", "eyes", "left eye", "right eye", "nose",
         "mouth", "lips", "upper lip", "lower lip"),
        ("cheeks", "chin", "jaw", "forehead"),
        ("a wide face", "a narrow face", "an old face", "a young face"),
    ),
    "neck": _Known(("neck",), ("neck", "throat"), ("a neck",)),
    "necklace": _Known(("necklace",), ("necklace", "necklaces"), ("a necklace",)),
    "clothes": _Known(
        ("clothes",),
        ("clothes", "clothing", "shirt", "sweater", "dress", "collar", "jacket", "suit"),
        ("a red shirt", "a blue shirt", "green clothes"),
    ),
    "background": _Known(
        ("background",),
        ("background", "backdrop", "behind"),
        ("a blue background", "a green background"),
    ),
}  # fmt: skip
_STRANGE = 0.9
# Phrases that are not about a face.
_ELSEWHERE = ("a car", "a tree", "a house", "a letter")


@dataclass(frozen=True)
class Region:
    """Parts of the face that an edit should stay in.

    Attributes:
        name: its name.
        parts: parts of the parser; their masks are added.
        reason: why this region was chosen, in words.
    """

    name: str
    parts: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.parts)}; {self.reason})"


def regions_of(parser: Parser) -> dict[str, tuple[str, ...]]:
    """All names that `named_region` accepts, with the parser's parts that they stand for."""
    groups = {
        name: tuple(part for part in known.parts if part in parser.parts)
        for name, known in _REGIONS.items()
    }
    parts = {part: (part,) for part in parser.parts if part not in groups}
    return {name: found for name, found in {**groups, **parts}.items() if found}


def named_region(domain: Domain, name: str) -> Region:
    """The region of this name: "hair", "mouth", a part of the parser, or several: "hair, hat".

    Raises:
        ValueError: there is no such region (the message lists all), or the pipeline has no parser.
    """
    known = regions_of(parser_of(domain))
    names = [one.strip() for one in name.split(",") if one.strip()]
    if not names or (unknown := [one for one in names if one not in known]):
        got = ", ".join(unknown) if names else name
        raise ValueError(
            f"Unknown region {got!r}; this parser knows {', '.join(known)}. Separate several "
            "regions by commas."
        )
    parts = dict.fromkeys(part for one in names for part in known[one])
    return Region(", ".join(names), tuple(parts), "your choice")


def find_region(domain: Domain, prompt: str, neutral: str | None = None) -> Region:
    """The region that the prompt is about.

    Args:
        neutral: text for the pictures before the edit; the pipeline's own neutral text if None.

    Raises:
        ValueError: the prompt is about none of the regions (the message lists all), or the pipeline
            has no parser.
    """
    known = {name: p for name, p in regions_of(parser_of(domain)).items() if name in _REGIONS}
    named = {name: word for name, word in _named_in(prompt).items() if name in known}
    if len(named) == 1:
        ((name, word),) = named.items()
        return Region(name, known[name], f"the word {word!r}")
    neutral = domain.neutral if neutral is None else neutral
    phrases = [(name, phrase) for name in named or known for phrase in _REGIONS[name].phrases]
    texts = [prompt, *(phrase for _, phrase in phrases), *_ELSEWHERE]
    changes = F.normalize(domain.encode_text(texts) - domain.encode_text(neutral), dim=1, eps=1e-6)
    about, strange = changes[1:].split([len(phrases), len(_ELSEWHERE)])
    # A small CLIP does not know some parts: to it, their names are as unrelated as a car. And it
    # takes a car for whatever part happens to be nearest: words must be nearer than that.
    to_strange = about @ strange.T
    is_strange = to_strange.mean(1) > _STRANGE
    near = (about @ changes[0]).masked_fill(is_strange, -1)
    best = int(near.argmax())
    similarity, elsewhere = float(near[best]), float((strange @ changes[0]).max())
    by_chance = float(to_strange[~is_strange].max()) if not is_strange.all() else 1.0
    if not named and similarity < max(NEAR, elsewhere, by_chance):
        raise ValueError(
            f"Found no part of the face for the words {prompt!r} (nearest: {phrases[best][1]!r}, "
            f"{similarity:.2f}). Say which part should change: "
            f"{', '.join(regions_of(parser_of(domain)))}."
        )
    name, phrase = phrases[best]
    return Region(name, known[name], f"CLIP: {similarity:.2f} to {phrase!r}")


def parser_of(domain: Domain) -> Parser:
    """The pipeline's parser. Raises `ValueError` if it has none."""
    parser: Parser | None = getattr(domain, "parser", None)
    if parser is None:
        raise ValueError(
            "This pipeline has no parser, which finds the parts of a face. Use a pipeline with a "
            f"parser, or train one: {RECIPES['parser']}."
        )
    return parser


def _named_in(prompt: str) -> dict[str, str]:
    """The regions that the prompt names, each with the word that names it; longer words first."""
    rest = prompt.lower()
    words = [(word, name) for name, known in _REGIONS.items() for word in known.words]
    found: dict[str, str] = {}
    for word, name in sorted(words, key=lambda pair: -len(pair[0])):
        rest, count = re.subn(rf"\b{re.escape(word)}\b", " ", rest)
        if count:
            found.setdefault(name, word)
    return found
