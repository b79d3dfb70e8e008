"""Balanced accuracy: the share recognized of each value of an attribute, averaged over the values.

Chance level is 1 / number of values, however rare some of them are.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Int
from torch import Tensor

from stylegan_hub.portraits.attributes import applicable


def mean_recall(predicted: Int[Tensor, " n"], label: Int[Tensor, " n"]) -> float:
    """The share of each label that is predicted correctly, averaged over the labels that occur."""
    right = predicted == label
    return float(
        torch.stack([right[label == value].float().mean() for value in label.unique()]).mean()
    )


def balanced_accuracy(
    predicted: Mapping[str, Int[Tensor, " n"]], truth: Mapping[str, Int[Tensor, " n"]]
) -> dict[str, float]:
    """`mean_recall` for each attribute; labels that cannot be seen (`applicable`) are left out."""
    visible = applicable(truth)
    return {
        name: mean_recall(predicted[name][visible[name]], values[visible[name]])
        for name, values in truth.items()
    }
