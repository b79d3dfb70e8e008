"""A photograph that a visitor uploaded, and the part of it that is cut out.

It knows no widget: clicks come in as positions on the preview, and squares are drawn on it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from stylegan_hub.errors import NotFoundError
from stylegan_hub.photos.align import (
    Alignment,
    Landmarks,
    NoFaceError,
    Point,
    Quad,
    Shape,
    align,
    cut,
    find_faces,
    middle,
)
from stylegan_hub.photos.finders import draws_faces, finder, framing, undrawable_person
from stylegan_hub.photos.photo import Photo, read_photo
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.from_photo import NOTICE

POINTS, WHOLE, EVERYONE = "points", "whole", "everyone"
_THUMBNAIL = 160  # pixels
_CLICKS = (
    "Click the middle of one eye",
    "Click the middle of the other eye",
    "Click the middle of the mouth",
)
_GO = "Press “Use this face”"
_LONGEST, _SHORTEST = 1024, 512  # pixels, of the preview's longer side
_CHOSEN, _OTHER, _DARK = "#8b5cf6", "#fafafa", "#1c1917"
_LETTER = 20


@dataclass(frozen=True)
class Upload:
    """A photograph and where its face is; its middle, if the pipeline's pictures show no faces.

    It does not hold the pixels, which would take too much memory for many visitors; positions are
    in pixels of the upright photograph.

    Attributes:
        path: of the photograph's file.
        size: width and height.
        preview: a small copy for the page.
        note: a message to the visitor.
        shape: of the pictures that the generator renders.
        of_faces: whether these show faces.
        faces: the faces found, the largest first.
        thumbnails: a cutout of each face.
        choice: which square is cut out: the number of one of the faces, from "1"; all of them; the
            square of the points; or the whole picture, as far as its shape fits.
        points: up to three clicks: both eyes in any order, and the mouth.
    """

    path: Path
    size: tuple[int, int]
    preview: Image.Image
    note: str
    shape: Shape
    of_faces: bool = True
    faces: tuple[Landmarks, ...] = ()
    thumbnails: tuple[Image.Image, ...] = ()
    choice: str = POINTS
    points: tuple[Point, ...] = ()

    @property
    def name(self) -> str:
        """The file's name without folders."""
        return self.path.name

    @property
    def slug(self) -> str:
        """The name without its suffix, in characters that every file system accepts."""
        return re.sub(r"[^a-z0-9]+", "-", self.path.stem.lower()).strip("-")[:60] or "photo"

    @property
    def subject(self) -> str:
        """What is edited, for messages."""
        return f"The face of {self.name}" if self.of_faces else f"The middle of {self.name}"

    @property
    def choices(self) -> list[tuple[str, str]]:
        """The squares to choose from: a label and a `choice` each."""
        if not self.of_faces:
            return [("The middle of the picture", WHOLE)]
        several = len(self.faces) > 1
        labels = [f"Face {n}" if several else "The face found" for n, _ in enumerate(self.faces, 1)]
        if several:
            labels[0] += ", the largest"
        found = [(label, str(n)) for n, label in enumerate(labels, 1)]
        found += [("All of them", EVERYONE)] if several else []
        fits = middle(self.size, shape=self.shape).is_whole
        aligned = [("The whole picture: an aligned portrait", WHOLE)] if fits else []
        return [*found, ("Where I click: eyes and mouth", POINTS), *aligned]

    @property
    def landmarks(self) -> Landmarks | None:
        """Of the chosen face; None for the whole picture, or if there are fewer than three points.

        If all faces are chosen, those of the largest.
        """
        if self.choice == POINTS:
            return Landmarks.from_clicks(*self.points) if len(self.points) == 3 else None
        if self.choice == EVERYONE:
            return self.faces[0]
        return None if self.choice == WHOLE else self.faces[int(self.choice) - 1]

    @property
    def labels(self) -> list[str]:
        """The label of each thumbnail: its number, and the finder's confidence."""
        return [
            f"{number}" + ("" if face.score is None else f" ({face.score:.0%})")
            for number, face in enumerate(self.faces, 1)
        ]

    @property
    def each(self) -> list[Upload]:
        """One upload for each of the chosen faces: all of them, or this one."""
        if self.choice != EVERYONE:
            return [self]
        return [replace(self, choice=str(number)) for number, _ in enumerate(self.faces, 1)]

    @property
    def hint(self) -> str:
        """What to do next."""
        if not self.of_faces:
            return f"The part in the violet frame is cut out. {_GO}."
        if self.choice == WHOLE:
            return f"The whole picture is the face. {_GO}."
        if self.choice == EVERYONE:
            return f"All {len(self.faces)} faces get the same edit. {_GO}, or choose one."
        if self.choice != POINTS:
            return f"The violet square is cut out. {_GO}, or choose another one."
        if (count := len(self.points)) < 3:
            return f"{_CLICKS[count]} in the photo."
        return f"The violet square is cut out. {_GO}, or click to move a point."

    def chosen(self, choice: str) -> Upload:
        """A copy with another square chosen.

        Raises:
            ValueError: there is no such square.
        """
        if choice not in (values := [value for _, value in self.choices]):
            raise ValueError(f"Got the face {choice!r}; choose one of {', '.join(values)}.")
        return replace(self, choice=choice)

    def with_points(self, *points: Point) -> Upload:
        """A copy with these points, whose square is then chosen.

        Raises:
            ValueError: a point outside the photo, or three on a line.
        """
        width, height = self.size
        for x, y in points:
            if not (-0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5):
                raise ValueError(
                    f"Got the point ({x:g}, {y:g}), which is outside {self.name}; it has "
                    f"{width} x {height} pixels, and (0, 0) is at the top left."
                )
        moved = replace(self, choice=POINTS, points=points)
        _ = moved.landmarks  # raises here for three on a line, so the old ones stay
        return moved

    def clicked(self, pipe: StyleEditPipeline, index: tuple[float, float]) -> Upload:
        """A copy after a click on the preview: into a square, which is then chosen, or a new point.

        A fourth point replaces the nearest of the three. If the pipeline renders no faces, a click
        changes nothing.

        Raises:
            ValueError: see `with_points`.
        """
        if not self.of_faces:
            return self
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
        """All squares that can be shown now, by `choice`."""
        frame = framing(pipe)
        known = {str(number): frame(face) for number, face in enumerate(self.faces, 1)}
        if self.choice == POINTS and self.landmarks is not None:
            known[POINTS] = frame(self.landmarks)
        if self.choice == WHOLE:
            known[WHOLE] = middle(self.size, shape=self.shape).quad
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
        # The chosen one last, so that nothing covers it.
        for choice, quad in sorted(squares.items(), key=lambda item: item[0] == self.choice):
            corners = [on_preview(corner) for corner in (*quad, quad[0])]
            is_chosen = self.choice in (choice, EVERYONE)
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
            ValueError: fewer than three points, or their square lies outside the photo.
        """
        if self.choice == WHOLE:
            return middle(photo.size, photo.name, self.shape)
        if self.landmarks is None:
            raise ValueError(
                f"Got {len(self.points)} of the three points that show where the face is. "
                f"{_CLICKS[len(self.points)]}."
            )
        return align(photo, self.landmarks, framing(pipe))

    @property
    def _scale(self) -> tuple[float, float]:
        """Pixels of the preview per pixel of the photograph."""
        (width, height), shown = self.size, self.preview.size
        return shown[0] / width, shown[1] / height


def receive(pipe: StyleEditPipeline, path: str | Path) -> Upload:
    """The photograph in an untrusted file, and the faces in it.

    Raises:
        ValueError: the file is not a picture, is damaged, or has too many or too few pixels.
    """
    path = Path(path)
    photo = read(path)
    of_faces = draws_faces(pipe)
    upload = Upload(
        path, photo.size, preview_of(photo.image), "", pipe.generator.img_size, of_faces
    )
    notes, choice, faces = [*photo.notes], "1", []
    thumbnails: list[Image.Image] = []
    if not of_faces:
        notes.append(f"This pipeline renders no faces ({pipe.neutral}), so the middle is used.")
        return replace(upload, note=" ".join(notes), choice=WHOLE)
    try:
        faces = find_faces(photo, finder(pipe))
        count = f"{len(faces)} faces" if len(faces) > 1 else "a face"
        notes.append(f"Found {count} in {photo.name}.")
        alignments = [align(photo, face, framing(pipe)) for face in faces]
        thumbnails = [cut(photo, one, _thumbnail_size(pipe)) for one in alignments]
        if undrawable_person(pipe, photo, alignments[0]) is not None:
            notes.append(NOTICE)
    except NoFaceError:
        choice = POINTS
        notes.append(f"Found no face in {photo.name}; show where it is.")
    return replace(
        upload,
        note=" ".join(notes),
        faces=tuple(faces),
        thumbnails=tuple(thumbnails),
        choice=choice,
    )


def _thumbnail_size(pipe: StyleEditPipeline) -> tuple[int, int]:
    height, width = pipe.generator.img_size
    scale = _THUMBNAIL / max(height, width)
    return round(scale * height), round(scale * width)


def pairs(places: Sequence[float | None]) -> list[Point]:
    """Three points from x, y, x, y, x, y.

    Raises:
        ValueError: a number is missing.
    """
    numbers = [at for at in places if at is not None]
    if len(numbers) != 6:
        raise ValueError(
            f"Got {len(numbers)} of six numbers; give both eyes and the mouth, across and down."
        )
    return [*zip(numbers[::2], numbers[1::2], strict=True)]


def read(path: Path) -> Photo:
    """The photograph in a file; errors do not name its folder on this server.

    Raises:
        ValueError: see `receive`.
    """
    try:
        return read_photo(path)
    except NotFoundError as error:
        raise ValueError(
            f"{path.name} is no longer here: uploads are deleted within hours. Upload it again."
        ) from error
    except (ValueError, OSError) as error:  # without the file's folder on this server
        raise ValueError(str(error).replace(str(path), path.name)) from error


def preview_of(image: Image.Image) -> Image.Image:
    """A copy whose longer side is neither too long for a page nor too short to click on."""
    longer = max(image.size)
    scale = min(max(longer, _SHORTEST), _LONGEST) / longer
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _is_in(point: Point, quad: Quad) -> bool:
    """Whether a point lies in a square, which may be rotated."""
    corner, bottom, _, right = (complex(*at) for at in quad)
    place = (complex(*point) - corner) / (right - corner)
    below = ((bottom - corner) / (right - corner)).imag
    return 0 <= place.real <= 1 and 0 <= place.imag / below <= 1


def _label(
    pen: ImageDraw.ImageDraw,
    at: Point,
    text: str,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    color: str,
) -> None:
    """A number in a circle."""
    (x, y), radius = at, 0.7 * _LETTER
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), color, _OTHER, 2)
    pen.text(at, text, _OTHER, font, "mm")
