"""Read the feature maps of a generator's layers, and join two renders into one.

A feature map is what a layer of the synthesis network returns, `[n, channels, h, w]`. Layers have
the names of `generator.style_layout`: `b16.conv0`, `b16.torgb`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.domain import Domain
from stylegan_hub.images import on_square
from stylegan_hub.latents import Latents

_TOUCHED = 0.1  # a mask value above this in a coarse cell marks the whole cell


def convolutions(domain: Domain) -> tuple[str, ...]:
    """Names of the generator's convolutions, in order; the k-th is driven by the k-th w."""
    return tuple(layer.name for layer in domain.generator.style_layout if not layer.is_to_rgb)


def draw_with_features(
    domain: Domain, latents: Latents, layers: Sequence[str]
) -> tuple[Float[Tensor, "n 3 h w"], dict[str, Tensor]]:
    """Pictures (not clamped) and the feature maps of these layers; differentiable."""
    features: dict[str, Tensor] = {}

    def keep(name: str, out: Tensor) -> None:
        features[name] = out

    with _watched(domain, layers, keep):
        return domain.synthesize(latents), features


def draw_over(
    domain: Domain,
    latents: Latents,
    features: Mapping[str, Tensor],
    mask: Float[Tensor, "n 1 h w"],
) -> tuple[Float[Tensor, "n 3 h w"], dict[str, Tensor]]:
    """Pictures that show the latents where the mask is 1, and the features where it is 0.

    Args:
        features: from `draw_with_features`, for the same number of pictures; these layers are
            joined.
        mask: in [0, 1], of any size.

    Returns:
        Pictures (not clamped), and the joined feature maps.
    """
    joined: dict[str, Tensor] = {}

    def join(name: str, out: Tensor) -> Tensor:
        below = features[name].to(out.dtype)
        joined[name] = below + _cells(mask, out.shape[2:]).to(out.dtype) * (out - below)
        return joined[name]

    with _watched(domain, tuple(features), join):
        return domain.synthesize(latents), joined


def at_size(mask: Float[Tensor, "n 1 h w"], size: Sequence[int]) -> Float[Tensor, "n 1 h2 w2"]:
    """A mask at another size, without aliasing.

    Layers render squares, and a picture may be only the middle of one; around it the mask is 0.
    """
    if size[0] == size[1]:
        mask = on_square(mask, value=0)
    if mask.shape[2:] == tuple(size):
        return mask
    return F.interpolate(mask, tuple(size), mode="bilinear", antialias=True)


def _cells(mask: Float[Tensor, "n 1 h w"], size: Sequence[int]) -> Float[Tensor, "n 1 h2 w2"]:
    """A mask for joining features at another size; every coarse cell that it touches counts fully.

    With partial cells, every layer would weaken the edit again, and thin things (the frame of
    glasses) would fade away.
    """
    if size[0] == size[1]:
        mask = on_square(mask, value=0)
    if size[0] >= mask.shape[2]:
        return at_size(mask, size)
    return (F.adaptive_max_pool2d(mask, tuple(size)) > _TOUCHED).to(mask)


@contextmanager
def _watched(
    domain: Domain,
    layers: Sequence[str],
    see: Callable[[str, Tensor], Tensor | None],
) -> Iterator[None]:
    """Call `see` with each layer's output; if `see` returns a tensor, that replaces the output."""
    known = [layer.name for layer in domain.generator.style_layout]
    if unknown := sorted(set(layers) - set(known)):
        raise ValueError(f"Unknown layers {', '.join(unknown)}; this generator has {known}.")
    handles = []
    try:
        for name in layers:

            def hook(
                module: torch.nn.Module, args: object, out: Tensor, name: str = name
            ) -> Tensor | None:
                return see(name, out)

            module = domain.generator.synthesis.get_submodule(name)
            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()
