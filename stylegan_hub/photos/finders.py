"""Landmark providers: who finds the faces in a photograph, and how a pipeline frames them.

Faces of people are found by the bundled networks (`people.py`). A pipeline with a landmarker (the
drawn portraits) looks for its own kind of faces as well. MediaPipe, an optional package, takes the
place of the bundled networks where its model file is named; and any function from a picture to
landmarks will do. For pipelines of houses or cars nobody looks: of their photographs the middle is
taken.
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.models.landmarker import Landmarker
from stylegan_hub.photos.align import (
    Alignment,
    Framing,
    LandmarkProvider,
    Landmarks,
    NoFaceError,
    align,
    choose,
    cropped,
    cut,
    ffhq_quad,
    find_faces,
    fitted_framing,
    middle,
)
from stylegan_hub.photos.invert import aligned, invert
from stylegan_hub.photos.likeness import likeness
from stylegan_hub.photos.people import Face, PeopleFinder, reduced
from stylegan_hub.photos.photo import Photo

MEDIAPIPE_MODEL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
"""Where the model file of `MediaPipeLandmarks` is published."""
MEDIAPIPE_VARIABLE = "STYLEGAN_HUB_FACE_LANDMARKER"
"""Environment variable that says where the model file lies."""

_MAX_FACES = 16
# Of MediaPipe's 478 points those that lie where the 68-point scheme has the eyes' and mouth's.
_LEFT_EYE = (33, 160, 158, 133, 153, 144)
_RIGHT_EYE = (362, 385, 387, 263, 373, 380)
_MOUTH = (61, 291)


def locate(
    domain: Domain,
    photo: Photo,
    face: int | None = None,
    provider: LandmarkProvider | None = None,
) -> Alignment:
    """The face of a photo, framed as the pipeline's pictures are; the middle if it draws no faces.

    Args:
        face: which one, counted from 1, the largest; the largest, with a warning if there are
            others, when None.
        provider: who looks; `finder(domain)` when None.

    Raises:
        NoFaceError: there is no face.
        ValueError: there is no such face.
    """
    if provider is None and not draws_faces(domain):
        if face is not None:
            raise ValueError(
                f"Got face {face}, and this pipeline draws no faces ({domain.neutral!r}): of a "
                "photo the middle is taken. Leave out the face."
            )
        return middle(photo.size, photo.name, domain.generator.img_size)
    faces = find_faces(photo, provider or finder(domain))
    if len(faces) > 1 and face is None:
        warnings.warn(
            f"{photo.name} shows {len(faces)} faces; the largest was taken. Choose another by its "
            f"number, {_numbers(2, len(faces))}, in the order of their sizes (--face).",
            stacklevel=2,
        )
    return align(photo, choose(faces, face or 1), framing(domain))


def draws_faces(domain: Domain) -> bool:
    """Whether faces are what a pipeline draws, so that eyes and mouth say what is cut out.

    It has a landmarker; or it draws squares, as FFHQ's are, and has a recognizer or speaks of a
    face in its own words.
    """
    if domain.landmarker is not None:
        return True
    height, width = domain.generator.img_size
    return height == width and (domain.recognizer is not None or "face" in domain.neutral.split())


def finder(domain: Domain) -> LandmarkProvider:
    """Who looks for faces.

    Where a pipeline has a landmarker, that one and `PeopleFinder`, see `OwnFacesAndPeople`; else
    MediaPipe, if STYLEGAN_HUB_FACE_LANDMARKER names its model file, or `PeopleFinder`.

    Raises:
        NoFaceError: MediaPipe is asked for and cannot be used.
    """
    if domain.landmarker is not None:
        return OwnFacesAndPeople(domain)
    if not os.environ.get(MEDIAPIPE_VARIABLE):
        return PeopleFinder()
    try:
        return MediaPipeLandmarks()
    except (ImportError, NotFoundError) as error:
        raise NoFaceError(
            f"MediaPipe is asked for by {MEDIAPIPE_VARIABLE}, and {error}",
            got=os.environ[MEDIAPIPE_VARIABLE],
            expected="the package mediapipe and its model file",
            remedy="Without this variable the bundled networks look for faces.",
        ) from error


def framing(domain: Domain) -> Framing:
    """How a pipeline's pictures are cut around landmarks: as its landmarker says, else as FFHQ."""
    square = ffhq_quad if domain.landmarker is None else fitted_framing(usual_of(domain.landmarker))
    return cropped(square, domain.generator.img_size)


def usual_of(landmarker: Landmarker) -> Landmarks:
    """Eyes and mouth in a picture of the landmarker's domain, which reaches from -1 to 1."""
    left, right, mouth = ((float(x), float(y)) for x, y in landmarker.config["usual"])
    return Landmarks(left, right, mouth)


