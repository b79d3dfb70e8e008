"""Text-to-face: its formulas, its artifact, its use in a pipeline, and its measurements."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from accelerate.state import AcceleratorState
from foreign import with_tensor
from test_recipes import recipe
from torch.distributions import Independent, Normal
from torch.distributions import kl_divergence as exact_kl
from torch.nn import functional as F

from stylegan_hub import artifacts, names
from stylegan_hub.artifacts import ClipModel, write_folder
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MethodError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.metrics.text_to_face import (
    UnseenCaptions,
    agreement,
    measure_text_to_face,
    pictures_of,
    stated_values,
    table,
    variety,
)
from stylegan_hub.models.captioner import Captioner, split
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits import dataset
from stylegan_hub.portraits.attributes import ATTRIBUTES, sample
from stylegan_hub.portraits.captions import Caption
from stylegan_hub.portraits.dataset import UNSEEN_SEED, export
from stylegan_hub.portraits.reader import AttributeReader, Reading
from stylegan_hub.portraits.renderer import render
from stylegan_hub.steps import Cancelled, Step
from stylegan_hub.text_to_face import (
    PAPER_SIZES,
    PUBLISHED,
    Objective,
    Pool,
    Settings,
    TextToFace,
    bundled_text_to_face,
    draw_matches,
    draw_pool,
    kl_divergence,
    load_text_to_face,
    matching_loss,
    principal_axes,
)

RECIPES = Path(__file__).parent.parent / "recipes"
TEXT = "a face with purple hair"
# The tiny CLIP reads 22 tokens, and spells out most of the words.
LONG_TEXTS = pytest.mark.filterwarnings("ignore:The text .* tokens and this CLIP reads")


@pytest.fixture
def pipe(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """The tiny pipeline, without anything that another test loaded."""
    tiny_pipeline.text_to_face = None
    return tiny_pipeline


def new_network(pipe: StyleEditPipeline, learned: bool = True, **options: object) -> TextToFace:
    """An untrained network, or one with random weights in which the text matters."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = TextToFace.for_pipeline(pipe, **options)
        if learned:
            for parameter in (*network.condition.parameters(), network.skew):
                torch.nn.init.normal_(parameter, std=0.1)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = "a face with purple hair mohawk glasses beard curly hat old smiling".split()
        return Captioner(
            words, resolution=32, widths=(8, 16), blocks=(1, 1), feature_dim=12, embedding_dim=8,
            hidden_dim=12, attention_dim=6,
        ).eval().requires_grad_(False)  # fmt: skip


# Formulas


def test_before_training_faces_are_random_faces(pipe: StyleEditPipeline) -> None:
    pipe.text_to_face = new_network(pipe, learned=False)
    drawn = pipe.from_text(TEXT, [4, 7], truncation_psi=0.6, candidates=1).latents
    assert torch.allclose(drawn.codes, pipe.sample([4, 7], 0.6).codes, atol=1e-5)


@torch.no_grad()
def test_divergence_is_that_of_the_gaussians(pipe: StyleEditPipeline) -> None:
    network = new_network(pipe)
    mean, log_variance = network.distribution(pipe.encode_text([TEXT, "a hat"]))
    assert mean.abs().max() > 0.1
    own = Independent(Normal(mean, (0.5 * log_variance).exp()), 1)
    standard = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    assert torch.allclose(kl_divergence(mean, log_variance), exact_kl(own, standard), atol=1e-5)


@torch.no_grad()
def test_the_frame_is_orthogonal_and_turns_the_gaussian(pipe: StyleEditPipeline) -> None:
    network = new_network(pipe)
    frame = network.frame()
    assert torch.allclose(frame @ frame.T, torch.eye(16), atol=1e-5)
    assert (frame - torch.eye(16)).abs().max() > 0.1
    text, noise = pipe.encode_text(TEXT), torch.randn(1, 16)
    mean, log_variance = network.distribution(text)
    z = (mean + (0.5 * log_variance).exp() * noise) @ frame
    assert torch.allclose(network(text, noise), network.mapping.w(z), atol=1e-6)
    assert torch.equal(new_network(pipe, frame=False).frame(), torch.eye(16))


