"""An edit that stays within what samples show.

A displacement adds to what a face already has: a dark face with the essence of a dark portrait
becomes darker than any sample, and half of a hat remains where the displacement is too short for a
whole one. Along the principal axes of w, samples have known ranges, and a limited edit leaves none
of them: a displacement may then be long enough for the faces that need most of it, and the others
stop where samples end.

The limits hold at strength 1. A lower strength goes a part of the way there, and a higher or
negative one goes beyond them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.artifacts import BaseModel, check_config, full_config
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit, Origin, Strength, edit_from_parts, register
from stylegan_hub.latents import Space

_SAMPLES = range(20_000, 24_096)
_EXPLAINED = 0.9999  # share of the variance of w that the axes together explain
_OUTSIDE = 0.02  # share of the samples beyond each end of an axis


@dataclass(frozen=True)
class Limits:
    """The ranges of samples along the principal axes of w.

    Attributes:
        mean: the mean of w.
        axes: orthogonal, of length 1.
        lowest, highest: ends of the range on each axis, from the mean.
    """

    mean: Float[Tensor, " w_dim"]
    axes: Float[Tensor, "axes w_dim"]
    lowest: Float[Tensor, " axes"]
    highest: Float[Tensor, " axes"]

    @classmethod
    @torch.no_grad()
    def of(cls, domain: Domain) -> Limits:
        """The limits of a domain: on each axis, the middle 96 % of 4,096 untruncated samples."""
        w = domain.sample(_SAMPLES, truncation_psi=1.0).codes[:, 0].cpu().double()
        mean = w.mean(0)
        variances, axes = torch.linalg.eigh(torch.cov(w.T))
        variances, axes = variances.flip(0).clamp_min(0), axes.T.flip(0)
        explained = (variances / variances.sum()).cumsum(0)
        axes = axes[: int((explained < _EXPLAINED).sum()) + 1]
        # Rounded here and not only in the file, so that a loaded edit gives the same pictures.
        axes = axes.half().double()
        along = (w - mean) @ axes.T
        ends = along.quantile(_OUTSIDE, 0), along.quantile(1 - _OUTSIDE, 0)
        return cls(mean.float(), axes.half(), ends[0].float(), ends[1].float())

    def within(
        self, codes: Float[Tensor, "*n num_ws w_dim"], step: Float[Tensor, "*n num_ws w_dim"]
    ) -> Float[Tensor, "*n num_ws w_dim"]:
        """The step as far as the limits allow; a face outside of them is not moved further out."""
        axes, mean, lowest, highest = (
            part.to(codes.device, torch.float32)
            for part in (self.axes, self.mean, self.lowest, self.highest)
        )
        with torch.autocast(codes.device.type, enabled=False):  # it would round the ends
            start = (codes.float() - mean) @ axes.T
            end = (start + step.float() @ axes.T).minimum(start.maximum(highest))
            return (end.maximum(start.minimum(lowest)) - start) @ axes


@register
class Limited(Edit):
    """The displacement of another edit in w_plus, within limits.

    Args:
        edit: a direction, an instant edit or a mapper in w_plus; its slider and origin are taken
            over.

    Raises:
        ValueError: another edit, or the sizes do not fit together.
    """

    kind: ClassVar[str] = "limited"
    summary: ClassVar[str] = "An edit that stays within what samples of the generator show."

    def __init__(
        self,
        edit: Edit,
        limits: Limits,
        strength: Strength | None = None,
        origin: Origin | None = None,
    ) -> None:
        super().__init__(
            edit.space, edit.base_model, strength or edit.strength, origin or edit.origin
        )
        if edit.space is not Space.W_PLUS or edit.kind not in _LIMITABLE:
            raise ValueError(
                f"Got a {edit.kind} in {edit.space}; expected an edit in w_plus without limits or "
                "parts."
            )
        width = (edit.base_model.w_dim,)
        count = limits.lowest.shape
        shapes = [tuple(t.shape) for t in (limits.mean, limits.axes, limits.lowest, limits.highest)]
        if len(count) != 1 or shapes != [width, (*count, *width), count, count]:
            raise ValueError(
                f"Got mean, axes, lowest and highest of the shapes {shapes}; expected "
                f"[{width[0]}], [n, {width[0]}], [n] and [n]."
            )
        if not bool((limits.lowest <= limits.highest).all()):
            raise ValueError("Got limits whose lowest value is above the highest.")
        self.edit, self.limits = edit, limits

    def delta(self, codes: Tensor) -> Tensor:
        """The step of the other edit, as far as the limits allow."""
        return self.limits.within(codes, self.edit.delta(codes).to(codes))

    def tensors(self) -> dict[str, Tensor]:
        """Mean, axes and ranges of the limits, and the other edit's tensors as "edit.name"."""
        limits = self.limits
        own = {
            "mean": limits.mean,
            "axes": limits.axes,
            "lowest": limits.lowest,
            "highest": limits.highest,
        }
        return own | {f"edit.{name}": tensor for name, tensor in self.edit.tensors().items()}

    def extra_config(self) -> dict[str, Any]:
        """The other edit's config."""
        return {"edit": full_config(self.edit.config(), self.edit.tensors())}

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
            ValueError: the edit is in s or is itself limited, or sizes do not fit together.
        """
        inner = {k.removeprefix("edit."): t for k, t in tensors.items() if k.startswith("edit.")}
        check_config(config["edit"], "the limited edit", inner)
        if config["edit"]["kind"] not in _LIMITABLE:
            raise ValueError(f"a {config['edit']['kind']} cannot be limited")
        edit = edit_from_parts(config["edit"], inner, "the limited edit")
        edit.check_fits(base_model)
        limits = Limits(*(tensors[name] for name in ("mean", "axes", "lowest", "highest")))
        return cls(edit, limits, strength, origin)


_LIMITABLE = ("direction", "instant", "latent_mapper")
"""Kinds that can be limited. Others contain edits themselves, and could be nested without end."""
