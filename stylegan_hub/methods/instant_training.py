"""Make the instant model of a domain: render samples once and store their CLIP embeddings.

No ground truth is used, so it works for any generator and CLIP. Each sample is truncated by a
random amount, since edited faces are mostly truncated as well. If the domain has a recognizer, some
samples also give the linear map from w to its embedding, by which edits keep the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor

from stylegan_hub.domain import Domain, Label
from stylegan_hub.latents import Latents, Space
from stylegan_hub.methods.fit import uncalibrated
from stylegan_hub.models.instant import InstantModel

BLOCK = 256
"""Number of samples that are made together; each block has its own seed."""
LEAST_PSI = 0.7
_AT_ONCE = 16
_IDENTITY_SAMPLES = 1024  # from which the recognizer's embedding is learned
_RIDGE = 0.1

Block = tuple[Float[Tensor, "block w_dim"], Float[Tensor, "block d"]]
"""w, and CLIP embeddings."""


@torch.no_grad()
def sample_block(domain: Domain, index: int, seed: int = 0, label: Label | None = None) -> Block:
    """Block `index` of the samples of a seed: the same on every machine.

    Args:
        label: for a generator with labels, the class; see `Domain.label_vector`.
    """
    random = torch.Generator().manual_seed((seed << 32) + index)
    z = torch.randn(BLOCK, domain.generator.config.z_dim, generator=random)
    psi = LEAST_PSI + (1 - LEAST_PSI) * torch.rand(BLOCK, 1, generator=random)
    w = domain.lower(Latents(Space.Z, z), Space.W, label).codes.float().cpu()
    mean = domain.generator.mapping.w_avg.float().cpu()
    w = mean + psi * (w - mean)
    seen = [
        domain.encode_image(domain.sketch(Latents(Space.W, part))).float().cpu()
        for part in w.split(_AT_ONCE)
    ]
    return w, torch.cat(seen)


def instant_model(domain: Domain, blocks: Iterable[Block]) -> InstantModel:
    """The instant model of these samples, in half precision."""
    parts = list(blocks)
    w = torch.cat([w for w, _ in parts])
    seen = torch.cat([seen for _, seen in parts])
    identity = identity_map(domain, w[:_IDENTITY_SAMPLES])
    model = InstantModel(
        samples=len(w),
        w_dim=w.shape[1],
        embedding_dim=seen.shape[1],
        base_model=asdict(domain.base_model),
        clip=asdict(domain.clip_model),
        fit=asdict(uncalibrated(domain, seen)),
        identity_dim=0 if identity is None else len(identity),
    )
    tensors = {"w": w, "seen": seen}
    if identity is not None:
        tensors["identity"] = identity
    model.load_state_dict(tensors)
    # It is saved in half precision, so the new model is rounded in the same way.
    return model.half().float().eval()


@torch.no_grad()
def identity_map(
    domain: Domain, w: Float[Tensor, "n w_dim"]
) -> Float[Tensor, "identity_dim w_dim"] | None:
    """The linear map from w to the recognizer's embedding; None if there is no recognizer."""
    if domain.recognizer is None:
        return None
    seen = torch.cat(
        [
            domain.recognizer(domain.sketch(Latents(Space.W, part))).float().cpu()
            for part in w.split(_AT_ONCE)
        ]
    )
    deviation = w.std(0).clamp_min(1e-6)
    scaled, seen = (w - w.mean(0)) / deviation, seen - seen.mean(0)
    moment = scaled.T @ scaled / len(w) + _RIDGE * torch.eye(w.shape[1])
    return torch.linalg.solve(moment, scaled.T @ seen / len(w)).T / deviation


def make_instant_model(
    domain: Domain,
    samples: int = 8192,
    seed: int = 0,
    label: Label | None = None,
    on_block: Callable[[int, int], None] | None = None,
) -> InstantModel:
    """An instant model from new samples, at least as many as asked for.

    Args:
        samples: rounded up to whole blocks.
        on_block: called with the number of blocks done and the total number.
    """
    count = -(-samples // BLOCK)

    def blocks() -> Iterable[Block]:
        for index in range(count):
            yield sample_block(domain, index, seed, label)
            if on_block is not None:
                on_block(index + 1, count)

    return instant_model(domain, blocks())