def test_what_the_mapping_starts_as(pipe: StyleEditPipeline) -> None:
    z = torch.randn(3, 16)
    own = pipe.generator.mapping.w(z)
    assert torch.equal(new_network(pipe).mapping.w(z), own)
    assert not torch.allclose(new_network(pipe, mapping="scratch").mapping.w(z), own, atol=0.1)


def test_sizes_of_the_paper() -> None:
    base = artifacts.BaseModel("ffhq", "0" * 16, 18, 512, 9088, 1024)
    network = TextToFace(PAPER_SIZES, base, ClipModel("clip", "1" * 16))
    w = network(torch.zeros(2, 512), torch.zeros(2, 512))
    assert w.shape == (2, 512) and network.mapping.num_layers == 8
    shapes = [list(value.shape) for value in network.condition.parameters()]
    assert shapes == [[1024, 512], [1024]] and network.skew.numel() == 0
    assert (PUBLISHED.kl_lambda, PUBLISHED.reconstruction_lambda) == (1, 5)
    assert (PUBLISHED.attention_lambda, PUBLISHED.clip_lambda) == (1, 0)


def test_a_generator_with_labels_is_refused(pipe: StyleEditPipeline) -> None:
    generator = StyleGAN2Generator(16, 2, 16, 32, channels=[8, 8, 8, 8], num_mapping_layers=2)
    labeled = StyleEditPipeline(generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    with pytest.raises(MethodError) as error:
        TextToFace.for_pipeline(labeled)
    assert error.value.got == 2 and error.value.remedy


# The warm start


@torch.no_grad()
def test_matching_is_the_likelihood_of_what_clip_means(pipe: StyleEditPipeline) -> None:
    network, pool = new_network(pipe), draw_pool(pipe, 50, seed=1, batch_size=16)
    assert torch.allclose(pool.z.square().mean(1), torch.ones(50), atol=1e-5)
    text = pipe.encode_text([TEXT, "a hat"])
    weight = (pipe.clip.logit_scale.exp() * text @ pool.images.T).softmax(1)
    matches = draw_matches(text, pool, 20_000, torch.Generator().manual_seed(0))
    effective = 1 / weight.square().sum(1)
    assert torch.allclose(matches.reliability, effective / (effective + 100), rtol=1e-4)

    mean, log_variance = network.distribution(text)
    z = (pool.z @ network.frame().T)[None]
    own = Normal(mean[:, None], (0.5 * log_variance).exp()[:, None]).log_prob(z).exp()
    anybody = Normal(0.0, 1.0).log_prob(z).exp()
    likelihood = (0.85 * own / anybody + 0.15).log().sum(2)  # [texts, samples]
    expected = -(weight * likelihood).sum(1) * matches.reliability
    assert torch.allclose(matching_loss(network, text, matches), expected, rtol=0.02)
    silent = new_network(pipe, learned=False)
    assert torch.allclose(matching_loss(silent, text, matches), torch.zeros(2), atol=1e-4)


def test_the_pool_shows_what_the_generator_draws(pipe: StyleEditPipeline) -> None:
    pool = draw_pool(pipe, 5, batch_size=2)
    drawn = pipe.synthesize(pipe.lower(Latents(Space.Z, pool.z[3:4]), "w_plus")).clamp(-1, 1)
    assert torch.allclose(pool.images[3:4], pipe.encode_image(drawn), atol=1e-4)


def test_the_warm_start_finds_what_a_text_means(pipe: StyleEditPipeline) -> None:
    """Two texts say that z lies on one or the other side of an oblique direction."""
    draw = torch.Generator().manual_seed(0)
    z = F.normalize(torch.randn(600, 16, generator=draw), dim=1) * 4
    axis = F.normalize(torch.randn(16, generator=draw), dim=0)
    text = pipe.encode_text(["a face with a mohawk", "an old person with glasses"])
    side = (z @ axis > 0.8).long()
    pool = Pool(z, text[side], scale=200.0)
    axes = principal_axes(text, pool)
    assert torch.allclose(axes @ axes.T, torch.eye(16), atol=1e-5)
    assert abs(axes[0] @ axis) > 0.95
    network = new_network(pipe, learned=False, hidden=32).requires_grad_(True)
    network.axes.copy_(axes.roll(3, 0))
    optimizer = torch.optim.Adam([*network.condition.parameters(), network.skew], lr=0.02)
    for _ in range(70):
        loss = matching_loss(network, text, draw_matches(text, pool, 64, draw)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        mean, log_variance = network.distribution(text)
        noise = torch.randn(2, 500, 16, generator=draw)
        drawn = mean[:, None] + (0.5 * log_variance).exp()[:, None] * noise
        above = (drawn @ network.frame() @ axis > 0.8).float().mean(1)
        spread = (drawn @ network.frame()).std(1)
    assert above[1] > 0.7 and above[0] < 0.3  # 0.21 without words
    # What the texts do not mention stays free: the other 15 directions.
    assert spread.square().sum(1).min() > 13


# The objective


def test_parts_of_the_loss(pipe: StyleEditPipeline, captioner: Captioner) -> None:
    network = new_network(pipe).requires_grad_(True)
    settings = Settings(views=2)
    texts = [TEXT, "a smiling face with a hat"]
    losses = Objective(pipe, captioner, settings)(network, texts, torch.Generator().manual_seed(1))
    reconstruction = losses["words"] + 0.1 * losses["attention"]
    total = losses["kl"] + 5 * reconstruction + 4 * losses["clip"]
    assert torch.allclose(losses["loss"], total) and losses["kl"] > 0
    noise = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        w = network(pipe.encode_text(texts), noise)
        drawn = pipe.synthesize(pipe.lower(Latents(Space.W, w), "w_plus"))
        told = captioner(captioner.encode(drawn), captioner.tokenize(texts))
    count = sum(len(split(text)) + 1 for text in texts)  # each ends with a token
    assert torch.allclose(losses["words"], told.words.sum() / count, rtol=1e-4)
    places = captioner.encode(drawn).shape[1]
    assert torch.allclose(losses["attention"], told.attention.mean() / places, rtol=1e-4)
    nats = kl_divergence(*network.distribution(pipe.encode_text(texts).float()))
    assert torch.allclose(losses["kl"], nats.mean() / 16, rtol=1e-4)
    losses["loss"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(p.grad is None for part in (pipe.generator, pipe.clip) for p in part.parameters())


def test_without_reconstruction_no_captioner_is_needed(pipe: StyleEditPipeline) -> None:
    objective = Objective(pipe, None, Settings(reconstruction_lambda=0))
    losses = objective(new_network(pipe), [TEXT], torch.Generator().manual_seed(0))
    assert set(losses) == {"loss", "kl", "clip"}
    with pytest.raises(MethodError) as error:
        Objective(pipe, None)
    assert error.value.expected == "a captioner" and "train_captioner" in error.value.remedy


def test_training_through_the_generator_lowers_the_loss(
    pipe: StyleEditPipeline, captioner: Captioner
) -> None:
    network = TextToFace.for_pipeline(pipe, hidden=16).requires_grad_(True)
    objective = Objective(pipe, captioner, Settings(views=0))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)

    def loss() -> torch.Tensor:
        # Always the same noise, so that the losses can be compared.
        return objective(network, [TEXT] * 8, torch.Generator().manual_seed(0))["loss"]

    before = loss().item()
    for _ in range(10):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert loss().item() < before - 0.2


# The artifact


def test_saved_and_loaded(pipe: StyleEditPipeline, tmp_path: Path) -> None:
    network = new_network(pipe).half().float()
    network.training_record["captions"] = "ten"
    network.save_pretrained(tmp_path / "network")
    loaded = load_text_to_face(tmp_path / "network")
    text, noise = pipe.encode_text(TEXT), torch.randn(1, 16)
    assert torch.equal(loaded(text, noise), network(text, noise))
    assert loaded.sizes == network.sizes and loaded.base_model == pipe.base_model
    assert loaded.training_record == {"captions": "ten"} and not loaded.skew.requires_grad
    size = (tmp_path / "network" / "model.safetensors").stat().st_size
    assert size < 2.2 * sum(value.numel() for value in network.state_dict().values()) + 4000


def test_another_generator_or_clip_is_refused(
    pipe: StyleEditPipeline, other_pipeline: StyleEditPipeline
) -> None:
    pipe.text_to_face = new_network(other_pipeline)
    fingerprints = (other_pipeline.base_model.fingerprint, pipe.base_model.fingerprint)
    with pytest.raises(MismatchError, match=f"text-to-face network.*{'.*'.join(fingerprints)}"):
        pipe.from_text(TEXT)
    network = new_network(pipe)
    network.clip = replace(network.clip, fingerprint="0" * 16)
    pipe.text_to_face = network
    with pytest.raises(MismatchError, match=r"fingerprint 0000000000000000.*Load the pipeline it"):
        pipe.from_text(TEXT)
    with pytest.raises(ValueError, match="Got w_dim 8; expected 16"):
        TextToFace(replace(network.sizes, w_dim=8), network.base_model, network.clip)


def test_folders_that_are_unsound(pipe: StyleEditPipeline, tmp_path: Path) -> None:
    network = new_network(pipe)
    folder = network.save_pretrained(tmp_path / "network")
    config, tensors = artifacts.read_folder(folder)
    for name, changes, message in (
        ("huge", {"sizes": {**config["sizes"], "hidden": 10**9}}, "is not a valid text_to_face"),
        (
            "unknown",
            {"sizes": {**config["sizes"], "depth": 3}},
            "is not a valid text_to_face: .*depth",
        ),
        ("clip", {"clip": {}}, "is not a valid text_to_face"),
    ):
        write_folder(tmp_path / name, {**config, **changes}, tensors)
        with pytest.raises(ArtifactError, match=message):
            load_text_to_face(tmp_path / name)
    write_folder(tmp_path / "nan", config, tensors)
    with_tensor(tmp_path / "nan", "skew", tensors["skew"] * float("nan"))
    with pytest.raises(ArtifactError, match="tensor 'skew' holds numbers that are not finite"):
        load_text_to_face(tmp_path / "nan")
    edit = Direction(torch.zeros(pipe.generator.num_ws, 16), "w_plus", pipe.base_model)
    edit.save_pretrained(tmp_path / "edit")
    with pytest.raises(ArtifactError, match=r"text_to_face; got: edit"):
        load_text_to_face(tmp_path / "edit")
    with pytest.raises(NotFoundError, match="Found nothing under"):
        load_text_to_face("no such name")


def test_the_bundled_one_is_found_by_the_generator(
    pipe: StyleEditPipeline, other_pipeline: StyleEditPipeline, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("STYLEGAN_HUB_CARDS", str(tmp_path))
    new_network(other_pipeline).save_pretrained(tmp_path / "a-text-to-face")
    with pytest.raises(NotFoundError) as error:
        pipe.from_text(TEXT)
    assert error.value.got == pipe.base_model.fingerprint
    assert "train_text_to_face" in error.value.remedy
    network = new_network(pipe).half().float()
    network.save_pretrained(tmp_path / "text-to-face")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{}")
    drawn = pipe.from_text(TEXT, 3, candidates=1).latents
    pipe.text_to_face = network
    assert torch.equal(drawn.codes, pipe.from_text(TEXT, 3, candidates=1).latents.codes)
    assert torch.equal(bundled_text_to_face(pipe).skew, network.skew)


# from_text


def test_seeds_and_truncation(pipe: StyleEditPipeline) -> None:
    pipe.text_to_face = new_network(pipe)
    out = pipe.from_text(TEXT, seeds=[1, 2, 1])
    codes = out.latents.codes
    assert len(out.images) == 3 and out.images[0].size == (32, 32)
    assert out.latents.space is Space.W_PLUS and codes.shape == (3, pipe.generator.num_ws, 16)
    assert torch.equal(codes[0], codes[2]) and not torch.allclose(codes[0], codes[1], atol=0.01)
    assert not torch.allclose(pipe.from_text("a hat", 1).latents.codes, codes[:1], atol=1e-3)
    average = pipe.from_text(TEXT, 1, truncation_psi=0).latents.codes
    assert torch.allclose(average, pipe.mean_latent().codes, atol=1e-6)


def test_the_best_candidate_is_kept(pipe: StyleEditPipeline) -> None:
    pipe.text_to_face = new_network(pipe)
    text = pipe.encode_text(TEXT)[0]

    def similarity(candidates: int) -> torch.Tensor:
        latents = pipe.from_text(TEXT, range(4), 1.0, candidates).latents
        return pipe.encode_image(pipe.synthesize(latents).clamp(-1, 1)) @ text

    one, best = similarity(1), similarity(6)
    assert (best >= one - 1e-5).all() and (best > one + 1e-4).any()


def test_every_face_is_a_step(pipe: StyleEditPipeline) -> None:
    pipe.text_to_face = new_network(pipe)
    steps: list[Step] = []
    out = pipe.from_text(TEXT, [3, 4], candidates=2, on_step=steps.append)
    assert [(step.index, step.total) for step in steps] == [(1, 2), (2, 2)]
    for step, latents in zip(steps, out.latents, strict=True):
        assert step.note.startswith("similarity ") and step.images is not None
        torch.testing.assert_close(step.images, pipe.synthesize(latents), atol=1e-4, rtol=1e-4)

    def stop(step: Step) -> None:
        assert step.index == 1 and step.images is None
        raise Cancelled

    with pytest.raises(Cancelled):
        pipe.from_text(TEXT, [3, 4], candidates=1, on_step=stop)


def test_faces_from_text_take_edits(pipe: StyleEditPipeline) -> None:
    pipe.text_to_face = new_network(pipe)
    vector = torch.randn(pipe.generator.num_ws, 16)
    edit = Direction(vector, "w_plus", pipe.base_model)
    out = pipe.from_text(TEXT, [5])
    edited = pipe(latents=out.latents, edits=[(edit, 0.5)])
    assert torch.allclose(edited.latents.codes, out.latents.codes + 0.5 * vector, atol=1e-5)
    assert pipe(latents=out.latents).images[0].tobytes() == out.images[0].tobytes()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"text": " "}, "Got no words"),
        ({"text": "hat " * 100}, "Got 100 words, 100 tokens; this CLIP reads 22 tokens"),
        ({"seeds": []}, "Got no seed; expected one or several"),
        ({"seeds": [-1]}, "Got seed -1; seeds are integers from 0"),
        ({"seeds": [True]}, "Got seed True"),
        ({"candidates": 0}, "Got 0 candidates; expected 1 or more"),
    ],
)
def test_wrong_arguments(pipe: StyleEditPipeline, given: dict[str, object], message: str) -> None:
    pipe.text_to_face = new_network(pipe)
    with pytest.raises(ValueError, match=message):
        pipe.from_text(**{"text": TEXT, **given})  # type: ignore[arg-type]


