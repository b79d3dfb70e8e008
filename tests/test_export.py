"""Networks as files for other runtimes: they compute the same, and a pipeline renders with them."""

from __future__ import annotations

import copy
import importlib.util
import json
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import check_says_nothing_of
from typer.testing import CliRunner

from stylegan_hub.cli import main
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.export import FORMATS, export, read_export
from stylegan_hub.export import folder as export_folder
from stylegan_hub.export.parts import generator_part
from stylegan_hub.export.pipeline import pipeline_parts
from stylegan_hub.export.synthesis import PlainSynthesis
from stylegan_hub.latents import Latents, Space
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.ops import kernels
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.runtime import Runtime, Speeds

NEXT = (192, 192, 160, 96, 64, 40, 24)  # 4 to 256 px: widths that are not powers of two


def installed(format: str) -> Any:
    missing = [n for n in FORMATS[format].NEEDS if importlib.util.find_spec(n) is None]
    return pytest.param(
        format, marks=pytest.mark.skipif(bool(missing), reason=f"{missing} not installed")
    )


def small(**options: Any) -> StyleGAN2Generator:
    """A generator of 32 px, with noise."""
    options = {"channels": (8, 12, 10, 6), **options}
    generator = StyleGAN2Generator(
        8, 0, 8, 2 ** (len(options["channels"]) + 1), num_mapping_layers=1, **options
    )
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.3)
    return generator.eval().requires_grad_(False)


def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"architecture": "resnet"},
        {"architecture": "orig", "activation": "sigmoid"},
        {"conv_clamp": 1.0, "use_noise": False},
        {"resample_filter": [1, 1]},
        {"resample_filter": [1, 2, 1]},
        {"resample_filter": [1, 2, 3, 4, 5]},
        {"rgb_resample_filter": [1, 4, 6, 4, 1, 1]},
        {"resample_filter": [1.0]},
        {"img_crop": (24, 32)},
        {"channels": NEXT},
    ],
)
def test_the_plain_network_draws_the_same(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernels.SWITCH, "off")
    generator = small(**options)
    s = generator.styles(generator.mapping(torch.randn(3, 8)))
    for resolution in (None,) if "architecture" in options else (None, 16):
        wanted = generator.synthesis_from_styles(s, resolution=resolution)
        for bounded in (False, True):
            found = PlainSynthesis(generator, resolution, bounded)(s)
            assert difference(found, wanted) < 1e-5


def test_half_precision_does_not_overflow() -> None:
    generator = small()
    for layer in generator.synthesis.layers:
        layer.weight.mul_(1000)
        layer.affine.bias.add_(1000)
    s = generator.styles(generator.mapping(torch.randn(2, 8)))
    first = PlainSynthesis(generator, bounded=True).blocks[0].half()
    x, _ = first(torch.randn(1, 8, 4, 4).half(), None, [s[:, :8].half(), s[:, 8:16].half() * 0])
    assert x.isfinite().all()


def test_other_architectures_draw_whole_pictures_only() -> None:
    with pytest.raises(ValueError, match="renders only full-size pictures"):
        PlainSynthesis(small(architecture="orig"), 16)


