"""The page without a server as a folder, for `stylegan-hub space NAME --static` or a file server.

The folder holds the page, the library, tf.js and the exported pipeline. All addresses in it are
relative, so it works below any path, and nothing is fetched from anywhere else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stylegan_hub.artifacts import write_bytes
from stylegan_hub.browser import tfjs
from stylegan_hub.browser.export import web_files
from stylegan_hub.edits.base import Edit
from stylegan_hub.hub.space import replaced
from stylegan_hub.pipeline import StyleEditPipeline

_HERE = Path(__file__).parent
# Files needed for the first picture, besides those at the top; with wasm, the largest backend, and
# with threads.
_FIRST = (
    "library/", "tfjs/tf-core", "tfjs/tf-backend-wasm", "tfjs/tfjs-backend-wasm-threaded-simd",
    "pipeline/layout", "pipeline/generator", "pipeline/self_test",
)  # fmt: skip
# Files also cached for offline use from the start; other parts are cached once they are used.
_KEPT = ("tfjs/tfjs-backend-wasm-simd", "pipeline/text", "pipeline/instant")
_SPACE = """---
title: {title}
emoji: 🎨
colorFrom: purple
colorTo: gray
sdk: static
app_file: index.html
license: apache-2.0
custom_headers:
  cross-origin-embedder-policy: require-corp
  cross-origin-opener-policy: same-origin
  cross-origin-resource-policy: cross-origin
---

# {title}

Change a face with words and sliders. Everything is computed in the visitor's browser: nothing
leaves the device, and no server is needed. Made with stylegan-hub. The folder includes tf.js {tfjs}
(Apache-2.0, Google LLC) in `tfjs/`.

Serve the folder with any file server. With the headers `Cross-Origin-Opener-Policy: same-origin`
and `Cross-Origin-Embedder-Policy: require-corp`, browsers let the page compute with several
threads. A Space sends them, as stated above, and so does
`python -m stylegan_hub.browser.served .`.
"""


@dataclass(frozen=True)
class StaticPage:
    """The page that was written.

    Attributes:
        folder: the folder with `index.html`.
        first: bytes to load for the first picture, with wasm, the largest backend.
        total: bytes of all files.
    """

    folder: Path
    first: int
    total: int


def write_static_page(
    pipe: StyleEditPipeline,
    folder: str | Path,
    *,
    title: str = "Change a face with words",
    edits: Mapping[str, Edit] | None = None,
) -> StaticPage:
    """Write the page without a server, for a static Space or any file server.

    Args:
        folder: new or empty, or one that this function wrote, which is replaced.
        title: title of the Space.
        edits: edits by the names that the page shows.

    Raises:
        ArtifactError: the folder holds something else; see also `browser.export.export_web`.
        MismatchError: an edit belongs to another generator.
        NotFoundError: tf.js is not in the cache, and npm cannot fetch it.
        StorageError: the disk refuses.
    """
    target = Path(folder)
    with replaced(target, "static") as new:
        files = {f"tfjs/{name}": data for name, data in tfjs.library().items()}
        library = (_HERE / "library").iterdir()
        files |= {f"library/{path.name}": path.read_bytes() for path in library}
        files |= {path.name: path.read_bytes() for path in (_HERE / "page").iterdir()}
        pipeline, _ = web_files(pipe, edits or {})
        files |= {f"pipeline/{name}": data for name, data in pipeline.items()}
        files["service_worker.js"] = _service_worker(files)
        card = _SPACE.format(title=_plain(title), tfjs=tfjs.VERSION)
        files["README.md"] = card.encode()
        for name, data in files.items():
            write_bytes(new / name, data)
    first = sum(len(data) for name, data in files.items() if _is_first(name))
    return StaticPage(target, first, sum(map(len, files.values())))


def _is_first(name: str) -> bool:
    at_the_top = "/" not in name and name not in ("README.md", "service_worker.js")
    return at_the_top or name.startswith(_FIRST)


def _service_worker(files: Mapping[str, bytes]) -> bytes:
    """The script that caches the page, with a version that changes whenever a file changes."""
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}:{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    text = files["service_worker.js"].decode()
    kept = sorted(name for name in files if _is_first(name) or name.startswith(_KEPT))
    named = ["./", *(f"./{name}" for name in kept if name != "index.html")]
    for line, value in (
        ("const VERSION = 'development';", f"const VERSION = '{digest.hexdigest()[:16]}';"),
        ("const FILES = [];", f"const FILES = {json.dumps(named)};"),
    ):
        if line not in text:
            raise AssertionError(f"service_worker.js lacks the line {line!r}")
        text = text.replace(line, value)
    return text.encode()


def _plain(title: str) -> str:
    """The title in one line that YAML reads as a text."""
    return " ".join(title.replace(":", " ").replace("#", " ").split()) or "A page"
