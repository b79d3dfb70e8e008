"""Bring a photograph: show where the face is, invert it, edit it, and put it back where it was.

The handlers take and return photographs, sessions and text; only `build` knows widgets.
"""

from __future__ import annotations

import io
import math
import re
import tempfile
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image, ImageDraw, ImageFont

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
from demo.stage import PRIVATE, Desk, Frame, Stage, watched
from stylegan_hub.edits.latent_optimization import Cancelled
from stylegan_hub.errors import NotFoundError
from stylegan_hub.photos.align import (
    Alignment,
    Landmarks,
    NoFaceError,
    Point,
    Quad,
    align,
    cut,
    find_faces,
    whole,
)
from stylegan_hub.photos.finders import finder, framing
from stylegan_hub.photos.invert import Refinement, Step, Tuning
from stylegan_hub.photos.likeness import Likeness
from stylegan_hub.photos.paste import Where
from stylegan_hub.photos.paste import paste as paste_back
from stylegan_hub.photos.person import Person, invert_photo
from stylegan_hub.photos.photo import SUFFIXES, Photo, read_photo
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Search, Session, Studio

CONSENT = (
    "Bring a picture of yourself, or of somebody who agrees to it, and say that it is edited when "
    "you share it. What comes out is a likeness, not a copy. What you upload is deleted within "
    "hours."
)
POINTS, WHOLE = "points", "whole"
WAYS = {"Only what the edits changed": "changed", "The whole face": "face"}
BACK = "Back to this face"
_NO_ENCODER = (
    "This pipeline has no encoder, the network that names a face's latent at once. A search from "
    "the average face works still: it takes longer, and may end at somebody else. To train one, "
    "put it into a pipeline and open that:"
)
_CLICKS = (
    "Click the middle of one eye",
    "Click the middle of the other eye",
    "Click the middle of the mouth",
)
_REFINEMENTS = (30, 100, 300)
_REFINE, _REFINE_FROM_AVERAGE = 100, 300
_MAX_TUNING = 300
_LONGEST, _SHORTEST = 1024, 512  # of the photograph's longer side on the page
_CHOSEN, _OTHER, _DARK = "#8b5cf6", "#fafafa", "#1c1917"
_LETTER = 20
_FAST = 3  # PNG's compression; more takes long for little
_PICTURE = "The photo; a click shows where the face is"
# gradio makes the picture a button without words, as soon as it is shown.
_NAME_PICTURE = f"""function nameIt() {{
  const button = document.querySelector('#photo button');
  if (button) button.ariaLabel = '{_PICTURE}';
  else setTimeout(nameIt, 50);
}}"""
_NO_PHOTO = "Got no photo; upload one."
# What reads and holds all pixels of a photograph, which may be many.
_READING = {"concurrency_id": "photo", "concurrency_limit": 2, "show_progress": "hidden"}
# One after the other, so that none of quick clicks is lost.
_PLACING = {"concurrency_id": "place", "concurrency_limit": 1, "show_progress": "hidden"}

Updates = dict[gr.blocks.Block, object]


