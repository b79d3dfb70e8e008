"""Only requests that use one of the page's own addresses, and come from its own pages, pass.

Any domain name can be made to point at this machine. A foreign page whose name points here (DNS
rebinding) is the same site as this page to a browser, even if this page listens on this machine
alone. So a request is answered only if its Host is a numeric address, which cannot be made to point
elsewhere, or a name that is known to belong to this page. And what a browser sends to change
something must come from a page of this address, as its Origin says. Programs send no Origin.

X-Forwarded-Host is not trusted: a foreign page can set it if gradio's answer to the browser's CORS
request allows that.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

EVERY = "*"
_READING = {"GET", "HEAD", "OPTIONS"}
_LONGEST = 100  # characters of a request that an answer repeats


class OwnAddress:
    """Middleware that refuses requests to an unknown host name or from a foreign page.

    Args:
        app: the application that answers all other requests.
        names: host names of the page besides those that this machine has itself, such as
            "faces.example.org"; pages of these may send requests even if a proxy does not pass the
            Host on. `EVERY` stands for any Host. Names that are added later count too.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] = ()) -> None:
        self.app, self.names = app, names
        self._of_machine = {*names_of_machine()}
        self._of_space = {*names_of_space()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None
        if scope["type"] in ("http", "websocket"):
            refusal = self.refusal(scope.get("method", "a websocket"), Headers(scope=scope))
        await (refusal or self.app)(scope, receive, send)

    def refusal(self, method: str, headers: Headers) -> PlainTextResponse | None:
        """The answer if the request must not be carried out; None if it may."""
        host, origin = headers.get("host"), headers.get("origin")
        # Every browser sends a Host; the health check of a proxy may send none.
        if host is not None and not self._is_ours(name_in(f"//{host}")):
            return PlainTextResponse(
                f"Got the address {host[:_LONGEST]!r}, which is not known as an address of this "
                "page. If it is one, start the page with --allow-host and its name.",
                421,
            )
        if method in _READING or origin is None:
            return None
        is_same = urlsplit(origin).netloc.lower() == (host or "").lower() != ""
        if is_same or name_in(origin) in {*self.names, *self._of_space} - {EVERY}:
            return None
        return PlainTextResponse(
            f"Got a request from a page of {origin[:_LONGEST]!r}; only pages of this address may "
            "send it. To allow that page, start this one with --allow-host and its name.",
            403,
        )

    def _is_ours(self, name: str) -> bool:
        known = {*self.names, *self._of_machine, *self._of_space}
        return EVERY in known or name in known or _is_number(name)


def names_of_machine() -> Iterator[str]:
    """The names at which this machine and others in its network reach the page."""
    yield "localhost"
    yield socket.gethostname().lower()
    yield f"{socket.gethostname().lower()}.local"


def names_of_space() -> Iterator[str]:
    """On a Space, any name: it is public, so another name gains an attacker nothing.

    The Hub's name of the Space is included too, since the requests come from pages of that address.
    """
    if os.environ.get("SPACE_ID"):
        yield EVERY
        yield from (name.strip().lower() for name in os.environ.get("SPACE_HOST", "").split(","))


def name_in(address: str) -> str:
    """The host in an address, in lower case, without port and brackets; empty if there is none."""
    with suppress(ValueError):
        return urlsplit(address).hostname or ""
    return ""


def _is_number(name: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(name))
    return False
