"""A disk that is full during a save: the old version stays complete, and our own error says so.

    python -m tests.faults disks                # 200 full disks, 40 for each kind of folder or file
    python -m tests.faults disks --count 5

A child process may write files only up to a limit (RLIMIT_FSIZE), from 0 bytes to about the size of
what it saves. The system refuses the next byte, as a full disk or a quota does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import tempfile
import traceback
import warnings
from pathlib import Path

from stylegan_hub.errors import StorageError
from tests.faults import kills
from tests.faults.kills import Kind

# An edit with a card is two saves; the first may succeed.
KINDS = {name: kind for name, kind in kills.KINDS.items() if name != "edit with a card"}
SAVED, REFUSED, FAULT = range(3)


def save_on_full_disk(kind: Kind, path: Path, limit: int) -> tuple[int, str]:
    """Save version 1 with files of limited size; return the exit status and what was raised."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        end, said = FAULT, ""
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            kind.save(path, 1)
            end = SAVED
        except StorageError as error:
            end, said = REFUSED, str(error)
        except BaseException:
            said = traceback.format_exc()
        finally:
            os.write(write, said.encode()[-4000:])  # a pipe has no such limit
            os._exit(end)
    os.close(write)
    with open(read, "rb") as pipe:
        said = pipe.read().decode(errors="replace")
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), said


def try_limit(kind: Kind, path: Path, limit: int) -> int:
    """Whether the save was refused.

    Raises:
        AssertionError: the files on the disk are wrong, or differ from what was reported.
    """
    kind.save(path, 0)
    end, said = save_on_full_disk(kind, path, limit)
    assert end in (SAVED, REFUSED), said
    assert kind.found(path) == (1 if end == SAVED else 0), "another version than was said"
    assert os.listdir(path.parent) == ["saved"], f"left over: {os.listdir(path.parent)}"
    assert end == SAVED or (str(path) in said and ".partial" not in said), f"said: {said}"
    return int(end == REFUSED)


def size(path: Path) -> int:
    """Size of the largest file in bytes."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return max(file.stat().st_size for file in files)


def run(name: str, count: int) -> dict[str, object]:
    """Save one kind on this many disks, which are full after different numbers of bytes."""
    kind, refused, faults = KINDS[name], 0, []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process has threads and forks
        path = Path(os.path.realpath(folder), "saved")
        kind.save(path, 0)
        most = size(path)
        for index in range(count):
            limit = most * index // count
            try:
                refused += try_limit(kind, path, limit)
            except Exception as error:  # any exception is counted and reported
                faults.append(f"after {limit} bytes: {type(error).__name__}: {error}")
    return {"kind": name, "disks": count, "refused": refused, "faults": faults}


def main(arguments: list[str]) -> int:
    """Save on full disks; return 1 if a fault was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults disks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=40, help="full disks for each kind")
    count = parser.parse_args(arguments).count
    results = []
    for name in KINDS:
        results.append(run(name, count))
        print(json.dumps(results[-1]), flush=True)
    bad = sum(bool(result["faults"]) for result in results)
    print(f"{count * len(KINDS)} full disks; kinds with faults: {bad}")
    return 1 if bad else 0
