"""Captions are true of their portraits and varied, and they mention every attribute."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest
import torch

from stylegan_hub.portraits.attributes import ATTRIBUTES, CHARACTERS, characters, sample
from stylegan_hub.portraits.captions import (
    Caption,
    captions,
    captions_with_facts,
    contradiction,
    describe,
    label_words,
    truth,
    vocabulary_texts,
    zero_shot_texts,
)
from stylegan_hub.portraits.requests import requests


def labels_with(**changes: str) -> dict[str, str]:
    return {**{name: values[0] for name, values in ATTRIBUTES.items()}, **changes}


def test_the_same_seed_gives_the_same_captions() -> None:
    portraits = sample(range(5))
    first = captions(portraits, range(5), 3)
    assert first == captions(portraits, range(5), 3)
    assert first != captions(portraits, range(5, 10), 3)
    assert [len(texts) for texts in first] == [3] * 5


def test_seeds_and_portraits_must_be_equally_many() -> None:
    with pytest.raises(ValueError, match="3 seeds for 2 portraits"):
        captions(sample([1, 2]), [1, 2, 3])


def test_every_caption_is_true_of_its_portrait() -> None:
    portraits = sample(range(150))
    groups = captions_with_facts(portraits, range(150), 4)
    true = truth([caption for group in groups for caption in group], portraits)
    own = true.view(150, 4, 150)[torch.arange(150), :, torch.arange(150)]
    assert own.all()
    assert 0.05 < true.float().mean() < 0.4  # captions are true of some others, but not of all


def test_a_contradiction_is_false_of_its_portrait() -> None:
    portraits = sample(range(150))
    texts = [
        contradiction(labels, random.Random(i)) for i, labels in enumerate(label_words(portraits))
    ]
    assert not truth(texts, portraits).diagonal().any()
    named = Counter(name for caption in texts for name in caption.facts)
    assert set(named) >= set(ATTRIBUTES)


def test_every_attribute_and_short_captions_are_frequent() -> None:
    portraits = sample(range(500))
    said = [group[0] for group in captions_with_facts(portraits, range(500))]
    named = Counter(name for caption in said for name in caption.facts)
    assert all(named[name] > 0.05 * len(said) for name in ATTRIBUTES)
    short = sum(len(caption.text.split()) <= 5 for caption in said)
    assert 0.25 < short / len(said) < 0.6


@pytest.mark.parametrize(
    ("attribute", "value", "expected"),
    [
        ("hair_style", "mohawk", {"a mohawk", "mohawk", "a face with a mohawk"}),
        ("hair_style", "curly", {"curly hair", "curls", "curly-haired"}),
        ("hair_color", "purple", {"purple hair", "violet hair", "hair dyed purple"}),
        ("expression", "surprised", {"surprised", "an open mouth", "looking astonished"}),
        ("expression", "smiling", {"smiling", "a happy face", "a smile"}),
        ("glasses", "no", {"no glasses", "without glasses"}),
        ("beard", "no", {"beardless", "no beard"}),
        ("age", "old", {"wrinkles", "elderly", "old"}),
        ("freckles", "no", {"no freckles"}),
    ],
)
def test_common_words_occur(attribute: str, value: str, expected: set[str]) -> None:
    labels = labels_with(hair_style="long") | {attribute: value}
    rng = random.Random(0)
    said = {describe(labels, rng, mention=[attribute]).text.rstrip(".") for _ in range(3000)}
    assert expected <= said


def test_a_bald_head_has_no_hair_color() -> None:
    labels = labels_with(hair_style="bald", hair_color="red")
    for seed in range(200):
        assert "hair_color" not in describe(labels, random.Random(seed)).facts
    red_hair = describe(labels_with(hair_style="afro"), random.Random(0), mention=["hair_color"])
    bald = sample(range(8)).with_labels(hair_style="bald", hair_color="black")
    assert not truth([red_hair], bald).any()


def test_man_and_woman_imply_visible_attributes() -> None:
    rng = random.Random(0)
    for beard in ("no", "yes"):
        for lipstick in ("no", "yes"):
            labels = labels_with(beard=beard, lipstick=lipstick)
            for _ in range(100):
                caption = describe(labels, rng, mention=["background"])
                words = set(caption.text.replace(",", "").rstrip(".").split())
                if words & {"man", "guy", "gentleman"}:
                    assert caption.facts["beard"] == {"yes"} and beard == "yes"
                if words & {"woman", "lady", "girl"}:
                    assert caption.facts["lipstick"] == {"yes"} and lipstick == "yes"


@pytest.mark.parametrize("name", CHARACTERS)
def test_characters_are_called_by_name(name: str) -> None:
    portraits = characters(name, range(40))
    groups = captions_with_facts(portraits, range(40))
    named = [group[0] for group in groups if "character" in group[0].facts]
    assert 15 < len(named) < 38
    assert any(name in caption.text for caption in named)
    others = sample(range(30))
    assert not truth(named, others[others.character < 0]).any()


def test_a_caption_without_facts_is_true_of_every_portrait() -> None:
    assert truth([Caption("a face", {})], sample(range(5))).all()


def test_zero_shot_texts_cover_every_value() -> None:
    texts = zero_shot_texts()
    assert {name: tuple(values) for name, values in texts.items()} == ATTRIBUTES
    for values in texts.values():
        said = [text for value in values.values() for text in value]
        assert all(len(value) >= 3 for value in values.values())
        assert len(said) == len(set(said))


def test_requests_are_true_of_portraits_that_fulfill_them() -> None:
    words = label_words(sample(range(600)))
    said = [
        describe(labels, random.Random(i), with_requests=True) for i, labels in enumerate(words)
    ]
    assert truth(said, sample(range(600))).diagonal().all()
    texts = {
        describe(labels, random.Random(i), mention=[name], with_requests=True).text
        for i, labels in enumerate(words)
        for name in ("hat", "age", "expression", "hair_color")
    }
    assert {"take the hat off", "younger", "less angry"} <= texts


@pytest.mark.parametrize(
    ("request_text", "attribute", "values"),
    [
        ("take off the glasses", "glasses", {"no"}),
        ("put on a hat", "hat", {"yes"}),
        ("younger", "age", {"young"}),
        ("less angry", "expression", {"neutral", "smiling", "sad", "surprised"}),
        ("shave the face", "mustache", {"no"}),
        ("dye the hair green", "hair_color", {"green"}),
        ("cut the hair off", "hair_style", {"bald"}),
    ],
)
def test_requests_have_the_facts_that_fulfill_them(
    request_text: str, attribute: str, values: set[str]
) -> None:
    found = [facts for facts, texts in requests() if request_text in texts]
    assert len(found) == 1 and found[0][attribute] == values


def test_the_facts_of_a_request_are_known_and_unambiguous() -> None:
    meanings: dict[str, object] = {}
    for facts, texts in requests():
        for attribute, values in facts.items():
            assert values and values < set(ATTRIBUTES[attribute])
        for text in texts:
            assert meanings.setdefault(text, facts) == facts, text


def held_out_prompts() -> list[dict]:
    return json.loads(Path("recipes/heldout_prompts.json").read_text())


def test_the_facts_of_held_out_prompts_are_known() -> None:
    prompts = held_out_prompts()
    assert len({prompt["text"] for prompt in prompts}) == len(prompts) == 40
    for prompt in prompts:
        for attribute, values in prompt["facts"].items():
            assert values and set(values) < set(ATTRIBUTES[attribute]), prompt


def test_no_caption_contains_a_held_out_prompt() -> None:
    said = vocabulary_texts()
    for i, labels in enumerate(label_words(sample(range(3000)))):
        rng = random.Random(i)
        said += [
            describe(labels, rng, with_requests=True).text,
            contradiction(labels, rng, with_requests=True).text,
        ]
    said += [
        text for group in zero_shot_texts().values() for texts in group.values() for text in texts
    ]
    everything = "\n".join(said).lower()
    assert "take the hat off" in everything  # the texts include requests
    assert not [p["text"] for p in held_out_prompts() if p["text"].lower() in everything]
