"""The layer between a page's widgets and the models, independent of the page.

A `Studio` holds the models that all users share. Each user's state is a `Session` (`session.py`),
pictures come from its `Rendering` (`rendering.py`), and long tasks are a `Search` (`search.py`).
Only one search works at a time, and searches never delay pictures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub import names
from stylegan_hub.domain import Label
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import MethodError, NotFoundError
from stylegan_hub.hub import EditInfo, VisitorEdits, edit_info, list_edits
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.choose import method_for
from stylegan_hub.methods.essence import target_picture
from stylegan_hub.methods.fit import Verdict, near_words, verdict
from stylegan_hub.methods.method import Method, Request, Words, get
from stylegan_hub.methods.run import Course, TrainableMethod
from stylegan_hub.methods.wording import reading
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.regions.find import (
    Region,
    find_region,
    named_region,
    parser_of,
    regions_of,
)
from stylegan_hub.regions.mask import region_mask
from stylegan_hub.rendering import Rendering
from stylegan_hub.search import Found, Line, Progress, Search, Turns
from stylegan_hub.session import Session, label_of
from stylegan_hub.steps import Step
from stylegan_hub.text_to_face import CANDIDATES, bundled_text_to_face

Find = Callable[
    [str, Request, Latents | None, Label | None, Any, Callable[[Step], None]], list[Edit]
]
"""A function that searches for edits: the name of a method, then the arguments of
`Method.find_all`."""

_ANY_WORDS = "a smiling face"

Face = tuple[Image.Image, Latents]
"""A picture and the one latent in w_plus from which it was rendered."""


class Studio:
    """The models of one pipeline, shared by all users.

    Methods may be called from any thread. Searches and calls of CLIP wait for each other in order
    of arrival, and a search lets others in between its steps. Pictures have their own lock.

    Attributes:
        rendering: renders sessions.

    Args:
        line: the line in which searches wait, so that only a few work at a time; None for a new
            line.
        find: searches with a method, by its name, outside this process; None to search with `pipe`.
    """

    def __init__(
        self, pipe: StyleEditPipeline, line: Line | None = None, find: Find | None = None
    ) -> None:
        self.pipe = pipe
        self._find = find or self._find_here
        self._turns = Turns()
        self._line = line or Line()
        self._trainings = Line(places=1)
        # Weak: a search that has ended, and what it found, must not outlive its visitor's desk.
        self._searches: WeakValueDictionary[Hashable, Search[Any, Any]] = WeakValueDictionary()
        self._from_hub = VisitorEdits()
        self.rendering = Rendering(pipe)

    @classmethod
    def open(
        cls,
        name_or_path: str | Path = "portraits",
        device: str = "auto",
        runtime: str | None = None,
    ) -> Self:
        """A studio for a pipeline; arguments and errors are those of its `from_pretrained`."""
        pipe = StyleEditPipeline.from_pretrained(name_or_path, device=device, runtime=runtime)
        return cls(pipe)

    @property
    def noun(self) -> str:
        """The thing that the pipeline's pictures show, without article: "face" for "a face"."""
        return re.sub(r"^(an?|the)\s+", "", self.pipe.neutral, flags=re.IGNORECASE)

    def faces(
        self,
        seeds: Sequence[int],
        truncation_psi: float = 0.7,
        edits: Sequence[tuple[Edit, float]] = (),
        label: Label | None = None,
    ) -> list[Image.Image]:
        """The faces of these seeds, all with the same edits.

        Raises:
            ValueError: a seed is out of range, or the generator does not accept the label.
            MismatchError: an edit belongs to another generator.
        """
        return self.pipe(seed=seeds, edits=edits, truncation_psi=truncation_psi, label=label).images

    def face(self, session: Session) -> Latents:
        """The latent of the session's face, before any edit."""
        return self.rendering.face(session)

    def draw(self, session: Session) -> tuple[Image.Image, Image.Image]:
        """The face before and after the session's edits, each in its region.

        Raises:
            ValueError: a seed is out of range, a region is unknown, or the pipeline has no parser
                for a region.
            MismatchError: an edit belongs to another generator.
        """
        picture = self.rendering.picture
        return picture(session.without_edits()), picture(session)

    def keep(self, session: Session) -> Session:
        """A session that starts from the edited face.

        Raises:
            ValueError: an edit has a region, which a latent cannot store.
        """
        for applied in session.edits:
            if applied.region is not None:
                raise ValueError(
                    f"{label_of(applied)!r} is limited to {applied.region}. That joins two "
                    "pictures, and a kept face is a single latent. Remove its region, or save "
                    "the stack."
                )
        return replace(session.without_edits(), latents=self._edited(session), text=None)

    def save_stack(self, session: Session, path: str | Path) -> None:
        """Write face and edits as one file, see `EditStack.save`."""
        replace(session.stack, start=self.face(session)).save(path)

    def load_stack(self, session: Session, path: str | Path) -> Session:
        """The session with the edits of a file, and its face if it has one; the file is untrusted.

        Raises:
            NotFoundError, ArtifactError: see `EditStack.load`.
            MismatchError: it belongs to another generator.
            ValueError: it cannot be used here: it has regions but the pipeline has no parser, or
                several faces.
        """
        stack = EditStack.load(path)
        base_model = self.pipe.base_model
        for applied in stack.edits:
            applied.edit.check_fits(base_model)
            if applied.region is not None:
                named_region(self.pipe, applied.region)
        if (start := stack.start) is not None:
            if len(start) != 1:
                raise ValueError(f"Got a stack on {len(start)} faces; expected one.")
            start = self.pipe.lower(start, max(start.space, Space.W_PLUS))
        if start is None:
            return replace(session, stack=EditStack(stack.edits))
        return replace(session, latents=start, text=None, stack=EditStack(stack.edits))

    def unfamiliar(self, words: str) -> list[str]:
        """The words for which this CLIP has no token, so that it may misread them."""
        with self._turns:
            return self.pipe.words_without_token(words)

    def begin(self, method: str, request: Request, settings: Any = None) -> Course:
        """Prepare the training of an edit for every face; run it in `search_by`.

        Raises:
            MethodError: there is no such method, or it does not train.
            ValueError: see `Method.find`.
        """
        chosen = get(method)
        if not isinstance(chosen, TrainableMethod):
            raise MethodError(f"The method {method!r} does not train.", remedy="Use `search`.")
        with self._turns:
            return chosen.begin(self.pipe, request, settings=settings)

    def method_for(
        self, session: Session, request: Request, *, every_face: bool = False
    ) -> Method[Any]:
        """The pipeline's best method for a request; arguments and errors as for `search`."""
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
        at_once: bool = False,
    ) -> Search[Step, list[Edit]]:
        """Start a search for edits; most methods find one.

        Args:
            request: what to search for.
            method: name of the method; None chooses the pipeline's best one for this request.
            every_face: find edits for every face, and not for the session's edited face.
            settings: of the method: the name of a preset, or settings.
            owner: the user who asks. An owner has one search at a time; an earlier one is stopped.
            at_once: do not wait in line, for quick searches; methods with `at_once` never wait.

        Returns:
            The search, whose result is the list of edits, the best first.

        Raises:
            BusyError: too many searches are waiting.
            MethodError, ValueError: see `Method.find`; errors that are known before the search are
                raised here, others when its result is requested.
            MismatchError: an edit belongs to another generator.
        """
        with self._turns:
            face = None if every_face else self._edited(session)
            chosen = get(method) if method else method_for(self.pipe, request, face)
            chosen.prepared(self.pipe, request, face, session.label, settings)

        def work(report: Callable[[Step], None]) -> list[Edit]:
            return self._find(chosen.name, request, face, session.label, settings, report)

        return self.search_by(owner, work, at_once or chosen.at_once)

    def warm_up(self) -> None:
        """Compute once what the first words would otherwise wait for, if words need no search.

        Raises:
            StyleganHubError: words cannot be used in this pipeline.
        """
        session, request = Session(), Words(_ANY_WORDS)
        method = self.method_for(session, request)
        if method.at_once:
            with self.search(session, request, method.name) as search:
                search.result()

    def _find_here(
        self,
        method: str,
        request: Request,
        face: Latents | None,
        label: Label | None,
        settings: Any,
        report: Callable[[Step], None],
    ) -> list[Edit]:
        return get(method).find_all(
            self.pipe, request, face, label=label, settings=settings, on_step=report
        )

    def judged(self, edit: Edit) -> tuple[Verdict | None, list[str]]:
        """Whether pictures match the words that an edit was found for, and words that work better.

        Returns:
            The verdict, None if the pipeline cannot judge; and words if the verdict is "hardly".
        """
        fit, prompt = edit.origin.fit, edit.origin.prompt
        if fit is None or not prompt:
            return None, []
        said = verdict(self.pipe, fit)
        if said != "hardly":
            return said, []
        with self._turns:
            try:
                words = reading(Words(prompt), self.pipe.neutral)
            except MethodError:  # the edit was saved with words that name nothing
                return said, []
            return said, near_words(self.pipe, words)

    def target(self, picture: Image.Image) -> Image.Image:
        """The part of a picture that "essence" uses: its middle, in the generator's size.

        Raises:
            ValueError: there are no pixels, or their range is unknown, see `images.from_pil`.
        """
        (square,) = image_files.to_pil(target_picture(self.pipe, picture))
        return square

    @cached_property
    def regions(self) -> list[str]:
        """Names of the regions that an edit can be limited to; empty without a parser."""
        return [] if self.pipe.parser is None else list(regions_of(self.pipe.parser))

    def region(self, words: str, chosen: Sequence[str] = (), neutral: str | None = None) -> Region:
        """The region of these names together, or, without names, the one that the words are about.

        Raises:
            ValueError: there are no words, or they are about no part of a face; a name is unknown;
                or the pipeline has no parser.
        """
        with self._turns:
            if chosen:
                return named_region(self.pipe, ", ".join(chosen))
            if not words.strip():
                raise ValueError(
                    "Got neither words nor a region. Describe the change, or choose a region."
                )
            self.pipe.check_text(words)
            return find_region(self.pipe, words.strip(), neutral)

    def region_at(self, session: Session, across: float, down: float) -> str:
        """The name of the region at a place in the face after the session's edits.

        If there are several, it is the one with the fewest parts.

        Args:
            across, down: the place, from the left and from the top, 0 to 1.

        Raises:
            ValueError: the place is outside the picture, or the pipeline has no parser.
        """
        if not (0 <= across <= 1 and 0 <= down <= 1):
            raise ValueError(
                f"Got the place ({across:g}, {down:g}), which is outside the picture; expected "
                "numbers from 0 to 1."
            )
        parser = parser_of(self.pipe)
        image = image_files.from_pil(self.rendering.picture(session)).to(self.pipe.device)
        (labels,) = parser.labels(image.to(parser.dtype))
        height, width = labels.shape
        at = min(int(down * height), height - 1), min(int(across * width), width - 1)
        part = parser.parts[int(labels[at])]
        known = regions_of(parser)
        return min((name for name in known if part in known[name]), key=lambda n: len(known[n]))

    def mark(self, session: Session, region: Region, background: bool = False) -> Image.Image:
        """The face after the session's edits, with the region marked.

        Args:
            background: mark everything except the region.

        Raises:
            ValueError, MismatchError: as for `draw`.
        """
        image = image_files.from_pil(self.rendering.picture(session))
        mask = region_mask(self.pipe, image.to(self.pipe.device), region).cpu()
        marked = _marked(image, 1 - mask if background else mask)
        return image_files.to_pil(marked)[0]

    @cached_property
    def has_text_to_face(self) -> bool:
        """Whether `search_faces` works: a network is loaded, or one is bundled.

        Raises:
            ArtifactError: a bundled network is damaged.
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
        """Start a search for new faces that fit a text, see `StyleEditPipeline.from_text`.

        It reports each face as soon as it is rendered; its result and errors are those of
        `from_text`.

        Args:
            owner: see `search`.

        Raises:
            BusyError: too many searches are waiting.
            ValueError: there are no words, or more than this CLIP reads.
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
        """The edits for this pipeline, bundled and from the Hub, and problems with others.

        Args:
            include_hub: also search the Hub, which may take seconds.
        """
        fingerprint = self.pipe.base_model.fingerprint
        # Never with the login of the page's operator, or visitors would act in the operator's name.
        found = list_edits(base_model=fingerprint, include_hub=include_hub, token=False)
        return [info for info in found if names.is_edit(info.kind)], list(found.problems)

    def look(self, name: str) -> EditInfo | None:
        """Information about an edit from its description alone; None if `load` will raise an error.

        Raises:
            NotFoundError, ArtifactError: see `VisitorEdits.look`.
        """
        name = name.strip()
        if name in names.bundled():
            return edit_info(name)
        if names.hub_id(name) is None or "/" not in name:
            return None
        return self._from_hub.look(name)

    def load(self, name: str) -> Edit:
        """An edit by bundled name, Hub id or the address of a page on the Hub.

        An edit on the Hub is checked before it is downloaded, see `VisitorEdits`.

        Raises:
            ValueError: the name is none of these. Folders are not read, because the visitor is
                untrusted.
            NotFoundError, ArtifactError, MismatchError, BusyError: see `VisitorEdits.load`.
        """
        name = name.strip()
        if name in names.bundled():
            edit = load_edit(name)
            edit.check_fits(self.pipe.base_model)
            return edit
        if names.hub_id(name) is None:
            raise ValueError(
                f"Got {name[:100]!r}; expected the name of a bundled edit, or a Hub id: "
                "'user/repo', 'user/repo@revision' or the address of its page."
            )
        try:
            return self._from_hub.load(name, self.pipe.base_model)
        except NotFoundError as error:
            if "/" in name:
                raise
            similar = names.near(name, names.bundled(names.EDIT))
            meant = f" Did you mean {' or '.join(map(repr, similar))}?" if similar else ""
            raise NotFoundError(
                f"There is no edit {name[:100]!r}.{meant}", got=name, expected=similar
            ) from error

    def forget_pictures(self) -> None:
        """Forget all rendered pictures; the next pictures take longer."""
        self.rendering.forget()

    def stop(self, owner: Hashable) -> None:
        """Stop this owner's search, if there is one."""
        if search := self._searches.pop(owner, None):
            search.stop()

    def search_by(
        self,
        owner: Hashable,
        work: Callable[[Callable[[Progress], None]], Found],
        at_once: bool = False,
        training: bool = False,
    ) -> Search[Progress, Found]:
        """Run `work` in its own thread when its turn comes; stops an earlier search of the owner.

        Args:
            owner: the user whose search it is.
            work: gets a function to report a step with, and returns the result.
            at_once: do not wait in line.
            training: it takes minutes, so it waits in a separate line, where one runs at a time.

        Raises:
            BusyError: too many searches are waiting.
        """
        self.stop(owner)
        line = self._trainings if training else self._line
        search = Search(self._turns, work, None if at_once else line)
        self._searches[owner] = search
        return search

    def _edited(self, session: Session) -> Latents:
        # Latents have no regions, so edits with a region are left out.
        whole = tuple(applied for applied in session.edits if applied.region is None)
        return EditStack(whole).apply(self.pipe, self.face(session))


def _marked(
    image: Float[Tensor, "1 3 h w"], mask: Float[Tensor, "1 1 h w"]
) -> Float[Tensor, "1 3 h w"]:
    """The picture, tinted inside the mask, pale and gray elsewhere."""
    tint = torch.tensor([0.1, -0.7, 0.9])[:, None, None]  # violet
    pale = torch.lerp(image.mean(1, keepdim=True), torch.ones(()), 0.6)
    return torch.lerp(pale, torch.lerp(image, tint, 0.4), mask)
