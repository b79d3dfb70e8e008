"""Pictures that record how they were made, films and sheets."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin
from test_session import make_edit, make_mapper, make_table

from stylegan_hub import pictures
from stylegan_hub.edits.base import Edit
from stylegan_hub.errors import ArtifactError, MethodError, MismatchError, NotFoundError
from stylegan_hub.methods.prompt_bank import text_change
from stylegan_hub.pictures import sheets
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


def nothing(name: str) -> Edit:
    raise NotFoundError(f"Found nothing under {name!r}.")


def saved(studio: Studio, session: Session, path: Path, **options: Any) -> Path:
    pictures.save_picture(studio.pipe, session, path, studio.draw(session)[1], **options)
    return path


def named(studio: Studio, name: str = "afro", strength: float = 1.2) -> Session:
    """The session of a seed, with an edit that a name leads to."""
    return Session(seed=7, truncation_psi=0.5).with_edit(make_edit(studio.pipe, 1), strength, name)


def test_a_saved_picture_opens_again_by_names(studio: Studio, tmp_path: Path) -> None:
    session = named(studio)
    path = saved(studio, session, tmp_path / "face.png")
    recipe, stack = pictures.read_recipe(path)
    assert recipe == pictures.recipe_of(studio.pipe, session) and stack is None
    assert recipe.seed == 7 and recipe.edits[0].name == "afro"
    opened, problems = pictures.open_picture(studio.pipe, path, lambda name: make_edit(studio.pipe))
    assert problems == ["“afro” has changed since; the picture may look different."]
    opened, problems = pictures.open_picture(
        studio.pipe, path, {"afro": session.edits[0].edit}.__getitem__
    )
    assert problems == [] and studio.draw(opened) == studio.draw(session)
    opened, (problem,) = pictures.open_picture(studio.pipe, path, nothing)
    assert not opened.edits and "“afro” was left out: Found nothing" in problem


def test_a_saved_picture_opens_again_without_names(studio: Studio, tmp_path: Path) -> None:
    found = named(studio).with_edit(make_edit(studio.pipe, 2, "a beard"), -0.5)
    kept = studio.keep(found).with_edit(make_edit(studio.pipe, 3, "a hat"), 0.7)
    for session in (found, kept):
        path = saved(studio, session, tmp_path / "face.png")
        opened, problems = pictures.open_picture(studio.pipe, path, nothing)
        assert problems == [] and studio.draw(opened) == studio.draw(session)
        assert opened.edits[-1].strength == session.edits[-1].strength


def test_what_is_too_large_is_left_out_and_said(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(seed=3).with_edit(make_mapper(studio.pipe))
    monkeypatch.setattr("stylegan_hub.pictures.recipe.MAX_STACK_BYTES", 1000)
    path = saved(studio, session, tmp_path / "face.png")
    opened, (problem,) = pictures.open_picture(studio.pipe, path, nothing)
    assert opened.seed == 3 and "too large to store in the picture" in problem


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_every_format_says_that_it_is_edited(studio: Studio, tmp_path: Path, suffix: str) -> None:
    path = saved(studio, named(studio), tmp_path / f"face{suffix}")
    said = b"afro at strength 1.2"
    with Image.open(path) as picture:
        picture.load()
        told = picture.info.get("comment") or picture.getexif().get(0x010E, "").encode()
        if suffix == ".png":
            assert isinstance(picture, PngImagePlugin.PngImageFile)
            told = picture.text["Description"].encode()
        assert said in told
        if suffix != ".gif":
            xmp = picture.info.get("xmp") or picture.info["XML:com.adobe.xmp"]
            xmp = xmp.encode() if isinstance(xmp, str) else xmp
            assert b"digitalsourcetype/trainedAlgorithmicMedia" in xmp and said in xmp
            kept = studio.keep(named(studio))
    if suffix == ".png":
        photo = saved(studio, kept, path).read_bytes()
        assert b"compositeWithTrainedAlgorithmicMedia" in photo


def test_the_visible_mark_is_off_by_default(studio: Studio, tmp_path: Path) -> None:
    session = named(studio)
    plain = Image.open(saved(studio, session, tmp_path / "plain.png"))
    assert plain.tobytes() == studio.draw(session)[1].tobytes()
    marked = Image.open(saved(studio, session, tmp_path / "marked.png", mark=True))
    assert marked.tobytes() != plain.tobytes()
    upper = (0, 0, 32, 8)
    assert marked.crop(upper).tobytes() == plain.crop(upper).tobytes()


def test_a_picture_of_another_generator_is_refused(
    studio: Studio, other_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    path = saved(studio, named(studio), tmp_path / "face.png")
    with pytest.raises(MismatchError, match="This picture was made for"):
        pictures.open_picture(other_pipeline, path, nothing)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (None, "has no recipe"),
        ("{", "recipe in the picture cannot be read"),
        ("[1]", "cannot be read"),
        ({"format_version": 2}, "format_version 2; expected 1"),
        ({"seed": "7"}, "seed '7'"),
        ({"seed": -1}, "seed -1"),
        ({"truncation_psi": 1e400}, "a number is inf"),
        ({"label": "x"}, "label"),
        ({"edits": [{"what": "x", "name": 3, "strength": 1}]}, "short text"),
        ({"edits": [{"what": "x", "name": None, "strength": 1e308}]}, "strength 1e\\+308"),
        ({"edits": [{"what": "x", "name": None, "strength": True}]}, "strength True"),
        ({"edits": [{"code": "x"}]}, "cannot be read"),
        ({"pipeline": "x" * 501}, "short text"),
    ],
)
def test_what_strangers_put_into_a_picture(
    studio: Studio, tmp_path: Path, change: Any, expected: str
) -> None:
    text = change if isinstance(change, str) else ""
    if isinstance(change, dict):
        recipe = json.loads(pictures.recipe_of(studio.pipe, named(studio)).to_json())
        text = json.dumps(recipe | change)
    chunks = PngImagePlugin.PngInfo()
    if text:
        chunks.add_itxt("stylegan-hub", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png", pnginfo=chunks)
    with pytest.raises(ArtifactError, match=expected) as caught:
        pictures.open_picture(studio.pipe, tmp_path / "x.png", nothing)
    assert str(tmp_path) not in str(caught.value)


def test_a_damaged_stack_in_a_picture(studio: Studio, tmp_path: Path) -> None:
    recipe = pictures.recipe_of(studio.pipe, named(studio))
    path = tmp_path / "x.png"
    path.write_bytes(pictures.encode(Image.new("RGB", (8, 8)), recipe, "PNG", b"no stack"))
    with pytest.raises(ArtifactError, match=r"x\.png .* is damaged") as caught:
        pictures.open_picture(studio.pipe, path, nothing)
    assert "/tmp" not in str(caught.value)
    path.write_bytes(b"no picture")
    with pytest.raises(ArtifactError, match="cannot be opened as a face"):
        pictures.read_recipe(path)
    with pytest.raises(NotFoundError, match="There is no file"):
        pictures.read_recipe(tmp_path / "nowhere.png")
    with pytest.raises(ValueError, match="Got the format 'BMP'"):
        pictures.encode(Image.new("RGB", (8, 8)), recipe, "BMP")


def test_a_sweep_goes_from_end_to_end_and_back(studio: Studio) -> None:
    session = named(studio).with_edit(make_edit(studio.pipe, 2), 0.5, "beard")
    film = pictures.sweep(session, 0, frames=8)
    strengths = [one.edits[0].strength for one in film]
    assert min(strengths) == -1.5 and max(strengths) == 1.5
    assert strengths[1:] == pytest.approx(strengths[:0:-1])  # it can run in a loop
    assert {one.edits[1].strength for one in film} == {0.5}
    last = pictures.sweep(session, low=0, high=1, frames=2)
    assert [one.edits[1].strength for one in last] == [0, 1]
    for call, message in (
        (lambda: pictures.sweep(Session()), "add an edit first"),
        (lambda: pictures.sweep(session, 2), "Got place 2"),
        (lambda: pictures.sweep(session, frames=1), "Got 1 frames"),
        (lambda: pictures.walk(Session()), "without edits"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_walk_puts_one_edit_on_after_the_other(studio: Studio) -> None:
    session = named(studio).with_edit(make_edit(studio.pipe, 2), -0.5, "beard")
    film = pictures.walk(session, frames=3)
    pairs = [tuple(applied.strength for applied in one.edits) for one in film]
    assert pairs[0] == (0, 0) and pairs[-1] == (1.2, -0.5)
    assert pairs[4] == (pytest.approx(1.2), 0) and all(first <= 1.2 for first, _ in pairs)
    assert studio.draw(film[0])[1] == studio.draw(session.without_edits())[1]


@pytest.mark.parametrize("suffix", pictures.FILMS)
def test_films_play_and_say_what_they_are(studio: Studio, tmp_path: Path, suffix: str) -> None:
    session = named(studio)
    frames = [studio.draw(one)[1].resize((65, 64)) for one in pictures.sweep(session, frames=6)]
    path = tmp_path / f"film{suffix}"
    pictures.save_film(frames, path, pictures.recipe_of(studio.pipe, session))
    if suffix == ".mp4":
        av = pytest.importorskip("av")
        with av.open(str(path)) as film:
            assert "afro at strength 1.2" in film.metadata["comment"]
            shown = [frame.to_image() for frame in film.decode(video=0)]
        assert len(shown) == 6 and shown[0].size == (64, 64)
        return
    with Image.open(path) as film:
        assert film.n_frames == 6 and film.size == (65, 64)
        told = film.info.get("comment") or film.getexif()[0x010E].encode()
    assert b"afro at strength 1.2" in told


def test_films_that_cannot_be(tmp_path: Path) -> None:
    one, other = Image.new("RGB", (8, 8)), Image.new("RGB", (9, 8))
    for frames, name, message in (
        ([], "x.gif", "Got 0 frames"),
        ([one, other], "x.gif", "of the sizes"),
        ([one], "x.avi", "Cannot write 'x.avi'"),
    ):
        with pytest.raises(ValueError, match=message):
            pictures.save_film(frames, tmp_path / name)
    with pytest.raises(ValueError, match="frames per second"):
        pictures.encode_film([one], "GIF", fps=0)


def test_before_after(studio: Studio) -> None:
    before, after = studio.draw(named(studio))
    plain = pictures.before_after(before, after, labels=False)
    assert plain.crop((0, 0, 32, 32)) == before and plain.crop((32, 0, 64, 32)) == after
    titled = pictures.before_after(before, after)
    height = titled.height - 32
    assert height > 0 and titled.crop((32, height, 64, height + 32)) == after


def test_a_grid_of_alpha_and_beta(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = studio.pipe
    table = make_table(pipe)
    monkeypatch.setattr(sheets, "bundled_table", lambda domain: table)
    face = pipe.sample(7)
    relevance = table.project(text_change(pipe, "a face with a hat", pipe.neutral)).abs()
    some = float(relevance.median())
    sheet = pictures.alpha_beta(
        pipe, face, "a face with a hat", alphas=(0.0, 3.0), betas=(some, 2.0)
    )
    left, top = sheet.width - 64, sheet.height - 64
    cells = [
        sheet.crop((left + x, top + y, left + x + 32, top + y + 32))
        for y in (0, 32)
        for x in (0, 32)
    ]
    (plain,) = pipe(latents=face).images
    assert cells[0] == plain and cells[1] == plain  # alpha 0
    assert cells[2] != plain and cells[3] == plain  # no channel is as relevant as 2
    monkeypatch.setattr(sheets, "bundled_table", lambda domain: None)
    with pytest.raises(MethodError, match="needs a direction table"):
        pictures.alpha_beta(pipe, face, "a hat")
    with pytest.raises(ValueError, match="Got 1 pictures for 2 rows"):
        pictures.titled_grid([plain], ["a", "b"], ["c"])


def test_recipes_hold_labels(studio: Studio) -> None:
    recipe = pictures.recipe_of(studio.pipe, Session(seed=1, label=[0.5, 0.5]))
    assert pictures.Recipe.from_json(recipe.to_json()) == recipe
    assert recipe.sentence.startswith("Generated with stylegan-hub") and "seed 1" in recipe.sentence


def test_bytes_are_the_same_for_the_same_picture(studio: Studio) -> None:
    session = named(studio).with_edit(make_edit(studio.pipe, 2, "a beard"))
    picture = studio.draw(session)[1]
    recipe = pictures.recipe_of(studio.pipe, session)
    first, second = (
        pictures.encode(picture, recipe, "PNG", pictures.stack_bytes(session)) for _ in range(2)
    )
    assert first == second
    with Image.open(BytesIO(first)) as shown:
        assert shown.tobytes() == picture.tobytes()
