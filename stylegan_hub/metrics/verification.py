"""Whether a recognizer tells people apart, measured on all pairs of pictures.

These are the measures of face verification (Deng et al. 2019, ArcFace, section 3; Huang et al.
2007, Labeled Faces in the Wild): a pair is accepted as one person if the cosine of its embeddings
reaches a threshold.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def verification(embeddings: Float[Tensor, "n d"], identity: Int[Tensor, " n"]) -> dict[str, float]:
    """How well the cosine of two embeddings shows whether both belong to the same person.

    Args:
        embeddings: of length 1.
        identity: equal numbers mean the same person.

    Returns:
        - same_pairs, other_pairs: number of pairs of the same person and of different people;
        - same_cosine, other_cosine: mean cosine of both kinds of pairs;
        - roc_auc: probability that a pair of the same person has the larger cosine;
        - equal_error_rate: share of errors at the threshold where it is the same for both kinds;
        - accuracy: mean share of correct answers for both kinds; the threshold for one half of the
          people is the best one for the other half.

    Raises:
        ValueError: one half of the people has no pair of one of the kinds.
    """
    people, person = identity.unique(return_inverse=True)
    same, other = _cosines(embeddings, person)
    halves = []
    for half in (0, 1):
        chosen = person % 2 == half
        halves.append(_cosines(embeddings[chosen], person[chosen]))
    if any(len(cosines) == 0 for part in halves for cosines in part):
        raise ValueError(
            f"Got {len(identity)} pictures of {len(people)} people; expected at least four people, "
            "most of them with two pictures. Add pictures."
        )
    accuracy = [
        _accuracy(judged, _best_threshold(learned)) for judged, learned in (halves, halves[::-1])
    ]
    return {
        "same_pairs": len(same),
        "other_pairs": len(other),
        "same_cosine": float(same.mean()),
        "other_cosine": float(other.mean()),
        "roc_auc": roc_auc(same, other),
        "equal_error_rate": _equal_error_rate(same, other),
        "accuracy": sum(accuracy) / 2,
    }


def calibration(
    embeddings: Float[Tensor, "n d"], identity: Int[Tensor, " n"], error: float = 0.01
) -> dict[str, float]:
    """The cosines above which two pictures show one person, and below which they show two.

    Args:
        embeddings: of length 1.
        identity: equal numbers mean the same person.
        error: share of wrong answers that each of the two limits may give.

    Returns:
        `same_above` with `other_accepted`, `other_below` with `same_rejected`, see
        `RecognizerConfig.calibration`; the shares are measured on these pictures.

    Raises:
        ValueError: no pairs of one of the kinds.
    """
    same, other = _cosines(embeddings, identity.unique(return_inverse=True)[1])
    if not len(same) or not len(other):
        raise ValueError(
            f"Got {len(same)} pairs of one person and {len(other)} of two; expected some of both. "
            "Add pictures."
        )
    same_above, other_below = float(other.quantile(1 - error)), float(same.quantile(error))
    return {
        "same_above": same_above,
        "other_accepted": float((other >= same_above).cpu().double().mean()),
        "other_below": other_below,
        "same_rejected": float((same < other_below).cpu().double().mean()),
    }


def roc_auc(higher: Float[Tensor, " n"], lower: Float[Tensor, " m"]) -> float:
    """Area under the ROC curve: the probability that a number of `higher` is above one of `lower`.

    Equal numbers count one half (Mann and Whitney 1947).
    """
    ordered = lower.sort().values
    above = torch.searchsorted(ordered, higher)
    above_or_equal = torch.searchsorted(ordered, higher, right=True)
    return float((above + above_or_equal).cpu().double().mean() / (2 * len(lower)))


def _cosines(embeddings: Tensor, person: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines of all pairs: those of the same person, and those of different people."""
    first, second = torch.triu_indices(len(person), len(person), 1)
    cosines = (embeddings @ embeddings.T)[first, second]
    same = person[first] == person[second]
    return cosines[same], cosines[~same]


def _error_rates(same: Tensor, other: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Thresholds, and for each the share of rejected same pairs and of accepted other pairs."""
    thresholds = torch.cat([same, other]).sort().values
    rejected = torch.searchsorted(same.sort().values, thresholds) / len(same)
    accepted = 1 - torch.searchsorted(other.sort().values, thresholds) / len(other)
    return thresholds, rejected, accepted


def _equal_error_rate(same: Tensor, other: Tensor) -> float:
    _, rejected, accepted = _error_rates(same, other)
    nearest = (rejected - accepted).abs().argmin()
    return float((rejected[nearest] + accepted[nearest]) / 2)


def _best_threshold(pairs: tuple[Tensor, Tensor]) -> Tensor:
    thresholds, rejected, accepted = _error_rates(*pairs)
    return thresholds[(rejected + accepted).argmin()]


def _accuracy(pairs: tuple[Tensor, Tensor], threshold: Tensor) -> float:
    same, other = pairs
    right = (same >= threshold).cpu().double().mean() + (other < threshold).cpu().double().mean()
    return float(right / 2)
