"""What a page needs between its widgets and the models, without a page.

A `Session` is one user's state: frozen and copyable, so a change gives a new one. A `Studio` holds
the models that all users share and lets one model call run at a time. A `Search` is a search for
an edit by words that runs beside the page and can be watched and stopped.
"""

from __future__ import annotations

import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

from PIL import Image
from torch import Tensor
from typing_extensions import Self

from stylegan_hub import artifacts
from stylegan_hub.edits.base import Edit, load_edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.direction_statistics import editable_channels, style_statistics
from stylegan_hub.edits.global_direction import (
    KIND,
    DirectionTable,
    load_directions,
    select_channels,
)
from stylegan_hub.edits.gradient_direction import GradientSettings, gradient_direction
from stylegan_hub.edits.latent_optimization import Cancelled, Settings, Step, find
from stylegan_hub.errors import MismatchError
from stylegan_hub.hub import EditInfo, list_edits
from stylegan_hub.latents import Latents, Space
from stylegan_hub.pipeline import StyleEditPipeline

NEUTRAL = "a face"
"""What pictures show before an edit, in words, where nobody says anything else."""

_MAX_FOUND = 64

Progress = TypeVar("Progress")


@dataclass(frozen=True)
class Applied:
    """An edit on a face.

    Attributes:
        strength: 0 changes nothing.
        name: in the zoo; None for an edit that was found by words.
    """

    edit: Edit
    strength: float
    name: str | None = None

    @property
    def label(self) -> str:
        """What to call it: its name, or the words it was found for."""
        return self.name or self.edit.origin.prompt or self.edit.kind

    @property
    def slug(self) -> str:
        """The label in letters that every file system takes."""
        return re.sub(r"[^a-z0-9]+", "-", self.label.lower()).strip("-")[:60] or "edit"


@dataclass(frozen=True)
class Session:
    """One user's face and the edits on it.

    Attributes:
        seed: who; the start of everything unless there are `latents`.
        latents: who, as one latent in w_plus or s, where no seed leads to the face.
        truncation_psi: 1 keeps the full variety of seeds, 0 is the average face.
        edits: on the face, in the order in which they came; the result does not depend on it.
    """

    seed: int = 0
    latents: Latents | None = None
    truncation_psi: float = 0.7
    edits: tuple[Applied, ...] = ()

    def with_seed(self, seed: int) -> Session:
        """Another face, with the same edits on it."""
        return replace(self, seed=seed, latents=None)

    def with_truncation(self, truncation_psi: float) -> Session:
        """The seed's face nearer to the average, or farther from it."""
        return replace(self, truncation_psi=_finite("truncation_psi", truncation_psi))

    def with_edit(
        self, edit: Edit, strength: float | None = None, name: str | None = None
    ) -> Session:
        """One more edit, at its default strength when None; see `Applied` for the name."""
        strength = edit.strength.default if strength is None else strength
        applied = Applied(edit, _finite("strength", strength), name)
        return replace(self, edits=(*self.edits, applied))

    def with_found(self, edit: Edit) -> Session:
        """An edit found by words: in the place of one for the same words, or one more."""
        index = self._found_for(edit.origin.prompt)
        if index is None:
            return self.with_edit(edit)
        edits = list(self.edits)
        edits[index] = replace(edits[index], edit=edit)
        return replace(self, edits=tuple(edits))

    def with_strength(self, strength: float, index: int = -1) -> Session:
        """The edit in this place of the stack stronger, weaker or, below 0, reversed.

        Raises:
            ValueError: there is no such edit, or the strength is no number.
        """
        if not -len(self.edits) <= index < len(self.edits):
            raise ValueError(
                f"Got a strength for edit {index} of {len(self.edits)}; there is no such edit "
                "whose strength could change."
            )
        edits = list(self.edits)
        edits[index] = replace(edits[index], strength=_finite("strength", strength))
        return replace(self, edits=tuple(edits))

    def without_edit(self, index: int) -> Session:
        """All edits but the one in this place of the stack, counted from 0."""
        return replace(self, edits=self.edits[:index] + self.edits[index + 1 :])

    def without_found(self, words: str) -> Session:
        """All edits but the one that was found for these words."""
        index = self._found_for(words.strip())
        return self if index is None else self.without_edit(index)

    def without_edits(self) -> Session:
        """The face as it was."""
        return replace(self, edits=())

    @property
    def title(self) -> str:
        """The face and the edits on it in letters that every file system takes."""
        face = f"face-{self.seed}" if self.latents is None else "face"
        return "-".join([face, *(applied.slug for applied in self.edits)])[:80].rstrip("-")

    def _found_for(self, words: str | None) -> int | None:
        for index, applied in enumerate(self.edits):
            if applied.name is None and applied.edit.origin.prompt == words:
                return index
        return None


