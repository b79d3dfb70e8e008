"""Bring a photograph: show where the face is, invert it, edit it, and put it back where it was.

The handlers take and return photographs, sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo.components import (
    for_screen,
    friendly,
    heading,
    message,
    name_of,
    plain,
    recipe,
    shown,
    thumbnails,
    webp,
)
from demo.desk import Desk
from demo.finding import Wanted, show_found
from demo.frames import STOPPED, Frame, pictured, watched
from demo.job import Updates
from demo.open_choices import open_choice
from demo.stage import PRIVATE, Stage
from demo.upload import POINTS, Upload, pairs, preview_of, read, receive
from demo.visits import PHOTOGRAPH_MINUTES
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.methods.method import Words
from stylegan_hub.photos.align import Alignment, cut
from stylegan_hub.photos.comparison import Comparison, compare
from stylegan_hub.photos.finders import draws_faces, draws_photographs, undrawable_person
from stylegan_hub.photos.invert import Refinement, Tuning
from stylegan_hub.photos.likeness import Likeness, same_person
from stylegan_hub.photos.paste import Where, overlay, undrawn
from stylegan_hub.photos.paste import paste as paste_back
from stylegan_hub.photos.person import PORTRAIT, Person, invert_photo
from stylegan_hub.photos.photo import SUFFIXES, Photo
from stylegan_hub.portraits.from_photo import NOTICE, portrait_of
from stylegan_hub.search import Search
from stylegan_hub.session import Session
from stylegan_hub.steps import Step
from stylegan_hub.studio import Studio

CONSENT = (
    "Use a picture of yourself, or of a person who agrees to it, and say that it is edited when "
    "you share it. The result is a likeness, not a copy. The photo is deleted "
    f"{PHOTOGRAPH_MINUTES} minutes after you close this page."
)
WAYS = {"Only what the edits changed": "changed", "All of what was cut out": "face"}
BACK = "Back to this photo"
CALM = "a face with a neutral expression"
_NO_ENCODER = (
    "This pipeline has no encoder, the network that finds a picture's latent at once. A search "
    "from the average face still works, but takes longer and may end far from the photo. These "
    "commands train an encoder, put it into a pipeline and open that pipeline:"
)
_REFINEMENTS = (30, 100, 300)
_REFINE, _REFINE_FROM_AVERAGE = 100, 300
_MAX_TUNING = 300
_FAST = 3  # level of PNG compression; higher ones are slow and save little
# As soon as gradio shows the picture, it is a button without a label.
_NAME_PICTURE = """function nameIt() {
  const button = document.querySelector('#photo button');
  if (button) button.ariaLabel = '%s';
  else setTimeout(nameIt, 50);
}"""
_NO_PHOTO = "Got no photo; upload one."
# For handlers that hold all pixels of a photograph, which may be many.
_READING = {"concurrency_id": "photo", "concurrency_limit": 2, "show_progress": "hidden"}
# One at a time, so that quick clicks are not lost.
_PLACING = {"concurrency_id": "place", "concurrency_limit": 1, "show_progress": "hidden"}


@dataclass(frozen=True)
class Inverted:
    """A person from a photograph, on the page.

    Attributes:
        upload: the photograph.
        person: the latents, and where the face is in the photograph.
        crop: what was cut out, in the generator's size.
        own: the same, with violet where it cannot be rendered; None for a portrait.
        drawn: the generator's render of it.
        studio: renders this person: the page's own, or one with a tuned generator.
        comparison: of photo and render, by readers that learned photographs; None for drawings.
        others: faces of the same photograph that get the same edits when it is pasted back.
    """

    upload: Upload
    person: Person
    crop: Image.Image
    drawn: Image.Image
    studio: Studio
    own: Image.Image | None = None
    comparison: Comparison | None = None
    others: tuple[Inverted, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Moment(Frame):
    """The last `Frame` of an inversion, with its result."""

    inverted: Inverted


def invert(
    studio: Studio,
    upload: Upload | None,
    refine: int = _REFINE,
    tune: int = 0,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Find the latent that renders the face, and yield pictures on the way: the photo first.

    The last frame is a `Moment`, unless the search was stopped.

    Args:
        refine: steps of a search near the encoder's latent; 0 takes that latent as it is.
        tune: steps in which a copy of the generator learns the photograph.

    Raises:
        ValueError: no photo, no face in it yet; neither an encoder nor steps.
    """
    if upload is None:
        raise ValueError(_NO_PHOTO)
    photo = read(upload.path)
    refinement = Refinement(steps=int(refine)) if refine else None
    tuning = Tuning(steps=int(tune)) if tune else None
    each = [(one, one.alignment(studio.pipe, photo)) for one in upload.each]
    first = cut(photo, each[0][1], studio.pipe.generator.img_size)
    total = (int(refine) + int(tune)) * len(each)

    def work(report: Callable[[Step], None]) -> Inverted:
        done = 0

        def count(step: Step) -> None:  # refinement and tuning count for themselves
            nonlocal done
            done += 1
            report(replace(step, index=done, total=total))

        main, *others = (
            _inverted(studio, photo, one, alignment, refinement, tuning, count)
            for one, alignment in each
        )
        return replace(main, others=tuple(others))

    search: Search[Step, Inverted] = studio.search_by(owner, work)
    stopped = Frame(message(STOPPED))
    found = yield from watched(search, pictured(lambda _: first), lambda: stopped)
    if found is None:
        return
    subject = f"A portrait after {upload.name}" if found.person.is_portrait else upload.subject
    text = f"{subject} is here; your edits apply to it."
    yield Moment(message(text), (found.drawn, found.drawn), inverted=found)


