"""A session is frozen, a studio serves everybody in turn, a search can be watched and stopped."""

import copy
import dataclasses
import threading
import time

import pytest
import torch

from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_optimization import Cancelled, Settings
from stylegan_hub.errors import MismatchError
from stylegan_hub.latents import Space
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session, Studio

QUICK = Settings(steps=3, views=1)
ENDLESS = Settings(steps=100_000, views=0)


@pytest.fixture
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture
def edit(tiny_pipeline: StyleEditPipeline) -> Direction:
    vector = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    return Direction(vector, "w_plus", tiny_pipeline.base_model)


def test_a_change_gives_a_new_session(edit: Direction) -> None:
    session = Session(seed=7)
    edited = session.with_edit(edit)
    assert session.edits == ()
    assert edited.edits == ((edit, 1.0),)
    assert edited.with_strength(-0.5).edits == ((edit, -0.5),)
    assert edited.with_seed(8).edits == edited.edits
    assert edited.without_edits() == session
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.seed = 8  # type: ignore[misc]


def test_a_session_can_be_copied(studio: Studio, edit: Direction) -> None:
    session = studio.keep(Session(seed=7).with_edit(edit)).with_edit(edit, 0.5)
    again = copy.deepcopy(session)
    assert [pixels(p) for p in studio.draw(again)] == [pixels(p) for p in studio.draw(session)]


def test_title(edit: Direction, studio: Studio) -> None:
    session = Session(seed=7).with_edit(edit)
    assert session.title == "face-7-direction"
    with studio.search(session, "Zoë's ../purple  HAIR!", QUICK) as search:
        found = search.result()
    assert Session(seed=7).with_edit(found).title == "face-7-zo-s-purple-hair"


def test_strength(edit: Direction) -> None:
    with pytest.raises(ValueError, match="no edit whose strength could change"):
        Session().with_strength(1.0)
    for strength in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"Got strength {strength}"):
            Session().with_edit(edit).with_strength(strength)


def test_draw(studio: Studio, edit: Direction) -> None:
    session = Session(seed=7)
    before, after = studio.draw(session)
    assert pixels(before) == pixels(after) == pixels(studio.faces([7])[0])
    before, after = studio.draw(session.with_edit(edit))
    assert pixels(before) != pixels(after)
    assert pixels(studio.draw(session.with_edit(edit, 0.0))[1]) == pixels(before)
    assert pixels(studio.draw(session.with_truncation(0.0))[0]) != pixels(before)


def test_keep(studio: Studio, edit: Direction) -> None:
    session = Session(seed=7).with_edit(edit)
    kept = studio.keep(session)
    assert kept.edits == ()
    assert pixels(studio.draw(kept)[0]) == pixels(studio.draw(session)[1])
    assert kept.title == "face"
    assert kept.with_seed(7) == Session(seed=7)


def test_edit_of_another_generator(
    studio: Studio, other_pipeline: StyleEditPipeline, edit: Direction
) -> None:
    stranger = Direction(edit.vector, "w_plus", other_pipeline.base_model)
    with pytest.raises(MismatchError, match="fingerprint"):
        studio.draw(Session().with_edit(stranger))


def test_search(studio: Studio) -> None:
    with studio.search(Session(seed=7), " a hat ", QUICK, "s") as search:
        steps = list(search)
        found = search.result()
    assert [step.index for step in steps] == [1, 2, 3]
    assert search.total == 3
    assert found.space is Space.S
    assert found.origin.prompt == "a hat"


def test_face_kept_in_s_is_edited_in_s(studio: Studio) -> None:
    with studio.search(Session(seed=7), "a hat", QUICK, "s") as search:
        kept = studio.keep(Session(seed=7).with_edit(search.result()))
    with studio.search(kept, "a beard", QUICK, "w_plus") as search:
        assert search.result().space is Space.S


def test_stop(studio: Studio) -> None:
    search = studio.search(Session(), "a hat", ENDLESS, owner="me")
    studio.stop("you")
    assert next(iter(search)).index == 1
    studio.stop("me")
    studio.stop("me")  # no harm in pressing twice
    for step in search:
        assert step.index < 1000
    with pytest.raises(Cancelled):
        search.result()


def test_leaving_the_block_stops(studio: Studio) -> None:
    with pytest.raises(KeyError), studio.search(Session(), "a hat", ENDLESS) as search:
        raise KeyError
    with pytest.raises(Cancelled):
        search.result()


def test_a_new_search_stops_the_one_before(studio: Studio) -> None:
    first = studio.search(Session(), "a hat", ENDLESS, owner="me")
    second = studio.search(Session(), "a beard", QUICK, owner="me")
    with pytest.raises(Cancelled):
        first.result()
    assert second.result().origin.prompt == "a beard"


def test_what_a_search_raises_is_raised_at_its_result(studio: Studio) -> None:
    search = studio.search(Session(), "a hat", Settings(id_lambda=0.1))
    assert list(search) == []
    with pytest.raises(ValueError, match="no recognizer"):
        search.result()


@pytest.mark.parametrize("words", ["", " \n"])
def test_no_words(studio: Studio, words: str) -> None:
    with pytest.raises(ValueError, match="Got no words"):
        studio.search(Session(), words)


def test_too_many_words(studio: Studio) -> None:
    with pytest.raises(ValueError, match="Got 10000 words, 10000 tokens; this CLIP reads 22"):
        studio.search(Session(), "hat " * 10_000)


def test_unfamiliar_words(studio: Studio) -> None:
    assert studio.unfamiliar("A smiling face, with a HAT!") == []
    assert studio.unfamiliar("a face with zebra-hair 12") == ["zebra"]


def test_seed_out_of_range(studio: Studio) -> None:
    for call in (studio.draw, lambda session: studio.search(session, "a hat")):
        with pytest.raises(ValueError, match="Got seed -1"):
            call(Session(seed=-1))


def test_others_are_served_between_the_steps_of_a_search(studio: Studio) -> None:
    with studio.search(Session(), "a hat", ENDLESS) as search:
        next(iter(search))
        started = time.perf_counter()
        for _ in range(3):
            studio.draw(Session(seed=3))
        assert time.perf_counter() - started < 5
        assert next(iter(search)).index < ENDLESS.steps


def test_one_model_call_at_a_time(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    running: list[int] = []
    most: list[int] = []
    draw = studio.pipe.synthesize

    def watched(latents: object) -> torch.Tensor:
        running.append(1)
        most.append(len(running))
        time.sleep(0.01)
        running.pop()
        return draw(latents)  # type: ignore[arg-type]

    monkeypatch.setattr(studio.pipe, "synthesize", watched)
    threads = [threading.Thread(target=studio.draw, args=(Session(seed=i),)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 1 and len(most) == 6


def pixels(picture: object) -> bytes:
    return picture.tobytes()  # type: ignore[attr-defined, no-any-return]
