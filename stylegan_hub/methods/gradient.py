"""A direction for any text without a table: follow the gradient of CLIP's similarity on many faces.

The idea is that of StyleMC (Kocasari et al. 2022): one displacement of s, the same for every face,
is found on a few batches of random faces in seconds, so a new generator can be edited at once. Only
the convolutions' channels move.

The differences from StyleMC come from latent optimization (`optimization.py`). Besides the plain
similarity, the *change* of the pictures is compared with the change of the words. Steps have equal
lengths along the gradient, in standard deviations of s, so that no weights need tuning for another
generator and channels that do not matter stay where they are. StyleMC drops channels whose gradient
changes its sign too often; here the momentum over batches of different faces cancels them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Origin, Strength
from stylegan_hub.edits.direction import Direction
from stylegan_hub.latents import Latents, Space
from stylegan_hub.losses import clip_loss, directional_clip_loss
from stylegan_hub.methods.method import Method, Words, register
from stylegan_hub.methods.prompt_bank import TEMPLATES, encode_prompt, text_change
from stylegan_hub.methods.style_statistics import editable_channels, style_statistics
from stylegan_hub.methods.table import select_channels
from stylegan_hub.optimizers import MOMENTUM, EqualSteps
from stylegan_hub.steps import OnStep, Step

_STATISTICS = 2000  # samples
_KEPT = 64
# Directions found before, with all channels: another number of channels needs no new search.
_FOUND: WeakKeyDictionary[nn.Module, OrderedDict[tuple[str, str, Settings], Direction]] = (
    WeakKeyDictionary()
)


@dataclass(frozen=True)
class Settings:
    """How to search."""

    steps: int = 16
    batch_size: int = 4
    """Faces per step; every step has different ones."""
    step_length: float = 0.6
    """Peak length of a step, in standard deviations of s."""
    channels: int | None = None
    """How many channels move, those with the largest displacement; all when None."""
    clip_lambda: float = 0.5
    """Weight of the cosine distance between pictures and target."""
    directional_lambda: float = 1.0
    """Weight of the cosine distance between the change of the pictures and that of the words."""
    templates: bool = True
    """Average the texts over the sentences of the prompt bank."""
    truncation_psi: float = 0.7
    first_seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or not self.step_length > 0:
            raise ValueError(
                f"Got steps {self.steps}, batch_size {self.batch_size}, step_length "
                f"{self.step_length}; expected at least one step and one face, and a positive "
                "length."
            )
        if self.channels is not None and self.channels < 1:
            raise ValueError(f"Got channels {self.channels}; expected 1 or more, or None for all.")


@register
class Gradient(Method[Settings]):
    """The direction in s along which pictures change as `neutral` changes to the text."""

    name: ClassVar[str] = "gradient"
    summary: ClassVar[str] = (
        "Follows the gradient of CLIP's similarity on random faces for a few seconds; needs no "
        "table."
    )
    requests: ClassVar[tuple[type[Any], ...]] = (Words,)
    presets: ClassVar[Mapping[str, Any]] = {"default": Settings()}
    former_names: ClassVar[tuple[str, ...]] = ("gradient_direction",)

    def search(
        self,
        domain: Domain,
        request: Words,
        face: Latents | None,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Direction:
        """Find a direction in s for every face, intended for strength 1."""
        neutral = domain.neutral if request.neutral is None else request.neutral
        known = _FOUND.setdefault(domain.generator, OrderedDict())
        key = (request.text, neutral, replace(settings, channels=None))
        if key not in known:
            known[key] = self._searched(domain, request.text, neutral, key[2], on_step)
            if len(known) > _KEPT:
                known.popitem(last=False)
        found = known[key]
        return found if settings.channels is None else narrowed(domain, found, settings.channels)

    def _searched(
        self,
        domain: Domain,
        target: str,
        neutral: str,
        settings: Settings,
        on_step: OnStep | None,
    ) -> Direction:
        templates = TEMPLATES if settings.templates else ("{}",)
        change = text_change(domain, target, neutral, templates)
        text = encode_prompt(domain, target, templates)
        index = torch.tensor(editable_channels(domain), device=domain.device)
        count = settings.steps * settings.batch_size
        _, deviations = style_statistics(domain, _STATISTICS, 0, settings.truncation_psi)
        unit = deviations.to(domain.device)[index]
        seeds = range(settings.first_seed, settings.first_seed + count)
        faces = domain.lower(domain.sample(seeds, settings.truncation_psi), Space.S).codes

        def move(s: Tensor, offset: Tensor) -> Tensor:
            return s.index_add(1, index, (offset * unit).expand(len(s), -1).to(s))

        offset = torch.zeros(1, len(index), device=domain.device, requires_grad=True)
        descent = EqualSteps([offset], lr=settings.step_length, momentum=MOMENTUM)
        for step, s in enumerate(faces.split(settings.batch_size)):
            with torch.no_grad():
                before = domain.encode_image(domain.sketch(Latents(Space.S, s)))
            with torch.enable_grad():  # also inside a caller's no_grad
                drawn = domain.sketch(Latents(Space.S, move(s, offset)))
                seen = domain.encode_image(drawn)
                loss = settings.clip_lambda * clip_loss(seen, text)
                loss = loss + settings.directional_lambda * directional_clip_loss(
                    seen, before, change
                )
                descent.zero_grad()
                loss.mean().backward()
            # Steps get shorter over the last half, so that the search settles.
            fade = min(1.0, 2 * (1 - step / settings.steps))
            descent.param_groups[0]["lr"] = settings.step_length * fade
            descent.step()
            if on_step is not None:
                note = f"similarity {float((seen.detach() @ text).mean()):.3f}"
                done = (step + 1, settings.steps, drawn[:1].detach())
                on_step(Step(*done, float(loss.detach().mean()), note))
        vector = move(torch.zeros_like(faces[:1]), offset.detach())[0]
        training = {
            "method": self.name,
            **asdict(settings),
            "channels": len(index),
            "templates": len(templates),
        }
        origin = Origin(target, neutral, training)
        return Direction(vector, Space.S, domain.base_model, Strength(), origin)

    def account(self, origin: Origin) -> str:
        """How an edit was found, for its card."""
        return (
            "A direction in style space, found in seconds from the gradient of CLIP's similarity "
            "on random faces (after StyleMC)."
        )


def narrowed(domain: Domain, direction: Direction, channels: int) -> Direction:
    """A direction of this method, limited to the given number of channels that move most.

    The result is the same as that of a search with this number.
    """
    index = editable_channels(domain)
    psi = float(direction.origin.training.get("truncation_psi", Settings.truncation_psi))
    deviations = style_statistics(domain, _STATISTICS, 0, psi)[1].to(direction.vector)
    size = direction.vector[index] / deviations[index]
    chosen = select_channels(size.nan_to_num(0, 0, 0), channels=channels)
    vector = direction.vector.clone()
    vector[index] = vector[index] * chosen
    origin = direction.origin
    origin = replace(origin, training={**origin.training, "channels": channels})
    return Direction(vector, Space.S, direction.base_model, direction.strength, origin)
