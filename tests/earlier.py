"""Artifacts of one version, of every kind and as small as possible: later versions must load them.

    python -m tests.earlier tests/data/version-0.1.0

It was run once for each version whose files users have. Its output is kept and not written again
when the code changes, so that tests/test_earlier.py can load it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from stylegan_hub.edits.base import Edit, Origin, Strength, kinds
from stylegan_hub.edits.combined import Combined
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.instant import InstantEdit
from stylegan_hub.edits.latent_mapper import LatentMapper
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.methods.mapper import mapper_groups
from stylegan_hub.methods.style_statistics import editable_channels
from stylegan_hub.methods.table import DirectionTable, table_layout
from stylegan_hub.models.clip import build_clip, build_image_processor, train_tokenizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pictures.recipe import encode, recipe_of, stack_bytes
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio
from stylegan_hub.text_to_face import TextToFace

TEXT = "a face with a hat"
STRENGTH = 0.7


def pipeline() -> StyleEditPipeline:
    """A pipeline that renders noise, 16 px."""
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        z_dim=8, w_dim=8, img_resolution=16, channels=[8, 8, 8], num_mapping_layers=2
    )
    tokenizer = train_tokenizer([TEXT] * 2, vocab_size=520, context_length=16)
    clip = build_clip(
        tokenizer, image_size=16, vision_width=32, vision_layers=1, text_width=32, text_layers=1,
        embedding_dim=8,
    )  # fmt: skip
    return StyleEditPipeline(generator, clip, tokenizer, build_image_processor(16))


def edits(pipe: StyleEditPipeline) -> Iterator[Edit]:
    """One artifact of every kind, and variants that only config.json tells apart."""
    base, shape = pipe.base_model, (pipe.generator.num_ws, pipe.generator.w_dim)
    strength = Strength(0.8, -1.0, 3.0)
    origin = Origin(TEXT, "a face", {"method": "by hand", "steps": 3})
    yield Direction(torch.randn(shape), "w_plus", base, strength, origin)
    mapper = LatentMapper(mapper_groups(pipe.generator), "w_plus", base, scale=1.0)
    yield mapper
    yield InstantEdit(torch.randn(shape), torch.randn(shape[1]), 0.8, base)
    yield Combined([(mapper, 1.0), (Direction(torch.randn(shape), "w_plus", base), -0.5)])


def moved(pipe: StyleEditPipeline, edit: Edit) -> list[float]:
    """A latent after the edit, in a few numbers."""
    codes = edit.apply(pipe.sample([3]), STRENGTH).codes[0]
    return [round(float(number), 5) for number in codes.flatten()[::16]]


def write(folder: Path) -> None:
    """Write all of them, and `expected.json` with their results."""
    pipe = pipeline()
    pipe.save_pretrained(folder / "pipeline")
    pipe = StyleEditPipeline.from_pretrained(folder / "pipeline")
    made = {edit.kind: edit for edit in edits(pipe)}
    assert set(made) >= set(kinds()), "a kind of edit is missing"
    for kind, edit in made.items():
        edit.save_pretrained(folder / kind)
    index = torch.tensor(editable_channels(pipe))
    relevance = torch.randn(len(index), 8)
    ones = torch.ones(pipe.generator.num_styles)
    layout = table_layout(pipe, include_to_rgb=False)
    DirectionTable(
        relevance, index, ones, ones, pipe.base_model, pipe.clip_model, layout
    ).save_pretrained(folder / "direction_table")
    TextToFace.for_pipeline(pipe, hidden=8).save_pretrained(folder / "text_to_face")
    stack = EditStack().added(made["direction"], STRENGTH, None, "a hat")
    stack = stack.added(made["latent_mapper"], -0.5)
    stack.save(folder / "stack.safetensors")
    pipe.sample([3]).save(folder / "latents.safetensors")
    session = Session(seed=3).with_stack(stack)
    _, picture = Studio(pipe).draw(session)
    png = encode(picture, recipe_of(pipe, session), "PNG", stack_bytes(session))
    (folder / "edited.png").write_bytes(png)
    expected = {
        "edits": {kind: moved(pipe, edit) for kind, edit in made.items()},
        "picture": [int(n) for n in np.asarray(pipe(seed=3).images[0]).flatten()[::32]],
        "codes": [round(float(n), 5) for n in pipe.sample([3]).codes.flatten()[:8]],
        "relevance": round(float(relevance.sum()), 4),
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
