"""The tab More: a method from outside is used from the page's handlers and by programs.

A browser uses it in `test_demo_never_lost`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from outside import Blend, blend_registered, expected_vector
from PIL import Image
from test_demo import pixels, pytestmark, serve  # noqa: F401
from test_session import labeled, make_edit, make_full_studio  # noqa: F401

import stylegan_hub as hub
from demo.app import build
from demo.desk import Desk
from demo.finding import Wanted
from demo.frames import SLOTS
from demo.tabs import essence, local, words
from demo.tabs.more import Filled, Several, choose, find, others, ways
from stylegan_hub.methods.method import Nothing, Pairs, Picture, Words
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

TABBED = (*words.METHODS, *essence.METHODS, *local.METHODS)


@pytest.fixture(scope="module", autouse=True)
def without_cards(nothing_bundled: None) -> None:
    """Nothing is bundled for any test of this file."""


@pytest.fixture(scope="module", autouse=True)
def blend() -> Iterator[None]:
    """A method that this project does not have."""
    with blend_registered():
        yield


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture(scope="module")
def full_studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    """With a parser."""
    return make_full_studio(tiny_pipeline)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "gradient.png"
    Image.linear_gradient("L").resize((40, 30)).save(path)
    return str(path)


# Handlers


def test_every_method_is_on_the_page() -> None:
    """In a tab that is made for it, or in this one."""
    assert set(hub.methods.known()) == {*TABBED, *others(TABBED)}
    assert {"blend", "mapper"} <= set(others(TABBED))
    assert ways(Blend()) == [Pairs, Nothing]


def test_what_is_filled_in(picture: str) -> None:
    asked = Filled(words=" a hat ", neutral="a face", keep="glasses, hair, ")
    assert asked.request([Words, Nothing]) == Words("a hat", "a face", ("glasses", "hair"))
    seen = Filled(picture=picture).request([Words, Picture])
    assert isinstance(seen, Picture) and seen.image.size == (40, 30)
    pairs = Filled(before=[picture], seeds_after="3, 4 5", paired=False).request([Pairs, Nothing])
    assert isinstance(pairs, Pairs) and not pairs.paired
    assert pairs.before[0].size == (40, 30) and pairs.after == [3, 4, 5]
    assert Filled(words="a hat").request([Pairs, Nothing]) == Nothing()


def test_many_large_pictures_take_little_memory(tmp_path: Path) -> None:
    for name, size in (("large", (4000, 3000)), ("odd", (2001, 7)), ("small", (1000, 10))):
        Image.new("P", size).save(tmp_path / f"{name}.png")
    names = [str(tmp_path / f"{name}.png") for name in ("large", "odd", "small")]
    pairs = Filled(before=names, after=names).request([Pairs])
    assert isinstance(pairs, Pairs)
    assert [picture.size for picture in pairs.before] == [(1024, 768), (1024, 4), (1000, 10)]


@pytest.mark.parametrize(
    ("kind", "filled", "message"),
    [
        (Words, Filled(words=" "), "Got no words"),
        (Picture, Filled(), "Got no picture; choose one"),
        (Pairs, Filled(seeds_before="1"), "Got no pictures after the change"),
        (Pairs, Filled(seeds_before="1.5", seeds_after="2"), "Got the seeds '1.5' before"),
        (Pairs, Filled(before=["x"] * 65, seeds_after="2"), "Got 65 pictures before; at most 64"),
        (Picture, Filled(picture="nowhere.png"), "nowhere.png is not a picture"),
    ],
)
def test_what_cannot_be_asked(kind: type[Any], filled: Filled, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        filled.request([kind])


def test_several_edits_to_choose_from(studio: Studio) -> None:
    session = Session(seed=7)
    wanted = Wanted(Pairs([1, 2], [3, 4]), "blend", True)
    *frames, last = find(studio, session, wanted)
    assert 'value="1" max="2"' in frames[0].status and frames[0].pictures is None
    assert isinstance(last, Several) and "Found 2 edits" in last.status and last.found is None
    there, back = last.edits
    assert torch.equal(there.vector, expected_vector(studio.pipe, [1, 2], [3, 4]))
    for edit, preview in zip(last.edits, last.previews, strict=True):
        assert preview == studio.draw(session.with_edit(edit))[1]

    desk = Desk(session)
    assert "“blend to back” is applied now" in choose(desk, last.edits, last.region, 1)
    choose(desk, last.edits, last.region, 1)
    choose(desk, last.edits, last.region, 0)
    assert [applied.edit for applied in desk.session.edits] == [back, there]
    assert label_of(desk.session.edits[1]) == "blend to a change"
    full = desk.session
    for _ in range(SLOTS):
        full = full.with_edit(make_edit(studio.pipe), name="x")
    with pytest.raises(ValueError, match=f"one more than {SLOTS} edits"):
        choose(Desk(full.without_found("blend to back")), last.edits, None, 1)


def test_presets_and_this_face(studio: Studio) -> None:
    session = Session(seed=7).with_edit(make_edit(studio.pipe))
    *_, last = find(studio, session, Wanted(Nothing(), "blend", settings="far"))
    assert isinstance(last, Several)
    expected = 2 * expected_vector(studio.pipe, [0, 1], [2, 3])
    torch.testing.assert_close(last.edits[0].vector, expected)


def test_one_edit_is_put_on(studio: Studio) -> None:
    wanted = Wanted(Words("a hat"), "gradient", True)
    *_, last = find(studio, Session(), wanted)
    assert last.found is not None and "Found “a hat”" in last.status
    assert last.pictures == studio.draw(Session().with_found(last.found))


def test_a_region(full_studio: Studio) -> None:
    """What cannot be searched for in a region is shown in it."""
    session = Session(seed=7)
    *_, last = find(full_studio, session, Wanted(Nothing(), "blend", region="left side"))
    assert isinstance(last, Several) and last.region == "left side"
    desk = Desk(session)
    choose(desk, last.edits, last.region, 0)
    assert desk.session.edits[0].region == "left side"
    assert last.previews[0] == full_studio.draw(desk.session)[1]
    with pytest.raises(ValueError, match="Unknown region 'tail'"):
        list(find(full_studio, session, Wanted(Nothing(), "blend", region="tail")))


def test_a_page_where_each_method_has_a_tab(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "METHODS", tuple(hub.methods.known()))
    shown = str(build(studio).get_config_file()["components"])
    assert "Every method of this pipeline has its own tab" in shown


def test_a_class_is_asked_for_where_there_are_some(
    studio: Studio,
    labeled: Studio,  # noqa: F811
) -> None:
    labels = {
        one.pipe: [
            component["props"].get("choices")
            for component in build(one).get_config_file()["components"]
            if component["props"].get("label") == "Class"
        ]
        for one in (studio, labeled)
    }
    assert labels[studio.pipe] == []
    ((first, *rest),) = labels[labeled.pipe]
    assert first[1] == 0 and len(rest) == 2


# Over HTTP


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)


@pytest.fixture
def client(url: str, tmp_path: Path) -> Client:
    return Client(url, verbose=False, download_files=tmp_path)


def test_find_over_http(client: Client, picture: str) -> None:
    asked = {"method": "blend", "seeds_before": "1, 2", "seeds_after": "3, 4"}
    _, status, gallery, *_ = client.predict(**asked, api_name="/find")
    assert "Found 2 edits" in status
    shown = gallery["value"] if isinstance(gallery, dict) else gallery
    assert [item["caption"] for item in shown] == ["blend to a change", "blend to back"]
    broken = {"method": "blend", "before": [handle_file(picture)] * 2}
    for inputs, expected in (
        ({"method": "mapper", "words": " "}, "Got no words"),
        ({"method": "magic"}, "not in the list of choices"),
        ({**broken, "seeds_after": "3"}, "Got pictures; expected seeds"),
    ):
        with pytest.raises((AppError, ValueError), match=expected):
            client.predict(**inputs, api_name="/find")


def test_faces_of_a_class_over_http(labeled: Studio, tmp_path: Path) -> None:  # noqa: F811
    for url in serve(labeled):
        client = Client(url, verbose=False, download_files=tmp_path)
        client.predict(7, api_name="/face")
        client.predict(2, api_name="/label")
        client.predict("a hat", steps=10, api_name="/edit")
        _, file = client.predict(1, 0, api_name="/strength")
        assert pixels(file) == labeled.faces([7], label=2)[0].tobytes()
