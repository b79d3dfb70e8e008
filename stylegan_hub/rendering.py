"""Render the pictures of sessions, final or moving, at a given size.

Rendering has its own lock, so that a picture never waits for a step of a search. The thread that
gets the lock renders all waiting moving pictures of the same size together, because a batch of
eight takes half as long as eight pictures. A browser that has the generator renders moving pictures
itself, from `displacements`.
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
_LARGEST_MOVING = 256  # pixels that two cores can render while a slider moves
_MAX_PICTURES = 64  # a page requests the same face before the edit again and again


@dataclass(eq=False)
class _Wish:
    """A moving picture that a thread waits for."""

    session: Session
    resolution: int
    picture: Future[Image.Image] = field(default_factory=Future)


class Rendering:
    """Renders the sessions of all users of one pipeline, from any thread."""

    def __init__(self, pipe: StyleEditPipeline) -> None:
        self._pipe = pipe
        self._turns = Turns()
        self._lock = threading.Lock()
        self._waiting: list[_Wish] = []
        # Kept by face: a slider moves one edit of one face, so most layers do not change.
        self._redrawing = lru_cache(maxsize=_MAX_DRAWINGS)(lambda *_: Redrawing(pipe.generator))
        self._final = lru_cache(maxsize=_MAX_PICTURES)(self._draw)
        self._face = lru_cache(maxsize=_MAX_PICTURES)(self._sample)

    def picture(
        self, session: Session, largest: int | None = None, moving: bool = False
    ) -> Image.Image:
        """The face after the session's edits, each in its region.

        Args:
            largest: the longer side that is needed, in pixels. If the generator can, it renders
                only the next resolution above it. None is the full size.
            moving: the picture will be replaced soon. It comes from a block of at most 256 px, so
                that it follows a slider at any size, and may be rendered together with the pictures
                of other users. Up to 256 px it equals the final picture except for rounding.

        Raises:
            ValueError: a seed is out of range, a region is unknown, or the pipeline has no parser
                for a region.
            MismatchError: an edit belongs to another generator.
        """
        if not moving or any(applied.region is not None for applied in session.edits):
            with self._turns:
                return self._final(session)
        wish = _Wish(session, self._resolution(largest))
        with self._lock:
            self._waiting.append(wish)
        with self._turns:
            if not wish.picture.done():  # unless another thread has rendered it meanwhile
                self._draw_waiting(wish)
        return wish.picture.result()

    @torch.no_grad()
    def displacements(self, session: Session) -> Float[Tensor, "k num_styles"] | None:
        """The data from which another renderer can make pictures at any strengths of the edits.

        The first row is s of the face before the edits. Each other row is what an edit adds to s at
        strength 1. The picture is that of `rows[0] + strengths @ rows[1:]`.

        Returns:
            The rows; None if the edits are not such a sum, because one has a region or its own
            `apply`.
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
        """Forget all rendered pictures; the next pictures take longer."""
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
        """Render this picture, and others that can be rendered with it."""
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
            except Exception as error:  # only for this user: raised where the picture is awaited
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
        """The full-size picture of a face; a slider may have changed only its fine layers."""
        if self._pipe.runtime.serves(1):
            return self._pipe.runtime.render(styles)
        return self._redrawing(*face)(styles)

    def _codes(self, session: Session) -> Float[Tensor, "1 num_styles"]:
        edited = session.stack.apply(self._pipe, self.face(session))
        return self._pipe.lower(edited, Space.S).codes


def _pictures(drawn: Float[Tensor, "n 3 h w"]) -> list[Image.Image]:
    return image_files.to_pil(drawn.float().clamp(-1, 1))
