"""Texts about things that no portrait shows, and words that change nothing.

A CLIP trained only on true captions takes "blue hair" for the nearest hair that it knows, and "a
violin" for anything at all. Trained on texts that are never true, it learns to recognize them: an
edit can then be refused instead of becoming a random change. Words that change nothing ("a lovely
hat, please") should not count as such, so they are put into true captions.
"""

from __future__ import annotations

import random
import re

NOUNS: tuple[str, ...] = tuple(
    """
    cat horse cow pig sheep goat rabbit mouse elephant lion bear monkey snake frog fish shark whale
    eagle parrot owl chicken duck penguin spider butterfly ant crocodile turtle dinosaur dragon
    unicorn wolf fox deer squirrel hamster
    car truck bus train airplane boat ship motorcycle tractor rocket helicopter wagon
    house castle tower bridge church factory tent window door table chair sofa bed lamp carpet
    bucket bottle cup plate fork spoon knife kettle oven fridge clock candle mirror
    piano drum trumpet flute microphone telephone computer keyboard television
    apple banana lemon potato tomato onion bread cake cookie 
    sandwich sausage egg coffee
    tree flower leaf cactus mushroom mountain river island beach cloud star moon snowflake
    lightning volcano desert forest
    hammer saw screwdriver shovel ladder rope chain anchor wheel engine balloon kite doll
    puzzle dice trophy flag basket backpack suitcase glove boot sock shoe belt cape apron
    queen knight pirate soldier sailor clown vampire ghost witch alien mermaid angel devil
    policeman nurse chef farmer dancer statue skeleton zombie ninja viking superhero
    crown mask bandage cigarette pipe headphones veil wig tiara horn antler wing tail feather
    fang eyepatch
    """.split()
)
"""Things, animals and figures that no portrait shows."""

_ABOUT_THINGS: tuple[str, ...] = (
    "{n}", "{a} {n}", "{a} {n}", "a person with {a} {n}", "a picture of {a} {n}", "add {a} {n}",
    "{a} {n} on the head", "holding {a} {n}", "turn him into {a} {n}", "turn her into {a} {n}",
    "give her {a} {n}", "give him {a} {n}", "a face like {a} {n}", "looking like {a} {n}",
    "a face with {a} {n}", "wearing {a} {n}", "someone beside {a} {n}", "a photo of {a} {n}",
)  # fmt: skip

# These things have none of these colors on any portrait.
_COLORED: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("teal", "navy", "cyan", "sky-blue", "indigo", "ultramarine"),
        ("{c} hair", "a person with {c} hair", "{c}-haired", "hair dyed {c}", "dye the hair {c}",
         "make the hair {c}", "long {c} hair", "short {c} hair", "a {c} mohawk", "curly {c} hair",
         "a {c} afro", "a {c} beard"),
    ),
    (
        ("green", "blue", "purple", "red", "orange", "golden", "turquoise"),
        ("{c} skin", "a person with {c} skin", "a {c} face", "make the skin {c}", "{c}-skinned"),
    ),
    (
        ("red", "yellow", "pink", "purple", "orange", "golden", "white"),
        ("{c} eyes", "a person with {c} eyes", "make the eyes {c}", "{c}-eyed", "{c} irises"),
    ),
    (
        ("blue", "green", "black", "yellow", "purple"),
        ("{c} lips", "{c} lipstick", "paint the lips {c}", "a person with {c} lips"),
    ),
    (
        ("orange", "brown", "turquoise", "pink", "striped", "spotted"),
        ("{c} clothes", "a {c} shirt", "wearing {c}", "make the clothes {c}", "in a {c} sweater"),
    ),
    (
        ("red", "orange", "black", "brown", "striped", "turquoise"),
        ("a {c} background", "on a {c} background", "make the background {c}", "a {c} wall behind"),
    ),
)  # fmt: skip

_EMPTY_ADJECTIVES = tuple(
    """
    lovely nice pretty beautiful strange funny ordinary typical simple wonderful elegant fancy
    terrible good great real cool charming famous modern classic perfect usual odd neat sweet
    crazy fine quiet proper stylish ridiculous splendid awful plain-looking handsome
    """.split()
)
_BEFORE = (
    "please",
    "I want",
    "show me",
    "can you make it",
    "let me see",
    "try",
    "how about",
    "now",
)
_AFTER = (
    "please",
    "now",
    "for me",
    "again",
    "for once",
    "if you can",
    "today",
    "as ever",
    "indeed",
)
_ARTICLE = re.compile(r"\b(a|an|the)\s+(?=[a-z])")


def foreign_texts(rng: random.Random, count: int) -> list[str]:
    """Texts that are true of no portrait."""
    return [_thing(rng) if rng.random() < 0.6 else _color(rng) for _ in range(count)]


def with_empty_words(text: str, rng: random.Random) -> str:
    """The same text with one or two words that change nothing: "please, a lovely hat"."""
    places = list(_ARTICLE.finditer(text))
    if places and rng.random() < 0.6:
        place, word = rng.choice(places), rng.choice(_EMPTY_ADJECTIVES)
        article = place[1] if place[1] == "the" else _article(word)
        text = f"{text[: place.start()]}{article} {word} {text[place.end() :]}"
    elif rng.random() < 0.5:
        text = f"{rng.choice(_BEFORE)} {text}"
    else:
        text = f"{text.rstrip('.')} {rng.choice(_AFTER)}"
    return text


def _thing(rng: random.Random) -> str:
    noun = rng.choice(NOUNS)
    return rng.choice(_ABOUT_THINGS).format(n=noun, a=_article(noun))


def _color(rng: random.Random) -> str:
    colors, texts = rng.choice(_COLORED)
    color, text = rng.choice(colors), rng.choice(texts)
    return re.sub(r"\ba (?=[aeiou])", "an ", text.format(c=color))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
