"""The CUDA kernels: their sources compile, and compute the same as PyTorch's operations.

Every comparison runs twice: on a GPU (`-m gpu`), and without one, with the same sources compiled
for the CPU by means of `cuda_on_cpu.h`. The latter shows what the kernels compute, not how they are
launched.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import test_ops
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils import cpp_extension

from stylegan_hub import doctor, ops
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.ops import cuda, kernels, styled_conv_cuda
from stylegan_hub.ops.bias_act import ACTIVATIONS
from stylegan_hub.ops.modulated_conv2d import demodulation, kernel_energy
from stylegan_hub.ops.styled_conv_cuda import serves, styled_conv

FOLDER = Path(kernels.__file__).parent
STAND_INS = Path(__file__).with_name("cuda_on_cpu.h")
LAST = torch.channels_last
EMULATED = "-std=c++17 -O0 -fPIC -shared -fno-strict-aliasing -Wall -Wextra -Werror".split()
# Misaligned loads of 16 bytes, overflow and the like end the process.
EMULATED += "-Wno-unknown-pragmas -fsanitize=undefined -fsanitize-undefined-trap-on-error".split()


# What the kernels run on


@pytest.fixture(scope="session")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ctypes.CDLL]:
    """The sources, compiled for the CPU; once for all workers of pytest-xdist."""
    if (compiler := shutil.which("g++")) is None:
        pytest.skip("There is no g++ here to compile the CUDA sources for the CPU.")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    paths = {source: folder / f"{source}.so" for source in cuda.SOURCES}
    try:
        (folder / "building").mkdir()
    except FileExistsError:  # another worker is compiling it
        while not all(path.exists() for path in paths.values()):
            time.sleep(0.1)
            assert not (folder / "failed").exists(), "another worker could not compile"
    else:
        for source, path in paths.items():
            own = path.with_suffix(".part")
            command = [compiler, *EMULATED, "-include", STAND_INS, "-x", "c++", FOLDER / source]
            made = subprocess.run([*command, "-o", own], capture_output=True, text=True)
            if made.returncode:
                (folder / "failed").touch()
            assert made.returncode == 0, made.stderr
            own.rename(path)
    return {source: ctypes.CDLL(str(path)) for source, path in paths.items()}


class Machine(NamedTuple):
    device: str
    launched: list[str]
    """Names of the kernels that have run."""

    @contextmanager
    def without_kernels(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cuda, "library", lambda source, x: None)
            yield

    def close(self, found: Tensor, wanted: Tensor, tolerance: float) -> None:
        assert found.shape == wanted.shape
        error = (found.double() - wanted.double()).abs().max() if found.numel() else 0
        size = wanted.double().abs().max() if found.numel() else 0
        assert error <= tolerance * (1 + size)


@pytest.fixture(params=["emulated", pytest.param("cuda", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    launched: list[str] = []
    launch = cuda.launch

    def counted(library: ctypes.CDLL, name: str, types: Sequence[Any], *rest: Any) -> None:
        launched.append(name)
        launch(library, name, types, *rest)

    monkeypatch.setattr(cuda, "launch", counted)
    monkeypatch.setenv(kernels.SWITCH, "all")  # including the fused layer, which is off by default
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("There is no card here that PyTorch can use.")
        for source in cuda.SOURCES:
            assert kernels.status(source).problem is None
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        return Machine("cuda", launched)
    libraries = request.getfixturevalue("emulated")
    monkeypatch.setattr(
        cuda,
        "library",
        lambda source, x: libraries[source] if x.dtype in cuda.TYPES else None,
    )
    monkeypatch.setattr(cuda, "_stream", lambda x: nullcontext(0))
    return Machine("cpu", launched)


def random(machine: Machine, *shape: int, seed: int = 0, **options: Any) -> Tensor:
    """Normal numbers in double, or options' dtype, with NaN before and after them in memory.

    Options: dtype; layout; offset: elements by which memory is off from multiples of 16 bytes.
    """
    dtype, layout = options.get("dtype", torch.float64), options.get("layout")
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    if layout is not None:
        values = values.contiguous(memory_format=layout)
    edge = 64 + options.get("offset", 0)
    memory = torch.full((edge + values.numel() + 64,), torch.nan, dtype=dtype)
    inside = memory.as_strided(values.shape, values.stride(), edge)
    inside.copy_(values)
    whole = memory.to(machine.device)
    return whole.as_strided(values.shape, values.stride(), edge)


def derivatives(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], twice: bool = True
) -> list[Tensor]:
    """The result, its gradients, and the gradients of a sum of these."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    y = function(*leaves)
    draw = torch.Generator().manual_seed(9)

    def like(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=draw).to(x).requires_grad_()

    upstream = like(y)
    first = torch.autograd.grad(y, leaves, upstream, create_graph=twice)
    if not twice:
        return [y, *first]
    total = torch.stack([(one * like(one)).sum() for one in first]).sum()
    sources = [upstream, *leaves]
    second = torch.autograd.grad(total, sources, allow_unused=True, materialize_grads=True)
    return [y, *first, *second]


