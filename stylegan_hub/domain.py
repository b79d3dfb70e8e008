"""One image domain: a generator and a CLIP that understands its pictures, saved as one folder.

A `Domain` samples, renders and describes the pictures of one domain, and knows the units in which
its latents vary. Everything that finds, applies or judges edits takes one. The folder is in
diffusers' layout: `model_index.json` and a folder for each component. Optional components (an
encoder, a recognizer, a parser) may be absent; code that needs a missing one raises an error.
"""

from __future__ import annotations

import copy
import hashlib
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, SupportsIndex
from weakref import WeakKeyDictionary, ref

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from stylegan_hub import images as image_files
from stylegan_hub.artifacts import CONFIG_NAME, BaseModel, ClipModel, SavedWhole, parse_json
from stylegan_hub.devices import chosen_device
from stylegan_hub.errors import ArtifactError, MismatchError, StyleganHubError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.models.clip import (
    check_config,
    check_unicode,
    encode_image,
    encode_text,
    load_clip,
    preprocess,
)
from stylegan_hub.models.detailer import Detailer
from stylegan_hub.models.encoder import Encoder
from stylegan_hub.models.identity import Identity, weights_state
from stylegan_hub.models.instant import InstantModel
from stylegan_hub.models.landmarker import Landmarker
from stylegan_hub.models.parser import Parser
from stylegan_hub.models.recognizer import Recognizer
from stylegan_hub.models.stylegan2 import StyleGAN2Generator
from stylegan_hub.names import public_name, resolve
from stylegan_hub.runtime import PYTORCH, Runtime
from stylegan_hub.storage import locked
from stylegan_hub.views import seen_through

