"""The attribute reader, which says which hair, expression, eyes, ... a picture shows.

A small residual network with one softmax per attribute. It is trained only on drawn portraits,
shares nothing with CLIP, and judges edits: a method that raises CLIP's score without changing the
face does not convince the reader.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from jaxtyping import Float, Int
from torch import Tensor, nn

from stylegan_hub.artifacts import SavedWhole
from stylegan_hub.models.configured import configured_by
from stylegan_hub.models.residual_trunk import residual_trunk, shrink
from stylegan_hub.portraits.attributes import ATTRIBUTES, applicable


@dataclass(frozen=True)
class Reading:
    """What the reader sees in n pictures.

    Attributes:
        attributes: names and values, in the order of the probabilities.
        probabilities: per attribute float `[n, values]`, rows sum to 1.
        labels: per attribute int64 `[n]`, the most probable value.
    """

    attributes: Mapping[str, tuple[str, ...]]
    probabilities: dict[str, Float[Tensor, "n values"]]
    labels: dict[str, Int[Tensor, " n"]]

    def __len__(self) -> int:
        return len(next(iter(self.labels.values())))

    def of(self, chosen: Tensor) -> Reading:
        """The reading of some of the pictures, by a mask or indices."""
        return Reading(
            self.attributes,
            {name: values[chosen] for name, values in self.probabilities.items()},
            {name: values[chosen] for name, values in self.labels.items()},
        )

    def probability(self, attribute: str, value: str) -> Float[Tensor, " n"]:
        """Probability of one value, for instance ``("hat", "yes")``, per picture.

        Raises:
            ValueError: the reader does not know the attribute or the value.
        """
        if attribute not in self.attributes:
            raise ValueError(
                f"Unknown attribute {attribute!r}; this reader knows {', '.join(self.attributes)}."
            )
        values = self.attributes[attribute]
        if value not in values:
            raise ValueError(
                f"Unknown value {value!r} of {attribute!r}; choose one of {', '.join(values)}."
            )
        return self.probabilities[attribute][:, values.index(value)]

    def words(self, index: int) -> dict[str, str]:
        """The labels of picture `index` as words, for instance ``{"hat": "yes", ...}``."""
        return {
            name: values[int(self.labels[name][index])] for name, values in self.attributes.items()
        }


@dataclass(frozen=True)
class AttributeReaderConfig:
    """The configuration of a reader: its `config.json`.

    Raises:
        ValueError: a resolution that does not fit the stages.
    """

    resolution: int = 128
    """Width and height of the network's input, a multiple of 16."""
    channels: Sequence[int] = (48, 96, 144)
    """Channels of the three stages, multiples of 8."""
    blocks: Sequence[int] = (1, 2, 1)
    """Residual blocks of the three stages."""
    last_channels: int = 16
    """Channels of the last features."""
    hidden_size: int = 192
    """Size of the vector from which all attributes are predicted."""
    attributes: Mapping[str, Sequence[str]] | None = None
    """Names and values to read. None: those of the drawn portraits."""

    def __post_init__(self) -> None:
        factor = shrink(self.channels)
        if self.resolution % factor:
            raise ValueError(f"resolution is {self.resolution}; expected a multiple of {factor}.")


class AttributeReader(SavedWhole, ModelMixin, ConfigMixin):
    """Reads portraits of any resolution; a picture is first resized to `resolution`.

    `AttributeReaderConfig` lists the options.
    """

    @configured_by(AttributeReaderConfig)
    def __init__(self, config: AttributeReaderConfig) -> None:
        super().__init__()
        self.attributes = {
            name: tuple(values) for name, values in (config.attributes or ATTRIBUTES).items()
        }
        # What was learned is saved, so that a reader stays usable when the portraits change.
        self.register_to_config(attributes={n: list(v) for n, v in self.attributes.items()})
        self.trunk = residual_trunk(config.channels, config.blocks, config.last_channels)
        places = (config.resolution // shrink(config.channels)) ** 2
        # Portraits are aligned, so features keep their places instead of being averaged.
        self.summary = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.last_channels * places, config.hidden_size),
            nn.LayerNorm(config.hidden_size),
            nn.SiLU(),
        )
        # By name, because config.json sorts the attributes.
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(config.hidden_size, len(values))
                for name, values in self.attributes.items()
            }
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> dict[str, Float[Tensor, "n values"]]:
        """Logits per attribute; images in [-1, 1], any resolution.

        Raises:
            ValueError: images are not `[n, 3, h, w]`.
        """
        features = self._summarize(images)
        return {name: self.heads[name](features) for name in self.attributes}

    @torch.no_grad()
    def features(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n hidden_size"]:
        """The features before the heads, for distances between sets of pictures."""
        return self._summarize(images.to(self.device)).float()

    def _summarize(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"Got images of shape {tuple(images.shape)}; expected [n, 3, h, w] in [-1, 1]."
            )
        size = self.config["resolution"]
        if images.shape[2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bicubic", antialias=True)
        features: Tensor = self.summary(self.trunk(images.to(self.dtype)))
        return features

    @torch.no_grad()
    def read(self, images: Float[Tensor, "n 3 h w"], batch_size: int = 64) -> Reading:
        """Probabilities and labels of pictures in [-1, 1], any number, any resolution.

        Raises:
            ValueError: no images, or not of shape `[n, 3, h, w]`.
        """
        if len(images) == 0:
            raise ValueError("Got no images; expected at least one.")
        batches = [self(batch.to(self.device)) for batch in images.split(batch_size)]
        probabilities = {
            name: torch.cat([logits[name] for logits in batches]).float().softmax(-1)
            for name in self.attributes
        }
        labels = {name: values.argmax(-1) for name, values in probabilities.items()}
        return Reading(self.attributes, probabilities, labels)


def class_weights(labels: Mapping[str, Tensor]) -> dict[str, Float[Tensor, " values"]]:
    """Weights that make every value of an attribute count the same, however rare it is.

    Args:
        labels: int64 `[n]` per attribute of `ATTRIBUTES`, a large sample.
    """
    visible = applicable(labels)
    weights = {}
    for name, values in ATTRIBUTES.items():
        counts = labels[name][visible[name]].bincount(minlength=len(values)).clamp_min(1)
        weights[name] = counts.sum() / (len(values) * counts)
    return weights


def reading_loss(
    logits: Mapping[str, Float[Tensor, "n values"]],
    labels: Mapping[str, Int[Tensor, " n"]],
    weights: Mapping[str, Float[Tensor, " values"]],
) -> dict[str, Tensor]:
    """Weighted cross entropy per attribute, a scalar each; invisible labels are left out.

    The sum is divided by the number of pictures, so that splits of a batch can be averaged.
    """
    visible = applicable(labels)
    losses = {}
    for name, values in logits.items():
        per_image = F.cross_entropy(
            values, labels[name], weight=weights[name].to(values), reduction="none"
        )
        losses[name] = (per_image * visible[name]).mean()
    return losses
