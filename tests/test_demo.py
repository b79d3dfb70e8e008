"""The page: its handlers, the same over HTTP, and a person's clicks in headless Chromium."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import gc
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import gradio as gr
import pytest
import torch
from gradio.state_holder import StateHolder
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from test_session import make_edit, write_cards

from demo.app import build, launch_options
from demo.components import explain, message, toast, warning
from demo.desk import Desk
from demo.files import archive
from demo.frames import SLOTS, Frame, watched
from demo.opening import Opening
from demo.programs import DESCRIPTIONS
from demo.slots import marks
from demo.stage import Stage, choose, random_seeds
from demo.tabs.words import EXAMPLES, for_everybody, for_this_face, refine
from demo.tabs.zoo import card, gallery, group_of, put_on
from demo.visits import Visits
from stylegan_hub import names
from stylegan_hub.edits.base import Strength, load_edit
from stylegan_hub.errors import MismatchError, NotFoundError
from stylegan_hub.hub import EditInfo
from stylegan_hub.images import from_pil
from stylegan_hub.methods import gradient, table
from stylegan_hub.methods.style_statistics import editable_channels
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.search import Line, Search, Turns
from stylegan_hub.session import Session
from stylegan_hub.steps import Cancelled
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

_ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP: ViewportSize = {"width": 1280, "height": 900}
PHONE: ViewportSize = {"width": 390, "height": 844}
SECONDS = 120  # that a click may take on a busy machine
pytestmark = [
    pytest.mark.usefixtures("short_searches"),
    # gradio asks its pandas for what that is about to drop.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    # Sockets and event loops that gradio and its client leave to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def cards(
    tiny_pipeline: StyleEditPipeline,
    other_pipeline: StyleEditPipeline,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """Bundled are now the real pipeline and some cards for the tiny one, see `write_cards`."""
    real = names.bundled()["portraits"]
    folder = tmp_path_factory.mktemp("cards")
    write_cards(folder, tiny_pipeline, other_pipeline)
    (folder / "portraits").symlink_to(real)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEGAN_HUB_CARDS", str(folder))
        yield folder
    gc.collect()  # what gradio leaves open, while the marks above still hold


@pytest.fixture(scope="module")
def studio(tiny_pipeline: StyleEditPipeline) -> Studio:
    return Studio(tiny_pipeline)


@pytest.fixture
def bare(tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """A studio without a direction table, and without what was found before."""
    monkeypatch.setattr(table, "bundled_table", lambda domain: None)
    monkeypatch.setattr(gradient, "_FOUND", WeakKeyDictionary())
    return Studio(tiny_pipeline)


@pytest.fixture(scope="module")
def url(studio: Studio) -> Iterator[str]:
    yield from serve(studio)


def serve(studio: Studio) -> Iterator[str]:
    page = build(studio)
    _, address, _ = page.launch(
        prevent_thread_lock=True, quiet=True, _frontend=False, **launch_options(page)
    )
    yield address
    page.close(verbose=False)


# Handlers


def test_choose() -> None:
    assert choose(Session(), 7.0) == Session(seed=7)
    for seed in (None, 1.5):
        with pytest.raises(ValueError, match=f"Got seed {seed}"):
            choose(Session(), seed)
    for far in (1e30, -1.0, float("inf")):
        with pytest.raises(ValueError, match="Got seed"):
            choose(Session(), far)


def test_random_seeds_differ() -> None:
    assert len(set(random_seeds())) == 8


def test_events_of_a_user_do_not_undo_each_other() -> None:
    desk = Desk()
    seeds = threading.Thread(target=lambda: [desk.change(add_one) for _ in range(200)])
    seeds.start()
    for _ in range(200):
        desk.change(add_one)
    seeds.join()
    assert desk.session.seed == 400


def test_what_is_shown_is_of_the_newest_session() -> None:
    desk, seen = Desk(), []

    def show(session: Session) -> int:
        seen.append(session.seed)
        if session.seed < 2:  # another event changes it meanwhile
            desk.change(add_one)
        return session.seed

    assert desk.of_newest(show) == 2 and seen == [0, 1, 2]


def add_one(session: Session) -> Session:
    seed = session.seed
    time.sleep(0)  # let others in
    return session.with_seed(seed + 1)


def test_a_search_is_watched_to_whatever_end() -> None:
    def count(report: Callable[[int], None]) -> str:
        for step in range(1, 5):
            report(step)
        return "found"

    def fail(report: Callable[[int], None]) -> str:
        raise ValueError("Got nothing.")

    def for_ever(report: Callable[[int], None]) -> str:
        while True:
            report(1)

    def even(step: int) -> Frame | None:
        return None if step % 2 else Frame(f"step {step}")

    def watch(search: Search[int, str]) -> Iterator[Frame | str | None]:
        yield (yield from watched(search, even, lambda: Frame("stopped")))

    assert [*watch(Search(Turns(), count))] == [Frame("step 2"), Frame("step 4"), "found"]
    with pytest.raises(ValueError, match="Got nothing"):
        list(watch(Search(Turns(), fail)))
    stopped = Search(Turns(), for_ever)
    stopped.stop()
    assert [*watch(stopped)] == [Frame("stopped"), None]
    left = Search(Turns(), for_ever)
    frames = watched(left, lambda step: Frame(str(step)), lambda: Frame("stopped"))
    assert next(frames) == Frame("1")
    frames.close()  # as when a visitor leaves the page
    with pytest.raises(Cancelled):
        left.result()


def test_the_place_in_line_is_shown(studio: Studio) -> None:
    waiting = Studio(studio.pipe, Line(places=0))
    first = for_this_face(waiting, Session(), "a hat", steps=1, owner="first")
    second = for_this_face(waiting, Session(), "a hat", steps=1, owner="second")
    assert "your search is next" in next(first).status
    assert "1 search before yours" in next(second).status
    waiting.stop("first")
    assert "Stopped; nothing was changed" in [*first][-1].status
    assert "your search is next" in next(second).status
    waiting.stop("second")
    assert "Stopped" in [*second][-1].status
    (found,) = for_everybody(waiting, Session(), "a hat")  # a table needs no wait
    assert "Found" in found.status


def test_an_end_that_only_a_closed_page_watched_is_told(studio: Studio) -> None:
    with gr.Blocks():
        stage = Stage(studio, Visits())
        stage.build_chooser()
        opening = Opening(studio, stage, stage.visits)
    desk = stage.visits.open(None).desk

    async def watch_to_the_end() -> None:
        async for _ in stage.job(desk, iter([{stage.status: "Found it."}])).watch():
            pass

    asyncio.run(watch_to_the_end())  # as the server does for a page until it knows of its end
    assert opening._last_status(desk) == "Found it."
    stage._free(desk)  # which only an open page asks for
    assert opening._last_status(desk) == gr.skip()


@pytest.mark.parametrize("error", [ValueError("Got /tmp/x/no.png."), OverflowError("x")])
def test_sliders_come_back_whatever_cannot_be_drawn(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(session: Session) -> None:
        raise error

    with gr.Blocks():
        stage = Stage(studio, Visits())
        stage.build_chooser()
    desk = Desk(Session().with_edit(studio.load("afro"), name="afro"))
    monkeypatch.setattr(studio, "draw", fail)
    shown = stage._show(desk)
    first, second, *_ = stage._slots
    assert shown[first.slider].interactive is not False and shown[first.row].visible
    assert all(stage._free(desk)[slot.slider].interactive for slot in stage._slots)
    assert not shown[second.row].visible and stage.pictures not in shown
    status = shown[stage.status]
    assert "cannot be rendered" in status and "/tmp" not in status


def test_a_full_disk_leaves_the_sliders(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise OSError("No space left on device")

    with gr.Blocks():
        stage = Stage(studio, Visits())
        stage.build_chooser()
    session = Session().with_edit(studio.load("afro"), name="afro")
    desk = Desk(session.with_found(make_edit(studio.pipe, 1, "a hat")))
    monkeypatch.setattr(desk, "file", refuse)
    shown = stage._show(desk)
    assert shown[stage._slots[1].row].visible and "cannot be rendered" in shown[stage.status]


def test_a_search_that_fails_says_what_is_on_the_face(studio: Studio) -> None:
    with gr.Blocks():
        stage = Stage(studio, Visits())
        stage.build_chooser()
    desk = Desk()
    assert "Nothing was changed" in stage._failed(desk)
    desk.change(lambda session: session.with_edit(make_edit(studio.pipe)))
    assert "Nothing was changed" not in stage._failed(desk)


def test_a_search_locks_the_page_without_asking_the_server(studio: Studio) -> None:
    with gr.Blocks():
        stage = Stage(studio, Visits())
        stage.build_chooser()
    busy = stage.busy()
    changes = json.loads(stage._busy_at_once.removeprefix("() => "))
    assert len(changes) == len(stage.busy_widgets) == len(busy)
    for widget, change in zip(stage.busy_widgets, changes, strict=True):
        if widget is stage.status:
            assert change == busy[widget]
        elif widget is stage.stop:
            assert change == {"__type__": "update", "visible": True}
            assert busy[widget].visible
        else:
            assert change == {"__type__": "update", "interactive": False}
            assert not busy[widget].interactive


def test_an_earlier_stop_does_not_end_the_next_search(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop may be pressed when a search has just ended, or after a reload of its page."""
    with gr.Blocks():
        stage = Stage(studio, Visits())
        stage.build_chooser()
        button = gr.Button()

    def run(desk: Desk, request: object) -> Iterator[dict[Any, Any]]:
        yield {stage.status: "found"}

    stage.add_search(button, [button.click], run, {}, api_name="run")
    stopped: list[object] = []
    monkeypatch.setattr(studio, "stop", stopped.append)
    desk = Desk()
    desk.halted = True

    async def search() -> list[object]:
        begin = stage._begin(stage._searches[0])
        return [one async for one in begin(desk, SimpleNamespace(session_hash="a page"))]

    assert asyncio.run(search()) == [{stage.status: "found"}] and stopped == []


