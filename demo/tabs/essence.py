"""Give a face, and every other, the essence of a picture.

The handlers take and return sessions, pictures and text; only `build` knows widgets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import gradio as gr
from PIL import Image

from demo.components import (
    for_screen,
    friendly,
    help_with,
    open_picture,
    plain,
    say_limit,
    shown,
    thumbnails,
)
from demo.desk import Desk
from demo.finding import Wanted, label_of_found, show_found
from demo.frames import Frame, check_room
from demo.job import Updates
from demo.stage import DRAWING, PRIVATE, Stage
from demo.visits import PHOTOGRAPH_MINUTES
from stylegan_hub.edits.stack import StackedEdit
from stylegan_hub.latents import Space
from stylegan_hub.methods.essence import Settings
from stylegan_hub.methods.method import Picture, get, method_of
from stylegan_hub.session import Session, label_of
from stylegan_hub.studio import Studio

METHODS = ("essence",)
"""The methods that this tab calls."""
CONSENT = (
    "Any picture will do: a portrait, a photograph, a drawing. Use one of a real person only if "
    f"they agree to it. What you upload is deleted {PHOTOGRAPH_MINUTES} minutes after you close "
    "this page."
)
HELP = "Give every face the look of a picture: choose a picture, then find its essence."
NO_TARGET = '<p class="note">No picture yet: click one above, or upload your own.</p>'
_TAKEN = "my picture"
KINDS = {"A portrait like these": "in_domain", "Anything else": "out_of_domain"}
# The bundled target pictures, and what they are.
TARGETS = {
    "captain-otto": "in_domain",
    "ivy": "in_domain",
    "milo": "in_domain",
    "zuri": "in_domain",
    "cat": "out_of_domain",
    "robot": "out_of_domain",
}
_TARGETS_FOLDER = Path(__file__).parents[2] / "docs" / "targets"
_MAX_LETTERS = 40


@dataclass(frozen=True)
class Target:
    """A picture as the search gets it.

    Attributes:
        name: of the picture, used in the edit's label.
    """

    picture: Image.Image
    name: str


def take(studio: Studio, path: str | Path, name: str | None = None) -> Target:
    """The target in an untrusted picture file.

    Args:
        name: of the target; None for the name of the file.

    Raises:
        ValueError: the file is not a picture, or is too large.
    """
    name = name or " ".join(Path(path).stem.replace("-", " ").replace("_", " ").split())
    return Target(studio.target(open_picture(path)), name[:_MAX_LETTERS] or "a picture")


def transfer(
    studio: Studio,
    session: Session,
    target: Target | None,
    kind: str = "in_domain",
    steps: int | None = None,
    restarts: int | None = None,
    consistency: float | None = None,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Search for the essence of the target; the pictures on the way show the session's seed first.

    Args:
        kind: of the target, see `KINDS`.
        steps, restarts, consistency: None for the usual values of this kind. With more steps, each
            step is shorter.

    Raises:
        ValueError: no target or name, invalid settings, too many edits, or a face that no essence
            can change.
    """
    if target is None:
        raise ValueError("Got no target picture; choose one, or upload your own.")
    if len(target.name) > _MAX_LETTERS:
        raise ValueError(
            f"Got a name of {len(target.name)} letters; at most {_MAX_LETTERS} are read. Shorten "
            "it."
        )
    request = Picture(target.picture, target.name)
    label = label_of_found("essence", None, target=request.name)
    others = session.without_found(label)
    others.check_takes(Space.W_PLUS, label)
    check_room(others)
    usual = usual_settings(studio, kind)
    steps = int(steps or usual.steps)
    settings = replace(
        usual,
        steps=steps,
        lr=usual.lr * min(1, usual.steps / steps),
        restarts=int(restarts or usual.restarts),
        consistency_lambda=usual.consistency_lambda if consistency is None else consistency,
        truncation_psi=session.truncation_psi,
        first_seed=session.seed,
    )
    (before,) = studio.faces([session.seed], session.truncation_psi, label=session.label)
    yield from show_found(
        studio,
        session,
        Wanted(request, "essence", True, settings, label),
        lambda _, seconds: f"Found the {label}{seconds}; move its slider.",
        lambda _: before,
        owner,
    )


