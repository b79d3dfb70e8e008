"""Train an edit of your own in the background, and list the edits that were made.

The handlers take and return plain values; only `build` knows widgets.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from demo.components import (
    attribute,
    data_url,
    for_screen,
    friendly,
    message,
    most_words,
    say_limit,
    toast,
    warning,
)
from demo.desk import Desk
from demo.files import archive
from demo.frames import check_room
from demo.job import Updates
from demo.making import LENGTHS, Making, planned, plot
from demo.open_choices import open_choice
from demo.question import Question
from demo.stage import PRIVATE, Stage
from demo.tabs.more import Filled
from stylegan_hub.methods.method import Nothing, Pairs, Picture, Words, get, known
from stylegan_hub.names import slug
from stylegan_hub.studio import Studio

KINDS = {
    "A change described in words": "mapper",
    "One part of the picture": "local",
    "The essence of a picture": "essence",
    "A slider from pairs": "pairs",
}
"""What can be made, and the method that makes each."""
_MOST = 8  # edits of one visitor
_UNFINISHED = 32  # stopped trainings of all visitors whose checkpoints are kept
_SECONDS = 1.5  # between two updates of a training's status


def made(desk: Desk) -> dict[str, Making]:
    """The visitor's own edits, by name, in the order in which they were started."""
    return desk.things.setdefault("made", {})


def owner_of_trainings(desk: Desk) -> Hashable:
    """The owner of the trainings of a desk, for `Studio.stop`."""
    return "making", desk.owner


def begin(studio: Studio, desk: Desk, making: Making, unfinished: list[Any]) -> None:
    """Add a training to the visitor's edits, and start it.

    Args:
        unfinished: weak references to all trainings that were started; if too many are stopped,
            the oldest of these are given up.

    Raises:
        ValueError: this name is taken, there are too many edits, or another one is being made.
        BusyError: too many trainings wait.
    """
    own, name = made(desk), making.plan.name
    if name in own:
        raise ValueError(f"“{name}” exists already. Give this one another name.")
    if len(own) >= _MOST:
        raise ValueError(f"Got one more than {_MOST} edits of your own. Delete one first.")
    own[name] = making
    try:
        go_on(desk, making)
    except Exception:
        del own[name]
        raise
    alive = [one for ref in unfinished if (one := ref()) is not None and not one.is_over]
    left = [one for one in alive if one.can_go_on]
    for one in left[: -_UNFINISHED or None]:
        one.give_up("There were too many unfinished trainings, so this one was given up.")
    unfinished[:] = map(weakref.ref, [*alive, making])


