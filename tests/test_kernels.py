"""Our own kernels: the numbers of the plain path, and no harm if they cannot be built."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.ops import bias_act, kernels, modulated_conv2d, setup_filter
from stylegan_hub.ops.frozen import once, remembered
from stylegan_hub.ops.modulated_conv2d import demodulation, kernel_energy
from stylegan_hub.ops.styled_conv import SOURCE, serves, styled_conv

FILTER = setup_filter([1, 3, 3, 1])


@pytest.fixture
def compiled() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kernels.KernelWarning)
        problem = kernels.status(SOURCE).problem
    if problem:
        pytest.skip(f"The kernel cannot be built here: {problem}")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, no memory of earlier builds, and a source that compiles quickly."""
    (tmp_path / SOURCE).write_text('extern "C" int styled_conv() { return 0; }\n')
    monkeypatch.setattr(kernels, "_HERE", tmp_path)
    monkeypatch.setattr(kernels, "_states", {})
    monkeypatch.setenv(kernels.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    return tmp_path / "cache"


def inputs(n: int, c_in: int, c_out: int, h: int, w: int, seed: int = 0) -> SimpleNamespace:
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    return SimpleNamespace(
        x=random(n, c_in, h, w),
        weight=random(c_out, c_in, 3, 3),
        styles=random(n, c_in) + 1,
        bias=random(c_out),
        random=random,
    )


def plain(
    x: Tensor,
    weight: Tensor,
    styles: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    up: int,
    clamp: float | None,
) -> Tensor:
    y = modulated_conv2d(
        x, weight, styles, noise=noise, up=up, padding=1, resample_filter=FILTER.to(x)
    )
    return bias_act(y, bias, act="lrelu", gain=1, clamp=clamp)


CASES = {
    "odd channels": (2, 20, 37, 16, 16),
    "one tile": (1, 3, 5, 4, 4),
    "no square": (3, 18, 16, 8, 20),
    "no whole tiles": (2, 17, 33, 6, 10),
    "many tiles": (2, 40, 24, 48, 32),
    "many channels": (2, 288, 272, 8, 8),  # another path through memory
    "many channels and tiles": (6, 288, 272, 32, 36),  # in blocks
}


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_same_numbers_and_gradients_as_the_plain_path(case: str, up: int) -> None:
    n, c_in, c_out, h, w = CASES[case]
    given = inputs(n, c_in, c_out, h, w)
    clamp = 1.5 if case == "odd channels" else None
    shape = {"one tile": None, "no square": (n, 1, h * up, w * up)}.get(case, (h * up, w * up))
    noise = None if shape is None else given.random(*shape)
    x, styles = (tensor.requires_grad_() for tensor in (given.x, given.styles))
    scale = demodulation(styles, kernel_energy(given.weight))
    y = styled_conv(x, given.weight, styles, scale, noise, given.bias, up=up, clamp=clamp)

    exact = [None if t is None else t.detach().double() for t in (noise, given.bias)]
    doubles = [tensor.detach().double().requires_grad_() for tensor in (x, styles)]
    wanted = plain(doubles[0], given.weight.double(), doubles[1], *exact, up, clamp)
    assert y.shape == wanted.shape and y.is_contiguous(memory_format=torch.channels_last)
    assert (y - wanted).abs().max() < 2e-5 * wanted.abs().max()

    # If rounding decides between the branches of lrelu, gradients differ: those are left out.
    apart = wanted.detach().abs() > 1e-3
    if clamp is not None:
        apart &= (wanted.detach().abs() - clamp).abs() > 1e-3
        apart |= wanted.detach().abs() == clamp
    direction = given.random(*y.shape) * apart
    found = torch.autograd.grad(y, (x, styles), direction)
    expected = torch.autograd.grad(wanted, doubles, direction.double())
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() < 2e-5 * other.abs().max()


@pytest.mark.usefixtures("compiled")
def test_threads_do_not_change_a_bit() -> None:
    given = inputs(2, 40, 24, 40, 40)
    styles, x = given.styles.requires_grad_(), given.x.requires_grad_()
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            scale = demodulation(styles.detach(), kernel_energy(given.weight))
            y = styled_conv(x, given.weight, styles, scale, None, given.bias, up=2)
            results.append([y, *torch.autograd.grad(y.square().sum(), (x, styles))])
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.usefixtures("compiled")
def test_a_second_derivative_is_refused() -> None:
    given = inputs(1, 4, 4, 8, 8)
    x = given.x.requires_grad_()
    scale = demodulation(given.styles, kernel_energy(given.weight))
    y = styled_conv(x, given.weight, given.styles, scale, None, given.bias)
    (gradient,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.usefixtures("compiled")
def test_which_layers_it_serves() -> None:
    given = inputs(1, 64, 64, 64, 64)
    others = (None, given.bias)

    def asked(x: Tensor = given.x, weight: Tensor = given.weight, **changes: object) -> bool:
        arguments = {"up": 1, "resample_filter": FILTER, **changes}
        return serves(x, weight, arguments.pop("others", others), **arguments)  # type: ignore[arg-type]

    assert asked() and asked(up=2)
    assert not asked(x=given.x[:, :, :8, :8])  # too little work
    assert not asked(up=2, resample_filter=setup_filter([1, 1]))
    assert asked(resample_filter=setup_filter([1, 1]))  # has no effect without upsampling
    assert not asked(x=given.x.double(), weight=given.weight.double(), others=(None, None))
    assert not asked(weight=given.weight[:, :, :1, :1])
    assert not asked(x=given.x.to("meta"))
    trained = given.weight.clone().requires_grad_()
    assert not asked(weight=trained)
    assert not asked(others=(None, given.bias.clone().requires_grad_()))
    with torch.no_grad():
        assert asked(weight=trained)
    with torch.autocast("cpu", torch.bfloat16):
        assert not asked()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("noise_mode", ["const", "random", "none"])
def test_a_generator_draws_the_same(noise_mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        8, 0, 8, 64, channels=[48, 48, 48, 48, 48], num_mapping_layers=1, conv_clamp=2.0
    )
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    generator.eval().requires_grad_(False)
    ws = torch.randn(2, generator.num_ws, 8)
    used: list[bool] = []
    monkeypatch.setattr("stylegan_hub.ops.styled_conv._LEAST_WORK", 10**6)

    def drawn(switch: str) -> tuple[Tensor, Tensor]:
        monkeypatch.setenv(kernels.SWITCH, switch)
        given = ws.clone().requires_grad_()
        draw = torch.Generator().manual_seed(1)
        images = generator.synthesis(given, noise_mode, generator=draw)
        node, seen = [images.grad_fn], set()
        while node:
            each = node.pop()
            if each is not None and each not in seen:
                seen.add(each)
                node += [parent for parent, _ in each.next_functions]
        used.append(any("StyledConv" in type(each).__name__ for each in seen))
        return images, torch.autograd.grad(images.square().sum(), given)[0]

    (images, gradient), (wanted, wanted_gradient) = drawn("on"), drawn("off")
    assert used == [True, False]
    assert (images - wanted).abs().max() < 2e-5 * wanted.abs().max()
    error = (gradient - wanted_gradient).norm() / wanted_gradient.norm()
    assert error < 1e-3  # a few features lie between the branches of lrelu


def test_lengths_of_frozen_kernels_are_known_until_they_change() -> None:
    layer = torch.nn.Conv2d(4, 4, 3, bias=False).requires_grad_(False)

    def energy() -> Tensor:
        return once(kernel_energy, layer.weight)

    first = energy()
    assert energy() is first
    assert remembered([layer.weight]) == [first]
    layer.weight.mul_(2)
    assert torch.allclose(energy(), 4 * first)
    layer.weight.data = torch.ones_like(layer.weight)
    assert torch.allclose(energy(), torch.full((4, 4), 9.0))
    layer.weight.data.fill_(3)
    layer.double().float()
    assert torch.allclose(energy(), torch.full((4, 4), 81.0))
    layer.requires_grad_(True)
    assert energy().requires_grad


def test_what_is_known_of_a_weight_goes_with_it_and_serves_later_gradients() -> None:
    weight = torch.randn(4, 4, 3, 3)
    with torch.inference_mode():
        energy = once(kernel_energy, weight)
    styles = torch.randn(2, 4, requires_grad=True)
    demodulation(styles, once(kernel_energy, weight)).sum().backward()
    assert styles.grad is not None and once(kernel_energy, weight) is energy
    known = weakref.ref(energy)
    del energy, styles
    assert known() is not None
    del weight
    gc.collect()
    assert known() is None
    with torch.inference_mode():
        made_there = torch.ones(4, 4, 3, 3)
        once(kernel_energy, made_there)
        made_there.mul_(3)
        assert float(once(kernel_energy, made_there)[0, 0]) == 81


# Building


@pytest.mark.usefixtures("compiled")
def test_a_kernel_is_built_once(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = kernels.status(SOURCE)
    assert state.path is not None and state.path.parent == fresh and state.seconds > 0
    assert "Building styled_conv.cpp" in capsys.readouterr().err
    kernels._states.clear()
    assert kernels.status(SOURCE).seconds == 0  # from the cache
    assert not capsys.readouterr().err
    names = {state.path.name, state.path.with_suffix(".sha256").name}
    assert {path.name for path in fresh.iterdir()} == names


def test_without_a_compiler_one_warning_says_why(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.warns(kernels.KernelWarning) as caught:
        assert kernels.load(SOURCE) is None
    text = str(caught[0].message)
    assert "styled_conv.cpp could not be built, and PyTorch's slower operations" in text
    assert "/no/such/compiler" in text
    assert "apt-get install g++" in text and "STYLEGAN_HUB_KERNELS=off" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert kernels.load(SOURCE) is None  # once is enough
    assert list(fresh.iterdir()) == []  # nothing incomplete


def test_an_unwritable_cache_is_no_harm(fresh: Path) -> None:
    fresh.write_text("a file where the folder should be")
    with pytest.warns(kernels.KernelWarning, match="name another folder in STYLEGAN_HUB_CACHE"):
        assert kernels.load(SOURCE) is None


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
def test_a_damaged_library_is_not_loaded_and_built_again(fresh: Path) -> None:
    path = kernels.status(SOURCE).path
    assert path is not None
    data = path.read_bytes()
    half = data[: len(data) // 2]
    for damaged in (b"", half, half + bytes(len(half)), data + b"x"):
        path.unlink()  # the library of this process stays loaded
        path.write_bytes(damaged)
        with pytest.warns(kernels.KernelWarning, match="is damaged; it is built again"):
            assert kernels._opened(path) is None
    kernels._states.clear()
    with pytest.warns(kernels.KernelWarning) as caught:
        state = kernels.status(SOURCE)
    assert len(caught) == 1 and state.problem is None and state.seconds > 0
    path.with_suffix(".sha256").unlink()  # as an earlier version wrote it
    assert kernels._opened(path) is None


def test_a_compiler_that_hangs_is_stopped(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    hangs = f"import subprocess; subprocess.run(['sh', '-c', 'echo $$ > {pid}; exec sleep 600'])"
    monkeypatch.setattr(kernels, "_COMPILE", hangs)
    monkeypatch.setattr(kernels, "_BUILD_LIMIT", 3.0)
    with pytest.warns(kernels.KernelWarning, match="After 3 seconds the compiler was stopped"):
        assert kernels.load(SOURCE) is None
    assert list(fresh.iterdir()) == []
    with pytest.raises(ProcessLookupError):  # the processes that it started have ended too
        for _ in range(50):
            os.kill(int(pid.read_text()), 0)
            time.sleep(0.1)


def test_abandoned_builds_are_cleared(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = fresh / "build-old", fresh / "build-new"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / "lock").touch()
    long_ago = time.time() - 7200
    os.utime(old, (long_ago, long_ago))
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.warns(kernels.KernelWarning):
        kernels.load(SOURCE)
    assert not old.exists() and new.exists()  # another process may be using the new one


def test_switched_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.SWITCH, "OFF")
    assert kernels.load(SOURCE) is None
    assert kernels.status(SOURCE).problem == "switched off by STYLEGAN_HUB_KERNELS=off"
    assert not fresh.exists()


def test_another_source_gets_another_library(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = kernels._file_name(SOURCE)
    source = Path(kernels.__file__).with_name(SOURCE).read_text()
    (tmp_path / SOURCE).write_text(source + "// another one\n")
    monkeypatch.setattr(kernels, "_HERE", tmp_path)
    assert kernels._file_name(SOURCE) != first
    monkeypatch.setattr(torch, "__version__", "0.0.0")
    assert kernels._file_name(SOURCE) != first


def test_a_page_does_not_wait_for_the_compiler(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, is_built = ctypes.CDLL(None), threading.Event()
    built: list[str] = []

    def build(name: str) -> tuple[ctypes.CDLL, kernels.Status]:
        built.append(name)
        assert is_built.wait(60)
        return library, kernels.Status(fresh, 1.0, None)

    monkeypatch.setattr(kernels, "_load", build)
    monkeypatch.setattr(kernels, "_beside", None)
    kernels.build_beside()
    assert kernels.load(SOURCE) is None and kernels.load(SOURCE) is None
    is_built.set()
    assert kernels.status(SOURCE).seconds == 1.0  # whoever asks for the state waits for it
    assert kernels.load(SOURCE) is library and built == [SOURCE]


@pytest.mark.slow
@pytest.mark.usefixtures("compiled")
def test_processes_at_the_same_time(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another process has written in the meantime is simply replaced."""
    build: Callable[[str, Path], None] = kernels._build

    def beaten(name: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a library")
        build(name, path)

    monkeypatch.setattr(kernels, "_build", beaten)
    library = kernels.load(SOURCE)
    assert isinstance(library, ctypes.CDLL) and library.styled_conv
