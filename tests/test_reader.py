"""The attribute reader: shapes, any resolution, saving, and what counts in loss and accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylegan_hub.metrics.balanced_accuracy import balanced_accuracy
from stylegan_hub.portraits.attributes import ATTRIBUTES, label_index, sample
from stylegan_hub.portraits.reader import (
    AttributeReader,
    Reading,
    class_weights,
    reading_loss,
)


def small_reader(**changes: object) -> AttributeReader:
    torch.manual_seed(0)
    settings: dict[str, object] = dict(
        resolution=32, channels=(8, 16, 16), blocks=(1, 1, 1), last_channels=4, hidden_size=16
    )
    return AttributeReader(**{**settings, **changes}).eval()


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    return small_reader()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(5, 3, 48, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_reading_has_every_attribute(reader: AttributeReader, images: Tensor) -> None:
    reading = reader.read(images)
    assert len(reading) == 5
    assert set(reading.labels) == set(reading.probabilities) == set(ATTRIBUTES)
    for name, values in ATTRIBUTES.items():
        probabilities = reading.probabilities[name]
        assert probabilities.shape == (5, len(values))
        assert torch.allclose(probabilities.sum(1), torch.ones(5), atol=1e-5)
        assert torch.equal(reading.labels[name], probabilities.argmax(1))
        assert torch.equal(reading.probability(name, values[1]), probabilities[:, 1])
    assert reading.words(2)["hat"] == ATTRIBUTES["hat"][int(reading.labels["hat"][2])]


@pytest.mark.parametrize("size", [16, 32, 64, 150])
def test_any_resolution(reader: AttributeReader, size: int) -> None:
    assert len(reader.read(torch.zeros(1, 3, size, size))) == 1


def test_resolution_hardly_matters(reader: AttributeReader) -> None:
    ramp = torch.linspace(-1, 1, 128).expand(1, 3, 128, 128)
    large, small = (reader(x)["skin"] for x in (ramp, torch.nn.functional.avg_pool2d(ramp, 2)))
    assert torch.allclose(large, small, atol=0.02)


def test_batches_do_not_matter(reader: AttributeReader, images: Tensor) -> None:
    whole, parts = reader.read(images), reader.read(images, batch_size=2)
    for name in ATTRIBUTES:
        assert torch.allclose(whole.probabilities[name], parts.probabilities[name], atol=1e-5)


def test_saved_and_loaded(reader: AttributeReader, images: Tensor, tmp_path: Path) -> None:
    reader.save_pretrained(tmp_path)
    loaded = AttributeReader.from_pretrained(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert loaded.attributes == reader.attributes
    for name, values in reader.read(images).probabilities.items():
        assert torch.equal(values, loaded.read(images).probabilities[name])


def test_the_attributes_are_saved_with_it(tmp_path: Path) -> None:
    small_reader(attributes={"mood": ("good", "bad")}).save_pretrained(tmp_path)
    loaded = AttributeReader.from_pretrained(tmp_path)
    assert loaded.attributes == {"mood": ("good", "bad")}
    assert loaded.read(torch.zeros(1, 3, 32, 32)).words(0)["mood"] in ("good", "bad")


def test_default_size() -> None:
    assert AttributeReader().num_parameters() < 1_200_000


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 32, 32, 3)])
def test_wrong_shapes_are_named(reader: AttributeReader, shape: tuple[int, ...]) -> None:
    with pytest.raises(Exception, match=r"\[n, 3, h, w\]|Float\[Tensor"):  # ours, or jaxtyping's
        reader.read(torch.zeros(shape))


def test_other_errors(reader: AttributeReader, images: Tensor) -> None:
    with pytest.raises(ValueError, match="no images"):
        reader.read(images[:0])
    reading: Reading = reader.read(images)
    with pytest.raises(ValueError, match=r"'nose'.*hair_style"):
        reading.probability("nose", "long")
    with pytest.raises(ValueError, match=r"'fedora' of 'hat'.*no, yes"):
        reading.probability("hat", "fedora")
    with pytest.raises(ValueError, match="resolution is 40; expected a multiple of 16"):
        AttributeReader(resolution=40)


def test_rare_values_weigh_more() -> None:
    labels = sample(range(500)).labels
    weights = class_weights(labels)
    yes, no = label_index("beard", "yes"), label_index("beard", "no")
    assert weights["beard"][yes] > 1 > weights["beard"][no]
    assert weights["beard"][labels["beard"]].mean() == pytest.approx(1, abs=1e-4)


def test_hair_color_of_bald_people_counts_nowhere() -> None:
    portraits = sample(range(64)).with_labels(hair_style="bald")
    logits = {name: torch.randn(64, len(values)) for name, values in ATTRIBUTES.items()}
    weights = class_weights(sample(range(200)).labels)
    assert reading_loss(logits, portraits.labels, weights)["hair_color"] == 0
    haired = portraits.with_labels(hair_style="afro", hat="no")
    assert reading_loss(logits, haired.labels, weights)["hair_color"] > 0

    half = sample(range(64)).labels | {"hat": torch.zeros(64, dtype=torch.int64)}
    half["hair_style"] = torch.arange(64) % 2  # bald, short, bald, ...
    wrong_if_bald = half["hair_color"].clone()
    wrong_if_bald[::2] = (wrong_if_bald[::2] + 1) % 6
    assert balanced_accuracy({**half, "hair_color": wrong_if_bald}, half)["hair_color"] == 1


def test_accuracy_is_balanced() -> None:
    truth = sample(range(100)).labels
    assert set(balanced_accuracy(truth, truth).values()) == {1.0}
    truth["freckles"] = torch.tensor([1] * 10 + [0] * 90)
    never = {**truth, "freckles": torch.zeros(100, dtype=torch.int64)}
    assert balanced_accuracy(never, truth)["freckles"] == 0.5


def test_a_small_reader_learns_the_background() -> None:
    generator = torch.Generator().manual_seed(0)
    attributes = {"background": ATTRIBUTES["background"]}
    reader = small_reader(attributes=attributes).train()
    colors = torch.rand(6, 3, 1, 1, generator=generator) * 2 - 1
    optimizer = torch.optim.Adam(reader.parameters(), 5e-3)
    for _ in range(30):
        labels = torch.randint(6, (24,), generator=generator)
        pictures = colors[labels] + 0.1 * torch.randn(24, 3, 32, 32, generator=generator)
        loss = torch.nn.functional.cross_entropy(reader(pictures)["background"], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert torch.equal(
        reader.read(colors.expand(6, 3, 32, 32)).labels["background"], torch.arange(6)
    )
