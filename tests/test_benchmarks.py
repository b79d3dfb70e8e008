"""The baseline computes the same as ours, and the command compares before it measures times."""

import importlib
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from stylegan_hub.pipeline import StyleEditPipeline

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("plain", "run", "measure", "gpu", "methods", "compiled", "exactness"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("plain"), importlib.import_module("run")


def test_the_textbook_draws_the_same(modules: tuple[ModuleType, ModuleType]) -> None:
    plain, _ = modules
    generator = plain.random_generator(32, 256)
    ws = generator.mapping(torch.randn(3, 512)) + 0.1 * torch.randn(1, generator.num_ws, 512)
    with torch.no_grad():
        ours = generator.synthesis(ws)
        for fused in (False, True):
            images = plain.synthesize(generator, ws, fused)
            assert torch.allclose(images, ours, atol=1e-5 * float(ours.std()))


def test_multiply_adds(modules: tuple[ModuleType, ModuleType]) -> None:
    plain, _ = modules
    generator = plain.random_generator(16, 256)
    x = torch.randn(1, 64, 4, 4)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        for name in ("b4.conv1", "b8.conv1", "b16.conv1"):
            weight = generator.synthesis.get_submodule(name).get_parameter("weight")
            size = int(name[1:].split(".")[0])
            torch.nn.functional.conv2d(
                torch.randn(1, weight.shape[1], size, size), weight, padding=1
            )
        for name in ("b8.conv0", "b16.conv0"):
            weight = generator.synthesis.get_submodule(name).get_parameter("weight")
            x = torch.randn(1, weight.shape[1], *[int(name[1:].split(".")[0]) // 2] * 2)
            torch.nn.functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
        for name in ("b4.torgb", "b8.torgb", "b16.torgb"):
            weight = generator.synthesis.get_submodule(name).get_parameter("weight")
            size = int(name[1:].split(".")[0])
            torch.nn.functional.conv2d(torch.randn(1, weight.shape[1], size, size), weight)
    assert counter.get_total_flops() == 2 * plain.macs(generator)


def test_the_command(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, run = modules
    monkeypatch.setitem(run.SIZES, "256", (16, 64))
    monkeypatch.setattr(run.measure, "ceilings", lambda device: {"matmul_gflops": 10.0})
    # Every number in it comes from a new process, which takes seconds to start.
    monkeypatch.setattr(run.measure, "peak_bytes", lambda *_: 5_000_000)
    config = run.Config(suite=("256",), batch_sizes=(1, 2), seconds=0.01, output=tmp_path / "b")
    run.main(config)
    rows = json.loads((tmp_path / "b" / "results.json").read_text())["synthesis"]
    assert [(row["work"], row["batch_size"]) for row in rows] == [
        ("forward", 1), ("forward + backward", 1), ("forward", 2), ("forward + backward", 2),
    ]  # fmt: skip
    assert all(row["ratio"] > 0 and row["difference"] < 1e-4 for row in rows)
    table = (tmp_path / "b" / "table.md").read_text()
    assert table.count("\n") == 2 + 4 and table.count("| 5 | 5 |") == 4
    guard = tmp_path / "ratios.json"
    for expected, problem in (
        (
            {"256, forward, 1": 1e9, "256, forward, 2": 0.0},
            r"plain:\n256, forward, 1: .* 1000000000",
        ),
        (
            {"512, forward, 1": 1.0},
            "no expected ratio for what was measured: 256, forward, 1, ",
        ),
    ):
        guard.write_text(json.dumps(expected))
        with pytest.raises(SystemExit, match=problem):
            run.main(replace(config, guard=guard))
    guard.write_text('{"256, forward, 1": 0.0}')
    run.main(replace(config, guard=guard))
    right = plain.synthesize
    monkeypatch.setattr(run.plain, "synthesize", lambda *inputs: 1.01 * right(*inputs))
    with pytest.raises(SystemExit, match=r"256, forward: results differ by .* Nothing was timed"):
        run.main(config)


def test_what_a_card_is_asked(modules: tuple[ModuleType, ModuleType]) -> None:
    """All but the CUDA graphs, on a CPU."""
    plain, run = modules
    generator = plain.random_generator(16, 64)
    gpu = run.gpu
    rates = gpu.ceilings("cpu")
    assert rates.keys() == {"full", "TF32", "half", "copy"} and min(rates.values()) > 0
    rows = list(gpu.synthesis("16", generator, (1, 3), "cpu", 0.01, rates))
    full, half = ("plain", "full"), ("ours", "half")
    ways = [full, (gpu.BASELINE, "full"), ("ours", "full"), (gpu.BASELINE, "TF32")]
    ways += [("plain, autocast", "half"), ("ours", "TF32"), half]
    asked = [
        (batch_size, work, *way)
        for batch_size in (1, 3)
        for work in ("forward", "forward + backward")
        for way in ways
    ]
    assert [(row.batch_size, row.work, row.name, row.precision) for row in rows] == asked
    for row in rows:
        assert row.ratio > 0 and row.floor > 0 and row.peak_bytes is None
        assert gpu.line(row).count("|") == gpu.HEADER[0].count("|")
        exact = row.work == "forward" and "autocast" not in row.name
        assert row.largest == row.typical == 0 or not exact or 0 < row.largest < 1e-4
    own = {row.ratio for row in rows if (row.name, row.precision) == (gpu.BASELINE, "full")}
    assert own == {1.0}


def test_a_card_must_draw_the_same(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, run = modules
    generator = plain.random_generator(16, 64)
    rates = dict.fromkeys(("full", "TF32", "half", "copy"), 1.0)
    right = generator.synthesis.forward
    monkeypatch.setattr(generator.synthesis, "forward", lambda ws: 1.01 * right(ws))
    with pytest.raises(SystemExit, match=r"16, forward, ours: results differ by .* Nothing was"):
        list(run.gpu.synthesis("16", generator, (1,), "cpu", 0.01, rates))


def test_how_exact_gradients_are(modules: tuple[ModuleType, ModuleType]) -> None:
    plain, run = modules
    generator = plain.random_generator(16, 64)
    row = run.exactness.gradients("16", generator, 3, "cpu")
    assert len(row.plain) == len(row.ours) == 3 and row.ratio > 0
    assert all(0 < error < 1e-2 for error in (*row.plain, *row.ours))
    assert run.exactness.line(row).count("|") == run.exactness.HEADER[0].count("|")


def test_compiling_is_counted(
    modules: tuple[ModuleType, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, run = modules
    compiled, compile_with = run.compiled, torch.compile
    monkeypatch.setattr(  # the textbook's, but no C++ compiler, which takes a minute
        torch, "compile", lambda f, dynamic: compile_with(f, dynamic=dynamic, backend="eager")
    )
    generator = plain.random_generator(16, 64)
    rows = list(compiled.synthesis("16", generator, (1,), "cpu", 0.01))
    assert [row.work for row in rows] == ["forward", "forward + backward"]
    for row in rows:
        assert row.first > row.compiled.median and row.ratio > 0 and row.difference < 1e-4
        assert compiled.line(row).count("|") == compiled.HEADER[0].count("|")
    one, two, six = (run.measure.Timing(seconds, 0.0) for seconds in (1.0, 2.0, 6.0))
    row = compiled.Row("16", "forward", 1, 40.0, plain=six, compiled=two, ours=one, difference=0.0)
    assert row.ratio == 2 and row.repaid_after == 10 and "10 passes" in compiled.line(row)
    row = compiled.Row("16", "forward", 1, 40.0, plain=one, compiled=two, ours=one, difference=0.0)
    assert "never" in compiled.line(row)


def test_features(modules: tuple[ModuleType, ModuleType]) -> None:
    plain, _ = modules
    generator = plain.random_generator(8, 64)  # 16 channels at 4 px, 8 at 8 px
    same = 6 * 16 * 16 + 6 * 64 * 8
    doubled = 3 * 16 * 16 + 3 * 64 * 8
    assert plain.features(generator) == same + doubled + 16 * 16 + 64 * 8


def _hold(megabytes: int) -> Callable[[], object]:
    return lambda: torch.ones(megabytes * 2**18)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is measured on Linux")
def test_peak_memory(modules: tuple[ModuleType, ModuleType]) -> None:
    _, run = modules
    assert 200e6 < run.measure.peak_bytes(_hold, 200) < 300e6


@pytest.mark.slow
def test_methods_are_the_same_either_way(
    modules: tuple[ModuleType, ModuleType],
    tiny_pipeline: StyleEditPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, run = modules
    methods = run.methods
    monkeypatch.setattr(methods, "DRAWN_ABOVE", 0.0)  # an untrained CLIP sees only rounding
    rows = list(methods.compared("tiny", tiny_pipeline, "cpu", 0.01))
    assert len({row.work for row in rows}) == len(rows) == 6
    for row in rows:
        assert row.ratio > 0 and row.cosine > 0.99
        assert methods.line(row).count("|") == methods.HEADER[0].count("|")
    assert "render" not in vars(tiny_pipeline.generator.synthesis)  # nothing stays behind
    right = plain._draw
    monkeypatch.setattr(plain, "_draw", lambda *inputs, **more: right(*inputs, **more).flip(3))
    with pytest.raises(SystemExit, match=r"tiny, latent optimization.* cosine is .* Nothing was"):
        list(methods.compared("tiny", tiny_pipeline, "cpu", 0.01))


def test_searches_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.delitem(sys.modules, "curves", raising=False)
    curves = importlib.import_module("curves")
    points = [
        curves.Point("essence", settings, "ivy", steps, steps / 10, 0.5, 0.4, 0.3)
        for settings in ("ours", "published")
        for steps in (10, 20)
    ]
    curves.write(tmp_path / "out", points)
    assert len(json.loads((tmp_path / "out" / "curves.json").read_text())) == 4
    assert (tmp_path / "out" / "table.md").read_text().count("\n") == 2 + 4
    with Image.open(tmp_path / "out" / "curves.webp") as picture:
        assert picture.width > 300


def test_expected_ratios_have_names_that_rows_have(modules: tuple[ModuleType, ModuleType]) -> None:
    _, run = modules
    expected = json.loads((FOLDER / "ratios.json").read_text())
    suites = {name.rpartition(": ")[2].split(",")[0] for name in expected}
    assert suites <= {"portraits", *run.SIZES} and min(expected.values()) > 1