@dataclass(frozen=True)
class Upload:
    """A photograph and where its face is.

    Not the pixels, of which there may be too many to hold for everybody; positions are in pixels
    of the upright photograph.

    Attributes:
        path: where the page keeps the file.
        size: width and height.
        preview: what the page shows of it.
        note: what is to be said of it, for people to read.
        faces: that were found, the largest first.
        choice: which square is the face: the number of one of the faces, from "1"; that of the
            points; or the whole picture.
        points: clicks: both eyes in any order, and the mouth; up to three.
    """

    path: Path
    size: tuple[int, int]
    preview: Image.Image
    note: str
    faces: tuple[Landmarks, ...] = ()
    choice: str = POINTS
    points: tuple[Point, ...] = ()

    @property
    def name(self) -> str:
        """Of the file, without folders."""
        return self.path.name

    @property
    def slug(self) -> str:
        """The name, without its ending, in letters that every file system takes."""
        return re.sub(r"[^a-z0-9]+", "-", self.path.stem.lower()).strip("-")[:60] or "photo"

    @property
    def choices(self) -> list[tuple[str, str]]:
        """What the face may be: words and `choice`."""
        several = len(self.faces) > 1
        labels = [f"Face {n}" if several else "The face found" for n, _ in enumerate(self.faces, 1)]
        if several:
            labels[0] += ", the largest"
        found = [(label, str(n)) for n, label in enumerate(labels, 1)]
        square = self.size[0] == self.size[1]
        aligned = [("The whole picture: an aligned portrait", WHOLE)] if square else []
        return [*found, ("Where I click: eyes and mouth", POINTS), *aligned]

    @property
    def landmarks(self) -> Landmarks | None:
        """Of the chosen face; None for the whole picture, or before there are three points."""
        if self.choice == POINTS:
            return Landmarks.from_clicks(*self.points) if len(self.points) == 3 else None
        return None if self.choice == WHOLE else self.faces[int(self.choice) - 1]

    @property
    def hint(self) -> str:
        """What to do next."""
        if self.choice == WHOLE:
            return "The whole picture is the face. Press Invert."
        if self.choice != POINTS:
            return "The violet square is what is cut out. Press Invert, or choose another one."
        if (count := len(self.points)) < 3:
            return f"{_CLICKS[count]} in the photo."
        return "The violet square is what is cut out. Press Invert, or click to move a point."

    def chosen(self, choice: str) -> Upload:
        """With another square.

        Raises:
            ValueError: there is no such square.
        """
        if choice not in (values := [value for _, value in self.choices]):
            raise ValueError(f"Got the face {choice!r}; choose one of {', '.join(values)}.")
        return replace(self, choice=choice)

    def with_points(self, *points: Point) -> Upload:
        """With these clicks, whose square then is the face.

        Raises:
            ValueError: a point outside of the photo, or three on a line.
        """
        width, height = self.size
        for x, y in points:
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise ValueError(
                    f"Got the point ({x:g}, {y:g}), which is outside of {self.name}; it has "
                    f"{width} x {height} pixels, and (0, 0) is at the top left."
                )
        moved = replace(self, choice=POINTS, points=points)
        _ = moved.landmarks  # three on a line are refused here, and those before stay
        return moved

    def clicked(self, pipe: StyleEditPipeline, index: tuple[float, float]) -> Upload:
        """After a click on the preview: into a square, which is taken then, or one more point.

        A fourth point takes the place of the one that is nearest to it.

        Raises:
            ValueError: see `with_points`.
        """
        x, y = ((at + 0.5) / scale - 0.5 for at, scale in zip(index, self._scale, strict=True))
        if self.choice != POINTS:
            squares = self.squares(pipe)
            smallest_first = [str(number) for number in range(len(self.faces), 0, -1)]
            inside = (choice for choice in smallest_first if _is_in((x, y), squares[choice]))
            if (choice := next(inside, None)) is not None:
                return self.chosen(choice)
        points = [*self.points]
        if len(points) == 3:
            nearest = min(range(3), key=lambda i: math.dist(points[i], (x, y)))
            points[nearest] = (x, y)
        else:
            points.append((x, y))
        return self.with_points(*points)

    def squares(self, pipe: StyleEditPipeline) -> dict[str, Quad]:
        """By their `choice`, all that can be shown now."""
        frame = framing(pipe)
        known = {str(number): frame(face) for number, face in enumerate(self.faces, 1)}
        if self.choice == POINTS and self.landmarks is not None:
            known[POINTS] = frame(self.landmarks)
        if self.choice == WHOLE:
            right, bottom = self.size[0] - 1.0, self.size[1] - 1.0
            known[WHOLE] = ((0, 0), (0, bottom), (right, bottom), (right, 0))
        return known

    def shown(self, pipe: StyleEditPipeline) -> Image.Image:
        """The preview with squares and points, the chosen square in violet."""
        picture = self.preview.copy()
        pen = ImageDraw.Draw(picture)
        font = ImageFont.load_default(_LETTER)

        def on_preview(point: Point) -> Point:
            x, y = ((at + 0.5) * scale for at, scale in zip(point, self._scale, strict=True))
            return x, y

        squares = self.squares(pipe)
        # The chosen one last, so that nothing lies over it.
        for choice, quad in sorted(squares.items(), key=lambda item: item[0] == self.choice):
            corners = [on_preview(corner) for corner in (*quad, quad[0])]
            is_chosen = choice == self.choice
            pen.line(corners, _DARK, 7 if is_chosen else 5, "curve")
            pen.line(corners, _CHOSEN if is_chosen else _OTHER, 5 if is_chosen else 3, "curve")
            if len(self.faces) > 1 and choice.isdecimal():
                _label(pen, corners[0], choice, font, _CHOSEN if is_chosen else _DARK)
        if self.choice == POINTS:
            for number, point in enumerate(self.points, 1):
                _label(pen, on_preview(point), str(number), font, _CHOSEN)
        return picture

    def alignment(self, pipe: StyleEditPipeline, photo: Photo) -> Alignment:
        """The chosen square of the photo.

        Raises:
            ValueError: there are no three points yet, or their square lies outside of the photo.
        """
        if self.choice == WHOLE:
            return whole(photo.size, photo.name)
        if self.landmarks is None:
            raise ValueError(
                f"Got {len(self.points)} of the three points that show where the face is. "
                f"{_CLICKS[len(self.points)]}."
            )
        return align(photo, self.landmarks, framing(pipe))

    @property
    def _scale(self) -> tuple[float, float]:
        """Pixels of the preview for each of the photograph."""
        (width, height), shown = self.size, self.preview.size
        return shown[0] / width, shown[1] / height


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


