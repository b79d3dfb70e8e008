"""One user's state on a page, without a page.

A `Session` is a face and the edits on it: frozen and copyable, so a change gives a new one, and the
list of earlier sessions is all that undo needs. A `Studio` (`studio.py`) renders it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from stylegan_hub.domain import Label
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import EditStack, StackedEdit
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.method import caption
from stylegan_hub.names import slug


@dataclass(frozen=True)
class Session:
    """One user's face and the edits on it.

    Attributes:
        seed: of the face; the start of everything unless there are `latents`.
        latents: the face, as one latent in w_plus or s, where no seed leads to it.
        truncation_psi: 1 keeps the full variety of seeds, 0 is the average face.
        label: for a generator with labels, the class of the face: its index or a vector.
        stack: the edits on the face; its start stays None, the face is here.
        text: that the face was sampled for, where it was, see `StyleEditPipeline.from_text`.

    Raises:
        ValueError: an edit in w_plus for a face in s.
    """

    seed: int = 0
    latents: Latents | None = None
    truncation_psi: float = 0.7
    label: Label | None = None
    stack: EditStack = field(default_factory=EditStack)
    text: str | None = None

    def __post_init__(self) -> None:
        if self.label is not None and not isinstance(self.label, int):
            # A tuple can be compared and hashed, so that pictures can be kept by session.
            object.__setattr__(self, "label", tuple(float(number) for number in self.label))
        for applied in self.stack.edits:
            self.check_takes(applied.edit.space, label_of(applied))

    @property
    def edits(self) -> tuple[StackedEdit, ...]:
        """The edits on the face, in the order in which they were added."""
        return self.stack.edits

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
        return replace(self, seed=seed, latents=None, text=None)

    def with_stack(self, stack: EditStack) -> Session:
        """The same face with other edits on it."""
        return replace(self, stack=stack)

    def with_edit(
        self, edit: Edit, strength: float | None = None, name: str | None = None
    ) -> Session:
        """One more edit, at its default strength when None; see `StackedEdit` for the name."""
        return self.with_stack(self.stack.added(edit, strength, name=name))

    def with_found(self, edit: Edit, region: str | None = None) -> Session:
        """An edit that was found: in the place of one with the same label, or one more.

        Args:
            region: the part of the picture that one more is shown in; None for all of it.
        """
        index = self.found_as(caption(edit))
        if index is None:
            return self.with_stack(self.stack.added(edit, region=region))
        return self.with_stack(self.stack.with_edit(index, edit))

    def without_found(self, label: str) -> Session:
        """Without the edit that was found here and is called so; as it is if there is none."""
        index = self.found_as(label)
        return self if index is None else self.with_stack(self.stack.removed(index))

    def without_edits(self) -> Session:
        """The face as it was."""
        return self.with_stack(EditStack())

    def found_as(self, label: str) -> int | None:
        """The place of the edit that was found here and is called so, None if there is none."""
        for index, applied in enumerate(self.edits):
            if applied.name is None and label_of(applied) == label:
                return index
        return None

    @property
    def title(self) -> str:
        """The face and the edits on it in letters that every file system takes."""
        face = f"face-{self.seed}" if self.latents is None else "face"
        return "-".join([face, *(slug_of(applied) for applied in self.edits)])[:80].rstrip("-")


def label_of(applied: StackedEdit) -> str:
    """What to call an edit on a face: its name, or what it was found for."""
    return applied.name or caption(applied.edit)


def slug_of(applied: StackedEdit) -> str:
    """The label in letters that every file system takes."""
    return slug(label_of(applied)) or "edit"
