"""How a visit begins and ends: the page finds its desk again, opens a link, or deletes the desk."""

from __future__ import annotations

from collections.abc import AsyncIterator

import gradio as gr

from demo import link
from demo.components import message
from demo.desk import Desk
from demo.drafts import STORED
from demo.job import Updates
from demo.question import Question
from demo.stage import EVICTED, PRIVATE, Stage
from demo.tabs.make import owner_of_trainings
from demo.visits import KEPT_HOURS, PHOTOGRAPH_MINUTES, Visits
from stylegan_hub.studio import Studio

KEPT = (
    "This server keeps your {noun}, its edits and the searches that you started for "
    f"{KEPT_HOURS} hours after you close this page; photographs and other pictures that you "
    f"upload for {PHOTOGRAPH_MINUTES} minutes. Only this browser has the key to them. A restart of "
    "the server deletes all of it, except what a link can hold: save what you want to keep. "
    "If it runs out of room, it deletes what was unused the longest. What you type stays in this "
    "browser."
)
_REALLY = (
    "Delete your {noun}, its edits, the edits that you made, all that you uploaded and all that "
    "you typed? It cannot be brought back."
)
_SECONDS_TO_STOP = 30.0
_RESTARTED = "The server was restarted since you were here."
_AWAY = f"You were away for more than {KEPT_HOURS} hours."
# A link is opened once; then its parameters are removed, or a reload would open it again.
_OPEN = f"""(kept, query) => {{
  const asked = location.search, left = new URLSearchParams(asked);
  {list(link.PARAMETERS)}.forEach(name => left.delete(name));
  if (String(left) !== String(new URLSearchParams(asked))) {{
    history.replaceState(history.state, '', location.pathname + (left + '' && '?' + left));
    window.openedLink = true;
  }}
  return [kept, asked];
}}"""
_FORGET = f"""() => {{
  Object.keys(localStorage)
    .filter(name => name.startsWith('{STORED}'))
    .forEach(name => localStorage.removeItem(name));
  location.reload();
}}"""


def lost(kept: object, server: str, evicted: bool = False) -> str:
    """What to tell a browser whose desk is gone; empty if there was nothing on it.

    Args:
        kept: what the browser stored of `Stage.kept`; untrusted.
        server: identifies this start of the server.
        evicted: whether the desk was emptied to make room.
    """
    if not isinstance(kept, dict) or not (kept.get("link") or kept.get("missing")):
        return ""
    missing = kept.get("missing")
    named = ", ".join(map(str, missing)) if isinstance(missing, list) else ""
    if evicted:
        return f"{EVICTED} What a link can hold is back{f', but not {named}' if named else ''}."
    why = _AWAY if kept.get("server") == server else _RESTARTED
    return f"{why} Your data is no longer here{f': {named}' if named else ''}."


class Opening:
    """What happens at the beginning and at the end of a visit."""

    def __init__(self, studio: Studio, stage: Stage, visits: Visits) -> None:
        """Build the text about what is kept, and the button that deletes it."""
        self._studio, self._stage, self._visits = studio, stage, visits
        self._query = gr.Textbox(label="The address", visible="hidden")
        self._running = gr.State(None)
        with gr.Accordion("Your data", open=False, elem_id="data"):
            gr.HTML(f'<p class="note">{KEPT.format(noun=studio.noun)}</p>')
            self._delete = gr.Button("Delete my data", size="md", variant="stop")
            self._question = Question("Delete all of it", "Keep it", "delete-data")

    def wire(self, page: gr.Blocks) -> None:
        """Call it after all widgets exist, and before `Stage.wire`."""
        stage = self._stage
        opened = page.load(
            self._open,
            [stage.browser, self._query],
            [stage.desk, stage.channel, stage.browser, self._running, *stage.busy_widgets],
            js=_OPEN,
            **PRIVATE,
        )
        stage.then_show(opened, face=True)
        stage.show_faces(opened)
        opened.success(stage.restored, stage.desk, stage.restorable, **PRIVATE)
        resumed = self._running.change(
            self._resume,
            stage.desk,
            stage.search_widgets,
            concurrency_limit=None,
            show_progress="hidden",
            **PRIVATE,
        )
        stage.then_free(resumed, face=True)
        self._question.ask_on(self._delete, self._ask, [])
        self._question.hide_on()
        forgotten = self._question.yes.click(self._forget, stage.desk, None, **PRIVATE)
        forgotten.success(None, js=_FORGET, **PRIVATE)

    def _open(self, kept: object, query: str, request: gr.Request) -> Updates:
        stage = self._stage
        visit = self._visits.open(
            kept.get("key") if isinstance(kept, dict) else None, request.session_hash
        )
        desk, was_evicted = visit.desk, bool(visit.desk.evicted)
        desk.evicted = ""
        is_lost = was_evicted or not visit.is_back
        said = lost(kept, self._visits.id, was_evicted) if is_lost else ""
        if was_evicted and not said:
            said = EVICTED
        asked = link.read(query)
        if asked.is_empty and said and isinstance(kept, dict):
            asked = link.read(str(kept.get("link", "")))
        if not asked.is_empty:
            self._studio.stop(desk.owner)
            desk.halted = False
            frames = link.open_link(self._studio, desk, asked, said, desk.owner)
            stage.job(desk, (stage.show_frame(desk, frame) for frame in frames))
        job = desk.job
        is_running = job is not None and not job.is_over
        return {
            **(stage.busy() if is_running else {}),  # before the visitor can press anything
            stage.desk: desk,
            stage.channel: desk.channel,
            stage.browser: stage.kept(desk),
            self._running: str(id(job)) if is_running else None,
            stage.status: message(said) if said else self._last_status(desk),
        }

    def _last_status(self, desk: Desk) -> object:
        """The result of a search that ended while no page showed it."""
        if (job := desk.job) is None or job.was_seen:
            return gr.skip()
        if isinstance(job.error, gr.Error):
            return message(f"Your search ended without a result. {job.error.message}")
        return job.shown.get(self._stage.status, gr.skip())

    async def _resume(self, desk: Desk) -> AsyncIterator[Updates]:
        if (job := desk.job) is not None:
            yield self._stage.busy()
            async for shown in job.watch():
                yield shown

    def _ask(self) -> tuple[str, None]:
        return _REALLY.format(noun=self._studio.noun), None

    def _forget(self, desk: Desk) -> None:
        for owner in (desk.owner, owner_of_trainings(desk)):
            self._studio.stop(owner)
        if desk.job is not None:  # it must not put its last pictures on the empty desk
            desk.job.join(_SECONDS_TO_STOP)
        self._visits.forget(desk)
        self._studio.forget_pictures()
