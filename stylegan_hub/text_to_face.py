"""From words to new faces: a small network in front of a frozen StyleGAN2.

"Text-to-face with CLIP and text reconstruction": the CLIP embedding s of a text gives a Gaussian
(conditioning augmentation, after Zhang et al. 2017, StackGAN, section 3.2), a sample of it goes
through a mapping network of 8 fully connected layers to w, and the frozen generator draws:

    z = mu(s) + sigma(s) * noise,   w = f(z),   x = G(w)
    kl_lambda * KL(N(mu, sigma^2) | N(0, 1)) + reconstruction_lambda * R(x, text)

R is how badly the text can be told from the picture again (`models/captioner.py`): the negative
log-likelihood of its words and the doubly stochastic attention term. The weights are the paper's, 1
and 5. It does not say over what the parts are sums and over what means, and with sums the weight 1
lets a text say less than captions state (3.7 nats; 67 % of the statements true, 79 % before the
training). So all are means here, as usual in code: over the dimensions of z, words and places.

The paper does not say what the networks start from. What works here, and is not in the paper:

- f starts as the generator's own mapping network, so that a z without a message is a random face.
- The Gaussian is diagonal in a learned frame (an orthogonal matrix; N(0, 1) and the KL do not
  change under it), because what a text states need not lie along the axes of z.
- Warm start: for a pool of the generator's samples, CLIP says how probably each of them is meant by
  a text (the softmax of its scaled cosines, which is CLIP's own contrastive answer), and the
  Gaussians are fitted to samples that are drawn accordingly. It needs no pictures while training,
  and leaves free what the text does not speak of. Training through the generator begins where
  this ends.
- A CLIP loss beside the reconstruction, on a randomly shifted and scaled copy of the picture.

A fitted `TextToFace` is a folder like an edit's, bound to the generator and the CLIP it was made
for. `StyleEditPipeline.from_text` uses it. It is no `Method`, since it finds faces and no edits,
but keeps to the same words: presets by name, a `Step` for every face, `Cancelled`, `MethodError`
for a part that is missing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from stylegan_hub.artifacts import BaseModel, ClipModel, read_config, read_folder, write_folder
from stylegan_hub.bounds import MAX_LAYERS, MAX_WIDTH, check_sizes, check_weights
from stylegan_hub.domain import Domain, Seeds, checked_seeds
from stylegan_hub.errors import ArtifactError, MethodError, NotFoundError
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss
from stylegan_hub.models.captioner import PAD, Captioner
from stylegan_hub.models.stylegan2 import MappingConfig, MappingLayers
from stylegan_hub.names import Kind, bundled, register_kind, resolve
from stylegan_hub.steps import OnStep, Step
from stylegan_hub.views import random_views, seen_through

KIND: Final = "text_to_face"

CANDIDATES: Final = 8
"""Faces that are drawn for each one that is wanted; CLIP chooses."""

_MIN_LOG_VARIANCE = -8.0  # a standard deviation of 0.02; less is no better
_DOUBT = 0.15  # share of samples about which CLIP may be wrong
_ENOUGH_SAMPLES = 100  # of which a text is half reliable


@dataclass(frozen=True)
class Sizes:
    """What the network is built of.

    Attributes:
        text_dim: of CLIP's embeddings.
        z_dim, w_dim: of the generator; z_dim may differ when the mapping starts from nothing.
        hidden: width of the two layers between s and the Gaussian; 0 is a single linear layer, as
            in the paper.
        frame: whether the Gaussian is diagonal in a learned frame instead of in z.
        mapping_layers, layer_features, activation, lr_multiplier: of the mapping network.
    """

    text_dim: int = 512
    z_dim: int = 512
    w_dim: int = 512
    hidden: int = 512
    frame: bool = True
    mapping_layers: int = 8
    layer_features: int | None = None
    activation: Literal["linear", "relu", "lrelu"] = "lrelu"
    lr_multiplier: float = 0.01

    def __post_init__(self) -> None:
        widths = ("text_dim", "z_dim", "w_dim", "layer_features")
        check_sizes(vars(self), {**dict.fromkeys(widths, MAX_WIDTH), "mapping_layers": MAX_LAYERS})
        check_sizes(vars(self), {"hidden": MAX_WIDTH}, least=0)


PAPER_SIZES = Sizes(hidden=0, frame=False)
"""512 numbers of CLIP ViT-B/32, z and w of StyleGAN2 FFHQ, 8 layers."""


@dataclass(frozen=True)
class Settings:
    """How it is trained. Defaults are what won on drawn portraits."""

    kl_lambda: float = 1.0
    """Weight of the Kullback-Leibler divergence, a mean over z's dimensions; the paper's
    lambda 1."""
    reconstruction_lambda: float = 5.0
    """Weight of the text reconstruction; the paper's lambda 2. 0 needs no captioner."""
    attention_lambda: float = 0.1
    """Weight of the attention term inside the reconstruction, 1 in the paper: a text of 10 words
    cannot look at every place of a picture."""
    clip_lambda: float = 4.0
    """Weight of the CLIP loss, 0 in the paper."""
    views: int = 1
    """Augmented copies that CLIP looks at; 0 = the picture itself."""