def _inverted(
    studio: Studio,
    photo: Photo,
    upload: Upload,
    alignment: Alignment,
    refinement: Refinement | None,
    tuning: Tuning | None,
    on_step: Callable[[Step], None],
) -> Inverted:
    """One face of a photograph: inverted, or a portrait if the model cannot show the person."""
    crop = cut(photo, alignment, studio.pipe.generator.img_size)
    face = undrawable_person(studio.pipe, photo, alignment)
    if face is not None:
        person = portrait_of(studio.pipe, photo, alignment, face)
    else:
        person = invert_photo(studio.pipe, photo, alignment, refinement, tuning, on_step)
    drawing = Studio(person.pipeline(studio.pipe)) if person.tuned else studio
    (drawn,) = drawing.pipe(latents=person.latents).images
    own = None if face is not None else overlay(crop, undrawn(photo, alignment, drawn))
    comparison = compare(crop, drawn) if draws_photographs(studio.pipe) else None
    return Inverted(upload, person, crop, drawn, drawing, own, comparison)


def put_back(
    inverted: Inverted | None,
    session: Session,
    where: Where = "changed",
    keep_own: float = 1.0,
    detail: bool = True,
) -> tuple[str, Image.Image]:
    """A file name, and the photograph at its full size with the edited face in it.

    Args:
        where, keep_own: see `photos.paste.paste`.
        detail: give the face the details of the photograph, if the pipeline has a detailer.

    Raises:
        ValueError: no photo was inverted, the session shows another face, nothing was edited, or
            the photograph is no longer there.
    """
    if inverted is None:
        raise ValueError("Got no photo; upload one and press “Use this face”.")
    if session.latents is None:
        raise ValueError(f"The page shows seed {session.seed}, not the photo. Press “{BACK}”.")
    if inverted.person.is_portrait:
        raise ValueError(
            "This is a drawn portrait, not the person, so it is not pasted into the photo. Save "
            "the picture itself."
        )
    upload = inverted.upload
    photo = read(upload.path)
    changed = False
    for one in (inverted, *inverted.others):
        if one.person.is_portrait:
            continue
        before, _ = one.studio.draw(Session(latents=one.person.latents))
        latents = session.latents if one is inverted else one.person.latents
        _, edited = one.studio.draw(replace(session, latents=latents))
        changed = changed or before.tobytes() != edited.tobytes()
        detailer = one.studio.pipe.detailer if detail else None
        alignment = one.person.alignment
        result = paste_back(photo, alignment, edited, before, where, keep_own, detailer)
        photo = replace(photo, image=result)
    if where == "changed" and not changed:
        raise ValueError(
            "Nothing was changed yet. Apply an edit, or paste all of what was cut out."
        )
    return f"{upload.slug}-edited.png", photo.image


def neutral_first(studio: Studio, session: Session, owner: Hashable = None) -> Iterator[Frame]:
    """Find the edit that gives the face a neutral expression, so that other edits start from it.

    Raises:
        ValueError: the session shows no photo; too many edits.
    """
    if session.latents is None:
        raise ValueError(_NO_PHOTO)
    request = Words(CALM)
    method = studio.method_for(session, request, every_face=False)

    def say(found: Edit, seconds: str) -> str:
        return f"The expression is neutral now{seconds}; move its slider, or apply other edits."

    wanted = Wanted(request, method.name, label=request.text)
    yield from show_found(studio, session, wanted, say, owner=owner)


