"""Process a million seeds or photographs on several processes and machines, each exactly once.

The work can be resumed. It is split into shards, which depend only on the job and their number. A
shard is computed in a temporary folder and renamed in one step, so it exists as a whole or not at
all, whatever is killed. An existing shard is never computed again, and if two processes compute the
same shard, the second result is dropped.

    OUTPUT/job.json                 the job; a different job cannot continue in this folder
    OUTPUT/photos.txt               the photographs, in their order
    OUTPUT/shards/000012/           pictures and latents, and manifest.jsonl: a line for each item
    OUTPUT/manifest.jsonl           all lines, once all shards exist

`run_shard` is a plain function, so that any engine can map it over the numbers of the shards:
processes started by accelerate or torchrun (`run`), Ray (`run_on_ray`), or another engine.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import parse_json
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.names import public_name
from stylegan_hub.photos.folder import How, edit_photo
from stylegan_hub.photos.invert import Refinement
from stylegan_hub.photos.photo import list_photos
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.storage import write_bytes

JOB = "job.json"
PHOTOS = "photos.txt"
MANIFEST = "manifest.jsonl"
_SHARDS = "shards"
_BATCH = 8  # pictures at once


@dataclass(frozen=True)
class Job:
    """What to do with every seed or photograph.

    Attributes:
        pipeline: bundled name, folder or Hub id.
        seeds: the first seed and the one after the last; None for photographs.
        photos: folder of photographs, with its subfolders; None for seeds.
        edits: saved edits by name, with strengths; None for an edit's default.
        truncation_psi: truncation for seeds.
        refine: for photographs, steps of the search near the encoder's latent.
        max_resolution: for seeds, longer side of the pictures; None for full size.
        shard_size: seeds or photographs per shard.
        dtype: float32 or bfloat16.

    Raises:
        ValueError: seeds and photographs are both given or both missing, or numbers are out of
            range.
    """

    pipeline: str = "portraits"
    seeds: tuple[int, int] | None = None
    photos: str | None = None
    edits: tuple[tuple[str, float | None], ...] = ()
    truncation_psi: float = 0.7
    refine: int = 0
    max_resolution: int | None = None
    shard_size: int = 256
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if (self.seeds is None) == (self.photos is None):
            raise ValueError("Give either seeds or a folder of photos.")
        if self.seeds is not None and not 0 <= self.seeds[0] < self.seeds[1] <= 2**63:
            raise ValueError(
                f"Got the seeds {self.seeds}; expected the first one and the one after the last."
            )
        if self.shard_size < 1:
            raise ValueError(f"Got shard_size={self.shard_size}; expected at least 1.")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"Got dtype {self.dtype!r}; expected float32 or bfloat16.")


@dataclass(frozen=True)
class Progress:
    """The progress of a job.

    Attributes:
        shards: number of shards.
        done: number of complete shards.
        failed: number of items that failed, known once all shards are complete.
    """

    shards: int
    done: int
    failed: int = 0


def begin(job: Job, output: str | Path) -> int:
    """Write the job into the output folder, or check that it is the same as before.

    Returns:
        The number of shards.

    Raises:
        NotFoundError: there is no such folder of photographs, or no picture in it.
        ArtifactError: the output belongs to another job, or its job.json is damaged.
        StorageError: the disk refuses.
    """
    output = Path(output)
    path = output / JOB
    described = _public(job)
    if path.is_file():
        before = _described_job(path)
        if before != described:
            changed = sorted(
                key for key in before | described if before.get(key) != described.get(key)
            )
            raise ArtifactError(
                f"{output} belongs to another job: {', '.join(changed)} differ.",
                got={key: described.get(key) for key in changed},
                expected={key: before.get(key) for key in changed},
                remedy="Use the same options again, or another folder.",
            )
    else:
        if job.photos is not None:
            found = list_photos(job.photos, True).photos
            names = [one.relative_to(job.photos).as_posix() for one in found]
            write_bytes(output / PHOTOS, b"".join(os.fsencode(f"{name}\n") for name in names))
        write_bytes(path, (json.dumps(described, indent=2) + "\n").encode())
    return -(-_count(job, output) // job.shard_size)


def run_shard(job: Job, output: str | Path, index: int, device: str = "auto") -> bool:
    """Compute a shard unless it exists, from any process or machine with access to the output.

    Returns:
        Whether it was computed here.

    Raises:
        StorageError, OSError: the disk refuses.
    """
    place = _place(output, index)
    if place.is_dir():
        return False
    place.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    try:
        lines = list(_computed(job, Path(output), index, working, device))
        # In ASCII, because a file name may hold what Unicode counts as a line break, or bytes.
        text = "".join(json.dumps(line) + "\n" for line in lines)
        write_bytes(working / MANIFEST, text.encode())
        working.chmod(place.parent.stat().st_mode & 0o777)  # mkdtemp makes it private
        try:
            os.rename(working, place)
        except OSError:
            if not place.is_dir():  # otherwise another process was faster
                raise
            return False
        return True
    finally:
        shutil.rmtree(working, ignore_errors=True)


def run(
    job: Job,
    output: str | Path,
    *,
    device: str = "auto",
    process: int = 0,
    processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> None:
    """Compute the shards of one of several processes; each process calls it with its number.

    Args:
        on_shard: called with how many of this process's shards are done, and how many it has.
    """
    mine = range(process, begin(job, output), processes)
    for done, index in enumerate(mine):
        if on_shard is not None:
            on_shard(done, len(mine))
        run_shard(job, output, index, device)


def run_on_ray(job: Job, output: str | Path, *, device: str = "auto", **actor: Any) -> None:
    """Compute all shards with Ray Data, on the cluster that `ray.init` connected to.

    Args:
        output: a folder that all machines can access.
        actor: arguments for `ray.data.Dataset.map`: concurrency=8, num_gpus=1.

    Raises:
        NotFoundError: ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise NotFoundError(
            "Ray is not installed.",
            got="no module ray",
            expected="the extra ray",
            remedy='pip install "stylegan-hub[ray]"',
        ) from error
    count = begin(job, output)

    def mapped(row: dict[str, Any]) -> dict[str, Any]:
        return {"shard": row["id"], "computed": run_shard(job, output, int(row["id"]), device)}

    ray.data.range(count, override_num_blocks=count).map(mapped, **actor).materialize()


