"""An instant edit: one displacement for all faces, scaled by the amount that each face needs.

A linear map reads from a face's latent how much of the requested trait it already has, on the scale
of `methods/level.py`. A face that lacks it is moved in full; a face that has it is hardly moved.
`methods/instant.py` finds the displacement.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from jaxtyping import Float
from torch import Tensor

from stylegan_hub.artifacts import BaseModel
from stylegan_hub.bounds import MAX_WEIGHT, is_within
from stylegan_hub.edits.base import Edit, Origin, Strength, register
from stylegan_hub.latents import Space

LEAST, MOST = 0.25, 1.5
"""Bounds of the amount. It is never 0, so the slider always has a visible effect."""


@register
class InstantEdit(Edit):
    """`delta(codes) = amount(codes) * vector`, in w_plus.

    The amount is `goal - (mean of codes over layers) @ reading`, at least `LEAST`, at most `MOST`.

    Args:
        vector: the displacement, `[num_ws, w_dim]`.
        reading: `[w_dim]`.
        goal: the amount at codes of 0.

    Raises:
        ValueError: the sizes do not fit the generator, or the goal is out of bounds.
    """

    kind: ClassVar[str] = "instant"
    summary: ClassVar[str] = (
        "An instant edit: one displacement for all faces, scaled by the amount that each face "
        "needs."
    )

    def __init__(
        self,
        vector: Float[Tensor, "num_ws w_dim"],
        reading: Float[Tensor, " w_dim"],
        goal: float,
        base_model: BaseModel,
        strength: Strength | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(Space.W_PLUS, base_model, strength, origin)
        wanted = {"vector": self._code_shape(), "reading": (base_model.w_dim,)}
        for name, tensor in (("vector", vector), ("reading", reading)):
            if tuple(tensor.shape) != wanted[name]:
                raise ValueError(
                    f"The {name} of an instant edit for this generator has the shape "
                    f"{list(wanted[name])}; got {list(tensor.shape)}."
                )
        # An edit is not bound to a device.
        self.vector, self.reading = vector.detach().float().cpu(), reading.detach().float().cpu()
        if not is_within(goal, MAX_WEIGHT):
            raise ValueError(
                f"Got goal {goal!r}; expected a number from -{MAX_WEIGHT:g} to {MAX_WEIGHT:g}."
            )
        self.goal = float(goal)

    def amount(self, codes: Float[Tensor, "n num_ws w_dim"]) -> Float[Tensor, " n"]:
        """How much of the displacement each face needs, from `LEAST` to `MOST`."""
        standing = codes.float().mean(1) @ self.reading.to(codes.device)
        return (self.goal - standing).clamp(LEAST, MOST)

    def delta(self, codes: Tensor) -> Tensor:
        """The displacement, scaled by the amount that each face needs."""
        return self.amount(codes)[:, None, None] * self.vector.to(codes.device)

    def tensors(self) -> dict[str, Tensor]:
        """The displacement and the map that reads how much of the trait a face has."""
        return {"vector": self.vector, "reading": self.reading}

    def extra_config(self) -> dict[str, Any]:
        """The amount at codes of 0."""
        return {"goal": self.goal}

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
        """From what `tensors` and `extra_config` returned.

        Raises:
            ValueError: the space is another one, or the goal is no number within the bounds.
        """
        if space is not Space.W_PLUS:
            raise ValueError(f"space is {space}; an instant edit works in w_plus.")
        vector, reading = tensors["vector"], tensors["reading"]
        return cls(vector, reading, config["goal"], base_model, strength, origin)