PUBLISHED = Settings(attention_lambda=1.0, clip_lambda=0.0, views=0)
"""The paper's loss. It was minimized by SGD with a learning rate of 1e-4 and momentum 0.9."""

PRESETS: Final[Mapping[str, Settings]] = {"default": Settings(), "published": PUBLISHED}
"""Settings by name."""


class TextToFace(nn.Module):
    """CLIP embeddings of texts to w, another one for each noise.

    Args:
        sizes: of the network.
        base_model: the generator that draws.
        clip: the CLIP that the embeddings come from.
        training: settings and results of the training, plain values.

    Raises:
        ValueError: sizes that do not fit the generator.
    """

    def __init__(
        self,
        sizes: Sizes,
        base_model: BaseModel,
        clip: ClipModel,
        training: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if sizes.w_dim != base_model.w_dim:
            raise ValueError(
                f"Got w_dim {sizes.w_dim}; this generator takes w of {base_model.w_dim} numbers."
            )
        self.sizes = sizes
        self.base_model = base_model
        self.clip = clip
        self.training_record = dict(training or {})
        widths = [sizes.text_dim, *[sizes.hidden] * (2 if sizes.hidden else 0)]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), nn.SiLU()]
        last = nn.Linear(widths[-1], 2 * sizes.z_dim)
        # Before anything is learned, a text says nothing: N(0, 1).
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.condition = nn.Sequential(*layers, last)
        size = sizes.z_dim if sizes.frame else 0
        self.skew = nn.Parameter(torch.zeros(size, size))
        self.register_buffer("axes", torch.eye(size))
        self.mapping = MappingLayers(
            MappingConfig(
                z_dim=sizes.z_dim,
                c_dim=0,
                w_dim=sizes.w_dim,
                num_layers=sizes.mapping_layers,
                activation=sizes.activation,
                lr_multiplier=sizes.lr_multiplier,
                layer_features=sizes.layer_features,
            )
        )

    @classmethod
    def for_pipeline(
        cls,
        domain: Domain,
        hidden: int = 512,
        frame: bool = True,
        mapping: Literal["generator", "scratch"] = "generator",
        training: Mapping[str, Any] | None = None,
    ) -> TextToFace:
        """An untrained one for a generator and a CLIP; initial weights come from torch's seed.

        Args:
            mapping: start as the generator's mapping network or from nothing.

        Raises:
            MethodError: a generator with labels.
        """
        config = domain.generator.config
        if config.c_dim:
            raise MethodError(
                f"This generator takes labels (c_dim {config.c_dim}); text-to-face needs one that "
                "draws from z alone.",
                got=config.c_dim,
                expected=0,
                remedy="Take a pipeline without labels.",
            )
        sizes = Sizes(
            text_dim=domain.clip.config.projection_dim,
            z_dim=config.z_dim,
            w_dim=config.w_dim,
            hidden=hidden,
            frame=frame,
            mapping_layers=config.num_mapping_layers,
            layer_features=config.layer_features,
            activation=config.mapping_activation,
            lr_multiplier=config.mapping_lr_multiplier,
        )
        module = cls(sizes, domain.base_model, domain.clip_model, training)
        if mapping == "generator":
            given = domain.generator.mapping.state_dict()
            own = module.mapping.state_dict()
            module.mapping.load_state_dict({name: given[name] for name in own})
        return module

    def distribution(
        self, text: Float[Tensor, "n text_dim"]
    ) -> tuple[Float[Tensor, "n z_dim"], Float[Tensor, "n z_dim"]]:
        """Mean and logarithm of the variance of the Gaussian of each text, in the frame.

        Args:
            text: CLIP embeddings of length 1.

        Raises:
            ValueError: embeddings of another size.
        """
        if text.ndim != 2 or text.shape[1] != self.sizes.text_dim:
            raise ValueError(
                f"Got text embeddings of shape {list(text.shape)}; expected "
                f"[n, {self.sizes.text_dim}]. Make them with domain.encode_text."
            )
        # Small, and everything depends on it: full precision under autocast too.
        with torch.autocast(text.device.type, enabled=False):
            scaled = text.float() * math.sqrt(self.sizes.text_dim)
            mean, log_variance = self.condition(scaled).chunk(2, 1)
            return mean, log_variance.clamp_min(_MIN_LOG_VARIANCE)

    def frame(self) -> Float[Tensor, "z_dim z_dim"]:
        """The orthogonal matrix whose rows are the axes of the Gaussian in z."""
        eye = torch.eye(self.sizes.z_dim, device=self.skew.device)
        if not self.sizes.frame:
            return eye
        skew = self.skew - self.skew.T
        # Cayley's transform: every skew-symmetric matrix gives a rotation.
        return torch.linalg.solve(eye + skew, eye - skew) @ self.get_buffer("axes")

    def forward(
        self, text: Float[Tensor, "n text_dim"], noise: Float[Tensor, "n z_dim"]
    ) -> Float[Tensor, "n w_dim"]:
        """w of faces that fit the texts; standard normal noise makes them different."""
        return self.w_of(*self.distribution(text), noise)

    def w_of(
        self,
        mean: Float[Tensor, "n z_dim"],
        log_variance: Float[Tensor, "n z_dim"],
        noise: Float[Tensor, "n z_dim"],
    ) -> Float[Tensor, "n w_dim"]:
        """w of samples of these Gaussians."""
        with torch.autocast(mean.device.type, enabled=False):
            z = (mean + (0.5 * log_variance).exp() * noise.to(mean)) @ self.frame()
            return self.mapping.w(z)

    def check_fits(self, domain: Domain) -> None:
        """Raise `MismatchError` for another generator or another CLIP, with both named."""
        domain.check_fits(
            self.base_model,
            self.clip,
            "text-to-face network",
            "Load the pipeline it was made with.",
        )

    def save_pretrained(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `config.json` and `model.safetensors`; arguments and errors as of `Edit`'s.

        Tensors are stored in half precision.
        """
        config = {
            "kind": KIND,
            "space": Space.W.value,
            "base_model": asdict(self.base_model),
            "clip": asdict(self.clip),
            "sizes": asdict(self.sizes),
            "training": self.training_record,
        }
        tensors = {name: tensor.half() for name, tensor in self.state_dict().items()}
        write_folder(Path(folder), config, tensors, overwrite)
        return Path(folder)


def load_text_to_face(
    name_or_path: str | Path,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> TextToFace:
    """Load one by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

    Raises:
        NotFoundError: the name leads nowhere; names near to it are listed.
        ArtifactError: it is something else, or files are missing, damaged or from a newer version.
    """
    folder = resolve(name_or_path, KIND, revision, token, cache_dir, local_files_only)
    config, tensors = read_folder(folder)
    try:
        check_weights(tensors, str(folder))
        base_model, clip = BaseModel(**config["base_model"]), ClipModel(**config["clip"])
        sizes = Sizes(**config["sizes"])
        with torch.device("meta"):  # sizes are a stranger's: nothing is allocated by them
            module = TextToFace(sizes, base_model, clip, config.get("training", {}))
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        module.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder} is no sound {KIND}: {error}") from error
    return module.eval().requires_grad_(False)


def _usage(name: str, config: Mapping[str, Any]) -> list[str]:
    return [
        f'pipe.text_to_face = hub.load_text_to_face("{name}")  # or a folder, or a Hub id',
        'faces = pipe.from_text("a smiling face with long red hair", seeds=[1, 2, 3])',
        'faces.images[0].save("face.png")  # faces.latents take edits as any others',
    ]


register_kind(
    Kind(
        KIND,
        load=load_text_to_face,
        usage=_usage,
        limit="One face in some does not fit all that a text says. CLIP chooses among several "
        "(candidates); with more of them fewer are wrong, and all are more alike.",
        task="text-to-image",
        summary="Texts to new faces: CLIP's embedding of a text gives a Gaussian, whose samples "
        "the generator draws. Every seed is another face that fits the text.",
    )
)


def bundled_text_to_face(domain: Domain) -> TextToFace:
    """The bundled one for this pipeline's generator.

    Raises:
        NotFoundError: none is bundled for it.
    """
    fingerprint = domain.base_model.fingerprint
    for folder in bundled(KIND).values():
        if read_config(folder).get("base_model", {}).get("fingerprint") == fingerprint:
            return load_text_to_face(folder)
    raise NotFoundError(
        f"No text-to-face network is bundled for this generator (fingerprint {fingerprint}).",
        got=fingerprint,
        expected="a text-to-face network",
        remedy="Train one with recipes/train_text_to_face.py, and load it: "
        'pipe.text_to_face = load_text_to_face("runs/text-to-face").',
    )


def kl_divergence(
    mean: Float[Tensor, "n z_dim"], log_variance: Float[Tensor, "n z_dim"]
) -> Float[Tensor, " n"]:
    """KL(N(mean, variance) | N(0, 1)) in nats, summed over the dimensions."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


@dataclass(frozen=True)
class Pool:
    """Samples of a generator, as CLIP sees them.

    Attributes:
        z: `[n, z_dim]`, of length sqrt(z_dim), as the mapping network sees them.
        images: `[n, d]`, CLIP embeddings of length 1.
        scale: by which this CLIP multiplies cosines.
    """

    z: Float[Tensor, "n z_dim"]
    images: Float[Tensor, "n d"]
    scale: float


@torch.no_grad()
def draw_pool(
    domain: Domain,
    samples: int,
    seed: int = 0,
    batch_size: int = 32,
    batches: Iterable[int] | None = None,
) -> Pool:
    """A pool of so many samples, not truncated.

    Args:
        batches: what runs over the starts of the batches, for progress: `tqdm(range(...))`.
    """
    z_dim = domain.generator.config.z_dim
    z = torch.randn(samples, z_dim, generator=torch.Generator().manual_seed(seed))
    z = F.normalize(z, dim=1) * math.sqrt(z_dim)
    starts = range(0, samples, batch_size) if batches is None else batches
    rows = []
    for start in starts:
        drawn = domain.synthesize(Latents(Space.Z, z[start : start + batch_size])).clamp(-1, 1)
        # The cosines are multiplied by some tens: worth full precision under autocast too.
        with torch.autocast(drawn.device.type, enabled=False):
            rows.append(domain.encode_image(drawn.float()).float().cpu())
    return Pool(z, torch.cat(rows), float(domain.clip.logit_scale.exp()))


@dataclass(frozen=True)
class Matches:
    """Samples of a pool, as often as CLIP takes a text to mean them.

    Attributes:
        z: `[n, count, z_dim]`, for each of n texts.
        reliability: `[n]`, 0 to 1. A text that fits few samples of the pool, such as a long one,
            says more about these samples than about itself.
    """

    z: Float[Tensor, "n count z_dim"]
    reliability: Float[Tensor, " n"]


@torch.no_grad()
def draw_matches(
    text: Float[Tensor, "n text_dim"], pool: Pool, count: int, random: torch.Generator
) -> Matches:
    """So many samples for each text, drawn by CLIP's softmax(scale * cosine) over the pool."""
    weight = _clips_answer(text, pool)
    chosen = torch.multinomial(weight, count, replacement=True, generator=random)
    return Matches(pool.z[chosen].to(text), _reliability(weight).to(text))


def _clips_answer(text: Tensor, pool: Pool) -> Float[Tensor, "n samples"]:
    """The probability of every sample of the pool to be what a text means, on the CPU."""
    return (pool.scale * text.float().cpu() @ pool.images.T).softmax(1)


def _reliability(weight: Float[Tensor, "n samples"]) -> Float[Tensor, " n"]:
    effective = 1 / weight.square().sum(1)  # as many samples have all the weight (Kish 1965)
    return effective / (effective + _ENOUGH_SAMPLES)


@torch.no_grad()
def principal_axes(
    text: Float[Tensor, "n text_dim"], pool: Pool, batch_size: int = 256
) -> Float[Tensor, "z_dim z_dim"]:
    """Orthogonal axes of z, as rows, in the order of how much texts differ along them.

    They are the principal axes of the mean z of what CLIP takes each text to mean, where reliable
    texts count more. The first ones span what texts speak of, and are a good `axes` to begin with.
    """
    covariance = torch.zeros(pool.z.shape[1], pool.z.shape[1], dtype=torch.float64)
    for part in text.split(batch_size):
        weight = _clips_answer(part, pool)
        mean = weight @ pool.z * _reliability(weight).sqrt()[:, None]
        covariance += (mean.T @ mean).cpu().double()
    return torch.linalg.eigh(covariance).eigenvectors.flip(1).T.float().contiguous()


def matching_loss(
    module: TextToFace, text: Float[Tensor, "n text_dim"], matches: Matches
) -> Float[Tensor, " n"]:
    """How badly the Gaussian of each text predicts the samples that the text means, in nats.

    The mean over the samples of -sum_d log((1 - e) N(z_d; mu_d, sigma_d) / N(z_d; 0, 1) + e), times
    the reliability: 0 for a text that says nothing. CLIP is wrong about some samples; with e, these
    do not widen a narrow Gaussian.
    """
    mean, log_variance = module.distribution(text)
    with torch.autocast(text.device.type, enabled=False):
        z = matches.z @ module.frame().T
        mean, log_variance = mean[:, None], log_variance[:, None]
        own = log_variance + (z - mean).square() * (-log_variance).exp()
        gain = 0.5 * (z.square() - own) + math.log(1 - _DOUBT)
        ratio = torch.logaddexp(gain, gain.new_tensor(math.log(_DOUBT)))
        return -ratio.sum(2).mean(1) * matches.reliability


class Objective:
    """The loss of text-to-face, for one generator, CLIP and captioner.

    Args:
        domain: draws and embeds.
        captioner: tells texts from pictures; None without the reconstruction.
        settings: weights.

    Raises:
        MethodError: a reconstruction without a captioner.
    """

    def __init__(
        self,
        domain: Domain,
        captioner: Captioner | None,
        settings: Settings | None = None,
    ) -> None:
        self.domain, self.settings = domain, settings or Settings()
        self.captioner = captioner
        if captioner is None and self.settings.reconstruction_lambda:
            raise MethodError(
                f"Got reconstruction_lambda {self.settings.reconstruction_lambda} and no "
                "captioner.",
                got=None,
                expected="a captioner",
                remedy="Give one (recipes/train_captioner.py), or reconstruction_lambda=0.",
            )

    def __call__(
        self, module: TextToFace, texts: Sequence[str], random: torch.Generator
    ) -> dict[str, Tensor]:
        """The total "loss" and its parts, not weighted.

        "kl" is a mean over texts and dimensions, "words" over the words of all texts, "attention"
        over texts and places, "clip" over the texts.

        Args:
            texts: captions.
            random: of the noise and the views.
        """
        settings, domain = self.settings, self.domain
        with torch.autocast(domain.device.type, enabled=False):  # everything depends on it
            text = domain.encode_text(texts).float()
        mean, log_variance = module.distribution(text)
        noise = torch.randn(len(text), module.sizes.z_dim, generator=random)
        w = module.w_of(mean, log_variance, noise.to(text))
        losses = {"kl": kl_divergence(mean, log_variance).mean() / module.sizes.z_dim}
        loss = settings.kl_lambda * losses["kl"]
        if settings.reconstruction_lambda or settings.clip_lambda:
            drawn = domain.synthesize(Latents(Space.W, w)).float()
            if settings.reconstruction_lambda:
                assert self.captioner is not None
                tokens = self.captioner.tokenize(texts)
                features = self.captioner.encode(drawn)
                told = self.captioner(features, tokens)
                losses["words"] = told.words.sum() / (tokens[:, 1:] != PAD).sum()
                losses["attention"] = told.attention.mean() / features.shape[1]
                reconstruction = losses["words"] + settings.attention_lambda * losses["attention"]
                loss = loss + settings.reconstruction_lambda * reconstruction
            if settings.clip_lambda:
                copies = seen_through(random_views(settings.views, random), drawn)
                seen = domain.encode_image(copies).float().unflatten(0, (-1, len(text)))
                losses["clip"] = clip_loss(seen, text).mean()
                loss = loss + settings.clip_lambda * losses["clip"]
        return {"loss": loss, **losses}


def draw_from_text(
    domain: Domain,
    module: TextToFace,
    text: str,
    seeds: Seeds,
    truncation_psi: float = 0.7,
    candidates: int = CANDIDATES,
    on_step: OnStep | None = None,
) -> Latents:
    """Faces that fit a text, in w_plus: one for each seed.

    Args:
        truncation_psi: 1 keeps the full variety, 0 is the average face.
        candidates: faces that are drawn for each seed; the one that CLIP finds nearest to the text
            is kept. The first is the one that is drawn alone.
        on_step: called after each face; its step has no picture where one candidate is enough.

    Raises:
        ValueError: an empty text, no seed, a seed out of range, fewer than one candidate.
        MismatchError: made for another generator or CLIP.
        Cancelled: `on_step` raised it.
    """
    if candidates < 1:
        raise ValueError(f"Got {candidates} candidates; expected 1 or more for each seed.")
    module.check_fits(domain)
    with torch.no_grad():
        embedding = domain.encode_text(text).float()
        chosen, numbers = [], checked_seeds(seeds)
        for index, seed in enumerate(numbers, 1):
            random = torch.Generator().manual_seed(seed)
            noise = torch.randn(candidates, module.sizes.z_dim, generator=random)
            w = module(embedding.expand(candidates, -1), noise.to(embedding))
            w = torch.lerp(domain.generator.mapping.w_avg.to(w), w, truncation_psi)
            step = Step(index, len(numbers))
            if candidates > 1:
                drawn = domain.synthesize(Latents(Space.W, w))
                similarity = domain.encode_image(drawn.clamp(-1, 1)).float() @ embedding[0]
                best = slice(nearest := int(similarity.argmax()), nearest + 1)
                note = f"similarity {float(similarity[nearest]):.3f}"
                step, w = Step(index, len(numbers), drawn[best], note=note), w[best]
            chosen.append(w)
            if on_step is not None:
                on_step(step)
        return domain.lower(Latents(Space.W, torch.cat(chosen)), Space.W_PLUS)
