"""Who a network is: a fingerprint of its weights as they were loaded.

A cast to another precision rounds the weights, and the network is still the one that edits were
made for; writing to the weights makes another network of it. So the fingerprint that a network had
before a cast is remembered together with the exact weights after it.
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
    """Equal as long as no weight is written to, moved or cast; it costs no look at the values."""
    weights = network.state_dict().values()
    return tuple((weight.data_ptr(), weight.dtype, weight._version) for weight in weights)


class Identity:
    """The fingerprints of some networks, kept over casts.

    Args:
        computed: the fingerprint of a network's weights as they are.
    """

    def __init__(self, computed: Callable[[nn.Module], str]) -> None:
        self._computed = computed
        # The state of the weights that was looked at last, and the fingerprint.
        self._latest: WeakKeyDictionary[nn.Module, tuple[object, str]] = WeakKeyDictionary()

    def of(self, network: nn.Module) -> str:
        """The fingerprint of the weights, or of those that they are a cast of.

        It is computed once as long as no weight is written to, since a slider asks at every move.
        A write through `weight.data` alone goes unnoticed, as it does in all of PyTorch.
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
        """Around a cast of the network."""
        before = self.of(network)
        yield
        self.remember(network, before)

    def remember(self, network: nn.Module, fingerprint: str) -> None:
        """That the weights are a cast of those with this fingerprint."""
        known = network.__dict__.setdefault(_BEFORE_CAST, {})
        known[tensors_digest(network.state_dict())] = fingerprint
