"""Texts that are true of no portrait, and words that change nothing."""

import json
import random
import re
from pathlib import Path

from stylegan_hub.portraits.captions import vocabulary_texts
from stylegan_hub.portraits.foreign import NOUNS, foreign_texts, with_empty_words

HELD_OUT = Path(__file__).parent.parent / "recipes" / "heldout_foreign.json"


def words_of(texts: list[str]) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z]+", text.lower())}


def test_no_portrait_has_what_the_nouns_name() -> None:
    assert len(NOUNS) == len(set(NOUNS)) > 150
    # "A lemon" is foreign, although portraits have lemon-colored walls.
    assert not {re.sub("^an? ", "", text.lower()) for text in vocabulary_texts()} & set(NOUNS)


def test_what_is_held_out_is_not_taught() -> None:
    taught = foreign_texts(random.Random(0), 20_000)
    held_out = json.loads(HELD_OUT.read_text())
    assert not set(taught) & set(held_out)
    for word in ("guitar", "retriever", "elvis", "tattoo", "snowstorm"):
        assert word in words_of(held_out) and word not in words_of(taught)


def test_empty_words_leave_what_is_said() -> None:
    rng = random.Random(0)
    for text in ("a man with a hat.", "younger", "remove the beard", "An afro"):
        for _ in range(30):
            said = with_empty_words(text, rng)
            assert said != text
            kept = iter(re.findall(r"\w+", said))
            bare = [w for w in re.findall(r"\w+", text) if w not in ("a", "an")]
            assert all(word in kept for word in bare), (text, said)
