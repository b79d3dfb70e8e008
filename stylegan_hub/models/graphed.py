"""The synthesis network as a CUDA graph: hundreds of kernels with a single launch."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.ops.frozen import remembered

_WARM_UP = 3  # passes in which kernels are built, cuDNN chooses algorithms, memory is allocated


class Graphed:
    """Renders batches of one size on a GPU without launching every kernel separately.

    Kernel launches take most of the time for one small picture, and almost none of it for a large
    batch. The graph keeps the memory of a pass. Pictures are those of `generator.synthesis`.

    Args:
        generator: on a CUDA device. The graph keeps its present weights, device, precision and TF32
            settings, even if they change later.
        batch_size: number of pictures in a batch.
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
                f"Got a generator on {device}; CUDA graphs need one on an NVIDIA GPU. Move it with "
                'generator.to("cuda"), or call generator.synthesis(ws) instead.'
            )
        if noise_mode not in ("const", "none"):
            raise ValueError(f"Got noise_mode={noise_mode!r}; use const or none.")
        if batch_size < 1:
            raise ValueError(f"Got batch_size={batch_size}; give at least 1.")
        network = generator.synthesis
        self._ws = torch.zeros(
            batch_size, network.num_ws, network.w_dim, dtype=generator.dtype, device=device
        )
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.device(device):
            # Work that is done only once must not become part of the graph.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    network(self._ws, noise_mode)
            torch.cuda.current_stream().wait_stream(stream)
            # Other threads may use the GPU meanwhile; that is not captured, and not an error.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._images = network(self._ws, noise_mode)
        # The graph holds memory addresses, so the tensors there must not be freed.
        self._kept = [*generator.state_dict().values(), *remembered(network.parameters())]

    @torch.no_grad()
    def __call__(self, ws: Float[Tensor, "n num_ws w_dim"]) -> Float[Tensor, "n c h w"]:
        """Images of ws, without gradients; they are queued on the GPU's current stream.

        Raises:
            ValueError: ws have another shape than the graph.
        """
        if ws.shape != self._ws.shape:
            raise ValueError(
                f"Got ws of shape {tuple(ws.shape)}; this graph takes {tuple(self._ws.shape)}. "
                "Fill the batch up, or make another Graphed(generator, batch_size)."
            )
        with torch.cuda.device(self._ws.device):
            self._ws.copy_(ws)
            self._graph.replay()
            return self._images.clone()  # the next call overwrites the graph's own images
