"""What a page needs between its widgets and the models, without a page.

A `Studio` holds the models that all users share and lets one model call run at a time. Each user's
state is a `Session` (`session.py`); what takes long is a `Search` (`search.py`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub import names
from stylegan_hub.domain import Label
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import NotFoundError
from stylegan_hub.hub import EditInfo, list_edits
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.choose import method_for
from stylegan_hub.methods.essence import target_picture
from stylegan_hub.methods.method import Method, Request, get
from stylegan_hub.models.redrawing import Redrawing
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.regions.find import Region, find_region, named_region, regions_of
from stylegan_hub.regions.mask import region_mask
from stylegan_hub.search import Found, Progress, Search, Turns
from stylegan_hub.session import Session, label_of
from stylegan_hub.steps import Step
from stylegan_hub.text_to_face import CANDIDATES, bundled_text_to_face

_MAX_DRAWINGS = 2  # each keeps all features of a picture: 0.5 GB at 1024 px

Face = tuple[Image.Image, Latents]
"""A picture and the one latent in w_plus that it was drawn from."""


class Studio:
    """The models of one pipeline, shared by all users.

    Methods may be called from any thread. Calls wait for each other in order of arrival, and a
    search lets others in between its steps.
    """

    def __init__(self, pipe: StyleEditPipeline) -> None:
        self.pipe = pipe
        self._turns = Turns()
        self._searches: dict[Hashable, Search[Any, Any]] = {}
        # A slider asks for the same face before the edit again and again.
        self._picture = lru_cache(maxsize=64)(self._draw_anew)
        # A slider moves one edit on one face: most layers stay as they are. By face.
        self._drawing = lru_cache(maxsize=_MAX_DRAWINGS)(lambda *_: Redrawing(pipe.generator))

    @classmethod
    def open(cls, name_or_path: str | Path = "portraits") -> Self:
        """A studio for a pipeline by bundled name, folder or Hub id; raises as its loading does."""
        return cls(StyleEditPipeline.from_pretrained(name_or_path))

    @property
    def noun(self) -> str:
        """What a picture of the pipeline shows, without an article: "face" of "a face"."""
        return re.sub(r"^(an?|the)\s+", "", self.pipe.neutral, flags=re.IGNORECASE)

    def faces(
        self,
        seeds: Sequence[int],
        truncation_psi: float = 0.7,
        edits: Sequence[tuple[Edit, float]] = (),
        label: Label | None = None,
    ) -> list[Image.Image]:
        """The faces of these seeds, with edits on all of them.

        Raises:
            ValueError: a seed out of range, a label that the generator does not take.
            MismatchError: an edit of another generator.
        """
        with self._turns:
            return self.pipe(
                seed=seeds, edits=edits, truncation_psi=truncation_psi, label=label
            ).images

    def face(self, session: Session) -> Latents:
        """The latent of the session's face, before any edit."""
        if session.latents is not None:
            return session.latents
        return self.pipe.sample(session.seed, session.truncation_psi, label=session.label)

    def draw(self, session: Session) -> tuple[Image.Image, Image.Image]:
        """The face before and after the session's edits, each in its region.

        Raises:
            ValueError: a seed out of range, an unknown region, a region without a parser.
            MismatchError: an edit of another generator.
        """
        with self._turns:
            return self._picture(session.without_edits()), self._picture(session)

    def keep(self, session: Session) -> Session:
        """A session that starts from the edited face.

        Raises:
            ValueError: an edit with a region, which a face without edits cannot have.
        """
        for applied in session.edits:
            if applied.region is not None:
                raise ValueError(
                    f"{label_of(applied)!r} changes {applied.region} only, by drawing one picture "
                    "over another; the face to be kept is one picture. Let it change everything, "
                    "or save the stack."
                )
        with self._turns:
            return replace(session.without_edits(), latents=self._edited(session))

    def save_stack(self, session: Session, path: str | Path) -> None:
        """Write face and edits as one file, see `EditStack.save`."""
        with self._turns:
            stack = replace(session.stack, start=self.face(session))
        stack.save(path)

    def load_stack(self, session: Session, path: str | Path) -> Session:
        """The session with the edits of a file, and its face if it has one; anybody's file.

        Raises:
            NotFoundError, ArtifactError: see `EditStack.load`.
            MismatchError: it is for another generator.
            ValueError: it cannot be used here: regions without a parser, several faces.
        """
        stack = EditStack.load(path)
        with self._turns:
            base_model = self.pipe.base_model
            for applied in stack.edits:
                applied.edit.check_fits(base_model)
                if applied.region is not None:
                    named_region(self.pipe, applied.region)
            if (start := stack.start) is not None:
                if len(start) != 1:
                    raise ValueError(f"Got a stack on {len(start)} faces; expected one.")
                start = self.pipe.lower(start, max(start.space, Space.W_PLUS))
        latents = session.latents if start is None else start
        return replace(session, latents=latents, stack=EditStack(stack.edits))

    def unfamiliar(self, words: str) -> list[str]:
        """Words for which this CLIP has no token, so that it may misread them."""
        with self._turns:
            return self.pipe.words_without_token(words)

    def method_for(
        self, session: Session, request: Request, *, every_face: bool = False
    ) -> Method[Any]:
        """The pipeline's best method for a request; arguments and errors as of `search`."""
        with self._turns:
            return method_for(self.pipe, request, None if every_face else self._edited(session))

    def search(
        self,
        session: Session,
        request: Request,
        method: str | None = None,
        *,
        every_face: bool = False,
        settings: Any = None,
        owner: Hashable = None,
    ) -> Search[Step, list[Edit]]:
        """Start to look for edits; most methods find one.

        Args:
            request: what is asked for.
            method: by name; the pipeline's best one for this request when None.
            every_face: find edits for every face, and not for the session's face as edited.
            settings: of the method: a preset by name or settings.
            owner: who asks. An owner has one search at a time: the one before is stopped.

        Returns:
            The search, whose result is the list of edits, the best first.

        Raises:
            MethodError, ValueError: see `Method.find`; what can be known before the search is
                raised here, the rest where its result is asked for.
            MismatchError: an edit of another generator.
        """
        with self._turns:
            face = None if every_face else self._edited(session)
            chosen = get(method) if method else method_for(self.pipe, request, face)
            chosen.prepared(self.pipe, request, face, session.label, settings)

        def work(report: Callable[[Step], None]) -> list[Edit]:
            return chosen.find_all(
                self.pipe, request, face, label=session.label, settings=settings, on_step=report
            )

        return self.search_by(owner, work)

    def target(self, picture: Image.Image) -> Image.Image:
        """What the method "essence" sees of a picture: its middle, in the generator's size.

        Raises:
            ValueError: no pixels, or such as nobody knows the range of, see `images.from_pil`.
        """
        (square,) = image_files.to_pil(target_picture(self.pipe, picture))
        return square

    @cached_property
    def regions(self) -> list[str]:
        """Names of the regions that an edit can be limited to; none without a parser."""
        return [] if self.pipe.parser is None else list(regions_of(self.pipe.parser))

    def region(self, words: str, chosen: Sequence[str] = (), neutral: str | None = None) -> Region:
        """The region of these names together, or else the one that the words speak of.

        Raises:
            ValueError: no words, or about no part of a face; an unknown name; no parser.
        """
        with self._turns:
            if chosen:
                return named_region(self.pipe, ", ".join(chosen))
            if not words.strip():
                raise ValueError(
                    "Got neither words nor a region; say what should change, or choose where."
                )
            self.pipe.check_text(words)
            return find_region(self.pipe, words.strip(), neutral)

    def mark(self, session: Session, region: Region, background: bool = False) -> Image.Image:
        """The face after the session's edits, with the region marked.

        Args:
            background: mark all but the region.

        Raises:
            ValueError, MismatchError: as `draw`.
        """
        with self._turns:
            image = image_files.from_pil(self._picture(session))
            mask = region_mask(self.pipe, image.to(self.pipe.device), region).cpu()
            marked = _marked(image, 1 - mask if background else mask)
        return image_files.to_pil(marked)[0]

    @cached_property
    def has_text_to_face(self) -> bool:
        """Whether `search_faces` can draw: a network is loaded, or one is bundled.

        Raises:
            ArtifactError: a bundled one is damaged.
        """
        if self.pipe.text_to_face is None:
            try:
                self.pipe.text_to_face = bundled_text_to_face(self.pipe)
            except NotFoundError:
                return False
        return True

    def search_faces(
        self,
        text: str,
        seeds: Sequence[int],
        truncation_psi: float = 0.7,
        candidates: int = CANDIDATES,
        owner: Hashable = None,
    ) -> Search[Face, list[Face]]:
        """Start to draw new faces that fit a text, see `StyleEditPipeline.from_text`.

        It reports each face as soon as it is drawn; its result, and what drawing raises, are those
        of `from_text`.

        Args:
            owner: see `search`.

        Raises:
            ValueError: no words, or more than this CLIP reads.
        """
        with self._turns:
            self.pipe.check_text(text)

        def work(report: Callable[[Face], None]) -> list[Face]:
            faces = []
            for seed in seeds:
                drawn = self.pipe.from_text(text.strip(), seed, truncation_psi, candidates)
                faces.append((drawn.images[0], drawn.latents))
                report(faces[-1])
            return faces

        return self.search_by(owner, work)

    def zoo(self, include_hub: bool = False) -> tuple[list[EditInfo], list[str]]:
        """The edits for this pipeline, bundled and from the Hub; and what went wrong with others.

        Args:
            include_hub: ask the Hub too, which may take seconds.
        """
        fingerprint = self.pipe.base_model.fingerprint
        # Never with the login of whoever runs the page: visitors would act in their name.
        found = list_edits(base_model=fingerprint, include_hub=include_hub, token=False)
        return [info for info in found if names.is_edit(info.kind)], list(found.problems)

    def load(self, name: str) -> Edit:
        """An edit by bundled name or Hub id, "user/repo" or "user/repo@revision".

        Raises:
            ValueError: it is neither; folders are not read, since anybody may be asking.
            NotFoundError, ArtifactError: see `load_edit`.
            MismatchError: it is for another generator.
        """
        name = name.strip()
        if names.hub_id(name) is None or (os.path.isdir(name) and name not in names.bundled()):
            raise ValueError(
                f"Got {name[:100]!r}; expected the name of a bundled edit, or a Hub id such as "
                "'user/repo' or 'user/repo@revision'."
            )
        edit = load_edit(name, token=False)
        edit.check_fits(self.pipe.base_model)
        return edit

    def stop(self, owner: Hashable) -> None:
        """Stop this owner's search, if there is one."""
        if search := self._searches.pop(owner, None):
            search.stop()

    def search_by(
        self,
        owner: Hashable,
        work: Callable[[Callable[[Progress], None]], Found],
    ) -> Search[Progress, Found]:
        """Work in a thread of its own, when its turn comes; an owner's earlier search is stopped.

        Args:
            owner: whose search it is.
            work: is given what reports a step, and returns what was found.
        """
        self.stop(owner)
        search = Search(self._turns, work)
        self._searches[owner] = search
        return search

    def _edited(self, session: Session) -> Latents:
        # Latents know no regions: what shows in one only is left out.
        whole = tuple(applied for applied in session.edits if applied.region is None)
        return EditStack(whole).apply(self.pipe, self.face(session))

    def _draw_anew(self, session: Session) -> Image.Image:
        if any(applied.region is not None for applied in session.edits):
            drawn = session.stack.draw(self.pipe, self.face(session))
        else:
            face = (session.seed, session.truncation_psi, session.label, session.latents)
            edited = session.stack.apply(self.pipe, self.face(session))
            drawn = self._drawing(*face)(self.pipe.lower(edited, Space.S).codes).clamp(-1, 1)
        return image_files.to_pil(drawn.float())[0]


def _marked(
    image: Float[Tensor, "1 3 h w"], mask: Float[Tensor, "1 1 h w"]
) -> Float[Tensor, "1 3 h w"]:
    """The picture, tinted where the mask is, pale and gray elsewhere."""
    tint = torch.tensor([0.1, -0.7, 0.9])[:, None, None]  # violet
    pale = torch.lerp(image.mean(1, keepdim=True), torch.ones(()), 0.6)
    return torch.lerp(pale, torch.lerp(image, tint, 0.4), mask)
