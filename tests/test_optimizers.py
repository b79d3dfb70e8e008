"""Muon: equal steps in all directions of a matrix, and a state that can be saved."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from stylegan_hub.optimizers import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (24, 8), (8, 24)])
def test_orthogonalize_levels_the_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape) * 100
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert values.min() > 0.3 and values.max() < 1.3
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    turned = left.T @ orthogonalize(matrix) @ right.T
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), atol=1e-4, rtol=0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))


def optimizer_of(model: nn.Sequential) -> Muon:
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return Muon(matrices, others, lr=0.02)


def train(model: nn.Sequential, optimizer: Muon, steps: int) -> list[float]:
    inputs = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    targets = torch.stack([inputs[:, 0] * inputs[:, 1], inputs[:, 2], inputs[:, 3].abs()], 1)
    losses = []
    for _ in range(steps):
        loss = (model(inputs) - targets).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_it_learns() -> None:
    model = network()
    losses = train(model, optimizer_of(model), 150)
    assert losses[-1] < 0.2 * losses[0]


def test_a_restored_state_goes_on_exactly() -> None:
    model = network()
    optimizer = optimizer_of(model)
    train(model, optimizer, 5)
    other = copy.deepcopy(model)
    restored = optimizer_of(other)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert train(model, optimizer, 5) == train(other, restored, 5)


def test_matrices_only() -> None:
    with pytest.raises(ValueError, match=r"parameter of shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))], [])
