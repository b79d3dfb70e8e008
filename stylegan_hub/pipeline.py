"""One image domain: a generator and a CLIP that agree with each other, saved as one folder.

The folder is in diffusers' layout: `model_index.json` and a folder for each component. Optional
components (an encoder, a recognizer, a parser) may be absent; what needs one says so.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer
from typing_extensions import Self

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import BaseModel, resolve
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.latent_optimization import find
from stylegan_hub.edits.regions import Blend, draw_within, named_region
from stylegan_hub.errors import ArtifactError, MismatchError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.models.clip import encode_image, encode_text, preprocess
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.landmarker import Landmarker
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.photos import invert as inversion
from stylegan_hub.text_to_face import (
    CANDIDATES,
    TextToFace,
    bundled_text_to_face,
    draw_from_text,
)

# The only classes that a pipeline folder may name: a stranger's model_index.json cannot make us
# import anything else.
_COMPONENTS: dict[str, tuple[str, str]] = {
    "generator": ("stylegan_hub.models.stylegan2", "StyleGAN2Generator"),
    "clip": ("transformers", "CLIPModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "image_processor": ("transformers", "CLIPImageProcessorPil"),
    "recognizer": ("stylegan_hub.models.recognizer", "Recognizer"),
    "parser": ("stylegan_hub.models.parser", "Parser"),
    "encoder": ("stylegan_hub.models.encoder", "Encoder"),
    "landmarker": ("stylegan_hub.models.landmarker", "Landmarker"),
}
_OPTIONAL = ("recognizer", "parser", "encoder", "landmarker")
_MAX_SEED = 2**63 - 1
NEUTRAL = "a face"
"""What the pictures of most pipelines show, in words."""


@dataclass
class StyleEditOutput(BaseOutput):
    """What a pipeline call gives.

    Attributes:
        images: the pictures.
        latents: the edited latents they were drawn from, in w_plus or s.
    """

    images: list[Image.Image]
    latents: Latents


@dataclass(frozen=True)
class Tuned:
    """A pipeline that learned one picture, and the latent at which it draws it.

    Attributes:
        pipe: with the tuned generator. It takes all edits of the original one: to them it is the
            same generator.
        latents: the pivot, in w_plus.
    """

    pipe: StyleEditPipeline
    latents: Latents


class StyleEditPipeline(DiffusionPipeline):
    """Samples, edits and describes the pictures of one domain.

    Args:
        generator: the frozen StyleGAN2.
        clip, tokenizer, image_processor: a CLIP that understands its pictures.
        recognizer: who is it? None, as the next three, where pictures show no faces or nobody has
            trained one; what needs it says so.
        parser: which part of a face is where?
        encoder: which latent draws a picture?
        landmarker: where in a larger picture are faces of this domain?
        neutral: what all pictures of the domain show, in words, "a car"; edits by words start there
            where nobody says anything else.

    Raises:
        ValueError: an empty `neutral`.
    """

    # Read by diffusers when it saves and loads.
    _optional_components: ClassVar[list[str]] = list(_OPTIONAL)

    def __init__(
        self,
        generator: StyleGAN2Generator,
        clip: CLIPModel,
        tokenizer: CLIPTokenizer,
        image_processor: CLIPImageProcessorPil,
        recognizer: Recognizer | None = None,
        parser: Parser | None = None,
        encoder: Encoder | None = None,
        landmarker: Landmarker | None = None,
        neutral: str = NEUTRAL,
    ) -> None:
        super().__init__()
        if not isinstance(neutral, str) or not neutral.strip():
            raise ValueError(
                f"Got neutral {neutral!r}; say in words what the pictures show, such as 'a car'."
            )
        self.register_to_config(neutral=neutral.strip())
        self.register_modules(
            generator=generator.eval().requires_grad_(False),
            clip=clip.eval().requires_grad_(False),
            tokenizer=tokenizer,
            image_processor=image_processor,
            recognizer=recognizer and recognizer.eval().requires_grad_(False),
            parser=parser and parser.eval().requires_grad_(False),
            encoder=encoder and encoder.eval().requires_grad_(False),
            landmarker=landmarker and landmarker.eval().requires_grad_(False),
        )
        self.name: str | None = None
        self.text_to_face: TextToFace | None = None
        """What `from_text` draws with; the bundled one, when there is none, is loaded by it."""
        self._hashed: tuple[StyleGAN2Generator, str] | None = None
        self._tuned_from: BaseModel | None = None

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Load a pipeline by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

        A repository is downloaded first and then read as a folder, without any of its code.

        Args:
            dtype: of the weights in memory; bundled ones are stored in half precision.

        Raises:
            NotFoundError: the name leads nowhere; the bundled names are listed.
            ArtifactError: a component is missing, damaged or of a class that is not expected.
        """
        folder = resolve(name_or_path, "pipeline", revision, token, cache_dir, local_files_only)
        _check_index(folder)
        try:
            pipeline = super().from_pretrained(
                folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        except Exception as error:  # each component's library raises in its own way
            raise ArtifactError(
                f"The pipeline in {folder} cannot be loaded: {error} Copy or download it again."
            ) from error
        pipeline.name = str(name_or_path)
        return pipeline

    @property
    def neutral(self) -> str:
        """What all pictures of the domain show, in words."""
        return str(self.config.neutral)

    @property
    def base_model(self) -> BaseModel:
        """What an edit for this pipeline's generator records of it.

        A tuned generator is, to edits, the one it was tuned from.
        """
        if self._tuned_from is not None:
            return self._tuned_from
        generator = self.generator
        # The hash covers all weights, which are frozen: worth doing once per generator, since a
        # slider asks at every move.
        if self._hashed is None or self._hashed[0] is not generator:
            self._hashed = (generator, generator.fingerprint())
        return BaseModel(
            id=self.name,
            fingerprint=self._hashed[1],
            num_ws=generator.num_ws,
            w_dim=generator.config.w_dim,
            num_styles=generator.num_styles,
            resolution=generator.config.img_resolution,
        )

    def sample(
        self,
        seeds: int | Sequence[int],
        truncation_psi: float = 0.7,
        truncation_cutoff: int | None = None,
    ) -> Latents:
        """Random people: latents in w_plus, one per seed; the same seed is the same person.

        Args:
            truncation_psi: 1 keeps the full variety, 0 is the average face.
            truncation_cutoff: how many layers to truncate; all when None.

        Raises:
            ValueError: a seed that is no integer from 0 to 2**63 - 1.
        """
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        for seed in seeds:
            if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _MAX_SEED:
                raise ValueError(f"Got seed {seed!r}; seeds are integers from 0 to 2**63 - 1.")
        z_dim = self.generator.config.z_dim
        z = torch.stack(
            [torch.randn(z_dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        )
        with torch.no_grad():
            ws = self.generator.mapping(
                z.to(self.device, self.dtype),
                truncation_psi=truncation_psi,
                truncation_cutoff=truncation_cutoff,
            )
        return Latents(Space.W_PLUS, ws)

    def mean_latent(self) -> Latents:
        """The average face, in w_plus."""
        w_avg = self.generator.mapping.w_avg
        return Latents(Space.W_PLUS, w_avg.repeat(1, self.generator.num_ws, 1))

    def lower(self, latents: Latents, space: Space | str) -> Latents:
        """The same pictures in a later space of the order z, w, w_plus, s; differentiable.

        Raises:
            ValueError: an earlier space, which would be an inversion.
            MismatchError: latents of another generator's size.
        """
        space = Space(space)
        if space < latents.space:
            raise ValueError(
                f"Got latents in {latents.space}, asked for {space}; latents are lowered along "
                "z, w, w_plus, s and never back. Going back is inversion."
            )
        generator, codes = self.generator, latents.codes.to(self.device, self.dtype)
        self._check_size(latents)
        if latents.space is Space.Z and space > Space.Z:
            codes = generator.mapping(codes)
            if space is Space.W:
                codes = codes[:, 0]
        if latents.space is Space.W and space > Space.W:
            codes = codes[:, None].expand(-1, generator.num_ws, -1)
        if latents.space < Space.S and space is Space.S:
            codes = generator.styles(codes)
        return Latents(space, codes)

    def synthesize(self, latents: Latents) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1] (not clamped) of latents of any space; differentiable."""
        if latents.space is Space.S:
            self._check_size(latents)
            codes = latents.codes.to(self.device, self.dtype)
            return self.generator.synthesis_from_styles(codes, noise_mode="const")
        lowered = self.lower(latents, Space.W_PLUS)
        return self.generator.synthesis(lowered.codes, noise_mode="const")

    def encode_text(self, texts: str | Sequence[str]) -> Float[Tensor, "n d"]:
        """CLIP embeddings of length 1.

        Raises:
            ValueError: an empty text.
        """
        with torch.no_grad():
            return encode_text(self.clip, self.tokenizer, texts)

    def encode_image(
        self,
        images: Float[Tensor, "n 3 h w"],
        preprocessing: Literal["proper", "styleclip"] = "proper",
    ) -> Float[Tensor, "n d"]:
        """CLIP embeddings of length 1 of pictures in [-1, 1]; differentiable.

        Pictures that are no squares are shown to CLIP whole and undistorted, on a black square, as
        StyleCLIP's code does with cars.

        Args:
            preprocessing: "styleclip" repeats the official code, without CLIP's mean and std.
        """
        processor = self.image_processor
        pixels = preprocess(
            image_files.on_square(images),
            self.clip.config.vision_config.image_size,
            processor.image_mean,
            processor.image_std,
            mode=preprocessing,
        )
        return encode_image(self.clip, pixels)

    @torch.no_grad()
    def from_text(
        self,
        text: str,
        seeds: int | Sequence[int] = 0,
        truncation_psi: float = 0.7,
        candidates: int = CANDIDATES,
    ) -> StyleEditOutput:
        """New faces that fit a text, "a young woman with long red hair and glasses".

        Args:
            seeds: a face for each; other seeds are other faces that fit.
            truncation_psi: 1 keeps the full variety, 0 is the average face.
            candidates: how many faces are drawn for each seed; the one that CLIP finds nearest to
                the text is kept.

        Returns:
            Pictures, and latents in w_plus that take edits as any others.

        Raises:
            ValueError: an empty text, no seed, a seed out of range, fewer than one candidate.
            NotFoundError: no text-to-face network is loaded, and none is bundled for this
                generator.
            MismatchError: `text_to_face` was made for another generator or CLIP.
        """
        if self.text_to_face is None:
            self.text_to_face = bundled_text_to_face(self)
        seeds = [seeds] if isinstance(seeds, int) else list(seeds)
        network = self.text_to_face.to(self.device)
        latents = draw_from_text(self, network, text, seeds, truncation_psi, candidates)
        pictures = image_files.to_pil(self.synthesize(latents).clamp(-1, 1).float())
        return StyleEditOutput(images=pictures, latents=latents)

    def invert(
        self,
        image: Image.Image | Sequence[Image.Image] | Float[Tensor, "n 3 h w"],
        refine: int | inversion.Refinement = 0,
        on_step: inversion.OnStep | None = None,
    ) -> Latents:
        """The latents in w_plus that draw aligned pictures: an approximation.

        `photos.align` cuts aligned pictures out of photographs.

        Args:
            image: one or several pictures of the generator's shape (mostly a square), or a tensor
                in [-1, 1]; resized to its size.
            refine: steps of the search near the encoder's latent for one that draws the picture
                better, seconds for 100; 0 is the encoder alone. Or all settings of the search. A
                pipeline without an encoder searches from the average face, with a warning.
            on_step: called after each step of the search.

        Raises:
            ValueError: pictures of another shape, or no encoder and nothing to refine.
        """
        images = self._aligned(image)
        if refine == 0:
            return inversion.encode(self, images)
        if isinstance(refine, int):
            refine = inversion.Refinement(steps=refine)
        return inversion.refine(self, images, settings=refine, on_step=on_step)

    def tune(
        self,
        image: Image.Image | Float[Tensor, "1 3 h w"],
        latents: Latents | None = None,
        settings: inversion.Tuning | None = None,
        on_step: inversion.OnStep | None = None,
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
        generator = inversion.tune(self, self._aligned(image), pivot, settings, on_step)
        weights = {name: weight for name, weight in inversion.tuned_parameters(generator)}
        return Tuned(self.with_weights(weights), pivot)

    def with_weights(self, weights: Mapping[str, Tensor]) -> Self:
        """A pipeline like this one, with some weights of the synthesis network replaced.

        It shares all other parts. Edits take its generator for this one's.

        Args:
            weights: by their names in the synthesis network, all but those of affine layers,
                which would change what edits in style space mean.

        Raises:
            ArtifactError: weights that this generator has not, or of another shape.
        """
        generator = copy.deepcopy(self.generator)
        own = dict(inversion.tuned_parameters(generator))
        for name, weight in weights.items():
            if name not in own or own[name].shape != weight.shape:
                has = f"{list(own[name].shape)}" if name in own else "no such weight to tune"
                raise ArtifactError(
                    f"Got the tuned weight {name!r} of shape {list(weight.shape)}; this generator "
                    f"has {has}. Load the pipeline that it was tuned from."
                )
            own[name].data.copy_(weight)
        parts = {name: getattr(self, name) for name in _COMPONENTS}
        pipe = type(self)(**{**parts, "generator": generator}, neutral=self.neutral)
        pipe.name, pipe.text_to_face = self.name, self.text_to_face
        pipe._tuned_from = self.base_model
        return pipe

    def apply(self, latents: Latents, edits: Sequence[tuple[Edit, float]]) -> Latents:
        """Latents with all edits applied: those in w_plus first, then those in s.

        Inside a space every edit sees the same latents and the displacements are added, so their
        order does not matter.

        Raises:
            MismatchError: an edit of another generator; both fingerprints are named.
        """
        base_model = self.base_model if edits else None
        for edit, _ in edits:
            assert base_model is not None
            edit.check_fits(base_model)
        for space in (Space.W_PLUS, Space.S):
            chosen = [(edit, strength) for edit, strength in edits if edit.space is space]
            if not chosen:
                continue
            start = self.lower(latents, space)
            moved = start.codes.clone()
            for edit, strength in chosen:
                moved = moved + (edit.apply(start, strength).codes - start.codes)
            latents = Latents(space, moved)
        return latents

    @torch.no_grad()
    def __call__(
        self,
        seed: int | Sequence[int] | None = None,
        latents: Latents | None = None,
        prompt: str | None = None,
        edits: Sequence[tuple[Edit, float]] = (),
        truncation_psi: float = 0.7,
        region: str | None = None,
        blend: Blend = "images",
    ) -> StyleEditOutput:
        """Draw people, optionally edited.

        Args:
            seed: who, one or several; or
            latents: who, in any space. Without both: the average face with `prompt`, else seed 0.
            prompt: words that the pictures shall come to fit, found by latent optimization for
                just these latents (`edits.latent_optimization`); takes seconds.
            edits: pairs of an edit and its strength.
            truncation_psi: for `seed`, 1 keeps the full variety, 0 is the average face.
            region: only this part of the picture changes, "hair" or "mouth, eyes", with a soft
                border; needs a parser. The latents do not know of it, the pictures show it.
            blend: how the border is drawn, see `edits.regions.draw_within`.

        Raises:
            ValueError: both seed and latents, an empty prompt, a seed out of range, an unknown
                region, a region without a parser.
            MismatchError: latents or edits of another generator.
        """
        if seed is not None and latents is not None:
            raise ValueError("Got both seed and latents; give one of them.")
        if latents is None and seed is None and prompt is not None:
            latents = self.mean_latent()
        elif latents is None:
            latents = self.sample(0 if seed is None else seed, truncation_psi)
        latents = before = self.lower(latents, max(latents.space, Space.W_PLUS))
        where = None if region is None else named_region(self, region)
        if prompt is not None:
            found = [find(self, prompt, one, space=one.space) for one in latents]
            latents = Latents.cat(
                [edit.apply(one) for edit, one in zip(found, latents, strict=True)]
            )
        latents = self.apply(latents, edits)
        if where is None:
            drawn = self.synthesize(latents).clamp(-1, 1)
        else:
            drawn = draw_within(self, before, latents, where, blend)
        return StyleEditOutput(images=image_files.to_pil(drawn.float()), latents=latents)

    def _aligned(
        self, image: Image.Image | Sequence[Image.Image] | Tensor
    ) -> Float[Tensor, "n 3 height width"]:
        images = image if isinstance(image, Tensor) else image_files.from_pil(image)
        height, width = self.generator.img_size
        if images.ndim == 4 and images.shape[2] * width != images.shape[3] * height:
            square = height == width
            wanted = "an aligned square" if square else f"the shape of {width} x {height}"
            raise ValueError(
                f"Got a picture of {images.shape[3]} x {images.shape[2]} pixels; expected "
                f"{wanted}. Cut it out first: photos.align, or `stylegan-hub invert`."
            )
        return image_files.resize(images.to(self.device, self.dtype), (height, width))

    def _check_size(self, latents: Latents) -> None:
        generator = self.generator
        expected = {
            Space.Z: (generator.config.z_dim,),
            Space.W: (generator.config.w_dim,),
            Space.W_PLUS: (generator.num_ws, generator.config.w_dim),
            Space.S: (generator.num_styles,),
        }[latents.space]
        if tuple(latents.codes.shape[1:]) != expected:
            raise MismatchError(
                f"Got latents in {latents.space} of shape {list(latents.codes.shape)}; this "
                f"generator takes [n, {', '.join(map(str, expected))}]. "
                "They belong to another generator: load its pipeline."
            )


def _check_index(folder: Path) -> None:
    """Raise `ArtifactError` unless model_index.json names our components, and they are there."""
    path = folder / "model_index.json"
    try:
        index: dict[str, Any] = json.loads(path.read_bytes())
        entries = {key: value for key, value in index.items() if not key.startswith("_")}
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a JSON object: {error}.") from error
    if not isinstance(neutral := entries.pop("neutral", NEUTRAL), str):  # a list would be imported
        raise ArtifactError(f"{path} says {neutral!r} for 'neutral'; expected a text.")
    for name, expected in _COMPONENTS.items():
        if name in _OPTIONAL and entries.get(name, [None, None]) == [None, None]:
            continue
        if name not in entries:
            needed = ", ".join(part for part in _COMPONENTS if part not in _OPTIONAL)
            raise ArtifactError(f"{path} names no {name!r}; a pipeline needs {needed}.")
        if entries[name] != list(expected):
            raise ArtifactError(
                f"{path} says {entries[name]} for {name!r}; expected {list(expected)}. "
                "Nothing else is imported."
            )
        if not (folder / name).is_dir():
            raise ArtifactError(
                f"The pipeline in {folder} lacks the folder {name!r}. Copy or download it again."
            )
    if unknown := sorted(set(entries) - set(_COMPONENTS)):
        raise ArtifactError(
            f"{path} names the unknown components {', '.join(unknown)}; known ones: "
            f"{', '.join(_COMPONENTS)}. Is it from a newer stylegan_hub? Upgrade to read it."
        )
