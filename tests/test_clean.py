"""The critic of cleanness, and the pictures from which it learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import check_says_nothing_of
from test_recipes import recipe
from test_regions import PARTS, small_parser, with_parts

from stylegan_hub.latents import Space
from stylegan_hub.metrics.clean import Critic, CriticConfig, clean_limit, clean_share
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import sample
from stylegan_hub.portraits.factors import FACTORS
from stylegan_hub.portraits.paired import FactorEncoder
from stylegan_hub.portraits.renderer import render
from stylegan_hub.portraits.spoil import is_visible, spoil, spoiled_latents, unfinished

SMALL = {"resolution": 32, "channels": (8, 8, 8), "blocks": (1, 1, 1), "last_channels": 8}


def test_clean_is_a_share_above_the_worst_unedited() -> None:
    before = torch.linspace(0, 1, 101)
    assert clean_limit(before) == pytest.approx(0.05)
    assert clean_share(before, before) == pytest.approx(0.95, abs=0.01)
    assert clean_share(before, before - 2) == 0 and clean_share(before, before + 1) == 1


def test_scores(tmp_path: Path) -> None:
    critic = Critic(**SMALL).eval()
    images = torch.rand(5, 3, 48, 40) * 2 - 1
    scores = critic.score(images, at_once=2)
    assert scores.shape == (5,) and torch.allclose(scores, critic.score(images), atol=1e-5)
    critic.save_pretrained(tmp_path / "critic")
    again = Critic.from_pretrained(tmp_path / "critic").eval().score(images, at_once=2)
    assert torch.equal(again, scores)
    with pytest.raises(ValueError, match=r"\[n, 3, h, w\]"):
        critic(images[:, :2])


@pytest.mark.parametrize(
    "wrong", [{"resolution": 100}, {"channels": (8, 8)}, {"blocks": (1, 1, 10**6)}]
)
def test_impossible_critics(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CriticConfig(**{**SMALL, **wrong})  # type: ignore[arg-type]


def test_spoiled_pictures_look_spoiled() -> None:
    pictures = render(sample(range(8)), 64)
    masks = torch.zeros(8, 1, 64, 64)
    masks[:, :, 10:40, 16:48] = 1
    generator = torch.Generator().manual_seed(0)
    spoiled = torch.cat([spoil(pictures, masks, pictures.roll(1, 0), generator) for _ in range(6)])
    assert spoiled.abs().max() <= 1
    seen = is_visible(pictures.repeat(6, 1, 1, 1), spoiled)
    assert seen.float().mean() > 0.8 and not is_visible(pictures, pictures + 0.01).any()
    # Far from the part nothing changes, so a critic must look at every place.
    away = (spoiled - pictures.repeat(6, 1, 1, 1))[:, :, 60:].abs().mean()
    assert away < 0.02
    again = torch.Generator().manual_seed(0)
    assert torch.equal(spoil(pictures, masks, pictures.roll(1, 0), again), spoiled[:8])


def test_spoiled_latents_are_off_what_samples_are(tiny_pipeline: StyleEditPipeline) -> None:
    faces = tiny_pipeline.sample(range(64))
    spoiled = spoiled_latents(tiny_pipeline, faces, torch.Generator().manual_seed(0))
    assert spoiled.space is Space.S and spoiled.codes.isfinite().all()
    units = tiny_pipeline.units(Space.S)
    plain = units.from_codes(tiny_pipeline.lower(faces, Space.S).codes)
    moved = units.from_codes(spoiled.codes) - plain
    assert (moved.abs().amax(1) > 1.5).float().mean() > 0.95


def test_unfinished_faces_have_something_halfway_or_a_garish_color(
    portraits: StyleEditPipeline,
) -> None:
    faces = portraits.sample(range(32))
    moved = unfinished(portraits, faces, torch.Generator().manual_seed(0))
    encoder = FactorEncoder(faces.codes.shape[2])
    before, after = (encoder.decode(latents.codes.mean(1)) for latents in (faces, moved))
    changed = {
        tuple(FACTORS[i] for i in row.nonzero()[:, 0].tolist())
        for row in (after - before).abs() > 1e-3
    }
    things = {names[0] for names in changed if len(names) == 1}
    assert things >= {"hat", "beard", "glasses"} and {"skin_r", "skin_g", "skin_b"} in map(
        set, changed
    )
    for thing in things:
        column = after[:, FACTORS.index(thing)]
        halfway = column[(column - before[:, FACTORS.index(thing)]).abs() > 1e-3]
        assert halfway.min() > 0.4 and halfway.max() < 0.64


def test_the_critic_learns_and_resumes(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = recipe("train_critic")
    with_parts(tiny_pipeline, small_parser(PARTS)).save_pretrained(tmp_path / "pipe")
    monkeypatch.setattr(train, "Critic", lambda: Critic(**SMALL))
    monkeypatch.setattr(train, "unfinished", spoiled_latents)  # no factors fit into a tiny w
    common = dict(
        pipeline=str(tmp_path / "pipe"), samples=32, renders=16, unseen=32, train_batch_size=8,
        checkpointing_steps=2, sample_steps=2, lr_warmup_steps=1,
    )  # fmt: skip
    train.main(train.Config(output_dir=tmp_path / "whole", max_train_steps=4, **common))
    parted = train.Config(output_dir=tmp_path / "parted", max_train_steps=4, **common)
    train.main(train.Config(**{**vars(parted), "max_train_minutes": 0.0}))
    train.main(train.Config(**{**vars(parted), "resume_from_checkpoint": "latest"}))
    for name in ("critic/diffusion_pytorch_model.safetensors", "critic/metrics.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parted" / name).read_bytes()
    metrics = json.loads((tmp_path / "whole" / "critic" / "metrics.json").read_text())
    assert 0 <= metrics["auc"] <= 1
    check_says_nothing_of(tmp_path, tmp_path / "whole" / "critic")
    (tmp_path / "whole" / "pictures.json").write_text('{"generator": "0123"}')
    with pytest.raises(SystemExit, match="another run"):
        train.main(train.Config(output_dir=tmp_path / "whole", max_train_steps=4, **common))
