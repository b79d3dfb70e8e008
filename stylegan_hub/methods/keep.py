"""Keep attributes that should not change: remove from an edit what would change them.

CLIP's similarity to a kept attribute changes fastest along its gradient with respect to the latent,
in the units in which latents vary. An edit without its components along these gradients leaves the
similarity unchanged, to first order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from stylegan_hub.domain import Domain
from stylegan_hub.edits.base import Edit
from stylegan_hub.edits.direction import Direction
from stylegan_hub.errors import MethodError
from stylegan_hub.latents import Latents, Space

_SEEDS = range(8192, 8200)  # faces whose gradients are averaged if an edit is for every face


def fixed(edit: Edit, domain: Domain, face: Latents) -> Direction:
    """An edit as the fixed displacement that it gives one face, so that it adds to other edits."""
    if isinstance(edit, Direction):
        return edit
    start = domain.lower(face, max(face.space, edit.space))
    with torch.no_grad():
        vector = edit.delta(start.codes)[0]
    return Direction(vector, edit.space, edit.base_model, edit.strength, edit.origin)


def keeping(edit: Edit, domain: Domain, face: Latents | None, keep: Sequence[str]) -> Direction:
    """An edit that does not change what these words name.

    Args:
        face: the face that the edit is for; None for every face.
        keep: words such as "glasses", "hair".

    Raises:
        MethodError: an edit for every face whose displacement differs from face to face.
    """
    if face is not None:
        edit = fixed(edit, domain, face)
    if not isinstance(edit, Direction):
        raise MethodError(
            f"Got words to keep with an edit of kind {edit.kind!r}, whose displacement differs "
            "from face to face.",
            got=tuple(keep),
            expected=(),
            remedy="Give a face, or leave out what should be kept.",
        )
    start = domain.sample(_SEEDS) if face is None else face
    units, free = domain.units(edit.space), domain.editable(edit.space)
    away = [units.to_codes(_gradient(domain, start, words, edit.space)) * free for words in keep]
    whitened = torch.stack([units.from_codes(vector).flatten() for vector in away])
    # Words that mean nothing to this CLIP have no gradient, so there is nothing to remove.
    axes, sizes, _ = torch.linalg.svd(whitened.T.cpu().double(), full_matrices=False)
    basis = axes[:, sizes > 1e-6].to(whitened)
    offset = units.from_codes(edit.vector.to(basis.device)).flatten()
    removed = (basis @ (basis.T @ offset)).view_as(edit.vector)
    vector = edit.vector - units.to_codes(removed).to(edit.vector) * free.to(edit.vector)
    kept = replace(edit.origin, training={**edit.origin.training, "keep": list(keep)})
    return Direction(vector, edit.space, edit.base_model, edit.strength, kept)


def _gradient(domain: Domain, faces: Latents, words: str, space: Space) -> Tensor:
    """The gradient of CLIP's similarity to "with these words", of length 1, in units of latents."""
    base = domain.neutral
    change = domain.encode_text(f"{base} with {words}") - domain.encode_text(base)
    change = F.normalize(change, dim=-1, eps=1e-6)
    start = domain.lower(faces, space).codes.detach()
    offset = torch.zeros_like(start[:1], requires_grad=True)
    with torch.enable_grad():
        codes = start + domain.units(space).to_codes(offset)
        seen = domain.encode_image(domain.sketch(Latents(space, codes)))
        (gradient,) = torch.autograd.grad((seen @ change.T).mean(), offset)
    return F.normalize(gradient.flatten(1), dim=1).view_as(gradient)[0]
