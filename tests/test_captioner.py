"""The captioner: its loss against a plain computation, its words, and that it uses the picture."""

import importlib.util
import itertools
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from stylegan_hub.models.captioner import (
    END,
    PAD,
    PAPER,
    START,
    UNKNOWN,
    Captioner,
    build_vocabulary,
    split,
)
from stylegan_hub.portraits import dataset
from stylegan_hub.portraits.dataset import export

RECIPE = Path(__file__).parent.parent / "recipes" / "train_captioner.py"
WORDS = ["a", "face", "red", "green", "blue", "-", "eyed", "with", "hair", "."]
SMALL = dict(
    resolution=16, widths=(8, 16), blocks=(1, 1), feature_dim=12, embedding_dim=10, hidden_dim=14,
    attention_dim=6, max_words=8,
)  # fmt: skip


@pytest.fixture
def small() -> Captioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Captioner(WORDS, **SMALL).eval()


def test_words() -> None:
    assert split("A Green-eyed FACE, 2.") == ["a", "green", "-", "eyed", "face", ",", "2", "."]
    texts = ["a b", "b c", "b a d"]
    assert build_vocabulary(texts) == ["b", "a", "c", "d"]
    assert build_vocabulary(texts, 2) == ["b", "a"]


def test_texts_become_numbers_and_back(small: Captioner) -> None:
    tokens = small.tokenize(["a red face", "Blue zebra"])
    assert tokens.tolist() == [[START, 4, 6, 5, END], [START, 8, UNKNOWN, END, PAD]]
    assert small._text(small.tokenize(["a green-eyed face."])[0, 1:].tolist()) == (
        "a green-eyed face."
    )


def test_texts_that_cannot_be_read(small: Captioner) -> None:
    with pytest.raises(ValueError, match=r"Got \[' '\]"):
        small.tokenize(["a face", " "])
    with pytest.raises(ValueError, match="Got no texts"):
        small.tokenize([])
    with pytest.warns(UserWarning, match="has 9 words and this captioner takes 8"):
        tokens = small.tokenize(["a a a a a a a a a"])
    assert tokens.shape == (1, 10) and tokens[0, -1] == END


def plain(captioner: Captioner, features: torch.Tensor, tokens: list[int]) -> tuple[float, float]:
    """The equations in the module's docstring, for one text and one step after the other."""
    hidden, memory = captioner.start(features.mean(0)).tanh().chunk(2)
    loss, looked = 0.0, torch.zeros(len(features))
    for before, word in itertools.pairwise(tokens):
        energy = [
            captioner.attend_score(
                (captioner.attend_feature(a) + captioner.attend_state(hidden)).tanh()
            )
            for a in features
        ]
        weight = torch.cat(energy).softmax(0)
        context = (weight[:, None] * features).sum(0)
        said = captioner.embedding.weight[before]
        hidden, memory = captioner.cell(
            torch.cat([said, context])[None], (hidden[None], memory[None])
        )
        hidden, memory = hidden[0], memory[0]
        mixed = said + captioner.word_of_state(hidden) + captioner.word_of_feature(context)
        loss -= float(captioner.word(mixed).log_softmax(0)[word])
        looked = looked + weight
    return loss, float((1 - looked).square().sum())


@torch.no_grad()
def test_the_loss_is_that_of_the_equations(small: Captioner) -> None:
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    texts = ["a face", "a red face with blue hair.", "green", "a face with red hair"]
    features, tokens = small.encode(images), small.tokenize(texts)
    assert features.shape == (4, 4, 12)
    found = small(features, tokens)
    for index, row in enumerate(tokens.tolist()):
        expected = plain(small, features[index], [token for token in row if token != PAD])
        assert found.words[index] == pytest.approx(expected[0], rel=1e-4)
        assert found.attention[index] == pytest.approx(expected[1], rel=1e-4)


def test_gradients_reach_the_picture(small: Captioner) -> None:
    images = (torch.rand(2, 3, 40, 40) * 2 - 1).requires_grad_()
    found = small(small.encode(images), small.tokenize(["a face", "red hair with a face"]))
    found.words[0].backward()
    assert images.grad is not None
    assert images.grad[0].abs().sum() > 0 and images.grad[1].abs().sum() == 0


def test_it_learns_to_tell_what_it_sees(small: Captioner) -> None:
    colors = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    texts = ["a red face", "green-eyed.", "a face with blue hair"]
    small.train().requires_grad_(True)
    optimizer = torch.optim.Adam(small.parameters(), lr=0.02)
    draw = torch.Generator().manual_seed(0)
    for _ in range(60):
        images = colors[:, :, None, None] + 0.3 * torch.randn(3, 3, 16, 16, generator=draw)
        loss = small(small.encode(images), small.tokenize(texts)).words.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    small.eval()
    images = colors[:, :, None, None].expand(3, 3, 16, 16)
    assert small.caption(images) == texts
    with torch.no_grad():
        features = small.encode(images)
        right = small(features, small.tokenize(texts)).words
        wrong = small(features.roll(1, 0), small.tokenize(texts)).words
    assert (right + 3 < wrong).all()


def test_a_caption_ends_at_the_limit(small: Captioner) -> None:
    with torch.no_grad():
        small.word.bias[END] = -100
    (text,) = small.caption(torch.zeros(1, 3, 16, 16))
    assert len(split(text)) == 8


@torch.no_grad()
def test_half_precision_of_the_encoder(small: Captioner) -> None:
    images, tokens = torch.rand(2, 3, 16, 16), small.tokenize(["a face", "red"])
    exact = small(small.encode(images), tokens).words
    with torch.autocast("cpu", torch.bfloat16):
        rough = small(small.encode(images), tokens).words
    assert rough.dtype == torch.float32 and torch.allclose(exact, rough, rtol=0.05)