class LearnedLandmarks:
    """Faces of a pipeline's own domain, by its landmarker."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """All faces, the surest first."""
        shown, scale = reduced(picture)
        points = self._landmarker.find(image_files.from_pil(shown))
        corner = (points + 0.5) * scale - 0.5  # a pixel's middle stays a pixel's middle
        faces = [[(x, y) for x, y in face] for face in corner.tolist()]
        return [Landmarks(left, right, mouth) for left, right, mouth in faces]


class OwnFacesAndPeople:
    """Faces that a pipeline's landmarker sees and can be drawn, and those of people beside them.

    A landmarker of drawings also sees something in most photographs. So where people are found, its
    faces count only if the pipeline draws them well at once.
    """

    def __init__(self, domain: Domain) -> None:
        assert domain.landmarker is not None
        self._domain, self._own = domain, LearnedLandmarks(domain.landmarker)

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """All faces, in no order."""
        own, people = self._own(picture), PeopleFinder()(picture)
        if not people or self._domain.encoder is None:
            return own
        photo = Photo(picture)
        drawable = [
            face
            for face in own
            if draws(self._domain, cut(photo, align(photo, face, framing(self._domain)), SEEN))
        ]
        return [*drawable, *(one for one in people if not _is_among(one, drawable))]


SEEN = 128
"""Pixels in which is judged whether a pipeline draws a picture well."""
_DRAWN_WELL = 18.0  # dB: renders reach 23 and more, photographs of people 13 at most


@torch.no_grad()
def draws(domain: Domain, picture: Image.Image) -> bool:
    """Whether an aligned picture is of the kind that a pipeline draws.

    The encoder's latent should draw it with a PSNR of 18 dB: what a domain knows comes back, what
    it does not know becomes something else.

    Raises:
        ValueError: the pipeline has no encoder, or the picture another shape.
    """
    latents = invert(domain, picture)
    images = aligned(domain, picture)
    (reached,) = likeness(domain, domain.synthesize(latents), images)
    return reached.psnr >= _DRAWN_WELL


def undrawable_person(domain: Domain, photo: Photo, alignment: Alignment) -> Face | None:
    """The person that was cut out of a photo, if the pipeline draws another kind of faces.

    None where it draws what was cut out, where it draws photographs, or where no person is seen.
    """
    if domain.landmarker is None or domain.encoder is None:
        return None
    height, width = domain.generator.img_size
    if draws(domain, cut(photo, alignment, (height, width))):
        return None
    try:
        return person_at(photo, alignment)
    except NoFaceError:
        return None


def person_at(photo: Photo, alignment: Alignment) -> Face:
    """The person that was cut out of a photo.

    Raises:
        NoFaceError: none is seen there.
    """
    center, reach = np.mean(alignment.quad, 0), max(alignment.extent) / 2
    faces = PeopleFinder().faces(photo.image)
    near = {math.dist(face.landmarks.mouth, center): face for face in faces}
    if not near or min(near) > reach:
        x, y = center
        raise NoFaceError(
            f"No person is seen around ({x:.0f}, {y:.0f}) in {photo.name}.",
            got=len(faces),
            expected="a face of a person in what is cut out",
            remedy="Choose another face, or another photo.",
        )
    return near[min(near)]


class MediaPipeLandmarks:
    """Faces of people, by Google's MediaPipe (`pip install 'stylegan-hub[photos]'`).

    Args:
        model: its file `face_landmarker.task`; by default the one that the environment variable
            STYLEGAN_HUB_FACE_LANDMARKER names, else the one in ~/.cache/stylegan-hub.

    Raises:
        ImportError: the package is not installed.
        NotFoundError: the model file is not there; it says where it is published.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        try:
            self._mediapipe = importlib.import_module("mediapipe")
        except ImportError as error:
            raise ImportError(
                "mediapipe, which finds the faces of people, is not installed: "
                "pip install 'stylegan-hub[photos]'."
            ) from error
        default = Path.home() / ".cache" / "stylegan-hub" / "face_landmarker.task"
        self._model = Path(model or os.environ.get(MEDIAPIPE_VARIABLE) or default)
        if not self._model.is_file():
            raise NotFoundError(
                f"mediapipe's model file is not at {self._model}: download {MEDIAPIPE_MODEL} to "
                f"there, or name another place in {MEDIAPIPE_VARIABLE}."
            )

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """All faces, in the order in which MediaPipe gives them.

        Raises:
            ArtifactError: the model file is damaged.
        """
        shown, scale = reduced(picture)
        tasks = self._mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            # As bytes, since its own reader of paths is not at home on every system.
            base_options=tasks.BaseOptions(model_asset_buffer=self._model.read_bytes()),
            num_faces=_MAX_FACES,
        )
        pixels = np.ascontiguousarray(np.asarray(shown))
        image = self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, pixels)
        try:
            opened = tasks.vision.FaceLandmarker.create_from_options(options)
        except RuntimeError as error:
            raise ArtifactError(
                f"mediapipe cannot read its model file {self._model} ({error}): download "
                f"{MEDIAPIPE_MODEL} again."
            ) from error
        with opened as landmarker:
            faces = landmarker.detect(image).face_landmarks
        width, height = shown.size

        def middle(face: Sequence[object], indices: Sequence[int]) -> tuple[float, float]:
            points = [(getattr(face[i], "x"), getattr(face[i], "y")) for i in indices]  # noqa: B009
            x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
            return x * width * scale - 0.5, y * height * scale - 0.5

        found = []
        for face in faces:
            left, right, mouth = (middle(face, i) for i in (_LEFT_EYE, _RIGHT_EYE, _MOUTH))
            try:
                found.append(Landmarks(left, right, mouth))
            except ValueError:  # so far in profile that eyes and mouth lie on a line
                continue
        return found


def _is_among(face: Landmarks, others: Sequence[Landmarks]) -> bool:
    """Whether one of the others is in the same place."""
    return any(math.dist(face.mouth, o.mouth) < max(face.size, o.size) / 2 for o in others)


def _numbers(first: int, last: int) -> str:
    return str(first) if first == last else f"{first} to {last}"
