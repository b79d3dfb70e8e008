"""The requests that methods answer: words, a picture, pairs of pictures, or nothing."""

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
        said: the text as it was typed, if `text` is a reading of it (`wording.reading`).
        removal: set by a reading: `neutral` names what should be removed, and `text` what is left.
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
    """A picture whose character is given to faces.

    Attributes:
        image: a PIL picture of any size, or a tensor `[1, 3, h, w]` in [-1, 1].
        name: its name in captions and files.
    """

    image: Image.Image | Float[Tensor, "1 3 h w"]
    name: str = "a picture"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("Got no name for the target picture; give one, such as 'my cat'.")
        object.__setattr__(self, "name", self.name.strip())

    def __str__(self) -> str:
        return self.name


Pictures = Sequence[Image.Image] | Float[Tensor, "n 3 h w"] | Sequence[int]
"""PIL pictures, a batch in [-1, 1], or seeds of the domain's own faces."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Examples of a change: the difference between the pictures before it and those after it.

    Attributes:
        before, after: the same number of pictures, pair by pair; or with `paired=False` two sets
            of any size, whose means are compared.
        name: the name of the change.
    """

    before: Pictures
    after: Pictures
    paired: bool = True
    name: str = "a change"

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Nothing:
    """No particular wish: any change that the generator itself can make.

    Attributes:
        region: the part of the picture that should change, "hair"; None for any.
    """

    region: str | None = None

    def __str__(self) -> str:
        return f"a change of {self.region}" if self.region else "a change"


Request = Words | Picture | Pairs | Nothing
