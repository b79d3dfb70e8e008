"""Input that nobody expects: it is refused with an error of ours, and nothing is lost."""

from __future__ import annotations

import copy
import json
import math
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPModel
from typer.testing import CliRunner

from stylegan_hub import hub, many
from stylegan_hub.artifacts import (
    BaseModel,
    config_from,
    full_config,
    parse_json,
    read_config,
    read_folder,
    read_tensors,
    write_metrics,
    write_tensors,
)
from stylegan_hub.bounds import is_strength
from stylegan_hub.cli import main
from stylegan_hub.edits.base import Edit, edit_from_parts, load_edit
from stylegan_hub.edits.combined import Combined
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import InstantEdit
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import ArtifactError, StyleganHubError
from stylegan_hub.latents import Latents
from stylegan_hub.photos.align import Alignment
from stylegan_hub.photos.folder import edit_folder
from stylegan_hub.photos.likeness import Likeness
from stylegan_hub.photos.person import Person
from stylegan_hub.photos.photo import list_photos, read_photo
from stylegan_hub.pictures.recipe import Recipe, Used, read_recipe
from stylegan_hub.pipeline import StyleEditPipeline

BASE = BaseModel(None, "f" * 16, 2, 3, 10, 8)
DIRECTION = Direction(torch.ones(2, 3), "w_plus", BASE)
INSTANT = InstantEdit(torch.ones(2, 3), torch.ones(3), 1.0, BASE)
MAPPER = LatentMapper({"coarse": (0, 1)}, "w_plus", BASE)
ODD = (
    "null", "true", "-1", "NaN", "-1e999", "1e308", "1" + "0" * 400, "1" + "0" * 5000, '""',
    '"\\ud800"', "[]", "[[]]", "{}", '{"a": 1}', "[" * 900 + "]" * 900, "[null, null]",
)  # fmt: skip


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# ---------------------------------------------------------------- JSON


