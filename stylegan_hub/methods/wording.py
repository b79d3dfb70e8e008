"""Read what words ask for: a removal or comparison becomes two texts, a command becomes a caption.

CLIP treats "a face without a hat" much like "a face with a hat", since negations had little weight
in its training. But it can tell a face with a hat from a face, so a removal becomes the change from
the first to the second, and "less angry" the change from "an angry face" to "a face". CLIP was
trained on captions, not commands, so "give her a hat" is read as "a face with a hat", and "make the
hair red" as "a face with red hair".

Quotes, emoji and politeness are removed first, and idioms are put in plain words: "shave him" is
"no beard". Then the single changes are separated, and each is read alone. A text that names nothing
that could change, such as "remove everything", is refused: CLIP would turn it into some wild edit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from stylegan_hub.errors import MethodError
from stylegan_hub.methods.requests import Words

_POLITE = r"(?:please,? |(?:can|could|would|will) you |just |now |let's )*"
_OWNER = r"(?:the |his |her |their |its |my |your |this |that |all |any |a |an )*"
_OWNED = re.compile(rf"^{_OWNER}", re.IGNORECASE)
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
    r"(?:without|with no|wearing no|(?:(?:is|are)(?: not|n't)|not) wear(?:ing)?|having no|"
    r"(?:who )?(?:has|have|wears?) no|(?:who )?(?:does|do)(?: not|n't) (?:have|wear)|"
    r"minus|free of|lacking)"
)
# Each has the group `thing`, and `subject` if the text has one.
_REMOVALS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"^{_POLITE}{_VERB} (?:off )?{_OWNER}(?P<thing>.+?)$",
        rf"^{_POLITE}{_PARTED} (?:off|away) {_OWNER}(?P<thing>.+?)$",
        rf"^{_POLITE}{_PARTED} {_OWNER}(?P<thing>.+?) (?:off|away)$",
        rf"^(?P<subject>.*?)\b{_WITHOUT} {_OWNER}(?P<thing>.+?)$",
        rf"^(?:no more|no longer|no|not|zero) {_OWNER}(?P<thing>.+?)$",
        rf"^fewer {_OWNER}(?P<thing>.+?)$",
    )
)
_PARTS = r"(?:hair|eyes|lips|skin|beard|background|shirt|clothes)"
_LOST = rf"{_POLITE}(?:make {_WHOM} |let {_WHOM} )?(?:lose|losing|drop|shed|less|remove)"
_GAINED = rf"{_POLITE}(?:make {_WHOM} |let {_WHOM} )?(?:gain|gaining|put on|add|more)"
_WEIGHT = (
    r"(?:(?:some|a bit of|a lot of|a little|a few|lots of|much|the|her|his|their) )*"
    r"(?:weight|pounds|kilos|kilograms)"
)
# Idioms and what they say in plain words; applied one after the other.
_REWRITES = tuple(
    (re.compile(pattern, re.IGNORECASE), plain)
    for pattern, plain in (
        (r"^(?:can i|i want to|i want|i(?:'d| would) like to|i(?:'d| would) like) "
         r"(?:have |get |see )?", ""),
        (r"\bsalt and pepper\b", "salt-and-pepper"),
        (rf"^{_POLITE}shave(?: (?:him|her|them|me|it|(?:the|this|that) {_PERSON}))?$", "no beard"),
        (r"^(?:clean[- ]shaven|beardless)$", "no beard"),
        (rf"^{_POLITE}shave (?:off )?{_OWNER}(?:head|skull)(?: bald)?$|^hairless$", "bald"),
        (r"^hatless$", "no hat"),
        (r"^([\w]+)-less$", r"no \1"),
        (rf"^{_LOST} {_WEIGHT}$", "slimmer"),
        (rf"^{_GAINED} {_WEIGHT}$", "chubbier"),
        (r"^([\w ]+?)[- ]free$", r"no \1"),
        (rf"^{_POLITE}cheer (?:{_WHOM} )?up$", "happy"),
        (rf"^{_POLITE}calm (?:{_WHOM} )?down$", "calm"),
        (r"^non?-(?=\w)", "no "),
        (
            rf"^(.*?)\b(?:(?:with|wearing|having|(?:who )?(?:has|wears|is|looks)) )?neither "
            rf"{_OWNER}(.+?) n?or (.+)$",
            r"\1without \2 or \3",
        ),
        (r"^not (?:without|with no) (.+)$", r"with \1"),
        (
            rf"^{_POLITE}(?:swap|replace|exchange|trade) {_OWNER}(.+?) (?:for|with|by) (.+)$",
            r"no \1, add \2",
        ),
        (r"^(.+?),? instead of (.+)$", r"\1, no \2"),
        (rf"^{_POLITE}take ((?:(?! off\b).)+) off$", r"remove \1"),
        (r"^(no .+) on$", r"\1"),
    )
)  # fmt: skip
_ABSENT = r"(?:off|gone|removed)"
# A thing, and no verb: "hat", not "put hat".
_UNLED = (
    rf"(?!(?:{_PARTED}|turn|show|with|without|add|no|not|keep|leave|going|come|wear|try|has|have|"
    r"let|make|be|get|give|bring|hold|remove|please) )"
)
_LABEL = rf"^{_OWNER}([\w-]+(?: [\w-]+)?)(?: ?[:=?] ?| -+ )"
# The same for each single change: "hat off, beard on" has two.
_NOTES = tuple(
    (re.compile(pattern, re.IGNORECASE), plain)
    for pattern, plain in (
        (rf"{_LABEL}(?:none|no|off|0|zero|gone|removed|false|never)$", r"no \1"),
        (rf"{_LABEL}(?:yes|on|1|true|some)$", r"add \1"),
        (rf"^{_OWNER}({_PARTS})(?: colou?r)?(?: ?[:=] ?| -+ )([\w-]+)$", r"\2 \1"),
        (rf"^{_OWNER}([\w-]+(?: [\w-]+)?) none$", r"no \1"),
        (rf"^(?:(?:with|keep|leave) )?{_OWNER}{_UNLED}([\w-]+(?: [\w-]+)?) {_ABSENT}$",
         r"no \1"),
        (rf"^(?:with )?{_OWNER}{_UNLED}([\w-]+(?: [\w-]+)?) on$", r"add \1"),
    )
)  # fmt: skip
# What holds for all things before it: "hat and glasses off".
_FOR_ALL = re.compile(rf" (?:{_ABSENT}|on)$", re.IGNORECASE)
_ADDITION = re.compile(
    rf"^{_POLITE}(?:add|wear|draw|give {_WHOM}|put on|put|grow(?= an? )|"
    rf"let {_WHOM} (?:have|wear|grow)) "
    r"(?P<thing>.+?)(?: on(?: (?:him|her|it|them))?| to (?:him|her|it|them))?$",
    re.IGNORECASE,
)
_MADE = re.compile(
    rf"^{_POLITE}(?:make|turn|let) {_WHOM} (?:look |be )?{_DEGREE}(?P<how>[\w-]+)$", re.IGNORECASE
)
_COLORED = re.compile(
    rf"^{_POLITE}(?:make|dye|paint|color|colour|turn|change) {_OWNER}"
    rf"(?P<part>{_PARTS})(?: colou?r)? (?:to |into )?(?P<how>[\w-]+)$",
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
    "slimmer": ("slim", "chubby"),
    "skinnier": ("skinny", "chubby"),
    "leaner": ("lean", "chubby"),
    "chubbier": ("chubby", "slim"),
    "fatter": ("fat", "slim"),
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
_NOUNS = {
    "earring",
    "ring",
    "piercing",
    "clothing",
    "body",
    "chimney",
    "ivy",
    "everything",
    "nothing",
}
_BARE = re.compile(rf"^{_LEAD}", re.IGNORECASE)
_BETWEEN = re.compile(
    r"(\s*[,;+&]\s*(?:and\s+|but\s+|or\s+|nor\s+)?|\s+(?:and|but|plus|or|nor)\s+)", re.IGNORECASE
)
_COMMANDED = rf"{_POLITE}(?:{_VERB}(?: off)?|{_PARTED} (?:off|away))"
_NEGATED = re.compile(rf"^.*?\b{_WITHOUT}\b|^(?:no|not|zero|{_COMMANDED})\b", re.IGNORECASE)
# A list goes on after "remove" and "without". After "no" it does so only with bare nouns: "no hat
# and glasses" has neither, "no hat and a beard" has a beard.
_GOES_ON = re.compile(
    rf"^{_COMMANDED}$|\b(?:without|wear(?:ing)?|minus|free of|lacking)$", re.IGNORECASE
)
_BY_COMMAND = re.compile(rf"^{_COMMANDED}$", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"\bn?or\b", re.IGNORECASE)
_BARE_NOUN = re.compile(r"^(?:any )?[\w-]+$", re.IGNORECASE)
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
# Texts that name nothing that could change, and things that are nothing in particular.
_UNNAMED = re.compile(
    rf"^{_POLITE}(?:(?!shave){_VERB}|{_PARTED} (?:off|away)|add|wear|put on|give {_WHOM}|no|not|"
    r"without|with|less|more|fewer|none|nothing|everything|anything|"
    r"(?:undo|reset|clear|restore|revert|start over)"
    r"(?: (?:it|all|that|this|them|everything|the|edits?|changes|face|picture))*)$",
    re.IGNORECASE,
)
_VAGUE = re.compile(
    r"^(?:(?:just )?(?:everything|anything|nothing|all|it all|them all|of (?:it|them|this|that))|"
    r"it|them|him|her|me|us|you|this|that|these|those|things?|stuff)"
    r"(?: (?:else|but|except|all|on|in|at|of|from|around|about|there|here|that|you|which|off)\b"
    r".*)?$|"
    r"^(?:but|except)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"^(?:he|she|they|it|i|we|you)$", re.IGNORECASE)
_ARTICLE = re.compile(r"^(?:an?|the)\s+", re.IGNORECASE)
_WHOLE = re.compile(rf"^(?:{_PERSON}|head|person)$", re.IGNORECASE)
_UNNAMED_ERROR = (
    "Got “{text}”, which names nothing that could change.",
    "Name what should go or come, such as “remove the hat” or “add glasses”. To undo all edits, "
    "start over.",
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

    def rewrites(pairs: Iterable[tuple[re.Pattern[str], str]]) -> list[list[str]]:
        return [[plain(pattern), re.sub(r"\\(\d)", r"$\1", said)] for pattern, said in pairs]

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
        "by_command": _BY_COMMAND,
        "alternative": _ALTERNATIVE,
        "bare_noun": _BARE_NOUN,
        "for_all": _FOR_ALL,
        "unnamed": _UNNAMED,
        "vague": _VAGUE,
        "whole": _WHOLE,
        "pronoun": _PRONOUN,
        "article": _ARTICLE,
        "named": _NAMED,
        "sharing": _SHARING,
        "shared": _SHARED,
        "kept": _KEPT,
        "bare": _BARE,
        "emoji": _EMOJI,
        "letter": r"\p{L}",
        "dangling": _DANGLING,
        "ending": _ENDING,
        "owner": _OWNED,
    }
    return {
        **{name: plain(pattern) for name, pattern in single.items()},
        "removals": [plain(pattern) for pattern in _REMOVALS],
        "rewrites": rewrites(_REWRITES),
        "notes": rewrites(_NOTES),
        "unnamed_error": " ".join(_UNNAMED_ERROR),
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

    Raises:
        MethodError: the text names nothing that could change, "remove everything".
    """
    if words.neutral is not None:
        return words
    text, kept = _without_kept(_tidy(words.text))
    pieces = _separated(text)
    changes = [_single(one, neutral) for one in pieces]
    is_caption = all(_plain(one) == one for one in pieces)
    if len(changes) > 1 and is_caption and not any(change.removal for change in changes):
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
    found = [_plain(one) for one in _separated(plain)]
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
        return found["rest"], tuple(_OWNED.sub("", one) for one in things)
    return text, ()


