"""From words to new faces: a small network in front of a frozen StyleGAN2.

"Text-to-face with CLIP and text reconstruction": the CLIP embedding s of a text gives a Gaussian
(conditioning augmentation, after Zhang et al. 2017, StackGAN, section 3.2). A sample of it goes
through a mapping network of 8 fully connected layers to w, and the frozen generator renders it:

    z = mu(s) + sigma(s) * noise,   w = f(z),   x = G(w)
    kl_lambda * KL(N(mu, sigma^2) | N(0, 1)) + reconstruction_lambda * R(x, text)

R measures how badly the text can be recovered from the picture (`models/captioner.py`): the
negative log-likelihood of its words and the doubly stochastic attention term. The weights are the
paper's, 1 and 5. The paper does not specify which parts are sums and which are means. With sums,
the weight 1 makes the Gaussian carry less information than the captions state (3.7 nats; 67 % of
the statements true, against 79 % before the training). So all parts are means here, as usual in
code: over the dimensions of z, words and places.

The paper does not specify how the networks are initialized. The following works here and is not in
the paper:

- f starts as the generator's own mapping network, so that a z without information is a random face.
- The Gaussian is diagonal in a learned frame (an orthogonal matrix, under which N(0, 1) and the KL
  do not change), because the statements of a text are usually not aligned with the axes of z.
- Warm start: for a pool of the generator's samples, CLIP gives the probability that a text means
  each of them (the softmax of its scaled cosines, which is CLIP's own contrastive answer). The
  Gaussians are fitted to samples drawn with these probabilities. This needs no pictures during the
  training, and leaves everything free that the text does not mention. Training through the
  generator starts from the result.
- A CLIP loss in addition to the reconstruction, on a randomly shifted and scaled copy of the
  picture.

A fitted `TextToFace` is a folder like an edit's, bound to the generator and the CLIP it was made
for. `StyleEditPipeline.from_text` uses it. It is not a `Method`, since it finds faces and not
edits, but it follows the same conventions: presets by name, a `Step` for every face, `Cancelled`,
and `MethodError` if a part is missing.
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
"""Faces that are sampled for each requested face; CLIP chooses one."""

_MIN_LOG_VARIANCE = -8.0  # a standard deviation of 0.02; smaller is not better
_DOUBT = 0.15  # share of samples about which CLIP may be wrong
_ENOUGH_SAMPLES = 100  # effective samples at which the reliability of a text is one half


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network.

    Attributes:
        text_dim: of CLIP's embeddings.
        z_dim, w_dim: of the generator; z_dim may differ if the mapping is trained from scratch.
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
    """Settings of the training. The defaults were the best on the drawn portraits."""

    kl_lambda: float = 1.0
    """Weight of the Kullback-Leibler divergence, a mean over z's dimensions; the paper's
    lambda 1."""
    reconstruction_lambda: float = 5.0
    """Weight of the text reconstruction; the paper's lambda 2. 0 needs no captioner."""
    attention_lambda: float = 0.1
    """Weight of the attention term inside the reconstruction, 1 in the paper: a text of 10 words
    cannot attend to every place in a picture."""
    clip_lambda: float = 4.0
    """Weight of the CLIP loss, 0 in the paper."""
    views: int = 1
    """Number of augmented copies for CLIP; 0 = the picture itself."""


PUBLISHED = Settings(attention_lambda=1.0, clip_lambda=0.0, views=0)
"""The paper's loss. It was minimized by SGD with a learning rate of 1e-4 and momentum 0.9."""

PRESETS: Final[Mapping[str, Settings]] = {"default": Settings(), "published": PUBLISHED}
"""Settings by name."""


