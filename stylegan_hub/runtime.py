"""The runtimes that render pictures without gradients: PyTorch, OpenVINO or onnxruntime.

PyTorch with our kernel computes gradients too, and is faster for large pictures; which of them is
the fastest for small ones, in bfloat16 and on a busy machine depends on the processor. "auto" uses
the one that was measured to be the fastest on this machine, by the shape of the network, the number
of pictures and whether other processes keep the machine busy. Until `Runtime.measure` was called in
an earlier process, it uses PyTorch, so no picture ever waits for a measurement, and one process
always renders a size in the same way. Pictures differ in rounding.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Self

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.cache import CACHE, cache_folder
from stylegan_hub.contest import Candidate, beside, seconds_of
from stylegan_hub.errors import MismatchError
from stylegan_hub.export import FORMATS, read_export
from stylegan_hub.export.folder import check_format, export
from stylegan_hub.export.parts import generator_part
from stylegan_hub.export.traced import Run
from stylegan_hub.models.identity import weights_state
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.storage import write_bytes
from stylegan_hub.version import __version__

VARIABLE: Final = "STYLEGAN_HUB_RUNTIME"
"""Environment variable with the default runtime."""

PYTORCH: Final = "pytorch"
RUNTIMES = ("auto", PYTORCH, "openvino", "onnx")
BATCHES = (1, 8)
"""Numbers of pictures that are measured; other numbers use the nearest one below."""

Speeds = dict[str, dict[str, dict[str, float]]]
"""Seconds by neighbor ("quiet" or "busy"), runtime and number of pictures."""

_QUIET, _BUSY = "quiet", "busy"
_MOST_NEIGHBORS = 2  # of a measurement; it must not fill a large machine
_SECONDS = 1.5  # total running time of each candidate for each number of pictures
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class Runtime:
    """Renders style codes of one generator, without gradients, from any thread.

    Args:
        name: "auto", "pytorch", "openvino" or "onnx"; or a folder from `stylegan-hub export` with
            a generator that takes s. None uses the environment variable STYLEGAN_HUB_RUNTIME, else
            "auto".

    Raises:
        ValueError: the name is unknown.
        NotFoundError: a required package is not installed, or there is no such folder.
        MismatchError: the folder belongs to another generator.
    """

    def __init__(self, generator: StyleGAN2Generator, name: str | Path | None = None) -> None:
        self.name = str(name or os.environ.get(VARIABLE) or "auto")
        self.generator = generator
        self._lock = threading.Lock()
        self._made_for: object = None
        self._runs: dict[int, Run] = {}
        self._fastest: dict[tuple[int, torch.dtype], dict[int, str]] = {}
        self._folder: Path | None = None
        if self.name in ("openvino", "onnx"):
            check_format(self.name, _DTYPES[generator.dtype])
        elif self.name not in RUNTIMES:
            self._folder = _checked_folder(self.name, generator)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """One for the copy of the generator, which loads again what runs: that cannot be copied."""
        other = copy.copy(self)
        other.generator = copy.deepcopy(self.generator, memo)
        other._lock = threading.Lock()
        other._made_for, other._runs = None, {}
        other._fastest = dict(self._fastest)
        return other

    def chosen(self, count: int, resolution: int | None = None) -> str:
        """The runtime for this number of pictures: "pytorch", "openvino" or "onnx".

        Args:
            resolution: of the block that pictures come from; None for full size.
        """
        generator = self.generator
        if self._folder is not None:
            return read_export(self._folder).format
        if generator.mapping.w_avg.device.type != "cpu" or self.name == PYTORCH:
            return PYTORCH
        if self.name != "auto":
            return self.name
        if choices() == [PYTORCH]:
            return PYTORCH
        shape = (resolution or generator.img_resolution, generator.dtype)
        with self._lock:
            if shape not in self._fastest:
                known = _known(_asked(generator, shape[0])) or {}
                quiet = known.get(_QUIET, {PYTORCH: {}})
                self._fastest[shape] = _fastest(known.get(_BUSY, quiet) if _is_busy() else quiet)
        return self._fastest[shape][max(one for one in BATCHES if one <= max(count, 1))]

    def measure(self) -> Speeds:
        """Measure which runtime renders full-size pictures fastest, for processes started later.

        Each runtime runs in its own process, once alone and, unless ours leaves several cores free,
        once beside others that compute; the whole measurement takes one to two minutes. The result
        is kept in the cache folder, by the shape of the network, the number of threads and
        versions. Only the shape matters, so random weights are used.

        Returns:
            Nothing is measured, and the result is empty, if "auto" has no choice: on a GPU, without
            OpenVINO and onnxruntime, or for a named runtime.
        """
        generator = self.generator
        on_cpu = generator.mapping.w_avg.device.type == "cpu"
        if self.name != "auto" or not on_cpu or choices() == [PYTORCH]:
            return {}
        asked = _asked(generator, generator.img_resolution)
        if (known := _known(asked)) is not None:
            return known
        found = _measured(asked)
        path = _speeds_file(asked)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, json.dumps(found).encode())
        return found

    def serves(self, count: int, resolution: int | None = None) -> bool:
        """Whether a runtime other than PyTorch renders this number of pictures."""
        return self.chosen(count, resolution) != PYTORCH

    @torch.no_grad()
    def render(
        self, s: Float[Tensor, "n num_styles"], resolution: int | None = None
    ) -> Float[Tensor, "n c h w"]:
        """Pictures of style codes, with the stored noise, nominally in [-1, 1].

        Args:
            resolution: as for `StyleGAN2Generator.synthesis_from_styles`.

        Raises:
            ValueError: the codes have another size, or there is no such resolution.
        """
        generator = self.generator
        name = self.chosen(len(s), resolution)
        if name == PYTORCH:
            return generator.synthesis_from_styles(s, resolution=resolution)
        if s.ndim != 2 or s.shape[1] != generator.num_styles:
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={generator.num_styles}]. Make them with generator.styles(ws)."
            )
        run = self._run(generator, name, resolution or generator.img_resolution)
        # A file takes up to 64 pictures, but eight at once fit into the processor's caches.
        most = max(BATCHES)
        parts = [run(s=part.float().numpy()) for part in s.detach().cpu().split(most)]
        return torch.cat([torch.from_numpy(part) for part in parts]).to(s.device, generator.dtype)

    def _run(self, generator: StyleGAN2Generator, name: str, side: int) -> Run:
        """The function that runs the network's file, which is rewritten if the weights change."""
        with self._lock:
            state = weights_state(generator)
            if self._made_for != state:
                self._runs.clear()
                self._made_for = state
            if side not in self._runs:
                folder = self._folder or _exported(generator, name, side)
                self._runs[side] = read_export(folder).load("generator", torch.get_num_threads())
            return self._runs[side]


