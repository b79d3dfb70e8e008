"""The page without a server, as a folder: `stylegan-hub space NAME --static`, or any file server.

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
from stylegan_hub.hub.space import make_room
from stylegan_hub.pipeline import StyleEditPipeline

_HERE = Path(__file__).parent
# What the first picture takes, beside the files at the top; with wasm, the largest backend.
_FIRST = (
    "library/", "tfjs/tf-core", "tfjs/tf-backend-wasm", "tfjs/tfjs-backend-wasm-simd",
    "pipeline/layout", "pipeline/generator", "pipeline/self_test",
)  # fmt: skip
# What is kept beside it for when there is no network; other parts are kept once they are used.
_KEPT = ("pipeline/text", "pipeline/instant")
_SPACE = """---
title: {title}
emoji: 🎨
colorFrom: purple
colorTo: gray
sdk: static
app_file: index.html
license: apache-2.0
---

# {title}

A face, words and sliders, computed in the visitor's browser: nothing leaves the device, and no
server is needed. Made with stylegan-hub; tf.js {tfjs} (Apache-2.0, Google LLC) comes along in
`tfjs/`.

Serve the folder with any file server: `python -m http.server -d .`
"""


@dataclass(frozen=True)
class StaticPage:
    """What was written.

    Attributes:
        folder: with `index.html`.
        first: bytes that the first picture takes, with wasm, the largest backend.
        total: bytes of all files.
    """

    folder: Path
    first: int
    total: int


def write_static_page(
    pipe: StyleEditPipeline,
    folder: str | Path,
    *,
    title: str = "Change a face by words",
    edits: Mapping[str, Edit] | None = None,
) -> StaticPage:
    """Write the page without a server, for a static Space or any file server.

    Args:
        folder: new or empty, or one that this wrote, which is replaced.
        title: of the Space.
        edits: by the names under which the page shows them.

    Raises:
        ArtifactError: the folder holds something else; see also `browser.export.export_web`.
        MismatchError: an edit of another generator.
        NotFoundError: tf.js is not in the cache, and npm does not fetch it.
        StorageError: the disk refuses.
    """
    files = {f"tfjs/{name}": data for name, data in tfjs.library().items()}
    files |= {f"library/{path.name}": path.read_bytes() for path in (_HERE / "library").iterdir()}
    files |= {path.name: path.read_bytes() for path in (_HERE / "page").iterdir()}
    pipeline, _ = web_files(pipe, edits or {})
    files |= {f"pipeline/{name}": data for name, data in pipeline.items()}
    files["service_worker.js"] = _service_worker(files)
    card = _SPACE.format(title=_plain(title), tfjs=tfjs.VERSION)
    files["README.md"] = card.encode()
    target = Path(folder)
    make_room(target, "static")
    # The page comes last: a folder without it is none.
    for name in sorted(files, key=lambda name: name == "index.html"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(target / name, files[name])
    first = sum(len(data) for name, data in files.items() if _is_first(name))
    return StaticPage(target, first, sum(map(len, files.values())))


def _is_first(name: str) -> bool:
    at_the_top = "/" not in name and name not in ("README.md", "service_worker.js")
    return at_the_top or name.startswith(_FIRST)


def _service_worker(files: Mapping[str, bytes]) -> bytes:
    """The script that keeps the page, with a version that changes with any of the files."""
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
    """A title in one line that YAML takes for a text."""
    return " ".join(title.replace(":", " ").replace("#", " ").split()) or "A page"
