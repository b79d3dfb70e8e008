"""A person from a photograph in one file: latent, place in the photograph, tuned generator.

It is a safetensors file that `Latents.load` reads too, with the tensor `codes`, and `tuned.<name>`
for each weight of a tuned generator. The header holds the alignment, the generator's sizes and
fingerprint, the settings and the likeness that was reached.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import (
    BaseModel,
    base_model_from,
    parse_json,
    read_tensors,
    write_tensors,
)
from stylegan_hub.bounds import check_weights
from stylegan_hub.domain import Domain, tunable_parameters
from stylegan_hub.errors import ArtifactError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.photos.align import Alignment, cut
from stylegan_hub.photos.invert import Refinement, Tuning, invert, tune
from stylegan_hub.photos.likeness import Likeness, likeness
from stylegan_hub.photos.photo import Photo
from stylegan_hub.steps import OnStep

FORMAT_VERSION = 1
PORTRAIT = "portrait"
"""Setting that marks a person who was not inverted but drawn with the traits of a photograph."""
_TUNED = "tuned."
_Domain = TypeVar("_Domain", bound=Domain)


@dataclass(frozen=True)
class Person:
    """A person who was inverted from a photograph.

    Attributes:
        latents: one latent in w_plus.
        alignment: which part of which photograph.
        base_model: the generator that the latent belongs to.
        tuned: weights of the synthesis network that were tuned to the photograph; empty if none.
        likeness: of the unedited render to the aligned photograph.
        settings: how the photograph was inverted, as plain values.
    """

    latents: Latents
    alignment: Alignment
    base_model: BaseModel
    tuned: Mapping[str, Tensor] = field(default_factory=dict)
    likeness: Likeness | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_portrait(self) -> bool:
        """Whether it is a portrait with the photograph's traits, which is never pasted back."""
        return PORTRAIT in self.settings

    def pipeline(self, domain: _Domain) -> _Domain:
        """The pipeline that renders this person, with the tuned generator if there is one.

        Raises:
            MismatchError: the pipeline has another generator.
            ArtifactError: the tuned weights do not fit the generator.
        """
        self.base_model.check_same(domain.base_model, "latent")
        return domain.with_weights(self.tuned) if self.tuned else domain

    def save(self, path: str | Path) -> None:
        """Write one safetensors file, as a whole or not at all."""
        header = {
            "kind": "latents",
            "space": self.latents.space.value,
            "format_version": str(FORMAT_VERSION),
            "alignment": self.alignment.to_json(),
            "base_model": json.dumps(asdict(self.base_model)),
            "settings": json.dumps(dict(self.settings), allow_nan=False),
        }
        if self.likeness is not None:
            header["likeness"] = json.dumps(self.likeness.to_dict())
        tensors = {_TUNED + name: tensor for name, tensor in self.tuned.items()}
        write_tensors(Path(path), {"codes": self.latents.codes, **tensors}, header)

    @staticmethod
    def load(path: str | Path) -> Person:
        """Read a file that `save` wrote. It may be untrusted; nothing in it is executed.

        Raises:
            NotFoundError: there is no such file.
            ArtifactError: it is damaged, holds no person, or is from a newer version.
        """
        tensors, header = read_tensors(Path(path))
        if missing := {"alignment", "base_model"} - header.keys():
            raise ArtifactError(
                f"{path} does not come from a photograph (no {' and '.join(sorted(missing))} in "
                "its header); expected a file written by `stylegan-hub invert`."
            )
        version = header.get("format_version", "")
        if re.fullmatch(r"[0-9]{1,9}", version) is None or int(version) > FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format_version {version!r}; this library reads {FORMAT_VERSION}. "
                "Upgrade stylegan_hub to read it."
            )
        try:
            latents = Latents(header["space"], tensors.pop("codes"))
            if latents.space is not Space.W_PLUS or len(latents) != 1:
                raise ValueError(f"expected one latent in w_plus, got {latents!r}")
            if strange := [name for name in tensors if not name.startswith(_TUNED)]:
                raise ValueError(f"it holds the unknown tensor {strange[0]!r}")
            check_weights({"codes": latents.codes, **tensors}, "its tensors")
            return Person(
                latents,
                Alignment.from_json(header["alignment"]),
                base_model_from(parse_json(header["base_model"]), path),
                {name.removeprefix(_TUNED): tensor for name, tensor in tensors.items()},
                Likeness.from_json(header["likeness"]) if "likeness" in header else None,
                dict(parse_json(header.get("settings", "{}"))),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} is not a valid person file: {error}") from error


def check_replaceable(path: Path) -> None:
    """Raise `ArtifactError` if a file other than a person's is at a path to save a person to.

    A picture of a model often lies beside the model, `lora.png` beside `lora.safetensors`.
    """
    if not path.exists():
        return
    try:
        with safe_open(path, framework="pt") as file:
            is_person = "alignment" in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError):
        is_person = False
    if not is_person:
        raise ArtifactError(
            f"{path} holds something else; nothing was written.",
            got=str(path),
            expected="a new name, or a file of a person",
            remedy="Give another name with --output, or move that file away.",
        )


def invert_photo(
    domain: Domain,
    photo: Photo,
    alignment: Alignment,
    refinement: Refinement | None = None,
    tuning: Tuning | None = None,
    on_step: OnStep | None = None,
) -> Person:
    """Invert an aligned photograph.

    Args:
        refinement: how to refine the encoder's latent; None skips it.
        tuning: how to tune the generator to the photograph afterwards; None skips it.
        on_step: called with the steps of both, one after the other.

    Raises:
        ValueError: there is neither an encoder nor a refinement, or the photo has another size.
    """
    picture = cut(photo, alignment, domain.generator.img_size)
    latents = invert(domain, picture, refinement or 0, on_step)
    image = image_files.from_pil(picture).to(domain.device)
    settings: dict[str, Any] = {"photo_sha256": photo.sha256}
    weights: dict[str, Tensor] = {}
    drawing = domain
    if refinement is not None:
        settings["refinement"] = asdict(refinement)
    if tuning is not None:
        settings["tuning"] = asdict(tuning)
        generator = tune(domain, image, latents, tuning, on_step)
        weights = {name: weight.detach().cpu() for name, weight in tunable_parameters(generator)}
        drawing = domain.with_weights(weights)
    with torch.no_grad():
        (reached,) = likeness(domain, drawing.synthesize(latents), image)
    return Person(
        latents.to("cpu", torch.float32), alignment, domain.base_model, weights, reached, settings
    )
