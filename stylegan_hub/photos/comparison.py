"""What readers that are independent of CLIP say about two pictures of one face.

An edit that was found with CLIP looks successful to CLIP. Expression and age are read here by
networks that took no part in the search, and so is the distance of the people if the judge of
identity was fetched:

    compared = compare(before, after)   # two aligned pictures of a face
    compared.in_words()   # "Expression: neutral (0.71) before, happy (0.93) after. Age: ..."

They learned photographs of people, so they are asked only where a pipeline renders photographs.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from stylegan_hub.errors import NotFoundError
from stylegan_hub.models.face_judge import USUAL_THRESHOLD
from stylegan_hub.photos.people import Face, FaceReading, PeopleFinder, judged_distance, read_face


@dataclass(frozen=True)
class Comparison:
    """Two pictures of a face, as the readers see them.

    Attributes:
        first, second: expression and age in each picture; None if no face was found in it.
        distance: between the people, 0 for the same picture; None if the judge of identity has not
            been fetched, or a face was not found.
    """

    first: FaceReading | None
    second: FaceReading | None
    distance: float | None

    def in_words(self, first: str = "before", second: str = "after") -> list[str]:
        """Sentences for a user; none if neither picture shows a face.

        Args:
            first, second: what the two pictures are called.
        """
        one, two = self.first, self.second
        if one is None and two is None:
            return []
        if one is None or two is None:
            missing = first if one is None else second
            return [f"Expression and age were not compared: no face was found {missing}."]
        lines = [
            f"Expression: {_expression(one)} {first}, {_expression(two)} {second}. "
            f"Age: {one.age:.0f} years {first}, {two.age:.0f} {second}. "
            "Both were read by networks that took no part in the search."
        ]
        if self.distance is not None:
            lines.append(
                f"Distance between the people: {self.distance:.2f}. Below {USUAL_THRESHOLD:g} is "
                "usually taken for the same person; this threshold was not calibrated here."
            )
        return lines


def compare(first: Image.Image, second: Image.Image) -> Comparison:
    """Compare the largest faces of two upright RGB pictures, in which a face is upright."""
    finder = PeopleFinder()
    faces = [next(iter(finder.upright_faces(picture)), None) for picture in (first, second)]
    one, two = (
        None if face is None else read_face(picture, face)
        for picture, face in zip((first, second), faces, strict=True)
    )
    return Comparison(one, two, _distance(first, second, *faces))


def _distance(
    first: Image.Image, second: Image.Image, one: Face | None, two: Face | None
) -> float | None:
    if one is None or two is None:
        return None
    try:
        return judged_distance(first, second, (one, two))
    except NotFoundError:
        return None


def _expression(reading: FaceReading) -> str:
    return f"{reading.expression} ({reading.expressions[reading.expression]:.2f})"
