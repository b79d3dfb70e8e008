"""What visitors take away: mixes, files, edits of their own, and what they share."""

from __future__ import annotations

import gc
import io
import logging
import weakref
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from hub_server import HubServer
from PIL import Image
from test_demo import (
    browser,  # noqa: F401
    cards,  # noqa: F401
    fits,
    open_page,
    pixels,
    pytestmark,  # noqa: F401
    serve,
    unpack,
    wait_for,
    wait_for_other_picture,
    wait_until,
)
from test_demo_methods import tab
from test_hub import ME, running, server  # noqa: F401
from test_session import in_s, make_edit

from demo.desk import Desk
from demo.files import load_stack, save_stack
from demo.making import Making, Plan, planned, plot
from demo.tabs import make, mix, save, share
from stylegan_hub import hub, mixing, pictures
from stylegan_hub.edits.base import load_edit
from stylegan_hub.hub import PublishError
from stylegan_hub.methods.mapper import Settings
from stylegan_hub.methods.method import Pairs, Picture, Words, get
from stylegan_hub.methods.run import Course
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser

QUICK = Settings(steps=6, batch_size=2, population=4)
ENDLESS = Settings(steps=100_000, batch_size=2, population=4)
WORDS = Words("a face with a hat")
hub_client = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)
    gc.collect()


@pytest.fixture
def client(url: str, tmp_path: Path) -> Client:
    return Client(url, verbose=False, download_files=tmp_path)


def making(studio: Studio, settings: Settings = QUICK, name: str = "my hat") -> Making:
    return Making(studio, Plan(name, "mapper", WORDS, settings))


def wait(condition: Callable[[], bool]) -> None:
    wait_until(condition)


# Mix


def test_mixed_faces(studio: Studio) -> None:
    session = Session(seed=1).with_edit(make_edit(studio.pipe))
    first, second = studio.pipe.sample(1), studio.pipe.sample(2)
    found = mix.mixed(studio, session, 2, coarse=1, middle=0, fine=0)
    assert torch.equal(found.codes, mixing.mix(studio.pipe, first, second, 1).codes)
    way = mix.way(studio, session, 2, 3)
    assert torch.allclose(way.codes[2], studio.pipe.lower(second, "w_plus").codes[0])
    for seed in (None, 1.5, -1):
        with pytest.raises(ValueError, match=f"Got seed {seed}"):
            mix.mixed(studio, session, seed)
    kept = studio.keep(Session(seed=1).with_edit(in_s(studio.pipe)))
    with pytest.raises(ValueError, match="Got a face in s"):
        mix.mixed(studio, kept, 2)


# Save as


@pytest.mark.slow
def test_files_to_take_away(studio: Studio, tmp_path: Path) -> None:
    session = Session(seed=7).with_edit(make_edit(studio.pipe, 1, "a beard"), 0.5)
    before, after = studio.draw(session)
    picture = save.made(studio, session, "picture")
    (tmp_path / picture.name).write_bytes(picture.data)
    assert picture.name == "face-7-a-beard.png" and "a beard at strength 0.5" in picture.alt
    opened, problems = load_stack(studio, Session(seed=3), tmp_path / picture.name)
    assert problems == [] and studio.draw(opened) == (before, after)

    strip = Image.open(BytesIO(save.made(studio, session, "strip").data))
    assert strip.width == 1024 and strip.height > 512
    sweep = save.made(studio, session, "sweep", "GIF")
    walk = save.made(studio, session, "walk", "GIF", mark=True)
    assert (sweep.name, walk.name) == ("face-7-a-beard-sweep.gif", "face-7-a-beard-walk.gif")
    for file in (sweep, walk):
        with Image.open(BytesIO(file.data)) as film:
            assert film.size == (512, 512) and film.n_frames > 5
        assert save.preview(file).startswith('<img src="data:image/gif;base64,')
    grid = save.made(studio, session, "grid", text="a face with a hat")
    with Image.open(BytesIO(grid.data)) as sheet:
        assert sheet.width > 4 * 32 and sheet.height > 5 * 32
    with pytest.raises(ValueError, match="add an edit first"):
        save.made(studio, Session(), "sweep", "GIF")
    with pytest.raises(ValueError, match="Got no words"):
        save.made(studio, session, "grid")


