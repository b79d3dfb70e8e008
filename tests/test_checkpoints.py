"""Checkpoints of other projects in every variant, and malicious ones.

The files are written here, by the libraries that write the real ones (pickle, torch.save, numpy),
under the names of the classes that are in the real ones.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import pickle
import shutil
import struct
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import build_tiny_pipeline
from published import (  # noqa: F401  foreign: a fixture
    _Module,
    _NewNumpy,
    _OldNumpy,
    assert_same,
    convert,
    dumps,
    foreign,
    nvidia,
    nvidia_module,
    recipe,
    saved,
    small,
    to_rosinality,
    to_tensorflow,
)
from reference import random_of, reference_generator
from test_recognizer import golden_weights
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.checkpoints import load_generator, read_checkpoint
from stylegan_hub.checkpoints.download import fetch
from stylegan_hub.edits.base import load_edit
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents
from stylegan_hub.methods.table import load_directions
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

PROTOCOLS = [2, 3, 4, 5]


# ------------------------------------------------------------------ reference numbers


def test_official_numbers_through_both_formats(tmp_path: Path, data: Path) -> None:
    """What NVIDIA's code renders from weights by the rule, as a pickle and as a torch file."""
    generator = reference_generator()
    arrays = np.load(data / "nvidia_network.npz")
    numbers = {n: torch.from_numpy(arrays[n]) for n in arrays.files if arrays[n].dtype.kind == "f"}
    saved(tmp_path / "nvidia", nvidia(generator))
    content = {"g_ema": to_rosinality(generator), "latent_avg": generator.mapping.w_avg}
    torch.save(content, tmp_path / "rosinality")
    loaded = [load_generator(tmp_path / name) for name in ("nvidia", "rosinality")]
    for own in loaded:
        torch.testing.assert_close(own.mapping(numbers["z"]), numbers["w"], rtol=0, atol=1e-5)
        images = own.synthesis(numbers["w"])
        torch.testing.assert_close(images, numbers["img_const"], rtol=0, atol=1e-4)
    assert loaded[0].fingerprint() == loaded[1].fingerprint()


@pytest.mark.parametrize("name", ["nv_ada_w64.pkl", "ros_ada_w64.pt"])
def test_golden_files(golden: Path, name: str) -> None:
    """Files that the reference implementations wrote."""
    loaded = load_generator(golden / name)
    arrays = np.load(golden / "nv_ada_w64.npz")
    w, images = (torch.from_numpy(arrays[n]) for n in ("w", "img_const"))
    torch.testing.assert_close(loaded.synthesis(w), images, rtol=0, atol=1e-4)
    assert list(loaded.state_dict()) == list(arrays["sd_names"])


# ------------------------------------------------------------------ NVIDIA, PyTorch

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "labels": {"c_dim": 3},
    "labels only": {"z_dim": 0, "c_dim": 3},
    "clamp": {"conv_clamp": 0.8},
    "resnet": {"architecture": "resnet", "conv_clamp": 0.5},
    "orig": {"architecture": "orig"},
    "no noise": {"use_noise": False},
    "deep mapping": {"num_mapping_layers": 5, "layer_features": 7},
    "embedding": {"c_dim": 3, "embed_features": 5},
    "other activation": {"activation": "swish", "mapping_activation": "relu"},
    "other rates": {"mapping_lr_multiplier": 0.1},
    "other filter": {"resample_filter": [1.0, 2.0, 1.0, 0.5]},
    "half precision": {"num_fp16_res": 1},
    "4 px": {"img_resolution": 4, "channels": [5]},
    "64 px, grey": {"img_resolution": 64, "channels": [4, 4, 4, 3, 2], "img_channels": 1},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_nvidia_variants(tmp_path: Path, name: str) -> None:
    generator = small(**VARIANTS[name])
    loaded = load_generator(saved(tmp_path / "network", nvidia(generator)))
    assert_same(loaded, generator)
    assert loaded.fingerprint() == generator.fingerprint()
    assert loaded.synthesis.b4.use_fp16 is False
    top = f"b{generator.img_resolution}"
    assert getattr(loaded.synthesis, top).use_fp16 == getattr(generator.synthesis, top).use_fp16


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pickler", [_OldNumpy, _NewNumpy])
def test_nvidia_pickle_protocols(
    tmp_path: Path, protocol: int, pickler: type[pickle.Pickler]
) -> None:
    generator = small(c_dim=2, conv_clamp=1.5)
    path = saved(tmp_path / "network.pkl", nvidia(generator), protocol, pickler=pickler)
    assert (b"numpy.core" in path.read_bytes()) == (pickler is _OldNumpy)
    assert_same(load_generator(path), generator)


def test_nvidia_keys_of_stylegan3_and_a_generator_alone(tmp_path: Path) -> None:
    generator = small()
    content = nvidia(generator)
    order = ["G", "D", "G_ema", "augment_pipe", "training_set_kwargs"]
    path = saved(tmp_path / "a", {key: content[key] for key in order})
    assert_same(load_generator(path), generator)
    assert_same(load_generator(saved(tmp_path / "b", {"G_ema": content["G_ema"]})), generator)
    assert_same(load_generator(saved(tmp_path / "c", content["G_ema"])), generator)


def test_odd_layouts_of_tensors(tmp_path: Path) -> None:
    """Channels last, an offset, half and double precision, a shared storage."""
    generator = small()
    shared = torch.randn(2000)
    offsets = iter(range(3, 2000, 300))

    def change(name: str, x: Tensor) -> Tensor:
        if x.ndim == 4 and x.shape[2] == 3:
            return x.contiguous(memory_format=torch.channels_last)
        if name == "noise_const":
            start = next(offsets)
            return shared[start : start + x.numel()].view(x.shape).copy_(x)
        if name == "bias":
            return x.double()
        if name == "const":
            return torch.cat([torch.zeros(7), x.flatten()])[7:].view(x.shape)
        return x

    assert_same(load_generator(saved(tmp_path / "x", nvidia(generator, change), 2)), generator)


def test_cuda_locations_are_ignored(tmp_path: Path) -> None:
    generator = small()
    data = dumps(nvidia(generator), 3)
    # BINUNICODE of the location in the nested streams, which have protocol 2
    assert data.count(b"X\x03\x00\x00\x00cpu") > 20
    moved = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x03\x00\x00\x00cu0")
    (tmp_path / "x").write_bytes(moved)
    assert_same(load_generator(tmp_path / "x"), generator)


