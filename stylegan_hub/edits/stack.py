"""A face and its edits, stored in one small file, and how a stack of edits is applied.

All edits displace the same latent, and their displacements add. An edit whose step depends on the
latent gets the latent without any edit, so the order of the stack does not matter, and removing an
edit undoes exactly that edit. The sum is taken in an order that depends only on the content of the
edits, so the result is always the same, bit for bit. An edit with a region changes only that part
of the picture, with a soft border. Edits with regions are rendered over the picture of all other
edits, in the order of the stack.

The file is a safetensors file. Its tensors are those of the edits and the start's codes; its header
holds the rest as JSON. It is read like any untrusted edit: nothing in it is executed, and all of it
is checked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.artifacts import (
    check_config,
    full_config,
    parse_json,
    read_tensors,
    write_tensors,
)
from stylegan_hub.bounds import MAX_STRENGTH, check_weights, is_strength
from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit, edit_from_parts
from stylegan_hub.errors import ArtifactError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.regions.find import named_region
from stylegan_hub.regions.join import Blend, Picture

KIND = "edit_stack"
FORMAT_VERSION = 1
_MAX_EDITS = 1000


@dataclass(frozen=True)
class StackedEdit:
    """An edit in a stack.

    Attributes:
        strength: the factor for the edit's displacement; 0 changes nothing.
        region: the only part of the picture that it changes, a name for
            `regions.find.named_region`; None for the whole picture.
        name: its name for display.
    """

    edit: Edit
    strength: float
    region: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if not is_strength(self.strength):
            raise ValueError(
                f"Got strength {self.strength}; expected a number from -{MAX_STRENGTH:g} to "
                f"{MAX_STRENGTH:g}."
            )


@dataclass(frozen=True)
class EditStack:
    """A stack of edits, with the face that they edit if there is a `start`.

    A stack is immutable; its methods return a new one.

    Attributes:
        edits: in the order in which they were added; edits with a region are rendered in this
            order.
        start: the face before all edits.
    """

    edits: tuple[StackedEdit, ...] = ()
    start: Latents | None = None

    def __len__(self) -> int:
        return len(self.edits)

    def __getitem__(self, index: int) -> StackedEdit:
        self._check(index)
        return self.edits[index]

    def added(
        self,
        edit: Edit,
        strength: float | None = None,
        region: str | None = None,
        name: str | None = None,
    ) -> EditStack:
        """With one more edit; its default strength if `strength` is None. See `StackedEdit`."""
        strength = edit.strength.default if strength is None else float(strength)
        return replace(self, edits=(*self.edits, StackedEdit(edit, strength, region, name)))

    def removed(self, index: int) -> EditStack:
        """Without the edit at this place, counted from 0."""
        self._check(index)
        return replace(self, edits=self.edits[:index] + self.edits[index + 1 :])

    def moved(self, index: int, to: int) -> EditStack:
        """With the edit at place `index` moved to place `to`; the edits between move by one."""
        self._check(index)
        self._check(to)
        edits = list(self.edits)
        edits.insert(to, edits.pop(index))
        return replace(self, edits=tuple(edits))

    def with_strength(self, index: int, strength: float) -> EditStack:
        """With another strength for the edit at this place; below 0 the edit is reversed."""
        return self._changed(index, strength=float(strength))

    def with_region(self, index: int, region: str | None) -> EditStack:
        """With the edit at this place limited to a part of the picture; None removes the limit."""
        return self._changed(index, region=region)

    def with_edit(self, index: int, edit: Edit) -> EditStack:
        """With another edit at this place, with the same strength and region."""
        return self._changed(index, edit=edit)

    def apply(self, domain: Domain, latents: Latents | None = None) -> Latents:
        """The latents after all edits. Regions are ignored, because they apply only to pictures.

        Args:
            latents: the faces, in place of the stack's own start.

        Raises:
            ValueError: there is no face to edit, or the latents are in s with an edit in w_plus.
            MismatchError: latents or edits belong to another generator.
        """
        pairs = [(applied.edit, applied.strength) for applied in self.edits]
        return displaced(domain, self._faces(latents), pairs)

    @torch.no_grad()
    def draw(
        self, domain: Domain, latents: Latents | None = None, blend: Blend = "images"
    ) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1] after all edits, each in its region.

        Edits of the whole picture come first. An edit with a region is rendered over the picture so
        far, together with earlier edits whose regions share a part with its region.

        Args:
            latents: the faces, in place of the stack's own start.
            blend: how borders are rendered, see `regions.join.draw_within`.

        Raises:
            ValueError: as for `apply`; or a region is unknown, or the pipeline has no parser for
                regions.
        """
        faces = self._faces(latents)
        limited = [
            (applied, named_region(domain, applied.region))
            for applied in self.edits
            if applied.region is not None
        ]

        def with_only(chosen: Iterable[StackedEdit]) -> Latents:
            return replace(self, edits=tuple(chosen)).apply(domain, faces)

        whole = with_only(applied for applied in self.edits if applied.region is None)
        if not limited:
            return domain.synthesize(whole).clamp(-1, 1)
        picture = Picture.of(domain, whole, blend)
        for index, (_, region) in enumerate(limited):
            together = {
                id(applied)
                for applied, other in limited[: index + 1]
                if set(other.parts) & set(region.parts)
            }
            shown = with_only(a for a in self.edits if a.region is None or id(a) in together)
            picture = picture.changed(domain, shown, region)
        return picture.image.clamp(-1, 1)

    def save(self, path: str | Path) -> None:
        """Write the stack as one safetensors file, as a whole or not at all."""
        tensors: dict[str, Tensor] = {}
        entries: list[dict[str, Any]] = []
        for index, applied in enumerate(self.edits):
            own = applied.edit.tensors()
            tensors |= {f"{index}.{key}": tensor for key, tensor in own.items()}
            entries.append(
                {
                    "strength": applied.strength,
                    "region": applied.region,
                    "name": applied.name,
                    "config": full_config(applied.edit.config(), own),
                }
            )
        state: dict[str, Any] = {"edits": entries}
        if self.start is not None:
            tensors["start"] = self.start.codes
            state["space"] = self.start.space.value
        header = {
            "kind": KIND,
            "format_version": str(FORMAT_VERSION),
            "stack": json.dumps(state, ensure_ascii=False, allow_nan=False),
        }
        write_tensors(Path(path), tensors, header)

    @staticmethod
    def load(path: str | Path) -> EditStack:
        """Read what `save` wrote.

        Raises:
            NotFoundError: there is no such file.
            ArtifactError: it is damaged, not a stack, or from a newer version.
        """
        tensors, header = read_tensors(Path(path))
        version = header.get("format_version", "")
        if header.get("kind") != KIND or not re.fullmatch(r"[0-9]{1,9}", version):
            raise ArtifactError(
                f"{path} is not a stack of edits (kind {header.get('kind')!r}); expected a file "
                "written by EditStack.save."
            )
        if int(version) > FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format_version {version}; this library reads {FORMAT_VERSION}. "
                "Upgrade stylegan_hub to read it."
            )
        try:
            state = parse_json(header["stack"])
            entries = list(state["edits"])
            if len(entries) > _MAX_EDITS:
                raise ValueError(f"it holds {len(entries)} edits; at most {_MAX_EDITS} are read")
            edits = tuple(
                StackedEdit(
                    _loaded(entry["config"], tensors, f"{index}.", path),
                    float(entry["strength"]),
                    _text(entry["region"]),
                    _text(entry["name"]),
                )
                for index, entry in enumerate(entries)
            )
            start = Latents(state["space"], tensors["start"]) if "start" in tensors else None
            if start is not None:
                check_weights({"start": start.codes}, "the face")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} is not a valid stack of edits: {error}") from error
        return EditStack(edits, start)

    def _faces(self, latents: Latents | None) -> Latents:
        faces = self.start if latents is None else latents
        if faces is None:
            raise ValueError("Got a stack without a start and no latents; give the face to edit.")
        return faces

    def _changed(self, index: int, **changes: Any) -> EditStack:
        self._check(index)
        edits = list(self.edits)
        edits[index] = replace(edits[index], **changes)
        return replace(self, edits=tuple(edits))

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self.edits):
            raise ValueError(
                f"Got place {index} in a stack of {len(self.edits)} edits; places count from 0."
            )


