"""A folder of exported networks, written as a whole, with the meaning and accuracy of each."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stylegan_hub.artifacts import check_room, parse_json
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.export import to_onnx, to_openvino, to_torch
from stylegan_hub.export.parts import Part
from stylegan_hub.export.traced import Run
from stylegan_hub.storage import staged
from stylegan_hub.version import __version__

NAME = "export.json"
FORMATS: Mapping[str, ModuleType] = {
    "onnx": to_onnx,
    "openvino": to_openvino,
    "torch": to_torch,
}
"""The module of each `--format`, with SUFFIX, DTYPES, NEEDS, `write` and `load`."""

WORST = {"float32": 1e-3, "float16": 0.25, "bfloat16": 0.25}
"""Largest accepted difference from the pipeline, as a share of the pipeline's largest value. A file
that differs more computes something else."""

_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Exported:
    """One network in a folder.

    Attributes:
        name: generator, clip_image, clip_text or encoder.
        files: names in the folder; the first one is the file to load.
        inputs: names, with the shapes of one sample.
        output: name of the output.
        meaning: meaning of inputs and output.
        error: largest difference from the pipeline, as a share of the pipeline's largest value.
        psnr: of the generator's pictures against the pipeline's, in dB; None for other networks.
    """

    name: str
    files: tuple[str, ...]
    inputs: dict[str, tuple[int, ...]]
    output: str
    meaning: str
    error: float
    psnr: float | None = None


@dataclass(frozen=True)
class Export:
    """A folder of exported networks.

    Attributes:
        folder: where it is.
        format: a key of `FORMATS`.
        dtype: float32, float16 or bfloat16.
        latent: the generator's input: z, w_plus or s.
        resolution: longer side of its pictures, in pixels.
        generator: fingerprint of the generator.
        parts: the networks.
    """

    folder: Path
    format: str
    dtype: str
    latent: str
    resolution: int
    generator: str
    parts: tuple[Exported, ...]

    def load(self, name: str, threads: int | None = None) -> Run:
        """A function that runs one of the networks.

        Raises:
            NotFoundError: the network is not in the folder, or its runtime is not installed.
        """
        for part in self.parts:
            if part.name == name:
                dtype = getattr(torch, self.dtype)
                run: Run = FORMATS[self.format].load(self.folder / part.files[0], dtype, threads)
                return run
        raise NotFoundError(
            f"The export in {self.folder} has no {name}.",
            got=name,
            expected=tuple(part.name for part in self.parts),
            remedy="Export the pipeline again with this part.",
        )


def check_format(format: str, dtype: str) -> None:
    """Check format and precision before the work starts.

    Raises:
        ValueError: the format is unknown, or does not have this precision.
        NotFoundError: a package that the format needs is not installed.
    """
    if format not in FORMATS:
        raise ValueError(f"Got the format {format!r}; known formats: {', '.join(FORMATS)}.")
    module = FORMATS[format]
    names = [str(one).removeprefix("torch.") for one in module.DTYPES]
    if dtype not in names:
        raise ValueError(f"Got dtype {dtype!r}; {format} can be written in {', '.join(names)}.")
    missing = [name for name in module.NEEDS if importlib.util.find_spec(name) is None]
    if missing:
        raise NotFoundError(
            f"The format {format} needs {', '.join(missing)}.",
            got="not installed",
            expected=", ".join(module.NEEDS),
            remedy=f'pip install "stylegan-hub[{format}]"',
        )


def export(
    parts: Sequence[Part],
    folder: str | Path,
    format: str,
    *,
    generator: str,
    latent: str,
    resolution: int,
    dtype: str = "float32",
    overwrite: bool = False,
    on_part: Callable[[str], None] | None = None,
) -> Export:
    """Write networks, compare each with PyTorch's result, and describe them in `export.json`.

    Args:
        format: a key of `FORMATS`.
        generator: fingerprint of the generator.
        latent, resolution: the generator's input, and the longer side of its pictures in pixels.
        dtype: float32, float16 or bfloat16, if the format has it.
        overwrite: also write into a folder that holds something else.
        on_part: called with the name of each network before it is written.

    Raises:
        ValueError, NotFoundError: see `check_format`.
        ArtifactError: the folder holds something else, or a file does not compute the same as the
            pipeline; then nothing is written.
        StorageError: the disk refuses.
    """
    check_format(format, dtype)
    if not overwrite:
        check_room(folder, NAME)
    with staged(folder) as staging:
        written = []
        for part in parts:
            if on_part is not None:
                on_part(part.name)
            written.append(_written(part, staging, format, dtype))
        found = Export(Path(folder), format, dtype, latent, resolution, generator, tuple(written))
        described = asdict(found) | {"library_version": __version__}
        del described["folder"]
        text = json.dumps(described, indent=2, ensure_ascii=False) + "\n"
        (staging / NAME).write_text(text, encoding="utf-8")
    return found


def read_export(folder: str | Path) -> Export:
    """Read the description of a folder of exported networks.

    Raises:
        NotFoundError: the folder has no export.json.
        ArtifactError: its export.json is damaged, or names files that are not in the folder.
    """
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        raise NotFoundError(
            f"{folder} holds no exported networks.",
            got=str(folder),
            expected=f"a folder with {NAME}",
            remedy="Make one with stylegan-hub export portraits --format openvino -o FOLDER.",
        )
    try:
        data = path.read_bytes()
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it is {len(data)} bytes long")
        read: dict[str, Any] = parse_json(data)
        parts = [
            Exported(
                str(one["name"]),
                tuple(map(str, one["files"])),
                {str(name): tuple(map(int, size)) for name, size in one["inputs"].items()},
                str(one["output"]),
                str(one["meaning"]),
                float(one["error"]),
                None if one["psnr"] is None else float(one["psnr"]),
            )
            for one in read["parts"]
        ]
        names = ("format", "dtype", "latent")
        format, dtype, latent = (str(read[name]) for name in names)
        found = Export(
            folder, format, dtype, latent, int(read["resolution"]), str(read["generator"]),
            tuple(parts),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}. Export the pipeline again.") from error
    if found.format not in FORMATS or found.dtype not in WORST:
        raise ArtifactError(
            f"{path} names the format {found.format!r} in {found.dtype!r}; known formats: "
            f"{', '.join(FORMATS)} in {', '.join(WORST)}. If it is from a newer stylegan_hub, "
            "upgrade."
        )
    for part in found.parts:
        for name in part.files:
            if Path(name).name != name or not (folder / name).is_file():
                raise ArtifactError(
                    f"{path} names the file {name!r}, which is not in the folder. Export the "
                    "pipeline again."
                )
    return found


def _written(part: Part, folder: Path, format: str, dtype: str) -> Exported:
    module, torch_type = FORMATS[format], getattr(torch, dtype)
    path = folder / (part.name + module.SUFFIX)
    files = module.write(part, path, torch_type)
    wanted, found = _compared(part, module.load(path, torch_type))
    error = float(abs(found - wanted).max() / abs(wanted).max())
    if not error <= WORST[dtype]:
        raise ArtifactError(
            f"The {part.name} in {format} differs from the pipeline by {error:.1e} of the largest "
            f"value; expected at most {WORST[dtype]:g} in {dtype}. Nothing was written. Choose "
            "another dtype or format."
        )
    psnr = None
    if part.output == "images":
        clipped = [np.clip(x, -1, 1) for x in (found, wanted)]
        mean = float(np.square(clipped[0] - clipped[1]).mean())
        psnr = 20 * math.log10(2) - 10 * math.log10(max(mean, 1e-20))
    return Exported(
        part.name,
        tuple(file.name for file in files),
        {name: tuple(x.shape[1:]) for name, x in part.inputs.items()},
        part.output,
        part.meaning,
        error,
        psnr,
    )


def _compared(part: Part, run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The outputs of PyTorch and of the file for three samples; the graph was traced with two."""
    inputs = {name: _sampled(x) for name, x in part.inputs.items()}
    with torch.no_grad():
        wanted = part.module(*inputs.values())
    found = run(**{name: x.numpy() for name, x in inputs.items()})
    return wanted.double().numpy(), np.asarray(found, dtype=np.float64)


def _sampled(example: torch.Tensor) -> torch.Tensor:
    if example.ndim == 0:
        return example
    return torch.cat([example, example.flip(-1)[:1]])
