"""Files of unusual networks, compared with what the official code renders from the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import foreign, nvidia, saved  # noqa: F401  foreign: a fixture
from reference import input_of, odd_generator, rosinality_by_rule

from stylegan_hub.checkpoints import load_generator

DATA = Path(__file__).parent / "data"
ODD = dict(np.load(DATA / "nvidia_odd_networks.npz"))
CONFIGS: dict[str, dict[str, Any]] = json.loads(bytes(ODD["configs_json"]))
ROSINALITY = dict(np.load(DATA / "rosinality_networks.npz"))
KINDS: dict[str, dict[str, Any]] = json.loads(bytes(ROSINALITY["meta_json"]))


@pytest.mark.parametrize("name", CONFIGS)
def test_nvidia(tmp_path: Path, name: str) -> None:
    """Labels, activations, filters of any length, channels, architectures, depths of mapping."""
    generator = odd_generator(**CONFIGS[name])
    loaded = load_generator(saved(tmp_path / "network.pkl", nvidia(generator)))
    z = input_of(f"{name}.z", 1, generator.z_dim)
    c = torch.eye(generator.c_dim)[1:2] if generator.c_dim else None
    ws = loaded.mapping(z, c)
    expected = torch.from_numpy(ODD[f"{name}.w"])
    torch.testing.assert_close(ws[:, 0], expected, rtol=0, atol=1e-5)
    images = torch.from_numpy(ODD[f"{name}.img"])
    torch.testing.assert_close(loaded.synthesis(ws), images, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", KINDS)
def test_rosinality(tmp_path: Path, name: str) -> None:
    """The filter of convolutions and that of toRGB are independent, of any length."""
    state = rosinality_by_rule(KINDS[name]["shapes"])
    kernels = {n.removeprefix(f"{name}."): torch.from_numpy(array)
               for n, array in ROSINALITY.items()
               if n.startswith(f"{name}.") and n.endswith("kernel")}  # fmt: skip
    assert len({tuple(kernel.shape) for kernel in kernels.values()}) == 1 + (name in _TWO_FILTERS)
    torch.save({"g_ema": state | kernels}, tmp_path / "file.pt")
    loaded = load_generator(tmp_path / "file.pt")
    ws = loaded.mapping(input_of(f"ros.{name}.z", 1, 10))
    expected = torch.from_numpy(ROSINALITY[f"{name}.w"])
    torch.testing.assert_close(ws[:, 0], expected, rtol=0, atol=1e-5)
    images = torch.from_numpy(ROSINALITY[f"{name}.img"])
    torch.testing.assert_close(loaded.synthesis(ws), images, rtol=1e-5, atol=2e-4)


_TWO_FILTERS = {"filter_121", "filter_11", "filter_8", "filter_123"}
