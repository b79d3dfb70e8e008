"""Choose a method for a request that names none, and decide how its region is applied."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from PIL import Image

from stylegan_hub.domain import Domain
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents
from stylegan_hub.methods.method import Method, Nothing, Picture, Request, Words, known
from stylegan_hub.methods.wording import reading


def method_for(
    domain: Domain, request: Request | str | Image.Image, face: Latents | None = None
) -> Method[Any]:
    """The method with the greatest `rank` of those that can answer the request in this domain.

    Raises:
        MethodError: no method can.
    """
    if isinstance(request, str):
        request = Words(request)
    if isinstance(request, Words):
        request = reading(request, domain.neutral)
    elif isinstance(request, Image.Image):
        request = Picture(request)
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
            remedy="Use a pipeline with more components, or another type of request.",
        )
    return max(able, key=lambda method: method.rank(domain, request, face))


def with_region(request: Request, region: str | None) -> Request:
    """The request for this region; a picture and pairs take no region and stay as they are."""
    return replace(request, region=region) if isinstance(request, Words | Nothing) else request


def within(method: Method[Any], request: Request, region: str | None) -> tuple[Request, str | None]:
    """Give the region to the method if it takes one, else to the edit that it finds.

    A method that takes regions searches in the region. The edit of any other method is shown only
    inside it.

    Returns:
        The request for the method, and the region for `StackedEdit`; None if the method searches
        in it.
    """
    searched_in = method.takes_region and isinstance(request, Words | Nothing)
    asked = with_region(request, region if searched_in else None)
    return asked, None if searched_in else region
