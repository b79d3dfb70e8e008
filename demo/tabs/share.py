"""Share an edit, or all edits on the face as one: a folder with a card, saved or on the Hub.

Publishing uses the visitor's own login: that of the Space, or a token that is typed in, used once,
and neither kept nor logged. The handlers take and return values; only `build` knows widgets.
"""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from dataclasses import dataclass
from html import escape
from pathlib import Path

import gradio as gr
from PIL import Image

from demo.components import data_url, friendly, help_with, message, plain
from demo.desk import Desk
from demo.job import Updates
from demo.open_choices import open_choice
from demo.question import Question
from demo.stage import PRIVATE, Stage
from demo.tabs.make import made
from stylegan_hub import hub
from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.combined import combine
from stylegan_hub.hub import LICENSES, LIKENESSES, PICTURE_NAME
from stylegan_hub.hub.publish import publishing
from stylegan_hub.metrics.edit_quality import before_after
from stylegan_hub.names import slug
from stylegan_hub.session import label_of
from stylegan_hub.studio import Studio

SHOWN = range(1, 7)
"""Seeds of the faces on the card's strip."""
_ALL = "all"
HELP = "Save an edit as a folder with a card, or publish it on the Hub. You see the card first."
_NOTHING = "Nothing to share yet: find or make an edit, and it will be listed here."
_LIKENESS = {
    "No real person: words or generated faces": "nobody",
    "Pictures of myself": "own",
    "Pictures of people who agreed to this": "consent",
}


@dataclass(frozen=True)
class Prepared:
    """A folder that can be shared.

    Attributes:
        name: of the folder, and of the repository.
        data: the folder as a zip file.
        card: its README.md.
        strip: picture of faces before and after.
    """

    name: str
    data: bytes
    card: str
    strip: Image.Image


def sharable(desk: Desk) -> list[tuple[str, str]]:
    """What can be shared: a label and a value for `chosen` each."""
    own = [(f"My edit: {name}", f"made/{name}") for name, m in made(desk).items() if m.edit]
    on = [
        (f"On the face: {label_of(applied)}", f"face/{index}")
        for index, applied in enumerate(desk.session.edits)
    ]
    many = [("All edits on the face, as one", _ALL)] if len(on) > 1 else []
    return [*own, *on, *many]


def chosen(studio: Studio, desk: Desk, what: str | None, name: str) -> Edit:
    """The edit that a visitor wants to share.

    Raises:
        ValueError: the edit is no longer there, or the edits on the face cannot be combined.
    """
    kind, _, which = (what or "").partition("/")
    edits = desk.session.edits
    if what == _ALL:
        return combine(studio.pipe, desk.session.stack, name)
    if kind == "made" and (making := made(desk).get(which)) is not None and making.edit:
        return making.edit
    if kind == "face" and which.isdecimal() and int(which) < len(edits):
        return edits[int(which)].edit
    raise ValueError("Got nothing to share; choose an edit from the list.")


def prepared(studio: Studio, edit: Edit, name: str, license: str, likeness: str | None) -> Prepared:
    """The folder of an edit: weights, a strip, and a card.

    Raises:
        ValueError: no name, an unknown license, or no statement about likeness.
    """
    if not (called := slug(name)):
        raise ValueError(f"Got the name {name[:40]!r}; expected letters or digits: my-afro.")
    if likeness not in LIKENESSES:
        raise ValueError("Got no likeness; say whose pictures the edit was made from.")
    if license not in LICENSES:
        raise ValueError(f"Got the license {license!r}; expected one of {', '.join(LICENSES)}.")
    strip = before_after(studio.pipe, edit, SHOWN)
    with tempfile.TemporaryDirectory() as scratch:
        folder = edit.save_pretrained(Path(scratch) / called)
        image_files.save(strip, folder / PICTURE_NAME)
        card = hub.write_card(folder, license, likeness).read_text(encoding="utf-8")
        return Prepared(called, _zipped(folder), card, strip)


def publish(
    ready: Prepared, token: str, private: bool, known: set[str], endpoint: str | None = None
) -> tuple[str, str]:
    """Publish it as the token's owner; returns the repository and its address.

    Args:
        token: used here only, and not kept.
        known: repositories that this visitor published here, and may therefore update.

    Raises:
        ValueError: no token.
        PublishError: the Hub refused, or a repository of this name exists that is not known.
    """
    from huggingface_hub import HfApi

    if not token:
        raise ValueError("Got no login; sign in, or give a token with write access.")
    repo_id = f"{hub.who(token, endpoint)}/{ready.name}"
    api = HfApi(endpoint, token)
    with publishing(repo_id):
        is_taken = repo_id not in known and api.repo_exists(repo_id)
    if is_taken:
        raise hub.PublishError(
            f"{repo_id} exists already and was not published here, so nothing was sent. Choose "
            "another name."
        )
    with tempfile.TemporaryDirectory() as scratch:
        with zipfile.ZipFile(io.BytesIO(ready.data)) as bundle:
            bundle.extractall(scratch)
        folder = Path(scratch) / ready.name
        hub.publish(folder, repo_id, private=private, token=token, endpoint=endpoint)
    return repo_id, f"{api.endpoint}/{repo_id}"


