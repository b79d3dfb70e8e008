"""A Hub that fails: each request of each operation fails once, in each way.

    python -m tests.faults hub                  # 430 faults, minutes
    python -m tests.faults hub --way 500        # one way to fail

A Hub on this machine answers the first, second, ... request of an operation with a fault, and all
others correctly. The operation must then give its result or raise our own error; after a single
429, 500, 503 or lost connection, it must give its result. What is published must be complete or
absent, as reported. Without the fault, the same operation must succeed afterwards.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from fastapi.responses import JSONResponse, Response

from stylegan_hub import hub
from stylegan_hub.artifacts import BaseModel
from stylegan_hub.edits.base import Origin, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import StyleganHubError
from tests.hub_server import HubServer, Repository, broken

BASE = BaseModel(None, "f" * 16, 8, 64, 100, 32)
ME = "token-of-me"
NAME = "me/edit"


def _json(status: int, **headers: str) -> Callable[[], Response]:
    return lambda: JSONResponse({"error": "a fault"}, status, headers)


WAYS: dict[str, Callable[[], Response]] = {
    **{str(status): _json(status) for status in (401, 403, 404, 409, 500, 503)},
    "429": _json(429, **{"Retry-After": "2"}),
    "lost": lambda: broken(b"", 10),
    "html": lambda: Response("<html>One moment</html>", 200, media_type="text/html"),
    "odd json": lambda: JSONResponse({"id": 7, "siblings": "none"}),
}
PASSING = {"429", "500", "503", "lost"}
"""Temporary faults: the second attempt succeeds."""


@dataclass(frozen=True)
class Operation:
    """An operation that sends requests to the Hub.

    Attributes:
        carry_out: takes the folder of an edit, and one for downloads.
        is_done: whether its result is correct.
        repository: whether the repository exists before it.
    """

    carry_out: Callable[[Path, Path], object]
    is_done: Callable[[object], bool]
    repository: bool = True


def _publish(folder: Path, cache: Path) -> str:
    return hub.publish(folder, NAME, token=ME)


OPERATIONS = {
    "list": Operation(
        lambda folder, cache: hub.list_edits(author="me"),
        lambda found: [info.name for info in found] == [NAME],  # type: ignore[attr-defined]
    ),
    "info": Operation(
        lambda folder, cache: hub.edit_info(NAME),
        lambda found: found.parameters == 8 * 64,  # type: ignore[attr-defined]
    ),
    "load": Operation(
        lambda folder, cache: load_edit(NAME, cache_dir=cache),
        lambda found: found.origin.prompt == "old",  # type: ignore[attr-defined]
    ),
    "publish": Operation(_publish, lambda found: "/commit/" in str(found)),
    "publish anew": Operation(_publish, lambda found: "/commit/" in str(found), repository=False),
}


@contextmanager
def only_hub() -> Iterator[HubServer]:
    """A Hub on this machine, and a client without another Hub, a login or waiting times."""
    import huggingface_hub
    from huggingface_hub import constants

    with HubServer() as server, tempfile.TemporaryDirectory() as scratch:
        values = {
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_OFFLINE": False,
            "ENDPOINT": server.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": server.endpoint
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": f"{scratch}/cache",
            "HF_TOKEN_PATH": f"{scratch}/no-token",
        }
        environment = {"STYLEGAN_HUB_CARDS": scratch, "HF_TOKEN": ""}
        with (
            mock.patch.multiple(constants, **values),
            mock.patch.dict("os.environ", environment),
            mock.patch.object(time, "sleep", lambda _: None),
        ):
            yield server
        huggingface_hub.close_session()


def _folder(folder: Path, prompt: str) -> Path:
    edit = Direction(torch.full((8, 64), float(len(prompt))), "w_plus", BASE, origin=Origin(prompt))
    edit.save_pretrained(folder)
    hub.write_card(folder)
    return folder


def _content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def try_fault(
    server: HubServer, operation: Operation, number: int, way: str, scratch: Path
) -> tuple[bool, str | None]:
    """Let request `number` of an operation fail.

    Returns:
        Whether the operation had that many requests, and a description of any fault.
    """
    old, new = _folder(scratch / "old", "old"), _folder(scratch / "new", "newer")
    server.reset()
    before: dict[str, bytes] = {}
    if operation.repository:
        before = server.create(NAME, _content(old)).files
    cache = Path(tempfile.mkdtemp(dir=scratch))
    server.faults = [None] * number + [WAYS[way]()]
    error = result = None
    try:
        result = operation.carry_out(new, cache)
    except StyleganHubError as raised:
        error = raised
    except Exception as raised:
        return True, f"{type(raised).__name__}: {raised}"
    reached = not server.faults
    server.faults = []
    if error is None and not operation.is_done(result) and not getattr(result, "problems", ()):
        return reached, f"another result, and no word of it: {result}"
    if reached and way in PASSING and (error or not operation.is_done(result)):
        return reached, f"a single fault was not passed over: {error or result}"
    if wrong := _half(server.repositories.get(NAME), before, _content(new), error):
        return reached, wrong
    again = operation.carry_out(new, cache)
    if not operation.is_done(again):
        return reached, f"the second time: {again}"
    return reached, None


def _half(
    repository: Repository | None,
    before: dict[str, bytes],
    new: dict[str, bytes],
    error: StyleganHubError | None,
) -> str | None:
    """What is wrong with the published files, given what was reported."""
    files = repository.files if repository else {}
    is_new = new.items() <= files.items()
    if not isinstance(error, hub.PublishError):
        return None if is_new or files == before else f"half of it lies there: {[*files]}"
    if "is unknown" not in str(error) and files != before:
        return f"was changed, or made: {[*files]}; but: {error}"
    return None


def run(name: str, ways: list[str]) -> dict[str, object]:
    """Let every request of one operation fail once in each of these ways."""
    faults, tried = [], 0
    with only_hub() as server, tempfile.TemporaryDirectory() as scratch:
        for way in ways:
            number, reached = 0, True
            while reached:
                reached, wrong = try_fault(server, OPERATIONS[name], number, way, Path(scratch))
                tried += reached
                if wrong:
                    faults.append(f"{way} for request {number}: {wrong}")
                number += 1
    return {"operation": name, "tried": tried, "faults": faults}


def main(arguments: list[str]) -> int:
    """Let the Hub fail; return 1 if a fault was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--way", choices=WAYS, action="append", help="all when left out")
    parser.add_argument("--operation", choices=OPERATIONS, action="append", help="the same")
    options = parser.parse_args(arguments)
    results = []
    for name in options.operation or OPERATIONS:
        results.append(run(name, options.way or [*WAYS]))
        print(json.dumps(results[-1]), flush=True)
    bad = sum(bool(result["faults"]) for result in results)
    print(f"{sum(int(str(r['tried'])) for r in results)} faults of the Hub; operations hurt: {bad}")
    return 1 if bad else 0
