"""tf.js, the library by which a browser computes: fetched from npm once, pinned, kept in a cache.

It is not part of this project: its six files are 1.9 MB, and npm has them at a fixed version. Each
file is compared with its sha256 whenever it is read. Its licence is Apache-2.0, as each script says
at its head. Threads are left out: asked for several, version 4.22.0 starts one (tensorflow/tfjs
issue 8513).
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
from stylegan_hub.errors import NotFoundError
from stylegan_hub.ops.kernels import cache_folder

VERSION = "4.22.0"
PACKAGES = {
    "tfjs-core": ("tf-core.es2017.min.js",),
    "tfjs-backend-wasm": (
        "tf-backend-wasm.es2017.min.js",
        "tfjs-backend-wasm.wasm",
        "tfjs-backend-wasm-simd.wasm",
    ),
    "tfjs-backend-webgl": ("tf-backend-webgl.es2017.min.js",),
    "tfjs-backend-webgpu": ("tf-backend-webgpu.es2017.min.js",),
}
"""By npm package (of @tensorflow), the files that are used."""

SHA256 = {
    "tf-core.es2017.min.js":
        "c55367325aa628ed685164d5c4210892e31c6d2d0e8c163a827b15ad330d1eba",
    "tf-backend-wasm.es2017.min.js":
        "bdd8c3c1fb0b37601bc2a122efa20b8d78e2936d104b03a44591be4188c63f65",
    "tfjs-backend-wasm.wasm":
        "70a5d516060464e5269f01c74bac1772d6b8ab6cb612acf16b5cdaf61f78d892",
    "tfjs-backend-wasm-simd.wasm":
        "77ebb28a6d34f371dbbf2086b7f2de8994acd8ea5a3cf1fa24d2c26c840cac7b",
    "tf-backend-webgl.es2017.min.js":
        "083d15b0b29957c27ef44f521932c5e13f8fc25980006504c6942b66a782cbdd",
    "tf-backend-webgpu.es2017.min.js":
        "f4de0036e818d060e49e52208a1273eca67e5d159471af38d3755b7111b42c4e",
}  # fmt: skip
"""By file, what it is compared with."""

_SECONDS = 300


def folder() -> Path:
    """Where the files are kept."""
    return cache_folder() / f"tfjs-{VERSION}"


def library(fetch: bool = True) -> dict[str, bytes]:
    """The files of tf.js by name.

    Args:
        fetch: get those that are not in the cache from npm.

    Raises:
        NotFoundError: a file is not there, or is another one than is expected, and npm does not
            help.
    """
    files: dict[str, bytes] = {}
    for package, names in PACKAGES.items():
        kept = {name: _kept(name) for name in names}
        if None in kept.values() and fetch:
            kept = _fetched(package)
        for name, data in kept.items():
            if data is None:
                raise NotFoundError(
                    f"The browser's library needs {name} of tf.js {VERSION}, and {folder()} does "
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
            f"tf.js {VERSION} is not in {folder()}, and there is no npm to fetch it. Install npm "
            f"(Debian: apt-get install npm), or copy {', '.join(PACKAGES[package])} of the npm "
            f"package @tensorflow/{package} there."
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
                "Try again when the registry can be reached."
            ) from error
        data = archive.read_bytes()
    found: dict[str, bytes | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for name in PACKAGES[package]:
            member = tar.extractfile(f"package/dist/{name}")
            content = b"" if member is None else member.read()
            if not _is_as_pinned(name, content):
                raise NotFoundError(
                    f"npm gave another {name} of @tensorflow/{package}@{VERSION} than this version "
                    "of the library was tested with. Upgrade stylegan_hub."
                )
            folder().mkdir(parents=True, exist_ok=True)
            write_bytes(folder() / name, content)
            found[name] = content
    return found


if __name__ == "__main__":
    print(f"{sum(map(len, library().values())) / 1e6:.1f} MB in {folder()}")