def test_spinners_are_shown_only_where_a_listener_says_so(studio: Studio) -> None:
    """For each other output, a browser would search all widgets at every step of every event."""
    listeners = build(studio).fns.values()
    assert all(listener.show_progress_on is not None for listener in listeners)
    named = [listener for listener in listeners if listener.show_progress_on]
    assert 1 <= sum(len(listener.show_progress_on) for listener in named) <= 10


def test_gradio_writes_no_stubs() -> None:
    """It would parse the source of all its components; this takes half of its import."""
    script = "import ast; ast.get_source_segment = None; import demo, gradio; gradio.Blocks()"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=_ROOT, timeout=120)


def test_a_slider_that_is_refused_is_shown_as_it_is(studio: Studio) -> None:
    """Another tab of the same browser may have removed its edit."""
    with gr.Blocks() as page:
        stage = Stage(studio, Visits())
        stage.build_chooser()
        stage.wire(page)
    moved = {fn._id for fn in page.fns.values() if fn.name == "_set_strength"}
    assert len(moved) == SLOTS and moved <= after_failure(page, stage._changed)


def test_a_search_that_fails_after_a_reload_ends_its_progress(studio: Studio) -> None:
    with gr.Blocks() as page:
        stage = Stage(studio, Visits())
        stage.build_chooser()
        Opening(studio, stage, stage.visits).wire(page)
        stage.wire(page)
    (resumed,) = (fn._id for fn in page.fns.values() if fn.name == "_resume")
    assert resumed in after_failure(page, stage.status)


