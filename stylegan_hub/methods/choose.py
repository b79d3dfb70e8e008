"""Which method suits a request, where none is asked for."""

from __future__ import annotations

from typing import Any

from PIL import Image

from stylegan_hub.domain import Domain
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Method, Request, Words, known


def method_for(
    domain: Domain, request: Request | str | Image.Image, face: Latents | None = None
) -> Method[Any]:
    """The method with the greatest `rank` of those that can answer the request in this domain.

    Raises:
        MethodError: there is none.
    """
    if isinstance(request, str):
        request = Words(request)
    region = getattr(request, "region", None)
    able = [
        method
        for method in known().values()
        if method.answers(request) and method.fits(domain) and (not region or method.takes_region)
    ]
    if not able:
        raise MethodError(
            f"No method answers a request of type {type(request).__name__} in this pipeline.",
            got=type(request).__name__,
            expected=tuple(known()),
            remedy="Use a pipeline with more components, or ask in another way.",
        )
    return max(able, key=lambda method: method.rank(domain, face))
