"""This library's kernels, compiled at first use: faster than PyTorch's operations, and optional.

The sources are in this folder. The first call that could use a kernel builds it in several seconds
with ninja and the machine's compiler, through torch.utils.cpp_extension, and puts the library into
a cache folder; later processes only load it. If this fails, one `KernelWarning` says why and what
to do, and PyTorch's operations compute the same results. `stylegan-hub doctor` shows the state of
the kernels.

CUDA sources are compiled for the GPUs of this machine, by an nvcc of PyTorch's major CUDA version;
they do not include any code of PyTorch.

A library is built in a temporary folder and moved into the cache when it is complete. So no process
waits for a lock that a killed process has left, and none finds a partial library. Its length and
sha256 are stored beside it and compared before it is loaded, since a damaged library would crash
the process. The compiler runs in a separate process, which is stopped if it takes too long.

Environment variables:
    STYLEGAN_HUB_KERNELS: "off" builds and loads nothing; "all" also uses kernels that have never
        run on their hardware, which is the fused layer for NVIDIA GPUs, styled_conv.cu.
    STYLEGAN_HUB_CACHE: the cache folder, see `stylegan_hub.cache`.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch

from stylegan_hub.cache import CACHE, cache_folder
from stylegan_hub.storage import write_bytes

SWITCH: Final = "STYLEGAN_HUB_KERNELS"

_HERE = Path(__file__).parent
_ABANDONED = 3600.0  # seconds after which the folder of an unfinished build is deleted
_BUILD_LIMIT = 900.0  # seconds that a compiler may take
_LAST_LINES = 12  # of a compiler's output, in a message
_COMPILE = """
import json, sys
from torch.utils import cpp_extension
cpp_extension.load(**json.load(sys.stdin))
"""

# The instructions of a processor as flags of gcc and clang. GCC's -march=native is not enough: it
# leaves out AVX-512 for processors that are newer than the compiler.
_CPU_FLAGS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
}

# Parts of a compiler's messages, and their remedies.
_REMEDIES = {
    "unsupported GNU version": "nvcc needs an older g++: install one, such as Debian's g++-12, and "
    "name it in the variables CC and CXX.",
    "unsupported clang version": "nvcc needs an older clang, or g++: name it in the variables CC "
    "and CXX.",
    "Unsupported gpu architecture": "This nvcc is too old or too new for the GPU: name the folder "
    "of another CUDA toolkit in CUDA_HOME.",
    "cannot find -lcudart": "The CUDA toolkit is incomplete: its folder lib64 has no libcudart. "
    "Install it again.",
    "cuda_runtime.h": "The CUDA toolkit is incomplete: it has no header files. Install it again.",
    "the compiler was stopped": "The compiler may be waiting for something, or the machine may be "
    "very busy. Try the same compiler on a small program.",
}


class KernelWarning(UserWarning):
    """A kernel could not be built or loaded; PyTorch's operations are used instead."""


class ToolkitError(RuntimeError):
    """The CUDA toolkit is missing or does not fit; the message says which one would."""


@dataclass(frozen=True)
class Status:
    """The state of a kernel.

    Attributes:
        path: of the library; None if there is none.
        seconds: that building it took; 0 if it came from the cache.
        problem: why there is no library, and what to do; None if there is one.
    """

    path: Path | None
    seconds: float
    problem: str | None


_lock = threading.Lock()
_states: dict[str, tuple[ctypes.CDLL | None, Status]] = {}
_beside: set[str] | None = None
"""Kernels that are built in the background; None if whoever needs a kernel waits for it."""


def build_beside() -> None:
    """From now on, build kernels in the background, while PyTorch's operations compute instead.

    It is for a page, whose visitors should not wait for a compiler. Kernels in the cache are loaded
    at once, as always.
    """
    global _beside
    _beside = set()


