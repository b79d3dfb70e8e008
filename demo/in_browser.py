"""Pictures that the visitor's browser renders while a slider moves, and the data that it needs.

A browser gets the synthesis network once, and for each stack of edits the style codes of the face
and what each edit adds to them. Moving a slider then needs no request. When a slider stops, and for
everything that is saved, the server renders as before.
"""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from safetensors.torch import save
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from demo.components import REFUSALS, explain
from demo.visits import Visits
from stylegan_hub.browser import tfjs
from stylegan_hub.browser.check import LIBRARY
from stylegan_hub.browser.export import synthesis_files
from stylegan_hub.errors import StyleganHubError
from stylegan_hub.studio import Studio

SCRIPT = Path(__file__).with_name("in_browser.js")
MAX_BYTES = 16_000_000
"""The largest synthesis network that is sent to browsers."""

_KEPT = {"Cache-Control": "max-age=3600"}


def routes(studio: Studio, visits: Visits) -> list[Route]:
    """The addresses that the page's server answers for a browser that renders."""
    files, refusal = offered(studio)
    version = version_of(files)

    def offer(_: Request) -> Response:
        return JSONResponse({"refusal": refusal, "version": version})

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files or request.path_params["version"] != version:
            return PlainTextResponse(f"There is no {name!r} here.", 404)
        kind = "application/wasm" if name.endswith(".wasm") else mimetypes.guess_type(name)[0]
        return Response(files[name], media_type=kind or "application/octet-stream", headers=_KEPT)

    async def codes(request: Request) -> Response:
        desk = visits.of_channel(request.query_params.get("channel", ""))
        if desk is None:
            return PlainTextResponse("There is no such channel; load the page again.", 404)
        try:
            rows = await run_in_threadpool(studio.rendering.displacements, desk.session)
        except REFUSALS as error:
            return PlainTextResponse(explain(error), 400)
        if rows is None:
            return Response(status_code=204)
        return Response(
            save({"rows": rows}),
            media_type="application/octet-stream",
            headers={"Cache-Control": "no-store"},
        )

    return [
        Route("/in_browser/offer", offer),
        Route("/in_browser/codes", codes),
        Route("/in_browser/{version}/{name:path}", file),
    ]


def version_of(files: dict[str, bytes]) -> str:
    """A part of the files' addresses that changes with them.

    Otherwise a browser could still keep those of another pipeline that this server had before.
    """
    content = hashlib.blake2b(digest_size=8)
    for name in sorted(files):
        content.update(name.encode())
        content.update(files[name])
    return content.hexdigest()


def offered(studio: Studio) -> tuple[dict[str, bytes], str | None]:
    """The files that a browser needs, by address; if there are none, also the reason."""
    try:
        files = {f"tfjs/{name}": data for name, data in tfjs.library(fetch=False).items()}
        pipeline = synthesis_files(studio.pipe)
    except StyleganHubError as error:
        return {}, str(error)
    if (size := sum(map(len, pipeline.values()))) > MAX_BYTES:
        return {}, f"Its {size / 1e6:.0f} MB exceed the {MAX_BYTES / 1e6:.0f} MB for a page."
    files |= {f"library/{path.name}": path.read_bytes() for path in LIBRARY.iterdir()}
    return files | {f"pipeline/{name}": data for name, data in pipeline.items()}, None