@pytest.mark.parametrize("format", [installed(name) for name in FORMATS])
def test_every_part_in_every_format(
    format: str, inverting_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    pipe = inverting_pipeline
    parts = pipeline_parts(pipe)
    made = export(parts, tmp_path / "out", format, generator="f", latent="w_plus", resolution=32)
    assert [part.name for part in made.parts] == ["generator", "clip_image", "clip_text", "encoder"]
    assert all(part.error < 1e-4 for part in made.parts)
    for place in (tmp_path, Path(__file__).parents[1], Path(torch.__file__).parents[1]):
        check_says_nothing_of(place, tmp_path / "out")
    again = read_export(tmp_path / "out")
    assert again == made
    ws = pipe.sample([1, 2, 3, 4, 5], truncation_psi=1.0).codes  # not the traced batch size
    images = torch.from_numpy(again.load("generator")(w_plus=ws.numpy()))
    wanted = pipe.synthesize(Latents(Space.W_PLUS, ws))
    assert difference(images, wanted) < 1e-4
    seen = torch.from_numpy(again.load("clip_image")(images=wanted.clamp(-1, 1).numpy()))
    assert difference(seen, pipe.encode_image(wanted.clamp(-1, 1))) < 1e-4
    tokens = torch.full((1, pipe.tokenizer.model_max_length), pipe.tokenizer.eos_token_id)
    text = "a face with a hat"
    ids = pipe.tokenizer(text, add_special_tokens=False)["input_ids"]
    tokens[0, : len(ids) + 1] = torch.tensor([pipe.tokenizer.bos_token_id, *ids])
    said = torch.from_numpy(again.load("clip_text")(tokens=tokens.numpy()))
    assert difference(said, pipe.encode_text(text)) < 1e-4
    with pytest.raises(NotFoundError, match="has no parser"):
        again.load("parser")


def test_with_the_mapping_network(tiny_pipeline: StyleEditPipeline, tmp_path: Path) -> None:
    generator = tiny_pipeline.generator
    part = generator_part(generator, "z", 8)
    z = torch.randn(3, 16)
    wanted = generator.synthesis(generator.mapping(z, truncation_psi=0.5), resolution=8)
    assert difference(part.module(z, torch.tensor(0.5)), wanted) < 1e-5
    made = export([part], tmp_path / "z", "torch", generator="f", latent="z", resolution=8)
    assert made.parts[0].inputs == {"z": (16,), "truncation_psi": ()}
    with pytest.raises(ValueError, match="generator with labels"):
        generator_part(StyleGAN2Generator(8, 3, 8, 8, channels=(4, 4)), "z")


def test_a_file_that_computes_something_else_is_not_written(
    tiny_pipeline: StyleEditPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = generator_part(tiny_pipeline.generator, "s", 4)
    right = FORMATS["torch"].load

    def wrong(*arguments: Any) -> Any:
        return lambda **inputs: right(*arguments)(**inputs) + 0.1

    monkeypatch.setattr(FORMATS["torch"], "load", wrong)
    with pytest.raises(ArtifactError, match="differs from the pipeline by"):
        export([part], tmp_path / "out", "torch", generator="f", latent="s", resolution=4)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_written_is_said_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_pipeline: StyleEditPipeline
) -> None:
    with pytest.raises(ValueError, match="known formats: onnx, openvino, torch"):
        export_folder.check_format("tensorrt", "float32")
    with pytest.raises(ValueError, match="onnx can be written in float32, float16"):
        export_folder.check_format("onnx", "bfloat16")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotFoundError, match=r'pip install "stylegan-hub\[openvino\]"'):
        export_folder.check_format("openvino", "float32")
    (tmp_path / "letter.txt").write_text("Dear")
    with pytest.raises(ArtifactError, match="holds"):
        export([], tmp_path, "torch", generator="f", latent="s", resolution=32)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parts": 7}, "is damaged"),
        ({"format": "pickle"}, "names the format 'pickle'"),
        ({"parts": [{"name": "generator", "files": ["../x.pt2"], "inputs": {}, "output": "o",
                     "meaning": "", "error": 0, "psnr": None}]}, "which is not in the folder"),
    ],
)  # fmt: skip
def test_a_damaged_folder(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    described = {
        "format": "torch", "dtype": "float32", "latent": "s", "resolution": 32, "generator": "f",
        "parts": [],
    }  # fmt: skip
    (tmp_path / "export.json").write_text(json.dumps(described | change))
    with pytest.raises(ArtifactError, match=said):
        read_export(tmp_path)
    with pytest.raises(NotFoundError, match="holds no exported networks"):
        read_export(tmp_path / "nowhere")


# Rendering with them


@pytest.mark.parametrize("name", [installed("openvino"), installed("onnx")])
def test_a_pipeline_renders_by_another_runtime(
    name: str, tiny_pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("stylegan_hub.runtime.cache_folder", lambda: tmp_path / "cache")
    here = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, runtime="pytorch")
    other = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, runtime=name)
    latents = here.sample(range(10))
    calls: list[int] = []
    render = Runtime.render

    def counted(self: Runtime, s: torch.Tensor, resolution: int | None = None) -> torch.Tensor:
        calls.append(len(s))
        return render(self, s, resolution)

    monkeypatch.setattr(Runtime, "render", counted)
    with torch.no_grad():
        for size in (None, 16, 20):
            found, wanted = (pipe.synthesize(latents, size) for pipe in (other, here))
            assert difference(found, wanted) < 1e-4
    assert calls == [10, 10, 10]
    # A gradient is PyTorch's.
    codes = latents.codes.clone().requires_grad_()
    other.synthesize(Latents(Space.W_PLUS, codes)).sum().backward()
    assert codes.grad is not None and len(calls) == 3
    with torch.no_grad():  # a copy loads the runtime for itself
        copied = copy.deepcopy(other).synthesize(latents)
        assert difference(copied, here.synthesize(latents)) < 1e-4 and len(calls) == 4
    # A tuned generator is a different one.
    weights = {"b32.conv1.bias": torch.ones(8)}
    with torch.no_grad():
        tuned = other.with_weights(weights).synthesize(latents)
        assert difference(tuned, here.with_weights(weights).synthesize(latents)) < 1e-4
        # Weights that change are exported again.
        for pipe in (here, other):
            pipe.generator.synthesis.b32.torgb.bias.add_(0.5)
        assert difference(other.synthesize(latents), here.synthesize(latents)) < 1e-4


