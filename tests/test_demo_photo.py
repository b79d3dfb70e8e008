"""The tab Photo: handlers, the same over HTTP, and a visit with clicks and keys."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from test_demo import (
    browser,  # noqa: F401
    fits,
    open_page,
    pixels,
    pytestmark,  # noqa: F401
    serve,
    wait_for,
    wait_for_other_picture,
)
from test_demo_methods import tab
from test_session import make_edit

from demo import finding
from demo import upload as uploads
from demo.app import build
from demo.components import recipe
from demo.frames import Frame
from demo.tabs.photo import (
    CALM,
    Inverted,
    Moment,
    compared,
    in_words,
    invert,
    neutral_first,
    put_back,
    save_person,
)
from demo.upload import EVERYONE, POINTS, WHOLE, Upload, pairs, receive
from stylegan_hub.models.detailer import Detailer
from stylegan_hub.models.landmarker import Landmarker
from stylegan_hub.photos.align import Landmarks, NoFaceError, align, cut
from stylegan_hub.photos.comparison import Comparison
from stylegan_hub.photos.finders import framing
from stylegan_hub.photos.likeness import Likeness
from stylegan_hub.photos.people import FaceReading
from stylegan_hub.photos.person import Person
from stylegan_hub.photos.photo import read_photo
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZE = (300, 200)
LARGE = Landmarks((88.0, 94.0), (112.0, 94.0), (100.0, 118.0))  # a square of about 120 px
SMALL = Landmarks((234.0, 57.0), (246.0, 57.0), (240.0, 69.0))


@pytest.fixture(scope="module", autouse=True)
def without_cards(nothing_bundled: None) -> None:
    """Nothing is bundled for any test of this file."""


@pytest.fixture(scope="module", autouse=True)
def seeing() -> Iterator[None]:
    """Who looks sees two faces, the smaller one first, in pictures of `SIZE`, and else none."""

    def look(picture: Image.Image) -> Sequence[Landmarks]:
        return [SMALL, LARGE] if picture.size == SIZE else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uploads, "finder", lambda pipe: look)
        yield


@pytest.fixture(scope="module")
def pipe(inverting_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """With encoder, recognizer and landmarker of random weights."""
    parts = inverting_pipeline.components
    return StyleEditPipeline(**parts | {"landmarker": Landmarker(input_size=32, widths=(8, 8, 8))})


@pytest.fixture(scope="module")
def studio(pipe: StyleEditPipeline) -> Studio:
    return Studio(pipe)


@pytest.fixture(scope="module")
def file(pipe: StyleEditPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drawn portrait inside a larger picture."""
    path = tmp_path_factory.mktemp("photos") / "My Photo.png"
    (portrait,) = pipe(seed=1).images
    picture = Image.new("RGB", SIZE, (40, 90, 60))
    picture.paste(portrait.resize((120, 120)), (40, 40))
    picture.save(path)
    return path


@pytest.fixture
def upload(pipe: StyleEditPipeline, file: Path) -> Upload:
    return receive(pipe, file)


@pytest.fixture(scope="module")
def inverted(studio: Studio, file: Path) -> Inverted:
    return last(invert(studio, receive(studio.pipe, file), refine=0))


def last(moments: Iterator[Frame]) -> Inverted:
    *_, end = moments
    assert isinstance(end, Moment)
    return end.inverted


def edited(inverted: Inverted) -> Session:
    edit = make_edit(inverted.studio.pipe, prompt="a hat")
    return Session(latents=inverted.person.latents).with_edit(edit, 2.0)


# What is uploaded


def test_the_largest_face_is_chosen(pipe: StyleEditPipeline, upload: Upload) -> None:
    assert upload.name == "My Photo.png" and upload.slug == "my-photo" and upload.size == SIZE
    assert upload.faces == (LARGE, SMALL) and upload.landmarks == LARGE
    assert upload.note == "Found 2 faces in My Photo.png." and "violet square" in upload.hint
    assert upload.choices == [
        ("Face 1, the largest", "1"), ("Face 2", "2"), ("All of them", EVERYONE),
        ("Where I click: eyes and mouth", POINTS),
    ]  # fmt: skip
    other = upload.chosen("2")
    assert other.landmarks == SMALL and set(other.squares(pipe)) == {"1", "2"}
    with pytest.raises(ValueError, match="Got the face '3'; choose one of 1, 2, everyone, points"):
        upload.chosen("3")
    photo = read_photo(upload.path)
    assert upload.alignment(pipe, photo) == align(photo, LARGE, framing(pipe))


