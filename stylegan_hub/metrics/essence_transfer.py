"""How much of a target picture edited faces take over, and how much of their own they keep.

These are the measures of TargetCLIP (Chefer et al. 2022, section 4). On drawn portraits, there is
also a measure independent of CLIP: an attribute reader, which shares nothing with CLIP, says which
attributes came from the target.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.methods.essence import consistency_loss
from stylegan_hub.metrics.identity_similarity import identity_similarity
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.portraits.attributes import ATTRIBUTES, applicable
from stylegan_hub.portraits.reader import AttributeReader

_BATCH_SIZE = 16


@torch.no_grad()
def essence_report(
    pipe: StyleEditPipeline,
    reader: AttributeReader | None,
    before: Float[Tensor, "n 3 h w"],
    after: Float[Tensor, "n 3 h w"],
    target: Float[Tensor, "1 3 h w"],
) -> dict[str, float]:
    """Means over n faces, two or more, before and after an essence of the target.

    Returns:
        - target_similarity_before, target_similarity_after: cosine between picture and target in
          CLIP;
        - change_consistency: cosine between the changes of different faces in CLIP;
        - identity_similarity: cosine between before and after; with a recognizer in the pipeline;
        - with a reader: attributes_taken, the share of attributes that a face shares with the
          target afterwards, of those that it did not share before (according to the reader);
          attributes_kept, the share of all attributes that stayed.

    Raises:
        ValueError: different numbers of pictures, or fewer than two.
    """
    if len(before) != len(after) or len(before) < 2:
        raise ValueError(
            f"Got {len(before)} pictures before and {len(after)} after the edit; expected as many "
            "of both, and at least two, since their changes are compared."
        )
    goal, seen_before, seen_after = (_embed(pipe, images) for images in (target, before, after))
    change = F.normalize(seen_after - seen_before, dim=1, eps=1e-6)
    report = {
        "target_similarity_before": float((seen_before @ goal[0]).mean()),
        "target_similarity_after": float((seen_after @ goal[0]).mean()),
        "change_consistency": 1 - float(consistency_loss(change)),
    }
    if (recognizer := getattr(pipe, "recognizer", None)) is not None:
        similarity = identity_similarity(recognizer, before, after, _BATCH_SIZE)
        report["identity_similarity"] = float(similarity.mean())
    if reader is not None:
        report |= _attributes(reader, before, after, target)
    return report


def _attributes(
    reader: AttributeReader, before: Tensor, after: Tensor, target: Tensor
) -> dict[str, float]:
    old, new, goal = (reader.read(images).labels for images in (before, after, target))
    in_old, in_new, in_goal = applicable(old), applicable(new), applicable(goal)
    counts = dict.fromkeys(("lacked", "taken", "seen", "kept"), 0)
    for name in ATTRIBUTES:
        stayed = old[name] == new[name]
        seen = in_old[name] & in_new[name]
        counts["seen"] += int(seen.sum())
        counts["kept"] += int((stayed & seen).sum())
        lacked = (old[name] != goal[name]) & in_old[name] & in_goal[name]
        counts["lacked"] += int(lacked.sum())
        counts["taken"] += int((lacked & in_new[name] & (new[name] == goal[name])).sum())
    return {
        "attributes_taken": counts["taken"] / max(counts["lacked"], 1),
        "attributes_kept": counts["kept"] / max(counts["seen"], 1),
    }


def _embed(pipe: StyleEditPipeline, images: Tensor) -> Tensor:
    batches = images.to(pipe.device).split(_BATCH_SIZE)
    return torch.cat([pipe.encode_image(batch).float() for batch in batches])
