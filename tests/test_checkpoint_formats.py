"""A test for each line of the table in docs/checkpoints.md that no other test file has."""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import (  # noqa: F401  foreign: a fixture
    assert_same,
    blocks,
    convert,
    dumps,
    foreign,
    nvidia,
    recipe,
    saved,
    small,
    to_rosinality,
    to_tensorflow,
)
from safetensors.torch import save_file
from torch import Tensor

import stylegan_hub as hub
from stylegan_hub.checkpoints import load_generator, read_checkpoint
from stylegan_hub.checkpoints.describe import describe_content, report
from stylegan_hub.checkpoints.files import arrays_in
from stylegan_hub.edits.base import Strength, load_edit
from stylegan_hub.errors import ArtifactError, MismatchError, NotFoundError
from stylegan_hub.latents import Latents
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.pipeline import StyleEditPipeline

NUM_WS, W_DIM = 8, 16  # of tiny_pipeline


def told(error: pytest.ExceptionInfo[ArtifactError]) -> ArtifactError:
    """The error, whose message must end with what to do."""
    found = error.value
    assert found.expected is not None and found.remedy and str(found).endswith(found.remedy)
    return found


# ------------------------------------------------------------------ complete or not at all


def problems_without(content: Any, names: list[tuple[dict[str, Any], str]]) -> dict[str, list[str]]:
    """The errors for a file that lacks one tensor, for each one of them."""
    found = {}
    for holder, name in names:
        kept = holder.pop(name)
        found[name] = describe_content(content).problems
        holder[name] = kept
    return found


def test_every_tensor_of_rosinality_is_needed() -> None:
    state = to_rosinality(small(num_mapping_layers=8))
    content: dict[str, Any] = {"g_ema": state}
    assert not describe_content(content).problems
    for name, problems in problems_without(content, [(state, name) for name in state]).items():
        assert problems and any(f"'g_ema.{name}'" in problem for problem in problems), name


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_every_tensor_of_nvidia_is_needed(tmp_path: Path, architecture: str) -> None:
    generator = small(num_mapping_layers=3, architecture=architecture)
    content = read_checkpoint(saved(tmp_path / "x", {"G_ema": nvidia(generator)["G_ema"]}))
    waiting, holders = [content["G_ema"]], []
    while waiting:
        state = waiting.pop().state
        holders += [
            (state[group], n) for group in ("_parameters", "_buffers") for n in state[group]
        ]
        waiting += state["_modules"].values()
    assert not describe_content(content).problems
    for holder, name in holders:
        kept = holder.pop(name)
        problems = describe_content(content).problems
        holder[name] = kept
        # Nothing uses the filters of the lowest block and of convolutions that keep the size.
        assert problems or name == "resample_filter", name
        assert all(f".{name}'" in problem for problem in problems)


def test_layers_that_a_file_promises(tmp_path: Path) -> None:
    """Without all of the last layers of a row, only the rest of the file shows what is missing."""
    content = nvidia(small(num_mapping_layers=2))
    del content["G_ema"].state["_modules"]["mapping"].state["_modules"]["fc1"]
    with pytest.raises(ArtifactError) as error:
        load_generator(saved(tmp_path / "x", content))
    assert told(error).expected == "G_ema.mapping.fc1.weight"
    for name in ("b16", "b4"):
        content = nvidia(small())
        block = blocks(content["G_ema"]).pop(name)
        with pytest.raises(ArtifactError, match=f"G_ema.synthesis.{name}"):
            load_generator(saved(tmp_path / "x", content))
        block.state["_modules"].pop("torgb")
        blocks(content["G_ema"])[name] = block
        with pytest.raises(ArtifactError, match=f"G_ema.synthesis.{name}.torgb.weight"):
            load_generator(saved(tmp_path / "x", content))
    state = to_rosinality(small(num_mapping_layers=8))
    for part in ("weight", "bias"):
        del state[f"style.8.{part}"]
    for name in [n for n in state if re.match(r"convs\.[23]\.|to_rgbs\.1\.|noises\.noise_[34]", n)]:
        del state[name]
    options = argparse.Namespace(size=16, n_mlp=8)
    for beside in ({"args": options}, {"latent_avg": torch.zeros(6, 10)}):
        torch.save({"g_ema": state, **beside}, tmp_path / "y")
        with pytest.raises(ArtifactError, match=r"there is no 'g_ema\.convs\.3\.conv"):
            load_generator(tmp_path / "y")
    network = to_tensorflow(small(), resolution=16, mapping_layers=3)
    with pytest.raises(ArtifactError, match=r"there is no 'Gs\.mapping\.Dense2/weight'"):
        load_generator(saved(tmp_path / "z", network))


