"""Requests that reach the page under a name of its own, from pages of its own.

A name that leads to this machine can be anybody's. A stranger's page whose name is made to lead
here (DNS rebinding) is the same site as this page to a browser, even if this one listens on this
machine alone. So a request is answered only where its Host is an address in numbers, which nobody
can make lead elsewhere, or a name that is known to be ours. And what a browser sends to change
something must come from a page of this address, which its Origin says. Programs send no Origin.

X-Forwarded-Host is not believed: a stranger's page can set it where gradio's answer to the
browser's question (CORS) allows that.
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
_LONGEST = 100  # of what a stranger sent, in answers


class OwnAddress:
    """Middleware that refuses requests under a strange name, or from a strange page.

    Args:
        app: what answers the others.
        names: by which the page is reached beside those that this machine has itself, as
            "faces.example.org"; pages of these may send requests even where a proxy does not hand
            on the Host. `EVERY` stands for any Host. Names that are added later count too.
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
        """What is answered instead, if the request must not be carried out."""
        host, origin = headers.get("host"), headers.get("origin")
        # Every browser sends a Host; a proxy that asks whether the page lives may send none.
        if host is not None and not self._is_ours(name_in(f"//{host}")):
            return PlainTextResponse(
                f"Got the address {host[:_LONGEST]!r}, which this page does not know as its own. "
                "If it is, start the page with --allow-host and its name.",
                421,
            )
        if method in _READING or origin is None:
            return None
        is_same = urlsplit(origin).netloc.lower() == (host or "").lower() != ""
        if is_same or name_in(origin) in {*self.names, *self._of_space} - {EVERY}:
            return None
        return PlainTextResponse(
            f"Got a request from a page of {origin[:_LONGEST]!r}; only pages of this address may "
            "send it. If that page is meant to, start this one with --allow-host and its name.",
            403,
        )

    def _is_ours(self, name: str) -> bool:
        known = {*self.names, *self._of_machine, *self._of_space}
        return EVERY in known or name in known or _is_number(name)


def names_of_machine() -> Iterator[str]:
    """By which a page is reached from this machine, and from others beside it."""
    yield "localhost"
    yield socket.gethostname().lower()
    yield f"{socket.gethostname().lower()}.local"


def names_of_space() -> Iterator[str]:
    """On a Space, any: it is there for everybody, so another name wins nothing.

    What the Hub calls it is named too, since pages of that address send the requests.
    """
    if os.environ.get("SPACE_ID"):
        yield EVERY
        yield from (name.strip().lower() for name in os.environ.get("SPACE_HOST", "").split(","))


def name_in(address: str) -> str:
    """The host that an address names, in small letters, without port and brackets; else empty."""
    with suppress(ValueError):
        return urlsplit(address).hostname or ""
    return ""


def _is_number(name: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(name))
    return False