def test_embeddings_of_another_size(pipe: StyleEditPipeline) -> None:
    with pytest.raises(
        ValueError, match=r"Got text embeddings of shape \[1, 8\]; expected \[n, 16"
    ):
        new_network(pipe)(torch.zeros(1, 8), torch.zeros(1, 16))


# Measuring


def reading_of(people: list[dict[str, str]]) -> Reading:
    """The answers of a reader that sees these values, and otherwise the first ones."""
    labels = {
        name: torch.tensor([values.index(p.get(name, values[0])) for p in people])
        for name, values in ATTRIBUTES.items()
    }
    probabilities = {
        name: F.one_hot(labels[name], len(values)).float() for name, values in ATTRIBUTES.items()
    }
    return Reading(ATTRIBUTES, probabilities, labels)


def fact(**values: str) -> Caption:
    return Caption("text", {name: frozenset(value.split("|")) for name, value in values.items()})


def test_agreement_counts_statements() -> None:
    captions = [fact(hat="yes", glasses="no"), fact(hair_color="red|grey"), fact(), fact(hat="yes")]
    seen = reading_of([{"hat": "yes", "glasses": "yes"}, {"hair_color": "grey"}, {}, {}])
    found = agreement(captions, seen)
    assert found["statements"] == 2 / 4 and found["whole_captions"] == 1 / 3
    assert found["described"] == found["statements"]
    named = agreement([*captions[:1], fact(character="Ivy")], seen.of([0, 0]))
    assert named["described"] == 1 / 2 and named["statements"] != 1 / 2
    assert found["attributes"] == {
        "hat": {"share": 0.5, "count": 2},
        "glasses": {"share": 0.0, "count": 1},
        "hair_color": {"share": 1.0, "count": 1},
    }
    with pytest.raises(ValueError, match="Got 3 captions for 4 pictures"):
        agreement(captions[:3], seen)
    with pytest.raises(ValueError, match="Got no caption that states an attribute"):
        agreement([fact()], reading_of([{}]))