def _asked(generator: StyleGAN2Generator, side: int) -> dict[str, Any]:
    """What is measured, as JSON values."""
    config = dict(generator.config)
    return {
        "config": {key: value for key, value in config.items() if not key.startswith("_")},
        "side": side,
        "dtype": _DTYPES[generator.dtype],
        "threads": torch.get_num_threads(),
    }


def _speeds_file(asked: Mapping[str, Any]) -> Path:
    """The file in which this machine keeps a measurement."""
    facts: list[object] = [
        asked,
        __version__,
        torch.__version__,
        [(name, _version(name)) for name in choices()],
        platform.processor(),
    ]
    facts += [torch.backends.cpu.get_cpu_capability(), os.cpu_count(), sys.version_info[:2]]
    text = json.dumps(facts, sort_keys=True, default=str)
    return cache_folder() / f"speeds-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _known(asked: Mapping[str, Any]) -> Speeds | None:
    """An earlier measurement; None if there is none."""
    with suppress(OSError, ValueError):
        known = json.loads(_speeds_file(asked).read_bytes())
        if _is_sound(known):
            return known
    return None


def candidate(
    name: str, config: Mapping[str, Any], side: int, dtype: str, threads: int, count: int
) -> Callable[[], object]:
    """A function that renders random codes with a runtime, for `contest`."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    generator = StyleGAN2Generator(**config).eval().requires_grad_(False)
    generator = generator.to(getattr(torch, dtype))
    s = torch.randn(count, generator.num_styles, dtype=generator.dtype)
    runtime = Runtime(generator, name)
    return partial(runtime.render, s, side)


def _measured(asked: Mapping[str, Any]) -> Speeds:
    names, neighbors = choices(), {_QUIET: 0}
    if (fewest := _fewest_neighbors()) <= _MOST_NEIGHBORS:
        neighbors[_BUSY] = fewest
    found: Speeds = {neighbor: {name: {} for name in names} for neighbor in neighbors}
    with tempfile.TemporaryDirectory() as folder:
        for neighbor, speeds in found.items():
            for count in BATCHES:
                candidates = {
                    name: Candidate(
                        "stylegan_hub.runtime:candidate",
                        {"name": name, "count": count, **asked},
                        # The exported random network is useless afterwards, but not our kernel.
                        {} if name == PYTORCH else {CACHE: folder},
                    )
                    for name in names
                }
                with beside(neighbors[neighbor]):
                    times = seconds_of(candidates, _SECONDS)
                for name, taken in times.items():
                    if isinstance(taken, list):
                        speeds[name][str(count)] = statistics.median(taken)
    return found


def _fewest_neighbors() -> int:
    """The number of other busy threads from which on ours have to wait."""
    return (os.cpu_count() or 1) - torch.get_num_threads() + 1


def _is_busy() -> bool:
    """Whether other processes kept the machine so busy in the last minute that threads wait."""
    try:
        load, _, _ = os.getloadavg()
    except (AttributeError, OSError):  # Windows does not say
        return False
    return load > _fewest_neighbors() - 0.5


def _fastest(known: Mapping[str, Mapping[str, float]]) -> dict[int, str]:
    return {
        count: min(known, key=lambda name: known[name].get(str(count), float("inf")))
        for count in BATCHES
    }


def _is_sound(known: object) -> bool:
    if not (isinstance(known, dict) and {_QUIET} <= known.keys() <= {_QUIET, _BUSY}):
        return False
    return all(
        isinstance(speeds, dict)
        and {PYTORCH} <= speeds.keys() <= {*RUNTIMES[1:]}
        and all(
            isinstance(times, dict)
            and all(type(value) is float and value > 0 for value in times.values())
            for times in speeds.values()
        )
        for speeds in known.values()
    )


def _exported(generator: StyleGAN2Generator, name: str, side: int) -> Path:
    """The folder in the cache with the network's file; it is written if it does not exist."""
    dtype = _DTYPES[generator.dtype]
    fingerprint = generator.fingerprint()
    parts = (fingerprint, dtype, str(side), __version__, _version(name))
    digest = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
    folder = cache_folder() / f"{name}-{side}px-{digest}"
    with suppress(OSError, ValueError):
        if read_export(folder).generator == fingerprint:
            return folder
    part = generator_part(copy.deepcopy(generator).float(), "s", side)
    export(
        [part],
        folder,
        name,
        generator=fingerprint,
        latent="s",
        resolution=side,
        dtype=dtype,
        overwrite=True,
    )
    return folder


