"""Load a generator from any published StyleGAN2 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stylegan_hub.checkpoints import nvidia, rosinality, tensorflow
from stylegan_hub.checkpoints.files import of_file, read_checkpoint
from stylegan_hub.checkpoints.sources import Reading, build_generator
from stylegan_hub.checkpoints.state_dicts import options
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator

_SAME = 1e-3  # tolerance for two copies of one generator, because releases differ by rounding


def load_generator(path: str | Path) -> StyleGAN2Generator:
    """The averaged generator of a checkpoint, frozen, in float32 on the CPU.

    It reads NVIDIA's pickles (stylegan2-ada-pytorch, StyleGAN2 of stylegan3, the TensorFlow era),
    torch files and safetensors in the layout of rosinality/stylegan2-pytorch, and files of e4e, pSp
    and StyleCLIP's mappers, which contain such a generator. The kind of file is recognized by its
    content. Nothing in it is executed.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: it holds no StyleGAN2 generator, or is incomplete, damaged or unsafe; the
            message gives the tensor or the name that is affected.
    """
    return generator_from(read_checkpoint(path), Path(path))


def generator_from(content: Any, path: Path) -> StyleGAN2Generator:
    """Like `load_generator`, for a file that has been read."""
    try:
        return build_generator(generator_reading(content), path.stat().st_size)
    except ArtifactError as error:
        raise of_file(path, error) from error


def generator_reading(content: Any) -> Reading[StyleGAN2Generator]:
    """The generator that the content of a file describes.

    Raises:
        ArtifactError: it holds no generator, or an incomplete one.
    """
    if nvidia.is_nvidia(content):
        return nvidia.reading(content)
    if tensorflow.is_tensorflow(content):
        return tensorflow.reading(content)
    if (found := rosinality.find(content)) is not None:
        return rosinality.reading(found, options(content))
    if isinstance(content, dict) and any("synthesis.b4.const" in str(key) for key in content):
        raise ArtifactError(
            "holds the tensors of an NVIDIA generator without its settings (clamp, activation, "
            "filters), which decide what it renders.",
            got="a state_dict with NVIDIA's names",
            expected="the pickle with 'G_ema', or rosinality's layout",
            remedy="Give the .pkl that these tensors were taken from.",
        )
    raise ArtifactError(
        f"holds no StyleGAN2 generator; it holds {describe(content)}",
        got=describe(content),
        expected="a StyleGAN2 generator of NVIDIA or in rosinality's layout",
    )


def has_generator(content: Any) -> bool:
    """Whether a file seems to hold a generator."""
    return (
        nvidia.is_nvidia(content)
        or tensorflow.is_tensorflow(content)
        or rosinality.find(content) is not None
    )


def check_same_generator(inside: StyleGAN2Generator, own: StyleGAN2Generator, what: str) -> None:
    """Raise `MismatchError` unless two generators render the same.

    Args:
        what: what `inside` is, for the message: "The encoder's decoder".
    """
    state = own.state_dict()
    for name, tensor in inside.state_dict().items():
        if name.endswith(("noise_const", "w_avg", "resample_filter")):
            continue  # files may lack them
        mine = state.get(name)
        if mine is None or mine.shape != tensor.shape:
            shape = "nothing" if mine is None else list(mine.shape)
            raise MismatchError(
                f"{what} has {list(tensor.shape)} as {name}, the generator {shape}: they are "
                "different generators. Use the one that it was made for."
            )
        if not torch.allclose(mine.cpu().float(), tensor, rtol=_SAME, atol=_SAME):
            raise MismatchError(
                f"{what} and the generator differ in {name}. Use the generator that it was made "
                "for."
            )


def describe(content: Any) -> str:
    """A short text about the content of a file."""
    if isinstance(content, dict):
        keys = [str(key)[:60] for key in list(content)[:8]]
        more = f" and {len(content) - 8} more" if len(content) > 8 else ""
        return f"a dict with {', '.join(keys) or 'nothing'}{more}"
    shape = getattr(content, "shape", None)
    return f"a {type(content).__name__}" + (f" of shape {list(shape)}" if shape else "")
