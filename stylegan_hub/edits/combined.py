"""Several edits as one, so that a whole stack has one name, one card and one slider.

Displacements add, so the sum of edits in one space is an edit: its `delta` is the sum of their
deltas, each times its strength. Strength 1 gives the stack's picture, strength 0 the original face.
Regions belong to pictures and not to latents, so an edit with a region cannot be a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from stylegan_hub.artifacts import BaseModel, check_config, full_config
from stylegan_hub.bounds import is_strength
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit, Origin, Strength, edit_from_parts, register
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.latents import Latents, Space

_MAX_PARTS = 100


@register
class Combined(Edit):
    """The sum of edits in one space, each at its strength.

    Attributes:
        parts: pairs of an edit and its strength.

    Raises:
        ValueError: there are no parts, too many, or parts in several spaces.
        MismatchError: the parts belong to several generators.
    """

    kind: ClassVar[str] = "combined"
    summary: ClassVar[str] = "Several edits as one: their displacements are added up."

    def __init__(
        self,
        parts: Sequence[tuple[Edit, float]],
        strength: Strength | None = None,
        origin: Origin | None = None,
    ) -> None:
        if not 1 <= len(parts) <= _MAX_PARTS or len({edit.space for edit, _ in parts}) != 1:
            spaces = sorted({edit.space.value for edit, _ in parts})
            raise ValueError(
                f"Got {len(parts)} edits in {' and '.join(spaces) or 'no space'}; expected 1 to "
                f"{_MAX_PARTS} in one space. `combine` brings directions into one space."
            )
        first, _ = parts[0]
        for edit, far in parts:
            edit.check_fits(first.base_model)
            if not is_strength(far):
                raise ValueError(f"Got strength {far} of a part; expected a finite number.")
        super().__init__(first.space, first.base_model, strength, origin)
        self.parts = tuple((edit, float(far)) for edit, far in parts)

    def delta(self, codes: Tensor) -> Tensor:
        """The sum of the parts' displacements, in an order fixed by their content."""
        ordered = sorted(self.parts, key=lambda part: (part[0].digest, part[1]))
        total = torch.zeros_like(codes)
        for edit, far in ordered:
            total = total + far * edit.delta(codes).to(codes)
        return total

    def tensors(self) -> dict[str, Tensor]:
        """The parts' tensors, by "number.name"."""
        return {
            f"{index}.{name}": tensor
            for index, (edit, _) in enumerate(self.parts)
            for name, tensor in edit.tensors().items()
        }

    def extra_config(self) -> dict[str, Any]:
        """The parts' strengths and configs."""
        return {
            "parts": [
                {"strength": far, "config": full_config(edit.config(), edit.tensors())}
                for edit, far in self.parts
            ]
        }

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
        """From the parts' tensors and configs; each part is checked like a separate edit."""
        entries = config["parts"]
        if not isinstance(entries, list) or len(entries) > _MAX_PARTS:
            raise ValueError(f"parts is not a list of at most {_MAX_PARTS} edits")
        parts: list[tuple[Edit, float]] = []
        for index, entry in enumerate(entries):
            prefix, own = f"{index}.", entry["config"]
            mine = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
            check_config(own, f"part {index}", mine)
            if own["kind"] == cls.kind:
                raise ValueError("a part is itself a combined edit")
            parts.append((edit_from_parts(own, mine, f"part {index}"), entry["strength"]))
        combined = cls(parts, strength, origin)
        if combined.space is not space:
            raise ValueError(f"the parts are in {combined.space}, but the config says {space}")
        combined.check_fits(base_model)
        return combined


@torch.no_grad()
def combine(domain: Domain, stack: EditStack, name: str | None = None) -> Edit:
    """The edits of a stack as one: a `Direction` if all are directions, else `Combined`.

    Directions in w_plus are brought into s if another edit is in s. Styles are affine in w_plus, so
    they stay directions.

    Args:
        name: the new edit's prompt, in place of the parts' prompts.

    Raises:
        ValueError: there are no edits; an edit has a region; or an edit in s is combined with one
            in w_plus that is not a direction.
        MismatchError: an edit belongs to another generator.
    """
    if not stack.edits:
        raise ValueError("Got a stack without edits; add one first.")
    parts: list[tuple[Edit, float]] = []
    for applied in stack.edits:
        applied.edit.check_fits(domain.base_model)
        if applied.region is not None:
            raise ValueError(
                f"“{applied.name or applied.edit.origin.prompt or applied.edit.kind}” is limited "
                f"to {applied.region}. Regions apply to pictures, and a combined edit changes "
                "only latents. Remove its region, or share it alone."
            )
        if isinstance(applied.edit, Combined):
            inner = applied.edit.parts
            parts += [(edit, far * applied.strength) for edit, far in inner]
        else:
            parts.append((applied.edit, applied.strength))
    if len({edit.space for edit, _ in parts}) > 1:
        parts = [(_in_s(domain, edit), far) for edit, far in parts]
    called = [a.name or a.edit.origin.prompt or a.edit.kind for a in stack.edits]
    origin = Origin(name, training={"parts": called})
    directions = [(edit, far) for edit, far in parts if isinstance(edit, Direction)]
    if len(directions) < len(parts):
        return Combined(parts, origin=origin)
    vector = torch.stack([far * edit.vector for edit, far in directions]).sum(0)
    return Direction(vector, parts[0][0].space, domain.base_model, origin=origin)


def _in_s(domain: Domain, edit: Edit) -> Edit:
    if edit.space is Space.S:
        return edit
    if not isinstance(edit, Direction):
        raise ValueError(
            f"Got a {edit.kind} in {edit.space} beside an edit in s. Its step differs from face "
            "to face, so they cannot become one edit. Share them one by one."
        )
    start = domain.lower(domain.mean_latent(), Space.W_PLUS)
    moved = Latents(Space.W_PLUS, start.codes + edit.vector.to(start.codes))
    vector = domain.lower(moved, Space.S).codes - domain.lower(start, Space.S).codes
    return Direction(vector[0].cpu(), Space.S, edit.base_model, edit.strength, edit.origin)
