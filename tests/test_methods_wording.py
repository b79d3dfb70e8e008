"""Removals and comparisons are changes between two texts; other words stay as they are."""

from __future__ import annotations

import re
import time

import pytest
import torch

from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import MethodError
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
        "grow the hair", "turn him into a king", "make it a mohawk", "keep the hat on",
        "a face with a hat", "a smiling face", "afro", "a mohawk", "a noble face", "🎩", "12345",
        "nose", "a knotted scarf", "glasses", "a man who lost his hat", "an unshaven face",
        "a happy face", "red hair, green eyes and a beard", "a man and a woman", "ohne Hut", "?",
    ],
)  # fmt: skip
def test_what_is_no_removal(said: str) -> None:
    assert reading(Words(said), "a face") == Words(said)


def gone(said: str) -> set[str]:
    """What a text takes away from a face, in the words "a face with a hat" and "an old face"."""
    read = reading(Words(said), "a face")
    assert read.neutral is not None, said
    return set(re.split(", | and ", read.neutral.replace(" and ", ", a face with ")))


@pytest.mark.parametrize(
    ("said", "hats", "rest"),
    [
        ("“no hat”", True, set()),
        ("NO HAT...", True, set()),
        ("no\that 🎩", True, set()),
        ("could you please remove her hat?", True, set()),
        ("remove the hat please", True, set()),
        ("I'd like no hat", True, set()),
        ("hat off", True, set()),
        ("make him not wear a hat", True, set()),
        ("neither hat nor glasses", True, {"glasses"}),
        ("without a hat and glasses", True, {"glasses"}),
        ("remove the hat and the glasses", True, {"glasses"}),
        ("take the hat and the glasses off", True, {"glasses"}),
        ("without hat, glasses or a beard", True, {"glasses", "a beard"}),
        ("a face without a hat and glasses", True, {"glasses"}),
        ("shave him", False, {"a beard"}),
        ("clean-shaven", False, {"a beard"}),
        ("less hair", False, {"hair"}),
        ("no hat and glasses", True, {"glasses"}),
        ("no hat, glasses and beard", True, {"glasses", "a beard"}),
        ("a face with no hat & glasses", True, {"glasses"}),
        ("a face with neither a hat nor glasses nor a beard", True, {"glasses", "a beard"}),
        ("hat and glasses off", True, {"glasses"}),
        ("with the hat off", True, set()),
        ("hat: none", True, set()),
        ("hat: none, glasses: no", True, {"glasses"}),
        ("Hat = off; glasses - none", True, {"glasses"}),
        ("hat? No!", True, set()),
        ("he isn't wearing a hat and glasses", True, {"glasses"}),
        ("no more glasses", False, {"glasses"}),
        ("glasses removed", False, {"glasses"}),
        ("zero freckles", False, {"freckles"}),
        ("he has no beard", False, {"a beard"}),
        ("shave", False, {"a beard"}),
    ],
)
def test_what_is_taken_away_in_other_words(said: str, hats: bool, rest: set[str]) -> None:
    wanted = {"a face with a hat"} if hats else set()
    read = reading(Words(said), "a face")
    assert read.removal and read.text == "a face" and read.said == said
    assert {one.lower() for one in gone(said)} == wanted | {f"a face with {one}" for one in rest}


@pytest.mark.parametrize(
    "said",
    ["don't smile", "Don\u2019t smile!", "stop smiling", "he should not smile", 
     "make him not smile",
     "no longer smiling", "not smiling", "smile less", "a face that is not smiling", "non-smiling",
     "less of a smile"],
)  # fmt: skip
def test_a_face_can_stop_doing_something(said: str) -> None:
    read = reading(Words(said), "a face")
    assert (read.text, read.neutral, read.removal) == ("a face", "a smiling face", True)


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        ("a bit older", "older"),
        ("make the man much older", "older"),
        ("OLDER...", "older"),
        ("not without glasses", "with glasses"),
        ("make the woman smile", "more smiling"),
        ("make the hair a little longer", "longer hair"),
        ("give her longer hair", "longer hair"),
        ("turn his hair into an afro", "add an afro"),
        ("change the hair color to red", "make the hair red"),
        ("'a smiling face'", "a smiling face"),
        ("with a hat 🎩 please", "with a hat"),
        ("replace the hat with glasses", "add glasses but no hat"),
        ("glasses instead of a hat", "glasses and no hat"),
        ("hat off, beard on", "add a beard but no hat"),
        ("beard: yes", "add a beard"),
        ("hair: red", "red hair"),
        ("no glasses please, but a beard", "no glasses, but a beard"),
        ("lose weight", "slimmer"),
        ("make him lose a few pounds", "slimmer"),
        ("put on some weight", "chubbier"),
        ("older man", "older"),
        ("neither smiling nor angry", "not smiling or angry"),
    ],
)
def test_the_same_wish_in_other_words(said: str, plain: str) -> None:
    one, other = (reading(Words(text), "a face") for text in (said, plain))
    assert (one.text, one.neutral, one.removal) == (other.text, other.neutral, other.removal)


