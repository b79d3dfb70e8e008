"""Pictures survive reading and writing, whatever their mode."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from stylegan_hub import images


def picture(*colors: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """One row of pixels."""
    row = Image.new(mode, (len(colors), 1))
    for x, color in enumerate(colors):
        row.putpixel((x, 0), color if len(color) > 1 else color[0])
    return row


def rgb(tensor: torch.Tensor) -> list[list[int]]:
    """The pixels of one row of pixels."""
    return images.to_uint8(tensor)[0, :, 0].T.tolist()


def test_every_byte_survives() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(1, 3, 1, 1)
    floats = images.from_uint8(pixels)
    assert floats.min() == -1 and floats.max() == 1
    assert torch.equal(images.to_uint8(floats), pixels)
    assert torch.equal(images.to_uint8(images.from_pil(images.to_pil(floats))), pixels)


def test_values_beyond_the_range_are_clipped() -> None:
    floats = torch.tensor([-3.0, 0.0, 7.0]).reshape(1, 1, 1, 3).repeat(1, 3, 1, 1)
    assert rgb(floats) == [[0] * 3, [128] * 3, [255] * 3]


def test_channels_and_axes() -> None:
    red = images.from_pil(picture((255, 0, 0), (0, 0, 255)))
    assert red.shape == (1, 3, 1, 2) and red.dtype == torch.float32
    assert red[0, :, 0, 0].tolist() == [1, -1, -1]
    assert red[0, :, 0, 1].tolist() == [-1, -1, 1]


def test_a_mask_picture_holds_the_numbers() -> None:
    mask = torch.tensor([[0, 7], [12, 255]])
    assert np.array(images.mask_to_pil(mask)).tolist() == mask.tolist()
    with pytest.raises(ValueError, match="numbers 0 to 255; got 0 to 300"):
        images.mask_to_pil(torch.tensor([[0, 300]]))
    with pytest.raises(ValueError, match=r"Expected an int mask \[h, w\]; got torch.float32 \[4\]"):
        images.mask_to_pil(torch.zeros(4))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (picture((200,), mode="L"), [200] * 3),
        (picture((1,), mode="1").point(lambda _: 255), [255] * 3),
        (picture((0, 0, 0, 0), mode="RGBA"), [255] * 3),
        (picture((255, 0, 0, 128), mode="RGBA"), [255, 127, 127]),
        (picture((0, 128), mode="LA"), [127] * 3),
        (picture((255, 0, 0, 0), mode="CMYK"), [0, 255, 255]),
        (Image.fromarray(np.array([[257 * 100]], dtype=np.uint16)), [100] * 3),
        (Image.fromarray(np.array([[257 * 100]], dtype=np.int32)), [100] * 3),
        (picture((10, 20, 30)).quantize(2), [10, 20, 30]),
    ],
    ids=[
        "gray",
        "bits",
        "clear",
        "half-clear",
        "gray-alpha",
        "cmyk",
        "16-bit",
        "32-bit",
        "palette",
    ],
)
def test_modes(source: Image.Image, expected: list[int]) -> None:
    assert rgb(images.from_pil(source)) == [expected]


def test_a_clear_palette_color_is_white() -> None:
    source = picture((10, 20, 30)).quantize(2)
    source.info["transparency"] = 0
    assert rgb(images.from_pil(source)) == [[255] * 3]


def test_exif_turns_the_picture_upright(tmp_path) -> None:
    source = picture((255, 0, 0), (0, 0, 255))
    exif = source.getexif()
    exif[0x0112] = 6  # the camera was turned: shown rotated by 90 degrees, clockwise
    source.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        upright = images.from_pil(turned)
    assert upright.shape == (1, 3, 2, 1)
    assert upright[0, :, 0, 0].tolist() == [1, -1, -1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: images.from_pil([]), "at least one picture"),
        (lambda: images.from_pil([Image.new("RGB", (2, 2)), Image.new("RGB", (3, 2))]), "one size"),
        (lambda: images.from_pil(Image.new("F", (2, 2))), "mode F.*convert it to 8 bits"),
        (
            lambda: images.to_pil(torch.zeros(3, 4, 4)),
            r"\[n, 3, h, w\].*got torch.float32 \[3, 4, 4\]",
        ),
        (lambda: images.to_pil(torch.zeros(1, 3, 4, 4, dtype=torch.uint8)), "got torch.uint8"),
        (lambda: images.to_pil(torch.full((1, 3, 2, 2), float("nan"))), "NaN"),
        (lambda: images.from_uint8(torch.zeros(1, 3, 4, 4)), "Expected uint8.*got torch.float32"),
        (lambda: images.grid([], 2), "got 0 images and 2 columns"),
        (lambda: images.grid(torch.zeros(2, 3, 4, 4), 0), "got 2 images and 0 columns"),
        (lambda: images.strip(), "one shape; got none"),
        (lambda: images.strip(torch.zeros(1, 3, 4, 4), torch.zeros(2, 3, 4, 4)), "one shape"),
        (lambda: images.save(torch.zeros(2, 3, 4, 4), "x.png"), "Expected one image"),
        (lambda: images.save(torch.zeros(1, 3, 4, 4), "x.psd"), "'x.psd': end the name in .gif"),
        (lambda: images.save_gif([], "x.gif"), "at least one image"),
    ],
)
def test_errors(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_grid_and_strip_order() -> None:
    shades = torch.linspace(-1, 1, 6).reshape(6, 1, 1, 1).expand(6, 3, 2, 2)
    sheet = images.from_pil(images.grid(shades[:5], columns=3))
    assert sheet.shape == (1, 3, 4, 6)
    cells = sheet[0, 0, ::2, ::2]
    torch.testing.assert_close(cells[0], shades[:3, 0, 0, 0], atol=0.01, rtol=0)
    torch.testing.assert_close(cells[1, :2], shades[3:5, 0, 0, 0], atol=0.01, rtol=0)
    assert cells[1, 2] == 1  # the free cell

    columns = images.from_pil(images.strip(shades[:3], shades[3:]))[0, 0, ::2, ::2]
    torch.testing.assert_close(columns[:, 0], shades[:3, 0, 0, 0], atol=0.01, rtol=0)
    torch.testing.assert_close(columns[:, 1], shades[3:, 0, 0, 0], atol=0.01, rtol=0)


def test_labels_stand_left_of_their_rows() -> None:
    rows = {"before": torch.zeros(2, 3, 40, 40), "a hat": torch.ones(2, 3, 40, 40)}
    sheet = images.labelled(rows)
    left = sheet.width - 80
    assert left > 20 and sheet.height == 80
    pixels = np.asarray(sheet)
    assert (abs(pixels[:40, left:].astype(int) - 128) <= 1).all() and (
        pixels[40:, left:] == 255
    ).all()
    assert (pixels[:40, :left] < 100).any() and (pixels[40:, :left] < 100).any()
    assert images.labelled(rows, size=20).height == 40
    with pytest.raises(ValueError, match="rows of one shape; got none"):
        images.labelled({})
    with pytest.raises(ValueError, match=r"got \[\(1, 3, 4, 4\), \(2, 3, 4, 4\)\]"):
        images.labelled({"a": torch.zeros(1, 3, 4, 4), "b": torch.zeros(2, 3, 4, 4)})


def test_resize_does_not_alias_and_stays_in_range() -> None:
    stripes = torch.ones(1, 3, 16, 16)
    stripes[..., ::2] = -1
    stripes.requires_grad_()
    small = images.resize(stripes, 4)
    assert small.shape == (1, 3, 4, 4) and small.abs().max() < 0.2  # even gray, without stripes
    small.sum().backward()
    assert stripes.grad is not None and (stripes.grad > 0).all()
    assert images.resize(stripes, (8, 32)).abs().max() <= 1
    assert images.resize(stripes, 16) is stripes


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".gif"])
def test_save(suffix: str, tmp_path) -> None:
    images.save(torch.zeros(1, 3, 16, 16), tmp_path / "new" / f"gray{suffix}")
    with Image.open(tmp_path / "new" / f"gray{suffix}") as source:
        loaded = images.from_pil(source)
    assert loaded.abs().max() < 0.05
    assert os.listdir(tmp_path / "new") == [f"gray{suffix}"]


def test_gif_moves_and_loops(tmp_path) -> None:
    frames = torch.linspace(-1, 1, 4).reshape(4, 1, 1, 1).expand(4, 3, 8, 8)
    images.save_gif(frames, tmp_path / "fade.gif", milliseconds=50)
    with Image.open(tmp_path / "fade.gif") as animation:
        assert (animation.n_frames, animation.info["loop"], animation.info["duration"]) == (
            4,
            0,
            50,
        )