def test_a_missing_average_is_measured(tmp_path: Path) -> None:
    generator = small(c_dim=2)
    content = nvidia(generator)
    mapping = content["G_ema"].state["_modules"]["mapping"].state
    del mapping["_buffers"]["w_avg"]
    mapping["w_avg_beta"] = None  # a training that kept none
    loaded = load_generator(saved(tmp_path / "x", content))
    labels = torch.eye(2).repeat(2000, 1)
    mean = generator.mapping.w(torch.randn(4000, 12), labels).mean(0)
    torch.testing.assert_close(loaded.mapping.w_avg, mean, rtol=0, atol=0.2)
    again = load_generator(tmp_path / "x")
    assert again.fingerprint() == loaded.fingerprint()


# ------------------------------------------------------------------ synthesis, written once more


def by_the_book(generator: StyleGAN2Generator, ws: Tensor) -> Tensor:
    """Synthesis directly from the paper and its tensors, with weights for each sample."""
    state = generator.synthesis.state_dict()
    synthesis = generator.synthesis
    act = {"lrelu": lambda x: F.leaky_relu(x, 0.2) * 2**0.5, "swish": lambda x: F.silu(x) * 2**0.5}
    activation = act[synthesis.b4.conv1.activation]
    images = []
    for one in ws:
        index, x, img = 0, state["b4.const"][None], None

        def style(name: str, w: Tensor) -> Tensor:
            affine = state[f"{name}.affine.weight"] / w.shape[0] ** 0.5
            return affine @ w + state[f"{name}.affine.bias"]

        def up(x: Tensor) -> Tensor:
            zeros = x.new_zeros(*x.shape[:2], x.shape[2] * 2, x.shape[3] * 2)
            zeros[:, :, ::2, ::2] = x
            f = state["b4.resample_filter"].flip(0, 1)[None, None] * 4
            f = f.repeat(x.shape[1], 1, 1, 1)
            return F.conv2d(F.pad(zeros, (2, 1, 2, 1)), f, groups=x.shape[1])

        def conv(name: str, x: Tensor, w: Tensor, gain: float) -> Tensor:
            weight = state[f"{name}.weight"] * style(name, w)[None, :, None, None]
            weight = weight * (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
            if name.endswith("conv0"):
                x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
                f = state["b4.resample_filter"].flip(0, 1)[None, None] * 4
                x = F.conv2d(
                    F.pad(x, (1, 1, 1, 1)), f.repeat(x.shape[1], 1, 1, 1), groups=x.shape[1]
                )
            else:
                x = F.conv2d(x, weight, padding=1)
            if f"{name}.noise_const" in state:
                x = x + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"]
            x = activation(x + state[f"{name}.bias"][:, None, None]) * gain
            clamp = synthesis.conv_clamp
            return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)

        for resolution in synthesis.resolutions:
            b = f"b{resolution}"
            around, gain = None, 1.0
            if f"{b}.skip.weight" in state:
                weight = state[f"{b}.skip.weight"]
                gain = 0.5**0.5
                around = up(F.conv2d(x, weight / weight.shape[1] ** 0.5)) * gain
            if resolution > 4:
                x = conv(f"{b}.conv0", x, one[index], 1.0)
                index += 1
            x = conv(f"{b}.conv1", x, one[index], gain)
            x = x if around is None else x + around
            index += 1
            if f"{b}.torgb.weight" in state:
                weight = state[f"{b}.torgb.weight"]
                s = style(f"{b}.torgb", one[index]) / weight.shape[1] ** 0.5
                rgb = (
                    F.conv2d(x, weight * s[None, :, None, None])
                    + state[f"{b}.torgb.bias"][:, None, None]
                )
                if synthesis.conv_clamp is not None:
                    rgb = rgb.clamp(-synthesis.conv_clamp, synthesis.conv_clamp)
                img = rgb if img is None else up(img) + rgb
            if resolution == 4:
                index = 1
        images.append(img)
    return torch.cat(images)


@pytest.mark.parametrize(
    "name", ["plain", "clamp", "resnet", "orig", "no noise", "other activation"]
)
def test_synthesis_is_what_the_paper_says(name: str) -> None:
    generator = small(**VARIANTS[name])
    assert generator.num_ws == 6
    ws = torch.randn(2, 6, 10)
    images = generator.synthesis(ws)
    torch.testing.assert_close(images, by_the_book(generator, ws), rtol=0, atol=2e-5)
    s = generator.styles(ws)
    torch.testing.assert_close(generator.synthesis_from_styles(s), images, rtol=0, atol=1e-6)
    torch.testing.assert_close(generator.synthesis_from_block(s, 8)(s), images, rtol=0, atol=1e-5)


# ------------------------------------------------------------------ rosinality


@pytest.mark.parametrize("zipped", [True, False])
def test_rosinality_containers(tmp_path: Path, zipped: bool) -> None:
    generator = small()
    path = tmp_path / "weights"
    content = {
        "g_ema": to_rosinality(generator),
        "latent_avg": generator.mapping.w_avg,
        "args": argparse.Namespace(size=16, channel_multiplier=2),
        "d_optim": {"state": {0: {"step": 5}}, "param_groups": [{"betas": (0.0, 0.99)}]},
    }
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert_same(load_generator(path), generator)
    torch.save(content["g_ema"], path, _use_new_zipfile_serialization=zipped)
    alone = load_generator(path)
    torch.testing.assert_close(alone.synthesis.state_dict(), generator.synthesis.state_dict())


def test_rosinality_may_lack_noises_kernels_and_the_average(tmp_path: Path) -> None:
    generator = small()
    state = {
        name: tensor
        for name, tensor in to_rosinality(generator).items()
        if not name.startswith("noises.") and not name.endswith("kernel")
    }
    torch.save({"g_ema": state}, tmp_path / "x.pt")
    loaded = load_generator(tmp_path / "x.pt")
    ws = torch.randn(2, 6, 10)
    expected = generator.synthesis(ws, "none")
    torch.testing.assert_close(loaded.synthesis(ws, "none"), expected, rtol=0, atol=1e-5)
    assert 0.5 < loaded.synthesis.b16.conv1.noise_const.std() < 1.5
    mean = generator.mapping.w(torch.randn(4000, 12)).mean(0)
    torch.testing.assert_close(loaded.mapping.w_avg, mean, rtol=0, atol=0.2)
    assert load_generator(tmp_path / "x.pt").fingerprint() == loaded.fingerprint()


def test_the_decoder_inside_of_other_checkpoints(tmp_path: Path) -> None:
    generator = small()
    inside = {f"decoder.{name}": tensor for name, tensor in to_rosinality(generator).items()}
    average = generator.mapping.w_avg.repeat(6, 1)
    content = {"state_dict": inside, "latent_avg": average, "opts": {"device": "cuda:0"}}
    torch.save(content, tmp_path / "e4e.pt")
    assert_same(load_generator(tmp_path / "e4e.pt"), generator)


