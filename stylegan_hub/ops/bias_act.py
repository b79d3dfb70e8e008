"""Bias, activation, gain and clamp in one call, as StyleGAN2 uses them after every layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

from jaxtyping import Float
from torch import Tensor, sigmoid, tanh
from torch.nn import functional as F

ActivationName = Literal[
    "linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"
]


class Activation(NamedTuple):
    """An activation with the gain that keeps the variance of its input, and its slope."""

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
        alpha: Negative slope, used by lrelu only. None: 0.2.
        gain: Factor after the activation. None: the activation's own, which is sqrt(2) for relu,
            lrelu and swish and 1 for the rest; pass 1 for none.
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
        x = x + bias.view([-1 if i == dim % x.ndim else 1 for i in range(x.ndim)])
    x = activation.function(x, activation.alpha if alpha is None else alpha)
    gain = activation.gain if gain is None else gain
    if gain != 1:
        x = x * gain
    return x if clamp is None else x.clamp(-clamp, clamp)
