"""The same picture again, a little changed: only what comes after the change is drawn anew."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.models.stylegan2 import DrawingState, StyleGAN2Generator


class Redrawing:
    """Draws pictures one after the other, each from the first layer whose styles have changed.

    For a slider: an edit that moves fine layers leaves the coarse ones as they are, whose features
    are kept from the time before. Pictures are those of `synthesis_from_styles`, bit for bit.

    Args:
        generator: its weights must not change meanwhile.
        noise_mode: const or none; random noise would be another picture.
    """

    def __init__(
        self, generator: StyleGAN2Generator, noise_mode: Literal["const", "none"] = "const"
    ) -> None:
        self.generator = generator
        self.noise_mode: Literal["const", "none"] = noise_mode
        self.layers_drawn = 0
        """How many layers the last picture took."""
        self._known: Tensor | None = None  # the last codes
        self._states: list[DrawingState] = []  # before each layer, and after the last one

    @torch.no_grad()
    def __call__(self, s: Float[Tensor, "n num_styles"]) -> Float[Tensor, "n c h w"]:
        """Pictures of style codes.

        Raises:
            ValueError: another size of the codes.
        """
        network = self.generator.synthesis
        if s.ndim != 2 or s.shape[1] != network.num_styles:
            raise ValueError(
                f"Got style codes of shape {tuple(s.shape)}; expected "
                f"[n, num_styles={network.num_styles}]. Make them with generator.styles(ws)."
            )
        first = self._first_change(s)
        states = self._states[: first + 1] or [DrawingState()]
        self._known, self._states = None, []  # should drawing fail, nothing is known
        for step, style in zip(network.steps[first:], network.split(s)[first:], strict=True):
            states.append(step(states[-1], style, self.noise_mode, None))
        self._known, self._states = s.clone(), states
        self.layers_drawn = len(network.style_layout) - first
        return network.finished(states[-1])

    def _first_change(self, s: Tensor) -> int:
        """Index of the first layer with other styles than the time before."""
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