class TextToFace(nn.Module):
    """Maps CLIP embeddings of texts to w; different noise gives different w.

    Args:
        sizes: of the network.
        base_model: the generator that renders the faces.
        clip: the CLIP that the embeddings come from.
        training: settings and results of the training, as plain values.

    Raises:
        ValueError: the sizes do not fit the generator.
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
                f"Got w_dim {sizes.w_dim}; expected {base_model.w_dim}, as for this generator."
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
        # Before training, a text carries no information: N(0, 1).
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
        """An untrained network for a generator and a CLIP; initial weights use torch's seed.

        Args:
            mapping: start with the generator's mapping network or from scratch.

        Raises:
            MethodError: the generator has labels.
        """
        config = domain.generator.config
        if config.c_dim:
            raise MethodError(
                f"This generator takes labels (c_dim {config.c_dim}); text-to-face needs one that "
                "takes only z.",
                got=config.c_dim,
                expected=0,
                remedy="Use a pipeline without labels.",
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
            ValueError: the embeddings have another size.
        """
        if text.ndim != 2 or text.shape[1] != self.sizes.text_dim:
            raise ValueError(
                f"Got text embeddings of shape {list(text.shape)}; expected "
                f"[n, {self.sizes.text_dim}]. Make them with domain.encode_text."
            )
        # It is small and everything depends on it, so use full precision under autocast too.
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
        """w of faces that fit the texts; standard normal noise makes them vary."""
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
        """Raise `MismatchError`, with both names, for another generator or another CLIP."""
        domain.check_fits(
            self.base_model,
            self.clip,
            "text-to-face network",
            "Load the pipeline it was made with.",
        )

    def save_pretrained(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write `config.json` and `model.safetensors`; arguments and errors as for `Edit`.

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
    """Load a network by bundled name, folder or Hub id ("user/repo", "user/repo@revision").

    The network is a `TextToFace`, whose samples are latents of faces that fit a text.

    Args:
        revision, token, cache_dir, local_files_only: for the Hub; see `names.resolve`.

    Raises:
        NotFoundError: the name leads nowhere; the message lists similar names.
        ArtifactError: it is something else, or files are missing, damaged or from a newer version.
    """
    folder = resolve(name_or_path, KIND, revision, token, cache_dir, local_files_only)
    config, tensors = read_folder(folder)
    try:
        check_weights(tensors, str(folder))
        base_model, clip = BaseModel(**config["base_model"]), ClipModel(**config["clip"])
        sizes = Sizes(**config["sizes"])
        with torch.device("meta"):  # the sizes are untrusted, so nothing is allocated for them
            module = TextToFace(sizes, base_model, clip, config.get("training", {}))
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        module.load_state_dict(tensors, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"{folder} is not a valid {KIND}: {error}") from error
    return module.eval().requires_grad_(False)


def _usage(name: str, config: Mapping[str, Any]) -> list[str]:
    return [
        f'pipe.text_to_face = hub.load_text_to_face("{name}")  # or a folder, or a Hub id',
        'faces = pipe.from_text("a smiling face with long red hair", seeds=[1, 2, 3])',
        'faces.images[0].save("face.png")  # faces.latents can be edited like any others',
    ]


register_kind(
    Kind(
        KIND,
        load=load_text_to_face,
        usage=_usage,
        limit="Some faces do not fit everything that a text says. CLIP chooses among several "
        "candidates; with more candidates fewer faces are wrong, but all are more alike.",
        task="text-to-image",
        summary="Texts to new faces: CLIP's embedding of a text gives a Gaussian, and the "
        "generator renders its samples. Every seed is another face that fits the text.",
    )
)


def bundled_text_to_face(domain: Domain) -> TextToFace:
    """The bundled network for this pipeline's generator.

    Raises:
        NotFoundError: no network is bundled for it.
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
    """Samples of a generator with their CLIP embeddings.

    Attributes:
        z: `[n, z_dim]`, of length sqrt(z_dim), as in the mapping network.
        images: `[n, d]`, CLIP embeddings of length 1.
        scale: the factor by which this CLIP multiplies cosines.
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
    beside: Float[Tensor, "m z_dim"] | None = None,
) -> Pool:
    """A pool with this number of samples, without truncation.

    Args:
        beside: z that follow the random ones, for what random samples hardly ever show.
        batches: an iterable over the starts of the batches, to show progress: `tqdm(range(...))`.
    """
    z_dim = domain.generator.config.z_dim
    z = torch.randn(samples, z_dim, generator=torch.Generator().manual_seed(seed))
    z = z if beside is None else torch.cat([z, beside])
    z = F.normalize(z, dim=1) * math.sqrt(z_dim)
    starts = range(0, len(z), batch_size) if batches is None else batches
    rows = []
    for start in starts:
        drawn = domain.sketch(Latents(Space.Z, z[start : start + batch_size])).clamp(-1, 1)
        # The cosines will be multiplied by a large factor, so use full precision under autocast.
        with torch.autocast(drawn.device.type, enabled=False):
            rows.append(domain.encode_image(drawn.float()).float().cpu())
    return Pool(z, torch.cat(rows), float(domain.clip.logit_scale.exp()))


