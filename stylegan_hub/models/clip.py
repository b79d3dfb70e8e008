"""CLIP: how pictures and words become comparable vectors (Radford et al. 2021, arXiv 2103.00020).

All models are those of transformers, so any `CLIPModel` with its `CLIPTokenizer` works here,
including OpenAI's. This module adds a small untrained model for a small image domain, a byte-level
BPE tokenizer for it, and differentiable preprocessing.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from tokenizers import Regex as TokenRegex
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

from stylegan_hub.artifacts import check_tensors
from stylegan_hub.bounds import MAX_LAYERS, MAX_SIDE, MAX_WIDTH, check_sizes

START_TOKEN = "<|startoftext|>"
END_TOKEN = "<|endoftext|>"
_WORD_END = "</w>"
# How CLIP splits a text into words before byte pairs are merged inside them.
_WORD_PATTERN = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|"
    r"[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_BOUNDS = {
    "hidden_size": MAX_WIDTH,
    "intermediate_size": 4 * MAX_WIDTH,
    "projection_dim": MAX_WIDTH,
    "num_hidden_layers": MAX_LAYERS,
    "num_attention_heads": MAX_LAYERS,
    "max_position_embeddings": MAX_WIDTH,
    "vocab_size": 1_000_000,
    "image_size": MAX_SIDE,
    "patch_size": MAX_SIDE,
}
# StyleCLIP enlarges by 7 and averages down by resolution / 32, which results in 224 px.
_STYLECLIP_GRID = 32


def load_clip(folder: Path) -> CLIPModel:
    """A CLIP from a folder with its `config.json` and safetensors files, complete.

    transformers alone would fill what is missing with random numbers, and only print a warning.

    Raises:
        ArtifactError: tensors are missing or have other shapes.
        OSError, ValueError: no such files, or no CLIP.
    """
    model, read = CLIPModel.from_pretrained(
        folder,
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # they are reported below
        output_loading_info=True,
    )
    check_tensors(folder, sorted(read["missing_keys"]), sorted(read["mismatched_keys"]))
    return model.eval()


def build_clip(
    tokenizer: CLIPTokenizer,
    *,
    image_size: int = 64,
    patch_size: int = 8,
    vision_width: int = 192,
    vision_layers: int = 4,
    text_width: int = 128,
    text_layers: int = 2,
    embedding_dim: int = 128,
    head_width: int = 32,
) -> CLIPModel:
    """A small untrained CLIP for the words of `tokenizer`.

    Args:
        tokenizer: gives the vocabulary and the longest text.
        image_size: side of the square input in pixels, a multiple of `patch_size`.
        head_width: channels of one attention head; it divides both widths.

    Raises:
        ValueError: sizes that do not divide each other.
    """
    if image_size % patch_size or vision_width % head_width or text_width % head_width:
        raise ValueError(
            f"Got image_size {image_size} with patch_size {patch_size}, and widths {vision_width} "
            f"and {text_width} with head_width {head_width}; expected sizes that divide evenly."
        )
    # The published models use quick_gelu, which is slower; nothing here needs it.
    tower = {"hidden_act": "gelu"}
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": tokenizer.model_max_length,
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_width // head_width,
            "projection_dim": embedding_dim,
            # The embedding of a text is taken at its first end token; the default id lies outside
            # a small vocabulary.
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        vision_config={
            **tower,
            "image_size": image_size,
            "patch_size": patch_size,
            "hidden_size": vision_width,
            "intermediate_size": 4 * vision_width,
            "num_hidden_layers": vision_layers,
            "num_attention_heads": vision_width // head_width,
            "projection_dim": embedding_dim,
        },
        projection_dim=embedding_dim,
    )
    return CLIPModel(config)


def check_config(config: object) -> None:
    """Check the untrusted config.json of a CLIP before transformers builds the model.

    Raises:
        ValueError: a size exceeds its bound, or the config names an implementation of attention
            that transformers would download from the Hub and run.
    """
    waiting = [config]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, dict):
            continue
        check_sizes(part, _BOUNDS)
        for key in ("attn_implementation", "_attn_implementation"):
            if part.get(key) not in (None, "eager", "sdpa"):
                raise ValueError(
                    f"{key} is {part[key]!r}; expected 'eager' or 'sdpa', which need no code from "
                    "the Hub. Remove it from the config."
                )
        waiting += part.values()


def build_image_processor(image_size: int) -> CLIPImageProcessorPil:
    """The image processor for a model of `build_clip`; its normalized pictures are in [-1, 1]."""
    return CLIPImageProcessorPil(
        size={"shortest_edge": image_size},
        crop_size={"height": image_size, "width": image_size},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def train_tokenizer(
    texts: Iterable[str], *, vocab_size: int = 1200, context_length: int = 64
) -> CLIPTokenizer:
    """A byte-level BPE tokenizer for the words in `texts`, in the format of CLIP's tokenizer.

    All 256 bytes are in the vocabulary, inside a word and at its end, so that any text in any
    script can be read; words that are frequent in `texts` become one token.

    Args:
        vocab_size: upper limit of the number of tokens, at least 514 for the bytes alone.
        context_length: number of tokens that a text may have, including start and end.

    Raises:
        ValueError: `vocab_size` is too small for the bytes.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    base = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
    if vocab_size < len(base) + 2:
        raise ValueError(
            f"Got vocab_size {vocab_size}; the bytes and two special tokens need at least "
            f"{len(base) + 2}."
        )
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END, unk_token=END_TOKEN))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(TokenRegex(_WORD_PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        initial_alphabet=base,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    merges = _merges(learner)
    room = vocab_size - len(base) - 2
    merges = merges[:room]
    tokens = [*base, *dict.fromkeys(left + right for left, right in merges), START_TOKEN, END_TOKEN]
    return CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)},
        merges=merges,
        model_max_length=context_length,
    )


