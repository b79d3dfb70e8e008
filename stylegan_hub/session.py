"""One user's state on a page, without a page.

A `Session` is a face and the edits on it: frozen and copyable, so a change gives a new one. A
`Studio` (`studio.py`) draws it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any

from stylegan_hub.edits import essence, local_direction
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import StackedEdit
from stylegan_hub.latents import Latents, Space


@dataclass(frozen=True)
class Applied(StackedEdit):
    """An edit on a face; its name is that in the zoo, None for one that was found here."""

    @property
    def label(self) -> str:
        """What to call it: its name, or what it was found for."""
        return self.name or found_as(self.edit)

    @property
    def slug(self) -> str:
        """The label in letters that every file system takes."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")[:60] or "edit"


def found_as(edit: Edit) -> str:
    """What to call an edit that has no name."""
    origin, training = edit.origin, edit.origin.training
    if training.get("method") == essence.METHOD:
        return essence_label(str(training.get("target")))
    if training.get("method") == local_direction.METHOD:
        region, background = str(training.get("region")), bool(training.get("background"))
        return local_label(origin.prompt, region, background)
    return origin.prompt or edit.kind


def essence_label(target: str) -> str:
    """What to call the essence of a target picture."""
    return f"essence of {target}"


def local_label(prompt: str | None, region: str, background: bool = False) -> str:
    """What to call an edit of a region, or of all but the region."""
    return f"{prompt or 'a change'} ({'all but ' * background}{region})"


@dataclass(frozen=True)
class Session:
    """One user's face and the edits on it.

    Attributes:
        seed: who; the start of everything unless there are `latents`.
        latents: who, as one latent in w_plus or s, where no seed leads to the face.
        truncation_psi: 1 keeps the full variety of seeds, 0 is the average face.
        edits: on the face, as in an `EditStack`: the first one is applied first.

    Raises:
        ValueError: an edit in w_plus for a face in s.
    """

    seed: int = 0
    latents: Latents | None = None
    truncation_psi: float = 0.7
    edits: tuple[Applied, ...] = ()

    def __post_init__(self) -> None:
        for applied in self.edits:
            self.check_takes(applied.edit.space, applied.label)

    def check_takes(self, space: Space, what: str) -> None:
        """Raise `ValueError` unless an edit in this space, called `what`, can move the face."""
        if self.latents is not None and self.latents.space > space:
            raise ValueError(
                f"{what!r} moves whole layers ({space}), and this face was kept after a change of "
                f"single channels ({self.latents.space}), from where no way leads back. Take "
                "another face, or an edit in s."
            )

    def with_seed(self, seed: int) -> Session:
        """Another face, with the same edits on it."""
        return replace(self, seed=seed, latents=None)

    def with_latents(self, latents: Latents) -> Session:
        """Another face, that of one latent in w_plus or s, with the same edits on it."""
        return replace(self, latents=latents)

    def with_truncation(self, truncation_psi: float) -> Session:
        """The seed's face nearer to the average, or farther from it."""
        return replace(self, truncation_psi=_finite("truncation_psi", truncation_psi))

    def with_edit(
        self, edit: Edit, strength: float | None = None, name: str | None = None
    ) -> Session:
        """One more edit, at its default strength when None; see `Applied` for the name."""
        strength = edit.strength.default if strength is None else strength
        applied = Applied(edit, _finite("strength", strength), name=name)
        return replace(self, edits=(*self.edits, applied))

    def with_found(self, edit: Edit) -> Session:
        """An edit that was found: in the place of one with the same label, or one more."""
        index = self._found_as(found_as(edit))
        return self.with_edit(edit) if index is None else self._changed(index, edit=edit)

    def with_strength(self, strength: float, index: int = -1) -> Session:
        """The edit in this place of the stack stronger, weaker or, below 0, reversed.

        Raises:
            ValueError: there is no such edit, or the strength is no number.
        """
        self._check(index, "strength")
        return self._changed(index, strength=_finite("strength", strength))

    def with_region(self, region: str | None, index: int = -1) -> Session:
        """The edit in this place of the stack limited to a region, or everywhere when None.

        Raises:
            ValueError: there is no such edit.
        """
        self._check(index, "region")
        return self._changed(index, region=region)

    def with_move(self, index: int, to: int) -> Session:
        """The edit in this place of the stack in another one; those between move up or down.

        Raises:
            ValueError: there are no such places.
        """
        self._check(index, "place")
        self._check(to, "place")
        edits = list(self.edits)
        edits.insert(to, edits.pop(index))
        return replace(self, edits=tuple(edits))

    def without_edit(self, index: int) -> Session:
        """All edits but the one in this place of the stack, counted from 0."""
        return replace(self, edits=self.edits[:index] + self.edits[index + 1 :])

    def without_found(self, label: str) -> Session:
        """All edits but the one that was found here and is called so."""
        index = self._found_as(label.strip())
        return self if index is None else self.without_edit(index)

    def without_edits(self) -> Session:
        """The face as it was."""
        return replace(self, edits=())

    @property
    def title(self) -> str:
        """The face and the edits on it in letters that every file system takes."""
        face = f"face-{self.seed}" if self.latents is None else "face"
        return "-".join([face, *(applied.slug for applied in self.edits)])[:80].rstrip("-")

    def _found_as(self, label: str) -> int | None:
        for index, applied in enumerate(self.edits):
            if applied.name is None and applied.label == label:
                return index
        return None

    def _check(self, index: int, what: str) -> None:
        if not -len(self.edits) <= index < len(self.edits):
            raise ValueError(
                f"Got a {what} for edit {index} of {len(self.edits)}; there is no such edit "
                f"whose {what} could change."
            )

    def _changed(self, index: int, **changes: Any) -> Session:
        edits = list(self.edits)
        edits[index] = replace(edits[index], **changes)
        return replace(self, edits=tuple(edits))


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"Got {name} {value}; expected a finite number.")
    return float(value)
