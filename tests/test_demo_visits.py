"""What the page keeps of its visitors, and for how long; undo; searches that no page shows."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
import torch
from PIL import Image
from test_session import make_edit

from demo.desk import Desk, change
from demo.job import Job
from demo.opening import lost
from demo.room import Room
from demo.visits import HOUR, KEPT_HOURS, PHOTOGRAPH_MINUTES, Visits
from stylegan_hub.artifacts import BaseModel
from stylegan_hub.edits.direction import Direction
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session

MINUTE = 60.0


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def visits(clock: Clock, tmp_path: Path) -> Visits:
    return Visits(clock, tmp_path)


@pytest.fixture
def desk(clock: Clock, tmp_path: Path) -> Desk:
    return Desk(clock=clock, root=tmp_path)


def picture(shade: int = 0) -> Image.Image:
    return Image.new("RGB", (8, 8), (shade, 0, 0))


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# Undo


def test_undo_and_redo(desk: Desk, clock: Clock) -> None:
    assert not desk.undo() and not desk.redo() and desk.session == Session()
    assert not desk.can_undo and not desk.can_redo
    for seed in (1, 2, 3):
        desk.change(lambda session, seed=seed: session.with_seed(seed))
    assert desk.undo() and desk.session.seed == 2
    assert desk.undo() and desk.session.seed == 1
    assert desk.can_undo and desk.can_redo
    assert desk.redo() and desk.session.seed == 2
    desk.change(lambda session: session.with_seed(9))
    assert not desk.can_redo and not desk.redo()  # another way was taken
    assert desk.undo() and desk.session.seed == 2
    assert desk.undo() and desk.undo() and desk.session == Session()


def test_what_changes_nothing_is_no_step(desk: Desk) -> None:
    desk.change(lambda session: session.with_seed(1))
    desk.change(lambda session: session.with_seed(1))
    assert desk.undo() and desk.session == Session()


def test_a_gesture_is_undone_at_once(
    desk: Desk, clock: Clock, tiny_pipeline: StyleEditPipeline
) -> None:
    edit = make_edit(tiny_pipeline)
    desk.change(lambda session: session.with_edit(edit).with_edit(edit))
    for strength in (0.2, 0.3, 0.4):
        clock.now += 1
        change(desk, lambda s, by=strength: s.with_strength(0, by), ("strength", 0))
    change(desk, lambda s: s.with_strength(1, -1), ("strength", 1))
    clock.now += 10
    change(desk, lambda s: s.with_strength(1, -2), ("strength", 1))
    seen = [strengths(desk)]
    while desk.undo():
        seen.append(strengths(desk))
    assert seen == [[0.4, -2], [0.4, -1], [0.4, 1], [1, 1], []]


def strengths(desk: Desk) -> list[float]:
    return [applied.strength for applied in desk.session.edits]


def test_steps_are_counted_not_endless(desk: Desk) -> None:
    for seed in range(1, 300):
        desk.change(lambda session, seed=seed: session.with_seed(seed))
    undone = 0
    while desk.undo():
        undone += 1
    assert undone == 100 and desk.session.seed == 199


def test_edits_that_can_be_undone_are_bounded_in_memory(
    desk: Desk, tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = make_edit(tiny_pipeline)
    size = edit.vector.numel() * edit.vector.element_size()
    monkeypatch.setattr("demo.desk._MAX_BYTES", 3 * size)
    for seed in range(10):
        own = make_edit(tiny_pipeline, seed)
        desk.change(lambda session, own=own: Session().with_edit(own))
    for strength in range(50):  # what holds the same edit takes no more room
        change(desk, lambda stack, strength=strength: stack.with_strength(0, strength / 10))
    undone = 0
    while desk.undo():
        undone += 1
    assert undone == 50 + 2


# Files


def test_files_of_a_desk(desk: Desk, tmp_path: Path) -> None:
    first = desk.picture(picture())
    assert desk.picture(picture()) == first != desk.picture(picture(200))
    for shade in range(100):
        desk.picture(picture(shade))
    assert len(list(Path(first).parent.iterdir())) == 64
    saved = [desk.file("picture", "face.png", b"x") for _ in range(10)]
    zipped = desk.file("edit", "hat.zip", b"y")
    assert not Path(saved[0]).parent.exists()
    assert Path(saved[-1]).name == "face.png" and Path(zipped).read_bytes() == b"y"
    for folder in tmp_path.iterdir():
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700  # closed to other users of the machine


def test_an_upload_is_taken_in(desk: Desk, tmp_path: Path) -> None:
    upload = tmp_path / "me.png"
    upload.write_bytes(b"me")
    taken = desk.take_in(upload)
    assert taken.name == "me.png" and taken.read_bytes() == b"me" and not upload.exists()
    assert desk.take_in(taken) == taken
    with pytest.raises(FileNotFoundError):
        desk.take_in(upload)


def test_photographs_of_one_visitor_are_bounded(desk: Desk, tmp_path: Path) -> None:
    for _ in range(20):
        upload = tmp_path / "me.png"
        upload.write_bytes(b"me")
        newest = desk.take_in(upload)
        pasted = desk.photo_file("pasted", "edited.png", b"x")
    assert newest.exists() and Path(pasted).exists()
    assert len(files(tmp_path)) == 8 + 4


def test_examples_that_are_replaced_are_deleted(desk: Desk, tmp_path: Path) -> None:
    def uploaded(name: str) -> str:
        (tmp_path / name).write_bytes(b"x")
        return str(tmp_path / name)

    first, pair = desk.take_in_all("examples", [uploaded("a.png"), [uploaded("b.png")]])
    assert isinstance(first, str) and isinstance(pair, list)
    desk.take_in_all("examples", [uploaded("c.png"), pair])
    assert {path.name for path in files(tmp_path)} == {"b.png", "c.png"}


def test_a_desk_goes_with_its_files(tmp_path: Path) -> None:
    desk = Desk(root=tmp_path)
    desk.picture(picture())
    desk.file("edit", "hat.zip", b"y")
    del desk
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_gradio_gives_every_user_a_desk_of_their_own(visits: Visits) -> None:
    first = visits.new()
    copied = copy.deepcopy(first)
    copied.change(lambda session: session.with_seed(7))
    assert first.session == Session() and copied.owner != first.owner


# Who finds what


def test_a_browser_finds_its_desk_again(visits: Visits) -> None:
    desk = visits.open(None, "page 1").desk
    desk.change(lambda session: session.with_seed(7))
    assert desk.key is not None and len(desk.key) == 32  # 128 bits
    assert visits.leave("page 1") is desk
    again = visits.open(desk.key, "page 2")
    assert again.is_back and again.desk is desk and again.desk.session.seed == 7


@pytest.mark.parametrize(
    "key", [None, "", "f" * 32, "../../etc", "x" * 10_000, 7, ["a"], {"key": 1}, True, b"a"]
)
def test_another_key_gives_an_empty_desk(visits: Visits, key: object) -> None:
    known = visits.open(None).desk
    known.change(lambda session: session.with_seed(7))
    visit = visits.open(key)
    assert not visit.is_back and visit.desk.session == Session()
    assert visit.desk.key not in (key, known.key)
    assert not visits.open(key).is_back  # a key cannot be planted for another visitor


def test_two_browsers_never_meet(visits: Visits) -> None:
    one, other = visits.open(None).desk, visits.open(None).desk
    one.things["found"] = 1
    one.photographs["upload"] = 2
    assert (other.things, other.photographs) == ({}, {})
    assert one.key != other.key and one.owner != other.owner
    assert Path(one.picture(picture())).parent != Path(other.picture(picture())).parent


def test_a_server_holds_so_many_browsers(visits: Visits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.visits._MOST", 2)
    first, second = visits.open(None).desk, visits.open(None).desk
    assert visits.open(first.key).is_back
    visits.open(None)
    assert visits.open(first.key).is_back and not visits.open(second.key).is_back


def test_an_open_page_outlives_those_that_were_closed(
    visits: Visits, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demo.visits._MOST", 2)
    open_one, closed = visits.open(None, "page").desk, visits.open(None).desk
    clock.now += 1
    for _ in range(3):
        visits.open(None)
    assert visits.open(open_one.key).is_back and not visits.open(closed.key).is_back


# For how long


def test_photographs_for_half_an_hour_the_rest_for_a_day(visits: Visits, clock: Clock) -> None:
    desk = visits.open(None, "page").desk
    fill(desk)
    visits.leave("page")
    clock.now += PHOTOGRAPH_MINUTES * MINUTE
    visits.sweep()
    assert desk.photographs
    clock.now += 1
    visits.sweep()
    assert desk.photographs == {} and desk.things == {"found": "an edit"}
    assert [path.suffix for path in files(visits.root)] == [".zip"]
    clock.now += KEPT_HOURS * HOUR - PHOTOGRAPH_MINUTES * MINUTE - 1
    visits.sweep()
    assert visits.open(desk.key).desk.session.seed == 7
    clock.now += KEPT_HOURS * HOUR + 1
    visits.sweep()
    assert not visits.open(desk.key).is_back
    assert (desk.session, desk.things, files(visits.root)) == (Session(), {}, [])


def fill(desk: Desk) -> None:
    desk.change(lambda session: session.with_seed(7))
    desk.things["found"] = "an edit"
    desk.photographs["upload"] = "me"
    desk.photo_file("photo", "me.png", b"me")
    desk.picture(picture())
    desk.file("edit", "hat.zip", b"y")


def test_an_open_page_is_in_contact(visits: Visits, clock: Clock) -> None:
    desk = visits.open(None, "page").desk
    visits.open(desk.key, "another tab")
    desk.photographs["upload"] = "me"
    for _ in range(3):
        clock.now += 20 * HOUR
        visits.sweep()
    visits.leave("page")
    clock.now += HOUR
    visits.sweep()
    assert desk.photographs and visits.open(desk.key).is_back
    visits.leave("another tab")
    clock.now += HOUR
    visits.sweep()
    assert desk.photographs == {}


def test_photographs_of_programs_go_too(visits: Visits, clock: Clock) -> None:
    """They have no key, and their desks lie with gradio."""
    desk = copy.deepcopy(visits.new())
    desk.photographs["upload"] = "me"
    desk.file("render", "face.png", b"x")
    clock.now += HOUR
    visits.sweep()
    assert desk.photographs == {} and len(files(visits.root)) == 1
    clock.now += 1
    visits.sweep()  # nothing can return to the rest
    assert files(visits.root) == []


def test_a_page_enters_once(visits: Visits) -> None:
    desk = visits.new()
    assert visits.enter(desk, "page") and not visits.enter(desk, "page")
    assert not visits.enter(desk, None) and desk.pages == {"page"}


def test_forget(visits: Visits) -> None:
    desk = visits.open(None, "page").desk
    fill(desk)
    key = desk.key
    visits.forget(desk)
    assert files(visits.root) == [] and desk.session == Session() and desk.photographs == {}
    assert not desk.undo()
    assert not visits.open(key).is_back


def test_uploads_that_no_desk_took(visits: Visits, clock: Clock, tmp_path: Path) -> None:
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    for path, age in ((old, HOUR), (new, MINUTE)):
        path.write_bytes(b"me")
        os.utime(path, (clock.now - age,) * 2)
    visits.uploads |= {str(old), str(new), str(tmp_path / "taken.png")}
    visits.sweep()
    assert not old.exists() and new.exists()
    assert visits.uploads == {str(new)}


def test_what_a_killed_server_left(visits: Visits, clock: Clock, tmp_path: Path) -> None:
    dead, alive, other = (
        tmp_path / name
        for name in ("stylegan-hub-visits-dead", "stylegan-hub-visits-alive", "other")
    )
    for folder in (dead, alive, other):
        folder.mkdir()
        (folder / "me.png").write_bytes(b"me")
        os.utime(folder, (clock.now - (MINUTE if folder == alive else HOUR),) * 2)
    visits.sweep()
    assert not dead.exists() and alive.exists() and other.exists()


def test_a_server_that_ends_deletes_its_files(clock: Clock, tmp_path: Path) -> None:
    visits = Visits(clock, tmp_path)
    desk = visits.open(None).desk
    fill(desk)
    assert files(tmp_path)
    del visits, desk
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_what_a_restart_lost() -> None:
    kept = {"key": "x", "server": "a", "link": "seed=7", "missing": ["“essence of cat”"]}
    told = lost(kept, "b")
    assert "restarted" in told and "essence of cat" in told
    assert "24 hours" in lost(kept, "a")
    empty = {"key": "x", "server": "a", "link": "", "missing": []}
    for nothing in (None, "x", {}, empty, {"link": "", "missing": None}):
        assert lost(nothing, "b") == ""
    assert lost({"link": "seed=7", "missing": 3}, "b")


# Room


EDIT_BYTES = 10 * 16 * 4


@pytest.fixture
def room() -> Room:
    """Room for five of the edits that `busy_desk` puts on a desk."""
    return Room(5 * EDIT_BYTES)


@pytest.fixture
def crowded(clock: Clock, tmp_path: Path, room: Room) -> Visits:
    return Visits(clock, tmp_path, room=room)


def worked(visits: Visits, clock: Clock, edits: int = 1, page: str | None = None) -> Desk:
    """A desk with some edits of its own, each used a minute after all that was before."""
    desk = visits.open(None, page).desk
    clock.now += MINUTE
    for _ in range(edits):
        edit = Direction(torch.randn(10, 16), "w_plus", BaseModel(None, "0" * 16, 10, 16, 160, 32))
        desk.change(lambda session, edit=edit: session.with_edit(edit))
    return desk


def test_the_work_unused_the_longest_makes_room(crowded: Visits, clock: Clock, room: Room) -> None:
    first, second, third = (worked(crowded, clock, 2) for _ in range(3))
    assert room.total <= room.largest
    assert first.is_empty and first.evicted == "untold" and not first.undo()
    assert len(second.session.edits) == len(third.session.edits) == 2
    clock.now += MINUTE
    assert crowded.open(second.key).desk is second  # it is used now
    fourth = worked(crowded, clock, 2)
    assert third.is_empty and not second.is_empty and not fourth.is_empty
    assert crowded.open(first.key).is_back  # its owner can be told


def test_work_that_a_page_shows_or_that_goes_on_stays_longer(crowded: Visits, clock: Clock) -> None:
    shown = worked(crowded, clock, 2, page="page")
    closed = worked(crowded, clock, 2)
    worked(crowded, clock, 2)
    assert closed.is_empty and not shown.is_empty

    other = worked(crowded, clock, 3)
    ends = threading.Event()
    shown.job = Job(iter(lambda: ends.wait() and {}, {}))
    try:
        worked(crowded, clock, 1, page="other page")
        worked(crowded, clock, 1, page="third page")
        assert shown.is_busy and not shown.is_empty and other.is_empty
    finally:
        ends.set()


def test_what_several_desks_hold_counts_once(crowded: Visits, clock: Clock, room: Room) -> None:
    (applied,) = worked(crowded, clock).session.edits
    others = [crowded.open(None).desk for _ in range(20)]
    for desk in others:
        desk.change(lambda session: session.with_edit(applied.edit))
    assert EDIT_BYTES <= room.total < 2 * EDIT_BYTES and not any(d.is_empty for d in others)


def test_a_desk_that_is_gone_needs_no_room(crowded: Visits, clock: Clock, room: Room) -> None:
    desk = worked(crowded, clock, 4)
    assert room.total >= 4 * EDIT_BYTES
    crowded.forget(desk)
    crowded.sweep()
    assert room.total < EDIT_BYTES
    desk = worked(crowded, clock, 4)
    assert room.total >= 4 * EDIT_BYTES
    crowded.forget(desk)
    del desk
    gc.collect()
    assert room.total < EDIT_BYTES


def test_everything_on_a_desk_is_weighed(crowded: Visits, room: Room) -> None:
    desk, before = crowded.open(None).desk, room.total
    desk.things["preview"] = [picture()]
    desk.photographs["upload"] = {"file": b"x" * 1000}
    desk.job = Job(iter([{"status": "y" * 500}]))
    desk.job.join(10)
    crowded.sweep()
    assert room.total - before >= 8 * 8 * 3 + 1000 + 500


def test_who_lost_work_is_told(crowded: Visits, clock: Clock) -> None:
    kept = {"link": "seed=7", "missing": ["“essence of cat”"]}
    told = lost(kept, crowded.id, evicted=True)
    assert "no room left" in told and "essence of cat" in told and "24 hours" not in told
    desk = worked(crowded, clock, 2)
    desk.evict()
    desk.change(lambda session: session.with_seed(3))
    assert desk.evicted == "untold"  # no page has said so yet
    desk.evicted = "told"
    desk.change(lambda session: session.with_seed(4))
    assert desk.evicted == ""


# Work


async def watch(job: Job) -> list[dict[object, object]]:
    return [shown async for shown in job.watch()]


def test_a_job_is_watched_from_wherever_it_is() -> None:
    go_on = threading.Event()

    def work() -> Iterator[dict[object, object]]:
        yield {"status": 1, "gallery": "a"}
        go_on.wait()
        yield {"status": 2}

    async def both() -> list[list[dict[object, object]]]:
        job = Job(work())
        first = asyncio.create_task(watch(job))
        while not job.shown:
            await asyncio.sleep(0.01)
        late = asyncio.create_task(watch(job))
        await asyncio.sleep(0.05)
        go_on.set()
        return [await first, await late, await watch(job)]

    seen = asyncio.run(both())
    for shown in seen:
        assert shown[-1] == {"status": 2, "gallery": "a"}
    assert seen[0][0] == {"status": 1, "gallery": "a"} and len(seen[2]) == 1


def test_a_job_goes_on_when_nobody_watches() -> None:
    done = threading.Event()

    def work() -> Iterator[dict[object, object]]:
        yield {"status": 1}
        done.set()
        yield {"status": 2}

    async def look_and_leave() -> Job:
        job = Job(work())
        async for _ in job.watch():
            break
        return job

    job = asyncio.run(look_and_leave())
    assert done.wait(60)
    assert asyncio.run(watch(job)) == [{"status": 2}]


def test_a_job_that_fails() -> None:
    def work() -> Iterator[dict[object, object]]:
        yield {"status": 1}
        raise gr.Error("Got nothing.")

    job = Job(work())
    for _ in range(2):  # each page that watches is told
        with pytest.raises(gr.Error, match="Got nothing"):
            asyncio.run(watch(job))
    assert job.is_over and isinstance(job.error, gr.Error)


def test_a_job_forgets_what_may_show_a_photograph(visits: Visits, clock: Clock) -> None:
    begun, goes_on = threading.Event(), threading.Event()

    def work() -> Iterator[dict[object, object]]:
        yield {"status": "Looking", "result": "a photograph"}
        begun.set()
        goes_on.wait()
        yield {"status": "Found it"}
        raise gr.Error("Got nothing.")

    desk = visits.open(None).desk
    desk.job = Job(work(), lasting="status")
    clock.now += HOUR
    assert begun.wait(60)
    visits.sweep()
    assert desk.job.shown["result"] == "a photograph"  # a page may still watch
    goes_on.set()
    desk.job.join(60)
    visits.sweep()
    assert desk.job.shown == {"status": "Found it"}
    assert desk.job.error is not None and desk.job.error.__traceback__ is None


def test_sessions_that_hold_the_same_are_equal() -> None:
    assert Session(seed=7) == Session(seed=7) != Session(seed=8)
