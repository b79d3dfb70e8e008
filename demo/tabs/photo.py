"""Bring a photograph: show where the face is, invert it, edit it, and put it back where it was.

The handlers take and return photographs, sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import io
import math
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo.components import (
    after,
    for_screen,
    friendly,
    heading,
    message,
    plain,
    recipe,
    shown,
    to_save,
)
from demo.stage import PRIVATE, STOPPED, Desk, Frame, Stage, pictured, watched
from demo.upload import POINTS, Upload, pairs, preview_of, read, receive
from stylegan_hub.photos.align import cut
from stylegan_hub.photos.finders import draws_faces
from stylegan_hub.photos.invert import Refinement, Tuning
from stylegan_hub.photos.likeness import Likeness
from stylegan_hub.photos.paste import Where
from stylegan_hub.photos.paste import paste as paste_back
from stylegan_hub.photos.person import Person, invert_photo
from stylegan_hub.photos.photo import SUFFIXES
from stylegan_hub.search import Search
from stylegan_hub.session import Session
from stylegan_hub.steps import Step
from stylegan_hub.studio import Studio

CONSENT = (
    "Bring a picture of yourself, or of somebody who agrees to it, and say that it is edited when "
    "you share it. What comes out is a likeness, not a copy. What you upload is deleted within "
    "hours."
)
WAYS = {"Only what the edits changed": "changed", "All of what was cut out": "face"}
BACK = "Back to this photo"
_NO_ENCODER = (
    "This pipeline has no encoder, the network that names a picture's latent at once. A search "
    "from the average works still: it takes longer, and may end far from the photo. To train one, "
    "put it into a pipeline and open that:"
)
_REFINEMENTS = (30, 100, 300)
_REFINE, _REFINE_FROM_AVERAGE = 100, 300
_MAX_TUNING = 300
_FAST = 3  # PNG's compression; more takes long for little
# gradio makes the picture a button without words, as soon as it is shown.
_NAME_PICTURE = """function nameIt() {
  const button = document.querySelector('#photo button');
  if (button) button.ariaLabel = '%s';
  else setTimeout(nameIt, 50);
}"""
_NO_PHOTO = "Got no photo; upload one."
# What reads and holds all pixels of a photograph, which may be many.
_READING = {"concurrency_id": "photo", "concurrency_limit": 2, "show_progress": "hidden"}
# One after the other, so that none of quick clicks is lost.
_PLACING = {"concurrency_id": "place", "concurrency_limit": 1, "show_progress": "hidden"}

Updates = dict[gr.blocks.Block, object]


@dataclass(frozen=True)
class Inverted:
    """Somebody on the page, from a photograph.

    Attributes:
        upload: the photograph.
        person: who.
        crop: what was cut out, in the generator's size.
        drawn: what the generator draws of it.
        studio: draws this person: that of the page, or one with a tuned generator.
    """

    upload: Upload
    person: Person
    crop: Image.Image
    drawn: Image.Image
    studio: Studio


@dataclass(frozen=True, kw_only=True)
class Moment(Frame):
    """The last `Frame` of an inversion: who was found."""

    inverted: Inverted


def invert(
    studio: Studio,
    upload: Upload | None,
    refine: int = _REFINE,
    tune: int = 0,
    owner: Hashable = None,
) -> Iterator[Frame]:
    """Find the latent that draws the face, with pictures on the way: the photo's first.

    The last frame is a `Moment`, unless it was stopped.

    Args:
        refine: steps of the search near to the encoder's latent; 0 takes that one as it is.
        tune: steps in which a copy of the generator learns the photograph.

    Raises:
        ValueError: no photo, no face in it yet; neither an encoder nor steps.
    """
    if upload is None:
        raise ValueError(_NO_PHOTO)
    started = time.monotonic()
    photo = read(upload.path)
    alignment = upload.alignment(studio.pipe, photo)
    crop = cut(photo, alignment, studio.pipe.generator.img_size)
    refinement = Refinement(steps=int(refine)) if refine else None
    tuning = Tuning(steps=int(tune)) if tune else None
    total = int(refine) + int(tune)

    def work(report: Callable[[Step], None]) -> Inverted:
        done = 0

        def count(step: Step) -> None:  # refinement and tuning count for themselves
            nonlocal done
            done += 1
            report(replace(step, index=done, total=total))

        person = invert_photo(studio.pipe, photo, alignment, refinement, tuning, count)
        own = Studio(person.pipeline(studio.pipe)) if person.tuned else studio
        (drawn,) = own.pipe(latents=person.latents).images
        return Inverted(upload, person, crop, drawn, own)

    search: Search[Step, Inverted] = studio.search_by(owner, work)
    stopped = Frame(message(STOPPED))
    found = yield from watched(search, pictured(started, lambda _: crop), lambda: stopped)
    if found is None:
        return
    text = f"{upload.subject} is here{after(started)}; edits go on it."
    yield Moment(message(text), (found.drawn, found.drawn), inverted=found)


def put_back(
    inverted: Inverted | None, session: Session, where: Where = "changed"
) -> tuple[str, Image.Image]:
    """The photograph with the face as edited in it, as large as it came; a name for it first.

    Raises:
        ValueError: nobody was inverted, the session shows somebody else, nothing was edited; the
            photograph is no longer there.
    """
    if inverted is None:
        raise ValueError("Got no photo; upload one and press Invert.")
    if session.latents is None:
        raise ValueError(f"The page shows seed {session.seed}, not the photo. Press “{BACK}”.")
    before, _ = inverted.studio.draw(Session(latents=inverted.person.latents))
    _, edited = inverted.studio.draw(session)
    if where == "changed" and before.tobytes() == edited.tobytes():
        raise ValueError(
            "Nothing was changed yet. Put an edit on it, or paste all of what was cut out."
        )
    upload = inverted.upload
    photo = paste_back(read(upload.path), inverted.person.alignment, edited, before, where)
    return f"{upload.slug}-edited.png", photo


def save_person(person: Person) -> bytes:
    """The person as the bytes of the file that `stylegan-hub edit` takes."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "person.safetensors"
        person.save(path)
        return path.read_bytes()


