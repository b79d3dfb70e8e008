"""tf.js, the library that computes in the browser: fetched once from npm, pinned, and cached.

It is not part of this project: its seven files have 2.3 MB, and npm has them at a fixed version.
Each file is compared with its sha256 whenever it is read. Its license is Apache-2.0, as stated at
the top of each script.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from stylegan_hub.artifacts import write_bytes
from stylegan_hub.cache import cache_folder
from stylegan_hub.errors import NotFoundError

VERSION = "4.22.0"
PACKAGES = {
    "tfjs-core": ("tf-core.es2017.min.js",),
    "tfjs-backend-wasm": (
        "tf-backend-wasm.es2017.min.js",
        "tfjs-backend-wasm.wasm",
        "tfjs-backend-wasm-simd.wasm",
        "tfjs-backend-wasm-threaded-simd.wasm",
    ),
    "tfjs-backend-webgl": ("tf-backend-webgl.es2017.min.js",),
    "tfjs-backend-webgpu": ("tf-backend-webgpu.es2017.min.js",),
}
"""The files that are used, by npm package (of @tensorflow)."""

SHA256 = {
    "tf-core.es2017.min.js":
        "c55367325aa628ed685164d5c4210892e31c6d2d0e8c163a827b15ad330d1eba",
    "tf-backend-wasm.es2017.min.js":
        "bdd8c3c1fb0b37601bc2a122efa20b8d78e2936d104b03a44591be4188c63f65",
    "tfjs-backend-wasm.wasm":
        "70a5d516060464e5269f01c74bac1772d6b8ab6cb612acf16b5cdaf61f78d892",
    "tfjs-backend-wasm-simd.wasm":
        "77ebb28a6d34f371dbbf2086b7f2de8994acd8ea5a3cf1fa24d2c26c840cac7b",
    "tfjs-backend-wasm-threaded-simd.wasm":
        "c052228d4bef185c27bbe59a9e029570c78bbb9f08b3cb46b597851650373de2",
    "tf-backend-webgl.es2017.min.js":
        "083d15b0b29957c27ef44f521932c5e13f8fc25980006504c6942b66a782cbdd",
    "tf-backend-webgpu.es2017.min.js":
        "f4de0036e818d060e49e52208a1273eca67e5d159471af38d3755b7111b42c4e",
}  # fmt: skip
"""The expected sha256 of each file."""

_SECONDS = 300


def folder() -> Path:
    """The folder where the files are cached."""
    return cache_folder() / f"tfjs-{VERSION}"


def library(fetch: bool = True) -> dict[str, bytes]:
    """The files of tf.js by name.

    Args:
        fetch: get files that are not in the cache from npm.

    Raises:
        NotFoundError: a file is missing or not the expected one, and npm cannot fetch it.
    """
    files: dict[str, bytes] = {}
    for package, names in PACKAGES.items():
        kept = {name: _kept(name) for name in names}
        if None in kept.values() and fetch:
            kept = _fetched(package)
        for name, data in kept.items():
            if data is None:
                raise NotFoundError(
                    f"The browser library needs {name} of tf.js {VERSION}, but {folder()} does "
                    "not have it. Fetch it once with `python -m stylegan_hub.browser.tfjs`, which "
                    "needs npm."
                )
            files[name] = data
    return files


def _is_as_pinned(name: str, data: bytes) -> bool:
    return hashlib.sha256(data).hexdigest() == SHA256[name]


def _kept(name: str) -> bytes | None:
    path = folder() / name
    data = path.read_bytes() if path.is_file() else b""
    return data if _is_as_pinned(name, data) else None


def _fetched(package: str) -> dict[str, bytes | None]:
    npm = shutil.which("npm")
    if npm is None:
        raise NotFoundError(
            f"tf.js {VERSION} is not in {folder()}, and npm is not installed to fetch it. Install "
            f"npm (Debian: apt-get install npm), or copy {', '.join(PACKAGES[package])} from the "
            f"npm package @tensorflow/{package} to that folder."
        )
    with tempfile.TemporaryDirectory() as place:
        command = [npm, "pack", f"@tensorflow/{package}@{VERSION}", "--pack-destination", place]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
            (archive,) = Path(place).glob("*.tgz")
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            said = getattr(error, "stderr", "") or error
            raise NotFoundError(
                f"npm could not fetch @tensorflow/{package}@{VERSION}: {str(said).strip()[-300:]} "
                "Try again when npm can reach its server."
            ) from error
        data = archive.read_bytes()
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for name in PACKAGES[package]:
            member = tar.extractfile(f"package/dist/{name}")
            content = b"" if member is None else member.read()
            if not _is_as_pinned(name, content):
                raise NotFoundError(
                    f"npm returned a {name} of @tensorflow/{package}@{VERSION} that differs from "
                    "the tested one. Upgrade stylegan_hub."
                )
            folder().mkdir(parents=True, exist_ok=True)
            write_bytes(folder() / name, content)
            found[name] = content
    return found


if __name__ == "__main__":
    print(f"{sum(map(len, library().values())) / 1e6:.1f} MB in {folder()}")
