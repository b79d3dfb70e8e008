"""The abstraction of an edit: a small module that displaces a latent.

`edited = codes + strength * delta(codes)` is written here once, so strength 0 is the identity for
every kind and negative strengths work. A kind of edit is a subclass of `Edit` with a `kind` and a
`delta`, registered with `register`. Your own package registers its kinds in the same way, or names
them as entry points of the group "stylegan_hub.edits".

Applying an edit needs no CLIP, generator, prompt or particular device. An edit stores the
fingerprint of the generator it was made for and refuses to displace latents of another one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
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
from stylegan_hub.plugins import entry_points


@dataclass(frozen=True)
class Strength:
    """The range of an edit's slider; 1 is the effect that the edit was made for.

    Raises:
        ValueError: the numbers are not a range, or exceed `bounds.MAX_STRENGTH`.
    """

    default: float = 1.0
    min: float = -2.0
    max: float = 2.0

    def __post_init__(self) -> None:
        numbers = (self.min, self.default, self.max)
        if not all(map(is_strength, numbers)) or not self.min <= self.default <= self.max:
            raise ValueError(
                f"Got strength min {self.min}, default {self.default}, max {self.max}; expected "
                f"min <= default <= max, all from -{MAX_STRENGTH:g} to {MAX_STRENGTH:g}."
            )


@dataclass(frozen=True)
class Origin:
    """Where an edit comes from; shown on its card and on the page.

    Attributes:
        prompt: the text it was made for; None if it was made from a picture.
        neutral: the text it moves away from, if the method has one.
        training: settings and results of the search, as plain values.
        fit: how well edited pictures match the prompt, 0 to 1 (`methods/fit.py`); None if it was
            not measured.

    Raises:
        ValueError: the fit is not a number from 0 to 1.
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

    A subclass sets its `kind`, implements `delta`, returns its content from `tensors` and
    `extra_config`, and rebuilds itself in `from_parts`.

    Attributes:
        kind: its name in files.
        summary: a sentence for the card that says what such an edit is.
        space: the space whose codes it displaces, `w_plus` or `s`.
        base_model: the generator it belongs to.
        strength: the range of its slider.
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
                f"Got an edit in space {self.space}; edits work in w_plus or s. "
                "To bring a direction from w into w_plus, repeat it over the num_ws layers."
            )
        self.base_model = base_model
        self.strength = strength or Strength()
        self.origin = origin or Origin()

    def delta(self, codes: Tensor) -> Tensor:
        """The displacement at strength 1 for codes `[n, ...]`, of the same shape."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """The content of `model.safetensors`."""
        raise NotImplementedError

    def extra_config(self) -> dict[str, Any]:
        """Values in `config.json` that are specific to this kind."""
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
        """Build the edit from what `tensors` and `extra_config` returned."""
        raise NotImplementedError

    def apply(self, latents: Latents, strength: float | None = None) -> Latents:
        """Displaced latents: `codes + strength * delta(codes)`.

        Args:
            latents: in this edit's space; device and dtype are kept.
            strength: any real number; 0 is the identity, None is the edit's default.

        Raises:
            MismatchError: the latents are in another space or of another size.
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
        """Raise `MismatchError`, with both fingerprints, if the generator is another one."""
        self.base_model.check_same(base_model, "edit")

    def config(self) -> dict[str, Any]:
        """The content of config.json: plain values that, with `tensors`, define the edit fully."""
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
        """Hash of everything that affects `delta`: kind, space, tensors and extra config.

        It orders the edits of a stack by their content.
        """
        return tensors_digest(
            self.tensors(), {"kind": self.kind, "space": self.space.value, **self.extra_config()}
        )

    def save_pretrained(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `config.json` and `model.safetensors`, as a whole or not at all.

        An edit that is already there is replaced; its card, numbers and pictures move to `stale/`.

        Args:
            overwrite: also write into a folder that holds something else.

        Raises:
            ArtifactError: the folder holds something else.
            ValueError: a tensor has numbers that are not finite; nothing is written.
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
    """Register a kind of edit, so that `load_edit` can read it. Use it as a class decorator.

    Raises:
        ValueError: the class has no `kind`, or another class has the same one.
    """
    kind = getattr(cls, "kind", None)
    if not isinstance(kind, str) or not kind.isidentifier():
        raise ValueError(
            f"Got the kind {kind!r} for {cls.__name__}; expected a name of letters, digits and _."
        )
    known = _KINDS.setdefault(kind, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"The kind {kind!r} belongs to {known.__module__}.{known.__qualname__}; choose another "
            f"name for {cls.__module__}.{cls.__qualname__}."
        )
    _KINDS[kind] = cls  # the newest class, if a module is reloaded
    register_kind(replace(_ANY_EDIT, name=kind, summary=cls.summary))
    return cls


def kinds() -> dict[str, type[Edit]]:
    """All kinds of edits by name: registered kinds, and kinds of installed packages."""
    for entry in entry_points(group=_ENTRY_POINTS):
        if entry.name not in _KINDS:
            register(entry.load())
    return dict(sorted(_KINDS.items()))


def kind_of(config: Mapping[str, Any], where: str) -> type[Edit]:
    """The class of the kind that a checked config names.

    Raises:
        ArtifactError: the kind is unknown; the message names the package that saved it.
    """
    kind = config["kind"]
    # Entry points run other packages' code, so they are used only for a kind not known otherwise.
    known = _KINDS if kind in _KINDS else kinds()
    if kind in known:
        return known[kind]
    package = config.get("package")
    advice = (
        f"It was saved by the package {package!r}; install it, or import it first."
        if isinstance(package, str) and package.isidentifier()
        else "If it is from a newer stylegan_hub, upgrade to read it."
    )
    raise ArtifactError(
        f"Unknown kind {kind!r} in {where}; known kinds: {', '.join(sorted(known))}.",
        got=kind,
        expected=tuple(sorted(known)),
        remedy=advice,
    )


def edit_from_parts(config: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> Edit:
    """The edit that a checked config and its tensors define.

    Args:
        where: their source, for messages.

    Raises:
        ArtifactError: the kind is unknown, the values do not make an edit, or numbers are not
            finite.
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
        raise ArtifactError(f"{where} is not a valid {cls.kind}: {error}") from error


def load_edit(
    name_or_path: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Edit:
    """Load an edit by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

    Nothing in the folder is executed: it holds a JSON and a safetensors file.

    Args:
        revision, token, cache_dir, local_files_only: for the Hub; see `names.resolve`.

    Raises:
        NotFoundError: the name leads nowhere; the message lists similar names.
        ArtifactError: files are missing, damaged, of an unknown kind or from a newer version.
    """
    folder = resolve(name_or_path, "edit", revision, token, cache_dir, local_files_only)
    kind_of(read_config(folder), str(folder))  # reports "unknown kind" before "damaged"
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
    limit="Faces fall apart at strengths far outside the slider's range.",
    usage=_usage,
)
register_kind(_ANY_EDIT)