def displaced(domain: Domain, latents: Latents, edits: Sequence[tuple[Edit, float]]) -> Latents:
    """Latents with the displacements of all edits: those in w_plus first, then those in s.

    Every edit gets the original latents.

    Args:
        latents: in any space; if they are in s, all edits must be in s.
        edits: pairs of an edit and its strength, in any order.

    Returns:
        Latents in w_plus, or in s if an edit or the latents are in s; unchanged without edits.

    Raises:
        ValueError: the latents are in s with an edit in w_plus.
        MismatchError: latents or edits belong to another generator; the message has both
            fingerprints.
    """
    if not edits:
        return latents
    for edit, _ in edits:
        edit.check_fits(domain.base_model)
    base = domain.lower(latents, max(latents.space, Space.W_PLUS))
    moved = base
    # Sums of floating-point numbers depend on the order, so the edits' content fixes it.
    ordered = sorted(edits, key=lambda pair: (pair[0].digest, pair[1]))
    for space in (Space.W_PLUS, Space.S):
        chosen = [(edit, strength) for edit, strength in ordered if edit.space is space]
        if not chosen:
            continue
        start = domain.lower(base, space)
        codes = domain.lower(moved, space).codes
        for edit, strength in chosen:
            codes = codes + (edit.apply(start, strength).codes - start.codes)
        moved = Latents(space, codes)
    return moved


def _loaded(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str, path: str | Path
) -> Edit:
    """An edit from its config and tensors, checked like an edit from a folder."""
    own = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    where = f"{path}, edit {prefix.rstrip('.')}"
    check_config(config, where, own)
    return edit_from_parts(config, own, where)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"got {value!r}; expected a text")