def test_a_name_states_what_is_known_of_it() -> None:
    stated = stated_values(Caption("Zuri without lipstick", {
        "character": frozenset({"Zuri"}), "lipstick": frozenset({"no"}),
    }))  # fmt: skip
    assert stated["hair_style"] == {"afro"} and stated["lipstick"] == {"no"}
    assert "expression" not in stated


def test_variety_looks_at_what_is_not_said(reader: AttributeReader) -> None:
    images = torch.zeros(1, 3, 3, 32, 32)
    images[0, 2] = 1
    people = [{"hat": "yes"}, {"hat": "no"}, {"hat": "no", "skin": "dark"}]
    found = variety(reader, [fact(hat="yes")], images, reading_of(people))
    # Of 18 unspoken attributes one differs, in two of three pairs.
    assert found["unspoken"] == pytest.approx(2 / 54)
    assert found["distance"] > 0
    same = variety(reader, [fact(hat="yes")], images[:, :2], reading_of(people[:2]))
    assert same == {"distance": 0, "unspoken": 0}
    with pytest.raises(ValueError, match="Got 1 seed; give at least two"):
        variety(reader, [fact(hat="yes")], images[:, :1], reading_of(people[:1]))


@pytest.fixture(scope="module")
def reader() -> AttributeReader:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AttributeReader(
            resolution=32, channels=(8, 8, 8), blocks=(1, 1, 1), last_channels=4, hidden_size=8
        ).eval()


