"""Landmark providers: what finds the faces in a photograph, and how a pipeline frames them.

The bundled networks (`people.py`) find human faces. A pipeline with a landmarker (the drawn
portraits) looks for its own kind of faces as well. MediaPipe, an optional package, replaces the
bundled networks if its model file is named. Any function from a picture to landmarks can be used
too. Pipelines of houses or cars need no finder: the middle of their photographs is taken.
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
from stylegan_hub.cache import cache_folder
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
"""Environment variable with the path of the model file."""

_MAX_FACES = 16
# The MediaPipe points (of 478) that match the eye and mouth points of the 68-point scheme.
_LEFT_EYE = (33, 160, 158, 133, 153, 144)
_RIGHT_EYE = (362, 385, 387, 263, 373, 380)
_MOUTH = (61, 291)


def locate(
    domain: Domain,
    photo: Photo,
    face: int | None = None,
    provider: LandmarkProvider | None = None,
) -> Alignment:
    """The face in a photo, framed like the pipeline's pictures.

    If the pipeline does not render faces, this is the middle of the photo.

    Args:
        face: which one, counted from 1, which is the largest. None takes the largest, with a
            warning if there are others.
        provider: what looks for faces; `finder(domain)` if None.

    Raises:
        NoFaceError: there is no face.
        ValueError: there is no such face.
    """
    if provider is None and not draws_faces(domain):
        if face is not None:
            raise ValueError(
                f"Got face {face}, but this pipeline does not render faces ({domain.neutral!r}); "
                "it takes the middle of a photo. Leave out the face."
            )
        return middle(photo.size, photo.name, domain.generator.img_size)
    faces = find_faces(photo, provider or finder(domain))
    if len(faces) > 1 and face is None:
        warnings.warn(
            f"{photo.name} shows {len(faces)} faces; the largest was taken. {_other(len(faces))}",
            stacklevel=2,
        )
    return align(photo, choose(faces, face or 1), framing(domain))


def draws_faces(domain: Domain) -> bool:
    """Whether a pipeline renders faces, so that eyes and mouth decide what is cut out.

    This is true if it has a landmarker; or if its pictures are square, like FFHQ's, and it has a
    recognizer or the word "face" in its neutral text.
    """
    if domain.landmarker is not None:
        return True
    height, width = domain.generator.img_size
    return height == width and (domain.recognizer is not None or "face" in domain.neutral.split())


def draws_photographs(domain: Domain) -> bool:
    """Whether a pipeline renders photographs of people; one with a landmarker has its own faces."""
    return draws_faces(domain) and domain.landmarker is None


def finder(domain: Domain) -> LandmarkProvider:
    """The landmark provider for a pipeline.

    If the pipeline has a landmarker, this is the landmarker with `PeopleFinder`, see
    `OwnFacesAndPeople`. Otherwise it is MediaPipe if STYLEGAN_HUB_FACE_LANDMARKER names its model
    file, else `PeopleFinder`.

    Raises:
        NoFaceError: MediaPipe is requested but cannot be used.
    """
    if domain.landmarker is not None:
        return OwnFacesAndPeople(domain)
    if not os.environ.get(MEDIAPIPE_VARIABLE):
        return PeopleFinder()
    try:
        return MediaPipeLandmarks()
    except (ImportError, NotFoundError) as error:
        raise NoFaceError(
            f"{MEDIAPIPE_VARIABLE} asks for MediaPipe, but {error}",
            got=os.environ[MEDIAPIPE_VARIABLE],
            expected="the package mediapipe and its model file",
            remedy="Or unset this variable; the bundled networks then look for faces.",
        ) from error


def framing(domain: Domain) -> Framing:
    """How a pipeline's pictures are cut around landmarks: by its landmarker, else as in FFHQ."""
    square = ffhq_quad if domain.landmarker is None else fitted_framing(usual_of(domain.landmarker))
    return cropped(square, domain.generator.img_size)


def usual_of(landmarker: Landmarker) -> Landmarks:
    """The usual place of eyes and mouth in the landmarker's domain, in pictures from -1 to 1."""
    left, right, mouth = ((float(x), float(y)) for x, y in landmarker.config["usual"])
    return Landmarks(left, right, mouth)


class LearnedLandmarks:
    """Finds faces of a pipeline's own domain with its landmarker."""

    def __init__(self, landmarker: Landmarker) -> None:
        self._landmarker = landmarker

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """All faces, the most certain first."""
        shown, scale = reduced(picture)
        points = self._landmarker.find(image_files.from_pil(shown))
        corner = (points + 0.5) * scale - 0.5  # the middle of a pixel stays the middle of a pixel
        faces = [[(x, y) for x, y in face] for face in corner.tolist()]
        return [Landmarks(left, right, mouth) for left, right, mouth in faces]


