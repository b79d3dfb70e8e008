"""The tabs Essence, Local and Text to face: handlers, the same over HTTP, and a visit."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import EpsImagePlugin, Image
from test_demo import (
    browser,  # noqa: F401
    fits,
    open_page,
    pixels,
    pytestmark,  # noqa: F401
    serve,
    unpack,
    wait_for,
    wait_for_other_picture,
)
from test_session import in_s, make_edit, make_full_studio

from demo.app import build
from demo.components import open_picture
from demo.desk import Desk
from demo.files import archive, load_stack, save_stack
from demo.frames import SLOTS
from demo.stage import caption, limit
from demo.tabs.essence import (
    TARGETS,
    Target,
    newest_essence,
    row,
    take,
    transfer,
    usual_settings,
)
from demo.tabs.local import change_part, part_shown, with_part
from demo.tabs.text_to_face import Drawn, draw_faces, taken
from stylegan_hub import names
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import ArtifactError
from stylegan_hub.images import from_pil
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.regions.mask import region_mask
from stylegan_hub.session import Session, label_of, slug_of
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TARGETS_FOLDER = Path(__file__).parents[1] / "docs" / "targets"


@pytest.fixture(scope="module", autouse=True)
def without_cards(nothing_bundled: None) -> None:
    """Nothing is bundled for any test of this file."""


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    """With parser and text-to-face network."""
    return make_full_studio(tiny_pipeline)


@pytest.fixture(scope="module")
def bare(tiny_pipeline: StyleEditPipeline) -> Studio:
    """Without."""
    tiny_pipeline.text_to_face = None
    return Studio(tiny_pipeline)


@pytest.fixture
def edit(tiny_pipeline: StyleEditPipeline) -> Direction:
    return make_edit(tiny_pipeline, prompt="a hat")


@pytest.fixture
def target(studio: Studio) -> Target:
    return take(studio, TARGETS_FOLDER / "cat.png")


@pytest.fixture
def full(edit: Direction) -> Session:
    """As many edits as the page has sliders for."""
    session = Session()
    for _ in range(SLOTS):
        session = session.with_edit(edit, name="x")
    return session


# Essence


def test_targets_come_along() -> None:
    assert {path.stem for path in TARGETS_FOLDER.glob("*.png")} == set(TARGETS)


def test_take(studio: Studio, tmp_path: Path) -> None:
    taken = take(studio, TARGETS_FOLDER / "captain-otto.png")
    assert taken.name == "captain otto" and taken.picture.size == (32, 32)
    Image.linear_gradient("L").resize((90, 30)).save(tmp_path / f"{'my_cat-' * 20}.png")
    (path,) = tmp_path.glob("*.png")
    assert take(studio, path).name == ("my cat " * 20)[:40]


def test_a_turned_photograph_is_seen_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    Image.new("RGB", (40, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert open_picture(tmp_path / "photo.jpg").size == (20, 40)


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    whole = (TARGETS_FOLDER / "cat.png").read_bytes()
    for data in (b"no picture", b"", whole[: len(whole) // 2]):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"^cat.png is not a picture that can be read.*PNG"):
            open_picture(path)
    Image.new("1", (9000, 8000)).save(path)
    with pytest.raises(ValueError, match=r"cat.png has 9000 x 8000 pixels; at most 64 million"):
        open_picture(path)


def test_a_picture_starts_no_other_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("was run"))
    path = tmp_path / "cat.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n")
    with pytest.raises(ValueError, match=r"cat\.png"):
        open_picture(path)


@pytest.mark.parametrize("kind", ["in_domain", "out_of_domain"])
def test_transfer(studio: Studio, target: Target, kind: str, tmp_path: Path) -> None:
    session = Session(seed=7)
    *frames, last = transfer(studio, session, target, kind, steps=2, restarts=1)
    assert frames and all(frame.found is None for frame in frames)
    assert 'value="1" max="2"' in frames[0].status and frames[0].pictures is not None
    assert frames[0].pictures[0] == studio.faces([7])[0]
    assert "Found the essence of cat" in last.status
    assert last.found is not None
    edited = session.with_found(last.found)
    assert last.pictures == studio.draw(edited)
    usual, found = usual_settings(studio, kind), last.found.origin.training
    assert found["lr"] == usual.lr and found["restarts"] == 1
    assert found["consistency_lambda"] == usual.consistency_lambda
    assert label_of(edited.edits[0]) == "essence of cat"
    training = last.found.origin.training
    assert (training["first_seed"], training["steps"]) == (7, 2)
    assert (training["components"] is not None) == (kind == "out_of_domain")

    unpack(archive(last.found, slug_of(edited.edits[0])), tmp_path)
    loaded = load_edit(tmp_path / "essence-of-cat")
    assert studio.draw(session.with_edit(loaded)) == last.pictures

    others = row(studio, edited, [3, 4], 1.0)
    assert re.findall('alt="(.*?)"', others) == [
        "Seed 3 with essence of cat",
        "Seed 4 with essence of cat",
    ]
    assert others != row(studio, edited, [3, 4], 0.0)


def test_the_row_is_of_the_newest_essence(studio: Studio, edit: Direction) -> None:
    assert row(studio, Session().with_edit(edit), [3, 4], 1.0) == ""
    assert newest_essence(Session()) is None


def test_transfer_stopped(studio: Studio, target: Target) -> None:
    frames = transfer(studio, Session(), target, steps=100_000, restarts=1, owner="me")
    next(frames)
    studio.stop("me")
    *_, last = frames
    assert "Stopped; nothing was changed" in last.status and last.found is None


def test_what_has_no_essence(studio: Studio, target: Target, full: Session) -> None:
    kept = Session(latents=studio.pipe.lower(studio.pipe.sample(0), "s"))
    for session, given, expected in (
        (Session(), None, "Got no target picture; choose one, or upload"),
        (Session(), Target(target.picture, " "), "Got no name for the target"),
        (full, target, f"one more than {SLOTS} edits"),
        (kept, target, "'essence of cat' moves whole layers"),
    ):
        with pytest.raises(ValueError, match=expected):
            list(transfer(studio, session, given))


# Local


def test_part_shown(studio: Studio) -> None:
    session = Session(seed=7)
    assert 'alt="The face"' in (html := part_shown(studio, session, " "))
    assert "Click the part" in html
    html = part_shown(studio, session, "a face with curly hair")
    assert "hair: the word 'hair'" in html
    assert 'alt="The face; marked: hair"' in html and "data:image/webp" in html
    html = part_shown(studio, session, "", ["left side", "eyes"], background=True)
    assert "all but left side, eyes: your choice" in html
    assert "Unknown region" in part_shown(studio, session, "", ["tail"])
    assert "<img" not in part_shown(studio, session, "", ["tail"])


def test_the_part_is_clicked(studio: Studio) -> None:
    session = Session(seed=7)
    places = ((0.1, 0.9), (0.9, 0.1))
    left, right = (studio.region_at(session, *place) for place in places)
    assert {left, right} <= set(studio.regions)
    picture = studio.rendering.picture(session)
    image = from_pil(picture)
    for name, (across, down) in zip((left, right), places, strict=True):
        mask = region_mask(studio.pipe, image, studio.region("", [name]))
        assert mask[0, 0, int(down * picture.height), int(across * picture.width)] > 0.3
    once = with_part(studio, session, [], *places[0])
    assert once == [left] and with_part(studio, session, once, *places[0]) == []
    with pytest.raises(ValueError, match="outside the picture"):
        with_part(studio, session, [], -1, 0)


def test_the_face_for_a_text_starts_without_edits(studio: Studio, full: Session) -> None:
    latents = studio.pipe.sample(3)
    session = taken(full, latents, "a hat")
    assert not session.edits and session.latents is latents
    assert "for “a hat”" in caption(session, "face")
    later = session.with_edit(full.edits[0].edit, name="afro")
    assert later.text == "a hat" and "for “a hat”, changed: afro" in caption(later, "face")
    assert later.with_seed(3).text is None


@pytest.mark.parametrize("whom", ["everybody", "face"])
def test_change_part(studio: Studio, whom: str) -> None:
    session = Session(seed=7)
    *frames, last = change_part(
        studio, session, "curly hair", whom=whom, steps=2, localization=0.2, layers=[1, 2]
    )
    assert 'value="1" max="2"' in frames[0].status and frames[0].pictures is not None
    person = Session(seed=7 if whom == "face" else 0)
    assert frames[0].pictures[0] == studio.draw(person)[0]
    assert "Found “curly hair (hair)”" in last.status and last.found is not None
    assert last.pictures == studio.draw(session.with_found(last.found))
    training = last.found.origin.training
    assert (training["region"], training["localization_lambda"]) == ("hair", 0.2)
    moved = last.found.vector.abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == [1, 2]


def test_change_a_part_without_words(studio: Studio) -> None:
    *_, last = change_part(studio, Session(), "", ["left side"], steps=2, background=True)
    assert last.found is not None and "“a change (all but left side)”" in last.status
    training = last.found.origin.training
    assert training["background"] and training["clip_lambda"] == 0
    assert training["localization_lambda"] == 1


def test_change_part_stopped(studio: Studio) -> None:
    frames = change_part(studio, Session(), "curly hair", steps=100_000, owner="me")
    next(frames)
    studio.stop("me")
    *_, last = frames
    assert "Stopped; nothing was changed" in last.status and last.found is None


def test_parts_that_cannot_be_changed(studio: Studio, bare: Studio, full: Session) -> None:
    for search, expected in (
        (change_part(studio, Session(), ""), "Got neither words nor a region"),
        (change_part(studio, Session(), "hair", layers=[]), "at least one must move"),
        (change_part(studio, full, "hair"), f"one more than {SLOTS} edits"),
        (change_part(bare, Session(), "hair"), "no parser"),
    ):
        with pytest.raises(ValueError, match=expected):
            list(search)


# The stack


def test_limit(studio: Studio, edit: Direction) -> None:
    desk = Desk(Session(seed=7).with_edit(edit))
    limit(studio, desk, 0, "left side")
    assert desk.session.edits[0].region == "left side"
    limit(studio, desk, 0, "")
    assert desk.session.edits[0].region is None
    with pytest.raises(ValueError, match="Unknown region 'tail'"):
        limit(studio, desk, 0, "tail")
    with pytest.raises(ValueError, match="Got place 1 in a stack of 1 edits"):
        limit(studio, desk, 1, "left side")


def test_stack_file(studio: Studio, edit: Direction, full: Session, tmp_path: Path) -> None:
    session = Session(seed=7).with_edit(edit, 0.5).with_edit(in_s(studio.pipe), name="s")
    path = tmp_path / "face.safetensors"
    session = session.with_stack(session.stack.with_region(1, "left side"))
    path.write_bytes(save_stack(studio, session))
    loaded, _ = load_stack(studio, Session(), path)
    assert [a.region for a in loaded.edits] == [None, "left side"]
    assert studio.draw(loaded) == studio.draw(session)

    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"^face.safetensors \(\d+ bytes\) is damaged"):
        load_stack(studio, Session(), path)
    edit.save_pretrained(tmp_path / "edit")
    with pytest.raises(ValueError, match=r"^model.safetensors is not a stack of edits"):
        load_stack(studio, Session(), tmp_path / "edit" / "model.safetensors")
    EditStack((*full.edits, *full.edits)).save(path)
    with pytest.raises(ValueError, match=f"Got a stack of 16 edits; this page has .* {SLOTS}"):
        load_stack(studio, Session(), path)


# Text to face


def test_draw_faces(studio: Studio) -> None:
    *drawn, last = drawn_for(studio, " a hat ", candidates=2)
    assert [len(one.faces) for one in drawn] == list(range(1, 9))
    assert 'value="1" max="8"' in drawn[0].status
    assert "8 faces for “a hat”" in last.status
    for seed, (picture, _) in enumerate(last.faces):
        assert picture == studio.pipe.from_text("a hat", seed, candidates=2).images[0]
    *_, others = drawn_for(studio, "a hat", first_seed=8, candidates=1)
    assert others.faces[0][0] == studio.pipe.from_text("a hat", 8, candidates=1).images[0]
    with pytest.raises(ValueError, match="Got no words"):
        list(draw_faces(studio, " "))


def drawn_for(studio: Studio, text: str, **options: Any) -> Iterator[Drawn]:
    """Its frames; none waits here."""
    for frame in draw_faces(studio, text, **options):
        assert isinstance(frame, Drawn)
        yield frame


def test_draw_faces_stopped(studio: Studio) -> None:
    drawn = drawn_for(studio, "a hat", candidates=500, owner="me")
    next(drawn)
    studio.stop("me")
    *_, last = drawn
    assert "Stopped after" in last.status and 1 <= len(last.faces) < 8


# What is not there


def test_the_page_says_what_is_missing(bare: Studio) -> None:
    shown = str(build(bare).get_config_file()["components"])
    for part in (
        "no parser",
        "recipes/train_parser.py --output_dir runs/parser",
        "--clip cards/portraits --parser runs/parser/parser",
        "no bundled text-to-face network",
        "recipes/train_text_to_face.py --cache runs/portraits",
    ):
        assert artifacts_escaped(part) in shown, part
    assert "Make faces" not in shown and "Change this part" not in shown


def artifacts_escaped(text: str) -> str:
    return text.replace("'", "&#x27;")


def test_a_damaged_network_is_told(bare: Studio, studio: Studio) -> None:
    folder = names.cards_folder() / "text-to-face"
    assert studio.pipe.text_to_face is not None
    studio.pipe.text_to_face.save_pretrained(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="text-to-face"):
        build(Studio(bare.pipe))
    shutil.rmtree(folder)


def test_the_page_speaks_of_what_the_pictures_show(bare: Studio) -> None:
    pipe = bare.pipe
    parts = {name: getattr(pipe, name) for name in ("clip", "tokenizer", "image_processor")}
    page = build(Studio(StyleEditPipeline(pipe.generator, **parts, neutral="an old <house>")))
    texts = str(page.get_config_file()["components"])
    assert "Change an old &lt;house&gt; with words" in texts
    for label in ("Choose an old", "Random old", "Save old", "Load old", "This old", "Every old"):
        assert f"{label} <house>" in texts or f"{label} &lt;house&gt;" in texts, label
    for label in ("Choose a face", "This face", "Random face", "Pick a face"):
        assert label not in texts


# Over HTTP


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)


@pytest.fixture
def client(url: str, tmp_path: Path) -> Client:
    return Client(url, verbose=False, download_files=tmp_path)


def test_essence_over_http(client: Client) -> None:
    cat = handle_file(str(TARGETS_FOLDER / "cat.png"))
    html, name, kind = client.predict(cat, api_name="/target")
    assert 'alt="The target: cat"' in html and (name, kind) == ("cat", "out_of_domain")
    job = client.submit(name, kind, 10, 1, 0.5, api_name="/essence")
    (before, after), status = job.result()
    assert "Found the essence of cat" in status and pixels(before) != pixels(after)
    assert any("Step 1 of 10" in status for _, status in job.outputs())
    (before, after), _ = client.predict(1, 0, api_name="/strength")
    assert pixels(before) == pixels(after)


def test_local_edit_and_stack_over_http(client: Client, url: str, tmp_path: Path) -> None:
    html = client.predict("curly hair", [], False, "a face", api_name="/part")
    assert "marked: hair" in html
    _, status, html = client.predict(
        words="a hat", names=["left side"], steps=10, layers=[0, 1, 2], api_name="/local"
    )
    assert "Found “a hat (left side)”" in status and "left side: your choice" in html
    (_, everywhere), _ = client.predict(1, 2, api_name="/strength")
    (before, limited), picture = client.predict(1, "left side", api_name="/region")
    assert pixels(everywhere) != pixels(limited) != pixels(before)

    stack = client.predict(api_name="/save_stack")
    assert Path(stack).name == "face.safetensors" and Path(stack).stat().st_size < 10_000
    other = Client(url, verbose=False, download_files=tmp_path)
    assert "with 1 edit." in other.predict(handle_file(stack), api_name="/load_stack")
    (_, again), same = other.predict(1, 2, api_name="/strength")
    assert pixels(again) == pixels(limited) and pixels(same) == pixels(picture)


def test_text_to_face_over_http(client: Client) -> None:
    first, again = (client.predict("a hat", 0.7, 1, api_name="/text_to_face") for _ in range(2))
    assert "8 faces for “a hat”" in first[1]
    seen = [pixels(item["image"]) for result in (first, again) for item in gallery(result)]
    assert len(set(seen)) == 16  # asked again, it draws others


def gallery(result: tuple[Any, ...]) -> list[dict[str, str]]:
    value = result[2]
    return list(value["value"] if isinstance(value, dict) else value)


def test_bad_input_over_http(client: Client, tmp_path: Path) -> None:
    for name in ("broken.png", "face.safetensors"):
        (tmp_path / name).write_bytes(b"nonsense")
    broken, face = (handle_file(str(path)) for path in sorted(tmp_path.iterdir()))
    for expected, inputs in {
        "broken.png is not a picture": {"args": [broken], "api_name": "/target"},
        "face.safetensors .* is damaged or not a safetensors": {
            "args": [face],
            "api_name": "/load_stack",
        },
        "Got no target picture": {"args": ["cat", "in_domain", 10, 1, 0.5], "api_name": "/essence"},
        "not in the list of choices": {
            "args": ["cat", "paper", 10, 1, 0.5],
            "api_name": "/essence",
        },
        "Got neither words nor a region": {"args": [""], "api_name": "/local"},
        "Got no words": {"args": [" ", 0.7, 1], "api_name": "/text_to_face"},
        "Got place 0 in a stack of 0 edits": {"args": [1, "left side"], "api_name": "/region"},
    }.items():
        with pytest.raises((AppError, ValueError), match=expected) as caught:
            client.predict(*inputs["args"], api_name=inputs["api_name"])
        assert "/gradio/" not in str(caught.value)  # where files lie here says nothing to them


# In a browser


@pytest.mark.browser
@pytest.mark.parametrize("size", [(390, 844)], ids=["phone"])
def test_a_visit(
    browser: Browser,  # noqa: F811
    url: str,
    size: tuple[int, int],
    tmp_path: Path,
) -> None:
    for page in open_page(browser, url):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        first = wait_for_other_picture(page, "")

        tab(page, "Text to face")
        page.get_by_label("The face should be").fill("a face with a hat")
        page.get_by_role("button", name="Make faces").press("Enter")
        page.get_by_text("8 faces for").wait_for()
        page.locator("#fitting button").nth(2).press("Enter")
        face = wait_for_other_picture(page, first)
        assert fits(page)

        tab(page, "Essence")
        page.locator("#targets button").nth(4).press("Enter")
        page.get_by_alt_text("The target: cat").wait_for()
        wait_for(page, page.get_by_label("Anything else").is_checked)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Upload a picture").click()
        chooser.value.set_files(TARGETS_FOLDER / "zuri.png")
        page.get_by_alt_text("The target: zuri").wait_for()
        page.get_by_label("Name of the essence").fill("somebody")
        page.get_by_role("button", name="Settings of this search").click()
        page.get_by_role("spinbutton", name="Steps").fill("10")
        page.get_by_role("spinbutton", name="Searches side by side").fill("1")
        page.get_by_role("button", name="Find its essence").press("Enter")
        page.get_by_text("Found the essence of somebody").wait_for()
        found = wait_for_other_picture(page, face)
        page.get_by_alt_text("Seed 7 with essence of somebody").wait_for()
        assert fits(page)

        tab(page, "Local")
        words = page.get_by_label("The part should look like")
        words.fill("a face with curly hair")
        words.blur()
        page.get_by_alt_text("The face; marked: hair").wait_for()
        page.get_by_label("left side").check()
        page.get_by_alt_text("The face; marked: left side").wait_for()
        page.get_by_role("button", name="Settings of the local search").click()
        page.get_by_role("spinbutton", name="Steps").fill("10")
        page.get_by_role("button", name="Change this part").press("Enter")
        page.get_by_text("Found “a face with curly hair (left side)”").wait_for()
        both = wait_for_other_picture(page, found)
        assert fits(page)

        name = "a face with curly hair (left side)"
        wait_for(page, page.get_by_role("slider", name=name).is_enabled)
        where = page.get_by_label(f"Where {name} shows")
        where.click()
        page.get_by_role("option", name="right side").click()
        limited = wait_for_other_picture(page, both)
        with page.expect_download() as download:
            page.get_by_role("button", name="Save face and edits").click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert [a.region for a in EditStack.load(file).edits] == [None, "right side"]

        page.get_by_role("button", name="Start over").click()
        page.get_by_role("button", name=f"Remove {name}").wait_for(state="hidden")
        wait_for_other_picture(page, limited)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Load face and edits").click()
        chooser.value.set_files(file)
        page.get_by_text("Loaded a face with 2 edits").wait_for()
        wait_for(page, page.get_by_role("slider", name="essence of somebody").is_visible)
        assert fits(page)


def tab(page: Any, name: str) -> None:
    """Go to a tab; on a phone some of them are in a menu."""
    found = page.get_by_role("tab", name=name, exact=True)
    if found.is_visible():
        found.press("Enter")
    else:
        page.locator("#tabs .overflow-menu button").first.press("Enter")
        page.locator("#tabs .overflow-dropdown button", has_text=name).press("Enter")