def _zipped(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                bundle.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
    return buffer.getvalue()


def _shown(ready: Prepared) -> str:
    """HTML of the strip; the card below it is Markdown."""
    alt = "Upper row: faces before the edit. Lower row: the same faces after it."
    return f'<img src="{data_url(ready.strip)}" alt="{alt}">'


def _text(card: str) -> str:
    """The card without its metadata and its pictures, which this page does not have."""
    text = card.partition("\n---\n")[2]
    return "\n".join(line for line in text.splitlines() if not line.startswith("!["))


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them."""
    in_space = os.environ.get("SPACE_ID") is not None
    help_with(HELP)
    what = open_choice(gr.Dropdown([], label="Share", info=_NOTHING, elem_id="share"))
    name = gr.Textbox("", label="Name", placeholder="my-afro")
    license = gr.Dropdown(
        [(said, key) for key, said in LICENSES.items()], value="apache-2.0", label="License"
    )
    likeness = gr.Radio(
        list(_LIKENESS.items()),
        value=None,
        label="It was made from",
        info="A look is part of a person: share one of a real person only if they agreed.",
    )
    prepare = gr.Button("Show the card", variant="primary", elem_id="prepare")
    with gr.Column(visible=False, elem_id="share-card") as ready:
        strip = gr.HTML(label="Before and after", min_height=0)
        with gr.Accordion("The card", open=False):
            card = gr.Markdown(label="The card")
        save = gr.DownloadButton("Save as zip", size="md")
        gr.HTML("<h2>On the Hub</h2>")
        private = gr.Checkbox(True, label="Only I can see it")
        if in_space:
            gr.LoginButton(size="md")
        token = gr.Textbox(
            "",
            label="Token with write access",
            info="Of your account at huggingface.co. It is used once, and neither kept nor logged.",
            type="password",
            html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
            visible=not in_space,
            elem_id="token",
        )
        send = gr.Button("Publish", size="md", elem_id="publish")
    said = gr.HTML(label="Address", min_height=0, elem_id="published")
    with gr.Row(visible=False) as back:
        which = open_choice(gr.Dropdown([], label="Published here", min_width=160))
        take_back = gr.Button("Unpublish", size="md", variant="stop", min_width=100)
    question = Question("Delete it from the Hub", "Keep it", "unpublish")

    def list_all(desk: Desk, what: str | None) -> object:
        choices = sharable(desk)
        values = [value for _, value in choices]
        new = what if what in values else next(reversed(values), None)
        return gr.Dropdown(choices, value=new, info="" if choices else _NOTHING)

    def show_card(
        desk: Desk, what: str | None, name: str, license: str, likeness: str | None
    ) -> Updates:
        with friendly():
            edit = chosen(studio, desk, what, name)
            made_ready = prepared(studio, edit, name, license, likeness)
        desk.things["prepared"] = made_ready
        return {
            ready: gr.Column(visible=True),
            strip: _shown(made_ready),
            card: _text(made_ready.card),
            save: desk.file("share", f"{made_ready.name}.zip", made_ready.data),
        }

    def send_it(desk: Desk, private: bool, token: str, login: gr.OAuthToken | None) -> Updates:
        published: dict[str, str] = desk.things.setdefault("published", {})
        with friendly():
            if (made_ready := desk.things.get("prepared")) is None:
                raise ValueError("Got no card; press “Show the card” first.")
            own = login.token if login is not None else token.strip()
            repo_id, url = publish(made_ready, own, private, set(published))
        published[repo_id] = url
        link = f'<a href="{escape(url)}" target="_blank" rel="noopener">{plain(repo_id)}</a>'
        whose = "Only you can see it." if private else "Anyone can see it."
        return {
            said: f'<p role="status">Published: {link}. {whose}</p>',
            **listed(published),
        }

    def ask(desk: Desk, which: str | None) -> tuple[str, str | None]:
        if which not in desk.things.get("published", {}):
            return "", None
        return f"Delete {which} from the Hub? What others downloaded stays with them.", which

    def delete(desk: Desk, which: str | None, token: str, login: gr.OAuthToken | None) -> Updates:
        published: dict[str, str] = desk.things.setdefault("published", {})
        with friendly():
            if which not in published:
                raise ValueError("Got no published edit; choose one from the list.")
            own = login.token if login is not None else token.strip()
            if not own:
                raise ValueError("Got no login; sign in, or give a token with write access.")
            hub.unpublish(which, own)
        del published[which]
        return {said: message(f"{which} was deleted from the Hub."), **listed(published)}

    def listed(published: dict[str, str]) -> Updates:
        ids = [*published]
        return {
            back: gr.Row(visible=bool(ids)),
            which: gr.Dropdown(ids, value=ids[-1] if ids else None),
        }

    def restore(desk: Desk) -> Updates:
        made_ready: Prepared | None = desk.things.get("prepared")
        shown: dict[object, object] = {
            what: list_all(desk, None),
            **listed(desk.things.get("published", {})),
        }
        if made_ready is not None:
            shown |= {
                ready: gr.Column(visible=True),
                strip: _shown(made_ready),
                card: _text(made_ready.card),
                save: desk.file("share", f"{made_ready.name}.zip", made_ready.data),
            }
        return shown

    desk = stage.desk
    outcome = [said, back, which]
    stage.drafts.keep("share/name", name)
    stage.follow(list_all, [desk, what], [what])
    what.focus(list_all, [desk, what], what, queue=False, **PRIVATE)
    asked = [desk, what, name, license, likeness]
    prepare.click(
        show_card,
        asked,
        [ready, strip, card, save],
        api_name="card",
        show_progress_on=[strip, said],
    )
    waiting = {"show_progress_on": said}
    # Never part of the API for programs: a token is typed in by its owner.
    for event in (
        send.click(send_it, [desk, private, token], outcome, **waiting, **PRIVATE),
        question.yes.click(delete, [desk, question.asked, token], outcome, **waiting, **PRIVATE),
    ):
        event.success(lambda: "", None, token, queue=False, **PRIVATE)
        event.failure(lambda: "", None, token, queue=False, **PRIVATE)
    question.ask_on(take_back, ask, [desk, which])
    question.hide_on(which.input)
    stage.restore(restore, [what, ready, strip, card, save, back, which])