class OwnFacesAndPeople:
    """Finds faces of a pipeline's own domain that it can render, and human faces beside them.

    A landmarker for drawings also finds something in most photographs. So if human faces are found,
    the landmarker's faces count only if the pipeline renders them well from the encoder's latent.
    """

    def __init__(self, domain: Domain) -> None:
        assert domain.landmarker is not None
        self._domain, self._own = domain, LearnedLandmarks(domain.landmarker)

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """All faces, in any order."""
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
"""Resolution, in pixels, at which `draws` judges whether a pipeline renders a picture well."""
_DRAWN_WELL = 18.0  # dB: renders reach 21 or more, photographs of people at most 13


@torch.no_grad()
def draws(domain: Domain, picture: Image.Image) -> bool:
    """Whether an aligned picture is of the kind that a pipeline renders.

    The encoder's latent must render it with a PSNR of at least 18 dB: a picture from the domain is
    reproduced, any other picture becomes something else.

    Raises:
        ValueError: the pipeline has no encoder, or the picture has another shape.
    """
    latents = invert(domain, picture)
    images = aligned(domain, picture)
    (reached,) = likeness(domain, domain.synthesize(latents), images)
    return reached.psnr >= _DRAWN_WELL


def undrawable_person(domain: Domain, photo: Photo, alignment: Alignment) -> Face | None:
    """The human face that was cut out of a photo, if the pipeline renders another kind of face.

    None if the pipeline can render what was cut out, if it renders photographs, or if no human face
    is found.
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
    """The human face that was cut out of a photo.

    Raises:
        NoFaceError: no human face is found there.
    """
    center, reach = np.mean(alignment.quad, 0), max(alignment.extent) / 2
    faces = PeopleFinder().faces(photo.image)
    near = {math.dist(face.landmarks.mouth, center): face for face in faces}
    if not near or min(near) > reach:
        x, y = center
        raise NoFaceError(
            f"No human face was found around ({x:.0f}, {y:.0f}) in {photo.name}.",
            got=len(faces),
            expected="a human face in the part that is cut out",
            remedy="Choose another face, or another photo.",
        )
    return near[min(near)]


class MediaPipeLandmarks:
    """Finds human faces with Google's MediaPipe (`pip install 'stylegan-hub[photos]'`).

    Args:
        model: the file `face_landmarker.task`. If None, the file that the environment variable
            STYLEGAN_HUB_FACE_LANDMARKER names, else the one in `cache.cache_folder`.

    Raises:
        ImportError: the package is not installed.
        NotFoundError: the model file is missing; the message says where it is published.
    """

    def __init__(self, model: str | Path | None = None) -> None:
        try:
            self._mediapipe = importlib.import_module("mediapipe")
        except ImportError as error:
            raise ImportError(
                "mediapipe, which finds human faces, is not installed. Install it with "
                "pip install 'stylegan-hub[photos]'."
            ) from error
        default = cache_folder() / "face_landmarker.task"
        self._model = Path(model or os.environ.get(MEDIAPIPE_VARIABLE) or default)
        if not self._model.is_file():
            raise NotFoundError(
                f"mediapipe's model file is not at {self._model}. Download {MEDIAPIPE_MODEL} to "
                f"that path, or set {MEDIAPIPE_VARIABLE} to another path."
            )

    def __call__(self, picture: Image.Image) -> list[Landmarks]:
        """All faces, in MediaPipe's order.

        Raises:
            ArtifactError: the model file is damaged.
        """
        shown, scale = reduced(picture)
        tasks = self._mediapipe.tasks
        options = tasks.vision.FaceLandmarkerOptions(
            # As bytes, because MediaPipe's own reading of paths does not work on every system.
            base_options=tasks.BaseOptions(model_asset_buffer=self._model.read_bytes()),
            num_faces=_MAX_FACES,
        )
        pixels = np.ascontiguousarray(np.asarray(shown))
        image = self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, pixels)
        try:
            opened = tasks.vision.FaceLandmarker.create_from_options(options)
        except RuntimeError as error:
            raise ArtifactError(
                f"mediapipe cannot read its model file {self._model} ({error}). Download "
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
            except ValueError:  # a face so far in profile that eyes and mouth lie on a line
                continue
        return found


def _is_among(face: Landmarks, others: Sequence[Landmarks]) -> bool:
    """Whether one of the others is in the same place."""
    return any(math.dist(face.mouth, o.mouth) < max(face.size, o.size) / 2 for o in others)


def _other(count: int) -> str:
    """How to choose another one than the largest of two or more faces."""
    if count == 2:
        return "To choose the smaller one, give --face 2."
    return f"To choose another, give --face with a number from 2 to {count}, the smallest."