@dataclass(frozen=True)
class Moment(Frame):
    """A `Frame` of an inversion; who was found, in the last one."""

    inverted: Inverted | None = None


def receive(pipe: StyleEditPipeline, path: str | Path) -> Upload:
    """The photograph in a file that anybody may have made, and the faces in it.

    Raises:
        ValueError: no picture, a damaged one, too many pixels, or too few.
    """
    path = Path(path)
    photo = _read(path)
    upload = Upload(path, photo.size, _preview(photo.image), "")
    notes, choice, faces = [*photo.notes], "1", []
    try:
        provider = finder(pipe)
    except NoFaceError:  # its words are for the command line
        choice = WHOLE if photo.size[0] == photo.size[1] else POINTS
        notes.append(
            "Nothing that could find a face is installed here, so "
            + ("the whole picture was taken." if choice == WHOLE else "show where it is.")
        )
    else:
        try:
            faces = find_faces(photo, provider)
            count = f"{len(faces)} faces" if len(faces) > 1 else "a face"
            notes.append(f"Found {count} in {photo.name}.")
        except NoFaceError:
            choice = POINTS
            notes.append(f"Found no face in {photo.name}; show where it is.")
    return replace(upload, note=" ".join(notes), faces=tuple(faces), choice=choice)


def invert(
    studio: Studio,
    upload: Upload | None,
    refine: int = _REFINE,
    tune: int = 0,
    owner: Hashable = None,
) -> Iterator[Moment]:
    """Find the latent that draws the face, with pictures on the way: the photo's first.

    Args:
        refine: steps of the search near to the encoder's latent; 0 takes that one as it is.
        tune: steps in which a copy of the generator learns the photograph.

    Raises:
        ValueError: no photo, no face in it yet; neither an encoder nor steps.
    """
    if upload is None:
        raise ValueError(_NO_PHOTO)
    started = time.monotonic()
    photo = _read(upload.path)
    alignment = upload.alignment(studio.pipe, photo)
    crop = cut(photo, alignment, studio.pipe.generator.config.img_resolution)
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

    search: Search[Step, Inverted] = studio.search_by(owner, max(total, 1), work)
    with search:
        yield from (
            Moment(frame.status, frame.pictures)
            for frame in watched(search, started, lambda _: crop)
        )
        try:
            found = search.result()
        except Cancelled:
            yield Moment(message("Stopped; nothing was changed."))
            return
    text = f"The face of {upload.name} is here{after(started)}; edits go on it."
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
        raise ValueError("Got no face of a photo; upload one and press Invert.")
    if session.latents is None:
        raise ValueError(
            f"The face on the page is that of seed {session.seed}, not the photo's. Press “{BACK}”."
        )
    before, _ = inverted.studio.draw(Session(latents=inverted.person.latents))
    _, edited = inverted.studio.draw(session)
    if where == "changed" and before.tobytes() == edited.tobytes():
        raise ValueError(
            "Nothing was changed on the face yet. Put an edit on it, or paste the whole face."
        )
    upload = inverted.upload
    photo = paste_back(_read(upload.path), inverted.person.alignment, edited, before, where)
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
            (inverted.crop, "The face, cut out of the photo", "The photo"),
            (inverted.drawn, "The face, as the generator draws it", "The drawing"),
        )
    )
    lines = "".join(
        f"<li><strong>{plain(words)}</strong> <span>{plain(number)}</span></li>"
        for words, number in in_words(likeness)
    )
    more = "<p>The tuned generator draws the face when it is pasted back, and in the file.</p>"
    return (
        f'<div class="pair">{pictures}</div><ul class="likeness">{lines}</ul>'
        f"{more if inverted.person.tuned else ''}"
    )


