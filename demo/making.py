"""Edits that visitors train themselves in the background. This module knows no widget.

A training can stop after any step, and the owner of its desk can continue it. Until then its
progress is a file of the desk, so that it takes no memory.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from demo.components import explain, message, progress
from stylegan_hub import images as image_files
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.methods.choose import within
from stylegan_hub.methods.method import Method, Nothing, Pairs, Picture, Request, get
from stylegan_hub.methods.run import Course, TrainableMethod
from stylegan_hub.search import Search, Waiting
from stylegan_hub.steps import Cancelled, Step
from stylegan_hub.studio import Studio

State = Literal["waits", "runs", "is left", "is done", "has failed"]
SHOWN = (1, 2, 3, 4)
"""Seeds of the faces on a sample sheet."""
LENGTHS = {"A quick look": 0.25, "Usual": 1.0, "Thorough": 2.0}
"""Training lengths, as multiples of the usual number of steps."""
_SHEETS = 12  # in a training
_WIDTH, _HEIGHT = 320, 110


@dataclass(frozen=True)
class Plan:
    """What a visitor wants to make.

    Attributes:
        name: of the edit.
        method: the method's name.
        request: what the visitor asks for.
        settings: of the method.
        region: where the edit shows, if its method does not search in a region.
    """

    name: str
    method: str
    request: Request
    settings: Any
    region: str | None = None


def planned(
    studio: Studio,
    name: str,
    method: str,
    request: Request,
    region: str | None = None,
    preset: str | None = None,
    length: str = "Usual",
) -> Plan:
    """A checked plan.

    Args:
        region: the part that changes; None for the whole picture.
        preset: the name of the settings; None for the method's own choice.
        length: a key of `LENGTHS`.

    Raises:
        ValueError: no name, or a request that the method does not accept.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= 60:
        raise ValueError(f"Got a name of {len(name)} letters for the edit; expected 1 to 60.")
    if region is not None:
        studio.region("", [region])  # raises for an unknown region before the training starts
    chosen = get(method)
    request, shown_in = within(chosen, request, region)
    chosen.check_domain(studio.pipe)
    settings = chosen.settings(studio.pipe, chosen.checked_request(studio.pipe, request), preset)
    if hasattr(settings, "steps"):
        settings = replace(settings, steps=max(1, round(settings.steps * LENGTHS[length])))
    return Plan(name, method, request, settings, shown_in)


