"""Pictures while a slider moves: straight from the models, past gradio's queue, without files.

A browser asks for `picture?channel=...&strengths=0.5,1&largest=512` and gets a JPEG. The channel is
a random word that a page is given with its desk, and gives access to nothing but such pictures.
"""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from demo.components import REFUSALS, explain
from demo.visits import Visits
from stylegan_hub.session import Session
from stylegan_hub.studio import Studio

SCRIPT = Path(__file__).with_name("channel.js")
_QUALITY = 92
_MAX_STRENGTHS = 100
_MAX_LENGTH = 4000


def routes(studio: Studio, visits: Visits) -> list[Route]:
    """The addresses that the page's server answers besides gradio's own."""

    async def picture(request: Request) -> Response:
        desk = visits.of_channel(request.query_params.get("channel", ""))
        if desk is None:
            return PlainTextResponse("There is no such channel; load the page again.", 404)
        desk.last_contact = desk.clock()
        try:
            session, largest = asked(desk.session, request.query_params)
            drawn = await run_in_threadpool(studio.rendering.picture, session, largest, True)
        except REFUSALS as error:
            return PlainTextResponse(explain(error), 400)
        return Response(jpeg(drawn), media_type="image/jpeg", headers={"Cache-Control": "no-store"})

    return [Route("/picture", picture)]


def asked(session: Session, query: QueryParams) -> tuple[Session, int | None]:
    """The session at the strengths of a browser's sliders, and the largest useful picture size.

    Sliders beyond the last edit do not count: a page has more sliders than that.

    Raises:
        ValueError: a strength or a size that is not a number.
    """
    written = query.get("strengths", "")[:_MAX_LENGTH]
    values = [float(value) for value in written.split(",")[:_MAX_STRENGTHS]] if written else []
    stack = session.stack
    for index, strength in enumerate(values[: len(stack)]):
        stack = stack.with_strength(index, strength)
    largest = query.get("largest")
    return session.with_stack(stack), None if largest is None else int(largest[:5])


def jpeg(picture: Image.Image) -> bytes:
    """The picture as the bytes of a file that is fast to write."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
