"""Two pictures of a face, compared by readers that took no part in a search."""

from __future__ import annotations

import pytest
import skimage.data
from PIL import Image, ImageEnhance

from stylegan_hub.errors import NotFoundError
from stylegan_hub.models.landmarker import Landmarker
from stylegan_hub.photos import comparison
from stylegan_hub.photos.comparison import Comparison, compare
from stylegan_hub.photos.finders import draws_photographs
from stylegan_hub.photos.people import FaceReading
from stylegan_hub.pipeline import StyleEditPipeline

SERIOUS = FaceReading({"neutral": 0.8, "happy": 0.2}, 41.0)
SMILING = FaceReading({"neutral": 0.1, "happy": 0.9}, 38.6)


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return Image.fromarray(skimage.data.astronaut()).crop((100, 0, 356, 256))


def test_a_photograph_and_its_darker_copy(
    astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_fetched(*arguments: object) -> float:
        raise NotFoundError("There is no judge.")

    darker = ImageEnhance.Brightness(astronaut).enhance(0.8)
    monkeypatch.setattr(comparison, "judged_distance", not_fetched)
    found = compare(astronaut, darker)
    assert found.first is not None and found.second is not None and found.distance is None
    assert found.first.expression == found.second.expression == "happy"
    assert abs(found.first.age - found.second.age) < 10
    monkeypatch.setattr(comparison, "judged_distance", lambda *arguments: 0.25)
    assert compare(astronaut, darker).distance == 0.25
    empty = compare(astronaut, Image.new("RGB", (64, 64)))
    assert empty.first is not None and empty.second is None and empty.distance is None


def test_what_a_user_is_told() -> None:
    (line,) = Comparison(SERIOUS, SMILING, None).in_words()
    assert "neutral (0.80) before, happy (0.90) after" in line and "41 years before, 39" in line
    _, distance = Comparison(SERIOUS, SMILING, 0.4321).in_words("in the photo", "in the render")
    assert "0.43" in distance and "0.6" in distance and "not calibrated" in distance
    (missing,) = Comparison(SERIOUS, None, None).in_words()
    assert missing.endswith("no face was found after.")
    assert Comparison(None, None, None).in_words() == []


def test_whose_pictures_are_photographs(tiny_pipeline: StyleEditPipeline) -> None:
    assert draws_photographs(tiny_pipeline)
    landmarker = Landmarker(input_size=32, widths=(8, 8, 8))
    own_faces = StyleEditPipeline(**tiny_pipeline.components | {"landmarker": landmarker})
    assert not draws_photographs(own_faces)
