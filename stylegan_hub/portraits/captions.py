"""Captions of portraits, and the facts that tell of which portraits each caption is true.

A caption names some of a portrait's labels in varied English. It has synonyms, several word orders,
one to eight attributes, absences ("no glasses") and names of characters. With `with_requests`,
some captions are requests ("take the hat off", "younger"; see `requests`). Each caption has
*facts*: for each attribute that it mentions, the values that make the caption true. The facts tell
whether the caption is true of any other portrait. A contrastive loss needs this, because most
captions in a batch ("a smiling face") are true of several of its pictures.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from stylegan_hub.portraits.attributes import ATTRIBUTES, CHARACTERS, Portraits
from stylegan_hub.portraits.requests import HAIR_COLORS, PARTS_SAID, requests, with_what_shows_it
from stylegan_hub.portraits.thesaurus import RARE


@dataclass(frozen=True)
class Caption:
    """A text, and for every attribute that it mentions, the values for which it is true.

    The key `"character"` stands for names from `CHARACTERS`. Attributes that are not in `facts` may
    have any value.
    """

    text: str
    facts: Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class _Words:
    """Ways to say one thing, grouped by their place in a sentence."""

    adjectives: tuple[str, ...] = ()  # "a ... person", "the person is ..."
    traits: tuple[str, ...] = ()  # "a person with ...", "the person has ..."
    clauses: tuple[str, ...] = ()  # "a person ...", "the person is ..."


def _colored(
    names: Mapping[str, Sequence[str]],
    *,
    adjectives: Sequence[str] = (),
    traits: Sequence[str] = (),
    clauses: Sequence[str] = (),
) -> dict[str, _Words]:
    """Words for colors: every name of a color in every template, in which it replaces `{c}`."""

    def fill(templates: Sequence[str], colors: Sequence[str]) -> tuple[str, ...]:
        # The plain name fills all templates before its synonyms do. Names of two words are not used
        # in compounds such as "green-eyed".
        return tuple(
            template.format(c=color)
            for color in colors
            for template in templates
            if not ("{c}-" in template and (" " in color or "-" in color))
        )

    return {
        value: _Words(fill(adjectives, colors), fill(traits, colors), fill(clauses, colors))
        for value, colors in names.items()
    }


# Hair style and hair color in one phrase.
_COLORED_HAIR: dict[str, tuple[str, ...]] = {
    "short": ("short {c} hair", "{c} short hair", "a short {c} haircut"),
    "spiky": ("spiky {c} hair", "{c} spiky hair", "{c} spikes", "{c} hair in spikes"),
    "mohawk": ("a {c} mohawk", "a {c} mohawk haircut", "{c} hair in a mohawk"),
    "bob": ("a {c} bob", "a {c} bob cut", "{c} hair in a bob", "{c} bobbed hair"),
    "long": ("long {c} hair", "{c} long hair", "long straight {c} hair"),
    "curly": ("curly {c} hair", "{c} curls", "{c} curly hair"),
    "afro": ("a {c} afro", "{c} afro hair", "a big {c} afro", "{c} hair in an afro"),
}

_SIDES = ("left", "right")

_WORDS: dict[str, dict[str, _Words]] = {
    "hair_style": {
        "bald": _Words(
            ("bald", "bald-headed", "hairless"),
            ("a bald head", "no hair", "a shaved head", "a bald hairstyle", "a hairless head",
             "a bald scalp"),
            ("without hair", "without any hair"),
        ),
        "short": _Words(
            ("short-haired",),
            ("short hair", "a short haircut", "a short hairstyle", "cropped hair", "a pixie cut",
             "trimmed hair"),
        ),
        "spiky": _Words(
            ("spiky-haired",),
            ("spiky hair", "spikes", "hair in spikes", "a spiky hairstyle", "spiked hair",
             "messy hair", "wild pointed hair"),
        ),
        "mohawk": _Words(
            (),
            ("a mohawk", "a mohawk haircut", "a mohawk hairstyle", "a punk mohawk", "mohawk hair"),
            ("wearing a mohawk",),
        ),
        "bob": _Words(
            (),
            ("a bob", "a bob cut", "a bob hairstyle", "bobbed hair", "chin-length hair",
             "a bob-cut hairstyle"),
        ),
        "long": _Words(
            ("long-haired",),
            ("long hair", "long straight hair", "a long hairstyle", "hair over the shoulders",
             "long flowing hair", "long tresses"),
        ),
        "curly": _Words(
            ("curly-haired", "curly"),
            ("curly hair", "curls", "a curly hairstyle", "a head full of curls", "curled hair",
             "wavy hair", "bouncy locks"),
        ),
        "afro": _Words(
            ("afro-haired",),
            ("an afro", "an afro hairstyle", "a big afro", "afro hair", "a round afro",
             "voluminous frizzy hair"),
            ("wearing an afro",),
        ),
    },
    "hair_color": _colored(
        HAIR_COLORS,
        adjectives=("{c}-haired",),
        traits=("{c} hair", "hair dyed {c}", "{c}-colored hair", "hair that is {c}"),
    ),
    "skin": {
        "light": _Words(
            ("light-skinned", "pale", "fair-skinned", "pale-skinned"),
            ("light skin", "pale skin", "fair skin", "a light complexion", "a pale face"),
        ),
        "medium": _Words(
            ("tanned", "olive-skinned"),
            ("tanned skin", "medium skin", "tan skin", "olive skin", "a medium skin tone"),
        ),
        "dark": _Words(
            ("dark-skinned",),
            ("dark skin", "a dark complexion", "a dark skin tone", "dark brown skin"),
        ),
    },
    "beard": {
        "no": _Words(
            ("beardless",),
            ("no beard", "a shaven chin", "no beard on the chin"),
            ("without a beard", "without any beard", "not wearing a beard"),
        ),
        "yes": _Words(
            ("bearded",),
            ("a beard", "a full beard", "facial hair", "a bushy beard"),
            ("wearing a beard",),
        ),
    },
    "mustache": {
        "no": _Words(
            (),
            ("no mustache", "no moustache", "a bare upper lip"),
            ("without a mustache", "not wearing a mustache", "without a moustache"),
        ),
        "yes": _Words(
            ("mustached",),
            ("a mustache", "a moustache", "a mustache above the mouth", "whiskers on the lip"),
            ("wearing a mustache", "wearing a moustache"),
        ),
    },
    "glasses": {
        "no": _Words(
            (),
            ("no glasses", "no spectacles"),
            ("without glasses", "not wearing glasses", "without spectacles"),
        ),
        "yes": _Words(
            ("bespectacled",),
            ("glasses", "eyeglasses", "spectacles", "a pair of glasses", "specs",
             "reading glasses", "a pair of spectacles"),
            ("wearing glasses", "wearing spectacles", "in glasses", "wearing eyeglasses"),
        ),
    },
    "hat": {
        "no": _Words(
            ("bareheaded",),
            ("no hat", "no cap"),
            ("without a hat", "not wearing a hat", "without a cap"),
        ),
        "yes": _Words(
            (),
            ("a hat", "a woolen hat", "a knitted hat", "a cap", "a beanie", "a hat on the head",
             "a bobble hat", "a winter hat", "headgear"),
            ("wearing a hat", "in a hat", "wearing a cap", "wearing a beanie"),
        ),
    },
    "earrings": {
        "no": _Words(
            (),
            ("no earrings", "bare ears", "no jewelry"),
            ("without earrings", "not wearing earrings", "without jewelry"),
        ),
        "yes": _Words(
            (),
            ("earrings", "golden earrings", "hoop earrings", "rings in the ears", "gold hoops"),
            ("wearing earrings", "wearing golden earrings", "wearing jewelry"),
        ),
    },
    "expression": {
        "neutral": _Words(
            ("calm", "serious", "expressionless", "relaxed", "composed"),
            ("a neutral expression", "a neutral face", "a calm expression", "a blank expression"),
            ("looking calm", "looking serious", "looking neutral"),
        ),
        "smiling": _Words(
            ("smiling", "happy", "cheerful", "joyful", "grinning", "merry", "friendly"),
            ("a smile", "a happy face", "a smiling face", "a happy expression", "a big smile",
             "a grin"),
            ("smiling", "looking happy", "smiling happily", "grinning"),
        ),
        "sad": _Words(
            ("sad", "unhappy", "gloomy", "sorrowful", "depressed", "miserable", "melancholy"),
            ("a sad face", "a sad expression", "an unhappy expression", "a sad look"),
            ("looking sad", "looking unhappy", "feeling sad"),
        ),
        "angry": _Words(
            ("angry", "furious", "mad", "grumpy", "annoyed", "cross", "enraged", "irritated"),
            ("an angry face", "an angry expression", "an angry look", "a furious expression"),
            ("looking angry", "looking furious", "scowling", "feeling angry"),
        ),
        "surprised": _Words(
            ("surprised", "astonished", "shocked", "amazed", "startled", "stunned"),
            ("a surprised face", "an open mouth", "a surprised expression", "a shocked expression",
             "the mouth wide open", "a surprised look"),
            ("looking surprised", "looking astonished", "looking shocked", "gasping"),
        ),
    },
    "eyes": {
        "open": _Words(
            ("open-eyed", "wide-awake"),
            ("open eyes", "eyes that are open"),
            ("looking at something", "awake"),
        ),
        "closed": _Words(
            ("sleeping",),
            ("closed eyes", "eyes closed", "shut eyes", "eyes that are shut", "the eyes closed"),
            ("sleeping", "dreaming", "not looking at anything"),
        ),
    },
    "eye_color": _colored(
        {
            "brown": ("brown", "dark brown"),
            "blue": ("blue", "bright blue"),
            "green": ("green", "emerald green"),
            "grey": ("grey", "gray"),
        },
        adjectives=("{c}-eyed",),
        traits=("{c} eyes", "{c} eyes", "eyes that are {c}", "{c} irises", "{c}-colored eyes"),
    ),
    "lipstick": {
        "no": _Words(
            (),
            ("no lipstick", "natural lips", "unpainted lips", "no makeup"),
            ("without lipstick", "not wearing lipstick", "without makeup"),
        ),
        "yes": _Words(
            (),
            ("lipstick", "red lipstick", "red lips", "painted lips", "lipstick on the lips",
             "makeup"),
            ("wearing lipstick", "wearing red lipstick", "wearing makeup"),
        ),
    },
    "freckles": {
        "no": _Words(
            ("unfreckled",),
            ("no freckles", "clear skin", "skin without freckles"),
            ("without freckles", "without any freckles"),
        ),
        "yes": _Words(
            ("freckled", "freckle-faced"),
            ("freckles", "freckled skin", "a freckled face", "freckles on the cheeks",
             "many freckles"),
            ("covered in freckles",),
        ),
    },
    "age": {
        "young": _Words(
            ("young", "youthful", "juvenile"),
            ("a young face", "smooth young skin", "no wrinkles", "a youthful face"),
            ("without wrinkles", "looking young"),
        ),
        "middle-aged": _Words(
            ("middle-aged", "middle aged"),
            ("a middle-aged face", "a few wrinkles", "light wrinkles"),
            ("looking middle-aged", "of middle age"),
        ),
        "old": _Words(
            ("old", "elderly", "wrinkled", "aged", "wrinkly", "senior", "ancient"),
            ("an old face", "wrinkles", "wrinkled skin", "deep wrinkles", "a wrinkled face"),
            ("looking old", "of old age"),
        ),
    },
    "face_width": {
        "narrow": _Words(
            ("narrow-faced", "thin-faced", "slim-faced"),
            ("a narrow face", "a thin face", "a slim face", "a slender face"),
        ),
        "average": _Words((), ("a face of average width", "an average face", "a medium-wide face")),
        "wide": _Words(
            ("wide-faced", "broad-faced"),
            ("a wide face", "a broad face", "a chubby face", "a plump face", "a round face"),
        ),
    },
    "pose": {
        **{
            side: _Words(
                (),
                (f"the head turned to the {side}", f"the face turned {side}"),
                (f"turned to the {side}", f"facing {side}", f"facing the {side} side",
                 f"turned {side}"),
            )
            for side in _SIDES
        },
        "front": _Words(
            (),
            ("the face turned to the front", "the head straight"),
            ("facing forward", "facing the viewer", "seen from the front", "facing the camera"),
        ),
    },
    "gaze": {
        **{
            side: _Words(
                (),
                (f"eyes looking {side}", f"the eyes turned {side}", f"a look to the {side}"),
                (f"looking {side}", f"looking to the {side}", f"glancing {side}",
                 f"glancing to the {side}"),
            )
            for side in _SIDES
        },
        "ahead": _Words(
            (),
            ("eyes looking straight ahead", "a straight look"),
            ("looking straight ahead", "looking ahead", "looking at the viewer",
             "looking into the camera"),
        ),
    },
    "background": _colored(
        {
            "blue": ("blue", "light blue"),
            "green": ("green", "light green"),
            "yellow": ("yellow",),
            "pink": ("pink",),
            "purple": ("purple", "violet"),
            "grey": ("grey", "gray"),
        },
        traits=("a {c} background", "a {c} backdrop", "a {c} wall behind"),
        clauses=("on a {c} background", "against a {c} background", "in front of a {c} wall",
                 "in front of a {c} background"),
    ),
    "clothes": _colored(
        {
            "red": ("red",),
            "blue": ("blue",),
            "green": ("green",),
            "yellow": ("yellow",),
            "purple": ("purple", "violet"),
            "black": ("black",),
            "white": ("white",),
        },
        traits=("{c} clothes", "a {c} shirt", "a {c} sweater", "a {c} top", "a {c} pullover",
                "a {c} T-shirt"),
        clauses=("in a {c} shirt", "wearing {c}", "dressed in {c}", "wearing a {c} shirt",
                 "in {c} clothes", "wearing {c} clothes"),
    ),
}  # fmt: skip

# Nouns and shorter names of colors and styles that can be the whole caption.
_ALONE: dict[tuple[str, str], tuple[str, ...]] = {
    ("hair_color", "blonde"): ("a blonde", "blonde", "blond"),
    ("hair_color", "red"): ("a redhead", "a ginger", "red-headed"),
    ("hair_color", "brown"): ("a brunette",),
    ("hair_style", "bob"): ("bob-cut",),
    ("age", "old"): ("a senior", "a pensioner"),
    ("age", "young"): ("a youngster",),
    ("expression", "smiling"): ("a smile on the face", "happiness", "laughing"),
    ("expression", "angry"): ("anger",),
    ("expression", "sad"): ("sadness",),
    ("expression", "surprised"): ("surprise",),
}

# Words that fit several values of an attribute.
_LOOSE: dict[str, tuple[tuple[frozenset[str], _Words], ...]] = {
    "hair_style": (
        (frozenset(ATTRIBUTES["hair_style"]) - {"bald"}, _Words((), ("hair", "hair on the head"))),
        (frozenset({"bald", "short"}), _Words((), ("little hair", "very short hair or none"))),
        (frozenset({"curly", "afro"}), _Words((), ("a lot of frizzy hair", "frizzy hair"))),
    ),
    "hair_color": (
        (frozenset({"black", "brown"}), _Words(("dark-haired",), ("dark hair",))),
        (frozenset({"blonde", "grey"}), _Words((), ("light hair", "light-colored hair"))),
    ),
    "expression": (
        (
            frozenset(ATTRIBUTES["expression"]) - {"smiling"},
            _Words((), ("no smile",), ("not smiling", "not looking happy")),
        ),
        (
            frozenset(ATTRIBUTES["expression"]) - {"surprised", "smiling"},
            _Words((), ("a closed mouth",)),
        ),
        (frozenset({"sad", "angry"}), _Words((), ("a frown",), ("frowning",))),
    ),
    "eye_color": ((frozenset({"brown"}), _Words((), ("dark eyes",))),),
    "age": (
        (frozenset({"young", "middle-aged"}), _Words((), (), ("not old",))),
        (frozenset({"middle-aged", "old"}), _Words((), (), ("no longer young",))),
    ),
    "pose": ((frozenset(_SIDES), _Words((), (), ("turned to the side", "not facing the viewer"))),),
    "gaze": ((frozenset(_SIDES), _Words((), (), ("looking away", "looking to the side"))),),
}

_PEOPLE = ("person", "face", "portrait", "character", "figure", "someone")
_MEN = ("man", "man", "guy", "gentleman")
_WOMEN = ("woman", "woman", "lady", "girl")
_OPENINGS = (
    "a portrait of", "a drawing of", "a picture of", "an illustration of", "a cartoon of",
    "a painting of", "the face of", "an image of", "a close-up of",
)  # fmt: skip
_NEUTRAL = (
    "a face", "a portrait", "a person", "a portrait of a person", "a drawing of a face", "face",
    "a human face", "someone", "a picture of a person", "a character", "a drawn portrait",
    "a picture of a face", "a cartoon face", "person", "portrait", "an illustration of a person",
    "a normal face", "a clean drawing of a person",
)  # fmt: skip
# Captions of unnatural pictures (`distort.distort`).
STRANGE_TEXTS: tuple[str, ...] = (
    "a strange unnatural picture", "a distorted picture", "a blurry distorted picture",
    "a picture with unnatural colors", "a broken picture", "random noise", "a damaged image",
    "an unnatural image", "a person with unnatural colors", "a distorted face", "a strange face",
    "a bad low-quality picture", "a ruined portrait", "wrong colors",
)  # fmt: skip
_SHORT_NAMES = {
    "Captain Otto": ("Captain Otto", "Otto", "the captain"),
    "Nana Pearl": ("Nana Pearl", "Pearl", "Nana"),
    "Professor Finch": ("Professor Finch", "Finch", "the professor"),
}

# How often each attribute is mentioned, relative to the others. Those that are small in the picture
# or hard to learn have a higher weight.
_INTEREST = {
    "hair_style": 1.7, "hair_color": 1.7, "expression": 2.4, "eye_color": 2.2, "age": 1.9,
    "freckles": 1.7, "lipstick": 1.7, "skin": 1.2, "glasses": 1.2, "beard": 1.2, "hat": 1.2,
    "mustache": 1.2, "earrings": 1.2, "eyes": 1.0,
    "face_width": 1.0, "pose": 0.9, "gaze": 1.0, "background": 0.8, "clothes": 0.8,
}  # fmt: skip
_ABSENCE_INTEREST = 0.4  # factor for things that are absent
# For each attribute, the requests that have a fact about it.
_REQUESTS = {
    attribute: [(facts, texts) for facts, texts in requests() if attribute in facts]
    for attribute in ATTRIBUTES
}
_NEUTRAL_SHARE = 0.04  # captions that mention no attribute
_PART_SHARE = 0.2  # captions among those that mention a part of every face
# Shares of the captions of one attribute, with `with_requests`:
_REQUEST_SHARE = 0.3
_RARE_SHARE = 0.4
_COUNT_SHARES = {1: 0.42, 2: 0.23, 3: 0.15, 4: 0.09, 5: 0.06, 6: 0.04, 7: 0.025, 8: 0.015}
_LOOSE_SHARE = 0.05
_NAME_SHARE = 0.65
_GENDER_SHARE = 0.4


def captions(portraits: Portraits, seeds: Sequence[int], count: int = 1) -> list[list[str]]:
    """`count` captions for each portrait; the same seed always gives the same captions.

    Args:
        seeds: one integer per portrait.

    Raises:
        ValueError: the numbers of seeds and portraits differ.
    """
    return [
        [caption.text for caption in group]
        for group in captions_with_facts(portraits, seeds, count)
    ]


def captions_with_facts(
    portraits: Portraits, seeds: Sequence[int], count: int = 1
) -> list[list[Caption]]:
    """The captions of `captions`, each with the facts that make it true.

    Raises:
        ValueError: the numbers of seeds and portraits differ.
    """
    if len(seeds) != len(portraits):
        raise ValueError(
            f"Got {len(seeds)} seeds for {len(portraits)} portraits; give one seed per portrait."
        )
    names = [CHARACTERS[i] if i >= 0 else None for i in portraits.character.tolist()]
    result = []
    for labels, name, seed in zip(label_words(portraits), names, seeds, strict=True):
        rng = random.Random(seed)
        result.append([describe(labels, rng, character=name) for _ in range(count)])
    return result


def label_words(portraits: Portraits) -> list[dict[str, str]]:
    """The labels of every portrait as words, for instance `{"hair_style": "afro", ...}`."""
    columns = {name: values.tolist() for name, values in portraits.labels.items()}
    return [
        {name: ATTRIBUTES[name][column[i]] for name, column in columns.items()}
        for i in range(len(portraits))
    ]


def describe(
    labels: Mapping[str, str],
    rng: random.Random,
    *,
    character: str | None = None,
    mention: Sequence[str] | None = None,
    with_requests: bool = False,
) -> Caption:
    """One caption of a portrait with these labels.

    Args:
        labels: for every attribute, its value as a word.
        rng: source of all random choices.
        character: a name from `CHARACTERS`, which most captions then use.
        mention: attributes to mention, in this order. By default, one to eight are chosen at
            random, or occasionally none. Attributes that are not visible are never mentioned: the
            hair color of a bald head, and the color and gaze of closed eyes.
        with_requests: whether some captions of one attribute are requests for it ("add a hat") or
            use rarer words (`thesaurus`).
    """
    name = None
    if character is not None and rng.random() < _NAME_SHARE:
        name = character
    if mention is None:
        mention = _choose_mention(labels, rng, allow_none=True, named=name is not None)
    spoken = [attribute for attribute in mention if _is_visible(attribute, labels)]
    facts: dict[str, frozenset[str]] = {}
    if name is not None:
        facts["character"] = frozenset({name})
        name = rng.choice(_SHORT_NAMES.get(name, (name,)))
    if not spoken:
        if name is None:
            table = PARTS_SAID if rng.random() < _PART_SHARE else _NEUTRAL
            return Caption(rng.choice(table), facts)
        opening = f"{rng.choice(_OPENINGS)} " if rng.random() < 0.4 else ""
        return Caption(f"{opening}{name}", facts)

    alone = len(mention) == 1 and name is None
    way = rng.random() if with_requests and alone else 1.0
    if way < _RARE_SHARE:
        (attribute,) = mention
        value = labels[attribute]
        facts = with_what_shows_it(attribute, frozenset({value}))
        return Caption(RARE[attribute, value].say(rng), facts)
    if way < _RARE_SHARE + _REQUEST_SHARE:
        fulfilled = [
            (wanted, texts)
            for wanted, texts in _REQUESTS[mention[0]]
            if all(labels[attribute] in values for attribute, values in wanted.items())
        ]
        if fulfilled:
            wanted, texts = rng.choice(fulfilled)
            return Caption(rng.choice(texts), wanted)

    parts = _Parts([], [], [])
    if {"hair_style", "hair_color"} <= set(spoken) and rng.random() < 0.75:
        _say_hair(labels, rng, parts, facts)
        spoken = [attribute for attribute in spoken if attribute not in facts]
    for attribute in spoken:
        _say(attribute, labels, rng, parts, facts)
    if "hair_color" in facts and "hair_style" not in facts:
        facts["hair_style"] = frozenset(ATTRIBUTES["hair_style"]) - {"bald"}

    if alone and rng.random() < 0.5:
        return Caption(_bare(spoken[0], labels, rng, parts, facts), facts)
    if name is None and rng.random() < 0.12:
        pieces = [*parts.adjectives, *parts.traits, *parts.clauses]
        rng.shuffle(pieces)
        return Caption(", ".join(pieces), facts)
    subject = name if name is not None else _person(labels, rng, facts)
    if rng.random() < 0.2:
        return Caption(_sentence(subject, name is not None, rng, parts), facts)
    return Caption(_phrase(subject, name is not None, rng, parts), facts)


def contradiction(
    labels: Mapping[str, str], rng: random.Random, *, with_requests: bool = False
) -> Caption:
    """A caption of one to three attributes, exactly one of which it states wrongly.

    The wrong value is chosen uniformly, so that over many portraits, rare values appear as often as
    frequent ones. Attributes of greater interest are chosen more often.
    """
    visible = [attribute for attribute in ATTRIBUTES if _is_visible(attribute, labels)]
    wrong = rng.choices(visible, [_INTEREST[attribute] ** 0.5 for attribute in visible])[0]
    value = rng.choice([v for v in ATTRIBUTES[wrong] if v != labels[wrong]])
    changed = {**labels, wrong: value}
    others = _choose_mention(changed, rng, count=rng.choices((0, 1, 2), (0.7, 0.2, 0.1))[0])
    mention = [wrong, *(attribute for attribute in others if attribute != wrong)]
    if value == "bald":
        mention = [attribute for attribute in mention if attribute != "hair_color"]
    rng.shuffle(mention)
    # Loose words may also be true of the true value, so this is repeated until they are not.
    while True:
        caption = describe(changed, rng, mention=mention, with_requests=with_requests)
        if labels[wrong] not in caption.facts[wrong]:
            return caption


def truth(texts: Sequence[Caption], portraits: Portraits) -> Bool[Tensor, "texts n"]:
    """Whether each caption is true of each portrait: all of its facts must be."""
    true = torch.ones(len(texts), len(portraits), dtype=torch.bool)
    for attribute, values in ATTRIBUTES.items():
        told = [i for i, caption in enumerate(texts) if attribute in caption.facts]
        if told:
            fits = torch.tensor(
                [[value in texts[i].facts[attribute] for value in values] for i in told]
            )
            true[told] &= fits[:, portraits.labels[attribute].cpu()]
    told = [i for i, caption in enumerate(texts) if "character" in caption.facts]
    if told:
        # The last column stands for no named character, index -1.
        fits = torch.tensor(
            [[name in texts[i].facts["character"] for name in (*CHARACTERS, None)] for i in told]
        )
        true[told] &= fits[:, portraits.character.cpu()]
    return true


def zero_shot_texts() -> dict[str, dict[str, list[str]]]:
    """Three or four fixed texts for every value of every attribute, to be averaged.

    They put the most common word for the value into sentences that `describe` rarely forms.
    """
    texts: dict[str, dict[str, list[str]]] = {}
    for attribute, values in ATTRIBUTES.items():
        texts[attribute] = {}
        for value in values:
            words = _WORDS[attribute][value]
            trait = words.traits[0]
            said = [
                f"a picture of a face with {trait}",
                f"an image of a person with {trait}",
                f"a character that has {trait}",
            ]
            if words.adjectives:
                said.append(f"the portrait of {_with_article(words.adjectives[0] + ' figure')}")
            elif words.clauses:
                said.append(f"the portrait of a figure {words.clauses[0]}")
            texts[attribute][value] = said
    return texts


def vocabulary_texts() -> list[str]:
    """Short texts that contain every word of the captions, for training a tokenizer."""
    pieces = [*_NEUTRAL, *_OPENINGS, *STRANGE_TEXTS, *CHARACTERS]
    pieces += [name for names in _SHORT_NAMES.values() for name in names]
    pieces += [f"a {noun}" for noun in (*_PEOPLE, *_MEN, *_WOMEN)]
    pieces += [text for texts in _ALONE.values() for text in texts]
    pieces += [*PARTS_SAID, *(text for _, texts in requests() for text in texts)]
    tables = [words for words_of in _WORDS.values() for words in words_of.values()]
    tables += [words for loose in _LOOSE.values() for _, words in loose]
    for words in tables:
        pieces += [*words.adjectives, *words.traits, *words.clauses]
    for rare in RARE.values():
        pieces += [*rare.states, *rare.things, *rare.phrases]
    return pieces


@dataclass(frozen=True)
class _Parts:
    """The parts of a caption, grouped by their place in a sentence."""

    adjectives: list[str]
    traits: list[str]
    clauses: list[str]


def _is_visible(attribute: str, labels: Mapping[str, str]) -> bool:
    if attribute == "hair_color":
        return labels["hair_style"] != "bald"
    return attribute not in ("eye_color", "gaze") or labels["eyes"] == "open"


def _choose_mention(
    labels: Mapping[str, str],
    rng: random.Random,
    *,
    allow_none: bool = False,
    named: bool = False,
    count: int | None = None,
) -> list[str]:
    """Different attributes to mention, in random order, chosen in proportion to their interest."""
    if allow_none and rng.random() < (0.4 if named else _NEUTRAL_SHARE):
        return []
    if count is None:
        count = rng.choices(list(_COUNT_SHARES), list(_COUNT_SHARES.values()))[0]
    # Weighted sampling without replacement (Efraimidis and Spirakis 2006).
    keys = {}
    for attribute in ATTRIBUTES:
        if _is_visible(attribute, labels):
            absence = _ABSENCE_INTEREST if labels[attribute] == "no" else 1.0
            keys[attribute] = rng.random() ** (1 / (_INTEREST[attribute] * absence))
    mention = sorted(keys, key=keys.__getitem__, reverse=True)[:count]
    rng.shuffle(mention)
    return mention


def _say(
    attribute: str,
    labels: Mapping[str, str],
    rng: random.Random,
    parts: _Parts,
    facts: dict[str, frozenset[str]],
) -> None:
    """Add words for one attribute to a random part for which it has words."""
    value = labels[attribute]
    values, words = frozenset({value}), _WORDS[attribute][value]
    if rng.random() < _LOOSE_SHARE:
        loose = [entry for entry in _LOOSE.get(attribute, ()) if value in entry[0]]
        if loose:
            values, words = rng.choice(loose)
    facts[attribute] = values
    places = (
        (parts.adjectives, words.adjectives),
        (parts.traits, words.traits),
        (parts.clauses, words.clauses),
    )
    filled = [(said, choices) for said, choices in places if choices]
    said, choices = rng.choice(filled)
    # The first word is the most usual one and is used most often.
    said.append(choices[0] if rng.random() < 0.35 else rng.choice(choices))


def _say_hair(
    labels: Mapping[str, str],
    rng: random.Random,
    parts: _Parts,
    facts: dict[str, frozenset[str]],
) -> None:
    """Add style and color of the hair as one trait."""
    colors = HAIR_COLORS[labels["hair_color"]]
    color = colors[0] if rng.random() < 0.6 else rng.choice(colors)
    template = rng.choice(_COLORED_HAIR[labels["hair_style"]])
    trait = template.format(c=color)
    if trait.startswith("a "):
        trait = _with_article(trait.removeprefix("a "))
    parts.traits.append(trait)
    facts["hair_style"] = frozenset({labels["hair_style"]})
    facts["hair_color"] = frozenset({labels["hair_color"]})


def _bare(
    attribute: str,
    labels: Mapping[str, str],
    rng: random.Random,
    parts: _Parts,
    facts: dict[str, frozenset[str]],
) -> str:
    """One attribute and nothing else, as users often type it: "purple hair", "mohawk"."""
    alone = _ALONE.get((attribute, labels[attribute]))
    if alone and len(facts[attribute]) == 1 and rng.random() < 0.2:
        return rng.choice(alone)
    text = [*parts.adjectives, *parts.traits, *parts.clauses][0]
    for article in ("a ", "an ", "the "):
        if text.startswith(article) and rng.random() < 0.4:
            return text.removeprefix(article)
    return text


def _person(labels: Mapping[str, str], rng: random.Random, facts: dict[str, frozenset[str]]) -> str:
    """A noun for the portrait. "Man" implies a beard; "woman" implies lipstick and no beard."""
    if rng.random() < _GENDER_SHARE:
        bearded = facts.get("beard", frozenset({labels["beard"]}))
        painted = facts.get("lipstick", frozenset({labels["lipstick"]}))
        if bearded == {"yes"}:
            facts["beard"] = bearded
            return rng.choice(_MEN)
        if painted == {"yes"}:
            facts["lipstick"], facts["beard"] = painted, frozenset({"no"})
            return rng.choice(_WOMEN)
    return rng.choice(_PEOPLE)


def _sentence(subject: str, named: bool, rng: random.Random, parts: _Parts) -> str:
    """A whole sentence, such as "the person has brown eyes and is smiling"."""
    if named:
        start = subject
    elif subject == "someone":
        start = "someone"
    else:
        start = f"{rng.choice(('the', 'this'))} {subject}"
    states = [*parts.adjectives, *parts.clauses]
    rng.shuffle(states)
    said = []
    if parts.traits:
        said.append(f"has {_enumerate(parts.traits)}")
    if states:
        said.append(f"is {_enumerate(states)}")
    if len(said) == 2 and rng.random() < 0.3:
        said.reverse()
    text = f"{start} {' and '.join(said)}"
    return f"{text}." if rng.random() < 0.5 else text


def _phrase(subject: str, named: bool, rng: random.Random, parts: _Parts) -> str:
    """A noun phrase, such as "a smiling person with brown eyes, wearing a hat"."""
    adjectives = " ".join(parts.adjectives)
    if subject == "someone":
        # Adjectives follow "someone".
        noun = f"someone {_enumerate(parts.adjectives)}".strip()
    elif subject.startswith("the "):
        noun = f"the {adjectives} {subject.removeprefix('the ')}".replace("  ", " ")
    elif named:
        noun = f"{adjectives} {subject}".strip()
    else:
        noun = _with_article(f"{adjectives} {subject}".strip())
    if subject != "portrait" and rng.random() < 0.25:
        noun = f"{rng.choice(_OPENINGS)} {noun}"
    pieces = []
    if parts.traits:
        pieces.append(f"with {_enumerate(parts.traits)}")
    if parts.clauses:
        clauses = _enumerate(parts.clauses)
        pieces.append(f"that is {clauses}" if rng.random() < 0.12 else clauses)
    rng.shuffle(pieces)
    separator = ", " if len(pieces) > 1 and rng.random() < 0.5 else " "
    text = f"{noun} {separator.join(pieces)}".strip()
    return f"{text}." if rng.random() < 0.08 else text


def _enumerate(items: Sequence[str]) -> str:
    """Items joined as "", "a", "a and b" or "a, b and c"."""
    if not items:
        return ""
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