# ------------------------------------------------------------------ TensorFlow era


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pickler", [_OldNumpy, _NewNumpy])
def test_tensorflow_protocols(tmp_path: Path, protocol: int, pickler: type[pickle.Pickler]) -> None:
    generator = small(c_dim=2)
    networks = to_tensorflow(generator, resolution=16)
    path = saved(tmp_path / "x.pkl", networks, protocol, pickler=pickler)
    assert_same(load_generator(path), generator, tolerance=1e-6)


@pytest.mark.parametrize("name", ["clamp", "no noise", "other activation", "other rates"])
def test_tensorflow_variants(tmp_path: Path, name: str) -> None:
    generator = small(**VARIANTS[name])
    names = {"mapping_lr_multiplier": "mapping_lrmul", "activation": "nonlinearity",
             "mapping_activation": "mapping_nonlinearity", "conv_clamp": "conv_clamp"}  # fmt: skip
    settings = {names[key]: value for key, value in VARIANTS[name].items() if key in names}
    networks = to_tensorflow(generator, **settings)
    assert_same(load_generator(saved(tmp_path / "x", networks)), generator, tolerance=1e-6)


def test_tensorflow_resnet_and_orig(tmp_path: Path) -> None:
    generator = small(architecture="resnet")
    assert_same(load_generator(saved(tmp_path / "x", to_tensorflow(generator))), generator, 1e-6)
    generator = small(architecture="orig")
    networks = to_tensorflow(generator)
    variables = networks[2].components["synthesis"].variables
    for index, (name, value) in enumerate(variables):
        variables[index] = (name.replace("16x16/ToRGB", "ToRGB_lod0"), value)
    assert any(name.startswith("ToRGB_lod0/") for name, _ in variables)
    assert_same(load_generator(saved(tmp_path / "y", networks)), generator, 1e-6)


def test_tensorflow_networks_that_are_too_old(tmp_path: Path) -> None:
    networks = to_tensorflow(small())
    networks[2].version = 2
    with pytest.raises(ArtifactError, match=r"written by version 2 .* 4 \(StyleGAN2\) and newer"):
        load_generator(saved(tmp_path / "x", networks))


# ------------------------------------------------------------------ what is refused

MARKER = Path(tempfile.gettempdir()) / "pwned-by-pickle"


def no_marker() -> None:
    assert not MARKER.exists()


class _Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_golden_hostile_files(golden: Path) -> None:
    no_marker()
    with pytest.raises(ArtifactError, match=r"G_ema\.w_avg: asks for 'posix\.system'.*closed list"):
        load_generator(golden / "evil.pkl")
    with pytest.raises(ArtifactError, match=r"asks for 'posix\.system'.*nothing was executed"):
        load_generator(golden / "evil.pt")
    with pytest.raises(ArtifactError, match=r"is cut off: .* Download it again"):
        load_generator(golden / "truncated.pkl")
    with pytest.raises(ArtifactError, match="is a damaged safetensors file"):
        load_generator(golden / "truncated.safetensors")
    no_marker()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_names_that_are_not_on_the_list(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = {"G_ema": {"deep": [1, (2, {"inside": _Evil(marker)})]}}
    path = saved(tmp_path / "x", content, protocol)
    with pytest.raises(
        ArtifactError, match=r"G_ema\.deep\.inside: asks for '(__builtin__|builtins|pathlib)"
    ):
        load_generator(path)
    torch.save({"g_ema": {"input.input": _Evil(marker)}}, tmp_path / "new")
    torch.save({"a": _Evil(marker)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    for name in ("new", "old"):
        with pytest.raises(ArtifactError, match="not on the closed list"):
            read_checkpoint(tmp_path / name)
    assert not marker.exists()


def stack_global(module: str, name: str) -> bytes:
    def text(value: str) -> bytes:
        return b"\x8c" + bytes([len(value)]) + value.encode()

    return b"\x80\x04" + text(module) + text(name) + b"\x93"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch", "serialization.os.system"),
        ("collections", "abc.sys.modules"),
        ("numpy", "f2py.os.system"),
        ("torch", "load"),
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("builtins", "eval"),
        ("os", "system"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
        ("torch.hub", "load"),
        ("numpy", "load"),
    ],
)
def test_tempting_names(tmp_path: Path, module: str, name: str) -> None:
    (tmp_path / "x").write_bytes(stack_global(module, name) + b")R.")
    with pytest.raises(ArtifactError, match=r"asks for .* closed list"):
        read_checkpoint(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"\x80\x02c" + f"{module}\n{name}\n".encode() + b")R.")
    with pytest.raises(ArtifactError, match=r"asks for .* closed list"):
        read_checkpoint(tmp_path / "x")


def nested_stream(numel: int = 4, data: bytes = b"\0" * 16, evil: bytes = b"") -> bytes:
    """A storage in the form of NVIDIA's pickles."""
    count = b"\x8a\x08" + struct.pack("<q", numel)
    system = {"protocol_version": 1001, "little_endian": True}
    return (
        b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, system))
        + b"\x80\x02(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x007X\x03\0\0\0cpu"
        + evil + count + b"NtQ." + pickle.dumps(["7"], 2) + struct.pack("<q", numel) + data
    )  # fmt: skip


def in_pickle(stream: bytes, size: str = "K\x04\x85", stride: str = "K\x01\x85") -> bytes:
    """A pickle {"w": tensor} around a stream."""
    return (
        b"\x80\x03}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(ctorch.storage\n_load_from_bytes\n"
        + b"B" + struct.pack("<I", len(stream)) + stream + b"\x85R"
        + b"K\0" + size.encode("latin1") + stride.encode("latin1")
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )  # fmt: skip


