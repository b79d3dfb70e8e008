"""The ops against reference numbers in float64, and their mathematical laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from stylegan_hub import ops

TOLERANCE = 1e-10


class Case(NamedTuple):
    args: dict[str, Any]
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]

    def moved(self, device: str) -> Case:
        inputs, outputs = (
            {name: tensor.to(device) for name, tensor in tensors.items()}
            for tensors in (self.inputs, self.outputs)
        )
        return Case(self.args, inputs, outputs)


def cases(file: Path) -> list[Case]:
    arrays = np.load(file)

    def tensors(entry: dict[str, Any], side: str) -> dict[str, Tensor]:
        names = entry["inputs" if side == "in" else "outputs"]
        return {n: torch.from_numpy(arrays[f"{entry['id']}.{side}.{n}"]) for n in names}

    return [
        Case(entry["args"], tensors(entry, "in"), tensors(entry, "out"))
        for entry in json.loads(bytes(arrays["meta_json"]))
    ]


def every(folders: list[Path], file: str) -> list[Case]:
    return [case for folder in folders for case in cases(folder / file)]


def check(y: Tensor, case: Case, variables: dict[str, Tensor]) -> None:
    """y and its gradients equal those of the case; dx, db, ... are gradients of x, b, ..."""
    torch.testing.assert_close(y, case.outputs["y"], rtol=0, atol=TOLERANCE)
    names = [name for name in case.outputs if name != "y"]
    if names:
        inputs = [variables[name[1:]] for name in names]
        gradients = torch.autograd.grad(y, inputs, case.inputs["gy"])
        for name, gradient in zip(names, gradients, strict=True):
            expected = case.outputs[name]
            torch.testing.assert_close(gradient, expected, rtol=0, atol=TOLERANCE)


def leaves(case: Case, *names: str) -> dict[str, Tensor]:
    return {n: case.inputs[n].requires_grad_() for n in names if n in case.inputs}


def test_bias_act_golden(tables: list[Path]) -> None:
    for case in every(tables, "op_bias_act.npz"):
        variables = leaves(case, "x", "b")
        check(ops.bias_act(variables["x"], variables.get("b"), **case.args), case, variables)


def test_upfirdn2d_golden(tables: list[Path]) -> None:
    for case in every(tables, "op_upfirdn2d.npz"):
        args = {name: value for name, value in case.args.items() if name not in ("func", "filter")}
        function = getattr(ops, case.args.get("func", "upfirdn2d"))
        variables = leaves(case, "x")
        check(function(variables["x"], case.inputs.get("f"), **args), case, variables)


def test_setup_filter_golden(tables: list[Path]) -> None:
    for case in every(tables, "op_setup_filter.npz"):
        args = dict(case.args)
        f = ops.setup_filter(args.pop("f"), **args)
        torch.testing.assert_close(f, case.outputs["f"], rtol=0, atol=1e-7)


def test_modulated_conv2d_golden(tables: list[Path]) -> None:
    for case in every(tables, "op_modulated_conv2d.npz"):
        variables = leaves(case, "x", "w", "s")
        up = case.args["up"]
        # The reference accepts either orientation of the kernel; ours uses that of the files.
        flip = case.args["flip_weight"] == (up > 1)
        y = ops.modulated_conv2d(
            variables["x"],
            variables["w"].flip(2, 3) if flip else variables["w"],
            variables["s"],
            noise=case.inputs.get("noise"),
            up=up,
            padding=case.args["padding"],
            resample_filter=case.inputs.get("f"),
            demodulate=case.args["demodulate"],
        )
        check(y, case, variables)


@pytest.mark.parametrize("up", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_modulated_conv2d_is_twice_differentiable(
    up: int, kernel: int, layout: torch.memory_format
) -> None:
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_()

    f = ops.setup_filter([1, 3, 3, 1])

    def layer(x: Tensor, weight: Tensor, styles: Tensor, noise: Tensor) -> Tensor:
        y = ops.modulated_conv2d(
            x.contiguous(memory_format=layout),
            weight,
            styles,
            noise=noise,
            up=up,
            padding=kernel // 2,
            resample_filter=f,
            gain=1.3,
        )
        return ops.bias_act(y, act="lrelu")

    inputs = (normal(2, 2, 3, 3), normal(2, 2, kernel, kernel), normal(2, 2))
    size = layer(*inputs, torch.zeros(())).shape[-1]
    noise = normal(size, size)
    assert gradcheck(layer, (*inputs, noise))
    assert gradgradcheck(layer, (*inputs, noise))


def test_gradients_of_colors_in_mixed_precision() -> None:
    x, styles = torch.randn(2, 16, 8, 12), torch.randn(2, 16)
    weight, direction = torch.randn(3, 16, 1, 1), torch.randn(2, 3, 8, 12)

    def gradients(enabled: bool) -> tuple[Tensor, ...]:
        leaves = [tensor.clone().requires_grad_() for tensor in (x, weight, styles)]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = ops.modulated_conv2d(*leaves, demodulate=False)
        assert y.dtype == (torch.bfloat16 if enabled else torch.float32)
        return torch.autograd.grad(y, leaves, direction.to(y.dtype))

    for mixed, full in zip(gradients(True), gradients(False), strict=True):
        assert mixed.dtype == torch.float32
        assert 0 < (mixed - full).norm() < 0.02 * full.norm()


def test_modulation_is_a_scale_of_the_weights() -> None:
    """The shared convolution equals the paper's convolution, which has weights for each sample."""
    x, weight, styles = torch.randn(3, 4, 5, 5), torch.randn(6, 4, 3, 3), torch.randn(3, 4)
    y = ops.modulated_conv2d(x, weight, styles, padding=1, gain=2.0)
    for i in range(3):
        own = weight * styles[i][None, :, None, None]
        own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = 2 * torch.nn.functional.conv2d(x[i : i + 1], own, padding=1)
        torch.testing.assert_close(y[i : i + 1], expected)