def odd_versions(value: Any) -> Iterator[str]:
    """The value as JSON, with each of its parts deleted or replaced by something odd."""

    def places(part: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        yield path
        keys = part if isinstance(part, dict) else range(len(part) if type(part) is list else 0)
        for key in keys:
            yield from places(part[key], (*path, key))

    for *path, last in filter(None, places(value, ())):
        changed = copy.deepcopy(value)
        parent = changed
        for key in path:
            parent = parent[key]
        parent[last] = "@odd@"
        text = json.dumps(changed)
        yield from (text.replace('"@odd@"', odd) for odd in ODD)
        del parent[last]
        yield json.dumps(changed)


def refused_or_usable(value: Any, read: Callable[[str], object]) -> None:
    read(json.dumps(value))
    for text in (*ODD, *odd_versions(value)):
        try:
            read(text)
        except StyleganHubError:
            pass
        except Exception as error:
            raise AssertionError(f"{error!r} for {text[:500]}") from error


@pytest.mark.parametrize(
    "edit", [DIRECTION, INSTANT, MAPPER, Combined([(DIRECTION, 1.0), (INSTANT, 0.5)])],
    ids=lambda edit: edit.kind,
)  # fmt: skip
def test_odd_values_in_the_config_of_an_edit(edit: Edit) -> None:
    tensors, face = edit.tensors(), Latents("w_plus", torch.ones(1, 2, 3))
    config = full_config(edit.config(), tensors)
    del config["tensors_sha256"]

    def read(text: str) -> None:
        found = edit_from_parts(config_from(text.encode(), "config.json"), tensors, "config.json")
        assert found.apply(face, 1.0).codes.isfinite().all()
        json.dumps(found.config(), ensure_ascii=False, allow_nan=False).encode()  # can be saved

    refused_or_usable(config, read)


def test_odd_values_in_a_stack(tmp_path: Path) -> None:
    path = tmp_path / "stack.safetensors"
    start = Latents("w_plus", torch.zeros(1, 2, 3))
    EditStack(start=start).added(DIRECTION).added(INSTANT, 0.5, "hair", "a name").save(path)
    tensors, header = read_tensors(path)

    def read(text: str) -> None:
        write_tensors(path, tensors, {**header, "stack": text})
        EditStack.load(path).save(path)

    refused_or_usable(json.loads(header["stack"]), read)


def test_odd_values_in_a_person(tmp_path: Path) -> None:
    path = tmp_path / "me.safetensors"
    corners = ((0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (9.0, 0.0))
    same = Likeness(math.inf, 0.0, None)  # of identical pictures
    person = Person(
        Latents("w_plus", torch.zeros(1, 2, 3)), Alignment(corners, (10, 10), "a.png"), BASE, {},
        same, {"refinement": {"steps": 3}},
    )  # fmt: skip
    person.save(path)
    assert Person.load(path).likeness == same
    tensors, header = read_tensors(path)
    for key in ("alignment", "base_model", "settings", "likeness"):

        def read(text: str, key: str = key) -> None:
            write_tensors(path, tensors, {**header, key: text})
            found = Person.load(path)
            assert f"{found.base_model} {found.likeness}" and found.alignment.extent
            found.save(path)

        refused_or_usable(json.loads(header[key]), read)
    for version in ("x", "", "9" * 5000, "\N{ARABIC-INDIC DIGIT ONE}"):
        write_tensors(path, tensors, {**header, "format_version": version})
        with pytest.raises(ArtifactError):
            Person.load(path)


def test_odd_values_in_a_recipe() -> None:
    used = Used("a hat", "hat", 1.0, "hair", "d" * 64)
    recipe = Recipe(1, 0.7, None, (used,), "portraits", "f" * 16)

    def read(text: str) -> None:
        try:
            found = Recipe.from_json(text)
        except ValueError as error:
            raise ArtifactError(str(error)) from error
        assert found.sentence.encode() and found.to_json().encode()

    refused_or_usable(json.loads(recipe.to_json()), read)


def test_numbers_that_are_not_measurable_are_read_where_they_may_stand() -> None:
    assert math.isnan(parse_json('{"a": NaN}', allow_nan=True)["a"])
    with pytest.raises(ValueError, match="finite"):
        parse_json('{"a": NaN}')
    assert not any(map(is_strength, (math.nan, math.inf, 10**400, True, "1", None)))


# ---------------------------------------------------------------- files and folders


def test_tensors_of_odd_types_are_refused(tmp_path: Path) -> None:
    DIRECTION.save_pretrained(tmp_path / "edit")
    config = read_config(tmp_path / "edit")
    del config["tensors_sha256"]
    (tmp_path / "edit" / "config.json").write_text(json.dumps(config))
    for dtype in (torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64):
        vector = torch.ones(2, 3).to(dtype)
        save_file({"vector": vector}, tmp_path / "edit" / "model.safetensors")
        with pytest.raises(ArtifactError, match=r"expected float16"):
            load_edit(tmp_path / "edit")
    huge = Latents("w_plus", torch.full((1, 2, 3), 3e38))
    huge.save(tmp_path / "face.safetensors")
    with pytest.raises(ArtifactError):
        Latents.load(tmp_path / "face.safetensors")
    EditStack(start=huge).save(tmp_path / "stack.safetensors")
    with pytest.raises(ArtifactError):
        EditStack.load(tmp_path / "stack.safetensors")


def decided(folder: Path, name: str, number: float) -> Path:
    """What a killed writer had decided to move into a folder of this name."""
    left = folder / f".{name}.4194305-0123abcd.decided"
    edit = Direction(torch.full((2, 3), number), "w_plus", BASE)
    edit.save_pretrained(left)
    return left


def test_a_decided_save_reaches_its_own_folder_only(tmp_path: Path) -> None:
    for name in ("smile", "smile.v2"):
        DIRECTION.save_pretrained(tmp_path / name)
    left = decided(tmp_path, "smile.v2", 7.0)
    _, tensors = read_folder(tmp_path / "smile")
    assert tensors["vector"].eq(1).all() and left.is_dir()
    _, tensors = read_folder(tmp_path / "smile.v2")
    assert tensors["vector"].eq(7).all() and not left.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="Only root can chown.")
def test_what_another_user_puts_beside_a_folder_does_not_get_in(tmp_path: Path) -> None:
    DIRECTION.save_pretrained(tmp_path / "smile")
    os.chown(decided(tmp_path, "smile", 7.0), 12345, 12345)
    _, tensors = read_folder(tmp_path / "smile")
    assert tensors["vector"].eq(1).all()


def test_tensors_of_another_program_are_not_overwritten(tmp_path: Path) -> None:
    theirs, ours = tmp_path / "lora", tmp_path / "edit"
    theirs.mkdir()
    save_file({"lora": torch.ones(2)}, theirs / "model.safetensors")
    before = (theirs / "model.safetensors").read_bytes()
    with pytest.raises(ArtifactError, match="holds something else"):
        DIRECTION.save_pretrained(theirs)
    assert (theirs / "model.safetensors").read_bytes() == before
    DIRECTION.save_pretrained(ours)
    (ours / "config.json").unlink()  # half of an edit is no loss
    DIRECTION.save_pretrained(ours)
    load_edit(ours)


def test_a_model_beside_its_picture_is_not_overwritten(tmp_path: Path) -> None:
    picture = tmp_path / "lora.png"
    Image.new("RGB", (64, 64), "white").save(picture)
    model = picture.with_suffix(".safetensors")
    save_file({"lora": torch.ones(2)}, model)
    before = model.read_bytes()
    result = run("invert", picture)
    assert result.exit_code == 1 and "lora.safetensors holds something else" in result.output
    assert model.read_bytes() == before


def test_results_of_different_photographs_have_different_names(
    inverting_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    long = "x" * 240 + ".png"
    names = ["a.b.png", "a-b.png", "c/d.png", "c--d.png", "c-/d.png", "c/-d.png", long]
    for name in names:
        (tmp_path / "album" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), "gray").save(tmp_path / "album" / name)
    edit = Direction(torch.ones(8, 16), "w_plus", inverting_pipeline.base_model)
    report = edit_folder(
        inverting_pipeline, tmp_path / "album", tmp_path / "out", [(edit, 1.0)], aligned=True,
        subfolders=True,
    )  # fmt: skip
    assert not report.failures
    for files in (report.people, report.edited):
        assert len(set(files.values())) == len(names) and all(f.is_file() for f in files.values())
    assert report.edited["c/d.png"].name == "c--d-png.png"


def test_a_link_to_itself_does_not_stop_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    found = list_photos(tmp_path, True, tmp_path / "out").photos
    assert [path.name for path in found] == ["a.png", "loop.png"]
    with pytest.raises(StyleganHubError):
        read_photo(found[1])


def test_a_photograph_whose_name_is_no_unicode(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff.png")
    Image.new("RGB", (32, 32)).save(path)
    name = read_photo(path).name
    corners = ((0.0, 0.0), (0.0, 9.0), (9.0, 9.0), (9.0, 0.0))
    face = Latents("w_plus", torch.zeros(1, 2, 3))
    Person(face, Alignment(corners, (32, 32), name), BASE).save(tmp_path / "me.safetensors")
    assert Person.load(tmp_path / "me.safetensors").alignment.name == name


# ---------------------------------------------------------------- many photographs


def test_odd_names_among_many_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a\u2028b.png", "a\x85b.png", "a\x0bb.png", "plain.png", os.fsdecode(b"\xff\xfe.png")]
    (tmp_path / "album").mkdir()
    for name in names:
        (tmp_path / "album" / name).write_bytes(b"no picture")
    monkeypatch.setattr(many, "_pipeline", lambda *_: None)
    job = many.Job(photos=str(tmp_path / "album"), shard_size=2)
    many.run(job, tmp_path / "out")
    progress = many.finish(job, tmp_path / "out")
    assert progress.done == progress.shards == 3 and progress.failed == len(names)
    lines = (tmp_path / "out" / "manifest.jsonl").read_text().split("\n")[:-1]
    assert {json.loads(line)["item"] for line in lines} == set(names)


@pytest.mark.parametrize("text", ["", "{", "[]", "5", "null", '{"seeds": [0, 1' + "0" * 400 + "]}"])
def test_a_damaged_job_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"job\.json"):
        many.begin(many.Job(seeds=(0, 2)), tmp_path)


# ---------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "seeds", ["0-99999999999999999999", "9" * 5000, "0-" + "9" * 19, "5-3", "\N{SUPERSCRIPT TWO}"]
)
def test_odd_seeds_are_errors_of_usage(seeds: str, tmp_path: Path) -> None:
    result = run("sample", "--seeds", seeds, "-o", tmp_path / "x.png")
    assert result.exit_code == 2 and "Error: Got" in result.output