def go_on(desk: Desk, making: Making) -> None:
    """Start a training, or continue one that was stopped.

    Raises:
        ValueError: another one is being made, or this one has ended.
        BusyError: too many trainings wait.
    """
    if busy := [other for other in made(desk).values() if other.is_on and other is not making]:
        raise ValueError(f"“{busy[0].plan.name}” is being made. Wait for it, or cancel it.")
    name, place = making.plan.name, weakref.ref(desk)

    def is_wanted() -> bool:
        there = place()
        return there is not None and made(there).get(name) is making

    def store(state: bytes) -> Path | None:
        there = place()
        if there is None or not is_wanted():
            return None
        return Path(there.file(f"checkpoint/{name}", "checkpoint.pt", state))

    making.start(owner_of_trainings(desk), is_wanted, store)


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them."""
    methods = known()
    able = {
        said: name
        for said, name in KINDS.items()
        if name in methods and methods[name].fits(studio.pipe)
    }
    unfinished: list[Any] = []
    first = next(iter(able.values()))
    gr.HTML(
        '<p class="note">Train an edit of your own. Training continues when you close this page, '
        "and the edit is listed below for a day.</p>"
    )
    name = gr.Textbox("", label="Name of the edit", placeholder="my afro")
    method = gr.Radio(list(able.items()), value=first, label="What to make")
    with gr.Column(visible=first in ("mapper", "local")) as by_words:
        words = gr.Textbox("", label=f"What every {studio.noun} should show")
        say_limit(words, most_words(studio))
    region = gr.Dropdown(
        [("The part that the words mention", ""), *studio.regions],
        value="",
        label="The part that changes",
        visible=False,
    )
    with gr.Column(visible=first == "essence") as by_picture:
        picture = gr.File(label="The picture", file_types=["image"], height=100)
        is_other = gr.Checkbox(label=f"It shows something other than {studio.pipe.neutral}")
    with gr.Column(visible=first == "pairs") as by_pairs, gr.Row():
        before, after = (
            gr.File(
                label=f"Pictures {when} the change",
                file_types=["image"],
                file_count="multiple",
                height=100,
                min_width=140,
            )
            for when in ("before", "after")
        )
    length = gr.Radio(list(LENGTHS), value="Usual", label="Duration", visible=first != "pairs")
    start = gr.Button("Make it", variant="primary", elem_id="make")
    mine = open_choice(gr.Radio([], label="My edits", visible=False, elem_id="mine"))
    panel = gr.HTML(min_height=0, label="Progress", elem_id="making")
    with gr.Row(visible=False) as own:
        put = gr.Button("Apply", size="md", min_width=80)
        cancel = gr.Button("Cancel", size="md", min_width=80)
        resume = gr.Button("Continue", size="md", min_width=80)
        save = gr.DownloadButton("Save as zip", size="md", min_width=80)
        delete = gr.Button("Delete", size="md", min_width=80)
    question = Question("Delete it", "Keep it", "delete-edit")
    timer = gr.Timer(_SECONDS, active=False)
    listed = [mine, panel, own, put, cancel, resume, save]

    def show(desk: Desk, chosen: str | None) -> Updates:
        """The list, and the status of the chosen edit."""
        edits = made(desk)
        making = edits.get(chosen or "") or next(reversed(edits.values()), None)
        choices = [(one.label, key) for key, one in edits.items()]
        shown: dict[Any, Any] = {
            mine: gr.Radio(choices, value=making and making.plan.name, visible=bool(edits)),
            own: gr.Row(visible=making is not None),
            panel: "" if making is None else _panel(making),
        }
        if making is not None:
            done = making.edit is not None
            shown |= {
                put: gr.Button(interactive=done),
                cancel: gr.Button(visible=making.is_on),
                resume: gr.Button(visible=making.can_go_on),
                save: gr.DownloadButton(interactive=done),
            }
            if making.edit is not None:
                if making.file is None:
                    called = slug(making.plan.name) or "edit"
                    data = archive(making.edit, called)
                    making.file = desk.file(f"made/{making.plan.name}", f"{called}.zip", data)
                shown[save] = gr.DownloadButton(value=making.file, interactive=True)
        return shown

    def watch(desk: Desk) -> gr.Timer:
        """Start the timer that updates the status while something is being made."""
        return gr.Timer(active=any(one.is_on for one in made(desk).values()))

    def look(desk: Desk, chosen: str | None) -> Updates:
        return {**show(desk, chosen), timer: watch(desk)}

    def make(
        desk: Desk,
        name: str,
        method: str,
        words: str,
        region: str,
        is_other: bool,
        length: str,
        picture: str | None = None,  # a client may leave files out
        before: list[str] | None = None,
        after: list[str] | None = None,
    ) -> Updates:
        with friendly():
            kinds = [kind for kind in (Words, Picture, Pairs, Nothing) if _asks(method, kind)]
            filled = Filled(words, picture=picture, before=before or (), after=after or ())
            asked = filled.request(kinds)
            if isinstance(asked, Words) and (text := warning(studio, words)):
                gr.Warning(toast(text))
            plan = planned(
                studio,
                name,
                method,
                asked,
                (region or None) if method == "local" else None,
                "out_of_domain" if method == "essence" and is_other else None,
                length,
            )
            begin(studio, desk, Making(studio, plan), unfinished)
        return show(desk, plan.name)

    def leave(desk: Desk, chosen: str | None) -> Updates:
        if (making := made(desk).get(chosen or "")) is not None:
            making.stop()
        return show(desk, chosen)

    def take_up(desk: Desk, chosen: str | None) -> Updates:
        with friendly():
            go_on(desk, _chosen(desk, chosen))
        return show(desk, chosen)

    def ask(desk: Desk, chosen: str | None) -> tuple[str, str | None]:
        if chosen not in made(desk):
            return "", None
        return f"Delete “{chosen}”? It cannot be brought back.", chosen

    def remove(desk: Desk, asked: str | None) -> Updates:
        if (making := made(desk).pop(asked or "", None)) is not None:
            making.stop()
            making.give_up("It was deleted.")
        return show(desk, None)

    def put_on(desk: Desk, chosen: str | None) -> str:
        studio.stop(desk.owner)
        with friendly():
            making = _chosen(desk, chosen)
            if making.edit is None:
                raise ValueError(f"“{making.plan.name}” is not ready yet.")
            edit, region = making.edit, making.plan.region
            check_room(desk.session)
            desk.change(lambda session: session.with_found(edit, region))
        return message(f"“{making.plan.name}” is applied now; move its slider.")

    def keep_files(desk: Desk, *files: str | list[str] | None) -> Sequence[object]:
        return desk.take_in_all("made from", files)

    def restore(desk: Desk) -> Updates:
        files = desk.photographs.get("made from", [None] * len(uploads))
        return {**look(desk, None), **dict(zip(uploads, files, strict=True))}

    def pick(method: str) -> Updates:
        return {
            by_words: gr.Column(visible=method in ("mapper", "local")),
            by_picture: gr.Column(visible=method == "essence"),
            by_pairs: gr.Column(visible=method == "pairs"),
            region: gr.Dropdown(visible=method == "local"),
            length: gr.Radio(visible=method != "pairs"),
        }

    desk, quick = stage.desk, {"show_progress": "hidden"}
    uploads = [picture, before, after]
    groups = [by_words, by_picture, by_pairs, region, length]
    stage.drafts.keep("make/name", name)
    stage.drafts.keep("make/words", words)
    method.change(pick, method, groups, queue=False, **PRIVATE)
    sent = [event for box in uploads for event in (box.upload, box.clear, box.delete)]
    gr.on(sent, keep_files, [desk, *uploads], uploads, **PRIVATE)
    inputs = [desk, name, method, words, region, is_other, length, *uploads]
    begun = start.click(make, inputs, listed, api_name="make", **quick)
    timer.tick(look, [desk, mine], [*listed, timer], **quick, **PRIVATE)
    mine.input(show, [desk, mine], listed, api_name="my_edit", **quick)
    cancel.click(leave, [desk, mine], listed, api_name="cancel", **quick)
    again = resume.click(take_up, [desk, mine], listed, api_name="go_on", **quick)
    for event in (begun, again):
        event.success(watch, desk, timer, queue=False, **PRIVATE)
    question.ask_on(delete, ask, [desk, mine])
    question.hide_on(mine.input)
    question.yes.click(remove, [desk, question.asked], listed, **quick, **PRIVATE)
    stage.then_show(put.click(put_on, [desk, mine], stage.status, api_name="put_on"))
    stage.restore(restore, [*listed, timer, *uploads])


def _asks(method: str, kind: type[Any]) -> bool:
    return kind in get(method).requests


def _chosen(desk: Desk, name: str | None) -> Making:
    """The visitor's edit with this name.

    Raises:
        ValueError: there is no such edit.
    """
    own = made(desk)
    if name not in own:
        listed: Sequence[str] = [*own] or ["none yet"]
        raise ValueError(f"Got {name!r}; your edits are: {', '.join(listed)}.")
    return own[name]


def _panel(making: Making) -> str:
    picture = ""
    if making.sheet is not None:
        alt = f"Four faces, and below them the same faces with “{making.plan.name}” so far"
        shown = for_screen(making.sheet)
        picture = f'<img src="{data_url(shown)}" alt="{attribute(alt)}">'
    return f"{making.status}{plot(making.losses)}{picture}"