def test_losing_weight_is_the_opposite_of_gaining_it() -> None:
    lost, gained = (reading(Words(said), "a face") for said in ("lose weight", "gain weight"))
    assert (lost.text, lost.neutral) == (gained.neutral, gained.text)
    assert lost.text == "a slim face" and not lost.removal


@pytest.mark.parametrize(
    "said",
    ["remove everything", "everything off", "take it all off", "without anything",
     "remove all of it", "remove everything but the hat", "smiling, and remove everything",
     "delete her", "get rid of the face", "no face", "lose the head", "add everything", "nothing",
     "undo", "please reset everything", "start over", "remove", "add", "no", "without", "less"],
)  # fmt: skip
def test_what_names_nothing_is_refused_with_advice(said: str) -> None:
    with pytest.raises(MethodError, match="names nothing that could change") as caught:
        reading(Words(said), "a face")
    assert "remove the hat" in caught.value.remedy and "start over" in caught.value.remedy


def test_what_a_picture_shows_beside_its_subject_can_be_removed() -> None:
    assert reading(Words("remove the man"), "a house").neutral == "a house with a man"
    with pytest.raises(MethodError, match="names nothing"):
        reading(Words("remove the house"), "a house")


def test_the_subject_of_a_removal_stays() -> None:
    read = reading(Words("a man without hat or beard"), "a face")
    assert (read.text, read.neutral, read.removal) == (
        "a man",
        "a man with a hat and a beard",
        True,
    )


def test_longer_is_the_opposite_of_shorter() -> None:
    longer, shorter = (reading(Words(f"{how} hair"), "a face") for how in ("longer", "shorter"))
    assert (longer.text, longer.neutral) == (shorter.neutral, shorter.text)
    assert "hair" in longer.text and longer.text != longer.neutral


def test_what_comes_and_what_goes_at_once() -> None:
    read = reading(Words("with a hat but no glasses"), "a face")
    assert (read.text, read.neutral) == ("with a hat", "a face with glasses") and not read.removal
    read = reading(Words("blonde and not smiling"), "a face")
    assert (read.text, read.neutral) == ("blonde", "a smiling face") and not read.removal


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("add a hat, but keep the glasses and her hair", ("glasses", "hair")),
        ("add a hat without changing the hair", ("hair",)),
        ("add a hat keeping the glasses", ("glasses",)),
    ],
)
def test_what_should_be_kept_is_no_wish(said: str, kept: tuple[str, ...]) -> None:
    read = reading(Words(said, keep=("beard",)), "a face")
    assert (read.text, read.keep) == ("a face with a hat", ("beard", *kept))
    for one in parts(said.replace("hat", "hat and freckles")):
        assert reading(Words(one), "a face").keep == kept


@pytest.mark.parametrize("said", ["x " * 1000, "please " * 290, "no " * 650, "a, " * 650])
def test_long_texts_are_read_at_once(said: str) -> None:
    began = time.process_time()
    assert parts(said)
    reading(Words(said), "a face")
    assert time.process_time() - began < 2


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

    some = pipe.sample(range(60_000, 60_016))
    bare = Latents(some.space, some.codes[hats(some) == 0][:8])
    assert len(bare) == 8
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
        ("with a hat but no glasses", ["with a hat", "no glasses"]),
        ("remove the hat and the glasses", ["remove the hat", "remove the glasses"]),
        ("remove the hat and add glasses", ["remove the hat", "add glasses"]),
        ("remove the hat and smile", ["remove the hat", "smile"]),
        ("no beard and long hair", ["no beard", "long hair"]),
        ("no hat and glasses", ["no hat", "no glasses"]),
        ("no hat and a beard", ["no hat", "a beard"]),
        ("no hat, glasses, and smiling", ["no hat", "glasses", "smiling"]),
        ("smiling, hat off", ["smiling", "no hat"]),
        ("hat off, beard on", ["no hat", "add beard"]),
        ("take his glasses off and make him smile", ["take his glasses off", "make him smile"]),
        ("salt and pepper hair", ["salt and pepper hair"]),
        ("Shave him!", ["Shave him"]),
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
