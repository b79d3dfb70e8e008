"""The protocol that all methods share: how an edit is found.

A method is one file in this folder, or in a package of your own: a subclass of `Method` that is
registered with `register`. It declares the requests that it answers (`requests`), the components of
a domain that it needs (`needs`) and its settings (`presets`), and implements `search`. The page,
the command line, Python and the recipes read the registry, so a new method is available in all of
them.

`Method.find` checks its arguments in the same way for all methods: `search` gets a request, a face
and settings that fit. A package registers its methods as entry points of the group
"stylegan_hub.methods".
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, Generic, TypeVar

from PIL import Image

from stylegan_hub.domain import OPTIONAL, RECIPES, Domain, Label
from stylegan_hub.edits.base import Edit, Origin
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.fit import PoorFitWarning, fit_of, poor_fit, verdict
from stylegan_hub.methods.keep import fixed, keeping
from stylegan_hub.methods.requests import Nothing as Nothing
from stylegan_hub.methods.requests import Pairs as Pairs
from stylegan_hub.methods.requests import Picture as Picture
from stylegan_hub.methods.requests import Pictures as Pictures
from stylegan_hub.methods.requests import Request as Request
from stylegan_hub.methods.requests import Words as Words
from stylegan_hub.methods.wording import reading
from stylegan_hub.plugins import entry_points
from stylegan_hub.steps import OnStep

_Settings = TypeVar("_Settings")


class Method(ABC, Generic[_Settings]):
    """A way to find an edit.

    Attributes:
        name: in Python, on the command line and in files: letters, digits and _.
        summary: what it does, in one sentence for the page and the command line.
        requests: the types of request that it answers.
        takes_region: whether it can search for a change inside a region. For other methods, a
            region is where an edit is shown, see `EditStack`.
        takes_keep: whether its search itself keeps what `Words.keep` names. For other methods,
            `keeping` removes from the edit what would change it.
        presets: settings by name, including "default". All are of one frozen dataclass.
        needs: optional components of a domain that the method requires, such as "parser".
        trainable: whether it takes minutes, so that `recipes/train.py` should run it.
        at_once: whether it takes a second or less, so that visitors need not queue for it.
        former_names: its names in files of earlier versions.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    requests: ClassVar[tuple[type[Any], ...]] = (Words,)
    takes_region: ClassVar[bool] = False
    takes_keep: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Any]]
    needs: ClassVar[frozenset[str]] = frozenset()
    trainable: ClassVar[bool] = False
    at_once: ClassVar[bool] = False
    former_names: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def search(
        self,
        domain: Domain,
        request: Any,
        face: Latents | None,
        settings: _Settings,
        on_step: OnStep | None,
    ) -> Edit:
        """Find the edit; all arguments have been checked, and the domain is in float32."""

    def find(
        self,
        domain: Domain,
        request: Request | str | Image.Image,
        face: Latents | None = None,
        *,
        label: Label | None = None,
        settings: _Settings | str | None = None,
        on_step: OnStep | None = None,
    ) -> Edit:
        """Find an edit.

        Args:
            domain: generator, CLIP and any other components that the method needs.
            request: what is asked for; a text stands for `Words`, a PIL picture for `Picture`.
            face: one latent in w_plus or s. The edit is found for this face and is a fixed
                displacement, so it adds to other edits. None finds an edit for every face.
            label: for a generator with labels, the class whose faces are sampled in the search.
            settings: how to search: the name of a preset, or settings; those that suit the domain
                and the request when None.
            on_step: called after each step, for progress; may raise `steps.Cancelled`.

        Raises:
            MethodError: a request that this method does not answer, a domain that lacks a
                component, an unknown preset, settings of another method, or a region or words to
                keep that the method does not take.
            ValueError: an empty text, a text that is longer than CLIP reads, several faces.
            MismatchError: a face of another generator.
            Cancelled: `on_step` raised it.
        """
        domain, asked, face, chosen = self.prepared(domain, request, face, label, settings)
        edit = self.search(domain, asked, face, chosen, on_step)
        return self.finished(edit, domain, asked, face)

    def prepared(
        self,
        domain: Domain,
        request: Request | str | Image.Image,
        face: Latents | None,
        label: Label | None,
        settings: _Settings | str | None,
    ) -> tuple[Domain, Any, Latents | None, _Settings]:
        """The arguments of `find`, checked, as `search` takes them."""
        self.check_domain(domain)
        asked = self.checked_request(domain, request)
        chosen = self.settings(domain, asked, settings)
        domain = domain.in_full_precision().with_label(label)
        if face is not None:
            if len(face) != 1:
                raise ValueError(
                    f"Got {len(face)} faces; an edit is found for one face. Give one, or face=None "
                    "for an edit for every face."
                )
            face = domain.lower(face, max(face.space, Space.W_PLUS))
            face = Latents(face.space, face.codes.detach())
        return domain, asked, face, chosen

    def finished(self, edit: Edit, domain: Domain, request: Request, face: Latents | None) -> Edit:
        """Turn the result of `search` into that of `find`.

        Words to keep are applied, and an edit for a face becomes a fixed displacement. The fit of
        an edit with words is measured; a `PoorFitWarning` reports a poor fit. A method that
        overrides `find_all` calls this with the results of `prepared`.
        """
        edit = copy(edit)  # the method may keep the one that it found
        if isinstance(request, Words) and request.said is not None:
            neutral = request.neutral or domain.neutral
            note = {**edit.origin.training, "read_as": f"{neutral} -> {request.text}"}
            edit.origin = Origin(request.said, neutral, note)
        if (keep := getattr(request, "keep", ())) and not self.takes_keep:
            edit = keeping(edit, domain, face, keep)
        edit = edit if face is None else fixed(edit, domain, face)
        return _judged(edit, domain, request, face) if isinstance(request, Words) else edit

    def find_all(
        self,
        domain: Domain,
        request: Request | str | Image.Image,
        face: Latents | None = None,
        *,
        label: Label | None = None,
        settings: _Settings | str | None = None,
        on_step: OnStep | None = None,
    ) -> list[Edit]:
        """All edits that one search finds, the best first; most methods find only one.

        Arguments and errors are those of `find`.
        """
        return [self.find(domain, request, face, label=label, settings=settings, on_step=on_step)]

    def default(self, domain: Domain, request: Request) -> _Settings:
        """The settings that suit a domain and a request: the preset "default" for most methods."""
        return self.presets["default"]

    def caption(self, origin: Origin) -> str:
        """The label of an edit of this method that has no name."""
        return origin.prompt or self.name

    def account(self, origin: Origin) -> str:
        """How an edit was found, in sentences for its card."""
        return self.summary

    # Checks

    @property
    def settings_type(self) -> type[_Settings]:
        """The dataclass of its settings."""
        return type(self.presets["default"])

    def rank(self, domain: Domain, request: Request, face: Latents | None) -> float:
        """How well the method suits a request that names none; the highest rank is chosen.

        Methods that train rank lowest, so they are chosen only if no other method answers.
        """
        return 0.0 if self.trainable else 1.0

    def answers(self, request: Request | Image.Image) -> bool:
        """Whether the method takes requests of this type."""
        return isinstance(
            Picture(request) if isinstance(request, Image.Image) else request, self.requests
        )

    def fits(self, domain: Domain) -> bool:
        """Whether the domain has all components that the method needs."""
        return not self._lacking(domain)

    def check_domain(self, domain: Domain) -> None:
        """Raise `MethodError` unless the domain has all components that the method needs."""
        if missing := self._lacking(domain):
            has = [name for name in OPTIONAL if getattr(domain, name) is not None]
            recipes = [RECIPES[name] for name in missing if name in RECIPES]
            train = f"train what it lacks ({', '.join(recipes)}), " if recipes else ""
            raise MethodError(
                f"The method {self.name!r} needs a pipeline with {_listed(missing)}; this one has "
                f"{_listed(has) or 'no optional component'}.",
                got=tuple(has),
                expected=tuple(sorted(self.needs)),
                remedy=f"Load a pipeline that has it, {train}or use another method.",
            )

    def checked_request(self, domain: Domain, request: Request | str | Image.Image) -> Any:
        """The request, converted to one of the types that the method answers.

        Raises:
            MethodError, ValueError: see `find`.
        """
        if isinstance(request, str):
            request = Words(request)
        elif isinstance(request, Image.Image):
            request = Picture(request)
        if not isinstance(request, self.requests):
            wanted = " or ".join(kind.__name__ for kind in self.requests)
            others = [m.name for m in known().values() if isinstance(request, m.requests)]
            raise MethodError(
                f"Got a request of type {type(request).__name__}; the method {self.name!r} answers "
                f"{wanted}.",
                got=type(request).__name__,
                expected=wanted,
                remedy=f"Methods that answer it: {', '.join(others) or 'none'}.",
            )
        if isinstance(request, Words):
            domain.check_text(request.text)
            if request.neutral is not None:
                domain.check_text(request.neutral)
            for kept in request.keep:
                domain.check_text(kept)
            request = reading(request, domain.neutral)
        if getattr(request, "region", None) is not None and not self.takes_region:
            able = [m.name for m in known().values() if m.takes_region]
            raise MethodError(
                f"Got the region {request.region!r}; the method {self.name!r} looks at the whole "
                "picture.",
                got=request.region,
                expected=None,
                remedy="Show its edit in a region (EditStack.added(..., region=...)), or use a "
                f"method that searches in one: {', '.join(able)}.",
            )
        return request

    def settings(
        self, domain: Domain, request: Request, chosen: _Settings | str | None = None
    ) -> _Settings:
        """The preset named `chosen`, `chosen` itself if it is settings, or the request's default.

        Raises:
            MethodError: an unknown preset, or settings of another method.
        """
        if chosen is None:
            return self.default(domain, request)
        if isinstance(chosen, str):
            if chosen not in self.presets:
                raise MethodError(
                    f"Got the preset {chosen!r}; the method {self.name!r} has "
                    f"{', '.join(self.presets)}.",
                    got=chosen,
                    expected=tuple(self.presets),
                    remedy="Use one of these presets, or give settings.",
                )
            return self.presets[chosen]
        if not isinstance(chosen, self.settings_type):
            raise MethodError(
                f"Got settings of type {type(chosen).__name__}; the method {self.name!r} takes "
                f"{self.settings_type.__name__} of {self.settings_type.__module__}.",
                got=type(chosen).__name__,
                expected=self.settings_type.__name__,
                remedy=f"Make them: dataclasses.replace(methods.get({self.name!r}).presets"
                "['default'], ...).",
            )
        return chosen

    def _lacking(self, domain: Domain) -> list[str]:
        return [name for name in sorted(self.needs) if getattr(domain, name, None) is None]