def load(name: str) -> ctypes.CDLL | None:
    """The library of a source in this folder, built if necessary; None if that fails.

    It is also None while the library is built in the background, see `build_beside`.

    The first failure in a process issues a `KernelWarning`; later calls return None at once.

    Args:
        name: of the source, such as "styled_conv.cpp".
    """
    if _switched_off():
        return None
    if name not in _states:
        if _beside is not None and not _is_cached(name):
            if name not in _beside:
                _beside.add(name)
                threading.Thread(target=_state, args=[name], daemon=True).start()
            return None
        _state(name)
    return _states[name][0]


def _state(name: str) -> Status:
    """The state of a kernel, after it was loaded or built."""
    with _lock:
        if name not in _states:
            _states[name] = _load(name)
    return _states[name][1]


def _is_cached(name: str) -> bool:
    if name in (_beside or ()):  # it is being built
        return False
    with suppress(Exception):
        return (cache_folder() / _file_name(name)).is_file()
    return True  # `_load` will say what is wrong


def status(name: str) -> Status:
    """The state of a kernel, which is built if necessary."""
    if _switched_off():
        return Status(None, 0.0, f"switched off by {SWITCH}=off")
    return _state(name)


def nvcc() -> tuple[Path, str]:
    """The compiler of CUDA sources, and its version, such as "13.0".

    Raises:
        ToolkitError: there is none, or its major version differs from PyTorch's.
    """
    from torch.utils.cpp_extension import CUDA_HOME

    wanted = str(torch.version.cuda)
    remedy = (
        f"Install the CUDA toolkit {wanted}, which fits PyTorch {torch.__version__}, and name its "
        f"folder in CUDA_HOME (/usr/local/cuda-{wanted}, for instance)."
    )
    path = None if CUDA_HOME is None else Path(CUDA_HOME, "bin", "nvcc")
    if path is None:
        raise ToolkitError(f"There is no CUDA toolkit: CUDA_HOME is not set. {remedy}")
    if not path.is_file():
        raise ToolkitError(f"There is no CUDA toolkit in {CUDA_HOME}: no bin/nvcc. {remedy}")
    try:
        ran = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise ToolkitError(f"{path} does not run: {error}. {remedy}") from error
    found = re.search(r"release (\d+)\.(\d+)", ran.stdout)
    version = "unknown" if found is None else f"{found[1]}.{found[2]}"
    if version.split(".")[0] != wanted.split(".")[0]:
        raise ToolkitError(f"{path} belongs to CUDA {version}. {remedy}")
    return path, version


def are_unproven_wanted() -> bool:
    """Whether kernels that have never run on their hardware should be used too."""
    return os.environ.get(SWITCH, "").lower() == "all"


def _switched_off() -> bool:
    return os.environ.get(SWITCH, "").lower() == "off"


def _load(name: str) -> tuple[ctypes.CDLL | None, Status]:
    began = time.perf_counter()
    path = None
    try:
        path = cache_folder() / _file_name(name)
        if path.is_file() and (library := _opened(path)) is not None:
            return library, Status(path, 0.0, None)
        print(f"Building {name} (once on this machine).", file=sys.stderr, flush=True)
        _build(name, path)
        seconds = time.perf_counter() - began
        return ctypes.CDLL(str(path)), Status(path, seconds, None)
    # Compilers, drivers, full disks and read-only folders raise errors of any type; none is fatal.
    except Exception as error:
        problem = _explained(error, path)
        warnings.warn(
            f"The kernel {name} could not be built, and PyTorch's slower operations are used "
            f"instead. {problem}",
            KernelWarning,
            stacklevel=5,
        )
        return None, Status(None, time.perf_counter() - began, problem)


def _opened(path: Path) -> ctypes.CDLL | None:
    """A library of the cache; None if it is damaged, so that it is built again."""
    known = _sums(path)
    if not known.is_file():  # from an earlier version, or another process is about to write it
        return None
    if known.read_text() == _summed(path):
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            pass
    warnings.warn(f"The library {path} is damaged; it is built again.", KernelWarning, stacklevel=6)
    return None


