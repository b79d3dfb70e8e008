"""The user's interface to one image domain: render, edit, find edits, invert, tune.

A `StyleEditPipeline` is a `Domain` with these methods. Most of them only call the module that does
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
    """The result of a pipeline call.

    Attributes:
        images: the pictures.
        latents: the edited latents from which they were rendered, in w_plus or s.
    """

    images: list[Image.Image]
    latents: Latents


@dataclass(frozen=True)
class Tuned:
    """A pipeline that learned one picture, and the latent at which it renders this picture.

    Attributes:
        pipe: the pipeline with the tuned generator. It accepts all edits of the original pipeline,
            because its fingerprint is the same.
        latents: the pivot, in w_plus.
    """

    pipe: StyleEditPipeline
    latents: Latents


class StyleEditPipeline(Domain):
    """A domain with methods to render, edit, find edits and invert; arguments as for `Domain`."""

    text_to_face: TextToFace | None = None
    """The network for `from_text`; if None, `from_text` loads the bundled one."""

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
            seed: seed of the faces, one or several.
            latents: the faces, in any space, in place of seeds. Without both, the face is the
                average face if there is a `prompt`, else seed 0.
            prompt: words that the pictures should match. The edit is found by latent optimization
                for these latents only (`methods/optimization.py`), which takes seconds.
            edits: pairs of an edit and its strength; their displacements add, in any order.
            truncation_psi: for `seed`, 1 keeps the full variety, 0 is the average face.
            region: the only part of the picture that changes, "hair" or "mouth, eyes", with a soft
                border; it needs a parser. It affects only the pictures, not the latents.
            blend: how the border is joined, see `regions.join.draw_within`.
            label: for a generator with labels, see `Domain.label_vector`.
            max_resolution: longer side of the pictures, for a preview in a fraction of the time;
                see `Domain.synthesize`. It cannot be combined with a region.

        Raises:
            ValueError: both seed and latents are given, the prompt is empty, a seed is out of
                range, the region is unknown or the pipeline has no parser; or max_resolution is
                given with a region, or is below the smallest block.
            MismatchError: latents or edits belong to another generator.
        """
        if seed is not None and latents is not None:
            raise ValueError("Got both seed and latents; give only one of them.")
        if region is not None and max_resolution is not None:
            raise ValueError(
                f"Got max_resolution={max_resolution} with the region {region!r}, which needs the "
                "full-size picture. Leave one of them out."
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
        """Find an edit from words, a picture, pairs of pictures, or without any input.

        Args:
            request: "a face with purple hair", a PIL picture, or one of the requests in
                `methods.requests`.
            face: one latent, to find an edit for this face; None finds an edit for every face.
            method: name of the method, see `methods.method.known`; None chooses the domain's best
                method for this request.
            keep: words for what must not change: ["glasses", "hair"].
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
                remedy="Leave out keep; only requests in words support it.",
            )
        chosen = method_for(self, request, face) if method is None else get(method)
        return chosen.find(self, request, face, label=label, settings=settings, on_step=on_step)

    def split(self, text: str, face: Latents | None = None, **options: Any) -> dict[str, Edit]:
        """An edit for each single change in a text: "older, smiling, with glasses".

        Args:
            face: as for `find`.
            options: the other arguments of `find`, the same for all edits.

        Returns:
            Edits by their words, in the order of the text; one edit if the text has one change.

        Raises:
            ValueError: the text is empty.
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
            seeds: one face is made for each seed; other seeds give other faces that fit.
            truncation_psi: 1 keeps the full variety, 0 is the average face.
            candidates: number of faces sampled for each seed; the one that CLIP finds nearest to
                the text is kept.
            on_step: called after each face; may raise `steps.Cancelled`.

        Returns:
            Pictures, and latents in w_plus that can be edited like any others.

        Raises:
            ValueError: the text is empty or longer than this CLIP reads; there is no seed, a seed
                is out of range, or there are fewer than one candidate.
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
        """The latents in w_plus that approximately render aligned pictures.

        `photos.align` cuts aligned pictures out of photographs.

        Args:
            image: one or several pictures of the generator's shape (usually a square), or a tensor
                in [-1, 1]; they are resized to its size.
            refine: steps of the search near the encoder's latent for one that renders the picture
                better; 100 steps take seconds, 0 uses only the encoder. It can also hold all
                settings of the search. A pipeline without an encoder searches from the average
                face, with a warning.
            on_step: called after each step of the search.

        Raises:
            ValueError: pictures have another shape, or there is no encoder and `refine` is 0.
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

        The result matches the picture better than any latent of the original generator, and can be
        edited just as well. This pipeline is not changed.

        Args:
            latents: the pivot; `invert(image, 100)` if None.

        Raises:
            ValueError: there is more than one picture or latent, or the picture has another shape.
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
