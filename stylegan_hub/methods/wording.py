"""Read what words ask for: a removal or comparison becomes two texts, a command becomes a caption.

CLIP treats "a face without a hat" much like "a face with a hat", since negations had little weight
in its training. But it can tell a face with a hat from a face, so a removal becomes the change from
the first to the second, and "less angry" the change from "an angry face" to "a face". CLIP was
trained on captions, not commands, so "give her a hat" is read as "a face with a hat", and "make the
hair red" as "a face with red hair".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from stylegan_hub.methods.requests import Words

_POLITE = r"(?:please |can you |could you |just )*"
_OWNER = r"(?:the |his |her |their |its |my |your |this |that |all |any |a |an )*"
_VERB = r"(?:remove|delete|drop|erase|lose|ditch|strip|hide|get rid of|do away with|shave)"
_PARTED = r"(?:take|cut|shave|pull|wipe|put|throw)"
# Each has the group `thing`, and `subject` if the text has one.
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
_WHOM = r"(?:him|her|them|it|me|us|everyone|everybody|the face|the person)"
_ADDITION = re.compile(
    rf"^{_POLITE}(?:add|wear|draw|give {_WHOM}|put on|put|grow(?= an? )|"
    rf"let {_WHOM} (?:have|wear|grow)) "
    r"(?P<thing>.+?)(?: on(?: (?:him|her|it|them))?| to (?:him|her|it|them))?$",
    re.IGNORECASE,
)
_MADE = re.compile(
    rf"^{_POLITE}(?:make|turn|let) {_WHOM} (?:look |be )?(?P<how>[\w-]+)$", re.IGNORECASE
)
_COLORED = re.compile(
    rf"^{_POLITE}(?:make|dye|paint|color|colour|turn) {_OWNER}"
    r"(?P<part>hair|eyes|lips|skin|beard|background|shirt|clothes) (?P<how>[\w-]+)$",
    re.IGNORECASE,
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
# What a face can be made to do; CLIP understands "make him smile" without another reading.
_VERBS = {"smile", "laugh", "cry", "frown", "sleep", "scream", "grin", "blink", "wink", "gasp"}
# Nouns that take no article, besides plurals.
_UNCOUNTED = {
    "hair",
    "makeup",
    "make-up",
    "lipstick",
    "jewelry",
    "stubble",
    "headwear",
    "eyewear",
    "skin",
    "clothes",
}
_ADJECTIVES = ("ed", "ing", "y", "ful", "less", "ish", "ic")
_PLAIN_ADJECTIVES = {"old", "sad", "angry", "young", "pale", "dark"}
_LEAD = re.compile(rf"^{_POLITE}(?:make \w+ |look )*", re.IGNORECASE)
_BETWEEN = re.compile(r"(\s*[,;+&]\s*(?:and\s+|but\s+)?|\s+(?:and|but|plus|or)\s+)", re.IGNORECASE)
_NEGATED = re.compile(r"^(?:without|with no|no|not|remove|take off)\b", re.IGNORECASE)
# Adjectives that share the noun after them: "red and curly hair" is red hair and curly hair.
_SHARING = re.compile(
    r"^(?:(?:very|dark|light|bright)\s+)?(?:red|blonde?|black|brown|gr[ae]y|white|purple|pink|green|blue|"
    r"long|short|curly|straight|wavy|spiky|thick|thin|dark|light)$",
    re.IGNORECASE,
)
_SHARED = re.compile(r"\b(hair|eyes|skin|lips|eyebrows|background|shirt|clothes)$", re.IGNORECASE)


def rules() -> dict[str, Any]:
    """The patterns and lists by which texts are read, as plain values for other languages.

    Patterns have named groups in the form `(?<name>`; all of them ignore case.
    """

    def plain(pattern: str | re.Pattern[str]) -> str:
        source = pattern if isinstance(pattern, str) else pattern.pattern
        return source.replace("(?P<", "(?<")

    single: dict[str, str | re.Pattern[str]] = {
        "addition": _ADDITION,
        "made": _MADE,
        "colored": _COLORED,
        "less": _LESS,
        "between": _BETWEEN,
        "negated": _NEGATED,
        "sharing": _SHARING,
        "shared": _SHARED,
        "lead": _LEAD,
        "owner": rf"^{_OWNER}",
    }
    return {
        **{name: plain(pattern) for name, pattern in single.items()},
        "removals": [plain(pattern) for pattern in _REMOVALS],
        "compared": {how: list(pair) for how, pair in _COMPARED.items()},
        "verbs": sorted(_VERBS),
        "uncounted": sorted(_UNCOUNTED),
        "adjectives": list(_ADJECTIVES),
        "plain_adjectives": sorted(_PLAIN_ADJECTIVES),
    }


def reading(words: Words, neutral: str) -> Words:
    """The request with a removal, comparison or command turned into texts that CLIP understands.

    Other words, and requests that have their own neutral text, stay as they are.

    Args:
        neutral: what all pictures of the domain show, "a face".
    """
    text = words.text.rstrip(".! ")
    if words.neutral is not None:
        return words
    bare = _LEAD.sub("", text).lower()
    if bare in _COMPARED:
        target, origin = (_described(how, neutral) for how in _COMPARED[bare])
        return replace(words, said=words.text, text=target, neutral=origin)
    if less := _LESS.match(text):
        how = less["how"].lower()
        if how.endswith(_ADJECTIVES) or how in _PLAIN_ADJECTIVES:
            return replace(
                words,
                said=words.text,
                text=neutral,
                neutral=_described(how, neutral),
                removal=True,
            )
    for pattern in _REMOVALS:
        if found := pattern.match(text):
            subject = (found.groupdict().get("subject") or "").strip(" ,") or neutral
            return replace(
                words,
                said=words.text,
                text=subject,
                neutral=f"{subject} with {_thing(found['thing'])}",
                removal=True,
            )
    return _wish(words, text, neutral)


def _wish(words: Words, text: str, neutral: str) -> Words:
    """A command as a caption of the pictures that it asks for; other words stay as they are."""
    if added := _ADDITION.match(text):
        bare = re.sub(rf"^{_OWNER}", "", added["thing"], flags=re.IGNORECASE)
        return replace(words, said=words.text, text=f"{neutral} with {_thing(bare)}")
    if colored := _COLORED.match(text):
        thing = _thing(f"{colored['how']} {colored['part'].lower()}")
        return replace(words, said=words.text, text=f"{neutral} with {thing}")
    if (made := _MADE.match(text)) and made["how"].lower() not in _VERBS:
        return replace(words, said=words.text, text=_described(made["how"].lower(), neutral))
    return words


def parts(text: str) -> list[str]:
    """The single changes in a text: "older, smiling, with glasses" has three.

    Shared words are repeated: "red and curly hair" is "red hair" and "curly hair", "without a hat
    or glasses" is "without a hat" and "without glasses".
    """
    # Single spaces: on a long run of them, the expression would take quadratic time.
    pieces = _BETWEEN.split(" ".join(text.split()).rstrip(".!;, "))
    found: list[str] = []
    for piece, between in zip(pieces[::2], ["", *pieces[1::2]], strict=True):
        piece = piece.strip()
        if not piece:
            continue
        if found and between.strip().lower() == "or" and (negated := _NEGATED.match(found[-1])):
            piece = f"{negated[0]} {piece}"
        elif found and _SHARING.match(found[-1]) and (shared := _SHARED.search(piece)):
            found[-1] = f"{found[-1]} {shared[0]}"
        found.append(piece)
    return found


def _described(how: str, neutral: str) -> str:
    """A neutral text with an adjective: "an angry face" from "angry" and "a face"."""
    noun = re.sub(r"^(?:an?|the)\s+", "", neutral, flags=re.IGNORECASE)
    return f"{_article(how)} {how} {noun}"


def _thing(name: str) -> str:
    """A thing with its article, if it takes one."""
    name = name.strip()
    last = name.split()[-1].lower()
    if last in _UNCOUNTED or (last.endswith("s") and not last.endswith("ss")):
        return name
    return f"{_article(name)} {name}"


def _article(word: str) -> str:
    return "an" if word[0].lower() in "aeiou" else "a"
