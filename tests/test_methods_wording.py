"""Removals and comparisons are changes between two texts; other words stay as they are."""

from __future__ import annotations

import pytest
import torch

from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import Settings, displacements
from stylegan_hub.methods.wording import reading
from stylegan_hub.names import resolve
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
    "said",
    [
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


def test_a_hat_that_was_added_can_be_taken_off() -> None:
    """The reader, which no search sees, finds no hat on eight heads after "no hat"."""
    pipe = StyleEditPipeline.from_pretrained("portraits")
    reader = AttributeReader.from_pretrained(resolve("attribute-reader", "model")).eval()

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
    assert hats(with_hat).sum() >= 7  # the hats are there, so that there is something to take off
    assert hats(without).sum() == 0