def after_failure(page: gr.Blocks, widget: gr.blocks.Block) -> set[int | None]:
    """The events whose failure updates a widget."""
    chained = (fn for fn in page.fns.values() if fn.trigger_only_on_failure)
    return {fn.trigger_after for fn in chained if widget in fn.outputs}


def test_deleted_data_stay_deleted_when_a_search_ends(studio: Studio, tmp_path: Path) -> None:
    with gr.Blocks():
        stage = Stage(studio, Visits(parent=tmp_path))
        stage.build_chooser()
        opening = Opening(studio, stage, stage.visits)
    desk = stage.visits.open(None).desk
    begun = threading.Event()

    def updates() -> Iterator[dict[object, object]]:
        def endless(report: Callable[[int], None]) -> None:
            while True:
                report(1)

        for _ in studio.search_by(desk.owner, endless):
            begun.set()
            yield {}
        desk.picture(Image.new("RGB", (8, 8)))  # as the last frame of a stopped search
        desk.change(lambda session: session.with_seed(5))

    job = stage.job(desk, updates())
    assert begun.wait(60)
    opening._forget(desk)
    assert job.is_over and desk.session == desk.first
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_gradio_keeps_nothing_of_pages_that_were_closed(tmp_path: Path) -> None:
    with gr.Blocks() as page:
        gr.Textbox("a text")
    sessions = StateHolder()
    sessions.set_blocks(page)
    visits = Visits(parent=tmp_path, sessions=lambda: sessions)
    visits.open(None, "open")
    for name, hours in {"open": 2, "closed": 0.6, "new": 0, "idle": 0.6, "gone": 1.1}.items():
        assert sessions[name].config_values
        sessions.time_last_used[name] = datetime.now() - timedelta(hours=hours)
        sessions.session_data[name].is_closed = name == "closed"
    visits.sweep()
    assert [*sessions.session_data] == ["open", "new", "idle"]


def test_for_this_face(studio: Studio) -> None:
    session = Session(seed=7)
    *frames, last = for_this_face(studio, session, " a face with a hat", steps=3)
    assert frames and all(frame.found is None for frame in frames)
    assert "Step 1 of 7" in frames[0].status  # 4 of them on random faces, see `short_searches`
    assert "Found “a face with a hat” for this face" in last.status
    assert last.found is not None and last.found.origin.prompt == "a face with a hat"
    assert last.pictures == studio.draw(session.with_found(last.found))
    assert last.found.origin.neutral == "a face"


def test_the_same_words_again_start_from_the_face_without_them(studio: Studio) -> None:
    *_, first = for_this_face(studio, Session(seed=7), "a hat", steps=2)
    assert first.found is not None
    once = Session(seed=7).with_found(first.found)
    *_, again = for_this_face(studio, once, "a hat", steps=2)
    assert again.found is not None
    assert (again.found.vector == first.found.vector).all()


def test_for_this_face_stopped(studio: Studio) -> None:
    frames = for_this_face(studio, Session(seed=7), "a hat", steps=100_000, owner="me")
    next(frames)
    studio.stop("me")
    *_, last = frames
    assert "Stopped; nothing was changed" in last.status
    assert last.found is None and last.pictures == studio.draw(Session(seed=7))