def usual_settings(studio: Studio, kind: str) -> Settings:
    """The usual settings for targets of a kind, see `KINDS`."""
    method = get("essence")
    if kind == "out_of_domain":
        return method.presets[kind]
    return method.default(studio.pipe, Picture(Image.new("RGB", (1, 1))))


def newest_essence(session: Session) -> StackedEdit | None:
    """The last essence on the face, found here or in the zoo."""
    essences = [
        applied
        for applied in session.edits
        if (method := method_of(applied.edit.origin)) is not None and method.name in METHODS
    ]
    return essences[-1] if essences else None


def row(studio: Studio, session: Session, seeds: Sequence[int], strength: float) -> str:
    """HTML of other faces with the newest essence of the session; empty if there is none."""
    if (applied := newest_essence(session)) is None or not seeds:
        return ""
    label, edits = label_of(applied), [(applied.edit, strength)]
    faces = studio.faces(seeds, session.truncation_psi, edits, session.label)
    pictures = "".join(
        f"<li>{shown(face, f'Seed {seed} with {label}')}</li>"
        for seed, face in zip(seeds, faces, strict=True)
    )
    return f'<p>{plain(label)} on others</p><ul class="faces">{pictures}</ul>'


def _shown(target: Target) -> str:
    return shown(for_screen(target.picture), f"The target: {target.name}")


