"""The first face is one that is pleasant to see, by the judge of attributes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo import first_faces
from demo.desk import Desk
from demo.first_faces import first_seeds
from demo.visits import Visits
from stylegan_hub.images import from_pil
from stylegan_hub.ops import kernels
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader


@pytest.fixture
def remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which first faces are remembered; empty."""
    monkeypatch.setenv(kernels.CACHE, str(tmp_path))
    return tmp_path / "first-faces"


def test_of_the_bundled_portraits(
    portraits: StyleEditPipeline,
    attribute_reader: AttributeReader,
    remembered: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty = tmp_path / "none.json"
    empty.write_text("{}")
    seeds = first_seeds(portraits)
    assert len(set(seeds)) == 8
    assert not remembered.exists()  # they are in first_faces.json, and are what would be chosen
    monkeypatch.setattr(first_faces, "_BUNDLED", empty)
    assert first_seeds(portraits) == seeds
    reading = attribute_reader.read(from_pil(portraits(seed=[*seeds]).images))
    first = reading.words(0)
    assert (first["hat"], first["glasses"], first["expression"]) == ("no", "no", "smiling")
    smiles = reading.probability("expression", "smiling")
    assert (
        smiles.mean()
        > attribute_reader.read(from_pil(portraits(seed=[*range(100, 108)]).images))
        .probability("expression", "smiling")
        .mean()
    )

    (file,) = remembered.iterdir()
    with monkeypatch.context() as patch:
        patch.setattr(first_faces, "_look", None)  # the faces are not looked at again
        assert first_seeds(portraits) == seeds
    for damaged in ("[", '"12345678"', json.dumps([1] * 7), json.dumps([-1] * 8)):
        file.write_text(damaged)
        with monkeypatch.context() as patch:
            patch.setattr(first_faces, "_look", lambda *_: [5] * 8)
            assert first_seeds(portraits) == (5,) * 8


def test_without_a_reader(tiny_pipeline: StyleEditPipeline, remembered: Path) -> None:
    assert first_seeds(tiny_pipeline) == tuple(range(8))
    assert not remembered.exists()


def test_visitors_start_with_the_first(tmp_path: Path) -> None:
    desk = Visits(parent=tmp_path, seeds=(31, 7)).open(None).desk
    assert desk.session.seed == 31 and desk.seeds == [31, 7]
    desk.change(lambda session: session.with_seed(1))
    desk.things["seeds"] = [4]
    desk.clear()
    assert desk.session == desk.first and desk.seeds == [31, 7]
    assert Desk().session.seed == 0
