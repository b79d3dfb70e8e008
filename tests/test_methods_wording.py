"""Removals and comparisons are changes between two texts; other words stay as they are."""

from __future__ import annotations

import time

import pytest
import torch

from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import Settings, displacements
from stylegan_hub.methods.wording import parts, reading
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader


@pytest.mark.parametrize(
    ("said", "target", "origin"),
    [
        ("no hat", "a face", "a face with a hat"),
        ("without glasses", "a face", "a face with glasses"),
        ("a face without a hat", "a face", "a face with a hat"),
        ("a smiling woman with no earrings", "a smiling woman", "a smiling woman with earrings"),
        ("take the beard off", "a face", "a face with a beard"),
        ("take off the glasses", "a face", "a face with glasses"),
        ("please remove his mustache.", "a face", "a face with a mustache"),
        ("Get rid of the freckles!", "a face", "a face with freckles"),
        ("shave the beard", "a face", "a face with a beard"),
        ("cut the hair off", "a face", "a face with hair"),
        ("no more makeup", "a face", "a face with makeup"),
        ("fewer wrinkles", "a face", "a face with wrinkles"),
        ("less angry", "a face", "an angry face"),
        ("make him less sad", "a face", "a sad face"),
        ("younger", "a young face", "an old face"),
        ("make her look older", "an old face", "a young face"),
    ],
)
def test_what_is_taken_away(said: str, target: str, origin: str) -> None:
    read = reading(Words(said, keep=("hair",)), "a face")
    assert (read.text, read.neutral, read.keep) == (target, origin, ("hair",))


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ("give her a lovely hat", "a face with a lovely hat"),
        ("Please add glasses.", "a face with glasses"),
        ("put a woolly hat on", "a face with a woolly hat"),
        ("put glasses on her", "a face with glasses"),
        ("let him grow a beard", "a face with a beard"),
        ("put on the red lipstick", "a face with red lipstick"),
        ("give them curly hair", "a face with curly hair"),
        ("make him bald", "a bald face"),
        ("make her look old", "an old face"),
        ("dye the hair green", "a face with green hair"),
        ("make the background orange", "a face with an orange background"),
    ],
)
def test_a_command_is_a_wish(said: str, target: str) -> None:
    words = reading(Words(said, keep=("hair",)), "a face")
    assert (words.text, words.neutral, words.said, words.keep) == (target, None, said, ("hair",))


@pytest.mark.parametrize(
    "said",
    [
        "add", "grow the hair", "turn him into a king", "make it a mohawk", "make her smile",
        "a face with a hat", "a smiling face", "afro", "a mohawk", "a noble face", "make him smile",
        "nose", "a knotted scarf", "glasses", "a man who lost his hat", "an unshaven face",
    ],
)  # fmt: skip
def test_what_is_no_removal(said: str) -> None:
    assert reading(Words(said), "a face") == Words(said)


def test_words_with_an_origin_of_their_own_stay() -> None:
    words = Words("no hat", neutral="a face with a crown")
    assert reading(words, "a face") is words


def test_other_domains_have_other_nouns() -> None:
    read = reading(Words("no chimney"), "a house")
    assert (read.text, read.neutral) == ("a house", "a house with a chimney")
    assert reading(Words("less shiny"), "a car").neutral == "a shiny car"


def test_the_edit_remembers_what_was_said(tiny_pipeline: StyleEditPipeline) -> None:
    found = tiny_pipeline.find("no hat", method="gradient")
    assert found.origin.prompt == "no hat" and found.origin.neutral == "a face with a hat"
    assert found.origin.training["read_as"] == "a face with a hat -> a face"
    plain = tiny_pipeline.find(Words("a face", neutral="a face with a hat"), method="gradient")
    assert torch.equal(plain.vector, found.vector) and "read_as" not in plain.origin.training


@pytest.mark.slow
def test_a_hat_that_was_added_can_be_taken_off(
    portraits: StyleEditPipeline, attribute_reader: AttributeReader
) -> None:
    """The reader, which no search uses, finds no hat on eight heads after "no hat"."""
    pipe, reader = portraits, attribute_reader

    def hats(latents: Latents) -> torch.Tensor:
        with torch.no_grad():
            return reader.read(pipe.synthesize(latents).clamp(-1, 1)).labels["hat"]

    bare = pipe.sample(range(60_000, 60_008))
    assert hats(bare).sum() == 0
    settings = Settings(steps=8, shared_steps=24, shared_faces=6, views=1)
    added = displacements(pipe, Words("a face with a hat"), bare, settings)
    shown = []
    for face, vector in zip(bare, added, strict=True):
        cap = Direction(vector, "w_plus", pipe.base_model)
        stack = EditStack(start=face).added(cap, 1.0)
        gone = pipe.find("no hat", stack.apply(pipe))
        shown.append((stack.apply(pipe), stack.added(gone, 1.0).apply(pipe)))
    with_hat, without = (Latents.cat([Latents("s", pipe.lower(one, "s").codes) for one in side])
                         for side in zip(*shown, strict=True))  # fmt: skip
    assert hats(with_hat).sum() >= 7  # so that there are hats to remove
    assert hats(without).sum() == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("older, smiling, with glasses", ["older", "smiling", "with glasses"]),
        ("a smiling face", ["a smiling face"]),
        ("red and curly hair", ["red hair", "curly hair"]),
        ("long blonde hair and a beard", ["long blonde hair", "a beard"]),
        ("without a hat or glasses", ["without a hat", "without glasses"]),
        ("younger, and no beard", ["younger", "no beard"]),
        ("a man with a beard & glasses.", ["a man with a beard", "glasses"]),
        ("smiling and long hair", ["smiling", "long hair"]),
        ("a handsome sandy-haired man", ["a handsome sandy-haired man"]),
        (" , smiling,, ", ["smiling"]),
        ("!", []),
    ],
)
def test_a_text_is_split_into_single_changes(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


def test_a_long_run_of_spaces_takes_no_time() -> None:
    begun = time.process_time()
    assert parts(f"older{' ' * 50_000}and smiling") == ["older", "smiling"]
    assert time.process_time() - begun < 5  # and not a minute


def test_a_pipeline_splits_a_text_into_edits(tiny_pipeline: StyleEditPipeline) -> None:
    found = tiny_pipeline.split("older, with glasses", method="gradient")
    assert list(found) == ["older", "with glasses"]
    assert all(isinstance(edit, Edit) for edit in found.values())
    with pytest.raises(ValueError, match="no words"):
        tiny_pipeline.split("  ", method="gradient")