def test_for_everybody_from_the_table(studio: Studio) -> None:
    (frame,) = for_everybody(studio, Session(), "a hat", channels=5)
    assert re.search("Found “a hat” for every face.*; 5 channels move, down to", frame.status)
    assert frame.found is not None and int((frame.found.vector != 0).sum()) == 5
    with pytest.raises(ValueError, match="which no channel passes"):
        list(for_everybody(studio, Session(), "a hat", threshold=0.99))


def test_for_everybody_by_a_search(bare: Studio) -> None:
    *frames, last = for_everybody(bare, Session(), "a hat")
    assert 'value="1" max="16"' in frames[0].status
    assert last.found is not None and "channels move" in last.status

    session = Session().with_found(last.found)
    session = session.with_stack(session.stack.with_strength(0, 0.3))
    few = refine(bare, session, channels=1)
    assert few.found is not None and int((few.found.vector != 0).sum()) == 1
    assert "“a hat”: 1 channel moves" in few.status
    assert session.with_found(few.found).edits[0].strength == 0.3


def test_for_everybody_stopped(bare: Studio) -> None:
    frames = for_everybody(bare, Session(), "a hat", owner="me")
    next(frames)
    bare.stop("me")
    *_, last = frames
    assert "Stopped; nothing was changed" in last.status and last.found is None


def test_refine_needs_an_edit_for_everybody(studio: Studio) -> None:
    *_, last = for_this_face(studio, Session(), "a hat", steps=1)
    assert last.found is not None
    frame = refine(studio, Session().with_found(last.found), channels=5)
    assert frame.found is None and "Press Edit first" in frame.status


def test_no_more_edits_than_sliders(studio: Studio) -> None:
    afro = studio.load("afro")
    full = Session()
    for _ in range(SLOTS):
        full = full.with_edit(afro, name="x")
    for call in (
        lambda: list(for_this_face(studio, full, "a hat")),
        lambda: list(for_everybody(studio, full, "a hat")),
        lambda: put_on(studio, Desk(full), "afro"),
    ):
        with pytest.raises(ValueError, match=f"one more than {SLOTS} edits"):
            call()


def test_put_on(studio: Studio) -> None:
    desk = Desk()
    assert "is applied now" in put_on(studio, desk, " afro ")
    assert "already" in put_on(studio, desk, "afro")
    put_on(studio, desk, "beard")
    assert [applied.name for applied in desk.session.edits] == ["afro", "beard"]
    with pytest.raises(MismatchError, match="fingerprint"):
        put_on(studio, desk, "strangers")
    assert len(desk.session.edits) == 2


def test_gallery(studio: Studio) -> None:
    afro, beard = re.findall("<li .*?</li>", gallery(studio.zoo()[0]))
    for part in ('data-name="afro"', "data:image/webp", "direction", 'data-group="Hair"'):
        assert part in afro
    assert 'data-name="beard"' in beard and "<img" not in beard
    assert "No edit for this generator" in gallery([])


def test_a_card(studio: Studio) -> None:
    afro, beard = studio.zoo()[0]
    for part in (
        "works on 93% of faces, changes 7% of the other attributes",
        "“an afro”",
        "moves every face",
    ):
        assert part in card(afro), part
    assert "not measured" in card(beard) and "The card of the edit that you click" in card(None)
    essence = dataclasses.replace(
        afro, metrics={"attributes_taken": 0.661, "attributes_kept": 0.49}, kind="odd_kind"
    )
    assert "takes 66% of the picture&#x27;s look, keeps 49% of all attributes" in card(
        essence
    ).replace("'", "&#x27;")
    assert "odd kind" in card(essence)
    on_hub = dataclasses.replace(afro, name="me/afro", source="hub", picture="https://hub/p.webp")
    assert 'href="https://huggingface.co/me/afro"' in card(on_hub)


@pytest.mark.parametrize(
    ("name", "prompt", "group"),
    [
        ("local-smile", "a smiling face", "Expression"),
        ("me/purple-hair", "a face with purple hair", "Hair"),
        ("glasses", "a face with glasses", "Worn"),
        ("old", "an old face", "Face"),
        ("essence-cat", None, "Character"),
        ("me/x1", None, "Other"),
    ],
)
def test_groups(studio: Studio, name: str, prompt: str | None, group: str) -> None:
    info = dataclasses.replace(studio.zoo()[0][0], name=name, prompt=prompt)
    assert group_of(info) == group


