"""What is measured about a slider, on sliders whose behavior is known."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from stylegan_hub.edits.base import Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.metrics import slider
from stylegan_hub.metrics.edit_success import edit_report, reports_by_group
from stylegan_hub.metrics.slider import slider_report
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES
from stylegan_hub.portraits.reader import Reading


class Brightness:
    """A reader for which brighter pictures wear a hat, and a critic that dislikes bright ones."""

    def __init__(self, start: Tensor) -> None:
        self.start = start.mean((1, 2, 3))

    def read(self, images: Tensor) -> Reading:
        yes = ((images.mean((1, 2, 3)) - self.start) * 10).clamp(0, 1)
        probabilities = {"hat": torch.stack([1 - yes, yes], 1)}
        labels = {name: p.argmax(1) for name, p in probabilities.items()}
        return Reading({"hat": ("no", "yes")}, probabilities, labels)

    def score(self, images: Tensor) -> Tensor:
        return self.start - images.mean((1, 2, 3))


def test_a_steady_slider(tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, base = tiny_pipeline, tiny_pipeline.base_model
    faces = pipe.sample(range(3))
    edit = Direction(torch.zeros(base.num_ws, base.w_dim), "w_plus", base, Strength(1, -1, 2))
    start = pipe.synthesize(faces).clamp(-0.5, 0.5)

    def drawn(fall: bool = False) -> None:
        """From now on, pictures grow brighter with strength, or darker at the end."""
        amounts = iter(torch.linspace(0, 0.2, slider.STRENGTHS).tolist())

        def synthesize(*_: object) -> Tensor:
            amount = next(amounts)
            return start + (amount if not fall or amount < 0.1 else 0.2 - amount)

        monkeypatch.setattr(type(pipe), "synthesize", synthesize)

    reader, target = Brightness(start), {"hat": "yes"}
    unedited = torch.linspace(-0.15, 0, 100)  # clean until pictures are brighter by 0.1425
    drawn()
    steady = slider_report(pipe, edit, faces, reader, target, reader, unedited)  # type: ignore[arg-type]
    assert steady.monotone == 1 and steady.smoothness == pytest.approx(1, abs=1e-3)
    assert steady.useful == pytest.approx((0.5, 1.4), abs=0.11)
    drawn(fall=True)
    falling = slider_report(pipe, edit, faces, reader, target)  # type: ignore[arg-type]
    assert falling.monotone is not None and 0.4 < falling.monotone < 0.7
    assert falling.useful is None  # no critic judges what is clean
    drawn()
    alone = slider_report(pipe, edit, faces)
    assert alone.monotone is None and alone.useful is None


def test_all_in_one_step_is_not_smooth(tiny_pipeline: StyleEditPipeline) -> None:
    base = tiny_pipeline.base_model
    vector = torch.randn(base.num_ws, base.w_dim) * 0.1
    report = slider_report(
        tiny_pipeline, Direction(vector, "w_plus", base), tiny_pipeline.sample(range(2))
    )
    assert 0.05 < report.smoothness <= 1


def reading(labels: Mapping[str, list[int]]) -> Reading:
    every = {name: torch.zeros(6, dtype=torch.int64) for name in ATTRIBUTES}
    every |= {name: torch.tensor(values) for name, values in labels.items()}
    probabilities = {
        name: torch.nn.functional.one_hot(values, len(ATTRIBUTES[name])).float()
        for name, values in every.items()
    }
    return Reading(ATTRIBUTES, probabilities, every)


def test_success_by_group() -> None:
    skins = [0, 0, 0, 1, 1, 2]
    before = reading({"skin": skins, "hat": [0, 0, 0, 0, 0, 1]})
    after = reading({"skin": skins, "hat": [1, 1, 0, 1, 0, 1]})
    groups = reports_by_group(before, after, {"hat": "yes"}, "skin")
    names = ATTRIBUTES["skin"]
    assert set(groups) == {names[0], names[1]}  # every face had the third one already
    assert groups[names[0]].success == pytest.approx(2 / 3) and groups[names[0]].count == 3
    assert groups[names[1]].success == 0.5
    whole = edit_report(before, after, {"hat": "yes"})
    assert whole.count == sum(group.count for group in groups.values())
    assert reports_by_group(before, after, {"skin": names[0]}, "skin") == {}