def test_seven_mapping_layers_of_512_are_not_a_network(tmp_path: Path) -> None:
    sizes = {"w_dim": 512, "z_dim": 512, "channels": [4, 4], "img_resolution": 8}
    state = to_rosinality(small(num_mapping_layers=7, **sizes))
    torch.save({"g_ema": state}, tmp_path / "x")
    with pytest.raises(ArtifactError) as error:
        load_generator(tmp_path / "x")
    assert (told(error).got, told(error).expected) == (7, (8, 2))
    torch.save({"g_ema": state, "args": argparse.Namespace(n_mlp=7)}, tmp_path / "x")
    assert load_generator(tmp_path / "x").config.num_mapping_layers == 7


def test_tensors_for_which_there_is_no_place(tmp_path: Path) -> None:
    state = to_rosinality(small())
    state |= {"style.9.weight": torch.zeros(10, 10), "convs.7.odd": torch.zeros(3)}
    torch.save({"g_ema": state}, tmp_path / "x")
    with pytest.raises(ArtifactError):
        load_generator(tmp_path / "x")
    del state["style.9.weight"]
    torch.save({"g_ema": state}, tmp_path / "x")
    with pytest.raises(ArtifactError) as error:
        load_generator(tmp_path / "x")
    assert told(error).got == ("g_ema.convs.7.odd",)
    content = nvidia(small())
    blocks(content["G_ema"])["b8"].state["_buffers"]["extra"] = torch.zeros(3)
    with pytest.raises(ArtifactError) as error:
        load_generator(saved(tmp_path / "y", content))
    assert told(error).got == ("G_ema.synthesis.b8.extra",)
    network = to_tensorflow(small())
    network[2].components["synthesis"].variables.append(("16x16/Odd/weight", np.zeros(3, "f4")))
    with pytest.raises(ArtifactError) as error:
        load_generator(saved(tmp_path / "z", network))
    assert told(error).got == ("Gs.synthesis.16x16/Odd/weight",)


def test_what_nvidia_says_and_what_it_holds(tmp_path: Path) -> None:
    content = nvidia(small())
    content["G_ema"].state["z_dim"] = 13
    with pytest.raises(ArtifactError) as error:
        load_generator(saved(tmp_path / "x", content))
    assert (told(error).got, told(error).expected) == (12, 13)


def test_a_filter_for_convolutions_and_one_for_images(tmp_path: Path) -> None:
    """A converted folder keeps both."""
    generator = small(resample_filter=[1, 2, 1], rgb_resample_filter=[1, 3, 3, 1])
    content = {"g_ema": to_rosinality(generator), "latent_avg": generator.mapping.w_avg}
    torch.save(content, tmp_path / "x")
    assert convert(tmp_path / "x", tmp_path / "out") == "A generator"
    assert_same(StyleGAN2Generator.from_pretrained(tmp_path / "out").eval(), generator, 1e-7)
    assert_same(load_generator(saved(tmp_path / "y", nvidia(generator))), generator)
    ws = torch.randn(1, 6, 10)
    one = small(resample_filter=[1, 2, 1]).synthesis(ws)
    assert not torch.allclose(one, generator.synthesis(ws), atol=1e-2)


# ------------------------------------------------------------------ where a network is in a file


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"params_ema": state, "params": {n: 0 * x for n, x in state.items()}},
        lambda state: {"generator": state},
        lambda state: {"g": {n: 0 * x for n, x in state.items()}, "g_ema": state},
        lambda state: {"model": {"netG_ema": state}, "epoch": 3},
        lambda state: {f"_orig_mod.{n}": x for n, x in state.items()},
        lambda state: {"g_ema": {f"module._orig_mod.{n}": x for n, x in state.items()}},
        lambda state: {"state_dict": {f"decoder._orig_mod.{n}": x for n, x in state.items()}},
        lambda state: state,
    ],
)
def test_places_of_a_state_dict(tmp_path: Path, wrap: Callable[[Any], Any]) -> None:
    generator = small()
    torch.save(wrap(to_rosinality(generator)), tmp_path / "x")
    loaded = load_generator(tmp_path / "x")
    torch.testing.assert_close(loaded.synthesis.state_dict(), generator.synthesis.state_dict())