# bias_act


class Bias(NamedTuple):
    shape: tuple[int, ...]
    dim: int = 1
    layout: torch.memory_format | None = None
    offset: int = 0
    bias: bool = True
    options: Mapping[str, Any] = MappingProxyType({})


BIAS_CASES = {
    "rows": Bias((3, 5)),
    "pictures": Bias((2, 3, 5, 7)),
    "channels last": Bias((2, 24, 4, 4), layout=LAST),
    "channels last, odd": Bias((2, 5, 3, 4), layout=LAST),
    "last dimension": Bias((4, 3, 9), dim=-1),
    "first dimension": Bias((6, 4, 4), dim=0),
    "channels last, height": Bias((2, 3, 5, 4), dim=2, layout=LAST),
    "one dimension": Bias((37,), dim=0),
    "misaligned": Bias((2, 8, 4, 4), offset=1),
    "no samples": Bias((0, 3, 4, 4)),
    "one channel": Bias((3, 1, 4, 4), layout=LAST),
    "more than a block": Bias((3, 7, 31, 33)),
    "no bias": Bias((2, 3, 4, 5), bias=False),
    "clamp and gain": Bias((2, 8, 4, 4), options={"gain": 1.7, "clamp": 0.4}),
    "negative gain": Bias((2, 8, 4, 4), options={"gain": -0.5, "clamp": 0.3, "alpha": 0.1}),
    "clamp 0": Bias((2, 8, 4, 4), options={"clamp": 0}),
    "gain 0": Bias((2, 8, 4, 4), options={"gain": 0}),
}


def bias_inputs(case: Bias, machine: Machine, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    options = {"dtype": dtype, "offset": case.offset}
    inputs = [random(machine, *case.shape, layout=case.layout, **options)]
    if case.bias:
        inputs.append(random(machine, case.shape[case.dim], seed=1, **options))
    return inputs


@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("name", BIAS_CASES)
def test_bias_act_and_its_derivatives(name: str, act: str, machine: Machine) -> None:
    case = BIAS_CASES[name]

    def function(x: Tensor, bias: Tensor | None = None) -> Tensor:
        return ops.bias_act(x, bias, dim=case.dim, act=act, **case.options)  # type: ignore[arg-type]

    inputs = bias_inputs(case, machine)
    found = derivatives(function, inputs)
    assert {"bias_act"} == set(machine.launched)
    with machine.without_kernels():
        wanted = derivatives(function, inputs)
    for one, other in zip(found, wanted, strict=True):
        machine.close(one, other, 1e-12)
    layout = case.layout or torch.contiguous_format
    assert found[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("act", ["lrelu", "swish", "softplus"])
def test_bias_act_against_finite_differences(act: str, machine: Machine) -> None:
    x = random(machine, 2, 4, 3, 3, layout=LAST).requires_grad_()
    bias = random(machine, 4, seed=1).requires_grad_()

    def function(x: Tensor, bias: Tensor) -> Tensor:
        return ops.bias_act(x, bias, act=act, clamp=1.5)  # type: ignore[arg-type]

    assert gradcheck(function, (x, bias)) and gradgradcheck(function, (x, bias))
    assert machine.launched


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)]
)
@pytest.mark.parametrize("act", ACTIVATIONS)
@pytest.mark.parametrize("name", ["channels last", "channels last, odd", "misaligned", "pictures"])
def test_bias_act_in_other_types(
    name: str, act: str, dtype: torch.dtype, tolerance: float, machine: Machine
) -> None:
    def function(x: Tensor, bias: Tensor) -> Tensor:
        return ops.bias_act(x, bias, act=act, clamp=2.0)  # type: ignore[arg-type]

    inputs = bias_inputs(BIAS_CASES[name], machine, dtype)
    found = function(*inputs)
    (gradient,) = torch.autograd.grad(
        function(inputs[0].requires_grad_(), inputs[1]).sum(), inputs[0]
    )
    assert len(machine.launched) == 3 and found.dtype == gradient.dtype == dtype
    with machine.without_kernels():
        leaf = inputs[0].detach().double().requires_grad_()
        wanted = function(leaf, inputs[1].double())
        (wanted_gradient,) = torch.autograd.grad(wanted.sum(), leaf)
    machine.close(found, wanted, tolerance)
    machine.close(gradient, wanted_gradient, tolerance)