@pytest.mark.parametrize("name", [installed("openvino")])
def test_an_exported_folder_is_a_runtime(
    name: str, tiny_pipeline_folder: Path, other_pipeline: StyleEditPipeline, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["export", str(tiny_pipeline_folder), "--format", name, "--part", "generator"]
    for extra in (["--latent", "s", "-o", str(out)], ["-o", str(tmp_path / "w")]):
        result = CliRunner().invoke(main, [*arguments, *extra])
        assert result.exit_code == 0, result.output
        assert "dB" in result.output
    pipe = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, runtime=out)
    assert pipe.runtime.chosen(1) == name
    here = StyleEditPipeline.from_pretrained(tiny_pipeline_folder, runtime="pytorch")
    with torch.no_grad():
        assert difference(pipe.synthesize(pipe.sample(3)), here.synthesize(here.sample(3))) < 1e-4
    with pytest.raises(MismatchError, match="belongs to another generator"):
        Runtime(other_pipeline.generator, out)
    with pytest.raises(MismatchError, match="takes w_plus"):
        StyleEditPipeline.from_pretrained(tiny_pipeline_folder, runtime=tmp_path / "w")
    with pytest.raises(ValueError, match="expected auto, pytorch, openvino, onnx"):
        StyleEditPipeline.from_pretrained(tiny_pipeline_folder, runtime="fast")