@pytest.mark.parametrize("zipped", [True, False])
def test_a_network_of_nvidia_that_was_saved_alone(tmp_path: Path, zipped: bool) -> None:
    """As pivotal tuning's code writes it, with torch.save."""
    generator = small()
    network = nvidia(generator)["G_ema"]
    torch.save(network, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    assert_same(load_generator(tmp_path / "model.pt"), generator)


def test_two_generators_of_one_rank_are_not_guessed(tmp_path: Path) -> None:
    state = to_rosinality(small())
    torch.save({"first": state, "second": state}, tmp_path / "x")
    with pytest.raises(ArtifactError) as error:
        load_generator(tmp_path / "x")
    assert told(error).got == ("first", "second")


def test_safetensors(tmp_path: Path) -> None:
    generator = small()
    state = {n: x.contiguous() for n, x in to_rosinality(generator).items()}
    save_file(state | {"latent_avg": generator.mapping.w_avg}, tmp_path / "x.safetensors")
    assert_same(load_generator(tmp_path / "x.safetensors"), generator)
    save_file(generator.state_dict(), tmp_path / "y.safetensors")
    with pytest.raises(ArtifactError, match="without its settings") as error:
        load_generator(tmp_path / "y.safetensors")
    assert told(error)
    generator.save_pretrained(tmp_path / "own")
    Latents("w", torch.zeros(1, 10)).save(tmp_path / "own.safetensors")
    with pytest.raises(ArtifactError, match="belongs to a folder of this library"):
        read_checkpoint(tmp_path / "own.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_options_of_all_kinds(tmp_path: Path, zipped: bool) -> None:
    """Paths, numpy's numbers, namespaces and devices besides the tensors."""
    generator = small()
    content = {
        "g_ema": to_rosinality(generator),
        "latent_avg": generator.mapping.w_avg,
        "args": argparse.Namespace(path=pathlib.PosixPath("a/b"), size=16, n_mlp=2),
        "best": np.float64(1.5),
        "table": np.arange(6, dtype="f4").reshape(2, 3),
        "device": torch.device("cuda:0"),
        "set": {1, 2},
    }
    torch.save(content, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    assert_same(load_generator(tmp_path / "x"), generator)
    read = read_checkpoint(tmp_path / "x")
    assert read["best"] == 1.5 and read["table"].tolist() == content["table"].tolist()
    assert str(read["args"].state["path"]) == "a/b"
    torch.save(content, tmp_path / "y", pickle_protocol=4, _use_new_zipfile_serialization=zipped)
    assert_same(load_generator(tmp_path / "y"), generator)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_and_layouts_of_storages(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    generator = small()
    state = {n: x.to(dtype) for n, x in to_rosinality(generator).items()}
    for name, x in state.items():
        if x.ndim == 2:
            state[name] = x.T.contiguous().T
        elif x.ndim == 5:
            state[name] = torch.cat([x, x], 1)[:, : x.shape[1]]
    torch.save({"g_ema": state}, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    loaded = to_rosinality(load_generator(tmp_path / "x"))
    for name, x in to_rosinality(generator).items():
        torch.testing.assert_close(loaded[name], x.to(dtype).float(), rtol=0, atol=1e-7)
    content = nvidia(generator, lambda name, x: x.to(dtype))
    expected = generator.synthesis.b8.conv0.weight.to(dtype).float()
    found = load_generator(saved(tmp_path / "y", content)).synthesis.b8.conv0.weight
    assert torch.equal(found, expected)


def test_pickles_of_python_2(tmp_path: Path) -> None:
    """Here an OrderedDict is made from a list of lists, and texts have one byte per letter."""
    numbers = np.array([0.5, 2.0], "<f4").tobytes()
    text = b"U%c%s"
    storage = b"(" + text % (7, b"storage") + b"ctorch\nFloatStorage\n" + text % (1, b"7")
    storage += text % (6, b"cuda:0") + b"K\x02NtQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00(K\x02t(K\x01t\x89"
    tensor += b"ccollections\nOrderedDict\n]\x85RtR"
    pair = b"](" + text % (6, b"lin0.w") + tensor + b"e"
    head = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    data = b"".join(pickle.dumps(part, 2) for part in head)
    data += b"\x80\x02ccollections\nOrderedDict\n](" + pair + b"e\x85R."
    data += b"\x80\x02](" + text % (1, b"7") + b"e." + (2).to_bytes(8, "little") + numbers
    (tmp_path / "x").write_bytes(data)
    assert read_checkpoint(tmp_path / "x")["lin0.w"].tolist() == [0.5, 2.0]
    with pytest.raises(ArtifactError, match=r"holds no StyleGAN2 generator; .*lin0\.w"):
        load_generator(tmp_path / "x")


# ------------------------------------------------------------------ files that are no checkpoints

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (LFS, "Git LFS"),
        (b"\x1f\x8b\x08\x00" + b"x" * 50, "gzip"),
        (b"BZh91AY&SY" + b"x" * 50, "bzip2"),
        (b"\xfd7zXZ\0" + b"x" * 50, "xz"),
        (b"7z\xbc\xaf'\x1c" + b"x" * 50, "7-Zip"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 50, "picture"),
        (b"\x89HDF\r\n\x1a\n" + b"x" * 50, "HDF5"),
        (b"a" * 257 + b"ustar" + b"\0" * 300, "tar"),
        (b'{"error": {"code": 403, "message": "quota"}}', "JSON"),
        (b'  [{"error": "no"}]', "JSON"),
        (b"<!DOCTYPE html><html><title>Sign in</title></html>", "web page"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><Error>AccessDenied</Error>", "web page"),
        ("Zu viele Zugriffe für heute.".encode(), "text"),
        (b"\xff\xfe\x00\x01" * 30, "of an unknown kind"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path: Path, data: bytes, got: str) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as error:
        load_generator(path)
    assert got in told(error).got and str(path) in str(error.value)
    for text in ("AccessDenied", "quota", "Sign in"):
        assert (text in str(error.value)) == (text.encode() in data)


def test_a_file_where_a_folder_is_meant(tmp_path: Path) -> None:
    np.save(tmp_path / "joker.npy", np.zeros(3))
    for load in (
        load_edit,
        hub.StyleEditPipeline.from_pretrained,
        StyleGAN2Generator.from_pretrained,
    ):
        with pytest.raises(ArtifactError, match="convert_checkpoint") as error:
            load(str(tmp_path / "joker.npy"))
        assert told(error).got == "a file"
        with pytest.raises(NotFoundError, match="convert_checkpoint"):
            load("nowhere/x.pkl")
    with pytest.raises(ArtifactError, match="--kind direction"):
        load_edit(tmp_path / "joker.npy")


def test_tuples_that_cannot_be_hashed_in_time(tmp_path: Path) -> None:
    """A key of a dict is hashed, with everything in it: endless, or too deep."""
    head = b"\x80\x02ccollections\nOrderedDict\n]]"  # the keys are in a list of lists
    deep = head + b")" + b"\x85" * 100_000 + b"aNaa\x85R."
    wide = head + b")" + b"q\x00h\x00\x86" * 60 + b"aNaa\x85R."
    for data in (deep, wide):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(ArtifactError, match="nested tuples"):
            read_checkpoint(tmp_path / "x")
        torch.save({}, tmp_path / "y")
        import zipfile

        with zipfile.ZipFile(tmp_path / "z", "w") as archive:
            archive.writestr("archive/data.pkl", data)
        with pytest.raises(ArtifactError, match="nested tuples"):
            read_checkpoint(tmp_path / "z")


def seeds(tmp_path: Path) -> dict[str, bytes]:
    """A small file of each container."""
    generator = small(img_resolution=8, channels=[2, 2], z_dim=3, w_dim=2)
    content = {"g_ema": to_rosinality(generator), "args": argparse.Namespace(size=8)}
    files = {"nvidia-2": dumps({"G_ema": nvidia(generator)["G_ema"]}, 2)}
    files["nvidia-4"] = dumps({"G_ema": nvidia(generator)["G_ema"]}, 4)
    files["tensorflow"] = dumps(to_tensorflow(generator), 4)
    for zipped in (True, False):
        torch.save(content, tmp_path / "x", _use_new_zipfile_serialization=zipped)
        files[f"torch-{zipped}"] = (tmp_path / "x").read_bytes()
    stream = io.BytesIO()
    np.savez_compressed(stream, lat_comp=np.ones((3, 1, 4)), lat_stdev=np.arange(3.0))
    files["npz"] = stream.getvalue()
    stream = io.BytesIO()
    np.save(stream, {"a.jpg": np.zeros((4, 2), "f4")}, allow_pickle=True)
    files["npy of objects"] = stream.getvalue()
    save_file({n: x.contiguous() for n, x in content["g_ema"].items()}, tmp_path / "x")
    files["safetensors"] = (tmp_path / "x").read_bytes()
    return files


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    """Changed, lost or additional bytes always give our own error."""
    random = np.random.RandomState(0)
    refused = 0
    for kind, whole in seeds(tmp_path).items():
        # The source text, most of NVIDIA's files, is not read.
        start = whole.index(b"class_name") if kind.startswith("nvidia") else 0
        for _ in range(25):
            data = bytearray(whole)
            at = random.randint(start, len(data))
            match random.randint(4):
                case 0:
                    data[at] = random.randint(256)
                case 1:
                    del data[at:]
                case 2:
                    del data[at : at + random.randint(1, 9)]
                case _:
                    data[at:at] = random.bytes(random.randint(1, 9))
            (tmp_path / "file").write_bytes(data)
            try:
                describe_content(read_checkpoint(tmp_path / "file"))
            except ArtifactError as error:
                assert str(tmp_path / "file") in str(error)
                refused += 1
    assert refused > 80


# ------------------------------------------------------------------ directions and latents


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.RandomState(0).randn(NUM_WS, W_DIM).astype("f4")


def write(path: Path, content: Any) -> Path:
    if path.suffix == ".npy":
        np.save(path, content, allow_pickle=True)
    elif path.suffix == ".pkl":
        path.write_bytes(dumps(content, 4))
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("ffhq_rgb_0.npy", lambda x: x),
        ("joker.npy", lambda x: x[None]),
        ("lelsd.pt", lambda x: {"direction": torch.from_numpy(x)}),
        ("lelsd-batch.pt", lambda x: {"direction": torch.from_numpy(x)[None]}),
        ("list.pt", lambda x: [torch.from_numpy(x)]),
    ],
)
def test_a_direction_with_a_row_for_each_layer(
    tmp_path: Path, tiny_pipeline_folder: Path, rows: np.ndarray, name: str, wrap: Any
) -> None:
    path = write(tmp_path / name, wrap(rows))
    convert(path, tmp_path / "out", kind="direction", pipeline=str(tiny_pipeline_folder))
    edit = load_edit(tmp_path / "out")
    assert torch.equal(edit.vector, torch.from_numpy(rows))
    assert edit.strength == Strength()


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("me.pt", torch.from_numpy),
        ("latents.pt", lambda x: torch.from_numpy(x)[None]),
        ("latents.npy", lambda x: {"a.jpg": x}),
        ("restyle.npy", lambda x: {"a.jpg": [x]}),
        ("projected.pt", lambda x: {"a.jpg": {"img": 0, "latent": torch.from_numpy(x)}}),
        ("list.pt", lambda x: [torch.from_numpy(x)[None]]),
        ("dict.pt", lambda x: {"latents": torch.from_numpy(x)}),
    ],
)
def test_one_face_is_one_latent(
    tmp_path: Path, tiny_pipeline_folder: Path, rows: np.ndarray, name: str, wrap: Any
) -> None:
    path = write(tmp_path / name, wrap(rows))
    options = {"kind": "latents", "pipeline": str(tiny_pipeline_folder)}
    assert convert(path, tmp_path / "out", **options) == "1 latent in w_plus"
    found = Latents.load(tmp_path / "out/latents.safetensors")
    assert torch.equal(found.codes, torch.from_numpy(rows)[None])
    if "a.jpg" in str(wrap(rows)):
        assert json.loads((tmp_path / "out/names.json").read_text())[0].startswith("a.jpg")


def test_names_of_pictures_stay_in_order(tmp_path: Path) -> None:
    codes = torch.randn(3, NUM_WS, W_DIM)
    names = {f"{i}.png": code for i, code in enumerate(codes)}
    assert convert(write(tmp_path / "x.pt", names), tmp_path / "out") == "3 latents in w_plus"
    assert torch.equal(Latents.load(tmp_path / "out/latents.safetensors").codes, codes)
    assert json.loads((tmp_path / "out/names.json").read_text()) == list(names)


@pytest.mark.parametrize(
    ("shape", "known", "spaces"),
    [
        ((NUM_WS, W_DIM), False, "w_plus"),  # or eight in w, or in z
        ((5, W_DIM), True, "w"),  # or in z, or layers of another generator
        ((1, W_DIM), True, "w"),  # or in z
        ((W_DIM,), True, "z"),
        ((5, 1, W_DIM), True, "z"),
        ((5, 1, W_DIM), False, "w"),
    ],
)
def test_what_could_be_two_things_is_asked(
    tmp_path: Path, tiny_pipeline_folder: Path, shape: tuple[int, ...], known: bool, spaces: str
) -> None:
    path = write(tmp_path / "x.pt", torch.randn(shape))
    options: dict[str, Any] = {"kind": "latents"}
    options |= {"pipeline": str(tiny_pipeline_folder)} if known else {}
    with pytest.raises(ArtifactError, match="--space") as error:
        convert(path, tmp_path / "none", **options)
    assert told(error).got == shape
    assert convert(path, tmp_path / "out", space=spaces, **options).endswith(f" in {spaces}")


def test_shapes_of_another_generator(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    options = {"pipeline": str(tiny_pipeline_folder)}
    for shape in ((1, 6, W_DIM), (3, 6, W_DIM), (NUM_WS, 12), (12,), (2, 2, NUM_WS, W_DIM)):
        path = write(tmp_path / "x.pt", torch.randn(shape))
        for kind in ("direction", "latents"):
            with pytest.raises(MismatchError) as error:
                convert(path, tmp_path / "none", kind=kind, **options)
            assert told(error).got == shape
    path = write(tmp_path / "x.pt", torch.randn(6, W_DIM))
    with pytest.raises(ArtifactError, match="one in w_plus of a generator with 6 layers"):
        convert(path, tmp_path / "none", kind="direction", **options)
    assert convert(path, tmp_path / "out", kind="direction", space="w", component=5, **options)
    assert not (tmp_path / "none").exists()


def test_a_direction_in_style_space(
    tmp_path: Path, tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path
) -> None:
    vector = torch.randn(1, tiny_pipeline.generator.num_styles)
    path = write(tmp_path / "x.pt", vector)
    convert(path, tmp_path / "out", kind="direction", pipeline=str(tiny_pipeline_folder))
    edit = load_edit(tmp_path / "out")
    assert edit.space == "s" and torch.equal(edit.vector, vector[0])


def ganspace(rows: np.ndarray, **changes: Any) -> dict[str, Any]:
    """A file that GANSpace's viewer saves."""
    return {
        "name": "Light", "sigma_range": np.float64(-9.5), "component_index": 15,
        "act_comp": np.zeros(4, "f4"), "lat_comp": rows[:1], "latent_space": "W",
        "act_stdev": 2.0, "lat_stdev": 0.25, "model_name": "StyleGAN2", "output_class": "ffhq",
        "decomposition": {"name": "ipca", "layer": "style"}, "edit_type": "latent",
        "truncation": 0.7, "edit_start": 3, "edit_end": 5, "example_seed": 7,
    } | changes  # fmt: skip


def test_a_direction_that_ganspace_saved(
    tmp_path: Path, tiny_pipeline_folder: Path, rows: np.ndarray
) -> None:
    """Its layers, its standard deviation and the range of its slider."""
    options = {"pipeline": str(tiny_pipeline_folder)}
    convert(write(tmp_path / "x.pkl", ganspace(rows)), tmp_path / "out", **options)
    edit = load_edit(tmp_path / "out")
    as_array = ganspace(rows, lat_stdev=np.array([0.25]))
    convert(write(tmp_path / "x.pkl", as_array), tmp_path / "array", **options)
    assert torch.equal(load_edit(tmp_path / "array").vector, edit.vector)
    expected = np.zeros((NUM_WS, W_DIM), "f4")
    expected[3:5] = rows[0] * 0.25
    assert np.array_equal(edit.vector.numpy(), expected)
    assert edit.strength == Strength(1.0, -9.5, 9.5)
    assert edit.origin.training["layers"] == [3, 5]
    for changes in (
        {"edit_type": "activation"}, {"latent_space": "Z"}, {"lat_stdev": None}, {"edit_end": 3},
        {"edit_end": 40}, {"lat_stdev": np.ones(2)}, {"lat_stdev": 0.0},
    ):  # fmt: skip
        path = write(tmp_path / "x.pkl", ganspace(rows, **changes))
        with pytest.raises((ArtifactError, MismatchError)) as error:
            convert(path, tmp_path / "none", **options)
        assert error.value.expected is not None


def test_a_kind_that_the_file_is_not(
    tmp_path: Path, tiny_pipeline_folder: Path, rows: np.ndarray
) -> None:
    options = {"pipeline": str(tiny_pipeline_folder), "kind": "latents"}
    path = write(tmp_path / "x.pkl", ganspace(rows))
    with pytest.raises(ArtifactError, match="not --kind latents"):
        convert(path, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(NUM_WS, W_DIM), (1, W_DIM)])
def test_a_direction_of_zeros(
    tmp_path: Path, tiny_pipeline_folder: Path, shape: tuple[int, int]
) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, "f4"))
    with pytest.raises(ArtifactError, match="moves nothing"):
        convert(
            tmp_path / "x.npy",
            tmp_path / "out",
            pipeline=str(tiny_pipeline_folder),
            kind="direction",
        )


