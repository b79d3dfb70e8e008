"""Links to a face and its edits: what they hold, and what is said of those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from test_session import make_edit, make_full_studio, write_cards

from demo.desk import Desk
from demo.frames import SLOTS, Frame
from demo.link import Change, open_link, read, write
from stylegan_hub.methods import table
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.search import Line
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio


@pytest.fixture(scope="module", autouse=True)
def cards(
    tiny_pipeline: StyleEditPipeline,
    other_pipeline: StyleEditPipeline,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Bundled are only some cards for the tiny pipeline, see `write_cards`."""
    folder = tmp_path_factory.mktemp("cards")
    write_cards(folder, tiny_pipeline, other_pipeline)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEGAN_HUB_CARDS", str(folder))
        yield


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return make_full_studio(tiny_pipeline)


def follow(studio: Studio, query: str, desk: Desk) -> str:
    """Open a link; what is said in the end."""
    *_, last = open_link(studio, desk, read(query))
    assert isinstance(last, Frame)
    return last.status


def test_read() -> None:
    link = read("?seed=7&psi=.5&edit=afro:1.2&text=a face with a hat&edit=me/x@v1:-1:left side")
    assert link.face == Session(seed=7, truncation_psi=0.5) and link.problems == ()
    assert link.changes == (
        Change("afro", False, 1.2),
        Change("a face with a hat", True),
        Change("me/x@v1", False, -1, "left side"),
    )
    assert read("").is_empty and read("?").is_empty
    for others in ("?__theme=dark", "utm_source=x&fbclid=y", "?view=api&__sign=a"):
        assert read(others).is_empty, others


@pytest.mark.parametrize(
    ("query", "change"),
    [
        ("edit=https://huggingface.co/me/x", Change("https://huggingface.co/me/x", False)),
        ("edit=https://huggingface.co/me/x:2", Change("https://huggingface.co/me/x", False, 2)),
        ("text=hair: purple", Change("hair: purple", True)),
        ("text=hair%3A+purple:.5:hair", Change("hair: purple", True, 0.5, "hair")),
        ("edit=afro:1:", Change("afro", False, 1)),
    ],
)
def test_names_may_hold_colons(query: str, change: Change) -> None:
    assert read(query).changes == (change,)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("seed=x", "“x”"),
        ("seed=-1", "“-1”"),
        ("seed=7.5", "“7.5”"),
        (f"seed={2**63}", f"“{2**63}”"),
        ("seed=" + "9" * 5000, "…”"),
        ("seed=", "“”"),
        ("psi=2", "psi is “2”"),
        ("psi=nan", "psi is “nan”"),
        ("label=a", "“a”"),
        ("edit=", "no name"),
        ("text=%20", "empty"),
        ("edit=afro:1e308", "-10 to 10"),
        ("edit=afro:inf", "-10 to 10"),
        ("edit=afro:-11", "-10 to 10"),
        ("sed=7", "did you mean “seed”"),
        ("color=red", "“color”"),
        ("&".join(["edit=afro"] * 51), "more than 50 parts"),
    ],
)
def test_what_cannot_be_read_is_said(bad: str, said: str) -> None:
    link = read(f"?{bad}")
    (problem,) = link.problems
    assert said in problem and len(problem) < 200
    assert link.face is None and link.changes == () and not link.is_empty


def test_the_rest_is_opened(studio: Studio) -> None:
    desk = Desk(Session(seed=3))
    query = "seed=7&psi=9&edit=afros&edit=afro:0.5&edit=strangers&text=&edit=beard:1:tail&label=4"
    said = follow(studio, query, desk)
    assert desk.session == Session(seed=7).with_edit(desk.session.edits[0].edit, 0.5, "afro")
    for part in ("psi is “9”", "“afros” was left out", "'afro'", "“strangers” was", "“tail”"):
        assert part in said, part
    assert "without labels" in said
    assert desk.undo() and desk.session == Session(seed=3)  # what was there is not lost


def test_nothing_that_can_be_opened_changes_nothing(studio: Studio) -> None:
    desk = Desk(Session(seed=3))
    said = follow(studio, "seed=x&edit=afros", desk)
    assert desk.session == Session(seed=3) and not desk.undo()
    assert "“x”" in said and "Opened" not in said


def test_a_text_is_found_again(studio: Studio) -> None:
    desk = Desk()
    said = follow(studio, "seed=7&text=a face with a hat:0.5:left side", desk)
    (applied,) = desk.session.edits
    assert label_of(applied) == "a face with a hat" and applied.name is None
    assert (applied.strength, applied.region) == (0.5, "left side")
    assert applied.edit.origin.prompt == "a face with a hat"
    assert "Opened the link" in said


def test_a_stopped_text_leaves_the_rest(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "bundled_table", lambda domain: None)
    desk, waiting = Desk(), Studio(studio.pipe, Line(places=0))  # so its turn never comes
    frames = open_link(waiting, desk, read("seed=7&edit=afro&text=a hat"), owner="me")
    for frame in frames:
        if "Waiting" in frame.status:
            waiting.stop("me")
    assert "Stopped" in frame.status
    assert [label_of(applied) for applied in desk.session.edits] == ["afro"]


def test_more_edits_than_sliders(studio: Studio) -> None:
    desk = Desk()
    said = follow(studio, "&".join(["edit=afro"] * (SLOTS + 1)), desk)
    assert len(desk.session.edits) == SLOTS and f"{SLOTS} edits" in said


def test_write_and_read_again(studio: Studio) -> None:
    session = Session(seed=7, truncation_psi=0.5)
    session = session.with_edit(studio.load("afro"), -0.25, "afro")
    session = session.with_found(make_edit(studio.pipe, prompt="a hat & “more”: 2"))
    session = session.with_stack(session.stack.with_region(1, "left side"))
    query, missing = write(session)
    assert missing == []
    link = read(query)
    assert link.face == Session(seed=7, truncation_psi=0.5) and link.problems == ()
    assert link.changes == (
        Change("afro", False, -0.25),
        Change("a hat & “more”: 2", True, 1, "left side"),
    )
    assert read(write(Session())[0]).face == Session()


def test_what_a_link_cannot_hold_is_said(studio: Studio, tmp_path: Path) -> None:
    latents = studio.pipe.sample(3)
    session = Session(latents=latents).with_found(make_edit(studio.pipe))
    session = session.with_edit(studio.load("afro"), name="my own: afro?")
    query, missing = write(session)
    assert query == "" and len(missing) == 3
    assert "face" in missing[0] and "my own: afro?" in missing[2]


def test_links_hold_no_key() -> None:
    desk = Desk(key="f" * 32)
    assert desk.key is not None and desk.key not in urlencode({"x": write(desk.session)[0]})
