"""A small local server for folders on this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = Callable[[bytes], None]
"""A function that receives the body of a page's POST request."""

_MAX_POST = 1 << 20


@contextmanager
def served(places: Mapping[str, Path], on_post: Answer | None = None) -> Iterator[str]:
    """Serve folders and files while the context lasts.

    Args:
        places: the folders to serve, by the beginning of the address ("library/", or "" for
            everything else).
        on_post: called with the body of each POST request.

    Yields:
        The address, "http://127.0.0.1:PORT/".
    """
    handler = partial(_Handler, places, on_post)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - as the base class has it
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def __init__(self, places: Mapping[str, Path], on_post: Answer | None, *args: Any) -> None:
        self._places, self._on_post = places, on_post
        super().__init__(*args)

    def translate_path(self, path: str) -> str:
        asked = unquote(urlsplit(path).path).lstrip("/")
        for start in sorted(self._places, key=len, reverse=True):
            if asked.startswith(start):
                inside = PurePosixPath(asked.removeprefix(start))
                if ".." in inside.parts or inside.is_absolute():
                    break
                return str(self._places[start] / inside)
        return str(Path("/nonexistent"))

    def do_POST(self) -> None:
        length = min(int(self.headers.get("Content-Length", 0)), _MAX_POST)
        body = self.rfile.read(length)
        self.send_response(204)
        self.end_headers()
        if self._on_post is not None:
            self._on_post(body)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""
