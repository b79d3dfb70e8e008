"""Kills during a save: the old or the new version is there afterwards, never a mixture.

    python -m tests.faults kills                # 240 kills, 40 of each kind of folder or file
    python -m tests.faults kills --count 5

A child process saves two versions in turn, again and again, and is killed (SIGKILL) at a random
moment. Afterwards, the folder or file must load and hold one of the two versions completely, and
after the next save, no file of the killed process may be left beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from stylegan_hub.artifacts import BaseModel, write_bytes
from stylegan_hub.edits.base import load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import resolve

BASE = BaseModel(None, "f" * 16, 8, 64, 100, 32)
SLOWEST = 0.2  # seconds until a kill, at most; a save takes a few milliseconds


@dataclass(frozen=True)
class Kind:
    """How to save version 0 or 1 of something, and how to read which one is there."""

    save: Callable[[Path, int], object]
    found: Callable[[Path], int]


def _edit(version: int) -> Direction:
    edit = Direction(torch.full((8, 64), float(version)), "w_plus", BASE)
    edit.origin = type(edit.origin)(prompt=str(version))
    return edit


def _found_edit(path: Path) -> int:
    edit = load_edit(path)
    assert isinstance(edit, Direction) and edit.origin.prompt is not None
    return _agreed(float(edit.vector.min()), float(edit.vector.max()), float(edit.origin.prompt))


def _found_stack(path: Path) -> int:
    applied = EditStack.load(path)[0]
    assert isinstance(applied.edit, Direction)
    return _agreed(float(applied.edit.vector.mean()), applied.strength)


def _generator(version: int) -> StyleGAN2Generator:
    generator = StyleGAN2Generator(
        z_dim=8, w_dim=8, img_resolution=16, channels=[8, 8, 8], num_mapping_layers=1 + version
    )
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.fill_(float(version))
    return generator


def _found_generator(path: Path) -> int:
    generator = StyleGAN2Generator.from_pretrained(resolve(path))
    layers = generator.config.num_mapping_layers - 1
    return _agreed(layers, *(float(p.float().mean()) for p in generator.parameters()))


def _found_latents(path: Path) -> int:
    codes = Latents.load(path).codes
    return _agreed(float(codes.min()), float(codes.max()))


def _agreed(*values: float) -> int:
    """The version to which all parts belong.

    Raises:
        AssertionError: they belong to several versions.
    """
    assert len(set(values)) == 1, f"a mixture of two versions: {sorted(set(values))}"
    return int(values[0])


KINDS: dict[str, Kind] = {
    "edit": Kind(lambda path, version: _edit(version).save_pretrained(path), _found_edit),
    "edit with a card": Kind(
        lambda path, version: (
            _edit(version).save_pretrained(path),
            write_bytes(path / "README.md", b"a card" * 1000),
        ),
        _found_edit,
    ),
    "stack": Kind(
        lambda path, version: EditStack().added(_edit(version), float(version)).save(path),
        _found_stack,
    ),
    "latents": Kind(
        lambda path, version: Latents("w", torch.full((4, 64), float(version))).save(path),
        _found_latents,
    ),
    "generator": Kind(
        lambda path, version: _generator(version).save_pretrained(path, overwrite=True),
        _found_generator,
    ),
    "file": Kind(
        lambda path, version: write_bytes(path, str(version).encode() * 100_000),
        lambda path: _agreed(*(float(digit) for digit in set(path.read_text()))),
    ),
}


def kill_while_saving(kind: Kind, path: Path, seconds: float) -> int:
    """Kill a saving process after this many seconds; return the version that is found."""
    kind.save(path, 0)
    pid = os.fork()
    if pid == 0:
        try:
            while True:
                kind.save(path, 1)
                kind.save(path, 0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the process that saves ended by itself"
    return kind.found(path)


def run(name: str, count: int, seed: int = 0) -> dict[str, object]:
    """Kill this many times during saves of one kind."""
    rng = random.Random(f"{name} {seed}")
    versions, faults = [0, 0], []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the process has threads and forks
        path = Path(folder, "saved")
        for _ in range(count):
            seconds = rng.uniform(0, SLOWEST)
            try:
                versions[kill_while_saving(KINDS[name], path, seconds)] += 1
                KINDS[name].save(path, 1)
                assert KINDS[name].found(path) == 1, "the next save was not done"
                assert os.listdir(folder) == ["saved"], f"left over: {os.listdir(folder)}"
            except Exception as error:  # any exception is counted and reported
                faults.append(f"after {seconds:.4f} s: {type(error).__name__}: {error}")
    return {"kind": name, "kills": count, "old": versions[0], "new": versions[1], "faults": faults}


def main(arguments: list[str]) -> int:
    """Kill; return 1 if a kill left anything but the old or the new version."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults kills",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=40, help="kills of each kind")
    count = parser.parse_args(arguments).count
    results = [run(name, count) for name in KINDS]
    for result in results:
        print(json.dumps(result), flush=True)
    bad = sum(bool(result["faults"]) for result in results)
    print(f"{count * len(KINDS)} kills; kinds with faults: {bad}")
    return 1 if bad else 0
