"""Render a slightly changed picture again, starting at the first layer that changed."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.models.stylegan2 import DrawingState, StyleGAN2Generator


class Redrawing:
    """Renders pictures one after the other, each from the first layer whose styles have changed.

    This is for sliders: an edit that moves fine layers leaves the coarse ones unchanged, and their
    features are kept from the previous picture. Pictures equal those of `synthesis_from_styles`,
    bit for bit.

    Args:
        generator: its weights must not change between pictures.
        noise_mode: const or none; random noise would change every layer.
    """

    def __init__(
        self, generator: StyleGAN2Generator, noise_mode: Literal["const", "none"] = "const"
    ) -> None:
        self.generator = generator
        self.noise_mode: Literal["const", "none"] = noise_mode
        self.layers_drawn = 0
        """Number of layers that were computed for the last picture."""
        self._known: Tensor | None = None  # the last codes
        self._states: list[DrawingState] = []  # before each layer, and after the last one

    @torch.no_grad()
    def __call__(self, s: Float[Tensor, "n num_styles"]) -> Float[Tensor, "n c h w"]:
        """Pictures of style codes.

        Raises:
            ValueError: the codes have another size than the generator's.
        """
        network = self.generator.synthesis
        if s.ndim != 2 or s.shape[1] != network.num_styles:
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={network.num_styles}]. Make them with generator.styles(ws)."
            )
        first = self._first_change(s)
        states = self._states[: first + 1] or [DrawingState()]
        self._known, self._states = None, []  # so that nothing is reused if rendering fails
        for step, style in zip(network.steps[first:], network.split(s)[first:], strict=True):
            states.append(step(states[-1], style, self.noise_mode, None))
        self._known, self._states = s.clone(), states
        self.layers_drawn = len(network.style_layout) - first
        return network.finished(states[-1])

    def _first_change(self, s: Tensor) -> int:
        """Index of the first layer whose styles differ from those of the previous picture."""
        known = self._known
        if known is None or (known.shape, known.dtype, known.device) != (
            s.shape,
            s.dtype,
            s.device,
        ):
            return 0
        layout = self.generator.synthesis.style_layout
        changed = (s != known).any(0)
        for index, layer in enumerate(layout):
            if bool(changed[layer.start : layer.stop].any()):
                return index
        return len(layout)
