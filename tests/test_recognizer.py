"""The recognizer is the published network at its default sizes, and can be trained at others."""

import copy
import importlib.util
import json
import sys
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from stylegan_hub.metrics.verification import calibration, roc_auc, verification
from stylegan_hub.models.recognizer import CALIBRATED, Recognizer, RecognizerConfig
from stylegan_hub.portraits import dataset
from stylegan_hub.portraits.attributes import CHARACTERS, GAUSSIANS, IDENTITY_GAUSSIANS
from stylegan_hub.portraits.dataset import UNSEEN_SEED, RenderCache
from stylegan_hub.portraits.renderer import render

RECIPE = Path(__file__).parent.parent / "recipes" / "train_recognizer.py"

SMALL = dict(
    units=(1, 2), widths=(8, 16), input_size=32, embedding_dim=12, input_stride=2, crop=None,
    reduction=4, dropout=0.0,
)  # fmt: skip


@pytest.fixture
def small() -> Recognizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Recognizer(**SMALL).eval()


def numbers(name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(name.encode()) & 0xFFFFFFFF)


def golden_weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Weights by the rule of the reference numbers: from the names alone."""
    state = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(0)
            continue
        n = numbers(name).standard_normal(shape)
        if name.endswith((".running_mean", ".bias")):
            values = 0.1 * n
        elif name.endswith(".running_var"):
            values = 1 + 0.1 * np.abs(n)
        elif name.removesuffix("weight") + "running_var" in shapes:
            values = 1 + 0.1 * n
        elif len(shape) == 1:
            values = 0.25 + 0.05 * n
        else:
            values = n / np.sqrt(np.prod(shape[1:]))
        state[name] = torch.from_numpy(np.asarray(values)).float()
    return state


@pytest.fixture(scope="module")
def published(data: Path) -> tuple[Recognizer, dict[str, np.ndarray]]:
    expected = dict(np.load(data / "irse50_check.npz"))
    with torch.device("meta"):  # saves a second of random numbers
        recognizer = Recognizer().eval()
    shapes = {name: tuple(value.shape) for name, value in recognizer.state_dict().items()}
    state = golden_weights(shapes)
    total = sum(value.double().sum() for value in state.values())
    assert total.item() == pytest.approx(expected["weights_sum"].item(), rel=1e-9)
    recognizer.load_state_dict(state, assign=True)
    return recognizer, expected


def test_names_and_shapes_of_the_published_network(data: Path) -> None:
    expected = json.loads((data / "irse50_keys.json").read_text())
    with torch.device("meta"):
        state = Recognizer().state_dict()
    own = [[n, list(v.shape), str(v.dtype).removeprefix("torch.")] for n, v in state.items()]
    assert own == expected


@torch.no_grad()
def test_embeddings_of_the_published_network(
    published: tuple[Recognizer, dict[str, np.ndarray]],
) -> None:
    recognizer, expected = published
    faces = numbers("input:irse50").rand(2, 3, 112, 112) * 2 - 1
    faces = torch.from_numpy(faces).float()
    body = recognizer.body(recognizer.input_layer(faces))
    assert np.allclose(body.mean((2, 3)), expected["body_mean"], atol=1e-4)
    assert body.std().item() == pytest.approx(expected["body_std"].item(), rel=1e-4)
    assert np.allclose(recognizer.embed(faces), expected["embedding"], atol=1e-5)


@torch.no_grad()
def test_crop_of_the_published_network(
    published: tuple[Recognizer, dict[str, np.ndarray]],
) -> None:
    recognizer, expected = published
    image = numbers("input:irse50_256").rand(1, 3, 256, 256) * 2 - 1
    image = torch.from_numpy(image).float()
    assert np.allclose(image[:, :, :1, :1], expected["x256_f16"], atol=1e-3)
    embedding = recognizer(image)
    assert np.allclose(embedding, expected["embedding_from_256_rule"], atol=1e-5)
    # A larger picture is pooled to 256 first: four equal pixels become one.
    larger = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(recognizer(larger), embedding, atol=1e-5)


def test_embeddings_have_length_one_and_gradients(small: Recognizer) -> None:
    for size in (32, 40, 64):
        images = torch.rand(3, 3, size, size).mul(2).sub(1).requires_grad_()
        embeddings = small(images)
        assert embeddings.shape == (3, 12)
        assert torch.allclose(embeddings.norm(dim=1), torch.ones(3))
        embeddings[:, 0].sum().backward()
        assert images.grad is not None and images.grad.abs().sum() > 0


@torch.no_grad()
def test_without_a_crop_the_whole_picture_is_seen(small: Recognizer) -> None:
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    corner = image.clone()
    corner[:, :, :8, :8] = 1
    assert not torch.allclose(small(image), small(corner))
    cropped = Recognizer(**SMALL | {"crop": (64, 192, 64, 192)}).eval()
    assert torch.equal(cropped(image), cropped(corner))


@torch.no_grad()
def test_saved_and_loaded(small: Recognizer, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path)
    loaded = Recognizer.from_pretrained(tmp_path)
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(loaded(images), small(images))
    half = copy.deepcopy(small).to(torch.float16)(images)
    assert half.dtype == torch.float32
    assert torch.allclose(half, small(images), atol=5e-3)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"units": (1, 2, 3)}, r"units \(1, 2, 3\) and widths \(8, 16\); expected as many of both"),
        ({"units": (0, 2)}, r"units is \(0, 2\)"),
        ({"input_size": 36}, "input_size is 36; expected a multiple of 8"),
        ({"reduction": 16}, "reduction 16; expected a reduction of at most the smallest width"),
        ({"crop": (0, 300, 0, 256)}, r"crop is \(0, 300, 0, 256\); expected \(top, bottom"),
        ({"crop": (0, 256)}, r"crop is \(0, 256\)"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recognizer(**SMALL | sizes)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 3, 16, 32)])
def test_what_is_no_picture(small: Recognizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \[n, 3, h, w\] in \[-1, 1\], at least 32 px"):
        small(torch.zeros(shape))


# Verification


def test_area_under_the_curve_counts_pairs() -> None:
    higher, lower = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.5, 0.2])
    # 0.9 beats both, 0.5 beats one and ties with the other, 0.1 beats none: 3.5 of 6.
    assert roc_auc(higher, lower) == pytest.approx(3.5 / 6)


def test_verification_of_embeddings_that_say_it_all() -> None:
    directions = torch.eye(8)
    identity = torch.arange(8).repeat_interleave(3) - 5  # any numbers
    measured = verification(directions.repeat_interleave(3, 0), identity)
    assert measured == {
        "same_pairs": 24,
        "other_pairs": 252,
        "same_cosine": 1.0,
        "other_cosine": 0.0,
        "roc_auc": 1.0,
        "equal_error_rate": 0.0,
        "accuracy": 1.0,
    }


def test_verification_of_embeddings_that_say_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(400, 16, generator=generator), dim=1)
    measured = verification(embeddings, torch.arange(100).repeat_interleave(4))
    assert measured["roc_auc"] == pytest.approx(0.5, abs=0.05)
    assert measured["equal_error_rate"] == pytest.approx(0.5, abs=0.05)
    assert measured["accuracy"] == pytest.approx(0.5, abs=0.05)


def test_equal_error_rate_of_normal_scores() -> None:
    # Two pictures of a person share a part of their embedding; in one dimension more than there
    # are people, cosines are nearly normal, so the error rate follows from the area.
    generator = torch.Generator().manual_seed(0)
    person = torch.randn(300, 1, 64, generator=generator)
    pictures = F.normalize(person + 2.0 * torch.randn(300, 2, 64, generator=generator), dim=2)
    measured = verification(pictures.flatten(0, 1), torch.arange(300).repeat_interleave(2))
    normal = torch.distributions.Normal(0.0, 1.0)
    distance = normal.icdf(torch.tensor(measured["roc_auc"])) * 2**0.5
    expected = normal.cdf(-distance / 2).item()
    assert measured["equal_error_rate"] == pytest.approx(expected, abs=0.02)
    assert measured["accuracy"] == pytest.approx(1 - expected, abs=0.03)


def test_verification_without_pairs() -> None:
    with pytest.raises(ValueError, match="Got 4 pictures of 4 people"):
        verification(torch.eye(4), torch.arange(4))


# Pictures of the same people


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 portraits of 20 people at 32 px."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "cache.json").write_text(json.dumps({"resolution": 32, "identities": 20}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_SHARD", 100)
        dataset._render_shard((str(folder), 0, 32))
    return folder


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_SHARD", 100)


@pytest.mark.usefixtures("small_shards")
def test_people_take_turns_in_the_cache(cache: Path) -> None:
    portraits = RenderCache(cache).portraits(range(100))
    own = portraits.character < 0
    assert torch.equal(portraits.identity[own], (torch.arange(100) % 20)[own])
    stored = RenderCache(cache).images([45]).int()
    drawn = ((render(portraits[45:46], 32) + 1) * 127.5).round().int()
    assert (stored - drawn).abs().max() <= 1


def test_cache_of_other_people(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="portraits of 20 identities, but all different"):
        RenderCache.build(cache, 1000, 32)
    with pytest.raises(ValueError, match="portraits of 20 identities, but 30 identities were"):
        RenderCache.build(cache, 1000, 32, identities=30)
    with pytest.raises(ValueError, match="portraits of 32 px, but 64 px were"):
        RenderCache.build(cache, 1000, 64, identities=20)
    with pytest.raises(ValueError, match="Got 0 identities; expected at least one"):
        RenderCache.build(tmp_path, 1000, 32, identities=0)


# The recipe


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_recognizer", RECIPE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_recognizer"] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


TINY = dict(
    portraits=100, units=(1, 1), widths=(8, 16), embedding_dim=16, train_batch_size=16,
    unseen_identities=8, lr_warmup_steps=2, sample_steps=100, checkpointing_steps=10,
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("small_shards")
def test_the_recipe_learns_resumes_and_describes(
    train: ModuleType, cache: Path, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.main(train.Config(cache=cache, output_dir=whole, max_train_steps=30, **TINY))
    log = [json.loads(line) for line in (whole / "training.log").read_text().splitlines()]
    assert log[-1]["geometry"] < log[0]["geometry"] and log[-1]["arcface"] < log[0]["arcface"]

    short = dict(TINY, lr_scheduler="constant")
    train.main(train.Config(cache=cache, output_dir=parts, max_train_steps=2, **short))
    train.main(
        train.Config(
            cache=cache,
            output_dir=parts,
            max_train_steps=4,
            resume_from_checkpoint="latest",
            **short,
        )
    )
    train.main(train.Config(cache=cache, output_dir=tmp_path / "4", max_train_steps=4, **short))
    resumed = Recognizer.from_pretrained(parts / "recognizer").state_dict()
    unbroken = Recognizer.from_pretrained(tmp_path / "4" / "recognizer").state_dict()
    assert all(torch.equal(value, unbroken[name]) for name, value in resumed.items())

    metrics = json.loads((whole / "recognizer" / "metrics.json").read_text())
    assert metrics["images"] == 32 and metrics["clean"]["same_pairs"] == 8 * 6
    assert set(metrics["geometry_r2"]) == set(IDENTITY_GAUSSIANS)
    text = (whole / "recognizer" / "README.md").read_text()
    assert f"{metrics['clean']['accuracy']:.3f}" in text and "20 identities" in text


def test_a_cache_without_people_is_refused(train: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(json.dumps({"resolution": 32}))
    with pytest.raises(SystemExit, match=r"one portrait of each identity.*--identities 4000"):
        train.main(train.Config(cache=tmp_path, output_dir=tmp_path / "run"))


def test_unseen_people(train: ModuleType) -> None:
    unseen = train.Unseen.draw(6, 32)
    portraits, split = unseen.portraits, len(IDENTITY_GAUSSIANS)
    assert (portraits.character < 0).all() and unseen.images.shape == (24, 3, 32, 32)
    assert portraits.identity.tolist() == [UNSEEN_SEED + i // 4 for i in range(24)]
    geometry, rest = portraits.gaussians[:, :split], portraits.gaussians[:, split:]
    assert torch.equal(geometry[::4], geometry[1::4]) and not torch.equal(rest[::4], rest[1::4])
    assert unseen.lookalikes.shape == (6, 3, 32, 32)
    assert GAUSSIANS[:split] == IDENTITY_GAUSSIANS and len(CHARACTERS) == 6


def test_measures_of_a_recognizer_that_reads_the_truth(train: ModuleType) -> None:
    unseen = train.Unseen.draw(12, 32)
    pictures = torch.cat([unseen.images, unseen.lookalikes])
    people = torch.cat([unseen.portraits.identity - UNSEEN_SEED, 12 + torch.arange(12)])

    class Oracle(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            distance = (images[:, None] - pictures[None]).flatten(2).square().sum(2)
            return F.one_hot(people[distance.argmin(1)], 24).float()

    measured = train.measure(Oracle(), unseen, augmented=False)
    assert measured["accuracy"] == measured["lookalikes_told_apart"] == 1
    assert measured["equal_error_rate"] == 0


def test_a_calibration_says_how_often_it_is_wrong() -> None:
    """Two pictures of each person that differ a little, or so much that they show other people."""
    torch.manual_seed(0)
    people = F.normalize(torch.randn(60, 16), dim=1).repeat_interleave(2, 0)
    embeddings = F.normalize(people + 0.05 * torch.randn(120, 16), dim=1)
    who = torch.arange(60).repeat_interleave(2)
    known = calibration(embeddings, who, error=0.05)
    assert set(known) == CALIBRATED and known["other_below"] > known["same_above"]
    assert known["other_accepted"] == pytest.approx(0.05, abs=0.01)
    confused = calibration(F.normalize(torch.randn(120, 16), dim=1), who, error=0.05)
    assert confused["other_below"] < 0 < confused["same_above"]
    assert RecognizerConfig(calibration=known).calibration == known
    for wrong in ({"same_above": 0.1}, {**known, "same_above": "1"}, {**known, "same_above": 7.0}):
        with pytest.raises(ValueError):
            RecognizerConfig(calibration=wrong)
    with pytest.raises(ValueError):
        calibration(embeddings, torch.zeros(120, dtype=torch.int64))
