"""Only recognizer and parser are specific to faces: drawn houses run through everything else.

The recipe trains the generator from a folder of pictures, in so few steps that it renders noise.
Pictures have 64 x 48 pixels in a square of 64, latents have 10 ws, and channels and sizes differ
from the portraits'.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import houses
import pytest
import torch
from click.testing import Result
from houses import HEIGHT, NEUTRAL, WIDTH, House
from PIL import Image, ImageChops
from test_demo import (
    browser,  # noqa: F401
    open_page,
    pytestmark,  # noqa: F401
    serve,
    wait_for,
    wait_for_other_picture,
)
from test_demo_methods import tab
from test_demo_photo import send
from test_recipes import recipe
from typer.testing import CliRunner

from demo.app import build
from demo.tabs.photo import Moment, compared, invert, put_back
from demo.tabs.words import for_this_face
from demo.upload import WHOLE, receive
from stylegan_hub import images as image_files
from stylegan_hub.cli import main
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Space
from stylegan_hub.methods.essence import target_picture
from stylegan_hub.methods.gradient import Settings as GradientSettings
from stylegan_hub.methods.identity import NO_RECOGNIZER
from stylegan_hub.methods.local import Settings as LocalSettings
from stylegan_hub.methods.mapper import MapperRun
from stylegan_hub.methods.mapper import Settings as MapperSettings
from stylegan_hub.methods.method import Words
from stylegan_hub.methods.optimization import Settings
from stylegan_hub.methods.table import bundled_table, load_directions
from stylegan_hub.metrics.edit_quality import measure_edit
from stylegan_hub.metrics.judges import Judges, reader_for
from stylegan_hub.models.clip import build_clip, build_image_processor, train_tokenizer
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.photos.invert import Tuning
from stylegan_hub.photos.person import Person
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.regions.feature_maps import at_size, draw_with_features
from stylegan_hub.regions.find import named_region
from stylegan_hub.regions.join import draw_within
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RED = "a red house"
NUM_WS, W_DIM = 10, 20
SIZE = (WIDTH, HEIGHT)
QUICK = Settings(steps=2, shared_steps=2, shared_faces=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline of houses: pictures, then the recipes, as in docs/other-domains.md."""
    work = tmp_path_factory.mktemp("houses")
    for seed in range(8):
        image_files.save(houses.draw([House.of(seed)]), work / "pictures" / f"{seed}.png")
    train = recipe("train_generator")
    train.main(
        train.Adversarial(
            images=work / "pictures", img_crop=(HEIGHT, WIDTH), output_dir=work / "gan",
            img_resolution=64, channel_base=256, channel_max=12, z_dim=24, w_dim=W_DIM,
            num_mapping_layers=2, train_batch_size=4, max_train_steps=2,
        )
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words = [House.of(seed).caption() for seed in range(64)]
        tokenizer = train_tokenizer([*words, NEUTRAL], vocab_size=600, context_length=32)
        clip = build_clip(
            tokenizer, image_size=32, vision_width=32, vision_layers=1, text_width=32,
            text_layers=1, embedding_dim=16,
        )  # fmt: skip
    clip.save_pretrained(work / "language" / "clip")
    tokenizer.save_pretrained(work / "language" / "tokenizer")
    build_image_processor(32).save_pretrained(work / "language" / "image_processor")
    assemble = recipe("assemble_pipeline")
    assemble.main(
        assemble.Config(
            generator=str(work / "gan" / "generator"), clip=str(work / "language"),
            output=work / "pipeline", neutral=NEUTRAL,
        )
    )  # fmt: skip
    return work / "pipeline"


@pytest.fixture(scope="module")
def pipe(folder: Path) -> StyleEditPipeline:
    return StyleEditPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def studio(folder: Path) -> Iterator[Studio]:
    yield Studio.open(folder)
    gc.collect()  # collects what gradio leaves open, while the marks above still hold


@pytest.fixture
def picture() -> Image.Image:
    return image_files.to_pil(houses.draw([House.of(99)]))[0]


@pytest.fixture(scope="module")
def brighter(pipe: StyleEditPipeline) -> Direction:
    return Direction(torch.ones(NUM_WS, W_DIM), "w_plus", pipe.base_model)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


# Sizes come from the config


def test_sizes_come_from_the_config(pipe: StyleEditPipeline, folder: Path) -> None:
    generator = pipe.generator
    assert (generator.img_size, generator.num_ws) == ((HEIGHT, WIDTH), NUM_WS)
    config = json.loads((folder / "generator" / "config.json").read_text())
    assert config["img_crop"] == [HEIGHT, WIDTH]
    assert f"A StyleGAN2 of {WIDTH} x {HEIGHT} px" in (folder / "README.md").read_text()
    base = pipe.base_model
    assert (base.num_ws, base.w_dim, base.resolution) == (NUM_WS, W_DIM, 64)
    people = pipe.sample([1, 2])
    drawn = pipe.synthesize(people)
    assert drawn.shape == (2, 3, HEIGHT, WIDTH)
    assert torch.allclose(drawn, pipe.synthesize(pipe.lower(people, "s")), atol=1e-5)
    assert [one.size for one in pipe(seed=[1, 2]).images] == [SIZE] * 2
    for resolution in (64, 32, 4):
        small = generator.synthesis(people.codes, resolution=resolution)
        assert small.shape[2:] == (resolution * 3 // 4, resolution)


def test_a_crop_is_the_middle_of_what_the_network_draws(pipe: StyleEditPipeline) -> None:
    people = pipe.sample([1, 2])
    drawn = pipe.synthesize(people)
    whole = copy.deepcopy(pipe.generator)
    whole.crop(64, 64)
    assert whole.config.img_crop is None and whole.fingerprint() == pipe.base_model.fingerprint
    assert torch.equal(whole.synthesis(people.codes)[:, :, 8:56], drawn)
    s = pipe.lower(people, "s").codes
    from_block = pipe.generator.synthesis_from_block(s, 16)(s)
    assert torch.allclose(from_block, drawn, atol=1e-5)
    whole.crop(64, 32)
    assert whole.synthesis(people.codes).shape[2:] == (64, 32)
    for wrong in ((48, 48), (47, 64), (0, 64), (64, 128)):
        with pytest.raises(ValueError, match=r"Got img_crop=.* square of 64 px .* \(48, 64\)"):
            whole.crop(*wrong)
    with pytest.raises(ValueError, match=r"Got img_crop=\(48, 48\)"):
        StyleGAN2Generator(16, 0, 16, 64, channel_max=4, img_crop=[48, 48])


def test_clip_sees_the_whole_picture_undistorted(pipe: StyleEditPipeline) -> None:
    images = houses.draw([House.of(1)])
    bars = torch.full((1, 3, 8, WIDTH), -1.0)
    square = torch.cat([bars, images, bars], dim=2)
    for preprocessing in ("proper", "styleclip"):
        seen = pipe.encode_image(images, preprocessing)
        assert torch.equal(seen, pipe.encode_image(square, preprocessing))


def test_the_generator_learns_pictures_with_bars(folder: Path) -> None:
    train = recipe("train_generator")
    config = train.Adversarial(images=folder.parent / "pictures", output_dir=folder)
    reals_of = train.picture_source(config, 64, (HEIGHT, WIDTH))

    class Training:
        def indices(self, step: int, count: int) -> torch.Tensor:
            return torch.tensor([step])

    square, labels = reals_of(Training(), 3)
    assert labels is None and square.shape == (1, 3, 64, 64)
    assert (square[:, :, :8] == -1).all() and (square[:, :, 56:] == -1).all()
    assert torch.allclose(square[:, :, 8:56], houses.draw([House.of(3)]), atol=0.01)
    wrong = train.Adversarial(
        images=config.images, img_crop=(30, 40), img_resolution=64, channel_max=4,
        output_dir=folder.parent / "never",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"Got img_crop=\(30, 40\)"):
        train.main(wrong)
    assert not (folder.parent / "never").exists()


def test_a_pipeline_knows_what_its_pictures_show(
    pipe: StyleEditPipeline, folder: Path, tiny_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    assert (pipe.neutral, tiny_pipeline.neutral) == (NEUTRAL, "a face")
    assert json.loads((folder / "model_index.json").read_text())["neutral"] == NEUTRAL
    parts = (pipe.generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    with pytest.raises(ValueError, match="Got neutral ' '"):
        StyleEditPipeline(*parts, neutral=" ")
    shutil.copytree(folder, broken := tmp_path / "broken")
    index = json.loads((broken / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps({**index, "neutral": ["os", "system"]}))
    with pytest.raises(ArtifactError, match="for 'neutral'; expected a text"):
        StyleEditPipeline.from_pretrained(broken)


# Methods


@pytest.mark.parametrize("space", ["w_plus", "s"])
def test_latent_optimization(pipe: StyleEditPipeline, space: str, tmp_path: Path) -> None:
    quick = replace(QUICK, space=Space(space))
    found = pipe.find(RED, pipe.sample(1), method="optimization", settings=quick)
    training = found.origin.training
    assert training["note"] == NO_RECOGNIZER and training["id_lambda"] == 0
    assert found.origin.neutral == NEUTRAL
    without = replace(QUICK, id_lambda=0.0)
    found_so = pipe.find(RED, method="optimization", settings=without)
    assert "note" not in found_so.origin.training
    edit = load_edit(found.save_pretrained(tmp_path / "red"))
    edit.check_fits(pipe.base_model)
    before, after = (pipe(seed=1, edits=[(edit, s)]).images[0] for s in (0.0, 1.0))
    assert before.size == after.size == SIZE and before.tobytes() != after.tobytes()


def test_edits_belong_to_their_generator(
    pipe: StyleEditPipeline, brighter: Direction, tiny_pipeline: StyleEditPipeline
) -> None:
    with pytest.raises(MismatchError, match=pipe.base_model.fingerprint):
        tiny_pipeline(edits=[(brighter, 1.0)])
    with pytest.raises(MismatchError, match=r"this generator takes \[n, 10, 20\]"):
        pipe(latents=tiny_pipeline.sample(1))


def test_table_and_directions_from_words(
    folder: Path, pipe: StyleEditPipeline, tmp_path: Path
) -> None:
    build_table = recipe("build_direction_table")
    build_table.main(
        build_table.Config(
            output_dir=tmp_path, pipeline=str(folder), samples=2, statistics_samples=50,
        )
    )  # fmt: skip
    table = load_directions(tmp_path / "direction_table")
    layers = [layer for layer in pipe.generator.style_layout if not layer.is_to_rgb]
    assert len(table.index) == sum(layer.stop - layer.start for layer in layers)
    found = table.direction(pipe, RED, channels=5)
    assert found.origin.neutral == NEUTRAL
    assert int((found.vector != 0).sum()) == 5
    own = ("{}", "a drawing of {}")
    assert table.direction(pipe, RED, NEUTRAL, templates=own).origin.training["templates"] == 2
    assert pipe(seed=1, edits=[(found, 1.0)]).images[0].size == SIZE


def test_gradient_direction(pipe: StyleEditPipeline) -> None:
    settings = GradientSettings(steps=2, batch_size=2, channels=7)
    found = pipe.find(RED, method="gradient", settings=settings)
    assert found.vector.shape == (pipe.generator.num_styles,)
    assert int((found.vector != 0).sum()) == 7


def test_latent_mapper(
    folder: Path, pipe: StyleEditPipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe("train_mapper").main([
        "--description", RED, "--pipeline", str(folder), "--output_dir", str(tmp_path / "red"),
        "--max_train_steps", "2", "--train_batch_size", "2", "--population", "4",
        "--samples", "2", "--reader", "None",
    ])  # fmt: skip
    assert "training without the identity loss (id_lambda 0)" in capsys.readouterr().out
    edit = load_edit(tmp_path / "red")
    assert edit.origin.training["note"] == NO_RECOGNIZER and edit.origin.neutral == NEUTRAL
    assert NO_RECOGNIZER.split(",")[0] in (tmp_path / "red" / "README.md").read_text()
    metrics = json.loads((tmp_path / "red" / "metrics.json").read_text())
    assert "clip_similarity_after" in metrics
    assert not {"success", "collateral", "identity_similarity"} & metrics.keys()
    with Image.open(tmp_path / "red" / "images" / "before-after.webp") as sheet:
        assert sheet.size == (2 * WIDTH, 2 * HEIGHT)
    run = MapperRun(pipe, Words(RED), MapperSettings(whiten=False, population=2))
    assert run.settings.id_lambda == 0


def test_essence(folder: Path, pipe: StyleEditPipeline, tmp_path: Path) -> None:
    wide = tmp_path / "wide.png"
    row = houses.draw([House.of(seed) for seed in (5, 6, 7)])
    image_files.save(image_files.grid(row, columns=3), wide)
    with pytest.warns(UserWarning, match="attribute-reader knows only drawn portraits"):
        recipe("train_essence").main([
            "--target", str(wide), "--pipeline", str(folder), "--restarts", "1",
            "--output_dir", str(tmp_path / "essence"), "--max_train_steps", "2",
            "--train_batch_size", "2", "--sources", "2", "--samples", "2",
        ])  # fmt: skip
    metrics = json.loads((tmp_path / "essence" / "metrics.json").read_text())
    assert "target_similarity_after" in metrics and "attributes_taken" not in metrics
    with Image.open(wide) as target:
        middle = target_picture(pipe, target)
    assert torch.allclose(middle, row[1:2], atol=0.01)
    assert pipe(seed=1, edits=[(load_edit(tmp_path / "essence"), 1.0)]).images[0].size == SIZE


def test_local_edits_need_a_parser(pipe: StyleEditPipeline) -> None:
    with pytest.raises(ValueError, match=r"needs a pipeline with a parser; .*train_parser"):
        pipe.find(RED, method="local")
    with pytest.raises(ValueError, match="no parser"):
        pipe(seed=1, region="roof")


class Halves(Parser):
    """Sees a left half and a right half."""

    def __init__(self) -> None:
        super().__init__(("left half", "right half"), width=4, input_size=32, stem_stride=1)

    def masks(self, images: torch.Tensor) -> torch.Tensor:
        left = torch.zeros(len(images), 1, *images.shape[2:])
        left[..., : images.shape[3] // 2] = 1
        return torch.cat([left, 1 - left], dim=1)


def test_local_edits_with_a_parser(pipe: StyleEditPipeline, brighter: Direction) -> None:
    parts = (pipe.generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    seeing = StyleEditPipeline(*parts, parser=Halves(), neutral=NEUTRAL)
    left = named_region(seeing, "left half")
    settings = LocalSettings(steps=2, batch_size=2)
    found = seeing.find(Words(RED, region="left half"), method="local", settings=settings)
    assert found.origin.training["region"] == "left half" and found.origin.neutral == NEUTRAL
    before = seeing.sample(1)
    after = seeing.apply(before, [(brighter, 1.0)])
    for blend in ("images", "features"):
        drawn = draw_within(seeing, before, after, left, blend)
        changed = drawn - seeing.synthesize(before).clamp(-1, 1)
        assert changed.shape == (1, 3, HEIGHT, WIDTH)
        assert float(changed[..., :24].abs().max()) > 0 == float(changed[..., 40:].abs().max())


def test_masks_lie_on_feature_maps_where_they_lie_on_pictures(pipe: StyleEditPipeline) -> None:
    _, features = draw_with_features(pipe, pipe.sample(1), ["b32.conv1"])
    upper = torch.zeros(1, 1, HEIGHT, WIDTH)
    upper[:, :, :24] = 1
    mask = at_size(upper, features["b32.conv1"].shape[2:])[0, 0, :, 0]
    assert mask[5:15].min() == 1 and mask[:3].max() == 0 and mask[17:].max() == 0


# Pictures to latents


def test_inversion(pipe: StyleEditPipeline, picture: Image.Image) -> None:
    with pytest.raises(ValueError, match="no encoder"):
        pipe.invert(picture)
    with pytest.warns(UserWarning, match="no encoder"):
        latents = pipe.invert(picture, refine=2)
    assert latents.codes.shape == (1, NUM_WS, W_DIM)
    tuned = pipe.tune(picture, latents, Tuning(steps=1))
    assert tuned.pipe(latents=tuned.latents).images[0].size == SIZE
    with pytest.raises(ValueError, match="64 x 64 pixels"):
        pipe.invert(picture.resize((64, 64)), refine=2)
    encoder = Encoder(
        NUM_WS, W_DIM, input_size=(HEIGHT, WIDTH), units=(1, 1, 1, 1), widths=(8, 8, 8, 8),
        head_width=4, reduction=4,
    )  # fmt: skip
    parts = (pipe.generator, pipe.clip, pipe.tokenizer, pipe.image_processor)
    fast = StyleEditPipeline(*parts, encoder=encoder)
    assert fast.invert(picture.resize((128, 96))).codes.shape == (1, NUM_WS, W_DIM)


# Photographs: their middle is used, because a house has no eyes

PHOTO_SIZE = (256, 96)
MIDDLE = (64, 0, 192, 96)  # 128 x 96, twice the generator's pictures


@pytest.fixture
def photo(picture: Image.Image, tmp_path: Path) -> Path:
    """A house in the middle of a street of flowers."""
    street = Image.effect_noise(PHOTO_SIZE, 60).convert("RGB")
    street.paste(picture.resize((128, 96)), MIDDLE)
    (tmp_path / "photos").mkdir()
    street.save(tmp_path / "photos" / "house.png")
    return tmp_path / "photos" / "house.png"


def changed_box(before: Path, after: Path | Image.Image) -> tuple[int, int, int, int] | None:
    """The box around all pixels in which two pictures of one size differ, if there are any."""
    with Image.open(before) as original:
        other = after if isinstance(after, Image.Image) else Image.open(after)
        assert other.size == original.size == PHOTO_SIZE
        return ImageChops.difference(original.convert("RGB"), other.convert("RGB")).getbbox()


def is_in_the_middle(box: tuple[int, int, int, int] | None) -> bool:
    """Whether there is a box in the middle, from the upper to the lower edge of the photo."""
    return box is not None and MIDDLE[0] <= box[0] and box[2] <= MIDDLE[2] and box[1::2] == (0, 96)


@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_the_middle_of_a_photo_on_the_command_line(
    folder: Path, brighter: Direction, photo: Path, tmp_path: Path
) -> None:
    common = ("--pipeline", folder)
    preview, saved = tmp_path / "look.png", photo.with_suffix(".safetensors")
    result = run("invert", photo, "--refine", 2, "--tune", 1, "--preview", preview, *common)
    assert result.exit_code == 0, result.output
    said, likeness, _ = result.stdout.splitlines()
    corners = "(64, 0) (64, 96) (192, 96) (192, 0)"
    assert said == f"The part that was cut out in house.png has the corners {corners}."
    assert "identity not measured (no recognizer)" in likeness
    with Image.open(preview) as look, Image.open(photo) as original:
        assert look.size == (3 * WIDTH, HEIGHT)  # the last one: what would stay as in the photo
        shown = image_files.from_pil([look.crop((0, 0, *SIZE))])
        expected = original.crop(MIDDLE).resize(SIZE, Image.Resampling.LANCZOS)
        assert torch.equal(shown, image_files.from_pil(expected))
    edit = f"{brighter.save_pretrained(tmp_path / 'brighter')}:2"
    edited = tmp_path / "edited.png"
    for paste in ("changed", "face"):
        result = run("edit", saved, "--edit", edit, "--paste", paste, "-o", edited, *common)
        assert result.exit_code == 0, result.output
        assert is_in_the_middle(changed_box(photo, edited))
    assert run("edit", saved, "--edit", f"{edit[:-2]}:0", "-o", edited, *common).exit_code == 0
    assert changed_box(photo, edited) is None

    result = run("invert", photo, "--refine", 1, "--aligned", *common)
    assert result.exit_code == 1 and "an aligned picture has the shape of 64 x 48" in result.stderr
    result = run("invert", photo, "--refine", 1, "--face", 1, *common)
    assert result.exit_code == 1 and "does not render faces ('a house')" in result.stderr
    with Image.open(photo) as original:
        original.crop(MIDDLE).save(photo)
    result = run("invert", photo, "--refine", 1, "--aligned", *common)
    assert result.exit_code == 0, result.output


def test_an_encoder_by_the_recipe(folder: Path, photo: Path, tmp_path: Path) -> None:
    """With an encoder, the middle of a photo becomes a latent at once."""
    train, assemble = recipe("train_encoder"), recipe("assemble_pipeline")
    config = train.Config(
        pipeline=str(folder), output_dir=tmp_path / "run", rendered_share=0,
        num_generated=8, unseen=2, train_batch_size=2, max_train_steps=2, latent_steps=1,
        input_size=32, units=(1, 1, 1, 1), widths=(8, 8, 8, 8), head_width=4, input_stride=1,
    )  # fmt: skip
    with pytest.warns(UserWarning, match="attribute-reader knows only drawn portraits"):
        train.main(config)
    metrics = json.loads((tmp_path / "run" / "encoder" / "metrics.json").read_text())
    assert "psnr" in metrics["generated"] and "attributes_kept" not in metrics["generated"]
    assemble.main(
        assemble.Config(
            generator=str(folder / "generator"), clip=str(folder), neutral=NEUTRAL,
            encoder=str(tmp_path / "run" / "encoder"), output=tmp_path / "seeing",
        )
    )  # fmt: skip
    result = run("invert", photo, "--pipeline", tmp_path / "seeing")
    assert result.exit_code == 0, result.output
    latents = Person.load(photo.with_suffix(".safetensors")).latents
    with Image.open(photo) as original:
        house = original.crop(MIDDLE).resize(SIZE, Image.Resampling.LANCZOS)
    expected = StyleEditPipeline.from_pretrained(tmp_path / "seeing").invert(house)
    assert torch.allclose(latents.codes, expected.codes, atol=1e-5)


@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_a_folder_of_photos(folder: Path, brighter: Direction, photo: Path, tmp_path: Path) -> None:
    with Image.open(photo) as original:
        original.rotate(90, expand=True).save(photo.with_name("tall.jpg"))
    edit, output = brighter.save_pretrained(tmp_path / "brighter"), tmp_path / "out"
    command = ("batch", photo.parent, "-o", output, "--refine", 1, "--edit", f"{edit}:2")
    result = run(*command, "--pipeline", folder)
    assert result.exit_code == 0, result.output
    assert is_in_the_middle(changed_box(photo, output / "edited" / "house-png.png"))
    with Image.open(output / "edited" / "tall-jpg.png") as tall:
        assert tall.size == PHOTO_SIZE[::-1]
    with Image.open(output / "sheet.png") as sheet:
        assert sheet.size == (3 * 192, 2 * 144)


@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_the_tab_photo(studio: Studio, brighter: Direction, photo: Path) -> None:
    upload = receive(studio.pipe, photo)
    assert upload.note == "This pipeline renders no faces (a house), so the middle is used."
    assert upload.hint == "The part in the violet frame is cut out. Press “Use this face”."
    assert upload.choices == [("The middle of the picture", WHOLE)]
    assert upload.clicked(studio.pipe, (30, 30)) == upload
    shown = upload.shown(studio.pipe)
    assert shown.size == upload.preview.size != SIZE
    left, _, right, bottom = ImageChops.difference(shown, upload.preview).getbbox() or ()
    scale = shown.width / PHOTO_SIZE[0]
    assert (left / scale, right / scale) == pytest.approx((MIDDLE[0], MIDDLE[2]), abs=4 / scale)
    assert bottom == shown.height

    *frames, last = invert(studio, upload, refine=2)
    assert frames[0].pictures is not None and frames[0].pictures[0].size == SIZE
    assert isinstance(last, Moment) and "The middle of house.png is here" in last.status
    inverted = last.inverted
    assert inverted.crop.size == inverted.drawn.size == SIZE
    assert "this pipeline has no recognizer" in compared(inverted)
    session = Session(latents=inverted.person.latents).with_edit(brighter, 2.0)
    for where in ("changed", "face"):
        name, result = put_back(inverted, session, where)
        assert name == "house-edited.png" and is_in_the_middle(changed_box(photo, result))


# What is measured


def test_nobody_reads_attributes_of_houses(
    folder: Path,
    pipe: StyleEditPipeline,
    brighter: Direction,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert reader_for(pipe, None, {}) is None
    portraits = StyleEditPipeline.from_pretrained("portraits")
    assert portraits.neutral == "a face"
    assert reader_for(portraits, "attribute-reader", {}) is not None
    # Users may train portraits again; a target says that these are portraits.
    assert reader_for(pipe, "attribute-reader", {"hat": "yes"}) is not None
    assert "success" not in measure_edit(pipe, Judges(), brighter, {}, [1, 2])

    edit = brighter.save_pretrained(tmp_path / "brighter")
    evaluate = recipe("evaluate")
    options: dict[str, Any] = dict(folders=(str(edit),), pipeline=str(folder), samples=2)
    with pytest.warns(UserWarning, match="its readings are left out"):
        evaluate.main(evaluate.Config(**options))
    header = next(line for line in capsys.readouterr().out.splitlines() if "| edit |" in line)
    assert header == "| edit | smoothness | step cosine mean | step cosine std | ms |"
    (edit / "metrics.json").write_text('{"target": {"hat": "yes"}}')
    evaluate.main(evaluate.Config(**options, reader=None))
    assert "success" not in json.loads((edit / "metrics.json").read_text())


# The document


def test_the_document_names_options_that_there_are() -> None:
    text = (Path(__file__).parents[1] / "docs" / "other-domains.md").read_text()
    commands = re.findall(r"recipes/(\w+)\.py((?:.*\\\n)*.*)", text.replace("`", "\n"))
    flags = [(name, flag) for name, rest in commands for flag in re.findall(r"--(\w+)", rest)]
    assert len(flags) > 15
    for name, flag in flags:
        assert f"--{flag}" in options_of(name), (name, flag)


def options_of(name: str) -> str:
    """The options that a recipe accepts."""
    module = recipe(name)
    if hasattr(module, "Config") or name == "train_generator":
        config = module.Adversarial if name == "train_generator" else module.Config
        return " ".join(f"--{field.name}" for field in dataclasses.fields(config))
    said = io.StringIO()  # a method that trains, with the names of its own options
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
        module.main(["--help"])
    return said.getvalue() + " ".join(getattr(module, "NAMES", {}))


# The command and the page


def test_the_command(folder: Path, brighter: Direction, tmp_path: Path) -> None:
    sheet = tmp_path / "houses.png"
    result = run("sample", "--pipeline", folder, "--seeds", "0-3", "-o", sheet)
    assert result.exit_code == 0, result.output
    with Image.open(sheet) as picture:
        assert picture.size == (2 * WIDTH, 2 * HEIGHT)
    edit = brighter.save_pretrained(tmp_path / "brighter")
    result = run(
        "edit", "--pipeline", folder, "--seed", 1, "--edit", f"{edit}:0.5", "--text", RED,
        "--steps", 1, "--save-edit", tmp_path / "red", "--before-after", "-o", sheet,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with Image.open(sheet) as picture:
        assert picture.size == (2 * WIDTH, HEIGHT)
    assert load_edit(tmp_path / "red").origin.neutral == NEUTRAL
    result = run("edit", "--pipeline", folder, "--edit", "afro-hair", "-o", sheet)
    assert result.exit_code == 1 and "was made for 'portraits'" in result.stderr


def test_what_is_for_faces_says_so(pipe: StyleEditPipeline) -> None:
    with pytest.raises(NotFoundError, match="text-to-face"):
        pipe.from_text(RED)


def test_handlers_of_the_page(studio: Studio) -> None:
    *_, last = for_this_face(studio, Session(), RED, steps=1)
    assert NO_RECOGNIZER in last.status
    assert last.pictures is not None
    before, after = last.pictures
    assert before.size == after.size == SIZE and before.tobytes() != after.tobytes()
    assert bundled_table(studio.pipe) is None
    assert studio.regions == [] and not studio.has_text_to_face


def test_the_page_says_what_is_missing(studio: Studio, folder: Path) -> None:
    shown = str(build(studio).get_config_file()["components"])
    for part in (
        "locates the parts of a picture",
        f"--generator ./{folder.name}/generator",
        "There is no bundled text-to-face network for this generator",
        f"--pipeline ./{folder.name} --reconstruction_lambda 0",
        "a house in red",
    ):
        assert part in shown, part
    assert "Make faces" not in shown and "Change this part" not in shown


@pytest.mark.browser
@pytest.mark.filterwarnings("ignore:This pipeline has no encoder")
def test_a_visit(browser: Browser, studio: Studio, photo: Path) -> None:  # noqa: F811
    shapes = (
        "image => [image.naturalWidth / image.naturalHeight, "
        "image.clientWidth / image.clientHeight]"
    )
    wanted = pytest.approx([WIDTH / HEIGHT] * 2, rel=0.02)
    for url in serve(studio):
        for page in open_page(browser, url):
            before = wait_for_other_picture(page, "")
            words = page.get_by_label("The picture should show")
            assert page.locator("#examples").count() == 0
            page.get_by_role("button", name="Settings of the search").click()
            assert page.get_by_label("Instead of").input_value() == NEUTRAL
            page.get_by_role("spinbutton", name="Steps").fill("10")
            words.fill(RED)
            words.press("Enter")
            page.get_by_text(NO_RECOGNIZER).wait_for()
            wait_for_other_picture(page, before)
            after = page.locator("#pictures img").nth(1)
            wait_for(page, lambda after=after: after.evaluate(shapes) == wanted)
            edited = wait_for_other_picture(page, before)

            tab(page, "Photo")
            send(page, photo)
            page.get_by_text("This pipeline renders no faces (a house), so the middle").wait_for()
            page.get_by_role("button", name="The photo", exact=True).wait_for()
            assert not page.get_by_text("Points without a mouse").is_visible()
            page.get_by_label("30 steps").check()
            page.get_by_role("button", name="Use this face", exact=True).click()
            page.get_by_text("The middle of house.png is here").wait_for()
            wait_for_other_picture(page, edited)
            page.get_by_role("button", name="Paste back").click()
            page.get_by_alt_text("The edited photo").wait_for()