def test_a_tile_shows_where_the_change_is(studio: Studio, tmp_path: Path) -> None:
    strip = Image.new("RGB", (256, 128), (90, 90, 90))
    strip.paste((200, 0, 0), (40 + 64, 40 + 64, 56 + 64, 56 + 64))  # of the second face, after
    strip.save(tmp_path / "strip.png")
    info = dataclasses.replace(studio.zoo()[0][0], picture=str(tmp_path / "strip.png"))
    data = re.findall('base64,([^"]+)', gallery([info]))[0]
    with Image.open(BytesIO(base64.b64decode(data))) as pair:
        before, after = (pair.crop((x, 0, x + 192, 192)).convert("RGB") for x in (0, 192))
    red = [sum(r > 150 and g < 80 for r, g, _ in side.getdata()) for side in (before, after)]
    assert red[0] == 0 and red[1] > 0.15 * 192 * 192  # 6% of the whole face


def test_what_strangers_wrote_is_shown_as_text() -> None:
    name = '<script>${alert(1)}{{x}}\u202e"'
    strength, metrics = Strength(), {"success": "<b>", "collateral": float("nan")}
    info = EditInfo(name, name, "hub", name, name, None, "s", strength, 1, None, metrics)
    html = gallery([info]) + card(info) + message(name)
    assert not any(bad in html for bad in ("<script", "${", "{{", "\u202e", '"">', "<b>", "nan"))
    assert "not measured" in html


def test_a_picture_that_cannot_be_read_leaves_a_card(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("1", (5000, 5000)).save(tmp_path / "huge.png")
    for picture in ("broken.png", "huge.png", "missing.png"):
        path, strength = str(tmp_path / picture), Strength()
        info = EditInfo("me", "direction", "folder", None, None, None, "s", strength, 1, path, {})
        assert "<strong>me</strong>" in gallery([info]) and "<img" not in gallery([info])


def test_warning(studio: Studio) -> None:
    assert warning(studio, "a hat") is None
    assert "'zebra'" in (warning(studio, "a zebra with a hat") or "")


def test_archive(studio: Studio, tmp_path: Path) -> None:
    *_, last = for_this_face(studio, Session(), "a hat", steps=2)
    assert last.found is not None
    unpack(archive(last.found, "a-hat"), tmp_path)
    loaded = load_edit(tmp_path / "a-hat")
    assert studio.draw(Session().with_edit(loaded)) == last.pictures


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, -0.5, 1.3])
@pytest.mark.parametrize("ends", [(-1.5, 1.5), (-2, 2), (-0.3, 1.7), (0, 1.5), (-1.47, 2.31)])
def test_a_slider_stands_where_its_strength_is(ends: tuple[float, float], strength: float) -> None:
    low, high, step = marks(*ends)
    assert low <= ends[0] and high >= ends[1] and high - low < 1.1 * (ends[1] - ends[0])
    place = (strength - low) / step  # browsers count from the lower end
    assert place == pytest.approx(round(place), abs=1e-6)
    assert 20 <= (high - low) / step <= 100


# Over HTTP


@pytest.fixture
def client(url: str, tmp_path: Path) -> Client:
    return Client(url, verbose=False, download_files=tmp_path)


@pytest.fixture(scope="module")
def refused_client(url: str) -> Client:
    """For all that is refused, since that changes nothing."""
    return Client(url, verbose=False)


def search(words: str, **options: Any) -> dict[str, Any]:
    """Inputs of /edit."""
    return {"words": words, "steps": 10, "api_name": "/edit", **options}


def test_edit_over_http(client: Client, studio: Studio) -> None:
    client.predict(7, api_name="/face")
    job = client.submit(**search("a face with a hat"))
    (before, after), status = job.result()
    assert "Found" in status
    assert len(job.outputs()) >= 2  # pictures came on the way
    assert pixels(before) != pixels(after)

    pictures, file = client.predict(1, 0, api_name="/strength")
    assert pixels(pictures[0]) == pixels(pictures[1])
    with Image.open(file) as saved:
        assert saved.tobytes() == studio.faces([7])[0].tobytes()
    _, file = client.predict(1, 2, api_name="/strength")
    assert Path(file).name == "face-7-a-face-with-a-hat.png"
    with Image.open(file) as saved:
        assert saved.tobytes() != studio.faces([7])[0].tobytes()


def test_edit_for_everybody_over_http(client: Client) -> None:
    (_, few), status = client.predict(**search("a hat", whom="everybody", channels=3))
    assert "3 channels move" in status
    (_, many), _, status = client.predict("channels", 40, 0.1, api_name="/channels")
    assert "40 channels move" in status and pixels(few) != pixels(many)
    *_, status = client.predict("threshold", 40, 0.1, api_name="/channels")
    assert "channels move" in status and "40 channels" not in status
    *_, status = client.predict("threshold", 40, 0.5, api_name="/channels")
    assert "which no channel passes" in status
    (before, _), _ = client.predict(1, 0, api_name="/strength")
    (_, after), _ = client.predict(1, 1, api_name="/strength")
    assert pixels(before) != pixels(after)


def test_edit_for_everybody_without_a_table_over_http(bare: Studio, tmp_path: Path) -> None:
    for url in serve(bare):
        client = Client(url, verbose=False, download_files=tmp_path)
        job = client.submit(**search("a hat", whom="everybody"))
        assert "Found “a hat” for every face" in job.result()[1]
        assert any("Step 1 of 16" in status for _, status in job.outputs())