@pytest.fixture
def every_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All runtimes seem to be installed, and no measurement is known."""
    monkeypatch.setattr("stylegan_hub.runtime.cache_folder", lambda: tmp_path)
    monkeypatch.setattr("stylegan_hub.runtime._is_installed", lambda name: True)


@pytest.mark.usefixtures("every_runtime")
def test_auto_takes_what_was_measured_to_be_faster(
    tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured: list[int] = []

    def times(asked: dict[str, Any]) -> Speeds:
        measured.append(asked["side"])
        return {
            "quiet": {"pytorch": {"1": 2.0, "8": 3.0}, "openvino": {"1": 1.0, "8": 4.0}},
            "busy": {"pytorch": {"1": 4.0, "8": 5.0}, "openvino": {"1": 3.0}, "onnx": {"8": 4.5}},
        }

    load = [0.0]
    monkeypatch.setattr(os, "getloadavg", lambda: (load[0], 0.0, 0.0), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: torch.get_num_threads())
    monkeypatch.setattr("stylegan_hub.runtime._measured", times)
    first = Runtime(tiny_pipeline.generator, "auto")
    assert first.chosen(1) == "pytorch" and not measured  # no picture waits for a measurement
    assert first.measure() == first.measure() and measured == [32]  # the second one read the file
    assert first.chosen(1) == "pytorch"  # until the measurement ends, it renders in one way
    later = Runtime(tiny_pipeline.generator, "auto")
    assert [later.chosen(n) for n in (1, 7, 8, 64)] == ["openvino"] * 2 + ["pytorch"] * 2
    assert copy.deepcopy(later).chosen(1) == "openvino"
    load[0] = 0.8  # one core is busy, and all of them would be used
    beside = Runtime(tiny_pipeline.generator, "auto")
    assert [beside.chosen(n) for n in (1, 8)] == ["openvino", "onnx"]
    load[0] = 0.0
    assert [beside.chosen(n) for n in (1, 8)] == ["openvino", "onnx"]  # a process does not change
    (file,) = tmp_path.glob("speeds-*.json")
    file.write_text('{"quiet": {"pytorch": {"1": "fast"}}, "busy": {"pytorch": {}}}')
    damaged = Runtime(tiny_pipeline.generator, "auto")
    assert damaged.chosen(1) == "pytorch"
    damaged.measure()
    assert measured == [32, 32]  # a damaged file is measured again
    assert Runtime(tiny_pipeline.generator, "auto").chosen(1) == "openvino"
    assert Runtime(tiny_pipeline.generator, "pytorch").measure() == {}
    monkeypatch.setattr("stylegan_hub.runtime._is_installed", lambda name: False)
    assert Runtime(tiny_pipeline.generator, "auto").chosen(1) == "pytorch"


@pytest.mark.usefixtures("every_runtime")
def test_a_measurement_does_not_fill_a_large_machine(
    tiny_pipeline: StyleEditPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside: list[int] = []
    monkeypatch.setattr("stylegan_hub.runtime.beside", lambda n: nullcontext(beside.append(n)))
    monkeypatch.setattr(
        "stylegan_hub.runtime.seconds_of", lambda names, _: {name: [1.0] for name in names}
    )
    threads = torch.get_num_threads()
    for free, neighbors in ((0, [0, 0, 1, 1]), (1, [0, 0, 2, 2]), (32, [0, 0])):
        beside.clear()
        monkeypatch.setattr(os, "cpu_count", lambda free=free: threads + free)
        found = Runtime(tiny_pipeline.generator, "auto").measure()
        assert beside == neighbors and len(found) == len({*neighbors})
        assert found["quiet"]["onnx"] == {"1": 1.0, "8": 1.0}


def test_previews_are_exactly_those_of_their_block(tiny_pipeline: StyleEditPipeline) -> None:
    latents = tiny_pipeline.sample([1, 2])
    network = tiny_pipeline.generator.synthesis
    for asked, side in ((16, 16), (31, 16), (32, 32), (1000, 32)):
        (first, _) = tiny_pipeline(latents=latents, max_resolution=asked).images
        assert first.size == (side, side)
        found = tiny_pipeline.synthesize(latents, asked)
        assert torch.equal(found, network(latents.codes, resolution=side))
    with pytest.raises(ValueError, match="smallest pictures of this generator have 4 px"):
        tiny_pipeline(latents=latents, max_resolution=3)
    with pytest.raises(ValueError, match="with the region 'hair'"):
        tiny_pipeline(latents=latents, max_resolution=16, region="hair")


def test_parts_by_name(tiny_pipeline: StyleEditPipeline) -> None:
    assert [p.name for p in pipeline_parts(tiny_pipeline, names=["clip_text"])] == ["clip_text"]
    with pytest.raises(ValueError, match="has generator, clip_image, clip_text"):
        pipeline_parts(tiny_pipeline, names=["encoder"])


@pytest.mark.parametrize("name", [installed("openvino")])
def test_nothing_is_sent_over_the_network(
    name: str, tiny_pipeline: StyleEditPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("It opens a connection."))
    monkeypatch.setattr("multiprocessing.Process.start", lambda *_: pytest.fail("It forks."))
    part = generator_part(tiny_pipeline.generator, "s", 8)
    export([part], tmp_path / "out", name, generator="f", latent="s", resolution=8)
