"""From a picture to words: a convolutional encoder, and an LSTM with attention.

Xu et al. 2015, "Show, Attend and Tell": an encoder gives one feature a_i for each of L positions,
and for every word an LSTM attends to them (section 3.1, soft attention 4.2):

    e_ki = v tanh(W_a a_i + W_h h_(k-1)),  b_k = softmax(e_k),  c_k = sum_i b_ki a_i
    p(t_k) ~ exp(L_o (E t_(k-1) + L_h h_k + L_c c_k))

It is the text reconstruction module of text-to-face (`stylegan_hub/text_to_face.py`): a picture
matches a text if the text can be reconstructed from it. The loss is differentiable in the picture.
`recipes/train_captioner.py` trains a captioner; `PAPER` has the sizes of the text-to-face paper.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.bounds import MAX_LAYERS, MAX_SIDE, MAX_WIDTH, check_sizes
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.residual_trunk import GROUP, residual_trunk, shrink

PAPER: Mapping[str, Any] = {
    "resolution": 224,
    "widths": (256, 512, 1024),
    "blocks": (3, 4, 23),
    "feature_dim": 2048,
    "embedding_dim": 512,
    "hidden_dim": 512,
    "attention_dim": 512,
    "max_words": 50,
}
"""196 positions of 2048 features, as in the text-to-face paper, for a vocabulary of 30,000 words.
The paper uses a network trained on ImageNet, but does not say which; this one is trained from
scratch."""

PAD, START, END, UNKNOWN = range(4)
_SPECIAL = 4
_WORD = re.compile(r"\w+|[^\w\s]")
_MAX_ATTEMPTED = 40  # characters of a text that a message shows


class Reconstruction(NamedTuple):
    """How well texts can be reconstructed from pictures, one number for each text.

    Attributes:
        words: negative log-likelihood of the text in nats, including its end.
        attention: the doubly stochastic term, sum_i (1 - sum_k b_ki)^2, which asks for attention
            to every position of the picture (Xu et al. 2015, equation 14).
    """

    words: Float[Tensor, " n"]
    attention: Float[Tensor, " n"]


_BOUNDS = {
    **dict.fromkeys(
        ("widths", "feature_dim", "embedding_dim", "hidden_dim", "attention_dim", "max_words"),
        MAX_WIDTH,
    ),
    "resolution": MAX_SIDE,
    "blocks": MAX_LAYERS,
}


@dataclass(frozen=True)
class CaptionerConfig:
    """The configuration of a captioner, its `config.json`.

    Raises:
        ValueError: an empty vocabulary, or sizes that do not fit together.
    """

    vocabulary: Sequence[str]
    """The words it knows, without special tokens (`build_vocabulary`)."""
    resolution: int = 128
    """Width and height of the input, a multiple of 4 * 2 ** (stages - 1); other pictures are
    resized."""
    widths: Sequence[int] = (48, 96, 144)
    """Channels of the encoder's stages, multiples of 8; a stage halves the size, the first one
    quarters it."""
    blocks: Sequence[int] = (1, 2, 2)
    """Residual blocks of the stages."""
    feature_dim: int = 192
    """Number of features at each position."""
    embedding_dim: int = 96
    """Size of a word's vector."""
    hidden_dim: int = 256
    """Size of the LSTM's state."""
    attention_dim: int = 96
    """Size of the hidden layer of the attention."""
    max_words: int = 50
    """Largest number of words in a text."""

    def __post_init__(self) -> None:
        check_sizes(vars(self), _BOUNDS)
        words, widths, blocks = list(self.vocabulary), tuple(self.widths), tuple(self.blocks)
        if not words or len(set(words)) < len(words):
            raise ValueError(
                f"Got a vocabulary of {len(words)} words, {len(set(words))} of them different; "
                "expected at least one word, and no repetition."
            )
        if len(widths) != len(blocks) or not widths or any(width % GROUP for width in widths):
            raise ValueError(
                f"Got widths {widths} and blocks {blocks}; expected as many of both, and widths "
                f"that are multiples of {GROUP}."
            )
        factor = shrink(widths)
        if self.resolution < factor or self.resolution % factor:
            raise ValueError(
                f"resolution is {self.resolution}; expected a multiple of {factor}, the factor by "
                "which the stages shrink a picture."
            )

    @property
    def places(self) -> int:
        """Number of positions in a picture that have a feature."""
        return (self.resolution // shrink(self.widths)) ** 2


class Captioner(SavedWhole, ModelMixin, ConfigMixin):
    """Describes a picture in words, and computes the likelihood of a text for a picture.

    `CaptionerConfig` documents its arguments.
    """

    @configured_by(CaptionerConfig)
    def __init__(self, config: CaptionerConfig) -> None:
        super().__init__()
        self.places = config.places
        self._ids = {word: index for index, word in enumerate(config.vocabulary, start=_SPECIAL)}
        features, word = config.feature_dim, config.embedding_dim
        hidden, attention = config.hidden_dim, config.attention_dim
        self.encoder = residual_trunk(config.widths, config.blocks, features)
        # Attention discards positions, but words such as "looking left" depend on them.
        self.position = nn.Parameter(0.02 * torch.randn(self.places, features))
        self.norm = nn.LayerNorm(features)

        count = _SPECIAL + len(config.vocabulary)
        self.embedding = nn.Embedding(count, word)
        nn.init.normal_(self.embedding.weight, std=word**-0.5)
        self.start = nn.Linear(features, 2 * hidden)
        self.attend_feature = nn.Linear(features, attention)
        self.attend_state = nn.Linear(hidden, attention, bias=False)
        self.attend_score = nn.Linear(attention, 1, bias=False)
        self.cell = nn.LSTMCell(word + features, hidden)
        self.word_of_state = nn.Linear(hidden, word)
        self.word_of_feature = nn.Linear(features, word)
        self.word = nn.Linear(word, count)

    def tokenize(self, texts: Sequence[str]) -> Int[Tensor, "n length"]:
        """Texts as numbers: start, words, end, padding up to the longest one.

        A text of more than `max_words` words is cut, with a warning.

        Raises:
            ValueError: no text, or one without words.
        """
        rows = [[self._ids.get(word, UNKNOWN) for word in split(text)] for text in texts]
        if not rows or not all(rows):
            empty = [text for text, row in zip(texts, rows, strict=True) if not row]
            raise ValueError(f"Got {empty or 'no texts'}; expected texts with at least one word.")
        limit = self.config["max_words"]
        for text, row in zip(texts, rows, strict=True):
            if len(row) > limit:
                warnings.warn(
                    f"The text {text[:_MAX_ATTEMPTED]!r} has {len(row)} words and this captioner "
                    f"takes {limit}: only the first {limit} count.",
                    stacklevel=2,
                )
        tokens = torch.full((len(rows), 2 + min(limit, max(map(len, rows)))), PAD)
        for index, row in enumerate(rows):
            kept = [START, *row[:limit], END]
            tokens[index, : len(kept)] = torch.tensor(kept)
        return tokens.to(self.device)

    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n places feature_dim"]:
        """Features of pictures in [-1, 1] of any size; differentiable.

        Raises:
            ValueError: images are not `[n, 3, h, w]`.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1]."
            )
        size = self.config["resolution"]
        if images.shape[2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
        features = self.encoder(images.to(self.dtype)).flatten(2).transpose(1, 2)
        return self.norm(features + self.position)

    def forward(
        self,
        features: Float[Tensor, "n places feature_dim"],
        tokens: Int[Tensor, "n length"],
    ) -> Reconstruction:
        """How well each text can be reconstructed from its picture; differentiable in the features.

        Args:
            features: of one picture for each text (`encode`).
            tokens: from `tokenize`.
        """
        # Texts are sorted with the longest first, so that finished ones need no more steps.
        lengths = (tokens[:, 1:] != PAD).sum(1)
        order = lengths.argsort(descending=True, stable=True)
        tokens, lengths = tokens[order], lengths[order]
        # In full precision the many small steps are faster, and the LSTM's sums are exact.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(self.dtype)[order]
            state, keys = self._begin(features)
            steps: list[tuple[Tensor, ...]] = []
            looked = torch.zeros_like(features[:, :, 0])
            for index in range(int(lengths[0])):
                active = int((lengths > index).sum())
                features, keys = features[:active], keys[:active]
                word = self.embedding(tokens[:active, index])
                state = (state[0][:active], state[1][:active])
                context, look, state = self._step(features, keys, word, state)
                looked = looked + F.pad(look, (0, 0, 0, len(tokens) - active))
                targets = tokens[:active, index + 1]
                steps.append((word, state[0], context, targets, order[:active]))
            word, hidden, context, targets, rows = (
                torch.cat(parts) for parts in zip(*steps, strict=True)
            )
            losses = F.cross_entropy(self._logits(word, hidden, context), targets, reduction="none")
            zeros = torch.zeros_like(looked[:, 0])
            return Reconstruction(
                zeros.index_add(0, rows, losses),
                zeros.index_copy(0, order, (1 - looked).square().sum(1)),
            )

    @torch.no_grad()
    def caption(self, images: Float[Tensor, "n 3 h w"]) -> list[str]:
        """A text for each picture, which takes the most probable word at each step."""
        features = self.encode(images)
        state, keys = self._begin(features)
        token = torch.full((len(images),), START, device=features.device)
        rows: list[Tensor] = []
        for _ in range(self.config["max_words"]):
            word = self.embedding(token)
            context, _, state = self._step(features, keys, word, state)
            scores = self._logits(word, state[0], context)
            scores[:, [PAD, START, UNKNOWN]] = -torch.inf
            token = scores.argmax(1)
            rows.append(token)
            if (torch.stack(rows) == END).any(0).all():
                break
        return [self._text(column) for column in torch.stack(rows, 1).tolist()]

    def _begin(self, features: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """The LSTM's first state, and the keys of the attention."""
        hidden, memory = self.start(features.mean(1)).tanh().chunk(2, 1)
        return (hidden, memory), self.attend_feature(features)

    def _step(
        self, features: Tensor, keys: Tensor, word: Tensor, state: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Attend, then advance by a word; returns the context, the attention and the next state."""
        scores = self.attend_score((keys + self.attend_state(state[0])[:, None]).tanh())
        look = scores.squeeze(2).softmax(1)
        context = (look[:, None] @ features).squeeze(1)
        return context, look, self.cell(torch.cat([word, context], 1), state)

    def _logits(self, word: Tensor, hidden: Tensor, context: Tensor) -> Tensor:
        logits: Tensor = self.word(
            word + self.word_of_state(hidden) + self.word_of_feature(context)
        )
        return logits

    def _text(self, tokens: Sequence[int]) -> str:
        tokens = tokens[: tokens.index(END)] if END in tokens else tokens
        words = [self.config["vocabulary"][token - _SPECIAL] for token in tokens]
        return re.sub(r" (?=[,.;:!?'-])|(?<=['-]) ", "", " ".join(words))


def split(text: str) -> list[str]:
    """The words and punctuation marks of a text, in lower case."""
    return _WORD.findall(text.lower())


def build_vocabulary(texts: Iterable[str], size: int = 30_000) -> list[str]:
    """The most frequent words of texts, at most `size`; equally frequent ones are alphabetical."""
    counts = Counter(word for text in texts for word in split(text))
    return sorted(counts, key=lambda word: (-counts[word], word))[:size]