def preprocess(
    images: Float[Tensor, "n 3 h w"],
    size: int,
    mean: Sequence[float],
    std: Sequence[float],
    mode: Literal["proper", "styleclip"] = "proper",
) -> Float[Tensor, "n 3 {size} {size}"]:
    """Library images in [-1, 1] as CLIP's image input; differentiable.

    Args:
        images: square pictures in [-1, 1].
        size: side of CLIP's input in pixels.
        mean: of red, green and blue in CLIP's training pictures, in [0, 1].
        std: standard deviations of the same.
        mode: "proper" resizes (bicubic, anti-aliased) and normalizes with mean and std, as in
            CLIP's training. "styleclip" repeats the official StyleCLIP code, to reproduce its
            numbers: it enlarges by size / 32 to the nearest pixel, averages down by h / 32, and
            does not normalize, so CLIP gets the picture in [-1, 1].

    Raises:
        ValueError: an unknown mode; or in mode "styleclip" sizes that are not multiples of 32, for
            which its formula does not give `size`.
    """
    if mode == "proper":
        if images.shape[-2:] != (size, size):
            images = F.interpolate(
                images, (size, size), mode="bicubic", antialias=True, align_corners=False
            )
        center = images.new_tensor(mean)[:, None, None]
        spread = images.new_tensor(std)[:, None, None]
        return ((images + 1) / 2 - center) / spread
    if mode == "styleclip":
        height, width = images.shape[-2:]
        if height != width or height % _STYLECLIP_GRID or size % _STYLECLIP_GRID:
            raise ValueError(
                f"Got images of {height} x {width} px for a CLIP of {size} px; StyleCLIP's "
                f"preprocessing needs squares of a multiple of {_STYLECLIP_GRID} px on both "
                f"sides. Use mode='proper'."
            )
        # Enlarging to the nearest pixel and averaging is box filtering with exact overlaps. Two
        # small matrix products do this without an intermediate picture of 7168 x 7168 px.
        overlap = _box_overlaps(height, size).to(images)
        return overlap @ images @ overlap.T
    raise ValueError(f"Unknown preprocessing {mode!r}; use 'proper' or 'styleclip'.")


def encode_image(
    model: CLIPModel, pixels: Float[Tensor, "n 3 size size"]
) -> Float[Tensor, "n dim"]:
    """Embeddings of length 1 of preprocessed pictures (`preprocess`); differentiable."""
    return F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)


def encode_text(
    model: CLIPModel, tokenizer: CLIPTokenizer, texts: str | Sequence[str]
) -> Float[Tensor, "n dim"]:
    """Embeddings of length 1 of one or several texts.

    A text that is longer than the model's context is cut, with a warning that says how much is
    read.

    Raises:
        ValueError: no text, or one without a single visible character.
    """
    tokens = tokenize(tokenizer, texts).to(model.device)
    return F.normalize(model.get_text_features(input_ids=tokens).pooler_output, dim=-1)


def tokenize(tokenizer: CLIPTokenizer, texts: str | Sequence[str]) -> Tensor:
    """Token ids int64 `[n, length]`, padded with the end token to the longest of these texts.

    Raises:
        ValueError: no text, or one without a single visible character.
    """
    texts = [texts] if isinstance(texts, str) else list(texts)
    if not texts:
        raise ValueError("Got no text; give at least one, such as 'a smiling face'.")
    for index, text in enumerate(texts):
        if not text.strip():
            raise ValueError(
                f"Text {index} is empty ({text!r}); write some words, such as 'a smiling face'."
            )
        check_unicode(text)
    rows: list[list[int]] = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    limit = tokenizer.model_max_length - 2  # the start and the end token take a place each
    for text, row in zip(texts, rows, strict=True):
        if len(row) > limit:
            shown = text if len(text) <= 40 else text[:40] + "..."
            warnings.warn(
                f"The text {shown!r} has {len(row)} tokens and this CLIP reads {limit}: only the "
                f"first {limit} tokens count. Say it in fewer words.",
                stacklevel=3,
            )
    length = 2 + min(limit, max(len(row) for row in rows))
    tokens = torch.full((len(rows), length), tokenizer.eos_token_id)
    tokens[:, 0] = tokenizer.bos_token_id
    for index, row in enumerate(rows):
        kept = row[:limit]
        tokens[index, 1 : len(kept) + 1] = torch.tensor(kept, dtype=torch.int64)
    return tokens


def check_unicode(text: str) -> None:
    """Raise `ValueError` for a text with bytes that are not UTF-8, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"Got the text {text[:40]!r}; expected valid Unicode (UTF-8).") from error


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    """The learned merges, in order."""
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [(left, right) for left, right in merges]


def _box_overlaps(source: int, target: int) -> Tensor:
    """`[target, source]`: the share of every source pixel in every target pixel; rows sum to 1."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    start = torch.arange(source, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], start + 1) - torch.maximum(edges[:-1, None], start)
    return overlap.clamp_min(0) * target / source