class Making:
    """One edit that is being made, or has been.

    Attributes:
        plan: what is made.
        state: the current state.
        ahead: how many trainings come first, while it waits.
        index, total: steps done, and steps in all.
        losses: of each step so far; empty for a method that minimizes nothing.
        sheet: the newest sample sheet: faces above, and the same faces edited below.
        edit: the finished edit.
        file: path of the edit as a zip file, once a page offers it.
        why: the reason if it failed.
    """

    def __init__(self, studio: Studio, plan: Plan) -> None:
        """A training that has not started."""
        self.plan = plan
        self.state: State = "is left"
        self.ahead = self.index = 0
        self.total = int(getattr(plan.settings, "steps", 1))
        self.losses: list[float] = []
        self.sheet: Image.Image | None = None
        self.edit: Edit | None = None
        self.file: str | None = None
        self.why = ""
        self._studio = studio
        self._method: Method[Any] = get(plan.method)
        self._course: Course | None = None
        self._search: Search[Step, list[Edit]] | None = None
        self._store: Callable[[bytes], Path | None] = lambda state: None
        self._checkpoint: Path | None = None
        self._began_at, self._began_with = 0.0, 0

    @property
    def is_on(self) -> bool:
        """Whether it runs or waits for its turn."""
        return self.state in ("waits", "runs")

    @property
    def is_over(self) -> bool:
        """Whether it has ended and cannot be continued."""
        return self.state in ("is done", "has failed")

    @property
    def can_go_on(self) -> bool:
        """Whether it stopped before its end."""
        return self.state == "is left"

    def start(
        self,
        owner: Hashable,
        is_wanted: Callable[[], bool] = lambda: True,
        store: Callable[[bytes], Path | None] = lambda state: None,
    ) -> None:
        """Start, or continue after a stop, in a thread of its own.

        Args:
            owner: who asks for it; other work of this owner is stopped.
            is_wanted: the training ends once this returns False.
            store: writes the progress of a stopped training into a new file; None if it cannot.

        Raises:
            BusyError: too many trainings wait.
            ValueError: it is running already, or finished.
        """
        if not self.can_go_on:
            raise ValueError(f"“{self.plan.name}” {self.state}; it cannot be started now.")

        def work(report: Callable[[Step], None]) -> list[Edit]:
            def told(step: Step) -> None:
                if not is_wanted():
                    raise Cancelled
                report(step)

            return self._work(told)

        self.state, self.ahead, self._store = "waits", 0, store
        try:
            self._search = search = self._studio.search_by(owner, work, training=True)
        except Exception:
            self.state = "is left"
            raise
        threading.Thread(target=self._watch, args=(search,), name="making", daemon=True).start()

    def stop(self) -> None:
        """Stop after the current step."""
        if self._search is not None:
            self._search.stop()

    def give_up(self, why: str) -> None:
        """Delete the progress of a stopped training; it cannot be continued."""
        if self.state == "is left":
            self.state, self.why = "has failed", why
            self._end()
            if self._checkpoint is not None:
                self._checkpoint.unlink(missing_ok=True)

    def forget_pictures(self) -> None:
        """Forget the visitor's pictures; a stopped training that needs them is given up.

        A training that runs keeps them until its end.
        """
        if isinstance(self.plan.request, Picture | Pairs):
            self.give_up("Its pictures were deleted, so it cannot be continued; make it again.")

    def held(self) -> object:
        """What it keeps in memory, for `Room`; a training that runs holds more until its end."""
        return self.plan, self.sheet, self.edit

    def _watch(self, search: Search[Step, list[Edit]]) -> None:
        for told in search:
            if isinstance(told, Waiting):
                self.ahead = told.ahead
        try:
            (self.edit, *_), self.state = search.result(), "is done"
        except Cancelled:
            try:
                self._put_aside()
            finally:
                self.state = "is left"
            return
        except Exception as error:  # shown where the edit would be
            self.state, self.why = "has failed", explain(error)
        self._end()

    def _end(self) -> None:
        """Free what only a training needs."""
        self._course = self._search = None
        self.plan = replace(self.plan, request=Nothing())  # it may hold pictures of the visitor

    def _put_aside(self) -> None:
        """Write the progress into a file; without one it stays in memory."""
        self._search = None
        if self._course is None:
            return
        buffer = io.BytesIO()
        torch.save(self._course.state_dict(), buffer)
        with contextlib.suppress(OSError):
            self._checkpoint = self._store(buffer.getvalue())
        if self._checkpoint is not None:
            self._course = None

    def _taken_up(self, method: TrainableMethod[Any]) -> Course:
        """The course at the step at which it was stopped, or at its first."""
        if self._course is None:
            # This search holds the turn already.
            self._course = method.begin(
                self._studio.pipe, self.plan.request, settings=self.plan.settings
            )
            if self._checkpoint is not None:
                self._course.load_state_dict(torch.load(self._checkpoint, weights_only=True))
                self._checkpoint.unlink()
                self._checkpoint = None
        return self._course

    def _work(self, report: Callable[[Step], None]) -> list[Edit]:
        self.state = "runs"
        if not isinstance(self._method, TrainableMethod):
            self.losses, self.index = [], 0
            self._began_at, self._began_with = time.monotonic(), 0
            found = self._method.find_all(
                self._studio.pipe, self.plan.request, settings=self.plan.settings,
                on_step=lambda step: self._noted(step, report),
            )  # fmt: skip
            self.sheet = self._drawn(found[0])
            return found
        course = self._taken_up(self._method)
        self._began_at, self._began_with = time.monotonic(), course.index
        every = max(1, course.total // _SHEETS)
        while not course.is_over:
            losses = course.advance()
            if course.index % every == 0 or course.is_over:
                self.sheet = self._shown(course)
            step = Step(course.index, course.total, None, float(losses["loss"]))
            self._noted(step, report)
        return course.edits()

    def _noted(self, step: Step, report: Callable[[Step], None]) -> None:
        self.index, self.total = step.index, step.total
        if step.loss == step.loss:  # NaN if nothing is minimized
            self.losses.append(step.loss)
        report(step)

    @torch.no_grad()
    def _shown(self, course: Course) -> Image.Image:
        pipe = self._studio.pipe
        faces = pipe.sample(SHOWN)
        before = pipe.synthesize(faces).clamp(-1, 1)
        after = course.run.shown(faces).clamp(-1, 1)
        return image_files.grid(torch.cat([before.float(), after.float()]), columns=len(SHOWN))

    @torch.no_grad()
    def _drawn(self, edit: Edit) -> Image.Image:
        pipe = self._studio.pipe
        faces = pipe.sample(SHOWN)
        moved = displaced(pipe, faces, [(edit, edit.strength.default)])
        drawn = [pipe.synthesize(one).clamp(-1, 1).float() for one in (faces, moved)]
        return image_files.grid(torch.cat(drawn), columns=len(SHOWN))

    # What a page shows

    @property
    def label(self) -> str:
        """The entry in a list of edits."""
        if self.state == "runs":
            return f"{self.plan.name} ({self.index} of {self.total})"
        return f"{self.plan.name} ({self.state})" if self.state != "is done" else self.plan.name

    @property
    def status(self) -> str:
        """HTML of the current state."""
        name = self.plan.name
        if self.state == "waits":
            before = f" {self.ahead} before it." if self.ahead else ""
            return message(f"“{name}” is waiting for its turn.{before}")
        if self.state == "runs":
            done = self.index - self._began_with
            left = self.total - self._began_with
            if done < 1:
                return message(f"“{name}” is starting …")
            shown = progress(done, left, time.monotonic() - self._began_at)
            return shown.replace(f"Step {done} of {left}", f"Step {self.index} of {self.total}")
        if self.state == "is done":
            return message(f"“{name}” is ready. Apply it, or share it.")
        if self.state == "is left":
            return message(f"“{name}” stopped after step {self.index} of {self.total}.")
        return message(f"“{name}” could not be made. {self.why}")


def plot(losses: Sequence[float]) -> str:
    """HTML of a line through the losses; empty for fewer than two."""
    if len(losses) < 2:
        return ""
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    points = " ".join(
        f"{_WIDTH * index / (len(losses) - 1):.1f},{_HEIGHT * (high - loss) / span:.1f}"
        for index, loss in enumerate(losses)
    )
    said = f"Loss by step: {losses[0]:.3g} at first, {losses[-1]:.3g} now"
    return (
        f'<figure class="plot"><svg viewBox="-2 -4 {_WIDTH + 4} {_HEIGHT + 8}" role="img" '
        f'aria-label="{escape(said)}" preserveAspectRatio="none">'
        f'<polyline points="{points}" fill="none" stroke="currentColor" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/></svg>'
        f"<figcaption>{escape(said)}</figcaption></figure>"
    )
