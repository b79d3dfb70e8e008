"""The synthesis network as a CUDA graph: hundreds of kernels, launched as one."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.ops.frozen import remembered

_WARM_UP = 3  # passes: kernels are built, cuDNN chooses, memory is there


class Graphed:
    """Draws batches of one size on a card, without the time that launching every kernel takes.

    That time is most of what one small picture takes, and nothing of a large batch. The graph keeps
    the memory of a pass. Pictures are those of `generator.synthesis`.

    Args:
        generator: on a CUDA device. Its weights, device, precision and TF32 settings are those of
            now, whatever becomes of them.
        batch_size: how many pictures at once.
        noise_mode: const or none.

    Raises:
        ValueError: a generator that is not on a CUDA device, another noise_mode or no batch size.
    """

    def __init__(
        self,
        generator: StyleGAN2Generator,
        batch_size: int,
        noise_mode: Literal["const", "none"] = "const",
    ) -> None:
        device = generator.mapping.w_avg.device
        if device.type != "cuda":
            raise ValueError(
                f"Got a generator on {device}; CUDA graphs need one on an NVIDIA card: "
                'generator.to("cuda"). Elsewhere call generator.synthesis(ws).'
            )
        if noise_mode not in ("const", "none"):
            raise ValueError(f"Got noise_mode={noise_mode!r}; a graph draws const or none.")
        if batch_size < 1:
            raise ValueError(f"Got batch_size={batch_size}; give at least 1.")
        network = generator.synthesis
        self._ws = torch.zeros(
            batch_size, network.num_ws, network.w_dim, dtype=generator.dtype, device=device
        )
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(device):
            # What happens once must not become a part of the graph.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    network(self._ws, noise_mode)
            torch.cuda.current_stream().wait_stream(stream)
            # What other threads do with the card meanwhile is no part of the graph, and no error.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._images = network(self._ws, noise_mode)
        # The graph holds addresses. What lies there must not be freed.
        self._kept = [*generator.state_dict().values(), *remembered(network.parameters())]

    @torch.no_grad()
    def __call__(self, ws: Float[Tensor, "n num_ws w_dim"]) -> Float[Tensor, "n c h w"]:
        """Images of ws, without gradients; on the card's current stream, not waited for.

        Raises:
            ValueError: another shape than the graph's.
        """
        if ws.shape != self._ws.shape:
            raise ValueError(
                f"Got ws of shape {tuple(ws.shape)}; this graph draws {tuple(self._ws.shape)}: "
                "fill the batch up, or make another Graphed(generator, batch_size)."
            )
        with torch.cuda.device(self._ws.device):
            self._ws.copy_(ws)
            self._graph.replay()
            return self._images.clone()  # the next call writes into the graph's own