def test_strengths_of_the_zoo_stack_over_http(client: Client, studio: Studio) -> None:
    client.predict(7, api_name="/face")
    for name in ("afro", "beard"):
        assert "is applied now" in client.predict(name, api_name="/apply")
    client.predict(1, 0.5, api_name="/strength")
    _, file = client.predict(2, -1, api_name="/strength")
    expected = Session(seed=7)
    for name, strength in {"afro": 0.5, "beard": -1.0}.items():
        expected = expected.with_edit(studio.load(name), strength)
    with Image.open(file) as saved:
        assert saved.tobytes() == studio.draw(expected)[1].tobytes()
    assert Path(file).name == "face-7-afro-beard.png"


def test_users_do_not_meet(url: str, client: Client, tmp_path: Path) -> None:
    client.predict("afro", api_name="/apply")
    stranger = Client(url, verbose=False, download_files=tmp_path)
    with pytest.raises(AppError, match="Got place 0 in a stack of 0 edits"):
        stranger.predict(1, 1, api_name="/strength")
    client.predict(1, 1, api_name="/strength")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (search(""), "Got no words"),
        (search("hat " * 2000), "Got 2000 words, 2000 tokens; this CLIP reads 22"),
        (search("a hat", neutral=" "), "Got no words"),
        (search("", whom="everybody"), "Got no words"),
        (search("hat " * 2000, whom="everybody"), "Got 2000 words"),
        (search("hat " * 10_000), "got a text of 40000 letters; at most 10000"),
        (search("a hat", space="z"), "not in the list of choices"),
        (search("a hat", steps=0), "less than minimum"),
        (search("a face", whom="everybody"), "are the same to this CLIP"),
        (
            search("a hat", whom="everybody", by="threshold", threshold=0.5, neutral="a beard"),
            "which no channel passes",
        ),
        ({"seed": -1, "api_name": "/face"}, "less than minimum"),
        ({"seed": None, "api_name": "/face"}, "Got seed None"),
        ({"name": "", "api_name": "/apply"}, "expected the name of a bundled edit"),
        ({"name": "afros", "api_name": "/apply"}, "There is no edit 'afros'. Did you mean 'afro'?"),
        ({"name": "me/afro", "api_name": "/apply"}, "me/afro"),
        ({"name": "strangers", "api_name": "/apply"}, "fingerprint"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["api_name"][1:],
)
def test_bad_input_over_http(refused_client: Client, inputs: dict[str, Any], expected: str) -> None:
    with pytest.raises((AppError, ValueError), match=expected) as caught:
        refused_client.predict(**inputs)
    told = str(caught.value)
    assert not re.search(r"&#|&quot;|/tmp/|/gradio/|beard", told) or "beard" in str(inputs)
    assert "api_name" in told or len(told) < 300


@pytest.mark.slow
def test_what_a_program_leaves_is_stopped(url: str, tmp_path: Path) -> None:
    """It has no key, so it cannot come back for what is found; a browser can."""
    client = Client(url, verbose=False, download_files=tmp_path)
    job = client.submit(**search("a face with a beard", steps=300))
    wait_until(lambda: len(job.outputs()) > 0)
    assert searching()
    client.close()
    wait_until(lambda: not searching())


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "It did not happen in time."
        time.sleep(0.1)


def test_errors_are_text_for_programs_and_browsers() -> None:
    folder = Path(__file__).resolve().parent
    error = NotFoundError(f"No 'it' in {folder}/My <b>photo</b>.png & https://hf.co/me/it.")
    told = toast(explain(error))
    assert "No 'it' in My <" in told and "https://hf.co/me/it" in told
    assert "<b>" not in told and "</b>" not in told  # no browser takes this for a tag
    assert told.replace("\u2060", "").endswith("My <b>photo</b>.png & https://hf.co/me/it.")
    for text in ("'/a/b c.png' and (/x/y/z.safetensors)", "C:\\Users\\me\\a.png"):
        assert not re.search(r"/a/|/x/|/y/|Users", explain(ValueError(text)))
    assert len(explain(ValueError("x" * 10_000))) < 2000  # a file may hold such a name
    for text in ("me/it and/or 1/2 of runs/x", "https://huggingface.co/me/it", "he/she"):
        assert explain(ValueError(text)) == text


def test_public_endpoints(client: Client) -> None:
    named = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(named) <= {f"/{name}" for name in DESCRIPTIONS}
    assert {"/edit", "/face", "/apply", "/render", "/strength", "/take_away", "/make"} <= set(named)
    assert not any("publish" in name for name in named)  # a token belongs to a person


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("There is no chromium on this machine (Debian: apt-get install chromium).")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser, url: str) -> Iterator[Page]:
    yield from open_page(browser, url)


