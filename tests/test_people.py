"""Faces in photographs: converted networks, which faces are found, traits, and drawn portraits."""

from __future__ import annotations

import json
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

from stylegan_hub.checkpoints import face_api
from stylegan_hub.cli import main
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.face_finder import FaceFinder, distinct
from stylegan_hub.models.face_judge import USUAL_THRESHOLD, FaceJudge
from stylegan_hub.models.face_layers import SameConv
from stylegan_hub.models.face_readers import AgeReader, ExpressionReader, FacePoints
from stylegan_hub.models.faces import FaceModels, load_judge, save_quantized
from stylegan_hub.models.quantized import Quantized, packed, unpacked
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import cards_folder
from stylegan_hub.photos import people
from stylegan_hub.photos.align import align, cut, middle
from stylegan_hub.photos.finders import locate, undrawable_person
from stylegan_hub.photos.paste import paste
from stylegan_hub.photos.people import Face, PeopleFinder, Square, judged_distance, read_face
from stylegan_hub.photos.person import Person, invert_photo
from stylegan_hub.photos.photo import Photo
from stylegan_hub.photos.traits import Traits, measure
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.from_photo import by_drawing, labels_like, portrait_like, portrait_of

NETWORKS: dict[str, type[nn.Module]] = {
    "finder": FaceFinder, "points": FacePoints, "expression": ExpressionReader,
    "age": AgeReader, "judge": FaceJudge,
}  # fmt: skip


def photograph(package: str, path: str) -> Image.Image:
    """A photograph in the public domain that comes with a package of the tests."""
    folder = Path(pytest.importorskip(package).__file__).parent
    return Image.open(folder / path).convert("RGB")


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return photograph("skimage", "data/astronaut.png")


@pytest.fixture(scope="module")
def hopper() -> Image.Image:
    return photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg")


@pytest.fixture(scope="module")
def finder() -> PeopleFinder:
    return PeopleFinder()


@pytest.fixture(scope="module")
def portraits() -> StyleEditPipeline:
    return StyleEditPipeline.from_pretrained(cards_folder() / "portraits")


# ---------------------------------------------------------------- converting


def theirs(name: str, network: str) -> list[str]:
    """Names that the package may give to one of our tensors: the reverse of the reader."""
    candidates = []
    for line in (Path(__file__).parent / "data" / "face_api_names.txt").read_text().splitlines():
        of, their, ours = line.split()
        if (of, ours) == (network, name):
            candidates.append(their)
    return candidates


def make_package(folder: Path, networks: dict[str, nn.Module]) -> dict[str, dict[str, Any]]:
    """Write files as the package has them, in bytes except for biases; return the true values."""
    (folder / "model").mkdir(parents=True)
    truth: dict[str, dict[str, Any]] = {}
    for name, network in networks.items():
        entries, data = [], b""
        truth[name] = {}
        for ours, tensor in network.state_dict().items():
            (their,) = theirs(ours, name)
            stored = tensor.detach()
            if stored.ndim == 4:
                order = (2, 3, 0, 1) if ours.endswith("depthwise.weight") else (2, 3, 1, 0)
                stored = stored.permute(order)
            elif stored.ndim == 2:
                stored = stored.T
            entry: dict[str, Any] = {"name": their, "shape": list(stored.shape), "dtype": "float32"}
            if stored.ndim > 1:
                low, high = float(stored.min()), float(stored.max())
                scale = (high - low) / 255
                levels = ((stored - low) / scale).round().to(torch.uint8)
                entry["quantization"] = {"dtype": "uint8", "scale": scale, "min": low}
                data += levels.contiguous().numpy().tobytes()
            else:
                data += stored.contiguous().numpy().astype("<f4").tobytes()
            entries.append(entry)
            truth[name][ours] = tensor
        if name == "age":  # the package's estimate of gender, which is not converted
            entries.append({"name": "fc/gender/weights", "shape": [512, 2], "dtype": "float32"})
            data += bytes(512 * 2 * 4)
        model = face_api.MODELS[name]
        manifest = [{"paths": [f"{model}.bin"], "weights": entries}]
        (folder / "model" / f"{model}-weights_manifest.json").write_text(json.dumps(manifest))
        (folder / "model" / f"{model}.bin").write_bytes(data)
    return truth


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, Any]]]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("npm") / "package"
    return folder, make_package(folder, {name: kind() for name, kind in NETWORKS.items()})