def test_the_crafted_stream_is_sound_before_it_is_broken(tmp_path: Path) -> None:
    numbers = struct.pack("<4f", 1, 2, 3, 4)
    (tmp_path / "x").write_bytes(in_pickle(nested_stream(data=numbers)))
    assert read_checkpoint(tmp_path / "x")["w"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (in_pickle(nested_stream(numel=1 << 40)), r"w: storage .* 1099511627776 numbers"),
        (in_pickle(nested_stream(data=b"\0" * 8)), r"w: storage .* 8 bytes are left"),
        (in_pickle(nested_stream(), size="K\x05\x85"), r"w: .*\[5\].* ends at number 4, outside"),
        (in_pickle(nested_stream(), stride="K\x02\x85"), r"w: .* ends at number 6, outside"),
        (in_pickle(nested_stream(), stride="J\xff\xff\xff\xff\x85"), r"w: .* not negative"),
        (
            in_pickle(nested_stream(), size="K\x04M\xff\xff\x86", stride="K\x01K\0\x86"),
            r"w: .* has 262140 numbers, its storage only 4",
        ),
        (in_pickle(nested_stream(), size="K\x04K\x01\x86"), r"w: .* has 2 sizes and 1 strides"),
        (in_pickle(nested_stream(evil=b"cos\nsystem\n")), r"'os\.system'.* closed list"),
        (in_pickle(in_pickle(nested_stream())), r"w: .*closed list|w: .*unknown format|damaged"),
        (b"\x80\x04" + b"\x8e" + struct.pack("<Q", 1 << 62) + b".", "4611686018427387904 bytes"),
        (b"\x80\x04" + b"r" + struct.pack("<I", 0xFFFFFFFF) + b".", "stores a missing value"),
        (b"\x80\x04" + b"\x95" + struct.pack("<Q", 1 << 40) + b".", "a part of 1099511627776"),
        (b"\x80\x04" + b"(" * 5000 + b".", "nested more than 1000 levels"),
        (b"\x80\x04}" + b")\x85\x85Ns.", "uses a tuple as a key"),
        (b"\x80\x04K\x01", "is cut off"),
        (b"\x80\x04.", "takes more values than there are"),
        (b"\x80\x09N.", "protocol 9; known ones: 0 to 5"),
        (b"\x80\x04N2.", "instruction b'2' at byte 3"),
        (b"\x80\x02cnumpy\ndtype\nX\x01\0\0\0O\x85R.", "an array of the type 'O'; only numbers"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"hello", "is a text, not a checkpoint"),
        (b"PK\x03\x04" + b"\0" * 100, "damaged zip file"),
    ],
)  # fmt: skip
def test_broken_and_hostile_pickles(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(ArtifactError, match=message) as caught:
            read_checkpoint(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert peak < 64 << 20


def test_a_bomb_of_shared_numbers(tmp_path: Path) -> None:
    """Every tensor of the generator is the same small storage: no memory is allocated for it."""
    numbers = torch.randn(64 * 64 * 9)
    state = {
        name: numbers[: x.numel()].view(x.shape) if x.ndim == 5 else x
        for name, x in to_rosinality(small(channels=[64, 64, 64])).items()
    }
    torch.save({"g_ema": state}, tmp_path / "x")
    with pytest.raises(ArtifactError, match="more than the file has: they share numbers"):
        load_generator(tmp_path / "x")


def test_a_module_inside_of_itself(tmp_path: Path) -> None:
    module = _Module("Generator", {"_parameters": {}, "_buffers": {}, "_modules": {}})
    module.state["_modules"]["again"] = module.state["_modules"]
    with pytest.raises(ArtifactError, match=r"G_ema.again is not a module"):
        load_generator(saved(tmp_path / "x", {"G_ema": module}))


def test_wrong_and_missing_tensors(tmp_path: Path) -> None:
    def broken(change: Callable[[str, Tensor], Tensor]) -> Path:
        return saved(tmp_path / "x", nvidia(small(), change))

    def narrower(name: str, x: Tensor) -> Tensor:
        return x[:, :-1].contiguous() if x.shape == (4, 6, 3, 3) else x

    with pytest.raises(
        ArtifactError, match=r"'G_ema\.synthesis\.b16\.conv0\.weight' has the shape"
    ):
        load_generator(broken(narrower))
    with pytest.raises(ArtifactError, match=r"b4\.torgb\.bias' holds numbers that are not finite"):
        load_generator(broken(lambda name, x: x * math.nan if x.shape == (3,) else x))
    content = nvidia(small())
    synthesis = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]
    del synthesis["b8"].state["_modules"]["conv1"].state["_buffers"]["noise_const"]
    with pytest.raises(
        ArtifactError, match=r"lacks the tensor for 'synthesis\.b8\.conv1\.noise_const"
    ):
        load_generator(saved(tmp_path / "x", content))
    del synthesis["b8"].state["_modules"]["conv1"]
    with pytest.raises(ArtifactError, match=r"lacks the tensor for 'synthesis\.b8\.conv1\.weight"):
        load_generator(saved(tmp_path / "x", content))
    synthesis["b16"].state["_modules"]["conv0"].state["conv_clamp"] = 3.0
    del synthesis["b8"]
    with pytest.raises(ArtifactError, match=r"x: "):
        load_generator(saved(tmp_path / "x", content))
    state = to_rosinality(small())
    del state["convs.2.conv.modulation.bias"]
    torch.save({"g_ema": state}, tmp_path / "x")
    with pytest.raises(
        ArtifactError, match=r"lacks the tensor for 'synthesis\.b16\.conv0\.affine\.bias"
    ):
        load_generator(tmp_path / "x")


def test_layers_that_differ(tmp_path: Path) -> None:
    content = nvidia(small())
    synthesis = content["G_ema"].state["_modules"]["synthesis"].state["_modules"]
    synthesis["b8"].state["_modules"]["conv1"].state["conv_clamp"] = 3.0
    with pytest.raises(ArtifactError, match=r"conv_clamp None .* 3\.0 in synthesis\.b8\.conv1"):
        load_generator(saved(tmp_path / "x", content))


def test_stylegan3_is_recognized(tmp_path: Path) -> None:
    layer = _Module("SynthesisLayer", {"_parameters": {"weight": torch.zeros(2, 2, 3, 3)}})
    synthesis = _Module("SynthesisNetwork", {"_modules": {"L0_36_512": layer}})
    network = _Module("Generator", {"_modules": {"synthesis": synthesis}})
    with pytest.raises(ArtifactError, match=r"is a StyleGAN3 generator .* only StyleGAN2"):
        load_generator(saved(tmp_path / "x", {"G_ema": network}))


def test_files_without_a_generator(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="There is no file"):
        load_generator(tmp_path / "nothing")
    (tmp_path / "empty").touch()
    with pytest.raises(ArtifactError, match="is empty"):
        load_generator(tmp_path / "empty")
    torch.save({"optimizer": {}, "epoch": 3}, tmp_path / "x")
    with pytest.raises(
        ArtifactError, match=r"no StyleGAN2 generator; .* dict with optimizer, epoch"
    ):
        load_generator(tmp_path / "x")
    with pytest.raises(ArtifactError, match="no averaged generator 'G_ema'; it holds G, D"):
        network = nvidia_module(small(), lambda name, x: x)
        load_generator(saved(tmp_path / "x", {"G": network, "D": None}))


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.7, 0.95, 0.999])
def test_truncated_files(tmp_path: Path, share: float) -> None:
    generator = small()
    torch.save({"g_ema": to_rosinality(generator)}, tmp_path / "new")
    torch.save(
        {"g_ema": to_rosinality(generator)}, tmp_path / "old", _use_new_zipfile_serialization=False
    )
    saved(tmp_path / "nvidia", nvidia(generator))
    saved(tmp_path / "tf", to_tensorflow(generator))
    for name in ("new", "old", "nvidia", "tf"):
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: int(len(data) * share)])
        with pytest.raises(ArtifactError, match=r"cut off|damaged|left|no checkpoint"):
            load_generator(tmp_path / name)


