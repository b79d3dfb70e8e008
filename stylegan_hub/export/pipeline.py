"""The parts of a whole pipeline, with the settings of its tokenizer and image processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stylegan_hub.export.parts import LatentSpace, Part, parts_of


def pipeline_parts(
    pipe: Any,
    latent: LatentSpace = "w_plus",
    max_resolution: int | None = None,
    dtype: str = "float32",
    names: Sequence[str] | None = None,
) -> list[Part]:
    """The parts of a pipeline for `folder.export`.

    Args:
        pipe: a `Domain`; that class is in a layer above this package.
        max_resolution: longer side of the pictures, see `Domain.synthesize`.
        dtype: the precision that will be written.
        names: names of the parts; None for all that the pipeline has.

    Raises:
        ValueError: a part is unknown, or the pipeline lacks it.
    """
    whole = pipe.generator.img_resolution
    parts = parts_of(
        pipe.generator,
        pipe.clip,
        pipe.encoder,
        context_length=pipe.tokenizer.model_max_length,
        image_mean=pipe.image_processor.image_mean,
        image_std=pipe.image_processor.image_std,
        latent=latent,
        resolution=pipe.block(max_resolution) or whole,
        bounded=dtype == "float16",
    )
    known = [part.name for part in parts]
    if unknown := sorted(set(names or ()) - set(known)):
        raise ValueError(f"Got the part {unknown[0]!r}; this pipeline has {', '.join(known)}.")
    return [part for part in parts if names is None or part.name in names]
