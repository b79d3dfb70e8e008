"""Pictures with captions in the layout of Multi-Modal CelebA-HQ, checked before they are used.

Xia et al. 2021, "TediGAN", section 4: 30,000 faces with ten captions each. The drawn portraits are
exported in the same layout (`recipes/export_portraits.py`). Below the root:

    image/ or images/             0.jpg, 1.jpg, ... (or .png, ...)
    text/celeba-caption/ or text/ 0.txt, 1.txt, ...: one caption per line
    train/filenames.pickle        the pictures for training: 0 to 23,999
    test/filenames.pickle         the pictures for testing: the other 6,000

Both lists have the same name, and some copies have them swapped; this is detected and corrected
with a warning. Without lists, the first 80 % are for training, as in the published split.

All pictures are decoded and all captions are read when the dataset is opened, so that errors are
not found in the third hour of a training. Unusable items are counted and listed.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm import tqdm

from stylegan_hub import images as image_files
from stylegan_hub.checkpoints.name_list import read_names
from stylegan_hub.errors import ArtifactError, NotFoundError

CAPTIONS = 10
"""Captions per picture in the published data."""

Split = Literal["train", "test"]

_IMAGE_FOLDERS = ("image/images", "image", "images", "CelebA-HQ-img")
_CAPTION_FOLDERS = ("text/celeba-caption", "celeba-caption", "text")
_IMAGE_TYPES = {".jpg", ".jpeg", ".png", ".webp"}
_TRAIN_SHARE = 0.8  # 24,000 of 30,000
_SHOWN = 8  # names in a message
_PREVIEW = (32, 32)  # a JPEG is checked at this size, which is faster but reads the whole file


class CelebAHQ(Dataset[dict[str, object]]):
    """One split of such a folder, or all of it.

    Each item is a dict: `image` float `[3, resolution, resolution]` in [-1, 1], `captions` list of
    str, `name` str.

    Args:
        root: the folder.
        split: "train", "test", or None for both.
        resolution: width and height of the pictures; pictures are cropped to a square around the
            middle and resized to it.

    Attributes:
        names: names of the usable pictures, in the order of their numbers.
        captions: the captions of each picture, at least one.
        problems: names by problem: "unreadable picture", "no picture", "no captions", "empty
            captions", "unreadable captions" (these are left out), and "fewer captions than others"
            (these are used).

    Raises:
        NotFoundError: there is no such folder, or no pictures or captions in it.
        ArtifactError: no picture can be used, or the lists of the split are invalid.
    """

    def __init__(self, root: Path | str, split: Split | None = None, resolution: int = 256) -> None:
        if split not in ("train", "test", None):
            raise ValueError(f"Got split {split!r}; expected 'train', 'test' or None for both.")
        self.root = Path(root)
        self.resolution = resolution
        self.problems: dict[str, list[str]] = {}
        pictures = _by_number(_existing(self.root, _IMAGE_FOLDERS, "pictures"), _IMAGE_TYPES)
        texts = _by_number(_existing(self.root, _CAPTION_FOLDERS, "captions"), {".txt"})
        wanted = _split(self.root, split, sorted({*pictures, *texts}))
        self._paths: list[Path] = []
        self.names: list[str] = []
        self.captions: list[tuple[str, ...]] = []
        for number in tqdm(wanted, desc=f"checking {self.root.name}", unit="img", leave=False):
            captions = self._read_captions(number, texts.get(number))
            if self._is_sound(number, pictures.get(number)) and captions:
                self._paths.append(pictures[number])
                self.names.append(str(number))
                self.captions.append(captions)
        usual = max((len(captions) for captions in self.captions), default=0)
        for name, captions in zip(self.names, self.captions, strict=True):
            if len(captions) < usual:
                self._note("fewer captions than others", int(name))
        if self.problems:
            warnings.warn(self.report(), stacklevel=2)
        if not self.names:
            raise ArtifactError(f"No picture in {self.root} can be used. {self.report()}")

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, object]:
        image = image_files.from_uint8(self.images([index]))[0]
        return {
            "image": image,
            "captions": list(self.captions[index]),
            "name": self.names[index],
        }

    def images(self, indices: Sequence[int] | Tensor) -> UInt8[Tensor, "n 3 resolution resolution"]:
        """Pictures as bytes, in the order of `names`."""
        return torch.cat([self._read_image(self._paths[int(index)]) for index in indices])

    def texts(self, indices: Sequence[int] | Tensor) -> list[list[str]]:
        """The captions of these pictures."""
        return [list(self.captions[int(index)]) for index in indices]

    def report(self) -> str:
        """A sentence about unusable or unusual items: for each problem a count and some names."""
        total = len(self.names)
        if not self.problems:
            return f"All {total} pictures of {self.root} can be used."
        parts = []
        for problem, names in self.problems.items():
            shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            parts.append(f"{len(names)} x {problem} ({shown})")
        return (
            f"{total} pictures of {self.root} can be used. Problems: {'; '.join(parts)}. The "
            "attribute `problems` lists all names."
        )

    def _note(self, problem: str, number: int) -> None:
        self.problems.setdefault(problem, []).append(str(number))

    def _read_captions(self, number: int, path: Path | None) -> tuple[str, ...]:
        if path is None:
            self._note("no captions", number)
            return ()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            self._note("unreadable captions", number)
            return ()
        captions = tuple(line.strip() for line in lines if line.strip())
        if not captions:
            self._note("empty captions", number)
        return captions

    def _is_sound(self, number: int, path: Path | None) -> bool:
        if path is None:
            self._note("no picture", number)
            return False
        try:
            with Image.open(path) as picture:
                picture.draft("RGB", _PREVIEW)
                picture.load()
        # Pillow's decoders raise many kinds of errors for broken files.
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
            self._note("unreadable picture", number)
            return False
        return True

    def _read_image(self, path: Path) -> Tensor:
        try:
            with Image.open(path) as picture:
                pixels = image_files.from_pil(picture)
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{path} could be read when the dataset was opened, but not now: {error}. Check "
                "the disk, and open the dataset again."
            ) from error
        size = min(pixels.shape[2:])
        top, left = ((side - size) // 2 for side in pixels.shape[2:])
        square = pixels[:, :, top : top + size, left : left + size]
        return image_files.to_uint8(image_files.resize(square, self.resolution))


def _existing(root: Path, names: Sequence[str], what: str) -> Path:
    if not root.is_dir():
        raise NotFoundError(f"There is no folder {root}; expected one with pictures and captions.")
    for name in names:
        folder = root / name
        if folder.is_dir() and any(path.stem.isdecimal() for path in folder.iterdir()):
            return folder
    raise NotFoundError(
        f"{root} has no {what}; expected numbered files in {' or '.join(names)}. Give the folder "
        "into which the parts of the dataset were unpacked."
    )


def _by_number(folder: Path, types: set[str]) -> dict[int, Path]:
    return {
        int(path.stem): path
        for path in folder.iterdir()
        if path.suffix.lower() in types and path.stem.isdecimal()
    }


def _split(root: Path, split: Split | None, numbers: list[int]) -> list[int]:
    """The numbers of a split, in ascending order."""
    lists = {name: root / name / "filenames.pickle" for name in ("train", "test")}
    there = [name for name, path in lists.items() if path.is_file()]
    if split is None:
        return numbers
    if not there:
        border = round(_TRAIN_SHARE * len(numbers))
        return numbers[:border] if split == "train" else numbers[border:]
    if len(there) == 1:
        raise ArtifactError(
            f"{root} has {there[0]}/filenames.pickle but not the other list of the split. Give it "
            "both train/filenames.pickle and test/filenames.pickle, or neither."
        )
    members = {name: _numbers(path) for name, path in lists.items()}
    if both := members["train"] & members["test"]:
        raise ArtifactError(
            f"{len(both)} pictures are in both lists of {root}, such as {min(both)}; expected "
            "each picture in one list only. Download both lists again."
        )
    if members["train"] and members["test"] and min(members["train"]) > max(members["test"]):
        warnings.warn(
            f"train/filenames.pickle and test/filenames.pickle in {root} are swapped: in the "
            "published split the pictures for training have the lower numbers, but here "
            f"{min(members['test'])} to {max(members['test'])} are listed as test. The two lists "
            "were exchanged.",
            stacklevel=3,
        )
        members = {"train": members["test"], "test": members["train"]}
    return sorted(members[split])


def _numbers(path: Path) -> set[int]:
    stems = [name.removesuffix(".jpg") for name in read_names(path)]
    if wrong := [stem for stem in stems if not stem.isdecimal()]:
        raise ArtifactError(
            f"{path} names {wrong[0][:80]!r}; expected the numbers of pictures, such as 17."
        )
    return {int(stem) for stem in stems}
