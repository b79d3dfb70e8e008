"""Pictures are read or refused with a reason; faces are cut out exactly and pasted back."""

from __future__ import annotations

import io
import json
import math
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw

from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.photos import finders, photo
from stylegan_hub.photos.align import (
    Alignment,
    Landmarks,
    NoFaceError,
    align,
    choose,
    cropped,
    cut,
    ffhq_quad,
    find_faces,
    fitted_framing,
    middle,
    whole,
)
from stylegan_hub.photos.paste import overlay, paste, undrawn
from stylegan_hub.photos.photo import Photo, list_photos, read_photo


def gradient(width: int, height: int) -> Image.Image:
    """Smooth, and different everywhere: red grows to the right, green downward."""
    x = np.linspace(20, 220, width)[None, :].repeat(height, 0)
    y = np.linspace(20, 220, height)[:, None].repeat(width, 1)
    return Image.fromarray(np.stack([x, y, np.full_like(x, 90)], 2).astype(np.uint8))


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_upright(tmp_path: Path, orientation: int) -> None:
    upright = gradient(40, 24)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "me.png", exif=exif)
    read = read_photo(tmp_path / "me.png")
    assert read.image.tobytes() == upright.tobytes() and read.name == "me.png"


def test_modes(tmp_path: Path) -> None:
    color = gradient(32, 32)
    gray16 = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) * 64
    clear = color.copy()
    clear.putalpha(Image.new("L", color.size, 0))
    pictures = {
        "gray.png": color.convert("L"), "palette.gif": color.quantize(64),
        "bits.png": color.convert("1"), "cmyk.jpg": color.convert("CMYK"),
        "gray16.png": Image.fromarray(gray16), "clear.png": clear,
        "gray-alpha.png": color.convert("LA"), "color.webp": color, "color.bmp": color,
        "big-endian.tif": Image.fromarray(gray16.astype(">u2").view(np.uint16)),
    }  # fmt: skip
    for name, picture in pictures.items():
        picture.save(tmp_path / name)
        read = read_photo(tmp_path / name).image
        assert read.mode == "RGB" and read.size == (32, 32), name
    assert read_photo(tmp_path / "gray16.png").image.getpixel((31, 31)) == (255,) * 3
    assert read_photo(tmp_path / "clear.png").image.getextrema() == ((255, 255),) * 3
    assert read_photo(tmp_path / "clear.png").notes == ("Transparent parts were laid on white.",)
    near = np.asarray(read_photo(tmp_path / "cmyk.jpg").image).astype(int) - np.asarray(color)
    assert np.abs(near).mean() < 6


def test_color_profile(tmp_path: Path) -> None:
    flat = Image.new("RGB", (32, 32), (200, 100, 50))
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("srgb", srgb), ("broken", b"no profile"), ("lab", linear)):
        flat.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert read_photo(tmp_path / f"{name}.png").image.getpixel((9, 9)) == (200, 100, 50)


def test_animations_give_their_first_picture(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue", "lime")]
    for name in ("a.gif", "a.webp", "a.png"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], lossless=True)
        read = read_photo(tmp_path / name)
        assert read.image.getpixel((3, 3)) == (255, 0, 0) or name == "a.gif"
        assert "It holds 3 pictures; the first one was taken." in read.notes


def test_damaged_files(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "webp", "gif"):
        buffer = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(buffer, "JPEG" if suffix == "jpg" else suffix.upper())
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
        with pytest.raises(ArtifactError, match=r"is damaged or cut off|cannot be read as"):
            read_photo(path)
    for name, data in (("text.png", b"hello"), ("empty.png", b""), ("page.eps", b"%!PS-Adobe-3.0")):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ArtifactError, match="cannot be read as AVIF, BMP, GIF, JPEG"):
            read_photo(tmp_path / name)
    with pytest.raises(NotFoundError, match="There is no file"):
        read_photo(tmp_path / "nowhere.png")
    with pytest.raises(ArtifactError, match="is a folder"):
        read_photo(tmp_path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size but holds almost nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(13_000, 13_000), (60_000, 60_000)])
def test_bombs(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "bomb.png").write_bytes(png_header(*size))
    with pytest.raises(ArtifactError, match=r"bomb.png would decode to .* Save a smaller copy"):
        read_photo(tmp_path / "bomb.png")


def test_large_files_and_small_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient(15, 40).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"15 x 40 pixels; expected at least 16"):
        read_photo(tmp_path / "small.png")
    monkeypatch.setattr(photo, "_MAX_BYTES", 10)
    with pytest.raises(ArtifactError, match="pictures of up to 0 MiB are read"):
        read_photo(tmp_path / "small.png")


