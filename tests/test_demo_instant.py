"""The tab Words of a pipeline with an instant model: at once, a slider for each change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client
from test_demo import cards, serve  # noqa: F401
from test_demo import pytestmark as of_pages

from demo.finding import how_well
from demo.tabs.words import at_once
from stylegan_hub.edits.base import Edit, Origin
from stylegan_hub.methods.instant_training import BLOCK, make_instant_model
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

pytestmark = [
    *of_pages,
    # Random weights fit no words, of which the library warns; the page says it in its own way.
    pytest.mark.filterwarnings("ignore::stylegan_hub.methods.fit.PoorFitWarning"),
]


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Iterator[Studio]:
    parts = {name: getattr(tiny_pipeline, name) for name in ("generator", "clip", "tokenizer")}
    pipe = StyleEditPipeline(
        **parts,
        image_processor=tiny_pipeline.image_processor,
        instant=make_instant_model(tiny_pipeline, samples=BLOCK),
    )
    yield Studio(pipe)


def test_the_first_words_wait_for_nothing(studio: Studio) -> None:
    """What is computed once for all words is computed when the page starts."""
    asked: list[str] = []

    def find(method: str, *arguments: Any) -> list[Edit]:
        asked.append(method)
        return studio._find_here(method, *arguments)

    Studio(studio.pipe, find=find).warm_up()
    assert asked == ["instant"]
    without = StyleEditPipeline(
        **{name: getattr(studio.pipe, name) for name in ("generator", "clip", "tokenizer")},
        image_processor=studio.pipe.image_processor,
    )
    Studio(without, find=find).warm_up()
    assert asked == ["instant"]  # a search would take minutes


def labels(session: Session) -> list[str]:
    return [label_of(applied) for applied in session.edits]


def found_for(studio: Studio, words: str, neutral: str | None = None) -> Session:
    session = Session(seed=7)
    for frame in at_once(studio, session, words, neutral):
        if frame.found is not None:
            session = session.with_found(frame.found, frame.region)
    return session


def test_a_slider_for_each_change(studio: Studio) -> None:
    session = found_for(studio, "a beard, with a hat")
    assert labels(session) == ["a beard", "with a hat"]
    assert {edit.edit.origin.training["method"] for edit in session.edits} == {"instant"}
    again = found_for(studio, "a beard")
    assert labels(again) == ["a beard"]
    assert again.edits[0].edit.digest == session.edits[0].edit.digest  # one does not move another


def test_negations_mean_what_they_say(studio: Studio) -> None:
    for neutral in (None, studio.pipe.neutral):  # as the page fills it in
        (applied,) = found_for(studio, "without a hat", neutral).edits
        assert label_of(applied) == "without a hat"
        assert applied.edit.origin.training["read_as"] == "a face with a hat -> a face"
    (applied,) = found_for(studio, "a hat", "a beard").edits
    assert applied.edit.origin.neutral == "a beard"


def test_no_words(studio: Studio) -> None:
    with pytest.raises(ValueError, match="Got no words"):
        list(at_once(studio, Session(), " "))


def test_how_well_it_is_seen(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    (applied,) = found_for(studio, "a hat").edits
    edit = applied.edit
    for fit, said in ((0.99, "clearly"), (0.6, "partly"), (0.0, "hardly visible")):
        edit.origin = Origin("a hat", "a face", fit=fit)
        assert said in how_well(studio, edit)
    edit.origin = Origin("a hat", "a face")
    assert how_well(studio, edit) == ""


def test_over_http(studio: Studio, tmp_path: Path) -> None:
    for url in serve(studio):
        client = Client(url, verbose=False, download_files=tmp_path)
        _, status = client.predict("a beard, with a hat", api_name="/edit")
        assert "“with a hat” is applied" in status
        client.predict(2, 0.5, api_name="/strength")  # there are two sliders
        _, status = client.predict("with a hat", steps=10, api_name="/refine")
        assert "Found “with a hat” for this face" in status
