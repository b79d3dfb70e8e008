"""Read what words ask for: a removal or comparison becomes two texts, a command becomes a caption.

CLIP treats "a face without a hat" much like "a face with a hat", since negations had little weight
in its training. But it can tell a face with a hat from a face, so a removal becomes the change from
the first to the second, and "less angry" the change from "an angry face" to "a face". CLIP was
trained on captions, not commands, so "give her a hat" is read as "a face with a hat", and "make the
hair red" as "a face with red hair".

Quotes, emoji and politeness are removed first, and idioms are put in plain words: "shave him" is
"no beard". Then the single changes are separated, and each is read alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from stylegan_hub.methods.requests import Words

_POLITE = r"(?:please,? |(?:can|could|would|will) you |just |now |let's )*"
_OWNER = r"(?:the |his |her |their |its |my |your |this |that |all |any |a |an )*"
_PERSON = r"(?:face|person|man|woman|guy|girl|boy|lady|child|kid|portrait)"
_WHOM = (
    r"(?:him|her(?! )|them|it|me|us|everyone|everybody|(?:the|this|that) "
    rf"{_PERSON}|him|her)"
)
_DEGREE = (
    r"(?:a (?:little bit|little|bit|lot|touch|tad) |slightly |somewhat |much |far |way |even |"
    r"really |still |lots |quite )*"
)
# What may stand before a comparison: "please make him look a bit".
_LEAD = (
    rf"{_POLITE}(?:make {_WHOM} |make (?:him |her |them |it )?|look |be |become |get (?!rid )|"
    rf"(?:he|she|they) should (?:be |look )?)*{_DEGREE}"
)
_VERB = r"(?:remove|delete|drop|erase|lose|ditch|strip|hide|get rid of|do away with|shave)"
_PARTED = r"(?:take|cut|shave|pull|wipe|put|throw)"
_NOT = (
    r"(?:not so|not as|not too|not|no longer|no more|never|(?:is|are|does|do|should)(?: not|n't)|"
    r"stop)(?: be| being| look| looking)?"
)
_WITHOUT = (
    r"(?:without|with no|wearing no|not wear(?:ing)?|having no|(?:who )?has no|"
    r"(?:who )?(?:does not|doesn't) (?:have|wear))"
)
# Each has the group `thing`, and `subject` if the text has one.
_REMOVALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_POLITE}{_VERB} (?:off )?{_OWNER}(?P<thing>.+?)$",
        rf"^{_POLITE}{_PARTED} (?:off|away) {_OWNER}(?P<thing>.+?)$",
        rf"^{_POLITE}{_PARTED} {_OWNER}(?P<thing>.+?) (?:off|away)$",
        rf"^(?P<subject>.*?)\b{_WITHOUT} {_OWNER}(?P<thing>.+?)$",
        rf"^(?:no more|no longer|no|not) {_OWNER}(?P<thing>.+?)$",
        rf"^fewer {_OWNER}(?P<thing>.+?)$",
    )
)
# Idioms and what they say in plain words; applied one after the other.
_REWRITES = tuple(
    (re.compile(pattern, re.IGNORECASE), plain)
    for pattern, plain in (
        (r"^(?:can i|i want to|i want|i(?:'d| would) like to|i(?:'d| would) like) "
         r"(?:have |get |see )?", ""),
        (r"\bsalt and pepper\b", "salt-and-pepper"),
        (rf"^{_POLITE}shave (?:him|her|them|me|it|(?:the|this|that) {_PERSON})$", "no beard"),
        (r"^(?:clean[- ]shaven|beardless)$", "no beard"),
        (rf"^{_POLITE}shave (?:off )?{_OWNER}(?:head|skull)(?: bald)?$|^hairless$", "bald"),
        (r"^hatless$", "no hat"),
        (r"^([\w ]+?)[- ]free$", r"no \1"),
        (rf"^{_POLITE}cheer (?:{_WHOM} )?up$", "happy"),
        (rf"^{_POLITE}calm (?:{_WHOM} )?down$", "calm"),
        (r"^non?-(?=\w)", "no "),
        (r"^neither (.+?) n?or (.+)$", r"no \1, no \2"),
        (r"^not (?:without|with no) (.+)$", r"with \1"),
        (
            rf"^{_POLITE}(?:swap|replace|exchange|trade) {_OWNER}(.+?) (?:for|with|by) (.+)$",
            r"no \1, add \2",
        ),
        (r"^(.+?),? instead of (.+)$", r"\1, no \2"),
        (rf"^{_POLITE}take ((?:(?! off\b).)+) off$", r"remove \1"),
        (rf"^(?!{_POLITE}(?:{_PARTED}|turn|show) ){_OWNER}([\w-]+(?: [\w-]+)?) (?:off|gone)$",
         r"no \1"),
        (r"^(no .+) on$", r"\1"),
    )
)  # fmt: skip
_ADDITION = re.compile(
    rf"^{_POLITE}(?:add|wear|draw|give {_WHOM}|put on|put|grow(?= an? )|"
    rf"let {_WHOM} (?:have|wear|grow)) "
    r"(?P<thing>.+?)(?: on(?: (?:him|her|it|them))?| to (?:him|her|it|them))?$",
    re.IGNORECASE,
)
_MADE = re.compile(
    rf"^{_POLITE}(?:make|turn|let) {_WHOM} (?:look |be )?{_DEGREE}(?P<how>[\w-]+)$", re.IGNORECASE
)
_PARTS = r"(?P<part>hair|eyes|lips|skin|beard|background|shirt|clothes)"
_COLORED = re.compile(
    rf"^{_POLITE}(?:make|dye|paint|color|colour|turn|change) {_OWNER}"
    rf"{_PARTS}(?: colou?r)? (?:to |into )?(?P<how>[\w-]+)$",
    re.IGNORECASE,
)
_SHAPED = re.compile(
    rf"^{_POLITE}(?:make|turn|change) {_OWNER}{_PARTS} (?:to |into )?(?P<thing>an? .+)$",
    re.IGNORECASE,
)
_LESS = re.compile(
    rf"^{_LEAD}(?:an? )?(?:{_PERSON} (?:that|who) )?"
    rf"(?:(?P<more>more)|(?P<less>less(?: of an?)?)|(?P<no>no)|{_NOT}) (?P<how>[\w-]+)"
    rf"(?: {_PERSON})?$",
    re.IGNORECASE,
)
_COMPARED = {
    "younger": ("young", "old"),
    "less old": ("young", "old"),
    "older": ("old", "young"),
    "less young": ("old", "young"),
    "happier": ("happy", "sad"),
    "sadder": ("sad", "happy"),
    "calmer": ("calm", "angry"),
    "angrier": ("angry", "calm"),
    "darker": ("dark", "light"),
    "lighter": ("light", "dark"),
    "brighter": ("bright", "dark"),
    "paler": ("pale", "dark"),
    "longer": ("long", "short"),
    "shorter": ("short", "long"),
    "curlier": ("curly", "straight"),
    "straighter": ("straight", "curly"),
    "thicker": ("thick", "thin"),
    "thinner": ("thin", "thick"),
    "bigger": ("big", "small"),
    "larger": ("large", "small"),
    "smaller": ("small", "large"),
    "wider": ("wide", "narrow"),
    "narrower": ("narrow", "wide"),
}
_COMPARATIVE = r"(?P<how>{})".format("|".join(how for how in _COMPARED if " " not in how))
# "longer hair", "make her hair a bit longer".
_COMPARED_PARTS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_LEAD}(?:(?:give {_WHOM}|with|add) )?{_OWNER}{_DEGREE}{_COMPARATIVE} "
        r"(?P<part>[\w-]+)$",
        rf"^{_POLITE}(?:make )?{_OWNER}(?P<part>[\w-]+) (?:look )?{_DEGREE}{_COMPARATIVE}$",
    )
)
# What a face can be made to do, and the word for a face that does it.
_VERBS = {
    "smile": "smiling",
    "laugh": "laughing",
    "cry": "crying",
    "frown": "frowning",
    "sleep": "sleeping",
    "scream": "screaming",
    "grin": "grinning",
    "blink": "blinking",
    "wink": "winking",
    "gasp": "gasping",
}
_DOING = re.compile(
    rf"^{_LEAD}(?P<how>{'|'.join(_VERBS)}) {_DEGREE}(?:more|(?P<less>less))$", re.IGNORECASE
)
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
_PLAIN_ADJECTIVES = {
    "old",
    "sad",
    "angry",
    "young",
    "pale",
    "dark",
    "bald",
    "blonde",
    "blond",
    "calm",
    "wide",
    "narrow",
}
# Nouns that end like adjectives.
_NOUNS = {"earring", "ring", "piercing", "clothing", "body", "everything", "nothing"}
_BARE = re.compile(rf"^{_LEAD}", re.IGNORECASE)
_BETWEEN = re.compile(
    r"(\s*[,;+&]\s*(?:and\s+|but\s+|or\s+|nor\s+)?|\s+(?:and|but|plus|or|nor)\s+)", re.IGNORECASE
)
_COMMANDED = rf"{_POLITE}(?:{_VERB}(?: off)?|{_PARTED} (?:off|away))"
_NEGATED = re.compile(rf"^(?:no|not|{_COMMANDED})\b|\b(?:without|with no)\b", re.IGNORECASE)
# A list goes on after "remove" and "without", but not after "no": "no hat and glasses" has glasses.
_GOES_ON = re.compile(rf"^{_COMMANDED}$|^without$", re.IGNORECASE)
_NAMED = re.compile(
    r"^(?:(?:the|his|her|their|its|my|your|an?|any|all) [\w-]+(?: [\w-]+)?|[\w-]+)$", re.IGNORECASE
)
# Adjectives that share the noun after them: "red and curly hair" is red hair and curly hair.
_SHARING = re.compile(
    r"^(?:(?:very|dark|light|bright)\s+)?(?:red|blonde?|black|brown|gr[ae]y|white|purple|pink|green|blue|"
    r"long|short|curly|straight|wavy|spiky|thick|thin|dark|light)$",
    re.IGNORECASE,
)
_SHARED = re.compile(r"\b(hair|eyes|skin|lips|eyebrows|background|shirt|clothes)$", re.IGNORECASE)
_KEPT = re.compile(
    rf"^(?P<rest>.+?)(?:,|;| and| but)*,? (?:without (?:removing|changing|touching|losing)|"
    rf"keep(?:ing)?|(?:do not|don't) (?:remove|change|touch)) {_OWNER}(?P<kept>.+?)"
    r"(?: alone| as (?:it is|they are|is))?$",
    re.IGNORECASE,
)
# Quotes, emoji and what only sounds polite.
_QUOTES = '"“”„«»`'
_EMOJI = re.compile("[\u2600-\u27bf\U0001f000-\U0001faff\ufe0f\u200d]")
_LETTER = re.compile(r"[^\W\d_]")
_DANGLING = re.compile(  # the word that follows is an emoji: "remove the [hat]"
    r"\b(?:the|an?|his|her|their|my|your|no|not|with|without|and|or|remove|add)$", re.IGNORECASE
)
_ENDING = re.compile(r"(?:[\s.!?…,;:]+|,?\s+(?:please|pls|thanks|thank you))+$", re.IGNORECASE)


@dataclass(frozen=True)
class _Change:
    """One change: what is there afterwards, what is there now, and whether that goes away."""

    text: str
    neutral: str | None = None
    removal: bool = False


def rules() -> dict[str, Any]:
    """The patterns and lists by which texts are read, as plain values for other languages.

    Patterns have named groups in the form `(?<name>`, and rewrites refer to groups as `$1`; all of
    them ignore case.
    """

    def plain(pattern: str | re.Pattern[str]) -> str:
        source = pattern if isinstance(pattern, str) else pattern.pattern
        return source.replace("(?P<", "(?<")

    single: dict[str, str | re.Pattern[str]] = {
        "addition": _ADDITION,
        "made": _MADE,
        "colored": _COLORED,
        "shaped": _SHAPED,
        "less": _LESS,
        "doing": _DOING,
        "between": _BETWEEN,
        "negated": _NEGATED,
        "goes_on": _GOES_ON,
        "named": _NAMED,
        "sharing": _SHARING,
        "shared": _SHARED,
        "kept": _KEPT,
        "bare": _BARE,
        "emoji": _EMOJI,
        "letter": r"\p{L}",
        "dangling": _DANGLING,
        "ending": _ENDING,
        "owner": rf"^{_OWNER}",
    }
    return {
        **{name: plain(pattern) for name, pattern in single.items()},
        "removals": [plain(pattern) for pattern in _REMOVALS],
        "rewrites": [
            [plain(pattern), re.sub(r"\\(\d)", r"$\1", said)] for pattern, said in _REWRITES
        ],
        "compared": {how: list(pair) for how, pair in _COMPARED.items()},
        "compared_parts": [plain(pattern) for pattern in _COMPARED_PARTS],
        "verbs": _VERBS,
        "uncounted": sorted(_UNCOUNTED),
        "adjectives": list(_ADJECTIVES),
        "plain_adjectives": sorted(_PLAIN_ADJECTIVES),
        "nouns": sorted(_NOUNS),
        "quotes": _QUOTES,
    }


def reading(words: Words, neutral: str) -> Words:
    """The request with removals, comparisons and commands turned into texts that CLIP understands.

    What the text says to keep ("add a hat, but keep the glasses") is added to `keep`. Other words,
    and requests that have their own neutral text, stay as they are.

    Args:
        neutral: what all pictures of the domain show, "a face".
    """
    if words.neutral is not None:
        return words
    text, kept = _without_kept(_tidy(words.text))
    changes = [_single(one, neutral) for one in _separated(text)]
    if len(changes) > 1 and not any(change.removal for change in changes):
        changes = [_Change(text)]  # CLIP understands an enumeration
    change = changes[0] if len(changes) == 1 else _together(changes, neutral)
    keep = tuple(dict.fromkeys((*words.keep, *kept)))
    if change == _Change(text) and not kept and text == words.text.rstrip(".! "):
        return words
    return replace(words, said=words.text, keep=keep, **vars(change))


def parts(text: str) -> list[str]:
    """The single changes in a text: "older, smiling, with glasses" has three.

    Shared words are repeated: "red and curly hair" is "red hair" and "curly hair", "without a hat
    or glasses" is "without a hat" and "without glasses". What should be kept is kept by each.
    """
    said = text.strip(" \t\n.!;,")
    plain, kept = _without_kept(_tidy(said)) if said else ("", ())
    found = _separated(plain)
    if len(found) < 2:
        return [said] if found else []
    return [f"{one}, keeping {' and '.join(kept)}" for one in found] if kept else found


def _tidy(text: str) -> str:
    """The text without quotes, emoji and politeness, with idioms in plain words.

    A text in which nothing else is left stays as it is.
    """
    plain = text.translate(str.maketrans("\u2018\u2019", "''", _QUOTES))
    plain = re.sub(r"\s+", " ", plain).strip()
    spoken = re.sub(r"\s+", " ", _EMOJI.sub(" ", plain)).strip()
    if _LETTER.search(spoken) and not _DANGLING.search(spoken):
        plain = spoken
    plain = re.sub(r"^'(.+)'(?=\W*$)", r"\1", plain)
    plain = _ENDING.sub("", plain)
    for pattern, said in _REWRITES:
        plain = pattern.sub(said, plain)
    return plain or text.strip()


def _without_kept(text: str) -> tuple[str, tuple[str, ...]]:
    """The text, and the words in it that name what should be kept."""
    if found := _KEPT.match(text):
        things = re.split(r"\s*(?:,|;|&|\+|\band\b)\s*", found["kept"], flags=re.IGNORECASE)
        owner = re.compile(f"^{_OWNER}", re.IGNORECASE)
        return found["rest"], tuple(owner.sub("", one) for one in things)
    return text, ()


def _separated(text: str) -> list[str]:
    pieces = _BETWEEN.split(text)
    found: list[str] = []
    for index in range(0, len(pieces), 2):
        piece = pieces[index].strip()
        if not piece:
            continue
        negated = _NEGATED.search(found[-1]) if found else None
        if negated and _is_negated_too(negated[0], piece, pieces[index - 1 :: 2]):
            piece = f"{negated[0]} {piece}"
        elif found and _SHARING.match(found[-1]) and (shared := _SHARED.search(piece)):
            found[-1] = f"{found[-1]} {shared[0]}"
        found.append(piece)
    return found


def _is_negated_too(negation: str, piece: str, betweens: list[str]) -> bool:
    """Whether a negation also holds for the next piece: "without a hat or *glasses*".

    Args:
        betweens: the words before the piece and those before all later pieces.
    """
    if _NEGATED.search(piece) or not _NAMED.match(piece) or _says_how(piece):
        return False
    alternative = re.compile(r"\bn?or\b", re.IGNORECASE)
    if alternative.search(betweens[0]):
        return True
    listed = betweens[0].strip() == "," and any(alternative.search(one) for one in betweens)
    return bool(listed or _GOES_ON.match(negation)) and "but" not in betweens[0].lower()


def _says_how(word: str) -> bool:
    """Whether a word says what a face is or does ("smiling") instead of what it has ("glasses")."""
    word = word.lower()
    return word in _COMPARED or word in _VERBS or _is_adjective(word)


def _is_adjective(word: str) -> bool:
    if word in _UNCOUNTED | _NOUNS:
        return False
    return word in _PLAIN_ADJECTIVES or word.endswith(_ADJECTIVES)


def _single(text: str, neutral: str) -> _Change:
    """One change as texts that CLIP understands."""
    bare = _BARE.sub("", text)
    how = bare.lower()
    if how in _COMPARED:
        target, origin = (_described(one, neutral) for one in _COMPARED[how])
        return _Change(target, origin)
    for pattern in _COMPARED_PARTS:
        if found := pattern.match(text):
            pair = _COMPARED[found["how"].lower()]
            part = found["part"]
            target, origin = (f"{neutral} with {_thing(f'{one} {part}')}" for one in pair)
            return _Change(target, origin)
    if doing := _DOING.match(text):
        done = _described(_VERBS[doing["how"].lower()], neutral)
        return _Change(neutral, done, True) if doing["less"] else _Change(done)
    if (less := _LESS.match(text)) and (change := _more_or_less(less, neutral)):
        return change
    for pattern in _REMOVALS:
        if found := pattern.match(bare):
            subject = (found.groupdict().get("subject") or "").strip(" ,") or neutral
            return _Change(subject, f"{subject} with {_thing(found['thing'])}", True)
    return _wish(text, neutral)


def _more_or_less(found: re.Match[str], neutral: str) -> _Change | None:
    """The change of "more angry", "less hair", "not smiling"; None for "not a hat"."""
    how = found["how"].lower()
    known = how in _PLAIN_ADJECTIVES or how in _VERBS.values()
    if known or (not found["no"] and (how in _VERBS or _is_adjective(how))):
        shown = _described(_VERBS.get(how, how), neutral)
    elif found["more"] or found["less"]:
        shown = f"{neutral} with {_thing(how)}"
    else:
        return None
    return _Change(shown) if found["more"] else _Change(neutral, shown, True)


def _wish(text: str, neutral: str) -> _Change:
    """A command as a caption of the pictures that it asks for; other words stay as they are."""
    if added := _ADDITION.match(text):
        bare = re.sub(rf"^{_OWNER}", "", added["thing"], flags=re.IGNORECASE)
        return _Change(f"{neutral} with {_thing(bare)}")
    if shaped := _SHAPED.match(text):
        return _Change(f"{neutral} with {shaped['thing']}")
    if colored := _COLORED.match(text):
        thing = _thing(f"{colored['how']} {colored['part'].lower()}")
        return _Change(f"{neutral} with {thing}")
    if made := _MADE.match(text):
        how = made["how"].lower()
        return _Change(_described(_VERBS.get(how, how), neutral))
    return _Change(text)


def _together(changes: list[_Change], neutral: str) -> _Change:
    """Several changes as one: from all that goes away to all that comes."""
    wanted = [change.text for change in changes if change.text != neutral]
    gone = [change.neutral for change in changes if change.neutral]
    if wanted:
        return _Change(", ".join(dict.fromkeys(wanted)), ", ".join(dict.fromkeys(gone)))
    start = f"{neutral} with "
    if all(one.startswith(start) for one in gone):
        gone = [gone[0], *(one.removeprefix(start) for one in gone[1:])]
    return _Change(neutral, " and ".join(dict.fromkeys(gone)), True)


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
