"""Any published StyleGAN2 file to a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stylegan_hub.checkpoints import nvidia, rosinality, tensorflow
from stylegan_hub.checkpoints.files import read_checkpoint
from stylegan_hub.checkpoints.sources import build_generator
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.models.stylegan2 import StyleGAN2Generator

_SAME = 1e-3  # of two copies of one generator: releases differ by rounding


def load_generator(path: str | Path) -> StyleGAN2Generator:
    """The averaged generator of a checkpoint, frozen, in float32 on the CPU.

    Read are NVIDIA's pickles (stylegan2-ada-pytorch, StyleGAN2 of stylegan3, the TensorFlow era),
    torch files of rosinality/stylegan2-pytorch, and those of e4e, pSp and StyleCLIP's mappers,
    which have such a generator inside. What a file is, its content says. Nothing in it is executed.

    Raises:
        NotFoundError: there is no such file.
        ArtifactError: it holds no StyleGAN2 generator, or is damaged or unsafe; the message names
            the tensor or the name in question.
    """
    return generator_from(read_checkpoint(path), Path(path))


def generator_from(content: Any, path: Path) -> StyleGAN2Generator:
    """As `load_generator`, of a file that has been read."""
    try:
        if nvidia.is_nvidia(content):
            sources = nvidia.generator_sources(content)
        elif tensorflow.is_tensorflow(content):
            sources = tensorflow.generator_sources(content)
        elif (found := rosinality.state_dict(content)) is not None:
            sources = rosinality.generator_sources(*found)
        else:
            raise ArtifactError(f"holds no StyleGAN2 generator; it holds {describe(content)}")
        return build_generator(sources, path.stat().st_size)
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}.") from error


def check_same_generator(inside: StyleGAN2Generator, own: StyleGAN2Generator, what: str) -> None:
    """Raise `MismatchError` unless two generators draw the same.

    Args:
        what: `inside` is, for the message: "The encoder's decoder".
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
                "different generators. Take the one that it was made for."
            )
        if not torch.allclose(mine.cpu().float(), tensor, rtol=_SAME, atol=_SAME):
            raise MismatchError(
                f"{what} and the generator differ in {name}. Take the generator that it was made "
                "for."
            )


def describe(content: Any) -> str:
    """A few words on what a file holds."""
    if isinstance(content, dict):
        keys = [str(key)[:60] for key in list(content)[:8]]
        more = f" and {len(content) - 8} more" if len(content) > 8 else ""
        return f"a dict with {', '.join(keys) or 'nothing'}{more}"
    shape = getattr(content, "shape", None)
    return f"a {type(content).__name__}" + (f" of shape {list(shape)}" if shape else "")
