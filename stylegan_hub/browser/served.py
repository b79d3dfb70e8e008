"""A small local server for folders on this machine: `python -m stylegan_hub.browser.served FOLDER`.

Its pages are cross-origin isolated, so that browsers let them compute with several threads.
"""

from __future__ import annotations

import argparse
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

ISOLATED: Mapping[str, str] = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
}
"""Headers that isolate a page from other sites, which browsers require for threads."""

_MAX_POST = 1 << 20


@contextmanager
def served(
    places: Mapping[str, Path],
    on_post: Answer | None = None,
    *,
    headers: Mapping[str, str] = ISOLATED,
    port: int = 0,
) -> Iterator[str]:
    """Serve folders and files while the context lasts.

    Args:
        places: the folders to serve, by the beginning of the address ("library/", or "" for
            everything else).
        on_post: called with the body of each POST request.
        headers: sent with every answer.
        port: 0 takes any free one.

    Yields:
        The address, "http://127.0.0.1:PORT/".

    Raises:
        OSError: the port is in use or not allowed.
    """
    handler = partial(_Handler, places, on_post, headers)
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
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

    def __init__(
        self,
        places: Mapping[str, Path],
        on_post: Answer | None,
        headers: Mapping[str, str],
        *args: Any,
    ) -> None:
        self._places, self._on_post, self._sent = places, on_post, headers
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
        for name, value in self._sent.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m stylegan_hub.browser.served", description="Serve a page on this machine."
    )
    parser.add_argument("folder", type=Path, help="the folder with index.html")
    parser.add_argument("--port", type=int, default=8000)
    asked = parser.parse_args()
    if not (asked.folder / "index.html").is_file():
        parser.error(
            f"{asked.folder} has no index.html. Give the folder that "
            "`stylegan-hub space NAME --static` wrote."
        )
    try:
        with served({"": asked.folder}, port=asked.port) as address:
            print(f"{address} (stop with Ctrl+C)", flush=True)
            threading.Event().wait()
    except OSError as error:
        parser.error(f"Port {asked.port} cannot be used ({error}). Choose another --port.")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    _main()
