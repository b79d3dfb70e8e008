"""Examine what this machine has to run the library fast, and how to install what is missing.

All of this is optional: if something is missing, the library uses something slower, or a feature
reports it when it is used.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from stylegan_hub.devices import chosen_device
from stylegan_hub.names import bundled
from stylegan_hub.ops import cuda, kernels, styled_conv_cuda
from stylegan_hub.ops.styled_conv import SOURCE
from stylegan_hub.runtime import PYTORCH, VARIABLE, choices
from stylegan_hub.version import __version__

_EXTRAS = {
    "gradio": ("demo", "the page"),
    "tensorboard": ("train", "training curves"),
    "mediapipe": ("photos", "face detection with MediaPipe in place of the bundled networks"),
    "pillow_heif": ("heic", "HEIC pictures of phones"),
    "openvino": (
        "openvino",
        "rendering with OpenVINO, the fastest for small pictures on many CPUs",
    ),
    "onnxruntime": ("onnx", "export to ONNX and rendering with onnxruntime"),
    "ray": ("ray", "`stylegan-hub many --engine ray`"),
}


@dataclass(frozen=True)
class Finding:
    """One item that was examined.

    Attributes:
        name: name of the item.
        answer: what was found.
        remedy: how to install what is missing; None if nothing is missing.
    """

    name: str
    answer: str
    remedy: str | None = None


def examine() -> Iterator[Finding]:
    """Examine this machine; builds the kernels if they are not built yet."""
    yield Finding(
        "versions",
        f"stylegan_hub {__version__}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    )
    yield Finding(
        "processor",
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}"
        + ("" if _has_bfloat16() else ", no fast bfloat16: --mixed_precision bf16 is not faster"),
    )
    yield _gpu()
    yield Finding("device", f"auto is {chosen_device()}")
    if os.environ.get("SPACES_ZERO_GPU"):
        answer = "this Space: the page searches on the GPU, with PyTorch's own operations"
        yield Finding("ZeroGPU", f"{answer}, and renders on the CPU; kernels cannot be built here")
    yield _runtime()
    ninja = importlib.util.find_spec("ninja") is not None
    yield Finding(
        "ninja",
        "installed" if ninja else "missing",
        None if ninja else "pip install ninja. It is needed to build kernels.",
    )
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    yield Finding(
        "C++ compiler",
        compiler or "missing",
        None if compiler else "Debian: apt-get install g++. It is needed to build kernels.",
    )
    yield _kernel(SOURCE)
    if torch.version.cuda is not None:
        yield _nvcc()
    for source in cuda.SOURCES:
        if source == styled_conv_cuda.SOURCE and not kernels.are_unproven_wanted():
            answer = f"off: it has not been tested on a GPU; {kernels.SWITCH}=all enables it"
            yield Finding(f"kernel {source}", answer)
        elif torch.cuda.is_available():
            yield _kernel(source)
        else:
            yield Finding(f"kernel {source}", "not used: it needs an NVIDIA GPU (see GPU)")
    for module, (extra, purpose) in _EXTRAS.items():
        found = importlib.util.find_spec(module) is not None
        yield Finding(
            module,
            "installed" if found else f"missing; needed for {purpose}",
            None if found else f'pip install "stylegan-hub[{extra}]"',
        )
    pipelines = ", ".join(bundled("pipeline")) or "none"
    yield Finding("bundled", f"pipelines: {pipelines}; {len(bundled('edit'))} edits")


def _runtime() -> Finding:
    asked = os.environ.get(VARIABLE) or "auto"
    if asked != "auto":
        return Finding("runtime", f"{asked}, set by {VARIABLE}")
    if (names := choices()) == [PYTORCH]:
        return Finding("runtime", "auto is pytorch: OpenVINO and onnxruntime are not installed")
    return Finding("runtime", f"auto: whichever is the fastest here of {', '.join(names)}")


def _kernel(source: str) -> Finding:
    state = kernels.status(source)
    if state.problem is None:
        how = f"built in {state.seconds:.0f} s" if state.seconds else "from the cache"
        return Finding(f"kernel {source}", f"{how}: {state.path}")
    return Finding(f"kernel {source}", "not built; PyTorch's operations replace it", state.problem)


def _nvcc() -> Finding:
    try:
        path, version = kernels.nvcc()
    except kernels.ToolkitError as error:
        return Finding("nvcc", "no suitable one: the CUDA kernels cannot be built", str(error))
    return Finding("nvcc", f"{path}, CUDA {version}")


def _has_bfloat16() -> bool:
    return bool(
        torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _gpu() -> Finding:
    if torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability()
        tf32 = {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "matrices": torch.backends.cuda.matmul.allow_tf32,
        }
        choices = ", ".join(f"TF32 for {what} {'on' if on else 'off'}" for what, on in tf32.items())
        return Finding(
            "GPU",
            f"{torch.cuda.get_device_name()} (compute capability {major}.{minor}), PyTorch for "
            f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}, {choices}",
        )
    if torch.version.cuda is None:
        return Finding(
            "GPU",
            "none that PyTorch can use: this is the CPU build of PyTorch",
            "If you have an NVIDIA GPU, install PyTorch's CUDA build (pytorch.org, Get started).",
        )
    return Finding(
        "GPU",
        f"none, although PyTorch was built for CUDA {torch.version.cuda}",
        "If there is a GPU, check its driver with nvidia-smi; it may be too old.",
    )
