"""Published edits: a gallery of cards; a click on one puts its edit on the face.

The handlers take and return sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from demo.components import (
    attribute,
    data_url,
    friendly,
    help_with,
    message,
    plain,
    toast,
    without_folders,
)
from demo.desk import Desk
from demo.frames import check_room
from demo.job import Updates
from demo.stage import FAILED, PRIVATE, Stage, in_any_case
from stylegan_hub.hub import EditInfo
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

HELP = "Click an edit of the zoo to apply it to the face and to read its card."
NOTHING = (
    "No edit for this generator is bundled. Load one by its name on the Hub, or make one as the "
    "README describes."
)
NO_CARD = "The card of the edit that you click is shown here."
# Name and explanation of each kind of edit.
KINDS = {
    "direction": ("direction", "It moves every face in the same way."),
    "latent_mapper": ("mapper", "A small network fits the change to each face."),
    "instant": ("instant edit", "It moves each face by the amount that the face needs."),
    "limited": ("limited edit", "It changes a face only as far as faces of this model go."),
}
# An edit belongs to the first group that has one of these words in its name or prompt.
GROUPS = {
    "Character": ("essence", "captain", "otto", "zuri", "milo", "ivy", "pearl"),
    "Hair": ("hair", "afro", "mohawk", "curl", "bob", "bald", "beard", "moustache", "fringe"),
    "Expression": ("smil", "surprise", "angry", "anger", "sad", "happy", "expression", "grin"),
    "Worn": ("glasses", "hat", "cap", "earring", "lipstick", "makeup", "clothes", "shirt"),
    "Face": ("eye", "old", "young", "age", "skin", "freckle", "nose", "mouth", "face", "pose"),
}
OTHER = "Other"
_SHARES = {
    "success": "works on {:.0%} of faces",
    "collateral": "changes {:.0%} of the other attributes",
    "attributes_taken": "takes {:.0%} of the picture's look",
    "attributes_kept": "keeps {:.0%} of all attributes",
}  # how a card words a metric of metrics.json; essences have the last two
_PICTURE_SIZE = 192
_MAX_PIXELS = 16 * 1024 * 1024
_MAX_STRIP = 768  # pixels, width of a card's picture
_LEAST_ZOOM = 0.45  # smallest part of a picture's width that a thumbnail shows
_CHANGED = 0.35  # of the greatest change, above which a pixel counts as changed
# Cards come and go, so one listener serves all of them.
_ON_LOAD = """
element.addEventListener('click', event => {
  const card = event.target.closest('button');
  if (card) trigger('apply', { name: card.dataset.name });
});
"""
_FILTER = """(text, kind, group) => {
  const wanted = (text ?? '').trim().toLowerCase();
  let left = 0;
  document.querySelectorAll('#zoo .cards li').forEach(card => {
    const { text, kind: own, group: of } = card.dataset;
    card.hidden = !(text.includes(wanted) && (!kind || kind === own) && (!group || group === of));
    left += !card.hidden;
  });
  document.querySelectorAll('#zoo .none').forEach(none => none.hidden = left > 0);
}"""


def put_on(studio: Studio, desk: Desk, name: str) -> str:
    """Put one more edit on the face; returns the message.

    Raises:
        ValueError, NotFoundError, ArtifactError, MismatchError: there is no such edit, or it cannot
            be used here, or there are too many edits.
    """
    name = name.strip()

    def is_on(session: Session) -> bool:
        return any(applied.name == name for applied in session.edits)

    def more(session: Session) -> Session:
        if is_on(session):
            return session
        check_room(session)
        return session.with_edit(edit, name=name)

    if is_on(desk.session):
        return f"“{name}” is applied already; move its slider."
    check_room(desk.session)
    edit = studio.load(name)
    desk.change(more)
    return f"“{name}” is applied now; move its slider."


def look(studio: Studio, desk: Desk, name: str) -> None:
    """Record for its card what is known of an edit before it is loaded."""
    desk.things["card"] = None
    desk.things["card"] = studio.look(name)


def gallery(infos: Sequence[EditInfo]) -> str:
    """HTML of the clickable cards."""
    if not infos:
        return f"<p>{NOTHING}</p>"
    none = '<p class="none" hidden role="status">Nothing matches. Try other words or groups.</p>'
    return f'<ul class="cards">{"".join(map(_tile, infos))}</ul>{none}'


def card(info: EditInfo | None) -> str:
    """HTML of everything known about one edit."""
    if info is None:
        return f'<p class="note">{NO_CARD}</p>'
    kind, meaning = KINDS.get(info.kind, (info.kind.replace("_", " "), ""))
    picture = _strip(info)
    alt = f"Faces above, and below them the same faces with {info.name}"
    shown = f'<img src="{escape(picture)}" alt="{attribute(alt)}">' if picture else ""
    said = f"<p>“{plain(info.prompt)}”</p>" if info.prompt else ""
    low, high = info.strength.min, info.strength.max
    rows = {
        "Kind": f"{kind}. {meaning}".strip(),
        "Measured": _numbers(info.metrics),
        "Slider": f"{low:g} to {high:g}",
        "Made for": info.base_model or "an unknown generator",
    }
    listed = "".join(f"<dt>{name}</dt><dd>{plain(text)}</dd>" for name, text in rows.items())
    where = ""
    if info.source == "hub":
        address = f"https://huggingface.co/{attribute(info.name)}"
        where = f'<p><a href="{address}" target="_blank" rel="noopener">Its page on the Hub</a></p>'
    return f"<h3>{plain(info.name)}</h3>{shown}{said}<dl>{listed}</dl>{where}"


def group_of(info: EditInfo) -> str:
    """The group of `GROUPS` that an edit belongs to, by its name and prompt."""
    said = f"{info.name.rpartition('/')[2]} {info.prompt or ''}".lower().replace("a face", "")
    return next(
        (group for group, words in GROUPS.items() if any(word in said for word in words)), OTHER
    )


def _tile(info: EditInfo) -> str:
    kind, _ = KINDS.get(info.kind, (info.kind.replace("_", " "), ""))
    text = attribute(f"{info.name} {info.prompt or ''} {kind}".lower())
    picture = _thumbnail(info)
    image = f'<img src="{escape(picture)}" alt="" loading="lazy">' if picture else ""
    return (
        f'<li data-text="{text}" data-kind="{attribute(kind)}" data-group="{group_of(info)}">'
        f'<button type="button" data-name="{attribute(info.name)}">'
        f'<span class="picture">{image}</span>'
        f"<strong>{plain(info.name)}</strong>"
        f"<span>{plain(kind)}</span></button></li>"
    )


def _numbers(metrics: Mapping[str, Any]) -> str:
    parts = [
        said.format(share)
        for name, said in _SHARES.items()
        if isinstance(share := metrics.get(name), int | float) and math.isfinite(share)
    ]
    return ", ".join(parts) or "not measured"


def _opened(info: EditInfo) -> Image.Image | None:
    """The strip of a bundled edit: faces above, and the same faces edited below."""
    if info.picture is None or info.source == "hub":
        return None
    try:
        with Image.open(Path(info.picture)) as strip:
            if strip.width * strip.height > _MAX_PIXELS or strip.height < 2:
                return None
            return strip.convert("RGB")
    except OSError:
        return None  # a card without a picture is still a card


def _strip(info: EditInfo) -> str | None:
    """The address of a card's picture: on the Hub, or a data URL."""
    if info.source == "hub":
        return info.picture
    if (strip := _opened(info)) is None:
        return None
    side = strip.height // 2
    shown = strip.crop((0, 0, min(strip.width, 4 * side), strip.height))
    shown.thumbnail((_MAX_STRIP, _MAX_STRIP))
    return data_url(shown)