@pytest.mark.parametrize(
    ("size", "shown", "choices"),
    [((100, 100), (512, 512), [POINTS, WHOLE]), ((3000, 1500), (1024, 512), [POINTS])],
)
def test_no_face(
    pipe: StyleEditPipeline,
    tmp_path: Path,
    size: tuple[int, int],
    shown: tuple[int, int],
    choices: list[str],
) -> None:
    Image.new("RGB", size).save(tmp_path / "nobody.png")
    upload = receive(pipe, tmp_path / "nobody.png")
    assert upload.note == "Found no face in nobody.png; show where it is."
    assert upload.hint == "Click the middle of one eye in the photo."
    assert upload.preview.size == shown and [value for _, value in upload.choices] == choices
    with pytest.raises(ValueError, match=r"Got 0 of the three points .* Click the middle of one"):
        list(invert(Studio(pipe), upload))


def test_a_finder_that_is_not_there(
    pipe: StyleEditPipeline, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finder(pipe: StyleEditPipeline) -> None:
        raise NoFaceError("mediapipe's model file is not at /home/me")

    monkeypatch.setattr(uploads, "finder", finder)
    upload = receive(pipe, file)
    assert upload.choice == POINTS and upload.note.endswith("show where it is.")
    assert "/home/me" not in upload.note


def test_files_that_are_no_photos(pipe: StyleEditPipeline, file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    Image.new("1", (12_000, 12_000)).save(tmp_path / "huge.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    for name, data, expected in (
        ("a.heic", b"no picture", r"^a.heic .*pip install"),
        ("a.txt", b"no picture", r"^a.txt \(10 bytes\) cannot be read"),
        ("cut.png", whole[: len(whole) // 2], "^cut.png .* is damaged or cut off"),
        ("huge.png", None, "^huge.png would decode to .* Save a smaller copy"),
        ("small.png", None, "^small.png has 8 x 8 pixels; expected at least 16"),
        ("gone.png", None, "^gone.png is no longer here: .* Upload it again"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=expected):
            receive(pipe, tmp_path / name)


def test_names_never_become_paths(pipe: StyleEditPipeline, file: Path, tmp_path: Path) -> None:
    for name, slug in (("..-.. \u202e$(x) me.PNG", "x-me"), ("漢字.png", "photo")):
        (tmp_path / name).write_bytes(file.read_bytes())
        assert receive(pipe, tmp_path / name).slug == slug


# Where the face is


def test_clicks(pipe: StyleEditPipeline, upload: Upload) -> None:
    def click(upload: Upload, x: float, y: float) -> Upload:
        scale = upload.preview.width / SIZE[0]
        return upload.clicked(pipe, ((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5))

    assert click(upload, 240, 62).choice == "2"  # into the square of the other face
    everything = replace(upload, choice=WHOLE)
    assert click(everything, 240, 62).choice == "2" and click(everything, 20, 190).points
    one = click(upload, 20, 190)  # where there is none: it is shown by points from now on
    assert one.choice == POINTS and one.hint == "Click the middle of the other eye in the photo."
    one = one.with_points().with_points((110.0, 80.0))
    two = click(one, 90, 80)
    assert two.hint == "Click the middle of the mouth in the photo." and two.landmarks is None
    with pytest.raises(ValueError, match="the three lie on a line"):
        click(two, 100, 80)
    three = click(two, 100, 100)
    assert np.allclose(three.points, [(110, 80), (90, 80), (100, 100)], atol=0.2)
    assert three.landmarks is not None
    assert np.allclose(three.landmarks.left_eye, (90, 80), atol=0.2)  # eyes in any order
    assert "click to move a point" in three.hint
    moved = click(three, 102, 104).points
    assert np.allclose(moved, [(110, 80), (90, 80), (102, 104)], atol=0.2)
    assert three.chosen("1").landmarks == LARGE and three.chosen("1").points == three.points
    for outside in ((-1.0, 5.0), (300.0, 5.0), (5.0, math.nan)):
        with pytest.raises(ValueError, match=r"outside My Photo.png; it has 300 x 200"):
            upload.with_points(outside)


def test_squares_and_points_are_shown(pipe: StyleEditPipeline, upload: Upload) -> None:
    def count(picture: Image.Image, color: str) -> int:
        wanted = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
        return int((np.asarray(picture) == wanted).all(2).sum())

    violet, white = uploads._CHOSEN, uploads._OTHER
    large, small = upload.shown(pipe), upload.chosen("2").shown(pipe)
    assert count(large, violet) > 1.5 * count(small, violet) > 0
    assert count(small, white) > 1.5 * count(large, white) > 0
    assert count(upload.preview, violet) == count(upload.preview, white) == 0
    one = upload.with_points((20.0, 20.0)).shown(pipe)
    assert count(one.crop((0, 0, 100, 100)), violet) > 100


def test_pairs() -> None:
    assert pairs([1, 2, 3, 4, 5, 6]) == [(1, 2), (3, 4), (5, 6)]
    with pytest.raises(ValueError, match="Got 5 of six numbers; give both eyes and the mouth"):
        pairs([1, 2, None, 4, 5, 6])


# Who it is


def test_invert_at_once(studio: Studio, upload: Upload, inverted: Inverted) -> None:
    (moment,) = invert(studio, upload, refine=0)
    assert "The face of My Photo.png is here" in moment.status
    photo = read_photo(upload.path)
    crop = cut(photo, align(photo, LARGE, framing(studio.pipe)), 32)
    assert inverted.crop == crop and inverted.studio is studio
    assert torch.equal(inverted.person.latents.codes, studio.pipe.invert(crop).codes)
    assert moment.pictures == (inverted.drawn, inverted.drawn)
    assert inverted.drawn == studio.draw(Session(latents=inverted.person.latents))[0]


def test_refine_and_tune(studio: Studio, upload: Upload, inverted: Inverted) -> None:
    moments = [*invert(studio, upload, refine=4, tune=2)]
    assert "Step 1 of 6" in moments[0].status and moments[0].pictures is not None
    assert moments[0].pictures[0] == inverted.crop
    new = last(iter(moments))
    assert new.person.tuned and new.studio is not studio
    assert new.person.settings["tuning"]["steps"] == 2
    assert inverted.person.likeness is not None and new.person.likeness is not None
    assert new.person.likeness.psnr > inverted.person.likeness.psnr
    assert new.drawn != studio.draw(Session(latents=new.person.latents))[0]
    assert "tuned generator renders it when it is pasted" in compared(new)
    name, photo = put_back(new, edited(new))
    assert name == "my-photo-edited.png" and photo.size == SIZE


def test_invert_stopped(studio: Studio, upload: Upload) -> None:
    moments = invert(studio, upload, refine=100_000, owner="me")
    next(moments)
    studio.stop("me")
    *_, end = moments
    assert "Stopped; nothing was changed" in end.status and not isinstance(end, Moment)


@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_without_an_encoder(
    tiny_pipeline: StyleEditPipeline, studio: Studio, upload: Upload
) -> None:
    assert "At once" in str(build(studio).get_config_file()["components"])
    bare = Studio(tiny_pipeline)
    shown = str(build(bare).get_config_file()["components"])
    assert "no encoder, the network that finds" in shown and "At once" not in shown
    assert "recipes/train_encoder.py --output_dir runs/encoder" in shown
    found = last(invert(bare, upload, refine=2))
    assert "<strong>Unknown whether it is the same person" in compared(found)


def test_commands_stand_on_lines_of_their_own() -> None:
    assert recipe("So:", "a <b> \\", "    c") == (
        "<p>So:</p><pre><code>a &lt;b&gt; \\\n    c</code></pre>"
    )


def test_likeness_in_words(pipe: StyleEditPipeline) -> None:
    def words(*numbers: float) -> list[str]:
        return [word for word, _ in in_words(pipe, Likeness(*numbers))]

    assert words(31, 0.01, 0.8)[:2] == ["Colors match closely", "Looks the same"]
    assert words(22, 0.1, 0.8)[:2] == ["Colors match roughly", "Looks similar"]
    assert words(12, 0.8, 0.8)[:2] == ["Colors differ", "Looks different"]
    assert in_words(pipe, Likeness(math.inf, 0, 1))[0][1].startswith("PSNR infinite")
    assert words(31, 0.01, 0.8)[2].startswith("Unknown whether")
    known = {"same_above": 0.5, "other_accepted": 0.05, "other_below": 0.1, "same_rejected": 0.04}
    assert pipe.recognizer is not None
    pipe.recognizer.register_to_config(calibration=known)
    for identity, start, rate in (
        (0.6, "Probably the same", "5.0%"), (0.3, "Possibly", ""), (0.0, "Not the same", "4.0%"),
    ):  # fmt: skip
        said = words(31, 0.01, identity)[2]
        assert said.startswith(start) and rate in said
    pipe.recognizer.register_to_config(calibration=None)


def test_what_was_found_is_shown_beside_the_photo(inverted: Inverted) -> None:
    html = compared(inverted)
    assert re.findall('alt="(.*?)"', html) == [
        "Cut out of the photo", "As the generator renders it", "Violet where it cannot be rendered",
    ]  # fmt: skip
    assert f"PSNR {inverted.person.likeness.psnr:.1f} dB" in html  # type: ignore[union-attr]


def test_all_faces_are_pasted_back(studio: Studio, pipe: StyleEditPipeline, file: Path) -> None:
    upload = receive(pipe, file)
    assert len(upload.thumbnails) == len(upload.labels) == 2
    everyone = upload.chosen(EVERYONE)
    assert [one.choice for one in everyone.each] == ["1", "2"] and everyone.landmarks == LARGE
    found = last(invert(studio, everyone, refine=0))
    assert len(found.others) == 1 and found.others[0].upload.landmarks == SMALL
    _, photo = put_back(found, edited(found), "face", 0.0)
    change = np.abs(np.asarray(photo, int) - np.asarray(Image.open(file).convert("RGB"), int))
    for face in (LARGE, SMALL):
        x, y = (round(at) for at in face.mouth)
        assert change[y - 3 : y + 3, x - 3 : x + 3].max() > 0


def test_a_neutral_expression_first(inverted: Inverted) -> None:
    session = Session(latents=inverted.person.latents)
    *_, end = neutral_first(inverted.studio, session)
    assert end.found is not None and end.found.origin.prompt == CALM
    with pytest.raises(ValueError):
        list(neutral_first(inverted.studio, Session()))


def test_readers_that_did_not_search_say_what_changed(
    inverting_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of photographs; a pipeline with a landmarker has faces of its own."""
    serious = FaceReading({"neutral": 0.8, "happy": 0.2}, 41.0)
    smiling = FaceReading({"neutral": 0.1, "happy": 0.9}, 39.0)
    told = Comparison(serious, smiling, 0.43)
    monkeypatch.setattr(finding, "compare", lambda before, after: told)
    studio = Studio(inverting_pipeline)
    latents = studio.pipe(seed=1).latents
    *_, end = neutral_first(studio, Session(latents=latents))
    assert "neutral (0.80) before, happy (0.90) after" in end.status and "0.43" in end.status


def test_a_comparison_stands_beside_the_likeness(inverted: Inverted) -> None:
    assert inverted.comparison is None  # drawings
    smiling = FaceReading({"neutral": 0.1, "happy": 0.9}, 39.0)
    photographed = replace(inverted, comparison=Comparison(smiling, smiling, None))
    html = compared(photographed)
    assert "happy (0.90) in the photo, happy (0.90) in the render" in html


def test_a_portrait_is_not_pasted(inverted: Inverted) -> None:
    drawn = {"portrait": {"hat": "yes", "hair_color": "red"}}
    person = replace(inverted.person, settings=drawn, likeness=None)
    portrait = replace(inverted, person=person, own=None)
    html = compared(portrait)
    assert "renders cartoons" in html and "hat yes, hair color red" in html
    with pytest.raises(ValueError, match="drawn portrait"):
        put_back(portrait, Session(latents=person.latents))


# Back into the photo


def test_put_back(inverted: Inverted, file: Path) -> None:
    session = edited(inverted)
    name, photo = put_back(inverted, session)
    assert name == "my-photo-edited.png"
    with Image.open(file) as original:
        before, now = np.asarray(original), np.asarray(photo)
    moved = (before != now).any(2)
    (left, top), _, (right, bottom), _ = inverted.person.alignment.quad  # upright, or nearly
    assert 0 < left < right < SIZE[0] and 0 < top < bottom < SIZE[1] and moved.any()
    moved[int(top) : math.ceil(bottom) + 1, int(left) : math.ceil(right) + 1] = False
    assert not moved.any()
    kept = inverted.studio.keep(session)
    assert put_back(inverted, kept) == (name, photo)
    _, face = put_back(inverted, session.without_edits(), "face")
    assert face.size == SIZE and (np.asarray(face) != before).any()


def test_details_of_the_photo_are_pasted_too(inverted: Inverted) -> None:
    pipe = copy.copy(inverted.studio.pipe)
    pipe.register_modules(detailer=Detailer(patch=2, widths=(8, 8)).eval())
    with_detailer = replace(inverted, studio=Studio(pipe))
    session = edited(inverted)
    plain = put_back(inverted, session)
    assert put_back(with_detailer, session, detail=False) == plain
    assert put_back(with_detailer, session) != plain


def test_what_cannot_be_put_back(inverted: Inverted, tmp_path: Path) -> None:
    gone = replace(inverted, upload=replace(inverted.upload, path=tmp_path / "me.png"))
    for who, session, expected in (
        (None, Session(), "Got no photo; upload one and press “Use this face”"),
        (inverted, Session(seed=7), "shows seed 7, not the photo. Press “Back to this photo”"),
        (inverted, edited(inverted).without_edits(), "Nothing was changed yet"),
        (gone, edited(inverted), "me.png is no longer here"),
    ):
        with pytest.raises(ValueError, match=expected):
            put_back(who, session)


def test_save_person(inverted: Inverted, tmp_path: Path) -> None:
    path = tmp_path / "me.safetensors"
    path.write_bytes(save_person(inverted.person))
    loaded = Person.load(path)
    assert loaded.likeness == inverted.person.likeness
    assert loaded.alignment == inverted.person.alignment
    drawn = loaded.pipeline(inverted.studio.pipe)(latents=loaded.latents).images
    assert drawn == [inverted.drawn]


# Over HTTP


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)


@pytest.mark.slow
def test_over_http(url: str, studio: Studio, file: Path, tmp_path: Path) -> None:
    client = Client(url, verbose=False, download_files=tmp_path)
    for call in (
        lambda: client.predict(30, 0, api_name="/invert"),
        lambda: client.predict(*range(6), api_name="/points"),
    ):
        with pytest.raises(AppError, match="Got no photo; upload one"):
            call()
    with pytest.raises(AppError, match="Got no photo"):
        client.predict("changed", api_name="/paste")

    said = client.predict(handle_file(str(file)), api_name="/photo")[0]
    assert "Found 2 faces in My Photo.png" in said
    eyes = (*LARGE.left_eye, *LARGE.right_eye)
    with pytest.raises(AppError, match="the three lie on a line"):
        client.predict(*eyes, 100, 94, api_name="/points")
    result = client.predict(*eyes, *LARGE.mouth, api_name="/points")
    assert "click to move a point" in result[0] and list(result[-6:]) == [*eyes, *LARGE.mouth]

    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nonsense")
    with pytest.raises(AppError, match=r"^broken.png \(8 bytes\) cannot be read") as caught:
        client.predict(handle_file(str(broken)), api_name="/photo")
    assert "/gradio/" not in str(caught.value)  # where files lie here says nothing to them

    with pytest.raises(AppError, match="Got no photo"):  # a refused one clears the one before
        client.predict(0, 0, api_name="/invert")
    client.predict(handle_file(str(file)), api_name="/photo")
    client.predict(*eyes, *LARGE.mouth, api_name="/points")

    (before, after), status, *_ = client.predict(0, 0, api_name="/invert")
    assert "The face of My Photo.png is here" in status and pixels(before) == pixels(after)
    with pytest.raises(AppError, match="Nothing was changed yet"):
        client.predict("changed", api_name="/paste")
    client.predict("a hat", steps=10, api_name="/edit")
    (before, after), _ = client.predict(1, 2, api_name="/strength")
    assert pixels(before) != pixels(after)
    for where in ("changed", "face"):
        html, button = client.predict(where, api_name="/paste")
        assert 'alt="The edited photo"' in html
        path = Path(button["value"] if isinstance(button, dict) else button)
        assert path.name == "my-photo-edited.png"
        with Image.open(path) as pasted:
            assert pasted.size == SIZE and pasted.format == "PNG"
    client.predict(7, api_name="/face")
    with pytest.raises(AppError, match="shows seed 7"):
        client.predict("face", api_name="/paste")


# In a browser


@pytest.mark.browser
@pytest.mark.parametrize("size", [(390, 844)], ids=["phone"])
def test_a_visit(
    browser: Browser,  # noqa: F811
    url: str,
    file: Path,
    tmp_path: Path,
    size: tuple[int, int],
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nonsense")
    for page in open_page(browser, url):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        first = wait_for_other_picture(page, "")
        tab(page, "Photo")
        page.get_by_text("a person who agrees to it").wait_for()
        send(page, file)
        page.get_by_text("Found 2 faces in My Photo.png").wait_for()
        page.get_by_role("button", name="The photo; a click shows where the face is").wait_for()
        click(page, 240, 62)
        wait_for(page, page.get_by_label("Face 2").is_checked)
        choice = page.get_by_label("Where I click: eyes and mouth")
        choice.press("Space")
        page.get_by_text("Click the middle of one eye").wait_for()
        for eye in (LARGE.left_eye, LARGE.right_eye):
            click(page, *eye)
        page.get_by_role("button", name="Undo point").press("Enter")
        page.get_by_text("Click the middle of the other eye").wait_for()
        click(page, *LARGE.right_eye)
        page.get_by_role("button", name="Points without a mouse").press("Enter")
        across = page.get_by_label("Other eye, across")
        eye = pytest.approx(LARGE.right_eye[0], abs=1.5)
        wait_for(page, lambda across=across, eye=eye: float(across.input_value() or "nan") == eye)
        for axis, at in zip(("across", "down"), LARGE.mouth, strict=True):
            page.get_by_label(f"Mouth, {axis}").fill(str(at))
        page.get_by_role("button", name="Use these points").press("Enter")
        page.get_by_text("or click to move a point").wait_for()
        assert fits(page)

        send(page, broken)  # which clears the one before
        page.get_by_text("cannot be read as").wait_for()
        page.get_by_text("This file was not taken").wait_for()
        page.locator("#photo").wait_for(state="hidden")
        send(page, file)
        page.get_by_text("Found 2 faces in My Photo.png").wait_for()
        page.get_by_label("At once").check()
        page.get_by_role("button", name="Use this face", exact=True).press("Enter")
        page.get_by_text("The face of My Photo.png is here").wait_for()
        face = wait_for_other_picture(page, first)
        page.get_by_alt_text("As the generator renders it").wait_for()
        page.get_by_text("the recognizer is not calibrated").wait_for()
        page.get_by_role("button", name="Paste back").press("Enter")
        page.get_by_text("Nothing was changed yet").wait_for()
        assert fits(page)

        tab(page, "Words")
        page.get_by_role("button", name="Settings of the search").click()
        page.get_by_role("spinbutton", name="Steps").fill("10")
        page.get_by_label("The picture should show").fill("a face with a hat")
        page.get_by_role("button", name="Edit", exact=True).press("Enter")
        page.get_by_text("Found “a face with a hat”").wait_for()
        wait_for_other_picture(page, face)
        wait_for(page, page.get_by_role("slider", name="a face with a hat").is_enabled)

        tab(page, "Photo")
        page.get_by_label("All of what was cut out").check()
        page.get_by_role("button", name="Paste back").press("Enter")
        page.get_by_alt_text("The edited photo").wait_for()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save the photo").press("Enter")
        assert download.value.suggested_filename == "my-photo-edited.png"
        with Image.open(download.value.path()) as pasted, Image.open(file) as original:
            assert pasted.size == SIZE and pasted.tobytes() != original.tobytes()
        with page.expect_download() as download:
            page.get_by_role("button", name="Save this person").press("Enter")
        assert download.value.suggested_filename == "my-photo.safetensors"
        alignment = Person.load(download.value.path()).alignment
        assert alignment.name == "My Photo.png" and alignment.size == SIZE

        page.get_by_role("button", name="Start over").click()
        page.get_by_role("slider", name="a face with a hat").wait_for(state="hidden")
        page.get_by_role("button", name="Paste back").press("Enter")
        page.get_by_text("The page shows seed 0").wait_for()
        page.get_by_role("button", name="Back to this photo").press("Enter")
        page.get_by_text("is here again").wait_for()
        assert fits(page)


def send(page: Page, file: Path) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Upload a photo").click()
    chooser.value.set_files(file)


def click(page: Page, x: float, y: float) -> None:
    """On the photo, whose pixels these are, until it is shown with what came of that."""
    photo = page.locator("#photo img")
    before, box = photo.get_attribute("src"), photo.bounding_box()
    assert box is not None
    scale = box["width"] / SIZE[0]
    photo.click(position={"x": (x + 0.5) * scale, "y": (y + 0.5) * scale})
    wait_for(page, lambda: photo.get_attribute("src") not in (before, None))