@torch.no_grad()
def test_saved_and_loaded(small: Captioner, tmp_path: Path) -> None:
    small.save_pretrained(tmp_path)
    loaded = Captioner.from_pretrained(tmp_path)
    images, texts = torch.rand(2, 3, 16, 16), ["a face", "zebra hair"]
    tokens = loaded.tokenize(texts)
    assert torch.equal(tokens, small.tokenize(texts))
    assert torch.equal(
        loaded(loaded.encode(images), tokens).words, small(small.encode(images), tokens).words
    )


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        captioner = Captioner([f"w{i}" for i in range(30_000)], **PAPER)
        features = captioner.encode(torch.zeros(1, 3, 224, 224))
    assert features.shape == (1, 196, 2048)
    assert captioner.cell.hidden_size == captioner.embedding.embedding_dim == 512
    assert captioner.word.out_features == 30_000 + 4 and captioner.config["max_words"] == 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocabulary": []}, "Got a vocabulary of 0 words"),
        ({"vocabulary": ["a", "a"]}, "of 2 words, 1 of them different"),
        ({"blocks": (1,)}, r"Got widths \(8, 16\) and blocks \(1,\); expected as many of both"),
        ({"widths": (8, 12)}, "multiples of 8"),
        ({"resolution": 20}, "resolution is 20; expected a multiple of 8"),
    ],
)
def test_sizes_that_do_not_fit(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Captioner(**{"vocabulary": WORDS, **SMALL, **changes})


def test_what_is_no_picture(small: Captioner) -> None:
    with pytest.raises(ValueError, match=r"Got images of shape \(3, 16, 16\); expected \[n, 3"):
        small.encode(torch.zeros(3, 16, 16))


# The recipe


@pytest.fixture(scope="module")
def train() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_captioner", RECIPE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_captioner"] = module  # dataclasses look up their module here
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small_sizes(train: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes train with the default sizes or the paper's; here they are small."""
    sizes = SMALL | {"resolution": 32, "max_words": 50}
    monkeypatch.setattr(train, "PAPER", sizes)
    monkeypatch.setattr(train, "PAPER_RESOLUTION", 32)
    monkeypatch.setattr(dataset, "_SHARD", 100)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    (folder / "cache.json").write_text(json.dumps({"resolution": 32}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_SHARD", 100)
        dataset._render_shard((str(folder), 0, 32))
    return folder


TINY = dict(
    paper=True, train_batch_size=4, captions_per_image=2, unseen=8, lr_warmup_steps=1,
    sample_steps=100, checkpointing_steps=10, lr_scheduler="constant",
)  # fmt: skip


@pytest.mark.usefixtures("small_sizes")
def test_the_recipe_resumes_and_describes(
    train: ModuleType, cache: Path, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    common = dict(TINY, cache=cache, pipeline=str(tiny_pipeline_folder))
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train.main(train.Config(output_dir=whole, max_train_steps=4, **common))
    train.main(train.Config(output_dir=parts, max_train_steps=2, **common))
    train.main(
        train.Config(output_dir=parts, max_train_steps=4, resume_from_checkpoint="latest", **common)
    )
    resumed = Captioner.from_pretrained(parts / "captioner").state_dict()
    unbroken = Captioner.from_pretrained(whole / "captioner").state_dict()
    assert all(torch.equal(value, unbroken[name]) for name, value in resumed.items())
    metrics = json.loads((whole / "captioner" / "metrics.json").read_text())
    assert metrics["images"] == 8 and 0 <= metrics["accuracy_on_samples"]["hat"] <= 1
    text = (whole / "captioner" / "README.md").read_text()
    assert f"{metrics['nats_per_word']:.3f} nats" in text and "16 pictures (drawn" in text
    assert (whole / "captioner" / "images" / "unseen.png").is_file()


@pytest.mark.usefixtures("small_sizes")
def test_the_recipe_reads_files(train: ModuleType, tmp_path: Path) -> None:
    export(tmp_path / "data", range(10), resolution=32)
    config = train.Config(
        data=tmp_path / "data",
        output_dir=tmp_path / "run",
        pipeline=None,
        max_train_steps=2,
        **TINY,
    )
    train.main(config)
    metrics = json.loads((tmp_path / "run" / "captioner" / "metrics.json").read_text())
    assert metrics["images"] == 2 and "accuracy_on_renders" not in metrics


def test_the_recipe_needs_data(train: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"Give --cache .* or --data"):
        train.main(train.Config(output_dir=tmp_path))


def test_what_a_captioner_that_knows_the_truth_would_read(
    train: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attribute test scores texts; a captioner that knows their truth is always right."""
    from stylegan_hub.models.captioner import Reconstruction
    from stylegan_hub.portraits.attributes import ATTRIBUTES, sample
    from stylegan_hub.portraits.captions import Caption, truth

    portraits = sample(range(40))
    told: list[Caption] = []
    describe = train.describe

    def remembered(*given: object, **named: object) -> Caption:
        told.append(describe(*given, **named))
        return told[-1]

    monkeypatch.setattr(train, "describe", remembered)

    class Oracle:
        def tokenize(self, texts: list[str]) -> torch.Tensor:
            by_text = {caption.text: index for index, caption in enumerate(told)}
            return torch.tensor([[by_text[text]] for text in texts])

        def __call__(self, features: torch.Tensor, tokens: torch.Tensor) -> Reconstruction:
            fits = truth([told[int(tokens[0, 0])]], portraits)[0].float()
            return Reconstruction(-fits, fits)

    read = train.read_attributes(Oracle(), torch.zeros(40, 1, 1))
    shown = portraits.labels["hair_style"] > 0
    for name in ATTRIBUTES:
        same = read[name] == portraits.labels[name]
        assert same[shown].all(), name