def test_flipped_bytes_never_crash(tmp_path: Path) -> None:
    """Whatever a byte becomes, the file is read or refused with our own error."""
    generator = small(img_resolution=8, channels=[2, 2])
    whole = dumps({"G_ema": nvidia(generator)["G_ema"]}, 4)
    start = whole.index(b"class_name")  # after the source text, which is not read
    random = np.random.RandomState(0)
    refused = 0
    for _ in range(40):
        data = bytearray(whole)
        data[random.randint(start, len(data))] = random.randint(256)
        (tmp_path / "x").write_bytes(data)
        try:
            load_generator(tmp_path / "x")
        except ArtifactError:
            refused += 1
    assert 3 < refused < 40


# ------------------------------------------------------------------ memory


def resident(what: str) -> int:
    """Memory of this process in bytes: VmRSS now, VmHWM at its peak since the last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0]) * 1024


@pytest.mark.parametrize(
    "kind",
    [
        "nvidia",
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("rosinality", "rosinality-old", "tensorflow", "nvidia-2")
        ),
    ],
)
def test_peak_memory(tmp_path: Path, kind: str) -> None:
    """Memory of the whole process, including the mapped file."""
    reset = Path("/proc/self/clear_refs")
    if not reset.exists():
        pytest.skip("Linux tells how much memory a process had at most.")
    generator, path = small(channels=[512, 512, 512]), tmp_path / "file"
    if kind == "tensorflow":
        saved(path, to_tensorflow(generator))
    elif kind.startswith("nvidia"):
        saved(path, nvidia(generator), 2 if kind.endswith("2") else 4)
    else:
        content = {"g_ema": to_rosinality(generator), "latent_avg": generator.mapping.w_avg}
        torch.save(content, path, _use_new_zipfile_serialization=not kind.endswith("old"))
        del content
    size = path.stat().st_size
    assert size > 40e6
    ratios = []
    for _ in range(3):  # threads of earlier tests may allocate memory in the meantime
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # freed memory must not serve the loader
        reset.write_text("5")
        before = resident("VmRSS")
        loaded = load_generator(path)
        ratios.append((resident("VmHWM") - before) / size)
        assert loaded.img_resolution == 16
        del loaded
    assert 0.3 < min(ratios) < 2.5, ratios
    print(f"{kind}: {min(ratios):.2f} times the file")


def test_reading_stops_after_many_instructions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stylegan_hub.checkpoints.pickles.MAX_INSTRUCTIONS", 5000)
    (tmp_path / "x").write_bytes(b"\x80\x04" + b"}" * 6000 + b".")
    with pytest.raises(ArtifactError, match="more than 5000 instructions"):
        read_checkpoint(tmp_path / "x")


# ------------------------------------------------------------------ encoders, recognizers, parsers


def randomized(model: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape) + 0.1)
    return model.eval().requires_grad_(False)


def test_recognizer(tmp_path: Path) -> None:
    own = Recognizer(units=(1, 2), widths=(16, 32), input_size=28, embedding_dim=8)
    own = randomized(own)
    torch.save(own.state_dict(), tmp_path / "x", _use_new_zipfile_serialization=False)
    assert convert(tmp_path / "x", tmp_path / "out") == "A recognizer"
    loaded = Recognizer.from_pretrained(tmp_path / "out").eval()
    faces = torch.rand(2, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(loaded(faces), own(faces))
    state = own.state_dict()
    del state["body.2.res_layer.5.fc2.weight"]
    torch.save(state, tmp_path / "x")
    with pytest.raises(ArtifactError, match=r"lacks the tensor for 'body\.2\.res_layer\.5\.fc2"):
        convert(tmp_path / "x", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_parser(tmp_path: Path) -> None:
    own = randomized(Parser(width=4))
    state = {name: tensor for name, tensor in own.state_dict().items() if "num_batches" not in name}
    torch.save(state, tmp_path / "x")
    assert convert(tmp_path / "x", tmp_path / "out") == "A parser"
    loaded = Parser.from_pretrained(tmp_path / "out").eval()
    torch.testing.assert_close(loaded.state_dict(), own.state_dict())
    few = Parser(parts=("skin", "hair"), width=4)
    torch.save(few.state_dict(), tmp_path / "few")
    with pytest.raises(ArtifactError, match=r"parses 2 parts .* expected the 19"):
        convert(tmp_path / "few", tmp_path / "none")


def encoder_file(path: Path, encoder: Encoder, generator: StyleGAN2Generator, **opts: Any) -> Path:
    state = {f"encoder.{n}": x for n, x in encoder.state_dict().items() if n != "latent_avg"}
    state |= {f"decoder.{name}": tensor for name, tensor in to_rosinality(generator).items()}
    content = {
        "state_dict": state,
        "latent_avg": encoder.latent_avg,
        "opts": {"encoder_type": "Encoder4Editing", "device": "cuda:0", **opts},
    }
    torch.save(content, path)
    return path


def test_encoder(tmp_path: Path) -> None:
    own = Encoder(6, 10, 64, units=(1, 2, 1, 1), widths=(16, 24, 32, 40), levels=(2, 4))
    own = randomized(own)
    path = encoder_file(tmp_path / "x", own, small())
    assert convert(path, tmp_path / "out") == "An encoder"
    loaded = Encoder.from_pretrained(tmp_path / "out").eval()
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    torch.testing.assert_close(loaded.encode(images), own.encode(images))
    path = encoder_file(tmp_path / "x", own, small(), encoder_type="GradualStyleEncoder")
    assert convert(path, tmp_path / "psp") == "An encoder"
    psp = Encoder.from_pretrained(tmp_path / "psp").eval()
    # Without deltas, the first layer has the same w, and the others lack their delta.
    offsets = own(images)
    offsets[:, 1:] -= offsets[:, :1]
    torch.testing.assert_close(psp.encode(images), own.latent_avg + offsets)
    path = encoder_file(tmp_path / "x", own, small(), encoder_type="BackboneEncoderUsingLastLayer")
    with pytest.raises(
        ArtifactError, match=r"'BackboneEncoderU.*; supported are 'Encoder4Editing'"
    ):
        convert(path, tmp_path / "none")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["irse50", "bisenet", "e4e"])
def test_golden_faces_through_their_files(kind: str, data: Path, tmp_path: Path) -> None:
    expected = dict(np.load(data / f"{kind}_check.npz"))
    keys = json.loads((data / f"{kind}_keys.json").read_text())
    state = golden_weights({name: tuple(shape) for name, shape, _ in keys})
    for name in state:
        if kind == "e4e" and name.startswith("styles.") and name.endswith("linear.weight"):
            state[name] *= state[name].shape[1] ** 0.5  # the rule's exception for these
    content: dict[str, Any] = dict(state)
    if kind == "e4e":
        content = {
            "state_dict": {f"encoder.{name}": tensor for name, tensor in state.items()},
            "latent_avg": torch.zeros(18, 512),
            "opts": {"encoder_type": "Encoder4Editing"},
        }
    torch.save(content, tmp_path / "file")
    del state, content
    convert(tmp_path / "file", tmp_path / "out")
    (tmp_path / "file").unlink()
    with torch.no_grad():
        if kind == "irse50":
            recognizer = Recognizer.from_pretrained(tmp_path / "out")
            faces = random_of("input:irse50").rand(2, 3, 112, 112) * 2 - 1
            found = recognizer.embed(torch.from_numpy(faces.astype(np.float32)))
            assert np.abs(found.numpy() - expected["embedding"]).max() < 1e-5
        elif kind == "bisenet":
            parser = Parser.from_pretrained(tmp_path / "out")
            x = random_of("input:bisenet").standard_normal((1, 3, 64, 96)).astype(np.float32)
            found, _, _ = parser.outputs(torch.from_numpy(x))
            assert np.abs(found[:, :, ::4, ::6].numpy() - expected["out"]).max() < 2e-4
        else:
            pixels = random_of("input:e4e").rand(1, 3, 256, 256) * 2 - 1
            pixels = torch.from_numpy(pixels.astype(np.float32))
            found = Encoder.from_pretrained(tmp_path / "out")(pixels)
            assert np.abs(found.numpy() - expected["codes"]).max() < 2e-5


# ------------------------------------------------------------------ edits, tables, latents


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> tuple[StyleEditPipeline, Path]:
    pipe = build_tiny_pipeline(seed=3)
    folder = tmp_path_factory.mktemp("pipe") / "tiny"
    pipe.save_pretrained(folder)
    return pipe, folder


def mapper_state(prefix: str, width: int) -> dict[str, Tensor]:
    return {
        f"{prefix}.mapping.{i}.{part}": torch.randn(*shape)
        for i in range(1, 5)
        for part, shape in (("weight", (width, width)), ("bias", (width,)))
    }


def styleclip_mapper(state: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    """Four layers on a normalized input, as StyleCLIP computes them."""
    for i in range(1, 5):
        weight, bias = (state[f"{prefix}.mapping.{i}.{part}"] for part in ("weight", "bias"))
        x = F.leaky_relu(x @ weight.T * 0.01 / len(bias) ** 0.5 + bias * 0.01, 0.2) * 2**0.5
    return x


def test_mapper_of_levels(tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path]) -> None:
    pipe, folder = pipeline
    state = mapper_state("mapper.course_mapping", 16) | mapper_state("mapper.medium_mapping", 16)
    decoder = {f"decoder.{n}": x for n, x in to_rosinality(pipe.generator).items()}
    torch.save({"state_dict": state | decoder, "opts": {"no_fine_mapper": True}}, tmp_path / "x")
    options = {"pipeline": str(folder), "prompt": "afro"}
    assert convert(tmp_path / "x", tmp_path / "out", **options) == "A latent mapper"
    edit = load_edit(tmp_path / "out")
    codes = torch.randn(2, 8, 16)
    expected = torch.zeros(2, 8, 16)
    for name, start in (("course", 0), ("medium", 4)):
        part = codes[:, start : start + 4]
        part = part * (part.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        part = styleclip_mapper(state, f"mapper.{name}_mapping", part)
        expected[:, start : start + 4] = 0.1 * part
    torch.testing.assert_close(edit.delta(codes), expected, rtol=1e-5, atol=1e-6)
    assert edit.origin.prompt == "afro"
    other = {f"decoder.{n}": x + 1 for n, x in to_rosinality(pipe.generator).items()}
    torch.save({"state_dict": state | other}, tmp_path / "x")
    with pytest.raises(MismatchError, match=r"The mapper's decoder and the generator differ in"):
        convert(tmp_path / "x", tmp_path / "none", **options)
    torch.save(
        {"state_dict": {k: v for k, v in state.items() if "4.bias" not in k}}, tmp_path / "x"
    )
    with pytest.raises(ArtifactError, match=r"lacks the bias of layer 4 .* 'coarse'"):
        convert(tmp_path / "x", tmp_path / "none", **options)
    with pytest.raises(ArtifactError, match=r"belongs to a generator.*--pipeline"):
        convert(tmp_path / "x", tmp_path / "none")


def test_single_mapper_and_style_space(
    tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path]
) -> None:
    pipe, folder = pipeline
    state = mapper_state("mapper.mapping", 16)
    torch.save({"state_dict": state}, tmp_path / "x")
    convert(tmp_path / "x", tmp_path / "single", pipeline=str(folder))
    codes = torch.randn(2, 8, 16)
    normal = codes * (codes.square().mean(1, keepdim=True) + 1e-8).rsqrt()
    expected = 0.1 * styleclip_mapper(state, "mapper.mapping", normal)
    single = load_edit(tmp_path / "single")
    torch.testing.assert_close(single.delta(codes), expected, rtol=1e-5, atol=1e-6)

    layout = pipe.generator.style_layout
    state = {}
    for index, layer in enumerate(layout):
        if not layer.is_to_rgb:
            state |= mapper_state(f"mapper.mapper_{index}", layer.stop - layer.start)
    torch.save({"state_dict": state}, tmp_path / "x")
    convert(tmp_path / "x", tmp_path / "s", pipeline=str(folder))
    edit = load_edit(tmp_path / "s")
    codes = torch.randn(2, pipe.generator.num_styles)
    expected = torch.zeros_like(codes)
    for index, layer in enumerate(layout):
        if not layer.is_to_rgb:
            part = codes[:, layer.start : layer.stop]
            part = part * (part.square().mean(1, keepdim=True) + 1e-8).rsqrt()
            part = styleclip_mapper(state, f"mapper.mapper_{index}", part)
            expected[:, layer.start : layer.stop] = 0.1 * part
    torch.testing.assert_close(edit.delta(codes), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("everything", [True, False])
def test_table(tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path], everything: bool) -> None:
    pipe, folder = pipeline
    layout = pipe.generator.style_layout
    convolutions = [layer for layer in layout if not layer.is_to_rgb]
    kept = convolutions if everything else convolutions[:3]
    index = [c for layer in kept for c in range(layer.start, layer.stop)]
    fs3 = np.random.RandomState(0).randn(len(index), 16)
    np.save(tmp_path / "fs3.npy", fs3)
    layers = layout if everything else convolutions
    rows = [[np.full(x.stop - x.start, i + k, "f4") for i, x in enumerate(layers)] for k in (0, 9)]
    saved(tmp_path / "S_mean_std", rows)
    options = {"pipeline": str(folder), "statistics": str(tmp_path / "S_mean_std")}
    assert convert(tmp_path / "fs3.npy", tmp_path / "t", **options) == "A direction table"
    table = load_directions(tmp_path / "t")
    assert table.index.tolist() == index
    expected = fs3 / np.linalg.norm(fs3, axis=1, keepdims=True)
    np.testing.assert_allclose(table.relevance, expected, atol=1e-6)
    last = layers[-1]
    assert table.s_std[last.start : last.stop].unique().tolist() == [len(layers) + 8]
    table.direction(pipe, "a face with glasses", channels=3)
    np.save(tmp_path / "fs3.npy", fs3[:-1])
    with pytest.raises(MismatchError, match=f"fs3 has {len(index) - 1} rows"):
        convert(tmp_path / "fs3.npy", tmp_path / "none", **options)


def test_directions(tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path]) -> None:
    _, folder = pipeline
    options = {"pipeline": str(folder)}
    essence = np.random.RandomState(0).randn(1, 8, 16).astype("f4")  # TargetCLIP
    np.save(tmp_path / "x.npy", essence)
    with pytest.raises(ArtifactError, match=r"bare array of shape \[1, 8, 16\].*--kind direction"):
        convert(tmp_path / "x.npy", tmp_path / "none", **options)
    convert(tmp_path / "x.npy", tmp_path / "a", kind="direction", **options)
    np.testing.assert_array_equal(load_edit(tmp_path / "a").vector, essence[0])
    age = torch.randn(1, 16)  # InterFaceGAN, in w
    torch.save(age, tmp_path / "x.pt")
    convert(tmp_path / "x.pt", tmp_path / "b", kind="direction", **options)
    torch.testing.assert_close(load_edit(tmp_path / "b").vector, age.expand(8, 16))
    torch.save({"direction": torch.randn(3, 8, 16)}, tmp_path / "lelsd.pt")
    assert convert(tmp_path / "lelsd.pt", tmp_path / "c", component=2, **options) == "A direction"
    components = np.random.RandomState(1).randn(5, 1, 16).astype("f4")  # GANSpace
    deviations = np.arange(5, dtype="f4") + 1
    np.savez_compressed(
        tmp_path / "x.npz", lat_comp=components, lat_stdev=deviations, act_mean=np.zeros((1, 16))
    )
    convert(tmp_path / "x.npz", tmp_path / "d", component=3, **options)
    expected = np.broadcast_to(components[3] * 4, (8, 16))
    np.testing.assert_allclose(load_edit(tmp_path / "d").vector, expected, atol=1e-6)
    with pytest.raises(ArtifactError, match="has 5 components; got component 9"):
        convert(tmp_path / "x.npz", tmp_path / "none", component=9, **options)
    np.save(tmp_path / "x.npy", np.zeros((1, 18, 512), "f4"))
    with pytest.raises(MismatchError, match=r"\[1, 18, 512\].*\[n, 8, 16\]"):
        convert(tmp_path / "x.npy", tmp_path / "none", kind="direction", **options)


def test_latents(tmp_path: Path) -> None:
    codes = torch.randn(6, 8, 16)
    torch.save(codes, tmp_path / "x.pt")
    assert convert(tmp_path / "x.pt", tmp_path / "a") == "6 latents in w_plus"
    assert torch.equal(Latents.load(tmp_path / "a/latents.safetensors").codes, codes)
    np.savez(tmp_path / "projected_w.npz", w=codes[:1].numpy())
    assert convert(tmp_path / "projected_w.npz", tmp_path / "b") == "1 latent in w_plus"
    np.save(tmp_path / "x.npy", codes[:, 0].numpy())
    options = {"kind": "latents", "space": "w"}
    assert convert(tmp_path / "x.npy", tmp_path / "c", **options) == "6 latents in w"
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match="of type object; only numbers"):
        convert(tmp_path / "x.npy", tmp_path / "none")
    np.savez_compressed(tmp_path / "bomb.npz", w=np.zeros((1 << 24, 2)))
    with pytest.raises(ArtifactError, match="unpacks to 268435"):
        convert(tmp_path / "bomb.npz", tmp_path / "none")


def test_a_pickled_lelsd_trainer_says_how_to_export(tmp_path: Path) -> None:
    (tmp_path / "model.pth").write_bytes(stack_global("lelsd", "LELSD") + b")\x81.")
    with pytest.raises(ArtifactError, match=r"asks for 'lelsd\.LELSD'.*export the direction"):
        read_checkpoint(tmp_path / "model.pth")


def test_a_generator_is_converted_to_a_folder(tmp_path: Path) -> None:
    generator = small(c_dim=2, architecture="resnet")
    assert convert(saved(tmp_path / "x", nvidia(generator)), tmp_path / "out") == "A generator"
    assert_same(StyleGAN2Generator.from_pretrained(tmp_path / "out").eval(), generator)


# ------------------------------------------------------------------ downloads


class _Server(ThreadingHTTPServer):
    """Serves one file; stops after `limit` bytes of a reply."""

    content, etag, limit = b"", '"1"', 1 << 40
    ranges: ClassVar[list[str | None]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.path == "/gone":
            self.send_error(404)
            return
        start = 0
        if wanted == f"bytes={len(self.server.content)}-":
            self.send_error(416)
            return
        if wanted and self.headers.get("If-Range") == self.server.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        rest = self.server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + len(rest) - 1}/*")
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", self.server.etag)
        self.end_headers()
        self.wfile.write(rest[: self.server.limit])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as running:
        running.ranges.clear()
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_download_goes_on_after_an_interruption(tmp_path: Path, server: _Server) -> None:
    server.content = bytes(range(256)) * 40
    address = f"http://127.0.0.1:{server.server_port}/some/net.pkl?x=1"
    server.limit = 3000
    with pytest.raises(NotFoundError, match=r"ended after 3000 of 10240 .* Repeat the command"):
        fetch(address, tmp_path)
    assert not [path for path in tmp_path.iterdir() if not path.name.endswith(".partial")]
    server.limit = 1 << 40
    seen: list[tuple[int, int | None]] = []
    path = fetch(address, tmp_path, lambda have, total: seen.append((have, total)))
    assert path.read_bytes() == server.content and path.name.endswith("-net.pkl")
    assert server.ranges == [None, "bytes=3000-"] and seen[-1] == (10240, 10240)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert fetch(address, tmp_path) == path and len(server.ranges) == 2
    # Killed after the last byte and before the file got its name.
    path.rename(path.with_name(f"{path.name}.partial"))
    path.with_name(f"{path.name}.version.partial").write_text(server.etag)
    assert fetch(address, tmp_path) == path and path.read_bytes() == server.content


def test_download_starts_again_when_the_file_has_changed(tmp_path: Path, server: _Server) -> None:
    server.content, server.limit = b"old" * 1000, 500
    address = f"http://127.0.0.1:{server.server_port}/net.pkl"
    with pytest.raises(NotFoundError):
        fetch(address, tmp_path)
    server.content, server.etag, server.limit = b"new" * 900, '"2"', 1 << 40
    assert fetch(address, tmp_path).read_bytes() == server.content


def test_download_errors(tmp_path: Path, server: _Server) -> None:
    with pytest.raises(NotFoundError, match="the server says 404"):
        fetch(f"http://127.0.0.1:{server.server_port}/gone", tmp_path)
    for address in ("http://example.org/x.pkl", "ftp://127.0.0.1/x", "file:///etc/passwd"):
        with pytest.raises(ArtifactError, match="starts with https"):
            fetch(address, tmp_path)
    for address in ("https://a b/x.pkl", "https://127.0.0.1:x/x.pkl", "https://[/x.pkl"):
        with pytest.raises((ArtifactError, NotFoundError)):
            fetch(address, tmp_path)
    with pytest.raises(NotFoundError, match="There is no file"):
        fetch("no/such.pkl", tmp_path)


# ------------------------------------------------------------------ whole pipelines


def assemble(**options: Any) -> StyleEditPipeline:
    module = recipe("assemble_pipeline")
    return module.assemble(module.Config(**options))


def test_assemble_a_pipeline(tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path]) -> None:
    generator = small(img_resolution=32, channels=[8, 8, 8, 8], w_dim=10)
    saved(tmp_path / "ffhq.pkl", nvidia(generator))
    face = Recognizer(units=(1, 2), widths=(16, 32), input_size=28, embedding_dim=8)
    torch.save(face.state_dict(), tmp_path / "irse.pth")
    _, clip = pipeline
    parts = {"generator": str(tmp_path / "ffhq.pkl"), "clip": str(clip)}
    output = tmp_path / "ffhq"
    assemble(**parts, recognizer=str(tmp_path / "irse.pth"), output=output)
    loaded = StyleEditPipeline.from_pretrained(output)
    assert loaded.generator.fingerprint() == generator.fingerprint()
    assert loaded(seed=1).images[0].size == (32, 32)
    assert loaded.recognizer(torch.zeros(1, 3, 32, 32)).shape == (1, 8)
    text = (output / "README.md").read_text()
    assert "NVIDIA Source Code License: non-commercial" in text and "`irse.pth` | MIT" in text
    assert str(tmp_path) not in text
    assert (output / "images/samples.png").is_file()
    assert not list(tmp_path.glob("**/*.partial"))
    with pytest.raises(ArtifactError, match="exists already"):
        assemble(**parts, output=output)


def test_assemble_refuses_what_does_not_fit(
    tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path]
) -> None:
    module = recipe("assemble_pipeline")
    saved(tmp_path / "g.pkl", nvidia(small()))
    parts = {"generator": str(tmp_path / "g.pkl"), "clip": str(pipeline[1])}
    with pytest.raises(MismatchError, match="given as --recognizer, holds no recognizer"):
        assemble(**parts, recognizer=str(tmp_path / "g.pkl"), output=tmp_path / "out")
    own = Encoder(6, 10, 64, units=(1, 2, 1, 1), widths=(16, 24, 32, 40), levels=(2, 4))
    path = encoder_file(tmp_path / "e4e.pt", randomized(own), small())
    config = module.Config(**parts, encoder=str(path), output=tmp_path / "out")
    assert module.load_encoder(config, small()).num_ws == 6
    with pytest.raises(MismatchError, match=r"gives \[n, 6, 10\]; this generator takes \[n, 8, 10"):
        module.load_encoder(config, small(img_resolution=32, channels=[8, 8, 8, 8]))
    other = small()
    other.mapping.fc0.weight += 1
    with pytest.raises(MismatchError, match=r"decoder and the generator differ in mapping\.fc0"):
        module.load_encoder(config, other)
    assert not (tmp_path / "out").exists()


def test_clip_from_a_pickle(tmp_path: Path, pipeline: tuple[StyleEditPipeline, Path]) -> None:
    pipe, folder = pipeline
    shutil.copytree(folder / "clip", tmp_path / "clip")
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    (tmp_path / "clip/model.safetensors").unlink()
    torch.save(pipe.clip.state_dict(), tmp_path / "clip/pytorch_model.bin")
    clip, _, processor = recipe("assemble_pipeline").load_clip(str(tmp_path))
    torch.testing.assert_close(clip.state_dict(), pipe.clip.state_dict())
    assert processor.size["shortest_edge"] == 32


@pytest.mark.slow
def test_a_pipeline_of_full_size(tmp_path: Path) -> None:
    """FFHQ's config-f, CLIP ViT-B/32 and IR-SE50, with random weights, from files to pictures."""
    from transformers import CLIPConfig, CLIPModel

    from stylegan_hub.models.clip import build_image_processor

    started = time.perf_counter()
    torch.manual_seed(0)
    generator = StyleGAN2Generator().eval().requires_grad_(False)
    generator.update_w_avg(torch.randn(1000, 512), beta=0)
    saved(tmp_path / "ffhq.pkl", {"G_ema": nvidia(generator)["G_ema"]})
    torch.save(Recognizer().state_dict(), tmp_path / "model_ir_se50.pth")
    tokenizer = build_tiny_pipeline(seed=0).tokenizer
    CLIPModel(CLIPConfig()).save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    build_image_processor(224).save_pretrained(tmp_path / "clip")
    del generator
    assemble(
        generator=str(tmp_path / "ffhq.pkl"),
        clip=str(tmp_path / "clip"),
        recognizer=str(tmp_path / "model_ir_se50.pth"),
        output=tmp_path / "ffhq",
    )
    pipe = StyleEditPipeline.from_pretrained(tmp_path / "ffhq")
    assert (pipe.generator.num_ws, pipe.generator.num_styles) == (18, 9088)
    images = pipe.synthesize(pipe.sample(0)).clamp(-1, 1)
    assert images.shape == (1, 3, 1024, 1024)
    assert pipe.recognizer(images).shape == (1, 512)
    assert pipe.encode_image(images).shape == (1, 512)
    peak = resident("VmHWM") / 1e9
    print(f"{time.perf_counter() - started:.0f} s, peak memory {peak:.1f} GB")