def test_principal_components(tmp_path: Path, tiny_pipeline_folder: Path, rows: np.ndarray) -> None:
    """GANSpace's .npz, and the directions with which e4e and HyperStyle edit cars."""
    options = {"pipeline": str(tiny_pipeline_folder)}
    deviations = np.arange(NUM_WS, dtype="f4") + 1
    content = {"comp": rows[:, None], "std": deviations, "mean": rows[:1]}
    path = write(tmp_path / "cars_pca.pt", {n: torch.from_numpy(x) for n, x in content.items()})
    convert(path, tmp_path / "a", component=2, layers=(0, 5), **options)
    vector = load_edit(tmp_path / "a").vector.numpy()
    assert np.allclose(vector[:5], rows[2] * 3) and not vector[5:].any()
    np.savez(tmp_path / "x.npz", lat_comp=rows[:, None], lat_stdev=np.ones(NUM_WS, "f4"))
    with pytest.raises(ArtifactError, match="components in z"):
        convert(tmp_path / "x.npz", tmp_path / "none", **options)
    np.savez(tmp_path / "x.npz", lat_comp=rows[:, None])
    with pytest.raises(ArtifactError, match="lacks 'lat_stdev'"):
        convert(tmp_path / "x.npz", tmp_path / "none", **options)