def test_bias_act_of_what_is_no_number(machine: Machine) -> None:
    x = torch.tensor([torch.nan, torch.inf, -torch.inf, 0.0, -0.0], device=machine.device)
    for act in ACTIVATIONS:
        for clamp in (None, 3.0):
            found = ops.bias_act(x, act=act, clamp=clamp)  # type: ignore[arg-type]
            with machine.without_kernels():
                wanted = ops.bias_act(x, act=act, clamp=clamp)  # type: ignore[arg-type]
            torch.testing.assert_close(found, wanted, equal_nan=True)


def test_a_third_derivative_is_refused(machine: Machine) -> None:
    x = random(machine, 4).requires_grad_()
    y = ops.bias_act(x, act="tanh")
    for _ in range(2):
        (y,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"has two derivatives, .* STYLEGAN_HUB_KERNELS=off"):
        torch.autograd.grad(y.sum(), x)


def test_what_bias_act_leaves_to_pytorch(machine: Machine) -> None:
    x = random(machine, 2, 3, dtype=torch.float32)
    bias = random(machine, 3)
    assert ops.bias_act(x.half(), bias.float()).dtype == torch.float32
    ops.bias_act(x.sum())
    ops.bias_act(x.to(torch.complex64))
    assert not machine.launched


# upfirdn2d


class Resample(NamedTuple):
    taps: Any
    shape: tuple[int, int, int, int] = (2, 3, 7, 6)
    options: Mapping[str, Any] = MappingProxyType({})
    layout: torch.memory_format | None = None
    separable: bool | None = None
    offset: int = 0


LINE, WIDE = [1, 3, 3, 1], [1, 2, 5, 9, 4, 3, 2, 1, 1]
FULL = [[1.0, 2.0, -3.0], [4.0, 0.5, 1.0]]
UPSAMPLE = {"up": 2, "padding": (2, 1, 2, 1), "gain": 4.0}
RESAMPLE_CASES = {
    "filter": Resample(LINE, options={"padding": 1}),
    "enlarge": Resample(LINE, options=UPSAMPLE),
    "shrink": Resample(LINE, options={"down": 2, "padding": 1}),
    "filter, channels last": Resample(LINE, (2, 8, 6, 5), {"padding": (2, 1, 1, 2)}, LAST),
    "enlarge, channels last": Resample(LINE, (2, 3, 6, 5), UPSAMPLE, LAST),
    "shrink, channels last": Resample(LINE, (1, 5, 9, 8), {"down": 2, "padding": 2}, LAST),
    "both": Resample(LINE, options={"up": 3, "down": 2, "padding": (3, 2, 1, 4), "gain": 1.3}),
    "axes apart": Resample(
        FULL, options={"up": (2, 3), "down": (3, 1), "padding": (2, 4, 1, 2), "flip_filter": True}
    ),
    "crop": Resample(LINE, options={"padding": (-1, 2, 1, -2)}),
    "crop more than is there": Resample(LINE, options={"padding": (-8, 9, -9, 12), "up": 2}),
    "separable": Resample(WIDE, options={"up": 2, "down": (1, 2), "padding": (5, 4, -1, 7)}),
    "separable, flipped": Resample(
        [1, 2, 4], options={"padding": 2, "flip_filter": True, "gain": 3.0}, separable=True
    ),
    "one tap": Resample([2.0], options={"down": (2, 3)}),
    "no filter": Resample(None, options={"up": 2, "padding": (0, 1, -1, 0), "gain": 2.0}),
    "no samples": Resample(LINE, (0, 3, 4, 4), UPSAMPLE),
    "misaligned": Resample(LINE, options=UPSAMPLE, offset=3),
    "more than a block": Resample(LINE, (2, 3, 33, 31), UPSAMPLE),
}


def resampling(case: Resample, machine: Machine) -> Callable[[Tensor], Tensor]:
    f = None
    if case.taps is not None:
        f = ops.setup_filter(case.taps, separable=case.separable).to(machine.device)
    return lambda x: ops.upfirdn2d(x, f, **case.options)


