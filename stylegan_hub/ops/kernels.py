"""Kernels of our own, compiled at first use: faster than PyTorch's operations, and never needed.

Sources lie beside this file. The first call that could use one builds it, in some seconds, with
ninja and the machine's compiler, through torch.utils.cpp_extension, and puts the library into a
cache folder; later processes only load it. Where that does not work, one `KernelWarning` says why
and what to do, and PyTorch's operations compute the same. `stylegan-hub doctor` shows what there
is.

CUDA sources are compiled for the cards of this machine, by an nvcc of PyTorch's major CUDA version;
nothing of PyTorch is compiled into them.

A library is built in a folder of its own and moved into the cache when it is complete. So no
process waits for a lock that a dead one has left, and none finds half a library. Its length and
sha256 stand beside it and are compared before it is loaded, since a damaged library would end the
process. The compiler runs in a process of its own and is stopped when it takes too long.

Environment:
    STYLEGAN_HUB_KERNELS: "off" builds and loads nothing; "all" also uses what has never run on the
        hardware that it is for: the fused layer for NVIDIA cards, styled_conv.cu.
    STYLEGAN_HUB_CACHE: the cache folder; else `stylegan_hub` in XDG_CACHE_HOME or ~/.cache.
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

from stylegan_hub.storage import write_bytes

SWITCH: Final = "STYLEGAN_HUB_KERNELS"
CACHE: Final = "STYLEGAN_HUB_CACHE"

_HERE = Path(__file__).parent
_ABANDONED = 3600.0  # seconds after which a folder of an unfinished build is nobody's
_BUILD_LIMIT = 900.0  # seconds that a compiler may take
_LAST_LINES = 12  # of a compiler's output, in a message
_COMPILE = """
import json, sys
from torch.utils import cpp_extension
cpp_extension.load(**json.load(sys.stdin))
"""

# What a processor can do, as flags of gcc and clang. GCC's -march=native would not do: it leaves
# out AVX-512 for processors that it is too old to know.
_CPU_FLAGS = {
    "AVX512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
    "AVX2": ["-mavx2", "-mfma"],
}

# What a compiler says, and what helps.
_REMEDIES = {
    "unsupported GNU version": "nvcc needs an older g++: install one, such as Debian's g++-12, and "
    "name it in the variables CC and CXX.",
    "unsupported clang version": "nvcc needs an older clang, or g++: name it in the variables CC "
    "and CXX.",
    "Unsupported gpu architecture": "This nvcc is too old for the card, or too new for it: name "
    "the folder of another CUDA toolkit in CUDA_HOME.",
    "cannot find -lcudart": "The CUDA toolkit is not complete: its folder lib64 has no libcudart.",
    "cuda_runtime.h": "The CUDA toolkit is not complete: it has no header files.",
    "the compiler was stopped": "Does it wait for something, or is the machine very busy? Try the "
    "same compiler on a small program.",
}


class KernelWarning(UserWarning):
    """A kernel could not be built or loaded; PyTorch's operations take its place."""


class ToolkitError(RuntimeError):
    """The CUDA toolkit is missing, or does not fit; says what would."""


@dataclass(frozen=True)
class Status:
    """What became of a kernel.

    Attributes:
        path: of the library; None if there is none.
        seconds: that building it took; 0 if it came from the cache.
        problem: why there is none, and what to do; None if all is well.
    """

    path: Path | None
    seconds: float
    problem: str | None


_lock = threading.Lock()
_states: dict[str, tuple[ctypes.CDLL | None, Status]] = {}


def load(name: str) -> ctypes.CDLL | None:
    """The library of a source beside this file, built if need be; None where that fails.

    The first failure of a process warns with a `KernelWarning`; later calls return None at once.

    Args:
        name: of the source, such as "styled_conv.cpp".
    """
    if _switched_off():
        return None
    if name not in _states:
        with _lock:
            if name not in _states:
                _states[name] = _load(name)
    return _states[name][0]


def status(name: str) -> Status:
    """What became of a kernel, which is built if need be."""
    if _switched_off():
        return Status(None, 0.0, f"switched off by {SWITCH}=off")
    load(name)
    return _states[name][1]