@pytest.fixture(scope="module")
def unseen() -> UnseenCaptions:
    return UnseenCaptions.draw(6, 32)


def test_unseen_captions_belong_to_unseen_portraits(unseen: UnseenCaptions) -> None:
    assert len(unseen.captions) == 6 and all(caption.facts for caption in unseen.captions)
    assert unseen.portraits.shape == (6, 3, 32, 32)
    assert torch.allclose(unseen.portraits[:1], render(sample([UNSEEN_SEED]), 32), atol=1e-5)
    again = UnseenCaptions.draw(4, 32)
    assert again.captions == unseen.captions[:4]


def test_a_method_that_draws_the_portraits_is_perfect(
    reader: AttributeReader, unseen: UnseenCaptions
) -> None:
    pictures = {c.text: p for c, p in zip(unseen.captions, unseen.portraits, strict=True)}

    def draw(text: str, seeds: object) -> torch.Tensor:
        return pictures[text][None].expand(2, -1, -1, -1)

    found = measure_text_to_face(draw, reader, unseen.captions, unseen.portraits, 2)
    assert found["perceptual_distance"] == pytest.approx(0, abs=1e-6)
    assert found["distance"] == found["unspoken"] == 0 and found["seconds"] > 0
    text = table({"perfect": found, "again": found})
    assert text.startswith("| | perfect | again |")
    assert "| seconds a face |" in text and "perceptual distance to the caption" in text


