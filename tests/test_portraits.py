"""Portraits: their attributes and factors, their pictures, and how these are stored."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylegan_hub.models.stylegan2 import StyleGAN2Generator
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
from stylegan_hub.portraits.factors import (
    FACTORS,
    PRESENCE,
    blends,
    crisp,
    factor_matrix,
    factor_statistics,
    factors,
)
from stylegan_hub.portraits.paired import (
    FactorEncoder,
    change_loss,
    detail_loss,
    move_bias_down,
    pairs,
    portraits_of_z,
    z_of_portraits,
)
from stylegan_hub.portraits.renderer import PARTS, render, render_factors, render_with_masks


def test_a_seed_gives_the_same_picture_alone_and_in_a_batch() -> None:
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
    portraits = sample(range(8))
    large = torch.nn.functional.avg_pool2d(render(portraits, 256), 4)
    assert (large - render(portraits, 64)).abs().mean() < 0.02


def test_a_resolution_out_of_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="Got resolution 16; expected 32 to 512 pixels"):
        render(sample([0]), 16)


def test_every_value_of_every_attribute_occurs() -> None:
    portraits = sample(range(1500))
    for name, values in ATTRIBUTES.items():
        counts = portraits.labels[name].bincount(minlength=len(values))
        assert (counts > 50).all(), (name, counts)


def test_counterfactuals_change_only_the_given_label() -> None:
    portraits = sample([5, 6, 7, 8]).with_labels(hat="no", glasses="no", hair_style="short")
    hatted = portraits.with_labels(hat="yes")
    assert torch.equal(portraits.gaussians, hatted.gaussians)
    images, masks = render_with_masks(portraits, 64)
    changed_images, changed_masks = render_with_masks(hatted, 64)
    changed = (images - changed_images).abs().amax(1) > 0.02
    covered = (changed_masks == PARTS.index("hat")) | (masks == PARTS.index("hair"))
    grown = torch.nn.functional.max_pool2d(covered.float()[:, None], 5, 1, 2)[:, 0] > 0
    assert changed.any() and not (changed & ~grown).any()


def test_the_face_fills_the_picture_and_hair_fits() -> None:
    portraits = sample(range(60)).with_labels(hat="no", glasses="no", pose="front", eyes="open")
    axis = (torch.arange(64) + 0.5) / 64
    masks = render_with_masks(portraits, 64)[1]
    eyes = (masks == PARTS.index("eyes")).float()
    sides = [eyes * (axis < 0.5), eyes * (axis > 0.5)]
    left, right = ((side * axis).sum((1, 2)) / side.sum((1, 2)) for side in sides)
    assert (right - left).mean() == pytest.approx(0.23, abs=0.015)
    for style in ("afro", "spiky", "mohawk"):
        masks = render_with_masks(portraits.with_labels(hair_style=style), 64)[1]
        at_edge = (masks[:, 0] == PARTS.index("hair")).float().mean(1)  # share of the upper edge
        assert at_edge.mean() < 0.05, style


def test_the_mix_is_friendly() -> None:
    portraits = sample(range(3000))
    shares = portraits.labels["expression"].bincount() / len(portraits)
    assert shares[:2].sum() > 0.65 and shares[2:].min() > 0.07
    bearded = (portraits.labels["beard"] == 1) | (portraits.labels["mustache"] == 1)
    painted = portraits.labels["lipstick"] == 1
    assert painted[bearded].float().mean() < 0.15 < painted[~bearded].float().mean()


@pytest.mark.parametrize(
    ("label", "part"),
    [("earrings", "earrings"), ("mustache", "mustache"), ("hat", "hat"), ("glasses", "glasses")],
)
def test_a_part_is_in_the_masks_if_and_only_if_it_is_present(label: str, part: str) -> None:
    portraits = sample(range(12))
    for value, expected in (("no", 0), ("yes", 12)):
        masks = render_with_masks(portraits.with_labels(**{label: value}), 128)[1]
        assert (masks == PARTS.index(part)).any(2).any(1).sum() == expected


def test_closed_eyes_show_neither_color_nor_gaze() -> None:
    portraits = sample(range(6)).with_labels(eyes="closed", eye_color="blue", gaze="left")
    seen = applicable(portraits.labels)
    assert not seen["eye_color"].any() and not seen["gaze"].any()
    others = portraits.with_labels(eye_color="green", gaze="right")
    assert torch.equal(render(portraits, 64), render(others, 64))


def test_blends_show_things_whole_or_not_at_all() -> None:
    values = factor_matrix(sample(range(6)).with_labels(hat="no", hair_style="short"))
    hat = FACTORS.index("hat")
    rendered = {}
    for share in (0.0, 0.4, 0.7, 1.0):
        values[:, hat] = share
        rendered[share] = render_factors(values, 64)
    assert torch.equal(rendered[0.0], rendered[0.4]) and torch.equal(rendered[0.7], rendered[1.0])
    assert not torch.equal(rendered[0.4], rendered[0.7])
    values = factors(sample(range(50)))
    shown = crisp(values)
    assert all(torch.equal(shown[name], values[name]) for name in FACTORS)
    assert all(((shown[name] == 0) | (shown[name] == 1)).all() for name in PRESENCE)


def test_every_second_blend_is_a_portrait() -> None:
    values = blends(range(40))
    assert torch.allclose(values[::2], factor_matrix(sample(range(0, 40, 2))))
    assert (values[1::2] - factor_matrix(sample(range(1, 40, 2)))).abs().amax(1).min() > 0
    _, _, lowest, highest = factor_statistics()
    assert (values >= lowest).all() and (values <= highest).all()
    assert torch.equal(values[7:9], blends([7, 8]))


def test_w_is_linear_in_the_factors_and_layers_see_their_share() -> None:
    encoder = FactorEncoder(128)
    values = factor_matrix(sample(range(300)))
    w = encoder(values)
    assert w.var(0).mean() == pytest.approx(1, abs=0.1)
    assert torch.allclose(encoder.decode(w), values, atol=1e-3)
    half = values[:1].lerp(values[1:2], 0.3)
    assert torch.allclose(encoder(half), w[:1].lerp(w[1:2], 0.3), atol=1e-4)
    coarse = encoder.visible(4, False)
    assert torch.allclose(coarse @ coarse, coarse, atol=1e-5)  # a projection
    recolored = values.clone()
    recolored[:, FACTORS.index("hair_r")] += 0.2
    assert torch.allclose(encoder(recolored) @ coarse, w @ coarse, atol=1e-4)
    with pytest.raises(ValueError, match="the factors need at least"):
        FactorEncoder(32)


def test_pairs_differ_in_one_attribute() -> None:
    before, after = pairs(range(200))
    differing = [
        [name for name in ATTRIBUTES if before.labels[name][row] != after.labels[name][row]]
        for row in range(200)
    ]
    assert all(len(names) == 1 for names in differing)
    assert {name for (name,) in differing} == set(ATTRIBUTES)
    assert torch.equal(before.gaussians, after.gaussians)
    again = pairs([7])[1]
    assert all(again.labels[name][0] == after.labels[name][7] for name in ATTRIBUTES)


def test_the_change_loss_is_the_share_of_a_change_that_is_missed() -> None:
    before = torch.zeros(3, 3, 32, 32)
    after = before.clone()
    after[0, :, :16] = 1  # half of the picture
    after[1, :, 0, :4] = 0.5  # a few pixels; the third pair does not differ
    assert change_loss(before, after, before, after) == 0
    assert change_loss(before, before, before, after) == pytest.approx(1)
    half = before.lerp(after, 0.5)
    assert change_loss(before, half, before, after) == pytest.approx(0.5)
    assert change_loss(before, before, before[2:], before[2:].clone()) == 0


def test_faint_texture_counts_as_structure() -> None:
    texture = 0.05 * torch.sin(torch.arange(32) * 1.5).expand(1, 3, 32, 32)
    weight = torch.ones(1, 1, 32, 32)
    assert detail_loss(texture, texture, weight) == pytest.approx(0, abs=1e-5)
    lost = detail_loss(torch.zeros_like(texture), texture, weight)
    brighter = detail_loss(texture + 0.1, texture, weight)
    assert lost > 0.2 and brighter < 0.01


def test_truncation_changes_pictures_and_makes_them_more_alike() -> None:
    values, mean = factor_matrix(sample(range(80))), factor_statistics().mean

    def rendered(psi: float) -> torch.Tensor:
        return render_factors(mean + psi * (values - mean), 32)

    whole, small = rendered(1.0), rendered(0.3)
    difference = (whole - whole.roll(1, 0)).abs().mean()
    assert (whole - rendered(0.7)).abs().mean() > 0.15 * difference
    assert (small - small.roll(1, 0)).abs().mean() < 0.5 * difference


def test_ordered_labels_give_separate_ranges_of_factors() -> None:
    portraits = sample(range(400))
    values = factors(portraits)
    for attribute, factor in (("pose", "yaw"), ("gaze", "gaze_x"), ("face_width", "face_width")):
        by_label = [
            values[factor][portraits.labels[attribute] == i]
            for i in range(len(ATTRIBUTES[attribute]))
        ]
        for lower, higher in itertools.pairwise(by_label):
            assert lower.max() < higher.min(), f"labels of {attribute} overlap"


def test_equal_identities_share_the_geometry_and_nothing_else() -> None:
    portraits = sample([10, 11], identities=[4, 4])
    split = len(IDENTITY_GAUSSIANS)
    assert torch.equal(portraits.gaussians[0, :split], portraits.gaussians[1, :split])
    assert not torch.equal(portraits.gaussians[0, split:], portraits.gaussians[1, split:])
    assert portraits.identity.tolist() == [4, 4]


@pytest.mark.parametrize("name", CHARACTERS)
def test_characters_have_their_fixed_look(name: str) -> None:
    portraits = characters(name, range(6))
    for attribute, value in character_labels(name).items():
        assert (portraits.labels[attribute] == label_index(attribute, value)).all()
    assert (portraits.character == CHARACTERS.index(name)).all()
    assert len(portraits.labels["background"].unique()) > 1
    assert len(portraits.identity.unique()) == 1


def test_a_mohawk_never_has_a_hat_unless_labels_are_replaced() -> None:
    portraits = sample(range(1000))
    mohawk = portraits.labels["hair_style"] == label_index("hair_style", "mohawk")
    assert not (portraits.labels["hat"][mohawk] == 1).any()
    both = sample([0]).with_labels(hair_style="mohawk", hat="yes")
    assert not applicable(both.labels)["hair_style"].any()


def test_z_and_portraits_convert_into_each_other() -> None:
    portraits = sample(range(40))
    portraits = portraits[torch.nonzero(portraits.character < 0)[:, 0]]
    z = z_of_portraits(portraits, 128, torch.Generator().manual_seed(0))
    assert torch.allclose(z.square().sum(1), torch.tensor(128.0), rtol=1e-4)
    back = portraits_of_z(3 * z)  # only the direction counts
    keep = [i for i, name in enumerate(GAUSSIANS) if name != "character"]
    assert torch.allclose(portraits.gaussians[:, keep], back.gaussians[:, keep], atol=1e-4)
    assert factor_matrix(back).shape == (len(portraits), len(FACTORS))


def test_z_stands_for_replaced_labels_and_characters_too() -> None:
    random = torch.Generator().manual_seed(0)
    changed = sample(range(40)).with_labels(hair_style="afro", glasses="yes", skin="dark")
    back = portraits_of_z(z_of_portraits(changed, 128, random))
    for name in ("hair_style", "glasses", "skin", "expression", "background"):
        assert torch.equal(back.labels[name], changed.labels[name])
    for character in CHARACTERS:
        back = portraits_of_z(z_of_portraits(characters(character, range(20)), 128, random))
        assert (back.character < 0).all()
        labels = character_labels(character)
        for name, value in labels.items():
            if name == "mustache" and labels["beard"] == "yes":
                continue  # most beards have one, whatever its number says
            assert (back.labels[name] == label_index(name, value)).all(), (character, name)


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
            "Got character 'Bob'; expected one of: Captain Otto",
        ),
        (lambda: from_gaussians(torch.zeros(2, 3)), r"shape \(2, 3\); expected \[n, 58\]"),
        (lambda: z_of_portraits(sample([1]), 32, torch.Generator()), "needs at least 65"),
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


def test_the_cache_holds_renders_and_can_grow(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("stylegan_hub.portraits.dataset._SHARD", 100)
    from stylegan_hub.portraits import dataset

    for index in (0, 1):
        (tmp_path / "cache.json").write_text(json.dumps({"resolution": 32}))
        dataset._render_shard((str(tmp_path), index, 32))
        cache = RenderCache(tmp_path)
        assert len(cache) == 100 * (index + 1)
    stored = cache.images([3, 150])
    rendered = ((render(cache.portraits([3, 150]), 32) + 1) * 127.5).round().byte()
    assert (stored.int() - rendered.int()).abs().max() <= 1
    with pytest.raises(IndexError, match=r"Got index 200; .* holds 0 to 199"):
        cache.images([200])


def test_odd_numbers_in_a_cache_of_blends_are_no_portraits(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("stylegan_hub.portraits.dataset._SHARD", 100)
    from stylegan_hub.portraits import dataset

    (tmp_path / "cache.json").write_text(json.dumps({"resolution": 32, "blends": True}))
    dataset._render_shard((str(tmp_path), 0, 32))
    cache = RenderCache(tmp_path)
    rendered = ((render_factors(blends([0, 1, 2, 3]), 32) + 1) * 127.5).round().byte()
    assert (cache.images([0, 1, 2, 3]).int() - rendered.int()).abs().max() <= 1
    assert len(cache.portraits([0, 2])) == 2
    with pytest.raises(ValueError, match="was made with --blends"):
        cache.portraits([0, 1])


def test_a_missing_cache_is_an_error_that_says_how_to_make_one(tmp_path: Path) -> None:
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


def test_the_last_bias_moves_to_the_block_before() -> None:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(z_dim=16, w_dim=16, img_resolution=32, channels=[8] * 4)
    with torch.no_grad():
        generator.synthesis.get_parameter("b32.torgb.bias").copy_(torch.tensor([0.5, -0.2, 0.1]))
        ws = generator.mapping(torch.randn(2, 16))
        full, small = (
            generator.synthesis(ws, noise_mode="none", resolution=size) for size in (32, 16)
        )
        move_bias_down(generator)
        full_after, small_after = (
            generator.synthesis(ws, noise_mode="none", resolution=size) for size in (32, 16)
        )
    torch.testing.assert_close(full_after[..., 2:-2, 2:-2], full[..., 2:-2, 2:-2])
    shift = (small_after - small).mean((0, 2, 3))
    torch.testing.assert_close(shift, torch.tensor([0.5, -0.2, 0.1]), atol=1e-5, rtol=1e-4)