def open_page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, opened; at its end no script went wrong and nothing was fetched from outside."""
    page = browser.new_page()
    page.set_default_timeout(SECONDS * 1000)
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url))
    page.goto(url)
    yield page
    page.close()
    own = (url.partition("?")[0], "data:", "blob:")
    assert [entry for entry in problems if not entry.startswith(own)] == []


# Buttons under the picture whose text is wider than they are, and boxes that hide a part of theirs.
_CUT_OFF = """[
  ...[...document.querySelectorAll(":is(#history, #actions, #files) button")]
    .filter(button => button.scrollWidth > button.clientWidth).map(button => button.innerText),
  ...[...document.querySelectorAll("textarea")]
    .filter(box => box.scrollHeight > box.clientHeight).map(box => box.value || box.placeholder),
]"""
_TWICE = """[...document.querySelectorAll("[id]")].map(one => one.id)
    .filter((id, place, all) => id && all.indexOf(id) < place)"""
# Arrows of accordions and of the handle between the two pictures; gradio writes them as letters.
_UNSEEN = """[...document.querySelectorAll(".label-wrap .icon, #pictures .icon-wrap .icon")]
    .filter(arrow => parseFloat(getComputedStyle(arrow).fontSize) === 0)
    .map(arrow => arrow.outerHTML)"""


@pytest.mark.browser
def test_a_visit(visit: Page, tmp_path: Path) -> None:
    """On a phone; the tests after it have a desktop's screen."""
    page = visit
    page.set_viewport_size(PHONE)
    page.locator("#faces button").nth(3).click()
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "3")
    before = wait_for_other_picture(page, "")
    assert page.evaluate(_CUT_OFF) == []
    assert page.evaluate(_UNSEEN) == []

    set_steps(page, 10)
    page.get_by_role("button", name="a hat", exact=True).click()
    words = page.get_by_label("The picture should show")
    wait_for(page, lambda: words.input_value() == EXAMPLES["a hat"])
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_text("Found “").wait_for()
    found = wait_for_other_picture(page, before)

    page.get_by_role("tab", name="Zoo").click()
    page.get_by_role("button", name="afro").click()
    page.get_by_text("is applied now").wait_for()
    both = wait_for_other_picture(page, found)
    assert fits(page)
    page.set_viewport_size(DESKTOP)
    wait_for(page, lambda: fits(page))
    assert page.evaluate(_CUT_OFF) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate(_CUT_OFF) == []
    assert page.evaluate(_TWICE) == []

    slider = page.get_by_role("slider", name="afro")
    wait_for(page, slider.is_enabled)
    slider.press("ArrowLeft")
    wait_for_other_picture(page, both)
    page.get_by_role("button", name="Remove afro").click()
    slider.wait_for(state="hidden")
    assert page.get_by_role("slider", name=EXAMPLES["a hat"]).is_visible()

    with page.expect_download() as download:
        page.get_by_text("Save picture").click()
    assert download.value.suggested_filename == "face-3-a-person-wearing-a-hat.png"
    with Image.open(download.value.path()) as picture:
        assert picture.format == "PNG" and picture.size == (32, 32)
    with page.expect_download() as download:
        page.get_by_text("Save edit").click()
    unpack(Path(download.value.path()).read_bytes(), tmp_path)
    assert load_edit(tmp_path / "a-person-wearing-a-hat").origin.prompt == EXAMPLES["a hat"]

    page.get_by_role("button", name="Go on from here").click()
    page.get_by_text("starts from here").wait_for()
    page.get_by_role("button", name="Start over").click()
    wait_for(page, lambda: page.get_by_label("Seed").input_value() == "0")
    assert words.input_value() == EXAMPLES["a hat"]  # what was typed stays
    assert fits(page)


@pytest.mark.browser
def test_for_everybody_in_the_browser(visit: Page, studio: Studio) -> None:
    page = visit
    channels = len(editable_channels(studio.pipe))
    before = wait_for_other_picture(page, "")
    page.get_by_label("Every face").first.check()
    page.get_by_label("The picture should show").fill("a face with a hat")
    page.get_by_role("button", name="Settings of the search").click()
    page.get_by_label("Instead of").fill("a face with a beard")
    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_text(f"{min(table.DEFAULT_CHANNELS, channels)} channels move").wait_for()
    found = wait_for_other_picture(page, before)
    wait_for(page, page.get_by_role("slider", name="a face with a hat").is_enabled)
    page.get_by_role("slider", name="Number of channels").press("Home")
    page.get_by_text("1 channel moves").wait_for()
    fewer = wait_for_other_picture(page, found)
    page.get_by_label("Above a threshold").check()
    wait_for_other_picture(page, fewer)
    page.get_by_role("slider", name="Threshold").press("End")
    page.get_by_text("which no channel passes").wait_for()


