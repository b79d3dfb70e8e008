"""The weight of an identity term: a recognizer has a say where the domain has one."""

from __future__ import annotations

from stylegan_hub.domain import Domain
from stylegan_hub.errors import MethodError

NO_RECOGNIZER = "without an identity term, since the pipeline has no recognizer"
"""How an edit was found, in `origin.training["note"]`, that would else have had that term."""


def id_lambda_of(domain: Domain, given: float | None, usual: float) -> float:
    """The weight: as given, else the usual one, or 0 where the domain has no recognizer.

    Raises:
        MethodError: one above 0 was given, and the domain has no recognizer.
    """
    has_recognizer = domain.recognizer is not None
    if given is None:
        return usual if has_recognizer else 0.0
    if given and not has_recognizer:
        raise MethodError(
            f"Got id_lambda {given}, but this pipeline has no recognizer to tell people apart.",
            got=given,
            expected=0.0,
            remedy="Use id_lambda=0 or a pipeline with a recognizer.",
        )
    return given