# The recipes


@pytest.fixture(scope="module")
def train() -> ModuleType:
    return recipe("train_text_to_face")


@pytest.fixture(scope="module")
def parts(
    captioner: Captioner, reader: AttributeReader, tiny_pipeline_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, object]:  # fmt: skip
    """Everything that the recipe needs, in small: a cache, a captioner, a reader and a pipeline."""
    folder = tmp_path_factory.mktemp("parts")
    captioner.save_pretrained(folder / "captioner")
    reader.save_pretrained(folder / "reader")
    (folder / "cache").mkdir()
    (folder / "cache" / "cache.json").write_text(json.dumps({"resolution": 32}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "_SHARD", 100)
        dataset._render_shard((str(folder / "cache"), 0, 32))
    return dict(
        cache=folder / "cache", captioner=str(folder / "captioner"), reader=str(folder / "reader"),
        pipeline=str(tiny_pipeline_folder), hidden=16, captions=6, seeds=2, train_batch_size=2,
        warm_start_samples=32, warm_start_captions=20, warm_start_steps=3, warm_start_batch_size=4,
        lr_warmup_steps=1, lr_scheduler="constant",
    )  # fmt: skip


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_SHARD", 100)


@pytest.mark.slow
@LONG_TEXTS
@pytest.mark.usefixtures("small_shards", "short_searches")
def test_the_recipe_trains_resumes_and_measures(
    train: ModuleType, parts: dict[str, object], pipe: StyleEditPipeline, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train.main(train.Config(output_dir=whole, max_train_steps=3, **parts))
    train.main(train.Config(output_dir=cut, max_train_steps=1, **parts))
    train.main(
        train.Config(output_dir=cut, max_train_steps=3, resume_from_checkpoint="latest", **parts)
    )
    network = load_text_to_face(whole)
    resumed = load_text_to_face(cut).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in network.state_dict().items())
    # A frozen mapping network stays the generator's, up to half precision.
    own = pipe.generator.mapping.state_dict()
    for name, value in network.mapping.state_dict().items():
        assert torch.allclose(value, own[name], rtol=1e-3, atol=1e-3)
    assert network.condition[-1].weight.abs().sum() > 0
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["images"] == 12 and metrics["captions"] == 6
    assert metrics["random_faces"]["attributes"].keys() == metrics["attributes"].keys()
    assert (whole / "images" / "captions.webp").is_file() and (whole / "README.md").is_file()
    lines = (whole / "training.log").read_text().splitlines()
    assert {"kl", "words", "attention", "clip", "loss"} <= json.loads(lines[-1]).keys()

    evaluate = recipe("evaluate_text_to_face")
    evaluate.main(
        evaluate.Config(
            folder=str(whole), other=(f"ablation={cut}",), output_dir=tmp_path / "compared",
            pipeline=str(parts["pipeline"]), reader=str(parts["reader"]),
            optimization=True, optimization_captions=2,
        )
    )  # fmt: skip
    again = json.loads((whole / "metrics.json").read_text())
    for part in (metrics, metrics["random_faces"], again, again["random_faces"]):
        part.pop("seconds")
    assert again == metrics
    compared = json.loads((tmp_path / "compared" / "metrics.json").read_text())["methods"]
    assert list(compared) == [
        "random faces", "text-to-face", "a single sample", "ablation", "latent optimization",
    ]  # fmt: skip
    assert compared["latent optimization"]["captions"] == 2
    stated = compared["a single sample"]["statements"]
    assert compared["ablation"]["statements"] == pytest.approx(stated, abs=1e-3)
    assert metrics["candidates"] == 8
    assert "a single sample" in (tmp_path / "compared" / "table.md").read_text()


@LONG_TEXTS
@pytest.mark.usefixtures("small_shards")
def test_the_recipe_as_published_from_files(
    train: ModuleType, parts: dict[str, object], tmp_path: Path
) -> None:
    export(tmp_path / "data", range(6), resolution=32)
    given = dict(parts, cache=None, data=tmp_path / "data", captions=0)
    train.main(
        train.Config(
            output_dir=tmp_path / "run", max_train_steps=1, published=True, optimizer="sgd",
            mapping="scratch", learning_rate=1e-4, **{**given, "hidden": 0},
        )
    )  # fmt: skip
    network = load_text_to_face(tmp_path / "run")
    assert network.sizes.hidden == 0 and not network.sizes.frame
    assert network.training_record["clip_lambda"] == 0
    assert not (tmp_path / "run" / "warm-start").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """A process has one precision, and other tests have already set theirs."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@LONG_TEXTS
@pytest.mark.usefixtures("small_shards", "fresh_accelerator")
def test_the_recipe_in_half_precision(
    train: ModuleType, parts: dict[str, object], tmp_path: Path
) -> None:
    config = train.Config(
        output_dir=tmp_path / "run", max_train_steps=1, mixed_precision="bf16",
        **{**parts, "captions": 0},
    )  # fmt: skip
    train.main(config)
    record = load_text_to_face(tmp_path / "run").training_record
    assert record["mixed_precision"] == "bf16" and record["warm_start_samples"] == 32


def test_the_recipes_say_what_they_need(
    train: ModuleType, parts: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match=r"Give --cache .* or --data"):
        train.main(train.Config(output_dir=tmp_path))
    with pytest.raises(SystemExit, match="--push_to_hub needs --hub_model_id"):
        train.main(train.Config(output_dir=tmp_path, push_to_hub=True))
    with pytest.raises(SystemExit, match="needs a captioner"):
        train.load_captioner(train.Config(output_dir=tmp_path, captioner=None))
    evaluate = recipe("evaluate_text_to_face")
    with pytest.raises(SystemExit, match="A comparison needs --output_dir"):
        evaluate.main(evaluate.Config(folder="x", optimization=True))


@pytest.mark.slow
def test_the_bundled_network_keeps_its_promise() -> None:
    """What captions state appears, and other seeds give other faces that fit as well."""
    pipe = StyleEditPipeline.from_pretrained("portraits")
    judge = AttributeReader.from_pretrained(names.resolve("attribute-reader", "model")).eval()
    captions = UnseenCaptions.draw(40, 128)

    def from_text(text: str, seeds: Sequence[int]) -> torch.Tensor:
        return pictures_of(pipe, pipe.from_text(text, seeds).latents)

    def anybody(text: str, seeds: Sequence[int]) -> torch.Tensor:
        return pictures_of(pipe, pipe.sample(list(seeds)))

    found, chance = (
        measure_text_to_face(draw, judge, captions.captions, captions.portraits, 3)
        for draw in (from_text, anybody)
    )
    assert found["statements"] > max(0.7, chance["statements"] + 0.3)
    assert found["unspoken"] > 0.6 * chance["unspoken"]
    assert found["distance"] > 0.5 * chance["distance"]