def save_person(person: Person) -> bytes:
    """The person as the bytes of the file that `stylegan-hub edit` takes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "person.safetensors"
        person.save(path)
        return path.read_bytes()


def compared(inverted: Inverted) -> str:
    """HTML of photo and render side by side, and of how similar they are."""
    likeness = inverted.person.likeness
    shown_beside = [
        (inverted.crop, "Cut out of the photo", "The photo"),
        (inverted.drawn, "As the generator renders it", "The render"),
    ]
    if inverted.own is not None:
        shown_beside.append(
            (inverted.own, "Violet where it cannot be rendered", "Kept from the photo")
        )
    pictures = "".join(
        f"<figure>{shown(for_screen(picture), alt)}<figcaption>{caption}</figcaption></figure>"
        for picture, alt, caption in shown_beside
    )
    if likeness is None:
        traits = inverted.person.settings[PORTRAIT].items()
        read = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in traits)
        return (
            f'<div class="pair">{pictures}</div><p>{plain(NOTICE)}</p>'
            f"<p>Read from the photo: {plain(read)}.</p>"
        )
    lines = "".join(
        f"<li><strong>{plain(words)}</strong> <span>{plain(number)}</span></li>"
        for words, number in in_words(inverted.studio.pipe, likeness)
    )
    if inverted.comparison is not None:
        sentences = inverted.comparison.in_words("in the photo", "in the render")
        lines += "".join(f"<li>{plain(sentence)}</li>" for sentence in sentences)
    more = "<p>The tuned generator renders it when it is pasted back and in the saved file.</p>"
    return (
        f'<div class="pair">{pictures}</div><ul class="likeness">{lines}</ul>'
        f"{more if inverted.person.tuned else ''}"
    )


def in_words(domain: Domain, likeness: Likeness) -> list[tuple[str, str]]:
    """What each number of a likeness means, and the number."""
    psnr, look, who = likeness.psnr, likeness.perceptual, likeness.identity
    lines = [
        (
            _word(psnr, {30: "Colors match closely", 20: "Colors match roughly"}, "Colors differ"),
            f"PSNR {'infinite' if math.isinf(psnr) else f'{psnr:.1f} dB'}; 20 is rough, 30 close",
        ),
        (
            _word(-look, {-0.03: "Looks the same", -0.25: "Looks similar"}, "Looks different"),
            f"perceptual distance {look:.3f}; 0 is the same",
        ),
    ]
    number = "no recognizer" if who is None else f"identity {who:.2f}; 1 is the same"
    return [*lines, (same_person(domain, who), number)]


def _word(value: float, words: dict[float, str], otherwise: str) -> str:
    return next((word for least, word in words.items() if value >= least), otherwise)


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring."""
    pipe, of_faces = studio.pipe, draws_faces(studio.pipe)
    called = "The photo; a click shows where the face is" if of_faces else "The photo"
    gr.HTML(f'<p class="note">{CONSENT}</p>')
    if pipe.encoder is None:
        name = name_of(studio)
        is_drawn = name == "portraits"
        folder = "cards/portraits" if is_drawn else name
        theirs = "" if is_drawn else f"--pipeline {name} --rendered_share 0 "
        gr.HTML(
            recipe(
                _NO_ENCODER,
                f"accelerate launch recipes/train_encoder.py {theirs}--output_dir runs/encoder",
                f"python recipes/assemble_pipeline.py --generator {folder}/generator \\",
                f"    --clip {folder} --encoder runs/encoder/encoder --output runs/with-encoder",
                "python app.py --pipeline runs/with-encoder",
            )
        )
    # Endings too: a browser may not know that some of these files are pictures.
    send = gr.UploadButton(
        "Upload a photo", size="md", variant="primary", file_types=["image", *SUFFIXES]
    )
    said = gr.HTML(label="What was found", min_height=0)
    with gr.Column(visible=False) as found:
        picture = gr.Image(
            label=called,
            show_label=False,
            elem_id="photo",
            buttons=[],
            interactive=False,
        )
        with gr.Row(visible=False) as taking_back:
            undo = gr.Button("Undo point", size="sm", min_width=80)
            clear = gr.Button("Clear points", size="sm", min_width=80)
        faces = thumbnails("Faces found", "found-faces", 4, visible=False)
        choice = open_choice(gr.Radio([], label="The face is"))
        with gr.Accordion("Points without a mouse", open=False, visible=of_faces):
            gr.HTML('<p class="note">In pixels of the photo; (0, 0) is at the top left.</p>')
            places = []
            for label in ("One eye", "Other eye", "Mouth"):
                with gr.Row():
                    places += [
                        gr.Number(label=f"{label}, {axis}", precision=1, min_width=80)
                        for axis in ("across", "down")
                    ]
            use = gr.Button("Use these points", size="md")
        has_encoder = pipe.encoder is not None
        refine = gr.Radio(
            [
                *([("At once", 0)] if has_encoder else []),
                *((f"{steps} steps", steps) for steps in _REFINEMENTS),
            ],
            value=_REFINE if has_encoder else _REFINE_FROM_AVERAGE,
            label="How closely",
            info="More steps make it more similar, and take longer.",
        )
        with gr.Accordion("Settings of this photo", open=False):
            tune = gr.Slider(
                0,
                _MAX_TUNING,
                0,
                step=10,
                label="Steps of tuning",
                info="A copy of the generator learns the photo, and renders what is pasted back.",
                buttons=[],
            )
        start = gr.Button("Use this face", variant="primary")
    result = gr.HTML(label="Photo and render", min_height=0)
    with gr.Column(visible=False) as of_the_person, gr.Row():
        back = gr.Button(BACK, size="md", min_width=100)
        calm = gr.Button("Neutral expression first", size="md", min_width=100, visible=of_faces)
        save_file = gr.DownloadButton("Save this person", size="md", min_width=100)
    with gr.Column(visible=False) as pasting:
        heading("Back into the photo")
        where = gr.Radio(list(WAYS.items()), value="changed", label="What is pasted")
        keep_own = gr.Slider(
            0,
            1,
            1,
            step=0.1,
            label="Keep what cannot be rendered",
            info="Hands, frames and hats stay as they are in the photo: the violet parts above.",
            buttons=[],
        )
        detail = gr.Checkbox(
            True,
            label="Details of the photo",
            info="Texture and light that the render lacks are taken from the photo.",
            visible=pipe.detailer is not None,
        )
        put = gr.Button("Paste back")
        pasted = gr.HTML(label="The edited photo", min_height=0, elem_id="pasted")
        save_photo = gr.DownloadButton("Save the photo", size="md", visible=False)

    def show(desk: Desk, taken: Upload | None) -> dict[gr.blocks.Block, object]:
        desk.photographs["upload"] = taken
        if taken is None:
            return {found: gr.Column(visible=False), picture: None}
        missing = [(None, None)] * (3 - len(taken.points))
        values = [at for point in (*taken.points, *missing) for at in point]
        return {
            said: message(f"{taken.note} {taken.hint}"),
            found: gr.Column(visible=True),
            picture: desk.photo_file("photo", "photo.webp", webp(taken.shown(pipe))),
            taking_back: gr.Row(visible=taken.choice == POINTS and bool(taken.points)),
            faces: gr.Gallery(
                [
                    (desk.photo_file(f"face/{number}", f"face-{number}.webp", webp(face)), label)
                    for number, (face, label) in enumerate(
                        zip(taken.thumbnails, taken.labels, strict=True), 1
                    )
                ],
                visible=bool(taken.thumbnails),
                selected_index=int(taken.choice) - 1 if taken.choice.isdecimal() else None,
            ),
            choice: gr.Radio(taken.choices, value=taken.choice, visible=len(taken.choices) > 1),
            **dict(zip(places, values, strict=True)),
        }

    def take(desk: Desk, file: str | None) -> Iterator[Updates]:
        desk.photographs["upload"] = None  # even if the new one is refused
        yield {said: message("Looking at the photo …")}
        with friendly():
            if file is None:
                raise ValueError(_NO_PHOTO)
            taken = receive(pipe, desk.take_in(file))
        yield show(desk, taken)

    def refuse(desk: Desk) -> Updates:
        again = gr.UploadButton(variant="primary")
        return {said: message("This file was not taken."), send: again, **show(desk, None)}

    def changed(desk: Desk, how: Callable[[Upload], Upload]) -> Updates:
        with friendly():
            return show(desk, how(uploaded(desk)))

    def uploaded(desk: Desk) -> Upload:
        if (taken := desk.photographs.get("upload")) is None:
            raise ValueError(_NO_PHOTO)
        return taken

    def click(desk: Desk, event: gr.SelectData) -> Updates:
        return changed(desk, lambda taken: taken.clicked(pipe, event.index))

    def point_at(desk: Desk, event: gr.SelectData) -> Updates:
        return changed(desk, lambda taken: taken.chosen(str(event.index + 1)))

    def choose(desk: Desk, choice: str) -> Updates:
        return changed(desk, lambda taken: taken.chosen(choice))

    def type_in(
        desk: Desk,
        one_eye_across: float | None,
        one_eye_down: float | None,
        other_eye_across: float | None,
        other_eye_down: float | None,
        mouth_across: float | None,
        mouth_down: float | None,
    ) -> Updates:
        eyes = (one_eye_across, one_eye_down, other_eye_across, other_eye_down)
        places = pairs((*eyes, mouth_across, mouth_down))
        return changed(desk, lambda taken: taken.with_points(*places))

    def take_back(desk: Desk) -> Updates:
        return changed(desk, lambda taken: taken.with_points(*taken.points[:-1]))

    def start_again(desk: Desk) -> Updates:
        return changed(desk, lambda taken: taken.with_points())

    def run(desk: Desk, refine: int, tune: int, request: gr.Request) -> Iterator[Updates]:
        with friendly():
            for frame in invert(studio, uploaded(desk), refine, tune, desk.owner):
                updates = stage.show_frame(desk, frame)
                if isinstance(frame, Moment):
                    put_on_desk(desk, frame.inverted)
                    updates |= show_person(desk, frame.inverted)
                yield updates

    def put_on_desk(desk: Desk, new: Inverted) -> None:
        desk.photographs["inverted"] = new
        desk.change(lambda session: replace(session, latents=new.person.latents, text=None))

    def show_person(desk: Desk, new: Inverted) -> Updates:
        name = f"{new.upload.slug}.safetensors"
        return {
            result: compared(new),
            of_the_person: gr.Column(visible=True),
            pasting: gr.Column(visible=not new.person.is_portrait),
            save_file: desk.photo_file("person", name, save_person(new.person)),
            pasted: "",
            save_photo: gr.DownloadButton(visible=False),
        }

    def restore(desk: Desk) -> Updates:
        shown = dict(show(desk, desk.photographs.get("upload")))
        if (person := desk.photographs.get("inverted")) is not None:
            shown |= show_person(desk, person)
        return shown

    def make_neutral(desk: Desk, request: gr.Request) -> Iterator[Updates]:
        with friendly():
            for frame in neutral_first(studio, desk.session, desk.owner):
                yield stage.show_frame(desk, frame)

    def go_back(desk: Desk) -> str:
        studio.stop(desk.owner)
        with friendly():
            if (back := desk.photographs.get("inverted")) is None:
                raise ValueError(_NO_PHOTO)
        put_on_desk(desk, back)
        return message(f"{back.upload.subject} is here again, with its edits.")

    def paste(desk: Desk, where: Where, keep_own: float, detail: bool) -> tuple[str, Any]:
        with friendly():
            inverted = desk.photographs.get("inverted")
            name, photo = put_back(inverted, desk.session, where, keep_own, detail)
        data = io.BytesIO()
        photo.save(data, "PNG", compress_level=_FAST)
        file = desk.photo_file("pasted", name, data.getvalue())
        picture = shown(preview_of(photo), "The edited photo")
        return picture, gr.DownloadButton(value=file, visible=True)

    desk = stage.desk
    placed = [said, found, picture, taking_back, faces, choice, *places]
    sent = send.upload(take, [desk, send], placed, api_name="photo", **_READING)
    sent.failure(refuse, desk, [said, send, found, picture], **PRIVATE)
    # From then on another button is the main one.
    sent.success(lambda: gr.UploadButton(variant="secondary"), None, send, **PRIVATE)
    sent.success(None, js=_NAME_PICTURE % called, **PRIVATE)
    picture.select(click, desk, placed, trigger_mode="multiple", **_PLACING, **PRIVATE)
    faces.select(point_at, desk, placed, **_PLACING, **PRIVATE)
    choice.input(choose, [desk, choice], placed, api_name="square", **_PLACING)
    use.click(type_in, [desk, *places], placed, api_name="points", **_PLACING)
    undo.click(take_back, desk, placed, **_PLACING, **PRIVATE)
    clear.click(start_again, desk, placed, **_PLACING, **PRIVATE)
    of_person = [result, of_the_person, pasting, save_file, pasted, save_photo]
    stage.add_search(
        start,
        [start.click],
        run,
        {"refine": refine, "tune": tune},
        api_name="invert",
        outputs=of_person,
    )
    stage.add_search(calm, [calm.click], make_neutral, {}, api_name="neutral")
    stage.restore(restore, [*placed, *of_person])
    stage.then_show(back.click(go_back, desk, stage.status, **PRIVATE))
    settings = [desk, where, keep_own, detail]
    put.click(paste, settings, [pasted, save_photo], api_name="paste", **_READING)
