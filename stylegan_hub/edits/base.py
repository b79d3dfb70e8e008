"""The one abstraction of an edit: a small module that displaces a latent.

`edited = codes + strength * delta(codes)` is written here once, so strength 0 is the identity for
every kind and negative strengths work. A kind of edit is a subclass of `Edit` with a `kind` and a
`delta`, which `register` makes known; a package of your own registers its kinds in the same way, or
names them as entry points of the group "stylegan_hub.edits".

An edit knows nothing of CLIP, a generator, a prompt or a device. It remembers the fingerprint of
the generator it was made for and refuses to displace the latents of another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor

from stylegan_hub.artifacts import (
    BaseModel,
    read_config,
    read_folder,
    tensors_digest,
    write_folder,
)
from stylegan_hub.bounds import MAX_STRENGTH, check_weights, is_strength
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.names import EDIT, Kind, register_kind, resolve


@dataclass(frozen=True)
class Strength:
    """The range of an edit's slider; 1 is what its maker meant.

    Raises:
        ValueError: numbers that are no range, or beyond `bounds.MAX_STRENGTH`.
    """

    default: float = 1.0
    min: float = -2.0
    max: float = 2.0

    def __post_init__(self) -> None:
        numbers = (self.min, self.default, self.max)
        if not all(map(is_strength, numbers)) or not self.min <= self.default <= self.max:
            raise ValueError(
                f"Got strength min {self.min}, default {self.default}, max {self.max}; expected "
                f"min <= default <= max, at most {MAX_STRENGTH:g} either way."
            )


@dataclass(frozen=True)
class Origin:
    """Where an edit comes from: what its card says and what the page shows.

    Attributes:
        prompt: the text it was made for, None when it was made from a picture.
        neutral: the text it moves away from, where the method has one.
        training: settings and results of the search, plain values.
        fit: how well pictures then show what the words ask, 0 to 1 (`methods/fit.py`); None where
            it was not measured.

    Raises:
        ValueError: a fit that is no number from 0 to 1.
    """

    prompt: str | None = None
    neutral: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    fit: float | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.fit, int | float) and not isinstance(self.fit, bool)
        if self.fit is not None and not (number and 0 <= self.fit <= 1):
            raise ValueError(f"Got fit {self.fit!r}; expected a number from 0 to 1, or None.")


class Edit:
    """A displacement of latents in one space, for one generator.

    A subclass names its `kind`, implements `delta`, and says in `tensors` and `extra_config` what
    it is made of, and in `from_parts` how to build it again.

    Attributes:
        kind: its name in files.
        summary: what such an edit is, in a sentence for its card.
        space: the space whose codes it displaces, `w_plus` or `s`.
        base_model: the generator it belongs to.
        strength: range of its slider.
        origin: prompt and training settings.
    """

    kind: ClassVar[str]
    summary: ClassVar[str] = ""

    def __init__(
        self,
        space: Space | str,
        base_model: BaseModel,
        strength: Strength | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.space = Space(space)
        if self.space not in (Space.W_PLUS, Space.S):
            raise ValueError(
                f"Got an edit in space {self.space}; edits live in w_plus or s. "
                "Repeat a direction in w over the num_ws layers to have it in w_plus."
            )
        self.base_model = base_model
        self.strength = strength or Strength()
        self.origin = origin or Origin()

    def delta(self, codes: Tensor) -> Tensor:
        """The displacement at strength 1 of codes `[n, ...]`, of the same shape."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """What `model.safetensors` holds."""
        raise NotImplementedError

    def extra_config(self) -> dict[str, Any]:
        """Values of this kind in `config.json`, beside the common ones."""
        return {}

    @classmethod
    def from_parts(
        cls,
        tensors: Mapping[str, Tensor],
        config: Mapping[str, Any],
        space: Space,
        base_model: BaseModel,
        strength: Strength,
        origin: Origin,
    ) -> Self:
        """Build the edit from what `tensors` and `extra_config` gave."""
        raise NotImplementedError

    def apply(self, latents: Latents, strength: float | None = None) -> Latents:
        """Displaced latents: `codes + strength * delta(codes)`.

        Args:
            latents: in this edit's space; device and dtype are kept.
            strength: any real number, 0 is the identity; the edit's default when None.

        Raises:
            MismatchError: latents of another space or size.
        """
        if latents.space != self.space:
            raise MismatchError(
                f"This edit works in {self.space}, got latents in {latents.space}. "
                f"Lower them first: pipe.lower(latents, {self.space.value!r})."
            )
        expected = self._code_shape()
        if tuple(latents.codes.shape[1:]) != expected:
            raise MismatchError(
                f"This edit was made for {self.base_model}, so it takes codes "
                f"[n, {', '.join(map(str, expected))}]; got {list(latents.codes.shape)}. "
                "Use latents of that generator."
            )
        factor = self.strength.default if strength is None else float(strength)
        if factor == 0:
            return latents
        codes = latents.codes
        return Latents(self.space, codes + factor * self.delta(codes).to(codes))

    def check_fits(self, base_model: BaseModel) -> None:
        """Raise `MismatchError`, naming both fingerprints, for an edit of another generator."""
        self.base_model.check_same(base_model, "edit")

    def config(self) -> dict[str, Any]:
        """Plain values that say, with `tensors`, all of this edit: the content of config.json."""
        config = {
            "kind": self.kind,
            "space": self.space.value,
            "base_model": asdict(self.base_model),
            "prompt": self.origin.prompt,
            "neutral": self.origin.neutral,
            "strength": asdict(self.strength),
            "training": dict(self.origin.training),
            **self.extra_config(),
        }
        if self.origin.fit is not None:
            config["fit"] = self.origin.fit
        package = type(self).__module__.partition(".")[0]
        return config if package == __name__.partition(".")[0] else {**config, "package": package}

    @cached_property
    def digest(self) -> str:
        """Hash of what displaces latents: kind, space, tensors and extra config.

        It orders the edits of a stack by their content.
        """
        return tensors_digest(
            self.tensors(), {"kind": self.kind, "space": self.space.value, **self.extra_config()}
        )

    def save_pretrained(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `config.json` and `model.safetensors`, as a whole or not at all.

        If another edit is there, it is replaced; its card, numbers and pictures move to `stale/`.

        Args:
            overwrite: write also into a folder that holds something else.

        Raises:
            ArtifactError: a folder that holds something else.
            ValueError: a tensor with numbers that are not finite; nothing is written.
            StorageError: the disk refuses.
        """
        write_folder(Path(folder), self.config(), self.tensors(), overwrite)
        return Path(folder)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path, **hub_options: Any) -> Self:
        """Load an edit of this class; `load_edit` loads any kind.

        Raises:
            NotFoundError, ArtifactError: see `load_edit`.
        """
        edit = load_edit(name_or_path, **hub_options)
        if not isinstance(edit, cls):
            raise ArtifactError(
                f"{str(name_or_path)!r} is a {edit.kind}, not a {cls.kind}. Use load_edit."
            )
        return edit

    def __repr__(self) -> str:
        prompt = f", prompt={self.origin.prompt!r}" if self.origin.prompt else ""
        name, base = type(self).__name__, self.base_model.id
        return f"{name}(space={self.space.value!r}, base={base!r}{prompt})"

    def _code_shape(self) -> tuple[int, ...]:
        base = self.base_model
        return (base.num_styles,) if self.space is Space.S else (base.num_ws, base.w_dim)