def _separated(text: str) -> list[str]:
    """The single changes in a text, each with the words that it shares with others."""
    pieces = _BETWEEN.split(text)
    found: list[str] = []
    for index in range(0, len(pieces), 2):
        piece = (_ENDING.sub("", pieces[index]) or pieces[index]).strip()
        if not piece:
            continue
        negated = _NEGATED.search(found[-1]) if found else None
        if negated and _is_negated_too(negated[0], piece, pieces[index - 1 :]):
            piece = f"{negated[0]} {piece}"
        elif found and _SHARING.match(found[-1]) and (shared := _SHARED.search(piece)):
            found[-1] = f"{found[-1]} {shared[0]}"
        elif found and (shared := _FOR_ALL.search(piece)) and pieces[index - 1].strip() != ",":
            _share_backwards(found, shared[0])
        found.append(piece)
    return found


def _share_backwards(found: list[str], ending: str) -> None:
    """Give an ending to the named things at the end of a list: "hat, *beard* and glasses off"."""
    for index in reversed(range(len(found))):
        if not _NAMED.match(found[index]) or _says_how(found[index]):
            return
        found[index] += ending


def _plain(piece: str) -> str:
    """A single change, with idioms in plain words."""
    for pattern, said in _NOTES:
        piece = pattern.sub(said, piece)
    return piece


