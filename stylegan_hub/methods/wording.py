"""What words ask for: a removal and a comparison are changes between two texts.

CLIP reads "a face without a hat" much as "a face with a hat": a negation weighs little in what it
has learned from. But it can tell a face with a hat from a face, so a removal is the change from the
one to the other, and "less angry" the change from "an angry face" to "a face".
"""

from __future__ import annotations

import re
from dataclasses import replace

from stylegan_hub.methods.requests import Words

_POLITE = r"(?:please |can you |could you |just )*"
_OWNER = r"(?:the |his |her |their |its |my |your |this |that |all |any |a |an )*"
_VERB = r"(?:remove|delete|drop|erase|lose|ditch|strip|hide|get rid of|do away with|shave)"
_PARTED = r"(?:take|cut|shave|pull|wipe|put|throw)"
# Each with the groups `thing` and, where the text has one, `subject`.
_REMOVALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_POLITE}{_VERB} (?:off )?{_OWNER}(?P<thing>.+?)$",
        rf"^{_POLITE}{_PARTED} (?:off|away) {_OWNER}(?P<thing>.+?)$",
        rf"^{_POLITE}{_PARTED} {_OWNER}(?P<thing>.+?) (?:off|away)$",
        rf"^(?P<subject>.*?)\b(?:without|with no|wearing no|not wearing|having no|(?:who )?has no) "
        rf"{_OWNER}(?P<thing>.+?)$",
        rf"^(?:no more|no longer|no|not) {_OWNER}(?P<thing>.+?)$",
        rf"^fewer {_OWNER}(?P<thing>.+?)$",
    )
)
_LESS = re.compile(rf"^{_POLITE}(?:make \w+ )?(?:look )?(?:less|not so|not) (?P<how>[\w-]+)$", re.I)
_COMPARED = {
    "younger": ("young", "old"),
    "less old": ("young", "old"),
    "older": ("old", "young"),
    "less young": ("old", "young"),
    "happier": ("happy", "sad"),
    "sadder": ("sad", "happy"),
    "calmer": ("calm", "angry"),
    "darker": ("dark", "light"),
    "lighter": ("light", "dark"),
}
# Words of one thing that take no article, beside plurals.
_UNCOUNTED = {"hair", "makeup", "make-up", "lipstick", "jewelry", "stubble", "headwear", "eyewear"}
_ADJECTIVES = ("ed", "ing", "y", "ful", "less", "ish", "ic")


def reading(words: Words, neutral: str) -> Words:
    """The request with a removal or a comparison said as the change between two texts.

    Other words, and those that come with a neutral text of their own, stay as they are.

    Args:
        neutral: what all pictures of the domain show, "a face".
    """
    text = words.text.rstrip(".! ")
    if words.neutral is not None:
        return words
    bare = re.sub(rf"^{_POLITE}(?:make \w+ |look )*", "", text, flags=re.IGNORECASE).lower()
    if bare in _COMPARED:
        target, origin = (_described(how, neutral) for how in _COMPARED[bare])
        return replace(words, said=words.text, text=target, neutral=origin)
    if less := _LESS.match(text):
        how = less["how"].lower()
        if how.endswith(_ADJECTIVES) or how in {"old", "sad", "angry", "young", "pale", "dark"}:
            return replace(words, said=words.text, text=neutral, neutral=_described(how, neutral))
    for pattern in _REMOVALS:
        if found := pattern.match(text):
            subject = (found.groupdict().get("subject") or "").strip(" ,") or neutral
            return replace(
                words,
                said=words.text,
                text=subject,
                neutral=f"{subject} with {_thing(found['thing'])}",
            )
    return words


def _described(how: str, neutral: str) -> str:
    """A neutral text with an adjective: "an angry face" of "angry" and "a face"."""
    noun = re.sub(r"^(?:an?|the)\s+", "", neutral, flags=re.IGNORECASE)
    return f"{_article(how)} {how} {noun}"


def _thing(name: str) -> str:
    """A thing with its article, where it takes one."""
    name = name.strip()
    last = name.split()[-1].lower()
    if last in _UNCOUNTED or (last.endswith("s") and not last.endswith("ss")):
        return name
    return f"{_article(name)} {name}"


def _article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"