@dataclass(frozen=True)
class Matches:
    """Samples of a pool, drawn with CLIP's probabilities for each text.

    Attributes:
        z: `[n, count, z_dim]`, for each of n texts.
        reliability: `[n]`, 0 to 1. It is low for a text that fits few samples of the pool, such as
            a long one, because then the result depends more on these samples than on the text.
    """

    z: Float[Tensor, "n count z_dim"]
    reliability: Float[Tensor, " n"]


@torch.no_grad()
def draw_matches(
    text: Float[Tensor, "n text_dim"], pool: Pool, count: int, random: torch.Generator
) -> Matches:
    """`count` samples for each text, drawn with CLIP's softmax(scale * cosine) over the pool."""
    weight = _clips_answer(text, pool)
    chosen = torch.multinomial(weight, count, replacement=True, generator=random)
    return Matches(pool.z[chosen].to(text), _reliability(weight).to(text))


def _clips_answer(text: Tensor, pool: Pool) -> Float[Tensor, "n samples"]:
    """The probability that a text means each sample of the pool, on the CPU."""
    return (pool.scale * text.float().cpu() @ pool.images.T).softmax(1)


def _reliability(weight: Float[Tensor, "n samples"]) -> Float[Tensor, " n"]:
    effective = 1 / weight.square().sum(1)  # effective number of samples (Kish 1965)
    return effective / (effective + _ENOUGH_SAMPLES)


@torch.no_grad()
def principal_axes(
    text: Float[Tensor, "n text_dim"], pool: Pool, batch_size: int = 256
) -> Float[Tensor, "z_dim z_dim"]:
    """Orthogonal axes of z, as rows, sorted by how much texts differ along them.

    They are the principal axes of each text's mean z under CLIP's probabilities, with reliable
    texts weighted more. The first axes span what texts mention; the matrix is a good initial value
    for the buffer `axes`.
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
    the reliability. It is 0 for a text without information. CLIP is wrong about some samples; e
    keeps these from widening a narrow Gaussian.
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
        domain: renders and embeds pictures.
        captioner: recovers texts from pictures; None without the reconstruction.
        settings: the weights of the parts.

    Raises:
        MethodError: reconstruction is requested without a captioner.
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
                f"Got reconstruction_lambda {self.settings.reconstruction_lambda} without a "
                "captioner.",
                got=None,
                expected="a captioner",
                remedy="Give one (recipes/train_captioner.py), or set reconstruction_lambda=0.",
            )

    def __call__(
        self, module: TextToFace, texts: Sequence[str], random: torch.Generator
    ) -> dict[str, Tensor]:
        """The total "loss" and its parts before weighting.

        "kl" is a mean over texts and dimensions, "words" over the words of all texts, "attention"
        over texts and places, "clip" over the texts.

        Args:
            texts: captions.
            random: random generator for the noise and the views.
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
            drawn = domain.sketch(Latents(Space.W, w)).float()
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
        candidates: number of faces sampled for each seed; the one that CLIP finds nearest to the
            text is kept. The first candidate is the face that candidates=1 would give.
        on_step: called after each face; its step has no picture if there is only one candidate.

    Raises:
        ValueError: the text is empty, there is no seed, a seed is out of range, or there are fewer
            than one candidate.
        MismatchError: the network was made for another generator or CLIP.
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
                drawn = domain.sketch(Latents(Space.W, w))
                similarity = domain.encode_image(drawn.clamp(-1, 1)).float() @ embedding[0]
                best = slice(nearest := int(similarity.argmax()), nearest + 1)
                note = f"similarity {float(similarity[nearest]):.3f}"
                step, w = Step(index, len(numbers), drawn[best], note=note), w[best]
            chosen.append(w)
            if on_step is not None:
                on_step(step)
        return domain.lower(Latents(Space.W, torch.cat(chosen)), Space.W_PLUS)