_KINDS: dict[str, type[Edit]] = {}
_ENTRY_POINTS = "stylegan_hub.edits"
_Kind = TypeVar("_Kind", bound=type[Edit])


def register(cls: _Kind) -> _Kind:
    """Make a kind of edit known, so that `load_edit` reads it; returns the class, as a decorator.

    Raises:
        ValueError: no `kind`, or one that another class has.
    """
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str) or not kind.isidentifier():
        raise ValueError(
            f"Got the kind {kind!r} of {cls.__name__}; expected a name of letters, digits and _."
        )
    known = _KINDS.setdefault(kind, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"The kind {kind!r} is that of {known.__module__}.{known.__qualname__}; choose another "
            f"one for {cls.__module__}.{cls.__qualname__}."
        )
    _KINDS[kind] = cls  # the newest, when a module is loaded again
    register_kind(replace(_ANY_EDIT, name=kind, summary=cls.summary))
    return cls


def kinds() -> dict[str, type[Edit]]:
    """All kinds of edits by name: registered ones, and those of installed packages."""
    for entry in entry_points(group=_ENTRY_POINTS):
        if entry.name not in _KINDS:
            register(entry.load())
    return dict(sorted(_KINDS.items()))


def kind_of(config: Mapping[str, Any], where: str) -> type[Edit]:
    """The class of the kind that a checked config names.

    Raises:
        ArtifactError: it is not known; the package that saved it is named.
    """
    kind = config["kind"]
    # Entry points are other packages' code: asked only for a kind that is not known without them.
    known = _KINDS if kind in _KINDS else kinds()
    if kind in known:
        return known[kind]
    package = config.get("package")
    advice = (
        f"It was saved by the package {package!r}: install it, or import it first."
        if isinstance(package, str) and package.isidentifier()
        else "Is it from a newer stylegan_hub? Upgrade to read it."
    )
    raise ArtifactError(
        f"Unknown kind {kind!r} in {where}; known kinds: {', '.join(sorted(known))}.",
        got=kind,
        expected=tuple(sorted(known)),
        remedy=advice,
    )


def edit_from_parts(config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> Edit:
    """The edit that a checked config and its tensors speak of.

    Args:
        where: they come from, for messages.

    Raises:
        ArtifactError: an unknown kind, values that make no edit, numbers that are not finite.
    """
    cls = kind_of(config, where)
    try:
        check_weights(tensors, where)
        base_model = BaseModel(**config["base_model"])
        strength = Strength(**config.get("strength", {}))
        origin = Origin(
            config.get("prompt"),
            config.get("neutral"),
            config.get("training", {}),
            config.get("fit"),
        )
        space = Space(config["space"])
        return cls.from_parts(tensors, config, space, base_model, strength, origin)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{where} is no sound {cls.kind}: {error}") from error


def load_edit(
    name_or_path: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Edit:
    """Load an edit by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

    Nothing in the folder is executed: it holds a json and a safetensors file.

    Raises:
        NotFoundError: the name leads nowhere; names near to it are listed.
        ArtifactError: files are missing, damaged, of an unknown kind or from a newer version.
    """
    folder = resolve(name_or_path, "edit", revision, token, cache_dir, local_files_only)
    kind_of(read_config(folder), str(folder))  # says "unknown" before it says "damaged"
    return edit_from_parts(*read_folder(folder), where=str(folder))


def _usage(name: str, config: Mapping[str, Any]) -> list[str]:
    strength = Strength(**config.get("strength", {})).default
    return [
        f'edit = hub.load_edit("{name}")  # or a folder, or "user/repo"',
        f"image = pipe(seed=7, edits=[(edit, {strength:g})]).images[0]",
        'image.save("edited.png")',
    ]


_ANY_EDIT = Kind(
    EDIT,
    load=load_edit,
    limit="Far outside the slider's range faces fall apart.",
    usage=_usage,
)
register_kind(_ANY_EDIT)