def _judged(edit: Edit, domain: Domain, words: Words, face: Latents | None) -> Edit:
    """The edit with its fit recorded in its origin; warns of a poor fit."""
    fit = fit_of(domain, words, edit, face)
    edit.origin = replace(edit.origin, fit=fit)
    if fit is not None and verdict(domain, fit) == "hardly":
        warnings.warn(poor_fit(domain, words, fit), PoorFitWarning, stacklevel=4)
    return edit


_METHODS: dict[str, Method[Any]] = {}
_ENTRY_POINTS = "stylegan_hub.methods"
_M = TypeVar("_M", bound=type[Method[Any]])


def register(cls: _M) -> _M:
    """Class decorator that registers a method by its name.

    Raises:
        ValueError: an invalid name, presets without "default", or the name of another method.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"Got the name {name!r} for {cls.__name__}; expected letters, digits and _."
        )
    presets = getattr(cls, "presets", {})
    kinds = {type(settings) for settings in presets.values()}
    if "default" not in presets or len(kinds) != 1 or not is_dataclass(presets["default"]):
        raise ValueError(
            f"Got the presets {dict(presets)!r} for {cls.__name__}; expected settings of one "
            "dataclass by name, including 'default'."
        )
    other = type(_METHODS[name]) if name in _METHODS else cls
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"The name {name!r} belongs to {other.__module__}.{other.__qualname__}; choose another "
            f"one for {cls.__module__}.{cls.__qualname__}."
        )
    _METHODS[name] = cls()
    return cls


def known() -> dict[str, Method[Any]]:
    """All methods by name: registered ones and those of installed packages."""
    for entry in entry_points(group=_ENTRY_POINTS):
        if entry.name not in _METHODS:
            register(entry.load())
    return dict(sorted(_METHODS.items()))


def get(name: str) -> Method[Any]:
    """The method of this name.

    Raises:
        MethodError: no method has this name; the message lists all of them.
    """
    listed = known()
    for method in listed.values():
        if name == method.name or name in method.former_names:
            return method
    raise MethodError(
        f"Got the method {name!r}; there are {', '.join(listed)}.",
        got=name,
        expected=tuple(listed),
        remedy="Use one of them. If it comes from another package, import that package first.",
    )


def method_of(origin: Origin) -> Method[Any] | None:
    """The method that found an edit; None if it is not known here."""
    try:
        return get(str(origin.training.get("method")))
    except MethodError:
        return None


def caption(edit: Edit) -> str:
    """The label of an edit that has no name."""
    method = method_of(edit.origin)
    return edit.origin.prompt or edit.kind if method is None else method.caption(edit.origin)


def changed(settings: _Settings, changes: Mapping[str, Any]) -> _Settings:
    """Settings with some values replaced by name.

    Raises:
        MethodError: a name that is not a setting.
    """
    known = [field.name for field in fields(settings)]  # type: ignore[arg-type]
    if unknown := sorted(set(changes) - set(known)):
        raise MethodError(
            f"Unknown settings {', '.join(unknown)}; known ones: {', '.join(known)}.",
            got=tuple(unknown),
            expected=tuple(known),
            remedy="Correct the names.",
        )
    return replace(settings, **changes)  # type: ignore[type-var]


def _listed(names: Sequence[str]) -> str:
    articles = {"encoder": "an encoder"}
    return ", ".join(articles.get(name, f"a {name}") for name in names)
