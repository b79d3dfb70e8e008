"""The weight of an identity term, which is used only if the domain has a recognizer."""

from __future__ import annotations

from stylegan_hub.domain import Domain
from stylegan_hub.errors import MethodError

NO_RECOGNIZER = "without an identity term, since the pipeline has no recognizer"
"""The note in `origin.training["note"]` of an edit that was found without the usual term."""


def id_lambda_of(domain: Domain, given: float | None, usual: float) -> float:
    """The given weight, or by default the usual one, or 0 if the domain has no recognizer.

    Raises:
        MethodError: a weight other than 0 was given, but the domain has no recognizer.
    """
    has_recognizer = domain.recognizer is not None
    if given is None:
        return usual if has_recognizer else 0.0
    if given and not has_recognizer:
        raise MethodError(
            f"Got id_lambda {given}, but this pipeline has no recognizer to compare faces.",
            got=given,
            expected=0.0,
            remedy="Use id_lambda=0 or a pipeline with a recognizer.",
        )
    return given
