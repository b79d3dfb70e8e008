"""What can be asked of a method: words, a picture, pairs of pictures, nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Words:
    """A change in words.

    Attributes:
        text: what pictures should show afterwards, "a face with purple hair".
        neutral: what they show now; the domain's own words when None.
        keep: what must not change, in words: ("glasses", "hair").
        region: the part of the picture that may change, "hair" or "mouth, eyes"; None for all of
            it, or for the part that the method reads from the text.
        said: the text as it was typed, where `text` is a reading of it (`wording.reading`).
        removal: whether `neutral` names what should go and `text` what is left; of a reading.
    """

    text: str
    neutral: str | None = None
    keep: tuple[str, ...] = ()
    region: str | None = None
    said: str | None = None
    removal: bool = False

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"Got no words ({self.text!r}); write some, such as 'a smiling face'.")
        object.__setattr__(self, "text", self.text.strip())
        if self.neutral is not None:
            object.__setattr__(self, "neutral", self.neutral.strip())
        keep = (self.keep,) if isinstance(self.keep, str) else tuple(self.keep)
        object.__setattr__(self, "keep", tuple(word.strip() for word in keep if word.strip()))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture whose character faces should get.

    Attributes:
        image: a PIL picture of any size, or a tensor `[1, 3, h, w]` in [-1, 1].
        name: what to call it.
    """

    image: Image.Image | Float[Tensor, "1 3 h w"]
    name: str = "a picture"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("Got no name for the target picture; write one, such as 'my cat'.")
        object.__setattr__(self, "name", self.name.strip())

    def __str__(self) -> str:
        return self.name


Pictures = Sequence[Image.Image] | Float[Tensor, "n 3 h w"] | Sequence[int]
"""PIL pictures, a batch in [-1, 1], or seeds of the domain's own faces."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Examples of a change: what differs between the pictures before and those after.

    Attributes:
        before, after: as many pictures each, pair by pair; or two heaps of any size with
            `paired=False`, of which the means are compared.
        name: what to call the change.
    """

    before: Pictures
    after: Pictures
    paired: bool = True
    name: str = "a change"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Nothing:
    """No wish: what the generator itself varies.

    Attributes:
        region: the part of the picture that should change, "hair"; None for any.
    """

    region: str | None = None

    def __str__(self) -> str:
        return f"a change of {self.region}" if self.region else "a change"


Request = Words | Picture | Pairs | Nothing