@pytest.mark.parametrize("name", RESAMPLE_CASES)
def test_upfirdn2d_and_its_derivatives(name: str, machine: Machine) -> None:
    case = RESAMPLE_CASES[name]
    function = resampling(case, machine)
    x = random(machine, *case.shape, layout=case.layout, offset=case.offset)
    found = derivatives(function, [x])
    assert {"upfirdn2d"} == set(machine.launched)
    with machine.without_kernels():
        wanted = derivatives(function, [x])
    for one, other in zip(found, wanted, strict=True):
        machine.close(one, other, 1e-12)
    assert found[0].is_contiguous(memory_format=case.layout or torch.contiguous_format)


@pytest.mark.parametrize("name", ["both", "separable", "enlarge, channels last"])
def test_upfirdn2d_against_finite_differences(name: str, machine: Machine) -> None:
    case = RESAMPLE_CASES[name]._replace(shape=(1, 2, 5, 4))
    x = random(machine, *case.shape, layout=case.layout).requires_grad_()
    function = resampling(case, machine)
    assert gradcheck(function, x) and gradgradcheck(function, x)
    assert machine.launched


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3), (torch.bfloat16, 8e-3)]
)
@pytest.mark.parametrize("name", ["enlarge", "shrink, channels last", "separable"])
def test_upfirdn2d_in_other_types(
    name: str, dtype: torch.dtype, tolerance: float, machine: Machine
) -> None:
    case = RESAMPLE_CASES[name]
    function = resampling(case, machine)
    x = random(machine, *case.shape, layout=case.layout, dtype=dtype)
    found = function(x)
    assert machine.launched and found.dtype == dtype
    with machine.without_kernels():
        machine.close(found, function(x.double()), tolerance)


def test_upfirdn2d_leaves_a_trained_filter_to_pytorch(machine: Machine) -> None:
    f = torch.ones(2, 2, device=machine.device, requires_grad=True)
    ops.upfirdn2d(random(machine, 1, 1, 4, 4, dtype=torch.float32), f).sum().backward()
    assert f.grad is not None and not machine.launched


def test_reference_numbers(tables: list[Path], machine: Machine) -> None:
    """Values and gradients of the reference implementation; test_ops.py uses more of them."""
    for case in test_ops.every(tables, "op_bias_act.npz"):
        given = case.moved(machine.device)
        variables = test_ops.leaves(given, "x", "b")
        y = ops.bias_act(variables["x"], variables.get("b"), **given.args)
        test_ops.check(y, given, variables)
    for case in test_ops.every(tables, "op_upfirdn2d.npz"):
        given = case.moved(machine.device)
        args = {name: value for name, value in case.args.items() if name not in ("func", "filter")}
        function = getattr(ops, case.args.get("func", "upfirdn2d"))
        variables = test_ops.leaves(given, "x")
        test_ops.check(function(variables["x"], given.inputs.get("f"), **args), given, variables)
    assert {"bias_act", "upfirdn2d"} == set(machine.launched)


# styled_conv


class Style(NamedTuple):
    sizes: tuple[int, int, int, int, int] = (2, 5, 6, 5, 4)  # n, c_in, c_out, h, w
    up: int = 1
    layout: torch.memory_format | None = None
    noise: str = "one"
    clamp: float | None = None
    taps: Any = (1, 3, 3, 1)


STYLE_CASES = {
    "same size": Style(),
    "doubled": Style(up=2),
    "channels last": Style((2, 8, 16, 4, 6), layout=LAST),
    "channels last, doubled": Style((2, 8, 16, 3, 5), 2, LAST),
    "channels last, odd": Style((2, 3, 7, 5, 3), 2, LAST),
    "own noise": Style(noise="own"),
    "own noise, doubled": Style((3, 4, 8, 3, 3), 2, LAST, "own"),
    "no noise": Style((2, 5, 4, 4, 4), noise="none"),
    "clamp": Style((2, 5, 8, 4, 4), clamp=0.7),
    "clamp, doubled": Style((2, 5, 8, 4, 4), 2, LAST, clamp=0.7),
    "one picture": Style((1, 3, 4, 8, 8), layout=LAST),
    "one picture, doubled": Style((1, 3, 4, 8, 8), 2),
    "another filter": Style(up=2, taps=(1, 2, 1)),
    "a crooked filter": Style((2, 4, 8, 3, 4), 2, LAST, taps=(1, 2, 5, 3)),
    "no samples": Style((0, 4, 4, 4, 4), 2),
    "more than a group": Style((2, 3, 8, 17, 16), layout=LAST),
    "more than a group, contiguous": Style((2, 3, 5, 12, 10), 2),
}


