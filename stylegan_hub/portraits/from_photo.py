"""A drawn portrait from a photograph: measured traits become the domain's own factors.

The drawn portraits cannot show the person of a photograph, and an inversion of it gives a distorted
drawing. Instead they show a likeness in the way of a caricature: skin, hair, glasses, beard, age,
expression, rotation of the head and the colors around it, as far as `photos.traits` can read them,
in the nearest values of the renderer. It claims nothing about who a person is, and is never pasted
into the photograph.

    traits -> `portrait_like` -> factors of a portrait -> `to_latents` -> w_plus

`to_latents` is how a domain turns factors into a latent. `by_drawing`, the one used here, draws the
portrait and inverts the drawing, which works with every domain that has an encoder and renders such
portraits. A domain whose w is a linear map of the factors can have a shorter way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain
from stylegan_hub.errors import MismatchError
from stylegan_hub.latents import Latents
from stylegan_hub.photos.align import Alignment
from stylegan_hub.photos.finders import draws
from stylegan_hub.photos.invert import Refinement, invert
from stylegan_hub.photos.people import Face
from stylegan_hub.photos.person import PORTRAIT, Person
from stylegan_hub.photos.photo import Photo
from stylegan_hub.photos.traits import Color, Traits, measure
from stylegan_hub.portraits.attributes import (
    ATTRIBUTES,
    GAUSSIANS,
    NUM_GAUSSIANS,
    Portraits,
    from_gaussians,
)
from stylegan_hub.portraits.factors import factors
from stylegan_hub.portraits.renderer import render

NOTICE = (
    "This model renders cartoons and cannot show the person in a photograph. It offers a drawn "
    "portrait with the traits that were read. It is a playful likeness, not the person, so it is "
    "not pasted into the photograph."
)
"""What a user is told when a portrait replaces an inversion."""

_CLEARLY = 0.5  # least value of a trait between 0 and 1 that is shown
_TURNED = 0.33
_EXPRESSIONS = {
    "neutral": "neutral", "happy": "smiling", "sad": "sad", "angry": "angry",
    "disgusted": "angry", "fearful": "surprised", "surprised": "surprised",
}  # fmt: skip
_NOT_READ = {"freckles": "no", "gaze": "ahead", "eye_color": "brown"}
_AGES = ((35, "young"), (55, "middle-aged"))
_WIDTHS = ((1.0, "narrow"), (1.25, "average"))
_STYLES = ((0.25, "short"), (1.5, "bob"))  # with the greatest length of each
_TINTS = (-2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0)
# Lightness, and two color differences that count more: a shadow should not change a hue.
_COMPARED = torch.tensor([[0.3, 0.6, 0.1], [2.0, -1.5, -0.5], [0.5, 1.0, -1.5]])


class ToLatents(Protocol):
    """How a domain turns the factors of a portrait into its latent."""

    def __call__(self, domain: Domain, portraits: Portraits) -> Latents:
        """One latent in w_plus for each portrait."""
        ...


def by_drawing(domain: Domain, portraits: Portraits, refine: int | Refinement = 0) -> Latents:
    """Draw the portraits with the renderer, and invert the drawings.

    Raises:
        ValueError: the domain has no encoder.
        MismatchError: it does not render such portraits.
    """
    drawings = image_files.to_pil(render(portraits, domain.generator.config.img_resolution))
    if not all(draws(domain, drawing) for drawing in drawings):
        raise MismatchError(
            "This pipeline does not render drawn portraits.",
            got=domain.name,
            expected="a pipeline of drawn portraits",
            remedy="Use the bundled one, or a pipeline of photographs of faces.",
        )
    return invert(domain, drawings, refine)


def portrait_of(
    domain: Domain,
    photo: Photo,
    alignment: Alignment,
    face: Face,
    to_latents: ToLatents = by_drawing,
) -> Person:
    """A drawn portrait with the traits of a face in a photograph; its `Person.is_portrait` is true.

    Args:
        alignment: where the face is, for the file; nothing is pasted there.

    Raises:
        MismatchError, ValueError: what `to_latents` raises.
    """
    traits = measure(photo.image, face)
    portraits = portrait_like(traits)
    latents = to_latents(domain, portraits).to("cpu", torch.float32)
    settings = {"photo_sha256": photo.sha256, PORTRAIT: _told(traits, portraits)}
    return Person(latents, alignment, domain.base_model, settings=settings)


def _told(traits: Traits, portraits: Portraits) -> dict[str, str]:
    """The labels that were read, without those that every portrait has."""
    unseen = {"hair_color": traits.hair, "background": traits.background, "clothes": traits.clothes}
    read = {*labels_like(traits), "skin", *(name for name, color in unseen.items() if color)}
    drawn = portraits.label_names(0)
    return {name: value for name, value in drawn.items() if name in read - _NOT_READ.keys()}


def portrait_like(traits: Traits) -> Portraits:
    """The one portrait whose factors are nearest to the traits."""
    portrait = from_gaussians(torch.zeros(1, NUM_GAUSSIANS)).with_labels(**labels_like(traits))
    for attribute, color, tints in (
        ("skin", traits.skin, ("skin_tint",)),
        ("hair_color", traits.hair, ("hair_tint", "hair_light")),
        ("background", traits.background, ("background_tint", "background_light")),
        ("clothes", traits.clothes, ("clothes_tint",)),
    ):
        if color is not None:
            portrait = _colored(portrait, attribute, color, tints)
    return portrait


def labels_like(traits: Traits) -> dict[str, str]:
    """The values of the attributes that are not colors, in words."""
    styles = "bald" if traits.hair is None else _step(traits.hair_length, _STYLES, "long")
    turn = "left" if traits.turn < -_TURNED else "right" if traits.turn > _TURNED else "front"
    found = {
        "hair_style": styles,
        "hat": _yes(traits.hat),
        "beard": _yes(traits.beard > _CLEARLY),
        "glasses": _yes(traits.glasses > _CLEARLY),
        "lipstick": _yes(traits.lipstick > _CLEARLY),
        "expression": _EXPRESSIONS[traits.reading.expression],
        "age": _step(traits.reading.age, _AGES, "old"),
        "face_width": _step(traits.face_width, _WIDTHS, "wide"),
        "pose": turn,
        **_NOT_READ,
    }
    return {name: value for name, value in found.items() if name in ATTRIBUTES}


def _colored(portrait: Portraits, attribute: str, color: Color, tints: Sequence[str]) -> Portraits:
    """The portrait with the value of an attribute, and its tints, whose color is nearest."""
    places = range(len(ATTRIBUTES[attribute]))
    tries = torch.cartesian_prod(
        torch.tensor(places, dtype=torch.float32), *[torch.tensor(_TINTS) for _ in tints]
    )
    many = portrait[torch.zeros(len(tries), dtype=torch.int64)]
    gaussians = many.gaussians.clone()
    for column, tint in enumerate(tints, 1):
        gaussians[:, GAUSSIANS.index(tint)] = tries[:, column]
    values = tries[:, 0].long()
    many = replace(many, gaussians=gaussians).with_labels(**{attribute: values})
    name = "hair" if attribute == "hair_color" else attribute
    numbers = factors(many)
    drawn = torch.stack([numbers[f"{name}_{c}"] for c in "rgb"], 1)
    best = int(_unlike(drawn, torch.tensor(color)).argmin())
    return many[[best]]


def _unlike(colors: Tensor, color: Tensor) -> Tensor:
    return ((colors - color) @ _COMPARED.T.to(colors)).norm(dim=1)


def _step(value: float, steps: Sequence[tuple[float, str]], last: str) -> str:
    return next((word for limit, word in steps if value < limit), last)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
