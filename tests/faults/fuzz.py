"""Coverage-guided fuzzing of every reader of untrusted input: files, cards, names.

    python -m tests.faults fuzz                          # 1.1 million executions, half an hour
    python -m tests.faults fuzz --executions 2000        # a quick run
    python -m tests.faults fuzz --target npy             # one reader

Each reader gets bytes that atheris (libFuzzer) makes from real files, guided by the lines of the
library that they reach. It may return anything or raise one of the library's own errors. Another
exception, more than five seconds, more than 2 GB or a file written outside of its folder is a
fault: its input is kept and its path is printed. Inputs that reached new lines are kept in the
corpus folder, where the next run continues.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
CORPUS = Path(__file__).parent / "corpus"
SHORT, LONG = 200_000, 50_000  # executions of a fast and of a slow reader; 1.1 million in all
SECONDS, MEGABYTES, LONGEST = 5, 2048, 4096


@dataclass(frozen=True)
class Target:
    """A reader: its kind of input, and inputs to start from."""

    read: Callable[[bytes, Path], object]
    seeds: Callable[[], Iterator[bytes]]
    executions: int


def _file(suffix: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """A reader of files, as a reader of bytes."""

    def from_bytes(data: bytes, folder: Path) -> object:
        path = folder / f"input{suffix}"
        path.write_bytes(data)
        return read(path)

    return from_bytes


def _configs() -> Iterator[bytes]:
    for path in sorted((ROOT / "cards").glob("*/config.json"))[:12]:
        yield path.read_bytes()
    base = {"id": None, "fingerprint": "f", "num_ws": 2, "w_dim": 3, "num_styles": 9}
    part = {"kind": "direction", "format_version": 1, "space": "w_plus"}
    part |= {"base_model": {**base, "resolution": 8}}
    parts = [{"strength": 1, "config": part}]
    yield json.dumps({**part, "kind": "combined", "parts": parts}).encode()


def _config(data: bytes, folder: Path) -> object:
    import torch

    from stylegan_hub.artifacts import config_from
    from stylegan_hub.edits.base import edit_from_parts

    config = config_from(data, "config.json")
    config.pop("tensors_sha256", None)
    tensors = {name: torch.zeros(2, 3) for name in ("vector", "0.vector", "coarse.0.weight")}
    return edit_from_parts(config, tensors, "config.json")


def _small_tensors() -> Iterator[bytes]:
    import torch
    from safetensors.torch import save

    yield save({"vector": torch.ones(2, 3)}, {"kind": "direction", "format_version": "1"})
    yield save({"a": torch.ones(1, dtype=torch.float16), "b": torch.zeros(0)})
    yield save({"x": torch.arange(3)}, {"stack": '{"edits": []}'})


def _tensors(path: Path) -> object:
    from stylegan_hub.artifacts import read_tensors

    return read_tensors(path)


def _checkpoint(path: Path) -> object:
    from stylegan_hub.checkpoints.files import arrays_in, read_checkpoint

    return [(name, array.shape) for name, array in arrays_in(read_checkpoint(path))]


def _arrays() -> Iterator[bytes]:
    for array in (np.ones((2, 3), np.float32), np.arange(4), np.asfortranarray(np.eye(3))):
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()
    file = io.BytesIO()
    np.savez(file, a=np.ones(2), b=np.zeros((1, 1)))
    yield file.getvalue()


def _pickles() -> Iterator[bytes]:
    content = {"latent_avg": np.ones(2, np.float32), "opts": {"size": 8, "names": ["a", "b"]}}
    for protocol in range(6):
        yield pickle.dumps(content, protocol)
    yield pickle.dumps([1.5, "a", None, (2, b"c"), {3}], 2)


def _torch_files() -> Iterator[bytes]:
    import torch

    for new in (True, False):
        file = io.BytesIO()
        content = {"g_ema": {"weight": torch.ones(2, 3), "bias": torch.zeros(2).half()}}
        torch.save(content, file, _use_new_zipfile_serialization=new)
        yield file.getvalue()


def _stacks() -> Iterator[bytes]:
    import torch

    from stylegan_hub.artifacts import BaseModel
    from stylegan_hub.edits.direction import Direction
    from stylegan_hub.edits.stack import EditStack
    from stylegan_hub.latents import Latents

    base = BaseModel(None, "f" * 16, 2, 3, 10, 8)
    edit = Direction(torch.ones(2, 3), "w_plus", base)
    stacks = [EditStack().added(edit), EditStack().added(edit, 0.5, "hair", "a name")]
    stacks.append(EditStack(start=Latents("w_plus", torch.zeros(1, 2, 3))))
    with tempfile.TemporaryDirectory() as folder:
        for index, stack in enumerate(stacks):
            path = Path(folder, f"{index}.safetensors")
            stack.save(path)
            yield path.read_bytes()


def _stack(path: Path) -> object:
    from stylegan_hub.edits.stack import EditStack

    return EditStack.load(path)


def _cards() -> Iterator[bytes]:
    for path in sorted((ROOT / "cards").glob("*/README.md"))[:6]:
        yield path.read_bytes()[:1500]


def _card(path: Path) -> object:
    from stylegan_hub.hub.cards import card_metadata

    return card_metadata(path)


def _metrics(data: bytes, folder: Path) -> object:
    """A gallery's row and a card, made from a folder with these numbers."""
    from stylegan_hub.hub import edit_info, write_card

    target = folder / "edit"
    if not target.exists():
        source = next(iter(sorted((ROOT / "cards").glob("*/metrics.json")))).parent
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("images"))
    (target / "metrics.json").write_bytes(data)
    return edit_info(str(target)), write_card(target)