def build(studio: Studio, stage: Stage) -> None:
    """Build the widgets and connect them."""
    names = [name for name in TARGETS if (_TARGETS_FOLDER / f"{name}.png").is_file()]
    paths = [_TARGETS_FOLDER / f"{name}.png" for name in names]
    help_with(HELP)
    targets = thumbnails(
        "Targets to choose from", "targets", 6, list(zip(paths, names, strict=True)), bool(names)
    )
    with gr.Row(elem_id="target"):
        looked_at = gr.HTML(NO_TARGET, label="The target", elem_id="looked-at", min_height=0)
        with gr.Column(min_width=140):
            with gr.Row(elem_classes="buttons"):
                upload = gr.UploadButton(
                    "Upload a picture", size="md", file_types=["image"], min_width=110
                )
                take_shown = gr.Button(f"Take this {studio.noun}", size="md", min_width=110)
            name = gr.Textbox("", label="Name of the essence", placeholder="zuri")
            say_limit(name, _MAX_LETTERS, "letters")
    with gr.Accordion("From the camera or the clipboard", open=False):
        taken = gr.Image(
            label="A picture",
            show_label=False,
            sources=["webcam", "clipboard", "upload"],
            type="filepath",
            image_mode=None,
            height=260,
            elem_id="taken",
        )
    gr.HTML(f'<p class="note">{CONSENT}</p>')
    kind_of = gr.Radio(
        list(KINDS.items()),
        value="in_domain",
        label="The target is",
        info="With anything else, the essence takes only what faces can show without breaking.",
        elem_classes="ticks",
    )
    start = gr.Button("Find its essence", variant="primary")
    usual = usual_settings(studio, "in_domain")
    with gr.Accordion("Settings of this search", open=False):
        steps = gr.Slider(10, 300, usual.steps, step=10, label="Steps", buttons=[])
        restarts = gr.Slider(
            1,
            4,
            usual.restarts,
            step=1,
            label="Searches side by side",
            info="The best result is kept.",
            buttons=[],
        )
        consistency = gr.Slider(
            0,
            2,
            usual.consistency_lambda,
            step=0.05,
            label="Same for all faces",
            info="How much it matters that the change is the same for every face.",
            buttons=[],
        )
    others = gr.HTML(label="On others", min_height=0)
    strength = gr.Slider(-1, 2, 1, step=0.05, label="Strength on others", visible=False, buttons=[])

    def show(desk: Desk, chosen: Target | None, kind: str) -> Updates:
        desk.photographs["target"] = chosen
        if chosen is None:
            return {looked_at: NO_TARGET, name: ""}
        return {looked_at: _shown(chosen), name: chosen.name, kind_of: kind}

    def choose(desk: Desk, event: gr.SelectData) -> Updates:
        with friendly():
            chosen = take(studio, paths[event.index])
        return show(desk, chosen, TARGETS[names[event.index]])

    def receive(desk: Desk, file: str | None, name: str | None = None) -> Updates:
        desk.photographs["target"] = None  # even if the new file is refused
        with friendly():
            if file is None:
                raise ValueError("Got no picture; choose one.")
            try:
                return show(desk, take(studio, file, name), "out_of_domain")
            finally:
                Path(file).unlink(missing_ok=True)  # a copy that others might reach

    def receive_file(desk: Desk, file: str | None) -> Updates:
        return receive(desk, file)

    def refuse(desk: Desk) -> Updates:
        return show(desk, None, "")

    def restore(desk: Desk) -> Updates:
        target = desk.photographs.get("target")
        return {looked_at: _shown(target) if target else NO_TARGET}

    def receive_taken(desk: Desk, file: str | None) -> Updates:
        """A picture from the camera or the clipboard; its widget is emptied afterwards."""
        if file is None:  # the widget was emptied
            return {taken: None}
        return {taken: None, **receive(desk, file, _TAKEN)}

    def receive_shown(desk: Desk) -> Updates:
        """The current face with its edits."""
        with friendly():
            _, picture = studio.draw(desk.session)
            return show(desk, Target(studio.target(picture), f"this {studio.noun}"), "in_domain")

    def run(
        desk: Desk,
        name: str,
        kind: str,
        steps: int,
        restarts: int,
        consistency: float,
        request: gr.Request,
    ) -> Iterator[Updates]:
        target = desk.photographs.get("target")
        named = target and replace(target, name=name)
        with friendly():
            for frame in transfer(
                studio,
                desk.session,
                named,
                kind,
                steps,
                restarts,
                consistency,
                owner=desk.owner,
            ):
                yield stage.show_frame(desk, frame)

    def draw_row(desk: Desk, strength: float) -> str:
        with friendly():
            return row(studio, desk.session, desk.seeds, strength)

    def follow(desk: Desk, strength: float) -> tuple[str, gr.Slider]:
        html = draw_row(desk, strength)
        return html, gr.Slider(visible=bool(html))

    def usual_of(kind: str) -> tuple[int, int, float]:
        usual = usual_settings(studio, kind)
        return usual.steps, usual.restarts, usual.consistency_lambda

    kind_of.change(usual_of, kind_of, [steps, restarts, consistency], queue=False, **PRIVATE)
    chosen, desk = [looked_at, name, kind_of], stage.desk
    targets.select(choose, desk, chosen, **PRIVATE)
    sent = upload.upload(receive_file, [desk, upload], chosen, api_name="target")
    photographed = taken.input(receive_taken, [desk, taken], [taken, *chosen], **PRIVATE)
    for event in (sent, photographed):
        event.failure(refuse, desk, [looked_at, name], **PRIVATE)
    take_shown.click(receive_shown, desk, chosen, **PRIVATE)
    stage.restore(restore, [looked_at])
    stage.add_search(
        start,
        [start.click, name.submit],
        run,
        {
            "name": name,
            "kind": kind_of,
            "steps": steps,
            "restarts": restarts,
            "consistency": consistency,
        },
        api_name="essence",
    )
    stage.follow(follow, [desk, strength], [others, strength])
    strength.input(
        draw_row,
        [desk, strength],
        others,
        trigger_mode="always_last",
        api_name="others",
        **DRAWING,
    )
