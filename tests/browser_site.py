"""An exported pipeline and its page, for tests that open them in a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stylegan_hub.browser import tfjs
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import InstantEdit
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.limited import Limited, Limits
from stylegan_hub.errors import NotFoundError
from stylegan_hub.latents import Space
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.pipeline import StyleEditPipeline


def need_tfjs() -> None:
    """Skip the test unless tf.js is in the cache or npm can fetch it."""
    try:
        tfjs.library()
    except NotFoundError as error:
        pytest.skip(f"tf.js cannot be had: {error}")


def edits_of_all_kinds(pipe: StyleEditPipeline) -> dict[str, Edit]:
    """Edits of all kinds that the browser supports, in both spaces."""
    base = pipe.base_model
    random = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).half().float()

    edits: dict[str, Edit] = {}
    for index in range(3):
        edits[f"layers-{index}"] = Direction(numbers(base.num_ws, base.w_dim), "w_plus", base)
        edits[f"channels-{index}"] = Direction(numbers(base.num_styles), "s", base)
    edits["instant"] = InstantEdit(numbers(base.num_ws, base.w_dim), numbers(base.w_dim), 0.8, base)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, space, normalization in (
            ("mapper", Space.W_PLUS, "features"),
            ("mapper-layers", Space.W_PLUS, "layers"),
            ("mapper-s", Space.S, "features"),
        ):
            groups = mapper_groups(pipe.generator, space)
            edits[name] = LatentMapper(groups, space, base, normalization)  # type: ignore[arg-type]
    limits = Limits.of(pipe)
    for name in ("layers-0", "instant", "mapper"):
        edits[f"limited-{name}"] = Limited(edits[name], limits)
    return edits


def write_layout(folder: Path, old: str, new: str) -> None:
    """Change the text of an exported layout."""
    path = folder / "layout.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
