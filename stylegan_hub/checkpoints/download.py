"""A checkpoint from a path or an https address, with progress; an interrupted one goes on."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from stylegan_hub.errors import ArtifactError, NotFoundError

DOWNLOADS = Path("~/.cache/stylegan-hub/checkpoints")
"""Where downloads are usually kept; ~ is looked up when something is downloaded."""

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Progress = Callable[[int, int | None], None]


def fetch(path_or_url: str | Path, folder: Path, on_progress: Progress | None = None) -> Path:
    """A local file: the path itself, or the download of an https address.

    What was downloaded before is used again. A download has its name only when it is complete and
    as long as the server announced; until then it lies beside it as `.partial` and goes on from
    there, unless the file on the server has changed.

    Args:
        folder: where downloads are kept.
        on_progress: called with the bytes that are there, and those there will be if that is known.

    Raises:
        NotFoundError: no such file, the server cannot be reached or refuses, or the folder begins
            with ~ and this user has no home.
        ArtifactError: no https address, or a download of another length than announced.
    """
    address = str(path_or_url)
    if "://" not in address:
        if not Path(address).is_file():
            raise NotFoundError(
                f"There is no file {address}; expected a checkpoint or an https address."
            )
        return Path(address)
    _check_address(address)
    try:
        folder = folder.expanduser()
    except RuntimeError as error:
        raise NotFoundError(
            f"Downloads are kept in {folder}, and this user has no home folder. Give another "
            "folder, such as --downloads downloads."
        ) from error
    name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path.rsplit("/", 1)[-1]))[-100:]
    digest = hashlib.sha256(address.encode()).hexdigest()[:8]  # two servers, one name
    target = folder / f"{digest}-{name or 'checkpoint'}"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    version = target.with_name(target.name + ".version.partial")
    try:
        _download(address, partial, version, on_progress)
    except HTTPError as error:
        raise NotFoundError(
            f"{address}: the server says {error.code} {error.reason}. Check the address, or "
            "download it in a browser and give the path."
        ) from error
    except (URLError, OSError) as error:
        raise NotFoundError(
            f"{address} could not be downloaded: {error}. What is there is kept in {partial}; "
            "the same command goes on."
        ) from error
    os.replace(partial, target)
    version.unlink(missing_ok=True)
    return target


def print_progress(have: int, total: int | None) -> None:
    """An `on_progress` that keeps one line up to date."""
    whole = f" of {total / 1e6:.0f}" if total else ""
    print(f"\r{have / 1e6:.0f}{whole} MB", end="" if have != total else "\n", flush=True)


def _download(address: str, partial: Path, version: Path, on_progress: Progress | None) -> None:
    have = partial.stat().st_size if partial.is_file() else 0
    known = version.read_text() if version.is_file() else ""
    headers = {"User-Agent": "stylegan-hub"}
    if have and known:
        headers |= {"Range": f"bytes={have}-", "If-Range": known}
    with build_opener(_HttpsOnly).open(
        Request(address, headers=headers), timeout=_TIMEOUT
    ) as reply:
        resumed = reply.status == 206 and (reply.headers.get("Content-Range") or "").startswith(
            f"bytes {have}-"
        )
        have = have if resumed else 0
        length = reply.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        # Only a strong mark of the server's version makes it safe to go on later.
        mark = reply.headers.get("ETag") or reply.headers.get("Last-Modified") or ""
        version.write_text("" if mark.startswith("W/") else mark)
        with open(partial, "ab" if resumed else "wb") as file:
            while chunk := reply.read(_CHUNK):
                file.write(chunk)
                have += len(chunk)
                if on_progress is not None:
                    on_progress(have, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and have != total:
        raise OSError(f"the connection ended after {have} of {total} bytes")


def _check_address(address: str) -> None:
    parts = urlsplit(address)
    # On the machine itself nobody listens in; anywhere else a file could be exchanged on its way.
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ArtifactError(f"Got the address {address}; only https addresses are downloaded.")


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
