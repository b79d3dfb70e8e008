"""torch.export and torch.compile can trace the synthesis network, with our kernel and without."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.ops import kernels, setup_filter, styled_conv

# PyTorch instantiates autograd functions when it traces them, and warns.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")

OPERATION = torch.ops.stylegan_hub.styled_conv.default


@pytest.fixture(params=["on", "off"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the kernel is used; if so, by small layers too."""
    monkeypatch.setenv(kernels.SWITCH, request.param)
    monkeypatch.setattr(styled_conv, "_LEAST_WORK", 10**5)
    if request.param == "on":
        skip_without_kernel()
    torch._dynamo.reset()
    counters.clear()
    return request.param == "on"


def skip_without_kernel() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", kernels.KernelWarning)
        problem = kernels.status(styled_conv.SOURCE).problem
    if problem:
        pytest.skip(f"The kernel cannot be built here: {problem}")


def with_noise(*channels: int) -> StyleGAN2Generator:
    generator = StyleGAN2Generator(
        8, 0, 8, 2 ** (len(channels) + 1), channels=channels, num_mapping_layers=1, conv_clamp=2.0
    )
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.constant_(parameter, 0.5)
    return generator.eval().requires_grad_(False)


@pytest.fixture
def generator() -> StyleGAN2Generator:
    """Three 3x3 layers and two toRGB layers, each of another shape."""
    return with_noise(64, 56)


@pytest.fixture
def deep() -> StyleGAN2Generator:
    """Seven 3x3 layers and four toRGB layers: more than PyTorch recompiles for one function."""
    return with_noise(64, 56, 48, 40)


def test_an_exported_program_draws_the_same(kernel: bool, generator: StyleGAN2Generator) -> None:
    ws = torch.randn(2, generator.num_ws, 8)
    shapes = {"ws": {0: torch.export.Dim("n")}}
    program = torch.export.export(generator.synthesis, (ws,), dynamic_shapes=shapes)
    in_graph = [node for node in program.graph.nodes if node.target == OPERATION]
    assert len(in_graph) == (3 if kernel else 0)  # all 3x3 layers
    run = program.module()
    for batch in (ws, torch.randn(5, generator.num_ws, 8)):
        torch.testing.assert_close(run(batch), generator.synthesis(batch), rtol=0, atol=1e-6)


def test_one_graph_however_many_layers_there_are(
    kernel: bool, generator: StyleGAN2Generator
) -> None:
    compiled = torch.compile(generator.synthesis, backend="aot_eager", fullgraph=True)
    for _ in range(2):
        ws = torch.randn(2, generator.num_ws, 8)
        found, wanted = (draw(ws) for draw in (compiled, generator.synthesis))
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    ws.requires_grad_()
    gradients = [
        torch.autograd.grad(draw(ws).square().sum(), ws)[0]
        for draw in (compiled, generator.synthesis)
    ]
    error = (gradients[0] - gradients[1]).norm() / gradients[1].norm()
    assert error < 1e-5
    assert counters["stats"]["unique_graphs"] == 2  # and one with gradients


def test_layers_compiled_alone_are_compiled_once_for_a_shape(
    kernel: bool, deep: StyleGAN2Generator
) -> None:
    ws = torch.randn(1, deep.num_ws, 8)
    wanted = deep.synthesis(ws)
    for layer in deep.synthesis.layers:
        layer.compile(backend="eager", fullgraph=True)
    for _ in range(2):
        torch.testing.assert_close(deep.synthesis(ws), wanted, rtol=0, atol=1e-6)
    assert counters["stats"]["unique_graphs"] <= len(deep.style_layout)
    assert not counters["recompile_limit"] and not counters["graph_break"]


# The operation


@pytest.mark.parametrize("up", [1, 2])
def test_the_operation_is_what_it_says_to_pytorch(up: int) -> None:
    skip_without_kernel()
    x = torch.randn(2, 20, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    styles = torch.randn(2, 20, requires_grad=True)
    scale = (torch.rand(2, 12) + 0.5).requires_grad_()
    weight, bias = torch.randn(12, 20, 3, 3), torch.randn(12)
    noise = torch.randn(8 * up, 8 * up)
    f = setup_filter((1, 3, 3, 1)) if up == 2 else None
    inputs = (x, styles, scale, weight, noise, bias, f, up, 0.2, 1.5)
    torch.library.opcheck(OPERATION, inputs)

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        return y, *torch.autograd.grad(y.square().sum(), (x, styles, scale))

    eager = styled_conv.styled_conv(
        *(x, weight, styles, scale, noise, bias), up=up, resample_filter=f, clamp=1.5
    )
    for one, other in zip(gradients(OPERATION(*inputs)), gradients(eager), strict=True):
        assert torch.equal(one, other)


def test_a_filter_that_the_kernel_does_not_know_is_refused() -> None:
    skip_without_kernel()
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    ones = torch.ones(1, 4)
    f = setup_filter((1, 2, 2, 1))
    with pytest.raises(ValueError, match=r"STYLEGAN_HUB_KERNELS=off"):
        OPERATION(x, ones, ones, weight, None, ones[0], f, 2, 0.2, -1.0)


def test_without_the_kernel_a_program_that_has_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(kernels.SWITCH, "off")
    x, weight = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
    ones = torch.ones(1, 4)
    with pytest.raises(RuntimeError, match=r"exported with the kernel styled_conv\.cpp needs"):
        OPERATION(x, ones, ones, weight, None, ones[0], None, 1, 0.2, -1.0)