def test_the_slider_of_a_boundary_is_measured(
    tmp_path: Path,
    tiny_pipeline: StyleEditPipeline,
    tiny_pipeline_folder: Path,
    rows: np.ndarray,
    capsys: pytest.CaptureFixture[str],
) -> None:
    unit = torch.nn.functional.normalize(torch.from_numpy(rows[:1]))
    path = write(tmp_path / "age_w_boundary.pt", unit)
    options = {"kind": "direction", "pipeline": str(tiny_pipeline_folder)}
    convert(path, tmp_path / "a", **options)
    assert "looks like one in z" in capsys.readouterr().out
    w = tiny_pipeline.sample(range(3000, 7000), truncation_psi=1.0).codes[:, 0]
    deviation = float((w @ unit[0]).std())
    strength = load_edit(tmp_path / "a").strength
    assert strength.default == pytest.approx(deviation, rel=0.1)
    assert strength.max == -strength.min == pytest.approx(3 * strength.default)
    convert(path, tmp_path / "b", space="w", strength_range=(-1.5, 0.5), **options)
    assert load_edit(tmp_path / "b").strength == Strength(0.5, -1.5, 0.5)
    assert "looks like" not in capsys.readouterr().out
    with pytest.raises(ArtifactError, match="direction in z"):
        convert(path, tmp_path / "none", space="z", **options)
    convert(write(tmp_path / "x.pt", 3 * unit), tmp_path / "c", **options)
    assert load_edit(tmp_path / "c").strength == Strength()