def compared(inverted: Inverted) -> str:
    """HTML of photo and drawing side by side, and of how alike they are."""
    likeness = inverted.person.likeness
    assert likeness is not None  # invert_photo measures it
    pictures = "".join(
        f"<figure>{shown(for_screen(picture), alt)}<figcaption>{caption}</figcaption></figure>"
        for picture, alt, caption in (
            (inverted.crop, "Cut out of the photo", "The photo"),
            (inverted.drawn, "As the generator draws it", "The drawing"),
        )
    )
    lines = "".join(
        f"<li><strong>{plain(words)}</strong> <span>{plain(number)}</span></li>"
        for words, number in in_words(likeness)
    )
    more = "<p>The tuned generator draws it when it is pasted back, and in the file.</p>"
    return (
        f'<div class="pair">{pictures}</div><ul class="likeness">{lines}</ul>'
        f"{more if inverted.person.tuned else ''}"
    )


def in_words(likeness: Likeness) -> list[tuple[str, str]]:
    """What each number of a likeness says, and the number."""
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
    if who is None:
        return [*lines, ("Nobody says whether it is the same person", "no recognizer")]
    same = _word(who, {0.6: "The same person", 0.3: "Perhaps the same person"}, "Somebody else")
    return [*lines, (f"{same}, says the recognizer", f"identity {who:.2f}; 1 is the same")]


