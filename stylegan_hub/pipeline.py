"""What a user of one image domain calls: render, edit, find edits, invert, tune.

A `StyleEditPipeline` is a `Domain` with these calls; each is a line or two to the module that does
the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from diffusers.utils import BaseOutput
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from stylegan_hub import images as image_files
from stylegan_hub.domain import Domain, Label, Seeds, tunable_parameters
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.stack import displaced
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.choose import method_for
from stylegan_hub.methods.method import Request, Words, get
from stylegan_hub.methods.optimization import displacements
from stylegan_hub.methods.wording import parts
from stylegan_hub.names import Kind, register_kind
from stylegan_hub.photos import invert as inversion
from stylegan_hub.regions.find import named_region
from stylegan_hub.regions.join import Blend, draw_within
from stylegan_hub.steps import OnStep
from stylegan_hub.text_to_face import (
    CANDIDATES,
    TextToFace,
    bundled_text_to_face,
    draw_from_text,
)


@dataclass
class StyleEditOutput(BaseOutput):
    """What a pipeline call gives.

    Attributes:
        images: the pictures.
        latents: the edited latents they were rendered from, in w_plus or s.
    """

    images: list[Image.Image]
    latents: Latents


@dataclass(frozen=True)
class Tuned:
    """A pipeline that learned one picture, and the latent at which it renders it.

    Attributes:
        pipe: with the tuned generator. It takes all edits of the original one: to them it is the
            same generator.
        latents: the pivot, in w_plus.
    """

    pipe: StyleEditPipeline
    latents: Latents


class StyleEditPipeline(Domain):
    """A domain with everything that can be done in it; arguments as of `Domain`."""

    text_to_face: TextToFace | None = None
    """What `from_text` renders with; the bundled one, when there is none, is loaded by it."""

    @torch.no_grad()
    def __call__(
        self,
        seed: Seeds | None = None,
        latents: Latents | None = None,
        prompt: str | None = None,
        edits: Sequence[tuple[Edit, float]] = (),
        truncation_psi: float = 0.7,
        region: str | None = None,
        blend: Blend = "images",
        label: Label | None = None,
        max_resolution: int | None = None,
    ) -> StyleEditOutput:
        """Render faces, optionally edited.

        Args:
            seed: of the faces, one or several; or
            latents: the faces, in any space. Without both: the average face with `prompt`, else
                seed 0.
            prompt: words that the pictures should come to fit, found by latent optimization for
                just these latents (`methods/optimization.py`); takes seconds.
            edits: pairs of an edit and its strength; their displacements add, in any order.
            truncation_psi: for `seed`, 1 keeps the full variety, 0 is the average face.
            region: only this part of the picture changes, "hair" or "mouth, eyes", with a soft
                border; needs a parser. The latents do not know of it, the pictures show it.
            blend: how the border is joined, see `regions.join.draw_within`.
            label: for a generator with labels, see `Domain.label_vector`.
            max_resolution: longer side of the pictures, for a preview in a fraction of the time;
                see `Domain.synthesize`. Not with a region.

        Raises:
            ValueError: both seed and latents, an empty prompt, a seed out of range, an unknown
                region, a region without a parser; a max_resolution with a region, or below the
                smallest block.
            MismatchError: latents or edits of another generator.
        """
        if seed is not None and latents is not None:
            raise ValueError("Got both seed and latents; give one of them.")
        if region is not None and max_resolution is not None:
            raise ValueError(
                f"Got max_resolution={max_resolution} with the region {region!r}, which is found "
                "in the whole picture; leave one of them out."
            )
        if latents is None and seed is None and prompt is not None:
            latents = self.mean_latent()
        elif latents is None:
            latents = self.sample(0 if seed is None else seed, truncation_psi, label=label)
        latents = before = self.lower(latents, max(latents.space, Space.W_PLUS), label)
        where = None if region is None else named_region(self, region)
        if prompt is not None:
            settings = get("optimization").presets["default"]
            settings = replace(settings, space=latents.space)
            full, request = self.in_full_precision(), Words(prompt)
            self.check_text(request.text)
            steps = [displacements(full, request, one, settings) for one in latents]
            latents = Latents(latents.space, latents.codes + torch.cat(steps).to(latents.codes))
        latents = displaced(self, latents, edits)
        if where is None:
            drawn = self.synthesize(latents, max_resolution).clamp(-1, 1)
        else:
            drawn = draw_within(self, before, latents, where, blend)
        return StyleEditOutput(images=image_files.to_pil(drawn.float()), latents=latents)

    def apply(self, latents: Latents, edits: Sequence[tuple[Edit, float]]) -> Latents:
        """Latents with the displacements of all edits, see `edits.stack.displaced`."""
        return displaced(self, latents, edits)

    def find(
        self,
        request: Request | str | Image.Image,
        face: Latents | None = None,
        *,
        method: str | None = None,
        keep: Sequence[str] = (),
        label: Label | None = None,
        settings: Any = None,
        on_step: OnStep | None = None,
    ) -> Edit:
        """Find an edit: from words, a picture, pairs of pictures, or nothing at all.

        Args:
            request: "a face with purple hair", a PIL picture, or one of `methods.method`'s
                requests.
            face: one latent: the edit is for this face; None: for every face.
            method: its name, see `methods.method.methods`; the domain's best one for this request
                when None.
            keep: what must not change, in words: ["glasses", "hair"].
            label, settings, on_step: see `Method.find`.

        Raises:
            MethodError, ValueError, MismatchError, Cancelled: see `Method.find`.
        """
        if isinstance(request, str):
            request = Words(request, keep=tuple(keep))
        elif keep and isinstance(request, Words):
            request = replace(request, keep=(*request.keep, *keep))
        elif keep:
            raise MethodError(
                f"Got words to keep with a request of type {type(request).__name__}.",
                got=tuple(keep),
                expected=(),
                remedy="Words can be told what to keep; leave it out.",
            )
        chosen = method_for(self, request, face) if method is None else get(method)
        return chosen.find(self, request, face, label=label, settings=settings, on_step=on_step)

    def split(self, text: str, face: Latents | None = None, **options: Any) -> dict[str, Edit]:
        """The single changes that a text asks for, an edit each: "older, smiling, with glasses".

        Args:
            face: as of `find`.
            options: the other arguments of `find`, the same for all.

        Returns:
            Edits by their words, in the order of the text; one, where it asks for one thing.

        Raises:
            ValueError: an empty text.
            MethodError, MismatchError, Cancelled: see `Method.find`.
        """
        asked = parts(text) or [text]
        return {one: self.find(one, face, **options) for one in asked}

    @torch.no_grad()
    def from_text(
        self,
        text: str,
        seeds: Seeds = 0,
        truncation_psi: float = 0.7,
        candidates: int = CANDIDATES,
        on_step: OnStep | None = None,
    ) -> StyleEditOutput:
        """New faces that fit a text, "a young woman with long red hair and glasses".

        Args:
            seeds: a face for each; other seeds are other faces that fit.
            truncation_psi: 1 keeps the full variety, 0 is the average face.
            candidates: how many faces are drawn for each seed; the one that CLIP finds nearest to
                the text is kept.
            on_step: called after each face; may raise `steps.Cancelled`.

        Returns:
            Pictures, and latents in w_plus that take edits as any others.

        Raises:
            ValueError: an empty text, or one that is longer than this CLIP reads; no seed, a seed
                out of range, fewer than one candidate.
            NotFoundError: no text-to-face network is loaded, and none is bundled for this
                generator.
            MismatchError: `text_to_face` was made for another generator or CLIP.
            Cancelled: `on_step` raised it.
        """
        self.check_text(text)
        if self.text_to_face is None:
            self.text_to_face = bundled_text_to_face(self)
        network = self.text_to_face.to(self.device)
        latents = draw_from_text(self, network, text, seeds, truncation_psi, candidates, on_step)
        pictures = image_files.to_pil(self.synthesize(latents).clamp(-1, 1).float())
        return StyleEditOutput(images=pictures, latents=latents)

    def invert(
        self,
        image: Image.Image | Sequence[Image.Image] | Float[Tensor, "n 3 h w"],
        refine: int | inversion.Refinement = 0,
        on_step: OnStep | None = None,
    ) -> Latents:
        """The latents in w_plus that render aligned pictures: an approximation.

        `photos.align` cuts aligned pictures out of photographs.

        Args:
            image: one or several pictures of the generator's shape (mostly a square), or a tensor
                in [-1, 1]; resized to its size.
            refine: steps of the search near the encoder's latent for one that renders the picture
                better, seconds for 100; 0 is the encoder alone. Or all settings of the search. A
                pipeline without an encoder searches from the average face, with a warning.
            on_step: called after each step of the search.

        Raises:
            ValueError: pictures of another shape, or no encoder and nothing to refine.
        """
        return inversion.invert(self, image, refine, on_step)

    def tune(
        self,
        image: Image.Image | Float[Tensor, "1 3 h w"],
        latents: Latents | None = None,
        settings: inversion.Tuning | None = None,
        on_step: OnStep | None = None,
    ) -> Tuned:
        """Pivotal tuning: teach a copy of the generator one aligned picture at its latent.

        It is more like the picture than any latent of the generator as it is, and edits as well;
        this pipeline stays as it is.

        Args:
            latents: the pivot; `invert(image, 100)` when None.

        Raises:
            ValueError: more than one picture or latent, or a picture of another shape.
        """
        pivot = self.invert(image, 100) if latents is None else latents
        generator = inversion.tune(self, inversion.aligned(self, image), pivot, settings, on_step)
        weights = {name: weight for name, weight in tunable_parameters(generator)}
        return Tuned(self.with_weights(weights), pivot)

    def _with_components(self, replaced: Mapping[str, Any]) -> Self:
        other = super()._with_components(replaced)
        other.text_to_face = self.text_to_face
        return other


register_kind(Kind("pipeline", StyleEditPipeline.saved_as, StyleEditPipeline.from_pretrained))