def _all_metrics() -> Iterator[bytes]:
    for path in sorted((ROOT / "cards").glob("*/metrics.json"))[:6]:
        yield path.read_bytes()


def _name(data: bytes, folder: Path) -> object:
    from stylegan_hub.names import resolve

    return resolve(os.fsdecode(data), "edit", local_files_only=True)


def _names() -> Iterator[bytes]:
    yield from (b"afro-hair", b"user/repo@v1", b"../x", b"https://huggingface.co/me/afro", b"~")


TARGETS: dict[str, Target] = {
    "config": Target(_config, _configs, SHORT),
    "tensors": Target(_file(".safetensors", _tensors), _small_tensors, SHORT),
    "npy": Target(_file(".npy", _checkpoint), _arrays, SHORT),
    "pickle": Target(_file(".pkl", _checkpoint), _pickles, SHORT),
    "torch": Target(_file(".pt", _checkpoint), _torch_files, SHORT),
    "stack": Target(_file(".safetensors", _stack), _stacks, LONG),
    "card": Target(_file(".md", _card), _cards, LONG // 2),
    "metrics": Target(_metrics, _all_metrics, LONG // 10),
    "name": Target(_name, _names, LONG // 2),
}


def fuzz(name: str, executions: int, folder: Path) -> None:
    """Fuzz one reader in this process, which ends with the run; faults are left in `folder`."""
    import resource
    import warnings

    import atheris

    warnings.simplefilter("ignore")
    with atheris.instrument_imports(
        include=["stylegan_hub.artifacts", "stylegan_hub.bounds", "stylegan_hub.checkpoints",
                 "stylegan_hub.edits", "stylegan_hub.hub", "stylegan_hub.names"],
    ):  # fmt: skip
        from stylegan_hub.errors import StyleganHubError

        target = TARGETS[name]
        seeds, corpus = folder / "seeds", CORPUS / name
        work = folder / "work"
        for made in (seeds, corpus, work):
            made.mkdir(parents=True, exist_ok=True)
        for index, seed in enumerate(target.seeds()):
            (seeds / f"{index}").write_bytes(seed)
            try:
                target.read(seed, work)  # imports what the reader needs, under instrumentation
            except StyleganHubError:
                pass

    def one(data: bytes) -> None:
        try:
            target.read(data, work)
        except StyleganHubError:
            pass

    # Linux counts the peak memory of the parent process as this one's.
    had = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    most = max(MEGABYTES, had + MEGABYTES // 2)
    options = [f"-runs={executions}", f"-timeout={SECONDS}", f"-rss_limit_mb={most}"]
    options += [f"-max_len={LONGEST}", f"-artifact_prefix={folder}/fault-", "-verbosity=1"]
    atheris.Setup([sys.argv[0], str(corpus), str(seeds), *options], one)
    atheris.Fuzz()


def run(name: str, executions: int) -> dict[str, object]:
    """Fuzz one reader in its own process; return what was found."""
    folder = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    home, temporary = folder / "home", folder / "tmp"
    for made in (home, temporary):
        made.mkdir()
    before = _listing(ROOT)
    command = [sys.executable, "-m", "tests.faults", "fuzz", "--here", str(folder)]
    ran = subprocess.run(
        [*command, "--target", name, "--executions", str(executions)],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home), "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        errors="replace",
    )
    faults = sorted(str(path) for path in folder.glob("fault-*"))
    own = {str(folder / made) for made in ("home", "tmp", "seeds", "work")}
    outside = _listing(folder) - own - set(faults) | _listing(home) | (_listing(ROOT) - before)
    lines = (ran.stderr + ran.stdout).splitlines()
    counts = [found[1] for line in lines if (found := re.match(r"#(\d+)\s", line))]
    result: dict[str, object] = {
        "target": name,
        "executions": int(counts[-1]) if counts else 0,
        "faults": faults,
        "written_outside": sorted(outside),
    }
    if faults or ran.returncode or outside:
        said = [line for line in lines if not line.startswith(("#", "INFO", "WARNING"))]
        result["said"] = "\n".join(said[-30:])
    return result


def _listing(folder: Path) -> set[str]:
    """The files in a folder, except caches of Python and matplotlib."""
    return {str(path) for path in folder.iterdir() if not path.name.startswith(".")}


def main(arguments: list[str]) -> int:
    """Fuzz the readers that the options name; return 1 if a fault was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--target", choices=TARGETS, action="append", help="all when left out")
    parser.add_argument("--executions", type=int, help="of each reader")
    parser.add_argument("--here", type=Path, help=argparse.SUPPRESS)  # the process of one run
    options = parser.parse_args(arguments)
    names = options.target or list(TARGETS)
    if options.here is not None:
        fuzz(names[0], options.executions, options.here)
        return 0
    results = []
    for name in names:
        result = run(name, options.executions or TARGETS[name].executions)
        print(json.dumps({k: v for k, v in result.items() if k != "said"}), flush=True)
        if "said" in result:
            print(result["said"], file=sys.stderr, flush=True)
        results.append(result)
    total = sum(int(str(result["executions"])) for result in results)
    bad = [result["target"] for result in results if "said" in result]
    print(f"{total:,} executions; faults in: {', '.join(map(str, bad)) or 'none'}")
    return 1 if bad else 0
