"""Landmark providers: who finds the faces in a photograph, and how a pipeline frames them.

A pipeline with a landmarker (the drawn portraits) finds its own kind of faces. For photographs of
people there is MediaPipe, an optional package whose model file is downloaded once; and any function
from a picture to landmarks will do in its place. For pipelines of houses or cars nobody looks: of
their photographs the middle is taken.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
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
    ffhq_quad,
    find_faces,
    fitted_framing,
    middle,
    whole,
)
from stylegan_hub.photos.photo import Photo

MEDIAPIPE_MODEL = (
    "https://storage.googleapis.com/mediapipe-models/face_landmarker/face_landmarker/float16/1/"
    "face_landmarker.task"
)
"""Where the model file of `MediaPipeLandmarks` is published."""
MEDIAPIPE_VARIABLE = "STYLEGAN_HUB_FACE_LANDMARKER"
"""Environment variable that says where the model file lies."""

_MAX_FACES = 16
_LONGEST = 1280  # faces of a few pixels in a hundred megapixels are nobody's portrait
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
        provider: who looks; `finder(domain)` when None. If there is nobody, a square picture is
            taken for an aligned one, with a warning.

    Raises:
        NoFaceError: no face, or nobody who could look for one.
        ValueError: there is no such face.
    """
    if provider is None and not draws_faces(domain):
        if face is not None:
            raise ValueError(
                f"Got face {face}, and this pipeline draws no faces ({domain.neutral!r}): of a "
                "photo the middle is taken. Leave out the face."
            )
        return middle(photo.size, photo.name, domain.generator.img_size)
    try:
        provider = provider or finder(domain)
    except NoFaceError as error:
        if photo.size[0] != photo.size[1]:
            raise
        warnings.warn(
            f"{photo.name} is a square and is taken for an aligned face as it is. {error}",
            stacklevel=2,
        )
        return whole(photo.size, photo.name)
    faces = find_faces(photo, provider)
    if len(faces) > 1 and face is None:
        warnings.warn(
            f"{photo.name} shows {len(faces)} faces; the largest was taken. Choose another by its "
            f"number, 2 to {len(faces)}, in the order of their sizes (--face).",
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
    """Who looks for the faces that a pipeline can draw.

    Its own landmarker if it has one, else MediaPipe.

    Raises:
        NoFaceError: it has none and MediaPipe cannot be used; it says what to do.
    """
    if domain.landmarker is not None:
        return LearnedLandmarks(domain.landmarker)
    try:
        return MediaPipeLandmarks()
    except (ImportError, NotFoundError) as error:
        raise NoFaceError(
            f"Nobody can look for faces: this pipeline has no landmarker of its own, and {error} "
            "Or show where the face is: the middles of both eyes and of the mouth as three points "
            "(--points on the command line, three clicks on the page), or say that the whole "
            "picture is the aligned face (--aligned)."
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
        shown, scale = _reduced(picture)
        points = self._landmarker.find(image_files.from_pil(shown))
        corner = (points + 0.5) * scale - 0.5  # a pixel's middle stays a pixel's middle
        return [Landmarks(*((x, y) for x, y in face)) for face in corner.tolist()]


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
        shown, scale = _reduced(picture)
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
            points = [middle(face, indices) for indices in (_LEFT_EYE, _RIGHT_EYE, _MOUTH)]
            try:
                found.append(Landmarks(*points))
            except ValueError:  # so far in profile that eyes and mouth lie on a line
                continue
        return found


def _reduced(picture: Image.Image) -> tuple[Image.Image, float]:
    """A copy of at most `_LONGEST` pixels, and how many times larger the picture is."""
    scale = max(1.0, max(picture.size) / _LONGEST)
    if scale == 1.0:
        return picture, 1.0
    width, height = (max(1, round(side / scale)) for side in picture.size)
    copy = picture.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return copy, picture.width / width
