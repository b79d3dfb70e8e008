"""Get a checkpoint from a path or an https address, with progress and resumable downloads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from stylegan_hub.errors import ArtifactError, NotFoundError

DOWNLOADS = Path("~/.cache/stylegan_hub/checkpoints")
"""Default folder for downloads; ~ is expanded when something is downloaded."""

_CHUNK = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_NOTHING_MORE = 416  # "Range Not Satisfiable"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}

Progress = Callable[[int, int | None], None]


def fetch(path_or_url: str | Path, folder: Path, on_progress: Progress | None = None) -> Path:
    """A local file: the path itself, or the download of an https address.

    An earlier download is used again. A download gets its final name only when it is complete and
    as long as the server announced. Until then it is stored as `.partial`, and the next call
    resumes it, unless the file on the server has changed.

    Args:
        folder: where downloads are kept.
        on_progress: called with the bytes received so far, and with the total if it is known.

    Raises:
        NotFoundError: there is no such file, the server cannot be reached or refuses, or the folder
            begins with ~ and this user has no home folder.
        ArtifactError: the address is not https, or the download has another length than announced.
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
            f"Downloads go to {folder}, but this user has no home folder. Give another "
            "folder, such as --downloads downloads."
        ) from error
    name = re.sub(r"[^\w.-]", "_", unquote(urlsplit(address).path.rsplit("/", 1)[-1]))[-100:]
    digest = hashlib.sha256(address.encode()).hexdigest()[:8]  # two servers may use one file name
    target = folder / f"{digest}-{name or 'checkpoint'}"
    if target.is_file():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    version = target.with_name(target.name + ".version.partial")
    try:
        _download(address, partial, version, on_progress)
    except HTTPError as error:
        if error.code == _NOTHING_MORE and partial.is_file():  # the part is as long as the file
            partial.unlink()
            return fetch(path_or_url, folder, on_progress)
        raise NotFoundError(
            f"{address}: the server says {error.code} {error.reason}. Check the address, or "
            "download it in a browser and give the path."
        ) from error
    except (URLError, OSError, HTTPException, ValueError) as error:
        raise NotFoundError(
            f"{address} could not be downloaded: {error}. The part received so far is kept in "
            f"{partial}. Repeat the command to continue."
        ) from error
    os.replace(partial, target)
    version.unlink(missing_ok=True)
    return target


def print_progress(have: int, total: int | None) -> None:
    """An `on_progress` that updates one line of output."""
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
        # Resuming later is safe only with a strong validator of the server's version.
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
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ArtifactError(f"Got the address {address}, which is none: {error}.") from error
    # Plain http is safe only on this machine; anywhere else a file could be replaced on its way.
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ArtifactError(f"Got the address {address}; give one that starts with https://.")


class _HttpsOnly(HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
