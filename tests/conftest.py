"""Fixtures shared by the tests."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

# Before anything imports huggingface_hub: a name that is not bundled must not ask the internet.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# What renders is what is tested, and not what happens to be the fastest here.
os.environ.setdefault("STYLEGAN_HUB_RUNTIME", "pytorch")

import pytest
import torch

from stylegan_hub.methods.optimization import Optimization
from stylegan_hub.models.clip import build_clip, build_image_processor, train_tokenizer
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import resolve
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader

# Workers of pytest-xdist share the cores.
# Two processes that look for a free port at the same time could choose the same one.
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    os.environ["GRADIO_SERVER_PORT"] = str(7960 + 100 * int(worker.removeprefix("gw")))
if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // int(workers)))

DATA = Path(__file__).parent / "data"
GOLDEN = Path(__file__).resolve().parents[2] / "shared" / "golden"
CAPTIONS = [
    f"{subject} with {trait}"
    for subject in ("a face", "a smiling face", "an old person", "Milo")
    for trait in ("purple hair", "a mohawk", "glasses", "a beard", "curly hair", "a hat")
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test in the browser gets a second try, since a busy machine can make it miss a step.

    The summary counts those that needed it, and what fails twice fails.
    """
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(pytest.mark.flaky(reruns=1))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """A test draws the same numbers alone as after any others."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def no_event_loop_left() -> Iterator[None]:
    """Building a page sets an event loop, which would otherwise stay open until it is collected.

    Gradio does so wherever asyncio.run has run before (`gradio.utils.safe_get_lock`).
    """
    yield
    with warnings.catch_warnings(action="ignore"), suppress(RuntimeError):
        asyncio.get_event_loop().close()
        asyncio.set_event_loop(None)


@pytest.fixture
def short_searches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are searched for on few faces, where what surrounds a search is what is tested.

    Slow tests, which look at what is found, search as users do.
    """
    if request.node.get_closest_marker("slow") is None:
        usual = Optimization.presets["default"]
        short = replace(usual, shared_steps=4, shared_faces=2)
        monkeypatch.setitem(Optimization.presets, "default", short)


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of numbers made by the reference implementations, see its README.md."""
    return DATA


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder of files made by the reference implementations; it is no part of the project."""
    if not GOLDEN.is_dir():
        pytest.skip("The files of the reference implementations are not on this machine.")
    return GOLDEN


@pytest.fixture(scope="session")
def tables() -> list[Path]:
    """Folders with tables of the ops: ours, and the longer ones where they are."""
    return [DATA, *([GOLDEN] if GOLDEN.is_dir() else [])]


@pytest.fixture(scope="module")
def nothing_bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """So that the page's parts that list what is bundled have nothing to do."""
    folder = tmp_path_factory.mktemp("cards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STYLEGAN_HUB_CARDS", str(folder))
        yield
    gc.collect()


@pytest.fixture(scope="session")
def tiny_pipeline() -> StyleEditPipeline:
    """A pipeline of random weights, 32 px: it draws noise, but everything about it works."""
    return build_tiny_pipeline(seed=0)


@pytest.fixture(scope="session")
def portraits() -> StyleEditPipeline:
    """The bundled pipeline, loaded once; tests leave it as it is."""
    return StyleEditPipeline.from_pretrained("portraits")


@pytest.fixture(scope="session")
def attribute_reader() -> AttributeReader:
    """The bundled judge of portraits."""
    return AttributeReader.from_pretrained(resolve("attribute-reader", "model")).eval()


@pytest.fixture(scope="session")
def inverting_pipeline(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """`tiny_pipeline` with an encoder and a recognizer of random weights."""
    generator = tiny_pipeline.generator
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder(
            num_ws=generator.num_ws, w_dim=16, input_size=32, units=(1, 1, 1, 1),
            widths=(8, 8, 8, 8), head_width=4, reduction=4,
        )  # fmt: skip
        recognizer = Recognizer(
            units=(1, 1), widths=(8, 8), input_size=16, embedding_dim=8, crop=None, reduction=4
        )
    for head in encoder.styles:
        head.get_submodule("linear").get_parameter("weight").data.mul_(0.1)
    encoder.latent_avg.copy_(generator.mapping.w_avg.expand_as(encoder.latent_avg))
    clip = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    return StyleEditPipeline(generator, *clip, recognizer=recognizer, encoder=encoder)


@pytest.fixture(scope="session")
def house_pipeline(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    """A domain of 64 x 48 pixels that shows no faces, with an encoder of random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = StyleGAN2Generator(
            z_dim=16, w_dim=16, img_resolution=64, img_crop=(48, 64), channels=[8] * 5,
            num_mapping_layers=2,
        )  # fmt: skip
        encoder = Encoder(
            num_ws=generator.num_ws, w_dim=16, input_size=32, units=(1, 1, 1, 1),
            widths=(8, 8, 8, 8), head_width=4, reduction=4,
        )  # fmt: skip
    clip = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    return StyleEditPipeline(generator, *clip, encoder=encoder, neutral="a house")


@pytest.fixture(scope="session")
def other_pipeline() -> StyleEditPipeline:
    """Like `tiny_pipeline` and of the same sizes, with another generator."""
    return build_tiny_pipeline(seed=1)


@pytest.fixture(scope="session")
def tiny_pipeline_folder(
    tiny_pipeline: StyleEditPipeline, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`tiny_pipeline` as a folder; tests that damage it take a copy."""
    folder = tmp_path_factory.mktemp("pipelines") / "tiny"
    tiny_pipeline.save_pretrained(folder)
    return folder


def check_says_nothing_of(place: Path, folder: Path) -> None:
    """Fail if a file of a folder, or its name, says where something lies on this machine.

    Args:
        place: of the pipeline, or of another folder that went into it.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert bytes(place) not in path.read_bytes(), path
        assert str(place) not in str(path.relative_to(folder))


def build_tiny_pipeline(seed: int) -> StyleEditPipeline:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = StyleGAN2Generator(
            z_dim=16, w_dim=16, img_resolution=32, channels=[8, 8, 8, 8], num_mapping_layers=2
        )
        generator.update_w_avg(torch.randn(512, 16), beta=0)
        tokenizer = train_tokenizer(CAPTIONS, vocab_size=600, context_length=24)
        clip = build_clip(
            tokenizer,
            image_size=32,
            vision_width=32,
            vision_layers=1,
            text_width=32,
            text_layers=1,
            embedding_dim=16,
        )
    return StyleEditPipeline(generator, clip, tokenizer, build_image_processor(32))
