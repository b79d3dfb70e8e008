"""What earlier versions saved still loads, and gives the same results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stylegan_hub.artifacts import DIGEST_KEY
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents
from stylegan_hub.methods.table import load_directions
from stylegan_hub.pictures.recipe import open_picture
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.text_to_face import load_text_to_face
from tests.earlier import TEXT, moved

VERSIONS = sorted((Path(__file__).parent / "data").glob("version-*"))


@pytest.fixture(scope="module", params=VERSIONS, ids=lambda folder: folder.name)
def saved(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="module")
def expected(saved: Path) -> dict[str, Any]:
    return json.loads((saved / "expected.json").read_text())


@pytest.fixture(scope="module")
def pipe(saved: Path) -> StyleEditPipeline:
    return StyleEditPipeline.from_pretrained(saved / "pipeline")


def test_there_is_one() -> None:
    assert "version-0.1.0" in [folder.name for folder in VERSIONS]


def test_a_pipeline(pipe: StyleEditPipeline, expected: dict[str, Any]) -> None:
    picture = np.asarray(pipe(seed=3).images[0], dtype=int).flatten()[::32]
    assert abs(picture - expected["picture"]).max() <= 1
    assert pipe.sample([3]).codes.flatten()[:8].tolist() == pytest.approx(
        expected["codes"], abs=1e-4
    )
    assert pipe.encode_text([TEXT]).shape == (1, 8)


def test_edits(saved: Path, pipe: StyleEditPipeline, expected: dict[str, Any]) -> None:
    for kind, numbers in expected["edits"].items():
        edit = load_edit(saved / kind)
        edit.check_fits(pipe.base_model)
        assert edit.kind == kind and moved(pipe, edit) == pytest.approx(numbers, abs=1e-4)
    direction = load_edit(saved / "direction")
    assert direction.origin.prompt == TEXT and direction.strength.max == 3.0


def test_an_edit_without_a_digest(saved: Path, pipe: StyleEditPipeline, tmp_path: Path) -> None:
    folder = shutil.copytree(saved / "direction", tmp_path / "direction")
    config = json.loads((folder / "config.json").read_text())
    del config[DIGEST_KEY]  # as the first artifacts were
    (folder / "config.json").write_text(json.dumps(config))
    assert moved(pipe, load_edit(folder)) == moved(pipe, load_edit(saved / "direction"))


def test_tables_and_networks(
    saved: Path, pipe: StyleEditPipeline, expected: dict[str, Any]
) -> None:
    table = load_directions(saved / "direction_table")
    assert float(table.relevance.sum()) == pytest.approx(expected["relevance"], abs=1e-3)
    assert table.base_model.fingerprint == pipe.base_model.fingerprint
    assert load_text_to_face(saved / "text_to_face").base_model == table.base_model


def test_a_stack_latents_and_a_picture(saved: Path, pipe: StyleEditPipeline) -> None:
    stack = EditStack.load(saved / "stack.safetensors")
    assert [applied.strength for applied in stack.edits] == [0.7, -0.5]
    assert Latents.load(saved / "latents.safetensors").codes.shape == (1, 6, 8)

    def load(name: str) -> Any:
        raise AssertionError(f"{name} is in the picture itself")

    session, problems = open_picture(pipe, saved / "edited.png", load)
    assert problems == [] and session.seed == 3
    assert [applied.strength for applied in session.stack.edits] == [0.7, -0.5]
