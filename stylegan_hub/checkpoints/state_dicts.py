"""Find a network's tensors in a file: at the top level or in nested dicts, with any prefix."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from stylegan_hub.checkpoints.pickles import Array, Record
from stylegan_hub.checkpoints.sources import Part
from stylegan_hub.errors import ArtifactError

# Where files keep a network's weights, the preferred place first: averaged weights before those
# of the training.
_PLACES = (
    "g_ema", "G_ema", "params_ema", "generator_ema", "netG_ema", "ema", "state_dict_ema",
    "g", "G", "params", "generator", "netG", "state_dict", "model_state_dict", "model", "weights",
)  # fmt: skip
_WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")  # DataParallel's, torch.compile's
_MAX_DEPTH = 4


@dataclass(frozen=True)
class StateDict:
    """A network's tensors in a file.

    Attributes:
        tensors: by their names without prefix and wrappers.
        whole: the full name in the file for each of these names.
    """

    tensors: dict[str, Array]
    whole: dict[str, str]

    def part(self, **options: Any) -> Part:
        """The whole state dict as the `Part` of the file that holds a network."""
        prefix = next((w.removesuffix(name) for name, w in self.whole.items()), "")
        return Part(self.tensors, prefix=prefix, full=self.whole, **options)


def find(
    content: Any, marker: str | re.Pattern[str], prefixes: Collection[str] = ("",)
) -> StateDict | None:
    """The state dict with a tensor called `marker` after one of the prefixes; None without one.

    With a prefix, only names that begin with it belong to the network.

    Raises:
        ArtifactError: there are several, and their places do not tell which to use.
    """
    found = dict(_search(content, marker, prefixes, ()))
    places = sorted(found, key=_ranks)
    if len(places) > 1 and _ranks(places[0]) == _ranks(places[1]):
        names = tuple(".".join(place) or "the file itself" for place in places)
        raise ArtifactError(
            f"holds {len(names)} networks of the same kind: {', '.join(names)}.",
            got=names,
            expected="one, or one in 'g_ema'",
            remedy="Save the one that you want on its own, as {'g_ema': ...}.",
        )
    return found[places[0]] if places else None


def options(content: Any) -> dict[str, Any]:
    """The file's `opts` or `args`, an argparse.Namespace or a dict; empty if it has neither."""
    found = content.get("opts", content.get("args")) if isinstance(content, dict) else None
    found = found.state if isinstance(found, Record) else found
    return found if isinstance(found, dict) else {}


def is_array(value: Any) -> bool:
    """Whether a value that was read from a file is a tensor or an array of numbers."""
    return isinstance(value, np.ndarray | Tensor) and getattr(value, "items", None) is None


def _search(
    content: Any,
    marker: str | re.Pattern[str],
    prefixes: Collection[str],
    place: tuple[str, ...],
) -> Iterator[tuple[tuple[str, ...], StateDict]]:
    if not isinstance(content, Mapping):
        return
    own = {
        _WRAPPERS.sub("", name): (".".join((*place, name)), array)
        for name, array in content.items()
        if isinstance(name, str) and is_array(array)
    }
    for prefix in prefixes:
        inside = {
            name.removeprefix(prefix): found
            for name, found in own.items()
            if name.startswith(prefix)
        }
        if marker in inside or (not isinstance(marker, str) and any(map(marker.fullmatch, inside))):
            tensors = {name: array for name, (_, array) in inside.items()}
            yield place, StateDict(tensors, {name: whole for name, (whole, _) in inside.items()})
            return
    for key, value in content.items() if len(place) < _MAX_DEPTH else ():
        if isinstance(key, str):
            yield from _search(value, marker, prefixes, (*place, key))


def _ranks(place: tuple[str, ...]) -> list[int]:
    return [_PLACES.index(key) if key in _PLACES else len(_PLACES) for key in place]
