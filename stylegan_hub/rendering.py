"""The one channel for pictures: a session, a size, final or moving, to a picture.

It has a turn of its own, so that a picture never waits for a step of a search. Whoever gets the
turn draws for all who wait for moving pictures of the same size, together: a batch of eight takes
half as long as eight pictures. A browser with the generator in it renders moving pictures itself,
of `displacements`.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.domain import Label
from stylegan_hub.edits.base import Edit
from stylegan_hub.latents import Latents, Space
from stylegan_hub.models.redrawing import Redrawing
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.search import Turns
from stylegan_hub.session import Session

_MAX_DRAWINGS = 2  # each keeps all features of a picture: 0.5 GB at 1024 px
_MAX_BATCH = 8
_LARGEST_MOVING = 256  # pixels that two cores draw while a slider moves
_MAX_PICTURES = 64  # a page asks for the same face before the edit again and again


@dataclass(eq=False)
class _Wish:
    """A moving picture that somebody waits for."""

    session: Session
    resolution: int
    picture: Future[Image.Image] = field(default_factory=Future)


class Rendering:
    """Draws the sessions of all users of one pipeline, from any thread."""

    def __init__(self, pipe: StyleEditPipeline) -> None:
        self._pipe = pipe
        self._turns = Turns()
        self._lock = threading.Lock()
        self._waiting: list[_Wish] = []
        # A slider moves one edit on one face: most layers stay as they are. By face.
        self._redrawing = lru_cache(maxsize=_MAX_DRAWINGS)(lambda *_: Redrawing(pipe.generator))
        self._final = lru_cache(maxsize=_MAX_PICTURES)(self._draw)
        self._face = lru_cache(maxsize=_MAX_PICTURES)(self._sample)

    def picture(
        self, session: Session, largest: int | None = None, moving: bool = False
    ) -> Image.Image:
        """The face after the session's edits, each in its region.

        Args:
            largest: pixels of the longer side that are of use; a generator that can draws no more
                than the next resolution above it. None for all that there are.
            moving: it will be replaced at once: it is the picture of a block of at most 256 px, so
                that it follows a slider at any size, and may be drawn together with those of
                others. Up to 256 px it is the final one but for rounding.

        Raises:
            ValueError: a seed out of range, an unknown region, a region without a parser.
            MismatchError: an edit of another generator.
        """
        if not moving or any(applied.region is not None for applied in session.edits):
            with self._turns:
                return self._final(session)
        wish = _Wish(session, self._resolution(largest))
        with self._lock:
            self._waiting.append(wish)
        with self._turns:
            if not wish.picture.done():  # another who had the turn has not drawn it
                self._draw_waiting(wish)
        return wish.picture.result()

    @torch.no_grad()
    def displacements(self, session: Session) -> Float[Tensor, "k num_styles"] | None:
        """What another supplier of pictures needs for any strengths of the session's edits.

        The first row is s of the face before them, and each other one what its edit adds to s at
        strength 1: the picture is that of `rows[0] + strengths @ rows[1:]`.

        Returns:
            The rows, or None where the edits are more than such a sum: one has a region, or a way
            of its own to be applied.
        """
        for applied in session.edits:
            if applied.region is not None or type(applied.edit).apply is not Edit.apply:
                return None
        with self._turns:
            face = self.face(session)
            start = self._pipe.lower(face, Space.S).codes
            rows = [start]
            for applied in session.edits:
                seen = self._pipe.lower(face, max(face.space, applied.edit.space))
                moved = self._pipe.lower(applied.edit.apply(seen, 1.0), Space.S).codes
                rows.append(moved - start)
            return torch.cat(rows).float().cpu()

    def face(self, session: Session) -> Latents:
        """The latent of the session's face, before any edit."""
        return self._face(session.seed, session.truncation_psi, session.label, session.latents)

    def forget(self) -> None:
        """Forget all that was drawn; the next pictures take longer."""
        for remembered in (self._final, self._redrawing, self._face):
            remembered.cache_clear()

    def _sample(
        self, seed: int, truncation_psi: float, label: Label | None, latents: Latents | None
    ) -> Latents:
        if latents is not None:
            return latents
        return self._pipe.sample(seed, truncation_psi, label=label)

    def _resolution(self, largest: int | None) -> int:
        network = self._pipe.generator.synthesis
        whole = network.resolutions[-1]
        if network.architecture != "skip":
            return whole
        largest = min(largest or _LARGEST_MOVING, _LARGEST_MOVING)
        return next((size for size in network.resolutions if size >= largest), whole)

    def _draw(self, session: Session) -> Image.Image:
        if any(applied.region is not None for applied in session.edits):
            drawn = session.stack.draw(self._pipe, self.face(session))
        else:
            face = (session.seed, session.truncation_psi, session.label, session.latents)
            drawn = self._drawn_again(face, self._codes(session))
        return _pictures(drawn)[0]

    def _draw_waiting(self, first: _Wish) -> None:
        """Draw this one, and others that can be drawn with it."""
        with self._lock:
            alike = [
                w for w in self._waiting if w.resolution == first.resolution and w is not first
            ]
            batch = [first, *alike[: _MAX_BATCH - 1]]
            self._waiting = [wish for wish in self._waiting if wish not in batch]
        codes: dict[_Wish, Tensor] = {}
        for wish in batch:
            try:
                codes[wish] = self._codes(wish.session)
            except Exception as error:  # theirs alone: it is raised where the picture is awaited
                wish.picture.set_exception(error)
        try:
            pictures = self._draw_together(codes, first.resolution)
        except BaseException as error:
            for wish in codes:
                wish.picture.set_exception(error)
            return
        for wish, picture in zip(codes, pictures, strict=True):
            wish.picture.set_result(picture)

    def _draw_together(self, codes: dict[_Wish, Tensor], resolution: int) -> list[Image.Image]:
        generator = self._pipe.generator
        if not codes:
            return []
        if len(codes) == 1 and resolution == generator.synthesis.resolutions[-1]:
            ((wish, styles),) = codes.items()
            session = wish.session
            face = (session.seed, session.truncation_psi, session.label, session.latents)
            return _pictures(self._drawn_again(face, styles))
        with torch.no_grad():
            together = Latents(Space.S, torch.cat([*codes.values()]))
            return _pictures(self._pipe.synthesize(together, resolution))

    def _drawn_again(self, face: tuple[Any, ...], styles: Tensor) -> Float[Tensor, "1 3 h w"]:
        """The whole picture of a face, of which a slider may have changed fine layers only."""
        if self._pipe.runtime.serves(1):
            return self._pipe.runtime.render(styles)
        return self._redrawing(*face)(styles)

    def _codes(self, session: Session) -> Float[Tensor, "1 num_styles"]:
        edited = session.stack.apply(self._pipe, self.face(session))
        return self._pipe.lower(edited, Space.S).codes


def _pictures(drawn: Float[Tensor, "n 3 h w"]) -> list[Image.Image]:
    return image_files.to_pil(drawn.float().clamp(-1, 1))
