"""The networks for photographs of people, as one folder: `cards/face-finder`.

    faces = FaceModels.from_pretrained()
    faces.finder, faces.points, faces.expression, faces.age

They are third-party networks, trained on photographs; `recipes/convert_face_models.py` made the
folder. The judge of identity (`models/face_judge.py`) has its own folder, which is not bundled.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from stylegan_hub.artifacts import read_folder, write_folder
from stylegan_hub.cache import cache_folder
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.models.face_finder import FaceFinder
from stylegan_hub.models.face_judge import FaceJudge
from stylegan_hub.models.face_readers import AgeReader, ExpressionReader, FacePoints
from stylegan_hub.models.quantized import Quantized, packed, unpacked
from stylegan_hub.names import Kind, own_cards, register_kind, resolve

BUNDLED = "face-finder"
"""Name of the bundled folder."""
JUDGE_VARIABLE = "STYLEGAN_HUB_FACE_JUDGE"
"""Environment variable that names the folder of a `FaceJudge`."""

_FACES, _JUDGE = "face_models", "face_judge"


class FaceModels(nn.Module):
    """Finder, points, expression and age of faces in photographs."""

    def __init__(self) -> None:
        super().__init__()
        self.finder = FaceFinder()
        self.points = FacePoints()
        self.expression = ExpressionReader()
        self.age = AgeReader()
        self.eval().requires_grad_(False)

    @staticmethod
    def from_pretrained(name_or_path: str | Path | None = None) -> FaceModels:
        """Load from a folder that `save_quantized` wrote: bundled, local or on the Hub.

        Args:
            name_or_path: None for the one bundled with this library, even if the environment names
                another folder of cards.

        Raises:
            NotFoundError, ArtifactError: there is none, or it holds something else.
        """
        folder = resolve(own_cards() / BUNDLED if name_or_path is None else name_or_path, _FACES)
        return _filled(FaceModels(), folder, _FACES)


def load_judge(folder: str | Path | None = None) -> FaceJudge:
    """Load the judge of identity from a folder.

    Args:
        folder: None for the one that the environment variable STYLEGAN_HUB_FACE_JUDGE names, or
            face-judge in `cache.cache_folder` if it is not set.

    Raises:
        NotFoundError: the folder does not exist; the message names the commands that fetch it.
        ArtifactError: the folder holds something else.
    """
    usual = cache_folder() / "face-judge"
    folder = Path(folder or os.environ.get(JUDGE_VARIABLE) or usual)
    if not folder.is_dir():
        raise NotFoundError(
            f"There is no judge of identity at {folder}.",
            got=str(folder),
            expected="a folder that recipes/convert_face_models.py wrote",
            remedy="Fetch it: `npm pack @vladmandic/face-api@1.7.15`, then `python "
            "recipes/convert_face_models.py --package vladmandic-face-api-1.7.15.tgz --judge "
            f"{usual}`; or name its folder in {JUDGE_VARIABLE}.",
        )
    return _filled(FaceJudge().eval().requires_grad_(False), folder, _JUDGE)


def save_quantized(
    folder: str | Path,
    networks: Mapping[str, Mapping[str, Tensor | Quantized]],
    config: Mapping[str, Any],
    overwrite: bool = False,
) -> None:
    """Write a folder that `FaceModels.from_pretrained` or `load_judge` reads.

    Args:
        networks: the tensors of each: "finder", "points", "expression" and "age", or only "judge".
        config: their source, in plain values.

    Raises:
        ArtifactError: the tensors do not fit the networks, or the folder holds something else.
        StorageError: the disk does not take the files.
    """
    is_judge = set(networks) == {"judge"}
    model: nn.Module = FaceJudge() if is_judge else FaceModels()
    tensors = {
        name if is_judge else f"{network}.{name}": tensor
        for network, parts in networks.items()
        for name, tensor in parts.items()
    }
    stored = packed(tensors)
    _fill(model, stored, folder)  # raises if the files could not be loaded again
    kind = _JUDGE if is_judge else _FACES
    write_folder(Path(folder), {"kind": kind, **config}, stored, overwrite)


def _filled(model: Any, folder: Path, kind: str) -> Any:
    config, stored = read_folder(folder)
    if config["kind"] != kind:
        raise ArtifactError(
            f"{folder} holds an artifact of the kind {config['kind']!r}.",
            got=config["kind"],
            expected=kind,
            remedy="Convert it again with recipes/convert_face_models.py.",
        )
    _fill(model, stored, folder)
    return model


def _fill(model: nn.Module, stored: Mapping[str, Tensor], folder: str | Path) -> None:
    values = unpacked(stored)
    expected = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    got = {name: list(tensor.shape) for name, tensor in values.items()}
    if got != expected:
        differing = sorted(
            name for name in got.keys() | expected.keys() if got.get(name) != expected.get(name)
        )
        raise ArtifactError(
            f"The tensors of {folder} do not fit: {differing[0]!r} has the shape "
            f"{got.get(differing[0])}.",
            got=got.get(differing[0]),
            expected=expected.get(differing[0]),
            remedy="Convert it again with recipes/convert_face_models.py.",
        )
    if broken := [name for name, tensor in values.items() if not tensor.isfinite().all()]:
        raise ArtifactError(
            f"The numbers of {broken[0]!r} in {folder} are not finite.",
            got=broken[0],
            expected="finite numbers",
            remedy="Convert it again with recipes/convert_face_models.py.",
        )
    model.load_state_dict(values)


register_kind(
    Kind(
        _FACES,
        load=FaceModels.from_pretrained,
        summary="Finds faces of people in photographs, and reads points, expression and age.",
        limit="It was trained on photographs of people and is not meant for other pictures.",
        task="object-detection",
    )
)
register_kind(
    Kind(
        _JUDGE,
        load=load_judge,
        summary="Measures how different the people in two photographs are.",
        limit="Its distances were not calibrated here.",
        task="image-feature-extraction",
    )
)