class StyleInputs(NamedTuple):
    x: Tensor
    styles: Tensor
    weight: Tensor
    noise: Tensor | None
    bias: Tensor
    f: Tensor


def style_inputs(case: Style, machine: Machine, dtype: torch.dtype = torch.float64) -> StyleInputs:
    n, c_in, c_out, h, w = case.sizes
    size = (h * case.up, w * case.up)
    noises = {"one": size, "own": (n, 1, *size), "none": None}
    shape = noises[case.noise]
    return StyleInputs(
        random(machine, n, c_in, h, w, layout=case.layout, dtype=dtype),
        random(machine, n, c_in, seed=1) + 1,
        random(machine, c_out, c_in, 3, 3, seed=2),
        None if shape is None else random(machine, *shape, seed=3),
        random(machine, c_out, seed=4),
        ops.setup_filter(case.taps).to(machine.device),
    )


def styled(case: Style, given: StyleInputs, x: Tensor, styles: Tensor, scale: Tensor) -> Tensor:
    return styled_conv(
        x, given.weight, styles, scale, given.noise, given.bias,
        up=case.up, resample_filter=given.f, clamp=case.clamp,
    )  # fmt: skip


def plainly_styled(
    case: Style, given: StyleInputs, x: Tensor, styles: Tensor, scale: Tensor
) -> Tensor:
    y = ops.modulated_conv2d(
        x, given.weight, styles, up=case.up, padding=1, resample_filter=given.f, demodulate=False
    )
    y = y * scale[:, :, None, None]
    y = y if given.noise is None else y + given.noise
    return ops.bias_act(y, given.bias, act="lrelu", gain=1, clamp=case.clamp)


@pytest.mark.parametrize("name", STYLE_CASES)
def test_styled_conv_and_its_gradients(name: str, machine: Machine) -> None:
    case = STYLE_CASES[name]
    given = style_inputs(case, machine)
    scale = demodulation(given.styles, kernel_energy(given.weight))
    variables = [given.x, given.styles, scale]
    assert serves(
        given.x, given.weight, (given.noise, given.bias), up=case.up, resample_filter=given.f
    )
    found = derivatives(lambda *inputs: styled(case, given, *inputs), variables, twice=False)
    last = "styled_conv_filter" if len(case.taps) == 4 and case.up == 2 else "styled_conv_finish"
    assert {last, "styled_conv_backward"} <= set(machine.launched)
    with torch.no_grad():  # without gradients, the weights of one picture may be modulated
        again = styled(case, given, *variables)
    with machine.without_kernels():
        wanted = derivatives(
            lambda *inputs: plainly_styled(case, given, *inputs), variables, twice=False
        )
    for one, other in zip([*found, again], [*wanted, wanted[0]], strict=True):
        machine.close(one, other, 1e-12)
    assert found[0].is_contiguous(memory_format=case.layout or torch.contiguous_format)


@pytest.mark.parametrize("layout", [torch.contiguous_format, LAST])
def test_styled_conv_takes_gradients_as_they_lie(
    layout: torch.memory_format, machine: Machine
) -> None:
    case = Style((2, 4, 8, 4, 4), layout=layout)
    given = style_inputs(case, machine)
    scale = random(machine, 2, 8, seed=6).requires_grad_()
    y = styled(case, given, given.x, given.styles, scale)
    values = random(machine, *y.shape)
    misaligned = random(machine, *y.shape, layout=layout, offset=1)
    other = values.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    for upstream in (values, misaligned, other, values[:1, :1].expand_as(y)):
        (found,) = torch.autograd.grad(y, scale, upstream, retain_graph=True)
        (wanted,) = torch.autograd.grad(y, scale, upstream.clone(), retain_graph=True)
        machine.close(found, wanted, 1e-14)
        assert found.abs().min() > 0


