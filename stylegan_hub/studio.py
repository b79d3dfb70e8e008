"""What a page needs between its widgets and the models, without a page.

A `Studio` holds the models that all users share and lets one model call run at a time. Each user's
state is a `Session` (`session.py`); what takes long is a `Search` (`search.py`).
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from typing_extensions import Self

from stylegan_hub import artifacts
from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.direction_statistics import editable_channels, style_statistics
from stylegan_hub.edits.essence import EssenceSettings, find_essence, preset, target_picture
from stylegan_hub.edits.global_direction import KIND as TABLE
from stylegan_hub.edits.global_direction import DirectionTable, load_directions, select_channels
from stylegan_hub.edits.gradient_direction import GradientSettings, gradient_direction
from stylegan_hub.edits.latent_optimization import Settings, Step, find
from stylegan_hub.edits.local_direction import LocalSettings, find_local_direction
from stylegan_hub.edits.regions import Region, find_region, named_region, region_mask, regions_of
from stylegan_hub.edits.stack import EditStack
from stylegan_hub.errors import MismatchError, NotFoundError
from stylegan_hub.hub import EditInfo, list_edits
from stylegan_hub.latents import Latents, Space
from stylegan_hub.models.redrawing import Redrawing
from stylegan_hub.pipeline import StyleEditPipeline
from stylegan_hub.search import Found, Progress, Search, Turns
from stylegan_hub.session import Applied, Session
from stylegan_hub.text_to_face import CANDIDATES, bundled_text_to_face
from stylegan_hub.text_to_face import KIND as TEXT_TO_FACE

_MAX_FOUND = 64
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
        # By target and neutral text: what `search_for_everybody` found, with all its channels.
        self._found: dict[tuple[str, str], Direction] = {}
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
    ) -> list[Image.Image]:
        """The faces of these seeds, with edits on all of them.

        Raises:
            ValueError: a seed out of range.
            MismatchError: an edit of another generator.
        """
        with self._turns:
            return self.pipe(seed=seeds, edits=edits, truncation_psi=truncation_psi).images

    def face(self, session: Session) -> Latents:
        """The latent of the session's face, before any edit."""
        if session.latents is not None:
            return session.latents
        return self.pipe.sample(session.seed, session.truncation_psi)

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
                    f"{applied.label!r} changes {applied.region} only, by drawing one picture over "
                    "another; the face to be kept is one picture. Let it change everything, or "
                    "save the stack."
                )
        with self._turns:
            return replace(session, latents=self._edited(session), edits=())

    def save_stack(self, session: Session, path: str | Path) -> None:
        """Write face and edits as one file, see `EditStack.save`."""
        with self._turns:
            stack = EditStack(session.edits, self.face(session))
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
        edits = tuple(Applied(**vars(applied)) for applied in stack.edits)
        return replace(session, latents=session.latents if start is None else start, edits=edits)

    def unfamiliar(self, words: str) -> list[str]:
        """Words for which this CLIP has no token, so that it may misread them."""
        with self._turns:
            split = self.pipe.tokenizer.tokenize
            return [word for word in re.findall(r"[^\W\d_]+", words) if len(split(word)) > 1]

    def search(
        self,
        session: Session,
        words: str,
        settings: Settings | None = None,
        space: Space | str = Space.W_PLUS,
        owner: Hashable = None,
        neutral: str | None = None,
    ) -> Search[Step, Direction]:
        """Start to look for the edit that makes the session's face, as edited, fit the words.

        Args:
            settings: of the latent optimization.
            space: where the displacement lives; a face that is edited in s goes on in s.
            owner: who asks. An owner has one search at a time: the one before is stopped.
            neutral: what the face shows now, in words; here as elsewhere the pipeline's own words
                when None.

        Raises:
            ValueError: empty words, more than this CLIP reads, a seed out of range.
            MismatchError: an edit of another generator.
        """
        chosen, neutral = settings or Settings(), self._neutral(neutral)
        with self._turns:
            self._check(words, neutral)
            face = self._edited(session)
        space = max(face.space, Space(space))

        def work(report: Callable[[Step], None]) -> Direction:
            return find(self.pipe, words.strip(), face, space, neutral, chosen, report)

        return self.search_by(owner, chosen.steps, work)

    def target(self, picture: Image.Image) -> Image.Image:
        """What of a picture `search_essence` looks at: its middle, in the generator's size.

        Raises:
            ValueError: no pixels, or such as nobody knows the range of, see `images.from_pil`.
        """
        (square,) = image_files.to_pil(target_picture(self.pipe, picture))
        return square

    def search_essence(
        self,
        target: Image.Image,
        name: str,
        settings: EssenceSettings | None = None,
        owner: Hashable = None,
    ) -> Search[Step, Direction]:
        """Start to look for the edit that gives any face the essence of a picture.

        Args:
            target: any picture.
            name: what to call it.
            settings: see `essence.preset`.
            owner: see `search`.

        Raises:
            ValueError: no name.
        """
        if not (name := name.strip()):
            raise ValueError("Got no name for the target picture; write one, such as 'my cat'.")
        chosen = settings or preset("in_domain", self.pipe)

        def work(report: Callable[[Step], None]) -> Direction:
            return find_essence(self.pipe, target, chosen, report, name)

        return self.search_by(owner, chosen.steps, work)

    @cached_property
    def regions(self) -> list[str]:
        """Names of the regions that an edit can be limited to; none without a parser."""
        return [] if self.pipe.parser is None else list(regions_of(self.pipe.parser))

    def region(self, words: str, names: Sequence[str] = (), neutral: str | None = None) -> Region:
        """The region of these names together, or else the one that the words speak of.

        Raises:
            ValueError: no words, or about no part of a face; an unknown name; no parser.
        """
        with self._turns:
            if names:
                return named_region(self.pipe, ", ".join(names))
            if not words.strip():
                raise ValueError(
                    "Got neither words nor a region; say what shall change, or choose where."
                )
            neutral = self._neutral(neutral)
            self._check(words, neutral)
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

    def search_local(
        self,
        session: Session,
        words: str,
        region: Region,
        settings: LocalSettings,
        space: Space | str = Space.W_PLUS,
        this_face: bool = False,
        owner: Hashable = None,
        neutral: str | None = None,
    ) -> Search[Step, Direction]:
        """Start to look for an edit that changes a region as the words say.

        Args:
            words: empty to change it anyhow; the settings must say so, too.
            space: "w", "w_plus" or "s"; a face in s is edited in s.
            this_face: find it on the session's face as edited, not on random people.
            owner: see `search`.

        Raises:
            ValueError: more words than this CLIP reads, a seed out of range.
            MismatchError: an edit of another generator.
        """
        prompt, neutral = words.strip() or None, self._neutral(neutral)
        with self._turns:
            if prompt is not None:
                self._check(prompt, neutral)
            face = self._edited(session) if this_face else self.face(session)
        chosen = Space.S if face.space is Space.S else Space(space)

        def work(report: Callable[[Step], None]) -> Direction:
            return find_local_direction(
                self.pipe,
                prompt,
                region,
                face if this_face else None,
                chosen,
                neutral,
                settings,
                report,
            )

        return self.search_by(owner, settings.steps, work)

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
            self._check(text)

        def work(report: Callable[[Face], None]) -> list[Face]:
            faces = []
            for seed in seeds:
                drawn = self.pipe.from_text(text.strip(), seed, truncation_psi, candidates)
                faces.append((drawn.images[0], drawn.latents))
                report(faces[-1])
            return faces

        return self.search_by(owner, len(seeds), work)

    @cached_property
    def directions(self) -> DirectionTable | None:
        """The bundled table of global directions for this pipeline, None if there is none.

        Raises:
            ArtifactError: a bundled table is damaged.
        """
        for name in artifacts.bundled("direction_table"):
            table = load_directions(name)
            try:
                table.check_fits(self.pipe)
            except MismatchError:
                continue  # it is another pipeline's
            return table
        return None

    @cached_property
    def channels(self) -> int:
        """How many channels an edit for everybody has to choose from."""
        return len(self.directions.index if self.directions else editable_channels(self.pipe))

    def is_known(self, target: str, neutral: str | None = None) -> bool:
        """Whether `direction` has an answer, or needs a `search_for_everybody` before."""
        words = target.strip(), self._neutral(neutral)
        return self.directions is not None or words in self._found

    def direction(
        self,
        target: str,
        neutral: str | None = None,
        threshold: float | None = None,
        channels: int | None = None,
    ) -> Direction:
        """The edit for everybody that changes pictures as `neutral` changes to `target`, at once.

        Args:
            threshold: how relevant a channel must be; needs a table.
            channels: how many move.

        Raises:
            ValueError: empty texts, more than this CLIP reads, two that mean the same, a threshold
                that no channel passes, an impossible number; the words are not known.
        """
        target, neutral = target.strip(), self._neutral(neutral)
        with self._turns:
            self._check(target, neutral)
            if self.directions is not None:
                return self.directions.direction(self.pipe, target, neutral, threshold, channels)
            if not self.is_known(target, neutral):
                raise ValueError(f"Nothing was found for {target!r} and {neutral!r} yet; search.")
            if threshold is not None:
                raise ValueError(
                    f"Got threshold {threshold}, which needs a direction table, and this pipeline "
                    "has none; give a number of channels."
                )
            found = self._found[target, neutral]
            return found if channels is None else self._narrowed(found, channels)

    def search_for_everybody(
        self, target: str, neutral: str | None = None, owner: Hashable = None
    ) -> Search[int, Direction]:
        """Start to look for what `direction` answers, without a table; reports the steps done.

        Raises:
            ValueError: empty texts, or more than this CLIP reads.
        """
        target, neutral = target.strip(), self._neutral(neutral)
        with self._turns:
            self._check(target, neutral)
        settings = GradientSettings()

        def work(report: Callable[[int], None]) -> Direction:
            found = gradient_direction(
                self.pipe, target, neutral, settings=settings, on_step=lambda done, _: report(done)
            )
            self._found[target, neutral] = found
            if len(self._found) > _MAX_FOUND:
                del self._found[next(iter(self._found))]  # the oldest
            return found

        return self.search_by(owner, settings.steps, work)

    def zoo(self, include_hub: bool = False) -> tuple[list[EditInfo], list[str]]:
        """The edits for this pipeline, bundled and from the Hub; and what went wrong with others.

        Args:
            include_hub: ask the Hub too, which may take seconds.
        """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fingerprint = self.pipe.base_model.fingerprint
            found = list_edits(base_model=fingerprint, include_hub=include_hub)
        # Other threads may have warned meanwhile, from other files.
        problems = [str(warning.message) for warning in caught if warning.filename == __file__]
        return [info for info in found if info.kind not in (TABLE, TEXT_TO_FACE)], problems

    def load(self, name: str) -> Edit:
        """An edit by bundled name or Hub id, "user/repo" or "user/repo@revision".

        Raises:
            ValueError: it is neither; folders are not read, since anybody may be asking.
            NotFoundError, ArtifactError: see `load_edit`.
            MismatchError: it is for another generator.
        """
        name = name.strip()
        if artifacts.hub_id(name) is None or (
            os.path.isdir(name) and name not in artifacts.bundled()
        ):
            raise ValueError(
                f"Got {name[:100]!r}; expected the name of a bundled edit, or a Hub id such as "
                "'user/repo' or 'user/repo@revision'."
            )
        edit = load_edit(name)
        edit.check_fits(self.pipe.base_model)
        return edit

    def stop(self, owner: Hashable) -> None:
        """Stop this owner's search, if there is one."""
        if search := self._searches.pop(owner, None):
            search.stop()

    def search_by(
        self,
        owner: Hashable,
        total: int,
        work: Callable[[Callable[[Progress], None]], Found],
    ) -> Search[Progress, Found]:
        """Work in a thread of its own, when its turn comes; an owner's earlier search is stopped.

        Args:
            owner: whose search it is.
            total: so many steps.
            work: is given what reports a step, and returns what was found.
        """
        self.stop(owner)
        search = Search(self._turns, total, work)
        self._searches[owner] = search
        return search

    def _edited(self, session: Session) -> Latents:
        # Latents know no regions: what shows in one only is left out.
        whole = tuple(applied for applied in session.edits if applied.region is None)
        return EditStack(whole).apply(self.pipe, self.face(session))

    def _narrowed(self, direction: Direction, channels: int) -> Direction:
        """Only so many channels, those that move most, as `gradient_direction` would choose."""
        index = editable_channels(self.pipe)
        size = direction.vector[index] / self._style_deviations[index].to(direction.vector)
        chosen = select_channels(size.nan_to_num(0, 0, 0), channels=channels)
        vector = direction.vector.clone()
        vector[index] = vector[index] * chosen
        origin = direction.origin
        origin = replace(origin, training={**origin.training, "channels": channels})
        return Direction(vector, Space.S, direction.base_model, direction.strength, origin)

    @cached_property
    def _style_deviations(self) -> Tensor:
        # As gradient_direction measures them.
        return style_statistics(self.pipe, 2000, 0, GradientSettings.truncation_psi)[1]

    def _draw_anew(self, session: Session) -> Image.Image:
        stack = EditStack(session.edits)
        if any(applied.region is not None for applied in session.edits):
            drawn = stack.draw(self.pipe, self.face(session))
        else:
            edited = stack.apply(self.pipe, self.face(session))
            drawing = self._drawing(session.seed, session.truncation_psi, session.latents)
            drawn = drawing(self.pipe.lower(edited, Space.S).codes).clamp(-1, 1)
        return image_files.to_pil(drawn.float())[0]

    def _neutral(self, text: str | None) -> str:
        return self.pipe.neutral if text is None else text.strip()

    def _check(self, *texts: str) -> None:
        """Raise `ValueError` for an empty text, or one that is longer than this CLIP reads."""
        tokenizer = self.pipe.tokenizer
        limit = tokenizer.model_max_length - 2  # start and end take a place each
        for text in texts:
            if not text.strip():
                raise ValueError(f"Got no words ({text!r}); write some, as in 'a smiling face'.")
            count = len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
            if count > limit:
                raise ValueError(
                    f"Got {len(text.split())} words, {count} tokens; this CLIP reads {limit} "
                    "tokens. Say it in fewer words."
                )


def _marked(
    image: Float[Tensor, "1 3 h w"], mask: Float[Tensor, "1 1 h w"]
) -> Float[Tensor, "1 3 h w"]:
    """The picture, tinted where the mask is, pale and gray elsewhere."""
    tint = torch.tensor([0.1, -0.7, 0.9])[:, None, None]  # violet
    pale = torch.lerp(image.mean(1, keepdim=True), torch.ones(()), 0.6)
    return torch.lerp(pale, torch.lerp(image, tint, 0.4), mask)
