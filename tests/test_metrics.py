"""Metrics against cases whose answer is known."""

import pytest
import torch

from stylegan_hub.metrics.edit_success import edit_report
from stylegan_hub.metrics.frechet import frechet_distance
from stylegan_hub.portraits.attributes import ATTRIBUTES, Portraits, sample
from stylegan_hub.portraits.reader import Reading


def reading_of(portraits: Portraits) -> Reading:
    """A reader that is always right."""
    probabilities = {
        name: torch.nn.functional.one_hot(values, len(ATTRIBUTES[name])).float()
        for name, values in portraits.labels.items()
    }
    return Reading(ATTRIBUTES, probabilities, dict(portraits.labels))


def test_equal_sets_are_at_distance_zero() -> None:
    features = torch.randn(500, 6)
    assert abs(frechet_distance(features, features.clone())) < 1e-6


def test_distance_of_known_gaussians() -> None:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(100_000, 3, generator=generator)
    second = 2 * torch.randn(100_000, 3, generator=generator) + torch.tensor([1.0, 0.0, 0.0])
    # |m|^2 + sum (s1 - s2)^2 = 1 + 3 * 1
    assert frechet_distance(first, second) == pytest.approx(4.0, rel=0.02)


def test_too_few_features_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected at least two"):
        frechet_distance(torch.randn(1, 3), torch.randn(5, 3))


def test_a_perfect_edit_succeeds_without_collateral() -> None:
    people = sample(range(60))
    report = edit_report(
        reading_of(people), reading_of(people.with_labels(hat="yes")), {"hat": "yes"}
    )
    assert report.success == 1.0 and report.collateral == 0.0
    assert report.count == int((people.labels["hat"] == 0).sum())


def test_no_edit_does_not_succeed() -> None:
    people = sample(range(60))
    report = edit_report(reading_of(people), reading_of(people), {"hair_color": "purple"})
    assert report.success == 0.0 and report.collateral == 0.0


def test_what_an_edit_drags_along_is_collateral() -> None:
    people = sample(range(60)).with_labels(hat="no", lipstick="no")
    after = people.with_labels(hat="yes", lipstick="yes")
    report = edit_report(reading_of(people), reading_of(after), {"hat": "yes"})
    assert report.flips["lipstick"] == 1.0
    assert report.collateral == pytest.approx(1 / (len(ATTRIBUTES) - 1), abs=0.02)


def test_hair_color_of_bald_people_is_not_counted() -> None:
    people = sample(range(40)).with_labels(hair_style="bald", hair_color="black")
    target = {"hair_color": "purple"}
    after = people.with_labels(hair_color="purple")
    assert edit_report(reading_of(people), reading_of(after), target).count == 0


def test_a_character_needs_three_quarters_of_its_attributes() -> None:
    people = sample([1]).with_labels(hair_style="bob", hat="no", glasses="no", beard="no")
    target = {"hair_style": "afro", "hat": "yes", "glasses": "yes", "beard": "yes"}
    three = people.with_labels(hat="yes", glasses="yes", beard="yes")
    two = people.with_labels(hat="yes", glasses="yes")
    assert edit_report(reading_of(people), reading_of(three), target).success == 1.0
    assert edit_report(reading_of(people), reading_of(two), target).success == 0.0


def test_readings_of_different_people_are_an_error() -> None:
    with pytest.raises(ValueError, match="Got 2 pictures before and 1 after"):
        edit_report(reading_of(sample([1, 2])), reading_of(sample([1])), {"hat": "yes"})
