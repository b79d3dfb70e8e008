"""How well a CLIP recognizes attributes from words alone (Radford et al. 2021, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from stylegan_hub.metrics.balanced_accuracy import mean_recall
from stylegan_hub.models.clip import encode_text

Texts = Mapping[str, Mapping[str, Sequence[str]]]  # attribute -> value -> texts that describe it


@torch.no_grad()
def value_embeddings(
    model: CLIPModel, tokenizer: CLIPTokenizer, texts: Texts
) -> dict[str, Float[Tensor, "values dim"]]:
    """For every attribute, the unit embeddings of its values, each the mean over its texts."""
    return {
        attribute: torch.stack(
            [
                F.normalize(encode_text(model, tokenizer, said).mean(0), dim=0)
                for said in values.values()
            ]
        )
        for attribute, values in texts.items()
    }


def zero_shot_predictions(
    image_embeddings: Float[Tensor, "n dim"], values: Mapping[str, Float[Tensor, "v dim"]]
) -> dict[str, Int[Tensor, " n"]]:
    """For every attribute, the index of the value whose embedding is nearest to each picture."""
    return {name: (image_embeddings @ rows.T).argmax(1) for name, rows in values.items()}


def zero_shot_accuracy(
    image_embeddings: Float[Tensor, "n dim"],
    values: Mapping[str, Float[Tensor, "v dim"]],
    labels: Mapping[str, Int[Tensor, " n"]],
    visible: Mapping[str, Tensor] | None = None,
) -> dict[str, float]:
    """Balanced accuracy of zero-shot recognition for every attribute of `values`.

    Args:
        image_embeddings: unit embeddings of n pictures.
        values: from `value_embeddings`.
        labels: the truth, indices into the values of each attribute.
        visible: bool `[n]` for attributes that some pictures do not show; these pictures are left
            out.
    """
    accuracy = {}
    for name, predicted in zero_shot_predictions(image_embeddings, values).items():
        shown = torch.ones(len(predicted), dtype=torch.bool)
        if visible is not None and name in visible:
            shown = visible[name].cpu()
        accuracy[name] = mean_recall(predicted.cpu()[shown], labels[name].cpu()[shown])
    return accuracy