def finish(job: Job, output: str | Path) -> Progress:
    """The progress of the job; once all shards exist, the manifest of all is written.

    Raises:
        StorageError: the disk refuses.
    """
    output, count = Path(output), begin(job, output)
    there = [index for index in range(count) if _place(output, index).is_dir()]
    if len(there) < count:
        return Progress(count, len(there))
    for left in (output / _SHARDS).glob(".*"):  # left by processes that were killed
        shutil.rmtree(left, ignore_errors=True)
    lines: list[str] = []
    for index in there:
        text = (_place(output, index) / MANIFEST).read_text(encoding="utf-8")
        lines += text.split("\n")[:-1]
    write_bytes(output / MANIFEST, "".join(line + "\n" for line in lines).encode())
    failed = sum("error" in json.loads(line) for line in lines)
    return Progress(count, count, failed)


def _place(output: str | Path, index: int) -> Path:
    return Path(output) / _SHARDS / f"{index:06}"


def _count(job: Job, output: Path) -> int:
    if job.seeds is not None:
        return job.seeds[1] - job.seeds[0]
    return len(_photos(output))


def _photos(output: Path) -> list[str]:
    return os.fsdecode((output / PHOTOS).read_bytes()).split("\n")[:-1]


def _public(job: Job) -> dict[str, Any]:
    """The job as its file holds it.

    The output may be shared, so folders have only their own names, and a digest of their paths
    tells those of the same name apart.
    """
    named = replace(
        job,
        pipeline=public_name(job.pipeline),
        photos=job.photos and public_name(Path(job.photos)),
        edits=tuple((public_name(name), strength) for name, strength in job.edits),
    )
    places = repr((job.pipeline, job.photos, [name for name, _ in job.edits])).encode()
    described = {key: _plain(value) for key, value in asdict(named).items()}
    return described | {"places": hashlib.sha256(places).hexdigest()[:16]}


def _described_job(path: Path) -> dict[str, Any]:
    try:
        if isinstance(job := parse_json(path.read_bytes()), dict):
            return job
        raise ValueError(f"it holds a {type(job).__name__}")
    except ValueError as error:
        raise ArtifactError(
            f"{path} is damaged: {error}.",
            remedy="Use another folder, or remove that file to start the job again.",
        ) from error


def _computed(
    job: Job, output: Path, index: int, folder: Path, device: str
) -> Iterator[dict[str, Any]]:
    """Compute the items of a shard, and yield the lines of its manifest."""
    pipe = _pipeline(job.pipeline, device, job.dtype)
    edits = [(edit, edit.strength.default if s is None else s) for edit, s in _edits(job.edits)]
    first = index * job.shard_size
    if job.seeds is not None:
        start, end = job.seeds
        seeds = range(start + first, min(start + first + job.shard_size, end))
        yield from _rendered(job, pipe, edits, seeds, folder, index)
        return
    names = _photos(output)[first : first + job.shard_size]
    refinement = Refinement(steps=job.refine) if job.refine else None
    how = How(pipe, edits, refinement, None, None, "changed", False, False, 1.0, True)
    assert job.photos is not None
    for name in names:
        try:
            done = edit_photo(how, Path(job.photos, name), folder, name)
        except (ValueError, OSError, ImportError) as error:
            yield {"item": name, "error": str(error).replace(str(Path(job.photos, name)), name)}
            continue
        files = [done.kept] if done.edited is None else [done.kept, done.edited]
        yield {"item": name} | _described(files, folder, index)


def _rendered(
    job: Job,
    pipe: StyleEditPipeline,
    edits: list[tuple[Edit, float]],
    seeds: range,
    folder: Path,
    index: int,
) -> Iterator[dict[str, Any]]:
    for start in range(0, len(seeds), _BATCH):
        batch = seeds[start : start + _BATCH]
        drawn = pipe(
            batch,
            edits=edits,
            truncation_psi=job.truncation_psi,
            max_resolution=job.max_resolution,
        )
        for seed, picture in zip(batch, drawn.images, strict=True):
            path = folder / f"{seed}.png"
            image_files.save(picture, path)
            yield {"item": seed} | _described([path], folder, index)


def _described(files: Sequence[Path], folder: Path, index: int) -> dict[str, Any]:
    place = f"{_SHARDS}/{index:06}"
    return {
        "files": [f"{place}/{file.relative_to(folder).as_posix()}" for file in files],
        "sha256": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files],
    }


# Cached, because a process computes many shards.
@lru_cache(maxsize=1)
def _pipeline(name: str, device: str, dtype: str) -> StyleEditPipeline:
    return StyleEditPipeline.from_pretrained(name, device=device, dtype=getattr(torch, dtype))


@lru_cache(maxsize=1)
def _edits(named: tuple[tuple[str, float | None], ...]) -> list[tuple[Edit, float | None]]:
    return [(load_edit(name), strength) for name, strength in named]


def _plain(value: Any) -> Any:
    """The value after a round trip through JSON."""
    return json.loads(json.dumps(value))