def test_listing(tmp_path: Path) -> None:
    names = ("b.PNG", "a.jpg", "notes.txt", "._a.jpg", ".hidden.png", "live.MOV", "IMG_1.HEIC")
    for name in (*names, "trip/c.jpg", ".trash/d.jpg", "trip/.Spotlight/e.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_photos(tmp_path)
    assert [path.name for path in listed.photos] == ["IMG_1.HEIC", "a.jpg", "b.PNG"]
    others = {"notes.txt", "._a.jpg", ".hidden.png", "live.MOV", ".trash/"}
    assert set(listed.skipped) == {*others, "trip/"}
    assert "--subfolders" in listed.skipped["trip/"] and all(listed.skipped.values())
    deep = list_photos(tmp_path, subfolders=True)
    assert {path.name for path in deep.photos} == {"IMG_1.HEIC", "a.jpg", "b.PNG", "c.jpg"}
    assert set(deep.skipped) == {*others, "trip/.Spotlight/"}
    apart = list_photos(tmp_path, subfolders=True, results=tmp_path / "trip")
    assert "c.jpg" not in {path.name for path in apart.photos}
    inside = list_photos(tmp_path / "trip", results=tmp_path / "trip")
    assert [path.name for path in inside.photos] == ["c.jpg"]
    with pytest.raises(NotFoundError):
        list_photos(tmp_path / "none")
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "._x.png").touch()
    with pytest.raises(NotFoundError) as raised:
        list_photos(tmp_path / "only")
    assert list(raised.value.got) == ["._x.png"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("numbers", "white"), [((0.0, 1.0), 1), ((0.0, 200.0), 255), ((10.0, 60_000.0), 65535)]
)
def test_32_bits(tmp_path: Path, numbers: tuple[float, float], white: float) -> None:
    ramp = np.linspace(*numbers, 32 * 32, dtype=np.float32).reshape(32, 32)
    Image.fromarray(ramp).save(tmp_path / "deep.tif")
    read = read_photo(tmp_path / "deep.tif")
    expected = np.asarray(ramp / white * 255).round()
    assert np.abs(np.asarray(read.image)[..., 0] - expected).max() <= 1 and read.notes
    for broken in (np.full((32, 32), -1, np.float32), np.full((32, 32), np.nan, np.float32)):
        with pytest.raises(ValueError, match="32-bit numbers"):
            Photo.of(Image.fromarray(broken))


def test_a_large_jpeg_is_decoded_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gradient(400, 300).save(tmp_path / "a.jpg")
    gradient(400, 300).save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.jpg").size == (400, 300)
    monkeypatch.setattr(photo, "_COMFORTABLE", 400 * 300 // 3)
    read = read_photo(tmp_path / "a.jpg")
    assert read.size == (200, 150) and len(read.notes) == 1
    assert np.abs(np.asarray(read.image, int) - np.asarray(gradient(200, 150), int)).mean() < 3
    assert read_photo(tmp_path / "a.png").size == (400, 300)  # no cheaper size is possible
    assert Image.MAX_IMAGE_PIXELS is not None


def test_heic_without_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(40))
    monkeypatch.setattr(photo.importlib, "import_module", missing)
    with pytest.raises(ArtifactError, match=r"stylegan-hub\[heic\]"):
        read_photo(tmp_path / "phone.heic")