def cache_folder() -> Path:
    """Where libraries are kept."""
    if given := os.environ.get(CACHE):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "stylegan_hub"


def nvcc() -> tuple[Path, str]:
    """The compiler of CUDA sources, and its version, such as "13.0".

    Raises:
        ToolkitError: there is none, or one of another major version than PyTorch's.
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
        raise ToolkitError(f"{path} is of CUDA {version}. {remedy}")
    return path, version


def are_unproven_wanted() -> bool:
    """Whether kernels that have never run on their hardware may be used as well."""
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
    # Compilers, drivers, full disks and read-only folders fail in any way, and none matters here.
    except Exception as error:
        problem = _explained(error, path)
        warnings.warn(
            f"The kernel {name} could not be built, and PyTorch's slower operations take its "
            f"place. {problem}",
            KernelWarning,
            stacklevel=4,
        )
        return None, Status(None, time.perf_counter() - began, problem)


def _opened(path: Path) -> ctypes.CDLL | None:
    """A library of the cache; None if it is damaged, and then it is built again."""
    known = _sums(path)
    if not known.is_file():  # of an earlier version, or another process is about to write it
        return None
    if known.read_text() == _summed(path):
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            pass
    warnings.warn(f"The library {path} is damaged; it is built again.", KernelWarning, stacklevel=5)
    return None


def _sums(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _summed(path: Path) -> str:
    """Length and hash of a file."""
    data = path.read_bytes()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}\n"


def _file_name(name: str) -> str:
    """Another one for another source, PyTorch or processor."""
    parts = [(_HERE / name).read_text(), sys.platform, *_flags(name)]
    if name.endswith(".cu"):
        parts += [str(torch.version.cuda), *(x.read_text() for x in sorted(_HERE.glob("*.cuh")))]
    else:
        parts.append(torch.__version__)
    digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    return f"{Path(name).stem}-{digest}.so"


def _flags(name: str) -> list[str]:
    if name.endswith(".cu"):
        # Named here, PyTorch does not take them from TORCH_CUDA_ARCH_LIST.
        count = torch.cuda.device_count()
        cards = sorted({torch.cuda.get_device_capability(index) for index in range(count)})
        return ["-O3", *(f"-gencode=arch=compute_{a}{b},code=sm_{a}{b}" for a, b in cards)]
    capability = torch.backends.cpu.get_cpu_capability()
    # OpenMP for the compiler, but not for the linker: threads are those of PyTorch's own OpenMP
    # library, which is loaded. With a second one, the threads of both would wait for each other.
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
        # First what it should be: whoever reads meanwhile builds again, and loads nothing damaged.
        write_bytes(_sums(path), _summed(built).encode())
        write_bytes(path, built.read_bytes())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _compile(**options: object) -> None:
    """Run `cpp_extension.load` in a process of its own, with the ninja of the package of this name.

    Raises:
        RuntimeError: it fails, or takes longer than `_BUILD_LIMIT`; with what the compiler said.
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
    """End a process and all that it has started."""
    if sys.platform == "win32":
        child.kill()
    else:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def _explained(error: Exception, path: Path | None) -> str:
    """The reason in the words of what failed, and a remedy."""
    if isinstance(error, ToolkitError):
        return f"{error} {SWITCH}=off silences this."
    text = str(error).strip()
    reason = "\n".join(line for line in text.splitlines()[-_LAST_LINES:] if line.strip())
    known = next((remedy for said, remedy in _REMEDIES.items() if said in text), None)
    if isinstance(error, OSError) and path is not None:
        remedy = f"Make {path.parent} writable, or name another folder in {CACHE}."
    elif known is not None:
        remedy = known
    elif isinstance(error, ImportError):
        remedy = "Install ninja: pip install ninja."
    else:
        remedy = (
            "Install a C++ compiler (Debian: apt-get install g++; for CUDA kernels the CUDA "
            "toolkit of PyTorch's version too)."
        )
    return f"Reason: {type(error).__name__}: {reason}\n{remedy} {SWITCH}=off silences this."
