"""Every other method, also from other packages; this tab is built from the registry.

It asks for what a method's requests contain, and shows all results to choose from. The handlers
take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from demo.components import (
    friendly,
    message,
    most_words,
    open_picture,
    plain,
    say_limit,
    thumbnails,
    toast,
    warning,
)
from demo.desk import Desk
from demo.finding import Found, Wanted, search
from demo.frames import Frame, check_room
from demo.job import Updates
from demo.stage import PRIVATE, Stage
from stylegan_hub.edits.base import Edit
from stylegan_hub.images import to_rgb
from stylegan_hub.methods.method import (
    Method,
    Nothing,
    Pairs,
    Picture,
    Request,
    Words,
    caption,
    known,
)
from stylegan_hub.session import Session
from stylegan_hub.steps import Step
from stylegan_hub.studio import Studio

_MAX_SHOWN = 24  # edits to choose from
_MAX_EXAMPLES = 64  # pictures or seeds on each side
_MAX_SIDE = 1024  # pixels of such a picture
_HINTS = {
    Words: "Describe what the picture should show",
    Picture: "Give a picture whose look faces should get",
    Pairs: "Give pictures, or seeds, before and after a change",
    Nothing: "Leave everything empty",
}
"""The kinds of requests, and what the visitor has to fill in for each."""


@dataclass(frozen=True)
class Filled:
    """What a visitor filled in; a request uses the fields that it needs.

    Attributes:
        words, neutral: texts.
        keep: what should not change, separated by commas.
        picture: path of a picture.
        before, after: paths of pictures.
        seeds_before, seeds_after: seeds in place of pictures, "1, 2".
        paired: whether the pictures before and after belong together one by one.
    """

    words: str = ""
    neutral: str = ""
    keep: str = ""
    picture: str | None = None
    before: Sequence[str] = ()
    after: Sequence[str] = ()
    seeds_before: str = ""
    seeds_after: str = ""
    paired: bool = True

    def request(self, kinds: Sequence[type[Any]]) -> Request:
        """The first request of these types whose fields were filled in.

        Raises:
            ValueError: a required field is empty or cannot be read.
        """
        is_filled = {
            Words: bool(self.words.strip()),
            Picture: self.picture is not None,
            Pairs: any((self.before, self.after, self.seeds_before, self.seeds_after)),
        }
        empty = Nothing if Nothing in kinds else kinds[0]
        kind = next((kind for kind in kinds if is_filled.get(kind)), empty)
        if kind is Words:
            return Words(self.words, self.neutral or None, tuple(self.keep.split(",")))
        if kind is Picture:
            if self.picture is None:
                raise ValueError("Got no picture; choose one.")
            return Picture(open_picture(self.picture), "the picture")
        if kind is Pairs:
            before = _examples("before", self.before, self.seeds_before)
            after = _examples("after", self.after, self.seeds_after)
            return Pairs(before, after, self.paired)
        return Nothing()


def _examples(when: str, files: Sequence[str], seeds: str) -> list[Any]:
    """The pictures, or the seeds if there are no pictures."""
    if len(files) > _MAX_EXAMPLES:
        raise ValueError(f"Got {len(files)} pictures {when}; at most {_MAX_EXAMPLES} are allowed.")
    if files:
        return [_small(open_picture(file)) for file in files]
    numbers = [number for number in re.split(r"[\s,]+", seeds) if number]
    if not numbers:
        raise ValueError(f"Got no pictures {when} the change, and no seeds; choose some.")
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"Got the seeds {seeds!r} {when} the change; expected whole numbers such as 1, 2, or "
            "pictures."
        )
    if len(numbers) > _MAX_EXAMPLES:
        raise ValueError(f"Got {len(numbers)} seeds {when}; at most {_MAX_EXAMPLES} are allowed.")
    return [int(number) for number in numbers]


def _small(picture: Image.Image) -> Image.Image:
    """The picture with at most `_MAX_SIDE` pixels on each side, since many are held at a time.

    Its shape stays exactly the same if it can, because a method may refuse another one.
    """
    if max(picture.size) <= _MAX_SIDE:
        return picture
    common = math.gcd(*picture.size)
    width, height = (side // common for side in picture.size)
    scale = _MAX_SIDE / max(width, height)
    scale = math.floor(scale) if scale >= 1 else scale
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return to_rgb(picture).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


@dataclass(frozen=True, kw_only=True)
class Several(Frame):
    """The last `Frame` of a search that found several edits to choose from.

    Attributes:
        edits: the best one first.
        previews: the face with each of them.
    """

    edits: tuple[Edit, ...]
    previews: tuple[Image.Image, ...]


def others(tabbed: Collection[str]) -> dict[str, Method[Any]]:
    """The methods that no other tab uses, by name."""
    return {name: method for name, method in known().items() if name not in tabbed}


def ways(method: Method[Any]) -> list[type[Any]]:
    """The types of requests that a method answers and this page can make."""
    return [kind for kind in _HINTS if kind in method.requests]


def find(
    studio: Studio, session: Session, wanted: Wanted, owner: Hashable = None
) -> Iterator[Frame]:
    """Search; one result is put on the face, several are shown to choose from (`Several`).

    Raises:
        ValueError: the request cannot be answered, or there are too many edits.
    """
    if wanted.region is not None:
        studio.region("", [wanted.region])  # raises for an unknown region before the search starts
    face, _ = studio.draw(session.without_edits())

    def before(_: Step) -> Image.Image:
        return face

    shown = None if wanted.every_face else before
    found = yield from search(studio, session, wanted, shown, owner)
    if found is None:
        return
    if len(found.edits) == 1:
        (edit,) = found.edits
        pictures = studio.draw(session.with_found(edit, found.region))
        text = f"Found “{caption(edit)}”{found.seconds}; move its slider."
        yield Frame(message(text), pictures, edit, found.region)
    else:
        yield _several(studio, session, found)


def _several(studio: Studio, session: Session, found: Found) -> Several:
    edits = tuple(found.edits[:_MAX_SHOWN])
    previews = []
    for edit in edits:
        _, picture = studio.draw(session.with_found(edit, found.region))
        previews.append(picture)
    text = f"Found {len(found.edits)} edits{found.seconds}; click one to apply it."
    return Several(message(text), region=found.region, edits=edits, previews=tuple(previews))


def choose(desk: Desk, edits: Sequence[Edit], region: str | None, index: int) -> str:
    """Put one of several edits on the face; returns the message.

    Raises:
        ValueError: too many edits, or a face that cannot take the edit.
    """
    edit = edits[index]

    def more(session: Session) -> Session:
        if session.found_as(caption(edit)) is None:
            check_room(session)
        return session.with_found(edit, region)

    desk.change(more)
    return f"“{caption(edit)}” is applied now; move its slider."


def build(studio: Studio, stage: Stage, tabbed: Collection[str]) -> None:
    """Build the widgets and connect them; no form if each method has its own tab."""
    methods = {
        name: method
        for name, method in others(tabbed).items()
        if method.fits(studio.pipe) and ways(method)
    }
    if not methods:
        gr.HTML("<p>Every method of this pipeline has its own tab.</p>")
        return
    first = next(iter(methods.values()))
    method = gr.Radio(list(methods), value=first.name, label="Method")
    about = gr.HTML(_about(first))
    with gr.Column(visible=Words in ways(first)) as by_words:
        words = gr.Textbox("", label=f"The {studio.noun} should show")
        neutral = gr.Textbox(studio.pipe.neutral, label="It shows now")
        keep = gr.Textbox("", label="But keep", placeholder="glasses, hair")
        for box in (words, neutral):
            say_limit(box, most_words(studio))
    with gr.Column(visible=Picture in ways(first)) as by_picture:
        picture = gr.File(label="A picture", file_types=["image"], height=100)
    with gr.Column(visible=Pairs in ways(first)) as by_examples:
        with gr.Row():
            before, after = (
                gr.File(
                    label=f"Pictures {when}",
                    file_types=["image"],
                    file_count="multiple",
                    height=100,
                    min_width=140,
                )
                for when in ("before", "after")
            )
        with gr.Row():
            seeds_before, seeds_after = (
                gr.Textbox("", label=f"Or seeds {when}", placeholder="1, 2, 3", min_width=140)
                for when in ("before", "after")
            )
        paired = gr.Checkbox(
            True, label="They are pairs: the first picture before belongs to the first one after"
        )
    groups = {Words: by_words, Picture: by_picture, Pairs: by_examples}
    whom = gr.Radio(
        [(f"This {studio.noun}", "face"), (f"Every {studio.noun}", "everybody")],
        value="everybody",
        label="Find the change for",
    )
    region = gr.Dropdown(
        [("The whole picture", ""), *studio.regions],
        value="",
        label="Where",
        visible=bool(studio.regions),
    )
    preset = gr.Dropdown(list(first.presets), value="default", label="Settings")
    start = gr.Button("Find", variant="primary")
    gallery = thumbnails("What was found", "found", 4, visible=False)

    def show(desk: Desk) -> Updates:
        """Show what a search found, to choose from."""
        found: Several | None = desk.things.get("found")
        if found is None:
            return {gallery: gr.Gallery([], visible=False)}
        shown = [
            (desk.picture(preview), caption(edit))
            for preview, edit in zip(found.previews, found.edits, strict=True)
        ]
        return {gallery: gr.Gallery(shown, visible=True, selected_index=None)}

    def run(
        desk: Desk,
        method: str,
        words: str,
        neutral: str,
        keep: str,
        seeds_before: str,
        seeds_after: str,
        paired: bool,
        whom: str,
        region: str,
        preset: str,
        picture: str | None = None,  # a client may leave files out
        before: list[str] | None = None,
        after: list[str] | None = None,
        request: gr.Request | None = None,
    ) -> Iterator[Updates]:
        assert request is not None  # gradio passes it
        filled = Filled(
            words, neutral, keep, picture, before or (), after or (), seeds_before, seeds_after,
            paired,
        )  # fmt: skip
        with friendly():
            asked = filled.request(ways(methods[method]))
            if isinstance(asked, Words) and (text := warning(studio, words)):
                gr.Warning(toast(text))
            settings = None if preset == "default" else preset
            wanted = Wanted(asked, method, whom != "face", settings, region=region or None)
            desk.things["found"] = None
            for frame in find(studio, desk.session, wanted, desk.owner):
                if isinstance(frame, Several):
                    desk.things["found"] = frame
                yield stage.show_frame(desk, frame) | show(desk)

    def take(desk: Desk, event: gr.SelectData) -> str:
        studio.stop(desk.owner)
        found: Several | None = desk.things.get("found")
        with friendly():
            if found is None or event.index >= len(found.edits):
                raise ValueError("Got an edit that is no longer here; search again.")
            return message(choose(desk, found.edits, found.region, event.index))

    def keep_files(desk: Desk, *files: str | list[str] | None) -> Sequence[object]:
        return desk.take_in_all("examples", files)

    def restore(desk: Desk) -> Updates:
        files = desk.photographs.get("examples", [None] * len(uploads))
        return show(desk) | dict(zip(uploads, files, strict=True))

    def pick(name: str) -> dict[gr.blocks.Block, object]:
        chosen = methods[name]
        return {
            about: _about(chosen),
            preset: gr.Dropdown(list(chosen.presets), value="default"),
            **{group: gr.Column(visible=kind in ways(chosen)) for kind, group in groups.items()},
        }

    method.change(pick, method, [about, preset, *groups.values()], queue=False, **PRIVATE)
    stage.add_search(
        start,
        [start.click, words.submit],
        run,
        {
            "method": method,
            "words": words,
            "neutral": neutral,
            "keep": keep,
            "picture": picture,
            "before": before,
            "after": after,
            "seeds_before": seeds_before,
            "seeds_after": seeds_after,
            "paired": paired,
            "whom": whom,
            "region": region,
            "preset": preset,
        },
        api_name="find",
        outputs=[gallery],
    )
    uploads = [picture, before, after]
    events = [event for box in uploads for event in (box.upload, box.clear, box.delete)]
    gr.on(events, keep_files, [stage.desk, *uploads], uploads, **PRIVATE)
    stage.restore(restore, [gallery, *uploads])
    stage.then_show(gallery.select(take, stage.desk, stage.status, **PRIVATE))


def _about(method: Method[Any]) -> str:
    kinds = ways(method)
    hints = "; or ".join(_HINTS[kind] for kind in kinds)
    if kinds == [Nothing]:
        hints = "There is nothing to fill in"
    return f'<p class="note">{plain(method.summary)} {plain(hints)}.</p>'