def test_heic(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    gradient(64, 48).save(tmp_path / "phone.heic", quality=90)
    read = read_photo(tmp_path / "phone.heic")
    assert np.abs(np.asarray(read.image, int) - np.asarray(gradient(64, 48), int)).mean() < 6


# ---------------------------------------------------------------- aligning

FACE = Landmarks((430.0, 300.0), (530.0, 320.0), (460.0, 420.0))


def test_the_square_of_ffhq() -> None:
    """Comparison with the formula of the published alignment, written with its own names."""
    eye_left, eye_right, mouth = (np.array(p) for p in (FACE.left_eye, FACE.right_eye, FACE.mouth))
    eye_avg = (eye_left + eye_right) / 2
    eye_to_eye, eye_to_mouth = eye_right - eye_left, mouth - eye_avg
    x = eye_to_eye - np.flip(eye_to_mouth) * [-1, 1]
    x = x / np.hypot(*x)
    x = x * max(np.hypot(*eye_to_eye) * 2.0, np.hypot(*eye_to_mouth) * 1.8)
    y = np.flip(x) * [-1, 1]
    c = eye_avg + eye_to_mouth * 0.1
    expected = np.stack([c - x - y, c - x + y, c + x + y, c + x - y])
    assert np.allclose(ffhq_quad(FACE), expected, atol=1e-9)
    found = align(Photo(gradient(1000, 800)), FACE)
    assert found.extent == pytest.approx([2 * np.hypot(*x)] * 2) and not found.is_whole


def test_68_points() -> None:
    points = np.full((68, 2), 7.0)
    points[36:42], points[42:48] = (430, 300), (530, 320)
    points[[48, 54]] = (440, 415), (480, 425)
    assert Landmarks.from_68(points) == FACE
    with pytest.raises(ValueError, match=r"shape \[5, 2\]; expected \[68, 2\]"):
        Landmarks.from_68(points[:5])


def test_clicks_in_any_order() -> None:
    assert Landmarks.from_clicks(FACE.right_eye, FACE.left_eye, FACE.mouth) == FACE
    assert Landmarks.from_clicks(FACE.left_eye, FACE.right_eye, FACE.mouth) == FACE
    upside_down = Landmarks.from_clicks((10, 50), (50, 50), (30, 10))
    assert upside_down.left_eye == (50, 50)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (((0, 0), (10, 0), (20, 0)), "the three lie on a line"),
        (((5, 5), (5, 5), (5, 5)), "the three lie on a line"),
        (((50, 0), (10, 0), (30, 40)), "the eyes are swapped"),
        (((math.nan, 0), (10, 0), (5, 9)), r"expected three points \(x, y\)"),
    ],
)
def test_impossible_landmarks(points: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Landmarks(*points)


def test_fitted_framing_recovers_the_square() -> None:
    usual = Landmarks((-0.2, 0.0), (0.2, 0.05), (0.0, 0.4))
    turn = 40 * complex(math.cos(2.0), math.sin(2.0))
    moved = [turn * complex(*p) + complex(100, 80)
             for p in (usual.left_eye, usual.right_eye, usual.mouth)]  # fmt: skip
    quad = fitted_framing(usual)(Landmarks(*((z.real, z.imag) for z in moved)))
    corners = [turn * complex(*p) + complex(100, 80) for p in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
    assert np.allclose(quad, [(z.real, z.imag) for z in corners])


@pytest.mark.parametrize("resolution", [64, 300])
def test_cut_shows_what_is_in_the_square(resolution: int) -> None:
    """Spots of light are where the square says, to a tenth of a pixel of the result."""
    width, height = 1200, 900
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    spots = [FACE.left_eye, FACE.right_eye, FACE.mouth]
    light = sum(240 * np.exp(-((x - sx) ** 2 + (y - sy) ** 2) / 450) for sx, sy in spots)
    picture = Photo(Image.fromarray(np.asarray(light).astype(np.uint8)).convert("RGB"))
    alignment = align(picture, FACE)
    result = np.asarray(cut(picture, alignment, resolution)).astype(float)[..., 0]
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    columns, rows = np.meshgrid(*[np.arange(resolution)] * 2)
    for spot in spots:
        shares = [(np.array(spot) - a) @ (axis / (axis @ axis)) for axis in (d - a, b - a)]
        u, v = (share * resolution - 0.5 for share in shares)
        near = result * (np.hypot(columns - u, rows - v) < 0.1 * resolution)
        middle = np.array([(near * columns).sum(), (near * rows).sum()]) / near.sum()
        assert np.abs(middle - (u, v)).max() < 0.1


@pytest.mark.parametrize("size", [(6000, 4000), (40, 30)])
def test_huge_and_tiny_photos(size: tuple[int, int]) -> None:
    width, height = size
    places = [(0.4 * width, 0.4 * height), (0.6 * width, 0.4 * height), (0.5 * width, 0.7 * height)]
    picture = Photo(gradient(60, 40).resize(size))
    result = cut(picture, align(picture, Landmarks(*places)), 32)
    red, green, _ = result.getpixel((16, 16))  # type: ignore[misc]
    assert result.size == (32, 32) and abs(red - 120) < 12 and abs(green - 110) < 16


def test_beyond_the_edge_it_is_reflected_and_fades() -> None:
    stripes = Image.fromarray(((np.indices((200, 300)).sum(0) // 4 % 2) * 255).astype(np.uint8))
    picture = Photo(stripes.convert("RGB"))
    face = Landmarks((20.0, 60.0), (60.0, 60.0), (40.0, 100.0))
    alignment = align(picture, face)
    assert min(x for x, _ in alignment.quad) < -30
    result = np.asarray(cut(picture, alignment, 160)).astype(float)
    inside, outside = result[40:120, 100:140], result[40:120, :10]
    assert inside.std() > 2 * outside.std() and 60 < outside.mean() < 200


def test_aligned_pictures_stay_as_they_are() -> None:
    picture = Photo(gradient(64, 64))
    entire = whole(picture.size)
    assert entire.is_whole and cut(picture, entire, 64).tobytes() == picture.image.tobytes()
    assert cut(picture, entire, 32).size == (32, 32)
    usual = Landmarks((-0.3, -0.1), (0.3, -0.1), (0.0, 0.4))
    # Found slightly off the edges: the whole picture was meant.
    nearly = [((x + 1) * 32 + 0.3, (y + 1) * 32 - 0.6) for x, y in
              (usual.left_eye, usual.right_eye, usual.mouth)]  # fmt: skip
    assert align(picture, Landmarks(*nearly), fitted_framing(usual)).is_whole
    with pytest.raises(ValueError, match="30 x 20 pixels"):
        whole((30, 20))


@pytest.mark.parametrize(
    ("size", "shape", "box"),
    [
        ((300, 100), (48, 64), (83, 0, 216, 100)),
        ((300, 400), (48, 64), (0, 87, 300, 312)),
        ((640, 480), (48, 64), (0, 0, 640, 480)),
        ((30, 20), (1, 1), (5, 0, 25, 20)),
        ((17, 16), (16, 9), (4, 0, 13, 16)),
    ],
)
def test_the_middle_of_a_picture(
    size: tuple[int, int], shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    alignment = middle(size, "house.png", shape)
    assert alignment.box == box and alignment.extent == (box[2] - box[0], box[3] - box[1])
    assert alignment.is_whole == (box == (0, 0, *size))
    assert Alignment.from_json(alignment.to_json()).box == box
    picture = Photo(gradient(*size), "house.png")
    result = cut(picture, alignment, (box[3] - box[1], box[2] - box[0]))
    assert result.tobytes() == picture.image.crop(box).tobytes()
    if alignment.is_whole:
        assert whole(size, "house.png", shape) == alignment
    else:
        with pytest.raises(ValueError, match=r"an aligned picture .* have it cut out"):
            whole(size, "house.png", shape)


def test_only_the_middle_has_a_box() -> None:
    assert align(Photo(gradient(1000, 800)), FACE).box is None
    upright = align(
        Photo(gradient(400, 300)), Landmarks((180.0, 130.0), (220.0, 130.0), (200, 170))
    )
    assert upright.box is None
    assert replace(upright, quad=((0.0, 0.0),) * 4).box is None


def test_landmarks_frame_pictures_that_are_no_squares() -> None:
    """The quad is the middle of the square, as the picture is the middle of the render."""
    picture = Photo(gradient(1000, 800))
    assert cropped(ffhq_quad, (64, 64)) is ffhq_quad
    square, wide = (align(picture, FACE, cropped(ffhq_quad, shape)) for shape in ((1, 1), (48, 64)))
    assert wide.extent == pytest.approx((square.extent[0], 0.75 * square.extent[1]))
    a, b, c, d = (np.array(corner) for corner in square.quad)
    down = (b - a) / 8
    assert np.allclose(wide.quad, [a + down, b - down, c - down, d + down])
    in_square = np.asarray(cut(picture, square, 256)).astype(int)[32:224]
    alone = np.asarray(cut(picture, wide, (192, 256))).astype(int)
    assert alone.shape == (192, 256, 3) and np.abs(alone - in_square).max() <= 2
    tall = align(picture, FACE, cropped(ffhq_quad, (64, 16)))
    assert tall.extent == pytest.approx((square.extent[0] / 4, square.extent[1]))


def test_alignment_as_text() -> None:
    alignment = align(Photo(gradient(1000, 800), "me.jpg"), FACE)
    assert Alignment.from_json(alignment.to_json()) == alignment
    state = json.loads(alignment.to_json())
    for change in (
        {"name": "../me.jpg"}, {"name": "C:\\me.jpg"}, {"quad": [[0, 0]] * 3}, {"size": [0, 4]},
        {"quad": [[0, 0], [0, 1], [1, float("inf")], [1, 0]]}, {"quad": [[5, 5]] * 4},
        {"quad": [[0, 0], [0, 1], [1e300, 1e300], [1, 0]]},
        {"quad": [[0, 0], [4, 4], [2, 2], [1, 1]]}, {"name": 7}, {"size": None},
    ):  # fmt: skip
        with pytest.raises(ArtifactError, match="The alignment of a photograph is damaged"):
            Alignment.from_json(json.dumps(state | change))
    with pytest.raises(ArtifactError, match="is damaged"):
        Alignment.from_json("[" * 100_000)


def test_wrong_photo_and_faraway_faces() -> None:
    picture = Photo(gradient(1000, 800), "me.png")
    with pytest.raises(ValueError, match="Give the same photo again"):
        cut(Photo(gradient(100, 80)), align(picture, FACE), 32)
    far = Landmarks((4000.0, 10.0), (4100.0, 10.0), (4050.0, 90.0))
    with pytest.raises(ValueError, match=r"Got a face around \(4050, 18\), outside of me.png"):
        align(picture, far)


# ---------------------------------------------------------------- finding


def moved(face: Landmarks, x: float, scale: float = 1.0) -> Landmarks:
    points = (face.left_eye, face.right_eye, face.mouth)
    return Landmarks(*((scale * px + x, scale * py) for px, py in points))


def test_the_largest_face_first_and_a_choice() -> None:
    picture = Photo(gradient(1000, 800))
    crowd = [moved(FACE, 0, 0.5), FACE, moved(FACE, 100, 0.7)]
    faces = find_faces(picture, lambda _: crowd)
    assert faces == [FACE, crowd[2], crowd[0]]
    assert choose(faces) is FACE and choose(faces, 3) is crowd[0]
    with pytest.raises(ValueError, match=r"Got face 4 of 3: 1 near \(460, 420\), 2 near"):
        choose(faces, 4)
    with pytest.raises(NoFaceError, match=r"No face was found in picture \(1000 x 800\).*--points"):
        find_faces(picture, lambda _: [])


def without_landmarker() -> Any:
    generator = SimpleNamespace(img_size=(64, 64))
    return SimpleNamespace(landmarker=None, recognizer=None, neutral="a face", generator=generator)


def test_locating(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = without_landmarker()
    picture = Photo(gradient(1000, 800), "us.png")
    two = [FACE, moved(FACE, 0, 0.5)]
    with pytest.warns(UserWarning, match=r"us.png shows 2 faces; the largest was taken"):
        found = finders.locate(pipe, picture, provider=lambda _: two)
    assert found == align(picture, FACE)
    assert finders.locate(pipe, picture, 2, lambda _: two) == align(picture, two[1])
    monkeypatch.setattr(finders.importlib, "import_module", missing)
    with pytest.raises(NoFaceError):  # the bundled networks find no person
        finders.locate(pipe, Photo(gradient(64, 64)))
    monkeypatch.setenv(finders.MEDIAPIPE_VARIABLE, "face.task")
    with pytest.raises(NoFaceError, match=r"mediapipe.*not installed"):
        finders.locate(pipe, picture)


def test_whose_pictures_are_faces() -> None:
    def pipe(neutral: str, size: tuple[int, int] = (64, 64), **parts: object) -> Any:
        generator = SimpleNamespace(img_size=size)
        none = {"landmarker": None, "recognizer": None}
        return SimpleNamespace(neutral=neutral, generator=generator, **(none | parts))

    for drawing, expected in (
        (pipe("a face"), True),
        (pipe("the face of a baby"), True),
        (pipe("a person", recognizer=1), True),
        (pipe("a cat", landmarker=1), True),
        (pipe("a cat"), False),
        (pipe("a surface"), False),
        (pipe("a face", (48, 64)), False),  # the default text of an assembled pipeline
        (pipe("a face", (48, 64), landmarker=1), True),
    ):
        assert finders.draws_faces(drawing) == expected
    picture = Photo(gradient(300, 100), "car.jpg")
    cars = pipe("a car", (48, 64))
    assert finders.locate(cars, picture) == middle((300, 100), "car.jpg", (48, 64))
    with pytest.raises(ValueError, match=r"Got face 1, .* does not render faces \('a car'\)"):
        finders.locate(cars, picture, 1)
    found = finders.locate(cars, picture, provider=lambda _: [moved(FACE, 0, 0.2)])
    width, height = found.extent
    assert height == pytest.approx(0.75 * width)


def missing(name: str) -> ModuleType:
    raise ImportError(f"No module named {name!r}")


def test_mediapipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in of the same interface, because the package contains no model file."""
    seen: dict[str, Any] = {}
    points = [SimpleNamespace(x=0.0, y=0.0) for _ in range(478)]
    left, right, mouth = finders._LEFT_EYE, finders._RIGHT_EYE, finders._MOUTH
    for indices, x, y in ((left, 0.4, 0.4), (right, 0.6, 0.4), (mouth, 0.5, 0.7)):
        for index in indices:
            points[index] = SimpleNamespace(x=x, y=y)
    profile = [SimpleNamespace(x=0.5, y=0.5) for _ in range(478)]

    class FaceLandmarker:
        @staticmethod
        def create_from_options(options: Any) -> FaceLandmarker:
            seen["options"] = options
            if options["base_options"]["model_asset_buffer"] != b"model":
                raise RuntimeError("Unable to open zip archive.")  # as mediapipe 1.2 does
            return FaceLandmarker()

        def __enter__(self) -> FaceLandmarker:
            return self

        def __exit__(self, *_: object) -> None: ...

        def detect(self, image: Any) -> Any:
            seen["pixels"] = image.pixels
            return SimpleNamespace(face_landmarks=[points, profile])

    vision = SimpleNamespace(
        FaceLandmarker=FaceLandmarker, FaceLandmarkerOptions=lambda **options: options
    )
    stand_in = SimpleNamespace(
        tasks=SimpleNamespace(vision=vision, BaseOptions=lambda **options: options),
        Image=lambda kind, pixels: SimpleNamespace(kind=kind, pixels=pixels),
        ImageFormat=SimpleNamespace(SRGB=1),
    )
    monkeypatch.setattr(finders.importlib, "import_module", lambda name: stand_in)
    monkeypatch.setenv(finders.MEDIAPIPE_VARIABLE, str(tmp_path / "face.task"))
    with pytest.raises(NotFoundError, match=r"face.task. Download https://storage.googleapis"):
        finders.MediaPipeLandmarks()
    (tmp_path / "face.task").write_bytes(b"model")
    (face,) = finders.finder(without_landmarker())(gradient(2000, 1000))
    assert seen["pixels"].shape == (640, 1280, 3) and seen["pixels"].flags.c_contiguous
    assert seen["options"]["base_options"] == {"model_asset_buffer": b"model"}
    expected = Landmarks((799.5, 399.5), (1199.5, 399.5), (999.5, 699.5))
    for name in ("left_eye", "right_eye", "mouth"):
        assert getattr(face, name) == pytest.approx(getattr(expected, name), abs=0.01)
    (tmp_path / "face.task").write_bytes(b"half a mod")
    with pytest.raises(ArtifactError, match=r"face.task \(Unable to open zip.*\)\. Download https"):
        finders.MediaPipeLandmarks()(gradient(20, 10))


# ---------------------------------------------------------------- pasting


def scene() -> tuple[Photo, Alignment, Image.Image]:
    """A photo, a turned face in it, and the aligned picture."""
    image = gradient(400, 300)
    ImageDraw.Draw(image).ellipse((150, 90, 250, 210), fill=(230, 190, 160))
    picture = Photo(image)
    face = Landmarks((185.0, 130.0), (218.0, 140.0), (192.0, 170.0))
    alignment = align(picture, face)
    return picture, alignment, cut(picture, alignment, 256)


def inside(alignment: Alignment) -> np.ndarray[Any, Any]:
    """Which pixels of the photo touch the square."""
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    width, height = alignment.size
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    way = np.stack([x, y], 2) - a
    margin = 1 / alignment.extent[0]
    shares = [way @ (axis / (axis @ axis)) for axis in (d - a, b - a)]
    return np.logical_and(*((-margin < share) & (share < 1 + margin) for share in shares))


def test_an_unedited_face_leaves_the_photo_alone() -> None:
    picture, alignment, face = scene()
    assert paste(picture, alignment, face, face).tobytes() == picture.image.tobytes()
    again = np.asarray(paste(picture, alignment, face, where="face")).astype(int)
    change = np.abs(again - np.asarray(picture.image)).max(2)
    assert np.quantile(change, 0.99) <= 4  # cut out and turned back twice, nothing moved


def test_only_the_edit_is_pasted_and_where_it_belongs() -> None:
    picture, alignment, face = scene()
    edited = face.copy()
    ImageDraw.Draw(edited).ellipse((118, 58, 138, 78), fill=(20, 20, 200))
    result = np.asarray(paste(picture, alignment, edited, face)).astype(int)
    change = np.abs(result - np.asarray(picture.image)).max(2)
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    x, y = a + (d - a) * 128 / 256 + (b - a) * 68 / 256
    assert change[round(y), round(x)] > 100
    rows, columns = np.nonzero(change)
    assert np.hypot(columns - x, rows - y).max() < 0.15 * alignment.extent[0]
    weighted = np.array(
        [(columns * change[rows, columns]).sum(), (rows * change[rows, columns]).sum()]
    )
    assert np.abs(weighted / change.sum() - (x, y)).max() < 1.0


def test_outside_of_the_square_every_pixel_stays() -> None:
    picture, alignment, face = scene()
    white = Image.new("RGB", face.size, "white")
    for options in ({"where": "face"}, {"before": face}):
        result = np.asarray(paste(picture, alignment, white, **options))  # type: ignore[arg-type]
        outside = ~inside(alignment)
        assert (result[outside] == np.asarray(picture.image)[outside]).all()
        middle = np.array(alignment.quad).mean(0).round().astype(int)
        assert result[middle[1], middle[0]].min() > 200


def test_tone_follows_the_photo() -> None:
    """A render that is too dark everywhere does not darken the photo around the edit."""
    picture, alignment, face = scene()
    dark = face.point(lambda value: max(0, value - 30))
    edited = dark.copy()
    ImageDraw.Draw(edited).rectangle((100, 100, 156, 156), outline=(255, 0, 0), width=6)
    result = np.asarray(paste(picture, alignment, edited, dark)).astype(int)
    difference = (result - np.asarray(picture.image))[..., 2]
    assert difference[np.abs(difference) > 0].max() < 60
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    x, y = (a + (d - a) * 0.5 + (b - a) * 0.5).round().astype(int)
    assert abs(difference[y, x]) < 12


def test_no_edge_around_a_whole_face() -> None:
    """An edit that reaches beyond the border, such as large hair, ends without a step."""
    picture, alignment, face = scene()
    edited = face.copy()
    ImageDraw.Draw(edited).rectangle((0, 60, 255, 120), fill=(60, 40, 30))
    plain, meeting = (
        np.asarray(paste(picture, alignment, edited, before, "face", 0.0)).astype(int)
        for before in (None, face)
    )
    steps = []
    for result in (plain, meeting):
        change = result - np.asarray(picture.image)
        across = np.abs(np.diff(change, axis=1)).max(2)
        a, b, _, d = (np.array(corner) for corner in alignment.quad)
        seam = [a + (d - a) * depth + (b - a) * 0.35 for depth in np.linspace(0.0, 0.12, 12)]
        steps.append(max(across[round(y), round(x)] for x, y in seam))
    assert steps[1] < 0.7 * steps[0]
    assert (meeting[~inside(alignment)] == np.asarray(picture.image)[~inside(alignment)]).all()


def test_what_cannot_be_drawn_stays() -> None:
    """A hand in front of a face, which the render lacks; the edit is pasted over it."""
    picture, alignment, face = scene()
    covered = picture.image.copy()
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    x, y = a + (d - a) * 0.5 + (b - a) * 0.6
    ImageDraw.Draw(covered).ellipse((x - 20, y - 20, x + 20, y + 20), fill=(20, 200, 40))
    photo = replace(picture, image=covered)
    edited = Image.blend(face, Image.new("RGB", face.size, (250, 240, 120)), 0.6)
    hand = np.hypot(*np.meshgrid(np.arange(400) - x, np.arange(300) - y)) < 17
    changes = []
    for keep in (0.0, 0.5, 1.0):
        result = np.asarray(paste(photo, alignment, edited, face, "changed", keep)).astype(int)
        changes.append(np.abs(result - np.asarray(covered))[hand].mean())
    assert changes[0] > 1.3 * changes[1] > 20 * changes[2] and changes[2] < 1
    own = np.asarray(undrawn(photo, alignment, face))
    assert own[154, 128] > 250 and (own > 10).mean() < 0.25 and own.shape == (256, 256)
    assert np.asarray(undrawn(picture, alignment, face)).max() == 0  # all of it can be rendered
    violet = np.asarray(overlay(face, Image.fromarray(own)))
    assert (violet[154, 128] != np.asarray(face)[154, 128]).any()
    assert (violet[10, 10] == np.asarray(face)[10, 10]).all()
    with pytest.raises(ValueError, match="keep_own"):
        paste(photo, alignment, edited, face, "changed", 1.5)


def test_a_render_that_shows_nothing_of_the_photo_is_no_measure() -> None:
    """If all of a render is wrong, its usual difference is no reason to keep nothing."""
    picture, alignment, face = scene()
    bars = Image.new("RGB", face.size, "white")
    for x in range(0, face.width, 64):
        ImageDraw.Draw(bars).rectangle((x, 0, x + 31, face.height), fill="black")
    own = np.asarray(undrawn(picture, alignment, bars))
    assert (own > 250).mean() > 0.3


def test_pasting_at_the_edge_and_whole_pictures() -> None:
    picture = Photo(gradient(120, 90))
    alignment = align(picture, Landmarks((5.0, 30.0), (25.0, 30.0), (15.0, 50.0)))
    red = Image.new("RGB", (64, 64), "red")
    result = paste(picture, alignment, red, where="face")
    assert result.size == (120, 90) and result.getpixel((15, 36)) == (255, 0, 0)
    assert result.getpixel((119, 89)) == picture.image.getpixel((119, 89))
    square = Photo(gradient(64, 64))
    assert paste(square, whole((64, 64)), red, where="face").tobytes() == red.tobytes()
    larger = Photo(gradient(128, 128))
    assert paste(larger, whole((128, 128)), red, where="face").getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("size", [(300, 120), (200, 300)])
def test_pasting_into_the_middle(size: tuple[int, int]) -> None:
    """Soft only if the photo continues there; outside of the middle every pixel stays."""
    picture = Photo(gradient(*size))
    alignment = middle(size, shape=(48, 64))
    drawn = cut(picture, alignment, (96, 128))
    assert paste(picture, alignment, drawn, drawn).tobytes() == picture.image.tobytes()
    result = np.asarray(paste(picture, alignment, Image.new("RGB", (128, 96), "red"), where="face"))
    left, top, right, bottom = alignment.box or ()
    is_red = (result == (255, 0, 0)).all(2)
    outside = np.ones(is_red.shape, bool)
    outside[top:bottom, left:right] = False
    assert (result[outside] == np.asarray(picture.image)[outside]).all()
    x, y = (left + right) // 2, (top + bottom) // 2
    width = round(0.12 * min(alignment.extent))
    if left > 0:
        assert is_red[0, x] and is_red[-1, x] and not is_red[y, [left, right - 1]].any()
        assert is_red[:, left + width + 3 : right - width - 3].all()
    else:
        assert is_red[y, 0] and is_red[y, -1] and not is_red[[top, bottom - 1], x].any()
        assert is_red[top + width + 3 : bottom - width - 3].all()


def test_pasting_a_turned_picture_that_is_no_square() -> None:
    picture = scene()[0]
    face = Landmarks((185.0, 130.0), (218.0, 140.0), (192.0, 170.0))
    alignment = align(picture, face, cropped(ffhq_quad, (3, 4)))
    drawn = cut(picture, alignment, (192, 256))
    spot = drawn.copy()
    ImageDraw.Draw(spot).ellipse((190, 130, 206, 146), fill=(20, 20, 200))
    result = np.asarray(paste(picture, alignment, spot, drawn)).astype(int)
    change = np.abs(result - np.asarray(picture.image)).max(2)
    a, b, _, d = (np.array(corner) for corner in alignment.quad)
    wanted = a + (d - a) * 198 / 256 + (b - a) * 138 / 192
    rows, columns = np.nonzero(change)
    weights = change[rows, columns]
    assert np.allclose(((columns * weights).sum(), (rows * weights).sum()) / weights.sum(),
                       wanted, atol=1.0)  # fmt: skip


def test_pictures_that_cannot_be_pasted() -> None:
    picture, alignment, face = scene()
    for options, words in (
        ({"after": face}, "without the picture before the edit"),
        ({"after": face, "before": face.resize((32, 32))}, "expected one size, in the shape of"),
        ({"after": face.resize((64, 32)), "where": "face"}, "expected one size, in the shape of"),
        ({"after": face, "where": "mouth"}, "Got where='mouth'"),
    ):
        with pytest.raises(ValueError, match=words):
            paste(picture, alignment, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Give the same photo again"):
        paste(Photo(gradient(30, 30)), alignment, face, face)


def test_tensors_stay_out_of_the_way() -> None:
    """Cutting and pasting need no gradients and leave the random state alone."""
    state = torch.get_rng_state()
    picture, alignment, face = scene()
    paste(picture, alignment, face, face)
    assert torch.equal(state, torch.get_rng_state())
