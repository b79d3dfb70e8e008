"""The one abstraction of an edit: a small module that displaces a latent.

`edited = codes + strength * delta(codes)` is written here once, so strength 0 is the identity for
every kind and negative strengths work. A kind of edit is one file in this folder: a subclass of
`Edit` with a `kind` and a `delta`. The folder is the registry.

An edit knows nothing of CLIP, a generator, a prompt or a device. It remembers the fingerprint of
the generator it was made for and refuses to displace the latents of another one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from stylegan_hub.artifacts import BaseModel, read_config, read_folder, resolve, write_folder
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Latents, Space

NO_RECOGNIZER = "without an identity term, since the pipeline has no recognizer"
"""How an edit was found, in `origin.training["note"]`, that would else have had that term."""


@dataclass(frozen=True)
class Strength:
    """The range of an edit's slider; 1 is what its maker meant."""

    default: float = 1.0
    min: float = -2.0
    max: float = 2.0

    def __post_init__(self) -> None:
        if not self.min <= self.default <= self.max:
            raise ValueError(
                f"Got strength min {self.min}, default {self.default}, max {self.max}; "
                "expected min <= default <= max."
            )


@dataclass(frozen=True)
class Origin:
    """Where an edit comes from: what its card says and what the page shows.

    Attributes:
        prompt: the text it was made for, None when it was made from a picture.
        neutral: the text it moves away from, where the method has one.
        training: settings and results of the search, plain values.
    """

    prompt: str | None = None
    neutral: str | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


class Edit:
    """A displacement of latents in one space, for one generator.

    A subclass names its `kind`, implements `delta`, and says in `tensors` and `extra_config` what
    it is made of, and in `from_parts` how to build it again.

    Attributes:
        space: the space whose codes it displaces, `w_plus` or `s`.
        base_model: the generator it belongs to.
        strength: range of its slider.
        origin: prompt and training settings.
    """

    kind: ClassVar[str]

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

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write `config.json` and `model.safetensors`, as a whole or not at all."""
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
        write_folder(Path(folder), config, self.tensors())
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


def kinds() -> dict[str, type[Edit]]:
    """All kinds of edits: every subclass of `Edit` in this folder, by its `kind`."""
    import stylegan_hub.edits as folder

    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f"{folder.__name__}.{module.name}")

    def below(cls: type[Edit]) -> list[type[Edit]]:
        return [found for child in cls.__subclasses__() for found in (child, *below(child))]

    return {
        cls.kind: cls
        for cls in below(Edit)
        if cls.__module__.startswith(folder.__name__ + ".") and "kind" in vars(cls)
    }


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
        NotFoundError: the name leads nowhere; the bundled names are listed.
        ArtifactError: files are missing, damaged, of an unknown kind or from a newer version.
    """
    folder = resolve(name_or_path, "edit", revision, token, cache_dir, local_files_only)
    known = kinds()
    kind = read_config(folder)["kind"]
    if kind not in known:
        raise ArtifactError(
            f"Unknown kind {kind!r} in {folder}; known kinds: {', '.join(sorted(known))}. "
            "Is it from a newer stylegan_hub? Upgrade to read it."
        )
    config, tensors = read_folder(folder)
    try:
        base_model = BaseModel(**config["base_model"])
        strength = Strength(**config.get("strength", {}))
        origin = Origin(config.get("prompt"), config.get("neutral"), config.get("training", {}))
        space = Space(config["space"])
        edit = known[kind].from_parts(tensors, config, space, base_model, strength, origin)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{folder} is no sound {kind}: {error}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ArtifactError(f"{folder}: tensor {name!r} holds numbers that are not finite.")
    return edit