# ------------------------------------------------------------------ pipelines


def test_a_mapper_without_a_level_that_its_options_switch_on(tmp_path: Path) -> None:
    state = {
        f"mapper.{group}.mapping.{i}.{part}": torch.zeros(2, 2)
        for group in ("course_mapping", "medium_mapping")
        for i in range(1, 5)
        for part in ("weight", "bias")
    }
    content = {"state_dict": state, "opts": {"no_fine_mapper": True}}
    assert not describe_content(content).problems
    content["opts"] = argparse.Namespace(no_fine_mapper=False).__dict__
    assert "mapper.fine_mapping" in describe_content(content).problems[0]
    state["mapper.fine_mapping.odd"] = torch.zeros(2)
    content["opts"] = {}
    assert "mapper.fine_mapping.odd" in describe_content(content).problems[0]


@pytest.mark.parametrize("channels", [1, 4])
def test_pictures_that_are_not_rgb(
    tmp_path: Path, tiny_pipeline: StyleEditPipeline, tiny_pipeline_folder: Path, channels: int
) -> None:
    """They convert exactly, but a pipeline cannot be made from them."""
    generator = small(img_channels=channels)
    path = saved(tmp_path / "gray.pkl", nvidia(generator))
    assert convert(path, tmp_path / "alone") == "A generator"
    assert_same(StyleGAN2Generator.from_pretrained(tmp_path / "alone").eval(), generator)
    module = recipe("assemble_pipeline")
    config = module.Config(
        generator=str(path), clip=str(tiny_pipeline_folder), output=tmp_path / "out"
    )
    with pytest.raises(MismatchError) as error:
        module.assemble(config)
    assert str(path) in str(error.value) and (error.value.got, error.value.expected) == (
        channels,
        3,
    )
    assert not (tmp_path / "out").exists()
    clip = (tiny_pipeline.clip, tiny_pipeline.tokenizer, tiny_pipeline.image_processor)
    with pytest.raises(MismatchError):
        StyleEditPipeline(generator, *clip)


