"""Inversion approaches the picture and stays editable; a person's file holds everything."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import check_says_nothing_of
from PIL import Image
from test_recipes import recipe
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.domain import tunable_parameters
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents
from stylegan_hub.photos.align import Landmarks, align, whole
from stylegan_hub.photos.folder import edit_folder
from stylegan_hub.photos.invert import Refinement, Tuning
from stylegan_hub.photos.likeness import PerceptualDistance, likeness
from stylegan_hub.photos.person import Person, invert_photo
from stylegan_hub.photos.photo import Photo
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.reader import AttributeReader
from stylegan_hub.steps import Step

QUICK = Refinement(steps=8, lr=0.15)


@pytest.fixture(scope="module")
def pipe(inverting_pipeline: StyleEditPipeline) -> StyleEditPipeline:
    return inverting_pipeline


@pytest.fixture(scope="module")
def targets(pipe: StyleEditPipeline) -> Tensor:
    with torch.no_grad():
        return pipe.synthesize(pipe.sample([1, 2], 1.0)).clamp(-1, 1)


def errors(pipe: StyleEditPipeline, latents: Latents, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return (pipe.synthesize(latents) - targets).square().mean((1, 2, 3))


def edit_for(pipe: StyleEditPipeline, size: float = 0.5) -> Direction:
    vector = size * torch.ones(pipe.generator.num_ws, 16)
    return Direction(vector, "w_plus", pipe.base_model)


def test_refining_comes_nearer(pipe: StyleEditPipeline, targets: Tensor) -> None:
    at_once = pipe.invert(targets)
    seen: list[Step] = []
    refined = pipe.invert(targets, QUICK, seen.append)
    assert at_once.space == refined.space == "w_plus" and len(refined) == 2
    assert (errors(pipe, refined, targets) < 0.9 * errors(pipe, at_once, targets)).all()
    assert [(step.index, step.total) for step in seen] == [(i + 1, 8) for i in range(8)]
    assert seen[-1].loss < seen[0].loss and seen[0].images.shape == (1, 3, 32, 32)
    again = pipe.invert(targets, QUICK)
    assert torch.equal(again.codes, refined.codes)
    one = pipe.invert(targets[1:], QUICK)
    assert torch.allclose(one.codes, refined.codes[1:], atol=1e-3)
    assert not refined.codes.requires_grad


def test_the_anchor_keeps_it_near(pipe: StyleEditPipeline, targets: Tensor) -> None:
    start = pipe.invert(targets).codes
    free, held = (
        (pipe.invert(targets, replace(QUICK, anchor_lambda=weight)).codes - start).norm()
        for weight in (0.0, 10.0)
    )
    assert held < 0.5 * free
    spread = [
        pipe.invert(targets, replace(QUICK, coupling=0.0, spread_lambda=weight)).codes
        for weight in (0.0, 10.0)
    ]
    free, held = ((codes - codes.mean(1, keepdim=True)).norm() for codes in spread)
    assert held < 0.8 * free


def test_without_an_encoder(tiny_pipeline: StyleEditPipeline, targets: Tensor) -> None:
    with pytest.raises(ValueError, match=r"no encoder.* refine=300"):
        tiny_pipeline.invert(targets)
    with pytest.warns(UserWarning, match="no encoder"):
        found = tiny_pipeline.invert(targets, QUICK)
    mean = tiny_pipeline.mean_latent().repeat(2)
    assert (errors(tiny_pipeline, found, targets) < errors(tiny_pipeline, mean, targets)).all()


def test_pictures_of_all_sizes(pipe: StyleEditPipeline, targets: Tensor) -> None:
    pictures = image_files.to_pil(targets)
    assert len(pipe.invert(pictures)) == 2 and len(pipe.invert(pictures[0])) == 1
    assert len(pipe.invert(pictures[0].resize((200, 200)))) == 1
    with pytest.raises(ValueError, match="40 x 30 pixels"):
        pipe.invert(pictures[0].resize((40, 30)))


def test_tuning_draws_the_picture_and_leaves_the_rest(
    pipe: StyleEditPipeline, targets: Tensor
) -> None:
    latents = pipe.invert(targets[:1], QUICK)
    before = pipe.base_model.fingerprint
    tuned = pipe.tune(targets[:1], latents, Tuning(steps=15, lr=3e-3))
    assert torch.equal(tuned.latents.codes, latents.codes)
    near, far = (errors(p, latents, targets[:1]) for p in (tuned.pipe, pipe))
    assert near < 0.7 * far
    # For edits it is the same generator, in every space; its pictures and its hash differ.
    assert tuned.pipe.base_model == pipe.base_model and pipe.base_model.fingerprint == before
    assert tuned.pipe.generator.fingerprint() != before
    same = tuned.pipe.lower(latents, "s").codes
    assert torch.equal(same, pipe.lower(latents, "s").codes)
    edited = tuned.pipe(latents=latents, edits=[(edit_for(pipe), 1.0)])
    assert edited.images[0].tobytes() != tuned.pipe(latents=latents).images[0].tobytes()
    assert tuned.pipe.recognizer is pipe.recognizer and tuned.pipe.encoder is pipe.encoder
    assert not any(p.requires_grad for p in tuned.pipe.generator.parameters())


def test_locality_keeps_others(pipe: StyleEditPipeline, targets: Tensor) -> None:
    latents = pipe.mean_latent()
    others = pipe.sample(range(5, 9))
    with torch.no_grad():
        was = pipe.synthesize(others)
    free, held = (
        errors(pipe.tune(targets[:1], latents, settings).pipe, others, was).mean()
        for settings in (
            Tuning(steps=10, lr=3e-3, locality_lambda=0),
            Tuning(steps=10, lr=3e-3, locality_lambda=10, locality_distance=2.0),
        )
    )
    assert held < free


def test_settings_are_checked(pipe: StyleEditPipeline, targets: Tensor) -> None:
    for make, words in ((lambda: Refinement(steps=0), "at least one step"),
                        (lambda: Refinement(coupling=-1), "coupling of 0 or more"),
                        (lambda: Tuning(lr=0), "a positive lr")):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            make()
    with pytest.raises(ValueError, match="Got 2 pictures; expected one"):
        pipe.tune(targets, pipe.mean_latent().repeat(2))
    with pytest.raises(ValueError, match="expected one latent in w_plus for each"):
        pipe.tune(targets[:1], pipe.sample([1, 2]))
    with pytest.raises(ArtifactError, match=r"Got the tuned weight 'b4.conv1.affine.weight'"):
        pipe.with_weights({"b4.conv1.affine.weight": torch.zeros(8, 16)})


def test_likeness(pipe: StyleEditPipeline, tiny_pipeline: StyleEditPipeline) -> None:
    with torch.no_grad():
        images = pipe.synthesize(pipe.sample([1, 2])).clamp(-1, 1)
    same, other = likeness(pipe, images, images), likeness(pipe, images, images.flip(0))
    assert same[0].psnr == math.inf and same[0].identity == pytest.approx(1)
    assert same[0].perceptual == pytest.approx(0, abs=1e-5) and 0 < other[0].perceptual <= 4
    assert other[0].identity is not None and other[0].identity < 1
    noisy = images + 0.1
    (reached, _) = likeness(pipe, noisy.clamp(-1, 1), images)
    squared = (noisy.clamp(-1, 1)[0] - images[0]).square().mean()
    assert reached.psnr == pytest.approx(float(10 * torch.log10(4 / squared)), abs=1e-3)
    (unknown, _) = likeness(tiny_pipeline, images, images.flip(0))
    assert unknown.identity is None and "identity not measured (no recognizer)" in str(unknown)
    assert str(other[0]).startswith(f"PSNR {other[0].psnr:.1f} dB, perceptual")
    with pytest.raises(ValueError, match=r"Got pictures of shape \[2, 3, 32, 32\] and \[1, 3"):
        likeness(pipe, images, images[:1])


# ---------------------------------------------------------------- a person's file


@pytest.fixture(scope="module")
def photo(targets: Tensor) -> Photo:
    """A portrait turned and off-centre in a larger picture."""
    (portrait,) = image_files.to_pil(targets[:1])
    canvas = Image.new("RGB", (160, 120), (40, 90, 60))
    large = portrait.resize((60, 60)).convert("RGBA").rotate(20, expand=True)
    canvas.paste(large, (60, 30), large)
    return Photo(canvas, "me.png", "abc")


@pytest.fixture(scope="module")
def person(pipe: StyleEditPipeline, photo: Photo) -> Person:
    face = Landmarks((90.0, 62.0), (108.0, 56.0), (104.0, 76.0))
    return invert_photo(pipe, photo, align(photo, face), QUICK, Tuning(steps=3))


def test_a_person_is_kept(pipe: StyleEditPipeline, person: Person, tmp_path: Path) -> None:
    person.save(tmp_path / "me.safetensors")
    loaded = Person.load(tmp_path / "me.safetensors")
    assert loaded.alignment == person.alignment and loaded.likeness == person.likeness
    assert loaded.base_model == pipe.base_model and loaded.settings == person.settings
    assert loaded.settings["refinement"]["steps"] == 8 and loaded.settings["photo_sha256"] == "abc"
    assert set(loaded.tuned) == {name for name, _ in tunable_parameters(pipe.generator)}
    drawn = [
        one.pipeline(pipe)(latents=one.latents).images[0].tobytes() for one in (person, loaded)
    ]
    assert drawn[0] == drawn[1] != pipe(latents=person.latents).images[0].tobytes()
    plain = Latents.load(tmp_path / "me.safetensors")
    assert torch.equal(plain.codes, person.latents.codes)
    light = replace(person, tuned={}, likeness=None)
    light.save(tmp_path / "light.safetensors")
    assert Person.load(tmp_path / "light.safetensors").likeness is None
    assert light.pipeline(pipe) is pipe


def test_strangers_files(
    other_pipeline: StyleEditPipeline, pipe: StyleEditPipeline, person: Person, tmp_path: Path
) -> None:
    with pytest.raises(MismatchError, match="This latent was made for"):
        person.pipeline(other_pipeline)
    pipe.sample([1]).save(tmp_path / "latents.safetensors")
    with pytest.raises(ArtifactError, match=r"stylegan-hub invert"):
        Person.load(tmp_path / "latents.safetensors")
    path = tmp_path / "person.safetensors"
    wrong = dict(person.tuned) | {"b4.const": torch.zeros(2)}
    replace(person, tuned=wrong).save(path)
    with pytest.raises(ArtifactError, match=r"Got the tuned weight 'b4.const' of shape \[2\]"):
        Person.load(path).pipeline(pipe)
    for broken, words in (
        (replace(person, tuned={"b4.const": torch.tensor([math.nan])}), "are not finite"),
        (replace(person, latents=pipe.sample([1, 2])), "expected one latent in w_plus"),
        (replace(person, alignment=replace(person.alignment, name="a/b")), "without folders"),
    ):
        broken.save(path)
        with pytest.raises(ArtifactError, match=words):
            Person.load(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ArtifactError, match="damaged"):
        Person.load(path)


# ---------------------------------------------------------------- a folder


def test_a_folder(pipe: StyleEditPipeline, photo: Photo, tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    photo.image.save(photos / "a.png")
    photo.image.rotate(90).save(photos / "b.jpg")
    (photos / "broken.png").write_bytes(b"no picture")
    photo.image.crop((0, 0, 20, 90)).save(photos / "nobody.png")
    asked: list[str] = []

    def provider(picture: Image.Image) -> list[Landmarks]:
        if picture.width == 20:
            return []
        return [Landmarks((60.0, 40.0), (80.0, 42.0), (70.0, 60.0))]

    def run() -> Any:
        return edit_folder(
            pipe, photos, output, [(edit_for(pipe), 1.0)], replace(QUICK, steps=2),
            provider=provider, on_photo=lambda index, total, name: asked.append(name),
        )  # fmt: skip

    report = run()
    assert asked == ["a.png", "b.jpg", "broken.png", "nobody.png"]
    assert set(report.people) == set(report.edited) == {"a.png", "b.jpg"} and report.reused == ()
    assert "cannot be read as" in report.failures["broken.png"]
    assert "No face was found in nobody.png (20 x 90)" in report.failures["nobody.png"]
    files = sorted(str(p.relative_to(output)) for p in output.rglob("*") if p.is_file())
    assert files == [
        "edited/a-png.png", "edited/b-jpg.png", "latents/a-png.safetensors",
        "latents/b-jpg.safetensors", "sheet.png",
    ]  # fmt: skip
    with Image.open(output / "edited" / "a-png.png") as edited, Image.open(report.sheet) as sheet:
        assert edited.size == (160, 120) and sheet.size == (3 * 192, 2 * 192)
        assert edited.convert("RGB").tobytes() != photo.image.tobytes()

    written = (output / "latents" / "a-png.safetensors").stat().st_mtime_ns
    photo.image.save(photos / "b.jpg", quality=50)  # another picture of the same name
    again = run()
    assert again.reused == ("a.png",) and set(again.people) == {"a.png", "b.jpg"}
    assert (output / "latents" / "a-png.safetensors").stat().st_mtime_ns == written
    other = edit_folder(pipe, photos, output, provider=provider)  # inverted again
    assert other.reused == () and other.edited == {}


def test_folders_that_cannot_be_done(
    pipe: StyleEditPipeline, other_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError, match="has no pictures"):
        edit_folder(pipe, tmp_path, tmp_path / "out")
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    with pytest.raises(MismatchError, match="This edit was made for"):
        edit_folder(other_pipeline, tmp_path, tmp_path / "out", [(edit_for(pipe), 1.0)])
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------- the recipe


def test_inversion_is_measured(
    pipe: StyleEditPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = recipe("evaluate_inversion")
    torch.manual_seed(0)
    AttributeReader(
        resolution=32, channels=(8, 8, 8), blocks=(1, 1, 1), last_channels=8, hidden_size=8
    ).save_pretrained(tmp_path / "reader")
    pipe.save_pretrained(tmp_path / "pipe")
    edit = edit_for(pipe)
    edit.save_pretrained(tmp_path / "edit")
    with pytest.raises(SystemExit, match="has no target"):
        measure.zoo([str(tmp_path / "edit")], pipe)
    (tmp_path / "edit" / "metrics.json").write_text(json.dumps({"target": {"hat": "yes"}}))
    measure.main(
        measure.Config(
            output_dir=tmp_path / "out", pipeline=str(tmp_path / "pipe"), samples=2,
            reader=str(tmp_path / "reader"), tuned_samples=1, refine_steps=(2,), tune_steps=1,
            edits=(str(tmp_path / "edit"),),
        )
    )  # fmt: skip
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    ways = ["encoder", "encoder, refined 2", "encoder, refined 2, tuned 1"]
    assert list(metrics["results"]["generated"]) == ["true latent", *ways]
    assert list(metrics["results"]["rendered"]) == ways
    assert metrics["results"]["generated"]["true latent"]["kept"] == 1
    assert metrics["results"]["generated"]["true latent"]["perceptual"] < 1e-5
    assert "| generated | encoder | 2 |" in (tmp_path / "out" / "table.md").read_text()
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert sheet.size == (32, 9 * 32)
    check_says_nothing_of(tmp_path, tmp_path / "out")


def test_whole_pictures_are_inverted(pipe: StyleEditPipeline, targets: Tensor) -> None:
    """What the generator rendered reaches the encoder as exactly the same pixels."""
    photo = Photo(image_files.to_pil(targets[:1])[0], "drawn.png")
    person = invert_photo(pipe, photo, whole(photo.size))
    codes = pipe.invert(image_files.to_pil(targets[:1])).codes
    assert torch.equal(person.latents.codes, codes) and person.tuned == {}


def test_perceptual_distance_sees_changes(tiny_pipeline: StyleEditPipeline) -> None:
    images = tiny_pipeline.synthesize(tiny_pipeline.sample([1, 2]))
    distance = PerceptualDistance(tiny_pipeline, images)
    assert torch.allclose(distance(images), torch.zeros(2), atol=1e-6)
    little, much = (distance(images + s * torch.randn_like(images)) for s in (0.01, 0.5))
    assert (little < much).all() and (little > 0).all() and (much <= 4).all()