def _is_negated_too(negation: str, piece: str, rest: list[str]) -> bool:
    """Whether a negation also holds for the next piece: "without a hat or *glasses*".

    Args:
        rest: the words before the piece, the piece, the words after it, and so on.
    """
    if _NEGATED.search(piece) or _FOR_ALL.search(piece) or not _NAMED.match(piece):
        return False
    at = next((i for i in range(0, len(rest), 2) if rest[i].strip() != ","), None)
    if at is not None and _ALTERNATIVE.search(rest[at]):
        return not (_BY_COMMAND.match(negation) and _says_how(piece))
    if _says_how(piece) or "but" in rest[0].lower():
        return False
    if _GOES_ON.search(negation):
        return True
    nouns = rest[1 : at + 2 : 2] if at is not None else ()
    return bool(nouns) and all(
        _BARE_NOUN.match(n.strip()) and not _says_how(n.strip()) for n in nouns
    )


def _says_how(word: str) -> bool:
    """Whether a word says what a face is or does ("smiling") instead of what it has ("glasses")."""
    word = word.lower()
    return word in _COMPARED or word in _VERBS or _is_adjective(word)


def _is_adjective(word: str) -> bool:
    if word in _UNCOUNTED | _NOUNS:
        return False
    return word in _PLAIN_ADJECTIVES or word.endswith(_ADJECTIVES)