def _checked_folder(name: str, generator: StyleGAN2Generator) -> Path:
    if not Path(name).is_dir():
        raise ValueError(
            f"Got the runtime {name!r}; expected {', '.join(RUNTIMES)}, or the folder of an "
            "exported pipeline."
        )
    found = read_export(name)
    if found.generator != generator.fingerprint():
        raise MismatchError(
            f"The export in {name} belongs to another generator.",
            got=found.generator,
            expected=generator.fingerprint(),
            remedy="Export this pipeline with stylegan-hub export PIPELINE --latent s -o FOLDER.",
        )
    if found.latent != "s" or found.format == "torch":
        raise MismatchError(
            f"The generator in {name} takes {found.latent}, in the format {found.format}.",
            got=(found.latent, found.format),
            expected=("s", "openvino or onnx"),
            remedy="Export it with --latent s --format openvino.",
        )
    return Path(name)


def choices() -> list[str]:
    """The installed runtimes, among which "auto" chooses."""
    return [PYTORCH, *(name for name in ("openvino", "onnx") if _is_installed(name))]


def _is_installed(name: str) -> bool:
    return all(importlib.util.find_spec(one) is not None for one in FORMATS[name].NEEDS)


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version({"onnx": "onnxruntime"}.get(name, name))
    except PackageNotFoundError:
        return ""