def _thumbnail(info: EditInfo) -> str | None:
    """The address of a tile's picture: one face before and after, cropped to the change."""
    if info.source == "hub":
        return info.picture
    if (strip := _opened(info)) is None:
        return None
    side = strip.height // 2
    if strip.width < side:
        return None
    pixels = np.asarray(strip, np.float32)[: 2 * side]
    count = strip.width // side
    change = np.abs(pixels[:side] - pixels[side:]).mean(2)[:, : count * side]
    change = change.reshape(side, count, side)
    face = int(change.mean((0, 2)).argmax())
    left, top, width = _around(change[:, face])
    pair = Image.new("RGB", (2 * _PICTURE_SIZE, _PICTURE_SIZE))
    for place in (0, 1):
        corner = (face * side + left, place * side + top)
        box = (*corner, corner[0] + width, corner[1] + width)
        near = strip.crop(box).resize((_PICTURE_SIZE, _PICTURE_SIZE), Image.Resampling.BICUBIC)
        pair.paste(near, (place * _PICTURE_SIZE, 0))
    return data_url(pair)


def _around(change: np.ndarray) -> tuple[int, int, int]:
    """Left, top and width of the square that contains most of a picture's change."""
    side = len(change)
    rows, columns = np.nonzero(change >= _CHANGED * max(float(change.max()), 1e-6))
    (top, bottom), (left, right) = (np.percentile(at, (5, 95)) for at in (rows, columns))
    width = int(min(side, max(1.3 * max(bottom - top, right - left), _LEAST_ZOOM * side)))
    start = (((left + right) - width) / 2, ((top + bottom) - width) / 2)
    across, down = (int(min(max(at, 0), side - width)) for at in start)
    return across, down, width