def _sums(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _summed(path: Path) -> str:
    """Length and hash of a file."""
    data = path.read_bytes()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def _file_name(name: str) -> str:
    """The name of a library, which differs for each source, PyTorch and processor."""
    parts = [(_HERE / name).read_text(), sys.platform, *_flags(name)]
    if name.endswith(".cu"):
        parts += [str(torch.version.cuda), *(x.read_text() for x in sorted(_HERE.glob("*.cuh")))]
    else:
        parts.append(torch.__version__)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"{Path(name).stem}-{digest}.so"


def _flags(name: str) -> list[str]:
    if name.endswith(".cu"):
        # If they are named here, PyTorch does not read TORCH_CUDA_ARCH_LIST.
        count = torch.cuda.device_count()
        cards = sorted({torch.cuda.get_device_capability(index) for index in range(count)})
        return ["-O3", *(f"-gencode=arch=compute_{a}{b},code=sm_{a}{b}" for a, b in cards)]
    capability = torch.backends.cpu.get_cpu_capability()
    # OpenMP for the compiler, but not for the linker, so that threads are those of PyTorch's own
    # OpenMP library. With a second library, the threads of both would wait for each other.
    return ["-O3", "-DNDEBUG", "-fopenmp", *_CPU_FLAGS.get(capability, [])]


def _build(name: str, path: Path) -> None:
    flags = _flags(name)
    if name.endswith(".cu"):
        nvcc()
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob("build-*"):
        if time.time() - left.stat().st_mtime > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix="build-", dir=path.parent)
    try:
        _compile(
            name=path.stem.replace("-", "_"),
            sources=[str(_HERE / name)],
            extra_cflags=flags,
            extra_cuda_cflags=flags,
            build_directory=folder,
            is_python_module=False,
        )
        (built,) = Path(folder).glob("*.so")
        # The sum comes first: a process that reads now builds again instead of loading the library.
        write_bytes(_sums(path), _summed(built).encode())
        write_bytes(path, built.read_bytes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile(**options: object) -> None:
    """Run `cpp_extension.load` in a separate process, with ninja from the Python package.

    Raises:
        RuntimeError: it fails, with the compiler's output, or takes longer than `_BUILD_LIMIT`.
    """
    import ninja

    path = os.pathsep.join([ninja.BIN_DIR, os.environ.get("PATH", "")])
    child = subprocess.Popen(
        [sys.executable, "-c", _COMPILE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": path},
        start_new_session=True,  # so that the compiler can be stopped with it
    )
    try:
        said, _ = child.communicate(json.dumps(options), timeout=_BUILD_LIMIT)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"After {_BUILD_LIMIT:g} seconds the compiler was stopped.") from error
    finally:
        if child.poll() is None:
            _kill(child)
    if child.returncode:
        raise RuntimeError(said)


def _kill(child: subprocess.Popen[str]) -> None:
    """End a process and all processes that it has started."""
    if sys.platform == "win32":
        child.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _explained(error: Exception, path: Path | None) -> str:
    """The original message of the error, and a remedy."""
    if isinstance(error, ToolkitError):
        return f"{error} {SWITCH}=off silences this."
    text = str(error).strip()
    reason = "\n".join(line for line in text.splitlines()[-_LAST_LINES:] if line.strip())
    known = next((remedy for said, remedy in _REMEDIES.items() if said in text), None)
    if isinstance(error, OSError):
        if path is None:  # there is no folder for the library
            return f"{reason} {SWITCH}=off silences this."
        remedy = f"Make {path.parent} writable, or name another folder in {CACHE}."
    elif known is not None:
        remedy = known
    elif isinstance(error, ImportError):
        remedy = "Install ninja: pip install ninja."
    else:
        remedy = (
            "Install a C++ compiler (on Debian: apt-get install g++), and for CUDA kernels also "
            "the CUDA toolkit of PyTorch's version."
        )
    return f"Reason: {type(error).__name__}: {reason}\n{remedy} {SWITCH}=off silences this."
