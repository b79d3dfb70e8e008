"""Words for what pictures may show: alternatives, two of which name a change.

Discovery names its sliders with them, they set the units in which `methods/fit.py` measures a
change, and `methods/instant.py` keeps all alternatives of a trait. Only words that have their own
tokens in a CLIP are used.
"""

from __future__ import annotations

import re

from stylegan_hub.domain import Domain

Alternatives = tuple[tuple[str, ...], ...]
"""Groups of alternatives; a picture shows one of each group.

In a domain of faces, "glasses" stands for "a face with glasses", "a young *" for "a young face",
and "no glasses" for the neutral "a face", since CLIP hardly understands negations."""

ANYTHING: Alternatives = (
    ("a bright *", "a dark *"),
    ("a colorful *", "a grey *"),
    ("a large *", "a small *"),
    ("a blurred *", "a sharp *"),
    ("a * by day", "a * at night"),
    ("a blue background", "a green background", "a yellow background", "a pink background",
     "a purple background", "a grey background", "a red background", "a white background",
     "a dark background"),
)  # fmt: skip
"""Names for the pictures of any domain."""

FACES: Alternatives = (
    ("black hair", "brown hair", "blonde hair", "red hair", "grey hair", "white hair",
     "purple hair", "pink hair", "green hair"),
    ("a bald head", "short hair", "long hair", "curly hair", "a bob cut", "spiky hair",
     "a mohawk", "an afro"),
    ("light skin", "tanned skin", "dark skin"),
    ("no beard", "a beard"),
    ("no glasses", "glasses"),
    ("no hat", "a hat"),
    ("no lipstick", "lipstick"),
    ("no freckles", "freckles"),
    ("a smiling *", "a sad *", "an angry *", "a surprised *", "a calm *"),
    ("a young *", "an old *"),
    ("a narrow *", "a wide *"),
    ("a * of a woman", "a * of a man"),
    ("brown eyes", "blue eyes", "green eyes", "grey eyes"),
    ("a * turned to the left", "a * turned to the right"),
    ("a * looking to the left", "a * looking to the right"),
    ("red clothes", "blue clothes", "green clothes", "yellow clothes", "purple clothes",
     "black clothes", "white clothes"),
)  # fmt: skip
"""Names for the pictures of faces."""

THINGS: Alternatives = (
    ("a red *", "a blue *", "a green *", "a yellow *", "a white *", "a black *", "a brown *"),
    ("an old *", "a new *"),
    ("a round *", "a square *"),
    ("a tall *", "a flat *"),
    ("a * on the left", "a * on the right"),
    ("a plain *", "a patterned *"),
)
"""Names for the pictures of other things."""

NAMELESS = frozenset(
    """
    a an the some any this that these those my your his her their its our of in on at with without
    no not as like into to from for by and or but than
    i me we us you he him she it they them who what someone somebody person man woman boy girl guy
    lady face portrait picture
    is are be been being was were am isn don t s d ll ve re
    can could would will should may might must please let lets now just
    make makes made turn give gives add put get gets want wants have has had wear wearing wears look
    looks looking become becomes change show shows
    more less most very really quite much so too bit little
    """.split()
)
"""Words that name nothing which a picture may show, in lower case."""

# Names of groups that their entries do not contain, each with one of these entries.
_TRAITS = {
    "hair color": "black hair",
    "hair style": "long hair",
    "hairstyle": "long hair",
    "haircut": "long hair",
    "eye color": "blue eyes",
    "skin color": "dark skin",
    "expression": "a smiling *",
    "mood": "a smiling *",
    "smile": "a smiling *",
    "age": "an old *",
    "gender": "a * of a woman",
    "sex": "a * of a woman",
    "pose": "a * turned to the left",
    "gaze": "a * looking to the left",
    "shirt": "red clothes",
}
_FACE = re.compile(r"\b(faces?|portraits?|persons?|people|man|men|woman|women|heads?)\b", re.I)


def alternatives(domain: Domain, words: Alternatives | None = None) -> Alternatives:
    """The groups whose words this domain's CLIP knows; those for faces or for things when None."""
    if words is None:
        words = (FACES if _FACE.search(domain.neutral) else THINGS) + ANYTHING
    return tuple(
        tuple(e for e in group if not domain.words_without_token(e.removeprefix("no ")))
        for group in words
    )


def known_entries(domain: Domain) -> list[str]:
    """All entries whose words this domain's CLIP knows, in one list, without those with "no"."""
    return [entry for _, entry in grouped_entries(domain)]


def grouped_entries(domain: Domain) -> list[tuple[int, str]]:
    """The entries of `known_entries`, each with the number of its group of alternatives."""
    return [
        (group, entry)
        for group, entries in enumerate(alternatives(domain))
        for entry in entries
        if not entry.startswith("no ")
    ]


def sentence(domain: Domain, entry: str) -> str:
    """An entry as a text that describes a picture: "glasses" is "a face with glasses"."""
    if entry.startswith("no "):
        return domain.neutral
    if "*" not in entry:
        return f"{domain.neutral} with {entry}"
    noun = re.sub(r"^(an?|the)\s+", "", domain.neutral, flags=re.IGNORECASE)
    return entry.replace("*", noun)


def trait(domain: Domain, name: str) -> list[list[str]]:
    """Texts for the alternatives of what a word names, in groups of which a picture shows one.

    "hair" gives the hair colors and the hair styles, "age" or "an old face" young and old. A word
    that is not in the bank gives one text, "a face with" this word, or the word itself if it
    describes a picture.
    """
    asked = re.sub(r"^(?:an?|the|his|her|their|its|my)\s+", "", name.strip().lower())
    asked = re.sub(r"\s+", " ", asked.replace("colour", "color"))
    whole = re.compile(rf"\b{re.escape(asked)}s?\b")
    chosen = [
        group
        for group in alternatives(domain)
        if _TRAITS.get(asked) in group
        or any(whole.search(text) for entry in group for text in (entry, sentence(domain, entry)))
    ]
    if chosen and not whole.search(domain.neutral):
        return [[sentence(domain, e) for e in group if not e.startswith("no ")] for group in chosen]
    noun = re.sub(r"^(an?|the)\s+", "", domain.neutral, flags=re.IGNORECASE)
    described = re.search(rf"\b{re.escape(noun)}\b", name, re.IGNORECASE)
    return [[name if described else f"{domain.neutral} with {name}"]]
