"""Laws of the drawn portraits: who is drawn, what is drawn, and how it is stored."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylegan_hub.portraits.attributes import (
    ATTRIBUTES,
    CHARACTERS,
    GAUSSIANS,
    IDENTITY_GAUSSIANS,
    applicable,
    character_labels,
    characters,
    from_gaussians,
    label_index,
    sample,
)
from stylegan_hub.portraits.dataset import PortraitDataset, RenderCache, export
from stylegan_hub.portraits.factors import FACTORS, factor_matrix, factors
from stylegan_hub.portraits.paired import portraits_of_z, z_of_portraits
from stylegan_hub.portraits.renderer import PARTS, render, render_with_masks


def test_a_seed_is_always_the_same_picture_alone_or_in_a_batch() -> None:
    together = render(sample([3, 99, 7]), 48)
    assert torch.equal(together[1:2], render(sample([99]), 48))
    assert not torch.equal(together[0], together[2])


@pytest.mark.parametrize("resolution", [32, 100, 512])
def test_pictures_of_any_resolution_are_in_range(resolution: int) -> None:
    images, masks = render_with_masks(sample([1, 2]), resolution)
    assert images.shape == (2, 3, resolution, resolution)
    assert masks.shape == (2, resolution, resolution)
    assert images.min() >= -1 and images.max() <= 1 and images.isfinite().all()
    assert masks.min() >= 0 and masks.max() < len(PARTS)


def test_resolutions_agree_on_the_picture() -> None:
    people = sample(range(8))
    large = torch.nn.functional.avg_pool2d(render(people, 256), 4)
    assert (large - render(people, 64)).abs().mean() < 0.02


def test_a_resolution_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="Got resolution 16; portraits are drawn at 32 to 512"):
        render(sample([0]), 16)


def test_every_value_of_every_attribute_occurs() -> None:
    people = sample(range(1500))
    for name, values in ATTRIBUTES.items():
        counts = people.labels[name].bincount(minlength=len(values))
        assert (counts > 50).all(), (name, counts)


def test_counterfactuals_change_only_what_was_asked() -> None:
    people = sample([5, 6, 7, 8]).with_labels(hat="no", glasses="no", hair_style="short")
    hatted = people.with_labels(hat="yes")
    assert torch.equal(people.gaussians, hatted.gaussians)
    images, masks = render_with_masks(people, 64)
    changed_images, changed_masks = render_with_masks(hatted, 64)
    changed = (images - changed_images).abs().amax(1) > 0.02
    covered = (changed_masks == PARTS.index("hat")) | (masks == PARTS.index("hair"))
    grown = torch.nn.functional.max_pool2d(covered.float()[:, None], 5, 1, 2)[:, 0] > 0
    assert changed.any() and not (changed & ~grown).any()


def test_labels_show_in_the_factors() -> None:
    people = sample(range(400))
    values = factors(people)
    for attribute, factor in (("pose", "yaw"), ("gaze", "gaze_x"), ("face_width", "face_width")):
        by_label = [
            values[factor][people.labels[attribute] == i] for i in range(len(ATTRIBUTES[attribute]))
        ]
        for lower, higher in itertools.pairwise(by_label):
            assert lower.max() < higher.min(), f"labels of {attribute} overlap"


def test_equal_identities_share_the_geometry_and_nothing_else() -> None:
    people = sample([10, 11], identities=[4, 4])
    split = len(IDENTITY_GAUSSIANS)
    assert torch.equal(people.gaussians[0, :split], people.gaussians[1, :split])
    assert not torch.equal(people.gaussians[0, split:], people.gaussians[1, split:])
    assert people.identity.tolist() == [4, 4]


@pytest.mark.parametrize("name", CHARACTERS)
def test_characters_have_their_fixed_look(name: str) -> None:
    people = characters(name, range(6))
    for attribute, value in character_labels(name).items():
        assert (people.labels[attribute] == label_index(attribute, value)).all()
    assert (people.character == CHARACTERS.index(name)).all()
    assert len(people.labels["background"].unique()) > 1
    assert len(people.identity.unique()) == 1


def test_hats_hide_no_mohawk_in_samples_but_may_when_asked() -> None:
    people = sample(range(1000))
    mohawk = people.labels["hair_style"] == label_index("hair_style", "mohawk")
    assert not (people.labels["hat"][mohawk] == 1).any()
    both = sample([0]).with_labels(hair_style="mohawk", hat="yes")
    assert not applicable(both.labels)["hair_style"].any()


def test_z_stands_for_portraits_and_back() -> None:
    people = sample(range(40))
    people = people[torch.nonzero(people.character < 0)[:, 0]]
    z = z_of_portraits(people, 128, torch.Generator().manual_seed(0))
    assert torch.allclose(z.square().sum(1), torch.tensor(128.0), rtol=1e-4)
    back = portraits_of_z(3 * z)  # only the direction counts
    keep = [i for i, name in enumerate(GAUSSIANS) if name != "character"]
    assert torch.allclose(people.gaussians[:, keep], back.gaussians[:, keep], atol=1e-4)
    assert factor_matrix(back).shape == (len(people), len(FACTORS))


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: sample([-1]), "Got seed -1; seeds are integers from 0"),
        (lambda: sample([1, 2], [1]), "Got 2 seeds and 1 identities"),
        (
            lambda: label_index("nose", "big"),
            "Unknown attribute 'nose'; a portrait has: hair_style",
        ),
        (lambda: label_index("hat", "red"), "Unknown value 'red' of 'hat'; choose one of: no, yes"),
        (
            lambda: characters("Bob", [1]),
            "Nobody is called 'Bob'; the characters are: Captain Otto",
        ),
        (lambda: from_gaussians(torch.zeros(2, 3)), r"shape \(2, 3\); expected \[n, 55\]"),
        (lambda: z_of_portraits(sample([1]), 32, torch.Generator()), "needs at least 62"),
    ],
)
def test_bad_input_says_what_to_do(call, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        call()


def test_the_dataset_is_endless_and_in_seed_order() -> None:
    items = list(itertools.islice(PortraitDataset(32, start_seed=100), 10))
    assert [item["seed"] for item in items] == list(range(100, 110))
    first = items[0]
    assert first["image"].shape == (3, 32, 32) and first["mask"].shape == (32, 32)
    assert len(first["captions"]) == 2 and set(first["labels"]) == set(ATTRIBUTES)


def test_the_cache_holds_what_the_renderer_draws_and_goes_on(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("stylegan_hub.portraits.dataset._SHARD", 100)
    from stylegan_hub.portraits import dataset

    for index in (0, 1):
        (tmp_path / "cache.json").write_text(json.dumps({"resolution": 32}))
        dataset._render_shard((str(tmp_path), index, 32))
        cache = RenderCache(tmp_path)
        assert len(cache) == 100 * (index + 1)
    stored = cache.images([3, 150])
    drawn = ((render(cache.portraits([3, 150]), 32) + 1) * 127.5).round().byte()
    assert (stored.int() - drawn.int()).abs().max() <= 1
    with pytest.raises(IndexError, match=r"Got index 200; .* holds 0 to 199"):
        cache.images([200])


def test_no_cache_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"render_portraits\.py --output_dir"):
        RenderCache(tmp_path)


def test_export_writes_the_celeba_hq_layout(tmp_path: Path) -> None:
    export(tmp_path, [0, 1, 2], resolution=32)
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [
        "0.png",
        "1.png",
        "2.png",
    ]
    assert len((tmp_path / "text" / "1.txt").read_text().splitlines()) == 10
    with Image.open(tmp_path / "masks" / "2.png") as mask:
        assert mask.size == (32, 32) and max(mask.tobytes()) < len(PARTS)
    assert json.loads((tmp_path / "parts.json").read_text()) == list(PARTS)
    assert set(json.loads((tmp_path / "attributes.json").read_text())["0"]) == set(ATTRIBUTES)
