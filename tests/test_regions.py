"""Words lead to the part of the face that they mention, and edits can be limited to it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.latents import Latents
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.parser import FACE_PARTS, Parser
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.renderer import PARTS
from stylegan_hub.regions.feature_maps import convolutions, draw_over, draw_with_features
from stylegan_hub.regions.find import Region, find_region, named_region, regions_of
from stylegan_hub.regions.join import draw_within
from stylegan_hub.regions.mask import region_mask, soft_mask

LEFT = Region("left side", ("left side",), "your choice")


class SidesParser(Parser):
    """Sees a left and a right side, whatever the picture shows."""

    def __init__(self) -> None:
        super().__init__(
            parts=("background", "hair", "eyes", "glasses", "left side", "right side"),
            width=4, input_size=32, stem_stride=1,
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        n, _, height, width = images.shape
        logits = torch.full((n, 6, height, width), -20.0)
        logits[:, 4, :, : width // 2] = 20.0
        logits[:, 5, :, width // 2 :] = 20.0
        return logits


def with_parts(pipe: StyleEditPipeline, parser: Parser) -> StyleEditPipeline:
    return StyleEditPipeline(**{**pipe.components, "parser": parser})


def small_parser(parts: tuple[str, ...]) -> Parser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Parser(parts=parts, width=4, input_size=32, stem_stride=1)


@pytest.fixture(scope="session")
def parsing_pipeline(tiny_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    return with_parts(tiny_pipeline, SidesParser())


@pytest.fixture(scope="module")
def portraits() -> StyleEditPipeline:
    """The bundled portraits and a parser that knows the names of their parts."""
    pipe = StyleEditPipeline.from_pretrained("portraits")
    return with_parts(pipe, small_parser(PARTS))


def step(pipe: StyleEditPipeline, size: float = 2.0) -> Direction:
    base = pipe.base_model
    vector = torch.randn(base.num_ws, base.w_dim, generator=torch.Generator().manual_seed(0))
    return Direction(size * vector, "w_plus", base)


# From words to parts


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a person with curly hair", "hair"),
        ("a person with an afro", "hair"),
        ("a bald man", "hair"),
        ("a face with a bob cut", "hair"),
        ("a face with an open mouth", "mouth"),
        ("a happy face", "mouth"),
        ("red lipstick", "mouth"),
        ("blue eyes", "eyes"),
        ("EYES!", "eyes"),
        ("eyeglasses", "glasses"),
        ("a person with glasses", "glasses"),
        ("thick eyebrows", "brows"),
        ("a face with facial hair", "beard"),
        ("a face with a moustache", "beard"),
        ("large ears", "ears"),
        ("a person with dark skin", "skin"),
        ("an angry face", "expression"),
        ("an old face", "face"),
        ("a face before a green background", "background"),
        ("a face in a yellow shirt", "clothes"),
        ("a face with a cap", "hat"),
    ],
)
def test_words_and_their_region(portraits: StyleEditPipeline, prompt: str, name: str) -> None:
    region = find_region(portraits, prompt)
    assert region.name == name, str(region)
    assert set(region.parts) <= set(PARTS) and region.parts
    assert "word" in region.reason or "CLIP" in region.reason


def test_eyes_are_not_eyeglasses(portraits: StyleEditPipeline) -> None:
    assert find_region(portraits, "a face with big eyes").parts == ("eyes",)
    assert find_region(portraits, "a face with eyeglasses").parts == ("glasses",)
    faces = with_parts(portraits, small_parser(FACE_PARTS))
    assert find_region(faces, "green eyes").parts == ("left eye", "right eye")
    assert find_region(faces, "eyeglasses").parts == ("eyeglasses",)
    assert find_region(faces, "a red lip").parts == ("mouth", "upper lip", "lower lip")


def test_clip_decides_between_two_parts_that_are_named(portraits: StyleEditPipeline) -> None:
    region = find_region(portraits, "a face with blonde hair and eyes")
    assert region.name == "hair" and "CLIP" in region.reason


@pytest.mark.parametrize("prompt", ["a truck on a road", "an alien spaceship", "a face", "fjord"])
def test_words_about_no_part(portraits: StyleEditPipeline, prompt: str) -> None:
    with pytest.raises(
        ValueError, match=rf"no part of the face for the words '{prompt}'.*hair.*background"
    ):
        find_region(portraits, prompt)


def test_regions_by_name(portraits: StyleEditPipeline) -> None:
    assert named_region(portraits, "mouth").parts == ("mouth", "lips")
    both = named_region(portraits, "hair, hat")
    assert (both.name, both.parts, both.reason) == ("hair, hat", ("hair", "hat"), "your choice")
    assert str(both) == "hair, hat (hair, hat; your choice)"
    assert named_region(portraits, "lips").parts == ("lips",)
    assert "necklace" not in regions_of(portraits.parser)
    for name in ("tail", "hair, tail"):
        with pytest.raises(ValueError, match=r"'tail'; .*hair, hat"):
            named_region(portraits, name)
    with pytest.raises(ValueError, match="Unknown region ''"):
        named_region(portraits, "")


def test_a_pipeline_without_a_parser(tiny_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match=r"no parser.*recipes/train_parser.py"):
        find_region(tiny_pipeline, "curly hair")
    with pytest.raises(ValueError, match=r"no parser"):
        tiny_pipeline(seed=1, region="hair")


# Masks and pictures


def test_masks_add_up(parsing_pipeline: StyleEditPipeline) -> None:
    images = torch.zeros(2, 3, 32, 32)
    left = region_mask(parsing_pipeline, images, LEFT)
    assert (
        left.shape == (2, 1, 32, 32) and left[..., :16].min() > 0.99 > 0.01 > left[..., 16:].max()
    )
    both = region_mask(
        parsing_pipeline, images, named_region(parsing_pipeline, "left side, right side")
    )
    assert torch.allclose(both, torch.ones_like(both))


def test_borders_are_soft(parsing_pipeline: StyleEditPipeline) -> None:
    images = torch.zeros(1, 3, 32, 32)
    mask = soft_mask(parsing_pipeline, images, images, LEFT, border=0.05)[0, 0, 0]
    assert (mask[:16] > 0.9).all() and (mask[-10:] < 1e-3).all()
    steps = mask.diff()
    assert (steps <= 1e-6).all() and steps.min() > -0.5  # falls gradually
    hard = soft_mask(parsing_pipeline, images, images, LEFT, border=0.0)[0, 0, 0]
    assert set(hard.round(decimals=3).tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("blend", ["features", "images"])
@pytest.mark.parametrize("kind", ["direction", "mapper"])
def test_any_edit_can_be_kept_in_a_region(
    parsing_pipeline: StyleEditPipeline, blend: str, kind: str
) -> None:
    pipe, edit = parsing_pipeline, step(parsing_pipeline)
    people = pipe.sample([1, 2])
    if kind == "mapper":
        groups = mapper_groups(pipe.generator, "w_plus")
        with torch.random.fork_rng():
            torch.manual_seed(0)
            edit = LatentMapper(groups, "w_plus", pipe.base_model, scale=20.0)  # type: ignore[assignment]
    moved = edit.apply(people, 1.0)
    drawn = draw_within(pipe, people, moved, LEFT, blend)  # type: ignore[arg-type]
    before, after = (pipe.synthesize(latents).clamp(-1, 1) for latents in (people, moved))
    assert (drawn - before)[..., -8:].abs().max() < 1e-3
    assert (drawn - after)[..., :8].abs().mean() < 0.1 * (after - before)[..., :8].abs().mean()


def test_the_pipeline_keeps_edits_in_a_region(parsing_pipeline: StyleEditPipeline) -> None:
    pipe, edit = parsing_pipeline, step(parsing_pipeline)
    before = pipe(seed=3).images[0]
    whole = pipe(seed=3, edits=[(edit, 1.0)])
    left = pipe(seed=3, edits=[(edit, 1.0)], region="left side", blend="images")
    assert torch.equal(left.latents.codes, whole.latents.codes)
    box = (24, 0, 32, 32)
    assert left.images[0].crop(box).tobytes() == before.crop(box).tobytes()
    assert whole.images[0].crop(box).tobytes() != before.crop(box).tobytes()
    with pytest.raises(ValueError, match="Unknown region 'tail'"):
        pipe(seed=3, region="tail")
    with pytest.raises(ValueError, match="Got blend 'paint'; use 'features' or 'images'"):
        pipe(seed=3, region="hair", blend="paint")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Got 2 latents before and 1 after"):
        draw_within(pipe, pipe.sample([1, 2]), pipe.sample(1), LEFT)


def test_feature_maps_are_seen_and_joined(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    layers = convolutions(pipe)
    assert len(layers) == pipe.generator.num_ws - 1
    first, second = pipe.sample(1), pipe.sample(2)
    images, features = draw_with_features(pipe, first, layers)
    assert torch.equal(images, pipe.synthesize(first)) and list(features) == list(layers)
    assert features["b16.conv1"].shape == (1, 8, 16, 16)
    every = [layer.name for layer in pipe.generator.style_layout]
    _, features = draw_with_features(pipe, first, every)
    as_it_was, joined = draw_over(pipe, second, features, torch.zeros(1, 1, 32, 32))
    assert torch.allclose(as_it_was, images, atol=1e-5)
    assert torch.allclose(joined["b8.conv0"], features["b8.conv0"])
    anew, _ = draw_over(pipe, second, features, torch.ones(1, 1, 32, 32))
    assert torch.allclose(anew, pipe.synthesize(second), atol=1e-5)
    # Nothing stays behind in the generator.
    assert torch.equal(pipe.synthesize(first), images)
    with pytest.raises(ValueError, match=r"Unknown layers b7\.conv0; this generator has"):
        draw_with_features(pipe, first, ["b7.conv0"])


def test_thin_regions_are_whole_in_coarse_features(tiny_pipeline: StyleEditPipeline) -> None:
    pipe = tiny_pipeline
    first, second = pipe.sample(1), pipe.sample(2)
    layers = ["b8.conv0"]
    _, below = draw_with_features(pipe, first, layers)
    _, above = draw_with_features(pipe, second, layers)
    line = torch.zeros(1, 1, 32, 32)
    line[..., 18] = 1  # a quarter of the cells in column 4 of 8
    _, joined = draw_over(pipe, second, below, line)
    assert torch.allclose(joined["b8.conv0"][..., 4], above["b8.conv0"][..., 4])
    assert torch.equal(joined["b8.conv0"][..., 5:], below["b8.conv0"][..., 5:])


# A pipeline that has a parser and an encoder


def test_parser_and_encoder_are_saved_and_loaded(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    pipe = tiny_pipeline
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder(
            pipe.generator.num_ws, 16, input_size=32, units=(1, 1, 1, 1), widths=(4, 8, 8, 8),
            levels=(2, 4), reduction=4,
        )  # fmt: skip
    whole = StyleEditPipeline(
        pipe.generator, pipe.clip, pipe.tokenizer, pipe.image_processor,
        parser=small_parser(("skin", "hair")), encoder=encoder,
    )  # fmt: skip
    whole.save_pretrained(tmp_path / "whole")
    loaded = StyleEditPipeline.from_pretrained(tmp_path / "whole")
    images = pipe.synthesize(pipe.sample([1, 2]))
    assert torch.allclose(loaded.parser.masks(images), whole.parser.masks(images), atol=1e-5)
    assert torch.allclose(loaded.encoder.encode(images), whole.encoder.encode(images), atol=1e-5)
    assert loaded.recognizer is None
    for part in (loaded.parser, loaded.encoder):
        assert not part.training and not any(p.requires_grad for p in part.parameters())
    out = loaded(latents=Latents("w_plus", loaded.encoder.encode(images)), region="hair")
    assert len(out.images) == 2
    assert tiny_pipeline.parser is None and tiny_pipeline.encoder is None
