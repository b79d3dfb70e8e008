"""What is saved or shared does not say where on this machine something lies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from conftest import check_says_nothing_of

from stylegan_hub import hub, pictures
from stylegan_hub.artifacts import BaseModel, ClipModel
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.names import cards_folder, public_name
from stylegan_hub.photos.align import whole
from stylegan_hub.photos.person import Person
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio


def test_folders_have_only_their_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "me" / "cars").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "me")
    for given in (tmp_path / "me" / "cars", "cars", "./cars", "../me/cars/", Path("cars")):
        assert public_name(given) == "./cars"
    assert public_name(".") == "./me"
    monkeypatch.chdir(tmp_path)
    assert public_name("me/cars") == "./cars"  # a folder, although it looks like a Hub id


def test_other_names_stay(tmp_path: Path) -> None:
    assert public_name("portraits") == "portraits"
    assert public_name(cards_folder() / "portraits") == "portraits"
    (tmp_path / "portraits").mkdir()
    assert public_name(tmp_path / "portraits") == "./portraits"  # another one of this name
    assert public_name("me/cars@v1") == "me/cars@v1"
    assert public_name("https://huggingface.co/me/cars") == "me/cars"


def test_what_is_made_with_a_pipeline_in_a_folder(
    tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder)
    assert (pipe.base_model.id, pipe.clip_model.id) == ("./tiny", "./tiny")
    edit = Direction(torch.ones(8, 16), "w_plus", pipe.base_model)
    edit.save_pretrained(tmp_path / "edit")
    hub.write_card(tmp_path / "edit")
    session = Session(seed=7).with_edit(edit, 0.5)
    session.stack.save(tmp_path / "stack.safetensors")
    picture = Studio(pipe).draw(session)[1]
    for name in ("face.png", "face.jpg", "face.webp"):
        pictures.save_picture(pipe, session, tmp_path / name, picture)
    drawn = pipe(seed=7)
    person = Person(drawn.latents, whole(drawn.images[0].size), pipe.base_model)
    person.save(tmp_path / "person.safetensors")
    pipe.save_pretrained(tmp_path / "copy")
    check_says_nothing_of(tiny_pipeline_folder.parent, tmp_path)


def test_places_in_files_of_earlier_versions_go_no_further(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    base = tiny_pipeline.base_model
    Direction(torch.ones(8, 16), "w_plus", base).save_pretrained(tmp_path / "edit")
    config = tmp_path / "edit" / "config.json"
    config.write_text(config.read_text().replace('"id": null', '"id": "/secret/cars"'))
    edit = load_edit(tmp_path / "edit")
    assert edit.base_model.id == "./cars"
    shutil.rmtree(tmp_path / "edit")
    edit.save_pretrained(tmp_path / "edit")
    check_says_nothing_of(Path("/secret"), tmp_path / "edit")
    assert ClipModel("/secret/cars", "0123").id == "./cars"
    assert BaseModel(**{**vars(base), "id": "me/cars"}).id == "me/cars"
