"""One text in many phrasings, and the direction of a change in words.

A single sentence carries accidents of its wording. They cancel in an average over many sentences
with the same meaning (Radford et al. 2021, section 3.1.4; StyleCLIP uses such a bank for its global
directions, section 6). The templates here are our own. They cover drawn and photographed pictures,
and their quality, light, size, place and purpose.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylegan_hub.domain import Domain

TEMPLATES: tuple[str, ...] = (
    "{}",
    "{}.",
    "this is {}",
    "here is {}",
    "look, {}",
    "{} in a picture",
    "{} in a frame",
    "{} on a page",
    "{} on a plain background",
    "{} in front of a wall",
    "{} seen from the front",
    "{} seen up close",
    "{} in the middle of the picture",
    "{} in daylight",
    "{} in soft light",
    "a picture of {}",
    "an image of {}",
    "a photo of {}",
    "a photograph showing {}",
    "a snapshot of {}",
    "a portrait of {}",
    "the portrait of {}",
    "a drawing of {}",
    "a simple drawing of {}",
    "a careful drawing of {}",
    "a colored drawing of {}",
    "a sketch of {}",
    "a quick sketch of {}",
    "a painting of {}",
    "an oil painting of {}",
    "a watercolor of {}",
    "an illustration of {}",
    "a book illustration of {}",
    "a cartoon of {}",
    "a comic picture of {}",
    "a poster of {}",
    "a postcard with {}",
    "a sticker of {}",
    "a computer drawing of {}",
    "a rendering of {}",
    "a close-up of {}",
    "a small picture of {}",
    "a large picture of {}",
    "a clear picture of {}",
    "a sharp image of {}",
    "a bright picture of {}",
    "a dim picture of {}",
    "a colorful image of {}",
    "a pale image of {}",
    "a beautiful picture of {}",
    "a plain picture of {}",
    "a funny picture of {}",
    "a good likeness of {}",
    "a cropped picture of {}",
    "a grainy photo of {}",
    "an old photo of {}",
    "a new photo of {}",
    "a studio photo of {}",
    "a passport photo of {}",
    "the picture shows {}",
    "you can see {} in this picture",
    "somebody drew {}",
    "an example of {}",
    "one more picture of {}",
)
"""64 sentences with a gap, `{}`, for a text such as "a face with a beard"."""

_KNOWN_AT_MOST = 256
# Recent embeddings of each CLIP, since the same neutral texts are used again and again.
_KNOWN: WeakKeyDictionary[nn.Module, OrderedDict[tuple[str, tuple[str, ...]], Tensor]] = (
    WeakKeyDictionary()
)


def encode_prompt(
    domain: Domain, text: str, templates: Sequence[str] = TEMPLATES
) -> Float[Tensor, " d"]:
    """The mean embedding of a text in all templates, of length 1.

    Every sentence's embedding has length 1 before the mean is taken. Sentences that are longer than
    the CLIP can read are left out, since they would be cut. If none is left, the text itself is
    embedded.

    Raises:
        ValueError: an empty text, or a template without the gap.
    """
    if not text.strip():
        raise ValueError(
            f"Got an empty text ({text!r}); write some words, such as 'a smiling face'."
        )
    if wrong := [template for template in templates if template.count("{}") != 1]:
        raise ValueError(
            f"Got the template {wrong[0]!r}; expected one '{{}}' in it, as in 'a picture of {{}}'."
        )
    text = text.strip()
    known = _KNOWN.setdefault(domain.clip, OrderedDict())
    key = (text, tuple(templates))
    if key in known:
        known.move_to_end(key)
        return known[key]
    sentences = [template.replace("{}", text) for template in templates]
    limit = domain.tokenizer.model_max_length
    tokens = domain.tokenizer(sentences, verbose=False)["input_ids"] if sentences else []
    fitting = [
        sentence for sentence, row in zip(sentences, tokens, strict=True) if len(row) <= limit
    ]
    embeddings = domain.encode_text(fitting or text)
    known[key] = F.normalize(embeddings.float().mean(0), dim=0)
    if len(known) > _KNOWN_AT_MOST:
        known.popitem(last=False)
    return known[key]


def text_change(
    domain: Domain,
    target: str,
    neutral: str,
    templates: Sequence[str] = TEMPLATES,
) -> Float[Tensor, " d"]:
    """The direction of CLIP's embedding from `neutral` to `target`: a vector of length 1.

    Raises:
        ValueError: an empty text, or two texts that are the same to the CLIP.
    """
    change = encode_prompt(domain, target, templates) - encode_prompt(domain, neutral, templates)
    if float(change.norm()) < 1e-4:  # only rounding errors, for texts with the same tokens
        raise ValueError(
            f"Got the target {target!r} and the neutral text {neutral!r}, which are the same to "
            "this CLIP; say in the target what should change, and in neutral what is there now."
        )
    return F.normalize(change, dim=0)