def test_demodulation_ignores_the_size_of_styles() -> None:
    x, weight, styles = torch.randn(2, 4, 5, 5), torch.randn(6, 4, 3, 3), torch.randn(2, 4)
    y = ops.modulated_conv2d(x, weight, styles, padding=1)
    torch.testing.assert_close(ops.modulated_conv2d(x, weight, 7 * styles, padding=1), y)
    plain = ops.modulated_conv2d(x, weight, styles, padding=1, demodulate=False)
    assert not torch.allclose(plain, y)


def test_half_precision_demodulation_does_not_overflow() -> None:
    x, weight, styles = torch.randn(1, 64, 4, 4), torch.randn(8, 64, 3, 3), torch.randn(1, 64)
    expected = ops.modulated_conv2d(x, weight, styles, padding=1)
    y = ops.modulated_conv2d(x.half(), 1000 * weight, 1000 * styles, padding=1)
    assert y.dtype == torch.float16
    torch.testing.assert_close(y.float(), expected, rtol=0, atol=0.03)


def test_ops_change_no_input() -> None:
    x, weight, styles = torch.randn(2, 3, 8, 8), torch.randn(3, 3, 1, 1), torch.randn(2, 3)
    f, bias = torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.randn(3)
    before = [t.clone() for t in (x, weight, styles, f, bias)]
    k = ops.setup_filter(f)
    ops.modulated_conv2d(x, weight, styles, noise=torch.ones(8, 8))
    ops.bias_act(x, bias)
    ops.bias_act(x, None, gain=1)
    ops.upsample2d(x, k)
    for old, new in zip(before, (x, weight, styles, f, bias), strict=True):
        assert torch.equal(old, new)


def test_resampling_keeps_constants_away_from_the_border() -> None:
    f = ops.setup_filter([1, 3, 3, 1])
    x = torch.full((1, 2, 8, 8), 0.7)
    for y in (ops.upsample2d(x, f), ops.downsample2d(x, f), ops.filter2d(x, f)):
        inner = y[:, :, 2:-2, 2:-2]
        torch.testing.assert_close(inner, torch.full_like(inner, 0.7))
    assert ops.upsample2d(x, f).shape[2:] == (16, 16)
    assert ops.downsample2d(x, f).shape[2:] == (4, 4)
    assert ops.filter2d(x, f).shape[2:] == (8, 8)


def test_upfirdn2d_is_linear_and_separable() -> None:
    row = ops.setup_filter([1, 2, 4], separable=True)
    assert row.ndim == 1
    a, b = torch.randn(2, 1, 3, 9, 7, dtype=torch.float64)
    args: dict[str, Any] = {"up": 2, "down": (1, 3), "padding": (2, -1, 3, 1), "gain": 1.7}
    both = ops.upfirdn2d(a + 2 * b, row, **args)
    sum_ = ops.upfirdn2d(a, row, **args) + 2 * ops.upfirdn2d(b, row, **args)
    torch.testing.assert_close(both, sum_)
    square = ops.setup_filter([1, 2, 4], separable=False).double()
    torch.testing.assert_close(ops.upfirdn2d(a, row, **args), ops.upfirdn2d(a, square, **args))


def test_errors_say_what_to_do() -> None:
    x = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"'gelu'; .*linear, relu"):
        ops.bias_act(x, act="gelu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"clamp=-1; give a number of at least 0"):
        ops.bias_act(x, clamp=-1)
    with pytest.raises(ValueError, match=r"bias of shape \(4,\).*expected \(3,\)"):
        ops.bias_act(x, torch.zeros(4))
    with pytest.raises(ValueError, match=r"x \(1, 3, 4, 4\).*styles \(1, 4\); expected"):
        ops.modulated_conv2d(x, torch.zeros(2, 3, 3, 3), torch.zeros(1, 4))
    with pytest.raises(ValueError, match="up=0; give a number of at least 1"):
        ops.upfirdn2d(x, None, up=0)
    with pytest.raises(ValueError, match=r"padding=\(1, 2, 3\); give a number"):
        ops.upfirdn2d(x, None, padding=(1, 2, 3))
    with pytest.raises(ValueError, match="4 x 4 samples for a filter of 5 x 5"):
        ops.upfirdn2d(x, torch.ones(5, 5))
    with pytest.raises(ValueError, match=r"taps of shape \(0,\)"):
        ops.setup_filter([])
    with pytest.raises(ValueError, match="give its row of taps"):
        ops.setup_filter([[1, 2], [3, 4]], separable=True)