def pairs(places: Sequence[float | None]) -> list[Point]:
    """Three points of x, y, x, y, x, y.

    Raises:
        ValueError: numbers are missing.
    """
    numbers = [at for at in places if at is not None]
    if len(numbers) != 6:
        raise ValueError(
            f"Got {len(numbers)} of six numbers; give both eyes and the mouth, across and down."
        )
    return [*zip(numbers[::2], numbers[1::2], strict=True)]


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


def _read(path: Path) -> Photo:
    try:
        return read_photo(path)
    except NotFoundError as error:
        raise ValueError(
            f"{path.name} is no longer here: uploads are deleted within hours. Upload it again."
        ) from error
    except (ValueError, OSError) as error:  # where it lies here says nothing to who sent it
        raise ValueError(str(error).replace(str(path), path.name)) from error


def _preview(image: Image.Image) -> Image.Image:
    """A copy whose longer side is neither too long for a page nor too short to click on."""
    longer = max(image.size)
    scale = min(max(longer, _SHORTEST), _LONGEST) / longer
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _is_in(point: Point, quad: Quad) -> bool:
    """Whether a point lies in a square, which may be turned."""
    corner, bottom, _, right = (complex(*at) for at in quad)
    place = (complex(*point) - corner) / (right - corner)
    below = ((bottom - corner) / (right - corner)).imag
    return 0 <= place.real <= 1 and 0 <= place.imag / below <= 1


def _label(
    pen: ImageDraw.ImageDraw,
    middle: Point,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    color: str,
) -> None:
    """A number in a circle."""
    (x, y), radius = middle, 0.7 * _LETTER
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color, _OTHER, 2)
    pen.text(middle, text, _OTHER, font, "mm")


def build(studio: Studio, stage: Stage) -> None:
    """The widgets and their wiring."""
    pipe = studio.pipe
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
            label=_PICTURE,
            show_label=False,
            elem_id="photo",
            buttons=[],
            interactive=False,
        )
        with gr.Row(visible=False) as taking_back:
            undo = gr.Button("Undo point", size="sm", min_width=80)
            clear = gr.Button("Clear points", size="sm", min_width=80)
        choice = gr.Radio([], label="The face is")
        with gr.Accordion("Points without a mouse", open=False):
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
            info="More steps draw the face more alike, and take longer.",
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
        yield {said: message("Looking for the face …")}
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
                if (new := moment.inverted) is not None:
                    updates |= show_person(desk, new)
                yield updates

    def show_person(desk: Desk, new: Inverted) -> Updates:
        desk.change(lambda session: session.with_latents(new.person.latents))
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
        desk.change(lambda session: session.with_latents(somebody.person.latents))
        return message(f"The face of {somebody.upload.name} is here again; edits stay on it.")

    def paste(desk: Desk, somebody: Inverted | None, where: Where) -> tuple[str, Any]:
        with friendly():
            name, photo = put_back(somebody, desk.session, where)
        data = io.BytesIO()
        photo.save(data, "PNG", compress_level=_FAST)
        file = to_save(save_photo, data.getvalue(), name)
        picture = shown(_preview(photo), "The photo with the edited face")
        return picture, gr.DownloadButton(value=file, visible=True)

    placed = [upload, said, found, picture, taking_back, choice, *places]
    sent = send.upload(take, send, placed, api_name="photo", **_READING)
    sent.failure(lambda: message("This file was not taken."), None, said, **PRIVATE)
    sent.success(None, js=_NAME_PICTURE, **PRIVATE)
    picture.select(click, upload, placed, trigger_mode="multiple", **_PLACING, **PRIVATE)
    choice.input(choose, [upload, choice], placed, api_name="square", **_PLACING)
    use.click(type_in, [upload, *places], placed, api_name="points", **_PLACING)
    undo.click(take_back, upload, placed, **_PLACING, **PRIVATE)
    clear.click(start_again, upload, placed, **_PLACING, **PRIVATE)
    stage.add_search(
        start,
        [start.click],
        run,
        [upload, refine, tune],
        api_name="invert",
        outputs=[inverted, result, somebody, save_file, pasted, save_photo],
    )
    stage.then_show(back.click(go_back, [stage.desk, inverted], stage.status, **PRIVATE))
    put.click(
        paste, [stage.desk, inverted, where], [pasted, save_photo], api_name="paste", **_READING
    )
