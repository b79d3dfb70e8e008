"""One user's state on a page, independent of the page.

A `Session` is a face and its edits. It is immutable, so every change gives a new session, and a
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
    """One user's face and its edits.

    Attributes:
        seed: of the face; ignored if there are `latents`.
        latents: the face, as one latent in w_plus or s, if it has no seed.
        truncation_psi: 1 keeps the full variety of seeds, 0 is the average face.
        label: for a generator with labels, the class of the face: its index or a vector.
        stack: the edits of the face; its start stays None, because the face is stored here.
        text: the text that the face was sampled for, if any, see `StyleEditPipeline.from_text`.

    Raises:
        ValueError: an edit is in w_plus, but the face is in s.
    """

    seed: int = 0
    latents: Latents | None = None
    truncation_psi: float = 0.7
    label: Label | None = None
    stack: EditStack = field(default_factory=EditStack)
    text: str | None = None

    def __post_init__(self) -> None:
        if self.label is not None and not isinstance(self.label, int):
            # A tuple can be compared and hashed, so that pictures can be cached by session.
            object.__setattr__(self, "label", tuple(float(number) for number in self.label))
        for applied in self.stack.edits:
            self.check_takes(applied.edit.space, label_of(applied))

    @property
    def edits(self) -> tuple[StackedEdit, ...]:
        """The edits of the face, in the order in which they were added."""
        return self.stack.edits

    def check_takes(self, space: Space, what: str) -> None:
        """Raise `ValueError` unless an edit in this space, called `what`, can move the face."""
        if self.latents is not None and self.latents.space > space:
            raise ValueError(
                f"{what!r} moves whole layers ({space}), but this face was kept after an edit of "
                f"single channels ({self.latents.space}), which cannot be converted back. Use "
                "another face, or an edit in s."
            )

    def with_seed(self, seed: int) -> Session:
        """Another face with the same edits."""
        return replace(self, seed=seed, latents=None, text=None)

    def with_stack(self, stack: EditStack) -> Session:
        """The same face with other edits."""
        return replace(self, stack=stack)

    def with_edit(
        self, edit: Edit, strength: float | None = None, name: str | None = None
    ) -> Session:
        """One more edit; None is its default strength. See `StackedEdit` for the name."""
        return self.with_stack(self.stack.added(edit, strength, name=name))

    def with_found(self, edit: Edit, region: str | None = None) -> Session:
        """Add a found edit; it replaces a found edit with the same label.

        Args:
            region: the only part of the picture that a new edit changes; None for the whole
                picture.
        """
        index = self.found_as(caption(edit))
        if index is None:
            return self.with_stack(self.stack.added(edit, region=region))
        return self.with_stack(self.stack.with_edit(index, edit))

    def without_found(self, label: str) -> Session:
        """Without the found edit of this label; unchanged if there is none."""
        index = self.found_as(label)
        return self if index is None else self.with_stack(self.stack.removed(index))

    def without_edits(self) -> Session:
        """The face without edits."""
        return self.with_stack(EditStack())

    def found_as(self, label: str) -> int | None:
        """The place of the found edit of this label; None if there is none."""
        for index, applied in enumerate(self.edits):
            if applied.name is None and label_of(applied) == label:
                return index
        return None

    @property
    def title(self) -> str:
        """The face and its edits as a name that every file system accepts."""
        face = f"face-{self.seed}" if self.latents is None else "face"
        return "-".join([face, *(slug_of(applied) for applied in self.edits)])[:80].rstrip("-")


def label_of(applied: StackedEdit) -> str:
    """The label of an edit: its name, or the words it was found for."""
    return applied.name or caption(applied.edit)


def slug_of(applied: StackedEdit) -> str:
    """The label in characters that every file system accepts."""
    return slug(label_of(applied)) or "edit"