def _word(value: float, words: dict[float, str], otherwise: str) -> str:
    return next((word for least, word in words.items() if value >= least), otherwise)


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring."""
    pipe, of_faces = studio.pipe, draws_faces(studio.pipe)
    called = "The photo; a click shows where the face is" if of_faces else "The photo"
    gr.HTML(f'<p class="note">{CONSENT}</p>')
    if pipe.encoder is None:
        name = pipe.name or "portraits"
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
    upload = gr.State(None)
    inverted = gr.State(None)
    # Endings too, since a browser may not know of some that they are pictures.
    send = gr.UploadButton("Upload a photo", size="md", file_types=["image", *SUFFIXES])
    said = gr.HTML(min_height=0)
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
        choice = gr.Radio([], label="The face is")
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
            label="Refine",
            info="More steps draw it more alike, and take longer.",
        )
        with gr.Accordion("Settings of the inversion", open=False):
            tune = gr.Slider(
                0,
                _MAX_TUNING,
                0,
                step=10,
                label="Steps of tuning",
                info="A copy of the generator learns the photo, and draws what is pasted back.",
                buttons=[],
            )
        start = gr.Button("Invert", variant="primary")
    result = gr.HTML(min_height=0)
    with gr.Column(visible=False) as somebody:
        with gr.Row():
            back = gr.Button(BACK, size="md", min_width=100)
            save_file = gr.DownloadButton("Save this person", size="md", min_width=100)
        heading("Back into the photo")
        where = gr.Radio(list(WAYS.items()), value="changed", label="What is pasted")
        put = gr.Button("Paste back", variant="primary")
        pasted = gr.HTML(min_height=0, elem_id="pasted")
        save_photo = gr.DownloadButton("Save the photo", size="md", visible=False)

    def show(taken: Upload) -> Updates:
        missing = [(None, None)] * (3 - len(taken.points))
        values = [at for point in (*taken.points, *missing) for at in point]
        return {
            upload: taken,
            said: message(f"{taken.note} {taken.hint}"),
            found: gr.Column(visible=True),
            picture: taken.shown(pipe),
            taking_back: gr.Row(visible=taken.choice == POINTS and bool(taken.points)),
            choice: gr.Radio(taken.choices, value=taken.choice, visible=len(taken.choices) > 1),
            **dict(zip(places, values, strict=True)),
        }

    def take(file: str | None) -> Iterator[Updates]:
        yield {said: message("Looking at the photo …")}
        with friendly():
            if file is None:
                raise ValueError(_NO_PHOTO)
            taken = receive(pipe, file)
        yield show(taken)

    def changed(taken: Upload | None, how: Callable[[Upload], Upload]) -> Updates:
        with friendly():
            if taken is None:
                raise ValueError(_NO_PHOTO)
            return show(how(taken))

    def click(taken: Upload, event: gr.SelectData) -> Updates:
        return changed(taken, lambda taken: taken.clicked(pipe, event.index))

    def choose(taken: Upload | None, choice: str) -> Updates:
        return changed(taken, lambda taken: taken.chosen(choice))

    def type_in(taken: Upload | None, *places: float | None) -> Updates:
        return changed(taken, lambda taken: taken.with_points(*pairs(places)))

    def take_back(taken: Upload) -> Updates:
        return changed(taken, lambda taken: taken.with_points(*taken.points[:-1]))

    def start_again(taken: Upload) -> Updates:
        return changed(taken, lambda taken: taken.with_points())

    def run(
        desk: Desk, taken: Upload | None, refine: int, tune: int, request: gr.Request
    ) -> Iterator[Updates]:
        with friendly():
            for moment in invert(studio, taken, refine, tune, request.session_hash):
                pictures, status = stage.show_frame(desk, moment)
                updates: Updates = {stage.pictures: pictures, stage.status: status}
                if isinstance(moment, Moment):
                    updates |= show_person(desk, moment.inverted)
                yield updates

    def show_person(desk: Desk, new: Inverted) -> Updates:
        desk.change(lambda session: replace(session, latents=new.person.latents))
        name = f"{new.upload.slug}.safetensors"
        return {
            inverted: new,
            result: compared(new),
            somebody: gr.Column(visible=True),
            save_file: to_save(save_file, save_person(new.person), name),
            pasted: "",
            save_photo: gr.DownloadButton(visible=False),
        }

    def go_back(desk: Desk, somebody: Inverted, request: gr.Request) -> str:
        studio.stop(request.session_hash)
        desk.change(lambda session: replace(session, latents=somebody.person.latents))
        return message(f"{somebody.upload.subject} is here again; edits stay on it.")

    def paste(desk: Desk, somebody: Inverted | None, where: Where) -> tuple[str, Any]:
        with friendly():
            name, photo = put_back(somebody, desk.session, where)
        data = io.BytesIO()
        photo.save(data, "PNG", compress_level=_FAST)
        file = to_save(save_photo, data.getvalue(), name)
        picture = shown(preview_of(photo), "The photo with what was edited")
        return picture, gr.DownloadButton(value=file, visible=True)

    placed = [upload, said, found, picture, taking_back, choice, *places]
    sent = send.upload(take, send, placed, api_name="photo", **_READING)
    sent.failure(lambda: message("This file was not taken."), None, said, **PRIVATE)
    sent.success(None, js=_NAME_PICTURE % called, **PRIVATE)
    picture.select(click, upload, placed, trigger_mode="multiple", **_PLACING, **PRIVATE)
    choice.input(choose, [upload, choice], placed, api_name="square", **_PLACING)
    use.click(type_in, [upload, *places], placed, api_name="points", **_PLACING)
    undo.click(take_back, upload, placed, **_PLACING, **PRIVATE)
    clear.click(start_again, upload, placed, **_PLACING, **PRIVATE)
    stage.add_search(
        start,
        [start.click],
        run,
        {"taken": upload, "refine": refine, "tune": tune},
        api_name="invert",
        outputs=[inverted, result, somebody, save_file, pasted, save_photo],
    )
    stage.then_show(back.click(go_back, [stage.desk, inverted], stage.status, **PRIVATE))
    put.click(
        paste, [stage.desk, inverted, where], [pasted, save_photo], api_name="paste", **_READING
    )