@pytest.mark.parametrize("name", ["clamp", "channels last, doubled", "own noise"])
def test_styled_conv_against_finite_differences(name: str, machine: Machine) -> None:
    case = STYLE_CASES[name]._replace(sizes=(2, 2, 2, 3, 3))
    given = style_inputs(case, machine)
    inputs = (given.x, given.styles, random(machine, 2, 2, seed=7).abs() + 0.5)
    for tensor in inputs:
        tensor.requires_grad_()
    assert gradcheck(lambda *inputs: styled(case, given, *inputs), inputs)
    y = styled(case, given, *inputs)
    (gradient,) = torch.autograd.grad(y.square().sum(), given.x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.float16, 3e-3), (torch.bfloat16, 2e-2)]
)
@pytest.mark.parametrize("name", ["same size", "channels last, doubled", "one picture", "clamp"])
def test_styled_conv_in_other_types(
    name: str, dtype: torch.dtype, tolerance: float, machine: Machine
) -> None:
    case = STYLE_CASES[name]
    exact = style_inputs(case, machine, dtype)
    exact = exact._replace(weight=exact.weight / 8)  # sums of about 1
    given = StyleInputs(*(None if t is None else t.to(dtype) for t in exact))
    scale = demodulation(exact.styles, kernel_energy(exact.weight))
    found = styled(case, given, given.x, given.styles, scale.float())
    assert machine.launched and found.dtype == dtype
    with machine.without_kernels():
        wanted = plainly_styled(case, exact, exact.x.double(), exact.styles, scale)
    machine.close(found, wanted, tolerance)


def test_a_generator_draws_the_same(machine: Machine) -> None:
    generator = tiny_generator().to(machine.device)
    ws = torch.randn(2, generator.num_ws, 8, generator=torch.Generator().manual_seed(0))

    def drawn(ws: Tensor) -> Tensor:
        return generator.synthesis(ws)

    found = derivatives(drawn, [ws.to(machine.device)], twice=False)
    assert {"upfirdn2d", "bias_act", "styled_conv_finish", "styled_conv_filter"} <= set(
        machine.launched
    )
    with machine.without_kernels(), pytest.MonkeyPatch.context() as patch:
        patch.setenv(kernels.SWITCH, "off")
        wanted = derivatives(drawn, [ws.to(machine.device)], twice=False)
    for one, other in zip(found, wanted, strict=True):
        machine.close(one, other, 1e-10)