@pytest.mark.browser
def test_keyboard_and_stop(visit: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    page = visit
    synthesize = StyleEditPipeline.synthesize

    def unhurried(self: StyleEditPipeline, *arguments: Any) -> torch.Tensor:
        time.sleep(0.02)  # or the search is over before a key can be pressed
        return synthesize(self, *arguments)

    monkeypatch.setattr(StyleEditPipeline, "synthesize", unhurried)
    before = wait_for_other_picture(page, "")
    words = page.get_by_label("The picture should show")
    words.fill(" ")
    words.press("Enter")
    page.get_by_text("Got no words").wait_for()
    page.get_by_text("Nothing was changed").wait_for()
    # A refused job leaves the page as it was: nothing stays locked.
    wait_for(page, page.get_by_role("button", name="Edit", exact=True).is_enabled)
    page.get_by_role("button", name="Stop").wait_for(state="hidden")
    words.fill("hat " * 40)
    words.press("Enter")
    page.get_by_text("Got 40 words, 40 tokens").wait_for()

    set_steps(page, 300)
    words.fill("a face with a beard")
    words.press("Enter")
    wait_for_other_picture(page, before)
    page.get_by_role("button", name="Stop").press("Enter")
    page.get_by_text("Stopped").wait_for()
    wait_for(page, page.get_by_role("button", name="Edit", exact=True).is_enabled)
    assert not page.get_by_role("slider", name="a face with a beard").is_visible()

    divider = page.get_by_role("slider", name="Before and after")
    start = int(divider.get_attribute("aria-valuenow") or "")
    assert 10 <= start <= 20  # beside the face
    divider.press("ArrowRight")
    wait_for(page, lambda: divider.get_attribute("aria-valuenow") == str(start + 5))
    divider.press("Home")
    wait_for(page, lambda: divider.get_attribute("aria-valuenow") == "0")
    after = page.locator("#pictures img").nth(1)
    # All of the picture after the edit is in sight.
    covered = "image => image.style.clipPath"
    wait_for(page, lambda: re.search(r"\b0%\)", after.evaluate(covered)) is not None)

    page.get_by_role("tab", name="Zoo").press("Enter")
    page.get_by_role("button", name="afro").press("Enter")
    page.get_by_text("is applied now").wait_for()
    slider = page.get_by_role("slider", name="afro")
    wait_for(page, slider.is_enabled)


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::stylegan_hub.methods.fit.PoorFitWarning")
def test_purple_hair_on_a_bundled_portrait(browser: Browser) -> None:
    """What a visitor came for, with the real weights; who judges knows nothing of CLIP."""
    for url in serve(Studio.open()):
        for page in open_page(browser, url):
            wait_for_other_picture(page, "")
            page.get_by_label("The picture should show").fill("a face with purple hair")
            page.get_by_role("button", name="Edit", exact=True).click()
            page.get_by_text("is applied").first.wait_for()
            wait_for(page, page.get_by_role("slider", name="purple hair").is_enabled)
            with page.expect_download() as download:
                page.get_by_text("Save picture").click()
            with Image.open(download.value.path()) as picture:
                assert hair_color(picture) == "purple"


def hair_color(picture: Image.Image) -> str:
    folder = Path(__file__).parents[1] / "cards" / "attribute-reader"
    reader = AttributeReader.from_pretrained(folder).eval()
    return reader.read(from_pil([picture.convert("RGB")])).words(0)["hair_color"]


def searching() -> bool:
    return any(thread.name == "search" for thread in threading.enumerate())


def fits(page: Page) -> bool:
    """Whether nothing sticks out to the side."""
    width = page.viewport_size["width"] if page.viewport_size else 0
    return page.evaluate("document.documentElement.scrollWidth") <= width


def set_steps(page: Page, steps: int) -> None:
    page.get_by_role("button", name="Settings of the search").click()
    page.get_by_role("spinbutton", name="Steps").fill(str(steps))


def wait_for(page: Page, condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Until the condition holds; the page goes on meanwhile."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "It did not happen in time."
        page.wait_for_timeout(100)


def wait_for_other_picture(page: Page, source: str) -> str:
    """The source of the picture after the edit, once it is another one of this visit."""
    wait_for(page, lambda: shown_picture(page) not in (source, ""))
    return shown_picture(page)


def wait_for_final_picture(page: Page, source: str) -> str:
    """The same, once it is a picture of the server and not one of a slider that moves."""
    wait_for(
        page,
        lambda: (
            shown_picture(page) not in (source, "") and not shown_picture(page).startswith("blob:")
        ),
    )
    return shown_picture(page)


def shown_picture(page: Page) -> str:
    """The source of the picture after the edit; empty for the one that comes with the page."""
    picture = page.locator("#pictures img").nth(1)
    picture.wait_for()
    source = picture.get_attribute("src") or ""
    return source if "visits" in source or source.startswith("blob:") else ""


def unpack(data: bytes, folder: Path) -> None:
    with zipfile.ZipFile(BytesIO(data)) as bundle:
        bundle.extractall(folder)


def pixels(path: str) -> bytes:
    with Image.open(path) as picture:
        return picture.tobytes()
