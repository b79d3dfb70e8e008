"""The parts of a whole pipeline, with what its tokenizer and image processor know."""

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
    """What `folder.export` writes of a pipeline.

    Args:
        pipe: a `Domain`, which is above this package.
        max_resolution: longer side of the pictures, see `Domain.synthesize`.
        dtype: that will be written.
        names: of the parts; all that the pipeline has when None.

    Raises:
        ValueError: an unknown part, or one that the pipeline lacks.
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
