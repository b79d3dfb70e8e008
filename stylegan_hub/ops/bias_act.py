"""Bias, activation, gain and clamp in one call, as StyleGAN2 uses them after every layer.

On an NVIDIA GPU it is one kernel, `bias_act.cu`, which is differentiable twice. On other devices,
or if the kernel cannot be built, PyTorch's operations are used, which are differentiable any number
of times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from ctypes import CDLL, c_double, c_int, c_int64, c_void_p
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, sigmoid, tanh
from torch.nn import functional as F

from stylegan_hub.ops import cuda

ActivationName = Literal[
    "linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"
]

SOURCE = "bias_act.cu"


class Activation(NamedTuple):
    """An activation with the gain that keeps the variance of its input, and its default slope."""

    function: Callable[[Tensor, float], Tensor]
    gain: float = 1.0
    alpha: float = 0.0


ACTIVATIONS: dict[str, Activation] = {
    "linear": Activation(lambda x, _: x),
    "relu": Activation(lambda x, _: F.relu(x), gain=math.sqrt(2)),
    "lrelu": Activation(F.leaky_relu, gain=math.sqrt(2), alpha=0.2),
    "tanh": Activation(lambda x, _: tanh(x)),
    "sigmoid": Activation(lambda x, _: sigmoid(x)),
    "elu": Activation(lambda x, _: F.elu(x)),
    "selu": Activation(lambda x, _: F.selu(x)),
    "softplus": Activation(lambda x, _: F.softplus(x)),
    "swish": Activation(lambda x, _: F.silu(x), gain=math.sqrt(2)),
}


def bias_act(
    x: Float[Tensor, "*shape"],
    bias: Float[Tensor, " c"] | None = None,
    *,
    dim: int = 1,
    act: ActivationName = "linear",
    alpha: float | None = None,
    gain: float | None = None,
    clamp: float | None = None,
) -> Float[Tensor, "*shape"]:
    """`clamp(act(x + bias) * gain)`; x is not changed.

    Args:
        x: Any tensor.
        bias: One number for each index of dimension `dim`.
        act: Name of the activation.
        alpha: Negative slope, used only by lrelu. None: 0.2.
        gain: Factor after the activation. None: the activation's own, which is sqrt(2) for relu,
            lrelu and swish and 1 for the others; pass 1 for no gain.
        clamp: Limit of the absolute value after the gain, at least 0. None: no limit.

    Raises:
        ValueError: unknown activation, negative clamp, or a bias that does not fit.
    """
    if act not in ACTIVATIONS:
        raise ValueError(f"Unknown activation {act!r}; known ones: {', '.join(ACTIVATIONS)}.")
    if clamp is not None and clamp < 0:
        raise ValueError(f"Got clamp={clamp}; give a number of at least 0, or None for no limit.")
    activation = ACTIVATIONS[act]
    if bias is not None:
        if bias.shape != (x.shape[dim],):
            raise ValueError(
                f"Got a bias of shape {tuple(bias.shape)} for dimension {dim} of x with shape "
                f"{tuple(x.shape)}; expected ({x.shape[dim]},)."
            )
    alpha = activation.alpha if alpha is None else alpha
    gain = activation.gain if gain is None else gain
    # For different types, PyTorch's rules decide the type of the result.
    alike = x.ndim > 0 and (bias is None or (bias.dtype, bias.device) == (x.dtype, x.device))
    if alike and (library := cuda.library(SOURCE, x)) is not None:
        limit = -1.0 if clamp is None else float(clamp)
        call = _Call(library, list(ACTIVATIONS).index(act), dim % x.ndim, alpha, gain, limit)
        x = x.contiguous(memory_format=cuda.memory_format(x))
        y: Tensor = _BiasAct.apply(x, bias, call)
        return y
    if bias is not None:
        x = x + bias.view([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    x = activation.function(x, alpha)
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)


class _Call(NamedTuple):
    """The arguments of the kernel besides tensors."""

    library: CDLL
    act: int  # index in ACTIVATIONS, whose order is also that of the kernel
    dim: int
    alpha: float
    gain: float
    limit: float  # below 0: none

    def run(
        self, order: int, x: Tensor, bias: Tensor | None, dy: Tensor | None, ddx: Tensor | None
    ) -> Tensor:
        """The result or a derivative (see bias_act.cu), in the layout of x."""
        layout = cuda.memory_format(x)
        tensors = [None if t is None else t.contiguous(memory_format=layout) for t in (dy, ddx)]
        bias = None if bias is None else bias.contiguous()
        result = torch.empty_like(x)
        order_in_memory = [0, 2, 3, 1] if layout == torch.channels_last else list(range(x.ndim))
        faster = order_in_memory[order_in_memory.index(self.dim) + 1 :]
        cuda.launch(
            self.library,
            "bias_act",
            _ARGUMENTS,
            x,
            self.act,
            order,
            *(None if t is None else t.data_ptr() for t in (x, bias, *tensors, result)),
            x.numel(),
            math.prod(x.shape[axis] for axis in faster),
            x.shape[self.dim],
            self.alpha,
            self.gain,
            self.limit,
        )
        return result


_ARGUMENTS = [c_int] * 2 + [c_void_p] * 5 + [c_int64] * 3 + [c_double] * 3


class _BiasAct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, call: _Call) -> Tensor:
        ctx.save_for_backward(x, bias)
        ctx.call = call
        return call.run(0, x, bias, None, None)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, bias = ctx.saved_tensors
        gradient = _FirstDerivative.apply(dy, x, bias, ctx.call)
        return gradient, _of_bias(ctx.needs_input_grad[1], gradient, ctx.call), None


class _FirstDerivative(torch.autograd.Function):
    """The first derivative times dy; the gradient of bias is a sum over that of x."""

    @staticmethod
    def forward(ctx: Any, dy: Tensor, x: Tensor, bias: Tensor | None, call: _Call) -> Tensor:
        ctx.save_for_backward(dy, x, bias)
        ctx.call = call
        return call.run(1, x, bias, dy, None)

    @staticmethod
    def backward(ctx: Any, ddx: Tensor) -> tuple[Tensor | None, ...]:
        dy, x, bias = ctx.saved_tensors
        of_dy, of_x = None, None
        if ctx.needs_input_grad[0]:
            of_dy = _FirstDerivative.apply(ddx, x, bias, ctx.call)
        if any(ctx.needs_input_grad[1:3]):
            of_x = _SecondDerivative.apply(dy, ddx, x, bias, ctx.call)
        return of_dy, of_x, _of_bias(ctx.needs_input_grad[2], of_x, ctx.call), None


class _SecondDerivative(torch.autograd.Function):
    """The second derivative times dy and ddx."""

    @staticmethod
    def forward(
        ctx: Any, dy: Tensor, ddx: Tensor, x: Tensor, bias: Tensor | None, call: _Call
    ) -> Tensor:
        return call.run(2, x, bias, dy, ddx)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "The CUDA kernel of bias_act has two derivatives, but a third one was requested. Set "
            "STYLEGAN_HUB_KERNELS=off to use PyTorch's operations, which have any number."
        )


def _of_bias(needed: bool, gradient: Tensor | None, call: _Call) -> Tensor | None:
    if not needed or gradient is None:
        return None
    axes = [axis for axis in range(gradient.ndim) if axis != call.dim]
    return gradient.sum(axes) if axes else gradient
