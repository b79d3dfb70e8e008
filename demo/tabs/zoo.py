"""Edits that others made: a gallery of cards, of which a click puts one on the face.

The handlers take and return sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo.components import data_url, friendly, message, plain
from demo.stage import PRIVATE, Desk, Stage, check_room
from stylegan_hub.hub import EditInfo
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

NOTHING = (
    "No edit for this generator is bundled. Load one by its name on the Hub, or make one: the "
    "README says how."
)
_SHARES = {
    "success": "success",
    "collateral": "collateral",
    "of the target taken": "attributes_taken",
    "kept": "attributes_kept",
}  # by what a card calls them, as metrics.json does; essences have the last two
_PICTURE_SIZE = 256
_MAX_PIXELS = 16 * 1024 * 1024
# Cards come and go, so one listener hears them all.
_ON_LOAD = """
element.addEventListener('click', event => {
  const card = event.target.closest('button');
  if (card) trigger('apply', { name: card.dataset.name });
});
"""


def put_on(studio: Studio, desk: Desk, name: str) -> str:
    """One more edit on the face; what to tell.

    Raises:
        ValueError, NotFoundError, ArtifactError, MismatchError: no such edit, or none that can be
            used here; too many edits.
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
        return f"“{name}” is on it already; slide it."
    check_room(desk.session)
    edit = studio.load(name)
    desk.change(more)
    return f"“{name}” is on it now; slide it."


def gallery(infos: Sequence[EditInfo]) -> str:
    """HTML of the cards."""
    if not infos:
        return f"<p>{NOTHING}</p>"
    return f'<ul class="cards">{"".join(map(_card, infos))}</ul>'


def _card(info: EditInfo) -> str:
    picture = _source(info)
    image = f'<img src="{escape(picture)}" alt="" loading="lazy">' if picture else ""
    return (
        f'<li><button type="button" data-name="{plain(info.name)}">'
        f'<span class="picture">{image}</span>'
        f"<strong>{plain(info.name)}</strong>"
        f"<span>{plain(info.kind.replace('_', ' '))}</span>"
        f"<span>{_numbers(info.metrics)}</span></button></li>"
    )


def _numbers(metrics: Mapping[str, Any]) -> str:
    parts = [
        f"{label} {share:.0%}"
        for label, name in _SHARES.items()
        if isinstance(share := metrics.get(name), int | float) and math.isfinite(share)
    ]
    return ", ".join(parts) or "not measured"


def _source(info: EditInfo) -> str | None:
    """Where the card's picture comes from: the Hub, or right here, with two people of the strip."""
    if info.picture is None or info.source == "hub":
        return info.picture
    try:
        with Image.open(Path(info.picture)) as strip:
            if strip.width * strip.height > _MAX_PIXELS:
                return None
            square = strip.convert("RGB").crop((0, 0, strip.height, strip.height))
    except OSError:
        return None  # a card without a picture is still a card
    return data_url(square.resize((_PICTURE_SIZE, _PICTURE_SIZE)))


def build(studio: Studio, stage: Stage, page: gr.Blocks) -> None:
    """The widgets and their wiring."""
    cards = gr.HTML(elem_id="zoo", js_on_load=_ON_LOAD)
    look = gr.Button("Look on the Hub too", size="md")
    with gr.Row(elem_id="by-name"):
        name = gr.Textbox(
            label="Or by name",
            placeholder="user/repo",
            info="Bundled, or on the Hub as user/repo or user/repo@revision.",
            max_length=200,
            scale=3,
            min_width=160,
        )
        load = gr.Button("Put it on", size="md", scale=1, min_width=80)

    def list_bundled() -> str:
        return shown(include_hub=False)

    def list_all() -> str:
        return shown(include_hub=True)

    def shown(include_hub: bool) -> str:
        infos, problems = studio.zoo(include_hub)
        for problem in problems:
            gr.Warning(escape(problem))
        return gallery(infos)

    def put_on_by_name(desk: Desk, name: str, request: gr.Request) -> Iterator[str]:
        studio.stop(request.session_hash)
        yield message(f"Loading “{name}” …")
        with friendly():
            yield message(put_on(studio, desk, name))

    def click(desk: Desk, event: gr.EventData, request: gr.Request) -> Iterator[str]:
        yield from put_on_by_name(desk, str(getattr(event, "name", "")), request)

    # The Hub may let one wait, and a list is the same for everybody.
    listing = {"concurrency_id": "list", "concurrency_limit": 1}
    loading = {"concurrency_id": "load", "concurrency_limit": 4, "show_progress": "hidden"}
    page.load(list_bundled, None, cards, **listing, **PRIVATE)
    look.click(list_all, None, cards, **listing, **PRIVATE)
    desk, status = stage.desk, stage.status
    by_click = cards.apply(click, desk, status, trigger_mode="multiple", **loading, **PRIVATE)
    named = [load.click, name.submit]
    by_name = gr.on(named, put_on_by_name, [desk, name], status, api_name="apply", **loading)
    for event in (by_click, by_name):
        event.failure(lambda: message("Nothing was changed."), None, status, **PRIVATE)
        stage.then_show(event)