class Studio:
    """The models of one pipeline, shared by all users.

    Methods may be called from any thread. Calls wait for each other in order of arrival, and a
    search lets others in between its steps.
    """

    def __init__(self, pipe: StyleEditPipeline) -> None:
        self.pipe = pipe
        self._turns = _Turns()
        self._searches: dict[Hashable, Search[Any]] = {}
        # By target and neutral text: what `search_for_everybody` found, with all its channels.
        self._found: dict[tuple[str, str], Direction] = {}
        # A slider asks for the same face before the edit again and again.
        self._picture = lru_cache(maxsize=64)(self._draw_anew)

    @classmethod
    def open(cls, name_or_path: str | Path = "portraits") -> Self:
        """A studio for a pipeline by bundled name, folder or Hub id; raises as its loading does."""
        return cls(StyleEditPipeline.from_pretrained(name_or_path))

    def faces(self, seeds: Sequence[int], truncation_psi: float = 0.7) -> list[Image.Image]:
        """The faces of these seeds. Raises `ValueError` for a seed out of range."""
        with self._turns:
            return self.pipe(seed=seeds, truncation_psi=truncation_psi).images

    def face(self, session: Session) -> Latents:
        """The latent of the session's face, before any edit."""
        if session.latents is not None:
            return session.latents
        return self.pipe.sample(session.seed, session.truncation_psi)

    def draw(self, session: Session) -> tuple[Image.Image, Image.Image]:
        """The face before and after the session's edits.

        Raises:
            ValueError: a seed out of range.
            MismatchError: an edit of another generator.
        """
        with self._turns:
            return self._picture(session.without_edits()), self._picture(session)

    def keep(self, session: Session) -> Session:
        """A session that starts from the edited face."""
        with self._turns:
            return replace(session, latents=self._edited(session), edits=())

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
        neutral: str = NEUTRAL,
    ) -> Search[Step]:
        """Start to look for the edit that makes the session's face, as edited, fit the words.

        Args:
            settings: of the latent optimization.
            space: where the displacement lives; a face that is edited in s goes on in s.
            owner: who asks. An owner has one search at a time: the one before is stopped.
            neutral: what the face shows now, in words.

        Raises:
            ValueError: empty words, more than this CLIP reads, a seed out of range.
            MismatchError: an edit of another generator.
        """
        chosen = settings or Settings()
        with self._turns:
            self._check(words, neutral)
            face = self._edited(session)
        space = max(face.space, Space(space))

        def work(report: Callable[[Step], None]) -> Direction:
            return find(self.pipe, words.strip(), face, space, neutral.strip(), chosen, report)

        return self._start(owner, chosen.steps, work)

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

    def is_known(self, target: str, neutral: str = NEUTRAL) -> bool:
        """Whether `direction` has an answer, or needs a `search_for_everybody` before."""
        return self.directions is not None or (target.strip(), neutral.strip()) in self._found

    def direction(
        self,
        target: str,
        neutral: str = NEUTRAL,
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
        target, neutral = target.strip(), neutral.strip()
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
        self, target: str, neutral: str = NEUTRAL, owner: Hashable = None
    ) -> Search[int]:
        """Start to look for what `direction` answers, without a table; reports the steps done.

        Raises:
            ValueError: empty texts, or more than this CLIP reads.
        """
        target, neutral = target.strip(), neutral.strip()
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

        return self._start(owner, settings.steps, work)

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
        return [info for info in found if info.kind != KIND], problems

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

    def _start(
        self,
        owner: Hashable,
        total: int,
        work: Callable[[Callable[[Progress], None]], Direction],
    ) -> Search[Progress]:
        self.stop(owner)
        search = Search(self._turns, total, work)
        self._searches[owner] = search
        return search

    def _edited(self, session: Session) -> Latents:
        edits = [(applied.edit, applied.strength) for applied in session.edits]
        return self.pipe.apply(self.face(session), edits)

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
        (picture,) = self.pipe(latents=self._edited(session)).images
        return picture

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


class Search(Generic[Progress]):
    """A search for an edit in a thread of its own.

    Iterate to watch its progress, then ask for the `result`; as a context manager it is stopped
    and over when the block is left, however that happens.

    Args:
        turns: it has the turn while it works, and lets others in whenever it reports.
        total: how often it will report.
        work: searches, and reports its progress to the function it is given.
    """

    def __init__(
        self,
        turns: _Turns,
        total: int,
        work: Callable[[Callable[[Progress], None]], Direction],
    ) -> None:
        self.total = total
        self._reports: SimpleQueue[tuple[Progress] | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._found: Future[Direction] = Future()

        def report(progress: Progress) -> None:
            self._reports.put((progress,))
            if self._stopped.is_set():
                raise Cancelled
            turns.pass_on()

        def run() -> None:
            try:
                with turns:
                    found = work(report)
                self._found.set_result(found)
            except BaseException as error:  # it is raised again where the result is asked for
                self._found.set_exception(error)
            finally:
                self._reports.put(None)

        # A daemon, so that a page that is shut down does not wait for it.
        threading.Thread(target=run, name="search", daemon=True).start()

    def __iter__(self) -> Iterator[Progress]:
        """What it reports; ends with the search, whether it found something or not."""
        while (report := self._reports.get()) is not None:
            yield report[0]

    def result(self) -> Direction:
        """What was found; waits for it. Raises what the search raised, `Cancelled` after a stop."""
        return self._found.result()

    def stop(self) -> None:
        """End the search after the step it is at."""
        self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        wait([self._found])


class _Turns:
    """A lock that serves in order of arrival.

    With `threading.Lock`, a search that lets go between two steps would nearly always win the lock
    back before anybody who waits for it wakes up.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._next_ticket = 0
        self._serving = 0

    def __enter__(self) -> None:
        with self._changed:
            ticket = self._next_ticket
            self._next_ticket += 1
            self._changed.wait_for(lambda: self._serving == ticket)

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._serving += 1
            self._changed.notify_all()

    def pass_on(self) -> None:
        """Let those who wait go first."""
        self.__exit__()
        self.__enter__()


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"Got {name} {value}; expected a finite number.")
    return float(value)
