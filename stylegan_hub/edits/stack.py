"""Sequential editing: a face and the edits on it, one after the other, kept in one small file.

Latents are displaced in the order of the stack, so an edit whose step depends on the latent sees
what the edits before it did; for directions the order changes nothing. An edit with a region shows
in that part of the picture only, with a soft border: such edits are drawn over the picture of all
others, in their order.

The file is a safetensors file. Its tensors are those of the edits and the start's codes, its header
holds the rest as JSON. It is read like a stranger's edit: nothing in it is executed, and all of it
is checked.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.artifacts import (
    CONFIG_NAME,
    TENSORS_NAME,
    read_folder,
    read_tensors,
    write_bytes,
    write_tensors,
)
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.regions import Blend, Picture, named_region
from stylegan_hub.errors import ArtifactError
from stylegan_hub.latents import Latents, Space

if TYPE_CHECKING:
    from stylegan_hub.pipeline import StyleEditPipeline

KIND = "edit_stack"
FORMAT_VERSION = 1
_MAX_EDITS = 1000


@dataclass(frozen=True)
class StackedEdit:
    """An edit in a stack.

    Attributes:
        strength: 0 changes nothing.
        region: the only part of the picture that it changes, a name as in `regions.named_region`;
            None for the whole picture.
        name: what to call it.
    """

    edit: Edit
    strength: float
    region: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.strength, bool) or not math.isfinite(self.strength):
            raise ValueError(f"Got strength {self.strength}; expected a finite number.")


@dataclass(frozen=True)
class EditStack:
    """Edits in order, on a face if there is a `start`. Nothing changes it; methods give a new one.

    Attributes:
        edits: the first one is applied first.
        start: who, before all edits.
    """

    edits: tuple[StackedEdit, ...] = ()
    start: Latents | None = None

    def __len__(self) -> int:
        return len(self.edits)

    def added(
        self,
        edit: Edit,
        strength: float | None = None,
        region: str | None = None,
        name: str | None = None,
    ) -> EditStack:
        """With one more edit on top, at its default strength when None; see `StackedEdit`."""
        strength = edit.strength.default if strength is None else float(strength)
        return replace(self, edits=(*self.edits, StackedEdit(edit, strength, region, name)))

    def removed(self, index: int) -> EditStack:
        """Without the edit in this place, counted from 0."""
        self._check(index)
        return replace(self, edits=self.edits[:index] + self.edits[index + 1 :])

    def moved(self, index: int, to: int) -> EditStack:
        """With the edit in place `index` in place `to`; those between move up or down."""
        self._check(index)
        self._check(to)
        edits = list(self.edits)
        edits.insert(to, edits.pop(index))
        return replace(self, edits=tuple(edits))

    def with_strength(self, index: int, strength: float) -> EditStack:
        """With the edit in this place stronger, weaker or, below 0, reversed."""
        self._check(index)
        edits = list(self.edits)
        edits[index] = replace(edits[index], strength=float(strength))
        return replace(self, edits=tuple(edits))

    def with_region(self, index: int, region: str | None) -> EditStack:
        """With the edit in this place limited to a part of the picture, or not any more."""
        self._check(index)
        edits = list(self.edits)
        edits[index] = replace(edits[index], region=region)
        return replace(self, edits=tuple(edits))

    def apply(self, pipe: StyleEditPipeline, latents: Latents | None = None) -> Latents:
        """The latents after all edits, as if none had a region: latents know no regions.

        Args:
            latents: who, in place of the stack's own start.

        Raises:
            ValueError: nobody to edit, or latents in s with an edit in w_plus.
            MismatchError: latents or edits of another generator.
        """
        return _displaced(pipe, self._people(latents), self.edits)

    @torch.no_grad()
    def draw(
        self, pipe: StyleEditPipeline, latents: Latents | None = None, blend: Blend = "images"
    ) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1] after all edits, each in its region.

        Edits of the whole picture come first. An edit with a region is drawn over the picture so
        far, together with those before it whose regions share a part with its own.

        Args:
            latents: who, in place of the stack's own start.
            blend: how borders are drawn, see `regions.draw_within`.

        Raises:
            ValueError: as `apply`; an unknown region, or regions without a parser.
        """
        people = self._people(latents)
        limited = [
            (applied, named_region(pipe, applied.region))
            for applied in self.edits
            if applied.region is not None
        ]
        whole = [applied for applied in self.edits if applied.region is None]
        if not limited:
            return pipe.synthesize(_displaced(pipe, people, whole)).clamp(-1, 1)
        picture = Picture.of(pipe, _displaced(pipe, people, whole), blend)
        for index, (_, region) in enumerate(limited):
            together = {
                id(applied)
                for applied, other in limited[: index + 1]
                if set(other.parts) & set(region.parts)
            }
            shown = [a for a in self.edits if a.region is None or id(a) in together]
            picture = picture.changed(pipe, _displaced(pipe, people, shown), region)
        return picture.image.clamp(-1, 1)

    def save(self, path: str | Path) -> None:
        """Write the stack as one safetensors file, as a whole or not at all."""
        tensors: dict[str, Tensor] = {}
        entries: list[dict[str, Any]] = []
        for index, applied in enumerate(self.edits):
            with tempfile.TemporaryDirectory() as folder:
                config, parts = read_folder(applied.edit.save_pretrained(Path(folder) / "edit"))
            tensors |= {f"{index}.{key}": tensor for key, tensor in parts.items()}
            entries.append(
                {
                    "strength": applied.strength,
                    "region": applied.region,
                    "name": applied.name,
                    "config": config,
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
            ArtifactError: it is damaged, no stack, or from a newer version.
        """
        tensors, header = read_tensors(Path(path))
        version = header.get("format_version", "")
        if header.get("kind") != KIND or not version.isdecimal():
            raise ArtifactError(
                f"{path} is no stack of edits (kind {header.get('kind')!r}); expected a file "
                "written by EditStack.save."
            )
        if int(version) > FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format_version {version}; this library reads {FORMAT_VERSION}. "
                "Upgrade stylegan_hub to read it."
            )
        try:
            state = json.loads(header["stack"])
            entries = list(state["edits"])
            if len(entries) > _MAX_EDITS:
                raise ValueError(f"it holds {len(entries)} edits, at most {_MAX_EDITS} are read")
            edits = tuple(
                StackedEdit(
                    _loaded(entry["config"], tensors, f"{index}."),
                    float(entry["strength"]),
                    _text(entry["region"]),
                    _text(entry["name"]),
                )
                for index, entry in enumerate(entries)
            )
            start = Latents(state["space"], tensors["start"]) if "start" in tensors else None
            if start is not None and not start.codes.isfinite().all():
                raise ValueError("the start's codes are not finite")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{path} holds no sound stack of edits: {error}") from error
        return EditStack(edits, start)

    def _people(self, latents: Latents | None) -> Latents:
        people = self.start if latents is None else latents
        if people is None:
            raise ValueError("Got a stack without a start and no latents; say who is edited.")
        return people

    def _check(self, index: int) -> None:
        if not 0 <= index < len(self.edits):
            raise ValueError(
                f"Got place {index} in a stack of {len(self.edits)} edits; places count from 0."
            )


def _displaced(
    pipe: StyleEditPipeline, people: Latents, edits: tuple[StackedEdit, ...] | list[StackedEdit]
) -> Latents:
    """Latents after these edits in order.

    A step in s stays what it was when a later edit moves the latent in w_plus.
    """
    latents = pipe.lower(people, max(people.space, Space.W_PLUS))
    steps_in_s: Tensor | None = None
    for applied in edits:
        if applied.edit.space is Space.W_PLUS:
            latents = pipe.apply(latents, [(applied.edit, applied.strength)])
            continue
        lowered = pipe.lower(latents, Space.S)
        if steps_in_s is None:
            steps_in_s = torch.zeros_like(lowered.codes)
        now = Latents(Space.S, lowered.codes + steps_in_s)
        moved = pipe.apply(now, [(applied.edit, applied.strength)])
        steps_in_s = moved.codes - lowered.codes
    if steps_in_s is None:
        return latents
    return Latents(Space.S, pipe.lower(latents, Space.S).codes + steps_in_s)


def _loaded(config: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str) -> Edit:
    """An edit from its config and tensors, checked by those who read folders of edits."""
    own = {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
    with tempfile.TemporaryDirectory() as folder:
        text = json.dumps(config, allow_nan=False)
        write_bytes(Path(folder) / CONFIG_NAME, text.encode())
        write_tensors(Path(folder) / TENSORS_NAME, own, {})
        return load_edit(folder)


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise TypeError(f"got {value!r} where a text is expected")
