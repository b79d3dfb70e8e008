"""Two faces are mixed into one."""

from __future__ import annotations

import pytest
import torch

from stylegan_hub.latents import Latents
from stylegan_hub.mixing import interpolate, levels, mix
from stylegan_hub.pipeline import StyleEditPipeline


def test_levels(tiny_pipeline: StyleEditPipeline, portraits: StyleEditPipeline) -> None:
    assert levels(portraits) == {"coarse": (0, 4), "middle": (4, 8), "fine": (8, 14)}
    assert list(levels(tiny_pipeline)) == ["coarse", "middle"]  # no fine ones at 32 px


def test_mix_takes_whole_levels(portraits: StyleEditPipeline) -> None:
    first, second = portraits.sample(1), portraits.sample(2)
    one, two = (portraits.lower(face, "w_plus").codes for face in (first, second))
    assert torch.equal(mix(portraits, first, second).codes, one)
    assert torch.allclose(mix(portraits, first, second, 1, 1, 1).codes, two)
    mixed = mix(portraits, first, second, fine=1).codes
    assert torch.equal(mixed[:, :8], one[:, :8]) and torch.allclose(mixed[:, 8:], two[:, 8:])
    half = mix(portraits, first, second, 0.5, 0.5, 0.5).codes
    assert torch.allclose(half, (one + two) / 2, atol=1e-6)


def test_interpolate(tiny_pipeline: StyleEditPipeline) -> None:
    first, second = tiny_pipeline.sample(1), tiny_pipeline.sample(2)
    way = interpolate(tiny_pipeline, first, second, 5)
    ends = [tiny_pipeline.lower(face, "w_plus").codes[0] for face in (first, second)]
    assert len(way) == 5
    assert torch.allclose(way.codes[0], ends[0]) and torch.allclose(way.codes[4], ends[1])
    steps = way.codes.diff(dim=0)
    assert torch.allclose(steps, steps[:1].expand_as(steps), atol=1e-5)


def test_what_cannot_be_mixed(tiny_pipeline: StyleEditPipeline) -> None:
    face = tiny_pipeline.sample(1)
    in_s: Latents = tiny_pipeline.lower(face, "s")
    for call, message in (
        (lambda: mix(tiny_pipeline, face, face, coarse=1.5), "Got coarse=1.5"),
        (lambda: mix(tiny_pipeline, face, tiny_pipeline.sample([1, 2])), "Got 1 and 2 faces"),
        (lambda: mix(tiny_pipeline, in_s, face), "Got a face in s"),
        (lambda: interpolate(tiny_pipeline, face, face, 1), "Got count 1 between"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
