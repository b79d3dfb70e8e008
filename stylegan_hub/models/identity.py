"""The identity of a network: a fingerprint of its weights as they were loaded.

A cast to another precision rounds the weights, but edits made for the network still fit it. Writing
to the weights makes another network. So the fingerprint that a network had before a cast is stored
together with the exact weights after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

from stylegan_hub.artifacts import tensors_digest

# By the exact weights after a cast, the fingerprint before it. It is kept at the network, so that a
# copy of the network is the same one to edits.
_BEFORE_CAST = "_fingerprints_before_cast"


def weights_state(network: nn.Module) -> object:
    """A value that stays equal until a weight is written to, moved or cast; it reads no weights."""
    weights = network.state_dict().values()
    return tuple((weight.data_ptr(), weight.dtype, weight._version) for weight in weights)


class Identity:
    """The fingerprints of networks, which casts do not change.

    Args:
        computed: computes the fingerprint of a network from its present weights.
    """

    def __init__(self, computed: Callable[[nn.Module], str]) -> None:
        self._computed = computed
        # The state of the weights at the last call, and the fingerprint found then.
        self._latest: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()

    def of(self, network: nn.Module) -> str:
        """The fingerprint of the weights, or of the weights that they are a cast of.

        It is computed again only after a weight was written to, since every move of a slider needs
        it. A write through `weight.data` goes unnoticed, as everywhere in PyTorch.
        """
        state = weights_state(network)
        latest = self._latest.get(network)
        if latest is not None and latest[0] == state:
            return latest[1]
        known = network.__dict__.get(_BEFORE_CAST)
        before = known.get(tensors_digest(network.state_dict())) if known else None
        found = before or self._computed(network)
        self._latest[network] = (state, found)
        return found

    @contextmanager
    def kept(self, network: nn.Module) -> Iterator[None]:
        """Context in which the network is cast and keeps its fingerprint."""
        before = self.of(network)
        yield
        self.remember(network, before)

    def remember(self, network: nn.Module, fingerprint: str) -> None:
        """Record that the weights are a cast of weights with this fingerprint."""
        known = network.__dict__.setdefault(_BEFORE_CAST, {})
        known[tensors_digest(network.state_dict())] = fingerprint