def build(studio: Studio, stage: Stage, page: gr.Blocks) -> None:
    """Build the widgets and connect them."""
    help_with(HELP)
    bundled, _ = studio.zoo()
    kinds = sorted({KINDS.get(info.kind, (info.kind.replace("_", " "), ""))[0] for info in bundled})
    with gr.Row(elem_id="find-edit"):
        text = gr.Textbox(
            "", label="Search", placeholder="hair", scale=3, min_width=120, elem_id="search-zoo"
        )
        kind = gr.Dropdown(
            [("All kinds", ""), *kinds], value="", label="Kind", scale=2, min_width=110
        )
        group = gr.Dropdown(
            [("All groups", ""), *GROUPS, OTHER], value="", label="Group", scale=2, min_width=110
        )
    with gr.Row(equal_height=False, elem_id="zoo-row"):
        cards = gr.HTML(elem_id="zoo", js_on_load=_ON_LOAD)
        about = gr.HTML(card(None), elem_id="card")
    with gr.Row(elem_classes="ask"):
        name = gr.Textbox(
            label="Or by name",
            placeholder="user/repo, or the address of a page on the Hub",
            info="Bundled, or on the Hub. It is checked before it is downloaded.",
            scale=4,
            min_width=160,
        )
        load = gr.Button("Apply", variant="primary", scale=0, min_width=100)
    look_on_hub = gr.Button("Search the Hub too", size="md")

    stage.drafts.keep("apply/name", name)

    def list_bundled() -> str:
        return shown(include_hub=False)

    def list_all() -> str:
        return shown(include_hub=True)

    def shown(include_hub: bool) -> str:
        infos, problems = studio.zoo(include_hub)
        for problem in problems:
            gr.Warning(toast(without_folders(problem)))
        return gallery(infos)

    def put_on_by_name(desk: Desk, name: str) -> Iterator[str]:
        studio.stop(desk.owner)
        yield message(f"Loading “{name}” …")
        with friendly():
            look(studio, desk, name)
            yield message(put_on(studio, desk, name))

    def click(desk: Desk, event: gr.EventData) -> Iterator[str]:
        yield from put_on_by_name(desk, str(getattr(event, "name", "")))

    def show_card(desk: Desk) -> Updates:
        return {about: card(desk.things.get("card"))}

    # The Hub may be slow, and the list is the same for every visitor.
    listing = {"concurrency_id": "list", "concurrency_limit": 1, "show_progress_on": cards}
    loading = {"concurrency_id": "load", "concurrency_limit": 4, "show_progress": "hidden"}
    filters = [text, kind, group]
    for listed in (
        page.load(list_bundled, None, cards, **listing, **PRIVATE),
        look_on_hub.click(list_all, None, cards, **listing, **PRIVATE),
    ):
        listed.success(None, filters, None, js=_FILTER, **PRIVATE)
    # In its `input` event, gradio still passes the old text of the box.
    events = [text.change, kind.change, group.change]
    gr.on(events, None, filters, None, js=_FILTER, **PRIVATE)
    desk, status = stage.desk, stage.status
    by_click = cards.apply(click, desk, status, trigger_mode="multiple", **loading, **PRIVATE)
    named = [load.click, name.submit]
    by_name = gr.on(named, put_on_by_name, [desk, name], status, api_name="apply", **loading)
    stage.restore(show_card, [about])
    for event in (by_click, by_name):
        event.failure(lambda: message(FAILED), None, status, **PRIVATE)
        in_any_case(event, show_card, desk, about, **PRIVATE)
        stage.then_show(event)