def _single(text: str, neutral: str) -> _Change:
    """One change as texts that CLIP understands.

    Raises:
        MethodError: it names nothing that could change.
    """
    said, text = text, _plain(text)
    if _UNNAMED.match(text):
        raise _unnamed(said)
    bare = _BARE.sub("", text)
    how = bare.lower()
    if how in _COMPARED:
        target, origin = (_described(one, neutral) for one in _COMPARED[how])
        return _Change(target, origin)
    for pattern in _COMPARED_PARTS:
        if found := pattern.match(text):
            pair = _COMPARED[found["how"].lower()]
            part = found["part"]
            target, origin = (_having(one, part, neutral) for one in pair)
            return _Change(target, origin)
    if doing := _DOING.match(text):
        done = _described(_VERBS[doing["how"].lower()], neutral)
        return _Change(neutral, done, True) if doing["less"] else _Change(done)
    if (less := _LESS.match(text)) and (change := _more_or_less(less, neutral)):
        return change
    for pattern in _REMOVALS:
        if found := pattern.match(bare):
            subject = (found.groupdict().get("subject") or "").strip(" ,")
            if not subject or _PRONOUN.match(subject):
                subject = neutral
            thing = found["thing"]
            if _VAGUE.match(thing) or _is_whole(thing, neutral):
                raise _unnamed(said)
            how = thing.lower()
            if how in _PLAIN_ADJECTIVES or how in _VERBS.values() or how.endswith("ed"):
                return _Change(subject, _described(thing, subject), True)
            return _Change(subject, f"{subject} with {_thing(thing)}", True)
    if (added := _ADDITION.match(text)) and _VAGUE.match(_OWNED.sub("", added["thing"])):
        raise _unnamed(said)
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
        return _Change(f"{neutral} with {_thing(_OWNED.sub('', added['thing']))}")
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
    if len(set(wanted)) == 1 and all(change.removal for change in changes):
        neutral, wanted = wanted[0], []  # "a man without a hat or a beard"
    if wanted:
        return _Change(", ".join(dict.fromkeys(wanted)), ", ".join(dict.fromkeys(gone)) or None)
    start = f"{neutral} with "
    if all(one.startswith(start) for one in gone):
        gone = [gone[0], *(one.removeprefix(start) for one in gone[1:])]
    return _Change(neutral, " and ".join(dict.fromkeys(gone)), True)


def _unnamed(text: str) -> MethodError:
    message, remedy = _UNNAMED_ERROR
    return MethodError(
        message.format(text=text), got=text, expected="what should change", remedy=remedy
    )


def _is_whole(thing: str, neutral: str) -> bool:
    """Whether a thing is all that the pictures show: "the face" of "a face"."""
    shown = _ARTICLE.sub("", neutral)
    return thing.lower() == shown.lower() or bool(_WHOLE.match(shown) and _WHOLE.match(thing))


def _having(how: str, part: str, neutral: str) -> str:
    """A neutral text with a part that is as described, or described as a whole."""
    if _is_whole(part, neutral):
        return _described(how, neutral)
    return f"{neutral} with {_thing(f'{how} {part}')}"


def _described(how: str, neutral: str) -> str:
    """A neutral text with an adjective: "an angry face" from "angry" and "a face"."""
    noun = _ARTICLE.sub("", neutral)
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