def test_a_picture_from_somewhere_else_is_refused(
    studio: Studio, other_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    other = Studio(other_pipeline)
    path = tmp_path / "face.png"
    pictures.save_picture(other.pipe, Session(), path, other.draw(Session())[1])
    with pytest.raises(ValueError, match="This picture was made for"):
        load_stack(studio, Session(), path)
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(ValueError, match="has no recipe") as caught:
        load_stack(studio, Session(), path)
    assert str(tmp_path) not in str(caught.value)


def test_files_that_the_page_cannot_show(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = Session().with_edit(make_edit(studio.pipe), name="x" * 501)
    (tmp_path / "named.safetensors").write_bytes(save_stack(studio, named))
    with pytest.raises(ValueError, match="have 501 letters"):
        load_stack(studio, Session(), tmp_path / "named.safetensors")
    many = Session()
    for _ in range(9):
        many = many.with_edit(studio.load("afro"), name="afro")
    pictures.save_picture(studio.pipe, many, tmp_path / "many.png", studio.draw(many)[1])
    monkeypatch.setattr(studio, "load", lambda name: pytest.fail("It was fetched."))
    with pytest.raises(ValueError, match="Got a stack of 9 edits"):
        load_stack(studio, Session(), tmp_path / "many.png")


# Make your own


def test_a_course_gives_the_edit_that_find_gives(tiny_pipeline: StyleEditPipeline) -> None:
    method = get("mapper")
    course: Course = method.begin(tiny_pipeline, WORDS, settings=QUICK)
    while not course.is_over:
        losses = course.advance()
    assert course.index == 6 and torch.isfinite(losses["loss"])
    with pytest.raises(ValueError, match="All 6 steps are done"):
        course.advance()
    (edit,), found = course.edits(), method.find(tiny_pipeline, WORDS, settings=QUICK)
    for name, tensor in found.tensors().items():
        assert torch.equal(edit.tensors()[name], tensor)


def test_a_training_is_left_and_taken_up_again(studio: Studio) -> None:
    one = making(studio, Settings(steps=40, batch_size=2, population=4))
    one.start("me")
    wait(lambda: one.index >= 2)
    one.stop()
    wait(lambda: not one.is_on)
    assert one.state == "is left" and one.can_go_on and 2 <= one.index < 40
    left = one.index
    assert f"stopped after step {left} of 40" in one.status
    one.start("me")
    wait(lambda: not one.is_on)
    assert one.state == "is done" and one.edit is not None and len(one.losses) == 40
    assert one.sheet is not None and one.sheet.size == (4 * 32, 2 * 32)
    whole = get("mapper").find(studio.pipe, WORDS, settings=one.plan.settings)
    assert all(torch.equal(one.edit.tensors()[n], t) for n, t in whole.tensors().items())
    with pytest.raises(ValueError, match="is done; it cannot be started"):
        one.start("me")


def test_a_training_that_is_left_takes_no_memory(studio: Studio, tmp_path: Path) -> None:
    desk, unfinished = Desk(root=tmp_path), []
    one = making(studio, Settings(steps=40, batch_size=2, population=4))
    make.begin(studio, desk, one, unfinished)
    wait(lambda: one.index >= 2)
    course = weakref.ref(one._course)
    one.stop()
    wait(lambda: one.can_go_on)
    wait(lambda: gc.collect() >= 0 and course() is None)
    assert [path.name for path in tmp_path.rglob("*.pt")] == ["checkpoint.pt"]
    make.go_on(desk, one)
    wait(lambda: not one.is_on)
    assert one.edit is not None and len(one.losses) == 40 and not [*tmp_path.rglob("*.pt")]
    whole = get("mapper").find(studio.pipe, WORDS, settings=one.plan.settings)
    assert all(torch.equal(one.edit.tensors()[n], t) for n, t in whole.tensors().items())


@pytest.mark.parametrize("steps", [2, 100_000])
def test_pictures_that_an_edit_was_made_from_go_with_the_photographs(
    studio: Studio, tmp_path: Path, steps: int
) -> None:
    look = Picture(Image.new("RGB", (32, 32), "red"), "me")
    picture = weakref.ref(look)
    settings = replace(get("essence").presets["from_zero"], steps=steps, sources=4, batch_size=2)
    desk, one = Desk(root=tmp_path), Making(studio, Plan("look", "essence", look, settings))
    del look
    make.begin(studio, desk, one, [])
    wait(lambda: one.index >= 2 or one.is_over)
    one.stop()
    wait(lambda: not one.is_on)
    desk.forget_photographs()
    wait(lambda: gc.collect() >= 0 and picture() is None)
    assert not [*tmp_path.rglob("*.pt")]
    assert one.state == ("is done" if steps == 2 else "has failed"), one.why
    assert steps == 2 or "Its pictures were deleted" in one.status


def test_edits_of_ones_own(studio: Studio) -> None:
    desk, unfinished = Desk(), []
    endless = making(studio, ENDLESS)
    make.begin(studio, desk, endless, unfinished)
    with pytest.raises(ValueError, match="exists already"):
        make.begin(studio, desk, making(studio), unfinished)
    with pytest.raises(ValueError, match="“my hat” is being made"):
        make.begin(studio, desk, making(studio, name="another"), unfinished)
    wait(lambda: endless.index > 0)
    del make.made(desk)["my hat"]  # as when it is deleted, or the whole desk is
    wait(lambda: not endless.is_on)

    pairs = Plan("pairs", "pairs", Pairs([1, 2], [3, 4]), get("pairs").presets["default"])
    slider = Making(studio, pairs)
    make.begin(studio, desk, slider, unfinished)
    wait(lambda: not slider.is_on)
    assert slider.state == "is done" and slider.sheet is not None, slider.why


def test_of_many_unfinished_trainings_the_oldest_is_given_up(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "_UNFINISHED", 1)
    unfinished: list[Any] = []
    left: list[Making] = []
    for _ in range(3):
        one = making(studio, ENDLESS)
        make.begin(studio, Desk(), one, unfinished)
        left.append(one)
        wait(lambda one=one: not one.is_on)  # its desk is gone at once
    assert [one.can_go_on for one in left] == [False, True, True]
    assert "too many unfinished" in left[0].status


def test_what_cannot_be_made(studio: Studio) -> None:
    for name, method, region, message in (
        (" ", "mapper", None, "Got a name of 0 letters"),
        ("x" * 61, "mapper", None, "Got a name of 61 letters"),
        ("x", "mapper", "hair", "parser"),
        ("x", "local", None, "needs a pipeline with a parser"),
    ):
        with pytest.raises(ValueError, match=message):
            planned(studio, name, method, WORDS, region)
    quick = planned(studio, " my  hat ", "mapper", WORDS, length="A quick look")
    assert quick.name == "my hat" and quick.settings.steps == 50


def test_plot() -> None:
    assert plot([1.0]) == ""
    assert "0.0,0.0 160.0,110.0 320.0,55.0" in plot([1.0, 0.0, 0.5])
    assert "1 at first, 0.5 now" in plot([1.0, 0.0, 0.5])


# Share


def ready(studio: Studio, name: str = "my hat", likeness: str | None = "own") -> share.Prepared:
    edit = make_edit(studio.pipe, 1, "a hat")
    return share.prepared(studio, edit, name, "cc-by-4.0", likeness)


def test_a_folder_to_share(studio: Studio, tmp_path: Path) -> None:
    made = ready(studio)
    unpack(made.data, tmp_path)
    assert torch.equal(load_edit(tmp_path / "my-hat").vector, make_edit(studio.pipe, 1).vector)
    assert "license: cc-by-4.0" in made.card
    assert "**Likeness.** It was made from pictures of its maker." in made.card
    card = hub.write_card(tmp_path / "my-hat").read_text()  # both stay when it is written anew
    assert "license: cc-by-4.0" in card and "pictures of its maker" in card
    for name, likeness, message in (("…", "own", "Got the name"), ("x", None, "no likeness")):
        with pytest.raises(ValueError, match=message):
            ready(studio, name, likeness)
    with pytest.raises(ValueError, match="Got the license 'x'"):
        share.prepared(studio, make_edit(studio.pipe), "x", "x", "own")


def test_what_can_be_shared(studio: Studio) -> None:
    desk = Desk(Session().with_edit(make_edit(studio.pipe, 1, "a hat"), 0.5))
    assert [value for _, value in share.sharable(desk)] == ["face/0"]
    desk.change(lambda session: session.with_edit(make_edit(studio.pipe, 2), 1.0, "beard"))
    assert share.sharable(desk)[-1] == ("All edits on the face, as one", "all")
    one = share.chosen(studio, desk, "all", "look")
    both = studio.draw(desk.session)[1]
    alone = studio.draw(Session().with_edit(one, 1.0))[1]
    distance = torch.tensor([*both.tobytes()]) - torch.tensor([*alone.tobytes()])
    assert distance.abs().max() <= 1
    for what in (None, "face/9", "made/x", "face/x"):
        with pytest.raises(ValueError, match="Got nothing to share"):
            share.chosen(studio, desk, what, "x")


@hub_client
def test_publish_and_unpublish(studio: Studio, server: HubServer) -> None:  # noqa: F811
    made = ready(studio)
    repo_id, address = share.publish(made, ME, True, set())
    assert repo_id == "me/my-hat" and address == f"{server.endpoint}/me/my-hat"
    repository = server.repositories["me/my-hat"]
    assert repository.private and {"README.md", "images/before-after.webp"} <= set(repository.files)
    with pytest.raises(PublishError, match="exists already and was not published here"):
        share.publish(made, ME, True, set())
    share.publish(made, ME, True, {"me/my-hat"})  # again, by the same visitor
    for token, message in (("", "Got no login"), ("wrong", "not logged in")):
        with pytest.raises((ValueError, PublishError), match=message):
            share.publish(made, token, True, set())
    hub.unpublish("me/my-hat", ME)
    assert "me/my-hat" not in server.repositories
    with pytest.raises(PublishError, match="was not changed"):
        hub.unpublish("me/my-hat", ME)
    server.create("me/other", {"README.md": b"---\ntags: [x]\n---\n"})
    with pytest.raises(PublishError, match="does not belong to stylegan-hub"):
        hub.unpublish("me/other", ME)


# Over HTTP


@pytest.mark.slow
def test_mix_over_http(client: Client, studio: Studio) -> None:
    client.predict(seed=1, api_name="/face")
    html = client.predict(seed=2, coarse=1, api_name="/mix")
    assert html.count("<img") == 3 and "The mix" in html
    status, *_ = client.predict(seed=2, coarse=1, api_name="/take_mix")
    assert "The mix is the face now" in status
    *_, file = client.predict(what="picture", api_name="/take_away")
    mixed = mixing.mix(studio.pipe, studio.pipe.sample(1), studio.pipe.sample(2), 1)
    with Image.open(file) as picture:
        assert picture.tobytes() == studio.draw(Session(latents=mixed))[1].tobytes()
    faces, film = client.predict(seed=3, api_name="/way")
    assert len(faces) == mix.WAY and film.endswith("way.gif")
    shown = [pixels(face["image"]) for face in faces]
    assert len({*shown}) == mix.WAY
    with Image.open(film) as frames:
        assert frames.n_frames == 2 * 24 - 2


def test_a_saved_picture_opens_over_http(client: Client, url: str, tmp_path: Path) -> None:
    client.predict(seed=7, api_name="/face")
    client.predict(name="afro", api_name="/apply")
    (_, after), file = client.predict(place=1, strength=0.7, api_name="/strength")
    other = Client(url, verbose=False, download_files=tmp_path)
    assert "Loaded a face with 1 edit." in other.predict(
        file=handle_file(file), api_name="/load_stack"
    )
    (_, again), _ = other.predict(place=1, strength=0.7, api_name="/strength")
    assert pixels(again) == pixels(after)


@pytest.mark.slow
def test_make_over_http(client: Client) -> None:
    with pytest.raises(AppError, match="Got a name of 0 letters"):
        client.predict(name="", words="a hat", api_name="/make")
    with pytest.raises(AppError, match="Got no words"):
        client.predict(name="hat", words="", api_name="/make")
    how = {"words": "a face with a hat", "length": "A quick look", "api_name": "/make"}
    client.predict(name="my hat", **how)

    def look() -> str:
        return client.predict(chosen="my hat", api_name="/my_edit")[1]

    wait(lambda: "Step " in look() or "is ready" in look())
    client.predict(chosen="my hat", api_name="/cancel")
    wait(lambda: "stopped after" in look() or "is ready" in look())
    if "stopped after" in look():
        with pytest.raises(AppError, match="is not ready yet"):
            client.predict(chosen="my hat", api_name="/put_on")
        client.predict(chosen="my hat", api_name="/go_on")
    wait(lambda: "is ready" in look())
    assert "<svg" in look() and "<img" in look()
    assert "is applied now" in client.predict(chosen="my hat", api_name="/put_on")
    with pytest.raises(AppError, match=r"other.*my hat"):
        client.predict(chosen="other", api_name="/put_on")
    _, text, file = client.predict(
        what="made/my hat", name="My Hat", likeness="nobody", api_name="/card"
    )
    assert text.lstrip().startswith("# ")
    with zipfile.ZipFile(file) as bundle:
        assert {"my-hat/config.json", "my-hat/README.md"} <= set(bundle.namelist())


# In a browser


@pytest.mark.browser
@hub_client
def test_take_away_in_the_browser(
    browser: Browser,  # noqa: F811
    url: str,
    server: HubServer,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Drop a picture, make an edit, reload, publish it by a token that is nowhere kept."""
    caplog.set_level(logging.DEBUG)
    for page in open_page(browser, url):
        page.set_viewport_size({"width": 1280, "height": 860})
        before = wait_for_other_picture(page, "")
        tab(page, "Zoo")
        page.get_by_role("button", name="afro").click()
        both = wait_for_other_picture(page, before)
        with page.expect_download() as download:
            page.get_by_text("Save picture").click()
        saved = Path(download.value.path()).read_bytes()
        page.get_by_role("button", name="Start over").click()
        wait_for_other_picture(page, both)
        drop(page, saved)
        page.get_by_text("Loaded a face with 1 edit.").wait_for()
        page.get_by_role("slider", name="afro").wait_for()

        tab(page, "Make your own")
        page.get_by_label("Name of the edit").fill("my hat")
        page.get_by_label("What every face should show").fill("a face with a hat")
        page.get_by_label("A quick look").check()
        page.locator("#make").click()
        page.get_by_text("Step ").first.wait_for()
        page.reload()
        wait_for_other_picture(page, "")
        tab(page, "Make your own")
        page.get_by_text("“my hat” is ready").wait_for()
        assert fits(page)

        tab(page, "Share")
        page.locator("#share input").click()
        page.get_by_role("option", name="My edit: my hat").click()
        page.get_by_label("Name", exact=True).fill("my-hat")
        page.get_by_label("No real person").check()
        page.locator("#prepare").click()
        page.locator("#share-card img").wait_for()
        page.get_by_label("Token with write access").fill(ME)
        page.locator("#publish").click()
        page.get_by_text("Published:").wait_for()
        assert page.get_by_role("link", name="me/my-hat").is_visible()
        assert server.repositories["me/my-hat"].private
        token = page.get_by_label("Token with write access")
        wait_for(page, lambda token=token: token.input_value() == "")
        kept = page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})")
        assert ME not in kept and ME not in caplog.text
        page.get_by_label("Token with write access").fill(ME)
        unpublish = page.locator("#unpublish")
        page.get_by_role("button", name="Unpublish").click()
        unpublish.get_by_text("Delete me/my-hat from the Hub?").wait_for()
        unpublish.get_by_role("button", name="Keep it").click()
        unpublish.wait_for(state="hidden")
        assert [*server.repositories] == ["me/my-hat"]
        page.get_by_role("button", name="Unpublish").click()
        unpublish.get_by_role("button", name="Delete it from the Hub").click()
        page.get_by_text("was deleted from the Hub").wait_for()
        assert server.repositories == {}
        unpublish.wait_for(state="hidden")

        tab(page, "Make your own")
        question = page.locator("#delete-edit")
        page.get_by_role("button", name="Delete", exact=True).click()
        question.get_by_text("Delete “my hat”? It cannot be brought back.").wait_for()
        assert page.locator("#make").is_enabled()  # the question locks nothing
        question.get_by_role("button", name="Keep it").click()
        question.wait_for(state="hidden")
        assert page.get_by_text("“my hat” is ready").is_visible()
        page.get_by_role("button", name="Delete", exact=True).click()
        question.get_by_role("button", name="Delete it").click()
        page.get_by_text("“my hat” is ready").wait_for(state="hidden")
        question.wait_for(state="hidden")


@pytest.mark.browser
def test_a_dropped_file_of_another_kind_is_answered(
    browser: Browser,  # noqa: F811
    url: str,
) -> None:
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    for page in open_page(browser, url):
        wait_for_other_picture(page, "")
        for name in ("notes.txt", "edits.zip", "IMG_1.HEIC", "me <b>.jpg", "folder"):
            drop(page, b"something else", name)
            said = f"“{name}” cannot be opened here. Drop a PNG that was saved on this page"
            page.get_by_text(said).wait_for()
        page.get_by_role("button", name="Start over").click()
        page.get_by_text("Undo brings back").wait_for()
        drop(page, b"something else", "folder")  # the same once more
        page.get_by_text("“folder” cannot be opened here").wait_for()
        drop(page, plain.getvalue(), "plain.png")
        page.get_by_text("only PNG pictures saved by stylegan-hub have one").wait_for()
        page.get_by_text("Nothing was changed.").wait_for()


def drop(page: Any, data: bytes, name: str = "face.png") -> None:
    """Drop a file on the page."""
    page.evaluate(
        """([name, bytes]) => {
          const file = new File([new Uint8Array(bytes)], name);
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(file);
          const how = { bubbles: true, cancelable: true, dataTransfer };
          document.querySelector('header').dispatchEvent(new DragEvent('drop', how));
        }""",
        [name, [*data]],
    )