def test_labels_are_assembled(tmp_path: Path, tiny_pipeline_folder: Path) -> None:
    generator = small(c_dim=3, img_resolution=32, channels=[8, 8, 8, 8])
    path = saved(tmp_path / "net.pkl", nvidia(generator))
    module = recipe("assemble_pipeline")
    pipe = module.assemble(
        module.Config(generator=str(path), clip=str(tiny_pipeline_folder), label=2,
                      output=tmp_path / "out")
    )  # fmt: skip
    loaded = StyleEditPipeline.from_pretrained(tmp_path / "out")
    assert torch.allclose(loaded.sample(1).codes, pipe.sample(1, label=2).codes)
    assert "classes 0 to 2, of which 2" in (tmp_path / "out/README.md").read_text()
    assert (tmp_path / "out/images/samples.png").is_file()


# ------------------------------------------------------------------ --describe


def described(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    module = recipe("convert_checkpoint")
    module.main(module.Config(file=str(path), describe=True))
    return capsys.readouterr().out


def test_describe_names_every_tensor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = small()
    cases: dict[str, Any] = {
        "nvidia": nvidia(generator),
        "tensorflow": to_tensorflow(generator),
        "rosinality": {"g_ema": to_rosinality(generator), "latent_avg": generator.mapping.w_avg,
                       "d": {"convs.0": torch.zeros(2)}},
    }  # fmt: skip
    for kind, content in cases.items():
        path = tmp_path / kind
        if kind == "rosinality":
            torch.save(content, path)
        else:
            saved(path, content)
        before = sorted(tmp_path.iterdir())
        text = described(path, capsys)
        assert sorted(tmp_path.iterdir()) == before  # nothing is written
        assert "a generator" in text and "img_resolution: 16" in text
        for name in generator.state_dict():
            if not name.endswith("resample_filter"):
                assert re.search(rf"-> {re.escape(name)}$", text, re.M), (kind, name)
        assert "cannot be converted" not in text
    assert re.search(r"^  d\.convs\.0 \[2\] float32 +-> not used: d is another part", text, re.M)


def test_describe_of_what_cannot_be_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: np.ndarray
) -> None:
    state = to_rosinality(small())
    del state["convs.2.activate.bias"]
    state["odd"] = torch.zeros(3)
    torch.save({"g_ema": state}, tmp_path / "x")
    text = described(tmp_path / "x", capsys)
    assert "there is no 'g_ema.convs.2.activate.bias'" in text
    assert re.search(r"g_ema\.odd \[3\] float32 +-> not used: no network has a place for it", text)
    text = described(write(tmp_path / "x.pkl", ganspace(rows)), capsys)
    assert "a direction that GANSpace saved" in text and "layers: (3, 5)" in text
    text = described(write(tmp_path / "x.npy", rows), capsys)
    assert "--kind direction" in text and "the array [8x16] float32" in text
    text = described(write(tmp_path / "y.pt", {"lin0": torch.zeros(1, 4, 1, 1)}), capsys)
    assert "nothing that is known" in text and "lin0 [1x4x1x1]" in text
    (tmp_path / "z").write_bytes(LFS)
    with pytest.raises(SystemExit, match="Git LFS"):
        described(tmp_path / "z", capsys)


def test_a_report_has_all_arrays(tmp_path: Path) -> None:
    content = read_checkpoint(saved(tmp_path / "x", nvidia(small())))
    lines = "\n".join(report(content))
    for name, _ in arrays_in(content):
        assert f"  {name} [" in lines
    assert all(isinstance(x, Tensor | np.ndarray) for _, x in arrays_in(content))