def test_a_trained_generator_has_the_same_derivatives(machine: Machine) -> None:
    """Including second derivatives, which path length regularization needs."""
    generator = tiny_generator().to(machine.device).requires_grad_(True)
    ws = torch.randn(2, generator.num_ws, 8, generator=torch.Generator().manual_seed(0))
    names = ("synthesis.b8.conv0.weight", "synthesis.b16.conv1.bias")

    def drawn(ws: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        inputs = dict(zip(names, (weight, bias), strict=True))
        own = {f"0.{name}": value for name, value in inputs.items()}
        return torch.func.functional_call(Drawing(generator), own, (ws,))

    inputs = [ws.to(machine.device), *(generator.get_parameter(name) for name in names)]
    found = derivatives(drawn, inputs)
    assert "upfirdn2d" in machine.launched and "styled_conv_finish" not in machine.launched
    with machine.without_kernels():
        wanted = derivatives(drawn, inputs)
    for one, other in zip(found, wanted, strict=True):
        machine.close(one, other, 1e-10)


class Drawing(torch.nn.Sequential):
    def forward(self, ws: Tensor) -> Tensor:
        generator = self[0]
        assert isinstance(generator, StyleGAN2Generator)
        return generator.synthesis(ws)


def tiny_generator() -> StyleGAN2Generator:
    torch.manual_seed(0)
    generator = StyleGAN2Generator(
        8, 0, 8, 32, channels=[16, 16, 8, 8], num_mapping_layers=1, conv_clamp=2.0
    )
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    return generator.eval().requires_grad_(False).double()


# On a card only


@pytest.fixture
def card() -> str:
    if not torch.cuda.is_available():
        pytest.skip("There is no card here that PyTorch can use.")
    return "cuda"


@pytest.mark.gpu
@pytest.mark.parametrize("num_fp16_res", [2, 4])
def test_half_precision_draws_nearly_the_same(card: str, num_fp16_res: int) -> None:
    generator = tiny_generator().float().to(card)
    ws = torch.randn(3, generator.num_ws, 8, device=card)
    wanted = generator.synthesis(ws)
    generator.use_half_precision(num_fp16_res)
    found = generator.synthesis(ws)
    assert found.dtype == torch.float32 and not torch.equal(found, wanted)
    assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()


@pytest.mark.gpu
def test_kernels_run_on_the_current_stream(card: str) -> None:
    """On another stream it would read old memory before the current stream has filled it."""
    x = torch.zeros(64, 1024, 1024, device=card)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        x.fill_(1)
        total = ops.bias_act(x, act="linear", gain=2.0).sum(dtype=torch.float64)
    stream.synchronize()
    assert float(total) == 2 * x.numel()


@pytest.mark.gpu
def test_more_elements_than_32_bits_count(card: str) -> None:
    if torch.cuda.mem_get_info()[0] < 14e9:
        pytest.skip("Needs 14 GB of a card's memory.")
    x = torch.zeros(2**31 + 24, dtype=torch.float16, device=card)
    x[-1] = 3
    y = ops.bias_act(x, act="lrelu", gain=1)
    assert float(y[-1]) == 3 and float(y[-2]) == 0


@pytest.mark.gpu
def test_a_failed_launch_says_what_to_do(card: str) -> None:
    x = torch.ones(4, device=card)
    library = kernels.load("bias_act.cu")
    assert library is not None
    with pytest.raises(RuntimeError, match=r"bias_act failed for float32 .* invalid argument"):
        call_with_a_wrong_number(library, x)


def call_with_a_wrong_number(library: ctypes.CDLL, x: Tensor) -> None:
    from stylegan_hub.ops.bias_act import _ARGUMENTS

    pointers = [x.data_ptr(), None, None, None, x.data_ptr()]
    cuda.launch(library, "bias_act", _ARGUMENTS, x, 99, 0, *pointers, 4, 1, 4, 0.2, 1.0, -1.0)


# Building


def find_nvcc() -> Path | None:
    homes = [cpp_extension.CUDA_HOME, *sorted(Path("/usr/local").glob("cuda-*"), reverse=True)]
    found = (Path(home, "bin", "nvcc") for home in homes if home is not None)
    return next((path for path in found if path.is_file()), None)


@pytest.mark.slow
@pytest.mark.parametrize("capability", ["80", "90"])
@pytest.mark.parametrize("source", ["bias_act.cu", "upfirdn2d.cu", "styled_conv.cu"])
def test_the_sources_compile_without_warnings(source: str, capability: str, tmp_path: Path) -> None:
    nvcc = find_nvcc()
    if nvcc is None:
        pytest.skip("There is no nvcc here, neither in CUDA_HOME nor in /usr/local/cuda-*.")
    target = tmp_path / "kernel.o"
    flags = ["-std=c++17", "-O3", f"-gencode=arch=compute_{capability},code=sm_{capability}"]
    flags += ["-Werror", "all-warnings", "-Xcompiler", "-fPIC,-Wall,-Wextra"]
    flags += [flag for flag in cpp_extension.COMMON_NVCC_FLAGS if flag.startswith("-D")]
    made = subprocess.run(
        [nvcc, *flags, "-c", FOLDER / source, "-o", target], capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert target.stat().st_size > 10_000


def test_a_failed_launch_is_an_error(
    emulated: dict[str, ctypes.CDLL], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "_stream", lambda x: nullcontext(0))
    with pytest.raises(RuntimeError) as caught:
        call_with_a_wrong_number(emulated["bias_act.cu"], torch.ones(4))
    text = str(caught.value)
    assert text.startswith("The CUDA kernel bias_act failed for float32 of shape (4,) on cpu:")
    assert "invalid argument (error 1)" in text and "STYLEGAN_HUB_KERNELS=off" in text


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with a GPU and PyTorch for CUDA 13.0; the folder is its CUDA_HOME, empty."""
    monkeypatch.setattr(kernels, "_states", {})
    monkeypatch.setenv(kernels.CACHE, str(tmp_path / "cache"))
    monkeypatch.delenv(kernels.SWITCH, raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    cards = [(9, 0), (8, 6), (9, 0)]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: cards[index])
    monkeypatch.setattr(cpp_extension, "CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.setattr(cuda, "library", lambda source, x: kernels.load(source))
    return tmp_path / "cuda"


def pretend_nvcc(home: Path, release: str) -> None:
    (home / "bin").mkdir(parents=True)
    nvcc = home / "bin" / "nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {release}, V{release}.1'\n")
    nvcc.chmod(0o755)


def warned(function: Callable[[], Tensor], wanted: Tensor) -> str:
    """The one warning of two calls, whose results are those of PyTorch's operations."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert torch.equal(function(), wanted) and torch.equal(function(), wanted)
    assert [each.category for each in caught] == [kernels.KernelWarning]
    return str(caught[0].message)


@pytest.mark.parametrize(
    ("home", "release", "reason"),
    [
        (None, None, "There is no CUDA toolkit: CUDA_HOME is not set."),
        ("cuda", None, "There is no CUDA toolkit in .*/cuda: no bin/nvcc."),
        ("cuda", "12.4", ".*/bin/nvcc belongs to CUDA 12.4."),
    ],
)
def test_without_a_toolkit_that_fits_one_warning_says_which(
    home: str | None,
    release: str | None,
    reason: str,
    pretended: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if home is None:
        monkeypatch.setattr(cpp_extension, "CUDA_HOME", None)
    if release is not None:
        pretend_nvcc(pretended, release)
    x = torch.randn(2, 3)
    text = warned(lambda: ops.bias_act(x, act="relu", gain=1), x.relu())
    begin = "The kernel bias_act.cu could not be built, and PyTorch's slower operations"
    assert text.startswith(begin) and "STYLEGAN_HUB_KERNELS=off" in text
    assert re.search(reason + " Install the CUDA toolkit 13.0, which fits PyTorch", text)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("#error -- unsupported GNU version! gcc versions", "nvcc needs an older g++"),
        ("nvcc fatal   : Unsupported gpu architecture 'compute_120'", "nvcc is too old or too new"),
        ("/usr/bin/ld: cannot find -lcudart: No such file", "The CUDA toolkit is incomplete"),
        ("ninja: error", "for CUDA kernels also the CUDA toolkit of PyTorch's version"),
    ],
)
def test_what_compilers_say_is_explained(
    said: str, remedy: str, pretended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_nvcc(pretended, "13.1")  # another minor version does no harm

    def fails(**options: object) -> None:
        raise RuntimeError("Error building extension: [1/2] " + said)

    monkeypatch.setattr(kernels, "_compile", fails)
    x = torch.randn(1, 1, 4, 4)
    text = warned(lambda: ops.upfirdn2d(x, None), x)
    assert said in text and remedy in text


def test_a_library_is_for_the_cards_of_the_machine(
    pretended: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert kernels._flags("bias_act.cu")[1:] == [
        "-gencode=arch=compute_86,code=sm_86", "-gencode=arch=compute_90,code=sm_90",
    ]  # fmt: skip
    first = kernels._file_name("bias_act.cu")
    monkeypatch.setattr(torch, "__version__", "0.0.0")
    assert kernels._file_name("bias_act.cu") == first  # nothing of PyTorch is in it
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (8, 0))
    assert kernels._file_name("bias_act.cu") != first
    monkeypatch.undo()
    for path in FOLDER.glob("*.cu*"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(kernels, "_HERE", tmp_path)
    before = kernels._file_name("bias_act.cu")
    with open(tmp_path / "kernels.cuh", "a") as header:
        header.write("// another one\n")
    assert kernels._file_name("bias_act.cu") != before


def test_the_doctor_says_what_a_card_has(pretended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kernels.SWITCH, "off")
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["nvcc"].answer == "no suitable one: the CUDA kernels cannot be built"
    assert "Install the CUDA toolkit 13.0" in (found["nvcc"].remedy or "")
    for source in cuda.SOURCES:
        answer = "not used: it needs an NVIDIA GPU (see GPU)"
        if source == styled_conv_cuda.SOURCE:
            answer = f"off: it has not been tested on a GPU; {kernels.SWITCH}=all enables it"
        assert found[f"kernel {source}"].answer == answer

    pretend_nvcc(pretended, "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91200)
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["nvcc"].answer == f"{pretended}/bin/nvcc, CUDA 13.0"
    assert found["GPU"].answer == (
        "A card (compute capability 9.0), PyTorch for CUDA 13.0, cuDNN 91200, "
        "TF32 for convolutions on, TF32 for matrices off"
    )
    for source in set(cuda.SOURCES) - {styled_conv_cuda.SOURCE}:
        assert found[f"kernel {source}"].remedy == "switched off by STYLEGAN_HUB_KERNELS=off"


def test_nothing_is_built_for_a_cpu(pretended: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    before = dict(kernels._states)
    ops.bias_act(torch.randn(2, 3), act="lrelu")
    ops.upfirdn2d(torch.randn(1, 1, 4, 4), None)
    assert not any(name.endswith(".cu") for name in kernels._states.keys() - before.keys())
