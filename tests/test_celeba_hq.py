"""The reader of Multi-Modal CelebA-HQ: real files, a split that may be swapped, and bad files."""

import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylegan_hub import images as image_files
from stylegan_hub.celeba_hq import CelebAHQ
from stylegan_hub.checkpoints.name_list import read_names
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.captions import captions
from stylegan_hub.portraits.dataset import export


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten drawn portraits, 32 px, as recipes/export_portraits.py writes them."""
    folder = tmp_path_factory.mktemp("data") / "portraits"
    export(folder, range(10), resolution=32)
    return folder


@pytest.fixture
def data(exported: Path, tmp_path: Path) -> Path:
    """A copy that tests may damage."""
    return Path(shutil.copytree(exported, tmp_path / "portraits"))


def write_split(root: Path, train: object, test: object, protocol: int = 2) -> None:
    for name, members in (("train", train), ("test", test)):
        (root / name).mkdir(exist_ok=True)
        (root / name / "filenames.pickle").write_bytes(pickle.dumps(members, protocol))


def test_exported_portraits_are_read(exported: Path) -> None:
    read = CelebAHQ(exported, resolution=32)
    assert len(read) == 10 and read.names == [str(i) for i in range(10)]
    assert read.problems == {} and read.report() == f"All 10 pictures of {exported} can be used."
    assert read.texts([3])[0] == captions(sample([3]), [3], 10)[0]
    with Image.open(exported / "images" / "3.png") as picture:
        expected = image_files.from_pil(picture)
    assert torch.equal(read.images([3, 0]), image_files.to_uint8(torch.cat([
        expected, image_files.from_pil(Image.open(exported / "images" / "0.png"))
    ])))  # fmt: skip
    item = read[3]
    assert item["name"] == "3" and item["captions"] == read.texts([3])[0]
    assert torch.equal(item["image"], expected[0])


def test_without_lists_the_first_four_fifths_are_learned(exported: Path) -> None:
    assert CelebAHQ(exported, "train", 32).names == [str(i) for i in range(8)]
    assert CelebAHQ(exported, "test", 32).names == ["8", "9"]


def test_published_folders_and_sizes(data: Path) -> None:
    """image/0.jpg and text/celeba-caption/0.txt, with pictures of another size."""
    (data / "image").mkdir()
    for path in (data / "images").iterdir():
        with Image.open(path) as picture:
            wide = Image.new("RGB", (64, 32), "black")
            wide.paste(picture, (16, 0))
            wide.save(data / "image" / f"{path.stem}.jpg", quality=100, subsampling=0)
    original = CelebAHQ(data, resolution=32).images([2]).float()
    shutil.rmtree(data / "images")
    (data / "text").rename(data / "celeba-caption")
    (data / "text").mkdir()
    (data / "celeba-caption").rename(data / "text" / "celeba-caption")
    read = CelebAHQ(data, resolution=32)
    assert len(read) == 10
    # The middle square of the wide picture is the portrait.
    assert (read.images([2]).float() - original).abs().mean() < 4
    assert read[0]["image"].shape == (3, 32, 32)
    assert CelebAHQ(data, resolution=16).images([0, 1]).shape == (2, 3, 16, 16)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_lists_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "filenames.pickle"
    for names in ([], [0], ["0", "1", "1"], list(range(3000)), [str(i) for i in range(3000)]):
        path.write_bytes(pickle.dumps(names, protocol))
        assert read_names(path) == [str(name) for name in names]


def test_a_list_as_python_2_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "filenames.pickle"
    path.write_bytes(b"(lp0\nS'17'\np1\naS'5'\np2\nag1\na.")
    assert read_names(path) == ["17", "5", "17"]


def test_the_lists_decide(data: Path) -> None:
    write_split(data, ["0", "2.jpg", "4"], [5, 6])
    assert CelebAHQ(data, "train", 32).names == ["0", "2", "4"]
    assert CelebAHQ(data, "test", 32).names == ["5", "6"]
    assert len(CelebAHQ(data, None, 32)) == 10


def test_swapped_lists_are_noticed(data: Path) -> None:
    write_split(data, [8, 9], list(range(8)))
    with pytest.warns(UserWarning, match="are swapped.*0 to 7"):
        assert CelebAHQ(data, "train", 32).names == [str(i) for i in range(8)]
    with pytest.warns(UserWarning, match="are swapped"):
        assert CelebAHQ(data, "test", 32).names == ["8", "9"]


def test_a_split_of_ones_own_is_not_called_swapped(data: Path) -> None:
    write_split(data, [9, 1, 3], [0, 2, 4, 5])
    assert CelebAHQ(data, "train", 32).names == ["1", "3", "9"]


def test_unsound_lists(data: Path) -> None:
    write_split(data, [0, 1, 2], [2, 3])
    with pytest.raises(ArtifactError, match=r"1 pictures are in both lists of .*, such as 2"):
        CelebAHQ(data, "train", 32)
    write_split(data, ["../../secret"], [2, 3])
    with pytest.raises(ArtifactError, match=r"names '\.\./\.\./secret'; expected the numbers"):
        CelebAHQ(data, "train", 32)
    (data / "test" / "filenames.pickle").unlink()
    with pytest.raises(ArtifactError, match=r"train/filenames.pickle"):
        CelebAHQ(data, "test", 32)


class Attack:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> object:
        return Path.mkdir, (self.folder,)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_is_never_executed(data: Path, tmp_path: Path, protocol: int) -> None:
    write_split(data, [0, Attack(tmp_path / "owned")], [1], protocol)
    with pytest.raises(ArtifactError, match=r"Nothing was executed"):
        CelebAHQ(data, "train", 32)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is damaged or not a pickle"),
        (pickle.dumps(["0", "1"], 2)[:-1], "is damaged or not a pickle"),
        (pickle.dumps({"a": 1}, 2), "holds more than a list of names"),
        (pickle.dumps("17", 2), "does not hold a flat list of names"),
        (pickle.dumps([["0"]], 2), "does not hold a flat list of names"),
        (b"\x80\x02h\x07.", "is damaged or not a pickle"),
        (b"\x80\x02a.", "is damaged or not a pickle"),
        (b"K\x01K\x02a.", "is damaged or not a pickle"),
        (b"\xff\xfe0,1,2", "is damaged or not a pickle"),
    ],
)
def test_files_that_are_no_list(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "filenames.pickle"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=message):
        read_names(path)


def test_absurd_or_absent_lists(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="expected a pickled list of names"):
        read_names(tmp_path / "filenames.pickle")
    with (tmp_path / "large").open("wb") as file:
        file.truncate((1 << 24) + 1)
    with pytest.raises(ArtifactError, match="has 16777217 bytes; a list of names has at most"):
        read_names(tmp_path / "large")


def test_bad_files_are_counted_and_listed(data: Path) -> None:
    picture = (data / "images" / "0.png").read_bytes()
    (data / "images" / "0.png").write_bytes(picture[: len(picture) // 2])
    (data / "images" / "1.png").write_text("no picture")
    (data / "images" / "2.png").unlink()
    (data / "text" / "3.txt").unlink()
    (data / "text" / "4.txt").write_text(" \n\n")
    (data / "text" / "5.txt").write_bytes(b"caf\xe9\xff")
    (data / "text" / "6.txt").write_text("a face\n\n  a hat \n")
    with pytest.warns(UserWarning, match=r"4 pictures of .* can be used.*2 x unreadable picture"):
        read = CelebAHQ(data, resolution=32)
    assert read.names == ["6", "7", "8", "9"]
    assert read.texts([0]) == [["a face", "a hat"]]
    assert read.problems == {
        "unreadable picture": ["0", "1"],
        "no picture": ["2"],
        "no captions": ["3"],
        "empty captions": ["4"],
        "unreadable captions": ["5"],
        "fewer captions than others": ["6"],
    }
    assert "2 x unreadable picture (0, 1); 1 x no picture (2); 1 x no captions (3)" in read.report()
    (data / "images" / "8.png").write_bytes(picture[:100])
    with pytest.raises(ArtifactError, match=r"8\.png"):
        read.images([0, 2])


def test_a_jpeg_that_is_cut_off_is_noticed(data: Path) -> None:
    image = image_files.to_pil(torch.rand(1, 3, 256, 256) * 2 - 1)[0]
    image.save(data / "images" / "0.jpg", quality=95)
    (data / "images" / "0.png").unlink()
    assert CelebAHQ(data, resolution=32).problems == {}
    content = (data / "images" / "0.jpg").read_bytes()
    (data / "images" / "0.jpg").write_bytes(content[: 3 * len(content) // 4])
    with pytest.warns(UserWarning, match=r"1 x unreadable picture \(0\)"):
        CelebAHQ(data, resolution=32)


def test_many_bad_files_make_a_short_message(data: Path) -> None:
    shutil.rmtree(data / "text")
    (data / "text").mkdir()
    (data / "text" / "99.txt").write_text("a face")
    with (
        pytest.raises(
            ArtifactError, match=r"No picture in .* can be used.*10 x no captions \(0, 1, 2"
        ),
        pytest.warns(UserWarning, match=r"7, \.\.\.\)"),
    ):
        CelebAHQ(data, resolution=32)


def test_folders_that_hold_something_else(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"There is no folder .*nowhere"):
        CelebAHQ(tmp_path / "nowhere")
    shutil.rmtree(data / "images")
    with pytest.raises(NotFoundError, match="has no pictures"):
        CelebAHQ(data)
    with pytest.raises(ValueError, match="Got split 'val'"):
        CelebAHQ(data, "val")  # type: ignore[arg-type]


def test_a_sound_folder_gives_no_warning(exported: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CelebAHQ(exported, "train", 32)