# The only classes that a pipeline folder may name: an untrusted model_index.json cannot make us
# import anything else.
COMPONENTS: dict[str, tuple[str, str]] = {
    "generator": ("stylegan_hub.models.stylegan2", "StyleGAN2Generator"),
    "clip": ("transformers", "CLIPModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "image_processor": ("transformers", "CLIPImageProcessorPil"),
    "recognizer": ("stylegan_hub.models.recognizer", "Recognizer"),
    "parser": ("stylegan_hub.models.parser", "Parser"),
    "encoder": ("stylegan_hub.models.encoder", "Encoder"),
    "landmarker": ("stylegan_hub.models.landmarker", "Landmarker"),
    "detailer": ("stylegan_hub.models.detailer", "Detailer"),
    "instant": ("stylegan_hub.models.instant", "InstantModel"),
}
RECIPES: Mapping[str, str] = {
    "recognizer": "recipes/train_recognizer.py",
    "parser": "recipes/train_parser.py",
    "encoder": "recipes/train_encoder.py",
    "landmarker": "recipes/train_landmarks.py",
    "detailer": "recipes/train_detailer.py",
    "instant": "recipes/train_instant.py",
}
"""The recipe that trains each component that a domain may lack."""

OPTIONAL = tuple(RECIPES)
"""Components that a domain may lack."""

NEUTRAL = "a face"
"""What the pictures of most domains show, in words."""

Seeds = SupportsIndex | Sequence[SupportsIndex] | Tensor
"""One seed or several: integers of any kind, a range, an array or a tensor of them."""

Label = int | Sequence[float] | Tensor
"""For a generator with labels: the index of a class, or a vector `[c_dim]`."""

Preprocessing = Literal["proper", "styleclip"]

_MAX_SEED = 2**63 - 1
_SMALL = 1e-3  # deviations below this share of the largest one count as zero
_UNIT_SAMPLES = 2048
_SKETCHED = 8
_SKETCH_PSNR = 33.0  # dB to the full picture made smaller


class Domain(SavedWhole, DiffusionPipeline):
    """Samples, renders and describes the pictures of one domain.

    Args:
        generator: the frozen StyleGAN2.
        clip, tokenizer, image_processor: a CLIP that understands its pictures.
        recognizer: tells faces apart. It and the next five are None if the pictures show no faces
            or if none was trained; code that needs a missing one raises an error.
        parser: finds the parts of a face.
        encoder: finds the latent that renders a picture.
        landmarker: finds faces of this domain in a larger picture.
        detailer: gives edited renders the details of their photograph.
        instant: finds the displacement for a requested change without a search.
        neutral: what all pictures of the domain show, in words, "a car"; edits with words start
            there unless other words are given.
        label: for a generator with labels, the class that is sampled unless another one is given.

    Raises:
        ValueError: an empty `neutral`, or a label that the generator does not take.
        MismatchError: a generator whose pictures do not have three channels.
    """

    saved_as: ClassVar[str] = "model_index.json"
    # Read by diffusers when it saves and loads.
    _optional_components: ClassVar[list[str]] = list(OPTIONAL)

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
        detailer: Detailer | None = None,
        instant: InstantModel | None = None,
        neutral: str = NEUTRAL,
        label: int | list[float] | None = None,
    ) -> None:
        super().__init__()
        check_channels(generator, "The generator")
        if not isinstance(neutral, str) or not neutral.strip():
            raise ValueError(
                f"Got neutral {neutral!r}; say in words what the pictures show, such as 'a car'."
            )
        self.register_to_config(neutral=neutral.strip(), label=label)
        self.register_modules(
            generator=generator.eval().requires_grad_(False),
            clip=clip.eval().requires_grad_(False),
            tokenizer=tokenizer,
            image_processor=image_processor,
            recognizer=recognizer and recognizer.eval().requires_grad_(False),
            parser=parser and parser.eval().requires_grad_(False),
            encoder=encoder and encoder.eval().requires_grad_(False),
            landmarker=landmarker and landmarker.eval().requires_grad_(False),
            detailer=detailer and detailer.eval().requires_grad_(False),
            instant=instant and instant.eval().requires_grad_(False),
        )
        self.name: str | None = None
        self._tuned_from: BaseModel | None = None
        self._runtime = Runtime(self.generator, PYTORCH)
        # The state of the weights, and copies of the networks in float32.
        self._full_precision: tuple[object, dict[str, nn.Module]] | None = None
        if label is not None:
            self.label_vector(label)

    def __getstate__(self) -> dict[str, Any]:
        # A copy has networks of its own, so that those in full precision would be of no use to it.
        return {**self.__dict__, "_full_precision": None}

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        revision: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "auto",
        runtime: str | Path | None = None,
    ) -> Self:
        """Load a domain by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

        A repository is downloaded first and then read as a folder, without any of its code.

        Args:
            dtype: of the weights in memory; bundled ones are stored in half precision.
            device: where it computes: "auto" is a GPU if PyTorch can use one here, else the CPU;
                see `devices.chosen_device`.
            runtime: what renders pictures that need no gradient: "pytorch", "openvino", "onnx",
                the folder of an exported pipeline, or "auto", the fastest on this machine; see
                `runtime.Runtime`. None reads the environment variable STYLEGAN_HUB_RUNTIME, and
                means "auto" if it is not set.

        Raises:
            ValueError: there is no such device or runtime.
            NotFoundError: nothing has this name; similar names are listed.
            ArtifactError: a component is missing, damaged or of a class that is not expected.
        """
        place = chosen_device(device)  # before the seconds that loading takes
        folder = resolve(name_or_path, "pipeline", revision, token, cache_dir, local_files_only)
        _check_index(folder)
        try:
            with locked(folder, shared=True):
                domain = super().from_pretrained(
                    folder,
                    dtype=torch.float32,
                    local_files_only=True,
                    use_safetensors=True,
                    clip=load_clip(folder / "clip"),
                )
        except StyleganHubError as error:
            said = str(error).removesuffix(error.remedy).strip()
            raise ArtifactError(
                f"The pipeline in {folder} cannot be loaded: {said}",
                got=error.got,
                expected=error.expected,
                remedy=error.remedy or "Copy or download it again.",
            ) from error
        except Exception as error:  # each component's library raises in its own way
            raise ArtifactError(
                f"The pipeline in {folder} cannot be loaded: {error} Copy or download it again."
            ) from error
        domain.name = public_name(name_or_path)
        # Cast afterwards: the fingerprints of generator and CLIP are those of the stored weights.
        domain = domain if dtype is torch.float32 else domain.to(dtype)
        domain = domain if place.type == "cpu" else domain.to(place)
        domain._runtime = Runtime(domain.generator, runtime)
        return domain

    @property
    def device(self) -> torch.device:
        """Where the generator is; diffusers would search all networks at every call."""
        return self.generator.mapping.w_avg.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the generator's weights."""
        return self.generator.mapping.w_avg.dtype

    @property
    def neutral(self) -> str:
        """What all pictures of the domain show, in words."""
        return str(self.config.neutral)

    @property
    def runtime(self) -> Runtime:
        """What renders pictures that need no gradient."""
        if self._runtime.generator is not self.generator:  # another one was registered
            self._runtime = Runtime(self.generator, PYTORCH)
        return self._runtime

    @property
    def base_model(self) -> BaseModel:
        """What an edit for this generator records of it.

        Edits treat a tuned generator as the one that it was tuned from.
        """
        if self._tuned_from is not None:
            return self._tuned_from
        generator = self.generator
        return BaseModel(
            id=self.name,
            fingerprint=generator.fingerprint(),
            num_ws=generator.num_ws,
            w_dim=generator.config.w_dim,
            num_styles=generator.num_styles,
            resolution=generator.config.img_resolution,
        )

    @property
    def clip_model(self) -> ClipModel:
        """What an artifact that was made with this CLIP records of it."""
        return ClipModel(self.name, _CLIPS.of(self.clip))

    def to(self, *args: Any, **options: Any) -> Self:
        """Move to a device or a precision, as in diffusers; all fingerprints stay the same."""
        self._full_precision = None
        wanted = [one for one in (*args, *options.values()) if isinstance(one, torch.dtype)]
        if not wanted or wanted[0] is self.clip.dtype:
            return super().to(*args, **options)
        with _CLIPS.kept(self.clip):
            return super().to(*args, **options)

    def check_fits(self, base_model: BaseModel, clip: ClipModel, what: str, remedy: str) -> None:
        """Raise `MismatchError` unless an artifact was made for this generator and this CLIP.

        Args:
            base_model, clip: the generator and the CLIP that the artifact names.
            what: the artifact, for the message: "direction table".
            remedy: what to do if the CLIP differs, for the message.
        """
        base_model.check_same(self.base_model, what)
        other = self.clip_model
        if clip.fingerprint != other.fingerprint:
            raise MismatchError(
                f"This {what} was made with the CLIP of {clip.id!r} (fingerprint "
                f"{clip.fingerprint}); the loaded pipeline has that of {other.id!r} "
                f"(fingerprint {other.fingerprint}). {remedy}"
            )

    # Latents

    def label_vector(self, label: Label | None = None) -> Float[Tensor, "1 c_dim"] | None:
        """The vector of a label, or None for a generator without labels.

        Args:
            label: the domain's label when None.

        Raises:
            ValueError: a class that does not exist, a vector of another size, or any label for a
                generator without labels.
        """
        c_dim = self.generator.config.c_dim
        label = self.config.label if label is None else label
        if c_dim == 0:
            if label is None:
                return None
            raise ValueError(
                f"Got label {label!r}; this generator was trained without labels. Leave it out."
            )
        if label is None:
            label = 0
        if isinstance(label, int) and not isinstance(label, bool):
            if not 0 <= label < c_dim:
                raise ValueError(
                    f"Got label {label}; this generator has the classes 0 to {c_dim - 1}."
                )
            vector = torch.zeros(c_dim)
            vector[label] = 1
        else:
            vector = torch.as_tensor(label, dtype=torch.float32).detach().cpu()
            if vector.shape != (c_dim,) or not vector.isfinite().all():
                raise ValueError(
                    f"Got a label of shape {list(vector.shape)}; expected the index of a class, 0 "
                    f"to {c_dim - 1}, or {c_dim} finite numbers."
                )
        return vector[None].to(self.device, self.dtype)

    def sample(
        self,
        seeds: Seeds,
        truncation_psi: float = 0.7,
        truncation_cutoff: int | None = None,
        label: Label | None = None,
    ) -> Latents:
        """Random latents in w_plus, one per seed; the same seed gives the same face.

        Args:
            truncation_psi: 1 keeps the full variety, 0 gives the average face.
            truncation_cutoff: how many layers to truncate; all when None.
            label: see `label_vector`.

        Raises:
            ValueError: no seed, a seed that is not an integer from 0 to 2**63 - 1, or a label that
                the generator does not take.
        """
        z_dim = self.generator.config.z_dim
        z = torch.stack(
            [
                torch.randn(z_dim, generator=torch.Generator().manual_seed(seed))
                for seed in checked_seeds(seeds)
            ]
        )
        with torch.no_grad():
            ws = self._mapped(
                z.to(self.device, self.dtype), label, truncation_psi, truncation_cutoff
            )
        return Latents(Space.W_PLUS, ws)

    def mean_latent(self) -> Latents:
        """The average face, in w_plus."""
        w_avg = self.generator.mapping.w_avg
        return Latents(Space.W_PLUS, w_avg.repeat(1, self.generator.num_ws, 1))

    def lower(self, latents: Latents, space: Space | str, label: Label | None = None) -> Latents:
        """The same pictures in a later space of the order z, w, w_plus, s; differentiable.

        Args:
            label: for latents in z, see `label_vector`.

        Raises:
            ValueError: an earlier space, which would be an inversion.
            MismatchError: latents of another generator's size.
        """
        space = Space(space)
        if space < latents.space:
            raise ValueError(
                f"Got latents in {latents.space}, asked for {space}; latents are lowered along "
                "z, w, w_plus, s and never back. Use inversion to go back."
            )
        generator, codes = self.generator, latents.codes.to(self.device, self.dtype)
        self._check_size(latents)
        if latents.space is Space.Z and space > Space.Z:
            codes = self._mapped(codes, label)
            if space is Space.W:
                codes = codes[:, 0]
        if latents.space is Space.W and space > Space.W:
            codes = codes[:, None].expand(-1, generator.num_ws, -1)
        if latents.space < Space.S and space is Space.S:
            codes = generator.styles(codes)
        return Latents(space, codes)

    def units(self, space: Space | str) -> Units:
        """The units in which latents vary in w, w_plus (both: of one w) or s, measured once."""
        known = _UNITS.setdefault(self.generator, {})
        space = Space(space)
        if space not in known:
            known[space] = Units(self, space)
        return known[space]

    def editable(self, space: Space | str) -> Tensor:
        """A mask of a code: 1 where edits may move it, else 0.

        `[num_styles]` for s, whose toRGB layers stay fixed, as in StyleCLIP; a single 1 for others.
        """
        if Space(space) is not Space.S:
            return torch.ones((), device=self.device)
        free = torch.ones(self.generator.num_styles, device=self.device)
        for layer in self.generator.style_layout:
            if layer.is_to_rgb:
                free[layer.start : layer.stop] = 0
        return free

    # Pictures

    def synthesize(
        self, latents: Latents, max_resolution: int | None = None
    ) -> Float[Tensor, "n 3 h w"]:
        """Pictures in [-1, 1] (not clamped) of latents of any space; differentiable.

        If no gradient is needed, the domain's runtime renders them.

        Args:
            max_resolution: longer side in pixels. The generator stops at its largest block within
                this size and renders that block's picture, which takes a fraction of the work. It
                is not the full picture made smaller: the two differ in more than sharpness. None
                renders the full picture. Only generators of the skip architecture can do this,
                which all published ones have.

        Raises:
            ValueError: a size below the smallest block, or a generator of another architecture.
        """
        side = self.block(max_resolution)
        space = max(latents.space, Space.W_PLUS)
        codes = self.lower(latents, space).codes
        is_differentiated = torch.is_grad_enabled() and (
            codes.requires_grad or any(p.requires_grad for p in self.generator.parameters())
        )
        is_plain = not (
            is_differentiated
            or torch.is_autocast_enabled(self.device.type)
            or torch.compiler.is_compiling()
        )
        if is_plain and self.runtime.serves(len(codes), side):
            with torch.no_grad():
                styles = codes if space is Space.S else self.generator.styles(codes)
            return self.runtime.render(styles, side)
        if space is Space.S:
            return self.generator.synthesis_from_styles(codes, "const", side)
        return self.generator.synthesis(codes, "const", side)

    def sketch(self, latents: Latents) -> Float[Tensor, "n 3 h w"]:
        """Pictures in the size that CLIP and the recognizer need; differentiable.

        These networks look at a fraction of a large picture's pixels. If the picture of a smaller
        block shows the same as the full one, searches render that, in a fraction of the time. For
        some generators it does not, and this is the full picture.
        """
        return self.synthesize(latents, self.sketch_side)

    @property
    def sketch_side(self) -> int | None:
        """The longer side of `sketch` in pixels; None for the full picture. Measured once."""
        least = 2 * self.clip.config.vision_config.image_size  # views of it may be enlarged
        if self.recognizer is not None:
            least = max(least, self.recognizer.config["input_size"])
        known = _SKETCH_SIDES.setdefault(self.generator, {})
        if least not in known:
            known[least] = self._sketch_side(least)
        return known[least]

    @torch.no_grad()
    def _sketch_side(self, least: int) -> int | None:
        """The smallest block of at least this size that is close to the full picture."""
        sides = [side for side in self.generator.synthesis.resolutions if side >= least]
        if len(sides) < 2 or self.generator.config.architecture != "skip":
            return None
        faces = self.sample(range(_SKETCHED), truncation_psi=0.7)
        full = self.synthesize(faces).clamp(-1, 1).float()
        for side in sides[:-1]:
            small = self.synthesize(faces, side).clamp(-1, 1).float()
            reduced = image_files.resize(full, (small.shape[2], small.shape[3]))
            error = (small - reduced).square().mean()
            if float(10 * torch.log10(4 / error.clamp_min(1e-9))) >= _SKETCH_PSNR:
                return side
        return None

    def block(self, max_resolution: int | None) -> int | None:
        """Resolution of the largest block within a size; None for the full picture."""
        network = self.generator.synthesis
        if max_resolution is None or max_resolution >= network.resolutions[-1]:
            return None
        if max_resolution < network.resolutions[0]:
            raise ValueError(
                f"Got max_resolution={max_resolution}; the smallest pictures of this generator "
                f"have {network.resolutions[0]} px. Use at least that."
            )
        return max(side for side in network.resolutions if side <= max_resolution)

    # CLIP

    def encode_text(self, texts: str | Sequence[str]) -> Float[Tensor, "n d"]:
        """CLIP embeddings of length 1.

        Raises:
            ValueError: an empty text.
        """
        with torch.no_grad():
            return encode_text(self.clip, self.tokenizer, texts)

    def encode_image(
        self, images: Float[Tensor, "n 3 h w"], preprocessing: Preprocessing = "proper"
    ) -> Float[Tensor, "n d"]:
        """CLIP embeddings of length 1 of pictures in [-1, 1]; differentiable.

        Pictures that are not square are shown to CLIP whole and undistorted, on a black square, as
        StyleCLIP's code does with cars.

        Args:
            preprocessing: "styleclip" repeats the official code, which leaves out CLIP's mean and
                std.
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

    def look(
        self,
        images: Float[Tensor, "n 3 h w"],
        views: Float[Tensor, "views 2 3"],
        preprocessing: Preprocessing = "proper",
    ) -> Float[Tensor, "max(1,views) n d"]:
        """What CLIP sees of pictures through each view, in full precision; differentiable.

        Args:
            views: from `views.random_views`; if there are none, the pictures themselves are the
                only view.
        """
        seen = self.encode_image(seen_through(views, images), preprocessing)
        return seen.float().unflatten(0, (-1, len(images)))

    def words_without_token(self, text: str) -> list[str]:
        """Words that have no token of their own in this CLIP, so that it may misread them."""
        split = self.tokenizer.tokenize
        return [word for word in words_of(text) if len(split(word)) > 1]

    def check_text(self, text: str) -> None:
        """Raise `ValueError` for a text that is empty, no Unicode, or too long for this CLIP."""
        if not text.strip():
            raise ValueError(f"Got no words ({text!r}); write some, such as 'a smiling face'.")
        check_unicode(text)
        limit = self.tokenizer.model_max_length - 2  # start and end take a place each
        count = len(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
        if count > limit:
            raise ValueError(
                f"Got {len(text.split())} words, {count} tokens; this CLIP reads {limit} "
                "tokens. Say it in fewer words."
            )

    # Copies

    def with_weights(self, weights: Mapping[str, Tensor]) -> Self:
        """A domain like this one, with some weights of the synthesis network replaced.

        It shares all other parts. Edits for this domain's generator also fit the new one.

        Args:
            weights: by their names in the synthesis network. Weights of affine layers are not
                allowed, since they would change what edits in style space mean.

        Raises:
            ArtifactError: weights that this generator does not have, or of another shape.
        """
        generator = copy.deepcopy(self.generator)
        own = dict(tunable_parameters(generator))
        for name, weight in weights.items():
            if name not in own or own[name].shape != weight.shape:
                has = f"{list(own[name].shape)}" if name in own else "no such weight to tune"
                raise ArtifactError(
                    f"Got the tuned weight {name!r} of shape {list(weight.shape)}; this generator "
                    f"has {has}. Load the pipeline that it was tuned from."
                )
            own[name].data.copy_(weight)
        tuned = self._with_components({"generator": generator})
        tuned._tuned_from = self.base_model
        return tuned

    def in_full_precision(self) -> Self:
        """This domain in float32, which searches need; the domain itself if it already is.

        Its networks are copied once, and again after their weights have changed. Edits for this
        domain's generator also fit the copy.
        """
        if self.dtype is torch.float32:
            return self
        networks = {
            name: part for name in COMPONENTS if isinstance(part := getattr(self, name), nn.Module)
        }
        state = {name: (ref(part), weights_state(part)) for name, part in networks.items()}
        if self._full_precision is None or self._full_precision[0] != state:
            self._full_precision = None  # so that there are never two copies in memory
            copies = {name: copy.deepcopy(part).float() for name, part in networks.items()}
            _CLIPS.remember(copies["clip"], self.clip_model.fingerprint)
            self._full_precision = (state, copies)
        full = self._with_components(self._full_precision[1])
        full._tuned_from = self.base_model
        return full

    def with_label(self, label: Label | None) -> Self:
        """This domain with another label to sample; the domain itself when None."""
        if label is None:
            return self
        vector = self.label_vector(label)
        assert vector is not None
        other = self._with_components({})
        other.register_to_config(label=label if isinstance(label, int) else vector[0].tolist())
        other._tuned_from = self._tuned_from
        return other

    def _with_components(self, replaced: Mapping[str, Any]) -> Self:
        parts = {name: getattr(self, name) for name in COMPONENTS} | dict(replaced)
        other = type(self)(**parts, neutral=self.neutral, label=self.config.label)
        other.name = self.name
        if other.generator is self.generator:
            other._runtime = self.runtime
        return other

    def _mapped(
        self,
        z: Float[Tensor, "n z_dim"],
        label: Label | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Float[Tensor, "n num_ws w_dim"]:
        vector = self.label_vector(label)
        return self.generator.mapping(
            z,
            None if vector is None else vector.expand(len(z), -1),
            truncation_psi=truncation_psi,
            truncation_cutoff=truncation_cutoff,
        )

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
                "They belong to another generator. Load its pipeline."
            )


class Units:
    """The units in which latents vary: principal axes of w, or the deviation of each number of s.

    Adam on raw codes moves every number equally, even the ones that do not matter, and together
    these small changes make another face. Measuring a displacement in standard deviations of the
    latents gives it a prior.
    """

    def __init__(self, domain: Domain, space: Space, samples: int = _UNIT_SAMPLES) -> None:
        codes = domain.sample(range(samples), truncation_psi=1.0)
        self._axes: Tensor | None = None
        if space is Space.S:  # each number alone: a covariance of ten thousand would be too large
            self._variances = domain.lower(codes, space).codes.var(0)
            return
        w = codes.codes[:, 0].cpu().double()  # Apple's GPU has no double precision
        variances, axes = torch.linalg.eigh(torch.cov(w.T))
        self._axes, self._variances = axes, variances.clamp_min(0)
        self._basis = (axes * self._variances.sqrt()).T.to(codes.codes)

    def to_codes(self, offset: Tensor) -> Tensor:
        """From standard deviations to codes, in full precision.

        Autocast would round small steps away. It would also keep its rounded copy of a leaf tensor
        while the optimizer changes the leaf.
        """
        with torch.autocast(offset.device.type, enabled=False):
            if self._axes is None:
                return offset * self._variances.sqrt().to(offset)
            return offset @ self._basis.to(offset)

    def from_codes(self, codes: Tensor) -> Tensor:
        """From codes to standard deviations, without directions in which latents never vary."""
        with torch.autocast(codes.device.type, enabled=False):
            if self._axes is None:
                deviations = self._variances.sqrt()
                counted = deviations > _SMALL * deviations.max()
                return codes * torch.where(counted, 1 / deviations, 0).to(codes)
            inverse = torch.linalg.pinv(self._basis.cpu().double(), rtol=_SMALL)
            return codes @ inverse.to(codes)

    def measured(self, codes: Tensor, floor: float) -> Tensor:
        """Codes in standard deviations, none of which counts as smaller than a floor.

        Unlike `from_codes` it leaves nothing out: a movement in a direction in which latents hardly
        vary gets a large value.

        Args:
            floor: share of the mean variance that is added to every variance.
        """
        lengths = (self._variances + floor * self._variances.mean()).rsqrt()
        if self._axes is None:
            return codes * lengths.to(codes)
        return codes @ (self._axes * lengths).to(codes)


# Generators are frozen, so their units stay valid once they are measured.
# The generator's sketch side, by the least size.
_SKETCH_SIDES: WeakKeyDictionary[nn.Module, dict[int, int | None]] = WeakKeyDictionary()
_UNITS: WeakKeyDictionary[nn.Module, dict[Space, Units]] = WeakKeyDictionary()


def _clip_fingerprint(clip: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(clip.state_dict().items()):
        # In half precision, so that a copy stored or loaded that way has the same fingerprint.
        values = tensor.detach().cpu().half().contiguous().numpy()
        digest.update(f"{name}{list(tensor.shape)}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


_CLIPS = Identity(_clip_fingerprint)


def check_channels(generator: StyleGAN2Generator, what: str) -> None:
    """Raise `MismatchError` for a generator of gray pictures or of pictures with transparency.

    Args:
        what: the generator or its file, for the message.
    """
    channels = generator.config.img_channels
    if channels != 3:
        raise MismatchError(
            f"{what} renders pictures of {channels} channels.",
            got=channels,
            expected=3,
            remedy="CLIP, recognizers and the page need RGB pictures, so a pipeline takes only "
            "generators with three channels. Use this generator without a pipeline.",
        )


def tunable_parameters(generator: StyleGAN2Generator) -> Iterator[tuple[str, nn.Parameter]]:
    """Names and weights of the synthesis network that tuning changes: all but the affine layers."""
    for name, parameter in generator.synthesis.named_parameters():
        if ".affine." not in name:
            yield name, parameter


def checked_seeds(seeds: Seeds) -> list[int]:
    """Seeds as integers.

    Raises:
        ValueError: no seed, or one that is not an integer from 0 to 2**63 - 1.
    """
    wanted = "integers from 0 to 2**63 - 1"
    given = seeds.tolist() if hasattr(seeds, "tolist") else seeds
    is_list = isinstance(given, Sequence) and not isinstance(given, str)
    listed: list[Any] = [*given] if is_list else [given]  # type: ignore[misc]
    if not listed:
        raise ValueError(f"Got no seed; expected one or several {wanted}.")
    checked = []
    for seed in listed:
        try:
            number = -1 if isinstance(seed, bool) else operator.index(seed)
        except TypeError:
            number = -1
        if not 0 <= number <= _MAX_SEED:
            raise ValueError(f"Got seed {seed!r}; seeds are {wanted}.")
        checked.append(number)
    return checked


def words_of(text: str) -> list[str]:
    """The words of a text, without digits and signs."""
    kept = "".join(letter if letter.isalpha() else " " for letter in text)
    return kept.split()


def _check_index(folder: Path) -> None:
    """Raise `ArtifactError` unless model_index.json names our components, and they are there."""
    path = folder / "model_index.json"
    try:
        index: dict[str, Any] = parse_json(path.read_bytes())
        entries = {key: value for key, value in index.items() if not key.startswith("_")}
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"{path} is not a JSON object: {error}.") from error
    if not isinstance(neutral := entries.pop("neutral", NEUTRAL), str):  # a list would be imported
        raise ArtifactError(f"{path} says {neutral!r} for 'neutral'; expected a text.")
    label = entries.pop("label", None)
    is_vector = isinstance(label, list) and all(type(number) in (int, float) for number in label)
    if label is not None and type(label) is not int and not is_vector:
        raise ArtifactError(f"{path} says {label!r} for 'label'; expected a class or numbers.")
    for name, expected in COMPONENTS.items():
        if name in OPTIONAL and entries.get(name, [None, None]) == [None, None]:
            continue
        if name not in entries:
            needed = ", ".join(part for part in COMPONENTS if part not in OPTIONAL)
            raise ArtifactError(f"{path} names no {name!r}; a pipeline needs {needed}.")
        if entries[name] != list(expected):
            raise ArtifactError(
                f"{path} says {entries[name]} for {name!r}; expected {list(expected)}. "
                "No other class is imported."
            )
        if not (folder / name).is_dir():
            raise ArtifactError(
                f"The pipeline in {folder} lacks the folder {name!r}. Copy or download it again."
            )
    clip = folder / "clip" / CONFIG_NAME
    if clip.is_file():
        try:
            check_config(parse_json(clip.read_bytes()))
        except ValueError as error:
            raise ArtifactError(f"{clip}: {error}") from error
    if unknown := sorted(set(entries) - set(COMPONENTS)):
        raise ArtifactError(
            f"{path} names the unknown components {', '.join(unknown)}; known ones: "
            f"{', '.join(COMPONENTS)}. Is it from a newer stylegan_hub? Upgrade to read it."
        )