def test_a_file_cannot_control_the_terminal_or_take_the_place_of_a_line(tmp_path: Path) -> None:
    DIRECTION.save_pretrained(tmp_path / "edit")
    metrics = {"from": "bundled", "stale": None, "\x1b[2Jx": "\x1b[31m", "success": 0.5}
    write_metrics(tmp_path / "edit", metrics)
    result = run("info", tmp_path / "edit")
    assert result.exit_code == 0 and "\x1b" not in result.output
    assert "bundled" not in result.output and "folder" in result.output
    config = {**read_config(tmp_path / "edit"), "format_version": 9, "library_version": "\x1b[2J"}
    (tmp_path / "edit" / "config.json").write_text(json.dumps(config))
    result = run("info", tmp_path / "edit")
    assert result.exit_code == 1 and "\x1b" not in result.output


def test_a_text_that_is_no_unicode(tiny_pipeline: StyleEditPipeline) -> None:
    text = "a face " + os.fsdecode(b"\xff")
    for take in (tiny_pipeline.check_text, tiny_pipeline.encode_text):
        with pytest.raises(ValueError, match="Unicode"):
            take(text)


# ---------------------------------------------------------------- pictures and cards


def bomb(path: Path) -> None:
    """A PNG of a few bytes that announces ten thousand million pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(
            ">I", zlib.crc32(name + data)
        )  # fmt: skip

    size = struct.pack(">IIBBBBB", 100_000, 100_000, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def test_pictures_that_announce_too_many_pixels(tmp_path: Path) -> None:
    DIRECTION.save_pretrained(tmp_path / "edit")
    hub.write_card(tmp_path / "edit")
    (tmp_path / "edit" / "images").mkdir()
    picture = tmp_path / "edit" / "images" / "bomb.png"
    bomb(picture)
    for read in (read_photo, read_recipe, lambda _: hub.publish(tmp_path / "edit", "me/edit")):
        with pytest.raises(ArtifactError, match=r"bomb\.png"):
            read(picture)
    picture.unlink()
    (tmp_path / "edit" / "more.json").write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match=r"more\.json"):
        hub.publish(tmp_path / "edit", "me/edit")


def test_animations_with_damaged_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    frames = [Image.effect_noise((40, 40), 90).convert("P") for _ in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    data = path.read_bytes()
    for end in range(len(data) // 3, len(data), len(data) // 40):
        path.write_bytes(data[:end])
        try:
            assert read_photo(path).size == (40, 40)
        except ArtifactError:
            pass


def test_a_card_holds_no_code_of_others(tmp_path: Path) -> None:
    code = 'https://huggingface.co/a/b?");__import__("os").abort();("'
    edit = Direction(torch.ones(2, 3), "w_plus", replace(BASE, id=code))
    edit.save_pretrained(tmp_path / "edit")
    rows = {f"r{index}": {f"c{index}": 1} for index in range(3000)}  # as a table: 9 million cells
    write_metrics(tmp_path / "edit", {"rows": rows})
    text = hub.write_card(tmp_path / "edit").read_text()
    assert "__import__" not in text and 'from_pretrained("a/b")' in text and len(text) < 50_000


@pytest.mark.parametrize(
    "changes",
    [{"images": 10**9}, {"images": "many"}, {"first_seed": None}, {"truncation_psi": "x"},
     {"strength": 1e9}, {"target": {"hair_style": 5}}, {"target": "afro"}],
)  # fmt: skip
def test_odd_conditions_are_not_measured_again(
    changes: dict[str, Any], tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    edit = Direction(torch.ones(8, 16), "w_plus", tiny_pipeline.base_model)
    edit.save_pretrained(tmp_path / "edit")
    write_metrics(tmp_path / "edit", {"images": 2, **changes})
    with pytest.raises(ArtifactError, match=next(iter(changes))):
        hub.evaluate_folder(tmp_path / "edit", tiny_pipeline, None)


# ---------------------------------------------------------------- pipelines


@pytest.mark.parametrize(
    "changes",
    [
        {"attn_implementation": "someone/attention"},
        {"text_config": {"_attn_implementation": "kernels-community/flash-attn2"}},
        {"vision_config": {"num_hidden_layers": 10**7}},
        {"text_config_dict": {"vocab_size": 10**12}},
        {"projection_dim": -1},
    ],
)
def test_a_clip_that_brings_code_or_has_no_bounds(
    changes: dict[str, Any],
    tiny_pipeline_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(tiny_pipeline_folder, tmp_path / "pipe")
    path = tmp_path / "pipe" / "clip" / "config.json"
    config = json.loads(path.read_text())
    for key, value in changes.items():
        config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(config))
    monkeypatch.setattr(CLIPModel, "from_pretrained", lambda *_, **__: pytest.fail("was asked"))
    with pytest.raises(ArtifactError, match=r"clip.config\.json"):
        StyleEditPipeline.from_pretrained(tmp_path / "pipe", device="cpu")


def test_a_deeply_nested_index(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_pipeline_folder, tmp_path / "pipe")
    (tmp_path / "pipe" / "model_index.json").write_text('{"label": ' + "[" * 90_000)
    with pytest.raises(ArtifactError, match=r"model_index\.json"):
        StyleEditPipeline.from_pretrained(tmp_path / "pipe", device="cpu")
    (tmp_path / "pipe" / "model_index.json").write_text("[]")
    with pytest.raises(ArtifactError, match=r"model_index\.json"):
        StyleEditPipeline.from_pretrained(tmp_path / "pipe", device="cpu")