@pytest.mark.parametrize("network", NETWORKS)
def test_a_model_is_converted(package: tuple[Path, dict[str, Any]], network: str) -> None:
    folder, truth = package
    read = unpacked(packed(face_api.read_model(folder, network)))
    assert read.keys() == truth[network].keys()
    for name, tensor in read.items():
        expected = truth[network][name]
        step = float(expected.max() - expected.min()) / 255
        assert tensor.shape == expected.shape
        assert (tensor - expected).abs().max() <= 0.51 * step + 1e-6, name


def test_an_archive_is_read_as_its_folder(
    package: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, _ = package
    with tarfile.open(tmp_path / "face-api.tgz", "w:gz") as archive:
        archive.add(folder, "package")
    one, other = (face_api.read_model(p, "points") for p in (folder, tmp_path / "face-api.tgz"))
    for name, tensor in packed(one).items():
        assert tensor.equal(packed(other)[name])


def test_a_folder_is_written_and_read(
    package: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, truth = package
    tensors = {name: face_api.read_model(folder, name) for name in NETWORKS if name != "judge"}
    save_quantized(tmp_path / "faces", tensors, {"training": {"package": "x"}})
    models = FaceModels.from_pretrained(tmp_path / "faces")
    near = truth["age"]["entry.weight"]
    assert (models.age.entry.weight - near).abs().max() < 0.01
    assert (tmp_path / "faces" / "model.safetensors").stat().st_size < 1_400_000
    with pytest.raises(NotFoundError) as raised:
        load_judge(tmp_path / "nowhere")
    assert "convert_face_models.py" in raised.value.remedy
    save_quantized(tmp_path / "judge", {"judge": face_api.read_model(folder, "judge")}, {})
    monkeypatch.setenv("STYLEGAN_HUB_FACE_JUDGE", str(tmp_path / "judge"))
    assert load_judge()(torch.zeros(2, 3, 60, 60)).shape == (2, 128)
    with pytest.raises(ArtifactError) as wrong:
        load_judge(tmp_path / "faces")
    assert (wrong.value.got, wrong.value.expected) == ("face_models", "face_judge")


def test_damaged_packages(package: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, _ = package
    model = face_api.MODELS["expression"]
    names = (f"{model}-weights_manifest.json", f"{model}.bin")
    good = [(folder / "model" / name).read_bytes() for name in names]
    entry = {"name": "fc/bias", "shape": [7], "dtype": "float32"}
    nan = {**entry, "quantization": {"dtype": "uint8", "scale": float("nan"), "min": 0}}
    for index, (manifest, data) in enumerate(
        [
            (b"no json", good[1]),
            (good[0], good[1][:-1]),
            (good[0], good[1] + b"x"),
            (json.dumps([{"weights": [{**entry, "shape": [-7]}]}]).encode(), bytes(28)),
            (json.dumps([{"weights": [{**entry, "shape": [1 << 40]}]}]).encode(), bytes(28)),
            (json.dumps([{"weights": [{**entry, "dtype": "object"}]}]).encode(), bytes(28)),
            (json.dumps([{"weights": [nan]}]).encode(), bytes(7)),
            (b"[" * 100_000, b""),
        ]
    ):
        broken = tmp_path / str(index) / "model"
        broken.mkdir(parents=True)
        for name, content in zip(names, (manifest, data), strict=True):
            (broken / name).write_bytes(content)
        with pytest.raises(ArtifactError) as raised:
            face_api.read_model(broken.parent, "expression")
        assert raised.value.remedy
    (tmp_path / "cut.tgz").write_bytes(struct.pack("<HB", 0x8B1F, 8) + bytes(20))
    with pytest.raises(ArtifactError):
        face_api.read_model(tmp_path / "cut.tgz", "expression")
    with pytest.raises(NotFoundError):
        face_api.read_model(tmp_path / "nowhere.tgz", "expression")
    with pytest.raises(ArtifactError):  # of another network
        save_quantized(tmp_path / "out", {"judge": face_api.read_model(folder, "points")}, {})
    assert not (tmp_path / "out").exists()


def test_bytes_without_steps(tmp_path: Path) -> None:
    folder = cards_folder() / "face-finder"
    tensors = load_file(folder / "model.safetensors")
    name = "finder.conv0.weight"
    levels = Quantized(tensors[f"{name}.bytes"], *tensors[f"{name}.steps"].tolist())
    assert levels.values().shape == (16, 3, 3, 3)
    del tensors[f"{name}.steps"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError):
        unpacked(load_file(tmp_path / "model.safetensors"))


# ---------------------------------------------------------------- layers


@pytest.mark.parametrize("size", [7, 8, 13, 112])
def test_padding_as_in_tensorflow(size: int) -> None:
    """The last row is padded first: with an even size, the window begins at the first pixel."""
    conv = SameConv(1, 1, 3, 2, bias=False).requires_grad_(False)
    torch.nn.init.zeros_(conv.weight)
    conv.weight.data[0, 0, 0, 0] = 1  # takes the upper left pixel of each window
    image = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size) + 1
    out = conv(image)[0, 0]
    assert out.shape == (-(-size // 2),) * 2
    assert float(out[0, 0]) == (1 if size % 2 == 0 else 0)


def test_boxes_that_overlap() -> None:
    boxes = torch.tensor(
        [[0, 0, 10, 10, 0.6], [1, 1, 11, 11, 0.9], [20, 0, 30, 10, 0.7], [5, 5, 5, 5, 0.65]]
    )
    assert distinct(boxes)[:, 4].tolist() == pytest.approx([0.9, 0.7, 0.65])
    assert distinct(boxes[:0]).shape == (0, 5)
    with pytest.raises(ValueError):
        FaceFinder()(torch.zeros(1, 3, 100, 100))


def test_a_square_and_its_places() -> None:
    image = torch.zeros(1, 3, 60, 80)
    image[:, :, 20, 50] = 1
    square = Square(50.5, 20.5, 8, 0.6)
    seen = square.seen(image, 32)
    bright = (seen[0, 0] == seen[0, 0].max()).nonzero()[0].tolist()
    assert bright == pytest.approx([15.5, 15.5], abs=1)
    corner = square.places(torch.tensor([[1.0, 0.5]]))[0]
    assert corner.tolist() == pytest.approx(
        [50.5 + 8 * np.cos(0.6), 20.5 + 8 * np.sin(0.6)], abs=1e-3
    )
    assert Square(0, 0, 10).seen(image, 8)[0, 0, 0, 0] == -1  # black outside of the picture


# ---------------------------------------------------------------- finding


def test_both_photographs(
    finder: PeopleFinder, astronaut: Image.Image, hopper: Image.Image
) -> None:
    (one,) = finder.faces(astronaut)  # not the helmet
    (other,) = finder.faces(hopper)
    assert one.score > 0.9 and one.doubt < 0.04 and other.score > 0.9
    assert one.landmarks.left_eye == pytest.approx((204, 101), abs=6)
    assert one.landmarks.right_eye == pytest.approx((249, 101), abs=6)
    assert other.landmarks.mouth == pytest.approx((268, 277), abs=8)
    smiling, serious = read_face(astronaut, one), read_face(hopper, other)
    assert smiling.expression == "happy" and serious.expression == "neutral"
    assert sum(smiling.expressions.values()) == pytest.approx(1, abs=1e-4)
    assert smiling.age < 40 < 50 < serious.age < 90


def test_a_turned_and_a_mirrored_face(finder: PeopleFinder, astronaut: Image.Image) -> None:
    (upright,) = finder.faces(astronaut)
    (turned,) = finder.faces(astronaut.rotate(90))
    x, y = upright.landmarks.mouth
    assert turned.landmarks.mouth == pytest.approx((y, 511 - x), abs=5)
    (mirrored,) = finder.faces(astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert mirrored.landmarks.mouth == pytest.approx((511 - x, y), abs=4)


def test_several_faces_the_largest_first(
    finder: PeopleFinder, astronaut: Image.Image, hopper: Image.Image
) -> None:
    both = Image.new("RGB", (1000, 600), (90, 110, 120))
    both.paste(astronaut, (0, 0)), both.paste(hopper.resize((400, 469)), (560, 60))
    faces = finder.faces(both)
    assert len(faces) == 2
    sizes = [face.landmarks.size for face in faces]
    assert sizes == sorted(sizes, reverse=True)
    landmarks = finder(both)
    assert [one.score for one in landmarks] == [face.score for face in faces]


@pytest.mark.parametrize("name", ["chelsea.png", "coffee.png", "rocket.jpg"])
def test_nobody_is_there(finder: PeopleFinder, name: str) -> None:
    assert finder.faces(photograph("skimage", f"data/{name}")) == []


def test_unsteady_points_are_no_face(finder: PeopleFinder, monkeypatch: pytest.MonkeyPatch) -> None:
    cat = photograph("skimage", "data/chelsea.png")
    monkeypatch.setattr(people, "_MOST_DOUBT", 1.0)
    monkeypatch.setattr(people, "_is_plausible", lambda face: True)
    assert any(face.doubt > 0.1 for face in finder.faces(cat))  # doubt removes the cat


def test_an_aligned_picture_as_ffhq_cuts_it(finder: PeopleFinder, astronaut: Image.Image) -> None:
    (face,) = finder.faces(astronaut)
    photo = Photo.of(astronaut)
    crop = cut(photo, align(photo, face.landmarks), 256)
    (again,) = finder.faces(crop)
    eyes = np.array([again.landmarks.left_eye, again.landmarks.right_eye])
    assert np.abs(eyes - [[97, 122], [159, 122]]).max() < 12  # their places in FFHQ


# ---------------------------------------------------------------- drawing


def traits(**changes: Any) -> Traits:
    reading = people.FaceReading({"neutral": 0.9, "happy": 0.1}, 30)
    usual: dict[str, Any] = dict(
        skin=(0.95, 0.8, 0.7), hair=(0.1, 0.09, 0.1), hair_cover=0.9, hair_length=0.0, hat=False,
        beard=0.0, glasses=0.0, lips=(0.8, 0.5, 0.5), lipstick=0.0, turn=0.0, face_width=1.1,
        background=(0.5, 0.68, 0.9), clothes=None, reading=reading,
    )  # fmt: skip
    return Traits(**usual | changes)


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"hair": None}, {"hair_style": "bald"}),
        ({"hair_length": 2.0}, {"hair_style": "long"}),
        ({"hair": (0.9, 0.75, 0.4)}, {"hair_color": "blonde"}),
        ({"hair": (0.68, 0.69, 0.72)}, {"hair_color": "grey"}),
        ({"skin": (0.45, 0.3, 0.22)}, {"skin": "dark"}),
        ({"glasses": 0.9}, {"glasses": "yes"}),
        ({"beard": 0.8}, {"beard": "yes"}),
        ({"turn": -0.6}, {"pose": "left"}),
        (
            {"reading": people.FaceReading({"happy": 1.0}, 70)},
            {"expression": "smiling", "age": "old"},
        ),
        ({"background": None}, {}),
        ({"clothes": (0.1, 0.1, 0.12)}, {"clothes": "black"}),
    ],
)
def test_traits_become_labels(changes: dict[str, Any], label: dict[str, str]) -> None:
    drawn = portrait_like(traits(**changes)).label_names(0)
    assert {name: drawn[name] for name in label} == label
    usual = labels_like(traits())
    assert usual["glasses"] == "no" and usual["pose"] == "front" and usual["age"] == "young"


def test_traits_of_both_photographs(
    finder: PeopleFinder, astronaut: Image.Image, hopper: Image.Image
) -> None:
    one = measure(astronaut, finder.faces(astronaut)[0])
    other = measure(hopper, finder.faces(hopper)[0])
    assert one.glasses < 0.5 < other.glasses and other.hat and not one.hat
    assert one.beard < 0.5 and other.beard < 0.5 and abs(one.turn) < 0.3
    assert one.background is not None and max(one.background) - min(one.background) < 0.15  # gray
    assert other.background is not None and other.background[2] > other.background[0] + 0.2  # blue


@pytest.mark.slow
def test_a_portrait_takes_the_place_of_an_inversion(
    portraits: StyleEditPipeline, hopper: Image.Image, tmp_path: Path
) -> None:
    photo = Photo.of(hopper, "hopper.jpg")
    alignment = locate(portraits, photo)
    face = undrawable_person(portraits, photo, alignment)
    assert face is not None
    person = portrait_of(portraits, photo, alignment, face)
    person.save(tmp_path / "hopper.safetensors")
    again = Person.load(tmp_path / "hopper.safetensors")
    assert again.is_portrait and again.likeness is None
    drawn = again.settings["portrait"]
    assert drawn["glasses"] == "yes" and drawn["age"] == "old" and drawn["background"] == "blue"


@pytest.mark.slow
def test_a_drawing_is_inverted_as_ever(portraits: StyleEditPipeline) -> None:
    (picture,) = portraits(seed=3).images
    photo = Photo(picture)
    assert undrawable_person(portraits, photo, middle(photo.size)) is None


def test_another_domain_draws_no_portraits(inverting_pipeline: StyleEditPipeline) -> None:
    with pytest.raises(MismatchError) as raised:
        by_drawing(inverting_pipeline, portrait_like(traits()))
    assert raised.value.remedy


@pytest.mark.slow
def test_the_shell_says_what_it_draws(hopper: Image.Image, tmp_path: Path) -> None:
    hopper.save(tmp_path / "hopper.png")
    run = CliRunner().invoke(main, ["invert", str(tmp_path / "hopper.png")])
    assert run.exit_code == 0, run.output
    assert "cartoons" in run.output and "glasses yes" in run.output
    person = tmp_path / "hopper.safetensors"
    edited = CliRunner().invoke(main, ["edit", str(person), "--edit", "afro-hair:1"])
    assert edited.exit_code == 0, edited.output
    with Image.open(tmp_path / "hopper-edited.png") as picture:
        assert picture.size == (256, 256)  # not pasted into the photograph


@pytest.mark.slow
def test_the_judge_tells_two_people_apart(
    finder: PeopleFinder, astronaut: Image.Image, hopper: Image.Image
) -> None:
    try:
        load_judge()
    except NotFoundError as error:
        pytest.skip(str(error))
    mirrored = astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    same, other = judged_distance(astronaut, mirrored), judged_distance(astronaut, hopper)
    assert same is not None and other is not None
    assert same < 0.3 < USUAL_THRESHOLD < other
    assert judged_distance(astronaut, Image.new("RGB", (64, 64))) is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_whole_path_with_a_generator_of_full_size(
    astronaut: Image.Image, tiny_pipeline: StyleEditPipeline
) -> None:
    """Align, invert, edit and paste with FFHQ's sizes and random weights."""
    torch.manual_seed(0)
    faces = {"generator": StyleGAN2Generator(), "encoder": Encoder(), "recognizer": Recognizer()}
    pipe = StyleEditPipeline(**tiny_pipeline.components | faces)
    photo = Photo.of(astronaut.resize((1200, 1200)), "astronaut.png")
    alignment = locate(pipe, photo)
    assert undrawable_person(pipe, photo, alignment) is None
    person = invert_photo(pipe, photo, alignment)
    edit = Direction(torch.ones(18, 512), "w_plus", pipe.base_model)
    (before,) = pipe(latents=person.latents).images
    (after,) = pipe(latents=person.latents, edits=[(edit, 2.0)]).images
    assert after.size == (1024, 1024)
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    way = np.stack(np.meshgrid(np.arange(1200), np.arange(1200)), 2) - a
    pixel = 1 / min(alignment.extent)
    shares = [way @ (axis / (axis @ axis)) for axis in (d - a, b - a)]
    inside = np.logical_and(*((-pixel < share) & (share < 1 + pixel) for share in shares))
    original = np.asarray(photo.image)
    for where, keep_own in (("face", 0.0), ("changed", 0.0), ("face", 1.0)):
        result = np.asarray(paste(photo, alignment, after, before, where, keep_own))
        assert (result[~inside] == original[~inside]).all() and not inside.all()
        if keep_own == 0:
            assert (result[inside] != original[inside]).any()


def test_a_face_knows_where_it_looks() -> None:
    points = np.zeros((68, 2))
    points[36:42], points[42:48] = (10, 20), (30, 20)
    points[48], points[54], points[8], points[30] = (14, 40), (26, 40), (20, 52), (20, 30)
    points[points.sum(1) == 0] = (20, 30)
    face = Face(points, 0.9, 0.01)
    assert face.square.angle == 0 and face.landmarks.score == 0.9
    assert face.landmarks.mouth == (20, 40)
