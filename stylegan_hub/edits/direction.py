"""A direction: the same displacement for every latent.

Per-image optimization, essence vectors, local and global directions all produce a direction, so
whatever the method, the edit has an instant slider and is published the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from stylegan_hub.artifacts import BaseModel
from stylegan_hub.edits.base import Edit, Origin, Strength, register
from stylegan_hub.latents import Space


@register
class Direction(Edit):
    """One vector in w_plus `[num_ws, w_dim]` or in s `[num_styles]`.

    Raises:
        ValueError: the vector does not fit the generator's sizes.
    """

    kind: ClassVar[str] = "direction"
    summary: ClassVar[str] = (
        "A direction: the same displacement for every face, so its slider costs nothing."
    )

    def __init__(
        self,
        vector: Tensor,
        space: Space | str,
        base_model: BaseModel,
        strength: Strength | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(space, base_model, strength, origin)
        if tuple(vector.shape) != self._code_shape():
            raise ValueError(
                f"A direction in {self.space} of this generator has the shape "
                f"{list(self._code_shape())}; got {list(vector.shape)}."
            )
        self.vector = vector.detach().float().cpu()  # an edit is not bound to a device

    def delta(self, codes: Tensor) -> Tensor:
        """The vector, repeated for the batch."""
        return self.vector.to(codes).expand_as(codes)

    def tensors(self) -> dict[str, Tensor]:
        """The vector, by the name "vector"."""
        return {"vector": self.vector}

    @classmethod
    def from_parts(
        cls,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        space: Space,
        base_model: BaseModel,
        strength: Strength,
        origin: Origin,
    ) -> Self:
        """From the tensor `vector`."""
        return cls(tensors["vector"], space, base_model, strength, origin)

    @property
    def length(self) -> float:
        """Euclidean length of the vector."""
        return float(torch.linalg.vector_norm(self.vector))
