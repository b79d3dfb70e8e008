"""Large numbers of pictures: shards are complete or absent, and each item is done exactly once."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import build_tiny_pipeline, check_says_nothing_of
from typer.testing import CliRunner

from stylegan_hub import many
from stylegan_hub.cli import main
from stylegan_hub.errors import ArtifactError, NotFoundError
from stylegan_hub.many import Job, begin, finish, run, run_shard
from stylegan_hub.photos.photo import list_photos


@pytest.fixture(autouse=True)
def loaded_anew() -> None:
    many._pipeline.cache_clear()
    many._edits.cache_clear()


def job_of(folder: Path, **options: Any) -> Job:
    return Job(**{"pipeline": str(folder), "seeds": (5, 15), "shard_size": 4, **options})


def lines_of(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "manifest.jsonl").read_text().splitlines()]


def check(output: Path, items: list[Any]) -> None:
    lines = lines_of(output)
    assert [line["item"] for line in lines] == items
    for line in lines:
        for file, digest in zip(line["files"], line["sha256"], strict=True):
            assert hashlib.sha256((output / file).read_bytes()).hexdigest() == digest


def test_two_processes_share_the_shards(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    job, out = job_of(tiny_pipeline_folder, max_resolution=16), tmp_path / "out"
    for process in (1, 0):
        assert finish(job, out).done == (0 if process else 1)
        run(job, out, device="cpu", process=process, processes=2)
    assert finish(job, out) == many.Progress(shards=3, done=3)
    check(out, list(range(5, 15)))
    assert sorted(path.name for path in (out / "shards").iterdir()) == [f"{i:06}" for i in range(3)]


def test_what_is_there_is_not_computed_again(
    tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tiny_pipeline_folder)
    begin(job, tmp_path)
    assert run_shard(job, tmp_path, 1, "cpu")
    before = sorted((tmp_path / "shards" / "000001").iterdir())
    monkeypatch.setattr(many, "_computed", lambda *_: pytest.fail("It was computed again."))
    assert not run_shard(job, tmp_path, 1, "cpu")
    assert sorted((tmp_path / "shards" / "000001").iterdir()) == before


def test_of_two_that_compute_the_same_the_second_drops_its_own(
    tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tiny_pipeline_folder)
    begin(job, tmp_path)
    computed = many._computed

    def overtaken(*arguments: Any) -> Any:
        yield from computed(*arguments)
        monkeypatch.setattr(many, "_computed", computed)
        assert run_shard(job, tmp_path, 0, "cpu")

    monkeypatch.setattr(many, "_computed", overtaken)
    assert not run_shard(job, tmp_path, 0, "cpu")
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["000000"]


def test_another_job_does_not_go_on(tiny_pipeline_folder: Path, tmp_path: Path) -> None:
    begin(job_of(tiny_pipeline_folder), tmp_path)
    with pytest.raises(ArtifactError, match="belongs to another job: truncation_psi differ"):
        begin(job_of(tiny_pipeline_folder, truncation_psi=1.0), tmp_path)
    namesake = shutil.copytree(tiny_pipeline_folder, tmp_path / "other" / "tiny")
    with pytest.raises(ArtifactError, match="belongs to another job: places differ"):
        begin(job_of(namesake), tmp_path)
    for wrong in ({"seeds": None}, {"photos": "."}, {"seeds": (3, 3)}, {"shard_size": 0}):
        with pytest.raises(ValueError, match=r"Give either|Got"):
            job_of(tiny_pipeline_folder, **wrong)


def test_photographs(
    inverting_pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, album, out = tmp_path / "pipe", tmp_path / "album", tmp_path / "out"
    inverting_pipeline.save_pretrained(folder)
    for seed in range(3):
        album.mkdir(exist_ok=True)
        inverting_pipeline(seed=seed).images[0].resize((64, 64)).save(album / f"{seed}.png")
    job = Job(pipeline=str(folder), photos=str(album), shard_size=2)
    assert begin(job, out) == 2
    # Photos that are added later belong to no shard.
    inverting_pipeline(seed=9).images[0].save(album / "9.png")
    assert len(list_photos(album).photos) == 4 and begin(job, out) == 2
    (album / "1.png").write_bytes(b"no picture")
    run(job, out, device="cpu")
    progress = finish(job, out)
    lines = lines_of(out)
    assert [line["item"] for line in lines] == ["0.png", "1.png", "2.png"]
    assert progress.failed == sum("error" in line for line in lines) >= 1
    assert "error" in lines[1]
    check_says_nothing_of(tmp_path, out)


@pytest.mark.slow
def test_killed_and_started_again(tmp_path: Path) -> None:
    build_tiny_pipeline(seed=0).save_pretrained(tmp_path / "pipe")
    out = tmp_path / "out"
    arguments = ["many", "--pipeline", str(tmp_path / "pipe"), "--seeds", "0-199"]
    arguments += ["--shard-size", "2", "--device", "cpu", "-o", str(out)]
    command = [sys.executable, "-m", "stylegan_hub", *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ})
    end = time.monotonic() + 240
    while len(list(out.glob("shards/0*"))) < 3:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("shards/0*/*")}
    assert 3 <= len(list(out.glob("shards/0*"))) < 100
    assert not (out / "manifest.jsonl").exists()
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    check(out, list(range(200)))
    assert not list(out.glob("shards/.*"))
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())


def test_ray(tiny_pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("ray") is None:
        with pytest.raises(NotFoundError, match=r'pip install "stylegan-hub\[ray\]"'):
            many.run_on_ray(job_of(tiny_pipeline_folder), tmp_path)
        return
    pytest.importorskip("pyarrow")
    mapped: list[int] = []

    class Rows:
        """The part of Ray's data sets that is used, in this process."""

        def __init__(self, count: int) -> None:
            self.count = count

        def map(self, function: Any, **options: Any) -> Rows:
            assert options == {"concurrency": 2}
            for index in range(self.count):
                assert function({"id": index}) == {"shard": index, "computed": True}
                mapped.append(index)
            return self

        def materialize(self) -> None:
            pass

    import ray.data

    monkeypatch.setattr(ray.data, "range", lambda count, override_num_blocks: Rows(count))
    job = job_of(tiny_pipeline_folder)
    many.run_on_ray(job, tmp_path, device="cpu", concurrency=2)
    assert mapped == [0, 1, 2] and finish(job, tmp_path).done == 3
