"""What a page needs between its widgets and the models, without a page.

A `Session` is one user's state: frozen and copyable, so a change gives a new one. A `Studio` holds
the models that all users share and lets one model call run at a time. A `Search` is a search for
an edit by words that runs beside the page and can be watched and stopped.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Hashable, Iterator, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from PIL import Image
from typing_extensions import Self

from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.edits.latent_optimization import Cancelled, Settings, Step, find
from stylegan_hub.latents import Latents, Space
from stylegan_hub.pipeline import StyleEditPipeline


@dataclass(frozen=True)
class Session:
    """One user's face and the edits on it.

    Attributes:
        seed: who; the start of everything unless there are `latents`.
        latents: who, as one latent in w_plus or s, where no seed leads to the face.
        truncation_psi: 1 keeps the full variety of seeds, 0 is the average face.
        edits: pairs of an edit and its strength.
    """

    seed: int = 0
    latents: Latents | None = None
    truncation_psi: float = 0.7
    edits: tuple[tuple[Edit, float], ...] = ()

    def with_seed(self, seed: int) -> Session:
        """Another face, with the same edits on it."""
        return replace(self, seed=seed, latents=None)

    def with_truncation(self, truncation_psi: float) -> Session:
        """The seed's face nearer to the average, or farther from it."""
        return replace(self, truncation_psi=_finite("truncation_psi", truncation_psi))

    def with_edit(self, edit: Edit, strength: float | None = None) -> Session:
        """One more edit, at its default strength when None."""
        strength = edit.strength.default if strength is None else strength
        return replace(self, edits=(*self.edits, (edit, _finite("strength", strength))))

    def with_strength(self, strength: float) -> Session:
        """The last edit stronger, weaker or, below 0, reversed.

        Raises:
            ValueError: there is no edit, or the strength is no number.
        """
        if not self.edits:
            raise ValueError("There is no edit whose strength could change; find one first.")
        *others, (edit, _) = self.edits
        return replace(self, edits=(*others, (edit, _finite("strength", strength))))

    def without_edits(self) -> Session:
        """The face as it was."""
        return replace(self, edits=())

    @property
    def title(self) -> str:
        """The face and the words on it in letters that every file system takes."""
        face = f"face-{self.seed}" if self.latents is None else "face"
        words = " ".join(edit.origin.prompt or edit.kind for edit, _ in self.edits)
        slug = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:60]
        return f"{face}-{slug}" if slug else face


class Studio:
    """The models of one pipeline, shared by all users.

    Methods may be called from any thread. Calls wait for each other in order of arrival, and a
    search lets others in between its steps.
    """

    def __init__(self, pipe: StyleEditPipeline) -> None:
        self.pipe = pipe
        self._turns = _Turns()
        self._searches: dict[Hashable, Search] = {}
        # A slider draws the same face before the edit again and again.
        self._draw_face = lru_cache(maxsize=32)(self._draw_face_anew)

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
            before = self._draw_face(session.without_edits())
            if not session.edits:
                return before, before
            (after,) = self.pipe(latents=self.face(session), edits=session.edits).images
            return before, after

    def keep(self, session: Session) -> Session:
        """A session that starts from the edited face."""
        with self._turns:
            edited = self.pipe.apply(self.face(session), session.edits)
        return replace(session, latents=edited, edits=())

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
    ) -> Search:
        """Start to look for the edit that makes the session's (unedited) face fit the words.

        Args:
            settings: of the latent optimization.
            space: where the displacement lives; a face that is kept in s is edited in s.
            owner: who asks. An owner has one search at a time: the one before is stopped.

        Raises:
            ValueError: empty words, more than this CLIP reads, a seed out of range.
        """
        with self._turns:
            self._check(words)
            face = self.face(session)
        space = max(face.space, Space(space))
        self.stop(owner)
        search = Search(self.pipe, self._turns, face, words.strip(), settings or Settings(), space)
        self._searches[owner] = search
        return search

    def stop(self, owner: Hashable) -> None:
        """Stop this owner's search, if there is one."""
        if search := self._searches.pop(owner, None):
            search.stop()

    def _draw_face_anew(self, session: Session) -> Image.Image:
        (face,) = self.pipe(latents=self.face(session)).images
        return face

    def _check(self, words: str) -> None:
        if not words.strip():
            raise ValueError(f"Got no words ({words!r}); say what should change, as in 'a smile'.")
        tokenizer = self.pipe.tokenizer
        count = len(tokenizer(words, add_special_tokens=False, verbose=False)["input_ids"])
        limit = tokenizer.model_max_length - 2  # start and end take a place each
        if count > limit:
            raise ValueError(
                f"Got {len(words.split())} words, {count} tokens; this CLIP reads {limit} tokens. "
                "Say it in fewer words."
            )


class Search:
    """A latent optimization in a thread of its own.

    Iterate to watch its steps, then ask for the `result`; as a context manager it is stopped and
    over when the block is left, however that happens.
    """

    def __init__(
        self,
        pipe: StyleEditPipeline,
        turns: _Turns,
        face: Latents,
        words: str,
        settings: Settings,
        space: Space,
    ) -> None:
        self.total = settings.steps
        self._steps: SimpleQueue[Step | None] = SimpleQueue()
        self._stopped = threading.Event()
        self._found: Future[Direction] = Future()

        def on_step(step: Step) -> None:
            self._steps.put(step)
            if self._stopped.is_set():
                raise Cancelled
            turns.pass_on()

        def run() -> None:
            try:
                with turns:
                    found = find(pipe, words, face, space, settings=settings, on_step=on_step)
                self._found.set_result(found)
            except BaseException as error:  # it is raised again where the result is asked for
                self._found.set_exception(error)
            finally:
                self._steps.put(None)

        # A daemon, so that a page that is shut down does not wait for it.
        threading.Thread(target=run, name="search", daemon=True).start()

    def __iter__(self) -> Iterator[Step]:
        """The steps as they are done; ends with the search, whether it found something or not."""
        while (step := self._steps.get()) is not None:
            yield step

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
